package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
)

// intelWorld is the vendors' side with a configuration that has one connection for indicators.
func intelWorld(t *testing.T) (w *lab.World, dir string) {
	t.Helper()
	dir = t.TempDir()
	w, err := lab.New(dir, lab.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	cfg, err := w.Connection("threatintel", false)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(cfg, &m); err != nil {
		t.Fatal(err)
	}
	credential := m["credential"].(map[string]any)
	delete(m, "credential")
	if err := os.WriteFile(filepath.Join(dir, "entra.secret"), []byte(w.Azure.ClientSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	credential["client_secret"] = "file:entra.secret"
	m["requests_per_minute"] = 100000
	doc, err := json.Marshal(map[string]any{ // JSON is YAML
		"store": map[string]any{"path": filepath.Join(dir, "casewire.db")}, "credentials": map[string]any{"entra": credential},
		"connections": map[string]any{"intel": map[string]any{"connector": "threatintel", "credential": "entra", "config": m}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "casewire.yaml"), doc, 0o600); err != nil {
		t.Fatal(err)
	}
	return w, dir
}

// feedFile writes n indicators, one in a hundred of which must be refused, and each of those for a reason of its kind.
func feedFile(t *testing.T, path string, n int) (bad int) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("indicator,type,confidence,tlp,tags,description\n")
	wrong := []string{"10.1.2.3,ip", "co.uk,domain", "*.evil.example,domain", "hxxp://127[.]0[.]0[.]1/x,url", "zz44,sha256"}
	for i := range n {
		value := fmt.Sprintf("%d.%d.%d[.]%d,ip", 11+i%60, i/60%250, i/15000%250, 1+i%250)
		switch {
		case i%100 == 99:
			value = wrong[bad%len(wrong)]
			bad++
		case i%3 == 1:
			value = fmt.Sprintf("host%d.evil-%d.net,domain", i, i%7)
		case i%3 == 2:
			value = fmt.Sprintf("%064x,sha256", i+1<<20)
		}
		fmt.Fprintf(&b, "%s,%d,AMBER,feed;batch-%d,seen in the wild\n", value, i%101, i%5)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return bad
}

type submitted struct {
	Total, Accepted, Unchanged, Rejected, Duplicates, Requests int
	Rejections                                                 []struct{ At, Reason string }
}

// submitFile runs casewire indicators submit to its end.
func submitFile(t *testing.T, dir string, wantCode int, args ...string) submitted {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "casewire", append([]string{"indicators", "submit", "-c", filepath.Join(dir, "casewire.yaml"), "--json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if code != wantCode {
		t.Fatalf("exit code %d, want %d\n%s\n%s", code, wantCode, out, stderr.Bytes())
	}
	var s submitted
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return s
}

// TestIndicatorsKilled submits 50,000 indicators (fewer under the race detector) with one in a hundred wrong, while the
// vendor throttles and loses answers, and ends the command with SIGKILL twice. Every good one is there once, every bad one
// has a reason, and a second run sends nothing.
func TestIndicatorsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts processes")
	}
	const n = feedSize
	w, dir := intelWorld(t)
	file := filepath.Join(dir, "feed.csv")
	bad := feedFile(t, file, n)
	if bad != n/100 {
		t.Fatalf("%d bad ones", bad)
	}
	w.Azure.SetFaults(azurefake.Faults{RetryAfter: time.Second})
	trouble := func() {
		for _, f := range []azurefake.Fault{azurefake.LostAnswer, azurefake.Throttle, azurefake.ErrorAfter, azurefake.Unavailable, azurefake.HTML} {
			w.Azure.FailNext(azurefake.RouteTIUpload, f, 1)
		}
	}
	begin := time.Now()
	for _, until := range []int{n / 416, n / 166} {
		trouble()
		cmd := exec.CommandContext(t.Context(), "casewire", "indicators", "submit", "-c", filepath.Join(dir, "casewire.yaml"), file)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		err := w.Until(t.Context(), 2*time.Minute, func() bool { return w.Azure.TI().Uploads >= until }, nil)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil {
			t.Fatalf("%v; it said %s", err, said.Bytes())
		}
	}
	trouble()
	report := filepath.Join(dir, "report.jsonl")
	s := submitFile(t, dir, 1, "--report", report, file)
	t.Logf("%d indicators in %v", n, time.Since(begin).Round(10*time.Millisecond))
	led := w.Azure.TI()
	if s.Total != n || s.Accepted != n-bad || s.Rejected != bad || s.Duplicates != 0 || s.Unchanged != 0 {
		t.Errorf("report: %d accepted, %d unchanged, %d rejected, %d duplicates", s.Accepted, s.Unchanged, s.Rejected, s.Duplicates)
	}
	if led.Objects != n-bad || led.Created != n-bad || led.Updated != 0 || led.Rejected != 0 {
		t.Errorf("the fake: %d objects, %d created, %d updated, %d the same, %d rejected", led.Objects, led.Created, led.Updated, led.Same, led.Rejected)
	}
	// Only what was under way when it was killed, or what lost its answer, was sent again.
	if led.Same > 2500 || led.Uploads > (n-bad)/100+25 {
		t.Errorf("%d versions were sent twice, in %d uploads: it did not go on where it was", led.Same, led.Uploads)
	}
	for id, versions := range led.ByObject {
		if versions != 1 {
			t.Fatalf("%s has %d versions", id, versions)
		}
	}
	for _, r := range s.Rejections {
		if r.Reason == "" || !strings.HasPrefix(r.At, "line ") {
			t.Fatalf("a rejection without a reason or a place: %+v", r)
		}
	}
	b, err := os.ReadFile(report)
	if err != nil || bytes.Count(b, []byte("\n")) != n {
		t.Errorf("the report has %d lines (%v)", bytes.Count(b, []byte("\n")), err)
	}

	again := submitFile(t, dir, 1, file)
	after := w.Azure.TI()
	if again.Unchanged != n-bad || again.Rejected != bad || again.Requests != 0 || after.Uploads != led.Uploads || after.Updated != 0 {
		t.Errorf("a second run: %+v requests %d; uploads %d, then %d", again.Unchanged, again.Requests, led.Uploads, after.Uploads)
	}
}

// runCasewire runs casewire to its end.
func runCasewire(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "casewire", args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), errs.String()
}

// TestIndicatorsCommand is what people see of it.
func TestIndicatorsCommand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts processes")
	}
	w, dir := intelWorld(t)
	config := filepath.Join(dir, "casewire.yaml")
	submit := func(stdin string, args ...string) (int, string, string) {
		t.Helper()
		return runCasewire(t, stdin, append([]string{"indicators", "submit", "-c", config}, args...)...)
	}
	has := func(what, text string, want ...string) {
		t.Helper()
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%s: %q is not in\n%s", what, s, text)
			}
		}
	}
	const list = "hxxp://bad[.]evil-one[.]net/a\n5[.]45[.]207[.]1\n10.0.0.1\n5.45.207.1\n"

	code, out, _ := submit(list, "-", "--dry-run")
	if code != 1 || w.Azure.TI().Uploads != 0 {
		t.Errorf("dry run: exit code %d, %d uploads", code, w.Azure.TI().Uploads)
	}
	has("dry run", out, "-: 4 indicators (list), connection intel", "2  would be submitted", "1  duplicates", "1  rejected", `line 3: "10.0.0.1" is a private`)
	if _, err := os.Stat(filepath.Join(dir, "casewire.db.indicators")); err == nil {
		t.Error("a dry run leaves something behind")
	}

	report := filepath.Join(dir, "r.csv")
	code, out, _ = submit(list, "-", "--tlp", "amber+strict", "--expires", "10d", "--label", "case-9", "--report", report)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	has("submit", out, "2  accepted, in 1 request", "0  unchanged", "1  rejected")
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	has("report", string(b), "line 1,http://bad.evil-one.net/a,url,accepted,", "line 4,5.45.207.1,ip,duplicate,the same value as line 2")
	if led := w.Azure.TI(); led.Objects != 2 || led.Uploads != 1 {
		t.Errorf("%+v", led)
	}
	id := w.Azure.STIXIDs(w.Azure.Workspace())[0]
	if o := w.Azure.STIX(w.Azure.Workspace(), id); fmt.Sprint(o["labels"]) != "[case-9]" || fmt.Sprint(o["object_marking_refs"]) != "[marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003]" {
		t.Errorf("%v", o)
	}

	// Another document with the same in it: only what is new is sent.
	other := `[{"value":"evil-two.net","confidence":80},{"value":"5.45.207.1","tlp":"AMBER+STRICT","tags":["case-9"],"expires":""}]`
	code, out, _ = submit(other, "-", "--tlp", "amber+strict", "--expires", "10d", "--label", "case-9")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	has("another document", out, "1  accepted, in 1 request", "1  unchanged", "0  rejected")
	if led := w.Azure.TI(); led.Updated != 0 || led.Objects != 3 {
		t.Errorf("%+v", led)
	}
	code, out, _ = submit(other, "-", "--again", "--tlp", "amber+strict", "--expires", "10d", "--label", "case-9")
	has("again", out, "2  accepted, in 1 request")
	if led := w.Azure.TI(); code != 0 || led.Objects != 3 {
		t.Errorf("again: exit code %d, %+v", code, led)
	}

	for _, c := range []struct {
		stdin string
		args  []string
		code  int
		want  string
	}{
		{`{"indicators":["a.net"`, []string{"-"}, 2, "-, read as json: the document ends too early"},
		{"", []string{"-"}, 2, "there is nothing in it"},
		{list, []string{"-", "--format", "yaml"}, 2, `--format "yaml" is not one of auto, list, csv, json, stix, misp`},
		{list, []string{"-", "--expires", "soon"}, 2, "/expires_in"},
		{list, []string{"-", "--tlp", "blue"}, 2, "unknown TLP marking"},
		{list, []string{"-", "--confidence", "101"}, 2, "--confidence 101"},
		{list, []string{"-", "--connection", "nobody"}, 2, `there is no connection "nobody"; of threatintel there are intel`},
		{list, nil, 2, "takes one file"},
		{"", []string{filepath.Join(dir, "nowhere.csv")}, 3, "no such file"},
		{list, []string{"-", "--report", filepath.Join(dir, "no", "dir", "r.csv")}, 3, "the report cannot be written"},
	} {
		before := w.Azure.TI().Uploads
		code, _, errs := submit(c.stdin, c.args...)
		if code != c.code || !strings.Contains(errs, c.want) || w.Azure.TI().Uploads != before {
			t.Errorf("%v: exit code %d, %s", c.args, code, errs)
		}
	}

	// A vendor that says no: it says how to go on, and goes on when the vendor lets it.
	if !w.Azure.ExpireSecret(w.Azure.ClientID(), true) {
		t.Fatal("there is no such app")
	}
	code, _, errs := submit("evil-three.net\n", "-")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	has("an expired secret", errs, "7000222", "0 of 1 indicators are done: run the same command again to go on")
	w.Azure.ExpireSecret(w.Azure.ClientID(), false)
	if code, out, _ := submit("evil-three.net\n", "-"); code != 0 || !strings.Contains(out, "1  accepted") {
		t.Errorf("exit code %d, %s", code, out)
	}

	code, out, _ = runCasewire(t, "", "doctor", "-c", config)
	if code != 0 {
		t.Errorf("doctor: exit code %d\n%s", code, out)
	}
	has("doctor", out, "intel: permission: upload", "intel: workspace", "intel: quota", "intel: api version")

	if err := os.WriteFile(config, []byte(strings.Replace(read(t, config), `"workspace_id"`, `"target":"graph","workspace_id"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs = submit(list, "-")
	if code != 2 {
		t.Errorf("graph: exit code %d", code)
	}
	has("graph", errs, "tiIndicators API of Microsoft Graph", "write sentinel")
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
