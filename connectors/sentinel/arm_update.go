package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

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
	case guidRule().MatchString(who):
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
