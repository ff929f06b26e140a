package main

var (
	engine = []string{"./smbdirect/core", "./fuzz/..."}
	whole  = []string{"./smbdirect", "./smbdirect/smbdtest"}
)

// mutations are named by what is wrong then.
var mutations = []mutation{
	{
		name: "a credit too many is taken over", rule: "SD-76", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "e.gain(Credits(h.CreditsGranted))",
		new: "e.gain(Credits(h.CreditsGranted) + 1)",
	},
	{
		name: "a credit of the peer's is lost", rule: "SD-76", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "e.gain(Credits(h.CreditsGranted))",
		new: "e.gain(Credits(max(h.CreditsGranted, 1) - 1))",
	},
	{
		name: "a send costs no credit", rule: "SD-41", file: "smbdirect/core/send.go", pkgs: engine,
		old: "	c.SendCredits--\n", new: "",
	},
	{
		name: "sending goes on without credits", rule: "SD-41, SD-84", file: "smbdirect/core/send.go", pkgs: engine,
		old: "if !e.wants() || e.conn.SendCredits == 0 {", new: "if !e.wants() {",
	},
	{
		name: "one credit more than posted is granted", rule: "SD-45, SD-82", file: "smbdirect/core/send.go", pkgs: engine,
		old: "CreditsGranted:   uint16(c.NewCredits),", new: "CreditsGranted:   uint16(c.NewCredits + 1),",
	},
	{
		name: "the grant goes out before the receives are posted", rule: "SD-82", file: "smbdirect/core/send.go", pkgs: engine,
		old: "			e.posting = n\n			e.act(",
		new: "			e.posting = n\n			e.conn.NewCredits += n\n			e.sendOne(now)\n			e.conn.NewCredits = 0\n			e.act(",
	},
	{
		name: "a grant is made again with the next message", rule: "SD-45", file: "smbdirect/core/send.go", pkgs: engine,
		old: "	c.NewCredits = 0\n	c.SendImmediate = false", new: "	c.SendImmediate = false",
	},
	{
		name: "the last credit goes without a grant", rule: "SD-42", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "	if c.SendCredits == 1 && c.NewCredits == 0 {\n		return false\n", new: "	if false {\n		return false\n",
	},
	{
		name: "no receive is spared for the last credit", rule: "SD-80", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "		return max - 1\n", new: "		return max\n",
	},
	{
		name: "the last credit is not provided for", rule: "SD-80", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "waits && c.SendCredits == 1 &&", new: "waits && c.SendCredits == 0 &&",
	},
	{
		name: "more than ReceiveCreditMax is posted", rule: "SD-81", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "return min(e.conn.ReceiveCreditTarget, grantLimit(e.conn.ReceiveCreditMax))",
		new: "return e.conn.ReceiveCreditTarget",
	},
	{
		name: "the target of the first message is kept", rule: "SD-75", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "	c.ReceiveCreditTarget = Credits(h.CreditsRequested)\n", new: "",
	},
	{
		name: "an empty message is answered with a grant each time", rule: "SD-74", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "return left <= 1 && t >= 3, false", new: "return true, false",
	},
	{
		name: "no grant when the peer has run dry", rule: "SD-74, SD-80", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "	case left == 0 && (payload || t > 1):\n		return true, false\n	case left == 0:\n		return false, true\n",
		new: "	case left == 0:\n		return false, false\n",
	},
	{
		name: "cifs.ko is told of transfers that fit in no message", rule: "quirk 3", file: "smbdirect/core/negotiate.go", pkgs: engine,
		old: "if e.profile.TransfersFitMessages {", new: "if false {",
	},
	{
		name: "where it encrypts, of transfers that do not fit in one to it", rule: "quirk 3", file: "smbdirect/core/negotiate.go", pkgs: engine,
		old: "if e.cfg.InlineData {", new: "if false {",
	},
	{
		name: "an adapter that refused receives is not asked again", rule: "SD-81", file: "smbdirect/core/engine.go", pkgs: engine,
		old: "			e.retryAt = now + e.retryDelay\n", new: "",
	},
	{
		name: "a spare receive that was refused is not asked for again", rule: "SD-80", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "e.conn.ReceiveCreditMax, e.spareless = limit, false", new: "e.conn.ReceiveCreditMax = limit",
	},
	{
		name: "the peer does not hear of credits that were refused before", rule: "SD-81", file: "smbdirect/core/engine.go", pkgs: engine,
		old: "e.grantWanted = e.grantWanted || left == 0 || all && left <= e.target()/2", new: "e.grantWanted = e.grantWanted || left == 0 && !all",
	},
	{
		name: "credits go on while the application is behind", rule: "backlog", file: "smbdirect/core/credits.go", pkgs: engine,
		old: "c.ReceiveCredits < t && !e.held {", new: "c.ReceiveCredits < t {",
	},
	{
		name: "a message without a credit is accepted", rule: "SD-41", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "	case e.granted() == 0:", new: "	case false:",
	},
	{
		name: "CreditsRequested of 0 is accepted", rule: "SD-60", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "	case h.CreditsRequested == 0:", new: "	case false:",
	},
	{
		name: "the alignment of DataOffset is not looked at", rule: "SD-62", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "	case !h.Aligned():", new: "	case false:",
	},
	{
		name: "DataOffset + DataLength wraps at 32 bits", rule: "SD-63", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "	case h.End() > uint64(len(msg)):", new: "	case uint64(uint32(h.End())) > uint64(len(msg)):",
	},
	{
		name: "MaxFragmentedRecvSize is not enforced", rule: "SD-65", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "	case h.MessageLength() > uint64(c.MaxFragmentedRecvSize):", new: "	case false:",
	},
	{
		name: "RemainingDataLength of later fragments is not checked", rule: "SD-68, SD-69", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "if h.RemainingDataLength != missing-h.DataLength {", new: "if false {",
	},
	{
		name: "an octet of a reassembled message is lost", rule: "SD-77", file: "smbdirect/core/receive.go", pkgs: append(engine[:1:1], whole...),
		old: "d = Delivery{Fragment: payload, Offset: e.reassembly, Total: e.total}",
		new: "d = Delivery{Fragment: payload[min(1, e.reassembly):], Offset: e.reassembly, Total: e.total}",
	},
	{
		name: "an empty message ends a reassembly", rule: "SD-71", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "		return d, false // control only; also between fragments\n",
		new: "		e.inMessage, c.FragmentReassemblyRemaining = false, 0\n		return d, false\n",
	},
	{
		name: "the token of the first fragment wins", rule: "SD-78", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "	if has {\n", new: "	if has && !c.HasInvalidatedToken {\n",
	},
	{
		name: "a token is reported again with the next message", rule: "SD-77", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "		c.InvalidatedToken, c.HasInvalidatedToken = 0, false\n", new: "",
	},
	{
		name: "RemainingDataLength counts this fragment too", rule: "SD-47", file: "smbdirect/core/send.go", pkgs: engine,
		old: "a.Header.RemainingDataLength = m.len - m.off", new: "a.Header.RemainingDataLength = m.len - a.Offset",
	},
	{
		name: "a fragment is longer than the peer receives", rule: "SD-46", file: "smbdirect/core/negotiate.go", pkgs: engine,
		old: "	c.MaxSendSize = min(c.MaxSendSize, maxReceive)\n", new: "",
	},
	{
		name: "a message longer than the peer's MaxFragmentedSize is sent", rule: "SD-40", file: "smbdirect/core/engine.go", pkgs: engine,
		old: "if n == 0 || n > e.conn.MaxFragmentedSendSize {", new: "if n == 0 {",
	},
	{
		name: "the token goes with the first fragment", rule: "SD-49", file: "smbdirect/core/send.go", pkgs: engine,
		old: "		if m.off == m.len {\n			a.Last = true\n			a.Invalidate, a.HasInvalidate = m.token, m.hasToken\n",
		new: "		a.Invalidate, a.HasInvalidate = m.token, m.hasToken && a.Offset == 0\n		if m.off == m.len {\n			a.Last = true\n",
	},
	{
		name: "no keepalive probe", rule: "SD-91", file: "smbdirect/core/timer.go", pkgs: engine,
		old: "		e.conn.KeepaliveRequested = Pending\n", new: "",
	},
	{
		name: "a silent peer is kept", rule: "SD-93", file: "smbdirect/core/timer.go", pkgs: engine,
		old: "if e.conn.KeepaliveRequested != None {", new: "if false {",
	},
	{
		name: "the probe does not ask for an answer", rule: "SD-91", file: "smbdirect/core/send.go", pkgs: engine,
		old: "		a.Header.Flags = wire.FlagResponseRequested\n", new: "",
	},
	{
		name: "the answer to a probe asks for another", rule: "SD-95", file: "smbdirect/core/send.go", pkgs: engine,
		old: "	c.SendImmediate = false\n", new: "	if c.SendImmediate {\n		a.Header.Flags = wire.FlagResponseRequested\n	}\n	c.SendImmediate = false\n",
	},
	{
		name: "a probe is not answered", rule: "SD-94", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "if h.Flags&wire.FlagResponseRequested != 0 {", new: "if false {",
	},
	{
		name: "what arrives does not count as an answer", rule: "SD-90", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "		e.conn.KeepaliveRequested = None\n", new: "",
	},
	{
		name: "what arrives does not restart the idle timer", rule: "SD-90", file: "smbdirect/core/receive.go", pkgs: engine,
		old: "		e.idleAt = now + e.conn.KeepaliveInterval\n", new: "",
	},
	{
		name: "no limit for the negotiation", rule: "SD-12", file: "smbdirect/core/engine.go", pkgs: engine,
		old: "	e.negotiateAt = now + e.cfg.NegotiateTimeout\n", new: "",
	},
	{
		name: "no limit for the wait for credits", rule: "SD-85", file: "smbdirect/core/send.go", pkgs: engine,
		old: "		e.creditAt = now + e.cfg.CreditTimeout\n", new: "		e.creditAt = 0\n",
	},
	{
		name: "a refused version gets no answer", rule: "SD-24", file: "smbdirect/core/negotiate.go", pkgs: engine,
		old: "	e.act(Action{Kind: Terminate, Err: err, Graceful: true})\n", new: "	e.actions = e.actions[:0]\n	e.act(Action{Kind: Terminate, Err: err, Graceful: true})\n",
	},
	{
		name: "the receive size has no floor", rule: "SD-21", file: "smbdirect/core/negotiate.go", pkgs: engine,
		old: "max(MinMessageSize, min(c.MaxReceiveSize, preferredSend))", new: "min(c.MaxReceiveSize, preferredSend)",
	},
	{
		name: "the Status of a Response is not looked at", rule: "SD-36", file: "smbdirect/core/negotiate.go", pkgs: engine,
		old: "	case r.Status != 0:", new: "	case false:",
	},
	{
		name: "the initiator never makes its first grant", rule: "SD-38", file: "smbdirect/core/negotiate.go", pkgs: engine,
		old: "		e.grantAt = now + e.cfg.GrantDelay\n", new: "",
	},
	{
		name: "a receive is not posted again", rule: "SD-73", file: "smbdirect/loop.go", pkgs: whole,
		old: "		l.recvFree = append(l.recvFree, s.index)\n", new: "",
	},
	{
		name: "an invalidation by the peer is not noted", rule: "SD-109", file: "smbdirect/register.go", pkgs: whole,
		old: "		p.dead = true\n", new: "",
	},
	{
		name: "a token that is alive is not invalidated", rule: "SD-102, SD-110", file: "smbdirect/register.go", pkgs: whole,
		old: "	if alive && g.fast {\n", new: "	if false {\n",
	},
	{
		name: "a transfer may be longer than its descriptors", rule: "SD-104", file: "smbdirect/rdma.go", pkgs: whole,
		old: "sum-at < uint64(n) {", new: "sum-at < 1 {",
	},
	{
		name: "a Read is posted where the peer allows none", rule: "SD-113", file: "smbdirect/rdma.go", pkgs: whole,
		old: "	if s.c.readLimit == 0 {\n", new: "	if false {\n",
	},
	{
		name: "waiting callers are not told of the end", rule: "SD-114", file: "smbdirect/loop.go", pkgs: whole,
		old: "{&l.flushed, &l.waiting, &l.sends, &l.writes, &l.reads, &l.regs}", new: "{&l.flushed, &l.waiting}",
	},
	{
		name: "what others left is not looked at before the owner leaves", rule: "drive", file: "smbdirect/drive.go", pkgs: whole,
		old: "if l.armed && len(c.inbox) == 0 && !resumed &&", new: "if l.armed && !resumed &&",
	},
	{
		name: "nobody goes on where an owner is out of rounds", rule: "drive", file: "smbdirect/drive.go", pkgs: whole,
		old: "		c.mu.Unlock()\n		c.wakeRun()\n", new: "		c.mu.Unlock()\n",
	},
	{
		name: "a request overtakes those that an owner left", rule: "drive", file: "smbdirect/drive.go", pkgs: whole,
		old: "len(c.inbox) > 0\n", new: "false\n",
	},
	{
		name: "credits are not granted again when the application has caught up", rule: "backlog", file: "smbdirect/drive.go", pkgs: whole,
		old: "resumed := l.holding && !c.resume", new: "resumed := false",
	},
	{
		name: "what came before the end is not delivered", rule: "SD-114", file: "smbdirect/drive.go", pkgs: whole,
		old: "for c.poll() > 0 && !l.dead {", new: "for false {",
	},
}
