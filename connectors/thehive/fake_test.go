package thehive

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// fakeHive is a fake behind a socket, and a connection to it.
func fakeHive(t *testing.T, o hivefake.Options, change ...func(*Config)) (*hivefake.Server, *sdktest.Harness) {
	t.Helper()
	fake := hivefake.New(o)
	var handler http.Handler = fake
	if !o.EmptyErrors && !o.NoLinks {
		handler = judged(t, fake)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(func() { srv.Close(); fake.Close() })
	cfg := testConfig(srv.URL)
	cfg.APIKey, cfg.Organisation = plugin.NewSecret(fake.APIKey()), hivefake.DefaultOrganisation
	for _, f := range change {
		f(&cfg)
	}
	return fake, sdktest.Open(t, Connector(), cfg, sdktest.Options{Tenant: "contoso"})
}

// made counts the alerts, cases and comments that the fake has.
func made(fake *hivefake.Server) (alerts, cases, comments int) {
	led := fake.Ledger()
	for _, c := range led.Cases {
		comments += len(c.Comments)
	}
	return len(led.Alerts), len(led.Cases), comments
}

func composite(key string) string { return "casewire;contoso;" + caseRef(key) }

func TestLifeOfACaseOnTheFake(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"5.1.2", "5.5.14", "5.7.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			fake, h := fakeHive(t, hivefake.Options{Version: version, Templates: []hivefake.Template{{Name: "Cloud"}}}, func(c *Config) { c.CaseTemplate = "Cloud" })
			first := must[Ensured](t, h, ensure("case.ensure", with("procedures", []string{"T1078.004", "T9999"}), with("tlp", "red")))
			if !first.Created || first.Number == 0 || first.TLP != "red" {
				t.Fatalf("first: %+v", first)
			}
			// Another host, which knows nothing, adopts it; so does alert.ensure with the alert.
			if other := must[Ensured](t, h, ensure("case.ensure", with("procedures", []string{"T1078.004"}), with("tlp", "red"))); other.ID != first.ID || other.Created {
				t.Errorf("another host: %+v", other)
			}
			if a := must[Ensured](t, h, plainCase("alert.ensure", with("tlp", "red"))); a.ID != first.AlertID || a.CaseID != first.ID || a.Created {
				t.Errorf("alert: %+v", a)
			}
			c := ensure("case.ensure", with("title", "Worse"), with("severity_id", 6), with("tags", []string{"more"}), with("tlp", "red"),
				with("procedures", []string{"T1078.004", "T1059"}),
				with("observables", []map[string]any{{"dataType": "ip", "data": "203.0.113.5"}, {"dataType": "domain", "data": "New.Example"}}))
			c.Prior = first
			second := must[Ensured](t, h, c)
			if !second.Updated || second.Created || second.Severity != 4 || len(second.Rejected) != 0 {
				t.Errorf("update: %+v", second)
			}
			c.Prior = second
			if third := must[Ensured](t, h, c); third.Updated {
				t.Errorf("the same again: %+v", third)
			}
			got := must[Case](t, h, sdktest.Call{Action: "case.get", Input: map[string]any{"case": fmt.Sprint(first.Number)}})
			if got.Title != "Worse" || got.Severity != 4 || got.TLP != "red" || !hasTag(got.Tags, "more") || got.Stage != "New" {
				t.Errorf("case: %+v", got)
			}
			added := must[Added](t, h, sdktest.Call{Action: "observable.add", Input: map[string]any{"case": first.ID, "observables": []map[string]any{
				{"dataType": "domain", "data": "new.example"}, {"dataType": "ip", "data": "203.0.113.6"}, {"dataType": "ip", "data": "203.0.113.7"},
			}}})
			if added.Added != 2 || added.Existing != 1 || len(added.Rejected) != 0 {
				t.Errorf("observables: %+v", added)
			}
			cm := must[Commented](t, h, comments(with("case", first.ID)))
			again := must[Commented](t, h, comments(with("case", first.ID), func(c *sdktest.Call) { c.Attempt = 2 }))
			if again.ID != cm.ID {
				t.Errorf("comment %s, then %s", cm.ID, again.ID)
			}
			// One tells of the domain and the technique that came late, where the server takes a technique without its tactic.
			if a, c, n := made(fake); a != 1 || c != 1 || n != 2 {
				t.Errorf("%d alerts, %d cases, %d comments", a, c, n)
			}
		})
	}
}

func TestEveryLossAfterTheCommitIsRepaired(t *testing.T) {
	t.Parallel()
	for _, route := range []string{hivefake.RouteAlertCreate, hivefake.RoutePromote, hivefake.RouteComment, hivefake.RouteCaseUpdate, hivefake.RouteObservable} {
		for _, fault := range []hivefake.Fault{hivefake.LostAnswer, hivefake.ErrorAfter, hivefake.CutBody, hivefake.BadJSON, hivefake.HTML, hivefake.Reset} {
			t.Run(route+" "+string(fault), func(t *testing.T) {
				t.Parallel()
				fake, h := fakeHive(t, hivefake.Options{})
				var first Ensured
				again := func(action string, c sdktest.Call, out any) {
					for c.Attempt = 1; ; c.Attempt++ {
						res, err := h.Do(t.Context(), c)
						if err == nil {
							if err := json.Unmarshal(res.Output, out); err != nil {
								t.Fatal(err)
							}
							return
						}
						if e := asError(t, err); e.Class() != plugin.ClassUncertain && e.SideEffect != plugin.EffectNone || c.Attempt == 5 {
							t.Fatalf("%s, attempt %d: %v of class %s", action, c.Attempt, e, e.Class())
						}
					}
				}
				fake.FailNext(route, fault, 1)
				again("create", ensure("case.ensure", with("procedures", []string{})), &first)
				if !first.Created {
					t.Errorf("got %+v", first)
				}
				u := ensure("case.ensure", with("title", "News"), with("procedures", []string{}), with("observables", []map[string]any{{"dataType": "ip", "data": "192.0.2.77"}}))
				u.Prior = first
				var second Ensured
				again("update", u, &second)
				if second.ID != first.ID {
					t.Errorf("got %+v", second)
				}
				var cm Commented
				again("comment", comments(with("case", first.ID)), &cm)
				if a, c, n := made(fake); a != 1 || c != 1 || n != 2 { // one is about the observable that came late
					t.Errorf("%d alerts, %d cases, %d comments", a, c, n)
				}
			})
		}
	}
}

// TestStorm delivers each case several times to a TheHive that fails in every way, and repeats what failed, as a host does
// for an action whose repeat is safe. In the end each case key has one alert and one case.
func TestStorm(t *testing.T) {
	t.Parallel()
	const cases, deliveries = 40, 3
	for _, version := range []string{"5.5.14", "5.7.3"} {
		fake, h := fakeHive(t, hivefake.Options{Version: version, Seed: 11})
		fake.SetFaults(hivefake.Faults{Rates: map[string]map[hivefake.Fault]float64{
			"write": {
				hivefake.LostAnswer: .08, hivefake.ErrorAfter: .1, hivefake.CutBody: .03, hivefake.BadJSON: .03, hivefake.ServerError: .05,
				hivefake.Reset: .05, hivefake.Throttle: .05, hivefake.HTML: .03, hivefake.Unavailable: .03,
			},
			"read": {hivefake.Reset: .05, hivefake.ServerError: .05, hivefake.Throttle: .05, hivefake.CutBody: .03, hivefake.HTML: .03},
		}})
		var wg sync.WaitGroup
		for i := range cases {
			wg.Go(func() {
				key := fmt.Sprintf("case %d", i)
				var prior json.RawMessage
				for n := range deliveries {
					c := ensure("case.ensure", with("title", fmt.Sprintf("delivery %d", n)), with("procedures", []string{"T1059"}),
						with("observables", []map[string]any{{"dataType": "ip", "data": fmt.Sprintf("192.0.2.%d", n)}}))
					c.Key = key
					if prior != nil {
						c.Prior = prior
					}
					for c.Attempt = 1; ; c.Attempt++ {
						res, err := h.Do(t.Context(), c)
						if err == nil {
							prior = res.Output
							break
						}
						if e := asError(t, err); c.Attempt > 100 || e.Class() == plugin.ClassInvalid || e.Class() == plugin.ClassBug {
							t.Errorf("%s: %v of class %s", key, e, e.Class())
							return
						}
					}
				}
				var last Ensured
				if err := json.Unmarshal(prior, &last); err != nil {
					t.Error(err)
				}
				if last.Procedures == nil || last.ContentHash != digest(fmt.Sprintf("delivery %d", deliveries-1), "**who**: root") {
					t.Errorf("%s ends as %+v", key, last)
				}
			})
		}
		wg.Wait()
		if a, c, _ := made(fake); a != cases || c != cases {
			t.Errorf("%s: %d alerts and %d cases for %d keys", version, a, c, cases)
		}
		for i := range cases {
			key := fmt.Sprintf("case %d", i)
			numbers := fake.CasesOf(composite(key))
			if len(numbers) != 1 {
				t.Errorf("%s: %s has cases %v", version, key, numbers)
				continue
			}
			// Each later delivery brought an address, and one comment tells of it.
			if c := fake.Ledger().Cases[numbers[0]]; len(c.Comments) != deliveries-1 || c.Observables != deliveries || c.Procedures != 1 || c.Title != fmt.Sprintf("delivery %d", deliveries-1) {
				t.Errorf("%s: %s is %+v", version, key, c)
			}
		}
	}
}

func TestPersonsAreRespectedOnTheFake(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{})
	first := must[Ensured](t, h, plainCase("case.ensure"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "https://hive.example/api/v1/case/"+first.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fake.APIKey())
	resp, err := (&http.Client{Transport: fake.Transport()}).Do(req)
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatal(err, resp)
	}
	_ = resp.Body.Close()
	c := plainCase("case.ensure", with("title", "News"))
	c.Prior = first
	_, err = do[Ensured](t, h, c)
	if e := asError(t, err); e.Class() != plugin.ClassNotFound || !strings.Contains(e.Message, "no second one is made") {
		t.Errorf("%v of class %s", e, e.Class())
	}
}

func TestLimitsAreThoseOfTheFake(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"5.0.9", "5.7.3"} {
		_, h := fakeHive(t, hivefake.Options{Version: version})
		got := must[Ensured](t, h, ensure("case.ensure", with("title", strings.Repeat("long😀 ", 300)), with("url", "https://x.example/"+strings.Repeat("a", 900)),
			with("description", strings.Repeat("x", 1100000)), with("tlp", "amber+strict"), with("tags", []string{strings.Repeat("tag ", 100), "a", "A", ""}),
			with("observables", []map[string]any{
				{"dataType": "nonsense", "data": "x"},
				{"dataType": "file", "data": "x.exe"},
				{"dataType": "url", "data": "https://x.example/" + strings.Repeat("b", 6000)},
				{"dataType": "hash", "data": "D41D8CD98F00B204E9800998ECF8427E"},
				{"dataType": "hash", "data": "d41d8cd98f00b204e9800998ecf8427e"},
			})))
		if !got.Created || len(got.Rejected) != 0 {
			t.Errorf("%s: %+v", version, got)
		}
	}
	// Before 5.2 a technique needs its tactic, and does not cost the alert either.
	old, h := fakeHive(t, hivefake.Options{Version: "5.1.0"})
	must[Ensured](t, h, plainCase("case.ensure", with("procedures", []string{"T1059"})))
	if cs := old.Ledger().Cases[1]; cs.Procedures != 0 || !hasTag(cs.Tags, "TTP:T1059") {
		t.Errorf("5.1: %+v", cs)
	}
	fake, h := fakeHive(t, hivefake.Options{})
	got := must[Ensured](t, h, plainCase("alert.ensure", with("procedures", []string{"T9999", "T1059"})))
	if a := fake.Ledger().Alerts[composite(caseKey)]; !got.Created || a.Procedures != 1 || a.ID != got.ID {
		t.Errorf("%+v is %+v", got, a)
	}
}

func TestEveryLossOfOtherWritesIsRepaired(t *testing.T) {
	t.Parallel()
	type world struct {
		fake        *hivefake.Server
		h           *sdktest.Harness
		one, two    Ensured
		first, last func() hivefake.CaseLedger
	}
	file := sdk.NewBlob("a.txt", "text/plain", []byte("hello"))
	for action, tt := range map[string]struct {
		route string
		input func(w *world) map[string]any
		check func(w *world) bool
	}{
		"task.add": {
			hivefake.RouteTask, func(w *world) map[string]any { return map[string]any{"case": w.one.ID, "title": "t"} },
			func(w *world) bool { return w.first().Tasks == 1 },
		},
		"attachment.add": {
			hivefake.RouteAttachment, func(w *world) map[string]any { return map[string]any{"case": w.one.ID, "file": file} },
			func(w *world) bool { return w.first().Attachments == 1 },
		},
		"observable.upload": {
			hivefake.RouteObservable, func(w *world) map[string]any { return map[string]any{"case": w.one.ID, "file": file} },
			func(w *world) bool { return w.first().Observables == 1 },
		},
		"observable.add": {hivefake.RouteObservable, func(w *world) map[string]any {
			return map[string]any{"case": w.one.ID, "observables": []map[string]any{{"dataType": "ip", "data": "192.0.2.1"}, {"dataType": "ip", "data": "192.0.2.2"}}}
		}, func(w *world) bool { return w.first().Observables == 2 }},
		"case.update": {
			hivefake.RouteCaseUpdate, func(w *world) map[string]any { return map[string]any{"case": w.one.ID, "title": "T"} },
			func(w *world) bool { return w.first().Title == "T" },
		},
		"case.close": {
			hivefake.RouteCaseUpdate, func(w *world) map[string]any {
				return map[string]any{"case": w.one.ID, "verdict_id": 1, "summary": "s"}
			},
			func(w *world) bool { return w.first().Status == "FalsePositive" },
		},
		"case.link": {
			hivefake.RouteLink, func(w *world) map[string]any {
				return map[string]any{"case": w.one.ID, "other": w.two.ID, "comment": "c"}
			},
			func(w *world) bool {
				return len(w.first().Links) == 1 && len(w.first().Comments) == 1 && len(w.last().Comments) == 1
			},
		},
		"case.comment": {
			hivefake.RouteComment, func(w *world) map[string]any { return map[string]any{"alert": w.one.AlertID, "text": "c"} },
			func(w *world) bool { return w.fake.Ledger().Alerts[composite("one")].Comments == 1 },
		},
	} {
		for _, fault := range []hivefake.Fault{hivefake.LostAnswer, hivefake.ErrorAfter, hivefake.CutBody, hivefake.BadJSON, hivefake.HTML, hivefake.Reset, hivefake.Throttle} {
			t.Run(action+" "+string(fault), func(t *testing.T) {
				t.Parallel()
				w := &world{}
				w.fake, w.h = fakeHive(t, hivefake.Options{})
				w.one = must[Ensured](t, w.h, plainCase("case.ensure", func(c *sdktest.Call) { c.Key = "one" }))
				w.two = must[Ensured](t, w.h, plainCase("case.ensure", func(c *sdktest.Call) { c.Key = "two" }))
				w.first = func() hivefake.CaseLedger { return w.fake.Ledger().Cases[int64(w.one.Number)] }
				w.last = func() hivefake.CaseLedger { return w.fake.Ledger().Cases[int64(w.two.Number)] }
				w.fake.FailNext(tt.route, fault, 1)
				c := sdktest.Call{Action: action, Key: "k", Input: tt.input(w), Attempt: 1}
				for ; c.Attempt < 5; c.Attempt++ {
					_, err := w.h.Do(t.Context(), c)
					if err == nil {
						break
					}
					if e := asError(t, err); e.Class() != plugin.ClassUncertain && e.SideEffect != plugin.EffectNone {
						t.Errorf("attempt %d: %v of class %s", c.Attempt, e, e.Class())
					}
				}
				if c.Attempt == 5 || !tt.check(w) {
					t.Errorf("after %d attempts: %+v, %+v", c.Attempt, w.first(), w.last())
				}
			})
		}
	}
}
