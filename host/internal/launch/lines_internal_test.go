package launch

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestLineWriterCutsLines(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in   string
		want []string
	}{
		"lines":       {"a\nb\r\n\nc", []string{"a", "b", "", "c"}},
		"at the cap":  {"12345678\nx\n", []string{"12345678", "x"}},
		"over":        {"123456789ab\nx\n", []string{"12345678+3", "x"}},
		"over no end": {"123456789", []string{"12345678+1"}},
		"nothing":     {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 3, 1 << 10} {
				var got []string
				w := &lineWriter{max: 8, emit: func(line []byte, cut int) {
					s := string(line)
					if cut > 0 {
						s += fmt.Sprintf("+%d", cut)
					}
					got = append(got, s)
				}}
				for i := 0; i < len(tt.in); i += size {
					if _, err := w.Write([]byte(tt.in[i:min(len(tt.in), i+size)])); err != nil {
						t.Fatal(err)
					}
				}
				w.end()
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("in writes of %d (-want +got):\n%s", size, diff)
				}
			}
		})
	}
}

func TestParseLine(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		line, text, fields string
		level              slog.Level
	}{
		"hclog":       {`{"@level":"warn","@message":"hi","@timestamp":"2026-01-02T03:04:05.000000Z","n":1}`, "hi", "logged_at=2026-01-02T03:04:05.000000Z n=1", slog.LevelWarn},
		"slog":        {`{"time":"t","level":"ERROR+2","msg":"no","b":"2","a":{"x":[1]}}`, "no", `logged_at=t a={"x":[1]} b=2`, slog.LevelError},
		"zerolog":     {`{"level":"trace","message":"m"}`, "m", "", slog.LevelDebug},
		"pino":        {`{"level":50,"msg":"m"}`, "m", "", slog.LevelError},
		"python":      {`{"levelname":"CRITICAL","message":"m","asctime":"x"}`, "m", "logged_at=x", slog.LevelError},
		"cloud":       {`{"severity":"WARNING","message":"m"}`, "m", "", slog.LevelWarn},
		"hostile":     {`{"@message":1,"@level":{},"@timestamp":[]}`, "1", "logged_at=[]", slog.LevelInfo},
		"no JSON":     {`{"@message":`, `{"@message":`, "", slog.LevelInfo},
		"text":        {"plain \xff", "plain \uFFFD", "", slog.LevelInfo},
		"panic":       {"panic: oh", "panic: oh", "", slog.LevelError},
		"fatal error": {"fatal error: all goroutines are asleep", "fatal error: all goroutines are asleep", "", slog.LevelError},
		"array":       {"[1]", "[1]", "", slog.LevelInfo},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := parseLine([]byte(tt.line))
			var fields []string
			for _, a := range e.fields {
				fields = append(fields, a.Key+"="+a.Value.String())
			}
			if e.text != tt.text || e.level != tt.level || strings.Join(fields, " ") != tt.fields {
				t.Errorf("got %v %q %q", e.level, e.text, fields)
			}
		})
	}
}

func TestParseLineCapsWhatAConnectorCanLog(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"msg":"` + strings.Repeat("m", 100<<10) + `"`)
	for i := range 500 {
		fmt.Fprintf(&b, `,"k%03d":"%s"`, i, strings.Repeat("v", 100))
	}
	b.WriteString("}")
	e := parseLine([]byte(b.String()))
	if len(e.text) > maxText+len("…") || len(e.fields) != maxFields+1 {
		t.Errorf("text of %d bytes, %d fields", len(e.text), len(e.fields))
	}
	if last := e.fields[maxFields]; last.Key != "more_fields" || last.Value.Int64() != 500-maxFields {
		t.Errorf("the rest is not mentioned: %v", last)
	}
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte(`{"@message":1}`+"\n"), true)
	f.Add([]byte("panic: x\n\n\xff"), false)
	f.Add([]byte(`{"level":1e999,"msg":null}`), true)
	f.Fuzz(func(t *testing.T, b []byte, keep bool) {
		o := newOutput(slog.New(slog.DiscardHandler), func(s string) string { return s })
		w := o.stream("stderr", keep)
		if n, err := w.Write(b); err != nil || n != len(b) {
			t.Fatalf("wrote %d of %d: %v", n, len(b), err)
		}
		w.end()
		o.end()
		if n := len(o.last()); n > reportLines {
			t.Errorf("a report of %d lines", n)
		}
	})
}

func TestRingKeepsTheLastLinesAndTheHeadOfAPanic(t *testing.T) {
	t.Parallel()
	o := newOutput(slog.New(slog.DiscardHandler), func(s string) string { return s })
	w := o.stream("stderr", true)
	for i := range 450 {
		fmt.Fprintf(w, "line %d\n", i)
	}
	tail := o.tail(ringLines)
	if len(tail) != ringLines || tail[0] != "line 250" || tail[ringLines-1] != "line 449" {
		t.Errorf("%d lines from %q to %q", len(tail), tail[0], tail[len(tail)-1])
	}
	if last := o.last(); len(last) != reportLines || last[0] != "line 444" {
		t.Errorf("report: %q", last)
	}
	fmt.Fprintln(w, "panic: first")
	for i := range 1000 {
		fmt.Fprintf(w, "goroutine %d\n", i)
	}
	if last := o.last(); last[0] != "panic: first" || last[1] != "goroutine 0" {
		t.Errorf("report after a panic: %q", last)
	}
}

// What a process can put into the log is bounded in bytes, and not only in lines: it must not fill a disk.
func TestLongLinesCountAsSeveral(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // where no time passes
		var log bytes.Buffer
		o := newOutput(slog.New(slog.NewTextHandler(&log, nil)), func(s string) string { return s })
		w := o.stream("stderr", true)
		for range 2 * logBurst {
			fmt.Fprintln(w, strings.Repeat("x", maxText))
		}
		if n := log.Len(); n < maxText || n > 2*logBurst*logUnit {
			t.Errorf("%d bytes went into the log", n)
		}
	})
}

// A handler that fails must not keep the streams from being drained.
func TestOutputSurvivesABrokenLog(t *testing.T) {
	t.Parallel()
	broken := slog.New(slog.NewTextHandler(iotestWriter{}, nil))
	o := newOutput(broken, func(s string) string { return s })
	if n, err := o.stream("stderr", true).Write([]byte("x\n")); n != 2 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
}

type iotestWriter struct{}

func (iotestWriter) Write([]byte) (int, error) { return 0, iotest.ErrTimeout }

func TestHasPassword(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{
		"http://proxy:3128": false, "http://user@proxy": false, "http://user:pw@proxy": true, "user:pw@proxy": true, "proxy:1": false,
	} {
		if got := hasPassword(v); got != want {
			t.Errorf("%s: %v", v, got)
		}
	}
}
