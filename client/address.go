package client

import (
	"encoding/binary"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// fileIDAt is where a request has its FileId, [MS-SMB2] 2.2; 0 for those without.
var fileIDAt = [...]int{
	smb2.CommandClose:          smb2.HeaderSize + 8,
	smb2.CommandFlush:          smb2.HeaderSize + 8,
	smb2.CommandRead:           smb2.HeaderSize + 16,
	smb2.CommandWrite:          smb2.HeaderSize + 16,
	smb2.CommandLock:           smb2.HeaderSize + 8,
	smb2.CommandIoctl:          smb2.HeaderSize + 8,
	smb2.CommandQueryDirectory: smb2.HeaderSize + 8,
	smb2.CommandChangeNotify:   smb2.HeaderSize + 8,
	smb2.CommandQueryInfo:      smb2.HeaderSize + 24,
	smb2.CommandSetInfo:        smb2.HeaderSize + 16,
	smb2.CommandOplockBreak:    0,
}

// setFileID puts the file into a request that has a FileId.
func (k *call) setFileID(id smb2.FileID) {
	at := fileIDAt[k.cmd]
	binary.LittleEndian.PutUint64(k.buf[at:], id.Persistent)
	binary.LittleEndian.PutUint64(k.buf[at+8:], id.Volatile)
}

// fileID is the one in the request; false if it has none, or that of its compound.
func (k *call) fileID() (smb2.FileID, bool) {
	at := 0
	if int(k.cmd) < len(fileIDAt) {
		at = fileIDAt[k.cmd]
	}
	if at == 0 || len(k.buf) < at+16 {
		return smb2.FileID{}, false
	}
	id := smb2.FileID{Persistent: binary.LittleEndian.Uint64(k.buf[at:]), Volatile: binary.LittleEndian.Uint64(k.buf[at+8:])}
	return id, id != smb2.AnyFileID
}

// address makes a request say what the server of the connection's session knows: the
// numbers of its share and its open change when the session is made anew. When that
// is published all shares and opens have their new numbers, and before, nothing can be
// sent: so they go with the connection whenever it lives.
func (k *call) address(c *conn) error {
	if k.session != 0 && k.session != c.generation+1 {
		return errSessionChanged
	}
	if k.sh != nil {
		id, err := k.sh.tree()
		if err != nil {
			return err
		}
		k.treeID = id
	}
	if k.file != nil {
		id, err := k.file.current(k.cmd)
		if err != nil {
			return err
		}
		k.setFileID(id)
	} else if _, ok := k.fileID(); ok && k.session == 0 && c.generation > 0 {
		return fmt.Errorf("%v names an open that may be of an earlier connection: %w", k.cmd, ErrStale)
	}
	return nil
}

// call leases a call about the open, with room for its FileId.
func (f *File) call(cmd smb2.Command) *call {
	k := f.sh.call(cmd)
	k.file = f
	return k
}
