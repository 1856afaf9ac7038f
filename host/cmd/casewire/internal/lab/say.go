package lab

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
)

// Sayer tells people how far a long run is: lines, and on a terminal one line that changes.
type Sayer struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	begin time.Time
	open  bool // a changing line stands
	ended bool
}

// NewSayer writes to w.
func NewSayer(w io.Writer) *Sayer {
	f, ok := w.(*os.File)
	return &Sayer{w: w, tty: ok && isatty.IsTerminal(f.Fd()), begin: time.Now()}
}

// Printf writes a line with the time since the beginning.
func (s *Sayer) Printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.w, "%5.1fs  %s\n", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
}

// Progress shows something that changes often; without a terminal it says nothing.
func (s *Sayer) Progress(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tty || s.ended {
		return
	}
	fmt.Fprintf(s.w, "\r\x1b[K%5.1fs  %s", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
	s.open = true
}

// End takes the changing line away; nothing is shown afterwards.
func (s *Sayer) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.ended = true
}

func (s *Sayer) clear() {
	if s.open {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.open = false
	}
}
