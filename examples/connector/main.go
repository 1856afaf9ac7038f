// The smallest complete connector: it asks a reputation service about file hashes. Build it, name the binary
// casewire-connector-hashes, and a host can load it; run the test beside it to see it answer over the real protocol.
package main

import (
	"context"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Config is what an operator writes under "config" of a connection.
type Config struct {
	BaseURL string     `json:"base_url" cw:"required,format=uri" doc:"Address of the service"`
	Token   sdk.Secret `json:"token" cw:"required" doc:"API token"`
}

// Lookup is the input of hash.lookup.
type Lookup struct {
	SHA256 string `json:"sha256" cw:"required" pattern:"^[0-9a-f]{64}$" doc:"Hash of the file"`
}

// Verdict is its output.
type Verdict struct {
	Known bool   `json:"known" doc:"The service has seen the file"`
	Name  string `json:"name,omitempty" doc:"What the service calls it"`
}

type client struct{ api *rest.Client }

func open(_ context.Context, cfg Config, _ sdk.Env) (*client, error) {
	api, err := rest.New(rest.Options{BaseURL: cfg.BaseURL, API: "Hashes", Auth: rest.Bearer(cfg.Token)})
	return &client{api}, err
}

func (c *client) lookup(ctx context.Context, in Lookup) (v Verdict, err error) {
	err = c.api.Get(ctx, "/v1/hashes/"+in.SHA256, nil, &v) // 401, 404, 429, 5xx … become errors of the right class
	return v, err
}

func connector() *sdk.Connector {
	c := sdk.New("hashes", "1.0.0", "Asks a reputation service about file hashes.", open).Egress("{config.base_url}")
	sdk.Action(c, "hash.lookup", "Look a file hash up.", (*client).lookup, sdk.Read)
	return c
}

func main() { sdk.Serve(connector()) }
