package httpconn

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Response is the output of the action request.
type Response struct {
	Status    int               `json:"status" doc:"HTTP status"`
	Headers   map[string]string `json:"headers" doc:"Headers by their names in lower case; several values of one are joined by commas"`
	JSON      json.RawMessage   `json:"json,omitempty" doc:"Body, when it is JSON"`
	Text      string            `json:"text" doc:"Body, when it is not JSON"`
	Truncated bool              `json:"truncated" doc:"The body was longer than max_response, or broke off; then it is text"`
	Request   string            `json:"request" doc:"What was asked: method and address, without the query"`
}

// response reads an answer.
func (c *Client) response(resp *http.Response, what string, writes bool) (Response, error) {
	defer resp.Body.Close()
	out := Response{Status: resp.StatusCode, Headers: map[string]string{}, Request: what}
	for name, v := range resp.Header {
		if name != "Set-Cookie" { // a credential
			out.Headers[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(v, ", "), "\uFFFD")
		}
	}
	limit := c.cfg.MaxResponse
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		if !writes {
			return Response{}, err
		}
		// The status says that it was done: not knowing the rest of the answer does not change that.
		out.Truncated = true
	}
	if len(b) > limit {
		b, out.Truncated = b[:limit], true
	}
	if !out.Truncated && isJSON(resp.Header, b) {
		out.JSON = b
		return out, nil
	}
	out.Text = text(b)
	for encodedLen(out.Text) > maxText { // control characters take up to six bytes each
		out.Text, out.Truncated = text([]byte(out.Text[:len(out.Text)/2])), true
	}
	return out, nil
}

// maxText is how much room a text may take in the output.
const maxText = 1800 << 10

func encodedLen(s string) int {
	n := len(s)
	for i := range len(s) {
		switch {
		case s[i] < ' ':
			n += 5
		case s[i] == '"' || s[i] == '\\':
			n++
		}
	}
	return n
}

// text is a body as valid text: half a character at the end of a cut is left out.
func text(b []byte) string {
	for i := 1; i <= utf8.UTFMax && i <= len(b); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				b = b[:len(b)-i]
			}
			break
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// isJSON says whether a body is JSON: it must be valid, and not be said to be something else.
func isJSON(h http.Header, b []byte) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err == nil && kind != "application/json" && !strings.HasSuffix(kind, "+json") && kind != "text/json" {
		return false
	}
	return len(b) > 0 && jsontext.Value(b).IsValid(jsontext.AllowDuplicateNames(true))
}
