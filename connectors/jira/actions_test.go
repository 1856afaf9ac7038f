package jira

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

type jsonRaw = json.RawMessage

// richProject has a field of every type, of which Team and Environment class are required.
func richProject() []jirafake.Project {
	return []jirafake.Project{{
		ID: "10000", Key: "SOC", Name: "Security", IssueTypes: []jirafake.IssueType{{ID: "10001", Name: "Task"}, {ID: "10002", Name: "Incident", Fields: richFields()}},
	}}
}

func richFields() []jirafake.Field {
	return []jirafake.Field{
		{ID: "customfield_10001", Name: "Team", Type: "option", Options: []string{"Blue", "Red"}, Required: true},
		{ID: "customfield_10002", Name: "Sources", Type: "options", Options: []string{"Defender", "Sentinel", "Entra"}},
		{ID: "customfield_10003", Name: "Area", Type: "cascading", Options: []string{"Cloud", "On-prem"}, Children: map[string][]string{"Cloud": {"AWS", "Azure"}}},
		{ID: "customfield_10004", Name: "Analyst", Type: "user"},
		{ID: "customfield_10005", Name: "Detected", Type: "datetime"},
		{ID: "customfield_10006", Name: "Due", Type: "date"},
		{ID: "customfield_10007", Name: "Score", Type: "number"},
		{ID: "customfield_10008", Name: "Rule", Type: "string"},
		{ID: "customfield_10009", Name: "Notes", Type: "textarea"},
		{ID: "customfield_10010", Name: "Tags", Type: "labels"},
		{ID: "customfield_10011", Name: "Portal", Type: "url"},
	}
}

func TestFieldsByNameAreConvertedByTheirType(t *testing.T) {
	t.Parallel()
	for name, dc := range map[string]bool{"cloud": false, "data center": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, h := fakeJira(t, jirafake.Options{DataCenter: dc, Projects: richProject()}, func(c *Config) { c.IssueType = "Incident" })
			got := must[Ensured](t, h, ensure(with("fields", map[string]any{
				"team": "red", "Sources": []string{"Defender", "entra"}, "Area": "Cloud / AWS", "Analyst": fake.User().Email,
				"Detected": "2026-11-23T10:00:00Z", "Due": "2026-12-01T08:00:00Z", "Score": "7.5", "customfield_10008": "rule\nname",
				"Notes": "**bold** {code}", "Tags": []string{"a b", ""}, "Portal": "https://portal.example/x",
			})))
			fields := fake.Issue(got.Key)["fields"].(map[string]any)
			user := map[string]any{"accountId": fake.User().AccountID}
			if dc {
				user = map[string]any{"name": fake.User().Name}
			}
			for id, want := range map[string]any{
				"customfield_10001": map[string]any{"id": "o1", "value": "Red"},
				"customfield_10002": []any{map[string]any{"id": "o0", "value": "Defender"}, map[string]any{"id": "o2", "value": "Entra"}},
				"customfield_10003": map[string]any{"id": "o0", "child": map[string]any{"id": "o0"}},
				"customfield_10004": user, "customfield_10005": "2026-11-23T10:00:00.000+0000", "customfield_10006": "2026-12-01",
				"customfield_10007": 7.5, "customfield_10008": "rule name", "customfield_10009": `*bold* \{code\}`,
				"customfield_10010": []any{"a-b"}, "customfield_10011": "https://portal.example/x",
			} {
				if diff := cmp.Diff(want, plainJSON(t, fields[id])); diff != "" {
					t.Errorf("%s:\n%s", id, diff)
				}
			}
			// The metadata is kept: a second case costs a search and a create.
			before := requests(fake)
			c := ensure(with("fields", map[string]any{"Team": "Blue"}))
			c.Key = "another"
			must[Ensured](t, h, c)
			if n := requests(fake) - before; n > 2 {
				t.Errorf("the second case cost %d requests", n)
			}
		})
	}
}

func plainJSON(t *testing.T, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEverythingWrongWithFieldsIsToldAtOnce(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{Projects: richProject()}, func(c *Config) { c.IssueType = "Incident" })
	_, err := do[Ensured](t, h, ensure(with("fields", map[string]any{
		"Sources": []string{"Defender", "Splunk"}, "Area": "Cloud / GCP", "Analyst": "nobody@example.com", "Detected": "yesterday",
		"Score": "many", "Portal": "javascript:alert(1)", "Colour": "red", "Due": []string{"2026-01-01"}, "customfield_10008": "fine",
	})))
	e := asError(t, err)
	if e.Class() != plugin.ClassInvalid || fake.Ledger().Creates != 0 {
		t.Fatalf("%v of class %s", e, e.Class())
	}
	for field, says := range map[string]string{
		"/fields/Sources": "allows Defender, Sentinel, Entra", "/fields/Area": `below "Cloud"; it allows AWS, Azure`, "/fields/Analyst": "finds no user",
		"/fields/Detected": "takes a datetime", "/fields/Score": "takes a number", "/fields/Portal": "takes a web address",
		"/fields/Colour": "is not on the create screen of SOC Incident", "/fields/Due": "takes one value", "/fields/customfield_10001": "Team (customfield_10001) is required; it allows Blue, Red",
	} {
		if !said(e, field, says) {
			t.Errorf("%s: nothing about %q in %+v", field, says, e.Violations)
		}
	}
	if len(e.Violations) != 9 {
		t.Errorf("%d violations: %+v", len(e.Violations), e.Violations)
	}
}

func said(e *plugin.Error, field, says string) bool {
	for _, v := range e.Violations {
		if v.Field == field && strings.Contains(v.Description, says) {
			return true
		}
	}
	return false
}

func TestARefusedCreateTeaches(t *testing.T) {
	t.Parallel()
	_, h := fakeJira(t, jirafake.Options{Projects: richProject()}, func(c *Config) { c.IssueType = "Incident" })
	_, err := do[Ensured](t, h, ensure(with("fields", map[string]any{"customfield_10002": []any{map[string]any{"value": "Splunk"}}, "customfield_99": 1})))
	e := asError(t, err)
	for field, says := range map[string]string{
		"/fields/customfield_10001": "allows Blue, Red", "/fields/customfield_10002": "allows Defender", "/fields/customfield_99": "not on the create screen",
	} {
		if !said(e, field, says) {
			t.Errorf("%s: nothing about %q in %+v", field, says, e.Violations)
		}
	}
	_, err = do[Ensured](t, h, ensure(with("issue_type", "Alarm")))
	if e := asError(t, err); !said(e, "/issue_type", "it has Task, Incident") {
		t.Errorf("type: %+v", e.Violations)
	}
}

func TestUpdateWritesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{Projects: richProject()}, func(c *Config) { c.IssueType = "Incident" })
	must[Ensured](t, h, ensure(with("fields", map[string]any{"Team": "Blue"})))
	input := map[string]any{
		"issue": "SOC-1", "title": "New title", "description": "*x*", "severity_id": 5, "assignee": fake.User().Email,
		"add_labels": []string{"seen", "casewire"}, "remove_labels": []string{"AWS-cloud", "absent"},
		"fields": map[string]any{"Team": "Red", "Sources": []string{"Entra"}, "Detected": "2026-11-23T12:00:00+02:00"},
	}
	call := sdktest.Call{Action: "issue.update", Input: input, DryRun: true}
	want := []string{"assignee", "customfield_10001", "customfield_10002", "customfield_10005", "description", "priority", "summary", "labels"}
	if dry := must[Updated](t, h, call); !dry.Updated || !cmp.Equal(dry.Changed, want) || fake.Ledger().Updates != 0 {
		t.Errorf("dry run: %+v", dry)
	}
	call.DryRun = false
	fake.FailNext(jirafake.RouteEdit, jirafake.Conflict, 1)
	if got := must[Updated](t, h, call); !got.Updated || !cmp.Equal(got.Changed, want) || got.Closed {
		t.Errorf("got %+v", got)
	}
	if again := must[Updated](t, h, call); again.Updated || len(again.Changed) != 0 || fake.Ledger().Updates != 1 {
		t.Errorf("again: %+v, %d updates", again, fake.Ledger().Updates)
	}
	cleared := must[Updated](t, h, sdktest.Call{Action: "issue.update", Input: map[string]any{
		"issue": "SOC-1", "assignee": "", "description": "", "fields": map[string]any{"Sources": nil},
	}})
	if !cmp.Equal(cleared.Changed, []string{"assignee", "customfield_10002", "description"}) {
		t.Errorf("cleared: %+v", cleared)
	}
	for field, in := range map[string]map[string]any{
		"/fields/Team":     {"issue": "SOC-1", "fields": map[string]any{"Team": "Green"}},
		"/fields/summary":  {"issue": "SOC-1", "fields": map[string]any{"summary": "x"}},
		"/assignee":        {"issue": "SOC-1", "assignee": "nobody@example.com"},
		"/title":           {"issue": "SOC-1", "title": " \n"},
		"/fields/Nonsense": {"issue": "SOC-1", "fields": map[string]any{"Nonsense": 1}},
	} {
		_, err := do[Updated](t, h, sdktest.Call{Action: "issue.update", Input: in})
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || !said(e, field, "") {
			t.Errorf("%s: %v", field, e)
		}
	}
}

func TestTransitionByNameOrMeaning(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{
		Statuses: []jirafake.Status{{ID: "1", Name: "Offen", Category: "new"}, {ID: "2", Name: "In Arbeit", Category: "indeterminate"}, {ID: "3", Name: "Erledigt", Category: "done"}},
		Transitions: []jirafake.Transition{
			{ID: "11", Name: "Start", To: "In Arbeit"},
			{ID: "12", Name: "Zurück", To: "Offen"},
			{ID: "13", Name: "Fertig", To: "Erledigt", RequiresResolution: true, Fields: []jirafake.Field{
				{ID: "customfield_1", Name: "Root cause", Type: "option", Options: []string{"Phishing", "Malware"}, Required: true},
			}},
		},
	})
	must[Ensured](t, h, ensure())
	do1 := func(in map[string]any) (Transitioned, error) {
		in["issue"] = "SOC-1"
		return do[Transitioned](t, h, sdktest.Call{Action: "issue.transition", Input: in})
	}
	if got, err := do1(map[string]any{"to": "indeterminate"}); err != nil || !got.Moved || got.Status != "In Arbeit" || got.By != "Start" || got.Closed {
		t.Errorf("by category: %+v, %v", got, err)
	}
	if got, err := do1(map[string]any{"to": "in arbeit"}); err != nil || got.Moved {
		t.Errorf("there already: %+v, %v", got, err)
	}
	_, err := do1(map[string]any{"to": "done"})
	e := asError(t, err)
	if e.Class() != plugin.ClassInvalid || !said(e, "/fields/customfield_1", "Root cause (customfield_1); it allows Phishing, Malware") || !said(e, "/resolution", "it allows Done, Won't Do") {
		t.Errorf("what it needs: %v", e)
	}
	_, err = do1(map[string]any{"to": "done", "resolution": "Nope", "fields": map[string]any{"Root cause": "Bad luck"}})
	if e := asError(t, err); !said(e, "/resolution", "Duplicate") || !said(e, "/fields/Root cause", "Malware") {
		t.Errorf("bad values: %v", e)
	}
	fake.FailNext(jirafake.RouteTransition, jirafake.Conflict, 2)
	got, err := do1(map[string]any{"to": "Fertig", "resolution": "false positive", "fields": map[string]any{"Root cause": "phishing"}, "comment": "**closed**"})
	if err != nil || !got.Moved || !got.Closed || got.Category != "done" {
		t.Errorf("closed: %+v, %v", got, err)
	}
	if is := must[Issue](t, h, sdktest.Call{Action: "issue.get", Input: map[string]any{"issue": "SOC-1"}}); is.Resolution != "False Positive" {
		t.Errorf("resolution %q", is.Resolution)
	}
	_, err = do1(map[string]any{"to": "Archived"})
	if e := asError(t, err); !said(e, "/to", `"Start" to "In Arbeit" (indeterminate)`) {
		t.Errorf("no way: %v", e)
	}
	if got, err := do1(map[string]any{"to": "new", "resolution": "Done"}); err != nil || !got.Moved {
		t.Errorf("a resolution that the screen does not have: %+v, %v", got, err)
	}
	if is := fake.Ledger().Issues["SOC-1"]; is.Transitions != 3 || is.Comments != 1 {
		t.Errorf("ledger: %+v", is)
	}
}

func TestLostTransitionIsNotRepeated(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{})
	must[Ensured](t, h, ensure())
	c := sdktest.Call{Action: "issue.transition", Input: map[string]any{"issue": "SOC-1", "to": "done", "comment": "once"}}
	fake.FailNext(jirafake.RouteTransition, jirafake.LostAnswer, 1)
	if _, err := do[Transitioned](t, h, c); asError(t, err).Class() != plugin.ClassUnavailable {
		t.Fatalf("lost: %v", err)
	}
	if got := must[Transitioned](t, h, c); got.Moved || !got.Closed || fake.Ledger().Issues["SOC-1"].Comments != 1 {
		t.Errorf("again: %+v", got)
	}
}

func file(name, text string) map[string]any {
	return map[string]any{"name": name, "data": []byte(text)}
}

func TestFilesAreAttachedOnce(t *testing.T) {
	t.Parallel()
	for name, dc := range map[string]bool{"cloud": false, "data center": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, h := fakeJira(t, jirafake.Options{DataCenter: dc, UploadLimit: 1000})
			must[Ensured](t, h, ensure())
			call := func(files ...map[string]any) sdktest.Call {
				return sdktest.Call{Action: "issue.attach", Input: map[string]any{"issue": "SOC-1", "files": files}}
			}
			// Uploaded, but the answer is lost: the next attempt reads what is there and finds its own.
			fake.FailNext(jirafake.RouteAttach, jirafake.LostAnswer, 1)
			if _, err := do[Attached](t, h, call(file("a.txt", "one"))); asError(t, err).Class() != plugin.ClassUnavailable {
				t.Fatalf("lost: %v", err)
			}
			if got := must[Attached](t, h, call(file("a.txt", "one"))); got.Files[0].Created || got.Files[0].ID == "" {
				t.Errorf("found again: %+v", got)
			}
			reads := fake.Ledger().Requests[jirafake.RouteContent]["200"]
			got := must[Attached](t, h, call(file("a.txt", "one"), file(`../b"\r\n.txt`, "two"), file("a.txt", "uno"), file("a.txt", "uno")))
			if got.Files[0].Created || !got.Files[1].Created || !got.Files[2].Created || got.Files[1].Name != "_b__r_n.txt" || got.Files[3].ID != got.Files[2].ID {
				t.Errorf("got %+v", got)
			}
			if again := must[Attached](t, h, call(file("a.txt", "uno"))); again.Files[0].Created || again.Files[0].ID != got.Files[2].ID {
				t.Errorf("again: %+v", again)
			}
			if n := len(fake.Ledger().Issues["SOC-1"].Attachments); n != 3 {
				t.Errorf("%d attachments", n)
			}
			if n := fake.Ledger().Requests[jirafake.RouteContent]["200"]; n > reads+1 {
				t.Errorf("contents were read %d times although the property knows them", n-reads)
			}
			_, err := do[Attached](t, h, call(file("big", strings.Repeat("x", 1001))))
			if e := asError(t, err); !said(e, "/files/0", "this Jira takes 1000") {
				t.Errorf("too big: %v", e)
			}
			if _, err := do[Attached](t, h, call(file(" ", "x"))); asError(t, err).Class() != plugin.ClassInvalid {
				t.Errorf("no name: %v", err)
			}
		})
	}
}

// TestAttachmentsLeadNowhere proves that reading an attachment takes the credential nowhere: not with the flag that
// keeps Cloud from redirecting, and not when it redirects all the same.
func TestAttachmentsLeadNowhere(t *testing.T) {
	t.Parallel()
	leaked := make(chan string, 1)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case leaked <- r.Header.Get("Authorization"):
		default:
		}
	}))
	t.Cleanup(thief.Close)
	elsewhere := strings.Replace(thief.URL, "127.0.0.1", "localhost", 1)
	s := script(t, map[string]http.HandlerFunc{
		routeRead: answer(200, `{"id":"10024","key":"SOC-24","fields":{"attachment":[{"id":"7","filename":"a.txt","size":3}]}}`),
		"GET /rest/api/2/attachment/content/7": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("redirect") != "false" {
				t.Error("Cloud is not asked to answer itself")
			}
			http.Redirect(w, r, elsewhere+"/file", http.StatusSeeOther)
		},
	})
	_, err := do[Attached](t, s.open(), sdktest.Call{Action: "issue.attach", Input: map[string]any{"issue": "10024", "files": []any{file("a.txt", "one")}}})
	if err == nil {
		t.Error("what came from elsewhere was taken for the attachment")
	}
	select {
	case auth := <-leaked:
		if auth != "" {
			t.Errorf("the credential went to another host: %q", auth)
		}
	default:
	}
}

func TestLinksAreMadeOnce(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{})
	for _, key := range []string{"a", "b"} {
		c := ensure()
		c.Key = key
		must[Ensured](t, h, c)
	}
	link := func(from, to, kind string) (Linked, error) {
		return do[Linked](t, h, sdktest.Call{Action: "issue.link", Input: map[string]any{"issue": from, "to": to, "type": kind}})
	}
	fake.FailNext(jirafake.RouteLink, jirafake.LostAnswer, 1)
	if _, err := link("SOC-1", "SOC-2", "Duplicate"); asError(t, err).Class() != plugin.ClassUnavailable {
		t.Fatalf("lost: %v", err)
	}
	for _, tt := range []struct {
		from, to, kind string
		made           bool
	}{
		{"SOC-1", "SOC-2", "Duplicate", false},
		{"10000", "10001", "duplicate", false},
		{"SOC-2", "SOC-1", "Duplicate", true},
		{"SOC-1", "SOC-2", "Relates", true},
		{"SOC-2", "SOC-1", "Relates", false},
	} {
		if got, err := link(tt.from, tt.to, tt.kind); err != nil || got.Created != tt.made {
			t.Errorf("%+v: %+v, %v", tt, got, err)
		}
	}
	if _, err := link("SOC-1", "10000", "Relates"); asError(t, err).Class() != plugin.ClassInvalid {
		t.Errorf("to itself: %v", err)
	}
	if _, err := link("SOC-1", "SOC-99", "Relates"); asError(t, err).Class() != plugin.ClassNotFound {
		t.Errorf("to nothing: %v", err)
	}
	remote := func(title string) RemoteLinked {
		return must[RemoteLinked](t, h, sdktest.Call{Action: "issue.remote_link", Input: map[string]any{"issue": "SOC-1", "url": "https://portal.example/i/1", "title": title}})
	}
	if a, b := remote("one"), remote("two"); a.ID != b.ID || a.GlobalID != b.GlobalID || fake.Ledger().Issues["SOC-1"].RemoteLinks != 1 {
		t.Errorf("remote links: %+v, %+v", a, b)
	}
	if _, err := do[RemoteLinked](t, h, sdktest.Call{Action: "issue.remote_link", Input: map[string]any{"issue": "SOC-1", "url": "javascript:x", "title": "t"}}); !said(asError(t, err), "/url", "no web address") {
		t.Errorf("hostile address: %v", err)
	}
}
