package conformance_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// mutant is the good connector with one fault, named by how.
type mutant struct {
	connectorv1.ConnectorServer
	how    string
	serial sync.Mutex
	leaked [][]byte
	first  atomic.Pointer[connectorv1.ConnectionConfig] // that was configured
	known  atomic.Pointer[connectorv1.ConnectionConfig] // the last
	taken  sync.Map                                     // "name@generation"
}

var stdout, stderr = os.NewFile(1, "stdout"), os.NewFile(2, "stderr") // go-plugin replaces os.Stdout

// serve plays a connector with a fault, or without one if how is "good".
func serve(how string) {
	m := &mutant{ConnectorServer: sdk.Server(newBox()), how: how}
	cookie := plugin.Handshake()
	switch how {
	case "no cookie":
		_ = os.Setenv(cookie.MagicCookieKey, cookie.MagicCookieValue)
	case "no handshake":
		fmt.Fprintln(stdout, "hello")
	case "socket elsewhere":
		dir, err := os.MkdirTemp("", "cwm")
		if err != nil {
			os.Exit(1)
		}
		_ = os.Setenv("PLUGIN_UNIX_SOCKET_DIR", dir)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig: cookie, Plugins: plugin.Plugins(m),
			GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
				return grpc.NewServer(append(plugin.ServerOptions(nil), o...)...)
			},
		})
		return
	}
	plugin.Serve(m, plugin.ServeOptions{})
}

func (m *mutant) Describe(ctx context.Context, r *connectorv1.DescribeRequest) (*connectorv1.DescribeResponse, error) {
	d, err := m.ConnectorServer.Describe(ctx, r)
	if err != nil {
		return nil, err
	}
	switch m.how {
	case "children":
		if err := exec.Command("sleep", "120").Start(); err != nil {
			return nil, err
		}
	case "random description":
		d.Summary = rand.Text()
	case "phones home":
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vendor.example/version", nil)
		if err == nil {
			if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
			}
		}
	case "strict fields":
		if len(r.ProtoReflect().GetUnknown()) > 0 {
			return nil, status.Error(codes.InvalidArgument, "unknown field")
		}
	case "bad name":
		d.Actions[0].Name = "GetThing"
	case "bad version":
		d.Version = "v1"
	case "same name":
		d.Actions[1].Name = d.GetActions()[0].GetName()
	case "bad schema":
		d.Actions[0].InputSchema = []byte(`{"type":"object","properties":{"a":{"type":"strin"}}}`)
	case "schema is a file":
		d.Actions[0].InputSchema = []byte(`{"type":"object","properties":{"a":{"$ref":"file:///etc/passwd"}}}`)
	case "unmarked secret":
		d.ConfigSchema = bytes.ReplaceAll(d.GetConfigSchema(), []byte("x-casewire-secret"), []byte("x-secret"))
	case "no effect":
		d.Actions[0].Effect = 0
	case "window on read":
		d.Actions[0].ResolveWindow = d.GetActions()[1].GetResolveWindow()
	case "bad example":
		d.Actions[0].Examples[0].Input = []byte(`{"name":7}`)
	case "reaches a path":
		d.Egress = append(d.Egress, "https://api.example.com/v1")
	case "reaches what nobody configures":
		d.Egress = append(d.Egress, "{config.bass_url}")
	case "large webhook":
		d.Triggers[0].Webhook.MaxBody = 3 << 20
	case "no interval":
		d.Triggers[0].Interval = nil
	case "chatty":
		fmt.Fprintln(stdout, "describing")
	}
	return d, nil
}

func (m *mutant) Configure(ctx context.Context, r *connectorv1.ConfigureRequest) (*connectorv1.ConfigureResponse, error) {
	if m.how == "knows better" && len(r.GetUpserts()) == 0 && len(r.GetRemoves()) == 0 {
		return &connectorv1.ConfigureResponse{Outcomes: []*connectorv1.ConnectionOutcome{{}}}, nil
	}
	resp, err := m.ConnectorServer.Configure(ctx, r)
	if err != nil {
		return nil, err
	}
	for i, o := range resp.GetOutcomes() {
		e := plugin.UnmarshalStatus(o.GetStatus())
		u := r.GetUpserts()[i]
		if e == nil {
			m.first.CompareAndSwap(nil, u)
			m.known.Store(u)
		}
		switch m.how {
		case "eager":
			var cfg boxConfig
			if e == nil && decodeConfig(u.GetConfig(), &cfg) == nil {
				ask(ctx, cfg.BaseURL)
			}
		case "all or nothing":
			if e != nil {
				return nil, e
			}
		case "no pointers":
			if e != nil {
				e.Violations = nil
				o.Status = plugin.MarshalStatus(e)
			}
		case "takes everything":
			o.Status = nil
		case "not again":
			if _, was := m.taken.LoadOrStore(fmt.Sprint(u.GetConnection(), u.GetGeneration()), true); was {
				o.Status = plugin.MarshalStatus(plugin.Errorf(codes.AlreadyExists, "it is there already"))
			}
		case "logs secrets":
			fmt.Fprintf(stderr, "configured with %s\n", u.GetConfig())
		}
	}
	if m.how == "one outcome" && len(resp.GetOutcomes()) > 1 {
		resp.Outcomes = resp.GetOutcomes()[:1]
	}
	return resp, nil
}

func ask(ctx context.Context, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if resp, err := http.DefaultTransport.RoundTrip(req.WithContext(ctx)); err == nil {
		_ = resp.Body.Close()
	}
}

// adopt makes a call on any connection one on the connection that was configured first.
func (m *mutant) adopt(c *connectorv1.CallContext) {
	if k := m.first.Load(); k != nil {
		c.Connection, c.Generation = k.GetConnection(), k.GetGeneration()
	}
}

func (m *mutant) Invoke(r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
	s = &mutantStream{Connector_InvokeServer: s, m: m}
	c := r.GetCall()
	switch m.how {
	case "any connection":
		m.adopt(c)
	case "any generation":
		if k := m.known.Load(); k != nil && k.GetConnection() == c.GetConnection() {
			c.Generation = k.GetGeneration()
		}
	case "untyped":
		if err := m.ConnectorServer.Invoke(r, s); err != nil {
			return bare{status.Convert(err).Code(), plugin.FromError(err).Message}
		}
		return nil
	case "unknown is fine":
		if strings.HasPrefix(r.GetAction(), "conformance.") {
			return s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Result{Result: &connectorv1.Result{Output: []byte("{}")}}})
		}
	case "internal":
		if err := m.ConnectorServer.Invoke(r, s); err != nil {
			e := plugin.FromError(err)
			e.Code = codes.Internal
			return e
		}
		return nil
	case "oversize is throttling":
		if len(r.GetInput()) > plugin.MaxInput {
			return plugin.Errorf(codes.ResourceExhausted, "too large")
		}
	case "no deadline":
		c.Deadline = nil
	case "no cancellation":
		c.Deadline = nil
		s = &mutantStream{Connector_InvokeServer: s, m: m, ctx: context.WithoutCancel(s.Context())}
	case "serial":
		m.serial.Lock()
		defer m.serial.Unlock()
		return m.after(400*time.Millisecond, r, s)
	case "dry run unsure":
		if c.GetDryRun() {
			e := plugin.Errorf(codes.Unavailable, "it failed somewhere")
			e.Origin, e.SideEffect = plugin.OriginPlugin, plugin.EffectUnknown
			return e
		}
	case "makes keys up":
		if c.GetIdempotencyKey() == "" {
			c.IdempotencyKey = rand.Text()
		}
	case "resolve executes":
		c.Mode = connectorv1.Mode_MODE_EXECUTE
	case "another each time":
		c.IdempotencyKey += rand.Text()
	case "surely absent":
		if c.GetMode() == connectorv1.Mode_MODE_RESOLVE {
			return sdk.Absent("nothing there")
		}
	case "wordy":
		if err := m.ConnectorServer.Invoke(r, s); err != nil {
			return longError(err)
		}
		return nil
	case "hoards":
		m.leaked = append(m.leaked, slices.Repeat([]byte("x"), 64<<10))
	case "tells secrets":
		var cfg boxConfig
		if k := m.known.Load(); k != nil && decodeConfig(k.GetConfig(), &cfg) == nil {
			return sdk.Unavailable("the vendor refuses %s", cfg.Token.Reveal())
		}
	}
	return m.ConnectorServer.Invoke(r, s)
}

// after delays a call without regard to its end.
func (m *mutant) after(d time.Duration, r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
	<-time.After(d)
	return m.ConnectorServer.Invoke(r, s)
}

// mutantStream changes what an action answers.
type mutantStream struct {
	connectorv1.Connector_InvokeServer
	m   *mutant
	ctx context.Context //nolint:containedctx // it stands for the stream's
}

func (s *mutantStream) Context() context.Context {
	if s.ctx != nil {
		return s.ctx
	}
	return s.Connector_InvokeServer.Context()
}

func (s *mutantStream) Send(r *connectorv1.InvokeResponse) error {
	switch s.m.how {
	case "two results":
		if r.GetResult() != nil {
			if err := s.Connector_InvokeServer.Send(r); err != nil {
				return err
			}
		}
	case "no result":
		if r.GetResult() != nil {
			return nil
		}
	case "wrong output":
		if r.GetResult() != nil {
			r.GetResult().Output = []byte(`{"id":[]}`)
		}
	case "endless file":
		if r.GetBlob() != nil {
			r.GetBlob().Last = false
		}
	case "wrong count":
		if r.GetRows() != nil {
			r.GetRows().Count++
		}
	}
	return s.Connector_InvokeServer.Send(r)
}

func (m *mutant) Consume(s connectorv1.Connector_ConsumeServer) error {
	return m.ConnectorServer.Consume(&mutantConsume{Connector_ConsumeServer: s, m: m})
}

// mutantConsume changes what goes over a stream of events.
type mutantConsume struct {
	connectorv1.Connector_ConsumeServer
	m *mutant
}

var errHint = errors.New("a hint that makes no sense")

func (s *mutantConsume) Recv() (*connectorv1.ConsumeRequest, error) {
	r, err := s.Connector_ConsumeServer.Recv()
	if err != nil {
		return nil, err
	}
	switch s.m.how {
	case "any connection":
		if o := r.GetOpen(); o != nil {
			s.m.adopt(o.GetCall())
		}
	case "any trigger":
		if o := r.GetOpen(); o != nil {
			o.Trigger = "things"
			if o.GetMode() == 0 {
				o.Mode = connectorv1.ConsumeMode_CONSUME_MODE_POLL
			}
		}
	case "no window":
		if o := r.GetOpen(); o != nil {
			o.Window = 100
		}
	case "no stop":
		if r.GetStop() != nil {
			return &connectorv1.ConsumeRequest{}, nil
		}
	case "forgets":
		if o := r.GetOpen(); o != nil {
			o.Cursor = nil
		}
	case "hint ends all":
		for _, h := range r.GetResolve().GetHints() {
			if string(h.GetData()) == "not JSON" {
				return nil, errHint
			}
		}
	case "loses hints":
		if h := r.GetResolve(); h != nil {
			h.Hints = h.GetHints()[1:]
		}
	}
	return r, nil
}

func (s *mutantConsume) Send(r *connectorv1.ConsumeResponse) error {
	b := r.GetBatch()
	switch s.m.how {
	case "counts from zero":
		if b != nil {
			b.Seq--
		}
	case "never caught up":
		if b != nil {
			b.CaughtUp = false
		}
	case "large cursor":
		if b != nil {
			b.Cursor = slices.Repeat([]byte("x"), plugin.MaxCursor+1)
		}
	case "other events":
		for _, e := range b.GetEvents() {
			e.Id = rand.Text()
		}
	case "outcome twice":
		if r.GetOutcome() != nil {
			if err := s.Connector_ConsumeServer.Send(r); err != nil {
				return err
			}
		}
	}
	return s.Connector_ConsumeServer.Send(r)
}

func (m *mutant) HandleWebhook(ctx context.Context, r *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
	switch m.how {
	case "any connection":
		m.adopt(r.GetCall())
	case "webhook crashes":
		if len(r.GetBody()) > 1000 {
			os.Exit(7)
		}
	case "webhook believes":
		return &connectorv1.HandleWebhookResponse{Status: 202, Events: []*connectorv1.Event{{Id: "1"}}}, nil
	case "webhook is slow":
		<-time.After(3 * time.Second)
	case "webhook status":
		return &connectorv1.HandleWebhookResponse{Status: 99}, nil
	case "any trigger":
		r.Trigger = "things"
	}
	return m.ConnectorServer.HandleWebhook(ctx, r)
}

func (m *mutant) Check(ctx context.Context, r *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	if m.how == "any connection" {
		m.adopt(r.GetCall())
	}
	resp, err := m.ConnectorServer.Check(ctx, r)
	for _, p := range resp.GetProbes() {
		switch m.how {
		case "no remedy":
			p.Remedy = ""
		case "no probe status":
			p.Status = 0
		}
	}
	return resp, err
}

func (m *mutant) Drain(ctx context.Context, r *connectorv1.DrainRequest) (*connectorv1.DrainResponse, error) {
	switch m.how {
	case "children":
		os.Exit(0) // without a word to them
	case "no drain":
		return &connectorv1.DrainResponse{}, nil
	case "patient drain":
		r.Grace.Seconds += 6
	}
	return m.ConnectorServer.Drain(ctx, r)
}

// bare is an error without details.
type bare struct {
	code    codes.Code
	message string
}

func (b bare) Error() string { return b.message }

// GRPCStatus says more than a bare status would be made into: a Failure that says nothing.
func (b bare) GRPCStatus() *status.Status {
	st, err := status.New(b.code, b.message).WithDetails(&connectorv1.Failure{})
	if err != nil {
		return status.New(b.code, b.message)
	}
	return st
}

// long is an error that quotes too much.
type long struct{ st *status.Status }

func (l long) Error() string              { return "long" }
func (l long) GRPCStatus() *status.Status { return l.st }

func longError(err error) error {
	p := plugin.ToStatus(err).Proto()
	p.Message = strings.Repeat("x", 9<<10)
	return long{status.FromProto(p)}
}
