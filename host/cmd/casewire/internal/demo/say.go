package demo

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

// sayer tells people how far the demo is: lines, and on a terminal one line that changes.
type sayer struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	begin time.Time
	open  bool // a changing line stands
	ended bool
}

func newSayer(w io.Writer) *sayer {
	f, ok := w.(*os.File)
	return &sayer{w: w, tty: ok && isatty.IsTerminal(f.Fd()), begin: time.Now()}
}

func (s *sayer) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.w, "%5.1fs  %s\n", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
}

// progress shows something that changes often; without a terminal it says nothing.
func (s *sayer) progress(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tty || s.ended {
		return
	}
	fmt.Fprintf(s.w, "\r\x1b[K%5.1fs  %s", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
	s.open = true
}

func (s *sayer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.ended = true
}

func (s *sayer) clear() {
	if s.open {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.open = false
	}
}
