package azurefake

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// stamp is how Graph writes times: UTC, up to seven digits of a second.
const stamp = "2006-01-02T15:04:05.9999999Z"

// The properties that alerts_v2 can be filtered by, apart from the two times.
var filterable = [...]string{"assignedTo", "classification", "determination", "severity", "serviceSource", "status"}

// Members of evolvable enums that hide behind unknownFutureValue unless the client asks for them; after the v1.0
// metadata, where they are numbered above that sentinel.
var newer = map[string][]string{
	"serviceSource": {
		"microsoftDefenderForCloud", "microsoftSentinel", "microsoftInsiderRiskManagement", "microsoftThreatIntelligence",
		"microsoftSecurityForAI",
	},
	"detectionSource": {
		"microsoftDefenderForCloud", "microsoftDefenderForIoT", "microsoftDefenderForServers", "microsoftDefenderForStorage",
		"microsoftDefenderForDNS", "microsoftDefenderForDatabases", "microsoftDefenderForContainers",
		"microsoftDefenderForNetwork", "microsoftDefenderForAppService", "microsoftDefenderForKeyVault",
		"microsoftDefenderForResourceManager", "microsoftDefenderForApiManagement", "nrtAlerts", "scheduledAlerts",
		"microsoftDefenderThreatIntelligenceAnalytics", "builtInMl", "microsoftInsiderRiskManagement",
		"microsoftThreatIntelligence", "microsoftDefenderForAIServices", "securityCopilot", "microsoftSentinel",
	},
}

// version is one state of an alert; it never changes once it is in the store.
type version struct {
	rec              *record
	full, masked     []byte
	created, updated time.Time
	props            [len(filterable)]string
	visible          time.Time // in lists from this time on
	prev             *version  // what lists show until then; guarded by store.mu
}

type record struct {
	id       string
	seq      int
	readable time.Time // 404 before this time
	cur      *version
	obj      map[string]json.RawMessage
	comments []json.RawMessage
	added    []string // comments that came over the API

	gets, lists, patches atomic.Uint64
}

// listed returns the version that lists show at now, or nil.
func (r *record) listed(now time.Time) *version {
	v := r.cur
	for v != nil && v.visible.After(now) {
		v = v.prev
	}
	return v
}

type store struct {
	mu        sync.RWMutex
	byID      map[string]*record
	byCreated []*record  // ascending by creation time
	byUpdated []*version // ascending by update time; holds outdated versions until they are swept out
	outdated  int

	readLag, listLag time.Duration
}

// SetReadLag makes alerts that are added from now on readable by id only after d, as Graph does when a notification
// overtakes its object.
func (s *Server) SetReadLag(d time.Duration) {
	s.alerts.mu.Lock()
	s.alerts.readLag = d
	s.alerts.mu.Unlock()
}

// SetListLag makes changes from now on show up in lists only after d; until then lists show the former state.
func (s *Server) SetListLag(d time.Duration) {
	s.alerts.mu.Lock()
	s.alerts.listLag = d
	s.alerts.mu.Unlock()
}

// AddAlert adds an alert, a JSON object as alerts_v2 returns it, and notifies subscribers. What is missing of id,
// createdDateTime, lastUpdateDateTime, status, severity, serviceSource and tenantId is filled in. It returns the id.
// It fails if raw is no object, a time does not parse, or the id is taken.
func (s *Server) AddAlert(raw []byte) (string, error) { return s.addAlert(raw, false) }

// AddAlertNow is AddAlert with both times set to the present, for fixtures that were recorded long ago.
func (s *Server) AddAlertNow(raw []byte) (string, error) { return s.addAlert(raw, true) }

// AddAlertObject is AddAlert for a decoded object.
func (s *Server) AddAlertObject(alert map[string]any) (string, error) {
	raw, err := json.Marshal(alert)
	if err != nil {
		return "", fmt.Errorf("azurefake: encode alert: %w", err)
	}
	return s.addAlert(raw, false)
}

func (s *Server) addAlert(raw []byte, present bool) (string, error) {
	obj, ok := decodeObject(raw)
	if !ok {
		return "", errors.New("azurefake: an alert must be a JSON object")
	}
	now := s.opt.Now().UTC()
	if present {
		obj["createdDateTime"], obj["lastUpdateDateTime"] = quote(now.Format(stamp)), quote(now.Format(stamp))
	}
	for name, value := range map[string]string{
		"createdDateTime": now.Format(stamp), "lastUpdateDateTime": now.Format(stamp),
		"status": "new", "severity": "unknown", "serviceSource": "unknown", "tenantId": s.opt.Tenants[0],
	} {
		if text(obj[name]) == "" {
			obj[name] = quote(value)
		}
	}

	st := &s.alerts
	st.mu.Lock()
	defer st.mu.Unlock()
	id := text(obj["id"])
	if id == "" {
		id = fmt.Sprintf("da%016d_1", len(st.byID)+1)
		obj["id"] = quote(id)
	}
	if st.byID[id] != nil {
		return "", fmt.Errorf("azurefake: there is an alert %q already; use UpdateAlert", id)
	}
	rec := &record{id: id, seq: len(st.byID), obj: obj, readable: now.Add(st.readLag)}
	if len(obj["comments"]) > 0 && json.Unmarshal(obj["comments"], &rec.comments) != nil {
		return "", fmt.Errorf("azurefake: alert %q: comments must be an array", id)
	}
	v, err := st.encode(rec, now)
	if err != nil {
		return "", err
	}
	st.byID[id] = rec
	i, _ := slices.BinarySearchFunc(st.byCreated, v, func(a *record, v *version) int {
		return cmp.Or(a.cur.created.Compare(v.created), -1)
	})
	rec.cur = v
	st.byCreated = slices.Insert(st.byCreated, i, rec)
	st.index(v)
	s.notify(v, "created")
	return id, nil
}

// UpdateAlert merges fields into an alert (null included, no deep merge), raises its lastUpdateDateTime unless the
// fields name one, and notifies subscribers.
func (s *Server) UpdateAlert(id string, fields map[string]any) error {
	raw, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("azurefake: encode fields: %w", err)
	}
	patch, ok := decodeObject(raw)
	if !ok {
		return errors.New("azurefake: fields must be an object")
	}
	s.alerts.mu.Lock()
	defer s.alerts.mu.Unlock()
	rec := s.alerts.byID[id]
	if rec == nil {
		return fmt.Errorf("azurefake: there is no alert %q", id)
	}
	_, err = s.change(rec, patch)
	return err
}

// change merges fields into an alert; the caller holds the lock.
func (s *Server) change(rec *record, fields map[string]json.RawMessage) (*version, error) {
	st, now := &s.alerts, s.opt.Now().UTC()
	old, oldComments := rec.obj, rec.comments
	rec.obj = maps.Clone(old)
	maps.Copy(rec.obj, fields)
	if raw, ok := fields["comments"]; ok {
		rec.comments = nil
		if json.Unmarshal(raw, &rec.comments) != nil {
			rec.obj, rec.comments = old, oldComments
			return nil, fmt.Errorf("azurefake: alert %q: comments must be an array", rec.id)
		}
	}
	if _, given := fields["lastUpdateDateTime"]; !given {
		at := now
		if !at.After(rec.cur.updated) {
			at = rec.cur.updated.Add(100 * time.Nanosecond) // the next tick of Graph's clock
		}
		rec.obj["lastUpdateDateTime"] = quote(at.Format(stamp))
	}
	v, err := st.encode(rec, now)
	if err != nil {
		rec.obj, rec.comments = old, oldComments
		return nil, err
	}
	v.created = rec.cur.created // Graph never changes it, and an index is built on it
	if !rec.cur.visible.After(now) {
		rec.cur.prev = nil
	}
	if v.visible.After(now) {
		v.prev = rec.cur
	}
	rec.cur = v
	st.outdated++
	st.index(v)
	s.notify(v, "updated")
	return v, nil
}

// Alert returns an alert as Graph would return it in full, whatever lags are set.
func (s *Server) Alert(id string) (json.RawMessage, bool) {
	s.alerts.mu.RLock()
	defer s.alerts.mu.RUnlock()
	if rec := s.alerts.byID[id]; rec != nil {
		return slices.Clone(rec.cur.full), true
	}
	return nil, false
}

// Comments returns the comments that clients have added to an alert, in order.
func (s *Server) Comments(id string) []string {
	s.alerts.mu.RLock()
	defer s.alerts.mu.RUnlock()
	if rec := s.alerts.byID[id]; rec != nil {
		return slices.Clone(rec.added)
	}
	return nil
}

// encode makes the version of a record's present fields.
func (st *store) encode(rec *record, now time.Time) (*version, error) {
	v := &version{rec: rec, visible: now.Add(st.listLag)}
	var err error
	for name, at := range map[string]*time.Time{"createdDateTime": &v.created, "lastUpdateDateTime": &v.updated} {
		if *at, err = time.Parse(time.RFC3339Nano, text(rec.obj[name])); err != nil {
			return nil, fmt.Errorf("azurefake: alert %q: %s: %w", rec.id, name, err)
		}
	}
	for i, name := range filterable {
		v.props[i] = text(rec.obj[name])
	}
	if len(rec.comments) == 0 {
		rec.obj["comments"] = json.RawMessage("[]")
	} else if rec.obj["comments"], err = json.Marshal(rec.comments); err != nil {
		return nil, fmt.Errorf("azurefake: alert %q: comments: %w", rec.id, err)
	}
	v.full = encodeObject(rec.obj)
	v.masked = v.full
	masked := map[string]json.RawMessage(nil)
	for name, members := range newer {
		if slices.Contains(members, text(rec.obj[name])) {
			if masked == nil {
				masked = maps.Clone(rec.obj)
			}
			masked[name] = quote("unknownFutureValue")
		}
	}
	if masked != nil {
		v.masked = encodeObject(masked)
	}
	return v, nil
}

// index files a version by its update time and sweeps out what no list can show any more.
func (st *store) index(v *version) {
	if n := len(st.byUpdated); n == 0 || !v.updated.Before(st.byUpdated[n-1].updated) {
		st.byUpdated = append(st.byUpdated, v)
	} else {
		i, _ := slices.BinarySearchFunc(st.byUpdated, v.updated, func(a *version, at time.Time) int {
			return cmp.Or(a.updated.Compare(at), -1)
		})
		st.byUpdated = slices.Insert(st.byUpdated, i, v)
	}
	if st.outdated > 64 && st.outdated > len(st.byUpdated)/2 {
		st.byUpdated = slices.DeleteFunc(st.byUpdated, func(v *version) bool {
			for w := v.rec.cur; w != nil; w = w.prev {
				if w == v {
					return false
				}
			}
			return true
		})
		st.outdated = 0
	}
}

func quote(s string) json.RawMessage {
	raw, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`""`) // cannot happen: strings always encode
	}
	return raw
}

// text returns a JSON string's value, or "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	switch {
	case len(raw) < 2 || raw[0] != '"':
		return ""
	case bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw):
		return string(raw[1 : len(raw)-1])
	case json.Unmarshal(raw, &s) != nil:
		return ""
	}
	return s
}

// encodeObject writes an object with its members in order of their names, and each as it came.
func encodeObject(obj map[string]json.RawMessage) []byte {
	size := 2
	for name, raw := range obj {
		size += len(name) + len(raw) + 4
	}
	b := append(make([]byte, 0, size), '{')
	for i, name := range slices.Sorted(maps.Keys(obj)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, quote(name)...), ':'), obj[name]...)
	}
	return append(b, '}')
}
