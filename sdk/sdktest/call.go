package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// Call is one call of an action, in full.
type Call struct {
	Action string
	// Input as a struct, map or JSON.
	Input any
	// Key is the idempotency key; by default each call has one of its own.
	Key       string
	Attempt   int
	DryRun    bool
	Resolve   bool
	Prior     any
	FirstSent time.Time
	// Effect is what the caller declares, for actions that leave it to it.
	Effect    sdk.Effect
	MaxRows   uint64
	MaxOutput uint64
}

// Result is what a call brought; on an error, what came before it.
type Result struct {
	Output   json.RawMessage
	Rows     []json.RawMessage
	Progress []string
	// Blobs are the files that it sent, whole.
	Blobs []sdk.Blob
}

// Call calls an action and decodes its output into out, unless out is nil. Rows become the output's property "rows",
// and files "blobs", as they do in a flow. The error is an *sdk.Error as the host sees it.
func (h *Harness) Call(ctx context.Context, action string, input, out any) error {
	h.t.Helper()
	res, err := h.Do(ctx, Call{Action: action, Input: input})
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(res.Output, out); err != nil {
		return fmt.Errorf("decode the output of %s: %w", action, err)
	}
	return nil
}

// Do calls an action.
func (h *Harness) Do(ctx context.Context, c Call) (*Result, error) {
	h.t.Helper()
	client, err := h.client(ctx)
	if err != nil {
		return nil, h.fail(err)
	}
	p := h.context()
	p.IdempotencyKey, p.DryRun = c.Key, c.DryRun
	if p.GetIdempotencyKey() == "" {
		p.IdempotencyKey = "key of " + p.GetCallId()
	}
	p.Attempt = uint32(max(1, c.Attempt))
	if c.Resolve {
		p.Mode = connectorv1.Mode_MODE_RESOLVE
	}
	if c.Prior != nil {
		p.Prior = encode(h.t, c.Prior, false)
	}
	p.Effect = connectorv1.Effect(c.Effect)
	if !c.FirstSent.IsZero() {
		p.FirstSent = timestamppb.New(c.FirstSent)
	}
	if d, ok := ctx.Deadline(); ok {
		p.Deadline = timestamppb.New(d)
	}
	res := &Result{}
	var file *connectorv1.Blob // that has begun
	stream, err := client.Invoke(ctx, &connectorv1.InvokeRequest{
		Call: p, Action: c.Action, Input: encode(h.t, c.Input, false), MaxRows: c.MaxRows, MaxOutputBytes: c.MaxOutput,
	})
	for err == nil {
		var m *connectorv1.InvokeResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		switch k := m.GetKind().(type) {
		case *connectorv1.InvokeResponse_Progress:
			res.Progress = append(res.Progress, k.Progress.GetMessage())
		case *connectorv1.InvokeResponse_Rows:
			res.Rows = append(res.Rows, lines(h.t, k.Rows)...)
		case *connectorv1.InvokeResponse_Blob:
			file = h.piece(res, file, k.Blob)
		case *connectorv1.InvokeResponse_Result:
			if file != nil {
				h.t.Errorf("%s: the file %q has no end", c.Action, file.GetName())
			}
			res.Output = k.Result.GetOutput()
			h.keep(k.Result.GetConnectionState())
		}
	}
	if !errors.Is(err, io.EOF) {
		return res, h.fail(err)
	}
	h.finish(c.Action, res)
	return res, nil
}

// piece adds a piece to the file that has begun, and returns the file unless it is complete.
func (h *Harness) piece(res *Result, file, p *connectorv1.Blob) *connectorv1.Blob {
	h.t.Helper()
	if n := len(p.GetData()); n > plugin.MaxBlobPiece {
		h.t.Errorf("a piece of the file %q has %d bytes, more than %d", p.GetName(), n, plugin.MaxBlobPiece)
	}
	if file == nil {
		file = &connectorv1.Blob{Name: p.GetName(), MediaType: p.GetMediaType(), Data: []byte{}}
		if file.GetName() == "" {
			h.t.Errorf("a file was sent without a name")
		}
	}
	file.Data = append(file.Data, p.GetData()...)
	if !p.GetLast() {
		return file
	}
	h.watch("the file "+file.GetName(), string(file.GetData()))
	res.Blobs = append(res.Blobs, sdk.NewBlob(file.GetName(), file.GetMediaType(), file.GetData()))
	return nil
}

// lines splits a chunk of rows.
func lines(tb testing.TB, r *connectorv1.Rows) []json.RawMessage {
	tb.Helper()
	var out []json.RawMessage
	for line := range strings.Lines(string(r.GetNdjson())) {
		if !json.Valid([]byte(line)) || !strings.HasSuffix(line, "\n") {
			tb.Errorf("a row is not one line of JSON: %.200q", line)
		}
		out = append(out, json.RawMessage(strings.TrimSuffix(line, "\n")))
	}
	if len(out) != int(r.GetCount()) {
		tb.Errorf("a chunk says that it has %d rows, but has %d", r.GetCount(), len(out))
	}
	return out
}

// finish puts the rows into the output and holds it against its schema.
func (h *Harness) finish(action string, res *Result) {
	h.t.Helper()
	for _, a := range h.about.GetActions() {
		if a.GetName() != action || !a.GetRows() && !a.GetBlobs() {
			continue
		}
		all := map[string]json.RawMessage{}
		if err := json.Unmarshal(res.Output, &all); err != nil {
			h.t.Errorf("%s: output: %v", action, err)
		}
		if a.GetRows() {
			all["rows"] = encode(h.t, append([]json.RawMessage{}, res.Rows...), false)
		}
		if a.GetBlobs() {
			all["blobs"] = encode(h.t, shown(res.Blobs), false)
		}
		res.Output = encode(h.t, all, false)
	}
	h.watch("the output of "+action, string(res.Output))
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(res.Output)))
	if err != nil {
		h.t.Errorf("%s: the output is no JSON: %v", action, err)
		return
	}
	if s := h.outputs[action]; s != nil {
		if err := s.Validate(doc); err != nil {
			h.t.Errorf("%s: the output breaks its own schema: %v", action, err)
		}
	}
}

// shown is what an output shows of files.
func shown(files []sdk.Blob) []map[string]any {
	out := []map[string]any{}
	for _, f := range files {
		m := map[string]any{"name": f.Name, "media_type": f.MediaType, "size": f.Size, "sha256": f.SHA256}
		if f.Size <= plugin.MaxInlineBlob {
			m["data"] = f.Data
		}
		out = append(out, m)
	}
	return out
}

// Check runs the connector's probes.
func (h *Harness) Check(ctx context.Context) ([]sdk.Probe, error) {
	h.t.Helper()
	client, err := h.client(ctx)
	if err != nil {
		return nil, h.fail(err)
	}
	resp, err := client.Check(ctx, &connectorv1.CheckRequest{Call: h.context()})
	if err != nil {
		return nil, h.fail(err)
	}
	h.keep(resp.GetConnectionState())
	var out []sdk.Probe
	for _, p := range resp.GetProbes() {
		h.watch("probe "+p.GetName(), p.GetSummary(), p.GetRemedy())
		probe := sdk.Probe{Name: p.GetName(), Status: sdk.ProbeStatus(p.GetStatus()), Summary: p.GetSummary(), Remedy: p.GetRemedy()}
		if p.GetExpires() != nil {
			probe.Expires = p.GetExpires().AsTime()
		}
		out = append(out, probe)
	}
	return out, nil
}
