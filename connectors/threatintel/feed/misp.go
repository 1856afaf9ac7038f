package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk/ioc"
)

type mispTag struct {
	Name string `json:"name"`
}

type mispAttribute struct {
	UUID      string    `json:"uuid"`
	Type      string    `json:"type"`
	Category  string    `json:"category"`
	Value     string    `json:"value"`
	ToIDs     *bool     `json:"to_ids"`
	Comment   string    `json:"comment"`
	Deleted   bool      `json:"deleted"`
	FirstSeen string    `json:"first_seen"`
	Timestamp any       `json:"timestamp"`
	Tags      []mispTag `json:"Tag"`
}

type mispEvent struct {
	UUID       string          `json:"uuid"`
	Info       string          `json:"info"`
	Date       string          `json:"date"`
	Tags       []mispTag       `json:"Tag"`
	Attributes []mispAttribute `json:"Attribute"`
	Objects    []struct {
		Name       string          `json:"name"`
		Comment    string          `json:"comment"`
		Deleted    bool            `json:"deleted"`
		Attributes []mispAttribute `json:"Attribute"`
	} `json:"Object"`
}

// misp reads one event, a list of events, or what a search answers. Attributes that MISP does not mean for detection
// (to_ids false) are left out.
func (d *Reader) misp(yield yielder) error {
	text, err := io.ReadAll(io.LimitReader(d.in, maxText+1))
	if err != nil {
		return err
	}
	if len(text) > maxText {
		return fmt.Errorf("the document has more than %d MiB; export fewer events at once", maxText>>20)
	}
	events, err := mispEvents(text)
	if err != nil {
		return err
	}
	n := 0
	for _, e := range events {
		for _, a := range e.Attributes {
			n++
			if err := d.attribute(&e, &a, "", n, yield); err != nil {
				return err
			}
		}
		for _, o := range e.Objects {
			for _, a := range o.Attributes {
				n++
				a.Deleted = a.Deleted || o.Deleted
				if err := d.attribute(&e, &a, o.Name, n, yield); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func mispEvents(text []byte) ([]mispEvent, error) {
	type wrapped struct {
		Event *mispEvent `json:"Event"`
	}
	text = bytes.TrimSpace(text)
	var list []wrapped
	var err error
	if len(text) > 0 && text[0] == '[' {
		err = json.Unmarshal(text, &list)
	} else {
		var doc struct {
			Event    *mispEvent      `json:"Event"`
			Response json.RawMessage `json:"response"`
		}
		err = json.Unmarshal(text, &doc)
		list = []wrapped{{doc.Event}}
		if err == nil && len(doc.Response) > 0 {
			if doc.Response[0] == '[' {
				err = json.Unmarshal(doc.Response, &list)
			} else { // attributes without their events
				var found struct {
					Attributes []mispAttribute `json:"Attribute"`
				}
				err = json.Unmarshal(doc.Response, &found)
				list = []wrapped{{&mispEvent{Attributes: found.Attributes}}}
			}
		}
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, fmt.Errorf("this is not JSON, at byte %d: %w", syntax.Offset, err)
	}
	if err != nil {
		return nil, fmt.Errorf("this is no MISP event: %w", err)
	}
	var out []mispEvent
	for _, w := range list {
		if w.Event != nil {
			out = append(out, *w.Event)
		}
	}
	if len(out) == 0 {
		return nil, errors.New(`this is no MISP event: there is no "Event" in it`)
	}
	return out, nil
}

// mispParts says which parts of a composite value are of what type.
var mispParts = map[string][]string{
	"domain|ip": {"domain", "ip"}, "hostname|port": {"domain", ""}, "ip-dst|port": {"ip", ""}, "ip-src|port": {"ip", ""},
	"filename|md5": {"", "md5"}, "filename|sha1": {"", "sha1"}, "filename|sha256": {"", "sha256"}, "filename|sha512": {"", "sha512"},
	"malware-sample": {"", "md5"},
}

// mispTypes are the types of one value that an indicator can be made of.
var mispTypes = map[string]string{
	"ip-src": "ip", "ip-dst": "ip", "domain": "domain", "hostname": "domain", "url": "url", "md5": "md5", "sha1": "sha1", "sha256": "sha256",
	"sha512": "sha512", "email": "email", "email-src": "email", "email-dst": "email", "email-reply-to": "email",
	"x509-fingerprint-sha1": "certificate", "link": "url", "uri": "url", "stix2-pattern": "pattern",
}

func (d *Reader) attribute(e *mispEvent, a *mispAttribute, object string, n int, yield yielder) error {
	switch {
	case a.Deleted:
		d.Skipped["deleted attribute"]++
		return nil
	case a.ToIDs != nil && !*a.ToIDs:
		d.Skipped["attribute that is not for detection (to_ids)"]++
		return nil
	}
	base := Draft{At: "attribute " + strconv.Itoa(n), Exact: true, Name: clip(e.Info), Description: clip(a.Comment), ValidFrom: mispTime(a, e)}
	if base.Description == "" {
		base.Description = strings.TrimSpace(a.Category + " " + object)
	}
	if e.UUID != "" {
		base.References = []Reference{{Source: "misp", ExternalID: e.UUID}}
	}
	for _, t := range append(append([]mispTag{}, e.Tags...), a.Tags...) {
		if tlp, err := ioc.ParseTLP(t.Name); err == nil && strings.HasPrefix(strings.ToLower(t.Name), "tlp:") {
			base.TLP = string(ioc.StricterTLP(ioc.TLP(base.TLP), tlp))
			continue
		}
		base.Labels = append(base.Labels, clip(t.Name))
	}
	if kinds, ok := mispParts[a.Type]; ok {
		parts := strings.SplitN(a.Value, "|", 2)
		for i, kind := range kinds {
			if kind == "" {
				continue
			}
			one := base
			if one.Type = kind; i < len(parts) {
				one.Value = parts[i]
			} else {
				one.Problem = fmt.Sprintf("%s has no second part: %s", a.Type, clip(a.Value))
			}
			if err := give(yield, one); err != nil {
				return err
			}
		}
		return nil
	}
	base.Value, base.Type = a.Value, mispTypes[a.Type]
	switch base.Type {
	case "":
		base.Problem = "there is no indicator for MISP's type " + clip(a.Type)
	case "ip":
		if strings.Contains(a.Value, "/") {
			base.Type = "cidr"
		}
	case "pattern":
		base.Type, base.Pattern, base.Value = "", a.Value, ""
	}
	return give(yield, base)
}

// mispTime is when an attribute was seen first, or made.
func mispTime(a *mispAttribute, e *mispEvent) string {
	if a.FirstSeen != "" {
		return a.FirstSeen
	}
	text, _, _ := texts(a.Timestamp)
	if s, err := strconv.ParseInt(text, 10, 64); err == nil && s > 0 {
		return time.Unix(s, 0).UTC().Format(time.RFC3339)
	}
	return e.Date
}
