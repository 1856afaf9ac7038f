package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

// The last events, at most so many and so old, tell how push does against the poll.
const (
	gapEvents = 1000
	gapAge    = 24 * time.Hour
	// gapLeast is how many events it takes to judge.
	gapLeast = 20
)

// gap says for each trigger with a webhook how many of its latest events no push told of: what the poll finds is late, and
// a push that fell silent shows here first.
func (d *doctor) gap(ctx context.Context, known *connectors, now time.Time) error {
	if _, err := os.Stat(d.file.Store.Path); err != nil {
		return nil // there is no data file yet
	}
	st, err := sqlite.OpenReadOnly(ctx, d.file.Store.Path)
	if err != nil {
		return nil // said before
	}
	defer st.Close()
	events, err := st.Events(ctx, store.EventFilter{Verdict: store.Accepted, Limit: gapEvents})
	if err != nil {
		return err
	}
	type key struct{ connection, trigger string }
	push, poll, newest := map[key]int{}, map[key]int{}, map[key]time.Time{}
	for _, e := range events {
		k := key{e.Connection, e.Trigger}
		switch {
		case now.Sub(e.Received) > gapAge:
		case e.Via == store.ViaPush:
			if push[k]++; newest[k].Before(e.Received) {
				newest[k] = e.Received
			}
		case e.Via == store.ViaPoll:
			poll[k]++
		}
	}
	for _, c := range d.file.Connections {
		desc, ok := known.Connector(c.Connector)
		if !ok {
			continue
		}
		for _, t := range desc.GetTriggers() {
			k := key{c.Name, t.GetName()}
			all := push[k] + poll[k]
			if t.GetWebhook() == nil || all == 0 || d.file.HTTP.PublicURL == "" || !d.answered(c.Name, t.GetName()) {
				continue
			}
			f := Finding{
				Area: "webhook", Name: c.Name, Check: t.GetName() + ": push and poll", Status: statusOK,
				Summary: fmt.Sprintf("of the last %s, push brought %d, and the poll found %d that no push told of", count(all, "event"), push[k], poll[k]),
			}
			if remedy := lateBy(push[k], poll[k], now.Sub(newest[k])); remedy != "" {
				f.Status, f.Remedy = statusWarning, remedy
			}
			d.add(f)
		}
	}
	return nil
}

// lateBy says what is wrong with push, if anything is.
func lateBy(push, poll int, silent time.Duration) (remedy string) {
	switch {
	case push+poll < gapLeast:
		return ""
	case push == 0:
		return "nothing comes by push, so that everything is about a poll late: see the subscription's probe, the handshake, and who may reach the public address"
	case poll > push:
		return fmt.Sprintf("most pushes do not arrive, the last one %v ago: see that answers are given in time (casewire_webhook_refused, the proxy's log)", silent.Round(time.Second))
	}
	return ""
}
