package indicators

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// shown is how many rejections are printed for people; the report has them all.
const shown = 10

// reporter counts, keeps the rejections, and writes the report.
type reporter struct {
	counts   map[string]int
	requests int
	bad      []result

	path string
	tmp  *os.File
	buf  *bufio.Writer
	csv  *csv.Writer
}

func newReporter(path string) (*reporter, error) {
	r := &reporter{counts: map[string]int{}, path: path}
	if path == "" {
		return r, nil
	}
	var err error
	if r.tmp, err = os.CreateTemp(filepath.Dir(path), ".report-"); err != nil {
		return nil, fmt.Errorf("the report cannot be written: %w", err)
	}
	r.buf = bufio.NewWriter(r.tmp)
	if strings.HasSuffix(strings.ToLower(path), ".csv") {
		r.csv = csv.NewWriter(r.buf)
		return r, r.csv.Write([]string{"at", "value", "type", "status", "reason", "id", "valid_until"})
	}
	return r, nil
}

func (r *reporter) add(results []result) error {
	for i := range results {
		one := &results[i]
		r.counts[one.Status]++
		if one.Status == rejected {
			r.bad = append(r.bad, *one)
		}
		switch {
		case r.csv != nil:
			if err := r.csv.Write([]string{one.At, cell(one.Value), one.Type, one.Status, cell(one.Reason), one.ID, one.ValidUntil}); err != nil {
				return err
			}
		case r.buf != nil:
			b, err := json.Marshal(one)
			if err != nil {
				return err
			}
			if _, err := r.buf.Write(append(b, '\n')); err != nil {
				return err
			}
		}
	}
	return nil
}

// cell keeps a spreadsheet from taking a value for a formula.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// close puts the report in its place.
func (r *reporter) close() error {
	if r.tmp == nil {
		return nil
	}
	var err error
	if r.csv != nil {
		r.csv.Flush()
		err = r.csv.Error()
	}
	err = errors.Join(err, r.buf.Flush(), r.tmp.Close())
	if err == nil {
		err = os.Rename(r.tmp.Name(), r.path)
	}
	if err != nil {
		return fmt.Errorf("the report cannot be written: %w", err)
	}
	r.tmp = nil
	return nil
}

// abandon removes what was written of a report that is not complete.
func (r *reporter) abandon() {
	if r.tmp != nil {
		_ = r.tmp.Close()
		_ = os.Remove(r.tmp.Name())
	}
}

// Summary is what --json prints.
type summary struct {
	File       string         `json:"file"`
	SHA256     string         `json:"sha256"`
	Format     string         `json:"format"`
	Connection string         `json:"connection"`
	DryRun     bool           `json:"dry_run"`
	Total      int            `json:"total"`
	Accepted   int            `json:"accepted"`
	Unchanged  int            `json:"unchanged"`
	Rejected   int            `json:"rejected"`
	Duplicates int            `json:"duplicates"`
	Valid      int            `json:"valid"` // of a dry run: what would be submitted
	Requests   int            `json:"requests"`
	Skipped    map[string]int `json:"skipped"`
	Rejections []result       `json:"rejections"`
}

// tell prints the outcome.
func (s *submission) tell() error {
	c := s.rep.counts
	sum := summary{
		File: s.file, SHA256: s.src.digest, Format: s.src.format, Connection: s.conn.Connection, DryRun: s.o.dryRun, Total: s.src.total,
		Accepted: c[accepted], Unchanged: c[unchanged], Rejected: c[rejected], Duplicates: c[duplicate], Valid: c[valid],
		Requests: s.rep.requests, Skipped: s.src.skipped, Rejections: append([]result{}, s.rep.bad...),
	}
	if s.o.json {
		enc := json.NewEncoder(s.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(sum)
	}
	w := s.stdout
	fmt.Fprintf(w, "%s: %s (%s), connection %s\n", s.file, plural(sum.Total, "indicator"), sum.Format, sum.Connection)
	if s.o.dryRun {
		fmt.Fprintf(w, "%10d  would be submitted\n", sum.Valid)
	} else {
		fmt.Fprintf(w, "%10d  accepted, in %s\n%10d  unchanged: they are there, and nothing was sent\n", sum.Accepted, plural(sum.Requests, "request"), sum.Unchanged)
	}
	if sum.Duplicates > 0 {
		fmt.Fprintf(w, "%10d  duplicates\n", sum.Duplicates)
	}
	fmt.Fprintf(w, "%10d  rejected\n", sum.Rejected)
	for i, r := range s.rep.bad {
		if i == shown {
			fmt.Fprintf(w, "            and %d more; --report FILE has them all\n", len(s.rep.bad)-shown)
			break
		}
		fmt.Fprintf(w, "            %s: %q %s\n", r.At, r.Value, r.Reason)
	}
	for _, what := range slices.Sorted(maps.Keys(sum.Skipped)) {
		fmt.Fprintf(w, "%10d  left out: %s\n", sum.Skipped[what], what)
	}
	return nil
}

// bar shows how far it is: on a terminal a line that changes, else a line now and then.
type bar struct {
	w           io.Writer
	tty         bool
	done, total int
	begin, told time.Time
	open        bool
}

func newBar(w io.Writer, total int) *bar {
	f, ok := w.(*os.File)
	return &bar{w: w, tty: ok && isatty.IsTerminal(f.Fd()), total: total, begin: time.Now(), told: time.Now()}
}

const barWidth = 30

func (b *bar) add(n int) {
	b.done += n
	if !b.tty {
		if time.Since(b.told) >= 10*time.Second {
			b.told = time.Now()
			fmt.Fprintf(b.w, "%d of %d indicators\n", b.done, b.total)
		}
		return
	}
	full := barWidth
	if b.total > 0 {
		full = min(barWidth, b.done*barWidth/b.total)
	}
	left := ""
	if took := time.Since(b.begin); b.done > 0 && took > time.Second {
		left = fmt.Sprintf("  %v left", (took * time.Duration(b.total-b.done) / time.Duration(b.done)).Round(time.Second))
	}
	fmt.Fprintf(b.w, "\r\x1b[K[%s%s] %d of %d%s", strings.Repeat("█", full), strings.Repeat("·", barWidth-full), b.done, b.total, left)
	b.open = true
}

// say prints a line of its own.
func (b *bar) say(format string, args ...any) {
	b.end()
	fmt.Fprintf(b.w, format+"\n", args...)
}

func (b *bar) end() {
	if b.open {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.open = false
	}
}
