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
