package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// What the logs suite asks for.
const (
	logRows    = 500_000
	logColumns = 12
	smallRows  = 10
)

// logs compares a large result of Log Analytics, decoded by the connector and streamed to the host, with encoding/json
// making []map[string]any of the same bytes; and a small one with the bare HTTP request.
func logs(ctx context.Context) (figures []figure, err error) {
	err = folder(func(dir string) error {
		w, err := lab.New(dir, lab.Options{})
		if err != nil {
			return err
		}
		defer w.Close()
		large := logBody(logRows)
		stream := func(body []byte) azurefake.Result {
			return azurefake.Result{Stream: func(out io.Writer) error {
				_, err := out.Write(body)
				return err
			}}
		}
		w.Azure.SetRows("Large", stream(large))
		w.Azure.SetRows("Small", stream(logBody(smallRows)))
		ratio, err := logRatio(ctx, w, dir, large)
		if err != nil {
			return err
		}
		peak, err := logPeak(ctx, w, dir)
		if err != nil {
			return err
		}
		figures = append(figures, ratio...)
		figures = append(figures, peak)
		return nil
	})
	return figures, err
}

// logHost is a host with a connection to the fake's workspace.
func logHost(ctx context.Context, w *lab.World, dir string) (*host.Host, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	config, err := w.Connection("loganalytics", false)
	if err != nil {
		return nil, nil, err
	}
	st, err := sqlite.Open(ctx, filepath.Join(dir, "logs.db"), sqlite.Options{})
	if err != nil {
		return nil, nil, err
	}
	h, err := host.New(host.Options{
		Store: st, RunDir: filepath.Join(dir, "run"),
		Connectors: map[string]host.Connector{"loganalytics": host.ExecConnector(self, []string{"connector", "loganalytics"}, func() (*connectorv1.DescribeResponse, error) {
			return sdk.Server(loganalytics.Connector()).Describe(ctx, &connectorv1.DescribeRequest{})
		})},
		Connections: []host.Connection{{Name: "logs", Connector: "loganalytics", Config: config}},
	})
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	if err := h.Start(ctx); err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return h, func() {
		_ = h.Stop(context.WithoutCancel(ctx))
		_ = st.Close()
	}, nil
}

// ask runs a query through the host and counts its rows.
func ask(ctx context.Context, h *host.Host, table string) (rows int, err error) {
	in := fmt.Appendf(nil, `{"query":%q,"max_rows":%d}`, table, logRows)
	_, err = h.Invoke(ctx, host.Invocation{Connection: "logs", Action: "query", Input: in, Timeout: 5 * time.Minute, OnEvent: func(m *connectorv1.InvokeResponse) error {
		rows += int(m.GetRows().GetCount())
		return nil
	}})
	return rows, err
}

// logRatio measures from the request to the last row at the host: the fake sends bytes that are there already, the
// connector, a process of its own, makes objects of them, and the host holds each against JSON. The fake, the connector and
// the host share the processors; encoding/json has them for itself, and sends nothing. Both begin with the garbage of the
// other gone, for it would be collected at their expense.
func logRatio(ctx context.Context, w *lab.World, dir string, large []byte) ([]figure, error) {
	h, stop, err := logHost(ctx, w, dir)
	if err != nil {
		return nil, err
	}
	defer stop()
	// The small ones first: what the large ones leave behind is not theirs.
	small, err := logSmall(ctx, h, w)
	if err != nil {
		return nil, err
	}
	var ours, theirs []time.Duration
	for range 5 {
		runtime.GC()
		begin := time.Now()
		n, err := ask(ctx, h, "Large")
		if err != nil {
			return nil, err
		}
		if n != logRows {
			return nil, fmt.Errorf("%d rows came instead of %d", n, logRows)
		}
		ours = append(ours, time.Since(begin))
		runtime.GC()
		begin = time.Now()
		if n, err = plainDecode(large); err != nil || n != logRows {
			return nil, fmt.Errorf("encoding/json found %d rows: %w", n, err)
		}
		theirs = append(theirs, time.Since(begin))
	}
	o, t := slices.Min(ours), slices.Min(theirs)
	return []figure{
		atLeast("rows_decode_ratio", float64(t)/float64(o), "x", 3, fmt.Sprintf("%d rows × %d columns, %d MB: %v from the request to the last row at the host; encoding/json alone %v; best of 5 each",
			logRows, logColumns, len(large)>>20, o.Round(time.Millisecond), t.Round(time.Millisecond))),
		small,
	}, nil
}

// plainDecode is the baseline: what a program does that is not written with care.
func plainDecode(body []byte) (int, error) {
	var in struct {
		Tables []struct {
			Columns []struct{ Name string }
			Rows    [][]any
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return 0, err
	}
	t := in.Tables[0]
	rows := make([]map[string]any, len(t.Rows))
	for i, r := range t.Rows {
		m := make(map[string]any, len(r))
		for k, c := range t.Columns {
			m[c.Name] = r[k]
		}
		rows[i] = m
	}
	return len(rows), nil
}

// logSmall is what the host and its connector add to a request, in turns with the bare one.
func logSmall(ctx context.Context, h *host.Host, w *lab.World) (figure, error) {
	bare, err := bareQuery(ctx, w)
	if err != nil {
		return figure{}, err
	}
	through := func() error {
		n, err := ask(ctx, h, "Small")
		if err == nil && n != smallRows {
			err = fmt.Errorf("%d rows came instead of %d", n, smallRows)
		}
		return err
	}
	// The service's limits hold for the fake's clients as well: 200 queries in 30 seconds.
	const rounds, calls = 9, 15
	var raw, ours []time.Duration
	for range rounds {
		r, err := timed(calls, bare)
		if err != nil {
			return figure{}, err
		}
		o, err := timed(calls, through)
		if err != nil {
			return figure{}, err
		}
		raw, ours = append(raw, r/calls), append(ours, o/calls)
	}
	r, o := slices.Min(raw), slices.Min(ours)
	return atMost("query_small_overhead_ms", float64((o-r).Microseconds())/1000, "ms", 2,
		fmt.Sprintf("%d rows: %v against %v bare; best of %d rounds each", smallRows, o.Round(time.Microsecond), r.Round(time.Microsecond), rounds)), nil
}

// bareQuery is the same request without us.
func bareQuery(ctx context.Context, w *lab.World) (func() error, error) {
	raw, err := w.Connection("loganalytics", false)
	if err != nil {
		return nil, err
	}
	var config struct {
		BaseURL   string `json:"base_url"`
		Workspace string `json:"workspace"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	post := func(at, kind, token string, body []byte) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", kind)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		out, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", at, resp.Status)
		}
		return out, err
	}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {w.Azure.ClientID()}, "client_secret": {w.Azure.ClientSecret()},
		"scope": {"https://api.loganalytics.io/.default"},
	}
	answer, err := post(config.BaseURL+"/"+w.Azure.Tenant()+"/oauth2/v2.0/token", "application/x-www-form-urlencoded", "", []byte(form.Encode()))
	if err != nil {
		return nil, err
	}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(answer, &token); err != nil {
		return nil, err
	}
	return func() error {
		_, err := post(config.BaseURL+"/v1/workspaces/"+config.Workspace+"/query", "application/json", token.AccessToken, []byte(`{"query":"Small"}`))
		return err
	}, nil
}

// logPeak is the most memory that casewire query and its connector hold together while a large result goes through.
func logPeak(ctx context.Context, w *lab.World, dir string) (figure, error) {
	self, err := os.Executable()
	if err != nil {
		return figure{}, err
	}
	if err := w.WriteConfig(lab.Config{Push: "off", Poll: time.Hour, Flows: lab.JiraOnlyFlow()}); err != nil {
		return figure{}, err
	}
	cmd := exec.CommandContext(ctx, self, "query", "logs", "Large", "--max-rows", strconv.Itoa(logRows), "-o", "ndjson")
	cmd.Dir = dir
	var stderr strings.Builder
	counted := &lineCounter{}
	cmd.Stdout, cmd.Stderr = counted, &stderr
	if err := cmd.Start(); err != nil {
		return figure{}, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	most, each := 0.0, 0.0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil || counted.n != logRows {
				return figure{}, fmt.Errorf("casewire query: %d rows, %w: %s", counted.n, err, stderr.String())
			}
			return atMost("rows_peak_rss_mb", most, "MB", 150, fmt.Sprintf("casewire query and its connector, pages that they share counted once; %.0f MB counted in each", each)), nil
		case <-tick.C:
			if _, rss, pss, err := memory(cmd.Process.Pid); err == nil {
				most, each = max(most, pss), max(each, rss)
			}
		}
	}
}

type lineCounter struct{ n int }

func (c *lineCounter) Write(p []byte) (int, error) {
	c.n += bytes.Count(p, []byte{'\n'})
	return len(p), nil
}

// logBody is an answer of the service: rows of the usual types, about 200 bytes each.
func logBody(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"tables":[{"name":"PrimaryResult","columns":[`)
	for i, c := range []string{
		"TimeGenerated datetime", "EventName string", "SourceIpAddress string", "UserIdentityArn string", "EventId long", "ResponseTime real",
		"Succeeded bool", "AdditionalEventData dynamic", "Region string", "Count int", "CorrelationId guid", "ErrorCode string",
	} {
		name, typ, _ := strings.Cut(c, " ")
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":%q,"type":%q}`, name, typ)
	}
	b.WriteString(`],"rows":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `["2026-09-02T%02d:%02d:%02d.2718281Z","ConsoleLogin","203.0.113.%d","arn:aws:iam::123456789012:user/u%d",%d,%d.5,%t,"{\"MFAUsed\":\"No\",\"n\":%d}","eu-central-1",%d,"74be27de-1e4e-49d9-b579-%012d",null]`,
			i/3600%24, i/60%60, i%60, i%256, i%5000, 9007199254740993+i, i%900, i%7 == 0, i, i%100, i)
	}
	b.WriteString(`]}]}`)
	return b.Bytes()
}
