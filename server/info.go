package server

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// le is the byte order of the protocol.
var le = binary.LittleEndian

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// clusterSize is the unit in which sizes on disk are told to clients, in bytes.
const clusterSize = 4096

// sparseGap is how much less storage than content makes a file sparse for
// clients: small gaps come from compression and from data kept in the inode.
const sparseGap = 64 << 10

// fileTimes are the four times of a file as the protocol has them everywhere.
type fileTimes struct {
	CreationTime, LastAccessTime, LastWriteTime, ChangeTime smb2.Filetime
}

func timesOf(i *vfs.Info) fileTimes {
	return fileTimes{
		CreationTime:   smb2.FiletimeOf(i.BirthTime),
		LastAccessTime: smb2.FiletimeOf(i.AccessTime),
		LastWriteTime:  smb2.FiletimeOf(i.WriteTime),
		ChangeTime:     smb2.FiletimeOf(i.ChangeTime),
	}
}

// isSparse reports whether a file may have holes that clients see: it was made sparse,
// or it has them.
func isSparse(i *vfs.Info) bool {
	return i.Mode.IsRegular() && (i.Attributes&vfs.AttrSparse != 0 || i.Size-i.Allocated >= sparseGap)
}

// allocationSize is the storage a file takes, rounded to clusters: at least its
// size unless it is sparse.
func allocationSize(i *vfs.Info) uint64 {
	if !i.Mode.IsRegular() {
		return 0
	}
	n := i.Allocated
	if !isSparse(i) {
		n = max(n, i.Size)
	}
	if n > 1<<62 {
		return uint64(n)
	}
	return uint64(n+clusterSize-1) &^ (clusterSize - 1)
}

// fileAttributes are the attributes of [MS-FSCC] 2.6: what is stored with the
// object and what follows from it.
func fileAttributes(i *vfs.Info) smb2.FileAttributes {
	a := smb2.FileAttributes(i.Attributes & (vfs.AttrMask | vfs.AttrCompressed))
	switch {
	case i.IsDir():
		a |= smb2.FileAttributeDirectory
	case reparseTag(i) != 0:
		a |= smb2.FileAttributeReparsePoint
	case isSparse(i):
		a |= smb2.FileAttributeSparseFile
	}
	if a == 0 {
		a = smb2.FileAttributeNormal
	}
	return a
}

// reparseTag is the tag of a reparse point, 0 for everything else. Symbolic links are
// shown as Windows has them, FIFOs, sockets and devices as its Subsystem for Linux does:
// each has a tag of its own then, so that listings tell what it is.
func reparseTag(i *vfs.Info) smb2.ReparseTag {
	switch i.Mode.Type() {
	case fs.ModeSymlink:
		return smb2.ReparseTagSymlink
	case fs.ModeNamedPipe:
		return smb2.ReparseTagLXFifo
	case fs.ModeSocket:
		return smb2.ReparseTagAFUnix
	case fs.ModeDevice | fs.ModeCharDevice:
		return smb2.ReparseTagLXChr
	case fs.ModeDevice:
		return smb2.ReparseTagLXBlk
	}
	return 0
}

// outputHeader is the fixed part of the responses of QUERY_DIRECTORY,
// QUERY_INFO and CHANGE_NOTIFY; their payload follows it.
const outputHeader = smb2.OutputBufferOffset - smb2.HeaderSize

// beginOutput appends the fixed part of such a response with room for the length
// of the payload, which endOutput fills in.
func beginOutput(b []byte) []byte {
	b = le.AppendUint16(b, 9)
	b = le.AppendUint16(b, smb2.OutputBufferOffset)
	return append(b, 0, 0, 0, 0)
}

// endOutput stores the length of the payload that follows the fixed part at
// start. An empty payload is one octet long on the wire, [MS-SMB2] 2.2.38.
func endOutput(b []byte, start int) []byte {
	n := len(b) - start - outputHeader
	le.PutUint32(b[start+4:], uint32(n))
	if n == 0 {
		b = append(b, 0)
	}
	return b
}
