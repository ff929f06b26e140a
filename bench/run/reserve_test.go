package run

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// full is a store that has room for so many bytes, and none to reserve.
type full struct {
	*store
	room  int64
	asked []job.Fallocate
}

func (f *full) Reserve(_ int, how job.Fallocate, size int64) error {
	f.asked = append(f.asked, how)
	if how != job.FallocateNone && size > f.room {
		return syscall.ENOSPC
	}
	return nil
}

func (f *full) Do(u *engine.Unit) {
	if u.Op == engine.Write && u.Offset+int64(len(u.Buf)) > f.room {
		u.N, u.Err = 0, syscall.ENOSPC
		return
	}
	f.store.Do(u)
}

// Space is reserved before a file is written or laid out, by default too; but not for a job
// that writes until there is none left, which is how it is to end.
func TestReservedSpace(t *testing.T) {
	const size, bs, room = 1 << 20, 4096, 1 << 16
	for _, c := range []struct {
		name   string
		rw     job.RW
		change func(*job.Job)
		asked  []job.Fallocate
		ios    int64 // writes
		err    error
	}{
		{"written", writes, func(*job.Job) {}, []job.Fallocate{job.FallocateNative}, 0, syscall.ENOSPC},
		{"laid out", reads, func(*job.Job) {}, []job.Fallocate{job.FallocateNative}, 0, syscall.ENOSPC},
		{"posix", writes, func(j *job.Job) { j.Fallocate = job.FallocatePosix }, []job.Fallocate{job.FallocatePosix}, 0, syscall.ENOSPC},
		{"none", writes, func(j *job.Job) { j.Fallocate = job.FallocateNone }, []job.Fallocate{job.FallocateNone}, room / bs, syscall.ENOSPC},
		{"fill_device", writes, func(j *job.Job) { j.FillDevice = true }, []job.Fallocate{job.FallocateNone}, room / bs, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &full{store: newStore(size), room: room}
			res, err := on(t, s, with(aJob("a", job.EnginePosix, c.rw, bs, size), c.change))
			if !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if !slices.Equal(s.asked, c.asked) || res.Traffic[job.Write].IOs != c.ios {
				t.Errorf("%q and %d writes, want %q and %d", s.asked, res.Traffic[job.Write].IOs, c.asked, c.ios)
			}
		})
	}
}

// A write that there was no space for is not missed when what was written is verified; all
// others are verified.
func TestVerifyWithoutSpace(t *testing.T) {
	const size, bs, room = 1 << 20, 4096, 1<<16 + 1000
	for _, c := range []struct {
		name   string
		change func(*job.Job)
	}{
		{"fill_device", func(j *job.Job) { j.FillDevice = true }},
		{"fill_device, blocks of several units", func(j *job.Job) { j.FillDevice, j.MinBS[job.Write], j.BA[job.Write] = true, 512, 512 }},
		{"continue_on_error", func(j *job.Job) { j.Fallocate, j.ContinueOnError = job.FallocateNone, job.ErrorWrite }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &full{store: newStore(size), room: room}
			j := with(aJob("a", job.EnginePosix, writes, bs, size), func(j *job.Job) { j.Verify = job.VerifyCRC32C })
			res, err := on(t, s, with(j, c.change))
			if j.ContinueOnError == 0 && (err != nil || res.Error != nil) || res.Bad != 0 {
				t.Errorf("%d bad blocks, %v, %v", res.Bad, err, res.Error)
			}
			if n := res.Traffic[job.Write].IOs; n == 0 || res.Verified != n {
				t.Errorf("%d writes, %d verified", n, res.Verified)
			}
		})
	}
}
