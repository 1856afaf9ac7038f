package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/store/sqlite"
)

const hookState = "bench-client-state"

// hooks sends change notifications, one alert each, from 64 senders, and times the durable answers. The alerts do not
// exist, so that the look-ups beside are as many as the host cares to make. In the end the host is killed, and what it
// accepted must be in its data file.
func hooks(ctx context.Context) (figures []figure, err error) {
	const senders, rounds, length = 64, 3, 2 * time.Second
	err = folder(func(dir string) error {
		w, err := lab.New(dir, lab.Options{})
		if err != nil {
			return err
		}
		defer w.Close()
		if err := w.WriteConfig(lab.Config{Push: "receive", ClientState: hookState, Poll: time.Hour, Flows: lab.JiraOnlyFlow()}); err != nil {
			return err
		}
		h := lab.NewHost(dir, w.HostURL)
		defer h.Kill()
		if _, err := h.Start(ctx); err != nil {
			return err
		}
		url := w.HostURL + "/hooks/alerts/alerts"
		total, _, err := storm(ctx, url, senders, time.Second, "warm")
		if err != nil {
			return err
		}
		before, err := cpu(h.PID())
		if err != nil {
			return err
		}
		var rate float64
		var p50, p99 time.Duration
		measured := 0
		for i := range rounds {
			n, times, err := storm(ctx, url, senders, length, fmt.Sprintf("run%d-", i))
			if err != nil {
				return err
			}
			measured += n
			slices.Sort(times)
			rate = max(rate, float64(n)/length.Seconds())
			if p := times[len(times)*99/100]; p99 == 0 || p < p99 {
				p50, p99 = times[len(times)/2], p
			}
		}
		after, err := cpu(h.PID())
		if err != nil {
			return err
		}
		_, about := after.since(before, measured)
		h.Kill()
		kept, err := hintsIn(ctx, filepath.Join(dir, "casewire.db"))
		if err != nil {
			return err
		}
		if kept < total+measured {
			return fmt.Errorf("%d notifications were answered with 202, and %d are in the data file", total+measured, kept)
		}
		figures = []figure{
			atLeast("hook_accept_per_s", rate, "events/s", 3000,
				fmt.Sprintf("%d senders, best of %d times %v; %d accepted, all on disk after kill -9; µs each: %s", senders, rounds, length, total+measured, about)),
			atMost("hook_ack_p99_ms", float64(p99.Microseconds())/1000, "ms", 40, fmt.Sprintf("best of %d; median %v; look-ups go on beside", rounds, p50.Round(10*time.Microsecond))),
		}
		return nil
	})
	return figures, err
}

// hintsIn counts the hints in the data file of a host that is not running.
func hintsIn(ctx context.Context, path string) (int, error) {
	st, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	stats, err := st.Stats(ctx)
	return stats.Hints, err
}

// storm posts notifications from n senders for d and returns how many were accepted, and how long each took.
func storm(ctx context.Context, url string, n int, d time.Duration, tag string) (int, []time.Duration, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n, MaxConnsPerHost: n}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var all []time.Duration
	var first error
	var seq atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var mine []time.Duration
			for ctx.Err() == nil {
				body := fmt.Appendf(nil, `{"value":[{"subscriptionId":"bench","clientState":%q,"changeType":"created","resource":"security/alerts_v2/x","resourceData":{"id":"sn%s%d"}}]}`, hookState, tag, seq.Add(1))
				begin := time.Now()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
				if err != nil {
					return
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(req)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode != http.StatusAccepted {
						err = fmt.Errorf("a notification was answered with %s", resp.Status)
					}
				}
				if err != nil {
					mu.Lock()
					if first == nil && ctx.Err() == nil {
						first = err
					}
					mu.Unlock()
					break
				}
				mine = append(mine, time.Since(begin))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if first == nil && len(all) == 0 {
		first = fmt.Errorf("nothing was accepted in %v", d)
	}
	return len(all), all, first
}
