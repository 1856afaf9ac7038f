package jira

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

func document(t *testing.T, in *richText) (doc string, plain string) {
	t.Helper()
	raw, _ := in.document()
	if string(raw) == "null" {
		return "null", ""
	}
	plain, err := jirafake.CheckADF(raw)
	if err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	var root struct{ Content json.RawMessage }
	if err := json.Unmarshal(raw, &root); err != nil {
		t.Fatal(err)
	}
	return string(root.Content), plain
}

func TestMarkdownBecomesADocument(t *testing.T) {
	t.Parallel()
	text := func(s string) string { return fmt.Sprintf(`{"type":"text","text":%q}`, s) }
	p := func(inner string) string { return `{"type":"paragraph","content":[` + inner + `]}` }
	for src, want := range map[string]string{
		"plain":                         p(text("plain")),
		"":                              "",
		"one\ntwo":                      p(text("one") + `,{"type":"hardBreak"},` + text("two")),
		"## Head ##":                    `{"type":"heading","attrs":{"level":2},"content":[` + text("Head") + `]}`,
		"a **b** c":                     p(text("a ") + `,{"type":"text","text":"b","marks":[{"type":"strong"}]},` + text(" c")),
		"**a *b***":                     p(`{"type":"text","text":"a *b","marks":[{"type":"strong"}]},` + text("*")),
		"`x {code}`":                    p(`{"type":"text","text":"x {code}","marks":[{"type":"code"}]}`),
		"[t](https://x.example)":        p(`{"type":"text","text":"t","marks":[{"type":"link","attrs":{"href":"https://x.example"}}]}`),
		"[t](javascript:x)":             p(text("t (javascript:x)")),
		"![i](https://x.example/i.png)": p(`{"type":"text","text":"i","marks":[{"type":"link","attrs":{"href":"https://x.example/i.png"}}]}`),
		"[~admin] {html}h1. x":          p(text("[~admin] {html}h1. x")),
		"snake_case_name &lt; \\*":      p(`{"type":"text","text":"snake_case_name \u003c *"}`),
		"---":                           `{"type":"rule"}`,
		"> q":                           `{"type":"blockquote","content":[` + p(text("q")) + `]}`,
		"```\nx\n**y**\n```":            `{"type":"codeBlock","content":[` + text("x\\n**y**") + `]}`,
		"```":                           `{"type":"codeBlock"}`,
		"- a\n  - b\n- c": `{"type":"bulletList","content":[{"type":"listItem","content":[` + p(text("a")) + `,{"type":"bulletList","content":[{"type":"listItem","content":[` +
			p(text("b")) + `]}]}]},{"type":"listItem","content":[` + p(text("c")) + `]}]}`,
		"1. a\n2. b": `{"type":"orderedList","content":[{"type":"listItem","content":[` + p(text("a")) + `]},{"type":"listItem","content":[` + p(text("b")) + `]}]}`,
		"| a | b |\n|---|---|\n| c |": `{"type":"table","content":[{"type":"tableRow","content":[{"type":"tableHeader","content":[` + p(text("a")) +
			`]},{"type":"tableHeader","content":[` + p(text("b")) + `]}]},{"type":"tableRow","content":[{"type":"tableCell","content":[` + p(text("c")) +
			`]},{"type":"tableCell","content":[{"type":"paragraph"}]}]}]}`,
	} {
		got, _ := document(t, &richText{format: "markdown", text: src})
		if want = strings.ReplaceAll(want, `\\n`, `\n`); want == "" {
			want = "null"
		} else {
			want = "[" + want + "]"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q:\n%s", src, diff)
		}
	}
}

func TestDocumentsKeepTheLimit(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"markdown", "text"} {
		for _, src := range []string{strings.Repeat("é😀\"\\ ", 9000), strings.Repeat("- **x**\n", 9000), strings.Repeat("| a | b |\n|---|---|\n", 3000)} {
			raw, cut := (&richText{format: format, text: src, ref: "r", link: "https://x.example", note: "See there."}).document()
			plain, err := jirafake.CheckADF(raw)
			if err != nil || !cut || units(string(raw)) > maxText || !strings.HasSuffix(plain, "[cw-r]") || !strings.Contains(plain, "See there.") ||
				!strings.HasPrefix(plain, "Open the alert") || units(string(raw)) < maxText/2 {
				t.Errorf("%s: %d units, cut %v, %v", format, units(string(raw)), cut, err)
			}
		}
	}
}

func FuzzADFIsValidByConstruction(f *testing.F) {
	for _, s := range []string{"# h", "- a\n    - b\n\t1. c", "|a|\n|-|\n|b|c|", "```x\n", "**_`~~[a](b)~~`_**", "> > x\n>", "&#0;&lt;", "h\xff", "*a**b*", "<https://x>", "- \n-  x\n>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, format := range []string{"markdown", "text"} {
			raw, _ := (&richText{format: format, text: s, ref: "r"}).document()
			if _, err := jirafake.CheckADF(raw); err != nil || !utf8.Valid(raw) || units(string(raw)) > maxText {
				t.Fatalf("%s: %v in %.500s", format, err, raw)
			}
		}
	})
}

func TestLifeOfAnIssueInDocuments(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{Projects: richProject()}, func(c *Config) { c.API, c.IssueType = 3, "Incident" })
	first := must[Ensured](t, h, ensure(with("url", "https://portal.example/1"), with("fields", map[string]any{"Team": "Red", "Notes": "**n**"})))
	fields := fake.Issue(first.Key)["fields"].(map[string]any)
	if got := fmt.Sprint(plainJSON(t, fields["description"])); got != "Open the alert\nwho: root" {
		t.Errorf("description %q", got)
	}
	if got := fmt.Sprint(plainJSON(t, fields["customfield_10009"])); got != "n" {
		t.Errorf("notes %q", got)
	}
	c := ensure(with("url", "https://portal.example/1"), with("fields", map[string]any{"Team": "Red", "Notes": "m"}), with("comment_on_update", "*c*"))
	c.Prior = first
	if got := must[Ensured](t, h, c); !got.Updated || fake.Ledger().Comments != 1 {
		t.Errorf("update: %+v", got)
	}
	cm := must[Commented](t, h, comments(with("issue", first.Key)))
	if again := must[Commented](t, h, comments(with("issue", first.Key), func(c *sdktest.Call) { c.Attempt = 2 })); again.ID != cm.ID {
		t.Errorf("comment: %+v after %+v", again, cm)
	}
	edit := comments(with("issue", first.Key), with("text", "other"))
	edit.Prior = cm
	if got := must[Commented](t, h, edit); !got.Updated {
		t.Errorf("comment: %+v", got)
	}
	must[Updated](t, h, sdktest.Call{Action: "issue.update", Input: map[string]any{"issue": first.Key, "description": "**new**"}})
	if got := must[Transitioned](t, h, sdktest.Call{Action: "issue.transition", Input: map[string]any{"issue": first.Key, "to": "done", "comment": "bye"}}); !got.Closed {
		t.Errorf("transition: %+v", got)
	}
	_, dc := fakeJira(t, jirafake.Options{DataCenter: true}, func(c *Config) { c.API = 3 })
	if _, err := do[Ensured](t, dc, ensure()); asError(t, err).Class() != plugin.ClassConfig {
		t.Errorf("on Data Center: %v", err)
	}
}
