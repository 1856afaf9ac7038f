package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/casewire/casewire/connectors/sentinel"
)

// normalizeRuns are timed one by one, in rounds; the median of the rounds counts.
const normalizeRounds, normalizeRuns = 21, 100

// normalizeAlert measures what it costs to make an event of an alert of Microsoft Graph of 5 KB: processor time, the
// collector's included, so that whoever else is at work on the machine does not count.
func normalizeAlert(ctx context.Context) ([]figure, error) {
	raw, err := benchAlert()
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	size := 0
	for range normalizeRounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		begin, err := processorTime()
		if err != nil {
			return nil, err
		}
		for range normalizeRuns {
			ev, err := sentinel.Normalize(raw, sentinel.NormalizeOptions{})
			if err != nil {
				return nil, err
			}
			size = len(ev.Data)
		}
		end, err := processorTime()
		if err != nil {
			return nil, err
		}
		times = append(times, (end-begin)/normalizeRuns)
	}
	slices.Sort(times)
	median := float64(times[len(times)/2].Nanoseconds()) / 1000
	note := fmt.Sprintf("alert of %d bytes, event of %d; processor time, best round %v", len(raw), size, times[0].Round(time.Microsecond))
	return []figure{atMost("normalize_alert_us", median, "µs", 150, note)}, nil
}

// benchAlert is an alert of 5 KB with evidence of five kinds.
func benchAlert() ([]byte, error) {
	const graph = "#microsoft.graph.security."
	user := map[string]any{
		"accountName": "mia", "domainName": "CONTOSO", "userSid": "S-1-5-21-1111111111-222222222-333333333-1107",
		"azureAdUserId": "11111111-2222-4333-8444-555555555555", "userPrincipalName": "mia@contoso.example", "displayName": "Mia Frei",
	}
	file := map[string]any{
		"fileName": "powershell.exe", "filePath": `C:\Windows\System32\WindowsPowerShell\v1.0`, "fileSize": 452608, "filePublisher": "Microsoft Corporation",
		"sha1": "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"md5": "098f6bcd4621d373cade4e832627b4f6",
	}
	evidence := []map[string]any{
		{
			"@odata.type": graph + "deviceEvidence", "mdeDeviceId": "7a1e9c3b5d2f4e6a8c0b1d3f5e7a9c1b3d5f7e9a", "azureAdDeviceId": "22222222-3333-4444-8555-666666666666",
			"deviceDnsName": "wks-042.corp.contoso.example", "hostName": "wks-042", "osPlatform": "Windows11", "osBuild": 22631, "version": "23H2",
			"healthStatus": "active", "riskScore": "high", "rbacGroupId": 75, "rbacGroupName": "Workstations", "onboardingStatus": "onboarded",
			"defenderAvStatus": "updated", "lastIpAddress": "10.20.30.40", "lastExternalIpAddress": "198.51.100.7", "ipInterfaces": []string{"10.20.30.40", "fe80::1"},
			"loggedOnUsers": []map[string]any{{"accountName": "mia", "domainName": "CONTOSO"}}, "roles": []string{"compromised"},
		},
		{"@odata.type": graph + "userEvidence", "userAccount": user, "roles": []string{"compromised"}},
		{
			"@odata.type": graph + "processEvidence", "processId": 4780, "parentProcessId": 668, "mdeDeviceId": "7a1e9c3b5d2f4e6a8c0b1d3f5e7a9c1b3d5f7e9a",
			"processCommandLine":      `powershell.exe -nop -w hidden -enc SQBFAFgAIAAoAE4AZQB3AC0ATwBiAGoAZQBjAHQAIABOAGUAdAAuAFcAZQBiAEMAbABpAGUAbgB0ACkA`,
			"processCreationDateTime": "2026-03-04T04:59:07.1234567Z", "parentProcessCreationDateTime": "2026-03-04T04:00:00Z", "detectionStatus": "detected",
			"imageFile": file, "parentProcessImageFile": map[string]any{"fileName": "winword.exe", "filePath": `C:\Program Files\Microsoft Office\root\Office16`},
			"userAccount": user, "roles": []string{"attacker"},
		},
		{"@odata.type": graph + "ipEvidence", "ipAddress": "203.0.113.77", "countryLetterCode": "NL", "roles": []string{"commandAndControl"}},
		{"@odata.type": graph + "urlEvidence", "url": "https://cdn.bad.example/stage2/a.ps1?x=1", "roles": []string{"commandAndControl"}},
	}
	for _, e := range evidence {
		e["createdDateTime"], e["verdict"], e["remediationStatus"], e["remediationStatusDetails"] = "2026-03-04T05:06:08.5Z", "suspicious", "none", nil
		e["tags"], e["detailedRoles"] = []string{}, []string{}
	}
	return json.Marshal(map[string]any{
		"id": "da638551234567890123_-123456", "providerAlertId": "638551234567890123_-123456", "incidentId": "28282", "status": "new", "severity": "high",
		"classification": nil, "determination": nil, "serviceSource": "microsoftDefenderForEndpoint", "detectionSource": "microsoftDefenderForEndpoint",
		"productName": "Microsoft Defender for Endpoint", "detectorId": "7f1c3609-a3ff-40e2-995b-c01770161d68", "tenantId": "11111111-2222-4333-8444-555555555555",
		"title":              "Suspicious PowerShell command line",
		"description":        "A suspicious PowerShell activity was observed on the machine. It may indicate that a file was downloaded, or that code runs in memory.",
		"recommendedActions": "1. Examine the command line.\n2. Look for further processes and connections of the machine.\n3. Isolate it if you find them.",
		"category":           "Execution", "mitreTechniques": []string{"T1059.001", "T1105"}, "assignedTo": nil, "actorDisplayName": nil, "threatDisplayName": nil,
		"alertWebUrl":     "https://security.microsoft.com/alerts/da638551234567890123_-123456?tid=11111111-2222-4333-8444-555555555555",
		"incidentWebUrl":  "https://security.microsoft.com/incidents/28282?tid=11111111-2222-4333-8444-555555555555",
		"createdDateTime": "2026-03-04T05:06:08.1234567Z", "lastUpdateDateTime": "2026-03-04T06:00:00.5Z", "resolvedDateTime": nil,
		"firstActivityDateTime": "2026-03-04T04:59:07Z", "lastActivityDateTime": "2026-03-04T05:00:00Z", "comments": []any{}, "evidence": evidence,
		"systemTags": []string{"Defender Experts"}, "additionalData": map[string]any{"ruleVersion": 3}, "customDetails": map[string]any{"Score": `["57"]`},
		"alertPolicyId": nil, "investigationState": "queued", "threatFamilyName": nil,
	})
}
