package jira

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// EnsureInput says what the case's issue should look like.
type EnsureInput struct {
	Project     string `json:"project,omitempty" doc:"Key of the project; default the connection's" pattern:"^[A-Za-z0-9_]*$"`
	IssueType   string `json:"issue_type,omitempty" doc:"Name or id of the issue type; default the connection's"`
	Title       string `json:"title" cw:"required" doc:"Summary; cut to 254 characters on one line"`
	Description string `json:"description,omitempty" doc:"Text of the issue; cut to 32,767 characters of wiki markup"`
	Format      string `json:"format,omitempty" doc:"What description and comment_on_update are written in" enum:"markdown,text" default:"markdown"`
	SeverityID  *int   `json:"severity_id,omitempty" doc:"OCSF severity, turned into a priority by the connection's table" cw:"min=0,max=99"`
	Priority    string `json:"priority,omitempty" doc:"Priority by name or id, instead of severity_id"`

	Labels []string                   `json:"labels,omitempty" doc:"Further labels; white space becomes a dash"`
	Fields map[string]json.RawMessage `json:"fields,omitempty" doc:"Further fields. By id, such as customfield_10010, in the form that Jira's API takes; or by name, in the form that people use: the text of an option, a user's mail address, Parent / Child, a date"`
	URL    string                     `json:"url,omitempty" doc:"Link to the alert, shown on top of the description"`

	CommentOnUpdate string `json:"comment_on_update,omitempty" doc:"Comment to add when an existing issue is changed"`
	OnExisting      string `json:"on_existing,omitempty" doc:"What to do when the case has its issue already. update changes what differs and adds comment_on_update when something changed; a closed issue stays closed. comment only adds comment_on_update, when there is news. reopen is update, and opens a closed issue again. ignore touches nothing" enum:"update,comment,reopen,ignore" default:"update"`
	Create          bool   `json:"create" doc:"Make the issue if the case has none. Without it, a case that has none gets an output with an empty id" default:"true"`
	ReopenTo        string `json:"reopen_to,omitempty" doc:"Status that reopen moves a closed issue to; default one of category new, else one of category indeterminate"`
	RemoteLink      bool   `json:"remote_link,omitempty" doc:"Keep url as a link of the issue too, where Jira shows what belongs to it; one request more when the issue is made, or address or title change"`

	Evidence   json.RawMessage `json:"evidence,omitempty" doc:"Whatever describes the alert in full, such as the event. It is attached as a JSON file when the description had to be cut, or with attach_full"`
	AttachFull bool            `json:"attach_full,omitempty" doc:"Attach title, description and evidence as a JSON file in any case; up to four requests more when there is news"`

	Origin string `json:"origin,omitempty" doc:"What the case is made for, as alert:ID or incident:ID; kept with the issue and given back in its events" pattern:"^((alert|incident):.+)?$" cw:"maxlen=200"`
}

// Ensured is the case's issue.
type Ensured struct {
	ID      string `json:"id" doc:"Id of the issue; it stays when the issue moves to another project. Empty: there is none, and none was to be made"`
	Key     string `json:"key" doc:"Key of the issue, such as SOC-24"`
	URL     string `json:"url" doc:"Where people open it"`
	Created bool   `json:"created" doc:"This key made the issue"`
	Updated bool   `json:"updated" doc:"The issue was changed"`
	Status  string `json:"status,omitempty" doc:"Name of its status when last read; Jira does not say it on create"`
	Closed  bool   `json:"closed" doc:"Its status meant done when last read"`
	Origin  string `json:"origin,omitempty" doc:"What the case was made for"`

	ContentHash string   `json:"content_hash" doc:"Over title, description and fields as last written"`
	SeverityID  *int     `json:"severity_id,omitempty" doc:"Severity as last written"`
	Priority    string   `json:"priority,omitempty" doc:"Priority as last written"`
	Labels      []string `json:"labels,omitempty" doc:"Labels written so far"`
	CommentHash string   `json:"comment_hash,omitempty" doc:"Over the comment that was added last, and what it was about"`
	LinkHash    string   `json:"link_hash,omitempty" doc:"Over the remote link as last written"`
	FileHash    string   `json:"file_hash,omitempty" doc:"Over the file that was attached last"`
	Warnings    []string `json:"warnings,omitempty" doc:"What did not succeed beside the issue itself; the next call with this key tries it again"`
	Duplicates  []string `json:"duplicates,omitempty" doc:"Keys of further issues that carry the same mark; the oldest is used"`
}

// wanted is an EnsureInput made ready.
type wanted struct {
	project, issueType string
	ref, key, hash     string
	summary            string
	description        json.RawMessage // rendered
	blank              bool            // there is no description
	priority           string
	explicit           bool // the caller named the priority
	severity           *int
	labels             []string                   // without the mark
	extra              map[string]json.RawMessage // as given: by name or id
	format             string
	comment            json.RawMessage // rendered; nil for none
	commentHash        string
	policy             string // on_existing
	reopenTo           string
	origin             string
	create             bool
	link               *remoteLink // nil: none is wanted
	full               *sdk.Blob   // nil: nothing is to be attached
}

// Ensure makes sure that the call's key has exactly one issue. An issue known from an earlier call is updated by its id,
// an issue found by its mark is adopted, and only then is one made, with one request that is never repeated when its
// answer is lost.
func (c *Client) Ensure(ctx context.Context, in EnsureInput) (Ensured, error) {
	call := sdk.CallFrom(ctx)
	w, err := c.want(call.Key, &in)
	if err != nil {
		return Ensured{}, err
	}
	prior, known, err := priorOutput[Ensured](call)
	if err != nil {
		return Ensured{}, err
	}
	known = known && digits(prior.ID)
	if known {
		c.pace.learn(prior.ID, prior.Key)
	}
	if call.Resolve {
		return c.resolve(ctx, w, prior, known)
	}
	out, err := c.ensure(ctx, call, w, prior, known)
	if err == nil && !call.DryRun && out.ID != "" && (out.Created || w.policy != ignoreExisting && w.policy != commentExisting) {
		c.accompany(ctx, w, &out)
	}
	return out, err
}

func (c *Client) ensure(ctx context.Context, call sdk.Call, w *wanted, prior Ensured, known bool) (Ensured, error) {
	switch {
	case known && w.policy != ignoreExisting && (call.Attempt > 1 || w.policy == reopenExisting) && !call.DryRun:
		// An earlier attempt at this update may have arrived: look before the comment is written twice. And only Jira knows
		// whether the issue is closed.
		return c.refresh(ctx, w, prior)
	case known:
		return c.update(ctx, w, prior, call.DryRun)
	}
	if c.cfg.SearchBeforeCreate || repeated(call) || !w.create {
		found, others, err := c.find(ctx, w.project, w.ref)
		if err != nil {
			return Ensured{}, err
		}
		if found != nil {
			out, err := c.adopt(ctx, found, others)
			if err != nil {
				return out, err
			}
			// Found although the host knows nothing of it: most likely an attempt of this very call made it.
			made := repeated(call) && w.create
			out, err = c.update(ctx, w, out, call.DryRun)
			out.Created = made
			return out, err
		}
	}
	if !w.create {
		return Ensured{}, nil
	}
	return c.create(ctx, w, call.DryRun)
}

// want checks and renders the input.
func (c *Client) want(key string, in *EnsureInput) (*wanted, error) {
	if key == "" {
		return nil, sdk.Invalid("", "issue.ensure needs a key: it decides which alerts share an issue")
	}
	w := &wanted{
		project: cmp.Or(in.Project, c.cfg.Project), issueType: cmp.Or(in.IssueType, c.cfg.IssueType),
		ref: caseRef(key), key: key, severity: in.SeverityID, priority: in.Priority, explicit: in.Priority != "",
		extra: in.Fields, summary: oneLine(in.Title, maxSummary), format: in.Format, policy: in.OnExisting, reopenTo: in.ReopenTo, origin: in.Origin,
		create: in.Create,
	}
	if w.summary == "" {
		return nil, sdk.Invalid("/title", "is empty: Jira wants a summary")
	}
	if !projectKey(w.project) {
		return nil, sdk.Invalid("/project", "%q is not a project key such as SOC", w.project)
	}
	for name := range in.Fields {
		if reserved[strings.ToLower(name)] {
			return nil, sdk.Invalid("/fields/"+name, "has an input of its own")
		}
	}
	if in.URL != "" && !linkable(in.URL) {
		return nil, sdk.Invalid("/url", "is no web address")
	}
	body := &richText{format: in.Format, text: in.Description, link: in.URL}
	w.full = in.full(w.summary)
	if w.full != nil {
		body.note = "The whole is attached as " + w.full.Name + "."
	}
	if c.asDesk() {
		body.ref = w.ref
	}
	var cut bool
	w.description, cut = c.rich(body)
	w.blank = isBlank(in.Description) && in.URL == "" && body.ref == ""
	if !cut && !in.AttachFull {
		w.full = nil
	}
	if in.RemoteLink && in.URL != "" {
		w.link = &remoteLink{GlobalID: globalID(in.URL), Relationship: "alert", Object: remoteObject{URL: in.URL, Title: oneLine(in.Title, 255)}}
	}
	if !isBlank(in.CommentOnUpdate) {
		w.comment = c.marked(in.CommentOnUpdate, in.Format, w.ref)
	}
	if !w.explicit && in.SeverityID != nil {
		w.priority = c.priority(*in.SeverityID)
	}
	w.labels = sanitizeLabels(c.labels, in.Labels)
	if c.asDesk() {
		w.labels = append(w.labels, labelPrefix+w.ref) // a request that is found may lack it
	}
	w.hash = w.digest()
	if len(w.comment) > 0 {
		w.commentHash = digest(string(w.comment), w.hash, strconv.Itoa(rank(w.severity)), w.priority)
	}
	return w, nil
}

// full is the file that holds everything that the issue shows, and the evidence; nil if neither evidence nor the file as
// such was asked for. Its name follows from its contents.
func (in *EnsureInput) full(title string) *sdk.Blob {
	if len(in.Evidence) == 0 && !in.AttachFull {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(struct {
		Title       string          `json:"title"`
		URL         string          `json:"url,omitempty"`
		Origin      string          `json:"origin,omitempty"`
		SeverityID  *int            `json:"severity_id,omitempty"`
		Description string          `json:"description,omitempty"`
		Evidence    json.RawMessage `json:"evidence,omitempty"`
	}{title, in.URL, in.Origin, in.SeverityID, in.Description, in.Evidence})
	if err != nil { // texts, and JSON that was read as such
		return nil
	}
	f := sdk.NewBlob("casewire-"+digest(b.String())+".json", "application/json", b.Bytes())
	return &f
}

// accompany writes what goes with the issue: the remote link and the file. The issue is there already, and its result must
// not be lost: what fails is a warning, and is tried again by the next call with the same key. Both are repeated without
// harm.
func (c *Client) accompany(ctx context.Context, w *wanted, out *Ensured) {
	if !out.Created {
		out.Warnings = nil
	}
	if w.link != nil {
		if hash := digest(w.link.Object.URL, w.link.Object.Title); hash != out.LinkHash {
			if _, err := c.putRemoteLink(ctx, out.ID, w.link); err != nil {
				out.Warnings = append(out.Warnings, "the link to the alert was not written: "+err.Error())
			} else {
				out.LinkHash = hash
			}
		}
	}
	if w.full != nil && w.full.SHA256 != out.FileHash {
		if _, err := c.Attach(ctx, AttachInput{Issue: out.ID, Files: []sdk.Blob{*w.full}}); err != nil {
			out.Warnings = append(out.Warnings, "the file "+w.full.Name+" was not attached: "+err.Error())
		} else {
			out.FileHash = w.full.SHA256
		}
	}
}

// The policies for a case that has its issue already; update is the rest.
const (
	commentExisting = "comment"
	reopenExisting  = "reopen"
	ignoreExisting  = "ignore"
)

// maxSummary is the longest summary: Jira's message says "less than 255".
const maxSummary = 254

var reserved = map[string]bool{
	"project": true, "issuetype": true, "summary": true, "description": true, "priority": true, "labels": true,
}

// digest covers what an update would write over.
func (w *wanted) digest() string {
	if len(w.extra) == 0 {
		return digest(w.summary, string(w.description))
	}
	parts := make([]string, 0, 2+2*len(w.extra))
	parts = append(parts, w.summary, string(w.description))
	for _, name := range slices.Sorted(maps.Keys(w.extra)) {
		parts = append(parts, name, string(w.extra[name]))
	}
	return digest(parts...)
}

func (w *wanted) property() []entityProperty {
	p := &property{V: 1, Ref: w.ref, Hash: w.hash, Severity: w.severity, Priority: w.priority, Origin: w.origin, Comment: w.commentHash}
	if len(w.key) <= 1024 {
		p.Key = w.key
	}
	return []entityProperty{{Key: propertyKey, Value: p}}
}

// create makes the issue, marked, in one request.
func (c *Client) create(ctx context.Context, w *wanted, dry bool) (Ensured, error) {
	w.commentHash = "" // there is nothing to comment on yet
	out := Ensured{
		Created: true, ContentHash: w.hash, SeverityID: w.severity, Priority: w.priority, Origin: w.origin,
		Labels: slices.Clip(w.labels),
	}
	if !contains(out.Labels, labelPrefix+w.ref) {
		out.Labels = append(out.Labels, labelPrefix+w.ref)
	}
	if c.asDesk() {
		if dry {
			return out, nil
		}
		s, err := c.where(ctx)
		if err != nil {
			return Ensured{}, err
		}
		return c.raise(ctx, s, w, out)
	}
	extra, err := c.createFields(ctx, w)
	if err != nil || dry {
		return out, err
	}
	s, err := c.where(ctx) // before the write: a failure afterwards would cost its result
	if err != nil {
		return Ensured{}, err
	}
	fields := &issueFields{
		Project: keyed(w.project), IssueType: named(w.issueType), Summary: w.summary, Priority: named(w.priority), Labels: out.Labels,
	}
	if !w.blank {
		fields.Description = w.description
	}
	r := &request{
		verb: "create issue in", noun: w.project, method: http.MethodPost, path: c.restPath("issue"), outcome: writes,
		body: &issueUpdate{Fields: fields.with(extra), Properties: w.property()},
	}
	var made createdIssue
	if err := c.do(ctx, r, &made); err != nil {
		return Ensured{}, c.teach(ctx, err, w)
	}
	if !digits(made.ID) || !issueRef(made.Key) {
		return Ensured{}, c.unknown(r, "Jira's answer names no issue")
	}
	c.recent.add(made.ID)
	out.ID, out.Key, out.URL = made.ID, made.Key, s.browse(made.Key)
	return out, nil
}

// arrival is how long a request that was sent may be under way before Jira carries it out.
const arrival = 2 * time.Second

// resolve finds out what became of an earlier call with the same key, and changes nothing.
func (c *Client) resolve(ctx context.Context, w *wanted, prior Ensured, known bool) (Ensured, error) {
	if known {
		have, err := c.read(ctx, prior)
		if err != nil {
			return Ensured{}, err
		}
		if len(c.changes(w, have)) > 0 || w.policy == reopenExisting && have.Closed {
			return Ensured{}, sdk.Conflict("the update of %s did not arrive; it is safe to repeat", have.Key)
		}
		have.Updated = true
		return have, nil
	}
	found, others, err := c.find(ctx, w.project, w.ref)
	if err != nil {
		return Ensured{}, err
	}
	if found == nil && !w.create {
		return Ensured{}, nil // nothing was to be made
	}
	if sent := sdk.CallFrom(ctx).FirstSent; found == nil && c.indexLag > 0 && !sent.IsZero() && time.Since(sent) > c.indexLag+arrival {
		return Ensured{}, sdk.Absent("no issue in %s has the label %s%s, and index_lag (%v) is over", w.project, labelPrefix, w.ref, c.indexLag)
	}
	if found == nil {
		return Ensured{}, sdk.Unresolved("no issue in %s has the label %s%s yet", w.project, labelPrefix, w.ref)
	}
	out, err := c.adopt(ctx, found, others)
	out.Created = w.create
	return out, err
}

// adopt describes an issue that was found by its mark as it is now.
func (c *Client) adopt(ctx context.Context, is *issue, others []string) (Ensured, error) {
	s, err := c.where(ctx)
	if err != nil {
		return Ensured{}, err
	}
	p, _ := is.mark()
	return Ensured{
		ID: is.ID, Key: is.Key, URL: s.browse(is.Key), Status: is.name("status"), Closed: is.category() == categoryDone,
		ContentHash: p.Hash, SeverityID: p.Severity, Priority: p.Priority, Labels: is.labels(), Duplicates: others,
		Origin: p.Origin, CommentHash: p.Comment,
	}, nil
}

// read fetches a known issue's present state.
func (c *Client) read(ctx context.Context, prior Ensured) (Ensured, error) {
	is, err := c.fetch(ctx, prior.ID)
	if err != nil {
		return Ensured{}, gone(err, prior)
	}
	return c.adopt(ctx, is, prior.Duplicates)
}
