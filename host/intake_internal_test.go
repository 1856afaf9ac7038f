package host

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// TestPostpone: a look-up that fails is tried again with growing pauses, for as long as it may still succeed; then it is a
// dead letter that says what it was about, and no longer waits.
func TestPostpone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	gone := &plugin.Error{Code: codes.NotFound, Message: "there is no alert a"}
	down := &plugin.Error{Code: codes.Unavailable, Message: "503"}
	for name, tc := range map[string]struct {
		fault       *plugin.Error
		age         time.Duration
		attempt     int
		least, most time.Duration // of the pause; zero: given up
	}{
		"not there yet":            {gone, time.Second, 0, 750 * time.Millisecond, 1250 * time.Millisecond},
		"still not there":          {gone, 10 * time.Minute, 9, 90 * time.Second, 150 * time.Second},
		"will never be there":      {gone, time.Hour + time.Second, 40, 0, 0},
		"an outage":                {down, 23 * time.Hour, 400, 90 * time.Second, 150 * time.Second},
		"an outage without an end": {down, 24*time.Hour + time.Second, 400, 0, 0},
		"asked to wait":            {&plugin.Error{Code: codes.ResourceExhausted, RetryAfter: 10 * time.Minute}, time.Second, 0, 10 * time.Minute, 10 * time.Minute},
		"asked to wait for ever":   {&plugin.Error{Code: codes.ResourceExhausted, RetryAfter: 9000 * time.Hour}, time.Second, 0, longestWait, longestWait},
		"nonsense":                 {&plugin.Error{Code: codes.InvalidArgument, Message: "is no id"}, time.Millisecond, 0, 0, 0},
		"poison":                   {&plugin.Error{Code: codes.Unavailable, Reason: plugin.ReasonPoisonInput}, time.Millisecond, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := &intake{key: triggerKey{"alerts", "alerts"}}
			req := store.Ingest{Now: now}
			h := store.Hint{Connection: "alerts", Trigger: "alerts", ID: "alert/a", Data: []byte(`{"id":"a"}`), Received: now.Add(-tc.age), Attempt: tc.attempt}
			in.postpone(&req, h, tc.fault)
			if tc.most == 0 {
				if len(req.Retry) != 0 || len(req.Done) != 1 || len(req.DeadLetters) != 1 {
					t.Fatalf("%+v", req)
				}
				d := req.DeadLetters[0]
				if d.Kind != "hint" || d.Subject != h.ID || string(d.Raw) != string(h.Data) || !strings.HasPrefix(d.Reason, "given up after ") || d.Connection != "alerts" || d.Created != now {
					t.Errorf("dead letter %+v", d)
				}
				return
			}
			if len(req.Retry) != 1 || len(req.Done) != 0 || len(req.DeadLetters) != 0 {
				t.Fatalf("%+v", req)
			}
			again := req.Retry[0]
			if pause := again.NotBefore.Sub(now); pause < tc.least || pause > tc.most || again.Attempt != tc.attempt+1 || again.Reason == "" {
				t.Errorf("again after %v (attempt %d, %q), want %v to %v", pause, again.Attempt, again.Reason, tc.least, tc.most)
			}
		})
	}
}
