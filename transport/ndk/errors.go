package ndk

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Status is the NTSTATUS of an NDK call or completion.
type Status = ntstatus.Status

// ErrNotSupported is what a provider answers to a call that it lacks.
const ErrNotSupported = ntstatus.NotSupported

// Error is the error of a call that is not a post. It matches with errors.Is
// what its Status matches, and what Err matches.
type Error struct {
	Op            string // the call, as "connect"
	Status        Status
	ProviderError uint32 // of the provider; 0 if it has none
	Err           error  // the cause; may be nil
}

// Error prints operation, status and cause.
func (e *Error) Error() string {
	s := "ndk: " + e.Op + ": " + e.Status.String()
	if rule, ok := ruleTexts[Rule(e.ProviderError)]; ok {
		s += ": " + rule
	} else if e.ProviderError != 0 {
		s += fmt.Sprintf(" (provider error %#x)", e.ProviderError)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the Status and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Status}
	}
	return []error{e.Status, e.Err}
}

// StatusOf returns the NTSTATUS that stands for err, Success for nil.
func StatusOf(err error) Status {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ntstatus.IOTimeout
	case errors.Is(err, context.Canceled):
		return ntstatus.Cancelled
	}
	return ntstatus.FromError(err)
}
