package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/internal/config"
)

// Peek finds where a host works, whatever else is wrong with the file.
func TestPeek(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		name, text string
		want       config.At
		fails      string
	}{
		{
			"everything", "store: { path: data/a.db }\nhttp: { listen: 127.0.0.1:9, operator_token: env:TOKEN }\n",
			config.At{Store: filepath.Join(dir, "data/a.db"), Listen: "127.0.0.1:9", OperatorToken: "env:TOKEN"},
			"",
		},
		{"absolute", "store: { path: /var/lib/a.db }\n", config.At{Store: "/var/lib/a.db", Listen: config.DefaultListen}, ""},
		{"defaults", "connections: {}\n", config.At{Store: filepath.Join(dir, config.DefaultStore), Listen: config.DefaultListen}, ""},
		{"empty", "", config.At{Store: filepath.Join(dir, config.DefaultStore), Listen: config.DefaultListen}, ""},
		{
			"mistakes elsewhere", "conections: 7\nflows: none\nhttp: { port: 9 }\nstore: { path: b.db, sise: 1 }\n",
			config.At{Store: filepath.Join(dir, "b.db"), Listen: config.DefaultListen},
			"",
		},
		{"no YAML", "store: { path: [", config.At{}, "no YAML.yaml: yaml: "},
		{"a list", "- store\n", config.At{}, "a list.yaml: yaml: "},
		{"no text", "store: { path: { a: b } }\n", config.At{}, "no text.yaml: yaml: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, tt.name+".yaml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := config.Peek(path)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("error %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := config.Peek(filepath.Join(dir, "missing.yaml")); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a missing file: %v", err)
	}
}
