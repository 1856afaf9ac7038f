package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/plugintest"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	c := plugintest.Join(t, sdk.Server(newConnector(&world{})))
	d, err := c.Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if d.GetName() != "box" || d.GetVersion() != "1.2.3" || len(d.GetEgress()) != 2 || len(d.GetActions()) != 6 {
		t.Errorf("got %v", d)
	}
	effects := map[string]connectorv1.Effect{}
	for _, a := range d.GetActions() {
		effects[a.GetName()] = a.GetEffect()
	}
	if diff := cmp.Diff(map[string]connectorv1.Effect{
		"thing.get": connectorv1.Effect_EFFECT_READ, "thing.set": connectorv1.Effect_EFFECT_IDEMPOTENT,
		"thing.ensure": connectorv1.Effect_EFFECT_KEYED, "thing.poke": connectorv1.Effect_EFFECT_UNSAFE,
		"thing.list": connectorv1.Effect_EFFECT_READ, "thing.ask": connectorv1.Effect_EFFECT_UNSAFE,
	}, effects); diff != "" {
		t.Error(diff)
	}
	list := d.GetActions()[4]
	if !list.GetRows() || !strings.Contains(string(list.GetOutputSchema()), `"rows":{"type":"array"`) {
		t.Errorf("rows are not described: %s", list.GetOutputSchema())
	}
	if x := d.GetActions()[0].GetExamples(); len(x) != 1 || !strings.Contains(string(x[0].GetInput()), `"name":"x"`) {
		t.Errorf("examples: %v", x)
	}
	if d.GetActions()[2].GetResolveWindow().AsDuration() != 30*time.Second || d.GetActions()[3].GetSunset().AsTime().Year() != 2027 {
		t.Error("resolve window or sunset is missing")
	}
	tr := d.GetTriggers()[0]
	if !tr.GetPolls() || !tr.GetResolves() || tr.GetInterval().AsDuration() != time.Minute || tr.GetWebhook().GetHandshakeQuery() != "validationToken" {
		t.Errorf("trigger: %v", tr)
	}
	if !strings.Contains(string(d.GetConfigSchema()), `"x-casewire-secret":true`) {
		t.Error("the token is not marked as a secret")
	}
}

func TestCallCarriesWhatTheHostKnows(t *testing.T) {
	t.Parallel()
	var got sdk.Call
	var in input
	w := &world{act: func(ctx context.Context, _ *box, i input) (output, error) {
		got, in = sdk.CallFrom(ctx), i
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the deadline did not arrive")
		}
		return output{ID: "1"}, nil
	}}
	h := sdktest.Open(t, newConnector(w), good(), sdktest.Options{Name: "prod", Tenant: "acme"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	res, err := h.Do(ctx, sdktest.Call{
		Action: "thing.ensure", Input: map[string]any{"name": "x"}, Key: "k1", Attempt: 2, Resolve: true, DryRun: true,
		Prior: map[string]any{"id": "0"}, FirstSent: first,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := sdk.Call{
		Connection: "prod", Tenant: "acme", ID: got.ID, Key: "k1", Attempt: 2, DryRun: true, Resolve: true,
		Prior: json.RawMessage(`{"id":"0"}`), FirstSent: first,
	}
	if diff := cmp.Diff(want, got); diff != "" || got.ID == "" {
		t.Error(diff)
	}
	if in.Count != 3 {
		t.Errorf("the default did not arrive: %+v", in)
	}
	// Nil slices and maps go out as the schema says.
	if string(res.Output) != `{"id":"1","tags":[],"links":{}}` {
		t.Errorf("output %s", res.Output)
	}
	if got := sdk.CallFrom(context.Background()); got.Connection != "" {
		t.Errorf("outside of a call: %+v", got)
	}
}

func TestOutputKeepsNumbersAndText(t *testing.T) {
	t.Parallel()
	w := &world{act: func(context.Context, *box, input) (output, error) {
		return output{ID: "<a&b>", Num: "12345678901234567890", Raw: json.RawMessage(" {\"x\" :\n 1.10}")}, nil
	}}
	h := sdktest.Open(t, newConnector(w), good())
	res, err := h.Do(t.Context(), sdktest.Call{Action: "thing.get", Input: input{Name: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"<a&b>","tags":[],"links":{},"num":12345678901234567890,"raw":{"x":1.10}}`; string(res.Output) != want {
		t.Errorf("got  %s\nwant %s", res.Output, want)
	}
}

func TestErrorsSayWhoFailedAndWhatChanged(t *testing.T) {
	t.Parallel()
	var fail error
	w := &world{act: func(context.Context, *box, input) (output, error) { return output{}, fail }}
	h := sdktest.Open(t, newConnector(w), good())
	call := func(action string) error { return h.Call(t.Context(), action, input{Name: "x"}, nil) }

	for _, tc := range []struct {
		err           error
		class         plugin.Class
		set, get      any
		text          string
		writeOnlyText string
	}{
		{errors.New("boom"), plugin.ClassUncertain, plugin.EffectUnknown, plugin.EffectNone, "boom", ""},
		{sdk.NotFound("no thing %q", "x"), plugin.ClassNotFound, plugin.EffectNone, plugin.EffectNone, `no thing "x"`, ""},
		{sdk.Uncertain("answer lost"), plugin.ClassUncertain, plugin.EffectUnknown, plugin.EffectNone, "answer lost", ""},
		{fmt.Errorf("set x: %w", sdk.Throttled(time.Second, "slow down")), plugin.ClassThrottled, plugin.EffectNone, plugin.EffectNone, "set x: slow down", ""},
		{fmt.Errorf("set x: %w", sdk.Invalid("/name", "is odd")), plugin.ClassInvalid, plugin.EffectNone, plugin.EffectNone, "set x: invalid input: /name: is odd", ""},
		{context.DeadlineExceeded, plugin.ClassUncertain, plugin.EffectUnknown, plugin.EffectNone, "deadline", ""},
	} {
		fail = tc.err
		e := want(t, call("thing.set"), tc.class, tc.set, tc.text)
		if e.Domain != "box" {
			t.Errorf("domain %q", e.Domain)
		}
		e = asError(t, call("thing.get"))
		if any(e.SideEffect) != tc.get {
			t.Errorf("a read that failed with %v has side effect %s", tc.err, e.SideEffect)
		}
	}
	fail = sdk.Throttled(7*time.Second, "wait")
	if e := asError(t, call("thing.get")); e.RetryAfter != 7*time.Second {
		t.Errorf("RetryAfter %v", e.RetryAfter)
	}
	// The author's error is not changed on its way.
	shared := sdk.Uncertain("shared")
	fail = shared
	_ = call("thing.get")
	if shared.Domain != "" || shared.SideEffect != plugin.EffectUnknown {
		t.Errorf("a shared error was changed: %+v", shared)
	}
	// A secret never leaves, in whatever field.
	e := sdk.Auth("%s is refused", token)
	e.Meta = map[string]string{"hint": token}
	e.Violations = []plugin.Violation{{Field: "/x", Description: "not " + token}}
	fail = fmt.Errorf("with %s: %w", token, e)
	got := asError(t, call("thing.get"))
	if all := fmt.Sprintf("%+v", *got); strings.Contains(all, token) || !strings.Contains(all, plugin.Redacted) {
		t.Errorf("got %s", all)
	}
}

func TestPanicBecomesAnError(t *testing.T) {
	t.Parallel()
	w := &world{act: func(context.Context, *box, input) (output, error) { panic("oh no, " + token) }}
	h := sdktest.Open(t, newConnector(w), good())
	e := want(t, h.Call(t.Context(), "thing.set", input{Name: "x"}, nil), plugin.ClassUncertain, plugin.EffectUnknown, "thing.set: the connector panicked: oh no, [redacted]")
	if e.Reason != plugin.ReasonPanic || e.Origin != plugin.OriginPlugin {
		t.Errorf("got %+v", e)
	}
	want(t, h.Call(t.Context(), "thing.get", input{Name: "x"}, nil), plugin.ClassBug, plugin.EffectNone, "panicked")
}

func TestWhatAnActionNeverSees(t *testing.T) {
	t.Parallel()
	var called atomic.Int32
	w := &world{act: func(context.Context, *box, input) (output, error) { called.Add(1); return output{}, nil }}
	h := sdktest.Open(t, newConnector(w), good())
	do := func(c sdktest.Call) error { _, err := h.Do(t.Context(), c); return err }

	e := want(t, do(sdktest.Call{Action: "thing.get", Input: map[string]any{"nam": "x", "count": 11}}), plugin.ClassInvalid, plugin.EffectNone, `did you mean "name"?`)
	if diff := cmp.Diff([]plugin.Violation{
		{Field: "/count", Description: "must be at most 10, got 11"},
		{Field: "/nam", Description: `unknown property; did you mean "name"?`},
		{Field: "/name", Description: "is required"},
	}, e.Violations); diff != "" {
		t.Error(diff)
	}
	want(t, do(sdktest.Call{Action: "thing.gte", Input: input{Name: "x"}}), plugin.ClassBug, plugin.EffectNone, `no action "thing.gte"`)
	want(t, do(sdktest.Call{Action: "thing.get", Resolve: true, Input: input{Name: "x"}}), plugin.ClassInvalid, plugin.EffectNone, "nothing to resolve")
	want(t, do(sdktest.Call{Action: "thing.poke", DryRun: true, Input: input{Name: "x"}}), plugin.ClassBug, plugin.EffectNone, "dry run")
	want(t, do(sdktest.Call{Action: "thing.get", Input: input{Name: "x", Extra: map[string]any{"x": strings.Repeat("x", plugin.MaxInput)}}}), plugin.ClassTooLarge, plugin.EffectNone, "the input has")
	if called.Load() != 0 {
		t.Errorf("the action was called %d times", called.Load())
	}
	// Without a key, on the wire.
	w2 := &world{act: w.act}
	c, call := joined(t, w2)
	_, err := invoke(t.Context(), c, &connectorv1.InvokeRequest{Call: call(), Action: "thing.ensure", Input: []byte(`{"name":"x"}`)})
	want(t, err, plugin.ClassInvalid, plugin.EffectNone, "needs an idempotency key")
}

// An action that leaves its effect to the caller goes by what each call says, and any other action does not.
func TestEffectByCaller(t *testing.T) {
	t.Parallel()
	var got sdk.Call
	w := &world{act: func(ctx context.Context, _ *box, _ input) (output, error) {
		got = sdk.CallFrom(ctx)
		return output{}, errors.New("lost")
	}}
	h := sdktest.Open(t, newConnector(w), good())
	do := func(c sdktest.Call) error {
		c.Input = input{Name: "x"}
		_, err := h.Do(t.Context(), c)
		return err
	}
	for _, effect := range []sdk.Effect{0, sdk.Read, sdk.Idempotent, sdk.Keyed, sdk.Unsafe, 9} {
		class, side := plugin.ClassUncertain, plugin.EffectUnknown
		if effect == sdk.Read {
			class, side = plugin.ClassBug, plugin.EffectNone
		}
		want(t, do(sdktest.Call{Action: "thing.ask", Effect: effect}), class, side, "lost")
		if effect > sdk.Unsafe {
			effect = 0
		}
		if got.Effect != effect {
			t.Errorf("the action saw effect %d, not %d", got.Effect, effect)
		}
	}
	want(t, do(sdktest.Call{Action: "thing.ask", Effect: sdk.Keyed, Resolve: true}), plugin.ClassBug, plugin.EffectNone, "lost")
	want(t, do(sdktest.Call{Action: "thing.ask", Effect: sdk.Idempotent, Resolve: true}), plugin.ClassInvalid, plugin.EffectNone, "nothing to resolve")
	want(t, do(sdktest.Call{Action: "thing.poke", Effect: sdk.Read}), plugin.ClassUncertain, plugin.EffectUnknown, "lost")

	c, call := joined(t, w)
	p := call()
	p.Effect = connectorv1.Effect_EFFECT_KEYED
	_, err := invoke(t.Context(), c, &connectorv1.InvokeRequest{Call: p, Action: "thing.ask", Input: []byte(`{"name":"x"}`)})
	want(t, err, plugin.ClassInvalid, plugin.EffectNone, "needs an idempotency key")

	about, err := c.Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range about.GetActions() {
		if a.GetEffectByCaller() != (a.GetName() == "thing.ask") {
			t.Errorf("%s: effect_by_caller is %v", a.GetName(), a.GetEffectByCaller())
		}
		if r := a.GetEffectRules(); a.GetEffectByCaller() && (len(r) != 1 || r[0].GetProperty() != "name" || r[0].GetEffect() != connectorv1.Effect_EFFECT_READ) {
			t.Errorf("rules: %v", r)
		}
	}
}

// joined is a client with the connection "c" at generation 1, and a maker of call contexts.
func joined(t *testing.T, w *world) (connectorv1.ConnectorClient, func() *connectorv1.CallContext) {
	t.Helper()
	c := plugintest.Join(t, sdk.Server(newConnector(w)))
	configure(t, c, "c", 1, good())
	return c, func() *connectorv1.CallContext {
		return &connectorv1.CallContext{Connection: "c", Generation: 1, CallId: "id"}
	}
}

func configure(t *testing.T, c connectorv1.ConnectorClient, name string, generation uint64, cfg any) *plugin.Error {
	t.Helper()
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Configure(t.Context(), &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{{Connection: name, Generation: generation, Config: b}}})
	if err != nil {
		t.Fatal(err)
	}
	return plugin.UnmarshalStatus(resp.GetOutcomes()[0].GetStatus())
}

func invoke(ctx context.Context, c connectorv1.ConnectorClient, req *connectorv1.InvokeRequest) ([]*connectorv1.InvokeResponse, error) {
	stream, err := c.Invoke(ctx, req)
	var all []*connectorv1.InvokeResponse
	for err == nil {
		var m *connectorv1.InvokeResponse
		if m, err = stream.Recv(); err == nil {
			all = append(all, m)
		}
	}
	if err.Error() == "EOF" {
		return all, nil
	}
	return all, plugin.FromError(err)
}

func TestOutputLimits(t *testing.T) {
	t.Parallel()
	out := output{ID: strings.Repeat("x", plugin.MaxOutput)}
	w := &world{act: func(context.Context, *box, input) (output, error) { return out, nil }}
	h := sdktest.Open(t, newConnector(w), good())
	// The write was made, and that is what the host must know.
	e := want(t, h.Call(t.Context(), "thing.set", input{Name: "x"}, nil), plugin.ClassTooLarge, plugin.EffectApplied, "thing.set: the output has")
	if e.Reason != plugin.ReasonTooLarge || e.Domain != plugin.Domain {
		t.Errorf("got %+v", e)
	}
	want(t, h.Call(t.Context(), "thing.get", input{Name: "x"}, nil), plugin.ClassTooLarge, plugin.EffectNone, "more than the limit")
	out.ID = strings.Repeat("x", 200)
	_, err := h.Do(t.Context(), sdktest.Call{Action: "thing.get", Input: input{Name: "x"}, MaxOutput: 100})
	want(t, err, plugin.ClassTooLarge, plugin.EffectNone, "the caller takes 100")
	out = output{Raw: json.RawMessage("{")}
	want(t, h.Call(t.Context(), "thing.set", input{Name: "x"}, nil), plugin.ClassBug, plugin.EffectApplied, "cannot be written as JSON")
}

func TestCancellationReachesTheAuthor(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	w := &world{act: func(ctx context.Context, _ *box, _ input) (output, error) {
		cancel()
		<-ctx.Done()
		ended <- ctx.Err()
		return output{}, ctx.Err()
	}}
	h := sdktest.Open(t, newConnector(w), good())
	if e := asError(t, h.Call(ctx, "thing.set", input{Name: "x"}, nil)); e.Class() != plugin.ClassUncertain {
		t.Errorf("got %s: %v", e.Class(), e)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the action ended with %v", err)
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	const n = 20000
	w := &world{rows: func(ctx context.Context, _ input, emit func(row) error) (summary, error) {
		for i := range n {
			if err := emit(row{N: i, Text: "line\nfeed"}); err != nil {
				return summary{}, err
			}
		}
		sdk.Progress(ctx, n, n, "done")
		return summary{Total: n}, nil
	}}
	c, call := joined(t, w)
	all, err := invoke(t.Context(), c, &connectorv1.InvokeRequest{Call: call(), Action: "thing.list", Input: []byte(`{"name":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	rows, chunks := 0, 0
	for _, m := range all {
		if r := m.GetRows(); r != nil {
			chunks++
			if len(r.GetNdjson()) > plugin.RowChunk+1000 {
				t.Errorf("a chunk of %d bytes", len(r.GetNdjson()))
			}
			for line := range strings.Lines(string(r.GetNdjson())) {
				if line != fmt.Sprintf("{\"n\":%d,\"text\":\"line\\nfeed\"}\n", rows) {
					t.Fatalf("row %d is %q", rows, line)
				}
				rows++
			}
		}
	}
	if last := all[len(all)-1].GetResult(); rows != n || chunks < 2 || string(last.GetOutput()) != fmt.Sprintf(`{"total":%d}`, n) {
		t.Errorf("%d rows in %d chunks, then %v", rows, chunks, last)
	}

	h := sdktest.Open(t, newConnector(w), good())
	var out struct {
		Total int
		Rows  []row
	}
	if err := h.Call(t.Context(), "thing.list", input{Name: "x"}, &out); err != nil || len(out.Rows) != n || out.Total != n {
		t.Errorf("%d rows, total %d, %v", len(out.Rows), out.Total, err)
	}
	res, err := h.Do(t.Context(), sdktest.Call{Action: "thing.list", Input: input{Name: "x"}, MaxRows: 100})
	want(t, err, plugin.ClassTooLarge, plugin.EffectNone, "more than 100 rows")
	if len(res.Rows) != 100 {
		t.Errorf("%d rows came before the error", len(res.Rows))
	}
	_, err = h.Do(t.Context(), sdktest.Call{Action: "thing.list", Input: input{Name: "x"}, MaxOutput: 1000})
	want(t, err, plugin.ClassTooLarge, plugin.EffectNone, "more than 1000 bytes")
}

func TestRowThatIsTooLargeEndsTheAction(t *testing.T) {
	t.Parallel()
	w := &world{rows: func(_ context.Context, _ input, emit func(row) error) (summary, error) {
		if err := emit(row{N: 1}); err != nil {
			return summary{}, err
		}
		_ = emit(row{Text: strings.Repeat("x", plugin.MaxEvent)})
		return summary{Total: 2}, nil // an author who ignores emit's error does not get away with it
	}}
	h := sdktest.Open(t, newConnector(w), good())
	res, err := h.Do(t.Context(), sdktest.Call{Action: "thing.list", Input: input{Name: "x"}})
	want(t, err, plugin.ClassTooLarge, plugin.EffectNone, "row 2 has")
	if len(res.Rows) != 1 {
		t.Errorf("%d rows came before the error", len(res.Rows))
	}
}

// A row must not wait for a chunk to fill: the action waits until its only row has arrived at the client.
func TestLonelyRowIsFlushed(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	w := &world{rows: func(ctx context.Context, _ input, emit func(row) error) (summary, error) {
		if err := emit(row{N: 1}); err != nil {
			return summary{}, err
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return summary{}, ctx.Err()
		}
		return summary{}, nil
	}}
	c, call := joined(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := c.Invoke(ctx, &connectorv1.InvokeRequest{Call: call(), Action: "thing.list", Input: []byte(`{"name":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil || m.GetRows().GetCount() != 1 {
		t.Fatalf("got %v, %v", m, err)
	}
	close(arrived)
	if m, err = stream.Recv(); err != nil || m.GetResult() == nil {
		t.Fatalf("got %v, %v", m, err)
	}
}

// A row that is emitted after the action has returned is refused, not sent into somebody else's stream.
func TestLateRow(t *testing.T) {
	t.Parallel()
	var late func(row) error
	w := &world{rows: func(_ context.Context, _ input, emit func(row) error) (summary, error) {
		late = emit
		return summary{}, nil
	}}
	h := sdktest.Open(t, newConnector(w), good())
	if err := h.Call(t.Context(), "thing.list", input{Name: "x"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := late(row{}); err == nil {
		t.Error("a late row was taken")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := &world{check: func(context.Context) []sdk.Probe {
		return []sdk.Probe{
			{Name: "token", Status: sdk.ProbeOK, Summary: "fine"},
			{Name: "permission", Status: sdk.ProbeFailed, Summary: "missing", Remedy: "grant it"},
			{Name: "odd"},
		}
	}}
	h := sdktest.Open(t, newConnector(w), good())
	got, err := h.Check(t.Context())
	if err != nil || len(got) != 3 || got[1].Remedy != "grant it" || got[2].Status != sdk.ProbeFailed {
		t.Errorf("got %+v, %v", got, err)
	}
	w.check = func(context.Context) []sdk.Probe { panic("no") }
	_, err = h.Check(t.Context())
	want(t, err, plugin.ClassBug, plugin.EffectNone, "panicked")
}

func BenchmarkInvoke(b *testing.B) {
	w := &world{act: func(context.Context, *box, input) (output, error) { return output{ID: "1"}, nil }}
	c := plugintest.Join(b, sdk.Server(newConnector(w)))
	cfg, _ := json.Marshal(good())
	if _, err := c.Configure(b.Context(), &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{{Connection: "c", Generation: 1, Config: cfg}}}); err != nil {
		b.Fatal(err)
	}
	req := &connectorv1.InvokeRequest{
		Call:   &connectorv1.CallContext{Connection: "c", Generation: 1, CallId: "id"},
		Action: "thing.get", Input: []byte(`{"name":"x","extra":{"text":"` + strings.Repeat("x", 2000) + `"}}`),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := invoke(b.Context(), c, req); err != nil {
			b.Fatal(err)
		}
	}
}
