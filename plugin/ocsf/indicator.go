package ocsf

import (
	"net/netip"
	"strings"
)

// special are the ranges that never identify an attacker on the internet: private, local, documentation, reserved.
// Source: the IANA special-purpose address registries.
var special = func() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4",
		"::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "fc00::/7",
		"fe80::/10", "ff00::/8",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// SpecialAddr says whether an address is private, local, for documentation or reserved, so that it cannot be an
// indicator. An IPv4 address written as IPv6 is judged as IPv4.
func SpecialAddr(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range special {
		if p.Contains(a) {
			return true
		}
	}
	return !a.IsValid()
}

// SpecialPrefix says whether a network lies in a special range, or contains one.
func SpecialPrefix(p netip.Prefix) bool {
	for _, s := range special {
		if s.Overlaps(p) {
			return true
		}
	}
	return !p.IsValid()
}

// emptyFiles are the hashes of nothing.
var emptyFiles = map[string]bool{
	"d41d8cd98f00b204e9800998ecf8427e":                                 true,
	"da39a3ee5e6b4b0d3255bfef95601890afd80709":                         true,
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": true,
	"cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce" +
		"47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e": true,
}

// MeaninglessHash says whether a lower-case hex hash is a placeholder (all zero, all f) or that of an empty file.
func MeaninglessHash(h string) bool {
	return strings.Trim(h, "0") == "" || strings.Trim(h, "f") == "" || emptyFiles[h]
}

// bystanders are objects inside an evidence that it is not about: a malicious process does not make its user's address,
// its device or its parent an indicator; a malicious message
// not its recipients, a malicious name not the server that was asked for it.
var bystanders = []string{
	".device.", ".user.", ".email.to", ".parent_process.", ".data.recipients", ".data.dnsServerIp", ".data.hostIpAddress",
}

// IsIndicator says whether the observable is an indicator of compromise, given the verdict on the evidence that it was
// found in: its type can be one, the verdict is bad (true positive, suspicious, security risk), the value means
// something to others (no private address, no hash of an empty file), and the evidence is about it and not only
// mentions it.
func (o Observable) IsIndicator(verdictID int) bool {
	switch verdictID {
	case VerdictTruePositive, VerdictSuspicious, VerdictSecurityRisk:
	default:
		return false
	}
	return o.CanBeIndicator()
}

// CanBeIndicator is IsIndicator for a value that somebody else already calls bad.
func (o Observable) CanBeIndicator() bool {
	for _, b := range bystanders {
		if strings.Contains(o.Name, b) {
			return false
		}
	}
	switch o.TypeID {
	case ObservableIP:
		a, err := netip.ParseAddr(o.Value)
		return err == nil && !SpecialAddr(a)
	case ObservableSubnet:
		p, err := netip.ParsePrefix(o.Value)
		return err == nil && !SpecialPrefix(p)
	case ObservableHash:
		return !MeaninglessHash(o.Value)
	case ObservableHostname:
		return strings.Contains(o.Value, ".")
	case ObservableEmail, ObservableURL, ObservableUserAgent, ObservableRegKeyOld, ObservableRegKey:
		return o.Value != ""
	default:
		return false
	}
}
