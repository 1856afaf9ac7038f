package thehive

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

const caseKey = "msincident:11111111-2222-3333-4444-555555555555:2941"

func ensure(action string, change ...func(*sdktest.Call)) sdktest.Call {
	c := sdktest.Call{Action: action, Key: caseKey, Input: map[string]any{
		"title": "Root login", "description": "**who**: root", "severity_id": 4, "tags": []string{"aws"}, "url": "https://portal.example/i/1",
		"date": "2026-11-23T10:00:00Z", "procedures": []string{"t1078.004", "T1078.004", "odd"},
		"observables": []map[string]any{
			{"dataType": "ip", "data": "45.83.64.1", "sighted": true, "tags": []string{"a"}},
			{"dataType": "IP", "data": " ::ffff:45.83.64.1 ", "ioc": true, "tags": []string{"b"}},
			{"dataType": "cloud-arn", "data": "arn:aws:x"},
			{"dataType": "file", "data": "x.exe"},
		},
	}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func with(name string, value any) func(*sdktest.Call) {
	return func(c *sdktest.Call) { c.Input.(map[string]any)[name] = value }
}

func plainCase(action string, change ...func(*sdktest.Call)) sdktest.Call {
	return ensure(action, append([]func(*sdktest.Call){func(c *sdktest.Call) {
		delete(c.Input.(map[string]any), "observables")
		delete(c.Input.(map[string]any), "procedures")
	}}, change...)...)
}

func TestCaseIsMadeByWayOfItsAlert(t *testing.T) {
	t.Parallel()
	s := hive(t, "5.6.4", "", nil)
	got := must[Ensured](t, s.open(func(c *Config) { c.CaseTemplate = "Cloud" }), ensure("case.ensure"))
	want := Ensured{
		ID: "~200", Number: 7, Title: "Root login", URL: s.URL + "/cases/~200/details", AlertID: "~100", CaseID: "~200", Created: true, Status: "New",
		ContentHash: got.ContentHash, Severity: 3, TLP: "amber", PAP: "amber", Tags: []string{"casewire", "aws"},
		ObservablesHash: got.ObservablesHash, Procedures: []string{"T1078.004"},
	}
	if diff := cmp.Diff(want, got); diff != "" || got.ContentHash == "" || got.ObservablesHash == "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{routeAlert, routePromote}, s.writes()); diff != "" {
		t.Errorf("writes:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{
		"type": "casewire", "source": "contoso", "sourceRef": caseRef(caseKey), "externalLink": "https://portal.example/i/1",
		"title": "Root login", "description": "**who**: root", "severity": 3.0, "date": 1795428000000.0, "tlp": 2.0, "pap": 2.0,
		"tags": []any{"casewire", "aws", "TTP:odd"},
		"observables": []any{
			map[string]any{"dataType": "ip", "data": "45.83.64.1", "tags": []any{"a", "b"}, "ioc": true, "sighted": true, "tlp": 2.0, "pap": 2.0},
			map[string]any{"dataType": "other", "data": "arn:aws:x", "tags": []any{"type:cloud-arn"}, "ioc": false, "sighted": false, "tlp": 2.0, "pap": 2.0},
			map[string]any{"dataType": "other", "data": "x.exe", "tags": []any{"type:file"}, "ioc": false, "sighted": false, "tlp": 2.0, "pap": 2.0},
		},
		"procedures": []any{map[string]any{"patternId": "T1078.004", "occurDate": 1795428000000.0}},
	}, s.body(routeAlert)); diff != "" {
		t.Errorf("alert:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"caseTemplate": "Cloud"}, s.body(routePromote)); diff != "" {
		t.Errorf("promote:\n%s", diff)
	}
	for _, r := range s.seen {
		if r.route != routeStatus && r.header.Get("X-Organisation") != "soc" || r.header.Get("Authorization") != "Bearer "+testKey {
			t.Errorf("%s: organisation %q", r.route, r.header.Get("X-Organisation"))
		}
	}
	// The server is asked about itself once.
	before := len(s.asked())
	must[Ensured](t, s.open(), plainCase("alert.ensure"))
	h := s.open()
	must[Ensured](t, h, plainCase("alert.ensure"))
	n := len(s.asked())
	must[Ensured](t, h, plainCase("alert.ensure"))
	if d := len(s.asked()) - n; d != 1 || before == n {
		t.Errorf("a later alert.ensure took %d requests", d)
	}
}

func TestDuplicateIsConfirmedAndAdopted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		refusal http.HandlerFunc
		alert   string
		writes  []string
		created bool
		class   plugin.Class
	}{
		"409 and promoted":     {answer(409, `{"type":"ConflictError","message":"exists"}`), alertJSON("~200"), []string{routeAlert}, false, ""},
		"400 and promoted":     {answer(400, `{"type":"CreateError","message":"already exist"}`), alertJSON("~200"), []string{routeAlert}, false, ""},
		"409 and not promoted": {answer(409, ""), alertJSON(""), []string{routeAlert, routePromote}, true, ""},
		"400 of another kind":  {answer(400, `{"type":"CreateError","message":{"odd":1}}`), "", []string{routeAlert}, false, plugin.ClassInvalid},
		"a real rejection":     {answer(400, `{"type":"BadRequest","message":"tlp"}`), alertJSON("~200"), []string{routeAlert}, false, plugin.ClassInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hive(t, "5.5.1", tt.alert, map[string]http.HandlerFunc{routeAlert: tt.refusal})
			got, err := do[Ensured](t, s.open(), plainCase("case.ensure"))
			if tt.class != "" {
				if e := asError(t, err); e.Class() != tt.class || e.SideEffect != plugin.EffectNone {
					t.Errorf("%v of class %s", e, e.Class())
				}
			} else if err != nil || got.ID != "~200" || got.Created != tt.created {
				t.Errorf("got %+v, %v", got, err)
			}
			if diff := cmp.Diff(tt.writes, s.writes()); diff != "" {
				t.Errorf("writes:\n%s", diff)
			}
		})
	}
}

func TestRepeatedEnsureFindsWhatTheLostAttemptMade(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(*sdktest.Call){
		"second attempt": func(c *sdktest.Call) { c.Attempt = 2 },
		"after a crash":  func(c *sdktest.Call) { c.FirstSent = time.Now().Add(-time.Minute) },
	} {
		s := hive(t, "5.6.0", alertJSON("~200"), nil)
		if got := must[Ensured](t, s.open(), plainCase("case.ensure", again)); got.ID != "~200" || !got.Created || len(s.writes()) != 0 {
			t.Errorf("%s: %+v, writes %v", name, got, s.writes())
		}
		s = hive(t, "5.6.0", alertJSON(""), nil)
		if got := must[Ensured](t, s.open(), plainCase("case.ensure", again)); !got.Created || !cmp.Equal(s.writes(), []string{routePromote}) {
			t.Errorf("%s, not promoted: %+v, writes %v", name, got, s.writes())
		}
		s = hive(t, "5.6.0", alertJSON(""), nil)
		if got := must[Ensured](t, s.open(), plainCase("alert.ensure", again)); got.ID != "~100" || !got.Created || len(s.writes()) != 0 {
			t.Errorf("%s, alert: %+v, writes %v", name, got, s.writes())
		}
	}
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"500": answer(500, `{"type":"GenericError","message":"x"}`), "502": answer(502, "<html>"), "dropped": drop, "truncated": breakOff(201, `{"_id":"~1`),
		"html": answer(200, "<html>"), "no id": answer(201, "{}"), "504": answer(504, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{routeAlert: h})
			_, err := do[Ensured](t, s.open(), plainCase("case.ensure"))
			if e := asError(t, err); e.Class() != plugin.ClassUncertain {
				t.Errorf("create: %v of class %s", e, e.Class())
			}
			if diff := cmp.Diff([]string{routeAlert}, s.writes()); diff != "" {
				t.Errorf("writes:\n%s", diff)
			}
			// Promote: the alert tells whether there is a case.
			s = hive(t, "5.6.0", alertJSON(""), map[string]http.HandlerFunc{routePromote: h})
			_, err = do[Ensured](t, s.open(), plainCase("case.ensure"))
			if e := asError(t, err); e.Class() != plugin.ClassUncertain {
				t.Errorf("promote: %v of class %s", e, e.Class())
			}
			if diff := cmp.Diff([]string{routeAlert, routePromote}, s.writes()); diff != "" {
				t.Errorf("writes:\n%s", diff)
			}
			s = hive(t, "5.6.0", alertJSON("~200"), map[string]http.HandlerFunc{routePromote: h})
			if got := must[Ensured](t, s.open(), plainCase("case.ensure")); got.ID != "~200" || !got.Created {
				t.Errorf("promoted all the same: %+v", got)
			}
		})
	}
}

func TestDefiniteRefusals(t *testing.T) {
	t.Parallel()
	for status, class := range map[int]plugin.Class{
		401: plugin.ClassAuth, 403: plugin.ClassDenied, 413: plugin.ClassTooLarge, 422: plugin.ClassInvalid, 429: plugin.ClassThrottled,
	} {
		s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{"GET /api/v1/status": answer(200, `{"license":{"isValid":false}}`), routeAlert: answer(status, `{"type":"Kind","message":"because `+testKey+`"}`, "Retry-After", "9")})
		_, err := do[Ensured](t, s.open(), plainCase("alert.ensure"))
		e := asError(t, err)
		if e.Class() != class || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Error(), "create alert") || !strings.Contains(e.Error(), "because") {
			t.Errorf("%d: %v of class %s", status, e, e.Class())
		}
		if says := map[int]string{401: "make a new key", 403: "without one TheHive is read-only"}[status]; !strings.Contains(e.Error(), says) {
			t.Errorf("%d does not say %q: %v", status, says, e)
		}
		if status == 429 && e.RetryAfter != 9*time.Second {
			t.Errorf("retry after %s", e.RetryAfter)
		}
	}
}

func TestPromotedByAPersonMeanwhile(t *testing.T) {
	t.Parallel()
	s := hive(t, "5.6.0", alertJSON("~200"), map[string]http.HandlerFunc{routePromote: answer(400, `{"type":"BadRequest","message":"Alert is already imported"}`)})
	if got := must[Ensured](t, s.open(), plainCase("case.ensure")); got.ID != "~200" || got.Created {
		t.Errorf("got %+v", got)
	}
}

func TestUnknownTechniqueDoesNotCostTheAlert(t *testing.T) {
	t.Parallel()
	const procedure, patch = "POST /api/v1/alert/~100/procedure", "PATCH /api/v1/alert/~100"
	s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{
		routeAlert: func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "procedures") {
				answer(404, `{"type":"NotFoundError","message":"Pattern not found"}`)(w, r)
				return
			}
			answer(201, alertJSON(""))(w, r)
		},
		procedure: func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "T9999") {
				answer(404, `{"type":"NotFoundError","message":"Pattern not found"}`)(w, r)
				return
			}
			answer(201, "{}")(w, r)
		},
		patch: answer(204, ""),
	})
	got := must[Ensured](t, s.open(), plainCase("alert.ensure", with("procedures", []string{"T9999", "T1059"})))
	if !got.Created {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{routeAlert, routeAlert, procedure, procedure, patch}, s.writes()); diff != "" {
		t.Errorf("writes:\n%s", diff)
	}
	if diff := cmp.Diff([]any{"TTP:T9999"}, s.body(patch)["addTags"]); diff != "" {
		t.Error(diff)
	}
}

func TestBadObservableDoesNotCostTheAlert(t *testing.T) {
	t.Parallel()
	const add = "POST /api/v1/alert/~100/observable"
	s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{
		routeAlert: func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "observables") {
				answer(400, `{"type":"BadRequest","message":"bad ip"}`)(w, r)
				return
			}
			answer(201, alertJSON(""))(w, r)
		},
		add: func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "bad") {
				answer(400, `{"type":"BadRequest","message":"bad ip"}`)(w, r)
				return
			}
			answer(201, "[{}]")(w, r)
		},
	})
	got := must[Ensured](t, s.open(), plainCase("alert.ensure", with("observables", []map[string]any{
		{"dataType": "ip", "data": "bad"}, {"dataType": "ip", "data": "192.0.2.1"}, {"dataType": "url", "data": "https://x.example"},
	})))
	if !got.Created || len(got.Rejected) != 1 || got.Rejected[0].Data != "bad" || !strings.Contains(got.Rejected[0].Reason, "bad ip") {
		t.Errorf("got %+v", got)
	}
	// Twice for the alert, one group of two, each of it, one alone.
	if n := len(s.writes()); n != 6 {
		t.Errorf("writes: %v", s.writes())
	}
}

func prior() Ensured {
	return Ensured{
		ID: "~200", Number: 7, AlertID: "~100", CaseID: "~200", ContentHash: digest("Root login", "**who**: root"), Severity: 3, TLP: "amber",
		PAP: "amber", Tags: []string{"casewire", "aws"},
	}
}

func TestCaseIsUpdatedByItsID(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change []func(*sdktest.Call)
		want   map[string]any
	}{
		"nothing new":     {nil, nil},
		"milder":          {[]func(*sdktest.Call){with("severity_id", 2), with("tlp", "green"), with("pap", "WHITE")}, nil},
		"severity absent": {[]func(*sdktest.Call){func(c *sdktest.Call) { delete(c.Input.(map[string]any), "severity_id") }}, nil},
		"title":           {[]func(*sdktest.Call){with("title", "News")}, map[string]any{"title": "News", "description": "**who**: root"}},
		"worse":           {[]func(*sdktest.Call){with("severity_id", 5), with("tlp", "TLP:RED"), with("pap", "red")}, map[string]any{"severity": 4.0, "tlp": 4.0, "pap": 3.0}},
		"tags":            {[]func(*sdktest.Call){with("tags", []string{"AWS", " new "})}, map[string]any{"addTags": []any{"new"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hive(t, "5.6.0", "", nil)
			c := plainCase("case.ensure", tt.change...)
			c.Prior = prior()
			got := must[Ensured](t, s.open(), c)
			if got.ID != "~200" || got.Created || got.Updated != (tt.want != nil) {
				t.Errorf("got %+v", got)
			}
			if tt.want == nil {
				if len(s.writes()) != 0 {
					t.Errorf("writes: %v", s.writes())
				}
				return
			}
			if diff := cmp.Diff(tt.want, s.body(routePatch)); diff != "" {
				t.Errorf("patch:\n%s", diff)
			}
			c.Prior = got
			if again := must[Ensured](t, s.open(), c); again.Updated || len(s.writes()) != 1 {
				t.Errorf("the same again: %+v, writes %v", again, s.writes())
			}
		})
	}
}

func TestWebPageIsNoAnswer(t *testing.T) {
	t.Parallel()
	page := answer(200, "<!DOCTYPE html><title>Sign in</title>", "Content-Type", "text/html")
	s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{routePatch: page, "POST /api/v1/case/~200/observable": page, "POST /api/v1/case/~200/procedure": page})
	for name, change := range map[string]func(*sdktest.Call){
		"patch":       with("title", "News"),
		"observables": with("observables", []map[string]any{{"dataType": "ip", "data": "192.0.2.1"}}),
		"procedures":  with("procedures", []string{"T1059"}),
	} {
		c := plainCase("case.ensure", change)
		c.Prior = prior()
		_, err := do[Ensured](t, s.open(), c)
		if e := asError(t, err); e.Class() != plugin.ClassUncertain {
			t.Errorf("%s: %v of class %s", name, e, e.Class())
		}
	}
}

func TestNewObservablesAndTechniquesAreAdded(t *testing.T) {
	t.Parallel()
	const add, procedure = "POST /api/v1/case/~200/observable", "POST /api/v1/case/~200/procedure"
	s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{
		routeQuery: queries(t, map[string]http.HandlerFunc{
			"getCase observables": answer(200, `[{"dataType":"ip","data":"192.0.2.1"},{"dataType":"domain","data":"A.example"}]`),
			"getCase procedures":  answer(200, `[{"patternId":"T1059"}]`), "getCase comments": answer(200, "[]"),
		}),
		add: answer(201, "[{}]"), procedure: answer(201, "{}"),
	})
	c := plainCase("case.ensure", with("procedures", []string{"T1059", "T1078"}), with("observables", []map[string]any{
		{"dataType": "ip", "data": "192.0.2.1"}, {"dataType": "domain", "data": "a.EXAMPLE."}, {"dataType": "ip", "data": "192.0.2.2"}, {"dataType": "ip", "data": "192.0.2.3"},
	}))
	c.Prior = prior()
	got := must[Ensured](t, s.open(), c)
	if !got.Updated || got.Created || !cmp.Equal(got.Procedures, []string{"T1059", "T1078"}) {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{routeComment, add, procedure}, s.writes()); diff != "" {
		t.Errorf("writes:\n%s", diff)
	}
	if text := s.body(routeComment)["message"].(string); !strings.HasPrefix(text, "New evidence:\n- ip `192.0.2.2`\n- ip `192.0.2.3`\n- technique T1078\n\n[cw-") {
		t.Errorf("comment: %q", text)
	}
	if diff := cmp.Diff([]any{"192.0.2.2", "192.0.2.3"}, s.body(add)["data"]); diff != "" {
		t.Error(diff)
	}
	n := len(s.asked())
	c.Prior = got
	if again := must[Ensured](t, s.open(), c); again.Updated || len(s.writes()) != 3 {
		t.Errorf("the same again: %+v, requests %v", again, s.asked()[n:])
	}
}

func TestMergedCaseIsFollowedAndDeletedOneIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	gone := answer(404, `{"type":"NotFoundError","message":"Case not found"}`)
	merged := strings.ReplaceAll(caseJSON, "~200", "~300")
	s := hive(t, "5.6.0", alertJSON("~300"), map[string]http.HandlerFunc{
		routeCase: gone, "GET /api/v1/case/~300": answer(200, merged), "PATCH /api/v1/case/~300": answer(204, ""),
	})
	c := plainCase("case.ensure", with("tags", []string{"new"}))
	c.Prior = prior()
	if got := must[Ensured](t, s.open(), c); got.ID != "~300" || !got.Updated {
		t.Errorf("merged: %+v", got)
	}
	for name, alert := range map[string]string{"alert too": "", "alert unlinked": alertJSON(""), "alert still linked": alertJSON("~200")} {
		s = hive(t, "5.6.0", alert, map[string]http.HandlerFunc{routeCase: gone})
		_, err := do[Ensured](t, s.open(), c)
		if e := asError(t, err); e.Class() != plugin.ClassNotFound || !strings.Contains(e.Message, "case ~200 is gone") {
			t.Errorf("%s: %v of class %s", name, e, e.Class())
		}
		if len(s.writes()) != 0 {
			t.Errorf("%s: writes: %v", name, s.writes())
		}
	}
}

func TestResolveAndDryRunWriteNothing(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"case.ensure", "alert.ensure"} {
		resolve := func(c *sdktest.Call) { c.Resolve = true }
		s := hive(t, "5.6.0", "", nil)
		_, err := do[Ensured](t, s.open(), ensure(action, resolve))
		if e := asError(t, err); e.Reason != plugin.ReasonUnresolved {
			t.Errorf("%s: %v, reason %q", action, e, e.Reason)
		}
		dry := func(c *sdktest.Call) { c.DryRun = true }
		if got := must[Ensured](t, s.open(), ensure(action, dry)); !got.Created || got.ID != "" {
			t.Errorf("%s: %+v", action, got)
		}
		s2 := hive(t, "5.6.0", alertJSON("~200"), nil)
		if got := must[Ensured](t, s2.open(), ensure(action, resolve)); !got.Created || got.AlertID != "~100" || got.CaseID != "~200" {
			t.Errorf("%s: %+v", action, got)
		}
		if got := must[Ensured](t, s2.open(), ensure(action, dry)); got.Created || !got.Updated {
			t.Errorf("%s: %+v", action, got)
		}
		if w := append(s.writes(), s2.writes()...); len(w) != 0 {
			t.Errorf("%s: writes %v", action, w)
		}
	}
	s := hive(t, "5.6.0", alertJSON(""), nil)
	_, err := do[Ensured](t, s.open(), ensure("case.ensure", func(c *sdktest.Call) { c.Resolve = true }))
	if e := asError(t, err); e.Reason != plugin.ReasonUnresolved {
		t.Errorf("not promoted: %v", e)
	}
}

func TestMarkingsDependOnTheVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		version, tlp string
		want         float64
	}{
		{"5.6.2", "red", 4},
		{"5.6.2", "AMBER STRICT", 3},
		{"5.2.0", "red", 4},
		{"5.1.9", "red", 3},
		{"5.0.0-1", "amber+strict", 3},
		{"5.1.0", "amber", 2},
		{"", "red", 4},
		{"6.0", "red", 4},
	} {
		s := hive(t, tt.version, "", nil)
		must[Ensured](t, s.open(), plainCase("alert.ensure", with("tlp", tt.tlp)))
		if got := s.body(routeAlert)["tlp"]; got != tt.want {
			t.Errorf("%s on %q is sent as %v, want %v", tt.tlp, tt.version, got, tt.want)
		}
	}
}

func TestTheHive4IsRefused(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"version":  answer(200, `{"version":"4.1.24"}`),
		"versions": answer(200, `{"versions":{"TheHive":"4.1.24-1"}}`),
		"none":     answer(404, "<html>"),
	} {
		s := hive(t, "", "", map[string]http.HandlerFunc{routeStatus: h})
		_, err := do[Ensured](t, s.open(), plainCase("alert.ensure"))
		if e := asError(t, err); e.Class() != plugin.ClassConfig || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Error(), "TheHive") || len(s.writes()) != 0 {
			t.Errorf("%s: %v of class %s", name, e, e.Class())
		}
	}
}

func TestLongTextsAreFitted(t *testing.T) {
	t.Parallel()
	long := "https://x.example/?" + strings.Repeat("a", 600)
	s := hive(t, "5.6.0", "", nil)
	must[Ensured](t, s.open(), plainCase("alert.ensure", with("title", strings.Repeat("é ", 400)), with("url", long),
		with("description", strings.Repeat("x", 1200000)), with("tags", []string{strings.Repeat("t", 300), "a\nb", " "}),
		with("observables", []map[string]any{{"dataType": "url", "data": "https://x.example/" + strings.Repeat("b", 5000)}, {"dataType": "ip", "data": " "}})))
	body := s.body(routeAlert)
	if n := units(body["title"].(string)); n > maxTitle || n < maxTitle-2 {
		t.Errorf("title of %d", n)
	}
	if n := units(body["description"].(string)); n > maxMessage || !strings.HasSuffix(body["description"].(string), "than TheHive takes.") {
		t.Errorf("description of %d", n)
	}
	if _, ok := body["externalLink"]; ok {
		t.Error("a link over the limit is sent")
	}
	if diff := cmp.Diff([]any{"casewire", strings.Repeat("t", 128), "a b"}, body["tags"]); diff != "" {
		t.Error(diff)
	}
	obs := body["observables"].([]any)
	if len(obs) != 1 {
		t.Fatalf("%d observables", len(obs))
	}
	o := obs[0].(map[string]any)
	if o["dataType"] != "other" || units(o["data"].(string)) != maxData || !strings.Contains(o["message"].(string), strings.Repeat("b", 5000)) {
		t.Errorf("observable %v of %d", o["dataType"], units(o["data"].(string)))
	}
}

func TestConcurrentCallsShareWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := hive(t, "5.6.0", "", nil)
	h := s.open()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := h.Do(t.Context(), plainCase("alert.ensure")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, r := range s.asked() {
		if r == routeStatus {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the status was asked %d times", n)
	}
}

func TestInputMistakes(t *testing.T) {
	t.Parallel()
	s := hive(t, "5.6.0", "", nil)
	h := s.open()
	for field, value := range map[string]any{"title": " \n", "tlp": "purple", "pap": "amber+strict", "url": "file:///x"} {
		_, err := do[Ensured](t, h, plainCase("case.ensure", with(field, value)))
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || len(e.Violations) != 1 || e.Violations[0].Field != "/"+field {
			t.Errorf("%s: %v of class %s", field, e, e.Class())
		}
	}
	c := plainCase("case.ensure")
	c.Prior = json.RawMessage(`"text"`)
	_, err := do[Ensured](t, h, c)
	if e := asError(t, err); e.Class() != plugin.ClassInvalid {
		t.Errorf("prior: %v", e)
	}
}
