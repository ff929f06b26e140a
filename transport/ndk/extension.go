package ndk

import (
	"os"
	"time"
)

// FileWriterExtension names the extension of a QP by which a Write takes its
// payload from a file. QP.Extension returns a [FileWriter] for it.
var FileWriterExtension = GUID{0x73, 0x6d, 0x62, 0x64, 0x2d, 0x72, 0x64, 0x6d, 0x61, 0x2f, 0x66, 0x69, 0x6c, 0x65, 0x00, 0x01}

// FileRange is a range of an open file: Length bytes from Offset.
type FileRange struct {
	File   *os.File
	Offset int64
	Length uint32
}

// FileWriter posts Writes whose payload comes from a file, without a copy
// through user space where the provider and the file system can do that.
type FileWriter interface {
	// WriteFile is QP.Write with a file range as its source, in order with the
	// other requests of the initiator queue and under the same rules. The file
	// must stay open until the completion. If the file ends within the range the
	// rest goes out as zeros; Result.Bytes of the completion is the number of
	// bytes that came from the file. A read error of the file completes the
	// request with IODeviceError and ends the connection only if bytes were
	// already promised to the peer.
	// Flags: SilentSuccess, ReadFence, Defer.
	WriteFile(rc any, r FileRange, remoteAddr uint64, remote Token, f OpFlags) error
}

// CopyCounterExtension names the extension of a QP by which a provider tells how
// much of the RDMA payload it copied. QP.Extension returns a [CopyCounter] for it.
var CopyCounterExtension = GUID{0x73, 0x6d, 0x62, 0x64, 0x2d, 0x72, 0x64, 0x6d, 0x61, 0x2f, 0x63, 0x6f, 0x70, 0x79, 0x00, 0x01}

// CopyCounter counts the payload of RDMA Writes and Read Responses, in and out,
// that did not travel between the socket and its place in memory, or in a file,
// at once. The payload of Sends does not count: a message has a buffer of its
// own on either side. An adapter that places payload itself has no need of the
// extension.
type CopyCounter interface {
	// BytesCopied is the number of payload bytes, since the QP was made, that
	// passed through a buffer of the provider. A byte counts once for each side
	// that did so. Those of a request are counted when it completes, and those
	// of the peer's when the completion of a receive behind them is there. It may
	// be called at any time, also after Close.
	BytesCopied() uint64
}

// PeerCounterExtension names the extension of a QP by which a provider tells what
// the peer moved. QP.Extension returns a [PeerCounter] for it.
var PeerCounterExtension = GUID{0x73, 0x6d, 0x62, 0x64, 0x2d, 0x72, 0x64, 0x6d, 0x61, 0x2f, 0x70, 0x65, 0x65, 0x72, 0x00, 0x01}

// PeerCounter counts the payload that the peer moved by RDMA Writes into our
// memory and by RDMA Reads out of it. An adapter in hardware does not tell.
type PeerCounter interface {
	// PeerBytes returns the bytes since the QP was made. A byte that was written is
	// counted when the completion of a receive behind it is there, one that was
	// read when it was handed to the network. It may be called at any time, also
	// after Close.
	PeerBytes() (written, read uint64)
}

// HangupExtension names the extension of a QP by which a provider tells that the peer has
// gone before everything that it sent was received. QP.Extension returns a [Hangup] for it.
var HangupExtension = GUID{0x73, 0x6d, 0x62, 0x64, 0x2d, 0x72, 0x64, 0x6d, 0x61, 0x2f, 0x68, 0x75, 0x70, 0x00, 0x00, 0x01}

// Hangup looks ahead of the disconnect event, which comes in order behind what the peer has
// sent. An adapter in hardware has no need of the extension.
type Hangup interface {
	// HungUp reports whether the peer has ended the connection, or it is lost, or was ended
	// here: the disconnect event has come, or is on its way. It may be called at any time,
	// also after Close, and does not wait.
	HungUp() bool
}

// PollerExtension names the extension of a QP by which its consumer may do himself what a
// goroutine of the provider does else. QP.Extension returns a [Poller] for it.
var PollerExtension = GUID{0x73, 0x6d, 0x62, 0x64, 0x2d, 0x72, 0x64, 0x6d, 0x61, 0x2f, 0x70, 0x6f, 0x6c, 0x6c, 0x00, 0x01}

// Poller is for a consumer who waits for what comes in on a QP: as an adapter in hardware
// completes requests while its consumer polls a CQ, he moves the connection on himself. What
// he does not, the provider does.
type Poller interface {
	// Poll handles what has come in for the QP, or comes in within a fraction of a
	// millisecond, for which it waits on the thread of its caller. Notifications that become
	// due run in the call. It returns false if nothing came, or somebody else is at it, or
	// the connection has ended; then the provider goes on by itself. If it returns true, and
	// nobody calls it again, the provider does so a few milliseconds later.
	// It may be called by many goroutines at once, at any time but in a notification.
	Poll() bool
	// PollWorth reports whether Poll is worth calling, for who had to wait for so long when
	// something last came in, as it did not call it. PollRoom reports whether there is room
	// for one more: not more callers at a time wait than leave processors for others.
	PollWorth(waited time.Duration) bool
	PollRoom() bool
}

// PipeExtension names the extension of an MR by which what a peer writes goes into a pipe.
// MR.Extension returns a [Piper] for it.
var PipeExtension = GUID{0x73, 0x6d, 0x62, 0x64, 0x2d, 0x72, 0x64, 0x6d, 0x61, 0x2f, 0x70, 0x69, 0x70, 0x65, 0x00, 0x01}

// Pipe is a pipe(2) for octets that its owner hands on without looking at them. What is
// written to a region in order, from its beginning, goes there and not into the memory,
// until one comes that does not: those from there on are in memory.
type Pipe struct {
	W int // the writing end, which does not block
	N int // octets that have gone there
	// Over says that no more go there: it is full, or cannot take them, or something came
	// out of order, or the provider sees them in memory first.
	Over bool
	// Torn says that some of the octets that have gone there were written once more, which
	// the memory has, and the pipe has not.
	Torn bool
}

// Piper is for who hands on what the peer writes by a pipe: it is not copied on its way.
type Piper interface {
	// PipeTo names the pipe for what is written by remote token, from the next registration
	// or FastRegister on; nil, as at first, is none. From the post of that on *p is the
	// provider's, until the registration has ended. Windows and local tokens know nothing
	// of it: they show the memory.
	PipeTo(p *Pipe)
}
