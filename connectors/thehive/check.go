package thehive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

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
			skipped("clock", "credential", "organisation", "permissions", "licence", "custom_fields", "case_template")...)
	}
	probes := []sdk.Probe{
		{Name: "reachable", Status: sdk.ProbeOK, Summary: strings.TrimSpace("TheHive " + s.version)},
		checkClock(s.skew, s.timed),
	}
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
		return append(append(probes, failedProbe("credential", err, remedy)), skipped("organisation", "permissions", "licence", "custom_fields", "case_template")...)
	}
	probes = append(probes, sdk.Probe{Name: "credential", Status: sdk.ProbeOK, Summary: "signed in as " + me.Login})
	org := sdk.Probe{Name: "organisation", Status: sdk.ProbeOK, Summary: me.Organisation}
	if c.cfg.Organisation != "" && me.Organisation != "" && !strings.EqualFold(me.Organisation, c.cfg.Organisation) {
		org.Status, org.Summary = sdk.ProbeFailed, "TheHive works in "+me.Organisation+", not in "+c.cfg.Organisation
		org.Remedy = "add the user to the organisation, or correct organisation"
	}
	probes = append(probes, org, permissions(me.Permissions))
	return append(probes, c.checkLicence(ctx), c.checkFields(ctx), c.checkTemplate(ctx))
}

// needed are the permissions for what the connector does, by the names of TheHive 5's profiles.
var needed = []string{
	"manageAlert/create", "manageAlert/update", "manageAlert/import", "manageCase/create", "manageCase/update", "manageObservable",
	"manageProcedure", "manageComment", "manageTask",
}

// permissions checks them loosely: a profile may hold manageAlert as a whole or its parts.
func permissions(have []string) sdk.Probe {
	p := sdk.Probe{Name: "permissions", Status: sdk.ProbeOK, Summary: "alerts, cases and what belongs to them can be written"}
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
	l := c.licence(ctx)
	p := sdk.Probe{Name: "licence", Status: sdk.ProbeSkipped, Summary: "TheHive does not show it to this user"}
	if l.Valid == nil {
		return p
	}
	p.Status, p.Summary = sdk.ProbeOK, strings.TrimSpace("valid "+l.Plan)
	const remedy = "register a licence with the maker; the community one is free"
	left := time.Until(time.UnixMilli(l.ExpiresAt))
	switch {
	case !*l.Valid:
		p.Status, p.Summary, p.Remedy = sdk.ProbeFailed, strings.TrimSuffix("the licence is not valid: TheHive is read-only: "+cut(l.Error, 200), ": "), remedy
	case l.ExpiresAt > 0 && left < 30*24*time.Hour:
		p.Status, p.Remedy = sdk.ProbeWarning, remedy+"; without one TheHive becomes read-only"
		p.Summary += fmt.Sprintf(", expires in %d days", max(0, int(left.Hours()/24)))
	}
	return p
}

// checkClock compares TheHive's clock with ours: the times of cases are TheHive's.
func checkClock(skew time.Duration, known bool) sdk.Probe {
	p := sdk.Probe{Name: "clock", Status: sdk.ProbeOK, Summary: "TheHive's clock agrees with this machine's"}
	switch {
	case !known:
		p.Status, p.Summary = sdk.ProbeSkipped, "TheHive does not tell the time"
	case skew.Abs() > clockSkew:
		p.Status, p.Summary = sdk.ProbeWarning, fmt.Sprintf("TheHive's clock is %s from this machine's", skew.Abs().Round(time.Second))
		p.Remedy = "let both take their time from NTP"
	}
	return p
}

// checkFields lists the custom fields that must be filled before a case is closed.
func (c *Client) checkFields(ctx context.Context) sdk.Probe {
	p := sdk.Probe{Name: "custom_fields", Status: sdk.ProbeOK}
	defs, err := c.definitions(ctx)
	if err != nil {
		p.Status, p.Summary = sdk.ProbeWarning, "they cannot be listed: "+err.Error()
		p.Remedy = "custom_fields of a flow cannot be checked before they are written"
		return p
	}
	var mandatory []string
	for i := range defs {
		if defs[i].Mandatory {
			mandatory = append(mandatory, defs[i].Name)
		}
	}
	p.Summary = fmt.Sprintf("%d custom fields", len(defs))
	if len(mandatory) > 0 {
		p.Summary += "; case.close has to fill " + strings.Join(mandatory, ", ")
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
