package threatintel

import (
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

// The types of indicators.
const (
	typeIP          = "ip"
	typeCIDR        = "cidr"
	typeDomain      = "domain"
	typeURL         = "url"
	typeEmail       = "email"
	typeMD5         = "md5"
	typeSHA1        = "sha1"
	typeSHA256      = "sha256"
	typeSHA512      = "sha512"
	typeCertificate = "certificate" // SHA-1 thumbprint; Defender only
	typePattern     = "pattern"     // a STIX pattern that compares more than one value
)

// typeWords are other products' words for types, folded to letters and digits. Hash stands for any by its length.
var typeWords = map[string]string{
	"ip": typeIP, "ipaddress": typeIP, "ipv4": typeIP, "ipv6": typeIP, "ipv4addr": typeIP, "ipv6addr": typeIP, "ipsrc": typeIP, "ipdst": typeIP,
	"ipport": typeIP, "ipdstport": typeIP, "ipsrcport": typeIP, "srcip": typeIP, "dstip": typeIP, "address": typeIP, "networkipv4": typeIP, "networkipv6": typeIP,
	"cidr": typeCIDR, "subnet": typeCIDR, "network": typeCIDR, "iprange": typeCIDR, "netblock": typeCIDR,
	"domain": typeDomain, "domainname": typeDomain, "fqdn": typeDomain, "hostname": typeDomain, "host": typeDomain, "dns": typeDomain, "hostport": typeDomain, "hostnameport": typeDomain, "domainport": typeDomain,
	"url": typeURL, "uri": typeURL, "urlstring": typeURL, "link": typeURL,
	"email": typeEmail, "emailaddress": typeEmail, "emailaddr": typeEmail, "mail": typeEmail, "emailsender": typeEmail, "emailsrc": typeEmail,
	"md5": typeMD5, "filemd5": typeMD5, "md5hash": typeMD5, "filehashmd5": typeMD5,
	"sha1": typeSHA1, "filesha1": typeSHA1, "sha1hash": typeSHA1, "filehashsha1": typeSHA1,
	"sha256": typeSHA256, "filesha256": typeSHA256, "sha256hash": typeSHA256, "filehashsha256": typeSHA256,
	"sha512": typeSHA512, "filesha512": typeSHA512, "filehashsha512": typeSHA512,
	"hash": "hash", "filehash": "hash", "file": "hash", "fingerprint": "hash",
	"certificate": typeCertificate, "certificatethumbprint": typeCertificate, "thumbprint": typeCertificate,
	"pattern": typePattern,
}

var notWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^a-z0-9]+`) })

func fold(s string) string { return notWord().ReplaceAllString(strings.ToLower(s), "") }

// guess tells the type of a live value.
func guess(value string) string {
	if strings.Contains(value, "://") {
		return typeURL
	}
	if _, err := netip.ParseAddr(value); err == nil {
		return typeIP
	}
	if _, err := netip.ParsePrefix(value); err == nil {
		return typeCIDR
	}
	if _, _, ok := ioc.Hash(value); ok {
		return "hash"
	}
	if feed.IsPattern(value) {
		return typePattern
	}
	if strings.Contains(value, "@") {
		return typeEmail
	}
	return typeDomain
}

// hashType is the type of a hash by OCSF's number of its algorithm.
func hashType(algorithm int) string {
	switch algorithm {
	case ocsf.AlgorithmMD5:
		return typeMD5
	case ocsf.AlgorithmSHA1:
		return typeSHA1
	case ocsf.AlgorithmSHA256:
		return typeSHA256
	case ocsf.AlgorithmSHA512:
		return typeSHA512
	}
	return ""
}

// comparison is one part of a STIX pattern.
type comparison struct {
	path, op, value string
}

var (
	comparisons = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`([a-z0-9-]+:[A-Za-z0-9_.'"\[\]*-]+)\s*(!?=|NOT\s+=|ISSUBSET|ISSUPERSET|LIKE|MATCHES|>=?|<=?)\s*'((?:[^'\\]|\\.)*)'`)
	})
	sets = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`([a-z0-9-]+:[A-Za-z0-9_.'"\[\]*-]+)\s*\bIN\s*\(((?:[^'()]|'(?:[^'\\]|\\.)*')*)\)`)
	})
	texts  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`'((?:[^'\\]|\\.)*)'`) })
	single = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^\[\s*([a-z0-9-]+:[A-Za-z0-9_.'"-]+)\s*(=|ISSUBSET)\s*'((?:[^'\\]|\\.)*)'\s*\]$`)
	})
	literal   = strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	unliteral = strings.NewReplacer(`\\`, `\`, `\'`, `'`)
)

// pathTypes are the paths of patterns that compare a value that we know.
var pathTypes = map[string]string{
	"ipv4-addr:value": typeIP, "ipv6-addr:value": typeIP, "domain-name:value": typeDomain, "url:value": typeURL, "email-addr:value": typeEmail,
	"email-message:from_ref.value": typeEmail, "email-message:sender_ref.value": typeEmail,
	"file:hashes.md5": typeMD5, "file:hashes.sha1": typeSHA1, "file:hashes.sha256": typeSHA256, "file:hashes.sha512": typeSHA512,
}

func pathType(path string) string {
	p := strings.ToLower(strings.NewReplacer("'", "", `"`, "").Replace(path))
	if head, algorithm, ok := strings.Cut(p, "hashes."); ok {
		p = head + "hashes." + strings.ReplaceAll(algorithm, "-", "")
	}
	return pathTypes[p]
}

// parsePattern reads a pattern that compares one value that we know.
func parsePattern(pattern string) (kind, value string, ok bool) {
	m := single().FindStringSubmatch(strings.TrimSpace(pattern))
	if m == nil {
		return "", "", false
	}
	kind, value = pathType(m[1]), unliteral.Replace(m[3])
	switch {
	case kind == "":
		return "", "", false
	case kind == typeIP && (m[2] == "ISSUBSET" || strings.Contains(value, "/")):
		kind = typeCIDR
	case m[2] == "ISSUBSET":
		return "", "", false
	}
	return kind, value, true
}

// compared lists what a pattern compares with texts.
func compared(pattern string) []comparison {
	var out []comparison
	for _, m := range comparisons().FindAllStringSubmatch(pattern, -1) {
		out = append(out, comparison{m[1], m[2], unliteral.Replace(m[3])})
	}
	for _, m := range sets().FindAllStringSubmatch(pattern, -1) {
		for _, v := range texts().FindAllStringSubmatch(m[2], -1) {
			out = append(out, comparison{m[1], "=", unliteral.Replace(v[1])})
		}
	}
	return out
}

// balanced says whether brackets and quotes of a pattern match.
func balanced(pattern string) bool {
	depth, quoted := 0, false
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case quoted && c == '\\':
			i++
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '[':
			depth++
		case c == ']':
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0 && !quoted
}

// pattern writes a value as a STIX pattern.
func pattern(kind, value string) string {
	v := literal.Replace(value)
	switch kind {
	case typeIP, typeCIDR:
		object, op := "ipv4-addr", "="
		if strings.Contains(value, ":") {
			object = "ipv6-addr"
		}
		if kind == typeCIDR {
			op = "ISSUBSET"
		}
		return "[" + object + ":value " + op + " '" + v + "']"
	case typeDomain:
		return "[domain-name:value = '" + v + "']"
	case typeURL:
		return "[url:value = '" + v + "']"
	case typeEmail:
		return "[email-addr:value = '" + v + "']"
	case typeMD5:
		return "[file:hashes.MD5 = '" + v + "']"
	case typeSHA1:
		return "[file:hashes.'SHA-1' = '" + v + "']"
	case typeSHA256:
		return "[file:hashes.'SHA-256' = '" + v + "']"
	case typeSHA512:
		return "[file:hashes.'SHA-512' = '" + v + "']"
	case typeCertificate:
		return "[x509-certificate:hashes.'SHA-1' = '" + v + "']"
	}
	return value
}
