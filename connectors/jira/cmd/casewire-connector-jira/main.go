// Command casewire-connector-jira is the Jira connector as a program of its own.
package main

import (
	"github.com/casewire/casewire/connectors/jira"
	"github.com/casewire/casewire/sdk"
)

func main() { sdk.Serve(jira.Connector()) }
