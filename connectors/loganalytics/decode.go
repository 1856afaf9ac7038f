package loganalytics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// rawRow is one row as a JSON object, its members in the order of the columns.
type rawRow = json.RawMessage

type limits struct {
	rows    int
	partial bool
}

// maxCell bounds one row, as the protocol does.
const maxRow = plugin.MaxEvent

var errCut = errors.New("cut")

// decode streams the primary table of an answer. Memory is bounded by one row. Numbers keep every digit; NaN and the
// infinities stay the strings that the service sends; dynamic columns that hold JSON text become that JSON.
func decode(r io.Reader, lim limits, emit func(rawRow) error) (Summary, error) {
	d := decoder{head: &firstBytes{r: r}, lim: lim, emit: emit, sum: Summary{Columns: []Column{}}}
	d.in = jsontext.NewDecoder(d.head)
	err := d.answer()
	if err == nil {
		return d.sum, nil
	}
	if _, ok := errors.AsType[*sdk.Error](err); ok {
		return d.sum, err
	}
	what := "is not the JSON of a query result"
	switch {
	case len(d.head.first) == 0 && errors.Is(err, io.EOF):
		what = "is empty (the service does so when the request has no body or no JSON content type)"
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		what = "ends in the middle"
	}
	e := plugin.Errorf(codes.Unavailable, "%s: the answer %s: %q: %v", apiName, what, d.head.first, err)
	e.Origin, e.SideEffect = plugin.OriginDownstream, plugin.EffectNone
	return d.sum, e
}

type decoder struct {
	in      *jsontext.Decoder
	head    *firstBytes
	lim     limits
	emit    func(rawRow) error
	sum     Summary
	tables  int
	keys    [][]byte // `"name":` in order
	dynamic []bool
	fault   *queryError
}

// queryError is the error that a result with status 200 may carry.
type queryError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Code    string      `json:"code"`
		Message string      `json:"message"`
		Inner   *queryError `json:"innererror"`
	} `json:"details"`
	Inner *queryError `json:"innererror"`
}

func (e *queryError) text() string {
	s := e.Code + ": " + e.Message
	var sSb81 strings.Builder
	for _, d := range e.Details {
		sSb81.WriteString("; " + d.Message)
		if d.Inner != nil {
			sSb81.WriteString(" (" + d.Inner.Code + " " + d.Inner.Message + ")")
		}
	}
	s += sSb81.String()
	if e.Inner != nil {
		s += "; " + e.Inner.text()
	}
	return s
}

func (d *decoder) answer() error {
	seen := false
	err := d.object(func(name string) error {
		switch name {
		case "tables":
			seen = true
			return d.array(d.table)
		case "error":
			v, err := d.in.ReadValue()
			if err != nil {
				return err
			}
			d.fault = &queryError{}
			return json.Unmarshal(v, d.fault)
		default:
			return d.in.SkipValue()
		}
	})
	if errors.Is(err, errCut) {
		if !d.lim.partial {
			return sdk.TooLarge("the result has more than max_rows = %d rows; narrow the query, raise max_rows, or set allow_partial", d.lim.rows)
		}
		d.sum.Partial = true
		return nil
	}
	if err != nil {
		return err
	}
	if d.fault != nil {
		if !seen || !d.lim.partial {
			return sdk.TooLarge("%s gave only a part of the result: %s; narrow the query or the timespan, or set allow_partial", apiName, d.fault.text())
		}
		d.sum.Partial = true
	}
	if !seen {
		return errors.New("it has no tables")
	}
	return nil
}

// object calls member for each member of an object; member reads the value.
func (d *decoder) object(member func(name string) error) error {
	if err := d.expect('{'); err != nil {
		return err
	}
	for d.in.PeekKind() != '}' {
		tok, err := d.in.ReadToken()
		if err != nil {
			return err
		}
		if err := member(tok.String()); err != nil {
			return err
		}
	}
	_, err := d.in.ReadToken()
	return err
}

func (d *decoder) array(element func() error) error {
	if err := d.expect('['); err != nil {
		return err
	}
	for d.in.PeekKind() != ']' {
		if d.in.PeekKind() == 0 {
			_, err := d.in.ReadToken()
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
	_, err := d.in.ReadToken()
	return err
}

func (d *decoder) expect(kind jsontext.Kind) error {
	tok, err := d.in.ReadToken()
	if err != nil {
		return err
	}
	if tok.Kind() != kind {
		return fmt.Errorf("%v where %v is expected", tok.Kind(), kind)
	}
	return nil
}

// table reads one table. The first is the primary result; the service sends it first.
func (d *decoder) table() error {
	d.tables++
	primary := d.tables == 1
	var early []byte // rows that came before their columns
	err := d.object(func(name string) error {
		switch {
		case primary && name == "columns":
			return d.columns()
		case primary && name == "rows" && d.keys == nil:
			v, err := d.in.ReadValue()
			early = bytes.Clone(v)
			return err
		case primary && name == "rows":
			return d.array(d.row)
		default:
			return d.in.SkipValue()
		}
	})
	if err != nil || early == nil {
		return err
	}
	outer := d.in
	d.in = jsontext.NewDecoder(bytes.NewReader(early))
	defer func() { d.in = outer }()
	return d.array(d.row)
}

func (d *decoder) columns() error {
	v, err := d.in.ReadValue()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(v, &d.sum.Columns); err != nil {
		return err
	}
	used := map[string]bool{}
	d.keys = [][]byte{}
	for i, c := range d.sum.Columns {
		// KQL renames duplicates itself; a service that does not must not cost a column.
		name := c.Name
		for n := 1; used[name]; n++ {
			name = fmt.Sprintf("%s_%d", c.Name, n)
		}
		used[name] = true
		d.sum.Columns[i].Name = name
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		d.keys = append(d.keys, append(key, ':'))
		d.dynamic = append(d.dynamic, c.Type == "dynamic")
	}
	return nil
}

func (d *decoder) row() error {
	if d.sum.RowCount == d.lim.rows {
		return errCut
	}
	if err := d.expect('['); err != nil {
		return err
	}
	row := make([]byte, 0, 64*len(d.keys))
	row = append(row, '{')
	n := 0
	for d.in.PeekKind() != ']' {
		v, err := d.in.ReadValue()
		if err != nil {
			return err
		}
		if n == len(d.keys) {
			return fmt.Errorf("row %d has more cells than there are columns (%d)", d.sum.RowCount+1, len(d.keys))
		}
		if n > 0 {
			row = append(row, ',')
		}
		row = append(row, d.keys[n]...)
		if d.dynamic[n] && v.Kind() == '"' {
			row = appendDynamic(row, v)
		} else {
			row = append(row, v...)
		}
		n++
	}
	if _, err := d.in.ReadToken(); err != nil {
		return err
	}
	if n != len(d.keys) {
		return fmt.Errorf("row %d has %d cells for %d columns", d.sum.RowCount+1, n, len(d.keys))
	}
	row = append(row, '}')
	if len(row) > maxRow {
		return sdk.TooLarge("row %d is %d bytes, over the limit of %d; project fewer columns", d.sum.RowCount+1, len(row), maxRow)
	}
	d.sum.RowCount++
	return d.emit(row)
}

// appendDynamic unwraps the JSON text that a dynamic cell usually holds; other text stays a string.
func appendDynamic(row []byte, cell jsontext.Value) []byte {
	var text string
	if err := json.Unmarshal(cell, &text); err == nil && text != "" && (text[0] == '{' || text[0] == '[') {
		inner := jsontext.Value(text)
		if inner.IsValid() && inner.Compact() == nil {
			return append(row, inner...)
		}
	}
	return append(row, cell...)
}

// firstBytes remembers how an answer begins, for errors.
type firstBytes struct {
	r     io.Reader
	first []byte
}

func (f *firstBytes) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if rest := 200 - len(f.first); rest > 0 {
		f.first = append(f.first, p[:min(n, rest)]...)
	}
	return n, err
}
