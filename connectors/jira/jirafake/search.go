package jirafake

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// search is a search request of either kind.
type search struct {
	jql        *string
	token      string
	startAt    int
	max        int
	fields     []string
	properties []string
	reconcile  []int64
}

func removedSearch(*fakekit.Call, *User) fakekit.Reply {
	return failure(http.StatusGone, "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API. A full migration guideline is available at https://developer.atlassian.com/changelog/#CHANGE-2046", nil)
}

// readSearch reads a search request from the query string or the body.
func readSearch(r *http.Request, cloud bool) (search, fakekit.Reply, bool) {
	in := search{max: 50}
	bad := func(message string) (search, fakekit.Reply, bool) {
		return in, failure(http.StatusBadRequest, message, nil), false
	}
	if r.Method == http.MethodGet {
		q := r.URL.Query()
		for name, values := range q {
			var err error
			switch name {
			case "jql":
				in.jql = &values[0]
			case "nextPageToken":
				in.token = values[0]
			case "maxResults":
				in.max, err = strconv.Atoi(values[0])
			case "startAt":
				in.startAt, err = strconv.Atoi(values[0])
			case "fields":
				in.fields = list(values)
			case "properties":
				in.properties = list(values)
			case "reconcileIssues":
				for _, v := range values {
					var id int64
					if id, err = strconv.ParseInt(v, 10, 64); err != nil {
						break
					}
					in.reconcile = append(in.reconcile, id)
				}
			}
			if err != nil {
				return in, problem(http.StatusBadRequest, "The query parameter '"+name+"' is invalid.", r.URL.Path), false
			}
		}
		return in, fakekit.Reply{}, true
	}
	body, whole := fakekit.ReadBody(r, 1<<20)
	obj, ok := decodeObject(body)
	if !whole || !ok {
		return in, unreadable("Invalid request payload. Refer to the REST API documentation and try again."), false
	}
	for name, raw := range obj {
		var err error
		switch {
		case name == "jql":
			err = json.Unmarshal(raw, &in.jql)
		case name == "nextPageToken" && cloud:
			err = json.Unmarshal(raw, &in.token)
		case name == "startAt" && !cloud:
			err = json.Unmarshal(raw, &in.startAt)
		case name == "maxResults":
			err = json.Unmarshal(raw, &in.max)
		case name == "fields":
			err = json.Unmarshal(raw, &in.fields)
		case name == "properties":
			err = json.Unmarshal(raw, &in.properties)
		case name == "reconcileIssues" && cloud:
			if string(raw) == "null" {
				return in, fakekit.JSON(http.StatusInternalServerError, object{"message": "Internal server error", "status-code": 500, "stack-trace": ""}), false
			}
			err = json.Unmarshal(raw, &in.reconcile)
		case name == "expand" || name == "fieldsByKeys" || name == "validateQuery":
		default:
			return bad("Unrecognized field \"" + name + "\".")
		}
		if err != nil {
			return bad("The value of '" + name + "' is invalid.")
		}
	}
	return in, fakekit.Reply{}, true
}

func (s *Server) searchJQL(c *fakekit.Call, _ *User) fakekit.Reply {
	in, refusal, ok := readSearch(c.R, true)
	switch {
	case !ok:
		return refusal
	case in.jql == nil:
		return failure(http.StatusBadRequest, "The 'jql' parameter is required.", nil)
	case in.max < 1 || in.max > 5000:
		return failure(http.StatusBadRequest, "The value of 'maxResults' must be between 1 and 5000.", nil)
	case len(in.properties) > 5:
		return failure(http.StatusBadRequest, "At most 5 properties can be requested.", nil)
	case len(in.reconcile) > 50:
		return failure(http.StatusBadRequest, "At most 50 issues can be reconciled.", nil)
	}
	mark := fnv.New64a()
	_, _ = mark.Write([]byte(*in.jql)) // never fails, by its documentation
	id := strconv.FormatUint(mark.Sum64(), 36)
	offset := 0
	if in.token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(in.token)
		of, at, found := strings.Cut(string(raw), ":")
		n, bad := strconv.Atoi(at)
		if err != nil || bad != nil || !found || of != id || n < 0 {
			return failure(http.StatusBadRequest, "The nextPageToken is invalid or has expired.", nil)
		}
		offset = n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.parseJQL(*in.jql)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error(), nil)
	}
	if !q.bounded {
		return failure(http.StatusBadRequest, "Unbounded JQL queries are not allowed here. Please add a search restriction to your query.", nil)
	}
	found := s.run(q, in.reconcile)
	from := min(offset, len(found))
	to := min(from+in.max, len(found))
	out := object{"issues": s.show(found[from:to], in.fields, in.properties), "isLast": to == len(found)}
	if to < len(found) {
		out["nextPageToken"] = base64.RawURLEncoding.EncodeToString([]byte(id + ":" + strconv.Itoa(to)))
	}
	return fakekit.JSON(http.StatusOK, out)
}

// searchPages is the search of Data Center.
func (s *Server) searchPages(c *fakekit.Call, _ *User) fakekit.Reply {
	in, refusal, ok := readSearch(c.R, false)
	if !ok {
		return refusal
	}
	if in.startAt < 0 || in.max < 0 {
		return failure(http.StatusBadRequest, "startAt and maxResults must not be negative.", nil)
	}
	jql := ""
	if in.jql != nil {
		jql = *in.jql
	}
	if len(in.fields) == 0 {
		in.fields = []string{"*navigable"}
	}
	in.max = min(in.max, 1000)
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.parseJQL(jql)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error(), nil)
	}
	found := s.run(q, nil)
	from := min(in.startAt, len(found))
	to := min(from+in.max, len(found))
	return fakekit.JSON(http.StatusOK, object{
		"expand": "schema,names", "startAt": in.startAt, "maxResults": in.max, "total": len(found),
		"issues": s.show(found[from:to], in.fields, in.properties),
	})
}

// show renders search results: ids only, unless fields or properties were asked for.
func (s *Server) show(found []*entry, fields, props []string) []object {
	out := make([]object, 0, len(found))
	onlyID := len(fields) == 0 || len(fields) == 1 && fields[0] == "id"
	for _, e := range found {
		if onlyID && len(props) == 0 {
			out = append(out, object{"id": strconv.FormatInt(e.iss.id, 10)})
			continue
		}
		one := s.render(e.iss, fields, props)
		if onlyID {
			delete(one, "fields")
		}
		out = append(out, one)
	}
	return out
}

// run finds and sorts the matches in the index; issues to reconcile are judged as they are. The caller holds the lock.
func (s *Server) run(q *query, reconcile []int64) []*entry {
	s.catchUp()
	var found []*entry
	take := func(e *entry) {
		if e != nil && e.iss.indexed == e && !slices.Contains(reconcile, e.iss.id) && q.match(e) {
			found = append(found, e)
		}
	}
	switch {
	case q.refs != nil:
		for _, ref := range q.refs {
			if iss := s.find(ref); iss != nil {
				take(iss.indexed)
			}
		}
	case q.label != "":
		for _, iss := range s.index.byLabel[q.label] {
			take(iss.indexed)
		}
	default:
		for _, e := range s.index.since(q.since) {
			take(e)
		}
	}
	for _, id := range reconcile {
		if iss := s.byID[id]; iss != nil {
			if e := iss.entry(); q.match(e) {
				found = append(found, e)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b *entry) int {
		for _, o := range q.order {
			if c := o.compare(a, b); c != 0 {
				return c
			}
		}
		return cmp.Compare(b.iss.id, a.iss.id)
	})
	return found
}

func (o order) compare(a, b *entry) int {
	var c int
	switch o.field {
	case "created":
		c = a.created.Compare(b.created)
	case "updated":
		c = a.updated.Compare(b.updated)
	case "priority":
		c = strings.Compare(priorityID(b), priorityID(a)) // the first priority is the highest
	default:
		c = cmp.Compare(a.iss.id, b.iss.id)
	}
	if o.desc {
		return -c
	}
	return c
}

func priorityID(e *entry) string {
	if e.priority == nil {
		return ""
	}
	return e.priority.ID
}
