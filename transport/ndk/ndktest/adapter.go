package ndktest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"golang.org/x/sys/unix"
)

var _ = row("NDK_FN_QUERY_ADAPTER_INFO", infoVersion, infoLimits, infoFastPages, infoReadSGEs, infoSRQ, infoStable)

// provider is the one that statements on Open talk to.
func (t *T) provider() ndk.Provider {
	t.Helper()
	if t.Provider == nil {
		t.Fatal("the statement is about Provider.Open, and Config.Provider is nil")
	}
	return t.Provider(t)
}

// instance opens one more instance of the adapter at Local; the test closes it.
func (t *T) instance(p ndk.Provider, v ndk.Version) (ndk.Adapter, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := p.Open(ctx, t.Local, v)
	if err != nil {
		return nil, err
	}
	t.Cleanup(a.Close)
	return a, nil
}

// The version has the major that was asked for and the highest minor of it,
// however low the minor that was asked for.
func infoVersion(t *T) {
	p := t.provider()
	known := 0
	for _, asked := range [][]ndk.Version{{{Major: 1}, ndk.Version11, ndk.Version12}, {{Major: 2}, ndk.Version21}} {
		var highest ndk.Version
		for _, v := range asked {
			a, err := t.instance(p, v)
			if err != nil {
				if st := ndk.StatusOf(err); st != ntstatus.NotSupported || highest != (ndk.Version{}) {
					t.Errorf("open %v: %v", v, err)
				}
				continue
			}
			known++
			info, err := a.Info(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			got := info.Version
			if got.Major != v.Major || got.Less(v) {
				t.Errorf("opened with %v, Info says %v; want that major and no lower minor", v, got)
			}
			if highest == (ndk.Version{}) {
				highest = got
			} else if got != highest {
				t.Errorf("opened with %v, Info says %v, and %v when opened with another minor", v, got, highest)
			}
			if a.Version() != got {
				t.Errorf("the adapter is of version %v, Info says %v", a.Version(), got)
			}
		}
		if highest == (ndk.Version{}) {
			continue
		}
		// It is the highest: the next minor is unknown.
		highest.Minor++
		if _, err := t.instance(p, highest); ndk.StatusOf(err) != ntstatus.NotSupported {
			t.Errorf("open %v: %v, want NotSupported above the highest minor", highest, err)
		}
	}
	if known == 0 {
		t.Error("no version can be opened")
	}
}

// lean is the smallest QP, so that a limit is met by the one value that a test
// puts there.
func (s *Side) lean() ndk.QPConfig {
	return ndk.QPConfig{ReceiveCQ: s.RCQ, InitiatorCQ: s.ICQ, QPContext: s,
		ReceiveQueueDepth: 1, InitiatorQueueDepth: 1, MaxReceiveSGE: 1, MaxInitiatorSGE: 1}
}

// A limit of QPConfig with the value of Info for it.
var qpLimits = []struct {
	name   string
	limit  func(i *ndk.AdapterInfo) int
	change func(q *ndk.QPConfig, n int)
	shared bool // of a QP with an SRQ too
}{
	{"ReceiveQueueDepth", func(i *ndk.AdapterInfo) int { return i.MaxReceiveQueueDepth }, func(q *ndk.QPConfig, n int) { q.ReceiveQueueDepth = n }, false},
	{"InitiatorQueueDepth", func(i *ndk.AdapterInfo) int { return i.MaxInitiatorQueueDepth }, func(q *ndk.QPConfig, n int) { q.InitiatorQueueDepth = n }, true},
	{"MaxReceiveSGE", func(i *ndk.AdapterInfo) int { return i.MaxReceiveRequestSGE }, func(q *ndk.QPConfig, n int) { q.MaxReceiveSGE = n }, false},
	{"MaxInitiatorSGE", func(i *ndk.AdapterInfo) int { return i.MaxInitiatorRequestSGE }, func(q *ndk.QPConfig, n int) { q.MaxInitiatorSGE = n }, true},
	{"InlineDataSize", func(i *ndk.AdapterInfo) int { return i.MaxInlineDataSize }, func(q *ndk.QPConfig, n int) { q.InlineDataSize = n }, true},
}

// Every limit that is enforced is the one that Info reports: the limit itself
// is accepted, one more is not.
func infoLimits(t *T) {
	// At create time.
	for _, tc := range qpLimits {
		t.Sub("create QP, "+tc.name, func(t *T) {
			s, _ := t.Pair()
			s.limit(tc.limit(&s.Info), ntstatus.InvalidParameter, func(n int) error {
				q := s.lean()
				tc.change(&q, n)
				qp, err := s.PD.CreateQP(s.ctx, q)
				if err == nil {
					qp.Close()
				}
				return err
			})
		})
	}
	t.Sub("create CQ", func(t *T) {
		s, _ := t.Pair()
		s.limit(s.Info.MaxCQDepth, ntstatus.InvalidParameter, func(n int) error {
			cq, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: n})
			if err == nil {
				cq.Close()
			}
			return err
		})
	})
	t.Sub("create SRQ", func(t *T) {
		s, _ := t.Pair()
		if s.Info.MaxSRQDepth == 0 {
			return // see statement 5
		}
		s.limit(s.Info.MaxSRQDepth, ntstatus.InvalidParameter, func(n int) error {
			q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: n, MaxReceiveSGE: 1})
			if err == nil {
				q.Close()
			}
			return err
		})
		s.limit(s.Info.MaxReceiveRequestSGE, ntstatus.InvalidParameter, func(n int) error {
			q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 1, MaxReceiveSGE: n})
			if err == nil {
				q.Close()
			}
			return err
		})
	})
	t.Sub("pages of a fast-register MR", func(t *T) {
		s, _ := t.Pair()
		m, err := s.PD.CreateMR(s.ctx, true)
		s.must(err)
		s.want(m.InitializeFastRegister(s.ctx, s.Info.FRMRPageCount+1, true), ntstatus.ImplementationLimit, "one page too many")
		s.want(m.InitializeFastRegister(s.ctx, s.Info.FRMRPageCount, true), ntstatus.Success, "as many pages as there may be")
		m.Close()
	})
	t.Sub("registration", infoRegistration)
	t.Sub("window", infoWindow)
	// At post time.
	t.Sub("SGEs and depths of a QP", infoPosts)
	t.Sub("transfer length", infoTransfer)
	t.Sub("inline data", infoInline)
	// At connect time: read limits are lowered, private data is refused.
	t.Sub("read limits", infoReadLimits)
	t.Sub("private data", infoPrivateData)
}

// limit checks that try accepts the limit, and refuses one more with st.
func (s *Side) limit(limit int, st ndk.Status, try func(n int) error) {
	s.t.Helper()
	s.want(try(limit), ntstatus.Success, fmt.Sprintf("%d, which is the limit", limit))
	s.want(try(limit+1), st, fmt.Sprintf("%d, above the limit of %d", limit+1, limit))
}

// reserve returns n bytes of address space that nobody touches; nil if the
// machine has no room for it.
func (t *T) reserve(n uint64) []byte {
	if n > 1<<46 {
		return nil
	}
	m, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	t.Cleanup(func() { _ = unix.Munmap(m) }) // only address space
	return m
}

// resident is what a provider that pins memory is asked to pin at most.
const resident = 64 << 20

func infoRegistration(t *T) {
	s, _ := t.Pair()
	limit := s.Info.MaxRegistrationSize
	mem := t.reserve(limit + 1)
	if limit+1 == 0 || mem == nil {
		t.Logf("no memory of more than MaxRegistrationSize, %d, can exist here", limit)
		return
	}
	m, err := s.PD.CreateMR(s.ctx, false)
	s.must(err)
	s.want(m.Register(s.ctx, ndk.Memory{mem}, int(limit)+1, 0), ntstatus.InvalidParameter, "a byte more than MaxRegistrationSize")
	if t.Unpinned || limit <= resident {
		s.want(m.Register(s.ctx, ndk.Memory{mem}, int(limit), 0), ntstatus.Success, "MaxRegistrationSize")
		s.must(m.Deregister(s.ctx))
	}
	s.must(ndk.CloseWait(s.ctx, m))
}

func infoWindow(t *T) {
	s, p := t.Pair()
	limit := s.Info.MaxWindowSize
	if limit == 0 || limit >= s.Info.MaxRegistrationSize || !t.Unpinned && limit >= resident {
		return // there are none, or a window is bounded by its region, or by memory
	}
	mem := t.reserve(limit + 1)
	if mem == nil {
		return
	}
	connect(s, p, limits, limits)
	m, err := s.PD.CreateMR(s.ctx, false)
	s.must(err)
	s.must(m.Register(s.ctx, ndk.Memory{mem}, int(limit)+1, ndk.MRAllowRemoteRead))
	w, err := s.PD.CreateMW(s.ctx)
	s.must(err)
	s.want(s.QP.Bind("b", m, w, m.Base(), limit+1, ndk.AllowRemoteRead), ntstatus.InvalidParameter, "a byte more than MaxWindowSize")
	s.must(s.QP.Bind("b", m, w, m.Base(), limit, ndk.AllowRemoteRead))
	s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
	w.Close()
	s.must(ndk.CloseWait(s.ctx, w))
	s.must(ndk.CloseWait(s.ctx, m))
}

func infoPosts(t *T) {
	s, p := t.Pair()
	s.replaceQP(func(q *ndk.QPConfig) {
		q.MaxInitiatorSGE, q.InitiatorQueueDepth = s.Info.MaxInitiatorRequestSGE, 3
	})
	p.replaceQP(func(q *ndk.QPConfig) { q.MaxReceiveSGE, q.ReceiveQueueDepth = p.Info.MaxReceiveRequestSGE, 4 })
	connect(s, p, limits, limits)
	bytes := min(s.Info.MaxInitiatorRequestSGE, p.Info.MaxReceiveRequestSGE) // of the message
	sges := func(s *Side, n int) []ndk.SGE {
		sgl := make([]ndk.SGE, n)
		for i := range sgl {
			sgl[i] = s.SGE(i, 0)
			if i < bytes {
				sgl[i] = s.SGE(i, 1)
			}
		}
		return sgl
	}
	p.limit(p.Info.MaxReceiveRequestSGE, ntstatus.DataOverrun, func(n int) error { return p.QP.Receive("r", sges(p, n)) })
	s.limit(s.Info.MaxInitiatorRequestSGE, ntstatus.DataOverrun, func(n int) error { return s.QP.Send("s", sges(s, n), 0) })
	s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
	r := p.Received()
	p.expect(r, "r", ntstatus.Success, ndk.OpReceive)
	if r.Bytes != uint32(bytes) {
		t.Errorf("%d bytes arrived, want %d", r.Bytes, bytes)
	}
	for range 4 {
		p.must(p.QP.Receive("r", nil))
	}
	p.want(p.QP.Receive("r", nil), ntstatus.NoMoreEntries, "a receive more than the depth")
	for range 3 {
		s.must(s.QP.Send("s", nil, ndk.Defer))
	}
	// What is complete has left the queue, so one more is refused unless a
	// completion is there already; refused, it hands on what was deferred.
	sent := 3
	var first [1]ndk.ResultEx
	if err := s.QP.Send("s", nil, 0); err != nil {
		s.want(err, ntstatus.NoMoreEntries, "a send more than the depth")
	} else if sent = 4; s.ICQ.PollEx(first[:]) == 0 {
		t.Error("a send more than the depth was taken, with none of the others complete")
	}
	for i := range sent {
		if i > 0 || sent == 3 {
			first[0] = s.Done()
		}
		s.expect(first[0], "s", ntstatus.Success, ndk.OpSend)
		p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
	}
}

// A post of exactly MaxTransferLength gets past the check of its length; that
// it names more than is registered shows later, in its completion.
func infoTransfer(t *T) {
	s, p := t.Connected()
	limit := s.Info.MaxTransferLength
	const most = 1<<32 - 1 // of one SGE
	sges := func(n uint64) (sgl []ndk.SGE) {
		for ; n > 0 && len(sgl) <= s.QPConfig().MaxInitiatorSGE; n -= min(n, most) {
			sgl = append(sgl, ndk.SGE{Addr: s.MR.Base(), Length: uint32(min(n, most)), Token: s.MR.LocalToken()})
		}
		return sgl
	}
	if limit+1 != 0 && len(sges(limit+1)) <= s.QPConfig().MaxInitiatorSGE {
		s.want(s.QP.Send("s", sges(limit+1), 0), ntstatus.BufferOverflow, "a byte more than MaxTransferLength")
		s.want(s.QP.Write("w", sges(limit+1), p.MR.Base(), p.MR.RemoteToken(), 0), ntstatus.BufferOverflow, "a byte more than MaxTransferLength")
	}
	if n := len(sges(limit)); n > s.QPConfig().MaxInitiatorSGE {
		return // longer than a request of this QP can say
	}
	if limit <= memSize {
		s.must(s.QP.Write("w", sges(limit), p.MR.Base(), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
		return
	}
	s.want(s.QP.Write("w", sges(limit), p.MR.Base(), p.MR.RemoteToken(), 0), ntstatus.Success, "MaxTransferLength")
	s.expect(s.Done(), "w", ntstatus.AccessViolation, ndk.OpWrite)
}

func infoInline(t *T) {
	s, p := t.Pair()
	limit := s.Info.MaxInlineDataSize
	s.replaceQP(func(q *ndk.QPConfig) { q.InlineDataSize = limit })
	connect(s, p, limits, limits)
	data := make([]byte, limit+1)
	p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, limit)}))
	s.limit(limit, ntstatus.BufferOverflow, func(n int) error { return s.QP.Send("s", []ndk.SGE{{Inline: data[:n]}}, ndk.Inline) })
	s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
	if r := p.Received(); r.Bytes != uint32(limit) {
		t.Errorf("%d bytes arrived inline, want %d", r.Bytes, limit)
	}
}

func infoReadLimits(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	much := ndk.ConnParams{InboundReadLimit: 1 << 20, OutboundReadLimit: 1 << 20}
	var err error
	s.C, err = s.A.CreateConnector(s.ctx)
	s.must(err)
	res := make(chan error, 1)
	go func() { res <- s.C.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, much) }() // ends with Connect
	if p.C = p.take(got); p.C == nil {
		t.Fatal("no connect event")
	}
	in, out := min(s.Info.MaxInboundReadLimit, p.Info.MaxOutboundReadLimit), min(s.Info.MaxOutboundReadLimit, p.Info.MaxInboundReadLimit)
	d, err := p.C.ConnectionData(nil)
	p.must(err)
	if d.InboundReadLimit != out || d.OutboundReadLimit != in {
		t.Errorf("passive side: limits %d in, %d out; want %d and %d", d.InboundReadLimit, d.OutboundReadLimit, out, in)
	}
	acc := make(chan error, 1)
	go func() { acc <- p.C.Accept(p.ctx, p.QP, much, nil) }() // ends with Accept
	s.must(<-res)
	d, err = s.C.ConnectionData(nil)
	s.must(err)
	if d.InboundReadLimit != in || d.OutboundReadLimit != out {
		t.Errorf("active side: limits %d in, %d out; want %d and %d", d.InboundReadLimit, d.OutboundReadLimit, in, out)
	}
	s.must(s.C.CompleteConnect(s.ctx, nil))
	p.must(<-acc)
}

func infoPrivateData(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	k, err := s.A.CreateConnector(s.ctx)
	s.must(err)
	s.want(k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, ndk.ConnParams{Private: make([]byte, s.Info.MaxCallerData+1)}),
		ntstatus.InvalidBufferSize, "a byte more than MaxCallerData")
	k.Close()
	k, err = s.A.CreateConnector(s.ctx)
	s.must(err)
	defer k.Close()
	res := make(chan error, 1)
	go func() { // ends with Connect
		res <- k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, ndk.ConnParams{Private: make([]byte, s.Info.MaxCallerData)})
	}()
	r := p.take(got)
	if r == nil {
		t.Fatal("no connect event for a request with MaxCallerData bytes")
	}
	defer r.Close()
	p.want(r.Accept(p.ctx, p.QP, ndk.ConnParams{Private: make([]byte, p.Info.MaxCalleeData+1)}, nil), ntstatus.InvalidBufferSize, "a byte more than MaxCalleeData")
	p.want(r.Reject(make([]byte, p.Info.MaxCalleeData+1)), ntstatus.InvalidBufferSize, "a byte more than MaxCalleeData")
	p.want(r.Reject(make([]byte, p.Info.MaxCalleeData)), ntstatus.Success, "MaxCalleeData")
	s.want(<-res, ntstatus.ConnectionRefused, "Connect")
}

// A provider with fast registration takes at least 16 pages.
func infoFastPages(t *T) {
	s, _ := t.Pair()
	n := s.Info.FRMRPageCount
	if n == 0 {
		_, err := s.PD.CreateMR(s.ctx, true)
		s.want(err, ntstatus.NotSupported, "CreateMR for fast registration")
		t.NotOffered("fast registration: FRMRPageCount is 0")
	}
	if n < 16 {
		t.Errorf("FRMRPageCount %d, want at least 16", n)
	}
	m, err := s.PD.CreateMR(s.ctx, true)
	s.must(err)
	s.want(m.InitializeFastRegister(s.ctx, 16, true), ntstatus.Success, "16 pages")
	m.Close()
}

// MaxReadRequestSGE, and not MaxInitiatorRequestSGE, bounds the SGEs of a Read.
func infoReadSGEs(t *T) {
	s, p := t.Pair()
	reads := s.Info.MaxReadRequestSGE
	s.replaceQP(func(q *ndk.QPConfig) { q.MaxInitiatorSGE = s.Info.MaxInitiatorRequestSGE })
	connect(s, p, limits, limits)
	p.Fill(0, 1000, 3)
	sgl := make([]ndk.SGE, max(reads, s.Info.MaxInitiatorRequestSGE)+1)
	for i := range sgl {
		sgl[i] = s.SGE(i, 1)
	}
	s.want(s.QP.Read("r", sgl[:reads+1], p.MR.Base(), p.MR.RemoteToken(), 0), ntstatus.DataOverrun, "an SGE more than MaxReadRequestSGE")
	s.must(s.QP.Read("r", sgl[:reads], p.MR.Base(), p.MR.RemoteToken(), 0))
	s.expect(s.Done(), "r", ntstatus.Success, ndk.OpRead)
	s.equal(0, reads, p, 0)
	if n := s.Info.MaxInitiatorRequestSGE; n > reads {
		s.must(s.QP.Write("w", sgl[:n], p.MR.Base(), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "w", ntstatus.Success, ndk.OpWrite)
	}
}

// Without shared receive queues, which MaxSRQDepth 0 says, both calls that make
// use of them are not supported; with a depth both work.
func infoSRQ(t *T) {
	s, _ := t.Pair()
	q, err := s.PD.CreateSRQ(s.ctx, ndk.SRQConfig{Depth: 1, MaxReceiveSGE: 1})
	if s.Info.MaxSRQDepth == 0 {
		s.want(err, ntstatus.NotSupported, "CreateSRQ")
		_, err = s.PD.CreateQPWithSRQ(s.ctx, s.QPConfig(), nil)
		s.want(err, ntstatus.NotSupported, "CreateQPWithSRQ")
		return
	}
	s.must(err)
	qp, err := s.PD.CreateQPWithSRQ(s.ctx, s.QPConfig(), q)
	s.must(err)
	qp.Close()
	q.Close()
}

// Info is the same whenever and from wherever it is asked.
func infoStable(t *T) {
	s, _ := t.Connected()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			again, err := s.A.Info(s.ctx)
			if err != nil || again != s.Info {
				t.Errorf("two calls differ: %+v and %+v, %v", s.Info, again, err)
			}
		})
	}
	wg.Wait()
}

var _ = row("NDK_FN_CREATE_CQ", createCQDepth, createCQZero, createCQUnarmed, createCQExhausted, createCQAffinity, createCQShared)

// MaxCQDepth is accepted and more is not.
func createCQDepth(t *T) {
	s, _ := t.Pair()
	for _, tc := range []struct {
		depth int
		want  ndk.Status
	}{
		{1, ntstatus.Success}, {s.Info.MaxCQDepth, ntstatus.Success},
		{s.Info.MaxCQDepth + 1, ntstatus.InvalidParameter}, {1<<31 - 1, ntstatus.InvalidParameter}, {1<<63 - 1, ntstatus.InvalidParameter},
	} {
		s.createCQ(tc.depth, tc.want)
	}
}

func (s *Side) createCQ(depth int, want ndk.Status) {
	s.t.Helper()
	q, err := s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: depth})
	s.want(err, want, fmt.Sprintf("CreateCQ with depth %d", depth))
	if err == nil {
		s.must(ndk.CloseWait(s.ctx, q))
	}
}

// A CQ has room for something.
func createCQZero(t *T) {
	s, _ := t.Pair()
	s.createCQ(0, ntstatus.InvalidParameter)
	s.createCQ(-1, ntstatus.InvalidParameter)
	s.createCQ(-1<<63, ntstatus.InvalidParameter)
}

// A CQ that was never armed does not notify, whatever is queued.
func createCQUnarmed(t *T) {
	w := t.watch(16, nil)
	w.messages(3, ndk.SendAndSolicitEvent)
	if n := w.n.Load(); n != 0 {
		t.Errorf("%d notifications of a CQ that was never armed", n)
	}
	w.cq.Arm(ndk.ArmAny)
	w.wait()
	w.drain(3)
	if n := w.total(); n != 1 {
		t.Errorf("%d notifications in all, want the one that was armed", n)
	}
}

// exhausted checks that a create call without resources gives
// InsufficientResources and no object, and works again when there are some.
func (s *Side) exhausted(function string, create func() (ndk.Object, error)) {
	s.t.Helper()
	try := func(what string) (failed bool) {
		s.t.Helper()
		o, err := create()
		if err == nil {
			if o == nil {
				s.t.Fatalf("%s: neither object nor error", what)
			}
			s.close = append(s.close, o.Close)
			return false
		}
		if o != nil {
			s.t.Errorf("%s: an object beside the error %v", what, err)
		}
		s.want(err, ntstatus.InsufficientResources, what)
		return true
	}
	if s.t.Exhaust != nil {
		if restore := s.t.Exhaust(s.t, s.A, function); restore != nil {
			for range 3 {
				if !try("without resources") {
					s.t.Error("an object out of nothing")
				}
			}
			restore()
			if try("with resources again") {
				s.t.Error("what was refused keeps something")
			}
			return
		}
	}
	// A small adapter may come to its end.
	const many = 64
	for range many {
		if try("one of many") {
			return
		}
	}
	s.t.NotOffered("running out: %d objects at once do not exhaust it, and a test can take nothing else away", many)
}

func createCQExhausted(t *T) {
	s, _ := t.Pair()
	s.exhausted("NDK_FN_CREATE_CQ", func() (ndk.Object, error) { return s.A.CreateCQ(s.ctx, ndk.CQConfig{Depth: 16}) })
}

// Affinity is a preference: whatever stands there, the CQ is made and notifies.
func createCQAffinity(t *T) {
	for _, cpus := range [][]int{nil, {}, {0}, {0, 1, 2, 3}, {1 << 20}, {-1}} {
		t.Sub(fmt.Sprint(cpus), func(t *T) {
			s, p := t.Pair()
			cq, err := p.A.CreateCQ(p.ctx, ndk.CQConfig{Depth: 4, Notify: p.rev.Notify, Affinity: cpus})
			p.must(err)
			p.RCQ.Close()
			p.RCQ = cq
			p.replaceQP(func(q *ndk.QPConfig) { q.ReceiveCQ = cq })
			connect(s, p, limits, limits)
			p.must(p.QP.Receive("r", nil))
			cq.Arm(ndk.ArmAny)
			s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
			select {
			case <-p.rev.C():
			case <-p.ctx.Done():
				t.Fatal("no notification")
			}
			p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
		})
	}
}

// One CQ serves both sides of many QPs.
func createCQShared(t *T) {
	s, p := t.Pair()
	const pairs = 4
	_, addr, got := p.listen()
	one := func(q *ndk.QPConfig) { q.InitiatorCQ = q.ReceiveCQ }
	s.replaceQP(one)
	p.replaceQP(one)
	ss, ps := []*Side{s}, []*Side{p}
	for range pairs - 1 {
		ss, ps = append(ss, s.sibling(one)), append(ps, p.sibling(one))
	}
	type key struct {
		qp any
		rc any
	}
	want := make(map[key]ndk.OpType)
	for i := range pairs {
		connectTo(ss[i], ps[i], addr, got)
		p.must(ps[i].QP.Receive(i, nil))
		s.must(ss[i].QP.Send(i, nil, 0))
		want[key{ss[i], i}], want[key{ps[i], i}] = ndk.OpSend, ndk.OpReceive
	}
	for range pairs {
		for _, o := range []*Side{s, p} {
			r := o.next(o.RCQ, o.rev)
			k := key{r.QPContext, r.RequestContext}
			if typ, ok := want[k]; !ok || r.Type != typ || r.Status != ntstatus.Success {
				t.Errorf("a completion of %v: %v, %v", r.RequestContext, r.Type, r.Status)
			}
			delete(want, k)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d requests without a completion", len(want))
	}
}

// next returns the next completion of a CQ that several QPs share.
func (s *Side) next(cq ndk.CQ, ev *ndk.Event) ndk.ResultEx {
	s.t.Helper()
	var r [1]ndk.ResultEx
	for cq.PollEx(r[:]) == 0 {
		cq.Arm(ndk.ArmAny)
		select {
		case <-ev.C():
		case <-s.ctx.Done():
			s.t.Fatal("no completion")
		}
	}
	return r[0]
}

var _ = row("NDK_FN_CREATE_PD", createPDOutcome, createPDForeignMR, createPDForeignToken, createPDExhausted)

// A PD that was made can be used; one that was not is an error and nothing else.
func createPDOutcome(t *T) {
	s, _ := t.Pair()
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	for _, ctx := range []context.Context{s.ctx, cancelled} {
		pd, err := s.A.CreatePD(ctx)
		if (pd == nil) == (err == nil) {
			t.Fatalf("CreatePD: %v, %v; want one of them", pd, err)
		}
		if err != nil {
			if ctx == s.ctx {
				t.Error(err)
			}
			s.want(err, ntstatus.Cancelled, "CreatePD with a context that has ended")
			continue
		}
		m, err := pd.CreateMR(s.ctx, false)
		s.must(err)
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:16]}, 16, 0))
		qp, err := pd.CreateQP(s.ctx, s.QPConfig())
		s.must(err)
		for _, o := range []ndk.Object{qp, m, pd} {
			s.must(ndk.CloseWait(s.ctx, o))
		}
	}
}

// stranger makes an MR over the first bytes of the buffer of s in a PD of its
// own.
func (s *Side) stranger(n int, f ndk.MRFlags) ndk.MR {
	s.t.Helper()
	pd, err := s.A.CreatePD(s.ctx)
	s.must(err)
	m, err := pd.CreateMR(s.ctx, false)
	s.must(err)
	s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:n]}, n, f))
	s.close = append(s.close, pd.Close, m.Close)
	return m
}

// An MR of another PD in an SGE fails the request.
func createPDForeignMR(t *T) {
	t.Sub("Send", func(t *T) {
		s, _ := t.Connected()
		m := s.stranger(64, ndk.MRAllowLocalWrite)
		s.must(s.QP.Send("s", []ndk.SGE{{Addr: m.Base(), Length: 8, Token: m.LocalToken()}}, 0))
		s.expect(s.Done(), "s", ntstatus.AccessViolation, ndk.OpSend)
	})
	t.Sub("Write", func(t *T) {
		s, p := t.Connected()
		m := s.stranger(64, ndk.MRAllowLocalWrite)
		s.must(s.QP.Write("w", []ndk.SGE{{Addr: m.Base(), Length: 8, Token: m.LocalToken()}}, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "w", ntstatus.AccessViolation, ndk.OpWrite)
	})
	t.Sub("Read", func(t *T) {
		s, p := t.Connected()
		m := s.stranger(64, ndk.MRAllowLocalWrite|ndk.MRRDMAReadSink)
		s.must(s.QP.Read("r", []ndk.SGE{{Addr: m.Base(), Length: 8, Token: m.LocalToken()}}, p.MR.Base(), p.MR.RemoteToken(), 0))
		s.expect(s.Done(), "r", ntstatus.AccessViolation, ndk.OpRead)
	})
	t.Sub("Receive", func(t *T) {
		s, p := t.Connected()
		m := p.stranger(64, ndk.MRAllowLocalWrite)
		p.must(p.QP.Receive("r", []ndk.SGE{{Addr: m.Base(), Length: 8, Token: m.LocalToken()}}))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 8)}, ndk.SilentSuccess))
		p.expect(p.Received(), "r", ntstatus.AccessViolation, ndk.OpReceive)
	})
}

// A remote token means nothing on a QP of another PD, and ends its connection.
func createPDForeignToken(t *T) {
	for name, post := range map[string]func(s *Side, m ndk.MR) error{
		"Write": func(s *Side, m ndk.MR) error {
			return s.QP.Write("x", []ndk.SGE{s.SGE(0, 8)}, m.Base(), m.RemoteToken(), 0)
		},
		"Read": func(s *Side, m ndk.MR) error {
			return s.QP.Read("x", []ndk.SGE{s.SGE(0, 8)}, m.Base(), m.RemoteToken(), 0)
		},
	} {
		t.Sub(name, func(t *T) {
			s, p := t.Connected()
			m := p.stranger(64, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite)
			s.Fill(0, 8, 1)
			p.Fill(0, 8, 2)
			mine, theirs := append([]byte(nil), s.Mem[:8]...), append([]byte(nil), p.Mem[:8]...)
			s.must(post(s, m))
			p.lost()
			s.lost()
			if string(p.Mem[:8]) != string(theirs) || string(s.Mem[:8]) != string(mine) {
				t.Error("data went through")
			}
		})
	}
}

func createPDExhausted(t *T) {
	s, _ := t.Pair()
	s.exhausted("NDK_FN_CREATE_PD", func() (ndk.Object, error) { return s.A.CreatePD(s.ctx) })
}
