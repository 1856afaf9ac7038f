package sentinel

import (
	"cmp"
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
	EncryptedContent *encryptedContent `json:"encryptedContent"`
}

// hintData is what a hint carries to resolve.
type hintData struct {
	Kind         string `json:"kind"` // "alert" or "lifecycle"
	ID           string `json:"id,omitempty"`
	Event        string `json:"event,omitempty"`
	Subscription string `json:"subscription,omitempty"`
	// Tokens vouch for the sender; they are here when the keys to check them were not at hand.
	Tokens []string `json:"tokens,omitempty"`
}

// The ways of config.Push.
const (
	pushOff     = "off"
	pushReceive = "receive"
	pushManage  = "manage"
)

// setUpPush decides the clientState. Manage derives it from the hook secret that the host keeps, so that it survives
// restarts and reinstalls of the connector.
func (c *Client) setUpPush() error {
	switch {
	case c.cfg.Push == pushOff:
	case !c.cfg.ClientState.IsZero():
		c.clientState = c.cfg.ClientState.Reveal()
		if len(c.clientState) > 128 {
			return sdk.BadConfig("client_state", "Microsoft Graph allows at most 128 characters")
		}
	case c.cfg.Push == pushReceive:
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
	if c.cfg.Push == pushOff || c.clientState == "" {
		resp.Status = http.StatusNotFound
		resp.Refused["push_off"]++
		return resp, nil
	}
	var body struct {
		Value  []notification `json:"value"`
		Tokens []string       `json:"validationTokens"`
	}
	if err := json.Unmarshal(req.Body, &body); err != nil || body.Value == nil {
		resp.Status = http.StatusBadRequest
		resp.Body = []byte("not a change notification\n")
		resp.Refused["not_a_notification"]++
		return resp, nil //nolint:nilerr // the sender is told; the host counts it
	}
	later, ok := c.vouched(body.Value, body.Tokens)
	if !ok {
		resp.Refused["validation_token"] += max(1, len(body.Value))
		return resp, nil
	}
	c.mu.Lock()
	known := c.subscription
	c.mu.Unlock()
	for i := range body.Value {
		n := &body.Value[i]
		if subtle.ConstantTimeCompare([]byte(n.ClientState), []byte(c.clientState)) != 1 {
			resp.Refused["client_state"]++
			continue
		}
		if known != "" && n.SubscriptionID != known {
			// It belongs to a former life of ours, and its news are as good: taken, and counted.
			resp.Refused["unknown_subscription"]++
		}
		h, id, why := c.hintOf(n)
		if why != "" {
			resp.Refused[why]++
			continue
		}
		h.Tokens = later
		data, err := json.Marshal(h)
		if err != nil {
			return nil, err
		}
		resp.Hints = append(resp.Hints, sdk.Hint{ID: id, Data: data})
	}
	return resp, nil
}

// hintOf makes a hint of a notification, or says why it is none.
func (c *Client) hintOf(n *notification) (h hintData, id, why string) {
	switch {
	case n.LifecycleEvent != "":
		h = hintData{Kind: "lifecycle", Event: n.LifecycleEvent, Subscription: n.SubscriptionID}
		return h, "lifecycle/" + n.LifecycleEvent + "/" + n.SubscriptionID, ""
	case n.ChangeType == "deleted":
		return h, "", "deleted"
	}
	h.Kind, h.ID = "alert", n.ResourceData.ID
	if n.EncryptedContent != nil {
		inner, reason := c.rich.open(n.EncryptedContent)
		if reason != "" {
			return h, "", reason
		}
		h.ID = cmp.Or(h.ID, inner)
		if inner != "" && inner != h.ID {
			return h, "", "content_mismatch"
		}
	}
	if h.ID == "" {
		h.ID = n.Resource[strings.LastIndexByte(n.Resource, '/')+1:]
	}
	if h.ID == "" || len(h.ID) > 512 {
		return h, "", "no_id"
	}
	return h, "alert/" + h.ID, ""
}

// resolve looks one hint up.
func (c *Client) resolve(ctx context.Context, h sdk.Hint) (sdk.Found, error) {
	var d hintData
	if err := json.Unmarshal(h.Data, &d); err != nil {
		return sdk.Found{}, sdk.Invalid("", "hint %s cannot be read: %v", h.ID, err)
	}
	if len(d.Tokens) > 0 {
		if err := c.verifyLater(ctx, d.Tokens); err != nil {
			return sdk.Found{}, err
		}
	}
	if d.Kind == "lifecycle" {
		return c.lifecycle(ctx, d)
	}
	raw, err := c.fetchAlert(ctx, d.ID)
	if err != nil {
		return sdk.Found{}, err
	}
	ev, rej := c.normalize(c.alertFeed(), raw)
	if rej != nil {
		return sdk.Found{Rejected: []sdk.Rejected{*rej}}, nil
	}
	return sdk.Found{Events: []sdk.Event{ev}}, nil
}
