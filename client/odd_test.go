package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// raw answers with what edit makes of a correct answer.
func raw(st ntstatus.Status, m body, edit func(b []byte) []byte) handler {
	return func(f *fake, h smb2.Header, msg []byte) bool {
		f.send(edit(f.encode(nil, h, st, m)), nil)
		return true
	}
}

// ended checks that a fault of the server's ended the connection, with err the
// caller's error.
func ended(t *testing.T, s *Session, err error) {
	t.Helper()
	var pe *ProtocolError
	if !errors.As(err, &pe) || !errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		t.Fatalf("got %v (%T), want a ProtocolError that matches net.ErrClosed", err, err)
	}
	<-s.Done()
	if s.Err() == nil {
		t.Fatal("the session has no error")
	}
	if err := s.Echo(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the next call: %v", err)
	}
}

// [MS-SMB2] 3.2.5.1, 3.2.5.11, 3.2.5.12: answers that do not fit their request end
// the connection, and write nothing beyond what was asked for.
func TestAnswersThatDoNotFit(t *testing.T) {
	guard := bytes.Repeat([]byte{0xAA}, 100)
	ok := &smb2.ReadResponse{Data: make([]byte, 10)}
	put32 := func(off int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[off:], v); return b }
	}
	for _, c := range []struct {
		name string
		rdma bool
		do   func(f *fake, h smb2.Header, msg []byte) bool
	}{
		{"more data than asked for", false, raw(0, &smb2.ReadResponse{Data: make([]byte, 11)}, func(b []byte) []byte { return b })},
		{"data beyond the message", false, raw(0, ok, put32(68, 11))},
		{"data length near 4 GiB", false, raw(0, ok, put32(68, 0xFFFFFFFF))},
		{"more by RDMA than asked for", true, raw(0, &smb2.ReadResponse{DataRemaining: 11}, func(b []byte) []byte { return b })},
		{"4 GiB by RDMA", true, raw(0, &smb2.ReadResponse{DataRemaining: 0xFFFFFFFF}, func(b []byte) []byte { return b })},
		{"data in the message of an RDMA read", true, raw(0, ok, func(b []byte) []byte { return b })},
		{"another command", false, raw(0, ok, func(b []byte) []byte { b[12] = byte(smb2.CommandWrite); return b })},
		{"another MessageId", false, raw(0, ok, func(b []byte) []byte { b[24]++; return b })},
		{"not a response", false, raw(0, ok, put32(16, 0))},
		{"short header", false, raw(0, ok, func(b []byte) []byte { return b[:63] })},
		{"no body", false, raw(0, ok, func(b []byte) []byte { return b[:64] })},
		{"wrong StructureSize of the header", false, raw(0, ok, func(b []byte) []byte { b[4]++; return b })},
		{"wrong StructureSize of the body", false, raw(0, ok, func(b []byte) []byte { b[64]++; return b })},
		{"NextCommand beyond the message", false, raw(0, ok, put32(20, 4096))},
		{"NextCommand not aligned", false, raw(0, ok, put32(20, 68))},
		{"SMB1", false, raw(0, ok, func(b []byte) []byte { b[0] = 0xFF; return b })},
		{"compressed", false, raw(0, ok, func(b []byte) []byte { b[0] = 0xFC; return b })},
		{"encrypted without a key", false, raw(0, ok, func(b []byte) []byte { b[0] = 0xFD; return b })},
		{"encrypted and short", false, raw(0, ok, func(b []byte) []byte { b[0] = 0xFD; return b[:20] })},
		{"nothing", false, raw(0, ok, func(b []byte) []byte { return b[:0] })},
		{"unsolicited READ", false, raw(0, ok, func(b []byte) []byte { binary.LittleEndian.PutUint64(b[24:], smb2.NoMessageID); return b })},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{rdma: c.rdma})
			f.on[smb2.CommandRead] = c.do
			file := f.open(l, Config{RDMAThreshold: 1})
			p := append([]byte(nil), guard...)
			n, err := file.ReadAt(p[10:20], 0)
			if n != 0 {
				t.Errorf("%d bytes", n)
			}
			ended(t, file.Share().Session(), err)
			if !bytes.Equal(p, guard) {
				t.Error("the buffer was written to")
			}
			if n := l.Stats().Registrations; n != 0 {
				t.Errorf("%d registrations left", n)
			}
		})
	}
}

// Every truncation of a good answer is an error, never a panic.
func TestTruncatedAnswers(t *testing.T) {
	whole := smb2.HeaderSize + 16 + 10
	for n := range whole {
		f, l := newFake(t, linkConfig{})
		f.on[smb2.CommandRead] = raw(0, &smb2.ReadResponse{Data: make([]byte, 10)}, func(b []byte) []byte { return b[:n] })
		file := f.open(l, Config{})
		_, err := file.ReadAt(make([]byte, 10), 0)
		var pe *ProtocolError
		if !errors.As(err, &pe) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		file.Share().Session().Close()
	}
}

func TestWriteCountAboveAsked(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.on[smb2.CommandWrite] = raw(0, &smb2.WriteResponse{Count: 11}, func(b []byte) []byte { return b })
	file := f.open(l, Config{})
	n, err := file.WriteAt(make([]byte, 10), 0)
	if n != 0 {
		t.Error(n)
	}
	ended(t, file.Share().Session(), err)
}

// A second final answer to one request is to a message that is not outstanding.
func TestAnswerTwice(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		f.reply(h, 0, &smb2.EchoResponse{})
		f.reply(h, 0, &smb2.EchoResponse{})
		return true
	}
	file := f.open(l, Config{})
	_ = file.Share().Session().Echo(context.Background())
	<-file.Share().Session().Done()
	ended(t, file.Share().Session(), file.Share().Session().Err())
}

// Short answers are gone on behind, down to the end of the file.
func TestShortReadsAndWrites(t *testing.T) {
	for _, rdma := range []bool{false, true} {
		f, l := newFake(t, linkConfig{rdma: rdma})
		f.data = random(100_000)
		f.on[smb2.CommandRead] = func(f *fake, h smb2.Header, msg []byte) bool {
			binary.LittleEndian.PutUint32(msg[68:], min(binary.LittleEndian.Uint32(msg[68:]), 777))
			if m, _ := smb2.ParseReadRequest(msg); m.Channel != 0 {
				binary.LittleEndian.PutUint32(msg[104:], m.Length) // or the fake complains
			}
			return false
		}
		f.on[smb2.CommandWrite] = func(f *fake, h smb2.Header, msg []byte) bool {
			m, _ := smb2.ParseWriteRequest(msg)
			if m.Channel != 0 {
				return false
			}
			n := min(len(m.Data), 5000)
			f.store(m.Offset, m.Data[:n])
			f.reply(h, 0, &smb2.WriteResponse{Count: uint32(n)})
			return true
		}
		file := f.open(l, Config{MaxIOSize: 10_000, Window: 4})
		p := make([]byte, 120_000)
		n, err := file.ReadAt(p, 0)
		if n != 100_000 || err != io.EOF || !bytes.Equal(p[:n], f.data) {
			t.Fatalf("rdma %v: %d bytes, %v", rdma, n, err)
		}
		if n, err := file.WriteAt(p[:50_000], 100_000); n != 50_000 || err != nil {
			t.Fatal(n, err)
		}
		f.mu.Lock()
		if !bytes.Equal(f.data[100_000:], p[:50_000]) {
			t.Fatal("what was written differs")
		}
		f.mu.Unlock()
		if f.requests(smb2.CommandRead) < 100_000/777 {
			t.Fatal("too few requests")
		}
	}
}

// [MS-SMB2] 3.2.5.1.5: the credits come with the interim answer, the final one ends
// the wait.
func TestInterimAnswer(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		h.Flags |= smb2.FlagAsyncCommand
		h.AsyncID = 99
		f.reply(h, ntstatus.Pending, &smb2.ErrorResponse{})
		f.grant = func(smb2.Header) uint16 { return 0 }
		f.reply(h, 0, &smb2.EchoResponse{})
		f.grant = func(h smb2.Header) uint16 { return max(h.Credits, 1) }
		return true
	}
	s := f.open(l, Config{}).Share().Session()
	for range 10 {
		must(t, s.Echo(context.Background()))
	}
	if st := s.Stats(); st.Credits < 1 || st.InFlight != 0 {
		t.Fatalf("%+v", st)
	}
}

// A server that takes the last credit and owes none has ended the conversation.
func TestNoCreditsLeft(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.grant = func(h smb2.Header) uint16 { return 1 }
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		f.grant = func(smb2.Header) uint16 { return 0 }
		return false
	}
	s := f.open(l, Config{}).Share().Session()
	must(t, s.Echo(context.Background()))
	ended(t, s, s.Echo(context.Background()))
}

// With one credit at a time big transfers go in pieces of 64 KiB, one after the other.
func TestOneCredit(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.grant = func(h smb2.Header) uint16 { return 1 }
	f.data = random(300_000)
	file := f.open(l, Config{})
	p := make([]byte, 300_000)
	if n, err := file.ReadAt(p, 0); n != len(p) || err != nil || !bytes.Equal(p, f.data) {
		t.Fatal(n, err)
	}
	if n := f.requests(smb2.CommandRead); n != 5 {
		t.Fatalf("%d READs, want 5", n)
	}
}

// The server closing the connection is not the end of a file.
func TestServerCloses(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.on[smb2.CommandRead] = func(f *fake, h smb2.Header, msg []byte) bool { f.l.Close(); return true }
	file := f.open(l, Config{})
	_, err := file.ReadAt(make([]byte, 10), 0)
	if !errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// [MS-SMB2] 2.2.44.1: the server says that it has closed the session.
func TestSessionClosedNotification(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		h.Command, h.MessageID, h.SessionID = smb2.CommandServerToClientNotification, smb2.NoMessageID, 0x51
		f.reply(h, 0, &smb2.ServerToClientNotification{})
		return true
	}
	s := f.open(l, Config{}).Share().Session()
	if err := s.Echo(context.Background()); !errors.Is(err, errSessionClosed) || !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

// Oplock breaks are of no concern to a client that takes no oplocks.
func TestOplockBreakIgnored(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		b := h
		b.Command, b.MessageID = smb2.CommandOplockBreak, smb2.NoMessageID
		f.reply(b, 0, &smb2.OplockBreakNotification{})
		return false
	}
	must(t, f.open(l, Config{}).Share().Session().Echo(context.Background()))
}

// hang makes the fake keep a request, and tells its header.
func hang(f *fake, c smb2.Command) chan smb2.Header {
	kept := make(chan smb2.Header, 10)
	f.on[c] = func(f *fake, h smb2.Header, msg []byte) bool { kept <- h; return true }
	return kept
}

// [MS-SMB2] 3.2.4.24: a cancelled call sends CANCEL with its MessageId and returns;
// the late answer is dropped, and the connection lives.
func TestCancelInlineRead(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	kept := hang(f, smb2.CommandRead)
	cancelled := make(chan smb2.Header, 1)
	f.on[smb2.CommandCancel] = func(f *fake, h smb2.Header, msg []byte) bool { cancelled <- h; return true }
	file := f.open(l, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	p := make([]byte, 10)
	go func() { _, err := file.ReadAtContext(ctx, p, 0); done <- err }()
	h := <-kept
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if c := <-cancelled; c.MessageID != h.MessageID {
		t.Fatalf("CANCEL of %d, want %d", c.MessageID, h.MessageID)
	}
	f.on[smb2.CommandEcho] = func(f *fake, e smb2.Header, msg []byte) bool {
		f.reply(h, 0, &smb2.ReadResponse{Data: []byte("too late!!")})
		return false
	}
	must(t, file.Share().Session().Echo(context.Background()))
	if !bytes.Equal(p, make([]byte, 10)) {
		t.Fatal("the buffer was written to after the call had returned")
	}
}

// A cancelled RDMA READ revokes the memory before it returns: at once if the
// server answers the CANCEL, and after CancelGrace if it does not.
func TestCancelRDMARead(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f, l := newFake(t, linkConfig{rdma: true})
			var descs []transport.Descriptor
			var kept smb2.Header
			got := make(chan struct{})
			f.on[smb2.CommandRead] = func(f *fake, h smb2.Header, msg []byte) bool {
				m, _ := smb2.ParseReadRequest(msg)
				descs, kept = append(descs, f.descriptors(m.ChannelInfo)...), h
				close(got)
				return true
			}
			f.on[smb2.CommandCancel] = func(f *fake, h smb2.Header, msg []byte) bool {
				if answers {
					f.fail(kept, ntstatus.Cancelled)
				}
				return true
			}
			file := f.open(l, Config{CancelGrace: 3 * time.Second})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			p := make([]byte, 100_000)
			go func() { _, err := file.ReadAtContext(ctx, p, 0); done <- err }()
			<-got
			start := time.Now()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if took := time.Since(start); answers && took != 0 || !answers && took != 3*time.Second {
				t.Fatalf("took %v", took)
			}
			if n := l.Stats().Registrations; n != 0 {
				t.Fatalf("%d registrations left", n)
			}
			if err := f.l.RDMA().Write(context.Background(), leased(p), 10, descs); err == nil {
				t.Fatal("the server still reaches the memory")
			}
			file.Share().Session().Close()
		})
	}
}

// A file that a cancelled CREATE opened after all is closed.
func TestCancelledCreateIsClosed(t *testing.T) {
	f, l := newFake(t, linkConfig{})
	file := f.open(l, Config{})
	sh := file.Share()
	var kept smb2.Header
	got := make(chan struct{})
	f.on[smb2.CommandCreate] = func(f *fake, h smb2.Header, msg []byte) bool { kept = h; close(got); return true }
	closed := make(chan smb2.FileID, 1)
	f.on[smb2.CommandClose] = func(f *fake, h smb2.Header, msg []byte) bool {
		m, _ := smb2.ParseCloseRequest(msg)
		closed <- m.FileID
		return false
	}
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		f.reply(kept, 0, &smb2.CreateResponse{FileID: smb2.FileID{Persistent: 8, Volatile: 9}})
		delete(f.on, smb2.CommandEcho)
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { _, err := sh.Open(ctx, "late"); done <- err }()
	<-got
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	must(t, sh.Session().Echo(context.Background())) // the late answer comes before this one's
	must(t, sh.Session().Echo(context.Background()))
	if id := <-closed; id != (smb2.FileID{Persistent: 8, Volatile: 9}) {
		t.Fatal(id)
	}
}

// Config.Timeout bounds a request without a deadline, to within a quarter.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t, linkConfig{})
		hang(f, smb2.CommandEcho)
		s := f.open(l, Config{Timeout: 8 * time.Second}).Share().Session()
		start := time.Now()
		err := s.Echo(context.Background())
		var e *Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &e) || !e.Timeout() {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 8*time.Second || took > 10*time.Second {
			t.Fatalf("took %v", took)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Echo(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		s.Close()
	})
}

// [MS-SMB2] 3.2.5.1.6: an expired session is renewed and the request sent again.
func TestSessionExpired(t *testing.T) {
	f, l := newFake(t, linkConfig{rdma: true})
	f.auth = true
	f.data = random(200_000)
	file := f.open(l, Config{})
	s := file.Share().Session()
	expired := 0
	f.on[smb2.CommandRead] = func(f *fake, h smb2.Header, msg []byte) bool {
		if expired++; expired > 1 {
			return false
		}
		m, _ := smb2.ParseReadRequest(msg)
		f.failRDMA(h, ntstatus.NetworkSessionExpired, m.Channel, m.ChannelInfo)
		return true
	}
	p := make([]byte, 200_000)
	if n, err := file.ReadAt(p, 0); n != len(p) || err != nil || !bytes.Equal(p, f.data) {
		t.Fatal(n, err)
	}
	first := true
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		if !first {
			return false
		}
		first = false
		f.fail(h, ntstatus.NetworkSessionExpired)
		return true
	}
	must(t, s.Echo(context.Background()))
	if n := s.Stats().Reauthentications; n != 2 {
		t.Fatalf("%d renewals", n)
	}
	// One that stays expired is an error, not a loop.
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, msg []byte) bool {
		f.fail(h, ntstatus.NetworkSessionExpired)
		return true
	}
	if err := s.Echo(context.Background()); !errors.Is(err, ntstatus.NetworkSessionExpired) {
		t.Fatal(err)
	}
}

// [MS-SMB2] 3.2.5.1.3: on a session that signs, an answer without a signature or
// with a wrong one ends the connection.
func TestUnsignedAnswers(t *testing.T) {
	ok := &smb2.EchoResponse{}
	for _, c := range []struct {
		name string
		do   handler
	}{
		{"not signed", raw(0, ok, func(b []byte) []byte { return b })},
		{"wrong signature", raw(0, ok, func(b []byte) []byte { b[16] |= 8; b[48] = 1; return b })},
		{"interim and final, neither signed", func(f *fake, h smb2.Header, msg []byte) bool {
			h.Flags |= smb2.FlagAsyncCommand
			f.send(f.encode(nil, h, ntstatus.Pending, &smb2.ErrorResponse{}), nil)
			f.send(f.encode(nil, h, 0, ok), nil)
			return true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			f.auth = true
			f.on[smb2.CommandEcho] = c.do
			s := f.open(l, Config{Signing: SigningRequired}).Share().Session()
			ended(t, s, s.Echo(context.Background()))
		})
	}
}

// [MS-SMB2] 3.2.5.14.12: a negotiation that the server remembers otherwise ends the
// connection; a signed refusal by an old server does not; an unsigned one does.
func TestValidateNegotiate(t *testing.T) {
	answer := func(dialect smb2.Dialect, caps smb2.Capabilities) handler {
		return func(f *fake, h smb2.Header, msg []byte) bool {
			info := smb2.ValidateNegotiateInfoResponse{Capabilities: caps, SecurityMode: smb2.NegotiateSigningEnabled, Dialect: dialect}
			out, _ := info.AppendBinary(nil)
			f.reply(h, 0, &smb2.IoctlResponse{CtlCode: smb2.FsctlValidateNegotiateInfo, FileID: smb2.AnyFileID, Output: out})
			return true
		}
	}
	for _, c := range []struct {
		name string
		do   handler
		ok   bool
	}{
		{"the same", answer(smb2.DialectSMB302, smb2.GlobalCapLargeMTU), true},
		{"another dialect", answer(smb2.DialectSMB300, smb2.GlobalCapLargeMTU), false},
		{"other capabilities", answer(smb2.DialectSMB302, smb2.GlobalCapLargeMTU|smb2.GlobalCapEncryption), false},
		{"signed refusal", nil, true},
		{"unsigned refusal", raw(ntstatus.InvalidDeviceRequest, &smb2.ErrorResponse{}, func(b []byte) []byte { return b }), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			f.auth, f.dialect = true, smb2.DialectSMB302
			f.on[smb2.CommandIoctl] = c.do
			s, err := f.start(l, Config{})
			must(t, err)
			_, err = s.Mount(context.Background(), "data")
			if c.ok {
				must(t, err)
				return
			}
			ended(t, s, err)
		})
	}
}

// [MS-SMB2] 3.2.5.2: what a NEGOTIATE answer may not say.
func TestNegotiateAnswers(t *testing.T) {
	ctx := func(id smb2.NegotiateContextType, m body) smb2.NegotiateContext {
		b, err := m.AppendBinary(nil)
		must(t, err)
		return smb2.NegotiateContext{Type: id, Data: b}
	}
	and := func(more ...smb2.NegotiateContext) func([]smb2.NegotiateContext) []smb2.NegotiateContext {
		return func(cs []smb2.NegotiateContext) []smb2.NegotiateContext { return append(cs, more...) }
	}
	for _, c := range []struct {
		name string
		cfg  Config
		set  func(f *fake)
	}{
		{"a dialect that was not offered", Config{MaxDialect: SMB302}, func(f *fake) {}},
		{"the wildcard", Config{}, func(f *fake) { f.dialect = smb2.DialectWildcard }},
		{"no preauthentication context", Config{}, func(f *fake) {
			f.contexts = func([]smb2.NegotiateContext) []smb2.NegotiateContext { return nil }
		}},
		{"two preauthentication contexts", Config{}, func(f *fake) {
			f.contexts = func(cs []smb2.NegotiateContext) []smb2.NegotiateContext { return append(cs, cs...) }
		}},
		{"two ciphers", Config{}, func(f *fake) {
			f.contexts = and(ctx(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{1, 2}}))
		}},
		{"a cipher that was not offered", Config{Ciphers: []Cipher{AES128GCM}}, func(f *fake) {
			f.contexts = and(ctx(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{1}}))
		}},
		{"a cipher when none was offered", Config{Encryption: EncryptOff}, func(f *fake) {
			f.contexts = and(ctx(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{2}}))
		}},
		{"two encryption contexts", Config{}, func(f *fake) {
			e := ctx(smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{2}})
			f.contexts = and(e, e)
		}},
		{"a signing algorithm that was not offered", Config{SigningAlgorithms: []SigningAlgorithm{AESCMAC}}, func(f *fake) {
			f.contexts = and(ctx(smb2.ContextSigningCapabilities, &smb2.SigningCapabilities{SigningAlgorithms: []smb2.SigningAlgorithm{2}}))
		}},
		{"a short signing context", Config{}, func(f *fake) {
			f.contexts = and(smb2.NegotiateContext{Type: smb2.ContextSigningCapabilities, Data: []byte{1, 0}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			c.set(f)
			_, err := f.start(l, c.cfg)
			var pe *ProtocolError
			if !errors.As(err, &pe) {
				t.Fatalf("got %v, want a ProtocolError", err)
			}
		})
	}
}

// What the user asked for and the server does not give is an error, not a fallback.
func TestRequirements(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		set  func(f *fake)
	}{
		{"signing, and a guest", Config{Signing: SigningRequired}, func(f *fake) {}},
		{"encryption, and a guest", Config{Encryption: EncryptRequired}, func(f *fake) {}},
		{"encryption, and no cipher", Config{Encryption: EncryptRequired}, func(f *fake) { f.auth = true }},
		{"no signing, and a server that wants it", Config{Signing: SigningOff}, func(f *fake) {
			f.auth, f.mode = true, smb2.NegotiateSigningRequired
		}},
		{"a wrong password", Config{User: "ann", Password: "wrong"}, func(f *fake) { f.auth = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			c.set(f)
			if s, err := f.start(l, c.cfg); err == nil {
				t.Fatalf("no error: %+v", s.Info())
			}
		})
	}
}

// Names that a listing may not have, as callers make local paths of them.
func TestListedNames(t *testing.T) {
	for _, name := range []string{"a/b", `a\b`, "", "nul\x00"} {
		f, l := newFake(t, linkConfig{})
		f.on[smb2.CommandQueryDirectory] = func(f *fake, h smb2.Header, msg []byte) bool {
			list := smb2.NewEntryList(nil, 4096)
			list.AppendDirectoryEntry(leanClass, &smb2.DirectoryEntry{FileName: name})
			f.reply(h, 0, &smb2.QueryDirectoryResponse{OutputBuffer: list.Bytes()})
			return true
		}
		file := f.open(l, Config{})
		_, err := file.Share().ReadDir(context.Background(), "")
		var pe *ProtocolError
		if !errors.As(err, &pe) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A Config out of range is refused at the door.
func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{MinDialect: 0x0310}, {MinDialect: SMB311, MaxDialect: SMB300}, {Signing: 9}, {Encryption: 9}, {Ciphers: []Cipher{9}},
		{SigningAlgorithms: []SigningAlgorithm{9}}, {MaxIOSize: -1}, {Window: 65}, {Window: -1}, {MaxCredits: 65536},
		{User: string(make([]byte, 257))},
	} {
		l, _ := newLink(linkConfig{})
		if _, err := New(context.Background(), l, cfg); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	l, _ := newLink(linkConfig{rdma: true})
	if _, err := New(context.Background(), l, Config{MaxDialect: SMB210}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// A lock that is granted although its request was cancelled is the result; one that
// was cancelled fails with the context's own error.
func TestCancelledLock(t *testing.T) {
	for _, granted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			kept := hang(f, smb2.CommandLock)
			f.on[smb2.CommandCancel] = func(f *fake, h smb2.Header, msg []byte) bool {
				if k := <-kept; granted {
					f.reply(k, 0, &smb2.LockResponse{})
				} else {
					f.fail(k, ntstatus.Cancelled)
				}
				return true
			}
			file := f.open(l, Config{Timeout: time.Second})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			err := file.Lock(ctx, 0, 1, LockOptions{Wait: true})
			if granted && err != nil || !granted && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("granted %v: %v", granted, err)
			}
			file.Share().Session().Close()
		})
	}
}
