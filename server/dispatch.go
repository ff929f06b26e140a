package server

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// command is how a command is served. NEGOTIATE and CANCEL are served by the
// receive goroutine and are not in the table.
type command struct {
	serve   handler
	session bool // needs a session, 3.3.5.2.9
	tree    bool // needs a tree connect, 3.3.5.2.11
	file    bool // has a FileId
	large   bool // may be longer than maxSmallRequest
	slow    bool // takes its time as a rule: somebody else receives from its beginning on
	quick   bool // done, or waiting for others, sooner than a worker is woken up
	tells   bool // calls mayWait where it would wait for storage
	changes bool // may change what watches are about
}

// command is what the table says of the request's; nothing of those that are not in it.
func (r *request) command() command {
	if r.unknown {
		return command{}
	}
	return commandTable[r.hdr.Command]
}

// commandTable is filled by init: handlers refer to it through the chain.
var commandTable [commandCount]command

func init() {
	commandTable = [commandCount]command{
		smb2.CommandSessionSetup:   {serve: sessionSetup, slow: true},
		smb2.CommandLogoff:         {serve: logoff, session: true, slow: true, changes: true},
		smb2.CommandTreeConnect:    {serve: treeConnect, session: true, slow: true},
		smb2.CommandTreeDisconnect: {serve: treeDisconnect, session: true, tree: true, slow: true, changes: true},
		smb2.CommandCreate:         {serve: create, session: true, tree: true, changes: true},
		smb2.CommandClose:          {serve: closeFile, session: true, tree: true, file: true, changes: true},
		smb2.CommandFlush:          {serve: flush, session: true, tree: true, file: true, slow: true},
		smb2.CommandRead:           {serve: read, session: true, tree: true, file: true, large: true, quick: true, tells: true},
		smb2.CommandWrite:          {serve: write, session: true, tree: true, file: true, large: true, quick: true, changes: true},
		smb2.CommandLock:           {serve: lock, session: true, tree: true, file: true, quick: true},
		smb2.CommandIoctl:          {serve: ioctl, session: true, tree: true, file: true, large: true, slow: true, changes: true},
		smb2.CommandEcho:           {serve: echo, quick: true, tells: true},
		smb2.CommandQueryDirectory: {serve: queryDirectory, session: true, tree: true, file: true, large: true},
		smb2.CommandChangeNotify:   {serve: changeNotify, session: true, tree: true, file: true, large: true, quick: true},
		smb2.CommandQueryInfo:      {serve: queryInfo, session: true, tree: true, file: true, large: true},
		smb2.CommandSetInfo:        {serve: setInfo, session: true, tree: true, file: true, large: true, changes: true},
		smb2.CommandOplockBreak:    {serve: oplockBreak, session: true, tree: true},
	}
}

// smallMessage is the size up to which a message is copied, so that its buffer
// goes back to the transport at once: requests that wait would hold it, and on
// SMB Direct the client's credits with it.
const smallMessage = 1024

// maxKeptBody is the largest response body whose memory a request keeps.
const maxKeptBody = 64<<10 + 1024

// chain is what came in one message: one request, or a compound of them. It is
// served by one goroutine.
type chain struct {
	c     *conn
	recv  *transport.Received // nil if the message was copied
	small [smallMessage]byte
	reqs  []request
	enc   *session // whose keys the message came under; nil if in the clear

	now    *request // the one being served
	weight int64    // what conn.serving holds for it
	turn   uint64   // that of the connection, while who receives serves the chain itself; else 0
	more   bool     // the next message is there already

	// What an element hands on to the next if that is related, 3.3.5.2.7.2.
	open  *open // with a reference
	last  ntstatus.Status
	noIDs bool // there is no session or tree to go on with

	// Responses that are ready to go out in one message.
	queue    []*request
	size     int
	queueEnc *session
	parts    [][]byte
	msg      transport.Message

	after breaks // to be sent when the responses are

	descs []transport.Descriptor // of the request being served; kept

	mayWaitFn func() // mayWait, made once
}

var zeroPad [8]byte

// emptyError is the body of an ERROR response without data, 2.2.2.
var emptyError = []byte{9, 0, 0, 0, 0, 0, 0, 0, 0}

func (c *conn) newChain(n int) *chain {
	ch := c.srv.chains.Get().(*chain)
	ch.c = c
	if cap(ch.reqs) < n {
		ch.reqs = make([]request, n)
	}
	ch.reqs = ch.reqs[:n]
	return ch
}

// free gives everything back that the chain holds.
func (ch *chain) free() {
	ch.dropOpen()
	if ch.recv != nil {
		ch.recv.Release()
	}
	for i := range ch.reqs {
		r := &ch.reqs[i]
		r.dropTail()
		kept := r.outBuf
		if cap(kept) > maxKeptBody {
			kept = nil
		}
		ch.reqs[i] = request{outBuf: kept}
	}
	clear(ch.parts[:cap(ch.parts)])
	clear(ch.queue[:cap(ch.queue)])
	s := ch.c.srv
	ch.c, ch.recv, ch.enc, ch.weight, ch.turn, ch.more = nil, nil, nil, 0, 0, false
	ch.open, ch.last, ch.noIDs = nil, 0, false
	ch.queue, ch.size, ch.queueEnc = ch.queue[:0], 0, nil
	ch.parts, ch.msg = ch.parts[:0], transport.Message{}
	ch.after = breaks{}
	s.chains.Put(ch)
}

func (r *request) dropTail() {
	if r.tailBuf != nil {
		r.srv.bufs.put(r.tailBuf)
	}
	if r.fileTail != nil {
		r.fileTail.Release()
	}
	r.tail, r.tailBuf, r.fileTail = nil, nil, nil
}

func (ch *chain) setOpen(o *open) {
	if ch.open == o {
		return
	}
	if !o.acquire() {
		return
	}
	ch.dropOpen()
	ch.open = o
}

// incoming takes a message apart. It returns the chain to be served, nil if there is
// none, and reports false if the connection is over. The message is released when it has
// been served.
func (c *conn) incoming(m *transport.Received) (*chain, bool) {
	data := m.Data
	var enc *session
	switch smb2.PeekProtocolID(data) {
	case smb2.ProtocolSMB1:
		ok := c.smb1Negotiate(data)
		m.Release()
		return nil, ok
	case smb2.ProtocolTransform:
		var plain []byte
		if plain, enc = c.decrypt(data); plain == nil {
			m.Release()
			return nil, false
		}
		data = plain
	case smb2.ProtocolSMB2:
	default:
		m.Release()
		c.fail("message with an unknown protocol id, [MS-SMB2] 3.3.5.2", "len", len(data))
		return nil, false
	}
	n := 0
	for el, err := range smb2.Compound(data) {
		if err != nil {
			m.Release()
			c.fail("malformed message, [MS-SMB2] 3.3.5.2.6", "err", err)
			return nil, false
		}
		_ = el
		if n++; n > c.srv.cfg.Limits.CompoundElements {
			m.Release()
			c.fail("too many requests in one message")
			return nil, false
		}
	}
	ch := c.newChain(n)
	ch.recv, ch.enc = m, enc
	if len(data) <= smallMessage {
		copy(ch.small[:], data)
		data = ch.small[:len(data)]
		m.Release()
		ch.recv = nil
	}
	if !c.admit(ch, data) {
		ch.free()
		return nil, false
	}
	first := &ch.reqs[0]
	if first.hdr.Command == smb2.CommandNegotiate || n == 1 && first.isCancel {
		ch.serve()
		return nil, !c.hasFailed.Load()
	}
	return ch, true
}

// admit fills the chain with the requests in data and makes the checks that
// cost a client its connection: [MS-SMB2] 3.3.5.2 to 3.3.5.2.3 and 3.3.5.2.6.
func (c *conn) admit(ch *chain, data []byte) bool {
	i := 0
	for msg, err := range smb2.Compound(data) {
		if err != nil {
			c.fail("malformed message, [MS-SMB2] 3.3.5.2.6", "err", err)
			return false
		}
		hdr, err := smb2.ParseHeader(msg)
		if err != nil {
			c.fail("malformed header, [MS-SMB2] 3.3.5.2.6", "err", err)
			return false
		}
		r := &ch.reqs[i]
		r.srv, r.conn, r.chain, r.hdr, r.msg = c.srv, c, ch, hdr, msg
		r.sid = hdr.SessionID
		r.encrypted = ch.enc != nil
		r.isCancel = hdr.Command == smb2.CommandCancel
		r.out = r.outBuf[:0]
		r.unknown = int(hdr.Command) >= commandCount
		switch {
		case r.unknown && i == 0, hdr.IsResponse():
			c.fail("unknown command, [MS-SMB2] 3.3.5.2.6", "op", hdr.Command, "flags", uint32(hdr.Flags))
			return false
		case c.dialect == 0 && hdr.Command != smb2.CommandNegotiate:
			c.fail("request before NEGOTIATE, [MS-SMB2] 3.3.5.2.2", "op", hdr.Command)
			return false
		case hdr.Command == smb2.CommandNegotiate && len(ch.reqs) > 1:
			c.fail("NEGOTIATE in a compound")
			return false
		case len(msg) > maxSmallRequest && !(c.multiCredit && !r.unknown && commandTable[hdr.Command].large):
			c.fail("request too long, [MS-SMB2] 3.3.5.2", "op", hdr.Command, "len", len(msg))
			return false
		}
		if ch.enc != nil {
			// 3.3.5.2.1.1: what is inside must be of the session whose key it is.
			if i == 0 && (hdr.IsRelated() || hdr.SessionID != ch.enc.id) ||
				i > 0 && !hdr.IsRelated() && hdr.SessionID != ch.enc.id {
				c.fail("encrypted request of another session, [MS-SMB2] 3.3.5.2.1.1")
				return false
			}
		}
		if i > 0 && hdr.IsRelated() {
			r.sid = ch.reqs[0].sid
		}
		if !r.isCancel {
			charge := hdr.CreditCharge
			if !c.multiCredit {
				charge = 1
			}
			if !c.window.take(hdr.MessageID, charge) {
				c.fail("MessageId outside the window, [MS-SMB2] 3.3.5.2.3", "mid", hdr.MessageID, "charge", charge)
				return false
			}
		}
		if !r.unknown {
			c.srv.count.requests[hdr.Command].Add(1)
		}
		i++
	}
	c.register(ch)
	return true
}

// decrypt is [MS-SMB2] 3.3.5.2.1.1. It returns nil if the connection is over.
func (c *conn) decrypt(data []byte) ([]byte, *session) {
	id, ok := smbcrypto.TransformSessionID(data)
	if !ok {
		c.fail("short encrypted message, [MS-SMB2] 3.3.5.2.1.1")
		return nil, nil
	}
	ch := c.channel(id)
	if ch == nil || !ch.sess.isValid() || ch.sess.opener == nil {
		c.fail("encrypted message of no session that encrypts, [MS-SMB2] 3.3.5.2.1.1", "sid", id)
		return nil, nil
	}
	plain, err := ch.sess.opener.Open(data)
	if err != nil {
		c.fail("message cannot be decrypted, [MS-SMB2] 3.3.5.2.1.1", "err", err)
		return nil, nil
	}
	if smb2.PeekProtocolID(plain) != smb2.ProtocolSMB2 {
		c.fail("encrypted message holds no SMB2, [MS-SMB2] 3.3.5.2.1.1")
		return nil, nil
	}
	return plain, ch.sess
}

// serve serves the requests in order, and sends the responses.
func (ch *chain) serve() {
	defer ch.survive(ch.c)
	for i := range ch.reqs {
		r := &ch.reqs[i]
		ch.now = r
		if r.isCancel {
			if ch.verify(r) == ntstatus.Success {
				ch.c.cancelRequest(r)
			}
			continue
		}
		ch.relate(r, i)
		st := ch.serveOne(r)
		if r.outBuf = r.out; st.IsError() && st != ntstatus.MoreProcessingRequired {
			if !r.unknown {
				ch.c.srv.count.errors[r.hdr.Command].Add(1)
			}
			if log := ch.c.log; log.Enabled(ch.c.ctx, slog.LevelDebug) {
				log.Debug("request refused", "op", r.hdr.Command, "mid", r.hdr.MessageID, "sid", r.hdr.SessionID,
					"tid", r.hdr.TreeID, "status", st)
			}
		}
		ch.last = st
		r.endSequence()
		ch.c.unregister(r)
		ch.respond(r, st)
	}
	ch.flush()
	ch.c.srv.sendBreaks(&ch.after)
	ch.served()
	ch.free()
}

// dropOpen releases what an element has handed on, once even if the storage panics.
func (ch *chain) dropOpen() {
	if o := ch.open; o != nil {
		ch.open = nil
		o.release()
	}
}

// relate gives an element what it takes over from the one before, [MS-SMB2]
// 3.3.5.2.7. As on Windows, related and unrelated elements may be mixed: one
// that is not related begins a chain of its own.
func (ch *chain) relate(r *request, i int) {
	if !r.hdr.IsRelated() {
		ch.dropOpen()
		ch.last, ch.noIDs = ntstatus.Success, false
		return
	}
	r.related = ch.open
	if i == 0 {
		ch.noIDs = true // there is nothing before it
		return
	}
	prev := &ch.reqs[i-1]
	r.hdr.SessionID, r.hdr.TreeID = prev.hdr.SessionID, prev.hdr.TreeID
	switch {
	case !ch.last.IsError():
	case prev.hdr.Command == smb2.CommandSessionSetup, prev.hdr.Command == smb2.CommandTreeConnect,
		ch.last == ntstatus.UserSessionDeleted, ch.last == ntstatus.NetworkNameDeleted:
		ch.noIDs = true
	}
}

// serveOne makes the checks that end in an error response, and calls the handler.
func (ch *chain) serveOne(r *request) ntstatus.Status {
	c := ch.c
	if r.hdr.Command == smb2.CommandNegotiate {
		return negotiate(r)
	}
	r.noteInvalidation()
	related := r.hdr.IsRelated()
	if related && ch.noIDs || r.unknown {
		// There is no session whose key could verify it. A message that begins with a
		// command that there is not ends the connection (3.3.5.2.6); what came before
		// this one is answered, and so it is.
		return ntstatus.InvalidParameter
	}
	cmd := &commandTable[r.hdr.Command]
	if st := ch.verify(r); st != ntstatus.Success {
		return st
	}
	if st := c.checkCharge(r); st != ntstatus.Success {
		return st
	}
	if cmd.session {
		sc := c.channel(r.hdr.SessionID)
		if sc == nil {
			return ntstatus.UserSessionDeleted
		}
		switch sc.sess.currentState() {
		case sessionGone:
			return ntstatus.UserSessionDeleted
		case sessionInProgress:
			if r.hdr.Command != smb2.CommandLogoff {
				return ntstatus.AccessDenied // 3.3.5.2.9 leaves the code to us
			}
		}
		if sc.sess.encryptData && !r.encrypted {
			c.attach(r, sc, nil) // the refusal is encrypted
			return ntstatus.AccessDenied
		}
		var t *tree
		if cmd.tree {
			if t = sc.sess.tree(r.hdr.TreeID); t == nil {
				c.attach(r, sc, nil)
				return ntstatus.NetworkNameDeleted
			}
			if t.encrypt && !r.encrypted {
				c.attach(r, sc, nil)
				return ntstatus.AccessDenied
			}
		}
		c.attach(r, sc, t)
	}
	if related && cmd.file {
		// A failure takes those after it along only where it leaves no file to go
		// on with.
		if ch.open == nil {
			if ch.last.IsError() {
				return ch.last
			}
			return ntstatus.InvalidHandle
		}
		useRelatedFileID(r)
	}
	if hub := &c.srv.notify; cmd.changes && !hub.idle() {
		defer hub.underway.end(hub.underway.begin())
	}
	return cmd.serve(&r.ctx, r)
}

// useRelatedFileID makes the element name the file of the one before, whatever
// the client wrote: "the values used ... MUST be the ones used in processing the
// previous operation". That of the four FSCTLs without a file stays: they look
// for all ones, which is what clients write here.
func useRelatedFileID(r *request) {
	off := fileIDOffset[r.hdr.Command]
	if off == 0 || len(r.msg) < smb2.HeaderSize+off+16 {
		return
	}
	b := r.msg[smb2.HeaderSize+off:]
	for i := range 16 {
		b[i] = 0xFF
	}
}

// fileIDOffset is where the FileId is in the body of a request.
var fileIDOffset = [commandCount]int{
	smb2.CommandClose:          8,
	smb2.CommandFlush:          8,
	smb2.CommandRead:           16,
	smb2.CommandWrite:          16,
	smb2.CommandLock:           8,
	smb2.CommandIoctl:          8,
	smb2.CommandQueryDirectory: 8,
	smb2.CommandChangeNotify:   8,
	smb2.CommandQueryInfo:      24,
	smb2.CommandSetInfo:        16,
}

// verify is [MS-SMB2] 3.3.5.2.4.
func (ch *chain) verify(r *request) ntstatus.Status {
	if r.encrypted {
		return ntstatus.Success
	}
	c := ch.c
	if r.hdr.IsSigned() {
		var signer *smbcrypto.Signer
		sc := c.channel(r.hdr.SessionID)
		switch {
		case sc != nil:
			signer = sc.signer
		case r.hdr.Command == smb2.CommandSessionSetup && isBinding(r.msg):
			sess := c.srv.findSession(r.hdr.SessionID)
			if sess == nil {
				return ntstatus.UserSessionDeleted
			}
			if sess.isValid() {
				signer = sess.signer
			}
		case r.hdr.Command == smb2.CommandEcho && r.hdr.SessionID == 0:
			return ntstatus.Success
		default:
			return ntstatus.UserSessionDeleted
		}
		if signer == nil {
			return ntstatus.NotSupported
		}
		if err := signer.Verify(r.msg); err != nil {
			c.log.Warn("signature does not match", "op", r.hdr.Command, "mid", r.hdr.MessageID)
			return ntstatus.AccessDenied
		}
		r.signedOK = true
		return ntstatus.Success
	}
	if sc := c.channel(r.hdr.SessionID); sc != nil && sc.mustSign {
		return ntstatus.AccessDenied
	}
	return ntstatus.Success
}

// checkCharge is [MS-SMB2] 3.3.5.2.5: the credits must pay for what the request
// carries and for what it may make us answer.
func (c *conn) checkCharge(r *request) ntstatus.Status {
	if !c.multiCredit {
		return ntstatus.Success
	}
	le, b := binary.LittleEndian, r.msg[smb2.HeaderSize:]
	u32 := func(off int) uint64 {
		if len(b) < off+4 {
			return 0 // the handler will find the request too short
		}
		return uint64(le.Uint32(b[off:]))
	}
	var n uint64
	switch r.hdr.Command {
	case smb2.CommandRead:
		n = u32(4)
	case smb2.CommandWrite:
		n = u32(4)
		if u32(32) != uint64(smb2.ChannelNone) {
			n = u32(36) // RemainingBytes: Length is 0
		}
	case smb2.CommandIoctl:
		n = max(u32(28)+u32(40), u32(32)+u32(44))
	case smb2.CommandQueryDirectory:
		n = u32(28)
	case smb2.CommandChangeNotify:
		n = u32(4)
	case smb2.CommandQueryInfo:
		n = max(u32(4), u32(12))
	case smb2.CommandSetInfo:
		n = u32(4)
	}
	if n > uint64(max(r.hdr.CreditCharge, 1))*65536 {
		return ntstatus.InvalidParameter
	}
	return ntstatus.Success
}

// respond turns what the handler left behind into a response and queues it.
func (ch *chain) respond(r *request, st ntstatus.Status) {
	withData := st == ntstatus.Success || st == ntstatus.BufferOverflow ||
		st == ntstatus.MoreProcessingRequired || r.warnData
	if !withData || len(r.out) == 0 && st != ntstatus.Success {
		r.dropTail()
		r.errorBody()
	}
	r.head(st, r.pending)
	if !r.pending {
		r.putCredits()
	}
	ch.enqueue(r)
}

// errorBody makes the body an ERROR response, [MS-SMB2] 2.2.2.
func (r *request) errorBody() {
	resp := smb2.ErrorResponse{ErrorData: r.errData}
	if len(r.errData) > 0 && r.conn.dialect == Dialect311 {
		data, err := smb2.AppendErrorContext(nil, smb2.ErrorIDDefault, r.errData)
		if err == nil {
			resp.ErrorContextCount, resp.ErrorData = 1, data
		}
	}
	out, err := resp.AppendBinary(r.outBuf[:0])
	if err != nil {
		out = append(r.outBuf[:0], emptyError...)
	}
	r.out, r.outBuf = out, out
}

// head writes the header of a response, without credits.
func (r *request) head(st ntstatus.Status, async bool) {
	h := smb2.Header{
		CreditCharge: r.hdr.CreditCharge,
		Status:       st,
		Command:      r.hdr.Command,
		Flags:        smb2.FlagServerToRedir,
		MessageID:    r.hdr.MessageID,
		SessionID:    r.hdr.SessionID,
		TreeID:       r.hdr.TreeID,
		ProcessID:    r.hdr.ProcessID,
	}
	if r.hdr.IsRelated() {
		h.Flags |= smb2.FlagRelatedOperations
	}
	if async {
		h.Flags |= smb2.FlagAsyncCommand
		h.AsyncID = r.asyncID
	}
	h.Put(r.respHdr[:])
}

// putCredits grants what was asked for, and to a client that is logged on a little more,
// [MS-SMB2] 3.3.1.2: what a request has cost beyond its first credit, as Windows Server
// 2016 and Samba do, and spareCredits. Clients have grown up with that: go-smb2 does not
// charge itself for its NEGOTIATE and SESSION_SETUPs, and where it gets no credit more
// than it asks for it overdraws as soon as all of them are in use.
func (r *request) putCredits() {
	limit, want := r.srv.cfg.Limits.CreditsPerConn, int(r.hdr.Credits)
	switch {
	case !r.conn.authed.Load():
		limit = min(limit, unauthCredits)
	case want > 0:
		if r.conn.multiCredit {
			want += max(int(r.hdr.CreditCharge), 1) - 1
		}
		if r.hdr.Command == smb2.CommandSessionSetup && want > 1 {
			want += spareCredits
		}
	}
	smb2.SetCredits(r.respHdr[:], r.conn.window.grant(uint16(min(want, math.MaxUint16)), limit))
}

// interim sends STATUS_PENDING, with the responses before it if there are any.
func (ch *chain) interim(r *request) {
	out, tail, buf := r.out, r.tail, r.tailBuf
	r.out, r.tail, r.tailBuf = emptyError, nil, nil
	r.head(ntstatus.Pending, true)
	r.putCredits()
	r.noSign = true
	ch.enqueue(r)
	ch.flush()
	r.noSign = false
	r.out, r.tail, r.tailBuf = out, tail, buf
}

// encryption is the session under whose key the response goes, nil for none:
// [MS-SMB2] 3.3.4.1.4.
func (r *request) encryption() *session {
	if r.encrypted {
		return r.chain.enc
	}
	if r.sess == nil || r.hdr.Command == smb2.CommandSessionSetup || r.sess.sealer == nil {
		return nil
	}
	if r.sess.encryptData || r.tree != nil && r.tree.encrypt && r.hdr.Command != smb2.CommandTreeConnect {
		return r.sess
	}
	return nil
}

// enqueue adds a response to the message being gathered, which is sent first if
// the two do not go together.
func (ch *chain) enqueue(r *request) {
	n := smb2.HeaderSize + len(r.out) + len(r.tail)
	if r.fileTail != nil {
		n += r.fileTail.Len() // its chain is of one request, in the clear
	}
	enc := r.encryption()
	if len(ch.queue) > 0 && (enc != ch.queueEnc || ch.msg.HasInvalidate && r.hasInval ||
		ch.size+n+8+smbcrypto.TransformHeaderSize > ch.c.tc.MaxSendSize()) {
		ch.flush()
	}
	ch.queue = append(ch.queue, r)
	ch.queueEnc = enc
	ch.msg.Tail = r.fileTail
	ch.size += (n + 7) &^ 7
	// The interim response invalidates nothing: the client's data may be needed.
	if r.hasInval && !r.noSign {
		ch.msg.Invalidate, ch.msg.HasInvalidate = r.invalidate, true
	}
}

// flush sends the responses gathered so far as one message, [MS-SMB2] 3.3.4.1.
func (ch *chain) flush() {
	if len(ch.queue) == 0 {
		return
	}
	c := ch.c
	ch.parts = ch.parts[:0]
	for i, r := range ch.queue {
		first := len(ch.parts)
		ch.parts = append(ch.parts, r.respHdr[:], r.out)
		if len(r.tail) > 0 {
			ch.parts = append(ch.parts, r.tail)
		}
		if len(ch.queue) > 1 { // the last one, too, as Windows does
			n := smb2.HeaderSize + len(r.out) + len(r.tail)
			if pad := -n & 7; pad > 0 {
				ch.parts = append(ch.parts, zeroPad[:pad])
				n += pad
			}
			if i < len(ch.queue)-1 {
				smb2.SetNextCommand(r.respHdr[:], uint32(n))
			}
		}
		el := ch.parts[first:]
		if ch.queueEnc == nil {
			if s := r.responseSigner(); s != nil {
				if err := s.Sign(el...); err != nil {
					c.log.Error("response cannot be signed", "err", err)
					c.abort()
				}
			} else if r.hdr.IsSigned() && !r.encrypted && !r.noSign {
				r.echoSignature()
			}
		}
		if r.onSend != nil {
			r.onSend(el...)
		}
	}
	var sealed *ioBuf
	ch.msg.Parts = ch.parts
	if ch.queueEnc != nil {
		total := ch.msg.Len()
		sealed = c.srv.bufs.get(total + smbcrypto.SealSlack)
		out, err := ch.queueEnc.sealer.Seal(sealed.b[:0], ch.queueEnc.id, ch.parts...)
		if err != nil {
			c.fail("response cannot be encrypted", "err", err)
		}
		ch.parts = append(ch.parts[:0], out)
		ch.msg.Parts = ch.parts
	}
	if ch.more && ch.turn != 0 && len(ch.reqs) == 1 {
		ch.msg.More = true
	}
	c.send(&ch.msg)
	if ch.msg.More {
		// Not before: another goroutine, that has the turn by now, would flush too early.
		c.kept.Store(true)
	}
	c.srv.bufs.put(sealed)
	for _, r := range ch.queue {
		r.dropTail()
	}
	ch.queue, ch.size, ch.queueEnc = ch.queue[:0], 0, nil
	ch.msg = transport.Message{}
}

// echoSignature gives the answer to a signed request the signature of that, as
// Windows does where it has no key to make one with: the session is not there, or
// not on this connection. Clients that want everything signed take such an error for
// what it is, and another without a signature for an attack.
func (r *request) echoSignature() {
	h, err := smb2.ParseHeader(r.respHdr[:])
	if err != nil || !h.Status.IsError() {
		return
	}
	h.Flags |= smb2.FlagSigned
	h.Signature = r.hdr.Signature
	h.Put(r.respHdr[:])
}

// responseSigner is who signs the response, nil for nobody: [MS-SMB2] 3.3.4.1.1.
func (r *request) responseSigner() *smbcrypto.Signer {
	switch {
	case r.noSign:
		// Interim responses SHOULD NOT be signed, 3.3.4.2, and clients do not look; but
		// go-smb2, and rclone by it, take none for theirs that is not where signing is
		// required. AES-GMAC would use the nonce of the final response.
		if r.ch != nil && r.ch.mustSign && r.ch.signer != nil && r.ch.signer.Algorithm() != smbcrypto.AESGMAC {
			return r.ch.signer
		}
		return nil
	case r.signer != nil:
		return r.signer
	case r.ch == nil:
		if r.signedOK {
			if ch := r.conn.channel(r.hdr.SessionID); ch != nil {
				return ch.signer
			}
		}
		return nil
	case r.signedOK, r.ch.mustSign:
		return r.ch.signer
	}
	return nil
}

// echo is [MS-SMB2] 3.3.5.17.
func echo(_ context.Context, r *request) ntstatus.Status {
	if _, err := smb2.ParseEchoRequest(r.msg); err != nil {
		return ntstatus.InvalidParameter
	}
	r.out = appendEmpty4(r.out)
	return ntstatus.Success
}

// logoff is [MS-SMB2] 3.3.5.6.
func logoff(_ context.Context, r *request) ntstatus.Status {
	if _, err := smb2.ParseLogoffRequest(r.msg); err != nil {
		return ntstatus.InvalidParameter
	}
	// The keys outlive the tables: the response is still signed or encrypted.
	if r.signedOK {
		r.signer = r.ch.signer
	}
	r.srv.endSession(r.sess, r)
	r.out = appendEmpty4(r.out)
	return ntstatus.Success
}
