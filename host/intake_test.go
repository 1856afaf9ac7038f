package host

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLookUpsGiveWay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		acks  int64
		drop  time.Duration // when the webhooks are done
		least time.Duration
		most  time.Duration
	}{
		"nothing goes on": {acks: 0, drop: time.Hour, most: 0},
		"a few webhooks":  {acks: ackBusy - 1, drop: time.Hour, most: 0},
		"a storm":         {acks: 64, drop: time.Hour, least: ackYield, most: ackYield + ackPoll},
		"a short storm":   {acks: 64, drop: 20 * time.Millisecond, least: 20 * time.Millisecond, most: 20*time.Millisecond + ackPoll},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &Host{}
				h.acks.Store(c.acks)
				end := time.AfterFunc(c.drop, func() { h.acks.Store(0) })
				defer end.Stop()
				begin := time.Now()
				(&intake{host: h}).giveWay(t.Context())
				if took := time.Since(begin); took < c.least || took > c.most {
					t.Errorf("gave way for %v; want %v to %v", took, c.least, c.most)
				}
			})
		})
	}
}
