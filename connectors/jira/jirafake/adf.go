package jirafake

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// adfNode is a node of the Atlassian Document Format.
type adfNode struct {
	Type    string                     `json:"type"`
	Version int                        `json:"version"`
	Attrs   map[string]json.RawMessage `json:"attrs"`
	Content []*adfNode                 `json:"content"`
	Text    *string                    `json:"text"`
	Marks   []struct {
		Type  string                     `json:"type"`
		Attrs map[string]json.RawMessage `json:"attrs"`
	} `json:"marks"`
}

// adfInside says which nodes may stand in which, after "Atlassian Document Format, structure", as far as texts of alerts
// need it.
var adfInside = map[string][]string{
	"doc":         {"paragraph", "heading", "bulletList", "orderedList", "codeBlock", "blockquote", "rule", "table"},
	"paragraph":   {"text", "hardBreak"},
	"heading":     {"text", "hardBreak"},
	"bulletList":  {"listItem"},
	"orderedList": {"listItem"},
	"listItem":    {"paragraph", "bulletList", "orderedList", "codeBlock"},
	"codeBlock":   {"text"},
	"blockquote":  {"paragraph", "bulletList", "orderedList", "codeBlock"},
	"table":       {"tableRow"},
	"tableRow":    {"tableHeader", "tableCell"},
	"tableHeader": {"paragraph", "heading", "bulletList", "orderedList", "codeBlock", "blockquote", "rule"},
	"tableCell":   {"paragraph", "heading", "bulletList", "orderedList", "codeBlock", "blockquote", "rule"},
	"rule":        {}, "hardBreak": {}, "text": {},
}

// adfFilled must not be empty.
var adfFilled = []string{"bulletList", "orderedList", "listItem", "blockquote", "table", "tableRow", "tableHeader", "tableCell"}

// CheckADF says what is wrong with a document, and what it says as plain text.
func CheckADF(raw []byte) (plain string, err error) {
	var doc adfNode
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", fmt.Errorf("no document: %w", err)
	}
	if doc.Type != "doc" || doc.Version != 1 {
		return "", fmt.Errorf("the root is %q of version %d", doc.Type, doc.Version)
	}
	var b strings.Builder
	if err := doc.check(&b); err != nil {
		return "", err
	}
	return strings.TrimRight(b.String(), "\n"), nil
}

func (n *adfNode) check(b *strings.Builder) error {
	inside, known := adfInside[n.Type]
	switch {
	case !known:
		return fmt.Errorf("node %q is unknown", n.Type)
	case n.Type == "text" && (n.Text == nil || *n.Text == ""):
		return errors.New("a text is empty")
	case n.Type != "text" && n.Text != nil:
		return fmt.Errorf("%s has a text", n.Type)
	case n.Type != "text" && len(n.Marks) > 0:
		return fmt.Errorf("%s has marks", n.Type)
	case slices.Contains(adfFilled, n.Type) && len(n.Content) == 0:
		return fmt.Errorf("%s is empty", n.Type)
	case n.Type == "listItem" && n.Content[0].Type != "paragraph" && n.Content[0].Type != "codeBlock":
		return fmt.Errorf("listItem begins with %s", n.Content[0].Type)
	case n.Type == "heading" && (len(n.Attrs["level"]) != 1 || n.Attrs["level"][0] < '1' || n.Attrs["level"][0] > '6'):
		return fmt.Errorf("heading has level %s", n.Attrs["level"])
	}
	seen := map[string]bool{}
	for _, m := range n.Marks {
		switch {
		case !slices.Contains([]string{"strong", "em", "strike", "code", "link"}, m.Type):
			return fmt.Errorf("mark %q is unknown", m.Type)
		case seen[m.Type]:
			return fmt.Errorf("mark %s stands twice", m.Type)
		}
		seen[m.Type] = true
		if href, _ := text(m.Attrs["href"]); m.Type == "link" && !strings.HasPrefix(strings.ToLower(href), "http") && !strings.HasPrefix(strings.ToLower(href), "mailto:") {
			return fmt.Errorf("link to %q", href)
		}
	}
	if seen["code"] && len(n.Marks) > 1 && !(len(n.Marks) == 2 && seen["link"]) {
		return errors.New("code together with other marks")
	}
	if n.Text != nil {
		b.WriteString(*n.Text)
	}
	for _, c := range n.Content {
		if !slices.Contains(inside, c.Type) {
			return fmt.Errorf("%s stands in %s", c.Type, n.Type)
		}
		if n.Type == "codeBlock" && len(c.Marks) > 0 {
			return errors.New("marks in a codeBlock")
		}
		if err := c.check(b); err != nil {
			return err
		}
	}
	if n.Type == "hardBreak" || len(inside) > 0 && inside[0] == "text" {
		b.WriteByte('\n')
	}
	return nil
}

// isV3 says whether a request is of version 3 of the API, in which rich text is a document.
func isV3(r *http.Request) bool { return strings.Contains(r.URL.Path, "/rest/api/3/") }

// flatten makes texts of the documents in a version 3 request: from here on the fake knows text only. It returns Jira's
// errors map.
func flatten(fields map[string]json.RawMessage) map[string]string {
	bad := map[string]string{}
	for name, raw := range fields {
		if name == "description" || name == "environment" || strings.HasPrefix(string(raw), `{"type":"doc"`) {
			if string(raw) == "null" {
				continue
			}
			plain, err := CheckADF(raw)
			switch {
			case err != nil:
				bad[name] = "Operation value must be an Atlassian Document (see the Atlassian Document Format): " + err.Error()
			case length(string(raw)) > maxText:
				bad[name] = "The entered text is too long. It exceeds the allowed limit of 32,767 characters."
			default:
				enc, err := json.Marshal(plain)
				if err != nil {
					bad[name] = err.Error()
				}
				fields[name] = enc
			}
		}
	}
	return bad
}

// flattenBody is flatten for a comment, or for the edits of an issue.
func flattenBody(r *http.Request, obj map[string]json.RawMessage) map[string]string {
	if !isV3(r) {
		return nil
	}
	if raw, ok := obj["body"]; ok {
		body := map[string]json.RawMessage{"description": raw}
		bad := flatten(body)
		obj["body"] = body["description"]
		return bad
	}
	bad := map[string]string{}
	if fields, ok := decodeObject(obj["fields"]); ok {
		bad = flatten(fields)
		obj["fields"] = mustJSON(fields)
	}
	update, ok := decodeObject(obj["update"])
	if !ok {
		return bad
	}
	var ops []map[string]map[string]json.RawMessage
	if json.Unmarshal(update["comment"], &ops) == nil {
		for _, op := range ops {
			for _, c := range op {
				body := map[string]json.RawMessage{"description": c["body"]}
				for _, why := range flatten(body) {
					bad["comment"] = why
				}
				c["body"] = body["description"]
			}
		}
		update["comment"] = mustJSON(ops)
		obj["update"] = mustJSON(update)
	}
	return bad
}

// mustJSON encodes what was decoded before.
func mustJSON(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return raw
}
