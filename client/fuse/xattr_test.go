package fuse

import (
	"testing"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// TestAttributesOfOtherNamespaces: there is no such namespace here, which programs
// take as said of the whole file system; of user.* an attribute is merely absent.
func TestAttributesOfOtherNamespaces(t *testing.T) {
	kernels(t, func(t *testing.T, _ *nas, k *kernel) {
		id, fh := k.create("file", "content")
		k.close(fh)
		for _, c := range []struct {
			attr string
			want gofuse.Status
		}{
			{"security.selinux", gofuse.ENOTSUP},
			{"security.capability", gofuse.ENOTSUP},
			{"system.posix_acl_access", gofuse.ENOTSUP},
			{"trusted.overlay.opaque", gofuse.ENOTSUP},
			{"user.", gofuse.ENOTSUP},
			{"user.absent", gofuse.ENODATA},
		} {
			h := head(id)
			if _, st := k.fs.GetXAttr(nil, &h, c.attr, nil); st != c.want {
				t.Errorf("getxattr %s: %v, want %v", c.attr, st, c.want)
			}
		}
	})
}
