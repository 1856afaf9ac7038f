package jira

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/sdk"
)

const (
	routeInfo        = "GET /rest/api/2/serverInfo"
	routeMyself      = "GET /rest/api/2/myself"
	routeProject     = "GET /rest/api/2/project/SOC"
	routeTypes       = "GET /rest/api/2/issue/createmeta/SOC/issuetypes"
	routePermissions = "GET /rest/api/2/mypermissions"
	routeFields      = "GET /rest/api/2/issue/createmeta/SOC/issuetypes/10007"
	fieldsAll        = `{"fieldId":"summary","name":"Summary","required":true},{"fieldId":"description","name":"Description"},{"fieldId":"labels","name":"Labels"}`
	allowed          = `"allowedValues":[{"id":"1","name":"Highest"},{"id":"2","name":"High"},{"id":"3","name":"Medium"},{"id":"4","name":"Low"},{"id":"5","name":"Lowest"}]`
)

func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	healthy := func() map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{
			routeInfo:        answer(200, `{"deploymentType":"Cloud","version":"1001.0.0"}`),
			routeMyself:      answer(200, `{"displayName":"Casewire"}`),
			routeProject:     answer(200, `{"key":"SOC","name":"Security"}`),
			routePermissions: answer(200, `{"permissions":{`+granted("BROWSE_PROJECTS", "CREATE_ISSUES", "EDIT_ISSUES", "ADD_COMMENTS", "TRANSITION_ISSUES", "CREATE_ATTACHMENTS", "LINK_ISSUES", "ASSIGN_ISSUES")+`}}`),
			routeTypes:       answer(200, `{"total":1,"issueTypes":[{"id":"10007","name":"Task"}]}`),
			routeFields:      answer(200, `{"total":4,"fields":[`+fieldsAll+`,{"fieldId":"priority",`+allowed+`}]}`),
		}
	}
	ok, failed, skipped, warning := sdk.ProbeOK, sdk.ProbeFailed, sdk.ProbeSkipped, sdk.ProbeWarning
	for name, tt := range map[string]struct {
		route  string
		answer http.HandlerFunc
		change func(*Config)
		want   []sdk.ProbeStatus
		says   string
	}{
		"healthy":        {want: []sdk.ProbeStatus{ok, ok, ok, ok, ok, ok}, says: "signed in as Casewire by API token"},
		"down":           {route: routeInfo, answer: answer(503, ""), want: []sdk.ProbeStatus{failed, skipped, skipped, skipped, skipped, skipped}, says: "check base_url"},
		"deployment":     {change: func(c *Config) { c.Deployment = "datacenter" }, want: []sdk.ProbeStatus{failed, ok, ok, ok, ok, ok}, says: "set deployment to auto"},
		"bad token":      {route: routeMyself, answer: answer(401, ""), want: []sdk.ProbeStatus{ok, failed, skipped, skipped, skipped, skipped}, says: "credential is refused"},
		"no project":     {route: routeProject, answer: answer(404, ""), want: []sdk.ProbeStatus{ok, ok, failed, skipped, skipped, skipped}, says: "Browse Projects"},
		"old jira":       {route: routeTypes, answer: answer(404, ""), want: []sdk.ProbeStatus{ok, ok, ok, ok, skipped, skipped}},
		"may not create": {route: routePermissions, answer: answer(200, `{"permissions":{`+granted("BROWSE_PROJECTS", "EDIT_ISSUES", "ADD_COMMENTS")+`}}`), want: []sdk.ProbeStatus{ok, ok, ok, failed, ok, ok}, says: "lacks Create Issues, Transition Issues (for issue.transition"},
		"may not attach": {
			route: routePermissions, answer: answer(200, `{"permissions":{`+granted("BROWSE_PROJECTS", "CREATE_ISSUES", "EDIT_ISSUES", "ADD_COMMENTS", "TRANSITION_ISSUES", "LINK_ISSUES", "ASSIGN_ISSUES")+`}}`),
			want: []sdk.ProbeStatus{ok, ok, ok, warning, ok, ok}, says: "lacks Create Attachments (for issue.attach)",
		},
		"no such type": {change: func(c *Config) { c.IssueType = "Alarm" }, want: []sdk.ProbeStatus{ok, ok, ok, ok, failed, skipped}, says: "one of: Task"},
		"no labels": {
			route: routeFields, answer: answer(200, `{"values":[{"fieldId":"summary"},{"fieldId":"description"},{"fieldId":"priority",`+allowed+`}]}`),
			want: []sdk.ProbeStatus{ok, ok, ok, ok, failed, ok}, says: "lacks labels",
		},
		"demanding screen": {
			route: routeFields, answer: answer(200, `{"fields":[`+fieldsAll+`,{"fieldId":"priority",`+allowed+`},{"fieldId":"customfield_1","name":"Team","required":true}]}`),
			want: []sdk.ProbeStatus{ok, ok, ok, ok, warning, ok}, says: "customfield_1 (Team)",
		},
		"other priorities": {
			route: routeFields, answer: answer(200, `{"fields":[`+fieldsAll+`,{"fieldId":"priority","allowedValues":[{"id":"1","name":"P1"},{"id":"2","name":"Medium"}]}]}`),
			want: []sdk.ProbeStatus{ok, ok, ok, ok, ok, failed}, says: "P1, Medium",
		},
		"no priorities": {
			route: routeFields, answer: answer(200, `{"fields":[`+fieldsAll+`]}`),
			want: []sdk.ProbeStatus{ok, ok, ok, ok, ok, failed}, says: "lacks priority",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			routes := healthy()
			if tt.route != "" {
				routes[tt.route] = tt.answer
			}
			cfg := testConfig(script(t, routes).URL)
			if tt.change != nil {
				tt.change(&cfg)
			}
			c, err := open(t.Context(), cfg, sdk.Env{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			var got []sdk.ProbeStatus
			var text strings.Builder
			for _, p := range c.Check(t.Context()) {
				got = append(got, p.Status)
				text.WriteString(p.Summary + "; " + p.Remedy + "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || !strings.Contains(text.String(), tt.says) {
				t.Errorf("probes (-want +got):\n%s%s", diff, text.String())
			}
			if strings.Contains(text.String(), testToken) {
				t.Error("a probe shows the credential")
			}
		})
	}
}

// granted is the members of an answer in which the account has these permissions.
func granted(keys ...string) string {
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, `"`+k+`":{"key":"`+k+`","havePermission":true}`)
	}
	return strings.Join(out, ",")
}
