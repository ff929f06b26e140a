// Package ndk is an RDMA API with the object model of Microsoft's Network
// Direct Kernel Provider Interface (NDKPI, ndkpi.h), shaped for Go.
//
// # Objects
//
//	Adapter ─┬─ CQ ◄────────────┐ (receive and initiator CQ of a QP)
//	         ├─ PD ─┬─ MR ◄─ MW │ (while bound)
//	         │      ├─ SRQ ◄────┤ (optional)
//	         │      └─ QP ──────┘ ◄─ Connector (from Connect or Accept on)
//	         ├─ SharedEndpoint ◄─ Connector (when connected through it)
//	         ├─ Listener ··hands out··► Connector (then independent of it)
//	         └─ Connector
//
// An arrow or a branch means that the object at the tail or on the right, the
// successor, holds a reference to the other, its antecedent. Closing an
// antecedent is allowed at any time and stays pending until its last successor
// is closed.
//
// # What became of C
//
// Every function of the header is here under a name that a reader of its pages
// finds at once; each carries a line "Implements: NDK_FN_…". What C needed and Go
// does not is gone: dispatch tables are interfaces, a request that pends is a
// method that blocks with a context, a completion callback is its error result,
// a memory descriptor list is a [Memory], NTSTATUS is an error.
//
// What carries meaning stays: request contexts, operation flags, fences, silent
// success, deferred posts, arming of completion queues and their notification
// callbacks, flush, read limits, tokens, invalidation, extension interfaces.
//
// # Duties of the consumer
//
//  1. Posts to the initiator queue of a QP are serialised by the caller, posts
//     to its receive queue are a second lane that may run beside it. Arm, Poll
//     and PollEx of one CQ are serialised by the caller. Flush and
//     Connector.Close may run at the same time as posts.
//  2. A buffer named in a posted request belongs to the adapter until the
//     completion of that request was polled, Flush and disconnect included.
//     The SGE slice itself is free when the post returns.
//  3. Memory under a remote token belongs to the peer until the token was
//     invalidated or deregistered and that completion was read.
//  4. Notification callbacks run on a goroutine of the provider. They may call
//     back into the API, except Adapter.Close, and must not block.
//  5. Every object is closed by who created it (a Connector handed out by a
//     Listener by who received it).
//
// # Contexts
//
// A context that ends while Connect, Accept or Listen waits abandons the
// attempt: the error wraps the context's, nothing is left behind, and a
// connector that was used is failed for good. A posted request has no context;
// only its completion gives the buffer back.
//
// # Errors
//
// Slow calls return *[Error], which wraps an ntstatus.Status; posts return a
// *[PostError], made once for each [Rule], as they allocate nothing; a completion
// has a Status, and its ProviderError may be the Rule that was broken. All match
// their status with errors.Is.
package ndk
