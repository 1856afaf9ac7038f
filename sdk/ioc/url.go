package ioc

import (
	"strconv"
	"strings"
)

// Parts are a URL's, in canonical form but for Query, which is kept as it is.
type Parts struct {
	Scheme string
	Host   string // a name or an address, without brackets
	Port   int    // 0 when it is the scheme's own
	Path   string
	Query  string // without the question mark
}

// URL is the canonical form of an absolute URL with a host: scheme and host in lower case, the host as Host or IP give
// it, no default port, user or fragment, dot segments removed, percent escapes in upper case and only where they are
// needed for unreserved characters. The order and content of the query, a trailing slash and the case of the path stay:
// they are part of what was seen. Keep the source's spelling beside it.
func URL(s string) (string, bool) {
	p, ok := ParseURL(s)
	if !ok {
		return "", false
	}
	return p.String(), true
}

// String writes the URL.
func (p Parts) String() string {
	var b strings.Builder
	b.Grow(len(p.Scheme) + len(p.Host) + len(p.Path) + len(p.Query) + 12)
	b.WriteString(p.Scheme)
	b.WriteString("://")
	if strings.Contains(p.Host, ":") {
		b.WriteByte('[')
		b.WriteString(p.Host)
		b.WriteByte(']')
	} else {
		b.WriteString(p.Host)
	}
	if p.Port != 0 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(p.Port))
	}
	b.WriteString(p.Path)
	if p.Query != "" {
		b.WriteByte('?')
		b.WriteString(p.Query)
	}
	return b.String()
}

var defaultPorts = map[string]int{"http": 80, "https": 443, "ftp": 21, "ftps": 990, "ws": 80, "wss": 443}

// ParseURL takes a URL apart. It is made for hostile URLs: it does not mind bad escapes, and does not decode anything
// that could change where the URL leads.
func ParseURL(s string) (Parts, bool) {
	s = strings.TrimSpace(s)
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return Parts{}, false
	}
	p := Parts{Scheme: strings.ToLower(scheme)}
	rest, _, _ = strings.Cut(rest, "#")
	authority, path := rest, ""
	if i := strings.IndexAny(rest, `/?\`); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if !p.authority(authority) {
		return Parts{}, false
	}
	path, p.Query, _ = strings.Cut(path, "?")
	p.Query = escapes(p.Query, false)
	p.Path = removeDots(escapes(path, true))
	return p, true
}

func (p *Parts) authority(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || !strings.Contains(s[:end], ":") {
			return false
		}
		host, port = s[1:end], s[end+1:]
		if port != "" && port[0] != ':' {
			return false
		}
		port = strings.TrimPrefix(port, ":")
	} else if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
	}
	var ok bool
	if p.Host, ok = IP(host); !ok {
		if strings.Contains(host, ":") {
			return false
		}
		if p.Host, ok = Host(host); !ok {
			return false
		}
	}
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return false
	}
	if p.Port = int(n); p.Port == defaultPorts[p.Scheme] {
		p.Port = 0
	}
	return true
}

// escapes writes percent escapes in upper case, decodes those of unreserved characters (RFC 3986) if asked to, and
// encodes what must not stand in a URL: white space, controls and, in a path, quotes and angle brackets stay.
func escapes(s string, decode bool) string {
	clean := true
	for i := range len(s) {
		if c := s[i]; c == '%' || c <= ' ' || c == 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0:
			d := byte(hexValue(s[i+1])<<4 | hexValue(s[i+2]))
			if decode && unreserved(d) {
				b.WriteByte(d)
			} else {
				b.Write([]byte{'%', upper[d>>4], upper[d&15]})
			}
			i += 2
		case c <= ' ' || c == 0x7f:
			b.Write([]byte{'%', upper[c>>4], upper[c&15]})
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

func unreserved(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// removeDots resolves "." and ".." segments (RFC 3986, 5.2.4); an empty path becomes "/".
func removeDots(path string) string {
	if path == "" {
		return "/"
	}
	path = strings.ReplaceAll(path, `\`, "/")
	if !strings.Contains(path, "/.") {
		return path
	}
	in := strings.Split(path[1:], "/")
	var out []string
	for i, seg := range in {
		last := i == len(in)-1
		switch seg {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, seg)
		}
	}
	return "/" + strings.Join(out, "/")
}
