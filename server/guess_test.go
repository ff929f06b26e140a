package server

import (
	"fmt"
	"testing"
	"time"
)

// What the delays are after a number of failures.
func TestGuessSpacing(t *testing.T) {
	for _, c := range []struct {
		failures int
		want     time.Duration
	}{
		{0, 0}, {4, 0},
		{5, 100 * time.Millisecond}, {6, 200 * time.Millisecond}, {8, 800 * time.Millisecond},
		{10, 2 * time.Second}, {1000, 2 * time.Second},
	} {
		if got := (&guessEntry{failures: c.failures}).spacing(); got != c.want {
			t.Errorf("after %d failures %v, want %v", c.failures, got, c.want)
		}
	}
}

func TestGuessing(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var g guessTable
	slot := func(source, user string) time.Duration {
		t.Helper()
		wait, ok := g.slot(source, user, now)
		if !ok {
			return -1
		}
		return wait
	}
	for range 10 {
		g.failed("a", "ann", now)
	}
	// One after the other, however many come at once.
	for i, want := range []time.Duration{2 * time.Second, 4 * time.Second, 6 * time.Second} {
		if got := slot("a", "ann"); got != want {
			t.Errorf("attempt %d waits %v, want %v", i, got, want)
		}
	}
	if got := slot("a", "bob"); got != 8*time.Second {
		t.Errorf("another user from there waits %v", got)
	}
	if got := slot("b", "ann"); got != 0 {
		t.Errorf("the user from elsewhere waits %v", got)
	}
	for range 20 {
		slot("a", "ann")
	}
	if got := slot("a", "ann"); got != -1 {
		t.Errorf("an endless queue: the last waits %v", got)
	}
	// The right password helps the user, not the source.
	g.succeeded("a", "ann")
	now = now.Add(30 * time.Second)
	if got := slot("a", "ann"); got != 0 {
		t.Errorf("after the queue has gone an attempt waits %v", got)
	}
	if got := slot("a", "ann"); got != 2*time.Second {
		t.Errorf("the source is forgotten: %v", got)
	}
	now = now.Add(10 * guessHalf)
	slot("a", "ann")
	if got := slot("a", "ann"); got != 0 {
		t.Errorf("after ten minutes an attempt waits %v", got)
	}
}

// Names that are made up do not fill the memory, nor push out who guesses.
func TestGuessTableIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var g guessTable
	for range 20 {
		g.failed("a", "ann", now)
	}
	for i := range 3 * maxGuesses {
		g.failed(fmt.Sprint(i), fmt.Sprint(i), now)
	}
	if len(g.sources) > maxGuesses || len(g.users) > maxGuesses {
		t.Errorf("%d sources, %d users", len(g.sources), len(g.users))
	}
	if g.sources[guessKey{source: "a"}] == nil || g.users[guessKey{"a", "ann"}] == nil {
		t.Error("who guesses most has been forgotten")
	}
}
