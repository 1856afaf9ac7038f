package threatintel

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

// indicator is what every source becomes: a value in canonical form, and what is said of it.
type indicator struct {
	at          string
	id          string // STIX id
	kind, value string
	name        string
	description string
	confidence  int
	tlp         ioc.TLP
	labels      []string
	threats     []string
	phases      []feed.Phase
	references  []feed.Reference
	action      string
	severity    string
	from, until time.Time
	// ttl is how long it lives when its source does not say; zero if it does.
	ttl               time.Duration
	fromSaid          bool
	created, modified time.Time // of our object, as an earlier submission told
	digest            string
}

// namespace makes our ids different from everybody else's.
var namespace = uuid.MustParse("6f1d54b1-5e0c-5c0f-9d38-2a7f6c1e9b40")

// stixID is the same for a value whoever submits it, in one tenant and for one source.
func stixID(tenant, source, kind, value string) string {
	name := strings.Join([]string{strings.ToLower(tenant), kind, value, source}, "\x00")
	return "indicator--" + uuid.NewSHA1(namespace, []byte(name)).String()
}

// spaced is what "evil [.] net" leaves when its brackets are gone.
var spaced = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[ \t]+([.@])[ \t]+`) })

// canonical brings a value into the one form in which it is compared.
func canonical(kind, value string) (string, bool) {
	switch kind {
	case typeIP:
		return ioc.IP(value)
	case typeCIDR:
		return ioc.CIDR(value)
	case typeDomain:
		return ioc.Host(value)
	case typeURL:
		return ioc.URL(value)
	case typeEmail:
		return ioc.Email(value)
	case typeMD5, typeSHA1, typeSHA256, typeSHA512:
		v, algorithm, ok := ioc.Hash(value)
		return v, ok && hashType(algorithm) == kind
	case typeCertificate:
		v, algorithm, ok := ioc.Hash(strings.ReplaceAll(value, ":", ""))
		return v, ok && algorithm == ocsf.AlgorithmSHA1
	case typePattern:
		v := strings.TrimSpace(value)
		return v, feed.IsPattern(v) && balanced(v)
	}
	return "", false
}

// Defaults hold for every indicator that does not say otherwise.
type Defaults struct {
	TLP         string   `json:"tlp,omitempty" doc:"Marking of indicators that have none: CLEAR, GREEN, AMBER, AMBER+STRICT or RED; default the connection's" example:"AMBER"`
	Confidence  *int     `json:"confidence,omitempty" cw:"min=0,max=100" doc:"Confidence of those that have none, 0 to 100; default the connection's"`
	ExpiresIn   string   `json:"expires_in,omitempty" doc:"How long they live, such as 36h or 90d; default by type" example:"90d"`
	ValidUntil  string   `json:"valid_until,omitempty" doc:"When they end: RFC 3339 time, or a date; not together with expires_in"`
	Description string   `json:"description,omitempty" cw:"maxlen=16384" doc:"Description of those that have none"`
	Labels      []string `json:"labels,omitempty" doc:"Tags that all of them get"`
	ThreatTypes []string `json:"threat_types,omitempty" doc:"STIX indicator types of those that have none; default malicious-activity"`
	Action      string   `json:"action,omitempty" enum:"allow,audit,warn,block,block_and_remediate" doc:"What Defender does on those that do not say; default the connection's"`
}

// workshop makes indicators out of drafts.
type workshop struct {
	c        *Client
	defaults Defaults
	now      time.Time // of the first attempt, so that a repeat makes the same objects
	expires  time.Duration
	until    time.Time
	tlp      ioc.TLP
}

// newWorkshop checks the defaults.
func (c *Client) newWorkshop(d Defaults, now time.Time) (*workshop, error) {
	w := &workshop{c: c, defaults: d, now: now.UTC().Truncate(time.Millisecond), tlp: c.tlp}
	var err error
	if d.TLP != "" {
		if w.tlp, err = ioc.ParseTLP(d.TLP); err != nil {
			return nil, invalid("tlp", err)
		}
	}
	if d.ExpiresIn != "" {
		if w.expires, err = lifetime(d.ExpiresIn); err != nil {
			return nil, invalid("expires_in", err)
		}
	}
	if d.ValidUntil != "" {
		if d.ExpiresIn != "" {
			return nil, invalid("valid_until", errTwoEnds)
		}
		if w.until, err = parseTime(d.ValidUntil); err != nil {
			return nil, invalid("valid_until", err)
		}
	}
	return w, nil
}

// make checks a draft and completes it; the text is why it is refused.
func (w *workshop) make(d *feed.Draft) (*indicator, string) {
	i := &indicator{at: d.At}
	if why := w.value(i, d); why != "" {
		return i, why
	}
	if d.Problem != "" {
		return i, d.Problem
	}
	i.id = stixID(w.c.tenant, w.c.cfg.SourceSystem, i.kind, i.value)
	if d.Revoked {
		return i, "was revoked by its source; use indicators.revoke or indicators.expire to take ours back"
	}
	if why := w.c.policy.refuses(i.kind, i.value); why != "" {
		return i, why
	}
	if why := w.marking(i, d); why != "" {
		return i, why
	}
	if why := w.times(i, d); why != "" {
		return i, why
	}
	i.confidence = w.c.cfg.Confidence
	if w.defaults.Confidence != nil {
		i.confidence = *w.defaults.Confidence
	}
	if d.Confidence != nil {
		i.confidence = *d.Confidence
	}
	if i.confidence < 0 || i.confidence > 100 {
		return i, fmt.Sprintf("its confidence is %d, not 0 to 100", i.confidence)
	}
	i.name = clip(cmp.Or(d.Name, i.value), 250)
	i.description = clip(cmp.Or(d.Description, w.defaults.Description), 4000)
	i.labels = tidy(append(slices.Clone(d.Labels), w.defaults.Labels...))
	i.threats = tidy(d.ThreatTypes)
	if len(i.threats) == 0 {
		i.threats = tidy(w.defaults.ThreatTypes)
	}
	if len(i.threats) == 0 {
		i.threats = []string{"malicious-activity"}
	}
	i.phases, i.references = d.KillChain, d.References
	if i.action = w.action(d.Action); i.action == "" {
		return i, fmt.Sprintf("the action %q is none of allow, audit, warn, block, block_and_remediate", clip(d.Action, 60))
	}
	if i.severity = severity(d.Severity, i.confidence); i.severity == "" {
		return i, fmt.Sprintf("the severity %q is none of informational, low, medium, high", clip(d.Severity, 60))
	}
	i.digest = i.content()
	if w.c.target == targetDefender {
		if why := defenderRefuses(i); why != "" {
			return i, why
		}
	} else if i.kind == typeCertificate {
		return i, "is a certificate's thumbprint, which only Defender takes"
	}
	return i, ""
}

// value finds type and canonical value.
func (w *workshop) value(i *indicator, d *feed.Draft) string {
	value, kind := strings.TrimSpace(d.Value), ""
	if d.Pattern != "" && value == "" {
		var ok bool
		if kind, value, ok = parsePattern(d.Pattern); !ok {
			kind, value = typePattern, d.Pattern
		}
	} else {
		if !d.Exact {
			value = strings.TrimSpace(spaced().ReplaceAllString(ioc.Refang(value), "$1"))
			if typeWords[fold(d.Type)] != typeURL {
				value = withoutPort(value)
			}
		}
		if t := strings.TrimSpace(d.Type); t != "" {
			if kind = typeWords[fold(t)]; kind == "" {
				i.value = clip(value, 200)
				return fmt.Sprintf("there is no indicator of the type %q", clip(t, 60))
			}
		}
	}
	i.kind, i.value = kind, clip(value, 200)
	switch {
	case value == "" && d.Problem != "":
		return d.Problem
	case value == "":
		return "has no value"
	case strings.Contains(value, "*") && kind != typePattern && kind != typeURL && !feed.IsPattern(value):
		return "has a wildcard: an indicator is one exact value"
	}
	if kind == "" {
		kind = guess(value)
	}
	switch kind {
	case "hash":
		_, algorithm, _ := ioc.Hash(value)
		if kind = hashType(algorithm); kind == "" {
			i.kind = "hash"
			return "is no MD5, SHA-1, SHA-256 or SHA-512"
		}
	case typeIP:
		if strings.Contains(value, "/") {
			kind = typeCIDR
		}
	case typePattern:
		if k, v, ok := parsePattern(value); ok {
			kind, value = k, v
		}
	}
	v, ok := canonical(kind, value)
	i.kind = kind
	if !ok {
		return notOne[kind]
	}
	if kind == typeCIDR { // of one address
		if a, one := oneAddress(v); one {
			i.kind, v = typeIP, a
		}
	}
	i.value = v
	return ""
}

// withoutPort takes off an address or a name what is no part of the indicator: a port behind it, brackets around an
// address. Feeds write 5.45.207.1:443 and [2a01:4f9::1]:80.
func withoutPort(value string) string {
	if a, err := netip.ParseAddrPort(value); err == nil {
		return a.Addr().String()
	}
	if bare, ok := strings.CutPrefix(value, "["); ok {
		if bare, ok = strings.CutSuffix(bare, "]"); ok {
			if _, err := netip.ParseAddr(bare); err == nil {
				return bare
			}
		}
	}
	if name, port, ok := strings.Cut(value, ":"); ok && strings.Contains(name, ".") {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil {
			if _, isName := ioc.Host(name); isName {
				return name
			}
		}
	}
	return value
}

var notOne = map[string]string{
	typeIP: "is no IP address", typeCIDR: "is no network in CIDR notation", typeDomain: "is no domain name", typeURL: "is no URL with a valid host",
	typeEmail: "is no mail address", typeMD5: "is no MD5 (32 hexadecimal digits)", typeSHA1: "is no SHA-1 (40 hexadecimal digits)",
	typeSHA256: "is no SHA-256 (64 hexadecimal digits)", typeSHA512: "is no SHA-512 (128 hexadecimal digits)",
	typeCertificate: "is no thumbprint of a certificate (SHA-1, 40 hexadecimal digits)", typePattern: "is no STIX pattern",
}

func (w *workshop) marking(i *indicator, d *feed.Draft) string {
	i.tlp = w.tlp
	if d.TLP != "" {
		t, err := ioc.ParseTLP(d.TLP)
		if err != nil {
			return err.Error()
		}
		i.tlp = t
	}
	if most := w.c.maxTLP; most != "" && i.tlp.Number() > most.Number() {
		return fmt.Sprintf("is marked TLP:%s, and this connection takes at most TLP:%s (max_tlp)", i.tlp, most)
	}
	return ""
}

// times sets the life of an indicator.
func (w *workshop) times(i *indicator, d *feed.Draft) string {
	var err error
	for _, t := range []struct {
		name, text string
		to         *time.Time
	}{{"valid_from", d.ValidFrom, &i.from}, {"valid_until", d.ValidUntil, &i.until}, {"created", d.Created, &i.created}, {"modified", d.Modified, &i.modified}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = parseTime(t.text); err != nil {
			return t.name + ": " + err.Error()
		}
	}
	i.fromSaid = !i.from.IsZero()
	if !i.fromSaid {
		i.from = w.now
		if !i.created.IsZero() {
			i.from = i.created
		}
	}
	switch {
	case !i.until.IsZero():
	case !w.until.IsZero():
		i.until = w.until
	default:
		i.ttl = w.expires
		if i.ttl == 0 {
			i.ttl = w.c.ttl(i.kind)
		}
		i.until = w.now.Add(i.ttl)
	}
	if !i.until.After(w.now) {
		return "expired on " + i.until.Format(time.RFC3339)
	}
	if !i.until.After(i.from) {
		return "ends on " + i.until.Format(time.RFC3339) + ", before it begins"
	}
	return ""
}

func (w *workshop) action(said string) string {
	switch a := fold(said); a {
	case "":
		return cmp.Or(w.defaults.Action, w.c.cfg.Action)
	case "allow", "allowed":
		return "allow"
	case "audit", "alert", "monitor":
		return "audit"
	case "warn":
		return "warn"
	case "block", "alertandblock", "deny":
		return "block"
	case "blockandremediate":
		return "block_and_remediate"
	}
	return ""
}

func severity(said string, confidence int) string {
	switch fold(said) {
	case "":
		switch {
		case confidence >= 85:
			return "High"
		case confidence >= 50:
			return "Medium"
		case confidence >= 20:
			return "Low"
		}
		return "Informational"
	case "informational", "info", "0":
		return "Informational"
	case "low", "1":
		return "Low"
	case "medium", "2", "3":
		return "Medium"
	case "high", "critical", "4", "5":
		return "High"
	}
	return ""
}

// content is a digest of all that makes a new version worth while: not of times that we set ourselves.
func (i *indicator) content() string {
	c := map[string]any{
		"kind": i.kind, "value": i.value, "name": i.name, "description": i.description, "confidence": i.confidence, "tlp": i.tlp,
		"labels": i.labels, "threats": i.threats, "phases": i.phases, "references": i.references, "action": i.action, "severity": i.severity,
	}
	if i.ttl == 0 {
		c["until"] = i.until
	} else {
		c["ttl"] = i.ttl
	}
	if i.fromSaid {
		c["from"] = i.from
	}
	b, err := json.Marshal(c)
	if err != nil { // it is plain
		b = []byte(i.value)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// fold takes another draft of the same value in: what one of them says is kept, and of two sayings the more careful.
func (i *indicator) merge(o *indicator) {
	i.labels = tidy(append(i.labels, o.labels...))
	i.threats = tidy(append(i.threats, o.threats...))
	i.confidence = max(i.confidence, o.confidence)
	i.tlp = ioc.StricterTLP(i.tlp, o.tlp)
	if o.until.After(i.until) {
		i.until, i.ttl = o.until, o.ttl
	}
	if i.description == "" {
		i.description = o.description
	}
	for _, p := range o.phases {
		if !slices.Contains(i.phases, p) {
			i.phases = append(slices.Clip(i.phases), p)
		}
	}
	for _, r := range o.references {
		if !slices.Contains(i.references, r) {
			i.references = append(slices.Clip(i.references), r)
		}
	}
	i.digest = i.content()
}

// tidy sorts a list and takes out what is empty or there twice.
func tidy(list []string) []string {
	out := []string{}
	for _, s := range list {
		if s = clip(strings.TrimSpace(s), 250); s != "" {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// clip cuts a text to n bytes and makes it valid.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
