package feed

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// field is what a column, or a property of a JSON object, means.
type field int

const (
	fieldNone field = iota
	fieldValue
	fieldTyped // a value whose type is the column's name
	fieldType
	fieldPattern
	fieldName
	fieldDescription
	fieldConfidence
	fieldTLP
	fieldFrom
	fieldUntil
	fieldLabels
	fieldThreat
	fieldKillChain
	fieldReference
	fieldAction
	fieldSeverity
)

// names are the words for fields, folded by fold.
var names = map[string]field{
	"value": fieldValue, "indicator": fieldValue, "indicatorvalue": fieldValue, "ioc": fieldValue, "iocvalue": fieldValue,
	"observable": fieldValue, "observablevalue": fieldValue, "data": fieldValue, "artifact": fieldValue,
	"ip": fieldTyped, "ipaddress": fieldTyped, "ipv4": fieldTyped, "ipv6": fieldTyped, "dstip": fieldTyped, "srcip": fieldTyped,
	"cidr": fieldTyped, "subnet": fieldTyped, "domain": fieldTyped, "domainname": fieldTyped, "fqdn": fieldTyped, "hostname": fieldTyped,
	"url": fieldTyped, "uri": fieldTyped, "email": fieldTyped, "emailaddress": fieldTyped, "md5": fieldTyped, "sha1": fieldTyped,
	"sha256": fieldTyped, "sha512": fieldTyped, "hash": fieldTyped, "md5hash": fieldTyped, "sha1hash": fieldTyped, "sha256hash": fieldTyped,
	"filehash": fieldTyped,
	"type":     fieldType, "indicatortype": fieldType, "ioctype": fieldType, "datatype": fieldType, "observabletype": fieldType, "kind": fieldType,
	"pattern": fieldPattern, "stixpattern": fieldPattern,
	"name": fieldName, "title": fieldName, "displayname": fieldName, "threatname": fieldName,
	"description": fieldDescription, "desc": fieldDescription, "comment": fieldDescription, "comments": fieldDescription,
	"note": fieldDescription, "notes": fieldDescription,
	"confidence": fieldConfidence, "confidencelevel": fieldConfidence, "confidencescore": fieldConfidence, "score": fieldConfidence,
	"tlp": fieldTLP, "tlplevel": fieldTLP, "marking": fieldTLP,
	"validfrom": fieldFrom, "firstseen": fieldFrom, "firstseenutc": fieldFrom, "dateadded": fieldFrom, "date": fieldFrom,
	"validuntil": fieldUntil, "expires": fieldUntil, "expiry": fieldUntil, "expiration": fieldUntil, "expirationtime": fieldUntil,
	"expirationdatetime": fieldUntil, "expiresat": fieldUntil, "expirationdate": fieldUntil,
	"labels": fieldLabels, "label": fieldLabels, "tags": fieldLabels, "tag": fieldLabels, "threatintelligencetags": fieldLabels,
	"threattypes": fieldThreat, "threattype": fieldThreat, "indicatortypes": fieldThreat,
	"killchain": fieldKillChain, "killchainphases": fieldKillChain, "tactics": fieldKillChain, "tactic": fieldKillChain,
	"reference": fieldReference, "references": fieldReference, "urlhauslink": fieldReference, "link": fieldReference, "report": fieldReference,
	"action": fieldAction, "severity": fieldSeverity,
}

// fold brings the spellings of a name together: "Valid Until", "valid_until", "validUntil".
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		}
		return -1
	}, s)
}

// header reads the first line of a CSV; ok if a column of it can hold a value, so that it is one.
func header(line string) (comma rune, ok bool) {
	comma = delimiter(line)
	r := csv.NewReader(strings.NewReader(line))
	r.Comma, r.LazyQuotes = comma, true
	cells, err := r.Read()
	if err != nil {
		return comma, false
	}
	for _, c := range cells {
		switch names[fold(c)] {
		case fieldValue, fieldTyped, fieldPattern:
			return comma, true
		}
	}
	return comma, false
}

// delimiter is the character that separates the cells of a line: the most frequent outside of quotes.
func delimiter(line string) rune {
	counts := map[rune]int{}
	quoted := false
	for _, r := range line {
		switch r {
		case '"':
			quoted = !quoted
		case ',', ';', '\t', '|':
			if !quoted {
				counts[r]++
			}
		}
	}
	best := ','
	for _, r := range []rune{';', '\t', '|'} {
		if counts[r] > counts[best] {
			best = r
		}
	}
	return best
}

func (d *Reader) csv(yield yielder) error {
	head, err := d.in.Peek(16 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	first := ""
	for line := range strings.Lines(string(head)) {
		if t := strings.TrimSpace(line); t != "" && t[0] != '#' {
			first = t
			break
		}
	}
	comma, ok := header(first)
	if !ok {
		return fmt.Errorf("the header has no column for the values; name it value, indicator, ip, domain, url, sha256 or the like: %.200q", first)
	}
	r := csv.NewReader(d.in)
	r.Comma, r.Comment, r.TrimLeadingSpace = comma, '#', true
	r.FieldsPerRecord = -1
	columns, err := r.Read()
	if err != nil {
		return fmt.Errorf("the header cannot be read: %w", err)
	}
	columns = slices.Clone(columns)
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if pe, ok := errors.AsType[*csv.ParseError](err); ok {
			// The reader has lost its way in the quotes: what follows would be read wrongly.
			return fmt.Errorf("line %d cannot be read: %w", pe.StartLine, pe.Err)
		}
		if err != nil {
			return err
		}
		line, _ := r.FieldPos(0)
		if len(cells) == 1 && strings.TrimSpace(cells[0]) == "" {
			continue
		}
		if err := d.row(columns, cells, "line "+strconv.Itoa(line), yield); err != nil {
			return err
		}
	}
}

// row yields one draft for each value in a row.
func (d *Reader) row(columns, cells []string, at string, yield yielder) error {
	if len(cells) > len(columns) {
		return give(yield, Draft{At: at, Problem: fmt.Sprintf("has %d cells, and the header %d", len(cells), len(columns)), Value: clip(cells[0])})
	}
	base := Draft{At: at}
	type found struct{ value, kind string }
	var values []found
	for i, cell := range cells {
		cell = strings.TrimSpace(strings.ToValidUTF8(cell, "\uFFFD"))
		name := fold(columns[i])
		switch f := names[name]; {
		case cell == "" || f == fieldNone:
		case f == fieldValue:
			values = append(values, found{value: cell})
		case f == fieldTyped:
			values = append(values, found{cell, name})
		default:
			if err := base.set(f, cell); err != nil {
				base.Problem = fmt.Sprintf("column %q: %v", columns[i], err)
			}
		}
	}
	if base.Pattern != "" && len(values) == 0 {
		return give(yield, base)
	}
	base.Pattern = ""
	if len(values) == 0 {
		base.Problem = cmpProblem(base.Problem, "has no value")
		return give(yield, base)
	}
	for _, v := range values {
		one := base
		one.Value = v.value
		if v.kind != "" {
			one.Type = v.kind
		}
		if err := give(yield, one); err != nil {
			return err
		}
	}
	return nil
}

func cmpProblem(was, is string) string {
	if was != "" {
		return was
	}
	return is
}

func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// set puts a text into a field other than the value.
func (d *Draft) set(f field, text string) error {
	switch f {
	case fieldType:
		d.Type = text
	case fieldPattern:
		d.Pattern = text
	case fieldName:
		d.Name = text
	case fieldDescription:
		d.Description = text
	case fieldConfidence:
		n, err := confidence(text)
		if err != nil {
			return err
		}
		d.Confidence = &n
	case fieldTLP:
		d.TLP = text
	case fieldFrom:
		d.ValidFrom = text
	case fieldUntil:
		d.ValidUntil = text
	case fieldLabels:
		d.Labels = append(d.Labels, split(text)...)
	case fieldThreat:
		d.ThreatTypes = append(d.ThreatTypes, split(text)...)
	case fieldKillChain:
		for _, p := range split(text) {
			d.KillChain = append(d.KillChain, Phase{KillChain: "mitre-attack", Phase: strings.ToLower(strings.ReplaceAll(p, " ", "-"))})
		}
	case fieldReference:
		for u := range strings.FieldsSeq(text) {
			d.References = append(d.References, Reference{Source: "source", URL: u})
		}
	case fieldAction:
		d.Action = text
	case fieldSeverity:
		d.Severity = text
	case fieldNone, fieldValue, fieldTyped:
	}
	return nil
}

// confidence reads a number from 0 to 100, or one of the words of the STIX scale of three.
func confidence(text string) (int, error) {
	switch strings.ToLower(text) {
	case "low":
		return 15, nil
	case "medium", "med":
		return 50, nil
	case "high":
		return 85, nil
	}
	f, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || f < 0 || f > 100 {
		return 0, fmt.Errorf("confidence %.40q is not a number from 0 to 100, nor low, medium or high", text)
	}
	return int(f), nil
}

// split takes a list in one cell apart.
func split(text string) []string {
	var out []string
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '|' || r == ',' }) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
