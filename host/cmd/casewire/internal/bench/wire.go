package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// What the wire suite sends.
const (
	rowSize, rowCount     = 64 << 10, 1500
	eventSize, eventCount = 2 << 10, 20_000
	eventPage             = 100
)

type count struct {
	N int `json:"n"`
}

type cursor struct {
	Next int `json:"next"`
}

// addStreams gives the echo connector rows and events to send.
func addStreams(c *sdk.Connector) {
	row := benchRow()
	sdk.Rows(c, "rows", "Send rows of 64 KB.", func(_ struct{}, _ context.Context, in count, emit func(json.RawMessage) error) (count, error) {
		for range in.N {
			if err := emit(row); err != nil {
				return count{}, err
			}
		}
		return in, nil
	}, sdk.Read)
	e := benchEvent()
	sdk.AddTrigger(c, sdk.Trigger[struct{}, cursor]{
		Name: "events", Summary: "Send events of 2 KB.", Emits: []string{event.TypeAlert},
		Poll: func(_ struct{}, _ context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
			page := sdk.Page[cursor]{Events: slices.Repeat([]sdk.Event{e}, eventPage)}
			for cur.Next < eventCount {
				cur.Next += eventPage
				page.Cursor = cur
				if err := emit(page); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// benchEvent is a well-formed alert of 2 KB.
func benchEvent() sdk.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := sdk.Event{Source: "https://bench.example", Type: event.TypeAlert, Subject: "one", Time: at, PartitionKey: "bench/one", Rev: event.Rev(at)}
	e.Digest = event.Digest(map[string]any{"subject": "one"})
	e.ID = event.ComputeID(e.Source, e.Subject, e.Rev, e.Digest)
	head := fmt.Sprintf(`{"class_uid":2004,"category_uid":2,"activity_id":1,"type_uid":200401,"severity_id":3,"time":%d,`+
		`"metadata":{"version":%q,"product":{"vendor_name":"bench"},"uid":%q},"finding_info":{"uid":"one","title":"t"},"evidences":[`,
		at.UnixMilli(), event.DataVersion, e.ID)
	item := `{"data":{"ip":"203.0.113.5","user":"ana@contoso.example","count":17,"ok":true}}`
	for len(head) < eventSize-2*len(item) {
		head += item + ","
	}
	e.Data = []byte(head + item + "]}")
	return e
}

// rawStreams are the baselines: the same bytes, one message for each row or event. Who does not trust what comes has to
// look at it, with gRPC as with this protocol: rows are held to be JSON by who receives them, events to be well-formed by
// who sends them. That is done here as well, so that what remains is the protocol; bare is the same without.
var rawStreams = []grpc.StreamDesc{
	{StreamName: "Rows", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		return sendRaw(s, benchRow(), rowCount, func() error { return nil })
	}},
	{StreamName: "Events", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		e := benchEvent()
		return sendRaw(s, e.Data, eventCount, e.Check)
	}},
}

func benchRow() json.RawMessage {
	return json.RawMessage(`{"text":"` + strings.Repeat("x", rowSize-len(`{"text":""}`)) + `"}`)
}

// bareBody in the request leaves the checks out.
const bareBody = "bare"

func sendRaw(s grpc.ServerStream, body []byte, n int, check func() error) error {
	var req wrapperspb.BytesValue
	if err := s.RecvMsg(&req); err != nil {
		return err
	}
	bare := string(req.GetValue()) == bareBody
	m := &wrapperspb.BytesValue{Value: body}
	for range n {
		if !bare {
			if err := check(); err != nil {
				return err
			}
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

// receiveRaw reads one of the baselines to its end.
func receiveRaw(ctx context.Context, conn *grpc.ClientConn, desc *grpc.StreamDesc, mode string) (n int, err error) {
	s, err := conn.NewStream(ctx, desc, "/"+rawDesc.ServiceName+"/"+desc.StreamName)
	if err != nil {
		return 0, err
	}
	if err := s.SendMsg(&wrapperspb.BytesValue{Value: []byte(mode)}); err != nil {
		return 0, err
	}
	if err := s.CloseSend(); err != nil {
		return 0, err
	}
	for ; ; n++ {
		m := &wrapperspb.BytesValue{}
		if err := s.RecvMsg(m); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		if mode != bareBody && desc.StreamName == "Rows" && !jsontext.Value(m.GetValue()).IsValid(jsontext.AllowDuplicateNames(true)) {
			return n, errors.New("a row is not JSON")
		}
	}
}

// rawProcess is the bare gRPC server in a process of its own.
type rawProcess struct {
	conn  *grpc.ClientConn
	stdin io.Closer
	cmd   *exec.Cmd
	took  time.Duration // from exec to its first line
}

func startRaw(ctx context.Context, self, socket string) (*rawProcess, error) {
	p := &rawProcess{cmd: exec.CommandContext(ctx, self, RawName, socket)}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		p.stop()
		return nil, fmt.Errorf("the bare process says nothing: %w", err)
	}
	p.took = time.Since(begin)
	if p.conn, err = grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *rawProcess) stop() {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	_ = p.stdin.Close()
	_ = p.cmd.Wait() // how it ends is of no interest
}

// echoCatalog is a catalog with the echo connector configured.
func echoCatalog(ctx context.Context, self, dir string) (*catalog.Catalog, error) {
	c, err := catalog.New(catalog.Options{
		RunDir:     filepath.Join(dir, "run"),
		Connectors: map[string]catalog.Source{EchoName: {Launcher: launch.Exec{Path: self, Args: []string{"connector", EchoName}}}},
	})
	if err != nil {
		return nil, err
	}
	out, err := c.Configure(ctx, []catalog.Connection{{Name: "echo", Connector: EchoName, Config: json.RawMessage(`{}`)}})
	if err == nil && out[0].Err != nil {
		err = out[0].Err
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop(ctx))
	}
	return c, nil
}

// wire compares rows and events through the catalog with bare gRPC streams of the same bytes, in turns.
func wire(ctx context.Context) (figures []figure, err error) {
	err = folder(func(dir string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		raw, err := startRaw(ctx, self, filepath.Join(dir, "raw"))
		if err != nil {
			return err
		}
		defer raw.stop()
		c, err := echoCatalog(ctx, self, dir)
		if err != nil {
			return err
		}
		defer func() { _ = c.Stop(context.WithoutCancel(ctx)) }()
		rows := func() (int, error) {
			n := 0
			_, err := c.Invoke(ctx, catalog.Invocation{Connection: "echo", Action: "rows", Input: fmt.Appendf(nil, `{"n":%d}`, rowCount)},
				func(m *connectorv1.InvokeResponse) error {
					n += int(m.GetRows().GetCount())
					return nil
				})
			return n, err
		}
		events := func() (int, error) {
			n := 0
			err := c.Poll(ctx, "echo", "events", nil, func(_ context.Context, b *connectorv1.Batch) error {
				n += len(b.GetEvents())
				return nil
			})
			return n, err
		}
		for _, m := range []struct {
			name    string
			target  float64
			want    int
			size    int
			through func() (int, error)
			desc    *grpc.StreamDesc
		}{
			{"rows_64k_ratio", 0.75, rowCount, rowSize, rows, &rawStreams[0]},
			{"events_2k_ratio", 0.85, eventCount, eventSize, events, &rawStreams[1]},
		} {
			const rounds = 9
			var bare, raws, ours []time.Duration
			for range rounds {
				for _, w := range []struct {
					run  func() (int, error)
					into *[]time.Duration
				}{
					{func() (int, error) { return receiveRaw(ctx, raw.conn, m.desc, bareBody) }, &bare},
					{func() (int, error) { return receiveRaw(ctx, raw.conn, m.desc, "") }, &raws},
					{m.through, &ours},
				} {
					took, err := exactly(m.want, w.run)
					if err != nil {
						return fmt.Errorf("%s: %w", m.name, err)
					}
					*w.into = append(*w.into, took)
				}
			}
			r, h := slices.Min(raws), slices.Min(ours)
			speed := func(d time.Duration) float64 { return float64(m.want) * float64(m.size) / d.Seconds() / 1e6 }
			figures = append(figures, atLeast(m.name, r.Seconds()/h.Seconds(), "x", m.target,
				fmt.Sprintf("%.0f MB/s against %.0f of raw gRPC with the same checks, %.0f without; best of %d rounds each",
					speed(h), speed(r), speed(slices.Min(bare)), rounds)))
		}
		return nil
	})
	return figures, err
}

// exactly times what must bring n things.
func exactly(n int, run func() (int, error)) (time.Duration, error) {
	begin := time.Now()
	got, err := run()
	took := time.Since(begin)
	if err == nil && got != n {
		err = fmt.Errorf("%d came, want %d", got, n)
	}
	return took, err
}

// process measures what a connector costs: from nothing to its first answer, and the memory that is its own at rest.
func process(ctx context.Context) (figures []figure, err error) {
	err = folder(func(dir string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		const rounds = 15
		var bare, ours []time.Duration
		for i := range rounds {
			p, err := startRaw(ctx, self, filepath.Join(dir, "raw"+strconv.Itoa(i)))
			if err != nil {
				return err
			}
			bare = append(bare, p.took)
			p.stop()
			took, err := firstAnswer(ctx, self, dir, nil)
			if err != nil {
				return err
			}
			ours = append(ours, took)
		}
		var private float64
		if _, err := firstAnswer(ctx, self, dir, func(pid int) error {
			// At rest: the memory of the start has been given back.
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(3 * time.Second):
			}
			private, err = privateMB(pid)
			return err
		}); err != nil {
			return err
		}
		r, h := slices.Min(bare), slices.Min(ours)
		figures = []figure{
			atMost("cold_start_ratio", h.Seconds()/r.Seconds(), "x", 3, fmt.Sprintf(
				"%v to the first answer against %v to the first line of a bare process; best of %d rounds each",
				h.Round(100*time.Microsecond), r.Round(100*time.Microsecond), rounds)),
			atMost("connector_private_mb", private, "MB", 6, "memory that an idle connector shares with no other process"),
		}
		return nil
	})
	return figures, err
}

// firstAnswer starts the echo connector and calls it once. With more, it goes on with the process.
func firstAnswer(ctx context.Context, self, dir string, more func(pid int) error) (time.Duration, error) {
	begin := time.Now()
	c, err := echoCatalog(ctx, self, dir)
	if err != nil {
		return 0, err
	}
	_, err = c.Invoke(ctx, catalog.Invocation{Connection: "echo", Action: "echo", Input: json.RawMessage(`{"text":"x"}`)}, nil)
	took := time.Since(begin)
	if err == nil && more != nil {
		err = more(c.Status()[0].PID)
	}
	return took, errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
}

// privateMB is the memory of a process that no other has.
func privateMB(pid int) (mb float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 1 && (f[0] == "Private_Clean:" || f[0] == "Private_Dirty:") {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return 0, err
			}
			mb += kb / 1024
		}
	}
	return mb, nil
}
