package hivefake

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf16"
)

// rule bounds one field of an input: the length of a text, or the range of a number.
type rule struct {
	kind     string // text, int, date, bool, tags, fields, list
	min, max int
	required bool
}

const megabyte = 1 << 20

// inputs are the rules that depend on the version, made once.
type inputs struct {
	newAlert, alert, promote, newCase, kase, observable map[string]rule
}

var tagRule = rule{kind: "text", min: 1, max: 128}

func text(least, most int) rule { return rule{kind: "text", min: least, max: most} }
func number(least, most int) rule {
	return rule{kind: "int", min: least, max: most}
}

func (r rule) need() rule {
	r.required = true
	return r
}

func (s *Server) shared() map[string]rule {
	tlp := number(0, 4)
	if !s.atLeast(2, 0) {
		tlp = number(0, 3)
	}
	return map[string]rule{
		"title": text(1, 512), "description": text(0, megabyte), "severity": number(1, 4), "tags": {kind: "tags"}, "flag": {kind: "bool"},
		"tlp": tlp, "pap": number(0, 3), "customFields": {kind: "fields"}, "summary": text(0, megabyte), "status": text(1, 64),
		"assignee": text(1, 128),
	}
}

func plus(base map[string]rule, more map[string]rule) map[string]rule {
	maps.Copy(base, more)
	return base
}

func (s *Server) alertRules() map[string]rule {
	link := 512
	if s.atLeast(7, 3) {
		link = 4096
	}
	return plus(s.shared(), map[string]rule{
		"type": text(1, 32), "source": text(1, 32), "sourceRef": text(1, 128), "externalLink": text(1, link), "date": {kind: "date"},
	})
}

func (s *Server) newAlertRules() map[string]rule {
	rules := plus(s.alertRules(), map[string]rule{
		"caseTemplate": text(1, 128), "observables": {kind: "list"}, "procedures": {kind: "list"},
	})
	for _, name := range []string{"type", "source", "sourceRef", "title", "description"} {
		rules[name] = rules[name].need()
	}
	return rules
}

func (s *Server) changedAlertRules() map[string]rule {
	rules := s.alertRules()
	delete(rules, "flag")
	return plus(rules, map[string]rule{
		"lastSyncDate": {kind: "date"}, "follow": {kind: "bool"}, "addTags": {kind: "tags"}, "removeTags": {kind: "tags"},
	})
}

func (s *Server) promoteRules() map[string]rule {
	return plus(s.shared(), map[string]rule{
		"startDate": {kind: "date"}, "endDate": {kind: "date"}, "caseTemplate": text(1, 128), "tasks": {kind: "list"},
		"pages": {kind: "list"}, "sharingParameters": {kind: "list"}, "taskRule": text(1, 128), "observableRule": text(1, 128),
	})
}

func (s *Server) newCaseRules() map[string]rule {
	rules := s.promoteRules()
	rules["title"], rules["description"] = rules["title"].need(), rules["description"].need()
	rules["access"] = rule{kind: "access"}
	return rules
}

func (s *Server) changedCaseRules() map[string]rule {
	return plus(s.shared(), map[string]rule{
		"startDate": {kind: "date"}, "endDate": {kind: "date"}, "impactStatus": text(1, 128), "taskRule": text(1, 128),
		"observableRule": text(1, 128), "addTags": {kind: "tags"}, "removeTags": {kind: "tags"},
	})
}

func (s *Server) observableRules() map[string]rule {
	base := s.shared()
	return map[string]rule{
		"dataType": text(1, 64).need(), "data": {kind: "data"}, "message": text(0, megabyte), "startDate": {kind: "date"},
		"attachment": {kind: "attachment"}, "tlp": base["tlp"], "pap": base["pap"], "tags": {kind: "tags"}, "ioc": {kind: "bool"},
		"sighted": {kind: "bool"}, "sightedAt": {kind: "date"}, "ignoreSimilarity": {kind: "bool"}, "isZip": {kind: "bool"},
		"zipPassword": text(1, 512),
	}
}

var (
	commentRules   = map[string]rule{"message": text(1, megabyte).need(), "external": {kind: "bool"}}
	procedureRules = map[string]rule{
		"patternId": text(1, 128).need(), "occurDate": rule{kind: "date"}.need(), "tactic": text(1, 32), "description": text(0, megabyte),
	}
	taskRules = map[string]rule{
		"title": text(1, 128).need(), "group": text(1, 64), "description": text(0, megabyte), "status": text(1, 16), "flag": {kind: "bool"},
		"startDate": {kind: "date"}, "endDate": {kind: "date"}, "order": number(-1<<31, 1<<31-1), "dueDate": {kind: "date"},
		"assignee": text(1, 128), "mandatory": {kind: "bool"},
	}
	logRules = map[string]rule{"message": text(1, megabyte).need(), "startDate": {kind: "date"}, "includeInTimeline": {kind: "date"}}
)

// length counts as the JVM does, in UTF-16 units.
func length(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// check holds an input against rules and returns its values: texts as string, numbers and dates as int64, tags as
// []string, lists and the rest as raw JSON. Of several mistakes it tells the one in the first field by name.
func check(in map[string]json.RawMessage, rules map[string]rule) (doc, string) {
	first, complaint := "", ""
	blame := func(name, text string) {
		if complaint == "" || name < first {
			first, complaint = name, text
		}
	}
	for name, r := range rules {
		if raw, ok := in[name]; r.required && (!ok || string(raw) == "null") {
			blame(name, "Attribute "+name+" is required")
		}
	}
	out := make(doc, len(in)+16)
	for name, raw := range in {
		r, known := rules[name]
		if !known {
			blame(name, "Unknown attribute "+name)
			continue
		}
		if string(raw) == "null" {
			continue
		}
		v, bad := r.value(raw)
		if bad != "" {
			blame(name, "Invalid format for "+name+": "+bad)
		}
		out[name] = v
	}
	if complaint != "" {
		return nil, complaint
	}
	return out, ""
}

func (r rule) value(raw json.RawMessage) (any, string) {
	switch r.kind {
	case "text":
		var v string
		if json.Unmarshal(raw, &v) != nil {
			return nil, "expected a string"
		}
		if n := length(v); n < r.min || n > r.max {
			return nil, fmt.Sprintf("expected %d to %d characters, got %d", r.min, r.max, n)
		}
		return v, ""
	case "int", "date":
		v, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return nil, "expected an integer"
		}
		if r.kind == "int" && (v < int64(r.min) || v > int64(r.max)) {
			return nil, fmt.Sprintf("expected %d to %d, got %d", r.min, r.max, v)
		}
		return v, ""
	case "bool":
		var v bool
		if json.Unmarshal(raw, &v) != nil {
			return nil, "expected a boolean"
		}
		return v, ""
	case "tags":
		var v []string
		if json.Unmarshal(raw, &v) != nil {
			return nil, "expected an array of strings"
		}
		for i, tag := range v {
			if n := length(tag); n < tagRule.min || n > tagRule.max {
				return nil, fmt.Sprintf("a tag must have 1 to 128 characters, got %d", n)
			}
			if slices.Contains(v[:i], tag) {
				return nil, "tags must be unique"
			}
		}
		return v, ""
	}
	return raw, ""
}

// fields reads custom fields, given as an object by name or as a list. Replace says that the list stands for all.
func (s *Server) fields(raw any) (values []doc, replace bool, bad string) {
	msg, _ := raw.(json.RawMessage)
	if msg == nil {
		return nil, false, ""
	}
	var byName map[string]json.RawMessage
	var listed []struct {
		Name  string          `json:"name"`
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(msg, &byName) != nil {
		if json.Unmarshal(msg, &listed) != nil {
			return nil, false, "Invalid format for customFields"
		}
		replace = true
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		listed = append(listed, struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		}{name, byName[name]})
	}
	for i, one := range listed {
		k := slices.IndexFunc(s.opt.CustomFields, func(f CustomField) bool { return f.Name == one.Name })
		if k < 0 {
			return nil, false, "CustomField " + one.Name + " not found"
		}
		f := s.opt.CustomFields[k]
		value, ok := f.value(one.Value)
		if !ok {
			return nil, false, "Invalid value for custom field " + f.Name + ": expected a " + f.Type
		}
		values = append(values, doc{"_id": "~cf" + strconv.Itoa(k+1), "name": f.Name, "type": f.Type, "value": value, "order": i})
	}
	return values, replace, ""
}

func (f *CustomField) value(raw json.RawMessage) (any, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	switch f.Type {
	case "integer":
		v, err := strconv.ParseInt(string(raw), 10, 32)
		return v, err == nil
	case "date":
		v, err := strconv.ParseInt(string(raw), 10, 64)
		return v, err == nil
	case "float":
		v, err := strconv.ParseFloat(string(raw), 64)
		return v, err == nil
	case "boolean":
		v, err := strconv.ParseBool(string(raw))
		return v, err == nil
	}
	var v string
	err := json.Unmarshal(raw, &v)
	return v, err == nil && length(v) <= 8191
}

var technique = regexp.MustCompile(`^T1\d{3}(\.\d{3})?$`)

func (s *Server) knowsPattern(id string) bool {
	if s.opt.Patterns == nil {
		return technique.MatchString(id)
	}
	return slices.Contains(s.opt.Patterns, id)
}

func (s *Server) stage(statuses []Status, value string) (string, bool) {
	i := slices.IndexFunc(statuses, func(st Status) bool { return st.Value == value })
	if i < 0 {
		return "", false
	}
	return statuses[i].Stage, true
}

var (
	severityLabels = []string{1: "LOW", 2: "MEDIUM", 3: "HIGH", 4: "CRITICAL"}
	papLabels      = []string{"CLEAR", "GREEN", "AMBER", "RED"}
)

func (s *Server) tlpLabel(v int64) string {
	labels := []string{"CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"}
	if !s.atLeast(2, 0) {
		labels = []string{"WHITE", "GREEN", "AMBER", "RED"}
	}
	return labels[v]
}
