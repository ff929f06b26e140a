package client

import (
	"context"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// fake is a server that answers as a test wants, be it wrong. Without handlers it
// is a correct one with one file, that takes everybody for a guest or, with auth
// set, for "ann" with the password "secret".
type fake struct {
	t    testing.TB
	l    *link
	done chan struct{} // closed when the fake has ended

	// Set before the client connects.
	dialect  smb2.Dialect
	auth     bool
	mode     smb2.SecurityMode
	caps     smb2.Capabilities
	contexts func([]smb2.NegotiateContext) []smb2.NegotiateContext
	on       map[smb2.Command]handler
	// What a server of 3.1.1 answers in its contexts, if not zero.
	cipher     smbcrypto.Cipher
	alg        smbcrypto.SigningAlgorithm
	transforms []smb2.RDMATransformID
	grant      func(h smb2.Header) uint16 // CreditResponse

	mu   sync.Mutex
	data []byte        // guarded by mu: the file
	seen []smb2.Header // guarded by mu: every request

	// Owned by the fake's goroutine.
	acceptor *spnego.Acceptor
	hash     smbcrypto.Preauth
	signer   *smbcrypto.Signer
	sealer   *smbcrypto.Sealer
	opener   *smbcrypto.Opener
	sealed   bool // the request came encrypted: so is its answer
	sign     bool
	out      []byte
	parts    [1][]byte
	message  transport.Message
	descs    []transport.Descriptor
	readM    smb2.ReadResponse  // answers and a buffer of the data path, kept so that
	writeM   smb2.WriteResponse // the fake allocates nothing there
	buf      *leasedPtr
}

// handler answers a request in its own way, and reports whether it did.
type handler func(f *fake, h smb2.Header, msg []byte) bool

func newFake(t testing.TB, lc linkConfig) (*fake, *link) {
	c, s := newLink(lc)
	f := &fake{t: t, l: s, done: make(chan struct{}), dialect: smb2.DialectSMB311, on: map[smb2.Command]handler{},
		caps: smb2.GlobalCapLargeMTU, buf: new(leasedPtr)}
	f.grant = func(h smb2.Header) uint16 { return max(h.Credits, 1) }
	return f, c
}

// start runs the fake and returns a session with it.
func (f *fake) start(c transport.Conn, cfg Config) (*Session, error) {
	go f.serve() // ends with the connection; the cleanup waits
	f.t.Cleanup(func() { f.l.Close(); <-f.done })
	if cfg.User == "" {
		cfg.User, cfg.Password = "ann", "secret"
	}
	s, err := New(context.Background(), c, cfg)
	if err == nil {
		f.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// open starts the fake and opens its file.
func (f *fake) open(c transport.Conn, cfg Config) *File {
	f.t.Helper()
	s, err := f.start(c, cfg)
	must(f.t, err)
	sh, err := s.Mount(context.Background(), "data")
	must(f.t, err)
	file, err := sh.Create(context.Background(), "file")
	must(f.t, err)
	return file
}

// leasedPtr is a transport.Buffer.
type leasedPtr struct{ p []byte }

func (b *leasedPtr) Bytes() []byte { return b.p }
func (b *leasedPtr) Release()      {}

func (f *fake) serve() {
	defer close(f.done)
	for {
		r, err := f.l.Receive(context.Background())
		if err != nil {
			return
		}
		data := r.Data
		if f.sealed = smbcrypto.IsTransform(data); f.sealed {
			if data, err = f.opener.Open(data); err != nil {
				f.t.Errorf("client sent: %v", err)
				return
			}
		}
		for msg, err := range smb2.Compound(data) {
			if err != nil {
				f.t.Errorf("client sent: %v", err)
				break
			}
			f.request(msg)
		}
		r.Release()
	}
}

func (f *fake) request(msg []byte) {
	h, err := smb2.ParseHeader(msg)
	if err != nil {
		f.t.Errorf("client sent: %v", err)
		return
	}
	f.mu.Lock()
	if len(f.seen) < cap(f.seen) || len(f.seen) < 1000 { // measured tests send many
		f.seen = append(f.seen, h)
	}
	f.mu.Unlock()
	if f.signer != nil && h.IsSigned() {
		if err := f.signer.Verify(msg); err != nil {
			f.t.Errorf("%v from the client: %v", h.Command, err)
		}
	}
	f.mu.Lock()
	on := f.on[h.Command]
	f.mu.Unlock()
	if on != nil && on(f, h, msg) {
		return
	}
	f.answer(h, msg)
}

// requests counts what was asked.
func (f *fake) requests(c smb2.Command) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.seen {
		if h.Command == c {
			n++
		}
	}
	return n
}

// reply sends an answer.
func (f *fake) reply(h smb2.Header, st ntstatus.Status, m body) {
	f.replyWith(h, st, m, nil)
}

func (f *fake) replyWith(h smb2.Header, st ntstatus.Status, m body, invalidate *uint32) {
	f.out = f.encode(f.out[:0], h, st, m)
	if f.signer != nil && (f.sign || h.IsSigned() && !f.sealed) {
		if err := f.signer.Sign(f.out); err != nil {
			f.t.Error(err)
		}
	}
	if f.sealed {
		b, err := f.sealer.Seal(nil, h.SessionID, f.out)
		if err != nil {
			f.t.Error(err)
		}
		f.out = b
	}
	f.send(f.out, invalidate)
}

func (f *fake) encode(b []byte, h smb2.Header, st ntstatus.Status, m body) []byte {
	h.Flags = h.Flags&^smb2.FlagSigned | smb2.FlagServerToRedir
	h.Status, h.Signature, h.NextCommand = st, [16]byte{}, 0
	h.Credits = f.grant(h)
	b = h.Append(b)
	b, err := m.AppendBinary(b)
	if err != nil {
		f.t.Error(err)
	}
	return b
}

func (f *fake) send(b []byte, invalidate *uint32) {
	f.parts[0] = b
	f.message = transport.Message{Parts: f.parts[:]}
	if invalidate != nil {
		f.message.Invalidate, f.message.HasInvalidate = *invalidate, true
	}
	_ = f.l.Send(context.Background(), &f.message) // the client may have gone
}

func (f *fake) fail(h smb2.Header, st ntstatus.Status) { f.reply(h, st, &smb2.ErrorResponse{}) }

// answer is what a correct server says.
func (f *fake) answer(h smb2.Header, msg []byte) {
	switch h.Command {
	case smb2.CommandNegotiate:
		f.negotiate(h, msg)
	case smb2.CommandSessionSetup:
		f.sessionSetup(h, msg)
	case smb2.CommandTreeConnect:
		h.TreeID = 7
		f.reply(h, 0, &smb2.TreeConnectResponse{ShareType: smb2.ShareTypeDisk})
	case smb2.CommandCreate:
		f.reply(h, 0, &smb2.CreateResponse{CreateAction: smb2.FileOpened, FileID: smb2.FileID{Persistent: 1, Volatile: 2}})
	case smb2.CommandClose:
		f.reply(h, 0, &smb2.CloseResponse{})
	case smb2.CommandEcho:
		f.reply(h, 0, &smb2.EchoResponse{})
	case smb2.CommandRead:
		f.read(h, msg)
	case smb2.CommandWrite:
		f.write(h, msg)
	case smb2.CommandCancel:
	case smb2.CommandIoctl:
		f.fail(h, ntstatus.InvalidDeviceRequest)
	default:
		f.fail(h, ntstatus.NotSupported)
	}
}

func (f *fake) negotiate(h smb2.Header, msg []byte) {
	f.hash.Update(msg)
	m := &smb2.NegotiateResponse{
		SecurityMode: smb2.NegotiateSigningEnabled | f.mode, DialectRevision: f.dialect, Capabilities: f.caps,
		MaxTransactSize: 1 << 20, MaxReadSize: 8 << 20, MaxWriteSize: 8 << 20,
	}
	if f.dialect == smb2.DialectSMB311 {
		pre, _ := (&smb2.PreauthIntegrityCapabilities{HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: []byte("salt")}).AppendBinary(nil)
		m.Contexts = []smb2.NegotiateContext{{Type: smb2.ContextPreauthIntegrityCapabilities, Data: pre}}
		contexts := m.Contexts
		add := func(t smb2.NegotiateContextType, m body) {
			b, _ := m.AppendBinary(nil)
			contexts = append(contexts, smb2.NegotiateContext{Type: t, Data: b})
		}
		if f.cipher != 0 {
			add(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{smb2.Cipher(f.cipher)}})
		}
		if f.alg != 0 {
			add(smb2.ContextSigningCapabilities, &smb2.SigningCapabilities{SigningAlgorithms: []smb2.SigningAlgorithm{smb2.SigningAlgorithm(f.alg)}})
		}
		if f.transforms != nil {
			add(smb2.ContextRDMATransformCapabilities, &smb2.RDMATransformCapabilities{RDMATransformIDs: f.transforms})
		}
		m.Contexts = contexts
		if f.contexts != nil {
			m.Contexts = f.contexts(m.Contexts)
		}
	}
	f.out = f.encode(f.out[:0], h, 0, m)
	f.hash.Update(f.out)
	f.send(f.out, nil)
}

func (f *fake) sessionSetup(h smb2.Header, msg []byte) {
	h.SessionID = 0x51
	if !f.auth {
		f.reply(h, 0, &smb2.SessionSetupResponse{SessionFlags: smb2.SessionFlagIsGuest})
		return
	}
	m, err := smb2.ParseSessionSetupRequest(msg)
	if err != nil {
		f.t.Error(err)
	}
	if f.acceptor == nil {
		ctx, err := (&ntlm.Server{NetBIOSName: "NAS", Lookup: func(string, string) ([16]byte, bool) { return ntlm.NTHash("secret"), true }}).NewContext()
		if err != nil {
			f.t.Error(err)
		}
		f.acceptor = spnego.NewAcceptor(ctx)
	}
	if f.signer == nil {
		f.hash.Update(msg)
	}
	token, done, err := f.acceptor.Step(m.SecurityBuffer)
	if err != nil {
		f.acceptor = nil
		f.fail(h, ntstatus.LogonFailure)
		return
	}
	if !done {
		f.out = f.encode(f.out[:0], h, ntstatus.MoreProcessingRequired, &smb2.SessionSetupResponse{SecurityBuffer: token})
		if f.signer == nil {
			f.hash.Update(f.out)
		}
		f.send(f.out, nil)
		return
	}
	if f.signer == nil {
		keys, err := smbcrypto.DeriveKeys(uint16(f.dialect), f.acceptor.Mechanism().SessionKey(), f.hash[:], uint16(f.cipher))
		if err != nil {
			f.t.Error(err)
		}
		alg := smbcrypto.DefaultSigning(uint16(f.dialect))
		if f.alg != 0 {
			alg = f.alg
		}
		if f.signer, err = smbcrypto.NewSigner(alg, keys.Signing, smbcrypto.RoleServer); err != nil {
			f.t.Error(err)
		}
		if f.cipher != 0 {
			if f.sealer, err = smbcrypto.NewSealer(f.cipher, keys.ServerToClient); err != nil {
				f.t.Error(err)
			}
			if f.opener, err = smbcrypto.NewOpener(f.cipher, keys.ClientToServer); err != nil {
				f.t.Error(err)
			}
		}
	}
	f.acceptor = nil
	f.out = f.encode(f.out[:0], h, 0, &smb2.SessionSetupResponse{SecurityBuffer: token})
	if err := f.signer.Sign(f.out); err != nil {
		f.t.Error(err)
	}
	f.send(f.out, nil)
}

// descriptors of a request.
func (f *fake) descriptors(info []byte) []transport.Descriptor {
	f.descs = f.descs[:0]
	l, err := smb2.ParseBufferDescriptors(info)
	if err != nil {
		f.t.Error(err)
		return nil
	}
	for i := range l.Len() {
		d := l.At(i)
		f.descs = append(f.descs, transport.Descriptor{Offset: d.Offset, Token: d.Token, Length: d.Length})
	}
	return f.descs
}

func (f *fake) read(h smb2.Header, msg []byte) {
	m, err := smb2.ParseReadRequest(msg)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	data := f.data
	f.mu.Unlock()
	if m.Offset >= uint64(len(data)) {
		f.failRDMA(h, ntstatus.EndOfFile, m.Channel, m.ChannelInfo)
		return
	}
	data = data[m.Offset:min(m.Offset+uint64(m.Length), uint64(len(data)))]
	if m.Channel == smb2.ChannelNone {
		f.readM = smb2.ReadResponse{Data: data}
		f.reply(h, 0, &f.readM)
		return
	}
	if m.RemainingBytes != m.Length { // [MS-SMB2] 2.2.19
		f.t.Errorf("READ with RemainingBytes %d, Length %d", m.RemainingBytes, m.Length)
	}
	ds := f.descriptors(m.ChannelInfo)
	f.buf.p = data
	if err := f.l.RDMA().Write(context.Background(), f.buf, len(data), ds); err != nil {
		f.t.Errorf("RDMA write: %v", err)
	}
	f.readM = smb2.ReadResponse{DataRemaining: uint32(len(data))}
	f.replyRDMA(h, &f.readM, m.Channel, ds)
}

// replyRDMA invalidates the first token where the client asked for that.
func (f *fake) replyRDMA(h smb2.Header, m body, ch smb2.Channel, ds []transport.Descriptor) {
	if ch == smb2.ChannelRDMAV1Invalidate {
		f.replyWith(h, 0, m, &ds[0].Token)
		return
	}
	f.reply(h, 0, m)
}

func (f *fake) failRDMA(h smb2.Header, st ntstatus.Status, ch smb2.Channel, info []byte) {
	if ch != smb2.ChannelRDMAV1Invalidate {
		f.fail(h, st)
		return
	}
	f.replyWith(h, st, &smb2.ErrorResponse{}, &f.descriptors(info)[0].Token)
}

func (f *fake) write(h smb2.Header, msg []byte) {
	m, err := smb2.ParseWriteRequest(msg)
	if err != nil {
		f.t.Error(err)
		return
	}
	if m.Channel == smb2.ChannelNone {
		f.store(m.Offset, m.Data)
		f.reply(h, 0, &smb2.WriteResponse{Count: uint32(len(m.Data))})
		return
	}
	if m.Length != 0 || len(msg) != smb2.WriteDataOffset+len(m.ChannelInfo) || msg[66] != 0 || msg[67] != 0 { // 3.2.4.7
		f.t.Errorf("WRITE by RDMA with Length %d, DataOffset %d, %d bytes", m.Length, msg[66], len(msg))
	}
	ds := f.descriptors(m.ChannelInfo)
	buf := leased(make([]byte, m.RemainingBytes))
	if err := f.l.RDMA().Read(context.Background(), buf, len(buf), ds); err != nil {
		f.t.Errorf("RDMA read: %v", err)
	}
	f.store(m.Offset, buf)
	f.replyRDMA(h, &smb2.WriteResponse{Count: m.RemainingBytes}, m.Channel, ds)
}

func (f *fake) store(off uint64, p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := int(off) + len(p); n > len(f.data) {
		f.data = append(f.data, make([]byte, n-len(f.data))...)
	}
	copy(f.data[off:], p)
}
