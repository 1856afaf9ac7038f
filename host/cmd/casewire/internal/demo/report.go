package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// result is what became of the alerts. Its JSON names are stable.
type result struct {
	AlertsSent     int     `json:"alerts_sent"`
	EventsAccepted int     `json:"events_accepted"`
	ByPush         int     `json:"by_push"`
	ByReconcile    int     `json:"by_reconcile"`
	CasesJira      int     `json:"cases_jira"`
	CasesTheHive   int     `json:"cases_thehive"`
	Duplicates     int     `json:"duplicates"`
	Lost           int     `json:"lost"`
	Parked         int     `json:"parked"`
	DeadLetters    int     `json:"dead_letters"`
	Kills          int     `json:"kills"`
	Seconds        float64 `json:"seconds"`

	// For people only.
	wantHive        int
	backlinks       int
	retries         int
	pushDropped     uint64
	pushDoubled     uint64
	lateLookups     uint64
	lostAnswers     uint64
	throttled       uint64
	waiting         int
	missing, double []string
}

func (r result) good() bool {
	return r.Lost == 0 && r.Duplicates == 0 && r.DeadLetters == 0 && r.EventsAccepted == r.AlertsSent
}

func (r result) json(w io.Writer) error {
	return json.NewEncoder(w).Encode(r)
}

func (r result) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	row := func(label string, n any, note string) { fmt.Fprintf(t, "  %s\t%v\t  %s\n", label, n, note) }
	fmt.Fprintln(w)
	row("alerts sent", r.AlertsSent, fmt.Sprintf("pushes dropped %d, doubled %d; look-ups too early %d", r.pushDropped, r.pushDoubled, r.lateLookups))
	row("events accepted", r.EventsAccepted, "each alert once, whatever way it came")
	row("by push", r.ByPush, "")
	row("by reconcile", r.ByReconcile, "found by the poll")
	row("Jira issues", r.CasesJira, fmt.Sprintf("of %d; answers lost after the commit %d, throttled %d", r.AlertsSent, r.lostAnswers, r.throttled))
	row("TheHive cases", r.CasesTheHive, fmt.Sprintf("of %d: alerts of medium severity and above, enriched by KQL", r.wantHive))
	row("links back", r.backlinks, "comments on the alerts")
	row("duplicates", r.Duplicates, "counted on the fakes' side")
	row("lost", r.Lost, "counted on the fakes' side")
	row("parked", r.Parked, "")
	row("dead letters", r.DeadLetters, "")
	row("retries", r.retries, "")
	row("kills", r.Kills, "SIGKILL of the host in mid-flight")
	row("seconds", fmt.Sprintf("%.1f", r.Seconds), "")
	if err := t.Flush(); err != nil {
		return err
	}
	for _, id := range r.missing {
		fmt.Fprintf(w, "  lost: %s\n", id)
	}
	for _, id := range r.double {
		fmt.Fprintf(w, "  double: %s\n", id)
	}
	if r.good() {
		_, err := fmt.Fprintln(w, "\nevery alert became exactly one case per target")
		return err
	}
	_, err := fmt.Fprintf(w, "\nNOT every alert became exactly one case per target (%d runs still waiting)\n", r.waiting)
	return err
}
