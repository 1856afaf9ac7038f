package sentinel

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Characters in a comment ("Service limits for Microsoft Sentinel").
const maxARMComment = 30000

// armIncident reads an incident of the workspace by its GUID or ARM id.
func (a *armClient) incident(ctx context.Context, id string) (*armResource, error) {
	name, err := a.incidentName(id)
	if err != nil {
		return nil, err
	}
	var inc armResource
	if err := a.must(ctx, a.path("incidents", name), &inc); err != nil {
		return nil, fmt.Errorf("get incident %s: %w", name, err)
	}
	if inc.Name == "" || inc.Properties == nil {
		return nil, sdk.Unavailable("get incident %s: the answer is no incident", name)
	}
	return &inc, nil
}

// armGetIncident returns an incident of the workspace with the ids of its alerts.
func (c *Client) armGetIncident(ctx context.Context, id string) (Incident, error) {
	a, err := c.workspaceFor("incidents by GUID")
	if err != nil {
		return Incident{}, err
	}
	inc, err := a.incident(ctx, id)
	if err != nil {
		return Incident{}, err
	}
	var alerts struct {
		Value []struct {
			Name       string `json:"name"`
			Properties struct {
				ID string `json:"systemAlertId"`
			} `json:"properties"`
		} `json:"value"`
	}
	if err := a.ask(ctx, a.path("incidents", inc.Name, "alerts"), &alerts); err != nil {
		return Incident{}, fmt.Errorf("alerts of incident %s: %w", inc.Name, err)
	}
	out, err := inc.public()
	for _, x := range alerts.Value {
		out.AlertIDs = append(out.AlertIDs, cmp.Or(x.Properties.ID, x.Name))
	}
	return out, err
}

// public is the incident as flows see it.
func (r *armResource) public() (Incident, error) {
	out := Incident{
		ID: r.Name, Title: r.str("title"), Status: r.str("status"), Severity: r.str("severity"), Classification: r.str("classification"),
		Determination: r.str("classificationReason"), URL: r.str("incidentUrl"), Tags: r.labels(),
	}
	var o owner
	_ = json.Unmarshal(r.Properties["owner"], &o) // nobody
	for _, p := range []*string{o.UserPrincipalName, o.Email, o.AssignedTo, o.ObjectID} {
		if out.AssignedTo == "" && p != nil && !strings.EqualFold(*p, "null") {
			out.AssignedTo = *p
		}
	}
	_ = json.Unmarshal(r.Properties["createdTimeUtc"], &out.Created) // not known
	_ = json.Unmarshal(r.Properties["lastModifiedTimeUtc"], &out.Updated)
	b, err := json.Marshal(r)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(b, &out.Raw)
}

// labels are the names of the incident's labels.
func (r *armResource) labels() []string {
	var list []struct {
		Name string `json:"labelName"`
	}
	_ = json.Unmarshal(r.Properties["labels"], &list) // none
	out := []string{}
	for _, l := range list {
		out = append(out, l.Name)
	}
	return out
}

// armListIncidents emits incidents, newest first, and returns how many, and whether there were more.
func (c *Client) armListIncidents(ctx context.Context, filter string, most int, emit func(map[string]any) error) (n int, truncated bool, err error) {
	a, err := c.workspaceFor("incidents: arm")
	if err != nil {
		return 0, false, err
	}
	q := url.Values{"$top": {strconv.Itoa(min(most+1, c.cfg.PageSize))}, "$orderby": {"properties/createdTimeUtc desc"}}
	if filter != "" {
		q.Set("$filter", filter)
	}
	err = a.each(ctx, a.path("incidents"), q, func(raw json.RawMessage) (bool, error) {
		if n == most {
			truncated = true
			return false, nil
		}
		var inc map[string]any
		if err := rest.DecodeJSON("Azure Resource Manager", raw, &inc); err != nil {
			return false, err
		}
		n++
		return true, emit(inc)
	})
	if err != nil {
		return n, truncated, fmt.Errorf("list incidents: %w", err)
	}
	return n, truncated || n == armListCap, nil
}

// armEntities returns what an incident of the workspace is about.
func (c *Client) armEntities(ctx context.Context, id string) (Entities, error) {
	var out Entities
	a, err := c.workspaceFor("incidents by GUID")
	if err != nil {
		return out, err
	}
	name, err := a.incidentName(id)
	if err != nil {
		return out, err
	}
	var answer struct {
		Entities json.RawMessage `json:"entities"`
	}
	if err := a.ask(ctx, a.path("incidents", name, "entities"), &answer); err != nil {
		return out, fmt.Errorf("entities of incident %s: %w", name, err)
	}
	list := normalize.SentinelObservables(answer.Entities)
	for i := range list {
		out.put(&list[i], "", "")
	}
	return out, nil
}

// armChange is what is to differ about an incident; empty texts stay as they are.
type armChange struct {
	Severity, Status, Classification, Reason, Comment, AssignedTo string
	AddLabels, RemoveLabels                                       []string
}

// nobody takes the owner away.
const nobody = "none"

// The words of the API by ours, folded.
var (
	armSeverities = map[string]string{"high": "High", "medium": "Medium", "low": "Low", "informational": "Informational"}
	armStatuses   = map[string]string{
		"new": "New", "active": "Active", "inprogress": "Active", "awaitingaction": "Active", "closed": "Closed", "resolved": "Closed",
	}
	armClassifications = map[string]string{
		"truepositive": "TruePositive", "falsepositive": "FalsePositive", "benignpositive": "BenignPositive",
		"informationalexpectedactivity": "BenignPositive", "undetermined": "Undetermined", "unknown": "Undetermined",
	}
	// Each classification has reasons of its own; the first is taken where none is given.
	armReasons = map[string][]string{
		"TruePositive": {"SuspiciousActivity"}, "BenignPositive": {"SuspiciousButExpected"},
		"FalsePositive": {"IncorrectAlertLogic", "InaccurateData"}, "Undetermined": nil,
	}
)

func foldWord(s string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "_", "").Replace(s))
}

// words turns our words into the API's, and says which is none of its own.
func (ch *armChange) words() error {
	for _, w := range []struct {
		field string
		value *string
		table map[string]string
	}{{"severity", &ch.Severity, armSeverities}, {"status", &ch.Status, armStatuses}, {"classification", &ch.Classification, armClassifications}} {
		if *w.value == "" {
			continue
		}
		word, ok := w.table[foldWord(*w.value)]
		if !ok {
			return sdk.Invalid(w.field, "%q is no %s of a Sentinel incident", *w.value, w.field)
		}
		*w.value = word
	}
	return nil
}

// apply changes the incident's properties, and says whether anything differs now. What is not asked for stays.
func (ch *armChange) apply(inc *armResource) (bool, error) {
	before := map[string]string{}
	for k, v := range inc.Properties {
		before[k] = string(v)
	}
	for name, value := range map[string]string{
		"severity": ch.Severity, "status": ch.Status, "classificationComment": ch.Comment,
	} {
		if value != "" && inc.str(name) != value {
			if err := inc.set(name, value); err != nil {
				return false, err
			}
		}
	}
	if err := ch.classify(inc); err != nil {
		return false, err
	}
	if err := ch.assign(inc); err != nil {
		return false, err
	}
	if err := ch.label(inc); err != nil {
		return false, err
	}
	changed := len(before) != len(inc.Properties)
	for k, v := range inc.Properties {
		changed = changed || before[k] != string(v)
	}
	return changed, nil
}

// classify keeps classification and reason in agreement: the API refuses a pair that does not fit, and an incident that is
// closed without a classification.
func (ch *armChange) classify(inc *armResource) error {
	if ch.Classification != "" && inc.str("classification") != ch.Classification {
		if err := inc.set("classification", ch.Classification); err != nil {
			return err
		}
	}
	class := inc.str("classification")
	if class == "" {
		if inc.str("status") == "Closed" {
			return sdk.Invalid("classification", "a Sentinel incident is closed with a classification: give truePositive, benignPositive, falsePositive or undetermined")
		}
		if ch.Reason != "" {
			return sdk.Invalid("reason", "a reason needs a classification")
		}
		return nil
	}
	fits, known := armReasons[class]
	if !known { // of a newer API
		return nil
	}
	if ch.Reason != "" {
		i := slices.IndexFunc(fits, func(r string) bool { return foldWord(r) == foldWord(ch.Reason) })
		switch {
		case i < 0 && len(fits) == 0:
			return sdk.Invalid("reason", "classification %s takes no reason", class)
		case i < 0:
			return sdk.Invalid("reason", "%q does not fit classification %s, which takes %s", ch.Reason, class, strings.Join(fits, " or "))
		case inc.str("classificationReason") != fits[i]:
			return inc.set("classificationReason", fits[i])
		}
		return nil
	}
	switch have := inc.str("classificationReason"); {
	case len(fits) == 0:
		delete(inc.Properties, "classificationReason") // one that does not fit would have the whole write refused
	case !slices.Contains(fits, have) && ch.Classification != "":
		return inc.set("classificationReason", fits[0])
	}
	return nil
}

// owner is the person or group that has an incident.
type owner struct {
	ObjectID          *string `json:"objectId"`
	Email             *string `json:"email"`
	AssignedTo        *string `json:"assignedTo"`
	UserPrincipalName *string `json:"userPrincipalName"`
	OwnerType         *string `json:"ownerType,omitempty"`
}

func (o *owner) is(who string) bool {
	for _, p := range []*string{o.ObjectID, o.Email, o.AssignedTo, o.UserPrincipalName} {
		if p != nil && strings.EqualFold(*p, who) {
			return true
		}
	}
	return false
}

func (o *owner) nobody() bool {
	for _, p := range []*string{o.ObjectID, o.Email, o.AssignedTo, o.UserPrincipalName} {
		if p != nil && *p != "" && !strings.EqualFold(*p, "null") { // some payloads have the word
			return false
		}
	}
	return true
}

func (ch *armChange) assign(inc *armResource) error {
	if ch.AssignedTo == "" {
		return nil
	}
	var now owner
	if raw := inc.Properties["owner"]; len(raw) > 0 {
		_ = json.Unmarshal(raw, &now) // of another shape: it is replaced
	}
	switch who := ch.AssignedTo; {
	case who == nobody && now.nobody(), who != nobody && now.is(who):
		return nil
	case who == nobody:
		return inc.set("owner", owner{})
	case guidRule.MatchString(who):
		return inc.set("owner", owner{ObjectID: &who})
	default:
		return inc.set("owner", owner{UserPrincipalName: &who, Email: &who, AssignedTo: &who})
	}
}

// label adds and removes labels by name; the others stay as they came, whoever set them.
func (ch *armChange) label(inc *armResource) error {
	if len(ch.AddLabels)+len(ch.RemoveLabels) == 0 {
		return nil
	}
	var labels []json.RawMessage
	if raw := inc.Properties["labels"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &labels); err != nil {
			return sdk.Unavailable("incident %s: its labels are no list", inc.Name)
		}
	}
	name := func(raw json.RawMessage) string {
		var l struct {
			Name string `json:"labelName"`
		}
		_ = json.Unmarshal(raw, &l) // of another shape: a label without a name
		return l.Name
	}
	has := func(list []string, s string) bool {
		return slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(strings.TrimSpace(x), s) })
	}
	kept := slices.DeleteFunc(slices.Clone(labels), func(raw json.RawMessage) bool {
		return has(ch.RemoveLabels, name(raw)) && !has(ch.AddLabels, name(raw))
	})
	for _, add := range ch.AddLabels {
		add = strings.TrimSpace(add)
		if add == "" || slices.ContainsFunc(kept, func(raw json.RawMessage) bool { return strings.EqualFold(name(raw), add) }) {
			continue
		}
		b, err := json.Marshal(map[string]string{"labelName": add})
		if err != nil {
			return err
		}
		kept = append(kept, b)
	}
	if slices.EqualFunc(labels, kept, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
		return nil
	}
	if kept == nil {
		kept = []json.RawMessage{}
	}
	return inc.set("labels", kept)
}

// What the service sets by itself, and what is therefore not sent back.
var armReadOnly = []string{
	"additionalData", "createdTimeUtc", "incidentNumber", "incidentUrl", "lastModifiedTimeUtc", "providerIncidentId", "providerName",
	"relatedAnalyticRuleIds", "teamInformation",
}

// How often a write is tried again when somebody else was faster, and how long before that, at first.
const (
	armTries = 5
	armPause = 200 * time.Millisecond
)

// sentinelVerdicts are classification and reason for the verdict of a case. Verdicts without a counterpart are not written.
var sentinelVerdicts = map[int][2]string{
	1: {"FalsePositive", "IncorrectAlertLogic"}, 2: {"TruePositive", "SuspiciousActivity"}, 3: {"BenignPositive", "SuspiciousButExpected"},
	4: {"Undetermined", ""}, 5: {"BenignPositive", "SuspiciousButExpected"}, 6: {"BenignPositive", "SuspiciousButExpected"},
	7: {"Undetermined", ""}, 8: {"TruePositive", "SuspiciousActivity"},
}

// armUpdate is incident.update for an incident of the workspace.
func (c *Client) armUpdate(ctx context.Context, in UpdateIncidentInput) (UpdatedIncident, error) {
	ch := armChange{
		Severity: in.Severity, Status: in.Status, Classification: in.Classification, Reason: in.Reason, Comment: in.ResolvingComment,
		AssignedTo: in.AssignedTo, AddLabels: in.AddTags, RemoveLabels: in.RemoveTags,
	}
	switch {
	case in.Determination != "":
		return UpdatedIncident{}, sdk.Invalid("determination", "is Defender's; an incident of a Sentinel workspace takes a reason")
	case in.Unassign && in.AssignedTo != "":
		return UpdatedIncident{}, sdk.Invalid("unassign", "contradicts assigned_to")
	case in.VerdictID != nil && (in.Classification != "" || in.Reason != ""):
		return UpdatedIncident{}, sdk.Invalid("verdict_id", "stands for classification and reason: give it, or them")
	case in.Unassign:
		ch.AssignedTo = nobody
	}
	if in.VerdictID != nil {
		v := sentinelVerdicts[*in.VerdictID]
		if ch.Classification, ch.Reason = v[0], v[1]; v[0] == "" && in.Status == "resolved" {
			ch.Classification = "Undetermined" // an incident is not closed without one
		}
	} else if ch.Severity+ch.Status+ch.Classification+ch.Reason+ch.Comment+ch.AssignedTo == "" && len(ch.AddLabels)+len(ch.RemoveLabels) == 0 {
		return UpdatedIncident{}, sdk.Invalid("", "nothing to update: give status, severity, classification, assigned_to, add_tags or another property")
	}
	inc, changed, err := c.armUpdateIncident(ctx, in.Incident, ch)
	if err != nil {
		return UpdatedIncident{}, err
	}
	return UpdatedIncident{ID: inc.Name, Status: inc.str("status"), Tags: inc.labels(), Changed: changed}, nil
}

// armUpdateIncident changes an incident: it is read, changed and written back whole with its etag, because what a write
// leaves out is cleared. When somebody else was faster, it is read again and the change made anew. Nothing is written when
// nothing differs, so that the update is no news.
func (c *Client) armUpdateIncident(ctx context.Context, id string, ch armChange) (inc *armResource, changed bool, err error) {
	a, err := c.workspaceFor("incidents by GUID")
	if err != nil {
		return nil, false, err
	}
	if err := ch.words(); err != nil {
		return nil, false, err
	}
	for try := 1; ; try++ {
		if inc, err = a.incident(ctx, id); err != nil {
			return nil, false, err
		}
		if changed, err = ch.apply(inc); err != nil || !changed {
			return inc, false, err
		}
		body := armResource{Etag: inc.Etag, Properties: map[string]json.RawMessage{}}
		for k, v := range inc.Properties {
			if !slices.Contains(armReadOnly, k) {
				body.Properties[k] = v
			}
		}
		var out armResource
		_, err = a.put(ctx, a.path("incidents", inc.Name), map[string]any{"etag": body.Etag, "properties": body.Properties}, &out)
		e, is := asSDK(err)
		switch {
		case err == nil:
			return &out, true, nil
		case !is || e.Code != codes.Aborted:
			return nil, false, fmt.Errorf("update incident %s: %w", inc.Name, err)
		case try == armTries:
			e.Message += fmt.Sprintf("; others changed the incident during each of %d tries", armTries)
			return nil, false, fmt.Errorf("update incident %s: %w", inc.Name, err)
		}
		if err := pause(ctx, jitter(armPause<<(try-1))); err != nil {
			return nil, false, err
		}
	}
}

// jitter is half of a duration to one and a half of it.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// armCommentIncident makes a comment stand once per key: under a name that follows from the key, so that writing it again
// changes nothing. One that somebody edited since is left as it is. Text is shown as it is, although the portal renders
// HTML.
func (c *Client) armCommentIncident(ctx context.Context, in CommentIncidentInput) (IncidentComment, error) {
	var out IncidentComment
	a, err := c.workspaceFor("incidents by GUID")
	if err != nil {
		return out, err
	}
	incident, err := a.incidentName(in.Incident)
	if err != nil {
		return out, err
	}
	message := strings.ReplaceAll(html.EscapeString(strings.ReplaceAll(in.Text, "\r\n", "\n")), "\n", "<br>")
	if n := utf8.RuneCountInString(message); n > maxARMComment {
		return out, sdk.Invalid("text", "has %d characters with its marks; a comment takes %d", n, maxARMComment)
	}
	call := sdk.CallFrom(ctx)
	name := ownID("comment", incident, call.Key)
	var have struct {
		Properties struct {
			Created time.Time `json:"createdTimeUtc"`
		} `json:"properties"`
	}
	path := a.path("incidents", incident, "comments", name)
	found, err := a.get(ctx, path, &have)
	if err != nil {
		return out, fmt.Errorf("comment on incident %s: %w", incident, err)
	}
	if !found {
		if call.Resolve {
			return out, sdk.Absent("there is no comment %s on incident %s", name, incident)
		}
		body := map[string]any{"properties": map[string]string{"message": message}}
		if _, err = a.put(ctx, path, body, &have); err != nil {
			return out, fmt.Errorf("comment on incident %s: %w", incident, err)
		}
	}
	return IncidentComment{Incident: incident, ID: name, Created: have.Properties.Created}, nil
}

// TaskInput is a task for whoever works on an incident.
type TaskInput struct {
	Incident    string `json:"incident" cw:"required,maxlen=1024" doc:"GUID or ARM id of an incident of the workspace"`
	Title       string `json:"title" cw:"required,maxlen=150" doc:"What to do, in a line"`
	Description string `json:"description,omitempty" cw:"maxlen=3000" doc:"What to do, in full"`
}

// Task is a task that stands.
type Task struct {
	ID      string    `json:"id" doc:"GUID of the task"`
	Status  string    `json:"status" doc:"New, or Completed"`
	Created time.Time `json:"created" doc:"When it was made"`
}

// addTask makes a task stand once per key. One that a person has completed or changed is left as it is.
func (c *Client) addTask(ctx context.Context, in TaskInput) (Task, error) {
	a, err := c.workspaceFor("task.add")
	if err != nil {
		return Task{}, err
	}
	incident, err := a.incidentName(in.Incident)
	if err != nil {
		return Task{}, err
	}
	call := sdk.CallFrom(ctx)
	name := ownID("task", incident, call.Key)
	var have struct {
		Properties struct {
			Status  string    `json:"status"`
			Created time.Time `json:"createdTimeUtc"`
		} `json:"properties"`
	}
	path := a.path("incidents", incident, "tasks", name)
	found, err := a.get(ctx, path, &have)
	switch {
	case err != nil:
		return Task{}, fmt.Errorf("add task to incident %s: %w", incident, err)
	case !found && call.Resolve:
		return Task{}, sdk.Absent("there is no task %s on incident %s", name, incident)
	case !found:
		p := map[string]string{"title": in.Title, "status": "New"}
		if in.Description != "" {
			p["description"] = in.Description
		}
		if _, err := a.put(ctx, path, map[string]any{"properties": p}, &have); err != nil {
			return Task{}, fmt.Errorf("add task to incident %s: %w", incident, err)
		}
	}
	return Task{ID: name, Status: have.Properties.Status, Created: have.Properties.Created}, nil
}

// PlaybookInput names a playbook and what to run it on.
type PlaybookInput struct {
	Incident string `json:"incident" cw:"required,maxlen=1024" doc:"GUID or ARM id of an incident of the workspace"`
	LogicApp string `json:"logic_app" cw:"required,maxlen=1024" doc:"ARM id of the playbook, a Logic App whose trigger is a Sentinel incident" pattern:"(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Logic/workflows/[^/]+$"`
	TenantID string `json:"tenant_id,omitempty" cw:"maxlen=64" doc:"Tenant of the playbook; default the credential's"`
}

// PlaybookStarted says that Sentinel took the order.
type PlaybookStarted struct {
	Incident string `json:"incident" doc:"GUID of the incident"`
	LogicApp string `json:"logic_app" doc:"ARM id of the playbook"`
}

// runPlaybook starts a playbook. What becomes of the run only the Logic App tells.
func (c *Client) runPlaybook(ctx context.Context, in PlaybookInput) (PlaybookStarted, error) {
	a, err := c.workspaceFor("playbook.run")
	if err != nil {
		return PlaybookStarted{}, err
	}
	incident, err := a.incidentName(in.Incident)
	if err != nil {
		return PlaybookStarted{}, err
	}
	body := map[string]string{"logicAppsResourceId": in.LogicApp}
	if in.TenantID != "" {
		body["tenantId"] = in.TenantID
	} else if guidRule.MatchString(c.tenant) {
		body["tenantId"] = c.tenant
	}
	_, err = a.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: a.path("incidents", incident, "runPlaybook"), Query: versioned(nil), Body: body})
	if err != nil {
		return PlaybookStarted{}, fmt.Errorf("run playbook on incident %s: %w", incident, err)
	}
	return PlaybookStarted{Incident: incident, LogicApp: in.LogicApp}, nil
}
