package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/casewire/casewire/sdk/ioc"
)

// stixObject is what we read of a STIX 2.x object.
type stixObject struct {
	Type        string      `json:"type"`
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Pattern     string      `json:"pattern"`
	PatternType string      `json:"pattern_type"`
	ValidFrom   string      `json:"valid_from"`
	ValidUntil  string      `json:"valid_until"`
	Confidence  *int        `json:"confidence"`
	Labels      []string    `json:"labels"`
	Kinds       []string    `json:"indicator_types"`
	Markings    []string    `json:"object_marking_refs"`
	Phases      []Phase     `json:"kill_chain_phases"`
	References  []Reference `json:"external_references"`
	Revoked     bool        `json:"revoked"`
}

// stix reads a bundle, a list of objects, or objects one after the other.
func (d *Reader) stix(yield yielder) error {
	dec := json.NewDecoder(d.in)
	n := 0
	for documents := 0; ; documents++ {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) && documents > 0 {
			return nil
		}
		if err != nil {
			return badJSON(dec, err)
		}
		switch delim, _ := t.(json.Delim); delim {
		case '[':
			err = d.stixList(dec, &n, yield)
		case '{':
			err = d.stixDocument(dec, &n, yield)
		default:
			err = fmt.Errorf("this is no STIX: %v where a bundle or an object was expected", t)
		}
		if err != nil {
			return err
		}
	}
}

// stixDocument reads the rest of an object that is a bundle, an envelope with objects, or an object itself.
func (d *Reader) stixDocument(dec *json.Decoder, n *int, yield yielder) error {
	rest := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return badJSON(dec, err)
		}
		name, _ := t.(string)
		if name == "objects" || name == "stixobjects" {
			t, err := dec.Token()
			if err != nil {
				return badJSON(dec, err)
			}
			if t != json.Delim('[') {
				return fmt.Errorf("%s is not a list", name)
			}
			if err := d.stixList(dec, n, yield); err != nil {
				return err
			}
			continue
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return badJSON(dec, err)
		}
		rest[name] = v
	}
	if _, err := dec.Token(); err != nil {
		return badJSON(dec, err)
	}
	if rest["pattern"] == nil {
		return nil // a bundle
	}
	raw, err := json.Marshal(rest)
	if err != nil {
		return err
	}
	*n++
	return d.stixOne(raw, *n, yield)
}

func (d *Reader) stixList(dec *json.Decoder, n *int, yield yielder) error {
	for dec.More() {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return badJSON(dec, err)
		}
		*n++
		if err := d.stixOne(raw, *n, yield); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return badJSON(dec, err)
	}
	return nil
}

func (d *Reader) stixOne(raw json.RawMessage, n int, yield yielder) error {
	at := "object " + strconv.Itoa(n)
	var o stixObject
	if err := json.Unmarshal(raw, &o); err != nil {
		return give(yield, Draft{At: at, Problem: "has another shape than STIX: " + err.Error()})
	}
	if o.Type != "indicator" {
		d.Skipped[o.Type]++
		return nil
	}
	out := Draft{
		At: at, Exact: true, Name: o.Name, Description: o.Description, ValidFrom: o.ValidFrom, ValidUntil: o.ValidUntil,
		Confidence: o.Confidence, Labels: o.Labels, ThreatTypes: o.Kinds, KillChain: o.Phases, References: o.References,
		Revoked: o.Revoked, Pattern: o.Pattern,
	}
	if o.ID != "" {
		out.References = append(out.References, Reference{Source: "stix", ExternalID: o.ID})
	}
	for _, m := range o.Markings {
		if tlp, err := ioc.ParseTLP(m); err == nil {
			out.TLP = string(ioc.StricterTLP(ioc.TLP(out.TLP), tlp))
		}
	}
	switch {
	case o.Pattern == "":
		out.Problem = "has no pattern"
	case o.PatternType != "" && o.PatternType != "stix":
		out.Problem = "its pattern is written in " + clip(o.PatternType) + ", which Sentinel does not take from us: only STIX patterns"
	}
	return give(yield, out)
}

// patternForm is how a pattern begins: with what it compares, and how. An address in brackets is none.
var patternForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[\s(]*\[[\s(]*(?:(?:NOT\s+)?EXISTS\s+[a-z][a-z0-9-]*:[A-Za-z0-9_]|` +
		`[a-z][a-z0-9-]*:[A-Za-z0-9_][A-Za-z0-9_.'"\[\]*-]*\s*(?:=|!=|<|>|(?:NOT\s+)?(?:=|!=|<|>|(?:IN|LIKE|MATCHES|ISSUBSET|ISSUPERSET)[\s('])))`)
})

// IsPattern says whether a text has the form of a STIX pattern.
func IsPattern(s string) bool {
	return strings.Contains(s, ":") && strings.Contains(s, "]") && patternForm().MatchString(s)
}
