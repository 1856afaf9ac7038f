package jira

import (
	"html"
	"strings"
	"unicode/utf8"
)

const (
	// maxLook bounds the search for a closing mark, so that hostile text costs linear time.
	maxLook = 1024
	// maxNest bounds emphasis inside emphasis.
	maxNest = 6
)

// inline renders the Markdown of one line: emphasis, code, links, escapes and entities. What does not parse is text.
type inline struct {
	dst       []byte
	text      []byte // plain text not yet escaped
	lineStart bool
	depth     int
}

// appendInline renders s, which begins a line or an emphasis.
func appendInline(dst []byte, s string, depth int) []byte {
	p := inline{dst: dst, lineStart: true, depth: depth}
	p.run(s)
	p.flush()
	return p.dst
}

func (p *inline) flush() {
	if len(p.text) > 0 {
		p.dst = appendText(p.dst, string(p.text), p.lineStart)
		p.text, p.lineStart = p.text[:0], false
	}
}

func (p *inline) run(s string) {
	for i := 0; i < len(s); {
		n := 0
		switch s[i] {
		case '\\':
			if i+1 < len(s) && punct(s[i+1]) {
				p.text = append(p.text, s[i+1])
				n = 2
			}
		case '`':
			n = p.code(s[i:])
		case '*', '_', '~':
			n = p.emphasis(s, i)
		case '!':
			if i+1 < len(s) && s[i+1] == '[' { // an image: linked, never loaded
				if n = p.link(s[i+1:]); n > 0 {
					n++
				}
			}
		case '[':
			n = p.link(s[i:])
		case '<':
			n = p.autolink(s[i:])
		case 'h', 'H':
			if i == 0 || !word(rune(s[i-1])) {
				n = p.bareURL(s[i:])
			}
		case '&':
			n = p.entity(s[i:])
		}
		if n == 0 {
			p.text = append(p.text, s[i])
			n = 1
		}
		i += n
	}
}

func (p *inline) code(s string) int {
	ticks := len(s) - len(strings.TrimLeft(s, "`"))
	mark, rest := s[:ticks], s[ticks:]
	end := index(rest, mark)
	for end >= 0 && end+ticks < len(rest) && rest[end+ticks] == '`' { // a longer run closes nothing
		skip := end + ticks
		for skip < len(rest) && rest[skip] == '`' {
			skip++
		}
		if next := index(rest[skip:], mark); next >= 0 {
			end = skip + next
		} else {
			end = -1
		}
	}
	if end < 0 || strings.TrimSpace(rest[:end]) == "" {
		p.text = append(p.text, mark...)
		return ticks
	}
	p.flush()
	p.dst = append(p.dst, "{{"...)
	p.dst = appendText(p.dst, strings.TrimSpace(rest[:end]), true)
	p.dst = append(p.dst, "}}"...)
	p.lineStart = false
	return ticks + end + ticks
}

func (p *inline) emphasis(s string, i int) int {
	c, rest := s[i], s[i:]
	mark, wiki := rest[:1], "_"
	if len(rest) > 1 && rest[1] == c {
		mark, wiki = rest[:2], "*"
		if c == '~' {
			wiki = "-"
		}
	} else if c == '~' {
		return 0
	}
	body := rest[len(mark):]
	before := byte(' ')
	if i > 0 {
		before = s[i-1]
	}
	// Emphasis opens before text only, and underscores never inside a word.
	if p.depth >= maxNest || body == "" || body[0] == ' ' || body[0] == c || c == '_' && word(rune(before)) {
		p.text = append(p.text, mark...)
		return len(mark)
	}
	end := index(body, mark)
	if len(mark) == 1 {
		for end >= 0 && end+1 < len(body) && body[end+1] == c { // ** inside *…*
			skip := end + 2
			next := index(body[skip:], mark)
			if next < 0 {
				end = -1
				break
			}
			end = skip + next
		}
	}
	if end <= 0 || body[end-1] == ' ' || body[end-1] == '\\' {
		p.text = append(p.text, mark...)
		return len(mark)
	}
	after := byte(' ')
	if tail := end + len(mark); tail < len(body) {
		after = body[tail]
	}
	if c == '_' && word(rune(after)) {
		p.text = append(p.text, mark...)
		return len(mark)
	}
	if word(rune(before)) || word(rune(after)) || before >= utf8.RuneSelf || after >= utf8.RuneSelf {
		wiki = "{" + wiki + "}" // inside a word Jira wants the mark in braces
	}
	p.flush()
	p.dst = append(p.dst, wiki...)
	p.dst = appendInline(p.dst, body[:end], p.depth+1)
	p.dst = append(p.dst, wiki...)
	p.lineStart = false
	return len(mark) + end + len(mark)
}

// link renders [text](url "title") and returns how much of s it took, or 0.
func (p *inline) link(s string) int {
	mid := index(s, "](")
	if mid < 1 || strings.IndexByte(s[1:mid], '[') >= 0 {
		return 0
	}
	rest := s[mid+2:]
	end, open := -1, 0
	for i := range min(len(rest), 4*maxLook) {
		if rest[i] == '(' {
			open++
		} else if rest[i] == ')' {
			if open == 0 {
				end = i
				break
			}
			open--
		}
	}
	if end < 0 {
		return 0
	}
	target, _, _ := strings.Cut(strings.TrimSpace(rest[:end]), " ")
	target = strings.Trim(target, "<>")
	label := strings.Trim(html.UnescapeString(unescape(s[1:mid])), " `*_")
	p.flush()
	p.anchor(label, unescape(target))
	return mid + 2 + end + 1
}

// anchor appends a link, or label and address as text if the address is none to follow.
func (p *inline) anchor(label, target string) {
	p.flush()
	if !linkable(target) {
		p.text = append(p.text, strings.TrimSpace(label+" ("+target+")")...)
		return
	}
	p.dst = append(p.dst, '[')
	if label != "" && label != target {
		p.dst = append(appendLabel(p.dst, label), '|')
	}
	p.dst = appendURL(p.dst, target)
	p.dst = append(p.dst, ']')
	p.lineStart = false
}

func (p *inline) autolink(s string) int {
	end := index(s, ">")
	if end < 2 || strings.ContainsAny(s[1:end], " <\t") || !linkable(s[1:end]) {
		return 0
	}
	p.anchor("", s[1:end])
	return end + 1
}

// bareURL keeps the marks of a web address from being escaped, which would break the link that Jira makes of it.
func (p *inline) bareURL(s string) int {
	if !linkable(s[:min(len(s), 9)]) || s[0] == 'm' {
		return 0
	}
	end := strings.IndexAny(s, " \t<>\"'`")
	if end < 0 {
		end = len(s)
	}
	u := strings.TrimRight(s[:end], ".,;:!?)]}*_")
	if len(u) < 9 {
		return 0
	}
	p.anchor("", u)
	return len(u)
}

func (p *inline) entity(s string) int {
	end := strings.IndexByte(s[:min(len(s), 12)], ';')
	if end < 2 {
		return 0
	}
	out := html.UnescapeString(s[:end+1])
	if out == s[:end+1] {
		return 0
	}
	p.text = append(p.text, strings.Map(dropInvisible, strings.ReplaceAll(out, "\n", " "))...)
	return end + 1
}

// index is strings.Index within maxLook.
func index(s, sub string) int { return strings.Index(s[:min(len(s), maxLook)], sub) }

// unescape takes away Markdown's backslashes.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && punct(s[i+1]) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

func punct(c byte) bool {
	return c > ' ' && c < 0x7f && !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
}
