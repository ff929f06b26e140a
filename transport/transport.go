// Package transport is what server and client need of the network: a connection
// that carries whole SMB2 messages, and optionally its RDMA side. Direct hosting
// over TCP (transport/tcp) and SMB Direct (smbdirect) implement it; server and
// client do not know which of them they run on.
//
// # Ownership
//
// A message handed to Send is the caller's again when Send returns. A message
// from Receive is the receiver's until it calls Release, exactly once. A
// [Buffer] is leased, and belongs to the connection while one of its RDMA
// operations runs. The memory of a [Registration] may be changed or read by the
// peer until Deregister returned.
//
// # Concurrency
//
// Send and the methods of RDMA may be called by many goroutines at once; the
// messages of concurrent Sends do not mix. Receive is called by one goroutine at
// a time. Close may be called at any time, by anybody, more than once; it makes
// every call under way and to come fail with an error that matches net.ErrClosed.
package transport

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Conn is a connection that carries SMB2 messages in order, without loss.
type Conn interface {
	// Send sends one message. It returns when the buffers of m are free, which
	// may be before the peer has it. ctx bounds the wait for the peer to take it; of a
	// message that was begun then the connection sends the rest from a copy, or it ends.
	Send(ctx context.Context, m *Message) error
	// Receive waits for the next message. io.EOF says that the peer ended the
	// connection between messages.
	Receive(ctx context.Context) (*Received, error)
	// RDMA is the RDMA side of the connection; nil if it has none.
	RDMA() RDMA
	// MaxSendSize is the largest message in bytes that Send takes,
	// MaxReceiveSize the largest that the peer may send to us.
	MaxSendSize() int
	MaxReceiveSize() int
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	// Stats may be called at any time, also after Close.
	Stats() Stats
	// Close ends the connection and returns when its goroutines have ended.
	// What Send accepted is sent first as far as the peer takes it without delay.
	Close() error
}

// Deliverer is a Conn that may know how much of what was sent has arrived at the
// peer's machine.
type Deliverer interface {
	// Delivery may be called at any time; ok is false if nothing is known.
	Delivery() (d Delivery, ok bool)
}

// Delivery is how much was sent and has arrived, in octets on the wire since some time
// in the past. What was sent before Delivery was asked has arrived when a later one has
// an Acknowledged that is not below the Sent of this one.
type Delivery struct {
	Acknowledged, Sent uint64
	// Patience is how long the transport waits for an acknowledgment before it sends
	// again.
	Patience time.Duration
	// Ended says that the peer has closed its end, though messages that it sent before may
	// still be to be received.
	Ended bool
}

// Batcher is a Conn on which messages that follow each other closely cost less than
// each by itself.
type Batcher interface {
	// Buffered reports whether Receive has a whole message already, and will not wait.
	// It is called by who calls Receive.
	Buffered() bool
	// Flush sends what Send has kept back for Message.More; its errors are those of
	// Send. It may be called by many goroutines at once.
	Flush(ctx context.Context) error
}

// Prompter is a Batcher whose receiver can wait on its own thread, for a peer that
// answers at once.
type Prompter interface {
	Batcher
	// ReceivePromptly is Receive, of which it counts as a call, that gives up after less
	// than a millisecond, or at once if the peer has taken longer of late: then it
	// returns nil without an error, and nothing is lost.
	ReceivePromptly() (*Received, error)
	// Prompt reports whether ReceivePromptly would wait. It is called by who calls
	// Receive.
	Prompt() bool
}

// FileLoader is a Conn that can send bytes of a file from the page cache, without
// their passing through user space.
type FileLoader interface {
	// LoadFile takes n bytes of f from off, fewer at its end, to be the tail of a
	// message of this connection. What the file holds there may still change until
	// the peer has it. A nil Tail without an error says that the file has to be
	// read: neither the connection nor the file system is obliged to anything.
	LoadFile(f *os.File, off int64, n int) (Tail, error)
}

// Tail is the last part of a message, in the hands of the system. It belongs to who
// loaded it; Release, exactly once, gives back what is left of it.
type Tail interface {
	Len() int
	Release()
}

// Message is one outgoing SMB2 message, gathered from Parts in order.
type Message struct {
	Parts [][]byte
	// Tail, if not nil, follows the Parts; it is one that this Conn's LoadFile made.
	// Send takes out of it what it sends.
	Tail Tail
	// More says that another Send or a Flush comes soon, and that a Batcher may keep a
	// copy of a small message back for it.
	More bool
	// Invalidate is a remote token that the peer's adapter invalidates before
	// the peer sees the message, if HasInvalidate and Conn has an RDMA side.
	Invalidate    uint32
	HasInvalidate bool
}

// Len is the length of the message in bytes.
func (m *Message) Len() int {
	n := 0
	for _, p := range m.Parts {
		n += len(p)
	}
	if m.Tail != nil {
		n += m.Tail.Len()
	}
	return n
}

// Received is one incoming SMB2 message. Implementations pool them.
type Received struct {
	// Data is the message, valid until Release. The receiver may write to it
	// (decryption in place).
	Data []byte
	// Placed is how many octets of the message follow Data, in memory that a
	// [PlaceFunc] has named; Copied is how many of them came there by a copy.
	Placed, Copied int
	// Invalidated is our token that the message invalidated, if HasInvalidated.
	Invalidated    uint32
	HasInvalidated bool

	free func(*Received)
	out  atomic.Bool
}

// NewReceived is for implementations: Release calls free.
func NewReceived(free func(*Received)) *Received { return &Received{free: free} }

// Lend marks a pooled message as handed out. For implementations.
func (r *Received) Lend() *Received {
	if r.out.Swap(true) {
		panic("transport: message lent twice")
	}
	return r
}

// Release gives the message back; a second call panics.
func (r *Received) Release() {
	if !r.out.Swap(false) {
		panic("transport: message released twice")
	}
	r.free(r)
}

// Descriptor is a buffer of the peer, or one of ours as the peer sees it: a
// Buffer Descriptor V1, [MS-SMBD] 2.2.3.1.
type Descriptor struct {
	Offset uint64
	Token  uint32
	Length uint32
}

// DescriptorsLen is the sum of the lengths, which cannot overflow.
func DescriptorsLen(ds []Descriptor) uint64 {
	n := uint64(0)
	for _, d := range ds {
		n += uint64(d.Length)
	}
	return n
}

// Access is what a registration lets the peer do.
type Access uint8

// Rights of a registration, from the peer's point of view.
const (
	// PeerReads: the peer may read the buffer (SMB2 WRITE).
	PeerReads Access = 1
	// PeerWrites: the peer may write the buffer (SMB2 READ).
	PeerWrites Access = 2
)

// BufferRoom is the capacity in bytes that a Buffer has at least beyond its
// length, for the tag of who encrypts where the data lies.
const BufferRoom = 16

// Buffer is registered memory leased from the connection.
type Buffer interface {
	// Bytes is the memory, at least as long as was asked for, with BufferRoom bytes
	// of capacity more that the peer cannot reach.
	Bytes() []byte
	// Release gives it back; a second call panics.
	Release()
}

// Registration is memory of the caller that the peer may reach.
type Registration interface {
	// Descriptors are in buffer order and their lengths add up to it. The slice
	// is valid until Deregister.
	Descriptors() []Descriptor
	// Deregister revokes the peer's access and returns when nothing can touch
	// the memory any more. invalidated is the answer's Received.Invalidated if
	// ok: that token is dead already and costs nothing; every other one is
	// invalidated locally. It fails only together with the connection, and then
	// too the memory is the caller's alone again.
	Deregister(ctx context.Context, invalidated uint32, ok bool) error
}

// RDMA is the RDMA side of a connection: [MS-SMBD] 3.1.4.3 to 3.1.4.6.
//
// Remote descriptors are checked locally before the peer is touched: a transfer
// longer than their sum fails with ErrDescriptors. A wrong token or offset of
// the peer's fails the operation and ends the connection.
type RDMA interface {
	// Lease waits for n bytes of registered memory, 1 to MaxReadWriteSize.
	Lease(ctx context.Context, n int) (Buffer, error)
	// Write moves the first n bytes of b to the peer's buffers. A message that
	// is sent after Write returned is received after the data is in place.
	Write(ctx context.Context, b Buffer, n int, remote []Descriptor) error
	// WriteFile moves n bytes of f from off to the peer's buffers, from the page
	// cache where provider and file system can do that. If the file ends before,
	// the rest of the n bytes arrives as zeros and fromFile says how many came
	// from the file.
	WriteFile(ctx context.Context, f *os.File, off int64, n int, remote []Descriptor) (fromFile int, err error)
	// Read moves n bytes of the peer's buffers into b.
	Read(ctx context.Context, b Buffer, n int, remote []Descriptor) error
	// Register makes p reachable for the peer; p must not be empty and at most
	// MaxReadWriteSize.
	Register(ctx context.Context, p []byte, a Access) (Registration, error)
	// MaxReadWriteSize is the largest transfer in bytes, as negotiated.
	MaxReadWriteSize() int
	// RemoteInvalidation says that both ends can invalidate a token by a message.
	RemoteInvalidation() bool
	// ShortReads says that the peer takes an answer to its READ which is shorter than
	// what it asked for, as not all fits in a message, for what it is. To another one
	// that is the end of the file.
	ShortReads() bool
	// Provider names the provider, as "iwarp".
	Provider() string
}

// ErrDescriptors says that the peer's buffers are too small for a transfer, or
// too many.
var ErrDescriptors = fmt.Errorf("transport: transfer does not fit the peer's buffer descriptors")

// Stats counts what a connection did. As JSON, durations are in nanoseconds.
type Stats struct {
	MessagesSent     uint64 `json:"messages_sent"`
	MessagesReceived uint64 `json:"messages_received"`
	// BytesSent and BytesReceived are of messages, without framing.
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
	// RDMABytesWritten and RDMABytesRead are moved by our own RDMA operations, of
	// which there were RDMAWrites and RDMAReads.
	RDMABytesWritten uint64 `json:"rdma_bytes_written"`
	RDMABytesRead    uint64 `json:"rdma_bytes_read"`
	RDMAWrites       uint64 `json:"rdma_writes"`
	RDMAReads        uint64 `json:"rdma_reads"`
	// RDMAOutstanding is how many of those are posted and not completed now.
	RDMAOutstanding int `json:"rdma_outstanding"`
	// PeerBytesWritten and PeerBytesRead are the bytes that the peer moved into
	// and out of our registered memory, if PeerBytesKnown: an adapter in hardware
	// does not tell.
	PeerBytesWritten uint64 `json:"peer_bytes_written"`
	PeerBytesRead    uint64 `json:"peer_bytes_read"`
	PeerBytesKnown   bool   `json:"peer_bytes_known"`
	// RDMABytesFromFile is the part of RDMABytesWritten that WriteFile took from
	// the page cache without a copy through user space.
	RDMABytesFromFile uint64 `json:"rdma_bytes_from_file"`
	// BytesCopied counts bytes of RDMA transfers that were copied from one buffer
	// in user space to another. Bytes of messages are not counted.
	BytesCopied uint64 `json:"bytes_copied"`
	// Registrations, LeasedBuffers: now in use. RegistrationsMade counts them.
	Registrations     int    `json:"registrations"`
	LeasedBuffers     int    `json:"leased_buffers"`
	RegistrationsMade uint64 `json:"registrations_made"`
	// InvalidatedByPeer and InvalidatedLocally count tokens of ours whose access
	// the peer ended with a message, and we.
	InvalidatedByPeer  uint64 `json:"invalidated_by_peer"`
	InvalidatedLocally uint64 `json:"invalidated_locally"`

	// What follows is of SMB Direct, and 0 on TCP.

	// Sends and Receives count messages of SMB Direct, those of the negotiation
	// and the empty ones among them: a message of SMB2 takes one or more.
	Sends    uint64 `json:"sends"`
	Receives uint64 `json:"receives"`
	// CreditsGranted are the credits that we gave the peer, CreditsReceived those
	// that it gave us.
	CreditsGranted  uint64 `json:"credits_granted"`
	CreditsReceived uint64 `json:"credits_received"`
	// CreditStalls counts Sends that had to wait for the peer's credits,
	// CreditStallTime is for how long there was one that did, and
	// LongestCreditStall the longest time in a row; a wait that lasts counts.
	CreditStalls       uint64        `json:"credit_stalls"`
	CreditStallTime    time.Duration `json:"credit_stall_time_ns"`
	LongestCreditStall time.Duration `json:"longest_credit_stall_ns"`
	// SendCredits, ReceiveCredits: now.
	SendCredits    int `json:"send_credits"`
	ReceiveCredits int `json:"receive_credits"`
	// KeepalivesSent and KeepalivesReceived count messages that asked for an
	// answer at once, [MS-SMBD] 3.1.6.2.
	KeepalivesSent     uint64 `json:"keepalives_sent"`
	KeepalivesReceived uint64 `json:"keepalives_received"`
}

// Add adds what t counts to s. What t has now is left alone, but for the longest
// stall.
func (s *Stats) Add(t *Stats) {
	s.MessagesSent += t.MessagesSent
	s.MessagesReceived += t.MessagesReceived
	s.BytesSent += t.BytesSent
	s.BytesReceived += t.BytesReceived
	s.RDMABytesWritten += t.RDMABytesWritten
	s.RDMABytesRead += t.RDMABytesRead
	s.RDMAWrites += t.RDMAWrites
	s.RDMAReads += t.RDMAReads
	s.PeerBytesWritten += t.PeerBytesWritten
	s.PeerBytesRead += t.PeerBytesRead
	s.PeerBytesKnown = s.PeerBytesKnown || t.PeerBytesKnown
	s.RDMABytesFromFile += t.RDMABytesFromFile
	s.BytesCopied += t.BytesCopied
	s.RegistrationsMade += t.RegistrationsMade
	s.InvalidatedByPeer += t.InvalidatedByPeer
	s.InvalidatedLocally += t.InvalidatedLocally
	s.Sends += t.Sends
	s.Receives += t.Receives
	s.CreditsGranted += t.CreditsGranted
	s.CreditsReceived += t.CreditsReceived
	s.CreditStalls += t.CreditStalls
	s.CreditStallTime += t.CreditStallTime
	s.LongestCreditStall = max(s.LongestCreditStall, t.LongestCreditStall)
	s.KeepalivesSent += t.KeepalivesSent
	s.KeepalivesReceived += t.KeepalivesReceived
}

// Parameters are what the two ends of an SMB Direct connection agreed on,
// [MS-SMBD] 3.1.4.7. Sizes are in bytes.
type Parameters struct {
	MaxSendSize           int           `json:"max_send_size"`
	MaxFragmentedSendSize int           `json:"max_fragmented_send_size"`
	MaxReceiveSize        int           `json:"max_receive_size"`
	MaxFragmentedRecvSize int           `json:"max_fragmented_recv_size"`
	MaxReadWriteSize      int           `json:"max_read_write_size"`
	KeepaliveInterval     time.Duration `json:"keepalive_interval_ns"`
	// Peer is the kind of peer that the set-up showed: "any", "cifs.ko" or "ksmbd".
	Peer string `json:"peer"`
	// ReadLimit is how many RDMA Reads we may have under way.
	ReadLimit int `json:"read_limit"`
}

// Negotiator is a Conn that negotiates parameters of its own.
type Negotiator interface {
	Conn
	// Parameters returns what was negotiated.
	Parameters() Parameters
}

// FlightRecorder is a Conn that remembers its last events.
type FlightRecorder interface {
	Conn
	// FlightRecorder prints them, the oldest first, one a line. It may be called
	// at any time, also after Close.
	FlightRecorder(w io.Writer) error
}

// Listener accepts connections.
type Listener interface {
	// Accept waits for the next connection that finished the transport's own
	// set-up. After Close it fails with an error that matches net.ErrClosed.
	Accept(ctx context.Context) (Conn, error)
	// Close stops listening; accepted connections live on.
	Close() error
	Addr() net.Addr
	// Scheme names the transport, as "tcp" or "iwarp".
	Scheme() string
}

// Dialer makes connections to an address, HOST:PORT.
type Dialer interface {
	Dial(ctx context.Context, addr string) (Conn, error)
	// Scheme names the transport, as "tcp" or "iwarp".
	Scheme() string
}
