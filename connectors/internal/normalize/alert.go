package normalize

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// Options say where an alert comes from.
type Options struct {
	// Tenant is the Entra tenant, for alerts that do not name theirs.
	Tenant string
	// GraphHost is the host of Microsoft Graph in the tenant's cloud; default graph.microsoft.com. It is part of every
	// event's identity.
	GraphHost string
}

// DefaultGraphHost is Microsoft Graph's host in the global cloud.
const DefaultGraphHost = "graph.microsoft.com"

// ownComment matches the mark that Casewire leaves in the comments that it writes.
var ownComment = regexp.MustCompile(`\[cw-[0-9a-v]{10,32}\]`)

// IsOwnComment says whether a comment's text carries Casewire's mark. Such comments are no news: they are left out of
// the digest, so that writing one does not make an event.
func IsOwnComment(text string) bool {
	return strings.Contains(text, "[cw-") && ownComment.MatchString(text)
}

// Alert makes the event of an alert as Microsoft Graph sends it (microsoft.graph.security.alert, "alerts_v2"; ask
// with the header Prefer: include-unknown-enum-members, or newer words arrive as unknownFutureValue).
//
// The event's data is a pure function of the alert: the order of members, @odata annotations of the alert and the time
// of the call make no difference. Nothing of the source is lost: what has no place in OCSF is in evidences[].data or in
// unmapped, under the source's names. Times keep milliseconds.
//
// The error says why something is no alert, or cannot be identified; the caller keeps raw and shows it to people.
func Alert(raw []byte, o Options) (sdk.Event, error) {
	var ev sdk.Event
	var fault error
	err := withTree(raw, func(src *node) error {
		if ev, fault = normalize(src, o); fault != nil {
			fault = fmt.Errorf("normalize alert %q: %w", shorten(src.scalar("id")), fault)
		}
		return nil
	})
	if err != nil {
		return sdk.Event{}, fmt.Errorf("normalize alert: the object %w", err)
	}
	return ev, fault
}

func shorten(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

func normalize(src *node, o Options) (sdk.Event, error) {
	m := &mapper{src: src, tenant: tenantOf(src, "tenantId", o.Tenant)}
	ev, err := m.envelope(cmp.Or(o.GraphHost, DefaultGraphHost))
	if err != nil {
		return sdk.Event{}, err
	}
	m.alert(&ev)
	ev.Digest = m.digest()
	ev.Seal()
	m.finding.Metadata.UID = ev.ID
	ev.Data, err = encode(&m.finding)
	return ev, err
}

// mapper is the work on one alert.
type mapper struct {
	taker
	src         *node
	tenant      string
	created     time.Time
	updated     time.Time
	finding     ocsf.DetectionFinding
	obs         observables
	significant []string // per evidence, what counts as news
	windows     bool     // the Windows extension is needed
	cloudRank   int      // how sure the finding's cloud is
}

// envelope makes the attributes that identify the event.
func (m *mapper) envelope(host string) (sdk.Event, error) {
	id := m.src.scalar("id")
	if err := identifiable(id, m.tenant); err != nil {
		return sdk.Event{}, err
	}
	m.created, _ = m.src.time("createdDateTime")
	m.updated, _ = m.src.time("lastUpdateDateTime")
	if m.updated.IsZero() {
		m.updated = m.created
	}
	if m.created.IsZero() {
		m.created = m.updated
	}
	if m.updated.IsZero() {
		return sdk.Event{}, errors.New("it has neither lastUpdateDateTime nor createdDateTime (RFC 3339), so that its revision is unknown")
	}
	ev := sdk.Event{
		Source:  "https://" + host + "/" + url.PathEscape(m.tenant) + "/security/alerts_v2",
		Type:    event.TypeAlert,
		Subject: strings.Clone(id), // and not a part of the whole alert's text, which would live as long
		Tenant:  strings.Clone(m.tenant),
		Rev:     event.Rev(m.updated),
		// The alert's own key, and not the incident's: that is not known at first and changes when incidents merge.
		PartitionKey: event.AlertKey(m.tenant, id),
	}
	if len(ev.PartitionKey) > event.MaxAttribute {
		return sdk.Event{}, fmt.Errorf("its id and tenant together are longer than %d bytes", event.MaxAttribute)
	}
	if incident := m.src.scalar("incidentId"); incident != "" && len(incident) <= event.MaxTenant {
		ev.CorrelationID = event.IncidentKey(m.tenant, incident)
	}
	if alias := m.src.scalar("providerAlertId"); isDistinctive(alias) {
		if key := event.AlertKey(m.tenant, alias); key != ev.PartitionKey {
			ev.Aliases = append(ev.Aliases, key)
		}
	}
	return ev, nil
}

// isDistinctive says whether a provider's id is good enough to know an alert by: two alerts with one alias become one
// case, so that "0" or "n/a" must not be one.
func isDistinctive(id string) bool {
	return len(id) >= 16 && len(id) <= event.MaxTenant && strings.Trim(id, "0-") != "" && strings.ContainsAny(id, "0123456789")
}

// alert maps the alert itself; see the table in the package's documentation of the mapping.
func (m *mapper) alert(ev *sdk.Event) {
	f, src, t := &m.finding, m.src, &m.taker
	info := &f.FindingInfo
	for _, k := range []string{"lastUpdateDateTime", "createdDateTime"} {
		if _, ok := src.time(k); ok {
			t.mark(src, k)
		}
	}
	m.activity()
	f.IsAlert = new(true)
	f.StartTime, f.EndTime = t.time(src, "firstActivityDateTime"), t.time(src, "lastActivityDateTime")
	f.Message = t.str(src, "title")

	word := t.str(src, "severity")
	f.SeverityID = lookup(severities, word)
	f.Severity = captionOr(f.SeverityID, ocsf.SeverityName(f.SeverityID), word)
	word = t.str(src, "status")
	status := lookup(alertStatuses, word)
	f.StatusID, f.StatusCode = &status, word
	f.Status = captionOr(status, ocsf.StatusName(ocsf.ClassDetectionFinding, status), word)
	f.StatusDetail = t.str(src, "investigationState")
	m.verdict()

	if who := t.str(src, "assignedTo"); who != "" {
		f.Assignee = &ocsf.User{Name: who}
		if isEmail(who) {
			f.Assignee.EmailAddr = who
		}
	}
	f.SrcURL = t.str(src, "incidentWebUrl")
	if s := t.str(src, "recommendedActions"); s != "" {
		f.Remediation = &ocsf.Remediation{Desc: s}
	}
	f.Comment = newestComment(src.items("comments"))

	info.UID, info.UIDAlt = t.scalar(src, "id"), t.scalar(src, "providerAlertId")
	info.Title, info.Desc = f.Message, t.str(src, "description")
	info.SrcURL = t.str(src, "alertWebUrl")
	if !m.created.IsZero() && src.str("createdDateTime") != "" {
		info.CreatedTime = new(m.created.UnixMilli())
	}
	info.ModifiedTime = new(m.updated.UnixMilli())
	info.FirstSeenTime, info.LastSeenTime = f.StartTime, f.EndTime
	m.analytics()
	m.attacks()
	m.traits()
	m.customDetails()
	m.metadata(ev)
	m.commit()
	if list := src.items("evidence"); len(list) > 0 {
		f.Evidences = make([]ocsf.Evidence, 0, len(list))
		for i := range list {
			m.evidence(i, &list[i])
		}
		src.get("evidence").used = true
	}
	if name := src.str("threatDisplayName"); name != "" {
		m.malware(name, "", nil)
		src.get("threatDisplayName").used = true
	}
	f.Observables = m.obs.list
	if m.windows {
		f.Metadata.Extensions = []ocsf.Extension{ocsf.WindowsExtension()}
	}
	if f.Cloud != nil {
		f.Metadata.Profiles = []string{ocsf.ProfileCloud, ocsf.ProfileIncident}
	}
	f.Unmapped = src.appendRest(nil, "@odata.")
}

// captionOr is the caption of an enumeration's number, or the source's word for what the enumeration does not have.
func captionOr(id int, caption, word string) string {
	if id == ocsf.Other {
		return word
	}
	return caption
}

// activity tells creation, update and closing apart by what the alert says, and not by what was seen before.
func (m *mapper) activity() {
	activity := ocsf.ActivityUpdate
	m.finding.Time = m.updated.UnixMilli()
	switch {
	case fold(m.src.str("status")) == "resolved":
		activity = ocsf.ActivityClose
	case m.updated.Sub(m.created) < time.Second:
		activity = ocsf.ActivityCreate
		m.finding.Time = m.created.UnixMilli()
	}
	m.finding.SetClass(ocsf.ClassDetectionFinding, activity)
}

// verdict goes by the classification, unless the determination says something more. Both words stay in unmapped.
func (m *mapper) verdict() {
	word := m.src.str("classification")
	id := lookup(classifications, word)
	if override, ok := determinations[fold(m.src.str("determination"))]; ok {
		id = override
	}
	m.finding.VerdictID, m.finding.Verdict = &id, captionOr(id, ocsf.VerdictName(id), word)
}

// newestComment is the text of the comment with the latest time; of several, the last.
func newestComment(list []node) string {
	var newest time.Time
	text := ""
	for i := range list {
		at, _ := list[i].time("createdDateTime")
		if s := list[i].str("comment"); s != "" && !at.Before(newest) {
			newest, text = at, s
		}
	}
	return text
}

func (m *mapper) analytics() {
	src, info := m.src, &m.finding.FindingInfo
	if id := m.str(src, "detectorId"); id != "" {
		typ := 0
		if known, ok := analyticTypes[fold(src.str("detectionSource"))]; ok {
			typ = known
		}
		info.Analytic = &ocsf.Analytic{UID: id, TypeID: typ, Type: ocsf.AnalyticTypeName(typ)}
	}
	if id := m.str(src, "alertPolicyId"); id != "" {
		info.RelatedAnalytics = []ocsf.Analytic{{UID: id, Category: "alertPolicy", TypeID: 1, Type: ocsf.AnalyticTypeName(1)}}
	}
}

// attacks reads techniques and tactics. Microsoft's category is a word of the kill chain, and often a tactic.
func (m *mapper) attacks() {
	src, info := m.src, &m.finding.FindingInfo
	category := m.str(src, "category")
	words := src.strings("categories")
	if len(words) == len(src.items("categories")) {
		m.mark(src, "categories")
	}
	if category != "" {
		words = append(words, category)
	}
	var found []ocsf.Named // the tactics, the category's first
	for _, word := range slices.Backward(words) {
		t, ok := tactics[fold(word)]
		if ok && !slices.ContainsFunc(found, func(n ocsf.Named) bool { return n.UID == t.uid }) {
			found = append(found, ocsf.Named{UID: t.uid, Name: t.name})
		}
	}
	slices.Sort(words)
	info.Types = slices.Compact(words)

	techniques := src.items("mitreTechniques")
	whole := true
	for i := range techniques {
		id := strings.ToUpper(strings.TrimSpace(techniques[i].text))
		if techniques[i].kind != '"' || !isTechnique(id) {
			whole = false
			continue
		}
		a := ocsf.Attack{}
		if main, _, sub := strings.Cut(id, "."); sub {
			a.Technique, a.SubTechnique = &ocsf.Named{UID: main}, &ocsf.Named{UID: id}
		} else {
			a.Technique = &ocsf.Named{UID: id}
		}
		if len(found) > 0 {
			a.Tactic = &found[0]
		}
		info.Attacks = append(info.Attacks, a)
	}
	if whole {
		m.mark(src, "mitreTechniques")
	}
	for i := range found {
		if i > 0 || len(info.Attacks) == 0 {
			info.Attacks = append(info.Attacks, ocsf.Attack{Tactic: &found[i]})
		}
	}
}

// isTechnique recognizes T1059 and T1059.001.
func isTechnique(id string) bool {
	if (len(id) != 5 && len(id) != 9) || id[0] != 'T' || (len(id) == 9 && id[5] != '.') {
		return false
	}
	for i := 1; i < len(id); i++ {
		if i != 5 && (id[i] < '0' || id[i] > '9') {
			return false
		}
	}
	return true
}

func (m *mapper) traits() {
	info := &m.finding.FindingInfo
	if s := m.str(m.src, "actorDisplayName"); s != "" {
		info.Traits = append(info.Traits, ocsf.Trait{Type: "threat_actor", Name: s})
	}
	if s := m.str(m.src, "threatFamilyName"); s != "" {
		info.Traits = append(info.Traits, ocsf.Trait{Type: "malware_family", Name: s})
	}
}

// customDetails makes tags, for rules; unmapped has the details as they came. A rule's details arrive as JSON text of a
// list.
func (m *mapper) customDetails() {
	details := m.src.get("customDetails")
	if details == nil || details.kind != '{' {
		return
	}
	for i := range details.kids {
		k := &details.kids[i]
		if k.empty() || strings.HasPrefix(k.name, "@odata.") {
			continue
		}
		tag := ocsf.KeyValue{Name: "customDetails." + k.name}
		if text := strings.TrimSpace(k.text); k.kind == '"' && strings.HasPrefix(text, "[") {
			tag.Values = textList(text)
		} else if k.kind == '[' {
			tag.Values = k.plains()
		}
		if len(tag.Values) == 0 {
			tag.Value = new(k.plain())
		}
		m.finding.FindingInfo.Tags = append(m.finding.FindingInfo.Tags, tag)
	}
}

// textList reads the JSON text of a list; nil if it is none.
func textList(text string) (list []string) {
	// Not a list after all: the text itself is the detail.
	_ = withTree([]byte(`{"v":`+text+`}`), func(n *node) error {
		if len(n.kids) == 1 && n.kids[0].kind == '[' {
			list = n.kids[0].plains()
		}
		return nil
	})
	return list
}

func (n *node) plains() []string {
	out := make([]string, len(n.kids))
	for i := range n.kids {
		out[i] = n.kids[i].plain()
	}
	return out
}

// plain is a string's text, or the JSON of anything else.
func (n *node) plain() string {
	if n.kind == '"' {
		return n.text
	}
	return string(n.appendJSON(nil))
}

func (m *mapper) metadata(ev *sdk.Event) {
	src, f := m.src, &m.finding
	service := m.str(src, "serviceSource")
	product := ocsf.Product{
		UID: service, Name: cmp.Or(m.str(src, "productName"), service, "Microsoft Defender XDR"), VendorName: "Microsoft",
	}
	if s := m.str(src, "detectionSource"); s != "" {
		product.Feature = &ocsf.Feature{Name: s}
	}
	f.FindingInfo.Product = &product
	f.Metadata = ocsf.Metadata{
		Version: ocsf.Version, Product: product, Profiles: []string{ocsf.ProfileIncident}, TenantUID: cmp.Or(m.scalar(src, "tenantId"), m.tenant),
		CorrelationUID: ev.CorrelationID, LogName: "security/alerts_v2", LogProvider: "Microsoft Graph",
		OriginalEventUID: f.FindingInfo.UID, OriginalTime: src.str("createdDateTime"), Labels: src.strings("systemTags"),
	}
	if len(f.Metadata.Labels) == len(src.items("systemTags")) {
		m.mark(src, "systemTags")
	}
	if id := m.scalar(src, "incidentId"); id != "" {
		f.FindingInfo.RelatedEvents = []ocsf.RelatedEvent{{
			UID: id, Type: "incident", TypeUID: ocsf.ClassIncidentFinding * 100, TypeName: "Incident Finding: Unknown",
			Product: &ocsf.Product{Name: "Microsoft Defender XDR", VendorName: "Microsoft"},
		}}
	}
}

// malware adds a program to the finding; one of the same name gets the files.
func (m *mapper) malware(name, category string, files []ocsf.File) {
	if name == "" {
		return
	}
	for i := range m.finding.Malware {
		if w := &m.finding.Malware[i]; w.Name == name {
			w.Files = append(w.Files, files...)
			return
		}
	}
	w := ocsf.Malware{Name: name, Provider: "Microsoft", ClassificationIDs: []int{malwareClass(name, category)}, Files: files}
	if category != "" {
		w.Classifications = []string{category}
	}
	m.finding.Malware = append(m.finding.Malware, w)
}

// cloud says which cloud the finding is about: that of the first resource that is evidence itself, else of the first that
// evidence mentions (a machine's).
func (m *mapper) cloud(r *ocsf.Resource, src *node, kind string) {
	rank := 1
	if kind == "amazonResource" || kind == "googleCloudResource" || kind == "azureResource" {
		rank = 2
	}
	if rank <= m.cloudRank {
		return
	}
	m.cloudRank = rank
	c := &ocsf.Cloud{Provider: r.Provider, Region: r.Region, Zone: r.Zone}
	account := func(id string, typ int, name string) {
		if id != "" {
			c.Account = &ocsf.Account{UID: id, TypeID: &typ, Type: name}
		}
	}
	switch r.Provider {
	case "Azure":
		subscription, _, _, _ := armParts(r.UID)
		account(cmp.Or(subscription, src.get("vmMetadata").str("subscriptionId")), 13, "Azure Subscription")
		c.Org = &ocsf.Organization{UID: m.tenant}
	case "AWS":
		id := src.scalar("amazonAccountId")
		if p := strings.SplitN(r.UID, ":", 6); id == "" && len(p) == 6 && p[0] == "arn" {
			id = p[4]
		}
		account(id, 10, "AWS Account")
	case "GCP":
		id := src.scalar("projectId")
		if _, rest, ok := strings.Cut(r.UID, "/projects/"); id == "" && ok {
			id, _, _ = strings.Cut(rest, "/")
		}
		account(id, 11, "GCP Project")
		c.ProjectUID = id
	}
	m.finding.Cloud = c
}

// digest is over what counts as news about an alert. Volatile facts that Microsoft fills in when an alert is read (a
// device's risk, its addresses, who is logged on) do not, nor do our own comments.
func (m *mapper) digest() string {
	src := m.src
	p := struct {
		AssignedTo         string            `json:"assignedTo,omitempty"`
		Category           string            `json:"category,omitempty"`
		Classification     string            `json:"classification,omitempty"`
		Comments           []json.RawMessage `json:"comments,omitempty"`
		Determination      string            `json:"determination,omitempty"`
		Evidence           []string          `json:"evidence"`
		IncidentID         string            `json:"incidentId,omitempty"`
		InvestigationState string            `json:"investigationState,omitempty"`
		MITRETechniques    []string          `json:"mitreTechniques,omitempty"`
		Severity           string            `json:"severity,omitempty"`
		Status             string            `json:"status,omitempty"`
		Title              string            `json:"title,omitempty"`
	}{
		AssignedTo: src.str("assignedTo"), Category: src.str("category"), Classification: src.str("classification"),
		Determination: src.str("determination"), Evidence: []string{}, IncidentID: src.scalar("incidentId"),
		InvestigationState: src.str("investigationState"), MITRETechniques: src.strings("mitreTechniques"),
		Severity: src.str("severity"), Status: src.str("status"), Title: src.str("title"),
	}
	for i, list := 0, src.items("comments"); i < len(list); i++ {
		if IsOwnComment(list[i].str("comment")) {
			continue
		}
		if c := list[i].appendRest(nil, "@odata."); len(c) > 0 {
			p.Comments = append(p.Comments, c)
		}
	}
	slices.Sort(p.MITRETechniques)
	slices.Sort(m.significant)
	p.Evidence = append(p.Evidence, slices.Compact(m.significant)...)
	return event.Digest(p)
}

// encode writes the finding. One that is too large loses data that nobody asked for first: the rest of evidences without
// a verdict, then evidences beyond the 500th, then the rest of all evidences, then unmapped; it says so in its metadata.
func encode(f *ocsf.DetectionFinding) ([]byte, error) {
	data, err := marshal(f)
	if err != nil || len(data) <= event.MaxData {
		return data, err
	}
	f.Metadata.IsTruncated, f.Metadata.UntruncatedSize = new(true), new(len(data))
	for _, shrink := range []func(){
		func() { dropData(f, func(e *ocsf.Evidence) bool { return e.VerdictID != nil && *e.VerdictID == 0 }) },
		func() { dropEvidences(f, 500) },
		func() { dropData(f, func(*ocsf.Evidence) bool { return true }) },
		func() { f.Unmapped = nil },
	} {
		shrink()
		if data, err = marshal(f); err != nil || len(data) <= event.MaxData {
			return data, err
		}
	}
	return nil, fmt.Errorf("its event has %d bytes, more than the limit of %d, even without its evidence's details", len(data), event.MaxData)
}

func dropData(f *ocsf.DetectionFinding, which func(*ocsf.Evidence) bool) {
	for i := range f.Evidences {
		if e := &f.Evidences[i]; which(e) {
			if e.Data = nil; isBare(e) {
				e.Data = []byte("{}") // the schema wants something
			}
		}
	}
}

func dropEvidences(f *ocsf.DetectionFinding, n int) {
	if len(f.Evidences) <= n {
		return
	}
	gone := make(map[string]bool)
	for i := n; i < len(f.Evidences); i++ {
		gone[fmt.Sprintf("evidences[%d]", i)] = true
	}
	f.Evidences = f.Evidences[:n]
	f.Observables = slices.DeleteFunc(f.Observables, func(o ocsf.Observable) bool {
		at, _, _ := strings.Cut(o.Name, ".")
		return gone[at]
	})
}

func marshal(f any) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(16 << 10)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		return nil, fmt.Errorf("write its event: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
