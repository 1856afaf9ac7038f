package main

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary plays casewire under that name: hosts and connectors that the scripts start are processes of their own,
// started as users start them.
func TestMain(m *testing.M) {
	// A host starts its connectors from the open file of its program, so that they do not go by that name.
	if len(os.Args) == 3 && os.Args[1] == "connector" {
		main()
		return
	}
	testscript.Main(m, map[string]func(){"casewire": main})
}

// TestScript runs testdata/script, which uses the binary as people and programs do. See script_test.go for the commands
// that play the vendors.
func TestScript(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds:                commands,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "proc":
				return runtime.GOOS == "linux", nil
			}
			return false, nil
		},
	})
}

func setUp(env *testscript.Env) error {
	s := &script{}
	env.Values[scriptKey{}] = s
	env.Defer(s.close)
	// Nothing of the machine that could make a difference, and time stamps that do not depend on it.
	env.Vars = slices.DeleteFunc(env.Vars, func(v string) bool { return strings.HasPrefix(strings.ToLower(v), "http") })
	env.Setenv("TZ", "UTC")
	env.Setenv("NO_PROXY", "127.0.0.1")
	return nil
}
