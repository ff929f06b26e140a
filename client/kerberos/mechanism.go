package kerberos

import (
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// oid is the mechanism's, RFC 4121 §4.1.
var oid = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}

// Ids of the tokens, RFC 4121 §4.1.
const (
	tokenRequest = 0x0100
	tokenReply   = 0x0200
	tokenError   = 0x0300
)

const (
	maxReply = 65536
	// flagAcceptorSubkey says in a MIC token that the acceptor's key made it, RFC 4121
	// §4.2.2.
	flagAcceptorSubkey = 0x04
)

// keySizes are those of the encryption types that are taken, in bytes.
var keySizes = map[int32]int{
	etypeID.AES128_CTS_HMAC_SHA1_96: 16, etypeID.AES256_CTS_HMAC_SHA1_96: 32,
	etypeID.AES128_CTS_HMAC_SHA256_128: 16, etypeID.AES256_CTS_HMAC_SHA384_192: 32,
	etypeID.RC4_HMAC: 16,
}

// errState is a call that is not due.
var errState = errors.New("kerberos: not due in this state of the authentication")

// mechanism is the initiator's end of one authentication, RFC 4121: a request, and the
// acceptor's reply.
type mechanism struct {
	first   []byte              // the token to begin with
	sent    bool                // it was given out
	done    bool                // the reply was good
	ticket  types.EncryptionKey // the ticket's session key
	auth    types.Authenticator // what the reply has to prove that it was read
	key     types.EncryptionKey // what both agree on
	subkey  bool                // it is the acceptor's choice
	sendSeq uint64
}

// request makes the first token from a ticket.
func (m *mechanism) request(ticket messages.Ticket, key types.EncryptionKey, realm string, name types.PrincipalName) error {
	size := keySizes[key.KeyType]
	if size == 0 || len(key.KeyValue) != size {
		return fmt.Errorf("a key of %d bytes for encryption type %d: %w", len(key.KeyValue), key.KeyType, errors.ErrUnsupported)
	}
	var err error
	if m.auth, err = types.NewAuthenticator(realm, name); err != nil {
		return err
	}
	if err := m.auth.GenerateSeqNumberAndSubKey(key.KeyType, size); err != nil {
		return err
	}
	// RFC 4121 §4.1.1: no channel bindings, and the flags.
	sum := binary.LittleEndian.AppendUint32(nil, 16)
	sum = append(sum, make([]byte, 16)...)
	sum = binary.LittleEndian.AppendUint32(sum, gssapi.ContextFlagMutual|gssapi.ContextFlagReplay|
		gssapi.ContextFlagSequence|gssapi.ContextFlagConf|gssapi.ContextFlagInteg)
	m.auth.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum}
	req, err := messages.NewAPReq(ticket, key, m.auth)
	if err != nil {
		return err
	}
	types.SetFlag(&req.APOptions, flags.APOptionMutualRequired)
	body, err := req.Marshal()
	if err != nil {
		return err
	}
	head, err := asn1.Marshal(oid)
	if err != nil {
		return err
	}
	head = binary.BigEndian.AppendUint16(head, tokenRequest)
	m.first = asn1tools.AddASNAppTag(append(head, body...), 0)
	m.ticket, m.key, m.sendSeq = key, m.auth.SubKey, uint64(m.auth.SeqNumber)
	return nil
}

// OID implements client.Mechanism.
func (m *mechanism) OID() asn1.ObjectIdentifier { return oid }

// Step implements client.Mechanism.
func (m *mechanism) Step(in []byte) (out []byte, done bool, err error) {
	switch {
	case !m.sent && len(in) == 0:
		m.sent = true
		return m.first, false, nil
	case !m.sent || m.done:
		return nil, false, errState
	}
	if err := guard("the server's reply", func() error { return m.reply(in) }); err != nil {
		return nil, false, err
	}
	m.done = true
	return nil, true, nil
}

// reply checks KRB_AP_REP, RFC 4120 §3.2.5: only who can read the ticket knows the time
// that the request was made.
func (m *mechanism) reply(in []byte) error {
	if len(in) > maxReply {
		return fmt.Errorf("%d bytes: %w", len(in), ntstatus.InvalidNetworkResponse)
	}
	malformed := fmt.Errorf("not a token of Kerberos: %w", ntstatus.InvalidNetworkResponse)
	const application0 = cryptobyteasn1.Tag(0x60)
	s := cryptobyte.String(in)
	var token cryptobyte.String
	var kind asn1.ObjectIdentifier
	var id uint16
	if !s.ReadASN1(&token, application0) || !s.Empty() || !token.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oid) || !token.ReadUint16(&id) {
		return malformed
	}
	switch id {
	case tokenReply:
	case tokenError:
		var e messages.KRBError
		if err := e.Unmarshal(token); err != nil {
			return fmt.Errorf("%w: %w", malformed, err)
		}
		return fmt.Errorf("the server refuses the ticket: %w: %w", ntstatus.LogonFailure, e)
	default:
		return malformed
	}
	var rep messages.APRep
	if err := rep.Unmarshal(token); err != nil {
		return fmt.Errorf("%w: %w", malformed, err)
	}
	if rep.EncPart.EType != m.ticket.KeyType {
		return fmt.Errorf("encryption type %d, not that of the ticket, %d: %w", rep.EncPart.EType, m.ticket.KeyType, ntstatus.InvalidNetworkResponse)
	}
	plain, err := crypto.DecryptEncPart(rep.EncPart, m.ticket, keyusage.AP_REP_ENCPART)
	if err != nil {
		return fmt.Errorf("the server could not read the ticket: %w: %w", ntstatus.LogonFailure, err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return fmt.Errorf("%w: %w", malformed, err)
	}
	if part.CTime.Unix() != m.auth.CTime.Unix() || part.Cusec != m.auth.Cusec {
		return fmt.Errorf("it answers another request: %w", ntstatus.LogonFailure)
	}
	if len(part.Subkey.KeyValue) > 0 {
		if len(part.Subkey.KeyValue) != keySizes[part.Subkey.KeyType] {
			return fmt.Errorf("a key of %d bytes for encryption type %d: %w",
				len(part.Subkey.KeyValue), part.Subkey.KeyType, ntstatus.InvalidNetworkResponse)
		}
		m.key, m.subkey = part.Subkey, true
	}
	return nil
}

// Integrity implements client.Mechanism: the MIC of RFC 4121 is for the newer types.
func (m *mechanism) Integrity() bool {
	return m.done && m.key.KeyType != etypeID.RC4_HMAC
}

// GetMIC implements client.Mechanism, RFC 4121 §4.2.4 and §4.2.6.1.
func (m *mechanism) GetMIC(msg []byte) ([]byte, error) {
	if !m.Integrity() {
		return nil, errState
	}
	t := gssapi.MICToken{SndSeqNum: m.sendSeq, Payload: msg}
	if m.subkey {
		t.Flags = flagAcceptorSubkey
	}
	if err := t.SetChecksum(m.key, keyusage.GSSAPI_INITIATOR_SIGN); err != nil {
		return nil, fmt.Errorf("kerberos: sign: %w", err)
	}
	m.sendSeq++
	return t.Marshal()
}

// VerifyMIC implements client.Mechanism.
func (m *mechanism) VerifyMIC(msg, mic []byte) error {
	if !m.Integrity() {
		return errState
	}
	return guard("the server's signature", func() error {
		var t gssapi.MICToken
		if err := t.Unmarshal(mic, true); err != nil {
			return fmt.Errorf("%w: %w", ntstatus.InvalidNetworkResponse, err)
		}
		if (t.Flags&flagAcceptorSubkey != 0) != m.subkey {
			return fmt.Errorf("made with another key: %w", ntstatus.InvalidNetworkResponse)
		}
		t.Payload = msg
		if ok, err := t.Verify(m.key, keyusage.GSSAPI_ACCEPTOR_SIGN); !ok {
			return fmt.Errorf("%w: %w", ntstatus.InvalidNetworkResponse, err)
		}
		return nil
	})
}

// SessionKey implements client.Mechanism.
func (m *mechanism) SessionKey() []byte {
	if !m.done {
		return nil
	}
	return m.key.KeyValue
}
