package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// process is a connector started by hand: no library stands between it and the suite.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *capture
	stderr *capture
	dir    string // of its socket
	line   string // the handshake
	conn   *grpc.ClientConn
	client connectorv1.ConnectorClient
	done   chan struct{}
	ending atomic.Bool // the suite is ending it
}

const startTimeout = plugin.StartTimeout

// spawn starts the executable and returns at once. With cookie it may believe that a host started it.
func (s *suite) spawn(env []string, cookie bool) (*process, error) {
	dir, err := os.MkdirTemp(s.dir, "s")
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir, stdout: newCapture(s.seen, "standard output"), stderr: newCapture(s.seen, "standard error"), done: make(chan struct{})}
	path, err := filepath.Abs(s.sub.Path)
	if err != nil {
		return nil, err
	}
	p.cmd = &exec.Cmd{Path: path, Args: append([]string{path}, s.sub.Args...), Dir: dir, WaitDelay: 300 * time.Millisecond}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Env = append(p.cmd.Env, "TMPDIR="+dir, "PLUGIN_UNIX_SOCKET_DIR="+dir, fmt.Sprintf("PLUGIN_PROTOCOL_VERSIONS=%d", plugin.ProtocolVersion))
	if cookie {
		h := plugin.Handshake()
		p.cmd.Env = append(p.cmd.Env, h.MagicCookieKey+"="+h.MagicCookieValue)
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.SysProcAttr = ownGroup()
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is read from the process's state
		p.stdout.close()
	}()
	return p, nil
}

// launch starts the executable and connects to it.
func (s *suite) launch(ctx context.Context, env []string) (*process, error) {
	p, err := s.spawn(env, true)
	if err != nil {
		return nil, err
	}
	if err := p.connect(ctx, s.seen); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// connect waits for the handshake and opens the connection.
func (p *process) connect(ctx context.Context, seen *witness) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	line, err := p.stdout.line(ctx)
	if err != nil {
		if p.ended() {
			return fmt.Errorf("it ended before its handshake: %s", p.obituary())
		}
		return fmt.Errorf("no handshake line on standard output within %v", startTimeout)
	}
	p.line = line
	parts := strings.Split(line, "|")
	if len(parts) < 5 {
		return fmt.Errorf("the first line on standard output is %q, not a handshake", clip(line))
	}
	p.conn, err = grpc.NewClient("unix:"+parts[3], append(plugin.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(seen.unary(p)), grpc.WithStreamInterceptor(seen.stream(p)))...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", clip(parts[3]), err)
	}
	p.client = connectorv1.NewConnectorClient(p.conn)
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// await says whether the process ended within d.
func (p *process) await(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return p.ended()
}

// kill ends the process, its group, and the connection.
func (p *process) kill() {
	p.ending.Store(true)
	killGroup(p.cmd.Process)
	_ = p.stdin.Close()
	<-p.done
	if p.conn != nil {
		_ = p.conn.Close()
	}
}

// obituary says how the process ended and what it said last.
func (p *process) obituary() string {
	text := p.cmd.ProcessState.String()
	if last := p.stderr.tail(600); last != "" {
		text += "; last on standard error: " + last
	}
	return text
}

func (p *process) describe(ctx context.Context) (*connectorv1.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, plugin.DescribeTimeout)
	defer cancel()
	return p.client.Describe(ctx, &connectorv1.DescribeRequest{Host: hostInfo()}, grpc.WaitForReady(true))
}

func hostInfo() *connectorv1.HostInfo { return &connectorv1.HostInfo{Version: "0.0.0-conformance"} }

func (p *process) configure(ctx context.Context, req *connectorv1.ConfigureRequest) (*connectorv1.ConfigureResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, plugin.ConfigureTimeout)
	defer cancel()
	req.Host = hostInfo()
	return p.client.Configure(ctx, req)
}

// answer is what one Invoke brought.
type answer struct {
	result *connectorv1.Result
	rows   []byte
	count  uint64
	files  []any
	size   int64 // of the file that has begun
	open   bool  // a file has begun and not ended
	hash   hash.Hash
	broken error // how the stream breaks the rules
}

// invoke runs an action to its end.
func (p *process) invoke(ctx context.Context, req *connectorv1.InvokeRequest) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stream, err := p.client.Invoke(ctx, req)
	if err != nil {
		return nil, err
	}
	a := &answer{}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if a.result != nil {
			a.broken = errors.New("a message follows the Result")
		}
		switch k := m.GetKind().(type) {
		case *connectorv1.InvokeResponse_Result:
			a.result = k.Result
		case *connectorv1.InvokeResponse_Rows:
			a.take(k.Rows)
		case *connectorv1.InvokeResponse_Blob:
			a.takePiece(k.Blob)
		}
	}
	if a.open {
		a.broken = errors.New("a file has no last piece")
	}
	if a.result == nil {
		a.broken = errors.New("the stream ended well but without a Result")
	}
	return a, nil
}

func (a *answer) take(r *connectorv1.Rows) {
	n := uint32(0)
	for line := range bytes.Lines(r.GetNdjson()) {
		n++
		if len(line) > plugin.MaxEvent+1 {
			a.broken = fmt.Errorf("a row has %d bytes, more than %d", len(line), plugin.MaxEvent)
		}
		if line[len(line)-1] != '\n' {
			a.broken = errors.New("a row is not followed by a line feed")
		}
	}
	if n != r.GetCount() {
		a.broken = fmt.Errorf("a chunk of %d rows says that it has %d", n, r.GetCount())
	}
	if proto.Size(r) > plugin.MaxSend {
		a.broken = fmt.Errorf("a chunk of rows has %d bytes, more than %d", proto.Size(r), plugin.MaxSend)
	}
	a.count += uint64(n)
	a.rows = append(a.rows, r.GetNdjson()...)
}

func (a *answer) takePiece(b *connectorv1.Blob) {
	if !a.open {
		if b.GetName() == "" {
			a.broken = errors.New("a file has no name")
		}
		a.files = append(a.files, map[string]any{"name": b.GetName(), "media_type": b.GetMediaType()})
		a.size, a.hash = 0, sha256.New()
	}
	if n := len(b.GetData()); n > plugin.MaxBlobPiece {
		a.broken = fmt.Errorf("a piece of a file has %d bytes, more than %d", n, plugin.MaxBlobPiece)
	}
	a.size += int64(len(b.GetData()))
	_, _ = a.hash.Write(b.GetData())
	if a.open = !b.GetLast(); !a.open {
		f, _ := a.files[len(a.files)-1].(map[string]any)
		f["size"], f["sha256"] = json.Number(strconv.FormatInt(a.size, 10)), hex.EncodeToString(a.hash.Sum(nil))
	}
}

// readStatus decodes a google.rpc.Status that travelled inside a message.
func readStatus(b []byte) *status.Status {
	var p spb.Status
	if err := proto.Unmarshal(b, &p); err != nil {
		return status.New(0, "")
	}
	return status.FromProto(&p)
}

// capture keeps what a process prints, up to a limit, and shows it to the witness.
type capture struct {
	seen  *witness
	where string

	mu      sync.Mutex
	buf     []byte
	total   int
	closed  bool
	changed chan struct{}
}

const (
	maxCapture = 4 << 20
	overlap    = 4 << 10 // a secret may lie across two writes
)

func newCapture(seen *witness, where string) *capture {
	return &capture{seen: seen, where: where, changed: make(chan struct{})}
}

func (c *capture) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total += len(b)
	from := max(0, len(c.buf)-overlap)
	c.buf = append(c.buf, b...)
	c.seen.scan(c.where, c.buf[from:])
	if len(c.buf) > maxCapture {
		c.buf = append([]byte{}, c.buf[len(c.buf)-maxCapture/2:]...)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return len(b), nil
}

func (c *capture) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	close(c.changed)
	c.changed = make(chan struct{})
}

// line waits for the first line.
func (c *capture) line(ctx context.Context) (string, error) {
	for {
		c.mu.Lock()
		i, closed, changed := bytes.IndexByte(c.buf, '\n'), c.closed, c.changed
		text := string(c.buf[:max(i, 0)])
		c.mu.Unlock()
		switch {
		case i >= 0:
			return text, nil
		case closed:
			return "", io.ErrUnexpectedEOF
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (c *capture) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.buf)
}

// tail returns the last n bytes.
func (c *capture) tail(n int) string {
	t := strings.TrimSpace(c.text())
	return t[max(0, len(t)-n):]
}
