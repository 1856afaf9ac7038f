// Command casewire-connector-sentinel serves the connector sentinel to a Casewire host.
package main

import (
	"github.com/casewire/casewire/connectors/sentinel"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(sentinel.Connector()) }
