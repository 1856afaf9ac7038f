package sentinel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// check probes the connection.
func (c *Client) check(ctx context.Context) []sdk.Probe {
	probes := c.session.Check(ctx, azure.Need{
		API: graphName, Scope: cmp.Or(c.cfg.GraphScope, azure.Scope(c.cfg.GraphURL)),
		Permissions: []azure.Permission{
			{AnyOf: []string{"SecurityAlert.Read.All", "SecurityAlert.ReadWrite.All"}, For: "read alerts", Optional: c.cfg.Incidents == "arm"},
			{AnyOf: []string{"SecurityAlert.ReadWrite.All"}, For: "write to alerts", Optional: true},
			{AnyOf: []string{"SecurityIncident.Read.All", "SecurityIncident.ReadWrite.All"}, For: "read incidents", Optional: true},
			{AnyOf: []string{"SecurityIncident.ReadWrite.All"}, For: "write to incidents", Optional: true},
			{AnyOf: []string{"ThreatHunting.Read.All"}, For: "run hunting queries", Optional: true},
		},
	})
	probes = append(probes, c.checkReads(ctx)...)
	probes = append(probes, c.checkPush(ctx)...)
	probes = append(probes, c.checkARM(ctx)...)
	return probes
}

// listing is what a check reads of a list.
type listing struct {
	Value []struct {
		Updated time.Time `json:"lastUpdateDateTime"`
	} `json:"value"`
}

// checkReads lists alerts and incidents, and says when the newest changed.
func (c *Client) checkReads(ctx context.Context) []sdk.Probe {
	var out []sdk.Probe
	for _, l := range []struct {
		what, path, role string
		optional         bool
	}{
		{"alerts", "/v1.0/security/alerts_v2", "SecurityAlert", c.cfg.Incidents == "arm"},
		{"incidents", "/v1.0/security/incidents", "SecurityIncident", true},
	} {
		p := sdk.Probe{Name: "read " + l.what, Status: sdk.ProbeOK, Summary: "Microsoft Graph lists " + l.what}
		var list listing
		err := c.api.Get(ctx, l.path, url.Values{"$top": {"1"}}, &list)
		if err == nil && list.Value == nil {
			err = sdk.Unavailable("the answer is no list of Microsoft Graph, whatever answers at graph_url")
		}
		if err != nil {
			p.Status, p.Summary = sdk.ProbeFailed, retired(l.what, err).Error()
			p.Remedy = remedyOf(err, fmt.Sprintf("grant the app %[1]s.Read.All (application) with admin consent; %[1]s.ReadWrite.All to write back", l.role))
			if e, ok := errors.AsType[*sdk.Error](err); l.optional && ok && e.Code == codes.PermissionDenied {
				p.Status = sdk.ProbeWarning // who takes alerts only needs no more
			}
			out = append(out, p)
			continue
		}
		out = append(out, p)
		if l.optional {
			continue
		}
		out = append(out, c.checkQuiet(list, time.Now()))
	}
	return out
}

// checkQuiet warns of a source that brings nothing, which is how a lost permission scope, a filter that fits nothing or a
// retired API can look like.
func (c *Client) checkQuiet(list listing, now time.Time) sdk.Probe {
	p := sdk.Probe{Name: "newest alert", Status: sdk.ProbeOK}
	switch {
	case len(list.Value) == 0:
		p.Summary = "there is no alert at all"
	default:
		age := now.Sub(list.Value[0].Updated).Round(time.Second)
		p.Summary = fmt.Sprintf("changed %v ago (newest_alert_age_seconds=%.0f)", age, age.Seconds())
		if age <= c.quietAfter {
			return p
		}
	}
	if c.quietAfter > 0 {
		p.Status = sdk.ProbeWarning
		p.Remedy = "look into the Defender portal whether alerts are there that do not come; raise quiet_after if this tenant is that quiet"
	}
	return p
}

// remedyOf says what to do about a list that cannot be read.
func remedyOf(err error, grant string) string {
	e, ok := errors.AsType[*sdk.Error](err)
	switch {
	case !ok:
		return grant
	case e.Code == codes.PermissionDenied:
		return grant
	case strings.HasPrefix(e.Message, "no token"), e.Reason == "SIGN_IN_REQUIRED":
		return "see the probe token: without a token nothing can be read"
	case e.Code == codes.Unauthenticated:
		return "check the credential: tenant_id, client_id and the secret or certificate"
	case e.Code == codes.FailedPrecondition:
		return "check graph_url and the credential's cloud; if they are right, look for a newer version of Casewire"
	default:
		return "try again; if it stays, quote the request id to Microsoft's support"
	}
}

// checkPush says how the subscription fares. It asks Graph, because the process may have started just now.
func (c *Client) checkPush(ctx context.Context) []sdk.Probe {
	p := sdk.Probe{Name: "push", Status: sdk.ProbeSkipped, Summary: "push: " + c.cfg.Push}
	if c.cfg.Push != pushManage {
		return []sdk.Probe{p}
	}
	hook := c.env.Hooks["alerts"].URL
	c.mu.Lock()
	lastErr := c.subErr
	c.mu.Unlock()
	found, err := c.findSubscription(ctx, hook)
	switch now := time.Now(); {
	case err != nil:
		p.Status, p.Summary = sdk.ProbeFailed, err.Error()
		p.Remedy = remedyOf(err, "grant the app SecurityAlert.Read.All (application) with admin consent")
	case found == nil && lastErr != nil:
		p.Status, p.Summary, p.Remedy = sdk.ProbeFailed, "there is no subscription: "+lastErr.Error(), "polling goes on; see the reason"
	case found == nil:
		p.Status, p.Summary, p.Remedy = sdk.ProbeWarning, "there is no subscription yet", "the next poll subscribes; if it cannot, its error says why, and polling goes on"
	default:
		left := found.Expiration.Sub(now).Round(time.Second)
		p.Status, p.Expires = sdk.ProbeOK, found.Expiration
		p.Summary = fmt.Sprintf("subscription %s expires in %v", found.ID, left)
		if left < c.life/4 {
			p.Status = sdk.ProbeWarning
			p.Remedy = "it should have been renewed at half of its life: see whether the host polls"
		}
	}
	return []sdk.Probe{p}
}

// findSubscription looks for the subscription that this connection keeps.
func (c *Client) findSubscription(ctx context.Context, hook string) (*subscription, error) {
	wanted := withMark(hook, c.mark(hook))
	for page, err := range c.api.Pages(ctx, rest.Request{Method: http.MethodGet, Path: "/v1.0/subscriptions"}, nextLink) {
		if err != nil {
			return nil, fmt.Errorf("list subscriptions: %w", err)
		}
		var list struct {
			Value []subscription `json:"value"`
		}
		if err := page.JSON(&list); err != nil {
			return nil, err
		}
		for i := range list.Value {
			if s := &list.Value[i]; s.NotificationURL == wanted && sameResource(s.Resource, c.cfg.PushResource) {
				return s, nil
			}
		}
	}
	return nil, nil //nolint:nilnil // none is no error
}
