package thehive

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Check probes the connection: is a TheHive 5 there, is the API key good, is the organisation the right one, are the
// permissions there, may anything be written at all.
func (c *Client) Check(ctx context.Context) []sdk.Probe {
	s, err := c.ask(ctx)
	if err != nil {
		return append([]sdk.Probe{failedProbe("reachable", err, "check base_url, DNS and the way out of this network")},
			skipped("credential", "organisation", "permissions", "licence", "case_template")...)
	}
	probes := []sdk.Probe{{Name: "reachable", Status: sdk.ProbeOK, Summary: strings.TrimSpace("TheHive " + s.version)}}
	var me struct {
		Login        string   `json:"login"`
		Organisation string   `json:"organisation"`
		Permissions  []string `json:"permissions"`
	}
	err = c.do(ctx, "read own user", rest.Request{Method: http.MethodGet, Path: "/api/v1/user/current"}, &me)
	if err != nil {
		remedy := "renew the API key"
		if e := failed(err); e != nil && e.Code == codes.PermissionDenied && c.cfg.Organisation != "" {
			remedy = "check that the user belongs to organisation " + c.cfg.Organisation
		}
		return append(append(probes, failedProbe("credential", err, remedy)), skipped("organisation", "permissions", "licence", "case_template")...)
	}
	probes = append(probes, sdk.Probe{Name: "credential", Status: sdk.ProbeOK, Summary: "signed in as " + me.Login})
	org := sdk.Probe{Name: "organisation", Status: sdk.ProbeOK, Summary: me.Organisation}
	if c.cfg.Organisation != "" && me.Organisation != "" && !strings.EqualFold(me.Organisation, c.cfg.Organisation) {
		org.Status, org.Summary = sdk.ProbeFailed, "TheHive works in "+me.Organisation+", not in "+c.cfg.Organisation
		org.Remedy = "add the user to the organisation, or correct organisation"
	}
	probes = append(probes, org, permissions(me.Permissions))
	return append(probes, c.checkLicence(ctx), c.checkTemplate(ctx))
}

// needed are the permissions for what the connector does, by the names of TheHive 5's profiles.
var needed = []string{"manageAlert/create", "manageAlert/update", "manageCase/create", "manageCase/update", "manageObservable"}

// permissions checks them loosely: a profile may hold manageAlert as a whole or its parts.
func permissions(have []string) sdk.Probe {
	p := sdk.Probe{Name: "permissions", Status: sdk.ProbeOK, Summary: "alerts, cases and observables can be written"}
	if len(have) == 0 {
		p.Status, p.Summary = sdk.ProbeSkipped, "TheHive does not say which there are"
		return p
	}
	var missing []string
	for _, n := range needed {
		whole, _, _ := strings.Cut(n, "/")
		if !slices.ContainsFunc(have, func(h string) bool {
			return strings.EqualFold(h, n) || strings.EqualFold(h, whole)
		}) {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		p.Status, p.Summary = sdk.ProbeWarning, "the user seems to lack "+strings.Join(missing, ", ")
		p.Remedy = "give the user a profile with these permissions, such as analyst"
	}
	return p
}

// checkLicence looks at the licence: without a valid one TheHive is read-only.
func (c *Client) checkLicence(ctx context.Context) sdk.Probe {
	var status struct {
		License *struct {
			IsValid   *bool  `json:"isValid"`
			Plan      string `json:"plan"`
			ExpiresAt int64  `json:"expiresAt"`
		} `json:"license"`
	}
	err := c.do(ctx, "read status", rest.Request{Method: http.MethodGet, Path: "/api/v1/status"}, &status)
	p := sdk.Probe{Name: "licence", Status: sdk.ProbeSkipped, Summary: "TheHive does not show it to this user"}
	if err != nil || status.License == nil || status.License.IsValid == nil {
		return p
	}
	p.Status, p.Summary = sdk.ProbeOK, strings.TrimSpace("valid "+status.License.Plan)
	if !*status.License.IsValid {
		p.Status, p.Summary = sdk.ProbeFailed, "the licence is not valid: TheHive is read-only"
		p.Remedy = "register a licence; the community one is free"
	}
	return p
}

// checkTemplate looks for the configured case template.
func (c *Client) checkTemplate(ctx context.Context) sdk.Probe {
	p := sdk.Probe{Name: "case_template", Status: sdk.ProbeSkipped, Summary: "none is configured"}
	if c.cfg.CaseTemplate == "" {
		return p
	}
	var found []struct {
		Name string `json:"name"`
	}
	err := c.query(ctx, "look for case template", []any{
		map[string]any{"_name": "getCaseTemplate", "idOrName": c.cfg.CaseTemplate},
	}, &found)
	switch {
	case notFound(err), err == nil && len(found) == 0:
		return sdk.Probe{
			Name: p.Name, Status: sdk.ProbeFailed, Summary: "there is no case template " + c.cfg.CaseTemplate,
			Remedy: "make it in TheHive, or correct case_template",
		}
	case badRequest(err):
		p.Summary = "this TheHive cannot be asked for templates"
		return p
	case err != nil:
		return failedProbe(p.Name, err, "")
	}
	return sdk.Probe{Name: p.Name, Status: sdk.ProbeOK, Summary: c.cfg.CaseTemplate}
}

func failedProbe(name string, err error, remedy string) sdk.Probe {
	var e *sdk.Error
	if errors.As(err, &e) && len(e.Violations) > 0 && remedy == "" {
		remedy = e.Violations[0].Description
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
