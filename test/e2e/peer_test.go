package e2e

import (
	"bytes"
	"encoding"
	"fmt"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

const cmdNegotiate = smb2.CommandNegotiate

// wire carries SMB2 messages of a hostile peer.
type wire interface {
	Send([]byte) error
	Receive() ([]byte, error)
	Close() error
}

// peer is an SMB 3.1.1 client that does what a test tells it.
type peer struct {
	t   testing.TB
	c   wire
	mid uint64
	sid uint64
	tid uint32
	fid smb2.FileID

	preauth smbcrypto.Preauth
	hint    []byte
	alg     smbcrypto.SigningAlgorithm
	cipher  smbcrypto.Cipher
	signer  *smbcrypto.Signer
	sealer  *smbcrypto.Sealer
	sign    bool // the server wants it
}

func newPeer(t testing.TB, c wire) *peer {
	return &peer{t: t, c: c}
}

// header is that of the next request.
func (p *peer) header(cmd smb2.Command) smb2.Header {
	h := smb2.Header{Command: cmd, MessageID: p.mid, SessionID: p.sid, TreeID: p.tid, Credits: 64, CreditCharge: 1}
	p.mid++
	return h
}

// element is a request as octets, neither signed nor sent.
func (p *peer) element(h smb2.Header, m encoding.BinaryAppender) []byte {
	p.t.Helper()
	b, err := m.AppendBinary(h.Append(nil))
	must(p.t, err)
	return b
}

// signed signs b if that is due.
func (p *peer) signed(b []byte) []byte {
	p.t.Helper()
	if p.sign {
		must(p.t, p.signer.Sign(b))
	}
	return b
}

// answer is the next final response.
func (p *peer) answer() (smb2.Header, []byte, error) {
	for {
		b, err := p.c.Receive()
		if err != nil {
			return smb2.Header{}, nil, err
		}
		h, err := smb2.ParseHeader(b)
		if err != nil || h.Status != ntstatus.Pending {
			return h, b, err
		}
	}
}

func (p *peer) status() (ntstatus.Status, error) {
	h, _, err := p.answer()
	return h.Status, err
}

// do sends a request and has to get an answer.
func (p *peer) do(cmd smb2.Command, m encoding.BinaryAppender) (smb2.Header, []byte) {
	p.t.Helper()
	h := p.header(cmd)
	must(p.t, p.c.Send(p.signed(p.element(h, m))))
	r, b, err := p.answer()
	must(p.t, err)
	if r.MessageID != h.MessageID {
		p.t.Fatalf("answer to message %d, want %d", r.MessageID, h.MessageID)
	}
	return r, b
}

func (p *peer) negotiateRequest() *smb2.NegotiateRequest {
	pre, _ := (&smb2.PreauthIntegrityCapabilities{HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: []byte("salt")}).AppendBinary(nil)
	enc, _ := (&smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{2}}).AppendBinary(nil)
	sig, _ := (&smb2.SigningCapabilities{SigningAlgorithms: []smb2.SigningAlgorithm{2}}).AppendBinary(nil)
	return &smb2.NegotiateRequest{
		SecurityMode: smb2.NegotiateSigningEnabled,
		Capabilities: smb2.GlobalCapLargeMTU | smb2.GlobalCapEncryption,
		ClientGUID:   smb2.GUID{1},
		Dialects:     []smb2.Dialect{smb2.DialectSMB311},
		Contexts: []smb2.NegotiateContext{
			{Type: smb2.ContextPreauthIntegrityCapabilities, Data: pre},
			{Type: smb2.ContextEncryptionCapabilities, Data: enc},
			{Type: smb2.ContextSigningCapabilities, Data: sig},
		},
	}
}

func (p *peer) negotiate() {
	p.t.Helper()
	req := p.element(p.header(cmdNegotiate), p.negotiateRequest())
	must(p.t, p.c.Send(req))
	h, msg, err := p.answer()
	must(p.t, err)
	if h.Status != 0 {
		p.t.Fatalf("NEGOTIATE: %v", h.Status)
	}
	p.preauth.Update(req)
	p.preauth.Update(msg)
	resp, err := smb2.ParseNegotiateResponse(msg)
	must(p.t, err)
	p.hint = resp.SecurityBuffer
	p.sign = resp.SecurityMode&smb2.NegotiateSigningRequired != 0
	p.alg, p.cipher = smbcrypto.AESGMAC, smbcrypto.AES128GCM
}

// logon makes a session.
func (p *peer) logon() {
	p.t.Helper()
	who := &ntlm.Client{User: user, Password: password, Domain: "NAS"}
	init := spnego.NewInitiator(p.hint, who)
	var in []byte
	for {
		token, _, err := init.Step(in)
		must(p.t, err)
		req := p.element(p.header(smb2.CommandSessionSetup), &smb2.SessionSetupRequest{SecurityMode: smb2.NegotiateSigningEnabled, SecurityBuffer: token})
		must(p.t, p.c.Send(req))
		p.preauth.Update(req)
		h, msg, err := p.answer()
		must(p.t, err)
		resp, err := smb2.ParseSessionSetupResponse(msg)
		must(p.t, err)
		p.sid, in = h.SessionID, resp.SecurityBuffer
		switch h.Status {
		case ntstatus.MoreProcessingRequired:
			p.preauth.Update(msg)
			continue
		case ntstatus.Success:
		default:
			p.t.Fatalf("SESSION_SETUP: %v", h.Status)
		}
		k, err := smbcrypto.DeriveKeys(uint16(smb2.DialectSMB311), who.SessionKey(), p.preauth[:], uint16(p.cipher))
		must(p.t, err)
		p.signer, err = smbcrypto.NewSigner(p.alg, k.Signing, smbcrypto.RoleClient)
		must(p.t, err)
		p.sealer, err = smbcrypto.NewSealer(p.cipher, k.ClientToServer)
		must(p.t, err)
		must(p.t, p.signer.Verify(msg))
		return
	}
}

// login goes all the way to an open file that holds size octets.
func (p *peer) login() {
	p.t.Helper()
	p.negotiate()
	p.logon()
	// TREE_CONNECT is signed in 3.1.1 whatever the server wants, 3.2.4.1.1.
	req := p.element(p.header(smb2.CommandTreeConnect), &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\nas\data`)})
	must(p.t, p.signer.Sign(req))
	must(p.t, p.c.Send(req))
	h, _, err := p.answer()
	must(p.t, err)
	if h.Status != 0 {
		p.t.Fatalf("TREE_CONNECT: %v", h.Status)
	}
	p.tid = h.TreeID
	h, msg := p.do(smb2.CommandCreate, createRequest("victim"))
	if h.Status != 0 {
		p.t.Fatalf("CREATE: %v", h.Status)
	}
	resp, err := smb2.ParseCreateResponse(msg)
	must(p.t, err)
	p.fid = resp.FileID
}

func createRequest(name string) *smb2.CreateRequest {
	return &smb2.CreateRequest{
		ImpersonationLevel: smb2.ImpersonationImpersonation,
		DesiredAccess:      smb2.FileReadData | smb2.FileWriteData | smb2.FileReadAttributes,
		ShareAccess:        smb2.FileShareRead | smb2.FileShareWrite | smb2.FileShareDelete,
		CreateDisposition:  smb2.FileOpenIf,
		Name:               smb2.EncodeUTF16(name),
	}
}

// outcome is what must become of a message: a status, or the end of the
// connection.
type outcome struct {
	gone   bool
	status ntstatus.Status
}

var (
	gone = outcome{gone: true}
	// goneLater is the end, perhaps after an answer: who writes by RDMA does not
	// hear whether the peer's adapter liked the token before it says Terminate.
	goneLater = outcome{gone: true, status: 1}
)

func (o outcome) String() string {
	if o.gone {
		return "the end of the connection"
	}
	return o.status.String()
}

// hostile is one message that is wrong.
type hostile struct {
	name string
	make func(p *peer) []byte
	want outcome
}

// try sends the message of one row.
func (p *peer) try(h hostile) {
	p.t.Helper()
	if err := p.c.Send(h.make(p)); err != nil {
		p.t.Fatal(err)
	}
	st, err := p.status()
	for h.want == goneLater && err == nil {
		_, err = p.status()
	}
	if h.want == goneLater {
		h.want, st = gone, 0
	}
	got := outcome{gone: err != nil, status: st}
	if isTimeout(err) {
		p.t.Fatalf("no answer, want %v", h.want)
	}
	if got != h.want {
		p.t.Errorf("got %v (%v), want %v", got, err, h.want)
	}
	if !got.gone { // and the connection goes on
		if err := p.c.Send(p.signed(p.element(p.header(smb2.CommandEcho), &smb2.EchoRequest{}))); err != nil {
			p.t.Error(err)
		}
		if st, err := p.status(); st != 0 || err != nil {
			p.t.Errorf("ECHO after it: %v, %v", st, err)
		}
	}
}

// patch makes a request with octets changed before it is signed. Offsets count
// from the SMB2 header.
func (p *peer) patch(cmd smb2.Command, m encoding.BinaryAppender, change func(b []byte) []byte) []byte {
	p.t.Helper()
	b := change(bytes.Clone(p.element(p.header(cmd), m)))
	if cmd == smb2.CommandTreeConnect { // or the connection ends, 3.3.5.7
		must(p.t, p.signer.Sign(b))
		return b
	}
	if len(b) >= smb2.HeaderSize && bytes.HasPrefix(b, []byte("\xfeSMB")) {
		return p.signed(b)
	}
	return b
}

func le16(b []byte, off int, v uint16) { b[off], b[off+1] = byte(v), byte(v>>8) }
func le32(b []byte, off int, v uint32) { le16(b, off, uint16(v)); le16(b, off+2, uint16(v>>16)) }
func le64(b []byte, off int, v uint64) { le32(b, off, uint32(v)); le32(b, off+4, uint32(v>>32)) }

// overBoth runs f with a fresh logged-on peer on each transport.
func (w *town) overBoth(t *testing.T, name string, f func(t *testing.T, p *peer)) {
	for _, scheme := range []string{"tcp", "iwarp"} {
		t.Run(fmt.Sprintf("%s/%s", name, scheme), func(t *testing.T) {
			w.over(t, scheme, f)
		})
	}
}

func (w *town) over(t *testing.T, scheme string, f func(t *testing.T, p *peer)) {
	var c wire
	if scheme == "tcp" {
		c = dialHosting(t, w.addr(scheme))
	} else {
		c = dialDirect(t, w.addr(scheme), false)
	}
	p := newPeer(t, c)
	p.login()
	f(t, p)
	c.Close()
	w.check(t)
}

// setupRequest begins a log-on with nothing that could end well.
var setupRequest = &smb2.SessionSetupRequest{SecurityBuffer: []byte("NTLMSSP\x00\x01\x00\x00\x00")}
