package httpconn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Request is the input of the action request.
type Request struct {
	Method string   `json:"method,omitempty" enum:"GET,HEAD,OPTIONS,POST,PUT,PATCH,DELETE" default:"GET" doc:"Method"`
	Path   string   `json:"path,omitempty" doc:"Path below base_url, escaped as it is to be sent" example:"/v1/tickets"`
	Parts  []string `json:"parts,omitempty" doc:"Further parts of the path, each of which is escaped: the place for values"`
	URL    string   `json:"url,omitempty" doc:"Instead of path and parts: a whole address below base_url or one of base_urls, such as a link that was found"`

	Query   map[string]any    `json:"query,omitempty" doc:"Parameters of the query: texts, numbers, or lists of them"`
	Headers map[string]string `json:"headers,omitempty" doc:"Headers"`

	JSON        json.RawMessage `json:"json,omitempty" doc:"Body, sent as JSON"`
	Text        string          `json:"text,omitempty" doc:"Body, sent as text"`
	Form        map[string]any  `json:"form,omitempty" doc:"Body, sent as a form: texts, numbers, or lists of them"`
	ContentType string          `json:"content_type,omitempty" doc:"Content type of the body, when it is not the usual one"`

	OK []int `json:"ok,omitempty" cw:"min=100,max=599" doc:"Statuses that are a success besides 2xx, such as 404"`
}

// Request sends one request.
func (c *Client) Request(ctx context.Context, in Request) (Response, error) {
	call := sdk.CallFrom(ctx)
	t, r, err := c.build(&in)
	if err != nil {
		return Response{}, err
	}
	what := r.Method + " " + t.base.Scheme + "://" + t.base.Host + t.base.EscapedPath() + cutQuery(r.Path)
	effect := call.Effect
	if effect == 0 { // the caller says nothing
		effect = sdk.Unsafe
		if reads(r.Method) {
			effect = sdk.Read
		}
	}
	if effect == sdk.Keyed {
		switch {
		case call.Resolve && c.cfg.IdempotentKeys:
			return Response{}, sdk.Absent("%s: with the same key it is done once, however often it is sent", what)
		case call.Resolve:
			return Response{}, sdk.Unresolved("%s: an HTTP request cannot be looked for, and the connection does not say that a repeat is safe (idempotent_keys)", what)
		case len(call.Prior) > 0:
			return done(call.Prior, what)
		}
		r.Header.Set(c.cfg.IdempotencyHeader, headerKey(call.Key))
	}
	writes := effect != sdk.Read
	r.Write = &writes
	resp, err := t.rest.Stream(ctx, r)
	if err != nil {
		return Response{}, err
	}
	return c.response(resp, what, writes)
}

func reads(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// done answers a keyed request that was done before with what it brought then: there is one effect per key.
func done(prior json.RawMessage, what string) (Response, error) {
	var r Response
	if err := json.Unmarshal(prior, &r); err != nil {
		return r, sdk.Invalid("", "what an earlier request with this key brought cannot be read: %v", err)
	}
	if r.Request != what {
		return Response{}, sdk.Invalid("", "the step's key was used for another request before (%s), and a key stands for one; add to the key what tells the two apart", r.Request)
	}
	return r, nil
}

// headerKey is an idempotency key that fits into a header and into what APIs accept: as it is if it is short and plain,
// else its hash.
func headerKey(key string) string {
	plain := len(key) <= 200
	for i := range len(key) {
		plain = plain && key[i] > ' ' && key[i] < 0x7f
	}
	if plain {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// build checks the input and makes the request of it.
func (c *Client) build(in *Request) (target, rest.Request, error) {
	r := rest.Request{Method: in.Method, Header: http.Header{}, OK: in.OK}
	if len(c.targets) == 0 {
		return target{}, r, sdk.BadConfig("/base_url", "is missing: this connection only takes webhooks")
	}
	t, path, err := c.address(in)
	if err != nil {
		return t, r, err
	}
	r.Path = path
	if r.Query, err = values(in.Query, "query"); err != nil {
		return t, r, err
	}
	r.Header.Set("Accept", "application/json, */*;q=0.5")
	for _, name := range slices.Sorted(maps.Keys(in.Headers)) {
		if why := c.badHeader(name, in.Headers[name]); why != "" {
			return t, r, sdk.Invalid("/headers/"+name, "%s", why)
		}
		r.Header.Set(name, in.Headers[name])
	}
	return t, r, body(in, &r)
}

// address finds where a request goes, and its path below the target.
func (c *Client) address(in *Request) (target, string, error) {
	if in.URL == "" {
		return c.path(in)
	}
	if in.Path != "" || len(in.Parts) > 0 {
		return target{}, "", sdk.Invalid("/url", "give either url, or path and parts")
	}
	u, err := url.Parse(in.URL)
	if err != nil || !u.IsAbs() || u.Host == "" || u.User != nil || hasControl(in.URL) {
		return target{}, "", sdk.Invalid("/url", "is no whole address such as https://api.example.com/v1/things")
	}
	t, ok := c.find(u)
	if !ok {
		return t, "", sdk.Invalid("/url", "%s://%s%s is not below base_url or one of base_urls, and goes nowhere else", u.Scheme, u.Host, u.EscapedPath())
	}
	path := strings.TrimPrefix(u.EscapedPath(), t.base.EscapedPath())
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return t, path, nil
}

func (c *Client) path(in *Request) (target, string, error) {
	if i := strings.IndexAny(in.Path, "?#\\"); i >= 0 || hasControl(in.Path) {
		return target{}, "", sdk.Invalid("/path", "has a character that is not part of a path; values belong into parts, and a query into query")
	}
	var path strings.Builder
	if p := strings.TrimLeft(in.Path, "/"); p != "" {
		path.WriteString("/" + p)
	}
	for i, part := range in.Parts {
		if part == "" || part == "." || part == ".." {
			return target{}, "", sdk.Invalid("/parts/"+strconv.Itoa(i), "%q cannot be part of a path", part)
		}
		s := strings.TrimRight(path.String(), "/")
		path.Reset()
		path.WriteString(s + "/" + url.PathEscape(part))
	}
	return c.targets[0], path.String(), nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func cutQuery(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// body puts the one body that is given into the request.
func body(in *Request, r *rest.Request) error {
	given := []string{}
	if len(in.JSON) > 0 {
		given = append(given, "json")
	}
	if in.Text != "" {
		given = append(given, "text")
	}
	if in.Form != nil {
		given = append(given, "form")
	}
	if len(given) > 1 {
		return sdk.Invalid("/"+given[1], "give one body, not %s", strings.Join(given, " and "))
	}
	if len(given) == 0 {
		return nil
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return sdk.Invalid("/"+given[0], "a %s has no body; give method: POST, or use query", r.Method)
	}
	usual := "application/json"
	switch given[0] {
	case "json":
		r.Body = []byte(in.JSON)
	case "text":
		r.Body, usual = []byte(in.Text), "text/plain; charset=utf-8"
	case "form":
		form, err := values(in.Form, "form")
		if err != nil {
			return err
		}
		r.Body, usual = []byte(form.Encode()), "application/x-www-form-urlencoded"
	}
	if in.ContentType != "" {
		usual = in.ContentType
		if hasControl(usual) {
			return sdk.Invalid("/content_type", "has a line break or another control character")
		}
	}
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", usual)
	}
	return nil
}

// values writes texts, numbers and lists of them as parameters.
func values(m map[string]any, field string) (url.Values, error) {
	out := url.Values{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list, ok := m[name].([]any)
		if !ok {
			list = []any{m[name]}
		}
		for _, v := range list {
			s, ok := scalar(v)
			if !ok {
				return nil, sdk.Invalid("/"+field+"/"+name, "must be text, a number, true, false or a list of them; write toJSON(…) to send a structure")
			}
			if v != nil {
				out.Add(name, s)
			}
		}
	}
	return out, nil
}

// scalar is the text of a value that is no structure. Nothing is no text, and fine.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case int, int64, uint64:
		return fmt.Sprint(v), true
	}
	return "", false
}
