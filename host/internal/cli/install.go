package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/internal/depot"
	"github.com/casewire/casewire/host/internal/launch"
)

// The states of a connector in a list.
const (
	stateOK          = "ok"
	stateMissing     = "missing"     // pinned, but its program is not in the store
	stateChanged     = "changed"     // its program is not the one that was pinned
	stateElsewhere   = "elsewhere"   // pinned for other platforms only
	stateUnreachable = "unreachable" // nobody answers at its address
	stateBroken      = "broken"      // it cannot be used for another reason
)

func installer(known *connectors) *depot.Installer {
	return &depot.Installer{Depot: known.depot, Lock: known.lock, Bundled: func(name string) bool {
		_, ok := known.app.Connectors[name]
		return ok
	}}
}

func installCommand(app App, path *string) *cobra.Command {
	var req depot.Request
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "install [FILE | URL]",
		Short: "Approve a connector: store its program and pin its digest in casewire.lock",
		Long: "Stores the program beside the data file, starts it once to learn its name and version, and pins its digest in casewire.lock\n" +
			"beside the configuration, for you to commit. Without an argument it fetches what casewire.lock pins and this machine lacks.",
		Example: "  casewire connectors install ./casewire-connector-hashes\n" +
			"  casewire connectors install https://example.com/hashes-linux-amd64 --sha256 9f86d081…",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := connectorsOf(app, *path)
			if err != nil {
				return Environment(err)
			}
			in := installer(known)
			if len(args) == 0 {
				return fetchAll(cmd.Context(), in, cmd.OutOrStdout(), asJSON)
			}
			req.Source = args[0]
			got, err := in.Install(cmd.Context(), req)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), installedRecord{
					Name: got.Name, Version: got.Version, Was: got.Was, Platform: got.Platform, SHA256: got.SHA256, Bytes: got.Size, Unpinned: got.Dropped,
				})
			}
			sayInstalled(cmd.OutOrStdout(), got, req.SHA256 != "", in.Lock.Path)
			return nil
		},
	}
	cmd.Flags().StringVar(&req.SHA256, "sha256", "", "digest that the program must have; without it, what comes is trusted this once")
	cmd.Flags().BoolVar(&req.Replace, "replace", false, "let it take the place of a bundled connector")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "pin a program for another platform, such as linux/arm64; takes --name")
	cmd.Flags().StringVar(&req.Name, "name", "", "the name that it must have")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type installedRecord struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Was      string   `json:"was,omitempty"`
	Platform string   `json:"platform"`
	SHA256   string   `json:"sha256"`
	Bytes    int64    `json:"bytes"`
	Unpinned []string `json:"unpinned,omitempty"`
}

func sayInstalled(w io.Writer, got depot.Installed, checked bool, lock string) {
	verb := "installed"
	switch {
	case got.Same:
		verb = "it is here already:"
	case got.Was != "":
		verb = "replaced " + got.Was + ":"
	}
	fmt.Fprintf(w, "%s %s %s for %s (%.1f MiB)\nsha256 %s, pinned in %s\n", verb, got.Name, got.Version, got.Platform, float64(got.Size)/(1<<20), got.SHA256, lock)
	if !checked {
		fmt.Fprintln(w, "no --sha256 was given: compare the digest with what its author publishes")
	}
	if got.Was != "" && !got.Same {
		fmt.Fprintln(w, "a host that runs keeps the one that it began with; `casewire connectors remove --unused` deletes it")
	}
	if len(got.Dropped) > 0 {
		fmt.Fprintf(w, "no longer pinned, because they had another version: %s\n", strings.Join(got.Dropped, ", "))
	}
}

// fetchAll brings what the lock file pins and the store lacks.
func fetchAll(ctx context.Context, in *depot.Installer, w io.Writer, asJSON bool) error {
	var errs []error
	fetched := []string{}
	for _, name := range in.Lock.Names() {
		sum, err := in.Lock.Pinned(name, depot.Here())
		if err == nil && in.Depot.Verify(sum) == nil {
			continue
		}
		if err == nil {
			err = in.Fetch(ctx, name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fetched = append(fetched, name)
	}
	if asJSON {
		return errors.Join(append(errs, printJSON(w, map[string]any{"fetched": fetched}))...)
	}
	switch {
	case len(fetched) > 0:
		fmt.Fprintf(w, "fetched %s\n", strings.Join(fetched, ", "))
	case len(errs) == 0 && len(in.Lock.Names()) == 0:
		return Invalid(fmt.Errorf("%s pins nothing; name a file or an address to install", depot.LockName))
	case len(errs) == 0:
		fmt.Fprintln(w, "everything is there")
	}
	return errors.Join(errs...)
}

func removeCommand(app App, path *string) *cobra.Command {
	var unused bool
	cmd := &cobra.Command{
		Use:   "remove NAME | --unused",
		Short: "Take an installed connector out of casewire.lock and out of the store",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := connectorsOf(app, *path)
			if err != nil {
				return Environment(err)
			}
			in := installer(known)
			switch {
			case unused == (len(args) == 1):
				return Invalid(errors.New("name an installed connector, or give --unused"))
			case unused:
				var keep []string
				for _, own := range known.own {
					keep = append(keep, own.SHA256)
				}
				n, err := in.Prune(keep...)
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", count(n, "program"))
				return err
			}
			if _, ok := known.lock.Connectors[args[0]]; !ok {
				return Invalid(fmt.Errorf("%s has no connector %q", known.lock.Path, args[0]))
			}
			if err := in.Remove(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&unused, "unused", false, "delete the programs in the store that neither casewire.lock nor the configuration pins")
	return cmd
}

// listRecord is a connector as list and verify print it.
type listRecord struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Source  string `json:"source"`
	SHA256  string `json:"sha256,omitempty"`
	Address string `json:"address,omitempty"`
	State   string `json:"state"`
	Problem string `json:"problem,omitempty"`
}

func listCommand(app App, path *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List where connectors come from: bundled, installed, files and addresses, and whether they can be used",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known, err := connectorsOf(app, *path)
			if err != nil {
				return Environment(err)
			}
			recs := []listRecord{}
			for _, name := range known.Connectors() {
				recs = append(recs, known.listRecord(name))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]any{"connectors": recs})
			}
			return tableSources(cmd.OutOrStdout(), recs)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listRecord says how a connector is. One that was never described is started once; one at an address is asked.
func (c *connectors) listRecord(name string) listRecord {
	s := c.source(name)
	if s == nil {
		return listRecord{Name: name, State: stateBroken}
	}
	rec := listRecord{Name: name, Version: s.version, Source: s.kind, State: stateOK}
	if s.kind == sourceAddress {
		rec.Address = s.place
	} else {
		rec.SHA256 = s.place
	}
	d, ok := c.Connector(name)
	if ok {
		rec.Version = d.GetVersion()
	}
	err := c.Explain(name)
	if err == nil {
		return rec
	}
	rec.Problem = err.Error()
	switch {
	case errors.Is(err, launch.ErrDigest):
		rec.State = stateChanged
	case errors.Is(err, depot.ErrMissing):
		rec.State = stateMissing
	case errors.Is(err, depot.ErrPlatform):
		rec.State = stateElsewhere
	case s.kind == sourceAddress:
		rec.State = stateUnreachable
	default:
		rec.State = stateBroken
	}
	return rec
}

func tableSources(w io.Writer, recs []listRecord) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVERSION\tSOURCE\tDIGEST OR ADDRESS\tSTATE")
	for _, r := range recs {
		place := cmp.Or(r.Address, fmt.Sprintf("%.12s", r.SHA256))
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, orDash(r.Version), r.Source, orDash(place), r.State)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range recs {
		if r.Problem != "" {
			fmt.Fprintf(w, "\n%s: %s\n", r.Name, r.Problem)
		}
	}
	return nil
}

func verifyCommand(app App, path *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every pinned program again and compare its digest; exit 1 if any is not the one that was approved",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known, err := connectorsOf(app, *path)
			if err != nil {
				return Environment(err)
			}
			recs := []listRecord{}
			var bad []string
			for _, name := range known.Connectors() {
				rec, pinned := known.verify(name)
				if !pinned {
					continue
				}
				recs = append(recs, rec)
				if rec.State != stateOK {
					bad = append(bad, name)
				}
			}
			w := cmd.OutOrStdout()
			switch {
			case asJSON:
				err = printJSON(w, map[string]any{"connectors": recs})
			case len(recs) == 0:
				fmt.Fprintln(w, "no connector is pinned: all are bundled, or at addresses")
			default:
				err = tableSources(w, recs)
			}
			if err == nil && len(bad) > 0 {
				err = fmt.Errorf("not as approved: %s", strings.Join(bad, ", "))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// verify reads what a connector's digest pins; false if nothing does. It starts nothing.
func (c *connectors) verify(name string) (listRecord, bool) {
	rec := listRecord{Name: name, State: stateOK}
	own, isOwn := c.own[name]
	entry, isInstalled := c.lock.Connectors[name]
	var err error
	switch {
	case isOwn && own.File != "":
		rec.Source, rec.SHA256 = sourceFile, own.SHA256
		var sum string
		if sum, err = depot.Sum(own.File); err == nil && sum != own.SHA256 {
			err = fmt.Errorf("%s: %w (it is %s)", own.File, launch.ErrDigest, sum)
		}
	case isOwn || !isInstalled:
		return rec, false
	default:
		rec.Source, rec.Version = sourceInstalled, entry.Version
		if rec.SHA256, err = c.lock.Pinned(name, depot.Here()); err == nil {
			err = c.depot.Verify(rec.SHA256)
		}
	}
	switch {
	case err == nil:
		return rec, true
	case errors.Is(err, launch.ErrDigest):
		rec.State = stateChanged
	case errors.Is(err, depot.ErrMissing):
		rec.State = stateMissing
	case errors.Is(err, depot.ErrPlatform):
		rec.State = stateElsewhere
	default:
		rec.State = stateBroken
	}
	rec.Problem = err.Error()
	return rec, true
}
