package spnego

import (
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers, RFC 4178 §3.1 and [MS-SPNG] 1.9.
var (
	oidSPNEGO = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
	oidNTLM   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
)

// State is negState of RFC 4178 §4.2.2.
type State int

const (
	AcceptCompleted  State = 0
	AcceptIncomplete State = 1
	Reject           State = 2
	RequestMIC       State = 3
	// NoState stands for a token without the field, which is optional in all
	// tokens of an initiator.
	NoState State = -1
)

const (
	// maxToken bounds what is decoded: a security buffer has a 16-bit length.
	maxToken = 1 << 16
	// maxMechs bounds the mechanisms in a list; real ones have up to five.
	maxMechs = 32

	hintName = "not_defined_in_RFC4178@please_ignore" // [MS-SPNG] 2.2.1
)

// Errors of this package. Errors of a mechanism are passed on as they are.
var (
	// ErrToken means a token that is malformed, or not the one that is due.
	ErrToken = errors.New("spnego: malformed token")
	// ErrMechanism means that the two sides have no mechanism in common.
	ErrMechanism = errors.New("spnego: no common mechanism")
	// ErrRejected means that the peer has ended the negotiation.
	ErrRejected = errors.New("spnego: rejected by the peer")
	// ErrMIC means that the list of mechanisms was changed on its way, or that its
	// protection is missing where it is needed.
	ErrMIC = errors.New("spnego: mechanism list is not intact")
	// ErrState means a call after the negotiation was over.
	ErrState = errors.New("spnego: call out of order")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrToken, fmt.Sprintf(format, args...))
}

// Init is NegTokenInit of RFC 4178 §4.2.1, and NegTokenInit2 of [MS-SPNG] 2.2.1
// if it has hints. A decoded one borrows from its input.
type Init struct {
	Mechs []asn1.ObjectIdentifier // in order of preference
	Token []byte                  // mechToken, for the first of Mechs; nil if absent
	MIC   []byte                  // mechListMIC; nil if absent
	Hints bool                    // whether there are negHints; they say nothing

	// mechList is the encoded MechTypeList, which mechListMIC is a signature of.
	mechList []byte
}

// Resp is NegTokenResp of RFC 4178 §4.2.2. A decoded one borrows from its input.
type Resp struct {
	State State
	Mech  asn1.ObjectIdentifier // supportedMech; nil if absent
	Token []byte                // responseToken; nil if absent
	MIC   []byte                // mechListMIC; nil if absent
}

func ctx(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }

// oidsOf reads a MechTypeList. An identifier with arcs that do not fit is passed
// over: it is none of ours.
func oidsOf(list cryptobyte.String) ([]asn1.ObjectIdentifier, error) {
	var seq cryptobyte.String
	if !list.ReadASN1(&seq, casn1.SEQUENCE) || !list.Empty() {
		return nil, malformed("mechTypes")
	}
	mechs := []asn1.ObjectIdentifier{}
	for n := 0; !seq.Empty(); n++ {
		if n == maxMechs {
			return nil, malformed("more than %d mechanisms", maxMechs)
		}
		var el cryptobyte.String
		if !seq.ReadASN1Element(&el, casn1.OBJECT_IDENTIFIER) {
			return nil, malformed("mechTypes")
		}
		var oid asn1.ObjectIdentifier
		if !el.ReadASN1ObjectIdentifier(&oid) {
			oid = asn1.ObjectIdentifier{} // keeps its place, as the first is special
		}
		mechs = append(mechs, oid)
	}
	return mechs, nil
}

// ParseInit decodes a NegTokenInit or NegTokenInit2 in its GSS-API framing of RFC
// 2743 §3.1, or without that.
func ParseInit(b []byte) (Init, error) {
	var m Init
	if len(b) > maxToken {
		return m, malformed("%d bytes", len(b))
	}
	s := cryptobyte.String(b)
	if s.PeekASN1Tag(casn1.Tag(0) | 0x60) {
		var inner cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !s.ReadASN1(&inner, casn1.Tag(0)|0x60) || !inner.ReadASN1ObjectIdentifier(&oid) {
			return m, malformed("GSS-API framing")
		}
		if !oid.Equal(oidSPNEGO) {
			return m, fmt.Errorf("%w: initial token of %v", ErrMechanism, oid)
		}
		s = inner
	}
	var choice, seq cryptobyte.String
	if !s.ReadASN1(&choice, ctx(0)) || !choice.ReadASN1(&seq, casn1.SEQUENCE) {
		return m, malformed("no NegTokenInit")
	}
	var f cryptobyte.String
	var ok bool
	if !seq.ReadOptionalASN1(&f, &ok, ctx(0)) {
		return m, malformed("mechTypes")
	}
	if ok {
		m.mechList = f
		var err error
		if m.Mechs, err = oidsOf(f); err != nil {
			return m, err
		}
	}
	if !seq.SkipOptionalASN1(ctx(1)) { // reqFlags, [MS-SPNG] 3.1.5.3: ignored
		return m, malformed("reqFlags")
	}
	if err := octets(&seq, 2, &m.Token); err != nil {
		return m, err
	}
	// [3] is mechListMIC in RFC 4178, but negHints in [MS-SPNG], which moves the MIC.
	if seq.PeekASN1Tag(ctx(3)) {
		peek := seq
		if peek.ReadASN1(&f, ctx(3)) && f.PeekASN1Tag(casn1.SEQUENCE) {
			m.Hints, seq = true, peek
		}
	}
	if !m.Hints {
		if err := octets(&seq, 3, &m.MIC); err != nil {
			return m, err
		}
	} else if err := octets(&seq, 4, &m.MIC); err != nil {
		return m, err
	}
	return m, nil // what follows is an extension
}

// octets reads an optional OCTET STRING with an explicit tag.
func octets(s *cryptobyte.String, n uint8, out *[]byte) error {
	var ok bool
	if !s.ReadOptionalASN1OctetString(out, &ok, ctx(n)) {
		return malformed("field %d", n)
	}
	if ok && *out == nil {
		*out = []byte{}
	}
	if !ok {
		*out = nil
	}
	return nil
}

// ParseResp decodes a NegTokenResp.
func ParseResp(b []byte) (Resp, error) {
	m := Resp{State: NoState}
	if len(b) > maxToken {
		return m, malformed("%d bytes", len(b))
	}
	s := cryptobyte.String(b)
	var choice, seq, f cryptobyte.String
	if !s.ReadASN1(&choice, ctx(1)) || !choice.ReadASN1(&seq, casn1.SEQUENCE) {
		return m, malformed("no NegTokenResp")
	}
	var ok bool
	if !seq.ReadOptionalASN1(&f, &ok, ctx(0)) {
		return m, malformed("negState")
	}
	if ok {
		var v int
		if !f.ReadASN1Enum(&v) || v < int(AcceptCompleted) || v > int(RequestMIC) {
			return m, malformed("negState")
		}
		m.State = State(v)
	}
	if !seq.ReadOptionalASN1(&f, &ok, ctx(1)) || ok && !f.ReadASN1ObjectIdentifier(&m.Mech) {
		return m, malformed("supportedMech")
	}
	if err := octets(&seq, 2, &m.Token); err != nil {
		return m, err
	}
	return m, octets(&seq, 3, &m.MIC)
}

func addMechList(b *cryptobyte.Builder, mechs []asn1.ObjectIdentifier) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, oid := range mechs {
			b.AddASN1ObjectIdentifier(oid)
		}
	})
}

func addOctets(b *cryptobyte.Builder, n uint8, v []byte) {
	if v != nil {
		b.AddASN1(ctx(n), func(b *cryptobyte.Builder) { b.AddASN1OctetString(v) })
	}
}

// AppendBinary appends the encoded token, in GSS-API framing, to b.
func (m *Init) AppendBinary(b []byte) ([]byte, error) {
	c := cryptobyte.NewBuilder(b)
	c.AddASN1(casn1.Tag(0)|0x60, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSPNEGO)
		b.AddASN1(ctx(0), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(ctx(0), func(b *cryptobyte.Builder) { addMechList(b, m.Mechs) })
				addOctets(b, 2, m.Token)
				mic := uint8(3)
				if m.Hints {
					mic = 4
					b.AddASN1(ctx(3), func(b *cryptobyte.Builder) {
						b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1(ctx(0), func(b *cryptobyte.Builder) {
								b.AddASN1(casn1.GeneralString, func(b *cryptobyte.Builder) {
									b.AddBytes([]byte(hintName))
								})
							})
						})
					})
				}
				addOctets(b, mic, m.MIC)
			})
		})
	})
	out, err := c.Bytes()
	if err != nil {
		return nil, malformed("%v", err)
	}
	return out, nil
}

// AppendBinary appends the encoded token to b.
func (m *Resp) AppendBinary(b []byte) ([]byte, error) {
	c := cryptobyte.NewBuilder(b)
	c.AddASN1(ctx(1), func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if m.State != NoState {
				b.AddASN1(ctx(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(m.State)) })
			}
			if m.Mech != nil {
				b.AddASN1(ctx(1), func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(m.Mech) })
			}
			addOctets(b, 2, m.Token)
			addOctets(b, 3, m.MIC)
		})
	})
	out, err := c.Bytes()
	if err != nil {
		return nil, malformed("%v", err)
	}
	return out, nil
}

// Hint returns the token that a server puts into its NEGOTIATE response: the
// mechanisms that it takes, in order of preference ([MS-SPNG] 3.2.5.2). It has no
// negHints: they are optional and say nothing, and dissectors that go by RFC 4178
// take them for a malformed MIC.
func Hint(mechs ...asn1.ObjectIdentifier) ([]byte, error) {
	m := Init{Mechs: mechs}
	return m.AppendBinary(nil)
}
