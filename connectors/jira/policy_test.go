package jira

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

// moveOnFake does a transition as a person would.
func moveOnFake(t *testing.T, h *sdktest.Harness, key, to string) {
	t.Helper()
	if got := must[Transitioned](t, h, sdktest.Call{Action: "issue.transition", Input: map[string]any{"issue": key, "to": to}}); !got.Moved {
		t.Fatalf("%s was not moved to %s: %+v", key, to, got)
	}
}

func TestPoliciesForACaseThatHasItsIssue(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		policy                      string
		closed, updated             bool
		updates, comments, statuses int
	}{
		"update leaves it closed": {"update", true, true, 1, 1, 1},
		"default is update":       {"", true, true, 1, 1, 1},
		"comment writes no field": {"comment", true, true, 1, 1, 1},
		"reopen opens it":         {"reopen", false, true, 1, 1, 2},
		"ignore touches nothing":  {"ignore", true, false, 0, 0, 1},
	} {
		for _, knows := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", known", false: ", found"}[knows], func(t *testing.T) {
				t.Parallel()
				fake, h := fakeJira(t, jirafake.Options{})
				first := must[Ensured](t, h, ensure(with("origin", "alert:da1")))
				if first.Closed || first.Origin != "alert:da1" {
					t.Fatalf("first: %+v", first)
				}
				moveOnFake(t, h, first.Key, "done")
				c := ensure(with("title", "News"), with("comment_on_update", "it grew"), with("origin", "alert:da2"))
				if tt.policy != "" {
					with("on_existing", tt.policy)(&c)
				}
				if knows {
					prior := first
					prior.Closed = true
					c.Prior = prior
				}
				got := must[Ensured](t, h, c)
				if got.Closed != tt.closed || got.Updated != tt.updated || got.Created || got.ID != first.ID || got.Origin != "alert:da1" {
					t.Errorf("got %+v", got)
				}
				is := fake.Ledger().Issues["SOC-1"]
				if is.Updates != tt.updates || is.Comments != tt.comments || is.Transitions != tt.statuses {
					t.Errorf("ledger: %+v", is)
				}
				title := "Root login"
				if tt.policy != "comment" && tt.policy != "ignore" {
					title = "News"
				}
				if have := must[Issue](t, h, sdktest.Call{Action: "issue.get", Input: map[string]any{"issue": "SOC-1"}}); have.Summary != title {
					t.Errorf("title %q, want %q", have.Summary, title)
				}
				// The same again, known or not, writes nothing: no second comment, no second edit.
				for _, prior := range []any{got, nil} {
					c.Prior = prior
					again := must[Ensured](t, h, c)
					if again.Updated || fake.Ledger().Issues["SOC-1"].Comments != tt.comments || fake.Ledger().Issues["SOC-1"].Updates != tt.updates {
						t.Errorf("again with prior %v: %+v, ledger %+v", prior != nil, again, fake.Ledger().Issues["SOC-1"])
					}
				}
			})
		}
	}
}

func TestOriginIsKeptWithTheIssue(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{})
	must[Ensured](t, h, ensure(with("origin", "incident:2941")))
	// An update by a host that knows nothing keeps the origin of the creation.
	must[Ensured](t, h, ensure(with("title", "x"), with("origin", "alert:other")))
	props := fake.Issue("SOC-1")["properties"].(map[string]jsonRaw)
	if got := string(props[propertyKey]); !strings.Contains(got, `"origin":"incident:2941"`) {
		t.Errorf("property %s", got)
	}
	for _, bad := range []string{"case:1", "alert:", "alert", "alert:" + strings.Repeat("x", 200)} {
		if _, err := do[Ensured](t, h, ensure(with("origin", bad))); asError(t, err).Class() != plugin.ClassInvalid {
			t.Errorf("origin %q: %v", bad, err)
		}
	}
}

func TestKnownCaseCostsOneRequest(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{}, func(c *Config) { c.Deployment = "cloud" })
	first := must[Ensured](t, h, ensure())
	if n := requests(fake); n != 2 {
		t.Errorf("a new case cost %d requests", n)
	}
	for _, c := range []sdktest.Call{
		ensure(), ensure(with("title", "x"), with("severity_id", 5), with("labels", []string{"l"}), with("comment_on_update", "c")),
		ensure(with("on_existing", "comment"), with("comment_on_update", "d")), ensure(with("on_existing", "ignore")), ensure(with("on_existing", "reopen")),
	} {
		before := requests(fake)
		c.Prior = first
		must[Ensured](t, h, c)
		if n := requests(fake) - before; n > 1 {
			t.Errorf("%v cost %d requests", c.Input, n)
		}
	}
}

// requests counts what the fake was asked, whatever came of it.
func requests(fake *jirafake.Server) (n uint64) {
	for _, by := range fake.Ledger().Requests {
		for _, c := range by {
			n += c
		}
	}
	return n
}

func TestReopenWithoutAWayBackSaysSo(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{
		routeRead: answer(200, `{"id":"10024","key":"SOC-24","fields":{"labels":["casewire","aws-cloud"],"status":{"name":"Done","statusCategory":{"key":"done"}}},"properties":{"`+
			propertyKey+`":`+mark(wantedHash(t))+`}}`),
		routeRead + "/transitions": answer(200, `{"transitions":[{"id":"5","name":"Archive","to":{"name":"Archived","statusCategory":{"key":"done"}}}]}`),
	})
	c := ensure(with("on_existing", "reopen"))
	c.Prior = prior(t)
	_, err := do[Ensured](t, s.open(), c)
	if e := asError(t, err); e.Class() != plugin.ClassInvalid || !strings.Contains(e.Error(), `"Archive" to "Archived" (done)`) || !strings.Contains(e.Error(), "reopen SOC-24") {
		t.Errorf("%v of class %s", e, e.Class())
	}
	if diff := cmp.Diff([]string{routeRead, routeRead, routeRead + "/transitions"}, s.asked()); diff != "" {
		t.Errorf("requests:\n%s", diff)
	}
}

// A case that is only looked for is not made, neither at first nor when its fate is asked for; one that is there is found
// whether the host remembers it or not.
func TestEnsureThatMakesNothing(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{})
	look := []func(*sdktest.Call){with("create", false), with("on_existing", "ignore")}
	for _, resolve := range []bool{false, true} {
		c := ensure(look...)
		c.Resolve = resolve
		if got := must[Ensured](t, h, c); got.ID != "" || got.Created {
			t.Errorf("resolve %v: %+v", resolve, got)
		}
	}
	if n := fake.Count(); n != 0 {
		t.Fatalf("%d issues were made", n)
	}
	first := must[Ensured](t, h, ensure())
	for _, prior := range []any{nil, first} {
		c := ensure(look...)
		c.Prior = prior
		if got := must[Ensured](t, h, c); got.ID != first.ID || got.Created || got.Updated {
			t.Errorf("got %+v, want %s", got, first.ID)
		}
	}
	// A look that found nothing is remembered with an empty id: it must not keep the issue from being made later.
	c := ensure(func(c *sdktest.Call) { c.Key = "another" })
	c.Prior = Ensured{}
	if got := must[Ensured](t, h, c); !got.Created || fake.Count() != 2 {
		t.Errorf("got %+v, %d issues", got, fake.Count())
	}
}
