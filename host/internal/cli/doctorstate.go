package cli

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/store/sqlite"
)

// stateful deals with connections that keep something, such as a refresh token that is good for one use. Whoever uses it
// must keep what comes in its place: the running host, if there is one, else the doctor, who then holds the data file.
type stateful struct {
	d      *doctor
	reader *sqlite.Store // of a data file that is there
	file   *sqlite.Store // held for writing, while no host is
	keeper *host.StateKeeper
	why    string // there is no keeper
}

func (d *doctor) keeper(ctx context.Context) *stateful {
	s := &stateful{d: d}
	st, err := sqlite.OpenReadOnly(ctx, d.file.Store.Path)
	if err != nil {
		return s // said before; or there is none yet
	}
	s.reader = st
	return s
}

func (s *stateful) close() {
	for _, st := range []*sqlite.Store{s.reader, s.file} {
		if st != nil {
			_ = st.Close() // every write was durable when it returned
		}
	}
}

// give gives a connection what is kept for it. False means that it is not to be tried here.
func (s *stateful) give(ctx context.Context, c *catalog.Connection) bool {
	if s.reader == nil {
		return true
	}
	switch has, err := host.HasState(ctx, s.reader, c.Name); {
	case err != nil:
		s.d.add(Finding{Area: "connection", Name: c.Name, Check: "state", Status: statusFailed, Summary: err.Error()})
		return false
	case !has:
		return true
	case s.d.running:
		s.askHost(ctx, c.Name)
		return false
	}
	if s.keeper == nil && s.why == "" {
		s.open(ctx)
	}
	if s.keeper == nil {
		s.d.add(Finding{
			Area: "connection", Name: c.Name, Check: "state", Status: statusFailed,
			Summary: "what is kept for it, such as a sign-in, cannot be opened: " + s.why,
			Remedy:  "give the host back the key that it had; if that is lost: casewire state drop " + c.Name + ", and sign in again",
		})
		return false
	}
	state, err := s.keeper.State(ctx, host.Connection{Name: c.Name, Connector: c.Connector, Tenant: c.Tenant})
	if err != nil {
		s.d.add(Finding{Area: "connection", Name: c.Name, Check: "state", Status: statusFailed, Summary: err.Error()})
		return false
	}
	c.State = state
	return true
}

// open takes hold of the data file, so that no host starts with what the doctor is about to use up.
func (s *stateful) open(ctx context.Context) {
	key, err := stateKeyOf(s.d.file, s.d.secrets, false)
	if err != nil {
		s.why = keyError(s.d.file, err).Error()
		return
	}
	st, err := sqlite.Open(ctx, s.d.file.Store.Path, sqlite.Options{})
	if err != nil {
		s.why = err.Error()
		return
	}
	if s.keeper, err = host.NewStateKeeper(st, key); err != nil {
		s.why = err.Error()
	}
	s.file = st
	s.d.secrets.Redactor.Add(key)
}

// keep keeps what a connector hands out while it is tried. What came without anything kept before is not kept: a try
// leaves nothing behind.
func (s *stateful) keep(c catalog.Connection, state []byte) {
	if s.keeper == nil || len(c.State) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.keeper.Keep(ctx, host.Connection{Name: c.Name, Connector: c.Connector, Tenant: c.Tenant}, state); err != nil {
		s.d.add(Finding{
			Area: "connection", Name: c.Name, Check: "state", Status: statusFailed,
			Summary: "what it is to keep from now on could not be kept: " + err.Error(), Remedy: "sign in again",
		})
	}
}

// askHost has the running host try a connection.
func (s *stateful) askHost(ctx context.Context, connection string) {
	o, err := newOperator(ctx, s.d.path, s.d.file.Store.Path)
	var found struct {
		Probes []httpapi.ProbeRecord `json:"probes"`
		Error  string                `json:"error"`
	}
	if err == nil {
		defer o.close()
		err = o.ask(ctx, http.MethodPost, "/v1/connections/"+url.PathEscape(connection)+"/check", http.NoBody, &found)
	}
	switch {
	case err != nil:
		s.d.add(Finding{
			Area: "connection", Name: connection, Check: "probes", Status: statusSkipped,
			Summary: "only the running host can try it, since it holds its sign-in, and it was not to be asked: " + err.Error(),
		})
	case found.Error != "":
		s.d.add(Finding{Area: "connection", Name: connection, Check: "probes", Status: statusFailed, Summary: s.d.secrets.Redactor.String(found.Error)})
	}
	for _, p := range found.Probes {
		s.d.probe(connection, p)
	}
}
