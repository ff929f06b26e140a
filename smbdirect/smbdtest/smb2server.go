package smbdtest

import (
	"context"
	"crypto/rand"
	"encoding"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// SMB2Config is how an SMB2 client under test is to be.
type SMB2Config struct {
	Dialect       uint16 // the only one that it offers
	Sign, Encrypt bool   // it demands
	Threshold     int    // octets from which data goes by RDMA; 0 for its own default
	User          string
	Password      string
	Share, Name   string // of the file
}

// SMB2File is a file that a client under test has open. Close ends the session, too.
type SMB2File interface {
	ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
	WriteAtContext(ctx context.Context, p []byte, off int64) (int, error)
	Close() error
}

// OpenSMB2 opens a file over a connection, which belongs to the file from then on,
// also if that fails.
type OpenSMB2 func(ctx context.Context, c transport.Conn, cfg SMB2Config) (SMB2File, error)

// serverOptions is what a raw server offers and how its client is to be.
type serverOptions struct {
	dialect    smb2.Dialect            // 3.1.1 if 0
	cipher     smb2.Cipher             // taken, if the client offers it
	alg        smb2.SigningAlgorithm   // likewise; 0, no context: AES-CMAC
	transforms []smb2.RDMATransformID  // taken; none, no context
	contexts   []smb2.NegotiateContext // more, behind these
	sign, seal bool                    // the client demands
	threshold  int                     // of the client, in octets
}

// clientRequest is a READ or WRITE of the client under test.
type clientRequest struct {
	hdr    smb2.Header
	msg    []byte // from the header on
	sealed bool
}

// smb2Server is a server of one connection that does to the file requests of its
// client what a case tells it. All that comes before a case begins it answers as it
// should. It is for one goroutine.
type smb2Server struct {
	t    *T
	call *Call
	opt  serverOptions

	neg      smb2.NegotiateRequest
	negMsg   []byte
	mode     smb2.SecurityMode
	caps     smb2.Capabilities
	guid     smb2.GUID
	preauth  smbcrypto.Preauth
	acceptor *spnego.Acceptor
	keys     smbcrypto.Keys
	cipher   smbcrypto.Cipher
	alg      smbcrypto.SigningAlgorithm
	signer   *smbcrypto.Signer
	sealer   *smbcrypto.Sealer
	opener   *smbcrypto.Opener
	nonces   map[string]bool // that the client has used, by key

	file   SMB2File
	opened chan openedFile
}

type openedFile struct {
	file SMB2File
	err  error
}

const (
	rawSession = 0x5E551011
	rawTree    = 0x7EE
	rawUser    = "ann"
	rawSecret  = "secret"
)

var rawFileID = smb2.FileID{Persistent: 0x1122334455667788, Volatile: 0x99AABBCCDDEEFF00}

// meetSMB2 lets the client under test connect and begin to open a file.
func meetSMB2(t *T, opt serverOptions) *smb2Server {
	if t.OpenSMB2 == nil {
		t.Skipf("there is no SMB2 client to test")
	}
	if opt.dialect == 0 {
		opt.dialect = smb2.DialectSMB311
	}
	s := &smb2Server{t: t, opt: opt, opened: make(chan openedFile, 1), nonces: map[string]bool{},
		caps: smb2.GlobalCapLargeMTU, mode: smb2.NegotiateSigningEnabled}
	rand.Read(s.guid[:])
	resp := Response()
	resp.CreditsRequested, resp.CreditsGranted, resp.MaxFragmentedSize = 64, 64, 1<<20
	s.call = t.Meet(PeerConfig{}, resp)
	conn := s.call.Conn
	cfg := SMB2Config{Dialect: uint16(opt.dialect), Sign: opt.sign, Encrypt: opt.seal, Threshold: opt.threshold,
		User: rawUser, Password: rawSecret, Share: "data", Name: "file"}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with cancel; waited for by the cleanup
		f, err := t.OpenSMB2(ctx, conn, cfg)
		s.opened <- openedFile{f, err}
	}()
	t.Cleanup(func() {
		cancel()
		_ = conn.Close() // so that the client takes no leave of a server that has gone
		if s.file == nil {
			s.file = (<-s.opened).file
		}
		if s.file != nil {
			_ = s.file.Close()
		}
	})
	return s
}

// serveFile is meetSMB2 until the client has its file open.
func serveFile(t *T, opt serverOptions) *smb2Server {
	s := meetSMB2(t, opt)
	for s.file == nil {
		if s.step() == smb2.CommandCreate {
			s.hasOpened()
		}
	}
	return s
}

// hasOpened takes the result of the client's open, which must be a success.
func (s *smb2Server) hasOpened() {
	select {
	case r := <-s.opened:
		if r.err != nil {
			s.opened <- r
			s.t.Fatalf("the client: %v", r.err)
		}
		s.file = r.file
	case <-time.After(s.t.Times.React):
		s.t.Fatalf("the client has no file after its CREATE was answered")
	}
}

// receive takes the next message of the client.
func (s *smb2Server) receive() clientRequest {
	m, err := s.call.Message(s.t.Times.React)
	if err != nil {
		s.t.Fatalf("waiting for the client: %v (%v)", err, s.call.End())
	}
	r := clientRequest{msg: m.Data}
	if smbcrypto.IsTransform(r.msg) {
		if s.opener == nil || len(r.msg) < smb2.TransformHeaderSize {
			s.t.Fatalf("an encrypted request of %d octets; the session has keys: %v", len(r.msg), s.opener != nil)
		}
		s.fresh("encryption", r.msg[20:20+nonceSize(s.cipher)])
		if r.msg, err = s.opener.Open(r.msg); err != nil {
			s.t.Fatalf("a request that cannot be decrypted: %v", err)
		}
		r.sealed = true
	}
	if r.hdr, err = smb2.ParseHeader(r.msg); err != nil {
		s.t.Fatalf("a request that is no SMB2 message: %v", err)
	}
	if r.hdr.NextCommand != 0 {
		s.t.Fatalf("a compound of %v and others", r.hdr.Command)
	}
	if r.hdr.IsSigned() && s.signer != nil {
		if err := s.signer.Verify(r.msg); err != nil {
			s.t.Errorf("%v request: %v", r.hdr.Command, err)
		}
	}
	return r
}

// fresh checks that a nonce is new under its key.
func (s *smb2Server) fresh(key string, nonce []byte) {
	if k := fmt.Sprintf("%s %x", key, nonce); s.nonces[k] {
		s.t.Errorf("the client used the nonce % x of %s before", nonce, key)
	} else {
		s.nonces[k] = true
	}
}

// next returns the next READ or WRITE, and answers what comes before it.
func (s *smb2Server) next() clientRequest {
	for {
		r := s.receive()
		if r.hdr.Command == smb2.CommandRead || r.hdr.Command == smb2.CommandWrite {
			return r
		}
		s.answer(r)
	}
}

// step answers one request and returns its command.
func (s *smb2Server) step() smb2.Command {
	r := s.receive()
	s.answer(r)
	return r.hdr.Command
}

// answer is what a server says to what is not a READ or WRITE.
func (s *smb2Server) answer(r clientRequest) {
	switch r.hdr.Command {
	case smb2.CommandNegotiate:
		s.negotiate(r)
	case smb2.CommandSessionSetup:
		s.sessionSetup(r)
	case smb2.CommandTreeConnect:
		r.hdr.TreeID = rawTree
		s.reply(r, ntstatus.Success, &smb2.TreeConnectResponse{ShareType: smb2.ShareTypeDisk})
	case smb2.CommandCreate:
		s.reply(r, ntstatus.Success, &smb2.CreateResponse{CreateAction: smb2.FileOpened, FileID: rawFileID, EndOfFile: 1 << 40})
	case smb2.CommandClose:
		s.reply(r, ntstatus.Success, &smb2.CloseResponse{})
	case smb2.CommandEcho:
		s.reply(r, ntstatus.Success, &smb2.EchoResponse{})
	case smb2.CommandIoctl:
		s.ioctl(r)
	case smb2.CommandCancel:
	default:
		s.reply(r, ntstatus.NotSupported, &smb2.ErrorResponse{})
	}
}

func (s *smb2Server) negotiate(r clientRequest) {
	var err error
	if s.neg, err = smb2.ParseNegotiateRequest(r.msg); err != nil {
		s.t.Fatalf("NEGOTIATE request: %v", err)
	}
	s.negMsg = r.msg
	if !s.neg.HasDialect(s.opt.dialect) {
		s.t.Fatalf("the client offers the dialects %v, and was to offer %v", s.neg.Dialects, s.opt.dialect)
	}
	resp := &smb2.NegotiateResponse{
		SecurityMode: s.mode, DialectRevision: s.opt.dialect, ServerGUID: s.guid, Capabilities: s.caps,
		MaxTransactSize: 1 << 20, MaxReadSize: 1 << 20, MaxWriteSize: 1 << 20,
	}
	s.alg = smbcrypto.DefaultSigning(uint16(s.opt.dialect))
	if s.opt.dialect == smb2.DialectSMB311 {
		resp.Contexts = s.contexts()
	} else if s.opt.cipher == smb2.CipherAES128CCM && s.neg.Capabilities&smb2.GlobalCapEncryption != 0 {
		s.cipher = smbcrypto.AES128CCM
		s.caps |= smb2.GlobalCapEncryption
		resp.Capabilities = s.caps
	}
	s.preauth.Update(r.msg)
	msg := s.encode(r, ntstatus.Success, resp)
	s.preauth.Update(msg)
	s.send(msg, nil)
}

// contexts answers those of the client.
func (s *smb2Server) contexts() []smb2.NegotiateContext {
	var out []smb2.NegotiateContext
	add := func(t smb2.NegotiateContextType, m encoding.BinaryAppender) {
		b, err := m.AppendBinary(nil)
		s.t.Must("negotiate context", err)
		out = append(out, smb2.NegotiateContext{Type: t, Data: b})
	}
	add(smb2.ContextPreauthIntegrityCapabilities, &smb2.PreauthIntegrityCapabilities{
		HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: random(32)})
	if b, n := smb2.FindNegotiateContext(s.neg.Contexts, smb2.ContextEncryptionCapabilities); n == 1 && s.opt.cipher != 0 {
		m, err := smb2.ParseEncryptionCapabilities(b)
		if s.t.Must("encryption context", err); slices.Contains(m.Ciphers, s.opt.cipher) {
			s.cipher = smbcrypto.Cipher(s.opt.cipher)
			add(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{s.opt.cipher}})
		}
	}
	if b, n := smb2.FindNegotiateContext(s.neg.Contexts, smb2.ContextSigningCapabilities); n == 1 && s.opt.alg != 0 {
		m, err := smb2.ParseSigningCapabilities(b)
		if s.t.Must("signing context", err); slices.Contains(m.SigningAlgorithms, s.opt.alg) {
			s.alg = smbcrypto.SigningAlgorithm(s.opt.alg)
			add(smb2.ContextSigningCapabilities, &smb2.SigningCapabilities{SigningAlgorithms: []smb2.SigningAlgorithm{s.opt.alg}})
		}
	}
	if len(s.opt.transforms) > 0 {
		out = append(out, rdmaCapabilities(uint16(len(s.opt.transforms)), s.opt.transforms...))
	}
	return append(out, s.opt.contexts...)
}

func (s *smb2Server) sessionSetup(r clientRequest) {
	m, err := smb2.ParseSessionSetupRequest(r.msg)
	s.t.Must("SESSION_SETUP request", err)
	if s.acceptor == nil {
		hash := ntlm.NTHash(rawSecret)
		c, err := (&ntlm.Server{NetBIOSName: "NAS", Lookup: func(user, _ string) ([16]byte, bool) { return hash, user == rawUser }}).NewContext()
		s.t.Must("log-on", err)
		s.acceptor = spnego.NewAcceptor(c)
	}
	s.preauth.Update(r.msg)
	token, done, err := s.acceptor.Step(m.SecurityBuffer)
	s.t.Must("log-on", err)
	r.hdr.SessionID = rawSession
	if !done {
		msg := s.encode(r, ntstatus.MoreProcessingRequired, &smb2.SessionSetupResponse{SecurityBuffer: token})
		s.preauth.Update(msg)
		s.send(msg, nil)
		return
	}
	s.keys, err = smbcrypto.DeriveKeys(uint16(s.opt.dialect), s.acceptor.Mechanism().SessionKey(), s.preauth[:], uint16(s.cipher))
	s.t.Must("session keys", err)
	s.signer, err = smbcrypto.NewSigner(s.alg, s.keys.Signing, smbcrypto.RoleServer)
	s.t.Must("session keys", err)
	if s.cipher != 0 {
		s.sealer, err = smbcrypto.NewSealer(s.cipher, s.keys.ServerToClient)
		s.t.Must("session keys", err)
		s.opener, err = smbcrypto.NewOpener(s.cipher, s.keys.ClientToServer)
		s.t.Must("session keys", err)
	}
	msg := s.encode(r, ntstatus.Success, &smb2.SessionSetupResponse{SecurityBuffer: token})
	s.t.Must("signature", s.signer.Sign(msg))
	s.send(msg, nil)
}

// ioctl confirms the negotiation to clients below 3.1.1, [MS-SMB2] 3.3.5.15.12.
func (s *smb2Server) ioctl(r clientRequest) {
	m, err := smb2.ParseIoctlRequest(r.msg)
	s.t.Must("IOCTL request", err)
	if m.CtlCode != smb2.FsctlValidateNegotiateInfo {
		s.reply(r, ntstatus.NotSupported, &smb2.ErrorResponse{})
		return
	}
	out, err := (&smb2.ValidateNegotiateInfoResponse{Capabilities: s.caps, GUID: s.guid, SecurityMode: s.mode, Dialect: s.opt.dialect}).AppendBinary(nil)
	s.t.Must("IOCTL response", err)
	s.reply(r, ntstatus.Success, &smb2.IoctlResponse{CtlCode: m.CtlCode, FileID: m.FileID, Output: out})
}

// encode makes the octets of a response, neither signed nor encrypted.
func (s *smb2Server) encode(r clientRequest, st ntstatus.Status, m encoding.BinaryAppender) []byte {
	h := r.hdr
	h.Flags = h.Flags&^smb2.FlagSigned | smb2.FlagServerToRedir
	h.Status, h.Signature, h.Credits = st, [16]byte{}, max(h.Credits, h.CreditCharge, 1)
	msg, err := m.AppendBinary(h.Append(nil))
	s.t.Must("response", err)
	return msg
}

// reply answers as the request was protected.
func (s *smb2Server) reply(r clientRequest, st ntstatus.Status, m encoding.BinaryAppender) {
	s.protected(r, s.encode(r, st, m), nil)
}

// protected signs or encrypts a response as its request was, and sends it with the
// invalidation of a token, if there is one.
func (s *smb2Server) protected(r clientRequest, msg []byte, invalidate *uint32) {
	var err error
	switch {
	case r.sealed:
		msg, err = s.sealer.Seal(nil, r.hdr.SessionID, msg)
		s.t.Must("encryption", err)
	case r.hdr.IsSigned():
		s.t.Must("signature", s.signer.Sign(msg))
	}
	s.send(msg, invalidate)
}

// send sends a message; one that invalidates has to fit a fragment.
func (s *smb2Server) send(msg []byte, invalidate *uint32) {
	c := s.call
	if invalidate == nil {
		s.t.Must("send", c.SendMessage(msg, s.t.Times.React))
		return
	}
	s.t.Must("credits", c.WaitCredits(1, s.t.Times.React))
	h := c.Header(len(msg), 0)
	s.t.Must("send", c.SendInvalidate(Encode(h, msg), ndk.Token(*invalidate)))
	c.Credits--
	c.Owed -= int(h.CreditsGranted)
	c.Granted += int(h.CreditsGranted)
}

// channelInfo is the Buffer of a READ or WRITE by RDMA, and what its fields say of
// it.
func (r *clientRequest) channelInfo() (channel smb2.Channel, info []byte) {
	le := binary.LittleEndian
	channelAt, offsetAt := readChannelAt, readInfoOffset
	if r.hdr.Command == smb2.CommandWrite {
		channelAt, offsetAt = writeChannelAt, writeInfoOffset
	}
	if len(r.msg) < readBuffer {
		return 0, nil
	}
	off, n := int(le.Uint16(r.msg[offsetAt:])), int(le.Uint16(r.msg[offsetAt+2:]))
	if off+n > len(r.msg) {
		n = 0
	}
	return smb2.Channel(le.Uint32(r.msg[channelAt:])), r.msg[off:][:n]
}

// descriptors are those of a request by RDMA without a transform. There must be
// some, of n octets in all.
func (s *smb2Server) descriptors(r clientRequest, n int) []wire.Descriptor {
	_, info := r.channelInfo()
	return s.parseDescriptors(info, n)
}

func (s *smb2Server) parseDescriptors(info []byte, n int) []wire.Descriptor {
	ds, err := wire.ParseDescriptors(nil, info)
	sum := 0
	for _, d := range ds {
		sum += int(d.Length)
	}
	if err != nil || len(ds) == 0 || sum != n {
		s.t.Fatalf("%d descriptors of %d octets in all (%v), want %d octets", len(ds), sum, err, n)
	}
	return ds
}

// put writes content to the client's memory.
func (s *smb2Server) put(ds []wire.Descriptor, content []byte) {
	for _, d := range ds {
		n := min(int(d.Length), len(content))
		if n > 0 {
			s.t.Must("RDMA Write", s.call.WriteRemote(s.t.Context(), d, content[:n]))
		}
		content = content[n:]
	}
}

// get reads the client's memory.
func (s *smb2Server) get(ds []wire.Descriptor) (content []byte) {
	for _, d := range ds {
		b, err := s.call.ReadRemote(s.t.Context(), d)
		s.t.Must("RDMA Read", err)
		content = append(content, b...)
	}
	return content
}

// ioResult is what the client's user got.
type ioResult struct {
	n   int
	err error
}

// readAt and writeAt have the client's user read or write, beside the case.
func (s *smb2Server) readAt(p []byte, off int64) <-chan ioResult {
	out := make(chan ioResult, 1)
	ctx, f := s.t.Context(), s.file
	go func() { // ends when the file is closed, at the latest
		n, err := f.ReadAtContext(ctx, p, off)
		out <- ioResult{n, err}
	}()
	return out
}

func (s *smb2Server) writeAt(p []byte, off int64) <-chan ioResult {
	out := make(chan ioResult, 1)
	ctx, f := s.t.Context(), s.file
	go func() { // as above
		n, err := f.WriteAtContext(ctx, p, off)
		out <- ioResult{n, err}
	}()
	return out
}

// done waits for a result.
func (s *smb2Server) done(c <-chan ioResult) ioResult {
	select {
	case r := <-c:
		return r
	case <-time.After(s.t.Times.React):
		s.t.Fatalf("the client's user waits still after %v", s.t.Times.React)
	}
	return ioResult{}
}
