package client

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// ErrClosed is what calls fail with after the session, share or file that they
// need was closed by this program. It matches net.ErrClosed.
var ErrClosed = fmt.Errorf("client: closed: %w", net.ErrClosed)

// ErrDFS is what calls fail with whose name leads to another server, or that mount a share
// which is made of such names ([MS-DFSC]): DFS referrals are not followed. Mount the share
// on the server that has it.
var ErrDFS = errors.New("client: the name leads to another server by DFS, which is not followed: use the server and share that have it")

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

// Errors of a session that was made anew, see ReconnectConfig.
var (
	// ErrStale: the open was lost with its connection, and could not be had again. It
	// matches syscall.ESTALE.
	ErrStale = fmt.Errorf("client: the open was lost with its connection: %w", syscall.ESTALE)
	// ErrUncertain: the connection was lost before the answer came. The server may
	// have done what it was asked for, or may still.
	ErrUncertain = errors.New("client: it is not known whether the server has done it")
	// ErrLocksLost: the open's locks were lost with its connection. Others may have
	// changed what they protected. It lasts until all of them were unlocked.
	ErrLocksLost = errors.New("client: the locks of the open were lost with its connection")

	errSessionChanged = fmt.Errorf("client: what it is about was lost with its connection: %w", net.ErrClosed)
)
