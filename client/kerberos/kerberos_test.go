package kerberos

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	krbasn1 "github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/internal/spnego"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	realm   = "EXAMPLE.COM"
	service = "cifs/nas.example.com"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// issue makes credentials that get their ticket here in place of a realm's centre, and
// the key of the service that can read it.
func issue(t testing.TB, etype int32) (*Credentials, *keytab.Keytab) {
	t.Helper()
	kt := keytab.New()
	must(t, kt.AddEntry(service, realm, "the server's", time.Now(), 1, etype))
	user := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "ann")
	return &Credentials{user: "ann@" + realm, realm: realm, name: user, close: func() {},
		ticket: func(name string) (messages.Ticket, types.EncryptionKey, error) {
			now := time.Now().UTC()
			return messages.NewTicket(user, realm, types.NewPrincipalName(nametype.KRB_NT_SRV_INST, name), realm,
				types.NewKrbFlags(), kt, etype, 1, now, now, now.Add(time.Hour), now.Add(time.Hour))
		}}, kt
}

// acceptor is a service's end, RFC 4121, that does what a test wants, be it wrong.
type acceptor struct {
	t      testing.TB
	keys   *keytab.Keytab
	subkey bool // choose a key
	change func(*messages.EncAPRepPart)
	ticket func(types.EncryptionKey) types.EncryptionKey // with what the reply is encrypted
	raw    func([]byte) []byte                           // changes the token

	user   string
	key    types.EncryptionKey
	sealed int // how much of the end of the token is encrypted
}

func (a *acceptor) OID() asn1.ObjectIdentifier { return oid }

func (a *acceptor) Step(in []byte) ([]byte, bool, error) {
	head, err := asn1.Marshal(oid)
	must(a.t, err)
	// [APPLICATION 0], its length, the mechanism, the id of the token.
	at := bytes.Index(in, head)
	if at < 0 || binary.BigEndian.Uint16(in[at+len(head):]) != tokenRequest {
		a.t.Fatalf("no request: % x", in[:20])
	}
	var req messages.APReq
	must(a.t, req.Unmarshal(in[at+len(head)+2:]))
	must(a.t, req.Ticket.DecryptEncPart(a.keys, nil))
	session := req.Ticket.DecryptedEncPart.Key
	must(a.t, req.DecryptAuthenticator(session))
	if !types.IsFlagSet(&req.APOptions, 2) { // mutual-required
		a.t.Error("the client does not want to know who the server is")
	}
	sum := req.Authenticator.Cksum
	// 0x8003, 16 octets of no channel binding, and mutual, replay, sequence, confidentiality, integrity.
	if sum.CksumType != 0x8003 || len(sum.Checksum) != 24 || binary.LittleEndian.Uint32(sum.Checksum) != 16 || binary.LittleEndian.Uint32(sum.Checksum[20:]) != 0x3E {
		a.t.Errorf("checksum %d, % x", sum.CksumType, sum.Checksum)
	}
	a.user, a.key = req.Authenticator.CName.PrincipalNameString()+"@"+req.Authenticator.CRealm, req.Authenticator.SubKey
	part := messages.EncAPRepPart{CTime: req.Authenticator.CTime, Cusec: req.Authenticator.Cusec, SequenceNumber: 77}
	if a.subkey {
		kind, err := crypto.GetEtype(session.KeyType)
		must(a.t, err)
		part.Subkey, err = types.GenerateEncryptionKey(kind)
		must(a.t, err)
		a.key = part.Subkey
	}
	if a.change != nil {
		a.change(&part)
	}
	if a.ticket != nil {
		session = a.ticket(session)
	}
	plain, err := krbasn1.Marshal(part)
	must(a.t, err)
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(plain, asnAppTag.EncAPRepPart), session, keyusage.AP_REP_ENCPART, 0)
	must(a.t, err)
	a.sealed = len(sealed.Cipher)
	body, err := krbasn1.Marshal(messages.APRep{PVNO: 5, MsgType: msgtype.KRB_AP_REP, EncPart: sealed})
	must(a.t, err)
	out := asn1tools.AddASNAppTag(append(binary.BigEndian.AppendUint16(slices.Clone(head), tokenReply), asn1tools.AddASNAppTag(body, asnAppTag.APREP)...), 0)
	if a.raw != nil {
		out = a.raw(out)
	}
	return out, true, nil
}

func (a *acceptor) Integrity() bool    { return true }
func (a *acceptor) SessionKey() []byte { return a.key.KeyValue }

func (a *acceptor) GetMIC(msg []byte) ([]byte, error) {
	t := gssapi.MICToken{Flags: gssapi.MICTokenFlagSentByAcceptor, SndSeqNum: 77, Payload: msg}
	if a.subkey {
		t.Flags |= flagAcceptorSubkey
	}
	must(a.t, t.SetChecksum(a.key, keyusage.GSSAPI_ACCEPTOR_SIGN))
	return t.Marshal()
}

func (a *acceptor) VerifyMIC(msg, mic []byte) error {
	var t gssapi.MICToken
	if err := t.Unmarshal(mic, false); err != nil {
		return err
	}
	t.Payload = msg
	_, err := t.Verify(a.key, keyusage.GSSAPI_INITIATOR_SIGN)
	return err
}

// other is a mechanism that the server does not have, so that the one it has is not the
// client's first choice, and the list has to be signed (RFC 4178 §5).
type other struct{ spnego.Mechanism }

func (other) OID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 30}
}
func (other) Step([]byte) ([]byte, bool, error) { return []byte("token"), false, nil }

// Both ends have the same key, with tickets of every type, whether the server chooses a
// key or not, alone and where the list of mechanisms has to be protected.
func TestExchange(t *testing.T) {
	for _, etype := range []int32{
		etypeID.AES128_CTS_HMAC_SHA1_96, etypeID.AES256_CTS_HMAC_SHA1_96,
		etypeID.AES128_CTS_HMAC_SHA256_128, // gokrb5 can't issue tickets of the fourth type
	} {
		for _, subkey := range []bool{false, true} {
			for _, mic := range []bool{false, true} {
				creds, keys := issue(t, etype)
				m, err := creds.Start(context.Background(), service)
				must(t, err)
				a := &acceptor{t: t, keys: keys, subkey: subkey}
				mechs := []spnego.Mechanism{m}
				if mic {
					mechs = []spnego.Mechanism{other{}, m}
				}
				client, server := spnego.NewInitiator(nil, mechs...), spnego.NewAcceptor(a)
				var in []byte
				over := false
				for range 8 {
					out, done, err := client.Step(in)
					must(t, err)
					if done && len(out) == 0 {
						over = true
						break
					}
					if in, _, err = server.Step(out); err != nil {
						t.Fatalf("type %d, subkey %v, MIC %v: %v", etype, subkey, mic, err)
					}
				}
				if key := m.SessionKey(); !over || !bytes.Equal(key, a.key.KeyValue) || len(key) != keySizes[etype] || a.user != "ann@"+realm {
					t.Errorf("type %d, subkey %v, MIC %v: over %v, keys % x and % x of %s", etype, subkey, mic, over, key, a.key.KeyValue, a.user)
				}
			}
		}
	}
}

// What a server's reply may be wrong in, RFC 4120 §3.2.5.
func TestBadReply(t *testing.T) {
	for _, c := range []struct {
		name string
		a    acceptor
		want error
	}{
		{"another time", acceptor{change: func(p *messages.EncAPRepPart) { p.CTime = p.CTime.Add(time.Second) }}, ntstatus.LogonFailure},
		{"another microsecond", acceptor{change: func(p *messages.EncAPRepPart) { p.Cusec++ }}, ntstatus.LogonFailure},
		{"another key", acceptor{ticket: func(k types.EncryptionKey) types.EncryptionKey {
			k.KeyValue = bytes.Repeat([]byte{7}, len(k.KeyValue))
			return k
		}}, ntstatus.LogonFailure},
		{"a short key", acceptor{subkey: true, change: func(p *messages.EncAPRepPart) { p.Subkey.KeyValue = p.Subkey.KeyValue[:5] }}, ntstatus.InvalidNetworkResponse},
		{"nothing", acceptor{raw: func([]byte) []byte { return nil }}, ntstatus.InvalidNetworkResponse},
		{"no token", acceptor{raw: func([]byte) []byte { return []byte("hello") }}, ntstatus.InvalidNetworkResponse},
		{"something behind it", acceptor{raw: func(b []byte) []byte { return append(b, 0) }}, ntstatus.InvalidNetworkResponse},
		{"too much", acceptor{raw: func([]byte) []byte { return make([]byte, maxReply+1) }}, ntstatus.InvalidNetworkResponse},
		{"a request", acceptor{raw: func(b []byte) []byte {
			return bytes.Replace(b, []byte{2, 0, 0x6F}, []byte{1, 0, 0x6F}, 1)
		}}, ntstatus.InvalidNetworkResponse},
	} {
		creds, keys := issue(t, etypeID.AES256_CTS_HMAC_SHA1_96)
		m, err := creds.Start(context.Background(), service)
		must(t, err)
		first, _, err := m.Step(nil)
		must(t, err)
		c.a.t, c.a.keys = t, keys
		reply, _, err := c.a.Step(first)
		must(t, err)
		if _, done, err := m.Step(reply); done || !errors.Is(err, c.want) || m.SessionKey() != nil {
			t.Errorf("%s: %v, %v", c.name, done, err)
		}
	}
}

// No reply that is cut, or changed where it is encrypted, lets a server in, and none that
// is changed anywhere ends the program.
func TestDamagedReply(t *testing.T) {
	creds, keys := issue(t, etypeID.AES128_CTS_HMAC_SHA1_96)
	m, err := creds.Start(context.Background(), service)
	must(t, err)
	first, _, err := m.Step(nil)
	must(t, err)
	a := &acceptor{t: t, keys: keys}
	good, _, err := a.Step(first)
	must(t, err)
	step := func(reply []byte) (bool, error) {
		n := *m.(*mechanism) // as it is now: it waits for the reply
		_, done, err := n.Step(reply)
		return done, err
	}
	if done, err := step(good); !done || err != nil {
		t.Fatal(done, err)
	}
	for i := range good {
		if done, _ := step(good[:i]); done {
			t.Errorf("%d of %d octets are enough", i, len(good))
		}
		bad := slices.Clone(good)
		bad[i] ^= 0x55
		if done, _ := step(bad); done && i >= len(good)-a.sealed {
			t.Errorf("octet %d of %d does not matter", i, len(good))
		}
	}
}

func TestMechanismState(t *testing.T) {
	creds, _ := issue(t, etypeID.AES128_CTS_HMAC_SHA1_96)
	m, err := creds.Start(context.Background(), service)
	must(t, err)
	if m.Integrity() || m.SessionKey() != nil {
		t.Error("a key before the server has answered")
	}
	if _, err := m.GetMIC(nil); err == nil {
		t.Error("a signature before the server has answered")
	}
	if _, _, err := m.Step([]byte("early")); !errors.Is(err, errState) {
		t.Error(err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := creds.Start(over, service); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	creds.ticket = func(string) (messages.Ticket, types.EncryptionKey, error) { panic("others' octets") }
	if _, err := creds.Start(context.Background(), service); err == nil {
		t.Error("a panic is no error")
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	must(t, os.WriteFile(conf, []byte("[libdefaults]\n default_realm = EXAMPLE.COM\n"), 0o600))
	o := Options{ConfigFile: conf}
	c, err := FromPassword("ann", "secret", o)
	must(t, err)
	if c.User() != "ann@EXAMPLE.COM" {
		t.Error(c.User())
	}
	must(t, c.Close())
	kt := keytab.New()
	must(t, kt.AddEntry("bob", "OTHER", "secret", time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96))
	b, err := kt.Marshal()
	must(t, err)
	file := filepath.Join(dir, "keytab")
	must(t, os.WriteFile(file, b, 0o600))
	if c, err = FromKeytab("bob@OTHER", file, o); err != nil || c.User() != "bob@OTHER" {
		t.Error(err)
	}
	must(t, c.Close())
	damaged := filepath.Join(dir, "damaged")
	must(t, os.WriteFile(damaged, []byte{5, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xFF}, 0o600))
	for what, call := range map[string]func() error{
		"no such keytab": func() error { _, err := FromKeytab("bob", filepath.Join(dir, "none"), o); return err },
		"no such cache":  func() error { _, err := FromCache(filepath.Join(dir, "none"), o); return err },
		"damaged cache":  func() error { _, err := FromCache("FILE:"+damaged, o); return err },
		"no such config": func() error {
			_, err := FromPassword("ann", "x", Options{ConfigFile: filepath.Join(dir, "none")})
			return err
		},
		"kernel's cache":  func() error { _, err := FromCache("KEYRING:persistent:0", o); return err },
		"no name":         func() error { _, err := FromPassword("@EXAMPLE.COM", "x", o); return err },
		"name, realm: no": func() error { _, err := FromPassword("", "x", o); return err },
	} {
		if call() == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if _, err := FromCache("KCM:0", o); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := FromPassword("ann@", "x", o); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}
