package rowmap

import (
	"fmt"
	"slices"
	"strings"
)

// Columns are the columns that the mapped rows have: the outermost fields, in order. Those with fields inside them are
// dynamic.
func (r *Result) Columns() []Column {
	types := map[string]string{}
	for _, c := range r.known {
		types[c.Name] = c.Type
	}
	out := make([]Column, len(r.m.root.under))
	for i, n := range r.m.root.under {
		out[i] = Column{n.name, "dynamic"}
		if n.field < 0 {
			continue
		}
		f := &r.m.fields[n.field]
		if f.typ != "" {
			out[i].Type = f.typ
		} else if t, ok := types[f.from]; ok && t != "" {
			out[i].Type = t
		}
	}
	return out
}

// Warnings say what is null in all rows, and why. Columns are those of the result; nil: those that are known.
func (r *Result) Warnings(columns []Column) []string {
	if columns != nil {
		r.known = columns
		if r.bound == nil { // there was no row
			r.bind(columns)
		}
	}
	warnings := []string{}
	if r.bound == nil {
		return warnings
	}
	bound := make([]bool, len(r.m.fields))
	for _, sources := range r.bound {
		for _, s := range sources {
			bound[s.field] = true
		}
	}
	var missing, empty []string // of the bundled map
	for i, f := range r.m.fields {
		switch {
		case !bound[i] && f.bundled:
			missing = append(missing, fmt.Sprintf("%s (%s)", f.name, f.from))
		case !bound[i]:
			warnings = append(warnings, fmt.Sprintf("map: the result has no column %s%s; %s is null", first(f.from), r.alike(first(f.from)), f.name))
		case !r.inside[i] || r.rows == 0 || r.met[i] > 0:
		case f.bundled:
			empty = append(empty, fmt.Sprintf("%s (%s)", f.name, f.from))
		default:
			warnings = append(warnings, fmt.Sprintf("map: %s is in no row; %s is null", f.from, f.name))
		}
	}
	if len(missing) > 0 {
		warnings = append(warnings, fmt.Sprintf("normalize %s: the result has no columns for %s: null", r.m.preset, strings.Join(missing, ", ")))
	}
	if len(empty) > 0 {
		warnings = append(warnings, fmt.Sprintf("normalize %s: no row has a value for %s: null", r.m.preset, strings.Join(empty, ", ")))
	}
	return warnings
}

func first(from string) string {
	column, _, _ := strings.Cut(from, ".")
	return column
}

// alike finds the column that was meant, or tells which there are.
func (r *Result) alike(name string) string {
	if i := slices.IndexFunc(r.known, func(c Column) bool { return strings.EqualFold(c.Name, name) }); i >= 0 {
		return fmt.Sprintf(" (names count by case: there is %s)", r.known[i].Name)
	}
	names := make([]string, 0, 12)
	for _, c := range r.known {
		if len(names) == 12 {
			names = append(names, "…")
			break
		}
		names = append(names, c.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return " (there are " + strings.Join(names, ", ") + ")"
}
