package core

import (
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// Kind says what an Action asks for.
type Kind uint8

// The kinds of action.
const (
	// PostReceives: post Count receives of Size bytes, then call Posted.
	PostReceives Kind = iota + 1
	// SendRequest and SendResponse: send Request or Response.
	SendRequest
	SendResponse
	// SendData: send Header and Length bytes from Offset of message ID. Last
	// marks the end of the message: ID is not asked for again. Invalidate goes
	// with the send if HasInvalidate.
	SendData
	// Connected: the negotiation is done. Connection has the results.
	Connected
	// ArmTimer: call TimerDue at At. It replaces an earlier one.
	ArmTimer
	// Terminate: end the connection because of Err, and gracefully, so that
	// what was sent arrives, if Graceful.
	Terminate
)

// Action is one thing that the driver has to do.
type Action struct {
	Kind          Kind
	Last          bool
	HasInvalidate bool
	Graceful      bool
	Count         int
	Size          uint32
	Invalidate    uint32
	Header        wire.DataTransfer
	ID            uint64
	Offset        uint32
	Length        uint32
	At            time.Duration
	Request       wire.NegotiateRequest
	Response      wire.NegotiateResponse
	Err           error
}

// Next takes the next action; ok is false if there is none.
func (e *Engine) Next() (a Action, ok bool) {
	if e.next == len(e.actions) {
		e.actions, e.next = e.actions[:0], 0
		return Action{}, false
	}
	a = e.actions[e.next]
	e.actions[e.next] = Action{}
	e.next++
	return a, true
}

func (e *Engine) act(a Action) { e.actions = append(e.actions, a) }

// Delivery is a fragment of an SMB2 message. Fragment is a part of the message
// that was received.
type Delivery struct {
	Fragment []byte
	Offset   uint32 // of Fragment in the SMB2 message
	Total    uint32 // length of the SMB2 message
	Last     bool   // the SMB2 message is complete
	// Token is the local token that the peer invalidated with the message, if
	// HasToken; only with Last.
	Token    uint32
	HasToken bool
}
