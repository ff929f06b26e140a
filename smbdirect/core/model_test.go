package core

import (
	"flag"
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

var seed = flag.Int64("seed", 0, "replay the model check with this seed")

func headerOf(req, grant uint16, n uint32) wire.DataTransfer {
	h := wire.DataTransfer{CreditsRequested: req, CreditsGranted: grant, DataLength: n}
	if n > 0 {
		h.DataOffset = wire.PayloadOffset
	}
	return h
}

// side is an engine with its end of a simulated link and the model beside it:
// the counters S, R, G, H, P of the credit rules.
type side struct {
	name    string
	e       *Engine
	timer   time.Duration
	in      [][]byte // messages on the way to this side
	sent    int      // S: Data Transfer messages sent
	recvd   int      // R: received
	granted int      // G: credits granted
	heard   int      // H: credits that arrived
	posted  int      // P: data receives posted and unused
	max     int
	done    int // sends not reported complete
	submit  []byte
	gotten  []byte
	partial []byte
	nextID  uint64
	lengths map[uint64][]byte
	bare    int // empty messages sent
	up      bool
	dead    error
	midID   uint64 // message whose fragments are on the way; 0 between
}

type world struct {
	t    *testing.T
	r    *rand.Rand
	now  time.Duration
	a, b *side
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d, now %v: %s\n a %+v\n b %+v", *seed, w.now, fmt.Sprintf(format, args...), w.a.e.Connection(), w.b.e.Connection())
}

func (w *world) other(s *side) *side {
	if s == w.a {
		return w.b
	}
	return w.a
}

// run carries out the actions of s and checks the rules for senders.
func (w *world) run(s *side) {
	o := w.other(s)
	for a, ok := s.e.Next(); ok; a, ok = s.e.Next() {
		switch a.Kind {
		case PostReceives:
			if a.Size >= NegotiateReceiveSize && s.e.Connection().Protocol == 0 && a.Count == 1 {
				s.e.Posted(w.now, 1)
				break
			}
			s.posted += a.Count
			s.e.Posted(w.now, a.Count)
		case SendRequest:
			b, _ := a.Request.AppendBinary(nil)
			o.in = append(o.in, b)
			s.done++
		case SendResponse:
			b, _ := a.Response.AppendBinary(nil)
			o.in = append(o.in, b)
			s.granted += int(a.Response.CreditsGranted)
			s.done++
		case SendData:
			c := s.heard - s.sent
			if c < 1 { // rule 1
				w.fail("%s sends without a credit", s.name)
			}
			if c == 1 && a.Header.CreditsGranted == 0 { // rule 5
				w.fail("%s spends its last credit without a grant", s.name)
			}
			if a.Header.CreditsRequested == 0 { // rule 8
				w.fail("%s requests no credits", s.name)
			}
			s.sent++
			s.granted += int(a.Header.CreditsGranted)
			outstanding := s.granted - s.recvd
			if outstanding > s.posted { // rule 3
				w.fail("%s granted %d with %d posted", s.name, outstanding, s.posted)
			}
			if outstanding != s.posted { // rule 6
				w.fail("%s holds back %d receives after a send", s.name, s.posted-outstanding)
			}
			if limit := int(spareLimit(Credits(s.max))); outstanding > limit { // rule 4
				w.fail("%s granted %d, limit %d", s.name, outstanding, limit)
			}
			b, _ := a.Header.AppendBinary(nil)
			if a.Length > 0 {
				if s.midID != 0 && s.midID != a.ID { // rule 13
					w.fail("%s mixes messages %d and %d", s.name, s.midID, a.ID)
				}
				s.midID = a.ID
				b = append(b, s.lengths[a.ID][a.Offset:a.Offset+a.Length]...)
				if a.Last {
					s.midID = 0
					delete(s.lengths, a.ID)
				}
			} else {
				s.bare++
				if s.midID != 0 {
					w.fail("%s puts an empty message between fragments", s.name)
				}
			}
			if len(b) > int(s.e.Connection().MaxSendSize) {
				w.fail("%s sends %d octets", s.name, len(b))
			}
			o.in = append(o.in, b)
			s.done++
		case Connected:
			s.up = true
		case ArmTimer:
			s.timer = a.At
		case Terminate:
			s.dead = a.Err
			w.fail("%s ends the connection: %v", s.name, a.Err)
		}
	}
	s.e.check()
	if c := s.e.Connection(); s.up && c.Role == Established {
		if int(c.SendCredits) != s.heard-s.sent || int(c.ReceiveCredits) != s.posted {
			w.fail("%s counts %d and %d credits, the model %d and %d", s.name, c.SendCredits, c.ReceiveCredits, s.heard-s.sent, s.posted)
		}
	}
}

// deliver hands the first message on the way to s.
func (w *world) deliver(s *side) {
	b := s.in[0]
	s.in = s.in[1:]
	if s.e.Connection().Role == Established {
		h, _ := wire.ParseDataTransfer(b)
		s.recvd++
		s.heard += int(h.CreditsGranted)
		if s.posted--; s.posted < 0 {
			w.fail("%s has no receive", s.name)
		}
	} else if len(b) == wire.NegotiateResponseSize {
		r, _ := wire.ParseNegotiateResponse(b)
		s.heard += int(r.CreditsGranted)
	}
	d, ok := s.e.Received(w.now, b, 0, false)
	if ok {
		if d.Offset != uint32(len(s.partial)) {
			w.fail("%s: fragment at %d after %d octets", s.name, d.Offset, len(s.partial))
		}
		s.partial = append(s.partial, d.Fragment...)
		if d.Last {
			if int(d.Total) != len(s.partial) {
				w.fail("%s: message of %d, %d octets came", s.name, d.Total, len(s.partial))
			}
			s.gotten = append(s.gotten, s.partial...)
			s.partial = s.partial[:0]
		}
	}
	w.run(s)
}

func (w *world) submit(s *side, n int) {
	p := make([]byte, n)
	w.r.Read(p)
	s.nextID++
	s.lengths[s.nextID] = p
	if err := s.e.Submit(w.now, s.nextID, uint32(n), 0, false); err != nil {
		if err != ErrQueueFull {
			w.fail("submit: %v", err)
		}
		delete(s.lengths, s.nextID)
		return
	}
	s.submit = append(s.submit, p...)
	w.run(s)
}

func (w *world) tick(s *side) {
	if s.timer != 0 && s.timer <= w.now {
		s.timer = 0
		s.e.TimerDue(w.now)
		w.run(s)
	}
}

// settle delivers everything and completes sends until nothing is on the way. It
// fails if that does not end (rule 12), and counts the messages.
func (w *world) settle(limit int) {
	for n := 0; len(w.a.in)+len(w.b.in)+w.a.done+w.b.done > 0; n++ {
		if n > limit {
			w.fail("no end of messages: %d and %d empty ones", w.a.bare, w.b.bare)
		}
		s := []*side{w.a, w.b}[n%2]
		if s.done > 0 {
			k := s.done
			s.done = 0
			s.e.SendCompleted(w.now, k)
			w.run(s)
		}
		if len(s.in) > 0 {
			w.deliver(s)
		}
	}
}

// TestModel runs two engines against each other in random orders and compares
// them with the model after every step; then both get quiet, and everything has
// arrived.
func TestModel(t *testing.T) {
	runs := 300
	if testing.Short() {
		runs = 50
	}
	if *seed != 0 {
		modelRun(t, *seed)
		return
	}
	defer func() { *seed = 0 }()
	for i := range runs {
		*seed = int64(i) + 1
		modelRun(t, *seed)
	}
}

func modelRun(t *testing.T, seed int64) {
	r := rand.New(rand.NewSource(seed))
	w := &world{t: t, r: r, now: time.Second}
	some := func(v ...int) int { return v[r.Intn(len(v))] }
	mk := func(name string, role Role) *side {
		s := &side{name: name, max: some(1, 1, 2, 3, 4, 5, 10, 255), lengths: map[uint64][]byte{}}
		e, err := New(Config{
			Role: role, ReceiveCreditMax: uint16(s.max), SendCreditTarget: uint16(some(1, 2, 3, 4, 10, 255, 65535)),
			MaxSendSize: uint32(some(128, 200, 1364)), MaxReceiveSize: uint32(some(128, 512, 2048)), SendDepth: some(2, 3, 16), QueueDepth: 8,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.e = e
		return s
	}
	w.a, w.b = mk("a", Active), mk("b", Passive)
	for _, s := range []*side{w.a, w.b} {
		s.e.Start(w.now)
		w.run(s)
	}
	w.a.e.ConnectionUp()
	w.run(w.a)
	for !w.a.up || !w.b.up {
		for _, s := range []*side{w.a, w.b} {
			if len(s.in) > 0 {
				w.deliver(s)
			}
		}
	}
	for range 600 {
		s := []*side{w.a, w.b}[r.Intn(2)]
		switch r.Intn(10) {
		case 0, 1:
			w.submit(s, some(1, 50, 104, 105, 1340, 5000, 20000))
		case 2:
			if s.done > 0 {
				k := 1 + r.Intn(s.done)
				s.done -= k
				s.e.SendCompleted(w.now, k)
				w.run(s)
			}
		case 3:
			w.now += time.Duration(r.Intn(3)) * time.Millisecond
			w.tick(w.a)
			w.tick(w.b)
		case 4:
			s.e.Hold(w.now, r.Intn(2) == 0)
			w.run(s)
		default:
			if len(s.in) > 0 {
				w.deliver(s)
			}
		}
	}
	for _, s := range []*side{w.a, w.b} {
		s.e.Hold(w.now, false)
		w.run(s)
	}
	// Rule 11: everything arrives; delayed grants need the clock.
	for range 20000 {
		w.settle(1 << 20)
		if w.a.e.Queued()+w.b.e.Queued() == 0 {
			break
		}
		w.now += 5 * time.Millisecond
		w.tick(w.a)
		w.tick(w.b)
	}
	if string(w.a.gotten) != string(w.b.submit) || string(w.b.gotten) != string(w.a.submit) {
		w.fail("octets: a sent %d, b has %d; b sent %d, a has %d", len(w.a.submit), len(w.b.gotten), len(w.b.submit), len(w.a.gotten))
	}
	// Rule 12: with targets of 2 and more silence sets in, until a probe.
	if w.a.e.target() < 2 || w.b.e.target() < 2 {
		return
	}
	for range 10 {
		w.now += 10 * time.Millisecond
		w.tick(w.a)
		w.tick(w.b)
		w.settle(1000)
	}
	quiet := w.a.sent + w.b.sent
	w.now += time.Second
	w.tick(w.a)
	w.tick(w.b)
	w.settle(0)
	if n := w.a.sent + w.b.sent; n != quiet {
		w.fail("%d messages while there is nothing to say", n-quiet)
	}
	// Rule 2 at rest: what one can send is what the other has granted.
	if w.a.heard-w.a.sent != w.b.granted-w.b.recvd || w.b.heard-w.b.sent != w.a.granted-w.a.recvd {
		w.fail("credits were lost")
	}
	// Keepalive: a probe and its answer, and silence again.
	w.now += 120 * time.Second
	w.tick(w.a)
	w.tick(w.b)
	w.settle(100)
	if w.a.sent+w.b.sent == quiet {
		w.fail("no keepalive")
	}
}

// TestLenientPeer has a peer that keeps only the rules that Linux keeps: it spends its
// last credit without a grant, refills late and far beyond what was asked for,
// puts empty messages between fragments and leaves probes unanswered.
func TestLenientPeer(t *testing.T) {
	for i := range 200 {
		r := rand.New(rand.NewSource(int64(i)))
		e, err := New(Config{Role: Passive, ReceiveCreditMax: 32, SendDepth: 64})
		if err != nil {
			t.Fatal(err)
		}
		g := &rig{t: t, e: e, now: time.Second, posts: -1}
		e.Start(g.now)
		g.run()
		g.command("request req=255 pref=1364 recv=1364 frag=173910")
		credits := 31  // the peer's
		owed := 0      // receives it has not granted
		remaining := 0 // of the message it sends
		given := 0     // credits we have
		queued := uint64(0)
		for range 500 {
			g.out = g.out[:0]
			g.sent = g.sent[:0]
			switch r.Intn(4) {
			case 0:
				queued++
				g.command(fmt.Sprintf("submit %d %d", queued, 1+r.Intn(3000)))
			case 1, 2, 3:
				if credits == 0 {
					continue
				}
				credits--
				grant := 0
				if given <= 31 || r.Intn(3) == 0 {
					grant = max(0, 255-given+owed%3)
					owed = 0
				}
				given += grant
				n := 1 + r.Intn(1000)
				switch {
				case r.Intn(3) == 0:
					g.command(fmt.Sprintf("data req=255 grant=%d flags=%d", grant, r.Intn(2)))
				case remaining > 0:
					n = min(n, remaining)
					remaining -= n
					g.command(fmt.Sprintf("data req=255 grant=%d n=%d remaining=%d", grant, n, remaining))
				default:
					remaining = r.Intn(5000)
					g.command(fmt.Sprintf("data req=255 grant=%d n=%d remaining=%d", grant, n, remaining))
				}
			}
			for _, a := range g.sent {
				credits += int(a.Header.CreditsGranted)
				given--
				owed++
			}
			g.command(fmt.Sprintf("done %d", len(g.sent)))
			if err := g.terminated(); err != nil {
				t.Fatalf("run %d: %v", i, err)
			}
			if credits == 0 && e.Connection().SendCredits > 1 {
				t.Fatalf("run %d: the peer is out of credits: %+v", i, e.Connection())
			}
		}
	}
}
