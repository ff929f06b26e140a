package server

import (
	"fmt"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// 3.3.5.5.3: who gets in, and with what.
func TestLogon(t *testing.T) {
	for _, c := range []struct {
		name, user, password string
		guest                bool
		enc                  Policy
		st                   ntstatus.Status
		tree                 ntstatus.Status
	}{
		{name: "known", user: "ann", password: "secret"},
		{name: "case of the name", user: "ANN", password: "secret"},
		{name: "wrong password", user: "ann", password: "Secret", st: ntstatus.LogonFailure},
		{name: "unknown", user: "eve", password: "x", st: ntstatus.LogonFailure},
		{name: "anonymous", st: ntstatus.LogonFailure},
		{name: "wrong password is no guest", user: "ann", password: "x", guest: true, st: ntstatus.LogonFailure},
		{name: "guest, share for users", user: "eve", password: "x", guest: true, tree: ntstatus.AccessDenied},
		{name: "anonymous, share for users", guest: true, tree: ntstatus.AccessDenied},
		{name: "guest where encryption is required", user: "eve", password: "x", guest: true, enc: PolicyRequired, st: ntstatus.AccessDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, func(cfg *Config) { cfg.Guest, cfg.Encryption = c.guest, c.enc })
			p := s.dial()
			p.negotiate(smb2.DialectSMB302)
			want(t, "SESSION_SETUP", p.logon(c.user, c.password), c.st)
			stats := s.srv.Stats()
			if c.st != ntstatus.Success {
				if stats.Sessions != 0 {
					t.Errorf("%d sessions left", stats.Sessions)
				}
				st, _ := p.do(smb2.CommandLogoff, &smb2.LogoffRequest{})
				want(t, "LOGOFF of a session that is not", st, ntstatus.UserSessionDeleted)
				return
			}
			want(t, "TREE_CONNECT", p.connect("data"), c.tree)
		})
	}
}

// A guest share lets guests in, and nobody else's files with it.
func TestGuestShare(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) {
		c.Guest = true
		c.Shares = append(c.Shares, Share{Name: "pub", FS: c.Shares[0].FS, Guest: true},
			Share{Name: "anns", FS: c.Shares[0].FS, Users: []string{"Ann"}})
	})
	p := s.dial()
	p.negotiate(smb2.DialectSMB302)
	want(t, "logon", p.logon("eve", "x"), ntstatus.Success)
	want(t, "pub", p.connect("pub"), ntstatus.Success)
	p.openFile("by-guest")
	want(t, "data", p.connect("data"), ntstatus.AccessDenied)

	for _, c := range []struct {
		user, password string
		st             ntstatus.Status
	}{{"ann", "secret", ntstatus.Success}, {"bob", "hunter2", ntstatus.AccessDenied}} {
		q := s.dial()
		q.negotiate(smb2.DialectSMB311)
		q.logon(c.user, c.password)
		want(t, "share of ann's for "+c.user, q.connect("anns"), c.st)
	}
}

// 3.3.5.2.9, 3.3.5.2.11, and the ids of others: each mistake has its status.
func TestWrongIDs(t *testing.T) {
	s := newSite(t, memconn.Config{RDMA: true}, nil) // RDMA: signing is not required
	p := s.login(smb2.DialectSMB302).mustConnect("data")
	f := p.openFile("f")
	q := s.login(smb2.DialectSMB302).mustConnect("data")
	read := &smb2.ReadRequest{FileID: f, Length: 1}

	h := p.header(smb2.CommandRead)
	h.SessionID = q.sid
	st, _ := p.doHeader(h, read)
	want(t, "session of another connection", st, ntstatus.UserSessionDeleted)

	h = p.header(smb2.CommandRead)
	h.SessionID = 0
	st, _ = p.doHeader(h, read)
	want(t, "no session", st, ntstatus.UserSessionDeleted)

	h = p.header(smb2.CommandRead)
	h.TreeID = 4711
	st, _ = p.doHeader(h, read)
	want(t, "no such tree", st, ntstatus.NetworkNameDeleted)

	st, _ = q.do(smb2.CommandRead, read)
	want(t, "file of another session", st, ntstatus.FileClosed)

	first := p.tid
	p.mustConnect("ro")
	st, _ = p.do(smb2.CommandRead, read)
	want(t, "file of another tree", st, ntstatus.FileClosed)
	st, _ = p.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{})
	want(t, "TREE_DISCONNECT", st, ntstatus.Success)
	st, _ = p.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{})
	want(t, "TREE_DISCONNECT again", st, ntstatus.NetworkNameDeleted)

	p.tid = first
	st, _ = p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: smb2.AnyFileID, Length: 1})
	want(t, "all ones without a chain", st, ntstatus.FileClosed)
	st, _ = p.do(smb2.CommandLogoff, &smb2.LogoffRequest{})
	want(t, "LOGOFF", st, ntstatus.Success)
	st, _ = p.do(smb2.CommandRead, read)
	want(t, "READ after LOGOFF", st, ntstatus.UserSessionDeleted)
	if st := s.srv.Stats(); st.Sessions != 1 || st.Opens != 0 || st.Trees != 1 {
		t.Errorf("%d sessions, %d trees, %d opens left, want 1, 1, 0", st.Sessions, st.Trees, st.Opens)
	}
}

// 3.3.5.7: paths of TREE_CONNECT.
func TestTreeConnect(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB302)
	for path, st := range map[string]ntstatus.Status{
		`\\nas\data`:    ntstatus.Success,
		`\\NAS\DATA`:    ntstatus.Success,
		`\\10.0.0.1\ro`: ntstatus.Success,
		`\\nas\IPC$`:    ntstatus.Success,
		`\\nas\other`:   ntstatus.BadNetworkName,
		`\\nas\`:        ntstatus.InvalidParameter,
		`\\nas`:         ntstatus.InvalidParameter,
		`\nas\data`:     ntstatus.InvalidParameter,
		`\\\data`:       ntstatus.InvalidParameter,
		`\\nas\data\x`:  ntstatus.InvalidParameter,
		``:              ntstatus.InvalidParameter,
	} {
		got, msg := p.do(smb2.CommandTreeConnect, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(path)})
		want(t, path, got, st)
		if got != ntstatus.Success {
			continue
		}
		m, err := smb2.ParseTreeConnectResponse(msg)
		if err != nil {
			t.Fatal(err)
		}
		kind, access := smb2.ShareTypeDisk, smb2.AccessMask(0x001F01FF)
		switch path {
		case `\\nas\IPC$`:
			kind = smb2.ShareTypePipe
		case `\\10.0.0.1\ro`:
			access = 0x001200A9
		}
		if m.ShareType != kind || m.MaximalAccess != access {
			t.Errorf("%s: type %v, access %#x, want %v, %#x", path, m.ShareType, m.MaximalAccess, kind, access)
		}
	}
	h := p.header(smb2.CommandTreeConnect)
	t.Run("3.1.1, neither signed nor encrypted", func(t *testing.T) {
		s := newSite(t, memconn.Config{RDMA: true}, nil)
		p := s.login(smb2.DialectSMB311)
		p.sign = false
		h.SessionID, h.MessageID = p.sid, p.mid
		p.transmit(p.element(h, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\nas\data`)}))
		p.gone()
	})
}

// 3.3.5.2.4: signatures, in every dialect and with every algorithm.
func TestSigning(t *testing.T) {
	for _, d := range allDialects {
		for _, alg := range []uint16{0, 1, 2} {
			if d != smb2.DialectSMB311 && alg != 0 {
				continue
			}
			t.Run(d.String(), func(t *testing.T) {
				s := newSite(t, memconn.Config{}, func(c *Config) { c.SigningAlgorithms = []uint16{alg} })
				p := s.login(d)
				p.mustConnect("data")
				h := p.header(smb2.CommandEcho)
				id := p.post(h, &smb2.EchoRequest{})
				r, _ := p.answer() // which verifies the signature
				if r.MessageID != id || r.Status != ntstatus.Success || !r.IsSigned() {
					t.Errorf("signed ECHO: %+v", r)
				}
				if p.dialect == smb2.DialectSMB311 && uint16(p.alg) != alg {
					t.Errorf("algorithm %v, want %d", p.alg, alg)
				}

				b := p.element(p.header(smb2.CommandLogoff), &smb2.LogoffRequest{})
				p.use(p.header(smb2.CommandLogoff))
				p.signer.Sign(b)
				b[63] ^= 1
				p.transmit(b)
				r, _ = p.answer()
				want(t, "wrong signature", r.Status, ntstatus.AccessDenied)

				p.sign = false
				st, _ := p.do(smb2.CommandLogoff, &smb2.LogoffRequest{})
				want(t, "no signature", st, ntstatus.AccessDenied)
				p.sign = true
				st, _ = p.do(smb2.CommandLogoff, &smb2.LogoffRequest{})
				want(t, "signed LOGOFF", st, ntstatus.Success)
			})
		}
	}
	t.Run("of no session", func(t *testing.T) {
		p := newSite(t, memconn.Config{}, nil).login(smb2.DialectSMB311)
		h := p.header(smb2.CommandLogoff)
		h.SessionID++
		st, msg := p.doHeader(h, &smb2.LogoffRequest{})
		want(t, "LOGOFF", st, ntstatus.UserSessionDeleted)
		// Nobody has a key for it: the request's own signature comes back, as from Windows.
		if m, _ := smb2.ParseHeader(msg); !m.IsSigned() || m.Signature != p.sigs[m.MessageID] || m.Signature == [16]byte{} {
			t.Errorf("signature %x, want that of the request, %x", m.Signature, p.sigs[m.MessageID])
		}
	})
	t.Run("required by the client alone", func(t *testing.T) {
		p := newSite(t, memconn.Config{RDMA: true}, nil).dial()
		p.mode |= smb2.NegotiateSigningRequired
		p.negotiate(smb2.DialectSMB302)
		p.logon("ann", "secret")
		p.sign = false
		want(t, "unsigned TREE_CONNECT", p.connect("data"), ntstatus.AccessDenied)
		p.sign = true
		want(t, "signed TREE_CONNECT", p.connect("data"), ntstatus.Success)
	})
}

// 3.1.4.2: with a cipher of 256 bits the Linux client derives its signing key with
// L = 256, where others have 128; it is served either way, on every channel.
func TestSigningWith256BitCipher(t *testing.T) {
	for _, alg := range []uint16{0, 1, 2} {
		for _, linux := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, Linux %v", smbcrypto.SigningAlgorithm(alg), linux), func(t *testing.T) {
				s := newSite(t, memconn.Config{}, func(c *Config) {
					c.Interfaces = func() []Interface { return nil }
					c.Ciphers = []uint16{uint16(smbcrypto.AES256GCM)}
					c.SigningAlgorithms = []uint16{alg}
				})
				p := s.login(smb2.DialectSMB311)
				wrong := p.altSigner
				if linux {
					p.signer, wrong = p.altSigner, p.signer
				}
				p.mustConnect("data") // which verifies the response
				right := p.signer
				b := p.element(p.header(smb2.CommandEcho), &smb2.EchoRequest{})
				p.use(p.header(smb2.CommandEcho))
				wrong.Sign(b)
				p.transmit(b)
				r, _ := p.answer()
				want(t, "the other key once the first has served", r.Status, ntstatus.AccessDenied)
				if p.signer != right {
					t.Fatal("the peer changed its key")
				}

				q := s.dial()
				q.guid = p.guid
				q.negotiate(smb2.DialectSMB311)
				q.signer, q.sign = p.signer, true
				bind := smb2.SessionSetupRequest{SecurityMode: 1, Flags: smb2.SessionSetupFlagBinding}
				want(t, "binding", q.setup("ann", "secret", p.sid, bind), ntstatus.Success)
				if linux {
					q.signer = q.altSigner
				}
				st, _ := q.do(smb2.CommandEcho, &smb2.EchoRequest{})
				want(t, "ECHO on the second channel", st, ntstatus.Success)
			})
		}
	}
}

// 3.3.5.2.1.1, 3.3.5.2.9, 3.3.5.2.11, 3.3.4.1.4: encryption, with every cipher.
func TestEncryption(t *testing.T) {
	for _, c := range []struct {
		d      smb2.Dialect
		cipher uint16
	}{{smb2.DialectSMB300, 1}, {smb2.DialectSMB302, 1}, {smb2.DialectSMB311, 1}, {smb2.DialectSMB311, 2},
		{smb2.DialectSMB311, 3}, {smb2.DialectSMB311, 4}} {
		t.Run(c.d.String(), func(t *testing.T) {
			s := newSite(t, memconn.Config{}, func(cfg *Config) {
				cfg.Ciphers = []uint16{c.cipher}
				cfg.Shares = append(cfg.Shares, Share{Name: "vault", FS: cfg.Shares[0].FS, Encrypt: true})
			})
			s.write("f", []byte("0123456789"))
			p := s.login(c.d)
			if uint16(p.cipher) != c.cipher {
				t.Fatalf("cipher %v, want %d", p.cipher, c.cipher)
			}
			p.mustConnect("vault")
			st, _ := p.do(smb2.CommandCreate, createRequest("f", smb2.FileOpen))
			want(t, "unencrypted CREATE on an encrypted share", st, ntstatus.AccessDenied)
			p.mustConnect("data")
			p.seal = true
			p.openFile("f") // the client's choice
			p.mustConnect("vault")
			f := p.openFile("f")
			st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 100})
			want(t, "READ", st, ntstatus.Success)
			if m, err := smb2.ParseReadResponse(msg); err != nil || string(m.Data) != "0123456789" {
				t.Errorf("read %q, %v", m.Data, err)
			}
			if m, _ := smb2.ParseHeader(msg); m.IsSigned() {
				t.Error("an encrypted response is signed, 3.3.4.1.1")
			}

			b := p.protect(p.element(p.header(smb2.CommandEcho), &smb2.EchoRequest{}))
			b[len(b)-1] ^= 1
			p.transmit(b)
			p.gone()
		})
	}
	t.Run("required", func(t *testing.T) {
		s := newSite(t, memconn.Config{}, func(c *Config) { c.Encryption = PolicyRequired })
		p := s.login(smb2.DialectSMB311)
		if !p.seal {
			t.Fatal("SESSION_FLAG_ENCRYPT_DATA is not set")
		}
		p.mustConnect("data")
		sealed := p.seal
		p.seal = false
		b := p.element(p.header(smb2.CommandLogoff), &smb2.LogoffRequest{})
		p.use(p.header(smb2.CommandLogoff))
		p.signer.Sign(b)
		p.transmit(b)
		p.seal = sealed
		r, _ := p.answer()
		want(t, "unencrypted request", r.Status, ntstatus.AccessDenied)

		q := s.dial()
		q.caps = 0
		q.negotiate(smb2.DialectSMB300)
		want(t, "client without encryption", q.logon("ann", "secret"), ntstatus.AccessDenied)
	})
	t.Run("disabled", func(t *testing.T) {
		p := newSite(t, memconn.Config{}, func(c *Config) { c.Encryption = PolicyDisabled }).login(smb2.DialectSMB311)
		if p.cipher != 0 {
			t.Errorf("cipher %v", p.cipher)
		}
	})
	t.Run("request of another session inside", func(t *testing.T) {
		p := newSite(t, memconn.Config{}, nil).login(smb2.DialectSMB311)
		h := p.header(smb2.CommandEcho)
		h.SessionID++
		p.seal = true
		p.transmit(p.protect(p.element(h, &smb2.EchoRequest{})))
		p.gone()
	})
}

// 3.3.5.5.2: authenticating once more keeps the session, its keys and its files.
func TestReauthentication(t *testing.T) {
	for _, d := range allDialects {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			p := s.login(d).mustConnect("data")
			p.sign = true
			f := p.openFile("f")
			want(t, "SESSION_SETUP", p.setup("ann", "secret", p.sid, smb2.SessionSetupRequest{SecurityMode: 1}), ntstatus.Success)
			st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("x")})
			want(t, "WRITE", st, ntstatus.Success)
			// The session becomes another user's, or nobody's, and lets go of nothing.
			for _, u := range []struct{ name, password, want string }{
				{"bob", "hunter2", "bob"}, {"", "", "(anonymous)"}, {"ann", "secret", "ann"},
			} {
				want(t, "as "+u.want, p.setup(u.name, u.password, p.sid, smb2.SessionSetupRequest{SecurityMode: 1}), ntstatus.Success)
				if got := s.srv.Status(1).Sessions[0].User; got != u.want {
					t.Errorf("the session is of %q, want %q", got, u.want)
				}
				st, _ = p.do(smb2.CommandFlush, &smb2.FlushRequest{FileID: f})
				want(t, "FLUSH as "+u.want, st, ntstatus.Success)
			}
			want(t, "wrong password", p.setup("bob", "x", p.sid, smb2.SessionSetupRequest{SecurityMode: 1}), ntstatus.LogonFailure)
			if st := s.srv.Stats(); st.Sessions != 0 || st.Opens != 0 {
				t.Errorf("%d sessions, %d opens left", st.Sessions, st.Opens)
			}
		})
	}
}

// On a tree that another user has connected to, who has reauthenticated gets what a
// connect of his own would give him.
func TestReauthenticationOnTrees(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) {
		own := c.Shares[0]
		own.Name, own.Users = "anns", []string{"ann"}
		look := c.Shares[0]
		look.Name, look.ReadList = "look", []string{"bob"}
		c.Shares = append(c.Shares, own, look)
	})
	for share, st := range map[string]ntstatus.Status{
		"data": ntstatus.Success, "anns": ntstatus.AccessDenied, "look": ntstatus.AccessDenied,
	} {
		p := s.login(smb2.DialectSMB311).mustConnect(share)
		p.openFile("f")
		want(t, "as bob", p.setup("bob", "hunter2", p.sid, smb2.SessionSetupRequest{SecurityMode: 1}), ntstatus.Success)
		got, _ := p.tryCreate(createRequest("f", smb2.FileOpenIf))
		want(t, "bob's CREATE on "+share, got, st)
		want(t, "as ann", p.setup("ann", "secret", p.sid, smb2.SessionSetupRequest{SecurityMode: 1}), ntstatus.Success)
		got, _ = p.tryCreate(createRequest("f", smb2.FileOpenIf))
		want(t, "ann's CREATE on "+share, got, ntstatus.Success)
		want(t, "as nobody", p.setup("", "", p.sid, smb2.SessionSetupRequest{SecurityMode: 1}), ntstatus.Success)
		got, _ = p.tryCreate(createRequest("f", smb2.FileOpenIf))
		want(t, "nobody's CREATE on "+share, got, ntstatus.AccessDenied)
	}
}

// 3.3.5.5.3: PreviousSessionId ends the session that a client lost, if it is the
// same user's.
func TestPreviousSession(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	old := s.login(smb2.DialectSMB311).mustConnect("data")
	old.openFile("f")
	for _, c := range []struct {
		user, password string
		sessions       int
	}{{"bob", "hunter2", 2}, {"ann", "secret", 2}} {
		p := s.dial()
		p.negotiate(smb2.DialectSMB311)
		st := p.setup(c.user, c.password, 0, smb2.SessionSetupRequest{SecurityMode: 1, PreviousSessionID: old.sid})
		want(t, "SESSION_SETUP of "+c.user, st, ntstatus.Success)
		if got := s.srv.Stats().Sessions; got != c.sessions {
			t.Errorf("%d sessions after %s's logon, want %d", got, c.user, c.sessions)
		}
	}
	st, _ := old.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{})
	want(t, "request of the old session", st, ntstatus.UserSessionDeleted)
}

// 3.3.5.5 with SESSION_FLAG_BINDING.
func TestSessionBinding(t *testing.T) {
	interfaces := func(c *Config) { c.Interfaces = func() []Interface { return nil } }
	bind := smb2.SessionSetupRequest{SecurityMode: 1, Flags: smb2.SessionSetupFlagBinding}
	for _, d := range allDialects[2:] {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, memconn.Config{}, interfaces)
			p := s.login(d).mustConnect("data")
			f := p.openFile("f")
			second := func() *peer {
				q := s.dial()
				q.guid = p.guid
				q.negotiate(d)
				q.sign, q.signer, q.sealer, q.opener = true, p.signer, p.sealer, p.opener
				return q
			}
			q := second()
			want(t, "binding", q.setup("ann", "secret", p.sid, bind), ntstatus.Success)
			q.tid, q.sign = p.tid, true
			st, _ := q.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("over the second channel")})
			want(t, "WRITE on the second channel", st, ntstatus.Success)
			want(t, "binding once more", q.setup("ann", "secret", p.sid, bind), ntstatus.RequestNotAccepted)
			p.c.Close()
			st, _ = q.do(smb2.CommandFlush, &smb2.FlushRequest{FileID: f})
			want(t, "FLUSH after the first channel's end", st, ntstatus.Success)
			if got := string(s.read("f")); got != "over the second channel" {
				t.Errorf("file has %q", got)
			}
			want(t, "wrong password", second().setup("ann", "x", p.sid, bind), ntstatus.LogonFailure)
			want(t, "another user", second().setup("bob", "hunter2", p.sid, bind), ntstatus.NotSupported)
			stranger := second()
			stranger.sign = false
			want(t, "not signed", stranger.setup("ann", "secret", p.sid, bind), ntstatus.InvalidParameter)
			other := s.dial() // another client GUID: who has the key and the password may
			other.negotiate(d)
			other.sign, other.signer = true, p.signer
			want(t, "another GUID", other.setup("ann", "secret", p.sid, bind), ntstatus.Success)
			other.c.Close()
			q.c.Close()
		})
	}
	// What a client wants signed it says when it makes the session: binding changes nothing.
	t.Run("signing", func(t *testing.T) {
		for _, wants := range []bool{false, true} {
			s := newSite(t, memconn.Config{}, func(c *Config) {
				interfaces(c)
				c.Signing = PolicyOffered
			})
			dial := func(required bool) *peer {
				p := s.dial()
				if required {
					p.mode |= smb2.NegotiateSigningRequired
				}
				p.negotiate(smb2.DialectSMB302)
				return p
			}
			p := dial(wants)
			want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
			q := dial(!wants)
			q.sign, q.signer = true, p.signer
			want(t, "binding", q.setup("ann", "secret", p.sid, bind), ntstatus.Success)
			q.sign = false
			st := ntstatus.Success
			if wants {
				st = ntstatus.AccessDenied
			}
			want(t, fmt.Sprintf("unsigned on the second channel of a session that is signed %v", wants), q.connect("data"), st)
		}
	})
	// AES-GMAC on one channel and not on the other, as Windows answers it.
	for _, c := range []struct {
		first, second smbcrypto.SigningAlgorithm
		want          ntstatus.Status
	}{
		{smbcrypto.AESGMAC, smbcrypto.AESCMAC, ntstatus.RequestOutOfSequence},
		{smbcrypto.AESCMAC, smbcrypto.AESGMAC, ntstatus.NotSupported},
		{smbcrypto.AESCMAC, smbcrypto.HMACSHA256, ntstatus.Success},
	} {
		t.Run(fmt.Sprintf("%v and %v", c.first, c.second), func(t *testing.T) {
			s := newSite(t, memconn.Config{}, interfaces)
			dial := func(alg smbcrypto.SigningAlgorithm) *peer {
				p := s.dial()
				p.algs = []smb2.SigningAlgorithm{smb2.SigningAlgorithm(alg)}
				p.negotiate(smb2.DialectSMB311)
				return p
			}
			p := dial(c.first)
			want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
			q := dial(c.second)
			q.sign, q.signer = true, p.signer
			want(t, "binding", q.setup("ann", "secret", p.sid, bind), c.want)
		})
	}
	t.Run("without multichannel", func(t *testing.T) {
		s := newSite(t, memconn.Config{}, nil)
		p := s.login(smb2.DialectSMB311)
		q := s.dial()
		q.guid = p.guid
		q.negotiate(smb2.DialectSMB311)
		q.sign, q.signer = true, p.signer
		want(t, "binding", q.setup("ann", "secret", p.sid, bind), ntstatus.RequestNotAccepted)
	})
}
