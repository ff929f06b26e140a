package core

import (
	"errors"
	"fmt"
)

// Errors of Submit.
var (
	// ErrClosed says that the connection is closed, or not established yet.
	ErrClosed = errors.New("smbdirect: connection is not established")
	// ErrTooLong says that a message is empty or longer than the peer takes,
	// 3.1.4.2.
	ErrTooLong = errors.New("smbdirect: message is empty or longer than the peer takes")
	// ErrQueueFull says that Config.QueueDepth messages wait.
	ErrQueueFull = errors.New("smbdirect: send queue is full")
)

// ProtocolError is a message of the peer that the specification forbids. It ends
// the connection.
type ProtocolError struct {
	Section string // of [MS-SMBD], as "3.1.5.8"
	Field   string
	Got     uint64
	Want    string // in words, as "at least 128"
	Err     error  // a status that the peer reports; else nil
}

// Error prints section, field, value and what was expected.
func (e *ProtocolError) Error() string {
	s := fmt.Sprintf("smbdirect: peer breaks [MS-SMBD] %s: %s is %d, want %s", e.Section, e.Field, e.Got, e.Want)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the status that the peer reported, if any.
func (e *ProtocolError) Unwrap() error { return e.Err }

// TimeoutError says that the peer was silent for too long.
type TimeoutError struct {
	Section string // of [MS-SMBD]
	Waiting string // for what
}

// Error prints what was waited for.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("smbdirect: timeout ([MS-SMBD] %s): no %s in time", e.Section, e.Waiting)
}

// Timeout implements net.Error's method.
func (e *TimeoutError) Timeout() bool { return true }

// ErrNoReceives says that the adapter takes no receive, without which the peer
// has nothing to send to.
var ErrNoReceives = errors.New("smbdirect: no receive could be posted")
