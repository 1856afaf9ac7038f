package thehive

import (
	"strings"

	"github.com/casewire/casewire/sdk/ioc"
)

// canonical is the form in which a value is compared and stored; what does not parse as its type stays as it is, trimmed:
// a case may well be about it.
func canonical(kind, data string) string {
	data = strings.TrimSpace(data)
	var (
		out string
		ok  bool
	)
	switch kind {
	case "ip":
		out, ok = ioc.IP(data)
	case "domain", "fqdn", "hostname":
		out, ok = ioc.Host(data)
	case "mail":
		out, ok = ioc.Email(data)
	case "hash":
		out, _, ok = ioc.Hash(data)
	case "url":
		out, ok = ioc.URL(data)
	case "registry":
		out, ok = ioc.Registry(data)
	}
	if !ok {
		return data
	}
	return out
}
