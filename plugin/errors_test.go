package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin"
)

func full() *plugin.Error {
	return &plugin.Error{
		Code: codes.InvalidArgument, Message: "invalid input", Reason: "QUOTA", Domain: "jira",
		Meta: map[string]string{"scope": "write:jira-work"}, RetryAfter: 1500 * time.Millisecond,
		Origin: plugin.OriginInput, SideEffect: plugin.EffectApplied, HTTPStatus: 422, RequestID: "req-1",
		Violations: []plugin.Violation{{Field: "/fields/summary", Description: "too long"}, {Description: "no project"}},
	}
}

var ignoreCause = cmpopts.IgnoreFields(plugin.Error{}, "Err")

func TestErrorCrossesTheWireWhole(t *testing.T) {
	t.Parallel()
	want := full()
	if diff := cmp.Diff(want, plugin.FromError(plugin.ToError(want)), ignoreCause); diff != "" {
		t.Errorf("as a gRPC error (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, plugin.UnmarshalStatus(plugin.MarshalStatus(want)), ignoreCause); diff != "" {
		t.Errorf("as bytes (-want +got):\n%s", diff)
	}
}

func TestWrappedErrorKeepsTheOutermostText(t *testing.T) {
	t.Parallel()
	got := plugin.FromError(plugin.ToError(fmt.Errorf("create issue in SEC: %w", full())))
	want := full()
	want.Message = "create issue in SEC: invalid input"
	if diff := cmp.Diff(want, got, ignoreCause); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text := "create issue in SEC: invalid input: /fields/summary: too long; no project"; got.Error() != text {
		t.Errorf("Error() = %q, want %q", got, text)
	}
}

func TestForeignErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err    error
		code   codes.Code
		effect any
		class  plugin.Class
	}{
		"plain":         {errors.New("boom"), codes.Internal, plugin.EffectUnknown, plugin.ClassUncertain},
		"deadline":      {fmt.Errorf("get: %w", context.DeadlineExceeded), codes.DeadlineExceeded, plugin.EffectUnknown, plugin.ClassUncertain},
		"cancel":        {context.Canceled, codes.Canceled, plugin.EffectUnknown, plugin.ClassUncertain},
		"status":        {status.Error(codes.Aborted, "busy"), codes.Aborted, plugin.EffectUnknown, plugin.ClassConflict},
		"unimplemented": {status.Error(codes.Unimplemented, "no"), codes.Unimplemented, plugin.EffectNone, plugin.ClassBug},
		"without code":  {&plugin.Error{Message: "no code", Origin: plugin.OriginPlugin, SideEffect: plugin.EffectNone}, codes.Internal, plugin.EffectNone, plugin.ClassBug},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := plugin.ToError(tt.err)
			if wire == nil {
				t.Fatal("the error became success")
			}
			got := plugin.FromError(wire)
			if got.Code != tt.code || any(got.SideEffect) != tt.effect || got.Class() != tt.class || got.Origin != plugin.OriginPlugin {
				t.Errorf("got code %v, effect %v, class %v, origin %v", got.Code, got.SideEffect, got.Class(), got.Origin)
			}
		})
	}
}

func TestTransportErrorHasNoOrigin(t *testing.T) {
	t.Parallel()
	for _, err := range []error{status.Error(codes.Unavailable, "error reading from server: EOF"), io.ErrUnexpectedEOF, context.Canceled} {
		got := plugin.FromError(err)
		if got.Origin != 0 || got.SideEffect != plugin.EffectUnknown {
			t.Errorf("%v: origin %v, side effect %v", err, got.Origin, got.SideEffect)
		}
		if !errors.Is(got, err) {
			t.Errorf("%v: the cause is lost", err)
		}
	}
}

func TestGiantErrorIsClipped(t *testing.T) {
	t.Parallel()
	e := full()
	e.Message = strings.Repeat("ä", plugin.MaxErrorDetail)
	e.RequestID = strings.Repeat("r", 1<<20)
	e.Reason = strings.Repeat("R", 1<<20)
	e.Meta = map[string]string{}
	for i := range 1000 {
		e.Meta[fmt.Sprintf("k%04d", i)] = strings.Repeat("v", 1<<10)
	}
	e.Violations = nil
	for i := range 100 {
		e.Violations = append(e.Violations, plugin.Violation{Field: fmt.Sprintf("/%d", i), Description: strings.Repeat("d", 1<<12)})
	}
	if n := proto.Size(plugin.ToStatus(e).Proto()); n > 32<<10 {
		t.Errorf("the status has %d bytes: it travels in trailers", n)
	}
	got := plugin.FromError(plugin.ToError(e))
	if !utf8.ValidString(got.Message) || !strings.HasSuffix(got.Message, "…") || len(got.Message) > plugin.MaxErrorDetail+len("…") {
		t.Errorf("message of %d bytes, valid %v", len(got.Message), utf8.ValidString(got.Message))
	}
	if n := len(got.Violations); n != 17 || got.Violations[16].Description != "and 84 more" {
		t.Errorf("%d violations, last %q", n, got.Violations[n-1].Description)
	}
	if got.Meta["k0000"] == "" || len(got.Meta) != 16 {
		t.Errorf("%d meta entries", len(got.Meta))
	}
}

func TestNonUTF8SurvivesAsReplacement(t *testing.T) {
	t.Parallel()
	e := full()
	e.Message, e.Reason, e.RequestID = "bad \xff text", "R\xff", "id\xff"
	e.Meta = map[string]string{"k\xff": "v\xff"}
	e.Violations = []plugin.Violation{{Field: "/\xff", Description: "\xff"}}
	want := full()
	want.Message, want.Reason, want.RequestID = "bad \uFFFD text", "R\uFFFD", "id\uFFFD"
	want.Meta = map[string]string{"k\uFFFD": "v\uFFFD"}
	want.Violations = []plugin.Violation{{Field: "/\uFFFD", Description: "\uFFFD"}}
	if diff := cmp.Diff(want, plugin.FromError(plugin.ToError(e)), ignoreCause); diff != "" {
		t.Errorf("a detail was lost (-want +got):\n%s", diff)
	}
}

func TestUnreadableStatus(t *testing.T) {
	t.Parallel()
	if e := plugin.UnmarshalStatus(nil); e != nil {
		t.Errorf("nothing became %v", e)
	}
	if e := plugin.UnmarshalStatus([]byte("\xff\xff")); e == nil || e.Code != codes.Internal || e.SideEffect != plugin.EffectUnknown {
		t.Errorf("garbage became %+v", e)
	}
}

func FuzzUnmarshalStatus(f *testing.F) {
	f.Add(plugin.MarshalStatus(full()))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := plugin.UnmarshalStatus(b)
		if e == nil {
			return
		}
		_ = e.Error()
		if plugin.ToError(e) == nil {
			t.Errorf("%x: an error became success", b)
		}
	})
}
