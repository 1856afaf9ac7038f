package conformance

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// suite is one judgement: the process that most checks share, the stand-ins for a vendor, and what was seen so far.
type suite struct {
	sub      Subject
	dir      string // of sockets
	seen     *witness
	silent   *vendor // takes requests and never answers
	refusing *vendor // answers with an error that quotes the request

	about      *connectorv1.DescribeResponse
	shared     *process
	generation uint64
	taken      map[kind]error  // what became of each connection that was configured in the shared process
	at         map[kind]uint64 // its generation
}

// kind is what stands behind a connection.
type kind string

const (
	live     kind = "live"     // the vendor of Subject.Config
	silent   kind = "silent"   // a vendor that never answers
	refusing kind = "refusing" // a vendor that answers with errors
)

func newSuite(sub Subject) (*suite, error) {
	if sub.Path == "" {
		return nil, errors.New("conformance: no executable is named")
	}
	if len(sub.Config) > 0 && !json.Valid(sub.Config) {
		return nil, errors.New("conformance: the configuration is not JSON")
	}
	dir, err := os.MkdirTemp("", "cwc")
	if err != nil {
		return nil, fmt.Errorf("conformance: make a directory for sockets: %w", err)
	}
	s := &suite{sub: sub, dir: dir, seen: &witness{}, generation: uint64(time.Now().UnixMilli())}
	if s.silent, err = newVendor(hold); err == nil {
		s.refusing, err = newVendor(quote)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("conformance: %w", err)
	}
	return s, nil
}

func (s *suite) close() {
	if s.shared != nil {
		s.shared.kill()
	}
	for _, v := range []*vendor{s.silent, s.refusing} {
		if v != nil {
			v.close()
		}
	}
	_ = os.RemoveAll(s.dir)
}

// process returns the process that checks share, and what it described itself as.
func (s *suite) process(ctx context.Context) (*process, error) {
	if s.shared != nil && !s.shared.ended() {
		return s.shared, nil
	}
	s.retire() // one that has ended leaves its connection behind
	p, err := s.launch(ctx, s.sub.Env)
	if err != nil {
		return nil, err
	}
	d, err := p.describe(ctx)
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("Describe: %w", err)
	}
	s.shared, s.about = p, d
	s.taken, s.at = map[kind]error{}, map[kind]uint64{}
	return p, nil
}

// retire ends the shared process; the next check starts another.
func (s *suite) retire() {
	if s.shared != nil {
		s.shared.kill()
		s.shared = nil
	}
}

// died says that the shared process ended although no check wanted it to.
func (s *suite) died() error {
	p := s.shared
	if p == nil || !p.ended() {
		return nil
	}
	s.retire()
	return fmt.Errorf("the process ended unasked: %s", p.obituary())
}

// connection makes sure that the shared process has a connection of the kind, and returns the process.
func (s *suite) connection(ctx context.Context, k kind) (*process, error) {
	p, err := s.process(ctx)
	if err != nil {
		return nil, err
	}
	if err, ok := s.taken[k]; ok {
		return p, err
	}
	config, err := s.config(k)
	if err == nil {
		s.generation++
		s.at[k] = s.generation
		err = s.configureOne(ctx, p, string(k), s.generation, config)
	}
	s.taken[k] = err
	return p, err
}

// usual is the kind of connection for checks that any will do for: errors come fast, and nobody is disturbed.
func (s *suite) usual(ctx context.Context) (*process, kind, error) {
	p, err := s.connection(ctx, refusing)
	return p, refusing, err
}

// config makes the configuration of a connection of the kind.
func (s *suite) config(k kind) ([]byte, error) {
	if k == live {
		if len(s.sub.Config) == 0 {
			return nil, skipf("it needs a working vendor; give a configuration with --config")
		}
		s.seen.guard(secretsOf(s.about.GetConfigSchema(), s.sub.Config))
		return s.sub.Config, nil
	}
	url, given := s.refusing.url, s.sub.Config
	if k == silent {
		url, given = s.silent.url, s.sub.Config
		if len(s.sub.Hanging) > 0 {
			given = s.sub.Hanging
		}
	}
	schema, err := readSchema(s.about.GetConfigSchema())
	if err != nil {
		return nil, skipf("the config schema cannot be read: %v", err)
	}
	var v any
	if len(given) > 0 {
		if v, err = decode(given); err != nil {
			return nil, err
		}
	} else if v, err = (&sampler{root: schema, url: url, secret: "canary-" + rand.Text()}).sample(); err != nil {
		return nil, skipf("no configuration can be made from the config schema (%v); give one with --config", err)
	}
	v, n := redirect(schema, v, url)
	if n == 0 && k == silent {
		return nil, skipf("the configuration has no address that could be pointed at a stand-in for the vendor")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	s.seen.guard(secretsOf(s.about.GetConfigSchema(), b))
	return b, nil
}

// configureOne configures one connection. A configuration that the suite made up and the connector refuses is a reason to
// skip, not to fail.
func (s *suite) configureOne(ctx context.Context, p *process, name string, generation uint64, config []byte) error {
	resp, err := p.configure(ctx, &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{s.upsert(name, generation, config)}})
	if err != nil {
		return fmt.Errorf("Configure: %w", err)
	}
	for _, o := range resp.GetOutcomes() {
		if o.GetConnection() != name {
			continue
		}
		e := plugin.UnmarshalStatus(o.GetStatus())
		switch {
		case e == nil:
			return nil
		case len(s.sub.Config) == 0:
			return skipf("the configuration that was made from the config schema is refused (%v); give one with --config", e)
		case name != string(live):
			return skipf("the configuration with the vendor's addresses replaced is refused: %v", e)
		default:
			return fmt.Errorf("the configuration is refused: %w", e)
		}
	}
	return fmt.Errorf("Configure has no outcome for connection %q", name)
}

func (s *suite) upsert(name string, generation uint64, config []byte) *connectorv1.ConnectionConfig {
	u := &connectorv1.ConnectionConfig{Connection: name, Generation: generation, Config: config, Tenant: "conformance"}
	for _, t := range s.about.GetTriggers() {
		if t.GetWebhook() != nil {
			secret := "hook-" + rand.Text()
			s.seen.guard([]string{secret})
			u.Hooks = append(u.Hooks, &connectorv1.HookEndpoint{Trigger: t.GetName(), Url: "https://casewire.example/hooks/" + name + "/" + t.GetName(), Secret: []byte(secret)})
		}
	}
	return u
}

// call is the context of a call on a connection of the kind.
func (s *suite) call(k kind) *connectorv1.CallContext {
	return &connectorv1.CallContext{
		Connection: string(k), Generation: s.at[k], CallId: rand.Text(), Attempt: 1, Mode: connectorv1.Mode_MODE_EXECUTE,
		Deadline: timestamppb.New(time.Now().Add(30 * time.Second)),
	}
}

// invocation is a call of an action with a good input; a keyed one gets a key of its own.
func (s *suite) invocation(k kind, a *connectorv1.Action) (*connectorv1.InvokeRequest, error) {
	in, err := s.input(a)
	if err != nil {
		return nil, err
	}
	req := &connectorv1.InvokeRequest{Call: s.call(k), Action: a.GetName(), Input: in}
	if a.GetEffect() == connectorv1.Effect_EFFECT_KEYED {
		req.Call.IdempotencyKey = "conformance-" + strings.ToLower(rand.Text())
	}
	return req, nil
}

// input returns a good input of the action: the one given, its first example, or one made from the schema.
func (s *suite) input(a *connectorv1.Action) ([]byte, error) {
	if in, ok := s.sub.Inputs[a.GetName()]; ok {
		return in, nil
	}
	if x := a.GetExamples(); len(x) > 0 {
		return x[0].GetInput(), nil
	}
	schema, err := readSchema(a.GetInputSchema())
	if err != nil {
		return nil, skipf("%s: its input schema cannot be read: %v", a.GetName(), err)
	}
	v, err := (&sampler{root: schema, url: "https://example.com/", secret: "x"}).sample()
	if err != nil {
		return nil, skipf("%s: no input can be made from its schema (%v); give it an example", a.GetName(), err)
	}
	return json.Marshal(v)
}

// anyAction returns an action that may be called on a connection of the kind, reads first.
func (s *suite) anyAction(k kind) (*connectorv1.Action, error) {
	var best *connectorv1.Action
	for _, a := range s.about.GetActions() {
		if _, err := s.input(a); err != nil {
			continue
		}
		if a.GetEffect() == connectorv1.Effect_EFFECT_READ {
			return a, nil
		}
		if best == nil && s.mayChange(k) {
			best = a
		}
	}
	if best == nil {
		return nil, skipf("there is no action that may be called and has an example or an input that can be made up")
	}
	return best, nil
}

// mayChange says whether actions that change something may be executed on a connection of the kind.
func (s *suite) mayChange(k kind) bool {
	if k == live {
		return s.sub.Writes
	}
	// Without an address in the configuration there is no stand-in between the connector and what it changes.
	schema, err := readSchema(s.about.GetConfigSchema())
	if err != nil {
		return false
	}
	config, err := s.config(k)
	if err != nil {
		return false
	}
	v, err := decode(config)
	if err != nil {
		return false
	}
	_, n := redirect(schema, v, s.refusing.url)
	return n > 0 || s.sub.Writes
}

// typed demands an error of the connector's own code and returns it decoded.
func typed(err error) (*plugin.Error, error) {
	if err == nil {
		return nil, errors.New("it succeeded")
	}
	e := plugin.FromError(err)
	if e.Origin == connectorv1.Origin_ORIGIN_UNSPECIFIED || e.SideEffect == connectorv1.SideEffect_SIDE_EFFECT_UNSPECIFIED {
		return nil, fmt.Errorf("%s (%q) has no Failure detail with origin and side effect", status.Code(err), e.Message)
	}
	return e, nil
}

// refusal demands an error with one of the codes that says that nothing was changed.
func refusal(err error, want ...codes.Code) (*plugin.Error, error) {
	e, bad := typed(err)
	if bad != nil {
		return nil, bad
	}
	for _, c := range want {
		if e.Code == c {
			if e.SideEffect != plugin.EffectNone {
				return nil, fmt.Errorf("%s says %s, want SIDE_EFFECT_NONE", e.Code, e.SideEffect)
			}
			return e, nil
		}
	}
	return nil, fmt.Errorf("got %s (%q), want %v", e.Code, e.Message, want)
}
