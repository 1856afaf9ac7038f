package secret

import (
	"context"
	"fmt"
	"log/slog"
)

// Handler wraps a slog.Handler so that no known secret reaches it, neither in messages nor in attributes. Attributes that
// a logger carries along are cleaned when they are given to it.
func (r *Redactor) Handler(next slog.Handler) slog.Handler { return &handler{redactor: r, next: next} }

type handler struct {
	redactor *Redactor
	next     slog.Handler
}

var _ slog.Handler = (*handler)(nil)

// Enabled asks the wrapped handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle cleans a record and hands it on.
func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, h.redactor.String(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.redactor.attr(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

// WithAttrs returns a handler that carries cleaned attributes.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.redactor.attr(a)
	}
	return &handler{redactor: h.redactor, next: h.next.WithAttrs(clean)}
}

// WithGroup opens a group.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{redactor: h.redactor, next: h.next.WithGroup(name)}
}

func (r *Redactor) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		v = slog.StringValue(r.String(v.String()))
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, sub := range group {
			clean[i] = r.attr(sub)
		}
		v = slog.GroupValue(clean...)
	case slog.KindAny:
		v = r.anyValue(v)
	default:
	}
	return slog.Attr{Key: a.Key, Value: v}
}

// anyValue keeps a value whose text is clean, so that a JSON handler still sees its structure.
func (r *Redactor) anyValue(v slog.Value) slog.Value {
	var text string
	switch x := v.Any().(type) {
	case nil:
		return v
	case error:
		text = x.Error()
	case []byte:
		text = string(x)
	case fmt.Stringer:
		text = x.String()
	default:
		text = fmt.Sprintf("%+v", x)
	}
	if clean := r.String(text); clean != text {
		return slog.StringValue(clean)
	}
	return v
}
