package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/engine"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// desk is a connector with a case desk, and the vendor behind it.
type desk struct {
	mu       sync.Mutex
	cases    map[string]int
	comments map[string]int
	calls    int
}

func (d *desk) Call(_ context.Context, c engine.Call) (json.RawMessage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	lost := plugin.Errorf(codes.Unavailable, "connection reset")
	lost.Origin, lost.SideEffect = plugin.OriginDownstream, plugin.EffectUnknown
	switch c.Action {
	case "query":
		if d.calls%7 == 0 {
			return nil, lost
		}
		return json.RawMessage(`{"rows":[{"ip":"192.0.2.1","n":9007199254740993},{"ip":"192.0.2.2","n":2}]}`), nil
	case "case.ensure":
		made := d.cases[c.Key] > 0
		if !made {
			d.cases[c.Key]++
		}
		if d.calls%5 == 0 {
			return nil, lost // after the commit
		}
		return fmt.Appendf(nil, `{"id":"case-%s","created":%t}`, c.Key, !made), nil
	case "comment":
		if c.Prior == nil && d.comments[c.Key] == 0 {
			d.comments[c.Key]++
		}
		return c.Input, nil
	}
	return nil, errors.New("no such action")
}

func (d *desk) descriptor() *connectorv1.DescribeResponse {
	action := func(name string, effect connectorv1.Effect, in, out string) *connectorv1.Action {
		object := func(s string) []byte { return fmt.Appendf(nil, `{"type":"object","properties":{%s}}`, s) }
		return &connectorv1.Action{Name: name, Effect: effect, InputSchema: object(in), OutputSchema: object(out)}
	}
	return &connectorv1.DescribeResponse{Name: "desk", Version: "1.0.0", Actions: []*connectorv1.Action{
		action("query", connectorv1.Effect_EFFECT_READ, `"query":{"type":"string"}`, `"rows":{"type":"array"}`),
		action("case.ensure", connectorv1.Effect_EFFECT_KEYED, `"title":{"type":"string"},"ips":{"type":"array"}`, `"id":{"type":"string"},"created":{"type":"boolean"}`),
		action("comment", connectorv1.Effect_EFFECT_KEYED, `"text":{"type":"string"}`, `"text":{"type":"string"}`),
	}}
}

func (d *desk) Connection(name string) (*connectorv1.DescribeResponse, bool) {
	return d.descriptor(), name == "soc"
}
func (d *desk) Connections(string) []string { return []string{"soc"} }
func (d *desk) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	return d.descriptor(), name == "desk"
}

const logins = `
name: logins
inputs: { account: { type: string, required: true } }
steps:
  - id: query
    uses: desk.query
    with: { query: "logins of ${{ inputs.account }}" }
output: { rows: "${{ steps.query.rows ?? [] }}" }
`

const rootLogin = `
name: root-login
inputs: { account: { type: string, required: true } }
steps:
  - id: logins
    call: logins
    with: { account: "${{ inputs.account }}" }
    retry: { base: 1ms }
  - id: facts
    let: { ips: "${{ map(steps.logins.rows, #.ip) }}" }
  - id: case
    uses: desk.case.ensure
    key: ${{ inputs.account }}
    retry: { base: 1ms }
    with: { title: "Login of ${{ inputs.account }}", ips: "${{ facts.ips }}" }
  - id: notes
    for: ${{ facts.ips }}
    steps:
      - id: note
        uses: desk.comment
        key: ${{ steps.case.id ?? "" }}/${{ item }}
        with: { text: "seen ${{ item }}" }
output: { case: "${{ steps.case.id ?? '' }}", notes: "${{ map(steps.notes, #.note.text) }}", big: "${{ steps.logins.rows[0]?.n }}" }
`

type flows map[string]*flow.Flow

func (f flows) Flow(_ context.Context, name, _ string) (*flow.Flow, error) {
	if fl := f[name]; fl != nil {
		return fl, nil
	}
	return nil, store.ErrNotFound
}

type ended struct {
	engine.Unobserved
	ends chan store.RunState
}

func (e *ended) RunReleased(_ store.Run, s store.RunState, _ plugin.Class, _ time.Duration) {
	if !s.Live() {
		e.ends <- s
	}
}

// The engine with the flows that people write and the store that they run on, stopped and started in the middle.
func TestFlowsOnSQLite(t *testing.T) {
	t.Parallel()
	d := &desk{cases: map[string]int{}, comments: map[string]int{}}
	list, diags := flow.Load([]flow.Source{{File: "a.yaml", Data: []byte(logins)}, {File: "b.yaml", Data: []byte(rootLogin)}}, d)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	byName := flows{}
	for _, f := range list {
		byName[f.Name] = f
	}
	file := filepath.Join(t.TempDir(), "casewire.db")
	const accounts, each = 30, 4
	seen := &ended{ends: make(chan store.RunState, accounts*each)}
	var runs []store.NewRun
	for i := range accounts * each {
		account := fmt.Sprint("a", i%accounts)
		runs = append(runs, store.NewRun{Flow: "root-login", OrderKey: account, Input: fmt.Appendf(nil, `{"account":%q}`, account)})
	}
	for life := range 2 {
		st, err := sqlite.Open(t.Context(), file, sqlite.Options{MinFree: -1})
		if err != nil {
			t.Fatal(err)
		}
		e, err := engine.New(engine.Options{Store: st, Caller: d, Flows: byName, Observer: seen, Workers: 8})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := st.AddRuns(t.Context(), runs[life*len(runs)/2:(life+1)*len(runs)/2]); err != nil {
			t.Fatal(err)
		}
		e.Wake()
		want := len(runs) / 4 // then stop in the middle
		if life == 1 {
			want = len(runs) - want
		}
		for range want {
			if s := <-seen.ends; s != store.RunSucceeded {
				t.Errorf("a run ended %s", s)
			}
		}
		if err := e.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if life == 1 {
			check(t, st)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
	for key, n := range d.cases {
		if n != 1 {
			t.Errorf("%d cases for %s", n, key)
		}
	}
	if len(d.cases) != accounts || len(d.comments) != 2*accounts {
		t.Errorf("%d cases and %d comments for %d accounts", len(d.cases), len(d.comments), accounts)
	}
}

func check(t *testing.T, st store.Store) {
	t.Helper()
	list, err := st.ListRuns(t.Context(), store.RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.State != store.RunSucceeded {
			t.Errorf("run %s is %s: %s", r.ID, r.State, r.Reason)
			continue
		}
		account := strings.TrimSuffix(strings.TrimPrefix(string(r.Input), `{"account":"`), `"}`)
		want := fmt.Sprintf(`{"big":9007199254740993,"case":"case-%s","notes":["seen 192.0.2.1","seen 192.0.2.2"]}`, account)
		if string(r.Output) != want {
			t.Errorf("output %s, want %s", r.Output, want)
		}
	}
	effects, err := st.ListEffects(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range effects {
		if e.State != store.EffectDone {
			t.Errorf("effect %v is %s", e.EffectKey, e.State)
		}
	}
}
