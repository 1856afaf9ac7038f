package thehive

import (
	"net/netip"
	"strings"
)

// canonical is the form in which a value is compared and stored; what does not parse stays as it is, trimmed.
func canonical(kind, data string) string {
	data = strings.TrimSpace(data)
	switch kind {
	case "ip":
		if a, err := netip.ParseAddr(data); err == nil {
			return a.Unmap().WithZone("").String()
		}
	case "domain", "fqdn", "hostname", "hash", "mail":
		return strings.TrimSuffix(strings.ToLower(data), ".")
	}
	return data
}
