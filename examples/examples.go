// Package examples carries the flows and fixtures that the documentation shows, so that the demo runs just those, and what
// a connector in Python needs, so that the binary can hand it out.
package examples

import "embed"

// Files holds flows/*.yaml and fixtures/*.json.
//
//go:embed flows/*.yaml fixtures/*.json
var Files embed.FS

// Python holds connector-python/casewire.py and the protocol that it reads, connector-python/connector.v1.binpb.
//
//go:embed connector-python/casewire.py connector-python/connector.v1.binpb
var Python embed.FS
