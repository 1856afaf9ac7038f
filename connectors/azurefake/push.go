package azurefake

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Push says how notifications are delivered and what goes wrong on the way. Probabilities are per notification, 0 to 1.
type Push struct {
	Drop         float64 // never sent
	Double       float64 // sent twice
	Reorder      float64 // held back by up to ReorderBy, so that later ones overtake
	BadSignature float64 // encrypted content whose signature is wrong
	BadToken     float64 // a delivery of encrypted content that another app's token vouches for
	WrongState   float64 // a forged copy with a wrong clientState goes along
	Unknown      float64 // a copy for a subscription that nobody knows goes along

	Delay     time.Duration // before every notification
	ReorderBy time.Duration // default 50 ms
	BatchWait time.Duration // how long to wait for company; 0 sends what is there
	BatchSize int           // notifications per request at most; default 100
	Backoff   time.Duration // before the first retry, then doubled up to 5 minutes; default 1 s
	GiveUp    time.Duration // age at which a notification is dropped; default 4 h
	Timeout   time.Duration // for one request; default 10 s
	// KeepBacklog delivers what happened while a subscription waited for reauthorization once it got it. By default
	// it is lost, as Graph's documentation of lifecycle events says.
	KeepBacklog bool
}

// SetPush changes how notifications are delivered from now on.
func (s *Server) SetPush(p Push) {
	p.ReorderBy = cmp.Or(p.ReorderBy, 50*time.Millisecond)
	p.BatchSize = cmp.Or(p.BatchSize, 100)
	p.Backoff = cmp.Or(p.Backoff, time.Second)
	p.GiveUp = cmp.Or(p.GiveUp, 4*time.Hour)
	p.Timeout = cmp.Or(p.Timeout, 10*time.Second)
	s.subs.mu.Lock()
	s.subs.push = p
	s.subs.mu.Unlock()
}

func pushClient() *http.Client {
	t := &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second} // no proxy: receivers are near
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// notice is one notification under way.
type notice struct {
	body      json.RawMessage
	lifecycle bool
	rich      bool // it has encrypted content, and tokens go along
	due, born time.Time
	attempt   int
	seq       uint64
}

type noticeHeap []*notice

func (h noticeHeap) Len() int { return len(h) }
func (h noticeHeap) Less(i, j int) bool {
	if c := h[i].due.Compare(h[j].due); c != 0 {
		return c < 0
	}
	return h[i].seq < h[j].seq
}
func (h noticeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is part of heap.Interface.
func (h *noticeHeap) Push(x any) {
	if n, ok := x.(*notice); ok {
		*h = append(*h, n)
	}
}

// Pop is part of heap.Interface.
func (h *noticeHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// queue holds the notifications of one subscription.
type queue struct {
	mu      sync.Mutex
	items   noticeHeap
	seq     uint64
	stopped bool
	wake    chan struct{} // holds one token when there is news
}

func (q *queue) add(n *notice) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	q.seq++
	n.seq = q.seq
	heap.Push(&q.items, n)
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped, q.items = true, nil
	q.signal()
}

// take returns what is due, at most n of one kind; or how long to wait (0: until woken); or that the queue has stopped.
func (q *queue) take(now time.Time, n int) (due []*notice, wait time.Duration, stopped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) > 0 && len(due) < n && !q.items[0].due.After(now) {
		if len(due) > 0 && q.items[0].lifecycle != due[0].lifecycle {
			break
		}
		if next, ok := heap.Pop(&q.items).(*notice); ok {
			due = append(due, next)
		}
	}
	if len(due) == 0 && len(q.items) > 0 {
		wait = q.items[0].due.Sub(now)
	}
	return due, wait, q.stopped
}

// notify queues the notifications of a change for everyone who asked for them. The caller holds alerts.mu, so that
// notifications start out in the order of the changes.
func (s *Server) notify(v *version, change string) {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	if len(s.subs.byID) == 0 {
		return
	}
	s.dropExpired()
	for _, sub := range s.subs.byID {
		if !slices.Contains(sub.changes, change) || sub.alertID != "" && sub.alertID != v.rec.id || !sub.filter.match(v) {
			continue
		}
		s.send(sub, s.notification(sub, v, change))
	}
}

func (s *Server) notification(sub *subscription, v *version, change string) object {
	tenant := text(v.rec.obj["tenantId"])
	item := object{
		"id":             newGUID(),
		"subscriptionId": sub.id, "subscriptionExpirationDateTime": sub.expires.Format("2006-01-02T15:04:05.9999999-07:00"),
		"clientState": sub.state, "changeType": change, "tenantId": tenant,
		"resource": "security/alerts_v2/" + v.rec.id,
		"resourceData": object{
			"@odata.type": "#microsoft.graph.security.alert", "@odata.id": "security/alerts_v2/" + v.rec.id, "id": v.rec.id,
		},
	}
	if sub.encryptTo != nil {
		item["encryptedContent"] = Encrypt(v.full, sub.encryptTo, sub.certificate, s.kit.Chance(s.subs.push.BadSignature))
	}
	return item
}

// send queues one notification with whatever chance adds or takes; the caller holds subs.mu.
func (s *Server) send(sub *subscription, item object) {
	push, led := &s.subs.push, s.subs.ledger
	if sub.paused && !push.KeepBacklog {
		led.add(&led.pushes.LostPaused, 1)
		return
	}
	if s.kit.Chance(push.Drop) {
		led.add(&led.pushes.Dropped, 1)
		return
	}
	now := time.Now()
	queue := func(body object) {
		n := &notice{born: now, due: now.Add(push.Delay), rich: sub.encryptTo != nil}
		var err error
		if n.body, err = json.Marshal(body); err != nil {
			panic("azurefake: " + err.Error()) // strings and maps of strings always encode
		}
		if s.kit.Chance(push.Reorder) {
			n.due = n.due.Add(s.kit.Upto(push.ReorderBy) + 1)
			led.add(&led.pushes.Reordered, 1)
		}
		led.add(&led.pushes.Queued, 1)
		sub.queue.add(n)
	}
	queue(item)
	if s.kit.Chance(push.Double) {
		led.add(&led.pushes.Doubled, 1)
		queue(item)
	}
	if s.kit.Chance(push.WrongState) {
		led.add(&led.pushes.Forged, 1)
		queue(with(item, "clientState", "not-"+sub.state))
	}
	if s.kit.Chance(push.Unknown) {
		led.add(&led.pushes.Forged, 1)
		queue(with(item, "subscriptionId", newGUID()))
	}
}

func with(o object, name string, value any) object {
	out := object{name: value}
	for k, v := range o {
		if k != name {
			out[k] = v
		}
	}
	return out
}

// RequestReauthorization sends reauthorizationRequired to the lifecycle URL of every subscription that has one, and
// stops their notifications until they are reauthorized or renewed. It returns how many were asked.
func (s *Server) RequestReauthorization() int {
	s.subs.mu.Lock()
	defer s.subs.mu.Unlock()
	s.dropExpired()
	asked := 0
	for _, sub := range s.subs.byID {
		if sub.lifeURL == "" {
			continue
		}
		body, err := json.Marshal(object{
			"subscriptionId": sub.id, "subscriptionExpirationDateTime": sub.expires.Format("2006-01-02T15:04:05.9999999-07:00"),
			"clientState": sub.state, "tenantId": s.opt.Tenants[0], "lifecycleEvent": "reauthorizationRequired",
		})
		if err != nil {
			panic("azurefake: " + err.Error()) // strings always encode
		}
		asked++
		sub.paused = true
		s.subs.ledger.event("reauthorization requested")
		now := time.Now()
		sub.queue.add(&notice{body: body, lifecycle: true, born: now, due: now})
	}
	return asked
}

// resume lets a subscription's notifications flow again; the caller holds subs.mu.
func (s *Server) resume(sub *subscription) {
	sub.paused = false
	sub.queue.signal()
}

func (s *Server) startDelivery(sub *subscription) {
	sub.queue = &queue{wake: make(chan struct{}, 1)}
	if s.ctx.Err() == nil { // else the fake is closed; Close cancels under subs.mu
		s.wg.Go(func() { s.deliver(sub) })
	}
}

// deliver sends a subscription's notifications until it ends.
func (s *Server) deliver(sub *subscription) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.subs.mu.Lock()
		push, paused, notify, life := s.subs.push, sub.paused, sub.notify, sub.lifeURL
		s.subs.mu.Unlock()

		due, wait, stopped := sub.queue.take(time.Now(), push.BatchSize)
		if stopped || s.ctx.Err() != nil {
			return
		}
		if len(due) > 0 && !due[0].lifecycle && paused {
			s.hold(sub, due, push)
			due = nil
			wait = 10 * time.Millisecond // a lifecycle notice may be waiting behind what is held
		}
		if len(due) == 0 {
			if wait <= 0 {
				wait = time.Hour
			}
			timer.Reset(wait)
			select {
			case <-sub.queue.wake:
				if push.BatchWait > 0 {
					timer.Reset(push.BatchWait)
					select {
					case <-timer.C:
					case <-s.ctx.Done():
						return
					}
				}
			case <-timer.C:
			case <-s.ctx.Done():
				return
			}
			continue
		}
		target := notify
		if due[0].lifecycle {
			target = life
		}
		s.attempt(sub, due, target, push)
	}
}

// hold puts back what a paused subscription must not get yet, or loses it.
func (s *Server) hold(sub *subscription, due []*notice, push Push) {
	led := s.subs.ledger
	if !push.KeepBacklog {
		led.add(&led.pushes.LostPaused, uint64(len(due)))
		return
	}
	for _, n := range due {
		n.due = time.Now().Add(20 * time.Millisecond)
		sub.queue.add(n)
	}
}

func (s *Server) attempt(sub *subscription, due []*notice, target string, push Push) {
	led := s.subs.ledger
	led.add(&led.pushes.Requests, 1)
	led.add(&led.pushes.Sent, uint64(len(due)))
	if s.post(target, due, push.Timeout, push.BadToken) {
		led.add(&led.pushes.Acknowledged, uint64(len(due)))
		return
	}
	if s.ctx.Err() != nil {
		return
	}
	led.add(&led.pushes.Failed, 1)
	now := time.Now()
	for _, n := range due {
		if now.Sub(n.born) >= push.GiveUp {
			led.add(&led.pushes.GivenUp, 1)
			continue
		}
		pause := min(push.Backoff<<min(n.attempt, 16), 5*time.Minute)
		n.attempt++
		n.due = now.Add(pause)
		led.add(&led.pushes.Retried, 1)
		sub.queue.add(n)
	}
}

// post sends one batch and says whether it was acknowledged with a 2xx in time.
func (s *Server) post(target string, due []*notice, timeout time.Duration, badToken float64) bool {
	var body bytes.Buffer
	body.WriteString(`{"value":[`)
	for i, n := range due {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(n.body)
	}
	body.WriteByte(']')
	if slices.ContainsFunc(due, func(n *notice) bool { return n.rich }) {
		claims := TokenClaims{}
		if s.kit.Chance(badToken) {
			claims.Audience = "99999999-0000-4000-8000-000000000099"
		}
		body.WriteString(`,"validationTokens":["` + s.ValidationToken(claims) + `"]`)
	}
	body.WriteByte('}')
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, &body)
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	resp, err := s.opt.PushClient.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	return err == nil && resp.Body.Close() == nil && resp.StatusCode/100 == 2
}
