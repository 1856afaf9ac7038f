package cli

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// sampleRows are looked at to find the widths of columns.
	sampleRows = 200
	// leastColumn is how narrow a column may become before rows are written as records.
	leastColumn = 8
	// widestColumn bounds a column where there is no terminal to fit.
	widestColumn = 120
	gap          = 2
)

// queryTable writes rows as a table for people. It looks at the first rows to find widths, and then goes on as rows come.
type queryTable struct {
	w     *bufio.Writer
	width int // of the terminal; zero: none
	hold  int // most rows to keep for a chart

	names   []string
	numeric []bool
	widths  []int
	records bool
	waiting [][]jsontext.Value
	n       int
}

func (t *queryTable) row(row []byte) error {
	names, values, err := members(row)
	if err != nil {
		return err
	}
	if t.names != nil && !slices.Equal(names, t.names) { // the rows of another table
		if err := t.layOut(); err != nil {
			return err
		}
		t.names, t.widths, t.waiting = nil, nil, nil
		fmt.Fprintln(t.w)
	}
	if t.names == nil {
		t.names = names
	}
	if t.widths != nil {
		return t.write(values)
	}
	t.waiting = append(t.waiting, values)
	if len(t.waiting) >= max(sampleRows, t.hold) {
		return t.layOut()
	}
	return nil
}

// end writes what is left: a chart, if the query wants one, or the rest of the table.
func (t *queryTable) end(sum *querySummary) error {
	if t.hold > 0 && t.widths == nil {
		if c := newChart(sum, t.waiting, t.width); c != nil {
			return c.draw(t.w)
		}
	}
	if t.names == nil {
		if t.names = sum.names(); len(t.names) == 0 {
			_, err := fmt.Fprintln(t.w, "no rows")
			return err
		}
	}
	if err := t.layOut(); err != nil {
		return err
	}
	if t.n == 0 {
		_, err := fmt.Fprintln(t.w, "no rows")
		return err
	}
	return nil
}

// layOut finds the widths and writes what has waited.
func (t *queryTable) layOut() error {
	if t.widths != nil {
		return nil
	}
	t.widths, t.numeric = make([]int, len(t.names)), make([]bool, len(t.names))
	for i, name := range t.names {
		t.widths[i] = displayWidth(printable(name))
		some := false
		t.numeric[i] = true
		for _, row := range t.waiting {
			t.widths[i] = max(t.widths[i], displayWidth(printable(cellText(row[i]))))
			t.numeric[i] = t.numeric[i] && (row[i].Kind() == '0' || row[i].Kind() == 'n')
			some = some || row[i].Kind() == '0'
		}
		t.numeric[i] = t.numeric[i] && some
	}
	t.fit()
	if !t.records {
		if err := t.line(t.names, nil); err != nil {
			return err
		}
	}
	for _, row := range t.waiting {
		if err := t.write(row); err != nil {
			return err
		}
	}
	t.waiting = nil
	return nil
}

// fit makes the widest columns narrower until the table fits the terminal.
func (t *queryTable) fit() {
	if t.width == 0 {
		for i := range t.widths {
			t.widths[i] = min(t.widths[i], widestColumn)
		}
		return
	}
	room := t.width - gap*(len(t.widths)-1)
	least := 0
	for _, w := range t.widths {
		least += min(w, leastColumn)
	}
	if t.records = least > room; t.records {
		return
	}
	for total(t.widths) > room {
		// The widest gives way, down to the next one or as far as needed.
		widest := slices.Max(t.widths)
		next, many := leastColumn, 0
		for _, w := range t.widths {
			if w == widest {
				many++
			} else {
				next = max(next, w)
			}
		}
		cut := min(widest-next, max(1, (total(t.widths)-room)/many))
		for i, w := range t.widths {
			if w == widest && total(t.widths) > room {
				t.widths[i] = w - max(1, cut)
			}
		}
	}
}

func total(list []int) int {
	n := 0
	for _, v := range list {
		n += v
	}
	return n
}

func (t *queryTable) write(row []jsontext.Value) error {
	t.n++
	if t.records {
		return t.record(row)
	}
	cells := make([]string, len(row))
	for i, v := range row {
		cells[i] = cellText(v)
	}
	return t.line(cells, row)
}

func (t *queryTable) line(cells []string, row []jsontext.Value) error {
	var b strings.Builder
	for i, c := range cells {
		c = fitCell(printable(c), t.widths[i])
		pad := strings.Repeat(" ", t.widths[i]-displayWidth(c))
		if i > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		if t.numeric[i] && (row == nil || row[i].Kind() == '0') {
			b.WriteString(pad + c)
		} else {
			b.WriteString(c + pad)
		}
	}
	_, err := fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
	return err
}

// record writes a row with a line for each column.
func (t *queryTable) record(row []jsontext.Value) error {
	wide := 0
	for _, n := range t.names {
		wide = max(wide, min(displayWidth(printable(n)), t.width/3))
	}
	fmt.Fprintf(t.w, "row %d\n", t.n)
	for i, v := range row {
		name := fitCell(printable(t.names[i]), wide)
		room := max(leastColumn, t.width-wide-2*gap)
		fmt.Fprintf(t.w, "  %s%s  %s\n", name, strings.Repeat(" ", wide-displayWidth(name)), fitCell(printable(cellText(v)), room))
	}
	return nil
}

// fitCell cuts a text to a width on the screen.
func fitCell(s string, width int) string {
	if len(s) <= width || displayWidth(s) <= width {
		return s
	}
	used := 0
	for i, r := range s {
		w := runeWidth(r)
		if used+w > width-1 {
			return s[:i] + "…"
		}
		used += w
	}
	return s
}

// displayWidth is how many columns of a terminal a text takes.
func displayWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// wide are the characters that take two columns, roughly as Unicode's East Asian Width has them.
var wide = [][2]rune{
	{0x1100, 0x115F},
	{0x2E80, 0x303E},
	{0x3041, 0xA4CF},
	{0xAC00, 0xD7A3},
	{0xF900, 0xFAFF},
	{0xFE30, 0xFE6F},
	{0xFF00, 0xFF60},
	{0xFFE0, 0xFFE6},
	{0x1F300, 0x1F64F},
	{0x1F680, 0x1F6FF},
	{0x1F900, 0x1FAFF},
	{0x20000, 0x3FFFD},
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	for _, w := range wide {
		if w[0] <= r && r <= w[1] {
			return 2
		}
	}
	return 1
}
