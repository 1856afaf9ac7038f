package jirafake

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// content is what people can edit of an issue.
type content struct {
	fields   map[string]json.RawMessage // summary, description, environment, duedate, parent and custom fields
	labels   []string
	priority *Priority
	assignee *User
}

const (
	maxSummary = 254 // "must be less than 255 characters"
	maxText    = 32767
	maxLabel   = 255
)

// length counts as Jira does, in UTF-16 units.
func length(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

func notOnScreen(name string) string {
	return "Field '" + name + "' cannot be set. It is not on the appropriate screen, or unknown."
}

// set gives a field a value and returns what Jira would say against it.
func (s *Server) set(c *content, p *Project, t *IssueType, name string, raw json.RawMessage) string {
	if slices.Contains(t.Hidden, name) {
		return notOnScreen(name)
	}
	null := string(raw) == "null"
	switch name {
	case "summary":
		return setSummary(c, raw)
	case "description", "environment":
		v, ok := text(raw)
		switch {
		case null:
			delete(c.fields, name)
			return ""
		case !ok:
			return "Operation value must be a string"
		case length(v) > maxText:
			return "The entered text is too long. It exceeds the allowed limit of 32,767 characters."
		}
	case "labels":
		return setLabels(c, raw)
	case "priority":
		return s.setPriority(c, p, raw)
	case "assignee":
		return s.setAssignee(c, raw)
	case "duedate":
		if v, ok := text(raw); !null && (!ok || !validTime(v, time.DateOnly)) {
			return "Error parsing date string: the format must be yyyy-MM-dd"
		}
	case "reporter", "parent":
		if _, ok := decodeObject(raw); !ok {
			return "data was not an object"
		}
	default:
		i := slices.IndexFunc(t.Fields, func(f Field) bool { return f.ID == name })
		if i < 0 {
			return notOnScreen(name)
		}
		if bad := s.checkCustom(&t.Fields[i], raw); bad != "" {
			return bad
		}
	}
	c.fields[name] = raw
	return ""
}

func setSummary(c *content, raw json.RawMessage) string {
	v, ok := text(raw)
	switch {
	case !ok || strings.TrimSpace(v) == "":
		return "You must specify a summary of the issue."
	case strings.ContainsAny(v, "\r\n"):
		return "The summary is invalid because it contains newline characters."
	case length(v) > maxSummary:
		return "The summary must be less than 255 characters."
	}
	c.fields["summary"] = raw
	return ""
}

func setLabels(c *content, raw json.RawMessage) string {
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		return "data was not an array"
	}
	c.labels = nil
	for _, label := range list {
		if bad := addLabel(c, label); bad != "" {
			return bad
		}
	}
	return ""
}

func addLabel(c *content, label string) string {
	switch {
	case label == "":
		return "The label must not be empty."
	case strings.ContainsAny(label, " \t\r\n\v\f\u00a0"):
		return "The label '" + label + "' contains spaces which is invalid."
	case length(label) > maxLabel:
		return "The label '" + label + "' exceeds the maximum length of 255 characters."
	}
	if !slices.Contains(c.labels, label) {
		c.labels = append(c.labels, label)
	}
	return ""
}

// named is a reference to something by id or name.
type named struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (s *Server) setPriority(c *content, p *Project, raw json.RawMessage) string {
	var ref named
	if json.Unmarshal(raw, &ref) != nil {
		return "data was not an object"
	}
	for i := range s.opt.Priorities {
		if pr := &s.opt.Priorities[i]; ref.ID == pr.ID || ref.ID == "" && ref.Name == pr.Name {
			if p.Priorities != nil && !slices.Contains(p.Priorities, pr.Name) {
				return "The priority selected is invalid for this project."
			}
			c.priority = pr
			return ""
		}
	}
	return "The priority selected is invalid."
}

func (s *Server) setAssignee(c *content, raw json.RawMessage) string {
	if string(raw) == "null" {
		c.assignee = nil
		return ""
	}
	var ref struct {
		AccountID *string `json:"accountId"`
		Name      *string `json:"name"`
	}
	if json.Unmarshal(raw, &ref) != nil {
		return "data was not an object"
	}
	id := ref.AccountID
	if s.opt.DataCenter {
		id = ref.Name
	}
	if id == nil {
		c.assignee = nil
		return ""
	}
	for i := range s.opt.Users {
		if u := &s.opt.Users[i]; *id == u.AccountID && !s.opt.DataCenter || *id == u.Name && s.opt.DataCenter {
			c.assignee = u
			return ""
		}
	}
	return "User '" + *id + "' does not exist."
}

func (s *Server) checkCustom(f *Field, raw json.RawMessage) string {
	if string(raw) == "null" {
		if f.Required {
			return f.Name + " is required."
		}
		return ""
	}
	switch f.Type {
	case "string", "textarea":
		v, ok := text(raw)
		limit := maxText
		if f.Type == "string" {
			limit = 255
		}
		if !ok {
			return "Operation value must be a string"
		}
		if length(v) > limit {
			return "The entered text is too long."
		}
	case "number":
		var v float64
		if json.Unmarshal(raw, &v) != nil {
			return "Operation value must be a number"
		}
	case "date", "datetime":
		layout := time.DateOnly
		if f.Type == "datetime" {
			layout = stamp
		}
		if v, ok := text(raw); !ok || !validTime(v, layout) {
			return "Operation value must be a " + f.Type
		}
	case "option":
		var v named
		if json.Unmarshal(raw, &v) != nil {
			return "Specify a valid 'id' or 'name' for " + f.Name
		}
		return f.option(v)
	case "options":
		var list []named
		if json.Unmarshal(raw, &list) != nil {
			return "data was not an array"
		}
		for _, v := range list {
			if bad := f.option(v); bad != "" {
				return bad
			}
		}
	case "cascading":
		var v struct {
			named
			Child *named `json:"child"`
		}
		if json.Unmarshal(raw, &v) != nil {
			return "data was not an object"
		}
		if bad := f.option(v.named); bad != "" || v.Child == nil {
			return bad
		}
		children := Field{Name: f.Name, Options: f.Children[f.optionName(v.named)], ID: "c"}
		return children.option(*v.Child)
	case "url":
		if v, ok := text(raw); !ok || !strings.Contains(v, "://") {
			return "The URL is invalid."
		}
	case "user":
		return s.setAssignee(&content{}, raw)
	case "labels":
		return setLabels(&content{}, raw)
	}
	return ""
}

// optionName is the text of an option that is given by value or id.
func (f *Field) optionName(v named) string {
	for i, o := range f.Options {
		if o == v.Value || v.ID == optionID(i) {
			return o
		}
	}
	return ""
}

func optionID(i int) string { return "o" + strconv.Itoa(i) }

func (f *Field) option(v named) string {
	if f.optionName(v) != "" {
		return ""
	}
	return "Option value '" + cmp.Or(v.Value, v.ID) + "' is not valid for " + f.Name + "."
}

// show is how a value is read back: options with their text.
func (f *Field) show(raw json.RawMessage) any {
	one := func(v named) object {
		name := f.optionName(v)
		return object{"id": optionID(slices.Index(f.Options, name)), "value": name}
	}
	switch f.Type {
	case "option":
		var v named
		if json.Unmarshal(raw, &v) == nil {
			return one(v)
		}
	case "options":
		var list []named
		if json.Unmarshal(raw, &list) == nil {
			out := []object{}
			for _, v := range list {
				out = append(out, one(v))
			}
			return out
		}
	}
	return raw
}

func validTime(v, layout string) bool {
	_, err := time.Parse(layout, v)
	return err == nil
}

// apply gives an issue what a create or edit request asks for. It returns Jira's errors map and the comments that were
// asked for in passing; content that failed must be thrown away.
func (s *Server) apply(c *content, p *Project, t *IssueType, fields, update map[string]json.RawMessage) (bad map[string]string, comments []string) {
	bad = map[string]string{}
	for name, raw := range fields {
		if name == "project" || name == "issuetype" {
			continue
		}
		if _, both := update[name]; both {
			bad[name] = "Field '" + name + "' cannot be set in both fields and update."
		} else if msg := s.set(c, p, t, name, raw); msg != "" {
			bad[name] = msg
		}
	}
	for name, raw := range update {
		var ops []map[string]json.RawMessage
		if json.Unmarshal(raw, &ops) != nil {
			bad[name] = "Operations must be an array of objects."
			continue
		}
		for _, op := range ops {
			if len(op) != 1 {
				bad[name] = "Each operation must hold exactly one verb."
			}
			for verb, value := range op {
				msg, comment := s.operate(c, p, t, name, verb, value)
				if msg != "" {
					bad[name] = msg
				}
				if comment != "" {
					comments = append(comments, comment)
				}
			}
		}
	}
	return bad, comments
}

func (s *Server) operate(c *content, p *Project, t *IssueType, name, verb string, value json.RawMessage) (bad, comment string) {
	if verb == "set" && name != "comment" {
		return s.set(c, p, t, name, value), ""
	}
	switch name + " " + verb {
	case "labels add", "labels remove":
		label, ok := text(value)
		if !ok {
			return "data was not a string", ""
		}
		if verb == "add" {
			return addLabel(c, label), ""
		}
		c.labels = slices.DeleteFunc(c.labels, func(l string) bool { return l == label })
		return "", ""
	case "comment add":
		var in struct {
			Body *string `json:"body"`
		}
		if json.Unmarshal(value, &in) != nil || in.Body == nil || *in.Body == "" {
			return "Comment body can not be empty!", ""
		}
		if length(*in.Body) > maxText {
			return "The entered text is too long. It exceeds the allowed limit of 32,767 characters.", ""
		}
		return "", *in.Body
	}
	return "Field '" + name + "' does not support operation '" + verb + "'.", ""
}
