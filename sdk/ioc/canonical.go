package ioc

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/casewire/casewire/plugin/ocsf"
)

var toASCII = idna.New(
	idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.CheckHyphens(false), idna.StrictDomainName(false),
)

// Host is the canonical form of a DNS or computer name: lower case, A-labels, no trailing dot. Underscores are allowed.
// Labels have 1 to 63 bytes, the whole at most 253; the last of several labels begins with a letter, and a single label
// has one. IP addresses are no names.
func Host(s string) (string, bool) {
	s = strings.TrimSuffix(strings.TrimSpace(s), ".")
	if !plainName(s) {
		var err error
		if s, err = toASCII.ToASCII(s); err != nil {
			return "", false
		}
		s = strings.TrimSuffix(s, ".")
	}
	s = strings.ToLower(s)
	if s == "" || len(s) > 253 || !plainName(s) {
		return "", false
	}
	last := s
	for rest, more := s, true; more; {
		last, rest, more = strings.Cut(rest, ".")
		if last == "" || len(last) > 63 {
			return "", false
		}
	}
	if last == s {
		return s, strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz")
	}
	return s, last[0] >= 'a' && last[0] <= 'z'
}

func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// IP is the canonical form of an address: RFC 5952 for IPv6, without its zone; IPv4 written as IPv6 becomes IPv4.
// Leading zeros, as in 010.0.0.1, are refused: readers disagree about them.
func IP(s string) (string, bool) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return "", false
	}
	return a.Unmap().WithZone("").String(), true
}

// CIDR is the canonical form of a network: host bits are masked.
func CIDR(s string) (string, bool) {
	p, err := netip.ParsePrefix(strings.TrimSpace(s))
	if err != nil {
		return "", false
	}
	return p.Masked().String(), true
}

// Email is the canonical form of an address for matching: lower case, the domain as a DNS name. mailto: is stripped.
func Email(s string) (string, bool) {
	s = strings.TrimSpace(s)
	if len(s) > 7 && strings.EqualFold(s[:7], "mailto:") {
		s = s[7:]
	}
	i := strings.LastIndexByte(s, '@')
	if i < 1 || i > 64 || strings.ContainsAny(s[:i], " \t\r\n<>,;\"()[]@\\") {
		return "", false
	}
	domain, ok := Host(s[i+1:])
	if !ok || !strings.Contains(domain, ".") {
		return "", false
	}
	return strings.ToLower(s[:i]) + "@" + domain, true
}

// MAC is the canonical form of a hardware address: six lower-case octets with colons.
func MAC(s string) (string, bool) {
	hex := make([]byte, 0, 12)
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'f':
			if len(hex) == 12 {
				return "", false
			}
			if 'A' <= c && c <= 'F' {
				c |= 0x20
			}
			hex = append(hex, c)
		case c == ':' || c == '-' || c == '.':
		default:
			return "", false
		}
	}
	if len(hex) != 12 {
		return "", false
	}
	out := make([]byte, 0, 17)
	for i := 0; i < 12; i += 2 {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, hex[i], hex[i+1])
	}
	return string(out), true
}

// Hash is the canonical form of a hash, with OCSF's number of the algorithm: lower-case hex of 32 (MD5), 40 (SHA-1), 64
// (SHA-256) or 128 (SHA-512) digits. A prefix such as sha256: is stripped. A source that names the algorithm is to be
// trusted over the length: 64 digits may be an Authenticode hash.
func Hash(s string) (value string, algorithm int, ok bool) {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, ':'); i >= 0 {
		switch strings.ToLower(strings.ReplaceAll(s[:i], "-", "")) {
		case "md5", "sha1", "sha256", "sha512", "sha256ac":
			s = strings.TrimSpace(s[i+1:])
		}
	}
	switch len(s) {
	case 32:
		algorithm = ocsf.AlgorithmMD5
	case 40:
		algorithm = ocsf.AlgorithmSHA1
	case 64:
		algorithm = ocsf.AlgorithmSHA256
	case 128:
		algorithm = ocsf.AlgorithmSHA512
	default:
		return "", 0, false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return "", 0, false
		}
	}
	return strings.ToLower(s), algorithm, true
}

var hives = map[string]string{
	"HKLM": "HKEY_LOCAL_MACHINE", "HKCU": "HKEY_CURRENT_USER", "HKCR": "HKEY_CLASSES_ROOT", "HKU": "HKEY_USERS",
	"HKCC": "HKEY_CURRENT_CONFIG", "HKPD": "HKEY_PERFORMANCE_DATA",
}

// Registry is the canonical form of a registry path: the hive in full, backslashes, no trailing one. The spelling is
// kept; compare without regard to case.
func Registry(s string) (string, bool) {
	s = strings.TrimFunc(strings.ReplaceAll(s, "/", `\`), func(r rune) bool { return r == '\\' || unicode.IsSpace(r) })
	hive, rest, more := strings.Cut(s, `\`)
	upper := strings.ToUpper(strings.TrimSuffix(hive, ":"))
	if full := hives[upper]; full != "" {
		hive = full
	} else if strings.HasPrefix(upper, "HKEY_") {
		hive = upper
	}
	if !more {
		return hive, hive != ""
	}
	return hive + `\` + rest, true
}

// Canonical is the canonical form of a value of an observable's type, as the functions above give it; types without a
// rule keep the value, trimmed.
func Canonical(typeID int, s string) (string, bool) {
	switch typeID {
	case ocsf.ObservableHostname:
		return Host(s)
	case ocsf.ObservableIP:
		return IP(s)
	case ocsf.ObservableMAC:
		return MAC(s)
	case ocsf.ObservableEmail:
		return Email(s)
	case ocsf.ObservableURL:
		return URL(s)
	case ocsf.ObservableHash, ocsf.ObservableFingerprint:
		v, _, ok := Hash(s)
		return v, ok
	case ocsf.ObservableSubnet:
		return CIDR(s)
	case ocsf.ObservablePort:
		n, err := strconv.ParseUint(s, 10, 16)
		return strconv.FormatUint(n, 10), err == nil
	case ocsf.ObservableRegKey, ocsf.ObservableRegKeyOld:
		return Registry(s)
	default:
		s = strings.TrimSpace(s)
		return s, s != ""
	}
}
