package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// The connector under judgement: everything that the protocol has, against a vendor with three endpoints.

type boxConfig struct {
	BaseURL string     `json:"base_url" cw:"required,format=uri" doc:"Where it is"`
	Token   sdk.Secret `json:"token" cw:"required" doc:"Token"`
}

type boxInput struct {
	Name string `json:"name" cw:"required,maxlen=40" pattern:"^[a-z]{2,9}$" doc:"Name"`
}

type boxOutput struct {
	ID   string `json:"id" doc:"Id"`
	Name string `json:"name" doc:"Name"`
}

type boxRow struct {
	N int `json:"n" doc:"Number"`
}

type boxSum struct {
	Total int `json:"total" doc:"How many"`
}

type boxCursor struct {
	Next int `json:"next"`
}

type box struct{ api *rest.Client }

func (b *box) get(ctx context.Context, in boxInput) (out boxOutput, err error) {
	err = b.api.Get(ctx, "/things/"+in.Name, nil, &out)
	return out, err
}

func (b *box) ensure(ctx context.Context, in boxInput) (out boxOutput, err error) {
	call := sdk.CallFrom(ctx)
	if call.DryRun {
		return boxOutput{ID: "none", Name: in.Name}, b.api.Get(ctx, "/keys/"+call.Key, nil, nil)
	}
	if call.Resolve {
		if err := b.api.Get(ctx, "/keys/"+call.Key, nil, &out); err != nil {
			return out, sdk.Unresolved("not found: %w", err)
		}
		return out, nil
	}
	return out, b.api.Send(ctx, http.MethodPut, "/keys/"+call.Key, in, &out)
}

func (b *box) list(ctx context.Context, in boxInput, emit func(boxRow) error) (boxSum, error) {
	if _, err := b.get(ctx, in); err != nil {
		return boxSum{}, err
	}
	for n := range 10 {
		if err := emit(boxRow{n}); err != nil {
			return boxSum{}, err
		}
	}
	return boxSum{10}, nil
}

func (b *box) export(ctx context.Context, in boxInput) (boxSum, error) {
	return boxSum{1}, sdk.SendBlob(ctx, in.Name+".txt", "text/plain", strings.NewReader("a thing"))
}

const boxEvents = 3

func (b *box) poll(ctx context.Context, cur boxCursor, emit func(sdk.Page[boxCursor]) error) error {
	if _, err := b.get(ctx, boxInput{"poll"}); err != nil {
		return err
	}
	for cur.Next < boxEvents {
		cur.Next++
		if err := emit(sdk.Page[boxCursor]{Events: []sdk.Event{alert(cur.Next)}, Cursor: cur}); err != nil {
			return err
		}
	}
	return nil
}

// stream sends what there is and waits for more.
func (b *box) stream(ctx context.Context, cur boxCursor, emit func(sdk.Page[boxCursor]) error) error {
	if err := b.poll(ctx, cur, emit); err != nil {
		return err
	}
	sdk.Idle(ctx, time.Minute, nil)
	<-ctx.Done()
	return ctx.Err()
}

func (b *box) hook(_ context.Context, r *sdk.HookRequest) (*sdk.HookResponse, error) {
	var m struct {
		Thing string `json:"thing"`
	}
	err := json.Unmarshal(r.Body, &m)
	if bad := err != nil || m.Thing == ""; bad {
		return &sdk.HookResponse{Status: http.StatusBadRequest}, nil
	}
	return &sdk.HookResponse{Hints: []sdk.Hint{{ID: m.Thing, Data: r.Body}}}, nil
}

func (b *box) resolve(ctx context.Context, h sdk.Hint) (sdk.Found, error) {
	var m struct {
		Thing string `json:"thing"`
	}
	if json.Unmarshal(h.Data, &m) != nil || m.Thing == "" {
		return sdk.Found{}, sdk.Invalid("", "hint %s cannot be read", h.ID)
	}
	_, err := b.get(ctx, boxInput{m.Thing})
	return sdk.Found{}, err
}

func (b *box) check(ctx context.Context) []sdk.Probe {
	if _, err := b.get(ctx, boxInput{"check"}); err != nil {
		return []sdk.Probe{{Name: "reach", Status: sdk.ProbeFailed, Summary: err.Error(), Remedy: "switch it on"}}
	}
	return []sdk.Probe{{Name: "reach", Status: sdk.ProbeOK}}
}

func newBox() *sdk.Connector {
	c := sdk.New("box", "1.2.3", "A box for tests.", func(_ context.Context, cfg boxConfig, _ sdk.Env) (*box, error) {
		api, err := rest.New(rest.Options{BaseURL: cfg.BaseURL, API: "Box", Auth: rest.Bearer(cfg.Token)})
		return &box{api}, err
	}).Egress("{config.base_url}")
	sdk.Action(c, "thing.get", "Get a thing.", (*box).get, sdk.Read, sdk.Example("By name", boxInput{"anvil"}))
	sdk.Action(c, "thing.ensure", "Make a thing exist.", (*box).ensure, sdk.Keyed, sdk.ResolveWindow(time.Second), sdk.DryRuns())
	sdk.Rows(c, "thing.list", "List things.", (*box).list, sdk.Read)
	sdk.Action(c, "thing.export", "Get a thing as a file.", (*box).export, sdk.Read, sdk.Blobs())
	sdk.AddTrigger(c, sdk.Trigger[*box, boxCursor]{
		Name: "things", Summary: "New things.", Emits: []string{event.TypeAlert},
		Poll: (*box).poll, Hook: (*box).hook, Resolve: (*box).resolve,
	})
	sdk.AddTrigger(c, sdk.Trigger[*box, boxCursor]{
		Name: "ticks", Summary: "Things as they come.", Emits: []string{event.TypeAlert}, Stream: (*box).stream,
	})
	sdk.OnCheck(c, (*box).check)
	return c
}

// alert makes the nth event, the same every time.
func alert(n int) sdk.Event {
	at := time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC)
	subject := fmt.Sprintf("thing-%d", n)
	e := sdk.Event{
		Source: "https://box.example", Type: event.TypeAlert, Subject: subject, Time: at, PartitionKey: "box/" + subject,
		Rev: event.Rev(at), Digest: event.Digest(map[string]any{"subject": subject}),
	}
	e.ID = event.ComputeID(e.Source, e.Subject, e.Rev, e.Digest)
	b, err := json.Marshal(map[string]any{
		"class_uid": 2004, "category_uid": 2, "activity_id": 1, "type_uid": 200401, "severity_id": 3, "time": at.UnixMilli(),
		"metadata":     map[string]any{"version": event.DataVersion, "product": map[string]any{"vendor_name": "box"}, "uid": e.ID},
		"finding_info": map[string]any{"uid": subject, "title": "t"},
	})
	if err != nil {
		panic(err) // it is a constant
	}
	e.Data = b
	return e
}

const boxToken = "box-token-0123456789"

// boxVendor is a working vendor; its configuration is the connector's.
func boxVendor(t *testing.T) json.RawMessage {
	t.Helper()
	var mu sync.Mutex
	keys := map[string]boxOutput{}
	answer := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /things/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, boxOutput{ID: "7", Name: r.PathValue("name")})
	})
	mux.HandleFunc("/keys/{key}", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key := r.PathValue("key")
		if r.Method == http.MethodPut {
			if _, ok := keys[key]; !ok {
				keys[key] = boxOutput{ID: fmt.Sprint(len(keys)), Name: "x"}
			}
		}
		out, ok := keys[key]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer(w, out)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return fmt.Appendf(nil, `{"base_url":%q,"token":%q}`, srv.URL, boxToken)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
