package normalize

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// SentinelOptions say where an incident of a Sentinel workspace comes from. Tenant and Workspace are required.
type SentinelOptions struct {
	// Tenant is the Entra tenant: incidents do not name theirs.
	Tenant string
	// Host is that of Azure Resource Manager in the tenant's cloud; default management.azure.com. It is part of every
	// event's identity.
	Host string
	// Workspace is the workspace's ARM id, without what follows its name.
	Workspace string
	// Version is the API version that was asked, for the record.
	Version string
	// IsOwn says whether Casewire wrote the comment of this name (a GUID). Such comments are no news.
	IsOwn func(name string) bool
}

// SentinelParts is what further calls bring about an incident. Nil means that it was not asked for.
type SentinelParts struct {
	Alerts   []json.RawMessage // of POST …/alerts
	Entities []json.RawMessage // of POST …/entities
	Comments []json.RawMessage // of GET …/comments
	// MergedInto is the name (GUID) of the incident that this one was merged into, if it was.
	MergedInto string
	// Missing names those that were asked for and could not be had. The event says so, and is another than the one that has
	// them.
	Missing []string
}

// DefaultARMHost is Azure Resource Manager's host in the global cloud.
const DefaultARMHost = "management.azure.com"

// SentinelIncident makes the event of an incident as Azure Resource Manager sends it (Microsoft.SecurityInsights/incidents),
// with its parts as far as they were asked for. What Alert says of pure functions, loss and errors holds here too.
func SentinelIncident(raw []byte, parts SentinelParts, o SentinelOptions) (sdk.Event, error) {
	var ev sdk.Event
	var fault error
	all := make([]byte, 0, len(raw)+1024)
	all = append(all, `{"incident":`...)
	all = append(all, raw...)
	for _, p := range []struct {
		name string
		list []json.RawMessage
	}{{"alerts", parts.Alerts}, {"entities", parts.Entities}, {"comments", parts.Comments}} {
		all = append(append(append(all, `,"`...), p.name...), `":[`...)
		for i, v := range p.list {
			if i > 0 {
				all = append(all, ',')
			}
			all = append(all, v...)
		}
		all = append(all, ']')
	}
	err := withTree(append(all, '}'), func(src *node) error {
		inc := src.get("incident")
		if inc.kind != '{' {
			fault = errors.New("normalize incident: the object is no JSON object")
			return nil
		}
		m := &sentinelMapper{inc: inc, props: inc.get("properties"), parts: src, merged: parts.MergedInto, missing: slices.Sorted(slices.Values(parts.Missing)), knowsComments: parts.Comments != nil}
		if ev, fault = m.event(o); fault != nil {
			fault = fmt.Errorf("normalize incident %q: %w", shorten(inc.scalar("name")), fault)
		}
		return nil
	})
	if err != nil {
		return sdk.Event{}, fmt.Errorf("normalize incident: the object %w", err)
	}
	return ev, fault
}

// sentinelMapper is the work on one incident.
type sentinelMapper struct {
	taker
	inc, props, parts *node
	merged            string
	missing           []string
	knowsComments     bool
	created, updated  time.Time
	finding           ocsf.IncidentFinding
	obs               observables
}

func (m *sentinelMapper) event(o SentinelOptions) (sdk.Event, error) {
	name, tenant := m.inc.str("name"), strings.ToLower(strings.TrimSpace(o.Tenant))
	switch {
	case name == "" || len(name) > 128:
		return sdk.Event{}, errors.New("it has no name, which is its identity")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return sdk.Event{}, errors.New("its name has control characters")
	case m.props == nil || m.props.kind != '{':
		return sdk.Event{}, errors.New("it has no properties")
	case tenant == "" || len(tenant) > event.MaxTenant:
		return sdk.Event{}, errors.New("the connection's credential has no usable tenant_id, and incidents of a workspace do not name their tenant")
	case o.Workspace == "":
		return sdk.Event{}, errors.New("its workspace is not known")
	}
	m.created, _ = m.props.time("createdTimeUtc")
	m.updated, _ = m.props.time("lastModifiedTimeUtc")
	if m.updated.IsZero() {
		m.updated = m.created
	}
	if m.created.IsZero() {
		m.created = m.updated
	}
	if m.updated.IsZero() {
		return sdk.Event{}, errors.New("it has neither lastModifiedTimeUtc nor createdTimeUtc (RFC 3339), so that its revision is unknown")
	}
	ev := sdk.Event{
		Source: "https://" + cmp.Or(o.Host, DefaultARMHost) + strings.ToLower(o.Workspace) + "/providers/microsoft.securityinsights/incidents",
		Type:   event.TypeIncident, Subject: strings.Clone(name), Tenant: tenant, Rev: event.Rev(m.updated),
		PartitionKey: event.SentinelIncidentKey(name),
	}
	// Only of incidents that Defender made is the provider's id Defender's number; Sentinel's own count is another.
	if id := m.props.scalar("providerIncidentId"); isXDR(m.props.str("providerName")) && id != "" && len(id) <= event.MaxTenant {
		ev.CorrelationID = event.IncidentKey(tenant, id)
	}
	if m.merged != "" {
		ev.CorrelationID = event.SentinelIncidentKey(m.merged)
	}
	m.map2005(&ev, o)
	ev.Digest = m.digest(o)
	ev.Seal()
	m.finding.Metadata.UID = ev.ID
	var err error
	ev.Data, err = m.encode(o)
	return ev, err
}

// isXDR says whether a provider's name is Defender's, by its names over time.
func isXDR(provider string) bool {
	switch fold(provider) {
	case "microsoftxdr", "microsoft365defender", "microsoftdefenderxdr":
		return true
	}
	return false
}

// map2005 fills in the finding.
func (m *sentinelMapper) map2005(ev *sdk.Event, o SentinelOptions) {
	f, p, t := &m.finding, m.props, &m.taker
	extra := p.get("additionalData")
	status := t.str(p, "status")
	statusID := lookup(sentinelStatuses, status)
	activity := ocsf.ActivityUpdate
	f.Time = m.updated.UnixMilli()
	switch {
	case statusID == sentinelClosed:
		activity = ocsf.ActivityClose
	case m.updated.Sub(m.created) < time.Second:
		activity = ocsf.ActivityCreate
		f.Time = m.created.UnixMilli()
	}
	f.SetClass(ocsf.ClassIncidentFinding, activity)
	for _, k := range []string{"createdTimeUtc", "lastModifiedTimeUtc"} {
		if _, ok := p.time(k); ok {
			t.mark(p, k)
		}
	}
	f.StatusID, f.StatusCode = &statusID, status
	f.Status = captionOr(statusID, ocsf.StatusName(ocsf.ClassIncidentFinding, statusID), status)
	word := t.str(p, "severity")
	f.SeverityID = lookup(severities, word)
	f.Severity = captionOr(f.SeverityID, ocsf.SeverityName(f.SeverityID), word)
	f.StatusDetail = p.str("classificationReason")
	word = p.str("classification")
	verdict := lookup(sentinelClassifications, word)
	if m.merged != "" || p.scalar("mergedIncidentNumber") != "" || extra.scalar("mergedIncidentNumber") != "" {
		verdict = ocsf.VerdictDuplicate
	}
	f.VerdictID, f.Verdict = &verdict, captionOr(verdict, ocsf.VerdictName(verdict), word)
	f.Comment = t.str(p, "classificationComment")
	if f.Comment == "" {
		f.Comment = m.newest()
	}
	f.Message, f.Desc = t.str(p, "title"), t.str(p, "description")
	f.SrcURL = t.str(p, "incidentUrl")
	f.StartTime, f.EndTime = t.time(p, "firstActivityTimeUtc"), t.time(p, "lastActivityTimeUtc")
	m.owner(p.get("owner"))

	info := ocsf.FindingInfo{
		UID: t.str(m.inc, "name"), UIDAlt: t.scalar(p, "providerIncidentId"), Title: f.Message, Desc: f.Desc,
		SrcURL: t.str(extra, "providerIncidentUrl"), ModifiedTime: new(m.updated.UnixMilli()),
		FirstSeenTime: f.StartTime, LastSeenTime: f.EndTime, DataSources: extra.strings("alertProductNames"),
	}
	if p.str("createdTimeUtc") != "" {
		info.CreatedTime = new(m.created.UnixMilli())
	}
	if whole(extra, "alertProductNames") {
		t.mark(extra, "alertProductNames")
	}
	if provider := t.str(p, "providerName"); provider != "" {
		info.Product = &ocsf.Product{Name: provider, VendorName: "Microsoft"}
	}
	for _, id := range p.strings("relatedAnalyticRuleIds") {
		info.RelatedAnalytics = append(info.RelatedAnalytics, ocsf.Analytic{UID: id, TypeID: 1, Type: ocsf.AnalyticTypeName(1)})
	}
	if whole(p, "relatedAnalyticRuleIds") {
		t.mark(p, "relatedAnalyticRuleIds")
	}
	m.related(&info, extra)
	m.attacks(extra)
	for i, list := 0, m.parts.items("entities"); i < len(list); i++ {
		m.entity(i, &list[i])
	}
	f.Observables = m.obs.list
	f.FindingInfoList = []ocsf.FindingInfo{info}
	product := ocsf.Product{Name: "Microsoft Sentinel", UID: "microsoftSentinel", VendorName: "Microsoft"}
	f.Metadata = ocsf.Metadata{
		Version: ocsf.Version, Product: product, Profiles: []string{ocsf.ProfileIncident}, TenantUID: ev.Tenant,
		CorrelationUID: ev.CorrelationID, LogName: "Microsoft.SecurityInsights/incidents", LogProvider: "Azure Resource Manager",
		LogVersion: o.Version, OriginalEventUID: t.str(m.inc, "id"), OriginalTime: p.str("createdTimeUtc"), Labels: m.labels(),
	}
	m.commit()
}

const sentinelClosed = 5

var sentinelStatuses = map[string]int{"new": 1, "active": 2, "closed": sentinelClosed}

var sentinelClassifications = map[string]int{
	"truepositive": ocsf.VerdictTruePositive, "benignpositive": ocsf.VerdictBenign, "falsepositive": ocsf.VerdictFalsePositive,
	"undetermined": ocsf.VerdictInsufficientData,
}

// whole says whether a list consists of texts only, so that carrying them over loses nothing.
func whole(n *node, name string) bool { return len(n.strings(name)) == len(n.items(name)) }

// ownerText reads a member that may be the word "null" where nobody is meant.
func ownerText(n *node, name string) string {
	if s := n.str(name); !strings.EqualFold(s, "null") {
		return s
	}
	return ""
}

// owner names a person or a group; a placeholder stands for nobody, because the schema wants somebody.
func (m *sentinelMapper) owner(n *node) {
	name, id, mail, upn := ownerText(n, "assignedTo"), ownerText(n, "objectId"), ownerText(n, "email"), ownerText(n, "userPrincipalName")
	m.mark(n, "assignedTo")
	m.mark(n, "objectId")
	for _, k := range []string{"email", "userPrincipalName"} {
		if strings.EqualFold(n.str(k), "null") {
			m.mark(n, k)
		}
	}
	switch name = firstOf(name, upn, mail); {
	case name == "" && id == "":
		m.finding.AssigneeGroup = ocsf.PlaceholderGroup()
	case fold(n.str("ownerType")) == "group":
		m.finding.AssigneeGroup = &ocsf.Group{Name: name, UID: id}
	default:
		u := &ocsf.User{Name: name, UID: id, TypeID: new(1), Type: "User"}
		if isEmail(mail) {
			u.EmailAddr = mail
			m.mark(n, "email")
		}
		m.finding.Assignee = u
	}
}

// labels are the names; whether people or rules set them goes to unmapped.
func (m *sentinelMapper) labels() []string {
	var out []string
	for i, list := 0, m.props.items("labels"); i < len(list); i++ {
		if s := list[i].str("labelName"); s != "" {
			out = append(out, s)
		}
	}
	if len(out) == len(m.props.items("labels")) {
		m.mark(m.props, "labels")
	}
	return out
}

func (m *sentinelMapper) related(info *ocsf.FindingInfo, extra *node) {
	list := m.parts.items("alerts")
	ids := []string{}
	for i := range list {
		id := firstOf(list[i].get("properties").scalar("systemAlertId"), list[i].str("name"))
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, strings.Clone(id))
		}
	}
	slices.Sort(ids) // the order of the answer says nothing
	for _, id := range ids {
		info.RelatedEvents = append(info.RelatedEvents, ocsf.RelatedEvent{
			UID: id, Type: "alert", TypeUID: ocsf.ClassDetectionFinding * 100, TypeName: "Detection Finding: Unknown",
		})
	}
	if n := (&taker{}).integer(extra, "alertsCount"); n != nil {
		info.RelatedEventsCount = new(int(*n))
	} else if list != nil {
		info.RelatedEventsCount = new(len(ids))
	}
}

func (m *sentinelMapper) attacks(extra *node) {
	found := true
	var first *ocsf.Named
	for _, word := range extra.strings("tactics") {
		t, ok := tactics[fold(word)]
		if !ok {
			found = false
			continue
		}
		n := &ocsf.Named{UID: t.uid, Name: t.name}
		if first == nil {
			first = n
		}
		m.finding.Attacks = append(m.finding.Attacks, ocsf.Attack{Tactic: n})
	}
	if found && whole(extra, "tactics") {
		m.mark(extra, "tactics")
	}
	for _, id := range extra.strings("techniques") { // previews of the API have them
		id = strings.ToUpper(id)
		if !isTechnique(id) {
			continue
		}
		a := ocsf.Attack{Technique: &ocsf.Named{UID: id}}
		if main, _, sub := strings.Cut(id, "."); sub {
			a.Technique, a.SubTechnique = &ocsf.Named{UID: main}, &ocsf.Named{UID: id}
		}
		m.finding.Attacks = append(m.finding.Attacks, a)
	}
}

// newest is the text of the newest comment.
func (m *sentinelMapper) newest() string {
	var at time.Time
	text := ""
	for i, list := 0, m.parts.items("comments"); i < len(list); i++ {
		p := list[i].get("properties")
		when, _ := p.time("createdTimeUtc")
		if s := p.str("message"); s != "" && !when.Before(at) {
			at, text = when, s
		}
	}
	return text
}

// digest is over what counts as news about an incident. Casewire's own labels and comments are none.
func (m *sentinelMapper) digest(o SentinelOptions) string {
	p, extra, owner := m.props, m.props.get("additionalData"), m.props.get("owner")
	comments := 0
	if n := (&taker{}).integer(extra, "commentsCount"); n != nil {
		comments = int(*n)
	}
	if list := m.parts.items("comments"); m.knowsComments {
		comments = len(list)
		for i := range list {
			if o.IsOwn != nil && o.IsOwn(list[i].str("name")) || IsOwnComment(list[i].get("properties").str("message")) {
				comments--
			}
		}
	}
	alerts := 0
	if n := m.finding.FindingInfoList[0].RelatedEventsCount; n != nil {
		alerts = *n
	}
	labels := []string{}
	for i, list := 0, p.items("labels"); i < len(list); i++ {
		if s := list[i].str("labelName"); s != "" && !strings.HasPrefix(strings.ToLower(s), "casewire:") {
			labels = append(labels, s)
		}
	}
	slices.Sort(labels)
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return event.Digest(struct {
		Alerts         int      `json:"alerts"`
		Classification *string  `json:"classification"`
		Comments       int      `json:"comments"`
		Labels         []string `json:"labels"`
		Merged         string   `json:"merged,omitempty"`
		Missing        []string `json:"missing,omitempty"`
		Owner          *string  `json:"owner"`
		Reason         *string  `json:"reason"`
		Severity       *string  `json:"severity"`
		Status         *string  `json:"status"`
		Title          *string  `json:"title"`
	}{
		alerts, text(p.str("classification")), comments, labels, m.merged, m.missing,
		text(firstOf(ownerText(owner, "objectId"), ownerText(owner, "userPrincipalName"), ownerText(owner, "email"), ownerText(owner, "assignedTo"))),
		text(p.str("classificationReason")), text(p.str("severity")), text(p.str("status")), text(p.str("title")),
	})
}

// encode writes the finding with what has no place in it. One that is too large loses the entities' and alerts' details
// first, then comments, then observables, then the rest; it says so in its metadata.
func (m *sentinelMapper) encode(SentinelOptions) ([]byte, error) {
	rest := m.unmapped()
	write := func() ([]byte, error) {
		m.finding.Unmapped = nil
		if len(rest) > 0 {
			b, err := marshalPlain(rest)
			if err != nil {
				return nil, err
			}
			m.finding.Unmapped = b
		}
		return marshalPlain(&m.finding)
	}
	data, err := write()
	if err != nil || len(data) <= event.MaxData {
		return data, err
	}
	m.finding.Metadata.IsTruncated, m.finding.Metadata.UntruncatedSize = new(true), new(len(data))
	for _, shrink := range []func(){
		func() { delete(rest, "entities") },
		func() { delete(rest, "alerts") },
		func() { delete(rest, "comments") },
		func() { m.finding.Observables = m.finding.Observables[:min(500, len(m.finding.Observables))] },
		func() { clear(rest) },
		func() { m.finding.Observables = nil },
	} {
		shrink()
		if data, err = write(); err != nil || len(data) <= event.MaxData {
			return data, err
		}
	}
	return nil, fmt.Errorf("its event has %d bytes, more than the limit of %d, even without its details", len(data), event.MaxData)
}

func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("write its event: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unmapped is what has no place in the finding, by the source's names; what the source nests only to group it is flat.
func (m *sentinelMapper) unmapped() map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	var put func(n *node, nested ...string)
	put = func(n *node, nested ...string) {
		if n == nil {
			return
		}
		for i := range n.kids {
			k := &n.kids[i]
			if k.used || k.empty() {
				continue
			}
			if k.kind == '{' && slices.Contains(nested, k.name) {
				put(k)
				continue
			}
			if _, taken := out[k.name]; taken {
				out[n.name+"."+k.name] = k.appendJSON(nil)
				continue
			}
			out[k.name] = k.appendJSON(nil)
		}
	}
	put(m.props, "additionalData", "owner")
	for i := range m.inc.kids {
		switch k := &m.inc.kids[i]; {
		case k.name == "properties" || k.name == "type" || k.used || k.empty():
		case out[k.name] != nil:
			out["resource."+k.name] = k.appendJSON(nil)
		default:
			out[k.name] = k.appendJSON(nil)
		}
	}
	types := map[string]string{}
	for i, list := 0, m.props.items("labels"); i < len(list); i++ {
		if t := list[i].str("labelType"); t != "" {
			types[list[i].str("labelName")] = t
		}
	}
	if len(types) > 0 {
		out["labelTypes"], _ = marshalPlain(types) // strings always encode
	}
	if m.merged != "" {
		out["redirectIncidentId"], _ = marshalPlain(m.merged)
	}
	if len(m.missing) > 0 {
		out["missingParts"], _ = marshalPlain(m.missing)
	}
	for _, name := range []string{"alerts", "entities", "comments"} {
		list := m.parts.items(name)
		if len(list) == 0 {
			continue
		}
		order := make([]*node, 0, len(list))
		for i := range list {
			order = append(order, &list[i])
		}
		if name != "comments" { // whose order is that of time
			slices.SortStableFunc(order, func(a, b *node) int { return strings.Compare(a.str("name"), b.str("name")) })
		}
		b := []byte{'['}
		for i, n := range order {
			if i > 0 {
				b = append(b, ',')
			}
			b = n.appendJSON(b)
		}
		out[name] = append(b, ']')
	}
	return out
}
