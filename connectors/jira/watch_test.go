package jira

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// pollAll polls once and returns the events, and the cursor behind them.
func pollAll(t *testing.T, h *sdktest.Harness, cursor json.RawMessage) ([]sdk.Event, json.RawMessage) {
	t.Helper()
	var from any
	if cursor != nil {
		from = cursor
	}
	pages, err := h.Poll(t.Context(), "issues", from)
	if err != nil {
		t.Fatalf("poll: %v", err)
	}
	var out []sdk.Event
	for _, p := range pages {
		if len(p.Rejected) > 0 {
			t.Errorf("rejected: %+v", p.Rejected)
		}
		out = append(out, p.Events...)
		cursor = p.Cursor
	}
	return out, cursor
}

// one makes a marked issue.
func one(t *testing.T, h *sdktest.Harness, key string, more ...func(*sdktest.Call)) Ensured {
	t.Helper()
	c := ensure(more...)
	c.Key = key
	return must[Ensured](t, h, c)
}

func finding(t *testing.T, e *sdk.Event) (f ocsf.IncidentFinding, ours casewire) {
	t.Helper()
	if err := json.Unmarshal(e.Data, &f); err != nil {
		t.Fatal(err)
	}
	var u unmapped
	if err := json.Unmarshal(f.Unmapped, &u); err != nil {
		t.Fatal(err)
	}
	return f, u.Casewire
}

func TestCaseEventsTellWhatBecameOfACase(t *testing.T) {
	t.Parallel()
	for name, dc := range map[string]bool{"cloud": false, "data center": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := &clock{at: time.Date(2026, 3, 29, 0, 59, 30, 0, time.UTC)} // summer time begins in Europe
			fake, h := fakeJira(t, jirafake.Options{DataCenter: dc, Now: at.now}, func(c *Config) {
				c.Verdicts = map[string]string{"Done": "benign"}
				c.SiteURL = "https://jira.example"
			})
			events, cur := pollAll(t, h, nil)
			if len(events) != 0 {
				t.Fatalf("of nothing: %+v", events)
			}
			first := one(t, h, "case 1", with("origin", "alert:da1"))
			at.add(time.Minute)
			events, cur = pollAll(t, h, cur)
			if len(events) != 1 {
				t.Fatalf("%d events", len(events))
			}
			e := events[0]
			f, mine := finding(t, &e)
			if e.Type != event.TypeCase || e.Subject != first.ID || e.PartitionKey != "case:jira:jira.example:"+first.ID ||
				e.Source != "https://jira.example/rest/api/issue" || !slices.Equal(e.Aliases, []string{"case:jira:jira.example:soc-1"}) {
				t.Errorf("envelope: %+v", e)
			}
			if diff := cmp.Diff(casewire{Origin: "alert:da1", Key: "case 1", Ref: caseRef("case 1")}, mine); diff != "" {
				t.Errorf("casewire:\n%s", diff)
			}
			if f.FindingInfoList[0].UID != "da1" || f.Message != "Root login" || *f.StatusID != 1 || f.SeverityID != 4 || *f.VerdictID != 0 ||
				f.SrcURL != "https://jira.example/browse/SOC-1" || f.Tickets[0].UID != "SOC-1" || f.AssigneeGroup == nil || *f.PriorityID != 3 {
				t.Errorf("finding: %+v", f)
			}
			// Nothing new: the overlap reads it again, and tells it once.
			if again, _ := pollAll(t, h, cur); len(again) != 0 {
				t.Errorf("told twice: %+v", again)
			}
			// Our own comments, labels, fields move the revision, and change nothing that counts.
			must[Commented](t, h, comments(with("issue", "SOC-1")))
			one(t, h, "case 1", with("labels", []string{"more"}), with("description", "other"), with("comment_on_update", "ours"), with("origin", "alert:da1"))
			var echo []sdk.Event
			if echo, cur = pollAll(t, h, cur); len(echo) != 1 || echo[0].Digest != e.Digest || echo[0].Rev <= e.Rev {
				t.Fatalf("echo: %+v", echo)
			}
			// Closed by a person, with a word of explanation.
			at.add(time.Hour)
			must[Transitioned](t, h, sdktest.Call{Action: "issue.transition", Input: map[string]any{"issue": "SOC-1", "to": "done", "comment": "by the flow"}})
			fake.CommentAs("SOC-1", "Ana: it was the backup job")
			closed, next := pollAll(t, h, cur)
			if len(closed) != 1 || closed[0].Digest == e.Digest {
				t.Fatalf("closed: %+v", closed)
			}
			cur = next
			f, _ = finding(t, &closed[0])
			if *f.StatusID != 5 || f.ActivityID != ocsf.ActivityClose || *f.VerdictID != ocsf.VerdictBenign || f.StatusDetail != "Done" ||
				f.Comment != "Ana: it was the backup job" || f.Tickets[0].Status != "Done" {
				t.Errorf("closed: %+v", f)
			}
			if got, _ := pollAll(t, h, cur); len(got) != 0 {
				t.Errorf("told twice: %+v", got)
			}
			// Foreign issues are not ours to tell of.
			if got := fake.AddIssue("SOC", "made by a person", "casewire"); got == "" {
				t.Fatal("no issue")
			}
			if got, _ := pollAll(t, h, cur); len(got) != 0 {
				t.Errorf("foreign: %+v", got)
			}
		})
	}
}

func TestAllIssuesAreWatchedOnDemand(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{}, func(c *Config) { c.Issues = &IssuesConfig{All: true, JQL: "labels = vip OR labels = cip"} })
	fake.AddIssue("SOC", "one", "vip")
	fake.AddIssue("SOC", "two")
	events, _ := pollAll(t, h, nil)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	f, mine := finding(t, &events[0])
	if f.Message != "one" || mine != (casewire{}) || f.FindingInfoList[0].UID != events[0].Subject {
		t.Errorf("finding %+v of %+v", f, mine)
	}
}

func TestPollFindsWhatTheIndexHadNotYet(t *testing.T) {
	t.Parallel()
	at := &clock{at: time.Now().Add(-40 * time.Hour)} // and its clock is far from ours
	fake, h := fakeJira(t, jirafake.Options{Now: at.now})
	_, cur := pollAll(t, h, nil)
	fake.SetIndexLag(3 * time.Minute)
	key := fake.AddIssue("SOC", "late", labelPrefix+caseRef("x"), "casewire")
	fake.SetIndexLag(0)
	one(t, h, "prompt")
	events, cur := pollAll(t, h, cur)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	at.add(4 * time.Minute)
	if events, _ = pollAll(t, h, cur); len(events) != 1 || !strings.Contains(string(events[0].Data), key) {
		t.Errorf("the late one: %+v", events)
	}
}

// TestAnIssueAheadOfItsDayHidesNone: Jira's clock was ahead for a while.
func TestAnIssueAheadOfItsDayHidesNone(t *testing.T) {
	t.Parallel()
	at := &clock{at: time.Now().Add(48 * time.Hour)}
	_, h := fakeJira(t, jirafake.Options{Now: at.now})
	one(t, h, "ahead")
	at.add(-48 * time.Hour)
	events, cur := pollAll(t, h, nil)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	one(t, h, "next")
	if events, _ = pollAll(t, h, cur); len(events) != 1 {
		t.Errorf("%d events, want that of the next issue", len(events))
	}
}

func TestWhatWasWrittenHereIsBroughtUpToDateInTheIndex(t *testing.T) {
	t.Parallel()
	at := &clock{at: time.Now()}
	fake, h := fakeJira(t, jirafake.Options{Now: at.now, IndexLag: time.Hour})
	one(t, h, "case 1")
	if events, _ := pollAll(t, h, nil); len(events) != 1 {
		t.Errorf("%d events although the search was told which issue to bring up to date", len(events))
	}
	_ = fake
}

func TestPollPagesToTheEnd(t *testing.T) {
	t.Parallel()
	for name, dc := range map[string]bool{"cloud": false, "data center": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, h := fakeJira(t, jirafake.Options{DataCenter: dc})
			for i := range 2*watchPage + 7 {
				fake.AddIssue("SOC", fmt.Sprint("issue ", i), "casewire", labelPrefix+caseRef(fmt.Sprint(i)))
			}
			events, _ := pollAll(t, h, nil)
			seen := map[string]bool{}
			for _, e := range events {
				seen[e.ID] = true
			}
			if len(seen) != 2*watchPage+7 || len(events) != len(seen) {
				t.Errorf("%d events, %d of them different", len(events), len(seen))
			}
		})
	}
}

const hookSecret = "It's a Secret to Everybody"

// push is a delivery as Jira makes it.
func push(t *testing.T, fake *jirafake.Server, key, kind string, header ...string) *sdk.HookRequest {
	t.Helper()
	is := fake.Issue(key)
	delete(is, "properties")
	body, err := json.Marshal(map[string]any{"timestamp": time.Now().UnixMilli(), "webhookEvent": kind, "issue": is, "user": map[string]any{"accountId": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	req := &sdk.HookRequest{Body: body, Header: http.Header{"X-Atlassian-Webhook-Identifier": {"delivery-1"}, "X-Hub-Signature": {signature(body)}}}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func signature(body []byte) string {
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func watching(c *Config) { c.Issues = &IssuesConfig{WebhookSecret: plugin.NewSecret(hookSecret)} }

func TestSignatureIsTheVendors(t *testing.T) {
	t.Parallel()
	const vector = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
	for header, want := range map[string]bool{
		vector: true, strings.Replace(vector, "a", "b", 1): false, strings.TrimPrefix(vector, "sha256="): false, "": false, "sha256=": false,
		"sha1=" + strings.TrimPrefix(vector, "sha256="): false, "sha256=zz": false,
	} {
		if got := signed([]byte(hookSecret), []byte("Hello World!"), header); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

func TestWebhookIsAHint(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{}, watching)
	made := one(t, h, "case 1", with("origin", "incident:7"))
	hook := func(req *sdk.HookRequest) *sdk.HookResponse {
		t.Helper()
		resp, err := h.Hook(t.Context(), "issues", req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first := hook(push(t, fake, "SOC-1", "jira:issue_updated"))
	retry := hook(push(t, fake, "SOC-1", "jira:issue_updated", "X-Atlassian-Webhook-Retry", "1"))
	if first.Status != 200 || len(first.Hints) != 1 || len(first.Events) != 0 || retry.Hints[0].ID != first.Hints[0].ID {
		t.Fatalf("%+v, %+v", first, retry)
	}
	if other := hook(push(t, fake, "SOC-1", "jira:issue_updated", "X-Atlassian-Webhook-Identifier", "delivery-2")); other.Hints[0].ID == first.Hints[0].ID {
		t.Error("two deliveries are one hint")
	}
	for name, tt := range map[string]struct {
		req    *sdk.HookRequest
		status int
		reason string
	}{
		"forged":       {push(t, fake, "SOC-1", "jira:issue_updated", "X-Hub-Signature", "sha256="+strings.Repeat("0", 64)), 403, "signature"},
		"unsigned":     {push(t, fake, "SOC-1", "jira:issue_updated", "X-Hub-Signature", ""), 403, "signature"},
		"another body": {&sdk.HookRequest{Body: []byte(`[]`), Header: http.Header{"X-Hub-Signature": {signature([]byte(`[]`))}}}, 400, "not_a_delivery"},
		"no issue":     {&sdk.HookRequest{Body: []byte(`{}`), Header: http.Header{"X-Hub-Signature": {signature([]byte(`{}`))}}}, 200, "no_issue"},
		"foreign":      {push(t, fake, fake.AddIssue("SOC", "foreign"), "jira:issue_created"), 200, "not_ours"},
	} {
		if resp := hook(tt.req); resp.Status != tt.status || resp.Refused[tt.reason] != 1 || len(resp.Hints) != 0 {
			t.Errorf("%s: %+v", name, resp)
		}
	}
	found, err := h.Resolve(t.Context(), "issues", first.Hints...)
	if err != nil || found[0].Err != nil || len(found[0].Events) != 1 {
		t.Fatalf("resolve: %+v, %v", found, err)
	}
	polled, _ := pollAll(t, h, nil)
	if len(polled) != 1 || polled[0].ID != found[0].Events[0].ID || string(polled[0].Data) != string(found[0].Events[0].Data) {
		t.Errorf("poll and webhook disagree:\n%s\n%s", polled[0].Data, found[0].Events[0].Data)
	}
	if _, mine := finding(t, &found[0].Events[0]); mine.Origin != "incident:7" {
		t.Errorf("origin %+v", mine)
	}

	gone := hook(push(t, fake, "SOC-1", "jira:issue_deleted")).Hints
	if found, _ = h.Resolve(t.Context(), "issues", gone...); len(found[0].Events) != 1 || strings.Contains(string(found[0].Events[0].Data), `"deleted":true`) {
		t.Errorf("said to be deleted, and is there: %+v", found)
	}
	fake.DeleteIssue("SOC-1")
	found, err = h.Resolve(t.Context(), "issues", gone...)
	if err != nil || len(found[0].Events) != 1 {
		t.Fatalf("deleted: %+v, %v", found, err)
	}
	f, mine := finding(t, &found[0].Events[0])
	if f.StatusCode != "Deleted" || *f.StatusID != 5 || found[0].Events[0].Subject != made.ID || mine.Ref != caseRef("case 1") || f.Message != "Root login" {
		t.Errorf("deleted: %+v of %+v", f, mine)
	}
	// Changed, and deleted before it was looked up: it is looked for a few times.
	if found, _ = h.Resolve(t.Context(), "issues", first.Hints...); found[0].Err == nil || found[0].Err.Class() != plugin.ClassNotFound {
		t.Errorf("gone: %+v", found)
	}
	last := first.Hints[0]
	last.Attempt = goneAfter
	if found, _ = h.Resolve(t.Context(), "issues", last); found[0].Err != nil || len(found[0].Events) != 0 {
		t.Errorf("gone for good: %+v", found)
	}
}

func TestWithoutASecretNoWebhookIsTaken(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{})
	one(t, h, "case 1")
	resp, err := h.Hook(t.Context(), "issues", push(t, fake, "SOC-1", "jira:issue_updated"))
	if err != nil || resp.Status != 404 || len(resp.Hints) != 0 {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestWatchConfigMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for at, in := range map[string]*IssuesConfig{
		"/issues/lookback": {Lookback: "soon"}, "/issues/overlap": {Overlap: "1s"}, "/issues/jql": {JQL: "a = b ORDER BY x"},
	} {
		if _, err := readWatch(in); !said(asError(t, err), at, "") {
			t.Errorf("%s: %v", at, err)
		}
	}
	if _, err := readWatch(&IssuesConfig{JQL: "a = b) OR (c = d"}); err != nil {
		t.Errorf("balanced: %v", err) // it is the operator's own JQL
	}
}

func TestOwnCommentsAreKnownByTheirMark(t *testing.T) {
	t.Parallel()
	ref := caseRef("x")
	for body, want := range map[string]bool{
		"done\n\n\\[cw-" + ref + "\\]": true, "done [cw-" + ref + "]\r\n": true, "see cw-" + ref + " for more": false, "": false, "cw-": false,
	} {
		if got := ownComment(body); got != want {
			t.Errorf("%q: %v", body, got)
		}
	}
}
