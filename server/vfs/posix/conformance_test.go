//go:build linux

package posix

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/vfstest"
)

// TestMain fails the run if a watch's reader, or anything else, outlives it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mustNew serves a directory until the test ends.
func mustNew(t *testing.T, root string, cfg Config) *FS {
	t.Helper()
	f, err := New(root, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// resolvers runs a test once for each way of staying beneath the root.
func resolvers(t *testing.T, test func(t *testing.T, newFS func(root string, cfg Config) *FS)) {
	for _, walk := range []bool{false, true} {
		t.Run(map[bool]string{false: "openat2", true: "walk"}[walk], func(t *testing.T) {
			test(t, func(root string, cfg Config) *FS {
				t.Helper()
				f := mustNew(t, root, cfg)
				if !walk && !f.res.openat2 {
					t.Skip("this kernel has no openat2, or forbids it")
				}
				f.res.openat2 = !walk
				return f
			})
		})
	}
}

func TestConformance(t *testing.T) {
	resolvers(t, func(t *testing.T, newFS func(string, Config) *FS) {
		vfstest.Run(t, func(t *testing.T) vfs.FS { return newFS(t.TempDir(), Config{}) })
	})
}

func TestConformanceCaseSensitive(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return mustNew(t, t.TempDir(), Config{CaseSensitive: true}) })
}

func TestConformanceWithoutDOSAttributes(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS { return mustNew(t, t.TempDir(), Config{NoDOSAttributes: true}) })
}
