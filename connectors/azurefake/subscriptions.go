package azurefake

import (
	"cmp"
	"context"
	"crypto/rsa"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

const (
	longestLife  = 43200 * time.Minute // of subscriptions to security alerts; more is refused
	shortestLife = 45 * time.Minute    // less is raised
	handshakeIn  = 10 * time.Second
)

// subscription is one of Graph's subscriptions. Everything but the queue is guarded by subscriptions.mu.
type subscription struct {
	id, app         string
	fields          map[string]json.RawMessage // as asked for, for the answers
	changes         []string
	alertID         string // empty: all alerts that pass filter
	filter          *filter
	notify, lifeURL string
	state           string
	expires         time.Time
	paused          bool
	encryptTo       *rsa.PublicKey // nil: notifications without the resource
	certificate     string

	queue *queue
}

type subscriptions struct {
	mu     sync.Mutex
	byID   map[string]*subscription
	push   Push
	ledger *subLedger
}

func (s *Server) createSubscription(c *fakekit.Call) fakekit.Reply {
	app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite)
	if app == nil {
		return refusal
	}
	body, ok := fakekit.ReadBody(c.R, 1<<20)
	fields, isObject := decodeObject(body)
	if !ok || !isObject {
		return graphError(http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload.")
	}
	sub := &subscription{id: newGUID(), app: app.ClientID, fields: map[string]json.RawMessage{}}
	if bad := s.readSubscription(sub, fields); bad != "" {
		return graphError(http.StatusBadRequest, "InvalidRequest", bad)
	}
	if s.opt.RefuseAlertSubscriptions {
		return graphError(http.StatusBadRequest, "ExtensionError", "Operation: Create; Exception: [Status Code: BadRequest; Reason: Transformed subscription is invalid.]")
	}
	s.subs.mu.Lock()
	s.dropExpired()
	full := len(s.subs.byID) >= s.opt.MaxSubscriptions
	s.subs.mu.Unlock()
	if full {
		return graphError(http.StatusForbidden, "Forbidden", "The quota of subscriptions for this application and tenant has been reached.")
	}
	for _, target := range []string{sub.notify, sub.lifeURL} {
		if target == "" {
			continue
		}
		outcome := s.handshake(c.R.Context(), target)
		s.subs.ledger.handshake(outcome)
		if outcome != "ok" {
			return graphError(http.StatusBadRequest, "ValidationError", "Subscription validation request failed. Notification endpoint must respond with 200 OK to validation request. ("+outcome+")")
		}
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	s.subs.byID[sub.id] = sub
	s.startDelivery(sub)
	s.subs.ledger.event("created")
	return fakekit.JSON(http.StatusCreated, s.describe(sub))
}

// readSubscription checks what a create request asks for and fills sub; it returns what is wrong.
func (s *Server) readSubscription(sub *subscription, fields map[string]json.RawMessage) string {
	if bad := s.readCertificate(sub, fields); bad != "" {
		return bad
	}
	for name := range fields {
		switch name {
		case "includeResourceData", "changeType", "notificationUrl", "resource", "expirationDateTime", "clientState", "lifecycleNotificationUrl",
			"latestSupportedTlsVersion", "notificationQueryOptions", "notificationUrlAppId", "encryptionCertificate",
			"encryptionCertificateId", "@odata.type":
		default:
			return "The property '" + name + "' does not exist on type 'microsoft.graph.subscription'."
		}
	}
	changes := text(fields["changeType"])
	if changes == "" {
		return "The property 'changeType' is required."
	}
	for one := range strings.SplitSeq(changes, ",") {
		one = strings.TrimSpace(one)
		if !slices.Contains([]string{"created", "updated", "deleted"}, one) {
			return "The change type '" + one + "' is not supported."
		}
		sub.changes = append(sub.changes, one)
	}
	if bad := sub.readResource(text(fields["resource"])); bad != "" {
		return bad
	}
	sub.notify, sub.lifeURL, sub.state = text(fields["notificationUrl"]), text(fields["lifecycleNotificationUrl"]), text(fields["clientState"])
	if !pushable(sub.notify) || sub.lifeURL != "" && !pushable(sub.lifeURL) {
		return "The notification URL must be a valid https URL."
	}
	if len([]rune(sub.state)) > 128 {
		return "The property 'clientState' must not be longer than 128 characters."
	}
	if v := text(fields["latestSupportedTlsVersion"]); v != "" && !slices.Contains([]string{"v1_0", "v1_1", "v1_2", "v1_3"}, v) {
		return "The TLS version '" + v + "' is not known."
	}
	if bad := s.readExpiry(sub, fields["expirationDateTime"]); bad != "" {
		return bad
	}
	for _, name := range []string{
		"resource", "changeType", "clientState", "notificationUrl", "notificationQueryOptions", "lifecycleNotificationUrl",
		"includeResourceData", "encryptionCertificate", "encryptionCertificateId", "notificationUrlAppId",
	} {
		sub.fields[name] = json.RawMessage("null")
		if raw, ok := fields[name]; ok {
			sub.fields[name] = raw
		}
	}
	sub.fields["latestSupportedTlsVersion"] = quote(cmp.Or(text(fields["latestSupportedTlsVersion"]), "v1_2"))
	return ""
}

func (sub *subscription) readResource(resource string) string {
	path, query, filtered := strings.Cut(strings.TrimPrefix(resource, "/"), "?")
	sub.filter, _ = parseFilter("") // the empty filter always parses
	if filtered {
		q, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B"))
		if err != nil || len(q) != 1 || !q.Has("$filter") {
			return "Only $filter is supported on the resource of a subscription."
		}
		if sub.filter, err = parseFilter(q.Get("$filter")); err != nil {
			return err.Error()
		}
	}
	switch rest, isAlerts := strings.CutPrefix(path, "security/alerts_v2"); {
	case isAlerts && rest == "":
		return ""
	case isAlerts && strings.HasPrefix(rest, "/") && !strings.Contains(rest[1:], "/") && len(rest) > 1 && !filtered:
		sub.alertID = rest[1:]
		return ""
	case path == "security/alerts":
		return "ExtensionError: Operation: Create; Exception: [Status Code: Forbidden; Reason: the legacy alerts resource is retired.]"
	}
	return "Resource '" + resource + "' is not supported for subscriptions."
}

func (s *Server) readExpiry(sub *subscription, raw json.RawMessage) string {
	at, err := time.Parse(time.RFC3339Nano, text(raw))
	if err != nil {
		return "The property 'expirationDateTime' must be a date and time."
	}
	now := s.opt.Now()
	switch life := at.Sub(now); {
	case life > longestLife:
		return "Subscription expiration can only be 43200 minutes in the future."
	case life <= 0:
		return "Subscription expiration must be in the future."
	case life < shortestLife && !s.opt.ShortSubscriptions:
		at = now.Add(shortestLife)
	}
	sub.expires = at.UTC()
	return ""
}

// pushable says whether Graph would call a URL: https, or plain http to this very machine.
func pushable(target string) bool {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return false
	}
	if u.Scheme == "http" {
		ip, err := netip.ParseAddr(u.Hostname())
		return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	}
	return u.Scheme == "https"
}

// handshake asks a URL to echo a token and says "ok" or what went wrong.
func (s *Server) handshake(ctx context.Context, target string) string {
	token := "Validation: Testing client application reachability for subscription Request-Id: " + newGUID() + " +%2B/=&é"
	u, err := url.Parse(target)
	if err != nil {
		return "bad url"
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "validationToken=" + url.QueryEscape(token)
	ctx, cancel := context.WithTimeout(ctx, handshakeIn)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return "bad url"
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := s.opt.PushClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return "no answer within 10 s"
		}
		return "not reachable"
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	kind, _, badType := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode != http.StatusOK:
		return "status " + resp.Status
	case badType != nil || kind != "text/plain":
		return "content type is not text/plain"
	case err != nil || string(body) != token:
		return "body is not the token"
	}
	return "ok"
}

func (s *Server) describe(sub *subscription) map[string]json.RawMessage {
	out := map[string]json.RawMessage{
		"@odata.context":     quote("https://graph.microsoft.com/v1.0/$metadata#subscriptions/$entity"),
		"id":                 quote(sub.id),
		"applicationId":      quote(sub.app),
		"creatorId":          quote(sub.app),
		"expirationDateTime": quote(sub.expires.Format(stamp)),
	}
	maps.Copy(out, sub.fields)
	return out
}

// dropExpired forgets subscriptions whose time is over; the caller holds subs.mu.
func (s *Server) dropExpired() {
	now := s.opt.Now()
	for _, sub := range s.subs.byID {
		if !now.Before(sub.expires) {
			s.subs.ledger.event("expired")
			s.remove(sub)
		}
	}
}

func (s *Server) remove(sub *subscription) {
	delete(s.subs.byID, sub.id)
	sub.queue.stop()
}

// owned finds a live subscription of the caller; without one the reply is the refusal. The caller holds subs.mu.
func (s *Server) owned(app *App, id string) (*subscription, fakekit.Reply) {
	s.dropExpired()
	sub := s.subs.byID[id]
	if sub == nil || sub.app != app.ClientID {
		return nil, graphError(http.StatusNotFound, "ResourceNotFound", "The object was not found.")
	}
	return sub, fakekit.Reply{}
}

func (s *Server) listSubscriptions(c *fakekit.Call) fakekit.Reply {
	app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite)
	if app == nil {
		return refusal
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	s.dropExpired()
	value := []map[string]json.RawMessage{}
	for _, sub := range s.subs.byID {
		if sub.app == app.ClientID {
			one := s.describe(sub)
			delete(one, "@odata.context")
			value = append(value, one)
		}
	}
	slices.SortFunc(value, func(a, b map[string]json.RawMessage) int { return strings.Compare(string(a["id"]), string(b["id"])) })
	return fakekit.JSON(http.StatusOK, object{
		"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#subscriptions", "value": value,
	})
}

func (s *Server) getSubscription(c *fakekit.Call) fakekit.Reply {
	app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite)
	if app == nil {
		return refusal
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	sub, refusal := s.owned(app, c.Args[0])
	if sub == nil {
		return refusal
	}
	return fakekit.JSON(http.StatusOK, s.describe(sub))
}

func (s *Server) patchSubscription(c *fakekit.Call) fakekit.Reply {
	app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite)
	if app == nil {
		return refusal
	}
	body, ok := fakekit.ReadBody(c.R, 1<<20)
	fields, isObject := decodeObject(body)
	if !ok || !isObject || len(fields) == 0 {
		return graphError(http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload.")
	}
	for name := range fields {
		if name != "expirationDateTime" && name != "notificationUrl" && name != "@odata.type" {
			return graphError(http.StatusBadRequest, "InvalidRequest", "The property '"+name+"' cannot be updated.")
		}
	}
	target := text(fields["notificationUrl"])
	if _, given := fields["notificationUrl"]; given {
		if !pushable(target) {
			return graphError(http.StatusBadRequest, "InvalidRequest", "The notification URL must be a valid https URL.")
		}
		outcome := s.handshake(c.R.Context(), target)
		s.subs.ledger.handshake(outcome)
		if outcome != "ok" {
			return graphError(http.StatusBadRequest, "ValidationError", "Subscription validation request failed. ("+outcome+")")
		}
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	sub, refusal := s.owned(app, c.Args[0])
	if sub == nil {
		return refusal
	}
	if raw, given := fields["expirationDateTime"]; given {
		if bad := s.readExpiry(sub, raw); bad != "" {
			return graphError(http.StatusBadRequest, "InvalidRequest", bad)
		}
		s.resume(sub)
		s.subs.ledger.event("renewed")
	}
	if target != "" {
		sub.notify, sub.fields["notificationUrl"] = target, quote(target)
		s.subs.ledger.event("moved")
	}
	return fakekit.JSON(http.StatusOK, s.describe(sub))
}

func (s *Server) deleteSubscription(c *fakekit.Call) fakekit.Reply {
	app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite)
	if app == nil {
		return refusal
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	sub, refusal := s.owned(app, c.Args[0])
	if sub == nil {
		return refusal
	}
	s.remove(sub)
	s.subs.ledger.event("deleted")
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) reauthorizeSubscription(c *fakekit.Call) fakekit.Reply {
	app, refusal := s.allow(c, RoleAlertRead, RoleAlertReadWrite)
	if app == nil {
		return refusal
	}
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	sub, refusal := s.owned(app, c.Args[0])
	if sub == nil {
		return refusal
	}
	s.resume(sub)
	s.subs.ledger.event("reauthorized")
	return fakekit.Reply{Status: http.StatusAccepted}
}

// Subscriptions returns the ids of the subscriptions that are alive, sorted.
func (s *Server) Subscriptions() []string {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	s.dropExpired()
	ids := []string{}
	for id := range s.subs.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// ExpireSubscriptions ends every subscription now, as if its time were over, and returns how many there were.
func (s *Server) ExpireSubscriptions() int {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	n := len(s.subs.byID)
	for _, sub := range s.subs.byID {
		s.subs.ledger.event("expired")
		s.remove(sub)
	}
	return n
}
