package launch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// ringLines is how many of the last lines are kept for a crash report, each clipped to ringLine bytes.
	ringLines = 200
	ringLine  = 2 << 10
	// headLines is how much of the head of a panic is kept: a dump of all goroutines would push it out of the ring.
	headLines = 12
	// reportLines is how many lines an error message quotes.
	reportLines = 6
	// logRate and logBurst bound what one process can put into the host's log, in lines of up to logUnit bytes; a longer one
	// counts as several.
	logRate  = 100
	logBurst = 1000
	logUnit  = 512
)

// output takes everything that a process prints: it keeps the last lines, and logs them within a rate.
type output struct {
	log     *slog.Logger
	redact  func(string) string
	limiter *rate.Limiter

	mu       sync.Mutex
	ring     []string
	next     int
	head     []string // of a panic
	panicked bool
	dropped  int
}

func newOutput(log *slog.Logger, redact func(string) string) *output {
	return &output{log: log, redact: redact, limiter: rate.NewLimiter(logRate, logBurst)}
}

// stream returns a writer for one of the process's streams. Only lines of standard error are kept for crash reports.
// Writers of different streams may be used at once.
func (o *output) stream(name string, keep bool) *lineWriter {
	return &lineWriter{max: maxLine, emit: func(line []byte, cut int) { o.line(name, keep, line, cut) }}
}

func (o *output) line(stream string, keep bool, line []byte, cut int) {
	text := o.redact(string(line))
	if cut > 0 {
		text += fmt.Sprintf("… [%d bytes cut]", cut)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	crash := false
	if keep {
		crash = o.keep(text)
	}
	if !o.limiter.AllowN(time.Now(), 1+min(len(text), maxText)/logUnit) {
		o.dropped++
		return
	}
	o.reportDropped()
	e := parseLine([]byte(text))
	if crash {
		e.level = slog.LevelError
	}
	if !o.log.Enabled(context.Background(), e.level) {
		return
	}
	attrs := []slog.Attr{slog.String("stream", stream), slog.String("text", e.text)}
	if len(e.fields) > 0 {
		attrs = append(attrs, slog.Any("fields", slog.GroupValue(e.fields...)))
	}
	o.log.LogAttrs(context.Background(), e.level, "connector log", attrs...)
}

// keep remembers a line and says whether it belongs to a crash.
func (o *output) keep(text string) bool {
	text = clip(text, ringLine)
	if len(o.ring) < ringLines {
		o.ring = append(o.ring, text)
	} else {
		o.ring[o.next] = text
	}
	o.next = (o.next + 1) % ringLines
	if !o.panicked && startsPanic([]byte(text)) {
		o.panicked = true
	}
	if o.panicked && len(o.head) < headLines {
		o.head = append(o.head, text)
	}
	return o.panicked
}

func (o *output) reportDropped() {
	if o.dropped > 0 {
		o.log.Warn("connector log lines dropped: the connector prints too much", "count", o.dropped)
		o.dropped = 0
	}
}

// end says what is still to be said.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reportDropped()
}

// tail returns up to n of the last lines, oldest first.
func (o *output) tail(n int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]string, 0, min(n, len(o.ring)))
	for i := max(0, len(o.ring)-n); i < len(o.ring); i++ {
		out = append(out, o.ring[(o.next+ringLines-len(o.ring)+i)%ringLines])
	}
	return out
}

// last returns what a report quotes: the head of a panic, or the last lines, each short.
func (o *output) last() []string {
	o.mu.Lock()
	head := o.head
	o.mu.Unlock()
	lines := head
	if len(lines) == 0 {
		lines = o.tail(ringLines)
	}
	var out []string
	if len(head) == 0 && len(lines) > reportLines {
		lines = lines[len(lines)-reportLines:]
	}
	for _, l := range lines {
		if len(out) == reportLines {
			break
		}
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, clip(l, 240))
		}
	}
	return out
}
