package host

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// How a stream that ended is opened again.
const (
	streamPause = time.Second
	// streamSettled is how long a stream must have lived for its end to count as the first.
	streamSettled = time.Minute
	streamPauses  = 8 // doublings of the pause, at most
)

// streamLoop keeps a trigger's stream open, and opens it again from the last durable cursor when it has ended.
func (in *intake) streamLoop(ctx context.Context) {
	for failures := 0; ; failures++ {
		if !in.holdBack(ctx, "stream ") {
			return
		}
		opened, took := time.Now(), false
		err := in.stream(ctx, func() { took = true })
		in.streaming(false)
		in.host.heard(in.key.connection, "stream "+in.key.trigger, err, opened)
		if ctx.Err() != nil {
			return
		}
		if took || time.Since(opened) >= streamSettled {
			failures = 0
		}
		wait := min(streamPause<<min(failures, streamPauses), 5*time.Minute)
		wait = time.Duration((0.75 + rand.Float64()/2) * float64(wait))
		if err != nil {
			wait = max(wait, plugin.FromError(err).RetryAfter)
			in.host.log.WarnContext(ctx, "stream ended", "connection", in.key.connection, "trigger", in.key.trigger,
				"error", err, "next", wait.Round(time.Millisecond))
		}
		in.fared(err)
		if !pause(ctx, wait, in.pollNow) {
			return
		}
	}
}

// stream runs one stream to its end. Took is called for every batch that is durable.
func (in *intake) stream(ctx context.Context, took func()) error {
	cursor, err := in.host.store.Cursor(ctx, in.key.connection, in.key.trigger)
	if err != nil {
		return err
	}
	in.streaming(true)
	on := func(ctx context.Context, b *connectorv1.Batch) error {
		req := in.ingest(store.ViaPoll, b.GetEvents(), b.GetRejected())
		if len(b.GetCursor()) > 0 {
			req.Cursor = b.GetCursor()
		}
		if err := in.commit(ctx, req); err != nil {
			return err
		}
		took()
		in.fared(nil)
		return nil
	}
	return in.host.catalog.Stream(ctx, in.key.connection, in.key.trigger, cursor, on, func(fault *plugin.Error) {
		if fault != nil {
			in.fared(fault)
			return
		}
		in.fared(nil)
	})
}

// fared notes how the trigger fares: err is nil whenever it is known to work.
func (in *intake) fared(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil {
		in.status.PollError = err.Error()
		in.status.PollErrors++
		return
	}
	in.status.PollError, in.status.LastPoll = "", time.Now()
}

func (in *intake) streaming(open bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.status.Streaming = open
}
