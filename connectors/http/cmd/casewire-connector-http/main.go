// Command casewire-connector-http is the HTTP connector as a program of its own.
package main

import (
	httpconn "github.com/casewire/casewire/connectors/http"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(httpconn.Connector()) }
