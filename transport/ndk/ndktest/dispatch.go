package ndktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// methodTable is a dispatch table of the header: its entries, and the methods of
// the interface that they became. Kind, Version and Closed are of the header of
// every object; extra are those that only this API has.
type methodTable struct {
	kind    ndk.ObjectKind
	of      reflect.Type
	entries map[string]string
	extra   []string
}

var methodTables = map[string]methodTable{
	"NDK_ADAPTER_DISPATCH": {ndk.ObjectAdapter, reflect.TypeFor[ndk.Adapter](), map[string]string{
		"QueryExtension": "Extension", "QueryAdapterInfo": "Info", "CreateCq": "CreateCQ", "CreatePd": "CreatePD",
		"CreateSharedEndpoint": "CreateSharedEndpoint", "CreateConnector": "CreateConnector", "CreateListener": "CreateListener",
		"BuildLAM": "BuildLAM", "ReleaseLAM": "ReleaseLAM",
	}, []string{"Close", "Alloc"}}, // an adapter is closed by who opened it
	"NDK_CONNECTOR_DISPATCH": {ndk.ObjectConnector, reflect.TypeFor[ndk.Connector](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "Connect": "Connect", "ConnectWithSharedEndpoint": "ConnectShared",
		"CompleteConnect": "CompleteConnect", "Accept": "Accept", "Reject": "Reject", "GetConnectionData": "ConnectionData",
		"GetLocalAddress": "LocalAddr", "GetPeerAddress": "PeerAddr", "Disconnect": "Disconnect",
		"CompleteConnectEx": "CompleteConnectEx", "AcceptEx": "AcceptEx",
	}, nil},
	"NDK_CQ_DISPATCH": {ndk.ObjectCQ, reflect.TypeFor[ndk.CQ](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "Resize": "Resize", "Arm": "Arm", "GetResults": "Poll",
		"ControlInterruptModeration": "Moderate", "GetResultsEx": "PollEx",
	}, nil},
	"NDK_LISTENER_DISPATCH": {ndk.ObjectListener, reflect.TypeFor[ndk.Listener](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "Listen": "Listen", "GetLocalAddress": "LocalAddr",
		"ControlConnectEvents": "ControlConnectEvents",
	}, nil},
	"NDK_MR_DISPATCH": {ndk.ObjectMR, reflect.TypeFor[ndk.MR](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "Register": "Register", "Deregister": "Deregister",
		"InitializeFastRegister": "InitializeFastRegister", "GetRemoteToken": "RemoteToken", "GetLocalToken": "LocalToken",
	}, []string{"Base"}}, // the address of the first byte, which in C is in the memory descriptor
	"NDK_MW_DISPATCH": {ndk.ObjectMW, reflect.TypeFor[ndk.MW](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "GetRemoteToken": "RemoteToken",
	}, nil},
	"NDK_PD_DISPATCH": {ndk.ObjectPD, reflect.TypeFor[ndk.PD](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "CreateMr": "CreateMR", "CreateMw": "CreateMW", "CreateSrq": "CreateSRQ",
		"CreateQp": "CreateQP", "CreateQpWithSrq": "CreateQPWithSRQ", "GetPrivilegedMemoryRegionToken": "PrivilegedToken",
	}, nil},
	"NDK_QP_DISPATCH": {ndk.ObjectQP, reflect.TypeFor[ndk.QP](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "Flush": "Flush", "Send": "Send", "Receive": "Receive", "Bind": "Bind",
		"FastRegister": "FastRegister", "Invalidate": "Invalidate", "Read": "Read", "Write": "Write", "SendAndInvalidate": "SendAndInvalidate",
	}, nil},
	"NDK_SHARED_ENDPOINT_DISPATCH": {ndk.ObjectSharedEndpoint, reflect.TypeFor[ndk.SharedEndpoint](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "GetLocalAddress": "LocalAddr",
	}, nil},
	"NDK_SRQ_DISPATCH": {ndk.ObjectSRQ, reflect.TypeFor[ndk.SRQ](), map[string]string{
		"Close": "Close", "QueryExtension": "Extension", "Modify": "Modify", "Receive": "Receive",
	}, nil},
}

var (
	_ = row("NDK_ADAPTER_DISPATCH", holdsExactly("NDK_ADAPTER_DISPATCH"), neverPanics(ndk.ObjectAdapter), tableAdapter)
	_ = row("NDK_CONNECTOR_DISPATCH", holdsExactly("NDK_CONNECTOR_DISPATCH"), neverPanics(ndk.ObjectConnector), tableConnector)
	_ = row("NDK_CQ_DISPATCH", holdsExactly("NDK_CQ_DISPATCH"), neverPanics(ndk.ObjectCQ), tableCQ)
	_ = row("NDK_LISTENER_DISPATCH", holdsExactly("NDK_LISTENER_DISPATCH"), neverPanics(ndk.ObjectListener), tableListener)
	_ = row("NDK_MR_DISPATCH", holdsExactly("NDK_MR_DISPATCH"), neverPanics(ndk.ObjectMR), tableMR)
	_ = row("NDK_MW_DISPATCH", holdsExactly("NDK_MW_DISPATCH"), neverPanics(ndk.ObjectMW), tableMW)
	_ = row("NDK_PD_DISPATCH", holdsExactly("NDK_PD_DISPATCH"), neverPanics(ndk.ObjectPD), tablePD)
	_ = row("NDK_QP_DISPATCH", holdsExactly("NDK_QP_DISPATCH"), neverPanics(ndk.ObjectQP), tableQP)
	_ = row("NDK_SHARED_ENDPOINT_DISPATCH", holdsExactly("NDK_SHARED_ENDPOINT_DISPATCH"), neverPanics(ndk.ObjectSharedEndpoint), tableSharedEndpoint)
	_ = row("NDK_SRQ_DISPATCH", holdsExactly("NDK_SRQ_DISPATCH"), neverPanics(ndk.ObjectSRQ), tableSRQ)
)

// holdsExactly proves that the interface has a method for each entry of the
// table, and no other.
func holdsExactly(name string) func(t *T) {
	return func(t *T) {
		m := methodTables[name]
		want := append([]string{"Kind", "Version", "Closed"}, m.extra...)
		for _, method := range m.entries {
			want = append(want, method)
		}
		slices.Sort(want)
		if slices.Contains(m.extra, "Close") == (m.entries["Close"] != "") {
			t.Errorf("%s: Close is an entry or an extra", name)
		}
		var got []string
		for i := range m.of.NumMethod() {
			got = append(got, m.of.Method(i).Name)
		}
		if !slices.Equal(got, want) { // Method sorts by name
			t.Errorf("%v has the methods %v, want %v", m.of, got, want)
		}
		_, _, all := t.specimens()
		for _, o := range all {
			if o.kind == m.kind && !reflect.TypeOf(o.Object).Implements(m.of) {
				t.Errorf("a %T is no %v", o.Object, m.of)
			}
		}
	}
}

// neverPanics proves that every method of every object of a kind can be called
// with whatever arguments, in whatever state, and fails with a typed error or
// not at all.
func neverPanics(kind ndk.ObjectKind) func(t *T) {
	return func(t *T) {
		if kind == ndk.ObjectMW || kind == ndk.ObjectSRQ {
			s, _ := t.Pair()
			if kind == ndk.ObjectMW {
				t.needsMW(s)
			} else {
				t.needsSRQ(s)
			}
		}
		for _, state := range []string{"open", "closed"} {
			t.Sub(state, func(t *T) {
				s, p, all := t.specimens()
				a := &abuser{t: t, s: s, p: p, r: rand.New(rand.NewPCG(1, uint64(kind)))}
				if state == "closed" {
					for _, o := range all {
						if o.kind == kind && kind != ndk.ObjectAdapter {
							s.closes(o)
						}
					}
					if kind == ndk.ObjectAdapter {
						s.closeRest()
						s.closeAdapter()
					}
				}
				var table reflect.Type
				for _, m := range methodTables {
					if m.kind == kind {
						table = m.of
					}
				}
				for _, o := range all {
					if o.kind == kind {
						a.abuse(o.Object, table)
					}
				}
				a.tidy()
			})
		}
	}
}

// abuser calls methods with zero and hostile arguments. The generator has a
// fixed seed, so a run can be repeated.
type abuser struct {
	t       *T
	s, p    *Side
	method  string // that is called
	r       *rand.Rand
	release []func()
}

// abuse calls every method of the table often, all but Close, which comes last.
func (a *abuser) abuse(o ndk.Object, table reflect.Type) {
	a.t.Helper()
	v := reflect.ValueOf(o)
	for i := range table.NumMethod() {
		name := table.Method(i).Name
		if name == "Close" || name == "Closed" {
			continue
		}
		m := v.MethodByName(name)
		a.method = name
		rounds := 24
		if m.Type().NumIn() == 0 {
			rounds = 2
		}
		for round := range rounds {
			args := make([]reflect.Value, m.Type().NumIn())
			for k := range args {
				if args[k] = reflect.Zero(m.Type().In(k)); round > 0 || m.Type().In(k) == reflect.TypeFor[context.Context]() {
					args[k] = a.value(m.Type().In(k))
				}
			}
			a.call(fmt.Sprintf("%v.%s", o.Kind(), name), m, args)
		}
	}
}

// call calls m, and looks at what comes back: an error is typed, and what was
// made is closed.
func (a *abuser) call(what string, m reflect.Value, args []reflect.Value) {
	a.t.Helper()
	defer func() {
		if e := recover(); e != nil {
			var shown []string
			for _, v := range args {
				shown = append(shown, fmt.Sprintf("%#v", v))
			}
			a.t.Errorf("%s(%s) panics: %v", what, strings.Join(shown, ", "), e)
		}
	}()
	for _, r := range m.Call(args) {
		switch x := r.Interface().(type) {
		case error:
			var slow *ndk.Error
			var post *ndk.PostError
			if !errors.As(x, &slow) && !errors.As(x, &post) {
				a.t.Errorf("%s: %v is a %T, want an *ndk.Error or *ndk.PostError", what, x, x)
			}
		case ndk.Object:
			a.release = append(a.release, x.Close)
		case func():
			if x != nil {
				a.release = append(a.release, x)
			}
		}
	}
	for _, v := range args {
		if lam, ok := v.Interface().(*ndk.LAM); ok && lam != nil {
			a.release = append(a.release, func() { a.s.A.ReleaseLAM(lam) })
		}
	}
}

// tidy gives back what the calls made, and takes the completions that they led
// to.
func (a *abuser) tidy() {
	for _, f := range a.release {
		f()
	}
	a.s.C.Close()
	a.s.closed(a.s.QP)
	var r [16]ndk.ResultEx
	for _, cq := range []ndk.CQ{a.s.RCQ, a.s.ICQ} {
		for cq.PollEx(r[:]) > 0 {
		}
	}
}

// pick returns one of the values.
func pick[V any](a *abuser, of ...V) reflect.Value {
	v := reflect.ValueOf(&of[a.r.IntN(len(of))]).Elem()
	return v
}

// value makes an argument of a type: nothing, too much, or what belongs to
// somebody else.
func (a *abuser) value(of reflect.Type) reflect.Value {
	s, p := a.s, a.p
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	switch of {
	case reflect.TypeFor[context.Context]():
		if strings.HasPrefix(a.method, "Connect") {
			soon, cancel := context.WithTimeout(s.ctx, 100*time.Millisecond) // there may be nobody to answer
			a.release = append(a.release, cancel)
			return pick(a, ended, soon)
		}
		return pick(a, ended, s.ctx)
	case reflect.TypeFor[int]():
		return pick(a, 0, -1, 1, 2, 4096, 1<<40, 1<<63-1, -1<<63)
	case reflect.TypeFor[uint32]():
		return pick[uint32](a, 0, 1, 4095, 4096, 1<<32-1)
	case reflect.TypeFor[uint64]():
		return pick(a, 0, 1, s.MR.Base(), s.MR.Base()+memSize, 1<<64-1)
	case reflect.TypeFor[bool]():
		return pick(a, false, true)
	case reflect.TypeFor[any]():
		return pick[any](a, nil, 1, s, []int{1})
	case reflect.TypeFor[ndk.Token]():
		return pick(a, 0, s.MR.LocalToken(), s.MR.RemoteToken(), p.MR.RemoteToken(), s.PD.PrivilegedToken(), 1<<32-1)
	case reflect.TypeFor[ndk.OpFlags]():
		return pick[ndk.OpFlags](a, 0, ndk.SilentSuccess, ndk.ReadFence, ndk.Defer, ndk.Inline, ndk.AllowRemoteRead, ndk.AllowRemoteWrite, 1<<31, 1<<32-1)
	case reflect.TypeFor[ndk.MRFlags]():
		return pick[ndk.MRFlags](a, 0, ndk.MRAllowLocalWrite, ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite, 4, 1<<31, 1<<32-1)
	case reflect.TypeFor[ndk.ArmType]():
		return pick(a, ndk.ArmErrors, ndk.ArmAny, ndk.ArmSolicited, 3, 1<<32-1)
	case reflect.TypeFor[ndk.GUID]():
		return pick(a, ndk.GUID{}, ndk.FileWriterExtension, ndk.GUID{0: 0xFF, 15: 0xFF})
	case reflect.TypeFor[ndk.Version]():
		return pick(a, ndk.Version{}, ndk.Version{Major: 1}, ndk.Version{Major: 0xFFFF, Minor: 0xFFFF})
	case reflect.TypeFor[[]byte]():
		return pick(a, nil, []byte{}, make([]byte, 1), make([]byte, 1000))
	case reflect.TypeFor[[]ndk.SGE]():
		bad := ndk.SGE{Addr: 1<<64 - 1, Length: 1<<32 - 1, Token: 1<<32 - 1}
		return pick(a, nil, []ndk.SGE{}, []ndk.SGE{{}}, []ndk.SGE{bad}, []ndk.SGE{bad, bad, bad, bad}, make([]ndk.SGE, 1000),
			[]ndk.SGE{{Length: 1}}, []ndk.SGE{{Inline: make([]byte, 1<<16)}}, []ndk.SGE{s.SGE(0, 8)}, []ndk.SGE{s.SGE(memSize-1, 8)})
	case reflect.TypeFor[[]ndk.LogicalAddress]():
		return pick(a, nil, []ndk.LogicalAddress{}, []ndk.LogicalAddress{0}, []ndk.LogicalAddress{1}, []ndk.LogicalAddress{1<<64 - 4096},
			make([]ndk.LogicalAddress, 1<<16))
	case reflect.TypeFor[[]ndk.Result]():
		return pick(a, nil, []ndk.Result{}, make([]ndk.Result, 1))
	case reflect.TypeFor[[]ndk.ResultEx]():
		return pick(a, nil, []ndk.ResultEx{}, make([]ndk.ResultEx, 1))
	case reflect.TypeFor[ndk.Memory]():
		return pick(a, nil, ndk.Memory{}, ndk.Memory{nil, nil}, ndk.Memory{s.Mem[:16]}, ndk.Memory{s.Mem[16:], s.Mem[:16]})
	case reflect.TypeFor[*ndk.LAM]():
		return pick(a, nil, &ndk.LAM{}, &ndk.LAM{Private: 1}, &ndk.LAM{Pages: make([]ndk.LogicalAddress, 3), Private: s})
	case reflect.TypeFor[netip.Addr]():
		return pick(a, netip.Addr{}, a.t.Foreign, a.t.Local)
	case reflect.TypeFor[netip.AddrPort]():
		return pick(a, netip.AddrPort{}, netip.AddrPortFrom(a.t.Foreign, 0), netip.AddrPortFrom(a.t.Local, 0), netip.AddrPortFrom(netip.Addr{}, 1))
	case reflect.TypeFor[ndk.ConnParams]():
		return pick(a, ndk.ConnParams{}, ndk.ConnParams{InboundReadLimit: -1}, ndk.ConnParams{OutboundReadLimit: -1 << 63},
			ndk.ConnParams{InboundReadLimit: 1<<63 - 1, OutboundReadLimit: 1<<63 - 1}, ndk.ConnParams{Private: make([]byte, 1<<17)})
	case reflect.TypeFor[ndk.CQConfig]():
		return pick(a, ndk.CQConfig{}, ndk.CQConfig{Depth: -1}, ndk.CQConfig{Depth: 1<<63 - 1}, ndk.CQConfig{Depth: 1, Affinity: []int{-1}})
	case reflect.TypeFor[ndk.SRQConfig]():
		return pick(a, ndk.SRQConfig{}, ndk.SRQConfig{Depth: -1, MaxReceiveSGE: -1}, ndk.SRQConfig{Depth: 1<<63 - 1, MaxReceiveSGE: 1<<63 - 1},
			ndk.SRQConfig{Depth: 1, MaxReceiveSGE: 1, NotifyThreshold: -1}, ndk.SRQConfig{Depth: 1, MaxReceiveSGE: 1, NotifyThreshold: 1<<63 - 1})
	case reflect.TypeFor[ndk.QPConfig]():
		mixed, huge, small := s.QPConfig(), s.QPConfig(), s.QPConfig()
		mixed.ReceiveCQ = p.RCQ
		huge.ReceiveQueueDepth, huge.MaxReceiveSGE = 1<<63-1, 1<<63-1
		small.InitiatorQueueDepth, small.InlineDataSize = -1, -1<<63
		return pick(a, ndk.QPConfig{}, mixed, huge, small, s.QPConfig())
	case reflect.TypeFor[ndk.SRQ]():
		return pick[ndk.SRQ](a, nil, &hollowSRQ{})
	case reflect.TypeFor[ndk.QP]():
		return pick[ndk.QP](a, nil, s.QP, p.QP, &hollowQP{})
	case reflect.TypeFor[ndk.MR]():
		return pick[ndk.MR](a, nil, s.MR, p.MR, &hollowMR{})
	case reflect.TypeFor[ndk.MW]():
		return pick[ndk.MW](a, nil, &hollowMW{})
	case reflect.TypeFor[ndk.Invalidatable]():
		return pick[ndk.Invalidatable](a, nil, s.MR, p.MR, &hollowMR{}, &hollowMW{})
	case reflect.TypeFor[ndk.SharedEndpoint]():
		return pick[ndk.SharedEndpoint](a, nil, &hollowSharedEndpoint{})
	case reflect.TypeFor[func()]():
		return pick(a, nil, func() {})
	case reflect.TypeFor[func(uint32)]():
		return pick(a, nil, func(uint32) {})
	case reflect.TypeFor[func(ndk.Connector)]():
		return pick(a, nil, func(c ndk.Connector) { c.Close() })
	}
	a.t.Fatalf("no argument of type %v", of)
	return reflect.Value{}
}

// The hollow wrappers stand before an object and have an empty method table: a
// provider that does not find its own object with Unwrap, or that routes its own
// work through the table, calls through nil. Without a real object they are
// objects of nobody.
type (
	hollowCQ struct {
		ndk.CQ
		real ndk.CQ
	}
	hollowMR struct {
		ndk.MR
		real ndk.MR
	}
	hollowMW struct {
		ndk.MW
		real ndk.MW
	}
	hollowSRQ struct {
		ndk.SRQ
		real ndk.SRQ
	}
	hollowQP struct {
		ndk.QP
		real ndk.QP
	}
	hollowSharedEndpoint struct {
		ndk.SharedEndpoint
		real ndk.SharedEndpoint
	}
)

func (h *hollowCQ) Unwrap() ndk.Object             { return behind(h.real) }
func (h *hollowMR) Unwrap() ndk.Object             { return behind(h.real) }
func (h *hollowMW) Unwrap() ndk.Object             { return behind(h.real) }
func (h *hollowSRQ) Unwrap() ndk.Object            { return behind(h.real) }
func (h *hollowQP) Unwrap() ndk.Object             { return behind(h.real) }
func (h *hollowSharedEndpoint) Unwrap() ndk.Object { return behind(h.real) }

// behind returns o, or for nil something that no provider made.
func behind(o ndk.Object) ndk.Object {
	if o == nil {
		return nobodys{}
	}
	return o
}

// nobodys is an object that no provider made.
type nobodys struct{ ndk.Object }

// counted counts the calls that a consumer's own tables get.
type counted struct{ n atomic.Int32 }

func (c *counted) called() { c.n.Add(1) }

// only runs f, in which the test itself makes want calls through the table, and
// fails if there were others.
func (c *counted) only(t *T, want int32, f func()) {
	t.Helper()
	before := c.n.Load()
	f()
	if got := c.n.Load() - before; got != want {
		t.Errorf("%d calls through the consumer's table, want only its own %d", got, want)
	}
}

type countedAdapter struct {
	ndk.Adapter
	*counted
}

func (a *countedAdapter) Unwrap() ndk.Object { return a.Adapter }
func (a *countedAdapter) Kind() ndk.ObjectKind {
	a.called()
	return a.Adapter.Kind()
}
func (a *countedAdapter) Version() ndk.Version {
	a.called()
	return a.Adapter.Version()
}
func (a *countedAdapter) Info(ctx context.Context) (ndk.AdapterInfo, error) {
	a.called()
	return a.Adapter.Info(ctx)
}
func (a *countedAdapter) CreateCQ(ctx context.Context, c ndk.CQConfig) (ndk.CQ, error) {
	a.called()
	return a.Adapter.CreateCQ(ctx, c)
}
func (a *countedAdapter) CreatePD(ctx context.Context) (ndk.PD, error) {
	a.called()
	return a.Adapter.CreatePD(ctx)
}
func (a *countedAdapter) CreateConnector(ctx context.Context) (ndk.Connector, error) {
	a.called()
	return a.Adapter.CreateConnector(ctx)
}
func (a *countedAdapter) CreateListener(ctx context.Context, f func(ndk.Connector)) (ndk.Listener, error) {
	a.called()
	return a.Adapter.CreateListener(ctx, f)
}

// An adapter behind the consumer's table makes, connects and closes everything,
// and no call but the consumer's own comes through the table.
func tableAdapter(t *T) {
	s, p := t.Pair()
	a := &countedAdapter{p.A, new(counted)}
	a.only(t, 5, func() {
		cq, err := a.CreateCQ(p.ctx, ndk.CQConfig{Depth: 16})
		p.must(err)
		pd, err := a.CreatePD(p.ctx)
		p.must(err)
		q := p.QPConfig()
		q.ReceiveCQ, q.InitiatorCQ = cq, cq
		qp, err := pd.CreateQP(p.ctx, q)
		p.must(err)
		got := make(chan ndk.Connector, 1)
		l, err := a.CreateListener(p.ctx, func(c ndk.Connector) { got <- c })
		p.must(err)
		p.must(l.Listen(p.ctx, t.Listen))
		addr, err := l.LocalAddr()
		p.must(err)
		c, err := a.CreateConnector(p.ctx)
		p.must(err)
		if _, err := a.Info(p.ctx); err != nil {
			t.Error(err)
		}
		y := p.shallow()
		y.QP, y.RCQ, y.ICQ = qp, cq, cq
		res := request(s, y, addr, got, direct)
		acc := plainForms.answer(y, limits)
		s.must(s.result(res))
		s.must(s.C.CompleteConnect(s.ctx, nil))
		p.must(y.result(acc))
		made := []ndk.Object{pd, cq, qp, y.C, l, c}
		for _, o := range made {
			o.Close()
		}
		for _, o := range made {
			p.ends(o, "close of "+o.Kind().String())
		}
	})
}

type countedPD struct {
	ndk.PD
	*counted
}

func (p *countedPD) Unwrap() ndk.Object { return p.PD }
func (p *countedPD) Kind() ndk.ObjectKind {
	p.called()
	return p.PD.Kind()
}
func (p *countedPD) CreateMR(ctx context.Context, fast bool) (ndk.MR, error) {
	p.called()
	return p.PD.CreateMR(ctx, fast)
}
func (p *countedPD) CreateQP(ctx context.Context, c ndk.QPConfig) (ndk.QP, error) {
	p.called()
	return p.PD.CreateQP(ctx, c)
}
func (p *countedPD) PrivilegedToken() ndk.Token {
	p.called()
	return p.PD.PrivilegedToken()
}

// A PD behind the consumer's table.
func tablePD(t *T) {
	s, p := t.Pair()
	pd := &countedPD{s.PD, new(counted)}
	pd.only(t, 3, func() {
		m, err := pd.CreateMR(s.ctx, false)
		s.must(err)
		s.must(m.Register(s.ctx, ndk.Memory{s.Mem[:64]}, 64, 0))
		x := s.shallow()
		q := s.QPConfig()
		q.QPContext = x
		x.QP, err = pd.CreateQP(s.ctx, q)
		s.must(err)
		connect(x, p, limits, limits)
		var lam ndk.LAM
		fbo, err := s.build(&lam, ndk.Memory{s.Mem[:64]}, 64)
		s.must(err)
		p.must(p.QP.Receive("r", []ndk.SGE{p.SGE(0, 64)}))
		s.must(x.QP.Send("s", []ndk.SGE{{Addr: uint64(lam.Pages[0]) + uint64(fbo), Length: 8, Token: pd.PrivilegedToken()},
			{Addr: m.Base(), Length: 8, Token: m.LocalToken()}}, 0))
		x.expect(x.Done(), "s", ntstatus.Success, ndk.OpSend)
		p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
		s.A.ReleaseLAM(&lam)
		x.closed(x.C)
		x.closed(x.QP)
		x.closed(m)
	})
}

type countedConnector struct {
	ndk.Connector
	*counted
}

func (c *countedConnector) Unwrap() ndk.Object { return c.Connector }
func (c *countedConnector) Kind() ndk.ObjectKind {
	c.called()
	return c.Connector.Kind()
}
func (c *countedConnector) Connect(ctx context.Context, qp ndk.QP, src, dst netip.AddrPort, p ndk.ConnParams) error {
	c.called()
	return c.Connector.Connect(ctx, qp, src, dst, p)
}
func (c *countedConnector) CompleteConnect(ctx context.Context, f func()) error {
	c.called()
	return c.Connector.CompleteConnect(ctx, f)
}
func (c *countedConnector) CompleteConnectEx(ctx context.Context, f func(uint32)) error {
	c.called()
	return c.Connector.CompleteConnectEx(ctx, f)
}
func (c *countedConnector) Accept(ctx context.Context, qp ndk.QP, p ndk.ConnParams, f func()) error {
	c.called()
	return c.Connector.Accept(ctx, qp, p, f)
}
func (c *countedConnector) AcceptEx(ctx context.Context, qp ndk.QP, p ndk.ConnParams, f func(uint32)) error {
	c.called()
	return c.Connector.AcceptEx(ctx, qp, p, f)
}
func (c *countedConnector) Disconnect(ctx context.Context) error {
	c.called()
	return c.Connector.Disconnect(ctx)
}
func (c *countedConnector) Close() {
	c.called()
	c.Connector.Close()
}

// Connectors of both sides behind the consumer's tables: the plain forms do not
// go through the Ex forms that the consumer sees.
func tableConnector(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	idle := s.connector()
	a := &countedConnector{idle, new(counted)}
	a.only(t, 3, func() {
		res := make(chan error, 1)
		go func() { res <- a.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
		c := p.take(got)
		if c == nil {
			t.Fatal("no connect event")
		}
		p.close = append(p.close, c.Close)
		b := &countedConnector{c, new(counted)}
		p.C = b
		b.only(t, 2, func() {
			acc := plainForms.answer(p, limits)
			s.must(s.result(res))
			s.must(a.CompleteConnect(s.ctx, nil))
			p.must(p.result(acc))
			hello(s, p)
			s.must(a.Disconnect(s.ctx))
			p.lost()
			p.closed(p.C)
		})
	})
}

type countedListener struct {
	ndk.Listener
	*counted
}

func (l *countedListener) Unwrap() ndk.Object { return l.Listener }
func (l *countedListener) Listen(ctx context.Context, addr netip.AddrPort) error {
	l.called()
	return l.Listener.Listen(ctx, addr)
}
func (l *countedListener) LocalAddr() (netip.AddrPort, error) {
	l.called()
	return l.Listener.LocalAddr()
}
func (l *countedListener) ControlConnectEvents(pause bool) {
	l.called()
	l.Listener.ControlConnectEvents(pause)
}
func (l *countedListener) Close() {
	l.called()
	l.Listener.Close()
}

// A listener behind the consumer's table.
func tableListener(t *T) {
	s, p := t.Pair()
	got := make(chan ndk.Connector, 4)
	real, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) { got <- c })
	p.must(err)
	l := &countedListener{real, new(counted)}
	l.only(t, 5, func() {
		p.must(l.Listen(p.ctx, t.Listen))
		addr, err := l.LocalAddr()
		p.must(err)
		l.ControlConnectEvents(true)
		l.ControlConnectEvents(false)
		res := request(s, p, addr, got, direct)
		acc := plainForms.answer(p, limits)
		s.must(s.result(res))
		s.must(s.C.CompleteConnect(s.ctx, nil))
		p.must(p.result(acc))
		hello(s, p)
		p.closed(l)
	})
}

// guarded is sound for a call that waits: it runs f in a goroutine, which ends
// with it, and delivers its result.
func guarded(f func() error) chan error {
	res := make(chan error, 1)
	go func() {
		defer func() {
			if e := recover(); e != nil {
				res <- fmt.Errorf("the provider went through the consumer's table: %v", e)
			}
		}()
		res <- f()
	}()
	return res
}

// sound runs f, which hands wrapped objects to the provider, and fails if the
// provider called through one.
func (s *Side) sound(f func()) {
	s.t.Helper()
	defer func() {
		if e := recover(); e != nil {
			s.t.Fatalf("the provider went through the consumer's table: %v", e)
		}
	}()
	f()
}

// A CQ behind a table that is empty.
func tableCQ(t *T) {
	s, p := t.Pair()
	s.sound(func() {
		s.replaceQP(func(q *ndk.QPConfig) {
			q.ReceiveCQ, q.InitiatorCQ = &hollowCQ{real: q.ReceiveCQ}, &hollowCQ{real: q.InitiatorCQ}
		})
	})
	connect(s, p, limits, limits)
	for _, post := range s.oneOfEach(p) {
		s.expect(s.Done(), post.rc, ntstatus.Success, post.typ)
	}
	s.must(s.QP.Receive("r", nil))
	s.C.Close()
	s.closed(s.QP)
	s.expect(s.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
}

// An MR behind a table that is empty.
func tableMR(t *T) {
	s, p := t.Connected()
	m, lam, fbo := s.fast(0, 4096)
	h := &hollowMR{real: m}
	s.sound(func() {
		s.must(s.QP.FastRegister("f", h, lam.Pages, fbo, 4096, s.MR.Base(), ndk.AllowRemoteRead))
	})
	s.expect(s.Done(), "f", ntstatus.Success, ndk.OpFastRegister)
	p.must(p.QP.Read("r", []ndk.SGE{p.SGE(0, 64)}, m.Base(), m.RemoteToken(), 0))
	p.expect(p.Done(), "r", ntstatus.Success, ndk.OpRead)
	s.sound(func() { s.must(s.QP.Invalidate("i", h, 0)) })
	s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
}

// A window behind a table that is empty, bound to an MR behind another.
func tableMW(t *T) {
	s, p := t.Connected()
	t.needsMW(s)
	w, err := s.PD.CreateMW(s.ctx)
	s.must(err)
	s.close = append(s.close, w.Close)
	h := &hollowMW{real: w}
	s.sound(func() {
		s.must(s.QP.Bind("b", &hollowMR{real: s.MR}, h, s.MR.Base(), 64, ndk.AllowRemoteRead))
	})
	s.expect(s.Done(), "b", ntstatus.Success, ndk.OpBind)
	p.must(p.QP.Read("r", []ndk.SGE{p.SGE(0, 64)}, s.MR.Base(), w.RemoteToken(), 0))
	p.expect(p.Done(), "r", ntstatus.Success, ndk.OpRead)
	s.sound(func() { s.must(s.QP.Invalidate("i", h, 0)) })
	s.expect(s.Done(), "i", ntstatus.Success, ndk.OpInvalidate)
}

// A QP behind a table that is empty, on each side.
func tableQP(t *T) {
	s, p := t.Pair()
	_, addr, got := p.listen()
	s.C = s.connector()
	res := guarded(func() error { return s.C.Connect(s.ctx, &hollowQP{real: s.QP}, netip.AddrPort{}, addr, limits) })
	if p.C = p.take(got); p.C == nil {
		t.Fatal("no connect event")
	}
	acc := guarded(func() error { return p.C.Accept(p.ctx, &hollowQP{real: p.QP}, limits, nil) })
	s.must(s.result(res))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	p.must(p.result(acc))
	hello(s, p)
	p.exchange(s)
	s.must(s.C.Disconnect(s.ctx))
}

// An endpoint behind a table that is empty.
func tableSharedEndpoint(t *T) {
	s, p := t.Pair()
	e, err := s.A.CreateSharedEndpoint(s.ctx, netip.AddrPortFrom(t.Local, 0))
	s.must(err)
	s.close = append(s.close, e.Close)
	_, addr, got := p.listen()
	s.C = s.connector()
	res := guarded(func() error { return s.C.ConnectShared(s.ctx, s.QP, &hollowSharedEndpoint{real: e}, addr, limits) })
	if p.C = p.take(got); p.C == nil {
		t.Fatal("no connect event")
	}
	acc := plainForms.answer(p, limits)
	s.must(s.result(res))
	s.must(s.C.CompleteConnect(s.ctx, nil))
	p.must(p.result(acc))
	hello(s, p)
	local, err := s.C.LocalAddr()
	s.must(err)
	if local != e.LocalAddr() {
		t.Errorf("connected from %v, want the endpoint's %v", local, e.LocalAddr())
	}
}

// An SRQ behind a table that is empty.
func tableSRQ(t *T) {
	s, p := t.Pair()
	t.needsSRQ(p)
	q, err := p.PD.CreateSRQ(p.ctx, ndk.SRQConfig{Depth: 4, MaxReceiveSGE: 1})
	p.must(err)
	p.close = append(p.close, q.Close)
	old := p.QP
	p.sound(func() {
		p.QP, err = p.PD.CreateQPWithSRQ(p.ctx, p.QPConfig(), &hollowSRQ{real: q})
		p.must(err)
	})
	old.Close()
	_, addr, got := p.listen()
	connectTo(s, p, addr, got)
	p.must(q.Receive("r", nil))
	s.say()
	p.expect(p.Received(), "r", ntstatus.Success, ndk.OpReceive)
}
