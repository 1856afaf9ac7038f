//go:build linux || darwin

package sqlite_test

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin/event"
)

// benchAlert makes an event as a Sentinel alert gives one: about 9 KB, four names, ids that land at random places.
func benchAlert(n int) event.Event {
	sum := sha256.Sum256(fmt.Appendf(nil, "alert %d", n))
	guid := fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	tenant := "7f1d5c1e-52a8-4f3c-9d6a-0a3f0c1b2d3e"
	var data strings.Builder
	data.WriteString(`{"class_uid":2004,"message":"Impossible travel","evidences":[`)
	for i := 0; data.Len() < 9<<10; i++ {
		if i > 0 {
			data.WriteByte(',')
		}
		fmt.Fprintf(&data, `{"uid":"%s-%d","data":{"ip":"198.51.100.%d","user":"user%d@example.com","verdict":"suspicious"}}`, guid, i, i%256, n)
	}
	data.WriteString(`]}`)
	return event.Event{
		ID:     strings.ToLower(base32.HexEncoding.EncodeToString(sum[:20])),
		Source: "https://graph.microsoft.com/" + tenant + "/security/alerts_v2", Type: event.TypeAlert, Subject: "sn" + guid,
		Time: time.UnixMilli(1_900_000_000_000 + int64(n)), DataSchema: "https://schema.ocsf.io/1.8.0/classes/detection_finding",
		PartitionKey: "msalert:" + tenant + ":" + guid, CorrelationID: fmt.Sprint("msincident:", tenant, ":", n), Tenant: tenant,
		Rev: fmt.Sprintf("%015d", 1_900_000_000_000+n), Digest: fmt.Sprintf("%x", sum[:8]),
		Aliases: []string{"graph:" + tenant + ":sn" + guid, "vendor:" + tenant + ":" + guid},
		Data:    json.RawMessage(data.String()),
	}
}

func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bench runs alert for b.N alerts from 64 callers and reports alerts per second and CPU per alert.
func bench(b *testing.B, alert func(ctx context.Context, s *sqlite.Store, n int) error) {
	s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "casewire.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := cpu()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				n := int(next.Add(1))
				if n > b.N {
					return
				}
				if err := alert(b.Context(), s, n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "alerts/s")
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/alert")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// alerts are made before the clock runs.
func alerts(b *testing.B) []event.Event {
	b.Helper()
	out := make([]event.Event, b.N+1)
	for i := range out {
		out[i] = benchAlert(i)
	}
	return out
}

func intake(e event.Event, hint bool) store.Ingest {
	in := store.Ingest{
		Connection: "alerts", Trigger: "alerts", Tenant: "acme", Via: store.ViaPush, Now: time.Now(),
		Events: []store.Incoming{{Event: e, Runs: []store.NewRun{{Flow: "to-case", FlowVersion: "0123456789abcdef", GroupBy: "incident"}}}},
	}
	if hint {
		in.Done = []store.Hint{{Connection: "alerts", Trigger: "alerts", ID: e.Subject}}
	}
	return in
}

// BenchmarkIngest64 is the intake alone: an event of 9 KB, its object, three names and a run.
func BenchmarkIngest64(b *testing.B) {
	all := alerts(b)
	bench(b, func(ctx context.Context, s *sqlite.Store, n int) error {
		_, err := s.Ingest(ctx, intake(all[n], false))
		return err
	})
}

// BenchmarkPipeline64 is all that the store does for one alert that becomes one case.
func BenchmarkPipeline64(b *testing.B) {
	all := alerts(b)
	bySubject := make(map[string]event.Event, len(all))
	for _, e := range all {
		bySubject[e.Subject] = e
	}
	input := json.RawMessage(`{"title":"[Sentinel] Impossible travel","description":"` + strings.Repeat("words ", 250) + `"}`)
	output := json.RawMessage(`{"id":"~4096","number":17,"url":"https://hive.example/cases/~4096/details","created":true}`)
	bench(b, func(ctx context.Context, s *sqlite.Store, n int) error {
		now := time.Now()
		hint := store.Hint{Connection: "alerts", Trigger: "alerts", ID: all[n].Subject, Data: json.RawMessage(`{"resource":"security/alerts_v2"}`), Received: now}
		if _, err := s.AddHints(ctx, []store.Hint{hint}); err != nil {
			return err
		}
		hints, err := s.ClaimHints(ctx, store.HintClaim{Connection: "alerts", Trigger: "alerts", Limit: 1, Now: now.Add(time.Minute), LeaseUntil: now.Add(time.Hour)})
		if err != nil {
			return err
		}
		for _, h := range hints {
			if _, err := s.Ingest(ctx, intake(bySubject[h.ID], true)); err != nil {
				return err
			}
		}
		runs, err := s.ClaimRuns(ctx, store.RunClaim{Owner: "bench", Limit: 1, Now: now.Add(time.Minute), LeaseUntil: now.Add(time.Hour)})
		if err != nil {
			return err
		}
		for _, r := range runs {
			lease := store.Lease{Run: r.ID, Fence: r.Fence}
			key := store.EffectKey{Connection: "cases", Action: "thehive.case.ensure", Key: r.CaseKey}
			step := store.Step{Path: "case", Seq: 1, Action: key.Action, State: store.StepIntent, Attempt: 1, Input: input, Key: key.Key, Started: now}
			prior, err := s.BeginEffect(ctx, lease, store.Effect{EffectKey: key, Path: "case", Updated: now}, []store.Step{step})
			if err != nil {
				return err
			}
			if prior.State != "" {
				return fmt.Errorf("prior %s", prior.State)
			}
			step.State, step.Output, step.Ended = store.StepSucceeded, output, now
			err = s.Advance(ctx, store.Advance{
				Lease: lease, Now: now, Steps: []store.Step{step}, State: store.RunSucceeded, Output: output,
				Effects: []store.Effect{{EffectKey: key, State: store.EffectDone, Path: "case", Result: output}},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
