package rowmap_test

import (
	"os"
	"strings"
	"testing"

	"github.com/casewire/casewire/connectors/internal/rowmap"
)

// The README tells every bundled map, with every field.
func TestPresetsAreDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	for preset, fields := range rowmap.Fields() {
		if !strings.Contains(readme, "`normalize: "+preset+"`") {
			t.Errorf("the README does not have the bundled map %s", preset)
		}
		for _, f := range fields {
			if !strings.Contains(readme, "`"+f+"`") {
				t.Errorf("the README does not have %s's field %s", preset, f)
			}
		}
	}
}
