// Package sdk is what a connector author imports: typed actions and triggers, JSON Schema from struct tags, secrets
// that do not print, errors that say what to do next. It knows the protocol and nothing of the host.
//
// # Struct tags
//
//	json:"name"      the property's name; omitempty or omitzero makes it optional in outputs
//	doc:"…"          its description
//	cw:"required,…"  required, min=, max= (numbers), minlen=, maxlen= (strings, arrays), format=uri|email|date-time, advanced
//	default:"…"      filled in before the author's code sees the value
//	enum:"a,b,c"     allowed values
//	pattern:"…"      regular expression; a tag of its own because expressions contain commas
//	example:"…"      for documentation
package sdk
