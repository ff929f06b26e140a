package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

const memoryScheme = "memory:"

// isMemory reports whether the path of a share says that it is in memory.
func isMemory(path string) bool { return strings.HasPrefix(path, memoryScheme) }

// memorySize is the size in octets that memory:SIZE bounds a share to; 0 for memory: is
// the default.
func memorySize(path string) (int64, error) {
	s := strings.TrimPrefix(path, memoryScheme)
	if s == "" {
		return 0, nil
	}
	shift := 0
	if i := strings.IndexByte("kmgt", s[len(s)-1]|0x20); i >= 0 {
		shift, s = 10*(i+1), s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > (1<<50)>>shift || n<<shift < 1<<20 {
		return 0, fmt.Errorf("%q is not memory: or memory:SIZE, with a size of 1M to 1024T", path)
	}
	return n << shift, nil
}

// openMemory makes a share in memory. What it lets through is the share's to say.
func openMemory(path string, caseSensitive bool) (vfs.FS, error) {
	n, err := memorySize(path)
	if err != nil {
		return nil, err
	}
	fsys, err := memory.New(memory.Config{MaxBytes: n, CaseSensitive: caseSensitive, FileMask: 0o777, DirMask: 0o777})
	if err != nil {
		return nil, err
	}
	return fsys, nil
}
