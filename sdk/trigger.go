package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin"
)

type triggerSpec struct {
	name, summary string
	emits         []string
	interval      time.Duration
	rules         HookRules
	resolveLimit  int
	sunset        time.Time
	deprecated    string
	stream        pollFunc
	poll          pollFunc
	hook          func(ctx context.Context, conn any, req *HookRequest) (*HookResponse, error)
	resolve       func(ctx context.Context, conn any, h Hint) (Found, error)
}

// pollFunc is an author's Poll or Stream.
type pollFunc func(ctx context.Context, conn any, cursor []byte, emit func(page) error) error

// page is a Page whose cursor has been written.
type page struct {
	events   []Event
	rejected []Rejected
	cursor   []byte
}

const (
	defaultInterval     = time.Minute
	defaultResolveLimit = 16
)

// AddTrigger declares what makes events: by Poll or Stream, by Hook, or by both, where a webhook's hints are looked up by Resolve.
func AddTrigger[T, Cur any](c *Connector, t Trigger[T, Cur]) {
	receiver[T](c, "trigger "+t.Name)
	cur := reflect.TypeFor[Cur]()
	switch {
	case !memberRule.MatchString(t.Name):
		mistake("%s: trigger %q: a name is lower-case letters, digits and underscores, such as \"alerts\"", c.name, t.Name)
	case c.trigger(t.Name) != nil:
		mistake("%s: trigger %q is declared twice", c.name, t.Name)
	case t.Summary == "":
		mistake("%s: trigger %q: the summary is empty; say in one sentence what it brings", c.name, t.Name)
	case len(t.Emits) == 0:
		mistake("%s: trigger %q: Emits is empty; list the types of its events, such as event.TypeAlert", c.name, t.Name)
	case t.Poll == nil && t.Stream == nil && t.Hook == nil:
		mistake("%s: trigger %q has neither Poll nor Stream nor Hook; nothing would make events", c.name, t.Name)
	case t.Poll != nil && t.Stream != nil:
		mistake("%s: trigger %q has both Poll and Stream; only one of them may move the cursor, so make two triggers or choose", c.name, t.Name)
	case t.Resolve != nil && t.Hook == nil:
		mistake("%s: trigger %q has Resolve but no Hook; hints come from webhooks", c.name, t.Name)
	case t.Interval < 0 || t.Interval > 0 && t.Poll == nil:
		mistake("%s: trigger %q: Interval is for polling and must be positive", c.name, t.Name)
	case t.ResolveLimit < 0:
		mistake("%s: trigger %q: ResolveLimit is negative", c.name, t.Name)
	case t.HookRules.MaxBody < 0 || t.HookRules.MaxBody > plugin.MaxHookBody:
		mistake("%s: trigger %q: HookRules.MaxBody is %d; at most %d bytes are taken", c.name, t.Name, t.HookRules.MaxBody, plugin.MaxHookBody)
	case slices.ContainsFunc(t.HookRules.Methods, func(m string) bool { return m == "" || m != strings.ToUpper(m) }):
		mistake("%s: trigger %q: HookRules.Methods are %q; methods are upper-case, such as http.MethodPost", c.name, t.Name, t.HookRules.Methods)
	case (t.Poll != nil || t.Stream != nil) && cur.Kind() != reflect.Struct && cur.Kind() != reflect.Map && cur.Kind() != reflect.String:
		mistake("%s: trigger %q: the cursor is %s; use a plain struct, so that it can grow", c.name, t.Name, cur)
	}
	spec := &triggerSpec{
		name: t.Name, summary: t.Summary, emits: t.Emits, rules: t.HookRules, resolveLimit: t.ResolveLimit,
		sunset: t.Sunset, deprecated: t.Deprecated,
	}
	if spec.resolveLimit == 0 {
		spec.resolveLimit = defaultResolveLimit
	}
	if t.Poll != nil || t.Stream != nil {
		var zero Cur
		if b, err := json.Marshal(zero); err != nil || json.Unmarshal(b, &zero) != nil {
			mistake("%s: trigger %q: the cursor %s cannot be kept as JSON: %v", c.name, t.Name, cur, err)
		}
	}
	if t.Stream != nil {
		spec.stream = poller(c, t.Name, t.Stream)
	}
	if t.Poll != nil {
		spec.interval = t.Interval
		if spec.interval == 0 {
			spec.interval = defaultInterval
		}
		spec.poll = poller(c, t.Name, t.Poll)
	}
	if t.Hook != nil {
		spec.hook = func(ctx context.Context, conn any, req *HookRequest) (*HookResponse, error) {
			return t.Hook(as[T](conn), ctx, req)
		}
	}
	if t.Resolve != nil {
		spec.resolve = func(ctx context.Context, conn any, h Hint) (Found, error) {
			return t.Resolve(as[T](conn), ctx, h)
		}
	}
	c.triggers = append(c.triggers, spec)
}

func poller[T, Cur any](c *Connector, name string, run func(T, context.Context, Cur, func(Page[Cur]) error) error) pollFunc {
	return func(ctx context.Context, conn any, cursor []byte, emit func(page) error) error {
		var cur Cur
		if len(bytes.TrimSpace(cursor)) > 0 {
			if err := json.Unmarshal(cursor, &cur); err != nil {
				e := Invalid("cursor", "was not written by trigger %s.%s of this version: %v", c.name, name, err)
				e.Err = err
				return e
			}
		}
		return run(as[T](conn), ctx, cur, func(p Page[Cur]) error {
			b, err := json.Marshal(p.Cursor)
			if err != nil {
				return bug("%s: the cursor cannot be written as JSON: %v", name, err)
			}
			if len(b) > plugin.MaxCursor {
				return bug("%s: the cursor has %d bytes, more than the limit of %d", name, len(b), plugin.MaxCursor)
			}
			return emit(page{events: p.Events, rejected: p.Rejected, cursor: b})
		})
	}
}

func (c *Connector) trigger(name string) *triggerSpec {
	for _, t := range c.triggers {
		if t.name == name {
			return t
		}
	}
	return nil
}

// status is the HTTP status of a hook's answer.
func (r *HookResponse) status() int {
	if r.Status == 0 {
		return http.StatusAccepted
	}
	return r.Status
}
