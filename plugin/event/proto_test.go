package event_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
)

// Every field of Event is given a value by reflection, so that a field that is added later and forgotten in ToProto or
// FromProto fails the test.
func TestProtoKeepsEveryField(t *testing.T) {
	t.Parallel()
	var e event.Event
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString("value of " + name)
		case []string:
			f.Set(reflect.ValueOf([]string{"one", "two"}))
		case time.Time:
			f.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)))
		default:
			f.SetBytes([]byte(`{"a":1}`))
		}
	}
	p := event.ToProto(e)
	if diff := cmp.Diff(e, event.FromProto(p)); diff != "" {
		t.Error(diff)
	}
	m := p.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		if fd := m.Descriptor().Fields().Get(i); !m.Has(fd) {
			t.Errorf("%s is not set", fd.Name())
		}
	}
	if diff := cmp.Diff(event.Event{}, event.FromProto(event.ToProto(event.Event{}))); diff != "" {
		t.Errorf("the zero event: %s", diff)
	}
	if diff := cmp.Diff(event.Event{}, event.FromProto((*connectorv1.Event)(nil))); diff != "" {
		t.Errorf("nil: %s", diff)
	}
}
