package sdk

import (
	"strings"
	"testing"
)

func TestListenArgs(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		addr, ca, key string
		ok, bad       bool
	}{
		"":                       {},
		"connector jira":         {},
		"--verbose":              {},
		"listen unix:///x":       {},
		"--listen unix:///x":     {addr: "unix:///x", ok: true},
		"-listen=tcp://x:1":      {addr: "tcp://x:1", ok: true},
		"a --b --listen=u c":     {addr: "u", ok: true},
		"--tls-ca a --listen u":  {addr: "u", ca: "a", ok: true},
		"--listen u --tls-key=k": {addr: "u", key: "k", ok: true},
		"--listen":               {ok: true, bad: true},
		"--tls-ca a":             {ca: "a"},
	} {
		l, ok := listenArgs(strings.Fields(args))
		if ok != want.ok || (l.err != nil) != want.bad || l.addr != want.addr || l.opts.CA != want.ca || l.opts.Key != want.key {
			t.Errorf("%q: got %+v, %t", args, l, ok)
		}
	}
}
