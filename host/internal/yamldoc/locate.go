package yamldoc

import (
	"strconv"
	"strings"

	"github.com/casewire/casewire/host/diag"
)

// At returns the place of the character with that index (in runes) of a string scalar's Text: quotes, escapes, folding
// and block indentation are taken into account. If the text cannot be followed, it is the place of the scalar.
func (n *Node) At(char int) diag.Pos {
	if n == nil || n.Kind != Scalar || n.doc == nil || n.Pos.Line < 1 || n.Pos.Line > len(n.doc.lines) {
		return n.place()
	}
	if !n.traced {
		n.traced = true
		t := tracer{doc: n.doc, want: []int32(n.Text), line: n.Pos.Line, col: n.Pos.Col}
		var ok bool
		switch n.Style {
		case Literal, Folded:
			ok = t.block()
		default:
			ok = t.flow(n.Style)
		}
		if ok {
			n.trace = t.at
		}
	}
	switch at := n.trace; {
	case char < 0 || char > len(at) || len(at) == 0:
		return n.Pos
	case char == len(at):
		return diag.Pos{File: n.doc.file, Line: at[char-1][0], Col: at[char-1][1] + 1}
	default:
		return diag.Pos{File: n.doc.file, Line: at[char][0], Col: at[char][1]}
	}
}

func (n *Node) place() diag.Pos {
	if n == nil {
		return diag.Pos{}
	}
	return n.Pos
}

// tracer reads a scalar again in its source and notes where each character of its text stands. It knows the text, so
// that it follows the source instead of interpreting it; where the two cannot be matched, it gives up.
type tracer struct {
	doc       *document
	want      []rune
	at        [][2]int
	line, col int // from 1
}

func (t *tracer) put(line, col int) { t.at = append(t.at, [2]int{line, col}) }

func (t *tracer) next() (rune, bool) {
	if len(t.at) < len(t.want) {
		return t.want[len(t.at)], true
	}
	return 0, false
}

// row returns the current line, and where its last word ends.
func (t *tracer) row() ([]rune, int) {
	s := t.doc.lines[t.line-1]
	return []rune(s), len([]rune(strings.TrimRight(s, " \t")))
}

// flow follows plain and quoted scalars.
func (t *tracer) flow(style Style) bool {
	row, end := t.row()
	i := t.col - 1
	if style != Plain {
		i++ // the quote
	}
	for {
		w, more := t.next()
		if !more {
			return true
		}
		if i >= end && (i >= len(row) || (w == ' ' || w == '\n')) && !(style == Double && i < len(row) && w == ' ') {
			// A line break: folded to a space, or to one line feed per empty line.
			line, col := t.line, min(i, len(row))+1
			empty := 0
			for {
				t.line++
				if t.line > len(t.doc.lines) {
					return false
				}
				if row, end = t.row(); end > 0 {
					break
				}
				empty++
			}
			i = len(row) - len([]rune(strings.TrimLeft(string(row), " \t")))
			switch {
			case empty == 0 && w == ' ':
				t.put(line, col)
			case empty > 0 && w == '\n':
				for range empty {
					if w, ok := t.next(); !ok || w != '\n' {
						return false
					}
					t.put(line, col)
				}
			default:
				return false
			}
			continue
		}
		if i >= len(row) {
			return false
		}
		switch {
		case style == Single && row[i] == '\'':
			if i+1 >= len(row) || row[i+1] != '\'' || w != '\'' {
				return false
			}
			t.put(t.line, i+1)
			i += 2
		case style == Double && row[i] == '\\':
			n := 2
			if i+1 == len(row) { // an escaped line break
				t.line++
				if t.line > len(t.doc.lines) {
					return false
				}
				row, end = t.row()
				i = len(row) - len([]rune(strings.TrimLeft(string(row), " \t")))
				continue
			}
			n += map[rune]int{'x': 2, 'u': 4, 'U': 8}[row[i+1]]
			t.put(t.line, i+1)
			i += n
		case row[i] == w:
			t.put(t.line, i+1)
			i++
		default:
			return false
		}
	}
}

// block follows | and > scalars.
func (t *tracer) block() bool {
	header := []rune(t.doc.lines[t.line-1])
	indent := 0
	if t.col-1 < len(header) {
		for _, r := range header[t.col-1:] {
			if n, err := strconv.Atoi(string(r)); err == nil {
				indent = -n // relative to the parent, which is not known here
			}
			if r == '#' || r == ' ' {
				break
			}
		}
	}
	if indent < 0 {
		return false
	}
	t.line++
	for l := t.line; l <= len(t.doc.lines); l++ {
		s := t.doc.lines[l-1]
		if strings.TrimSpace(s) != "" {
			indent = len(s) - len(strings.TrimLeft(s, " "))
			break
		}
	}
	for ; t.line <= len(t.doc.lines); t.line++ {
		row := []rune(t.doc.lines[t.line-1])
		i := min(indent, len(row))
		for ; i < len(row); i++ {
			w, more := t.next()
			if !more {
				return true
			}
			if w != row[i] {
				return false
			}
			t.put(t.line, i+1)
		}
		// The line break is a line feed, a space (folded), or nothing (folded, before line feeds).
		if w, more := t.next(); !more {
			return true
		} else if w == '\n' || w == ' ' {
			t.put(t.line, len(row)+1)
		}
	}
	_, more := t.next()
	return !more
}
