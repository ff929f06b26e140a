package smbdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Response is the Negotiate Response of an acceptor that is not odd: 10 credits
// and messages of 1024 bytes, as in [Request].
func Response() wire.NegotiateResponse {
	return wire.NegotiateResponse{
		MinVersion: wire.Version, MaxVersion: wire.Version, NegotiatedVersion: wire.Version,
		CreditsRequested: 10, CreditsGranted: 10, MaxReadWriteSize: 1 << 20,
		PreferredSendSize: 1024, MaxReceiveSize: 1024, MaxFragmentedSize: 1 << 17,
	}
}

// Call is a connection that the initiator under test made to a peer of ours.
type Call struct {
	*Stream
	// Raw is its Negotiate Request as it came, Request what that says.
	Raw     []byte
	Request wire.NegotiateRequest
	// Conn is the other end, when Dialed or Meet returned.
	Conn transport.Conn

	t      *T
	result chan dialResult
}

type dialResult struct {
	conn transport.Conn
	err  error
}

// Pick lets the initiator under test connect to a peer of ours and takes its
// Negotiate Request. The peer has a receive for that and no other.
func (t *T) Pick(c PeerConfig) *Call {
	if t.Dial == nil {
		t.Skipf("there is no initiator to test")
	}
	l, err := ListenPeer(t.ctx, t.Adapter, t.Local)
	t.Must("listen", err)
	t.Cleanup(l.Close)
	call := &Call{t: t, result: make(chan dialResult, 1)}
	ctx, cancel := context.WithCancel(t.ctx)
	go func() { // ends with cancel; waited for by the cleanup
		conn, err := t.Dial(ctx, l.Addr().String())
		call.result <- dialResult{conn, err}
	}()
	t.Cleanup(func() {
		cancel()
		if call.Conn == nil {
			call.Conn = (<-call.result).conn
		}
		if call.Conn == nil {
			return
		}
		if err := call.Conn.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if s := call.Conn.Stats(); s.Registrations != 0 || s.LeasedBuffers != 0 {
			t.Errorf("left behind: %d registrations, %d leased buffers", s.Registrations, s.LeasedBuffers)
		}
	})
	wait, stop := context.WithTimeout(t.ctx, 2*t.Times.React)
	defer stop()
	p, err := l.Accept(wait, c, func(p *Peer) error { return p.PostReceives(1, minNegotiateReceive) })
	t.Must("accept", err)
	t.Cleanup(p.Close)
	call.Stream = NewStream(p)
	m, err := p.Next(t.Times.React)
	t.Must("Negotiate Request", err)
	call.Raw = m.Data
	call.Request, err = wire.ParseNegotiateRequest(m.Data)
	t.Must("Negotiate Request", err)
	t.Logf("picked up: %+v", call.Request)
	return call
}

// mostReceives is how many receives Respond posts, whatever it grants.
const mostReceives = 900

// Respond posts the receives that r grants, as far as the queue goes, and sends r.
func (c *Call) Respond(r wire.NegotiateResponse) {
	b, _ := r.AppendBinary(nil)
	c.RespondWith(r, b)
}

// RespondWith is Respond with the bytes of r in place of it.
func (c *Call) RespondWith(r wire.NegotiateResponse, b []byte) {
	c.Established(int(min(r.MaxReceiveSize, 1<<16)), int(min(r.MaxFragmentedSize, 1<<24)),
		int(max(128, min(r.PreferredSendSize, c.Request.MaxReceiveSize))), int(c.Request.MaxFragmentedSize), 0)
	c.Requested = r.CreditsRequested
	n := min(int(r.CreditsGranted), mostReceives)
	c.t.Must("post", c.PostReceives(n, c.RecvSize))
	c.Granted = n
	c.t.Must("send the Negotiate Response", c.SendRaw(b))
}

// Dialed waits until the initiator has its connection.
func (c *Call) Dialed() transport.Conn {
	if c.Conn != nil {
		return c.Conn
	}
	select {
	case r := <-c.result:
		if r.err != nil {
			c.result <- dialResult{}
			c.t.Fatalf("the initiator has no connection: %v", r.err)
		}
		c.Conn = r.conn
		return r.conn
	case <-time.After(c.t.Times.React):
		c.t.Fatalf("the initiator has no connection after %v", c.t.Times.React)
	}
	return nil
}

// Refused waits, at most d, for the initiator to give up, and returns its error.
func (c *Call) Refused(d time.Duration) error {
	select {
	case r := <-c.result:
		c.result <- r // for the cleanup
		if r.err == nil {
			c.t.Fatalf("the initiator takes it for a connection")
		}
		c.t.Logf("the initiator: %v", r.err)
		return r.err
	case <-time.After(d):
		c.t.Fatalf("the initiator has not given up after %v", d)
	}
	return nil
}

// Meet is a connection with the initiator under test that is established by r and
// whose first grant has come. It keeps its window by itself.
func (t *T) Meet(c PeerConfig, r wire.NegotiateResponse) *Call {
	call := t.Pick(c)
	call.Respond(r)
	call.Dialed()
	call.FirstGrant()
	call.Window = min(int(r.CreditsGranted), defaultWindow)
	if call.Granted == 0 {
		t.Must("grant", call.Grant(call.Window))
	}
	return call
}

// FirstGrant waits for the first credits, which come in a message of their own as
// long as the user of the initiator sends nothing.
func (c *Call) FirstGrant() {
	c.t.Must("first grant", c.WaitCredits(1, c.t.Times.React))
	c.fragments = nil
}

// pattern is n bytes that differ with seed.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8)*7 ^ byte(i)*31 ^ seed
	}
	return b
}

// later runs f beside the case and returns where its error comes.
func later(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// wait returns what comes from done within d.
func wait(t *T, what string, done <-chan error, d time.Duration) error {
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		t.Fatalf("%s: not done after %v", what, d)
		return nil
	}
}

// post has the initiator send parts as one message.
func (c *Call) post(m *transport.Message) <-chan error {
	return later(func() error { return c.Conn.Send(c.t.ctx, m) })
}

// Tells has the initiator send a message of n bytes, which has to arrive as it is.
func (c *Call) Tells(n int) {
	b := pattern(n, byte(n))
	done := c.post(&transport.Message{Parts: [][]byte{b[:n/3], b[n/3:]}})
	m, err := c.Message(c.t.Times.React)
	if err != nil {
		c.t.Fatalf("a message of %d bytes: %v (%v)", n, err, c.End())
	}
	c.t.Check(bytes.Equal(m.Data, b), "a message of %d bytes came as %d, not the same", n, len(m.Data))
	c.t.Must("Send", wait(c.t, "Send", done, c.t.Times.React))
}

// Hears sends the initiator a message of n bytes, which has to arrive as it is.
func (c *Call) Hears(n int) {
	b := pattern(n, byte(n)+1)
	c.t.Must("send", c.SendMessage(b, c.t.Times.React))
	c.HasHeard(b)
}

// HasHeard has the initiator take a message, which has to be b.
func (c *Call) HasHeard(b []byte) {
	m := c.taken()
	defer m.Release()
	c.t.Check(bytes.Equal(m.Data, b), "a message of %d bytes arrived as %d, not the same", len(b), len(m.Data))
}

func (c *Call) taken() *transport.Received {
	ctx, cancel := context.WithTimeout(c.t.ctx, c.t.Times.React)
	defer cancel()
	m, err := c.Conn.Receive(ctx)
	if err != nil {
		c.t.Fatalf("Receive: %v", err)
	}
	return m
}

// Talks exchanges a message each way, a long one too.
func (c *Call) Talks() {
	for _, n := range []int{1, 5000} {
		c.Tells(n)
		c.Hears(n)
	}
}

// Lost waits for the end of the connection and returns what the initiator says of
// it, which matches net.ErrClosed. what is what it has to end for.
func (c *Call) Lost(what string, d time.Duration) error {
	c.t.EndsAnyhow(c.Stream, what, d)
	ctx, cancel := context.WithTimeout(c.t.ctx, c.t.Times.React)
	defer cancel()
	m, err := c.Conn.Receive(ctx)
	if err == nil {
		m.Release()
		c.t.Fatalf("%s: a message of %d bytes is delivered", what, len(m.Data))
	}
	sendErr := c.Conn.Send(ctx, &transport.Message{Parts: [][]byte{{1}}})
	c.t.Check(errors.Is(sendErr, net.ErrClosed), "%s: Send says %v", what, sendErr)
	c.t.Check(ctx.Err() == nil, "%s: the initiator does not see the end: %v", what, err)
	c.t.Logf("%s: the initiator: %v", what, err)
	return err
}

// Blames checks that err is about a rule of [MS-SMBD] that the peer broke.
func (t *T) Blames(what string, err error, section, field string) {
	var pe *smbdirect.ProtocolError
	if !errors.As(err, &pe) || pe.Section != section || pe.Field != field {
		t.Errorf("%s: the error is %v; want it about %s of %s", what, err, field, section)
	}
}

// TimedOut checks that err is about time that is over.
func (t *T) TimedOut(what string, err error) {
	var te interface{ Timeout() bool }
	t.Check(errors.As(err, &te) && te.Timeout(), "%s: the error is %v; want a timeout", what, err)
}

// KeptTheRules checks that the initiator broke no rule in what it sent.
func (c *Call) KeptTheRules() {
	for _, b := range c.Breaches {
		c.t.Errorf("%s: %s", b.Row, b.What)
	}
	for i, h := range c.Headers {
		if h.CreditsRequested != c.Request.CreditsRequested {
			c.t.Errorf("SD-44: message %d asks for %d credits; the target is %d", i, h.CreditsRequested, c.Request.CreditsRequested)
			return
		}
	}
}

// parameters are what the initiator says of its connection.
func (c *Call) parameters() smbdirect.Parameters {
	p, ok := c.Conn.(interface{ Parameters() smbdirect.Parameters })
	if !ok {
		c.t.Skipf("the connection tells no parameters")
	}
	return p.Parameters()
}

// virtual says that the clock is exact: nothing but timers makes time pass.
func (t *T) virtual() bool { return t.Provider == "sim" }

// initiatorCase makes a case for an initiator. what goes into its name.
func initiatorCase(name, spec, doc string, rows []string, run func(t *T)) Case {
	return Case{
		Name: "Initiator_" + name, Rows: rows, Spec: "[MS-SMBD] " + spec, Role: Initiator, Doc: doc,
		Run: func(_ context.Context, t *T) { run(t) },
	}
}

// timerCase is an initiatorCase that waits for timers of the initiator.
func timerCase(name, spec, doc string, rows []string, run func(t *T)) Case {
	c := initiatorCase(name, spec, doc, rows, run)
	c.Timers = true
	return c
}

// rows is a list of rows.
func rows(r ...string) []string { return r }

// caseName makes a name of a value.
func caseName(format string, args ...any) string { return fmt.Sprintf(format, args...) }
