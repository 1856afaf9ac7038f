package event

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of an event. MaxData is plugin.MaxEvent, said again here because plugin may import this package.
const (
	MaxData      = 1 << 20 // bytes of data
	MaxAttribute = 512     // bytes of an attribute
	MaxTenant    = 128     // bytes of the tenant
	MaxAliases   = 64
)

// head says what the data of a type of event must begin with.
type head struct {
	class, category int64
	activities      []int64
	required        []string // names that must be there
	schema          string
}

const schemaBase = "https://schema.ocsf.io/1.8.0/classes/"

// DataVersion is the version of OCSF that data is written in.
const DataVersion = "1.8.0"

var heads = map[string]*head{
	TypeAlert: {
		2004, 2,
		[]int64{0, 1, 2, 3, 99},
		[]string{"finding_info", "metadata", "severity_id", "time"},
		schemaBase + "detection_finding",
	},
	TypeIncident: {
		2005, 2,
		[]int64{0, 1, 2, 3, 99},
		[]string{"finding_info_list", "metadata", "severity_id", "status_id", "time"},
		schemaBase + "incident_finding",
	},
	TypeCase: {
		2005, 2,
		[]int64{0, 1, 2, 3, 99},
		[]string{"finding_info_list", "metadata", "severity_id", "status_id", "time"},
		schemaBase + "incident_finding",
	},
	TypeIndicator: {
		5021, 5,
		[]int64{0, 1, 2, 99},
		[]string{"osint", "metadata", "severity_id", "time"},
		schemaBase + "osint_inventory_info",
	},
	TypeRow: {
		0, 0,
		[]int64{0, 99},
		[]string{"metadata", "severity_id", "time"},
		schemaBase + "base_event",
	},
}

// SchemaOf returns the address of the OCSF class that the data of a type of event follows; empty for an unknown type.
func SchemaOf(typ string) string {
	if h := heads[typ]; h != nil {
		return h.schema
	}
	return ""
}

// Check says everything that is wrong with the event: the envelope's rules, an id that does not follow from the other
// attributes, data that is too large or is not strict JSON (duplicate names, bad UTF-8), and a head that does not fit the
// type. It does not validate data against the whole schema. The error is nil or a join of one error per fault.
func (e *Event) Check() error {
	var c checker
	c.envelope(e)
	switch {
	case len(e.Data) == 0:
		c.addf("data is missing")
	case len(e.Data) > MaxData:
		c.addf("data has %d bytes, more than the limit of %d: leave out evidence or keep the raw object elsewhere", len(e.Data), MaxData)
	default:
		c.data(e)
	}
	return errors.Join(c.errs...)
}

type checker struct{ errs []error }

func (c *checker) addf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *checker) envelope(e *Event) {
	c.text("source", e.Source, true, MaxAttribute)
	if e.Source != "" && !hasScheme(e.Source) {
		c.addf("source %q: want an absolute URI", clip(e.Source))
	}
	c.text("subject", e.Subject, true, MaxAttribute)
	c.text("partitionkey", e.PartitionKey, true, MaxAttribute)
	if e.PartitionKey != strings.ToLower(e.PartitionKey) {
		c.addf("partitionkey %q: want lower case, so that every spelling of an id is one object", clip(e.PartitionKey))
	}
	c.text("correlationid", e.CorrelationID, false, MaxAttribute)
	c.text("causationid", e.CausationID, false, MaxAttribute)
	c.text("cwtenant", e.Tenant, false, MaxTenant)
	if heads[e.Type] == nil {
		c.addf("type %q: unknown; want one of alert, incident, indicator, row, case as io.casewire.NAME.v1", clip(e.Type))
	}
	if e.DataSchema != "" {
		c.text("dataschema", e.DataSchema, false, MaxAttribute)
		if u, err := url.Parse(e.DataSchema); err != nil || !u.IsAbs() {
			c.addf("dataschema %q: want an absolute URI", clip(e.DataSchema))
		}
	}
	c.revision(e)
	if e.TLP != "" && !slices.Contains([]string{"CLEAR", "GREEN", "AMBER", "AMBER STRICT", "RED"}, e.TLP) {
		c.addf("cwtlp %q: want CLEAR, GREEN, AMBER, AMBER STRICT or RED", clip(e.TLP))
	}
	if e.PAP != "" && !slices.Contains([]string{"CLEAR", "GREEN", "AMBER", "RED"}, e.PAP) {
		c.addf("cwpap %q: want CLEAR, GREEN, AMBER or RED", clip(e.PAP))
	}
	if e.TraceParent != "" && !isTraceParent(e.TraceParent) {
		c.addf("traceparent %q: want the form of W3C Trace Context", clip(e.TraceParent))
	}
	if len(e.Aliases) > MaxAliases {
		c.addf("cwaliases has %d entries, more than the limit of %d", len(e.Aliases), MaxAliases)
	}
	for i, a := range e.Aliases {
		if i < MaxAliases {
			c.text("cwaliases["+strconv.Itoa(i)+"]", a, true, MaxAttribute)
		}
	}
}

func (c *checker) revision(e *Event) {
	rev, err := RevTime(e.Rev)
	if err != nil {
		c.addf("cwrev: %w", err)
	} else if !e.Time.Equal(rev) {
		c.addf("time %s is not the time of cwrev, %s", e.Time.UTC().Format(time.RFC3339Nano), rev.Format(time.RFC3339Nano))
	}
	if len(e.Digest) != 2*digestBytes || strings.Trim(e.Digest, "0123456789abcdef") != "" {
		c.addf("cwdigest %q: want %d lower-case hex digits", clip(e.Digest), 2*digestBytes)
	}
	if want := ComputeID(e.Source, e.Subject, e.Rev, e.Digest); e.ID != want {
		c.addf("id %q does not follow from source, subject, cwrev and cwdigest, which give %q", clip(e.ID), want)
	}
}

func (c *checker) text(name, s string, required bool, limit int) {
	switch {
	case s == "" && required:
		c.addf("%s is missing", name)
	case len(s) > limit:
		c.addf("%s has %d bytes, more than the limit of %d", name, len(s), limit)
	case !plain(s):
		c.addf("%s %q: has control characters or bad UTF-8", name, clip(s))
	}
}

// plain says whether s has only characters that CloudEvents allows in attributes.
func plain(s string) bool {
	ascii := true
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s)
}

func hasScheme(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || scheme[0] < 'a' || scheme[0] > 'z' {
		return false
	}
	return strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+.-") == ""
}

// isTraceParent checks the form of version 00: 00-<32 hex>-<16 hex>-<2 hex>.
func isTraceParent(s string) bool {
	p := strings.Split(s, "-")
	if len(p) != 4 || len(p[0]) != 2 || len(p[1]) != 32 || len(p[2]) != 16 || len(p[3]) != 2 {
		return false
	}
	return strings.Trim(strings.Join(p, ""), "0123456789abcdef") == ""
}

// data reads the data once: duplicate names and bad UTF-8 are refused everywhere, and the head is looked at as it goes by.
func (c *checker) data(e *Event) {
	var room [32]member
	h := headValues{members: room[:0]}
	named := true
	if strictMembers(e.Data, func(name, value []byte) {
		named = named && isAttributeName(name)
		h.take(name, value)
	}) && named {
		c.head(e, &h)
		return
	}
	c.slowly(e)
}

// slowly reads data that is unusual or wrong, and says what is wrong.
func (c *checker) slowly(e *Event) {
	d := jsontext.NewDecoder(bytes.NewBuffer(e.Data))
	tok, err := d.ReadToken()
	if err != nil {
		c.addf("data is not strict JSON: %w", err)
		return
	}
	if tok.Kind() != '{' {
		c.addf("data is no JSON object")
		return
	}
	h := headValues{}
	for d.PeekKind() == '"' {
		name, err := d.ReadValue()
		if err != nil {
			c.addf("data is not strict JSON: %w", err)
			return
		}
		if !isAttributeName(name[1 : len(name)-1]) {
			c.addf("data: %s is no name of an OCSF attribute (lower-case letters, digits and _)", clip(string(name)))
		}
		// The decoder's buffer is only good until the next read.
		n := bytes.Clone(name[1 : len(name)-1])
		v, err := d.ReadValue()
		if err != nil {
			c.addf("data is not strict JSON: %w", err)
			return
		}
		h.take(n, v)
	}
	if _, err = d.ReadToken(); err == nil {
		err = trailing(d)
	}
	if err != nil {
		c.addf("data is not strict JSON: %w", err)
		return
	}
	c.head(e, &h)
}

func trailing(d *jsontext.Decoder) error {
	if len(bytes.TrimSpace(d.UnreadBuffer())) > 0 {
		return errors.New("something follows the object")
	}
	return nil
}

// isAttributeName looks at a name without its quotes. A name in another case would be read by decoders that fold case,
// and not be seen by a schema: two readers would see two events.
func isAttributeName(name []byte) bool {
	for _, b := range name {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '_' {
			return false
		}
	}
	return len(name) > 0
}

// headValues is what is looked at of the data.
type headValues struct {
	members      []member
	version, uid string
	product      bool
	nulls        []string
}

// member is a member of the data's object.
type member struct {
	name    []byte
	integer int64
	whole   bool // it is an integer
}

// headInts are the members whose value matters.
var headInts = []string{"class_uid", "category_uid", "type_uid", "activity_id", "severity_id", "status_id", "time"}

// find returns a member by name, nil if it is not there.
func (h *headValues) find(name string) *member {
	for i := range h.members {
		if string(h.members[i].name) == name {
			return &h.members[i]
		}
	}
	return nil
}

func (h *headValues) take(name []byte, v jsontext.Value) {
	m := member{name: name}
	switch v.Kind() {
	case 'n':
		h.nulls = append(h.nulls, string(name))
	case '0':
		if slices.Contains(headInts, string(name)) {
			n, err := strconv.ParseInt(string(v), 10, 64)
			m.integer, m.whole = n, err == nil
		}
	case '{':
		if string(name) == "metadata" && !strictMembers(v, h.metadatum) {
			h.metadata(v)
		}
	}
	h.members = append(h.members, m)
}

// metadatum looks at one member of the metadata.
func (h *headValues) metadatum(name, value []byte) {
	text := func() string {
		b, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return "" // no text
		}
		return string(b)
	}
	switch string(name) {
	case "version":
		h.version = text()
	case "uid":
		h.uid = text()
	case "product":
		h.product = true
	}
}

// metadata was read strictly as a part of the whole; here it is only looked into.
func (h *headValues) metadata(v jsontext.Value) {
	d := jsontext.NewDecoder(bytes.NewBuffer(v))
	if _, err := d.ReadToken(); err != nil {
		return
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return
		}
		n := []byte(name.String())
		v, err := d.ReadValue()
		if err != nil {
			return
		}
		h.metadatum(n, v)
	}
}

func (c *checker) head(e *Event, h *headValues) {
	want := heads[e.Type]
	if want == nil {
		return
	}
	integer := func(name string) (int64, bool) {
		m := h.find(name)
		switch {
		case m == nil:
			c.addf("data.%s is missing", name)
			return 0, false
		case !m.whole:
			c.addf("data.%s is no integer", name)
		}
		return m.integer, m.whole
	}
	if n, ok := integer("class_uid"); ok && n != want.class {
		c.addf("data.class_uid is %d; %s wants %d", n, e.Type, want.class)
	}
	if n, ok := integer("category_uid"); ok && n != want.category {
		c.addf("data.category_uid is %d; %s wants %d", n, e.Type, want.category)
	}
	activity, ok := integer("activity_id")
	if ok && !slices.Contains(want.activities, activity) {
		c.addf("data.activity_id is %d; %s knows %v", activity, e.Type, want.activities)
	}
	if n, tok := integer("type_uid"); tok && ok && n != want.class*100+activity {
		c.addf("data.type_uid is %d; class_uid x 100 + activity_id is %d", n, want.class*100+activity)
	}
	if n, sok := integer("severity_id"); sok && (n < 0 || n > 6) && n != 99 {
		c.addf("data.severity_id is %d; want 0 to 6, or 99", n)
	}
	integer("time")
	for _, name := range want.required {
		if h.find(name) == nil && !slices.Contains(headInts, name) {
			c.addf("data.%s is missing", name)
		}
	}
	if slices.Contains(want.required, "status_id") {
		integer("status_id")
	}
	for _, name := range h.nulls {
		c.addf("data.%s is null; leave it out", clip(name))
	}
	if h.find("metadata") == nil {
		return
	}
	if !strings.HasPrefix(h.version, "1.8.") {
		c.addf("data.metadata.version is %q; want %s", clip(h.version), DataVersion)
	}
	if !h.product {
		c.addf("data.metadata.product is missing")
	}
	if h.uid != "" && h.uid != e.ID {
		c.addf("data.metadata.uid %q is not the event's id", clip(h.uid))
	}
}
