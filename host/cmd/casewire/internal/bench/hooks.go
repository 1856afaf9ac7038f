package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
)

const hookState = "bench-client-state"

// hooks sends change notifications, one alert each, from 64 senders, and times the durable answers.
func hooks(ctx context.Context) (figures []figure, err error) {
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
		if _, _, err := storm(ctx, url, 64, time.Second, "warm"); err != nil {
			return err
		}
		n, times, err := storm(ctx, url, 64, 4*time.Second, "run")
		if err != nil {
			return err
		}
		slices.Sort(times)
		p99 := times[len(times)*99/100]
		rate := float64(n) / 4
		figures = []figure{
			atLeast("hook_accept_per_s", rate, "events/s", 3000, fmt.Sprintf("64 senders, %d events, each on disk before its 202; look-ups go on beside", n)),
			atMost("hook_ack_p99_ms", float64(p99.Microseconds())/1000, "ms", 40, fmt.Sprintf("median %v", times[len(times)/2].Round(10*time.Microsecond))),
		}
		return nil
	})
	return figures, err
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
