package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for; it is reached only when a test fails.
const patience = 20 * time.Second

// site is a server under test, and how to reach it.
type site struct {
	t   testing.TB
	srv *Server
	dir string // what the share "data" holds
	l   *memconn.Listener
	ctx context.Context
}

// hideOS takes the descriptors from a file system's files.
type hideOS struct{ vfs.FS }

type plainFile struct{ vfs.File }

func (h hideOS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f, res, err := h.FS.Open(ctx, name, o)
	if d, ok := f.(vfs.Dir); err == nil && !ok && d == nil {
		f = plainFile{f}
	}
	return f, res, err
}

// newSite starts a server with the share "data" (writable), "ro" (the same, read
// only) and the user ann. change may alter the configuration.
func newSite(t testing.TB, mc memconn.Config, change func(*Config)) *site {
	t.Helper()
	dir := t.TempDir()
	fsys, err := posix.New(dir, posix.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fsys.Close() })
	users, err := ParseUsers("ann%secret", "bob%hunter2")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Shares:     []Share{{Name: "data", FS: fsys}, {Name: "ro", FS: fsys, ReadOnly: true}},
		Users:      users,
		ServerName: "NAS",
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if change != nil {
		change(&cfg)
	}
	srv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s := &site{t: t, srv: srv, dir: dir, l: memconn.Listen(mc), ctx: ctx}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), s.l) }()
	t.Cleanup(func() {
		srv.Close()
		cancel()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v, want ErrServerClosed", err)
		}
	})
	return s
}

// testWriter shows the log with -v.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

func (s *site) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// peer is a client that does what a test tells it, be it wrong.
type peer struct {
	t       testing.TB
	s       *site
	c       *memconn.Conn
	mid     uint64
	guid    smb2.GUID
	dialect smb2.Dialect
	caps    smb2.Capabilities
	mode    smb2.SecurityMode
	neg     smb2.NegotiateResponse
	algs    []smb2.SigningAlgorithm // that are offered; nil for all
	cipher  smbcrypto.Cipher
	alg     smbcrypto.SigningAlgorithm
	preauth smbcrypto.Preauth // of the connection

	sid       uint64
	tid       uint32
	signer    *smbcrypto.Signer
	altSigner *smbcrypto.Signer // as the Linux client would sign; nil unless the cipher has 256 bits
	sealer    *smbcrypto.Sealer
	opener    *smbcrypto.Opener
	sign      bool // sign requests
	seal      bool // encrypt requests
	unheedful bool // pay no attention to breaks
	credits   int  // granted and not used
	lastInv   *uint32
	sigs      map[uint64][16]byte // of the requests that were sent, by MessageId
}

// dial connects without a word.
func (s *site) dial() *peer {
	s.t.Helper()
	c, err := s.l.Dial(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	p := &peer{t: s.t, s: s, c: c, credits: 1, mode: smb2.NegotiateSigningEnabled,
		caps: smb2.GlobalCapLargeMTU | smb2.GlobalCapMultiChannel | smb2.GlobalCapEncryption |
			smb2.GlobalCapLeasing | smb2.GlobalCapDirectoryLeasing}
	rand.Read(p.guid[:])
	return p
}

// login is dial, negotiate for one dialect, and a session of ann's.
func (s *site) login(d smb2.Dialect) *peer {
	s.t.Helper()
	p := s.dial()
	p.negotiate(d)
	if st := p.logon("ann", "secret"); st != ntstatus.Success {
		s.t.Fatalf("logon: %v", st)
	}
	return p
}

// body is a message body that a codec appends.
type body = encoding.BinaryAppender

// header begins a request: the next MessageId, enough credits asked for.
func (p *peer) header(cmd smb2.Command) smb2.Header {
	h := smb2.Header{
		Command: cmd, MessageID: p.mid, SessionID: p.sid, TreeID: p.tid,
		Credits: 64, CreditCharge: 1, ProcessID: 0xFEFF,
	}
	if p.dialect < smb2.DialectSMB210 {
		h.CreditCharge = 0
	}
	return h
}

// element is a request as octets.
func (p *peer) element(h smb2.Header, m body) []byte {
	p.t.Helper()
	b, err := m.AppendBinary(h.Append(nil))
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// use counts the ids of a request as used.
func (p *peer) use(h smb2.Header) {
	n := max(int(h.CreditCharge), 1)
	p.mid += uint64(n)
	p.credits -= n
}

// transmit sends octets as one message.
func (p *peer) transmit(b []byte) {
	p.t.Helper()
	for el := range smb2.Compound(b) {
		if h, err := smb2.ParseHeader(el); err == nil && h.IsSigned() {
			if p.sigs == nil {
				p.sigs = map[uint64][16]byte{}
			}
			p.sigs[h.MessageID] = h.Signature
		}
	}
	if err := p.c.Send(p.s.ctx, &transport.Message{Parts: [][]byte{b}}); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// post sends one request, signed or encrypted as p says, and returns its
// MessageId.
func (p *peer) post(h smb2.Header, m body) uint64 {
	p.t.Helper()
	b := p.element(h, m)
	p.use(h)
	p.transmit(p.protect(b))
	return h.MessageID
}

// protect signs or encrypts a message, as p says.
func (p *peer) protect(b []byte) []byte {
	p.t.Helper()
	if p.seal {
		out, err := p.sealer.Seal(nil, p.sid, b)
		if err != nil {
			p.t.Fatal(err)
		}
		return out
	}
	if p.sign {
		if err := p.signer.Sign(b); err != nil {
			p.t.Fatal(err)
		}
	}
	return b
}

// receive returns the elements of the next message: decrypted, signatures
// verified where they claim to be signed.
func (p *peer) receive() [][]byte {
	p.t.Helper()
	m, err := p.c.Receive(p.s.ctx)
	if err != nil {
		p.t.Fatalf("receive: %v", err)
	}
	defer m.Release()
	p.lastInv = nil
	if m.HasInvalidated {
		token := m.Invalidated
		p.lastInv = &token
	}
	data := bytes.Clone(m.Data)
	if smbcrypto.IsTransform(data) {
		if data, err = p.opener.Open(data); err != nil {
			p.t.Fatalf("decrypt: %v", err)
		}
	} else if p.seal {
		p.t.Fatal("answer to an encrypted request came in the clear")
	}
	var out [][]byte
	for el, err := range smb2.Compound(data) {
		if err != nil {
			p.t.Fatalf("response: %v", err)
		}
		h, err := smb2.ParseHeader(el)
		if err != nil {
			p.t.Fatalf("response: %v", err)
		}
		p.credits += int(h.Credits)
		if h.IsSigned() && p.signer != nil && h.Command != smb2.CommandSessionSetup {
			// Where there is no key an error has the signature of the request.
			echoed := h.Status.IsError() && h.Signature == p.sigs[h.MessageID]
			if err := p.signer.Verify(el); err != nil && !echoed {
				p.t.Errorf("%v: %v", h.Command, err)
			}
		}
		out = append(out, el)
	}
	return out
}

// answer returns the one response of the next message.
func (p *peer) answer() (smb2.Header, []byte) {
	p.t.Helper()
	els := p.receive()
	if len(els) != 1 {
		p.t.Fatalf("%d responses in a message, want 1", len(els))
	}
	h, _ := smb2.ParseHeader(els[0])
	return h, els[0]
}

// do sends a request and returns the final response to it.
func (p *peer) do(cmd smb2.Command, m body) (ntstatus.Status, []byte) {
	p.t.Helper()
	return p.doHeader(p.header(cmd), m)
}

// doSized is do with the credits that n octets of payload cost.
func (p *peer) doSized(cmd smb2.Command, n int, m body) (ntstatus.Status, []byte) {
	p.t.Helper()
	h := p.header(cmd)
	h.CreditCharge = smb2.CreditCharge(n)
	return p.doHeader(h, m)
}

func (p *peer) doHeader(h smb2.Header, m body) (ntstatus.Status, []byte) {
	p.t.Helper()
	id := p.post(h, m)
	for {
		r, b := p.answer()
		if p.unheedful && r.MessageID == math.MaxUint64 { // a break notification
			continue
		}
		if r.MessageID != id {
			p.t.Fatalf("response to message %d, want %d", r.MessageID, id)
		}
		if r.Status != ntstatus.Pending {
			return r.Status, b
		}
	}
}

// gone waits for the server to end the connection.
func (p *peer) gone() {
	p.t.Helper()
	for {
		m, err := p.c.Receive(p.s.ctx)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			p.t.Fatalf("waiting for the end of the connection: %v", err)
		}
		p.t.Errorf("answer %x before the connection ended", m.Data)
		m.Release()
	}
}

// contexts are those of a 3.1.1 client that can do everything.
func (p *peer) contexts() []smb2.NegotiateContext {
	pre, _ := (&smb2.PreauthIntegrityCapabilities{HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: []byte("salt")}).AppendBinary(nil)
	enc, _ := (&smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{4, 3, 2, 1}}).AppendBinary(nil)
	algs := p.algs
	if algs == nil {
		algs = []smb2.SigningAlgorithm{2, 1, 0}
	}
	sig, _ := (&smb2.SigningCapabilities{SigningAlgorithms: algs}).AppendBinary(nil)
	return []smb2.NegotiateContext{
		{Type: smb2.ContextPreauthIntegrityCapabilities, Data: pre},
		{Type: smb2.ContextEncryptionCapabilities, Data: enc},
		{Type: smb2.ContextSigningCapabilities, Data: sig},
	}
}

// negotiate offers the dialects and takes what the server chooses.
func (p *peer) negotiate(ds ...smb2.Dialect) {
	p.t.Helper()
	req := &smb2.NegotiateRequest{SecurityMode: p.mode, Capabilities: p.caps, ClientGUID: p.guid, Dialects: ds}
	if req.HasDialect(smb2.DialectSMB311) {
		req.Contexts = p.contexts()
	}
	st, resp := p.negotiateWith(req)
	if st != ntstatus.Success {
		p.t.Fatalf("NEGOTIATE: %v", st)
	}
	p.neg = resp
}

func (p *peer) negotiateWith(req *smb2.NegotiateRequest) (ntstatus.Status, smb2.NegotiateResponse) {
	p.t.Helper()
	h := p.header(smb2.CommandNegotiate)
	h.CreditCharge = 0
	b := p.element(h, req)
	p.use(h)
	p.preauth = smbcrypto.Preauth{}
	p.preauth.Update(b)
	p.transmit(b)
	r, msg := p.answer()
	if r.Status != ntstatus.Success {
		return r.Status, smb2.NegotiateResponse{}
	}
	p.preauth.Update(msg)
	resp, err := smb2.ParseNegotiateResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.dialect = resp.DialectRevision
	p.alg = smbcrypto.DefaultSigning(uint16(p.dialect))
	p.cipher = 0
	if resp.Capabilities&smb2.GlobalCapEncryption != 0 {
		p.cipher = smbcrypto.AES128CCM
	}
	if d, n := smb2.FindNegotiateContext(resp.Contexts, smb2.ContextEncryptionCapabilities); n == 1 {
		m, _ := smb2.ParseEncryptionCapabilities(d)
		p.cipher = smbcrypto.Cipher(m.Ciphers[0])
	}
	if d, n := smb2.FindNegotiateContext(resp.Contexts, smb2.ContextSigningCapabilities); n == 1 {
		m, _ := smb2.ParseSigningCapabilities(d)
		p.alg = smbcrypto.SigningAlgorithm(m.SigningAlgorithms[0])
	}
	return ntstatus.Success, resp
}

// logon makes a session. Requests are signed from then on if the server asks
// for it, and in 3.1.1 always.
func (p *peer) logon(user, password string) ntstatus.Status {
	p.t.Helper()
	return p.setup(user, password, 0, smb2.SessionSetupRequest{SecurityMode: uint8Mode(p.mode)})
}

func uint8Mode(m smb2.SecurityMode) smb2.SecurityMode { return m }

// setup exchanges SESSION_SETUP messages for the session sid, 0 for a new one.
func (p *peer) setup(user, password string, sid uint64, req smb2.SessionSetupRequest) ntstatus.Status {
	p.t.Helper()
	who := &ntlm.Client{User: user, Password: password, Domain: "NAS"}
	init := spnego.NewInitiator(p.neg.SecurityBuffer, who)
	hash := p.preauth
	binding := req.Flags&smb2.SessionSetupFlagBinding != 0
	var in []byte
	for {
		token, _, err := init.Step(in)
		if err != nil {
			p.t.Fatalf("initiator: %v", err)
		}
		req.SecurityBuffer = token
		h := p.header(smb2.CommandSessionSetup)
		h.SessionID, h.TreeID = sid, 0
		b := p.element(h, &req)
		if p.sign && sid != 0 && (binding || sid == p.sid) {
			if err := p.signer.Sign(b); err != nil {
				p.t.Fatal(err)
			}
		}
		p.use(h)
		hash.Update(b)
		p.transmit(b)
		r, msg := p.answer()
		if r.Status != ntstatus.Success && r.Status != ntstatus.MoreProcessingRequired {
			return r.Status
		}
		resp, err := smb2.ParseSessionSetupResponse(msg)
		if err != nil {
			p.t.Fatal(err)
		}
		sid, in = r.SessionID, resp.SecurityBuffer
		if r.Status == ntstatus.MoreProcessingRequired {
			hash.Update(msg)
			continue
		}
		again := p.sid == sid && !binding
		p.sid = sid
		if again || resp.SessionFlags&(smb2.SessionFlagIsGuest|smb2.SessionFlagIsNull) != 0 {
			return r.Status
		}
		p.keys(who.SessionKey(), hash, binding)
		if err := p.signer.Verify(msg); err != nil {
			p.t.Errorf("final SESSION_SETUP response: %v", err)
		}
		p.sign = p.dialect == smb2.DialectSMB311 || p.neg.SecurityMode&smb2.NegotiateSigningRequired != 0
		p.seal = resp.SessionFlags&smb2.SessionFlagEncryptData != 0
		return r.Status
	}
}

// keys derives the keys of the session, or of one more channel of it.
func (p *peer) keys(key []byte, hash smbcrypto.Preauth, binding bool) {
	p.t.Helper()
	var signing []byte
	var err error
	if binding {
		signing, err = smbcrypto.ChannelSigningKey(uint16(p.dialect), key, hash[:])
	} else {
		var k smbcrypto.Keys
		if k, err = smbcrypto.DeriveKeys(uint16(p.dialect), key, hash[:], uint16(p.cipher)); err == nil && p.cipher != 0 {
			if p.sealer, err = smbcrypto.NewSealer(p.cipher, k.ClientToServer); err == nil {
				p.opener, err = smbcrypto.NewOpener(p.cipher, k.ServerToClient)
			}
		}
		signing = k.Signing
	}
	if err == nil {
		p.signer, err = smbcrypto.NewSigner(p.alg, signing, smbcrypto.RoleClient)
	}
	if alt, _ := smbcrypto.AltSigningKey(uint16(p.dialect), key, hash[:], uint16(p.cipher)); err == nil && alt != nil {
		p.altSigner, err = smbcrypto.NewSigner(p.alg, alt, smbcrypto.RoleClient)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// connect makes a tree connect; p uses it from then on.
func (p *peer) connect(share string) ntstatus.Status {
	p.t.Helper()
	h := p.header(smb2.CommandTreeConnect)
	h.TreeID = 0
	st, b := p.doHeader(h, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\nas\` + share)})
	if st == ntstatus.Success {
		r, _ := smb2.ParseHeader(b)
		p.tid = r.TreeID
	}
	return st
}

// mustConnect is connect that has to succeed.
func (p *peer) mustConnect(share string) *peer {
	p.t.Helper()
	if st := p.connect(share); st != ntstatus.Success {
		p.t.Fatalf("TREE_CONNECT to %s: %v", share, st)
	}
	return p
}

// createRequest opens or creates a file for reading and writing, shared with all.
func createRequest(name string, d smb2.CreateDisposition) *smb2.CreateRequest {
	return &smb2.CreateRequest{
		ImpersonationLevel: smb2.ImpersonationImpersonation,
		DesiredAccess:      smb2.FileReadData | smb2.FileWriteData | smb2.FileAppendData | smb2.FileReadAttributes | smb2.Delete,
		ShareAccess:        smb2.FileShareRead | smb2.FileShareWrite | smb2.FileShareDelete,
		CreateDisposition:  d,
		Name:               smb2.EncodeUTF16(name),
	}
}

// create sends a CREATE that has to succeed.
func (p *peer) create(m *smb2.CreateRequest) smb2.FileID {
	p.t.Helper()
	st, msg := p.do(smb2.CommandCreate, m)
	if st != ntstatus.Success {
		p.t.Fatalf("CREATE: %v", st)
	}
	resp, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.FileID
}

// openFile opens or creates a file.
func (p *peer) openFile(name string) smb2.FileID {
	p.t.Helper()
	return p.create(createRequest(name, smb2.FileOpenIf))
}

// want fails the test unless the status is st.
func want(t testing.TB, what string, got, st ntstatus.Status) {
	t.Helper()
	if got != st {
		t.Errorf("%s: got %v, want %v", what, got, st)
	}
}
