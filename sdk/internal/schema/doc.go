// Package schema turns Go types into JSON Schema 2020-12 and into plans that decode JSON in one pass: defaults are filled
// in, and every violation is reported at once with its JSON pointer. The same plan writes the schema and enforces it, so
// that the two cannot disagree. It knows struct tags (see package sdk) and nothing of the protocol beyond
// plugin.Secret and plugin.Violation.
package schema
