package tcp

import (
	"errors"
	"fmt"
	"net"
)

// ErrMPA says that the peer began with an MPA request frame (RFC 5044 §7.1): it
// wants iWARP and tries the wrong port.
var ErrMPA = errors.New("peer speaks iWARP: its first octets are an MPA request")

// ErrTooLarge says that a message is larger than a limit of the connection.
var ErrTooLarge = errors.New("message too large")

// ProtocolError is a mistake of the peer in the framing. It ends the connection.
type ProtocolError struct {
	Type   byte // first octet of the prefix
	Length int  // the 24-bit number after it
	Err    error
}

// Error prints the prefix and what is wrong with it.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("tcp: frame type 0x%02x, length %d: %v", e.Type, e.Length, e.Err)
}

// Unwrap returns the cause, as ErrMPA or ErrTooLarge.
func (e *ProtocolError) Unwrap() error { return e.Err }

// closedError is the error of everything that is asked of a dead connection.
type closedError struct{ cause error }

func (e *closedError) Error() string {
	if e.cause == nil {
		return "tcp: connection closed"
	}
	return "tcp: connection closed: " + e.cause.Error()
}

func (e *closedError) Is(target error) bool { return target == net.ErrClosed }
func (e *closedError) Unwrap() error        { return e.cause }
