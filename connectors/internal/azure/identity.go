package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// The endpoints that are known beforehand.
const (
	imdsEndpoint = "http://169.254.169.254"
	arcEndpoint  = "http://localhost:40342/metadata/identity/oauth2/token"
)

const imdsPath = "/metadata/identity/oauth2/token"

// The sources of managed identity.
const (
	fromIMDS       = "imds"
	fromAppService = "app_service"
	fromArc        = "arc"
)

func (m *Identity) source() string {
	switch {
	case m.Source != "":
		return m.Source
	case !m.Header.IsZero():
		return fromAppService
	default:
		return fromIMDS
	}
}

func (m *Identity) check(fault func(name, text string)) {
	const at = "/managed_identity"
	ids := 0
	for _, id := range []string{m.ClientID, m.ResourceID, m.ObjectID} {
		if id != "" {
			ids++
		}
	}
	if ids > 1 {
		fault(at, "names an identity in several ways; keep one of client_id, resource_id and object_id")
	}
	switch m.source() {
	case fromAppService:
		if m.Endpoint.IsZero() {
			fault(at+"/endpoint", "is required for app_service: env:IDENTITY_ENDPOINT")
		}
		if m.Header.IsZero() {
			fault(at+"/header", "is required for app_service: env:IDENTITY_HEADER")
		}
	case fromArc:
		if ids > 0 {
			fault(at, "of a machine under Azure Arc is always the system-assigned one: leave the id out")
		}
	}
	if !m.Endpoint.IsZero() {
		if u, err := url.Parse(m.Endpoint.Reveal()); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			fault(at+"/endpoint", "must be a URL")
		}
	}
}

// identity gets tokens of a managed identity, from the one address that issues them. MSAL is not asked: it finds that
// address in environment variables, which connectors do not have, and keeps one cache for the whole process.
type identity struct {
	Identity

	http    http.Client
	arcKeys string // directory of the challenges of Azure Arc
}

func newIdentity(m Identity) *identity {
	// Not the connection's transport: that refuses the addresses of metadata services, whoever asks. This one is used for
	// the configured address only, without a proxy and without following anything.
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConns:          2, IdleConnTimeout: 30 * time.Second,
	}
	return &identity{Identity: m, http: http.Client{Transport: transport, CheckRedirect: noRedirect}, arcKeys: "/var/opt/azcmagent/tokens"}
}

func (m *identity) close() { m.http.CloseIdleConnections() }

// request makes the request of one source. The parameters' names differ; see "How to use managed identities to acquire an
// access token" and "How to use managed identities for App Service".
func (m *identity) request(ctx context.Context, scope string) (*http.Request, error) {
	at, q, h := m.Endpoint.Reveal(), url.Values{"resource": {resource(scope)}}, http.Header{}
	names := [3]string{"client_id", "object_id", "msi_res_id"}
	switch m.source() {
	case fromAppService:
		q.Set("api-version", "2019-08-01")
		h.Set("X-Identity-Header", m.Header.Reveal())
		names = [3]string{"client_id", "principal_id", "mi_res_id"}
	case fromArc:
		if at == "" {
			at = arcEndpoint
		}
		q.Set("api-version", "2020-06-01")
		h.Set("Metadata", "true")
	default:
		if at == "" {
			at = imdsEndpoint
		}
		at = strings.TrimSuffix(strings.TrimRight(at, "/"), imdsPath) + imdsPath
		q.Set("api-version", "2018-02-01")
		h.Set("Metadata", "true")
	}
	for i, id := range []string{m.ClientID, m.ObjectID, m.ResourceID} {
		if id != "" {
			q.Set(names[i], id)
		}
	}
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+sep+q.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header = h
	return req, nil
}

func (m *identity) token(ctx context.Context, w want) (*issued, error) {
	status, header, body, err := m.ask(ctx, w.scope, "")
	if err == nil && status == http.StatusUnauthorized && m.source() == fromArc {
		var key string
		if key, err = m.arcKey(header); err == nil {
			status, header, body, err = m.ask(ctx, w.scope, key)
		}
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if status != http.StatusOK {
		return nil, m.refused(status, header, body)
	}
	value, expires, why := readToken(now, body)
	if why != "" || !json.Valid(body) {
		return nil, sdk.Unavailable("the managed identity endpoint (%s) answered with something that is no token", m.source())
	}
	if !expires.After(now) {
		return nil, sdk.Unavailable("the managed identity endpoint (%s) answered with a token that has expired: check this machine's clock", m.source())
	}
	return &issued{value: value, expires: expires, renewAt: renewal(now, expires)}, nil
}

func (m *identity) ask(ctx context.Context, scope, key string) (int, http.Header, []byte, error) {
	req, err := m.request(ctx, scope)
	if err != nil {
		return 0, nil, nil, sdk.Auth("the managed identity endpoint is no URL")
	}
	if key != "" {
		req.Header.Set("Authorization", "Basic "+key)
	}
	resp, err := m.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			e := sdk.Unavailable("the managed identity endpoint (%s) did not answer in time", m.source())
			e.Code = codes.DeadlineExceeded
			return 0, nil, nil, e
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address may be a secret
		}
		return 0, nil, nil, sdk.Unavailable("the managed identity endpoint (%s) cannot be reached: %v; does this host run on Azure, with an identity assigned?", m.source(), err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenOutput))
	if err != nil {
		return 0, nil, nil, sdk.Unavailable("the managed identity endpoint (%s) broke its answer off: %v", m.source(), err)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// arcKey reads the file that Azure Arc's agent has just written: who can read it belongs to the group himds.
func (m *identity) arcKey(h http.Header) (string, error) {
	_, path, ok := strings.Cut(h.Get("Www-Authenticate"), "Basic realm=")
	path = strings.Trim(path, `"`)
	if !ok || filepath.Dir(filepath.Clean(path)) != m.arcKeys || filepath.Ext(path) != ".key" {
		return "", commandError("the agent of Azure Arc asks for a file outside of %s: this is not its agent", m.arcKeys)
	}
	b, err := readSmall(filepath.Clean(path))
	switch {
	case errors.Is(err, os.ErrPermission):
		return "", commandError("%v: add the account of this host to the group himds, and the directory to plugins.sandbox.read", err)
	case err != nil || len(b) > 4096:
		return "", commandError("the key file of Azure Arc cannot be read: %v", err)
	}
	return string(b), nil
}

// refused says why there is no token.
func (m *identity) refused(status int, header http.Header, body []byte) error {
	var r refusal
	var app struct {
		Message string `json:"message"` // App Service
	}
	_, _ = json.Unmarshal(body, &r), json.Unmarshal(body, &app) // what is no JSON says nothing
	text := firstSentence(r.Description)
	if text == "" {
		text = app.Message
	}
	if text == "" {
		text = r.Error
	}
	if header := m.Header.Reveal(); header != "" {
		text = strings.ReplaceAll(text, header, sdk.Redacted)
	}
	what := fmt.Sprintf("no token of the managed identity (%s): HTTP status %d", m.source(), status)
	if text != "" {
		what += fmt.Sprintf(": %.300s", text)
	}
	out := sdk.Auth("%s", what)
	out.HTTPStatus, out.RequestID = status, firstHeader(header)
	out.RetryAfter = rest.RetryAfter(header, time.Now())
	switch {
	case status == http.StatusTooManyRequests:
		out.Code = codes.ResourceExhausted
	case status == http.StatusNotFound, status == http.StatusGone, status >= 500:
		// The service is being updated: up to 70 s, says its documentation.
		out.Code = codes.Unavailable
	default:
		out.Origin = sdk.OriginConfig
		out.Message += "; assign an identity to this machine or app, and check the id in managed_identity"
	}
	if code, _, ok := strings.Cut(strings.TrimPrefix(text, "AADSTS"), ":"); ok && strings.HasPrefix(text, "AADSTS") {
		if n, err := strconv.Atoi(code); err == nil {
			out.Reason = "AADSTS" + code
			if known := remedies[n]; known != "" {
				out.Message += "; " + known
			}
		}
	}
	return out
}
