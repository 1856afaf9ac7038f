// Package feed reads threat indicators as people and products hand them out: lists, CSV, JSON, STIX 2.1 bundles and MISP
// events. It says what a file says, record by record; what may be submitted is for others to judge.
package feed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Draft is one indicator as its source wrote it.
type Draft struct {
	// At is where it stands: "line 12", "object 7".
	At          string      `json:"at,omitempty" cw:"maxlen=200" doc:"Where it comes from, for reports" example:"line 12"`
	Value       string      `json:"value,omitempty" cw:"maxlen=8192" doc:"The value, such as an address or a hash; written so that nobody clicks on it (hxxp, [.]) is fine" example:"hxxps://bad[.]example/x"`
	Type        string      `json:"type,omitempty" cw:"maxlen=200" doc:"ip, cidr, domain, url, email, md5, sha1, sha256, sha512, certificate, or another product's word for it; default: told from the value" example:"ip"`
	Exact       bool        `json:"exact,omitempty" doc:"The value is as an API gave it, and not written for people"`
	Pattern     string      `json:"pattern,omitempty" cw:"maxlen=16384" doc:"STIX pattern in place of a value; one that compares a single value is understood, others are kept as they are" example:"[ipv4-addr:value = '5.45.207.1']"`
	Name        string      `json:"name,omitempty" cw:"maxlen=1000" doc:"Title; default the value"`
	Description string      `json:"description,omitempty" cw:"maxlen=16384" doc:"What it is about"`
	Confidence  *int        `json:"confidence,omitempty" doc:"0 to 100"`
	TLP         string      `json:"tlp,omitempty" cw:"maxlen=100" doc:"CLEAR, GREEN, AMBER, AMBER+STRICT or RED" example:"AMBER"`
	ValidFrom   string      `json:"valid_from,omitempty" cw:"maxlen=100" doc:"RFC 3339 time, or a date"`
	ValidUntil  string      `json:"valid_until,omitempty" cw:"maxlen=100" doc:"RFC 3339 time, or a date; default: by type"`
	Labels      []string    `json:"labels,omitempty" doc:"Tags"`
	ThreatTypes []string    `json:"threat_types,omitempty" doc:"STIX indicator types" example:"malicious-activity"`
	KillChain   []Phase     `json:"kill_chain,omitempty" doc:"Phases of kill chains"`
	References  []Reference `json:"references,omitempty" doc:"Where it was published"`
	Action      string      `json:"action,omitempty" cw:"maxlen=100" doc:"What Defender does: allow, audit, warn, block, block_and_remediate; Sentinel takes none" example:"audit"`
	Severity    string      `json:"severity,omitempty" cw:"maxlen=100" doc:"informational, low, medium or high, for Defender; default by confidence"`
	Revoked     bool        `json:"revoked,omitempty" doc:"Its source took it back"`
	// Problem says why the record cannot be read. It is kept, so that a report can name it.
	Problem string `json:"problem,omitempty" cw:"maxlen=2000" doc:"Why the record cannot be read"`
	// Created and Modified are of our object, as an earlier submission told.
	Created  string `json:"created,omitempty" cw:"maxlen=100" doc:"When our object was made, as an earlier result says"`
	Modified string `json:"modified,omitempty" cw:"maxlen=100" doc:"The version of our object, as an earlier result says; the next one is later"`
}

// Phase is one of a kill chain.
type Phase struct {
	KillChain string `json:"kill_chain_name" cw:"required,maxlen=200" doc:"Name of the kill chain" example:"mitre-attack"`
	Phase     string `json:"phase_name" cw:"required,maxlen=200" doc:"Name of the phase" example:"command-and-control"`
}

// Reference is a publication.
type Reference struct {
	Source     string `json:"source_name" cw:"required,maxlen=500" doc:"Who published it"`
	ExternalID string `json:"external_id,omitempty" cw:"maxlen=500" doc:"Its id there"`
	URL        string `json:"url,omitempty" cw:"maxlen=4096" doc:"Where"`
}

// The formats.
const (
	Auto = "auto" // told from the first bytes
	List = "list" // one value on a line; # begins a comment
	CSV  = "csv"  // with a header
	JSON = "json" // values or objects, in a list, in an object, or one on a line
	STIX = "stix" // STIX 2.x bundle, or a list of objects
	MISP = "misp" // one event or several
)

// Formats lists the formats.
var Formats = []string{Auto, List, CSV, JSON, STIX, MISP}

// maxText bounds what has to be read whole: a MISP event, whose tags may follow its attributes.
const maxText = 256 << 20

// Reader reads one document.
type Reader struct {
	format string
	in     *bufio.Reader
	// Skipped counts what is no indicator and was left out, by what it is.
	Skipped map[string]int
}

// New begins to read a document. The format must be one of Formats; with Auto it is told from the beginning.
func New(r io.Reader, format string) (*Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(32 << 10)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0xEF, 0xBB, 0xBF}):
		if _, err := in.Discard(3); err != nil {
			return nil, err
		}
		head = head[3:]
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE}), bytes.HasPrefix(head, []byte{0xFE, 0xFF}):
		return nil, errors.New("the text is UTF-16; save it as UTF-8")
	case bytes.IndexByte(head, 0) >= 0:
		return nil, errors.New("this is no text (an archive?)")
	}
	if format == "" || format == Auto {
		if format = sniff(head); format == "" {
			return nil, errors.New("there is nothing in it")
		}
	}
	d := &Reader{format: format, in: in, Skipped: map[string]int{}}
	switch format {
	case List, CSV, JSON, STIX, MISP:
		return d, nil
	}
	return nil, fmt.Errorf("unknown format %q; use one of %s", format, strings.Join(Formats, ", "))
}

// Format is the document's.
func (d *Reader) Format() string { return d.format }

// sniff tells the format from the beginning of a document.
func sniff(head []byte) string {
	text := bytes.TrimSpace(head)
	switch {
	case len(text) == 0:
		return ""
	case text[0] == '{' || text[0] == '[':
		return sniffJSON(text)
	}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if _, ok := header(string(line)); ok {
			return CSV
		}
		break
	}
	return List
}

func sniffJSON(text []byte) string {
	compact := string(bytes.Join(bytes.Fields(text), nil))
	switch {
	case strings.Contains(compact, `"type":"bundle"`), strings.Contains(compact, `"id":"indicator--`), strings.Contains(compact, `"spec_version":"2.`):
		return STIX
	case strings.HasPrefix(compact, `{"Event":`), strings.HasPrefix(compact, `[{"Event":`), strings.HasPrefix(compact, `{"response":`), strings.Contains(compact, `"to_ids":`):
		return MISP
	}
	return JSON
}

// Drafts yields the records in order. An error ends them: the rest of the document cannot be read. A record that is wrong
// in itself has a Problem and ends nothing.
func (d *Reader) Drafts() iter.Seq2[Draft, error] {
	return func(yield func(Draft, error) bool) {
		var err error
		switch d.format {
		case List:
			err = d.list(yield)
		case CSV:
			err = d.csv(yield)
		case JSON:
			err = d.json(yield)
		case STIX:
			err = d.stix(yield)
		case MISP:
			err = d.misp(yield)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Draft{}, err)
		}
	}
}

// errStopped says that the consumer has had enough.
var errStopped = errors.New("stopped")

type yielder = func(Draft, error) bool

func give(yield yielder, d Draft) error {
	if !yield(d, nil) {
		return errStopped
	}
	return nil
}

// maxLine is more than any value has; a longer line means that this is no list.
const maxLine = 64 << 10

func (d *Reader) list(yield yielder) error {
	s := bufio.NewScanner(d.in)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	n := 0
	for s.Scan() {
		n++
		text := strings.TrimSpace(strings.ToValidUTF8(s.Text(), "\uFFFD"))
		if text == "" || text[0] == '#' {
			continue
		}
		if value, _, ok := strings.Cut(text, " #"); ok {
			text = strings.TrimSpace(value)
		}
		if err := give(yield, Draft{At: fmt.Sprintf("line %d", n), Value: text}); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d has more than %d bytes: is this a list with one value on a line?", n+1, maxLine)
	}
	return s.Err()
}
