package azurefake

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// patternType is the kind of observable as Resource Manager names it, where a STIX upload says "stix".
func patternType(pattern string) string {
	head, _, ok := strings.Cut(strings.TrimPrefix(pattern, "["), ":")
	if !ok {
		return ""
	}
	return strings.TrimSpace(head)
}

// visible is what the read side shows of an object: the state before the last write while that is younger than ReadLag.
func (s *Server) visible(r *stixRecord) object {
	if s.opt.Now().Sub(r.lastWrite) >= s.opt.TI.ReadLag {
		return r.object
	}
	return r.shown
}

// resource is an object as Resource Manager shows it; nil while it is not visible.
func (s *Server) resource(r *stixRecord, path string) object {
	o := s.visible(r)
	if o == nil {
		return nil
	}
	get := func(name string) any { return o[name] }
	pattern, _ := o["pattern"].(string)
	props := object{
		"externalId": r.id, "source": r.source, "pattern": pattern, "patternType": patternType(pattern),
		"created": r.created.UTC().Format(time.RFC3339Nano), "lastUpdatedTimeUtc": r.changed.UTC().Format(time.RFC3339Nano),
		"externalLastUpdatedTimeUtc": r.modified.UTC().Format(time.RFC3339Nano), "revoked": o["revoked"] == true,
	}
	for to, from := range map[string]string{
		"displayName": "name", "description": "description", "confidence": "confidence", "validFrom": "valid_from", "validUntil": "valid_until",
		"threatTypes": "indicator_types", "threatIntelligenceTags": "labels", "objectMarkingRefs": "object_marking_refs",
		"externalReferences": "external_references",
	} {
		if v := get(from); v != nil {
			props[to] = v
		}
	}
	if phases, ok := o["kill_chain_phases"].([]any); ok {
		var out []object
		for _, p := range phases {
			m, _ := p.(map[string]any)
			out = append(out, object{"killChainName": m["kill_chain_name"], "phaseName": m["phase_name"]})
		}
		props["killChainPhases"] = out
	}
	return object{
		"id": path + "/" + r.name, "name": r.name, "etag": strconv.Quote(strconv.Itoa(r.etag)),
		"type": "Microsoft.SecurityInsights/threatIntelligence", "kind": "indicator", "properties": props,
	}
}

// records lists what every workspace has: the fake does not map names of workspaces to their ids.
func (s *Server) recordsLocked() []*stixRecord {
	var all []*stixRecord
	for _, w := range slices.Sorted(maps.Keys(s.ti.objects)) {
		for _, id := range slices.Sorted(maps.Keys(s.ti.objects[w])) {
			all = append(all, s.ti.objects[w][id])
		}
	}
	return all
}

type tiQuery struct {
	PageSize        int      `json:"pageSize"`
	MinConfidence   *float64 `json:"minConfidence"`
	MaxConfidence   *float64 `json:"maxConfidence"`
	MinValidUntil   string   `json:"minValidUntil"`
	MaxValidUntil   string   `json:"maxValidUntil"`
	IncludeDisabled bool     `json:"includeDisabled"`
	Sources         []string `json:"sources"`
	PatternTypes    []string `json:"patternTypes"`
	ThreatTypes     []string `json:"threatTypes"`
	IDs             []string `json:"ids"`
	Keywords        []string `json:"keywords"`
	SkipToken       string   `json:"skipToken"`
}

// queryIndicators answers a page. Its next link can be followed with GET, and its skip token sent in a body.
func (s *Server) queryIndicators(c *fakekit.Call) fakekit.Reply {
	if _, reply, ok := s.tiApp(c.R, RoleSentinelContributor, RoleSentinelReader); !ok {
		return reply
	}
	q := tiQuery{PageSize: 100, IncludeDisabled: c.R.Method == http.MethodGet}
	if body, whole := fakekit.ReadBody(c.R, 1<<20); !whole || len(body) > 0 && json.Unmarshal(body, &q) != nil {
		return resourceManagerError(http.StatusBadRequest, "BadRequest", "The filtering criteria are not valid.")
	}
	skip := 0
	if token := firstOf(c.R.URL.Query().Get("$skipToken"), q.SkipToken); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return resourceManagerError(http.StatusBadRequest, "BadRequest", "The skip token is not valid.")
		}
		var page struct {
			Skip  int
			Query tiQuery
		}
		if json.Unmarshal(raw, &page) != nil {
			return resourceManagerError(http.StatusBadRequest, "BadRequest", "The skip token is not valid.")
		}
		skip, q = page.Skip, page.Query
	}
	q.PageSize = min(max(q.PageSize, 1), 100)
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	base := strings.TrimSuffix(strings.TrimSuffix(c.R.URL.Path, "/queryIndicators"), "/indicators") + "/indicators"
	values, n := []object{}, 0
	more := false
	for _, r := range s.recordsLocked() {
		res := s.resource(r, base)
		if res == nil || !q.matches(r, res) {
			continue
		}
		if n++; n <= skip {
			continue
		}
		if len(values) == q.PageSize {
			more = true
			break
		}
		values = append(values, res)
	}
	out := object{"value": values}
	if more {
		q.SkipToken = ""
		token, err := json.Marshal(object{"Skip": skip + len(values), "Query": q})
		if err == nil {
			origin, _ := url.Parse(s.origin(c.R))
			out["nextLink"] = origin.String() + c.R.URL.Path + "?" + url.Values{
				"api-version": {c.R.URL.Query().Get("api-version")}, "$skipToken": {base64.RawURLEncoding.EncodeToString(token)},
			}.Encode()
		}
	}
	return fakekit.JSON(http.StatusOK, out)
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (q *tiQuery) matches(r *stixRecord, res object) bool {
	props, _ := res["properties"].(object)
	confidence, _ := props["confidence"].(float64)
	until, _ := props["validUntil"].(string)
	has := func(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
	kind, _ := props["patternType"].(string)
	name, _ := res["name"].(string)
	switch {
	case !has(q.Sources, r.source), !has(q.PatternTypes, kind):
		return false
	case len(q.IDs) > 0 && !slices.Contains(q.IDs, name) && !slices.Contains(q.IDs, r.id):
		return false
	case q.MinConfidence != nil && confidence < *q.MinConfidence, q.MaxConfidence != nil && confidence > *q.MaxConfidence:
		return false
	case q.MinValidUntil != "" && until != "" && until < q.MinValidUntil, q.MaxValidUntil != "" && until > q.MaxValidUntil:
		return false
	case props["revoked"] == true && !q.IncludeDisabled:
		return false
	}
	for _, k := range q.Keywords {
		pattern, _ := props["pattern"].(string)
		display, _ := props["displayName"].(string)
		description, _ := props["description"].(string)
		if !strings.Contains(strings.ToLower(pattern+" "+display+" "+description+" "+r.id), strings.ToLower(k)) {
			return false
		}
	}
	return true
}

func (s *Server) byNameLocked(name string) (workspace string, r *stixRecord) {
	for w, objects := range s.ti.objects {
		for _, r := range objects {
			if r.name == name {
				return w, r
			}
		}
	}
	return "", nil
}

func (s *Server) getIndicator(c *fakekit.Call) fakekit.Reply {
	if _, reply, ok := s.tiApp(c.R, RoleSentinelContributor, RoleSentinelReader); !ok {
		return reply
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	if _, r := s.byNameLocked(c.Args[0]); r != nil {
		path, _, _ := strings.Cut(c.R.URL.Path, "/"+r.name)
		if res := s.resource(r, path); res != nil {
			return fakekit.JSON(http.StatusOK, res)
		}
	}
	return resourceManagerError(http.StatusNotFound, "NotFound", "The threat intelligence indicator was not found.")
}

func (s *Server) putIndicator(c *fakekit.Call) fakekit.Reply {
	if _, reply, ok := s.tiApp(c.R, RoleSentinelContributor); !ok {
		return reply
	}
	body, whole := fakekit.ReadBody(c.R, 1<<20)
	var in struct {
		Kind       string `json:"kind"`
		Etag       string `json:"etag"`
		Properties object `json:"properties"`
	}
	if !whole || json.Unmarshal(body, &in) != nil || in.Kind != "indicator" || in.Properties == nil {
		return resourceManagerError(http.StatusBadRequest, "BadRequest", "The indicator is not valid.")
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	_, r := s.byNameLocked(c.Args[0])
	if r == nil {
		return resourceManagerError(http.StatusNotFound, "NotFound", "The threat intelligence indicator was not found.")
	}
	if in.Etag != "" && in.Etag != strconv.Quote(strconv.Itoa(r.etag)) {
		return resourceManagerError(http.StatusConflict, "Conflict", "Newer instance of the indicator exists.")
	}
	next := maps.Clone(r.object)
	for from, to := range map[string]string{"validUntil": "valid_until", "description": "description", "revoked": "revoked", "confidence": "confidence", "displayName": "name"} {
		if v, ok := in.Properties[from]; ok {
			next[to] = v
		}
	}
	r.object, r.changed, r.lastWrite = next, s.opt.Now(), s.opt.Now()
	r.etag++
	r.revoked, _ = next["revoked"].(bool)
	s.ti.ledger.Updated++
	s.ti.ledger.ByObject[r.id]++
	path, _, _ := strings.Cut(c.R.URL.Path, "/"+r.name)
	return fakekit.JSON(http.StatusOK, s.resource(r, path))
}

func (s *Server) deleteIndicator(c *fakekit.Call) fakekit.Reply {
	if _, reply, ok := s.tiApp(c.R, RoleSentinelContributor); !ok {
		return reply
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	w, r := s.byNameLocked(c.Args[0])
	if r == nil {
		return fakekit.Reply{Status: http.StatusNoContent}
	}
	delete(s.ti.objects[w], r.id)
	s.ti.ledger.Deleted++
	return fakekit.Reply{Status: http.StatusOK}
}

func (s *Server) tiMetrics(c *fakekit.Call) fakekit.Reply {
	if _, reply, ok := s.tiApp(c.R, RoleSentinelContributor, RoleSentinelReader); !ok {
		return reply
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	bySource := map[string]int{}
	for _, r := range s.recordsLocked() {
		bySource[r.source]++
	}
	var sources []object
	for _, name := range slices.Sorted(maps.Keys(bySource)) {
		sources = append(sources, object{"metricName": name, "metricValue": bySource[name]})
	}
	return fakekit.JSON(http.StatusOK, object{"value": []object{{"properties": object{
		"lastUpdatedTimeUtc": s.opt.Now().UTC().Format(time.RFC3339), "threatTypeMetrics": []object{}, "patternTypeMetrics": []object{}, "sourceMetrics": sources,
	}}}})
}

// getWorkspace shows the resource behind a name; its customerId is the id that uploads want.
func (s *Server) getWorkspace(c *fakekit.Call) fakekit.Reply {
	if _, reply, ok := s.tiApp(c.R, RoleSentinelContributor, RoleSentinelReader); !ok {
		return reply
	}
	return fakekit.JSON(http.StatusOK, object{
		"id": c.R.URL.Path, "name": c.Args[0], "type": "Microsoft.OperationalInsights/workspaces", "location": "westeurope",
		"properties": object{"customerId": s.opt.Workspaces[0], "provisioningState": "Succeeded"},
	})
}
