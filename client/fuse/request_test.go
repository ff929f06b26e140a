package fuse

import (
	"context"
	"testing"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// Changes that were given up on an inode which nobody changes again are forgotten when they
// are over.
func TestLimboDoesNotGrow(t *testing.T) {
	var l limbo
	still := make(chan struct{})
	l.add(still)
	for range 100 {
		over := make(chan struct{})
		l.add(over)
		close(over)
	}
	if n := len(l.pending); n > 2 {
		t.Errorf("%d are remembered, want what is still under way and the last", n)
	}
	close(still)
	if err := l.wait(t.Context()); err != nil || l.pending != nil {
		t.Errorf("%v, %d remembered; want none", err, len(l.pending))
	}
}

// A request that is over serves the same mount again, and no other: the lookout may still
// look at what it was, under the lock of its own mount.
func TestRequestsAreOfOneMount(t *testing.T) {
	var one, other filesystem
	one.lookout.init()
	other.lookout.init()
	seen := make(map[*request]bool)
	for range 100 {
		r := one.begin(nil, &gofuse.InHeader{})
		seen[r] = true
		r.end()
		o := other.begin(nil, &gofuse.InHeader{})
		if seen[o] {
			t.Fatal("a request of one mount serves another")
		}
		o.end()
	}
}

// What a signal means to who waits depends on what it is, and on whether the server is there.
func TestWhatSignalsEnd(t *testing.T) {
	const never = -1
	for _, c := range []struct {
		name    string
		pending signals
		told    bool
		after   time.Duration // of the server's silence
		failed  bool          // and when it fails to answer at once
	}{
		{"kills", signalKills, true, 0, true},
		{"kills who reads in another's name", signalKills, false, 0, true},
		{"asks to stop", signalStops, true, silence, true},
		{"is nothing to the program", signalNone, true, never, false},
		{"was taken by another thread", signalUnknown, true, longSilence, false},
		{"has not come", signalUnknown, false, never, false},
	} {
		s := suspect{pending: c.pending, told: c.told}
		for _, silent := range []time.Duration{0, silence - 1, silence, longSilence - 1, longSilence, time.Hour} {
			over, asks := s.ends(silent, false)
			if want := c.after >= 0 && silent >= c.after; over != want {
				t.Errorf("a signal that %s: it is over: %v after %v of silence", c.name, over, silent)
			}
			if asks != (c.after > 0) {
				t.Errorf("a signal that %s: the server is asked: %v", c.name, asks)
			}
		}
		if over, _ := s.ends(0, true); over != c.failed {
			t.Errorf("a signal that %s: it is over: %v when the server fails", c.name, over)
		}
	}
}

// The server's silence begins with the first question that it has not answered since, and
// ends with an answer.
func TestSilence(t *testing.T) {
	var w lookout
	at := time.Unix(1000, 0)
	if silent, failed := w.silent(at); silent != 0 || failed {
		t.Errorf("%v, %v where nobody has asked", silent, failed)
	}
	w.mute = at
	w.echo = make(chan error, 1)
	for _, c := range []struct {
		name   string
		answer []error // that has come
		silent time.Duration
		failed bool
	}{
		{"no answer", nil, time.Second, false},
		{"a failure", []error{context.DeadlineExceeded}, 2 * time.Second, true},
		{"no answer again", nil, 3 * time.Second, false},
		{"an answer", []error{nil}, 0, false},
		{"after it", nil, 0, false},
	} {
		at = at.Add(time.Second)
		for _, err := range c.answer {
			w.echo = make(chan error, 1)
			w.echo <- err
		}
		if silent, failed := w.silent(at); silent != c.silent || failed != c.failed {
			t.Errorf("%s: silent for %v, failed %v; want %v, %v", c.name, silent, failed, c.silent, c.failed)
		}
		if c.answer != nil && w.echo != nil {
			t.Errorf("%s: the question is still open", c.name)
		}
	}
}
