package jira

import (
	"fmt"
	"strings"
	"testing"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestRemoteLinkGoesWithTheIssue(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{}, func(c *Config) { c.Deployment = "cloud" })
	linked := func(more ...func(*sdktest.Call)) sdktest.Call {
		return ensure(append([]func(*sdktest.Call){with("url", "https://portal.example/i/1"), with("remote_link", true)}, more...)...)
	}
	// The link fails after the issue was made: the result stays, with a warning, and the next call mends it.
	fake.FailNext(jirafake.RouteRemoteLink, jirafake.ServerError, 1)
	first := must[Ensured](t, h, linked())
	if !first.Created || len(first.Warnings) != 1 || first.LinkHash != "" {
		t.Fatalf("first: %+v", first)
	}
	c := linked()
	c.Prior = first
	second := must[Ensured](t, h, c)
	if len(second.Warnings) != 0 || second.LinkHash == "" || second.ID != first.ID {
		t.Errorf("second: %+v", second)
	}
	before := requests(fake)
	c.Prior = second
	if third := must[Ensured](t, h, c); third.LinkHash != second.LinkHash || requests(fake) != before {
		t.Errorf("third: %+v after %d requests", third, requests(fake)-before)
	}
	c.Prior = nil // another host adopts, and writes the same link again: still one
	must[Ensured](t, h, c)
	if n := fake.Ledger().Issues["SOC-1"].RemoteLinks; n != 1 {
		t.Errorf("%d links", n)
	}
	before = requests(fake)
	must[Ensured](t, h, linked(func(c *sdktest.Call) { c.Key = "new" }))
	if n := requests(fake) - before; n != 3 {
		t.Errorf("a new case with its link cost %d requests", n)
	}
}

func TestWhatIsCutIsAttachedWhole(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{})
	evidence := map[string]any{"alert": map[string]any{"id": "da1", "entities": []string{"a<b"}}}
	short := one(t, h, "short", with("evidence", evidence))
	if short.FileHash != "" || len(fake.Ledger().Issues[short.Key].Attachments) != 0 {
		t.Errorf("nothing was cut: %+v", short)
	}
	long := []func(*sdktest.Call){with("evidence", evidence), with("description", strings.Repeat("line of text\n", 4000))}
	got := one(t, h, "long", long...)
	files := fake.Ledger().Issues[got.Key].Attachments
	description := fmt.Sprint(plainJSON(t, fake.Issue(got.Key)["fields"].(map[string]any)["description"]))
	if got.FileHash == "" || len(files) != 1 || !strings.Contains(description, "The whole is attached as "+strings.Fields(files[0])[0]) || units(description) > maxText {
		t.Errorf("cut: %+v, files %v, description ends with %q", got, files, description[len(description)-120:])
	}
	c := ensure(long...)
	c.Key, c.Prior = "long", got
	before := requests(fake)
	if again := must[Ensured](t, h, c); again.Updated || requests(fake) != before {
		t.Errorf("the same again: %+v", again)
	}
	c.Prior = nil
	must[Ensured](t, h, c)
	if n := len(fake.Ledger().Issues[got.Key].Attachments); n != 1 {
		t.Errorf("%d files after another host adopted the issue", n)
	}
	full := one(t, h, "full", with("attach_full", true))
	if full.FileHash == "" || len(fake.Ledger().Issues[full.Key].Attachments) != 1 {
		t.Errorf("attach_full: %+v", full)
	}
	// An attachment that fails costs the file, never the case.
	fake.FailNext(jirafake.RouteAttach, jirafake.ServerError, 1)
	failed := one(t, h, "failed", with("attach_full", true))
	if !failed.Created || len(failed.Warnings) != 1 || !strings.Contains(failed.Warnings[0], "was not attached") {
		t.Errorf("failed: %+v", failed)
	}
	c = ensure(with("attach_full", true))
	c.Key, c.Prior = "failed", failed
	if mended := must[Ensured](t, h, c); mended.FileHash == "" || len(mended.Warnings) != 0 || mended.Updated {
		t.Errorf("mended: %+v", mended)
	}
}
