package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// listNames are the properties that a list of indicators is found under.
var listNames = []string{"indicators", "values", "value", "iocs", "observables", "data", "results", "items", "objects"}

// badJSON says where a document stops being JSON.
func badJSON(dec *json.Decoder, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the document ends too early, after %d bytes: is it whole?", dec.InputOffset())
	}
	return fmt.Errorf("this is not JSON, at byte %d: %w", dec.InputOffset(), err)
}

// json reads values and objects: in a list, in a list in an object, or one after the other.
func (d *Reader) json(yield yielder) error {
	dec := json.NewDecoder(d.in)
	dec.UseNumber()
	for n := 0; ; {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err != nil {
			return badJSON(dec, err)
		}
		switch delim, _ := t.(json.Delim); delim {
		case '[':
			err = d.elements(dec, &n, yield)
		case '{':
			err = d.object(dec, &n, yield)
		default:
			n++
			err = give(yield, draftOf(t, n))
		}
		if err != nil {
			return err
		}
	}
}

// elements reads the rest of a list.
func (d *Reader) elements(dec *json.Decoder, n *int, yield yielder) error {
	for dec.More() {
		var v any
		if err := dec.Decode(&v); err != nil {
			return badJSON(dec, err)
		}
		*n++
		if err := give(yield, draftOf(v, *n)); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return badJSON(dec, err)
	}
	return nil
}

// object reads the rest of an object: one that holds a list, or one that is an indicator.
func (d *Reader) object(dec *json.Decoder, n *int, yield yielder) error {
	rest := map[string]any{}
	listed := false
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return badJSON(dec, err)
		}
		name, _ := t.(string)
		var v json.RawMessage
		if slices.Contains(listNames, strings.ToLower(name)) {
			t, err := dec.Token()
			if err != nil {
				return badJSON(dec, err)
			}
			switch delim, _ := t.(json.Delim); delim {
			case '[':
				listed = true
				if err := d.elements(dec, n, yield); err != nil {
					return err
				}
				continue
			case '{':
				if err := d.object(dec, n, yield); err != nil {
					return err
				}
				listed = true
				continue
			}
			rest[name] = t
			continue
		}
		if err := dec.Decode(&v); err != nil {
			return badJSON(dec, err)
		}
		var value any
		inner := json.NewDecoder(bytes.NewReader(v))
		inner.UseNumber()
		if err := inner.Decode(&value); err != nil {
			return badJSON(dec, err)
		}
		rest[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return badJSON(dec, err)
	}
	if listed {
		return nil
	}
	*n++
	return give(yield, draftOf(rest, *n))
}

// draftOf makes a draft of a JSON value.
func draftOf(v any, n int) Draft {
	d := FromJSON(v)
	d.At = "item " + strconv.Itoa(n)
	return d
}

// FromJSON makes a draft of a value that stands for an indicator: a text, or an object whose properties have the names that
// columns of a CSV may have. An observable as flows see it, with data_type, is one.
func FromJSON(v any) Draft {
	switch t := v.(type) {
	case string:
		return Draft{Value: t}
	case map[string]any:
		return fromObject(t)
	case nil:
		return Draft{Problem: "is null where an indicator was expected"}
	}
	b, err := json.Marshal(v)
	if err != nil {
		b = fmt.Append(nil, v)
	}
	return Draft{Problem: "is neither text nor an object: " + clip(string(b))}
}

func fromObject(o map[string]any) Draft {
	var d Draft
	kind := ""
	for _, name := range slices.Sorted(maps.Keys(o)) {
		v := o[name]
		f := names[fold(name)]
		if v == nil || f == fieldNone {
			continue
		}
		if name == "data_type" || name == "dataType" {
			d.Exact = true
			if t, _ := v.(string); t != "" && t != "other" {
				kind = t
			}
			continue
		}
		if d.Exact && name == "tag" {
			continue // of an observable it tells its type more closely
		}
		if f == fieldTyped && (d.Value != "" || o["value"] != nil) {
			continue
		}
		text, list, ok := texts(v)
		if !ok {
			if f == fieldKillChain {
				d.KillChain = phases(v)
				continue
			}
			if f == fieldReference {
				continue
			}
			d.Problem = fmt.Sprintf("property %q is %T where text was expected", name, v)
			continue
		}
		switch f {
		case fieldValue:
			d.Value = text
		case fieldTyped:
			d.Value, d.Type = text, fold(name)
		case fieldLabels:
			d.Labels = append(d.Labels, list...)
		case fieldThreat:
			d.ThreatTypes = append(d.ThreatTypes, list...)
		default:
			for _, one := range list {
				if err := d.set(f, one); err != nil {
					d.Problem = err.Error()
				}
			}
		}
	}
	if kind != "" {
		d.Type = kind
	}
	if d.Value == "" && d.Pattern == "" && d.Problem == "" {
		d.Problem = "has no value: name it value, indicator, ip, domain, url, sha256 or the like"
	}
	return d
}

// texts reads a text, a number, or a list of them.
func texts(v any) (text string, list []string, ok bool) {
	switch t := v.(type) {
	case string:
		t = strings.TrimSpace(t)
		if t == "" {
			return "", nil, true
		}
		return t, []string{t}, true
	case json.Number:
		return t.String(), []string{t.String()}, true
	case float64:
		s := strconv.FormatFloat(t, 'f', -1, 64)
		return s, []string{s}, true
	case bool:
		s := strconv.FormatBool(t)
		return s, []string{s}, true
	case []any:
		for _, e := range t {
			s, ok := e.(string)
			if !ok {
				return "", nil, false
			}
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
		return strings.Join(list, ", "), list, true
	}
	return "", nil, false
}

// phases reads kill chain phases as STIX and Azure Resource Manager write them.
func phases(v any) []Phase {
	list, _ := v.([]any)
	var out []Phase
	for _, e := range list {
		m, _ := e.(map[string]any)
		var p Phase
		for k, v := range m {
			s, _ := v.(string)
			switch fold(k) {
			case "killchainname":
				p.KillChain = s
			case "phasename":
				p.Phase = s
			}
		}
		if p.KillChain != "" && p.Phase != "" {
			out = append(out, p)
		}
	}
	return out
}
