package vfstest

import (
	"io/fs"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

func testStat(s *suite) {
	f := s.create("f", "0123456789")
	s.mkdir("d")
	byHandle := s.stat(f)
	byName, err := s.fs.Stat(s.ctx, "f")
	s.ok("Stat", err)
	if byHandle != byName {
		s.Errorf("by handle, f is %+v; by name, %+v", byHandle, byName)
	}
	if !byName.Mode.IsRegular() || byName.Size != 10 || byName.Nlink != 1 || byName.ID.Ino == 0 {
		s.Errorf("f is %+v; want a regular file of 10 bytes with 1 name and an inode number", byName)
	}
	for what, t := range map[string]time.Time{
		"birth": byName.BirthTime, "access": byName.AccessTime, "write": byName.WriteTime, "change": byName.ChangeTime,
	} {
		if t.IsZero() || t.Year() < 1980 {
			s.Errorf("the %s time is %v", what, t)
		}
	}
	if byName.BirthTime.After(byName.ChangeTime) {
		s.Errorf("born %v, after the last change %v", byName.BirthTime, byName.ChangeTime)
	}
	dir, err := s.fs.Stat(s.ctx, "d")
	s.ok("Stat", err)
	if !dir.IsDir() || dir.Size != 0 || dir.ID == byName.ID {
		s.Errorf("d is %+v; want a directory of size 0 that is not f", dir)
	}
	_, err = s.fs.Stat(s.ctx, "missing")
	s.wantErr("Stat of nothing", err, fs.ErrNotExist)
	_, err = s.fs.Stat(s.ctx, "f/below")
	s.wantErr("Stat below a file", err, syscall.ENOTDIR)
}

func testSetAttr(s *suite) {
	s.put("f", "x")
	s.mkdir("d")
	at := time.Date(2001, 2, 3, 4, 5, 6, 700, time.UTC)
	wt := time.Date(2035, 12, 31, 23, 59, 59, 999999900, time.UTC)
	bt := time.Date(1999, 1, 1, 0, 0, 0, 100, time.UTC)
	for _, c := range []struct {
		name string
		o    vfs.OpenOptions
	}{
		{"f", vfs.OpenOptions{}},
		{"f", vfs.OpenOptions{Access: vfs.AccessRead}},
		{"f", vfs.OpenOptions{Access: rw}},
		{"d", vfs.OpenOptions{}},
		{"d", vfs.OpenOptions{Access: vfs.AccessRead}},
	} {
		f := s.open(c.name, c.o)
		before := s.stat(f)
		s.ok("SetAttr of nothing", f.SetAttr(s.ctx, vfs.SetAttr{Mode: 0, AccessTime: at}))
		if got := s.stat(f); got != before {
			s.Errorf("setting nothing made %+v of %+v", got, before)
		}
		s.ok("SetAttr of one time", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetWriteTime, WriteTime: at}))
		got := s.stat(f)
		if !got.WriteTime.Equal(at) || !got.AccessTime.Equal(before.AccessTime) {
			s.Errorf("after setting the write time, it is %v and the access time %v; want %v and %v",
				got.WriteTime, got.AccessTime, at, before.AccessTime)
		}
		s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{
			Set:  vfs.SetMode | vfs.SetAccessTime | vfs.SetWriteTime | vfs.SetBirthTime,
			Mode: 0o750, AccessTime: at, WriteTime: wt, BirthTime: bt,
		}))
		got = s.stat(f)
		if got.Mode.Perm() != 0o750 || !got.AccessTime.Equal(at) || !got.WriteTime.Equal(wt) {
			s.Errorf("%s: mode %v, access %v, write %v; want 0750, %v, %v", c.name, got.Mode, got.AccessTime, got.WriteTime, at, wt)
		}
		if s.statfs.Attributes && !got.BirthTime.Equal(bt) {
			s.Errorf("%s: born %v, want %v", c.name, got.BirthTime, bt)
		}
		s.ok("SetAttr of the owner", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetOwner, UID: got.UID, GID: got.GID}))
		for _, set := range []vfs.SetMask{vfs.SetAccessTime, vfs.SetWriteTime, vfs.SetBirthTime} {
			s.wantErr("SetAttr of a zero time", f.SetAttr(s.ctx, vfs.SetAttr{Set: set}), syscall.EINVAL)
		}
	}
	if got, err := s.fs.Stat(s.ctx, "f"); err != nil || !got.WriteTime.Equal(wt) {
		s.Errorf("by name, the write time is %v, %v; want %v", got.WriteTime, err, wt)
	}
}

func testAttributes(s *suite) {
	if !s.statfs.Attributes {
		s.unsupported("keeping DOS attributes")
	}
	s.put("f", "")
	s.mkdir("d")
	for _, name := range []string{"f", "d"} {
		f := s.open(name, vfs.OpenOptions{})
		birth := s.stat(f).BirthTime
		for _, a := range []vfs.Attributes{
			vfs.AttrReadOnly, vfs.AttrHidden | vfs.AttrSystem, vfs.AttrArchive, vfs.AttrMask, 0,
			vfs.AttrTemporary | vfs.AttrOffline | vfs.AttrNotContentIndexed,
		} {
			// 0x10 and 0x80 (directory, normal) are not for storing.
			s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: a | 0x90}))
			info, err := s.fs.Stat(s.ctx, name)
			s.ok("Stat", err)
			if info.Attributes != a {
				s.Errorf("%s: attributes are %#x, want %#x", name, info.Attributes, a)
			}
			if !info.BirthTime.Equal(birth) {
				s.Errorf("%s: setting attributes moved the birth time from %v to %v", name, birth, info.BirthTime)
			}
		}
		// Each of the two stored things survives a change of the other.
		bt := time.Date(2010, 10, 10, 10, 10, 10, 0, time.UTC)
		s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetBirthTime, BirthTime: bt}))
		info := s.stat(f)
		if want := vfs.AttrTemporary | vfs.AttrOffline | vfs.AttrNotContentIndexed; info.Attributes != want {
			s.Errorf("%s: setting the birth time made the attributes %#x, want %#x", name, info.Attributes, want)
		}
		s.ok("SetAttr", f.SetAttr(s.ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: vfs.AttrHidden}))
		if info := s.stat(f); !info.BirthTime.Equal(bt) {
			s.Errorf("%s: setting the attributes made the birth time %v, want %v", name, info.BirthTime, bt)
		}
	}
	s.ok("Rename", s.fs.Rename(s.ctx, "f", "g", false))
	info, err := s.fs.Stat(s.ctx, "g")
	if err != nil || info.Attributes != vfs.AttrHidden {
		s.Errorf("after renaming, the attributes are %#x, %v; want hidden", info.Attributes, err)
	}
}

func testStatfs(s *suite) {
	st := s.statfs
	if st.BlockSize == 0 || st.BlockSize&(st.BlockSize-1) != 0 {
		s.Errorf("block size is %d, want a power of two", st.BlockSize)
	}
	if st.Total == 0 || st.Free > st.Total || st.Avail > st.Free {
		s.Errorf("blocks: total %d, free %d, available %d; want available <= free <= total > 0", st.Total, st.Free, st.Avail)
	}
	if st.NameMax < 12 || st.TypeName == "" {
		s.Errorf("names of %d bytes on %q; want at least 8.3, and a type", st.NameMax, st.TypeName)
	}
	if st.ReadOnly {
		s.Error("the share says it is read-only")
	}
}
