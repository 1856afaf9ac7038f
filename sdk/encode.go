package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	jsonx "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
)

// outputOptions write as encoding/json does, with its tags and interfaces, but for three things: a nil slice is [] and a
// nil map is {}, as the schema says; and nothing is escaped for HTML.
var outputOptions = jsonx.JoinOptions(
	jsonv1.DefaultOptionsV1(),
	jsonx.FormatNilSliceAsNull(false),
	jsonx.FormatNilMapAsNull(false),
	jsontext.EscapeForHTML(false),
	jsontext.EscapeForJS(false),
	jsonx.WithMarshalers(jsonx.MarshalToFunc(writeNumber)),
)

// writeNumber keeps json.Number a number: to the library it is just a kind of string.
func writeNumber(enc *jsontext.Encoder, n json.Number) error {
	if n == "" {
		n = "0" // as encoding/json does
	}
	v := jsontext.Value(n)
	if v.Kind() != '0' {
		return errors.New("a json.Number that is no number")
	}
	return enc.WriteValue(v)
}

// writeJSON appends one compact JSON value.
func writeJSON(w io.Writer, v any) error {
	if raw, ok := v.(json.RawMessage); ok {
		v = json.RawMessage(bytes.ToValidUTF8(raw, []byte("\uFFFD"))) // the host refuses anything else
	}
	return jsonx.MarshalWrite(w, v, outputOptions)
}

// encodeOutput writes an action's output. By now a changing action has changed what it changes: errors say so.
func encodeOutput(a *actionSpec, out any) ([]byte, error) {
	b, err := jsonx.Marshal(out, outputOptions)
	var e *Error
	switch {
	case err != nil:
		e = plugin.Errorf(codes.Internal, "%s: the output cannot be written as JSON: %v", a.name, err)
	case len(b) == 4 && string(b) == "null":
		e = plugin.Errorf(codes.Internal, "%s returned neither an output nor an error", a.name)
	case b[0] != '{':
		e = plugin.Errorf(codes.Internal, "%s: the output is no JSON object", a.name)
	case len(b) > plugin.MaxOutput:
		e = plugin.Errorf(codes.OutOfRange, "%s: the output has %d bytes, more than the limit of %d; ask for less", a.name, len(b), plugin.MaxOutput)
		e.Reason = plugin.ReasonTooLarge
	default:
		return b, nil
	}
	return nil, a.afterEffect(e)
}

// midway marks an error that was found while the author's code was at work.
func (a *actionSpec) midway(e *Error) *Error {
	e.Origin, e.SideEffect = plugin.OriginPlugin, plugin.EffectNone
	if a.changes() {
		e.SideEffect = plugin.EffectUnknown
	}
	return e
}

// afterEffect marks an error that was found when the author's code had already done its work.
func (a *actionSpec) afterEffect(e *Error) *Error {
	e.Origin, e.SideEffect = plugin.OriginPlugin, plugin.EffectNone
	if a.changes() {
		e.SideEffect = plugin.EffectApplied
	}
	return e
}
