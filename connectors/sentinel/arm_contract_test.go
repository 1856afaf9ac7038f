package sentinel_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/casewire/casewire/connectors/azurefake"
)

// requests are what the tests of this package sent to Azure Resource Manager, held against the vendor's contract.
var requests struct {
	sync.Mutex
	seen map[string]bool // "METHOD path status api-version"
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func recorded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/subscriptions/") {
			h.ServeHTTP(w, r)
			return
		}
		rec := &statusWriter{ResponseWriter: w}
		h.ServeHTTP(rec, r)
		requests.Lock()
		defer requests.Unlock()
		if requests.seen == nil {
			requests.seen = map[string]bool{}
		}
		requests.seen[fmt.Sprint(r.Method, " ", r.URL.Path, " ", rec.status, " ", r.URL.Query().Get("api-version"))] = true
	})
}

type operation struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Status []int  `json:"expectedStatus"`
}

// TestARMContract does everything once and holds the requests, and what the fake answered, against the vendor's list of
// operations.
func TestARMContract(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("CASEWIRE_CONTRACTS")
	if dir == "" {
		t.Skip("CASEWIRE_CONTRACTS names no folder with the vendors' contracts")
	}
	b, err := os.ReadFile(filepath.Join(dir, "microsoft", "sentinel-arm", "operations-2025-09-01.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Operations []operation `json:"operations"`
	}
	if err := json.Unmarshal(b, &doc); err != nil || len(doc.Operations) < 40 {
		t.Fatalf("%d operations, %v", len(doc.Operations), err)
	}
	r := newRoom(t, azurefake.Options{}, settings{"page_size": 2})
	name := ""
	for range 5 {
		name = r.azure.AddSentinelIncident("", nil, armAlerts, armEntities)
	}
	r.must("incident.comment", settings{"incident": name, "text": "x"})
	r.must("incident.update", settings{"incident": name, "severity": "high"})
	r.must("incident.entities", settings{"incident": name})
	r.must("incident.get", settings{"incident": name})
	r.must("task.add", settings{"incident": name, "title": "x"})
	r.must("playbook.run", settings{"incident": name, "logic_app": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Logic/workflows/w"})
	r.must("watchlist.ensure", settings{"watchlist": "abc", "search_key": "ip", "csv": "ip\n203.0.113.7\n"})
	r.must("watchlist.item.ensure", settings{"watchlist": "abc", "values": settings{"ip": "203.0.113.8"}})
	r.must("watchlist.item.remove", settings{"watchlist": "abc", "key": "203.0.113.8"})
	r.must("watchlist.items", settings{"watchlist": "abc"})
	r.must("watchlist.list", settings{})
	r.must("watchlist.remove", settings{"watchlist": "abc"})
	r.poll(nil)
	hole := regexp.MustCompile(`\\\{[^}]*\\\}`)
	known := func(method, path string) (operation, bool) {
		for _, o := range doc.Operations {
			if o.Method == method && regexp.MustCompile("(?i)^"+hole.ReplaceAllString(regexp.QuoteMeta(o.Path), "[^/]+")+"$").MatchString(path) {
				return o, true
			}
		}
		return operation{}, false
	}
	requests.Lock()
	defer requests.Unlock()
	if len(requests.seen) < 10 {
		t.Fatalf("only %d requests were seen", len(requests.seen))
	}
	for line := range requests.seen {
		f := strings.Fields(line)
		if len(f) < 4 || strings.Contains(f[1], "/operations/") || strings.Contains(f[1], "Microsoft.Authorization") {
			continue
		}
		o, ok := known(f[0], f[1])
		switch {
		case !ok:
			t.Errorf("no operation of the contract: %s", line)
		case f[3] != sentinelVersion:
			t.Errorf("api-version %s: %s", f[3], line)
		case f[2][0] == '2' && !slices.ContainsFunc(o.Status, func(s int) bool { return fmt.Sprint(s) == f[2] }):
			t.Errorf("the fake answers %s, and the contract has %v: %s", f[2], o.Status, line)
		}
	}
}

const sentinelVersion = "2025-09-01"
