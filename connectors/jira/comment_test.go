package jira

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

const (
	routeComment  = "POST /rest/api/2/issue/SOC-24/comment"
	routeComments = "GET /rest/api/2/issue/SOC-24/comment"
)

func comments(change ...func(*sdktest.Call)) sdktest.Call {
	c := sdktest.Call{Action: "issue.comment", Key: "step 4", Input: map[string]any{"issue": "SOC-24", "text": "**done** {x}"}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func commentMark() string { return "[cw-" + caseRef("step 4") + "]" }

func TestCommentCarriesItsMark(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeComment: answer(201, `{"id":"77"}`)})
	got := must[Commented](t, s.open(), comments(with("role", "Administrators")))
	if got.ID != "77" || !got.Created || got.Issue != "SOC-24" {
		t.Errorf("got %+v", got)
	}
	want := map[string]any{
		"body":       "*done* \\{x\\}\n\n\\[cw-" + caseRef("step 4") + "\\]",
		"visibility": map[string]any{"type": "role", "value": "Administrators"},
		"properties": []any{map[string]any{"key": commentProperty, "value": map[string]any{"v": 1.0, "ref": caseRef("step 4")}}},
	}
	if diff := cmp.Diff(want, s.body(routeComment)); diff != "" {
		t.Error(diff)
	}
}

func TestLongCommentKeepsItsMark(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeComment: answer(201, `{"id":"77"}`)})
	must[Commented](t, s.open(), comments(with("text", strings.Repeat("long ", 20000))))
	body := s.body(routeComment)["body"].(string)
	if units(body) > maxText || !strings.HasSuffix(body, `\[cw-`+caseRef("step 4")+`\]`) || !strings.Contains(body, cutMark) {
		t.Errorf("%d units, ends with %q", units(body), body[len(body)-100:])
	}
}

// page is a page of comments, the last of which carries the mark if there.
func page(total int, there bool) http.HandlerFunc {
	body := `{"id":"1","body":"hello","created":"2026-11-23T10:00:00.000+0000"}`
	if there {
		body += fmt.Sprintf(`,{"id":"77","body":"done\n\n%s","created":"2026-11-23T10:00:00.000+0000"}`, commentMark())
	}
	return answer(200, fmt.Sprintf(`{"startAt":0,"maxResults":100,"total":%d,"comments":[%s]}`, total, body))
}

func TestRepeatedCommentLooksFirst(t *testing.T) {
	t.Parallel()
	second := func(c *sdktest.Call) { c.Attempt = 2 }
	s := script(t, map[string]http.HandlerFunc{routeComments: page(2, true)})
	if got := must[Commented](t, s.open(), comments(second)); got.ID != "77" || !got.Created {
		t.Errorf("got %+v", got)
	}
	s = script(t, map[string]http.HandlerFunc{routeComments: page(1, false), routeComment: answer(201, `{"id":"78"}`)})
	crashed := func(c *sdktest.Call) { c.FirstSent = time.Now().Add(-time.Minute) }
	if got := must[Commented](t, s.open(), comments(crashed)); got.ID != "78" {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{routeComments, routeComment}, s.asked()); diff != "" {
		t.Error(diff)
	}
}

func TestResolveComment(t *testing.T) {
	t.Parallel()
	resolve := func(c *sdktest.Call) { c.Resolve = true }
	s := script(t, map[string]http.HandlerFunc{routeComments: page(2, true)})
	if got := must[Commented](t, s.open(), comments(resolve)); got.ID != "77" || !got.Created {
		t.Errorf("got %+v", got)
	}
	s = script(t, map[string]http.HandlerFunc{routeComments: page(1, false)})
	_, err := do[Commented](t, s.open(), comments(resolve))
	if e := asError(t, err); e.Reason != plugin.ReasonUnresolved {
		t.Errorf("%v, reason %q", e, e.Reason)
	}
	// Pages are followed, but not further back than the first attempt.
	s = script(t, map[string]http.HandlerFunc{routeComments: page(3, false)})
	_, err = do[Commented](t, s.open(), comments(resolve))
	if asError(t, err); len(s.asked()) != 3 {
		t.Errorf("%d pages", len(s.asked()))
	}
	s = script(t, map[string]http.HandlerFunc{routeComments: page(3, false)})
	_, err = do[Commented](t, s.open(), comments(resolve, func(c *sdktest.Call) { c.FirstSent = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) }))
	if asError(t, err); len(s.asked()) != 1 {
		t.Errorf("%d pages although the first was too old", len(s.asked()))
	}
}

func TestKnownCommentIsChangedNotRepeated(t *testing.T) {
	t.Parallel()
	const edit = "PUT /rest/api/2/issue/SOC-24/comment/77"
	s := script(t, map[string]http.HandlerFunc{routeComment: answer(201, `{"id":"77"}`), edit: answer(200, `{"id":"77"}`)})
	h := s.open()
	first := must[Commented](t, h, comments())
	same := must[Commented](t, h, comments(func(c *sdktest.Call) { c.Prior = first }))
	if same.Created || same.Updated || same.ID != "77" {
		t.Errorf("the same again: %+v", same)
	}
	changed := must[Commented](t, h, comments(with("text", "news"), func(c *sdktest.Call) { c.Prior = same }))
	if changed.Created || !changed.Updated || changed.ID != "77" {
		t.Errorf("another text: %+v", changed)
	}
	if diff := cmp.Diff([]string{routeComment, edit}, s.asked()); diff != "" {
		t.Error(diff)
	}
	_, err := do[Commented](t, h, comments(with("issue", "SOC-25"), func(c *sdktest.Call) { c.Prior = first }))
	if e := asError(t, err); e.Class() != plugin.ClassInvalid {
		t.Errorf("another issue: %v", e)
	}
}

func TestLostCommentIsUncertain(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{"500": answer(500, ""), "dropped": drop, "truncated": breakOff(201, `{"i`), "no id": answer(201, "{}")} {
		s := script(t, map[string]http.HandlerFunc{routeComment: h})
		_, err := do[Commented](t, s.open(), comments())
		if e := asError(t, err); e.Class() != plugin.ClassUncertain {
			t.Errorf("%s: %v of class %s", name, e, e.Class())
		}
	}
}
