package config_test

import (
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
)

var update = flag.Bool("update", false, "write what the checker says into the files")

type descriptors map[string]*connectorv1.DescribeResponse

func (d descriptors) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	desc, ok := d[name]
	return desc, ok
}

func (d descriptors) Connectors() []string { return []string{"sentinel", "tickets", "free"} }

func known() descriptors {
	return descriptors{
		"sentinel": {
			Name: "sentinel",
			ConfigSchema: []byte(`{
				"type": "object", "additionalProperties": false, "required": ["credential"],
				"properties": {
					"credential": {
						"type": "object", "additionalProperties": false, "required": ["tenant_id"],
						"properties": {
							"tenant_id": {"type": "string"}, "client_id": {"type": "string"},
							"client_secret": {"type": "string", "x-casewire-secret": true},
							"certificate": {"type": "string", "x-casewire-secret": true},
							"token": {"type": "string", "x-casewire-secret": true}
						}
					},
					"push": {"type": "string", "enum": ["off", "manage"], "default": "off"},
					"base_url": {"type": "string", "format": "uri"},
					"page": {"type": "integer", "minimum": 1, "maximum": 1000}
				}}`),
			Triggers: []*connectorv1.Trigger{{Name: "alerts", Emits: []string{event.TypeAlert}, Polls: true}},
		},
		"tickets": {
			Name: "tickets",
			ConfigSchema: []byte(`{
				"type": "object", "additionalProperties": false, "required": ["base_url", "token"],
				"properties": {
					"base_url": {"type": "string", "format": "uri"}, "token": {"type": "string", "x-casewire-secret": true},
					"headers": {"type": "object", "additionalProperties": {"type": "string", "x-casewire-secret": true}},
					"keys": {"type": "array", "items": {"type": "string", "x-casewire-secret": true}},
					"labels": {"type": "array", "items": {"type": "string"}}
				}}`),
			Actions: []*connectorv1.Action{{
				Name: "issue.ensure", Effect: connectorv1.Effect_EFFECT_KEYED,
				InputSchema: []byte(`{"type": "object", "additionalProperties": false, "required": ["summary"], "properties": {"summary": {"type": "string"}}}`),
			}},
		},
		"free":  {Name: "free"},
		"wrong": {Name: "wrong", ConfigSchema: []byte(`{"type": 1}`)},
	}
}

// unpack writes an archive into a directory and returns its "want".
func unpack(t *testing.T, archive *txtar.Archive) (dir, want string, at int) {
	t.Helper()
	dir, at = t.TempDir(), -1
	for i, f := range archive.Files {
		if f.Name == "want" {
			want, at = string(f.Data), i
			continue
		}
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, want, at
}

// TestCheck compares what Load says with what each file in testdata/check wants, a finding a line.
func TestCheck(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir, want, at := unpack(t, archive)
			f, found := config.Load(filepath.Join(dir, "casewire.yaml"), known())
			got := ""
			for _, d := range found {
				got += strings.ReplaceAll(d.String(), dir, "DIR") + "\n"
			}
			if found.HasErrors() != (f == nil) {
				t.Errorf("file returned: %v, errors: %v", f != nil, found.HasErrors())
			}
			if strings.Contains(got, "hunter2") {
				t.Errorf("a secret that stands in the file is shown:\n%s", got)
			}
			if *update {
				if at < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					at = len(archive.Files) - 1
				}
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("findings differ (-want +got):\n%s", diff)
			}
		})
	}
}

const good = `
-- casewire.yaml --
store: { path: data/x.db }
http: { listen: 0.0.0.0:8088, public_url: https://casewire.example/base/, operator_token: env:CASEWIRE_CONFIG_TOKEN }
credentials:
  entra: { tenant_id: t-1, client_id: c-1, client_secret: env:CASEWIRE_CONFIG_SECRET, limit: { concurrency: 8, per_second: 2.5 } }
connections:
  tickets:
    connector: tickets
    limit: { per_second: 1 }
    config:
      base_url: https://tickets.example
      token: file:token
      headers: { X-Key: env:CASEWIRE_CONFIG_SECRET }
      keys: ["exec:cat three"]
      labels: [a]
  alerts:
    connector: sentinel
    credential: entra
    tenant: contoso
    poll: 60s
    config: { push: manage }
retention: { events: 90d, runs: P30D, dead_letters: 365d, max_size: 10GiB }
flows: [flows/*.yaml, flows/a.yaml]
plugins: { idle_stop: 5m, sandbox: { mode: strict, read: [/opt/x] }, limits: { memory: 256MiB, files: none } }
log: { level: debug, format: json }
-- token --
hunter2-from-file
-- three --
hunter2 three
-- flows/a.yaml --
name: a
on: { sentinel.alerts: {} }
steps: [{ id: t, uses: tickets.issue.ensure, with: { summary: x } }]
-- flows/a_test.yaml --
not: a flow
`

func load(t *testing.T, src string) (*config.File, string) {
	t.Helper()
	dir, _, _ := unpack(t, txtar.Parse([]byte(src)))
	f, found := config.Load(filepath.Join(dir, "casewire.yaml"), known())
	if len(found) > 0 {
		t.Fatal(found)
	}
	return f, dir
}

func TestLoad(t *testing.T) {
	t.Parallel()
	f, dir := load(t, good)
	if p := f.Plugins; p.Sandbox != "strict" || !slices.Equal(p.SandboxRead, []string{"/opt/x"}) || p.Memory != 256<<20 || p.Files != -1 {
		t.Errorf("plugins: %+v", p)
	}
	if f.Store.Path != filepath.Join(dir, "data/x.db") || f.Plugins.IdleStop != 5*time.Minute || f.Log != (config.Log{Level: slog.LevelDebug, Format: "json"}) {
		t.Errorf("got %+v %+v %+v", f.Store, f.Plugins, f.Log)
	}
	if want := (config.HTTP{Listen: "0.0.0.0:8088", PublicURL: "https://casewire.example/base", OperatorToken: "env:CASEWIRE_CONFIG_TOKEN"}); f.HTTP != want {
		t.Errorf("got %+v", f.HTTP)
	}
	if len(f.Flows) != 1 || f.Flows[0].Name != "a" || f.Flows[0].Steps[0].Connection != "tickets" || len(f.Sources) != 1 {
		t.Errorf("flows: %+v", f.Flows)
	}
	var names []string
	for _, c := range f.Connections {
		names = append(names, c.Name+" "+c.Connector+" "+c.Tenant+" "+c.Credential+" "+c.Poll.String())
	}
	if diff := cmp.Diff([]string{"alerts sentinel contoso entra 1m0s", "tickets tickets   0s"}, names); diff != "" {
		t.Error(diff)
	}
	day := 24 * time.Hour
	if want := (config.Retention{Events: 90 * day, Runs: 30 * day, DeadLetters: 365 * day, MaxSize: 10 << 30}); f.Retention != want {
		t.Errorf("retention: %+v", f.Retention)
	}
	if a, b := f.Connections[0].Limit, f.Connections[1].Limit; a != (config.Limit{Concurrency: 8, PerSecond: 2.5}) || b != (config.Limit{PerSecond: 1}) {
		t.Errorf("limits: %+v, %+v", a, b)
	}
	shown := map[string]any{
		"push":       "manage",
		"credential": map[string]any{"tenant_id": "t-1", "client_id": "c-1", "client_secret": "env:CASEWIRE_CONFIG_SECRET"},
	}
	if diff := cmp.Diff(shown, decode(t, f.Connections[0].Config)); diff != "" {
		t.Error(diff)
	}
}

func decode(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestResolveSecrets(t *testing.T) {
	t.Setenv("CASEWIRE_CONFIG_TOKEN", "hunter2-operator-token")
	t.Setenv("CASEWIRE_CONFIG_SECRET", "hunter2 \"quoted\"")
	f, _ := load(t, good)
	res, found := f.ResolveSecrets(t.Context(), diag.Error)
	if len(found) > 0 {
		t.Fatal(found)
	}
	if res.OperatorToken.Reveal() != "hunter2-operator-token" {
		t.Error("operator token")
	}
	want := map[string]any{
		"base_url": "https://tickets.example", "token": "hunter2-from-file", "labels": []any{"a"},
		"headers": map[string]any{"X-Key": "hunter2 \"quoted\""}, "keys": []any{"hunter2 three"},
	}
	if diff := cmp.Diff(want, decode(t, res.Configs["tickets"])); diff != "" {
		t.Error(diff)
	}
	alerts, _ := decode(t, res.Configs["alerts"]).(map[string]any)
	if cred, _ := alerts["credential"].(map[string]any); cred["client_secret"] != "hunter2 \"quoted\"" {
		t.Errorf("credential: %v", cred)
	}
	for _, cfg := range res.Configs {
		if got := res.Redactor.String(string(cfg)); strings.Contains(got, "hunter2") {
			t.Errorf("the redactor leaves %s", got)
		}
	}
	for _, c := range f.Connections {
		if strings.Contains(string(c.Config), "hunter2") {
			t.Errorf("the config that may be shown holds a secret: %s", c.Config)
		}
	}
}

func TestResolveSecretsMissing(t *testing.T) {
	t.Setenv("CASEWIRE_CONFIG_TOKEN", "short")
	f, dir := load(t, good)
	for _, severity := range []diag.Severity{diag.Warning, diag.Error} {
		res, found := f.ResolveSecrets(t.Context(), severity)
		if found.HasErrors() != (severity == diag.Error) {
			t.Errorf("severity %s: %v", severity, found)
		}
		var got []string
		for _, d := range found {
			got = append(got, strings.TrimPrefix(strings.ReplaceAll(d.String(), dir, "DIR"), "DIR/"))
		}
		warning := map[diag.Severity]string{diag.Warning: "warning: "}[severity]
		want := []string{
			"casewire.yaml:2:91: warning: http.operator_token: the operator token has only 5 characters; make one with `openssl rand -hex 32`",
			"casewire.yaml:4:59: " + warning + "credentials.entra.client_secret: the secret is not to be had: env:CASEWIRE_CONFIG_SECRET: the environment variable is not set",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if len(res.Configs) != 0 {
			t.Errorf("configs in spite of missing secrets: %d", len(res.Configs))
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte(strings.Repeat("# x\n", 1<<19)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "no such file",
		dir:                             "is a directory",
		big:                             "the limit is",
	} {
		f, found := config.Load(path, known())
		if f != nil || len(found) != 1 || !strings.Contains(found[0].String(), want) {
			t.Errorf("%s: %v, want %q", path, found, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, file := range txtar.Parse([]byte(good)).Files[:1] {
		f.Add(string(file.Data))
	}
	f.Add("connections: {a: {connector: sentinel, credential: *x}}")
	f.Fuzz(func(t *testing.T, src string) {
		if strings.Contains(src, "flows") {
			return // no walks over the file system
		}
		path := filepath.Join(t.TempDir(), "casewire.yaml")
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		file, found := config.Load(path, known())
		if (file == nil) != found.HasErrors() {
			t.Errorf("file: %v, findings: %v", file != nil, found)
		}
	})
}
