package core

import (
	"errors"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// program reads an input as numbers; when it is over they are all 0.
type program struct {
	b   []byte
	pos int
}

func (p *program) more() bool { return p.pos < len(p.b) }

func (p *program) byte() int {
	if !p.more() {
		return 0
	}
	p.pos++
	return int(p.b[p.pos-1])
}

func (p *program) word() uint32 {
	return uint32(p.byte()) | uint32(p.byte())<<8 | uint32(p.byte())<<16 | uint32(p.byte())<<24
}

// of returns one of the values.
func (p *program) of(v ...uint32) uint32 { return v[p.byte()%len(v)] }

// judged is an engine whose every event is told to the reference model. The peer
// is whatever the input makes of it.
type judged struct {
	t      *testing.T
	e      *Engine
	m      *model.Model
	side   model.Side
	cfg    Config
	now    time.Duration
	timer  time.Duration
	out    int // sends not completed
	short  int // receives that the next post takes less
	lastID uint64
	octets []byte // what messages consist of
	ended  bool
}

func (j *judged) tell(ev model.Event) {
	ev.At, ev.End = j.now, j.side
	if err := j.m.Apply(&ev); err != nil {
		j.t.Fatal(err)
	}
}

// message is the contents of message id.
func (j *judged) message(id uint64, n uint32) []byte {
	off := uint32(id*31) % 251
	return j.octets[off : off+n]
}

// run carries out actions; then the engine rests, and checks itself.
func (j *judged) run() {
	for a, ok := j.e.Next(); ok; a, ok = j.e.Next() {
		switch a.Kind {
		case PostReceives:
			n := max(a.Count-j.short, 0)
			j.short = 0
			j.tell(model.Event{Kind: model.Post, N: n, Asked: a.Count, Size: a.Size})
			j.e.Posted(j.now, n)
		case SendRequest:
			b, _ := a.Request.AppendBinary(nil)
			j.send(model.Event{Bytes: b})
		case SendResponse:
			b, _ := a.Response.AppendBinary(nil)
			j.send(model.Event{Bytes: b})
		case SendData:
			b, _ := a.Header.AppendBinary(nil)
			if a.Length > 0 {
				b = append(b, j.message(a.ID, a.Offset+a.Length)[a.Offset:]...)
			}
			j.send(model.Event{Bytes: b, ID: a.ID, Token: a.Invalidate, HasToken: a.HasInvalidate})
		case Connected:
			j.tell(model.Event{Kind: model.Connected, MaxFragmented: j.e.Profile().MaxFragmentedSize, MaxRequested: int(j.e.Profile().MaxCreditsRequested), Reserve: int(j.e.Profile().ReserveCredits), Interval: j.e.Connection().KeepaliveInterval, Timeout: max(j.cfg.KeepaliveTimeout, j.e.Profile().MinKeepaliveTimeout)})
		case ArmTimer:
			j.timer = max(a.At, j.now)
		case Terminate:
			j.ended = true
			j.tell(model.Event{Kind: model.Terminate, Cause: causeOf(a.Err, a.Graceful)})
		}
	}
	j.e.check()
	c := j.e.Connection()
	j.tell(model.Event{Kind: model.Rest, Claim: model.Claim{
		Valid: c.Role == Established, SendCredits: int(c.SendCredits), ReceiveCredits: int(c.ReceiveCredits), NewCredits: int(c.NewCredits), Target: int(c.ReceiveCreditTarget),
		Queued: j.e.Queued(), SendSize: c.MaxSendSize, ReceiveSize: c.MaxReceiveSize, FragSend: c.MaxFragmentedSendSize, Remaining: c.FragmentReassemblyRemaining,
	}})
}

func (j *judged) send(ev model.Event) {
	j.out++
	ev.Kind = model.Send
	j.tell(ev)
}

func causeOf(err error, graceful bool) model.Cause {
	var timeout *TimeoutError
	switch {
	case errors.Is(err, ErrNoReceives):
		return model.NoReceives
	case graceful:
		return model.Refused
	case errors.As(err, &timeout):
		return map[string]model.Cause{"3.1.6.1": model.NegotiateTimeout, "3.1.6.2": model.IdleTimeout, "3.1.5.1": model.CreditTimeout}[timeout.Section]
	case errors.As(err, new(*ProtocolError)):
		return model.Protocol
	}
	return 0
}

// receive hands over a message, unless the adapter would end the connection
// because it has no receive for it.
func (j *judged) receive(b []byte, token uint32, has bool) {
	c := j.e.Connection()
	room := int(c.MaxReceiveSize)
	if c.Role != Established {
		room = NegotiateReceiveSize
	}
	if len(b) > room || c.Role == Established && j.m.Posted(j.side) == 0 {
		return
	}
	j.tell(model.Event{Kind: model.Arrive, Bytes: b, Token: token, HasToken: has})
	d, ok := j.e.Received(j.now, b, token, has)
	if ok {
		j.tell(model.Event{Kind: model.Deliver, Bytes: d.Fragment, Offset: d.Offset, Total: d.Total, Last: d.Last, Token: d.Token, HasToken: d.HasToken})
	}
	j.run()
}

// advance lets the clock run, and the timer at its times.
func (j *judged) advance(d time.Duration) {
	end := j.now + d
	for j.timer != 0 && j.timer <= end {
		j.now, j.timer = max(j.now, j.timer), 0
		j.e.TimerDue(j.now)
		j.run()
	}
	j.now = end
	j.tell(model.Event{Kind: model.Tick})
}

// complete completes up to k sends.
func (j *judged) complete(k int) {
	if k = min(j.out, k); k == 0 {
		return
	}
	j.out -= k
	j.tell(model.Event{Kind: model.Complete, N: k})
	j.e.SendCompleted(j.now, k)
	j.run()
}

func (j *judged) submit(n uint32, token uint32, has bool) {
	j.lastID++
	ev := model.Event{Kind: model.Submit, ID: j.lastID, Bytes: j.message(j.lastID, n), Token: token, HasToken: has}
	switch err := j.e.Submit(j.now, ev.ID, n, token, has); {
	case errors.Is(err, ErrQueueFull):
		ev.Result = model.Full
	case errors.Is(err, ErrTooLong):
		ev.Result = model.TooLong
	case errors.Is(err, ErrClosed):
		ev.Result = model.Closed
	}
	j.tell(ev)
	j.run()
}

// step reads and plays one event.
func (j *judged) step(p *program, active bool) {
	switch p.byte() % 12 {
	case 0:
		j.receive(negotiation(p, active), 0, false)
	case 1, 2, 3, 4:
		b := j.peerMessage(p)
		j.receive(b, uint32(len(b)), p.byte()%4 == 3)
	case 5:
		b := make([]byte, p.byte())
		for i := range b {
			b[i] = byte(p.byte())
		}
		j.receive(b, 0, false)
	case 6:
		n := p.of(1, 8, 103, 104, 105, 500, 3000, 131072, 0)
		j.submit(n+uint32(p.byte()), uint32(p.byte()), p.byte()%2 == 1)
	case 7:
		j.complete(1 + p.byte()%4)
	case 8:
		unit := [...]time.Duration{time.Microsecond, time.Millisecond, 100 * time.Millisecond, time.Second}
		j.advance(unit[p.byte()%4] * time.Duration(p.byte()))
	case 9:
		k := model.HoldOff
		on := p.byte()%2 == 0
		if on {
			k = model.HoldOn
		}
		j.tell(model.Event{Kind: k})
		j.e.Hold(j.now, on)
		j.run()
	case 10:
		ev := model.Event{Kind: model.Cancel, ID: uint64(p.byte()), Result: model.NotFound}
		if j.e.Cancel(j.now, ev.ID) {
			ev.Result = model.Accepted
		}
		j.tell(ev)
		j.run()
	case 11:
		j.short = p.byte() % 4
	}
}

// negotiation is a negotiate message for the role, mostly one that is allowed.
func negotiation(p *program, active bool) []byte {
	credits := [2]uint16{uint16(p.of(8, 1, 2, 3, 255, 65535, 0)), uint16(p.of(8, 1, 2, 3, 255, 65535, 0))}
	send, recv, frag := p.of(512, 128, 1364, 0, 8136, 1<<20), p.of(512, 128, 127, 1364, 8192, 1<<31), p.of(1<<20, 131072, 131071, 173910, 1<<31)
	var b []byte
	if active {
		b, _ = wire.NegotiateResponse{
			MinVersion: 0x100, MaxVersion: 0x100, NegotiatedVersion: uint16(p.of(0x100, 0x100, 0x100, 0x200)), CreditsRequested: credits[0], CreditsGranted: credits[1],
			Status: p.of(0, 0, 0, 0, 0xc00000bb), MaxReadWriteSize: 1 << 20, PreferredSendSize: send, MaxReceiveSize: recv, MaxFragmentedSize: frag,
		}.AppendBinary(nil)
	} else {
		b, _ = wire.NegotiateRequest{
			MinVersion: uint16(p.of(0x100, 0x100, 0x100, 0x101)), MaxVersion: uint16(p.of(0x100, 0x100, 0x300, 0xff)), CreditsRequested: credits[0],
			PreferredSendSize: send, MaxReceiveSize: recv, MaxFragmentedSize: frag,
		}.AppendBinary(nil)
	}
	if cut := p.byte(); cut%16 == 15 {
		b = b[:cut/16]
	}
	return b
}

// peerMessage is a Data Transfer message: allowed, or with one field changed.
func (j *judged) peerMessage(p *program) []byte {
	c := j.e.Connection()
	h := wire.DataTransfer{
		CreditsRequested: uint16(p.of(8, 1, 2, 3, 255, 65535)), CreditsGranted: uint16(p.of(0, 1, 2, 3, 8, 255, 65535)), Flags: uint16(p.of(0, 0, 0, 1, 0xfffe)),
		DataLength: min(p.of(0, 1, 8, 50, 104, 1<<20), max(c.MaxReceiveSize, 128)-wire.PayloadOffset),
	}
	if missing := c.FragmentReassemblyRemaining; missing > 0 {
		h.DataLength = min(h.DataLength, missing)
		h.RemainingDataLength = missing - h.DataLength
	} else {
		h.RemainingDataLength = p.of(0, 0, 1, 104, 3000, 131071-8)
	}
	if h.DataLength > 0 {
		h.DataOffset = wire.PayloadOffset
	}
	b, _ := h.AppendBinary(nil)
	b = append(b, j.octets[:h.DataLength]...)
	if what := p.byte(); what%8 == 7 {
		off := [...]int{0, 8, 12, 16}[what/8%4]
		v := p.of(0, 1, 8, 16, 23, 25, 32, 0xffffffff, 0xfffffff8, 0x80000000, h.DataLength+1, h.RemainingDataLength+1)
		if p.byte()%2 == 1 {
			v = p.word()
		}
		b[off], b[off+1] = byte(v), byte(v>>8)
		if off > 0 {
			b[off+2], b[off+3] = byte(v>>16), byte(v>>24)
		}
	} else if what%8 == 6 {
		b = append(b, make([]byte, what/8)...)
	}
	return b
}

var fuzzOctets = func() []byte {
	b := make([]byte, 1<<18)
	for i := range b {
		b[i] = byte(i>>8*7 ^ i)
	}
	return b
}()

// FuzzEvents reads its input as a program of events against one engine: what a
// peer may send, and what a user, an adapter and the clock may do. The reference
// model says after each what the engine had to do about it.
func FuzzEvents(f *testing.F) {
	f.Add(false, []byte{0, 1, 10, 10, 2, 20, 3, 5, 4, 1})
	f.Add(true, []byte{0, 2, 200, 1, 1, 1, 1, 3, 9, 9, 9, 5, 0, 6, 7})
	f.Fuzz(func(t *testing.T, active bool, prog []byte) {
		if len(prog) > 4096 {
			prog = prog[:4096] // what a longer one shows a shorter one does
		}
		p := &program{b: prog}
		cfg, err := Config{
			Role: Passive, ReceiveCreditMax: uint16(p.of(1, 2, 3, 4, 5, 8, 255)), SendCreditTarget: uint16(p.of(1, 2, 8, 255, 65535)),
			MaxSendSize: p.of(128, 200, 1364), MaxReceiveSize: p.of(128, 512, 1364, 8192), MaxFragmentedRecvSize: 131072,
			SendDepth: int(p.of(2, 3, 16)), QueueDepth: int(p.of(1, 2, 8)), NegotiateTimeout: 5 * time.Second,
		}.check()
		if err != nil {
			t.Fatal(err)
		}
		end := model.End{
			Role: model.Acceptor, Prompt: true, Deliveries: true, ReceiveCreditMax: int(cfg.ReceiveCreditMax), SendCreditTarget: int(cfg.SendCreditTarget),
			MaxSendSize: cfg.MaxSendSize, MaxReceiveSize: cfg.MaxReceiveSize, MaxFragmentedSize: cfg.MaxFragmentedRecvSize, SendDepth: cfg.SendDepth, QueueDepth: cfg.QueueDepth,
			NegotiateTimeout: cfg.NegotiateTimeout, KeepaliveInterval: cfg.KeepaliveInterval, CreditTimeout: cfg.CreditTimeout, GrantDelay: cfg.GrantDelay,
		}
		j := &judged{t: t, cfg: cfg, side: model.B, now: time.Second, octets: fuzzOctets}
		if active {
			cfg.Role, end.Role, j.side = Active, model.Initiator, model.A
			j.m = model.New(end, model.End{Role: model.Acceptor, Foreign: true})
		} else {
			j.m = model.New(model.End{Role: model.Initiator, Foreign: true}, end)
		}
		if j.e, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		j.tell(model.Event{Kind: model.Start})
		j.e.Start(j.now)
		j.run()
		if !j.ended {
			j.e.ConnectionUp()
			j.run()
		}
		for p.more() {
			j.step(p, active)
		}
		// A peer that is silent from here on is given up in the end. A post that
		// was cut short may have left nothing to send with.
		for range 20 {
			j.complete(j.out)
			j.advance(30 * time.Second)
		}
		if c := j.e.Connection(); c.Role != Closed {
			t.Fatalf("a dead peer is waited for: %+v", c)
		}
		j.e.Disconnected(nil)
		j.run()
	})
}
