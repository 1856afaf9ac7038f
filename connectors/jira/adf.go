package jira

import (
	"encoding/json"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// The Atlassian Document Format is what version 3 of the API takes for rich text:
// https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/. Text stands in it as a value of its own, so
// that nothing that it says can become markup, a macro or a mention.

// node is a node of a document.
type node struct {
	Type    string         `json:"type"`
	Version int            `json:"version,omitempty"`
	Attrs   map[string]any `json:"attrs,omitempty"`
	Content []*node        `json:"content,omitempty"`
	Text    string         `json:"text,omitempty"`
	Marks   []adfMark      `json:"marks,omitempty"`
}

type adfMark struct {
	Type  string            `json:"type"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

// textNode makes a text, or nothing of an empty one, which Jira refuses.
func textNode(s string, marks ...adfMark) []*node {
	if s == "" {
		return nil
	}
	return []*node{{Type: "text", Text: s, Marks: marks}}
}

func paragraph(content []*node) *node { return &node{Type: "paragraph", Content: content} }

// cutNote ends a document that was too long.
const cutNote = "… cut here: the text is longer than Jira takes."

// adfLines shows plain text as it is: a paragraph a block of lines.
func adfLines(lines []string) []*node {
	var out, run []*node
	flush := func() {
		if len(run) > 0 {
			out, run = append(out, paragraph(run)), nil
		}
	}
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			flush()
			continue
		}
		if len(run) > 0 {
			run = append(run, &node{Type: "hardBreak"})
		}
		run = append(run, textNode(l)...)
	}
	flush()
	return out
}

// adf renders a source as a document between head and tail. Its JSON has at most limit characters, which is how the strict
// readers of Jira's limit count; what is cut ends with the note.
func adf(src string, limit int, head []*node, note, tail string, blocks func([]string) []*node) (json.RawMessage, bool) {
	src = strings.ToValidUTF8(src, "\uFFFD")
	src = strings.ReplaceAll(src, "\r\n", "\n")
	src = strings.Map(dropInvisible, strings.ReplaceAll(src, "\r", "\n"))
	whole := src
	for {
		content := slices.Concat(head, blocks(strings.Split(strings.TrimRight(src, " \t\n"), "\n")))
		if len(src) < len(whole) {
			content = append(content, paragraph(textNode(note, adfMark{Type: "em"})))
		}
		if tail != "" {
			content = append(content, paragraph(textNode(tail)))
		}
		if len(content) == 0 {
			content = []*node{paragraph(nil)}
		}
		raw := encoded(&node{Type: "doc", Version: 1, Content: content})
		n := units(string(raw))
		if n <= limit || src == "" {
			return raw, len(src) < len(whole)
		}
		// A document grows about as its source does: a few rounds get there.
		keep := min(len(src)-1, len(src)*(limit-200)/n)
		for keep > 0 && !utf8.RuneStart(src[keep]) {
			keep--
		}
		src = src[:max(0, keep)]
	}
}

// adfBlocks renders blocks of Markdown.
func adfBlocks(lines []string) []*node {
	var out []*node
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		trimmed := strings.TrimLeft(l, " \t")
		level := len(trimmed) - len(strings.TrimLeft(trimmed, "#"))
		_, _, listed := item(trimmed)
		switch {
		case strings.TrimSpace(l) == "":
		case strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~"):
			var code *node
			code, i = adfCode(lines, i)
			out = append(out, code)
		case ruler(trimmed):
			out = append(out, &node{Type: "rule"})
		case table(lines, i):
			var t *node
			t, i = adfTable(lines, i)
			out = append(out, t)
		case level >= 1 && level <= 6 && len(trimmed) > level && trimmed[level] == ' ':
			if content := adfInline(strings.Trim(trimmed[level:], " #"), nil, 0); len(content) > 0 {
				out = append(out, &node{Type: "heading", Attrs: map[string]any{"level": level}, Content: content})
			}
		case strings.HasPrefix(trimmed, ">"):
			quote := &node{Type: "blockquote"}
			for ; i < len(lines) && strings.HasPrefix(strings.TrimLeft(lines[i], " \t"), ">"); i++ {
				quote.Content = append(quote.Content, paragraph(adfInline(strings.TrimLeft(strings.TrimSpace(lines[i]), "> "), nil, 0)))
			}
			i--
			out = append(out, quote)
		case listed:
			var list *node
			list, i = adfList(lines, i)
			out = append(out, list)
		default:
			var run []*node
			for ; i < len(lines) && prose(lines, i); i++ {
				if len(run) > 0 {
					run = append(run, &node{Type: "hardBreak"}) // a line of an alert is a line
				}
				run = append(run, adfInline(strings.TrimSpace(lines[i]), nil, 0)...)
			}
			i--
			out = append(out, paragraph(run))
		}
	}
	return out
}

// prose says whether a line goes on with the paragraph.
func prose(lines []string, i int) bool {
	t := strings.TrimSpace(lines[i])
	_, _, listed := item(t)
	level := len(t) - len(strings.TrimLeft(t, "#"))
	return t != "" && !listed && !ruler(t) && !table(lines, i) && !strings.HasPrefix(t, "```") && !strings.HasPrefix(t, "~~~") &&
		!strings.HasPrefix(t, ">") && !(level >= 1 && level <= 6 && len(t) > level && t[level] == ' ')
}

func adfCode(lines []string, i int) (*node, int) {
	first := strings.TrimLeft(lines[i], " \t")
	mark := first[:len(first)-len(strings.TrimLeft(first, first[:1]))]
	var code []string
	for i++; i < len(lines); i++ {
		if end := strings.TrimSpace(lines[i]); strings.HasPrefix(end, mark) && strings.Trim(end, mark[:1]) == "" {
			break
		}
		code = append(code, lines[i])
	}
	return &node{Type: "codeBlock", Content: textNode(strings.Join(code, "\n"))}, min(i, len(lines)-1)
}

// adfList renders a list; what is indented further is a list inside, to a depth of six.
func adfList(lines []string, i int) (*node, int) {
	indent := func(l string) int { return len(l) - len(strings.TrimLeft(l, " \t")) }
	var build func(depth, least int) *node
	build = func(depth, least int) *node {
		mark, _, _ := item(strings.TrimLeft(lines[i], " \t"))
		list := &node{Type: map[string]string{"*": "bulletList", "#": "orderedList"}[mark]}
		for i < len(lines) {
			m, rest, ok := item(strings.TrimLeft(lines[i], " \t"))
			in := indent(lines[i])
			switch {
			case !ok || in < least || in <= least+1 && m != mark:
				return list
			case in > least+1 && depth < 6 && len(list.Content) > 0:
				last := list.Content[len(list.Content)-1]
				last.Content = append(last.Content, build(depth+1, in))
			default:
				list.Content = append(list.Content, &node{Type: "listItem", Content: []*node{paragraph(adfInline(rest, nil, 0))}})
				i++
			}
		}
		return list
	}
	list := build(1, indent(lines[i]))
	return list, i - 1
}

func adfTable(lines []string, i int) (*node, int) {
	t := &node{Type: "table"}
	width := 0
	add := func(l, kind string) {
		row := &node{Type: "tableRow"}
		for _, cell := range cells(l) {
			row.Content = append(row.Content, &node{Type: kind, Content: []*node{paragraph(adfInline(strings.TrimSpace(cell), nil, 0))}})
		}
		for len(row.Content) < max(1, width) {
			row.Content = append(row.Content, &node{Type: kind, Content: []*node{paragraph(nil)}})
		}
		width = max(width, len(row.Content))
		t.Content = append(t.Content, row)
	}
	add(lines[i], "tableHeader")
	for i += 2; i < len(lines) && strings.IndexByte(lines[i], '|') >= 0; i++ {
		add(lines[i], "tableCell")
	}
	return t, i - 1
}

// adfInline renders the Markdown of one line.
func adfInline(s string, marks []adfMark, depth int) []*node {
	var out []*node
	var text []byte
	flush := func() {
		out = append(out, textNode(string(text), marks...)...)
		text = nil
	}
	for i := 0; i < len(s); {
		nodes, n := adfSpan(s, i, marks, depth)
		if n > 0 {
			flush()
			out = append(out, nodes...)
			i += n
			continue
		}
		switch {
		case s[i] == '\\' && i+1 < len(s) && punct(s[i+1]):
			text = append(text, s[i+1])
			i += 2
		case s[i] == '&':
			end := strings.IndexByte(s[i:min(len(s), i+12)], ';')
			if plain := html.UnescapeString(s[i : i+max(0, end)+1]); end > 1 && plain != s[i:i+end+1] {
				text = append(text, strings.Map(dropInvisible, strings.ReplaceAll(plain, "\n", " "))...)
				i += end + 1
				continue
			}
			fallthrough
		default:
			text = append(text, s[i])
			i++
		}
	}
	flush()
	return out
}

// adfSpan renders what begins at i, if it is more than text, and says how long it is.
func adfSpan(s string, i int, marks []adfMark, depth int) ([]*node, int) {
	rest := s[i:]
	switch rest[0] {
	case '`':
		ticks := len(rest) - len(strings.TrimLeft(rest, "`"))
		if end := index(rest[ticks:], rest[:ticks]); end > 0 && strings.TrimSpace(rest[ticks:ticks+end]) != "" {
			return textNode(strings.TrimSpace(rest[ticks:ticks+end]), adfMark{Type: "code"}), ticks + end + ticks
		}
	case '*', '_', '~':
		return adfEmphasis(s, i, marks, depth)
	case '!':
		if len(rest) > 1 && rest[1] == '[' { // an image: linked, never loaded
			if nodes, n := adfLink(rest[1:], marks); n > 0 {
				return nodes, n + 1
			}
		}
	case '[':
		return adfLink(rest, marks)
	case '<':
		if end := index(rest, ">"); end > 1 && !strings.ContainsAny(rest[1:end], " <\t") && linkable(rest[1:end]) {
			return anchorNode("", rest[1:end], marks), end + 1
		}
	case 'h', 'H':
		if (i == 0 || !word(rune(s[i-1]))) && linkable(rest[:min(len(rest), 9)]) {
			end := strings.IndexAny(rest, " \t<>\"'`")
			if end < 0 {
				end = len(rest)
			}
			if u := strings.TrimRight(rest[:end], ".,;:!?)]}*_"); len(u) >= 9 {
				return anchorNode("", u, marks), len(u)
			}
		}
	}
	return nil, 0
}

func adfEmphasis(s string, i int, marks []adfMark, depth int) ([]*node, int) {
	c, rest := s[i], s[i:]
	mark, kind := rest[:1], "em"
	if len(rest) > 1 && rest[1] == c {
		mark, kind = rest[:2], "strong"
		if c == '~' {
			kind = "strike"
		}
	} else if c == '~' {
		return nil, 0
	}
	body := rest[len(mark):]
	inWord := i > 0 && word(rune(s[i-1]))
	if depth >= maxNest || body == "" || body[0] == ' ' || body[0] == c || c == '_' && inWord {
		return nil, 0
	}
	end := index(body, mark)
	if end <= 0 || body[end-1] == ' ' || body[end-1] == '\\' {
		return nil, 0
	}
	if tail := end + len(mark); c == '_' && tail < len(body) && word(rune(body[tail])) {
		return nil, 0
	}
	next := marks
	has := false
	for _, m := range marks {
		has = has || m.Type == kind
	}
	if !has {
		next = append(append([]adfMark{}, marks...), adfMark{Type: kind})
	}
	return adfInline(body[:end], next, depth+1), len(mark) + end + len(mark)
}

func adfLink(s string, marks []adfMark) ([]*node, int) {
	mid := index(s, "](")
	if mid < 1 || strings.IndexByte(s[1:mid], '[') >= 0 {
		return nil, 0
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
		return nil, 0
	}
	target, _, _ := strings.Cut(strings.TrimSpace(rest[:end]), " ")
	label := strings.Trim(html.UnescapeString(unescape(s[1:mid])), " `*_")
	return anchorNode(strings.Map(dropInvisible, label), unescape(strings.Trim(target, "<>")), marks), mid + 2 + end + 1
}

// anchorNode is a link, or label and address as text if the address is none to follow.
func anchorNode(label, target string, marks []adfMark) []*node {
	if !linkable(target) {
		return textNode(strings.TrimSpace(label+" ("+target+")"), marks...)
	}
	if label == "" {
		label = target
	}
	safe := appendURL(nil, target)
	return textNode(label, append(append([]adfMark{}, marks...), adfMark{Type: "link", Attrs: map[string]string{"href": string(safe)}})...)
}
