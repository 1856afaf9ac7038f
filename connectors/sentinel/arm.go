package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// armVersion is the stable version of Microsoft.SecurityInsights that all of this speaks.
const armVersion = "2025-09-01"

// ARM is the part of the configuration about the Sentinel workspace in Azure Resource Manager: incidents of workspaces
// that are not in the Defender portal, tasks, playbooks and watchlists.
type ARM struct {
	Workspace *Workspace `json:"workspace,omitempty" doc:"The Microsoft Sentinel workspace. Needed for incidents: arm, tasks, playbooks and watchlists only"`
	ARMURL    string     `json:"arm_url,omitempty" doc:"Base URL of Azure Resource Manager; default that of the credential's cloud" cw:"advanced"`
	ARMScope  string     `json:"arm_scope,omitempty" doc:"Token scope; default arm_url/.default" cw:"advanced"`
	Incidents string     `json:"incidents" enum:"graph,arm" default:"graph" doc:"Where the trigger incidents takes them from: graph (Defender portal), or arm for a workspace that is not onboarded to it"`
	// AutomationSecret is what a playbook sends along; see hookIncident.
	AutomationSecret sdk.Secret `json:"automation_secret,omitzero" doc:"Shared secret of the playbook that posts incidents to the trigger's webhook, in the header X-Casewire-Secret; at least 16 characters. Without it the webhook takes nothing"`
}

// Workspace names a Log Analytics workspace as Azure Resource Manager does: by name, and not by its GUID.
type Workspace struct {
	Subscription  string `json:"subscription" cw:"required" doc:"Subscription id" pattern:"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$" example:"0f4f5f2e-35b5-4b5c-9a4c-6b3b9a1f7d20"`
	ResourceGroup string `json:"resource_group" cw:"required,maxlen=90" doc:"Resource group" example:"soc"`
	Name          string `json:"name" cw:"required,maxlen=63" doc:"Name of the workspace; its GUID is another thing" pattern:"^[A-Za-z0-9][A-Za-z0-9-]*$" example:"soc-ws"`
}

// armClient is the way to one workspace.
type armClient struct {
	api       *rest.Client
	workspace string // ARM id
	host      string
}

// addARM declares what needs the workspace.
func addARM(c *sdk.Connector) {
	sdk.Action(c, "task.add", "Add a task to an incident of the workspace, once per key.", (*Client).addTask, sdk.Keyed,
		sdk.Example("a step for the analyst", map[string]any{"incident": "73e01a99-5cd7-4139-a149-9f2736ff2ab5", "title": "Call the user"}))
	sdk.Action(c, "playbook.run", "Run a playbook on an incident of the workspace.", (*Client).runPlaybook, sdk.Unsafe,
		sdk.Example("isolate the hosts", map[string]any{
			"incident":  "73e01a99-5cd7-4139-a149-9f2736ff2ab5",
			"logic_app": "/subscriptions/0f4f5f2e-35b5-4b5c-9a4c-6b3b9a1f7d20/resourceGroups/soc/providers/Microsoft.Logic/workflows/isolate",
		}))
	addWatchlists(c)
}

// openARM prepares the way to the workspace, if one is configured. Nothing is sent.
func (c *Client) openARM(session *azure.Session) error {
	if s := c.cfg.AutomationSecret; !s.IsZero() && len(s.Reveal()) < 16 {
		return sdk.BadConfig("automation_secret", "is shorter than 16 characters; make one by openssl rand -hex 32")
	}
	if c.cfg.Workspace == nil {
		if c.cfg.Incidents == "arm" {
			return sdk.BadConfig("workspace", "is required with incidents: arm")
		}
		return nil
	}
	if c.cfg.Incidents == "arm" && c.tenant == "" {
		return sdk.BadConfig("credential/tenant_id", "is required with incidents: arm: incidents of a workspace do not name their tenant")
	}
	base := c.cfg.ARMURL
	if base == "" {
		base = c.cfg.Cloud().ResourceManager
	}
	w := c.cfg.Workspace
	api, err := session.Client(azure.API{
		Name: "Azure Resource Manager", URL: base, Field: "arm_url", Scope: c.cfg.ARMScope,
		Options: rest.Options{Explain: explainARM, MaxBody: 32 << 20}, // a page of 1,000 incidents
	})
	if err != nil {
		return err
	}
	c.arm = &armClient{api: api, host: hostOf(base), workspace: "/subscriptions/" + url.PathEscape(w.Subscription) + "/resourceGroups/" +
		url.PathEscape(w.ResourceGroup) + "/providers/Microsoft.OperationalInsights/workspaces/" + url.PathEscape(w.Name)}
	return nil
}

// workspaceFor returns the way to the workspace, or says that what is asked for needs one.
func (c *Client) workspaceFor(what string) (*armClient, error) {
	if c.arm == nil {
		return nil, sdk.BadConfig("workspace", "is needed for %s: give subscription, resource_group and name of the Sentinel workspace", what)
	}
	return c.arm, nil
}

var (
	guidRule = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)
	})
	// The id that Azure Resource Manager gives an incident; the words' case differs between its own answers.
	armIncidentRule = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.OperationalInsights/workspaces/[^/]+)/providers/Microsoft\.SecurityInsights/incidents/([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})$`)
	})
)

// isARMIncident says whether an id is one of the workspace's incidents (a GUID, or the ARM id), and not a number of
// Microsoft Defender.
func isARMIncident(id string) bool {
	return guidRule().MatchString(id) || strings.HasPrefix(strings.ToLower(id), "/subscriptions/")
}

// incidentName reads the name out of an incident's id.
func (a *armClient) incidentName(id string) (string, error) {
	if guidRule().MatchString(id) {
		return strings.ToLower(id), nil
	}
	m := armIncidentRule().FindStringSubmatch(id)
	switch {
	case m == nil:
		return "", sdk.Invalid("incident", "%.200q is neither the GUID nor the ARM id of a Sentinel incident", id)
	case !strings.EqualFold(m[1], a.workspace):
		return "", sdk.Invalid("incident", "is of the workspace %s, and this connection is for %s", m[1], a.workspace)
	}
	return strings.ToLower(m[2]), nil
}

// path makes the path of a part of Microsoft.SecurityInsights; parts are escaped.
func (a *armClient) path(parts ...string) string {
	var b strings.Builder
	b.WriteString(a.workspace + "/providers/Microsoft.SecurityInsights")
	for _, s := range parts {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

func versioned(q url.Values) url.Values {
	if q == nil {
		q = url.Values{}
	}
	q.Set("api-version", armVersion)
	return q
}

// get reads one resource; ok is false when there is none.
func (a *armClient) get(ctx context.Context, path string, out any) (ok bool, err error) {
	resp, err := a.api.Do(ctx, rest.Request{Path: path, Query: versioned(nil)})
	if err != nil {
		if e, is := asSDK(err); is && e.Code == codes.NotFound {
			return false, nil
		}
		return false, err
	}
	return true, resp.JSON(out)
}

// must reads one resource that has to be there.
func (a *armClient) must(ctx context.Context, path string, out any) error {
	return a.api.Get(ctx, path, versioned(nil), out)
}

func (a *armClient) put(ctx context.Context, path string, body, out any) (*rest.Response, error) {
	resp, err := a.api.Do(ctx, rest.Request{Method: http.MethodPut, Path: path, Query: versioned(nil), Body: body})
	if err != nil || out == nil {
		return resp, err
	}
	return resp, resp.JSON(out)
}

// ask posts a question, which changes nothing.
func (a *armClient) ask(ctx context.Context, path string, out any) error {
	resp, err := a.api.Read(ctx, rest.Request{Method: http.MethodPost, Path: path, Query: versioned(nil), Write: new(false)})
	if err != nil {
		return err
	}
	return resp.JSON(out)
}

// each calls f with the items of a list, following nextLink as it is: it names the port, and its token is opaque. F
// returns false to stop.
func (a *armClient) each(ctx context.Context, path string, q url.Values, f func(json.RawMessage) (bool, error)) error {
	first := rest.Request{Method: http.MethodGet, Path: path, Query: versioned(q)}
	for page, err := range a.api.Pages(ctx, first, armNext) {
		if err != nil {
			return err
		}
		var list struct {
			Value []json.RawMessage `json:"value"`
		}
		if err := page.JSON(&list); err != nil {
			return err
		}
		for _, raw := range list.Value {
			if more, err := f(raw); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

func armNext(resp *rest.Response) (rest.Request, bool, error) {
	var link struct {
		Next string `json:"nextLink"`
	}
	if err := resp.JSON(&link); err != nil {
		return rest.Request{}, false, err
	}
	return rest.Request{Method: http.MethodGet, Path: link.Next}, link.Next != "", nil
}

// armResource is what every resource looks like. Properties stay as they came, so that nothing of them is lost on the way
// back.
type armResource struct {
	ID         string                     `json:"id"`
	Name       string                     `json:"name"`
	Etag       string                     `json:"etag"`
	Properties map[string]json.RawMessage `json:"properties"`
}

// str reads a property that is text; empty for anything else.
func (r *armResource) str(name string) string {
	var s string
	_ = json.Unmarshal(r.Properties[name], &s) // absent, null or of another type: no text
	return s
}

func (r *armResource) set(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("property %s: %w", name, err)
	}
	r.Properties[name] = b
	return nil
}
