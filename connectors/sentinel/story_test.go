package sentinel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// probe returns a check's probe by name.
func (b *bench) probe(h *sdktest.Harness, name string) sdk.Probe {
	b.t.Helper()
	probes, err := h.Check(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, p := range probes {
		if p.Name == name {
			return p
		}
	}
	b.t.Fatalf("there is no probe %q in %+v", name, probes)
	return sdk.Probe{}
}

// TestMissingConsent: the token is issued all the same, and the API refuses; the words say what to grant.
func TestMissingConsent(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{Apps: []azurefake.App{{ClientID: azurefake.DefaultClientID, Secret: "s", Roles: []string{"User.Read.All"}}}}, nil)
	_, err := b.Poll(t.Context(), "alerts", nil)
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != codes.PermissionDenied || e.RequestID == "" || !strings.Contains(err.Error(), "SecurityAlert.Read.All") {
		t.Errorf("poll: %v", err)
	}
	if p := b.probe(b.Harness, "read alerts"); p.Status != sdk.ProbeFailed || !strings.Contains(p.Remedy, "SecurityAlert.Read.All") {
		t.Errorf("probe %+v", p)
	}
	if n := b.graph.Ledger().TokensIssued; n == 0 {
		t.Error("no token was issued")
	}
}

// TestTokenThatIsRevoked: a 401 in the middle costs a new token, and nothing else.
func TestTokenThatIsRevoked(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "manage"})
	_, cur := b.poll(nil)
	b.graph.RevokeTokens()
	id := b.alert("a")
	if ids, _ := b.poll(cur); !slices.Equal(ids, []string{id}) {
		t.Errorf("%v came, want %s", ids, id)
	}
}

// TestShortLifeIsRaised: Graph raises what is under 45 minutes, and what counts is its answer.
func TestShortLifeIsRaised(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "manage", "push_life": "10m"})
	_, cur := b.poll(nil)
	p := b.probe(b.Harness, "push")
	if p.Status != sdk.ProbeOK || time.Until(p.Expires) < 44*time.Minute || time.Until(p.Expires) > 46*time.Minute {
		t.Errorf("probe %+v", p)
	}
	b.poll(cur)
	if l := b.graph.Ledger(); l.SubscriptionEvents["created"] != 1 || l.SubscriptionEvents["renewed"] > 0 {
		t.Errorf("events %v", l.SubscriptionEvents)
	}
}

// TestRenewal: at half of its life the subscription is renewed, by whoever polls then; two hosts do not make two.
func TestRenewal(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBench(t, azurefake.Options{Now: func() time.Time { return now }}, settings{"push": "manage", "push_life": "72h"})
	_, cur := b.poll(nil)
	other := b.open(settings{"push": "manage", "push_life": "72h"})
	pages, err := other.Poll(t.Context(), "alerts", nil) // it has no cursor: it finds the subscription and adopts it
	if err != nil || len(pages) == 0 {
		t.Fatalf("%v, %v", pages, err)
	}
	if l := b.graph.Ledger(); l.Subscriptions != 1 || l.SubscriptionEvents["created"] != 1 {
		t.Errorf("two hosts: %d subscriptions, %v", l.Subscriptions, l.SubscriptionEvents)
	}
	before := b.graph.Ledger().SubscriptionEvents["renewed"]
	raw, _ := cur.(json.RawMessage)
	if raw == nil {
		b, err := json.Marshal(cur)
		if err != nil {
			t.Fatal(err)
		}
		raw = b
	}
	for name, change := range map[string]func(sub map[string]any){
		"half of its life is over": func(sub map[string]any) { sub["expires"] = now.Add(35 * time.Hour) },
		"a day is over":            func(sub map[string]any) { sub["renewed"] = now.Add(-25 * time.Hour) },
	} {
		var c map[string]any
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		sub, ok := c["sub"].(map[string]any)
		if !ok {
			t.Fatalf("cursor %s", raw)
		}
		change(sub)
		b.poll(c)
		if n := b.graph.Ledger().SubscriptionEvents["renewed"]; n != before+1 {
			t.Errorf("%s: renewed %d times", name, n-before)
		}
		before++
	}
}

// TestSubscriptionRefused: each refusal says what to do, polling goes on, and the attempts grow apart.
func TestSubscriptionRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		options azurefake.Options
		more    settings
		hook    string
		says    []string
	}{
		"quota":          {azurefake.Options{MaxSubscriptions: -1}, nil, "", []string{"403", "quota"}},
		"not supported":  {azurefake.Options{RefuseAlertSubscriptions: true}, nil, "", []string{"ExtensionError", "push: off"}},
		"too wide":       {azurefake.Options{}, settings{"push_resource": "security/alerts"}, "", []string{"retired", "push: off"}},
		"not reachable":  {azurefake.Options{}, nil, "http://127.0.0.1:9/hooks/alerts/alerts", []string{"ValidationError", "http.public_url"}},
		"no permission?": {azurefake.Options{Apps: []azurefake.App{{ClientID: azurefake.DefaultClientID, Secret: "s"}}}, settings{"push_resource": "security/nothing"}, "", []string{"not supported"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			more := settings{"push": "manage"}
			maps.Copy(more, tc.more)
			b := newBench(t, tc.options, settings{})
			if tc.hook != "" {
				b.hook = tc.hook
			}
			h := b.open(more)
			id := b.alert("a")
			pages, err := h.Poll(t.Context(), "alerts", nil)
			if err != nil || len(pages[0].Events) != 1 || pages[0].Events[0].Subject != id {
				t.Fatalf("the poll suffers: %+v, %v", pages, err)
			}
			p := b.probe(h, "push")
			for _, word := range tc.says {
				if p.Status != sdk.ProbeFailed || !strings.Contains(p.Summary, word) {
					t.Errorf("probe %+v, want a word about %s", p, word)
				}
			}
			if _, err := h.Poll(t.Context(), "alerts", pages[len(pages)-1].Cursor); err != nil {
				t.Error(err)
			}
			attempts := uint64(0)
			for _, n := range b.graph.Ledger().Requests[azurefake.RouteSubCreate] {
				attempts += n
			}
			if attempts != 1 {
				t.Errorf("%d attempts within a moment", attempts)
			}
		})
	}
}

// TestLapseIsSwept: what happened while there was no subscription is looked for over the whole lookback.
func TestLapseIsSwept(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "manage", "overlap": "1m", "lookback": "24h"})
	b.alert("newest")
	_, cur := b.poll(nil)
	stamp := time.Now().Add(-3 * time.Hour).UTC().Format(time.RFC3339)
	late, err := b.graph.AddAlert(fmt.Appendf(nil, `{"title":"late","createdDateTime":%[1]q,"lastUpdateDateTime":%[1]q}`, stamp))
	if err != nil {
		t.Fatal(err)
	}
	if ids, next := b.poll(cur); len(ids) != 0 {
		t.Fatalf("%v came", ids)
	} else {
		cur = next
	}
	b.graph.ExpireSubscriptions()
	hint := sdk.Hint{ID: "x", Data: []byte(`{"kind":"lifecycle","event":"subscriptionRemoved","subscription":"x"}`)}
	if out, err := b.Resolve(t.Context(), "alerts", hint); err != nil || !out[0].PollNow {
		t.Fatalf("%+v, %v", out, err)
	}
	if ids, _ := b.poll(cur); !slices.Equal(ids, []string{late}) {
		t.Errorf("%v came, want %s and nothing again", ids, late)
	}
}

// TestPushAndPollMakeOneEvent: both ways read the same object, and make the same bytes.
func TestPushAndPollMakeOneEvent(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "manage"})
	_, cur := b.poll(nil)
	b.alert("a")
	b.eventually("a hint", func() bool { return len(b.taken()) > 0 })
	found, err := b.Resolve(t.Context(), "alerts", b.taken()[0])
	if err != nil || len(found[0].Events) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	polled, _ := b.take("alerts", cur)
	if len(polled) != 1 || polled[0].ID != found[0].Events[0].ID || string(polled[0].Data) != string(found[0].Events[0].Data) {
		t.Errorf("push %+v, poll %+v", found[0].Events, polled)
	}
}

// TestLookUps: what is not readable yet, throttled or down is tried again; Retry-After is kept.
func TestLookUps(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	id := b.alert("a")
	hint := sdk.Hint{ID: "1", Data: []byte(`{"kind":"alert","id":"` + id + `"}`)}
	for fault, code := range map[azurefake.Fault]codes.Code{
		azurefake.Throttle: codes.ResourceExhausted, azurefake.Unavailable: codes.Unavailable, azurefake.HTML: codes.Unavailable, azurefake.BadJSON: codes.Unavailable,
	} {
		b.graph.FailNext(azurefake.RouteAlertGet, fault, 1)
		out, err := b.Resolve(t.Context(), "alerts", hint)
		if err != nil {
			t.Fatal(err)
		}
		var e *sdk.Error
		if !errors.As(out[0].Err, &e) || e == nil || e.Code != code || fault == azurefake.Throttle && e.RetryAfter <= 0 {
			t.Errorf("%s: %+v", fault, out[0])
		}
	}
	if out, err := b.Resolve(t.Context(), "alerts", hint); err != nil || len(out[0].Events) != 1 {
		t.Errorf("afterwards: %+v, %v", out, err)
	}
}

// TestPartialListKeepsTheCursor: a provider that is down makes the list short (206 and Warning). What came is taken, and
// what is missing is asked for again.
func TestPartialListKeepsTheCursor(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	for i := range 4 {
		b.alert(fmt.Sprint("a", i))
	}
	b.graph.FailNext(azurefake.RouteAlertList, azurefake.Partial, 1)
	pages, err := b.Poll(t.Context(), "alerts", nil)
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != codes.Unavailable || !strings.Contains(err.Error(), "Microsoft Defender for Endpoint") {
		t.Errorf("got %v", err)
	}
	if len(pages) != 1 || len(pages[0].Events) != 2 {
		t.Fatalf("pages %+v", pages)
	}
	if got, _ := b.poll(pages[0].Cursor); len(got) != 4 {
		t.Errorf("%d came afterwards, want all", len(got))
	}
}

// TestRetiredEndpoint: a list that is gone, or that is none any more, says so instead of being empty for ever.
func TestRetiredEndpoint(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		code   codes.Code
		says   string
	}{
		"gone":      {http.StatusGone, `{"error":{"code":"Gone","message":"This API is retired."}}`, codes.FailedPrecondition, "any more"},
		"not found": {http.StatusNotFound, `{"error":{"code":"ResourceNotFound","message":"Resource not found for the segment 'alerts_v2'."}}`, codes.FailedPrecondition, "graph_url"},
		"no list":   {http.StatusOK, `{"message":"hello"}`, codes.Unavailable, "no list of Microsoft Graph"},
		"empty":     {http.StatusOK, ``, codes.Unavailable, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, azurefake.Options{}, nil)
			b.instead("/security/alerts_v2", tc.status, tc.body)
			_, err := b.Poll(t.Context(), "alerts", nil)
			var e *sdk.Error
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("poll: %v", err)
			}
			if p := b.probe(b.Harness, "read alerts"); p.Status != sdk.ProbeFailed {
				t.Errorf("probe %+v", p)
			}
		})
	}
}

// TestQuietSource: a source without news for long turns a probe yellow.
func TestQuietSource(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"quiet_after": "24h"})
	if p := b.probe(b.Harness, "newest alert"); p.Status != sdk.ProbeWarning || p.Remedy == "" {
		t.Errorf("without any: %+v", p)
	}
	if _, err := b.graph.AddAlert([]byte(`{"createdDateTime":"2026-01-01T00:00:00Z","lastUpdateDateTime":"2026-01-01T00:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	if p := b.probe(b.Harness, "newest alert"); p.Status != sdk.ProbeWarning || !strings.Contains(p.Summary, "newest_alert_age_seconds=") {
		t.Errorf("with an old one: %+v", p)
	}
	b.alert("new")
	if p := b.probe(b.Harness, "newest alert"); p.Status != sdk.ProbeOK {
		t.Errorf("with a new one: %+v", p)
	}
}

// TestGiantPageIsAskedForInParts: an answer over the limit is asked for again in smaller pages, and nothing comes twice.
func TestGiantPageIsAskedForInParts(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"page_size": 8})
	long := strings.Repeat("x", 6<<20)
	for i := range 8 {
		if _, err := b.graph.AddAlertNow(fmt.Appendf(nil, `{"title":"t%d","severity":"high","additionalData":{"q":%q}}`, i, long)); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := b.Poll(t.Context(), "alerts", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, p := range pages {
		for _, e := range p.Events {
			seen[e.Subject]++
		}
		for _, r := range p.Rejected {
			seen[r.Subject]++
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d alerts came", len(seen))
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

// TestReauthorizationOfAnothersSubscription: whose subscription it is not need not be able to keep it; one's own must be.
func TestReauthorizationOfAnothersSubscription(t *testing.T) {
	t.Parallel()
	for push, fails := range map[string]bool{"receive": false, "manage": true} {
		t.Run(push, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, azurefake.Options{}, settings{"push": push, "client_state": "given"})
			b.instead("/reauthorize", http.StatusForbidden, `{"error":{"code":"Forbidden","message":"The subscription belongs to another application."}}`)
			out, err := b.Resolve(t.Context(), "alerts", sdk.Hint{ID: "l", Data: []byte(`{"kind":"lifecycle","event":"reauthorizationRequired","subscription":"s"}`)})
			if err != nil || (out[0].Err != nil) != fails || !fails && !out[0].PollNow {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}

// TestCursorOfAWrongClock: what was put down while this machine's clock stood wrong holds up nothing: not the position,
// not the sweep, and not when to subscribe again.
func TestCursorOfAWrongClock(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "manage"})
	far := time.Now().Add(9000 * time.Hour)
	id := b.alert("a")
	ids, _ := b.poll(map[string]any{"v": 1, "since": far, "swept": far, "sub": map[string]any{"failed": 3, "retry": far}})
	if !slices.Equal(ids, []string{id}) {
		t.Errorf("%v came, want %s", ids, id)
	}
	if n := len(b.graph.Subscriptions()); n != 1 {
		t.Errorf("%d subscriptions", n)
	}
}

// TestSweepBringsNothingAgain: the hourly look back over 24 hours remembers what was emitted.
func TestSweepBringsNothingAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"overlap": "1m"})
	for i := range 20 {
		at := time.Now().Add(-time.Duration(i) * time.Hour).UTC().Format(time.RFC3339)
		if _, err := b.graph.AddAlert(fmt.Appendf(nil, `{"title":"t%d","createdDateTime":%[2]q,"lastUpdateDateTime":%[2]q}`, i, at)); err != nil {
			t.Fatal(err)
		}
	}
	ids, cur := b.poll(nil)
	if len(ids) != 20 {
		t.Fatalf("%d came", len(ids))
	}
	b.alert("one more")
	if ids, cur = b.poll(cur); len(ids) != 1 {
		t.Fatalf("%d came, want the new one", len(ids))
	}
	raw, err := json.Marshal(cur)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	c["swept"] = time.Now().Add(-2 * time.Hour)
	if ids, _ = b.poll(c); len(ids) != 0 {
		t.Errorf("the sweep brought %d again", len(ids))
	}
}
