// Package rowmap puts the columns of a query's rows under names of fields: those of a bundled map, or those that the
// caller chose. A column that is not there is null and a warning, and costs nothing else.
package rowmap

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/sdk"
)

const (
	maxFields = 200
	maxPath   = 256
)

// Column is a column of a result.
type Column struct{ Name, Type string }

// Map says which field takes which column.
type Map struct {
	preset string
	fields []field
	root   *node
}

// field is one field, and where its value comes from.
type field struct {
	name    string // "src_endpoint.ip"
	from    string // "SourceIpAddress", or "AdditionalEventData.MFAUsed": a value inside a column
	bundled bool   // by the bundled map, not by the caller
	typ     string // of the field, if it is converted
	convert func(jsontext.Value) jsontext.Value
}

// node is a part of the object that a row becomes.
type node struct {
	name  string
	field int // of a leaf; -1: it has children
	under []*node
}

var fieldName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,7}$`)
})

// New makes a map of a bundled one ("" and None: none) and of fields with their columns, which add to it and go before it.
// It is nil if there is nothing to map. An error is a violation of the input properties map and normalize.
func New(preset string, fields map[string]string) (*Map, error) {
	if preset == None {
		preset = ""
	}
	if preset == "" && len(fields) == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	m := &Map{preset: preset, root: &node{field: -1}}
	if preset != "" {
		bundled, ok := presets()[preset]
		if !ok {
			return nil, sdk.Invalid("normalize", "there is no bundled map %.80q; there are %s", preset, strings.Join(Presets(), ", "))
		}
		m.fields = slices.Clone(bundled)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		from := fields[name]
		at := "/map/" + pointer.Replace(name)
		switch {
		case len(name) > maxPath || !fieldName().MatchString(name):
			return nil, sdk.Invalid(at, "%.80q is no name of a field: write words of letters, digits and _, with dots between where a field is inside another, such as src_endpoint.ip", name)
		case from == "" || len(from) > maxPath:
			return nil, sdk.Invalid(at, "must name the column, such as SourceIpAddress, or a value inside a column, such as AdditionalEventData.MFAUsed")
		}
		f := field{name: name, from: from}
		if i := slices.IndexFunc(m.fields, func(f field) bool { return f.name == name }); i >= 0 {
			m.fields[i] = f
		} else {
			m.fields = append(m.fields, f)
		}
	}
	if len(m.fields) > maxFields {
		return nil, sdk.Invalid("map", "has %d fields; %d are the most", len(m.fields), maxFields)
	}
	for i, f := range m.fields {
		if other := m.root.put(strings.Split(f.name, "."), i); other != "" {
			return nil, sdk.Invalid("map", "the field %s cannot be a value and have fields inside it, such as %s, at the same time", other, longer(m.fields, other))
		}
	}
	return m, nil
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// longer finds a field inside another.
func longer(fields []field, name string) string {
	for _, f := range fields {
		if strings.HasPrefix(f.name, name+".") {
			return f.name
		}
	}
	return name
}

// put adds a leaf, or returns the name that is taken.
func (n *node) put(path []string, at int) string {
	for i, name := range path {
		leaf := i == len(path)-1
		k := slices.IndexFunc(n.under, func(c *node) bool { return c.name == name })
		switch {
		case k < 0:
			c := &node{name: name, field: -1}
			if leaf {
				c.field = at
			}
			n.under = append(n.under, c)
			n = c
		case leaf || n.under[k].field >= 0:
			return strings.Join(path[:i+1], ".")
		default:
			n = n.under[k]
		}
	}
	return ""
}

// Result maps the rows of one result.
type Result struct {
	m      *Map
	bound  map[string][]source // by column
	inside []bool              // by field: it is a value inside a column that was found
	known  []Column
	rows   int
	met    []int // by field: rows that have a value inside the column
	cells  []jsontext.Value
	in     *jsontext.Decoder
	reader bytes.Reader
	text   []byte
}

// source is a field that takes a column, or a value inside it.
type source struct {
	field int
	path  []string
}

// Begin maps a result whose columns are known, or nil: those of its first row.
func (m *Map) Begin(columns []Column) *Result {
	r := &Result{m: m, met: make([]int, len(m.fields)), inside: make([]bool, len(m.fields)), cells: make([]jsontext.Value, len(m.fields))}
	if columns != nil {
		r.bind(columns)
	}
	return r
}

// bind finds the columns of the fields. A column may have dots in its name itself.
func (r *Result) bind(columns []Column) {
	r.known, r.bound = columns, make(map[string][]source, len(columns))
	has := make(map[string]bool, len(columns))
	for _, c := range columns {
		has[c.Name] = true
	}
	for i, f := range r.m.fields {
		column, path := f.from, []string(nil)
		if !has[column] {
			first, rest, ok := strings.Cut(f.from, ".")
			if !ok || !has[first] {
				continue
			}
			column, path = first, strings.Split(rest, ".")
			r.inside[i] = true
		}
		r.bound[column] = append(r.bound[column], source{i, path})
	}
}

// Row appends what becomes of a row, which is a JSON object.
func (r *Result) Row(dst, row []byte) ([]byte, error) {
	if r.bound == nil {
		columns, err := columnsOf(row)
		if err != nil {
			return dst, err
		}
		r.bind(columns)
	}
	clear(r.cells)
	r.reader.Reset(row)
	if r.in == nil {
		r.in = jsontext.NewDecoder(&r.reader, jsontext.AllowDuplicateNames(true))
	} else {
		r.in.Reset(&r.reader, jsontext.AllowDuplicateNames(true))
	}
	if _, err := r.in.ReadToken(); err != nil {
		return dst, fmt.Errorf("a row is no JSON object: %w", err)
	}
	r.text = r.text[:0]
	for r.in.PeekKind() == '"' {
		t, err := r.in.ReadToken()
		if err != nil {
			return dst, err
		}
		sources := r.bound[t.String()]
		if len(sources) == 0 {
			if err := r.in.SkipValue(); err != nil {
				return dst, err
			}
			continue
		}
		v, err := r.in.ReadValue()
		if err != nil {
			return dst, err
		}
		begin := len(r.text) // the decoder uses its memory again
		r.text = append(r.text, v...)
		cell := jsontext.Value(r.text[begin:])
		for _, s := range sources {
			r.take(s, cell)
		}
	}
	if _, err := r.in.ReadToken(); err != nil {
		return dst, fmt.Errorf("a row ends in the middle: %w", err)
	}
	r.rows++
	return r.write(dst, r.m.root), nil
}

// take gives a field its value.
func (r *Result) take(s source, cell jsontext.Value) {
	v := cell
	if len(s.path) > 0 {
		var ok bool
		if v, ok = inside(cell, s.path); !ok {
			return
		}
		r.met[s.field]++
	}
	if f := &r.m.fields[s.field]; f.convert != nil {
		v = f.convert(v)
	}
	r.cells[s.field] = v
}

func (r *Result) write(dst []byte, n *node) []byte {
	if n.field >= 0 {
		if v := r.cells[n.field]; len(v) > 0 {
			return append(dst, v...)
		}
		return append(dst, "null"...)
	}
	dst = append(dst, '{')
	for i, c := range n.under {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, c.name...)
		dst = append(dst, '"', ':')
		dst = r.write(dst, c)
	}
	return append(dst, '}')
}

func columnsOf(row []byte) ([]Column, error) {
	d := jsontext.NewDecoder(bytes.NewReader(row), jsontext.AllowDuplicateNames(true))
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("a row is no JSON object: %w", err)
	}
	columns := []Column{}
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		columns = append(columns, Column{Name: t.String()})
		if err := d.SkipValue(); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

// inside finds a value in a cell, which may be JSON or a text that holds JSON. Lists are entered by number.
func inside(v jsontext.Value, path []string) (jsontext.Value, bool) {
	if v.Kind() == '"' {
		text, err := jsontext.AppendUnquote(nil, v)
		if err != nil {
			return nil, false
		}
		v = jsontext.Value(bytes.TrimSpace(text))
		if len(v) == 0 || v[0] != '{' && v[0] != '[' || !v.IsValid(jsontext.AllowDuplicateNames(true)) || v.Compact(jsontext.AllowDuplicateNames(true)) != nil {
			return nil, false
		}
	}
	for _, name := range path {
		d := jsontext.NewDecoder(bytes.NewReader(v), jsontext.AllowDuplicateNames(true))
		t, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		var next jsontext.Value
		switch t.Kind() {
		case '{':
			next = member(d, name)
		case '[':
			next = item(d, name)
		}
		if next == nil {
			return nil, false
		}
		v = next
	}
	return v, true
}

func member(d *jsontext.Decoder, name string) jsontext.Value {
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil
		}
		this := t.String() == name
		v, err := d.ReadValue()
		if err != nil {
			return nil
		}
		if this {
			return v.Clone()
		}
	}
	return nil
}

func item(d *jsontext.Decoder, name string) jsontext.Value {
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 {
		return nil
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		v, err := d.ReadValue()
		if err != nil {
			return nil
		}
		if i == n {
			return v.Clone()
		}
	}
	return nil
}
