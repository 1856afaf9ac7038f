package sentinel_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/sdk"
)

func TestARMAutomationWebhook(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	name := r.azure.AddSentinelIncident("", map[string]any{"title": "As it is"}, nil, nil)
	body := func(id string) []byte {
		return fmt.Appendf(nil, `{"eventUniqueId":"1","objectSchemaType":"Incident","objectEventType":"Create","object":{"id":%q,"name":%q,"properties":{"title":"As the body has it","providerName":"Azure Sentinel"}}}`, id, name)
	}
	id := r.azure.WorkspaceID() + "/providers/Microsoft.SecurityInsights/Incidents/" + name
	post := func(secret string, body []byte) *sdk.HookResponse {
		t.Helper()
		h := http.Header{}
		if secret != "" {
			h.Set("X-Casewire-Secret", secret)
		}
		resp, err := r.Hook(t.Context(), "incidents", &sdk.HookRequest{Method: http.MethodPost, Header: h, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, secret := range []string{"", "wrong", automationSecret + "x", automationSecret[1:]} {
		if resp := post(secret, body(id)); resp.Status != http.StatusUnauthorized || len(resp.Hints) > 0 || resp.Refused["secret"] != 1 {
			t.Errorf("secret %q: %+v", secret, resp)
		}
	}
	resp := post(automationSecret, body(id))
	if resp.Status != http.StatusAccepted || len(resp.Hints) != 1 || strings.Contains(string(resp.Hints[0].Data), "body has it") {
		t.Fatalf("%+v", resp)
	}
	out, err := r.Resolve(t.Context(), "incidents", resp.Hints...)
	if err != nil || len(out) != 1 || len(out[0].Events) != 1 || !strings.Contains(string(out[0].Events[0].Data), "As it is") {
		t.Fatalf("%v, %+v", err, out)
	}
	// The poll makes the same event.
	if events, _ := r.poll(nil); len(events) != 1 || events[0].ID != out[0].Events[0].ID || string(events[0].Data) != string(out[0].Events[0].Data) {
		t.Errorf("the poll makes another event than the webhook")
	}
	other := strings.Replace(id, "soc-ws", "theirs", 1)
	if resp := post(automationSecret, body(other)); resp.Status != http.StatusForbidden || resp.Refused["other_workspace"] != 1 {
		t.Errorf("%+v", resp)
	}
	for _, b := range []string{`{}`, `[]`, `{"object":{"id":"x"}}`, `{"object":{"id":7}}`} {
		if resp := post(automationSecret, []byte(b)); resp.Status != http.StatusBadRequest || len(resp.Hints) > 0 {
			t.Errorf("%s: %+v", b, resp)
		}
	}
	// One that is not there (yet) is asked for again by the host.
	resp = post(automationSecret, body(strings.Replace(id, name, "73e01a99-5cd7-4139-a149-9f2736ff2ab5", 1)))
	out, err = r.Resolve(t.Context(), "incidents", resp.Hints...)
	if err != nil || out[0].Err == nil || out[0].Err.Code != codes.NotFound {
		t.Errorf("%v, %+v", err, out)
	}
	off := newRoom(t, azurefake.Options{}, settings{"automation_secret": nil})
	got, err := off.Hook(t.Context(), "incidents", &sdk.HookRequest{Method: http.MethodPost, Body: body(id)})
	if err != nil || got.Status != http.StatusNotFound || got.Refused["push_off"] != 1 {
		t.Errorf("%v, %+v", err, got)
	}
}
