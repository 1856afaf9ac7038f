package conformance

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// witness sees everything that a connector says: errors are held against the rules for errors, and no secret may show.
type witness struct {
	mu      sync.Mutex
	secrets [][]byte // every form of every secret
	plain   []string
	errors  int
	untyped []string // errors without a Failure
	large   []string // errors over the limit
	leaks   []string
}

// maxDetails is the largest encoded status: details travel in trailers, and some stacks take 8 KiB of them.
const maxDetails = 8 << 10

// guard adds secrets that must not show from now on. Short ones are left out: they would be found by chance.
func (w *witness) guard(secrets []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range secrets {
		if len(s) < 8 || slices.Contains(w.plain, s) {
			continue
		}
		w.plain = append(w.plain, s)
		w.secrets = append(w.secrets, []byte(s))
		if e := url.QueryEscape(s); e != s {
			w.secrets = append(w.secrets, []byte(e))
		}
		// Inside a longer text, base64 shows a secret in one of three alignments.
		for pad := range 3 {
			b := base64.RawStdEncoding.EncodeToString(append(make([]byte, pad), s...))
			w.secrets = append(w.secrets, []byte(b[(8*pad+5)/6:8*(pad+len(s))/6]))
		}
	}
}

// scan looks for secrets in what the connector said.
func (w *witness) scan(where string, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.secrets {
		if bytes.Contains(text, s) {
			w.leaks = add(w.leaks, where)
			return
		}
	}
}

// redact keeps secrets out of the report itself.
func (s *suite) redact(text string) string {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	for _, secret := range s.seen.secrets {
		text = strings.ReplaceAll(text, string(secret), plugin.Redacted)
	}
	return text
}

// failure takes an error status that the connector answered with.
func (w *witness) failure(where string, st *status.Status) {
	w.mu.Lock()
	w.errors++
	failures := 0
	for _, d := range st.Details() {
		if f, ok := d.(*connectorv1.Failure); ok {
			failures++
			if f.GetOrigin() == 0 || f.GetSideEffect() == 0 {
				failures = -100
			}
		}
	}
	if failures != 1 {
		w.untyped = add(w.untyped, fmt.Sprintf("%s answered %s %q", where, st.Code(), st.Message()))
	}
	if n := proto.Size(st.Proto()); n > maxDetails {
		w.large = add(w.large, fmt.Sprintf("%s answered %s with %d bytes", where, st.Code(), n))
	}
	w.mu.Unlock()
	if b, err := proto.Marshal(st.Proto()); err == nil {
		w.scan("the error of "+where, b)
	}
}

// message takes an answer. Sealed state may hold secrets; it goes to the host's safe and nowhere else.
func (w *witness) message(where string, m proto.Message) {
	m = proto.Clone(m)
	switch m := m.(type) {
	case *connectorv1.InvokeResponse:
		if r := m.GetResult(); r != nil {
			r.ConnectionState = nil
		}
	case *connectorv1.CheckResponse:
		m.ConnectionState = nil
	case *connectorv1.ConsumeResponse:
		if b := m.GetBatch(); b != nil {
			b.ConnectionState = nil
		}
		for _, st := range [][]byte{m.GetOutcome().GetStatus(), m.GetIdle().GetStatus()} {
			w.embedded(where, st)
		}
	case *connectorv1.ConfigureResponse:
		for _, o := range m.GetOutcomes() {
			w.embedded(where, o.GetStatus())
		}
	}
	if b, err := proto.Marshal(m); err == nil {
		w.scan("an answer of "+where, b)
	}
}

// embedded takes a status that travels inside a message.
func (w *witness) embedded(where string, b []byte) {
	if e := plugin.UnmarshalStatus(b); e != nil {
		w.failure(where, readStatus(b))
	}
}

// add keeps a list short and free of repetition.
func add(list []string, s string) []string {
	if s = clip(s); len(list) < 5 && !slices.Contains(list, s) {
		return append(list, s)
	}
	return list
}

// unary and stream let the witness see what comes over a connection of p.
func (w *witness) unary(p *process) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		w.see(ctx, p, method, reply, err)
		return err
	}
}

func (w *witness) stream(p *process) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		cs, err := open(ctx, desc, cc, method, opts...)
		if err != nil {
			return nil, err
		}
		// The stream's own context ends with the stream; what counts is whether this side gave up.
		return &seenStream{ClientStream: cs, within: ctx, w: w, p: p, method: method}, nil
	}
}

type seenStream struct {
	grpc.ClientStream
	within context.Context //nolint:containedctx // of the call, for the stream's life
	w      *witness
	p      *process
	method string
}

func (s *seenStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.w.see(s.within, s.p, s.method, m, err)
	return err
}

func (w *witness) see(ctx context.Context, p *process, method string, m any, err error) {
	if !strings.HasPrefix(method, servicePrefix) {
		return
	}
	where := strings.TrimPrefix(method, servicePrefix)
	if err == nil {
		if m, ok := m.(proto.Message); ok {
			w.message(where, m)
		}
		return
	}
	st, ok := status.FromError(err)
	// What this side gave up itself, and what a process says that is being killed, says nothing about the connector.
	if !ok || ctx.Err() != nil || p.ending.Load() || p.ended() || st.Code() == codes.OK {
		return
	}
	w.failure(where, st)
}

const servicePrefix = "/casewire.connector.v1.Connector/"
