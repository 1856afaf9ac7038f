package launch

import (
	"net/url"
	"os"
	"strings"
)

// passed are the variables that a connector gets from the host's environment unless told otherwise: where programs and
// certificates are, language and time zone, the way out through a proxy, and how the race detector behaves in what is built
// with it.
var passed = []string{
	"PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SYSTEMROOT",
	"GORACE",
}

// DefaultEnv returns the minimal environment of a connector. A proxy address with a password in it is left out: secrets
// never travel in an environment.
func DefaultEnv() []string {
	var out []string
	for _, name := range passed {
		v, ok := os.LookupEnv(name)
		if !ok {
			continue
		}
		if low := strings.ToLower(name); strings.HasSuffix(low, "_proxy") && low != "no_proxy" && hasPassword(v) {
			continue
		}
		out = append(out, name+"="+v)
	}
	return out
}

// hasPassword says yes also to what it cannot read.
func hasPassword(proxy string) bool {
	if !strings.Contains(proxy, "@") {
		return false
	}
	u, err := url.Parse(proxy)
	if err != nil || u.User == nil {
		return true
	}
	_, ok := u.User.Password()
	return ok
}
