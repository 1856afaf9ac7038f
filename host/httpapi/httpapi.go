// Package httpapi is the host's HTTP API for operators: health, metrics, runs, dead letters, replays. Everything but
// health asks for the operator's token.
package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// Options configure the API.
type Options struct {
	// Token is the operator's; empty refuses everything but health.
	Token plugin.Secret
	// Ready says whether the host is up; nil means yes.
	Ready func() bool
}

// Handler serves /healthz, /readyz, /metrics and /v1/.
func Handler(h *host.Host, st store.Store, o Options) http.Handler {
	a := &api{host: h, store: st, token: sha256.Sum256([]byte(o.Token.Reveal())), open: !o.Token.IsZero()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if o.Ready != nil && !o.Ready() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	for _, r := range a.routes() {
		mux.Handle(r.Method+" "+r.Path, a.operator(r.serve))
	}
	// Who has no token learns nothing about what there is.
	mux.Handle("/v1/", a.operator(a.nothing))
	mux.Handle("/v1", a.operator(a.nothing))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "not found", "there is nothing at "+r.URL.Path)
	})
	return mux
}

type api struct {
	host  *host.Host
	store store.Store
	token [32]byte
	open  bool
}

// problem is an RFC 9457 problem.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
}

// operator demands the token, compared in constant time.
func (a *api) operator(next func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(given))
		if !ok || !a.open || subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, "operator token required", "send Authorization: Bearer with the operator token: that of http.operator_token, or the one beside the data file")
			return
		}
		if err := next(w, r); err != nil {
			var wrong invalidError
			switch {
			case errors.As(err, &wrong):
				fail(w, http.StatusBadRequest, "invalid request", wrong.Error())
			case errors.Is(err, store.ErrNotFound):
				fail(w, http.StatusNotFound, "not found", err.Error())
			case errors.Is(err, host.ErrNotReplayable):
				fail(w, http.StatusConflict, "cannot be replayed", err.Error())
			case errors.Is(err, host.ErrNotCancellable):
				fail(w, http.StatusConflict, "cannot be cancelled", err.Error())
			default:
				fail(w, http.StatusInternalServerError, "failed", err.Error())
			}
		}
	})
}

func fail(w http.ResponseWriter, status int, title, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(problem{status, title, detail})
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func (a *api) status(w http.ResponseWriter, r *http.Request) error {
	s, err := a.host.Status(r.Context())
	if err != nil {
		return err
	}
	return answer(w, NewStatusRecord(s))
}

func (a *api) runs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := limit(q.Get("limit"))
	if err != nil {
		return err
	}
	state := store.RunState(q.Get("state"))
	if state != "" && !slices.Contains(runStates, state) {
		return invalid("state=%s: there is no such state", state)
	}
	runs, err := FindRuns(r.Context(), a.store, q.Get("object"), store.RunFilter{Flow: q.Get("flow"), State: state, Limit: n})
	if err != nil {
		return err
	}
	recs := make([]RunRecord, len(runs))
	for i := range runs {
		recs[i] = NewRunRecord(runs[i], nil)
	}
	return answer(w, map[string]any{"runs": recs})
}

var runStates = []store.RunState{
	store.RunReady, store.RunRunning, store.RunWaiting, store.RunSucceeded, store.RunFailed, store.RunParked,
	store.RunDeadLetter, store.RunCancelled,
}

func (a *api) run(w http.ResponseWriter, r *http.Request) error {
	run, err := a.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("run %s: %w", r.PathValue("id"), err)
	}
	steps, err := a.store.Steps(r.Context(), run.ID)
	if err != nil {
		return err
	}
	return answer(w, light(NewRunRecord(run, steps)))
}

func (a *api) replay(w http.ResponseWriter, r *http.Request) error {
	run, err := a.host.Replay(r.Context(), host.Replay{
		Run: r.PathValue("id"), FromStep: r.URL.Query().Get("from"), Current: r.URL.Query().Get("current") == "true",
	})
	if err != nil {
		return err
	}
	return answer(w, map[string]any{"run": NewRunRecord(run, nil)})
}

func (a *api) deadLetters(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := limit(q.Get("limit"))
	if err != nil {
		return err
	}
	kind := q.Get("kind")
	if kind != "" && kind != "run" && kind != "event" && kind != "hint" {
		return invalid("kind=%s: give run, event or hint", kind)
	}
	dls, err := a.store.ListDeadLetters(r.Context(), store.DeadLetterFilter{
		Flow: q.Get("flow"), Kind: kind, All: q.Get("all") == "true", Limit: n,
	})
	if err != nil {
		return err
	}
	recs := make([]DeadLetterRecord, len(dls))
	for i := range dls {
		recs[i] = NewDeadLetterRecord(dls[i])
	}
	return answer(w, map[string]any{"dead_letters": recs})
}

// lift ends the quarantine or backoff of a connector.
func (a *api) lift(w http.ResponseWriter, r *http.Request) error {
	if !a.host.LiftQuarantine(r.PathValue("connector")) {
		return fmt.Errorf("connector %s: %w", r.PathValue("connector"), store.ErrNotFound)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *api) poll(w http.ResponseWriter, r *http.Request) error {
	if !a.host.PollNow(r.PathValue("connection"), r.PathValue("trigger")) {
		return fmt.Errorf("trigger %s of connection %s: %w", r.PathValue("trigger"), r.PathValue("connection"), store.ErrNotFound)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// invalidError marks what the caller got wrong.
type invalidError string

func (e invalidError) Error() string { return string(e) }

func invalid(format string, args ...any) error { return invalidError(fmt.Sprintf(format, args...)) }

func limit(s string) (int, error) {
	if s == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		return 0, invalid("limit=%s: give a number from 1 to %d", s, maxLimit)
	}
	return n, nil
}

const maxLimit = 10_000

// metrics writes the Prometheus text format.
func (a *api) metrics(w http.ResponseWriter, r *http.Request) error {
	s, err := a.host.Status(r.Context())
	if err != nil {
		return err
	}
	var b strings.Builder
	gauge := func(name, help string) {
		fmt.Fprintf(&b, "# HELP casewire_%s %s\n# TYPE casewire_%s gauge\n", name, help, name)
	}
	gauge("hints_waiting", "Hints waiting to be looked up.")
	fmt.Fprintf(&b, "casewire_hints_waiting %d\n", s.Store.Hints)
	gauge("dead_letters", "Dead letters that nobody dealt with.")
	fmt.Fprintf(&b, "casewire_dead_letters %d\n", s.Store.DeadLetters)
	gauge("runs", "Runs by state.")
	for _, k := range sorted(s.Store.Runs) {
		fmt.Fprintf(&b, "casewire_runs{state=%s} %d\n", label(k), s.Store.Runs[k])
	}
	gauge("events", "Events by verdict.")
	for _, k := range sorted(s.Store.Events) {
		fmt.Fprintf(&b, "casewire_events{verdict=%s} %d\n", label(k), s.Store.Events[k])
	}
	gauge("effects", "Keyed effects by state.")
	for _, k := range sorted(s.Store.Effects) {
		fmt.Fprintf(&b, "casewire_effects{state=%s} %d\n", label(k), s.Store.Effects[k])
	}
	if s.Space != nil {
		gauge("store_free_bytes", "Bytes that can still be written where the data file is.")
		fmt.Fprintf(&b, "casewire_store_free_bytes %d\n", s.Space.Free)
		gauge("store_needed_bytes", "Free bytes below which nothing new is accepted.")
		fmt.Fprintf(&b, "casewire_store_needed_bytes %d\n", s.Space.Needed)
	}
	gauge("trigger_last_poll_age_seconds", "Seconds since the last poll that succeeded; where none has, since the start.")
	for _, t := range s.Triggers {
		last := t.LastPoll
		if last.IsZero() {
			last = t.PolledFrom // a source that never answered must not look like one that is not polled
		}
		if !last.IsZero() {
			fmt.Fprintf(&b, "casewire_trigger_last_poll_age_seconds{connection=%s,trigger=%s} %.0f\n", label(t.Connection), label(t.Trigger), time.Since(last).Seconds())
		}
	}
	gauge("trigger_accepted", "Accepted events by the way that they came, since the start.")
	for _, t := range s.Triggers {
		fmt.Fprintf(&b, "casewire_trigger_accepted{connection=%s,trigger=%s,via=\"push\"} %d\n", label(t.Connection), label(t.Trigger), t.FoundByPush)
		fmt.Fprintf(&b, "casewire_trigger_accepted{connection=%s,trigger=%s,via=\"poll\"} %d\n", label(t.Connection), label(t.Trigger), t.FoundByPoll)
	}
	gauge("trigger_poll_errors", "Polls that failed, since the start.")
	for _, t := range s.Triggers {
		fmt.Fprintf(&b, "casewire_trigger_poll_errors{connection=%s,trigger=%s} %d\n", label(t.Connection), label(t.Trigger), t.PollErrors)
	}
	gauge("webhook_refused", "What webhooks were refused for, or found odd, since the start.")
	for _, t := range s.Triggers {
		for _, reason := range sorted(t.Refused) {
			fmt.Fprintf(&b, "casewire_webhook_refused{connection=%s,trigger=%s,reason=%s} %d\n", label(t.Connection), label(t.Trigger), label(reason), t.Refused[reason])
		}
	}
	gauge("connector_up", "1 for a connector process that is ready.")
	for _, c := range s.Connectors {
		up := 0
		if string(c.State) == "ready" {
			up = 1
		}
		fmt.Fprintf(&b, "casewire_connector_up{connector=%s} %d\n", label(c.Connector), up)
	}
	activity(&b, a.host.Metrics(), s.Triggers, time.Now())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, err = io.WriteString(w, b.String())
	return err
}

// label quotes a label's value as the text format wants it: it knows three escapes and no others.
func label[S ~string](v S) string {
	return `"` + labelEscapes.Replace(strings.ToValidUTF8(string(v), "\ufffd")) + `"`
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func sorted[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
