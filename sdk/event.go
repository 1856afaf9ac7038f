package sdk

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/event"
)

// RowEvent makes an event of type event.TypeRow of any object of a source, which flows see as row.NAME. Source is an
// absolute URI that names the system, such as the configured base URL; subject identifies the object in it; at is when the
// object was last changed; product names the system for people; row is a struct or map, written as an object.
//
// The same object at the same time makes the same event, however often and wherever it is made, and is taken once; a later
// one, or one that differs, is news of the same object. Subjects that differ in case only are one object. Leave out of row what changes without meaning anything.
func RowEvent(source, subject string, at time.Time, product string, row any) (Event, error) {
	raw, err := json.Marshal(row)
	if err != nil {
		return Event{}, fmt.Errorf("event of %s: %w", subject, err)
	}
	if len(raw) == 0 || raw[0] != '{' {
		return Event{}, fmt.Errorf("event of %s: a row is an object with named properties, not %T", subject, row)
	}
	e := Event{
		Source: source, Type: event.TypeRow, Subject: subject, Time: at, PartitionKey: strings.ToLower(source + "/" + subject),
		Digest: event.Digest(json.RawMessage(raw)),
	}
	e.Seal()
	e.Data, err = json.Marshal(map[string]any{
		"class_uid": 0, "category_uid": 0, "activity_id": 0, "type_uid": 0, "severity_id": 0, "time": e.Time.UnixMilli(),
		"metadata": map[string]any{
			"version": event.DataVersion, "uid": e.ID, "product": map[string]any{"name": product, "vendor_name": product},
		},
		"message": subject, "unmapped": map[string]any{"row": json.RawMessage(raw)},
	})
	return e, err
}
