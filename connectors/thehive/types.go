package thehive

// alert is what is read of an alert.
type alert struct {
	ID              string   `json:"_id"`
	Type            string   `json:"type"`
	Source          string   `json:"source"`
	SourceRef       string   `json:"sourceRef"`
	Title           string   `json:"title"`
	Severity        int      `json:"severity"`
	TLP             int      `json:"tlp"`
	PAP             int      `json:"pap"`
	Tags            []string `json:"tags"`
	Status          string   `json:"status"`
	CaseID          string   `json:"caseId"`
	ObservableCount int      `json:"observableCount"`
}

// caseObject is what is read of a case.
type caseObject struct {
	ID           string   `json:"_id"`
	Number       int      `json:"number"`
	Title        string   `json:"title"`
	Description  string   `json:"description"`
	Severity     int      `json:"severity"`
	TLP          int      `json:"tlp"`
	PAP          int      `json:"pap"`
	Tags         []string `json:"tags"`
	Status       string   `json:"status"`
	Stage        string   `json:"stage"`
	ImpactStatus string   `json:"impactStatus"`
	Summary      string   `json:"summary"`
	Assignee     string   `json:"assignee"`
	StartDate    int64    `json:"startDate"`
	EndDate      int64    `json:"endDate"`
	UpdatedAt    int64    `json:"_updatedAt"`
	CreatedAt    int64    `json:"_createdAt"`
}

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
	Observables  []inputObservable `json:"observables,omitempty"`
	Procedures   []inputProcedure  `json:"procedures,omitempty"`
}

// inputObservable is the body of an observable's create. Data is a string, or a list of strings that become one
// observable each.
type inputObservable struct {
	DataType string   `json:"dataType"`
	Data     any      `json:"data"`
	Message  string   `json:"message,omitempty"`
	Tags     []string `json:"tags,omitempty"`
	IOC      bool     `json:"ioc"`
	Sighted  bool     `json:"sighted"`
	TLP      int      `json:"tlp"`
	PAP      int      `json:"pap"`
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
}
