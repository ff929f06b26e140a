package ntlm

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Server is who a server is and whom it knows. It is only read, so many contexts
// may share it.
type Server struct {
	NetBIOSName string // the target name; must not be empty
	// NetBIOSDomain defaults to NetBIOSName, as of a machine in no domain.
	NetBIOSDomain string
	DNSName       string // full name of the host; may be empty
	DNSDomain     string // may be empty

	// Lookup returns the NT hash of a user. The domain is what the client claims:
	// often the server's own name, "WORKGROUP" or nothing. User names are to be
	// compared without regard to case. How long it takes should not depend on the
	// answer. It is called by whatever goroutine authenticates.
	Lookup func(user, domain string) (hash [16]byte, ok bool)

	// AllowAnonymous lets clients in that name no user.
	AllowAnonymous bool
	// AllowGuest lets clients in as a guest, whose user Lookup does not know. A
	// known user with a wrong password stays out.
	AllowGuest bool
}

// Result is whom a client turned out to be.
type Result struct {
	User        string // as the client wrote it
	Domain      string // likewise
	Workstation string
	// SessionKey is ExportedSessionKey. That of a guest or the anonymous user is
	// not a secret and not the client's, so such sessions can't be signed.
	SessionKey [16]byte
	Guest      bool
	Anonymous  bool
}

// serverFlags is what the server grants if it is asked for, and serverNeeds what
// a client must ask for.
const (
	serverFlags = FlagUnicode | FlagRequestTarget | FlagSign | FlagSeal | FlagNTLM | FlagAlwaysSign |
		FlagExtendedSecurity | FlagVersion | Flag128 | FlagKeyExchange | Flag56
	serverNeeds = FlagUnicode | FlagExtendedSecurity | Flag128

	// proofSize and the 28 bytes of a client challenge before its AV pairs make the
	// shortest NTLMv2 response; NTLMv1's has 24 bytes.
	proofSize   = 16
	avPairsAt   = proofSize + 28
	minResponse = avPairsAt + 4
)

// ServerContext is one authentication of a client. It is for one goroutine at a
// time.
type ServerContext struct {
	srv       *Server
	negotiate []byte
	challenge []byte
	flags     uint32
	nonce     [8]byte
	over      bool // Authenticate has been called
	anonymous bool // is let in, whatever the server says
	user      string
	result    *Result
	sec       *session

	testNow time.Time
}

// NewContext begins an authentication.
func (s *Server) NewContext() (*ServerContext, error) {
	if s.NetBIOSName == "" || s.Lookup == nil {
		return nil, errors.New("ntlm: server needs a NetBIOS name and a lookup function")
	}
	return &ServerContext{srv: s}, nil
}

// AllowAnonymous lets the client in without a name, this once.
func (c *ServerContext) AllowAnonymous() { c.anonymous = true }

// User is who the client says it is, whether that is true or not; empty before it has
// said so.
func (c *ServerContext) User() string { return c.user }

// Challenge answers a client's NEGOTIATE_MESSAGE, [MS-NLMP] 3.2.5.1.1. An error
// wraps [ErrMessage], [ErrWeak] or [ErrState].
func (c *ServerContext) Challenge(negotiate []byte) ([]byte, error) {
	if c.challenge != nil {
		return nil, fmt.Errorf("%w: a second negotiate message", ErrState)
	}
	n, err := ParseNegotiate(negotiate)
	if err != nil {
		return nil, err
	}
	if n.Flags&serverNeeds != serverNeeds {
		return nil, fmt.Errorf("%w: negotiate flags 0x%08X", ErrWeak, n.Flags)
	}
	rand.Read(c.nonce[:]) // never fails: it ends the program first
	s := c.srv
	domain := s.NetBIOSDomain
	if domain == "" {
		domain = s.NetBIOSName
	}
	info := []AVPair{
		{avNbDomainName, encodeUTF16(strings.ToUpper(domain))},
		{avNbComputerName, encodeUTF16(strings.ToUpper(s.NetBIOSName))},
	}
	if s.DNSDomain != "" {
		info = append(info, AVPair{avDNSDomainName, encodeUTF16(s.DNSDomain)})
	}
	if s.DNSName != "" {
		info = append(info, AVPair{avDNSComputerName, encodeUTF16(s.DNSName)})
	}
	now := time.Now()
	if !c.testNow.IsZero() {
		now = c.testNow
	}
	// With the time in it, clients send a MIC.
	info = append(info, AVPair{avTimestamp, binary.LittleEndian.AppendUint64(nil, fileTime(now))})
	m := Challenge{
		Flags: n.Flags&serverFlags | FlagRequestTarget | FlagNTLM | FlagAlwaysSign |
			FlagTargetInfo | FlagTargetTypeServer,
		ServerChallenge: c.nonce,
		TargetName:      strings.ToUpper(s.NetBIOSName),
		TargetInfo:      info,
	}
	out, err := m.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	c.flags = m.Flags
	c.negotiate = append([]byte(nil), negotiate...)
	c.challenge = out
	return out, nil
}

// unknownUser stands for the hash of a user that there is not, so that looking
// for one costs what checking a password does.
var unknownUser = func() (h [16]byte) {
	rand.Read(h[:])
	return h
}()

// Authenticate checks a client's AUTHENTICATE_MESSAGE, [MS-NLMP] 3.2.5.1.2. An
// error wraps [ErrMessage], [ErrState], [ErrWeak] for NTLMv1, or [ErrLogon], which
// tells a wrong password, user and MIC no more apart than the time it takes does.
//
// The timestamp of the response is not compared with the clock: the challenge is
// used once, so the response can't be replayed.
func (c *ServerContext) Authenticate(msg []byte) (*Result, error) {
	if c.challenge == nil || c.over {
		return nil, fmt.Errorf("%w: an authenticate message is not due", ErrState)
	}
	c.over = true
	m, err := ParseAuthenticate(msg)
	if err != nil {
		return nil, err
	}
	c.user = m.User
	r := &Result{User: m.User, Domain: m.Domain, Workstation: m.Workstation}
	if m.User == "" && len(m.NTResponse) == 0 && len(m.LMResponse) <= 1 {
		if !c.srv.AllowAnonymous && !c.anonymous {
			return nil, fmt.Errorf("%w: anonymous user", ErrLogon)
		}
		r.Anonymous = true
		c.result = r
		return r, nil
	}
	if len(m.NTResponse) < minResponse {
		return nil, fmt.Errorf("%w: NT response of %d bytes is not NTLMv2", ErrWeak, len(m.NTResponse))
	}
	if m.NTResponse[proofSize] != 1 || m.NTResponse[proofSize+1] != 1 {
		return nil, malformed("NTLMv2 response of version %d", m.NTResponse[proofSize])
	}
	pairs, _, err := parseAVPairs(m.NTResponse[avPairsAt:])
	if err != nil {
		return nil, err
	}

	hash, known := c.srv.Lookup(m.User, m.Domain)
	if !known {
		hash = unknownUser
	}
	// Some clients compute with no domain where they name one; both keys are
	// always tried, so that it costs the same.
	proof, temp := m.NTResponse[:proofSize], m.NTResponse[proofSize:]
	var key []byte
	for _, domain := range []string{"", m.Domain} {
		k := ntowfv2(hash, m.User, domain)
		if subtle.ConstantTimeCompare(hmacMD5(k, c.nonce[:], temp), proof) == 1 {
			key = k
		}
	}
	if key == nil || !known {
		if known || !c.srv.AllowGuest {
			return nil, ErrLogon
		}
		r.Guest = true
		c.result = r
		return r, nil
	}

	base := hmacMD5(key, proof) // which is KXKEY of NTLMv2, 3.4.5.1
	flags := m.Flags & c.flags
	switch {
	case flags&FlagKeyExchange == 0,
		len(m.SessionKey) == 0 && flags&(FlagSign|FlagSeal) == 0:
		copy(r.SessionKey[:], base)
	case len(m.SessionKey) == 16:
		copy(r.SessionKey[:], rc4K(base, m.SessionKey))
	default:
		return nil, malformed("session key of %d bytes", len(m.SessionKey))
	}
	if f, ok := findAV(pairs, avFlags); ok && len(f) == 4 && binary.LittleEndian.Uint32(f)&avFlagMIC != 0 {
		if !m.HasMIC {
			return nil, malformed("MIC announced, but no room for it")
		}
		want := hmacMD5(r.SessionKey[:], c.negotiate, c.challenge,
			msg[:micOffset], make([]byte, micSize), msg[micOffset+micSize:])
		if subtle.ConstantTimeCompare(want, m.MIC[:]) != 1 {
			return nil, ErrLogon
		}
	}
	c.result = r
	c.sec = newSession(flags, r.SessionKey, true)
	return r, nil
}

// Result returns what Authenticate did, nil unless it succeeded.
func (c *ServerContext) Result() *Result { return c.result }

// SessionKey returns the 16 bytes of ExportedSessionKey, nil unless Authenticate
// has succeeded.
func (c *ServerContext) SessionKey() []byte {
	if c.result == nil {
		return nil
	}
	return append([]byte(nil), c.result.SessionKey[:]...)
}

// OID returns the identifier of NTLMSSP.
func (c *ServerContext) OID() asn1.ObjectIdentifier { return OID }

// Step is Challenge and then Authenticate, as a mechanism of SPNEGO. With no input
// it asks for a first token.
func (c *ServerContext) Step(in []byte) (out []byte, done bool, err error) {
	if c.challenge == nil {
		if len(in) == 0 {
			return nil, false, nil
		}
		out, err = c.Challenge(in)
		return out, false, err
	}
	_, err = c.Authenticate(in)
	return nil, err == nil, err
}

// Integrity reports whether GetMIC and VerifyMIC can be used: after success, and
// not for a guest or the anonymous user.
func (c *ServerContext) Integrity() bool { return c.sec != nil }

// GetMIC signs a message to the client, GSS_GetMIC of [MS-NLMP] 3.4.8.
func (c *ServerContext) GetMIC(msg []byte) ([]byte, error) { return c.sec.getMIC(msg) }

// VerifyMIC checks the signature of a message from the client, [MS-NLMP] 3.4.9.
func (c *ServerContext) VerifyMIC(msg, mic []byte) error { return c.sec.verifyMIC(msg, mic) }
