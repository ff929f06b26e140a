package transport

import "context"

// OffsetRDMA is an optional part of an RDMA side: transfers of a part of the peer's
// buffers that does not begin where they do, [MS-SMBD] 3.1.4.5 and 3.1.4.6. at is
// in bytes from the beginning of the first; whole descriptors are passed over and
// the one in which it lies is trimmed. A part that reaches beyond the descriptors
// fails with ErrDescriptors before the peer is touched.
type OffsetRDMA interface {
	// WriteAt is Write from at on.
	WriteAt(ctx context.Context, b Buffer, n int, remote []Descriptor, at uint64) error
	// ReadAt is Read from at on.
	ReadAt(ctx context.Context, b Buffer, n int, remote []Descriptor, at uint64) error
}
