package flow

import (
	"strings"

	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Schema is a JSON Schema of flow files for editors, with the triggers of the connectors and the inputs of their actions
// in it. Load has the last word: it knows the types of expressions, and which connections there are.
func Schema(connectors []*connectorv1.DescribeResponse) []byte {
	doc := schema.Document(fileSchema)
	defs, _ := doc["$defs"].(map[string]any)
	triggers, uses, cases := map[string]any{}, []any{}, []any{}
	for _, d := range connectors {
		for _, t := range d.GetTriggers() {
			triggers[d.GetName()+"."+t.GetName()] = map[string]any{"$ref": "#/$defs/trigger", "description": t.GetSummary()}
		}
		for _, a := range d.GetActions() {
			name := d.GetName() + "." + a.GetName()
			at := "#/$defs/with." + name
			input := schema.Embed(a.GetInputSchema(), at, orExpression)
			input["description"] = a.GetSummary()
			defs["with."+name] = input
			uses = append(uses, map[string]any{"const": name, "description": a.GetSummary()})
			then := map[string]any{"properties": map[string]any{"with": map[string]any{"$ref": at}}}
			if needsInput(a) {
				then["required"] = []any{"with"}
			}
			cases = append(cases, map[string]any{
				"if":   map[string]any{"properties": map[string]any{"uses": map[string]any{"const": name}}, "required": []any{"uses"}},
				"then": then,
			})
		}
	}
	set := func(def, property string, value any) {
		m, _ := defs[def].(map[string]any)
		if properties, ok := m["properties"].(map[string]any); ok {
			properties[property] = value
		}
	}
	if len(uses) > 0 {
		set("step", "uses", map[string]any{"description": "An action, as connector.noun.verb", "anyOf": uses})
		step, _ := defs["step"].(map[string]any)
		step["allOf"] = cases
	}
	if properties, ok := doc["properties"].(map[string]any); ok && len(triggers) > 0 {
		properties["on"] = map[string]any{
			"description": "The triggers that start the flow", "type": "object", "minProperties": 1, "additionalProperties": false,
			"properties": triggers,
		}
	}
	return schema.Write(doc)
}

func needsInput(a *connectorv1.Action) bool {
	s, err := schema.Parse(a.GetInputSchema())
	return err == nil && len(s.Required) > 0
}

// orExpression lets an expression stand wherever a value of a schema may, and { for, each } for a list.
func orExpression(s map[string]any) map[string]any {
	if s["type"] == "string" && s["enum"] == nil && s["pattern"] == nil && s["format"] == nil && s["maxLength"] == nil {
		return s
	}
	if s["type"] == nil && s["anyOf"] == nil && s["oneOf"] == nil && s["enum"] == nil && s["$ref"] == nil && s["allOf"] == nil && s["const"] == nil {
		return s // anything
	}
	either := []any{s, map[string]any{"$ref": "#/$defs/expression"}}
	if s["type"] == "array" {
		either = append(either, map[string]any{"$ref": "#/$defs/each"})
	}
	out := map[string]any{"anyOf": either}
	for _, key := range []string{"description", "default", "examples"} {
		if v, ok := s[key]; ok {
			out[key] = v
			delete(s, key)
		}
	}
	if defs, ok := s["$defs"]; ok { // they are referred to from here
		out["$defs"] = defs
		delete(s, "$defs")
	}
	return out
}

// classNames are the classes of errors, as a JSON list.
func classNames() string {
	names := make([]string, len(retryClasses))
	for i, c := range retryClasses {
		names[i] = `"` + string(c) + `"`
	}
	return "[" + strings.Join(names, ",") + "]"
}

var fileSchema = `{
	"$schema": "` + schema.Dialect + `",
	"title": "Casewire flow",
	"type": "object",
	"additionalProperties": false,
	"required": ["name", "steps"],
	"properties": {
		"name": {"type": "string", "pattern": "` + nameRule.String() + `", "maxLength": 64, "description": "Name of the flow"},
		"description": {"type": "string", "description": "What the flow is for"},
		"tags": {"type": "array", "items": {"type": "string"}, "description": "Words to find it by, such as attack.t1078.004"},
		"enabled": {"type": "boolean", "default": true, "description": "False: the flow is checked, but starts nothing"},
		"on": {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/trigger"}, "description": "The triggers that start the flow"},
		"inputs": {
			"type": "object", "description": "Parameters of a flow that others call",
			"additionalProperties": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/type"}, {
				"type": "object", "additionalProperties": false,
				"properties": {
					"type": {"$ref": "#/$defs/type"}, "required": {"type": "boolean"}, "default": {}, "doc": {"type": "string"}
				}
			}]}
		},
		"steps": {"type": "array", "minItems": 1, "maxItems": 200, "items": {"$ref": "#/$defs/step"}, "description": "What to do, in order"},
		"output": {"description": "What the flow gives to who called it"}
	},
	"$defs": {
		"expression": {"type": "string", "pattern": "\\$\\{\\{", "description": "An expression: ${{ … }}"},
		"condition": {"description": "An expression that gives true or false", "anyOf": [{"$ref": "#/$defs/expression"}, {"type": "boolean"}]},
		"each": {
			"type": "object", "additionalProperties": false, "required": ["for", "each"], "description": "A list made of another",
			"properties": {"for": {"description": "The list"}, "each": {"description": "What becomes of each ${{ item }}"}, "if": {"$ref": "#/$defs/condition"}}
		},
		"duration": {"type": ["string", "integer"], "description": "A duration such as 30s, 5m or 1h"},
		"type": {"enum": ["any", "string", "integer", "number", "boolean", "array", "object"]},
		"trigger": {
			"type": ["object", "null"], "additionalProperties": false,
			"properties": {
				"connection": {"type": "string", "description": "Name of a connection; not needed when the connector has only one"},
				"where": {"$ref": "#/$defs/condition", "description": "Which events start the flow"},
				"group_by": {"enum": ["alert", "incident"], "description": "What event.case_key stands for"}
			}
		},
		"retry": {
			"type": "object", "additionalProperties": false, "description": "What is tried again, and how",
			"properties": {
				"on": {"type": "array", "items": {"enum": ` + classNames() + `}, "description": "Classes of errors"},
				"max": {"type": "integer", "minimum": 1, "maximum": 100, "description": "Attempts in all"},
				"base": {"$ref": "#/$defs/duration", "description": "First pause"},
				"limit": {"$ref": "#/$defs/duration", "description": "Longest pause"}
			}
		},
		"step": {
			"type": "object", "additionalProperties": false, "required": ["id"],
			"oneOf": [{"required": ["uses"]}, {"required": ["call"]}, {"required": ["let"]}, {"required": ["for"]}],
			"properties": {
				"id": {"type": "string", "pattern": "` + idRule.String() + `", "description": "Name of the step; its result is steps.<id>"},
				"if": {"$ref": "#/$defs/condition", "description": "Do it only if this is true"},
				"on_error": {"enum": ["fail", "continue", "dead_letter"], "default": "fail", "description": "What a failed step means for the run"},
				"uses": {"type": "string", "description": "An action, as connector.noun.verb"},
				"connection": {"type": "string", "description": "Name of a connection; not needed when the connector has only one"},
				"key": {"description": "What a keyed action does once for; the same whenever the same thing is meant", "type": "string"},
				"effect": {"enum": ["read", "idempotent", "keyed", "unsafe"], "description": "What happens when the action is called twice, where it leaves that to the flow"},
				"with": {"description": "The input"},
				"retry": {"$ref": "#/$defs/retry"},
				"timeout": {"$ref": "#/$defs/duration", "description": "Of one attempt"},
				"call": {"type": "string", "description": "Another flow, by its name"},
				"let": {"type": "object", "minProperties": 1, "description": "Names for values"},
				"for": {"description": "The list that the steps are done for, each with item and index"},
				"steps": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}},
				"concurrency": {"type": "integer", "minimum": 1, "maximum": 32, "default": 1, "description": "Rounds at once"}
			}
		}
	}
}`
