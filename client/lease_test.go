package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// writable opens or creates a file for everything.
func writable(l *Lease) CreateOptions {
	return CreateOptions{Access: accessRead | accessWrite | AccessDelete, Disposition: OpenIf, Lease: l}
}

// What others do takes from a lease what it has to, and waits until that is given up:
// dirty data is in the file when they get it.
func TestLeaseIsGivenUpInTime(t *testing.T) {
	const all = LeaseRead | LeaseWrite | LeaseHandle
	for _, c := range []struct {
		name     string
		want     LeaseState
		other    CreateOptions
		act      func(f *File) error
		from, to LeaseState
		cfg      Config
	}{
		{name: "another opens", want: all, other: CreateOptions{}, from: all, to: LeaseRead | LeaseHandle},
		{name: "another opens, over 2.1", want: all, other: CreateOptions{}, from: all, to: LeaseRead | LeaseHandle,
			cfg: Config{MaxDialect: SMB210}},
		{name: "another writes", want: LeaseRead, other: CreateOptions{Access: accessWrite},
			act: func(f *File) error { _, err := f.WriteAt([]byte("x"), 9); return err }, from: LeaseRead, to: LeaseNone},
		{name: "another truncates", want: LeaseRead | LeaseWrite,
			other: CreateOptions{Access: accessWrite, Disposition: Overwrite}, from: LeaseRead | LeaseWrite, to: LeaseNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, linkConfig{}, nil)
			ctx := context.Background()
			sh := s.mount(t, c.cfg)
			var f *File
			breaks := make(chan LeaseBreak, 4)
			l := sh.NewLease(LeaseOptions{Want: c.want, OnBreak: func(ctx context.Context, b LeaseBreak) LeaseState {
				if b.From&^b.To&LeaseWrite != 0 {
					if _, err := f.WriteAtContext(ctx, []byte("dirty"), 0); err != nil {
						t.Error(err)
					}
				}
				breaks <- b
				return b.To
			}})
			f, err := sh.CreateFile(ctx, "f", writable(l))
			must(t, err)
			if l.State() != c.want {
				t.Fatalf("state %v, want %v", l.State(), c.want)
			}
			before := l.Generation()
			other := s.mount(t, Config{})
			g, err := other.CreateFile(ctx, "f", c.other)
			must(t, err)
			if c.act != nil {
				must(t, c.act(g))
			}
			b := <-breaks
			if b.From != c.from || b.To != c.to || b.Lost || b.Lease != l {
				t.Fatalf("break %v to %v, lost %v; want %v to %v", b.From, b.To, b.Lost, c.from, c.to)
			}
			if l.State() != c.to || l.Generation() == before {
				t.Fatalf("state %v, want %v; generation %d, was %d", l.State(), c.to, l.Generation(), before)
			}
			if c.from&LeaseWrite != 0 && c.other.Disposition == OpenExisting {
				p := make([]byte, 5)
				if _, err := g.ReadAt(p, 0); string(p) != "dirty" {
					t.Fatalf("%q, %v", p, err)
				}
			}
			must(t, g.Close())
			must(t, f.Close())
			if l.State() != 0 {
				t.Fatalf("state %v after the last close", l.State())
			}
		})
	}
}

// Opens of one file share a lease: they do not break it, and it lives as long as one
// of them. Opening another file by it is refused.
func TestLeaseIsShared(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	ctx := context.Background()
	sh := s.mount(t, Config{})
	l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(context.Context, LeaseBreak) LeaseState {
		t.Error("broken by its own opens")
		return 0
	}})
	a, err := sh.CreateFile(ctx, "f", writable(l))
	must(t, err)
	b, err := sh.CreateFile(ctx, "f", writable(l))
	must(t, err)
	_, err = b.WriteAt([]byte("abc"), 0)
	must(t, err)
	must(t, a.Close())
	if l.State() != leaseAll {
		t.Fatal(l.State())
	}
	if _, err := sh.CreateFile(ctx, "g", writable(l)); !errors.Is(err, ntstatus.InvalidParameter) {
		t.Fatal(err)
	}
	must(t, b.Close())
	g, err := sh.CreateFile(ctx, "g", writable(l))
	must(t, err)
	if l.State() != leaseAll || g.Lease() != l {
		t.Fatal(l.State())
	}
	must(t, g.Close())
	if _, err := s.mount(t, Config{}).CreateFile(ctx, "g", writable(l)); !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(err) // the lease of another session
	}
}

// [MS-SMB2] 3.3.4.20: a directory's lease goes when somebody else changes what is in
// it, and not when that is done by a lease that names it as its parent's.
func TestDirectoryLease(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	ctx := context.Background()
	must(t, os.Mkdir(s.dir+"/d", 0o777))
	sh := s.mount(t, Config{})
	breaks := make(chan LeaseBreak, 4)
	l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(_ context.Context, b LeaseBreak) LeaseState {
		breaks <- b
		return b.To
	}})
	d, err := sh.CreateFile(ctx, "d", CreateOptions{Options: OptDirectory, Lease: l})
	must(t, err)
	if l.State() != LeaseRead|LeaseHandle {
		t.Fatal(l.State())
	}
	child := sh.NewLease(LeaseOptions{Want: leaseAll, Parent: l})
	f, err := sh.CreateFile(ctx, "d/own", writable(child))
	must(t, err)
	nothing := sh.NewLease(LeaseOptions{Parent: l})
	g, err := sh.CreateFile(ctx, "d/own2", writable(nothing))
	must(t, err)
	must(t, g.Close())
	if l.State() != LeaseRead|LeaseHandle {
		t.Fatalf("%v after changes of its own client", l.State())
	}
	must(t, s.mount(t, Config{}).WriteFile(ctx, "d/theirs", nil, 0o666))
	if b := <-breaks; b.To&LeaseRead != 0 {
		t.Fatalf("%v to %v", b.From, b.To)
	}
	must(t, f.Close())
	must(t, d.Close())
}

// leasing is a fake that grants what is asked for with an epoch that the test says.
type leasing struct {
	*fake
	key   smb2.GUID // written before the CREATE is answered
	epoch uint16
	most  LeaseState // no more is given; 0: what is asked for
	// before is sent before the answer to a CREATE.
	before func(key smb2.GUID) *smb2.LeaseBreakNotification

	mu   sync.Mutex
	acks []LeaseState // guarded by mu
	got  chan struct{}
	// refuse is the status of acknowledgments.
	refuse ntstatus.Status
}

func newLeasing(t *testing.T) (*leasing, *link) {
	f, c := newFake(t, linkConfig{})
	f.caps |= smb2.GlobalCapLeasing | smb2.GlobalCapDirectoryLeasing
	l := &leasing{fake: f, epoch: 1, got: make(chan struct{}, 16)}
	f.on[smb2.CommandCreate] = func(f *fake, h smb2.Header, msg []byte) bool {
		m, err := smb2.ParseCreateRequest(msg)
		if err != nil {
			t.Error(err)
		}
		data, found, err := smb2.FindCreateContext(m.Contexts, smb2.CreateContextLease)
		if !found || err != nil || m.RequestedOplockLevel != smb2.OplockLevelLease {
			t.Errorf("CREATE without a lease: %v, %v, level %d", found, err, m.RequestedOplockLevel)
			return false
		}
		q, err := smb2.ParseLease(data)
		if err != nil || q.Version != 2 {
			t.Errorf("version %d, %v", q.Version, err)
		}
		l.key = q.LeaseKey
		if l.before != nil {
			l.notify(l.before(l.key))
		}
		q.Epoch, q.Flags = l.epoch, 0
		if l.most != 0 {
			q.LeaseState &= smb2.LeaseState(l.most)
		}
		b, _ := q.AppendBinary(nil)
		list, _ := smb2.AppendCreateContext(nil, smb2.CreateContextLease, b)
		f.reply(h, 0, &smb2.CreateResponse{CreateAction: smb2.FileOpened, OplockLevel: smb2.OplockLevelLease,
			FileID: smb2.FileID{Persistent: 1, Volatile: 2}, Contexts: list})
		return true
	}
	f.on[smb2.CommandOplockBreak] = func(f *fake, h smb2.Header, msg []byte) bool {
		m, err := smb2.ParseLeaseBreakAcknowledgment(msg)
		if err != nil {
			t.Error(err)
		}
		l.mu.Lock()
		l.acks = append(l.acks, LeaseState(m.LeaseState))
		refuse := l.refuse
		l.mu.Unlock()
		if refuse != 0 {
			f.fail(h, refuse)
		} else {
			f.reply(h, 0, &smb2.LeaseBreakResponse{LeaseKey: m.LeaseKey, LeaseState: m.LeaseState})
		}
		l.got <- struct{}{}
		return true
	}
	return l, c
}

// notify sends a notification; only by the fake's goroutine.
func (l *leasing) notify(n *smb2.LeaseBreakNotification) {
	h := smb2.Header{Command: smb2.CommandOplockBreak, MessageID: smb2.NoMessageID, Flags: smb2.FlagServerToRedir}
	b, err := n.AppendBinary(h.Append(nil))
	if err != nil {
		l.t.Error(err)
	}
	l.send(b, nil)
}

// Notifications as they may come, and what becomes of the lease, which is RWH with
// epoch 1 ([MS-SMB2] 3.2.5.19.2). An ECHO brings them.
func TestLeaseBreakNotifications(t *testing.T) {
	const r, h, w, ack = LeaseRead, LeaseHandle, LeaseWrite, smb2.NotifyBreakLeaseFlagAckRequired
	type note struct {
		epoch    uint16
		flags    uint32
		from, to LeaseState
	}
	for _, c := range []struct {
		name   string
		notes  []note
		before *note // comes before the answer to the CREATE
		breaks []string
		acks   []LeaseState
		state  LeaseState
		refuse ntstatus.Status
		keep   LeaseState // what OnBreak returns, beside b.To
	}{
		{name: "write goes", notes: []note{{2, ack, r | w | h, r | h}}, breaks: []string{"RWH to RH"}, acks: []LeaseState{r | h}, state: r | h, keep: r | h},
		{name: "all goes", notes: []note{{2, ack, r | w | h, 0}}, breaks: []string{"RWH to none"}, acks: []LeaseState{0}, keep: r},
		{name: "more is given up than asked for", notes: []note{{2, ack, r | w | h, r | h}}, breaks: []string{"RWH to RH"}, acks: []LeaseState{r}, state: r, keep: r},
		{name: "no answer is wanted", notes: []note{{2, 0, r | w | h, 0}}, breaks: []string{"RWH to none"}, keep: r | w | h},
		{name: "late", notes: []note{{1, ack, r | w | h, r}}, state: r | w | h},
		{name: "much too late", notes: []note{{0x9000, ack, r | w | h, r}}, state: r | w | h},
		{name: "twice", notes: []note{{2, ack, r | w | h, r | h}, {2, ack, r | w | h, r | h}}, breaks: []string{"RWH to RH"}, acks: []LeaseState{r | h}, state: r | h, keep: r | h},
		{name: "of rights that it never had", notes: []note{{2, ack, r | w | h, 0xFFFFFFF8 | r}}, breaks: []string{"RWH to R"}, acks: []LeaseState{r}, state: r, keep: r | w | h},
		{name: "before the answer to the CREATE", before: &note{2, ack, r | w | h, r}, breaks: []string{"RWH to R"}, acks: []LeaseState{r}, state: r, keep: r},
		{name: "the server went on without the answer", notes: []note{{2, ack, r | w | h, r | h}}, breaks: []string{"RWH to RH", "RH to none, lost"},
			acks: []LeaseState{r | h}, refuse: ntstatus.Unsuccessful, keep: r | h},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, link := newLeasing(t)
			f.refuse = c.refuse
			n := func(e note) *smb2.LeaseBreakNotification {
				return &smb2.LeaseBreakNotification{NewEpoch: e.epoch, Flags: e.flags, LeaseKey: f.key,
					CurrentLeaseState: smb2.LeaseState(e.from), NewLeaseState: smb2.LeaseState(e.to)}
			}
			if c.before != nil {
				f.before = func(smb2.GUID) *smb2.LeaseBreakNotification { return n(*c.before) }
			}
			f.on[smb2.CommandEcho] = func(*fake, smb2.Header, []byte) bool {
				for _, e := range c.notes {
					f.notify(n(e))
				}
				return false
			}
			s, err := f.start(link, Config{})
			must(t, err)
			ctx := context.Background()
			sh, err := s.Mount(ctx, "data")
			must(t, err)
			got := make(chan string, 16)
			l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(_ context.Context, b LeaseBreak) LeaseState {
				text := b.From.String() + " to " + b.To.String()
				if b.Lost {
					text += ", lost"
				}
				got <- text
				return c.keep
			}})
			_, err = sh.CreateFile(ctx, "f", CreateOptions{Lease: l})
			must(t, err)
			must(t, s.Echo(ctx))
			for _, want := range c.breaks {
				if b := <-got; b != want {
					t.Fatalf("%s, want %s", b, want)
				}
			}
			for range c.acks {
				<-f.got
			}
			f.settle(s)
			if l.State() != c.state {
				t.Fatalf("state %v, want %v", l.State(), c.state)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.acks) != len(c.acks) || len(c.acks) > 0 && f.acks[0] != c.acks[0] || len(got) > 0 {
				t.Fatalf("acknowledged %v, want %v; %d more breaks", f.acks, c.acks, len(got))
			}
		})
	}
}

// An answer that gives less than there was, with a number that says that nothing has
// happened, is believed: what was cached is void.
func TestLeaseThatBecomesLessWithoutABreak(t *testing.T) {
	f, link := newLeasing(t)
	s, err := f.start(link, Config{})
	must(t, err)
	ctx := context.Background()
	sh, err := s.Mount(ctx, "data")
	must(t, err)
	lost := make(chan LeaseBreak, 1)
	l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(_ context.Context, b LeaseBreak) LeaseState {
		lost <- b
		return b.To
	}})
	_, err = sh.CreateFile(ctx, "f", CreateOptions{Lease: l})
	must(t, err)
	before := l.Generation()
	f.most = LeaseRead
	_, err = sh.CreateFile(ctx, "f", CreateOptions{Lease: l})
	must(t, err)
	if b := <-lost; !b.Lost || b.From != leaseAll || b.To != 0 {
		t.Errorf("%+v", b)
	}
	f.settle(s)
	if l.State() != LeaseRead || l.Generation() == before {
		t.Errorf("state %v, generation %d, was %d", l.State(), l.Generation(), before)
	}
}

// settle waits until no break is being dealt with.
func (l *leasing) settle(s *Session) {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	for s.breaks.workers > 0 {
		s.leaseCond.Wait()
	}
}

// A break of a lease that nothing uses is ignored; one that makes no sense is not.
func TestLeaseBreakNobodyWaitsFor(t *testing.T) {
	f, link := newLeasing(t)
	f.on[smb2.CommandEcho] = func(*fake, smb2.Header, []byte) bool {
		f.notify(&smb2.LeaseBreakNotification{NewEpoch: 2, Flags: 1, LeaseKey: f.key, CurrentLeaseState: 7})
		return false
	}
	s, err := f.start(link, Config{})
	must(t, err)
	ctx := context.Background()
	sh, err := s.Mount(ctx, "data")
	must(t, err)
	l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(context.Context, LeaseBreak) LeaseState {
		t.Error("a break after the close")
		return 0
	}})
	file, err := sh.CreateFile(ctx, "f", CreateOptions{Lease: l})
	must(t, err)
	must(t, file.Close())
	must(t, s.Echo(ctx))
	f.settle(s)
	if n := f.requests(smb2.CommandOplockBreak); n != 0 {
		t.Fatalf("%d acknowledgments", n)
	}
}

// A server that answers with a lease that was not asked for loses the connection.
func TestLeaseAnswersThatLie(t *testing.T) {
	f, link := newLeasing(t)
	f.on[smb2.CommandCreate] = func(f *fake, h smb2.Header, msg []byte) bool {
		b, _ := (&smb2.Lease{Version: 2, LeaseKey: smb2.GUID{1}, LeaseState: 7, Epoch: 1}).AppendBinary(nil)
		list, _ := smb2.AppendCreateContext(nil, smb2.CreateContextLease, b)
		f.reply(h, 0, &smb2.CreateResponse{OplockLevel: smb2.OplockLevelLease, FileID: smb2.FileID{Persistent: 1}, Contexts: list})
		return true
	}
	s, err := f.start(link, Config{})
	must(t, err)
	sh, err := s.Mount(context.Background(), "data")
	must(t, err)
	l := sh.NewLease(LeaseOptions{Want: leaseAll})
	_, err = sh.CreateFile(context.Background(), "f", CreateOptions{Lease: l})
	if pe := (*ProtocolError)(nil); !errors.As(err, &pe) || l.State() != 0 {
		t.Fatal(err, l.State())
	}
}

// Two clients break each other's leases all the time, and the data that each keeps
// back is never lost: what is read is what was written last.
func TestLeasesUnderContention(t *testing.T) {
	s := newSite(t, linkConfig{}, nil)
	ctx := context.Background()
	var mu sync.Mutex // the order of the writers
	last := byte(0)
	var wg sync.WaitGroup
	for i := range 3 {
		sh := s.mount(t, Config{})
		wg.Go(func() {
			for n := range 30 {
				var dirty struct {
					sync.Mutex
					f    *File
					data []byte
				}
				l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(ctx context.Context, b LeaseBreak) LeaseState {
					dirty.Lock()
					defer dirty.Unlock()
					if b.From&^b.To&LeaseWrite != 0 && dirty.data != nil {
						if _, err := dirty.f.WriteAtContext(ctx, dirty.data, 0); err != nil {
							t.Error(err)
						}
						dirty.data = nil
					}
					return b.To
				}})
				f, err := sh.CreateFile(ctx, "f", writable(l))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				p := make([]byte, 1)
				if k, _ := f.ReadAt(p, 0); k == 1 && p[0] != last {
					t.Errorf("client %d read %d, want %d", i, p[0], last)
				}
				last = byte(i*30 + n + 1)
				dirty.Lock()
				dirty.f = f
				if dirty.data = []byte{last}; l.State()&LeaseWrite == 0 {
					if _, err := f.WriteAt(dirty.data, 0); err != nil {
						t.Error(err)
					}
					dirty.data = nil
				}
				dirty.Unlock()
				mu.Unlock()
				dirty.Lock()
				data := dirty.data
				dirty.data = nil
				if data != nil {
					if _, err := f.WriteAt(data, 0); err != nil {
						t.Error(err)
					}
				}
				dirty.Unlock()
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
