package client

import (
	"errors"
	"fmt"
	"net"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// ErrClosed is what calls fail with after the session, share or file that they
// need was closed by this program. It matches net.ErrClosed.
var ErrClosed = fmt.Errorf("client: closed: %w", net.ErrClosed)

// Error is a failed operation.
type Error struct {
	// Op is the operation as the method is called, in lower case: "open".
	Op string
	// Path is the name that it was about, as the caller gave it; or the share.
	Path string
	// Status is the code that Err is or wraps, as a rule the server's answer;
	// Success if there is none.
	Status ntstatus.Status
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("smb: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("smb: %s %s: %v", e.Op, e.Path, e.Err)
}

// Unwrap makes errors.Is match what the Status or the cause matches.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the cause is a deadline.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// ProtocolError is a server that broke the protocol. The connection has ended.
type ProtocolError struct {
	// Section of [MS-SMB2] that was broken, as "3.2.5.1.2".
	Section string
	// Problem says how.
	Problem string
	// Err is the cause, if there is one beside Problem.
	Err error
}

// Error implements error.
func (e *ProtocolError) Error() string {
	s := "smb: server broke [MS-SMB2] " + e.Section + ": " + e.Problem
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *ProtocolError) Unwrap() error { return e.Err }
