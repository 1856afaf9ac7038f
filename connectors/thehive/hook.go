package thehive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// Webhook says what TheHive's notifications prove themselves with: TheHive signs nothing, but its endpoint can send a
// credential. Exactly one of the three is needed.
type Webhook struct {
	Bearer sdk.Secret    `json:"bearer,omitzero" doc:"Token that the endpoint sends as Authorization: Bearer"`
	Basic  *BasicAuth    `json:"basic,omitempty" doc:"User name and password that the endpoint sends"`
	Header *SecretHeader `json:"header,omitempty" doc:"A header with a secret, where something in between adds one"`
}

// BasicAuth is a user name and a password.
type BasicAuth struct {
	Username string     `json:"username" cw:"required" doc:"User name"`
	Password sdk.Secret `json:"password" cw:"required" doc:"Password"`
}

// SecretHeader is a header whose value is a secret.
type SecretHeader struct {
	Name  string     `json:"name" cw:"required" pattern:"^[A-Za-z0-9-]+$" doc:"Name of the header" example:"X-Casewire-Secret"`
	Value sdk.Secret `json:"value" cw:"required" doc:"The secret"`
}

// verifier makes the check of senders; nil when there are no webhooks.
func verifier(w *Webhook) (func(*sdk.HookRequest) bool, error) {
	if w == nil {
		return nil, nil
	}
	given := 0
	name, want := "Authorization", ""
	if !w.Bearer.IsZero() {
		given, want = given+1, "Bearer "+w.Bearer.Reveal()
	}
	if w.Basic != nil {
		given++
		want = "Basic " + base64.StdEncoding.EncodeToString([]byte(w.Basic.Username+":"+w.Basic.Password.Reveal()))
	}
	if w.Header != nil {
		given, name, want = given+1, w.Header.Name, w.Header.Value.Reveal()
	}
	if given != 1 {
		return nil, sdk.BadConfig("/webhook", "give exactly one of bearer, basic and header: anybody could say that a case has changed otherwise")
	}
	sum := sha256.Sum256([]byte(want))
	return func(req *sdk.HookRequest) bool {
		got := sha256.Sum256([]byte(req.Header.Get(name)))
		return subtle.ConstantTimeCompare(got[:], sum[:]) == 1
	}, nil
}

// notification is what is read of a notification, of which TheHive 5 sends two forms: version 1 is an audit entry; version 0
// is that of TheHive 3, with operation in the place of action.
type notification struct {
	Action     string `json:"action"`
	Operation  string `json:"operation"`
	ObjectType string `json:"objectType"`
	ObjectID   string `json:"objectId"`
}

// hintData is what a hint carries to lookUp.
type hintData struct {
	Case string `json:"case"`
}

// notified turns a notification into hints. What it says of the case is not believed: the case is looked up.
func (c *Client) notified(_ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
	resp := &sdk.HookResponse{Status: http.StatusAccepted, Refused: map[string]int{}}
	refuse := func(status int, reason, text string) (*sdk.HookResponse, error) {
		resp.Status, resp.Body = status, []byte(text+"\n")
		resp.Refused[reason]++
		return resp, nil
	}
	if c.verify == nil {
		return refuse(http.StatusNotFound, "webhook_off", "this connection takes no webhooks")
	}
	if !c.verify(req) {
		return refuse(http.StatusUnauthorized, "unauthorized", "not authorized")
	}
	list := []notification{{}}
	body := bytes.TrimSpace(req.Body)
	var err error
	if len(body) > 0 && body[0] == '[' {
		err = json.Unmarshal(body, &list)
	} else {
		err = json.Unmarshal(body, &list[0])
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "not_a_notification", "not a notification of TheHive")
	}
	for _, n := range list {
		switch {
		case n.ObjectType == "" || n.ObjectID == "":
			return refuse(http.StatusBadRequest, "not_a_notification", "not a notification of TheHive: objectType and objectId are missing")
		case !strings.EqualFold(n.ObjectType, "case"):
			resp.Refused["other_object"]++
		case strings.EqualFold(n.Action, "delete"), strings.EqualFold(n.Operation, "delete"):
			resp.Refused["deleted"]++
		case !objectID(n.ObjectID):
			resp.Refused["no_id"]++
		default:
			data, err := json.Marshal(hintData{Case: n.ObjectID})
			if err != nil {
				return nil, err
			}
			resp.Hints = append(resp.Hints, sdk.Hint{ID: "case/" + n.ObjectID, Data: data})
		}
	}
	return resp, nil
}
