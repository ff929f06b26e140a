package vfstest

import (
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// testRealName: the name without links, by whatever name the object was opened.
func testRealName(s *suite) {
	s.mkdir("d")
	s.mkdir("d/e")
	s.put("d/e/f", "x")
	links, ok := s.fs.(vfs.Symlinker)
	if !ok {
		s.unsupported("vfs.Symlinker")
	}
	s.ok("Symlink", links.Symlink(s.ctx, "d/e", "way"))
	s.ok("Symlink", links.Symlink(s.ctx, "../e/f", "d/e/lead"))
	names := map[string]string{
		vfs.Root: vfs.Root, "d": "d", "d/e/f": "d/e/f", "way": "d/e", "way/f": "d/e/f", "d/e/lead": "d/e/f", "way/lead": "d/e/f",
	}
	if l, ok := s.fs.(vfs.Linker); ok {
		s.ok("Link", l.Link(s.ctx, "d/e/f", "another"))
		s.ok("Link", l.Link(s.ctx, "d/e/f", "d/e/beside"))
		names["another"], names["way/beside"] = "another", "d/e/beside"
	}
	for name, want := range names {
		n, ok := s.open(name, vfs.OpenOptions{}).(vfs.RealNamer)
		if !ok {
			s.unsupported("vfs.RealNamer")
		}
		if got, err := n.RealName(s.ctx); err != nil || got != want {
			s.Errorf("RealName of %q: %q, %v; want %q", name, got, err, want)
		}
	}
	moves := s.create("moves", "").(vfs.RealNamer)
	s.ok("Rename", s.fs.Rename(s.ctx, "moves", "d/moved", false))
	if got, err := moves.RealName(s.ctx); err != nil || got != "d/moved" {
		s.Errorf("RealName after a rename: %q, %v", got, err)
	}
	s.ok("Remove", s.fs.Remove(s.ctx, "d/moved", vfs.KindFile))
	if got, err := moves.RealName(s.ctx); err == nil {
		if _, err := s.fs.Lstat(s.ctx, got); err == nil {
			s.Errorf("RealName of what has none: %q, which is there", got)
		}
	}
}
