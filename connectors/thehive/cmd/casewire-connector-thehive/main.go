// Command casewire-connector-thehive serves the connector thehive to a Casewire host.
package main

import (
	"github.com/casewire/casewire/connectors/thehive"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(thehive.Connector()) }
