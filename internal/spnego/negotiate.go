package spnego

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Mechanism is one end of one authentication, as GSS-API sees it.
type Mechanism interface {
	// OID identifies the mechanism.
	OID() asn1.ObjectIdentifier
	// Step consumes the peer's token, empty when there is none yet, and returns the
	// one to send, empty if there is none. done means that this end needs no other
	// token from the peer; success of an initiator is then the acceptor's to tell.
	Step(in []byte) (out []byte, done bool, err error)
	// Integrity reports whether GetMIC and VerifyMIC can be used; asked once done.
	Integrity() bool
	// GetMIC signs a message to the peer.
	GetMIC(msg []byte) ([]byte, error)
	// VerifyMIC checks the signature of a message from the peer.
	VerifyMIC(msg, mic []byte) error
	// SessionKey returns the key that both ends share once done.
	SessionKey() []byte
}

var rawNTLM = []byte("NTLMSSP\x00")

func indexOf(mechs []Mechanism, oid asn1.ObjectIdentifier) int {
	return slices.IndexFunc(mechs, func(m Mechanism) bool { return m.OID().Equal(oid) })
}

// checkMIC verifies a mechListMIC over an encoded list.
func checkMIC(m Mechanism, list, mic []byte) error {
	if err := m.VerifyMIC(list, mic); err != nil {
		return fmt.Errorf("%w: %w", ErrMIC, err)
	}
	return nil
}

type phase int

const (
	starting  phase = iota
	running         // the mechanism wants tokens
	finishing       // the mechanism is done, the negotiation is not
	over
)

// Acceptor is the server's end.
type Acceptor struct {
	mechs []Mechanism
	phase phase
	raw   bool // NTLMSSP without SPNEGO
	mech  Mechanism
	list  []byte // the initiator's encoded mechanisms
	// needMIC: the mechanism is not the initiator's first choice, so somebody may
	// have removed that from the list.
	needMIC bool
	sentMIC bool
	gotMIC  bool
}

// NewAcceptor returns an acceptor for one session, that takes one of mechs as the
// initiator prefers.
func NewAcceptor(mechs ...Mechanism) *Acceptor { return &Acceptor{mechs: mechs} }

// Mechanism returns what was agreed on, nil before that.
func (a *Acceptor) Mechanism() Mechanism { return a.mech }

// Step consumes a token of the initiator and returns the one to answer with, which
// may be empty. With done the initiator is authenticated. After an error there is
// nothing to send and the negotiation is over; the error wraps one of this package
// or is the mechanism's.
func (a *Acceptor) Step(in []byte) (out []byte, done bool, err error) {
	out, done, err = a.step(in)
	if err != nil || done {
		a.phase = over
	}
	if err != nil {
		return nil, false, err
	}
	return out, done, nil
}

func (a *Acceptor) step(in []byte) ([]byte, bool, error) {
	if len(in) > maxToken {
		return nil, false, malformed("%d bytes", len(in))
	}
	switch {
	case a.phase == over:
		return nil, false, ErrState
	case a.phase == starting:
		return a.start(in)
	case a.raw:
		return a.mech.Step(in)
	}
	m, err := ParseResp(in)
	if err != nil {
		return nil, false, err
	}
	if m.State == Reject {
		return nil, false, ErrRejected
	}
	if a.phase == finishing {
		if len(m.Token) != 0 {
			return nil, false, malformed("token after the last")
		}
		return a.finish(nil, m.MIC)
	}
	return a.advance(m.Token, m.MIC, nil)
}

func (a *Acceptor) start(in []byte) ([]byte, bool, error) {
	if len(in) == 0 { // [MS-SPNG] 3.2.5.2
		var oids []asn1.ObjectIdentifier
		for _, m := range a.mechs {
			oids = append(oids, m.OID())
		}
		out, err := Hint(oids...)
		return out, false, err
	}
	if bytes.HasPrefix(in, rawNTLM) {
		i := indexOf(a.mechs, oidNTLM)
		if i < 0 {
			return nil, false, fmt.Errorf("%w: NTLMSSP", ErrMechanism)
		}
		a.raw, a.mech, a.phase = true, a.mechs[i], running
		return a.mech.Step(in)
	}
	m, err := ParseInit(in)
	if err != nil {
		return nil, false, err
	}
	for i, oid := range m.Mechs {
		j := indexOf(a.mechs, oid)
		if j < 0 {
			continue
		}
		a.mech, a.phase, a.needMIC = a.mechs[j], running, i > 0
		a.list = bytes.Clone(m.mechList)
		if i > 0 || m.Token == nil {
			// The token, if any, is of another mechanism: ask for one of this.
			r := Resp{State: AcceptIncomplete, Mech: oid}
			if a.needMIC {
				r.State = RequestMIC
			}
			out, err := r.AppendBinary(nil)
			return out, false, err
		}
		return a.advance(m.Token, m.MIC, oid)
	}
	return nil, false, fmt.Errorf("%w: initiator has %v", ErrMechanism, m.Mechs)
}

// advance gives the mechanism a token. first is its identifier in the answer to
// the first token, where RFC 4178 §4.2.2 wants it, and nil later.
func (a *Acceptor) advance(token, mic []byte, first asn1.ObjectIdentifier) ([]byte, bool, error) {
	out, done, err := a.mech.Step(token)
	if err != nil {
		return nil, false, err
	}
	r := Resp{State: AcceptIncomplete, Mech: first, Token: nonEmpty(out)}
	if !done {
		b, err := r.AppendBinary(nil)
		return b, false, err
	}
	a.phase = finishing
	return a.finish(&r, mic)
}

// finish ends the negotiation, or asks for the initiator's mechListMIC where it is
// needed and has not come, RFC 4178 §5. r is the answer as far as it is known.
func (a *Acceptor) finish(r *Resp, mic []byte) ([]byte, bool, error) {
	if r == nil {
		r = &Resp{}
	}
	integrity := a.mech.Integrity()
	if mic != nil && integrity {
		if err := checkMIC(a.mech, a.list, mic); err != nil {
			return nil, false, err
		}
		a.gotMIC = true
	}
	waiting := a.needMIC && integrity && !a.gotMIC
	if waiting && a.sentMIC {
		return nil, false, fmt.Errorf("%w: initiator sends no mechListMIC", ErrMIC)
	}
	if (waiting || a.gotMIC) && !a.sentMIC {
		var err error
		if r.MIC, err = a.mech.GetMIC(a.list); err != nil {
			return nil, false, err
		}
		a.sentMIC = true
	}
	r.State = AcceptCompleted
	if waiting {
		r.State = AcceptIncomplete
	}
	out, err := r.AppendBinary(nil)
	return out, !waiting, err
}

func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// Initiator is the client's end.
type Initiator struct {
	hint    []byte
	mechs   []Mechanism
	phase   phase
	mech    Mechanism
	list    []byte // our encoded mechanisms
	needMIC bool   // as of Acceptor
	sentMIC bool
	gotMIC  bool
}

// NewInitiator returns an initiator for one session, that offers mechs in order of
// preference. hint is the security buffer of the server's NEGOTIATE response;
// mechanisms that it does not list are not offered, unless it is empty.
func NewInitiator(hint []byte, mechs ...Mechanism) *Initiator {
	return &Initiator{hint: hint, mechs: mechs}
}

// Mechanism returns the mechanism in use, nil before the first step.
func (i *Initiator) Mechanism() Mechanism { return i.mech }

// Step consumes a token of the acceptor, empty at first, and returns the one to
// send. With done the acceptor has accepted and there is usually nothing to send.
// An acceptor may end with an empty token when the protocol around it says that it
// has accepted; then Step, given that, returns done too.
func (i *Initiator) Step(in []byte) (out []byte, done bool, err error) {
	out, done, err = i.step(in)
	if err != nil || done {
		i.phase = over
	}
	if err != nil {
		return nil, false, err
	}
	return out, done, nil
}

func (i *Initiator) step(in []byte) ([]byte, bool, error) {
	switch i.phase {
	case over:
		return nil, false, ErrState
	case starting:
		if len(in) != 0 {
			return nil, false, malformed("token before the first")
		}
		return i.start()
	}
	if len(in) == 0 {
		if i.phase != finishing {
			return nil, false, malformed("empty token")
		}
		return nil, true, i.checkDone()
	}
	m, err := ParseResp(in)
	if err != nil {
		return nil, false, err
	}
	if m.State == Reject {
		return nil, false, ErrRejected
	}
	if m.Mech != nil && !m.Mech.Equal(i.mech.OID()) {
		j := indexOf(i.mechs, m.Mech)
		if j < 0 || i.needMIC || i.phase != running || len(m.Token) != 0 {
			return nil, false, fmt.Errorf("%w: acceptor chose %v", ErrMechanism, m.Mech)
		}
		i.mech, i.needMIC = i.mechs[j], true
	}
	if m.State == RequestMIC {
		i.needMIC = true
	}
	r := Resp{State: NoState}
	if i.phase == running {
		token, done, err := i.mech.Step(m.Token)
		if err != nil {
			return nil, false, err
		}
		r.Token = nonEmpty(token)
		if !done {
			if m.State == AcceptCompleted {
				return nil, false, malformed("accepted before the mechanism is done")
			}
			out, err := r.AppendBinary(nil)
			return out, false, err
		}
		i.phase = finishing
	} else if len(m.Token) != 0 {
		return nil, false, malformed("token after the last")
	}
	integrity := i.mech.Integrity()
	if m.MIC != nil && integrity {
		if err := checkMIC(i.mech, i.list, m.MIC); err != nil {
			return nil, false, err
		}
		i.gotMIC = true
	}
	if integrity && !i.sentMIC && (m.State != AcceptCompleted || i.needMIC) {
		if r.MIC, err = i.mech.GetMIC(i.list); err != nil {
			return nil, false, err
		}
		i.sentMIC = true
	}
	var out []byte
	if r.Token != nil || r.MIC != nil {
		if out, err = r.AppendBinary(nil); err != nil {
			return nil, false, err
		}
	}
	if m.State != AcceptCompleted {
		if out == nil {
			return nil, false, malformed("acceptor waits for nothing")
		}
		return out, false, nil
	}
	return out, true, i.checkDone()
}

// checkDone refuses an acceptor that chose another than the first mechanism and
// has not signed the list that it chose from.
func (i *Initiator) checkDone() error {
	if i.needMIC && !i.gotMIC && i.mech.Integrity() {
		return fmt.Errorf("%w: acceptor sends no mechListMIC", ErrMIC)
	}
	return nil
}

func (i *Initiator) start() ([]byte, bool, error) {
	if len(i.hint) != 0 {
		h, err := ParseInit(i.hint)
		if err != nil {
			return nil, false, fmt.Errorf("hint of the server: %w", err)
		}
		i.mechs = slices.DeleteFunc(slices.Clone(i.mechs), func(m Mechanism) bool {
			return !slices.ContainsFunc(h.Mechs, m.OID().Equal)
		})
		if len(i.mechs) == 0 {
			return nil, false, fmt.Errorf("%w: acceptor has %v", ErrMechanism, h.Mechs)
		}
	}
	if len(i.mechs) == 0 {
		return nil, false, fmt.Errorf("%w: none given", ErrMechanism)
	}
	m := Init{}
	for _, x := range i.mechs {
		m.Mechs = append(m.Mechs, x.OID())
	}
	b := cryptobyte.NewBuilder(nil)
	addMechList(b, m.Mechs)
	var err error
	if i.list, err = b.Bytes(); err != nil {
		return nil, false, malformed("%v", err)
	}
	i.mech = i.mechs[0]
	token, done, err := i.mech.Step(nil)
	if err != nil {
		return nil, false, err
	}
	m.Token = nonEmpty(token)
	i.phase = running
	if done {
		i.phase = finishing
	}
	out, err := m.AppendBinary(nil)
	return out, false, err
}
