package sdk_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

type thing struct{}

func (*thing) get(context.Context, struct{}) (output, error) { return output{}, nil }

func openThing(context.Context, struct{}, sdk.Env) (*thing, error) { return &thing{}, nil }

// A mistake in a declaration stops the program at its start with a sentence that says what to change.
func TestAuthoringMistakes(t *testing.T) {
	t.Parallel()
	fresh := func() *sdk.Connector { return sdk.New("x", "1.0.0", "X.", openThing) }
	trigger := func(change func(*sdk.Trigger[*thing, cursor])) {
		tr := sdk.Trigger[*thing, cursor]{
			Name: "t", Summary: "T.", Emits: []string{"e"},
			Poll: func(*thing, context.Context, cursor, func(sdk.Page[cursor]) error) error { return nil },
		}
		change(&tr)
		sdk.AddTrigger(fresh(), tr)
	}
	get := (*thing).get
	for want, f := range map[string]func(){
		"lower-case letters, digits and dashes": func() { sdk.New("Jira", "1.0.0", "x", openThing) },
		"must be a semantic version":            func() { sdk.New("x", "v1", "x", openThing) },
		"summary is empty":                      func() { sdk.New("x", "1.0.0", "", openThing) },
		"open is nil":                           func() { sdk.New[struct{}, *thing]("x", "1.0.0", "x", nil) },
		"it must be a struct": func() {
			sdk.New("x", "1.0.0", "x", func(context.Context, int, sdk.Env) (*thing, error) { return nil, nil })
		},
		"has no JSON form": func() {
			sdk.New("x", "1.0.0", "x", func(context.Context, struct{ F func() }, sdk.Env) (*thing, error) { return nil, nil })
		},
		"no such property":                  func() { fresh().Egress("{config.site}") },
		"empty host":                        func() { fresh().Egress("") },
		`Egress("https://api.example.com")`: func() { fresh().Egress("https://api.example.com") },
		`Egress("api.example.com/v1")`:      func() { fresh().Egress("api.example.com/v1") },
		`Egress("*example.com")`:            func() { fresh().Egress("*example.com") },
		`Egress("*")`:                       func() { fresh().Egress("*") },
		`Egress("{base_url}")`:              func() { fresh().Egress("{base_url}") },
		`Egress("{config.token?http://x}")`: func() {
			sdk.New("x", "1.0.0", "x", func(context.Context, struct {
				Token sdk.Secret `json:"token"`
			}, sdk.Env,
			) (*thing, error) {
				return &thing{}, nil
			}).Egress("{config.token?http://x}")
		},
		`a name is "noun.verb"`:             func() { sdk.Action(fresh(), "Get Thing", "x", get, sdk.Read) },
		`"thing.get": the summary is empty`: func() { sdk.Action(fresh(), "thing.get", "", get, sdk.Read) },
		"effect 0 is unknown; use sdk.Read": func() { sdk.Action(fresh(), "thing.get", "x", get, 0) },
		"the function is nil":               func() { sdk.Action[*thing, struct{}, output](fresh(), "thing.get", "x", nil, sdk.Read) },
		"is declared twice": func() {
			c := fresh()
			sdk.Action(c, "thing.get", "x", get, sdk.Read)
			sdk.Action(c, "thing.get", "x", get, sdk.Read)
		},
		"the connections that sdk.New opens are *sdk_test.thing": func() { sdk.Action(fresh(), "thing.get", "x", (*box).Act, sdk.Read) },
		"ResolveWindow is for sdk.Keyed actions only":            func() { sdk.Action(fresh(), "a", "x", get, sdk.Unsafe, sdk.ResolveWindow(1)) },
		"EffectByCaller: rule": func() {
			sdk.Action(fresh(), "a", "x", get, sdk.Unsafe, sdk.EffectByCaller(sdk.EffectRule{Property: "method", Values: []string{"GET"}, Effect: sdk.Read}))
		},
		"ResolveWindow is negative": func() { sdk.Action(fresh(), "a", "x", get, sdk.Keyed, sdk.ResolveWindow(-1)) },
		"take a struct by value": func() {
			sdk.Action(fresh(), "a", "x", func(*thing, context.Context, *input) (output, error) { return output{}, nil }, sdk.Read)
		},
		"return a struct, so that flows can name what they use": func() {
			sdk.Action(fresh(), "a", "x", func(*thing, context.Context, struct{}) (string, error) { return "", nil }, sdk.Read)
		},
		"an output cannot carry a Secret": func() {
			sdk.Action(fresh(), "a", "x", func(*thing, context.Context, struct{}) (struct{ S sdk.Secret }, error) {
				return struct{ S sdk.Secret }{}, nil
			}, sdk.Read)
		},
		"is refused by the input's own rules: invalid input: /y: unknown property": func() {
			sdk.Action(fresh(), "a", "x", get, sdk.Read, sdk.Example("bad", map[string]int{"y": 1}))
		},
		`has a property "rows"`: func() {
			sdk.Rows(fresh(), "a", "x", func(*thing, context.Context, struct{}, func(row) error) (out struct {
				Rows int `json:"rows"`
			}, err error,
			) {
				return out, nil
			}, sdk.Read)
		},
		`"fields" and "" must be properties of the input`: func() {
			sdk.Rows(fresh(), "a", "x", func(*thing, context.Context, struct{}, func(row) error) (struct{}, error) {
				return struct{}{}, nil
			}, sdk.Read, sdk.ShapedRows("fields", "", nil))
		},
		`has a property "blobs"`: func() {
			sdk.Action(fresh(), "a", "x", func(*thing, context.Context, struct{}) (out struct {
				Blobs int `json:"blobs"`
			}, err error,
			) {
				return out, nil
			}, sdk.Read, sdk.Blobs())
		},
		"both Poll and Stream": func() {
			trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.Stream = tr.Poll })
		},
		"give an https URL":       func() { fresh().Homepage("example.com") },
		"give an SPDX expression": func() { fresh().Licence("") },
		"Sunset of the zero time": func() { fresh().Sunset(time.Time{}) },
		"say what to use instead": func() { fresh().Deprecated("") },
		"OnCheck is called twice": func() {
			c := fresh()
			sdk.OnCheck(c, func(*thing, context.Context) []sdk.Probe { return nil })
			sdk.OnCheck(c, func(*thing, context.Context) []sdk.Probe { return nil })
		},
		"neither actions nor triggers":     func() { sdk.Server(fresh()) },
		"neither Poll nor Stream nor Hook": func() { trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.Poll = nil }) },
		"Resolve but no Hook": func() {
			trigger(func(tr *sdk.Trigger[*thing, cursor]) {
				tr.Resolve = func(*thing, context.Context, sdk.Hint) (sdk.Found, error) { return sdk.Found{}, nil }
			})
		},
		"Emits is empty":           func() { trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.Emits = nil }) },
		`trigger "T": a name is`:   func() { trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.Name = "T" }) },
		"Interval is for polling":  func() { trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.Interval = -time.Second }) },
		"ResolveLimit is negative": func() { trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.ResolveLimit = -1 }) },
		"methods are upper-case": func() {
			trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.HookRules.Methods = []string{"POST", "put"} })
		},
		"/client_secret of the configuration is called like a secret": func() {
			sdk.New("x", "1.0.0", "x", func(context.Context, struct {
				SecretName   string     `json:"secret_name"`
				TokenURL     string     `json:"token_url"`
				Token        sdk.Secret `json:"token"`
				ClientSecret string     `json:"client_secret"`
			}, sdk.Env,
			) (*thing, error) {
				return &thing{}, nil
			})
		},
		"/auth/password of the configuration": func() {
			sdk.New("x", "1.0.0", "x", func(context.Context, struct {
				Auth struct {
					Password string `json:"password"`
				} `json:"auth"`
			}, sdk.Env,
			) (*thing, error) {
				return &thing{}, nil
			})
		},
		"at most 2097152 bytes": func() {
			trigger(func(tr *sdk.Trigger[*thing, cursor]) { tr.HookRules.MaxBody = plugin.MaxHookBody + 1 })
		},
		"use a plain struct": func() {
			sdk.AddTrigger(fresh(), sdk.Trigger[*thing, int]{
				Name: "t", Summary: "t", Emits: []string{"e"},
				Poll: func(*thing, context.Context, int, func(sdk.Page[int]) error) error { return nil },
			})
		},
		"cannot be kept as JSON": func() {
			type bad struct{ C chan int }
			sdk.AddTrigger(fresh(), sdk.Trigger[*thing, bad]{
				Name: "t", Summary: "t", Emits: []string{"e"},
				Poll: func(*thing, context.Context, bad, func(sdk.Page[bad]) error) error { return nil },
			})
		},
	} {
		got := func() (s string) {
			defer func() { s = fmt.Sprint(recover()) }()
			f()
			return ""
		}()
		if !strings.HasPrefix(got, "casewire sdk: ") || !strings.Contains(got, want) {
			t.Errorf("got %q, want …%s…", got, want)
		}
	}
}

func TestEgressHosts(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"api.example.com", "*.example.com", "API.example.com:8443", "10.0.0.1", "169.254.169.254:80", "[::1]:8080", "my_host"} {
		if got := sdk.New("x", "1.0.0", "X.", openThing).Egress(host); got == nil {
			t.Errorf("%s is refused", host)
		}
	}
}

// What a connector says about itself reaches the host.
func TestMetadata(t *testing.T) {
	t.Parallel()
	end := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	c := sdk.New("x", "1.0.0", "X.", openThing).Homepage("https://x.example/docs").Licence("MIT OR Apache-2.0").Sunset(end).Deprecated("use y")
	sdk.Action(c, "thing.get", "Get.", (*thing).get, sdk.Read, sdk.Deprecated("use thing.find"), sdk.Sunset(end))
	sdk.AddTrigger(c, sdk.Trigger[*thing, cursor]{
		Name: "t", Summary: "T.", Emits: []string{"e"}, Sunset: end, Deprecated: "use u",
		Poll: func(*thing, context.Context, cursor, func(sdk.Page[cursor]) error) error { return nil },
	})
	d, err := sdk.Server(c).Describe(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.GetHomepage() != "https://x.example/docs" || d.GetLicence() != "MIT OR Apache-2.0" || d.GetDeprecated() != "use y" || !d.GetSunset().AsTime().Equal(end) {
		t.Errorf("connector: %v", d)
	}
	if a := d.GetActions()[0]; a.GetDeprecated() != "use thing.find" || !a.GetSunset().AsTime().Equal(end) {
		t.Errorf("action: %v", a)
	}
	if tr := d.GetTriggers()[0]; tr.GetDeprecated() != "use u" || !tr.GetSunset().AsTime().Equal(end) {
		t.Errorf("trigger: %v", tr)
	}
}

func TestErrorsNameProperties(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"title": "/title", "/a/0": "/a/0", "credential.token": "/credential/token"} {
		if got := sdk.BadConfig(in, "x").Violations[0].Field; got != want {
			t.Errorf("%s became %s", in, got)
		}
	}
	if e := sdk.Invalid("", "all of it is wrong"); len(e.Violations) != 0 || e.Message != "all of it is wrong" {
		t.Errorf("got %+v", e)
	}
}
