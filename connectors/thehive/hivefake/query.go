package hivefake

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// operation is one link of a query's chain.
type operation struct {
	Name      string           `json:"_name"`
	IDOrName  string           `json:"idOrName"`
	Fields    []map[string]any `json:"_fields"`
	OldFields []map[string]any `json:"fields"`
	From      *int             `json:"from"`
	To        *int             `json:"to"`
	ExtraData []string         `json:"extraData"`

	raw map[string]json.RawMessage
}

// set is what a chain has selected so far: records, or plain documents that lead nowhere.
type set struct {
	kind    string // Alert, Case, Task, or "" for documents
	records []*record
	docs    []doc
	table   *table // a whole table that is still to be listed
}

func (s *Server) query(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	var steps []json.RawMessage
	var exclude []string
	if json.Unmarshal(orNull(raw["query"]), &steps) != nil || len(steps) == 0 {
		return badRequest("Attribute query is required")
	}
	if ex, given := raw["excludeFields"]; given && json.Unmarshal(ex, &exclude) != nil {
		return badRequest("Invalid format for excludeFields")
	}
	var ops []operation
	for _, step := range steps {
		op, bad := readOperation(step)
		if bad != "" {
			return badRequest(bad)
		}
		ops = append(ops, op)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	now, refusal, ok := s.selectFirst(ops[0], who)
	if !ok {
		return refusal
	}
	total := -1
	for _, op := range ops[1:] {
		switch op.Name {
		case "filter":
			f, bad := s.parseFilter(op.raw, 0)
			if bad != "" {
				return badRequest(bad)
			}
			now = s.filter(now, f, who)
		case "sort":
			now = s.list(now, who)
			if bad := now.sort(append(op.Fields, op.OldFields...)); bad != "" {
				return badRequest(bad)
			}
		case "page":
			now = s.list(now, who)
			n := now.size()
			if op.From == nil || op.To == nil || *op.From < 0 || *op.To < *op.From {
				return badRequest("Operation page needs from and to")
			}
			now.cut(min(*op.From, n), min(*op.To, n))
			if slices.Contains(op.ExtraData, "total") {
				total = n
			}
		case "count":
			return fakekit.JSON(http.StatusOK, s.list(now, who).size())
		default:
			if now, ok = s.follow(now, op.Name, who); !ok {
				return badRequest("Operation " + op.Name + " is not known here")
			}
		}
	}
	docs := s.list(now, who).documents()
	if len(exclude) > 0 {
		for i, d := range docs {
			docs[i] = maps.Clone(d)
			maps.DeleteFunc(docs[i], func(name string, _ any) bool { return slices.Contains(exclude, name) })
		}
	}
	reply := fakekit.JSON(http.StatusOK, docs)
	if total >= 0 {
		reply = reply.With("X-Total", strconv.Itoa(total))
	}
	return reply
}

func readOperation(step json.RawMessage) (operation, string) {
	var op operation
	if json.Unmarshal(step, &op.raw) != nil {
		return op, "An operation must be an object"
	}
	if op.raw["_name"] == nil || json.Unmarshal(step, &op) != nil {
		return op, "Invalid operation " + string(op.raw["_name"])
	}
	delete(op.raw, "_name")
	return op, ""
}

// selectFirst begins a chain; the caller holds the lock.
func (s *Server) selectFirst(op operation, who session) (set, fakekit.Reply, bool) {
	one := func(kind string, rec *record) set {
		if rec == nil {
			return set{kind: kind}
		}
		return set{kind: kind, records: []*record{rec}}
	}
	named := func(kind string, extra func(i int) doc, n int) set {
		var out set
		for i := range n {
			d := doc{"_id": "~" + strings.ToLower(kind) + strconv.Itoa(i), "_type": kind, "_createdBy": "system@thehive.local", "_createdAt": int64(1700000000000)}
			maps.Copy(d, extra(i))
			out.docs = append(out.docs, d)
		}
		return out
	}
	status := func(list []Status) func(int) doc {
		return func(i int) doc {
			return doc{"value": list[i].Value, "stage": list[i].Stage, "order": i, "hidden": false, "extraData": doc{}}
		}
	}
	switch op.Name {
	case "getAlert":
		return one("Alert", s.alert(who, op.IDOrName)), fakekit.Reply{}, true
	case "getCase":
		return one("Case", s.caseOf(who, op.IDOrName)), fakekit.Reply{}, true
	case "getTask":
		if t := s.tasks[op.IDOrName]; t != nil && t.org == who.org {
			return one("Task", t), fakekit.Reply{}, true
		}
		return set{kind: "Task"}, fakekit.Reply{}, true
	case "listObservable":
		return s.allObservables(who), fakekit.Reply{}, true
	case "getCaseTemplate":
		for i := range s.opt.Templates {
			if t := &s.opt.Templates[i]; t.Name == op.IDOrName {
				return set{docs: []doc{t.show(i)}}, fakekit.Reply{}, true
			}
		}
		return set{}, fakekit.Reply{}, true
	case "listAlert":
		return set{kind: "Alert", table: &s.alerts}, fakekit.Reply{}, true
	case "listCase":
		return set{kind: "Case", table: &s.cases}, fakekit.Reply{}, true
	case "getPattern":
		if !s.knowsPattern(op.IDOrName) {
			return set{}, fakekit.Reply{}, true
		}
		return set{docs: []doc{{"_id": "~" + op.IDOrName, "_type": "Pattern", "patternId": op.IDOrName, "name": op.IDOrName, "revoked": false, "tactics": []string{}}}}, fakekit.Reply{}, true
	case "listCaseStatus":
		return named("CaseStatus", status(s.opt.CaseStatuses), len(s.opt.CaseStatuses)), fakekit.Reply{}, true
	case "listAlertStatus":
		return named("AlertStatus", status(s.opt.AlertStatuses), len(s.opt.AlertStatuses)), fakekit.Reply{}, true
	case "listObservableType":
		all := append(slices.Clone(s.opt.DataTypes), "file")
		slices.Sort(all)
		return named("ObservableType", func(i int) doc { return doc{"name": all[i], "isAttachment": all[i] == "file"} }, len(all)), fakekit.Reply{}, true
	case "listCustomField":
		return named("CustomField", func(i int) doc {
			f := s.opt.CustomFields[i]
			return doc{"name": f.Name, "displayName": f.Name, "type": f.Type, "mandatory": f.Mandatory, "description": "", "options": append([]any{}, f.Options...), "group": "default", "extraData": doc{}}
		}, len(s.opt.CustomFields)), fakekit.Reply{}, true
	case "listCaseTemplate":
		return named("CaseTemplate", func(i int) doc { return s.opt.Templates[i].show(i) }, len(s.opt.Templates)), fakekit.Reply{}, true
	}
	return set{}, badRequest("Operation " + op.Name + " is not known here"), false
}

// follow goes from records to what belongs to them.
func (s *Server) follow(from set, name string, who session) (set, bool) {
	from = s.list(from, who)
	if from.kind == "" {
		return from, false
	}
	var out set
	for _, rec := range from.records {
		switch name {
		case "observables":
			out.docs = append(out.docs, rec.observables...)
		case "attachments":
			out.docs = append(out.docs, rec.attachments...)
		case "comments":
			out.docs = append(out.docs, rec.comments...)
		case "procedures":
			out.docs = append(out.docs, rec.procedures...)
		case "logs":
			out.docs = append(out.docs, rec.logs...)
		case "tasks":
			out.kind = "Task"
			out.records = append(out.records, rec.tasks...)
		case "alerts":
			out.kind = "Alert"
			out.records = append(out.records, rec.alerts...)
		case "case":
			out.kind = "Case"
			if p := rec.parent; p != nil && p.doc["_type"] == "Case" && !slices.Contains(out.records, p) {
				out.records = append(out.records, p)
			}
			if id, ok := rec.doc["caseId"].(string); ok && s.cases.byID[id] != nil {
				out.records = append(out.records, s.cases.byID[id])
			}
		}
	}
	return out, slices.Contains(map[string][]string{
		"Alert":      {"observables", "comments", "procedures", "attachments", "case"},
		"Case":       {"observables", "comments", "procedures", "attachments", "tasks", "alerts"},
		"Task":       {"logs"},
		"Observable": {"case"},
	}[from.kind], name)
}

// list turns a whole table into its records, in the order of their last change.
func (s *Server) list(from set, who session) set {
	if from.table == nil {
		return from
	}
	return s.filter(from, &filter{match: func(doc) bool { return true }}, who)
}

// filter keeps what matches; out of a whole table it looks only at the candidates that the filter's hints leave.
func (s *Server) filter(from set, f *filter, who session) set {
	if from.table == nil {
		out := set{kind: from.kind}
		for _, rec := range from.records {
			if f.match(rec.show()) {
				out.records = append(out.records, rec)
			}
		}
		for _, d := range from.docs {
			if f.match(d) {
				out.docs = append(out.docs, d)
			}
		}
		return out
	}
	out := set{kind: from.kind}
	now := s.opt.Now()
	take := func(rec *record) {
		if rec.org == who.org && !rec.visible.After(now) && f.match(rec.show()) {
			out.records = append(out.records, rec)
		}
	}
	t := from.table
	switch {
	case f.id != "":
		if rec := t.byID[f.id]; rec != nil {
			take(rec)
		}
	case f.ref != "":
		for _, rec := range t.byRef[f.ref] {
			take(rec)
		}
	case f.tag != "":
		for _, rec := range t.byTag[f.tag] {
			take(rec)
		}
	default:
		t.since(f.since, take)
	}
	return out
}

func (x set) size() int { return len(x.records) + len(x.docs) }

func (x *set) cut(from, to int) {
	if x.records != nil {
		x.records = x.records[from:to]
	} else {
		x.docs = x.docs[from:to]
	}
}

func (x set) documents() []doc {
	out := slices.Clone(x.docs)
	for _, rec := range x.records {
		out = append(out, rec.show())
	}
	return append([]doc{}, out...)
}

// sort orders by the given fields, each a map of one name to asc or desc.
func (x *set) sort(fields []map[string]any) string {
	type key struct {
		name string
		desc bool
	}
	var keys []key
	for _, f := range fields {
		for name, direction := range f {
			if direction != "asc" && direction != "desc" || len(f) != 1 {
				return "Invalid format for sort"
			}
			keys = append(keys, key{name, direction == "desc"})
		}
	}
	order := func(a, b doc) int {
		for _, k := range keys {
			c := compareValues(a[k.name], b[k.name])
			if k.desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	}
	slices.SortStableFunc(x.records, func(a, b *record) int { return order(a.show(), b.show()) })
	x.docs = slices.Clone(x.docs)
	slices.SortStableFunc(x.docs, order)
	return ""
}

// compareValues orders values of one kind; absent ones come first, and values of different kinds by kind.
func compareValues(a, b any) int {
	an, aok := toNumber(a)
	bn, bok := toNumber(b)
	if aok && bok {
		return cmp.Compare(an, bn)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(asText(a), asText(b)))
}

func rank(v any) int {
	switch v.(type) {
	case nil:
		return 0
	case string:
		return 2
	}
	return 1
}

func asText(v any) string {
	s, _ := v.(string)
	return s
}

func toNumber(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case int:
		return float64(n), true
	case float64:
		return n, !math.IsNaN(n)
	}
	return 0, false
}
