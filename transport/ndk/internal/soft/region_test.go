package soft

import (
	"runtime"
	"testing"
)

// The permutation behind the tokens has an inverse and spreads neighbours.
func TestTokenTable(t *testing.T) {
	var d Device
	d.Init(Config{})
	tt := &d.tokens
	seen := map[uint32]bool{}
	for s := uint32(0); s < 1<<24; s += 9973 {
		i := tt.index(s)
		if i >= 1<<24 || tt.slot(i) != s || seen[i] {
			t.Fatalf("slot %#x has index %#x, back %#x", s, i, tt.slot(i))
		}
		seen[i] = true
	}
	a, ok := tt.alloc(d.newRegion(), tokenRemote)
	if !ok {
		t.Fatal("no slot")
	}
	last := a.token
	for {
		next := tt.fresh(a)
		if next == last || next&0xFF == 0 || next>>8 != last>>8 {
			t.Fatalf("token %#x after %#x", next, last)
		}
		if tt.find(next) != a {
			t.Fatal("not found")
		}
		if last = next; next&0xFF == 7 { // a while, through many keys
			break
		}
	}
	tt.release(a)
	if tt.find(a.token) != nil {
		t.Error("found after release")
	}
	b, _ := tt.alloc(d.newRegion(), tokenRemote)
	if b.slot == a.slot && b.token == last {
		t.Error("a reused slot has the same token") // RFC 5042 §6.1.1
	}
}

// An invalidation waits for whoever is at work in the region, and for nobody
// else.
func TestInvalidateWaitsForPins(t *testing.T) {
	var d Device
	d.Init(Config{})
	r := d.newRegion()
	r.publish(contents{mem: make([]byte, 8), rtoken: 5})
	gen, ok := r.pin()
	if !ok || !r.Repin(gen) {
		t.Fatal("no pin")
	}
	if r.invalidate(6) {
		t.Error("invalidated under another token")
	}
	done := make(chan bool)
	go func() { done <- r.invalidate(5) }() // ends when the pins are gone
	for r.state.Load()&regionValid != 0 {
		runtime.Gosched()
	}
	if _, ok := r.pin(); ok {
		t.Error("a pin after the invalidation began")
	}
	second := make(chan bool)
	go func() { second <- r.invalidate(0) }() // ends with the first
	if r.publish(contents{}) {
		t.Error("registered anew while the old users are at work")
	}
	r.Unpin()
	select {
	case <-done:
		t.Error("invalidated under a pin")
	case <-second:
		t.Error("a second invalidation did not wait for the pins")
	default:
	}
	r.Unpin()
	if !<-done {
		t.Error("not invalidated")
	}
	if <-second {
		t.Error("invalidated twice")
	}
	if !r.publish(contents{}) || r.Repin(gen) {
		t.Error("the old generation lives on")
	}
}
