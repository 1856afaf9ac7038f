package thehive

import (
	"slices"
	"strings"
	"unicode"
)

// Observable is a value worth looking up.
type Observable struct {
	DataType string   `json:"dataType" cw:"required,maxlen=64" doc:"Type in TheHive, such as ip, domain, url, hash, mail; a type that the server does not have becomes other, with a tag"`
	Data     string   `json:"data" cw:"required" doc:"The value"`
	IOC      bool     `json:"ioc,omitempty" doc:"It is an indicator of compromise"`
	Sighted  bool     `json:"sighted,omitempty" doc:"It was seen in telemetry"`
	Tags     []string `json:"tags,omitempty" doc:"Tags of the observable"`
	Message  string   `json:"message,omitempty" doc:"What is known about it"`
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
// value over the limit is shortened and kept whole in the message.
func (s *server) prepare(in []Observable, tlp, pap int) []inputObservable {
	if len(in) == 0 {
		return nil
	}
	out := make([]inputObservable, 0, len(in))
	at := make(map[string]int, len(in))
	for i := range in {
		o := &in[i]
		kind, extra := s.dataType(o.DataType)
		given := strings.ToValidUTF8(o.Data, "\uFFFD")
		data := canonical(kind, given)
		if data == "" {
			continue
		}
		tags := o.Tags
		if extra != "" {
			tags = append([]string{extra}, tags...)
		}
		message := o.Message
		if kind == "url" && message == "" && data != strings.TrimSpace(given) {
			message = "As seen: `" + strings.ReplaceAll(cutUnits(strings.TrimSpace(given), maxData), "`", "%60") + "`"
		}
		if short := cutUnits(data, maxData); len(short) < len(data) {
			tags = append(slices.Clip(tags), "truncated", "type:"+kind)
			message = strings.TrimSpace(message + "\n\nThe whole value:\n" + data)
			kind, data = "other", short
		}
		k := identity(kind, data)
		if j, ok := at[k]; ok {
			twin := &out[j]
			twin.IOC, twin.Sighted = twin.IOC || o.IOC, twin.Sighted || o.Sighted
			twin.Tags = cleanTags(twin.Tags, tags)
			if twin.Message == "" {
				twin.Message = fit(message, maxMessage, "…")
			}
			continue
		}
		at[k] = len(out)
		out = append(out, inputObservable{
			DataType: kind, Data: data, Message: fit(message, maxMessage, "…"), Tags: cleanTags(tags), IOC: o.IOC, Sighted: o.Sighted,
			TLP: tlp, PAP: pap,
		})
	}
	return out
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
	return slices.ContainsFunc(tags, func(have string) bool { return strings.EqualFold(have, t) })
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
