package server

// cachesHandle reports whether the client may keep the open's handle after its user
// has closed it: it has a batch oplock, or a lease with handle caching. Only such
// opens become durable ([MS-SMB2] 3.3.5.9.6, 3.3.5.9.10).
func (o *open) cachesHandle() bool { return false }
