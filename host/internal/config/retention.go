package config

import "time"

// What is kept for less than a day is gone before anybody has looked; a store of less is not worth a limit.
const (
	minRetention = 24 * time.Hour
	maxRetention = 20 * 365 * 24 * time.Hour
	minStoreSize = 64 << 20
	maxStoreSize = 1 << 50
)

func (r *reader) retention() {
	n := r.section("retention", []string{"events", "runs", "dead_letters", "max_size"}, nil)
	if n == nil {
		return
	}
	to := &r.file.Retention
	for _, f := range []struct {
		key string
		to  *time.Duration
	}{{"events", &to.Events}, {"runs", &to.Runs}, {"dead_letters", &to.DeadLetters}} {
		if v := n.Get(f.key); v != nil {
			*f.to, _ = r.duration(v, "retention."+f.key, minRetention, maxRetention)
		}
	}
	if v := n.Get("max_size"); v != nil {
		switch b, err := size(v.Text); {
		case err != nil:
			r.out.Errorf(v.Pos, "retention.max_size", "write 10GiB", "%v", err)
		case b < minStoreSize || b > maxStoreSize:
			r.out.Errorf(v.Pos, "retention.max_size", "", "must be from 64MiB to 1024TiB, not %s", v.Text)
		default:
			to.MaxSize = b
		}
	}
}
