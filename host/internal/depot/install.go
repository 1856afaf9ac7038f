package depot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// Installer approves connectors: it fetches a program, asks it what it is, and pins it in the lock file.
type Installer struct {
	Depot *Depot
	Lock  *Lock
	// Bundled says whether the binary brings a connector of that name.
	Bundled func(name string) bool
	// Client fetches; nil is one that follows redirects to safe addresses only.
	Client *http.Client
	// MaxSize in bytes; zero means MaxSize.
	MaxSize int64
}

// Request is one installation.
type Request struct {
	// Source is a path or an address.
	Source string
	// SHA256 is the digest that the program must have; empty trusts what comes, once.
	SHA256 string
	// Replace lets it take the place of a bundled connector.
	Replace bool
	// Platform that the program is for, if it is another one than Here. It cannot be asked what it is then: it must be
	// installed already, by the Name given, and counts as the same version.
	Platform, Name string
}

// Installed says what was approved.
type Installed struct {
	Name     string
	Version  string
	Was      string // version before; empty if it is new
	Same     bool   // it was this very program before
	SHA256   string
	Platform string
	Size     int64
	// Dropped are platforms that were pinned to another version and no longer are.
	Dropped []string
}

// Install fetches, checks, describes and pins a connector. On any error nothing has changed. What it replaces stays in the
// depot, for a host that runs with it: see Prune.
func (in *Installer) Install(ctx context.Context, req Request) (Installed, error) {
	got := Installed{Platform: req.Platform}
	if got.Platform == "" {
		got.Platform = Here()
	}
	foreign := got.Platform != Here()
	switch {
	case req.SHA256 != "" && !isDigest(strings.ToLower(req.SHA256)):
		return got, fmt.Errorf("%.80q is no SHA-256: it has 64 hex digits", req.SHA256)
	case !platformRule.MatchString(got.Platform):
		return got, fmt.Errorf("%.80q is no platform such as linux/amd64", got.Platform)
	case foreign && in.Lock.Connectors[req.Name].Platforms[Here()].SHA256 == "":
		return got, fmt.Errorf("a program for %s cannot be asked here what it is; install the one for %s first, then this one with --name", got.Platform, Here())
	}
	body, err := in.open(ctx, req.Source, req.SHA256 != "")
	if err != nil {
		return got, fmt.Errorf("install %s: %w", show(req.Source), err)
	}
	defer body.Close()
	limit := in.MaxSize
	if limit <= 0 {
		limit = MaxSize
	}
	sum, err := in.Depot.Put(&counting{body, &got.Size}, limit, func(path, sum string) error {
		if req.SHA256 != "" && !strings.EqualFold(sum, req.SHA256) {
			return fmt.Errorf("its digest is %s, not %s: it is not the program that was meant, or its download was altered", sum, strings.ToLower(req.SHA256))
		}
		return CheckProgram(path, got.Platform)
	})
	if err == nil {
		got.SHA256 = sum
		err = in.pin(ctx, req, &got, foreign)
		if err != nil && !in.Lock.uses(sum) {
			err = errors.Join(err, in.Depot.Remove(sum))
		}
	}
	if err != nil {
		return got, fmt.Errorf("install %s: %w", show(req.Source), err)
	}
	return got, nil
}

// pin asks a stored program what it is and writes the lock file.
func (in *Installer) pin(ctx context.Context, req Request, got *Installed, foreign bool) error {
	if foreign {
		e := in.Lock.Connectors[req.Name]
		got.Name, got.Version, got.Was = req.Name, e.Version, e.Version
	} else {
		if err := in.Depot.noteInterpreter(got.SHA256); err != nil {
			return err
		}
		resp, err := in.describe(ctx, req.Name, got.SHA256)
		if err != nil {
			return err
		}
		got.Name, got.Version = resp.GetName(), resp.GetVersion()
	}
	old, had := in.Lock.Connectors[got.Name]
	if in.Bundled != nil && in.Bundled(got.Name) && !req.Replace && !old.ReplacesBundled {
		return fmt.Errorf("it calls itself %q, as a bundled connector does; install it with --replace if it is meant to take its place", got.Name)
	}
	e := Entry{Version: got.Version, Source: in.source(req.Source), ReplacesBundled: req.Replace || old.ReplacesBundled, Platforms: map[string]Pin{}}
	if had {
		got.Was = old.Version
		got.Same = old.Platforms[got.Platform].SHA256 == got.SHA256
		for platform, p := range old.Platforms {
			switch {
			case platform == got.Platform:
			case old.Version != got.Version:
				got.Dropped = append(got.Dropped, platform)
			default:
				if p.Source == "" && old.Source != e.Source {
					p.Source = old.Source
				}
				if p.Source == e.Source {
					p.Source = ""
				}
				e.Platforms[platform] = p
			}
		}
	}
	e.Platforms[got.Platform] = Pin{SHA256: got.SHA256}
	in.Lock.Connectors[got.Name] = e
	if err := in.Lock.Write(); err != nil {
		if delete(in.Lock.Connectors, got.Name); had {
			in.Lock.Connectors[got.Name] = old
		}
		return fmt.Errorf("write the lock file: %w", err)
	}
	return nil
}

func (in *Installer) describe(ctx context.Context, name, sum string) (*connectorv1.DescribeResponse, error) {
	resp, err := in.Depot.Describe(ctx, name, sum, nil)
	if err != nil {
		return nil, fmt.Errorf("it does not say what it is: %w", err)
	}
	return resp, nil
}

// Fetch brings a connector that the lock file pins for this platform and that is not in the depot.
func (in *Installer) Fetch(ctx context.Context, name string) error {
	sum, err := in.Lock.Pinned(name, Here())
	if err != nil {
		return err
	}
	if in.Depot.Verify(sum) == nil {
		return nil
	}
	e := in.Lock.Connectors[name]
	source := e.Platforms[Here()].Source
	if source == "" {
		source = e.Source
	}
	at := source
	if !isURL(at) && !filepath.IsAbs(at) {
		at = filepath.Join(filepath.Dir(in.Lock.Path), at)
	}
	body, err := in.open(ctx, at, true)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("connector %s came from the file %s, which is not here; run `casewire connectors install FILE`", name, source)
	}
	if err != nil {
		return fmt.Errorf("fetch connector %s from %s: %w", name, show(source), err)
	}
	defer body.Close()
	_, err = in.Depot.Put(body, MaxSize, func(path, got string) error {
		if got != sum {
			return fmt.Errorf("its digest is %s, and %s pins %s: it was changed since it was approved", got, LockName, sum)
		}
		return CheckProgram(path, Here())
	})
	if err == nil {
		err = in.Depot.noteInterpreter(sum)
	}
	if err != nil {
		return fmt.Errorf("fetch connector %s from %s: %w", name, show(source), err)
	}
	return nil
}

// Remove takes a connector out of the lock file, and its files out of the depot.
func (in *Installer) Remove(name string) error {
	e, ok := in.Lock.Connectors[name]
	if !ok {
		return fmt.Errorf("%s has no connector %q", LockName, name)
	}
	delete(in.Lock.Connectors, name)
	if err := in.Lock.Write(); err != nil {
		in.Lock.Connectors[name] = e
		return fmt.Errorf("write the lock file: %w", err)
	}
	var errs []error
	for _, p := range e.Platforms {
		if !in.Lock.uses(p.SHA256) {
			errs = append(errs, in.Depot.Remove(p.SHA256))
		}
	}
	return errors.Join(errs...)
}

// Prune deletes the connectors that the lock file does not pin and that are not among keep, and returns how many those were.
// A host that began with one of them could not start it again.
func (in *Installer) Prune(keep ...string) (int, error) {
	dirs, err := os.ReadDir(in.Depot.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	n := 0
	for _, d := range dirs {
		sum := d.Name()
		if !isDigest(sum) || in.Lock.uses(sum) || slices.Contains(keep, sum) {
			continue
		}
		if e := in.Depot.Remove(sum); e != nil {
			err = errors.Join(err, e)
			continue
		}
		n++
	}
	return n, err
}

// source is how the lock file names it: without what was secret in an address, and without the way to this machine's
// folders.
func (in *Installer) source(s string) string {
	if isURL(s) {
		return show(s)
	}
	abs, err1 := filepath.Abs(s)
	dir, err2 := filepath.Abs(filepath.Dir(in.Lock.Path))
	if rel, err := filepath.Rel(dir, abs); errors.Join(err1, err2, err) == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.Base(s)
}

func isURL(s string) bool { return strings.Contains(s, "://") }

// show leaves user, password and query out of an address.
func show(s string) string {
	if !isURL(s) {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "the address"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

func (in *Installer) open(ctx context.Context, source string, pinned bool) (io.ReadCloser, error) {
	if !isURL(source) {
		info, err := os.Stat(source)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, errors.New("it is no regular file")
		}
		return os.Open(source)
	}
	u, err := url.Parse(source)
	if err != nil {
		return nil, errors.New("it is no address")
	}
	if err := safe(u); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, http.NoBody)
	if err != nil {
		return nil, errors.New("it is no address")
	}
	req.Header.Set("Accept", "application/octet-stream, */*;q=0.5")
	client := in.Client
	if client == nil {
		client = newClient()
	}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the address, which may hold a token
		}
		return nil, err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("the server answers %s", resp.Status)
	case resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && resp.ProtoMajor < 2 && !pinned:
		err = errors.New("the server does not say how long the file is, so that a truncated one would not be noticed; give --sha256")
	default:
		return resp.Body, nil
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// safe refuses addresses from which a program could be altered on its way.
func safe(u *url.URL) error {
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && ip.IsLoopback()
	if host != "" && (u.Scheme == "https" || u.Scheme == "http" && loopback) {
		return nil
	}
	return fmt.Errorf("programs are fetched by https only, not from %s://%s", u.Scheme, u.Host)
}

func newClient() *http.Client {
	d := &net.Dialer{Timeout: 15 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: d.DialContext, TLSHandshakeTimeout: 15 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second, DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 10 {
				return errors.New("it is redirected in circles")
			}
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return errors.New("it is redirected from https to http")
			}
			return safe(req.URL)
		},
		Timeout: 15 * time.Minute,
	}
}

// counting counts the bytes read.
type counting struct {
	io.Reader
	n *int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	*c.n += int64(n)
	return n, err
}
