// Command casewire-connector-loganalytics serves the connector loganalytics to a Casewire host.
package main

import (
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(loganalytics.Connector()) }
