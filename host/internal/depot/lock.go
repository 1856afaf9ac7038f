package depot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// LockName is the lock file's name, beside the configuration.
const LockName = "casewire.lock"

// lockVersion is the version of its format.
const lockVersion = 1

// ErrPlatform says that a connector is pinned, but not for the platform asked about.
var ErrPlatform = errors.New("is not pinned for this platform")

// Lock says which connectors were approved. People commit the file; its bytes depend on nothing but its content.
type Lock struct {
	Path       string
	Connectors map[string]Entry
}

// Entry is one connector.
type Entry struct {
	// Version that the connector said it has; information only.
	Version string `json:"version"`
	// Source is where the file came from: an address, or a path, relative to the lock file if it is below its folder.
	Source string `json:"source"`
	// ReplacesBundled is set when it is meant to take the place of a bundled connector of the same name.
	ReplacesBundled bool `json:"replaces_bundled,omitempty"`
	// Platforms pins the file of each platform, such as linux/amd64.
	Platforms map[string]Pin `json:"platforms"`
}

// Pin is the file of one platform.
type Pin struct {
	SHA256 string `json:"sha256"`
	// Source of this platform's file if it differs from the entry's.
	Source string `json:"source,omitempty"`
}

type lockFile struct {
	Version    int              `json:"version"`
	Connectors map[string]Entry `json:"connectors"`
}

var platformRule = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+$`)

// ReadLock reads the lock file in a folder. One that is not there is empty.
func ReadLock(dir string) (*Lock, error) {
	l := &Lock{Path: filepath.Join(dir, LockName), Connectors: map[string]Entry{}}
	b, err := os.ReadFile(l.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if l.Connectors, err = parseLock(b); err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from version control, or delete it and install the connectors again", l.Path, err)
	}
	return l, nil
}

func parseLock(b []byte) (map[string]Entry, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var f lockFile
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows after its end")
	}
	if f.Version != lockVersion {
		return nil, fmt.Errorf("its format has version %d; this program reads version %d", f.Version, lockVersion)
	}
	var bad []error
	for _, name := range slices.Sorted(maps.Keys(f.Connectors)) {
		e := f.Connectors[name]
		if !nameRule.MatchString(name) || len(name) > 64 {
			bad = append(bad, fmt.Errorf("%.80q is no connector's name", name))
		}
		if len(e.Platforms) == 0 {
			bad = append(bad, fmt.Errorf("connector %.80q has no platforms", name))
		}
		for _, platform := range slices.Sorted(maps.Keys(e.Platforms)) {
			if !platformRule.MatchString(platform) {
				bad = append(bad, fmt.Errorf("connector %.80q: %.80q is no platform such as linux/amd64", name, platform))
			}
			if sum := e.Platforms[platform].SHA256; !isDigest(sum) {
				bad = append(bad, fmt.Errorf("connector %.80q: %.80q is no SHA-256 in hex", name, sum))
			}
		}
	}
	if f.Connectors == nil {
		f.Connectors = map[string]Entry{}
	}
	return f.Connectors, errors.Join(bad...)
}

// Write replaces the lock file, or removes it when there is nothing in it.
func (l *Lock) Write() error {
	if len(l.Connectors) == 0 {
		if err := os.Remove(l.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(lockFile{Version: lockVersion, Connectors: l.Connectors}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(l.Path, append(b, '\n'), 0o644)
}

// Pinned returns the digest of a connector on a platform. The error says what to do about a platform that is not pinned.
func (l *Lock) Pinned(name, platform string) (sum string, err error) {
	e, ok := l.Connectors[name]
	if !ok {
		return "", fmt.Errorf("%s has no connector %q", LockName, name)
	}
	if p, ok := e.Platforms[platform]; ok {
		return p.SHA256, nil
	}
	return "", fmt.Errorf("the connector %s %w: %s has it for %s, and this is %s; run `casewire connectors install` with the program for it",
		name, ErrPlatform, LockName, strings.Join(slices.Sorted(maps.Keys(e.Platforms)), ", "), platform)
}

// Names lists the connectors, in order.
func (l *Lock) Names() []string { return slices.Sorted(maps.Keys(l.Connectors)) }

// uses says whether any connector has the digest.
func (l *Lock) uses(sum string) bool {
	for _, e := range l.Connectors {
		for _, p := range e.Platforms {
			if p.SHA256 == sum {
				return true
			}
		}
	}
	return false
}
