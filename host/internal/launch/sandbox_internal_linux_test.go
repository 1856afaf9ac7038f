package launch

import (
	"os/exec"
	"strings"
	"testing"
)

// An old kernel: auto goes on and says what is missing, strict refuses before anything is done.
func TestStrictRefusesWhatCannotBeEnforced(t *testing.T) {
	t.Parallel()
	for abi, want := range map[int]string{0: "no Landlock", 3: "TCP ports"} {
		e, err := (confinement{sandbox: Sandbox{Mode: SandboxStrict}}).enter(abi)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "strict") || e.Files || e.Privileges {
			t.Errorf("Landlock %d: %+v, %v", abi, e, err)
		}
	}
	// A program that cannot be granted cannot be confined either.
	c := confinement{sandbox: Sandbox{Mode: SandboxStrict}, exe: "/nonexistent", dir: t.TempDir()}
	if landlockABI() < abiNet {
		t.Skip("no Landlock with ports here")
	}
	over := make(chan struct{})
	defer close(over)
	if _, err := c.startConfined(exec.Command("/bin/true"), over, over); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("got %v", err)
	}
}

func TestGrantsCover(t *testing.T) {
	t.Parallel()
	g := Grants{Files: []string{"/a", "/b"}, Ports: []uint16{443, 8080}}
	if !g.Covers(Grants{Files: []string{"/b"}, Ports: []uint16{443}}) || !g.Covers(Grants{}) {
		t.Error("a part is not covered")
	}
	if g.Covers(Grants{Files: []string{"/c"}}) || g.Covers(Grants{Ports: []uint16{1}}) {
		t.Error("more is covered")
	}
}

func TestHardMemory(t *testing.T) {
	t.Parallel()
	for in, want := range map[int64]int64{0: 0, 64: 320, 256: 512, 512: 1024} {
		if got := (Limits{Memory: in << 20}).HardMemory(); got != want<<20 {
			t.Errorf("%d MiB: %d MiB", in, got>>20)
		}
	}
}
