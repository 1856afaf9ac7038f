package azure

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Access is what the configuration of every Microsoft connection has besides its endpoints; embed it.
type Access struct {
	Credential Credential `json:"credential" cw:"required" doc:"Entra credential; names one of the credentials of the configuration"`
	CAFile     string     `json:"ca_file,omitempty" doc:"PEM file of certificates to trust besides the system's" cw:"advanced"`
	Proxy      sdk.Secret `json:"proxy,omitzero" doc:"Proxy to go through, such as http://proxy.example:3128" cw:"advanced"`
}

// Cloud returns the endpoints of the cloud that the credential belongs to.
func (a Access) Cloud() Cloud { return a.Credential.endpoints() }

// Session is one connection's way to Microsoft's APIs: a transport and the credential's tokens, shared by all endpoints.
type Session struct {
	Tokens    *Tokens
	Transport *http.Transport

	graph *rest.Client // the connection's own, if it has one
}

// Open checks the access and prepares it; nothing is sent. Errors are of the configuration and name the property.
func (a Access) Open(env sdk.Env) (*Session, error) {
	transport, err := rest.Transport(rest.TransportOptions{Proxy: a.Proxy, CAFile: a.CAFile})
	if err != nil {
		return nil, err
	}
	tokens, err := NewTokens(a.Credential, Options{Transport: transport, State: env.State, SaveState: env.SaveState, Connection: env.Connection})
	if err != nil {
		return nil, err
	}
	return &Session{Tokens: tokens, Transport: transport}, nil
}

// API is one endpoint of a session.
type API struct {
	Name  string // in errors: "Microsoft Graph"
	URL   string
	Field string // the property that URL comes from: "graph_url"
	Scope string // default Scope(URL)
	// Options are further ones; what the session knows is filled in.
	Options rest.Options
}

// Client makes the client of an endpoint, with the session's credential.
func (s *Session) Client(api API) (*rest.Client, error) {
	c, err := s.client(api)
	if err == nil && api.Name == GraphName && s.graph == nil {
		s.graph = c
	}
	return c, err
}

func (s *Session) client(api API) (*rest.Client, error) {
	auth := s.Tokens.Authorizer(cmp.Or(api.Scope, Scope(api.URL)))
	o := api.Options
	o.BaseURL, o.API, o.Transport = api.URL, api.Name, s.Transport
	o.Field = "/" + strings.TrimPrefix(api.Field, "/")
	o.Auth, o.OnUnauthorized = auth.Authorize, auth.OnUnauthorized
	if o.Explain == nil {
		o.Explain = Explain
	}
	if o.RequestIDHeaders == nil {
		o.RequestIDHeaders = []string{"request-id", "x-ms-request-id", "client-request-id"}
	}
	return rest.New(o)
}

// GraphName is what Microsoft Graph is called in errors; Session.Check looks at the app's registration through the API of
// this name.
const GraphName = "Microsoft Graph"

// Egress lists what a connector has to declare: its endpoints in every cloud, the authorities of every cloud, and what
// the configuration puts in their place. Fields are properties with base URLs, such as "graph_url".
func Egress(fields []string, endpoints ...func(Cloud) string) []string {
	// What issues tokens of managed identities, where no address of it is configured: the ports are what a sandbox lets
	// through; the addresses themselves only managed identities reach.
	out := []string{
		"{config.credential.authority_url}",
		"{config.credential.managed_identity?169.254.169.254:80}", "{config.credential.managed_identity?localhost:40342}",
	}
	for _, f := range fields {
		out = append(out, "{config."+f+"}")
	}
	for _, name := range slices.Sorted(maps.Keys(clouds)) {
		c := clouds[name]
		for _, of := range append([]func(Cloud) string{func(c Cloud) string { return c.Authority }}, endpoints...) {
			if host := strings.TrimPrefix(of(c), "https://"); host != "" && !slices.Contains(out, host) {
				out = append(out, host)
			}
		}
	}
	return out
}
