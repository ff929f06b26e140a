package ndk

import "os"

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
