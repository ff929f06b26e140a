package ntlm

import (
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"time"
)

// OID is the object identifier of NTLMSSP in SPNEGO, [MS-SPNG] 2.2.1.
var OID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}

// clientFlags is what the client offers, [MS-NLMP] 3.1.5.1.1, and clientNeeds what
// the server must take.
const (
	clientFlags = FlagUnicode | FlagRequestTarget | FlagSign | FlagSeal | FlagNTLM | FlagAlwaysSign |
		FlagExtendedSecurity | FlagTargetInfo | FlagVersion | Flag128 | FlagKeyExchange | Flag56
	clientNeeds = FlagUnicode | FlagExtendedSecurity | Flag128
)

// Client is one authentication as a user. The zero value is the anonymous user.
// It is for one goroutine at a time and may not be used twice.
type Client struct {
	User     string
	Password string    // ignored if Hash is set
	Hash     *[16]byte // NT hash, in place of the password
	Domain   string    // may be empty: the server's own accounts
	// Workstation names this machine to the server's log; may be empty.
	Workstation string
	// TargetSPN is the service principal name that is meant to be spoken to, such
	// as "cifs/nas.example". It is sent to the server, integrity protected.
	TargetSPN string

	negotiate []byte
	key       [16]byte
	done      bool
	sec       *session

	// Set by tests that reproduce published exchanges; zero means random and now.
	testRandom func([]byte)
	testTime   time.Time
}

// anonymous reports whether no user is named, [MS-NLMP] 3.3.2.
func (c *Client) anonymous() bool { return c.User == "" && c.Password == "" && c.Hash == nil }

func (c *Client) random(b []byte) {
	if c.testRandom != nil {
		c.testRandom(b)
		return
	}
	rand.Read(b) // never fails: it ends the program first
}

// Negotiate returns the NEGOTIATE_MESSAGE to begin with, [MS-NLMP] 3.1.5.1.1.
func (c *Client) Negotiate() ([]byte, error) {
	if c.negotiate != nil {
		return nil, fmt.Errorf("%w: a second negotiate message", ErrState)
	}
	m := Negotiate{Flags: clientFlags}
	if c.anonymous() {
		m.Flags |= FlagAnonymous
	}
	var err error
	c.negotiate, err = m.AppendBinary(nil)
	return c.negotiate, err
}

// Authenticate answers the server's CHALLENGE_MESSAGE, [MS-NLMP] 3.1.5.1.2. An
// error wraps [ErrMessage], [ErrWeak] or [ErrState].
func (c *Client) Authenticate(challenge []byte) ([]byte, error) {
	if c.negotiate == nil || c.done {
		return nil, fmt.Errorf("%w: a challenge is not due", ErrState)
	}
	ch, err := ParseChallenge(challenge)
	if err != nil {
		return nil, err
	}
	if ch.Flags&clientNeeds != clientNeeds {
		return nil, fmt.Errorf("%w: challenge flags 0x%08X", ErrWeak, ch.Flags)
	}
	// FlagTargetInfo and FlagVersion say what is in a message; the others are
	// choices, of which the server makes the last.
	m := Authenticate{
		Flags:       ch.Flags & clientFlags,
		Domain:      c.Domain,
		User:        c.User,
		Workstation: c.Workstation,
	}
	var base []byte
	withMIC := false
	if c.anonymous() {
		m.Domain, m.LMResponse = "", []byte{0}
		m.Flags |= FlagAnonymous
		base = make([]byte, 16)
	} else {
		if ch.TargetInfo == nil {
			return nil, fmt.Errorf("%w: challenge without target information", ErrWeak)
		}
		withMIC = c.respond(&m, &ch, &base)
	}
	// KXKEY of NTLMv2 is the session base key, 3.4.5.1.
	if m.Flags&FlagKeyExchange != 0 && m.Flags&(FlagSign|FlagSeal) != 0 {
		c.random(c.key[:])
		m.SessionKey = rc4K(base, c.key[:])
	} else {
		copy(c.key[:], base)
	}
	out, err := m.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if withMIC {
		copy(out[micOffset:], hmacMD5(c.key[:], c.negotiate, challenge, out))
	}
	c.done = true
	if !c.anonymous() {
		c.sec = newSession(m.Flags, c.key, false)
	}
	return out, nil
}

// respond fills in the NTLMv2 responses and returns whether the message is to
// carry a MIC, as it is for a server that sent the time.
func (c *Client) respond(m *Authenticate, ch *Challenge, base *[]byte) (withMIC bool) {
	hash := c.Hash
	if hash == nil {
		h := NTHash(c.Password)
		hash = &h
	}
	key := ntowfv2(*hash, c.User, c.Domain)
	var nonce [8]byte
	c.random(nonce[:])
	when := fileTime(time.Now())
	if !c.testTime.IsZero() {
		when = fileTime(c.testTime)
	}
	var flags uint32
	var pairs []AVPair
	for _, p := range ch.TargetInfo {
		switch p.ID {
		case avFlags:
			if len(p.Value) == 4 {
				flags = binary.LittleEndian.Uint32(p.Value)
			}
		case avChannelBindings, avTargetName:
			// The client's to say, below.
		default:
			pairs = append(pairs, p)
		}
	}
	if t, ok := findAV(ch.TargetInfo, avTimestamp); ok && len(t) == 8 {
		when, withMIC = binary.LittleEndian.Uint64(t), true
		flags |= avFlagMIC
	}
	if flags != 0 {
		pairs = append(pairs, AVPair{avFlags, binary.LittleEndian.AppendUint32(nil, flags)})
	}
	// No TLS channel is below SMB, hence no bindings: 16 zeros.
	pairs = append(pairs,
		AVPair{avChannelBindings, make([]byte, 16)},
		AVPair{avTargetName, encodeUTF16(c.TargetSPN)})

	temp := clientChallenge(when, nonce, pairs)
	proof := hmacMD5(key, ch.ServerChallenge[:], temp)
	m.NTResponse = append(proof, temp...)
	if withMIC {
		m.LMResponse = make([]byte, 24)
	} else {
		m.LMResponse = append(hmacMD5(key, ch.ServerChallenge[:], nonce[:]), nonce[:]...)
	}
	*base = hmacMD5(key, proof)
	return withMIC
}

// clientChallenge is "temp" of [MS-NLMP] 3.3.2: NTLMv2_CLIENT_CHALLENGE of 2.2.2.7
// and 4 zeros.
func clientChallenge(when uint64, nonce [8]byte, pairs []AVPair) []byte {
	b := []byte{1, 1, 0, 0, 0, 0, 0, 0}
	b = binary.LittleEndian.AppendUint64(b, when)
	b = append(b, nonce[:]...)
	b = append(b, 0, 0, 0, 0)
	b = appendAVPairs(b, pairs)
	return append(b, 0, 0, 0, 0)
}

// SessionKey returns the 16 bytes of ExportedSessionKey, nil before Authenticate
// has succeeded. That of the anonymous user is no secret.
func (c *Client) SessionKey() []byte {
	if !c.done {
		return nil
	}
	return append([]byte(nil), c.key[:]...)
}

// OID returns the identifier of NTLMSSP.
func (c *Client) OID() asn1.ObjectIdentifier { return OID }

// Step is Negotiate and then Authenticate, as a mechanism of SPNEGO. After the
// second the client is done: only the server can tell whether it succeeded.
func (c *Client) Step(in []byte) (out []byte, done bool, err error) {
	if c.negotiate == nil && len(in) == 0 {
		out, err = c.Negotiate()
		return out, false, err
	}
	out, err = c.Authenticate(in)
	return out, err == nil, err
}

// Integrity reports whether GetMIC and VerifyMIC can be used: after success, and
// not as the anonymous user.
func (c *Client) Integrity() bool { return c.sec != nil }

// GetMIC signs a message to the server, GSS_GetMIC of [MS-NLMP] 3.4.8.
func (c *Client) GetMIC(msg []byte) ([]byte, error) { return c.sec.getMIC(msg) }

// VerifyMIC checks the signature of a message from the server, [MS-NLMP] 3.4.9.
func (c *Client) VerifyMIC(msg, mic []byte) error { return c.sec.verifyMIC(msg, mic) }
