package sdk

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// seal makes err fit to leave the process: typed, with a domain, without a secret of the connection, and with a side
// effect of none where nothing can have been changed.
func (s *server) seal(err error, conn *connection, changes bool) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		// The codec knows what to make of context errors, gRPC statuses and anything else.
		e = plugin.FromError(plugin.ToError(err))
	}
	out := *e // the author's error may be shared
	out.Err = err
	if inner := e.Error(); strings.HasSuffix(err.Error(), inner) {
		out.Message = strings.TrimSuffix(err.Error(), inner) + e.Message
	} else {
		out.Message = err.Error()
	}
	if out.Domain == "" && !s.ours(out.Reason) {
		out.Domain = s.c.name
	} else if out.Domain == "" {
		out.Domain = plugin.Domain
	}
	if out.Origin == connectorv1.Origin_ORIGIN_UNSPECIFIED {
		out.Origin = plugin.OriginPlugin
	}
	switch {
	case !changes:
		out.SideEffect = plugin.EffectNone
	case out.SideEffect == connectorv1.SideEffect_SIDE_EFFECT_UNSPECIFIED:
		out.SideEffect = plugin.EffectUnknown
	}
	if conn != nil && len(conn.secrets) > 0 {
		out.Message = conn.redact(out.Message)
		out.RequestID = conn.redact(out.RequestID)
		out.Violations = slices.Clone(out.Violations)
		for i := range out.Violations {
			out.Violations[i].Description = conn.redact(out.Violations[i].Description)
		}
		out.Meta = maps.Clone(out.Meta)
		for k, v := range out.Meta {
			out.Meta[k] = conn.redact(v)
		}
		out.Err = nil // its text is not redacted
	}
	return &out
}

// ours says whether a reason is one of the protocol's.
func (*server) ours(reason string) bool {
	switch reason {
	case plugin.ReasonConfigMismatch, plugin.ReasonTooLarge, plugin.ReasonDraining, plugin.ReasonPanic, plugin.ReasonUnresolved, plugin.ReasonAbsent:
		return true
	default:
		return false
	}
}

// guard runs an author's code and turns a panic into an error.
func (s *server) guard(what string, fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("connector panicked", "connector", s.c.name, "in", what, "stack", string(debug.Stack()))
			e := bug("%s: the connector panicked: %.300s", what, fmt.Sprint(v))
			e.SideEffect, e.Reason = plugin.EffectUnknown, plugin.ReasonPanic
			err = e
		}
	}()
	return fn()
}
