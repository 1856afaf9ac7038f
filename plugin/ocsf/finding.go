package ocsf

import "encoding/json"

// FindingInfo describes a finding. UID is required.
type FindingInfo struct {
	UID                string         `json:"uid"`
	UIDAlt             string         `json:"uid_alt,omitempty"`
	Title              string         `json:"title,omitempty"`
	Desc               string         `json:"desc,omitempty"`
	SrcURL             string         `json:"src_url,omitempty"`
	CreatedTime        *int64         `json:"created_time,omitempty"`
	ModifiedTime       *int64         `json:"modified_time,omitempty"`
	FirstSeenTime      *int64         `json:"first_seen_time,omitempty"`
	LastSeenTime       *int64         `json:"last_seen_time,omitempty"`
	Product            *Product       `json:"product,omitempty"`
	Analytic           *Analytic      `json:"analytic,omitempty"`
	RelatedAnalytics   []Analytic     `json:"related_analytics,omitempty"`
	Attacks            []Attack       `json:"attacks,omitempty"`
	Types              []string       `json:"types,omitempty"`
	Traits             []Trait        `json:"traits,omitempty"`
	Tags               []KeyValue     `json:"tags,omitempty"`
	DataSources        []string       `json:"data_sources,omitempty"`
	RelatedEvents      []RelatedEvent `json:"related_events,omitempty"`
	RelatedEventsCount *int           `json:"related_events_count,omitempty"`
}

// Analytic is the rule or model that found something. It needs a name or a uid.
type Analytic struct {
	UID      string `json:"uid,omitempty"`
	Name     string `json:"name,omitempty"`
	Category string `json:"category,omitempty"`
	TypeID   int    `json:"type_id"`
	Type     string `json:"type,omitempty"`
}

// Attack is a technique of MITRE ATT&CK, a tactic, or both.
type Attack struct {
	Tactic       *Named `json:"tactic,omitempty"`
	Technique    *Named `json:"technique,omitempty"`
	SubTechnique *Named `json:"sub_technique,omitempty"`
	Version      string `json:"version,omitempty"`
}

// Named is a name and a uid, of which one is needed.
type Named struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
}

// Trait is a property of a finding, such as the actor behind it.
type Trait struct {
	Type string `json:"type,omitempty"`
	Name string `json:"name,omitempty"`
}

// KeyValue is a name with one value or several.
type KeyValue struct {
	Name   string   `json:"name"`
	Value  *string  `json:"value,omitempty"`
	Values []string `json:"values,omitempty"`
}

// RelatedEvent is an event or finding that belongs with this one.
type RelatedEvent struct {
	UID      string   `json:"uid"`
	Type     string   `json:"type,omitempty"`
	TypeName string   `json:"type_name,omitempty"`
	TypeUID  int      `json:"type_uid,omitempty"`
	Product  *Product `json:"product,omitempty"`
}

// Remediation is what to do about a finding.
type Remediation struct {
	Desc string `json:"desc"`
}

// Malware is a malicious program. It needs a name.
type Malware struct {
	Name              string   `json:"name"`
	Provider          string   `json:"provider,omitempty"`
	ClassificationIDs []int    `json:"classification_ids"`
	Classifications   []string `json:"classifications,omitempty"`
	Files             []File   `json:"files,omitempty"`
}

// Cloud is the cloud that a finding is about.
type Cloud struct {
	Provider   string        `json:"provider"`
	Account    *Account      `json:"account,omitempty"`
	Org        *Organization `json:"org,omitempty"`
	ProjectUID string        `json:"project_uid,omitempty"`
	Region     string        `json:"region,omitempty"`
	Zone       string        `json:"zone,omitempty"`
}

// Evidence is one thing that a finding rests on. It needs at least one object, or data.
type Evidence struct {
	Name           string          `json:"name,omitempty"`
	UID            string          `json:"uid,omitempty"`
	VerdictID      *int            `json:"verdict_id,omitempty"`
	Verdict        string          `json:"verdict,omitempty"`
	Actor          *Actor          `json:"actor,omitempty"`
	User           *User           `json:"user,omitempty"`
	Device         *Device         `json:"device,omitempty"`
	Process        *Process        `json:"process,omitempty"`
	File           *File           `json:"file,omitempty"`
	URL            *URL            `json:"url,omitempty"`
	Email          *Email          `json:"email,omitempty"`
	Query          *DNSQuery       `json:"query,omitempty"`
	SrcEndpoint    *Endpoint       `json:"src_endpoint,omitempty"`
	DstEndpoint    *Endpoint       `json:"dst_endpoint,omitempty"`
	ConnectionInfo *ConnectionInfo `json:"connection_info,omitempty"`
	HTTPRequest    *HTTPRequest    `json:"http_request,omitempty"`
	Container      *Container      `json:"container,omitempty"`
	Databucket     *Databucket     `json:"databucket,omitempty"`
	RegKey         *RegKey         `json:"reg_key,omitempty"`
	RegValue       *RegValue       `json:"reg_value,omitempty"`
	Resources      []Resource      `json:"resources,omitempty"`
	Data           json.RawMessage `json:"data,omitempty"`
}
