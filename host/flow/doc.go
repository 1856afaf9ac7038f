// Package flow says what a flow file means: it parses, checks against the connectors' schemas, and compiles expressions.
// It is pure data: no clock, no I/O; when something runs is the engine's business.
//
// # Two kinds of flow
//
// A flow with `on` starts on events; its expressions see event and, after what its triggers bring, alert, incident or
// row. A flow without `on` is called, by other flows or by hand, and sees inputs. No flow is both: events bring no inputs.
//
// # Expressions
//
// An expression stands in ${{ }} and is written in expr-lang. A value that is exactly one expression keeps its type; with
// text around it, it becomes text: null is nothing, lists and maps are JSON. $${{ stands for a plain ${{. YAML takes " #"
// for a comment and ": " for a key, so that expressions with either are put in quotes.
//
// Names: event, alert, incident, row, inputs, steps.ID, run.id, run.flow, run.attempt, the id of every let step, and in
// loops item and index. There are no secrets, no environment, no network and no clock.
//
// Everything has a type where a schema gives it one, and the checker holds expressions to it before anything runs. What
// may be missing must be reached with ?. or be given a fallback with ??: optional properties, results of steps that have
// an `if` or on_error: continue, items of a list (list[0], first, find), keys of a map. A condition is understood: after
// `steps.a != nil &&`, in the branches of ?:, and in a step whose `if` says so, steps.a is there. Left of ?? every link of
// a chain may be missing. A null that reaches an optional property of an action's input leaves the property out, unless
// its schema takes null.
//
// Functions beyond the operators (contains, startsWith, endsWith, matches, in, .., ?:, ??):
//
//	lists    map filter find findLast findIndex any all none one count sum sortBy (with a body: .field, #, #index)
//	         len first last take sort reverse uniq flatten concat min max join(list, ", ")
//	maps     keys values (in the order of the keys)
//	text     lower upper trim trimPrefix trimSuffix split replace indexOf truncate(s, n) string
//	         defang (hxxps[:]//a[.]b), md (escapes Markdown), hash (SHA-256 in hex), toBase64 fromBase64 json fromjson
//	numbers  int float abs ceil floor round
//	time     dur("24h") or dur("PT24H"), ago("24h", event.time), date("2026-01-31"), t.Format, t.Unix, t.Add, t.Sub, …
//	other    default(x, y): y if x is null, "" or empty
//
// An expression may make 4 million values, a result of 16 MiB, and 2 million rounds of nested loops.
//
// # Lists
//
// { for: list, each: value, if: condition } builds a list inside a value. A step with `for` and `steps` runs steps once
// per item; its output is a list of maps from the ids of its steps to their outputs.
//
// # Design notes
//
// 2026-11-23. The types are checked here, over expr-lang's syntax tree, and not by its own checker: that one knows no
// optional fields, stops at the first mistake, and falls silent at the first unknown type. Its price is a table of the
// functions' types (operators.go). Programs then run untyped, which costs about 0.1 µs per field.
//
// 2026-11-23. An action named *.ensure without a key takes event.case_key: a case per finding is what people mean.
// Inside a loop a key must be written, since every round would write the same thing.
package flow
