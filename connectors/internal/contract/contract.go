// Package contract holds what connectors send, and what fakes answer, against the descriptions that vendors publish of their
// APIs, where these are at hand. It is for tests: nothing that ships imports it.
package contract

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Variable names the environment variable that says where the vendors' descriptions are.
const Variable = "CASEWIRE_CONTRACTS"

// Load reads a description, by its path below the folder that the environment names. It is nil when there is none.
func Load(name string) (*openapi3.T, error) {
	dir := os.Getenv(Variable)
	if dir == "" {
		return nil, nil
	}
	return openapi3.NewLoader().LoadFromFile(filepath.Join(dir, filepath.FromSlash(name)))
}

// Judge serves by another handler, and tells the test of every request and every reply that breaks the description.
type Judge struct {
	T    testing.TB
	Doc  *openapi3.T
	Next http.Handler
	// Silent lists parts of paths that the description says nothing about.
	Silent []string
	// Path turns the path of a request into one of the description; nil takes it as it is.
	Path func(string) string
	// Reply looks further at a good reply to an operation, given as "POST /path/{id}".
	Reply func(operation string, request, reply []byte) error

	mu   sync.Mutex
	seen map[string]bool
}

// Seen says whether an operation, such as "GET /path/{id}", was asked for.
func (j *Judge) Seen(operation string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seen[operation]
}

// route finds the operation of a request: of several that fit, the one with the fewest variables.
func (j *Judge) route(r *http.Request) (*routers.Route, map[string]string) {
	path := r.URL.Path
	if j.Path != nil {
		path = j.Path(path)
	}
	parts := strings.Split(path, "/")
	var best *routers.Route
	var args map[string]string
	for template, item := range j.Doc.Paths.Map() {
		op := item.GetOperation(r.Method)
		want := strings.Split(template, "/")
		if len(want) != len(parts) || op == nil {
			continue
		}
		found, fits := map[string]string{}, true
		for i, w := range want {
			if strings.HasPrefix(w, "{") {
				found[strings.Trim(w, "{}")] = parts[i]
			} else {
				fits = fits && w == parts[i]
			}
		}
		if fits && (best == nil || len(found) < len(args)) {
			best, args = &routers.Route{Spec: j.Doc, Path: template, PathItem: item, Method: r.Method, Operation: op}, found
		}
	}
	return best, args
}

// ServeHTTP judges one request and its reply.
func (j *Judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		j.T.Errorf("read request: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	route, args := j.route(r)
	if route == nil {
		if !slices.ContainsFunc(j.Silent, func(s string) bool { return strings.Contains(r.URL.Path, s) }) {
			j.T.Errorf("%s %s is not in the contract", r.Method, r.URL.Path)
		}
		j.Next.ServeHTTP(w, r)
		return
	}
	operation := r.Method + " " + route.Path
	check := r.Clone(r.Context())
	check.Body = io.NopCloser(bytes.NewReader(body))
	in := &openapi3filter.RequestValidationInput{
		Request: check, PathParams: args, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true,
			ExcludeRequestBody: strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/"),
		},
	}
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
		j.T.Errorf("%s %s breaks the contract: %v\n%.2000s", r.Method, r.URL, err, body)
	}
	tee := &tee{ResponseWriter: w}
	defer func() { // also when the fake cuts the connection
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.seen == nil {
			j.seen = map[string]bool{}
		}
		j.seen[operation] = true
	}()
	j.Next.ServeHTTP(tee, r)
	j.reply(r.Context(), operation, in, tee, body)
}

// reply judges a reply, unless it is a fault that a test asked for: one that is no JSON, or that the description does not have.
func (j *Judge) reply(ctx context.Context, operation string, in *openapi3filter.RequestValidationInput, got *tee, request []byte) {
	kind, _, _ := strings.Cut(got.Header().Get("Content-Type"), ";")
	described := in.Route.Operation.Responses.Status(got.status)
	body := got.body.Bytes()
	switch {
	case described == nil || described.Value.Content == nil,
		len(body) == 0 && got.status != http.StatusOK,
		len(body) > 0 && (kind != "application/json" || !json.Valid(body)):
		return
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: got.status, Header: http.Header{"Content-Type": {kind}}, Options: in.Options,
	}
	out.SetBodyBytes(body)
	err := openapi3filter.ValidateResponse(ctx, out)
	if err == nil && j.Reply != nil && got.status < http.StatusMultipleChoices {
		err = j.Reply(operation, request, body)
	}
	if err != nil {
		j.T.Errorf("the fake's %d to %s breaks the contract: %v\n%.2000s", got.status, operation, err, body)
	}
}

// tee keeps what is answered.
type tee struct {
	http.ResponseWriter

	status int
	body   bytes.Buffer
}

func (t *tee) WriteHeader(status int) {
	t.status = status
	t.ResponseWriter.WriteHeader(status)
}

func (t *tee) Write(b []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	t.body.Write(b)
	return t.ResponseWriter.Write(b)
}

func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *tee) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(t.ResponseWriter).Hijack()
}
