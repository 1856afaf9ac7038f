package thehive

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

// person does something to the fake that people do.
func person(t *testing.T, fake *hivefake.Server, method, path string, body any) map[string]any {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://hive.example/api/v1"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fake.APIKey())
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: fake.Transport()}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, got, err)
	}
	out := map[string]any{}
	if len(got) > 0 {
		if err := json.Unmarshal(got, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestWhatIsThereIsTreatedAsThePolicySays(t *testing.T) {
	t.Parallel()
	type outcome struct {
		Title    string
		Closed   bool
		Updated  bool
		Comments int
	}
	news := []func(*sdktest.Call){with("title", "News"), with("comment_on_update", "It grew.")}
	for name, tt := range map[string]struct {
		closed bool
		change []func(*sdktest.Call)
		want   outcome
	}{
		"update":               {false, nil, outcome{"News", false, true, 1}},
		"update, closed":       {true, []func(*sdktest.Call){with("on_existing", "update")}, outcome{"News", true, true, 1}},
		"comment":              {false, []func(*sdktest.Call){with("on_existing", "comment")}, outcome{"Root login", false, true, 1}},
		"comment, closed":      {true, []func(*sdktest.Call){with("on_existing", "comment")}, outcome{"Root login", true, true, 1}},
		"reopen":               {false, []func(*sdktest.Call){with("on_existing", "reopen")}, outcome{"News", false, true, 1}},
		"reopen, closed":       {true, []func(*sdktest.Call){with("on_existing", "reopen")}, outcome{"News", false, true, 1}},
		"ignore":               {false, []func(*sdktest.Call){with("on_existing", "ignore")}, outcome{"Root login", false, false, 0}},
		"ignore, closed":       {true, []func(*sdktest.Call){with("on_existing", "ignore")}, outcome{"Root login", true, false, 0}},
		"update without words": {false, []func(*sdktest.Call){with("comment_on_update", "")}, outcome{"News", false, true, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, h := fakeHive(t, hivefake.Options{})
			first := must[Ensured](t, h, plainCase("case.ensure"))
			if first.Closed {
				t.Errorf("first: %+v", first)
			}
			if tt.closed {
				person(t, fake, "PATCH", "/case/"+first.ID, map[string]any{"status": "TruePositive", "summary": "done"})
			}
			c := plainCase("case.ensure", append(append([]func(*sdktest.Call){}, news...), tt.change...)...)
			c.Prior = first
			got := must[Ensured](t, h, c)
			cs := fake.Ledger().Cases[int64(first.Number)]
			have := outcome{cs.Title, got.Closed, got.Updated, len(cs.Comments)}
			if diff := cmp.Diff(tt.want, have); diff != "" || got.ID != first.ID || got.Created {
				t.Errorf("%+v\n%s", got, diff)
			}
			if really := person(t, fake, "GET", "/case/"+first.ID, nil)["stage"] == "Closed"; really != got.Closed {
				t.Errorf("closed %v, says %v", really, got.Closed)
			}
			// The same again changes and says nothing.
			c.Prior = got
			again := must[Ensured](t, h, c)
			if n := len(fake.Ledger().Cases[int64(first.Number)].Comments); n != tt.want.Comments || again.Updated {
				t.Errorf("again: %+v, %d comments", again, n)
			}
		})
	}
}

func TestPolicyWithoutMemory(t *testing.T) {
	t.Parallel()
	// A host that has lost its data file, or another one, does the same, and says it once.
	fake, h := fakeHive(t, hivefake.Options{})
	first := must[Ensured](t, h, plainCase("case.ensure"))
	person(t, fake, "PATCH", "/case/"+first.ID, map[string]any{"status": "FalsePositive"})
	ignored := must[Ensured](t, h, plainCase("case.ensure", with("on_existing", "ignore"), with("tags", []string{"x"})))
	if ignored.Updated || !ignored.Closed || ignored.Created || ignored.ID != first.ID {
		t.Errorf("ignore: %+v", ignored)
	}
	for range 2 {
		got := must[Ensured](t, h, plainCase("case.ensure", with("on_existing", "comment"), with("comment_on_update", "again")))
		if got.ID != first.ID || got.Created {
			t.Errorf("comment: %+v", got)
		}
	}
	got := must[Ensured](t, h, plainCase("case.ensure", with("on_existing", "reopen"), with("severity_id", 5)))
	if got.Closed || got.Status != "InProgress" || got.Severity != 4 {
		t.Errorf("reopen: %+v", got)
	}
	if cs := fake.Ledger().Cases[int64(first.Number)]; len(cs.Comments) != 1 || cs.Status != "InProgress" {
		t.Errorf("case: %+v", cs)
	}
	// Alerts know the same policies.
	closed := must[Ensured](t, h, plainCase("alert.ensure", func(c *sdktest.Call) { c.Key = "other" }))
	person(t, fake, "PATCH", "/alert/"+closed.ID, map[string]any{"status": "Ignored"})
	c := plainCase("alert.ensure", func(c *sdktest.Call) { c.Key, c.Prior = "other", closed }, with("on_existing", "ignore"))
	if a := must[Ensured](t, h, c); !a.Closed || a.Updated {
		t.Errorf("alert, ignore: %+v", a)
	}
	c = plainCase("alert.ensure", func(c *sdktest.Call) { c.Key, c.Prior = "other", closed }, with("on_existing", "reopen"))
	if a := must[Ensured](t, h, c); a.Closed || !a.Updated || a.Status != "InProgress" {
		t.Errorf("alert, reopen: %+v", a)
	}
}

func TestWhatPeopleChangedStaysTheirs(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{})
	first := must[Ensured](t, h, plainCase("case.ensure"))
	person(t, fake, "PATCH", "/case/"+first.ID, map[string]any{"title": "Ours now", "severity": 1, "removeTags": []string{"aws"}})
	c := plainCase("case.ensure", with("tags", []string{"aws", "more"}))
	c.Prior = first
	must[Ensured](t, h, c)
	got := person(t, fake, "GET", "/case/"+first.ID, nil)
	if got["title"] != "Ours now" || got["severity"] != 1.0 || !cmp.Equal(got["tags"], []any{"casewire", "more"}) {
		t.Errorf("got %v", got)
	}
}

func TestOriginComesBack(t *testing.T) {
	t.Parallel()
	long := "incident:/subscriptions/11111111-2222-4333-8444-555555555555/resourcegroups/soc/providers/x/workspaces/w/incidents/" + strings.Repeat("é", 80)
	for _, origin := range []string{"alert:da638551234567890123_-123456", "incident:28282", "alert:" + strings.Repeat("x", 106), "alert:" + strings.Repeat("x", 107), long} {
		tags := originTags(origin)
		for _, tag := range tags {
			if units(tag) > maxTag || cleanTag(tag) != tag {
				t.Errorf("%q: tag %q", origin, tag)
			}
		}
		if got := originsOf(append([]string{"casewire", "casewire:origin", "x=y"}, tags...)); !cmp.Equal(got, []string{origin}) {
			t.Errorf("%q comes back as %q by way of %q", origin, got, tags)
		}
		var quoted []string
		for _, tag := range tags {
			name, value, _ := strings.Cut(tag, "=")
			quoted = append(quoted, name+`="`+value+`"`)
		}
		if got := originsOf(quoted); !cmp.Equal(got, []string{origin}) || !hasTag(quoted, tags[0]) {
			t.Errorf("%q comes back as %q by way of %q", origin, got, quoted)
		}
	}
	_, h := fakeHive(t, hivefake.Options{})
	for _, bad := range []string{"alert", "alert:", "case:1", "alert: x", "alert:a\"b", "incident:" + strings.Repeat("x", 200)} {
		_, err := do[Ensured](t, h, plainCase("case.ensure", with("origin", bad)))
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || len(e.Violations) != 1 || e.Violations[0].Field != "/origin" {
			t.Errorf("%q: %v", bad, e)
		}
	}
}

func FuzzOrigins(f *testing.F) {
	f.Add(`casewire:origin="a`, "casewire:origin.1.x=y", "casewire:origin.2.=")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, o := range originsOf([]string{a, b, c}) {
			if checkOrigin(o) != nil {
				t.Errorf("origin %q", o)
			}
		}
	})
}

func TestNotCreatedByUs(t *testing.T) {
	t.Parallel()
	// A second attempt finds a case that is older than the first attempt: it is somebody else's.
	_, h := fakeHive(t, hivefake.Options{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	first := must[Ensured](t, h, plainCase("case.ensure"))
	c := plainCase("case.ensure", with("on_existing", "ignore"), func(c *sdktest.Call) { c.Attempt, c.FirstSent = 2, time.Now().Add(-time.Minute) })
	if got := must[Ensured](t, h, c); got.Created || got.ID != first.ID {
		t.Errorf("got %+v", got)
	}
	c.FirstSent = time.Now().Add(-2 * time.Hour)
	if got := must[Ensured](t, h, c); !got.Created || got.ID != first.ID {
		t.Errorf("got %+v", got)
	}
}

// What is only looked for is not made; what is there is found whether the host remembers it or not.
func TestEnsureThatMakesNothing(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"alert.ensure", "case.ensure"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			fake, h := fakeHive(t, hivefake.Options{})
			look := []func(*sdktest.Call){with("create", false), with("on_existing", "ignore")}
			for _, resolve := range []bool{false, true} {
				c := plainCase(action, look...)
				c.Resolve = resolve
				if got := must[Ensured](t, h, c); got.ID != "" || got.Created {
					t.Errorf("resolve %v: %+v", resolve, got)
				}
			}
			if led := fake.Ledger(); len(led.Alerts)+len(led.Cases) != 0 {
				t.Fatalf("made: %+v %+v", led.Alerts, led.Cases)
			}
			c := plainCase(action)
			c.Prior = Ensured{} // of the look that found nothing
			first := must[Ensured](t, h, c)
			for _, prior := range []any{nil, first} {
				c := plainCase(action, look...)
				c.Prior = prior
				if got := must[Ensured](t, h, c); got.ID != first.ID || got.Created || got.Updated {
					t.Errorf("got %+v, want %s", got, first.ID)
				}
			}
		})
	}
}
