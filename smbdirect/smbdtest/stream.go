package smbdtest

import (
	"errors"
	"fmt"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// minNegotiateReceive is what the receive for a negotiation message has at least,
// [MS-SMBD] 3.1.4.1, in bytes.
const minNegotiateReceive = 512

// Errors of a Stream.
var (
	ErrNoCredit = errors.New("smbdtest: no send credit")
	ErrFraming  = errors.New("smbdtest: the other end broke a rule")
)

// Fragment is one Data Transfer message that came in.
type Fragment struct {
	wire.DataTransfer
	Raw         []byte // the whole message
	Payload     []byte
	Invalidated bool
	Token       ndk.Token
}

// Breach is a rule that the other end broke in what it sent.
type Breach struct{ Row, What string }

// Stream is a Peer with the bookkeeping of [MS-SMBD]: credits, fragments,
// reassembly. What it does by itself it says; the Peer beneath it stays in reach,
// and every counter may be changed.
type Stream struct {
	*Peer
	// RecvSize and MaxFragmented are our limits, SendSize and MaxMessage what the
	// other end takes: a Data Transfer message and one of the upper layer, in
	// bytes. Negotiate and Established set them.
	RecvSize, MaxFragmented, SendSize, MaxMessage int
	// Credits are our send credits. Owed are receives that are posted and not
	// granted, Granted those that are granted and not used.
	Credits, Owed, Granted int
	// Requested goes out as CreditsRequested; 0 stands for 255.
	Requested uint16
	// Window is how many receives the Stream keeps granted by itself: it grants
	// when fewer than half of them are left. 0 leaves that to the caller.
	Window int
	// Response is what Negotiate got.
	Response wire.NegotiateResponse
	// Headers are those of all Data Transfer messages that came in.
	Headers []wire.DataTransfer
	// Breaches are the rules that the other end broke.
	Breaches []Breach

	sending   bool // a fragment waits for a credit: no other message takes it
	fragments []Fragment
	part      []byte // of the message that is being put together
	remaining uint32
	partial   bool
	token     ndk.Token
	hasToken  bool
}

// NewStream makes a Stream of a Peer, connected or not.
func NewStream(p *Peer) *Stream { return &Stream{Peer: p} }

// Negotiate is the negotiation of an initiator: it posts a receive, sends r and
// waits for the response, at most d. It returns the response as it came as well.
func (s *Stream) Negotiate(r wire.NegotiateRequest, d time.Duration) (wire.NegotiateResponse, []byte, error) {
	if err := s.PostReceives(1, minNegotiateReceive); err != nil {
		return wire.NegotiateResponse{}, nil, err
	}
	b, _ := r.AppendBinary(nil)
	if err := s.SendRaw(b); err != nil {
		return wire.NegotiateResponse{}, nil, err
	}
	m, err := s.Next(d)
	if err != nil {
		return wire.NegotiateResponse{}, nil, err
	}
	s.Response, err = wire.ParseNegotiateResponse(m.Data)
	if err != nil {
		return s.Response, m.Data, err
	}
	s.adoptResponse(r, s.Response)
	return s.Response, m.Data, nil
}

// adoptResponse takes over what both negotiation messages say, [MS-SMBD] 3.1.5.7.
func (s *Stream) adoptResponse(r wire.NegotiateRequest, resp wire.NegotiateResponse) {
	s.Response, s.Requested = resp, r.CreditsRequested
	s.Established(int(min(resp.PreferredSendSize, r.MaxReceiveSize)), int(r.MaxFragmentedSize), int(min(resp.MaxReceiveSize, max(128, r.PreferredSendSize))),
		int(resp.MaxFragmentedSize), int(resp.CreditsGranted))
}

// Established sets the limits and the send credits of an established connection.
func (s *Stream) Established(recv, maxFragmented, send, maxMessage, credits int) {
	s.RecvSize, s.MaxFragmented = max(recv, 128), maxFragmented
	s.SendSize, s.MaxMessage = send, maxMessage
	s.Credits = credits
}

// Post posts n receives, to be granted.
func (s *Stream) Post(n int) error {
	if err := s.PostReceives(n, s.RecvSize); err != nil {
		return err
	}
	s.Owed += n
	return nil
}

// header makes the header of the next message; it grants all that is owed.
func (s *Stream) header(n int, remaining uint32) wire.DataTransfer {
	h := wire.DataTransfer{CreditsRequested: s.Requested, RemainingDataLength: remaining}
	if h.CreditsRequested == 0 {
		h.CreditsRequested = 255
	}
	h.CreditsGranted = uint16(min(s.Owed, 65535))
	if n > 0 {
		h.DataOffset, h.DataLength = wire.PayloadOffset, uint32(n)
	}
	return h
}

// Header is what a message of n bytes of payload with remaining to follow would
// have: it requests Requested credits and grants all that is owed.
func (s *Stream) Header(n int, remaining uint32) wire.DataTransfer { return s.header(n, remaining) }

// Encode makes a message of a header and its payload, whatever the header says.
// The payload begins at the DataOffset of well-formed messages.
func Encode(h wire.DataTransfer, payload []byte) []byte {
	at := h
	if len(payload) > 0 {
		at.DataOffset, at.DataLength = wire.PayloadOffset, uint32(len(payload))
	} else {
		at.DataOffset, at.DataLength = 0, 0
	}
	b, _ := at.AppendBinary(nil)
	b = append(b, payload...)
	put := func(off int, v uint32) {
		b[off], b[off+1], b[off+2], b[off+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	put(12, h.DataOffset)
	put(16, h.DataLength)
	return b
}

// SendHeader sends a message as it is, with or without a credit, and keeps the
// books.
func (s *Stream) SendHeader(h wire.DataTransfer, payload []byte) error {
	return s.sendBytes(h, Encode(h, payload))
}

func (s *Stream) sendBytes(h wire.DataTransfer, b []byte) error {
	if err := s.SendRaw(b); err != nil {
		return err
	}
	s.Credits--
	s.Owed -= int(h.CreditsGranted)
	s.Granted += int(h.CreditsGranted)
	return nil
}

// SendEmpty sends a message without payload that grants all that is owed.
func (s *Stream) SendEmpty(flags uint16) error {
	if s.Credits < 1 {
		return ErrNoCredit
	}
	h := s.header(0, 0)
	h.Flags = flags
	return s.SendHeader(h, nil)
}

// Grant posts n receives and grants them in a message without payload.
func (s *Stream) Grant(n int) error {
	if err := s.Post(n); err != nil {
		return err
	}
	return s.SendEmpty(0)
}

// WaitCredits takes what comes until there are n send credits, at most d.
func (s *Stream) WaitCredits(n int, d time.Duration) error {
	end := time.Now().Add(d)
	for s.Credits < n {
		f, err := s.receive(time.Until(end))
		if err != nil {
			return fmt.Errorf("%w while waiting for send credit %d, have %d", err, n, s.Credits)
		}
		s.fragments = append(s.fragments, f)
	}
	return nil
}

// SendFragment sends one fragment when there is a credit for it, the last one only
// with a grant. It waits at most d.
func (s *Stream) SendFragment(p []byte, remaining uint32, d time.Duration) error {
	if s.Owed == 0 && s.Credits == 1 && s.Granted == 0 {
		if err := s.Post(1); err != nil {
			return err
		}
	}
	s.sending = true
	err := s.WaitCredits(1, d)
	s.sending = false
	if err != nil {
		return err
	}
	return s.SendHeader(s.header(len(p), remaining), p)
}

// SendMessage sends a message of the upper layer in as few fragments as possible.
// It waits at most d for each credit.
func (s *Stream) SendMessage(b []byte, d time.Duration) error {
	return s.SendMessageIn(b, s.SendSize-wire.PayloadOffset, d)
}

// SendMessageIn is SendMessage with at most n bytes in a fragment.
func (s *Stream) SendMessageIn(b []byte, n int, d time.Duration) error {
	for len(b) > 0 {
		k := min(len(b), n)
		if err := s.SendFragment(b[:k], uint32(len(b)-k), d); err != nil {
			return err
		}
		b = b[k:]
	}
	return nil
}

// Fragment returns the next Data Transfer message, empty ones as well. The error
// is that of Next, or matches ErrFraming.
func (s *Stream) Fragment(d time.Duration) (Fragment, error) {
	if len(s.fragments) > 0 {
		f := s.fragments[0]
		s.fragments = s.fragments[1:]
		return f, nil
	}
	return s.receive(d)
}

// receive takes a message from the Peer and keeps the books.
func (s *Stream) receive(d time.Duration) (Fragment, error) {
	m, err := s.Next(d)
	if err != nil {
		return Fragment{}, err
	}
	f := Fragment{Raw: m.Data, Invalidated: m.Invalidated, Token: m.Token}
	if f.DataTransfer, err = wire.ParseDataTransfer(m.Data); err != nil {
		s.breach("SD-61", "a message of %d bytes", len(m.Data))
		return f, fmt.Errorf("%w: a Data Transfer message of %d bytes", ErrFraming, len(m.Data))
	}
	s.Headers = append(s.Headers, f.DataTransfer)
	var ok bool
	if f.Payload, ok = f.DataTransfer.Payload(m.Data); !ok {
		s.breach("SD-63", "payload outside of the message: %+v in %d bytes", f.DataTransfer, len(m.Data))
		return f, fmt.Errorf("%w: payload outside of the message, %+v in %d bytes", ErrFraming, f.DataTransfer, len(m.Data))
	}
	if s.Granted == 0 {
		s.breach("SD-41", "a message without a credit: %+v", f.DataTransfer)
	}
	s.Granted--
	s.Credits += int(f.CreditsGranted)
	s.judge(f)
	s.reassemble(f)
	if s.Window > 0 && s.Granted+s.Owed < (s.Window+1)/2 {
		// That the connection has ended shows in the next call.
		if err := s.Post(s.Window - s.Granted - s.Owed); err != nil {
			return f, nil
		}
	}
	if s.Window > 0 && s.Owed > 0 && s.Granted < (s.Window+1)/2 && s.Credits > 0 && !s.sending {
		_ = s.SendEmpty(0)
	}
	return f, nil
}

func (s *Stream) breach(row, format string, args ...any) {
	s.Breaches = append(s.Breaches, Breach{row, fmt.Sprintf(format, args...)})
}

// judge notes the rules of senders that f breaks.
func (s *Stream) judge(f Fragment) {
	if f.CreditsRequested == 0 {
		s.breach("SD-44", "CreditsRequested 0")
	}
	if f.Flags&^wire.FlagResponseRequested != 0 {
		s.breach("SD-06", "Flags %#x", f.Flags)
	}
	if f.Raw[6] != 0 || f.Raw[7] != 0 {
		s.breach("SD-01", "Reserved % x", f.Raw[6:8])
	}
	if f.DataLength == 0 {
		if f.DataOffset != 0 || len(f.Raw) != wire.DataTransferSize {
			s.breach("SD-05", "no payload, DataOffset %d, %d bytes", f.DataOffset, len(f.Raw))
		}
	} else if !f.Aligned() {
		s.breach("SD-05", "DataOffset %d", f.DataOffset)
	}
	if len(f.Raw) > s.RecvSize {
		s.breach("SD-46", "a message of %d bytes; our receives have %d", len(f.Raw), s.RecvSize)
	}
	if n := f.MessageLength(); n > uint64(s.MaxFragmented) {
		s.breach("SD-40", "%d bytes are announced; we take %d", n, s.MaxFragmented)
	}
}

// reassemble notes what f adds to the message that is being put together.
func (s *Stream) reassemble(f Fragment) {
	if s.partial && f.DataLength == 0 && f.RemainingDataLength == 0 {
		s.breach("SD-48", "an empty message between the fragments of another")
		return
	}
	if s.partial && f.MessageLength() != uint64(s.remaining) {
		s.breach("SD-47", "%d bytes and %d to follow; %d were missing", f.DataLength, f.RemainingDataLength, s.remaining)
	}
	s.remaining = f.RemainingDataLength
	s.partial = s.remaining > 0
}

// UpperMessage is one message of the upper layer that came in.
type UpperMessage struct {
	Data []byte
	// Invalidated says that a fragment of it invalidated a token: the last is Token.
	Invalidated bool
	Token       ndk.Token
}

// Message returns the next message of the upper layer; what is empty is dropped.
// It waits at most d for each fragment.
func (s *Stream) Message(d time.Duration) (UpperMessage, error) {
	for {
		f, err := s.Fragment(d)
		if err != nil {
			return UpperMessage{}, err
		}
		if f.Invalidated {
			s.hasToken, s.token = true, f.Token
		}
		if f.DataLength == 0 && f.RemainingDataLength == 0 {
			continue
		}
		s.part = append(s.part, f.Payload...)
		if len(s.part) > max(s.MaxFragmented, 1<<17) {
			return UpperMessage{}, fmt.Errorf("%w: a message of more than %d bytes", ErrFraming, s.MaxFragmented)
		}
		if f.RemainingDataLength == 0 {
			m := UpperMessage{Data: s.part, Invalidated: s.hasToken, Token: s.token}
			s.part, s.hasToken, s.token = nil, false, 0
			return m, nil
		}
	}
}
