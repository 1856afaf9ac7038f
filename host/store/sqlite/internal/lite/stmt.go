package lite

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// keepBuffer is the largest bind buffer that an idle statement keeps.
const keepBuffer = 1 << 20

// Stmt is a prepared statement. Bind its arguments in order (Int, Text, Blob, Null…), then call Exec, or Next until it
// returns false; Reset ends a query early. The first error of a chain of binds is kept and reported by Exec or Next.
type Stmt struct {
	c      *Conn
	p      uintptr
	sql    string
	params int32
	n      int32 // arguments bound so far
	rc     int32 // first error of a bind

	// Text and blobs are copied into memory that SQLite reads in place. It is one buffer that is used again; what does
	// not fit makes a larger one, and the older ones live until Reset, since bound arguments point into them.
	buf       uintptr
	view      []byte
	used      int
	outgrown  []uintptr
	executing bool
}

// Int binds an integer.
func (s *Stmt) Int(v int64) *Stmt {
	s.n++
	s.note(sqlite3.Xsqlite3_bind_int64(s.c.tls, s.p, s.n, v))
	return s
}

// Bool binds 1 or 0.
func (s *Stmt) Bool(v bool) *Stmt {
	if v {
		return s.Int(1)
	}
	return s.Int(0)
}

// Null binds NULL.
func (s *Stmt) Null() *Stmt {
	s.n++
	s.note(sqlite3.Xsqlite3_bind_null(s.c.tls, s.p, s.n))
	return s
}

// Text binds a string.
func (s *Stmt) Text(v string) *Stmt {
	s.n++
	n, ok := length(len(v))
	p := s.room(len(v))
	if !ok || p == 0 {
		s.note(tooBig)
		return s
	}
	copy(s.view[s.used:], v)
	s.used += len(v)
	s.note(sqlite3.Xsqlite3_bind_text(s.c.tls, s.p, s.n, p, n, sqlite3.SQLITE_STATIC))
	return s
}

// TextOrNull binds a string, an empty one as NULL.
func (s *Stmt) TextOrNull(v string) *Stmt {
	if v == "" {
		return s.Null()
	}
	return s.Text(v)
}

// Blob binds bytes; nil is NULL, which an empty slice is not.
func (s *Stmt) Blob(v []byte) *Stmt {
	if v == nil {
		return s.Null()
	}
	s.n++
	n, ok := length(len(v))
	p := s.room(len(v))
	if !ok || p == 0 {
		s.note(tooBig)
		return s
	}
	copy(s.view[s.used:], v)
	s.used += len(v)
	s.note(sqlite3.Xsqlite3_bind_blob(s.c.tls, s.p, s.n, p, n, sqlite3.SQLITE_STATIC))
	return s
}

// room returns the address of n free bytes, 0 if there is no memory. It is never 0 for n = 0, since a null pointer would
// bind NULL.
func (s *Stmt) room(n int) uintptr {
	if len(s.view)-s.used < n+1 {
		size, ok := length(max(2*len(s.view), 2*(n+1), 512))
		if !ok {
			return 0
		}
		p := sqlite3.Xsqlite3_malloc(s.c.tls, size)
		if p == 0 {
			return 0
		}
		if s.buf != 0 {
			s.outgrown = append(s.outgrown, s.buf)
		}
		s.buf, s.view, s.used = p, libc.GoBytes(p, int(size)), 0
	}
	return s.buf + uintptr(s.used)
}

func (s *Stmt) note(rc int32) {
	if rc != sqlite3.SQLITE_OK && s.rc == sqlite3.SQLITE_OK {
		s.rc = rc
	}
}

// Next steps to the next row and says whether there is one. After the last row, or an error, the statement is reset.
func (s *Stmt) Next() (bool, error) {
	if !s.executing {
		if s.rc == sqlite3.SQLITE_OK && s.n != s.params {
			s.rc = misuse // a forgotten argument would silently be the one of the call before
		}
		if s.rc != sqlite3.SQLITE_OK {
			err := s.c.error(s.rc, s.sql)
			s.Reset()
			return false, err
		}
		s.executing = true
	}
	switch rc := sqlite3.Xsqlite3_step(s.c.tls, s.p); rc {
	case sqlite3.SQLITE_ROW:
		return true, nil
	case sqlite3.SQLITE_DONE:
		s.Reset()
		return false, nil
	default:
		err := s.c.error(rc, s.sql)
		s.Reset()
		return false, err
	}
}

// Exec runs the statement to its end and drops its rows.
func (s *Stmt) Exec() error {
	for {
		ok, err := s.Next()
		if err != nil || !ok {
			return err
		}
	}
}

// Reset makes the statement ready for new arguments.
func (s *Stmt) Reset() {
	if s.executing {
		sqlite3.Xsqlite3_reset(s.c.tls, s.p) // repeats the error of the last step, which has been reported
	}
	s.executing, s.n, s.rc, s.used = false, 0, sqlite3.SQLITE_OK, 0
	for _, p := range s.outgrown {
		sqlite3.Xsqlite3_free(s.c.tls, p)
	}
	s.outgrown = s.outgrown[:0]
	if len(s.view) > keepBuffer {
		sqlite3.Xsqlite3_free(s.c.tls, s.buf)
		s.buf, s.view = 0, nil
	}
}

func (s *Stmt) finalize() {
	s.Reset()
	sqlite3.Xsqlite3_finalize(s.c.tls, s.p)
	if s.buf != 0 {
		sqlite3.Xsqlite3_free(s.c.tls, s.buf)
		s.buf, s.view = 0, nil
	}
}

// ColInt returns column i of the current row; NULL is 0.
func (s *Stmt) ColInt(i int) int64 { return sqlite3.Xsqlite3_column_int64(s.c.tls, s.p, int32(i)) }

// ColNull says whether column i is NULL.
func (s *Stmt) ColNull(i int) bool { return s.colType(i) == sqlite3.SQLITE_NULL }

// ColIsInt says whether column i holds an integer.
func (s *Stmt) ColIsInt(i int) bool { return s.colType(i) == sqlite3.SQLITE_INTEGER }

func (s *Stmt) colType(i int) int32 {
	return sqlite3.Xsqlite3_column_type(s.c.tls, s.p, int32(i))
}

// ColText returns a copy of column i; NULL is "".
func (s *Stmt) ColText(i int) string {
	p := sqlite3.Xsqlite3_column_text(s.c.tls, s.p, int32(i))
	if p == 0 {
		return ""
	}
	return string(libc.GoBytes(p, s.size(i)))
}

// ColBlob returns a copy of column i, nil if it is NULL and only then.
func (s *Stmt) ColBlob(i int) []byte {
	if s.ColNull(i) {
		return nil
	}
	p := sqlite3.Xsqlite3_column_blob(s.c.tls, s.p, int32(i))
	if p == 0 {
		return []byte{}
	}
	n := s.size(i)
	b := make([]byte, n)
	copy(b, libc.GoBytes(p, n))
	return b
}

func (s *Stmt) size(i int) int {
	return int(sqlite3.Xsqlite3_column_bytes(s.c.tls, s.p, int32(i)))
}
