package jira

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// metaEntry is an issue type or a field in create, edit or transition metadata.
type metaEntry struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	FieldID    string `json:"fieldId"`
	Key        string `json:"key"`
	Required   bool   `json:"required"`
	HasDefault bool   `json:"hasDefaultValue"`
	Schema     struct {
		Type   string `json:"type"`
		Items  string `json:"items"`
		Custom string `json:"custom"`
		System string `json:"system"`
	} `json:"schema"`
	AllowedValues []json.RawMessage `json:"allowedValues"`
}

// choice is one allowed value: options have a value, everything else a name.
type choice struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Value    string   `json:"value"`
	Disabled bool     `json:"disabled"`
	Children []choice `json:"children"`
}

func (o *choice) label() string { return cmp.Or(o.Value, o.Name, o.ID) }

func (m *metaEntry) name() string {
	return cmp.Or(m.FieldID, m.Key)
}

// called is what people call the field.
func (m *metaEntry) called() string {
	if m.Name == "" || strings.EqualFold(m.Name, m.name()) {
		return m.name()
	}
	return m.Name + " (" + m.name() + ")"
}

func (m *metaEntry) allowed() []choice {
	out := make([]choice, 0, len(m.AllowedValues))
	for _, raw := range m.AllowedValues {
		var o choice
		if json.Unmarshal(raw, &o) == nil && !o.Disabled {
			out = append(out, o)
		}
	}
	return out
}

// maxChoices bounds how many allowed values an error lists.
const maxChoices = 25

// choices ends a sentence with the values that the field allows.
func (m *metaEntry) choices() string {
	return listed(m.allowed())
}

func listed(all []choice) string {
	if len(all) == 0 {
		return ""
	}
	labels := make([]string, 0, maxChoices)
	for i, o := range all {
		if i == maxChoices {
			labels = append(labels, fmt.Sprintf("and %d more", len(all)-maxChoices))
			break
		}
		labels = append(labels, clip(o.label(), 80))
	}
	return "; it allows " + strings.Join(labels, ", ")
}

// pick finds an allowed value by name, value or id.
func pick(all []choice, want string) (choice, bool) {
	for _, o := range all {
		if strings.EqualFold(o.Value, want) && o.Value != "" || strings.EqualFold(o.Name, want) && o.Name != "" {
			return o, true
		}
	}
	for _, o := range all {
		if o.ID == want && want != "" {
			return o, true
		}
	}
	return choice{}, false
}

// fieldSet is a screen: the fields that can be set there.
type fieldSet struct {
	entries []metaEntry
	at      string // what it is, for errors
	root    string // JSON pointer of the input, with a slash at the end
	format  string // of long texts: markdown or text
}

// find looks a field up by id, then by name; a name that several fields have is no name.
func (s *fieldSet) find(name string) (*metaEntry, string) {
	for i := range s.entries {
		if s.entries[i].name() == name {
			return &s.entries[i], ""
		}
	}
	var found *metaEntry
	for i := range s.entries {
		if e := &s.entries[i]; strings.EqualFold(e.Name, name) {
			if found != nil {
				return nil, fmt.Sprintf("is the name of %s and of %s; use the id", found.name(), e.name())
			}
			found = e
		}
	}
	if found == nil {
		names := make([]string, 0, len(s.entries))
		for i := range s.entries {
			names = append(names, s.entries[i].called())
		}
		why := "is not on " + s.at
		if near := nearestName(name, s.entries); near != "" {
			why += "; did you mean " + near + "?"
		} else if len(names) > 0 {
			why += "; it has " + clip(strings.Join(names, ", "), 600)
		}
		return nil, why
	}
	return found, ""
}

// nearestName is a field whose name is contained in what was asked for, or contains it.
func nearestName(name string, entries []metaEntry) string {
	low := strings.ToLower(name)
	for i := range entries {
		if have := strings.ToLower(entries[i].Name); have != "" && low != "" && (strings.Contains(have, low) || strings.Contains(low, have)) {
			return entries[i].called()
		}
	}
	return ""
}

// convert makes of values as people write them what Jira's API takes: fields by id, options by id, users by account. It
// returns everything that is wrong at once.
func (s *fieldSet) convert(ctx context.Context, c *Client, given map[string]json.RawMessage) (map[string]json.RawMessage, []sdk.Violation) {
	out := make(map[string]json.RawMessage, len(given))
	var bad []sdk.Violation
	from := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		fail := func(why string) {
			bad = append(bad, sdk.Violation{Field: s.root + pointerPart(name), Description: why})
		}
		f, why := s.find(name)
		if f == nil {
			fail(why)
			continue
		}
		if other, twice := from[f.name()]; twice {
			fail("is the same field as " + other)
			continue
		}
		from[f.name()] = name
		v, why := c.fieldValue(ctx, f, given[name], s.format)
		if why != "" {
			fail(f.called() + " " + why)
			continue
		}
		if string(v) == "null" && f.Required {
			fail(f.called() + " is required" + f.choices())
			continue
		}
		out[f.name()] = v
	}
	return out, bad
}

// pointerPart escapes a name for a JSON pointer.
func pointerPart(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil { // strings always encode
		return json.RawMessage(`""`)
	}
	return b
}

// fieldValue converts one value. Objects go as they are: whoever writes one knows the API.
func (c *Client) fieldValue(ctx context.Context, f *metaEntry, raw json.RawMessage, format string) (json.RawMessage, string) {
	trimmed := strings.TrimSpace(string(raw))
	if trimmed == "null" || strings.HasPrefix(trimmed, "{") {
		return raw, ""
	}
	var list []json.RawMessage
	isList := json.Unmarshal(raw, &list) == nil
	if strings.HasSuffix(f.Schema.Custom, ":cascadingselect") || f.Schema.Type == "option-with-child" {
		return cascading(f, raw, list, isList)
	}
	if f.Schema.Type != "array" {
		if isList {
			return nil, "takes one value, not a list"
		}
		return c.single(ctx, f, f.Schema.Type, raw, format)
	}
	if !isList {
		list = []json.RawMessage{raw}
	}
	values := make([]json.RawMessage, 0, len(list))
	for _, one := range list {
		if strings.HasPrefix(strings.TrimSpace(string(one)), "{") {
			values = append(values, one)
			continue
		}
		v, why := c.single(ctx, f, f.Schema.Items, one, format)
		if why != "" {
			return nil, why
		}
		if string(v) != `""` {
			values = append(values, v)
		}
	}
	return encoded(values), ""
}

func encoded(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil { // raw values that were read from JSON
		return json.RawMessage("null")
	}
	return b
}

// word makes a text of a string, number or truth value.
func asText(raw json.RawMessage) (string, bool) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, true
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String(), true
	}
	var b bool
	if json.Unmarshal(raw, &b) == nil {
		return strconv.FormatBool(b), true
	}
	return "", false
}

// single converts a value that is no list and no object.
func (c *Client) single(ctx context.Context, f *metaEntry, kind string, raw json.RawMessage, format string) (json.RawMessage, string) {
	s, ok := asText(raw)
	if !ok {
		return nil, "takes a value, not " + clip(string(raw), 80)
	}
	switch kind {
	case "string":
		switch {
		case f.Schema.System == "labels" || f.Schema.Type == "array":
			return quoted(sanitizeLabel(s)), ""
		case strings.HasSuffix(f.Schema.Custom, ":textarea") || f.Schema.System == "environment":
			value, _ := c.rich(&richText{format: format, text: s})
			return value, ""
		case strings.HasSuffix(f.Schema.Custom, ":url"):
			if !linkable(s) {
				return nil, "takes a web address"
			}
			return quoted(s), ""
		}
		return quoted(oneLine(s, maxTextField)), ""
	case "number":
		n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil {
			return nil, "takes a number, not " + clip(s, 80)
		}
		return encoded(n), ""
	case "date", "datetime":
		return moment(kind, s)
	case "user":
		return c.userValue(ctx, s)
	case "any", "":
		return raw, ""
	}
	all := f.allowed()
	o, ok := pick(all, s)
	if !ok {
		if len(all) == 0 { // Jira lists no values: it knows names
			return encoded(named(s)), ""
		}
		return nil, fmt.Sprintf("does not allow %q%s", clip(s, 80), listed(all))
	}
	return encoded(nameOrID{ID: o.ID, Name: map[bool]string{true: o.Name}[o.ID == ""]}), ""
}

// maxTextField is the limit of a single-line text field.
const maxTextField = 254

// moment makes a date or a time of RFC 3339 or a date.
func moment(kind, s string) (json.RawMessage, string) {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, jiraTime, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		if kind == "date" {
			return quoted(t.Format(time.DateOnly)), ""
		}
		return quoted(t.Format(jiraTime)), ""
	}
	return nil, fmt.Sprintf("takes a %s such as 2026-11-23 or 2026-11-23T10:00:00Z, not %q", kind, clip(s, 80))
}

// cascading takes "Parent / Child", ["Parent","Child"], or the parent alone.
func cascading(f *metaEntry, raw json.RawMessage, list []json.RawMessage, isList bool) (json.RawMessage, string) {
	var parts []string
	if isList {
		for _, one := range list {
			s, ok := asText(one)
			if !ok {
				return nil, "takes texts"
			}
			parts = append(parts, s)
		}
	} else if s, ok := asText(raw); ok {
		parts = []string{s}
		if _, whole := pick(f.allowed(), s); !whole {
			if a, b, two := strings.Cut(s, "/"); two {
				parts = []string{strings.TrimSpace(a), strings.TrimSpace(b)}
			}
		}
	}
	if len(parts) < 1 || len(parts) > 2 {
		return nil, `takes "Parent / Child" or ["Parent", "Child"]`
	}
	all := f.allowed()
	parent, ok := pick(all, parts[0])
	if !ok {
		return nil, fmt.Sprintf("does not allow %q%s", clip(parts[0], 80), listed(all))
	}
	out := map[string]any{"id": parent.ID}
	if len(parts) == 2 {
		child, ok := pick(parent.Children, parts[1])
		if !ok {
			return nil, fmt.Sprintf("does not allow %q below %q%s", clip(parts[1], 80), parent.label(), listed(parent.Children))
		}
		out["child"] = map[string]string{"id": child.ID}
	}
	return encoded(out), ""
}

// userRef is how Jira names an account: by accountId on Cloud, by name on Data Center.
type userRef struct {
	AccountID string `json:"accountId,omitempty"`
	Name      string `json:"name,omitempty"`
}

type foundUser struct {
	AccountID    string `json:"accountId"`
	Name         string `json:"name"`
	EmailAddress string `json:"emailAddress"`
	DisplayName  string `json:"displayName"`
	Active       *bool  `json:"active"`
}

// userValue finds an account by mail address, name or account id.
func (c *Client) userValue(ctx context.Context, s string) (json.RawMessage, string) {
	ref, why := c.user(ctx, s)
	if why != "" {
		return nil, why
	}
	return encoded(ref), ""
}

// user finds one account. A text without an at sign or space that looks like an account id is taken as one.
func (c *Client) user(ctx context.Context, s string) (userRef, string) {
	s = strings.TrimSpace(s)
	if s == "" {
		return userRef{}, "names no user"
	}
	if ref, ok := c.users.get(s); ok {
		return ref, ""
	}
	site, err := c.where(ctx)
	if err != nil {
		return userRef{}, "cannot be checked: " + err.Error()
	}
	key := "username"
	if site.cloud {
		key = "query"
		if accountID(s) {
			return userRef{AccountID: s}, ""
		}
	}
	var found []foundUser
	err = c.do(ctx, &request{
		verb: "look for user", noun: clip(s, 80), method: http.MethodGet, path: "rest/api/2/user/search?maxResults=20&" + key + "=" + url.QueryEscape(s),
	}, &found)
	if err != nil {
		return userRef{}, "cannot be looked up: " + err.Error()
	}
	found = slices.DeleteFunc(found, func(u foundUser) bool { return u.Active != nil && !*u.Active })
	exact := slices.DeleteFunc(slices.Clone(found), func(u foundUser) bool {
		return !strings.EqualFold(u.EmailAddress, s) && !strings.EqualFold(u.Name, s) && !strings.EqualFold(u.DisplayName, s)
	})
	if len(exact) > 0 {
		found = exact
	}
	switch {
	case len(found) == 0:
		return userRef{}, fmt.Sprintf("finds no user %q (Jira hides mail addresses by each account's privacy settings; the account id always works)", clip(s, 80))
	case len(found) > 1:
		return userRef{}, fmt.Sprintf("finds %d users for %q; use the account id", len(found), clip(s, 80))
	}
	ref := userRef{AccountID: found[0].AccountID}
	if ref.AccountID == "" {
		ref.Name = found[0].Name
	}
	c.users.put(s, ref)
	return ref, ""
}

// accountID says whether s looks like an Atlassian account id: 24 hex digits, or a site prefix, a colon and a UUID.
func accountID(s string) bool {
	if len(s) == 24 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == "" {
		return true
	}
	prefix, uuid, ok := strings.Cut(s, ":")
	return ok && digits(prefix) && len(uuid) == 36 && strings.Count(uuid, "-") == 4
}
