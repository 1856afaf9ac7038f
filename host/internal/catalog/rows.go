package catalog

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/wirejson"
)

// maxGathered is the largest list of rows that is gathered in memory; more has to be streamed.
const maxGathered = 32 << 20

// rows gathers the rows of one call.
type rows struct {
	wanted  bool // the action declares rows
	maxRows uint64
	count   uint64
	buf     bytes.Buffer // values with commas between
}

// takeRows checks a chunk of rows, and gathers it if nobody takes it as it comes.
func (r *receiver) takeRows(chunk *connectorv1.Rows) *plugin.Error {
	n := uint64(0)
	for line := range bytes.Lines(chunk.GetNdjson()) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if len(line) > plugin.MaxEvent {
			return r.in.lie(r.a, codes.OutOfRange, "row %d has %d bytes, more than %d", r.rows.count+n+1, len(line), plugin.MaxEvent)
		}
		if !wirejson.Valid(line) {
			return r.in.lie(r.a, codes.Internal, "row %d is not JSON", r.rows.count+n+1)
		}
		n++
		if r.onEvent != nil {
			continue
		}
		if r.rows.buf.Len()+len(line) >= maxGathered {
			e := r.in.lie(r.a, codes.OutOfRange, "")
			e.Message = r.a.what() + ": the rows are over 32 MiB, the most that is gathered for a flow; ask for fewer rows or columns, or stream them, as casewire query does"
			return e
		}
		if r.rows.buf.Len() > 0 {
			r.rows.buf.WriteByte(',')
		}
		r.rows.buf.Write(line)
	}
	if n != uint64(chunk.GetCount()) {
		return r.in.lie(r.a, codes.Internal, "a chunk of %d rows says that it has %d", n, chunk.GetCount())
	}
	r.rows.count += n
	if r.rows.maxRows > 0 && r.rows.count > r.rows.maxRows {
		return r.in.lie(r.a, codes.OutOfRange, "more rows than the %d asked for", r.rows.maxRows)
	}
	return nil
}

// join makes the rows a property of an output, which is a JSON object or null and valid.
func (r *rows) join(out []byte) ([]byte, error) {
	return withProperty(out, "rows", "the rows", []byte("["), r.buf.Bytes(), []byte("]"))
}

// withProperty adds to a valid output, an object or null, a property of what was streamed beside it.
func withProperty(out []byte, name, what string, value ...[]byte) ([]byte, error) {
	out = bytes.TrimSpace(out)
	rest := []byte("}")
	if string(out) != "null" {
		if out[0] != '{' {
			return nil, fmt.Errorf("the output of an action with %s is not an object", name)
		}
		if has, err := hasName(out, name); err != nil || has {
			return nil, fmt.Errorf("the output has a property %q beside %s", name, what)
		}
		if rest = bytes.TrimSpace(out[1:]); rest[0] != '}' {
			rest = append([]byte(","), rest...)
		}
	}
	size := len(name) + 4 + len(rest)
	for _, v := range value {
		size += len(v)
	}
	joined := make([]byte, 0, size)
	joined = append(append(append(joined, `{"`...), name...), `":`...)
	for _, v := range value {
		joined = append(joined, v...)
	}
	return append(joined, rest...), nil
}

// hasName says whether an object has a property of that name.
func hasName(object []byte, name string) (bool, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object), jsontext.AllowDuplicateNames(true))
	if _, err := d.ReadToken(); err != nil {
		return false, err
	}
	for d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return false, err
		}
		if t.String() == name {
			return true, nil
		}
		if err := d.SkipValue(); err != nil {
			return false, err
		}
	}
	return false, nil
}
