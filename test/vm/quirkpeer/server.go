package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/test/vm/way"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// keepTokens: a server that answers with plain Sends.
func keepTokens(ctx context.Context, o options, out io.Writer) error {
	fs, err := posix.New(o.dir, posix.Config{})
	if err != nil {
		return err
	}
	defer fs.Close()
	users := server.UserMap{}
	c := o.config()
	users.Add(c.User, c.Password)
	srv, err := server.New(server.Config{Users: users, Shares: []server.Share{{Name: o.share, FS: fs}}})
	if err != nil {
		return err
	}
	p, err := way.Provider(o.provider)
	if err != nil {
		return err
	}
	l, err := smbdirect.Listen(ctx, p, o.provider, net.JoinHostPort(o.host, strconv.Itoa(o.port)), smbdirect.Config{})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { // ends with the listener; done waits for it
		defer close(done)
		_ = srv.Serve(context.Background(), plainListener{l})
	}()
	fmt.Fprintln(out, "ready")
	<-ctx.Done()
	l.Close()
	srv.Close()
	<-done
	st := srv.Stats()
	fmt.Fprintf(out, "rdma_read_bytes=%d rdma_write_bytes=%d\n", st.ReadRDMA, st.WriteRDMA)
	return nil
}

type plainListener struct{ transport.Listener }

// Accept implements transport.Listener.
func (l plainListener) Accept(ctx context.Context) (transport.Conn, error) {
	c, err := l.Listener.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return plainConn{c}, nil
}

type plainConn struct{ transport.Conn }

// Send implements transport.Conn.
func (c plainConn) Send(ctx context.Context, m *transport.Message) error {
	plain := *m
	plain.HasInvalidate = false
	return c.Conn.Send(ctx, &plain)
}

// manyCredits: an acceptor that asks for 1000 credits in its response and in each
// message. It answers each empty message of cifs.ko with a grant of one credit, and
// counts how long that goes on; then it asks for 255.
func manyCredits(ctx context.Context, o options, out io.Writer) error {
	p, err := way.Provider(o.provider)
	if err != nil {
		return err
	}
	host, err := netip.ParseAddr(o.host)
	if err != nil {
		return err
	}
	a, err := p.Open(ctx, host, ndk.Version21)
	if err != nil {
		return err
	}
	defer a.Close()
	l, err := smbdtest.ListenPeer(ctx, a, netip.AddrPortFrom(host, uint16(o.port)))
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Fprintln(out, "ready")
	for _, requested := range []uint16{255, 1000} {
		peer, err := l.Accept(ctx, smbdtest.PeerConfig{}, func(p *smbdtest.Peer) error { return p.PostReceives(300, 2048) })
		if err != nil {
			return err
		}
		empties, err := bounce(peer, requested)
		peer.Close()
		if err != nil {
			return fmt.Errorf("asked for %d: %w", requested, err)
		}
		fmt.Fprintf(out, "asked for %d credits: %d empty messages answered %d of ours\n", requested, empties, bounces)
	}
	return nil
}

// bounces is after how many messages of ours it is plain that it goes on for ever.
const bounces = 100

// bounce negotiates and returns how many empty messages came for bounces of ours.
func bounce(p *smbdtest.Peer, requested uint16) (int, error) {
	if _, err := p.Next(10 * time.Second); err != nil {
		return 0, err
	}
	r, _ := wire.NegotiateResponse{MinVersion: wire.Version, MaxVersion: wire.Version, NegotiatedVersion: wire.Version,
		CreditsRequested: requested, CreditsGranted: 255, MaxReadWriteSize: 1 << 20, PreferredSendSize: 1364,
		MaxReceiveSize: 1364, MaxFragmentedSize: 1 << 20}.AppendBinary(nil)
	if err := p.SendRaw(r); err != nil {
		return 0, err
	}
	// What it sends by itself: its first grant and the SMB2 NEGOTIATE.
	granted := 0
	for {
		m, err := p.Next(2 * time.Second)
		if err != nil {
			break
		}
		h, err := wire.ParseDataTransfer(m.Data)
		if err != nil {
			return 0, err
		}
		granted += int(h.CreditsGranted)
	}
	if granted == 0 {
		return 0, fmt.Errorf("it granted nothing")
	}
	empties := 0
	for range bounces {
		if err := p.PostReceives(1, 2048); err != nil {
			return empties, err
		}
		if err := p.SendRaw(smbdtest.Encode(wire.DataTransfer{CreditsRequested: requested, CreditsGranted: 1}, nil)); err != nil {
			return empties, err
		}
		m, err := p.Next(time.Second)
		if err != nil {
			break // silence: it does not answer
		}
		if h, err := wire.ParseDataTransfer(m.Data); err == nil && h.DataLength == 0 {
			empties++
		}
	}
	return empties, nil
}
