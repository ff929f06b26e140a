package server

import "github.com/smbd-rdma/smbd-rdma/internal/smb2"

// Access rights that take part in sharing, [MS-FSA] 2.1.5.1.2.2.
const (
	sharesRead   = smb2.FileReadData | smb2.FileExecute
	sharesWrite  = smb2.FileWriteData | smb2.FileAppendData
	sharesDelete = smb2.Delete
	sharesAny    = sharesRead | sharesWrite | sharesDelete
)

// shareConflict reports whether opens with these access masks exclude each
// other: one wants what the other does not share. Opens for metadata only take
// no part in it.
func shareConflict(access smb2.AccessMask, share smb2.ShareAccess, access2 smb2.AccessMask, share2 smb2.ShareAccess) bool {
	if access&sharesAny == 0 || access2&sharesAny == 0 {
		return false
	}
	refuses := func(access smb2.AccessMask, share smb2.ShareAccess) bool {
		return access&sharesRead != 0 && share&smb2.FileShareRead == 0 ||
			access&sharesWrite != 0 && share&smb2.FileShareWrite == 0 ||
			access&sharesDelete != 0 && share&smb2.FileShareDelete == 0
	}
	return refuses(access, share2) || refuses(access2, share)
}
