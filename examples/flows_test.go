package examples_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/bundle"
	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/examples"
	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/host/webhook"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// connections are the names that the example flows use, by their connectors.
var connections = map[string]string{
	"alerts": "sentinel", "tickets": "jira", "cases": "thehive", "logs": "loganalytics", "inbox": "http", "chat": "http", "intel": "threatintel",
}

// catalog is what the flows are checked against: the bundled connectors themselves.
type catalog map[string]*connectorv1.DescribeResponse

func (c catalog) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	d, ok := c[name]
	return d, ok
}

func (c catalog) Connection(name string) (*connectorv1.DescribeResponse, bool) {
	return c.Connector(connections[name])
}

func (catalog) Connections(connector string) []string {
	var names []string
	for name, of := range connections {
		if connector == "" || connector == of {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func source(t *testing.T, file string) flow.Source {
	t.Helper()
	b, err := examples.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return flow.Source{File: file, Data: b}
}

// TestFlows checks every example as `casewire validate` would; not even a warning is good enough to be an example.
func TestFlows(t *testing.T) {
	t.Parallel()
	c := catalog{}
	for _, name := range bundle.Names() {
		b, _ := bundle.New(name)
		d, err := sdk.Server(b).Describe(t.Context(), &connectorv1.DescribeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		c[name] = d
	}
	files, err := fs.Glob(examples.Files, "flows/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	var sources []flow.Source
	for _, f := range files {
		sources = append(sources, source(t, f))
	}
	flows, found := flow.Load(sources, c)
	for _, d := range found {
		t.Error(d)
	}
	if len(flows) != len(files) {
		t.Errorf("%d flows in %d files", len(flows), len(files))
	}
	// Editors, too, have nothing to say.
	s := editorSchema(t, c)
	for _, src := range sources {
		var v any
		if err := yaml.Unmarshal(src.Data, &v); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s: %v", src.File, err)
		}
	}
}

func editorSchema(t *testing.T, c catalog) *jsonschema.Schema {
	t.Helper()
	var all []*connectorv1.DescribeResponse
	for _, name := range bundle.Names() {
		all = append(all, c[name])
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(flow.Schema(all)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("flow.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := compiler.Compile("flow.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chat is a service that honours idempotency keys, and whose first answer gets lost.
type chat struct {
	mu       sync.Mutex
	requests int
	messages map[string]string // by key
}

func (c *chat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	key := r.Header.Get("Idempotency-Key")
	if r.Method != http.MethodPost || r.URL.Path != "/v1/messages" || key == "" || r.Header.Get("Authorization") != "Bearer chat-token" {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	if c.messages[key] == "" {
		c.messages[key] = string(body)
	}
	if c.requests == 1 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusCreated)
}

// world is a host with bundled connectors in memory, and the vendors' side.
type world struct {
	t     *testing.T
	st    store.Store
	host  *host.Host
	graph *azurefake.Server
	hive  *hivefake.Server
	jira  *jirafake.Server
	chat  *chat
	url   string // of the host
	// before is called before Jira gets a request; nil: nothing is.
	before atomic.Pointer[func(*http.Request)]
}

const hookSecret = "an-inbox-secret-0123456789"

func newWorld(t *testing.T, flows ...string) *world {
	t.Helper()
	w := &world{t: t, chat: &chat{messages: map[string]string{}}}
	graph := azurefake.New(azurefake.Options{Seed: 1})
	t.Cleanup(graph.Close)
	w.jira = jirafake.New(jirafake.Options{Seed: 1, Users: []jirafake.User{{Email: "casewire@corp.example", APIToken: "jira-token-0123456789"}}})
	t.Cleanup(w.jira.Close)
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	w.graph = graph
	w.hive = hivefake.New(hivefake.Options{Seed: 1, Version: "5.7.3"})
	t.Cleanup(w.hive.Close)
	tickets := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if f := w.before.Load(); f != nil {
			(*f)(r)
		}
		w.jira.ServeHTTP(rw, r)
	})
	graphURL, jiraURL, chatURL, hiveURL := serve(graph), serve(tickets), serve(w.chat), serve(w.hive)
	for i, severity := range []string{"high", "low"} {
		_, err := graph.AddAlert(fmt.Appendf(nil, `{"id":"sn%d","tenantId":%q,"title":"Alert %d","severity":%q,"status":"new","providerAlertId":"p%d",
			"alertWebUrl":"https://portal.example/%d","createdDateTime":%q,"lastUpdateDateTime":%[7]q,"evidence":[]}`,
			i, graph.Tenant(), i, severity, i, i, time.Now().UTC().Add(-time.Minute).Format(time.RFC3339)))
		if err != nil {
			t.Fatal(err)
		}
	}
	config := func(name, connector string, v map[string]any) host.Connection {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return host.Connection{Name: name, Connector: connector, Config: b}
	}
	o := host.Options{RunDir: filepath.Join(t.TempDir(), "r"), Connectors: map[string]host.Connector{}, Connections: []host.Connection{
		config("alerts", "sentinel", map[string]any{"push": "off", "graph_url": graphURL, "graph_scope": "https://graph.microsoft.com/.default", "credential": map[string]any{
			"tenant_id": graph.Tenant(), "client_id": graph.ClientID(), "client_secret": graph.ClientSecret(), "authority_url": graphURL,
		}}),
		config("tickets", "jira", map[string]any{
			"base_url": jiraURL, "email": "casewire@corp.example", "api_token": "jira-token-0123456789", "project": jirafake.DefaultProject, "issue_type": "Task",
		}),
		config("cases", "thehive", map[string]any{"base_url": hiveURL, "api_key": w.hive.APIKey()}),
		config("intel", "threatintel", map[string]any{
			"workspace_id": graph.Workspace(), "upload_url": graphURL, "scope": "https://management.azure.com/.default", "credential": map[string]any{
				"tenant_id": graph.Tenant(), "client_id": graph.ClientID(), "client_secret": graph.ClientSecret(), "authority_url": graphURL,
			},
		}),
		config("logs", "loganalytics", map[string]any{"base_url": graphURL, "workspace": graph.Workspace(), "credential": map[string]any{
			"tenant_id": graph.Tenant(), "client_id": graph.ClientID(), "client_secret": graph.ClientSecret(), "authority_url": graphURL,
		}}),
		config("inbox", "http", map[string]any{"webhook": map[string]any{
			"hmac": map[string]any{"secret": hookSecret, "header": "X-Signature", "prefix": "sha256="},
			"id":   "header:X-Delivery", "key": "/incident/id", "time": "/incident/updated",
		}}),
		config("chat", "http", map[string]any{"base_url": chatURL + "/v1", "auth": map[string]any{"bearer": "chat-token"}, "idempotent_keys": true}),
	}}
	for _, name := range bundle.Names() {
		c, _ := bundle.New(name)
		o.Connectors[name] = host.MemoryConnector(sdk.Server(c))
	}
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.st, o.Store = st, st
	h, err := host.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.host = h
	var sources []flow.Source
	for _, f := range flows {
		sources = append(sources, source(t, "flows/"+f))
	}
	compiled, found := flow.Load(sources, h)
	if found.HasErrors() {
		t.Fatal(found)
	}
	if err := h.SetFlows(t.Context(), compiled); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	w.url = serve(webhook.Handler(h, webhook.Options{}))
	return w
}

// post delivers a body as its sender would.
func (w *world) post(delivery, body, secret string) int {
	w.t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/hooks/inbox/webhook", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Delivery", delivery)
	req.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// runs waits until n runs have ended, and returns them.
func (w *world) runs(n int) []store.Run {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		runs, err := w.st.ListRuns(w.t.Context(), store.RunFilter{Limit: 100})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(runs) == n && !slices.ContainsFunc(runs, func(r store.Run) bool { return r.State.Live() }) {
			return runs
		}
		select {
		case <-deadline:
			w.t.Fatalf("want %d runs at their end, got %+v", n, runs)
		case <-tick.C:
		}
	}
}

// What is posted becomes one issue for each incident, however often and in whatever order it is posted.
func TestWebhookToJira(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "webhook-to-jira.yaml")
	first := `{"incident":{"id":"INC-7","title":"Disk full","text":"On db1.","updated":"2026-05-06T07:08:09Z"}}`
	worse := `{"incident":{"id":"INC-7","title":"Disk full, worse","text":"On db1 and db2.","updated":"2026-05-06T07:18:09Z"}}`
	for range 3 {
		if got := w.post("d1", first, hookSecret); got != http.StatusAccepted {
			t.Fatalf("the first delivery: %d", got)
		}
	}
	if got := w.post("d2", first, "a guess"); got != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", got)
	}
	w.runs(1)
	for _, d := range [][2]string{{"d3", worse}, {"d1", first}, {"d3", worse}} {
		if got := w.post(d[0], d[1], hookSecret); got != http.StatusAccepted {
			t.Errorf("%s: %d", d[0], got)
		}
	}
	w.post("d4", `{"ping":true}`, hookSecret) // of no incident: the flow does not answer it
	w.post("d5", `{"incident":{"id":8,"title":null,"updated":1778051290}}`, hookSecret)
	for _, r := range w.runs(3) {
		if r.State != store.RunSucceeded {
			t.Errorf("run %s is %s: %s", r.ID, r.State, r.Reason)
		}
	}
	led := w.jira.Ledger()
	if led.Creates != 2 || len(led.Issues) != 2 || led.Updates != 1 {
		t.Errorf("ledger %+v", led)
	}
	if d := w.jira.Duplicates("cw-"); len(d) != 0 {
		t.Errorf("doubled: %v", d)
	}
	if issue, err := json.Marshal(w.jira.Issue("SOC-1")); err != nil || !strings.Contains(string(issue), "[Inbox] Disk full, worse") {
		t.Errorf("the issue is %s, %v", issue, err)
	}
}

// A request whose answer gets lost is sent again with the same key, and done once.
func TestNotifyHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "notify-http.yaml")
	if r := w.runs(1)[0]; r.State != store.RunSucceeded || string(r.Output) != `{"status":201}` {
		t.Errorf("run is %s: %s, output %s", r.State, r.Reason, r.Output)
	}
	w.chat.mu.Lock()
	defer w.chat.mu.Unlock()
	if len(w.chat.messages) != 1 || w.chat.requests != 2 {
		t.Errorf("%d requests, messages %v", w.chat.requests, w.chat.messages)
	}
	for _, m := range w.chat.messages {
		if !strings.Contains(m, `"text":"High: Alert 0"`) || !strings.Contains(m, `"url":"https://portal.example/0"`) {
			t.Errorf("message %s", m)
		}
	}
}
