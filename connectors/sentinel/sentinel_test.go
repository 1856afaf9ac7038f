package sentinel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/sentinel"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// bench is a connection to a fake Graph, with a webhook that hands everything to the connector.
type bench struct {
	*sdktest.Harness
	t     *testing.T
	graph *azurefake.Server
	hook  string
	url   string                                                        // of the fake
	front atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // answers in the fake's place when it returns true

	mu     sync.Mutex
	hints  []sdk.Hint
	counts map[string]int
	seen   chan struct{} // a request came
}

type settings map[string]any

func newBench(t *testing.T, o azurefake.Options, more settings) *bench {
	t.Helper()
	b := &bench{t: t, graph: azurefake.New(o), counts: map[string]int{}, seen: make(chan struct{}, 1024)}
	t.Cleanup(b.graph.Close)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := b.front.Load(); f == nil || !(*f)(w, r) {
			b.graph.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(api.Close)
	b.url = api.URL
	recv := httptest.NewServer(http.HandlerFunc(b.receive))
	t.Cleanup(recv.Close)
	b.hook = recv.URL + "/hooks/alerts/alerts"
	b.Harness = b.open(more)
	return b
}

// instead answers requests whose path contains part in the fake's place.
func (b *bench) instead(part string, status int, body string) {
	f := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
	b.front.Store(&f)
}

// open opens a connection to the bench's fake, as another host or another life would.
func (b *bench) open(more settings) *sdktest.Harness {
	b.t.Helper()
	t, api := b.t, b
	config := settings{
		"credential": settings{"tenant_id": b.graph.Tenant(), "client_id": b.graph.ClientID(), "client_secret": b.graph.ClientSecret(), "authority_url": api.url},
		"graph_url":  api.url, "graph_scope": "https://graph.microsoft.com/.default",
	}
	maps.Copy(config, more)
	return sdktest.Open(t, sentinel.Connector(), config, sdktest.Options{
		Name: "alerts", Hooks: map[string]sdk.HookEndpoint{"alerts": {URL: b.hook, Secret: sdk.NewSecret("a hook secret of the host")}},
	})
}

// receive does what a host does.
func (b *bench) receive(w http.ResponseWriter, r *http.Request) {
	if token := r.URL.Query().Get("validationToken"); token != "" {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, token)
		return
	}
	body, _ := io.ReadAll(r.Body)
	resp, err := b.Hook(context.WithoutCancel(r.Context()), "alerts", &sdk.HookRequest{
		Method: r.Method, Path: strings.TrimPrefix(r.URL.Path, "/hooks/alerts/alerts"), Query: r.URL.RawQuery, Body: body,
	})
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.mu.Lock()
	b.hints = append(b.hints, resp.Hints...)
	for k, n := range resp.Refused {
		b.counts[k] += n
	}
	b.mu.Unlock()
	w.WriteHeader(resp.Status)
	b.seen <- struct{}{}
}

func (b *bench) taken() []sdk.Hint {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]sdk.Hint(nil), b.hints...)
}

// eventually waits for deliveries until ok.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-b.seen:
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			b.t.Fatalf("%s did not come true; hints %v, counts %v", what, b.taken(), b.counts)
		}
	}
}

func (b *bench) alert(title string) string {
	b.t.Helper()
	id, err := b.graph.AddAlertNow([]byte(fmt.Sprintf(`{"title":%q,"severity":"high"}`, title)))
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// poll polls from cursor and returns the subjects of what came, and the cursor behind it.
func (b *bench) poll(cursor any) ([]string, any) {
	b.t.Helper()
	pages, err := b.Poll(b.t.Context(), "alerts", cursor)
	if err != nil {
		b.t.Fatal(err)
	}
	var ids []string
	for _, p := range pages {
		for _, e := range p.Events {
			if err := e.Check(); err != nil {
				b.t.Error(err)
			}
			ids = append(ids, e.Subject)
		}
		cursor = p.Cursor
	}
	return ids, cursor
}

func TestPollBringsEverythingOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"page_size": 7})
	want := map[string]bool{}
	for i := range 30 {
		want[b.alert(fmt.Sprint("a", i))] = true
	}
	ids, cur := b.poll(nil)
	for _, id := range ids {
		if !want[id] {
			t.Errorf("%s came twice, or from nowhere", id)
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("%d alerts did not come", len(want))
	}
	if again, _ := b.poll(cur); len(again) > 0 {
		t.Errorf("came again: %v", again)
	}
	// An alert that is indexed late is older than the cursor, and one that changed is a new revision.
	late, err := b.graph.AddAlert(fmt.Appendf(nil, `{"title":"late","createdDateTime":%[1]q,"lastUpdateDateTime":%[1]q}`,
		time.Now().Add(-5*time.Minute).UTC().Format(time.RFC3339)))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.graph.UpdateAlert(ids[3], map[string]any{"status": "inProgress"}); err != nil {
		t.Fatal(err)
	}
	got, _ := b.poll(cur)
	if len(got) != 2 || !strings.Contains(strings.Join(got, " "), late) || !strings.Contains(strings.Join(got, " "), ids[3]) {
		t.Errorf("got %v, want the late %s and the changed %s", got, late, ids[3])
	}
}

func TestPollErrorsKeepTheCursorAndSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fault azurefake.Fault
		code  codes.Code
		says  string
	}{
		{"throttle", codes.ResourceExhausted, "429"},
		{"unavailable", codes.Unavailable, "503"},
		{"html", codes.Unavailable, "<html"},
		{"bad_json", codes.Unavailable, "Microsoft Graph"},
		{"cut_body", codes.Unavailable, "Microsoft Graph"},
		{"reset", codes.Unavailable, "Microsoft Graph"},
	} {
		t.Run(string(tc.fault), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, azurefake.Options{}, nil)
			b.alert("a")
			b.graph.FailNext(azurefake.RouteAlertList, tc.fault, 1)
			if tc.fault == "reset" {
				b.graph.FailNext(azurefake.RouteAlertList, tc.fault, 1) // net/http itself tries again what fails on a used connection
			}
			_, err := b.Poll(t.Context(), "alerts", nil)
			var e *sdk.Error
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tc.says)) {
				t.Errorf("got %v, want %v saying %q", err, tc.code, tc.says)
			}
			if tc.fault == "throttle" && (e == nil || e.RetryAfter <= 0) {
				t.Error("Retry-After was lost")
			}
			if ids, _ := b.poll(nil); len(ids) != 1 {
				t.Errorf("afterwards %v came", ids)
			}
		})
	}
}

func TestManagedPush(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{Push: azurefake.Push{Double: 1, WrongState: 1, Unknown: 1}}, settings{"push": "manage"})
	_, cur := b.poll(nil)
	if n := len(b.graph.Subscriptions()); n != 1 {
		t.Fatalf("%d subscriptions", n)
	}
	id := b.alert("a")
	b.eventually("hints of the alert", func() bool { return len(b.taken()) >= 2 })
	out, err := b.Resolve(t.Context(), "alerts", b.taken()[0])
	if err != nil || len(out) != 1 || len(out[0].Events) != 1 || out[0].Events[0].Subject != id {
		t.Fatalf("resolve: %+v, %v", out, err)
	}
	ids, _ := b.poll(cur)
	if len(ids) != 1 || ids[0] != id {
		t.Errorf("the poll brought %v", ids)
	}
	b.eventually("forged notifications", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.counts["client_state"] >= 1
	})
	for _, h := range b.taken() {
		if h.ID != "alert/"+id {
			t.Errorf("a forged notification became hint %s", h.ID)
		}
	}
	// The subscription is kept, not made again, by this life and by the next, even one whose cursor was lost.
	b.poll(nil)
	if l := b.graph.Ledger(); l.Subscriptions != 1 || l.SubscriptionEvents["created"] != 1 {
		t.Errorf("subscriptions %d, events %v", l.Subscriptions, l.SubscriptionEvents)
	}
}

func TestSubscriptionIsMadeAgainAndRenewed(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{ShortSubscriptions: true}, settings{"push": "manage", "push_life": "1h"})
	_, cur := b.poll(nil)
	if n := b.graph.RequestReauthorization(); n != 1 {
		t.Fatalf("%d subscriptions were told to reauthorize", n)
	}
	b.eventually("a lifecycle hint", func() bool { return len(b.taken()) >= 1 })
	out, err := b.Resolve(t.Context(), "alerts", b.taken()[0])
	if err != nil || len(out) != 1 || out[0].Err != nil || !out[0].PollNow {
		t.Fatalf("%+v, %v", out, err)
	}
	if l := b.graph.Ledger(); l.SubscriptionEvents["reauthorized"] != 1 {
		t.Errorf("events %v", l.SubscriptionEvents)
	}
	// It lapsed while nobody looked. A lifecycle notification makes the next poll look; then it is made again.
	if n := b.graph.ExpireSubscriptions(); n != 1 {
		t.Fatalf("%d subscriptions lapsed", n)
	}
	if out, err := b.Resolve(t.Context(), "alerts", b.taken()[0]); err != nil || out[0].Err != nil {
		t.Fatalf("reauthorizing what lapsed: %+v, %v", out, err)
	}
	b.poll(cur)
	if l := b.graph.Ledger(); l.Subscriptions != 1 || l.SubscriptionEvents["created"] != 2 {
		t.Errorf("subscriptions %d, events %v", l.Subscriptions, l.SubscriptionEvents)
	}
}

func TestRefusedSubscriptionDoesNotStopThePoll(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{RefuseAlertSubscriptions: true}, settings{"push": "manage"})
	b.alert("a")
	pages, err := b.Poll(t.Context(), "alerts", nil)
	if err != nil {
		t.Errorf("the poll failed for a subscription: %v", err)
	}
	if probes, err := b.Check(t.Context()); err != nil || !strings.Contains(fmt.Sprint(probes), "subscribe to security/alerts_v2") {
		t.Errorf("the check does not tell: %+v, %v", probes, err)
	}
	b.poll(pages[len(pages)-1].Cursor)
	if n := b.graph.Ledger().Requests[azurefake.RouteSubCreate]["400"]; n != 1 {
		t.Errorf("%d attempts to subscribe within a moment", n)
	}
	if len(pages) != 1 || len(pages[0].Events) != 1 {
		t.Errorf("pages %+v", pages)
	}
}

func TestHookTakesNoNonsense(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "receive", "client_state": "given"})
	for _, tc := range []struct {
		name, body string
		status     int
		hints      int
		refused    string
	}{
		{"not a notification", `{"a":1}`, 400, 0, "not_a_notification"},
		{"a list", `[1]`, 400, 0, "not_a_notification"},
		{"empty", `{"value":[]}`, 202, 0, ""},
		{"wrong state", `{"value":[{"clientState":"guess","resourceData":{"id":"x"}}]}`, 202, 0, "client_state"},
		{"no state", `{"value":[{"resourceData":{"id":"x"}}]}`, 202, 0, "client_state"},
		{"no id", `{"value":[{"clientState":"given"}]}`, 202, 0, "no_id"},
		{"deleted", `{"value":[{"clientState":"given","changeType":"deleted","resourceData":{"id":"x"}}]}`, 202, 0, "deleted"},
		{"id in the resource", `{"value":[{"clientState":"given","changeType":"updated","resource":"security/alerts_v2/abc"}]}`, 202, 1, ""},
		{"mixed", `{"value":[{"clientState":"given","resourceData":{"id":"x"}},{"clientState":"no"},{"clientState":"given","lifecycleEvent":"missed","subscriptionId":"s"}]}`, 202, 2, "client_state"},
		{"wrong types", `{"value":[{"clientState":5}]}`, 400, 0, "not_a_notification"},
	} {
		resp, err := b.Hook(t.Context(), "alerts", &sdk.HookRequest{Method: "POST", Body: []byte(tc.body)})
		if err != nil || resp.Status != tc.status || len(resp.Hints) != tc.hints || (tc.refused != "" && resp.Refused[tc.refused] == 0) {
			t.Errorf("%s: %+v, %v", tc.name, resp, err)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	b.graph.SetReadLag(time.Hour)
	early := b.alert("early")
	out, err := b.Resolve(t.Context(), "alerts",
		sdk.Hint{ID: "1", Data: []byte(`{"kind":"alert","id":"` + early + `"}`)},
		sdk.Hint{ID: "2", Data: []byte(`{"kind":"alert","id":"../../users"}`)},
		sdk.Hint{ID: "3", Data: []byte(`5`)})
	if err != nil || len(out) != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	for i, want := range []codes.Code{codes.NotFound, codes.InvalidArgument, codes.InvalidArgument} {
		var e *sdk.Error
		if !errors.As(out[i].Err, &e) || e.Code != want {
			t.Errorf("hint %d: %v, want %v", i+1, out[i].Err, want)
		}
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	id := b.alert("a")
	var got map[string]any
	if err := b.Call(t.Context(), "alert.get", settings{"alert": id}, &got); err != nil || got["title"] != "a" {
		t.Errorf("get: %v, %v", got, err)
	}
	var list struct {
		Rows  []map[string]any
		Count int
	}
	if err := b.Call(t.Context(), "alert.list", settings{"filter": "severity eq 'high'"}, &list); err != nil || list.Count != 1 || len(list.Rows) != 1 {
		t.Errorf("list: %+v, %v", list, err)
	}
	var up struct{ Status string }
	if err := b.Call(t.Context(), "alert.update", settings{"alert": id, "status": "resolved", "classification": "truePositive"}, &up); err != nil || up.Status != "resolved" {
		t.Errorf("update: %+v, %v", up, err)
	}
	if err := b.Call(t.Context(), "alert.update", settings{"alert": id}, nil); err == nil || !strings.Contains(err.Error(), "nothing to update") {
		t.Errorf("empty update: %v", err)
	}
	if probes, err := b.Check(t.Context()); err != nil || probes[0].Status != sdk.ProbeOK {
		t.Errorf("check: %+v, %v", probes, err)
	}
}

func TestCommentOncePerKey(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	id := b.alert("a")
	comment := func(c sdktest.Call) (*sdktest.Result, error) {
		c.Action, c.Input = "alert.comment", settings{"alert": id, "text": "Case 1"}
		return b.Do(t.Context(), c)
	}
	_, before := b.poll(nil)
	// The answer is lost after the commit; looking finds the comment.
	b.graph.FailNext(azurefake.RouteAlertComment, "lost_answer", 1)
	_, err := comment(sdktest.Call{Key: "k"})
	var e *sdk.Error
	if !errors.As(err, &e) || e.Class() != "uncertain" {
		t.Fatalf("got %v, want an uncertain outcome", err)
	}
	first, err := comment(sdktest.Call{Key: "k", Resolve: true, FirstSent: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := comment(sdktest.Call{Key: "k", Prior: first.Output}); err != nil {
		t.Error(err)
	}
	if n := len(b.graph.Comments(id)); n != 1 {
		t.Errorf("%d comments", n)
	}
	// What is not there may still be under way for a moment; then it surely is not.
	for age, reason := range map[time.Duration]string{0: "UNRESOLVED", time.Minute: "ABSENT"} {
		_, err := comment(sdktest.Call{Key: "other", Resolve: true, FirstSent: time.Now().Add(-age)})
		if !errors.As(err, &e) || e.Reason != reason {
			t.Errorf("after %v: %v, reason %q, want %q", age, err, e.Reason, reason)
		}
	}
	// Our own comment is no news: a new revision, but nothing significant.
	pages, err := b.Poll(t.Context(), "alerts", nil)
	if err != nil || len(pages) != 1 || len(pages[0].Events) != 1 {
		t.Fatalf("%+v, %v", pages, err)
	}
	echo := pages[0].Events[0]
	if pages, err = b.Poll(t.Context(), "alerts", before); err != nil || len(pages) != 1 || len(pages[0].Events) != 1 {
		t.Fatalf("the echo did not come as a revision: %+v, %v", pages, err)
	}
	if err := b.graph.UpdateAlert(id, map[string]any{"status": "inProgress"}); err != nil {
		t.Fatal(err)
	}
	pages, err = b.Poll(t.Context(), "alerts", nil)
	if err != nil || pages[0].Events[0].Digest == echo.Digest {
		t.Errorf("a change of status has the digest of our own comment: %v", err)
	}
}

func TestConfigurationErrors(t *testing.T) {
	t.Parallel()
	cred := settings{"tenant_id": azurefake.DefaultTenant, "client_id": azurefake.DefaultClientID, "client_secret": "s"}
	for _, tc := range []struct {
		config settings
		says   string
	}{
		{settings{}, "credential"},
		{settings{"credential": cred, "push": "often"}, "push"},
		{settings{"credential": cred, "push": "receive"}, "client_state"},
		{settings{"credential": cred, "push": "receive", "client_state": strings.Repeat("x", 129)}, "128"},
		{settings{"credential": cred, "overlap": "soon"}, "overlap"},
		{settings{"credential": cred, "push_life": "1000h"}, "push_life"},
		{settings{"credential": cred, "graph_url": "http://graph.microsoft.com"}, "graph_url"},
		{settings{"credential": cred, "grpah_url": "x"}, "graph_url"},
	} {
		_, err := sdktest.Try(t, sentinel.Connector(), tc.config)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v gave %v, want a word about %s", tc.config, err, tc.says)
		}
	}
}

// TestPollAnAlertOfTheFuture: a clock that is wrong somewhere must not end the intake until then.
func TestPollAnAlertOfTheFuture(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	first, err := b.graph.AddAlert(fmt.Appendf(nil, `{"title":"early","createdDateTime":%[1]q,"lastUpdateDateTime":%[1]q}`,
		time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339)))
	if err != nil {
		t.Fatal(err)
	}
	ids, cur := b.poll(nil)
	second := b.alert("in time")
	more, cur := b.poll(cur)
	if len(ids) != 1 || ids[0] != first || len(more) != 1 || more[0] != second {
		t.Errorf("got %v, then %v; want %s, then %s", ids, more, first, second)
	}
	if again, _ := b.poll(cur); len(again) > 0 {
		t.Errorf("came again: %v", again)
	}
}
