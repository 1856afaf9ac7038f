package sentinel

import (
	"slices"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// determinations that Graph takes, from the v1.0 metadata.
var determinations = []string{
	"unknown", "apt", "malware", "securityPersonnel", "securityTesting", "unwantedSoftware", "other", "multiStagedAttack",
	"compromisedAccount", "phishing", "maliciousUserActivity", "notMalicious", "notEnoughDataToValidate", "confirmedActivity",
	"lineOfBusinessApplication",
}

// formerDeterminations are names that older documentation has; the API does not take them.
var formerDeterminations = map[string]string{
	"compromiseduser": "compromisedAccount", "clean": "notMalicious", "insufficientdata": "notEnoughDataToValidate",
	"confirmeduseractivity": "confirmedActivity",
}

// determination returns a determination as Graph spells it.
func determination(word string) (string, error) {
	if word == "" {
		return "", nil
	}
	if now, ok := formerDeterminations[strings.ToLower(word)]; ok {
		return now, nil
	}
	if i := slices.IndexFunc(determinations, func(d string) bool { return strings.EqualFold(d, word) }); i >= 0 {
		return determinations[i], nil
	}
	return "", sdk.Invalid("determination", "%q is none of %s", word, strings.Join(determinations, ", "))
}

// graphVerdicts are classification and determination for the verdict of a case. A verdict without a counterpart, such as a
// duplicate, is not written.
var graphVerdicts = map[int][2]string{
	1: {"falsePositive", "notMalicious"}, 2: {"truePositive", "other"}, 3: {"informationalExpectedActivity", "other"},
	5: {"informationalExpectedActivity", "confirmedActivity"}, 6: {"informationalExpectedActivity", "securityTesting"},
	7: {"falsePositive", "notEnoughDataToValidate"}, 8: {"truePositive", "other"},
}

// wishOf is what an update asks for, by Graph's names.
func wishOf(status, classification, determined string, verdict *int, assignedTo string) (map[string]any, error) {
	determined, err := determination(determined)
	if err != nil {
		return nil, err
	}
	if verdict != nil {
		if classification != "" || determined != "" {
			return nil, sdk.Invalid("verdict_id", "stands for classification and determination: give it, or them")
		}
		v := graphVerdicts[*verdict]
		classification, determined = v[0], v[1]
	}
	wish := map[string]any{}
	for name, v := range map[string]string{
		"status": status, "classification": classification, "determination": determined, "assignedTo": assignedTo,
	} {
		if v != "" {
			wish[name] = v
		}
	}
	if len(wish) == 0 && verdict == nil {
		return wish, sdk.Invalid("", "nothing to update: give status, classification, determination, verdict_id or assigned_to")
	}
	return wish, nil
}

// differing is the part of a wish that is not so already. Graph spells its words in more than one case.
func differing(wish, have map[string]any) map[string]any {
	out := map[string]any{}
	for name, want := range wish {
		now, _ := have[name].(string)
		if text, ok := want.(string); !ok || !strings.EqualFold(text, now) {
			out[name] = want
		}
	}
	return out
}
