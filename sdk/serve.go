package sdk

import (
	"log/slog"
	"os"

	"github.com/casewire/casewire/plugin"
)

// Serve runs the connector as a go-plugin process until the host lets go of it, and exits the process. Logs reach the
// host, by Env.Logger or the default logger of log/slog: Serve makes it write JSON lines to the standard error.
func Serve(c *Connector) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	s := newServer(c)
	plugin.Serve(s, plugin.ServeOptions{OnExit: s.closeAll})
}
