package normalize

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	ipOf   = `{"@odata.type":"#microsoft.graph.security.ipEvidence","verdict":"unknown","ipAddress":"ADDR","countryLetterCode":"CH","location":{"city":"Chur","countryName":"Switzerland","state":"GR","latitude":46.85,"longitude":9.53}}`
	userOf = `{"accountName":"m.frei","domainName":"CONTOSO","userSid":"S-1-5-21-9-8-7-500","azureAdUserId":"6f3f2f9e-7a0e-4c9b-9f55-0000000000b1","userPrincipalName":"Mia.Frei@contoso.example","displayName":"Mia Frei","activeDirectoryObjectGuid":"0f0f0f0f-7a0e-4c9b-9f55-0000000000b2","tenantId":"aaaaaaaa-7a0e-4c9b-9f55-0000000000b3","resourceAccessEvents":[{"accountId":"acc-1"}]}`
	fileOf = `{"fileName":"drop.dll","filePath":"C:\\ProgramData\\x","fileSize":77,"filePublisher":"Nobody Ltd","signer":"Signer S","issuer":"Issuer I","sha256":"5AB5C0F6E3A1B2C3D4E5F60718293A4B5C6D7E8F90A1B2C3D4E5F60718293A4B","sha1":"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3","md5":"9e107d9d372bb6826bd81d3542a419d6","sha256Ac":"1111111111111111111111111111111111111111111111111111111111111112"}`
	vmOf   = `/subscriptions/33333333-7a0e-4c9b-9f55-0000000000c1/resourceGroups/RG-Prod/providers/Microsoft.Compute/virtualMachines/vm-7`
)

func at(ip string) string { return strings.Replace(ipOf, "ADDR", ip, 1) }

// fixtures has one evidence of every type, by short name without "Evidence", with every member of interest.
var fixtures = map[string]string{
	"user":                     `{"userAccount":` + userOf + `,"stream":{"name":"stream-1"}}`,
	"mailbox":                  `{"primaryAddress":"Shared.Box@contoso.example","displayName":"Shared Box","upn":"box@contoso.example","userAccount":` + userOf + `}`,
	"mailboxConfiguration":     `{"configurationId":"cfg-9","configurationType":"userInboxRule","mailboxPrimaryAddress":"boss@contoso.example","upn":"the.boss@contoso.example","displayName":"Rule 1","externalDirectoryObjectId":"77777777-7a0e-4c9b-9f55-0000000000d1"}`,
	"device":                   `{"mdeDeviceId":"mde-1","azureAdDeviceId":"aad-1","deviceDnsName":"PC-9.corp.contoso.example","hostName":"PC-9","ntDomain":"CONTOSO","dnsDomain":"corp.contoso.example","osPlatform":"Windows11","osBuild":22631,"version":"23H2","rbacGroupId":12,"rbacGroupName":"Group A","healthStatus":"active","riskScore":"high","onboardingStatus":"onboarded","defenderAvStatus":"updated","firstSeenDateTime":"2026-01-02T03:04:05.6789012Z","lastIpAddress":"10.1.2.3","lastExternalIpAddress":"5.45.96.7","ipInterfaces":["10.1.2.3","fe80::1"],"loggedOnUsers":[{"accountName":"who","domainName":"D"}],"vmMetadata":{"vmId":"vm-id-1","cloudProvider":"azure","resourceId":"` + vmOf + `","subscriptionId":"33333333-7a0e-4c9b-9f55-0000000000c1"},"resourceAccessEvents":[{"ipAddress":"10.9.9.9"}]}`,
	"ioTDevice":                `{"deviceId":"iot-1","deviceName":"Pump","deviceType":"PLC","macAddress":"00-1A-2B-3C-4D-5E","manufacturer":"ACME","model":"P1","operatingSystem":"VxWorks","serialNumber":"sn-1","protocols":["modbus"],"ipAddress":` + at("10.5.5.5") + `,"ioTHub":{"resourceId":"` + vmOf + `","resourceName":"hub","resourceType":"Microsoft.Devices/IotHubs"},"nics":[{"macAddress":"00:1a:2b:3c:4d:5f"}],"isScanner":false,"sourceRef":{"url":"https://src.example/1"}}`,
	"nic":                      `{"macAddress":"AA-BB-CC-DD-EE-FF","ipAddress":` + at("10.6.6.6") + `,"vlans":["7"]}`,
	"file":                     `{"fileDetails":` + fileOf + `,"mdeDeviceId":"mde-2","detectionStatus":"detected"}`,
	"fileHash":                 `{"algorithm":"sha1","value":"DE9F2C7FD25E1B3AFAD3E85A0BD17D9B100DB4B3"}`,
	"process":                  `{"processId":4321,"parentProcessId":1,"processCommandLine":"cmd /c evil","processCreationDateTime":"2026-03-04T05:06:07.1234567Z","parentProcessCreationDateTime":"2026-03-04T05:00:00Z","detectionStatus":"blocked","mdeDeviceId":"mde-3","imageFile":` + fileOf + `,"parentProcessImageFile":{"fileName":"init","filePath":"/sbin/"},"userAccount":` + userOf + `}`,
	"ip":                       `{"ipAddress":"8.8.4.4","countryLetterCode":"US","location":{"city":"Mountain View","countryName":"United States","latitude":37.4,"longitude":-122.1},"stream":{"name":"s"}}`,
	"url":                      `{"url":"HTTPS://Evil.Contoso.example:443/a/../b?x=%2f#frag"}`,
	"dns":                      `{"domainName":"C2.Evil.example.","dnsServerIp":` + at("9.9.9.9") + `,"hostIpAddress":` + at("10.7.7.7") + `,"ipAddresses":[` + at("45.33.32.156") + `]}`,
	"networkConnection":        `{"sourceAddress":` + at("10.8.8.8") + `,"sourcePort":50000,"destinationAddress":` + at("45.33.32.157") + `,"destinationPort":443,"protocol":"tcp"}`,
	"analyzedMessage":          `{"networkMessageId":"nm-1","internetMessageId":"<m1@x.example>","subject":"Invoice <now>","p1Sender":{"emailAddress":"bounce@evil.example","domainName":"evil.example"},"p2Sender":{"emailAddress":"CEO@evil.example","displayName":"The CEO","domainName":"evil.example"},"recipientEmailAddress":"Victim@contoso.example","senderIp":"45.33.32.158","receivedDateTime":"2026-03-04T00:00:00Z","urls":["http://evil.example/pay","not a url"],"deliveryAction":"Blocked","threats":["Phish"],"attachmentsCount":2,"urn":"urn:1"}`,
	"submissionMail":           `{"networkMessageId":"nm-2","sender":"bad@evil.example","recipient":"victim@contoso.example","senderIp":"45.33.32.159","subject":"Reported","submitter":"helpful@contoso.example","submissionId":"sub-1","reportType":"Phish","submissionDateTime":"2026-03-04T01:00:00Z"}`,
	"mailCluster":              `{"clusterBy":"Subject","clusterByValue":"Invoice","query":"( subject:\"Invoice\" )","emailCount":17,"networkMessageIds":["a-1","a-2"],"urn":"urn:mc"}`,
	"teamsMessage":             `{"messageId":"1700000000000","senderFromAddress":"fake@evil.example","senderIP":"45.33.32.160","subject":"Hi","recipients":["victim@contoso.example"],"urls":[{"@odata.type":"#microsoft.graph.security.urlEvidence","url":"https://evil.example/teams"}],"files":[{"fileDetails":` + fileOf + `}],"threadId":"19:x","isExternal":true}`,
	"cloudApplication":         `{"appId":11161,"displayName":"Big SaaS","instanceId":2,"instanceName":"Prod","saasAppId":11162,"stream":{"name":"st"}}`,
	"oauthApplication":         `{"appId":"oa-1","objectId":"oo-1","displayName":"Mail Reader","publisher":"Evil Corp"}`,
	"servicePrincipal":         `{"servicePrincipalObjectId":"spo-1","appId":"spa-1","servicePrincipalName":"robot","servicePrincipalType":"application","appOwnerTenantId":"own-1","tenantId":"ten-1"}`,
	"securityGroup":            `{"securityGroupId":"sg-1","sid":"S-1-5-21-1-2-3-512","displayName":"Domain Admins","friendlyName":"DA","distinguishedName":"CN=DA,DC=x","activeDirectoryObjectGuid":"12121212-7a0e-4c9b-9f55-0000000000e1"}`,
	"registryKey":              `{"registryHive":"HKLM","registryKey":"SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run"}`,
	"registryValue":            `{"registryHive":"HKEY_CURRENT_USER","registryKey":"Software\\Evil","registryValueName":"Updater","registryValueType":"REG_SZ","registryValue":"c:\\evil.exe","mdeDeviceId":"mde-4"}`,
	"azureResource":            `{"resourceId":"` + vmOf + `","resourceName":"vm-seven","resourceType":"Virtual Machine"}`,
	"amazonResource":           `{"amazonResourceId":"arn:aws:iam::123456789012:user/root","amazonAccountId":"123456789012","resourceName":"root","resourceType":"user"}`,
	"googleCloudResource":      `{"fullResourceName":"//compute.googleapis.com/projects/proj-1/zones/europe-west6-a/instances/i-1","projectId":"proj-1","projectNumber":9007199254740993,"resourceName":"i-1","resourceType":"instance","location":"europe-west6-a","locationType":"zonal"}`,
	"blobContainer":            `{"name":"backups","url":"https://store.blob.core.windows.net/backups","storageResource":{"resourceId":"` + vmOf + `"}}`,
	"blob":                     `{"name":"a.zip","url":"https://store.blob.core.windows.net/backups/a.zip","etag":"0x1","fileHashes":[{"algorithm":"md5","value":"0cc175b9c0f1b6a831c399e269772661"}],"blobContainer":{"name":"backups"}}`,
	"container":                `{"containerId":"c0ffee","name":"web","image":{"imageId":"img@sha256:1"},"args":["-x"],"command":["sh"],"isPrivileged":true,"pod":{"name":"pod-1"}}`,
	"containerImage":           `{"imageId":"img-2","registry":{"registry":"r.azurecr.io"},"digestImage":{"imageId":"img-3"}}`,
	"containerRegistry":        `{"registry":"reg.azurecr.io"}`,
	"kubernetesCluster":        `{"name":"aks-1","platform":"aks","version":"1.31","distribution":"d","cloudResource":{"resourceId":"` + vmOf + `"}}`,
	"kubernetesNamespace":      `{"name":"prod","labels":{"a":"b"},"cluster":{"name":"aks-2"}}`,
	"kubernetesPod":            `{"name":"pod-2","namespace":{"name":"ns-2"},"podIp":` + at("10.244.0.9") + `,"containers":[{"containerId":"c-2"}],"labels":{"l":"m"}}`,
	"kubernetesController":     `{"name":"dep-1","type":"Deployment","namespace":{"name":"ns-3"}}`,
	"kubernetesService":        `{"name":"svc-1","namespace":{"name":"ns-4"},"clusterIP":` + at("10.0.0.77") + `,"externalIPs":[` + at("45.33.32.161") + `],"servicePorts":[{"port":80,"targetPort":"8080"}]}`,
	"kubernetesServiceAccount": `{"name":"sa-1","namespace":{"name":"ns-5"}}`,
	"kubernetesSecret":         `{"name":"secret-1","namespace":{"name":"ns-6"},"secretType":"Opaque"}`,
	"activeDirectoryDomain":    `{"activeDirectoryDomainName":"corp.contoso.example","trustedDomains":[{"activeDirectoryDomainName":"other.example"}]}`,
	"sasToken":                 `{"signatureHash":"sig-1","permissions":["read"],"expiryDateTime":"2027-01-01T00:00:00Z","storageResource":{"resourceId":"` + vmOf + `"},"allowedIpAddresses":"1.1.1.1"}`,
	"gitHubOrganization":       `{"orgId":"org-1","login":"contoso","displayName":"Contoso","email":"git@contoso.example","webUrl":"https://github.com/contoso","company":"C"}`,
	"gitHubRepo":               `{"repoId":"repo-1","login":"contoso/app","owner":"contoso","ownerType":"Organization","baseUrl":"https://github.com/contoso/app"}`,
	"gitHubUser":               `{"userId":"ghu-1","login":"mfrei","name":"Mia","email":"mia@git.example","webUrl":"https://github.com/mfrei"}`,
	"aiAgent":                  `{"agentId":"agent-1","agentName":"Helper","hostingPlatformType":"copilotStudio","instructions":"be nice"}`,
	"hostLogonSession":         `{"sessionId":"999","startUtcDateTime":"2026-03-04T05:06:07Z","endUtcDateTime":"2026-03-04T06:06:07Z","account":{"@odata.type":"#microsoft.graph.security.userEvidence","userAccount":` + userOf + `},"host":{"mdeDeviceId":"mde-5","deviceDnsName":"srv-5.contoso.example","hostName":"srv-5"}}`,
	"cloudLogonSession":        `{"sessionId":"998","startUtcDateTime":"2026-03-04T05:06:07Z","account":{"userAccount":` + userOf + `},"deviceName":"Phone","operatingSystem":"iOS","browser":"Safari","userAgent":"Mozilla/5.0 (iPhone)","protocol":"saml"}`,
	"cloudLogonRequest":        `{"requestId":"req-1"}`,
	"malware":                  `{"name":"Ransom:Win32/Lock.A","category":"Ransomware","files":[{"fileDetails":` + fileOf + `}],"processes":[{"processId":5}]}`,
}

// evidenceOf is a fixture with what all evidence has, and its type; with has members to add or replace.
func evidenceOf(tb testing.TB, kind string, with map[string]any) map[string]any {
	tb.Helper()
	var own map[string]any
	d := json.NewDecoder(strings.NewReader(fixtures[kind]))
	d.UseNumber()
	if err := d.Decode(&own); err != nil {
		tb.Fatalf("fixture %s: %v", kind, err)
	}
	ev := map[string]any{
		"@odata.type": "#microsoft.graph.security." + kind + "Evidence", "createdDateTime": "2026-03-04T05:06:08.5Z",
		"verdict": "suspicious", "remediationStatus": "none", "remediationStatusDetails": "details of " + kind,
		"roles": []string{"compromised"}, "detailedRoles": []string{"Detailed"}, "tags": []string{"tag-" + kind},
	}
	maps.Copy(ev, own)
	maps.Copy(ev, with)
	return ev
}

// alertWith is an alert with these evidences; with has members to add or replace.
func alertWith(tb testing.TB, with map[string]any, evidence ...map[string]any) []byte {
	tb.Helper()
	a := map[string]any{
		"@odata.context": "https://graph.example/$metadata#alerts", "id": "da638651234567890123_-42", "providerAlertId": "638651234567890123_-42",
		"incidentId": "1234", "status": "inProgress", "severity": "high", "classification": "truePositive",
		"determination": "malware", "serviceSource": "microsoftDefenderForEndpoint", "detectionSource": "customDetection",
		"productName": "Microsoft Defender for Endpoint", "detectorId": "detector-1",
		"tenantId": "10101010-7a0e-4c9b-9f55-00000000000F", "title": "Something <bad> & worse",
		"description": "Long text\nwith lines", "recommendedActions": "Do this.\nDo that.", "category": "CredentialAccess",
		"categories": []string{"Malware", "Execution"}, "assignedTo": "ana@contoso.example",
		"alertWebUrl": "https://security.example/alerts/1", "incidentWebUrl": "https://security.example/incidents/1234",
		"actorDisplayName": "Storm-1", "threatDisplayName": "Trojan:Win32/Bad", "threatFamilyName": "Bad",
		"mitreTechniques": []string{"T1110.003", "T1078", "Proprietary"}, "createdDateTime": "2026-03-04T05:06:08.1234567Z",
		"lastUpdateDateTime": "2026-03-04T06:00:00.5Z", "resolvedDateTime": "2026-03-05T00:00:00Z",
		"firstActivityDateTime": "2026-03-04T04:00:00Z", "lastActivityDateTime": "2026-03-04T05:00:00Z",
		"systemTags": []string{"DEV-0001"}, "alertPolicyId": "policy-1", "investigationState": "running",
		"customDetails":  map[string]any{"Count": `["57"]`, "Hosts": `["a","b"]`, "Plain": "text"},
		"additionalData": map[string]any{"Query": "SigninLogs | take 1", "Big": json.Number("9007199254740993")},
		"comments": []any{
			map[string]any{"comment": "newest", "createdByDisplayName": "Ana", "createdDateTime": "2026-03-04T05:30:00Z"},
			map[string]any{"comment": "oldest", "createdByDisplayName": "Bo", "createdDateTime": "2026-03-04T05:20:00Z"},
		},
		"evidence": evidence, "someFutureMember": map[string]any{"x": 1},
	}
	maps.Copy(a, with)
	for k, v := range with {
		if v == nil {
			delete(a, k)
		}
	}
	b, err := json.Marshal(a)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func everyKind() []string { return slices.Sorted(maps.Keys(fixtures)) }
