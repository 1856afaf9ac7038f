package catalog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// script makes a catalog with one connection "a" whose Invoke is fn.
func script(t *testing.T, fn func(*connectorv1.InvokeRequest, connectorv1.Connector_InvokeServer) error) (*catalog.Catalog, *fake) {
	t.Helper()
	f := newFake("jira")
	f.invoke = fn
	c := newCatalog(t, catalog.Options{}, f)
	configure(t, c, conn("a", "jira", `{}`))
	return c, f
}

func TestInvokeCarriesTheWholeCall(t *testing.T) {
	t.Parallel()
	c, f := script(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	deadline, _ := ctx.Deadline()
	first := time.Unix(1000, 0)
	out, err := c.Invoke(ctx, catalog.Invocation{
		Connection: "a", Action: "echo", Input: []byte(`{"x":1}`), ID: "id", Key: "key", Attempt: 3, DryRun: true, Resolve: true,
		Prior: []byte(`{"p":1}`), FirstSent: first, MaxOutput: 100, MaxRows: 7,
	}, nil)
	if err != nil || string(out) != `{"x":1}` {
		t.Fatalf("got %s, %v", out, err)
	}
	r := f.invoked[0]
	k := r.GetCall()
	if k.GetCallId() != "id" || k.GetIdempotencyKey() != "key" || k.GetAttempt() != 3 || !k.GetDryRun() || k.GetMode() != connectorv1.Mode_MODE_RESOLVE ||
		string(k.GetPrior()) != `{"p":1}` || !k.GetFirstSent().AsTime().Equal(first) || !k.GetDeadline().AsTime().Equal(deadline) ||
		r.GetMaxOutputBytes() != 100 || r.GetMaxRows() != 7 {
		t.Errorf("the connector got %v", r)
	}
}

// What the caller declares reaches only actions that leave their effect to it.
func TestInvokeDeclaresTheEffect(t *testing.T) {
	t.Parallel()
	f := newFake("jira")
	f.describe = func(d *connectorv1.DescribeResponse) { d.GetActions()[2].EffectByCaller = true }
	c := newCatalog(t, catalog.Options{}, f)
	configure(t, c, conn("a", "jira", `{}`))
	for action, want := range map[string]connectorv1.Effect{
		"do": connectorv1.Effect_EFFECT_READ, "echo": connectorv1.Effect_EFFECT_UNSPECIFIED,
	} {
		_, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: action, Input: []byte(`{}`), Effect: connectorv1.Effect_EFFECT_READ}, nil)
		if got := f.invoked[len(f.invoked)-1].GetCall().GetEffect(); err != nil || got != want {
			t.Errorf("%s got effect %s, %v", action, got, err)
		}
	}
}

func TestInvokeAnswers(t *testing.T) {
	t.Parallel()
	type srv = connectorv1.Connector_InvokeServer
	for name, tt := range map[string]struct {
		action string
		answer func(srv) error
		out    string
		code   codes.Code
		text   string
	}{
		"rows": {"rows", func(s srv) error {
			return errors.Join(sendRows(s, "{\"a\":1}\n{\"a\":2}\n", 2), sendRows(s, "3\n", 1), result(s, []byte(` {"total":3}`)))
		}, `{"rows":[{"a":1},{"a":2},3],"total":3}`, 0, ""},
		"no rows":             {"rows", func(s srv) error { return result(s, []byte(`{"total":0}`)) }, `{"rows":[],"total":0}`, 0, ""},
		"rows, empty object":  {"rows", func(s srv) error { return errors.Join(sendRows(s, "1\n", 1), result(s, []byte(`{ }`))) }, `{"rows":[1]}`, 0, ""},
		"rows, no output":     {"rows", func(s srv) error { return errors.Join(sendRows(s, "1\n", 1), result(s, nil)) }, `{"rows":[1]}`, 0, ""},
		"no output":           {"echo", func(s srv) error { return result(s, nil) }, `null`, 0, ""},
		"names twice":         {"echo", func(s srv) error { return result(s, []byte(`{"a":1,"a":2}`)) }, `{"a":1,"a":2}`, 0, ""},
		"row is no JSON":      {"rows", func(s srv) error { return errors.Join(sendRows(s, "1\n{\n", 2), result(s, nil)) }, "", codes.Internal, "row 2 is not JSON"},
		"two rows in one":     {"rows", func(s srv) error { return errors.Join(sendRows(s, "1 2\n", 1), result(s, nil)) }, "", codes.Internal, "row 1 is not JSON"},
		"no JSON's space":     {"rows", func(s srv) error { return errors.Join(sendRows(s, "{}\v\n", 1), result(s, nil)) }, "", codes.Internal, "row 1 is not JSON"},
		"row is no UTF-8":     {"rows", func(s srv) error { return errors.Join(sendRows(s, "{}\n\"\xff\"\n", 2), result(s, nil)) }, "", codes.Internal, "row 2 is not JSON"},
		"half a surrogate":    {"rows", func(s srv) error { return errors.Join(sendRows(s, "\"\\ud800\"\n", 1), result(s, nil)) }, "", codes.Internal, "row 1 is not JSON"},
		"empty row":           {"rows", func(s srv) error { return errors.Join(sendRows(s, "1\n\n2\n", 3), result(s, nil)) }, "", codes.Internal, "row 2 is not JSON"},
		"rows of spaces":      {"rows", func(s srv) error { return errors.Join(sendRows(s, " 1\t\r\n 2", 2), result(s, nil)) }, "{\"rows\":[ 1\t\r, 2]}", 0, ""},
		"wrong count":         {"rows", func(s srv) error { return errors.Join(sendRows(s, "1\n", 2), result(s, nil)) }, "", codes.Internal, "1 rows says that it has 2"},
		"rows twice":          {"rows", func(s srv) error { return errors.Join(sendRows(s, "1\n", 1), result(s, []byte(`{"rows":[]}`))) }, "", codes.Internal, `"rows" beside`},
		"rows beside a list":  {"rows", func(s srv) error { return errors.Join(sendRows(s, "1\n", 1), result(s, []byte(`[]`))) }, "", codes.Internal, "not an object"},
		"output is no JSON":   {"echo", func(s srv) error { return result(s, []byte(`{"a":`)) }, "", codes.Internal, "not JSON"},
		"output is no UTF-8":  {"echo", func(s srv) error { return result(s, []byte("\"\xff\"")) }, "", codes.Internal, "not JSON"},
		"output is too large": {"echo", func(s srv) error { return result(s, bytes.Repeat([]byte(" "), plugin.MaxOutput+1)) }, "", codes.OutOfRange, "more than"},
		"no result":           {"echo", func(srv) error { return nil }, "", codes.Internal, "without a result"},
		"two results":         {"echo", func(s srv) error { return errors.Join(result(s, []byte(`1`)), result(s, []byte(`2`))) }, "", codes.Internal, "after the result"},
		"panic":               {"echo", func(srv) error { panic("oops") }, "", codes.Internal, "panicked: oops"},
		"blob": {"echo", func(s srv) error {
			return errors.Join(sendBlob(s, "a", "hel", false), sendRows(s, "1\n", 1), sendBlob(s, "", "lo", true), sendBlob(s, "b", "", true), result(s, []byte(`{"n":1}`)))
		}, `{"rows":[1],"blobs":[{"name":"a","media_type":"text/plain","size":5,"sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","data":"aGVsbG8="},` +
			`{"name":"b","media_type":"text/plain","size":0,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","data":""}],"n":1}`, codes.OK, ""},
		"blob without end":   {"echo", func(s srv) error { return errors.Join(sendBlob(s, "a", "x", false), result(s, nil)) }, "", codes.Internal, "a file without an end"},
		"blob without name":  {"echo", func(s srv) error { return errors.Join(sendBlob(s, "", "x", true), result(s, nil)) }, "", codes.Internal, "a file without a name"},
		"blob piece too big": {"echo", func(s srv) error { return sendBlob(s, "a", strings.Repeat("x", plugin.MaxBlobPiece+1), true) }, "", codes.OutOfRange, "a piece of a file"},
		"blobs twice": {"echo", func(s srv) error {
			return errors.Join(sendBlob(s, "a", "x", true), result(s, []byte(`{"blobs":1}`)))
		}, "", codes.Internal, `has a property "blobs"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := script(t, func(_ *connectorv1.InvokeRequest, s srv) error { return tt.answer(s) })
			out, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: tt.action}, nil)
			if tt.code == codes.OK {
				if err != nil || string(out) != tt.out {
					t.Errorf("got %s, %v", out, err)
				}
				return
			}
			e := wantError(t, err)
			if e.Code != tt.code || !strings.Contains(e.Error(), tt.text) || e.SideEffect != plugin.EffectUnknown || e.Origin == 0 {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestInvokeRefusesBeforeItSends(t *testing.T) {
	t.Parallel()
	c, f := script(t, nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		inv  catalog.Invocation
		code codes.Code
	}{
		"connection":   {t.Context(), catalog.Invocation{Connection: "b", Action: "echo"}, codes.NotFound},
		"action":       {t.Context(), catalog.Invocation{Connection: "a", Action: "eko"}, codes.InvalidArgument},
		"input":        {t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: make([]byte, plugin.MaxInput+1)}, codes.OutOfRange},
		"with prior":   {t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: make([]byte, plugin.MaxInput), Prior: make([]byte, plugin.MaxOutput)}, codes.OutOfRange},
		"cancelled":    {cancelled, catalog.Invocation{Connection: "a", Action: "echo"}, codes.Canceled},
		"not sendable": {t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Key: "\xff"}, codes.Internal},
	} {
		_, err := c.Invoke(tt.ctx, tt.inv, nil)
		if e := wantError(t, err); e.Code != tt.code || e.SideEffect != plugin.EffectNone || e.Origin == 0 {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	if n := len(f.invoked); n != 0 {
		t.Errorf("%d calls reached the connector", n)
	}
}

func TestInvokeStreamsToItsReceiver(t *testing.T) {
	t.Parallel()
	send := func(_ *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		return errors.Join(
			s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Progress{Progress: &connectorv1.Progress{Done: 1}}}),
			sendRows(s, "1\n2\n", 2),
			s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Blob{Blob: &connectorv1.Blob{Name: "f", Last: true}}}),
			result(s, []byte(`{"n":2}`)))
	}
	c, _ := script(t, send)
	var got []string
	out, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "rows"}, func(m *connectorv1.InvokeResponse) error {
		got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", m.GetKind()), "*connectorv1.InvokeResponse_"))
		return nil
	})
	if err != nil || string(out) != `{"n":2}` || strings.Join(got, " ") != "Progress Rows Blob" {
		t.Errorf("got %s, %v, %v", out, got, err)
	}
	full := errors.New("disk full")
	_, err = c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "rows"}, func(*connectorv1.InvokeResponse) error { return full })
	if e := wantError(t, err); !errors.Is(e, full) || e.Origin != plugin.OriginHost || e.SideEffect != plugin.EffectUnknown {
		t.Errorf("got %+v", e)
	}
}

func sendBlob(s connectorv1.Connector_InvokeServer, name, data string, last bool) error {
	return s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Blob{
		Blob: &connectorv1.Blob{Name: name, MediaType: "text/plain", Data: []byte(data), Last: last},
	}})
}

// Of a large file, and of many, an output shows what they are and not what is in them.
func TestLargeBlobsAreNotShownInPlace(t *testing.T) {
	t.Parallel()
	piece := strings.Repeat("x", plugin.MaxInlineBlob)
	c, _ := script(t, func(_ *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		errs := []error{sendBlob(s, "large", piece, false), sendBlob(s, "", "y", true)}
		for range 5 {
			errs = append(errs, sendBlob(s, "full", piece, true))
		}
		return errors.Join(append(errs, result(s, nil))...)
	})
	out, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Blobs []struct {
			Size int
			Data []byte
		}
	}
	if err := json.Unmarshal(out, &got); err != nil || len(got.Blobs) != 6 {
		t.Fatalf("%d files, %v", len(got.Blobs), err)
	}
	for i, b := range got.Blobs {
		wantSize, wantData := plugin.MaxInlineBlob, plugin.MaxInlineBlob
		if i == 0 {
			wantSize, wantData = plugin.MaxInlineBlob+1, 0
		}
		if i == 5 {
			wantData = 0 // a megabyte in all is enough
		}
		if b.Size != wantSize || len(b.Data) != wantData {
			t.Errorf("file %d: size %d, %d bytes shown", i, b.Size, len(b.Data))
		}
	}
}

func TestGatheredRowsAreCapped(t *testing.T) {
	t.Parallel()
	row := strings.Repeat("1", 1<<20-1) + "\n"
	c, _ := script(t, func(_ *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		for range 40 {
			if err := sendRows(s, row, 1); err != nil {
				return err
			}
		}
		return result(s, nil)
	})
	_, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "rows"}, nil)
	if e := wantError(t, err); e.Class() != plugin.ClassTooLarge || e.Reason != plugin.ReasonTooLarge {
		t.Errorf("got %+v", e)
	}
	n := 0
	if _, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "rows"}, func(*connectorv1.InvokeResponse) error { n++; return nil }); err != nil || n != 40 {
		t.Errorf("streamed: %d chunks, %v", n, err)
	}
}

// Large chunks follow each other in the same memory: what is made of one is made before the next.
func TestLargeChunksOfRows(t *testing.T) {
	t.Parallel()
	const chunks = 9
	chunk := func(i int) string {
		return strings.Repeat(`{"n":`+strconv.Itoa(i)+`,"text":"`+strings.Repeat(string(rune('a'+i)), 1000*i)+"\"}\n", 40)
	}
	c, _ := script(t, func(_ *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		for i := range chunks {
			if err := sendRows(s, chunk(i), 40); err != nil {
				return err
			}
		}
		return result(s, []byte(`{"done":true}`))
	})
	want := make([]string, 0, chunks)
	for i := range chunks {
		want = append(want, chunk(i))
	}
	var got []string
	out, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "rows"}, func(m *connectorv1.InvokeResponse) error {
		got = append(got, string(m.GetRows().GetNdjson()))
		return nil
	})
	if err != nil || string(out) != `{"done":true}` || !slices.Equal(got, want) {
		t.Errorf("streamed: %d chunks of %d bytes, %s, %v", len(got), len(strings.Join(got, "")), out, err)
	}
	out, err = c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "rows"}, nil)
	all := `{"rows":[` + strings.ReplaceAll(strings.TrimSuffix(strings.Join(want, ""), "\n"), "\n", ",") + `],"done":true}`
	if err != nil || string(out) != all {
		t.Errorf("gathered: %d bytes of %d, %v", len(out), len(all), err)
	}
}

func TestConnectorErrorsPassUnchanged(t *testing.T) {
	t.Parallel()
	want := &plugin.Error{
		Code: codes.ResourceExhausted, Message: "slow down", Domain: "jira", RetryAfter: 3 * time.Second, Origin: plugin.OriginDownstream,
		SideEffect: plugin.EffectNone, HTTPStatus: 429, RequestID: "r1",
	}
	c, _ := script(t, func(*connectorv1.InvokeRequest, connectorv1.Connector_InvokeServer) error { return want })
	_, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "do"}, nil)
	e := wantError(t, err)
	if e.Message != want.Message || e.Class() != plugin.ClassThrottled || e.RetryAfter != want.RetryAfter || e.HTTPStatus != 429 || e.RequestID != "r1" || e.SideEffect != plugin.EffectNone || e.Domain != "jira" {
		t.Errorf("got %+v", e)
	}
}

func TestDeadlineOfACallInFlight(t *testing.T) {
	t.Parallel()
	c, _ := script(t, func(_ *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		<-s.Context().Done()
		return s.Context().Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := c.Invoke(ctx, catalog.Invocation{Connection: "a", Action: "do"}, nil)
	e := wantError(t, err)
	if e.Code != codes.DeadlineExceeded || e.SideEffect != plugin.EffectUnknown || e.Class() != plugin.ClassUncertain || !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("got %+v", e)
	}
}

func TestLostConfigurationIsReplayedOnce(t *testing.T) {
	t.Parallel()
	c, f := script(t, nil)
	f.webhook = func(context.Context, *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
		return &connectorv1.HandleWebhookResponse{}, nil
	}
	f.consume = func(o *connectorv1.Open, s connectorv1.Connector_ConsumeServer) error {
		if o.GetMode() == connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE {
			return answerHints(s)
		}
		return nil
	}
	for name, call := range map[string]func() error{
		"invoke": func() error {
			return second(c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: []byte(`1`)}, nil))
		},
		"check": func() error { return second(c.Check(t.Context(), "a")) },
		"webhook": func() error {
			return second(c.Webhook(t.Context(), "a", "alerts", &connectorv1.HandleWebhookRequest{}))
		},
		"poll":    func() error { return c.Poll(t.Context(), "a", "alerts", nil, nil) },
		"resolve": func() error { return second(c.Resolve(t.Context(), "a", "alerts", []*connectorv1.Hint{{Id: "1"}})) },
	} {
		f.lose()
		before := strings.Count(f.history(), "a")
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := strings.Count(f.history(), "a") - before; n != 1 {
			t.Errorf("%s: configured %d times", name, n)
		}
	}
	// A connector that never gets it is not asked for ever.
	f.invoke = func(*connectorv1.InvokeRequest, connectorv1.Connector_InvokeServer) error {
		return &plugin.Error{Code: codes.FailedPrecondition, Reason: plugin.ReasonConfigMismatch, SideEffect: plugin.EffectNone, Origin: plugin.OriginPlugin}
	}
	_, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo"}, nil)
	if e := wantError(t, err); e.Reason != plugin.ReasonConfigMismatch || e.SideEffect != plugin.EffectNone {
		t.Errorf("got %+v", e)
	}
}

func TestWebhookAnswersAreChecked(t *testing.T) {
	t.Parallel()
	type resp = connectorv1.HandleWebhookResponse
	for name, tt := range map[string]struct {
		resp *resp
		text string // empty: it passes
	}{
		"plain":        {&resp{Status: 202, Headers: map[string]string{"X-A": "b"}, Hints: []*connectorv1.Hint{{Id: "1", Data: []byte(`{}`)}}}, ""},
		"status":       {&resp{Status: 99}, "HTTP status 99"},
		"header split": {&resp{Headers: map[string]string{"X-A": "b\r\nX-C: d"}}, "header"},
		"header name":  {&resp{Headers: map[string]string{"X A": "b"}}, "header"},
		"body":         {&resp{Body: make([]byte, plugin.DefaultHookBody+1)}, "a body of"},
		"hint id":      {&resp{Hints: []*connectorv1.Hint{{}}}, "hint without an id"},
		"hint size":    {&resp{Hints: []*connectorv1.Hint{{Id: "1", Data: make([]byte, plugin.MaxHint+1)}}}, "hint \"1\" has"},
		"hint JSON":    {&resp{Hints: []*connectorv1.Hint{{Id: "1", Data: []byte("x")}}}, "not JSON"},
		"event size":   {&resp{Events: []*connectorv1.Event{{Id: "e", Data: make([]byte, plugin.MaxEvent+1)}}}, "event \"e\" has"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, f := script(t, nil)
			f.webhook = func(context.Context, *connectorv1.HandleWebhookRequest) (*resp, error) { return tt.resp, nil }
			_, err := c.Webhook(t.Context(), "a", "alerts", &connectorv1.HandleWebhookRequest{Body: []byte("x")})
			if tt.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := wantError(t, err); !strings.Contains(e.Error(), tt.text) || e.SideEffect != plugin.EffectNone {
				t.Errorf("got %+v", e)
			}
		})
	}
	t.Run("late", func(t *testing.T) {
		t.Parallel()
		f := newFake("jira")
		f.webhook = func(ctx context.Context, _ *connectorv1.HandleWebhookRequest) (*resp, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c := newCatalog(t, catalog.Options{Timing: catalog.Timing{Webhook: 20 * time.Millisecond}}, f)
		configure(t, c, conn("a", "jira", `{}`))
		_, err := c.Webhook(t.Context(), "a", "alerts", &connectorv1.HandleWebhookRequest{})
		if e := wantError(t, err); e.Code != codes.DeadlineExceeded || e.Class() != plugin.ClassTimeout {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("body too large", func(t *testing.T) {
		t.Parallel()
		c, _ := script(t, nil)
		_, err := c.Webhook(t.Context(), "a", "alerts", &connectorv1.HandleWebhookRequest{Body: make([]byte, plugin.MaxHookBody+1)})
		if e := wantError(t, err); e.Class() != plugin.ClassTooLarge {
			t.Errorf("got %+v", e)
		}
	})
}

func FuzzOutputIsCheckedBeforeItIsUsed(f *testing.F) {
	for _, s := range []string{`{}`, `{"rows":1}`, `null`, ` {"a":[1,2]} `, `{"a":1,"rows":[]}`, "\"\xff\"", `[`} {
		f.Add([]byte(s), "1\n2\n", uint8(2))
	}
	k := newFake("jira")
	type answer struct {
		out    []byte
		ndjson string
		count  int
	}
	answers := make(chan answer, 1)
	k.invoke = func(_ *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		a := <-answers
		if a.ndjson != "" {
			if err := sendRows(s, a.ndjson, a.count); err != nil {
				return err
			}
		}
		return result(s, a.out)
	}
	c := newCatalog(f, catalog.Options{}, k)
	configure(f, c, conn("a", "jira", `{}`))
	f.Fuzz(func(t *testing.T, out []byte, ndjson string, count uint8) {
		answers <- answer{out, strings.ToValidUTF8(ndjson, ""), int(count)}
		got, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "rows"}, nil)
		if err != nil {
			wantError(t, err)
			return
		}
		var v struct{ Rows []json.RawMessage }
		if err := json.Unmarshal(got, &v); err != nil {
			t.Fatalf("output %q with rows %q became %q: %v", out, ndjson, got, err)
		}
	})
}
