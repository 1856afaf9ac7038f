package config

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/casewire/casewire/plugin/connectorv1"
)

func configSchema(t *testing.T) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	all := []*connectorv1.DescribeResponse{
		{Name: "sentinel", ConfigSchema: []byte(`{
			"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["credential"], "additionalProperties": false,
			"properties": {
				"credential": {"$ref": "#/$defs/credential"}, "push": {"type": "string", "enum": ["off", "manage"]},
				"client_state": {"type": "string", "minLength": 1, "x-casewire-secret": true}
			},
			"$defs": {"credential": {"type": "object", "properties": {"client_secret": {"type": "string", "x-casewire-secret": true, "minLength": 40}}}}
		}`)},
		{Name: "jira", ConfigSchema: []byte(`{
			"type": "object", "required": ["base_url"], "additionalProperties": false,
			"properties": {
				"base_url": {"type": "string"}, "email": {"type": "string"}, "project": {"type": "string"}, "issue_type": {"type": "string"},
				"api_token": {"type": "string", "x-casewire-secret": true, "description": "The token."}
			}
		}`)},
		{Name: "odd", ConfigSchema: []byte(`{`)},
	}
	text := Schema(all)
	if !bytes.Equal(text, Schema(all)) {
		t.Error("the schema is another every time")
	}
	var plain map[string]any
	if err := json.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return s, plain
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// Every section that the reader knows is in the schema, and no other.
func TestSchemaHasTheSections(t *testing.T) {
	t.Parallel()
	_, plain := configSchema(t)
	if got, want := keysOf(plain, "properties"), slices.Sorted(slices.Values(sections)); !slices.Equal(got, want) {
		t.Errorf("the schema has %v, the reader %v", got, want)
	}
	got := keysOf(plain, "$defs", "connection", "properties")
	if want := slices.Sorted(slices.Values(connectionKeys)); !slices.Equal(got, want) {
		t.Errorf("a connection has %v in the schema, %v in the reader", got, want)
	}
}

// keysOf are the properties at a place in the schema.
func keysOf(v any, path ...string) []string {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	m, _ := v.(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

func TestSchemaHasOwnConnectors(t *testing.T) {
	t.Parallel()
	_, plain := configSchema(t)
	got := keysOf(plain, "properties", "plugins", "properties", "connectors", "additionalProperties", "properties")
	if want := slices.Sorted(slices.Values(ownKeys)); !slices.Equal(got, want) {
		t.Errorf("a connector has %v in the schema, %v in the reader", got, want)
	}
}

func TestSchemaTakesTheReadme(t *testing.T) {
	t.Parallel()
	s, _ := configSchema(t)
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, block := range strings.Split(string(readme), "```") {
		body, ok := strings.CutPrefix(block, "yaml\n")
		if i%2 == 0 || !ok || !strings.Contains(body, "\nconnections:") {
			continue
		}
		n++
		if err := validate(t, s, body); err != nil {
			t.Errorf("%v\n%s", err, body)
		}
	}
	if n == 0 {
		t.Error("the README has no configuration")
	}
}

func TestSchemaRefusesMistakes(t *testing.T) {
	t.Parallel()
	s, _ := configSchema(t)
	for text, ok := range map[string]bool{
		"connections: { a: { connector: sentinel, credential: x } }":                                                                                  true,
		"connections: { a: { connector: sentinel, config: { credential: { client_secret: env:X } } } }":                                               true,
		"connections: { a: { connector: odd, config: { x: 1 } } }":                                                                                    true,
		"connections: { a: { connector: sentinel, config: { push: of } } }":                                                                           false,
		"connections: { a: { connector: sentinl } }":                                                                                                  false,
		"connections: { a: { connector: sentinel, confg: {} } }":                                                                                      false,
		"connections: { a: { connector: jira } }":                                                                                                     false,
		"connections: { a: { connector: jira, config: {} } }":                                                                                         false,
		"connections: { a: { connector: jira, config: { base_url: x, push: off } } }":                                                                 false,
		"connections: { a: { connector: jira, config: { base_url: x, api_token: abc } } }":                                                            false,
		"connections: { a: { connector: sentinel, config: { credential: { client_secret: a-value-in-place } } } }":                                    false,
		"connections: { A B: { connector: odd } }":                                                                                                    false,
		"plugins: { sandbox: { mode: strict, read: [/opt] }, limits: { memory: 512MiB, files: 1024 }, connectors: { x: { file: ./x, sha256: ab } } }": true,
		"plugins: { connectors: { x: { file: ./x, address: unix:///x } } }":                                                                           false,
		"plugins: { sandbx: strict }":                                                                                                                 false,
		"http: { operator_token: abc }":                                                                                                               false,
		"log: { level: loud }":                                                                                                                        false,
		"conections: {}":                                                                                                                              false,
	} {
		if err := validate(t, s, text); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
