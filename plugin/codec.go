package plugin

import (
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto" // registers what is looked up below
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// largeMessage is from where on gRPC's own codec takes buffers of 1 MiB for every message and clears each: for rows and
// events, which come in hundreds of KiB, that costs as much as to look at them.
const largeMessage = 32 << 10

// codec is the protobuf codec of gRPC, with buffers of its own for large messages. It has no name, so that the wire is as
// it is without.
type codec struct{ plain encoding.CodecV2 }

var wireCodec = codec{plain: encoding.GetCodecV2(protocodec.Name)}

func (codec) Name() string { return "" }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return c.plain.Marshal(v)
	}
	n := proto.Size(m)
	if n <= largeMessage {
		return c.plain.Marshal(v)
	}
	b := buffers.Get(n)
	out, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*b)[:0], m)
	if err != nil {
		buffers.Put(b)
		return nil, err
	}
	*b = out
	return mem.BufferSlice{mem.NewBuffer(b, &buffers)}, nil
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	n := data.Len()
	if !ok || n <= largeMessage {
		return c.plain.Unmarshal(data, v)
	}
	b := buffers.Get(n)
	defer buffers.Put(b)
	data.CopyTo(*b)
	return proto.Unmarshal(*b, m)
}

// buffers holds what large messages are written to and read from.
var buffers bufferPool

// bufferPool keeps buffers that fit a chunk of rows. What is in them when they are handed out is what was in them before.
type bufferPool struct{ pool sync.Pool }

const (
	usualBuffer   = RowChunk + 64<<10
	largestPooled = 1 << 20
)

func (p *bufferPool) Get(n int) *[]byte {
	if n <= largestPooled {
		if b, ok := p.pool.Get().(*[]byte); ok {
			if cap(*b) >= n {
				*b = (*b)[:n]
				return b
			}
			p.pool.Put(b)
		}
	}
	b := make([]byte, n, max(n, usualBuffer))
	return &b
}

func (p *bufferPool) Put(b *[]byte) {
	if c := cap(*b); c >= usualBuffer && c <= largestPooled {
		p.pool.Put(b)
	}
}

// RecycleRows is for a call whose InvokeResponses are done with before the next is received: the rows of each lie in memory
// that the next overwrites. It must not be used for two calls.
func RecycleRows() grpc.CallOption { return grpc.ForceCodecV2(&rowCodec{}) }

type rowCodec struct{ buf []byte }

func (*rowCodec) Name() string { return "" }

func (*rowCodec) Marshal(v any) (mem.BufferSlice, error) { return wireCodec.Marshal(v) }

func (c *rowCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*connectorv1.InvokeResponse)
	n := data.Len()
	if !ok || n <= largeMessage {
		return wireCodec.Unmarshal(data, v)
	}
	if cap(c.buf) < n {
		c.buf = make([]byte, max(n, usualBuffer))
	}
	b := c.buf[:n]
	data.CopyTo(b)
	if rows := rowsIn(b); rows != nil {
		m.Reset()
		m.Kind = &connectorv1.InvokeResponse_Rows{Rows: rows}
		return nil
	}
	return proto.Unmarshal(b, m)
}

// Numbers of the fields that rowsIn knows.
const (
	fieldRows   protowire.Number = 2 // of InvokeResponse
	fieldNdjson protowire.Number = 1 // of Rows
	fieldCount  protowire.Number = 2 // of Rows
)

// rowsIn reads a message that is rows and nothing else, written as everybody writes it. For any other it returns nil.
func rowsIn(b []byte) *connectorv1.Rows {
	b, rest, ok := member(b, fieldRows)
	if !ok || len(rest) > 0 {
		return nil
	}
	ndjson, rest, ok := member(b, fieldNdjson)
	if !ok {
		return nil
	}
	num, typ, n := protowire.ConsumeTag(rest)
	if n < 0 || num != fieldCount || typ != protowire.VarintType {
		return nil
	}
	count, m := protowire.ConsumeVarint(rest[n:])
	if m < 0 || n+m != len(rest) {
		return nil
	}
	return &connectorv1.Rows{Ndjson: ndjson, Count: uint32(count)}
}

// member reads a field of bytes at the front of b.
func member(b []byte, want protowire.Number) (value, rest []byte, ok bool) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num != want || typ != protowire.BytesType {
		return nil, nil, false
	}
	value, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return nil, nil, false
	}
	return slices.Clip(value), b[n+m:], true
}
