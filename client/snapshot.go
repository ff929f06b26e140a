package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// snapshotName is how a snapshot is spelled, [MS-SMB2] 2.2.32.2.
const snapshotName = "@GMT-2006.01.02-15.04.05"

// maxSnapshots bounds how many a server may list.
const maxSnapshots = 16384

// Snapshots lists the times of which the server keeps what the share held then, the last
// first, FSCTL_SRV_ENUMERATE_SNAPSHOTS ([MS-SMB2] 3.2.4.20.1). CreateOptions.Snapshot opens
// files of one. errors.ErrUnsupported comes from servers that have no such thing.
func (sh *Share) Snapshots(ctx context.Context) ([]time.Time, error) {
	list, err := sh.snapshots(ctx)
	return list, wrap("list snapshots of", sh.name, err)
}

func (sh *Share) snapshots(ctx context.Context) ([]time.Time, error) {
	f, err := sh.create(ctx, "", CreateOptions{Access: AccessReadData | AccessReadAttributes | AccessSynchronize})
	if err != nil {
		return nil, err
	}
	list, err := f.snapshots(ctx)
	return list, errors.Join(err, f.Close())
}

func (f *File) snapshots(ctx context.Context) ([]time.Time, error) {
	// The first answer says only how much there is, which may be more in the next moment.
	room := 16
	for range 4 {
		k, out, err := f.ioctl(ctx, smb2.FsctlSrvEnumerateSnapshots, nil, room, 0)
		if err != nil {
			return nil, err
		}
		m, err := smb2.ParseSnapshotArray(out)
		if err != nil {
			err = k.badBody(err)
			k.free()
			return nil, err
		}
		k.free()
		if m.Total == m.Returned {
			return snapshotTimes(m.Names)
		}
		most := f.sh.s.maxAnswer()
		if room == most || m.Size > maxSnapshots*50 {
			return nil, fmt.Errorf("%d snapshots, too many to list: %w", m.Total, ntstatus.InsufficientResources)
		}
		room = min(most, 12+int(m.Size))
	}
	return nil, fmt.Errorf("the list of snapshots does not come to an end: %w", ntstatus.InvalidNetworkResponse)
}

func snapshotTimes(names []string) ([]time.Time, error) {
	list := make([]time.Time, 0, len(names))
	for _, n := range names {
		t, err := time.Parse(snapshotName, n)
		if err != nil {
			return nil, fmt.Errorf("a snapshot called %q: %w", n, ntstatus.InvalidNetworkResponse)
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b time.Time) int { return b.Compare(a) })
	return list, nil
}

// snapshotContext appends the create context of an open in a snapshot, [MS-SMB2]
// 2.2.13.2.7.
func snapshotContext(contexts []byte, t time.Time) ([]byte, error) {
	if t.IsZero() {
		return contexts, nil
	}
	data, err := (&smb2.TimewarpToken{Timestamp: smb2.FiletimeOf(t.Truncate(time.Second))}).AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return smb2.AppendCreateContext(contexts, smb2.CreateContextTimewarpToken, data)
}
