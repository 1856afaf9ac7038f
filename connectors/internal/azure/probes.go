package azure

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// Need is what a connection needs of one API, for Check.
type Need struct {
	// Scope of the token; API in words: "Microsoft Graph".
	Scope, API string
	// Permissions, each with what it is for. They are looked for in the token; where an API decides by other means (roles of
	// Azure Resource Manager), leave them out.
	Permissions []Permission
}

// Permission is one of AnyOf, as an application or a delegated permission.
type Permission struct {
	AnyOf []string
	For   string // "read alerts"
	// Optional permissions are a remark, not a warning.
	Optional bool
}

// When an end that draws near is told.
const (
	warnBefore = 30 * 24 * time.Hour
	failBefore = 7 * 24 * time.Hour
)

// Check tries the credential: a token for each need, what the token lets the app do, and how long secret and certificate
// hold. The first probe is named "token".
func (s *Session) Check(ctx context.Context, needs ...Need) []sdk.Probe {
	var out []sdk.Probe
	good := true
	for i, n := range needs {
		name := "token"
		if i > 0 {
			name += " for " + n.API
		}
		token, err := s.Tokens.get(ctx, n.Scope)
		if err != nil {
			good = false
			out = append(out, sdk.Probe{Name: name, Status: sdk.ProbeFailed, Summary: err.Error(), Remedy: s.remedy(err)})
			continue
		}
		out = append(out, tokenProbe(name, n, token, time.Now()))
		out = append(out, permissionProbes(n, token)...)
	}
	return append(out, s.Tokens.expiries(ctx, s, good, time.Now())...)
}

// remedy is what the error does not say already.
func (s *Session) remedy(err error) string {
	e, ok := errors.AsType[*sdk.Error](err)
	switch {
	case !ok:
		return ""
	case e.Reason == "SIGN_IN_REQUIRED":
		return "somebody has to sign in, once"
	case e.Reason == reasonCommand:
		return "the command runs as its connector does: confined, in a directory of its own, without HOME. What it reads and writes is named in plugins.sandbox (read, write); env sets variables: exec: [env, HOME=/home/casewire, az, …]"
	case strings.HasPrefix(e.Reason, "AADSTS"):
		return "see https://login.microsoftonline.com/error?code=" + strings.TrimPrefix(e.Reason, "AADSTS")
	}
	return "casewire reaches " + s.Tokens.where() + " with the connection's proxy and ca_file; look there first"
}

func (t *Tokens) where() string {
	switch src := t.source.(type) {
	case *entra:
		return src.where()
	case *person:
		return src.where()
	case *identity:
		return "the managed identity endpoint"
	}
	return "whoever issues the token"
}

func tokenProbe(name string, n Need, tok *issued, now time.Time) sdk.Probe {
	p := sdk.Probe{Name: name, Status: sdk.ProbeOK, Summary: fmt.Sprintf("for %s, good for %v", resource(n.Scope), tok.expires.Sub(now).Round(time.Minute))}
	c, ok := readClaims(tok.value)
	if tok.expires.Sub(now) > 10*365*24*time.Hour {
		p.Summary = "for " + resource(n.Scope) + ", as it was configured"
		if end := jwtEnd(tok.value); !end.IsZero() {
			p.Summary += fmt.Sprintf(", good for %v", end.Sub(now).Round(time.Minute))
			if !end.After(now) {
				p.Status, p.Summary, p.Remedy = sdk.ProbeFailed, "the configured token expired at "+end.UTC().Format(time.RFC3339), "configure a new one, or a credential that renews itself"
				return p
			}
		}
	}
	if !ok {
		return p
	}
	if aud := audiences(c.Audience); len(aud) > 0 && !slices.ContainsFunc(aud, func(a string) bool { return sameResource(a, resource(n.Scope)) }) {
		p.Status, p.Summary = sdk.ProbeWarning, fmt.Sprintf("%s was asked for, but the token is for %.100s", resource(n.Scope), strings.Join(aud, ", "))
		p.Remedy = "check the scope"
	}
	if c.Person != "" {
		p.Summary += ", on behalf of " + c.Person
	}
	if all := permissionsOf(c); len(all) > 0 {
		p.Summary += fmt.Sprintf("; may: %.400s", strings.Join(all, ", "))
	}
	return p
}

// permissionProbes say what the token does not let the app do. An API may decide differently (it has the last word), so
// that nothing here fails.
func permissionProbes(n Need, tok *issued) []sdk.Probe {
	c, ok := readClaims(tok.value)
	if !ok || len(n.Permissions) == 0 {
		return nil
	}
	have := permissionsOf(c)
	kind := "application"
	if c.Scopes != "" || c.Person != "" {
		kind = "delegated"
	}
	var missing, remedy []string
	optional := true
	for _, want := range n.Permissions {
		if slices.ContainsFunc(want.AnyOf, func(p string) bool { return slices.Contains(have, p) }) {
			continue
		}
		missing = append(missing, fmt.Sprintf("%s (to %s)", want.AnyOf[0], want.For))
		if !want.Optional {
			remedy = append(remedy, want.AnyOf[0])
		}
		optional = optional && want.Optional
	}
	p := sdk.Probe{Name: "permissions of " + n.API, Status: sdk.ProbeOK, Summary: "all are there"}
	if len(missing) > 0 {
		p.Summary = "missing: " + strings.Join(missing, ", ")
	}
	if !optional {
		p.Status = sdk.ProbeWarning
		p.Remedy = fmt.Sprintf("in the app registration, under API permissions, add %s (%s) of %s, and grant admin consent; a token that was issued before shows it after up to an hour", strings.Join(remedy, ", "), kind, n.API)
	}
	return []sdk.Probe{p}
}

// permissionsOf lists what a token says that it grants.
func permissionsOf(c claims) []string {
	out := append(slices.Clone(c.Roles), strings.Fields(c.Scopes)...)
	slices.Sort(out)
	return slices.Compact(out)
}

func audiences(v any) []string {
	switch a := v.(type) {
	case string:
		return []string{a}
	case []any:
		var out []string
		for _, one := range a {
			if s, ok := one.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// wellKnown are APIs whose tokens name them by a GUID.
var wellKnown = map[string]string{
	"00000003-0000-0000-c000-000000000000": "graph.", "ca7f3f0b-7d91-482c-8e09-c5d840d0eac5": "loganalytics.",
	"797f4846-ba00-4fd7-ba43-dac1f8f63013": "management.", "fc780465-2017-40d4-a0c5-307022471b92": "securitycenter.",
}

func sameResource(aud, resource string) bool {
	trim := func(s string) string { return strings.TrimRight(strings.ToLower(s), "/") }
	if part, ok := wellKnown[trim(aud)]; ok {
		return strings.Contains(trim(resource), part)
	}
	// Azure Resource Manager goes by two names.
	core := strings.NewReplacer("management.core.windows.net", "management.azure.com", "management.core.usgovcloudapi.net", "management.usgovcloudapi.net",
		"management.core.chinacloudapi.cn", "management.chinacloudapi.cn")
	return core.Replace(trim(aud)) == core.Replace(trim(resource))
}

// expiries say how long what the credential is made of still holds.
func (t *Tokens) expiries(ctx context.Context, s *Session, good bool, now time.Time) []sdk.Probe {
	switch src := t.source.(type) {
	case *entra:
		c := src.cred
		switch way := c.ways()[0]; way {
		case "certificate", "certificate_file":
			pair, err := c.appKey(src.field)
			if err != nil {
				return []sdk.Probe{{Name: "certificate", Status: sdk.ProbeFailed, Summary: err.Error()}}
			}
			return []sdk.Probe{expiry("certificate", pair.chain[0].NotAfter, now, "upload a new certificate to the app registration (Certificates & secrets), and configure it")}
		case "client_secret":
			return []sdk.Probe{s.secretExpiry(ctx, &c, good, now)}
		}
	case *person:
		if !src.cred.ClientSecret.IsZero() {
			return []sdk.Probe{s.secretExpiry(ctx, &src.cred, false, now)}
		}
	}
	return nil
}

const renewAdvice = "make a new secret in the app registration (Certificates & secrets), configure its value, and restart or kill -HUP the host; the old one may stay until then"

// secretExpiry finds out when the client secret ends: Entra tells an app that may read its own registration; else the
// configuration says it.
func (s *Session) secretExpiry(ctx context.Context, c *Credential, ask bool, now time.Time) sdk.Probe {
	if day, err := time.Parse(time.DateOnly, c.ClientSecretExpires); err == nil {
		return expiry("client secret", day, now, renewAdvice)
	}
	if ask {
		if end, ok := s.askSecretExpiry(ctx, c); ok {
			return expiry("client secret", end, now, renewAdvice)
		}
	}
	return sdk.Probe{
		Name: "client secret", Status: sdk.ProbeSkipped, Summary: "when it ends is not known",
		Remedy: "write client_secret_expires: 2027-01-31 into the credential, or let the app read its own registration (Application.Read.All)",
	}
}

// askSecretExpiry reads the app's registration. That it may not is no error.
func (s *Session) askSecretExpiry(ctx context.Context, c *Credential) (time.Time, bool) {
	graph := s.graph
	if graph == nil {
		var err error
		if graph, err = s.client(API{Name: GraphName, URL: c.endpoints().Graph, Field: "credential"}); err != nil {
			return time.Time{}, false
		}
		defer func() { _ = graph.Close() }() // made for this one request
	}
	var list struct {
		Value []struct {
			Secrets []struct {
				End  time.Time `json:"endDateTime"`
				Hint string    `json:"hint"` // its first three characters
			} `json:"passwordCredentials"`
		} `json:"value"`
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := graph.Get(ctx, "/v1.0/applications", url.Values{
		"$filter": {"appId eq '" + strings.ReplaceAll(c.ClientID, "'", "''") + "'"}, "$select": {"appId,passwordCredentials"},
	}, &list)
	if err != nil {
		return time.Time{}, false
	}
	var end time.Time
	secret := c.ClientSecret.Reveal()
	for _, app := range list.Value {
		for _, one := range app.Secrets {
			// Several secrets may begin alike; the latest of them is the best that can be said.
			if len(one.Hint) >= 3 && strings.HasPrefix(secret, one.Hint) && one.End.After(end) {
				end = one.End
			}
		}
	}
	return end, !end.IsZero()
}

// expiry says how long something still holds.
func expiry(name string, end, now time.Time, remedy string) sdk.Probe {
	left := end.Sub(now)
	p := sdk.Probe{Name: name, Status: sdk.ProbeOK, Expires: end, Summary: fmt.Sprintf("expires on %s, in %d days", end.UTC().Format(time.DateOnly), int(left.Hours()/24))}
	switch {
	case left <= 0:
		p.Status, p.Summary, p.Remedy = sdk.ProbeFailed, "expired on "+end.UTC().Format(time.DateOnly), remedy
	case left <= failBefore:
		p.Status, p.Remedy = sdk.ProbeFailed, remedy
	case left <= warnBefore:
		p.Status, p.Remedy = sdk.ProbeWarning, remedy
	}
	return p
}
