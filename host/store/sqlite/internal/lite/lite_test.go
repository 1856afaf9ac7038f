package lite

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T) *Conn {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "x.db"), ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, s TEXT, b BLOB)"); err != nil {
		t.Fatal(err)
	}
	return c
}

func stmt(t *testing.T, c *Conn, sql string) *Stmt {
	t.Helper()
	s, err := c.Stmt(sql)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestValues writes values that outgrow the bind buffer in every order, and reads them back.
func TestValues(t *testing.T) {
	t.Parallel()
	c := open(t)
	big := strings.Repeat("0123456789", 300_000)
	rows := []struct {
		i int64
		s string
		b []byte
	}{
		{0, "", nil},
		{math.MaxInt64, "nul\x00inside", []byte{}},
		{math.MinInt64, "not utf-8: \xff\xfe", []byte{0, 1, 2}},
		{-1, big, []byte("x")},
		{1, "x", []byte(big)},
		{2, strings.Repeat("s", 511), bytes.Repeat([]byte{7}, 513)},
		{3, "small again", nil},
	}
	for n, r := range rows {
		if err := stmt(t, c, "INSERT INTO t VALUES (?, ?, ?, ?)").Int(int64(n)).Int(r.i).Text(r.s).Blob(r.b).Exec(); err != nil {
			t.Fatal(err)
		}
		if c.Changes() != 1 {
			t.Fatalf("%d changes", c.Changes())
		}
	}
	st := stmt(t, c, "SELECT i, s, b FROM t ORDER BY id")
	for n, r := range rows {
		ok, err := st.Next()
		if err != nil || !ok {
			t.Fatal(n, ok, err)
		}
		b := st.ColBlob(2)
		if st.ColInt(0) != r.i || st.ColText(1) != r.s || !bytes.Equal(b, r.b) || (b == nil) != (r.b == nil) || st.ColNull(2) != (r.b == nil) || !st.ColIsInt(0) {
			t.Errorf("row %d changed", n)
		}
	}
	if ok, err := st.Next(); ok || err != nil {
		t.Fatal(ok, err)
	}
	if st.buf != 0 && len(st.view) > keepBuffer {
		t.Errorf("an idle statement keeps %d bytes", len(st.view))
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	c := open(t)
	var e *Error
	if _, err := c.Stmt("SELEKT 1"); !errors.As(err, &e) || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("bad SQL: %v", err)
	}
	insert := "INSERT INTO t (id, s) VALUES (?, ?)"
	if err := stmt(t, c, insert).Int(1).Text("a").Exec(); err != nil {
		t.Fatal(err)
	}
	if err := stmt(t, c, insert).Int(2).Exec(); !errors.As(err, &e) {
		t.Errorf("a missing argument: %v", err)
	}
	if err := stmt(t, c, insert).Int(2).Text("b").Null().Exec(); !errors.As(err, &e) {
		t.Errorf("an argument too many: %v", err)
	}
	if err := stmt(t, c, insert).Int(1).Text("b").Exec(); !errors.As(err, &e) || e.Primary() != Constraint || !strings.Contains(err.Error(), "UNIQUE") {
		t.Errorf("a taken key: %v", err)
	}
	if err := stmt(t, c, insert).Int(2).TextOrNull("").Exec(); err != nil {
		t.Errorf("the statement after its mistakes: %v", err)
	}
	n, err := c.Int("SELECT count(*) FROM t WHERE s IS NULL OR s = 'a'")
	if err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none", "x.db"), ReadWrite); !errors.As(err, &e) || e.Primary() != CantOpen {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	c := open(t)
	for _, sql := range []string{"BEGIN", "INSERT INTO t (id) VALUES (1)"} {
		if err := c.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	if !c.InTx() {
		t.Error("no transaction is open")
	}
	if err := c.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Int("SELECT count(*) FROM t"); c.InTx() || n != 0 || err != nil {
		t.Errorf("after the rollback: %v, %d rows, %v", c.InTx(), n, err)
	}
	if n, err := c.Int("SELECT id FROM t"); n != 0 || err != nil {
		t.Errorf("no row: %d, %v", n, err)
	}
}
