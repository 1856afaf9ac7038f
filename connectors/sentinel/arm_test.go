package sentinel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/sentinel"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// room is a connection to a fake workspace.
type room struct {
	*sdktest.Harness
	t      *testing.T
	azure  *azurefake.Server
	config settings
}

const automationSecret = "a secret of the playbook, long enough"

func newRoom(t *testing.T, o azurefake.Options, more settings) *room {
	t.Helper()
	return newRoomBehind(t, o, more, func(h http.Handler) http.Handler { return h })
}

// newRoomBehind is newRoom with something between the connector and the fake.
func newRoomBehind(t *testing.T, o azurefake.Options, more settings, between func(http.Handler) http.Handler) *room {
	t.Helper()
	r := &room{t: t, azure: azurefake.New(o)}
	t.Cleanup(r.azure.Close)
	api := httptest.NewServer(between(recorded(r.azure)))
	t.Cleanup(api.Close)
	r.config = settings{
		"credential": settings{"tenant_id": r.azure.Tenant(), "client_id": r.azure.ClientID(), "client_secret": r.azure.ClientSecret(), "authority_url": api.URL},
		"graph_url":  api.URL, "graph_scope": "https://graph.microsoft.com/.default",
		"arm_url": api.URL, "arm_scope": "https://management.azure.com/.default", "incidents": "arm",
		"workspace": settings{
			"subscription": azurefake.DefaultSubscription, "resource_group": azurefake.DefaultResourceGroup, "name": azurefake.DefaultWorkspaceName,
		},
		"automation_secret": automationSecret,
	}
	maps.Copy(r.config, more)
	for k, v := range r.config {
		if v == nil {
			delete(r.config, k)
		}
	}
	r.Harness = sdktest.Open(t, sentinel.Connector(), r.config, sdktest.Options{
		Name: "workspace", Hooks: map[string]sdk.HookEndpoint{"incidents": {URL: api.URL + "/hooks/workspace/incidents", Secret: sdk.NewSecret("a hook secret of the host")}},
	})
	return r
}

// poll polls from cursor and returns the events, and the cursor behind them.
func (r *room) poll(cursor any) ([]sdk.Event, any) {
	r.t.Helper()
	pages, err := r.Poll(r.t.Context(), "incidents", cursor)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []sdk.Event
	for _, p := range pages {
		if len(p.Rejected) > 0 {
			r.t.Errorf("rejected: %v", p.Rejected)
		}
		out = append(out, p.Events...)
		cursor = p.Cursor
	}
	return out, cursor
}

func (r *room) call(action string, input any) (map[string]any, error) {
	r.t.Helper()
	var out map[string]any
	err := r.Call(r.t.Context(), action, input, &out)
	return out, err
}

func (r *room) must(action string, input any) map[string]any {
	r.t.Helper()
	out, err := r.call(action, input)
	if err != nil {
		r.t.Fatalf("%s: %v", action, err)
	}
	return out
}

// refused demands an error of a class that says something.
func refused(t *testing.T, err error, code codes.Code, says ...string) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error", err)
	}
	text := err.Error()
	for _, v := range e.Violations {
		text += " " + v.Field + " " + v.Description
	}
	if e.Code != code {
		t.Errorf("code %v, want %v: %v", e.Code, code, err)
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("%q does not say %q", text, s)
		}
	}
	return e
}

var armEntities = []map[string]any{
	{"kind": "Ip", "name": "e1", "properties": map[string]any{"address": "203.0.113.77"}},
	{"kind": "Account", "name": "e2", "properties": map[string]any{"accountName": "ada", "upnSuffix": "example.com"}},
	{"kind": "FutureKind", "name": "e3", "properties": map[string]any{"friendlyName": "x"}},
}

var armAlerts = []map[string]any{{"kind": "SecurityAlert", "name": "a1", "properties": map[string]any{"systemAlertId": "5e0d4d2c-7f0e-4a8b-9a55-2b1f0c3d4e5f"}}}

func TestARMUpdate(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", map[string]any{
		"title": "Kept", "description": "Kept too", "labels": []any{map[string]any{"labelName": "Ransomware", "labelType": "AutoAssigned"}, map[string]any{"labelName": "old", "labelType": "User"}},
		"owner": map[string]any{"objectId": nil, "email": nil, "assignedTo": "null", "userPrincipalName": nil},
	}, nil, nil)
	// Somebody else is faster, three times.
	conflicts := 3
	r.azure.BeforeIncidentPut(func(string) {
		if conflicts > 0 {
			conflicts--
			r.azure.TouchSentinelIncident(name, map[string]any{"severity": "High"})
		}
	})
	out := r.must("incident.update", settings{
		"incident": name, "status": "resolved", "classification": "truePositive", "assigned_to": "ada@example.com",
		"add_tags": []string{"casewire:tracked"}, "remove_tags": []string{"OLD"}, "resolving_comment": "Contained.",
	})
	if out["changed"] != true || out["status"] != "Closed" {
		t.Errorf("output %v", out)
	}
	p := r.azure.SentinelIncident(name)
	for k, want := range map[string]any{
		"title": "Kept", "description": "Kept too", "severity": "High", "status": "Closed", "classification": "TruePositive",
		"classificationReason": "SuspiciousActivity", "classificationComment": "Contained.",
	} {
		if p[k] != want {
			t.Errorf("%s is %v, want %v", k, p[k], want)
		}
	}
	if got := fmt.Sprint(p["labels"]); got != "[map[labelName:Ransomware labelType:AutoAssigned] map[labelName:casewire:tracked]]" {
		t.Errorf("labels %s", got)
	}
	if owner, _ := p["owner"].(map[string]any); owner["userPrincipalName"] != "ada@example.com" {
		t.Errorf("owner %v", p["owner"])
	}
	if l := r.azure.ARMLedger(); l.Puts[name] != 1 || l.Conflicts != 3 {
		t.Errorf("%d writes, %d conflicts", l.Puts[name], l.Conflicts)
	}
	// The same again writes nothing.
	out = r.must("incident.update", settings{"incident": r.azure.WorkspaceID() + "/providers/Microsoft.SecurityInsights/Incidents/" + strings.ToUpper(name), "status": "resolved", "assigned_to": "ADA@example.com"})
	if l := r.azure.ARMLedger(); out["changed"] != false || l.Puts[name] != 1 {
		t.Errorf("output %v, %d writes", out, l.Puts[name])
	}
	// A classification that does not fit the reason takes another one with it.
	r.must("incident.update", settings{"incident": name, "verdict_id": 1})
	if p := r.azure.SentinelIncident(name); p["classification"] != "FalsePositive" || p["classificationReason"] != "IncorrectAlertLogic" {
		t.Errorf("%v %v", p["classification"], p["classificationReason"])
	}
	r.must("incident.update", settings{"incident": name, "unassign": true, "verdict_id": 7})
	if p := r.azure.SentinelIncident(name); p["classification"] != "Undetermined" || p["classificationReason"] != nil || fmt.Sprint(p["owner"]) != "map[assignedTo:<nil> email:<nil> objectId:<nil> userPrincipalName:<nil>]" {
		t.Errorf("%v %v %v", p["classification"], p["classificationReason"], p["owner"])
	}
}

func TestARMUpdateRefuses(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", nil, nil, nil)
	_, err := r.call("incident.update", settings{"incident": name, "status": "resolved"})
	refused(t, err, codes.InvalidArgument, "/classification", "truePositive")
	_, err = r.call("incident.update", settings{"incident": name, "classification": "truePositive", "reason": "InaccurateData"})
	refused(t, err, codes.InvalidArgument, "/reason", "SuspiciousActivity")
	_, err = r.call("incident.update", settings{"incident": "/subscriptions/x/resourceGroups/y/providers/Microsoft.OperationalInsights/workspaces/other/providers/Microsoft.SecurityInsights/incidents/" + name, "status": "active"})
	refused(t, err, codes.InvalidArgument, "/incident", "other")
	_, err = r.call("incident.update", settings{"incident": "/subscriptions/x/nonsense", "status": "active"})
	refused(t, err, codes.InvalidArgument, "/incident")
	if l := r.azure.ARMLedger(); len(l.Puts) > 0 {
		t.Errorf("written: %v", l.Puts)
	}
	r.azure.BeforeIncidentPut(func(string) { r.azure.TouchSentinelIncident(name, nil) })
	_, err = r.call("incident.update", settings{"incident": name, "status": "active"})
	refused(t, err, codes.Aborted, "409", "5 tries")
	_, err = r.call("incident.update", settings{"incident": "73e01a99-5cd7-4139-a149-9f2736ff2ab5", "status": "active"})
	refused(t, err, codes.NotFound, "404", "73e01a99")
}

// TestARMCommentOncePerKey: whatever becomes of the answer, one comment stands.
func TestARMCommentOncePerKey(t *testing.T) {
	t.Parallel()
	for _, fault := range []azurefake.Fault{azurefake.LostAnswer, azurefake.ErrorAfter, azurefake.CutBody, azurefake.BadJSON, azurefake.ServerError} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, azurefake.Options{}, nil)
			name := r.azure.AddSentinelIncident("", nil, nil, nil)
			call := sdktest.Call{Action: "incident.comment", Key: "k1", Input: settings{"incident": name, "text": "Case <b>SEC-1</b>\nhttps://jira.example/SEC-1?a=1&b=2"}}
			r.azure.FailNext(azurefake.RouteARMCommentPut, fault, 1)
			if _, err := r.Do(t.Context(), call); err == nil {
				t.Error("the fault went unnoticed")
			}
			call.Attempt, call.Resolve = 2, true
			_, err := r.Do(t.Context(), call)
			if fault == azurefake.ServerError {
				e := refused(t, err, codes.NotFound)
				if e.Reason == "" {
					t.Error("it does not say that nothing was written")
				}
			} else if err != nil {
				t.Errorf("what became of it: %v", err)
			}
			call.Resolve = false
			for range 3 {
				if _, err := r.Do(t.Context(), call); err != nil {
					t.Fatal(err)
				}
			}
			call.Key = "k2"
			if _, err := r.Do(t.Context(), call); err != nil {
				t.Fatal(err)
			}
			want := "Case &lt;b&gt;SEC-1&lt;/b&gt;<br>https://jira.example/SEC-1?a=1&amp;b=2"
			if got := r.azure.SentinelComments(name); len(got) != 2 || got[0] != want {
				t.Errorf("comments %q", got)
			}
		})
	}
}

func TestARMCommentLimits(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", nil, nil, nil)
	_, err := r.call("incident.comment", settings{"incident": name, "text": strings.Repeat("<", 8000)})
	refused(t, err, codes.InvalidArgument, "/text", "30000")
	for i := range 100 {
		r.must("incident.comment", settings{"incident": name, "text": fmt.Sprint(i)})
	}
	_, err = r.call("incident.comment", settings{"incident": name, "text": "one more"})
	refused(t, err, codes.InvalidArgument, "100 comments")
}

func TestARMTaskOncePerKey(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", nil, nil, nil)
	call := sdktest.Call{Action: "task.add", Key: "k", Input: settings{"incident": name, "title": "Call the user", "description": "by phone"}}
	r.azure.FailNext(azurefake.RouteARMTaskPut, azurefake.LostAnswer, 1)
	_, err := r.Do(t.Context(), call)
	if e := refused(t, err, codes.Unavailable); e.SideEffect != sdk.EffectUnknown {
		t.Errorf("side effect %v", e.SideEffect)
	}
	res, err := r.Do(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	var task sentinel.Task
	if err := json.Unmarshal(res.Output, &task); err != nil || task.Status != "New" || task.Created.IsZero() {
		t.Errorf("%s, %v", res.Output, err)
	}
	// What a person has done stays done.
	r.azure.SetTask(name, task.ID, "Completed")
	res, err = r.Do(t.Context(), call)
	if err != nil || !strings.Contains(string(res.Output), "Completed") {
		t.Errorf("%s, %v", res.Output, err)
	}
	if l := r.azure.ARMLedger(); l.Tasks[name] != 1 {
		t.Errorf("%d tasks", l.Tasks[name])
	}
}

func TestARMPlaybook(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", nil, nil, nil)
	app := "/subscriptions/" + azurefake.DefaultSubscription + "/resourceGroups/soc/providers/Microsoft.Logic/workflows/isolate"
	r.must("playbook.run", settings{"incident": name, "logic_app": app})
	if l := r.azure.ARMLedger(); !slices.Equal(l.Playbooks, []azurefake.PlaybookRun{{Incident: name, LogicApp: app, Tenant: r.azure.Tenant()}}) {
		t.Errorf("runs %v", l.Playbooks)
	}
	_, err := r.call("playbook.run", settings{"incident": name, "logic_app": "isolate"})
	refused(t, err, codes.InvalidArgument, "/logic_app")
	r.azure.FailNext(azurefake.RouteARMPlaybook, azurefake.ErrorAfter, 1)
	_, err = r.call("playbook.run", settings{"incident": name, "logic_app": app})
	if e := refused(t, err, codes.Unavailable); e.SideEffect != sdk.EffectUnknown {
		t.Errorf("side effect %v", e.SideEffect)
	}
	// A Defender incident has no playbooks here.
	_, err = r.call("playbook.run", settings{"incident": "28282", "logic_app": app})
	refused(t, err, codes.InvalidArgument, "/incident")
}

func TestARMReads(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, settings{"page_size": 3})
	name := r.azure.AddSentinelIncident("", map[string]any{"title": "Strange", "labels": []any{map[string]any{"labelName": "a"}}}, armAlerts, armEntities)
	for range 9 {
		r.azure.AddSentinelIncident("", nil, nil, nil)
	}
	out := r.must("incident.get", settings{"incident": name})
	if out["title"] != "Strange" || out["status"] != "New" || fmt.Sprint(out["tags"]) != "[a]" || fmt.Sprint(out["alert_ids"]) != "[5e0d4d2c-7f0e-4a8b-9a55-2b1f0c3d4e5f]" {
		t.Errorf("incident %v", out)
	}
	if out := r.must("incident.list", settings{"max": 7}); len(out["rows"].([]any)) != 7 || out["truncated"] != true {
		t.Errorf("list %v", out)
	}
	if out := r.must("incident.list", settings{"filter": "properties/title eq 'Strange'"}); out["count"] != 1. || out["truncated"] != false {
		t.Errorf("list %v", out)
	}
	text := fmt.Sprint(r.must("incident.entities", settings{"incident": name}))
	for _, s := range []string{"203.0.113.77", "ada@example.com"} {
		if !strings.Contains(text, s) {
			t.Errorf("entities %s do not have %s", text, s)
		}
	}
}

func TestARMErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		opt    azurefake.ARM
		config settings
		code   codes.Code
		says   []string
	}{
		{"role", azurefake.ARM{Roles: []string{}}, nil, codes.PermissionDenied, []string{"Microsoft Sentinel Reader", "/workspaces/soc-ws"}},
		{"subscription", azurefake.ARM{Subscription: "11111111-1111-4111-8111-111111111111"}, nil, codes.FailedPrecondition, []string{"SubscriptionNotFound", "workspace.subscription"}},
		{"group", azurefake.ARM{ResourceGroup: "other"}, nil, codes.FailedPrecondition, []string{"ResourceGroupNotFound", "workspace.resource_group"}},
		{"workspace", azurefake.ARM{Workspace: "other"}, nil, codes.FailedPrecondition, []string{"workspace.name"}},
		{"audience", azurefake.ARM{}, settings{"arm_scope": "https://api.loganalytics.io/.default"}, codes.Unauthenticated, []string{"scope"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, azurefake.Options{ARM: tc.opt}, tc.config)
			_, err := r.Poll(t.Context(), "incidents", nil)
			e := refused(t, err, tc.code, append(tc.says, "Azure Resource Manager")...)
			if e.RequestID == "" {
				t.Error("no request id")
			}
			probes, err := r.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if i := slices.IndexFunc(probes, func(p sdk.Probe) bool { return p.Name == "workspace" }); i < 0 || probes[i].Status != sdk.ProbeFailed || probes[i].Remedy == "" {
				t.Errorf("probes %v", probes)
			}
		})
	}
	r := newRoom(t, azurefake.Options{ARM: azurefake.ARM{ReadsPerMinute: 1}}, nil)
	name := r.azure.AddSentinelIncident("", nil, nil, nil)
	r.must("watchlist.list", settings{})
	_, err := r.call("incident.get", settings{"incident": name})
	if e := refused(t, err, codes.ResourceExhausted, "subscription-reads=0"); e.RetryAfter <= 0 {
		t.Error("Retry-After was lost")
	}
	for _, fault := range []azurefake.Fault{azurefake.HTML, azurefake.BadJSON, azurefake.CutBody, azurefake.Unavailable} {
		r := newRoom(t, azurefake.Options{}, nil)
		r.azure.FailNext(azurefake.RouteARMIncidentList, fault, 1)
		_, err := r.Poll(t.Context(), "incidents", nil)
		refused(t, err, codes.Unavailable, "Azure Resource Manager", "incidents")
	}
}

// TestARMExpiredToken: the API no longer takes a token; the next one is asked for at once.
func TestARMExpiredToken(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	r.azure.AddSentinelIncident("", nil, nil, nil)
	r.poll(nil)
	r.azure.RevokeTokens()
	if events, _ := r.poll(nil); len(events) != 1 {
		t.Errorf("%d events", len(events))
	}
}

func TestARMConfig(t *testing.T) {
	t.Parallel()
	base := newRoom(t, azurefake.Options{}, nil)
	for _, tc := range []struct {
		change settings
		says   string
	}{
		{settings{"workspace": nil}, "/workspace"},
		{settings{"workspace": settings{"subscription": "mine", "resource_group": "soc", "name": "ws"}}, "/workspace/subscription"},
		{settings{"automation_secret": "short"}, "/automation_secret"},
		{settings{"incidents": "both"}, "/incidents"},
	} {
		config := maps.Clone(base.config)
		maps.Copy(config, tc.change)
		if tc.change["workspace"] == nil {
			if _, given := tc.change["workspace"]; given {
				delete(config, "workspace")
			}
		}
		_, err := sdktest.Try(t, sentinel.Connector(), config)
		refused(t, err, codes.InvalidArgument, tc.says)
	}
	r := newRoom(t, azurefake.Options{}, settings{"workspace": nil, "incidents": "graph"})
	_, err := r.call("watchlist.list", settings{})
	refused(t, err, codes.InvalidArgument, "/workspace", "watchlists")
}

func TestARMChecks(t *testing.T) {
	t.Parallel()
	probe := func(r *room, name string) sdk.Probe {
		probes, err := r.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range probes {
			if p.Name == name {
				return p
			}
		}
		t.Fatalf("no probe %q in %v", name, probes)
		return sdk.Probe{}
	}
	r := newRoom(t, azurefake.Options{ARM: azurefake.ARM{Roles: []string{azurefake.RoleSentinelReader}}}, nil)
	if p := probe(r, "workspace"); p.Status != sdk.ProbeOK || !strings.Contains(p.Summary, azurefake.ARMVersion) || !strings.Contains(p.Summary, "of its quota is left: subscription-reads=249") {
		t.Errorf("%v", p)
	}
	if p := probe(r, "roles on the workspace"); p.Status != sdk.ProbeWarning || !strings.Contains(p.Remedy, "Responder") {
		t.Errorf("%v", p)
	}
	if p := probe(r, "Defender portal"); p.Status != sdk.ProbeSkipped {
		t.Errorf("%v", p)
	}
	r.azure.AddSentinelIncident("", map[string]any{"createdTimeUtc": "2026-01-01T00:00:00Z"}, nil, nil)
	if p := probe(r, "Defender portal"); p.Status != sdk.ProbeWarning || !strings.Contains(p.Summary, "2027-03-31") {
		t.Errorf("%v", p)
	}
	r.azure.AddSentinelIncident("", map[string]any{"providerName": "Microsoft XDR"}, nil, nil)
	if p := probe(r, "Defender portal"); p.Status != sdk.ProbeWarning || p.Remedy != "set incidents: graph" {
		t.Errorf("%v", p)
	}
	// Who takes incidents from the workspace only needs nothing of Microsoft Graph.
	only := newRoom(t, azurefake.Options{Apps: []azurefake.App{{ClientID: azurefake.DefaultClientID, Secret: "the app's own secret", Roles: []string{"none"}}}}, nil)
	probes, err := only.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range probes {
		if p.Status == sdk.ProbeFailed {
			t.Errorf("%+v", p)
		}
	}
	all := newRoom(t, azurefake.Options{}, nil)
	if p := probe(all, "roles on the workspace"); p.Status != sdk.ProbeOK {
		t.Errorf("%v", p)
	}
}
