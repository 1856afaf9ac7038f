package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/examples"
)

// Options say how the vendors behave.
type Options struct {
	Seed uint64
	// Push says what goes wrong with change notifications; Graph, Jira and Hive with requests.
	Push         azurefake.Push
	Graph        azurefake.Faults
	Jira         jirafake.Faults
	Hive         hivefake.Faults
	JiraIndexLag time.Duration
	GraphReadLag time.Duration
}

// World is the vendors' side: fakes on loopback sockets, and where the host will listen.
type World struct {
	Azure *azurefake.Server
	Jira  *jirafake.Server
	Hive  *hivefake.Server

	HostURL string

	dir                         string
	listen                      string
	azureURL, jiraURL, hiveURL  string
	webURL                      string // of an API that says yes to everything
	jiraToken, hiveKey, project string
	indexLag                    time.Duration
	stop                        []func()
}

// account is whom the host works as in Jira.
const account = "casewire@corp.example"

// New starts the fakes.
func New(dir string, o Options) (w *World, err error) {
	w = &World{dir: dir, project: jirafake.DefaultProject, jiraToken: rand.Text()}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	w.Azure = azurefake.New(azurefake.Options{Seed: o.Seed, Push: o.Push, Entra: azurefake.EntraOptions{DeviceInterval: time.Second}})
	w.Azure.SetFaults(o.Graph)
	w.Azure.SetReadLag(o.GraphReadLag)
	w.Jira = jirafake.New(jirafake.Options{
		Seed: o.Seed, IndexLag: o.JiraIndexLag, Users: []jirafake.User{{Email: account, APIToken: w.jiraToken}},
	})
	w.Jira.SetFaults(o.Jira)
	w.Hive = hivefake.New(hivefake.Options{Seed: o.Seed, Version: "5.7.3"})
	w.Hive.SetFaults(o.Hive)
	w.hiveKey = w.Hive.APIKey()
	w.stop = append(w.stop, w.Azure.Close, w.Jira.Close, w.Hive.Close)
	for _, s := range []struct {
		h   http.Handler
		url *string
	}{{w.Azure, &w.azureURL}, {w.Jira, &w.jiraURL}, {w.Hive, &w.hiveURL}, {http.HandlerFunc(yes), &w.webURL}} {
		url, stop, err := Serve(s.h)
		if err != nil {
			return nil, err
		}
		*s.url = url
		w.stop = append(w.stop, stop)
	}
	if w.listen, err = FreePort(); err != nil {
		return nil, err
	}
	w.HostURL = "http://" + w.listen
	// What the connector takes for the most that Jira's search can lag; the fake keeps well below.
	w.indexLag = 2*o.JiraIndexLag + 2*time.Second
	w.cannedRows()
	return w, nil
}

// yes is an API that takes whatever it is sent.
func yes(rw http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(rw, r.Body, 4<<20)) // what there is of it
	rw.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(rw, `{"ok":true}`)
}

// Close stops the fakes.
func (w *World) Close() {
	for _, v := range slices.Backward(w.stop) {
		v()
	}
	w.stop = nil
}

// Secrets are the values that must show nowhere, by what they are.
func (w *World) Secrets() map[string]string {
	return map[string]string{"the client secret": w.Azure.ClientSecret(), "the Jira token": w.jiraToken, "the TheHive key": w.hiveKey}
}

// Config is what the host is configured with.
type Config struct {
	Push        string
	ClientState string
	Poll        time.Duration
	Flows       map[string]string // by file name
}

// DemoFlows are the flows of examples/flows.
func DemoFlows() map[string]string {
	flows := map[string]string{}
	for _, name := range []string{"alert-to-jira.yaml", "alert-to-thehive.yaml", "sign-ins-from.yaml"} {
		b, err := examples.Files.ReadFile("flows/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		flows[name] = string(b)
	}
	return flows
}

// JiraOnlyFlow makes an issue of each alert and nothing else.
func JiraOnlyFlow() map[string]string {
	return map[string]string{"issue.yaml": `name: issue
on:
  sentinel.alerts: { connection: alerts, group_by: alert }
steps:
  - id: issue
    uses: jira.issue.ensure
    connection: tickets
    with:
      title: "[Sentinel] ${{ alert.title }}"
      description: ${{ alert.description }}
      severity_id: ${{ alert.severity_id }}
      url: ${{ alert.url }}
`}
}

// WriteConfig writes casewire.yaml, the flows, and the secrets as files that only the owner reads.
func (w *World) WriteConfig(c Config) error {
	secrets := map[string]string{
		"entra.secret": w.Azure.ClientSecret(), "jira.secret": w.jiraToken, "hive.secret": w.hiveKey, "state.secret": c.ClientState,
	}
	state := ""
	if c.ClientState != "" {
		state = "\n      client_state: file:state.secret"
	}
	config := fmt.Sprintf(`store: { path: casewire.db }
http: { listen: %q, public_url: %q }
credentials:
  entra:
    tenant_id: %s
    client_id: %s
    client_secret: file:entra.secret
    authority_url: %s
connections:
  alerts:
    connector: sentinel
    credential: entra
    poll: %s
    config:
      graph_url: %s
      graph_scope: https://graph.microsoft.com/.default
      push: %s%s
  logs:
    connector: loganalytics
    credential: entra
    poll: %s
    config:
      base_url: %s
      workspace: %s
  tickets:
    connector: jira
    config:
      base_url: %s
      email: %s
      api_token: file:jira.secret
      project: %s
      issue_type: Task
      index_lag: %s
  cases:
    connector: thehive
    config:
      base_url: %s
      api_key: file:hive.secret
flows: [flows/*.yaml]
`, w.listen, w.HostURL, w.Azure.Tenant(), w.Azure.ClientID(), w.azureURL, c.Poll, w.azureURL, c.Push, state,
		c.Poll, w.azureURL, w.Azure.Workspace(), w.jiraURL, account, w.project, w.indexLag, w.hiveURL)
	files := map[string]string{"casewire.yaml": config}
	for name, text := range c.Flows {
		files[filepath.Join("flows", name)] = text
	}
	maps.Copy(files, secrets)
	if err := os.MkdirAll(filepath.Join(w.dir, "flows"), 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Subscribed waits until the host's subscription stands.
func (w *World) Subscribed(ctx context.Context, d time.Duration) error {
	err := w.Until(ctx, d, func() bool { return len(w.Azure.Subscriptions()) > 0 }, nil)
	if errors.Is(err, ErrLate) {
		return fmt.Errorf("the host made no subscription within %v", d)
	}
	return err
}

// Feed adds alerts with a pause after each; with none it goes as fast as it can.
func (w *World) Feed(ctx context.Context, alerts []Alert, pause time.Duration) error {
	t := time.NewTicker(max(pause, time.Microsecond))
	defer t.Stop()
	for _, a := range alerts {
		if _, err := w.Azure.AddAlert(a.Raw); err != nil {
			return err
		}
		if pause > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.C:
			}
		}
	}
	return ctx.Err()
}

// ErrLate means that something did not come true in time.
var ErrLate = errors.New("not in time")

// Until waits for done, showing progress meanwhile.
func (w *World) Until(ctx context.Context, d time.Duration, done func() bool, show func()) error {
	deadline := time.After(d)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if show != nil {
			show()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("%w: %v are over", ErrLate, d)
		case <-tick.C:
		}
	}
	return nil
}

// Troubled counts the answers that were lost after the commit, and those that were 429.
func Troubled(requests map[string]map[string]uint64) (lost, throttled uint64) {
	for _, outcomes := range requests {
		for outcome, n := range outcomes {
			switch {
			case outcome == "429":
				throttled += n
			case strings.HasSuffix(outcome, "-lost"):
				lost += n
			}
		}
	}
	return lost, throttled
}

// Issues counts the issues in Jira.
func (w *World) Issues() int { return w.Jira.Count() }

// DuplicateIssues counts issues that share the mark of a key with another.
func (w *World) DuplicateIssues() int {
	n := 0
	for _, keys := range w.Jira.Duplicates("cw-") {
		n += len(keys) - 1
	}
	return n
}

// alertID finds the alert that an issue or a case is about by the link to it: not by any mark of ours.
var alertID = regexp.MustCompile(`/alerts/(sn[0-9a-f-]{36})`)

// IssuesByAlert counts the issues of each alert.
func (w *World) IssuesByAlert() map[string]int {
	n := map[string]int{}
	for key := range w.Jira.Ledger().Issues {
		text, err := json.Marshal(w.Jira.Issue(key))
		if err != nil {
			continue // it would show as lost
		}
		if m := alertID.FindSubmatch(text); m != nil {
			n[string(m[1])]++
		}
	}
	return n
}

// CasesByAlert counts the TheHive cases of each alert.
func (w *World) CasesByAlert() map[string]int {
	n := map[string]int{}
	for link, cases := range w.Hive.CasesByLink() {
		if m := alertID.FindStringSubmatch(link); m != nil {
			n[m[1]] += len(cases)
		}
	}
	return n
}

// cannedRows answers the enrichment query with rows for the addresses in it.
func (w *World) cannedRows() {
	w.Azure.SetQuery(func(_, query, _ string) (azurefake.Result, error) {
		var list []string
		if i := strings.Index(query, "["); i >= 0 {
			if j := strings.Index(query[i:], "]"); j > 0 {
				text := strings.ReplaceAll(query[i:i+j+1], `\"`, `"`)
				_ = json.Unmarshal([]byte(text), &list)
			}
		}
		if list == nil && !strings.Contains(query, "SigninLogs") {
			return azurefake.Result{}, azurefake.ErrDefault
		}
		return signIns(list), nil
	})
	w.Azure.SetTable("AWSCloudTrail", logins(), 0)
	w.Azure.SetTable("Heartbeat", beats(), 40)
}

// logins are console logins to an AWS account, for queries by hand.
func logins() azurefake.Table {
	t := azurefake.Table{Columns: []azurefake.Column{
		{Name: "TimeGenerated", Type: "datetime"},
		{Name: "EventName", Type: "string"},
		{Name: "UserIdentityType", Type: "string"},
		{Name: "RecipientAccountId", Type: "string"},
		{Name: "SourceIpAddress", Type: "string"},
		{Name: "AdditionalEventData", Type: "dynamic"},
	}}
	for i, typ := range []string{"Root", "IAMUser", "Root", "Root"} {
		t.Rows = append(t.Rows, []any{
			fmt.Sprintf("2026-11-01T10:0%d:00.1234567Z", i), "ConsoleLogin", typ, "123456789012",
			fmt.Sprintf("203.0.113.%d", i), `{"MFAUsed":"No","LoginTo":"https://console.example/\u001b[31m"}`,
		})
	}
	return t
}

// beats are more rows than an answer of this table holds.
func beats() azurefake.Table {
	t := azurefake.Table{Columns: []azurefake.Column{{Name: "TimeGenerated", Type: "datetime"}, {Name: "Computer", Type: "string"}, {Name: "n", Type: "long"}}}
	for i := range 100 {
		t.Rows = append(t.Rows, []any{time.Date(2026, 11, 1, 0, i, 0, 0, time.UTC).Format(time.RFC3339), "web-1", i})
	}
	return t
}

// signIns makes a few rows for each address.
func signIns(ips []string) azurefake.Result {
	t := azurefake.Table{Name: "PrimaryResult", Columns: []azurefake.Column{
		{Name: "TimeGenerated", Type: "datetime"}, {Name: "UserPrincipalName", Type: "string"}, {Name: "IPAddress", Type: "string"}, {Name: "ResultType", Type: "int"},
	}}
	for i, ip := range ips {
		for j := range 2 {
			t.Rows = append(t.Rows, []any{"2026-11-01T10:00:00.1234567Z", fmt.Sprintf("user%d@corp.example", i), ip, j * 50126})
		}
	}
	return azurefake.Result{Tables: []azurefake.Table{t}}
}
