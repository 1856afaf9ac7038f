package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// The scripts of host/cmd/casewire use the commands as people do. Here is what they do not reach.

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code int
		text string
	}{
		{nil, ExitOK, ""},
		{errors.New("boom"), ExitFailure, "casewire: boom\n"},
		{Invalid(errors.New("boom")), ExitInvalid, "casewire: boom\n"},
		{Environment(errors.New("boom")), ExitEnvironment, "casewire: boom\n"},
		{fmt.Errorf("outer: %w", Environment(errors.New("boom"))), ExitEnvironment, "casewire: outer: boom\n"},
		{errors.Join(Invalid(errors.New("boom")), nil), ExitInvalid, "casewire: boom\n"},
		{Quiet(ExitFailure), ExitFailure, ""},
		{context.Canceled, ExitFailure, "casewire: context canceled\n"},
	} {
		app := App{Version: "v1", Commands: []*cobra.Command{{Use: "go", RunE: func(*cobra.Command, []string) error { return tt.err }}}}
		var out, errs bytes.Buffer
		if code := Main(app, []string{"go"}, strings.NewReader(""), &out, &errs); code != tt.code || errs.String() != tt.text || out.Len() > 0 {
			t.Errorf("%v: exit code %d, want %d; stdout %q, stderr %q", tt.err, code, tt.code, out.String(), errs.String())
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	var list diag.List
	var out bytes.Buffer
	list.Warnf(diag.Pos{File: "a.yaml", Line: 1, Col: 2}, "store", "", "odd")
	if err := report(&out, list, "; nothing was started"); err != nil {
		t.Errorf("a warning: %v", err)
	}
	list.Errorf(diag.Pos{File: "a.yaml", Line: 3, Col: 4}, "http", "", "wrong")
	out.Reset()
	if err := report(&out, list, "; nothing was started"); err == nil || !strings.HasSuffix(out.String(), "\n1 mistake; nothing was started\n") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// The token that a host makes for itself is the same after a restart, long, and its owner's only.
func TestOperatorToken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	file := &config.File{Store: config.Store{Path: path}}
	first, err := operatorToken(file, &config.Resolved{})
	if err != nil || len(first.Reveal()) < 32 {
		t.Fatal(len(first.Reveal()), err)
	}
	if info, err := os.Stat(tokenPath(path)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if again, err := operatorToken(file, &config.Resolved{}); err != nil || again.Reveal() != first.Reveal() {
		t.Errorf("another token after a restart, %v", err)
	}
	given := plugin.NewSecret("the one that was configured")
	if got, err := operatorToken(file, &config.Resolved{OperatorToken: given}); err != nil || got.Reveal() != given.Reveal() {
		t.Errorf("not the configured one, %v", err)
	}
	// What somebody cut short is no token.
	if err := os.WriteFile(tokenPath(path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := operatorToken(file, &config.Resolved{}); err != nil || len(got.Reveal()) < 32 {
		t.Errorf("%d characters, %v", len(got.Reveal()), err)
	}
	if _, err := operatorToken(&config.File{Store: config.Store{Path: filepath.Join(path, "no", "folder")}}, &config.Resolved{}); err == nil {
		t.Error("a token that cannot be kept was given out")
	}
}

// Where the token for asking a host comes from: the environment, the configuration, the host's own.
func TestHostToken(t *testing.T) {
	dir := t.TempDir()
	db := filepath.Join(dir, "a.db")
	for name, text := range map[string]string{tokenPath(db): "own\n", filepath.Join(dir, "given"): "given"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(ref string) (string, error) {
		return hostToken(t.Context(), config.At{OperatorToken: ref}, filepath.Join(dir, "casewire.yaml"), db)
	}
	t.Setenv("CASEWIRE_TOKEN", "")
	if got, err := ask(""); got != "own" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ask("file:given"); got != "given" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ask("pasted-into-the-file"); err == nil || strings.Contains(err.Error(), "pasted") {
		t.Errorf("a value in place of a reference: %v", err)
	}
	if _, err := ask("env:CASEWIRE_TEST_NOT_SET"); err == nil {
		t.Error("a variable that is not set gave a token")
	}
	t.Setenv("CASEWIRE_TOKEN", "environment")
	if got, err := ask("file:given"); got != "environment" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// What a host answers to a replay, and what becomes of it.
func TestAskHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
		is         error
	}{
		{"done", `{"run":{"id":"r2"}}`, 200, "r2", nil},
		{"unknown", `{"status":404,"title":"not found","detail":"run r1"}`, 404, "run r1", store.ErrNotFound},
		{"running", `{"status":409,"title":"cannot be replayed","detail":"run r1 is still running"}`, 409, "answered 409 Conflict: run r1 is still running", nil},
		{"wrong token", `{"status":401}`, 401, "set CASEWIRE_TOKEN", nil},
		{"something else listens", `<html>`, 404, "answered 404 Not Found: no reason given", nil},
		{"something else is happy", `<html>`, 200, "answered 200 OK: no reason given", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.URL.Path != "/v1/runs/r1/replay" || r.Header.Get("Authorization") != "Bearer secret" ||
					r.URL.Query().Get("from") != "case" || r.URL.Query().Get("current") != "true" {
					t.Errorf("asked %s %s", r.Method, r.URL)
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer srv.Close()
			got, err := askHost(t.Context(), srv.Client(), strings.TrimPrefix(srv.URL, "http://"), "secret", host.Replay{Run: "r1", FromStep: "case", Current: true})
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) || strings.Contains(got, "secret") || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// One run that cannot be replayed does not keep the others from it, and the exit code says what went wrong.
func TestReplayAll(t *testing.T) {
	t.Parallel()
	do := func(_ context.Context, run string) (string, error) {
		switch run {
		case "gone":
			return "", fmt.Errorf("run gone: %w", store.ErrNotFound)
		case "busy":
			return "", host.ErrNotReplayable
		}
		return run + "2", nil
	}
	for _, tt := range []struct {
		runs string
		code int
	}{{"a b", ExitOK}, {"", ExitOK}, {"gone a", ExitInvalid}, {"a busy b", ExitFailure}, {"gone busy", ExitFailure}} {
		var out, errs bytes.Buffer
		err := replayAll(t.Context(), &out, &errs, true, strings.Fields(tt.runs), do)
		var e *exitError
		if code := 0; errors.As(err, &e) && e.code != tt.code || err == nil && tt.code != code {
			t.Errorf("%s: %v, want %d", tt.runs, err, tt.code)
		}
		var got struct{ Replayed []replayed }
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got.Replayed) != len(strings.Fields(tt.runs)) {
			t.Errorf("%s: %v, %s", tt.runs, err, out.String())
		}
		for _, r := range got.Replayed {
			if (r.New == "") == (r.Error == "") {
				t.Errorf("%s: %+v", tt.runs, r)
			}
		}
	}
}

// A configuration that a connector refuses is the user's; a connector that does not start is the machine's.
func TestStartError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code int
	}{
		{sdk.BadConfig("/push", "no"), ExitInvalid},
		{fmt.Errorf("connection a: %w", sdk.BadConfig("/push", "no")), ExitInvalid},
		{sdk.Unavailable("down"), ExitEnvironment},
		{errors.New("fork: resource temporarily unavailable"), ExitEnvironment},
	} {
		var e *exitError
		if err := startError(tt.err); !errors.As(err, &e) || e.code != tt.code {
			t.Errorf("%v: %v", tt.err, err)
		}
	}
}

func TestShowRun(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	err := showRun(&out, httpapi.RunRecord{
		ID: "r1", Flow: "f", Version: "0123456789abcdef", State: store.RunWaiting, Created: at, NotBefore: at.Add(time.Minute),
		Steps: []httpapi.StepRecord{
			{Path: "a", Action: "x.y", State: store.StepWaiting, Attempts: 2, Error: "first\nsecond", Class: "throttled", Input: json.RawMessage(`{"a":1}`)},
			{Path: "b", State: store.StepSucceeded, Output: json.RawMessage(`"` + strings.Repeat("z", 5000) + `"`)},
			{Path: "c", State: store.StepSucceeded, Output: json.RawMessage("not json")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"run      r1\nflow     f (version 0123456789ab)\nstate    waiting\n", "waits    until ",
		"step a  x.y  waiting  attempts 2", "error   first\n          second (throttled)\n", "(5002 bytes in all; --json shows them)", "output  not json\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
	if got := clip("a\nb"+strings.Repeat("é", 100), 10); len([]rune(got)) != 10 || strings.Contains(got, "\n") {
		t.Errorf("clipped to %q", got)
	}
}
