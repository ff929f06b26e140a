package server

import (
	"math"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// [MS-FSA] 2.1.5.10.6: what is trimmed are whole pages within the file; the storage gets
// them back.
func TestTrim(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) {
		fsys, err := memory.New(memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fsys.Close() })
		c.Shares[0].FS = fsys
	})
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	const page, pages = 4096, 4
	trim := func(id smb2.FileID, ranges ...uint64) ([]byte, ntstatus.Status) {
		in := le.AppendUint32(make([]byte, 4), uint32(len(ranges)/2))
		for _, v := range ranges {
			in = le.AppendUint64(in, v)
		}
		return p.fsctl(smb2.FsctlFileLevelTrim, id, in, 4)
	}
	for _, c := range []struct {
		name   string
		ranges []uint64
		want   string // of each page: x is as it was
		st     ntstatus.Status
	}{
		{"a page", []uint64{page, page}, "x0xx", ntstatus.Success},
		{"parts of pages", []uint64{1, page, page + 1, 2*page - 2}, "xxxx", ntstatus.Success},
		{"more than whole pages", []uint64{1, 3*page - 1}, "x00x", ntstatus.Success},
		{"two ranges", []uint64{0, page, 3 * page, page}, "0xx0", ntstatus.Success},
		{"beyond the end", []uint64{2 * page, math.MaxUint64 - 2*page}, "xx00", ntstatus.Success},
		{"only beyond the end", []uint64{1 << 40, page}, "xxxx", ntstatus.Success},
		{"more than there are numbers", []uint64{page, math.MaxUint64}, "xxxx", ntstatus.IntegerOverflow},
		{"rounded to more than that", []uint64{math.MaxUint64, 1}, "xxxx", ntstatus.IntegerOverflow},
	} {
		id := p.create(createRequest(c.name, smb2.FileCreate))
		p.writeAll(id, strings.Repeat("x", pages*page))
		out, st := trim(id, c.ranges...)
		want(t, c.name, st, c.st)
		if st == ntstatus.Success && (len(out) != 4 || le.Uint32(out) != uint32(len(c.ranges)/2)) {
			t.Errorf("%s: answered %x", c.name, out)
		}
		st, msg := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: id, Length: 2 * pages * page})
		want(t, "READ", st, ntstatus.Success)
		read, err := smb2.ParseReadResponse(msg)
		if err != nil || len(read.Data) != pages*page {
			t.Fatalf("%s: %d octets are left, %v", c.name, len(read.Data), err)
		}
		content, got := string(read.Data), ""
		for i := range pages {
			switch content[i*page : (i+1)*page] {
			case strings.Repeat("x", page):
				got += "x"
			case strings.Repeat("\x00", page):
				got += "0"
			default:
				got += "?"
			}
		}
		if got != c.want {
			t.Errorf("%s: left is %s, want %s", c.name, got, c.want)
		}
		p.close(id)
	}
	// What others have locked stays.
	id, other := p.openFile("locked"), p.openFile("locked")
	p.writeAll(id, strings.Repeat("x", page))
	want(t, "a lock", p.lock(other, smb2.LockElement{Length: 1, Flags: lockNow}), ntstatus.Success)
	_, st := trim(id, 0, page)
	want(t, "trimming what is locked", st, ntstatus.FileLockConflict)
}
