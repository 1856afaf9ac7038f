package azurefake

import (
	"maps"
	"slices"
	"sync"
)

// Ledger is what the fake has seen and done, counted on its own side.
type Ledger struct {
	// Requests by route and outcome; see fakekit's Tally: "200", "reset", "200-lost"…
	Requests map[string]map[string]uint64 `json:"requests"`

	TokensIssued   uint64            `json:"tokens_issued"`
	TokensRevoked  uint64            `json:"tokens_revoked"`
	TokensRefused  map[string]uint64 `json:"tokens_refused"`  // at the token endpoint, by AADSTS code
	TokensRejected map[string]uint64 `json:"tokens_rejected"` // by the APIs: missing, unknown, expired, audience, claims
	Grants         map[string]uint64 `json:"grants"`          // asked for at the token endpoint, by grant_type
	RefreshReuse   uint64            `json:"refresh_reuse"`   // refresh tokens that were brought after their successors
	Identities     map[string]uint64 `json:"identities"`      // managed identity endpoints asked, by source

	Alerts   int                    `json:"alerts"`
	ByAlert  map[string]AlertLedger `json:"by_alert"`
	Comments int                    `json:"comments"` // added over the API, all alerts

	SubscriptionEvents map[string]int `json:"subscription_events"` // created, renewed, reauthorized, expired, deleted…
	Subscriptions      int            `json:"subscriptions"`       // alive
	Handshakes         map[string]int `json:"handshakes"`          // by outcome; "ok" is success
	Pushes             Pushes         `json:"pushes"`

	Queries map[string]uint64 `json:"queries"` // per workspace, executed
}

// AlertLedger is what happened to one alert over the API.
type AlertLedger struct {
	Gets     uint64 `json:"gets"`
	Lists    uint64 `json:"lists"`
	Patches  uint64 `json:"patches"`
	Comments int    `json:"comments"`
}

// Pushes counts notifications (Requests and Failed count HTTP requests).
type Pushes struct {
	Queued       uint64 `json:"queued"`
	Dropped      uint64 `json:"dropped"` // by chance, never sent
	Doubled      uint64 `json:"doubled"`
	Reordered    uint64 `json:"reordered"`
	Forged       uint64 `json:"forged"` // with a wrong clientState or an unknown subscription
	LostPaused   uint64 `json:"lost_paused"`
	Requests     uint64 `json:"requests"`
	Sent         uint64 `json:"sent"` // attempts count each
	Acknowledged uint64 `json:"acknowledged"`
	Failed       uint64 `json:"failed"`
	Retried      uint64 `json:"retried"`
	GivenUp      uint64 `json:"given_up"`
}

// subLedger counts what happens to subscriptions; it has a lock of its own because deliverers write to it.
type subLedger struct {
	mu         sync.Mutex
	events     map[string]int
	handshakes map[string]int
	pushes     Pushes
}

func newSubLedger() *subLedger {
	return &subLedger{events: map[string]int{}, handshakes: map[string]int{}}
}

func (l *subLedger) add(counter *uint64, n uint64) {
	l.mu.Lock()
	*counter += n
	l.mu.Unlock()
}

func (l *subLedger) event(what string) {
	l.mu.Lock()
	l.events[what]++
	l.mu.Unlock()
}

func (l *subLedger) handshake(outcome string) {
	l.mu.Lock()
	l.handshakes[outcome]++
	l.mu.Unlock()
}

// Ledger returns a copy of all counts.
func (s *Server) Ledger() Ledger {
	led := Ledger{Requests: s.kit.Requests(), ByAlert: map[string]AlertLedger{}, Subscriptions: len(s.Subscriptions())}

	s.tokens.mu.RLock()
	led.TokensIssued, led.TokensRevoked = s.tokens.issued, s.tokens.revoked
	led.TokensRefused, led.TokensRejected = maps.Clone(s.tokens.refused), maps.Clone(s.tokens.rejected)
	s.tokens.mu.RUnlock()

	s.grants.mu.Lock()
	led.Grants, led.RefreshReuse, led.Identities = maps.Clone(s.grants.byGrant), s.grants.reuse, maps.Clone(s.grants.asked)
	s.grants.mu.Unlock()

	s.alerts.mu.RLock()
	led.Alerts = len(s.alerts.byID)
	for id, rec := range s.alerts.byID {
		led.ByAlert[id] = AlertLedger{rec.gets.Load(), rec.lists.Load(), rec.patches.Load(), len(rec.added)}
		led.Comments += len(rec.added)
	}
	s.alerts.mu.RUnlock()

	sub := s.subs.ledger
	sub.mu.Lock()
	led.SubscriptionEvents, led.Handshakes, led.Pushes = maps.Clone(sub.events), maps.Clone(sub.handshakes), sub.pushes
	sub.mu.Unlock()

	s.logs.mu.Lock()
	led.Queries = maps.Clone(s.logs.executed)
	s.logs.mu.Unlock()
	return led
}

// AlertIDs returns the ids of all alerts, sorted.
func (s *Server) AlertIDs() []string {
	s.alerts.mu.RLock()
	defer s.alerts.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.alerts.byID))
}
