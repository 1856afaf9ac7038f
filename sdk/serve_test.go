package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// serveSelf turns the test binary into a connector process.
const serveSelf = "SDK_TEST_SERVE"

func serveTestConnector() {
	sdk.Serve(newConnector(&world{act: func(_ context.Context, b *box, in input) (output, error) {
		if in.Name == "panic" {
			panic("as asked")
		}
		b.env.Logger.Info("acting", "name", in.Name)
		return output{ID: b.cfg.URL}, nil
	}}))
}

// A process of its own, spoken to without go-plugin's client: cookie, handshake line, calls, logs as JSON lines, and the
// end when the host lets go of its standard input.
func TestServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cookie := plugin.Handshake()
	cmd.Env = []string{
		serveSelf + "=1", cookie.MagicCookieKey + "=" + cookie.MagicCookieValue, "PLUGIN_PROTOCOL_VERSIONS=1",
		"PLUGIN_UNIX_SOCKET_DIR=" + t.TempDir(), "TMPDIR=" + t.TempDir(),
	}
	// The process ends by signalling its group, which must not be ours.
	ownGroup(cmd)
	var logs bytes.Buffer
	cmd.Stderr = &logs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	parts := strings.Split(strings.TrimSpace(line), "|")
	if err != nil || len(parts) < 5 || parts[1] != "1" || parts[2] != "unix" || parts[4] != "grpc" {
		t.Fatalf("handshake %q, %v", line, err)
	}
	conn, err := grpc.NewClient("unix:"+parts[3], append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	c := connectorv1.NewConnectorClient(conn)
	if d, err := c.Describe(ctx, &connectorv1.DescribeRequest{}); err != nil || d.GetName() != "box" {
		t.Fatalf("got %v, %v", d, err)
	}
	configure(t, c, "c", 1, good())
	call := func(name string) ([]*connectorv1.InvokeResponse, error) {
		in, err := json.Marshal(map[string]string{"name": name})
		if err != nil {
			t.Fatal(err)
		}
		return invoke(ctx, c, &connectorv1.InvokeRequest{
			Call: &connectorv1.CallContext{Connection: "c", Generation: 1}, Action: "thing.get", Input: in,
		})
	}
	got, err := call("x")
	if err != nil || !strings.Contains(string(got[0].GetResult().GetOutput()), "https://box.example") {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = call("panic")
	want(t, err, plugin.ClassBug, plugin.EffectNone, "as asked")
	if _, err = call("alive after it"); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	_ = stdin.Close()
	_ = cmd.Wait() // its own signal may end it
	if ctx.Err() != nil {
		t.Fatal("the process did not end with its standard input")
	}
	seen := map[string]bool{}
	for l := range strings.Lines(logs.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Errorf("a log line is no JSON: %q", l)
			continue
		}
		if msg, ok := m["msg"].(string); ok && (msg != "acting" || m["connection"] == "c") {
			seen[msg] = true
		}
	}
	if !seen["acting"] || !seen["connector panicked"] {
		t.Errorf("logs: %s", logs.String())
	}
	if strings.Contains(logs.String(), token) {
		t.Error("the logs show the token")
	}
}
