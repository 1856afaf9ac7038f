package ocsf

// Other is the number that every enumeration has for what it does not know; the source's word goes beside it.
const Other = 99

// Severities.
const (
	SeverityUnknown       = 0
	SeverityInformational = 1
	SeverityLow           = 2
	SeverityMedium        = 3
	SeverityHigh          = 4
	SeverityCritical      = 5
	SeverityFatal         = 6
)

// Verdicts.
const (
	VerdictUnknown          = 0
	VerdictFalsePositive    = 1
	VerdictTruePositive     = 2
	VerdictDisregard        = 3
	VerdictSuspicious       = 4
	VerdictBenign           = 5
	VerdictTest             = 6
	VerdictInsufficientData = 7
	VerdictSecurityRisk     = 8
	VerdictManaged          = 9
	VerdictDuplicate        = 10
)

var (
	severities = []string{"Unknown", "Informational", "Low", "Medium", "High", "Critical", "Fatal"}
	verdicts   = []string{
		"Unknown", "False Positive", "True Positive", "Disregard", "Suspicious", "Benign", "Test",
		"Insufficient Data", "Security Risk", "Managed Externally", "Duplicate",
	}
	detectionStatuses = []string{"Unknown", "New", "In Progress", "Suppressed", "Resolved", "Archived", "Deleted"}
	incidentStatuses  = []string{"Unknown", "New", "In Progress", "On Hold", "Resolved", "Closed"}
	findingActivities = []string{"Unknown", "Create", "Update", "Close"}
	osintActivities   = []string{"Unknown", "Log", "Collect"}
	riskLevels        = []string{"Info", "Low", "Medium", "High", "Critical"}
	roles             = []string{"Unknown", "Target", "Actor", "Affected", "Related"}
	analyticTypes     = []string{"Unknown", "Rule", "Behavioral", "Statistical", "Learning (ML/DL)"}
	malwareClasses    = []string{
		"Unknown", "Adware", "Backdoor", "Bot", "Bootkit", "DDOS", "Downloader", "Dropper", "Exploit-Kit", "Keylogger",
		"Ransomware", "Remote-Access-Trojan", "", "Resource-Exploitation", "Rogue-Security-Software", "Rootkit",
		"Screen-Capture", "Spyware", "Trojan", "Virus", "Webshell", "Wiper", "Worm",
	}
)

func caption(names []string, id int) string {
	if id >= 0 && id < len(names) {
		return names[id]
	}
	return "Other"
}

// SeverityName is the caption of a severity_id.
func SeverityName(id int) string { return caption(severities, id) }

// VerdictName is the caption of a verdict_id.
func VerdictName(id int) string { return caption(verdicts, id) }

// StatusName is the caption of a status_id in a class.
func StatusName(class, id int) string {
	if class == ClassIncidentFinding {
		return caption(incidentStatuses, id)
	}
	return caption(detectionStatuses, id)
}

// ActivityName is the caption of an activity_id in a class.
func ActivityName(class, id int) string {
	switch class {
	case ClassDetectionFinding, ClassIncidentFinding:
		return caption(findingActivities, id)
	case ClassOSINT:
		return caption(osintActivities, id)
	default:
		return caption([]string{"Unknown"}, id)
	}
}

// RiskLevelName is the caption of a risk_level_id.
func RiskLevelName(id int) string { return caption(riskLevels, id) }

// RoleName is the caption of a resource's role_id.
func RoleName(id int) string { return caption(roles, id) }

// AnalyticTypeName is the caption of an analytic's type_id.
func AnalyticTypeName(id int) string { return caption(analyticTypes, id) }

// MalwareClassName is the caption of a malware classification.
func MalwareClassName(id int) string { return caption(malwareClasses, id) }
