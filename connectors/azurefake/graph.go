package azurefake

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// allow judges the caller of a Graph operation; a nil app comes with the refusal.
func (s *Server) allow(c *fakekit.Call, roles ...string) (*App, fakekit.Reply) {
	app, v := s.bearer(c.R, s.opt.GraphAudiences)
	message := ""
	switch v {
	case tokenMissing:
		message = "Access token is empty."
	case tokenUnknown:
		message = "CompactToken validation failed."
	case tokenExpired:
		message = "Lifetime validation failed, the token is expired."
	case tokenAudience:
		message = "Access token validation failure. Invalid audience."
	case tokenClaims:
		return nil, graphError(http.StatusUnauthorized, "InvalidAuthenticationToken", "Continuous access evaluation resulted in challenge with result: InteractionRequired and code: LocationConditionEvaluationSatisfied").
			With("WWW-Authenticate", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="`+
				base64.StdEncoding.EncodeToString([]byte(s.demanded()))+`"`)
	case tokenGood:
		if !app.may(roles...) {
			return nil, graphError(http.StatusForbidden, "Forbidden", "Missing application roles. API required roles: "+strings.Join(roles, ", ")+".")
		}
		if n := s.opt.GraphPerMinute; n > 0 {
			if wait := s.limits.Take("graph "+app.ClientID, s.opt.Now(), n, time.Minute); wait > 0 {
				return nil, failed(Throttle, http.StatusTooManyRequests).With("Retry-After", fakekit.Seconds(wait))
			}
		}
		return app, fakekit.Reply{}
	}
	return nil, graphError(http.StatusUnauthorized, "InvalidAuthenticationToken", message).
		With("WWW-Authenticate", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="invalid_token"`)
}

func wantsAllMembers(r *http.Request) bool {
	for _, line := range r.Header.Values("Prefer") {
		for one := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(one), "include-unknown-enum-members") {
				return true
			}
		}
	}
	return false
}

func (v *version) body(all bool) []byte {
	if all {
		return v.full
	}
	return v.masked
}

const alertsContext = `"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#security/alerts_v2`

// entity writes one alert with the context of a single entity in front.
func (v *version) entity(all bool) []byte {
	body := v.body(all)
	out := make([]byte, 0, len(body)+len(alertsContext)+12)
	out = append(out, '{')
	out = append(out, alertsContext...)
	out = append(out, `/$entity",`...)
	return append(out, body[1:]...)
}

func (s *Server) getAlert(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite); app == nil {
		return refusal
	}
	s.alerts.mu.RLock()
	rec := s.alerts.byID[c.Args[0]]
	var v *version
	if rec != nil && !rec.readable.After(s.opt.Now()) {
		v = rec.cur
	}
	s.alerts.mu.RUnlock()
	if v == nil {
		return graphError(http.StatusNotFound, "ResourceNotFound", "Resource not found")
	}
	rec.gets.Add(1)
	return fakekit.Reply{Status: http.StatusOK, Body: v.entity(wantsAllMembers(c.R))}
}

// page is what a list request asks for.
type page struct {
	filter    *filter
	top, skip int
	count     bool
	byUpdate  bool
	ascending bool
	fields    []string
}

func (s *Server) parsePage(q url.Values) (page, string) {
	p := page{top: s.opt.PageSize}
	for name, values := range q {
		value := values[0]
		n, err := strconv.Atoi(value)
		switch name {
		case "$filter":
			f, err := parseFilter(value)
			if err != nil {
				return p, err.Error()
			}
			p.filter = f
		case "$top":
			if err != nil || n < 1 || n > s.opt.MaxPage {
				return p, "Invalid value for $top: it must be between 1 and " + strconv.Itoa(s.opt.MaxPage) + "."
			}
			p.top = n
		case "$skip":
			if err != nil || n < 0 {
				return p, "Invalid value for $skip."
			}
			p.skip += n
		case "$skiptoken":
			raw, err := base64.RawURLEncoding.DecodeString(value)
			at, ok := strings.CutPrefix(string(raw), "cwpage:")
			n, bad := strconv.Atoi(at)
			if err != nil || !ok || bad != nil || n < 0 {
				return p, "The skip token is invalid or has expired."
			}
			p.skip += n
		case "$count":
			p.count = strings.EqualFold(value, "true")
		case "$select":
			p.fields = strings.Split(value, ",")
		case "$orderby":
			name, direction, _ := strings.Cut(value, " ")
			if name != "createdDateTime" && name != "lastUpdateDateTime" || !slices.Contains([]string{"", "asc", "desc"}, direction) {
				return p, "Invalid $orderby clause."
			}
			p.byUpdate, p.ascending = name == "lastUpdateDateTime", direction != "desc"
		default:
			if strings.HasPrefix(name, "$") {
				return p, "The query option '" + name + "' is not supported."
			}
		}
	}
	if p.filter == nil {
		p.filter, _ = parseFilter("") // the empty filter always parses
	}
	return p, ""
}

func (s *Server) listAlerts(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite); app == nil {
		return refusal
	}
	query := c.R.URL.Query()
	p, bad := s.parsePage(query)
	if bad != "" {
		return graphError(http.StatusBadRequest, "BadRequest", bad)
	}
	found, total, more := s.alerts.list(p, s.opt.Now())
	if c.Fault == Partial {
		found, more = found[:len(found)/2], false
	}
	all, size := wantsAllMembers(c.R), 400
	for _, v := range found {
		size += len(v.full) + 1
	}
	out := bytes.NewBuffer(make([]byte, 0, size))
	out.WriteString("{" + alertsContext + `"`)
	if p.count {
		out.WriteString(`,"@odata.count":` + strconv.Itoa(total))
	}
	if more {
		query.Del("$skip")
		query.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte("cwpage:"+strconv.Itoa(p.skip+len(found)))))
		link := s.origin(c.R) + "/v1.0/security/alerts_v2?" + query.Encode()
		out.WriteString(`,"@odata.nextLink":`)
		out.Write(quote(link))
	}
	out.WriteString(`,"value":[`)
	for i, v := range found {
		if i > 0 {
			out.WriteByte(',')
		}
		v.rec.lists.Add(1)
		if p.fields == nil {
			out.Write(v.body(all))
		} else {
			out.Write(selectFields(v.body(all), p.fields))
		}
	}
	out.WriteString("]}")
	reply := fakekit.Reply{Status: http.StatusOK, Body: out.Bytes()}
	if c.Fault == Partial {
		reply.Status = http.StatusPartialContent
		reply = reply.With("Warning", `199 - "Microsoft Defender for Endpoint/fake/503/12"`)
	}
	return reply
}

func selectFields(body []byte, fields []string) []byte {
	obj, ok := decodeObject(body)
	if !ok {
		return body
	}
	for name := range obj {
		if name != "id" && !slices.Contains(fields, name) {
			delete(obj, name)
		}
	}
	out, err := json.Marshal(obj)
	if err != nil {
		return body
	}
	return out
}

// list returns the versions on one page, the number of matches if it was asked for, and whether more follow. The list
// may move between two pages: an offset is all that a page knows of the one before.
func (st *store) list(p page, now time.Time) (found []*version, total int, more bool) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	take := func(v *version) bool {
		total++
		switch {
		case total <= p.skip:
		case len(found) < p.top:
			found = append(found, v)
		default:
			more = true
			return p.count
		}
		return true
	}
	bounded := !p.filter.since.IsZero() || !p.filter.until.IsZero()
	switch {
	case p.byUpdate:
		each(st.within(p.filter), p.ascending, func(v *version) bool {
			return v.rec.listed(now) != v || !p.filter.match(v) || take(v)
		})
	case bounded:
		var hits []*version
		for _, v := range st.within(p.filter) {
			if v.rec.listed(now) == v && p.filter.match(v) {
				hits = append(hits, v)
			}
		}
		slices.SortFunc(hits, func(a, b *version) int {
			if c := a.created.Compare(b.created); c != 0 {
				return c
			}
			return a.rec.seq - b.rec.seq
		})
		each(hits, p.ascending, take)
	default:
		each(st.byCreated, p.ascending, func(r *record) bool {
			v := r.listed(now)
			return v == nil || !p.filter.match(v) || take(v)
		})
	}
	return found, total, more
}

func each[T any](list []T, ascending bool, f func(T) bool) {
	if ascending {
		for _, v := range list {
			if !f(v) {
				return
			}
		}
		return
	}
	for _, v := range slices.Backward(list) {
		if !f(v) {
			return
		}
	}
}

// What "Update alert" accepts, with the members of the v1.0 metadata; nil means any string or null.
var patchable = map[string][]string{
	"status":         {"new", "inProgress", "resolved"},
	"classification": {"unknown", "falsePositive", "truePositive", "informationalExpectedActivity"},
	"determination": {
		"unknown", "apt", "malware", "securityPersonnel", "securityTesting", "unwantedSoftware", "other",
		"multiStagedAttack", "compromisedAccount", "phishing", "maliciousUserActivity", "notMalicious",
		"notEnoughDataToValidate", "confirmedActivity", "lineOfBusinessApplication",
	},
	"assignedTo":    nil,
	"customDetails": nil,
}

func (s *Server) patchAlert(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleAlertReadWrite); app == nil {
		return refusal
	}
	body, ok := fakekit.ReadBody(c.R, 1<<20)
	fields, isObject := decodeObject(body)
	if !ok || !isObject {
		return graphError(http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload.")
	}
	delete(fields, "@odata.type")
	for name, raw := range fields {
		members, known := patchable[name]
		value := text(raw)
		switch {
		case !known:
			return graphError(http.StatusBadRequest, "BadRequest", "The property '"+name+"' cannot be updated.")
		case name == "customDetails" || string(raw) == "null" && name != "status":
		case members == nil && value == "" && string(raw) != `""`:
			return graphError(http.StatusBadRequest, "BadRequest", "The property '"+name+"' must be a string.")
		case members != nil && !slices.Contains(members, value):
			return graphError(http.StatusBadRequest, "BadRequest", "Requested value '"+value+"' was not found in the enumeration of '"+name+"'.")
		}
	}
	if len(fields) == 0 {
		return graphError(http.StatusBadRequest, "BadRequest", "The request names no property to update.")
	}
	s.alerts.mu.Lock()
	defer s.alerts.mu.Unlock()
	rec := s.alerts.byID[c.Args[0]]
	if rec == nil || rec.readable.After(s.opt.Now()) {
		return graphError(http.StatusNotFound, "ResourceNotFound", "Resource not found")
	}
	if status := text(fields["status"]); status == "resolved" && text(rec.obj["status"]) != status {
		fields["resolvedDateTime"] = quote(s.opt.Now().UTC().Format(stamp))
	}
	v, err := s.change(rec, fields)
	if err != nil {
		return graphError(http.StatusBadRequest, "BadRequest", err.Error())
	}
	rec.patches.Add(1)
	return fakekit.Reply{Status: http.StatusOK, Body: v.entity(wantsAllMembers(c.R))}
}

func (s *Server) commentAlert(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleAlertReadWrite); app == nil {
		return refusal
	}
	body, ok := fakekit.ReadBody(c.R, 1<<20)
	fields, isObject := decodeObject(body)
	comment := text(fields["comment"])
	if kind := strings.TrimPrefix(text(fields["@odata.type"]), "#"); !ok || !isObject || kind != "" && kind != "microsoft.graph.security.alertComment" {
		return graphError(http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload.")
	}
	for name := range fields {
		if name != "comment" && name != "@odata.type" {
			return graphError(http.StatusBadRequest, "BadRequest", "The property '"+name+"' does not exist on type 'microsoft.graph.security.alertComment' or cannot be set.")
		}
	}
	if strings.TrimSpace(comment) == "" {
		return graphError(http.StatusBadRequest, "BadRequest", "The comment must not be empty.")
	}
	s.alerts.mu.Lock()
	defer s.alerts.mu.Unlock()
	rec := s.alerts.byID[c.Args[0]]
	if rec == nil || rec.readable.After(s.opt.Now()) {
		return graphError(http.StatusNotFound, "ResourceNotFound", "Resource not found")
	}
	before := rec.comments
	rec.comments = append(slices.Clip(before), fakekit.JSON(0, object{
		"@odata.type": "#microsoft.graph.security.alertComment", "comment": comment,
		"createdByDisplayName": s.opt.AppName, "createdDateTime": s.opt.Now().UTC().Format(stamp),
	}).Body)
	if _, err := s.change(rec, nil); err != nil {
		rec.comments = before
		return graphError(http.StatusBadRequest, "BadRequest", err.Error())
	}
	rec.added = append(rec.added, comment)
	return fakekit.JSON(http.StatusOK, object{
		"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#Collection(microsoft.graph.security.alertComment)",
		"value":          rec.comments,
	})
}
