package jira

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestMarkdownToWiki(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ in, want string }{
		"heading":            {"## What happened", "h2. What happened"},
		"bold":               {"a **b** c", "a *b* c"},
		"bold in a word":     {"a**b**c", "a{*}b{*}c"},
		"italic":             {"*a* and _b_", "_a_ and _b_"},
		"nested":             {"**a *b* c**", "*a _b_ c*"},
		"snake case":         {"file_name_here", "file_name_here"},
		"strike":             {"~~old~~", "-old-"},
		"code":               {"run `a|b {c}` now", `run {{a\|b \{c\}}} now`},
		"unclosed":           {"**a and `b", "\\*\\*a and `b"},
		"fence":              {"```kql\nT | where x\n```\nafter", "{noformat}\nT | where x\n{noformat}\nafter"},
		"fence breakout":     {"```\n{noformat}\n{code}\n```", "{noformat}\n{ noformat}\n{code}\n{noformat}"},
		"unclosed fence":     {"```\nx", "{noformat}\nx\n{noformat}"},
		"list":               {"- a\n  - b\n1. c", "* a\n** b\n# c"},
		"quote":              {"> a\n> b", "bq. a\nbq. b"},
		"rule":               {"a\n\n---\nb", "a\n\n----\nb"},
		"link":               {"[text](https://x.example/a?b=c)", "[text|https://x.example/a?b=c]"},
		"link with brackets": {"[t](https://x.example/(a)|b)", "[t|https://x.example/(a)%7Cb]"},
		"script link":        {"[click](javascript:alert(1))", "click (javascript:alert(1))"},
		"image":              {"![pixel](https://x.example/p.png)", "[pixel|https://x.example/p.png]"},
		"label tricks":       {"[!http://e.example/x.png!](https://x.example)", "[.http://e.example/x.png.|https://x.example]"},
		"autolink":           {"<https://x.example/a_b>", "[https://x.example/a_b]"},
		"bare link":          {"see https://x.example/~a.", "see [https://x.example/~a]."},
		"table":              {"| a | b |\n|---|:-:|\n| 1 | x\\|y |", "||a||b||\n|1|x\\|y|"},
		"table empty cell":   {"a|b\n-|-\n|c", "||a||b||\n|c|"},
		"escapes":            {`\*not bold\* \\ x`, `\*not bold\* &#92; x`},
		"entities":           {"&lt;b&gt; &amp; &#123;code&#125;", `<b> & \{code\}`},
		"macro":              {"{html}<script>{html}", `\{html\}<script>\{html\}`},
		"mention":            {"[~admin] !x.png!", `\[\~admin\] \!x.png!`},
		"windows path":       {`C:\Users\bob`, `C:\Users\bob`},
		"heading like":       {"h1. no", `h1\. no`},
		"list like":          {"# a", "h1. a"},
		"hash alone":         {"#a", `\#a`},
		"icon":               {"see (x) and :)", `see \(x) and \:)`},
		"crlf":               {"a\r\nb\rc", "a\nb\nc"},
		"bidi":               {"a\u202eb\u200bc\x00d", "abcd"},
		"html":               {"<img src=x onerror=y>", "<img src=x onerror=y>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, markdownToWiki(tt.in, maxText)); diff != "" {
				t.Errorf("markdownToWiki(%q) (-want +got):\n%s", tt.in, diff)
			}
		})
	}
}

func TestTextToWiki(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"**no markdown** here": `\*\*no markdown\*\* here`,
		`\\server\share`:       `&#92;\server\share`,
		"- item\n1 - 2":        `\- item` + "\n1 - 2",
		"sign-in a_b x*y":      "sign-in a_b x*y",
		"a -- b --- c":         `a \-\- b \-\-\- c`,
		"{code}x{code}":        `\{code\}x\{code\}`,
		"what? really??":       `what? really\?\?`,
		"&#123;":               `\&#123;`,
		"bq. quote":            `bq\. quote`,
		"| a |":                `\| a \|`,
		"----":                 `\-\-\-\-`,
	} {
		if got := textToWiki(in, maxText); got != want {
			t.Errorf("textToWiki(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTextIsCutWithAMark(t *testing.T) {
	t.Parallel()
	exact := strings.Repeat("a", maxText)
	if got := textToWiki(exact, maxText); got != exact {
		t.Errorf("a text of exactly the limit was changed to %d characters", len(got))
	}
	for name, in := range map[string]string{
		"one line":     strings.Repeat("a", maxText+1),
		"lines":        strings.Repeat("some line\n", 5000),
		"escapes":      strings.Repeat("{", 20000),
		"backslashes":  strings.Repeat(`\\ `, 12000),
		"wide":         strings.Repeat("😀", 20000),
		"open fence":   "```\n" + strings.Repeat("code {noformat} line\n", 4000),
		"giant":        strings.Repeat("word ", 1<<18),
		"long fenced":  "```\n" + strings.Repeat("x", maxText*2) + "\n```",
		"spaces first": strings.Repeat(" \n", 200000) + "x",
	} {
		got := markdownToWiki(in, maxText)
		if n := units(got); n > maxText {
			t.Errorf("%s: %d units, over the limit", name, n)
		}
		if !strings.HasSuffix(got, cutMark) {
			t.Errorf("%s: no mark at the end: …%q", name, got[max(0, len(got)-80):])
		}
		if strings.Count(got, "\n"+fence)%2 != 0 && !strings.HasPrefix(got, fence) {
			t.Errorf("%s: a block stays open", name)
		}
		body := strings.TrimSuffix(got, "\n"+cutMark)
		if strings.HasSuffix(body, `\`) || strings.HasSuffix(body, "&#9") {
			t.Errorf("%s: half an escape before the mark: …%q", name, body[len(body)-10:])
		}
	}
}

// unwiki undoes what appendText does, as the renderer would.
func unwiki(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "&#92;"):
			b.WriteByte('\\')
			i += len("&#92;") - 1
		case s[i] == '\\' && i+1 < len(s) && punct(s[i+1]):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func FuzzTextToWiki(f *testing.F) {
	for _, s := range []string{"", "plain", `\\x\y\`, "{code}", "[a|b]", "!x!", "h1. x", "  bq. x", "(x) :) &amp; &#92;", "a\u202e", "--- * _", "é*ü*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := textToWiki(in, maxText)
		if !utf8.ValidString(out) {
			t.Fatalf("not UTF-8: %q", out)
		}
		if n := units(out); n > maxText {
			t.Fatalf("%d units", n)
		}
		if strings.HasSuffix(out, cutMark) {
			return
		}
		clean := strings.ToValidUTF8(in, "\uFFFD")
		clean = strings.ReplaceAll(strings.ReplaceAll(clean, "\r\n", "\n"), "\r", "\n")
		clean = strings.TrimRight(strings.Map(dropInvisible, clean), " \t\n")
		if got := unwiki(out); got != clean {
			t.Fatalf("shown as %q, want %q (source %q)", got, clean, out)
		}
		for i := range len(out) {
			if strings.IndexByte("{}[]|^~", out[i]) >= 0 && (i == 0 || out[i-1] != '\\') {
				t.Fatalf("active %q at %d of %q", out[i], i, out)
			}
		}
	})
}

func FuzzMarkdownToWiki(f *testing.F) {
	for _, s := range []string{"**a**", "`a`", "```\nx\n```", "[a](b)", "![a](http://b)", "| a |\n|-|\n|b|", "> q", "- a\n - b", "***a***", "~~~\n{noformat}", "<http://x>", "&lt;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := markdownToWiki(in, 2000)
		if !utf8.ValidString(out) {
			t.Fatalf("not UTF-8: %q", out)
		}
		if n := units(out); n > 2000 {
			t.Fatalf("%d units", n)
		}
		// Outside of blocks, the only braces that mean something are those of monospaced text and of emphasis in a word.
		block := false
		for l := range strings.Lines(out) {
			l = strings.TrimSuffix(l, "\n")
			if l == fence {
				block = !block
				continue
			}
			if block {
				if strings.Contains(l, "{noformat") {
					t.Fatalf("a block can be left early: %q", out)
				}
				continue
			}
			for i := strings.IndexByte(l, '{'); i >= 0 && i < len(l); i++ {
				if l[i] != '{' || i > 0 && l[i-1] == '\\' {
					continue
				}
				rest := l[i:]
				if strings.HasPrefix(rest, "{{") {
					i++
				} else if !strings.HasPrefix(rest, "{*}") && !strings.HasPrefix(rest, "{_}") && !strings.HasPrefix(rest, "{-}") {
					t.Fatalf("an active brace in %q", l)
				}
			}
		}
		if block {
			t.Fatalf("a block stays open: %q", out)
		}
	})
}
