package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casewire/casewire/host"
)

// What an embedder gets wrong about other people's connectors is said before anything starts, and leaves nothing behind.
func TestOtherPeoplesConnectorsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "hashes")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		make func() (host.Connector, error)
		want string
	}{
		"another digest": {func() (host.Connector, error) {
			return host.FileConnector(filepath.Join(dir, "data"), path, strings.Repeat("0", 64), "hashes")
		}, "its digest is not the one that was approved"},
		"no program": {func() (host.Connector, error) {
			return host.FileConnector(filepath.Join(dir, "data"), path+"x", strings.Repeat("0", 64), "hashes")
		}, "no such file"},
		"no address":        {func() (host.Connector, error) { return host.AddressConnector("hashes", nil) }, "no address"},
		"a machine, no TLS": {func() (host.Connector, error) { return host.AddressConnector("tcp://hashes.example:1", nil) }, "mutual TLS"},
	} {
		if _, err := tt.make(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("a refused program was stored")
	}
}
