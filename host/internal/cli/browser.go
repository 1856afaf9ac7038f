package cli

import (
	"context"
	"crypto/subtle"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// redirected is what a browser brings back from a sign-in.
type redirected struct {
	code string
	err  error
}

// codeListener waits for a browser on this machine.
type codeListener struct {
	address string
	got     chan redirected

	server *http.Server
	served chan struct{}
	once   sync.Once
	text   chan string
	gone   chan struct{}

	mu    sync.Mutex
	state string
}

// listenForCode listens on the loopback only. The address says localhost: that is what app registrations know.
func listenForCode(ctx context.Context, port int) (*codeListener, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	_, at, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		return nil, err
	}
	l := &codeListener{
		address: "http://localhost:" + at, got: make(chan redirected, 1), served: make(chan struct{}), text: make(chan string, 1), gone: make(chan struct{}),
	}
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go func() {
		defer close(l.served)
		_ = l.server.Serve(lis) // until close
	}()
	return l, nil
}

// expect says which state is ours. Before that nothing is.
func (l *codeListener) expect(state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
}

// ServeHTTP takes the one redirect that carries our state; everything else that comes by is somebody else's.
func (l *codeListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	l.mu.Lock()
	state := l.state
	l.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet || r.URL.Path != "/" || state == "" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
		http.Error(w, "This is not the sign-in that casewire waits for.", http.StatusBadRequest)
		return
	}
	got, first := redirected{code: q.Get("code")}, false
	if got.code == "" {
		text, _, _ := strings.Cut(q.Get("error_description"), " Trace ID:")
		if text == "" {
			text = q.Get("error")
		}
		got.err = fmt.Errorf("the sign-in was refused: %.500s", oneLine(text))
	}
	l.once.Do(func() { first = true })
	if !first {
		http.Error(w, "This sign-in is over.", http.StatusGone)
		return
	}
	l.got <- got
	if got.err != nil {
		l.page(w, got.err.Error())
		return
	}
	select {
	case text := <-l.text:
		l.page(w, text)
	case <-l.gone:
		l.page(w, "casewire has ended.")
	case <-r.Context().Done():
	}
}

func (l *codeListener) page(w io.Writer, text string) {
	_, _ = fmt.Fprintf(w, "<!doctype html><meta charset=utf-8><title>casewire</title><p>%s</p>\n", html.EscapeString(text))
}

// tell answers the browser that waits.
func (l *codeListener) tell(text string) { l.text <- text }

func (l *codeListener) close() {
	close(l.gone)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := l.server.Shutdown(ctx); err != nil {
		_ = l.server.Close() // a browser that does not let go
	}
	<-l.served
}

// openBrowser tries to open an address; whoever sees no browser has the address on the screen.
func openBrowser(ctx context.Context, address string) {
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		return
	}
	argv := []string{"xdg-open", address}
	switch runtime.GOOS {
	case "darwin":
		argv[0] = "open"
	case "windows":
		argv = []string{"rundll32", "url.dll,FileProtocolHandler", address}
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...)
	if cmd.Start() == nil {
		go func() { _ = cmd.Wait() }() // it may stay as long as the browser does
	}
}
