package smbdirect

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// rawPeer is an initiator below SMB Direct: it sends what it is told.
type rawPeer struct {
	t     testing.TB
	a     ndk.Adapter
	pd    ndk.PD
	cq    ndk.CQ
	event *ndk.Event
	qp    ndk.QP
	conn  ndk.Connector
	mem   *region
	used  int
	gone  chan struct{}
	reply []byte // private data of the acceptor
	data  ndk.ConnData
}

const rawReceives, rawSize = 64, 4096

// dialRaw connects with private data; err is that of Connect.
func dialRaw(t testing.TB, l *Listener, private []byte) (*rawPeer, error) {
	t.Helper()
	return dialRawWith(t, l, ndk.ConnParams{InboundReadLimit: 16, OutboundReadLimit: 16, Private: private})
}

func dialRawWith(t testing.TB, l *Listener, params ndk.ConnParams) (*rawPeer, error) {
	t.Helper()
	ctx := context.Background()
	a, err := provider(t).Open(ctx, netip.Addr{}, ndk.Version12)
	if err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{t: t, a: a, event: ndk.NewEvent(), gone: make(chan struct{})}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := newDevice(ctx, a, "raw", 1<<20)
	must(err)
	p.pd = d.pd
	p.cq, err = a.CreateCQ(ctx, ndk.CQConfig{Depth: 1024, Notify: p.event.Notify})
	must(err)
	p.qp, err = p.pd.CreateQP(ctx, ndk.QPConfig{ReceiveCQ: p.cq, InitiatorCQ: p.cq, ReceiveQueueDepth: rawReceives, InitiatorQueueDepth: 512, MaxReceiveSGE: 1, MaxInitiatorSGE: 1})
	must(err)
	p.mem, err = d.newRegion(ctx, rawReceives*rawSize+1<<20, 0, ndk.MRAllowLocalWrite)
	must(err)
	for i := range rawReceives {
		must(p.qp.Receive(&p.mem.mem[i*rawSize], []ndk.SGE{p.mem.sge(i*rawSize, rawSize)}))
	}
	p.used = rawReceives * rawSize
	p.conn, err = a.CreateConnector(ctx)
	must(err)
	t.Cleanup(func() {
		p.conn.Close()
		p.qp.Close()
		p.cq.Close()
		<-p.qp.Closed()
		p.mem.close()
		<-p.cq.Closed()
		d.release()
		a.Close()
	})
	dst := netip.MustParseAddrPort(l.Addr().String())
	if err := p.conn.Connect(ctx, p.qp, netip.AddrPort{}, dst, params); err != nil {
		return nil, err
	}
	buf := make([]byte, 512)
	p.data, err = p.conn.ConnectionData(buf)
	must(err)
	p.reply = buf[:p.data.RequiredDataSize]
	must(p.conn.CompleteConnect(ctx, func() { close(p.gone) }))
	return p, nil
}

// send sends one message.
func (p *rawPeer) send(b []byte) error {
	off := p.used
	p.used += (len(b) + 7) &^ 7
	copy(p.mem.mem[off:], b)
	return p.qp.Send(p, []ndk.SGE{p.mem.sge(off, len(b))}, 0)
}

// next returns the next message, or nil when the connection has ended.
func (p *rawPeer) next() []byte {
	var r [1]ndk.ResultEx
	timeout := time.After(20 * time.Second)
	for {
		for p.cq.PollEx(r[:]) == 1 {
			if at, ok := r[0].RequestContext.(*byte); ok {
				if r[0].Status != ntstatus.Success {
					return nil
				}
				for i := range rawReceives {
					if at == &p.mem.mem[i*rawSize] {
						return p.mem.mem[i*rawSize:][:r[0].Bytes]
					}
				}
			}
		}
		p.cq.Arm(ndk.ArmAny)
		select {
		case <-p.event.C():
		case <-p.gone:
			if p.cq.PollEx(r[:]) == 1 {
				if at, ok := r[0].RequestContext.(*byte); ok && r[0].Status == ntstatus.Success {
					for i := range rawReceives {
						if at == &p.mem.mem[i*rawSize] {
							return p.mem.mem[i*rawSize:][:r[0].Bytes]
						}
					}
				}
				continue
			}
			return nil
		case <-timeout:
			p.t.Fatal("nothing comes, and no end")
		}
	}
}

func negRequest(change func(*wire.NegotiateRequest)) []byte {
	r := wire.NegotiateRequest{MinVersion: 0x100, MaxVersion: 0x100, CreditsRequested: 10, PreferredSendSize: 1024, MaxReceiveSize: 1024, MaxFragmentedSize: 131072}
	if change != nil {
		change(&r)
	}
	b, _ := r.AppendBinary(nil)
	return b
}

func dataMessage(h wire.DataTransfer, n int) []byte {
	b, _ := h.AppendBinary(nil)
	return append(b, make([]byte, n)...)
}

// TestHostilePeers has a raw peer that breaks one rule: its connection ends, and
// a good one beside it lives on.
func TestHostilePeers(t *testing.T) {
	l := listener(t, Config{})
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	good, goodServer := dialTo(t, d, l)
	neg := negRequest(nil)
	small := dataMessage(wire.DataTransfer{CreditsRequested: 10, CreditsGranted: 10, DataOffset: 24, DataLength: 8}, 8)
	with := func(change func(*wire.DataTransfer), n int) []byte {
		h := wire.DataTransfer{CreditsRequested: 10, CreditsGranted: 10, DataOffset: 24, DataLength: 8}
		change(&h)
		b, _ := wire.DataTransfer{CreditsRequested: h.CreditsRequested, CreditsGranted: h.CreditsGranted, Flags: h.Flags, RemainingDataLength: h.RemainingDataLength, DataOffset: 24, DataLength: 8}.AppendBinary(nil)
		copy(b[12:], []byte{byte(h.DataOffset), byte(h.DataOffset >> 8), byte(h.DataOffset >> 16), byte(h.DataOffset >> 24)})
		copy(b[16:], []byte{byte(h.DataLength), byte(h.DataLength >> 8), byte(h.DataLength >> 16), byte(h.DataLength >> 24)})
		return append(b, make([]byte, n)...)
	}
	// The response of 0 credits or refused versions apart, nothing is answered.
	for _, tc := range []struct {
		row      string
		messages [][]byte
		answers  int // messages before the end; negative: any
	}{
		{"SD-15 short request", [][]byte{neg[:19]}, 0},
		{"SD-15 empty request", [][]byte{{}}, 0},
		{"SD-17 no credits requested", [][]byte{negRequest(func(r *wire.NegotiateRequest) { r.CreditsRequested = 0 })}, 0},
		{"SD-19 MaxReceiveSize 127", [][]byte{negRequest(func(r *wire.NegotiateRequest) { r.MaxReceiveSize = 127 })}, 0},
		{"SD-20 MaxFragmentedSize 131071", [][]byte{negRequest(func(r *wire.NegotiateRequest) { r.MaxFragmentedSize = 131071 })}, 0},
		{"SD-24 version", [][]byte{negRequest(func(r *wire.NegotiateRequest) { r.MinVersion, r.MaxVersion = 0x101, 0x101 })}, 1},
		{"SD-14 second request", [][]byte{neg, neg}, 1},
		{"SD-60 no credits requested", [][]byte{neg, with(func(h *wire.DataTransfer) { h.CreditsRequested = 0 }, 8)}, 1},
		{"SD-61 short message", [][]byte{neg, small[:19]}, 1},
		{"SD-62 offset 23", [][]byte{neg, with(func(h *wire.DataTransfer) { h.DataOffset = 23 }, 8)}, 1},
		{"SD-62 offset 25", [][]byte{neg, with(func(h *wire.DataTransfer) { h.DataOffset = 25 }, 16)}, 1},
		{"SD-63 offset", [][]byte{neg, with(func(h *wire.DataTransfer) { h.DataOffset = 0xfffffff8 }, 8)}, 1},
		{"SD-63 length", [][]byte{neg, with(func(h *wire.DataTransfer) { h.DataLength = 0xffffffff }, 8)}, 1},
		{"SD-64 longer than the receive", [][]byte{neg, append(bytes.Clone(small), make([]byte, 1025-len(small))...)}, 1},
		{"SD-64 request longer than the receive", [][]byte{append(bytes.Clone(neg), make([]byte, 493)...)}, 0},
		{"SD-65 too long", [][]byte{neg, with(func(h *wire.DataTransfer) { h.RemainingDataLength = 1<<20 + 64<<10 }, 8)}, 1},
		{"SD-65 overflow", [][]byte{neg, with(func(h *wire.DataTransfer) { h.RemainingDataLength = 0xffffffff }, 8)}, 1},
		{"SD-68 more than remains", [][]byte{neg, with(func(h *wire.DataTransfer) { h.RemainingDataLength = 4 }, 8), small}, 1},
		{"SD-69 nothing remains", [][]byte{neg, with(func(h *wire.DataTransfer) { h.RemainingDataLength = 9 }, 8), small}, 1},
	} {
		t.Run(tc.row, func(t *testing.T) {
			p, err := dialRaw(t, l, nil)
			if err != nil {
				t.Fatal(err)
			}
			// What gets as far as being accepted is closed by its error.
			served := make(chan error, 1)
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				c, err := l.Accept(ctx)
				if err == nil {
					for err == nil {
						_, err = c.Receive(ctx)
					}
					c.Close()
				}
				served <- err
			}()
			answers := 0
			for _, m := range tc.messages {
				if err := p.send(m); err != nil {
					break // ended already
				}
				if len(m) == 20 && answers == 0 && p.next() != nil {
					answers++
				}
			}
			for p.next() != nil {
				answers++
			}
			if answers != tc.answers {
				t.Errorf("%d answers, want %d", answers, tc.answers)
			}
			cancel()
			if err := <-served; err == nil {
				t.Error("the server saw no error")
			}
			if err := good.Send(context.Background(), msg([]byte("still here"))); err != nil {
				t.Fatal(err)
			}
			receive(t, goodServer).Release()
		})
	}
}

// SD-16, SD-22, SD-26: the response on the wire.
func TestSD26ResponseOnTheWire(t *testing.T) {
	l := listener(t, Config{})
	p, err := dialRaw(t, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	long := append(negRequest(func(r *wire.NegotiateRequest) { r.PreferredSendSize = 0xffffffff }), make([]byte, 492)...)
	if err := p.send(long); err != nil {
		t.Fatal(err)
	}
	got := p.next()
	// Versions, credits 255 and 10, status 0, 8 MiB, 1024, 4352, 1 MiB and 64 KiB.
	want, _ := hex.DecodeString("0001000100010000" + "ff000a0000000000" + "0000800000040000" + "0011000000001100")
	if !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
	c, err := l.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// SD-94: an answer in time although nobody receives; SD-06, SD-71 on the way.
func TestSD94AnswerWhileTheUserIsBusy(t *testing.T) {
	l := listener(t, Config{})
	p, err := dialRaw(t, l, nil)
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
	for range 3 {
		p.send(dataMessage(wire.DataTransfer{CreditsRequested: 10, CreditsGranted: 5, Flags: 0xffff}, 0))
		h, err := wire.ParseDataTransfer(p.next())
		if err != nil || h.Flags != 0 || h.DataLength != 0 || h.CreditsRequested != 255 {
			t.Fatalf("answer %+v, %v", h, err)
		}
	}
}

// A user who does not receive stops the credits, and resumes them.
func TestReceiveBacklog(t *testing.T) {
	client, server := pair(t, Config{}, Config{ReceiveBacklog: 1, ReceiveCreditMax: 8})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const n = 100
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if err := client.Send(ctx, msg(bytes.Repeat([]byte{byte(i)}, 1000))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for client.Stats().CreditStalls == 0 {
		// until the sender waits for credits; the server has not looked yet
		select {
		case err := <-sent:
			t.Fatalf("%d messages went to a server that does not receive: %v", n, err)
		case <-time.After(time.Millisecond):
		}
	}
	for i := range n {
		m := receive(t, server)
		if m.Data[0] != byte(i) {
			t.Fatalf("message %d is %d", i, m.Data[0])
		}
		m.Release()
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// SD-111, SD-112: the header of the private data.
func TestSD111ReadDepths(t *testing.T) {
	l := listener(t, Config{OutboundReadLimit: 8})
	for _, tc := range []struct{ private, reply string }{
		{"0000001000000010", "0000000800000008"}, // our ORD of 8
		{"0000000400000010", "0000000400000004"}, // its IRD of 4
		{"2000000001000000", "0000000800000008"},
		{"", ""},
		{"00000000", ""},
	} {
		b, _ := hex.DecodeString(tc.private)
		p, err := dialRaw(t, l, b)
		if err != nil {
			t.Fatalf("%s: %v", tc.private, err)
		}
		if got := hex.EncodeToString(p.reply); got != tc.reply {
			t.Errorf("%s: reply %s, want %s", tc.private, got, tc.reply)
		}
		p.send(negRequest(nil))
		p.next()
		c, err := l.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if tc.private == "0000000400000010" && c.(*Conn).Parameters().ReadLimit != 4 {
			t.Errorf("read limit %d", c.(*Conn).Parameters().ReadLimit)
		}
		c.Close()
	}
	b, _ := hex.DecodeString("0000000000000010")
	if _, err := dialRaw(t, l, b); !errors.Is(err, ntstatus.ConnectionRefused) {
		t.Errorf("IRD 0: %v", err)
	}
}

// SD-12 and the flood of peers that never finish.
func TestHalfOpenFlood(t *testing.T) {
	l := listener(t, Config{MaxPending: 4, NegotiateTimeout: time.Minute})
	var peers []*rawPeer
	for range 12 {
		p, err := dialRaw(t, l, nil)
		if err != nil {
			// more than twice the limit at once
			continue
		}
		peers = append(peers, p)
	}
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	client, server := dialTo(t, d, l) // gets through all the same
	if err := client.Send(context.Background(), msg([]byte("hello"))); err != nil {
		t.Fatal(err)
	}
	receive(t, server).Release()
	ended := 0
	for _, p := range peers[:len(peers)-4] {
		if p.next() == nil {
			ended++
		}
	}
	if ended != len(peers)-4 {
		t.Errorf("%d of %d ended", ended, len(peers)-4)
	}
}

func TestSD12NegotiationTimeout(t *testing.T) {
	l := listener(t, Config{NegotiateTimeout: 50 * time.Millisecond})
	p, err := dialRaw(t, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b := p.next(); b != nil {
		t.Errorf("got % x", b)
	}
}

func TestMaxConns(t *testing.T) {
	l := listener(t, Config{MaxConns: 1})
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := dialTo(t, d, l)
	c, err := d.Dial(context.Background(), l.Addr().String())
	if err == nil {
		if _, err = c.Receive(context.Background()); err == nil {
			t.Error("a second connection lives")
		}
		c.Close()
	}
	a.Close()
	b.Close()
	dialTo(t, d, l) // room is there when the server side has ended, which Close waited for
}

// Resets at every stage leave the listener as it was.
func TestListenerSurvivesResets(t *testing.T) {
	l := listener(t, Config{})
	neg := negRequest(nil)
	mpa, _ := hex.DecodeString("4d504120494420526571204672616d6540010000")
	for i := range 60 {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 1:
			nc.Write(mpa[:i%len(mpa)])
		case 2:
			nc.Write(mpa)
		case 3:
			nc.Write(mpa)
			nc.Write([]byte{0, 38, 0x41, 0x43})
			nc.Write(neg[:10])
		}
		if i%3 == 0 {
			nc.(*net.TCPConn).SetLinger(0)
		}
		nc.Close()
	}
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := dialTo(t, d, l)
	if err := a.Send(context.Background(), msg([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	receive(t, b).Release()
}

func TestListenerClose(t *testing.T) {
	l := listener(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := dialTo(t, d, l)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := l.Accept(context.Background()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
	})
	if _, err := dialRaw(t, l, nil); err != nil { // being set up
		t.Fatal(err)
	}
	wg.Go(func() { l.Close() })
	l.Close()
	wg.Wait()
	// Accepted ones live on.
	if err := a.Send(context.Background(), msg([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	receive(t, b).Release()
	if _, err := d.Dial(context.Background(), l.Addr().String()); !errors.Is(err, ntstatus.ConnectionRefused) {
		t.Errorf("dial: %v", err)
	}
	if l.Scheme() != "iwarp" || d.Scheme() != "iwarp" || a.RDMA().Provider() != "iwarp" || a.RemoteAddr().Network() != "iwarp" {
		t.Error("names")
	}
	if !strings.HasPrefix(b.LocalAddr().String(), "127.0.0.1:") || a.LocalAddr().String() != b.RemoteAddr().String() {
		t.Errorf("addresses %v %v", a.LocalAddr(), b.RemoteAddr())
	}
}

// A server that answers the negotiation badly fails Dial.
func TestDialErrors(t *testing.T) {
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	nl, err := net.Listen("tcp", "127.0.0.1:0") // no MPA there
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	go func() {
		nc, err := nl.Accept()
		if err == nil {
			nc.Close()
		}
	}()
	if _, err := d.Dial(context.Background(), nl.Addr().String()); err == nil {
		t.Error("dial worked")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.Dial(ctx, nl.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
	if _, err := d.Dial(context.Background(), "127.0.0.1:99999"); err == nil {
		t.Error("port 99999")
	}
}

func TestConfig(t *testing.T) {
	for field, cfg := range map[string]Config{
		"ReceiveCreditMax":      {ReceiveCreditMax: 65536},
		"SendCreditTarget":      {SendCreditTarget: -1},
		"MaxSendSize":           {MaxSendSize: 8137},
		"MaxReceiveSize":        {MaxReceiveSize: 127},
		"MaxFragmentedRecvSize": {MaxFragmentedRecvSize: 131071},
		"MaxReadWriteSize":      {MaxReadWriteSize: 4097},
		"KeepaliveInterval":     {KeepaliveInterval: -1},
		"Memory":                {Memory: 8<<20 - 1},
		"MaxPending":            {MaxPending: -1},
	} {
		if _, err := NewDialer(nil, "x", cfg); err == nil || !strings.Contains(err.Error(), "Config."+field+" ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	// The bound of the package comment.
	c, _ := Config{}.check()
	for _, c := range []Config{c, c.software()} {
		if n := c.ReceiveCreditMax*((c.MaxReceiveSize+63)&^63) + c.SendDepth*((c.MaxSendSize+63)&^63) + 4096; n > 1<<20 {
			t.Errorf("an idle connection may hold %d bytes", n)
		}
	}
	// What is given is what is used.
	for _, given := range []Config{{MaxSendSize: 1364}, {MaxReceiveSize: 8192}, {ReceiveCreditMax: 10}, {SendDepth: 128}} {
		c, err := given.check()
		if got := c.software(); err != nil || got.MaxSendSize > 1364 || got.ReceiveCreditMax != c.ReceiveCreditMax {
			t.Errorf("%+v in software: messages of %d, %d credits, %v", given, got.MaxSendSize, got.ReceiveCreditMax, err)
		}
	}
}
