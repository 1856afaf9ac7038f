package sentinel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func (b *bench) incident(title string, more ...string) string {
	b.t.Helper()
	id, err := b.graph.AddIncident([]byte(fmt.Sprintf(`{"displayName":%q,"severity":"high"%s}`, title, strings.Join(more, ""))))
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// alertIn adds an alert of an incident.
func (b *bench) alertIn(incident string, evidence ...string) string {
	b.t.Helper()
	id, err := b.graph.AddAlertNow(fmt.Appendf(nil, `{"title":"an alert","severity":"high","incidentId":%q,"evidence":[%s]}`, incident, strings.Join(evidence, ",")))
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

const (
	ipEvidence   = `{"@odata.type":"#microsoft.graph.security.ipEvidence","ipAddress":"45.33.32.156","verdict":"malicious"}`
	userEvidence = `{"@odata.type":"#microsoft.graph.security.userEvidence","verdict":"suspicious","userAccount":{"accountName":"mia","userPrincipalName":"mia@contoso.example"}}`
)

// take polls a trigger and returns its events and the cursor behind them.
func (b *bench) take(trigger string, cursor any) ([]sdk.Event, any) {
	b.t.Helper()
	pages, err := b.Poll(b.t.Context(), trigger, cursor)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []sdk.Event
	for _, p := range pages {
		for i := range p.Events {
			if err := p.Events[i].Check(); err != nil {
				b.t.Error(err)
			}
		}
		if len(p.Rejected) > 0 {
			b.t.Errorf("rejected: %+v", p.Rejected)
		}
		out = append(out, p.Events...)
		cursor = p.Cursor
	}
	return out, cursor
}

func finding(t *testing.T, ev sdk.Event) *ocsf.IncidentFinding {
	t.Helper()
	var f ocsf.IncidentFinding
	if err := json.Unmarshal(ev.Data, &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

func TestIncidentsComeOnceAndAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"page_size": 3})
	want := map[string]bool{}
	for i := range 10 {
		want[b.incident(fmt.Sprint("i", i))] = true
	}
	evs, cur := b.take("incidents", nil)
	for _, e := range evs {
		if !want[e.Subject] {
			t.Errorf("%s came twice, or from nowhere", e.Subject)
		}
		delete(want, e.Subject)
	}
	if len(want) > 0 {
		t.Errorf("did not come: %v", want)
	}
	if again, _ := b.take("incidents", cur); len(again) > 0 {
		t.Errorf("%d came again", len(again))
	}
	// An alert that joins an incident changes it, even where nothing else of it does.
	a := b.alertIn(evs[4].Subject, ipEvidence)
	if err := b.graph.UpdateIncident(evs[7].Subject, map[string]any{"status": "resolved", "classification": "truePositive", "determination": "phishing"}); err != nil {
		t.Fatal(err)
	}
	got, cur := b.take("incidents", cur)
	if len(got) != 2 {
		t.Fatalf("%d came, want the one with the new alert and the closed one", len(got))
	}
	for _, e := range got {
		f := finding(t, e)
		switch e.Subject {
		case evs[4].Subject:
			if r := f.FindingInfoList[0].RelatedEvents; len(r) != 1 || r[0].UID != a || r[0].Type != "alert" {
				t.Errorf("its alerts: %+v", r)
			}
			if len(f.Observables) != 1 || f.Observables[0].Value != "45.33.32.156" {
				t.Errorf("its observables: %+v", f.Observables)
			}
		case evs[7].Subject:
			if f.ActivityID != ocsf.ActivityClose || *f.VerdictID != ocsf.VerdictTruePositive || *f.StatusID != 4 {
				t.Errorf("closed: activity %d, verdict %d, status %d", f.ActivityID, *f.VerdictID, *f.StatusID)
			}
		default:
			t.Errorf("%s came", e.Subject)
		}
	}
	if again, _ := b.take("incidents", cur); len(again) > 0 {
		t.Errorf("%d came again", len(again))
	}
}

func TestMergedIncidents(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	from, into := b.incident("from"), b.incident("into")
	a := b.alertIn(from, ipEvidence)
	alerts, alertCur := b.take("alerts", nil)
	_, cur := b.take("incidents", nil)
	if moved, err := b.graph.MergeIncidents(from, into); err != nil || moved != 1 {
		t.Fatalf("%d moved, %v", moved, err)
	}
	got, _ := b.take("incidents", cur)
	if len(got) != 2 {
		t.Fatalf("%d incidents came, want both", len(got))
	}
	tenant := strings.ToLower(b.graph.Tenant())
	for _, e := range got {
		f := finding(t, e)
		var rest struct{ RedirectIncidentID string }
		if err := json.Unmarshal(f.Unmapped, &rest); err != nil && len(f.Unmapped) > 0 {
			t.Fatal(err)
		}
		switch e.Subject {
		case from:
			if rest.RedirectIncidentID != into || *f.VerdictID != ocsf.VerdictDuplicate || *f.StatusID != 5 {
				t.Errorf("redirected to %q, verdict %d, status %d", rest.RedirectIncidentID, *f.VerdictID, *f.StatusID)
			}
			if e.CorrelationID != "msincident:"+tenant+":"+into || e.PartitionKey != "msincident:"+tenant+":"+from || len(e.Aliases) > 0 {
				t.Errorf("keys %q, %q, %v", e.CorrelationID, e.PartitionKey, e.Aliases)
			}
		case into:
			if r := f.FindingInfoList[0].RelatedEvents; len(r) != 1 || r[0].UID != a {
				t.Errorf("the alert did not move: %+v", r)
			}
		}
	}
	// The alert moved without having changed itself: that is a new revision of the same object.
	moved, alertCur := b.take("alerts", alertCur)
	if len(moved) != 1 || moved[0].CorrelationID != "msincident:"+tenant+":"+into || moved[0].PartitionKey != alerts[0].PartitionKey ||
		moved[0].Rev != alerts[0].Rev || moved[0].Digest == alerts[0].Digest || moved[0].ID == alerts[0].ID {
		t.Errorf("the alert: %+v, before %+v", moved, alerts)
	}
	if again, _ := b.take("alerts", alertCur); len(again) > 0 {
		t.Errorf("it came again: %+v", again)
	}
	// Who writes to the incident that is gone reaches the one that goes on.
	var up struct {
		ID             string
		RedirectedFrom string `json:"redirected_from"`
		Changed        bool
	}
	if err := b.Call(t.Context(), "incident.update", settings{"incident": from, "status": "inProgress"}, &up); err != nil || up.ID != into || up.RedirectedFrom != from || !up.Changed {
		t.Errorf("update: %+v, %v", up, err)
	}
}

func TestIncidentActions(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	id := b.incident("one", `,"customTags":["keep","drop"],"assignedTo":"ana@contoso.example"`)
	a := b.alertIn(id, ipEvidence, userEvidence)
	var got struct {
		Title    string
		Tags     []string
		AlertIDs []string `json:"alert_ids"`
		Raw      map[string]any
	}
	if err := b.Call(t.Context(), "incident.get", settings{"incident": id}, &got); err != nil || got.Title != "one" ||
		!slices.Equal(got.AlertIDs, []string{a}) || got.Raw["displayName"] != "one" || got.Raw["alerts"] != nil {
		t.Errorf("get: %+v, %v", got, err)
	}
	var list struct {
		Rows  []map[string]any
		Count int
	}
	if err := b.Call(t.Context(), "incident.list", settings{"filter": "severity eq 'high'"}, &list); err != nil || list.Count != 1 || len(list.Rows) != 1 {
		t.Errorf("list: %+v, %v", list, err)
	}
	for action, in := range map[string]settings{"incident.entities": {"incident": id}, "alert.entities": {"alert": a}} {
		var e struct {
			IPs, Users []string
			Alerts     int
			Entities   []struct{ Value, Verdict, Alert string }
		}
		if err := b.Call(t.Context(), action, in, &e); err != nil || !slices.Equal(e.IPs, []string{"45.33.32.156"}) ||
			!slices.Equal(e.Users, []string{"mia@contoso.example", "mia"}) || e.Alerts != 1 {
			t.Errorf("%s: %+v, %v", action, e, err)
		} else if x := e.Entities[0]; x.Verdict != "True Positive" || x.Alert != a {
			t.Errorf("%s: %+v", action, x)
		}
	}
	update := func(in settings) (out struct {
		Status  string
		Tags    []string
		Changed bool
	},
	) {
		t.Helper()
		in["incident"] = id
		if err := b.Call(t.Context(), "incident.update", in, &out); err != nil {
			t.Error(err)
		}
		return out
	}
	for i, want := range []bool{true, false} { // idempotent: the second time nothing is written
		up := update(settings{
			"status": "resolved", "verdict_id": 2, "add_tags": []string{"IR-204", "KEEP"}, "remove_tags": []string{"drop"},
			"unassign": true, "resolving_comment": "done",
		})
		if up.Changed != want || up.Status != "resolved" || !slices.Equal(up.Tags, []string{"keep", "IR-204"}) || b.graph.IncidentLedger(id).Patches != 1 {
			t.Errorf("update %d: %+v, %d patches", i+1, up, b.graph.IncidentLedger(id).Patches)
		}
	}
	raw, _ := b.graph.Incident(id)
	var now struct {
		Classification, Determination, ResolvingComment string
		AssignedTo                                      *string
	}
	if err := json.Unmarshal(raw, &now); err != nil || now.Classification != "truePositive" || now.Determination != "other" || now.ResolvingComment != "done" || now.AssignedTo != nil {
		t.Errorf("%s, %v", raw, err)
	}
	for _, tc := range []struct {
		in   settings
		says string
	}{
		{settings{}, "nothing to update"},
		{settings{"determination": "clean-ish"}, "determination"},
		{settings{"verdict_id": 2, "classification": "truePositive"}, "verdict_id"},
		{settings{"unassign": true, "assigned_to": "x"}, "unassign"},
		{settings{"status": "redirected"}, "status"},
		{settings{"reason": "SuspiciousActivity"}, "reason"},
	} {
		tc.in["incident"] = id
		err := b.Call(t.Context(), "incident.update", tc.in, nil)
		var e *sdk.Error
		if !errors.As(err, &e) || e.Code != codes.InvalidArgument || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: %v, want a word about %s", tc.in, err, tc.says)
		}
	}
	// Severity can be all that is to change.
	for _, want := range []bool{true, false} {
		if up := update(settings{"severity": "low"}); up.Changed != want {
			t.Errorf("severity: changed %v, want %v", up.Changed, want)
		}
	}
	if raw, _ = b.graph.Incident(id); !strings.Contains(string(raw), `"severity":"low"`) {
		t.Errorf("the severity stayed: %s", raw)
	}
	// A verdict that Graph has no words for is not written.
	if up := update(settings{"verdict_id": 10}); up.Changed {
		t.Error("a duplicate was written")
	}
}

func TestAlertUpdateWritesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	id := b.alert("a")
	for i, want := range []bool{true, false} {
		var up struct {
			Changed bool
			Status  string
		}
		err := b.Call(t.Context(), "alert.update", settings{"alert": id, "status": "resolved", "determination": "compromisedUser", "classification": "truePositive"}, &up)
		if err != nil || up.Changed != want || up.Status != "resolved" {
			t.Errorf("%d: %+v, %v", i+1, up, err)
		}
	}
	if l := b.graph.Ledger().ByAlert[id]; l.Patches != 1 {
		t.Errorf("%d patches", l.Patches)
	}
}

func TestIncidentCommentOncePerKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	id := b.incident("a")
	comment := func(c sdktest.Call) (*sdktest.Result, error) {
		c.Action, c.Input = "incident.comment", settings{"incident": id, "text": "Case 1"}
		return b.Do(t.Context(), c)
	}
	before, cur := b.take("incidents", nil)
	b.graph.FailNext(azurefake.RouteIncidentComment, azurefake.LostAnswer, 1)
	_, err := comment(sdktest.Call{Key: "k"})
	var e *sdk.Error
	if !errors.As(err, &e) || e.Class() != "uncertain" {
		t.Fatalf("got %v, want an uncertain outcome", err)
	}
	// Even who does not ask what became of it adds no second one.
	for _, c := range []sdktest.Call{{Key: "k", Resolve: true, FirstSent: time.Now()}, {Key: "k", Attempt: 2}} {
		if _, err := comment(c); err != nil {
			t.Error(err)
		}
	}
	if n := len(b.graph.IncidentComments(id)); n != 1 {
		t.Errorf("%d comments", n)
	}
	for age, reason := range map[time.Duration]string{0: "UNRESOLVED", time.Minute: "ABSENT"} {
		_, err := comment(sdktest.Call{Key: "other", Resolve: true, FirstSent: time.Now().Add(-age)})
		if !errors.As(err, &e) || e.Reason != reason {
			t.Errorf("after %v: %v, want %q", age, err, reason)
		}
	}
	// Our own comment is a new revision, and no news.
	echo, _ := b.take("incidents", cur)
	if len(echo) != 1 || echo[0].Digest != before[0].Digest || echo[0].ID == before[0].ID {
		t.Errorf("echo %+v", echo)
	}
}

func TestHunting(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	rows := make([]map[string]any, 5)
	for i := range rows {
		rows[i] = map[string]any{"FileName": "a.exe", "Ticks": json.Number(fmt.Sprint(9007199254740993 + i))}
	}
	b.graph.SetHunting("Q", []azurefake.HuntingColumn{{Name: "FileName", Type: "String"}, {Name: "Ticks", Type: "Int64"}}, rows)
	var out struct {
		RowCount  int `json:"row_count"`
		Truncated bool
		Columns   []struct{ Name, Type string }
	}
	res, err := b.Do(t.Context(), sdktest.Call{Action: "hunting.query", Input: settings{"query": "Q", "timespan": "P7D", "max_rows": 3}})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(res.Output, &out); err != nil || out.RowCount != 3 || !out.Truncated || len(out.Columns) != 2 {
		t.Errorf("%s, %v", res.Output, err)
	}
	if !strings.Contains(string(res.Output), "9007199254740995") {
		t.Errorf("a number was rounded: %s", res.Output)
	}
	if got := b.graph.Hunted(); len(got) != 1 || got[0] != "Q\nP7D" {
		t.Errorf("asked %q", got)
	}
	res, err = b.Do(t.Context(), sdktest.Call{Action: "hunting.query", Input: settings{"query": "Q", "max_rows": 3, "map": settings{"process.name": "FileName", "ticks": "Ticks", "no": "None"}}})
	if err != nil || len(res.Rows) != 3 || string(res.Rows[0]) != `{"no":null,"process":{"name":"a.exe"},"ticks":9007199254740993}` {
		t.Errorf("mapped: %s, %v", res.Rows, err)
	}
	for _, want := range []string{`"warnings":["map: the result has no column None`, `"truncated":true`, `{"name":"ticks","type":"Int64"}`} {
		if !strings.Contains(string(res.Output), want) {
			t.Errorf("mapped: %s is not in %s", want, res.Output)
		}
	}
	// A value is bound, and never becomes part of the query.
	b.graph.SetHunting("let x = \"a\\\" | take 1 // \";\nT | where N == x", nil, rows[:1])
	err = b.Call(t.Context(), "hunting.query", settings{"query": "T | where N == x", "params": settings{"x": `a" | take 1 // `}}, nil)
	if err != nil {
		t.Errorf("bound: %v; asked %q", err, b.graph.Hunted())
	}
	b.graph.RefuseHunting("cpu", http.StatusTooManyRequests, "TooManyRequests", "CPU resource allotted to this tenant has run out.")
	for query, want := range map[string]struct {
		code codes.Code
		says string
	}{
		"bad": {codes.InvalidArgument, "Failed to resolve"},
		"cpu": {codes.ResourceExhausted, "quarter of an hour"},
	} {
		err := b.Call(t.Context(), "hunting.query", settings{"query": query}, nil)
		var e *sdk.Error
		if !errors.As(err, &e) || e.Code != want.code || !strings.Contains(err.Error(), want.says) || e.RequestID == "" {
			t.Errorf("%s: %v", query, err)
		}
		if query == "cpu" && (e == nil || e.RetryAfter < time.Minute) {
			t.Error("nobody says how long to wait")
		}
	}
}
