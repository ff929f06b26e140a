package client

import "sync/atomic"

// Stats counts what a session did since it began.
type Stats struct {
	// Requests is how many requests were sent, Responses how many final answers
	// came, Cancels how many SMB2 CANCEL were sent.
	Requests, Responses, Cancels uint64
	// CreditWaits counts requests that had to wait for credits; Credits is how
	// many the client holds now, InFlight how many requests have no answer yet.
	CreditWaits       uint64
	Credits, InFlight int
	// RDMAReads and RDMAWrites count READ and WRITE requests that used the
	// channel, RDMABytesRead and RDMABytesWritten the file bytes they moved.
	RDMAReads, RDMAWrites           uint64
	RDMABytesRead, RDMABytesWritten uint64
	// RDMABytesSigned and RDMABytesEncrypted are the parts of those that were
	// protected on the way ([MS-SMB2] 2.2.43).
	RDMABytesSigned, RDMABytesEncrypted uint64
	// InlineReads and InlineWrites count READ and WRITE requests whose file
	// bytes were in messages, InlineBytesRead and InlineBytesWritten those bytes.
	InlineReads, InlineWrites           uint64
	InlineBytesRead, InlineBytesWritten uint64
	// RDMADeclined counts the inline requests that were long enough for RDMA on a
	// connection that has it, but whose session or share signs or encrypts, and the
	// server has no RDMA transform for that.
	RDMADeclined uint64
	// BytesCopied counts file bytes that were copied from one buffer in user space
	// to another: those that came inline, but for what the transport could receive where
	// it belongs (of long READs over TCP nearly all), those of small requests that were
	// sent together with others, those that were encrypted inline, and of
	// RDMA (where encryption is on the way and needs no copy) what the transport says it copied, which is nothing unless CRCs or markers
	// are on, or FPDUs are cut to the segments of an Ethernet.
	BytesCopied uint64
	// Reauthentications counts renewals of an expired session.
	Reauthentications uint64
	// Bindings counts channels that were added to the session, Failovers those that
	// were lost while another lived on, and Replays the requests that were sent
	// again because of that.
	Bindings, Failovers, Replays uint64
	// Reconnects counts how often the session was made anew after its last connection
	// was lost.
	Reconnects uint64
}

// Stats may be called at any time, also after Close. It covers all channels, also
// those that are no more.
func (s *Session) Stats() Stats {
	s.chanMu.Lock()
	defer s.chanMu.Unlock()
	t := s.past
	set := s.set.Load()
	for _, c := range set.all {
		st := c.stats()
		t.add(&st)
	}
	for _, c := range s.dead {
		st := c.stats()
		t.add(&st)
	}
	n := &s.counters
	t.Reauthentications, t.Bindings = n.reauths.Load(), n.bindings.Load()
	t.Reconnects = n.reconnects.Load()
	t.Failovers, t.Replays = n.failovers.Load(), n.replays.Load()
	return t
}

// add adds the figures of another connection.
func (s *Stats) add(o *Stats) {
	s.Requests += o.Requests
	s.Responses += o.Responses
	s.Cancels += o.Cancels
	s.CreditWaits += o.CreditWaits
	s.Credits += o.Credits
	s.InFlight += o.InFlight
	s.RDMAReads += o.RDMAReads
	s.RDMAWrites += o.RDMAWrites
	s.RDMABytesRead += o.RDMABytesRead
	s.RDMABytesWritten += o.RDMABytesWritten
	s.RDMABytesSigned += o.RDMABytesSigned
	s.RDMABytesEncrypted += o.RDMABytesEncrypted
	s.InlineReads += o.InlineReads
	s.InlineWrites += o.InlineWrites
	s.InlineBytesRead += o.InlineBytesRead
	s.InlineBytesWritten += o.InlineBytesWritten
	s.RDMADeclined += o.RDMADeclined
	s.BytesCopied += o.BytesCopied
}

// counters are what Stats reports.
type counters struct {
	requests, responses, cancels, creditWaits         atomic.Uint64
	rdmaReads, rdmaWrites, rdmaRead, rdmaWritten      atomic.Uint64
	inlineReads, inlineWrites, inlineRead, inlineWrit atomic.Uint64
	declined, copied, rdmaSigned, rdmaEncrypted       atomic.Uint64
}

func (c *conn) stats() Stats {
	n := &c.counters
	s := Stats{
		Requests: n.requests.Load(), Responses: n.responses.Load(), Cancels: n.cancels.Load(),
		CreditWaits: n.creditWaits.Load(),
		RDMAReads:   n.rdmaReads.Load(), RDMAWrites: n.rdmaWrites.Load(),
		RDMABytesRead: n.rdmaRead.Load(), RDMABytesWritten: n.rdmaWritten.Load(),
		RDMABytesSigned: n.rdmaSigned.Load(), RDMABytesEncrypted: n.rdmaEncrypted.Load(),
		InlineReads: n.inlineReads.Load(), InlineWrites: n.inlineWrites.Load(),
		InlineBytesRead: n.inlineRead.Load(), InlineBytesWritten: n.inlineWrit.Load(),
		RDMADeclined: n.declined.Load(), BytesCopied: n.copied.Load() + c.tr.Stats().BytesCopied,
	}
	c.mu.Lock()
	s.Credits, s.InFlight = c.credits, len(c.pending)
	c.mu.Unlock()
	return s
}
