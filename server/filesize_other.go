//go:build !unix

package server

import "context"

// fileSize is the size of an open file.
func fileSize(ctx context.Context, o *open) (int64, error) {
	info, err := o.file.Stat(ctx)
	return info.Size, err
}
