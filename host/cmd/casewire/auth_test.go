package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

func init() {
	commands["people"] = people       // people: from now on a person signs in for the Microsoft connections
	commands["signin"] = signIn       // signin NAME [-device | -decline | -only]: casewire auth login, and what the person does; output in signin.out
	commands["signouts"] = signOutAll // signouts AADSTS: whoever signed in has to do so again
}

// people lets the app act for a person. The authority takes each refresh token once.
func people(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, 0, "people")
	of(ts).vendors(ts).Azure.SetStrictRefresh(true)
	const line = "    client_secret: file:entra.secret\n"
	text := ts.ReadFile("casewire.yaml")
	if !strings.Contains(text, line) {
		ts.Fatalf("casewire.yaml has no such credential:\n%s", text)
	}
	ts.Check(os.WriteFile(ts.MkAbs("casewire.yaml"), []byte(strings.Replace(text, line, line+"    sign_in: user\n", 1)), 0o600))
}

var (
	loginURL  = regexp.MustCompile(`https?://\S+/authorize\?\S+`)
	loginCode = regexp.MustCompile(`enter the code ([A-Z0-9]+)`)
)

// signIn runs the command and does what it asks a person to do.
func signIn(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: [!] signin NAME [-device | -decline | -only]")
	}
	device := len(args) == 2 && args[1] != "-only"
	argv := []string{"auth", "login", args[0], "--no-browser"}
	if len(args) == 2 && !device {
		argv = append(argv, "--only")
	}
	if device {
		argv = append(argv, "--device")
	}
	exe, err := os.Executable()
	ts.Check(err)
	cmd := exec.Command(exe, argv...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Args[0] = "casewire"
	cmd.Env = append(os.Environ(), "TESTSCRIPT_COMMAND=casewire", "HOME="+ts.Getenv("HOME"), "TMPDIR="+ts.Getenv("TMPDIR"), "NO_PROXY=127.0.0.1")
	if found, err := lookIn(ts, "casewire"); err == nil {
		cmd.Path = found
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	ts.Check(cmd.Start())
	var all strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			all.WriteString(lines.Text() + "\n")
			if m := loginCode.FindStringSubmatch(lines.Text()); m != nil && device {
				of(ts).vendors(ts).Azure.AnswerDevice(m[1], args[1] == "-device")
			}
			if at := loginURL.FindString(lines.Text()); at != "" && !device {
				go browse(at)
			}
		}
	}()
	err = cmd.Wait()
	_ = w.Close()
	<-read
	ts.Check(os.WriteFile(ts.MkAbs("signin.out"), []byte(all.String()), 0o600))
	if (err != nil) != neg {
		ts.Fatalf("auth login: %v\n%s", err, all.String())
	}
}

// browse is a browser in which somebody signs in: it follows wherever it is sent.
func browse(at string) {
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(at)
	if err == nil {
		_ = resp.Body.Close()
	}
}

// lookIn finds a program on the script's own path.
func lookIn(ts *testscript.TestScript, name string) (string, error) {
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if info, err := os.Stat(dir + "/" + name); err == nil && !info.IsDir() {
			return dir + "/" + name, nil
		}
	}
	return "", exec.ErrNotFound
}

func signOutAll(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, 1, "signouts AADSTS")
	of(ts).vendors(ts).Azure.EndSignIns(args[0])
}
