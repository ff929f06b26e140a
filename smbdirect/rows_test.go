package smbdirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndkhook"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

// world is a simulated network whose adapters speak one technology.
func world(t *testing.T, tech ndk.RDMATechnology) *sim.World {
	t.Helper()
	w, err := sim.New(sim.Config{
		Auto:   true,
		Info:   func(i *ndk.AdapterInfo) { i.Technology = tech },
		Report: func(what string) { t.Errorf("reported: %s", what) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// listenOn listens on a simulated network and takes what comes.
func listenOn(t *testing.T, w *sim.World, addr string) *Listener {
	t.Helper()
	l, err := Listen(context.Background(), w, "sim", addr, Config{})
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	go func() { // ends with the listener, which the cleanup waits for
		defer close(taken)
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-taken
	})
	return l
}

// 1.9: ports that nobody gave. An initiator on RoCE also finds a server that listens
// where one on iWARP would; on iWARP 445 belongs to direct hosting.
func TestSD09Ports(t *testing.T) {
	const host = "10.0.0.9"
	for _, tc := range []struct {
		name   string
		tech   ndk.RDMATechnology
		listen string // with a port, or none for the one of the adapter
		at     uint16 // where it listens then
		found  bool
	}{
		{"RoCE", ndk.TechnologyRoCEv2, host, 445, true},
		{"InfiniBand", ndk.TechnologyInfiniBand, host, 445, true},
		{"iWARP", ndk.TechnologyIWARP, host, 5445, true},
		{"quirk 1: a RoCE server that listens on 5445", ndk.TechnologyRoCEv2, host + ":5445", 5445, true},
		{"an iWARP server on 445", ndk.TechnologyIWARP, host + ":445", 445, false},
		{"another port", ndk.TechnologyRoCEv2, host + ":4444", 4444, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := world(t, tc.tech)
			l := listenOn(t, w, tc.listen)
			if got := l.Addr().(Addr).Port(); got != tc.at {
				t.Errorf("listens on %d, want %d", got, tc.at)
			}
			d, err := NewDialer(w, "sim", Config{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			c, err := d.Dial(ctx, host)
			if (err == nil) != tc.found {
				t.Errorf("Dial without a port: %v", err)
			}
			if err == nil {
				c.Close()
			} else if !errors.Is(err, ntstatus.ConnectionRefused) {
				t.Errorf("Dial: %v", err)
			}
			// A port that is given is the only one.
			if c, err = d.Dial(ctx, fmt.Sprintf("%s:%d", host, tc.at)); err != nil {
				t.Errorf("Dial to the port: %v", err)
			} else {
				c.Close()
			}
			if c, err = d.Dial(ctx, host+":446"); err == nil {
				c.Close()
				t.Error("another port was tried than the one that was given")
			}
		})
	}
}

// 3.1.4.2: what the peer does not take is not sent.
func TestSD40TooLong(t *testing.T) {
	client, server := pair(t, Config{MaxFragmentedRecvSize: 200_000}, Config{MaxFragmentedRecvSize: 300_000})
	for _, tc := range []struct {
		name     string
		from, to *Conn
		limit    int
	}{{"initiator", client, server, 300_000}, {"acceptor", server, client, 200_000}} {
		if got := tc.from.MaxSendSize(); got != tc.limit {
			t.Errorf("%s: MaxSendSize %d, want %d", tc.name, got, tc.limit)
		}
		for _, n := range []int{0, tc.limit + 1, 1 << 24} {
			if err := tc.from.Send(context.Background(), msg(make([]byte, n))); !errors.Is(err, ErrTooLong) {
				t.Errorf("%s: %d bytes: %v", tc.name, n, err)
			}
		}
		want := pattern(tc.limit, 4)
		done := make(chan error, 1)
		go func() { done <- tc.from.Send(context.Background(), msg(want)) }()
		m := receive(t, tc.to) // the first that arrives
		if !bytes.Equal(m.Data, want) {
			t.Errorf("%s: got %d bytes, want %d", tc.name, len(m.Data), len(want))
		}
		m.Release()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// 3.1.4.7: what was negotiated, told to both users.
func TestSD115Parameters(t *testing.T) {
	client, server := pair(t,
		Config{MaxSendSize: 3000, MaxReceiveSize: 4000, MaxFragmentedRecvSize: 200_000, MaxReadWriteSize: 1 << 20, KeepaliveInterval: time.Minute, OutboundReadLimit: 7},
		Config{MaxSendSize: 8000, MaxReceiveSize: 2000, MaxFragmentedRecvSize: 300_000, MaxReadWriteSize: 64 << 10, KeepaliveInterval: time.Hour, InboundReadLimit: 9, OutboundReadLimit: 5})
	for _, tc := range []struct {
		name string
		c    *Conn
		want Parameters
	}{
		{"initiator", client, Parameters{MaxSendSize: 2000, MaxFragmentedSendSize: 300_000, MaxReceiveSize: 4000, MaxFragmentedRecvSize: 200_000, MaxReadWriteSize: 64 << 10, KeepaliveInterval: time.Minute, Peer: "any", ReadLimit: 5}},
		{"acceptor", server, Parameters{MaxSendSize: 4000, MaxFragmentedSendSize: 200_000, MaxReceiveSize: 2000, MaxFragmentedRecvSize: 300_000, MaxReadWriteSize: 64 << 10, KeepaliveInterval: time.Hour, Peer: "any", ReadLimit: 5}},
	} {
		if got := tc.c.Parameters(); got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
		if tc.c.MaxSendSize() != tc.want.MaxFragmentedSendSize || tc.c.MaxReceiveSize() != tc.want.MaxFragmentedRecvSize || tc.c.RDMA().MaxReadWriteSize() != tc.want.MaxReadWriteSize {
			t.Errorf("%s: %d, %d, %d", tc.name, tc.c.MaxSendSize(), tc.c.MaxReceiveSize(), tc.c.RDMA().MaxReadWriteSize())
		}
	}
}

// hooked opens adapters of a provider under a hook, with few pages to a registration
// if pages is not 0.
type hooked struct {
	ndk.Provider
	cfg   ndkhook.Config
	pages int
}

func (p hooked) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	a, err := p.Provider.Open(ctx, local, v)
	if err != nil {
		return nil, err
	}
	if p.pages > 0 {
		a = fewPages{a, p.pages}
	}
	return ndkhook.Wrap(a, p.cfg), nil
}

type fewPages struct {
	ndk.Adapter
	pages int
}

func (a fewPages) Info(ctx context.Context) (ndk.AdapterInfo, error) {
	i, err := a.Adapter.Info(ctx)
	i.FRMRPageCount = a.pages
	return i, err
}

// 3.1.4.3: when one of several registrations fails the others are undone, and what
// they took is free again.
func TestSD101UndoneTogether(t *testing.T) {
	// Regions are made once and kept, so the fourth of them does not fail.
	for where, times := range map[string]int64{"CreateMR": 3, "InitializeFastRegister": 3, "BuildLAM": 4} {
		t.Run(where, func(t *testing.T) {
			var after atomic.Int64 // calls until one fails; 0 for none
			fault := func(c ndkhook.Call) error {
				if c.Func == where && after.Load() > 0 && after.Add(-1) == 0 {
					return ntstatus.InsufficientResources
				}
				return nil
			}
			l := listener(t, Config{})
			d, err := NewDialer(hooked{provider(t), ndkhook.Config{Fault: fault}, 4}, "iwarp", Config{Registrations: 6, MaxReadWriteSize: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			client, server := dialTo(t, d, l)
			ctx := context.Background()
			mem := make([]byte, 60_000) // four parts of four pages, or one more
			for n := int64(1); n <= times; n++ {
				after.Store(n)
				_, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
				if !errors.Is(err, ntstatus.InsufficientResources) {
					t.Fatalf("part %d: %v", n, err)
				}
				if got := client.Stats().Registrations; got != 0 {
					t.Fatalf("part %d: %d registrations are left", n, got)
				}
			}
			after.Store(0)
			short, cancel := context.WithTimeout(ctx, 10*time.Second) // else it waits for what was not given back
			defer cancel()
			reg, err := client.RDMA().Register(short, mem, transport.PeerWrites)
			if err != nil {
				t.Fatal(err)
			}
			ds := reg.Descriptors()
			if len(ds) < 4 || transport.DescriptorsLen(ds) != uint64(len(mem)) {
				t.Errorf("descriptors %+v", ds)
			}
			if err := client.Send(ctx, msg([]byte{1})); err != nil {
				t.Fatal(err)
			}
			receive(t, server).Release()
			if err := reg.Deregister(ctx, 0, false); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// 3.1.4.5, 3.1.4.6: what does not fit fails here, and the connection lives.
func TestSD104SD105LocalErrors(t *testing.T) {
	client, server := pair(t, Config{}, Config{MaxReadWriteSize: 64 << 10})
	ctx := context.Background()
	for name, c := range map[string]*Conn{"initiator": client, "acceptor": server} {
		b, err := c.RDMA().Lease(ctx, 64<<10)
		if err != nil {
			t.Fatal(err)
		}
		d := func(off uint64, n uint32) transport.Descriptor {
			return transport.Descriptor{Offset: off, Token: 1, Length: n}
		}
		for i, tc := range []struct {
			n      int
			remote []transport.Descriptor
			want   error
		}{
			{101, []transport.Descriptor{d(0, 50), d(0, 50)}, transport.ErrDescriptors},
			{1, nil, transport.ErrDescriptors},
			{9, []transport.Descriptor{d(1<<64-8, 9)}, transport.ErrDescriptors},
			{1, make([]transport.Descriptor, MaxDescriptors+1), transport.ErrDescriptors},
			{64<<10 + 1, []transport.Descriptor{d(0, 1<<20)}, ErrTooLarge},
			{0, []transport.Descriptor{d(0, 10)}, ErrTooLarge},
			{-1, []transport.Descriptor{d(0, 10)}, ErrTooLarge},
		} {
			if err := c.RDMA().Write(ctx, b, tc.n, tc.remote); !errors.Is(err, tc.want) {
				t.Errorf("%s: Write %d: %v", name, i, err)
			}
			if err := c.RDMA().Read(ctx, b, tc.n, tc.remote); !errors.Is(err, tc.want) {
				t.Errorf("%s: Read %d: %v", name, i, err)
			}
		}
		b.Release()
		for _, n := range []int{0, 64<<10 + 1} {
			if _, err := c.RDMA().Lease(ctx, n); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: Lease of %d: %v", name, n, err)
			}
			if _, err := c.RDMA().Register(ctx, make([]byte, n), transport.PeerReads); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: Register of %d: %v", name, n, err)
			}
		}
	}
	if err := client.Send(ctx, msg([]byte("alive"))); err != nil {
		t.Fatal(err)
	}
	receive(t, server).Release()
}

// 3.1.4.5, 3.1.4.6: an offset into the peer's buffers is consumed over their
// lengths, the first and last that are touched are trimmed, and one past them fails
// here.
func TestSD103SD104Offset(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	ctx := context.Background()
	for name, c := range map[string][2]*Conn{"initiator": {client, server}, "acceptor": {server, client}} {
		from, to := c[0], c[1]
		rdma := from.RDMA().(transport.OffsetRDMA)
		mem := make([]byte, 1000)
		reg, err := to.RDMA().Register(ctx, mem, transport.PeerReads|transport.PeerWrites)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.Send(ctx, msg([]byte("go"))); err != nil {
			t.Fatal(err)
		}
		receive(t, from).Release()
		ds := cut(reg.Descriptors()[0], 100, 0, 1, 399, 500)
		b, err := from.RDMA().Lease(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 1000)
		for i, tc := range []struct {
			at uint64
			n  int
		}{{0, 10}, {99, 1}, {99, 2}, {100, 1}, {101, 399}, {99, 402}, {500, 500}, {999, 1}} {
			data := pattern(tc.n, int64(i))
			copy(b.Bytes(), data)
			if err := rdma.WriteAt(ctx, b, tc.n, ds, tc.at); err != nil {
				t.Fatalf("%s: write %d at %d: %v", name, tc.n, tc.at, err)
			}
			copy(want[tc.at:], data)
			clear(b.Bytes())
			if err := rdma.ReadAt(ctx, b, tc.n, ds, tc.at); err != nil {
				t.Fatalf("%s: read %d at %d: %v", name, tc.n, tc.at, err)
			}
			if !bytes.Equal(b.Bytes()[:tc.n], data) {
				t.Errorf("%s: read %d at %d: not what was written", name, tc.n, tc.at)
			}
		}
		for _, tc := range []struct {
			at uint64
			n  int
		}{{1000, 1}, {999, 2}, {0, 1001}, {1 << 40, 1}, {1<<64 - 1, 2}} {
			if err := rdma.WriteAt(ctx, b, tc.n, ds, tc.at); !errors.Is(err, transport.ErrDescriptors) {
				t.Errorf("%s: write %d at %d: %v", name, tc.n, tc.at, err)
			}
			if err := rdma.ReadAt(ctx, b, tc.n, ds, tc.at); !errors.Is(err, transport.ErrDescriptors) {
				t.Errorf("%s: read %d at %d: %v", name, tc.n, tc.at, err)
			}
		}
		b.Release()
		if err := reg.Deregister(ctx, 0, false); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mem, want) {
			t.Errorf("%s: memory differs", name)
		}
	}
}

// 3.1.4.6: an acceptor whose peer takes no reads says so, and is not stuck; the depth
// comes from the transport where there is no header.
func TestSD113NoReads(t *testing.T) {
	l := listener(t, Config{})
	p, err := dialRawWith(t, l, ndk.ConnParams{InboundReadLimit: 0, OutboundReadLimit: 1})
	if err != nil {
		t.Fatal(err)
	}
	p.send(negRequest(nil))
	p.next()
	c, err := l.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := c.(*Conn).Parameters().ReadLimit; n != 0 {
		t.Errorf("read limit %d", n)
	}
	b, err := c.RDMA().Lease(context.Background(), 100)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	if err := c.RDMA().Read(context.Background(), b, 100, []transport.Descriptor{{Token: 1, Length: 100}}); !errors.Is(err, ErrReadLimits) {
		t.Errorf("Read: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// 10: the first message may arrive before the connection is said to be up, in either
// role.
func TestQuirkEarlyMessage(t *testing.T) {
	gate := make(chan struct{})
	l, err := Listen(context.Background(), slowAccept{provider(t), gate}, "iwarp", "127.0.0.1:0", Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := dialRaw(t, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.send(negRequest(nil)); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { close(gate) }) // by then it has arrived, or it makes no difference
	if b := p.next(); len(b) != 32 {
		t.Fatalf("response % x", b)
	}
	c, err := l.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// slowAccept is a provider that says late that an accepted connection is up.
type slowAccept struct {
	ndk.Provider
	gate chan struct{}
}

type slowAdapter struct {
	ndk.Adapter
	gate chan struct{}
}

type slowConnector struct {
	ndk.Connector
	gate chan struct{}
}

func (p slowAccept) Open(ctx context.Context, local netip.Addr, v ndk.Version) (ndk.Adapter, error) {
	a, err := p.Provider.Open(ctx, local, v)
	return slowAdapter{a, p.gate}, err
}

func (a slowAdapter) CreateListener(ctx context.Context, f func(ndk.Connector)) (ndk.Listener, error) {
	return a.Adapter.CreateListener(ctx, func(c ndk.Connector) { f(slowConnector{c, a.gate}) })
}

func (c slowConnector) AcceptEx(ctx context.Context, qp ndk.QP, p ndk.ConnParams, f func(uint32)) error {
	err := c.Connector.AcceptEx(ctx, qp, p, f)
	<-c.gate
	return err
}

// 3.1.7.1: every call that waits ends with the connection, once, with one reason.
func TestSD114EverythingThatWaits(t *testing.T) {
	client, server := pair(t, Config{}, Config{Memory: 8 << 20, Registrations: 1, ReceiveBacklog: 1, ReceiveCreditMax: 4})
	ctx := context.Background()
	lease, err := server.RDMA().Lease(ctx, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := server.RDMA().Register(ctx, make([]byte, 100), transport.PeerReads)
	if err != nil {
		t.Fatal(err)
	}
	waiting := map[string]chan error{}
	start := func(name string, f func() error) {
		done := make(chan error, 1)
		waiting[name] = done
		go func() { done <- f() }()
	}
	start("Lease", func() error { _, err := server.RDMA().Lease(ctx, 1); return err })
	start("Register", func() error { _, err := server.RDMA().Register(ctx, make([]byte, 1), transport.PeerReads); return err })
	start("Receive", func() error { _, err := server.Receive(ctx); return err })
	start("Read", func() error { // of what the client does not have
		return server.RDMA().Read(ctx, lease, 100, []transport.Descriptor{{Token: 0xdead, Length: 100}})
	})
	for name, done := range waiting {
		select {
		case err := <-done:
			// The Read is what the connection ended for; it may have its own status.
			if err == nil || name != "Read" && !errors.Is(err, net.ErrClosed) || strings.Count(err.Error(), "connection closed") > 1 {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s waits on", name)
		}
	}
	lease.Release()
	if err := reg.Deregister(ctx, 0, false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Deregister: %v", err)
	}
	for range 2 { // again and again the same
		if _, err := client.Receive(ctx); err == nil {
			t.Error("the peer is up")
		}
		if err := server.Send(ctx, msg([]byte{1})); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send: %v", err)
		}
	}
}

// 2: the read depths of cifs.ko 6.12: in the order of its host, and an ORD of 0 in
// the words of RFC 6581, as it never reads. That is no reason to reject it.
func TestQuirkReadDepthsOfCIFS(t *testing.T) {
	l := listener(t, Config{})
	p, err := dialRawWith(t, l, ndk.ConnParams{InboundReadLimit: 32, OutboundReadLimit: 0, Private: []byte{32, 0, 0, 0, 1, 0, 0, 0}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0, 0, 0, 32, 0, 0, 0, 32}; !bytes.Equal(p.reply, want) {
		t.Errorf("reply % x, want % x", p.reply, want)
	}
	p.send(negRequest(nil)) // whose values are not those of cifs.ko
	p.next()
	c, err := l.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RDMA().ShortReads() {
		t.Error("it takes a short READ for the end of the file")
	}
	if got := c.(*Conn).Parameters(); got.Peer != "cifs.ko" || got.ReadLimit != 32 {
		t.Errorf("%+v", got)
	}
}
