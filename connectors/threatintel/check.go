package threatintel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// check tries what a submission needs, and submits nothing.
func (c *Client) check(ctx context.Context) []sdk.Probe {
	return append(c.session.Check(ctx, c.need), c.checkTarget(ctx)...)
}

func (c *Client) checkTarget(ctx context.Context) []sdk.Probe {
	left, limit := c.quota.left(c.now())
	quotaProbe := sdk.Probe{Name: "quota", Status: sdk.ProbeOK, Summary: fmt.Sprintf("%d of %d requests of this minute are left, as far as this process knows", left, limit)}
	if c.target == targetDefender {
		return []sdk.Probe{c.checkDefender(ctx), quotaProbe, {
			Name: "api version", Status: sdk.ProbeOK, Summary: "Defender for Endpoint indicators API, import of up to 500; the Graph tiIndicators API (removed by April 2026) is not used",
		}}
	}
	return append([]sdk.Probe{c.checkUpload(ctx)}, append(c.checkWorkspace(ctx), quotaProbe, sdk.Probe{
		Name: "api version", Status: sdk.ProbeOK,
		Summary: "uploads use " + c.cfg.APIVersion + ", a preview that Microsoft may retire (api_version says another); retired and not used: Graph tiIndicators (by April 2026), upload-indicators 2022-07-01",
	})...)
}

// checkUpload uploads nothing: the service looks at token, role and workspace before it says that there is nothing.
func (c *Client) checkUpload(ctx context.Context) sdk.Probe {
	p := sdk.Probe{Name: "permission: upload", Status: sdk.ProbeOK, Summary: "the upload API takes this app's uploads to the workspace"}
	read := false
	_, err := c.upload.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: c.uploadPath(), Query: c.uploadVersion(), Write: &read,
		Body: map[string]any{"sourcesystem": c.cfg.SourceSystem, "stixobjects": []any{}},
	})
	e, _ := errors.AsType[*sdk.Error](err)
	switch {
	case err == nil:
	case e != nil && e.HTTPStatus == http.StatusBadRequest && !strings.Contains(strings.ToLower(e.Message), "version"):
	case e != nil && e.HTTPStatus == http.StatusBadRequest:
		p.Status, p.Summary, p.Remedy = sdk.ProbeFailed, err.Error(), "the api-version "+c.cfg.APIVersion+" is not served any more: set api_version to the current one"
	case e != nil && e.Code == codes.ResourceExhausted:
		p.Status, p.Summary = sdk.ProbeWarning, "the quota of this minute is used up: "+err.Error()
	default:
		p.Status, p.Summary = sdk.ProbeFailed, err.Error()
		p.Remedy = remedy(e, "give the app the role Microsoft Sentinel Contributor on the workspace (it can take minutes to apply)")
	}
	return p
}

func remedy(e *sdk.Error, denied string) string {
	switch {
	case e == nil:
		return ""
	case e.Code == codes.PermissionDenied:
		return denied
	case e.Code == codes.Unauthenticated:
		return "check the credential, and that scope names the API's audience"
	case e.Code == codes.NotFound:
		return "workspace_id is the GUID that the portal calls Workspace ID, not the name"
	}
	return ""
}

// checkWorkspace looks whether name and id are of one workspace, and whether indicators can be read.
func (c *Client) checkWorkspace(ctx context.Context) []sdk.Probe {
	if c.arm == nil {
		return []sdk.Probe{{Name: "permission: read", Status: sdk.ProbeSkipped, Summary: "workspace is not configured: indicators can be submitted and expired, but not listed or deleted"}}
	}
	same := sdk.Probe{Name: "workspace", Status: sdk.ProbeOK, Summary: "workspace_id is that of " + c.cfg.Workspace.Name}
	var ws struct {
		Properties struct {
			CustomerID string `json:"customerId"`
		} `json:"properties"`
	}
	err := c.arm.Get(ctx, c.workspacePath(), url.Values{"api-version": {"2022-10-01"}}, &ws)
	switch e, _ := errors.AsType[*sdk.Error](err); {
	case err != nil:
		same.Status, same.Summary, same.Remedy = sdk.ProbeWarning, err.Error(), remedy(e, "the role Reader on the workspace lets this be checked")
	case !strings.EqualFold(ws.Properties.CustomerID, c.cfg.WorkspaceID):
		same.Status = sdk.ProbeFailed
		same.Summary = fmt.Sprintf("workspace_id is %s, and the id of %s is %s", c.cfg.WorkspaceID, c.cfg.Workspace.Name, ws.Properties.CustomerID)
		same.Remedy = "what is submitted would not be what is listed: make both name one workspace"
	}
	metrics := sdk.Probe{Name: "permission: read", Status: sdk.ProbeOK, Summary: "indicators of the workspace can be read"}
	err = c.arm.Get(ctx, c.workspacePath()+"/providers/Microsoft.SecurityInsights/threatIntelligence/main/metrics", url.Values{"api-version": {armVersion}}, nil)
	if e, _ := errors.AsType[*sdk.Error](err); err != nil {
		metrics.Status, metrics.Summary, metrics.Remedy = sdk.ProbeFailed, err.Error(), remedy(e, "give the app the role Microsoft Sentinel Contributor on the workspace")
	}
	return []sdk.Probe{same, metrics}
}

func (c *Client) checkDefender(ctx context.Context) sdk.Probe {
	p := sdk.Probe{Name: "permission: indicators", Status: sdk.ProbeOK}
	inv, err := c.listed(ctx, true)
	if err != nil {
		e, _ := errors.AsType[*sdk.Error](err)
		p.Status, p.Summary, p.Remedy = sdk.ProbeFailed, err.Error(), remedy(e, "give the app the permission Ti.ReadWrite of the API WindowsDefenderATP, with admin consent")
		return p
	}
	n := inv.count(c.now())
	p.Summary = fmt.Sprintf("%d of %d active indicators are used", n, maxActive)
	if n > maxActive*9/10 {
		p.Status, p.Remedy = sdk.ProbeWarning, "delete or expire indicators before the tenant is full: what does not fit is refused"
	}
	return p
}
