package ndk

import (
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Rule names the duty of the consumer that a call or a request broke. As the
// ProviderError of a completion or of an [Error] it is told apart from the codes
// of a wire by its upper octet.
type Rule uint32

// The rules. Each belongs to a status, which PostError carries.
const (
	RuleConnected Rule = 0x4E000001 + iota
	RuleOpen
	RuleFlags
	RuleDepth
	RuleSGECount
	RuleTransferLength
	RuleInlineSize
	RuleReadLimit
	RuleSharedReceive
	RuleSGERange
	RuleSGERight
	RuleReadSink
	RuleRemoteRight
	RuleWindowRange
	RuleWindowBound
	RuleFastMR
	RuleInitialized
	RulePages
	RuleBase
	RuleInvalidated
	RuleStillValid
	RuleDomain
	RuleAdapter
	RuleReceiveSize
	RuleQueueWorks
	RuleInlineData
	RuleFileRange
)

var ruleTexts = map[Rule]string{
	RuleConnected:      "initiator requests need a connected QP",
	RuleOpen:           "an object is not used after its Close",
	RuleFlags:          "this operation does not take that flag",
	RuleDepth:          "requests posted and not completed are at most the depth of their queue",
	RuleSGECount:       "a request has at most as many SGEs as its QP was created for",
	RuleTransferLength: "the SGEs of a request add up to at most MaxTransferLength",
	RuleInlineSize:     "inline data is at most the InlineDataSize of the QP",
	RuleReadLimit:      "a Read needs an outbound read limit above 0",
	RuleSharedReceive:  "a QP with a shared receive queue takes receives from that queue only",
	RuleSGERange:       "an SGE lies within the region that its token names, and that is registered",
	RuleSGERight:       "the sink of a Receive or Read needs AllowLocalWrite",
	RuleReadSink:       "the sink of a Read needs RDMAReadSink on this adapter",
	RuleRemoteRight:    "remote rights need a region that may have them",
	RuleWindowRange:    "a window lies within the region that it is bound to",
	RuleWindowBound:    "a bound window is invalidated before it is bound again",
	RuleFastMR:         "the operation is for the other kind of MR",
	RuleInitialized:    "a fast-register MR is initialised before it is registered",
	RulePages:          "a page list is aligned, of one mapping, within the initialised count, and holds the length",
	RuleBase:           "the base address is congruent to the first byte offset modulo the page size",
	RuleInvalidated:    "a token is not used after it was invalidated",
	RuleStillValid:     "a valid MR is invalidated before it is registered again",
	RuleDomain:         "objects of one request belong to one protection domain",
	RuleAdapter:        "objects of one call belong to one adapter",
	RuleQueueWorks:     "a queue that failed is used no more, but for its Close",
	RuleInlineData:     "an SGE of an Inline request has its bytes in Inline",
	RuleFileRange:      "a file range names an open file and lies in its address space",
	RuleReceiveSize:    "a posted receive is as long as the message that it takes",
}

// String says the rule.
func (r Rule) String() string {
	if s, ok := ruleTexts[r]; ok {
		return s
	}
	return fmt.Sprintf("rule %#x", uint32(r))
}

// PostError is the error of a post that was refused. There is one value for each
// reason, made once, so that a refused post allocates nothing. It matches its
// Status with errors.Is.
type PostError struct {
	Rule   Rule
	Status Status
}

// Error prints the status and the rule.
func (e *PostError) Error() string { return "ndk: " + e.Status.String() + ": " + e.Rule.String() }

// Unwrap gives the Status to errors.Is and errors.As.
func (e *PostError) Unwrap() error { return e.Status }

// The errors of posts.
var (
	ErrNotConnected   = &PostError{RuleConnected, ntstatus.ConnectionInvalid}
	ErrClosed         = &PostError{RuleOpen, ntstatus.InvalidDeviceState}
	ErrFlags          = &PostError{RuleFlags, ntstatus.InvalidParameter}
	ErrQueueFull      = &PostError{RuleDepth, ntstatus.NoMoreEntries}
	ErrTooManySGEs    = &PostError{RuleSGECount, ntstatus.DataOverrun}
	ErrTooLong        = &PostError{RuleTransferLength, ntstatus.BufferOverflow}
	ErrInlineTooLong  = &PostError{RuleInlineSize, ntstatus.BufferOverflow}
	ErrNoInline       = &PostError{RuleInlineData, ntstatus.InvalidParameter}
	ErrFileRange      = &PostError{RuleFileRange, ntstatus.InvalidParameter}
	ErrReadLimit      = &PostError{RuleReadLimit, ntstatus.InvalidParameter}
	ErrQueueFailed    = &PostError{RuleQueueWorks, ntstatus.InternalError}
	ErrSharedReceive  = &PostError{RuleSharedReceive, ntstatus.InvalidDeviceRequest}
	ErrRemoteRight    = &PostError{RuleRemoteRight, ntstatus.AccessViolation}
	ErrWindowRange    = &PostError{RuleWindowRange, ntstatus.InvalidParameter}
	ErrNotFast        = &PostError{RuleFastMR, ntstatus.InvalidDeviceRequest}
	ErrNotInitialized = &PostError{RuleInitialized, ntstatus.InvalidDeviceState}
	ErrNotRegistered  = &PostError{RuleInitialized, ntstatus.InvalidDeviceState}
	ErrStillValid     = &PostError{RuleStillValid, ntstatus.InvalidDeviceState}
	ErrPages          = &PostError{RulePages, ntstatus.InvalidParameter}
	ErrBase           = &PostError{RuleBase, ntstatus.InvalidParameter}
	ErrDomain         = &PostError{RuleDomain, ntstatus.AccessViolation}
	ErrForeign        = &PostError{RuleAdapter, ntstatus.InvalidParameter}
)

// Err returns nil for a completion that succeeded, else an [Error] that says
// what failed and, where the provider knows it, by which rule.
func (r *ResultEx) Err() error {
	if r.Status == ntstatus.Success {
		return nil
	}
	return &Error{Op: r.Type.String(), Status: r.Status, ProviderError: r.ProviderError}
}
