// Package httpconn is the connector for everything that speaks HTTP and has no connector of its own: its trigger webhook
// takes what others post, and its action request calls any API below the addresses that the connection names.
//
// What a request does, only its flow knows. It says so by effect: on the step: read, idempotent, keyed or unsafe, which is
// what holds unless it says; a GET or HEAD is a read. A keyed request carries its idempotency key in a header. Whether the
// other side honours it, the connection says (idempotent_keys): if so, a request whose answer was lost is sent again with
// the same key; if not, its run is parked for a person.
package httpconn

import (
	"net/http"
	"time"

	"github.com/casewire/casewire/sdk"
)

// Version of the connector.
const Version = "0.1.0"

// Connector describes the connector; a main is sdk.Serve(httpconn.Connector()).
func Connector() *sdk.Connector {
	c := sdk.New("http", Version, "Any HTTP API: requests out, webhooks in.", open)
	c.Egress("{config.base_url}", "{config.base_urls}")
	sdk.Action(c, "request", "Send one HTTP request. Its effect is what the step says.", (*Client).Request, sdk.Unsafe,
		sdk.EffectByCaller(sdk.EffectRule{Property: "method", Values: []string{http.MethodGet, http.MethodHead, http.MethodOptions}, Effect: sdk.Read}),
		// Nothing can be looked for; there is only this long for a connection that comes back.
		sdk.ResolveWindow(time.Second),
		sdk.Example("Tell a chat", map[string]any{
			"method": "POST", "path": "/hooks/soc", "json": map[string]any{"text": "Root login without MFA"},
		}),
		sdk.Example("Look somebody up", map[string]any{
			"path": "/v1/people", "parts": []string{"ana@contoso.example"}, "query": map[string]any{"fields": "manager"},
		}))
	sdk.AddTrigger(c, trigger())
	sdk.OnCheck(c, (*Client).Check)
	return c
}
