package sdk

import (
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/event"
)

// The few nouns that cross the wire.
type (
	// Secret is a configured value that never prints.
	Secret = plugin.Secret
	// Event is one fact that a trigger makes.
	Event = event.Event
	// Error is a failure with its class, side effect and pacing.
	Error = plugin.Error
)
