package simulate

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// Result is what came of a run.
type Result struct {
	Err   error  // a *model.Violation, or an error of the run as a whole
	Hash  uint64 // of all events
	Stats model.Stats
}

// packet is a message on the way.
type packet struct {
	bytes    []byte
	token    uint32
	hasToken bool
}

// port is an end of the link.
type port struct {
	side  model.Side
	set   Setting
	eng   *core.Engine // nil: lenient
	peer  *peer
	timer time.Duration // 0: none
	in    []packet
	out   int // sends not completed
	short int // receives that the next post takes less
	room  int // receives that the adapter takes in all; 0: any number
	ids   []uint64
	data  map[uint64][]byte
	up    bool
	dead  bool
}

// world is a run.
type world struct {
	now    time.Duration
	model  *model.Model
	ports  [2]*port
	lastID uint64
	odd    bool // a message was changed, or a lenient peer did what Linux does not
	err    error
	out    io.Writer
	spoil  func(*model.Event)
}

// contents is where messages get their octets from: far from periodic, so that
// one that is lost or moved shows.
var contents = func() []byte {
	b := make([]byte, 3<<20)
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x >> 11)
	}
	return b
}()

// octets returns the n octets of message id.
func octets(id uint64, n int) []byte {
	off := int(id*7919) % (1 << 20)
	return contents[off : off+n]
}

// maxActions is what may follow from one input: a window of sends is a thousandth
// of it.
const maxActions = 100_000

const epoch = time.Second // a clock that starts at 0 would hide times that are not set

// Run runs a scenario to its end.
func Run(s Scenario) Result { return run(s, nil, nil) }

// Trace is Run, and writes a line for each event to out, if it is not nil.
func Trace(s Scenario, out io.Writer) Result { return run(s, out, nil) }

// run is Run; spoil may change what the model is told, to see that it notices.
func run(s Scenario, out io.Writer, spoil func(*model.Event)) Result {
	w := &world{now: epoch, out: out, spoil: spoil}
	var ends [2]model.End
	for i, set := range s.Ends {
		p := &port{side: model.Side(i), set: set, data: map[uint64][]byte{}}
		w.ports[i] = p
		role, mrole := core.Active, model.Initiator
		if i == 1 {
			role, mrole = core.Passive, model.Acceptor
		}
		ends[i] = model.End{Role: mrole, Foreign: true}
		if set.Make != Engine {
			p.peer = newPeer(w, p)
			continue
		}
		e, err := core.New(core.Config{
			Role: role, ReceiveCreditMax: set.ReceiveCreditMax, SendCreditTarget: set.SendCreditTarget, MaxSendSize: set.MaxSendSize, MaxReceiveSize: set.MaxReceiveSize,
			MaxFragmentedRecvSize: set.MaxFragmentedSize, SendDepth: set.SendDepth, QueueDepth: set.QueueDepth,
			KeepaliveInterval: set.KeepaliveInterval, KeepaliveTimeout: set.KeepaliveTimeout, CreditTimeout: set.CreditTimeout,
		})
		if err != nil {
			return Result{Err: err}
		}
		p.eng = e
		ends[i] = model.End{
			Role: mrole, Prompt: true, Deliveries: true, ReceiveCreditMax: int(set.ReceiveCreditMax), SendCreditTarget: int(set.SendCreditTarget),
			MaxSendSize: set.MaxSendSize, MaxReceiveSize: set.MaxReceiveSize, MaxFragmentedSize: set.MaxFragmentedSize, SendDepth: set.SendDepth, QueueDepth: set.QueueDepth,
			NegotiateTimeout: or(0, map[bool]time.Duration{true: 120 * time.Second, false: 5 * time.Second}[i == 0]), KeepaliveInterval: or(set.KeepaliveInterval, 120*time.Second),
			CreditTimeout: or(set.CreditTimeout, time.Minute), GrantDelay: 5 * time.Millisecond, Slack: set.Late,
		}
	}
	w.model = model.New(ends[0], ends[1])
	for _, p := range w.ports {
		w.start(p)
	}
	for _, a := range s.Actions {
		if w.err != nil {
			break
		}
		w.do(a)
	}
	w.settle()
	return Result{Err: w.err, Hash: w.model.Hash(), Stats: w.model.Stats()}
}

func or(v, def time.Duration) time.Duration {
	if v != 0 {
		return v
	}
	return def
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// tell tells the model.
func (w *world) tell(p *port, ev model.Event) {
	ev.At, ev.End = w.now, p.side
	if w.spoil != nil {
		w.spoil(&ev)
	}
	if w.out != nil && ev.Kind != model.Rest {
		_, _ = fmt.Fprintln(w.out, ev.String()) // a trace that cannot be written is not missed
	}
	if err := w.model.Apply(&ev); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *world) other(p *port) *port { return w.ports[1-p.side] }

func (w *world) start(p *port) {
	if p.eng == nil {
		p.peer.start()
		return
	}
	w.tell(p, model.Event{Kind: model.Start})
	p.eng.Start(w.now)
	w.carry(p)
	p.eng.ConnectionUp()
	w.carry(p)
}

// carry carries out what an engine asks for, and lets it rest.
func (w *world) carry(p *port) {
	for i := 0; w.err == nil; i++ {
		a, ok := p.eng.Next()
		if !ok {
			break
		}
		if i > maxActions {
			w.fail("%v: no end of actions, the latest is %+v", model.Progress, a)
		}
		switch a.Kind {
		case core.PostReceives:
			n := max(a.Count-p.short, 0)
			p.short = 0
			if p.room > 0 && p.eng.Connection().Protocol != 0 {
				n = min(n, max(p.room-w.model.Posted(p.side), 0))
			}
			w.tell(p, model.Event{Kind: model.Post, N: n, Asked: a.Count, Size: a.Size})
			p.eng.Posted(w.now, n)
		case core.SendRequest:
			b, _ := a.Request.AppendBinary(nil)
			w.send(p, packet{bytes: b}, 0)
		case core.SendResponse:
			b, _ := a.Response.AppendBinary(nil)
			w.send(p, packet{bytes: b}, 0)
		case core.SendData:
			b, _ := a.Header.AppendBinary(nil)
			if a.Length > 0 {
				d := p.data[a.ID]
				if uint64(a.Offset)+uint64(a.Length) > uint64(len(d)) {
					w.fail("%v sends octets %d to %d of message %d, which has %d", p.side, a.Offset, uint64(a.Offset)+uint64(a.Length), a.ID, len(d))
					return
				}
				b = append(b, d[a.Offset:a.Offset+a.Length]...)
			}
			if a.Last {
				delete(p.data, a.ID)
			}
			w.send(p, packet{bytes: b, token: a.Invalidate, hasToken: a.HasInvalidate}, a.ID)
		case core.Connected:
			p.up = true
			c := p.eng.Connection()
			w.tell(p, model.Event{Kind: model.Connected, MaxFragmented: p.eng.Profile().MaxFragmentedSize, MaxRequested: int(p.eng.Profile().MaxCreditsRequested), Reserve: int(p.eng.Profile().ReserveCredits), Interval: c.KeepaliveInterval, Timeout: max(or(p.set.KeepaliveTimeout, 5*time.Second), p.eng.Profile().MinKeepaliveTimeout)})
		case core.ArmTimer:
			p.timer = max(a.At, w.now) + p.set.Late
		case core.Terminate:
			w.tell(p, model.Event{Kind: model.Terminate, Cause: causeOf(a.Err, a.Graceful)})
			p.dead = true
			w.lose(w.other(p), a.Graceful)
		}
	}
	w.tell(p, model.Event{Kind: model.Rest, Claim: p.claim()})
}

func causeOf(err error, graceful bool) model.Cause {
	var timeout *core.TimeoutError
	switch {
	case errors.Is(err, core.ErrNoReceives):
		return model.NoReceives
	case graceful:
		return model.Refused
	case errors.As(err, &timeout):
		return map[string]model.Cause{"3.1.6.1": model.NegotiateTimeout, "3.1.6.2": model.IdleTimeout, "3.1.5.1": model.CreditTimeout}[timeout.Section]
	case errors.As(err, new(*core.ProtocolError)):
		return model.Protocol
	}
	return 0
}

func (p *port) claim() model.Claim {
	c := p.eng.Connection()
	return model.Claim{
		Valid: c.Role == core.Established, SendCredits: int(c.SendCredits), ReceiveCredits: int(c.ReceiveCredits), NewCredits: int(c.NewCredits), Target: int(c.ReceiveCreditTarget),
		Queued: p.eng.Queued(), SendSize: c.MaxSendSize, ReceiveSize: c.MaxReceiveSize, FragSend: c.MaxFragmentedSendSize, Remaining: c.FragmentReassemblyRemaining,
	}
}

func (w *world) send(p *port, k packet, id uint64) {
	p.out++
	w.tell(p, model.Event{Kind: model.Send, Bytes: k.bytes, Token: k.token, HasToken: k.hasToken, ID: id})
	w.other(p).in = append(w.other(p).in, k)
}

// lose tells an end that the connection is gone. After a graceful end it gets
// what is on the way before.
func (w *world) lose(p *port, graceful bool) {
	if graceful {
		w.deliver(p, len(p.in))
	}
	p.in = nil
	if p.eng == nil || p.dead {
		p.dead = true
		return
	}
	p.dead = true
	w.tell(p, model.Event{Kind: model.Lost})
	p.eng.Disconnected(errLost)
	w.carry(p)
}

var errLost = errors.New("simulate: the connection is gone")

// deliver hands up to n messages to p.
func (w *world) deliver(p *port, n int) {
	for ; n > 0 && len(p.in) > 0 && w.err == nil; n-- {
		k := p.in[0]
		p.in = p.in[1:]
		if p.eng == nil {
			w.tell(p, model.Event{Kind: model.Arrive, Bytes: k.bytes, Token: k.token, HasToken: k.hasToken})
			p.peer.hear(k.bytes)
			continue
		}
		c := p.eng.Connection()
		room := int(c.MaxReceiveSize)
		if c.Role != core.Established {
			room = core.NegotiateReceiveSize
		}
		if !p.dead && (len(k.bytes) > room || c.Role == core.Established && w.model.Posted(p.side) == 0) {
			// The adapter ends such a connection. Without a trick of ours no end
			// sends what finds no receive.
			if !w.odd {
				w.fail("a message of %d bytes finds no receive at %v", len(k.bytes), p.side)
			}
			w.cut()
			return
		}
		if !p.dead {
			w.tell(p, model.Event{Kind: model.Arrive, Bytes: k.bytes, Token: k.token, HasToken: k.hasToken})
		}
		d, ok := p.eng.Received(w.now, k.bytes, k.token, k.hasToken)
		if ok {
			w.tell(p, model.Event{Kind: model.Deliver, Bytes: d.Fragment, Offset: d.Offset, Total: d.Total, Last: d.Last, Token: d.Token, HasToken: d.HasToken})
		}
		w.carry(p)
	}
}

func (w *world) cut() {
	for _, p := range w.ports {
		w.lose(p, false)
	}
}

func (w *world) complete(p *port, n int) {
	if n = min(n, p.out); n == 0 {
		return
	}
	p.out -= n
	if p.eng == nil {
		return
	}
	w.tell(p, model.Event{Kind: model.Complete, N: n})
	p.eng.SendCompleted(w.now, n)
	w.carry(p)
}

// advance lets the clock run, and timers at their times.
func (w *world) advance(d time.Duration) {
	end := w.now + d
	for w.err == nil {
		var next *port
		for _, p := range w.ports {
			if p.timer != 0 && p.timer <= end && (next == nil || p.timer < next.timer) {
				next = p
			}
		}
		if next == nil {
			break
		}
		w.now, next.timer = max(w.now, next.timer), 0
		next.eng.TimerDue(w.now)
		w.carry(next)
	}
	w.now = end
	w.tell(w.ports[0], model.Event{Kind: model.Tick})
}

func (w *world) submit(p *port, n int, token bool) {
	if p.eng == nil {
		return
	}
	w.lastID++
	id := w.lastID
	d := octets(id, n)
	p.data[id] = d
	ev := model.Event{Kind: model.Submit, ID: id, Bytes: d, HasToken: token}
	if token {
		ev.Token = uint32(id)<<8 | 0xa5
	}
	switch err := p.eng.Submit(w.now, id, uint32(n), ev.Token, token); {
	case errors.Is(err, core.ErrQueueFull):
		ev.Result = model.Full
	case errors.Is(err, core.ErrTooLong):
		ev.Result = model.TooLong
	case errors.Is(err, core.ErrClosed):
		ev.Result = model.Closed
	case err != nil:
		w.fail("submit: %w", err)
	default:
		p.ids = append(p.ids, id)
		if o := w.other(p); o.peer != nil {
			o.peer.want = append(o.peer.want, id)
			o.peer.sizes[id] = n
		}
	}
	w.tell(p, ev)
	w.carry(p)
}

func (w *world) cancel(p *port, back int) {
	if p.eng == nil || len(p.ids) <= back {
		return
	}
	id := p.ids[len(p.ids)-1-back]
	// The answer comes with what follows from it; the model wants it first.
	res := model.NotFound
	ok := p.eng.Cancel(w.now, id)
	if ok {
		res = model.Accepted
		if o := w.other(p); o.peer != nil {
			o.peer.forget(id)
		}
	}
	w.tell(p, model.Event{Kind: model.Cancel, ID: id, Result: res})
	w.carry(p)
}

// do carries out an action.
func (w *world) do(a Action) {
	p := w.ports[a.End&1]
	n := int(min(max(a.N, 0), 1<<40))
	switch a.Op {
	case Submit:
		w.submit(p, min(n, 2<<20), a.M == 1)
	case Deliver:
		w.deliver(p, n)
	case Complete:
		w.complete(p, n)
	case Advance:
		w.advance(time.Duration(n) * time.Microsecond)
	case HoldOn, HoldOff:
		if p.eng != nil {
			w.hold(p, a.Op == HoldOn)
		}
	case Cancel:
		w.cancel(p, n)
	case Shorten:
		p.short = n
	case Room:
		p.room = n
	case Cut:
		w.cut()
	case Flood:
		if p.peer != nil && !p.dead {
			p.peer.flood(min(n, 1000))
		}
	case Speak:
		if p.peer != nil && !p.dead {
			p.peer.speak(uint32(a.N), uint32(a.M))
		}
	case Mutate, Repeat, Drop:
		if len(p.in) == 0 {
			return
		}
		w.tamper()
		switch first := p.in[0]; a.Op {
		case Mutate:
			p.in[0].bytes = mutate(first.bytes, uint32(a.N))
		case Repeat:
			p.in = append([]packet{first}, p.in...)
		case Drop:
			p.in = p.in[1:]
		}
	}
}

func (w *world) tamper() {
	w.odd = true
	w.tell(w.ports[0], model.Event{Kind: model.Tamper})
}

func (w *world) hold(p *port, on bool) {
	k := model.HoldOff
	if on {
		k = model.HoldOn
	}
	w.tell(p, model.Event{Kind: k})
	p.eng.Hold(w.now, on)
	w.carry(p)
}

// mutate changes one field of a message, or its length.
func mutate(b []byte, how uint32) []byte {
	b = append([]byte(nil), b...)
	type field struct{ off, size int }
	transfer := [...]field{{0, 2}, {2, 2}, {4, 2}, {6, 2}, {8, 4}, {12, 4}, {16, 4}}
	negotiate := [...]field{{0, 2}, {2, 2}, {8, 2}, {10, 2}, {12, 4}, {16, 4}, {20, 4}, {24, 4}, {28, 4}}
	values := [...]uint32{0, 1, 2, 7, 8, 16, 20, 23, 24, 25, 32, 127, 128, 0x100, 131071, 1 << 20, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff}
	k, v := int(how%32), int(how>>8)%(len(values)+2)
	switch {
	case k < 20:
		f := transfer[k%len(transfer)]
		if k >= 14 {
			f = negotiate[int(how>>5)%len(negotiate)]
		}
		if f.off+f.size > len(b) {
			break
		}
		was := uint32(0)
		for i := range f.size {
			was |= uint32(b[f.off+i]) << (8 * i)
		}
		var x uint32
		switch v {
		case len(values):
			x = was + 1
		case len(values) + 1:
			x = was - 1
		default:
			x = values[v]
		}
		for i := range f.size {
			b[f.off+i] = byte(x >> (8 * i))
		}
	case k < 22:
		b = b[:min(len(b), v)]
	case k < 25:
		b = append(b, make([]byte, v)...)
	case len(b) > wire.DataTransferSize:
		b[wire.DataTransferSize+int(how>>8)%(len(b)-wire.DataTransferSize)] ^= 1 << (how % 8)
	}
	return b
}
