package thehive

import (
	"context"
	"slices"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// CommentInput is a comment for a case or an alert.
type CommentInput struct {
	Case  string `json:"case,omitempty" doc:"Id or number of the case" pattern:"^(~?[0-9]+)?$"`
	Alert string `json:"alert,omitempty" doc:"Id of the alert, instead of a case" pattern:"^(~?[0-9]+)?$"`
	Text  string `json:"text" cw:"required" doc:"Markdown"`
}

// Commented is the comment.
type Commented struct {
	ID          string `json:"id" doc:"Id of the comment"`
	Case        string `json:"case" doc:"The case or alert, as it was given"`
	Created     bool   `json:"created" doc:"This key made the comment"`
	Updated     bool   `json:"updated" doc:"The comment was changed"`
	ContentHash string `json:"content_hash" doc:"Over the text as last written"`
}

type comment struct {
	ID      string `json:"_id"`
	Message string `json:"message"`
}

// target says which of a case and an alert is meant.
func target(caseID, alertID string) (kind, string, error) {
	k, id := kindCase, caseID
	if alertID != "" {
		k, id = kindAlert, alertID
	}
	if (caseID == "") == (alertID == "") {
		return k, "", sdk.Invalid("/case", "give either case or alert")
	}
	if !objectID(id) {
		return k, "", sdk.Invalid("/"+k.noun, "%q is neither an id such as ~41943040 nor a number", cut(id, 80))
	}
	return k, id, nil
}

// Comment adds a comment once per key. It ends with the mark [cw-<ref>], by which it is found again after an attempt
// whose answer was lost. The same key with another text changes the comment.
func (c *Client) Comment(ctx context.Context, in CommentInput) (Commented, error) {
	call := sdk.CallFrom(ctx)
	if call.Key == "" {
		return Commented{}, sdk.Invalid("", "case.comment needs a key: the same key never comments twice")
	}
	k, id, err := target(in.Case, in.Alert)
	if err != nil {
		return Commented{}, err
	}
	text := strings.TrimSpace(in.Text)
	if text == "" {
		return Commented{}, sdk.Invalid("/text", "is empty")
	}
	mark := markOf(call.Key)
	out := Commented{Case: id, ContentHash: digest(fitComment(text, mark))}
	prior, known, err := priorOutput[Commented](call)
	if err != nil {
		return Commented{}, err
	}
	switch {
	case call.Resolve || !known && repeated(call):
		there, err := c.findComment(ctx, k, id, mark)
		if err != nil {
			return Commented{}, err
		}
		if there != nil {
			out.ID, out.Created = there.ID, true
			return out, nil
		}
		if call.Resolve {
			return Commented{}, sdk.Unresolved("no comment on %s %s carries the mark %s", k.noun, id, mark)
		}
	case known && objectID(prior.ID):
		if prior.Case != id {
			return Commented{}, sdk.Invalid("/"+k.noun, "the comment with this key is on %s %s, not on %s; use a key of its own for each %s", k.noun, prior.Case, id, k.noun)
		}
		out.ID, out.Updated = prior.ID, prior.ContentHash != out.ContentHash
		if out.Updated && !call.DryRun {
			body := map[string]string{"message": fitComment(text, mark) + "\n\n" + mark}
			if err := c.patch(ctx, "change comment on "+k.noun+" "+id, "/api/v1/comment/"+prior.ID, body); err != nil {
				return Commented{}, err
			}
		}
		return out, nil
	}
	out.Created = true
	if call.DryRun {
		return out, nil
	}
	out.ID, err = c.postComment(ctx, k, id, text, mark)
	return out, err
}

// markOf is the mark of a comment or task that a key makes.
func markOf(key string) string { return "[" + markPrefix + caseRef(key) + "]" }

func fitComment(text, mark string) string { return fit(text, maxMessage-len(mark)-2, "…") }

// findComment finds the comment with a mark; nil if there is none.
func (c *Client) findComment(ctx context.Context, k kind, id, mark string) (*comment, error) {
	all, err := list[comment](ctx, c, k, id, "comments")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(cm comment) bool { return strings.Contains(cm.Message, mark) })
	if i < 0 {
		return nil, nil
	}
	return &all[i], nil
}

// postComment writes a comment with a mark, and returns its id.
func (c *Client) postComment(ctx context.Context, k kind, id, text, mark string) (string, error) {
	var made comment
	body := map[string]string{"message": fitComment(text, mark) + "\n\n" + mark}
	if err := c.create(ctx, "comment on "+k.noun+" "+id, k.path+id+"/comment", body, &made); err != nil {
		return "", err
	}
	if !objectID(made.ID) {
		return "", sdk.Uncertain("comment on %s %s: TheHive's answer names no comment", k.noun, id)
	}
	return made.ID, nil
}
