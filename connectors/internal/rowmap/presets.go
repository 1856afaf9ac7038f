package rowmap

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// None is the name of no bundled map.
const None = "none"

// AWSConsoleLogin is the bundled map of console logins in the table AWSCloudTrail.
const AWSConsoleLogin = "aws_console_login"

// presets are the bundled maps. Their fields are named as OCSF 1.8.0 names them.
var presets = sync.OnceValue(func() map[string][]field {
	return map[string][]field{AWSConsoleLogin: bundle(awsConsoleLogin)}
})

// Columns of AWSCloudTrail: https://learn.microsoft.com/azure/azure-monitor/reference/tables/awscloudtrail. What
// AdditionalEventData and ResponseElements hold for a login:
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-aws-console-sign-in-events.html.
// Fields: class Authentication (3002) of OCSF.
var awsConsoleLogin = []field{
	{name: "time", from: "TimeGenerated"},
	{name: "metadata.uid", from: "AwsEventId"},
	{name: "metadata.event_code", from: "EventName"},
	{name: "user.type", from: "UserIdentityType"},
	{name: "user.name", from: "UserIdentityUserName"},
	{name: "user.uid", from: "UserIdentityPrincipalid"},
	{name: "user.uid_alt", from: "UserIdentityArn"},
	{name: "user.account.uid", from: "UserIdentityAccountId"},
	{name: "src_endpoint.ip", from: "SourceIpAddress"},
	{name: "http_request.user_agent", from: "UserAgent"},
	{name: "cloud.account.uid", from: "RecipientAccountId"},
	{name: "cloud.region", from: "AWSRegion"},
	{name: "service.name", from: "EventSource"},
	{name: "status", from: "ResponseElements.ConsoleLogin"},
	{name: "status_code", from: "ErrorCode"},
	{name: "status_detail", from: "ErrorMessage"},
	{name: "is_mfa", from: "AdditionalEventData.MFAUsed", typ: "bool", convert: yesNo},
}

func bundle(fields []field) []field {
	for i := range fields {
		fields[i].bundled = true
	}
	return fields
}

// yesNo makes a boolean of Yes and No; anything else is not known.
func yesNo(v jsontext.Value) jsontext.Value {
	switch strings.ToLower(string(v)) {
	case `"yes"`, "true":
		return jsontext.Value("true")
	case `"no"`, "false":
		return jsontext.Value("false")
	}
	return jsontext.Value("null")
}

// Presets are the names of the bundled maps, in order.
func Presets() []string { return slices.Sorted(maps.Keys(presets())) }

// Fields are the names of each bundled map's fields.
func Fields() map[string][]string {
	out := map[string][]string{}
	for name, fields := range presets() {
		for _, f := range fields {
			out[name] = append(out[name], f.name)
		}
	}
	return out
}
