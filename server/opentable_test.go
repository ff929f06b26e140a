package server

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// [MS-FSA] 2.1.5.1.2.2: an open wants what the other must share, both ways.
func TestShareConflict(t *testing.T) {
	const (
		r, w, d    = smb2.FileReadData, smb2.FileWriteData, smb2.Delete
		sr, sw, sd = smb2.FileShareRead, smb2.FileShareWrite, smb2.FileShareDelete
		meta       = smb2.FileReadAttributes | smb2.FileWriteAttributes | smb2.ReadControl | smb2.Synchronize
	)
	for _, c := range []struct {
		name    string
		access  smb2.AccessMask
		share   smb2.ShareAccess
		access2 smb2.AccessMask
		share2  smb2.ShareAccess
		want    bool
	}{
		{"two readers", r, sr, r, sr, false},
		{"reader who shares nothing", r, 0, r, sr, true},
		{"writer and reader who shares reading", w, sr, r, sr, true},
		{"writer and reader who share all", w, sr | sw, r, sr | sw, false},
		{"deleter not shared", d, sr | sw | sd, r, sr | sw, true},
		{"deleter shared", d, sr | sw | sd, r, sr | sw | sd, false},
		{"metadata beside exclusive", meta, 0, r | w | d, 0, false},
		{"executing counts as reading", smb2.FileExecute, sr | sw | sd, w, sw | sd, true},
		{"appending counts as writing", smb2.FileAppendData, sr | sw | sd, r, sr | sd, true},
		{"extended attributes do not count", smb2.FileReadEA | smb2.FileWriteEA, 0, r | w, 0, false},
	} {
		if got := shareConflict(c.access, c.share, c.access2, c.share2); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if got := shareConflict(c.access2, c.share2, c.access, c.share); got != c.want {
			t.Errorf("%s, the other way: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestBeneath(t *testing.T) {
	for _, c := range []struct {
		dir, name string
		want      bool
	}{
		{"a", "a", true}, {"a", "a/b", true}, {"a", "ab", false}, {"a/b", "a", false}, {".", "x/y", true},
	} {
		if got := beneath(c.dir, c.name); got != c.want {
			t.Errorf("beneath(%q, %q): got %v, want %v", c.dir, c.name, got, c.want)
		}
	}
}
