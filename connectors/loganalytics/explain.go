package loganalytics

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// pause is how long to wait after a 429 that does not say: the documents do not promise a Retry-After.
const pause = 30 * time.Second

// where the service tells the place of a mistake: "on line [3,14]", or "[line:position=3:14]".
var places = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:on )?line \[(\d{1,6}),(\d{1,6})\]|\[line:position=(\d{1,6}):(\d{1,6})\]`)
})

// explain makes an error of the service one that tells its reader what to do, and where in the query as it was written.
func (a *ask) explain(err error) error {
	e, ok := errors.AsType[*sdk.Error](err)
	if !ok {
		return err
	}
	what := "workspace " + a.workspace
	if a.resource != "" {
		what = "resource " + a.resource
	}
	advise := func(format string, args ...any) { e.Message += "; " + fmt.Sprintf(format, args...) }
	reason := strings.ToLower(e.Reason)
	switch {
	case e.Code == codes.InvalidArgument:
		e.Message = a.bound.locate(e.Message)
		if reason == "failedtoresolveresource" {
			advise("the service does not know %s: see that the id is the GUID that the portal calls Workspace ID, and that the cloud is the right one", what)
		}
	case e.Code == codes.PermissionDenied:
		advise("the app may have tokens for this API but may not read %s: give it the role Log Analytics Reader there (it can take an hour to apply), and the API permission Data.Read", what)
	case e.Code == codes.NotFound:
		advise("there is no %s in this cloud, or the app cannot see it: the id is the GUID that the portal calls Workspace ID; a workspace that was deleted or moved has another", what)
	case e.Code == codes.ResourceExhausted:
		if e.RetryAfter == 0 {
			e.RetryAfter = pause
		}
		advise("the service lets one identity run %d queries at once and start 200 in %s: spread queries, or use another app", queriesAtOnce, querySpan)
	case e.HTTPStatus == http.StatusGatewayTimeout || e.Code == codes.DeadlineExceeded:
		advise("it did not finish within wait = %s: narrow the query or its timespan, or raise wait (600s at most)", a.wait)
	case e.Code == codes.FailedPrecondition && e.HTTPStatus >= 300 && e.HTTPStatus < 400:
		advise("%s seems to have moved to another region or cloud: set base_url to the endpoint that serves it", what)
	}
	return err
}

// locate moves the places in a message from the text that was sent to the text as its author wrote it.
func (b *bound) locate(message string) string {
	shift := -b.skipped
	if b.lets != "" {
		shift++
	}
	return places().ReplaceAllStringFunc(message, func(m string) string {
		var line, col int
		for i, s := range places().FindStringSubmatch(m)[1:] {
			if s == "" {
				continue
			}
			n, err := strconv.Atoi(s)
			if err != nil {
				return m
			}
			if i%2 == 0 {
				line = n - shift
			} else {
				col = n
			}
		}
		if line-b.skipped < 1 {
			return "in a parameter"
		}
		where := fmt.Sprintf("at line %d, position %d", line, col)
		if lines := strings.Split(b.query, "\n"); line-b.skipped <= len(lines) {
			text := strings.TrimSpace(lines[line-b.skipped-1])
			if len(text) > 120 {
				text = strings.ToValidUTF8(text[:120], "") + "…"
			}
			where += fmt.Sprintf(" (%s)", text)
		}
		return where
	})
}
