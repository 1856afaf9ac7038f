package jira

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// CommentInput is a comment for an issue.
type CommentInput struct {
	Issue  string `json:"issue" cw:"required" doc:"Key or id of the issue" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	Text   string `json:"text" cw:"required" doc:"What to say; cut to 32,767 characters of wiki markup"`
	Format string `json:"format,omitempty" doc:"What text is written in" enum:"markdown,text" default:"markdown"`
	// Role restricts who sees the comment.
	Role     string `json:"role,omitempty" doc:"Show the comment to this project role only"`
	Internal *bool  `json:"internal,omitempty" doc:"On a request of a service desk: true shows the comment to agents only, false to the customer too. Leave it out elsewhere"`
}

// Commented is the comment.
type Commented struct {
	ID          string `json:"id" doc:"Id of the comment"`
	Issue       string `json:"issue" doc:"The issue, as it was given"`
	URL         string `json:"url,omitempty" doc:"Where people read it"`
	Created     bool   `json:"created" doc:"This key made the comment"`
	Updated     bool   `json:"updated" doc:"The comment was changed"`
	ContentHash string `json:"content_hash" doc:"Over the text as last written"`
	Joined      bool   `json:"joined,omitempty" doc:"Many waited to comment on the issue, and it was written as one with others"`
}

// commentProperty names the property that a comment carries beside its visible mark.
const commentProperty = "casewire.c"

type commentBody struct {
	Body       json.RawMessage  `json:"body"` // rendered
	Visibility *visibility      `json:"visibility,omitempty"`
	Properties []entityProperty `json:"properties,omitempty"`
}

type visibility struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type comment struct {
	ID      string `json:"id"`
	Body    string `json:"body"`
	Created string `json:"created"`
}

type commentPage struct {
	Comments   []comment `json:"comments"`
	StartAt    int       `json:"startAt"`
	MaxResults int       `json:"maxResults"`
	Total      int       `json:"total"`
}

// Comment adds a comment once per key. It ends with the mark [cw-<ref>], by which it is found again: lists of comments
// carry no properties. The same key with another text changes the comment.
func (c *Client) Comment(ctx context.Context, in CommentInput) (Commented, error) {
	call := sdk.CallFrom(ctx)
	if call.Key == "" {
		return Commented{}, sdk.Invalid("", "issue.comment needs a key: the same key never comments twice")
	}
	if !issueRef(in.Issue) {
		return Commented{}, sdk.Invalid("/issue", "%q is neither an issue's key nor its id", in.Issue)
	}
	if in.Internal != nil && in.Role != "" {
		return Commented{}, sdk.Invalid("/role", "goes not together with internal: the service desk knows agents and customers only")
	}
	ref := caseRef(call.Key)
	if isBlank(in.Text) {
		return Commented{}, sdk.Invalid("/text", "is empty")
	}
	text := &richText{format: in.Format, text: in.Text, ref: ref}
	value, _ := c.rich(text)
	out := Commented{Issue: in.Issue, ContentHash: digest(string(value))}
	body := &commentBody{Body: value, Properties: []entityProperty{{Key: commentProperty, Value: property{V: 1, Ref: ref}}}}
	if in.Role != "" {
		body.Visibility = &visibility{Type: "role", Value: in.Role}
	}
	prior, known, err := priorOutput[Commented](call)
	if err != nil {
		return Commented{}, err
	}
	if err := c.comments.grounded(ctx, ref); err != nil {
		return Commented{}, err
	}
	switch {
	case call.Resolve:
		return c.resolveComment(ctx, in.Issue, ref, call, out)
	case known && digits(prior.ID):
		return c.editComment(ctx, prior, out, text, body, call.DryRun)
	case repeated(call):
		found, err := c.findComment(ctx, in.Issue, ref, call.FirstSent)
		if err != nil {
			return Commented{}, err
		}
		if found != nil {
			return c.found(out, found), nil
		}
	}
	if call.DryRun {
		out.Created = true
		return out, nil
	}
	r := &request{
		verb: "comment on issue", noun: in.Issue, method: http.MethodPost, path: c.restPath("issue/" + in.Issue + "/comment"),
		body: body, outcome: writes,
	}
	if in.Internal == nil {
		w := c.postComment(ctx, in.Issue, in.Role, r, &commentPart{ref: ref, value: value})
		if w.err != nil {
			return Commented{}, w.err
		}
		out.Joined = w.together > 1
		return c.commented(out, w.id), nil
	}
	made, err := c.deskComment(ctx, &in, text.wiki())
	if err != nil {
		return Commented{}, err
	}
	if !digits(made.ID) {
		return Commented{}, c.unknown(r, "Jira's answer names no comment")
	}
	return c.commented(out, made.ID), nil
}

// wikiMark is the visible mark of a ref, in wiki markup.
func wikiMark(ref string) string { return `\[` + labelPrefix + ref + `\]` }

// marked renders a comment that is written in passing. Its mark tells it from what people write.
func (c *Client) marked(text, format, ref string) json.RawMessage {
	value, _ := c.rich(&richText{format: format, text: text, ref: ref})
	return value
}

func (c *Client) resolveComment(ctx context.Context, issue, ref string, call sdk.Call, out Commented) (Commented, error) {
	found, err := c.findComment(ctx, issue, ref, call.FirstSent)
	if err != nil {
		return Commented{}, err
	}
	if found == nil {
		return Commented{}, sdk.Unresolved("no comment on %s carries the mark [%s%s]", issue, labelPrefix, ref)
	}
	return c.found(out, found), nil
}

// editComment changes a comment that this key made. Text is body's, in case that it must be shorter.
func (c *Client) editComment(ctx context.Context, prior, out Commented, text *richText, body *commentBody, dry bool) (Commented, error) {
	if prior.Issue != out.Issue {
		return Commented{}, sdk.Invalid("/issue", "the comment with this key is on issue %s, not on %s; use a key of its own for each issue", prior.Issue, out.Issue)
	}
	if prior.ContentHash != out.ContentHash {
		out.Updated = true
		switch {
		case dry:
		case prior.Joined:
			if err := c.editJoined(ctx, prior, text); err != nil {
				return Commented{}, err
			}
		default:
			err := c.do(ctx, &request{
				verb: "change comment on issue", noun: prior.Issue, method: http.MethodPut, body: body, outcome: repeatable,
				path: c.restPath("issue/" + prior.Issue + "/comment/" + prior.ID),
			}, nil)
			if err != nil {
				return Commented{}, err
			}
		}
	}
	out.ID, out.URL, out.Joined = prior.ID, prior.URL, prior.Joined
	return out, nil
}

// commented fills in a comment that this key made.
func (c *Client) commented(out Commented, id string) Commented {
	out.ID, out.Created = id, true
	if s := c.site.Load(); s != nil && !digits(out.Issue) {
		out.URL = s.browse(out.Issue) + "?focusedCommentId=" + id
	}
	return out
}

// found fills in a comment that an earlier attempt of this key made.
func (c *Client) found(out Commented, is *comment) Commented {
	out.Joined = len(marksIn(is.Body)) > 1
	return c.commented(out, is.ID)
}

// findComment looks through an issue's comments, newest first, for the one that carries ref's mark, as far back as since
// with an allowance for clocks that differ. Comments are not read from the search index, so nothing found is the truth.
func (c *Client) findComment(ctx context.Context, issue, ref string, since time.Time) (*comment, error) {
	const size, allowance = 100, 24 * time.Hour
	for start := 0; ; {
		var page commentPage
		err := c.do(ctx, &request{
			verb: "read comments of issue", noun: issue, method: http.MethodGet,
			path: "rest/api/2/issue/" + issue + "/comment?orderBy=-created&maxResults=" + strconv.Itoa(size) + "&startAt=" + strconv.Itoa(start),
		}, &page)
		if err != nil {
			return nil, err
		}
		old := true
		for i := range page.Comments {
			if strings.Contains(page.Comments[i].Body, labelPrefix+ref) {
				return &page.Comments[i], nil
			}
			old = old && !since.IsZero() && olderThan(page.Comments[i].Created, since.Add(-allowance))
		}
		start += len(page.Comments)
		if len(page.Comments) == 0 || start >= page.Total || old {
			return nil, nil
		}
	}
}

// olderThan is false for a time that cannot be read.
func olderThan(created string, limit time.Time) bool {
	t := parseTime(created)
	return !t.IsZero() && t.Before(limit)
}
