package sdk

import (
	"log/slog"
	"os"

	"github.com/casewire/casewire/plugin"
)

// Serve runs the connector as a go-plugin process until the host lets go of it, and exits the process. Logs reach the
// host, by Env.Logger or the default logger of log/slog: Serve makes it write JSON lines to the standard error.
//
// With the argument --listen ADDR it serves at an address instead, which is how a connector runs in a container or under a
// debugger: see ServeAddress. There --tls-ca, --tls-cert and --tls-key name the files of ListenOptions.
func Serve(c *Connector) {
	if l, ok := listenArgs(os.Args[1:]); ok {
		os.Exit(serveListening(c, l, os.Stderr))
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	s := newServer(c)
	plugin.Serve(s, plugin.ServeOptions{OnExit: s.closeAll})
}
