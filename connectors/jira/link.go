package jira

import (
	"context"
	"net/http"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// LinkInput names two issues and what joins them.
type LinkInput struct {
	Issue string `json:"issue" cw:"required" doc:"Key or id of the issue that the link starts at" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	To    string `json:"to" cw:"required" doc:"Key or id of the other issue" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	Type  string `json:"type,omitempty" doc:"Name of the type of link, read from issue to to: SOC-1 duplicates SOC-2 is Duplicate" default:"Relates"`
}

// Linked is the link.
type Linked struct {
	Issue   string `json:"issue" doc:"Key of the issue that the link starts at"`
	To      string `json:"to" doc:"Key of the other issue"`
	Type    string `json:"type" doc:"Name of the type of link"`
	Created bool   `json:"created" doc:"This call made it; false when it was there already"`
}

type issueLink struct {
	Type    nameOrID  `json:"type"`
	Inward  *nameOrID `json:"inwardIssue,omitempty"`
	Outward *nameOrID `json:"outwardIssue,omitempty"`
}

func (l *issueLink) leadsTo(other *nameOrID, ref string) bool {
	return other != nil && (strings.EqualFold(other.Key, ref) || other.ID == ref)
}

// Link joins two issues, unless they are joined already by a link of that type in that direction. Jira itself does not
// make the same link twice on all deployments, and says nothing of it.
func (c *Client) Link(ctx context.Context, in LinkInput) (Linked, error) {
	for _, ref := range []struct{ field, value string }{{"/issue", in.Issue}, {"/to", in.To}} {
		if !issueRef(ref.value) {
			return Linked{}, sdk.Invalid(ref.field, "%q is neither an issue's key nor its id", ref.value)
		}
	}
	kind := strings.TrimSpace(in.Type)
	if kind == "" {
		kind = "Relates"
	}
	var a, b issue
	for ref, is := range map[string]*issue{in.Issue: &a, in.To: &b} {
		err := c.do(ctx, &request{verb: "read links of issue", noun: ref, method: http.MethodGet, path: "rest/api/2/issue/" + ref + "?fields=issuelinks"}, is)
		if err != nil {
			return Linked{}, err
		}
	}
	if in.Issue == in.To || a.ID == b.ID {
		return Linked{}, sdk.Invalid("/to", "is the issue itself: %s", a.Key)
	}
	out := Linked{Issue: a.Key, To: b.Key, Type: kind}
	var links []issueLink
	a.field("issuelinks", &links)
	for i := range links {
		l := &links[i]
		// Seen from issue, a link that starts here shows the other end as outward. What relates has no direction.
		if strings.EqualFold(l.Type.Name, kind) && (l.leadsTo(l.Outward, b.Key) || strings.EqualFold(kind, "Relates") && l.leadsTo(l.Inward, b.Key)) {
			return out, nil
		}
	}
	out.Created = true
	if sdk.CallFrom(ctx).DryRun {
		return out, nil
	}
	// A repeated attempt finds the link; two of the same kind do no harm.
	err := c.do(ctx, &request{
		verb: "link issue", noun: a.Key + " to " + b.Key, method: http.MethodPost, path: "rest/api/2/issueLink", outcome: repeatable,
		body: &issueLink{Type: nameOrID{Name: kind}, Inward: &nameOrID{Key: a.Key}, Outward: &nameOrID{Key: b.Key}},
	}, nil)
	if err != nil {
		return Linked{}, err
	}
	return out, nil
}

// RemoteLinkInput is a link from an issue to something elsewhere.
type RemoteLinkInput struct {
	Issue        string `json:"issue" cw:"required" doc:"Key or id of the issue" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	URL          string `json:"url" cw:"required" doc:"Where the link leads"`
	Title        string `json:"title" cw:"required" doc:"What people read; cut to 255 characters"`
	Relationship string `json:"relationship,omitempty" doc:"What it is to the issue, such as caused by"`
	GlobalID     string `json:"global_id,omitempty" doc:"What the link is known by: the same id again changes it instead of adding one; default made of the URL" cw:"maxlen=255"`
}

// RemoteLinked is the link.
type RemoteLinked struct {
	ID       int64  `json:"id" doc:"Id of the link"`
	Issue    string `json:"issue" doc:"The issue, as it was given"`
	GlobalID string `json:"global_id" doc:"What the link is known by"`
}

type remoteLink struct {
	GlobalID     string       `json:"globalId"`
	Relationship string       `json:"relationship,omitempty"`
	Object       remoteObject `json:"object"`
}

type remoteObject struct {
	URL   string `json:"url"`
	Title string `json:"title"`
}

// RemoteLink links an issue to a page elsewhere. Jira itself changes the link that has the same global id.
func (c *Client) RemoteLink(ctx context.Context, in RemoteLinkInput) (RemoteLinked, error) {
	if !issueRef(in.Issue) {
		return RemoteLinked{}, sdk.Invalid("/issue", "%q is neither an issue's key nor its id", in.Issue)
	}
	link := remoteLink{GlobalID: in.GlobalID, Relationship: in.Relationship, Object: remoteObject{URL: in.URL, Title: oneLine(in.Title, 255)}}
	switch {
	case !linkable(in.URL):
		return RemoteLinked{}, sdk.Invalid("/url", "is no web address")
	case link.Object.Title == "":
		return RemoteLinked{}, sdk.Invalid("/title", "is empty")
	case link.GlobalID == "":
		link.GlobalID = globalID(in.URL)
	}
	return c.putRemoteLink(ctx, in.Issue, &link)
}

// globalID is what a link to an address is known by.
func globalID(address string) string { return "casewire:url:" + digest(address) }

func (c *Client) putRemoteLink(ctx context.Context, ref string, link *remoteLink) (RemoteLinked, error) {
	out := RemoteLinked{Issue: ref, GlobalID: link.GlobalID}
	if sdk.CallFrom(ctx).DryRun {
		return out, nil
	}
	var made struct {
		ID int64 `json:"id"`
	}
	err := c.do(ctx, &request{
		verb: "write remote link of issue", noun: ref, method: http.MethodPost, path: "rest/api/2/issue/" + ref + "/remotelink", body: link, outcome: repeatable,
	}, &made)
	out.ID = made.ID
	return out, err
}
