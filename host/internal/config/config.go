// Package config reads casewire.yaml: which connections there are, which flows run, and how the binary serves. It reports
// every mistake at once with its place, in the file and in the flows that it names. It resolves secrets late, so that a
// file can be checked where its secrets are not.
package config

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/seal"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/host/secret"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// File is a checked config file. Paths are absolute or relative to the working directory, as the path of the file was.
type File struct {
	Path        string
	Store       Store
	HTTP        HTTP
	Plugins     Plugins
	Log         Log
	Retention   Retention
	Connections []Connection // by name
	// Flows are checked and ready; Sources are their files.
	Flows   []*flow.Flow
	Sources []flow.Source

	token    *slot // operator token
	storeKey *slot // seals connections' state
}

// Dir is the folder that relative paths in the file start from.
func (f *File) Dir() string { return filepath.Dir(f.Path) }

// Store says where the data file is.
type Store struct {
	Path string
	// Key is a reference to the key that seals connections' state; empty: the host has one of its own beside the data file.
	// Its value comes from ResolveSecrets.
	Key string
}

// HTTP says where the host listens.
type HTTP struct {
	Listen    string // host:port
	PublicURL string // without a slash at the end; empty: vendors cannot reach this host
	// OperatorToken is a reference, such as env:CASEWIRE_TOKEN; empty if there is none. Its value comes from ResolveSecrets.
	OperatorToken string
}

// Plugins configures connector processes.
type Plugins struct {
	IdleStop time.Duration // zero: never
	// Sandbox is auto, strict or off; SandboxRead and SandboxWrite are further paths that every connector may read or write.
	Sandbox                   string
	SandboxRead, SandboxWrite []string
	// Memory in bytes and Files bound one connector process; zero leaves the host's default, a negative one bounds nothing.
	Memory     int64
	Files      int
	Connectors []Connector // that the file brings along, by name
}

// Retention says how long records are kept; zero fields keep for ever.
type Retention struct {
	Events, Runs, DeadLetters time.Duration
	MaxSize                   int64 // bytes
}

// Log configures logging.
type Log struct {
	Level  slog.Level
	Format string // text or json
}

// Connection is one configured account at a vendor.
type Connection struct {
	Pos             diag.Pos
	Name, Connector string
	Tenant          string
	Credential      string        // name of the credential, if any
	Limit           Limit         // of the credential, or of the connection if it has none
	Poll            time.Duration // zero: what the trigger says
	// Config is JSON after the connector's config schema, with references where the secrets belong and the credential
	// merged in under "credential". It may be shown to people.
	Config json.RawMessage

	tree any // Config with slots in place of references
}

// Limit says how hard vendors are driven.
type Limit struct {
	Concurrency int     // calls in flight; zero: no limit
	PerSecond   float64 // calls begun; zero: no limit
}

// slot is the place of a secret.
type slot struct {
	ref  secret.Reference
	pos  diag.Pos
	path string
}

// Resolved holds the values of the secrets.
type Resolved struct {
	OperatorToken plugin.Secret
	StateKey      plugin.Secret
	// Configs are the connections' configs with their secrets in place, by connection. They must not be shown.
	Configs map[string]json.RawMessage
	// Redactor knows every secret of the file.
	Redactor *secret.Redactor
}

// Descriptors gives the descriptors of connectors. If it has a method Connectors() []string, its names serve as hints. See
// also Declarer and Explainer.
type Descriptors interface {
	Connector(name string) (*connectorv1.DescribeResponse, bool)
}

// Declarer is Descriptors that wants to know where the file's host works and which connectors it brings along. It is told
// once, before it is asked for any, and returns what is wrong with them.
type Declarer interface {
	Declare(f *File) diag.List
}

// Explainer is Descriptors that can say why there is no descriptor of a connector; or, of one that there is, what people
// should know about it.
type Explainer interface {
	Explain(name string) error
}

// Defaults.
const (
	DefaultListen   = "127.0.0.1:8088"
	DefaultStore    = "./casewire.db"
	DefaultIdleStop = 10 * time.Minute
)

// Load reads and checks a config file and the flows that it names. The file is nil if there is any error.
func Load(path string, d Descriptors) (*File, diag.List) {
	var out diag.List
	data, err := readFile(path)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "name one with -c; the README begins with an example"
		}
		out.Errorf(diag.Pos{File: path}, "", hint, "the config file cannot be read: %v", err)
		return nil, out
	}
	root, found := yamldoc.Parse(path, data)
	out = append(out, found...)
	if root == nil {
		return nil, out
	}
	if root.Kind != yamldoc.Map {
		out.Errorf(root.Pos, "", "begin with `connections:`", "the config file must be a map, not %s", root.Describe())
		return nil, out
	}
	r := reader{
		file: &File{Path: path, Log: Log{Format: "text"}}, root: root, dir: filepath.Dir(path), known: d, out: &out,
		descriptors: map[string]*connectorv1.DescribeResponse{}, unsound: map[string]bool{},
		limitOf: map[string]Limit{},
	}
	r.read()
	out = unique(out)
	slices.SortStableFunc(out, func(a, b diag.Diagnostic) int {
		return cmp.Or(rank(a, path)-rank(b, path), cmp.Compare(a.Pos.File, b.Pos.File), a.Pos.Line-b.Pos.Line, a.Pos.Col-b.Pos.Col)
	})
	if out.HasErrors() {
		return nil, out
	}
	return r.file, out
}

// rank puts the config file before the flows.
func rank(d diag.Diagnostic, path string) int {
	if d.Pos.File == path {
		return 0
	}
	return 1
}

// readFile reads no more than a document may have.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, errors.New("it is not a regular file")
	}
	if err == nil && info.Size() > yamldoc.MaxBytes {
		return make([]byte, yamldoc.MaxBytes+1), nil // the parser says what the limit is
	}
	b, err := os.ReadFile(path)
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, pe.Err
	}
	return b, err
}

// unique drops findings that are said twice: two connections may share a credential with a mistake.
func unique(list diag.List) diag.List {
	seen := map[diag.Diagnostic]bool{}
	return slices.DeleteFunc(list, func(d diag.Diagnostic) bool {
		was := seen[d]
		seen[d] = true
		return was
	})
}

// ResolveSecrets fetches every secret once. Findings about those that cannot be had are of the severity given: errors
// when the host starts, warnings when a file is checked elsewhere. Configs lack the connections with such findings.
func (f *File) ResolveSecrets(ctx context.Context, missing diag.Severity) (*Resolved, diag.List) {
	var out diag.List
	r := &resolving{
		Resolver: secret.Resolver{Dir: filepath.Dir(f.Path)}, severity: missing, out: &out,
		values: map[string]plugin.Secret{}, failed: map[string]bool{},
	}
	res := &Resolved{Configs: map[string]json.RawMessage{}, Redactor: &secret.Redactor{}}
	if f.token != nil {
		res.OperatorToken, _ = r.get(ctx, f.token)
		if n := len(res.OperatorToken.Reveal()); n > 0 && n < minToken {
			out.Warnf(f.token.pos, f.token.path, "make one with `openssl rand -hex 32`", "the operator token has only %d characters", n)
		}
	}
	if f.storeKey != nil {
		var ok bool
		if res.StateKey, ok = r.get(ctx, f.storeKey); ok {
			if _, err := seal.ParseKey(res.StateKey.Reveal()); err != nil {
				out.Errorf(f.storeKey.pos, f.storeKey.path, "", "%v", err)
			}
		}
	}
	for _, c := range f.Connections {
		filled, ok := r.fill(ctx, c.tree)
		if !ok {
			continue
		}
		b, err := json.Marshal(filled)
		if err != nil { // the tree is plain
			out.Errorf(c.Pos, "connections."+c.Name, "", "the config cannot be written as JSON: %v", err)
			continue
		}
		res.Configs[c.Name] = b
	}
	for _, v := range r.values {
		res.Redactor.Add(v)
	}
	return res, out
}

const minToken = 16

type resolving struct {
	secret.Resolver
	severity diag.Severity
	out      *diag.List
	values   map[string]plugin.Secret // by reference
	failed   map[string]bool
}

func (r *resolving) get(ctx context.Context, s *slot) (plugin.Secret, bool) {
	ref := s.ref.String()
	if v, ok := r.values[ref]; ok {
		return v, true
	}
	if r.failed[ref] {
		return plugin.Secret{}, false
	}
	v, err := r.Resolve(ctx, s.ref)
	if err != nil {
		r.failed[ref] = true
		*r.out = append(*r.out, diag.Diagnostic{Severity: r.severity, Pos: s.pos, Path: s.path, Summary: "the secret is not to be had: " + err.Error()})
		return plugin.Secret{}, false
	}
	r.values[ref] = v
	return v, true
}

// fill returns a copy of a tree with the values in place of the slots. It goes on after a failure, to find the others.
func (r *resolving) fill(ctx context.Context, tree any) (any, bool) {
	switch t := tree.(type) {
	case *slot:
		v, ok := r.get(ctx, t)
		return v.Reveal(), ok
	case map[string]any:
		out, good := make(map[string]any, len(t)), true
		for _, k := range sortedKeys(t) {
			v, ok := r.fill(ctx, t[k])
			out[k], good = v, good && ok
		}
		return out, good
	case []any:
		out, good := make([]any, len(t)), true
		for i := range t {
			v, ok := r.fill(ctx, t[i])
			out[i], good = v, good && ok
		}
		return out, good
	}
	return tree, true
}

// show is fill with the references themselves.
func show(tree any) any {
	switch t := tree.(type) {
	case *slot:
		return t.ref.String()
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, v := range t {
			out[k] = show(v)
		}
		return out
	case []any:
		out := make([]any, len(t))
		for i := range t {
			out[i] = show(t[i])
		}
		return out
	}
	return tree
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
