// Package plugin is the wire between a Casewire host and a connector: the generated protocol (connectorv1), the
// go-plugin glue for both ends, the error codec and the size limits. Host and SDK meet only here; the package imports
// nothing else of Casewire.
package plugin
