package soft

import (
	"context"
	"errors"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// page returns n bytes that begin at a page.
func page(t *testing.T, d *Device, n int) []byte {
	t.Helper()
	m, free, err := d.Alloc(n)
	must(t, err)
	t.Cleanup(free)
	return m
}

// normal is a registered MR.
func normal(t *testing.T, p *PD, mem []byte, f ndk.MRFlags) *MR {
	t.Helper()
	m, err := p.CreateMR(ctx, false)
	must(t, err)
	t.Cleanup(m.Close)
	must(t, m.Register(ctx, ndk.Memory{mem}, len(mem), f))
	return m.(*MR)
}

// Rights in a region, by its flags and by what the adapter asks for.
func TestLocalRights(t *testing.T) {
	const all = LocalWrite | ReadSink
	for _, tc := range []struct {
		name     string
		anywhere bool
		flags    ndk.MRFlags
		want     Right
		broken   ndk.Rule
	}{
		{"source", false, ndk.MRAllowLocalRead, 0, 0},
		{"receive", false, ndk.MRAllowLocalWrite, LocalWrite, 0},
		{"receive into a source", false, ndk.MRAllowRemoteRead, LocalWrite, ndk.RuleSGERight},
		{"remote write contains local write", false, ndk.MRAllowRemoteWrite, LocalWrite, 0},
		{"read", false, ndk.MRAllowLocalWrite | ndk.MRRDMAReadSink, all, 0},
		{"read without the flag", false, ndk.MRAllowLocalWrite, all, ndk.RuleReadSink},
		{"read without the flag where it is not asked for", true, ndk.MRAllowLocalWrite, all, 0},
		{"read into a source", true, ndk.MRRDMAReadSink, all, ndk.RuleSGERight},
	} {
		t.Run(tc.name, func(t *testing.T) {
			info := testInfo
			if tc.anywhere {
				info.Flags |= ndk.FlagRDMAReadSinkNotRequired
			}
			d, _ := device(t, info)
			p := domain(t, d)
			m := normal(t, p, page(t, d, 64), tc.flags)
			e := SGE{m.Base(), 64, uint32(m.LocalToken())}
			if got := p.CheckLocal(e, tc.want); got != tc.broken {
				t.Errorf("broken: %v, want %v", got, tc.broken)
			}
			other := domain(t, d)
			if got := other.CheckLocal(e, tc.want); got != ndk.RuleDomain {
				t.Errorf("in another domain: %v", got)
			}
			must(t, m.Deregister(ctx))
			if got := p.CheckLocal(e, 0); got != ndk.RuleInvalidated {
				t.Errorf("after Deregister: %v", got)
			}
			e.Len = 0
			if got := p.CheckLocal(e, tc.want); got != 0 {
				t.Errorf("an SGE without length: %v", got)
			}
		})
	}
}

// A mapping may be the sink of a Read only where the adapter does not ask for the
// right to be one.
func TestMappingAsSink(t *testing.T) {
	for _, anywhere := range []bool{false, true} {
		info := testInfo
		want := ndk.RuleReadSink
		if anywhere {
			info.Flags |= ndk.FlagRDMAReadSinkNotRequired
			want = 0
		}
		d, _ := device(t, info)
		p := domain(t, d)
		var l ndk.LAM
		fbo, err := d.BuildLAM(ctx, ndk.Memory{page(t, d, 100)[10:]}, 90, &l)
		must(t, err)
		e := SGE{uint64(l.Pages[0]) + uint64(fbo), 90, uint32(p.PrivilegedToken())}
		if got := p.CheckLocal(e, LocalWrite); fbo != 10 || got != 0 {
			t.Errorf("offset %d: %v", fbo, got)
		}
		if got := p.CheckLocal(e, LocalWrite|ReadSink); got != want {
			t.Errorf("sink: %v, want %v", got, want)
		}
		if _, _, _, a := p.Remote(nil, uint32(p.PrivilegedToken()), e.Addr, 1, RemoteRead); a != AccessToken {
			t.Errorf("the privileged token from a peer: %v", a)
		}
		d.ReleaseLAM(&l)
		if got := p.CheckLocal(e, 0); got == 0 {
			t.Error("a mapping that was released can be used")
		}
	}
}

// The outcome of a peer's access, by what is wrong with it.
func TestRemote(t *testing.T) {
	d, _ := device(t, testInfo)
	p, other := domain(t, d), domain(t, d)
	m := normal(t, p, page(t, d, 64), ndk.MRAllowRemoteRead)
	base, token := m.Base(), uint32(m.RemoteToken())
	for _, tc := range []struct {
		name  string
		pd    *PD
		token uint32
		to, n uint64
		right Right
		want  Access
	}{
		{"good", p, token, base, 64, RemoteRead, AccessOK},
		{"nothing at the end", p, token, base + 64, 0, RemoteRead, AccessOK},
		{"old key", p, token ^ 1, base, 64, RemoteRead, AccessToken},
		{"unknown", p, ^token, base, 64, RemoteRead, AccessToken},
		{"local token", p, uint32(m.LocalToken()), base, 64, RemoteRead, AccessToken},
		{"another domain", other, token, base, 64, RemoteRead, AccessStream},
		{"write", p, token, base, 64, RemoteWrite, AccessRight},
		{"behind", p, token, base + 1, 64, RemoteRead, AccessBounds},
		{"before", p, token, base - 1, 64, RemoteRead, AccessBounds},
		{"wrap", p, token, ^uint64(0), 2, RemoteRead, AccessWrap},
	} {
		r, _, mem, a := tc.pd.Remote(nil, tc.token, tc.to, tc.n, tc.right)
		if a != tc.want || a == AccessOK && uint64(len(mem)) != tc.n {
			t.Errorf("%s: %v with %d bytes, want %v", tc.name, a, len(mem), tc.want)
		}
		if a == AccessOK {
			r.Unpin()
		}
	}
	if p.InvalidateRemote(nil, token) {
		t.Error("a peer ended a normal registration")
	}
}

// The life of a fast registration.
func TestFastRegistration(t *testing.T) {
	d, _ := device(t, testInfo)
	p := domain(t, d)
	x, err := p.CreateMR(ctx, true)
	must(t, err)
	t.Cleanup(x.Close)
	m := x.(*MR)
	mem := page(t, d, 3*ndk.PageSize)
	var l ndk.LAM
	_, err = d.BuildLAM(ctx, ndk.Memory{mem}, len(mem), &l)
	must(t, err)
	defer d.ReleaseLAM(&l)
	if _, err := m.PrepareFast(l.Pages, 0, 64, 0, 0); err != ndk.ErrNotInitialized {
		t.Errorf("before InitializeFastRegister: %v", err)
	}
	if err := m.InitializeFastRegister(ctx, 17, true); !errors.Is(err, ntstatus.ImplementationLimit) {
		t.Errorf("17 pages of 16: %v", err)
	}
	must(t, m.InitializeFastRegister(ctx, 2, true))
	if err := m.InitializeFastRegister(ctx, 2, true); !errors.Is(err, ntstatus.InvalidDeviceState) {
		t.Errorf("initialised twice: %v", err)
	}
	if err := m.Register(ctx, ndk.Memory{mem}, 64, 0); !errors.Is(err, ntstatus.InvalidDeviceRequest) {
		t.Errorf("Register: %v", err)
	}
	for _, tc := range []struct {
		name  string
		pages []ndk.LogicalAddress
		fbo   uint32
		n     uint64
		base  uint64
		want  *ndk.PostError
	}{
		{"too many pages", l.Pages, 0, 64, 0, ndk.ErrPages},
		{"no page", nil, 0, 0, 0, ndk.ErrPages},
		{"a gap", []ndk.LogicalAddress{l.Pages[0], l.Pages[2]}, 0, 64, 0, ndk.ErrPages},
		{"not a page", []ndk.LogicalAddress{l.Pages[0] + 8}, 0, 64, 0, ndk.ErrPages},
		{"a byte too long", l.Pages[:1], 1, ndk.PageSize, 1, ndk.ErrPages},
		{"offset of a page", l.Pages[:2], ndk.PageSize, 1, 0, ndk.ErrBase},
		{"base 0 and offset 1", l.Pages[:1], 1, 64, 0, ndk.ErrBase},
		{"base not congruent", l.Pages[:1], 1, 64, 2, ndk.ErrBase},
		{"wrap", l.Pages[:2], 0, ndk.PageSize + 1, ^uint64(0) &^ (ndk.PageSize - 1), ndk.ErrBase},
	} {
		if _, err := m.PrepareFast(tc.pages, tc.fbo, tc.n, tc.base, 0); err != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	var last ndk.Token
	for i := range 3 {
		const base = 1<<40 + 5
		reg, bad := m.PrepareFast(l.Pages[1:], 5, 100, base, ndk.AllowRemoteWrite)
		if bad != nil {
			t.Fatal(bad)
		}
		token := m.RemoteToken()
		if token == last || token != reg.Token() || m.Base() != base {
			t.Errorf("token %#x after %#x, base %#x", token, last, m.Base())
		}
		last = token
		if _, _, _, a := p.Remote(nil, uint32(token), base, 100, RemoteWrite); a != AccessToken {
			t.Errorf("before its turn: %v", a)
		}
		if broken := m.PublishFast(&reg); broken != 0 {
			t.Fatal(broken)
		}
		r, _, got, a := p.Remote(nil, uint32(token), base, 100, RemoteWrite)
		if a != AccessOK || &got[0] != &mem[ndk.PageSize+5] {
			t.Fatalf("access %v", a)
		}
		r.Unpin()
		if broken := m.PublishFast(&reg); broken != ndk.RuleStillValid {
			t.Errorf("while it is valid: %v", broken)
		}
		switch i {
		case 0:
			if broken := m.Invalidate(uint32(token)); broken != 0 {
				t.Error(broken)
			}
		case 1:
			if !p.InvalidateRemote(nil, uint32(token)) {
				t.Error("not invalidated by the peer")
			}
			if broken := m.Invalidate(uint32(token)); broken != ndk.RuleInvalidated {
				t.Errorf("behind the peer: %v", broken)
			}
		case 2:
			p.InvalidateLocal(uint32(m.LocalToken()))
		}
		if _, _, _, a := p.Remote(nil, uint32(token), base, 100, RemoteWrite); a != AccessToken {
			t.Errorf("after the end: %v", a)
		}
	}
}

// A window and its region let go of each other whoever ends the binding, also
// when the next Bind comes at the same time.
func TestBindAgainstInvalidate(t *testing.T) {
	d, _ := device(t, testInfo)
	p := domain(t, d)
	mrs := []*MR{normal(t, p, page(t, d, 64), ndk.MRAllowRemoteWrite), normal(t, p, page(t, d, 64), ndk.MRAllowRemoteWrite)}
	x, err := p.CreateMW(ctx)
	must(t, err)
	t.Cleanup(x.Close)
	w := x.(*MW)
	owner := new(int)
	tokens := make(chan uint32)
	done := make(chan struct{})
	go func() { // ends with tokens
		defer close(done)
		for token := range tokens {
			for !p.InvalidateRemote(owner, token) { // before its turn
			}
		}
	}()
	for i := range 2000 {
		m := mrs[i%2]
		reg, bad := w.PrepareBind(m, m.Base()+8, 8, ndk.AllowRemoteWrite)
		if bad != nil {
			t.Fatal(bad)
		}
		for w.Bind(owner, m, &reg) != 0 { // the one before is there still
		}
		tokens <- uint32(reg.Token())
	}
	close(tokens)
	<-done
	for _, m := range mrs {
		if n := m.refs.Load(); n != 1 || m.windows != 0 {
			t.Errorf("%d references and %d windows are left", n, m.windows)
		}
		must(t, m.Deregister(ctx))
	}
}

// What a Bind may not be, and what it keeps from happening.
func TestBindRules(t *testing.T) {
	d, _ := device(t, testInfo)
	p := domain(t, d)
	m := normal(t, p, page(t, d, 1<<17), ndk.MRAllowRemoteRead)
	x, err := p.CreateMW(ctx)
	must(t, err)
	w := x.(*MW)
	for _, tc := range []struct {
		name  string
		va, n uint64
		f     ndk.OpFlags
		want  *ndk.PostError
	}{
		{"before", m.Base() - 1, 8, 0, ndk.ErrWindowRange},
		{"behind", m.Base() + 1<<17 - 7, 8, 0, ndk.ErrWindowRange},
		{"empty", m.Base(), 0, 0, ndk.ErrWindowRange},
		{"MaxWindowSize", m.Base(), 1 << 16, ndk.AllowRemoteRead, nil},
		{"above MaxWindowSize", m.Base(), 1<<16 + 1, ndk.AllowRemoteRead, ndk.ErrWindowRange},
		{"write", m.Base(), 8, ndk.AllowRemoteWrite, ndk.ErrRemoteRight},
	} {
		if _, err := w.PrepareBind(m, tc.va, tc.n, tc.f); err != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	owner := new(int)
	reg, _ := w.PrepareBind(m, m.Base(), 8, ndk.AllowRemoteRead)
	if broken := w.Bind(owner, m, &reg); broken != 0 {
		t.Fatal(broken)
	}
	if broken := w.Bind(owner, m, &reg); broken != ndk.RuleWindowBound {
		t.Errorf("bound twice: %v", broken)
	}
	if _, _, _, a := p.Remote(new(int), uint32(reg.Token()), m.Base(), 8, RemoteRead); a != AccessStream {
		t.Errorf("the peer of another QP: %v", a)
	}
	if err := m.Deregister(ctx); !errors.Is(err, ntstatus.DeviceBusy) {
		t.Errorf("Deregister: %v", err)
	}
	m.Close()
	select {
	case <-m.Closed():
		t.Error("closed with a window bound")
	default:
	}
	if _, err := w.PrepareBind(m, m.Base(), 8, 0); err != ndk.ErrClosed {
		t.Errorf("Bind to a region that is being closed: %v", err)
	}
	w.Close()
	select {
	case <-m.Closed():
	default:
		t.Error("the window is gone and the region is not")
	}
}

// A Bind is for the registration that it was posted for: one of the same memory
// that came in its place may have fewer rights.
func TestBindAfterOtherRegistration(t *testing.T) {
	d, _ := device(t, testInfo)
	p := domain(t, d)
	mem := page(t, d, 64)
	m := normal(t, p, mem, ndk.MRAllowRemoteWrite)
	x, err := p.CreateMW(ctx)
	must(t, err)
	t.Cleanup(x.Close)
	w := x.(*MW)
	reg, bad := w.PrepareBind(m, m.Base(), 8, ndk.AllowRemoteWrite)
	if bad != nil {
		t.Fatal(bad)
	}
	must(t, m.Deregister(ctx))
	must(t, m.Register(ctx, ndk.Memory{mem}, len(mem), ndk.MRAllowRemoteRead))
	if broken := w.Bind(new(int), m, &reg); broken != ndk.RuleInitialized {
		t.Errorf("bound to a registration without the right to write: broken %v, want RuleInitialized", broken)
	}
	must(t, m.Deregister(ctx))
}

// Without resources a create call leaves nothing, and works when there are some.
func TestExhaustion(t *testing.T) {
	d, _ := device(t, testInfo)
	p := domain(t, d)
	for _, tc := range []struct {
		kind   ndk.ObjectKind
		create func() (ndk.Object, error)
	}{
		{ndk.ObjectCQ, func() (ndk.Object, error) { return d.CreateCQ(ctx, ndk.CQConfig{Depth: 1}) }},
		{ndk.ObjectMR, func() (ndk.Object, error) { return p.CreateMR(ctx, true) }},
		{ndk.ObjectMW, func() (ndk.Object, error) { return p.CreateMW(ctx) }},
		{ndk.ObjectSRQ, func() (ndk.Object, error) { return p.CreateSRQ(ctx, ndk.SRQConfig{Depth: 1}) }},
		{ndk.ObjectPD, func() (ndk.Object, error) { p := new(PD); return p, p.Init(d) }},
	} {
		restore := d.Limit(tc.kind, d.Count(tc.kind)+1)
		before := d.Tokens()
		first, err := tc.create()
		must(t, err)
		used := d.Tokens()
		if _, err := tc.create(); !errors.Is(err, ntstatus.InsufficientResources) || d.Tokens() != used {
			t.Errorf("%v: %v, %d tokens more", tc.kind, err, d.Tokens()-used)
		}
		first.Close()
		<-first.Closed()
		again, err := tc.create()
		must(t, err)
		again.Close()
		if d.Tokens() != before {
			t.Errorf("%v: %d tokens are left", tc.kind, d.Tokens()-before)
		}
		restore()
	}
	var few Device
	few.Init(Config{Info: testInfo, MaxTokens: 3})
	q := new(PD)
	must(t, q.Init(&few))
	m, err := q.CreateMR(ctx, false) // two tokens
	must(t, err)
	if _, err := q.CreateMR(ctx, false); !errors.Is(err, ntstatus.InsufficientResources) {
		t.Errorf("no token left: %v", err)
	}
	if _, err := q.CreateMW(ctx); !errors.Is(err, ntstatus.InsufficientResources) {
		t.Errorf("no token left: %v", err)
	}
	m.Close()
	must(t, closed(t, q.CreateMW))
	q.Close()
	few.Close()

	defer d.LimitMappings(0)()
	if _, err := d.BuildLAM(ctx, ndk.Memory{make([]byte, 8)}, 8, new(ndk.LAM)); !errors.Is(err, ntstatus.InsufficientResources) {
		t.Errorf("BuildLAM: %v", err)
	}
}

// closed makes an object and closes it.
func closed[T ndk.Object](t *testing.T, create func(context.Context) (T, error)) error {
	t.Helper()
	o, err := create(ctx)
	if err == nil {
		o.Close()
	}
	return err
}

// The same seed gives the same tokens, and another one others.
func TestSeed(t *testing.T) {
	tokens := func(seed byte) (got [4]uint32) {
		var d Device
		d.Init(Config{Info: testInfo, Env: Env{Seed: &[32]byte{seed}}})
		p := new(PD)
		must(t, p.Init(&d))
		for i := range got {
			m, err := p.CreateMW(ctx)
			must(t, err)
			got[i] = m.(*MW).remote.token
			m.Close()
		}
		p.Close()
		d.Close()
		return got
	}
	first := tokens(1)
	if again := tokens(1); again != first {
		t.Errorf("one seed, two sequences: %x and %x", first, again)
	}
	if first == tokens(2) {
		t.Error("two seeds, one sequence")
	}
}
