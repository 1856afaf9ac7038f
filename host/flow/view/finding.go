package view

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/ocsf"
)

// finding is what the views need of a Detection Finding or an Incident Finding; the rest is skipped.
type finding struct {
	SeverityID   int    `json:"severity_id"`
	Severity     string `json:"severity"`
	StatusID     int    `json:"status_id"`
	Status       string `json:"status"`
	StatusDetail string `json:"status_detail"`
	VerdictID    int    `json:"verdict_id"`
	Verdict      string `json:"verdict"`
	Message      string `json:"message"`
	Desc         string `json:"desc"`
	Comment      string `json:"comment"`
	SrcURL       string `json:"src_url"`
	StartTime    int64  `json:"start_time"`
	EndTime      int64  `json:"end_time"`
	Assignee     *user  `json:"assignee"`
	Group        *struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"assignee_group"`
	Metadata struct {
		Product     product  `json:"product"`
		Labels      []string `json:"labels"`
		TenantUID   string   `json:"tenant_uid"`
		IsTruncated bool     `json:"is_truncated"`
	} `json:"metadata"`
	Info     info     `json:"finding_info"`
	InfoList []info   `json:"finding_info_list"`
	Attacks  []attack `json:"attacks"`
	Malware  []struct {
		Name string `json:"name"`
	} `json:"malware"`
	Cloud *struct {
		Provider string `json:"provider"`
		Region   string `json:"region"`
		Zone     string `json:"zone"`
		Account  struct {
			UID string `json:"uid"`
		} `json:"account"`
	} `json:"cloud"`
	Evidences   []evidence        `json:"evidences"`
	Observables []ocsf.Observable `json:"observables"`
	Remediation struct {
		Desc string `json:"desc"`
	} `json:"remediation"`
	Unmapped struct {
		Comments []struct {
			Comment string `json:"comment"`
		} `json:"comments"`
		RedirectIncidentID string `json:"redirectIncidentId"`
		Casewire           struct {
			Origin string `json:"origin"`
			Key    string `json:"key"`
		} `json:"casewire"`
	} `json:"unmapped"`
	StatusCode string `json:"status_code"`
	Tickets    []struct {
		UID    string `json:"uid"`
		SrcURL string `json:"src_url"`
	} `json:"tickets"`
}

type product struct {
	Name    string `json:"name"`
	UID     string `json:"uid"`
	Feature struct {
		Name string `json:"name"`
	} `json:"feature"`
}

type info struct {
	UID                string   `json:"uid"`
	Title              string   `json:"title"`
	Desc               string   `json:"desc"`
	SrcURL             string   `json:"src_url"`
	CreatedTime        int64    `json:"created_time"`
	ModifiedTime       int64    `json:"modified_time"`
	FirstSeenTime      int64    `json:"first_seen_time"`
	LastSeenTime       int64    `json:"last_seen_time"`
	Types              []string `json:"types"`
	Attacks            []attack `json:"attacks"`
	DataSources        []string `json:"data_sources"`
	RelatedEventsCount int      `json:"related_events_count"`
	Analytic           struct {
		UID  string `json:"uid"`
		Name string `json:"name"`
	} `json:"analytic"`
	Traits []struct {
		Type string `json:"type"`
		Name string `json:"name"`
	} `json:"traits"`
	Tags []struct {
		Name   string   `json:"name"`
		Value  string   `json:"value"`
		Values []string `json:"values"`
	} `json:"tags"`
	RelatedEvents []struct {
		UID  string `json:"uid"`
		Type string `json:"type"`
	} `json:"related_events"`
}

type named struct {
	UID  string `json:"uid"`
	Name string `json:"name"`
}

type attack struct {
	Tactic       named   `json:"tactic"`
	Tactics      []named `json:"tactics"`
	Technique    named   `json:"technique"`
	SubTechnique named   `json:"sub_technique"`
}

type user struct {
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Domain    string `json:"domain"`
	EmailAddr string `json:"email_addr"`
	Account   struct {
		Name string `json:"name"`
	} `json:"account"`
}

type device struct {
	Hostname string `json:"hostname"`
	Name     string `json:"name"`
}

type evidence struct {
	VerdictID int   `json:"verdict_id"`
	User      *user `json:"user"`
	Actor     struct {
		User *user `json:"user"`
	} `json:"actor"`
	Device  *device `json:"device"`
	Process *struct {
		CmdLine string `json:"cmd_line"`
		Name    string `json:"name"`
		User    *user  `json:"user"`
	} `json:"process"`
	Resources []named `json:"resources"`
}

func (f *finding) alert(ev *Event) *Alert {
	a := &Alert{
		ID: f.Info.UID, Title: either(f.Info.Title, f.Message), Description: f.Info.Desc,
		Severity: either(f.Severity, ocsf.SeverityName(f.SeverityID)), SeverityID: f.SeverityID,
		Status: either(f.Status, ocsf.StatusName(ocsf.ClassDetectionFinding, f.StatusID)), StatusID: f.StatusID,
		StatusDetail: f.StatusDetail, Verdict: either(f.Verdict, ocsf.VerdictName(f.VerdictID)), VerdictID: f.VerdictID,
		Categories: full(f.Info.Types), Product: either(f.Metadata.Product.Name, f.Metadata.Product.UID),
		ServiceSource: f.Metadata.Product.UID, DetectionSource: f.Metadata.Product.Feature.Name,
		Rule: either(f.Info.Analytic.UID, f.Info.Analytic.Name), URL: f.Info.SrcURL, IncidentURL: f.SrcURL,
		Tenant: either(ev.Tenant, f.Metadata.TenantUID), Created: at(f.Info.CreatedTime), Updated: at(f.Info.ModifiedTime),
		FirstActivity: at(max(f.StartTime, f.Info.FirstSeenTime)), LastActivity: at(max(f.EndTime, f.Info.LastSeenTime)),
		AssignedTo: f.assignedTo(), Recommended: f.Remediation.Desc, Labels: full(f.Metadata.Labels), Comment: f.Comment,
		Comments: f.comments(), Custom: map[string]any{}, EvidenceCount: len(f.Evidences), Malware: []string{},
		Truncated: f.Metadata.IsTruncated,
	}
	if a.Updated.IsZero() {
		a.Updated = ev.Time
	}
	a.Techniques, a.Tactics = techniques(f.Info.Attacks)
	a.Category = category(a.Categories, a.Tactics)
	for _, r := range f.Info.RelatedEvents {
		if r.Type == "incident" && a.IncidentID == "" {
			a.IncidentID = r.UID
		}
	}
	for _, t := range f.Info.Traits {
		if t.Type == "threat_actor" && a.Actor == "" {
			a.Actor = t.Name
		}
	}
	for _, m := range f.Malware {
		a.Malware = appendNew(a.Malware, m.Name)
	}
	for _, t := range f.Info.Tags {
		name, ok := strings.CutPrefix(t.Name, "customDetails.")
		switch {
		case !ok || name == "":
		case len(t.Values) > 1:
			a.Custom[name] = t.Values
		case len(t.Values) == 1:
			a.Custom[name] = t.Values[0]
		default:
			a.Custom[name] = t.Value
		}
	}
	if c := f.Cloud; c != nil {
		a.Cloud = Cloud{Account: c.Account.UID, Provider: c.Provider, Region: either(c.Region, c.Zone)}
	}
	f.who(a)
	o := f.observables()
	a.Observables, a.IOCs = o.all, o.iocs
	a.IPs, a.Domains, a.URLs, a.Files, a.Hashes, a.Mails = o.ips, o.domains, o.urls, o.files, o.hashes, o.mails
	return a
}

func (f *finding) incident(ev *Event) *Incident {
	var first info
	if len(f.InfoList) > 0 {
		first = f.InfoList[0]
	}
	i := &Incident{
		ID: first.UID, Title: either(first.Title, f.Message), Description: either(f.Desc, first.Desc),
		Severity: either(f.Severity, ocsf.SeverityName(f.SeverityID)), SeverityID: f.SeverityID,
		Status: either(f.Status, ocsf.StatusName(ocsf.ClassIncidentFinding, f.StatusID)), StatusID: f.StatusID,
		StatusDetail: f.StatusDetail, Verdict: either(f.Verdict, ocsf.VerdictName(f.VerdictID)), VerdictID: f.VerdictID,
		Product: either(f.Metadata.Product.Name, f.Metadata.Product.UID), URL: either(f.SrcURL, first.SrcURL),
		Tenant: either(ev.Tenant, f.Metadata.TenantUID), Created: at(first.CreatedTime), Updated: at(first.ModifiedTime),
		FirstActivity: at(max(f.StartTime, first.FirstSeenTime)), LastActivity: at(max(f.EndTime, first.LastSeenTime)),
		AssignedTo: f.assignedTo(), AlertIDs: []string{}, AlertCount: first.RelatedEventsCount, Products: full(first.DataSources),
		Labels: full(f.Metadata.Labels), Comment: f.Comment, Comments: f.comments(),
		RedirectedTo: f.Unmapped.RedirectIncidentID,
	}
	if i.Updated.IsZero() {
		i.Updated = ev.Time
	}
	i.Techniques, i.Tactics = techniques(append(f.Attacks, first.Attacks...))
	for _, r := range first.RelatedEvents {
		if r.Type == "alert" {
			i.AlertIDs = appendNew(i.AlertIDs, r.UID)
		}
	}
	i.AlertCount = max(i.AlertCount, len(i.AlertIDs))
	o := f.observables()
	i.Observables, i.IPs, i.Domains, i.URLs, i.Hashes, i.Mails = o.all, o.ips, o.domains, o.urls, o.hashes, o.mails
	return i
}

// Statuses of an Incident Finding.
const (
	statusResolved = 4
	statusClosed   = 5
)

// kase reads a case; the word itself is Go's.
func (f *finding) kase(ev *Event) *Case {
	var first info
	if len(f.InfoList) > 0 {
		first = f.InfoList[0]
	}
	c := &Case{
		ID: ev.Subject, Title: either(first.Title, f.Message), URL: f.SrcURL,
		Severity: either(f.Severity, ocsf.SeverityName(f.SeverityID)), SeverityID: f.SeverityID,
		Status: either(f.Status, ocsf.StatusName(ocsf.ClassIncidentFinding, f.StatusID)), StatusID: f.StatusID, StatusText: f.StatusCode,
		Closed:  f.StatusID == statusResolved || f.StatusID == statusClosed,
		Verdict: either(f.Verdict, ocsf.VerdictName(f.VerdictID)), VerdictID: f.VerdictID,
		Comment: f.Comment, AssignedTo: f.assignedTo(), Key: f.Unmapped.Casewire.Key, Labels: full(f.Metadata.Labels),
		Created: at(first.CreatedTime), Updated: at(first.ModifiedTime),
	}
	if c.Updated.IsZero() {
		c.Updated = ev.Time
	}
	if len(f.Tickets) > 0 {
		c.Number, c.URL = f.Tickets[0].UID, either(f.Tickets[0].SrcURL, c.URL)
	}
	c.OriginKind, c.OriginID, _ = strings.Cut(f.Unmapped.Casewire.Origin, ":")
	if parts := strings.SplitN(ev.Key, ":", 3); len(parts) == 3 && parts[0] == "case" {
		c.System = parts[1]
	}
	return c
}

// assignedTo is the person, else the group; the group that stands for nobody is nobody.
func (f *finding) assignedTo() string {
	if f.Assignee != nil {
		return either(f.Assignee.EmailAddr, either(f.Assignee.Name, f.Assignee.UID))
	}
	if f.Group != nil && f.Group.Type != ocsf.PlaceholderType {
		return f.Group.Name
	}
	return ""
}

func (f *finding) comments() []string {
	out := []string{}
	for _, c := range f.Unmapped.Comments {
		if c.Comment != "" {
			out = append(out, c.Comment)
		}
	}
	if len(out) == 0 && f.Comment != "" {
		out = append(out, f.Comment)
	}
	return out
}

// who fills in users, hosts, processes and resources.
func (f *finding) who(a *Alert) {
	a.Users, a.Hosts, a.Processes, a.Resources = []string{}, []string{}, []string{}, []string{}
	for i := range f.Evidences {
		e := &f.Evidences[i]
		a.Users = appendNew(a.Users, e.User.String())
		a.Users = appendNew(a.Users, e.Actor.User.String())
		if p := e.Process; p != nil {
			a.Users = appendNew(a.Users, p.User.String())
			a.Processes = appendNew(a.Processes, either(p.CmdLine, p.Name))
		}
		if d := e.Device; d != nil {
			a.Hosts = appendNew(a.Hosts, either(d.Hostname, d.Name))
		}
		for _, r := range e.Resources {
			a.Resources = appendNew(a.Resources, either(r.UID, r.Name))
		}
	}
}

// String is how people know the user.
func (u *user) String() string {
	switch {
	case u == nil:
		return ""
	case u.EmailAddr != "":
		return strings.ToLower(u.EmailAddr)
	case u.Domain != "" && u.Name != "":
		return u.Domain + `\` + u.Name
	default:
		return either(u.Name, either(u.Account.Name, u.UID))
	}
}

type sorted struct {
	all, iocs                                []Observable
	ips, domains, urls, files, hashes, mails []string
}

func (f *finding) observables() sorted {
	s := sorted{
		all: make([]Observable, 0, len(f.Observables)), iocs: []Observable{},
		ips: []string{}, domains: []string{}, urls: []string{}, files: []string{}, hashes: []string{}, mails: []string{},
	}
	for _, o := range f.Observables {
		v := Observable{Type: o.Type, Value: o.Value, DataType: o.DataType(), Tag: o.Tag(), IOC: o.IsIndicator(f.verdictOf(o.Name))}
		if v.DataType == "" || v.Value == "" {
			continue
		}
		s.all = append(s.all, v)
		if v.IOC {
			s.iocs = append(s.iocs, v)
		}
		var list *[]string
		switch v.DataType {
		case "ip":
			list = &s.ips
		case "domain", "fqdn":
			list = &s.domains
		case "url":
			list = &s.urls
		case "filename":
			list = &s.files
		case "hash":
			list = &s.hashes
		case "mail":
			list = &s.mails
		default:
			continue
		}
		*list = append(*list, v.Value)
	}
	return s
}

// verdictOf is the verdict on the evidence that an observable's path begins with: evidences[3].url.url_string.
func (f *finding) verdictOf(path string) int {
	rest, ok := strings.CutPrefix(path, "evidences[")
	if !ok {
		return 0
	}
	digits, _, _ := strings.Cut(rest, "]")
	if i, err := strconv.Atoi(digits); err == nil && i >= 0 && i < len(f.Evidences) {
		return f.Evidences[i].VerdictID
	}
	return 0
}

// techniques lists the most specific technique of each attack, and the tactics.
func techniques(list []attack) (ids, tactics []string) {
	ids, tactics = []string{}, []string{}
	for _, a := range list {
		for _, n := range [...]string{a.SubTechnique.UID, a.Technique.UID, a.Technique.Name} {
			if n != "" {
				ids = appendNew(ids, n)
				break
			}
		}
		tactics = appendNew(tactics, either(a.Tactic.Name, a.Tactic.UID))
		for _, t := range a.Tactics {
			tactics = appendNew(tactics, either(t.Name, t.UID))
		}
	}
	return ids, tactics
}

// category is the one that names the first tactic, else the first.
func category(list, tactics []string) string {
	if len(list) == 0 {
		return ""
	}
	if len(tactics) > 0 {
		plain := strings.ReplaceAll(tactics[0], " ", "")
		if i := slices.IndexFunc(list, func(c string) bool { return strings.EqualFold(strings.ReplaceAll(c, " ", ""), plain) }); i >= 0 {
			return list[i]
		}
	}
	return list[0]
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func full(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func at(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
