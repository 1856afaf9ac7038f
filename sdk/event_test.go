package sdk_test

import (
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/sdk"
)

func TestRowEvent(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678999999, time.UTC)
	row := func(score int) sdk.Event {
		e, err := sdk.RowEvent("https://box.example", "Host-1", at, "Box", map[string]any{"score": score, "name": "ü <x>"})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Check(); err != nil {
			t.Error(err)
		}
		return e
	}
	a, again, b := row(1), row(1), row(2)
	if a.ID != again.ID || string(a.Data) != string(again.Data) || a.ID == b.ID || a.PartitionKey != b.PartitionKey {
		t.Errorf("got %+v, %+v, %+v", a, again, b)
	}
	if a.Rev != "001767323045678" || !strings.Contains(string(a.Data), `"row":{`) || a.PartitionKey != "https://box.example/host-1" {
		t.Errorf("got %+v: %s", a, a.Data)
	}
	for _, bad := range []any{[]int{1}, nil, func() {}} {
		if _, err := sdk.RowEvent("https://box.example", "x", at, "Box", bad); err == nil {
			t.Errorf("%T was taken", bad)
		}
	}
}
