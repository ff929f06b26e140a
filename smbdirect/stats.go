package smbdirect

import (
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// counters are written by the owner before it tells who waits for what is counted.
type counters struct {
	sent, received, sentBytes, receivedBytes atomic.Uint64
	written, read, fromFile                  atomic.Uint64
}

// tally is what the owner counts for itself and shows once a turn, which costs a
// message less than atomic counters would.
type tally struct {
	sends, receives                uint64
	granted, gained                uint64 // credits
	writes, reads                  uint64
	registered                     uint64
	byPeer, byUs                   uint64 // invalidations
	keepalivesSent, keepalivesRecv uint64
	out                            int // RDMA operations posted and not completed
	sendCredits, receiveCredits    core.Credits
	stalls                         core.Stalls
}

// publish shows the tally.
func (c *Conn) publish() {
	c.sum()
	c.mu.Lock()
	c.tally = c.l.tally
	c.mu.Unlock()
}

// sum completes the tally by what the engine knows.
func (c *Conn) sum() {
	l := &c.l
	t := &l.tally
	t.out = l.transfersOut()
	t.sendCredits, t.receiveCredits = l.eng.Credits()
	t.stalls = l.eng.Stalls()
	if s := &t.stalls; l.dead && s.Since != 0 {
		// The end of the connection is the end of the wait.
		d := l.deadAt - s.Since
		s.Total, s.Longest, s.Since = s.Total+d, max(s.Longest, d), 0
	}
}

// Stats implements transport.Conn. What concerns neither messages nor bytes may
// lag behind by as much as the owner does at a time.
func (c *Conn) Stats() transport.Stats {
	s := &c.stats
	c.mu.Lock()
	t := c.tally
	c.mu.Unlock()
	st := transport.Stats{
		MessagesSent:       s.sent.Load(),
		MessagesReceived:   s.received.Load(),
		BytesSent:          s.sentBytes.Load(),
		BytesReceived:      s.receivedBytes.Load(),
		RDMABytesWritten:   s.written.Load(),
		RDMABytesRead:      s.read.Load(),
		RDMABytesFromFile:  s.fromFile.Load(),
		RDMAWrites:         t.writes,
		RDMAReads:          t.reads,
		RDMAOutstanding:    t.out,
		Registrations:      c.regs.count(),
		RegistrationsMade:  t.registered + c.regs.slow.Load(),
		LeasedBuffers:      int(c.leased.Load()),
		InvalidatedByPeer:  t.byPeer,
		InvalidatedLocally: t.byUs + c.regs.ended.Load(),
		Sends:              t.sends,
		Receives:           t.receives,
		CreditsGranted:     t.granted,
		CreditsReceived:    t.gained,
		CreditStalls:       t.stalls.Count,
		CreditStallTime:    t.stalls.Total,
		LongestCreditStall: t.stalls.Longest,
		SendCredits:        int(t.sendCredits),
		ReceiveCredits:     int(t.receiveCredits),
		KeepalivesSent:     t.keepalivesSent,
		KeepalivesReceived: t.keepalivesRecv,
	}
	if t.stalls.Since != 0 {
		d := max(c.now()-t.stalls.Since, 0)
		st.CreditStallTime += d
		st.LongestCreditStall = max(st.LongestCreditStall, d)
	}
	if c.copies != nil {
		st.BytesCopied = c.copies.BytesCopied()
	}
	if c.peers != nil {
		st.PeerBytesWritten, st.PeerBytesRead = c.peers.PeerBytes()
		st.PeerBytesKnown = true
	}
	return st
}

// now is the time of the engine and the recorder.
func (c *Conn) now() time.Duration { return time.Since(c.start) + time.Nanosecond }
