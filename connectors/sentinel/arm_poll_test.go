package sentinel_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestARMPollBringsIncidentsWithTheirParts(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", map[string]any{"title": "Strange sign-ins", "severity": "High"}, armAlerts, armEntities)
	xdr := r.azure.AddSentinelIncident("", map[string]any{"providerName": "Microsoft XDR", "providerIncidentId": "28282"}, nil, nil)
	events, cur := r.poll(nil)
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	byName := map[string]sdk.Event{}
	for _, e := range events {
		byName[e.Subject] = e
	}
	e := byName[name]
	if e.PartitionKey != event.SentinelIncidentKey(name) || e.CorrelationID != "" || e.Tenant != r.azure.Tenant() {
		t.Errorf("key %s, correlation %q, tenant %s", e.PartitionKey, e.CorrelationID, e.Tenant)
	}
	if want := event.IncidentKey(r.azure.Tenant(), "28282"); byName[xdr].CorrelationID != want {
		t.Errorf("correlation %q, want %q", byName[xdr].CorrelationID, want)
	}
	var f ocsf.IncidentFinding
	if err := json.Unmarshal(e.Data, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Observables) != 3 || f.Observables[0].Value != "203.0.113.77" || f.FindingInfoList[0].RelatedEvents[0].UID != "5e0d4d2c-7f0e-4a8b-9a55-2b1f0c3d4e5f" {
		t.Errorf("observables %v, alerts %v", f.Observables, f.FindingInfoList[0].RelatedEvents)
	}
	if again, _ := r.poll(cur); len(again) > 0 {
		t.Errorf("came again: %d", len(again))
	}
	r.azure.TouchSentinelIncident(name, map[string]any{"status": "Active"})
	if news, _ := r.poll(cur); len(news) != 1 || news[0].Subject != name || news[0].ID == e.ID {
		t.Errorf("the change brought %d events", len(news))
	}
}

// TestARMPollBeyondTheCap: one list gives 1,000 incidents and no more, and says nothing of it.
func TestARMPollBeyondTheCap(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(i int) time.Time{
		"apart":       func(i int) time.Time { return time.Now().Add(-time.Hour).Add(time.Duration(i) * time.Second) },
		"at one time": func(int) time.Time { return time.Now().Add(-time.Hour).Truncate(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, azurefake.Options{ARM: azurefake.ARM{}}, settings{"page_size": 400})
			const n = 1030
			for i := range n {
				stamp := at(i).UTC().Format("2006-01-02T15:04:05.0000000Z")
				r.azure.AddSentinelIncident("", map[string]any{"createdTimeUtc": stamp, "lastModifiedTimeUtc": stamp}, nil, nil)
			}
			events, cur := r.poll(nil)
			seen := map[string]bool{}
			for _, e := range events {
				seen[e.Subject] = true
			}
			if len(seen) != n || len(events) != n {
				t.Errorf("%d incidents in %d events, want %d", len(seen), len(events), n)
			}
			if again, _ := r.poll(cur); len(again) > 0 {
				t.Errorf("came again: %d", len(again))
			}
		})
	}
}

func TestARMPollKeepsWhatCameBeforeAFailure(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	first := r.azure.AddSentinelIncident("", map[string]any{"lastModifiedTimeUtc": time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)}, nil, armEntities)
	pages, err := r.Poll(t.Context(), "incidents", nil)
	if err != nil {
		t.Fatal(err)
	}
	cur := any(pages[len(pages)-1].Cursor)
	second := r.azure.AddSentinelIncident("", nil, nil, armEntities)
	r.azure.SetFaults(azurefake.Faults{RetryAfter: time.Minute})
	fail := func() {
		t.Helper()
		r.azure.FailNext(azurefake.RouteARMEntities, azurefake.Throttle, 1)
		pages, err = r.Poll(t.Context(), "incidents", cur)
		refused(t, err, codes.ResourceExhausted, "Azure Resource Manager", "429", second)
		if len(pages) > 0 {
			cur = pages[len(pages)-1].Cursor
		}
	}
	for range 6 {
		fail()
	}
	// It comes, however long that took, and once.
	events, cur := r.poll(cur)
	if len(events) != 1 || events[0].Subject != second || strings.Contains(string(events[0].Data), "missingParts") {
		t.Fatalf("got %d events, want the one of %s (the first was %s)", len(events), second, first)
	}
	if again, _ := r.poll(cur); len(again) > 0 {
		t.Errorf("came again: %d", len(again))
	}
}

// TestARMPollMergedAndFiltered: a merged incident names the one that goes on.
func TestARMPollMergedAndFiltered(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, settings{"incident_filter": "properties/severity eq 'High'"})
	target := r.azure.AddSentinelIncident("", map[string]any{"incidentNumber": 41, "severity": "High"}, nil, nil)
	merged := r.azure.AddSentinelIncident("", map[string]any{
		"incidentNumber": 42, "severity": "High", "additionalData": map[string]any{"mergedIncidentNumber": 41},
	}, nil, nil)
	r.azure.AddSentinelIncident("", map[string]any{"severity": "Low"}, nil, nil)
	events, _ := r.poll(nil)
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for _, e := range events {
		if got := e.CorrelationID; e.Subject == merged && got != event.SentinelIncidentKey(target) || e.Subject == target && got != "" {
			t.Errorf("correlation %q", got)
		}
		if e.Subject == merged && !strings.Contains(string(e.Data), `"redirectIncidentId":"`+target+`"`) {
			t.Errorf("it does not say where it went: %s", e.Data)
		}
	}
}

// TestARMStorm: whatever the network does, every incident comes, carries one comment and the change that was asked for.
func TestARMStorm(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{Seed: 7}, settings{"page_size": 7})
	want := map[string]bool{}
	for range 40 {
		want[r.azure.AddSentinelIncident("", nil, armAlerts, armEntities)] = true
	}
	r.must("watchlist.list", settings{}) // a token
	r.azure.SetFaults(azurefake.Faults{Rates: map[string]map[azurefake.Fault]float64{
		"write": {azurefake.LostAnswer: 0.15, azurefake.ErrorAfter: 0.1, azurefake.Throttle: 0.1, azurefake.ServerError: 0.1, azurefake.CutBody: 0.1, azurefake.HTML: 0.05},
		"read":  {azurefake.Throttle: 0.03, azurefake.ServerError: 0.03, azurefake.Reset: 0.03, azurefake.BadJSON: 0.03},
	}})
	again := func(f func() error) {
		t.Helper()
		for try := 0; ; try++ {
			err := f()
			if err == nil {
				return
			}
			if try == 60 {
				t.Fatalf("does not come through: %v", err)
			}
		}
	}
	ids := map[string]string{}
	cur := any(nil)
	again(func() error {
		pages, err := r.Poll(t.Context(), "incidents", cur)
		for _, p := range pages {
			for _, e := range p.Events {
				if ids[e.ID] != "" && ids[e.ID] != string(e.Data) {
					t.Errorf("%s came twice, and not as the same", e.Subject)
				}
				ids[e.ID] = string(e.Data)
				delete(want, e.Subject)
			}
			cur = p.Cursor
		}
		return err
	})
	if len(want) > 0 || len(ids) != 40 {
		t.Errorf("%d incidents did not come; %d events", len(want), len(ids))
	}
	var names []string
	for _, data := range ids {
		var f ocsf.IncidentFinding
		if err := json.Unmarshal([]byte(data), &f); err != nil {
			t.Fatal(err)
		}
		if len(f.Observables) == 0 || len(f.FindingInfoList[0].RelatedEvents) == 0 {
			t.Errorf("%s came without its parts", f.FindingInfoList[0].UID)
		}
		names = append(names, f.FindingInfoList[0].UID)
	}
	for _, name := range names {
		again(func() error {
			_, err := r.Do(t.Context(), sdktest.Call{Action: "incident.comment", Key: "k" + name, Input: settings{"incident": name, "text": "Case of " + name}})
			return err
		})
		again(func() error {
			_, err := r.call("incident.update", settings{"incident": name, "status": "resolved", "verdict_id": 2})
			return err
		})
	}
	for _, name := range names {
		if c := r.azure.SentinelComments(name); len(c) != 1 || c[0] != "Case of "+name {
			t.Errorf("comments %q", c)
		}
		if p := r.azure.SentinelIncident(name); p["status"] != "Closed" || p["classification"] != "TruePositive" {
			t.Errorf("%v", p)
		}
	}
}

// TestARMOwnWritesAreNoNews: a comment and a label of ours move the incident's time, and not its digest.
func TestARMOwnWritesAreNoNews(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", nil, nil, nil)
	before, cur := r.poll(nil)
	r.must("incident.comment", settings{"incident": name, "text": "Case SEC-1"})
	r.must("incident.update", settings{"incident": name, "add_tags": []string{"casewire:tracked"}})
	after, cur := r.poll(cur)
	if len(after) != 1 || after[0].Digest != before[0].Digest || after[0].ID == before[0].ID {
		t.Errorf("%d events, digest %s, before %s", len(after), after[0].Digest, before[0].Digest)
	}
	r.azure.TouchSentinelIncident(name, map[string]any{"severity": "High"})
	if news, _ := r.poll(cur); len(news) != 1 || news[0].Digest == before[0].Digest {
		t.Error("somebody else's change is no news")
	}
}
