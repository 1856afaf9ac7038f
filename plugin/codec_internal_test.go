package plugin

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin/connectorv1"
)

func rowsMessage(ndjson string, count uint32) *connectorv1.InvokeResponse {
	return &connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Rows{Rows: &connectorv1.Rows{Ndjson: []byte(ndjson), Count: count}}}
}

func resultMessage(output string) *connectorv1.InvokeResponse {
	return &connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Result{Result: &connectorv1.Result{Output: []byte(output)}}}
}

// Messages of any size come through as they are, whichever codec reads them, in one piece or in many.
func TestCodecs(t *testing.T) {
	t.Parallel()
	messages := []*connectorv1.InvokeResponse{resultMessage("{}"), rowsMessage("", 0), rowsMessage("1\n", 0)}
	for _, n := range []int{1, largeMessage - 16, largeMessage, RowChunk, usualBuffer, largestPooled, MaxSend - 64} {
		messages = append(messages, rowsMessage(strings.Repeat("x", n), uint32(n)), resultMessage(strings.Repeat("y", n)))
	}
	recycling := &rowCodec{}
	for _, m := range messages {
		data, err := wireCodec.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := proto.Marshal(m)
		if err != nil || !bytes.Equal(data.Materialize(), plain) {
			t.Fatalf("a message of %d bytes is not what it is without us, %v", len(plain), err)
		}
		var pieces mem.BufferSlice
		for rest := plain; len(rest) > 0; {
			n := min(len(rest), 16<<10)
			pieces = append(pieces, mem.SliceBuffer(rest[:n]))
			rest = rest[n:]
		}
		for name, read := range map[string]func(mem.BufferSlice, any) error{"codec": wireCodec.Unmarshal, "recycling": recycling.Unmarshal} {
			got := rowsMessage("what was there before", 7)
			if err := read(pieces, got); err != nil || !proto.Equal(m, got) {
				t.Errorf("%s: a message of %d bytes came as another, %v", name, len(plain), err)
			}
		}
		data.Free()
	}
}

// Only rows are overwritten by what comes next, and only where that was asked for.
func TestWhatIsOverwritten(t *testing.T) {
	t.Parallel()
	send := func(m proto.Message) mem.BufferSlice {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}
	}
	large := func(c string) string { return strings.Repeat(c, RowChunk) }
	for _, tt := range []struct {
		name        string
		read        func(mem.BufferSlice, any) error
		m           *connectorv1.InvokeResponse
		overwritten bool
	}{
		{"rows, recycled", (&rowCodec{}).Unmarshal, rowsMessage(large("x"), 1), true},
		{"result, recycled", (&rowCodec{}).Unmarshal, resultMessage(large("x")), false},
		{"rows", wireCodec.Unmarshal, rowsMessage(large("x"), 1), false},
	} {
		var first, next connectorv1.InvokeResponse
		if err := tt.read(send(tt.m), &first); err != nil {
			t.Fatal(err)
		}
		if err := tt.read(send(rowsMessage(large("y"), 1)), &next); err != nil {
			t.Fatal(err)
		}
		if got := !proto.Equal(&first, tt.m); got != tt.overwritten {
			t.Errorf("%s: overwritten: %v, want %v", tt.name, got, tt.overwritten)
		}
	}
}

func TestCodecRefusesWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	bad := mem.BufferSlice{mem.SliceBuffer(bytes.Repeat([]byte{0xff}, 2*largeMessage))}
	for name, read := range map[string]func(mem.BufferSlice, any) error{"codec": wireCodec.Unmarshal, "recycling": (&rowCodec{}).Unmarshal} {
		if err := read(bad, new(connectorv1.InvokeResponse)); err == nil {
			t.Errorf("%s: bytes that are no message were read as one", name)
		}
		if err := read(bad, "no message"); err == nil {
			t.Errorf("%s: a string was read as a message", name)
		}
	}
	if _, err := wireCodec.Marshal("no message"); err == nil {
		t.Error("a string was written as a message")
	}
}

// The pool keeps neither what is too small to be of use nor what is too large to be kept.
func TestBufferPool(t *testing.T) {
	t.Parallel()
	var p bufferPool
	for _, c := range []int{usualBuffer - 1, largestPooled + 1} {
		b := make([]byte, c)
		p.Put(&b)
		if kept := p.pool.Get(); kept != nil {
			t.Errorf("a buffer of %d bytes was kept", c)
		}
	}
	for _, n := range []int{1, RowChunk, usualBuffer + 1, MaxSend} {
		if b := p.Get(n); len(*b) != n || cap(*b) < usualBuffer {
			t.Errorf("asked for %d bytes: %d of %d", n, len(*b), cap(*b))
		}
	}
}

func TestFieldNumbers(t *testing.T) {
	t.Parallel()
	answer := (&connectorv1.InvokeResponse{}).ProtoReflect().Descriptor().Fields()
	rows := (&connectorv1.Rows{}).ProtoReflect().Descriptor().Fields()
	if answer.ByName("rows").Number() != fieldRows || rows.ByName("ndjson").Number() != fieldNdjson || rows.ByName("count").Number() != fieldCount || rows.Len() != 2 {
		t.Error("rowsIn reads another message than the protocol's")
	}
}

// FuzzRowsIn holds the short way to read rows against the long one.
func FuzzRowsIn(f *testing.F) {
	for _, m := range []*connectorv1.InvokeResponse{rowsMessage("1\n2\n", 2), rowsMessage("", 1), rowsMessage("1", 0), resultMessage("{}")} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...))
		f.Add(b[:len(b)-1])
	}
	inner := protowire.AppendVarint(protowire.AppendTag([]byte{0x0a, 1, 'x'}, fieldCount, protowire.VarintType), 1<<40|3)
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, fieldRows, protowire.BytesType), inner))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows := rowsIn(b)
		if rows == nil {
			return
		}
		var want connectorv1.InvokeResponse
		if err := proto.Unmarshal(b, &want); err != nil || !proto.Equal(want.GetRows(), rows) {
			t.Fatalf("%x: %v, want %v, %v", b, rows, want.GetRows(), err)
		}
	})
}

// typed remembers what kind of content its caller says that it sends.
type typed struct {
	connectorv1.UnimplementedConnectorServer
	kinds []string
}

func (s *typed) Invoke(_ *connectorv1.InvokeRequest, stream grpc.ServerStreamingServer[connectorv1.InvokeResponse]) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.kinds = append(s.kinds, strings.Join(md.Get("content-type"), ","))
	return stream.Send(rowsMessage(strings.Repeat("x", RowChunk), 1))
}

// A connector in another language sees what it would see without our codecs.
func TestCodecsHaveNoNameOnTheWire(t *testing.T) {
	t.Parallel()
	lis := bufconn.Listen(1 << 20)
	srv := &typed{}
	s := NewServer(srv, nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///memory", append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range [][]grpc.CallOption{nil, {RecycleRows()}} {
		stream, err := connectorv1.NewConnectorClient(conn).Invoke(t.Context(), &connectorv1.InvokeRequest{}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || len(m.GetRows().GetNdjson()) != RowChunk {
			t.Fatalf("%d bytes, %v", len(m.GetRows().GetNdjson()), err)
		}
		if _, err := stream.Recv(); err == nil {
			t.Fatal("there is no end")
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	s.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if got := strings.Join(srv.kinds, " "); got != "application/grpc application/grpc" {
		t.Errorf("content types %q", got)
	}
}
