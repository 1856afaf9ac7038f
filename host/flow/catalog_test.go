package flow_test

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
)

// catalog is a flow.Catalog of made-up connectors.
type catalog struct {
	connectors  map[string]*connectorv1.DescribeResponse
	connections map[string]string // connection: connector
}

func (c catalog) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	d, ok := c.connectors[name]
	return d, ok
}

func (c catalog) Connection(name string) (*connectorv1.DescribeResponse, bool) {
	return c.Connector(c.connections[name])
}

func (c catalog) Connections(connector string) []string {
	var names []string
	for name, of := range c.connections {
		if connector == "" || of == connector {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// newCatalog has one connection of most connectors, two of jira, and none of idle.
func newCatalog() catalog {
	const (
		read  = connectorv1.Effect_EFFECT_READ
		idem  = connectorv1.Effect_EFFECT_IDEMPOTENT
		keyed = connectorv1.Effect_EFFECT_KEYED
		once  = connectorv1.Effect_EFFECT_UNSAFE
	)
	action := func(name string, effect connectorv1.Effect, in, out string) *connectorv1.Action {
		return &connectorv1.Action{Name: name, Effect: effect, InputSchema: []byte(in), OutputSchema: []byte(out)}
	}
	query := action("query", read, `{
		"type": "object", "additionalProperties": false, "required": ["query"],
		"properties": {
			"query": {"type": "string", "minLength": 1, "description": "KQL text."},
			"params": {"type": "object", "additionalProperties": true},
			"timespan": {"type": "string", "pattern": "^P", "description": "ISO 8601, such as PT24H."},
			"max_rows": {"type": "integer", "minimum": 1, "maximum": 500000},
			"allow_partial": {"type": "boolean"},
			"map": {"type": "object", "additionalProperties": {"type": "string"}},
			"normalize": {"type": "string", "enum": ["none", "login"]}
		}}`, `{"type": "object", "required": ["rows", "row_count"], "properties": {
			"rows": {"type": "array", "items": {}, "x-casewire-shape": {"map": "map", "preset": "normalize", "presets": {"login": ["time", "user.name"]}}},
			"row_count": {"type": "integer"}, "partial": {"type": "boolean"}}}`)
	query.Rows = true
	caseEnsure := action("case.ensure", keyed, `{
		"type": "object", "additionalProperties": false, "required": ["title"],
		"properties": {
			"title": {"type": "string", "minLength": 1, "maxLength": 512, "description": "What people see first."},
			"severity": {"type": "integer", "enum": [1, 2, 3, 4]},
			"tlp": {"type": "string", "enum": ["clear", "green", "amber", "amber+strict", "red"]},
			"tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
			"assignee": {"type": "string"},
			"due": {"type": "string", "format": "date-time"},
			"link": {"type": "string", "format": "uri"},
			"observables": {"type": "array", "items": {"$ref": "#/$defs/observable"}},
			"custom": {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}},
			"parent": {"type": ["string", "null"]},
			"score": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
		},
		"$defs": {"observable": {
			"type": "object", "additionalProperties": false, "required": ["dataType", "data"],
			"properties": {"dataType": {"type": "string", "enum": ["ip", "domain", "hash", "url"]}, "data": {"type": "string"}, "ioc": {"type": "boolean"}}
		}}
	}`, `{"type": "object", "required": ["id", "url", "created", "number", "status"], "properties": {
		"id": {"type": "string"}, "url": {"type": "string"}, "created": {"type": "boolean"}, "number": {"type": "integer"},
		"assignee": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}},
		"status": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "stage": {"type": "string"}}}
	}}`)
	caseEnsure.ResolveWindow = durationpb.New(90 * time.Second)
	comment := action("alert.comment", keyed, `{
		"type": "object", "additionalProperties": false, "required": ["alert", "text"],
		"properties": {"alert": {"type": "string"}, "text": {"type": "string"}}}`, `{"type": "object", "properties": {"id": {"type": "string"}}}`)
	issue := action("issue.ensure", keyed, `{
		"type": "object", "additionalProperties": false, "required": ["project", "summary"],
		"properties": {"project": {"type": "string"}, "summary": {"type": "string"}, "points": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}
		}`, `{"type": "object", "required": ["key"], "properties": {"key": {"type": "string"}}}`)
	request := action("request", once, `{
		"type": "object", "additionalProperties": false,
		"properties": {"method": {"type": "string", "enum": ["GET", "POST"], "default": "GET"}, "path": {"type": "string"}}
		}`, `{"type": "object"}`)
	request.EffectByCaller = true
	request.EffectRules = []*connectorv1.EffectRule{{Property: "method", Values: []string{"GET", "HEAD"}, Effect: read}}
	old := action("issue.old", read, `{"type": "object"}`, `{"type": "object"}`)
	old.Sunset = timestamppb.New(time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC))
	return catalog{
		connectors: map[string]*connectorv1.DescribeResponse{
			"sentinel": {
				Name: "sentinel",
				Actions: []*connectorv1.Action{
					comment,
					action("alert.get", read, `{"type": "object", "required": ["alert"], "properties": {"alert": {"type": "string"}}}`, ``),
					action("playbook.run", once, `{"type": "object", "properties": {"name": {"type": "string"}}}`, `{}`),
				},
				Triggers: []*connectorv1.Trigger{
					{Name: "alerts", Emits: []string{event.TypeAlert}, Polls: true},
					{Name: "incidents", Emits: []string{event.TypeIncident}, Polls: true},
				},
			},
			"loganalytics": {
				Name: "loganalytics", Actions: []*connectorv1.Action{query},
				Triggers: []*connectorv1.Trigger{{Name: "query", Emits: []string{event.TypeRow}}},
			},
			"thehive": {
				Name: "thehive", Actions: []*connectorv1.Action{
					caseEnsure,
					action("case.update", idem, `{"type": "object", "additionalProperties": false, "required": ["id"], "properties": {"id": {"type": "string"}, "note": {"type": "string"}}}`, `{"type": "object"}`),
				},
			},
			"jira":   {Name: "jira", Actions: []*connectorv1.Action{issue, old}},
			"http":   {Name: "http", Actions: []*connectorv1.Action{request}},
			"idle":   {Name: "idle", Actions: []*connectorv1.Action{action("thing.get", read, ``, ``)}},
			"broken": {Name: "broken", Actions: []*connectorv1.Action{action("thing.get", read, `{"type": 7}`, `{`)}},
		},
		connections: map[string]string{
			"alerts": "sentinel", "logs": "loganalytics", "cases": "thehive", "jira-sec": "jira", "jira-ops": "jira", "bad": "broken", "web": "http",
		},
	}
}
