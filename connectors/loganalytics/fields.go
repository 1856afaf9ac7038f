package loganalytics

import (
	"github.com/casewire/casewire/connectors/internal/rowmap"
	"github.com/casewire/casewire/sdk"
)

// mapped puts the rows of one result under the names that the input wants. Nil changes nothing.
type mapped struct {
	result *rowmap.Result
	row    []byte
}

// begin checks an input and makes ready for one result.
func (f *Fields) begin(all bool) (*mapped, error) {
	m, err := rowmap.New(f.Normalize, f.Map)
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return nil, nil //nolint:nilnil // rows stay as they are
	case all:
		return nil, sdk.Invalid("tables", "all gives the rows of tables with different columns, which cannot be mapped: take primary, or leave map and normalize out")
	}
	return &mapped{result: m.Begin(nil)}, nil
}

func (m *mapped) emit(next func(rawRow) error) func(rawRow) error {
	if m == nil {
		return next
	}
	return func(row rawRow) error {
		var err error
		if m.row, err = m.result.Row(m.row[:0], row); err != nil {
			return err
		}
		if len(m.row) > maxRow {
			return sdk.TooLarge("a row is over the limit of %d bytes after it was mapped; map fewer columns, or take values out of them", maxRow)
		}
		return next(m.row)
	}
}

// end says in the summary what became of the columns.
func (m *mapped) end(sum *Summary) {
	if m == nil {
		return
	}
	sum.Warnings = m.result.Warnings(rowColumns(sum.Columns))
	sum.Columns = []Column{}
	for _, c := range m.result.Columns() {
		sum.Columns = append(sum.Columns, Column{Name: c.Name, Type: c.Type})
	}
}

func rowColumns(list []Column) []rowmap.Column {
	out := make([]rowmap.Column, len(list))
	for i, c := range list {
		out[i] = rowmap.Column{Name: c.Name, Type: c.Type}
	}
	return out
}

// windowRows maps the rows of one window of the trigger.
type windowRows struct {
	result  *rowmap.Result // nil: rows stay as they are
	missing []string       // which columns there are not
}

func (s *schedule) begin(columns []Column) *windowRows {
	if s.fields == nil {
		return &windowRows{}
	}
	m := &windowRows{result: s.fields.Begin(rowColumns(columns))}
	m.missing = m.result.Warnings(nil) // before any row these are all
	return m
}

// unmapped is what an event carries of a row: what it is mapped to, and the columns themselves as long as there is room.
func (m *windowRows) unmapped(row rawRow, query map[string]any) (map[string]any, error) {
	if m.result == nil {
		return map[string]any{"row": row, "query": query}, nil
	}
	fields, err := m.result.Row(nil, row)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"row": rawRow(fields), "query": query}
	if len(m.missing) > 0 {
		query["warnings"] = m.missing
	}
	if len(fields)+len(row) < maxRow-pageBytes/16 {
		out["columns"] = row
	}
	return out, nil
}
