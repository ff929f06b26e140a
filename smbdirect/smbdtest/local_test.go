package smbdtest

import (
	"bytes"
	"context"
	"net/netip"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndkhook"
)

// TestLocal has the rows for an acceptor that need its user or its adapter to do
// something, which no peer can make them do.
func TestLocal(t *testing.T) {
	for _, f := range fabrics {
		for _, tc := range []struct {
			row  string
			hook ndkhook.Config
			run  func(t *T, s *Stream, accept func() transport.Conn)
		}{
			{"SD-49 one fragment has the token", ndkhook.Config{}, tokenOnce},
			{"SD-78 tokens of several fragments", ndkhook.Config{}, lastToken},
			{"SD-109 a token of another registration", ndkhook.Config{}, foreignToken},
			{"SD-25 no receive can be posted", ndkhook.Config{Fault: onlyFirstReceive()}, noReceives},
		} {
			t.Run(f.name+"/acceptor/"+tc.row, func(t *testing.T) {
				f.run(t, func(t *testing.T) { f.local(t, tc.hook, tc.run) })
			})
		}
	}
}

// local runs a conversation between a connected peer and a listener whose user the
// test is.
func (f fabric) local(t *testing.T, hook ndkhook.Config, run func(t *T, s *Stream, accept func() transport.Conn)) {
	p, host, underHost := f.open(t)
	peer := openAdapter(t, p, host)
	hook.Audit = true
	under := ndkhook.Wrap(openAdapter(t, p, underHost), hook)
	l, err := smbdirect.NewListener(context.Background(), under, f.name, underHost.String()+":0", smbdirect.Config{MaxSendSize: 1364})
	if err != nil {
		t.Fatal(err)
	}
	c := Case{Name: t.Name(), Role: Acceptor, Run: func(ctx context.Context, t *T) {
		s := t.Connect(PeerConfig{}, 0, 0)
		run(t, s, func() transport.Conn {
			c, err := l.Accept(ctx)
			t.Must("accept", err)
			t.Cleanup(func() { _ = c.Close() })
			return c
		})
	}}
	res := RunCase(context.Background(), Target{
		Provider: f.name, Adapter: peer, Address: netip.MustParseAddrPort(l.Addr().String()), Times: f.times,
	}, c)
	_ = l.Close()
	report(t, res)
}

// upTo negotiates on a connection that is up.
func upTo(t *T, s *Stream, accept func() transport.Conn) transport.Conn {
	_, _, err := s.Negotiate(Request(), t.Times.React)
	t.Must("negotiate", err)
	t.established(s)
	t.Must("grant", s.SendEmpty(0))
	return accept()
}

// tokenOnce: a message of many fragments takes a token away with one of them.
func tokenOnce(t *T, s *Stream, accept func() transport.Conn) {
	c := upTo(t, s, accept)
	r, err := s.Register(t.Context(), 4096, ndk.AllowRemoteWrite)
	t.Must("register", err)
	want := bytes.Repeat([]byte("fragment"), 1000)
	sent := make(chan error, 1)
	go func() { // ends when the peer has taken the message, or with the connection
		sent <- c.Send(t.Context(), &transport.Message{Parts: [][]byte{want}, Invalidate: uint32(r.Token), HasInvalidate: true})
	}()
	var got []byte
	fragments, tokens := 0, 0
	for len(got) < len(want) {
		f, err := s.Fragment(t.Times.React)
		t.Must("fragment", err)
		if f.DataLength == 0 {
			continue
		}
		fragments++
		got = append(got, f.Payload...)
		if f.Invalidated {
			tokens++
			Want(t, "the token", f.Token, r.Token)
		}
	}
	t.Must("send", <-sent)
	t.Check(bytes.Equal(got, want), "another message came")
	t.Check(fragments > 5, "%d fragments", fragments)
	Want(t, "the fragments with a token", tokens, 1)
	t.Check(r.Invalidated(), "the token is alive")
}

// registered registers two buffers of the acceptor.
func registered(t *T, c transport.Conn) (a, b transport.Registration) {
	var err error
	a, err = c.RDMA().Register(t.Context(), make([]byte, 4096), transport.PeerWrites)
	t.Must("register", err)
	b, err = c.RDMA().Register(t.Context(), make([]byte, 4096), transport.PeerWrites)
	t.Must("register", err)
	// The registrations are ordered before what is sent.
	t.Must("send", c.Send(t.Context(), &transport.Message{Parts: [][]byte{[]byte("registered")}}))
	return a, b
}

// lastToken: of the tokens that the fragments of a message invalidate the last
// counts, and all are dead.
func lastToken(t *T, s *Stream, accept func() transport.Conn) {
	c := upTo(t, s, accept)
	a, b := registered(t, c)
	_, err := s.Message(t.Times.React)
	t.Must("registered", err)
	t.Must("wait", s.WaitCredits(3, t.Times.React))
	token := func(r transport.Registration) ndk.Token { return ndk.Token(r.Descriptors()[0].Token) }
	for i, tok := range []ndk.Token{token(a), token(b), 0} {
		h := wire.DataTransfer{CreditsRequested: 10, RemainingDataLength: uint32(16 - 8*i), DataOffset: wire.PayloadOffset, DataLength: 8}
		m := Encode(h, []byte("8 octets"))
		if tok == 0 {
			t.Must("send", s.SendRaw(m))
		} else {
			t.Must("send with invalidate", s.SendInvalidate(m, tok))
		}
		s.Credits--
	}
	m, err := c.Receive(t.Context())
	t.Must("receive", err)
	Want(t, "the message", string(m.Data), "8 octets8 octets8 octets")
	t.Check(m.HasInvalidated, "no token")
	Want(t, "the token", m.Invalidated, uint32(token(b)))
	m.Release()
	t.Must("deregister", b.Deregister(t.Context(), uint32(token(b)), true))
	t.Must("deregister", a.Deregister(t.Context(), 0, false))
	// A message without a token after one with: nothing is left of it.
	t.Must("send", s.SendHeader(s.Header(4, 0), []byte("none")))
	m, err = c.Receive(t.Context())
	t.Must("receive", err)
	t.Check(!m.HasInvalidated, "the token of the message before")
	m.Release()
}

// foreignToken: a message takes a token away that is not that of the request which
// it answers; the owner's Deregister ends the other one itself.
func foreignToken(t *T, s *Stream, accept func() transport.Conn) {
	c := upTo(t, s, accept)
	a, b := registered(t, c)
	_, err := s.Message(t.Times.React)
	t.Must("registered", err)
	t.Must("wait", s.WaitCredits(3, t.Times.React))
	other := b.Descriptors()[0].Token
	mine := wire.Descriptor(a.Descriptors()[0])
	t.Must("a write that is allowed", s.WriteRemote(t.Context(), mine, []byte("data")))
	t.Must("send with invalidate", s.SendInvalidate(Encode(s.Header(4, 0), []byte("next")), ndk.Token(other)))
	m, err := c.Receive(t.Context())
	t.Must("receive", err)
	Want(t, "the token", m.Invalidated, other)
	t.Must("deregister", a.Deregister(t.Context(), m.Invalidated, m.HasInvalidated))
	m.Release()
	_ = s.WriteRemote(t.Context(), mine, []byte("late")) // it fails, or the connection does
	t.EndsAnyhow(s, "a write to memory that was deregistered", t.Times.React)
	_ = b.Deregister(t.Context(), other, true) // the connection is gone
}

// onlyFirstReceive lets the first receive of a QP be posted, the one for the
// Negotiate Request, and no other.
func onlyFirstReceive() func(ndkhook.Call) error {
	posted := make(map[ndkhook.ObjectID]bool)
	return func(c ndkhook.Call) error {
		if c.Func != "Receive" || !c.Post {
			return nil
		}
		if posted[c.Object] {
			return ndk.ErrQueueFull
		}
		posted[c.Object] = true
		return nil
	}
}

// noReceives: an acceptor that can post none says so in its Response.
func noReceives(t *T, s *Stream, _ func() transport.Conn) {
	t.Must("post", s.PostReceives(1, minNegotiateReceive))
	b, _ := Request().AppendBinary(nil)
	t.Must("send", s.SendRaw(b))
	m, err := s.Next(t.Times.React)
	t.Must("Response", err)
	resp, err := wire.ParseNegotiateResponse(m.Data)
	t.Must("Response", err)
	Want(t, "the Response", resp, wire.NegotiateResponse{MinVersion: 0x0100, MaxVersion: 0x0100, Status: insufficientResources})
	t.Ends(s, "after the failure Response", t.Times.React)
}
