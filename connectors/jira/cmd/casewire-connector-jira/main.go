// Command casewire-connector-jira serves the connector jira to a Casewire host.
package main

import (
	"github.com/casewire/casewire/connectors/jira"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(jira.Connector()) }
