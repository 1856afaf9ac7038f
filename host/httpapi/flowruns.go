package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

const (
	// maxWait bounds how long a caller can wait for a run.
	maxWait = 5 * time.Minute
	// inlineOutput is the largest output that a run's record has in it; a larger one is asked for by itself.
	inlineOutput = 256 << 10
	// pageItems is how many items of a list are given at a time unless asked for otherwise.
	pageItems = 1000
)

// callFlow starts a run of a flow: POST /v1/flows/{flow}/runs?wait=30s with the flow's inputs as a JSON object. It answers
// 200 with the run when it ended within wait, else 202 with the run as it is and its address. With an Idempotency-Key, a
// repeat is answered with the run that the first call made.
func (a *api) callFlow(w http.ResponseWriter, r *http.Request) error {
	wait := time.Duration(0)
	if s := r.URL.Query().Get("wait"); s != "" {
		var err error
		if wait, err = time.ParseDuration(s); err != nil || wait < 0 || wait > maxWait {
			return invalid("wait=%s: give a duration up to %s, such as 30s", s, maxWait)
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, plugin.MaxInput))
	if big := (*http.MaxBytesError)(nil); errors.As(err, &big) {
		fail(w, http.StatusRequestEntityTooLarge, "too large", fmt.Sprintf("the body has more than %d bytes, which is what the inputs of a run can have: call the flow several times with a part each, or pack what it takes packed", plugin.MaxInput))
		return nil
	}
	if err != nil {
		return invalid("the body cannot be read: %v", err)
	}
	run, known, err := a.host.CallFlow(r.Context(), host.FlowCall{Flow: r.PathValue("flow"), Input: body, Key: r.Header.Get("Idempotency-Key")})
	switch {
	case errors.Is(err, host.ErrNoFlow):
		return fmt.Errorf("%w: %w", store.ErrNotFound, err)
	case errors.Is(err, host.ErrBadCall):
		return invalid("%v", err)
	case errors.Is(err, host.ErrKeyReused):
		fail(w, http.StatusConflict, "Idempotency-Key used before", err.Error())
		return nil
	case errors.Is(err, store.ErrFull):
		w.Header().Set("Retry-After", "30")
		fail(w, http.StatusServiceUnavailable, "not enough space", err.Error())
		return nil
	case err != nil:
		return err
	}
	if wait > 0 {
		if run, err = a.host.AwaitRun(r.Context(), run.ID, wait); err != nil {
			return err
		}
	}
	if known {
		w.Header().Set("Idempotent-Replay", "true")
	}
	w.Header().Set("Location", "/v1/runs/"+run.ID)
	w.Header().Set("Content-Type", "application/json")
	if run.State.Live() {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusAccepted)
	}
	return json.NewEncoder(w).Encode(light(NewRunRecord(run, nil)))
}

// light takes outputs that are too large out of a record, and says where they are.
func light(rec RunRecord) RunRecord {
	at := "/v1/runs/" + url.PathEscape(rec.ID) + "/output"
	if len(rec.Output) > inlineOutput {
		rec.OutputBytes, rec.OutputRef, rec.Output = len(rec.Output), at, nil
	}
	for i := range rec.Steps {
		if s := &rec.Steps[i]; len(s.Output) > inlineOutput {
			s.OutputBytes, s.OutputRef, s.Output = len(s.Output), at+"?step="+url.QueryEscape(s.Path), nil
		}
	}
	return rec
}

// output gives the output of a run, or of one of its steps: whole, or a value in it by its path, and of a list a page:
// GET /v1/runs/{id}/output?step=query&path=rows&offset=0&limit=1000.
func (a *api) output(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	run, err := a.store.Run(r.Context(), r.PathValue("id"))
	if err != nil {
		return fmt.Errorf("run %s: %w", r.PathValue("id"), err)
	}
	out := run.Output
	if step := q.Get("step"); step != "" {
		steps, err := a.store.Steps(r.Context(), run.ID)
		if err != nil {
			return err
		}
		out = nil
		for _, s := range steps {
			if s.Path == step {
				out = s.Output
			}
		}
	}
	if len(out) == 0 {
		return fmt.Errorf("run %s has no output there: %w", run.ID, store.ErrNotFound)
	}
	value, err := within(out, q.Get("path"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	if !q.Has("offset") && !q.Has("limit") {
		_, err = w.Write(value)
		return err
	}
	offset, oerr := strconv.Atoi("0" + q.Get("offset"))
	n := pageItems
	var lerr error
	if s := q.Get("limit"); s != "" {
		n, lerr = strconv.Atoi(s)
	}
	if oerr != nil || lerr != nil || n < 1 || n > maxLimit || len(value) == 0 || value[0] != '[' {
		return invalid("a page is of a list: give path, offset from 0 and limit from 1 to %d", maxLimit)
	}
	items, total, err := pageOf(value, offset, n)
	if err != nil {
		return err
	}
	next := ""
	if offset+n < total {
		q.Set("offset", strconv.Itoa(offset+n))
		q.Set("limit", strconv.Itoa(n))
		next = r.URL.Path + "?" + q.Encode()
	}
	return answer(w, struct {
		Items  json.RawMessage `json:"items"`
		Offset int             `json:"offset"`
		Total  int             `json:"total"`
		Next   string          `json:"next,omitempty"`
	}{items, offset, total, next})
}

// within finds a value by the names on the way to it, with dots between.
func within(v json.RawMessage, path string) (json.RawMessage, error) {
	if path == "" {
		return v, nil
	}
	for name := range strings.SplitSeq(path, ".") {
		d := jsontext.NewDecoder(bytes.NewReader(v), jsontext.AllowDuplicateNames(true))
		found := false
		if t, err := d.ReadToken(); err == nil && t.Kind() == '{' {
			for !found && d.PeekKind() == '"' {
				t, err := d.ReadToken()
				if err != nil {
					return nil, err
				}
				this := t.String() == name // before the decoder goes on
				member, err := d.ReadValue()
				if err != nil {
					return nil, err
				}
				if found = this; found {
					v = json.RawMessage(member.Clone())
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("the output has no %q: %w", path, store.ErrNotFound)
		}
	}
	return v, nil
}

// pageOf cuts a page out of a list and counts it.
func pageOf(list json.RawMessage, offset, n int) (page json.RawMessage, total int, err error) {
	d := jsontext.NewDecoder(bytes.NewReader(list), jsontext.AllowDuplicateNames(true))
	if _, err := d.ReadToken(); err != nil {
		return nil, 0, err
	}
	page = append(page, '[')
	for d.PeekKind() != ']' {
		v, err := d.ReadValue()
		if err != nil {
			return nil, 0, err
		}
		if total >= offset && total < offset+n {
			if len(page) > 1 {
				page = append(page, ',')
			}
			page = append(page, v...)
		}
		total++
	}
	return append(page, ']'), total, nil
}
