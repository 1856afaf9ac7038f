package jira

import (
	"encoding/json"
	"strings"
)

// richText is a text for people, before it is rendered as the API wants it: wiki markup in version 2, a document in
// version 3.
type richText struct {
	format string // markdown or text
	text   string
	link   string // address of the alert, shown on top; it must be linkable
	note   string // follows the mark of what is cut
	ref    string // of the mark at the end
	less   int    // how much of Jira's limit is not for it
}

// rich renders a text as a JSON value of at most Jira's limit, and says whether it was cut. A text of nothing is an empty
// string, or null, which clear a field.
func (c *Client) rich(t *richText) (value json.RawMessage, cut bool) {
	if c.cfg.API == apiDocuments {
		return t.document()
	}
	wiki, cut := t.markup()
	return quoted(wiki), cut
}

// wiki renders wiki markup, which the service desk's comments take in any case.
func (t *richText) wiki() string {
	out, _ := t.markup()
	return out
}

func (t *richText) markup() (out string, cut bool) {
	head, tail := "", ""
	if t.link != "" {
		link := appendURL([]byte("[Open the alert|"), t.link)
		head = string(link) + "]\n\n"
	}
	if t.ref != "" {
		tail = "\n\n" + wikiMark(t.ref)
	}
	mark := cutMark
	if t.note != "" {
		mark += " _" + t.note + "_"
	}
	body, cut := renderCut(t.format, t.text, maxText-t.less-units(head)-len(tail), mark)
	if tail != "" {
		body = strings.TrimRight(body, "\n")
	}
	return head + body + tail, cut
}

func (t *richText) document() (json.RawMessage, bool) {
	var head []*node
	if t.link != "" {
		head = []*node{paragraph(anchorNode("Open the alert", t.link, nil))}
	}
	tail := ""
	if t.ref != "" {
		tail = "[" + labelPrefix + t.ref + "]"
	}
	if isBlank(t.text) && head == nil && tail == "" {
		return json.RawMessage("null"), false
	}
	blocks := adfBlocks
	if t.format == "text" {
		blocks = adfLines
	}
	note := cutNote
	if t.note != "" {
		note += " " + t.note
	}
	return adf(t.text, maxText-t.less, head, note, tail, blocks)
}

// isBlank says whether nothing of a text can be seen.
func isBlank(text string) bool { return strings.TrimSpace(textToWiki(text, 1000)) == "" }

// restPath is the path of an operation that takes text for people, in the version of the API that the connection writes.
func (c *Client) restPath(rest string) string {
	if c.cfg.API == apiDocuments {
		return "rest/api/3/" + rest
	}
	return "rest/api/2/" + rest
}

// apiDocuments is the version of the API in which text is a document.
const apiDocuments = 3
