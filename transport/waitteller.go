package transport

import (
	"context"
	"os"
)

// WaitTeller is an optional part of an RDMA side that tells who serves others as well when
// it is about to keep him waiting.
type WaitTeller interface {
	// WriteFileTelling is RDMA.WriteFile, and calls wait before it waits for anything but
	// the copying: not at all, if the network takes the data at once.
	WriteFileTelling(ctx context.Context, wait func(), f *os.File, off int64, n int, remote []Descriptor) (fromFile int, err error)
}
