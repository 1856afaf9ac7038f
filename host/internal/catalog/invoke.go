package catalog

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/wirejson"
)

// Invocation is one attempt at one action.
type Invocation struct {
	Connection, Action string
	Input              json.RawMessage
	ID                 string // unique per attempt; made up if empty
	Key                string // idempotency key
	Attempt            int    // 1 for the first
	DryRun             bool
	Resolve            bool            // find out only
	Prior              json.RawMessage // output of the last success with the same key
	FirstSent          time.Time
	Effect             connectorv1.Effect // what the caller declared, for actions that let it
	MaxOutput, MaxRows uint64             // zero: the protocol's
}

// invokeStream and invokeMethod let Invoke open its stream itself: what fails before the stream is open never left the
// host, which the generated client does not tell.
var (
	invokeStream = &grpc.StreamDesc{StreamName: "Invoke", ServerStreams: true}
	invokeMethod = connectorv1.Connector_Invoke_FullMethodName
)

// Invoke runs an action and returns its output. With onEvent, every Progress, Rows and Blob is handed to it as it comes,
// and its error ends the call; without, rows are gathered into the output's property "rows" and files into "blobs", whose data is in place up to
// plugin.MaxInlineBlob. The bytes of rows are onEvent's until it returns: the next ones overwrite them. Errors are *plugin.Error.
func (c *Catalog) Invoke(ctx context.Context, inv Invocation, onEvent func(*connectorv1.InvokeResponse) error) (json.RawMessage, error) {
	for replayed := false; ; replayed = true {
		cn, in, err := c.acquire(ctx, inv.Connection)
		if err != nil {
			return nil, err
		}
		r := receiver{in: in, cn: cn, onEvent: onEvent, a: attempt{verb: inv.Action, connection: inv.Connection}}
		mode := byte('x')
		if inv.Resolve {
			mode = 'r' // to look is another thing than to do
		}
		done, err := in.sup.ward.admit(ctx, in, fingerprint("invoke", inv.Connection, inv.Action, mode, inv.Input), r.a)
		if err != nil {
			in.leave()
			return nil, err
		}
		out, err := r.invoke(ctx, cn, &inv)
		done(err)
		if err != nil && err.Reason == plugin.ReasonConfigMismatch && !replayed && !r.delivered {
			err = in.sup.replay(ctx, in, cn)
			in.leave()
			if err == nil {
				continue
			}
			return nil, err
		}
		in.leave()
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// receiver takes what one Invoke answers.
type receiver struct {
	in        *instance
	cn        *conn
	onEvent   func(*connectorv1.InvokeResponse) error
	a         attempt
	delivered bool // something was handed to onEvent
	rows      rows
	blobs     blobs
}

func (r *receiver) invoke(ctx context.Context, cn *conn, inv *Invocation) (json.RawMessage, *plugin.Error) {
	action := r.in.sup.desc.Load().actions[inv.Action]
	if action == nil {
		e := hostError(codes.InvalidArgument, "the connector %s has no action %q", r.in.sup.name, inv.Action)
		e.Origin = plugin.OriginInput
		return nil, e
	}
	if n := len(inv.Input); n > plugin.MaxInput {
		return nil, tooLarge("%s: the input has %d bytes, more than %d", r.a.what(), n, plugin.MaxInput)
	}
	if n := len(inv.Input) + len(inv.Prior); n > plugin.MaxSend-64<<10 {
		return nil, tooLarge("%s: input and prior output have %d bytes, more than %d", r.a.what(), n, plugin.MaxSend-64<<10)
	}
	r.rows.wanted = action.GetRows()
	r.rows.maxRows = inv.MaxRows
	r.blobs.wanted = action.GetBlobs()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream whatever happens
	s, err := r.in.conn.NewStream(ctx, invokeStream, invokeMethod, plugin.RecycleRows())
	if err != nil {
		return nil, r.in.failure(ctx, r.a, err)
	}
	req := &connectorv1.InvokeRequest{
		Call: callContext(ctx, cn, inv), Action: inv.Action, Input: inv.Input, MaxOutputBytes: inv.MaxOutput, MaxRows: inv.MaxRows,
	}
	if action.GetEffectByCaller() {
		req.Call.Effect = inv.Effect
	}
	if err := s.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return nil, r.in.failure(ctx, r.a, err)
	}
	r.a.sent = true
	if err := s.CloseSend(); err != nil {
		return nil, r.in.failure(ctx, r.a, err)
	}
	result, e := r.receive(ctx, s)
	if e != nil {
		return nil, e
	}
	r.in.sup.cat.saveState(cn, result.GetConnectionState())
	return r.output(result.GetOutput(), cmp.Or(inv.MaxOutput, plugin.MaxOutput))
}

// receive reads to the end of the stream and returns its one result.
func (r *receiver) receive(ctx context.Context, s grpc.ClientStream) (*connectorv1.Result, *plugin.Error) {
	var result *connectorv1.Result
	for {
		m := new(connectorv1.InvokeResponse)
		err := s.RecvMsg(m)
		if err != nil {
			r.in.sup.cat.saveTrailer(r.cn, s.Trailer)
		}
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, r.in.failure(ctx, r.a, err)
		}
		if result != nil {
			return nil, r.in.lie(r.a, codes.Internal, "a message after the result")
		}
		switch k := m.GetKind().(type) {
		case *connectorv1.InvokeResponse_Result:
			result = k.Result
			continue
		case *connectorv1.InvokeResponse_Progress:
		case *connectorv1.InvokeResponse_Rows:
			if e := r.takeRows(k.Rows); e != nil {
				return nil, e
			}
		case *connectorv1.InvokeResponse_Blob:
			if e := r.takeBlob(k.Blob); e != nil {
				return nil, e
			}
		default:
			continue // a later version's message
		}
		if r.onEvent != nil {
			r.delivered = true
			if err := r.onEvent(m); err != nil {
				return nil, refusedBy(r.a, err)
			}
		}
	}
	if result == nil {
		return nil, r.in.lie(r.a, codes.Internal, "it ended without a result")
	}
	if r.blobs.open {
		return nil, r.in.lie(r.a, codes.Internal, "a file without an end")
	}
	return result, nil
}

// output checks the output of a result and joins the rows to it.
func (r *receiver) output(out []byte, limit uint64) (json.RawMessage, *plugin.Error) {
	if n := uint64(len(out)); n > limit {
		return nil, r.in.lie(r.a, codes.OutOfRange, "the output has %d bytes, more than %d", n, limit)
	}
	if len(out) == 0 {
		out = []byte("null")
	} else if !wirejson.Valid(out) {
		return nil, r.in.lie(r.a, codes.Internal, "the output is not JSON")
	}
	if r.onEvent != nil {
		return out, nil
	}
	var err error
	if r.blobs.wanted || len(r.blobs.list) > 0 {
		out, err = r.blobs.join(out)
	}
	if err == nil && (r.rows.wanted || r.rows.count > 0) {
		out, err = r.rows.join(out)
	}
	if err != nil {
		return nil, r.in.lie(r.a, codes.Internal, "%v", err)
	}
	return out, nil
}

func callContext(ctx context.Context, cn *conn, inv *Invocation) *connectorv1.CallContext {
	call := &connectorv1.CallContext{
		Connection: cn.spec.Name, Generation: cn.generation, CallId: inv.ID, IdempotencyKey: inv.Key,
		Attempt: uint32(max(inv.Attempt, 1)), DryRun: inv.DryRun, Prior: inv.Prior, Mode: connectorv1.Mode_MODE_EXECUTE,
	}
	if call.GetCallId() == "" {
		call.CallId = rand.Text()
	}
	if inv.Resolve {
		call.Mode = connectorv1.Mode_MODE_RESOLVE
	}
	if d, ok := ctx.Deadline(); ok {
		call.Deadline = timestamppb.New(d)
	}
	if !inv.FirstSent.IsZero() {
		call.FirstSent = timestamppb.New(inv.FirstSent)
	}
	return call
}

// newCall is the context of a call that has no idempotency key.
func newCall(ctx context.Context, cn *conn) *connectorv1.CallContext {
	return callContext(ctx, cn, &Invocation{})
}

func tooLarge(format string, args ...any) *plugin.Error {
	e := hostError(codes.OutOfRange, "%s", fmt.Sprintf(format, args...))
	e.Origin, e.Reason = plugin.OriginInput, plugin.ReasonTooLarge
	return e
}
