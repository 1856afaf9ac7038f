package event_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/casewire/casewire/plugin/event"
)

// TestContractNegatives: events with one fault each, if they lie next to the repository. Check is not the whole schema;
// these faults it must find.
func TestContractNegatives(t *testing.T) {
	t.Parallel()
	mine := map[string]bool{
		"severity_id outside the enum": true, "type_uid does not match activity_id": true, "class_uid of another class": true,
		"required metadata.version missing": true, "timestamp as text": true, "incident without finding_info_list": true,
		"envelope: id not derived": true, "envelope: data of another type": true, "envelope: no partitionkey": true,
	}
	var list []struct {
		Fault string          `json:"fault"`
		Event json.RawMessage `json:"event"`
	}
	for _, up := range []string{"../../..", "../../../.."} {
		b, err := os.ReadFile(filepath.Join(up, "shared", "contracts", "events", "samples", "negative.json"))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatal(err)
		}
	}
	if len(list) == 0 {
		t.Skip("NOT CHECKED: ../shared/contracts/events does not lie next to the repository")
	}
	n := 0
	for _, c := range list {
		ev, err := event.ParseCloudEvent(c.Event)
		if err == nil {
			err = ev.Check()
		}
		if mine[c.Fault] {
			n++
			if err == nil {
				t.Errorf("%s: accepted", c.Fault)
			}
		}
	}
	if n != len(mine) {
		t.Errorf("%d of %d faults seen", n, len(mine))
	}
}
