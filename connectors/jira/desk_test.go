package jira

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

// deskJira is a fake whose project is a service desk, and a connection that raises requests there.
func deskJira(t *testing.T, o jirafake.Options) (*jirafake.Server, *sdktest.Harness) {
	t.Helper()
	other := func(n string) jirafake.Project {
		return jirafake.Project{ID: "2" + n, Key: "DESK" + n, Desk: n, IssueTypes: []jirafake.IssueType{{ID: "1", Name: "Task"}}}
	}
	o.Projects = []jirafake.Project{other("7"), other("8"), {
		ID: "10000", Key: "SOC", Name: "Security", Desk: "9",
		IssueTypes:   []jirafake.IssueType{{ID: "10001", Name: "Incident", Fields: richFields()[:3]}},
		RequestTypes: []jirafake.RequestType{{ID: "24", Name: "Question", IssueType: "10001"}, {ID: "23", Name: "Problem", IssueType: "10001"}, {ID: "25", Name: "Security incident", IssueType: "10001"}},
	}}
	return fakeJira(t, o, func(c *Config) { c.RequestType, c.IssueType = "security incident", "Incident" })
}

func raised(change ...func(*sdktest.Call)) sdktest.Call {
	return ensure(append([]func(*sdktest.Call){with("fields", map[string]any{"Team": "Red", "Area": "Cloud/Azure"}), with("origin", "alert:da1")}, change...)...)
}

func TestACaseBecomesARequest(t *testing.T) {
	t.Parallel()
	fake, h := deskJira(t, jirafake.Options{})
	got := must[Ensured](t, h, raised())
	fields := fake.Issue(got.Key)["fields"].(map[string]any)
	if !got.Created || len(got.Warnings) > 0 || !strings.HasSuffix(fmt.Sprint(plainJSON(t, fields["description"])), wikiMark(caseRef(caseKey))) ||
		!contains(fake.Ledger().Issues[got.Key].Labels, label()) {
		t.Fatalf("got %+v, fields %v", got, fields)
	}
	if is := must[Issue](t, h, sdktest.Call{Action: "issue.get", Input: map[string]any{"issue": got.Key}}); is.Priority != "High" || is.CaseKey != caseKey {
		t.Errorf("issue %+v", is)
	}
	// Known: nothing to do. Found by another host: nothing to do either.
	for _, prior := range []any{got, nil} {
		c := raised()
		c.Prior = prior
		if again := must[Ensured](t, h, c); again.ID != got.ID || again.Updated || again.Created {
			t.Errorf("again: %+v", again)
		}
	}
	if _, err := do[Ensured](t, h, ensure(func(c *sdktest.Call) { c.Key = "other" })); !said(asError(t, err), "/fields/customfield_10001", "Team (customfield_10001) is required; it allows Blue, Red") {
		t.Errorf("a required field: %v", err)
	}
	for _, internal := range []bool{true, false} {
		c := comments(with("issue", got.Key), with("internal", internal))
		c.Key = fmt.Sprint("comment ", internal)
		if cm := must[Commented](t, h, c); !cm.Created {
			t.Errorf("comment: %+v", cm)
		}
	}
	page, _ := plainJSON(t, fake.Issue(got.Key)["fields"].(map[string]any)["comment"]).(map[string]any)
	list, _ := page["comments"].([]any)
	if len(list) != 2 || list[0].(map[string]any)["jsdPublic"] != false || list[1].(map[string]any)["jsdPublic"] != true {
		t.Errorf("comments: %v", list)
	}
	if _, err := do[Commented](t, h, comments(with("issue", got.Key), with("internal", true), with("role", "Admins"))); asError(t, err).Class() != plugin.ClassInvalid {
		t.Errorf("internal and role: %v", err)
	}
}

// TestALostRequestIsFoundByItsText: label and property are not written with a request, the text is.
func TestALostRequestIsFoundByItsText(t *testing.T) {
	t.Parallel()
	for _, fault := range []jirafake.Fault{jirafake.LostAnswer, jirafake.ErrorAfter, jirafake.CutBody, jirafake.BadJSON} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			at := &clock{at: time.Now()}
			fake, h := deskJira(t, jirafake.Options{Now: at.now, IndexLag: 30 * time.Second})
			fake.FailNext(jirafake.RouteRequest, fault, 1)
			if _, err := do[Ensured](t, h, raised()); asError(t, err).Class() != plugin.ClassUncertain {
				t.Fatalf("lost: %v", err)
			}
			if _, err := do[Ensured](t, h, raised(func(c *sdktest.Call) { c.Resolve = true })); asError(t, err).Reason != plugin.ReasonUnresolved {
				t.Fatalf("while the index lags: %v", err)
			}
			at.add(31 * time.Second)
			found := must[Ensured](t, h, raised(func(c *sdktest.Call) { c.Resolve = true }))
			if !found.Created || found.Key != "SOC-1" {
				t.Fatalf("found: %+v", found)
			}
			// The next call completes what the lost one could not write.
			c := raised(with("title", "News"))
			c.Prior = found
			must[Ensured](t, h, c)
			if is := fake.Ledger().Issues["SOC-1"]; !contains(is.Labels, label()) || !contains(is.Labels, "casewire") || fake.Ledger().Creates != 1 {
				t.Errorf("ledger: %+v", is)
			}
		})
	}
}

func TestARequestThatCannotBeMarkedIsCompletedLater(t *testing.T) {
	t.Parallel()
	fake, h := deskJira(t, jirafake.Options{})
	fake.FailNext(jirafake.RouteEdit, jirafake.ServerError, 1)
	got := must[Ensured](t, h, raised())
	if !got.Created || len(got.Warnings) != 1 || len(fake.Ledger().Issues["SOC-1"].Labels) != 0 {
		t.Fatalf("got %+v", got)
	}
	c := raised()
	c.Prior = got
	if again := must[Ensured](t, h, c); !again.Updated || len(again.Warnings) != 0 || !contains(fake.Ledger().Issues["SOC-1"].Labels, label()) || fake.Ledger().Creates != 1 {
		t.Errorf("again: %+v, %+v", again, fake.Ledger().Issues["SOC-1"])
	}
}

// TestAMarkInTheTextOfAnAlertAdoptsNothing: what an alert says stands before our own mark.
func TestAMarkInTheTextOfAnAlertAdoptsNothing(t *testing.T) {
	t.Parallel()
	fake, h := deskJira(t, jirafake.Options{})
	hostile := raised(with("description", "see [cw-"+caseRef("victim")+"]"))
	hostile.Key = "attacker"
	a := must[Ensured](t, h, hostile)
	victim := raised()
	victim.Key = "victim"
	if b := must[Ensured](t, h, victim); b.ID == a.ID || !b.Created || fake.Ledger().Creates != 2 {
		t.Errorf("the victim's case is %+v, the attacker's %+v", b, a)
	}
}

func TestUnknownRequestTypesAreNamed(t *testing.T) {
	t.Parallel()
	_, h := fakeJira(t, jirafake.Options{}, func(c *Config) { c.RequestType = "x" })
	if _, err := do[Ensured](t, h, ensure()); !strings.Contains(asError(t, err).Error(), "has no service desk") {
		t.Errorf("no desk: %v", err)
	}
}
