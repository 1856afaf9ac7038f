package thehive

import "encoding/json"

// object is what is read of an alert or a case, which share most of their fields.
type object struct {
	ID           string       `json:"_id"`
	Number       int          `json:"number"` // of a case
	Type         string       `json:"type"`   // of an alert, as the two that follow
	Source       string       `json:"source"`
	SourceRef    string       `json:"sourceRef"`
	ExternalLink string       `json:"externalLink"`
	Title        string       `json:"title"`
	Description  string       `json:"description"`
	Severity     int          `json:"severity"`
	TLP          int          `json:"tlp"`
	PAP          int          `json:"pap"`
	Tags         []string     `json:"tags"`
	Status       string       `json:"status"`
	Stage        string       `json:"stage"`
	CaseID       string       `json:"caseId"` // of an alert: the case that it belongs to
	ImpactStatus string       `json:"impactStatus"`
	Summary      string       `json:"summary"`
	Assignee     string       `json:"assignee"`
	Flag         bool         `json:"flag"`
	CustomFields []fieldValue `json:"customFields"`
	Date         int64        `json:"date"` // of an alert
	StartDate    int64        `json:"startDate"`
	EndDate      int64        `json:"endDate"`
	UpdatedAt    int64        `json:"_updatedAt"`
	CreatedAt    int64        `json:"_createdAt"`
}

// fieldValue is a custom field of an alert or a case.
type fieldValue struct {
	Name  string          `json:"name"`
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// Stages are what statuses mean, whatever an administrator calls them.
const (
	stageNew        = "New"
	stageInProgress = "InProgress"
	stageClosed     = "Closed"
)

// closed says whether nobody works on it any more.
func (o *object) closed() bool { return o.Stage == stageClosed }

// changed is when it was last changed, or made.
func (o *object) changed() int64 { return max(o.UpdatedAt, o.CreatedAt) }

// inputAlert is the body of an alert's create.
type inputAlert struct {
	Type         string            `json:"type"`
	Source       string            `json:"source"`
	SourceRef    string            `json:"sourceRef"`
	ExternalLink string            `json:"externalLink,omitempty"`
	Title        string            `json:"title"`
	Description  string            `json:"description"`
	Severity     int               `json:"severity"`
	Date         int64             `json:"date,omitempty"`
	TLP          int               `json:"tlp"`
	PAP          int               `json:"pap"`
	Tags         []string          `json:"tags,omitempty"`
	CustomFields map[string]any    `json:"customFields,omitempty"`
	Observables  []inputObservable `json:"observables,omitempty"`
	Procedures   []inputProcedure  `json:"procedures,omitempty"`
}

// inputObservable is the body of an observable's create. Data is a string, or a list of strings that become one
// observable each.
type inputObservable struct {
	DataType string   `json:"dataType"`
	Data     any      `json:"data,omitempty"` // not of files
	Message  string   `json:"message,omitempty"`
	Tags     []string `json:"tags,omitempty"`
	IOC      bool     `json:"ioc"`
	Sighted  bool     `json:"sighted"`
	TLP      int      `json:"tlp"`
	PAP      int      `json:"pap"`

	SightedAt        int64 `json:"sightedAt,omitempty"`
	IgnoreSimilarity bool  `json:"ignoreSimilarity,omitempty"`

	IsZip       bool   `json:"isZip,omitempty"`
	ZipPassword string `json:"zipPassword,omitempty"`
}

// inputProcedure names an ATT&CK technique. The tactic may be left out since 5.2.
type inputProcedure struct {
	PatternID string `json:"patternId"`
	OccurDate int64  `json:"occurDate"`
}

// inputUpdate is the body of a change to an alert or a case. Tags are added, never replaced.
type inputUpdate struct {
	Title       string   `json:"title,omitempty"`
	Description string   `json:"description,omitempty"`
	Severity    int      `json:"severity,omitempty"`
	TLP         *int     `json:"tlp,omitempty"`
	PAP         *int     `json:"pap,omitempty"`
	AddTags     []string `json:"addTags,omitempty"`
	RemoveTags  []string `json:"removeTags,omitempty"`
	Status      string   `json:"status,omitempty"`

	// Of cases only.
	Summary      *string        `json:"summary,omitempty"`
	ImpactStatus string         `json:"impactStatus,omitempty"`
	Assignee     string         `json:"assignee,omitempty"`
	Flag         *bool          `json:"flag,omitempty"`
	CustomFields map[string]any `json:"customFields,omitempty"`
}
