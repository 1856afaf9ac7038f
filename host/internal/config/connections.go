package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/plugin/connectorv1"
)

var (
	nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	notName  = regexp.MustCompile(`[^a-z0-9]+`)
)

// credentialKey is where a connector finds its credential.
const credentialKey = "credential"

// Polling faster than this buys nothing but throttling.
const (
	minPoll = time.Second
	maxPoll = 24 * time.Hour
)

func (r *reader) connections() {
	credentials := r.credentials()
	n := r.root.Get("connections")
	if n == nil || n.IsNull() || n.Kind == yamldoc.Map && len(n.Entries) == 0 {
		r.out.Warnf(r.root.Pos, "connections", "", "there are no connections: nothing will happen")
		return
	}
	if n.Kind != yamldoc.Map {
		r.out.Errorf(n.Pos, "connections", "write `alerts: { connector: sentinel, … }` below it", "must be a map, not %s", n.Describe())
		r.broken = true
		return
	}
	used := map[string]bool{}
	for _, e := range n.Entries {
		before := len(*r.out)
		c := r.connection(e, credentials, used)
		if (*r.out)[before:].HasErrors() {
			r.broken = r.broken || r.descriptors[e.Key] == nil
			continue
		}
		r.file.Connections = append(r.file.Connections, c)
	}
	slices.SortFunc(r.file.Connections, func(a, b Connection) int { return strings.Compare(a.Name, b.Name) })
	for name, n := range credentials {
		if !used[name] {
			r.out.Warnf(n.Pos, yamldoc.Join("credentials", name), "", "no connection uses the credential")
		}
	}
}

func (r *reader) credentials() map[string]*yamldoc.Node {
	n := r.root.Get("credentials")
	found := map[string]*yamldoc.Node{}
	switch {
	case n == nil || n.IsNull():
		return found
	case n.Kind != yamldoc.Map:
		r.out.Errorf(n.Pos, "credentials", "write `entra: { tenant_id: …, client_id: …, client_secret: env:NAME }` below it", "must be a map, not %s", n.Describe())
		return found
	}
	for _, e := range n.Entries {
		path := yamldoc.Join("credentials", e.Key)
		r.name(e, path)
		if e.Value.Kind != yamldoc.Map {
			r.out.Errorf(e.Value.Pos, path, "secrets in it are written env:NAME", "must be a map") // not shown: it may be the secret
			continue
		}
		r.limitOf[e.Key] = r.limit(e.Value.Get(limitKey), yamldoc.Join(path, limitKey))
		found[e.Key] = without(e.Value, limitKey)
	}
	return found
}

// without is a map less one key, which is the host's and not the connector's.
func without(n *yamldoc.Node, key string) *yamldoc.Node {
	if n.Get(key) == nil {
		return n
	}
	less := *n
	less.Entries = slices.DeleteFunc(slices.Clone(n.Entries), func(e yamldoc.Entry) bool { return e.Key == key })
	return &less
}

// limitKey is where a credential, or a connection without one, says how hard it may be driven.
const limitKey = "limit"

// Beyond these, a limit is a slip.
const (
	maxConcurrency = 1000
	minPerSecond   = 0.001
	maxPerSecond   = 10_000
)

func (r *reader) limit(n *yamldoc.Node, path string) (l Limit) {
	if n == nil || n.IsNull() {
		return l
	}
	if n.Kind == yamldoc.Map && len(n.Entries) == 0 {
		r.out.Errorf(n.Pos, path, "write { concurrency: 8, per_second: 2 }", "limits nothing")
		return l
	}
	if n.Kind != yamldoc.Map {
		r.out.Errorf(n.Pos, path, "write { concurrency: 8, per_second: 2 }", "must be a map, not %s", n.Describe())
		return l
	}
	r.keys(n, path, []string{"concurrency", "per_second"}, nil)
	if v := n.Get("concurrency"); v != nil {
		c, ok := v.Value.(int)
		if v.Kind != yamldoc.Scalar || !ok || c < 1 || c > maxConcurrency {
			r.out.Errorf(v.Pos, path+".concurrency", "write 8", "must be a whole number from 1 to %d, not %s", maxConcurrency, v.Describe())
		} else {
			l.Concurrency = c
		}
	}
	if v := n.Get("per_second"); v != nil {
		f, err := strconv.ParseFloat(v.Text, 64)
		if v.Kind != yamldoc.Scalar || v.IsString() || err != nil || !(f >= minPerSecond && f <= maxPerSecond) {
			r.out.Errorf(v.Pos, path+".per_second", "write 2.5", "must be a number from %v to %d, not %s", minPerSecond, maxPerSecond, v.Describe())
		} else {
			l.PerSecond = f
		}
	}
	return l
}

func (r *reader) name(e yamldoc.Entry, path string) {
	if nameRule.MatchString(e.Key) {
		return
	}
	hint := "lower-case letters, digits, dashes and underscores, at most 64"
	if fixed := strings.Trim(notName.ReplaceAllString(strings.ToLower(e.Key), "-"), "-"); nameRule.MatchString(fixed) {
		hint += fmt.Sprintf("; such as %q", fixed)
	}
	r.out.Errorf(e.Pos, path, hint, "%s cannot be a name", yamldoc.Quote(e.Key))
}

func (r *reader) connection(e yamldoc.Entry, credentials map[string]*yamldoc.Node, used map[string]bool) Connection {
	path := yamldoc.Join("connections", e.Key)
	c := Connection{Pos: e.Pos, Name: e.Key}
	r.name(e, path)
	n := e.Value
	if n.Kind != yamldoc.Map {
		r.out.Errorf(n.Pos, path, "write { connector: sentinel }", "must be a map, not %s", n.Describe())
		return c
	}
	r.connectionKeys(n, path)
	var desc *connectorv1.DescribeResponse
	if v := n.Get("connector"); v == nil {
		r.out.Errorf(e.Pos, path, "add connector: …", "the connection names no connector")
	} else if c.Connector = r.text(v, path+".connector"); c.Connector != "" {
		desc = r.descriptor(v, path+".connector", c.Connector)
		if desc != nil {
			r.descriptors[c.Name] = desc
		}
	}
	if v := n.Get("tenant"); v != nil {
		c.Tenant = r.text(v, path+".tenant")
		if c.Tenant != "" && strings.ContainsAny(c.Tenant, " \t\n/") {
			r.out.Errorf(v.Pos, path+".tenant", "", "a tenant's name has no spaces and no slashes")
		}
	}
	if v := n.Get("poll"); v != nil {
		c.Poll, _ = r.duration(v, path+".poll", minPoll, maxPoll)
		if desc != nil && !slices.ContainsFunc(desc.GetTriggers(), (*connectorv1.Trigger).GetPolls) {
			r.out.Warnf(v.Pos, path+".poll", "leave it out", "the connector %s polls nothing", c.Connector)
		}
	}
	var credential *yamldoc.Node
	if v := n.Get("credential"); v != nil {
		c.Credential = r.text(v, path+".credential")
		credential = r.findCredential(v, path+".credential", c.Credential, credentials)
		used[c.Credential] = true
	}
	switch v := n.Get(limitKey); {
	case v != nil && c.Credential != "":
		r.out.Errorf(v.Pos, path+"."+limitKey, "write it below credentials."+c.Credential, "what shares a credential shares its limit")
	case v != nil:
		c.Limit = r.limit(v, path+"."+limitKey)
	default:
		c.Limit = r.limitOf[c.Credential]
	}
	if desc != nil {
		r.config(&c, n, desc, credential, path)
	}
	return c
}

var connectionKeys = []string{"connector", "credential", "tenant", "poll", "limit", "config"}

func (r *reader) connectionKeys(n *yamldoc.Node, path string) {
	for _, e := range n.Entries {
		at := yamldoc.Join(path, e.Key)
		switch hint := yamldoc.DidYouMean(e.Key, connectionKeys); {
		case slices.Contains(connectionKeys, e.Key):
		case yamldoc.Closest(e.Key, connectionKeys) == "":
			r.out.Errorf(e.Pos, at, "settings of the connector belong below `config:`", "a connection has no key %q", e.Key)
		default:
			r.out.Errorf(e.Pos, at, hint, "a connection has no key %q", e.Key)
		}
	}
}

func (r *reader) descriptor(n *yamldoc.Node, path, name string) *connectorv1.DescribeResponse {
	if r.unsound[name] {
		r.broken = true // and that was said
		return nil
	}
	d, ok := r.known.Connector(name)
	var why error
	if e, explains := r.known.(Explainer); explains {
		why = e.Explain(name)
	}
	switch {
	case ok && why != nil:
		r.out.Warnf(n.Pos, path, "", "%v", why)
		return d
	case ok:
		return d
	case why != nil:
		r.out.Errorf(n.Pos, path, "", "%v", why)
		return nil
	}
	var names []string
	if all, ok := r.known.(interface{ Connectors() []string }); ok {
		names = all.Connectors()
	}
	hint := yamldoc.DidYouMean(name, names)
	if yamldoc.Closest(name, names) == "" { // no slip of the pen: it is meant to be there
		hint = strings.TrimPrefix(hint+"; another is brought by `casewire connectors install FILE`", "; ")
	}
	r.out.Errorf(n.Pos, path, hint, "there is no connector %q", name)
	return nil
}

func (r *reader) findCredential(n *yamldoc.Node, path, name string, credentials map[string]*yamldoc.Node) *yamldoc.Node {
	if name == "" {
		return nil
	}
	if c := credentials[name]; c != nil {
		return c
	}
	if all := r.root.Get("credentials"); all.Get(name) != nil {
		return nil // it has a finding of its own
	}
	names := make([]string, 0, len(credentials))
	for have := range credentials {
		names = append(names, have)
	}
	r.out.Errorf(n.Pos, path, yamldoc.DidYouMean(name, names), "there is no credential %q", name)
	return nil
}

// config checks a connection's config against its connector's schema, the credential merged in.
func (r *reader) config(c *Connection, n *yamldoc.Node, desc *connectorv1.DescribeResponse, credential *yamldoc.Node, path string) {
	s, err := schema.Parse(desc.GetConfigSchema())
	if err != nil {
		r.out.Errorf(c.Pos, path, "tell the connector's author", "the connector %s describes its config badly: %v", c.Connector, err)
		return
	}
	body := n.Get("config")
	if body == nil || body.IsNull() {
		body = &yamldoc.Node{Kind: yamldoc.Map, Pos: c.Pos}
	}
	if body.Kind != yamldoc.Map {
		r.out.Errorf(body.Pos, path+".config", "", "must be a map, not %s", body.Describe())
		return
	}
	what := "config of the connector " + c.Connector
	k := r.checker(what)
	if credential != nil {
		var ok bool
		if body, ok = r.merge(n, body, credential, s, c, path); !ok {
			return
		}
		k.skip, k.skipPath = credential, yamldoc.Join("credentials", c.Credential)
	}
	k.Check(body, s, path+".config")
	if s.IsRequired(credentialKey) && body.Get(credentialKey) == nil {
		r.explainCredential(path+".config", n.Get(credentialKey) != nil)
	}
	c.tree = k.tree(body)
	if c.Config, err = json.Marshal(show(c.tree)); err != nil {
		r.out.Errorf(c.Pos, path+".config", "", "the config cannot be written as JSON: %v", err)
	}
}

func (r *reader) merge(n, body, credential *yamldoc.Node, s *schema.Schema, c *Connection, path string) (*yamldoc.Node, bool) {
	at := n.Get("credential").Pos
	switch {
	case body.Get(credentialKey) != nil:
		r.out.Errorf(at, path+".credential", "leave one of the two out", "the config has a credential of its own")
		return nil, false
	case s.Properties[credentialKey] == nil && s.Closed:
		r.out.Errorf(at, path+".credential", "write its settings below `config:`", "the connector %s takes no named credential", c.Connector)
		return nil, false
	}
	merged := *body
	merged.Entries = append(slices.Clone(body.Entries), yamldoc.Entry{Key: credentialKey, Pos: at, Value: credential})
	return &merged, true
}

// checker checks a config and collects its secrets.
type checker struct {
	schema.Checker
	slots    map[*yamldoc.Node]*slot
	skip     *yamldoc.Node // the credential, which has a place of its own in the file
	skipPath string
}

func (r *reader) checker(what string) *checker {
	k := &checker{slots: map[*yamldoc.Node]*slot{}}
	k.Checker = schema.Checker{What: what, Out: r.out}
	k.Visit = func(n *yamldoc.Node, s *schema.Schema, path string, _ bool) bool {
		switch {
		case n == k.skip && k.skipPath != "":
			at := k.skipPath
			k.skipPath = "" // or Check would come back here
			what := k.What
			k.What = credentialKey
			k.Check(n, s, at)
			k.What = what
			return true
		case s.Secret:
			what := "the property"
			if dot := strings.LastIndexByte(path, '.'); dot >= 0 {
				what = path[dot+1:]
			}
			k.slots[n] = r.reference(n, path, what)
			return true
		case n.IsString():
			r.noVariables(n, path)
		}
		return false
	}
	return k
}

// explainCredential gives the finding about a missing credential its hint, or drops it if the credential is named but was
// not found: that was said.
func (r *reader) explainCredential(path string, said bool) {
	missing := func(d diag.Diagnostic) bool {
		return d.Path == path && strings.HasSuffix(d.Summary, `needs "`+credentialKey+`"`)
	}
	if said {
		*r.out = slices.DeleteFunc(*r.out, missing)
		return
	}
	for i, d := range *r.out {
		if missing(d) {
			(*r.out)[i].Hint = "add credential: NAME, the name of an entry below `credentials:`"
		}
	}
}

// tree is the plain form of a config with slots for its secrets.
func (k *checker) tree(n *yamldoc.Node) any {
	if s, ok := k.slots[n]; ok {
		if s == nil {
			return nil
		}
		return s
	}
	switch n.Kind {
	case yamldoc.Map:
		m := make(map[string]any, len(n.Entries))
		for _, e := range n.Entries {
			m[e.Key] = k.tree(e.Value)
		}
		return m
	case yamldoc.List:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = k.tree(item)
		}
		return list
	}
	return n.Value
}
