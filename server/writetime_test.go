package server

import (
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// What clients are shown of the storage's write time, step by step. Times are seconds.
func TestWriteTime(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	type step struct {
		now   int
		do    string // first: an open's first write; more: another of its writes
		disk  int    // what the storage says
		shown int
	}
	for name, steps := range map[string][]step{
		"nobody writes": {{now: 1, disk: 1, shown: 1}, {now: 5, disk: 4, shown: 4}},
		"the first write shows two seconds later": {
			{now: 1, disk: 1, shown: 1},
			{now: 2, do: "first", disk: 2, shown: 1},
			{now: 3, disk: 2, shown: 1},
			{now: 4, disk: 2, shown: 2},
		},
		"those soon after it show with it": {
			{now: 1, disk: 1, shown: 1},
			{now: 2, do: "first", disk: 2, shown: 1},
			{now: 3, do: "more", disk: 3, shown: 1},
			{now: 4, disk: 3, shown: 3},
		},
		"later ones do not show": {
			{now: 1, disk: 1, shown: 1},
			{now: 2, do: "first", disk: 2, shown: 1},
			{now: 4, disk: 2, shown: 2},
			{now: 5, do: "more", disk: 5, shown: 2},
			{now: 60, disk: 5, shown: 2},
			{now: 61, do: "show", disk: 5, shown: 5},
		},
		"another open's first write": {
			{now: 1, disk: 1, shown: 1},
			{now: 2, do: "first", disk: 2, shown: 1},
			{now: 4, disk: 2, shown: 2},
			{now: 5, do: "more", disk: 5, shown: 2},
			{now: 6, do: "first", disk: 6, shown: 2},
			{now: 8, disk: 6, shown: 6},
		},
		"a time that is pinned": {
			{now: 1, disk: 1, shown: 1},
			{now: 2, do: "hold", disk: 2, shown: 100},
			{now: 9, disk: 9, shown: 100},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var w writeTime
			for i, s := range steps {
				switch s.do {
				case "first", "more":
					w.wrote(s.do == "first", at(s.now))
				case "hold":
					w.hold(at(100))
				case "show":
					w.show()
				}
				info := vfs.Info{WriteTime: at(s.disk)}
				if w.tell(&info, at(s.now)); !info.WriteTime.Equal(at(s.shown)) {
					t.Errorf("step %d: shown %d, want %d", i, info.WriteTime.Unix(), s.shown)
				}
			}
		})
	}
}

// A write does not move the write time that other opens and listings see until
// something settles it: here FLUSH, a change of the size, and SET_INFO that leaves
// everything as it is.
func TestWriteTimeSettles(t *testing.T) {
	for _, c := range []struct {
		name   string
		settle func(p *peer, id smb2.FileID) ntstatus.Status
	}{
		{"FLUSH", func(p *peer, id smb2.FileID) ntstatus.Status {
			st, _ := p.do(smb2.CommandFlush, &smb2.FlushRequest{FileID: id})
			return st
		}},
		{"end of file", func(p *peer, id smb2.FileID) ntstatus.Status {
			return p.set(id, smb2.ClassFileEndOfFileInformation, le.AppendUint64(nil, 5))
		}},
		{"basic information", func(p *peer, id smb2.FileID) ntstatus.Status {
			return p.set(id, smb2.ClassFileBasicInformation, make([]byte, 40))
		}},
	} {
		s, p := disk(t)
		s.mkdir("d")
		s.write("d/f", []byte("12345"))
		req := createRequest(`d\f`, smb2.FileOpen)
		req.DesiredAccess |= smb2.FileWriteAttributes
		id := p.create(req)
		times := func() (open, listed smb2.Filetime) {
			b, _ := p.query(id, smb2.InfoFile, uint8(smb2.ClassFileBasicInformation), 0, 40)
			m, err := smb2.ParseFileBasicInformation(b)
			if err != nil {
				t.Fatal(err)
			}
			dir := p.openDir("d")
			list, st := p.list(dir, smb2.ClassFileDirectoryInformation, "f", 0, 4096)
			if st != ntstatus.Success || len(list) != 1 {
				t.Fatalf("listing: %v, %d entries", st, len(list))
			}
			p.close(dir)
			return m.LastWriteTime, list[0].LastWriteTime
		}
		before, _ := times()
		st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("x")})
		want(t, "WRITE", st, ntstatus.Success)
		if open, listed := times(); open != before || listed != before {
			t.Errorf("%s: write times %v and listed %v after WRITE, want %v", c.name, open.Time(), listed.Time(), before.Time())
		}
		want(t, c.name, c.settle(p, id), ntstatus.Success)
		if open, listed := times(); open <= before || listed != open {
			t.Errorf("%s: write times %v and listed %v, want the same and after %v", c.name, open.Time(), listed.Time(), before.Time())
		}
	}
}
