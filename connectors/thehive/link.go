package thehive

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// LinkInput names two cases that belong together.
type LinkInput struct {
	Case    string `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
	Other   string `json:"other" cw:"required" doc:"Id or number of the case that it is linked to" pattern:"^~?[0-9]+$"`
	Type    string `json:"type,omitempty" cw:"maxlen=64" default:"related" doc:"What kind of link, in a word of your own, such as duplicate"`
	Comment string `json:"comment,omitempty" doc:"Markdown comment on both"`
}

// Linked is what became of a link.
type Linked struct {
	Case    string `json:"case" doc:"Id of the case"`
	Other   string `json:"other" doc:"Id of the other case"`
	Created bool   `json:"created" doc:"They were not linked before"`
	By      string `json:"by" doc:"link, or comment where TheHive is too old to link cases"`
}

// linkedTag remembers a link at the case: the API adds links and does not list them.
const linkedTag = "casewire:linked="

// LinkCases links two cases, once. A TheHive that cannot link gets a comment on both instead.
func (c *Client) LinkCases(ctx context.Context, in LinkInput) (Linked, error) {
	a, _, err := c.openCase(ctx, in.Case)
	if err != nil {
		return Linked{}, err
	}
	if !objectID(in.Other) {
		return Linked{}, sdk.Invalid("/other", "%q is neither an id such as ~41943040 nor a number", cut(in.Other, 80))
	}
	b, err := c.readCase(ctx, in.Other)
	if err != nil {
		return Linked{}, err
	}
	if a.ID == b.ID {
		return Linked{}, sdk.Invalid("/other", "is the case itself")
	}
	kindOf := strings.Join(strings.Fields(in.Type), " ")
	if kindOf == "" {
		return Linked{}, sdk.Invalid("/type", "is empty")
	}
	out := Linked{Case: a.ID, Other: b.ID, By: "link"}
	tag := cleanTag(linkedTag + strconv.Itoa(b.Number))
	if hasTag(a.Tags, tag) {
		return out, nil
	}
	out.Created = true
	if sdk.CallFrom(ctx).DryRun {
		return out, nil
	}
	text := strings.TrimSpace(in.Comment)
	err = c.do(ctx, "link case "+a.ID+" to "+b.ID, rest.Request{
		Method: http.MethodPost, Path: kindCase.path + a.ID + "/link/case/add", Body: map[string]string{"type": kindOf, "caseId": b.ID},
	}, nil)
	e := failed(err)
	switch {
	case notFound(err) || e != nil && e.HTTPStatus == http.StatusMethodNotAllowed: // both cases are there, so it is the operation that is not
		out.By = "comment"
	case maybeDuplicate(err): // linked by a person, or by an attempt whose answer was lost
	case err != nil:
		return Linked{}, err
	}
	if out.By == "comment" || text != "" {
		for _, one := range [][2]*object{{a, b}, {b, a}} {
			here, there := one[0], one[1]
			line := fmt.Sprintf("Linked (%s): [#%d %s](%s)", kindOf, there.Number, strings.NewReplacer("[", "(", "]", ")", "\n", " ").Replace(there.Title), c.caseURL(there.ID))
			mark := markOf("link\x00" + a.ID + "\x00" + b.ID + "\x00" + kindOf)
			if err := c.say(ctx, kindCase, here.ID, strings.TrimSpace(line+"\n\n"+text), mark, bringOptions{look: true}); err != nil {
				return Linked{}, err
			}
		}
	}
	return out, c.patch(ctx, "tag case "+a.ID, kindCase.path+a.ID, &inputUpdate{AddTags: []string{tag}})
}

// MergeInput names cases that become one.
type MergeInput struct {
	Cases []string `json:"cases" cw:"required,minlen=2,maxlen=20" doc:"Ids or numbers of the cases; they cease to exist"`
}

// MergeCases makes one new case of several, which cease to exist. There is no way back, and no way to find out whether a
// merge whose answer was lost was done.
func (c *Client) MergeCases(ctx context.Context, in MergeInput) (Changed, error) {
	var ids []string
	for i, ref := range in.Cases {
		if !objectID(ref) {
			return Changed{}, sdk.Invalid("/cases/"+strconv.Itoa(i), "%q is neither an id such as ~41943040 nor a number", cut(ref, 80))
		}
		cs, err := c.readCase(ctx, ref)
		if err != nil {
			return Changed{}, err
		}
		if slices.Contains(ids, cs.ID) {
			return Changed{}, sdk.Invalid("/cases/"+strconv.Itoa(i), "names the same case as another entry")
		}
		ids = append(ids, cs.ID)
	}
	if sdk.CallFrom(ctx).DryRun {
		return Changed{Updated: true}, nil
	}
	var cs object
	if err := c.create(ctx, "merge cases "+strings.Join(ids, ", "), "/api/v1/case/_merge/"+strings.Join(ids, ","), map[string]any{}, &cs); err != nil {
		return Changed{}, err
	}
	if !objectID(cs.ID) {
		return Changed{}, sdk.Uncertain("merge cases: TheHive's answer names no case")
	}
	out := c.changed(&cs)
	out.Updated = true
	return out, nil
}
