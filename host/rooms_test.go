package host_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/casewire/casewire/"

// A rule says what the packages below a room may not reach, by any trail of imports, and why.
type rule struct {
	room, never, reason string
	except              []string // importing packages that the rule does not bind
	direct              bool     // only what the room itself imports counts
}

var rules = []rule{
	{room: "plugin", never: "sdk", reason: "the wire knows no SDK"},
	{room: "plugin", never: "host", reason: "the wire knows no host"},
	{room: "plugin", never: "connectors", reason: "the wire knows no vendor"},
	{room: "sdk", never: "host", reason: "a connector never links the host"},
	{room: "sdk", never: "connectors", reason: "the SDK knows no vendor"},
	{room: "sdk", never: "sdk/sdktest", reason: "connector binaries do not link the test kit", except: []string{"sdk/sdktest"}},
	{room: "connectors", never: "host", reason: "a connector never links the host"},
	{room: "connectors", never: "sdk/sdktest", reason: "connector binaries do not link the test kit"},
	{room: "host", never: "sdk", reason: "host and SDK meet only in plugin", except: []string{"host/cmd"}},
	{room: "host", never: "connectors", reason: "the host names no vendor", except: []string{"host/cmd"}},
	{room: "host", never: "modernc.org/sqlite", reason: "embedders choose their store", except: []string{"host/store/sqlite", "host/cmd", "host/internal/cli", "host/hosttest"}},
	{room: "host", never: "github.com/santhosh-tekuri/jsonschema", reason: "its start costs each connector process 3 ms and 1.7 MB"},
	{room: "connectors", never: "github.com/santhosh-tekuri/jsonschema", reason: "its start costs each connector process 3 ms and 1.7 MB"},
	{room: "connectors", never: "github.com/getkin/kin-openapi", reason: "descriptions of APIs are for tests", except: []string{"connectors/internal/contract"}},
	{room: "connectors", never: "connectors/internal/contract", reason: "connector binaries do not link the tests' judge"},
	{room: "host", never: "github.com/spf13/cobra", reason: "embedders link no CLI library", except: []string{"host/cmd", "host/internal/cli"}},
	{room: "host/flow", never: "net/http", reason: "a flow is data"},
	{room: "host/internal/engine", never: "net/http", reason: "the engine reaches out only through its Caller"},
	{room: "host/internal/engine", never: "database/sql", reason: "the engine knows only the store interface"},
	{room: "host/internal/engine", never: "go.yaml.in/yaml", reason: "what a flow file means is host/flow's", except: []string{"host/flow"}},
	{room: "host/internal/engine", never: "host/internal/catalog", reason: "the engine knows no process"},
	{room: "connectors/azurefake", never: "sdk", reason: "a fake shares nothing with what it imitates for"},
	{room: "connectors/azurefake", never: "plugin", reason: "a fake shares nothing with what it imitates for"},
	{room: "connectors/jira/jirafake", never: "sdk", reason: "a fake shares nothing with its client"},
	{room: "connectors/jira/jirafake", never: "plugin", reason: "a fake shares nothing with its client"},
	{room: "connectors/thehive/hivefake", never: "sdk", reason: "a fake shares nothing with its client"},
	{room: "connectors/thehive/hivefake", never: "plugin", reason: "a fake shares nothing with its client"},
	{room: "connectors/jira", never: "connectors/thehive", reason: "connectors do not know each other"},
	{room: "connectors/thehive", never: "connectors/jira", reason: "connectors do not know each other"},
	{room: "connectors/sentinel", never: "connectors/loganalytics", reason: "connectors do not know each other"},
	{room: "connectors/internal/normalize", never: "sdk/rest", reason: "normalization is pure: it sends nothing"},
	{room: "connectors/threatintel", never: "connectors/sentinel", reason: "connectors do not know each other"},
	{room: "connectors/threatintel/feed", never: "net/http", reason: "a document is read, nothing is fetched"},
	{room: "connectors/threatintel/feed", never: "plugin/connectorv1", reason: "the command line reads documents, too"},
	{room: "examples", never: "host/internal", reason: "if an example needs it, the API is short", direct: true},
}

// TestRooms holds every package against the rules. It parses in process: a test that shells out to go list is served
// from the cache after the rule was broken.
func TestRooms(t *testing.T) {
	t.Parallel()
	imports := readImports(t, "..")
	for _, r := range rules {
		matched := false
		for pkg := range imports {
			if !within(pkg, r.room) {
				continue
			}
			matched = true
			if slices.ContainsFunc(r.except, func(e string) bool { return within(pkg, e) }) {
				continue
			}
			if trail := reach(imports, pkg, r); trail != nil {
				t.Errorf("%s (%s)", strings.Join(trail, " -> "), r.reason)
			}
		}
		if !matched {
			t.Errorf("rule for %s matches no package", r.room)
		}
	}
}

// reach looks for a trail of our imports from pkg to what the rule forbids. It does not walk through excepted packages.
func reach(imports map[string][]string, pkg string, r rule) []string {
	type node struct {
		pkg  string
		prev *node
	}
	seen := map[string]bool{pkg: true}
	queue := []*node{{pkg: pkg}}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for _, imp := range imports[n.pkg] {
			if within(imp, r.never) && !within(pkg, r.never) {
				trail := []string{imp}
				for ; n != nil; n = n.prev {
					trail = append(trail, n.pkg)
				}
				slices.Reverse(trail)
				return trail
			}
			if r.direct || seen[imp] || slices.ContainsFunc(r.except, func(e string) bool { return within(imp, e) }) {
				continue
			}
			seen[imp] = true
			queue = append(queue, &node{imp, n})
		}
	}
	return nil
}

func within(pkg, room string) bool { return pkg == room || strings.HasPrefix(pkg, room+"/") }

// readImports maps each package, by its path in the module, to what its non-test files import.
func readImports(t *testing.T, root string) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		pkg := filepath.ToSlash(filepath.Dir(rel))
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			imports[pkg] = append(imports[pkg], strings.TrimPrefix(p, module))
		}
		if imports[pkg] == nil {
			imports[pkg] = []string{}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return imports
}
