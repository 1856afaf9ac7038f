// Package examples carries the flows and fixtures that the documentation shows, so that the demo runs just those.
package examples

import "embed"

// Files holds flows/*.yaml and fixtures/*.json.
//
//go:embed flows/*.yaml fixtures/*.json
var Files embed.FS
