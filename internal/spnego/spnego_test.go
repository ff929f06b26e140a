package spnego

import (
	"bufio"
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/ntlm"
)

var (
	_ Mechanism = (*ntlm.Client)(nil)
	_ Mechanism = (*ntlm.ServerContext)(nil)

	oidKerberos = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	oidNegoEx   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 30}
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("bad hex %q: %v", s, err)
	}
	return b
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

// script is a mechanism that sends and expects fixed tokens. Its signature of a
// message is the name of the side and the message.
type script struct {
	oid      asn1.ObjectIdentifier
	recv     []string // what each step must be given
	send     []string
	step     int
	noMIC    bool
	me, peer string
}

func (s *script) OID() asn1.ObjectIdentifier { return s.oid }
func (s *script) Integrity() bool            { return !s.noMIC && s.step == len(s.recv) }
func (s *script) SessionKey() []byte         { return []byte("key") }

func (s *script) Step(in []byte) ([]byte, bool, error) {
	if s.step == len(s.recv) || string(in) != s.recv[s.step] {
		return nil, false, errors.New("script: unexpected token " + string(in))
	}
	s.step++
	return []byte(s.send[s.step-1]), s.step == len(s.recv), nil
}

func (s *script) GetMIC(msg []byte) ([]byte, error) { return append([]byte(s.me), msg...), nil }

func (s *script) VerifyMIC(msg, mic []byte) error {
	if string(mic) != s.peer+string(msg) {
		return errors.New("script: bad signature")
	}
	return nil
}

// threeLegs is shaped as NTLM: the initiator is done when it sends its second
// token, the acceptor when it gets that.
func threeLegs(oid asn1.ObjectIdentifier) (initiator, acceptor *script) {
	return &script{oid: oid, recv: []string{"", "c"}, send: []string{"n", "a"}, me: "I", peer: "A"},
		&script{oid: oid, recv: []string{"n", "a"}, send: []string{"c", ""}, me: "A", peer: "I"}
}

// twoLegs is shaped as Kerberos with mutual authentication.
func twoLegs(oid asn1.ObjectIdentifier) (initiator, acceptor *script) {
	return &script{oid: oid, recv: []string{"", "rep"}, send: []string{"req", ""}, me: "I", peer: "A"},
		&script{oid: oid, recv: []string{"req"}, send: []string{"rep"}, me: "A", peer: "I"}
}

// exchange runs both ends and returns the tokens and the first error.
func exchange(i *Initiator, a *Acceptor) (tokens [][]byte, err error) {
	var token []byte
	var idone, adone bool
	for range 10 {
		if token, idone, err = i.Step(token); err != nil {
			return tokens, err
		}
		tokens = append(tokens, token)
		if idone && len(token) == 0 {
			if !adone {
				return tokens, errors.New("initiator done before acceptor")
			}
			return tokens, nil
		}
		if token, adone, err = a.Step(token); err != nil {
			return tokens, err
		}
		tokens = append(tokens, token)
	}
	return tokens, errors.New("no end")
}

func TestNegotiation(t *testing.T) {
	i3, a3 := threeLegs(oidNTLM)
	ri3, ra3 := threeLegs(oidNTLM)
	gi3, ga3 := threeLegs(oidNTLM)
	gi3.noMIC, ga3.noMIC = true, true
	i2, a2 := twoLegs(oidKerberos)
	xi2, _ := twoLegs(oidKerberos)
	xi3, xa3 := threeLegs(oidNTLM)
	ni3, _ := threeLegs(oidNTLM)
	_, nk := twoLegs(oidKerberos)
	wi3, wa3 := threeLegs(oidNTLM)
	wi3.me = "X"
	vi3, va3 := threeLegs(oidNTLM)
	va3.me = "X"
	for _, c := range []struct {
		name string
		i    []Mechanism
		a    []Mechanism
		n    int // tokens exchanged, the empty last one included
		err  error
	}{
		{"three legs", []Mechanism{i3}, []Mechanism{a3}, 5, nil},
		{"acceptor has more", []Mechanism{ri3}, []Mechanism{nk, ra3}, 5, nil},
		{"two legs", []Mechanism{i2}, []Mechanism{a2}, 3, nil},
		{"second choice", []Mechanism{xi2, xi3}, []Mechanism{xa3}, 7, nil},
		{"no integrity", []Mechanism{gi3}, []Mechanism{ga3}, 5, nil},
		{"nothing in common", []Mechanism{ni3}, []Mechanism{nk}, 1, ErrMechanism},
		{"nothing to offer", nil, []Mechanism{nk}, 0, ErrMechanism},
		{"initiator's signature wrong", []Mechanism{wi3}, []Mechanism{wa3}, 3, ErrMIC},
		{"acceptor's signature wrong", []Mechanism{vi3}, []Mechanism{va3}, 4, ErrMIC},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, a := NewInitiator(nil, c.i...), NewAcceptor(c.a...)
			tokens, err := exchange(i, a)
			if !errors.Is(err, c.err) || err != nil && c.err == nil {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if len(tokens) != c.n {
				t.Errorf("%d tokens, want %d: %q", len(tokens), c.n, tokens)
			}
			if err == nil && !a.Mechanism().OID().Equal(i.Mechanism().OID()) {
				t.Errorf("agreed on %v and %v", i.Mechanism().OID(), a.Mechanism().OID())
			}
			if _, _, err := a.Step([]byte("x")); c.n > 2 && !errors.Is(err, ErrState) && !errors.Is(err, ErrToken) {
				t.Errorf("acceptor after the end: %v", err)
			}
		})
	}
}

// RFC 4178 §5: with the second choice the list must be signed by both, and taking
// out the first choice on the way is noticed.
func TestDowngradeNoticed(t *testing.T) {
	k, _ := twoLegs(oidKerberos)
	in, an := threeLegs(oidNTLM)
	_, ak := twoLegs(oidKerberos)
	i := NewInitiator(nil, k, in)
	token, _, err := i.Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseInit(token)
	if err != nil {
		t.Fatal(err)
	}
	m.Mechs, m.Token = m.Mechs[1:], nil
	forged, _ := m.AppendBinary(nil)
	a := NewAcceptor(ak, an)
	answer, _, err := a.Step(forged)
	for err == nil {
		if token, _, err = i.Step(answer); err == nil {
			answer, _, err = a.Step(token)
		}
	}
	if !errors.Is(err, ErrMIC) {
		t.Errorf("got %v, want ErrMIC", err)
	}
}

// An acceptor that needs the list signed and does not get it sends its own
// signature and waits once.
func TestMICMissing(t *testing.T) {
	_, an := threeLegs(oidNTLM)
	a := NewAcceptor(an)
	list := []asn1.ObjectIdentifier{oidKerberos, oidNTLM}
	m := Init{Mechs: list, Token: []byte("kerberos")}
	b, _ := m.AppendBinary(nil)
	resp := func(r Resp) []byte { b, _ := r.AppendBinary(nil); return b }
	out, done, err := a.Step(b)
	if r, perr := ParseResp(out); err != nil || done || perr != nil || r.State != RequestMIC || !r.Mech.Equal(oidNTLM) || r.Token != nil {
		t.Fatalf("first answer %+v, %v, %v", r, done, err)
	}
	if _, done, err = a.Step(resp(Resp{State: NoState, Token: []byte("n")})); err != nil || done {
		t.Fatal(done, err)
	}
	out, done, err = a.Step(resp(Resp{State: NoState, Token: []byte("a")}))
	if r, perr := ParseResp(out); err != nil || done || perr != nil || r.State != AcceptIncomplete || r.MIC == nil {
		t.Fatalf("answer to the last token %+v, %v, %v", r, done, err)
	}
	if _, _, err = a.Step(resp(Resp{State: NoState})); !errors.Is(err, ErrMIC) {
		t.Errorf("got %v, want ErrMIC", err)
	}
}

// cifs.ko sends NTLMSSP bare and wants it back so.
func TestRawNTLM(t *testing.T) {
	s := &script{oid: oidNTLM, recv: []string{"NTLMSSP\x00n", "NTLMSSP\x00a"}, send: []string{"NTLMSSP\x00c", ""}}
	a := NewAcceptor(s)
	out, done, err := a.Step([]byte("NTLMSSP\x00n"))
	if err != nil || done || string(out) != "NTLMSSP\x00c" {
		t.Fatalf("%q, %v, %v", out, done, err)
	}
	out, done, err = a.Step([]byte("NTLMSSP\x00a"))
	if err != nil || !done || len(out) != 0 {
		t.Fatalf("%q, %v, %v", out, done, err)
	}
	k, _ := twoLegs(oidKerberos)
	if _, _, err := NewAcceptor(k).Step([]byte("NTLMSSP\x00n")); !errors.Is(err, ErrMechanism) {
		t.Errorf("without NTLM: %v, want ErrMechanism", err)
	}
}

// ksmbd ends without a token in some versions, and without a signature in all.
func TestAcceptorEndsBare(t *testing.T) {
	for name, last := range map[string][]byte{"empty": nil, "unsigned": unhex(t, "a1073005a0030a0100")} {
		in, _ := threeLegs(oidNTLM)
		i := NewInitiator(nil, in)
		i.Step(nil)
		r := Resp{State: AcceptIncomplete, Mech: oidNTLM, Token: []byte("c")}
		b, _ := r.AppendBinary(nil)
		if _, done, err := i.Step(b); err != nil || done {
			t.Fatalf("%s: %v, %v", name, done, err)
		}
		if out, done, err := i.Step(last); err != nil || !done || out != nil {
			t.Errorf("%s: %q, %v, %v", name, out, done, err)
		}
	}
}

func TestRejected(t *testing.T) {
	in, _ := threeLegs(oidNTLM)
	i := NewInitiator(nil, in)
	i.Step(nil)
	if _, _, err := i.Step(unhex(t, "a1073005a0030a0102")); !errors.Is(err, ErrRejected) {
		t.Errorf("got %v, want ErrRejected", err)
	}
}

// The tokens of a published exchange: what Windows sends decodes, and encodes to
// the same bytes.
func TestWindows10Tokens(t *testing.T) {
	g := golden(t, "windows10.txt")
	m, err := ParseInit(g["Init"])
	if err != nil || len(m.Mechs) != 1 || !m.Mechs[0].Equal(ntlm.OID) || !ntlm.IsMessage(m.Token) || m.MIC != nil || m.Hints {
		t.Fatalf("init %+v, %v", m, err)
	}
	if b, err := m.AppendBinary(nil); err != nil || !bytes.Equal(b, g["Init"]) {
		t.Errorf("init encodes to %x, %v", b, err)
	}
	for name, want := range map[string]Resp{
		"Challenge": {State: AcceptIncomplete, Mech: ntlm.OID},
		"Response":  {State: AcceptIncomplete},
		"Final":     {State: AcceptCompleted},
	} {
		r, err := ParseResp(g[name])
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.State != want.State || !r.Mech.Equal(want.Mech) {
			t.Errorf("%s: %+v", name, r)
		}
		if b, err := r.AppendBinary(nil); err != nil || !bytes.Equal(b, g[name]) {
			t.Errorf("%s encodes to %x, %v", name, b, err)
		}
	}
}

// The beginning of a Windows server's hint, with NEGOEX before NTLMSSP, and ours.
func TestHint(t *testing.T) {
	windows := unhex(t, `602806062b0601050502a01e301ca01a3018060a2b06010401823702021e060a2b06010401823702020a`)
	m, err := ParseInit(windows)
	if err != nil || len(m.Mechs) != 2 || !m.Mechs[0].Equal(oidNegoEx) || !m.Mechs[1].Equal(ntlm.OID) {
		t.Errorf("%+v, %v", m, err)
	}
	// RFC 4178's NegTokenInit with mechTypes alone.
	want := unhex(t, `601c06062b0601050502a0123010a00e300c060a2b06010401823702020a`)
	if b, err := Hint(ntlm.OID); err != nil || !bytes.Equal(b, want) {
		t.Errorf("got %x, %v, want %x", b, err, want)
	}
	// Samba's, with negHints, byte for byte.
	samba := unhex(t, `604806062b0601050502a03e303ca00e300c060a2b06010401823702020aa32a3028a0261b246e6f745f64656669
		6e65645f696e5f5246433431373840706c656173655f69676e6f7265`)
	if b, err := (&Init{Mechs: []asn1.ObjectIdentifier{ntlm.OID}, Hints: true}).AppendBinary(nil); err != nil || !bytes.Equal(b, samba) {
		t.Errorf("got %x, %v, want %x", b, err, samba)
	}
	if m, err := ParseInit(samba); err != nil || !m.Hints || m.MIC != nil || len(m.Mechs) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	k, _ := twoLegs(oidKerberos)
	if _, _, err := NewInitiator(want, k).Step(nil); !errors.Is(err, ErrMechanism) {
		t.Errorf("nothing of the hint: %v, want ErrMechanism", err)
	}
}

func TestNTLMLogin(t *testing.T) {
	srv := &ntlm.Server{NetBIOSName: "nas", AllowAnonymous: true, AllowGuest: true,
		Lookup: func(user, _ string) ([16]byte, bool) { return ntlm.NTHash("secret"), user == "ann" }}
	hint, _ := Hint(ntlm.OID)
	for _, c := range []struct {
		name   string
		client ntlm.Client
		same   bool // session keys
		err    error
	}{
		{"user", ntlm.Client{User: "ann", Password: "secret"}, true, nil},
		{"anonymous", ntlm.Client{}, false, nil},
		{"wrong password", ntlm.Client{User: "ann", Password: "x"}, false, ntlm.ErrLogon},
	} {
		s, _ := srv.NewContext()
		i, a := NewInitiator(hint, &c.client), NewAcceptor(s)
		_, err := exchange(i, a)
		if !errors.Is(err, c.err) || err != nil && c.err == nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if c.same && !bytes.Equal(i.Mechanism().SessionKey(), a.Mechanism().SessionKey()) {
			t.Errorf("%s: session keys differ", c.name)
		}
	}
	// The server makes a guest of bob, whose signature it can't check.
	s, _ := srv.NewContext()
	if _, err := exchange(NewInitiator(hint, &ntlm.Client{User: "bob", Password: "x"}), NewAcceptor(s)); err != nil || !s.Result().Guest {
		t.Errorf("guest: %+v, %v", s.Result(), err)
	}
}

func TestTruncated(t *testing.T) {
	g := golden(t, "windows10.txt")
	for name, b := range g {
		for n := range len(b) {
			_, ierr := ParseInit(b[:n:n])
			_, rerr := ParseResp(b[:n:n])
			if ierr == nil || rerr == nil {
				t.Errorf("%s of %d bytes: %v, %v", name, n, ierr, rerr)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	m := Init{Mechs: slices.Repeat([]asn1.ObjectIdentifier{oidNTLM}, maxMechs)}
	b, _ := m.AppendBinary(nil)
	if _, err := ParseInit(b); err != nil {
		t.Errorf("%d mechanisms: %v", maxMechs, err)
	}
	m.Mechs = append(m.Mechs, oidNTLM)
	b, _ = m.AppendBinary(nil)
	if _, err := ParseInit(b); !errors.Is(err, ErrToken) {
		t.Errorf("%d mechanisms: %v, want ErrToken", maxMechs+1, err)
	}
	if _, err := ParseInit(make([]byte, maxToken+1)); !errors.Is(err, ErrToken) {
		t.Errorf("large token: %v", err)
	}
}

// What decodes must encode to what decodes the same, and no input may upset either
// end.
func FuzzTokens(f *testing.F) {
	for _, b := range golden(f, "windows10.txt") {
		f.Add(b)
	}
	hint, _ := Hint(oidNTLM, oidKerberos)
	f.Add(hint)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseResp(b); err == nil {
			out, err := m.AppendBinary(nil)
			if err != nil {
				t.Fatalf("%+v: %v", m, err)
			}
			again, err := ParseResp(out)
			if err != nil || again.State != m.State || !again.Mech.Equal(m.Mech) ||
				!bytes.Equal(again.Token, m.Token) || !bytes.Equal(again.MIC, m.MIC) {
				t.Errorf("%+v became %+v, %v", m, again, err)
			}
		}
		ParseInit(b)
		k, _ := twoLegs(oidKerberos)
		in, an := threeLegs(oidNTLM)
		a := NewAcceptor(an)
		if _, done, err := a.Step(b); err == nil && !done {
			a.Step(b)
		}
		NewInitiator(b, in).Step(nil)
		i := NewInitiator(nil, k, in)
		i.Step(nil)
		i.Step(b)
		i.Step(b)
	})
}
