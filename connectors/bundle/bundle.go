// Package bundle is the one list of the connectors that Casewire ships.
package bundle

import (
	"slices"

	httpconn "github.com/casewire/casewire/connectors/http"
	"github.com/casewire/casewire/connectors/jira"
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/connectors/sentinel"
	"github.com/casewire/casewire/connectors/thehive"
	"github.com/casewire/casewire/connectors/threatintel"
	"github.com/casewire/casewire/sdk"
)

var constructors = map[string]func() *sdk.Connector{
	"http":         httpconn.Connector,
	"jira":         jira.Connector,
	"loganalytics": loganalytics.Connector,
	"sentinel":     sentinel.Connector,
	"thehive":      thehive.Connector,
	"threatintel":  threatintel.Connector,
}

// Names lists the bundled connectors, sorted.
func Names() []string {
	names := make([]string, 0, len(constructors))
	for n := range constructors {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// New makes one connector; a process that serves one does not pay for the others.
func New(name string) (*sdk.Connector, bool) {
	c, ok := constructors[name]
	if !ok {
		return nil, false
	}
	return c(), true
}
