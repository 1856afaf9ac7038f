package indicators

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/host/internal/cli"
	"github.com/casewire/casewire/plugin"
)

const (
	// batchSize is the unit of progress: one import of Defender, five uploads to Sentinel.
	batchSize = 500
	// callTime bounds one call: five uploads that each wait for the quota.
	callTime = 15 * time.Minute
	// tries is how often a batch is sent that fails in a way that may pass.
	tries    = 10
	maxPause = 30 * time.Second
)

// answer is what indicators.parse and indicators.submit say.
type answer struct {
	Requests int      `json:"requests"`
	Results  []result `json:"results"`
}

// submission is one run of the command.
type submission struct {
	o              options
	file           string
	stdin          io.Reader
	stdout, stderr io.Writer

	src   *source
	conn  *cli.Connected
	j     *journal
	known facts
	seen  map[string]string // where an id stands first
	rep   *reporter
	bar   *bar
}

func (s *submission) run(ctx context.Context, app cli.App) (err error) {
	if s.src, err = openSource(s.file, s.o.format, s.stdin); err != nil {
		return err
	}
	defer s.src.close()
	if s.conn, err = cli.Connect(ctx, app, s.o.config, s.o.connection, "threatintel", s.stderr); err != nil {
		return err
	}
	defer s.conn.Close()
	s.seen, s.known = map[string]string{}, facts{}
	if s.rep, err = newReporter(s.o.report); err != nil {
		return cli.Environment(err)
	}
	defer s.rep.abandon()
	s.bar = newBar(s.stderr, s.src.total)
	defer s.bar.end()
	knownPath, err := s.openFiles()
	if err != nil {
		return err
	}
	if s.j != nil {
		defer s.j.close()
	}
	if err := s.src.batches(batchSize, func(n int, batch []feed.Draft) error { return s.batch(ctx, n, batch) }); err != nil {
		return s.stopped(err)
	}
	s.bar.end()
	if !s.o.dryRun {
		if err := errors.Join(s.known.write(knownPath, time.Now()), s.j.finish()); err != nil {
			return cli.Environment(err)
		}
	}
	if err := s.rep.close(); err != nil {
		return cli.Environment(err)
	}
	if err := s.tell(); err != nil {
		return err
	}
	if s.rep.counts[rejected] > 0 {
		return cli.Quiet(cli.ExitFailure)
	}
	return nil
}

// openFiles opens what is known of this connection, and the journal of this file.
func (s *submission) openFiles() (knownPath string, err error) {
	dir := s.o.journal
	if dir == "" {
		dir = s.conn.Store + ".indicators"
	}
	if s.o.dryRun { // it leaves nothing behind
		if s.known, err = readFacts(filepath.Join(dir, s.knownName())); err != nil {
			return "", cli.Environment(err)
		}
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", cli.Environment(err)
	}
	knownPath = filepath.Join(dir, s.knownName())
	what, err := json.Marshal([]any{s.src.digest, s.place(), s.src.format, s.o.defaults})
	if err != nil {
		return "", err
	}
	if !s.o.again {
		if s.known, err = readFacts(knownPath); err != nil {
			return "", cli.Environment(err)
		}
	}
	if s.j, err = openJournal(filepath.Join(dir, s.conn.Connection+"-"+digest(what)[:20]+".journal")); err != nil {
		return "", cli.Environment(err)
	}
	if len(s.j.done) > 0 {
		s.bar.say("going on after %s that had been confirmed", plural(len(s.j.done), "batch"))
	}
	return knownPath, nil
}

func (s *submission) knownName() string { return s.conn.Connection + "-" + s.place()[:12] + ".known" }

// place tells apart where indicators go and under what ids: what is known of one workspace is not known of another.
func (s *submission) place() string {
	var cfg map[string]any
	_ = json.Unmarshal(s.conn.Config, &cfg) // it was made by us
	credential, _ := cfg["credential"].(map[string]any)
	key := []any{s.conn.Connection, credential["tenant_id"], credential["cloud"]}
	for _, name := range []string{"target", "workspace_id", "source_system", "upload_url", "defender_url"} {
		key = append(key, cfg[name])
	}
	b, err := json.Marshal(key)
	if err != nil { // it is plain
		b = []byte(s.conn.Connection)
	}
	return digest(b)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// batch brings one batch to its end.
func (s *submission) batch(ctx context.Context, n int, drafts []feed.Draft) error {
	if s.j != nil {
		if e, done := s.j.done[n]; done {
			for i := range e.Results {
				s.first(&e.Results[i])
				s.known.learn(&e.Results[i])
			}
			s.rep.requests += e.Uploads
			s.bar.add(len(drafts))
			return s.rep.add(e.Results)
		}
	}
	results, send, err := s.look(ctx, drafts)
	if err != nil {
		return err
	}
	e := entry{Batch: n, Done: true, Results: results}
	if !s.o.dryRun && len(send) > 0 {
		if e.Uploads, err = s.send(ctx, n, drafts, results, send); err != nil {
			return err
		}
	}
	if s.j != nil {
		if err := s.j.write(e); err != nil {
			return cli.Environment(err)
		}
	}
	s.rep.requests += e.Uploads
	s.bar.add(len(drafts))
	return s.rep.add(results)
}

// first remembers where an id stands first; false if it stands elsewhere already.
func (s *submission) first(r *result) bool {
	if r.ID == "" || r.Status == rejected || r.Status == duplicate {
		return true
	}
	if at, ok := s.seen[r.ID]; ok && at != r.At {
		r.Status, r.Reason = duplicate, "the same value as "+at
		return false
	}
	s.seen[r.ID] = r.At
	return true
}

// look asks the connector what the drafts are, and finds out what has to be sent.
func (s *submission) look(ctx context.Context, drafts []feed.Draft) ([]result, []int, error) {
	var a answer
	if err := s.call(ctx, cli.Call{Action: "indicators.parse"}, drafts, &a); err != nil {
		return nil, nil, err
	}
	if len(a.Results) != len(drafts) {
		return nil, nil, fmt.Errorf("the connector said what became of %d indicators out of %d", len(a.Results), len(drafts))
	}
	var send []int
	now := time.Now()
	for i := range a.Results {
		r := &a.Results[i]
		if r.Status != valid || !s.first(r) {
			continue
		}
		f, ok := s.known[r.ID]
		if ok && f.current(r.Digest, now) {
			r.Status, r.Created, r.Modified, r.ValidUntil, r.RenewAfter = unchanged, f.created, f.modified, f.until, f.renew
			continue
		}
		if ok {
			drafts[i].Created, drafts[i].Modified = f.created, f.modified
		}
		send = append(send, i)
	}
	return a.Results, send, nil
}

// send submits what has to be, until it is confirmed.
func (s *submission) send(ctx context.Context, n int, drafts []feed.Draft, results []result, send []int) (uploads int, err error) {
	at, begun := s.j.begun[n]
	if !begun {
		at = time.Now().UTC().Truncate(time.Millisecond)
		if err := s.j.write(entry{Batch: n, At: at}); err != nil {
			return 0, cli.Environment(err)
		}
	}
	list := make([]feed.Draft, len(send))
	for i, k := range send {
		list[i] = drafts[k]
	}
	call := cli.Call{Action: "indicators.submit", Key: fmt.Sprintf("%s/%d", s.src.digest, n), FirstSent: at}
	var a answer
	for call.Attempt = 1; ; call.Attempt++ {
		err := s.call(ctx, call, list, &a)
		if err == nil {
			break
		}
		wait, again := pauseAfter(err, call.Attempt)
		if !again || ctx.Err() != nil {
			return 0, err
		}
		s.bar.say("%v; again in %v", err, wait.Round(100*time.Millisecond))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return 0, ctx.Err()
		}
	}
	if len(a.Results) != len(send) {
		return 0, fmt.Errorf("the connector said what became of %d indicators out of %d", len(a.Results), len(send))
	}
	for i, k := range send {
		at := results[k].At
		results[k] = a.Results[i]
		results[k].At = at
		if results[k].Status == unchanged { // by what the connector remembers
			s.known[results[k].ID] = fact{results[k].Digest, results[k].Created, results[k].Modified, results[k].ValidUntil, results[k].RenewAfter}
		}
		s.known.learn(&results[k])
	}
	return a.Requests, nil
}

// pauseAfter says how long to wait before a batch is sent again. To send it again is safe: the ids are the same.
func pauseAfter(err error, attempt int) (time.Duration, bool) {
	e, ok := errors.AsType[*plugin.Error](err)
	if !ok || attempt >= tries {
		return 0, false
	}
	switch e.Class() {
	case plugin.ClassThrottled, plugin.ClassTimeout, plugin.ClassUnavailable, plugin.ClassUncertain, plugin.ClassConflict:
	default:
		return 0, false
	}
	wait := min(100*time.Millisecond<<attempt, maxPause)
	return max(wait, e.RetryAfter), true
}

// call invokes an action with drafts.
func (s *submission) call(ctx context.Context, call cli.Call, drafts []feed.Draft, out *answer) error {
	input, err := json.Marshal(struct {
		Indicators []feed.Draft `json:"indicators"`
		defaults
	}{drafts, s.o.defaults})
	if err != nil {
		return err
	}
	if len(input) > plugin.MaxInput {
		return fmt.Errorf("%d indicators have %d bytes, more than %d; are the descriptions that long?", len(drafts), len(input), plugin.MaxInput)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	call.Input = input
	raw, err := s.conn.Invoke(ctx, call, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

// stopped says how to go on.
func (s *submission) stopped(err error) error {
	s.bar.end()
	if s.o.dryRun {
		return err
	}
	if e, ok := errors.AsType[*plugin.Error](err); ok && (e.Class() == plugin.ClassInvalid || e.Class() == plugin.ClassConfig) && len(s.rep.counts) == 0 {
		return cli.Invalid(err)
	}
	return fmt.Errorf("%w; %d of %d indicators are done: run the same command again to go on", err, s.bar.done, s.src.total)
}
