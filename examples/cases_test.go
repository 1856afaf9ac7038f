package examples_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/host/store"
)

// until waits for something to come true, and polls the sources meanwhile.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for n := 0; !done(); n++ {
		if n%20 == 0 {
			for _, t := range [][2]string{{"alerts", "alerts"}, {"alerts", "incidents"}, {"tickets", "issues"}, {"cases", "cases"}} {
				w.host.PollNow(t[0], t[1])
			}
		}
		select {
		case <-deadline:
			runs, _ := w.st.ListRuns(w.t.Context(), store.RunFilter{Limit: 30})
			for _, r := range runs {
				w.t.Logf("run of %s for %s: %s %s, case %s, merged %s", r.Flow, r.OrderKey, r.State, r.Reason, r.CaseKey, r.MergedKey)
			}
			dead, _ := w.st.ListDeadLetters(w.t.Context(), store.DeadLetterFilter{Limit: 10})
			for _, d := range dead {
				w.t.Logf("dead letter: %s %s", d.Kind, d.Reason)
			}
			w.t.Fatalf("%s did not come true", what)
		case <-tick.C:
		}
	}
}

// still looks at something for a few polls, to see that it stays as it is.
func (w *world) still(what string, is func() bool) {
	w.t.Helper()
	n := 0
	w.until(what, func() bool {
		if !is() {
			w.t.Fatalf("%s: it did not stay so", what)
		}
		n++
		return n > 60 && !w.busy()
	})
}

func (w *world) busy() bool {
	runs, err := w.st.ListRuns(w.t.Context(), store.RunFilter{Limit: 200})
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.ContainsFunc(runs, func(r store.Run) bool { return r.State.Live() })
}

// ended are the runs of a flow that have come to an end.
func (w *world) ended(flow string) []store.Run {
	runs, err := w.st.ListRuns(w.t.Context(), store.RunFilter{Flow: flow, Limit: 200})
	w.must(err)
	return slices.DeleteFunc(runs, func(r store.Run) bool { return r.State.Live() })
}

func (w *world) alert(id, incident string) {
	w.t.Helper()
	now := time.Now().UTC().Format(time.RFC3339Nano)
	raw := fmt.Sprintf(`{"id":%q,"tenantId":%q,"title":"Alert %[1]s","severity":"high","status":"new","alertWebUrl":"https://portal.example/%[1]s",
		"createdDateTime":%[3]q,"lastUpdateDateTime":%[3]q,"evidence":[]}`, id, w.graph.Tenant(), now)
	if incident != "" {
		raw = strings.Replace(raw, `"evidence"`, fmt.Sprintf(`"incidentId":%q,"evidence"`, incident), 1)
	}
	if _, err := w.graph.AddAlert([]byte(raw)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) incident(id, title string) {
	w.t.Helper()
	if _, err := w.graph.AddIncident(fmt.Appendf(nil, `{"id":%q,"displayName":%q,"severity":"medium"}`, id, title)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// issues are the keys of the issues by their title.
func (w *world) issues() map[string]string {
	out := map[string]string{}
	for key := range w.jira.Ledger().Issues {
		title, _ := w.field(key, "summary").(string)
		out[title] = key
	}
	return out
}

func (w *world) field(key, name string) any {
	fields, _ := w.jira.Issue(key)["fields"].(map[string]any)
	b, err := json.Marshal(fields[name])
	w.must(err)
	var v any
	w.must(json.Unmarshal(b, &v))
	return v
}

func (w *world) closed(key string) bool {
	b, err := json.Marshal(w.field(key, "status"))
	w.must(err)
	return strings.Contains(string(b), `"key":"done"`)
}

// quiet forgets the alerts that every world begins with.
func quiet(t *testing.T, flows ...string) *world {
	t.Helper()
	w := newWorld(t, flows...)
	for _, id := range w.graph.AlertIDs() {
		w.must(w.graph.UpdateAlert(id, map[string]any{"createdDateTime": "2020-01-01T00:00:00Z", "lastUpdateDateTime": "2020-01-01T00:00:00Z"}))
	}
	return w
}

// Incidents that Defender merges become one issue: the other is linked to it and closed, and what comes later goes to the
// one that is left.
func TestMergedIncidents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "incident-to-jira.yaml", "alerts-by-incident.yaml", "close-duplicate.yaml")
	w.incident("501", "One")
	w.incident("502", "Two")
	w.alert("sn501", "501")
	w.alert("sn502", "502")
	one, two := "[Sentinel #501] One", "[Sentinel #502] Two"
	w.until("two issues", func() bool { i := w.issues(); return i[one] != "" && i[two] != "" && !w.busy() })
	loser, winner := w.issues()[one], w.issues()[two]
	before := w.jira.Count()
	if _, err := w.graph.MergeIncidents("501", "502"); err != nil {
		t.Fatal(err)
	}
	w.until("the loser is closed", func() bool { return w.closed(loser) && !w.busy() })
	if w.closed(winner) || w.jira.Ledger().Issues[loser].Links == 0 {
		t.Errorf("winner closed %v; loser %+v", w.closed(winner), w.jira.Ledger().Issues[loser])
	}
	comments := w.jira.Ledger().Issues[winner].Comments
	w.alert("sn503", "502")
	w.until("news for the winner", func() bool { return w.jira.Ledger().Issues[winner].Comments > comments && !w.busy() })
	w.still("no further issue", func() bool { return w.jira.Count() == before })
	if w.issues()[two] != winner {
		t.Errorf("the winner's title went: %v", w.issues())
	}
}

// Incidents that Defender merges while the issue of one is being made, with another alert of it waiting for that: the issue
// is closed as a duplicate once it is there, and all alerts are comments on the other.
func TestMergedWhileTheIssueIsMade(t *testing.T) {
	t.Parallel()
	w := quiet(t, "incident-to-jira.yaml", "alerts-by-incident.yaml", "close-duplicate.yaml")
	w.incident("512", "Two")
	two := "[Sentinel #512] Two"
	w.until("the winner's issue", func() bool { return w.issues()[two] != "" && !w.busy() })
	winner := w.issues()[two]

	held, release := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	var holding atomic.Bool
	hold := func(r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/issue") && holding.CompareAndSwap(false, true) {
			close(held)
			<-release
		}
	}
	w.before.Store(&hold)
	w.alert("sn511", "511")
	w.until("its issue is being made", func() bool {
		select {
		case <-held:
			return true
		default:
			return false
		}
	})
	w.alert("sn512", "511")
	w.incident("511", "One")
	if _, err := w.graph.MergeIncidents("511", "512"); err != nil {
		t.Fatal(err)
	}
	w.until("the others wait", func() bool {
		runs, err := w.st.ListRuns(t.Context(), store.RunFilter{Limit: 50})
		w.must(err)
		told := slices.ContainsFunc(runs, func(r store.Run) bool { return r.MergedKey != "" })
		waits := slices.ContainsFunc(runs, func(r store.Run) bool { return r.Flow == "incident-to-jira" && r.State == store.RunWaiting })
		return told && waits
	})
	letGo()
	w.until("all is quiet", func() bool { return !w.busy() })
	issues := w.issues()
	loser := issues["[Sentinel] Alert sn511"]
	if loser == "" || len(issues) != 2 {
		t.Fatalf("issues %v", issues)
	}
	led := w.jira.Ledger().Issues
	if !w.closed(loser) || w.closed(winner) || led[loser].Links == 0 {
		t.Errorf("loser %+v, closed %v; winner closed %v", led[loser], w.closed(loser), w.closed(winner))
	}
	for _, alert := range []string{"Alert sn511", "Alert sn512"} {
		if !strings.Contains(w.comments(winner), alert) {
			t.Errorf("the winner's comments do not tell of %s: %s", alert, w.comments(winner))
		}
	}
}

// The same with TheHive, whose cases close with a verdict; and nothing of it comes back.
func TestIncidentsInTheHive(t *testing.T) {
	t.Parallel()
	w := quiet(t, "incident-to-thehive.yaml", "close-duplicate-case.yaml", "case-closed-to-sentinel.yaml")
	for id, name := range map[string]string{"521": "One", "522": "Two", "523": "Harmless"} {
		w.incident(id, name)
	}
	at := func(id string) (hivefake.CaseLedger, bool) {
		for _, c := range w.hive.Ledger().Cases {
			if strings.Contains(c.Title, "#"+id+"]") {
				return c, true
			}
		}
		return hivefake.CaseLedger{}, false
	}
	status := func(id string) string { c, _ := at(id); return c.Status }
	w.until("three cases", func() bool { return w.hive.Count() == 3 && !w.busy() })
	w.must(w.graph.UpdateIncident("523", map[string]any{"status": "resolved", "classification": "falsePositive", "determination": "other"}))
	_, err := w.graph.MergeIncidents("521", "522")
	w.must(err)
	w.until("the loser and the harmless one are closed", func() bool {
		return status("521") == "Duplicated" && status("523") == "FalsePositive" && !w.busy()
	})
	w.still("the winner goes on", func() bool {
		return status("522") == "New" && w.of(w.graph.Incident("522"))["status"] != "resolved" && w.hive.Count() == 3
	})
	if got := w.of(w.graph.Incident("523")); got["classification"] != "falsePositive" {
		t.Errorf("the verdict of the incident became %v", got)
	}
	loser, _ := at("521")
	if !slices.Contains(loser.Tags, "casewire-duplicate") {
		t.Errorf("tags of the loser: %v", loser.Tags)
	}
}

func (w *world) comments(key string) string {
	return string(w.person(http.MethodGet, "/rest/api/2/issue/"+key+"/comment", ""))
}

// An alert that had an issue before it had an incident takes it along, or has it closed if the incident has one already.
func TestAlertsThatJoinLate(t *testing.T) {
	t.Parallel()
	w := quiet(t, "alerts-by-incident.yaml", "close-duplicate.yaml")
	w.alert("sn601", "")
	w.alert("sn602", "")
	first, second := "[Sentinel] Alert sn601", "[Sentinel] Alert sn602"
	w.until("an issue each", func() bool { i := w.issues(); return i[first] != "" && i[second] != "" && !w.busy() })
	a, b := w.issues()[first], w.issues()[second]
	before := w.jira.Count()
	w.must(w.graph.UpdateAlert("sn601", map[string]any{"incidentId": "601"}))
	w.until("the incident goes by the alert's name", func() bool { return len(w.ended("alerts-by-incident")) == 3 })
	w.alert("sn603", "601")
	w.until("the next alert of the incident is a comment", func() bool { return w.jira.Ledger().Issues[a].Comments == 2 && !w.busy() })
	w.must(w.graph.UpdateAlert("sn602", map[string]any{"incidentId": "601"}))
	w.until("the other alert's issue is closed", func() bool { return w.closed(b) && !w.busy() })
	if led := w.jira.Ledger().Issues; w.closed(a) || led[a].Comments != 3 || led[b].Links == 0 {
		t.Errorf("kept %+v, closed %+v", led[a], led[b])
	}
	w.still("no further issue", func() bool { return w.jira.Count() == before })
}

// A case that people close resolves its alert or incident, with the verdict; nothing comes back in circles.
func TestCaseClosedToSentinel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "case-closed-to-sentinel.yaml", "incident-to-jira.yaml", "close-duplicate.yaml", "alert-to-thehive.yaml", "sign-ins-from.yaml")
	w.graph.SetQuery(func(string, string, string) (azurefake.Result, error) { return azurefake.Result{}, nil })
	w.incident("701", "Whole")
	w.alert("sn701", "701")
	title := "[Sentinel #701] Whole"
	w.until("cases", func() bool { return w.issues()[title] != "" && w.hive.Count() == 2 && !w.busy() })
	key := w.issues()[title]

	w.person(http.MethodPost, "/rest/api/2/issue/"+key+"/transitions", `{"transition":{"id":`+w.transition(key, "done")+`}}`)
	w.until("the incident is resolved", func() bool { return w.of(w.graph.Incident("701"))["status"] == "resolved" && !w.busy() })
	if got := w.of(w.graph.Incident("701")); got["classification"] != "truePositive" || !strings.Contains(fmt.Sprint(got["resolvingComment"]), key) {
		t.Errorf("incident %v", got)
	}

	var number int64
	for n, c := range w.hive.Ledger().Cases {
		if strings.Contains(c.Title, "sn701") {
			number = n
			w.hivePerson(c.ID, `{"status":"FalsePositive","summary":"a drill","impactStatus":"NotApplicable"}`)
		}
	}
	if number == 0 {
		t.Fatalf("no case of the alert: %+v", w.hive.Ledger().Cases)
	}
	w.until("the alert is resolved", func() bool { return w.of(w.graph.Alert("sn701"))["status"] == "resolved" && !w.busy() })
	if got := w.of(w.graph.Alert("sn701")); got["classification"] != "falsePositive" {
		t.Errorf("alert %v", got)
	}
	w.until("the alert is told", func() bool { return len(w.graph.Comments("sn701")) == 1 && !w.busy() })

	patches, issue := w.graph.IncidentLedger("701").Patches, w.jira.Ledger().Issues[key]
	w.still("no circle", func() bool {
		now := w.jira.Ledger().Issues[key]
		return w.graph.IncidentLedger("701").Patches == patches && now.Transitions == issue.Transitions && now.Comments <= issue.Comments+1 &&
			len(w.graph.Comments("sn701")) == 1
	})
	if patches != 1 || issue.Transitions != 1 {
		t.Errorf("%d patches, %d transitions", patches, issue.Transitions)
	}
}

// What Casewire itself closes says nothing back: neither an issue that is closed because its incident was resolved, nor
// one that is closed as a duplicate because its incident was merged into another.
func TestCasesThatCasewireClosesSayNothingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "case-closed-to-sentinel.yaml", "incident-to-jira.yaml", "close-duplicate.yaml")
	w.incident("711", "One")
	w.incident("712", "Two")
	w.incident("713", "Harmless")
	title := func(id, name string) string { return w.issues()["[Sentinel #"+id+"] "+name] }
	w.until("issues", func() bool {
		return title("711", "One") != "" && title("712", "Two") != "" && title("713", "Harmless") != "" && !w.busy()
	})
	loser, winner, third := title("711", "One"), title("712", "Two"), title("713", "Harmless")
	w.must(w.graph.UpdateIncident("713", map[string]any{"status": "resolved", "classification": "falsePositive", "determination": "other"}))
	_, err := w.graph.MergeIncidents("711", "712")
	w.must(err)
	w.until("both are closed", func() bool { return w.closed(loser) && w.closed(third) && !w.busy() })
	patches := w.graph.IncidentLedger("712").Patches + w.graph.IncidentLedger("713").Patches
	w.still("nothing comes back", func() bool {
		return !w.closed(winner) && w.graph.IncidentLedger("712").Patches+w.graph.IncidentLedger("713").Patches == patches
	})
	if got := w.of(w.graph.Incident("713")); got["classification"] != "falsePositive" {
		t.Errorf("the verdict of the incident became %v", got)
	}
	if got := w.of(w.graph.Incident("712")); got["status"] == "resolved" {
		t.Errorf("the incident that goes on was resolved: %v", got)
	}
	// A person who opens the issue again and closes it decides.
	w.person(http.MethodPost, "/rest/api/2/issue/"+winner+"/transitions", `{"transition":{"id":`+w.transition(winner, "done")+`}}`)
	w.until("the incident is resolved", func() bool { return w.of(w.graph.Incident("712"))["status"] == "resolved" && !w.busy() })
}

func (w *world) of(raw json.RawMessage, ok bool) map[string]any {
	w.t.Helper()
	var m map[string]any
	if !ok || json.Unmarshal(raw, &m) != nil {
		w.t.Fatalf("not there: %s", raw)
	}
	return m
}

// person does something in Jira as somebody who is not the connector.
func (w *world) person(method, path, body string) []byte {
	w.t.Helper()
	u := w.jira.User()
	return w.send(w.jira.Transport(), method, "https://corp.atlassian.example"+path, body, func(r *http.Request) { r.SetBasicAuth(u.Email, u.APIToken) })
}

func (w *world) transition(key, category string) string {
	w.t.Helper()
	var list struct {
		Transitions []struct {
			ID string `json:"id"`
			To struct {
				Category struct {
					Key string `json:"key"`
				} `json:"statusCategory"`
			} `json:"to"`
		} `json:"transitions"`
	}
	w.must(json.Unmarshal(w.person(http.MethodGet, "/rest/api/2/issue/"+key+"/transitions", ""), &list))
	for _, t := range list.Transitions {
		if t.To.Category.Key == category {
			return `"` + t.ID + `"`
		}
	}
	w.t.Fatalf("no transition of %s to %s", key, category)
	return ""
}

func (w *world) hivePerson(id, body string) {
	w.t.Helper()
	w.send(w.hive.Transport(), http.MethodPatch, "https://hive.example/api/v1/case/"+id, body, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+w.hive.APIKey())
	})
}

func (w *world) send(via http.RoundTripper, method, url, body string, auth func(*http.Request)) []byte {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, url, bytes.NewBufferString(body))
	w.must(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	auth(req)
	resp, err := via.RoundTrip(req)
	w.must(err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		w.t.Fatalf("%s %s: %d %s %v", method, url, resp.StatusCode, got, err)
	}
	return got
}

// A root login is one case with the addresses that the query found; without the query there is a case all the same.
func TestRootConsoleLogin(t *testing.T) {
	t.Parallel()
	for _, works := range []bool{true, false} {
		t.Run(fmt.Sprintf("the query works %v", works), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "root-console-login.yaml", "kql-rows.yaml")
			w.graph.SetQuery(func(_, query, _ string) (azurefake.Result, error) {
				if !works {
					return azurefake.Result{}, fmt.Errorf("no such table")
				}
				if !strings.Contains(query, "AWSCloudTrail") || !strings.Contains(query, "let acct") {
					t.Errorf("query %s", query)
				}
				return azurefake.Result{Tables: []azurefake.Table{{
					Name: "PrimaryResult",
					Columns: []azurefake.Column{
						{Name: "TimeGenerated", Type: "datetime"}, {Name: "SourceIpAddress", Type: "string"}, {Name: "AdditionalEventData", Type: "string"},
					},
					Rows: [][]any{
						{"2026-11-01T10:00:00Z", "198.51.100.7", `{"MFAUsed":"No"}`},
						{"2026-11-01T11:00:00Z", "198.51.100.7", `{"MFAUsed":"Yes"}`},
						{"2026-11-01T12:00:00Z", nil, nil},
					},
				}}}, nil
			})
			now := time.Now().UTC().Format(time.RFC3339Nano)
			_, err := w.graph.AddAlert(fmt.Appendf(nil, `{"id":"sn801","tenantId":%q,"title":"Root console login","severity":"high","status":"new",
				"alertWebUrl":"https://portal.example/801","createdDateTime":%[2]q,"lastUpdateDateTime":%[2]q,"evidence":[
				{"@odata.type":"#microsoft.graph.security.amazonResourceEvidence","amazonAccountId":"123456789012","amazonResourceId":"arn:aws:iam::123456789012:root","createdDateTime":%[2]q}]}`,
				w.graph.Tenant(), now))
			w.must(err)
			w.until("a case and a link to it", func() bool { return w.hive.Count() == 1 && len(w.graph.Comments("sn801")) == 1 && !w.busy() })
			for _, c := range w.hive.Ledger().Cases {
				if want := map[bool]int{true: 1, false: 0}[works]; c.Observables != want || !slices.Contains(c.Tags, "root-login") {
					t.Errorf("case %+v, want %d observables", c, want)
				}
				said := map[bool]string{true: "Addresses in 24 hours: 1, logins without MFA: 1.", false: "could not be looked up"}[works]
				full := w.send(w.hive.Transport(), http.MethodGet, "https://hive.example/api/v1/case/"+c.ID, "", func(r *http.Request) {
					r.Header.Set("Authorization", "Bearer "+w.hive.APIKey())
				})
				if !strings.Contains(string(full), said) {
					t.Errorf("the case does not say %q: %s", said, full)
				}
			}
		})
	}
}
