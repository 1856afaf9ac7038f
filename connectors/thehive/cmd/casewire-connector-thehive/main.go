// Command casewire-connector-thehive is the TheHive connector as a program of its own.
package main

import (
	"github.com/casewire/casewire/connectors/thehive"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(thehive.Connector()) }
