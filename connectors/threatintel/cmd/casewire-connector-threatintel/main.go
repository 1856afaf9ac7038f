// Command casewire-connector-threatintel serves the connector threatintel to a Casewire host.
package main

import (
	"github.com/casewire/casewire/connectors/threatintel"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(threatintel.Connector()) }
