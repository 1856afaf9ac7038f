package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := demo(ctx, &out); err != nil {
		t.Fatal(err)
	}
	lines := slices.Sorted(strings.Lines(out.String()))
	if strings.Join(lines, "") != "ticket: Door east was forced\nticket: Door north was forced\n" {
		t.Errorf("got %q", lines)
	}
}

// One ticket per door, over restarts of the host too: the data file knows what was done.
func TestRestart(t *testing.T) {
	t.Parallel()
	b, dir := NewBuilding(), t.TempDir()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, door := range []string{"north", "west"} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, b, dir, slog.New(slog.DiscardHandler), func() {}) }()
		b.reports <- Report{"north", "forced", at}
		b.reports <- Report{door, "forced", at.Add(time.Duration(i) * time.Hour)}
		select {
		case title := <-b.made:
			if want := fmt.Sprintf("Door %s was forced", door); title != want {
				t.Errorf("got %q, want %q", title, want)
			}
		case <-time.After(time.Minute):
			t.Error("no ticket was made")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if len(b.made) != 0 || len(b.tickets) != 2 {
		t.Errorf("tickets %v", b.tickets)
	}
}
