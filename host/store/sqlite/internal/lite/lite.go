// Package lite is the thin layer between the store and SQLite's C interface as the pure-Go port offers it. It exists
// because database/sql costs more than SQLite itself on this store's small statements: boxing, reflection, and an
// allocation per argument. A connection belongs to one goroutine at a time; nothing here locks.
//
// It needs no unsafe code of its own: bytes cross through views that modernc.org/libc hands out.
package lite

import (
	"fmt"
	"math"
	"sync"

	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Flags of Open.
const (
	ReadOnly  = sqlite3.SQLITE_OPEN_READONLY
	ReadWrite = sqlite3.SQLITE_OPEN_READWRITE | sqlite3.SQLITE_OPEN_CREATE
)

// Primary result codes that the store tells apart.
const (
	Busy       = sqlite3.SQLITE_BUSY
	Full       = sqlite3.SQLITE_FULL
	IOErr      = sqlite3.SQLITE_IOERR
	Corrupt    = sqlite3.SQLITE_CORRUPT
	NotADB     = sqlite3.SQLITE_NOTADB
	CantOpen   = sqlite3.SQLITE_CANTOPEN
	ReadOnlyDB = sqlite3.SQLITE_READONLY
	NoMem      = sqlite3.SQLITE_NOMEM
	Constraint = sqlite3.SQLITE_CONSTRAINT
	tooBig     = sqlite3.SQLITE_TOOBIG
	misuse     = sqlite3.SQLITE_MISUSE
)

// hints say what to do where it is the file or its disk that fails, and not a statement.
var hints = map[int]string{
	NotADB:     "name the data file, or restore it from a backup",
	Corrupt:    "the data file is damaged: stop the host, and restore the file from a backup, with its -wal if that has one",
	ReadOnlyDB: "the file and its folder must be writable, even for reading: SQLite keeps -wal and -shm files beside it",
	CantOpen:   "the file must be readable, and its folder writable: SQLite keeps -wal and -shm files beside it",
	IOErr:      "the disk does not do what it should: look at the system's log",
}

// Error is a failure that SQLite reports.
type Error struct {
	Code int    // extended result code
	Msg  string // SQLite's own words
	SQL  string // the statement, if one was at work
}

// Error implements error.
func (e *Error) Error() string {
	if hint := hints[e.Primary()]; hint != "" {
		return fmt.Sprintf("sqlite: %s (code %d): %s", e.Msg, e.Code, hint)
	}
	if e.SQL == "" {
		return fmt.Sprintf("sqlite: %s (code %d)", e.Msg, e.Code)
	}
	return fmt.Sprintf("sqlite: %s (code %d) in %.60q", e.Msg, e.Code, e.SQL)
}

// Primary is the result code without its extension.
func (e *Error) Primary() int { return e.Code & 0xff }

// Conn is one connection. It must not be used by two goroutines at once.
type Conn struct {
	tls   *libc.TLS
	db    uintptr
	out   uintptr // two words for results by pointer
	stmts map[string]*Stmt
}

// fdatasync is switched on once per process: as durable as fsync, and half the time on journaling file systems.
// Where there is no such call, SQLite goes on as before.
var fdatasync = sync.OnceFunc(func() { _, _ = sqlite.Fdatasync(true) })

// Open opens the database at path.
func Open(path string, flags int32) (*Conn, error) {
	fdatasync()
	c := &Conn{tls: libc.NewTLS(), stmts: map[string]*Stmt{}}
	name, err := libc.CString(path)
	if err != nil {
		c.tls.Close()
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	defer libc.Xfree(c.tls, name)
	c.out = sqlite3.Xsqlite3_malloc(c.tls, 16)
	if c.out == 0 {
		c.tls.Close()
		return nil, &Error{Code: NoMem, Msg: "out of memory"}
	}
	clear(libc.GoBytes(c.out, 16))
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, c.out, flags|sqlite3.SQLITE_OPEN_NOMUTEX|sqlite3.SQLITE_OPEN_EXRESCODE, 0)
	c.db = libc.AtomicLoadPUintptr(c.out)
	if rc != sqlite3.SQLITE_OK {
		err := c.error(rc, "")
		_ = c.release()
		return nil, err
	}
	return c, nil
}

// Close finalizes all statements and closes the connection.
func (c *Conn) Close() error {
	for _, s := range c.stmts {
		s.finalize()
	}
	clear(c.stmts)
	return c.release()
}

func (c *Conn) release() (err error) {
	if c.db != 0 {
		if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
			err = c.error(rc, "")
		}
		c.db = 0
	}
	if c.out != 0 {
		sqlite3.Xsqlite3_free(c.tls, c.out)
		c.out = 0
	}
	c.tls.Close()
	return err
}

// error makes an error of a result code.
func (c *Conn) error(rc int32, sql string) error {
	e := &Error{Code: int(rc), SQL: sql}
	if c.db != 0 && rc != misuse {
		e.Msg = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
		if x := sqlite3.Xsqlite3_extended_errcode(c.tls, c.db); x&0xff == rc&0xff {
			e.Code = int(x)
		}
	} else {
		e.Msg = libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	}
	return e
}

// Exec runs statements without arguments and without results; several are separated by semicolons.
func (c *Conn) Exec(sql string) error {
	p, err := libc.CString(sql)
	if err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	defer libc.Xfree(c.tls, p)
	if rc := sqlite3.Xsqlite3_exec(c.tls, c.db, p, 0, 0, 0); rc != sqlite3.SQLITE_OK {
		return c.error(rc, sql)
	}
	return nil
}

// Stmt returns the prepared statement for sql, which the connection keeps. The text must be one statement.
func (c *Conn) Stmt(sql string) (*Stmt, error) {
	if s := c.stmts[sql]; s != nil {
		return s, nil
	}
	p, err := libc.CString(sql)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	defer libc.Xfree(c.tls, p)
	rc := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, p, -1, sqlite3.SQLITE_PREPARE_PERSISTENT, c.out, 0)
	if rc != sqlite3.SQLITE_OK {
		return nil, c.error(rc, sql)
	}
	s := &Stmt{c: c, sql: sql, p: libc.AtomicLoadPUintptr(c.out)}
	s.params = sqlite3.Xsqlite3_bind_parameter_count(c.tls, s.p)
	c.stmts[sql] = s
	return s, nil
}

// Int runs a query without arguments and returns the integer in its first row and column.
func (c *Conn) Int(sql string) (int64, error) {
	s, err := c.Stmt(sql)
	if err != nil {
		return 0, err
	}
	defer s.Reset()
	ok, err := s.Next()
	if err != nil || !ok {
		return 0, err
	}
	return s.ColInt(0), nil
}

// BusyTimeout makes locks wait for so many milliseconds.
func (c *Conn) BusyTimeout(ms int32) { sqlite3.Xsqlite3_busy_timeout(c.tls, c.db, ms) }

// Changes returns the number of rows that the last statement changed.
func (c *Conn) Changes() int { return int(sqlite3.Xsqlite3_changes(c.tls, c.db)) }

// InTx says whether a transaction is open. SQLite itself rolls back after some errors.
func (c *Conn) InTx() bool { return sqlite3.Xsqlite3_get_autocommit(c.tls, c.db) == 0 }

// PagesWritten returns how many pages were written since it was called last.
func (c *Conn) PagesWritten() int {
	sqlite3.Xsqlite3_db_status(c.tls, c.db, sqlite3.SQLITE_DBSTATUS_CACHE_WRITE, c.out, c.out+8, 1)
	return int(libc.AtomicLoadPInt32(c.out))
}

// Checkpoint copies the log into the database as far as readers allow; with truncate it waits for them and empties it.
func (c *Conn) Checkpoint(truncate bool) error {
	mode := int32(sqlite3.SQLITE_CHECKPOINT_PASSIVE)
	if truncate {
		mode = sqlite3.SQLITE_CHECKPOINT_TRUNCATE
	}
	rc := sqlite3.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, mode, 0, 0)
	if rc != sqlite3.SQLITE_OK && rc&0xff != sqlite3.SQLITE_BUSY {
		return c.error(rc, "")
	}
	return nil
}

// length checks that n fits SQLite's 32-bit sizes.
func length(n int) (int32, bool) { return int32(min(n, math.MaxInt32)), n < math.MaxInt32-1 }

// Interrupt makes the statement at work fail soon. It is the one method that another goroutine may call, as long as the
// connection is not closed meanwhile.
func (c *Conn) Interrupt() { sqlite3.Xsqlite3_interrupt(c.tls, c.db) }
