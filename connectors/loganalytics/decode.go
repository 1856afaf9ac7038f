package loganalytics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/wirejson"
	"github.com/casewire/casewire/sdk"
)

// rawRow is one row as a JSON object, its members in the order of the columns. It is valid until the next row.
type rawRow = json.RawMessage

// limits of one answer.
type limits struct {
	rows    int  // more are an error, or cut
	partial bool // cut, and take what an error left
	all     bool // every table, not just the primary one
}

const (
	// maxRow bounds one row, as the protocol does.
	maxRow = plugin.MaxEvent
	// maxHeld bounds what is held back: rows that came before their columns, and a first table that may not be the primary
	// one.
	maxHeld = 16 << 20
	// primaryName is what the service calls the table that counts.
	primaryName = "PrimaryResult"
	// tableProperty names a row's table when all tables are asked for.
	tableProperty = "$table"
)

var errCut = errors.New("cut")

// partialError says that the service gave a part of the result only.
type partialError struct {
	fault *queryError
	alone string // the interval that is too short to be halved again
}

func (e *partialError) Error() string { return e.fault.text() }

// tooLarge says whether the part is all that fits into one answer: E_QUERY_RESULT_SET_TOO_LARGE, 0x80DA0003.
func (e *partialError) tooLarge() bool {
	text := e.fault.text()
	return strings.Contains(text, "-2133196797") || strings.Contains(text, "E_QUERY_RESULT_SET_TOO_LARGE") || strings.Contains(text, "80DA0003")
}

// decode streams the tables of an answer. Memory is bounded by one row and one buffer. Numbers keep every digit; NaN and
// the infinities stay the strings that the service sends, as do decimals and timespans; dynamic columns that hold JSON
// text become that JSON. The error is a *partialError when the service says that it gave a part only and that is not
// allowed.
func decode(r io.Reader, lim limits, emit func(rawRow) error) (Summary, error) {
	head := &firstBytes{r: r}
	d := decoder{in: newScanner(head, maxRow), lim: lim, emit: emit, sum: Summary{Columns: []Column{}}}
	err := d.answer()
	if err == nil {
		return d.sum, nil
	}
	if _, ok := errors.AsType[*sdk.Error](err); ok {
		return d.sum, err
	}
	if _, ok := errors.AsType[*partialError](err); ok {
		return d.sum, err
	}
	if errors.Is(err, errEmit) {
		return d.sum, errors.Unwrap(err)
	}
	head.more()
	what := "is not the JSON of a query result"
	switch {
	case len(head.first) == 0 && errors.Is(err, io.ErrUnexpectedEOF):
		what = "is empty (the service does so when the request has no body or no JSON content type)"
	case errors.Is(err, io.ErrUnexpectedEOF):
		what = "ends in the middle"
	case errors.Is(err, errTooLong):
		e := sdk.TooLarge("%s: a value is over the limit of %d bytes for a row; project fewer columns", apiName, maxRow)
		return d.sum, e
	}
	e := plugin.Errorf(codes.Unavailable, "%s: the answer %s: %q: %v", apiName, what, head.first, err)
	e.Origin, e.SideEffect = plugin.OriginDownstream, plugin.EffectNone
	return d.sum, e
}

// errEmit marks an error of who takes the rows.
var errEmit = errors.New("emit")

type emitError struct{ error }

func (emitError) Is(target error) bool { return target == errEmit }
func (e emitError) Unwrap() error      { return e.error }

type decoder struct {
	in      *scanner
	lim     limits
	emit    func(rawRow) error
	sum     Summary
	scratch []byte
	row     []byte
	cell    []byte
	text    []byte
	inner   scanner

	tables  int
	primary bool // the primary table has been seen
	held    *held
	cols    *columns // of the table that is read
	fault   *queryError
}

// columns of one table.
type columns struct {
	list    []Column
	keys    [][]byte // what stands before each cell: `{"name":`, then `,"name":`
	dynamic []bool
}

// held is a first table by another name, until it is known whether a primary one follows.
type held struct {
	cols []Column
	rows [][]byte
	size int
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
	parts := []string{e.Code + ": " + e.Message}
	for _, d := range e.Details {
		part := d.Message
		if d.Inner != nil {
			part += " (" + d.Inner.Code + " " + d.Inner.Message + ")"
		}
		parts = append(parts, part)
	}
	if e.Inner != nil {
		parts = append(parts, e.Inner.text())
	}
	return strings.Join(parts, "; ")
}

func (d *decoder) answer() error {
	seen := false
	err := d.object(func(name string) error {
		switch name {
		case "tables":
			seen = true
			if c, err := d.in.peek(); err != nil {
				return err
			} else if c != '[' {
				return fmt.Errorf("%q where the list of tables is expected", c)
			}
			return d.list(d.table)
		case "error":
			return d.small(&d.fault)
		case "statistics":
			return d.small(&d.sum.Statistics)
		case "render":
			return d.small(&d.sum.Render)
		default:
			return d.in.skip(d.scratch)
		}
	})
	if err == nil {
		err = d.ended()
	}
	if err == nil && d.held != nil {
		err = d.release()
	}
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
			return &partialError{fault: d.fault}
		}
		d.sum.Partial, d.sum.PartialReason = true, d.fault.text()
	}
	if !seen {
		return errors.New("it has no tables")
	}
	return nil
}

// ended says whether nothing follows the answer. It reads to the end, so that the connection can be used again; what goes
// wrong with it now costs no row.
func (d *decoder) ended() error {
	if c, err := d.in.peek(); err == nil {
		return fmt.Errorf("it goes on behind its end, with %q", c)
	}
	return nil
}

// small decodes a value that is not a table.
func (d *decoder) small(v any) error {
	b, err := d.in.value(nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%.80s: %w", b, err)
	}
	return nil
}

// object calls member for each member of an object; member reads the value.
func (d *decoder) object(member func(name string) error) error {
	if err := d.in.expect('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.in.more('}', first)
		if err != nil || !more {
			return err
		}
		if d.scratch, err = d.in.name(d.scratch); err != nil {
			return err
		}
		if err := member(string(unquote(nil, d.scratch))); err != nil {
			return err
		}
	}
}

// list calls element for each element of a list; element reads it.
func (d *decoder) list(element func() error) error {
	if err := d.in.expect('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := d.in.more(']', first)
		if err != nil || !more {
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
}

// table reads one table. The one called PrimaryResult counts, or else the first.
func (d *decoder) table() error {
	d.tables++
	var name string
	var early []byte // rows that came before their columns
	d.cols = nil
	read := func(rows func() error) error {
		switch {
		case d.lim.all:
			d.sum.Tables = append(d.sum.Tables, Table{Name: name, Columns: d.cols.list})
			if d.tables == 1 {
				d.sum.Columns = d.cols.list
			}
			return rows()
		case d.primary: // there was one
			return nil
		case name == primaryName || name == "":
			d.primary, d.held, d.sum.Columns = true, nil, d.cols.list
			return rows()
		case d.tables == 1:
			d.held = &held{cols: d.cols.list}
			return rows()
		}
		return nil
	}
	err := d.object(func(member string) error {
		switch member {
		case "name":
			return d.small(&name)
		case "columns":
			return d.columns(name)
		case "rows":
			if d.cols == nil {
				limit := d.in.limit
				d.in.limit = maxHeld
				b, err := d.in.value(nil)
				d.in.limit = limit
				early = b
				return err
			}
			begun := false
			if err := read(func() error { begun = true; return d.list(d.oneRow) }); err != nil || begun {
				return err
			}
			return d.in.skip(d.scratch)
		default:
			return d.in.skip(d.scratch)
		}
	})
	if err != nil || early == nil {
		return err
	}
	if d.cols == nil {
		return errors.New("a table has rows and no columns")
	}
	outer := d.in
	d.in = &scanner{}
	d.in.over(early, maxRow)
	defer func() { d.in = outer }()
	return read(func() error { return d.list(d.oneRow) })
}

func (d *decoder) columns(table string) error {
	c := &columns{list: []Column{}}
	if err := d.small(&c.list); err != nil {
		return err
	}
	used := map[string]bool{}
	lead := "{"
	if d.lim.all {
		used[tableProperty] = true
		lead = `{"` + tableProperty + `":` + string(mustJSON(table)) + ","
	}
	for i := range c.list {
		// KQL renames duplicates itself; a service that does not must not cost a column.
		name := c.list[i].Name
		for n := 1; used[name]; n++ {
			name = fmt.Sprintf("%s_%d", c.list[i].Name, n)
		}
		used[name] = true
		c.list[i].Name = name
		c.keys = append(c.keys, slices.Concat([]byte(lead), mustJSON(name), []byte{':'}))
		c.dynamic = append(c.dynamic, c.list[i].Type == "dynamic")
		lead = ","
	}
	d.cols = c
	return nil
}

// mustJSON writes a string, which cannot fail.
func mustJSON(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}

func (d *decoder) oneRow() error {
	if d.sum.RowCount == d.lim.rows {
		return errCut
	}
	if row, ok := d.plainRow(); ok {
		return d.rowDone(row)
	}
	if err := d.in.expect('['); err != nil {
		return err
	}
	row, c, n := d.row[:0], d.cols, 0
	for ; ; n++ {
		more, err := d.in.more(']', n == 0)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if n == len(c.keys) {
			return fmt.Errorf("row %d has more cells than there are columns (%d)", d.sum.RowCount+1, n)
		}
		row = append(row, c.keys[n]...)
		if c.dynamic[n] {
			if d.cell, err = d.in.value(d.cell[:0]); err == nil {
				row = d.appendDynamic(row, d.cell)
			}
		} else {
			row, err = d.in.value(row)
		}
		if errors.Is(err, errTooLong) || err == nil && len(row) > maxRow {
			return sdk.TooLarge("row %d is over the limit of %d bytes at column %s; project fewer columns", d.sum.RowCount+1, maxRow, c.list[n].Name)
		}
		if err != nil {
			return err
		}
	}
	if n != len(c.keys) {
		return fmt.Errorf("row %d has %d cells for %d columns", d.sum.RowCount+1, n, len(c.keys))
	}
	if n == 0 {
		row = append(row, '{')
	}
	return d.rowDone(append(row, '}'))
}

func (d *decoder) rowDone(row []byte) error {
	d.row = row
	if d.held != nil {
		return d.hold(row)
	}
	return d.give(row)
}

func (d *decoder) give(row []byte) error {
	d.sum.RowCount++
	if n := len(d.sum.Tables); n > 0 {
		d.sum.Tables[n-1].RowCount++
	}
	if err := d.emit(row); err != nil {
		return emitError{err}
	}
	return nil
}

// hold keeps a row until it is known that its table is the one that counts.
func (d *decoder) hold(row []byte) error {
	d.held.rows = append(d.held.rows, bytes.Clone(row))
	if d.held.size += len(row) + 24; d.held.size > maxHeld {
		return d.release() // nobody sends so much before what counts
	}
	return nil
}

// release gives what was held: there is no other table.
func (d *decoder) release() error {
	h := d.held
	d.held, d.primary, d.sum.Columns = nil, true, h.cols
	for _, row := range h.rows {
		if d.sum.RowCount == d.lim.rows {
			return errCut
		}
		if err := d.give(row); err != nil {
			return err
		}
	}
	return nil
}

// appendDynamic unwraps the JSON text that a dynamic cell usually holds; other text stays a string.
func (d *decoder) appendDynamic(row, cell []byte) []byte {
	if len(cell) < 4 || cell[0] != '"' || cell[1] != '{' && cell[1] != '[' {
		return append(row, cell...)
	}
	d.text = unquote(d.text[:0], cell)
	if wirejson.Compact(d.text, deepest) {
		return append(row, d.text...)
	}
	d.inner.over(d.text, maxRow)
	before := len(row)
	row, err := d.inner.value(row)
	if err == nil {
		if _, trailing := d.inner.peek(); trailing != nil {
			return row
		}
	}
	return append(row[:before], cell...)
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

// more reads on until it knows enough, after the answer turned out to be something else.
func (f *firstBytes) more() {
	var b [200]byte
	for len(f.first) < len(b) {
		if n, err := f.Read(b[:]); n == 0 || err != nil {
			return
		}
	}
}
