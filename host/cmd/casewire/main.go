// Command casewire turns each Microsoft Sentinel alert into exactly one case.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/connectors/bundle"
	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/cmd/casewire/internal/bench"
	"github.com/casewire/casewire/host/cmd/casewire/internal/demo"
	"github.com/casewire/casewire/host/cmd/casewire/internal/indicators"
	"github.com/casewire/casewire/host/cmd/casewire/internal/judge"
	"github.com/casewire/casewire/host/cmd/casewire/internal/scaffold"
	"github.com/casewire/casewire/host/cmd/casewire/internal/torture"
	"github.com/casewire/casewire/host/internal/cli"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

var version = "dev"

func main() {
	// A connector process is this binary again; it must be up in milliseconds, so nothing of the command line is built.
	if len(os.Args) >= 3 {
		switch {
		case os.Args[1] == "connector" && os.Args[2] == bench.EchoName:
			sdk.Serve(bench.Echo())
		case os.Args[1] == "connector":
			// With --listen ADDR behind the name it serves there: see sdk.Serve.
			if c, ok := bundle.New(os.Args[2]); ok && (len(os.Args) == 3 || strings.HasPrefix(os.Args[3], "--listen")) {
				sdk.Serve(c)
			}
		case os.Args[1] == bench.RawName && len(os.Args) == 3:
			if err := bench.ServeRaw(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	app := cli.App{
		Version:    version,
		Connectors: connectors(),
	}
	app.Commands = []*cobra.Command{
		demo.Command(), torture.Command(), bench.Command(), connectorCommand(), indicators.Command(func() cli.App { return app }),
	}
	os.Exit(cli.Main(app, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// connectors starts each bundled connector as this executable in a process of its own, and describes it without one.
func connectors() map[string]host.Connector {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	out := map[string]host.Connector{}
	for _, name := range bundle.Names() {
		out[name] = host.ExecConnector(self, []string{"connector", name}, sync.OnceValues(func() (*connectorv1.DescribeResponse, error) {
			c, _ := bundle.New(name)
			return sdk.Server(c).Describe(context.Background(), &connectorv1.DescribeRequest{})
		}))
	}
	return out
}

func connectorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "connector NAME [--listen ADDR]",
		Short: "Serve a bundled connector to a host (hosts do this by themselves), or at an address",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return cli.Invalid(fmt.Errorf("there is no connector %q; bundled are %s", args[0], strings.Join(bundle.Names(), ", ")))
		},
	}
	cmd.AddCommand(cli.ConformanceCommand(judge.Subject), scaffold.Command(version))
	return cmd
}
