package httpconn

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Check probes the connection: does the address answer, does it take the credential, can senders reach the webhook.
func (c *Client) Check(ctx context.Context) []sdk.Probe {
	return append(c.checkRequests(ctx), c.checkWebhook())
}

func (c *Client) checkRequests(ctx context.Context) []sdk.Probe {
	if len(c.targets) == 0 {
		return []sdk.Probe{{Name: "reachable", Status: sdk.ProbeSkipped, Summary: "no base_url: the connection sends no requests"}}
	}
	path := ""
	if p := strings.TrimLeft(c.cfg.CheckPath, "/"); p != "" {
		path = "/" + p
	}
	resp, err := c.targets[0].rest.Stream(ctx, rest.Request{Method: http.MethodGet, Path: path})
	status := 0
	if err == nil {
		status = resp.StatusCode
		_ = resp.Body.Close() // nothing of it is needed
	} else if e, ok := errors.AsType[*sdk.Error](err); ok {
		status = e.HTTPStatus
	}
	reachable := sdk.Probe{Name: "reachable", Status: sdk.ProbeOK, Summary: "it answers " + strconv.Itoa(status)}
	credential := sdk.Probe{Name: "credential", Status: sdk.ProbeOK, Summary: "it was not refused"}
	switch {
	case status == 0 || status >= 500:
		reachable.Status, reachable.Summary = sdk.ProbeFailed, err.Error()
		reachable.Remedy = "check base_url, DNS, ca_file and the way out of this network"
		credential.Status, credential.Summary = sdk.ProbeSkipped, ""
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		credential.Status, credential.Summary = sdk.ProbeFailed, err.Error()
		credential.Remedy = "check auth; if only this path is closed, name another in check_path"
	case err != nil:
		reachable.Status = sdk.ProbeWarning
		reachable.Remedy = "if that is expected, name a path in check_path that can be read"
	}
	return []sdk.Probe{reachable, credential}
}

func (c *Client) checkWebhook() sdk.Probe {
	p := sdk.Probe{Name: "webhook", Status: sdk.ProbeSkipped, Summary: "no webhook is configured"}
	if c.hook == nil {
		return p
	}
	if c.hookURL == "" {
		p.Status, p.Summary = sdk.ProbeWarning, "the host has no public address"
		p.Remedy = "set http.public_url if senders are outside; within, they post to /hooks/CONNECTION/webhook"
		return p
	}
	p.Status, p.Summary = sdk.ProbeOK, "senders post to "+c.hookURL
	return p
}
