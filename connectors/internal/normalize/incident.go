package normalize

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// Incident makes the event of an incident as Microsoft Graph sends it (microsoft.graph.security.incident). Ask with
// $expand=alerts: then the event names its alerts, their techniques and what they found; the alerts themselves are events
// of their own, and of them only the ids go along. What Alert says of pure functions, loss and errors holds here too.
//
// An incident that was merged into another (status redirected) is a closed duplicate. Its correlation id is the key of
// the incident that goes on, and unmapped.redirectIncidentId names it. It is no alias of that incident: each may have a
// case of its own by then, and whoever joined them would have the news of one hide that of the other.
func Incident(raw []byte, o Options) (sdk.Event, error) {
	var ev sdk.Event
	var fault error
	err := withTree(raw, func(src *node) error {
		if ev, fault = incident(src, o); fault != nil {
			fault = fmt.Errorf("normalize incident %q: %w", shorten(src.scalar("id")), fault)
		}
		return nil
	})
	if err != nil {
		return sdk.Event{}, fmt.Errorf("normalize incident: the object %w", err)
	}
	return ev, fault
}

func incident(src *node, o Options) (sdk.Event, error) {
	m := &incidentMapper{src: src, tenant: tenantOf(src, "tenantId", o.Tenant), host: cmp.Or(o.GraphHost, DefaultGraphHost)}
	if err := identifiable(src.scalar("id"), m.tenant); err != nil {
		return sdk.Event{}, err
	}
	if err := m.times("createdDateTime", "lastUpdateDateTime"); err != nil {
		return sdk.Event{}, err
	}
	id := strings.Clone(src.scalar("id"))
	ev := sdk.Event{
		Source: "https://" + m.host + "/" + url.PathEscape(m.tenant) + "/security/incidents", Type: event.TypeIncident, Subject: id,
		Tenant: strings.Clone(m.tenant), Rev: event.Rev(m.updated), PartitionKey: event.IncidentKey(m.tenant, id),
	}
	if len(ev.PartitionKey) > event.MaxAttribute {
		return sdk.Event{}, fmt.Errorf("its id and tenant together are longer than %d bytes", event.MaxAttribute)
	}
	ev.CorrelationID = ev.PartitionKey
	if target := src.scalar("redirectIncidentId"); target != "" && len(target) <= event.MaxTenant {
		ev.CorrelationID = event.IncidentKey(m.tenant, target)
	}
	m.graph(&ev)
	ev.Digest = m.graphDigest()
	return m.seal(ev)
}

// incidentMapper is the work on one incident, of whichever API.
type incidentMapper struct {
	taker
	src              *node
	tenant, host     string
	created, updated time.Time
	finding          ocsf.IncidentFinding
	obs              observables
	alerts           []string // their ids, sorted
}

// seal finishes the event.
func (m *incidentMapper) seal(ev sdk.Event) (sdk.Event, error) {
	ev.Seal()
	m.finding.Metadata.UID = ev.ID
	var err error
	ev.Data, err = encodeIncident(&m.finding)
	return ev, err
}

// tenantOf is the tenant that an object names, else the configured one.
func tenantOf(src *node, name, configured string) string {
	return strings.ToLower(cmp.Or(src.scalar(name), strings.TrimSpace(configured)))
}

// identifiable says why an object with this id and tenant could not be known again.
func identifiable(id, tenant string) error {
	switch {
	case id == "":
		return errors.New("it has no id")
	case len(id) > event.MaxAttribute:
		return fmt.Errorf("its id has %d bytes, more than the limit of %d", len(id), event.MaxAttribute)
	case strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("its id has control characters")
	case tenant == "":
		return errors.New("it names no tenant and none is configured: set the connection's tenant")
	case len(tenant) > event.MaxTenant:
		return fmt.Errorf("its tenant has %d bytes, more than the limit of %d", len(tenant), event.MaxTenant)
	}
	return nil
}

// times reads when the incident was made and last changed.
func (m *incidentMapper) times(created, updated string) error {
	m.created, _ = m.src.time(created)
	m.updated, _ = m.src.time(updated)
	if m.updated.IsZero() {
		m.updated = m.created
	}
	if m.created.IsZero() {
		m.created = m.updated
	}
	if m.updated.IsZero() {
		return fmt.Errorf("it has neither %s nor %s (RFC 3339), so that its revision is unknown", updated, created)
	}
	for _, k := range []string{created, updated} {
		if _, ok := m.src.time(k); ok {
			m.mark(m.src, k)
		}
	}
	return nil
}

// head fills in what all incidents have in the same way: activity, severity and status.
func (m *incidentMapper) head(severity, status string, statusID int) {
	f := &m.finding
	activity := ocsf.ActivityUpdate
	f.Time = m.updated.UnixMilli()
	switch {
	case statusID == incidentResolved || statusID == incidentClosed:
		activity = ocsf.ActivityClose
	case m.updated.Sub(m.created) < time.Second:
		activity = ocsf.ActivityCreate
		f.Time = m.created.UnixMilli()
	}
	f.SetClass(ocsf.ClassIncidentFinding, activity)
	f.SeverityID = lookup(severities, severity)
	f.Severity = captionOr(f.SeverityID, ocsf.SeverityName(f.SeverityID), severity)
	f.StatusID, f.StatusCode = &statusID, status
	f.Status = captionOr(statusID, ocsf.StatusName(ocsf.ClassIncidentFinding, statusID), status)
}

// The incident class's statuses that end an incident.
const (
	incidentResolved = 4
	incidentClosed   = 5
)

func (m *incidentMapper) verdict(id int, word string) {
	m.finding.VerdictID, m.finding.Verdict = &id, captionOr(id, ocsf.VerdictName(id), word)
}

// graph maps Graph's incident.
func (m *incidentMapper) graph(ev *sdk.Event) {
	f, src, t := &m.finding, m.src, &m.taker
	status := t.str(src, "status")
	m.head(t.str(src, "severity"), status, lookup(graphIncidentStatuses, status))
	word := src.str("classification")
	id := lookup(classifications, word)
	if override, ok := determinations[fold(src.str("determination"))]; ok {
		id = override
	}
	if fold(status) == "redirected" {
		id = ocsf.VerdictDuplicate
	}
	m.verdict(id, word)

	f.FindingInfoList = make([]ocsf.FindingInfo, 1)
	info := &f.FindingInfoList[0]
	info.UID, info.Title = t.scalar(src, "id"), t.str(src, "displayName")
	f.Message = info.Title
	if f.Desc = t.str(src, "description"); f.Desc == "" {
		f.Desc = t.str(src, "summary")
	}
	info.Desc = f.Desc
	f.SrcURL = t.str(src, "incidentWebUrl")
	info.SrcURL = f.SrcURL
	if src.str("createdDateTime") != "" {
		info.CreatedTime = new(m.created.UnixMilli())
	}
	info.ModifiedTime = new(m.updated.UnixMilli())
	m.assignee(t.str(src, "assignedTo"))
	if f.Comment = t.str(src, "resolvingComment"); f.Comment == "" {
		f.Comment = newestComment(src.items("comments"))
	}
	product := ocsf.Product{Name: "Microsoft Defender XDR", UID: "microsoft365Defender", VendorName: "Microsoft"}
	info.Product = &product
	f.Metadata = ocsf.Metadata{
		Version: ocsf.Version, Product: product, Profiles: []string{ocsf.ProfileIncident},
		TenantUID: cmp.Or(t.scalar(src, "tenantId"), m.tenant), CorrelationUID: ev.CorrelationID,
		LogName: "security/incidents", LogProvider: "Microsoft Graph", OriginalEventUID: info.UID,
		OriginalTime: src.str("createdDateTime"), Labels: append(src.strings("customTags"), src.strings("systemTags")...),
	}
	m.markWhole("customTags") // systemTags stay, so that one can tell which are whose
	m.commit()
	m.expanded(info)
	f.Observables = m.obs.list
	f.Unmapped = src.appendRest(nil, "@odata.")
}

// markWhole marks a list of texts that was carried over whole.
func (m *incidentMapper) markWhole(name string) {
	if len(m.src.strings(name)) == len(m.src.items(name)) {
		m.mark(m.src, name)
	}
}

// assignee names a person, or the group that stands for nobody.
func (m *incidentMapper) assignee(who string) {
	if who == "" {
		m.finding.AssigneeGroup = ocsf.PlaceholderGroup()
		return
	}
	m.finding.Assignee = &ocsf.User{Name: who}
	if isEmail(who) {
		m.finding.Assignee.EmailAddr = who
	}
}

// expanded reads the incident's alerts. The alerts' own events have the whole of them.
func (m *incidentMapper) expanded(info *ocsf.FindingInfo) {
	list := m.src.items("alerts")
	if list == nil {
		return
	}
	m.src.get("alerts").used = true
	order := make([]int, 0, len(list))
	for i := range list {
		if list[i].kind == '{' && list[i].scalar("id") != "" {
			order = append(order, i)
		}
	}
	// The order in which Graph lists them says nothing, and changes.
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(list[a].scalar("id"), list[b].scalar("id")) })
	var first, last *int64
	for _, i := range order {
		id := strings.Clone(list[i].scalar("id"))
		if slices.Contains(m.alerts, id) {
			continue
		}
		a := &mapper{src: &list[i], tenant: m.tenant, created: m.created, updated: m.updated}
		a.alert(&sdk.Event{})
		f := &a.finding
		product := f.Metadata.Product
		info.RelatedEvents = append(info.RelatedEvents, ocsf.RelatedEvent{
			UID: id, Type: "alert", TypeUID: ocsf.ClassDetectionFinding * 100, TypeName: "Detection Finding: Unknown", Product: &product,
		})
		m.obs.join("alerts["+strconv.Itoa(len(m.alerts))+"].", f)
		m.alerts = append(m.alerts, id)
		if product.Name != "" && !slices.Contains(info.DataSources, product.Name) {
			info.DataSources = append(info.DataSources, product.Name)
		}
		for _, x := range f.FindingInfo.Attacks {
			m.attack(x)
		}
		if x := f.FindingInfo.Analytic; x != nil && !slices.ContainsFunc(info.RelatedAnalytics, func(y ocsf.Analytic) bool { return y.UID == x.UID }) {
			info.RelatedAnalytics = append(info.RelatedAnalytics, *x)
		}
		first, last = earlier(first, f.StartTime), later(last, f.EndTime)
	}
	slices.Sort(info.DataSources)
	info.RelatedEventsCount = new(len(m.alerts))
	m.finding.StartTime, m.finding.EndTime = first, last
	info.FirstSeenTime, info.LastSeenTime = first, last
}

// attack adds a technique or tactic once.
func (m *incidentMapper) attack(x ocsf.Attack) {
	key := func(a ocsf.Attack) [3]string {
		var k [3]string
		for i, n := range [...]*ocsf.Named{a.Tactic, a.Technique, a.SubTechnique} {
			if n != nil {
				k[i] = n.UID
			}
		}
		return k
	}
	if !slices.ContainsFunc(m.finding.Attacks, func(y ocsf.Attack) bool { return key(x) == key(y) }) {
		m.finding.Attacks = append(m.finding.Attacks, x)
	}
}

func earlier(a, b *int64) *int64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

func later(a, b *int64) *int64 {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

// graphDigest covers what makes an incident worth looking at again. Casewire's own comments and tags are no news.
func (m *incidentMapper) graphDigest() string {
	src := m.src
	p := significantIncident{
		Alerts: m.alerts, AssignedTo: src.str("assignedTo"), Classification: src.str("classification"),
		Determination: src.str("determination"), RedirectedTo: src.scalar("redirectIncidentId"), Resolving: src.str("resolvingComment"),
		Severity: src.str("severity"), Status: src.str("status"), Title: src.str("displayName"),
		Labels: newsLabels(append(src.strings("customTags"), src.strings("systemTags")...)),
	}
	for i, list := 0, src.items("comments"); i < len(list); i++ {
		if c := list[i].appendRest(nil, "@odata."); len(c) > 0 && !IsOwnComment(list[i].str("comment")) {
			p.Comments = append(p.Comments, string(c))
		}
	}
	return event.Digest(p)
}

// significantIncident is the projection whose change makes news of an incident.
type significantIncident struct {
	AlertCount     string   `json:"alertCount,omitempty"` // where the ids are not known
	Alerts         []string `json:"alerts,omitempty"`
	AssignedTo     string   `json:"assignedTo,omitempty"`
	Classification string   `json:"classification,omitempty"`
	Comments       []string `json:"comments,omitempty"`
	Determination  string   `json:"determination,omitempty"`
	Labels         []string `json:"labels,omitempty"`
	Reason         string   `json:"reason,omitempty"`
	RedirectedTo   string   `json:"redirectedTo,omitempty"`
	Resolving      string   `json:"resolving,omitempty"`
	Severity       string   `json:"severity,omitempty"`
	Status         string   `json:"status,omitempty"`
	Title          string   `json:"title,omitempty"`
}

// OwnLabel begins the labels and tags that Casewire sets for itself; they are no news.
const OwnLabel = "casewire:"

func newsLabels(labels []string) []string {
	out := slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return strings.HasPrefix(strings.ToLower(l), OwnLabel) })
	slices.Sort(out)
	return slices.Compact(out)
}

// encodeIncident writes the finding. One that is too large loses observables first, the last ones first, then
// the rest of unmapped; it says so in its metadata.
func encodeIncident(f *ocsf.IncidentFinding) ([]byte, error) {
	data, err := marshal(f)
	if err != nil || len(data) <= event.MaxData {
		return data, err
	}
	f.Metadata.IsTruncated, f.Metadata.UntruncatedSize = new(true), new(len(data))
	for len(f.Observables) > 0 && len(data) > event.MaxData {
		f.Observables = f.Observables[:len(f.Observables)/2]
		if data, err = marshal(f); err != nil {
			return nil, err
		}
	}
	if len(data) > event.MaxData {
		f.Unmapped = nil
		if data, err = marshal(f); err != nil {
			return nil, err
		}
	}
	if len(data) > event.MaxData {
		return nil, fmt.Errorf("its event has %d bytes, more than the limit of %d, even without its observables", len(data), event.MaxData)
	}
	return data, nil
}
