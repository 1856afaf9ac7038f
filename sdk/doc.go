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
//
// On a list, minlen and maxlen are about the list, and the other rules about what is in it.
//
// # Inputs and configurations
//
// Every fault is reported at once, with its JSON pointer, before the author's code runs. Property names match exactly;
// unknown and repeated ones are refused. Null stands for an absent property. A default of a list is JSON or a comma list.
// A time.Duration is text such as "90s". In an any, a whole number that float64 cannot hold arrives as json.Number. A
// json.RawMessage is anything. An empty required Secret counts as missing.
//
// # Outputs
//
// Outputs are written as encoding/json does, but a nil slice is [] and a nil map is {}, so that flows need not ask.
//
// # Files
//
// An action that is declared with Blobs sends files of any size by SendBlob; in a flow they are its output's "blobs". A
// property of type Blob takes a file of up to about 1.5 MiB.
//
// # Triggers
//
// Poll brings what is new and returns; the host calls again. Stream stays open and emits as things come; the host opens it
// again when it ends. Hook turns a webhook into events, or into hints that Resolve looks up. RowEvent makes an event of any
// object. Whatever the way, a page's events and its cursor become durable together.
//
// # What the server does
//
// It turns panics into errors, keeps a connection open until the calls on it have finished, takes the connection's
// secrets out of errors, sets the side effect of a failed read to none, keeps broken events as rejected objects instead of
// losing them, splits what is too large for a message, and refuses what the author's code must not see: a keyed call
// without a key, a dry run of an action that does not honour it (see DryRuns).
package sdk
