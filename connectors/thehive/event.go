package thehive

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// verdicts are OCSF's verdicts of the statuses that TheHive closes a case with. Another closed status, which an administrator
// made, is Other, and its name goes beside it.
var verdicts = map[string]int{
	"truepositive": ocsf.VerdictTruePositive, "falsepositive": ocsf.VerdictFalsePositive,
	"indeterminate": ocsf.VerdictInsufficientData, "duplicated": ocsf.VerdictDuplicate, "other": ocsf.Other,
}

// verdictNames are what the connection's verdicts may say.
var verdictNames = map[string]int{
	"unknown": ocsf.VerdictUnknown, "false_positive": ocsf.VerdictFalsePositive, "true_positive": ocsf.VerdictTruePositive,
	"disregard": ocsf.VerdictDisregard, "suspicious": ocsf.VerdictSuspicious, "benign": ocsf.VerdictBenign, "test": ocsf.VerdictTest,
	"insufficient_data": ocsf.VerdictInsufficientData, "duplicate": ocsf.VerdictDuplicate,
}

// setUpVerdicts reads the connection's verdicts.
func (c *Client) setUpVerdicts() error {
	c.verdicts = map[string]int{}
	for status, name := range c.cfg.Verdicts {
		id, ok := verdictNames[strings.ToLower(name)]
		if !ok {
			return sdk.BadConfig("/verdicts/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(status), "%q is no verdict; there are %s", name,
				strings.Join(slices.Sorted(maps.Keys(verdictNames)), ", "))
		}
		c.verdicts[plainName(status)] = id
	}
	return nil
}

// verdict of a case: none while it is open. What the connection says goes first.
func (c *Client) verdict(o *object) (id int, name string) {
	if !o.closed() {
		return ocsf.VerdictUnknown, ""
	}
	if id, ok := c.verdicts[plainName(o.Status)]; ok {
		return id, ocsf.VerdictName(id)
	}
	id, ok := verdicts[strings.ToLower(o.Status)]
	if !ok || id == ocsf.Other {
		return ocsf.Other, o.Status
	}
	return id, ocsf.VerdictName(id)
}

// stageIDs are the status_id of a finding and of a ticket for each stage.
var stageIDs = map[string][2]int{stageNew: {1, 1}, stageInProgress: {2, 2}, stageClosed: {5, 6}}

// How much of the free texts goes into an event; the case has all of it.
const (
	maxEventText   = 64 << 10
	maxEventFields = 256 << 10
)

// event is what became of a case, as of its last change. It is a pure function of the case: every host that reads it makes
// the same event. Its digest covers what people decide: comments, tags and fields, which we write ourselves, are no news.
func (c *Client) event(cs *object) (sdk.Event, error) {
	if !objectID(cs.ID) || cs.changed() <= 0 {
		return sdk.Event{}, errors.New("the case has no id or no time of its last change")
	}
	verdictID, verdict := c.verdict(cs)
	ids, known := stageIDs[cs.Stage]
	if !known {
		ids = [2]int{ocsf.Other, ocsf.Other}
	}
	ev := sdk.Event{
		Source: strings.ToLower(c.site) + "/api/v1/case", Type: event.TypeCase, Subject: cs.ID, Time: time.UnixMilli(cs.changed()).UTC(),
		PartitionKey: event.CaseKey("thehive", c.host, cs.ID), Tenant: c.env.Tenant,
		Digest: event.Digest(map[string]any{
			"title": cs.Title, "status": cs.Status, "stage": cs.Stage, "verdict": verdictID, "assignee": cs.Assignee,
			"severity": cs.Severity, "summary": cs.Summary,
		}),
	}
	if s := c.server.Load(); s != nil {
		ev.TLP, ev.PAP = marking(s.tlpOf(cs.TLP)), marking(papOf(cs.PAP))
	}
	ev.Seal()
	origins := originsOf(cs.Tags)
	severityID := map[int]int{1: ocsf.SeverityLow, 2: ocsf.SeverityMedium, 3: ocsf.SeverityHigh, 4: ocsf.SeverityCritical}[cs.Severity]
	f := ocsf.IncidentFinding{
		Desc: cut(cs.Description, maxEventText), Comment: cut(cs.Summary, maxEventText), SrcURL: c.caseURL(cs.ID),
		VerdictID: &verdictID, Verdict: verdict,
		Tickets: []ocsf.Ticket{{
			UID: strconv.Itoa(cs.Number), SrcURL: c.caseURL(cs.ID), Title: cs.Title, TypeID: new(1), Type: "Internal",
			StatusID: &ids[1], Status: map[int]string{1: "New", 2: "In Progress", 6: "Closed", ocsf.Other: cs.Stage}[ids[1]],
		}},
	}
	activity := ocsf.ActivityUpdate
	switch {
	case cs.closed():
		activity = ocsf.ActivityClose
	case cs.UpdatedAt == 0:
		activity = ocsf.ActivityCreate
	}
	f.SetClass(ocsf.ClassIncidentFinding, activity)
	f.Time, f.Message, f.StatusCode = cs.changed(), cs.Title, cs.Status
	f.SeverityID, f.Severity = severityID, ocsf.SeverityName(severityID)
	f.StatusID, f.Status = &ids[0], ocsf.StatusName(ocsf.ClassIncidentFinding, ids[0])
	if !known {
		f.Status = cs.Stage
	}
	f.StartTime, f.EndTime = some(cs.StartDate), some(cs.EndDate)
	if verdictID == ocsf.VerdictUnknown {
		f.Verdict = ocsf.VerdictName(verdictID)
	}
	if cs.ImpactStatus != "" {
		f.ImpactID, f.Impact = new(ocsf.Other), cs.ImpactStatus
	}
	if cs.Assignee == "" {
		f.AssigneeGroup = ocsf.PlaceholderGroup()
	} else {
		f.Assignee = &ocsf.User{Name: cs.Assignee, TypeID: new(1), Type: "User"}
		if strings.Contains(cs.Assignee, "@") {
			f.Assignee.EmailAddr = cs.Assignee
		}
	}
	f.FindingInfoList = findings(cs, origins)
	f.Metadata = ocsf.Metadata{
		UID: ev.ID, Version: event.DataVersion, Product: ocsf.Product{Name: "TheHive", UID: "thehive", VendorName: "StrangeBee"},
		Profiles: []string{ocsf.ProfileIncident}, LogProvider: "TheHive", LogName: "case", OriginalEventUID: cs.ID, Labels: cs.Tags,
	}
	if len(cs.Description) > maxEventText || len(cs.Summary) > maxEventText {
		f.Metadata.IsTruncated = new(true)
	}
	var err error
	if f.Unmapped, err = json.Marshal(unmapped(cs, origins)); err != nil {
		return sdk.Event{}, err
	}
	ev.Data, err = json.Marshal(f)
	return ev, err
}

// findings are what the case was made for, if it says, else the case itself.
func findings(cs *object, origins []string) []ocsf.FindingInfo {
	info := ocsf.FindingInfo{UID: cs.ID, Title: cs.Title, CreatedTime: some(cs.CreatedAt), ModifiedTime: some(cs.changed())}
	var out []ocsf.FindingInfo
	for _, o := range origins {
		_, info.UID, _ = strings.Cut(o, ":")
		out = append(out, info)
	}
	if len(out) == 0 {
		return []ocsf.FindingInfo{info}
	}
	return out
}

// unmapped is what OCSF has no place for.
func unmapped(cs *object, origins []string) map[string]any {
	out := map[string]any{"tlp": cs.TLP, "pap": cs.PAP, "stage": cs.Stage, "number": cs.Number, "flag": cs.Flag}
	if cs.ImpactStatus != "" {
		out["impactStatus"] = cs.ImpactStatus
	}
	if len(origins) > 0 {
		ours := map[string]any{"origin": origins[0]}
		if len(origins) > 1 {
			ours["origins"] = origins
		}
		out["casewire"] = ours
	}
	fields, size := map[string]json.RawMessage{}, 0
	for _, f := range cs.CustomFields {
		if size += len(f.Name) + len(f.Value); len(f.Value) > 0 && string(f.Value) != "null" && size <= maxEventFields {
			fields[f.Name] = f.Value
		}
	}
	if len(fields) > 0 {
		out["customFields"] = fields
	}
	return out
}

func some(ms int64) *int64 {
	if ms <= 0 {
		return nil
	}
	return &ms
}

// marking is a level in the words of events.
func marking(l level) string {
	return [...]string{"CLEAR", "GREEN", "AMBER", "AMBER STRICT", "RED"}[l]
}
