package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
)

// The tables have Microsoft's words in lower case without separators; see fold. Source: the metadata of Microsoft Graph
// v1.0 of 2026-08-20, namespace microsoft.graph.security.

// fold makes words comparable: lower case, without spaces, dashes and underscores.
func fold(s string) string {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return strings.Map(func(r rune) rune {
				if r == ' ' || r == '-' || r == '_' {
					return -1
				}
				return r
			}, strings.ToLower(s))
		}
	}
	return s
}

// lookup translates a word: 0 for none, 99 for one that the table does not have.
func lookup(table map[string]int, word string) int {
	if word == "" {
		return 0
	}
	if id, ok := table[fold(word)]; ok {
		return id
	}
	return ocsf.Other
}

var severities = map[string]int{
	"unknown": ocsf.SeverityUnknown, "informational": ocsf.SeverityInformational, "low": ocsf.SeverityLow,
	"medium": ocsf.SeverityMedium, "high": ocsf.SeverityHigh,
}

var alertStatuses = map[string]int{"unknown": 0, "new": 1, "inprogress": 2, "resolved": 4}

// graphIncidentStatuses: a redirected incident was merged into another, and is over.
var graphIncidentStatuses = map[string]int{
	"unknown": 0, "active": 1, "inprogress": 2, "awaitingaction": 3, "resolved": incidentResolved, "redirected": incidentClosed,
}

var classifications = map[string]int{
	"unknown": ocsf.VerdictUnknown, "falsepositive": ocsf.VerdictFalsePositive, "truepositive": ocsf.VerdictTruePositive,
	"informationalexpectedactivity": ocsf.VerdictBenign,
}

// determinations override what the classification says. Old and new names are both met.
var determinations = map[string]int{
	"securitytesting":         ocsf.VerdictTest,
	"notenoughdatatovalidate": ocsf.VerdictInsufficientData,
	"insufficientdata":        ocsf.VerdictInsufficientData,
}

var evidenceVerdicts = map[string]int{
	"unknown": ocsf.VerdictUnknown, "suspicious": ocsf.VerdictSuspicious, "malicious": ocsf.VerdictTruePositive,
	"nothreatsfound": ocsf.VerdictBenign,
}

// analyticTypes tells rules from learning by the detection source.
var analyticTypes = map[string]int{
	"scheduledalerts": 1, "nrtalerts": 1, "customdetection": 1, "builtinml": 4, "manual": ocsf.Other,
}

// riskLevels has no word for "none": it stays with the rest of the evidence.
var riskLevels = map[string]int{"informational": 0, "low": 1, "medium": 2, "high": 3}

var regTypes = map[string]int{
	"binary": 1, "dword": 2, "dwordlittleendian": 2, "dwordbigendian": 3, "expandsz": 4, "link": 5, "multisz": 6,
	"none": 7, "qword": 8, "qwordlittleendian": 9, "sz": 10, "string": 10,
}

type tactic struct{ uid, name string }

// tactics by folded name. ATT&CK 19 renamed Defense Evasion to Stealth and split Defense Impairment off; Microsoft sends
// the old names. The uid is the contract, the name is the source's.
var tactics = map[string]tactic{
	"reconnaissance":          {"TA0043", "Reconnaissance"},
	"preattack":               {"TA0043", "PreAttack"},
	"resourcedevelopment":     {"TA0042", "Resource Development"},
	"initialaccess":           {"TA0001", "Initial Access"},
	"execution":               {"TA0002", "Execution"},
	"persistence":             {"TA0003", "Persistence"},
	"privilegeescalation":     {"TA0004", "Privilege Escalation"},
	"defenseevasion":          {"TA0005", "Defense Evasion"},
	"stealth":                 {"TA0005", "Stealth"},
	"defenseimpairment":       {"TA0112", "Defense Impairment"},
	"credentialaccess":        {"TA0006", "Credential Access"},
	"discovery":               {"TA0007", "Discovery"},
	"lateralmovement":         {"TA0008", "Lateral Movement"},
	"collection":              {"TA0009", "Collection"},
	"exfiltration":            {"TA0010", "Exfiltration"},
	"commandandcontrol":       {"TA0011", "Command and Control"},
	"impact":                  {"TA0040", "Impact"},
	"impairprocesscontrol":    {"TA0106", "Impair Process Control"},
	"inhibitresponsefunction": {"TA0107", "Inhibit Response Function"},
}

// malwareClasses by the folded prefix of a threat's name ("Ransom:Win32/…"). Source: Microsoft's malware naming.
var malwareClasses = map[string]int{
	"adware": 1, "backdoor": 2, "bot": 3, "ddos": 5, "trojandownloader": 6, "trojandropper": 7, "trojanspy": 17,
	"monitoringtool": 9, "ransom": 10, "ransomware": 10, "remoteaccess": 11, "rogue": 14, "rootkit": 15, "spyware": 17, "pws": 17,
	"trojan": 18, "virus": 19, "worm": 22, "wiper": 21, "webshell": 20,
}

func malwareClass(name, category string) int {
	prefix, _, ok := strings.Cut(name, ":")
	if id, known := malwareClasses[fold(prefix)]; ok && known {
		return id
	}
	if id, known := malwareClasses[fold(category)]; known {
		return id
	}
	return ocsf.Other
}

// osType recognizes an operating system by Defender's platform word.
func osType(platform string) (id int, name string) {
	p := fold(platform)
	for _, k := range []struct {
		prefix, name string
		id           int
	}{
		{"windowsphone", "Windows Mobile", 101},
		{"windows", "Windows", 100},
		{"android", "Android", 201},
		{"macos", "macOS", 300},
		{"ipados", "iPadOS", 302},
		{"ios", "iOS", 301},
		{"linux", "Linux", 200},
		{"ubuntu", "Linux", 200},
		{"redhat", "Linux", 200},
		{"rhel", "Linux", 200},
		{"centos", "Linux", 200},
		{"debian", "Linux", 200},
		{"suse", "Linux", 200},
		{"sles", "Linux", 200},
		{"oracle", "Linux", 200},
		{"amazonlinux", "Linux", 200},
		{"fedora", "Linux", 200},
		{"rocky", "Linux", 200},
		{"alma", "Linux", 200},
		{"mariner", "Linux", 200},
		{"solaris", "Solaris", 400},
		{"aix", "AIX", 401},
	} {
		if strings.HasPrefix(p, k.prefix) {
			return k.id, k.name
		}
	}
	return ocsf.Other, platform
}

// roleSet is what the roles of an evidence amount to.
type roleSet struct {
	hostile     bool // it belongs to the attack
	affected    bool
	destination bool
	top         bool // it is named at the top of the finding, too
	remote      bool // an address is at the far end
}

func rolesOf(ev *node) roleSet {
	var r roleSet
	for _, k := range ev.items("roles") {
		switch fold(k.text) {
		case "attacker", "suspicious", "policyviolator", "source":
			r.hostile = true
		case "commandandcontrol":
			r.hostile, r.remote = true, true
		case "compromised":
			r.affected, r.top = true, true
		case "attacked":
			r.affected, r.top, r.remote = true, true, true
		case "edited":
			r.affected = true
		case "destination":
			r.destination, r.top, r.remote = true, true, true
		}
	}
	return r
}

func (r roleSet) id() int {
	switch {
	case r.affected:
		return ocsf.RoleAffected
	case r.destination:
		return ocsf.RoleTarget
	case r.hostile:
		return ocsf.RoleActor
	default:
		return ocsf.RoleRelated
	}
}
