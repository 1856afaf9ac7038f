package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

var (
	nameRule    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	memberRule  = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)
	versionRule = regexp.MustCompile(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	methodRule  = regexp.MustCompile(`^[A-Z]+$`)
)

// What may be declared to be reached: a host, or a property, with or without a host that is reached where it is configured.
const hostPattern = `(?:(?:\*\.)?[0-9A-Za-z](?:[0-9A-Za-z._-]*[0-9A-Za-z])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?`

var (
	egressRule     = regexp.MustCompile(`^(?:` + hostPattern + `|\{config\.(?P<property>[^.}?]+)[^}?]*(?:\?` + hostPattern + `)?\})$`)
	egressProperty = egressRule.SubexpIndex("property")
)

var describeChecks = []check{
	{
		"describe.offline", "Describe answers within 5 s before any Configure and reaches no network.",
		"Answer from what is compiled in; ask the vendor only in Check, Invoke and Consume.",
		func(ctx context.Context, s *suite) error {
			trap, err := newVendor(quote)
			if err != nil {
				return err
			}
			defer trap.close()
			env := append([]string{}, s.sub.Env...)
			for _, k := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
				env = append(env, k+"="+trap.url)
			}
			p, err := s.launch(ctx, env)
			if err != nil {
				return err
			}
			defer p.kill()
			if _, err := p.describe(ctx); err != nil {
				return err
			}
			if n := trap.requests(); n > 0 {
				return fmt.Errorf("it made %d requests", n)
			}
			return nil
		},
	},
	{
		"describe.same", "Describe answers the same bytes every time.",
		"Keep lists in a fixed order; leave out times, host names and random values.",
		func(ctx context.Context, s *suite) error {
			p, err := s.process(ctx)
			if err != nil {
				return err
			}
			again, err := p.describe(ctx)
			if err != nil {
				return err
			}
			if !sameDescription(s.about, again) {
				return errors.New("the second answer differs from the first")
			}
			other, err := s.launch(ctx, s.sub.Env)
			if err != nil {
				return err
			}
			defer other.kill()
			third, err := other.describe(ctx)
			if err != nil {
				return err
			}
			if !sameDescription(s.about, third) {
				return errors.New("another process answers otherwise")
			}
			return nil
		},
	},
	{
		"describe.unknown-fields", "Fields that it does not know are ignored.",
		"Use a protobuf library that keeps or skips unknown fields, and do not validate against them.",
		func(ctx context.Context, s *suite) error {
			p, err := s.process(ctx)
			if err != nil {
				return err
			}
			later := protowire.AppendString(protowire.AppendTag(nil, 4242, protowire.BytesType), "of a later version")
			d, c := &connectorv1.DescribeRequest{Host: hostInfo()}, &connectorv1.ConfigureRequest{}
			d.ProtoReflect().SetUnknown(later)
			d.GetHost().ProtoReflect().SetUnknown(later)
			c.ProtoReflect().SetUnknown(later)
			if _, err := p.client.Describe(ctx, d, grpc.WaitForReady(true)); err != nil {
				return fmt.Errorf("Describe: %w", err)
			}
			if _, err := p.configure(ctx, c); err != nil {
				return fmt.Errorf("Configure: %w", err)
			}
			return nil
		},
	},
	{
		"describe.names", "The name is lower-case letters, digits and dashes, the version is semantic, and actions and triggers have distinct names of lower-case letters, digits and underscores, with dots between, and a summary.",
		`Name things as "jira", "1.0.0", "issue.get", "alerts".`,
		inDescription(func(d *connectorv1.DescribeResponse, fault func(string, ...any)) {
			if !nameRule.MatchString(d.GetName()) {
				fault("the connector's name is %q", d.GetName())
			}
			if !versionRule.MatchString(d.GetVersion()) {
				fault("the version is %q", d.GetVersion())
			}
			if d.GetSummary() == "" {
				fault("the connector has no summary")
			}
			seen := map[string]bool{}
			member := func(what, name, summary string) {
				if !memberRule.MatchString(name) || len(name) > 128 {
					fault("%s %q has a bad name", what, name)
				}
				if seen[what+name] {
					fault("%s %q is there twice", what, name)
				}
				if seen[what+name] = true; summary == "" {
					fault("%s %q has no summary", what, name)
				}
			}
			for _, a := range d.GetActions() {
				member("action", a.GetName(), a.GetSummary())
			}
			for _, t := range d.GetTriggers() {
				member("trigger", t.GetName(), t.GetSummary())
			}
			if len(d.GetActions())+len(d.GetTriggers()) == 0 {
				fault("it has neither actions nor triggers")
			}
			if n := proto.Size(d); n > plugin.MaxSend {
				fault("the description has %d bytes, more than %d", n, plugin.MaxSend)
			}
		}),
	},
	{
		"describe.schemas", "Every schema is JSON Schema 2020-12 of an object and stands alone.",
		"Validate your schemas against the meta-schema; refer only to your own $defs.",
		inDescription(func(d *connectorv1.DescribeResponse, fault func(string, ...any)) {
			schema := func(where string, b []byte) {
				if len(b) == 0 {
					fault("%s is missing", where)
					return
				}
				o, err := readSchema(b)
				if err == nil {
					_, err = compile(b)
				}
				if err != nil {
					fault("%s: %v", where, err)
				} else if t := typeOf(follow(o, o)); t != "object" {
					fault("%s is of type %q, not object", where, t)
				}
			}
			schema("the config schema", d.GetConfigSchema())
			for _, a := range d.GetActions() {
				schema("the input schema of "+a.GetName(), a.GetInputSchema())
				schema("the output schema of "+a.GetName(), a.GetOutputSchema())
			}
		}),
	},
	{
		"describe.secrets", "Properties of the configuration that are called like secrets are marked as such.",
		`Add "x-casewire-secret": true, so that hosts resolve, redact and never log them; rename one that is no secret.`,
		inDescription(func(d *connectorv1.DescribeResponse, fault func(string, ...any)) {
			if o, err := readSchema(d.GetConfigSchema()); err == nil {
				unmarked(o, o, "", func(path string) { fault("%s is a plain string", path) })
			}
		}),
	},
	{
		"describe.effects", "Every action declares its effect, and only keyed ones a resolve window.",
		"Say read, idempotent, keyed or unsafe: the host decides by it what may be repeated.",
		inDescription(func(d *connectorv1.DescribeResponse, fault func(string, ...any)) {
			for _, a := range d.GetActions() {
				if a.GetEffect() < connectorv1.Effect_EFFECT_READ || a.GetEffect() > connectorv1.Effect_EFFECT_UNSAFE {
					fault("action %q declares %v", a.GetName(), a.GetEffect())
				}
				keyed := a.GetEffect() == connectorv1.Effect_EFFECT_KEYED || a.GetEffectByCaller()
				if w := a.GetResolveWindow().AsDuration(); w < 0 || w > 0 && !keyed {
					fault("action %q has a resolve window of %v", a.GetName(), w)
				}
				for _, r := range a.GetEffectRules() {
					if !a.GetEffectByCaller() || r.GetProperty() == "" || len(r.GetValues()) == 0 ||
						r.GetEffect() < connectorv1.Effect_EFFECT_READ || r.GetEffect() > connectorv1.Effect_EFFECT_UNSAFE {
						fault("action %q has a rule for its effect that names no property, values or effect", a.GetName())
					}
				}
			}
		}),
	},
	{
		"describe.examples", "Every example satisfies the input schema of its action.",
		"Correct the example: people copy it.",
		func(ctx context.Context, s *suite) error {
			n := 0
			err := inDescription(func(d *connectorv1.DescribeResponse, fault func(string, ...any)) {
				for _, a := range d.GetActions() {
					schema, err := compile(a.GetInputSchema())
					for i, x := range a.GetExamples() {
						n++
						v, bad := decode(x.GetInput())
						if bad == nil && err == nil {
							bad = schema.Validate(v)
						}
						if bad != nil {
							fault("example %d of %s: %v", i+1, a.GetName(), bad)
						}
					}
				}
			})(ctx, s)
			if err == nil && n == 0 {
				return skipf("there are no examples")
			}
			return err
		},
	},
	{
		"describe.egress", "Every host that it declares to reach is a host, with a port if it has one, or stands for a property of the configuration.",
		`Write "api.example.com", "*.example.com", "api.example.com:8443" or "{config.base_url}", without scheme and path: a sandbox opens the ports of these.`,
		inDescription(func(d *connectorv1.DescribeResponse, fault func(string, ...any)) {
			known, err := readSchema(d.GetConfigSchema())
			for _, host := range d.GetEgress() {
				m := egressRule.FindStringSubmatch(host)
				if m == nil {
					fault("%q is no host", clip(host))
					continue
				}
				if property := m[egressProperty]; property != "" && err == nil && !hasProperty(known, property) {
					fault("%q stands for a property that the configuration does not have", clip(host))
				}
			}
		}),
	},
	{
		"describe.triggers", "Every trigger names the types of its events, polls, streams or takes webhooks, resolves only what its webhooks hint at, and asks for webhook bodies of at most 2 MiB.",
		"Set emits, polls, streams, interval, resolves and webhook to what the trigger does.",
		func(ctx context.Context, s *suite) error {
			if _, err := s.process(ctx); err != nil {
				return err
			}
			if len(s.about.GetTriggers()) == 0 {
				return skipf("there are no triggers")
			}
			return inDescription(func(d *connectorv1.DescribeResponse, fault func(string, ...any)) {
				for _, t := range d.GetTriggers() {
					describeTrigger(t, fault)
				}
			})(ctx, s)
		},
	},
}

func describeTrigger(t *connectorv1.Trigger, fault func(string, ...any)) {
	w := t.GetWebhook()
	if len(t.GetEmits()) == 0 {
		fault("trigger %q emits nothing", t.GetName())
	}
	if !t.GetPolls() && !t.GetStreams() && w == nil {
		fault("trigger %q neither polls nor streams nor takes webhooks", t.GetName())
	}
	if t.GetPolls() && t.GetStreams() {
		fault("trigger %q polls and streams; only one may move the cursor", t.GetName())
	}
	if t.GetResolves() && w == nil {
		fault("trigger %q resolves hints, but takes no webhooks that could give any", t.GetName())
	}
	if t.GetPolls() && t.GetInterval().AsDuration() <= 0 {
		fault("trigger %q polls without an interval", t.GetName())
	}
	if w.GetMaxBody() > plugin.MaxHookBody {
		fault("trigger %q asks for webhook bodies of %d bytes, more than %d", t.GetName(), w.GetMaxBody(), plugin.MaxHookBody)
	}
	for _, m := range w.GetMethods() {
		if !methodRule.MatchString(m) || m == http.MethodConnect {
			fault("trigger %q takes the method %q", t.GetName(), m)
		}
	}
}

// inDescription judges the description; all faults are told at once.
func inDescription(judge func(d *connectorv1.DescribeResponse, fault func(string, ...any))) func(context.Context, *suite) error {
	return func(ctx context.Context, s *suite) error {
		if _, err := s.process(ctx); err != nil {
			return err
		}
		var faults []string
		judge(s.about, func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) })
		if len(faults) > 0 {
			return errors.New(strings.Join(faults, "; "))
		}
		return nil
	}
}

// hasProperty says whether a schema has a property; one that is put together of several is given the benefit of the doubt.
func hasProperty(root object, name string) bool {
	s := follow(root, root)
	for _, part := range []string{"allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"} {
		if s[part] != nil {
			return true
		}
	}
	properties, _ := s["properties"].(object)
	return properties[name] != nil
}

// secretRule is what properties that hold secrets are called.
var secretRule = regexp.MustCompile(`^(.*_)?(password|passphrase|secret|token|api_?key|private_key|access_key)$`)

// unmarked finds plain strings that are called like secrets, in objects within objects.
func unmarked(root, s object, path string, found func(path string)) {
	if strings.Count(path, "/") > 8 { // one that refers to itself
		return
	}
	properties, _ := follow(root, s)["properties"].(object)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		o, _ := properties[name].(object)
		p := follow(root, o)
		if typeOf(p) == "string" && p["x-casewire-secret"] != true && o["x-casewire-secret"] != true && p["enum"] == nil && p["format"] == nil && secretRule.MatchString(name) {
			found(path + "/" + name)
		}
		unmarked(root, p, path+"/"+name, found)
	}
}
