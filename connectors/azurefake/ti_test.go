package azurefake

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	tiMain = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.OperationalInsights/workspaces/soc/providers/Microsoft.SecurityInsights/threatIntelligence/main"
	tiNow  = "2026-11-23T10:00:00.000Z"
)

func tiClient(t *testing.T, s *Server) *client { return signIn(t, s, "https://management.azure.com") }

func tiUpload(s *Server) string {
	return "/workspaces/" + s.Workspace() + "/threat-intelligence-stix-objects:upload?api-version=2024-02-01-preview"
}

func stixOf(n int, change map[string]any) map[string]any {
	o := map[string]any{
		"type": "indicator", "spec_version": "2.1", "id": fmt.Sprintf("indicator--0d1f9a10-0000-4000-8000-%012d", n), "created": tiNow, "modified": tiNow,
		"name": "x", "pattern": fmt.Sprintf("[ipv4-addr:value = '5.45.%d.%d']", n/250, n%250), "pattern_type": "stix", "valid_from": tiNow, "confidence": 70 + n%30,
	}
	for k, v := range change {
		if o[k] = v; v == nil {
			delete(o, k)
		}
	}
	return o
}

func tiBody(objects ...map[string]any) map[string]any {
	return map[string]any{"sourcesystem": "Test", "stixobjects": objects}
}

func TestTIUpload(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	c := tiClient(t, s)
	if out := c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(stixOf(1, nil), stixOf(2, nil))); out != nil {
		t.Errorf("all good, and the answer is %v", out)
	}
	// Partial failure looks like success.
	out := c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(
		stixOf(3, nil), stixOf(4, map[string]any{"id": nil}), stixOf(5, map[string]any{"valid_until": tiNow}), stixOf(6, map[string]any{"type": "malware"}),
		stixOf(7, map[string]any{"confidence": 101}), stixOf(8, map[string]any{"modified": "yesterday"}), stixOf(9, map[string]any{"pattern": "x"})))
	errors := out["errors"].([]any)
	if len(errors) != 6 {
		t.Fatalf("%v", errors)
	}
	first := errors[0].(map[string]any)
	if first["recordIndex"].(json.Number).String() != "1" || first["errorMessages"].([]any)[0] != "Error for Property=id: Required property is missing. Actual value: NULL." {
		t.Errorf("%v", first)
	}
	// The same version, an older one, a newer one, a revoked one, and what comes after it.
	for _, o := range []map[string]any{
		stixOf(1, nil), stixOf(1, map[string]any{"created": "2026-11-23T09:00:00Z", "modified": "2026-11-23T09:00:00Z"}),
		stixOf(1, map[string]any{"modified": "2026-11-23T11:00:00Z", "name": "y"}), stixOf(1, map[string]any{"modified": "2026-11-23T12:00:00Z", "revoked": true}),
	} {
		if out := c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(o)); out != nil {
			t.Errorf("%v", out)
		}
	}
	if out := c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(stixOf(1, map[string]any{"modified": "2026-11-23T13:00:00Z"}))); out["errors"] == nil {
		t.Error("what was revoked came back")
	}
	if led := s.TI(); led.Objects != 3 || led.Created != 3 || led.Updated != 2 || led.Same != 2 || led.Rejected != 7 || led.ByObject["indicator--0d1f9a10-0000-4000-8000-000000000001"] != 3 {
		t.Errorf("%+v", led)
	}
	many := make([]map[string]any, 101)
	for i := range many {
		many[i] = stixOf(i, nil)
	}
	for want, body := range map[string]any{
		"At most 100": tiBody(many...), "at least one": tiBody(), "reserved": map[string]any{"sourcesystem": "microsoft sentinel", "stixobjects": many[:1]},
		"'sourcesystem' is required": map[string]any{"stixobjects": many[:1]}, "expected shape": []any{},
	} {
		out := c.want(http.StatusBadRequest, http.MethodPost, tiUpload(s), body)
		if !strings.Contains(fmt.Sprint(out), want) {
			t.Errorf("%s: %v", want, out)
		}
	}
	c.want(http.StatusBadRequest, http.MethodPost, strings.Replace(tiUpload(s), "2024-02-01-preview", "2022-07-01", 1), tiBody(many[0]))
	c.want(http.StatusNotFound, http.MethodPost, strings.Replace(tiUpload(s), s.Workspace(), "soc", 1), tiBody(many[0]))
	if got := code(graph(t, s).want(http.StatusUnauthorized, http.MethodPost, tiUpload(s), tiBody(many[0]))); got != "InvalidAuthenticationTokenAudience" {
		t.Errorf("a token for another API: %s", got)
	}
	poor := newFake(t, Options{Apps: []App{{ClientID: DefaultClientID, Secret: "s3cret-0123456789", Roles: []string{RoleSentinelReader}}}})
	if got := code(tiClient(t, poor).want(http.StatusForbidden, http.MethodPost, tiUpload(poor), tiBody(many[0]))); got != "AuthorizationFailed" {
		t.Errorf("a reader: %s", got)
	}
}

func TestTIQuota(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newFake(t, Options{Now: clk.now, TI: TIOptions{UploadsPerMinute: 2, SecondsInBody: true, ImportsPerMinute: 1}})
	c := tiClient(t, s)
	c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(stixOf(1, nil)))
	clk.advance(37 * time.Second)
	c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(stixOf(2, nil)))
	out := c.want(http.StatusTooManyRequests, http.MethodPost, tiUpload(s), tiBody(stixOf(3, nil)))
	if out["message"] != "Rate limit is exceeded. Try again in 23 seconds." {
		t.Errorf("%v", out)
	}
	clk.advance(23 * time.Second)
	c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(stixOf(3, nil)))
	d := signIn(t, s, "https://api.securitycenter.microsoft.com")
	d.want(http.StatusOK, http.MethodPost, "/api/indicators/import", map[string]any{"Indicators": []any{mdeOf("5.45.207.1", nil)}})
	d.want(http.StatusTooManyRequests, http.MethodPost, "/api/indicators/import", map[string]any{"Indicators": []any{mdeOf("5.45.207.1", nil)}})
}

// What was uploaded is shown later, in pages that follow one another by token or by link.
func TestTIResourceManager(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newFake(t, Options{Now: clk.now, TI: TIOptions{ReadLag: 5 * time.Minute}})
	c := tiClient(t, s)
	for from := 0; from < 240; from += 60 {
		var part []map[string]any
		for n := range 60 {
			part = append(part, stixOf(from+n, nil))
		}
		c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(part...))
	}
	query := tiMain + "/queryIndicators?api-version=2025-09-01"
	if n := len(c.want(http.StatusOK, http.MethodPost, query, map[string]any{})["value"].([]any)); n != 0 {
		t.Fatalf("%d are shown at once", n)
	}
	clk.advance(5 * time.Minute)
	seen := map[string]bool{}
	page := c.want(http.StatusOK, http.MethodPost, query, map[string]any{"pageSize": 50, "sources": []string{"Test"}})
	for pages := 1; ; pages++ {
		for _, v := range page["value"].([]any) {
			seen[v.(map[string]any)["properties"].(map[string]any)["externalId"].(string)] = true
		}
		next, more := page["nextLink"].(string)
		if !more {
			if pages != 5 || len(seen) != 240 {
				t.Errorf("%d pages, %d objects", pages, len(seen))
			}
			break
		}
		if pages%2 == 0 {
			page = c.want(http.StatusOK, http.MethodGet, next, nil)
			continue
		}
		_, token, _ := strings.Cut(next, "skipToken=")
		token, _, _ = strings.Cut(token, "&")
		page = c.want(http.StatusOK, http.MethodPost, query, map[string]any{"skipToken": token})
	}
	one := c.want(http.StatusOK, http.MethodPost, query, map[string]any{"keywords": []string{"'5.45.0.7'"}})["value"].([]any)[0].(map[string]any)
	if p := one["properties"].(map[string]any); p["patternType"] != "ipv4-addr" || one["kind"] != "indicator" {
		t.Errorf("%v", one)
	}
	path := tiMain + "/indicators/" + one["name"].(string) + "?api-version=2025-09-01"
	c.want(http.StatusConflict, http.MethodPut, path, map[string]any{"kind": "indicator", "etag": `"77"`, "properties": map[string]any{}})
	c.want(http.StatusOK, http.MethodPut, path, map[string]any{"kind": "indicator", "etag": one["etag"], "properties": map[string]any{"validUntil": "2026-12-01T00:00:00Z"}})
	c.want(http.StatusOK, http.MethodDelete, path, nil)
	c.want(http.StatusNoContent, http.MethodDelete, path, nil)
	c.want(http.StatusNotFound, http.MethodGet, path, nil)
	c.want(http.StatusOK, http.MethodGet, tiMain+"/metrics?api-version=2025-09-01", nil)
	c.want(http.StatusBadRequest, http.MethodPost, query, map[string]any{"skipToken": "%%%"})
}

func mdeOf(value string, change map[string]any) map[string]any {
	o := map[string]any{"indicatorValue": value, "indicatorType": "IpAddress", "action": "Audit", "generateAlert": true, "title": "t", "description": "d"}
	maps.Copy(o, change)
	return o
}

func TestDefenderIndicators(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{TI: TIOptions{DefenderMax: 3}})
	c := signIn(t, s, "https://api.securitycenter.microsoft.com")
	s.RefuseIndicator("5.45.207.8", "No.")
	out := c.want(http.StatusOK, http.MethodPost, "/api/indicators/import", map[string]any{"Indicators": []any{
		mdeOf("5.45.207.1", nil), mdeOf("5.45.207.0/24", nil), mdeOf("5.45.207.2", map[string]any{"generateAlert": false}), mdeOf("5.45.207.3", map[string]any{"action": "Explode"}),
		mdeOf("5.45.207.8", nil), mdeOf("5.45.207.4", nil), mdeOf("5.45.207.5", nil), mdeOf("5.45.207.6", nil),
		mdeOf("5.45.207.7", map[string]any{"expirationTime": "2020-01-01T00:00:00Z"}), mdeOf("5.45.207.1", map[string]any{"title": "again"}),
	}})
	var failed []string
	for _, v := range out["value"].([]any) {
		if m := v.(map[string]any); m["isFailed"] == true {
			failed = append(failed, m["indicator"].(string))
		}
	}
	if got := strings.Join(failed, " "); got != "5.45.207.0/24 5.45.207.2 5.45.207.3 5.45.207.8 5.45.207.6" {
		t.Errorf("failed: %s", got)
	}
	if led := s.TI(); led.DefenderCreated != 4 || led.DefenderUpdated != 1 || led.DefenderActive != 3 || led.DefenderFailed != 5 {
		t.Errorf("%+v", led)
	}
	list := c.want(http.StatusOK, http.MethodGet, "/api/indicators?$filter=indicatorValue%20eq%20'5.45.207.4'", nil)["value"].([]any)
	id := list[0].(map[string]any)["id"].(string)
	c.want(http.StatusOK, http.MethodGet, "/api/indicators/"+id, nil)
	c.want(http.StatusNoContent, http.MethodDelete, "/api/indicators/"+id, nil)
	c.want(http.StatusNotFound, http.MethodDelete, "/api/indicators/"+id, nil)
	if n := len(c.want(http.StatusOK, http.MethodGet, "/api/indicators?$top=2&$skip=1", nil)["value"].([]any)); n != 2 {
		t.Errorf("a page of %d", n)
	}
	c.want(http.StatusNoContent, http.MethodPost, "/api/indicators/BatchDelete", map[string]any{"IndicatorIds": []string{"1", "99"}})
	c.want(http.StatusBadRequest, http.MethodPost, "/api/indicators/import", map[string]any{"Indicators": make([]any, 501)})
	c.want(http.StatusBadRequest, http.MethodPost, "/api/indicators", map[string]any{"indicatorValue": "x"})
	c.want(http.StatusOK, http.MethodPost, "/api/indicators", mdeOf("5.45.207.4", nil))
	if got := tiClient(t, s); code(got.want(http.StatusUnauthorized, http.MethodGet, "/api/indicators", nil)) != "Unauthorized" {
		t.Error("a token for another API is taken")
	}
}

// What the fake shows of an indicator has no property that the vendor's contract does not know.
func TestTIContract(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("CASEWIRE_CONTRACTS")
	if dir == "" {
		t.Skip("CASEWIRE_CONTRACTS names no folder with the vendors' contracts")
	}
	at := filepath.Join(dir, "microsoft", "sentinel-arm", "pandora-2025-09-01", "ThreatIntelligence")
	fields := func(model string) map[string]bool {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(at, "Model-"+model+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			Fields []struct {
				Name string `json:"jsonName"`
			} `json:"fields"`
		}
		if err := json.Unmarshal(b, &m); err != nil || len(m.Fields) == 0 {
			t.Fatalf("%v: %d fields", err, len(m.Fields))
		}
		out := map[string]bool{}
		for _, f := range m.Fields {
			out[f.Name] = true
		}
		return out
	}
	s := newFake(t, Options{})
	c := tiClient(t, s)
	c.want(http.StatusOK, http.MethodPost, tiUpload(s), tiBody(stixOf(1, map[string]any{
		"labels": []string{"a"}, "object_marking_refs": []string{"marking-definition--x"}, "external_references": []any{map[string]any{"source_name": "x"}},
		"kill_chain_phases": []any{map[string]any{"kill_chain_name": "mitre-attack", "phase_name": "x"}}, "indicator_types": []string{"x"}, "valid_until": "2027-01-01T00:00:00Z", "description": "d",
	})))
	one := c.want(http.StatusOK, http.MethodPost, tiMain+"/queryIndicators?api-version=2025-09-01", map[string]any{})["value"].([]any)[0].(map[string]any)
	known := fields("ThreatIntelligenceIndicatorProperties")
	for name := range one["properties"].(map[string]any) {
		if !known[name] {
			t.Errorf("the contract knows no property %q", name)
		}
	}
	criteria := fields("ThreatIntelligenceFilteringCriteria")
	b, err := json.Marshal(tiQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var q map[string]any
	if err := json.Unmarshal(b, &q); err != nil {
		t.Fatal(err)
	}
	for name := range q {
		if !criteria[name] {
			t.Errorf("the contract knows no criterion %q", name)
		}
	}
}
