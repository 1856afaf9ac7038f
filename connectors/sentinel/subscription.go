package sentinel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Graph's bounds on the life of a subscription to security alerts: 43,200 minutes at most, and what is under 45 minutes
// is raised to that. https://learn.microsoft.com/graph/api/resources/subscription.
const maxLife = 43_200 * time.Minute

// verifyEvery is how often a poll asks Graph whether the subscription still stands.
const verifyEvery = 5 * time.Minute

// longestPause bounds the time between two attempts to subscribe. An attempt that seems further off was put down while
// this machine's clock stood wrong, and is due.
const longestPause = 24 * time.Hour

// subscription is a subscription as Graph tells it.
type subscription struct {
	ID                       string    `json:"id,omitempty"`
	ChangeType               string    `json:"changeType,omitempty"`
	Resource                 string    `json:"resource,omitempty"`
	NotificationURL          string    `json:"notificationUrl,omitempty"`
	LifecycleNotificationURL string    `json:"lifecycleNotificationUrl,omitempty"`
	Expiration               time.Time `json:"expirationDateTime"`
	ClientState              string    `json:"clientState,omitempty"`
	IncludeResourceData      bool      `json:"includeResourceData,omitempty"`
	EncryptionCertificate    string    `json:"encryptionCertificate,omitempty"`
	EncryptionCertificateID  string    `json:"encryptionCertificateId,omitempty"`
}

// subState is what the cursor remembers of it.
type subState struct {
	ID       string    `json:"id"`
	Expires  time.Time `json:"expires"`
	Renewed  time.Time `json:"renewed"`
	Verified time.Time `json:"verified"`
	Mark     string    `json:"mark"`
	// Failed counts attempts in a row that failed, and Retry is when the next is due.
	Failed int       `json:"failed,omitempty"`
	Retry  time.Time `json:"retry,omitzero"`
}

// subscribe keeps exactly one live subscription of ours: it verifies, renews, adopts or creates. It reports whether
// notifications may have been lost meanwhile. What failed is tried again with growing pauses.
func (c *Client) subscribe(ctx context.Context, s subState) (subState, bool, error) {
	if c.cfg.Push != pushManage {
		return subState{}, false, nil
	}
	now := time.Now()
	check := c.verify.Swap(false)
	if now.Before(s.Retry) && s.Retry.Sub(now) <= longestPause && !check {
		return s, false, nil
	}
	next, missed, err := c.ensureSubscription(ctx, s, check, now)
	if err != nil {
		next.Failed = min(s.Failed+1, 7)
		next.Retry = now.Add(min(max(time.Minute<<(next.Failed-1), retryAfter(err)), longestPause))
		c.noteSubscription(next, err)
		return next, missed, err
	}
	next.Failed, next.Retry = 0, time.Time{}
	c.noteSubscription(next, nil)
	return next, missed, nil
}

func (c *Client) noteSubscription(s subState, err error) {
	c.mu.Lock()
	c.subscription, c.subExpires, c.subErr = s.ID, s.Expires, err
	c.mu.Unlock()
}

func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*sdk.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// due says whether to renew: daily, and at half of the life, a little earlier on some connections than on others, so that
// those of one host do not all renew at once.
func (c *Client) due(s subState, now time.Time) bool {
	half := c.life / 2
	early := time.Duration(float64(half) / 5 * float64(sha256.Sum256([]byte(c.env.Connection))[0]) / 256)
	return s.Expires.Sub(now) < half+early || now.Sub(s.Renewed).Abs() > 24*time.Hour
}

func (c *Client) ensureSubscription(ctx context.Context, s subState, check bool, now time.Time) (subState, bool, error) {
	hook := c.env.Hooks["alerts"].URL
	mark := c.mark(hook)
	if s.ID != "" && s.Mark == mark {
		due := c.due(s, now)
		if !due && !check && now.Sub(s.Verified).Abs() < verifyEvery {
			return s, false, nil
		}
		next, err := c.keep(ctx, s, due, now)
		if !isNotFound(err) {
			return next, false, err
		}
		slog.WarnContext(ctx, "subscription is gone", "subscription", s.ID) //nolint:sloglint // the SDK routes the default logger to the host
	}
	next, created, err := c.adoptOrCreate(ctx, hook, mark, now)
	// Whatever happened between two subscriptions was not notified.
	return next, created && s.ID != "", err
}

// keep verifies the subscription, and renews it when that is due.
func (c *Client) keep(ctx context.Context, s subState, renew bool, now time.Time) (subState, error) {
	var got subscription
	path := "/v1.0/subscriptions/" + url.PathEscape(s.ID)
	var err error
	if renew {
		err = c.api.Send(ctx, http.MethodPatch, path, subscription{Expiration: now.Add(c.life).UTC()}, &got)
	} else {
		err = c.api.Get(ctx, path, nil, &got)
	}
	if err != nil {
		return s, fmt.Errorf("keep subscription %s: %w", s.ID, err)
	}
	s.Verified = now
	if renew {
		s.Renewed = now
	}
	if !got.Expiration.IsZero() {
		s.Expires = got.Expiration
	}
	return s, nil
}

// adoptOrCreate takes over a subscription of ours that stands already (a lost cursor, another host) and removes what is
// more than one, or stale: with another secret, or about to lapse for good.
func (c *Client) adoptOrCreate(ctx context.Context, hook, mark string, now time.Time) (subState, bool, error) {
	wanted := withMark(hook, mark)
	var mine *subscription
	for page, err := range c.api.Pages(ctx, rest.Request{Method: http.MethodGet, Path: "/v1.0/subscriptions"}, nextLink) {
		if err != nil {
			return subState{}, false, fmt.Errorf("list subscriptions: %w", err)
		}
		var list struct {
			Value []subscription `json:"value"`
		}
		if err := page.JSON(&list); err != nil {
			return subState{}, false, err
		}
		for _, s := range list.Value {
			if base, _, _ := strings.Cut(s.NotificationURL, "?"); base != hook || !sameResource(s.Resource, c.cfg.PushResource) {
				continue
			}
			if mine == nil && s.NotificationURL == wanted && s.Expiration.After(now) {
				mine = &s
				continue
			}
			if err := c.api.Send(ctx, http.MethodDelete, "/v1.0/subscriptions/"+url.PathEscape(s.ID), nil, nil); err != nil && !isNotFound(err) {
				return subState{}, false, fmt.Errorf("remove stale subscription %s: %w", s.ID, err)
			}
		}
	}
	if mine != nil {
		st, err := c.keep(ctx, subState{ID: mine.ID, Mark: mark, Expires: mine.Expiration}, true, now)
		if !isNotFound(err) {
			return st, false, err
		}
	}
	wish := subscription{
		ChangeType: "created,updated", Resource: c.cfg.PushResource, ClientState: c.clientState,
		NotificationURL: wanted, LifecycleNotificationURL: withMark(hook+"/lifecycle", mark),
		Expiration: now.Add(c.life).UTC(),
	}
	if c.rich != nil {
		wish.IncludeResourceData = true
		wish.EncryptionCertificate, wish.EncryptionCertificateID = c.rich.certificate, c.rich.id
	}
	var made subscription
	if err := c.api.Send(ctx, http.MethodPost, "/v1.0/subscriptions", wish, &made); err != nil {
		return subState{}, false, fmt.Errorf("subscribe to %s: %w", c.cfg.PushResource, explainSubscribe(err))
	}
	return subState{ID: made.ID, Mark: mark, Expires: made.Expiration, Renewed: now, Verified: now}, true, nil
}

// explainSubscribe says what to do about a subscription that was refused.
func explainSubscribe(err error) error {
	e, ok := errors.AsType[*sdk.Error](err)
	if !ok {
		return err
	}
	switch {
	case e.Code == codes.PermissionDenied:
		e.Message += "; grant the app SecurityAlert.Read.All (application) with admin consent, or remove subscriptions if their quota is used up"
	case e.Reason == "ValidationError":
		e.Message += "; Microsoft Graph must reach http.public_url from the internet, and the answer to its handshake must come back unchanged"
	case e.HTTPStatus == http.StatusBadRequest:
		e.Message += "; if this tenant takes no subscriptions to the resource, set push: off: polling brings everything anyway"
	}
	return err
}

// lifecycle answers a lifecycle notification.
// https://learn.microsoft.com/graph/change-notifications-lifecycle-events.
func (c *Client) lifecycle(ctx context.Context, d hintData) (sdk.Found, error) {
	switch d.Event {
	case "reauthorizationRequired":
		err := c.api.Send(ctx, http.MethodPost, "/v1.0/subscriptions/"+url.PathEscape(d.Subscription)+"/reauthorize", nil, nil)
		if c.cfg.Push == pushReceive && isDenied(err) {
			break // it is another app's, and that one's to keep
		}
		if err != nil && !isNotFound(err) {
			return sdk.Found{}, fmt.Errorf("reauthorize subscription %s: %w", d.Subscription, err)
		}
		if err != nil {
			c.verify.Store(true)
		}
	case "subscriptionRemoved":
		c.verify.Store(true)
	}
	// Delivery pauses before any of these, and what changed meanwhile is not sent again.
	return sdk.Found{PollNow: true}, nil
}

// mark tells our subscriptions of one secret from those of another, without saying anything about the secret.
func (c *Client) mark(hook string) string {
	text := "mark " + c.clientState + " " + hook
	if c.rich != nil {
		text += " " + c.rich.id // a new certificate needs a new subscription
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// sameResource compares resources as Graph takes and tells them: with a slash in front or without, in any case.
func sameResource(a, b string) bool {
	return strings.EqualFold(strings.Trim(a, "/"), strings.Trim(b, "/"))
}

func withMark(hook, mark string) string { return hook + "?cw=" + mark }

func isDenied(err error) bool {
	e, ok := errors.AsType[*sdk.Error](err)
	return ok && e.Code == codes.PermissionDenied
}

func isNotFound(err error) bool {
	var e *sdk.Error
	return errors.As(err, &e) && e.Code == codes.NotFound
}
