package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

type rowsInput struct {
	N    int    `json:"n" doc:"How many"`
	Text string `json:"text,omitempty" doc:"In each row"`
	Hold bool   `json:"hold,omitempty" doc:"Wait for the test"`
}

// callee is a host with flows to call.
type callee struct {
	t     *testing.T
	h     http.Handler
	host  *host.Host
	calls atomic.Int64
	held  chan struct{}
}

const countFlow = `name: count
inputs:
  n: { type: integer, required: true, doc: "How many" }
  text: { type: string, doc: "In each row" }
  hold: { type: boolean, default: false, doc: "Wait" }
steps:
  - id: q
    uses: counter.rows
    connection: c
    with: { n: "${{ inputs.n }}", text: "${{ inputs.text ?? '' }}", hold: "${{ inputs.hold }}" }
output: { rows: "${{ steps.q.rows }}", deep: { n: "${{ inputs.n }}" } }
`

func newCallee(t *testing.T) *callee {
	t.Helper()
	c := &callee{t: t, held: make(chan struct{})}
	con := sdk.New("counter", "1.0.0", "Counts.", func(context.Context, none, sdk.Env) (*none, error) { return &none{}, nil })
	sdk.Rows(con, "rows", "Rows.", func(_ *none, ctx context.Context, in rowsInput, emit func(json.RawMessage) error) (none, error) {
		c.calls.Add(1)
		if in.Hold {
			select {
			case <-c.held:
			case <-ctx.Done():
				return none{}, ctx.Err()
			}
		}
		for i := range in.N {
			if err := emit(json.RawMessage(fmt.Sprintf(`{"i":%d,"text":%q}`, i, in.Text))); err != nil {
				return none{}, err
			}
		}
		return none{}, nil
	}, sdk.Read)
	sdk.AddTrigger(con, sdk.Trigger[*none, cursor]{
		Name: "rows", Summary: "Nothing.", Emits: []string{"io.casewire.row.v1"}, Interval: time.Hour,
		Poll: func(_ *none, _ context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
			return emit(sdk.Page[cursor]{Cursor: cur})
		},
	})
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.host, err = host.New(host.Options{
		Store: st, RunDir: filepath.Join(t.TempDir(), "r"),
		Connectors:  map[string]host.Connector{"counter": host.MemoryConnector(sdk.Server(con))},
		Connections: []host.Connection{{Name: "c", Connector: "counter", Config: json.RawMessage(`{}`)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	flows, diags := flow.Load([]flow.Source{
		{File: "count.yaml", Data: []byte(countFlow)},
		{File: "off.yaml", Data: []byte("name: off\nenabled: false\nsteps:\n  - { id: x, let: { a: 1 } }\n")},
		{File: "answers.yaml", Data: []byte("name: answers\non: { counter.rows: { connection: c } }\nsteps:\n  - { id: x, let: { a: 1 } }\n")},
	}, c.host)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := c.host.SetFlows(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
	if err := c.host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.h = httpapi.Handler(c.host, st, httpapi.Options{Token: plugin.NewSecret(token)})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := c.host.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// do sends a request and decodes the answer.
func (c *callee) do(method, path, key, body string) (int, http.Header, map[string]any) {
	c.t.Helper()
	req := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, req)
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		c.t.Fatalf("%s %s: %d %q", method, path, w.Code, w.Body)
	}
	return w.Code, w.Header(), out
}

func TestCallFlow(t *testing.T) {
	t.Parallel()
	c := newCallee(t)
	const at = "/v1/flows/count/runs?wait=30s"
	status, head, run := c.do(http.MethodPost, at, "", `{"n":2,"text":"x"}`)
	rows, _ := run["output"].(map[string]any)["rows"].([]any)
	if status != http.StatusOK || run["state"] != "succeeded" || len(rows) != 2 || head.Get("Location") != "/v1/runs/"+run["id"].(string) {
		t.Fatalf("%d %v %v", status, head, run)
	}
	// Without a key each call is another run; with one, repeats are the first.
	if _, _, other := c.do(http.MethodPost, at, "", `{"n":2,"text":"x"}`); other["id"] == run["id"] {
		t.Error("two calls are one run")
	}
	_, head, first := c.do(http.MethodPost, at, "k1", `{"n":1}`)
	if head.Get("Idempotent-Replay") != "" {
		t.Error("the first call is said to be a repeat")
	}
	calls := c.calls.Load()
	status, head, again := c.do(http.MethodPost, at, "k1", ` { "n" : 1 } `)
	if status != http.StatusOK || again["id"] != first["id"] || head.Get("Idempotent-Replay") != "true" || c.calls.Load() != calls {
		t.Errorf("%d %v: %v and %v", status, head, first["id"], again["id"])
	}
	if status, _, out := c.do(http.MethodPost, at, "k1", `{"n":3}`); status != http.StatusConflict || !strings.Contains(fmt.Sprint(out), first["id"].(string)) {
		t.Errorf("another input with the same key: %d %v", status, out)
	}
	for name, tc := range map[string]struct {
		path, key, body string
		status          int
		says            string
	}{
		"no such flow":   {"/v1/flows/cuont/runs", "", "{}", http.StatusNotFound, "no such flow"},
		"a trigger":      {"/v1/flows/answers/runs", "", "{}", http.StatusBadRequest, "answers a trigger"},
		"disabled":       {"/v1/flows/off/runs", "", "{}", http.StatusBadRequest, "off is disabled"},
		"missing input":  {at, "", "", http.StatusBadRequest, `input \"n\" is required`},
		"wrong type":     {at, "", `{"n":"x"}`, http.StatusBadRequest, "must be of type integer"},
		"unknown input":  {at, "", `{"n":1,"m":1}`, http.StatusBadRequest, `no input \"m\"`},
		"no JSON":        {at, "", `{"n":`, http.StatusBadRequest, "no JSON"},
		"a list":         {at, "", `[]`, http.StatusBadRequest, "takes an object"},
		"too long a key": {at, strings.Repeat("k", 300), `{"n":1}`, http.StatusBadRequest, "300 bytes"},
		"too large":      {at, "", `{"n":1,"text":"` + strings.Repeat("x", plugin.MaxInput) + `"}`, http.StatusRequestEntityTooLarge, "bytes"},
		"no wait":        {"/v1/flows/count/runs?wait=soon", "", `{"n":1}`, http.StatusBadRequest, "wait=soon"},
		"too long":       {"/v1/flows/count/runs?wait=1h", "", `{"n":1}`, http.StatusBadRequest, "5m"},
	} {
		status, _, out := c.do(http.MethodPost, tc.path, tc.key, tc.body)
		text, _ := json.Marshal(out)
		if status != tc.status || !strings.Contains(strings.ReplaceAll(string(text), `\\`, `\`), tc.says) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(`{"n":1}`))
	w := httptest.NewRecorder()
	if c.h.ServeHTTP(w, req); w.Code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", w.Code)
	}
}

func TestCallFlowThatTakesLonger(t *testing.T) {
	t.Parallel()
	c := newCallee(t)
	status, head, run := c.do(http.MethodPost, "/v1/flows/count/runs?wait=20ms", "slow", `{"n":1,"hold":true}`)
	if status != http.StatusAccepted || head.Get("Location") == "" || head.Get("Retry-After") == "" || run["output"] != nil {
		t.Fatalf("%d %v %v", status, head, run)
	}
	if status, _, run = c.do(http.MethodPost, "/v1/flows/count/runs", "slow", `{"n":1,"hold":true}`); status != http.StatusAccepted {
		t.Errorf("a repeat while it runs: %d %v", status, run)
	}
	close(c.held)
	status, _, ended := c.do(http.MethodPost, "/v1/flows/count/runs?wait=30s", "slow", `{"n":1,"hold":true}`)
	if status != http.StatusOK || ended["id"] != run["id"] || ended["state"] != "succeeded" || c.calls.Load() != 1 {
		t.Errorf("%d %v after %d calls", status, ended, c.calls.Load())
	}
}

// Who asked may go away: the run goes on, and its result is there for whoever asks again with the key.
func TestCallFlowWhenTheCallerIsGone(t *testing.T) {
	t.Parallel()
	c := newCallee(t)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	const at, body = "/v1/flows/count/runs?wait=5m", `{"n":2,"hold":true}`
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Idempotency-Key", "gone")
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.h.ServeHTTP(httptest.NewRecorder(), req)
	}()
	for deadline := time.After(time.Minute); c.calls.Load() == 0; {
		select {
		case <-deadline:
			t.Fatal("the run does not begin")
		case <-time.After(time.Millisecond):
		}
	}
	hangUp()
	select {
	case <-served:
	case <-time.After(time.Minute):
		t.Fatal("the request does not end with its caller")
	}
	close(c.held)
	status, head, run := c.do(http.MethodPost, at, "gone", body)
	out, _ := run["output"].(map[string]any)
	if rows, _ := out["rows"].([]any); status != http.StatusOK || run["state"] != "succeeded" || len(rows) != 2 || head.Get("Idempotent-Replay") != "true" || c.calls.Load() != 1 {
		t.Errorf("%d %v after %d calls", status, run, c.calls.Load())
	}
}

func TestLargeOutputIsPaged(t *testing.T) {
	t.Parallel()
	c := newCallee(t)
	const n = 3000
	_, _, run := c.do(http.MethodPost, "/v1/flows/count/runs?wait=30s", "", fmt.Sprintf(`{"n":%d,"text":%q}`, n, strings.Repeat("x", 100)))
	ref, _ := run["output_ref"].(string)
	size, _ := run["output_bytes"].(float64)
	if run["state"] != "succeeded" || run["output"] != nil || ref != "/v1/runs/"+run["id"].(string)+"/output" || size < n*100 {
		t.Fatalf("%v", run)
	}
	_, _, whole := c.do(http.MethodGet, "/v1/runs/"+run["id"].(string), "", "")
	step, _ := whole["steps"].([]any)[0].(map[string]any)
	if whole["output_ref"] != ref || step["output"] != nil || step["output_ref"] != ref+"?step=q" {
		t.Errorf("%v", whole["output_ref"])
	}
	for _, from := range []string{ref + "?path=rows&limit=1200", ref + "?step=q&path=rows&offset=0&limit=1200"} {
		seen, pages := 0, 0
		for next := from; next != ""; pages++ {
			status, _, page := c.do(http.MethodGet, next, "", "")
			if status != http.StatusOK || page["total"] != float64(n) {
				t.Fatalf("%s: %d %v", next, status, page)
			}
			for _, item := range page["items"].([]any) {
				if item.(map[string]any)["i"] != float64(seen) {
					t.Fatalf("row %d is %v", seen, item)
				}
				seen++
			}
			next, _ = page["next"].(string)
		}
		if seen != n || pages != 3 {
			t.Errorf("%d rows on %d pages", seen, pages)
		}
	}
	if _, _, out := c.do(http.MethodGet, ref, "", ""); len(out["rows"].([]any)) != n {
		t.Error("the whole output is not whole")
	}
	if _, _, out := c.do(http.MethodGet, ref+"?path=deep", "", ""); out["n"] != float64(n) {
		t.Errorf("deep: %v", out)
	}
	for path, want := range map[string]int{
		ref + "?path=none": 404, ref + "?path=deep.n.x": 404, ref + "?step=none": 404, ref + "?path=deep&offset=0": 400,
		ref + "?path=rows&offset=-1": 400, ref + "?path=rows&limit=0": 400, "/v1/runs/none/output": 404,
	} {
		if status, _, out := c.do(http.MethodGet, path, "", ""); status != want {
			t.Errorf("%s: %d %v, want %d", path, status, out, want)
		}
	}
}
