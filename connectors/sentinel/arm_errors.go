package sentinel

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
)

func asSDK(err error) (*sdk.Error, bool) { return errors.AsType[*sdk.Error](err) }

// deniedRule finds in a refusal what was to be done, and where.
var deniedRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`perform action '([^']*)' over scope '([^']*)'`) })

// explainARM adds to what the answer says what Azure Resource Manager's codes mean here, and what to do.
func explainARM(status int, header http.Header, body []byte, err *sdk.Error) {
	azure.Explain(status, header, body, err)
	hint := ""
	config := func(text string) {
		err.Code, err.Origin, hint = codes.FailedPrecondition, sdk.OriginConfig, text
	}
	switch code := strings.ToLower(err.Reason); {
	case code == "authorizationfailed":
		role, scope := "Microsoft Sentinel Reader", "the workspace"
		if m := deniedRule().FindStringSubmatch(err.Message); m != nil {
			role, scope = roleFor(m[1]), m[2]
		}
		hint = "give the app the role " + role + " on " + scope + "; a new assignment takes some minutes"
	case code == "expiredauthenticationtoken":
		hint = "the token has expired; the next request takes a new one"
	case code == "invalidauthenticationtokentenant":
		err.Origin = sdk.OriginConfig
		hint = "the token is of another tenant than the subscription; check credential.tenant_id"
	case code == "subscriptionnotfound", code == "invalidsubscriptionid":
		config("check workspace.subscription, and that the app has a role in it")
	case code == "resourcegroupnotfound":
		config("check workspace.resource_group")
	case strings.Contains(err.Message, "'Microsoft.OperationalInsights/workspaces/") && status == http.StatusNotFound:
		config("check workspace.name: it is the name, and not the GUID")
	case code == "noregisteredproviderfound", code == "invalidresourcetype", code == "unsupportedapiversion", code == "invalidapiversionparameter":
		hint = "Casewire speaks api-version " + armVersion + " of Microsoft.SecurityInsights; this cloud may not offer it"
	case status == http.StatusTooManyRequests:
		hint = limits(header)
		if hint != "" {
			hint = "of its quota " + hint
		}
	}
	if hint != "" {
		err.Message = strings.TrimPrefix(err.Message+"; "+hint, "; ")
	}
}

// roleFor names the built-in role with the least rights that allows an action.
func roleFor(action string) string {
	a := strings.ToLower(action)
	switch {
	case strings.Contains(a, "runplaybook"):
		return "Microsoft Sentinel Playbook Operator (besides Microsoft Sentinel Responder)"
	case strings.HasSuffix(a, "/read"), strings.HasSuffix(a, "/alerts/action"), strings.HasSuffix(a, "/entities/action"):
		return "Microsoft Sentinel Reader"
	case strings.Contains(a, "/incidents"):
		return "Microsoft Sentinel Responder"
	default:
		return "Microsoft Sentinel Contributor"
	}
}

// limits quotes what is left of the quotas.
func limits(header http.Header) string {
	var out []string
	for name, values := range header {
		if n := strings.ToLower(name); strings.HasPrefix(n, "x-ms-ratelimit-remaining-") && len(values) > 0 {
			out = append(out, strings.TrimPrefix(n, "x-ms-ratelimit-remaining-")+"="+values[0])
		}
	}
	if len(out) == 0 {
		return ""
	}
	slices.Sort(out)
	return "is left: " + strings.Join(out, ", ")
}
