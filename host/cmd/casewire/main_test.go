package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// The test binary plays casewire under that name: hosts and connectors that the scripts start are processes of their own,
// started as users start them.
func TestMain(m *testing.M) {
	// A host starts its connectors from the open file of its program, so that they do not go by that name.
	if len(os.Args) == 3 && os.Args[1] == "connector" {
		main()
		return
	}
	// A copy of it that scripts install is somebody else's connector; it goes by whatever name it is started under.
	if len(os.Args) == 1 && os.Getenv(plugin.Handshake().MagicCookieKey) != "" {
		clock()
	}
	if err := os.Setenv("GORACE", atEnd()); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"casewire": main, "clock": clock})
}

// atEnd are the options of the race detector for what the tests start: by default every process that ends waits a
// second for other reports, and the tests end hundreds of them.
func atEnd() string {
	if given := os.Getenv("GORACE"); given != "" {
		return given
	}
	return "atexit_sleep_ms=0"
}

// clock is a connector that Casewire does not bundle.
func clock() {
	type none struct{}
	type answer struct {
		Time time.Time `json:"time"`
	}
	c := sdk.New("clock", "1.0.0", "Says what the time is.", func(context.Context, none, sdk.Env) (none, error) { return none{}, nil })
	sdk.Action(c, "time.now", "Say the time.", func(none, context.Context, none) (answer, error) { return answer{time.Now()}, nil }, sdk.Read)
	sdk.Serve(c)
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

// goCaches are where go keeps what it has: scripts build without a network.
var goCaches = sync.OnceValue(func() map[string]string {
	caches := map[string]string{}
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		if out, err := exec.Command("go", "env", name).Output(); err == nil {
			caches[name] = strings.TrimSpace(string(out))
		}
	}
	return caches
})

func setUp(env *testscript.Env) error {
	s := &script{tables: map[string]bool{}}
	env.Values[scriptKey{}] = s
	env.Defer(s.close)
	// Nothing of the machine that could make a difference, and time stamps that do not depend on it.
	env.Vars = slices.DeleteFunc(env.Vars, func(v string) bool { return strings.HasPrefix(strings.ToLower(v), "http") })
	env.Setenv("TZ", "UTC")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env.Setenv("SELF", self)
	checkout, err := filepath.Abs("../../..")
	if err != nil {
		return err
	}
	env.Setenv("CHECKOUT", checkout)
	for name, value := range goCaches() {
		env.Setenv(name, value)
	}
	env.Setenv("NO_PROXY", "127.0.0.1")
	env.Setenv("GORACE", atEnd())
	return nil
}
