package config

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/host/internal/yamldoc"
)

var sandboxModes = []string{"auto", "strict", "off"}

// sandbox reads `sandbox: strict`, or a map with further paths.
func (r *reader) sandbox(n *yamldoc.Node) {
	const at = "plugins.sandbox"
	p := &r.file.Plugins
	p.Sandbox = "auto"
	if n == nil || n.IsNull() {
		return
	}
	mode := n
	if n.Kind == yamldoc.Map {
		r.keys(n, at, []string{"mode", "read", "write"}, nil)
		p.SandboxRead, p.SandboxWrite = r.paths(n.Get("read"), at+".read"), r.paths(n.Get("write"), at+".write")
		if mode = n.Get("mode"); mode == nil {
			return
		}
	}
	text := mode.Text
	if off, ok := mode.Value.(bool); ok && !off {
		text = "off" // YAML 1.1 takes it for false
	}
	if mode.Kind != yamldoc.Scalar || !slices.Contains(sandboxModes, text) {
		r.out.Errorf(mode.Pos, at, yamldoc.DidYouMean(text, sandboxModes), "must be auto, strict or off, not %s", mode.Describe())
		return
	}
	p.Sandbox = text
}

func (r *reader) paths(n *yamldoc.Node, at string) []string {
	if n == nil || n.IsNull() {
		return nil
	}
	if n.Kind != yamldoc.List {
		r.out.Errorf(n.Pos, at, "write [/opt/tools]", "must be a list of paths, not %s", n.Describe())
		return nil
	}
	var out []string
	for i, item := range n.Items {
		at := yamldoc.Index(at, i)
		switch p := r.text(item, at); {
		case p == "":
		case !filepath.IsAbs(p):
			r.out.Errorf(item.Pos, at, "write /"+strings.TrimLeft(p, "./"), "must be an absolute path")
		default:
			out = append(out, filepath.Clean(p))
		}
	}
	return out
}

// A connector of less could not start; more than the largest machine has is a slip.
const (
	minMemory = 32 << 20
	maxMemory = 1 << 40
	minFiles  = 64
	maxFiles  = 1 << 20
)

func (r *reader) limits(n *yamldoc.Node) {
	const at = "plugins.limits"
	if n == nil || n.IsNull() {
		return
	}
	if n.Kind != yamldoc.Map {
		r.out.Errorf(n.Pos, at, "write { memory: 512MiB, files: 1024 }", "must be a map, not %s", n.Describe())
		return
	}
	r.keys(n, at, []string{"memory", "files"}, nil)
	p := &r.file.Plugins
	if v := n.Get("memory"); v != nil {
		switch b, err := size(v.Text); {
		case v.Text == "none":
			p.Memory = -1
		case err != nil:
			r.out.Errorf(v.Pos, at+".memory", "write 512MiB, or none", "%v", err)
		case b < minMemory || b > maxMemory:
			r.out.Errorf(v.Pos, at+".memory", "", "must be from 32MiB to 1TiB, not %s", v.Text)
		default:
			p.Memory = b
		}
	}
	if v := n.Get("files"); v != nil {
		switch files, err := strconv.Atoi(v.Text); {
		case v.Text == "none":
			p.Files = -1
		case err != nil || files < minFiles || files > maxFiles:
			r.out.Errorf(v.Pos, at+".files", "write 1024, or none", "must be a number from %d to %d, not %s", minFiles, maxFiles, v.Describe())
		default:
			p.Files = files
		}
	}
}

var units = []struct {
	name string
	n    float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}}

// size reads a number of bytes with its unit.
func size(text string) (int64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(strings.TrimSpace(text), u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(f > 0) || f*u.n > math.MaxInt64/2 {
			return 0, fmt.Errorf("%s is no size", yamldoc.Quote(text))
		}
		return int64(f * u.n), nil
	}
	return 0, fmt.Errorf("%s has no unit", yamldoc.Quote(text))
}
