package fuse

import (
	"testing"

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
