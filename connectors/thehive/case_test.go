package thehive

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestGetCase(t *testing.T) {
	t.Parallel()
	s := hive(t, "5.1.0", "", map[string]http.HandlerFunc{"GET /api/v1/case/7": answer(200, `{"_id":"~200","number":7,"title":"t","description":"d",
		"severity":4,"tlp":3,"pap":3,"tags":["a"],"status":"TruePositive","stage":"Closed","impactStatus":"WithImpact","assignee":"ada@x","startDate":1795428000000}`)})
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	want := Case{
		ID: "~200", Number: 7, URL: s.URL + "/cases/~200/details", Title: "t", Description: "d", Severity: 4, TLP: "red", PAP: "red",
		Tags: []string{"a"}, Status: "TruePositive", Stage: "Closed", Closed: true, VerdictID: 2, Impact: "WithImpact", Assignee: "ada@x", Started: &at,
	}
	h := s.open()
	if diff := cmp.Diff(want, must[Case](t, h, sdktest.Call{Action: "case.get", Input: map[string]any{"case": "7"}})); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"../x", "~", "7/comment", "case"} {
		if _, err := do[Case](t, h, sdktest.Call{Action: "case.get", Input: map[string]any{"case": id}}); err == nil {
			t.Errorf("%q passes for a case", id)
		}
	}
}

func comments(change ...func(*sdktest.Call)) sdktest.Call {
	c := sdktest.Call{Action: "case.comment", Key: "step 4", Input: map[string]any{"case": "~200", "text": "done"}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func TestCommentOncePerKey(t *testing.T) {
	t.Parallel()
	mark := "[cw-" + caseRef("step 4") + "]"
	there := answer(200, fmt.Sprintf(`[{"_id":"~1","message":"hello"},{"_id":"~2","message":"done\n\n%s"}]`, mark))
	second := func(c *sdktest.Call) { c.Attempt = 2 }
	resolve := func(c *sdktest.Call) { c.Resolve = true }
	open := func(list http.HandlerFunc) (*scripted, *sdktest.Harness) {
		s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{
			routeComment: answer(201, `{"_id":"~2"}`), "PATCH /api/v1/comment/~2": answer(204, ""),
			routeQuery: queries(t, map[string]http.HandlerFunc{"getCase comments": list}),
		})
		return s, s.open()
	}
	s, h := open(answer(200, "[]"))
	first := must[Commented](t, h, comments())
	if first.ID != "~2" || !first.Created || s.body(routeComment)["message"] != "done\n\n"+mark {
		t.Errorf("%+v, sent %v", first, s.body(routeComment))
	}
	if got := must[Commented](t, h, comments(second)); !got.Created || len(s.writes()) != 2 {
		t.Errorf("a second attempt after nothing arrived: %+v, writes %v", got, s.writes())
	}
	if _, err := do[Commented](t, h, comments(resolve)); asError(t, err).Reason != plugin.ReasonUnresolved {
		t.Errorf("resolve: %v", err)
	}
	known := func(c *sdktest.Call) { c.Prior = first }
	if got := must[Commented](t, h, comments(known)); got.Created || got.Updated || got.ID != "~2" || len(s.writes()) != 2 {
		t.Errorf("the same again: %+v, writes %v", got, s.writes())
	}
	if got := must[Commented](t, h, comments(known, with("text", "more"))); !got.Updated || s.writes()[2] != "PATCH /api/v1/comment/~2" {
		t.Errorf("another text: %+v, writes %v", got, s.writes())
	}
	s, h = open(there)
	for _, f := range []func(*sdktest.Call){second, resolve} {
		if got := must[Commented](t, h, comments(f)); got.ID != "~2" || !got.Created {
			t.Errorf("%+v", got)
		}
	}
	if len(s.writes()) != 0 {
		t.Errorf("writes: %v", s.writes())
	}
}

func TestAddObservablesTellsNewFromOld(t *testing.T) {
	t.Parallel()
	const add = "POST /api/v1/alert/~100/observable"
	s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{
		routeQuery: queries(t, map[string]http.HandlerFunc{"getAlert observables": answer(200, `[{"dataType":"ip","data":"192.0.2.1"}]`)}),
		add: func(w http.ResponseWriter, r *http.Request) {
			switch body, _ := io.ReadAll(r.Body); {
			case strings.Contains(string(body), `["`), strings.Contains(string(body), "192.0.2.9"):
				answer(400, `{"type":"CreateError","message":"Observable already exists"}`)(w, r)
			default:
				answer(201, "[{}]")(w, r)
			}
		},
	})
	in := map[string]any{"alert": "~100", "observables": []map[string]any{
		{"dataType": "ip", "data": "192.0.2.1"}, {"dataType": "ip", "data": "192.0.2.2"}, {"dataType": "ip", "data": "192.0.2.9"},
	}}
	// The group is refused, then each alone; 192.0.2.9 is refused as a duplicate and yet not there.
	got := must[Added](t, s.open(), sdktest.Call{Action: "observable.add", Input: in})
	if got.Added != 1 || got.Existing != 1 || len(got.Rejected) != 1 || got.Rejected[0].Data != "192.0.2.9" {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{add, add, add}, s.writes()); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []map[string]any{{"observables": []any{}}, {"alert": "~1", "case": "~2", "observables": []any{}}} {
		if _, err := do[Added](t, s.open(), sdktest.Call{Action: "observable.add", Input: bad}); asError(t, err).Class() != plugin.ClassInvalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestLongListsArePaged(t *testing.T) {
	t.Parallel()
	page := 0
	s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{routeQuery: queries(t, map[string]http.HandlerFunc{
		"getCase observables": func(w http.ResponseWriter, r *http.Request) {
			page++
			var b strings.Builder
			for i := range map[int]int{1: pageSize, 2: 1}[page] {
				fmt.Fprintf(&b, `,{"dataType":"ip","data":"10.%d.%d.1"}`, page, i)
			}
			answer(200, "["+strings.TrimPrefix(b.String(), ",")+"]")(w, r)
		},
	})})
	got := must[Added](t, s.open(), sdktest.Call{Action: "observable.add", Input: map[string]any{
		"case": "~200", "observables": []map[string]any{{"dataType": "ip", "data": "10.2.0.1"}},
	}})
	if got.Existing != 1 || page != 2 {
		t.Errorf("got %+v after %d pages", got, page)
	}
}

func TestConfigMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		field  string
	}{
		"no address":      {func(c *Config) { c.BaseURL = "https:///x" }, "/base_url"},
		"user in address": {func(c *Config) { c.BaseURL = "https://a:b@x.example" }, "/base_url"},
		"api path":        {func(c *Config) { c.BaseURL = "https://x.example/api" }, "/base_url"},
		"query":           {func(c *Config) { c.BaseURL = "https://x.example?a" }, "/base_url"},
		"plain http":      {func(c *Config) { c.BaseURL = "http://hive.example" }, "/base_url"},
		"no key":          {func(c *Config) { c.APIKey = plugin.Secret{} }, "/api_key"},
		"two keys":        {func(c *Config) { c.Credential = &Credential{APIKey: c.APIKey} }, "/credential"},
		"type":            {func(c *Config) { c.AlertType = "a;b" }, "/alert_type"},
		"source":          {func(c *Config) { c.Source = strings.Repeat("x", 33) }, "/source"},
		"tlp":             {func(c *Config) { c.TLP = "3" }, "/tlp"},
		"pap":             {func(c *Config) { c.PAP = "amber+strict" }, "/pap"},
		"organisation":    {func(c *Config) { c.Organisation = "a\r\nX: y" }, "/organisation"},
		"own domain":      {func(c *Config) { c.OwnDomains = []string{"contoso.example", "not a name"} }, "/own_domains/1"},
		"own range":       {func(c *Config) { c.OwnRanges = []string{"10.0.0.0"} }, "/own_ranges/0"},
		"verdict":         {func(c *Config) { c.Verdicts = map[string]string{"a/b": "bad"} }, "/verdicts/a~1b"},
		"lookback":        {func(c *Config) { c.Cases = &Cases{Lookback: -1} }, "/cases/lookback"},
		"open webhook":    {func(c *Config) { c.Webhook = &Webhook{} }, "/webhook"},
		"two proofs":      {func(c *Config) { c.Webhook = &Webhook{Bearer: c.APIKey, Header: &SecretHeader{"X", c.APIKey}} }, "/webhook"},
		"ca":              {func(c *Config) { c.CAFile = "/does/not/exist" }, "/ca_file"},
	} {
		cfg := testConfig("https://hive.example")
		tt.change(&cfg)
		_, err := open(t.Context(), cfg, sdk.Env{})
		e := asError(t, err)
		if e.Class() != plugin.ClassConfig || len(e.Violations) == 0 || e.Violations[0].Field != tt.field {
			t.Errorf("%s: %v of class %s", name, e, e.Class())
		}
	}
}

func TestDefaultSource(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "casewire", "Contoso\t": "contoso", "a;b": "a-b", strings.Repeat("a", 32): strings.Repeat("a", 32)} {
		if got := defaultSource(in); got != want {
			t.Errorf("defaultSource(%q) = %q, want %q", in, got, want)
		}
	}
	a, b := defaultSource(strings.Repeat("a", 40)+"1"), defaultSource(strings.Repeat("a", 40)+"2")
	if len(a) != maxPart || a == b {
		t.Errorf("long names become %q and %q", a, b)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const routeMe, routeFull = "GET /api/v1/user/current", "GET /api/v1/status"
	me := func(perms string) http.HandlerFunc {
		return answer(200, `{"login":"casewire@soc","organisation":"soc","permissions":[`+perms+`]}`)
	}
	healthy := func() map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{
			routeStatus: answer(200, `{"version":"5.6.4"}`), routeFull: answer(200, `{"license":{"isValid":true,"plan":"Gold"}}`),
			routeMe: me(`"manageAlert","manageCase/create","manageCase/update","manageObservable","manageProcedure","manageComment","manageTask"`),
			routeQuery: queries(t, map[string]http.HandlerFunc{
				"getCaseTemplate": answer(200, `[]`), "listCustomField": answer(200, `[{"name":"cause","type":"string","mandatory":true},{"name":"x","type":"string"}]`),
			}),
		}
	}
	ok, failed, skip, warning := sdk.ProbeOK, sdk.ProbeFailed, sdk.ProbeSkipped, sdk.ProbeWarning
	for name, tt := range map[string]struct {
		route  string
		answer http.HandlerFunc
		change func(*Config)
		want   []sdk.ProbeStatus
		says   string
	}{
		// reachable, clock, credential, organisation, permissions, licence, custom_fields, case_template
		"healthy":      {want: []sdk.ProbeStatus{ok, ok, ok, ok, ok, ok, ok, skip}, says: "2 custom fields; case.close has to fill cause"},
		"old":          {route: routeStatus, answer: answer(200, `{"version":"4.1.2"}`), want: []sdk.ProbeStatus{failed, skip, skip, skip, skip, skip, skip, skip}, says: "TheHive 5 is needed"},
		"clock":        {route: routeStatus, answer: answer(200, `{"version":"5.6.4"}`, "Date", "Mon, 23 Nov 2020 10:00:00 GMT"), want: []sdk.ProbeStatus{ok, warning, ok, ok, ok, ok, ok, skip}, says: "NTP"},
		"bad key":      {route: routeMe, answer: answer(401, `{"type":"AuthenticationError","message":"no"}`), want: []sdk.ProbeStatus{ok, ok, failed, skip, skip, skip, skip, skip}, says: "revoked"},
		"organisation": {change: func(c *Config) { c.Organisation = "other" }, want: []sdk.ProbeStatus{ok, ok, ok, failed, ok, ok, ok, skip}, says: "not in other"},
		"permissions":  {route: routeMe, answer: me(`"manageCase"`), want: []sdk.ProbeStatus{ok, ok, ok, ok, warning, ok, ok, skip}, says: "manageAlert/create"},
		"licence":      {route: routeFull, answer: answer(200, `{"license":{"isValid":false,"error":"over"}}`), want: []sdk.ProbeStatus{ok, ok, ok, ok, ok, failed, ok, skip}, says: "read-only: over"},
		"soon over": {
			route: routeFull, answer: answer(200, fmt.Sprintf(`{"license":{"isValid":true,"expiresAt":%d}}`, time.Now().Add(50*time.Hour).UnixMilli())),
			want: []sdk.ProbeStatus{ok, ok, ok, ok, ok, warning, ok, skip}, says: "expires in 2 days",
		},
		"template": {change: func(c *Config) { c.CaseTemplate = "nope" }, want: []sdk.ProbeStatus{ok, ok, ok, ok, ok, ok, ok, failed}, says: "no case template nope"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			routes := healthy()
			if tt.route != "" {
				routes[tt.route] = tt.answer
			}
			cfg := testConfig(script(t, routes).URL)
			if tt.change != nil {
				tt.change(&cfg)
			}
			c, err := open(t.Context(), cfg, sdk.Env{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			var got []sdk.ProbeStatus
			var text strings.Builder
			for _, p := range c.Check(t.Context()) {
				got = append(got, p.Status)
				text.WriteString(p.Summary + "; " + p.Remedy + "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || !strings.Contains(text.String(), tt.says) {
				t.Errorf("probes (-want +got):\n%s%s", diff, text.String())
			}
		})
	}
}

func FuzzTag(f *testing.F) {
	for _, s := range []string{"", "a", " a\nb ", "\u202e", strings.Repeat("é", 200), "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := cleanTag(in)
		if units(out) > maxTag || out != strings.TrimSpace(out) || strings.ContainsAny(out, "\n\r\x00") || cleanTag(out) != out {
			t.Fatalf("cleanTag(%q) = %q, then %q", in, out, cleanTag(out))
		}
	})
}

func FuzzPrepare(f *testing.F) {
	f.Add("ip", "192.0.2.1", "IP", "::ffff:192.0.2.1")
	f.Add("url", "HTTP://X.example", "hash", strings.Repeat("A", 5000))
	s, c := &server{types: defaultTypes}, &Client{}
	f.Fuzz(func(t *testing.T, k1, d1, k2, d2 string) {
		out, rejected, err := c.prepare(s, []Observable{{DataType: k1, Data: d1}, {DataType: k2, Value: d2, IOC: true}}, levelAmber, levelAmber)
		if err != nil || len(out)+len(rejected) > 2 {
			t.Fatalf("%v, %v, %v", out, rejected, err)
		}
		seen := map[string]bool{}
		for _, o := range out {
			data := o.Data.(string)
			if data == "" || units(data) > maxData || defaultTypes[o.DataType] || seen[identity(o.DataType, data)] {
				t.Fatalf("bad observable %+v of %q", o, []string{k1, d1, k2, d2})
			}
			seen[identity(o.DataType, data)] = true
		}
	})
}
