package sentinel

import (
	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/sdk"
)

// NormalizeOptions say where an alert comes from.
type NormalizeOptions = normalize.Options

// Normalize makes the event of an alert as Microsoft Graph sends it (microsoft.graph.security.alert, "alerts_v2"), as the
// trigger alerts does.
func Normalize(raw []byte, o NormalizeOptions) (sdk.Event, error) { return normalize.Alert(raw, o) }
