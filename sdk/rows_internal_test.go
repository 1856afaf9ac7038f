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

// silent is a stream that takes nothing.
type silent struct {
	grpc.ServerStreamingServer[connectorv1.InvokeResponse]
	ctx context.Context //nolint:containedctx // it stands for a stream
}

func (s silent) Context() context.Context { return s.ctx }
