package azurefake

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

func armClient(t *testing.T, s *Server) *client {
	t.Helper()
	return signIn(t, s, "https://management.azure.com")
}

// at makes a path of the workspace.
func at(s *Server, path string) string {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return s.WorkspaceID() + insights + path + sep + "api-version=" + ARMVersion
}

func TestARMIncidentPut(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	c := armClient(t, s)
	name := s.AddSentinelIncident("", map[string]any{"description": "d", "labels": []any{map[string]any{"labelName": "a"}}}, nil, nil)
	inc := c.want(http.StatusOK, http.MethodGet, at(s, "incidents/"+name), nil)
	props := func(more map[string]any) map[string]any {
		p := map[string]any{"title": "t", "severity": "Low", "status": "Active"}
		maps.Copy(p, more)
		return p
	}
	put := func(status int, etag any, p map[string]any) map[string]any {
		t.Helper()
		return c.want(status, http.MethodPut, at(s, "incidents/"+name), map[string]any{"etag": etag, "properties": p})
	}
	if out := put(http.StatusConflict, "", props(nil)); code(out) != "Conflict" {
		t.Errorf("%v", out)
	}
	put(http.StatusConflict, `"stale"`, props(nil))
	// What is left out is cleared; what is the service's own stays.
	out := put(http.StatusOK, inc["etag"], props(nil))
	p := out["properties"].(map[string]any)
	if p["description"] != nil || p["labels"] != nil || p["incidentNumber"] == nil || out["etag"] == inc["etag"] {
		t.Errorf("%v", out)
	}
	put(http.StatusConflict, inc["etag"], props(nil)) // the etag is another one now
	for _, bad := range []map[string]any{
		{"title": ""},
		{"severity": "Huge"},
		{"status": "Closed"},
		{"status": "resolved"},
		{"classification": "TruePositive", "classificationReason": "InaccurateData"},
		{"nonsense": 1},
		{"description": strings.Repeat("x", 5001)},
	} {
		put(http.StatusBadRequest, out["etag"], props(bad))
	}
	for _, missing := range []string{"title", "severity", "status"} {
		b := props(nil)
		delete(b, missing)
		put(http.StatusBadRequest, out["etag"], b)
	}
	put(http.StatusOK, out["etag"], props(map[string]any{"status": "Closed", "classification": "FalsePositive", "classificationReason": "InaccurateData"}))
	c.want(http.StatusMethodNotAllowed, http.MethodPut, at(s, "incidents"), map[string]any{})
	c.want(http.StatusNotFound, http.MethodGet, at(s, "incidents/"+newGUID()), nil)
	c.want(http.StatusCreated, http.MethodPut, at(s, "incidents/"+newGUID()), map[string]any{"properties": props(nil)})
	if l := s.ARMLedger(); l.Puts[name] != 2 || l.Conflicts != 3 || l.Incidents != 2 {
		t.Errorf("%+v", l)
	}
	c.want(http.StatusOK, http.MethodDelete, at(s, "incidents/"+name), nil)
	c.want(http.StatusNoContent, http.MethodDelete, at(s, "incidents/"+name), nil)
}

func TestARMIncidentList(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{ARM: ARM{ListCap: 7}})
	c := armClient(t, s)
	for i := range 10 {
		when := time.Date(2026, 11, 23, 10, 0, i, 0, time.UTC).Format(stamp)
		s.AddSentinelIncident("", map[string]any{"lastModifiedTimeUtc": when, "createdTimeUtc": when}, nil, nil)
	}
	next := at(s, "incidents?$top=3&$orderby=properties/lastModifiedTimeUtc+asc&$filter=properties/lastModifiedTimeUtc+ge+2026-11-23T10:00:02Z")
	var numbers []string
	pages := 0
	for next != "" {
		pages++
		page := c.want(http.StatusOK, http.MethodGet, next, nil)
		for _, v := range page["value"].([]any) {
			numbers = append(numbers, fmt.Sprint(v.(map[string]any)["properties"].(map[string]any)["incidentNumber"]))
		}
		next, _ = page["nextLink"].(string)
		if next != "" && !strings.HasPrefix(next, "https://fake.example:443/") {
			t.Errorf("next link %s", next)
		}
	}
	// The cap holds over all pages, and nothing says that it was reached.
	if got := strings.Join(numbers, " "); got != "3 4 5 6 7 8 9" || pages != 3 {
		t.Errorf("%s in %d pages", got, pages)
	}
	for _, bad := range []string{"$top=0", "$top=1001", "$filter=title+eq+x", "$filter=properties/lastModifiedTimeUtc+ge+yesterday", "$skipToken=x"} {
		c.want(http.StatusBadRequest, http.MethodGet, at(s, "incidents?"+bad), nil)
	}
	one := c.want(http.StatusOK, http.MethodGet, at(s, "incidents?$filter=properties/incidentNumber+eq+4"), nil)
	if len(one["value"].([]any)) != 1 {
		t.Errorf("%v", one)
	}
}

func TestARMWhoMay(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := newFake(t, Options{Now: clock.now, ARM: ARM{Roles: []string{RoleSentinelReader}, ReadsPerMinute: 100}})
	c := armClient(t, s)
	name := s.AddSentinelIncident("", nil, nil, nil)
	for status, try := range map[string][2]string{
		"404 SubscriptionNotFound":       {http.MethodGet, strings.Replace(at(s, "incidents"), DefaultSubscription, "x", 1)},
		"404 ResourceGroupNotFound":      {http.MethodGet, strings.Replace(at(s, "incidents"), "resourceGroups/soc", "resourceGroups/x", 1)},
		"404 ResourceNotFound":           {http.MethodGet, strings.Replace(at(s, "incidents"), "soc-ws", "x", 1)},
		"404 InvalidResourceType":        {http.MethodGet, at(s, "nonsense")},
		"400 MissingApiVersionParameter": {http.MethodGet, s.WorkspaceID() + insights + "incidents"},
		"403 AuthorizationFailed":        {http.MethodPut, at(s, "incidents/"+name+"/comments/"+newGUID())},
		"403 AuthorizationFailed ":       {http.MethodPost, at(s, "incidents/"+name+"/runPlaybook")},
		"403 AuthorizationFailed again":  {http.MethodDelete, at(s, "watchlists/abc")},
		"404 NotFound":                   {http.MethodGet, at(s, "watchlists/abc")},
		"200 ":                           {http.MethodPost, at(s, "incidents/"+name+"/entities")},
	} {
		got, body := c.do(try[0], try[1], map[string]any{})
		if want := strings.Fields(status); fmt.Sprint(got) != want[0] || len(want) > 1 && code(body) != want[1] {
			t.Errorf("%s %s: %d %v, want %s", try[0], try[1], got, body, status)
		}
	}
	nobody := &client{t: t, http: c.http}
	nobody.want(http.StatusUnauthorized, http.MethodGet, at(s, "incidents"), nil)
	if out := graph(t, s).want(http.StatusUnauthorized, http.MethodGet, at(s, "incidents"), nil); code(out) != "InvalidAuthenticationTokenAudience" {
		t.Errorf("%v", out)
	}
	clock.advance(2 * time.Hour)
	if out := c.want(http.StatusUnauthorized, http.MethodGet, at(s, "incidents"), nil); code(out) != "ExpiredAuthenticationToken" {
		t.Errorf("%v", out)
	}
	c = armClient(t, s)
	for range 100 {
		c.do(http.MethodGet, at(s, "incidents"), nil)
	}
	resp, err := c.try(http.MethodGet, at(s, "incidents"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || resp.Header.Get("X-Ms-Ratelimit-Remaining-Subscription-Reads") != "0" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestARMCommentsAndTasks(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	c := armClient(t, s)
	name := s.AddSentinelIncident("", nil, nil, nil)
	inc := c.want(http.StatusOK, http.MethodGet, at(s, "incidents/"+name), nil)
	id := newGUID()
	body := map[string]any{"properties": map[string]any{"message": "one"}}
	c.want(http.StatusCreated, http.MethodPut, at(s, "incidents/"+name+"/comments/"+id), body)
	c.want(http.StatusOK, http.MethodPut, at(s, "incidents/"+name+"/comments/"+id), body)
	c.want(http.StatusOK, http.MethodGet, at(s, "incidents/"+name+"/comments/"+id), nil)
	c.want(http.StatusNotFound, http.MethodGet, at(s, "incidents/"+name+"/comments/"+newGUID()), nil)
	c.want(http.StatusBadRequest, http.MethodPut, at(s, "incidents/"+name+"/comments/"+newGUID()), map[string]any{"properties": map[string]any{"message": strings.Repeat("x", 30001)}})
	if now := c.want(http.StatusOK, http.MethodGet, at(s, "incidents/"+name), nil); now["etag"] == inc["etag"] {
		t.Error("a comment does not move the etag")
	}
	for range 40 {
		c.want(http.StatusCreated, http.MethodPut, at(s, "incidents/"+name+"/comments/"+newGUID()), body)
	}
	first := c.want(http.StatusOK, http.MethodGet, at(s, "incidents/"+name+"/comments"), nil)
	link, _ := first["nextLink"].(string)
	if second := c.want(http.StatusOK, http.MethodGet, link, nil); len(first["value"].([]any))+len(second["value"].([]any)) != 41 {
		t.Errorf("%d comments", len(first["value"].([]any))+len(second["value"].([]any)))
	}
	task := func(status int, p map[string]any) {
		t.Helper()
		c.want(status, http.MethodPut, at(s, "incidents/"+name+"/tasks/"+newGUID()), map[string]any{"properties": p})
	}
	task(http.StatusBadRequest, map[string]any{"title": "t"})
	task(http.StatusBadRequest, map[string]any{"status": "New"})
	for range 40 {
		task(http.StatusCreated, map[string]any{"title": "t", "status": "New"})
	}
	task(http.StatusBadRequest, map[string]any{"title": "t", "status": "New"})
	if l := s.ARMLedger(); l.Comments[name] != 41 || l.Tasks[name] != 40 {
		t.Errorf("%+v", l)
	}
}

func TestARMWatchlistOperations(t *testing.T) {
	t.Parallel()
	for header, o := range map[string]ARM{"Azure-Asyncoperation": {}, "Location": {Async: "location"}, "": {State: true}} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			s := newFake(t, Options{ARM: o})
			c := armClient(t, s)
			put := func(status int, p map[string]any) *http.Response {
				t.Helper()
				resp, err := c.try(http.MethodPut, at(s, "watchlists/abc"), map[string]any{"properties": p})
				if err != nil || resp.StatusCode != status {
					t.Fatalf("%v, %v, want %d", resp, err, status)
				}
				_ = resp.Body.Close()
				return resp
			}
			full := map[string]any{"displayName": "n", "provider": "p", "itemsSearchKey": "ip", "contentType": "text/csv", "rawContent": "ip\n1\n2\n"}
			for _, missing := range []string{"displayName", "provider", "itemsSearchKey"} {
				b := map[string]any{}
				for k, v := range full {
					if k != missing {
						b[k] = v
					}
				}
				put(http.StatusBadRequest, b)
			}
			resp := put(http.StatusCreated, full)
			if (resp.Header.Get(header) == "") != (header == "") {
				t.Errorf("headers %v", resp.Header)
			}
			put(http.StatusConflict, full) // one thing at a time
			if status, _ := c.do(http.MethodDelete, at(s, "watchlists/abc"), nil); status != http.StatusConflict {
				t.Errorf("deleted during an upload: %d", status)
			}
			link := resp.Header.Get(header)
			if header == "" {
				link = at(s, "watchlists/abc")
			}
			for n := 0; len(s.WatchlistRows("abc")) != 2; n++ {
				if n == 5 {
					t.Fatal("the upload does not end")
				}
				c.do(http.MethodGet, link, nil)
			}
			if state := s.Watchlist("abc")["provisioningState"]; state != "Succeeded" {
				t.Errorf("state %v", state)
			}
			c.want(http.StatusCreated, http.MethodPut, at(s, "watchlists/abc/watchlistItems/"+newGUID()), map[string]any{"properties": map[string]any{"itemsKeyValue": map[string]any{"ip": "3"}}})
			c.want(http.StatusBadRequest, http.MethodPut, at(s, "watchlists/abc/watchlistItems/"+newGUID()), map[string]any{"properties": map[string]any{}})
			c.want(http.StatusNoContent, http.MethodDelete, at(s, "watchlists/abc/watchlistItems/"+newGUID()), nil)
			c.want(http.StatusAccepted, http.MethodDelete, at(s, "watchlists/abc"), nil)
			if l := s.ARMLedger(); l.Uploads["abc"] != 1 || l.Changes != 3 {
				t.Errorf("%+v", l)
			}
		})
	}
}
