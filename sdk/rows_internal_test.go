package sdk

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// A connector that vouches for its rows has them sent as they are; one that does not keep its word is found out.
func TestVouchedRows(t *testing.T) {
	t.Parallel()
	for _, vouched := range []bool{false, true} {
		options := []ActionOption{}
		if vouched {
			options = append(options, Vouched())
		}
		a := &actionSpec{name: "rows"}
		for _, o := range options {
			o(a)
		}
		for row, bad := range map[string]bool{`{"a":1}`: false, `{"a":`: true, "": true, "{\"a\":\n1}": false} {
			w := &rowWriter{a: a, stream: silent{ctx: t.Context()}}
			err := w.row(json.RawMessage(row))
			if want := bad && (!vouched || row == ""); (err != nil) != want {
				t.Errorf("vouched %v, row %q: %v", vouched, row, err)
			}
			if err == nil && strings.Count(w.buf.String(), "\n") != 1 {
				t.Errorf("vouched %v, row %q became %q", vouched, row, w.buf.String())
			}
			w.close()
		}
	}
}

// A row that is JSON costs its author no allocation, however many there are.
func TestRawRowsAllocateNothing(t *testing.T) {
	row := json.RawMessage(`{"a":1}`)
	c := New("rows", "1.0.0", "Rows.", func(context.Context, struct{}, Env) (struct{}, error) { return struct{}{}, nil })
	allocs := -1.0
	Rows(c, "rows", "Send rows.", func(_ struct{}, _ context.Context, _ struct{}, emit func(json.RawMessage) error) (struct{}, error) {
		for range 10 { // the buffer and the timer are made
			if err := emit(row); err != nil {
				return struct{}{}, err
			}
		}
		allocs = testing.AllocsPerRun(1000, func() { _ = emit(row) })
		return struct{}{}, nil
	}, Read)
	a := c.action("rows")
	w := &rowWriter{a: a, stream: silent{ctx: t.Context()}}
	w.buf.Grow(64 << 10)
	if _, err := a.run(t.Context(), struct{}{}, []byte(`{}`), w); err != nil {
		t.Fatal(err)
	}
	w.close()
	if allocs != 0 {
		t.Errorf("%v allocations for each row", allocs)
	}
}

// silent is a stream that takes nothing.
type silent struct {
	grpc.ServerStreamingServer[connectorv1.InvokeResponse]
	ctx context.Context //nolint:containedctx // it stands for a stream
}

func (s silent) Context() context.Context { return s.ctx }

func (silent) Send(*connectorv1.InvokeResponse) error { return nil }
