package jira

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func isComment(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/comment")
}

// manyComments is the stage: a fake with an issue that Jira's limits allow no comment at the moment, and one comment that
// had to wait, and is under way.
type manyComments struct {
	fake  *jirafake.Server
	gate  *gated
	h     *sdktest.Harness
	c     *Client
	first chan error
}

// stageComments gives back the connection of a harness, too, which the fake behind a gate serves.
func stageComments(t *testing.T, o jirafake.Options, change func(*Config), around ...func(http.Handler) http.Handler) *manyComments {
	t.Helper()
	o.NoIssueLimit = true // the pacer is what makes them wait
	fake := jirafake.New(o)
	t.Cleanup(fake.Close)
	m := &manyComments{fake: fake, gate: newGate(isComment), first: make(chan error, 1)}
	m.gate.Handler = judged(t, fake)
	for _, f := range around {
		m.gate.Handler = f(m.gate.Handler)
	}
	srv := httptest.NewServer(m.gate)
	t.Cleanup(srv.Close)
	cfg := testConfig(srv.URL)
	cfg.Email, cfg.APIToken = fake.User().Email, plugin.NewSecret(fake.User().APIToken)
	if change != nil {
		change(&cfg)
	}
	opened := make(chan *Client, 1)
	m.h = sdktest.Open(t, connector(func(ctx context.Context, cfg Config, env sdk.Env) (*Client, error) {
		c, err := open(ctx, cfg, env)
		opened <- c
		return c, err
	}), cfg)
	first := must[Ensured](t, m.h, ensure())
	m.c = <-opened
	for range burstWrites {
		w, _, _ := m.c.pace.take("PUT", first.ID, time.Now())
		m.c.pace.answered(w)
	}
	go func() {
		_, err := m.comment(t.Context(), "first")
		m.first <- err
	}()
	<-m.gate.came
	return m
}

// comment comments as the host does.
func (m *manyComments) comment(ctx context.Context, key string, change ...func(*sdktest.Call)) (Commented, error) {
	call := sdktest.Call{Action: "issue.comment", Key: key, Input: map[string]any{"issue": "SOC-1", "text": "text of " + key + "."}}
	for _, f := range change {
		f(&call)
	}
	res, err := m.h.Do(ctx, call)
	var out Commented
	if err == nil {
		err = json.Unmarshal(res.Output, &out)
	}
	return out, err
}

// start begins n comments, waits until they wait, and gives back what becomes of them.
func (m *manyComments) start(t *testing.T, n int, change ...func(*sdktest.Call)) <-chan commentEnd {
	t.Helper()
	ends := make(chan commentEnd, n)
	for i := range n {
		go func() {
			out, err := m.comment(t.Context(), fmt.Sprintf("key %d", i), change...)
			ends <- commentEnd{i, out, err}
		}()
	}
	m.queued(t, n)
	return ends
}

type commentEnd struct {
	i   int
	out Commented
	err error
}

// release lets all comments go.
func (m *manyComments) release(t *testing.T) {
	t.Helper()
	close(m.gate.letGo)
	if err := <-m.first; err != nil {
		t.Error(err)
	}
}

// once looks whether the text and the mark of each of n keys are in the comments once.
func (m *manyComments) once(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		key := fmt.Sprintf("key %d", i)
		if texts, marks := m.fake.CommentsWith("text of "+key+"."), m.fake.CommentsWith(labelPrefix+caseRef(key)); texts != 1 || marks != 1 {
			t.Errorf("%s: its text is there %d times, its mark %d times", key, texts, marks)
		}
	}
}

// queued waits until n comments wait.
func (m *manyComments) queued(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d comments wait", n), func() bool {
		m.c.comments.mu.Lock()
		defer m.c.comments.mu.Unlock()
		sum := 0
		for _, q := range m.c.comments.queues {
			sum += len(q.waiting)
		}
		return sum == n
	})
}

func TestManyCommentsThatWaitAreJoined(t *testing.T) {
	t.Parallel()
	for name, api := range map[string]int{"markup": 2, "documents": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 120
			m := stageComments(t, jirafake.Options{}, func(c *Config) { c.API = api })
			ends := m.start(t, n)
			m.release(t)
			ids := map[string]int{}
			for range n {
				end := <-ends
				if end.err != nil || !end.out.Created || !end.out.Joined || end.out.Issue != "SOC-1" {
					t.Errorf("%+v", end)
				}
				ids[end.out.ID]++
			}
			m.once(t, n)
			if got := m.fake.Ledger().Comments; int(got) != len(ids)+1 || got > 6 {
				t.Errorf("%d comments of %d ids", got, len(ids))
			}
			// Whoever asks again finds his own.
			for _, i := range []int{0, n / 2, n - 1} {
				for _, again := range []func(*sdktest.Call){func(c *sdktest.Call) { c.Attempt = 2 }, func(c *sdktest.Call) { c.Resolve = true }} {
					out, err := m.comment(t.Context(), fmt.Sprintf("key %d", i), again)
					if err != nil || !out.Joined || ids[out.ID] == 0 {
						t.Errorf("key %d again: %+v, %v", i, out, err)
					}
				}
			}
			m.once(t, n)
		})
	}
}

func TestFewCommentsThatWaitStaySingle(t *testing.T) {
	t.Parallel()
	m := stageComments(t, jirafake.Options{}, nil)
	ends := m.start(t, maxSingle)
	m.release(t)
	for range maxSingle {
		if end := <-ends; end.err != nil || end.out.Joined {
			t.Errorf("%+v", end)
		}
	}
	m.once(t, maxSingle)
	if got := m.fake.Ledger().Comments; got != maxSingle+1 {
		t.Errorf("%d comments", got)
	}
}

// Comments for different readers are not joined, and long ones only as far as there is room.
func TestCommentsAreJoinedOnlyWhereTheyFit(t *testing.T) {
	t.Parallel()
	m := stageComments(t, jirafake.Options{}, nil)
	const n = 20
	ends := m.start(t, n, func(c *sdktest.Call) {
		c.Input = map[string]any{"issue": "SOC-1", "text": "text of " + c.Key + ". " + strings.Repeat("long ", 1000)}
		if c.Key == "key 3" {
			c.Input = map[string]any{"issue": "SOC-1", "text": "text of " + c.Key + ". " + strings.Repeat("longest ", 10000)}
		}
	})
	roled := make(chan Commented, 1)
	go func() {
		out, err := m.comment(t.Context(), "for admins", func(c *sdktest.Call) {
			c.Input = map[string]any{"issue": "SOC-1", "text": "for admins only", "role": "Administrators"}
		})
		if err != nil {
			t.Error(err)
		}
		roled <- out
	}()
	m.release(t)
	for range n {
		if end := <-ends; end.err != nil || end.i == 3 && end.out.Joined {
			t.Errorf("%+v", end)
		}
	}
	if out := <-roled; out.Joined {
		t.Errorf("what only admins may read was joined: %+v", out)
	}
	m.once(t, n)
	comments, _ := m.fake.Issue("SOC-1")["fields"].(map[string]any)["comment"].(map[string]any)["comments"].([]map[string]any)
	if len(comments) < 6 || len(comments) > 14 {
		t.Errorf("%d comments", len(comments))
	}
	for _, c := range comments {
		if body := c["body"].(string); units(body) > maxText || strings.Contains(body, "admins") && len(marksIn(body)) > 1 {
			t.Errorf("a comment of %d", units(body))
		}
	}
}

// A joined comment whose answer is lost is lost for all, and each finds his own.
func TestALostJoinedCommentIsFoundByEach(t *testing.T) {
	t.Parallel()
	for _, fault := range []jirafake.Fault{jirafake.LostAnswer, jirafake.ErrorAfter, jirafake.CutBody} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			const n = 30
			m := stageComments(t, jirafake.Options{}, nil)
			ends := m.start(t, n)
			m.gate.letGo <- struct{}{}
			if err := <-m.first; err != nil {
				t.Fatal(err)
			}
			<-m.gate.came
			m.fake.FailNext(jirafake.RouteComment, fault, 1)
			close(m.gate.letGo)
			for range n {
				if end := <-ends; end.err == nil || asError(t, end.err).Class() != plugin.ClassUncertain {
					t.Errorf("%+v", end)
				}
			}
			for i := range n {
				out, err := m.comment(t.Context(), fmt.Sprintf("key %d", i), func(c *sdktest.Call) { c.Attempt = 2 })
				if err != nil || !out.Joined || !out.Created {
					t.Errorf("key %d: %+v, %v", i, out, err)
				}
			}
			m.once(t, n)
			if got := m.fake.Ledger().Comments; got != 2 {
				t.Errorf("%d comments", got)
			}
		})
	}
}

// A call that ends while its comment is under way with others leaves it to them, and its next attempt waits until that
// request has ended before it looks.
func TestACommentThatIsLeftBehindIsNotWrittenTwice(t *testing.T) {
	t.Parallel()
	const n = 10
	m := stageComments(t, jirafake.Options{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := m.comment(ctx, "key 0")
		left <- err
	}()
	m.queued(t, 1)
	ends := make(chan error, n)
	for i := 1; i < n; i++ {
		go func() {
			_, err := m.comment(t.Context(), fmt.Sprintf("key %d", i))
			ends <- err
		}()
	}
	m.queued(t, n)
	m.gate.letGo <- struct{}{}
	<-m.gate.came
	cancel()
	if err := <-left; err == nil {
		t.Fatal("an ended call succeeded")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := m.c.comments.grounded(ended, caseRef("key 0")); err == nil {
		t.Error("nobody knows that the comment is under way")
	}
	again := make(chan error, 1)
	go func() {
		_, err := m.comment(t.Context(), "key 0", func(c *sdktest.Call) { c.Attempt = 2 })
		again <- err
	}()
	m.release(t)
	for i := 1; i < n; i++ {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	if err := <-again; err != nil {
		t.Error(err)
	}
	m.once(t, n)
	if err := m.c.comments.grounded(ended, caseRef("key 0")); err != nil {
		t.Errorf("it is under way for ever: %v", err)
	}
}

func TestAPoisonedCommentFailsAlone(t *testing.T) {
	t.Parallel()
	const n = 30
	m := stageComments(t, jirafake.Options{}, nil, func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isComment(r) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				if bytes.Contains(body, []byte("text of key 7.")) {
					answer(http.StatusBadRequest, `{"errorMessages":[],"errors":{"comment":"Nein."}}`)(w, r)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			inner.ServeHTTP(w, r)
		})
	})
	ends := m.start(t, n)
	m.release(t)
	for range n {
		end := <-ends
		if (end.err != nil) != (end.i == 7) {
			t.Errorf("%+v", end)
		}
		if end.i == 7 && asError(t, end.err).Class() != plugin.ClassInvalid {
			t.Errorf("%v", end.err)
		}
	}
	for i := range n {
		if got := m.fake.CommentsWith(fmt.Sprintf("text of key %d.", i)); (got == 0) != (i == 7) || got > 1 {
			t.Errorf("key %d is there %d times", i, got)
		}
	}
}

// A key that changes its text changes its part of a joined comment, and nothing else.
func TestAPartOfAJoinedCommentIsChanged(t *testing.T) {
	t.Parallel()
	const n = 12
	m := stageComments(t, jirafake.Options{}, nil)
	ends := m.start(t, n)
	m.release(t)
	made := map[int]Commented{}
	for range n {
		end := <-ends
		if end.err != nil {
			t.Fatal(end.err)
		}
		made[end.i] = end.out
	}
	var wg sync.WaitGroup
	for i := range n {
		if i%2 == 0 {
			wg.Go(func() {
				out, err := m.comment(t.Context(), fmt.Sprintf("key %d", i), func(c *sdktest.Call) {
					c.Prior = made[i]
					c.Input = map[string]any{"issue": "SOC-1", "text": fmt.Sprintf("**news** of key %d.\n\n---\n\nmore", i)}
				})
				if err != nil || !out.Updated || !out.Joined || out.ID != made[i].ID {
					t.Errorf("key %d: %+v, %v", i, out, err)
				}
			})
		}
	}
	wg.Wait()
	for i := range n {
		old, news := m.fake.CommentsWith(fmt.Sprintf("text of key %d.", i)), m.fake.CommentsWith(fmt.Sprintf("*news* of key %d.", i))
		if old != i%2 || news != 1-i%2 || m.fake.CommentsWith(labelPrefix+caseRef(fmt.Sprintf("key %d", i))) != 1 {
			t.Errorf("key %d: old %d, new %d", i, old, news)
		}
	}
	if got := m.fake.CommentsWith("\n----\n"); got != n-1+n/2 {
		t.Errorf("%d lines across", got)
	}
	// Longer than what is left: it is cut, its mark stays, and so do the others.
	long := func(c *sdktest.Call) {
		c.Prior = made[1]
		c.Input = map[string]any{"issue": "SOC-1", "text": strings.Repeat("long ", 20000)}
	}
	if _, err := m.comment(t.Context(), "key 1", long); err != nil {
		t.Error(err)
	}
	for i := range n {
		if m.fake.CommentsWith(labelPrefix+caseRef(fmt.Sprintf("key %d", i))) != 1 {
			t.Errorf("the mark of key %d is gone", i)
		}
	}
}

func TestAPartOfADocumentIsReplaced(t *testing.T) {
	t.Parallel()
	docOf := func(key, text string) json.RawMessage {
		value, _ := (&richText{text: text, ref: caseRef(key)}).document()
		return value
	}
	body := joinTexts([]json.RawMessage{docOf("a", "one\n\n---\n\ntwo"), docOf("b", "three"), docOf("c", "- four\n- five")})
	for _, key := range []string{"a", "b", "c"} {
		out, rest, ok := replacePart(body, caseRef(key), docOf(key, "**news**"))
		text, err := jirafake.CheckADF(out)
		if !ok || err != nil || rest <= 0 || rest >= length(body) || strings.Count(text, labelPrefix) != 3 || strings.Count(text, "news") != 1 {
			t.Errorf("%s: %s, %v", key, text, err)
		}
		for of, has := range map[string]string{"a": "one", "b": "three", "c": "five"} {
			if strings.Contains(text, has) == (of == key) || !strings.Contains(text, caseRef(of)) {
				t.Errorf("%s: of %s: %s", key, of, text)
			}
		}
		if n := strings.Count(string(out), `"rule"`); n != 2+map[bool]int{true: 1}[key != "a"] {
			t.Errorf("%s: %d lines across", key, n)
		}
	}
	if _, _, ok := replacePart(body, caseRef("d"), docOf("d", "x")); ok {
		t.Error("a part that is not there was replaced")
	}
	for _, bad := range []string{"", "null", `5`, `"` + caseRef("a") + `"`, `{"content":7}`} {
		if _, _, ok := replacePart(json.RawMessage(bad), caseRef("a"), docOf("a", "x")); ok {
			t.Errorf("%s has a part", bad)
		}
	}
}

// What people made of a joined comment is left alone when it is not clear any more what is whose.
func TestAJoinedCommentThatWasEditedByHandIsLeftAlone(t *testing.T) {
	t.Parallel()
	const one = "GET /rest/api/2/issue/SOC-24/comment/77"
	s := script(t, map[string]http.HandlerFunc{one: answer(200, `{"id":"77","body":"tidied up"}`)})
	c := comments(with("text", "news"))
	c.Prior = Commented{ID: "77", Issue: "SOC-24", ContentHash: "old", Joined: true}
	_, err := do[Commented](t, s.open(), c)
	if e := asError(t, err); e.Class() != plugin.ClassInvalid || !strings.Contains(e.Error(), "edited by hand") {
		t.Errorf("%v of class %s", e, e.Class())
	}
	if got := s.asked(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// Documents are changed as documents.
func TestAPartOfAJoinedDocumentIsChanged(t *testing.T) {
	t.Parallel()
	const path = " /rest/api/3/issue/SOC-24/comment/77"
	other, _ := (&richText{text: "other", ref: caseRef("other")}).document()
	mine, _ := (&richText{text: "old", ref: caseRef("step 4")}).document()
	s := script(t, map[string]http.HandlerFunc{
		"GET" + path: answer(200, `{"id":"77","body":`+string(joinTexts([]json.RawMessage{other, mine}))+`}`), "PUT" + path: answer(200, `{"id":"77"}`),
	})
	c := comments(with("text", "news"))
	c.Prior = Commented{ID: "77", Issue: "SOC-24", ContentHash: "old", Joined: true}
	if got := must[Commented](t, s.open(func(c *Config) { c.API = 3 }), c); !got.Updated || !got.Joined {
		t.Errorf("%+v", got)
	}
	text, err := jirafake.CheckADF(encoded(s.body("PUT" + path)["body"]))
	if err != nil || !strings.Contains(text, "other") || !strings.Contains(text, "news") || strings.Contains(text, "old") {
		t.Errorf("%s, %v", text, err)
	}
}

// TestManyCommentsInBadWeather: each key's comment is there once, whatever happens to the requests, and Jira's limits on
// one issue are not met.
func TestManyCommentsInBadWeather(t *testing.T) {
	t.Parallel()
	const n = 150
	fake := jirafake.New(jirafake.Options{Seed: 5})
	t.Cleanup(fake.Close)
	h := serve(t, fake, jirafake.Options{})
	first := must[Ensured](t, h, ensure())
	fake.SetFaults(jirafake.Faults{Rates: map[string]map[jirafake.Fault]float64{
		jirafake.RouteComment: {
			jirafake.LostAnswer: .1, jirafake.ErrorAfter: .1, jirafake.CutBody: .05, jirafake.BadJSON: .05, jirafake.Throttle: .05,
			jirafake.Unavailable: .02, jirafake.Reset: .1, jirafake.ServerError: .05, jirafake.HTML: .05,
		},
		jirafake.RouteComments: {jirafake.Reset: .05, jirafake.ServerError: .05},
	}})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c := comments(with("issue", []string{first.Key, first.ID}[i%2]), with("text", fmt.Sprintf("text of key %d.", i)))
			for c.Key, c.Attempt = fmt.Sprintf("key %d", i), 1; ; c.Attempt++ {
				_, err := do[Commented](t, h, c)
				if err == nil {
					return
				}
				e := asError(t, err)
				if c.Attempt > 200 || e.Class() == plugin.ClassInvalid || e.Class() == plugin.ClassNotFound {
					t.Errorf("comment %d, attempt %d: %v", i, c.Attempt, err)
					return
				}
				<-time.After(min(e.RetryAfter, 10*time.Second))
			}
		})
	}
	wg.Wait()
	for i := range n {
		key := fmt.Sprintf("key %d", i)
		if texts, marks := fake.CommentsWith("text of "+key+"."), fake.CommentsWith(labelPrefix+caseRef(key)); texts != 1 || marks != 1 {
			t.Errorf("%s: its text is there %d times, its mark %d times", key, texts, marks)
		}
	}
	t.Logf("%d comments: %v", fake.Ledger().Comments, fake.Ledger().Requests[jirafake.RouteComment])
}

func TestALongPauseIsToldToAllCommentsThatWait(t *testing.T) {
	t.Parallel()
	const n = 10
	m := stageComments(t, jirafake.Options{}, nil)
	ends := m.start(t, n)
	m.c.pace.heed(write("SOC-1"), http.StatusTooManyRequests, http.Header{"Retry-After": {"1800"}, "Ratelimit-Reason": {"jira-per-issue-on-write"}}, true)
	m.release(t)
	for range n {
		end := <-ends
		if e := asError(t, end.err); e.Class() != plugin.ClassThrottled || e.SideEffect != plugin.EffectNone || e.RetryAfter < 25*time.Minute {
			t.Errorf("%+v of class %s", end, e.Class())
		}
	}
	if got := m.fake.Ledger().Comments; got != 1 {
		t.Errorf("%d comments", got)
	}
}
