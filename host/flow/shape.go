package flow

import (
	"maps"
	"slices"
	"strings"

	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/host/internal/yamldoc"
)

// shaped gives the rows of an output the fields that the input chooses for them, as far as the flow says which these are.
func shaped(t *typ, output *schema.Schema, with *yamldoc.Node, step string) *typ {
	if output == nil || t.kind != kObject || output.Properties["rows"] == nil || output.Properties["rows"].Shape == nil {
		return t
	}
	row := rowType(output.Properties["rows"].Shape, with, "a row of "+step)
	if row == nil {
		return t
	}
	c := *t
	c.fields = maps.Clone(t.fields)
	c.fields["rows"] = listOf(row)
	return &c
}

// rowType is nil when it is known only later what the rows have.
func rowType(shape *schema.Shape, with *yamldoc.Node, name string) *typ {
	if with == nil || with.Kind != yamldoc.Map {
		return nil
	}
	var fields []string
	if n := with.Get(shape.Preset); shape.Preset != "" && n != nil && !n.IsNull() {
		if !n.IsString() || strings.Contains(n.Text, exprOpen) {
			return nil
		}
		fields = slices.Clone(shape.Presets[n.Text])
	}
	if n := with.Get(shape.Map); n != nil && !n.IsNull() {
		if n.Kind != yamldoc.Map {
			return nil
		}
		for _, e := range n.Entries {
			fields = append(fields, e.Key)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	t := &typ{kind: kObject, fields: map[string]*typ{}, name: name}
	for _, f := range fields {
		at, path := t, strings.Split(f, ".")
		for _, part := range path[:len(path)-1] {
			next := at.fields[part]
			if next == nil || next.kind != kObject {
				next = &typ{kind: kObject, fields: map[string]*typ{}, name: part + " of " + name}
				at.fields[part] = next
			}
			at = next
		}
		if last := path[len(path)-1]; at.fields[last] == nil {
			at.fields[last] = tAny
		}
	}
	return t
}
