package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
)

// patience is how long a script waits for something that must come. Nothing takes this long unless it is broken.
const patience = 3 * time.Minute

// commands are what scripts can do beyond testscript's own. What waits, waits for an event and not for a time.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"vendors":    vendors,    // vendors [push]: start the fakes; write casewire.yaml, flows and secrets; set HOST_URL and LISTEN
	"ready":      ready,      // ready: the host answers
	"alert":      addAlert,   // alert [N | FILE]: N alerts out of the fixtures, or the one in FILE
	"row":        addRow,     // row TABLE FILE: the row in FILE, a JSON object by column, is in the workspace; $GUID in it is the last alert's
	"issues":     waitIssues, // issues N: Jira has N issues, each about another alert
	"jira":       troubleJira,
	"graph":      troubleGraph,
	"http":       request,    // http METHOD PATH STATUS [-token] [-type T] [-body FILE | -size N]: the answer is in stdout
	"json":       checkJSON,  // json FILE PATH [WANT]: a value in a JSON document; PATH:keys gives the names
	"same":       same,       // same FILE PATH FILE PATH: two values in JSON documents are the same
	"remember":   remember,   // remember VAR FILE PATH: a value in a JSON document, as a variable
	"until":      until,      // until REGEXP PROGRAM ARGS...: run it until its output matches
	"replace":    replace,    // replace FILE OLD NEW
	"hold":       holdPort,   // hold VAR: listen on a port, and put its address into VAR
	"status":     checkExit,  // status CODE PROGRAM ARGS...: the program ends with that exit code
	"subscribed": subscribed, // subscribed: the host's subscription stands
	"reads":      reads,      // reads PATH REGEXP: what the host answers there to an operator comes to match
	"signal":     signalHost, // signal TERM|KILL|HUP: to the host that runs in the background
	"gone":       gone,       // gone PID...: these processes are no more
	"secretless": secretless, // secretless [PID]...: no secret in any output, log or data file, nor in what ps shows of the processes
}

type scriptKey struct{}

// script is the state of one script.
type script struct {
	world  *lab.World
	alerts []lab.Alert
	token  string
	tables map[string]bool // that rows were put in
	stops  []func()
}

func of(ts *testscript.TestScript) *script {
	s, ok := ts.Value(scriptKey{}).(*script)
	if !ok {
		ts.Fatalf("the script was not set up")
	}
	return s
}

func (s *script) close() {
	for _, stop := range s.stops {
		stop()
	}
	if s.world != nil {
		s.world.Close()
	}
}

func (s *script) vendors(ts *testscript.TestScript) *lab.World {
	if s.world == nil {
		ts.Fatalf("begin with vendors")
	}
	return s.world
}

func wantArgs(ts *testscript.TestScript, neg bool, args []string, least, most int, usage string) {
	if neg || len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", usage)
	}
}

func vendors(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, 1, "vendors [push]")
	s, dir := of(ts), ts.MkAbs(".")
	w, err := lab.New(dir, lab.Options{Seed: 1})
	ts.Check(err)
	s.world = w
	c := lab.Config{Push: "off", Poll: time.Second, Flows: lab.JiraOnlyFlow()}
	if len(args) == 1 {
		c.Push = args[0]
		if c.Push == "receive" {
			c.ClientState = "client-state-of-the-script"
		}
	}
	ts.Check(w.WriteConfig(c))
	ts.Setenv("HOST_URL", w.HostURL)
	ts.Setenv("LISTEN", strings.TrimPrefix(w.HostURL, "http://"))
	s.alerts, err = lab.Alerts(64, 1, w.Azure.Tenant(), time.Now())
	ts.Check(err)
}

func ready(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, 0, "ready")
	s := of(ts)
	url := s.vendors(ts).HostURL + "/readyz"
	hosts := ts.BackgroundCmds()
	await(ts, "the host to be ready", func() bool {
		if len(hosts) > 0 && !alive(hosts[len(hosts)-1].Process.Pid) {
			ts.Fatalf("the host ended before it was ready")
		}
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	token, err := os.ReadFile(ts.MkAbs("casewire.db.token"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		ts.Check(err)
	}
	s.token = string(token)
}

func addAlert(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, 1, "alert [N | FILE]")
	s := of(ts)
	w := s.vendors(ts)
	n := 1
	if len(args) == 1 {
		var err error
		if n, err = strconv.Atoi(args[0]); err != nil {
			id, err := w.Azure.AddAlertNow([]byte(ts.ReadFile(args[0])))
			ts.Check(err)
			ts.Setenv("ALERT", id)
			return
		}
	}
	for range n {
		_, err := w.Azure.AddAlertNow(s.alerts[0].Raw)
		ts.Check(err)
		ts.Setenv("ALERT", s.alerts[0].ID)
		s.alerts = s.alerts[1:]
	}
}

// addRow puts a row where Log Analytics finds it. All rows of a table have the columns of the first.
func addRow(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, 2, "row TABLE FILE")
	s := of(ts)
	now := time.Now().UTC().Format(time.RFC3339Nano)
	text := strings.NewReplacer("$GUID", strings.TrimPrefix(ts.Getenv("ALERT"), "sn"), "$NOW", now).Replace(ts.ReadFile(args[1]))
	var cells map[string]any
	ts.Check(json.Unmarshal([]byte(text), &cells))
	names := sortedNames(cells)
	row := make([]any, len(names))
	for i, name := range names {
		row[i] = cells[name]
	}
	if s.tables[args[0]] {
		s.vendors(ts).Azure.AddRows(args[0], row)
		return
	}
	t := azurefake.Table{Rows: [][]any{row}}
	for _, name := range names {
		typ := azurefake.String
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(cells[name])); err == nil {
			typ = azurefake.Datetime
		}
		t.Columns = append(t.Columns, azurefake.Column{Name: name, Type: typ})
	}
	s.vendors(ts).Azure.SetTable(args[0], t, 0)
	s.tables[args[0]] = true
}

func waitIssues(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, 1, "issues N")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	w := of(ts).vendors(ts)
	await(ts, "the issues", func() bool { return w.Issues() >= n })
	by := w.IssuesByAlert()
	if w.Issues() != n || len(by) != n {
		ts.Fatalf("%d issues about %d alerts; want %d", w.Issues(), len(by), n)
	}
}

// jira refuse-token|accept-token|fail ROUTE FAULT N.
func troubleJira(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 3, 3, "jira ROUTE FAULT N")
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	of(ts).vendors(ts).Jira.FailNext(args[0], jirafake.Fault(args[1]), n)
}

func troubleGraph(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 3, 3, "graph ROUTE FAULT N")
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	of(ts).vendors(ts).Azure.FailNext(args[0], azurefake.Fault(args[1]), n)
}

// client has no idle connections that would outlive a test.
var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}

func request(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "http METHOD PATH STATUS [-token] [-type T] [-body FILE | -size N]"
	wantArgs(ts, neg, args, 3, 10, usage)
	s := of(ts)
	req, err := http.NewRequest(args[0], s.vendors(ts).HostURL+args[1], http.NoBody)
	ts.Check(err)
	for opts := args[3:]; len(opts) > 0; opts = opts[1:] {
		if opts[0] == "-token" {
			req.Header.Set("Authorization", "Bearer "+s.token)
			continue
		}
		if len(opts) < 2 {
			ts.Fatalf("usage: %s", usage)
		}
		switch opts[0] {
		case "-header":
			k, v, _ := strings.Cut(opts[1], ": ")
			req.Header.Set(k, v)
		case "-body":
			text := ts.ReadFile(opts[1])
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		case "-size":
			n, err := strconv.Atoi(opts[1])
			ts.Check(err)
			// Of unknown length, so that the limit has to count.
			req.Body, req.ContentLength = io.NopCloser(io.LimitReader(spaces{}, int64(n))), -1
		default:
			ts.Fatalf("usage: %s", usage)
		}
		opts = opts[1:]
	}
	resp, err := client.Do(req)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	ts.Check(err)
	out := fmt.Sprintf("content-type: %s\n%s", resp.Header.Get("Content-Type"), body)
	ts.Check(os.WriteFile(ts.MkAbs("answer"), body, 0o600))
	if got := strconv.Itoa(resp.StatusCode); got != args[2] {
		ts.Fatalf("%s %s: %s, want %s\n%s", args[0], args[1], got, args[2], out)
	}
	fmt.Fprint(ts.Stdout(), out)
}

func reads(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 2, 2, "reads PATH REGEXP")
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	await(ts, args[0]+" to read "+args[1], func() bool {
		req, err := http.NewRequest(http.MethodGet, of(ts).vendors(ts).HostURL+args[0], http.NoBody)
		ts.Check(err)
		req.Header.Set("Authorization", "Bearer "+of(ts).token)
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return err == nil && want.Match(body)
	})
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// lookup finds a value by a path such as runs.0.state or connectors.name=jira.pid; the step "keys" gives the names of an
// object, "len" the length of a list.
func lookup(ts *testscript.TestScript, file, path string) string {
	var v any
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		ts.Fatalf("%s is no JSON: %v", file, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("%s: something follows the JSON document", file)
	}
	for step := range strings.SplitSeq(path, ".") {
		switch t := v.(type) {
		case map[string]any:
			if step == "keys" {
				return strings.Join(sortedNames(t), " ")
			}
			v = t[step]
		case []any:
			if step == "len" {
				return strconv.Itoa(len(t))
			}
			if name, want, ok := strings.Cut(step, "="); ok {
				v = nil
				for _, item := range t {
					if m, _ := item.(map[string]any); m[name] == want {
						v = item
					}
				}
				continue
			}
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(t) {
				ts.Fatalf("%s: there is no %s in a list of %d (%s)", file, step, len(t), path)
			}
			v = t[i]
		default:
			v = nil
		}
	}
	switch t := v.(type) {
	case nil:
		return ""
	case string:
		return t
	}
	b, err := json.Marshal(v)
	ts.Check(err)
	return string(b)
}

func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] json FILE PATH REGEXP")
	}
	got := lookup(ts, args[0], args[1])
	re, err := regexp.Compile("^(?:" + args[2] + ")$")
	ts.Check(err)
	if re.MatchString(got) == neg {
		ts.Fatalf("%s: %s is %q", args[0], args[1], got)
	}
}

func same(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 4, 4, "same FILE PATH FILE PATH")
	if a, b := lookup(ts, args[0], args[1]), lookup(ts, args[2], args[3]); a != b || a == "" {
		ts.Fatalf("%s of %s is\n%s\n%s of %s is\n%s", args[1], args[0], a, args[3], args[2], b)
	}
}

func remember(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 3, 3, "remember VAR FILE PATH")
	v := lookup(ts, args[1], args[2])
	if v == "" {
		ts.Fatalf("%s has no %s", args[1], args[2])
	}
	ts.Setenv(args[0], v)
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP PROGRAM ARGS...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var last []byte
	defer func() { _, _ = ts.Stdout().Write(last) }()
	await(ts, fmt.Sprintf("%q in the output of %s", args[0], strings.Join(args[1:], " ")), func() bool {
		cmd := program(ts, args[1:])
		last, _ = cmd.Output()
		return re.Match(last)
	})
}

func program(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "TZ=UTC")
	for _, name := range []string{"CASEWIRE_TOKEN", "TMPDIR", "HOME"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

func checkExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		code = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func replace(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 3, 3, "replace FILE OLD NEW")
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
}

func holdPort(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, 1, "hold VAR")
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	s := of(ts)
	s.stops = append(s.stops, func() { _ = ln.Close() })
	ts.Setenv(args[0], ln.Addr().String())
}

func subscribed(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, 0, "subscribed")
	w := of(ts).vendors(ts)
	await(ts, "the subscription", func() bool { return len(w.Azure.Subscriptions()) > 0 })
}

func signalHost(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, 1, "signal TERM|KILL|HUP")
	sig, ok := map[string]os.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP}[args[0]]
	hosts := ts.BackgroundCmds()
	if !ok || len(hosts) == 0 {
		ts.Fatalf("there is no such signal, or no host")
	}
	ts.Check(hosts[len(hosts)-1].Process.Signal(sig))
}

func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: gone PID...")
	}
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		ts.Check(err)
		await(ts, "the end of process "+arg, func() bool { return !alive(pid) })
	}
}

// alive does not count a process that has ended and that nobody has waited for yet.
func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z"))
}

// secretless looks for the values of the secrets wherever they must not be.
func secretless(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: secretless [PID]...")
	}
	s := of(ts)
	secrets := s.vendors(ts).Secrets()
	check := func(where string, b []byte) {
		for name, value := range secrets {
			if bytes.Contains(b, []byte(value)) {
				ts.Fatalf("%s holds the value of %s", where, name)
			}
		}
		if s.token != "" && bytes.Contains(b, []byte(s.token)) {
			ts.Fatalf("%s holds the operator token", where)
		}
	}
	check("stdout", []byte(ts.ReadFile("stdout")))
	check("stderr", []byte(ts.ReadFile("stderr")))
	root := ts.MkAbs(".")
	files := 0
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".secret") || strings.HasSuffix(path, ".token") {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		files++
		check(path, b)
		return err
	}))
	if files == 0 {
		ts.Fatalf("nothing was looked at")
	}
	for _, pid := range args {
		for _, what := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile("/proc/" + pid + "/" + what)
			ts.Check(err)
			check("process "+pid+": "+what, b)
		}
	}
}

// await polls for something outside of this process that says nothing by itself.
func await(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.After(patience)
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			ts.Fatalf("waited %v for %s", patience, what)
		case <-tick.C:
		}
	}
}

func sortedNames(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}
