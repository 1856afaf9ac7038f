package jira

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// Comments on one issue that wait for Jira's limits are joined when there are many: one comment holds them all, each with
// its mark, and a line between. Otherwise a hundred alerts of one incident would mean a hundred mails to its watchers, and
// minutes until the last one can be read. As long as few wait, and always while nothing has to wait, each is a comment of
// its own.
//
// Exactly once holds as it does for a single one. The mark of every key is in the joined comment, so that an attempt
// whose answer was lost finds its own, whoever wrote it and whatever crashed meanwhile. A call that ends while its request
// goes on for others has an uncertain outcome; its next attempt waits until that request has ended before it looks. And
// when a key changes its text later, only its part of the comment is replaced.

const (
	// maxSingle is the most comments that may wait for an issue and still be comments of their own.
	maxSingle = 5
	// maxJoined is the most text in a joined comment, counted as Jira does; the rest is room for changes.
	maxJoined = 24_000
)

// commentPart is a comment that may become a part of one.
type commentPart struct {
	ref   string
	value json.RawMessage // with its mark
}

func (c *Client) joinedComments() *gathering {
	return &gathering{choose: chooseComments, body: c.joinComments, divide: func(members []*waitingWrite, _ *sdk.Error) (a, b []*waitingWrite) {
		return halves(members)
	}}
}

// postComment adds a comment: at once if Jira's limits allow, else with those that wait, too.
func (c *Client) postComment(ctx context.Context, issue, role string, r *request, part *commentPart) written {
	w := &waitingWrite{ctx: ctx, r: r, comment: part, done: make(chan written, 1)}
	key := c.pace.name(issue) + " " + role
	if !c.comments.open(key) {
		now := *r
		now.steps = true
		var made comment
		err := c.do(ctx, &now, &made)
		if err == nil && !digits(made.ID) {
			err = c.unknown(r, "Jira's answer names no comment")
		}
		if !errors.Is(err, errStepAside) {
			return written{id: made.ID, together: 1, err: err}
		}
	}
	if c.comments.push(key, w) {
		go c.comments.drain(c, key)
	}
	return c.comments.wait(ctx, c, key, w)
}

// chooseComments takes the comment that has waited longest, and when many wait, those after it for which there is room.
func chooseComments(waiting []*waitingWrite) (members, stay []*waitingWrite) {
	if len(waiting) <= maxSingle {
		return waiting[:1:1], slices.Clone(waiting[1:])
	}
	size := 0
	for _, w := range waiting {
		n := length(w.comment.value) + 20 // and the line between
		if len(members) > 0 && (len(members) == maxTogether || size+n > maxJoined) {
			stay = append(stay, w)
			continue
		}
		size += n
		members = append(members, w)
	}
	return members, stay
}

// joinComments is the comment that the members make together.
func (c *Client) joinComments(members []*waitingWrite) any {
	first, _ := members[0].r.body.(*commentBody)
	mark := property{V: 1, Ref: members[0].comment.ref}
	parts := make([]json.RawMessage, 0, len(members))
	for _, w := range members {
		parts = append(parts, w.comment.value)
		if w != members[0] {
			mark.Refs = append(mark.Refs, w.comment.ref)
		}
	}
	joined := commentBody{Body: joinTexts(parts), Properties: []entityProperty{{Key: commentProperty, Value: mark}}}
	if first != nil {
		joined.Visibility = first.Visibility
	}
	return &joined
}

// wikiRule is a line across, in wiki markup.
const wikiRule = "----"

// joinTexts puts rendered texts, which are all wiki markup or all documents, under one another.
func joinTexts(parts []json.RawMessage) json.RawMessage {
	var texts []string
	doc := &adfDoc{Type: "doc", Version: 1}
	for i, p := range parts {
		var text string
		if json.Unmarshal(p, &text) == nil {
			texts = append(texts, text)
			continue
		}
		var d adfDoc
		if json.Unmarshal(p, &d) != nil {
			continue // rendered here, so that it is one of the two
		}
		if i > 0 {
			doc.Content = append(doc.Content, encoded(&node{Type: "rule"}))
		}
		doc.Content = append(doc.Content, d.Content...)
	}
	if len(texts) > 0 {
		return quoted(strings.Join(texts, "\n\n"+wikiRule+"\n\n"))
	}
	return encoded(doc)
}

// adfDoc is a rich text of version 3 of the API by its blocks.
type adfDoc struct {
	Type    string            `json:"type"`
	Version int               `json:"version"`
	Content []json.RawMessage `json:"content"`
}

// length counts a rendered text as Jira does.
func length(value json.RawMessage) int {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return units(text)
	}
	return units(string(value))
}

// markOf is the ref of a line that is a mark and nothing else, as it was written or as Jira gives it back; else empty.
func markOf(line string) string {
	ref, ok := strings.CutPrefix(strings.Trim(line, " \t\r\\[]"), labelPrefix)
	if !ok || !isRef(ref) {
		return ""
	}
	return ref
}

// marksIn are the refs of all marks in a comment.
func marksIn(wiki string) (refs []string) {
	for line := range strings.SplitSeq(wiki, "\n") {
		if ref := markOf(line); ref != "" {
			refs = append(refs, ref)
		}
	}
	return refs
}

// blockMark is markOf for a block of a document.
func blockMark(block json.RawMessage) string {
	var n struct {
		Type    string `json:"type"`
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	if json.Unmarshal(block, &n) != nil || n.Type != "paragraph" {
		return ""
	}
	var text strings.Builder
	for _, c := range n.Content {
		text.WriteString(c.Text)
	}
	return markOf(text.String())
}

// part finds the lines or blocks of a joined comment that belong to ref: from after the mark before, and the line across,
// to its own mark. The comment ends with a mark, unless people have written below.
func part[T any](all []T, ref string, mark func(T) string, between func(T) bool) (from, to int, ok bool) {
	for i := range all {
		switch mark(all[i]) {
		case "":
		case ref:
			for from < i && between(all[from]) {
				from++
			}
			return from, i + 1, true
		default:
			from = i + 1
		}
	}
	return 0, 0, false
}

// replacePart puts another text in the place of ref's in a joined comment, and says how long the rest is.
func replacePart(body json.RawMessage, ref string, with json.RawMessage) (out json.RawMessage, rest int, ok bool) {
	var text, mine string
	if json.Unmarshal(body, &text) == nil {
		lines := strings.Split(text, "\n")
		from, to, ok := part(lines, ref, markOf, func(l string) bool {
			l = strings.TrimSpace(l)
			return l == "" || l == wikiRule
		})
		if !ok || json.Unmarshal(with, &mine) != nil {
			return nil, 0, false
		}
		rest = units(text) - units(strings.Join(lines[from:to], "\n"))
		return quoted(strings.Join(slices.Concat(lines[:from], []string{mine}, lines[to:]), "\n")), rest, true
	}
	var doc, next adfDoc
	if json.Unmarshal(body, &doc) != nil || json.Unmarshal(with, &next) != nil {
		return nil, 0, false
	}
	from, to, ok := part(doc.Content, ref, blockMark, func(b json.RawMessage) bool {
		var n node
		return json.Unmarshal(b, &n) == nil && n.Type == "rule"
	})
	if !ok {
		return nil, 0, false
	}
	doc.Content = slices.Concat(doc.Content[:from], doc.Content[to:])
	rest = units(string(encoded(doc)))
	doc.Content = slices.Insert(doc.Content, from, next.Content...)
	return encoded(doc), rest, true
}

// editJoined changes this key's part of a comment that it shares with others.
func (c *Client) editJoined(ctx context.Context, prior Commented, text *richText) error {
	// Two that change the same comment at once would undo each other's change.
	select {
	case c.joined <- struct{}{}:
		defer func() { <-c.joined }()
	case <-ctx.Done():
		return ctx.Err()
	}
	path := c.restPath("issue/" + prior.Issue + "/comment/" + prior.ID)
	var is struct {
		Body json.RawMessage `json:"body"`
	}
	if err := c.do(ctx, &request{verb: "read comment on issue", noun: prior.Issue, method: http.MethodGet, path: path}, &is); err != nil {
		return err
	}
	value, _ := c.rich(text)
	body, rest, ok := replacePart(is.Body, text.ref, value)
	if ok && length(body) > maxText {
		shorter := *text
		shorter.less = min(rest+100, maxText-1000)
		value, _ = c.rich(&shorter)
		body, _, ok = replacePart(is.Body, text.ref, value)
	}
	if !ok {
		return sdk.Invalid("", "comment %s on %s holds the texts of several keys, and the mark [%s%s] is not in it any more: it was edited by hand, and is left as it is",
			prior.ID, prior.Issue, labelPrefix, text.ref)
	}
	return c.do(ctx, &request{
		verb: "change comment on issue", noun: prior.Issue, method: http.MethodPut, path: path, body: &commentBody{Body: body}, outcome: repeatable,
	}, nil)
}
