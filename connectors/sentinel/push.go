package sentinel

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// notification is one item of a change notification, basic or lifecycle.
// https://learn.microsoft.com/graph/change-notifications-delivery-webhooks.
type notification struct {
	SubscriptionID string `json:"subscriptionId"`
	ClientState    string `json:"clientState"`
	ChangeType     string `json:"changeType"`
	Resource       string `json:"resource"`
	LifecycleEvent string `json:"lifecycleEvent"`
	ResourceData   struct {
		ID string `json:"id"`
	} `json:"resourceData"`
}

// hintData is what a hint carries to resolve.
type hintData struct {
	Kind         string `json:"kind"` // "alert" or "lifecycle"
	ID           string `json:"id,omitempty"`
	Event        string `json:"event,omitempty"`
	Subscription string `json:"subscription,omitempty"`
}

// setUpPush decides the clientState. Manage derives it from the hook secret that the host keeps, so that it survives
// restarts and reinstalls of the connector.
func (c *Client) setUpPush() error {
	switch {
	case c.cfg.Push == "off":
	case !c.cfg.ClientState.IsZero():
		c.clientState = c.cfg.ClientState.Reveal()
		if len(c.clientState) > 128 {
			return sdk.BadConfig("client_state", "Microsoft Graph allows at most 128 characters")
		}
	case c.cfg.Push == "receive":
		return sdk.BadConfig("client_state", "push: receive needs the clientState that the subscription was created with")
	default:
		if c.env.Hooks["alerts"].URL == "" {
			return sdk.BadConfig("push", "push: manage needs the address at which Microsoft Graph reaches this host: set http.public_url, or push: off")
		}
		secret := c.env.Hooks["alerts"].Secret
		mac := hmac.New(sha256.New, []byte(secret.Reveal()))
		mac.Write([]byte("graph clientState " + c.env.Connection))
		c.clientState = base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	return nil
}

// hook turns notifications into hints. Everything is answered with 202 except what is no notification at all: Graph
// counts errors and slow answers against the endpoint, and a wrong clientState must tell its sender nothing.
func (c *Client) hook(_ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
	resp := &sdk.HookResponse{Status: http.StatusAccepted, Refused: map[string]int{}}
	if c.cfg.Push == "off" || c.clientState == "" {
		resp.Status = http.StatusNotFound
		resp.Refused["push_off"]++
		return resp, nil
	}
	var body struct {
		Value []notification `json:"value"`
	}
	if err := json.Unmarshal(req.Body, &body); err != nil || body.Value == nil {
		resp.Status = http.StatusBadRequest
		resp.Body = []byte("not a change notification\n")
		resp.Refused["not_a_notification"]++
		return resp, nil //nolint:nilerr // the sender is told; the host counts it
	}
	c.mu.Lock()
	known := c.subscription
	c.mu.Unlock()
	for _, n := range body.Value {
		if subtle.ConstantTimeCompare([]byte(n.ClientState), []byte(c.clientState)) != 1 {
			resp.Refused["client_state"]++
			continue
		}
		if known != "" && n.SubscriptionID != known {
			// It belongs to a former life of ours, and its news are as good: taken, and counted.
			resp.Refused["unknown_subscription"]++
		}
		var h hintData
		var id string
		switch {
		case n.LifecycleEvent != "":
			h = hintData{Kind: "lifecycle", Event: n.LifecycleEvent, Subscription: n.SubscriptionID}
			id = "lifecycle/" + n.LifecycleEvent + "/" + n.SubscriptionID
		case n.ChangeType == "deleted":
			resp.Refused["deleted"]++
			continue
		default:
			h.Kind, h.ID = "alert", n.ResourceData.ID
			if h.ID == "" {
				h.ID = n.Resource[strings.LastIndexByte(n.Resource, '/')+1:]
			}
			if h.ID == "" || len(h.ID) > 512 {
				resp.Refused["no_id"]++
				continue
			}
			id = "alert/" + h.ID
		}
		data, err := json.Marshal(h)
		if err != nil {
			return nil, err
		}
		resp.Hints = append(resp.Hints, sdk.Hint{ID: id, Data: data})
	}
	return resp, nil
}

// resolve looks one hint up.
func (c *Client) resolve(ctx context.Context, h sdk.Hint) (sdk.Found, error) {
	var d hintData
	if err := json.Unmarshal(h.Data, &d); err != nil {
		return sdk.Found{}, sdk.Invalid("", "hint %s cannot be read: %v", h.ID, err)
	}
	if d.Kind == "lifecycle" {
		return c.lifecycle(ctx, d)
	}
	raw, err := c.fetchAlert(ctx, d.ID)
	if err != nil {
		return sdk.Found{}, err
	}
	ev, rej := c.normalize(raw)
	if rej != nil {
		return sdk.Found{Rejected: []sdk.Rejected{*rej}}, nil
	}
	return sdk.Found{Events: []sdk.Event{ev}}, nil
}

// normalize turns one alert into an event, or into a rejection that keeps it whole.
func (c *Client) normalize(raw []byte) (sdk.Event, *sdk.Rejected) {
	ev, err := Normalize(raw, NormalizeOptions{Tenant: c.tenant, GraphHost: c.graphHost})
	if err == nil {
		return ev, nil
	}
	var head struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(raw, &head) // what cannot be read has no subject
	return sdk.Event{}, &sdk.Rejected{
		Source: "https://" + c.graphHost + "/" + c.tenant + "/security/alerts_v2", Subject: head.ID, Reason: err.Error(), Raw: raw,
	}
}
