package yamldoc

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/casewire/casewire/host/diag"
)

var yamlError = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s*)?(?:line (\d+): )?(?s:(.*))$`)

var unknownAnchor = regexp.MustCompile(`^unknown anchor '([^']+)'`)

// explain turns the YAML library's error into one that says what to do.
func (d *document) explain(out *diag.List, err error) {
	line, text := 0, err.Error()
	if m := yamlError.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	line, col, hint := d.cause(line, text)
	out.Errorf(diag.Pos{File: d.file, Line: line, Col: col}, "", hint, "not valid YAML: %s", text)
}

// cause looks for the usual culprits on and before the line that the library names.
func (d *document) cause(line int, text string) (int, int, string) {
	line = min(max(line, 1), len(d.lines))
	// The library is often one line late, sometimes one early.
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		for i, l := range d.lines {
			if at := strings.Index(l, "*"+m[1]); at >= 0 {
				return i + 1, runeCol(l, at), "define it with &" + m[1] + " before it is used; quote the value if no alias is meant"
			}
		}
	}
	near := []int{line}
	for _, l := range []int{line - 1, line + 1} {
		if l >= 1 && l <= len(d.lines) {
			near = append(near, l)
		}
	}
	for _, l := range near {
		s := d.lines[l-1]
		if i := len(s) - len(strings.TrimLeft(s, " ")); i < len(s) && s[i] == '\t' {
			return l, i + 1, "indent with spaces: YAML forbids tabs"
		}
	}
	for _, l := range near {
		s := d.lines[l-1]
		i := strings.Index(s, "${{")
		if i < 0 || quoted(s, i) {
			continue
		}
		col := runeCol(s, i)
		before := strings.TrimSpace(s[:i])
		switch {
		case strings.ContainsAny(before, "{["):
			return l, col, `inside { } or [ ] an expression must be in quotes: "${{ … }}"`
		case strings.Contains(text, "mapping values") && strings.Contains(s[i:], ": "):
			return l, col, "an expression that contains \": \" must be in quotes: '${{ … }}'"
		default:
			return l, col, "put the value in quotes: '${{ … }}'"
		}
	}
	for _, l := range near {
		s := d.lines[l-1]
		key, value, ok := strings.Cut(s, ": ")
		value = strings.TrimSpace(value)
		if !ok || value == "" {
			continue
		}
		col := runeCol(s, len(key)+2)
		switch {
		case strings.Contains(text, "mapping values") && strings.Contains(value, ": ") && !strings.ContainsAny(value[:1], `"'{[|>`):
			return l, col, "a value that contains \": \" must be in quotes"
		case strings.ContainsAny(value[:1], "@`%&*!|>"):
			return l, col, "a value that begins with " + value[:1] + " must be in quotes"
		case strings.HasPrefix(value, "{{"):
			return l, col, `expressions are written "${{ … }}"`
		case strings.HasPrefix(value, "[") && !strings.Contains(value, "]"), strings.HasPrefix(value, "{") && !strings.Contains(value, "}"):
			return l, col, "close the " + value[:1] + ", or put the whole value in quotes"
		case strings.HasPrefix(value, "[") && !strings.HasSuffix(value, "]"), strings.HasPrefix(value, "{") && !strings.HasSuffix(value, "}"),
			(value[0] == '"' || value[0] == '\'') && (len(value) == 1 || value[len(value)-1] != value[0]):
			return l, col, "put the whole value in quotes"
		}
	}
	s := d.lines[line-1]
	hint := ""
	switch {
	case strings.Contains(text, "did not find expected key"), strings.Contains(text, "did not find expected '-' indicator"),
		strings.Contains(text, "block sequence entries are not allowed"), strings.Contains(text, "mapping values"):
		hint = "check the indentation here and on the lines before"
	case strings.Contains(text, "could not find expected ':'"):
		hint = "a key must be followed by a colon and a space"
	case strings.Contains(text, "unexpected end of stream"), strings.Contains(text, "found unexpected end"):
		hint = "a quote or bracket is not closed"
	}
	return line, runeCol(s, len(s)-len(strings.TrimLeft(s, " \t"))), hint
}

func quoted(s string, i int) bool {
	before := s[:i]
	return strings.Count(before, `"`)%2 == 1 || strings.Count(before, `'`)%2 == 1
}

func runeCol(s string, i int) int { return len([]rune(s[:min(i, len(s))])) + 1 }
