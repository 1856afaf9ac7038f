package jira

import (
	"strconv"
	"strings"
)

const (
	// maxText is Jira's limit for a description or a comment, in UTF-16 units.
	maxText = 32767
	// cutMark ends a text that was too long.
	cutMark = "_… cut here: the text is longer than Jira takes._"
	fence   = "{noformat}"
)

// markdownToWiki renders Markdown as Jira's wiki markup: headings, lists, tables, quotes, code, emphasis and links.
// Images become links, since loading one tells its owner who reads the case; raw HTML, wiki markup and macros in the
// source are shown as text. The result is at most limit UTF-16 units; what is cut ends with a mark, and an open block is
// closed first.
func markdownToWiki(src string, limit int) string {
	out, _ := render(src, limit, cutMark, (*wiki).markdown)
	return out
}

// renderCut renders in a format with a mark of its own for what is cut, and says whether something was.
func renderCut(format, src string, limit int, mark string) (string, bool) {
	if format == "text" {
		return render(src, limit, mark, (*wiki).plain)
	}
	return render(src, limit, mark, (*wiki).markdown)
}

// textToWiki shows plain text as it is, with the same limit.
func textToWiki(src string, limit int) string {
	out, _ := render(src, limit, cutMark, (*wiki).plain)
	return out
}

func (w *wiki) plain(lines []string) {
	for _, l := range lines {
		w.line(string(appendText(nil, l, true)))
	}
}

func render(src string, limit int, mark string, body func(*wiki, []string)) (out string, wasCut bool) {
	src = strings.ToValidUTF8(src, "\uFFFD")
	src = strings.ReplaceAll(src, "\r\n", "\n")
	src = strings.Map(dropInvisible, strings.ReplaceAll(src, "\r", "\n"))
	// Far past the limit nothing can be seen any more: do not spend time on it.
	cut := cutUnits(src, 4*limit)
	more := len(cut) < len(src)
	lines := strings.Split(strings.TrimRight(cut, " \t\n"), "\n")
	w := wiki{limit: limit}
	body(&w, lines)
	w.close()
	if out := w.b.String(); w.units <= limit && !more {
		return out, false
	}
	w = wiki{limit: limit, room: limit - units(mark) - len(fence) - 4, bounded: true}
	body(&w, lines)
	w.close()
	w.raw(mark)
	return w.b.String(), true
}

// wiki collects lines. Bounded, it stops where room ends.
type wiki struct {
	b           strings.Builder
	units       int
	limit, room int
	bounded     bool
	full        bool
	started     bool // a line was written, if only an empty one
	block       bool // inside {noformat}
}

func (w *wiki) raw(s string) {
	if w.started {
		w.b.WriteByte('\n')
		w.units++
	}
	w.started = true
	w.b.WriteString(s)
	w.units += units(s)
}

// line appends one line, cut if there is no room for all of it.
func (w *wiki) line(s string) {
	if w.full {
		return
	}
	if w.bounded && w.units+1+units(s) > w.room {
		w.full = true
		s = cutUnits(s, max(0, w.room-w.units-1))
		// Neither half an escape nor half an entity.
		s = strings.TrimRight(s, `\`)
		for n := len(backslash) - 1; n > 0; n-- {
			s = strings.TrimSuffix(s, backslash[:n])
		}
		if s == "" {
			return
		}
	}
	w.raw(s)
}

func (w *wiki) open() {
	if w.full {
		return
	}
	w.line(fence)
	w.block = !w.full
}

// close ends an open block; it always has room.
func (w *wiki) close() {
	if w.block {
		w.block = false
		w.raw(fence)
	}
}

func (w *wiki) markdown(lines []string) {
	for i := 0; i < len(lines) && !w.full; i++ {
		l := lines[i]
		trimmed := strings.TrimLeft(l, " \t")
		switch {
		case strings.TrimSpace(l) == "":
			w.line("")
		case strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~"):
			i = w.code(lines, i)
		case ruler(trimmed):
			w.line("----")
		case table(lines, i):
			i = w.table(lines, i)
		default:
			w.line(string(block(l, trimmed)))
		}
	}
}

// block renders a heading, quote, list item or line of prose.
func block(l, trimmed string) []byte {
	if n := len(trimmed) - len(strings.TrimLeft(trimmed, "#")); n >= 1 && n <= 6 && len(trimmed) > n && trimmed[n] == ' ' {
		dst := append([]byte{'h'}, strconv.Itoa(n)...)
		return appendInline(append(dst, ". "...), strings.Trim(trimmed[n:], " #"), 0)
	}
	if rest, ok := strings.CutPrefix(trimmed, ">"); ok {
		rest = strings.TrimLeft(rest, "> ")
		if rest == "" {
			return nil
		}
		return appendInline([]byte("bq. "), rest, 0)
	}
	if mark, rest, ok := item(trimmed); ok {
		level := 1
		for _, c := range l[:len(l)-len(trimmed)] {
			if c == '\t' {
				level += 2
			} else {
				level++
			}
		}
		level = min((level+1)/2, 6)
		dst := append([]byte(strings.Repeat(mark, level)), ' ')
		return appendInline(dst, rest, 0)
	}
	return appendInline(nil, strings.TrimRight(trimmed, " \t"), 0)
}

// item splits a list item from its mark.
func item(s string) (mark, rest string, ok bool) {
	if len(s) > 2 && (s[0] == '-' || s[0] == '*' || s[0] == '+') && s[1] == ' ' {
		return "*", strings.TrimLeft(s[2:], " "), true
	}
	n := 0
	for n < len(s) && n < 9 && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n > 0 && len(s) > n+2 && (s[n] == '.' || s[n] == ')') && s[n+1] == ' ' {
		return "#", strings.TrimLeft(s[n+2:], " "), true
	}
	return "", "", false
}

func ruler(s string) bool {
	s = strings.ReplaceAll(strings.TrimSpace(s), " ", "")
	return len(s) >= 3 && strings.IndexByte("-*_", s[0]) >= 0 && strings.Trim(s, s[:1]) == ""
}

// code renders a fenced block and returns the index of its last line. Text that would end the block early gets a space.
func (w *wiki) code(lines []string, i int) int {
	first := strings.TrimLeft(lines[i], " \t")
	mark := first[:len(first)-len(strings.TrimLeft(first, first[:1]))]
	w.open()
	for i++; i < len(lines) && !w.full; i++ {
		if end := strings.TrimSpace(lines[i]); strings.HasPrefix(end, mark) && strings.Trim(end, mark[:1]) == "" {
			break
		}
		w.line(strings.ReplaceAll(lines[i], "{noformat", "{ noformat"))
	}
	w.close()
	return i
}

// table says whether a table begins at line i: a row of cells, then the line of dashes.
func table(lines []string, i int) bool {
	if i+1 >= len(lines) || strings.IndexByte(lines[i], '|') < 0 {
		return false
	}
	dashes := strings.TrimSpace(lines[i+1])
	return strings.Contains(dashes, "-") && strings.Contains(dashes, "|") && strings.Trim(dashes, "|-: \t") == ""
}

func (w *wiki) table(lines []string, i int) int {
	w.line(row(lines[i], "||"))
	for i += 2; i < len(lines) && !w.full && strings.IndexByte(lines[i], '|') >= 0; i++ {
		w.line(row(lines[i], "|"))
	}
	return i - 1
}

func row(l, sep string) string {
	dst := []byte(sep)
	for _, cell := range cells(l) {
		if cell = strings.TrimSpace(cell); cell == "" {
			cell = " "
		}
		dst = append(appendInline(dst, cell, 1), sep...)
	}
	return string(dst)
}

// cells splits a row at the pipes that no backslash escapes.
func cells(l string) []string {
	l = strings.TrimPrefix(strings.TrimSpace(l), "|")
	var out []string
	start := 0
	for i := 0; i < len(l); i++ {
		switch l[i] {
		case '\\':
			i++
		case '|':
			out = append(out, l[start:i])
			start = i + 1
		}
	}
	if start < len(l) {
		out = append(out, l[start:])
	}
	return out
}
