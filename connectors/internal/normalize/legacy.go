package normalize

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// LegacyAlert makes the event of an alert of the Graph API that was retired in October 2026 (microsoft.graph.alert,
// "security/alerts"), for who brings a stock of them along. It is an event of its own source; by its id it is the same
// object as the alert of today's API, where the provider kept the id. What Alert says of pure functions, loss and errors
// holds here too.
func LegacyAlert(raw []byte, o Options) (sdk.Event, error) {
	var ev sdk.Event
	var fault error
	err := withTree(raw, func(src *node) error {
		ev, fault = legacyAlert(src, o)
		return nil
	})
	if err == nil {
		err = fault
	}
	return ev, err
}

func legacyAlert(src *node, o Options) (sdk.Event, error) {
	m := &rowMapper{mapper: mapper{src: src, tenant: tenantOf(src, "azureTenantId", o.Tenant)}}
	id := strings.Clone(src.scalar("id"))
	if err := identifiable(id, m.tenant); err != nil {
		return sdk.Event{}, err
	}
	var err error
	if m.created, m.updated, err = rowTimes(src, "createdDateTime", "lastModifiedDateTime"); err != nil {
		return sdk.Event{}, err
	}
	ev := sdk.Event{
		Source: "https://" + cmp.Or(o.GraphHost, DefaultGraphHost) + "/" + url.PathEscape(m.tenant) + "/security/alerts", Type: event.TypeAlert,
		Subject: id, Tenant: strings.Clone(m.tenant), Rev: event.Rev(m.updated), PartitionKey: event.AlertKey(m.tenant, id),
	}
	if incidents := src.strings("incidentIds"); len(incidents) == 1 && len(incidents[0]) <= event.MaxTenant {
		ev.CorrelationID = event.IncidentKey(m.tenant, incidents[0])
	}
	m.legacy(&ev)
	slices.Sort(m.significant)
	ev.Digest = event.Digest(map[string]any{
		"assignedTo": src.str("assignedTo"), "category": src.str("category"), "evidence": append([]string{}, m.significant...),
		"feedback": src.str("feedback"), "severity": src.str("severity"), "status": src.str("status"), "title": src.str("title"),
		"comments": newsComments(src.strings("comments")),
	})
	ev.Seal()
	m.finding.Metadata.UID = ev.ID
	ev.Data, err = encode(&m.finding)
	return ev, err
}

func newsComments(list []string) []string {
	return slices.DeleteFunc(append([]string{}, list...), IsOwnComment)
}

var (
	legacyStatuses  = map[string]int{"unknown": 0, "newalert": 1, "inprogress": 2, "dismissed": 3, "resolved": 4}
	legacyFeedbacks = map[string]int{
		"unknown": 0, "truepositive": ocsf.VerdictTruePositive, "falsepositive": ocsf.VerdictFalsePositive, "benignpositive": ocsf.VerdictBenign,
	}
)

func (m *rowMapper) legacy(ev *sdk.Event) {
	f, src, t := &m.finding, m.src, &m.taker
	info := &f.FindingInfo
	for _, k := range []string{"createdDateTime", "lastModifiedDateTime"} {
		if _, ok := src.time(k); ok {
			t.mark(src, k)
		}
	}
	word := t.str(src, "status")
	status := lookup(legacyStatuses, word)
	activity := ocsf.ActivityUpdate
	f.Time = m.updated.UnixMilli()
	switch {
	case status == 3 || status == 4:
		activity = ocsf.ActivityClose
	case m.updated.Sub(m.created) < time.Second:
		activity = ocsf.ActivityCreate
		f.Time = m.created.UnixMilli()
	}
	f.SetClass(ocsf.ClassDetectionFinding, activity)
	f.IsAlert = new(true)
	f.StatusID, f.StatusCode = &status, word
	f.Status = captionOr(status, ocsf.StatusName(ocsf.ClassDetectionFinding, status), word)
	word = t.str(src, "severity")
	f.SeverityID = lookup(severities, word)
	f.Severity = captionOr(f.SeverityID, ocsf.SeverityName(f.SeverityID), word)
	word = src.str("feedback")
	verdict := lookup(legacyFeedbacks, word)
	f.VerdictID, f.Verdict = &verdict, captionOr(verdict, ocsf.VerdictName(verdict), word)
	if n := t.integer(src, "confidence"); n != nil && *n >= 0 && *n <= 100 {
		score := int(*n)
		id := confidence(score)
		f.ConfidenceScore, f.ConfidenceID, f.Confidence = &score, &id, confidenceNames[id]
	}
	f.StartTime, f.EndTime = t.time(src, "eventDateTime"), t.time(src, "lastEventDateTime")
	if who := t.str(src, "assignedTo"); who != "" {
		f.Assignee = &ocsf.User{Name: who}
	}
	if list := src.strings("comments"); len(list) > 0 {
		f.Comment = list[len(list)-1]
	}
	if list := src.strings("recommendedActions"); len(list) > 0 {
		f.Remediation = &ocsf.Remediation{Desc: strings.Join(list, "\n")}
		m.markAll("recommendedActions")
	}
	info.UID, info.Title, info.Desc = t.scalar(src, "id"), t.str(src, "title"), t.str(src, "description")
	f.Message = info.Title
	if list := src.strings("sourceMaterials"); len(list) > 0 {
		info.SrcURL = list[0]
	}
	info.CreatedTime, info.ModifiedTime = new(m.created.UnixMilli()), new(m.updated.UnixMilli())
	info.FirstSeenTime, info.LastSeenTime = f.StartTime, f.EndTime
	if c := t.str(src, "category"); c != "" {
		info.Types = []string{c}
		info.Attacks, _ = attacksOf([]string{c}, nil, nil)
	}
	if a := t.str(src, "activityGroupName"); a != "" {
		info.Traits = []ocsf.Trait{{Type: "threat_actor", Name: a}}
	}
	for _, id := range src.strings("incidentIds") {
		info.RelatedEvents = append(info.RelatedEvents, ocsf.RelatedEvent{
			UID: id, Type: "incident", TypeUID: ocsf.ClassIncidentFinding * 100, TypeName: "Incident Finding: Unknown",
		})
	}
	m.markAll("incidentIds")
	for _, id := range src.strings("detectionIds") {
		info.RelatedEvents = append(info.RelatedEvents, ocsf.RelatedEvent{UID: id, Type: "detection"})
	}
	m.markAll("detectionIds")
	vendor := src.get("vendorInformation")
	product := ocsf.Product{Name: cmp.Or(t.str(vendor, "provider"), "Microsoft Graph Security"), VendorName: cmp.Or(t.str(vendor, "vendor"), "Microsoft")}
	if s := t.str(vendor, "subProvider"); s != "" {
		product.Feature = &ocsf.Feature{Name: s}
	}
	info.Product = &product
	f.Metadata = ocsf.Metadata{
		Version: ocsf.Version, Product: product, Profiles: []string{ocsf.ProfileIncident}, TenantUID: cmp.Or(t.scalar(src, "azureTenantId"), m.tenant),
		CorrelationUID: ev.CorrelationID, LogName: "security/alerts", LogProvider: "Microsoft Graph", OriginalEventUID: info.UID,
		OriginalTime: src.str("createdDateTime"), Labels: src.strings("tags"),
	}
	m.markAll("tags")
	if account := t.str(src, "azureSubscriptionId"); account != "" {
		f.Cloud = &ocsf.Cloud{Provider: "Azure", Account: &ocsf.Account{UID: account, TypeID: new(13), Type: "Azure Subscription"}}
		f.Metadata.Profiles = []string{ocsf.ProfileCloud, ocsf.ProfileIncident}
	}
	m.commit()
	m.legacyStates()
	f.Observables = m.obs.list
	if m.windows {
		f.Metadata.Extensions = []ocsf.Extension{ocsf.WindowsExtension()}
	}
	f.Unmapped = src.appendRest(nil, "@odata.")
}

// markAll marks a list of texts that was carried over whole.
func (m *mapper) markAll(name string) {
	if len(m.src.strings(name)) == len(m.src.items(name)) {
		m.mark(m.src, name)
	}
}

// legacyStates makes evidences of the lists of states, one for each state.
func (m *rowMapper) legacyStates() {
	for _, l := range []struct {
		list string
		read func(*entityScope)
	}{
		{"userStates", (*entityScope).userState},
		{"hostStates", (*entityScope).hostState},
		{"fileStates", (*entityScope).fileState},
		{"processes", (*entityScope).processState},
		{"networkConnections", (*entityScope).connectionState},
		{"malwareStates", (*entityScope).malwareState},
		{"registryKeyStates", (*entityScope).registryState},
		{"messageSecurityStates", (*entityScope).messageState},
		{"uriClickSecurityStates", (*entityScope).clickState},
		{"cloudAppStates", (*entityScope).appState},
		{"securityResources", (*entityScope).resourceState},
		{"vulnerabilityStates", func(s *entityScope) { s.key = s.src.str("cve") }},
	} {
		list := m.src.items(l.list)
		for i := range list {
			m.state(strings.TrimSuffix(l.list, "s"), &list[i], l.read)
		}
		if list != nil {
			m.src.get(l.list).used = true
		}
	}
}

func (m *rowMapper) state(kind string, src *node, read func(*entityScope)) {
	m.finding.Evidences = append(m.finding.Evidences, ocsf.Evidence{Name: kind})
	i := len(m.finding.Evidences) - 1
	out := &m.finding.Evidences[i]
	if src.kind != '{' {
		out.Data = src.appendJSON(nil)
		return
	}
	s := &entityScope{&evidenceScope{mapper: &m.mapper, src: src, out: out, kind: kind}, m}
	m.obs.evidence(i, 0)
	read(s)
	s.commit()
	out.UID = s.key
	if out.Data = src.appendRest(nil, "@odata."); len(out.Data) == 0 && isBare(out) {
		out.Data = []byte("{}")
	}
	if m.finding.Device == nil && out.Device != nil && out.Device.Hostname != "" {
		m.finding.Device = out.Device
	}
	m.significant = append(m.significant, kind+"|"+s.key)
}
