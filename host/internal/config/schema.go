package config

import (
	"slices"

	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Schema is a JSON Schema of the config file for editors, with the config of each connector in it. Load has the last
// word: it knows what belongs together, and what flows need.
func Schema(connectors []*connectorv1.DescribeResponse) []byte {
	doc := schema.Document(fileSchema)
	defs, _ := doc["$defs"].(map[string]any)
	connection, _ := defs["connection"].(map[string]any)
	names, cases := []any{}, []any{}
	for _, d := range connectors {
		name := "config." + d.GetName()
		at := "#/$defs/" + name
		config := schema.Embed(d.GetConfigSchema(), at, references)
		if list, ok := config["required"].([]any); ok {
			// It may come from the connection's own key of that name.
			config["required"] = slices.DeleteFunc(list, func(v any) bool { return v == credentialKey })
		}
		config["description"] = "Configuration of the connector " + d.GetName() + ". " + d.GetSummary()
		defs[name] = config
		names = append(names, d.GetName())
		is := map[string]any{"connector": map[string]any{"const": d.GetName()}}
		then := map[string]any{"properties": map[string]any{"config": map[string]any{"$ref": at}}}
		if list, ok := config["required"].([]any); ok && len(list) > 0 {
			then["required"] = []any{"config"}
		}
		cases = append(cases, map[string]any{"if": map[string]any{"properties": is, "required": []any{"connector"}}, "then": then})
	}
	if properties, ok := connection["properties"].(map[string]any); ok && len(names) > 0 {
		properties["connector"] = map[string]any{"description": "The connector that talks to the vendor", "enum": names}
		connection["allOf"] = cases
	}
	return schema.Write(doc)
}

// references puts the form of a reference in place of a secret.
func references(s map[string]any) map[string]any {
	if s["x-casewire-secret"] != true {
		return s
	}
	ref := map[string]any{"$ref": "#/$defs/secret"}
	if doc, ok := s["description"]; ok {
		ref["description"] = doc
	}
	return ref
}

const fileSchema = `{
	"$schema": "` + schema.Dialect + `",
	"title": "casewire.yaml",
	"description": "Configuration of a Casewire host",
	"type": "object",
	"additionalProperties": false,
	"properties": {
		"store": {
			"type": "object", "additionalProperties": false, "description": "Where the data is kept",
			"properties": {
				"path": {"type": "string", "description": "The data file, relative to this file", "default": "` + DefaultStore + `"},
				"key": {"$ref": "#/$defs/secret", "description": "Seals what connections keep, such as sign-ins: 32 random bytes in hexadecimal or base64; without it the host makes a key file beside the data file"}
			}
		},
		"http": {
			"type": "object", "additionalProperties": false, "description": "Where the host listens",
			"properties": {
				"listen": {"type": "string", "description": "host:port", "default": "` + DefaultListen + `"},
				"public_url": {"type": "string", "description": "Where vendors and other senders reach the host, such as https://casewire.example"},
				"operator_token": {"$ref": "#/$defs/secret", "description": "Who shows it may operate the host"}
			}
		},
		"credentials": {
			"type": "object", "description": "Credentials that connections share, by name",
			"propertyNames": {"$ref": "#/$defs/name"}, "additionalProperties": {"type": "object", "properties": {"limit": {"$ref": "#/$defs/limit"}}}
		},
		"connections": {
			"type": "object", "description": "Accounts at vendors, by the names that flows use",
			"propertyNames": {"$ref": "#/$defs/name"}, "additionalProperties": {"$ref": "#/$defs/connection"}
		},
		"flows": {
			"type": "array", "description": "Files of flows, as patterns relative to this file",
			"items": {"type": "string", "minLength": 1}, "examples": [["flows/*.yaml"]]
		},
		"plugins": {
			"type": "object", "additionalProperties": false, "description": "Connector processes",
			"properties": {
				"idle_stop": {"$ref": "#/$defs/duration", "description": "Stop a process that was not called for so long; 0 never does", "default": "10m"},
				"sandbox": {
					"description": "What processes are kept from; strict refuses to run without it",
					"anyOf": [{"$ref": "#/$defs/sandbox"}, {
						"type": "object", "additionalProperties": false,
						"properties": {"mode": {"$ref": "#/$defs/sandbox"}, "read": {"$ref": "#/$defs/paths"}, "write": {"$ref": "#/$defs/paths"}}
					}]
				},
				"limits": {
					"type": "object", "additionalProperties": false, "description": "Limits of each process",
					"properties": {
						"memory": {"type": ["string", "integer"], "description": "Such as 512MiB, or none"},
						"files": {"type": ["string", "integer"], "description": "Open files, or none"}
					}
				},
				"connectors": {
					"type": "object", "description": "Connectors that are not bundled, by name",
					"additionalProperties": {
						"type": "object", "additionalProperties": false, "oneOf": [{"required": ["file"]}, {"required": ["address"]}],
						"properties": {
							"file": {"type": "string", "description": "The program, relative to this file"},
							"sha256": {"description": "Its digest"},
							"args": {"type": "array"},
							"address": {"type": "string", "description": "Where it listens: unix:///path or tcp://host:port"},
							"ca": {"$ref": "#/$defs/secret", "description": "PEM of who issued its certificate"},
							"cert": {"$ref": "#/$defs/secret", "description": "PEM of the host's certificate"},
							"key": {"$ref": "#/$defs/secret", "description": "PEM of the key to it"},
							"replace": {"type": "boolean", "description": "It stands in for one of that name"}
						}
					}
				}
			}
		},
		"retention": {
			"type": "object", "additionalProperties": false,
			"description": "How long records are kept; what it does not say is kept for ever. What runs or waits for somebody stays",
			"properties": {
				"events": {"$ref": "#/$defs/duration", "description": "Since they came", "examples": ["90d"]},
				"runs": {"$ref": "#/$defs/duration", "description": "Since they ended", "examples": ["90d"]},
				"dead_letters": {"$ref": "#/$defs/duration", "description": "Since somebody dealt with them", "examples": ["365d"]},
				"max_size": {"type": "string", "description": "When there is more, the oldest events and runs go before their time", "examples": ["10GiB"]}
			}
		},
		"log": {
			"type": "object", "additionalProperties": false, "description": "Logging",
			"properties": {
				"level": {"enum": ["debug", "info", "warn", "error"], "default": "info"},
				"format": {"enum": ["text", "json"], "default": "text"}
			}
		}
	},
	"$defs": {
		"name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
		"sandbox": {"enum": ["auto", "strict", "off", false]},
		"paths": {"type": "array", "items": {"type": "string", "pattern": "^/"}},
		"duration": {"type": ["string", "integer"], "description": "A duration such as 30s, 5m or 24h"},
		"secret": {"type": "string", "pattern": "^(env|file|exec):", "description": "A secret: env:NAME, file:PATH or exec:COMMAND"},
		"limit": {
			"type": "object", "additionalProperties": false, "minProperties": 1,
			"description": "How hard the vendor is driven, for each API that a credential is used at",
			"properties": {
				"concurrency": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "Calls in flight"},
				"per_second": {"type": "number", "minimum": 0.001, "maximum": 10000, "description": "Calls begun in a second"}
			}
		},
		"connection": {
			"type": "object", "additionalProperties": false, "required": ["connector"],
			"properties": {
				"connector": {"type": "string", "description": "The connector that talks to the vendor"},
				"credential": {"type": "string", "description": "Name of an entry below credentials"},
				"tenant": {"type": "string", "description": "Whose connection it is"},
				"poll": {"$ref": "#/$defs/duration", "description": "How often its triggers are polled"},
				"limit": {"$ref": "#/$defs/limit"},
				"config": {"type": "object"}
			}
		}
	}
}`
