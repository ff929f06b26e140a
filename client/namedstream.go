package client

import (
	"context"
	"errors"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Stream is a named stream of a file or directory, [MS-FSCC] 2.1.5.3: more data beside
// those that have no name. It is opened, removed and so on by the name "file:stream".
type Stream struct {
	Name string // without colon and type
	Size int64  // in bytes
	// AllocationSize is how many bytes it takes on disk.
	AllocationSize int64
}

// maxStreamList bounds the answer that lists them, in bytes.
const maxStreamList = 1 << 20

// Streams lists the named streams of a file or directory, FileStreamInformation ([MS-FSCC]
// 2.4.49). errors.ErrUnsupported comes from servers that have none.
func (sh *Share) Streams(ctx context.Context, name string) ([]Stream, error) {
	list, err := sh.streams(ctx, name)
	return list, wrap("list streams of", name, err)
}

func (sh *Share) streams(ctx context.Context, name string) ([]Stream, error) {
	f, err := sh.create(ctx, name, CreateOptions{Access: AccessReadAttributes | AccessSynchronize, Options: OptOpenReparsePoint})
	if err != nil {
		return nil, err
	}
	list, err := f.streams(ctx, sh.s.maxAnswer())
	if c := sh.s.main(); errors.Is(err, ntstatus.BufferOverflow) && c.multiCredit {
		list, err = f.streams(ctx, min(maxStreamList, c.neg.maxTransact, max(c.tr.MaxReceiveSize()-messageRoom, 1)))
	}
	return list, errors.Join(err, f.Close())
}

func (f *File) streams(ctx context.Context, room int) ([]Stream, error) {
	k, out, err := f.query(ctx, smb2.InfoFile, uint8(smb2.ClassFileStreamInformation), room)
	if err != nil {
		return nil, err
	}
	defer k.free()
	var list []Stream
	for s, err := range smb2.FileStreamInformations(out) {
		if err != nil {
			return nil, k.badBody(err)
		}
		// ":name:$DATA"; the one without a name is the file itself, and other types are
		// the file system's own.
		n, ok := strings.CutPrefix(s.StreamName, ":")
		n, data := strings.CutSuffix(n, ":$DATA")
		if !ok || strings.ContainsAny(n, ":/\\\x00") && data {
			return nil, k.protocolError("3.2.5.17", "a stream is called %q", s.StreamName)
		}
		if n != "" && data {
			list = append(list, Stream{n, size64(s.StreamSize), size64(s.StreamAllocationSize)})
		}
	}
	return list, nil
}
