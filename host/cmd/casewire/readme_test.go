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

// The configurations and the flow that the README shows are right as they stand there.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var config, flow, push string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		switch block := m[1]; {
		case config == "" && strings.Contains(block, "\nflows: "):
			config = block
		case flow == "" && strings.HasPrefix(block, "name: alert-to-jira\n"):
			flow = block
		case push == "" && strings.Contains(block, "push: manage"):
			push = block
		}
	}
	if config == "" || flow == "" || push == "" {
		t.Fatal("the README has no configuration, no flow or no push")
	}
	// The part about push, put in place of what it replaces.
	http, alerts, _ := strings.Cut(push, "\nconnections:\n")
	pushed := regexp.MustCompile(`(?m)^http: .*$`).ReplaceAllString(config, http)
	pushed = strings.Replace(pushed, "  alerts:\n    connector: sentinel\n    credential: entra\n", alerts, 1)
	for name, text := range map[string]string{"poll": config, "push": pushed} {
		if name == "push" && (!strings.Contains(text, "push: manage") || !strings.Contains(text, "public_url")) {
			t.Fatalf("the part about push does not fit:\n%s", text)
		}
		dir := t.TempDir()
		for file, text := range map[string]string{"casewire.yaml": text, "flows/alert-to-jira.yaml": flow} {
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out, errs bytes.Buffer
		code := cli.Main(cli.App{Connectors: connectors()}, []string{"validate", "-c", filepath.Join(dir, "casewire.yaml")}, strings.NewReader(""), &out, &errs)
		// The secrets are the reader's.
		left := regexp.MustCompile(`(?m)^.*: warning: .*the secret is not to be had: .*\n`).ReplaceAllString(errs.String(), "")
		if code != 0 || left != "" || !strings.Contains(out.String(), "2 connections, 1 flow, no mistakes") {
			t.Errorf("%s: exit code %d\n%s%s", name, code, out.String(), errs.String())
		}
	}
}
