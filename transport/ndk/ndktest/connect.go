package ndktest

import (
	"bytes"
	"context"
	"net/netip"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

var connectTests = []test{
	{"NDK_FN_CONNECT/addresses", func(t *T) {
		s, p := t.Connected()
		sl, err := s.C.LocalAddr()
		s.must(err)
		pp, err := p.C.PeerAddr()
		s.must(err)
		if sl != pp || sl.Port() < 49152 {
			t.Errorf("local %v, seen by the peer as %v; want equal, with a port from 49152 up", sl, pp)
		}
		sp, _ := s.C.PeerAddr()
		pl, _ := p.C.LocalAddr()
		if sp != pl {
			t.Errorf("peer %v, local there %v", sp, pl)
		}
		idle, err := s.A.CreateConnector(s.ctx)
		s.must(err)
		_, err = idle.LocalAddr()
		s.want(err, ntstatus.ConnectionInvalid, "LocalAddr of an idle connector")
		_, err = idle.PeerAddr()
		s.want(err, ntstatus.ConnectionInvalid, "PeerAddr of an idle connector")
		idle.Close()
	}},
	{"NDK_FN_CONNECT/nobody listens", func(t *T) {
		s, p := t.Pair()
		l, addr, _ := p.listen()
		l.Close()
		p.must(ndk.CloseWait(p.ctx, l))
		k, err := s.A.CreateConnector(s.ctx)
		s.must(err)
		s.want(k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits), ntstatus.ConnectionRefused, "Connect")
		s.want(k.CompleteConnect(s.ctx, nil), ntstatus.ConnectionInvalid, "CompleteConnect after a failure")
		k.Close()
		s.must(s.QP.Receive("r", nil)) // a failed attempt leaves the QP as it was
	}},
	{"NDK_FN_CONNECT/a context that ends", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		k, err := s.A.CreateConnector(s.ctx)
		s.must(err)
		ctx, cancel := context.WithCancel(s.ctx)
		go func() { // ends with the event, or the test's patience
			select {
			case r := <-got:
				cancel()
				r.Close()
			case <-s.ctx.Done():
			}
		}()
		err = k.Connect(ctx, s.QP, netip.AddrPort{}, addr, limits)
		if st := ndk.StatusOf(err); st != ntstatus.Cancelled && st != ntstatus.ConnectionRefused {
			t.Errorf("Connect: %v", err)
		}
		cancel()
		k.Close()
	}},
	{"NDK_FN_GET_CONNECTION_DATA/private data and limits", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		var err error
		s.C, err = s.A.CreateConnector(s.ctx)
		s.must(err)
		hello, answer := bytes.Repeat([]byte{1}, min(s.Info.MaxCallerData, 56)), bytes.Repeat([]byte{2}, min(p.Info.MaxCalleeData, 56))
		res := make(chan error, 1)
		go func() { // ends with Connect
			res <- s.C.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, ndk.ConnParams{InboundReadLimit: 7, OutboundReadLimit: 3, Private: hello})
		}()
		p.C = <-got
		check := func(s *Side, want []byte) ndk.ConnData {
			d, err := s.C.ConnectionData(nil)
			s.must(err)
			if d.RequiredDataSize < len(want) {
				t.Fatalf("%d bytes of private data, want %d", d.RequiredDataSize, len(want))
			}
			_, err = s.C.ConnectionData(make([]byte, 3))
			s.want(err, ntstatus.BufferTooSmall, "a buffer of 3")
			b := make([]byte, d.RequiredDataSize)
			_, err = s.C.ConnectionData(b)
			s.must(err)
			if !bytes.Equal(b[:len(want)], want) || len(bytes.Trim(b[len(want):], "\x00")) > 0 {
				t.Errorf("private data %x, want %x", b, want)
			}
			return d
		}
		d := check(p, hello)
		if d.InboundReadLimit != 3 || d.OutboundReadLimit != 7 {
			t.Errorf("the request shows limits %d in, %d out; want 3 and 7", d.InboundReadLimit, d.OutboundReadLimit)
		}
		p.want(p.C.Accept(p.ctx, p.QP, ndk.ConnParams{Private: make([]byte, p.Info.MaxCalleeData+1)}, nil), ntstatus.InvalidBufferSize, "too much private data")
		acc := make(chan error, 1)
		go func() { // ends with Accept
			acc <- p.C.Accept(p.ctx, p.QP, ndk.ConnParams{InboundReadLimit: 2, OutboundReadLimit: 20, Private: answer}, nil)
		}()
		s.must(<-res)
		d = check(s, answer)
		if d.InboundReadLimit != 7 || d.OutboundReadLimit != 2 {
			t.Errorf("the reply shows limits %d in, %d out; want 7 and 2", d.InboundReadLimit, d.OutboundReadLimit)
		}
		s.want(s.QP.Send("s", nil, 0), ntstatus.ConnectionInvalid, "Send before CompleteConnect")
		s.must(s.C.CompleteConnect(s.ctx, nil))
		s.must(<-acc)
		_, err = s.C.ConnectionData(nil)
		s.want(err, ntstatus.InvalidDeviceState, "ConnectionData after CompleteConnect")
		_, err = p.C.ConnectionData(nil)
		p.want(err, ntstatus.InvalidDeviceState, "ConnectionData after Accept")
		s.want(s.C.CompleteConnect(s.ctx, nil), ntstatus.ConnectionInvalid, "CompleteConnect twice")
		k, err := s.A.CreateConnector(s.ctx)
		s.must(err)
		s.want(k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits), ntstatus.ConnectionActive, "Connect of a connected QP")
		k.Close()
		k, err = s.A.CreateConnector(s.ctx)
		s.must(err)
		s.want(k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, ndk.ConnParams{Private: make([]byte, s.Info.MaxCallerData+1)}), ntstatus.InvalidBufferSize, "too much private data")
		k.Close()
	}},
	{"NDK_FN_REJECT/passive", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		k, err := s.A.CreateConnector(s.ctx)
		s.must(err)
		res := make(chan error, 1)
		go func() { res <- k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
		r := <-got
		p.want(r.Reject(make([]byte, p.Info.MaxCalleeData+1)), ntstatus.InvalidBufferSize, "too much private data")
		p.must(r.Reject([]byte("no room")))
		p.want(r.Accept(p.ctx, p.QP, limits, nil), ntstatus.InvalidDeviceState, "Accept after Reject")
		s.want(<-res, ntstatus.ConnectionRefused, "Connect")
		b := make([]byte, 256)
		if _, err := k.ConnectionData(b); err != nil || !bytes.HasPrefix(b, []byte("no room")) {
			t.Errorf("private data of the reject: %q, %v", b[:7], err)
		}
		r.Close()
		k.Close()
	}},
	{"NDK_FN_REJECT/active", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		var err error
		s.C, err = s.A.CreateConnector(s.ctx)
		s.must(err)
		acc := make(chan error, 1)
		go func() { // ends with Accept
			if p.C = p.take(got); p.C == nil {
				return
			}
			acc <- p.C.AcceptEx(p.ctx, p.QP, limits, func(r uint32) { p.Lost <- r })
		}()
		s.must(s.C.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits))
		s.must(s.C.Reject(nil))
		s.want(s.C.CompleteConnect(s.ctx, nil), ntstatus.ConnectionInvalid, "CompleteConnect after Reject")
		if err := <-acc; err == nil {
			p.lost()
		} else {
			p.want(err, ntstatus.ConnectionAborted, "Accept")
		}
	}},
	{"NDK_FN_CONNECT_EVENT_CALLBACK/closed without an answer", func(t *T) {
		s, p := t.Pair()
		_, addr, got := p.listen()
		k, err := s.A.CreateConnector(s.ctx)
		s.must(err)
		res := make(chan error, 1)
		go func() { res <- k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
		(<-got).Close()
		s.want(<-res, ntstatus.ConnectionRefused, "Connect")
		k.Close()
	}},
	{"NDK_FN_LISTEN/states", func(t *T) {
		_, p := t.Pair()
		l, addr, _ := p.listen()
		if addr.Port() < 49152 {
			t.Errorf("port %d, want one from 49152 up", addr.Port())
		}
		p.want(l.Listen(p.ctx, addr), ntstatus.InvalidDeviceState, "Listen twice")
		o, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) { c.Close() })
		p.must(err)
		_, err = o.LocalAddr()
		p.want(err, ntstatus.InvalidDeviceState, "LocalAddr before Listen")
		p.want(o.Listen(p.ctx, addr), ntstatus.SharingViolation, "an address in use")
		p.want(o.Listen(p.ctx, netip.MustParseAddrPort("192.0.2.1:0")), ntstatus.InvalidAddress, "an address of somebody else")
		o.Close()
	}},
	{"NDK_FN_CONTROL_CONNECT_EVENTS/pause", func(t *T) {
		s, p := t.Pair()
		l, addr, got := p.listen()
		try := func(want ndk.Status, what string) {
			t.Helper()
			k, err := s.A.CreateConnector(s.ctx)
			s.must(err)
			res := make(chan error, 1)
			go func() { res <- k.Connect(s.ctx, s.QP, netip.AddrPort{}, addr, limits) }() // ends with Connect
			select {
			case err = <-res:
				s.want(err, ntstatus.ConnectionRefused, what)
				if want == ntstatus.Success {
					t.Errorf("%s: refused", what)
				}
			case r := <-got:
				if want != ntstatus.Success {
					t.Errorf("%s: a connect event", what)
				}
				_ = r.Reject(nil)
				r.Close()
				<-res
			}
			k.Close()
		}
		try(ntstatus.Success, "at first")
		for range 3 {
			l.ControlConnectEvents(true)
			l.ControlConnectEvents(true)
			try(ntstatus.ConnectionRefused, "paused")
			o, err := p.A.CreateListener(p.ctx, func(c ndk.Connector) { c.Close() })
			p.must(err)
			p.want(o.Listen(p.ctx, addr), ntstatus.SharingViolation, "the port of a paused listener")
			o.Close()
			l.ControlConnectEvents(false)
			l.ControlConnectEvents(false)
			try(ntstatus.Success, "restarted")
		}
	}},
	{"NDK_FN_DISCONNECT/graceful", func(t *T) {
		s, p := t.Connected()
		s.must(s.QP.Receive("sr", nil))
		p.must(p.QP.Receive("pr1", []ndk.SGE{p.SGE(0, 8)}))
		p.must(p.QP.Receive("pr2", nil))
		s.must(s.QP.Send("s", []ndk.SGE{s.SGE(0, 8)}, 0))
		s.must(s.C.Disconnect(s.ctx))
		s.expect(s.Done(), "s", ntstatus.Success, ndk.OpSend)
		s.expect(s.Received(), "sr", ntstatus.Cancelled, ndk.OpReceive)
		s.want(s.C.Disconnect(s.ctx), ntstatus.ConnectionInvalid, "Disconnect twice")
		s.want(s.QP.Send("s", nil, 0), ntstatus.ConnectionInvalid, "Send afterwards")
		if r := p.lost(); r != 0 {
			t.Errorf("reason %#x of a graceful end, want 0", r)
		}
		p.expect(p.Received(), "pr1", ntstatus.Success, ndk.OpReceive)
		var r [1]ndk.ResultEx
		if p.RCQ.PollEx(r[:]) != 0 {
			t.Errorf("the event alone flushed %v", r[0].RequestContext)
		}
		p.must(p.C.Disconnect(p.ctx))
		p.expect(p.Received(), "pr2", ntstatus.Cancelled, ndk.OpReceive)
		select {
		case <-s.Lost:
			t.Error("a disconnect event for one's own Disconnect")
		default:
		}
	}},
	{"NDK_FN_DISCONNECT_EVENT_CALLBACK/peer closes", func(t *T) {
		s, p := t.Connected()
		p.must(p.QP.Receive("r", nil))
		s.C.Close()
		p.lost()
		p.QP.Flush()
		p.expect(p.Received(), "r", ntstatus.Cancelled, ndk.OpReceive)
	}},
}
