package jira

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// verdicts are OCSF's verdict_id by the name of a resolution, in lower case. Sites name resolutions as they like: the
// connection's verdicts go before these.
var verdicts = map[string]int{
	"done": ocsf.VerdictTruePositive, "fixed": ocsf.VerdictTruePositive, "resolved": ocsf.VerdictTruePositive,
	"true positive": ocsf.VerdictTruePositive, "false positive": ocsf.VerdictFalsePositive,
	"benign": ocsf.VerdictBenign, "benign positive": ocsf.VerdictBenign, "security test": ocsf.VerdictTest, "test": ocsf.VerdictTest,
	"duplicate": ocsf.VerdictDuplicate, "won't do": ocsf.VerdictDisregard, "won't fix": ocsf.VerdictDisregard, "declined": ocsf.VerdictDisregard,
	"cannot reproduce": ocsf.VerdictInsufficientData, "incomplete": ocsf.VerdictInsufficientData,
}

// verdictNames are what the connection's verdicts may say.
var verdictNames = map[string]int{
	"unknown": ocsf.VerdictUnknown, "false_positive": ocsf.VerdictFalsePositive, "true_positive": ocsf.VerdictTruePositive,
	"disregard": ocsf.VerdictDisregard, "suspicious": ocsf.VerdictSuspicious, "benign": ocsf.VerdictBenign, "test": ocsf.VerdictTest,
	"insufficient_data": ocsf.VerdictInsufficientData, "duplicate": ocsf.VerdictDuplicate,
}

// verdict is what a resolution says about the case: nothing as long as it is open.
func (c *Client) verdict(resolution string) (id int, name string) {
	if resolution == "" {
		return ocsf.VerdictUnknown, ""
	}
	key := strings.ToLower(strings.ReplaceAll(resolution, "\u2019", "'"))
	if id, ok := c.verdicts[key]; ok {
		return id, ocsf.VerdictName(id)
	}
	if id, ok := verdicts[key]; ok {
		return id, ocsf.VerdictName(id)
	}
	return ocsf.Other, resolution
}

// severityOf is the severity whose priority an issue has: the way back of the connection's table. Of several severities
// with one priority the lowest that says something counts.
func (c *Client) severityOf(p choice) (id int, name string) {
	if p.Name == "" && p.ID == "" {
		return ocsf.SeverityUnknown, ""
	}
	for _, id := range []int{1, 2, 3, 4, 5, 6, 0} {
		if have := c.priorities[id]; have != "" && (strings.EqualFold(have, p.Name) || have == p.ID) {
			return id, ocsf.SeverityName(id)
		}
	}
	return ocsf.Other, p.Name
}

// priorityID is OCSF's priority_id for a fresh Jira's priorities.
func priorityID(name string) int {
	switch strings.ToLower(name) {
	case "lowest", "low":
		return 1
	case "medium":
		return 2
	case "high":
		return 3
	case "highest":
		return 4
	}
	return ocsf.Other
}

// incidentStatus is OCSF's status_id by category.
func incidentStatus(category string) int {
	switch category {
	case "new":
		return 1
	case "indeterminate":
		return 2
	case categoryDone:
		return 5
	}
	return 0
}

// caseFields are the fields that a case event is made of.
var caseFields = []string{
	"summary", "status", "resolution", "priority", "assignee", "reporter", "created", "updated", "labels", "project", "issuetype", "resolutiondate",
}

// snapshot is an issue as its event shows it.
type snapshot struct {
	*issue

	closing string // what a person said last when the issue was closed
	deleted bool
}

// caseEvent makes the event of an issue. The digest covers what a case means to others: title, status, resolution,
// assignee, severity and the closing comment. What the connector itself writes otherwise (fields, labels, comments) moves
// the revision only, and starts nothing.
func (c *Client) caseEvent(s *site, is *snapshot) (sdk.Event, error) {
	at := is.time("updated")
	source := s.url
	if source == "" {
		source = strings.TrimRight(c.cfg.BaseURL, "/")
	}
	host := c.host
	if u, err := url.Parse(source); err == nil && u.Host != "" {
		host = u.Host
	}
	var status struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	is.field("status", &status)
	var assignee foundUser
	is.field("assignee", &assignee)
	var priority, kind choice
	var project nameOrID
	is.field("priority", &priority)
	is.field("project", &project)
	is.field("issuetype", &kind)
	title, resolution, category := is.text("summary"), is.name("resolution"), is.category()
	if is.deleted {
		category, status.Name = categoryDone, "Deleted"
	}
	verdictID, verdict := c.verdict(resolution)
	severityID, severity := c.severityOf(priority)
	who := cmp.Or(assignee.AccountID, assignee.Name)

	e := sdk.Event{
		Source: source + "/rest/api/issue", Type: event.TypeCase, Subject: is.ID, Time: at, PartitionKey: event.CaseKey("jira", host, is.ID),
		Digest: event.Digest(map[string]any{
			"title": title, "status": cmp.Or(status.ID, status.Name), "category": category, "resolution": resolution, "assignee": who,
			"severity": severityID, "priority": priority.Name, "comment": is.closing, "deleted": is.deleted,
		}),
	}
	e.Aliases = []string{event.CaseKey("jira", host, is.Key)}
	e.Seal()

	mark, _ := is.mark()
	finding := ocsf.FindingInfo{UID: cmp.Or(originID(mark.Origin), mark.Key, is.ID), Title: title, SrcURL: s.browse(is.Key), ModifiedTime: millis(at)}
	if t := is.time("created"); !t.IsZero() {
		finding.CreatedTime = millis(t)
	}
	data := ocsf.IncidentFinding{
		FindingInfoList: []ocsf.FindingInfo{finding},
		Priority:        priority.Name, Verdict: verdict, VerdictID: &verdictID, Comment: is.closing, SrcURL: s.browse(is.Key),
		Tickets: []ocsf.Ticket{{
			UID: is.Key, SrcURL: s.browse(is.Key), Title: title, TypeID: new(1), Type: "Internal",
			StatusID: new(map[string]int{"new": 1, "indeterminate": 2, categoryDone: 6}[category]), Status: status.Name,
		}},
	}
	if priority.Name != "" {
		data.PriorityID = new(priorityID(priority.Name))
	}
	activity := ocsf.ActivityUpdate
	switch {
	case category == categoryDone:
		activity = ocsf.ActivityClose
	case at.Equal(is.time("created")):
		activity = ocsf.ActivityCreate
	}
	data.SetClass(ocsf.ClassIncidentFinding, activity)
	statusID := incidentStatus(category)
	data.Time, data.Message, data.StatusID, data.Status = at.UnixMilli(), title, &statusID, ocsf.StatusName(ocsf.ClassIncidentFinding, statusID)
	data.SeverityID, data.Severity, data.StatusCode, data.StatusDetail = severityID, severity, status.Name, resolution
	if category == categoryDone && resolution != "" {
		data.StatusCode = resolution // what people chose when they closed it says more than Done
	}
	if severity == "" {
		data.Severity = ocsf.SeverityName(severityID)
	}
	data.Metadata = ocsf.Metadata{
		UID: e.ID, Version: event.DataVersion, Product: ocsf.Product{Name: "Jira", VendorName: "Atlassian"},
		Profiles: []string{ocsf.ProfileIncident}, OriginalEventUID: is.ID, OriginalTime: is.text("created"),
		Labels: is.labels(), CorrelationUID: mark.Key,
	}
	if who != "" {
		data.Assignee = &ocsf.User{Name: cmp.Or(assignee.DisplayName, assignee.Name), UID: who, EmailAddr: assignee.EmailAddress}
	} else {
		data.AssigneeGroup = ocsf.PlaceholderGroup()
	}
	var err error
	data.Unmapped, err = json.Marshal(unmapped{
		Casewire: casewire{Origin: mark.Origin, Key: mark.Key, Ref: refOf(is.issue, mark)},
		Project:  cmp.Or(project.Key, project.Name), IssueType: kind.Name, Reporter: is.name("reporter"),
		Resolution: resolution, ResolutionDate: is.text("resolutiondate"), StatusID: status.ID, Deleted: is.deleted,
	})
	if err == nil {
		e.Data, err = json.Marshal(&data)
	}
	return e, err
}

// unmapped is what OCSF has no place for.
type unmapped struct {
	Casewire       casewire `json:"casewire"`
	Project        string   `json:"project,omitempty"`
	IssueType      string   `json:"issuetype,omitempty"`
	Reporter       string   `json:"reporter,omitempty"`
	Resolution     string   `json:"resolution,omitempty"`
	ResolutionDate string   `json:"resolutiondate,omitempty"`
	StatusID       string   `json:"status_id,omitempty"`
	Deleted        bool     `json:"deleted,omitempty"`
}

// casewire is what our own mark on the issue says.
type casewire struct {
	Origin string `json:"origin,omitempty"`
	Key    string `json:"key,omitempty"`
	Ref    string `json:"ref,omitempty"`
}

// originID is the id in an origin such as alert:ID.
func originID(origin string) string {
	_, id, _ := strings.Cut(origin, ":")
	return id
}

// refOf is the ref that an issue was marked with: in its property, or, where that cannot be read, in its labels.
func refOf(is *issue, p property) string {
	if p.Ref != "" {
		return p.Ref
	}
	for _, l := range is.labels() {
		if ref, ok := strings.CutPrefix(l, labelPrefix); ok && isRef(ref) {
			return ref
		}
	}
	return ""
}

func millis(t time.Time) *int64 {
	ms := t.UnixMilli()
	return &ms
}
