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
		return fmt.Errorf("%s: %w", what, err)
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
	if json.Unmarshal(p.Message, &text) != nil {
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
// type CreateError, which other faults share. Only fetching the object proves it.
func maybeDuplicate(err error) bool {
	e := failed(err)
	return e != nil && (e.HTTPStatus == http.StatusConflict || e.HTTPStatus == http.StatusBadRequest && e.Meta[metaType] == "CreateError")
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
