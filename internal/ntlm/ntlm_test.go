package ntlm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("bad hex %q: %v", s, err)
	}
	return b
}

// The values of [MS-NLMP] 4.2.1 and 4.2.4.
const (
	specFlags     = 0xE28A8233
	specChallenge = `4e544c4d53535000020000000c000c003800000033828ae20123456789abcdef
		00000000000000002400240044000000060070170000000f530065007200760065007200
		02000c0044006f006d00610069006e0001000c0053006500720076006500720000000000`
	specAuthenticate = `4e544c4d535350000300000018001800 6c000000540054008400000 00c000c00
		480000000800080054000000100010005c00000010001000d8000000358288e2
		0501280a0000000f44006f006d00610069006e00550073006500720043004f00
		4d0050005500540045005200 86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa
		68cd0ab851e51c96aabc927bebef6a1c
		01010000000000000000000000000000aaaaaaaaaaaaaaaa00000000
		02000c0044006f006d00610069006e0001000c005300650072007600650072000000000000000000
		c5dad2544fc979909 4ce1ce90bc9d03e`
)

func repeat(b byte, n int) (out [16]byte) {
	copy(out[:], bytes.Repeat([]byte{b}, n))
	return out
}

// [MS-NLMP] 4.2.4.1.1 to 4.2.4.2.3.
func TestNTLMv2Calculations(t *testing.T) {
	key := ntowfv2(NTHash("Password"), "User", "Domain")
	temp := clientChallenge(0, [8]byte(bytes.Repeat([]byte{0xaa}, 8)), []AVPair{
		{avNbDomainName, encodeUTF16("Domain")}, {avNbComputerName, encodeUTF16("Server")}})
	server := unhex(t, "0123456789abcdef")
	proof := hmacMD5(key, server, temp)
	base := hmacMD5(key, proof)
	random := repeat(0x55, 16)
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"ResponseKeyNT", key, "0c868a403bfd7a93a3001ef22ef02e3f"},
		{"temp", temp, `01010000000000000000000000000000aaaaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e00
			01000c005300650072007600650072000000000000000000`},
		{"LMv2 response", hmacMD5(key, server, bytes.Repeat([]byte{0xaa}, 8)), "86c35097ac9cec102554764a57cccc19"},
		{"NTProofStr", proof, "68cd0ab851e51c96aabc927bebef6a1c"},
		{"SessionBaseKey", base, "8de40ccadbc14a82f15cb0ad0de95ca3"},
		{"EncryptedRandomSessionKey", rc4K(base, random[:]), "c5dad2544fc9799094ce1ce90bc9d03e"},
	} {
		if !bytes.Equal(c.got, unhex(t, c.want)) {
			t.Errorf("%s is %x, want %s", c.what, c.got, c.want)
		}
	}
}

// [MS-NLMP] 4.2.4.4: the keys, and the checksum of a message with sequence number
// 0 after the data has been sealed.
func TestGSSWrapExKeys(t *testing.T) {
	h := newHalf(specFlags, repeat(0x55, 16), clientSigningMagic, clientSealingMagic)
	if want := unhex(t, "4788dc861b4782f35d43fd98fe1a2d39"); !bytes.Equal(h.key, want) {
		t.Errorf("signing key %x, want %x", h.key, want)
	}
	plain := encodeUTF16("Plaintext")
	sealed := make([]byte, len(plain))
	h.rc4.XORKeyStream(sealed, plain)
	if want := unhex(t, "54e50165bf1936dc996020c1811b0f06fb5f"); !bytes.Equal(sealed, want) {
		t.Errorf("sealed %x, want %x", sealed, want)
	}
	if mac, want := h.mac(plain), unhex(t, "010000007fb38ec5c55d497600000000"); !bytes.Equal(mac, want) {
		t.Errorf("signature %x, want %x", mac, want)
	}
}

// [MS-NLMP] 4.2.4.3: decoding the messages.
func TestMessagesOfSpecification(t *testing.T) {
	ch, err := ParseChallenge(unhex(t, specChallenge))
	if err != nil {
		t.Fatal(err)
	}
	if ch.Flags != specFlags || ch.TargetName != "Server" || len(ch.TargetInfo) != 2 ||
		!bytes.Equal(ch.TargetInfo[0].Value, encodeUTF16("Domain")) {
		t.Errorf("challenge %+v", ch)
	}
	m, err := ParseAuthenticate(unhex(t, specAuthenticate))
	if err != nil {
		t.Fatal(err)
	}
	if m.User != "User" || m.Domain != "Domain" || m.Workstation != "COMPUTER" || m.HasMIC ||
		m.Flags != 0xE2888235 || len(m.NTResponse) != 84 || len(m.LMResponse) != 24 {
		t.Errorf("authenticate %+v", m)
	}
}

// A server that sent the challenge of 4.2.4.3 must accept the authenticate message
// there and find the random session key.
func TestServerAcceptsSpecification(t *testing.T) {
	c := &ServerContext{
		srv: &Server{NetBIOSName: "Server", Lookup: func(user, domain string) ([16]byte, bool) {
			return NTHash("Password"), user == "User" && domain == "Domain"
		}},
		negotiate: []byte{}, challenge: unhex(t, specChallenge), flags: specFlags,
		nonce: [8]byte(unhex(t, "0123456789abcdef")),
	}
	r, err := c.Authenticate(unhex(t, specAuthenticate))
	if err != nil {
		t.Fatal(err)
	}
	if r.SessionKey != repeat(0x55, 16) || r.User != "User" {
		t.Errorf("got %+v", r)
	}
}

// golden reads a file of named hex blobs: a name that is no hex, then its lines.
func golden(t testing.TB, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string][]byte{}
	name := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			name = line
			continue
		}
		m[name] = append(m[name], b...)
	}
	return m
}

func windows10(t testing.TB, g map[string][]byte, password string) *ServerContext {
	t.Helper()
	ch, err := ParseChallenge(g["Challenge"])
	if err != nil {
		t.Fatal(err)
	}
	return &ServerContext{
		srv: &Server{NetBIOSName: "SUT311", Lookup: func(user, domain string) ([16]byte, bool) {
			return NTHash(password), strings.EqualFold(user, "administrator")
		}},
		negotiate: g["Negotiate"], challenge: g["Challenge"], flags: ch.Flags, nonce: ch.ServerChallenge,
	}
}

// The published exchange has a MIC over all three messages, a random session key,
// and signatures of the mechanism list by both sides.
func TestServerAcceptsWindows10(t *testing.T) {
	g := golden(t, "windows10.txt")
	c := windows10(t, g, "Password01!")
	r, err := c.Authenticate(g["Authenticate"])
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, "270E1BA896585EEB7AF3472D3B4C75A7"); !bytes.Equal(r.SessionKey[:], want) {
		t.Errorf("session key %x, want %x", r.SessionKey, want)
	}
	if r.Domain != "SUT311" || r.Workstation != "DRIVER311" || r.Guest || r.Anonymous {
		t.Errorf("result %+v", r)
	}
	mechs := unhex(t, "300c060a2b06010401823702020a")
	if err := c.VerifyMIC(mechs, g["ClientMIC"]); err != nil {
		t.Errorf("client's signature: %v", err)
	}
	if mic, err := c.GetMIC(mechs); err != nil || !bytes.Equal(mic, g["ServerMIC"]) {
		t.Errorf("server's signature %x, %v, want %x", mic, err, g["ServerMIC"])
	}
}

// Nothing of the three messages may change unnoticed, and the failure is the same
// as for a wrong password.
func TestServerDetectsTampering(t *testing.T) {
	g := golden(t, "windows10.txt")
	if _, err := windows10(t, g, "Password02!").Authenticate(g["Authenticate"]); !errors.Is(err, ErrLogon) {
		t.Errorf("wrong password: got %v, want ErrLogon", err)
	}
	for _, name := range []string{"Negotiate", "Challenge", "Authenticate"} {
		for i := range g[name] {
			bad := map[string][]byte{}
			for k, v := range g {
				bad[k] = bytes.Clone(v)
			}
			bad[name][i] ^= 0x20
			c := windows10(t, g, "Password01!")
			c.negotiate, c.challenge = bad["Negotiate"], bad["Challenge"]
			if _, err := c.Authenticate(bad["Authenticate"]); err == nil {
				t.Errorf("byte %d of %s changed: accepted", i, name)
			}
		}
	}
}

// The client, given the nonces and the challenge of [MS-NLMP] 4.2.4, computes the
// responses there over its own AV pairs; the proof is checked by formula.
func TestClientAgainstSpecification(t *testing.T) {
	c := &Client{User: "User", Password: "Password", Domain: "Domain", Workstation: "COMPUTER",
		testTime: time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC),
		testRandom: func(b []byte) {
			v := byte(0xaa)
			if len(b) == 16 {
				v = 0x55
			}
			copy(b, bytes.Repeat([]byte{v}, len(b)))
		}}
	if _, err := c.Negotiate(); err != nil {
		t.Fatal(err)
	}
	msg, err := c.Authenticate(unhex(t, specChallenge))
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseAuthenticate(msg)
	if err != nil {
		t.Fatal(err)
	}
	wantLM := unhex(t, "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa")
	if !bytes.Equal(m.LMResponse, wantLM) {
		t.Errorf("LM response %x, want %x", m.LMResponse, wantLM)
	}
	// The pairs of the challenge, no bindings and no target name.
	wantTemp := unhex(t, `01010000000000000000000000000000aaaaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e00
		01000c005300650072007600650072000a00100000000000000000000000000000000000 09000000 00000000 00000000`)
	if !bytes.Equal(m.NTResponse[16:], wantTemp) {
		t.Errorf("temp %x, want %x", m.NTResponse[16:], wantTemp)
	}
	if want := repeat(0x55, 16); !bytes.Equal(c.SessionKey(), want[:]) {
		t.Errorf("session key %x", c.SessionKey())
	}
}

func testServer() *Server {
	users := map[string]string{"ann": "secret", "empty": "", "müller": "pässwörd€😀"}
	return &Server{NetBIOSName: "nas", DNSName: "nas.example", DNSDomain: "example",
		Lookup: func(user, _ string) ([16]byte, bool) {
			p, ok := users[strings.ToLower(user)]
			return NTHash(p), ok
		}}
}

// login runs a whole authentication.
func login(t *testing.T, srv *Server, c *Client) (*ServerContext, *Result, error) {
	t.Helper()
	s, err := srv.NewContext()
	if err != nil {
		t.Fatal(err)
	}
	n, done, err := c.Step(nil)
	if err != nil || done {
		t.Fatalf("negotiate: %v, done %v", err, done)
	}
	ch, done, err := s.Step(n)
	if err != nil || done {
		t.Fatalf("challenge: %v, done %v", err, done)
	}
	a, done, err := c.Step(ch)
	if err != nil || !done {
		t.Fatalf("authenticate: %v, done %v", err, done)
	}
	_, _, err = s.Step(a)
	return s, s.Result(), err
}

func TestLogin(t *testing.T) {
	hash := NTHash("secret")
	for _, tc := range []struct {
		name   string
		client Client
		change func(*Server)
		err    error
		guest  bool
		anon   bool
	}{
		{name: "password", client: Client{User: "ann", Password: "secret", Domain: "WORK", TargetSPN: "cifs/nas"}},
		{name: "hash", client: Client{User: "ANN", Hash: &hash}},
		{name: "no domain", client: Client{User: "ann", Password: "secret"}},
		{name: "empty password", client: Client{User: "empty"}},
		{name: "beyond ASCII", client: Client{User: "MüLLeR", Password: "pässwörd€😀", Workstation: "büro"}},
		{name: "wrong password", client: Client{User: "ann", Password: "Secret"}, err: ErrLogon},
		{name: "unknown user", client: Client{User: "bob", Password: "secret"}, err: ErrLogon},
		{name: "anonymous refused", err: ErrLogon},
		{name: "anonymous", change: func(s *Server) { s.AllowAnonymous = true }, anon: true},
		{name: "guest", client: Client{User: "bob", Password: "x"}, change: func(s *Server) { s.AllowGuest = true }, guest: true},
		{name: "no guest with a wrong password", client: Client{User: "ann", Password: "x"},
			change: func(s *Server) { s.AllowGuest = true }, err: ErrLogon},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := testServer()
			if tc.change != nil {
				tc.change(srv)
			}
			s, r, err := login(t, srv, &tc.client)
			if !errors.Is(err, tc.err) {
				t.Fatalf("got %v, want %v", err, tc.err)
			}
			if tc.err != nil {
				if r != nil || s.SessionKey() != nil || s.Integrity() {
					t.Errorf("failed, but with result %+v", r)
				}
				return
			}
			if r.Guest != tc.guest || r.Anonymous != tc.anon || r.User != tc.client.User {
				t.Fatalf("result %+v", r)
			}
			if tc.guest || tc.anon {
				if s.Integrity() {
					t.Error("integrity without a secret")
				}
				if _, err := s.GetMIC(nil); !errors.Is(err, ErrState) {
					t.Errorf("GetMIC: %v, want ErrState", err)
				}
				return
			}
			if !bytes.Equal(s.SessionKey(), tc.client.SessionKey()) {
				t.Errorf("session keys differ: %x, %x", s.SessionKey(), tc.client.SessionKey())
			}
			for i := range 3 { // sequence numbers advance on both sides
				mic, _ := tc.client.GetMIC([]byte("to the server"))
				if err := s.VerifyMIC([]byte("to the server"), mic); err != nil {
					t.Errorf("message %d to the server: %v", i, err)
				}
				mic, _ = s.GetMIC([]byte("to the client"))
				if err := tc.client.VerifyMIC([]byte("to the client"), mic); err != nil {
					t.Errorf("message %d to the client: %v", i, err)
				}
			}
			mic, _ := s.GetMIC([]byte("one"))
			if err := tc.client.VerifyMIC([]byte("two"), mic); !errors.Is(err, ErrMIC) {
				t.Errorf("another message's signature: %v, want ErrMIC", err)
			}
		})
	}
}

// A MIC is sent and required because the challenge has the time in it.
func TestMICRequiredByFlag(t *testing.T) {
	srv := testServer()
	s, _ := srv.NewContext()
	c := &Client{User: "ann", Password: "secret"}
	n, _ := c.Negotiate()
	ch, _ := s.Challenge(n)
	a, err := c.Authenticate(ch)
	if err != nil {
		t.Fatal(err)
	}
	a[micOffset] ^= 1
	if _, err := s.Authenticate(a); !errors.Is(err, ErrLogon) {
		t.Errorf("changed MIC: %v, want ErrLogon", err)
	}
}

func TestWeakRefused(t *testing.T) {
	g := golden(t, "windows10.txt")
	for _, drop := range []uint32{FlagUnicode, FlagExtendedSecurity, Flag128} {
		n := Negotiate{Flags: clientFlags &^ drop}
		b, _ := n.AppendBinary(nil)
		s, _ := testServer().NewContext()
		if _, err := s.Challenge(b); !errors.Is(err, ErrWeak) {
			t.Errorf("server, without 0x%08X: %v, want ErrWeak", drop, err)
		}
		ch := bytes.Clone(g["Challenge"])
		binary.LittleEndian.PutUint32(ch[20:], binary.LittleEndian.Uint32(ch[20:])&^drop)
		c := &Client{User: "ann"}
		c.Negotiate()
		if _, err := c.Authenticate(ch); err == nil {
			t.Errorf("client, without 0x%08X: accepted", drop)
		}
	}
	// NTLMv1: an NT response of 24 bytes, [MS-NLMP] 2.2.2.6.
	m := Authenticate{User: "ann", Flags: serverFlags, NTResponse: make([]byte, 24), LMResponse: make([]byte, 24)}
	b, _ := m.AppendBinary(nil)
	s, _ := testServer().NewContext()
	n, _ := (&Client{User: "ann"}).Negotiate()
	s.Challenge(n)
	if _, err := s.Authenticate(b); !errors.Is(err, ErrWeak) {
		t.Errorf("NTLMv1: %v, want ErrWeak", err)
	}
}

func TestOutOfOrder(t *testing.T) {
	s, _ := testServer().NewContext()
	if _, err := s.Authenticate(unhex(t, specAuthenticate)); !errors.Is(err, ErrState) {
		t.Errorf("authenticate first: %v", err)
	}
	c := &Client{User: "ann"}
	if _, err := c.Authenticate(unhex(t, specChallenge)); !errors.Is(err, ErrState) {
		t.Errorf("challenge first: %v", err)
	}
	n, _ := c.Negotiate()
	s.Challenge(n)
	s.Authenticate(nil) // malformed, and the context is spent
	if _, err := s.Authenticate(unhex(t, specAuthenticate)); !errors.Is(err, ErrState) {
		t.Errorf("second try with one challenge: %v", err)
	}
}

// Each truncation of a message either fails or loses nothing that is pointed to.
func TestTruncated(t *testing.T) {
	g := golden(t, "windows10.txt")
	for n := range len(g["Challenge"]) {
		if m, err := ParseChallenge(g["Challenge"][:n:n]); err == nil {
			t.Errorf("challenge of %d bytes: %+v", n, m)
		}
	}
	for n := range len(g["Authenticate"]) {
		if m, err := ParseAuthenticate(g["Authenticate"][:n:n]); err == nil {
			t.Errorf("authenticate of %d bytes: %+v", n, m)
		}
	}
	for n := range 16 {
		if _, err := ParseNegotiate(g["Negotiate"][:n:n]); err == nil {
			t.Errorf("negotiate of %d bytes accepted", n)
		}
	}
}

// A field whose offset and length add up to more than 32 bits.
func TestFieldOverflow(t *testing.T) {
	b := unhex(t, specAuthenticate)
	binary.LittleEndian.PutUint16(b[20:], 0xFFFF)
	binary.LittleEndian.PutUint32(b[24:], 0xFFFFFFF0)
	if _, err := ParseAuthenticate(b); !errors.Is(err, ErrMessage) {
		t.Errorf("got %v, want ErrMessage", err)
	}
}

func FuzzServer(f *testing.F) {
	g := golden(f, "windows10.txt")
	f.Add(g["Negotiate"], g["Authenticate"])
	n, _ := (&Client{}).Negotiate()
	f.Add(n, unhex(f, specAuthenticate))
	f.Fuzz(func(t *testing.T, negotiate, authenticate []byte) {
		srv := testServer()
		s, _ := srv.NewContext()
		if _, err := s.Challenge(negotiate); err != nil {
			return
		}
		if r, err := s.Authenticate(authenticate); err == nil {
			t.Errorf("logged in by chance: %+v", r)
		}
	})
}

// What decodes must encode to something that decodes to the same.
func FuzzMessages(f *testing.F) {
	g := golden(f, "windows10.txt")
	f.Add(g["Challenge"])
	f.Add(g["Authenticate"])
	f.Add(g["Negotiate"])
	f.Add(unhex(f, specChallenge))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseChallenge(b); err == nil {
			m.Flags |= FlagUnicode
			out, err := m.AppendBinary(nil)
			if err != nil {
				return // longer as Unicode than a field may be
			}
			again, err := ParseChallenge(out)
			if err != nil || again.TargetName != m.TargetName || len(again.TargetInfo) != len(m.TargetInfo) {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
		}
		if m, err := ParseAuthenticate(b); err == nil {
			m.Flags |= FlagUnicode
			out, err := m.AppendBinary(nil)
			if err != nil || len(out) > maxMessage {
				return
			}
			again, err := ParseAuthenticate(out)
			if err != nil || again.User != m.User || again.Domain != m.Domain || !bytes.Equal(again.NTResponse, m.NTResponse) {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
		}
		c := &Client{User: "ann", Password: "secret"}
		c.Negotiate()
		c.Authenticate(b)
	})
}
