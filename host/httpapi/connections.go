package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// maxState is the most that a connection may keep.
const maxState = 512 << 10

// ProbeRecord is what one live probe of a connection found.
type ProbeRecord struct {
	Name    string `json:"name"`
	Status  string `json:"status"` // ok, warning, failed, skipped
	Summary string `json:"summary,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	// Expires is when what was probed lapses, if it does.
	Expires time.Time `json:"expires,omitzero"`
}

// NewProbeRecord makes the record of a probe. A status that is not known is a warning.
func NewProbeRecord(p *connectorv1.Probe) ProbeRecord {
	r := ProbeRecord{Name: p.GetName(), Status: host.ProbeStatus(p.GetStatus()), Summary: p.GetSummary(), Remedy: p.GetRemedy()}
	if p.GetExpires() != nil {
		r.Expires = p.GetExpires().AsTime()
	}
	return r
}

// check runs the live probes of a connection. That they could not run is an answer too.
func (a *api) check(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("connection")
	if !a.known(name) {
		return fmt.Errorf("connection %s: %w", name, store.ErrNotFound)
	}
	probes, err := a.host.Check(r.Context(), name)
	out := struct {
		Probes []ProbeRecord `json:"probes"`
		Error  string        `json:"error,omitempty"`
		Class  plugin.Class  `json:"class,omitempty"`
	}{Probes: []ProbeRecord{}}
	if e := plugin.FromError(err); e != nil {
		out.Error, out.Class = e.Error(), e.Class()
	}
	for _, p := range probes {
		out.Probes = append(out.Probes, NewProbeRecord(p))
	}
	return answer(w, out)
}

// setState puts what somebody else than the connector made, such as a sign-in, in the place of what a connection keeps.
// The body is the state as it is; without one the state is forgotten.
func (a *api) setState(w http.ResponseWriter, r *http.Request) error {
	state, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxState))
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return invalid("the state has more than %d bytes", tooLong.Limit)
	}
	if err != nil {
		return err
	}
	if r.Method == http.MethodPut && len(state) == 0 {
		return invalid("there is no state in the body; DELETE forgets the one there is")
	}
	if r.Method == http.MethodDelete {
		state = nil
	}
	if err := a.host.SetState(r.Context(), r.PathValue("connection"), state); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) known(connection string) bool {
	_, ok := a.host.Connection(connection)
	return ok
}
