package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// ErrReadOnly is what every change of a store opened by OpenReadOnly fails with.
var ErrReadOnly = errors.New("store: opened for reading only")

// OpenReadOnly opens the file at path to look at it, whether or not a host works on it. It sees what is on disk: a run
// that a host has in hand shows as ready or waiting.
func OpenReadOnly(ctx context.Context, path string) (_ *Store, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if path, err = realPath(path); err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &Store{path: path, log: slog.New(slog.DiscardHandler), readOnly: true, space: space{dir: filepath.Dir(path), free: freeSpace}, runs: newRunIndex(0), hints: newHintIndex()}
	s.r = newReaders(path, 1)
	err = s.r.read(ctx, "open", func(c *lite.Conn) error { return checkVersion(c, path) })
	if err != nil {
		return nil, errors.Join(err, s.r.close())
	}
	return s, nil
}

// stats counts what a host would know by heart.
func (s *Store) stats(ctx context.Context) (out store.Stats, err error) {
	err = s.r.read(ctx, "stats", func(c *lite.Conn) error {
		counts, err := loadCounts(c)
		if err != nil {
			return err
		}
		st, err := c.Stmt("SELECT state, count(*) FROM run WHERE state IN ('ready', 'waiting') GROUP BY state")
		if err != nil {
			return err
		}
		defer st.Reset()
		live := map[store.RunState]int{}
		for {
			ok, err := st.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			live[store.RunState(st.ColText(0))] = int(st.ColInt(1))
		}
		hints, err := c.Int("SELECT count(*) FROM hint")
		if err != nil {
			return err
		}
		out = makeStats(counts, live, int(hints))
		return nil
	})
	return out, err
}

// listLiveOnDisk lists runs in a live state as the disk has them.
func listLiveOnDisk(c *lite.Conn, f store.RunFilter, out *[]store.Run) error {
	st, err := c.Stmt(selectRun + "WHERE r.state = ? AND r.state IN ('ready', 'waiting') ORDER BY r.seq DESC LIMIT ?")
	if err != nil {
		return err
	}
	defer st.Reset()
	st.Text(string(f.State)).Int(int64(cmp.Or(f.Limit, -1)))
	for {
		ok, err := st.Next()
		if err != nil || !ok {
			return err
		}
		r, err := scanRun(c, st)
		if err != nil {
			return err
		}
		if (f.Flow == "" || r.Flow == f.Flow) && (f.EventID == "" || r.EventID == f.EventID) && (f.OrderKey == "" || r.OrderKey == f.OrderKey) {
			*out = append(*out, r)
		}
	}
}
