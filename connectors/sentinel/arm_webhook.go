package sentinel

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/sdk"
)

// automationHeader carries the shared secret of a playbook.
const automationHeader = "X-Casewire-Secret"

// automation is the body that a playbook with the trigger "Microsoft Sentinel incident" passes on, as far as it is read:
// which incident it is about, and nothing that it says of it.
type automation struct {
	Schema string `json:"objectSchemaType"`
	Object struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		Properties struct {
			ProviderName       string          `json:"providerName"`
			ProviderIncidentID json.RawMessage `json:"providerIncidentId"`
		} `json:"properties"`
	} `json:"object"`
}

// hookIncident turns a playbook's post into a hint. Playbooks do not sign what they post: a secret in a header says who
// it is, and whatever the body tells is looked up.
func (c *Client) hookIncident(_ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
	resp := &sdk.HookResponse{Status: http.StatusAccepted, Refused: map[string]int{}}
	refuse := func(status int, why, text string) (*sdk.HookResponse, error) {
		resp.Status = status
		resp.Refused[why]++
		if text != "" {
			resp.Body = []byte(text + "\n")
		}
		return resp, nil
	}
	if c.cfg.AutomationSecret.IsZero() {
		return refuse(http.StatusNotFound, "push_off", "")
	}
	got, want := sha256.Sum256([]byte(req.Header.Get(automationHeader))), sha256.Sum256([]byte(c.cfg.AutomationSecret.Reveal()))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return refuse(http.StatusUnauthorized, "secret", "")
	}
	var body automation
	if err := json.Unmarshal(req.Body, &body); err != nil {
		return refuse(http.StatusBadRequest, "not_an_incident", "not what a playbook passes on: send the trigger's body as it is")
	}
	o := &body.Object
	h := hintData{Kind: "incident"}
	switch {
	case c.cfg.Incidents == "arm":
		id := o.ID
		if id == "" {
			id = o.Name
		}
		name, err := c.arm.incidentName(id)
		if err != nil && strings.HasPrefix(id, "/") && armIncidentRule().MatchString(id) {
			return refuse(http.StatusForbidden, "other_workspace", "the incident is of another workspace")
		}
		if err != nil {
			return refuse(http.StatusBadRequest, "no_id", "object.id names no incident: send the trigger's body as it is")
		}
		h.ID = name
	case strings.Contains(strings.ToLower(o.Properties.ProviderName), "xdr") || strings.Contains(strings.ToLower(o.Properties.ProviderName), "365 defender"):
		h.ID = strings.Trim(string(o.Properties.ProviderIncidentID), `" `)
		if h.ID == "" || h.ID == "null" || len(h.ID) > 64 || strings.Trim(h.ID, "0123456789") != "" {
			return refuse(http.StatusBadRequest, "no_id", "object.properties.providerIncidentId names no incident of Defender")
		}
	default:
		// Defender does not know it, and this connection takes incidents from Defender.
		return refuse(http.StatusAccepted, "not_in_defender", "")
	}
	data, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	resp.Hints = []sdk.Hint{{ID: "incident/" + h.ID, Data: data}}
	return resp, nil
}

// resolveIncident looks one hint up.
func (c *Client) resolveIncident(ctx context.Context, h sdk.Hint) (sdk.Found, error) {
	var d hintData
	if err := json.Unmarshal(h.Data, &d); err != nil || d.ID == "" {
		return sdk.Found{}, sdk.Invalid("", "hint %s cannot be read: %v", h.ID, err)
	}
	if c.cfg.Incidents == "arm" {
		return c.armLookUp(ctx, d.ID)
	}
	return c.graphLookUp(ctx, d.ID)
}

// graphLookUp reads one incident of Defender anew and makes its event.
func (c *Client) graphLookUp(ctx context.Context, id string) (sdk.Found, error) {
	raw, _, err := c.fetchIncident(ctx, id, true)
	if err != nil {
		return sdk.Found{}, err
	}
	ev, err := normalize.Incident(raw, normalize.Options{Tenant: c.tenant, GraphHost: c.graphHost})
	if err == nil {
		return sdk.Found{Events: []sdk.Event{ev}}, nil
	}
	return sdk.Found{Rejected: []sdk.Rejected{{
		Source: "https://" + c.graphHost + "/" + c.tenant + "/security/incidents", Subject: id, Reason: err.Error(), Raw: raw,
	}}}, nil
}
