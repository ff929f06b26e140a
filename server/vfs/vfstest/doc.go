// Package vfstest checks that a vfs.FS keeps the promises of package vfs. An
// implementation calls it from a test:
//
//	func TestConformance(t *testing.T) {
//		vfstest.Run(t, func(t *testing.T) vfs.FS { return newMyFS(t, t.TempDir()) })
//	}
//
// Optional powers are tested where the FS or its files have the interface. A
// power whose storage answers vfs.ErrNotSupported is skipped, and the log says
// so; the environment variable VFS_REQUIRE, a comma-separated list of subtest
// names such as "Clone", turns such a skip into a failure.
package vfstest
