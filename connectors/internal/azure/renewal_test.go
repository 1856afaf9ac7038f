package azure

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/casewire/casewire/sdk"
)

// slow is a source that answers after a while.
type slow struct {
	takes time.Duration
	life  time.Duration
	fail  atomic.Bool
	asked atomic.Int64
}

func (s *slow) token(ctx context.Context, w want) (*issued, error) {
	n := s.asked.Add(1)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.fail.Load() {
		return nil, sdk.Unavailable("down")
	}
	now := time.Now()
	return &issued{value: w.scope + string(rune('a'+n)), expires: now.Add(s.life), renewAt: renewal(now, now.Add(s.life))}, nil
}

func renewing(s *slow) *Tokens { return &Tokens{source: s, byScope: map[string]*issued{}} }

// pass lets time go by, in a bubble.
func pass(d time.Duration) { <-time.After(d) }

func mustToken(t *testing.T, tok *Tokens) string {
	t.Helper()
	v, err := tok.Token(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	return v.Reveal()
}

// A token is renewed at half its life, by one request, however many ask.
func TestRenewedAtHalfLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: 100 * time.Millisecond, life: time.Hour}
		tok := renewing(s)
		first := mustToken(t, tok)
		pass(29 * time.Minute)
		if mustToken(t, tok) != first || s.asked.Load() != 1 {
			t.Error("renewed before half its life")
		}
		pass(2 * time.Minute)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if mustToken(t, tok) == first {
					t.Error("the old token, though the authority answers at once")
				}
			})
		}
		wg.Wait()
		if s.asked.Load() != 2 {
			t.Errorf("%d requests for 100 callers", s.asked.Load()-1)
		}
	})
}

// While the authority hangs or is down, the old token is used to its end: nobody waits more than a moment, and the
// authority is not hammered.
func TestOldTokenWhileTheAuthorityIsDown(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := &slow{life: time.Hour}
			tok := renewing(s)
			first := mustToken(t, tok)
			s.fail.Store(true)
			if hangs {
				s.takes = 40 * time.Second
			}
			pass(31 * time.Minute)
			begin, waited := time.Now(), time.Duration(0)
			for time.Since(begin) < 28*time.Minute {
				at := time.Now()
				if mustToken(t, tok) != first {
					t.Fatal("another token")
				}
				waited = max(waited, time.Since(at))
				pass(time.Second)
			}
			if waited > patience {
				t.Errorf("hangs %v: a caller waited %v for a token that was good", hangs, waited)
			}
			if n := s.asked.Load(); n > 60 {
				t.Errorf("hangs %v: asked %d times in 28 minutes", hangs, n)
			}
			pass(2 * time.Minute) // it has ended
			if _, err := tok.Token(t.Context(), "s"); err == nil {
				t.Error("an expired token was handed out")
			}
			s.fail.Store(false)
			s.takes = 0
			synctest.Wait()
			pass(time.Minute)
			if mustToken(t, tok) == first {
				t.Error("no new token after the authority is back")
			}
		})
	}
}

// A caller that gives up while a good token is renewed is told that it gave up, and nothing else.
func TestGivingUpWhileRenewing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slow{life: time.Hour}
		tok := renewing(s)
		mustToken(t, tok)
		s.takes = 30 * time.Second
		pass(40 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tok.Token(ctx, "s"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		pass(time.Minute) // the request goes on without its caller
	})
}
