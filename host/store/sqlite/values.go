package sqlite

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// inlineLimit is the longest payload that stays in its row.
const inlineLimit = 256 << 10

// payload is what is stored in its row, or once by reference when it is long. It is made outside the writer, since the
// hash takes time.
type payload struct {
	data []byte
	hash []byte // nil: stays in its row
}

func newPayload(b []byte) payload {
	if len(b) <= inlineLimit {
		return payload{data: b}
	}
	h := sha256.Sum256(b)
	return payload{data: b, hash: h[:]}
}

// ref is a payload that has been stored as far as it needs to be: nil, bytes or the id of a blob.
type ref struct {
	data []byte
	id   int64
}

func (r ref) bind(st *lite.Stmt) *lite.Stmt {
	if r.id != 0 {
		return st.Int(r.id)
	}
	return st.Blob(r.data)
}

// keep stores a long payload, unless it is there already.
func (t *tx) keep(p payload) (ref, error) {
	if p.hash == nil {
		return ref{data: p.data}, nil
	}
	st := t.stmt("SELECT id FROM blob WHERE hash = ?").Blob(p.hash)
	ok, err := st.Next()
	if err != nil {
		return ref{}, err
	}
	if ok {
		id := st.ColInt(0)
		st.Reset()
		return ref{id: id}, nil
	}
	st = t.stmt("INSERT INTO blob (hash, data) VALUES (?, ?) RETURNING id").Blob(p.hash).Blob(p.data)
	t.writes++
	if ok, err = st.Next(); err != nil || !ok {
		return ref{}, fmt.Errorf("store a blob: %w", err)
	}
	id := st.ColInt(0)
	return ref{id: id}, st.Exec()
}

// colPayload returns a payload column, and fetches it if it is a reference.
func colPayload(c *lite.Conn, st *lite.Stmt, i int) ([]byte, error) {
	if !st.ColIsInt(i) {
		return st.ColBlob(i), nil
	}
	id := st.ColInt(i)
	b, err := c.Stmt("SELECT data FROM blob WHERE id = ?")
	if err != nil {
		return nil, err
	}
	defer b.Reset()
	ok, err := b.Int(id).Next()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("store: blob %d is missing: the file is damaged", id)
	}
	return b.ColBlob(0), nil
}

// micros is a time as it is stored; never for the zero time on disk, which is NULL, but in memory that is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// bindTime binds a time in microseconds, the zero time as NULL.
func bindTime(st *lite.Stmt, t time.Time) *lite.Stmt { return bindMicros(st, micros(t)) }

func bindMicros(st *lite.Stmt, n int64) *lite.Stmt {
	if n == 0 {
		return st.Null()
	}
	return st.Int(n)
}

func colTime(st *lite.Stmt, i int) time.Time { return fromMicros(st.ColInt(i)) }

var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// newID makes a unique id that sorts by time: 48 bits of milliseconds and 82 random ones.
func newID(prefix string, now time.Time) string {
	var b [18]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails
	return prefix + idEncoding.EncodeToString(b[:])[:26]
}

func notFound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", store.ErrNotFound, fmt.Sprintf(format, args...))
}
