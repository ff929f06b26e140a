package sim

import (
	"errors"
	"io"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// Extension implements ndk.Object: ndk.FileWriterExtension 1.0.
func (q *qp) Extension(id ndk.GUID, v ndk.Version) (any, error) {
	if id == ndk.FileWriterExtension && !(ndk.Version{Major: 1}).Less(v) {
		return ndk.FileWriter(q), nil
	}
	return q.Object.Extension(id, v)
}

// WriteFile implements ndk.FileWriter. The file is read within the post, under no
// lock: that is when its content counts.
func (q *qp) WriteFile(rc any, r ndk.FileRange, remoteAddr uint64, remote ndk.Token, f ndk.OpFlags) error {
	n := newWR{op: wrWriteFile, rc: rc, flags: f, raddr: remoteAddr, token: uint32(remote), length: r.Length}
	var early *ndk.PostError
	switch {
	case r.File == nil || r.Offset < 0 || r.Offset+int64(r.Length) < r.Offset:
		early = ndk.ErrFileRange
	case uint64(r.Length) > q.w.info.MaxTransferLength:
		early = ndk.ErrTooLong
	}
	if !q.enter() {
		// The buffer is somebody else's just now.
		b, err := read(nil, r, early)
		n.file, n.failed = b, err != nil
		return q.post(&n, soft.FlagsCommon, early, nil, 0, 0, 0)
	}
	defer q.send.leave()
	b, err := read(q.fileBuf[:0], r, early)
	q.fileBuf, n.file, n.failed = b, b, err != nil
	return q.post(&n, soft.FlagsCommon, early, nil, 0, 0, 0)
}

// read appends what there is of the range of the file to b.
func read(b []byte, r ndk.FileRange, early *ndk.PostError) ([]byte, error) {
	if early != nil || r.Length == 0 {
		return b, nil
	}
	if cap(b) < int(r.Length) {
		b = make([]byte, r.Length)
	}
	b = b[:r.Length]
	k, err := r.File.ReadAt(b, r.Offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:k], err
}
