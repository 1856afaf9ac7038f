package thehive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// do sends a request and decodes its answer into out unless out is nil. What says what is being done, for errors.
func (c *Client) do(ctx context.Context, what string, req rest.Request, out any) error {
	resp, err := c.api.Do(ctx, req)
	if err != nil {
		return fmt.Errorf("%s: %w", what, c.advise(ctx, &req, err))
	}
	if out == nil {
		if len(resp.Body) == 0 || resp.Status == http.StatusNoContent {
			return nil
		}
		// Whatever it says, TheHive says it in JSON; a web page comes from something in between.
		out = &json.RawMessage{}
	}
	if err := resp.JSON(out); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// advise says in words what to do about a refused credential or a missing permission. Whether it is the licence that lacks,
// without which TheHive is read-only, only TheHive's status tells.
func (c *Client) advise(ctx context.Context, req *rest.Request, err error) error {
	e := failed(err)
	if e == nil {
		return err
	}
	org := "the user's own organisation"
	if c.cfg.Organisation != "" {
		org = "organisation " + c.cfg.Organisation
	}
	switch {
	case e.HTTPStatus == http.StatusUnauthorized:
		e.Message += "; the API key is wrong, was revoked, or its user was locked: make a new key in TheHive and put it into api_key"
	case e.HTTPStatus == http.StatusForbidden && req.Path != statusPath:
		e.Message += "; the user's profile in " + org + " does not permit it"
		if licence := c.licence(ctx); licence.Valid != nil && !*licence.Valid {
			e.Message += ", or rather nobody may: the licence is not valid, and without one TheHive is read-only"
		}
	}
	return err
}

// statusPath is where TheHive tells of its licence.
const statusPath = "/api/v1/status"

// licence is what is read of a licence; Valid is nil when TheHive does not say.
type licence struct {
	Valid     *bool  `json:"isValid"`
	Plan      string `json:"plan"`
	ExpiresAt int64  `json:"expiresAt"`
	Error     string `json:"error"`
}

// licence asks for the licence; what cannot be asked is empty.
func (c *Client) licence(ctx context.Context) licence {
	var status struct {
		License licence `json:"license"`
	}
	resp, err := c.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: statusPath})
	if err != nil || json.Unmarshal(resp.Body, &status) != nil {
		return licence{}
	}
	return status.License
}

var no = false

// query runs a chain of TheHive's query API, which is a POST that changes nothing.
func (c *Client) query(ctx context.Context, what string, chain []any, out any) error {
	return c.do(ctx, what, rest.Request{
		Method: http.MethodPost, Path: "/api/v1/query", Body: map[string]any{"query": chain}, Write: &no,
	}, out)
}

// create posts body and decodes what was made.
func (c *Client) create(ctx context.Context, what, path string, body, out any) error {
	return c.do(ctx, what, rest.Request{Method: http.MethodPost, Path: path, Body: body}, out)
}

// patch changes an object; TheHive answers without a body.
func (c *Client) patch(ctx context.Context, what, path string, body any) error {
	return c.do(ctx, what, rest.Request{Method: http.MethodPatch, Path: path, Body: body}, nil)
}

// metaType is where explain keeps the type of TheHive's error, such as CreateError.
const metaType = "type"

// explain reads {"type":"BadRequest","message":"…"}.
func explain(_ int, _ http.Header, body []byte, e *sdk.Error) {
	var p struct {
		Type    string          `json:"type"`
		Message json.RawMessage `json:"message"`
	}
	if json.Unmarshal(body, &p) != nil || p.Type == "" {
		return
	}
	var text string
	if json.Unmarshal(p.Message, &text) != nil && string(p.Message) != "{}" {
		text = string(p.Message)
	}
	if e.Meta == nil {
		e.Meta = map[string]string{}
	}
	e.Meta[metaType] = cut(p.Type, 64)
	e.Message = strings.TrimSuffix(cut(p.Type, 64)+": "+cut(text, 500), ": ")
}

// failed returns err as an *sdk.Error, or nil.
func failed(err error) *sdk.Error {
	e, _ := errors.AsType[*sdk.Error](err)
	return e
}

func notFound(err error) bool {
	e := failed(err)
	return e != nil && e.Code == codes.NotFound
}

// maybeDuplicate says that a create may have been refused because the object exists: 409 since 5.6, before that 400 with
// type CreateError, which other faults share, or with nothing that can be read. Only fetching the object proves it.
func maybeDuplicate(err error) bool {
	e := failed(err)
	if e == nil || e.HTTPStatus != http.StatusBadRequest {
		return e != nil && e.HTTPStatus == http.StatusConflict
	}
	return e.Meta[metaType] == "CreateError" || e.Meta[metaType] == ""
}

// badRequest says that TheHive refused the content of a request.
func badRequest(err error) bool {
	e := failed(err)
	return e != nil && (e.HTTPStatus == http.StatusBadRequest || e.HTTPStatus == http.StatusUnprocessableEntity)
}

// objectID accepts ids as TheHive makes them (~41943040) and numbers: what may stand in a path.
func objectID(s string) bool {
	s = strings.TrimPrefix(s, "~")
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) < 32
}

// cut shortens s to at most limit bytes without splitting a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// units counts UTF-16 code units, in which the JVM measures text.
func units(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x10000 {
			n++
		}
	}
	return n
}

// cutUnits returns the longest prefix of s of at most limit UTF-16 units that does not split a character.
func cutUnits(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := 0
	for i, r := range s {
		w := 1
		if r >= 0x10000 {
			w = 2
		}
		if n += w; n > limit {
			return s[:i]
		}
	}
	return s
}

// fit cuts s to limit with a mark where something is missing.
func fit(s string, limit int, mark string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if short := cutUnits(s, limit); len(short) < len(s) {
		return cutUnits(s, limit-units(mark)) + mark
	}
	return s
}
