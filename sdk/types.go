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
	// Violation is one fault of an input or a configuration, at a JSON pointer.
	Violation = plugin.Violation
)

// Redacted is what a Secret prints as.
const Redacted = plugin.Redacted

// NewSecret wraps a value that must not be seen.
func NewSecret(value string) Secret { return plugin.NewSecret(value) }

// What Error.Origin and Error.SideEffect can say, for the rare error that no constructor makes.
const (
	OriginInput      = plugin.OriginInput
	OriginConfig     = plugin.OriginConfig
	OriginDownstream = plugin.OriginDownstream

	// MetaThrottleScope is the key of Error.Meta by which a throttled error says how far it reaches: ScopeObject, ScopeAction,
	// or, without it, everything that the credential does there.
	MetaThrottleScope = plugin.MetaThrottleScope
	ScopeObject       = plugin.ScopeObject
	ScopeAction       = plugin.ScopeAction

	EffectNone    = plugin.EffectNone
	EffectUnknown = plugin.EffectUnknown
	EffectApplied = plugin.EffectApplied
)
