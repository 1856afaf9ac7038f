// Package conformance judges a connector from outside: it starts the executable as a host would, talks to it over the
// protocol, and says of each rule of the protocol whether the connector keeps it. It knows nothing of the language that
// the connector is written in. The rules are explained in plugin/PROTOCOL.md.
package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Subject is the connector to be judged, and what may be done with it.
type Subject struct {
	// Path and Args start the connector.
	Path string
	Args []string
	// Env is the environment of the connector, without what the protocol adds.
	Env []string
	// Config is a connection's configuration with a working vendor behind it. Without one, a configuration is made from
	// the config schema, and checks that need a vendor's answers are skipped.
	Config json.RawMessage
	// Hanging is a configuration to take in the place of Config when the vendor is to be one that never answers; for a
	// connector that would not get past signing in, and shares that among its calls.
	Hanging json.RawMessage
	// Writes allows to call actions that change something at the vendor behind Config.
	Writes bool
	// Inputs are inputs by action; they go before the examples that the connector describes.
	Inputs map[string]json.RawMessage
	// Only, unless empty, are the ids of the checks to run; "invoke" stands for all that begin with "invoke.".
	Only []string
}

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Result is what became of one check. Its JSON is stable.
type Result struct {
	ID     string `json:"id"`
	Rule   string `json:"rule"`
	Status Status `json:"status"`
	// Detail says what was found, or why the check was skipped.
	Detail string `json:"detail,omitempty"`
	// Remedy says what to do about a failure.
	Remedy  string  `json:"remedy,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Report is the judgement. Its JSON is stable.
type Report struct {
	Connector string   `json:"connector"`
	Version   string   `json:"version"`
	Passed    int      `json:"passed"`
	Failed    int      `json:"failed"`
	Skipped   int      `json:"skipped"`
	Results   []Result `json:"results"`
}

// OK says whether nothing failed.
func (r *Report) OK() bool { return r.Failed == 0 }

// check judges one rule. Its function returns nil, a skip, or what is wrong.
type check struct {
	id     string
	rule   string
	remedy string
	run    func(ctx context.Context, s *suite) error
}

// checkTimeout bounds one check, whatever the connector does.
const checkTimeout = 90 * time.Second

// all lists the checks in the order in which they run. The last ones judge what was seen during all others.
func all() []check {
	return slices.Concat(processChecks, describeChecks, configureChecks, invokeChecks, consumeChecks, webhookChecks, drainChecks, lastChecks)
}

// Rules returns the id and the sentence of every check, in order.
func Rules() []Result {
	var out []Result
	for _, c := range all() {
		out = append(out, Result{ID: c.id, Rule: c.rule, Remedy: c.remedy})
	}
	return out
}

// Run judges a connector. Each result is handed to progress, if there is one, as soon as it is there. The error is for
// what keeps the suite from judging at all, such as an end of ctx; a bad connector is a report with failures.
func Run(ctx context.Context, sub Subject, progress func(Result)) (*Report, error) {
	for _, o := range sub.Only {
		if !slices.ContainsFunc(all(), func(c check) bool { return chosen(c.id, []string{o}) }) {
			return nil, fmt.Errorf("there is no check %q", o)
		}
	}
	s, err := newSuite(sub)
	if err != nil {
		return nil, err
	}
	defer s.close()
	report := &Report{}
	for _, c := range all() {
		if len(sub.Only) > 0 && !chosen(c.id, sub.Only) {
			continue
		}
		r := s.judge(ctx, c)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		switch r.Status {
		case Pass:
			report.Passed++
		case Fail:
			report.Failed++
		case Skip:
			report.Skipped++
		}
		report.Results = append(report.Results, r)
		if progress != nil {
			progress(r)
		}
	}
	if s.about != nil {
		report.Connector, report.Version = s.about.GetName(), s.about.GetVersion()
	}
	return report, nil
}

func chosen(id string, only []string) bool {
	return slices.ContainsFunc(only, func(o string) bool { return id == o || strings.HasPrefix(id, o+".") })
}

func (s *suite) judge(ctx context.Context, c check) Result {
	begin := time.Now()
	within, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var err error
	var slow late
	for try := 1; ; try++ {
		err = c.run(within, s)
		if died := s.died(); died != nil && err == nil {
			err = died
		}
		if !errors.As(err, &slow) || try == lateTries || within.Err() != nil {
			break
		}
		s.retire() // what hangs in it must not spoil the next try
	}
	r := Result{ID: c.id, Rule: c.rule, Status: Pass, Seconds: time.Since(begin).Seconds()}
	var skip skipped
	switch {
	case errors.As(err, &skip):
		r.Status, r.Detail = Skip, skip.Error()
	case err != nil:
		r.Status, r.Detail, r.Remedy = Fail, clip(s.redact(err.Error())), c.remedy
	}
	return r
}

// late says that something took too long. One moment in which a busy machine stood still is no fault of the connector:
// only what is late each time is judged.
type late string

const lateTries = 3

func (l late) Error() string { return string(l) }

func latef(format string, args ...any) error { return late(fmt.Sprintf(format, args...)) }

// skipped says why a check does not apply or cannot be made.
type skipped string

func (s skipped) Error() string { return string(s) }

func skipf(format string, args ...any) error { return skipped(fmt.Sprintf(format, args...)) }

// clip keeps a hostile connector from flooding the report.
func clip(text string) string {
	const most = 1200
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
