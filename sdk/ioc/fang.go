package ioc

import (
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

var (
	// Compiled on first use: what is made at start, every connector process pays for.
	bracketed = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)[\[({][ \t]*(?:\.|dot|d0t|@|at|://|:|/)[ \t]*[\])}]`)
	})
	spacedDot = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)([\pL\pN]) dot ([\pL\pN])`) })
	spacedAt  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)([\pL\pN]) at ([\pL\pN][\pL\pN-]*\.[\pL\pN])`) })
	slashDot  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`([\pL\pN])\\\.([\pL\pN])`) })
	liveHTTP  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(^|[^\pL\pN])(?:http|hxxp|hzzp|htxp|h\*\*p|h__p|meow)(s?)://`)
	})
	liveFTP = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)(^|[^\pL\pN])(?:ftp|fxp)(s?)://`) })
)

// maxPasses bounds the work on text made to be hard: each pass removes at least one level of nested brackets.
const maxPasses = 64

// Refang makes a live value of one that was written so that nobody clicks on it: hxxps://bad[.]example becomes
// https://bad.example. It is meant for what people typed or pasted, never for values from an API: it also takes
// invisible characters out, and " dot " between letters for a dot. A scheme comes out in lower case.
func Refang(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case invisible(r):
			return -1
		case r == '．' || r == '。' || r == '｡' || r == '․':
			return '.'
		}
		return r
	}, s)
	for range maxPasses {
		next := refangOnce(s)
		if next == s {
			break
		}
		s = next
	}
	return s
}

// invisible says whether r is one of the zero-width and direction marks that text is salted with.
func invisible(r rune) bool {
	return r == 0xAD || (r >= 0x200B && r <= 0x200F) || (r >= 0x202A && r <= 0x202E) || (r >= 0x2060 && r <= 0x2069) || r == 0xFEFF
}

func refangOnce(s string) string {
	if strings.ContainsAny(s, "[({") {
		s = bracketed().ReplaceAllStringFunc(s, func(m string) string {
			switch inner := strings.ToLower(strings.Trim(m, "[](){} \t")); inner {
			case "dot", "d0t":
				return "."
			case "at":
				return "@"
			default:
				return inner
			}
		})
	}
	s = spacedDot().ReplaceAllString(s, "$1.$2")
	s = spacedAt().ReplaceAllString(s, "$1@$2")
	s = slashDot().ReplaceAllString(s, "$1.$2")
	s = liveHTTP().ReplaceAllStringFunc(s, func(m string) string { return rescheme(m, "http") })
	return liveFTP().ReplaceAllStringFunc(s, func(m string) string { return rescheme(m, "ftp") })
}

// rescheme writes what liveHTTP or liveFTP matched with the true scheme, and keeps the character before it.
func rescheme(m, scheme string) string {
	word := strings.TrimSuffix(m, "://")
	if strings.HasSuffix(strings.ToLower(word), "s") {
		scheme += "s"
	}
	before, n := utf8.DecodeRuneInString(word)
	if strings.ContainsRune("hfmHFM", before) {
		n = 0
	}
	return word[:n] + scheme + "://"
}

// Defang writes a value so that nobody clicks on it by accident: for text that people read, never for storage. The host
// of a URL, the domain of an address, a name and an IP address get brackets, http becomes hxxp, ftp fxp. A value without
// any of these comes back as it is. Refang gives a refanged value back: Refang(Defang(x)) == x if Refang(x) == x.
func Defang(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok && isScheme(scheme) {
		end := len(rest)
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			end = i
		}
		return deadScheme(scheme) + "://" + brackets(rest[:end]) + rest[end:]
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		return brackets(s)
	}
	if strings.ContainsAny(s, " \t\n/\\") {
		return s
	}
	return brackets(s)
}

func isScheme(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && (i == 0 || !strings.ContainsRune("0123456789+.-", rune(s[i]))) {
			return false
		}
	}
	return s != ""
}

func deadScheme(s string) string {
	switch strings.ToLower(s) {
	case "http", "https":
		return strings.Replace(strings.ToLower(s), "tt", "xx", 1)
	case "ftp", "ftps":
		return strings.Replace(strings.ToLower(s), "ft", "fx", 1)
	}
	return s
}

var fangs = strings.NewReplacer(".", "[.]", "@", "[@]")

// brackets takes the life out of a host: dots and @, or the colons of an IPv6 address.
func brackets(host string) string {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && a.Is6() {
		return strings.ReplaceAll(host, ":", "[:]")
	}
	return fangs.Replace(host)
}
