package cli

import (
	"strings"
	"testing"

	"github.com/casewire/casewire/host/httpapi"
)

// What vendors and attackers say cannot move the cursor, colour the terminal or turn the text around.
func TestTablesArePlain(t *testing.T) {
	t.Parallel()
	evil := "a\x1b[2Jb\r\u009bc\u202ed\ne"
	var out strings.Builder
	if err := tableRuns(&out, []httpapi.RunRecord{{ID: "r1", Object: evil, Reason: evil}}); err != nil {
		t.Fatal(err)
	}
	if err := showRun(&out, httpapi.RunRecord{ID: "r1", Reason: evil, Object: evil, Steps: []httpapi.StepRecord{{Path: "s", Error: evil}}}); err != nil {
		t.Fatal(err)
	}
	letter := httpapi.DeadLetterRecord{ID: "d1", Subject: evil, Reason: evil, Raw: evil}
	if err := tableDeadLetters(&out, []httpapi.DeadLetterRecord{letter}); err != nil {
		t.Fatal(err)
	}
	if err := showDeadLetter(&out, letter); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\r\u009b\u202e") {
		t.Errorf("%q", out.String())
	}
	if n := strings.Count(out.String(), "[2Jb"); n != 10 {
		t.Errorf("the text itself is there %d times in %q", n, out.String())
	}
}
