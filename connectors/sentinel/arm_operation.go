package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// How often a long-running operation is looked at when the API does not say.
const (
	operationLeast = 50 * time.Millisecond
	operationPace  = time.Second
	operationSlow  = 15 * time.Second
	operationParts = 100 // progress is told in these
)

// follow waits for the end of a long-running operation that resp began, by whichever way resp names: the address in
// Azure-AsyncOperation, the one in Location, or else the state that look returns. Links are followed as they are; the
// credential goes along only to the API's own address.
func (a *armClient) follow(ctx context.Context, resp *rest.Response, what string, look func() (state, fault string, err error)) error {
	link, location := resp.Header.Get("Azure-AsyncOperation"), false
	if link == "" {
		link, location = resp.Header.Get("Location"), true
	}
	wait := rest.RetryAfter(resp.Header, time.Now())
	named := resp.Header.Get("Retry-After") != ""
	for n := 1; ; n++ {
		if !named {
			wait = min(operationPace<<min(n-1, 5), operationSlow)
		}
		if err := pause(ctx, max(wait, operationLeast)); err != nil { // whatever the API says: it is not asked in a tight loop
			return sdk.Uncertain("%s: the operation was accepted and had not ended when time was over; call again to wait on", what)
		}
		var state, fault string
		var err error
		if link == "" {
			state, fault, err = look()
		} else {
			state, fault, wait, named, err = a.operation(ctx, link, location)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		switch strings.ToLower(state) {
		case "succeeded":
			sdk.Progress(ctx, operationParts, operationParts, what+": done")
			return nil
		case "failed", "canceled", "cancelled":
			return sdk.Unavailable("%s: the operation %s: %s", what, strings.ToLower(state), fault)
		default:
			// Nobody knows how long it takes: this creeps towards the end.
			sdk.Progress(ctx, uint64(operationParts-operationParts/(n+1)), operationParts, what+": "+strings.ToLower(state))
		}
	}
}

// operation looks at an operation once.
func (a *armClient) operation(ctx context.Context, link string, location bool) (state, fault string, wait time.Duration, named bool, err error) {
	resp, err := a.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: link})
	if err != nil {
		if e, ok := asSDK(err); ok && location && e.HTTPStatus >= 400 && e.HTTPStatus < 500 && e.HTTPStatus != http.StatusTooManyRequests {
			return "failed", e.Message, 0, false, nil
		}
		return "", "", 0, false, err
	}
	wait, named = rest.RetryAfter(resp.Header, time.Now()), resp.Header.Get("Retry-After") != ""
	var op struct {
		Status string `json:"status"`
		Error  struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
		Properties struct {
			State string `json:"provisioningState"`
		} `json:"properties"`
	}
	switch {
	case resp.Status == http.StatusAccepted:
		return "inprogress", "", wait, named, nil
	case location && (resp.Status == http.StatusNoContent || len(resp.Body) == 0):
		return "succeeded", "", 0, false, nil
	}
	if err := resp.JSON(&op); err != nil {
		return "", "", 0, false, err
	}
	if location { // the address of the thing itself, once it is there
		if s := op.Properties.State; s != "" {
			return s, "", wait, named, nil
		}
		return "succeeded", "", 0, false, nil
	}
	if op.Status == "" {
		return "", "", 0, false, sdk.Unavailable("the operation does not say its state: %.200s", resp.Body)
	}
	return op.Status, strings.TrimPrefix(op.Error.Code+": "+op.Error.Message, ": "), wait, named, nil
}

// asText writes a value of a row the way a file would have it.
func asText(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
