package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/casewire/casewire/host/internal/cli"
)

// The credentials that the README shows are right as they stand there.
func TestReadmeCredentials(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(credentials:\n.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("the README shows no credentials")
	}
	names := regexp.MustCompile(`(?m)^  ([a-z]+): `).FindAllSubmatch(m[1], -1)
	if len(names) < 8 {
		t.Fatalf("only %d credentials", len(names))
	}
	var b strings.Builder
	b.WriteString("store: { path: x.db }\n" + string(m[1]) + "connections:\n")
	for _, n := range names {
		b.WriteString("  c-" + string(n[1]) + ": { connector: sentinel, credential: " + string(n[1]) + " }\n")
	}
	path := filepath.Join(t.TempDir(), "casewire.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := cli.Main(cli.App{Connectors: connectors()}, []string{"validate", "-c", path}, strings.NewReader(""), &out, &errs)
	left := regexp.MustCompile(`(?m)^.*: warning: .*(the secret is not to be had: |there are no flows).*\n`).ReplaceAllString(errs.String(), "")
	if code != 0 || left != "" || !strings.Contains(out.String(), "no mistakes") {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
}
