package normalize

import (
	"errors"
	"slices"
	"strings"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// IncidentRow makes the event of a row of Sentinel's table SecurityIncident: a JSON object by column. The table grows by a
// row with every change: ask for the newest of each, "summarize arg_max(LastModifiedTime, *) by IncidentName". The same
// incident through Azure Resource Manager is another event of the same object. What Alert says of pure functions, loss and
// errors holds here too.
//
// Column IncidentNumber is no identity: it is not the number of the incident in Defender, which ProviderIncidentId is, if
// ProviderName says that Defender made the incident.
func IncidentRow(raw []byte, o RowOptions) (sdk.Event, error) {
	return withRow(raw, "row of SecurityIncident", func(src *node) (sdk.Event, error) { return incidentRow(src, o) })
}

func incidentRow(src *node, o RowOptions) (sdk.Event, error) {
	m := &incidentMapper{src: src, tenant: strings.ToLower(strings.TrimSpace(o.Tenant))}
	name := strings.Clone(src.scalar("IncidentName"))
	if name == "" {
		return sdk.Event{}, errors.New("it has no IncidentName, which is its identity")
	}
	if err := identifiable(name, m.tenant); err != nil {
		return sdk.Event{}, err
	}
	source, err := o.source(src, "SecurityIncident")
	if err != nil {
		return sdk.Event{}, err
	}
	if err := m.times("CreatedTime", "LastModifiedTime"); err != nil {
		return sdk.Event{}, err
	}
	ev := sdk.Event{
		Source: source, Type: event.TypeIncident, Subject: name, Tenant: strings.Clone(m.tenant), Rev: event.Rev(m.updated),
		PartitionKey: event.SentinelIncidentKey(name),
	}
	if id := src.scalar("ProviderIncidentId"); id != "" && len(id) <= event.MaxTenant && madeByDefender(src.str("ProviderName")) {
		ev.CorrelationID = event.IncidentKey(m.tenant, id)
	}
	m.row(&ev)
	ev.Digest = m.rowDigest()
	return m.seal(ev)
}

// madeByDefender says whether a provider's name is one of those that Defender XDR has had.
func madeByDefender(provider string) bool {
	return slices.Contains([]string{"microsoftxdr", "microsoft365defender", "microsoftdefenderxdr"}, fold(provider))
}

var rowIncidentStatuses = map[string]int{"new": 1, "active": 2, "closed": incidentClosed}

var rowVerdicts = map[string]int{
	"truepositive": ocsf.VerdictTruePositive, "benignpositive": ocsf.VerdictBenign, "falsepositive": ocsf.VerdictFalsePositive,
	"undetermined": ocsf.VerdictInsufficientData,
}

func (m *incidentMapper) row(ev *sdk.Event) {
	f, src, t := &m.finding, m.src, &m.taker
	extra := src.get("AdditionalData")
	status := t.str(src, "Status")
	m.head(t.str(src, "Severity"), status, lookup(rowIncidentStatuses, status))
	word := src.str("Classification")
	m.verdict(lookup(rowVerdicts, word), word)
	f.StatusDetail = src.str("ClassificationReason")
	if f.Comment = t.str(src, "ClassificationComment"); f.Comment == "" {
		f.Comment = m.rowComment()
	}
	f.FindingInfoList = make([]ocsf.FindingInfo, 1)
	info := &f.FindingInfoList[0]
	info.UID, info.UIDAlt = t.scalar(src, "IncidentName"), t.scalar(src, "ProviderIncidentId")
	info.Title, info.Desc = t.str(src, "Title"), t.str(src, "Description")
	f.Message, f.Desc = info.Title, info.Desc
	f.SrcURL, info.SrcURL = t.str(src, "IncidentUrl"), t.str(extra, "providerIncidentUrl")
	info.CreatedTime, info.ModifiedTime = new(m.created.UnixMilli()), new(m.updated.UnixMilli())
	f.StartTime, f.EndTime = t.time(src, "FirstActivityTime"), t.time(src, "LastActivityTime")
	info.FirstSeenTime, info.LastSeenTime = f.StartTime, f.EndTime
	if p := t.str(src, "ProviderName"); p != "" {
		info.Product = &ocsf.Product{Name: p, VendorName: "Microsoft"}
	}
	info.DataSources = extra.strings("alertProductNames")
	if allWords(extra, "alertProductNames") {
		t.mark(extra, "alertProductNames")
	}
	for _, id := range words(src, "RelatedAnalyticRuleIds") {
		info.RelatedAnalytics = append(info.RelatedAnalytics, ocsf.Analytic{UID: id, TypeID: 1, Type: ocsf.AnalyticTypeName(1)})
	}
	if allWords(src, "RelatedAnalyticRuleIds") {
		t.mark(src, "RelatedAnalyticRuleIds")
	}
	m.rowAlerts(info, extra)
	list, left := attacksOf(words(extra, "tactics"), words(extra, "techniques"), nil)
	f.Attacks = list
	for i, name := range []string{"tactics", "techniques"} {
		if !left[i] && allWords(extra, name) {
			t.mark(extra, name)
		}
	}
	m.rowOwner(src.get("Owner"))
	product := ocsf.Product{Name: "Microsoft Sentinel", UID: "microsoftSentinel", VendorName: "Microsoft"}
	f.Metadata = ocsf.Metadata{
		Version: ocsf.Version, Product: product, Profiles: []string{ocsf.ProfileIncident}, TenantUID: m.tenant,
		CorrelationUID: ev.CorrelationID, LogName: "SecurityIncident", LogProvider: "Azure Monitor Logs", OriginalEventUID: info.UID,
		OriginalTime: src.str("CreatedTime"), Labels: m.rowLabels(),
	}
	if src.str("Type") == "SecurityIncident" {
		t.mark(src, "Type")
	}
	m.commit()
	if k := src.get("TenantId"); k != nil {
		k.name = "WorkspaceId" // what it is
	}
	f.Unmapped = src.appendRest(nil, "")
}

// rowAlerts reads the ids of the incident's alerts, or how many there are.
func (m *incidentMapper) rowAlerts(info *ocsf.FindingInfo, extra *node) {
	m.alerts = words(m.src, "AlertIds")
	slices.Sort(m.alerts)
	m.alerts = slices.Compact(m.alerts)
	for i, id := range m.alerts {
		m.alerts[i] = strings.Clone(id)
		info.RelatedEvents = append(info.RelatedEvents, ocsf.RelatedEvent{
			UID: id, Type: "alert", TypeUID: ocsf.ClassDetectionFinding * 100, TypeName: "Detection Finding: Unknown",
		})
	}
	if allWords(m.src, "AlertIds") {
		m.mark(m.src, "AlertIds")
	}
	if n := m.integer(extra, "alertsCount"); n != nil {
		info.RelatedEventsCount = new(int(*n))
	} else if len(m.alerts) > 0 {
		info.RelatedEventsCount = new(len(m.alerts))
	}
}

// rowOwner reads who the incident is assigned to. What stands for nobody is an object of nulls, or of the word null.
func (m *incidentMapper) rowOwner(n *node) {
	text := func(name string) string {
		if s := n.str(name); !strings.EqualFold(s, "null") {
			return s
		}
		return ""
	}
	name, id, mail := text("assignedTo"), text("objectId"), text("email")
	switch {
	case name == "" && id == "" && mail == "":
		m.finding.AssigneeGroup = ocsf.PlaceholderGroup()
		return
	case fold(n.str("ownerType")) == "group":
		m.finding.AssigneeGroup = &ocsf.Group{Name: firstOf(name, mail), UID: id}
	default:
		m.finding.Assignee = &ocsf.User{Name: firstOf(name, mail), UID: id, TypeID: new(1), Type: "User"}
		if isEmail(mail) {
			m.finding.Assignee.EmailAddr = mail
			m.mark(n, "email")
		}
	}
	m.mark(n, "assignedTo")
	m.mark(n, "objectId")
}

// rowLabels are names, or objects with one; who set a label stays in unmapped.
func (m *incidentMapper) rowLabels() (out []string) {
	for i, list := 0, m.src.items("Labels"); i < len(list); i++ {
		k := &list[i]
		switch {
		case k.kind == '"' && k.text != "":
			out = append(out, k.text)
		case k.str("labelName") != "":
			out = append(out, m.str(k, "labelName"))
		}
	}
	if allWords(m.src, "Labels") {
		m.mark(m.src, "Labels")
	}
	return out
}

// rowComment is the newest comment.
func (m *incidentMapper) rowComment() string {
	text, newest := "", ""
	for i, list := 0, m.src.items("Comments"); i < len(list); i++ {
		if s, at := list[i].str("message"), list[i].str("createdTimeUtc"); s != "" && at >= newest {
			text, newest = s, at
		}
	}
	return text
}

func (m *incidentMapper) rowDigest() string {
	src, extra, owner := m.src, m.src.get("AdditionalData"), m.src.get("Owner")
	p := significantIncident{
		Alerts: m.alerts, AssignedTo: firstOf(owner.str("objectId"), owner.str("userPrincipalName"), owner.str("email"), owner.str("assignedTo")),
		Classification: src.str("Classification"), Reason: src.str("ClassificationReason"), Severity: src.str("Severity"),
		Status: src.str("Status"), Title: src.str("Title"), Labels: newsLabels(m.finding.Metadata.Labels), Resolving: src.str("ClassificationComment"),
	}
	if len(p.Alerts) == 0 {
		p.AlertCount = extra.scalar("alertsCount")
	}
	for i, list := 0, src.items("Comments"); i < len(list); i++ {
		if c := &list[i]; !IsOwnComment(c.str("message")) {
			p.Comments = append(p.Comments, firstOf(c.str("id"), c.str("name"), c.str("message")))
		}
	}
	return event.Digest(p)
}
