package smbdtest

import (
	"context"
	"crypto/rand"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// smb2Options is what a raw SMB2 client offers and does. The zero value offers
// dialect 3.1.1 alone, without a context that is not mandatory, and signs if the
// server says so.
type smb2Options struct {
	dialects   []smb2.Dialect          // 3.1.1 if empty
	ciphers    []smb2.Cipher           // of the encryption context; any, if empty
	signing    []smb2.SigningAlgorithm // of the signing context; none, no context
	transforms []smb2.RDMATransformID  // of the RDMA transform context; none, no context
	sign, seal bool                    // what requests get after the log-on
	noData     bool                    // nothing is moved by RDMA
	depth      int                     // RDMA Reads that the server may have under way; 0 for the peer's own choice
}

// protection is how a request is sealed up.
type protection int

const (
	asSession protection = iota // as smb2Options say
	inClear
	signed
	sealed
)

// smb2Request is one request, of which a case sets what it likes.
type smb2Request struct {
	cmd     smb2.Command
	body    encoding.BinaryAppender
	payload int              // octets that the CreditCharge pays for
	charge  uint16           // CreditCharge, if not 0, whatever the payload
	protect protection       // how it is protected
	change  func(msg []byte) // after the encoding, before signature or encryption
	message func(id uint64)  // told the MessageId before body is encoded
}

// smb2Answer is what became of a request.
type smb2Answer struct {
	lost   error // the connection ended instead; the rest is empty then
	hdr    smb2.Header
	msg    []byte // from the header on
	sealed bool   // it came encrypted
	// token is what the server invalidated with it, if invalidated.
	token       uint32
	invalidated bool
}

// String tells what was seen, for reports.
func (a *smb2Answer) String() string {
	if a.lost != nil {
		return "the end of the connection (" + a.lost.Error() + ")"
	}
	return a.hdr.Status.String()
}

// smb2Peer is an SMB2 client of one connection that does what a case tells it, be
// it wrong. It keeps to the rules only where a case does not say otherwise. It is
// for one goroutine.
type smb2Peer struct {
	t   *T
	ctx context.Context
	carrier
	link *Stream // the carrier, where it is SMB Direct
	opt  smb2Options

	regions []*Region

	neg        smb2.NegotiateResponse
	dialect    smb2.Dialect
	cipher     smbcrypto.Cipher
	alg        smbcrypto.SigningAlgorithm
	transforms []smb2.RDMATransformID // that the server took
	guid       smb2.GUID

	mid     uint64
	credits int
	sid     uint64
	tid     uint32
	preauth smbcrypto.Preauth
	keys    smbcrypto.Keys
	signer  *smbcrypto.Signer
	sealer  *smbcrypto.Sealer
	opener  *smbcrypto.Opener
	early   map[uint64]*smb2Answer // that came before they were asked for
	nonces  map[string]bool        // that the server has used, by key and as hexadecimal digits
}

// dialSMB2 connects to the server under test and negotiates SMB Direct. The end of
// the case closes the connection.
func dialSMB2(t *T, opt smb2Options) *smb2Peer {
	if t.Share == "" {
		t.Skipf("no share is given, and the case speaks SMB2")
	}
	if len(opt.dialects) == 0 {
		opt.dialects = []smb2.Dialect{smb2.DialectSMB311}
	}
	link := t.Establish(PeerConfig{InboundReadLimit: opt.depth}, wire.NegotiateRequest{
		MinVersion: wire.Version, MaxVersion: wire.Version, CreditsRequested: 64,
		PreferredSendSize: 8192, MaxReceiveSize: 8192, MaxFragmentedSize: 1 << 20,
	})
	return newSMB2Peer(t, link, link, opt)
}

// newSMB2Peer makes a client on a connection; link is nil where there is no RDMA.
func newSMB2Peer(t *T, c carrier, link *Stream, opt smb2Options) *smb2Peer {
	p := &smb2Peer{t: t, ctx: t.Context(), carrier: c, link: link, opt: opt, credits: 1,
		early: map[uint64]*smb2Answer{}, nonces: map[string]bool{}}
	rand.Read(p.guid[:]) // never fails: it ends the program first
	return p
}

// encode makes the octets of r, protected, and counts its MessageIds as used.
func (p *smb2Peer) encode(r smb2Request) (id uint64, msg []byte) {
	charge := max(r.charge, 1)
	if r.charge == 0 && r.payload > 0 {
		charge = smb2.CreditCharge(r.payload)
	}
	if r.cmd != smb2.CommandNegotiate {
		p.earn(int(charge))
	}
	h := smb2.Header{
		Command: r.cmd, MessageID: p.mid, SessionID: p.sid, TreeID: p.tid,
		CreditCharge: charge, Credits: creditsAsked, ProcessID: 0xFEFF,
	}
	if r.message != nil {
		r.message(h.MessageID)
	}
	msg, err := r.body.AppendBinary(h.Append(nil))
	if err != nil {
		p.t.Fatalf("encoding a %v: %v", r.cmd, err)
	}
	p.mid += uint64(charge)
	p.credits -= int(charge)
	if r.change != nil {
		r.change(msg)
	}
	how := r.protect
	if how == asSession {
		switch {
		case p.opt.seal && p.sealer != nil:
			how = sealed
		case p.opt.sign && p.signer != nil:
			how = signed
		}
	}
	switch how {
	case signed:
		if err := p.signer.Sign(msg); err != nil {
			p.t.Fatalf("signing a %v: %v", r.cmd, err)
		}
	case sealed:
		if msg, err = p.sealer.Seal(nil, p.sid, msg); err != nil {
			p.t.Fatalf("encrypting a %v: %v", r.cmd, err)
		}
	}
	return h.MessageID, msg
}

// creditsAsked is the CreditRequest of every request: enough for the 8 MiB that
// Windows and this project read at once.
const creditsAsked = 256

// earn sees that n SMB2 credits are there.
func (p *smb2Peer) earn(n int) {
	for range 64 {
		if p.credits >= n || p.credits < 1 {
			break
		}
		had := p.credits
		p.must(p.do(smb2Request{cmd: smb2.CommandEcho, charge: 1, body: &smb2.EchoRequest{}}), "ECHO for credits")
		if p.credits <= had {
			break
		}
	}
	if p.credits < n {
		p.t.Fatalf("the server granted %d SMB2 credits, and the next request needs %d", p.credits, n)
	}
}

// post sends r and returns its MessageId.
func (p *smb2Peer) post(r smb2Request) uint64 {
	id, msg := p.encode(r)
	if err := p.sendMessage(msg); err != nil {
		p.t.Fatalf("sending a %v: %v", r.cmd, err)
	}
	return id
}

// sendMessage sends one SMB2 message. That the connection ends meanwhile shows
// when the answer is waited for.
func (p *smb2Peer) sendMessage(msg []byte) error {
	if err := p.SendMessage(msg, p.t.Times.React); err != nil && !p.End().Over {
		return err
	}
	return nil
}

// do sends r and waits for the final answer or the end of the connection.
func (p *smb2Peer) do(r smb2Request) *smb2Answer {
	return p.await(p.post(r))
}

// await waits for the final answer to a request.
func (p *smb2Peer) await(id uint64) *smb2Answer {
	for {
		if p.ctx.Err() != nil {
			p.t.Fatalf("waiting for an answer: %v", ErrStopped)
		}
		if a, ok := p.early[id]; ok {
			delete(p.early, id)
			return a
		}
		a := p.receive()
		if a.lost != nil {
			return a
		}
		if a.hdr.MessageID != smb2.NoMessageID && a.hdr.Status != ntstatus.Pending {
			p.early[a.hdr.MessageID] = a
		}
	}
}

// receive takes the next message.
func (p *smb2Peer) receive() *smb2Answer {
	m, err := p.Message(p.t.Times.React)
	if errors.Is(err, ErrEnded) {
		return &smb2Answer{lost: errors.New(p.End().String())}
	}
	if err != nil {
		p.t.Fatalf("waiting for an answer: %v", err)
	}
	return p.decode(m)
}

// decode opens a message and checks its signature.
func (p *smb2Peer) decode(m UpperMessage) *smb2Answer {
	var err error
	msg := m.Data
	a := &smb2Answer{token: uint32(m.Token), invalidated: m.Invalidated}
	if smbcrypto.IsTransform(msg) {
		if p.opener == nil || len(msg) < smb2.TransformHeaderSize {
			p.t.Fatalf("an encrypted answer of %d octets; the session has keys: %v", len(msg), p.opener != nil)
		}
		p.freshNonce(typeEncryption, slices.Clone(msg[20:20+nonceSize(p.cipher)]), 0)
		if msg, err = p.opener.Open(msg); err != nil {
			p.t.Fatalf("an answer that cannot be decrypted: %v", err)
		}
		a.sealed = true
	}
	if a.hdr, err = smb2.ParseHeader(msg); err != nil {
		p.t.Fatalf("an answer that is no SMB2 message: %v", err)
	}
	if a.hdr.NextCommand != 0 {
		p.t.Fatalf("a compound answer to a request that stood alone")
	}
	if a.hdr.IsSigned() && !a.sealed && p.signer != nil {
		if err := p.signer.Verify(msg); err != nil {
			p.t.Errorf("%v response: %v", a.hdr.Command, err)
		}
	}
	p.credits += int(a.hdr.Credits)
	a.msg = msg
	return a
}

// must ends the case unless a is a success.
func (p *smb2Peer) must(a *smb2Answer, what string) *smb2Answer {
	if a.lost != nil || a.hdr.Status != ntstatus.Success {
		p.t.Fatalf("%s: got %v, want %v", what, a, ntstatus.Success)
	}
	return a
}

// expect checks the status of a.
func (p *smb2Peer) expect(a *smb2Answer, what string, want ...ntstatus.Status) bool {
	if a.lost == nil && slices.Contains(want, a.hdr.Status) {
		return true
	}
	p.t.Errorf("%s: got %v, want %v", what, a, want)
	return false
}

// expectLost checks that a is the end of the connection.
func (p *smb2Peer) expectLost(a *smb2Answer, what string) {
	if a.lost == nil {
		p.t.Errorf("%s: got %v, want the end of the connection", what, a)
	}
}

// expectAlive checks that the connection still answers.
func (p *smb2Peer) expectAlive(after string) {
	p.expect(p.do(smb2Request{cmd: smb2.CommandEcho, body: &smb2.EchoRequest{}}), "ECHO after "+after, ntstatus.Success)
}

// contexts are those of a NEGOTIATE request by the options.
func (p *smb2Peer) contexts() []smb2.NegotiateContext {
	var salt [32]byte
	rand.Read(salt[:])
	var out []smb2.NegotiateContext
	add := func(t smb2.NegotiateContextType, m encoding.BinaryAppender) {
		b, err := m.AppendBinary(nil)
		if err != nil {
			p.t.Fatalf("negotiate context: %v", err)
		}
		out = append(out, smb2.NegotiateContext{Type: t, Data: b})
	}
	add(smb2.ContextPreauthIntegrityCapabilities, &smb2.PreauthIntegrityCapabilities{
		HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: salt[:]})
	offer := p.opt.ciphers
	if len(offer) == 0 { // for servers that demand encryption
		offer = []smb2.Cipher{smb2.CipherAES128GCM, smb2.CipherAES128CCM}
	}
	add(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: offer})
	if len(p.opt.signing) > 0 {
		add(smb2.ContextSigningCapabilities, &smb2.SigningCapabilities{SigningAlgorithms: p.opt.signing})
	}
	if len(p.opt.transforms) > 0 {
		out = append(out, rdmaCapabilities(uint16(len(p.opt.transforms)), p.opt.transforms...))
	}
	return out
}

// rdmaCapabilities is SMB2_RDMA_TRANSFORM_CAPABILITIES, [MS-SMB2] 2.2.3.1.6, with
// a TransformCount that need not be right.
func rdmaCapabilities(count uint16, ids ...smb2.RDMATransformID) smb2.NegotiateContext {
	b := binary.LittleEndian.AppendUint16(nil, count)
	b = append(b, 0, 0, 0, 0, 0, 0)
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint16(b, uint16(id))
	}
	return smb2.NegotiateContext{Type: smb2.ContextRDMATransformCapabilities, Data: b}
}

// sendNegotiate negotiates with the contexts given and returns the answer; the
// answer's fields are kept if it is a success.
func (p *smb2Peer) sendNegotiate(contexts []smb2.NegotiateContext) *smb2Answer {
	req := &smb2.NegotiateRequest{
		SecurityMode: smb2.NegotiateSigningEnabled,
		Capabilities: smb2.GlobalCapLargeMTU | smb2.GlobalCapMultiChannel | smb2.GlobalCapEncryption,
		ClientGUID:   p.guid, Dialects: p.opt.dialects, Contexts: contexts,
	}
	id, msg := p.encode(smb2Request{cmd: smb2.CommandNegotiate, body: req})
	if err := p.sendMessage(msg); err != nil {
		p.t.Fatalf("sending a NEGOTIATE: %v", err)
	}
	a := p.await(id)
	if a.lost != nil || a.hdr.Status != ntstatus.Success {
		return a
	}
	neg, err := smb2.ParseNegotiateResponse(a.msg)
	if err != nil {
		p.t.Fatalf("NEGOTIATE response: %v", err)
	}
	p.neg, p.dialect = neg, neg.DialectRevision
	if !slices.Contains(p.opt.dialects, p.dialect) {
		p.t.Fatalf("the server chose %v of %v", p.dialect, p.opt.dialects)
	}
	p.alg = smbcrypto.DefaultSigning(uint16(p.dialect))
	if p.dialect != smb2.DialectSMB311 {
		if neg.Capabilities&smb2.GlobalCapEncryption != 0 {
			p.cipher = smbcrypto.AES128CCM
		}
		return a
	}
	p.preauth.Update(msg)
	p.preauth.Update(a.msg)
	if b, n := smb2.FindNegotiateContext(neg.Contexts, smb2.ContextEncryptionCapabilities); n == 1 {
		if m, err := smb2.ParseEncryptionCapabilities(b); err == nil && len(m.Ciphers) == 1 {
			p.cipher = smbcrypto.Cipher(m.Ciphers[0])
		}
	}
	if b, n := smb2.FindNegotiateContext(neg.Contexts, smb2.ContextSigningCapabilities); n == 1 {
		if m, err := smb2.ParseSigningCapabilities(b); err == nil && len(m.SigningAlgorithms) == 1 {
			p.alg = smbcrypto.SigningAlgorithm(m.SigningAlgorithms[0])
		}
	}
	if b, n := smb2.FindNegotiateContext(neg.Contexts, smb2.ContextRDMATransformCapabilities); n == 1 {
		m, err := smb2.ParseRDMATransformCapabilities(b)
		if err != nil {
			p.t.Fatalf("NEGOTIATE response: %v", err)
		}
		p.transforms = slices.DeleteFunc(m.RDMATransformIDs, func(id smb2.RDMATransformID) bool { return id == smb2.RDMATransformNone })
	}
	return a
}

// login negotiates as the options say, logs on and connects to the share. missing
// is what the server does not offer of them.
func (p *smb2Peer) login() (missing string) {
	a := p.sendNegotiate(p.contexts())
	if a.lost == nil && a.hdr.Status == ntstatus.NotSupported {
		return fmt.Sprintf("the server has no dialect of %v", p.opt.dialects)
	}
	p.must(a, "NEGOTIATE")
	if len(p.opt.ciphers) > 0 && !slices.Contains(p.opt.ciphers, smb2.Cipher(p.cipher)) {
		return fmt.Sprintf("the server does not offer the cipher %v", smbcrypto.Cipher(p.opt.ciphers[0]))
	}
	if p.opt.seal && p.cipher == 0 {
		return fmt.Sprintf("the server does not encrypt in dialect %v", p.dialect)
	}
	if len(p.opt.signing) > 0 && !slices.Contains(p.opt.signing, smb2.SigningAlgorithm(p.alg)) {
		return fmt.Sprintf("the server does not offer signing by %v", smbcrypto.SigningAlgorithm(p.opt.signing[0]))
	}
	for _, id := range p.opt.transforms {
		if !slices.Contains(p.transforms, id) {
			return fmt.Sprintf("the server does not offer RDMA transform %d", id)
		}
	}
	if p.neg.SecurityMode&smb2.NegotiateSigningRequired != 0 {
		p.opt.sign = true
	}
	p.logon(0, 0)
	p.treeConnect()
	return ""
}

// loginForRDMA is login for cases that move data by RDMA. missing also says that the
// server moves none for these options.
func (p *smb2Peer) loginForRDMA() (missing string) {
	seal := p.opt.seal
	if missing = p.login(); missing != "" || p.opt.noData {
		return missing
	}
	if p.opt.seal && !seal && len(p.opt.transforms) > 0 {
		return "the server demands encryption, and the case is about data that is signed"
	}
	return p.plainMissing()
}

// plainMissing says so where a server that demands signing or encryption moves no
// data by RDMA without it. Its clients do not ask for that, [MS-SMB2] 3.2.4.6, so it
// may do either.
func (p *smb2Peer) plainMissing() string {
	demands := p.neg.SecurityMode&smb2.NegotiateSigningRequired != 0 || p.opt.seal && len(p.opt.ciphers) == 0
	if !demands || len(p.transforms) > 0 {
		return ""
	}
	id := p.create([]byte{1})
	r := p.sink(1)
	a := p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, n: 1, at: descriptors(r)})
	if a.lost != nil || a.hdr.Status != ntstatus.InvalidParameter {
		return ""
	}
	return "the server demands signing or encryption, and moves no data by RDMA that is neither"
}

// logon sets up a session; with a session id given it binds this connection to
// that session, [MS-SMB2] 3.2.4.2.3.
func (p *smb2Peer) logon(bind uint64, flags uint8) {
	cfg := &p.t.Target
	who := &ntlm.Client{User: cfg.User, Password: cfg.Password, Domain: cfg.Domain}
	init := spnego.NewInitiator(p.neg.SecurityBuffer, who)
	p.sid = bind
	hash := p.preauth
	how := inClear
	if bind != 0 {
		how = signed // by the key of the session's first channel
	}
	var in []byte
	for range 4 {
		token, _, err := init.Step(in)
		if err != nil {
			p.t.Fatalf("log-on: %v", err)
		}
		id, msg := p.encode(smb2Request{cmd: smb2.CommandSessionSetup, protect: how,
			body: &smb2.SessionSetupRequest{Flags: flags, SecurityMode: smb2.NegotiateSigningEnabled, SecurityBuffer: token}})
		if err := p.sendMessage(msg); err != nil {
			p.t.Fatalf("sending a SESSION_SETUP: %v", err)
		}
		hash.Update(msg)
		signer := p.signer
		p.signer = nil // the last answer is signed with a key that is not made yet
		a := p.await(id)
		p.signer = signer
		if a.lost != nil || a.hdr.Status != ntstatus.Success && a.hdr.Status != ntstatus.MoreProcessingRequired {
			p.t.Fatalf("SESSION_SETUP: %v", a)
		}
		resp, err := smb2.ParseSessionSetupResponse(a.msg)
		if err != nil {
			p.t.Fatalf("SESSION_SETUP response: %v", err)
		}
		p.sid, in = a.hdr.SessionID, slices.Clone(resp.SecurityBuffer)
		if a.hdr.Status == ntstatus.MoreProcessingRequired {
			hash.Update(a.msg)
			continue
		}
		if resp.SessionFlags&(smb2.SessionFlagIsGuest|smb2.SessionFlagIsNull) != 0 {
			p.t.Fatalf("the server took %q for a guest, and guests have no keys", cfg.User)
		}
		if resp.SessionFlags&smb2.SessionFlagEncryptData != 0 {
			if p.cipher == 0 {
				p.t.Skipf("the server demands encryption, and the case has none")
			}
			p.opt.seal = true
		}
		p.deriveKeys(who.SessionKey(), hash, bind != 0)
		if a.hdr.IsSigned() {
			if err := p.signer.Verify(a.msg); err != nil {
				p.t.Fatalf("SESSION_SETUP response: %v", err)
			}
		} else {
			p.t.Errorf("the last SESSION_SETUP response is not signed, [MS-SMB2] 3.3.5.5.3")
		}
		return
	}
	p.t.Fatalf("SESSION_SETUP goes on after four rounds")
}

// deriveKeys makes the keys of a session, or the signing key of one more channel
// of it, which keeps the other keys.
func (p *smb2Peer) deriveKeys(key []byte, hash smbcrypto.Preauth, channel bool) {
	fail := func(err error) {
		if err != nil {
			p.t.Fatalf("session keys: %v", err)
		}
	}
	var err error
	if channel {
		p.keys.Signing, err = smbcrypto.ChannelSigningKey(uint16(p.dialect), key, hash[:])
		fail(err)
	} else {
		p.keys, err = smbcrypto.DeriveKeys(uint16(p.dialect), key, hash[:], uint16(p.cipher))
		fail(err)
	}
	p.signer, err = smbcrypto.NewSigner(p.alg, p.keys.Signing, smbcrypto.RoleClient)
	fail(err)
	if p.cipher == 0 || channel {
		return
	}
	p.sealer, err = smbcrypto.NewSealer(p.cipher, p.keys.ClientToServer)
	fail(err)
	p.opener, err = smbcrypto.NewOpener(p.cipher, p.keys.ServerToClient)
	fail(err)
}

// treeConnect connects to the target's share. It is signed in 3.1.1 whatever else
// is, [MS-SMB2] 3.2.4.1.1.
func (p *smb2Peer) treeConnect() {
	how := asSession
	if p.dialect == smb2.DialectSMB311 && !p.opt.seal {
		how = signed
	}
	host, share := p.t.Server, p.t.Share
	if host == "" {
		host = "server"
	}
	a := p.must(p.do(smb2Request{cmd: smb2.CommandTreeConnect, protect: how,
		body: &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\` + host + `\` + share)}}), "TREE_CONNECT")
	p.tid = a.hdr.TreeID
	resp, err := smb2.ParseTreeConnectResponse(a.msg)
	if err != nil {
		p.t.Fatalf("TREE_CONNECT response: %v", err)
	}
	if resp.ShareFlags&smb2.ShareFlagEncryptData != 0 {
		if p.cipher == 0 {
			p.t.Skipf("the share demands encryption, and the case has none")
		}
		p.opt.seal = true
	}
}

// create makes a file of a name of its own that the server removes when it is
// closed, also by the end of the connection, and fills it.
func (p *smb2Peer) create(content []byte) smb2.FileID {
	var r [8]byte
	rand.Read(r[:])
	name := fmt.Sprintf("smbd-conform-%x.tmp", r)
	id := p.open(name, smb2.FileCreate, smb2.FileDeleteOnClose)
	p.fill(id, content)
	return id
}

// open is a CREATE that must succeed.
func (p *smb2Peer) open(name string, how smb2.CreateDisposition, options smb2.CreateOptions) smb2.FileID {
	a := p.must(p.do(smb2Request{cmd: smb2.CommandCreate, body: &smb2.CreateRequest{
		ImpersonationLevel: smb2.ImpersonationImpersonation,
		DesiredAccess: smb2.FileReadData | smb2.FileWriteData | smb2.FileAppendData |
			smb2.FileReadAttributes | smb2.Delete | smb2.Synchronize,
		ShareAccess:       smb2.FileShareRead | smb2.FileShareWrite | smb2.FileShareDelete,
		CreateDisposition: how, CreateOptions: options | smb2.FileNonDirectoryFile,
		Name: smb2.EncodeUTF16(name),
	}}), "CREATE of "+name)
	resp, err := smb2.ParseCreateResponse(a.msg)
	if err != nil {
		p.t.Fatalf("CREATE response: %v", err)
	}
	return resp.FileID
}

// inlineStep is how much one message carries of a file's content: less than the
// smallest MaxFragmentedSize that a conforming end may have, 131072 octets.
const inlineStep = 64 << 10

// fill writes content to the file, in the messages.
func (p *smb2Peer) fill(id smb2.FileID, content []byte) {
	for off := 0; off < len(content); off += inlineStep {
		part := content[off:min(off+inlineStep, len(content))]
		p.must(p.do(smb2Request{cmd: smb2.CommandWrite, payload: len(part),
			body: &smb2.WriteRequest{FileID: id, Offset: uint64(off), Data: part}}), "WRITE in the message")
	}
}

// content reads n octets of the file, in the messages.
func (p *smb2Peer) content(id smb2.FileID, n int) []byte {
	var out []byte
	for len(out) < n {
		step := min(inlineStep, n-len(out))
		a := p.do(smb2Request{cmd: smb2.CommandRead, payload: step,
			body: &smb2.ReadRequest{Padding: smb2.ReadDataOffset, FileID: id, Offset: uint64(len(out)), Length: uint32(step)}})
		if a.lost == nil && a.hdr.Status == ntstatus.EndOfFile {
			break
		}
		p.must(a, "READ in the message")
		resp, err := smb2.ParseReadResponse(a.msg)
		if err != nil || len(resp.Data) == 0 || len(resp.Data) > step {
			p.t.Fatalf("READ response of %d octets, asked for %d: %v", len(resp.Data), step, err)
		}
		out = append(out, resp.Data...)
	}
	return out
}
