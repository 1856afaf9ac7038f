package schema

import (
	"reflect"

	"github.com/casewire/casewire/plugin"
)

// Secrets returns the values of every Secret in v, a decoded value of the plan's type. They are what must not appear in
// an error.
func (p *Plan) Secrets(v any) []string {
	var found []string
	gather(p.root, reflect.ValueOf(v), &found)
	return found
}

func gather(n *node, v reflect.Value, found *[]string) {
	switch n.kind {
	case kindSecret:
		if s, ok := reflect.TypeAssert[plugin.Secret](v); ok && !s.IsZero() {
			*found = append(*found, s.Reveal())
		}
	case kindPtr:
		if !v.IsNil() {
			gather(n.elem, v.Elem(), found)
		}
	case kindList:
		for i := range v.Len() {
			gather(n.elem, v.Index(i), found)
		}
	case kindMap:
		for _, k := range v.MapKeys() {
			gather(n.elem, v.MapIndex(k), found)
		}
	case kindObject:
		for i := range n.fields {
			gather(n.fields[i].node, v.FieldByIndex(n.fields[i].path), found)
		}
	default:
	}
}
