package thehive

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/ioc"
)

// Observable is a value worth looking up. It may be written as TheHive does (dataType, data), or be an entry of
// alert.observables as it is.
type Observable struct {
	DataType string   `json:"dataType,omitempty" cw:"maxlen=64" doc:"Type in TheHive, such as ip, domain, url, hash, mail; a type that the server does not have becomes other, with a tag"`
	Data     string   `json:"data,omitempty" doc:"The value"`
	IOC      bool     `json:"ioc,omitempty" doc:"It is an indicator of compromise; what cannot be one, such as a private address, a name of our own or the hash of an empty file, is not marked"`
	Sighted  bool     `json:"sighted,omitempty" doc:"It was seen in telemetry; an entry of alert.observables always was"`
	Tags     []string `json:"tags,omitempty" doc:"Tags of the observable"`
	Message  string   `json:"message,omitempty" doc:"What is known about it"`

	SightedAt        time.Time `json:"sighted_at,omitzero" doc:"When it was seen"`
	TLP              string    `json:"tlp,omitempty" doc:"Marking of its own"`
	PAP              string    `json:"pap,omitempty" doc:"Permissible actions of its own"`
	IgnoreSimilarity bool      `json:"ignore_similarity,omitempty" doc:"Say nothing of other cases that have it; private addresses never do"`

	Type        string `json:"type,omitempty" doc:"Type in an entry of alert.observables, or TheHive's"`
	Value       string `json:"value,omitempty" doc:"Value in an entry of alert.observables"`
	PlainType   string `json:"data_type,omitempty" doc:"TheHive's type in an entry of alert.observables"`
	SpecificTag string `json:"tag,omitempty" doc:"What tells apart entries of alert.observables whose data_type is other"`
}

// TheHive's limits.
const (
	maxData    = 4096
	maxMessage = 1048576
	maxTag     = 128
	maxTitle   = 512
	maxLink    = 512 // until 5.7.2; 4096 later
)

// prepare makes the observables ready: canonical values, known types, tags within limits, and each value once, whatever
// its case, since TheHive compares some types without regard to it. What one of two equal ones says is kept for both. A
// value over the limit is shortened and kept whole in the message. What has no value is rejected, and costs nothing else.
func (c *Client) prepare(s *server, in []Observable, tlp, pap level) (out []inputObservable, rejected []Rejected, err error) {
	if len(in) == 0 {
		return nil, nil, nil
	}
	out = make([]inputObservable, 0, len(in))
	at := make(map[string]int, len(in))
	for i := range in {
		o, err := c.prepareOne(s, i, &in[i], tlp, pap)
		if err != nil {
			return nil, nil, err
		}
		if o.Data == "" {
			rejected = append(rejected, Rejected{DataType: cut(in[i].kind(), 64), Data: "", Reason: "it has no value"})
			continue
		}
		k := identity(o.DataType, o.Data.(string))
		j, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, o)
			continue
		}
		twin := &out[j]
		twin.IOC, twin.Sighted = twin.IOC || o.IOC, twin.Sighted || o.Sighted
		twin.TLP, twin.PAP, twin.SightedAt = max(twin.TLP, o.TLP), max(twin.PAP, o.PAP), max(twin.SightedAt, o.SightedAt)
		twin.Tags = cleanTags(twin.Tags, o.Tags)
		twin.Message = cmp.Or(twin.Message, o.Message)
	}
	return out, rejected, nil
}

func (c *Client) prepareOne(s *server, i int, o *Observable, tlp, papLevel level) (inputObservable, error) {
	out := inputObservable{Data: "", IOC: o.IOC, Sighted: o.Sighted || o.PlainType != "", IgnoreSimilarity: o.IgnoreSimilarity}
	var err error
	if tlp, papLevel, err = o.markings(i, tlp, papLevel); err != nil {
		return out, err
	}
	out.TLP, out.PAP = s.tlp(tlp), pap(papLevel)
	if !o.SightedAt.IsZero() {
		out.Sighted, out.SightedAt = true, o.SightedAt.UnixMilli()
	}
	given := strings.ToValidUTF8(cmp.Or(o.Data, o.Value), "\uFFFD")
	named := disguised(o.kind(), given)
	kind, extra := s.dataType(named)
	data := canonical(kind, given)
	if data == "" {
		return out, nil
	}
	tags := o.Tags
	for _, t := range []string{o.SpecificTag, extra} {
		if t != "" {
			tags = append([]string{t}, tags...)
		}
	}
	message := o.Message
	if kind == "url" && message == "" && data != strings.TrimSpace(given) {
		message = "As seen: `" + strings.ReplaceAll(cutUnits(strings.TrimSpace(given), maxData), "`", "%60") + "`"
	}
	c.judge(kind, data, &out)
	if short := cutUnits(data, maxData); len(short) < len(data) {
		tags = append(slices.Clip(tags), "truncated", "type:"+kind)
		message = strings.TrimSpace(message + "\n\nThe whole value:\n" + data)
		kind, data = "other", short
	}
	out.DataType, out.Data, out.Message, out.Tags = kind, data, fit(message, maxMessage, "…"), cleanTags(tags)
	return out, nil
}

// markings are those of its own, or the ones given.
func (o *Observable) markings(i int, tlp, pap level) (level, level, error) {
	at := "/observables/" + strconv.Itoa(i)
	if o.TLP != "" {
		own, ok := tlpLevel(o.TLP)
		if !ok {
			return 0, 0, sdk.Invalid(at+"/tlp", "%q is none of clear, green, amber, amber+strict, red", o.TLP)
		}
		tlp = own
	}
	if o.PAP != "" {
		own, ok := papLevel(o.PAP)
		if !ok {
			return 0, 0, sdk.Invalid(at+"/pap", "%q is none of clear, green, amber, red", o.PAP)
		}
		pap = own
	}
	return tlp, pap, nil
}

// captions are OCSF's names of observable types in TheHive's words, for lists that have no data_type.
var captions = map[string]string{
	"ip address": "ip", "hostname": "hostname", "email address": "mail", "email": "mail", "url string": "url",
	"uniform resource locator": "url", "file name": "filename", "hash": "hash", "fingerprint": "hash", "user agent": "user-agent",
	"http user-agent": "user-agent", "registry key": "registry", "registry key path": "registry", "email subject": "mail-subject",
}

// kind is the type as it was given.
func (o *Observable) kind() string {
	if k := cmp.Or(o.DataType, o.PlainType); k != "" {
		return k
	}
	return cmp.Or(captions[strings.ToLower(strings.TrimSpace(o.Type))], o.Type)
}

// disguised tells hashes and names of files apart, which sources mix up: only what is a hash is looked up as one.
func disguised(kind, data string) string {
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "hash":
		if _, _, ok := ioc.Hash(strings.TrimSpace(data)); !ok && strings.TrimSpace(data) != "" {
			if name := strings.TrimSpace(data); strings.Contains(name, ".") && !strings.ContainsAny(name, " \t\n:") {
				return "filename"
			}
			return "malformed-hash"
		}
	case "filename":
		if _, _, ok := ioc.Hash(strings.TrimSpace(data)); ok {
			return "hash"
		}
	}
	return kind
}

// ocsfTypes are the types of observables about which there are rules.
var ocsfTypes = map[string]int{
	"ip": ocsf.ObservableIP, "domain": ocsf.ObservableHostname, "fqdn": ocsf.ObservableHostname, "hostname": ocsf.ObservableHostname,
	"mail": ocsf.ObservableEmail, "url": ocsf.ObservableURL, "hash": ocsf.ObservableHash,
}

// judge takes the mark of an indicator from what cannot be one or is our own, and keeps private addresses, which half of all
// cases have, from making cases look alike.
func (c *Client) judge(kind, data string, out *inputObservable) {
	if kind == "ip" {
		if a, err := netip.ParseAddr(data); err == nil && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()) {
			out.IgnoreSimilarity = true
		}
	}
	if id, ok := ocsfTypes[kind]; ok && out.IOC {
		out.IOC = c.own.Flag(ocsf.Observable{TypeID: id, Value: data}, ocsf.VerdictTruePositive)
	}
}

// identity is equal for observables that TheHive would call the same.
func identity(dataType, data string) string {
	return strings.ToLower(dataType) + "\x00" + strings.ToLower(data)
}

// dataType maps a type that the server does not have, or that takes files only, to other and a tag that names it.
func (s *server) dataType(name string) (kind, tag string) {
	kind = strings.ToLower(strings.TrimSpace(name))
	if attachment, ok := s.types[kind]; ok && !attachment {
		return kind, ""
	}
	if kind == "" {
		return "other", ""
	}
	return "other", "type:" + kind
}

// cleanTags trims, cuts and deduplicates tags: TheHive wants 1 to 128 characters, each once.
func cleanTags(lists ...[]string) []string {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	if n == 0 {
		return nil
	}
	out := make([]string, 0, n)
	for _, l := range lists {
		for _, t := range l {
			if t = cleanTag(t); t != "" && !hasTag(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

func cleanTag(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.TrimSpace(cutUnits(strings.TrimSpace(s), maxTag))
}

// hasTag compares without regard to case: two tags that differ only in it help nobody.
func hasTag(tags []string, t string) bool {
	return slices.ContainsFunc(tags, func(have string) bool { return sameTag(have, t) })
}

// identities is the digest of a set of observables.
func identities(obs []inputObservable) string {
	if len(obs) == 0 {
		return ""
	}
	ids := make([]string, len(obs))
	for i := range obs {
		ids[i] = identity(obs[i].DataType, obs[i].Data.(string))
	}
	slices.Sort(ids)
	return digest(ids...)
}
