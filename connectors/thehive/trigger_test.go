package thehive

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// clock is a clock that the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func pollCases(t *testing.T, h *sdktest.Harness, cursor any) ([]sdk.Event, []sdk.Rejected, json.RawMessage) {
	t.Helper()
	pages, err := h.Poll(t.Context(), casesTrigger, cursor)
	if err != nil {
		t.Fatal(err)
	}
	var events []sdk.Event
	var rejected []sdk.Rejected
	last, _ := cursor.(json.RawMessage)
	for _, p := range pages {
		events, rejected, last = append(events, p.Events...), append(rejected, p.Rejected...), p.Cursor
	}
	return events, rejected, last
}

func TestPollBringsEveryChangeOnce(t *testing.T) {
	t.Parallel()
	now := &clock{time.Now().Add(-30 * time.Minute).Truncate(time.Millisecond)}
	fake, h := fakeHive(t, hivefake.Options{Now: now.now}, func(c *Config) { c.Cases = &Cases{PageSize: 3, Lookback: time.Hour, Overlap: time.Minute} })
	// Many at the same moment: no page border may lose or double one.
	var ids []string
	for i := range 10 {
		c := plainCase("case.ensure", func(c *sdktest.Call) { c.Key = fmt.Sprint(i) }, with("origin", fmt.Sprintf("alert:a%d", i)))
		ids = append(ids, must[Ensured](t, h, c).ID)
		if i%4 == 3 {
			now.t = now.t.Add(time.Second)
		}
	}
	events, _, cur := pollCases(t, h, nil)
	var got []string
	for _, e := range events {
		got = append(got, e.Subject)
	}
	slices.Sort(got)
	slices.Sort(ids)
	if diff := cmp.Diff(ids, got); diff != "" {
		t.Fatalf("cases (-want +got):\n%s", diff)
	}
	if again, _, c := pollCases(t, h, cur); len(again) != 0 {
		t.Errorf("again: %d", len(again))
	} else if c != nil {
		cur = c
	}
	// Seven change at one moment, then one more.
	now.t = now.t.Add(10 * time.Minute)
	for _, id := range ids[:7] {
		person(t, fake, "PATCH", "/case/"+id, map[string]any{"status": "TruePositive", "summary": "bad"})
	}
	events, _, cur = pollCases(t, h, cur)
	if len(events) != 7 {
		t.Errorf("%d changes", len(events))
	}
	now.t = now.t.Add(time.Millisecond)
	person(t, fake, "PATCH", "/case/"+ids[9], map[string]any{"assignee": "casewire@example.com", "severity": 4})
	if events, _, _ = pollCases(t, h, cur); len(events) != 1 || events[0].Subject != ids[9] {
		t.Errorf("then: %v", events)
	}
}

// TestACaseAheadOfItsDayHidesNone: TheHive's clock was ahead for a while.
func TestACaseAheadOfItsDayHidesNone(t *testing.T) {
	t.Parallel()
	now := &clock{time.Now().Add(48 * time.Hour)}
	_, h := fakeHive(t, hivefake.Options{Now: now.now})
	must[Ensured](t, h, plainCase("case.ensure", func(c *sdktest.Call) { c.Key = "ahead" }))
	events, _, cur := pollCases(t, h, nil)
	if len(events) != 1 {
		t.Fatalf("%d cases", len(events))
	}
	now.t = now.t.Add(-48 * time.Hour)
	next := must[Ensured](t, h, plainCase("case.ensure", func(c *sdktest.Call) { c.Key = "next" })).ID
	if events, _, _ = pollCases(t, h, cur); len(events) != 1 || events[0].Subject != next {
		t.Errorf("%d cases, want %s", len(events), next)
	}
}

func TestOwnWritesAreNoNews(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{CustomFields: []hivefake.CustomField{{Name: "tenant", Type: "string"}}})
	first := must[Ensured](t, h, plainCase("case.ensure", with("origin", "alert:1")))
	before, _, _ := pollCases(t, h, nil)
	c := plainCase("case.ensure", with("tags", []string{"more"}), with("comment_on_update", "news"), with("custom_fields", map[string]any{"tenant": "x"}),
		with("observables", []map[string]any{{"dataType": "ip", "data": "192.0.2.9"}}))
	c.Prior = first
	if got := must[Ensured](t, h, c); !got.Updated {
		t.Fatalf("%+v", got)
	}
	after, _, _ := pollCases(t, h, nil)
	if len(before) != 1 || len(after) != 1 || before[0].Digest != after[0].Digest || before[0].PartitionKey != after[0].PartitionKey {
		t.Errorf("digests of %v and %v", before, after)
	}
	for _, change := range []map[string]any{{"title": "x"}, {"severity": 4}, {"status": "InProgress"}, {"status": "TruePositive"}, {"summary": "s"}, {"status": "Other"}} {
		last := after[0].Digest
		person(t, fake, "PATCH", "/case/"+first.ID, change)
		if after, _, _ = pollCases(t, h, nil); len(after) != 1 || after[0].Digest == last {
			t.Errorf("%v is no news", change)
		}
	}
}

func TestCaseEvent(t *testing.T) {
	t.Parallel()
	c := &Client{site: "https://TheHive.corp.example", host: "thehive.corp.example"}
	c.server.Store(&server{})
	base := object{
		ID: "~41000", Number: 77, Title: "Loader", Description: "d", Severity: 3, TLP: 4, PAP: 3, Status: "TruePositive", Stage: stageClosed,
		ImpactStatus: "NoImpact", Summary: "Loader removed.", Assignee: "ana@corp.example", StartDate: 5, EndDate: 6, CreatedAt: 1793103600000,
		UpdatedAt: 1793116000500, Tags: []string{"casewire", "casewire:origin=alert:da1_-2"},
		CustomFields: []fieldValue{{Name: "tenant", Value: json.RawMessage(`"contoso"`)}, {Name: "empty", Value: json.RawMessage("null")}},
	}
	ev, err := c.event(&base)
	if err != nil || ev.Check() != nil {
		t.Fatal(err, ev.Check())
	}
	validOCSF(t, &ev)
	if ev.Source != "https://thehive.corp.example/api/v1/case" || ev.PartitionKey != "case:thehive:thehive.corp.example:~41000" || ev.TLP != "RED" || ev.PAP != "RED" {
		t.Errorf("envelope: %+v", ev)
	}
	var got map[string]any
	if err := json.Unmarshal(ev.Data, &got); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"activity_id": 3.0, "severity_id": 4.0, "status_id": 5.0, "status": "Closed", "status_code": "TruePositive", "verdict_id": 2.0,
		"verdict": "True Positive", "comment": "Loader removed.", "impact": "NoImpact", "impact_id": 99.0, "time": 1793116000500.0,
		"assignee": map[string]any{"name": "ana@corp.example", "email_addr": "ana@corp.example", "type_id": 1.0, "type": "User"},
		"unmapped": map[string]any{
			"tlp": 4.0, "pap": 3.0, "stage": "Closed", "number": 77.0, "flag": false, "impactStatus": "NoImpact",
			"customFields": map[string]any{"tenant": "contoso"}, "casewire": map[string]any{"origin": "alert:da1_-2"},
		},
		"finding_info_list": []any{map[string]any{"uid": "da1_-2", "title": "Loader", "created_time": 1793103600000.0, "modified_time": 1793116000500.0}},
	} {
		if diff := cmp.Diff(want, got[path]); diff != "" {
			t.Errorf("%s:\n%s", path, diff)
		}
	}
	for name, tt := range map[string]struct {
		change                    func(*object)
		activity, status, verdict float64
		text                      string
	}{
		"new":         {func(o *object) { o.Status, o.Stage, o.UpdatedAt, o.Assignee = "New", stageNew, 0, "" }, 1, 1, 0, "Unknown"},
		"in progress": {func(o *object) { o.Status, o.Stage = "Triage", stageInProgress }, 2, 2, 0, "Unknown"},
		"benign":      {func(o *object) { o.Status = "FalsePositive" }, 3, 5, 1, "False Positive"},
		"unclear":     {func(o *object) { o.Status = "Indeterminate" }, 3, 5, 7, "Insufficient Data"},
		"duplicate":   {func(o *object) { o.Status = "Duplicated" }, 3, 5, 10, "Duplicate"},
		"other":       {func(o *object) { o.Status = "Other" }, 3, 5, 99, "Other"},
		"homemade":    {func(o *object) { o.Status = "Red team" }, 3, 5, 99, "Red team"},
		"odd stage":   {func(o *object) { o.Status, o.Stage = "X", "Later" }, 2, 99, 0, "Unknown"},
		"giant":       {func(o *object) { o.Description, o.Summary = strings.Repeat("é", 600000), strings.Repeat("x", 1000000) }, 3, 5, 2, "True Positive"},
	} {
		o := base
		tt.change(&o)
		ev, err := c.event(&o)
		if err != nil || ev.Check() != nil {
			t.Fatal(name, err, ev.Check())
		}
		validOCSF(t, &ev)
		var got struct {
			Activity float64 `json:"activity_id"`
			Status   float64 `json:"status_id"`
			Verdict  float64 `json:"verdict_id"`
			Text     string  `json:"verdict"`
		}
		if err := json.Unmarshal(ev.Data, &got); err != nil || got.Activity != tt.activity || got.Status != tt.status || got.Verdict != tt.verdict || got.Text != tt.text {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestMergedOriginsAreAllKept(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{})
	a := must[Ensured](t, h, plainCase("case.ensure", with("origin", "alert:b"), func(c *sdktest.Call) { c.Key = "1" }))
	b := must[Ensured](t, h, plainCase("case.ensure", with("origin", "incident:a"), func(c *sdktest.Call) { c.Key = "2" }))
	merged := person(t, fake, "POST", "/case/_merge/"+a.ID+","+b.ID, nil)
	events, _, _ := pollCases(t, h, nil)
	var got struct {
		Unmapped struct {
			Casewire struct {
				Origin  string   `json:"origin"`
				Origins []string `json:"origins"`
			} `json:"casewire"`
		} `json:"unmapped"`
	}
	if len(events) != 1 || events[0].Subject != merged["_id"] || json.Unmarshal(events[0].Data, &got) != nil {
		t.Fatalf("events %v of %v", events, merged["_id"])
	}
	if o := got.Unmapped.Casewire; o.Origin != "alert:b" || !cmp.Equal(o.Origins, []string{"alert:b", "incident:a"}) {
		t.Errorf("origins %+v", o)
	}
	// Later news go to the merged case.
	c := plainCase("case.ensure", with("title", "News"), func(c *sdktest.Call) { c.Key, c.Prior = "2", b })
	if later := must[Ensured](t, h, c); later.ID != merged["_id"] || later.Created {
		t.Errorf("later: %+v", later)
	}
}

func TestNotifications(t *testing.T) {
	t.Parallel()
	const audit = `{"_id":"~57496","_type":"Audit","action":"update","objectType":"Case","objectId":"~200","object":{"title":"lies"},"requestId":"r"}`
	bearer := func(c *Config) { c.Webhook = &Webhook{Bearer: plugin.NewSecret("a-shared-secret")} }
	for name, tt := range map[string]struct {
		config  func(*Config)
		header  http.Header
		body    string
		status  int
		hints   []string
		refused map[string]int
	}{
		"off":          {func(*Config) {}, nil, audit, 404, nil, map[string]int{"webhook_off": 1}},
		"nobody":       {bearer, nil, audit, 401, nil, map[string]int{"unauthorized": 1}},
		"somebody":     {bearer, http.Header{"Authorization": {"Bearer other"}}, audit, 401, nil, map[string]int{"unauthorized": 1}},
		"bearer":       {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, audit, 202, []string{"case/~200"}, nil},
		"several":      {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, "[" + audit + "," + audit + "]", 202, []string{"case/~200", "case/~200"}, nil},
		"version 0":    {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, `{"operation":"Update","objectType":"case","objectId":"~9","rootId":"~9","details":{}}`, 202, []string{"case/~9"}, nil},
		"observable":   {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, `{"action":"create","objectType":"Observable","objectId":"~9"}`, 202, nil, map[string]int{"other_object": 1}},
		"deleted":      {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, `{"action":"delete","objectType":"Case","objectId":"~9"}`, 202, nil, map[string]int{"deleted": 1}},
		"strange id":   {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, `{"action":"update","objectType":"Case","objectId":"../../x"}`, 202, nil, map[string]int{"no_id": 1}},
		"another body": {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, `{"hello":1}`, 400, nil, map[string]int{"not_a_notification": 1}},
		"wrong types":  {bearer, http.Header{"Authorization": {"Bearer a-shared-secret"}}, `{"objectType":1}`, 400, nil, map[string]int{"not_a_notification": 1}},
		"basic": {
			func(c *Config) { c.Webhook = &Webhook{Basic: &BasicAuth{"hive", plugin.NewSecret("pw-of-the-hive")}} },
			http.Header{"Authorization": {"Basic aGl2ZTpwdy1vZi10aGUtaGl2ZQ=="}},
			audit, 202,
			[]string{"case/~200"},
			nil,
		},
		"header": {
			func(c *Config) {
				c.Webhook = &Webhook{Header: &SecretHeader{"X-Casewire", plugin.NewSecret("in-the-header")}}
			},
			http.Header{"X-Casewire": {"in-the-header"}},
			audit, 202,
			[]string{"case/~200"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, nil)
			resp, err := s.open(tt.config).Hook(t.Context(), casesTrigger, &sdk.HookRequest{Header: tt.header, Body: []byte(tt.body)})
			if err != nil {
				t.Fatal(err)
			}
			var hints []string
			for _, h := range resp.Hints {
				hints = append(hints, h.ID)
			}
			if resp.Status != tt.status || !cmp.Equal(hints, tt.hints) || !cmp.Equal(resp.Refused, tt.refused) || len(resp.Events) != 0 {
				t.Errorf("%d, hints %v, refused %v", resp.Status, hints, resp.Refused)
			}
		})
	}
}

func TestHintsAreLookedUp(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{}, func(c *Config) { c.Cases = &Cases{Tag: "casewire"} })
	made := must[Ensured](t, h, plainCase("case.ensure"))
	foreign := person(t, fake, "POST", "/case", map[string]any{"title": "t", "description": "d"})["_id"].(string)
	hint := func(id string, attempt int) sdk.Hint {
		return sdk.Hint{ID: "case/" + id + fmt.Sprint(attempt), Data: json.RawMessage(`{"case":"` + id + `"}`), Attempt: attempt}
	}
	out, err := h.Resolve(t.Context(), casesTrigger, hint(made.ID, 1), hint(foreign, 1), hint("~1", 1), hint("~1", 5), sdk.Hint{ID: "odd", Data: json.RawMessage(`{"case":"../x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if len(out[0].Events) != 1 || out[0].Events[0].Subject != made.ID {
		t.Errorf("ours: %+v", out[0])
	}
	if out[1].Err != nil || len(out[1].Events) != 0 {
		t.Errorf("foreign: %+v", out[1])
	}
	if out[2].Err == nil || out[2].Err.Class() != plugin.ClassNotFound || out[3].Err != nil || out[4].Err == nil {
		t.Errorf("gone: %+v, %+v, %+v", out[2], out[3], out[4])
	}
	polled, _, _ := pollCases(t, h, nil)
	if len(polled) != 1 || polled[0].ID != out[0].Events[0].ID {
		t.Errorf("the poll says %v", polled)
	}
}

func TestTheCursorStaysSmall(t *testing.T) {
	t.Parallel()
	list := make([]string, 6000)
	now := time.Now().UnixMilli()
	for i := range list {
		list[i] = fmt.Sprintf(`{"_id":"~%d","number":%d,"title":"%s","stage":"New","status":"New","severity":2,"_createdAt":%d}`, i+1, i+1, strings.Repeat("t", 300), now-6000+int64(i))
	}
	odd := []string{`{"_id":"~7","number":"seven","_createdAt":1}`, `{"_id":"../x","_createdAt":5}`}
	s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{routeQuery: func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query []struct {
				From, To int
				Gte      struct {
					Field string `json:"_field"`
					Value int64  `json:"_value"`
				} `json:"_gte"`
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || len(q.Query) < 4 {
			answer(200, "[]")(w, r)
			return
		}
		var page []string
		if q.Query[1].Gte.Field == "_createdAt" {
			first := max(0, q.Query[1].Gte.Value-(now-6000))
			page = list[min(len(list), int(first)+q.Query[3].From):min(len(list), int(first)+q.Query[3].To)]
		} else if q.Query[3].From == 0 {
			page = odd
		}
		answer(200, "["+strings.Join(page, ",")+"]")(w, r)
	}})
	h := s.open(func(c *Config) { c.Cases = &Cases{PageSize: 500} })
	events, rejected, cur := pollCases(t, h, nil)
	if len(events) != len(list) || len(rejected) != 2 || len(cur) > plugin.MaxCursor {
		t.Errorf("%d events, %d rejected, a cursor of %d bytes", len(events), len(rejected), len(cur))
	}
	if events, rejected, _ = pollCases(t, h, cur); len(events) > len(list)-maxSeen+len(odd) || len(rejected) != 0 {
		t.Errorf("again: %d events, %d rejected", len(events), len(rejected))
	}
}
