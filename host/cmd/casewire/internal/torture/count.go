package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"text/tabwriter"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

// result is what became of the alerts. Its JSON names are stable.
type result struct {
	Alerts         int      `json:"alerts"`
	Incidents      int      `json:"incidents"`
	EventsAccepted int      `json:"events_accepted"`
	Issues         int      `json:"issues"`
	Cases          int      `json:"cases"`
	Comments       int      `json:"comments"`
	Duplicates     int      `json:"duplicates"`
	Lost           int      `json:"lost"`
	Parked         []parked `json:"parked"`
	DeadLetters    int      `json:"dead_letters"`
	Kills          Killed   `json:"kills"`
	LostAnswers    uint64   `json:"lost_answers"`
	Throttled      uint64   `json:"throttled"`
	Seconds        float64  `json:"seconds"`

	waiting                   int
	issuesOf, casesOf, noteOf map[string]int // by incident, incident, alert
	alerts                    []lab.Alert
}

// parked is a run that waits for a person.
type parked struct {
	Run    string `json:"run"`
	Alert  string `json:"alert"`
	Reason string `json:"reason"`
}

// settled says whether everything has arrived.
func settled(w *lab.World, alerts []lab.Alert, incidents int) bool {
	return w.Issues() >= incidents && w.Hive.Count() >= incidents && notes(w) >= len(alerts)
}

// notes counts what alerts have to say in comments: many that wait for one issue are joined in one.
func notes(w *lab.World) int { return w.Jira.CommentsWith("alert sn") }

// ended says whether no run goes on any more, by the data file of the running host.
func ended(ctx context.Context, path string) bool {
	st, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		return false
	}
	defer st.Close()
	stats, err := st.Stats(ctx)
	return err == nil && stats.Runs[store.RunReady]+stats.Runs[store.RunRunning]+stats.Runs[store.RunWaiting] == 0
}

var noted = regexp.MustCompile(`alert (sn[0-9a-f-]{36})`)

// count reads the fakes' sides, and of the host's data file what no vendor can know.
func count(ctx context.Context, w *lab.World, alerts []lab.Alert, path string) (*result, error) {
	st, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	stats, err := st.Stats(ctx)
	if err != nil {
		return nil, err
	}
	r := &result{
		Alerts: len(alerts), EventsAccepted: stats.Events[store.Accepted], Issues: w.Issues(), Cases: w.Hive.Count(),
		DeadLetters: stats.DeadLetters, alerts: alerts, Parked: []parked{},
		waiting:  stats.Runs[store.RunReady] + stats.Runs[store.RunRunning] + stats.Runs[store.RunWaiting],
		issuesOf: map[string]int{}, casesOf: map[string]int{}, noteOf: map[string]int{},
	}
	runs, err := st.ListRuns(ctx, store.RunFilter{State: store.RunParked})
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		ev, err := st.Event(ctx, run.EventSource, run.EventID)
		if err != nil {
			return nil, err
		}
		r.Parked = append(r.Parked, parked{run.ID, ev.Subject, run.Reason})
	}
	jira := w.Jira.Ledger()
	for key := range jira.Issues {
		text, err := json.Marshal(w.Jira.Issue(key))
		if err != nil {
			return nil, err
		}
		var issue struct {
			Fields struct {
				Summary string `json:"summary"`
			} `json:"fields"`
		}
		if err := json.Unmarshal(text, &issue); err != nil {
			return nil, err
		}
		r.issuesOf[issue.Fields.Summary]++
		for _, m := range noted.FindAllSubmatch(text, -1) {
			r.noteOf[string(m[1])]++
			r.Comments++
		}
	}
	hive := w.Hive.Ledger()
	for _, c := range hive.Cases {
		r.casesOf[c.Title]++
	}
	for _, requests := range []map[string]map[string]uint64{w.Azure.Ledger().Requests, jira.Requests, hive.Requests} {
		lost, throttled := lab.Troubled(requests)
		r.LostAnswers, r.Throttled = r.LostAnswers+lost, r.Throttled+throttled
	}
	return r, nil
}

// judge counts what is doubled and what is lost. A parked alert is not lost: it is listed.
func (r *result) judge(incidents int) {
	held := map[string]bool{}
	for _, p := range r.Parked {
		held[p.Alert] = true
	}
	for _, a := range r.alerts {
		n := r.noteOf[a.ID]
		r.Duplicates += max(0, n-1)
		if n == 0 && !held[a.ID] {
			r.Lost++
		}
	}
	for _, of := range []map[string]int{r.issuesOf, r.casesOf} {
		for _, n := range of {
			r.Duplicates += n - 1
		}
		if len(r.Parked) == 0 {
			r.Lost += max(0, incidents-len(of))
		}
	}
}

func (r *result) good() bool {
	return r.Lost == 0 && r.Duplicates == 0 && r.DeadLetters == 0 && r.EventsAccepted == r.Alerts
}

func (r *result) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	row := func(label string, n any, note string) { fmt.Fprintf(t, "  %s\t%v\t  %s\n", label, n, note) }
	fmt.Fprintln(w)
	row("alerts sent", r.Alerts, fmt.Sprintf("of %d incidents", r.Incidents))
	row("events accepted", r.EventsAccepted, "each alert once, whatever way it came")
	row("Jira issues", r.Issues, "one for each incident")
	row("TheHive cases", r.Cases, "one for each incident")
	row("comments", r.Comments, "one for each alert")
	row("duplicates", r.Duplicates, "counted on the fakes' side")
	row("lost", r.Lost, "counted on the fakes' side")
	row("parked", len(r.Parked), "wait for a person")
	row("dead letters", r.DeadLetters, "")
	row("kills", r.Kills.Host+r.Kills.Connectors, fmt.Sprintf("SIGKILL: host %d, connectors %d", r.Kills.Host, r.Kills.Connectors))
	row("lost answers", r.LostAnswers, fmt.Sprintf("committed and not answered; throttled %d", r.Throttled))
	row("seconds", fmt.Sprintf("%.1f", r.Seconds), "")
	if err := t.Flush(); err != nil {
		return err
	}
	slices.SortFunc(r.Parked, func(a, b parked) int { return slices.Compare([]byte(a.Run), []byte(b.Run)) })
	for _, p := range r.Parked {
		fmt.Fprintf(w, "  parked: run %s, alert %s: %s\n", p.Run, p.Alert, p.Reason)
	}
	if r.waiting > 0 {
		fmt.Fprintf(w, "  %d runs have not ended\n", r.waiting)
	}
	return nil
}
