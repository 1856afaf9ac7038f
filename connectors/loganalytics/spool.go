package loganalytics

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
)

// spoolMemory is how many bytes of rows are kept in memory before a file is made.
const spoolMemory = 4 << 20

// spool keeps rows until it is known whether they count: the service tells at the end of an answer that it was cut. What
// does not fit into memory goes into a file that has no name any more.
type spool struct {
	mem  bytes.Buffer
	file *os.File
	w    *bufio.Writer
	rows int
}

// add keeps a row, which has no line feed in it.
func (s *spool) add(row rawRow) error {
	s.rows++
	if s.file == nil && s.mem.Len()+len(row) > spoolMemory {
		f, err := os.CreateTemp("", "rows-")
		if err != nil {
			return err
		}
		_ = os.Remove(f.Name()) // where that is not possible, it goes with the directory of this process
		s.file, s.w = f, bufio.NewWriterSize(f, 256<<10)
		if _, err := s.mem.WriteTo(s.w); err != nil {
			return err
		}
		s.mem = bytes.Buffer{}
	}
	if s.file != nil {
		_, err := s.w.Write(row)
		return errors.Join(err, s.w.WriteByte('\n'))
	}
	s.mem.Write(row)
	s.mem.WriteByte('\n')
	return nil
}

// each gives the rows in the order in which they came.
func (s *spool) each(emit func(rawRow) error) error {
	var r *bufio.Reader
	if s.file != nil {
		if err := s.w.Flush(); err != nil {
			return err
		}
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		r = bufio.NewReaderSize(s.file, 256<<10)
	} else {
		for line := range bytes.Lines(s.mem.Bytes()) {
			if err := emit(line[:len(line)-1]); err != nil {
				return err
			}
		}
		return nil
	}
	var long []byte
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if err := emit(line[:len(line)-1]); err != nil {
			return err
		}
		long = long[:0]
	}
}

// close forgets the rows.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // it is not needed any more
	}
	*s = spool{}
}
