package smbdirect

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/core"
)

// ProtocolError is a message of the peer that [MS-SMBD] forbids. It is found
// with errors.As in the errors of a connection that died of it.
type ProtocolError = core.ProtocolError

// ErrTooLong says that a message is empty or longer than the peer takes.
var ErrTooLong = core.ErrTooLong

// ErrTooLarge says that a transfer or registration is empty or above
// MaxReadWriteSize.
var ErrTooLarge = errors.New("smbdirect: transfer is empty or larger than MaxReadWriteSize")

// ErrReadLimits says that a peer's private data leaves no RDMA Reads, [MS-SMBD]
// 6.2.
var ErrReadLimits = errors.New("smbdirect: peer offers an RDMA read depth of 0")

// closedError is the error of everything that is asked of a dead connection. It
// matches net.ErrClosed and the cause.
type closedError struct{ cause error }

func (e *closedError) Error() string {
	if e.cause == nil {
		return "smbdirect: connection closed"
	}
	return "smbdirect: connection closed: " + e.cause.Error()
}

func (e *closedError) Is(target error) bool { return target == net.ErrClosed }
func (e *closedError) Unwrap() error        { return e.cause }

// LostError says that the RDMA connection broke.
type LostError struct {
	Reason uint32 // of the provider; 0 if it gave none
	Err    error  // a failed completion; may be nil
}

// Error prints reason and cause.
func (e *LostError) Error() string {
	s := "RDMA connection lost"
	if e.Reason != 0 {
		s += fmt.Sprintf(" (provider reason %#x)", e.Reason)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the status of the failed completion.
func (e *LostError) Unwrap() error { return e.Err }

// isError reports whether a connection that ended because of err died of it: not
// if it was closed at this end, nor if the peer ended it between messages.
func isError(err error) bool { return err != nil && !errors.Is(err, io.EOF) }

func asProtocolError(err error) (*ProtocolError, bool) {
	var pe *ProtocolError
	ok := errors.As(err, &pe)
	return pe, ok
}
