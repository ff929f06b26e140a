package soft

import (
	"errors"
	"slices"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// pool is an SRQ, what it told, and who was told that it is their turn.
type pool struct {
	*SRQ
	s     *stage
	told  []ndk.Status
	turns []string
}

func newPool(t *testing.T, c ndk.SRQConfig) *pool {
	t.Helper()
	d, s := device(t, testInfo)
	p := &pool{s: s}
	c.Notify = func(st ndk.Status) { p.told = append(p.told, st) }
	q, err := domain(t, d).CreateSRQ(ctx, c)
	must(t, err)
	p.SRQ = q.(*SRQ)
	t.Cleanup(q.Close)
	return p
}

func (p *pool) user(t *testing.T, name string) *user {
	t.Helper()
	u := &user{name: name, to: &p.turns}
	must(t, u.Init(ndk.ObjectQP, ndk.Version21, nil))
	t.Cleanup(u.Close)
	p.Attach(u)
	return u
}

// take is Take by a goroutine of the provider.
func (p *pool) take(u *user) (rc any, ok bool) {
	var r Received
	ok, fire := p.Take(u, &r)
	if fire {
		p.Notify()
	}
	return r.RequestContext, ok
}

// Buffers are taken in post order, and each comes with its SGEs.
func TestSRQOrder(t *testing.T) {
	p := newPool(t, ndk.SRQConfig{Depth: 3, MaxReceiveSGE: 2})
	u := p.user(t, "u")
	var r Received
	post := func(i int) {
		must(t, p.Receive(i, []ndk.SGE{{Addr: uint64(i), Length: 10, Token: 7}, {Length: uint32(i)}}[:i%3]))
	}
	for i := range 3 {
		post(i)
	}
	if err := p.Receive(9, nil); err != ndk.ErrQueueFull {
		t.Errorf("a fourth of three: %v", err)
	}
	for i := range 8 {
		if ok, _ := p.Take(u, &r); !ok || r.RequestContext != i || len(r.SGEs) != i%3 || r.Total != uint64([]int{0, 10, 10 + i}[i%3]) {
			t.Fatalf("took %+v, want %d with %d SGEs", r, i, i%3)
		}
		if i%3 > 0 && r.SGEs[0] != (SGE{uint64(i), 10, 7}) {
			t.Errorf("SGE %+v", r.SGEs[0])
		}
		post(i + 3)
	}
	if err := p.Receive(9, make([]ndk.SGE, 3)); err != ndk.ErrTooManySGEs {
		t.Errorf("three SGEs of two: %v", err)
	}
	if err := p.Receive(9, []ndk.SGE{{Length: 1<<16 - 1}, {Length: 2}}); err != ndk.ErrTooLong {
		t.Errorf("a byte too long: %v", err)
	}
}

// Who finds the queue empty waits in line, and nobody passes.
func TestSRQLine(t *testing.T) {
	p := newPool(t, ndk.SRQConfig{Depth: 8})
	a, b, c := p.user(t, "a"), p.user(t, "b"), p.user(t, "c")
	for _, u := range []*user{a, b, a} {
		if _, ok := p.take(u); ok {
			t.Fatal("took from an empty queue")
		}
	}
	must(t, p.Receive(1, nil))
	if !slices.Equal(p.turns, []string{"a"}) {
		t.Errorf("turns %v", p.turns)
	}
	for _, u := range []*user{b, c} {
		if _, ok := p.take(u); ok {
			t.Errorf("%s passes", u.name)
		}
	}
	must(t, p.Receive(2, nil))
	if rc, ok := p.take(a); !ok || rc != 1 {
		t.Errorf("a took %v %v", rc, ok)
	}
	p.Leave(b) // whose turn it was
	if rc, ok := p.take(c); !ok || rc != 2 {
		t.Errorf("c took %v %v", rc, ok)
	}
	// a again when it was told twice, b when a was done, c when b left.
	if want := []string{"a", "a", "b", "c"}; !slices.Equal(p.turns, want) {
		t.Errorf("turns %v, want %v", p.turns, want)
	}
	if p.Waiting(a) || p.Waiting(b) || p.Waiting(c) {
		t.Error("somebody stands in line")
	}
}

// The notification is for one fall below the threshold.
func TestSRQThreshold(t *testing.T) {
	p := newPool(t, ndk.SRQConfig{Depth: 8, NotifyThreshold: 3})
	u := p.user(t, "u")
	wants := func(n int, when string) {
		t.Helper()
		p.s.run()
		if len(p.told) != n {
			t.Errorf("%s: %d notifications, want %d", when, len(p.told), n)
		}
	}
	fill := func(n int) {
		for p.Queued() < n {
			must(t, p.Receive(nil, nil))
		}
	}
	wants(0, "new and empty")
	fill(2)
	p.take(u)
	wants(0, "never was at the threshold")
	fill(4)
	p.take(u)
	wants(0, "at the threshold")
	p.take(u)
	wants(1, "below it")
	fill(4)
	p.take(u)
	p.take(u)
	wants(1, "once more, and not armed")
	must(t, p.Modify(ctx, 5, 0))
	wants(1, "a new depth alone")
	must(t, p.Modify(ctx, 0, 2))
	fill(2)
	p.take(u)
	wants(2, "below the new threshold")
	must(t, p.Modify(ctx, 0, 2))
	wants(3, "armed while it is below")
	fill(5)
	if err := p.Receive(nil, nil); err != ndk.ErrQueueFull {
		t.Errorf("a sixth of five: %v", err)
	}
	for _, tc := range []struct {
		depth, threshold int
		want             ndk.Status
	}{{9, 0, ntstatus.InvalidParameter}, {-1, 0, ntstatus.InvalidParameter}, {0, -1, ntstatus.InvalidParameter}, {4, 8, ntstatus.BufferOverflow}} {
		if err := p.Modify(ctx, tc.depth, tc.threshold); !errors.Is(err, tc.want) {
			t.Errorf("Modify(%d, %d): %v, want %v", tc.depth, tc.threshold, err, tc.want)
		}
	}
	wants(3, "what was refused")
}

// A failed SRQ tells its QPs and its consumer, and takes nothing more.
func TestFailedSRQ(t *testing.T) {
	p := newPool(t, ndk.SRQConfig{Depth: 8, NotifyThreshold: 1})
	p.user(t, "x")
	p.user(t, "y")
	if p.Fail() {
		p.Notify()
	}
	p.s.run()
	if !slices.Equal(p.told, []ndk.Status{ntstatus.InternalError}) || !slices.Equal(p.turns, []string{"x", "y"}) {
		t.Errorf("told %v and %v", p.told, p.turns)
	}
	if err := p.Receive(nil, nil); err != ndk.ErrQueueFailed || !errors.Is(err, ntstatus.InternalError) {
		t.Errorf("Receive: %v", err)
	}
	if p.Fail() {
		t.Error("failed twice")
	}
}

func TestSRQPostAndTakeAllocateNothing(t *testing.T) {
	p := newPool(t, ndk.SRQConfig{Depth: 8, MaxReceiveSGE: 2})
	u := p.user(t, "u")
	var r Received
	sgl := make([]ndk.SGE, 2)
	round := func() {
		for range 5 {
			_ = p.Receive(p, sgl)
		}
		for ok := true; ok; {
			ok, _ = p.Take(u, &r)
		}
	}
	for range 5 {
		round()
	}
	p.turns = make([]string, 0, 1000)
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
