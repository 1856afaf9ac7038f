package httpconn

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// parse reads a body as what the flow will see, or says why it cannot.
func parse(req *sdk.HookRequest) (map[string]any, *sdk.HookResponse) {
	if enc := req.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, refuse(http.StatusUnsupportedMediaType, "content_type", "send the body without content encoding")
	}
	kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil {
		kind = "" // many senders name none, or none that can be read
	}
	switch {
	case kind == "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(req.Body))
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "unreadable", "the body is no form")
		}
		return formRow(form), nil
	case kind == "" && !json.Valid(req.Body), strings.HasPrefix(kind, "text/") && kind != "text/json":
		return map[string]any{"text": strings.ToValidUTF8(string(req.Body), "\uFFFD")}, nil
	case kind != "" && kind != "application/json" && kind != "text/json" && !strings.HasSuffix(kind, "+json"):
		return nil, refuse(http.StatusUnsupportedMediaType, "content_type", "send JSON, a form or text")
	}
	// The lenient decoder, whose result is written again: names that are there twice and broken UTF-8 are no reason to
	// lose a message, but must not get into an event.
	dec := json.NewDecoder(bytes.NewReader(req.Body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil || len(bytes.TrimSpace(req.Body[dec.InputOffset():])) > 0 {
		return nil, refuse(http.StatusBadRequest, "unreadable", "the body is not one JSON value")
	}
	if m, ok := v.(map[string]any); ok {
		return m, nil
	}
	return map[string]any{"body": v}, nil
}

func formRow(form url.Values) map[string]any {
	row := make(map[string]any, len(form))
	for name, list := range form {
		all := make([]any, len(list))
		for i, s := range list {
			all[i] = strings.ToValidUTF8(s, "\uFFFD")
		}
		name = strings.ToValidUTF8(name, "\uFFFD")
		if row[name] = all; len(all) == 1 {
			row[name] = all[0]
		}
	}
	return row
}

// event makes the event of a request. Its id, its object and its time follow from the request wherever the configuration
// says where to look, so that a repeat is the same event, or the same object with nothing new.
func (r *receiver) event(req *sdk.HookRequest, row map[string]any, now time.Time) (sdk.Event, error) {
	id := r.id.find(req, row)
	if id == "" {
		sum := sha256.New()
		_, _ = fmt.Fprintf(sum, "%d:%s", len(req.Path), req.Path)
		_, _ = sum.Write(req.Body)
		id = "sha256:" + hex.EncodeToString(sum.Sum(nil)[:20])
	}
	id = attribute(id)
	at := now
	if t, ok := parseTime(r.time.find(req, row)); ok && t.Before(now.Add(24*time.Hour)) && t.Unix() > 0 {
		at = t
	}
	prefix := "http:" + r.connection + ":"
	key := strings.ToLower(prefix + id)
	if key != prefix+id { // ids that differ in case only are two
		sum := sha256.Sum256([]byte(id))
		key += "~" + hex.EncodeToString(sum[:6])
	}
	if k := r.key.find(req, row); k != "" {
		key = strings.ToLower(prefix + "object:" + attribute(k))
	}
	ev := sdk.Event{
		Source: "urn:casewire:http:" + url.PathEscape(r.connection), Type: event.TypeRow, Subject: id, Time: at,
		PartitionKey: key, Digest: event.Digest(id),
	}
	ev.Seal()
	if len(r.cfg.Headers) > 0 {
		seen := map[string]any{}
		for _, name := range r.cfg.Headers {
			if v := req.Header.Get(name); v != "" {
				seen[strings.ToLower(name)] = strings.ToValidUTF8(v, "\uFFFD")
			}
		}
		row["_headers"] = seen
	}
	if req.Path != "" {
		row["_path"] = strings.ToValidUTF8(req.Path, "\uFFFD")
	}
	unmapped, err := plainJSON(map[string]any{"row": row})
	if err != nil {
		return ev, err
	}
	base := ocsf.BaseEvent{Unmapped: unmapped}
	base.SetClass(ocsf.ClassBase, ocsf.ActivityOther)
	base.ActivityName, base.TypeName = "Webhook", "Base Event: Webhook"
	base.Time = ev.Time.UnixMilli()
	base.Metadata = ocsf.Metadata{
		UID: ev.ID, Version: ocsf.Version, LogName: "webhook", OriginalEventUID: id,
		Product: ocsf.Product{Name: r.connection, Feature: &ocsf.Feature{Name: "webhook"}},
	}
	ev.Data, err = plainJSON(base)
	return ev, err
}

// plainJSON writes JSON without HTML escapes, which only make it longer.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// attribute makes a text fit for an attribute of an event.
func attribute(s string) string {
	plain := len(s) <= 200 && utf8.ValidString(s)
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] != 0x7f
	}
	if plain {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:20])
}

// source is where in a request something is: a header, or a place in the body.
type source struct {
	header  string
	pointer []string
}

func parseSource(s, field string) (source, error) {
	if name, ok := strings.CutPrefix(s, "header:"); ok {
		if name = strings.TrimSpace(name); httpguts.ValidHeaderFieldName(name) {
			return source{header: name}, nil
		}
		return source{}, sdk.BadConfig(field, "%q is no name of a header", name)
	}
	if s == "" {
		return source{}, nil
	}
	if s[0] != '/' {
		return source{}, sdk.BadConfig(field, "%q is neither a JSON pointer such as /alert/id nor header:NAME", s)
	}
	parts := strings.Split(s[1:], "/")
	for i, p := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
	}
	return source{pointer: parts}, nil
}

// find returns what is there; empty if nothing is, or a structure.
func (s source) find(req *sdk.HookRequest, row map[string]any) string {
	if s.header != "" {
		return strings.TrimSpace(req.Header.Get(s.header))
	}
	if s.pointer == nil {
		return ""
	}
	var v any = row
	for _, p := range s.pointer {
		switch t := v.(type) {
		case map[string]any:
			v = t[p]
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i < 0 || i >= len(t) {
				return ""
			}
			v = t[i]
		default:
			return ""
		}
	}
	text, _ := scalar(v)
	return strings.TrimSpace(text)
}

// parseTime reads RFC 3339, HTTP's form, or a number since 1970: of seconds, or of something finer if it is that large.
func parseTime(s string) (time.Time, bool) {
	s = strings.TrimSpace(s)
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, true
	}
	if t, err := http.ParseTime(s); err == nil {
		return t, true
	}
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || !(f > 0) || f >= 1e19:
		return time.Time{}, false
	case f < 1e11:
		return time.UnixMilli(int64(f * 1e3)), true
	case f < 1e14:
		return time.UnixMilli(int64(f)), true
	case f < 1e17:
		return time.UnixMicro(int64(f)), true
	default:
		return time.Unix(0, int64(min(f, 9e18))), true
	}
}
