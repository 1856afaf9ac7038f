package refdoc_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/host/internal/refdoc"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func descriptor() *connectorv1.DescribeResponse {
	return &connectorv1.DescribeResponse{
		Name: "desk", Version: "1.2.3", Summary: "Tickets of a desk.", Homepage: "https://desk.example", Licence: "Apache-2.0", Egress: []string{"{config.base_url}"},
		ConfigSchema: []byte(`{
			"type": "object", "required": ["base_url"], "additionalProperties": false,
			"properties": {
				"token": {"type": "string", "x-casewire-secret": true, "description": "Signs in."},
				"base_url": {"type": "string", "format": "uri", "description": "Where | it is."},
				"auth": {"$ref": "#/$defs/auth"},
				"level": {"type": "string", "enum": ["low", "high"], "default": "low", "x-casewire-advanced": true},
				"patience": {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"}
			},
			"$defs": {"auth": {"type": "object", "description": "How.", "properties": {"user": {"type": "string"}}}}
		}`),
		Actions: []*connectorv1.Action{
			{
				Name: "ticket.ensure", Summary: "Make sure of a ticket.", Effect: connectorv1.Effect_EFFECT_KEYED,
				ResolveWindow: durationpb.New(5 * time.Minute),
				InputSchema: []byte(`{"type":"object","required":["title"],"properties":{
					"parts": {"type":"array","items":{"type":"object","properties":{"n":{"type":"integer"}}}},
					"title": {"type":"string","examples":["Root login"]}}}`),
				OutputSchema: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":["string","null"]},"url":{"type":"string"}}}`),
				Examples: []*connectorv1.Example{
					{Summary: "One of a person", Input: []byte(`{"title":"a: b","parts":[{"n":1}],"text":"one\ntwo"}`)},
					{Summary: "Broken", Input: []byte(`{`)},
				},
				Sunset: timestamppb.New(time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)), Deprecated: "use ticket.put",
			},
			{Name: "ticket.list", Summary: "List tickets.", Effect: connectorv1.Effect_EFFECT_READ, InputSchema: []byte(`{"type": 7`), OutputSchema: nil},
			{
				Name: "ticket.ask", Summary: "Ask for anything.", Effect: connectorv1.Effect_EFFECT_UNSAFE, EffectByCaller: true,
				EffectRules: []*connectorv1.EffectRule{{Property: "method", Values: []string{"GET", "HEAD"}, Effect: connectorv1.Effect_EFFECT_READ}},
			},
		},
		Triggers: []*connectorv1.Trigger{{
			Name: "tickets", Summary: "Tickets that changed.", Emits: []string{"io.casewire.row.v1"}, Polls: true,
			Interval: durationpb.New(time.Minute), Webhook: &connectorv1.WebhookRules{HandshakeQuery: "token", Json: true},
		}},
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	c := refdoc.Describe(descriptor(), "bundled")
	want := []refdoc.Property{
		{Name: "base_url", Type: "URL", Doc: "Where | it is.", Required: true},
		{Name: "token", Type: "secret", Doc: "Signs in."},
		{Name: "auth", Type: "map", Doc: "How."},
		{Name: "auth.user", Type: "text"},
		{Name: "level", Type: "text", Default: `"low"`, Enum: []string{"low", "high"}, Advanced: true},
		{Name: "patience", Type: "duration"},
	}
	if d := cmp.Diff(want, c.Config); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
	want = []refdoc.Property{
		{Name: "title", Type: "text", Example: `"Root login"`, Required: true},
		{Name: "parts", Type: "list of map"},
		{Name: "parts[].n", Type: "whole number"},
	}
	if d := cmp.Diff(want, c.Actions[0].Inputs); d != "" {
		t.Errorf("input (-want +got):\n%s", d)
	}
	want = []refdoc.Property{
		{Name: "id", Type: "text or null", Required: true, Output: true},
		{Name: "url", Type: "text", Output: true},
	}
	if d := cmp.Diff(want, c.Actions[0].Outputs); d != "" {
		t.Errorf("output (-want +got):\n%s", d)
	}
	if in := c.Actions[1].Inputs; in != nil {
		t.Errorf("a schema that cannot be read has properties: %v", in)
	}
}

func TestTextAndMarkdown(t *testing.T) {
	t.Parallel()
	c := refdoc.Describe(descriptor(), "bundled")
	var text, page bytes.Buffer
	if err := c.Text(&text); err != nil {
		t.Fatal(err)
	}
	if err := c.Markdown(&page); err != nil {
		t.Fatal(err)
	}
	example := []string{`title: 'a: b'`, "text: |-", "key: ${{ event.case_key }}", "uses: desk.ticket.ensure"}
	for _, want := range append(example,
		"desk 1.2.3 (bundled)", "reaches {config.base_url}", "note: desk.ticket.ensure ends on 2027-01-31; is deprecated: use ticket.put",
		"see https://desk.example", "licence Apache-2.0", "base_url  (URL, required)",
		`level  (text, default "low", advanced)`, "one of: low, high", "looked for up to 5m", "url  (text, may be missing)",
		"polled every 1m", "takes POST at /hooks/{connection}/tickets, at most 1024 KiB of JSON", "read: changes nothing",
		"unsafe: never repeated by machine, unless the step says", "read when method is GET or HEAD",
	) {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	for _, want := range append(example,
		"# desk", "| `base_url` | URL, required | Where \\| it is. |", "### desk.ticket.ensure", "```yaml\n- id: step",
		"> Note: desk.ticket.ensure ends on 2027-01-31; is deprecated: use ticket.put.", "See <https://desk.example>.",
	) {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
	for line := range strings.Lines(text.String()) {
		if len(line) > 110 {
			t.Errorf("a line of the text has %d bytes: %s", len(line), line)
		}
	}
}

func TestRecordIsStable(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(refdoc.Describe(descriptor(), "bundled"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Name    string
		Egress  []string
		Actions []struct {
			Name, Effect, Sunset string
			ResolveWindow        string          `json:"resolve_window"`
			Input                json.RawMessage `json:"input_schema"`
			Output               json.RawMessage `json:"output_schema"`
			Examples             []struct{ Summary string }
		}
		Triggers []struct {
			Interval string
			Webhook  struct {
				Path    string
				Methods []string
				MaxBody int `json:"max_body"`
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	a, tr := got.Actions[0], got.Triggers[0]
	switch {
	case got.Name != "desk" || len(got.Egress) != 1 || len(got.Actions) != 3:
		t.Errorf("head: %s", b)
	case a.Effect != "keyed" || a.Sunset != "2027-01-31" || a.ResolveWindow != "5m" || len(a.Examples) != 1:
		t.Errorf("action: %+v", a)
	case string(got.Actions[1].Input) != "{}" || string(got.Actions[1].Output) != "{}":
		t.Errorf("schemas that cannot be read: %s", b)
	case tr.Interval != "1m" || tr.Webhook.Path != "/hooks/{connection}/tickets" || tr.Webhook.MaxBody != 1<<20 || tr.Webhook.Methods[0] != "POST":
		t.Errorf("trigger: %+v", tr)
	}
}
