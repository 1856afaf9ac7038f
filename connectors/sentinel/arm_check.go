package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// armPortalEnds is when Microsoft Sentinel leaves the Azure portal for good ("Transition your Microsoft Sentinel
// environment to the Defender portal").
var armPortalEnds = time.Date(2027, 3, 31, 0, 0, 0, 0, time.UTC)

// checkARM probes the workspace, if one is configured.
func (c *Client) checkARM(ctx context.Context) []sdk.Probe {
	a := c.arm
	if a == nil {
		return nil
	}
	reach := sdk.Probe{Name: "workspace", Status: sdk.ProbeOK}
	var list struct {
		Value []struct {
			Properties struct {
				Provider string `json:"providerName"`
			} `json:"properties"`
		} `json:"value"`
	}
	resp, err := a.api.Do(ctx, rest.Request{
		Path: a.path("incidents"), Query: versioned(url.Values{"$top": {"1"}, "$orderby": {"properties/createdTimeUtc desc"}}),
	})
	if err == nil {
		err = resp.JSON(&list)
	}
	if err != nil {
		reach.Status, reach.Summary = sdk.ProbeFailed, err.Error()
		reach.Remedy = "check workspace, and give the app the role Microsoft Sentinel Reader on it, or Responder to write"
		return []sdk.Probe{reach}
	}
	reach.Summary = fmt.Sprintf("Azure Resource Manager lists incidents of %s (Microsoft.SecurityInsights %s)", c.cfg.Workspace.Name, armVersion)
	if left := limits(resp.Header); left != "" {
		reach.Summary += "; of its quota " + left
	}
	provider := ""
	if len(list.Value) > 0 {
		provider = list.Value[0].Properties.Provider
	}
	return []sdk.Probe{reach, c.checkRoles(ctx), c.checkOnboarding(provider)}
}

// checkOnboarding says where the workspace's incidents are made, by who made the newest.
func (c *Client) checkOnboarding(provider string) sdk.Probe {
	p := sdk.Probe{Name: "Defender portal", Status: sdk.ProbeOK}
	xdr := strings.Contains(strings.ToLower(provider), "xdr") || strings.Contains(strings.ToLower(provider), "365 defender")
	ends := armPortalEnds.Format(time.DateOnly)
	switch {
	case provider == "":
		p.Status, p.Summary = sdk.ProbeSkipped, "the workspace has no incident yet that would tell"
	case xdr && c.cfg.Incidents == "arm":
		p.Status, p.Summary = sdk.ProbeWarning, "the workspace is onboarded to the Defender portal ("+provider+" makes its incidents), and incidents are taken from Azure Resource Manager, some minutes late"
		p.Remedy = "set incidents: graph"
	case xdr:
		p.Summary = "the workspace is onboarded: " + provider + " makes its incidents"
	case c.cfg.Incidents == "graph":
		p.Status, p.Summary = sdk.ProbeWarning, "the newest incident is of "+provider+": the workspace is not onboarded to the Defender portal, and Microsoft Graph does not see its incidents"
		p.Remedy = "set incidents: arm, until it is onboarded; Microsoft Sentinel leaves the Azure portal on " + ends
	default:
		p.Status, p.Summary = sdk.ProbeWarning, "the workspace is not onboarded to the Defender portal; Microsoft Sentinel leaves the Azure portal on "+ends
		p.Remedy = "onboard it before then, and set incidents: graph"
	}
	return p
}

// armNeeds are the rights that actions need, with the role that gives them.
var armNeeds = []struct{ action, what, role string }{
	{"Microsoft.SecurityInsights/incidents/read", "read incidents", "Microsoft Sentinel Reader"},
	{"Microsoft.SecurityInsights/incidents/write", "change incidents, add comments and tasks", "Microsoft Sentinel Responder"},
	{"Microsoft.SecurityInsights/watchlists/write", "change watchlists", "Microsoft Sentinel Contributor"},
}

// checkRoles asks what the app may do on the workspace.
func (c *Client) checkRoles(ctx context.Context) sdk.Probe {
	p := sdk.Probe{Name: "roles on the workspace", Status: sdk.ProbeOK}
	var out struct {
		Value []struct {
			Actions    []string `json:"actions"`
			NotActions []string `json:"notActions"`
		} `json:"value"`
	}
	resp, err := c.arm.api.Do(ctx, rest.Request{
		Path: c.arm.workspace + "/providers/Microsoft.Authorization/permissions", Query: url.Values{"api-version": {"2022-04-01"}},
	})
	if err == nil {
		err = json.Unmarshal(resp.Body, &out)
	}
	if err != nil {
		p.Status, p.Summary = sdk.ProbeSkipped, "what the app may do cannot be read: "+err.Error()
		return p
	}
	var can, cannot, roles []string
	for _, n := range armNeeds {
		allowed := false
		for _, v := range out.Value {
			allowed = allowed || matchesAny(v.Actions, n.action) && !matchesAny(v.NotActions, n.action)
		}
		if allowed {
			can = append(can, n.what)
		} else {
			cannot, roles = append(cannot, n.what), append(roles, n.role)
		}
	}
	if len(can) > 0 {
		p.Summary = "the app may " + strings.Join(can, ", ")
	}
	if len(cannot) > 0 {
		p.Status = sdk.ProbeWarning
		p.Summary = strings.TrimPrefix(p.Summary+"; it may not "+strings.Join(cannot, ", "), "; ")
		p.Remedy = "where flows need it, give the app the role " + roles[0] + " on the workspace"
		if len(roles) > 1 {
			p.Remedy += "; for all of it, " + roles[len(roles)-1]
		}
	}
	return p
}

// matchesAny says whether an action is among patterns, in which * stands for anything.
func matchesAny(patterns []string, action string) bool {
	action = strings.ReplaceAll(strings.ToLower(action), "/", ".") // so that * reaches over parts
	for _, p := range patterns {
		if ok, err := path.Match(strings.ReplaceAll(strings.ToLower(p), "/", "."), action); ok && err == nil {
			return true
		}
	}
	return false
}
