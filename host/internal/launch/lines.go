package launch

import "bytes"

// maxLine is where a line of a connector is cut.
const maxLine = 256 << 10

// lineWriter cuts what is written to it into lines and hands each to emit, without its end, and with the number of bytes
// that did not fit. The slice is valid during the call only. It never fails, so that what feeds it never stops reading.
type lineWriter struct {
	max  int
	emit func(line []byte, cut int)

	buf  []byte
	over int // bytes of the current line that were thrown away
}

func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.keep(p)
			break
		}
		if len(w.buf) == 0 && w.over == 0 && i <= w.max {
			w.emit(trimCR(p[:i]), 0) // the usual case: a whole line, not copied
		} else {
			w.keep(p[:i])
			w.flush()
		}
		p = p[i+1:]
	}
	return n, nil
}

// keep adds to the current line what still fits.
func (w *lineWriter) keep(p []byte) {
	room := w.max - len(w.buf)
	if len(p) > room {
		w.over += len(p) - room
		p = p[:room]
	}
	w.buf = append(w.buf, p...)
}

// flush ends the current line.
func (w *lineWriter) flush() {
	w.emit(trimCR(w.buf), w.over)
	w.over = 0
	if cap(w.buf) > 64<<10 {
		w.buf = nil // one long line is no reason to hold the memory
	} else {
		w.buf = w.buf[:0]
	}
}

// end emits an unfinished last line.
func (w *lineWriter) end() {
	if len(w.buf) > 0 || w.over > 0 {
		w.flush()
	}
}

func trimCR(b []byte) []byte { return bytes.TrimSuffix(b, []byte("\r")) }
