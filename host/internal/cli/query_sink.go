package cli

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// querySummary is what is said of a result behind its rows.
type querySummary struct {
	Columns []struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"columns"`
	RowCount      int            `json:"row_count"`
	Partial       bool           `json:"partial"`
	PartialReason string         `json:"partial_reason"`
	Warnings      []string       `json:"warnings"`
	Render        map[string]any `json:"render"`
}

func (s *querySummary) names() []string {
	out := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		out[i] = c.Name
	}
	return out
}

// querySink writes rows as they come.
type querySink struct {
	w    *bufio.Writer
	rows int
	// row takes one row; end is called once when all is well.
	row    func(row []byte) error
	finish func(out json.RawMessage, sum *querySummary) error
}

// chunk takes lines of JSON.
func (s *querySink) chunk(ndjson []byte) error {
	for line := range bytes.Lines(ndjson) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		s.rows++
		if err := s.row(line); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

func (s *querySink) end(out json.RawMessage, sum *querySummary) error {
	if err := s.finish(out, sum); err != nil {
		return err
	}
	return s.w.Flush()
}

// renders says whether a query asks for a chart.
var renders = regexp.MustCompile(`(?m)^[^"'/]*\|\s*render\s+[a-z]+|\|\s*render\s+[a-z]+[^|]*$`)

// sink makes the output that was asked for.
func (o *queryOptions) sink(w io.Writer, query string) *querySink {
	s := &querySink{w: bufio.NewWriterSize(w, 64<<10)}
	switch o.output {
	case "ndjson":
		s.row = func(row []byte) error { return writeLine(s.w, o.shown(row)) }
		s.finish = func(json.RawMessage, *querySummary) error { return nil }
	case "json":
		o.jsonSink(s)
	case "csv":
		o.csvSink(s)
	default:
		t := &queryTable{w: s.w, width: o.width}
		if (o.color || o.chart) && renders.MatchString(query) {
			t.hold = maxChartRows
		}
		s.row = t.row
		s.finish = func(_ json.RawMessage, sum *querySummary) error { return t.end(sum) }
	}
	return s
}

// shown is JSON that does no harm to a terminal: what is no plain character is escaped, which means the same.
func (o *queryOptions) shown(row []byte) []byte {
	if !o.color || !bytes.ContainsFunc(row, unprintable) {
		return row
	}
	out := make([]byte, 0, len(row)+64)
	for len(row) > 0 {
		r, n := utf8.DecodeRune(row)
		if unprintable(r) {
			if r > 0xFFFF {
				r -= 0x10000
				out = fmt.Appendf(out, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
		} else {
			out = append(out, row[:n]...)
		}
		row = row[n:]
	}
	return out
}

func writeLine(w *bufio.Writer, line []byte) error {
	if _, err := w.Write(line); err != nil {
		return err
	}
	return w.WriteByte('\n')
}

// jsonSink writes one object: rows, then what the summary has.
func (o *queryOptions) jsonSink(s *querySink) {
	open := func() error {
		_, err := s.w.WriteString("{\"rows\":[\n")
		return err
	}
	s.row = func(row []byte) error {
		if s.rows == 1 {
			if err := open(); err != nil {
				return err
			}
		} else if _, err := s.w.WriteString(",\n"); err != nil {
			return err
		}
		_, err := s.w.Write(o.shown(row))
		return err
	}
	s.finish = func(out json.RawMessage, _ *querySummary) error {
		if s.rows == 0 {
			if err := open(); err != nil {
				return err
			}
		}
		rest := bytes.TrimSpace(out)
		tail := "\n],"
		if len(rest) == 0 || rest[0] != '{' || string(rest) == "{}" {
			tail, rest = "\n]", []byte("{}")
		}
		if _, err := s.w.WriteString(tail); err != nil {
			return err
		}
		return writeLine(s.w, o.shown(rest[1:]))
	}
}

// csvSink writes CSV with a head line.
func (o *queryOptions) csvSink(s *querySink) {
	w := csv.NewWriter(s.w)
	w.UseCRLF = true
	var names []string
	head := func(n []string) error {
		names = n
		return w.Write(o.guardAll(n))
	}
	s.row = func(row []byte) error {
		keys, values, err := members(row)
		if err != nil {
			return err
		}
		if names == nil {
			if err := head(keys); err != nil {
				return err
			}
		}
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = cellText(v)
			if o.csvSafe && v.Kind() == '"' {
				cells[i] = guard(cells[i])
			}
		}
		return w.Write(cells)
	}
	s.finish = func(_ json.RawMessage, sum *querySummary) error {
		if names == nil && len(sum.Columns) > 0 {
			if err := head(sum.names()); err != nil {
				return err
			}
		}
		w.Flush()
		return w.Error()
	}
}

func (o *queryOptions) guardAll(list []string) []string {
	if !o.csvSafe {
		return list
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = guard(s)
	}
	return out
}

// guard keeps a text from being taken for a formula.
func guard(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// members takes a row apart, in order.
func members(row []byte) (names []string, values []jsontext.Value, err error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(row), jsontext.AllowDuplicateNames(true))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, nil, fmt.Errorf("a row is no JSON object: %.80q", row)
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, nil, err
		}
		names = append(names, name.String())
		v, err := d.ReadValue()
		if err != nil {
			return nil, nil, err
		}
		values = append(values, v.Clone())
	}
	return names, values, nil
}

// cellText is a value as people write it: texts bare, null as nothing.
func cellText(v jsontext.Value) string {
	switch v.Kind() {
	case 'n':
		return ""
	case '"':
		var s string
		if json.Unmarshal(v, &s) == nil {
			return s
		}
	}
	return string(v)
}

// unprintable says whether a character could do something to a terminal, or hide itself.
func unprintable(r rune) bool {
	return r == utf8.RuneError || r != ' ' && !unicode.IsGraphic(r) || unicode.In(r, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp)
}

// printable writes a text on one line, with escapes for what is unprintable.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unprintable(r) && r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08x`, r)
		case unprintable(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
