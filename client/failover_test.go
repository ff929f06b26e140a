package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// dying is a link that ends at a point that the test says. The reader is not told,
// as if it had not come that far yet, unless eof is closed.
type dying struct {
	*link
	at   atomic.Pointer[deathPoint] // the next one; nil: it lives
	eof  chan struct{}              // Receive says that the peer has ended it
	gate chan struct{}              // if set, Close does not return before it is closed
	// received, if set, sees every message that came.
	received func(msg []byte)
}

// deathPoint is where a link ends, and with what error.
type deathPoint struct {
	name string       // "send", "register", "try", "deregister"
	cmd  smb2.Command // of "send": the first request of the message
	err  error        // nil: the message is swallowed, and the reader told
}

func newDying(l *link) *dying { return &dying{link: l, eof: make(chan struct{})} }

// dies reports whether this is the point, which it is once.
func (d *dying) dies(name string, cmd smb2.Command) *deathPoint {
	p := d.at.Load()
	if p == nil || p.name != name || p.cmd != cmd || !d.at.CompareAndSwap(p, nil) {
		return nil
	}
	return p
}

func (d *dying) Send(ctx context.Context, m *transport.Message) error {
	if h, err := smb2.ParseHeader(m.Parts[0]); err == nil {
		switch p := d.dies("send", h.Command); {
		case p != nil && p.err == nil:
			close(d.eof)
			return nil
		case p != nil:
			return p.err
		}
	}
	return d.link.Send(ctx, m)
}

func (d *dying) Receive(ctx context.Context) (*transport.Received, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with Receive
		select {
		case <-d.eof:
			cancel()
		case <-stop:
		}
	}()
	r, err := d.link.Receive(ctx)
	select {
	case <-d.eof:
		err = io.EOF
	default:
	}
	if err == nil && d.received != nil {
		d.received(r.Data)
	}
	return r, err
}

// Prompt: with a gate it is the connection's goroutine that is to be held up.
func (d *dying) Prompt() bool { return d.gate == nil && d.link.Prompt() }

func (d *dying) ReceivePromptly() (*transport.Received, error) {
	r, err := d.link.ReceivePromptly()
	select {
	case <-d.eof:
		err = io.EOF
	default:
	}
	if r != nil && err == nil && d.received != nil {
		d.received(r.Data)
	}
	return r, err
}

func (d *dying) Close() error {
	if d.gate != nil {
		<-d.gate
	}
	return d.link.Close()
}

func (d *dying) RDMA() transport.RDMA {
	if r, ok := d.link.RDMA().(*linkRDMA); ok {
		return &dyingRDMA{r, d}
	}
	return nil
}

type dyingRDMA struct {
	*linkRDMA
	d *dying
}

func (r *dyingRDMA) Register(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	return r.registered("register", func() (transport.Registration, error) { return r.linkRDMA.Register(ctx, p, a) })
}

func (r *dyingRDMA) TryRegister(ctx context.Context, p []byte, a transport.Access) (transport.Registration, error) {
	return r.registered("try", func() (transport.Registration, error) { return r.linkRDMA.TryRegister(ctx, p, a) })
}

func (r *dyingRDMA) registered(name string, f func() (transport.Registration, error)) (transport.Registration, error) {
	if p := r.d.dies(name, 0); p != nil {
		return nil, p.err
	}
	g, err := f()
	if g != nil {
		g = &dyingRegistration{g, r.d}
	}
	return g, err
}

type dyingRegistration struct {
	transport.Registration
	d *dying
}

func (g *dyingRegistration) Deregister(ctx context.Context, token uint32, ok bool) error {
	err := g.Registration.Deregister(ctx, token, ok)
	if p := g.d.dies("deregister", 0); p != nil {
		err = p.err
	}
	return err
}

// mortal makes every link of a site one that a test can let die: the first is the
// TCP-like one that the session began with, then come those with RDMA.
func mortal(m *multiSite) *[]*dying {
	all := new([]*dying)
	m.wrap = func(l *link) transport.Conn { // called by New's caller, and then by the keeper
		d := newDying(l)
		*all = append(*all, d)
		return d
	}
	return all
}

// gated makes Close of the channel with that number return only when the channel that
// is returned is closed. Called before the session is made.
func gated(m *multiSite, links *[]*dying, n int) chan struct{} {
	wrap, gate := m.wrap, make(chan struct{})
	m.wrap = func(l *link) transport.Conn {
		d := wrap(l).(*dying)
		if len(*links) == n+1 {
			d.gate = gate
		}
		return d
	}
	return gate
}

// stayingLost is for a session that does not make its channels again.
func stayingLost(rdma int) Config {
	return Config{Window: 3, MaxIOSize: 60_000, Channels: ChannelConfig{Max: rdma, Retry: time.Hour, Stall: time.Hour}}
}

var errEnded = fmt.Errorf("link ended: %w", net.ErrClosed)

// [MS-SMB2] 3.2.7.1: wherever the end of a channel is noticed first, and before the
// reader is told of it, READ and WRITE go on with another.
func TestFailoverFromWhereItIsNoticed(t *testing.T) {
	for _, name := range []string{"register", "try", "deregister", "send"} {
		for _, cause := range []error{errEnded, fmt.Errorf("link ended: %w", io.EOF)} {
			for _, write := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %v, write %v", name, cause, write), func(t *testing.T) {
					m := newMultiSite(t, nil)
					links := mortal(m)
					sh := m.share(t, stayingLost(1))
					data := random(300_000)
					m.file(t, "f", data)
					f, err := sh.OpenFile(context.Background(), "f", os.O_RDWR, 0)
					must(t, err)
					p := &deathPoint{name: name, err: cause}
					if name == "send" {
						if p.cmd = smb2.CommandRead; write {
							p.cmd = smb2.CommandWrite
						}
					}
					(*links)[1].at.Store(p)
					got := random(len(data))
					if write {
						data = bytes.Clone(got)
						n, err := f.WriteAt(got, 0)
						if n != len(got) || err != nil {
							t.Fatal(n, err)
						}
						got, err = os.ReadFile(filepath.Join(m.dir, "f"))
						must(t, err)
					} else if n, err := f.ReadAt(got, 0); n != len(got) || err != nil {
						t.Fatal(n, err)
					}
					if !bytes.Equal(got, data) {
						t.Fatal("other bytes")
					}
					if st := sh.Session().Stats(); st.Failovers != 1 {
						t.Fatalf("%d failovers, want 1", st.Failovers)
					}
				})
			}
		}
	}
}

// The channel that is next in line has failed too, and was not taken out yet: there
// is a third.
func TestFailoverPassesOverDeadChannels(t *testing.T) {
	m := newMultiSite(t, nil)
	links := mortal(m)
	gate := gated(m, links, 1)
	sh := m.share(t, stayingLost(2))
	t.Cleanup(func() { close(gate) })
	s := sh.Session()
	all := s.set.Load().all
	if len(all) != 3 {
		t.Fatalf("%d channels, want 3", len(all))
	}
	second := (*links)[1]
	close(second.eof)
	for all[1].failed() == nil {
		time.Sleep(100 * time.Microsecond)
	}
	(*links)[0].at.Store(&deathPoint{name: "send", cmd: smb2.CommandEcho, err: errEnded})
	must(t, s.Echo(context.Background()))
	if s.main() != all[2] || s.Stats().Failovers != 2 {
		t.Fatalf("%+v", s.Stats())
	}
}

// What may not be sent twice is sent on another channel if it was not sent at all;
// what is about its channel never is.
func TestFailoverOfWhatNeverLeft(t *testing.T) {
	for _, c := range []struct {
		name             string
		once, stay, left bool
		ok               bool
	}{
		{name: "once, not sent", once: true, ok: true},
		{name: "once, sent", once: true, left: true},
		{name: "stays, not sent", stay: true},
		{name: "any, sent", left: true, ok: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMultiSite(t, nil)
			links := mortal(m)
			s := m.start(t, stayingLost(1))
			first := s.main()
			if c.left {
				(*links)[0].at.Store(&deathPoint{name: "send", cmd: smb2.CommandEcho, err: errEnded})
			} else {
				_ = first.fail(errEnded)
			}
			k := s.newCall(smb2.CommandEcho)
			defer k.free()
			must(t, k.encode(&smb2.EchoRequest{}))
			k.once, k.stay = c.once, c.stay
			err := s.doOn(context.Background(), first, k)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
			must(t, s.Echo(context.Background()))
		})
	}
}

// A conversation on a pipe starts anew when its channel is lost, also if the request
// hears of it before the session does.
func TestFailoverOfPipe(t *testing.T) {
	m := newMultiSite(t, nil)
	links := mortal(m)
	gate := gated(m, links, 0)
	s := m.start(t, stayingLost(1))
	t.Cleanup(func() { close(gate) })
	first := (*links)[0]
	first.at.Store(&deathPoint{name: "send", cmd: smb2.CommandIoctl})
	list, err := s.ListShares(context.Background())
	must(t, err)
	if len(list) == 0 || s.Stats().Failovers != 1 {
		t.Fatalf("%v, %+v", list, s.Stats())
	}
}

// A compound that is sent again finds the open of the first one, which was still
// being served: when that closes it the compound is sent once more.
func TestFailoverOfCompound(t *testing.T) {
	for _, c := range []struct {
		name   string
		closed []smb2.Command // what was refused
		sends  int            // of the compound on the second channel
	}{
		{name: "before QUERY_INFO", closed: []smb2.Command{smb2.CommandQueryInfo, smb2.CommandClose}, sends: 2},
		{name: "before CLOSE", closed: []smb2.Command{smb2.CommandClose}, sends: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMultiSite(t, nil)
			m.file(t, "f", make([]byte, 77))
			links := mortal(m)
			wrap := m.wrap
			var armed atomic.Bool
			var answers atomic.Int32
			m.wrap = func(l *link) transport.Conn {
				d := wrap(l).(*dying)
				d.received = func(msg []byte) {
					if !armed.Load() || d == (*links)[0] {
						return
					}
					if h, err := smb2.ParseHeader(msg); err != nil || h.Command != smb2.CommandCreate {
						return
					}
					if answers.Add(1) > 1 {
						return
					}
					for m := range smb2.Compound(msg) { // not signed
						if h, err := smb2.ParseHeader(m); err == nil && slices.Contains(c.closed, h.Command) {
							binary.LittleEndian.PutUint32(m[8:], uint32(ntstatus.FileClosed))
						}
					}
				}
				return d
			}
			sh := m.share(t, stayingLost(1))
			armed.Store(true)
			(*links)[0].at.Store(&deathPoint{name: "send", cmd: smb2.CommandCreate, err: errEnded})
			fi, err := sh.Stat(context.Background(), "f")
			must(t, err)
			if fi.Size() != 77 || answers.Load() < int32(c.sends) {
				t.Fatalf("size %d, %d answers", fi.Size(), answers.Load())
			}
		})
	}
}

// The channel on which a session is renewed is lost: another does as well.
func TestFailoverOfRenewal(t *testing.T) {
	m := newMultiSite(t, nil)
	links := mortal(m)
	s := m.start(t, stayingLost(1))
	(*links)[0].at.Store(&deathPoint{name: "send", cmd: smb2.CommandSessionSetup, err: errEnded})
	must(t, s.reauth(context.Background(), s.counters.reauths.Load()))
	must(t, s.Echo(context.Background()))
	if st := s.Stats(); st.Failovers != 1 || s.counters.reauths.Load() != 1 {
		t.Fatalf("%+v", st)
	}
}

// A channel whose server gives no more credits is lost; who waits for them goes on
// with another.
func TestFailoverForWantOfCredits(t *testing.T) {
	m := newMultiSite(t, nil)
	links := mortal(m)
	cfg := stayingLost(1)
	cfg.MaxCredits = 1
	var s *Session
	var armed atomic.Bool
	wrap := m.wrap
	m.wrap = func(l *link) transport.Conn {
		d := wrap(l).(*dying)
		d.received = func(msg []byte) {
			if d != (*links)[0] || !armed.Load() {
				return
			}
			for s.Stats().CreditWaits == 0 { // the other has been queued
				time.Sleep(100 * time.Microsecond)
			}
			binary.LittleEndian.PutUint16(msg[14:], 0) // CreditResponse of an answer that is not signed
		}
		return d
	}
	s = m.start(t, cfg)
	if waits := s.Stats().CreditWaits; waits != 0 {
		t.Fatalf("%d waits for credits before", waits)
	}
	armed.Store(true)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := s.Echo(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Failovers != 1 {
		t.Fatalf("%+v", st)
	}
}

// When all channels are silent one of them stays.
func TestSilentChannelsAreNotAllGivenUp(t *testing.T) {
	m := newMultiSite(t, nil)
	s := m.start(t, stayingLost(2))
	var given atomic.Int32
	var wg sync.WaitGroup
	for _, c := range s.set.Load().all {
		wg.Go(func() {
			if s.giveUp(c) {
				given.Add(1)
			}
		})
	}
	wg.Wait()
	if n := given.Load(); n != 2 || s.Err() != nil {
		t.Fatalf("%d of 3 given up, %v", n, s.Err())
	}
	must(t, s.Echo(context.Background()))
}

// Nor is the last one that lives, beside another that has failed and was not taken
// out yet.
func TestSilentChannelBesideDeadOne(t *testing.T) {
	m := newMultiSite(t, nil)
	links := mortal(m)
	gate := gated(m, links, 1)
	s := m.start(t, stayingLost(1))
	t.Cleanup(func() { close(gate) })
	all := s.set.Load().all
	second := (*links)[1]
	close(second.eof)
	for all[1].failed() == nil {
		time.Sleep(100 * time.Microsecond)
	}
	if s.giveUp(all[0]) {
		t.Fatal("given up")
	}
	must(t, s.Echo(context.Background()))
}

// [MS-SMB2] 3.2.4.1.1, 3.2.7.1: a request that has its place on a connection before
// that fails does not get the ChannelSequence of what is sent again after.
func TestChannelSequenceIsOfTheTimeOfNumbering(t *testing.T) {
	m := newMultiSite(t, nil)
	s := m.start(t, stayingLost(1))
	c, ctx := s.main(), context.Background()
	k := s.newCall(smb2.CommandEcho)
	defer k.free()
	must(t, k.encode(&smb2.EchoRequest{}))
	k.conn = c
	must(t, c.acquire(ctx, k, 1, k.self[:]))
	before := s.sequence.Add(1) - 1
	msg, err := c.seal(k.self[:])
	must(t, err)
	h, err := smb2.ParseHeader(k.buf)
	must(t, err)
	if uint32(h.ChannelSequence) != before {
		t.Errorf("ChannelSequence %d, want %d", h.ChannelSequence, before)
	}
	must(t, c.tr.Send(ctx, msg))
	must(t, c.wait(ctx, k))
}
