package sdk

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/wirejson"
)

// progressPace is the least time between two progress messages; the last one (done equals total) always goes.
const progressPace = 100 * time.Millisecond

// rowWriter sends what an action streams. Rows gather until there is a chunk of them or until the oldest has waited long
// enough. It is safe for concurrent use; after close nothing is sent.
type rowWriter struct {
	stream            grpc.ServerStreamingServer[connectorv1.InvokeResponse]
	a                 *actionSpec
	maxRows, maxBytes uint64

	files sync.Mutex // one file at a time

	mu     sync.Mutex
	buf    bytes.Buffer
	count  uint32 // rows in buf
	rows   uint64 // rows in all
	bytes  uint64
	timer  *time.Timer
	told   time.Time // last progress
	err    error     // the first failure; it ends the action
	closed bool
}

// row takes one row. Its error ends the action, whatever the author does with it.
func (w *rowWriter) row(v any) error {
	if raw, ok := v.(json.RawMessage); ok {
		return w.raw(raw)
	}
	return w.take(nil, v)
}

// raw takes one row that the author has written as JSON, which is by far the most of what goes out. One that is a single
// line of JSON, looked at or vouched for, goes as it is; the others are written anew, or refused.
func (w *rowWriter) raw(b json.RawMessage) error {
	if len(b) > 0 && bytes.IndexByte(b, '\n') < 0 && (w.a.vouched || wirejson.Valid(b)) {
		return w.take(b, nil)
	}
	return w.take(nil, b)
}

// take takes a row: line as it is, or v if that is nil.
func (w *rowWriter) take(line []byte, v any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return bug("%s: a row was emitted after the action had returned", w.a.name)
	}
	w.err = w.add(line, v)
	return w.err
}

func (w *rowWriter) add(line []byte, v any) error {
	if err := w.stream.Context().Err(); err != nil {
		return err
	}
	if w.maxRows > 0 && w.rows == w.maxRows {
		return w.a.midway(tooLarge("%s: there are more than %d rows, the most that the caller takes; narrow the query or raise the limit", w.a.name, w.maxRows))
	}
	before := w.buf.Len()
	if line != nil {
		w.buf.Write(line)
	} else if err := writeJSON(&w.buf, v); err != nil {
		w.buf.Truncate(before)
		return w.a.midway(bug("%s: row %d cannot be written as JSON: %v", w.a.name, w.rows+1, err))
	}
	w.buf.WriteByte('\n')
	size := w.buf.Len() - before
	if size > plugin.MaxEvent {
		w.buf.Truncate(before)
		return w.a.midway(tooLarge("%s: row %d has %d bytes, more than the limit of %d; leave out columns", w.a.name, w.rows+1, size, plugin.MaxEvent))
	}
	if w.maxBytes > 0 && w.bytes+uint64(size) > w.maxBytes {
		w.buf.Truncate(before)
		return w.a.midway(tooLarge("%s: the rows have more than %d bytes, the most that the caller takes; narrow the query or raise the limit", w.a.name, w.maxBytes))
	}
	w.rows++
	w.bytes += uint64(size)
	w.count++
	if w.buf.Len() >= plugin.RowChunk {
		return w.flush()
	}
	if w.count == 1 {
		if w.timer == nil {
			w.timer = time.AfterFunc(plugin.RowFlush, w.late)
		} else {
			w.timer.Reset(plugin.RowFlush)
		}
	}
	return nil
}

// late flushes a chunk that has waited long enough.
func (w *rowWriter) late() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.err == nil {
		w.err = w.flush()
	}
}

// flush sends what has gathered. Send blocks while the host is busy, and with it whoever emits.
func (w *rowWriter) flush() error {
	if w.count == 0 {
		return nil
	}
	w.timer.Stop()
	err := w.stream.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Rows{
		Rows: &connectorv1.Rows{Ndjson: w.buf.Bytes(), Count: w.count},
	}})
	w.buf.Reset() // Send has copied it
	w.count = 0
	return err
}

// finish sends the last rows and returns the first failure. What was sent so far has been delivered, error or not.
func (w *rowWriter) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.flush(); w.err == nil {
		w.err = err
	}
	w.closed = true
	return w.err
}

// close ends the writer on every path, a panic included.
func (w *rowWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *rowWriter) progress(p *connectorv1.Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	last := p.GetTotal() > 0 && p.GetDone() >= p.GetTotal()
	if w.closed || w.err != nil || !last && now.Sub(w.told) < progressPace {
		return
	}
	w.told = now
	w.err = w.stream.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Progress{Progress: p}})
}
