package ocsf

import "encoding/json"

// Version is the version of the schema.
const Version = "1.8.0"

// Classes.
const (
	ClassBase             = 0
	ClassDetectionFinding = 2004
	ClassIncidentFinding  = 2005
	ClassOSINT            = 5021
)

// Activities of findings. OSINT Inventory Info has ActivityCollect only.
const (
	ActivityUnknown = 0
	ActivityCreate  = 1
	ActivityUpdate  = 2
	ActivityClose   = 3
	ActivityCollect = 2
	ActivityOther   = 99
)

// Profiles that add attributes.
const (
	ProfileCloud    = "cloud"
	ProfileIncident = "incident"
)

// Head is what every class begins with. Times are UTC epoch milliseconds.
type Head struct {
	ActivityID   int      `json:"activity_id"`
	ActivityName string   `json:"activity_name,omitempty"`
	CategoryName string   `json:"category_name,omitempty"`
	CategoryUID  int      `json:"category_uid"`
	ClassName    string   `json:"class_name,omitempty"`
	ClassUID     int      `json:"class_uid"`
	TypeName     string   `json:"type_name,omitempty"`
	TypeUID      int      `json:"type_uid"`
	Time         int64    `json:"time"`
	StartTime    *int64   `json:"start_time,omitempty"`
	EndTime      *int64   `json:"end_time,omitempty"`
	Message      string   `json:"message,omitempty"`
	SeverityID   int      `json:"severity_id"`
	Severity     string   `json:"severity,omitempty"`
	StatusID     *int     `json:"status_id,omitempty"`
	Status       string   `json:"status,omitempty"`
	StatusCode   string   `json:"status_code,omitempty"`
	StatusDetail string   `json:"status_detail,omitempty"`
	Metadata     Metadata `json:"metadata"`
}

// SetClass fills in the class, the activity and what follows from them.
func (h *Head) SetClass(class, activity int) {
	h.ClassUID, h.ActivityID, h.TypeUID = class, activity, class*100+activity
	h.ActivityName = ActivityName(class, activity)
	switch class {
	case ClassDetectionFinding:
		h.ClassName, h.CategoryUID, h.CategoryName = "Detection Finding", 2, "Findings"
	case ClassIncidentFinding:
		h.ClassName, h.CategoryUID, h.CategoryName = "Incident Finding", 2, "Findings"
	case ClassOSINT:
		h.ClassName, h.CategoryUID, h.CategoryName = "OSINT Inventory Info", 5, "Discovery"
	default:
		h.ClassName, h.CategoryUID, h.CategoryName = "Base Event", 0, "Uncategorized"
	}
	h.TypeName = h.ClassName + ": " + h.ActivityName
}

// DetectionFinding is class 2004: what a detection product states, an alert. Assignee, AssigneeGroup, SrcURL and
// Verdict need ProfileIncident among the profiles; Cloud, and provider, region and zone of resources, ProfileCloud.
type DetectionFinding struct {
	Head
	IsAlert         *bool           `json:"is_alert,omitempty"`
	FindingInfo     FindingInfo     `json:"finding_info"`
	ConfidenceID    *int            `json:"confidence_id,omitempty"`
	Confidence      string          `json:"confidence,omitempty"`
	ConfidenceScore *int            `json:"confidence_score,omitempty"`
	VerdictID       *int            `json:"verdict_id,omitempty"`
	Verdict         string          `json:"verdict,omitempty"`
	Assignee        *User           `json:"assignee,omitempty"`
	AssigneeGroup   *Group          `json:"assignee_group,omitempty"`
	Comment         string          `json:"comment,omitempty"`
	SrcURL          string          `json:"src_url,omitempty"`
	Cloud           *Cloud          `json:"cloud,omitempty"`
	Device          *Device         `json:"device,omitempty"`
	Evidences       []Evidence      `json:"evidences,omitempty"`
	Malware         []Malware       `json:"malware,omitempty"`
	Resources       []Resource      `json:"resources,omitempty"`
	Observables     []Observable    `json:"observables,omitempty"`
	Remediation     *Remediation    `json:"remediation,omitempty"`
	Unmapped        json.RawMessage `json:"unmapped,omitempty"`
}

// IncidentFinding is class 2005: an incident, or what became of a case. It needs an assignee or an assignee group, and a
// status_id.
type IncidentFinding struct {
	Head
	Desc            string          `json:"desc,omitempty"`
	FindingInfoList []FindingInfo   `json:"finding_info_list"`
	Attacks         []Attack        `json:"attacks,omitempty"`
	ConfidenceID    *int            `json:"confidence_id,omitempty"`
	Confidence      string          `json:"confidence,omitempty"`
	PriorityID      *int            `json:"priority_id,omitempty"`
	Priority        string          `json:"priority,omitempty"`
	ImpactID        *int            `json:"impact_id,omitempty"`
	Impact          string          `json:"impact,omitempty"`
	VerdictID       *int            `json:"verdict_id,omitempty"`
	Verdict         string          `json:"verdict,omitempty"`
	Assignee        *User           `json:"assignee,omitempty"`
	AssigneeGroup   *Group          `json:"assignee_group,omitempty"`
	Comment         string          `json:"comment,omitempty"`
	SrcURL          string          `json:"src_url,omitempty"`
	Tickets         []Ticket        `json:"tickets,omitempty"`
	Observables     []Observable    `json:"observables,omitempty"`
	Unmapped        json.RawMessage `json:"unmapped,omitempty"`
}

// PlaceholderGroup stands in for the assignee that an unassigned incident does not have: the schema demands one.
func PlaceholderGroup() *Group {
	return &Group{Name: "unassigned", Type: PlaceholderType}
}

// PlaceholderType marks a group that PlaceholderGroup made; readers hide it.
const PlaceholderType = "casewire:placeholder"

// OSINTInventoryInfo is class 5021: a threat indicator.
type OSINTInventoryInfo struct {
	Head
	OSINT       []OSINT         `json:"osint"`
	Observables []Observable    `json:"observables,omitempty"`
	Unmapped    json.RawMessage `json:"unmapped,omitempty"`
}

// BaseEvent is class 0: anything else, such as a row of a query.
type BaseEvent struct {
	Head
	Observables []Observable    `json:"observables,omitempty"`
	Unmapped    json.RawMessage `json:"unmapped,omitempty"`
}

// Metadata says where an event comes from.
type Metadata struct {
	UID              string      `json:"uid,omitempty"`
	Version          string      `json:"version"`
	Product          Product     `json:"product"`
	Profiles         []string    `json:"profiles,omitempty"`
	Extensions       []Extension `json:"extensions,omitempty"`
	Labels           []string    `json:"labels,omitempty"`
	TenantUID        string      `json:"tenant_uid,omitempty"`
	CorrelationUID   string      `json:"correlation_uid,omitempty"`
	LogName          string      `json:"log_name,omitempty"`
	LogProvider      string      `json:"log_provider,omitempty"`
	LogVersion       string      `json:"log_version,omitempty"`
	OriginalEventUID string      `json:"original_event_uid,omitempty"`
	OriginalTime     string      `json:"original_time,omitempty"`
	IsTruncated      *bool       `json:"is_truncated,omitempty"`
	UntruncatedSize  *int        `json:"untruncated_size,omitempty"`
}

// Extension is an extension of the schema that an event uses.
type Extension struct {
	Name    string `json:"name"`
	UID     string `json:"uid"`
	Version string `json:"version"`
}

// WindowsExtension is needed as soon as an event has reg_key or reg_value.
func WindowsExtension() Extension { return Extension{Name: "win", UID: "2", Version: Version} }

// Product is what made the finding. It needs a name or a uid.
type Product struct {
	Name       string   `json:"name,omitempty"`
	UID        string   `json:"uid,omitempty"`
	VendorName string   `json:"vendor_name,omitempty"`
	Feature    *Feature `json:"feature,omitempty"`
}

// Feature is a part of a product.
type Feature struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// OSINT is a claim about a value. Type is one of the OSINT types, TLP one of CLEAR, GREEN, AMBER, AMBER STRICT, RED.
type OSINT struct {
	UID                    string   `json:"uid,omitempty"`
	TypeID                 int      `json:"type_id"`
	Type                   string   `json:"type,omitempty"`
	Value                  string   `json:"value"`
	Name                   string   `json:"name,omitempty"`
	Desc                   string   `json:"desc,omitempty"`
	Category               string   `json:"category,omitempty"`
	ConfidenceID           *int     `json:"confidence_id,omitempty"`
	Confidence             string   `json:"confidence,omitempty"`
	CreatedTime            *int64   `json:"created_time,omitempty"`
	ModifiedTime           *int64   `json:"modified_time,omitempty"`
	ExpirationTime         *int64   `json:"expiration_time,omitempty"`
	DetectionPattern       string   `json:"detection_pattern,omitempty"`
	DetectionPatternTypeID *int     `json:"detection_pattern_type_id,omitempty"`
	Labels                 []string `json:"labels,omitempty"`
	Attacks                []Attack `json:"attacks,omitempty"`
	References             []string `json:"references,omitempty"`
	TLP                    string   `json:"tlp,omitempty"`
	VendorName             string   `json:"vendor_name,omitempty"`
}

// Ticket is a case in a case manager. It needs a uid or a src_url.
type Ticket struct {
	UID      string `json:"uid,omitempty"`
	SrcURL   string `json:"src_url,omitempty"`
	Title    string `json:"title,omitempty"`
	TypeID   *int   `json:"type_id,omitempty"`
	Type     string `json:"type,omitempty"`
	StatusID *int   `json:"status_id,omitempty"`
	Status   string `json:"status,omitempty"`
}
