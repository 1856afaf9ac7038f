package hivefake

import (
	"cmp"
	"slices"
	"time"
)

// record is an alert, a case or a task with what belongs to it. Everything is guarded by Server.mu.
type record struct {
	id, org string
	doc     doc
	visible time.Time // in lists from this time on
	touched int64     // last change, in milliseconds
	gen     int       // counts changes, to tell outdated log entries

	observables []doc
	attachments []doc
	links       []string // of a case: type and id of the other
	parent      *record  // of an observable
	comments    []doc
	procedures  []doc
	tasks       []*record
	logs        []doc
	alerts      []*record // of a case
	updates     int
	origins     []string // refs of the alerts that a case came from or took in
	promoted    []string // ids of the cases that an alert was promoted to
}

// table holds the records of one kind with the indexes that queries use.
type table struct {
	byID     map[string]*record
	byTag    map[string][]*record
	byRef    map[string][]*record // alerts by sourceRef
	log      []logged             // by time of last change; holds outdated entries until they are swept out
	outdated int
}

type logged struct {
	at  int64
	gen int
	rec *record
}

func newTable() table {
	return table{byID: map[string]*record{}, byTag: map[string][]*record{}, byRef: map[string][]*record{}}
}

func tags(d doc) []string {
	v, _ := d["tags"].([]string)
	return v
}

// file enters a record's present state; old are the tags it had before, and is nil for a new one.
func (t *table) file(rec *record, old []string, now time.Time) {
	if t.byID[rec.id] == nil {
		t.byID[rec.id] = rec
		if ref, ok := rec.doc["sourceRef"].(string); ok {
			t.byRef[ref] = append(t.byRef[ref], rec)
		}
	} else {
		t.outdated++
	}
	for _, tag := range old {
		if !slices.Contains(tags(rec.doc), tag) {
			t.byTag[tag] = slices.DeleteFunc(t.byTag[tag], func(r *record) bool { return r == rec })
		}
	}
	for _, tag := range tags(rec.doc) {
		if !slices.Contains(old, tag) {
			t.byTag[tag] = append(t.byTag[tag], rec)
		}
	}
	rec.touched, rec.gen = now.UnixMilli(), rec.gen+1
	i := len(t.log)
	if i > 0 && rec.touched < t.log[i-1].at {
		i, _ = slices.BinarySearchFunc(t.log, rec.touched, func(l logged, at int64) int {
			return cmp.Or(cmp.Compare(l.at, at), -1)
		})
	}
	t.log = slices.Insert(t.log, i, logged{rec.touched, rec.gen, rec})
	t.sweep()
}

func (t *table) sweep() {
	if t.outdated > 64 && t.outdated > len(t.log)/2 {
		t.log = slices.DeleteFunc(t.log, func(l logged) bool { return l.gen != l.rec.gen || t.byID[l.rec.id] != l.rec })
		t.outdated = 0
	}
}

// drop removes a record.
func (t *table) drop(rec *record) {
	delete(t.byID, rec.id)
	for _, tag := range tags(rec.doc) {
		t.byTag[tag] = slices.DeleteFunc(t.byTag[tag], func(r *record) bool { return r == rec })
	}
	if ref, ok := rec.doc["sourceRef"].(string); ok {
		t.byRef[ref] = slices.DeleteFunc(t.byRef[ref], func(r *record) bool { return r == rec })
	}
	t.outdated++
	t.sweep()
}

// since calls f with every record that was changed at or after a time, oldest change first.
func (t *table) since(at int64, f func(*record)) {
	i, _ := slices.BinarySearchFunc(t.log, at, func(l logged, at int64) int { return cmp.Or(cmp.Compare(l.at, at), 1) })
	for _, l := range t.log[i:] {
		if l.gen == l.rec.gen && t.byID[l.rec.id] == l.rec {
			f(l.rec)
		}
	}
}
