package server

import (
	"encoding/binary"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

var allDialects = []smb2.Dialect{
	smb2.DialectSMB202, smb2.DialectSMB210, smb2.DialectSMB300, smb2.DialectSMB302, smb2.DialectSMB311,
}

// 3.3.5.4: the greatest common dialect is chosen, and the sizes follow from it.
func TestNegotiateDialect(t *testing.T) {
	for _, c := range []struct {
		name   string
		offer  []smb2.Dialect
		min    uint16
		max    uint16
		rdma   bool
		st     ntstatus.Status
		chosen smb2.Dialect
		read   uint32
	}{
		{name: "2.0.2", offer: allDialects[:1], chosen: smb2.DialectSMB202, read: 65536},
		{name: "2.1", offer: allDialects[:2], chosen: smb2.DialectSMB210, read: 8 << 20},
		{name: "3.0", offer: allDialects[:3], chosen: smb2.DialectSMB300, read: 8 << 20},
		{name: "3.0.2", offer: allDialects[:4], chosen: smb2.DialectSMB302, read: 8 << 20},
		{name: "3.1.1", offer: allDialects, chosen: smb2.DialectSMB311, read: 8 << 20},
		{name: "unknown beside", offer: []smb2.Dialect{0x0401, 0x0300}, chosen: smb2.DialectSMB300, read: 8 << 20},
		{name: "unknown", offer: []smb2.Dialect{0x0401}, st: ntstatus.NotSupported},
		{name: "none", offer: nil, st: ntstatus.InvalidParameter},
		{name: "below the least", offer: allDialects[:3], min: Dialect302, st: ntstatus.NotSupported},
		{name: "capped", offer: allDialects, max: Dialect300, chosen: smb2.DialectSMB300, read: 8 << 20},
		{name: "SMB Direct, 3.x", offer: allDialects, rdma: true, chosen: smb2.DialectSMB311, read: 4 << 20},
		{name: "SMB Direct, 2.x only, [MS-SMB2] 2.1", offer: allDialects[:2], rdma: true, st: ntstatus.NotSupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{RDMA: c.rdma, MaxReadWriteSize: 4 << 20}, func(cfg *Config) {
				cfg.MinDialect, cfg.MaxDialect = c.min, c.max
			})
			p := s.dial()
			req := &smb2.NegotiateRequest{SecurityMode: 1, Capabilities: p.caps, ClientGUID: p.guid, Dialects: c.offer}
			if req.HasDialect(smb2.DialectSMB311) {
				req.Contexts = p.contexts()
			}
			st, resp := p.negotiateWith(req)
			want(t, "NEGOTIATE", st, c.st)
			if st != ntstatus.Success || c.st != ntstatus.Success {
				return
			}
			if resp.DialectRevision != c.chosen || resp.MaxReadSize != c.read {
				t.Errorf("got dialect %v, MaxReadSize %d, want %v, %d", resp.DialectRevision, resp.MaxReadSize, c.chosen, c.read)
			}
			if lm := resp.Capabilities&smb2.GlobalCapLargeMTU != 0; lm != (c.chosen != smb2.DialectSMB202) {
				t.Errorf("LARGE_MTU is %v in %v", lm, c.chosen)
			}
			if enc := resp.Capabilities&smb2.GlobalCapEncryption != 0; enc != (c.chosen == smb2.DialectSMB300 || c.chosen == smb2.DialectSMB302) {
				t.Errorf("CAP_ENCRYPTION is %v in %v", enc, c.chosen)
			}
			if req := resp.SecurityMode&smb2.NegotiateSigningRequired != 0; req == c.rdma {
				t.Errorf("signing required is %v with RDMA %v", req, c.rdma)
			}
			p.neg = resp
			want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
			want(t, "TREE_CONNECT", p.connect("data"), ntstatus.Success)
		})
	}
}

// 3.3.5.4, negotiate contexts of 3.1.1.
func TestNegotiateContexts(t *testing.T) {
	ctx := func(t smb2.NegotiateContextType, words ...uint16) smb2.NegotiateContext {
		var b []byte
		for _, w := range words {
			b = binary.LittleEndian.AppendUint16(b, w)
		}
		return smb2.NegotiateContext{Type: t, Data: b}
	}
	preauth := ctx(smb2.ContextPreauthIntegrityCapabilities, 1, 0, 1)
	for _, c := range []struct {
		name    string
		in      []smb2.NegotiateContext
		st      ntstatus.Status
		cipher  int // -1: no context in the answer
		signing int
	}{
		{"no preauth integrity", nil, ntstatus.InvalidParameter, 0, 0},
		{"preauth integrity twice", []smb2.NegotiateContext{preauth, preauth}, ntstatus.InvalidParameter, 0, 0},
		{"unknown hash", []smb2.NegotiateContext{ctx(1, 1, 0, 7)}, ntstatus.SMBNoPreauthIntegrityHashOverlap, 0, 0},
		{"short preauth integrity", []smb2.NegotiateContext{ctx(1, 1)}, ntstatus.InvalidParameter, 0, 0},
		{"preauth integrity alone", []smb2.NegotiateContext{preauth}, 0, -1, -1},
		{"AES-128-CCM only", []smb2.NegotiateContext{preauth, ctx(2, 1, 1)}, 0, 1, -1},
		{"AES-128-GCM only", []smb2.NegotiateContext{preauth, ctx(2, 1, 2)}, 0, 2, -1},
		{"AES-256-CCM only", []smb2.NegotiateContext{preauth, ctx(2, 1, 3)}, 0, 3, -1},
		{"AES-256-GCM only", []smb2.NegotiateContext{preauth, ctx(2, 1, 4)}, 0, 4, -1},
		{"all ciphers", []smb2.NegotiateContext{preauth, ctx(2, 4, 4, 3, 1, 2)}, 0, 2, -1},
		{"no common cipher", []smb2.NegotiateContext{preauth, ctx(2, 1, 9)}, 0, 0, -1},
		{"encryption twice", []smb2.NegotiateContext{preauth, ctx(2, 1, 1), ctx(2, 1, 1)}, ntstatus.InvalidParameter, 0, 0},
		{"short encryption", []smb2.NegotiateContext{preauth, ctx(2)}, ntstatus.InvalidParameter, 0, 0},
		{"GMAC and CMAC", []smb2.NegotiateContext{preauth, ctx(8, 2, 1, 2)}, 0, -1, 2},
		{"CMAC only", []smb2.NegotiateContext{preauth, ctx(8, 1, 1)}, 0, -1, 1},
		{"HMAC only", []smb2.NegotiateContext{preauth, ctx(8, 1, 0)}, 0, -1, 0},
		{"no common signing: AES-CMAC", []smb2.NegotiateContext{preauth, ctx(8, 1, 9)}, 0, -1, 1},
		{"SigningAlgorithmCount 0", []smb2.NegotiateContext{preauth, ctx(8, 0)}, ntstatus.InvalidParameter, 0, 0},
		{"signing twice", []smb2.NegotiateContext{preauth, ctx(8, 1, 1), ctx(8, 1, 1)}, ntstatus.InvalidParameter, 0, 0},
		{"compression, netname, transport, POSIX: ignored", []smb2.NegotiateContext{
			preauth, ctx(3, 1, 0, 0, 0, 2), ctx(5, 'n'), ctx(6, 1, 0), ctx(0x100, 1)}, 0, -1, -1},
		{"compression twice", []smb2.NegotiateContext{preauth, ctx(3, 1, 0, 0, 0, 2), ctx(3, 1, 0, 0, 0, 2)}, ntstatus.InvalidParameter, 0, 0},
		{"RDMA transforms twice", []smb2.NegotiateContext{preauth, ctx(7, 1, 0, 0, 0, 1), ctx(7, 1, 0, 0, 0, 1)}, ntstatus.InvalidParameter, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newSite(t, memconn.Config{}, nil).dial()
			st, resp := p.negotiateWith(&smb2.NegotiateRequest{
				SecurityMode: 1, ClientGUID: p.guid, Dialects: []smb2.Dialect{smb2.DialectSMB311}, Contexts: c.in})
			want(t, "NEGOTIATE", st, c.st)
			if c.st != ntstatus.Success || st != ntstatus.Success {
				return
			}
			get := func(ct smb2.NegotiateContextType) int {
				d, n := smb2.FindNegotiateContext(resp.Contexts, ct)
				if n == 0 {
					return -1
				}
				if n != 1 || len(d) != 4 || binary.LittleEndian.Uint16(d) != 1 {
					t.Errorf("context %d: %d of them, %x", ct, n, d)
				}
				return int(binary.LittleEndian.Uint16(d[2:]))
			}
			if got := get(smb2.ContextEncryptionCapabilities); got != c.cipher {
				t.Errorf("cipher %d, want %d", got, c.cipher)
			}
			if got := get(smb2.ContextSigningCapabilities); got != c.signing {
				t.Errorf("signing algorithm %d, want %d", got, c.signing)
			}
			for _, ct := range []smb2.NegotiateContextType{3, 5, 6, 7, 0x100} {
				if _, n := smb2.FindNegotiateContext(resp.Contexts, ct); n != 0 {
					t.Errorf("answer has context %d", ct)
				}
			}
		})
	}
}

// 3.3.5.3: an SMB1 NEGOTIATE that offers SMB2.
func TestMultiProtocolNegotiate(t *testing.T) {
	for _, c := range []struct {
		name    string
		offer   []string
		max     uint16
		dialect smb2.Dialect // 0: the connection ends
	}{
		{"2.???", []string{"NT LM 0.12", "SMB 2.002", "SMB 2.???"}, 0, smb2.DialectWildcard},
		{"2.002", []string{"NT LM 0.12", "SMB 2.002"}, 0, smb2.DialectSMB202},
		{"2.??? of a 2.0.2 server", []string{"SMB 2.002", "SMB 2.???"}, Dialect202, smb2.DialectSMB202},
		{"SMB1 only", []string{"NT LM 0.12"}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newSite(t, memconn.Config{}, func(cfg *Config) { cfg.MaxDialect = c.max }).dial()
			b, err := (&smb2.SMB1Negotiate{Dialects: c.offer}).AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			p.transmit(b)
			if c.dialect == 0 {
				p.gone()
				return
			}
			p.mid, p.credits = 1, 0
			h, msg := p.answer()
			resp, err := smb2.ParseNegotiateResponse(msg)
			if err != nil || h.Status != ntstatus.Success || h.MessageID != 0 || h.Credits < 1 || resp.DialectRevision != c.dialect {
				t.Fatalf("header %+v, response %+v, %v", h, resp, err)
			}
			p.neg, p.dialect, p.alg = resp, resp.DialectRevision, smbcrypto.HMACSHA256
			if c.dialect == smb2.DialectWildcard {
				p.dialect = 0
				p.negotiate(allDialects...)
			}
			want(t, "logon", p.logon("ann", "secret"), ntstatus.Success)
			want(t, "TREE_CONNECT", p.connect("data"), ntstatus.Success)
		})
	}
}

// 3.3.5.2, 3.3.5.2.2, 3.3.5.2.6, 3.3.5.4: what costs a client its connection.
func TestProtocolViolations(t *testing.T) {
	echo := func(p *peer, change func(*smb2.Header)) []byte {
		h := p.header(smb2.CommandEcho)
		if change != nil {
			change(&h)
		}
		return p.element(h, &smb2.EchoRequest{})
	}
	for _, c := range []struct {
		name string
		msg  func(p *peer) []byte
	}{
		{"no protocol id", func(p *peer) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }},
		{"empty message", func(p *peer) []byte { return nil }},
		{"compressed", func(p *peer) []byte { return append([]byte{0xFC, 'S', 'M', 'B'}, make([]byte, 60)...) }},
		{"shorter than a header", func(p *peer) []byte { return echo(p, nil)[:63] }},
		{"header StructureSize", func(p *peer) []byte { b := echo(p, nil); b[4] = 65; return b }},
		{"unknown command", func(p *peer) []byte { return echo(p, func(h *smb2.Header) { h.Command = 0x13 }) }},
		{"a response", func(p *peer) []byte { return echo(p, func(h *smb2.Header) { h.Flags |= smb2.FlagServerToRedir }) }},
		{"NextCommand not a multiple of 8", func(p *peer) []byte {
			return append(echo(p, func(h *smb2.Header) { h.NextCommand = 68 }), echo(p, nil)...)
		}},
		{"NextCommand beyond the message", func(p *peer) []byte { return echo(p, func(h *smb2.Header) { h.NextCommand = 1 << 20 }) }},
		{"second NEGOTIATE", func(p *peer) []byte {
			h := p.header(smb2.CommandNegotiate)
			return p.element(h, &smb2.NegotiateRequest{Dialects: allDialects[:4]})
		}},
		{"SMB1 NEGOTIATE after SMB2", func(p *peer) []byte {
			b, _ := (&smb2.SMB1Negotiate{Dialects: []string{"SMB 2.???"}}).AppendBinary(nil)
			return b
		}},
		{"other commands above 68 KiB", func(p *peer) []byte { return append(echo(p, nil), make([]byte, 70<<10)...) }},
		{"encrypted without a session", func(p *peer) []byte {
			b := make([]byte, smbcrypto.TransformHeaderSize+64)
			copy(b, []byte{0xFD, 'S', 'M', 'B'})
			return b
		}},
		{"short transform", func(p *peer) []byte { return []byte{0xFD, 'S', 'M', 'B', 0} }},
		{"MessageId used before, 3.3.5.2.3", func(p *peer) []byte { return echo(p, func(h *smb2.Header) { h.MessageID = 0 }) }},
		{"MessageId beyond the credits", func(p *peer) []byte {
			return echo(p, func(h *smb2.Header) { h.MessageID = p.mid + uint64(p.credits) })
		}},
		{"CreditCharge beyond the credits", func(p *peer) []byte {
			return echo(p, func(h *smb2.Header) { h.CreditCharge = uint16(p.credits + 1) })
		}},
		{"MessageId at the end of all", func(p *peer) []byte {
			return echo(p, func(h *smb2.Header) { h.MessageID = ^uint64(0); h.CreditCharge = 0xFFFF })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			p := s.dial()
			p.negotiate(allDialects...)
			other := s.login(smb2.DialectSMB311).mustConnect("data")
			p.transmit(c.msg(p))
			p.gone()
			st, _ := other.do(smb2.CommandEcho, &smb2.EchoRequest{})
			want(t, "ECHO of somebody else", st, ntstatus.Success)
			if got := s.srv.Stats().ConnectionsFailed; got != 1 {
				t.Errorf("ConnectionsFailed %d, want 1", got)
			}
		})
	}
	t.Run("request before NEGOTIATE, 3.3.5.2.2", func(t *testing.T) {
		p := newSite(t, memconn.Config{}, nil).dial()
		p.transmit(echo(p, nil))
		p.gone()
	})
	t.Run("signed NEGOTIATE, 3.3.5.2.4", func(t *testing.T) {
		p := newSite(t, memconn.Config{}, nil).dial()
		h := p.header(smb2.CommandNegotiate)
		h.Flags |= smb2.FlagSigned
		st, _ := p.doHeader(h, &smb2.NegotiateRequest{Dialects: allDialects[:4]})
		want(t, "NEGOTIATE", st, ntstatus.InvalidParameter)
	})
}

func TestConfig(t *testing.T) {
	fsys := hideOS{}
	for _, c := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"zero", func(*Config) {}, true},
		{"share", func(c *Config) { c.Shares = []Share{{Name: "data", FS: fsys}} }, true},
		{"share twice", func(c *Config) { c.Shares = []Share{{Name: "data", FS: fsys}, {Name: "DATA", FS: fsys}} }, false},
		{"IPC$", func(c *Config) { c.Shares = []Share{{Name: "ipc$", FS: fsys}} }, false},
		{"no FS", func(c *Config) { c.Shares = []Share{{Name: "data"}} }, false},
		{"no name", func(c *Config) { c.Shares = []Share{{FS: fsys}} }, false},
		{"separator", func(c *Config) { c.Shares = []Share{{Name: `a\b`, FS: fsys}} }, false},
		{"dialect", func(c *Config) { c.MinDialect = 0x0203 }, false},
		{"dialects crossed", func(c *Config) { c.MinDialect, c.MaxDialect = Dialect311, Dialect300 }, false},
		{"signing disabled", func(c *Config) { c.Signing = PolicyDisabled }, false},
		{"encryption in 2.1", func(c *Config) { c.Encryption, c.MaxDialect = PolicyRequired, Dialect210 }, false},
		{"cipher", func(c *Config) { c.Ciphers = []uint16{5} }, false},
		{"signing algorithm", func(c *Config) { c.SigningAlgorithms = []uint16{3} }, false},
		{"credits", func(c *Config) { c.Limits.CreditsPerConn = 1 }, false},
		{"read size", func(c *Config) { c.Limits.MaxReadSize = 16 << 20 }, false},
		{"negative time", func(c *Config) { c.NegotiateTimeout = -1 }, false},
	} {
		var cfg Config
		c.change(&cfg)
		if s, err := New(cfg); (err == nil) != c.ok {
			t.Errorf("%s: error %v, want ok %v", c.name, err, c.ok)
		} else if s != nil {
			s.Close()
		}
	}
	if _, err := ParseUsers("ann"); err == nil {
		t.Error("user without a password is taken")
	}
	m, err := ParseUsers("ann%se%cret")
	if err != nil {
		t.Fatal(err)
	}
	// MD4 of "se%cret" in UTF-16LE is what NTHash makes of it; here the case of
	// the name alone matters.
	a, errA := m.NTHash(t.Context(), "", "ANN")
	b, errB := m.NTHash(t.Context(), "", "ann")
	if errA != nil || errB != nil || a != b {
		t.Errorf("%v, %v, %v, %v", a, errA, b, errB)
	}
	var _ vfs.FS = fsys
}
