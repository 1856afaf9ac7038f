package plugin

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketPath is the longest path of a unix socket on the systems that we run on.
const maxSocketPath = 103

// Address is where a connector listens that no host started.
type Address struct {
	// Network is unix or tcp.
	Network string
	// Target is an absolute path or a host:port.
	Target string
}

// ParseAddress reads "unix:///run/hashes.sock" or "tcp://hashes.example:7001". A port of zero is for listeners only.
func ParseAddress(s string) (Address, error) {
	network, target, ok := strings.Cut(s, "://")
	switch {
	case !ok || network != "unix" && network != "tcp":
		return Address{}, fmt.Errorf("%q is no address; write unix:///path or tcp://host:port", clip(s, 256))
	case network == "unix":
		if !filepath.IsAbs(target) || len(target) > maxSocketPath || strings.ContainsRune(target, 0) {
			return Address{}, fmt.Errorf("%q names no socket; its path must be absolute, as in unix:///run/hashes.sock, and no longer than %d bytes", clip(s, 256), maxSocketPath)
		}
		return Address{network, filepath.Clean(target)}, nil
	}
	host, port, err := net.SplitHostPort(target)
	if err != nil || host == "" || strings.ContainsAny(host, "/@ ") {
		return Address{}, fmt.Errorf("%q has no host and port; write tcp://host:port", clip(s, 256))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Address{}, fmt.Errorf("%q has no port number; write tcp://host:port", clip(s, 256))
	}
	return Address{network, target}, nil
}

// String is what ParseAddress reads.
func (a Address) String() string { return a.Network + "://" + a.Target }

// Host is the host of a tcp address.
func (a Address) Host() string {
	if a.Network != "tcp" {
		return ""
	}
	host, _, _ := net.SplitHostPort(a.Target)
	return host
}

// Local says whether what is said there stays on this machine: a unix socket, or tcp on a loopback address. Over any other
// address both ends must prove who they are by TLS certificates.
func (a Address) Local() bool {
	if a.Network == "unix" || a.Host() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.Host())
	return err == nil && ip.IsLoopback()
}
