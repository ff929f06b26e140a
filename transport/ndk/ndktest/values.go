package ndktest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var _ = row("NDK_OBJECT_HEADER", headerVersion, headerKind, headerStable)

// Every object has the version of its adapter instance.
func headerVersion(t *T) {
	_, _, all := t.specimens()
	for _, o := range all {
		if v := o.Version(); v != o.side.Info.Version {
			t.Errorf("%v has version %v, want %v", o.kind, v, o.side.Info.Version)
		}
	}
	if t.Provider == nil {
		return
	}
	p := t.provider()
	for _, low := range []ndk.Version{ndk.Version11, {Major: 2}} {
		a, err := t.instance(p, low)
		if err != nil {
			continue // see NDK_ADAPTER/2
		}
		s := newSide(t, a)
		for _, o := range []ndk.Object{s.A, s.PD, s.RCQ, s.QP, s.MR} {
			if v := o.Version(); v != s.Info.Version || v.Major != low.Major {
				t.Errorf("opened with %v: %v has version %v, Info %v", low, o.Kind(), v, s.Info.Version)
			}
		}
	}
}

// No object is of no kind.
func headerKind(t *T) {
	_, _, all := t.specimens()
	for _, o := range all {
		if k := o.Kind(); k <= ndk.ObjectUndefined || k >= ndk.ObjectMax || k != o.kind {
			t.Errorf("a %v is of kind %d", o.kind, k)
		}
	}
}

// Kind and version stay what they are, whatever happens to the object.
func headerStable(t *T) {
	s, p, all := t.specimens()
	versions := make([]ndk.Version, len(all))
	for i, o := range all {
		versions[i] = o.Version()
	}
	same := func(when string) {
		t.Helper()
		for i, o := range all {
			if o.Kind() != o.kind || o.Version() != versions[i] {
				t.Errorf("%s: %v has kind %v and version %v, it had %v", when, o.kind, o.Kind(), o.Version(), versions[i])
			}
		}
	}
	s.exchange(p)
	same("in use")
	s.must(s.C.Disconnect(s.ctx))
	p.lost()
	same("disconnected")
	closeAll(all)
	same("closing")
	s.closeRest()
	p.closeRest()
	for _, o := range all {
		if o.kind != ndk.ObjectAdapter {
			s.ends(o, "Close of "+o.kind.String())
		}
	}
	same("closed")
}

var _ = row("NDK_OBJECT_HEADER_RESERVED_BLOCK", reservedUntouched, reservedLayer)

// mark is a consumer's bookkeeping: what it points to is nobody else's.
type mark struct {
	n    int
	data []byte
	next *mark
}

func newMark(n int) *mark {
	return &mark{n, []byte(strconv.Itoa(n)), &mark{n: -n}}
}

func (m *mark) whole(n int) bool {
	return m.n == n && string(m.data) == strconv.Itoa(n) && m.next.n == -n && m.next.next == nil
}

// What the consumer hangs on its objects and requests comes back as it was, and
// is not looked at: it need not even be comparable.
func reservedUntouched(t *T) {
	s, p := t.Pair()
	ctx := newMark(1)
	s.replaceQP(func(q *ndk.QPConfig) { q.QPContext = ctx })
	_, addr, got := p.listen()
	connectTo(s, p, addr, got)
	s.exchange(p)
	posts := make([]*mark, qDepth-1) // the silent Send of the exchange may have its slot still
	for i := range posts {
		posts[i] = newMark(i + 10)
		p.must(p.QP.Receive("r", nil))
		s.must(s.QP.Send([]*mark{posts[i]}, nil, 0)) // a slice: no == for it
	}
	for i := range posts {
		r := s.next(s.ICQ, s.iev)
		m, ok := r.RequestContext.([]*mark)
		if !ok || len(m) != 1 || m[0] != posts[i] || r.QPContext != any(ctx) {
			t.Fatalf("request %d comes back with %v", i, r.RequestContext)
		}
		p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
	}
	s.C.Close()
	s.closed(s.QP)
	for i, m := range posts {
		if !m.whole(i + 10) {
			t.Errorf("the bookkeeping of request %d was changed: %+v", i, m)
		}
	}
	if !ctx.whole(1) {
		t.Errorf("the bookkeeping of the QP was changed: %+v", ctx)
	}
}

// A layer between consumer and provider keeps its state in its wrappers of the
// objects; it is the same at the close as it was at the create.
func reservedLayer(t *T) {
	s, p := t.Pair()
	type block struct{ a, b, c, d *mark } // four pointers
	newBlock := func(n int) block { return block{newMark(n), newMark(n + 1), newMark(n + 2), newMark(n + 3)} }
	cq := &struct {
		hollowCQ
		block
	}{hollowCQ{real: s.ICQ}, newBlock(100)}
	mr := &struct {
		hollowMR
		block
	}{hollowMR{}, newBlock(200)}
	qp := &struct {
		hollowQP
		block
	}{hollowQP{}, newBlock(300)}
	s.sound(func() { s.replaceQP(func(q *ndk.QPConfig) { q.InitiatorCQ = cq }) })
	qp.real = s.QP
	m, lam, fbo := s.fast(0, 4096)
	mr.real = m
	_, addr, got := p.listen()
	s.C = s.connector()
	res := guarded(func() error { return s.C.Connect(s.ctx, qp, direct.src, addr, limits) })
	if p.C = p.take(got); p.C == nil {
		t.Fatal("no connect event")
	}
	acc := plainForms.answer(p, limits)
	s.must(s.result(res))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	p.must(p.result(acc))
	for range 8 {
		s.exchange(p)
		s.sound(func() {
			s.must(s.QP.FastRegister("f", mr, lam.Pages, fbo, 4096, s.MR.Base(), ndk.AllowRemoteRead))
			s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
			s.must(s.QP.Invalidate("i", mr, 0))
			s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
		})
	}
	s.closed(s.C)
	s.closed(s.QP)
	s.closed(m)
	s.closed(s.ICQ)
	for n, b := range map[int]block{100: cq.block, 200: mr.block, 300: qp.block} {
		for i, m := range []*mark{b.a, b.b, b.c, b.d} {
			if !m.whole(n + i) {
				t.Errorf("pointer %d of block %d was changed: %+v", i, n, m)
			}
		}
	}
	if cq.real != s.ICQ || qp.real != s.QP || mr.real != m {
		t.Error("a wrapper stands before another object")
	}
}

var _ = row("NDK_EXTENSION_INTERFACE", extensionNone, extensionFilled)

// The header defines no extension. Those that a provider has are the ones that
// this API documents, each on one kind of object.
func extensionNone(t *T) {
	s, _, all := t.specimens()
	known := make(map[ndk.GUID]bool)
	for _, id := range extensions {
		known[id] = true
	}
	if len(known) != len(extensions) {
		t.Error("two extensions of one name")
	}
	for _, o := range all {
		for id := range known {
			// The names of its kin, with one bit changed, name nothing.
			for bit := range 128 {
				other := id
				other[bit/8] ^= 1 << (bit % 8)
				if !known[other] {
					o.noExtension(other, ndk.Version{})
				}
			}
			if o.kind != extended(id) {
				o.noExtension(id, ndk.Version{})
			}
		}
	}
	// Those that are offered are what they are documented to be.
	if x, err := s.QP.Extension(ndk.FileWriterExtension, ndk.Version{Major: 1}); err == nil {
		if _, ok := x.(ndk.FileWriter); !ok {
			t.Errorf("the file writer is a %T", x)
		}
	}
	if x, err := s.QP.Extension(ndk.CopyCounterExtension, ndk.Version{Major: 1}); err == nil {
		if _, ok := x.(ndk.CopyCounter); !ok {
			t.Errorf("the copy counter is a %T", x)
		}
	}
	if x, err := s.QP.Extension(ndk.HangupExtension, ndk.Version{Major: 1}); err == nil {
		if h, ok := x.(ndk.Hangup); !ok {
			t.Errorf("the hangup is a %T", x)
		} else if h.HungUp() {
			t.Errorf("a connection that is up has hung up")
		}
	}
	for _, o := range all {
		if x, err := o.Extension(ndk.PipeExtension, ndk.Version{Major: 1}); err == nil {
			if _, ok := x.(ndk.Piper); !ok {
				t.Errorf("the piper is a %T", x)
			}
		}
	}
}

// The interface is there on success and nil otherwise, for every name and
// version.
func extensionFilled(t *T) {
	_, _, all := t.specimens()
	ids := slices.AppendSeq([]ndk.GUID{{}, {15: 1}}, maps.Values(extensions))
	for _, o := range all {
		for _, id := range ids {
			for _, v := range []ndk.Version{{}, {Major: 0, Minor: 9}, {Major: 1}, {Major: 1, Minor: 1}, {Major: 2, Minor: 1}, {Major: 0xFFFF, Minor: 0xFFFF}} {
				x, err := o.Extension(id, v)
				if (x == nil) == (err == nil) {
					t.Errorf("Extension(%x, %v) of %v: %v, %v; want one of them", id, v, o.kind, x, err)
				}
				if err != nil {
					o.side.want(err, ntstatus.NotSupported, "Extension")
				}
			}
		}
	}
}

var _ = row("NDK_RESULT", resultStatus, resultBytes, resultContexts, resultFailed)

// outcomes makes requests succeed, be flushed and fail on connections of their
// own, and hands each completion to check with the request and the status that
// it is due. fresh makes the context of a request.
func (t *T) outcomes(fresh func() any, check func(s *Side, r ndk.ResultEx, rc any, typ ndk.OpType, want ...ndk.Status)) {
	t.Sub("success", func(t *T) {
		s, p := t.Connected()
		for _, post := range s.oneOfEach(p) {
			check(s, s.Done(), post.rc, post.typ, ntstatus.Success)
		}
		rc := fresh()
		s.must(s.QP.Receive(rc, nil))
		p.must(p.QP.Send("s", nil, ndk.SilentSuccess))
		check(s, s.Received(), rc, ndk.OpReceive, ntstatus.Success)
	})
	t.Sub("flushed", func(t *T) {
		s, p := t.Connected()
		receives := []any{fresh(), fresh(), fresh()}
		for _, rc := range receives {
			s.must(s.QP.Receive(rc, nil))
		}
		posted := s.oneOfEach(p) // some may be done before
		s.QP.Flush()
		for _, post := range posted {
			check(s, s.Done(), post.rc, post.typ, ntstatus.Cancelled, ntstatus.Success)
		}
		for _, rc := range receives {
			check(s, s.Received(), rc, ndk.OpReceive, ntstatus.Cancelled)
		}
	})
	bad := func(s *Side) []ndk.SGE { return []ndk.SGE{s.SGE(memSize-4, 8)} } // past the end of the region
	for name, tc := range map[string]struct {
		typ  ndk.OpType
		post func(s, p *Side, rc any) error
		want ndk.Status
	}{
		"Send": {ndk.OpSend, func(s, p *Side, rc any) error { return s.QP.Send(rc, bad(s), 0) }, ntstatus.AccessViolation},
		"a silent Send": {ndk.OpSend, func(s, p *Side, rc any) error { return s.QP.Send(rc, bad(s), ndk.SilentSuccess) },
			ntstatus.AccessViolation},
		"SendAndInvalidate": {ndk.OpSend, func(s, p *Side, rc any) error { return s.QP.SendAndInvalidate(rc, bad(s), 0, 1) },
			ntstatus.AccessViolation},
		"Read": {ndk.OpRead, func(s, p *Side, rc any) error { return s.QP.Read(rc, bad(s), p.MR.Base(), p.MR.RemoteToken(), 0) },
			ntstatus.AccessViolation},
		"Write": {ndk.OpWrite, func(s, p *Side, rc any) error { return s.QP.Write(rc, bad(s), p.MR.Base(), p.MR.RemoteToken(), 0) },
			ntstatus.AccessViolation},
		"Invalidate": {ndk.OpInvalidate, func(s, p *Side, rc any) error {
			m, _, _ := s.fast(0, 4096)
			return s.QP.Invalidate(rc, m, 0) // of what is not valid
		}, ntstatus.InvalidDeviceRequest},
		"FastRegister": {ndk.OpFastRegister, func(s, p *Side, rc any) error {
			m, lam, fbo := s.fast(0, 4096)
			s.must(s.QP.FastRegister("f", m, lam.Pages, fbo, 4096, s.MR.Base(), ndk.AllowRemoteRead|ndk.SilentSuccess))
			return s.QP.FastRegister(rc, m, lam.Pages, fbo, 4096, s.MR.Base(), ndk.AllowRemoteRead) // of what is valid
		}, ntstatus.InvalidDeviceRequest},
	} {
		t.Sub(name+" that fails", func(t *T) {
			s, p := t.Connected()
			receive := fresh()
			s.must(s.QP.Receive(receive, nil))
			rc, behind := fresh(), fresh()
			s.must(tc.post(s, p, rc))
			check(s, s.Done(), rc, tc.typ, tc.want)
			if err := s.QP.Send(behind, nil, 0); err == nil {
				check(s, s.Done(), behind, ndk.OpSend, ntstatus.Cancelled)
			}
			s.C.Close()
			check(s, s.Received(), receive, ndk.OpReceive, ntstatus.Cancelled)
		})
	}
	t.Sub("Receive that fails", func(t *T) {
		s, p := t.Connected()
		rc, behind := fresh(), fresh()
		s.must(s.QP.Receive(rc, []ndk.SGE{s.SGE(0, 7)}))
		s.must(s.QP.Receive(behind, nil))
		p.must(p.QP.Send("s", []ndk.SGE{p.SGE(0, 8)}, ndk.SilentSuccess))
		check(s, s.Received(), rc, ndk.OpReceive, ntstatus.BufferOverflow)
		s.C.Close()
		check(s, s.Received(), behind, ndk.OpReceive, ntstatus.Cancelled)
	})
}

func someContext() any { return new(mark) }

// The status is success, Cancelled for what was flushed, or the failure.
func resultStatus(t *T) {
	t.outcomes(someContext, func(s *Side, r ndk.ResultEx, rc any, typ ndk.OpType, want ...ndk.Status) {
		s.t.Helper()
		for _, st := range want {
			if r.Status == st {
				return
			}
		}
		s.t.Errorf("%v has status %v, want %v", typ, r.Status, want)
	})
}

// Bytes of a receive is the length of the message, whatever was posted for it.
func resultBytes(t *T) {
	s, p := t.Connected()
	for _, tc := range []struct{ sent, room int }{{0, 0}, {0, 100}, {1, 1}, {1, 100}, {99, 100}, {100, 100}, {4097, 8192}, {100000, 200000}} {
		p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, tc.room)}))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, tc.sent)}, 0))
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		r := p.Received()
		p.expect(r, "r", ntstatus.Success, ndk.OpReceive)
		if r.Bytes != uint32(tc.sent) {
			t.Errorf("a message of %d bytes in a buffer of %d: Bytes is %d", tc.sent, tc.room, r.Bytes)
		}
	}
	// By Poll as by PollEx.
	p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 64)}))
	s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 17)}, ndk.SilentSuccess))
	s.exchangeBack(p)
	var r [1]ndk.Result
	for p.RCQ.Poll(r[:]) == 0 {
		if p.ctx.Err() != nil {
			t.Fatal("no completion")
		}
	}
	if r[0].Bytes != 17 || r[0].RequestContext != "r" || r[0].QPContext != any(p) || r[0].Status != ntstatus.Success {
		t.Errorf("Poll gives %d bytes of %v, want 17", r[0].Bytes, r[0].RequestContext)
	}
}

// The contexts are those of the QP and of the post, by identity.
func resultContexts(t *T) {
	s, p := t.Connected()
	const n = 16
	sends, receives := make([]*mark, n), make([]*mark, n)
	for i := range n { // alike, but not the same
		sends[i], receives[i] = &mark{n: 1}, &mark{n: 1}
		p.must(p.QP.Receive(receives[i], nil))
		s.must(s.QP.Send(sends[i], nil, 0))
	}
	for i := range n {
		if r := s.next(s.ICQ, s.iev); r.RequestContext != any(sends[i]) || r.QPContext != any(s) {
			t.Errorf("Send %d comes back with %v and %v", i, r.RequestContext, r.QPContext)
		}
		if r := p.next(p.RCQ, p.rev); r.RequestContext != any(receives[i]) || r.QPContext != any(p) {
			t.Errorf("Receive %d comes back with %v and %v", i, r.RequestContext, r.QPContext)
		}
	}
	for _, rc := range []any{nil, 0, "", struct{}{}, s, fmt.Errorf("x")} {
		p.must(p.QP.Receive(rc, nil))
		s.must(s.QP.Send(rc, nil, 0))
		s.expect(s.Done(), rc, ntstatus.Success, ndk.OpSend)
		p.expect(p.Received(), rc, ntstatus.Success, ndk.OpReceive)
	}
}

// So are those of requests that were flushed or failed.
func resultFailed(t *T) {
	t.outcomes(someContext, func(s *Side, r ndk.ResultEx, rc any, typ ndk.OpType, want ...ndk.Status) {
		s.t.Helper()
		if r.RequestContext != rc || r.QPContext != any(s) {
			s.t.Errorf("%v with status %v comes back with the context %v of the request and %v of the QP", typ, r.Status, r.RequestContext, r.QPContext)
		}
	})
}

var _ = row("NDK_RESULT_EX", resultType, resultToken, resultError, resultSendType)

// The type is there whatever the status is.
func resultType(t *T) {
	t.outcomes(someContext, func(s *Side, r ndk.ResultEx, rc any, typ ndk.OpType, want ...ndk.Status) {
		s.t.Helper()
		if r.Type != typ {
			s.t.Errorf("status %v: type %v, want %v", r.Status, r.Type, typ)
		}
	})
}

// takesToken makes p invalidate a registration of its own by a message of s,
// and returns the completion of the receive and the token.
func takesToken(s, p *Side, f ndk.OpFlags) (ndk.ResultEx, ndk.Token) {
	s.t.Helper()
	m, lam, fbo := p.fast(memSize/2, 4096)
	p.must(p.QP.FastRegister("f", m, lam.Pages, fbo, 4096, p.MR.Base()+memSize/2, ndk.AllowRemoteRead))
	p.expect(p.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
	p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 64)}))
	s.must(s.QP.SendAndInvalidate("s", []ndk.SGE{s.SGE(0, 8)}, f, m.RemoteToken()))
	s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
	return p.Received(), m.RemoteToken()
}

// InvalidatedToken is the token of a ReceiveAndInvalidate; a plain receive has
// none.
func resultToken(t *T) {
	s, p := t.Connected()
	for range 3 {
		r, token := takesToken(s, p, 0)
		p.expect(r, "r", ntstatus.Success, ndk.OpReceiveAndInvalidate)
		if r.InvalidatedToken != token || r.Bytes != 8 {
			t.Errorf("token %#x and %d bytes, want %#x and 8", r.InvalidatedToken, r.Bytes, token)
		}
		p.must(p.QP.Receive("r", nil))
		s.say()
		p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive) // the type says that there is none
	}
}

// Success has no provider error. A failure may have one, and then says which.
func resultError(t *T) {
	t.outcomes(someContext, func(s *Side, r ndk.ResultEx, rc any, typ ndk.OpType, want ...ndk.Status) {
		s.t.Helper()
		if r.Status == ntstatus.Success {
			if r.ProviderError != 0 || r.Err() != nil {
				s.t.Errorf("%v succeeded with the provider error %#x: %v", typ, r.ProviderError, r.Err())
			}
			return
		}
		if err := r.Err(); ndk.StatusOf(err) != r.Status || !strings.Contains(err.Error(), r.Status.String()) {
			s.t.Errorf("%v with status %v is the error %v", typ, r.Status, err)
		}
	})
}

// The sender of a SendAndInvalidate sees a Send.
func resultSendType(t *T) {
	s, p := t.Connected()
	for _, f := range []ndk.OpFlags{0, ndk.SendAndSolicitEvent} {
		r, _ := takesToken(s, p, f) // which looks at the completion of the sender
		if r.Status != ntstatus.Success || r.Type&ndk.OpReceive == 0 {
			t.Errorf("the peer's completion: %v, %v", r.Status, r.Type)
		}
	}
}

var _ = row("NDK_OBJECT_TYPE", kindValues, kindOwn, kindNames)

var kinds = []struct {
	kind  ndk.ObjectKind
	value uint32
	name  string
}{
	{ndk.ObjectUndefined, 0, "Undefined"}, {ndk.ObjectAdapter, 1, "Adapter"}, {ndk.ObjectQP, 2, "QP"}, {ndk.ObjectCQ, 3, "CQ"},
	{ndk.ObjectMR, 4, "MR"}, {ndk.ObjectMW, 5, "MW"}, {ndk.ObjectPD, 6, "PD"}, {ndk.ObjectSharedEndpoint, 7, "SharedEndpoint"},
	{ndk.ObjectConnector, 8, "Connector"}, {ndk.ObjectListener, 9, "Listener"}, {ndk.ObjectSRQ, 10, "SRQ"},
}

// The kinds have the numbers of the header.
func kindValues(t *T) {
	for _, k := range kinds {
		if uint32(k.kind) != k.value {
			t.Errorf("%s is %d, want %d", k.name, k.kind, k.value)
		}
	}
	if ndk.ObjectMax != 11 {
		t.Errorf("the end of the kinds is %d, want 11", ndk.ObjectMax)
	}
}

// Every object says its own kind.
func kindOwn(t *T) {
	s, _, all := t.specimens()
	seen := make(map[ndk.ObjectKind]bool)
	for _, o := range all {
		if o.Kind() != o.kind {
			t.Errorf("a %v says %v", o.kind, o.Kind())
		}
		seen[o.Kind()] = true
	}
	for _, k := range kinds[1:] {
		if !seen[k.kind] && !(k.kind == ndk.ObjectMW && s.Info.MaxWindowSize == 0) && !(k.kind == ndk.ObjectSRQ && s.Info.MaxSRQDepth == 0) {
			t.Errorf("no object of kind %v", k.kind)
		}
	}
}

// A kind prints as its name, anything else as a number.
func kindNames(t *T) {
	for _, k := range kinds {
		if got := k.kind.String(); got != k.name {
			t.Errorf("%d prints as %q, want %q", k.value, got, k.name)
		}
	}
	for _, n := range []uint32{11, 12, 1000, 1<<32 - 1} {
		if got, want := ndk.ObjectKind(n).String(), strconv.FormatUint(uint64(n), 10); got != want {
			t.Errorf("%d prints as %q", n, got)
		}
	}
}

var _ = row("NDK_OPERATION_TYPE", opValues, opReceives, opSends)

// The operations have the numbers of the header.
func opValues(t *T) {
	for _, op := range []struct {
		typ   ndk.OpType
		value uint32
		name  string
	}{
		{ndk.OpReceive, 1, "Receive"}, {ndk.OpReceiveAndInvalidate, 0x8001, "ReceiveAndInvalidate"}, {ndk.OpSend, 2, "Send"},
		{ndk.OpFastRegister, 4, "FastRegister"}, {ndk.OpBind, 8, "Bind"}, {ndk.OpInvalidate, 16, "Invalidate"}, {ndk.OpRead, 32, "Read"},
		{ndk.OpWrite, 64, "Write"},
	} {
		if uint32(op.typ) != op.value || op.typ.String() != op.name {
			t.Errorf("%v is %#x, want %s, %#x", op.typ, uint32(op.typ), op.name, op.value)
		}
	}
	if ndk.OpReceiveAndInvalidate&ndk.OpReceive == 0 {
		t.Error("ReceiveAndInvalidate is no receive")
	}
	if got := ndk.OpType(0x4002).String(); got != "0x4002" {
		t.Errorf("an unknown operation prints as %q", got)
	}
}

// A receive whose message invalidated something says so, every other does not,
// wherever its buffer came from.
func opReceives(t *T) {
	mixed := func(s, p *Side, receive func(rc any) error) {
		m, lam, fbo := p.fast(memSize/2, 4096)
		for range 2 {
			p.must(p.QP.FastRegister("f", m, lam.Pages, fbo, 4096, p.MR.Base()+memSize/2, ndk.AllowRemoteRead))
			p.expect(p.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
			for i := range 3 {
				p.must(receive(i))
			}
			s.must(s.QP.Send("s", nil, ndk.SilentSuccess))
			s.must(s.QP.SendAndInvalidate("s", nil, ndk.SilentSuccess, m.RemoteToken()))
			s.must(s.QP.Send("s", nil, ndk.SilentSuccess|ndk.SendAndSolicitEvent))
			p.expect(p.Received(), 0, ntstatus.Success, ndk.OpReceive)
			p.expect(p.Received(), 1, ntstatus.Success, ndk.OpReceiveAndInvalidate)
			p.expect(p.Received(), 2, ntstatus.Success, ndk.OpReceive)
		}
	}
	t.Sub("receive queue", func(t *T) {
		s, p := t.Connected()
		mixed(s, p, func(rc any) error { return p.QP.Receive(rc, nil) })
	})
	t.Sub("shared receive queue", func(t *T) {
		s, _ := t.Pair()
		if s.Info.MaxSRQDepth == 0 {
			return
		}
		q := t.share(0, nil)
		q.connect()
		q.p.must(q.srq.Receive("first", nil))
		q.s.say() // a peer may wait for the first message
		q.p.expect(q.p.Received(), "first", ntstatus.Success, ndk.OpReceive)
		mixed(q.s, q.p, func(rc any) error { return q.srq.Receive(rc, nil) })
	})
}

// A SendAndInvalidate is a Send to who posted it, also when it failed.
func opSends(t *T) {
	s, p := t.Connected()
	takesToken(s, p, 0) // which looks at the completion of the sender
	takesToken(s, p, ndk.SendAndSolicitEvent)
	s.must(s.QP.SendAndInvalidate("bad", []ndk.SGE{s.SGE(memSize-1, 2)}, 0, 1))
	s.expect(s.Done(), "bad", ntstatus.AccessViolation, ndk.OpSend)
}
