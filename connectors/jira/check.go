package jira

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// Check probes the connection: is Jira there, is the credential good, do project, issue type, priorities and the fields
// that the connector writes exist. Later probes are skipped when an earlier one makes them pointless.
func (c *Client) Check(ctx context.Context) []sdk.Probe {
	info, err := c.serverInfo(ctx)
	probes := []sdk.Probe{c.probe("reachable", err, "Jira "+strings.TrimSpace(info.DeploymentType+" "+info.Version), "check base_url, DNS and the way out of this network")}
	var e *sdk.Error
	if err != nil && !(errors.As(err, &e) && e.HTTPStatus != 0 && e.HTTPStatus < 500) {
		return append(probes, skipped("credential", "project", "permissions", "issue_type", "priorities")...)
	}
	if want := c.cfg.Deployment; err == nil && info.DeploymentType != "" && (want == "cloud" || want == "datacenter") &&
		(want == "cloud") != strings.EqualFold(info.DeploymentType, "Cloud") {
		probes[0].Status = sdk.ProbeFailed
		probes[0].Remedy = "deployment is set to " + want + ", but this Jira says that it is " + info.DeploymentType + "; set deployment to auto"
	}
	var me struct {
		DisplayName string `json:"displayName"`
		Name        string `json:"name"`
	}
	err = c.do(ctx, &request{verb: "read own account", method: http.MethodGet, path: "rest/api/2/myself"}, &me)
	probes = append(probes, c.probe("credential", err, "signed in as "+me.DisplayName+" by "+c.kind, "renew the credential"))
	if err != nil {
		return append(probes, skipped("project", "permissions", "issue_type", "priorities")...)
	}
	var project struct {
		Name string `json:"name"`
	}
	err = c.do(ctx, &request{verb: "read project", noun: c.cfg.Project, method: http.MethodGet, path: "rest/api/2/project/" + c.cfg.Project}, &project)
	probes = append(probes, c.probe("project", err, c.cfg.Project+" "+project.Name,
		"check project, and give the account Browse Projects and Create Issues in it"))
	if err != nil {
		return append(probes, skipped("permissions", "issue_type", "priorities")...)
	}
	return append(append(probes, c.checkPermissions(ctx)), c.checkCreate(ctx)...)
}

// permissions are what the actions need in the project, and which of them. The first ones are needed by every case.
var permissions = []struct{ key, name, use string }{
	{"BROWSE_PROJECTS", "Browse Projects", ""},
	{"CREATE_ISSUES", "Create Issues", ""},
	{"EDIT_ISSUES", "Edit Issues", ""},
	{"ADD_COMMENTS", "Add Comments", ""},
	{"TRANSITION_ISSUES", "Transition Issues", "issue.transition and on_existing: reopen"},
	{"CREATE_ATTACHMENTS", "Create Attachments", "issue.attach"},
	{"LINK_ISSUES", "Link Issues", "issue.link and issue.remote_link"},
	{"ASSIGN_ISSUES", "Assign Issues", "issue.update with assignee"},
}

// checkPermissions asks which permissions the account has in the project: without one that every case needs it fails,
// without one that only some action needs it warns.
func (c *Client) checkPermissions(ctx context.Context) sdk.Probe {
	ask := make([]string, 0, len(permissions)+1)
	for _, p := range permissions {
		ask = append(ask, p.key)
	}
	wanted := slices.Clone(permissions)
	if !c.cfg.NotifyUsers {
		ask = append(ask, "ADMINISTER_PROJECTS")
		wanted = append(wanted, struct{ key, name, use string }{"ADMINISTER_PROJECTS", "Administer Projects", "notify_users: false"})
	}
	var answer struct {
		Permissions map[string]struct {
			Have bool `json:"havePermission"`
		} `json:"permissions"`
	}
	q := url.Values{"projectKey": {c.cfg.Project}, "permissions": {strings.Join(ask, ",")}}
	if digits(c.cfg.Project) {
		q = url.Values{"projectId": {c.cfg.Project}, "permissions": {strings.Join(ask, ",")}}
	}
	err := c.do(ctx, &request{verb: "read own permissions in", noun: c.cfg.Project, method: http.MethodGet, path: "rest/api/2/mypermissions?" + q.Encode()}, &answer)
	out := c.probe("permissions", err, "all that the actions need", "")
	if err != nil {
		return out
	}
	var lacking []string
	for _, p := range wanted {
		if answer.Permissions[p.key].Have {
			continue
		}
		if p.use == "" {
			out.Status = sdk.ProbeFailed
			lacking = append(lacking, p.name)
			continue
		}
		if out.Status != sdk.ProbeFailed {
			out.Status = sdk.ProbeWarning
		}
		lacking = append(lacking, p.name+" (for "+p.use+")")
	}
	if len(lacking) > 0 {
		out.Summary = "the account lacks " + strings.Join(lacking, ", ")
		out.Remedy = "grant them in the permission scheme of project " + c.cfg.Project + ", best by a project role"
	}
	return out
}

// checkCreate holds issue type, priorities and fields against what the project takes.
func (c *Client) checkCreate(ctx context.Context) []sdk.Probe {
	types, err := c.meta(ctx, c.cfg.Project, metaPath(c.cfg.Project))
	var e *sdk.Error
	if errors.As(err, &e) && e.Code == codes.NotFound {
		return skipped("issue_type", "priorities") // a Data Center before 8.4
	}
	if err != nil {
		return append([]sdk.Probe{c.probe("issue_type", err, "", "give the account Create Issues in the project")}, skipped("priorities")...)
	}
	id, names := typeNamed(types, c.cfg.IssueType)
	if id == "" {
		return append([]sdk.Probe{{
			Name: "issue_type", Status: sdk.ProbeFailed, Summary: fmt.Sprintf("project %s has no issue type %q", c.cfg.Project, c.cfg.IssueType),
			Remedy: "set issue_type to one of: " + strings.Join(names, ", "),
		}}, skipped("priorities")...)
	}
	fields, err := c.meta(ctx, c.cfg.Project, metaPath(c.cfg.Project)+"/"+url.PathEscape(id))
	if err != nil {
		return append([]sdk.Probe{c.probe("issue_type", err, "", "")}, skipped("priorities")...)
	}
	return []sdk.Probe{c.checkFields(fields), c.checkPriorities(fields)}
}

// checkFields looks for required fields that nobody fills, and for screens without the fields that the connector needs.
func (c *Client) checkFields(fields []metaEntry) sdk.Probe {
	p := sdk.Probe{Name: "issue_type", Status: sdk.ProbeOK, Summary: c.cfg.IssueType + " can be created"}
	var missing, required []string
	for _, name := range []string{"summary", "description", "labels"} {
		if _, ok := field(fields, name); !ok {
			missing = append(missing, name)
		}
	}
	for _, f := range fields {
		if name := f.name(); f.Required && !f.HasDefault && !reserved[name] && name != "reporter" {
			required = append(required, name+" ("+f.Name+")")
		}
	}
	switch {
	case len(missing) > 0:
		p.Status, p.Summary = sdk.ProbeFailed, "the create screen lacks "+strings.Join(missing, ", ")
		p.Remedy = "add these fields to the project's screens: the label is how a case's issue is found again"
	case len(required) > 0:
		p.Status, p.Summary = sdk.ProbeWarning, "the create screen demands "+strings.Join(required, ", ")
		p.Remedy = "give them in the fields input of issue.ensure, or make them optional"
	}
	return p
}

// checkPriorities holds the table of priorities against what the project allows.
func (c *Client) checkPriorities(fields []metaEntry) sdk.Probe {
	p := sdk.Probe{Name: "priorities", Status: sdk.ProbeOK, Summary: "every severity has a priority"}
	f, ok := field(fields, "priority")
	if !ok {
		if slices.Max(c.priorities[:]) == "" && c.otherPrio == "" {
			p.Summary = "none is sent"
			return p
		}
		p.Status, p.Summary = sdk.ProbeFailed, "the create screen lacks priority"
		p.Remedy = "add the field to the project's screens, or set every severity in priorities to an empty value"
		return p
	}
	var allowed []string
	known := map[string]bool{"": true}
	for _, raw := range f.AllowedValues {
		var v nameOrID
		if json.Unmarshal(raw, &v) == nil {
			allowed = append(allowed, v.Name)
			known[strings.ToLower(v.Name)], known[v.ID] = true, true
		}
	}
	if len(allowed) == 0 {
		p.Status, p.Summary = sdk.ProbeSkipped, "Jira does not say which priorities are allowed"
		return p
	}
	var bad []string
	for _, name := range append(slices.Clone(c.priorities[:]), c.otherPrio) {
		if !known[strings.ToLower(name)] && !slices.Contains(bad, name) {
			bad = append(bad, name)
		}
	}
	if len(bad) > 0 {
		p.Status, p.Summary = sdk.ProbeFailed, "the project has no priority "+strings.Join(bad, ", ")
		p.Remedy = "set priorities in the connection to: " + strings.Join(allowed, ", ")
	}
	return p
}

func field(fields []metaEntry, name string) (metaEntry, bool) {
	for _, f := range fields {
		if f.name() == name {
			return f, true
		}
	}
	return metaEntry{}, false
}

// probe is ok with the summary, or failed with the error.
func (c *Client) probe(name string, err error, summary, remedy string) sdk.Probe {
	if err == nil {
		return sdk.Probe{Name: name, Status: sdk.ProbeOK, Summary: strings.TrimSpace(summary)}
	}
	return sdk.Probe{Name: name, Status: sdk.ProbeFailed, Summary: err.Error(), Remedy: remedy}
}

func skipped(names ...string) []sdk.Probe {
	out := make([]sdk.Probe, len(names))
	for i, n := range names {
		out[i] = sdk.Probe{Name: n, Status: sdk.ProbeSkipped, Summary: "not probed"}
	}
	return out
}
