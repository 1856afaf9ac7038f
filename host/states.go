package host

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/seal"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// ReasonStateUnreadable is the reason of a connection's error whose kept state cannot be opened.
const ReasonStateUnreadable = "STATE_UNREADABLE"

// ErrNoStateKey means that there is no key to keep a connection's state with.
var ErrNoStateKey = errors.New("host: connection state cannot be kept without a key; give one as Options.StateKey")

const (
	// keepWithin is how long a call waits until the state that it brought is durable; keepAgain is how soon it is tried again
	// if that failed.
	keepWithin = 10 * time.Second
	keepAgain  = 2 * time.Second
)

// StateKeeper keeps the state of connections in a store, sealed. A connection has one state; the newest replaces the others.
type StateKeeper struct {
	store store.Meta
	box   *seal.Box
}

// NewStateKeeper makes one. The key is 32 random bytes in hexadecimal or base64.
func NewStateKeeper(st store.Meta, key plugin.Secret) (*StateKeeper, error) {
	if key.IsZero() {
		return nil, ErrNoStateKey
	}
	raw, err := seal.ParseKey(key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("host: state key: %w", err)
	}
	box, err := seal.New(raw)
	if err != nil {
		return nil, err
	}
	return &StateKeeper{store: st, box: box}, nil
}

// StateKeyFile reads the key in a file that only its owner may read, and makes one where there is none.
func StateKeyFile(path string) (plugin.Secret, error) {
	key, err := seal.KeyFile(path)
	return plugin.NewSecret(hex.EncodeToString(key)), err
}

// ReadStateKeyFile is StateKeyFile that makes nothing; a missing file is fs.ErrNotExist.
func ReadStateKeyFile(path string) (plugin.Secret, error) {
	key, err := seal.ReadKeyFile(path)
	if err != nil {
		return plugin.Secret{}, err
	}
	return plugin.NewSecret(hex.EncodeToString(key)), nil
}

// stateKey is where a connection's state is kept.
func stateKey(connection string) string { return "state/" + connection }

// HasState says whether a state is kept for a connection, whoever can open it.
func HasState(ctx context.Context, st store.Meta, connection string) (bool, error) {
	b, err := st.Get(ctx, stateKey(connection))
	return len(b) > 0, err
}

// DropState forgets the state of a connection of which no host is in charge.
func DropState(ctx context.Context, st store.Meta, connection string) error {
	if err := st.Put(ctx, stateKey(connection), nil); err != nil {
		return fmt.Errorf("drop the state of connection %s: %w", connection, err)
	}
	return nil
}

// State returns what is kept for a connection; nil if there is nothing, or if it was another connector's or tenant's by
// that name. An error that is a *plugin.Error says that there is something that cannot be opened, and what to do.
func (k *StateKeeper) State(ctx context.Context, c Connection) ([]byte, error) {
	kept, err := k.store.Get(ctx, stateKey(c.Name))
	if err != nil {
		return nil, fmt.Errorf("read the state of connection %s: %w", c.Name, err)
	}
	if len(kept) == 0 {
		return nil, nil
	}
	plain, err := k.box.Open(owner(c), kept)
	switch {
	case err == nil:
		return plain, nil
	case errors.Is(err, seal.ErrOther):
		return nil, nil
	}
	todo := "drop it with `casewire state drop " + c.Name + "` and sign in again (`casewire auth login " + c.Name + "`)"
	if errors.Is(err, seal.ErrOtherKey) {
		todo = "give the host back the key that it had (store.key, or the file beside the data file); if that is lost, " + todo
	}
	e := plugin.Errorf(codes.FailedPrecondition, "what is kept for it, such as its sign-in, cannot be opened: %w; %s", err, todo)
	e.Domain, e.Origin, e.SideEffect, e.Reason = plugin.Domain, plugin.OriginConfig, plugin.EffectNone, ReasonStateUnreadable
	return nil, e
}

// Keep makes a state durable.
func (k *StateKeeper) Keep(ctx context.Context, c Connection, state []byte) error {
	if len(state) == 0 {
		return DropState(ctx, k.store, c.Name)
	}
	sealed, err := k.box.Seal(owner(c), state)
	if err == nil {
		err = k.store.Put(ctx, stateKey(c.Name), sealed)
	}
	if err != nil {
		return fmt.Errorf("keep the state of connection %s: %w", c.Name, err)
	}
	return nil
}

func owner(c Connection) seal.Owner {
	return seal.Owner{Connection: c.Name, Connector: c.Connector, Tenant: c.Tenant}
}

// states keeps what the connectors of a host hand out.
type states struct {
	keeper *StateKeeper // nil: without a key
	log    *slog.Logger

	mu      sync.Mutex
	owed    map[string]owed // what could not be made durable yet, by connection
	waiting chan struct{}
	warned  bool
}

type owed struct {
	conn  Connection
	state []byte
}

func newStates(st store.Meta, key plugin.Secret, log *slog.Logger) (*states, error) {
	s := &states{log: log, owed: map[string]owed{}, waiting: make(chan struct{}, 1)}
	if key.IsZero() {
		return s, nil
	}
	var err error
	s.keeper, err = NewStateKeeper(st, key)
	return s, err
}

// load gives a connection what was kept for it.
func (s *states) load(ctx context.Context, c Connection, to *catalog.Connection) error {
	if s.keeper == nil {
		return nil
	}
	state, err := s.keeper.State(ctx, c)
	if broken, ok := errors.AsType[*plugin.Error](err); ok {
		to.Broken = broken
		return nil
	}
	to.State = state
	return err
}

// keep makes a state durable before it returns. One that the store does not take now is not given up: what the connector
// had before is worth nothing any more.
func (s *states) keep(c Connection, state []byte) error {
	if s.keeper == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.warned {
			s.warned = true
			s.log.Warn("a connection's state is lost when the host ends: there is no key to keep it with", "connection", c.Name)
		}
		return ErrNoStateKey
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepWithin)
	defer cancel()
	err := s.keeper.Keep(ctx, c, state)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.owed, c.Name)
		return nil
	}
	s.log.Error("a connection's new state is not durable yet; it is tried again", "connection", c.Name, "error", err)
	s.owed[c.Name] = owed{c, slices.Clone(state)}
	wake(s.waiting)
	return err
}

// settle tries again what could not be made durable, until ctx ends.
func (s *states) settle(ctx context.Context, newest func(connection string, f func([]byte))) {
	for pause(ctx, time.Hour, s.waiting) {
		for pause(ctx, keepAgain, nil) && s.pay(newest) > 0 {
		}
	}
}

// pay tries once, and says how many are still owed.
func (s *states) pay(newest func(connection string, f func([]byte))) int {
	s.mu.Lock()
	todo := make([]owed, 0, len(s.owed))
	for _, o := range s.owed {
		todo = append(todo, o)
	}
	s.mu.Unlock()
	for _, o := range todo {
		newest(o.conn.Name, func([]byte) { // nothing newer is on its way meanwhile
			s.mu.Lock()
			now, still := s.owed[o.conn.Name]
			s.mu.Unlock()
			if still {
				_ = s.keep(now.conn, now.state) // it is owed again, and was logged
			}
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owed)
}

// SetState replaces the state of a connection while the host runs: somebody has signed in. The connector is configured
// with it, and calls that began before do not change it any more. An empty state forgets what there is. It is durable when
// SetState returns without an error.
func (h *Host) SetState(ctx context.Context, connection string, state []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.started {
		return errors.New("host: not started")
	}
	if h.states.keeper == nil {
		return ErrNoStateKey
	}
	list := *h.conns.Load()
	at := slices.IndexFunc(list, func(c Connection) bool { return c.Name == connection })
	if at < 0 {
		return fmt.Errorf("%w: there is no connection %q", store.ErrNotFound, connection)
	}
	conns, err := h.desired(ctx, list)
	if err != nil {
		return err
	}
	if state == nil {
		state = []byte{}
	}
	conns[at].State, conns[at].Broken = state, nil
	outcomes, err := h.catalog.Configure(context.WithoutCancel(ctx), conns)
	if err != nil {
		return err
	}
	h.catalog.SettleState(connection, func(newest []byte) { err = h.states.keep(list[at], newest) })
	if err != nil {
		return err
	}
	h.log.InfoContext(ctx, "an operator changed a connection's state", "connection", connection, "bytes", len(state))
	return h.refusals(ctx, outcomes[at:at+1])
}

// keepState is told of what connectors hand out.
func (h *Host) keepState(c catalog.Connection, state []byte) {
	_ = h.states.keep(Connection{Name: c.Name, Connector: c.Connector, Tenant: c.Tenant}, state) // if not, it is owed and was logged
}
