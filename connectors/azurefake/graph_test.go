package azurefake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const base = "/v1.0/security/alerts_v2"

func TestListPages(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newFake(t, Options{Now: clk.now})
	var want []string
	for i := range 120 {
		want = append(want, mustAdd(t, s, map[string]any{"id": fmt.Sprintf("a%03d", i)}))
		clk.advance(time.Second)
	}
	slices.Reverse(want) // newest first
	c := graph(t, s)
	var got []string
	pages := 0
	for next := base; next != ""; pages++ {
		body := c.want(200, "GET", next, nil)
		got = append(got, ids(body)...)
		next, _ = body["@odata.nextLink"].(string)
	}
	if pages != 3 || !slices.Equal(got, want) {
		t.Errorf("%d pages, %d ids in the wrong order or missing: %v", pages, len(got), got)
	}
	body := c.want(200, "GET", base+"?$top=2&$skip=1&$count=true&$orderby=createdDateTime+asc&$select=title", nil)
	if body["@odata.count"] != json.Number("120") || !slices.Equal(ids(body), []string{"a001", "a002"}) {
		t.Errorf("got %v", body)
	}
	for _, bad := range []string{"$top=0", "$top=x", "$skiptoken=xyz", "$orderby=title", "$expand=evidence", "$filter=title+eq+'x'"} {
		c.want(400, "GET", base+"?"+bad, nil)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	add := func(id, updated, severity, status string) {
		mustAdd(t, s, map[string]any{"id": id, "createdDateTime": "2026-01-01T00:00:00Z", "lastUpdateDateTime": updated, "severity": severity, "status": status, "assignedTo": nil})
	}
	add("a", "2026-11-01T00:00:00Z", "low", "new")
	add("c", "2026-11-03T00:00:00.1234567Z", "high", "inProgress")
	add("b", "2026-11-02T00:00:00Z", "medium", "resolved") // filed between the two
	c := graph(t, s)
	for _, tc := range []struct {
		filter string
		want   []string
	}{
		{"lastUpdateDateTime ge 2026-11-02T00:00:00Z", []string{"b", "c"}},
		{"lastUpdateDateTime gt 2026-11-02T00:00:00Z", []string{"c"}},
		{"lastUpdateDateTime lt 2026-11-02T00:00:00Z", []string{"a"}},
		{"lastUpdateDateTime le 2026-11-02T00:00:00Z and severity ne 'low'", []string{"b"}},
		{"lastUpdateDateTime eq 2026-11-03T00:00:00.1234567Z", []string{"c"}},
		{"createdDateTime ge 2026-01-01T00:00:00Z and not (status eq 'resolved')", []string{"a", "c"}},
		{"severity in ('low','high')", []string{"a", "c"}},
		{"severity eq 'low' or severity eq 'medium'", []string{"a", "b"}},
		{"(severity eq 'low' or lastUpdateDateTime ge 2026-11-03T00:00:00Z) and assignedTo eq null", []string{"a", "c"}},
		{"lastUpdateDateTime ge 2026-11-02T00:00:00Z or lastUpdateDateTime lt 2026-11-02T00:00:00Z", []string{"a", "b", "c"}},
		{"status eq 'it''s'", []string{}},
	} {
		body := c.want(200, "GET", base+"?$filter="+url.QueryEscape(tc.filter), nil)
		got := ids(body)
		slices.Sort(got)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.filter, got, tc.want)
		}
	}
	for _, bad := range []string{
		"severity eq low", "severity gt 'low'", "lastUpdateDateTime ge '2026-11-02T00:00:00Z'", "lastUpdateDateTime ge yesterday",
		"(severity eq 'low'", "severity eq 'low' severity", "severity in ()", "severity eq 'low", "and", "not",
	} {
		body := c.want(400, "GET", base+"?$filter="+url.QueryEscape(bad), nil)
		if code(body) != "BadRequest" {
			t.Errorf("%s: %v", bad, body)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"lastUpdateDateTime ge 2026-11-02T00:00:00Z", "not (a eq 'b''c')", "severity in ('a','b')", "((((", "'"} {
		f.Add(seed)
	}
	v := &version{rec: &record{}}
	f.Fuzz(func(_ *testing.T, src string) {
		if parsed, err := parseFilter(src); err == nil {
			parsed.match(v)
		}
	})
}

// TestUpdatesMoveInTheList: the poll recipe (everything since a time) sees an updated alert again, exactly once.
func TestUpdatesMoveInTheList(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newFake(t, Options{Now: clk.now})
	for i := range 200 {
		mustAdd(t, s, map[string]any{"id": fmt.Sprintf("a%03d", i)})
	}
	c := graph(t, s)
	for round := range 5 { // enough updates to sweep the index
		clk.advance(time.Minute)
		since := clk.now()
		for i := range 100 {
			if err := s.UpdateAlert(fmt.Sprintf("a%03d", i), map[string]any{"title": fmt.Sprint(round)}); err != nil {
				t.Fatal(err)
			}
		}
		body := c.want(200, "GET", base+"?$count=true&$top=1000&$filter=lastUpdateDateTime+ge+"+since.Format(time.RFC3339), nil)
		got := ids(body)
		slices.Sort(got)
		if len(slices.Compact(got)) != 100 || body["@odata.count"] != json.Number("100") {
			t.Fatalf("round %d: %d alerts", round, len(got))
		}
	}
	if body := c.want(200, "GET", base+"?$top=1000", nil); len(ids(body)) != 200 {
		t.Errorf("%d alerts in the whole list", len(ids(body)))
	}
	if n := len(s.alerts.byUpdated); n > 450 {
		t.Errorf("the index holds %d versions of 200 alerts", n)
	}
}

func TestLags(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newFake(t, Options{Now: clk.now})
	s.SetReadLag(time.Minute)
	s.SetListLag(2 * time.Minute)
	c := graph(t, s)
	mustAdd(t, s, map[string]any{"id": "x", "title": "old"})
	if body := c.want(404, "GET", base+"/x", nil); code(body) != "ResourceNotFound" {
		t.Errorf("got %v", body)
	}
	c.want(404, "PATCH", base+"/x", map[string]any{"status": "resolved"})
	clk.advance(time.Minute)
	c.want(200, "GET", base+"/x", nil)
	if got := ids(c.want(200, "GET", base, nil)); len(got) != 0 {
		t.Errorf("listed before its time: %v", got)
	}
	clk.advance(time.Minute)
	if err := s.UpdateAlert("x", map[string]any{"title": "new"}); err != nil {
		t.Fatal(err)
	}
	title := func() any {
		value := c.want(200, "GET", base+"?$filter=lastUpdateDateTime+ge+2026-01-01T00:00:00Z", nil)["value"].([]any)
		if len(value) != 1 {
			t.Fatalf("%d alerts", len(value))
		}
		return value[0].(map[string]any)["title"]
	}
	if got := title(); got != "old" {
		t.Errorf("the list shows %v before the lag is over", got)
	}
	if got := c.want(200, "GET", base+"/x", nil)["title"]; got != "new" {
		t.Errorf("get shows %v", got)
	}
	clk.advance(2 * time.Minute)
	if got := title(); got != "new" {
		t.Errorf("the list shows %v after the lag", got)
	}
}

func TestEnumMasking(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	mustAdd(t, s, map[string]any{"id": "x", "serviceSource": "microsoftSentinel", "detectionSource": "scheduledAlerts"})
	c := graph(t, s)
	for _, tc := range []struct{ prefer, service, detection string }{
		{"", "unknownFutureValue", "unknownFutureValue"},
		{"odata.maxpagesize=5, include-unknown-enum-members", "microsoftSentinel", "scheduledAlerts"},
	} {
		one := c.want(200, "GET", base+"/x", nil, "Prefer", tc.prefer)
		list := c.want(200, "GET", base, nil, "Prefer", tc.prefer)["value"].([]any)[0].(map[string]any)
		for _, alert := range []map[string]any{one, list} {
			if alert["serviceSource"] != tc.service || alert["detectionSource"] != tc.detection {
				t.Errorf("Prefer %q: %v %v", tc.prefer, alert["serviceSource"], alert["detectionSource"])
			}
		}
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	mustAdd(t, s, map[string]any{"id": "x"})
	c := graph(t, s)
	before := c.want(200, "GET", base+"/x", nil)
	after := c.want(200, "PATCH", base+"/x", map[string]any{"status": "resolved", "classification": "truePositive", "determination": "malware", "assignedTo": "ir@contoso.example"})
	if after["status"] != "resolved" || after["resolvedDateTime"] == nil || after["determination"] != "malware" {
		t.Errorf("got %v", after)
	}
	if !newerThan(t, after, before) {
		t.Error("lastUpdateDateTime did not move")
	}
	for _, bad := range []map[string]any{
		{"status": "closed"}, {"determination": "clean"}, {"title": "mine"}, {}, {"assignedTo": 5}, {"status": nil},
	} {
		c.want(400, "PATCH", base+"/x", bad)
	}
	c.want(200, "PATCH", base+"/x", map[string]any{"assignedTo": nil})
	c.want(404, "PATCH", base+"/nobody", map[string]any{"status": "new"})
	if led := s.Ledger().ByAlert["x"]; led.Patches != 2 {
		t.Errorf("ledger %+v", led)
	}
}

func newerThan(t *testing.T, a, b map[string]any) bool {
	t.Helper()
	var at [2]time.Time
	for i, m := range []map[string]any{a, b} {
		var err error
		if at[i], err = time.Parse(time.RFC3339Nano, m["lastUpdateDateTime"].(string)); err != nil {
			t.Fatal(err)
		}
	}
	return at[0].After(at[1])
}

func TestComments(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{AppName: "API-App:Other"})
	mustAdd(t, s, map[string]any{"id": "x", "comments": []any{map[string]any{"comment": "by hand", "createdByDisplayName": "Ann", "createdDateTime": "2026-01-01T00:00:00Z"}}})
	c := graph(t, s)
	before := c.want(200, "GET", base+"/x", nil)
	body := c.want(200, "POST", base+"/x/comments", map[string]any{"@odata.type": "microsoft.graph.security.alertComment", "comment": "Case <IR-204>"})
	value := body["value"].([]any)
	if len(value) != 2 || value[1].(map[string]any)["comment"] != "Case <IR-204>" || value[1].(map[string]any)["createdByDisplayName"] != "API-App:Other" {
		t.Errorf("got %v", body)
	}
	after := c.want(200, "GET", base+"/x", nil)
	if len(after["comments"].([]any)) != 2 || !newerThan(t, after, before) {
		t.Errorf("got %v", after)
	}
	c.want(400, "POST", base+"/x/comments", map[string]any{"comment": " "})
	c.want(400, "POST", base+"/x/comments", map[string]any{"comment": "x", "createdByDisplayName": "me"})
	c.want(404, "POST", base+"/y/comments", map[string]any{"comment": "x"})
	if got := s.Comments("x"); !slices.Equal(got, []string{"Case <IR-204>"}) {
		t.Errorf("ledger %v", got)
	}
}

func TestThrottleAndFaults(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newFake(t, Options{Now: clk.now, GraphPerMinute: 2})
	mustAdd(t, s, map[string]any{"id": "x"})
	mustAdd(t, s, map[string]any{"id": "y"})
	c := graph(t, s)
	c.want(200, "GET", base, nil)
	c.want(200, "GET", base, nil)
	resp, err := c.try("GET", base, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body := c.decode(resp); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "60" || code(body) != "TooManyRequests" {
		t.Errorf("got %d %v %v", resp.StatusCode, resp.Header, body)
	}
	clk.advance(time.Minute)

	s.SetFaults(Faults{RetryAfter: 90 * time.Second, Rates: map[string]map[Fault]float64{RouteAlertPatch: {Throttle: 1}}})
	resp, err = c.try("PATCH", base+"/x", map[string]any{"status": "resolved"})
	if err != nil {
		t.Fatal(err)
	}
	if c.decode(resp); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "90" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	s.SetFaults(Faults{})

	s.FailNext(RouteAlertPatch, LostAnswer, 1)
	if resp, err := c.try("PATCH", base+"/x", map[string]any{"status": "resolved"}); !errors.Is(err, io.ErrUnexpectedEOF) {
		_ = resp.Body.Close()
		t.Errorf("got %v", err)
	}
	if body, ok := s.Alert("x"); !ok || !json.Valid(body) || s.Ledger().ByAlert["x"].Patches != 1 {
		t.Error("the patch was to be executed before the connection went")
	}
	s.FailNext("read", Partial, 1)
	clk.advance(time.Minute)
	resp, err = c.try("GET", base, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body := c.decode(resp); resp.StatusCode != 206 || resp.Header.Get("Warning") == "" || len(ids(body)) != 1 {
		t.Errorf("got %d %v %v", resp.StatusCode, resp.Header, body)
	}
	if got := s.Ledger().Requests[RouteAlertPatch]; got["200-lost"] != 1 || got["429"] != 1 {
		t.Errorf("ledger %v", got)
	}
}

func TestAddAlertRefusals(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	mustAdd(t, s, map[string]any{"id": "x"})
	for _, bad := range []string{`[]`, `{`, `null`, `{"id":"x"}`, `{"id":"y","createdDateTime":"soon"}`, `{"id":"y","comments":{}}`} {
		if _, err := s.AddAlert([]byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	if err := s.UpdateAlert("nobody", nil); err == nil {
		t.Error("an unknown alert was updated")
	}
	if got := s.AlertIDs(); !slices.Equal(got, []string{"x"}) {
		t.Errorf("half an alert stayed behind: %v", got)
	}
}

// TestAgainstMetadata holds the names in the fake's answers against the v1.0 metadata, where that is at hand.
func TestAgainstMetadata(t *testing.T) {
	t.Parallel()
	model := metadata(t)
	s := newFake(t, Options{ShortSubscriptions: true, PushClient: &http.Client{Transport: echoing{}}})
	mustAdd(t, s, map[string]any{"id": "x"})
	c := graph(t, s)
	note := c.want(200, "POST", base+"/x/comments", map[string]any{"comment": "c"})["value"].([]any)[0].(map[string]any)
	sub := c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", time.Hour))
	alert := c.want(200, "GET", base+"/x", nil)
	for kind, got := range map[string]map[string]any{
		"microsoft.graph.security.alert": alert, "microsoft.graph.security.alertComment": note, "microsoft.graph.subscription": sub,
	} {
		for name := range got {
			if name != "id" && name[0] != '@' && !model.has(kind, name) {
				t.Errorf("%s has no %s", kind, name)
			}
		}
	}
	for name, want := range map[string]string{"serviceSource": "serviceSource", "detectionSource": "detectionSource"} {
		members := model["microsoft.graph.security."+want].Members
		for member, number := range members {
			if masked := slices.Contains(newer[name], member); masked != (number > members["unknownFutureValue"]) {
				t.Errorf("%s.%s: masked %v, number %d", name, member, masked, number)
			}
		}
	}
	for name, kind := range map[string]string{"status": "alertStatus", "classification": "alertClassification", "determination": "alertDetermination"} {
		for _, member := range patchable[name] {
			if _, ok := model["microsoft.graph.security."+kind].Members[member]; !ok {
				t.Errorf("%s has no %s", kind, member)
			}
		}
	}
}

type metaModel map[string]struct {
	Base       string
	Properties map[string]json.RawMessage
	Members    map[string]int
}

func (m metaModel) has(kind, name string) bool {
	for ; kind != ""; kind = m[kind].Base {
		if _, ok := m[kind].Properties[name]; ok {
			return true
		}
	}
	return false
}

// metadata reads the metadata subset from the folder that CASEWIRE_CONTRACTS names.
func metadata(t *testing.T) metaModel {
	t.Helper()
	dir := os.Getenv("CASEWIRE_CONTRACTS")
	if dir == "" {
		t.Skip("CASEWIRE_CONTRACTS names no folder with the vendors' contracts")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "microsoft/graph/graph-v1.0-security-subset.model.json"))
	if err != nil {
		t.Fatal(err)
	}
	var model metaModel
	if err := json.Unmarshal(raw, &model); err != nil {
		t.Fatal(err)
	}
	return model
}
