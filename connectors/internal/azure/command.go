package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// command gets tokens from a program.
type command struct{ argv []string }

const (
	maxTokenOutput = 64 << 10
	// plainLife is how long a token is used that says nothing about its end.
	plainLife = 5 * time.Minute
)

func (c command) token(ctx context.Context, w want) (*issued, error) {
	argv := make([]string, len(c.argv))
	place := strings.NewReplacer("{scope}", w.scope, "{resource}", resource(w.scope))
	for i, a := range c.argv {
		argv[i] = place.Replace(a)
	}
	now := time.Now()
	out, err := run(ctx, argv)
	if err != nil {
		return nil, err
	}
	value, expires, why := readToken(now, out)
	if why != "" {
		return nil, runError("the command %q %s", c.argv[0], why) // and never what it printed
	}
	if !expires.After(now) {
		return nil, runError("the command %q printed a token that has expired", c.argv[0])
	}
	return &issued{value: value, expires: expires, renewAt: renewal(now, expires)}, nil
}

// run runs a command that prints a token.
func run(ctx context.Context, argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second // a child that keeps the pipe open does not keep us
	var out, complaint capped
	out.limit, complaint.limit = maxTokenOutput, 4<<10
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, runError("the command %q did not end in time", argv[0])
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, runError("the command %q ended with %s: %s", argv[0], exit.ProcessState, firstLine(complaint.b.String()))
		}
		switch {
		case errors.Is(err, exec.ErrNotFound):
			return nil, runError("the command %q is not in PATH: give its absolute path", argv[0])
		case errors.Is(err, fs.ErrPermission):
			return nil, runError("the command %q may not be run: it is not executable, or not where a confined connector may read; name its directory in plugins.sandbox.read", argv[0])
		}
		return nil, runError("the command %q does not run: %v", argv[0], err)
	}
	if out.over {
		return nil, runError("the command %q printed more than %d bytes", argv[0], maxTokenOutput)
	}
	return out.b.Bytes(), nil
}

// reasonCommand marks errors of commands that print tokens.
const reasonCommand = "TOKEN_COMMAND"

func runError(format string, args ...any) *sdk.Error {
	e := commandError(format, args...)
	e.Reason = reasonCommand
	return e
}

func commandError(format string, args ...any) *sdk.Error {
	e := sdk.Auth("no token: "+format, args...)
	e.Origin = sdk.OriginConfig
	return e
}

// readToken reads what a command printed: a token, or JSON as OAuth 2.0 and the Azure CLI write it.
func readToken(now time.Time, b []byte) (value string, expires time.Time, why string) {
	b = bytes.TrimSpace(b)
	if len(b) > 0 && b[0] == '{' {
		var m struct {
			Snake     string          `json:"access_token"`
			Camel     string          `json:"accessToken"`
			ExpiresOn json.RawMessage `json:"expires_on"`
			ExpiresIn json.RawMessage `json:"expires_in"`
		}
		if json.Unmarshal(b, &m) != nil {
			return "", expires, "printed JSON that cannot be read; want {\"access_token\": …, \"expires_on\": …}"
		}
		if value = m.Snake; value == "" {
			value = m.Camel
		}
		if value == "" {
			return "", expires, "printed JSON without access_token"
		}
		if len(m.ExpiresOn) > 0 {
			if expires, why = instant(m.ExpiresOn); why != "" {
				return "", expires, why
			}
		} else if s, err := strconv.ParseFloat(unquote(m.ExpiresIn), 64); err == nil && s > 0 && s < 1e9 {
			expires = now.Add(time.Duration(s * float64(time.Second)))
		}
	} else {
		value = string(b)
	}
	switch {
	case value == "":
		return "", expires, "printed nothing"
	case strings.ContainsFunc(value, notInToken):
		return "", expires, "printed something that is no token: it has spaces, line feeds or other characters that no token has"
	}
	if expires.IsZero() {
		expires = jwtEnd(value)
	}
	if expires.IsZero() {
		expires = now.Add(plainLife)
	}
	return value, expires, ""
}

// instant reads seconds since 1970 (a number or its text) or an RFC 3339 time.
func instant(raw json.RawMessage) (time.Time, string) {
	s := unquote(raw)
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > 0 && f < 1e11 {
		return time.Unix(int64(f), 0), ""
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, ""
	}
	return time.Time{}, "printed an expires_on that is neither seconds since 1970 nor an RFC 3339 time"
}

func unquote(raw json.RawMessage) string { return strings.Trim(string(raw), `"`) }

// jwtEnd reads the end of a token that is a JWT. Nothing else of a token is anybody's business but the API's.
func jwtEnd(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var claims struct {
		Exp float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(b, &claims) != nil || !(claims.Exp > 0 && claims.Exp < 1e11) {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0)
}

func quote(s string) string { return strconv.Quote(s) }

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if s == "" {
		return "it says nothing on its standard error"
	}
	return strconv.Quote(s[:min(len(s), 200)])
}

// capped keeps what is written up to a limit, and notes that there was more. It embeds nothing: bytes.Buffer has a
// ReadFrom that would go around the limit.
type capped struct {
	b     bytes.Buffer
	limit int
	over  bool
}

func (c *capped) Write(p []byte) (int, error) {
	n := min(len(p), c.limit-c.b.Len())
	c.over = c.over || n < len(p)
	_, _ = c.b.Write(p[:n]) // a Buffer does not fail
	return len(p), nil
}
