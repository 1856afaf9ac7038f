package normalize

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// AlertRow makes the event of a row of Sentinel's table SecurityAlert: a JSON object by column, as a query of Log Analytics
// returns it. The same alert through Microsoft Graph is another event of the same object: both have one partition key, or
// share an alias. What Alert says of pure functions, loss and errors holds here too.
func AlertRow(raw []byte, o RowOptions) (sdk.Event, error) {
	return withRow(raw, "row of SecurityAlert", func(src *node) (sdk.Event, error) { return alertRow(src, o) })
}

func alertRow(src *node, o RowOptions) (sdk.Event, error) {
	m := &rowMapper{mapper: mapper{src: src, tenant: strings.ToLower(strings.TrimSpace(o.Tenant))}}
	system, vendor := src.scalar("SystemAlertId"), src.scalar("VendorOriginalId")
	id := strings.Clone(firstOf(system, vendor))
	if err := identifiable(id, m.tenant); err != nil {
		return sdk.Event{}, err
	}
	source, err := o.source(src, "SecurityAlert")
	if err != nil {
		return sdk.Event{}, err
	}
	if m.created, m.updated, err = rowTimes(src, "ProcessingEndTime", "TimeGenerated"); err != nil {
		return sdk.Event{}, err
	}
	// Sentinel's own rules name the alert themselves; of what another product found, that product's id is the one that
	// Graph has, too.
	key := system
	if !strings.HasPrefix(strings.ToUpper(src.str("ProviderName")), "ASI") && isDistinctive(vendor) {
		key = vendor
	}
	ev := sdk.Event{
		Source: source, Type: event.TypeAlert, Subject: id, Tenant: strings.Clone(m.tenant), Rev: event.Rev(m.updated),
		PartitionKey: event.AlertKey(m.tenant, cmp.Or(key, id)),
	}
	for _, alias := range []string{system, vendor} {
		if k := event.AlertKey(m.tenant, alias); isDistinctive(alias) && k != ev.PartitionKey && !slices.Contains(ev.Aliases, k) {
			ev.Aliases = append(ev.Aliases, k)
		}
	}
	m.row(&ev)
	ev.Digest = m.rowDigest()
	ev.Seal()
	m.finding.Metadata.UID = ev.ID
	ev.Data, err = encode(&m.finding)
	return ev, err
}

// rowMapper is the work on one row.
type rowMapper struct {
	mapper
	byID map[string]*node // entities by $id, for $ref
}

func (m *rowMapper) row(_ *sdk.Event) {
	f, src, t := &m.finding, m.src, &m.taker
	info := &f.FindingInfo
	for _, k := range []string{"ProcessingEndTime", "TimeGenerated"} {
		if _, ok := src.time(k); ok {
			t.mark(src, k)
		}
	}
	activity := ocsf.ActivityUpdate
	f.Time = m.updated.UnixMilli()
	word := t.str(src, "Status")
	status := lookup(rowStatuses, word)
	switch {
	case status == 4 || status == 3:
		activity = ocsf.ActivityClose
	case m.updated.Sub(m.created) < time.Second:
		activity = ocsf.ActivityCreate
		f.Time = m.created.UnixMilli()
	}
	f.SetClass(ocsf.ClassDetectionFinding, activity)
	f.IsAlert = new(true)
	f.StatusID, f.StatusCode = &status, word
	f.Status = captionOr(status, ocsf.StatusName(ocsf.ClassDetectionFinding, status), word)
	word = t.str(src, "AlertSeverity")
	f.SeverityID = lookup(severities, word)
	f.Severity = captionOr(f.SeverityID, ocsf.SeverityName(f.SeverityID), word)
	f.StartTime, f.EndTime = t.time(src, "StartTime"), t.time(src, "EndTime")
	info.UID, info.UIDAlt = t.scalar(src, "SystemAlertId"), t.scalar(src, "VendorOriginalId")
	if info.UID == "" {
		info.UID = info.UIDAlt
	}
	info.Title = firstOf(t.str(src, "DisplayName"), src.str("AlertName"))
	if info.Title == src.str("AlertName") {
		t.mark(src, "AlertName")
	}
	f.Message, info.Desc, info.SrcURL = info.Title, t.str(src, "Description"), t.str(src, "AlertLink")
	info.CreatedTime, info.FirstSeenTime, info.LastSeenTime = new(m.created.UnixMilli()), f.StartTime, f.EndTime
	info.ModifiedTime = new(m.updated.UnixMilli())
	m.confidence()
	m.remediation()
	m.rule()
	m.rowAttacks()
	m.extended()
	product := ocsf.Product{
		Name:       cmp.Or(t.str(src, "ProductName"), src.str("ProviderName"), "Microsoft Sentinel"),
		VendorName: cmp.Or(t.str(src, "VendorName"), "Microsoft"),
	}
	if s := t.str(src, "ProductComponentName"); s != "" {
		product.Feature = &ocsf.Feature{Name: s}
	}
	info.Product = &product
	f.Metadata = ocsf.Metadata{
		Version: ocsf.Version, Product: product, TenantUID: m.tenant, LogName: "SecurityAlert", LogProvider: "Azure Monitor Logs",
		OriginalEventUID: info.UID, OriginalTime: src.str("TimeGenerated"),
	}
	if id := t.str(src, "ResourceId"); id != "" {
		f.Resources = []ocsf.Resource{{UID: id}}
		m.obs.add(ocsf.ObservableResourceUID, "resources[0].uid", id)
	}
	for name, usual := range map[string]string{"Type": "SecurityAlert", "SourceSystem": "Detection"} {
		if strings.EqualFold(src.str(name), usual) {
			t.mark(src, name) // says nothing
		}
	}
	if k := src.get("IsIncident"); k != nil && k.kind == 'f' {
		k.used = true
	}
	m.commit()
	m.entities()
	if k := src.get("TenantId"); k != nil {
		k.name = "WorkspaceId" // what it is
	}
	f.Observables = m.obs.list
	if m.windows {
		f.Metadata.Extensions = []ocsf.Extension{ocsf.WindowsExtension()}
	}
	if f.Cloud != nil {
		f.Metadata.Profiles = []string{ocsf.ProfileCloud}
	}
	f.Unmapped = src.appendRest(nil, "")
}

var rowStatuses = map[string]int{"unknown": 0, "new": 1, "inprogress": 2, "dismissed": 3, "resolved": 4}

func (m *rowMapper) confidence() {
	f, src := &m.finding, m.src
	if score := (&taker{}).float(src, "ConfidenceScore"); score != nil && *score >= 0 && *score <= 1 {
		whole := int(math.Round(*score * 100))
		f.ConfidenceScore, f.ConfidenceID = &whole, new(confidence(whole))
		if strconv.FormatFloat(float64(whole)/100, 'g', -1, 64) == src.get("ConfidenceScore").text {
			m.mark(src, "ConfidenceScore")
		}
	}
	if word := src.str("ConfidenceLevel"); word != "" {
		if i := slices.IndexFunc(confidenceNames, func(n string) bool { return strings.EqualFold(n, word) }); i >= 0 {
			f.ConfidenceID = &i
			m.mark(src, "ConfidenceLevel")
		}
	}
	if f.ConfidenceID != nil {
		f.Confidence = confidenceNames[*f.ConfidenceID]
	}
}

// remediation joins the steps, which come as a list in a text.
func (m *rowMapper) remediation() {
	var lines []string
	if k := m.src.get("RemediationSteps"); k != nil && k.kind == '[' {
		lines = m.src.strings("RemediationSteps")
		if len(lines) == len(k.kids) {
			m.mark(m.src, "RemediationSteps")
		}
	} else if s := m.str(m.src, "RemediationSteps"); s != "" {
		lines = []string{s}
	}
	if len(lines) > 0 {
		m.finding.Remediation = &ocsf.Remediation{Desc: strings.Join(lines, "\n")}
	}
}

// rule reads the analytic rule: of Sentinel's alerts the type is the workspace and the rule, and the properties name it.
func (m *rowMapper) rule() {
	info, src := &m.finding.FindingInfo, m.src
	kind := src.str("AlertType")
	uid := ""
	if ids := src.get("ExtendedProperties").strings("Analytic Rule Ids"); len(ids) > 0 {
		uid = ids[0]
		if len(ids) == len(src.get("ExtendedProperties").items("Analytic Rule Ids")) && len(ids) == 1 {
			m.mark(src.get("ExtendedProperties"), "Analytic Rule Ids")
		}
	}
	if workspace, rule, ok := strings.Cut(kind, "_"); ok && strings.EqualFold(workspace, src.str("TenantId")) && uid == "" {
		uid = rule
	} else if !ok && kind != "" {
		m.mark(src, "AlertType")
		info.Types = append(info.Types, kind)
	}
	if uid != "" {
		info.Analytic = &ocsf.Analytic{UID: uid, Name: src.str("AlertName"), TypeID: 1, Type: ocsf.AnalyticTypeName(1)}
	}
}

func (m *rowMapper) rowAttacks() {
	info, src := &m.finding.FindingInfo, m.src
	tacticWords := words(src, "Tactics")
	list, left := attacksOf(tacticWords, words(src, "Techniques"), words(src, "SubTechniques"))
	info.Attacks = list
	info.Types = append(info.Types, tacticWords...)
	slices.Sort(info.Types)
	info.Types = slices.Compact(info.Types)
	m.mark(src, "Tactics") // all of them are types
	for i, name := range []string{"Techniques", "SubTechniques"} {
		if !left[i+1] && allWords(src, name) {
			m.mark(src, name)
		}
	}
}

// extended makes tags of what a rule tells about its alert.
func (m *rowMapper) extended() {
	custom := m.src.get("ExtendedProperties").get("Custom Details")
	if custom == nil || custom.kind != '{' {
		return
	}
	plain := true
	for i := range custom.kids {
		k := &custom.kids[i]
		if k.empty() {
			continue
		}
		tag := ocsf.KeyValue{Name: "customDetails." + k.name}
		if k.kind == '[' {
			tag.Values = k.plains()
		}
		if len(tag.Values) == 0 {
			tag.Value = new(k.plain())
		}
		plain = plain && k.kind != '{'
		m.finding.FindingInfo.Tags = append(m.finding.FindingInfo.Tags, tag)
	}
	if plain {
		m.mark(m.src.get("ExtendedProperties"), "Custom Details")
	}
}

func (m *rowMapper) rowDigest() string {
	src := m.src
	p := struct {
		Evidence   []string `json:"evidence"`
		Severity   string   `json:"severity,omitempty"`
		Status     string   `json:"status,omitempty"`
		Tactics    string   `json:"tactics,omitempty"`
		Techniques []string `json:"techniques,omitempty"`
		Title      string   `json:"title,omitempty"`
	}{
		Evidence: []string{}, Severity: src.str("AlertSeverity"), Status: src.str("Status"), Title: m.finding.FindingInfo.Title,
		Tactics: strings.Join(words(src, "Tactics"), ","), Techniques: append(words(src, "Techniques"), words(src, "SubTechniques")...),
	}
	slices.Sort(p.Techniques)
	slices.Sort(m.significant)
	p.Evidence = append(p.Evidence, slices.Compact(m.significant)...)
	return event.Digest(p)
}
