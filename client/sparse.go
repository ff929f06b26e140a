package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Range is a range of a file, in bytes.
type Range struct{ Offset, Length int64 }

const (
	rangeSize = 16      // FILE_ALLOCATED_RANGE_BUFFER, [MS-FSCC] 2.3.52
	maxRanges = 1 << 20 // of one AllocatedRanges: 16 MiB of them
	// minSpan is what need not be asked for in parts: its ranges, of a block each, have
	// room in an answer.
	minSpan = 1 << 20
)

// AllocatedRanges lists where between off and off+length the file has storage, by
// FSCTL_QUERY_ALLOCATED_RANGES ([MS-FSCC] 2.3.51): in order, ranges that touch joined,
// cut to what was asked for. All else reads as zeros. What is listed may be zeros too: of
// a file that is not sparse (see SetSparse) servers list everything. The file was opened
// for reading. errors.ErrUnsupported comes from servers that do not know.
func (f *File) AllocatedRanges(ctx context.Context, off, length int64) ([]Range, error) {
	var list []Range
	err := f.ranges(ctx, off, length, f.sh.s.maxAnswer(), func(r Range) bool {
		if n := len(list); n > 0 && list[n-1].Offset+list[n-1].Length == r.Offset {
			list[n-1].Length += r.Length
		} else {
			list = append(list, r)
		}
		return true
	})
	return list, wrap("query allocated ranges", f.name, err)
}

// ranges calls yield for the allocated ranges in [off, off+length), in order and without
// overlaps, until that returns false. An answer has up to room bytes.
func (f *File) ranges(ctx context.Context, off, length int64, room int, yield func(Range) bool) error {
	if off < 0 || length < 0 || off > math.MaxInt64-length {
		return fs.ErrInvalid
	}
	last, span, seen := off+length, length, 0
	for off < last {
		end := off + min(span, last-off)
		list, more, err := f.someRanges(ctx, smb2.AllocatedRange{FileOffset: off, Length: end - off}, room)
		// Samba before 4.22 tells all of them or none.
		if all := f.sh.s.maxAnswer(); errors.Is(err, ntstatus.BufferTooSmall) && (room < all || end-off > minSpan) {
			if room == all {
				span = (end - off) / 2
			}
			room = all
			continue
		}
		if err != nil {
			return err
		}
		if seen++; seen > maxRanges {
			return fmt.Errorf("more than %d answers: %w", maxRanges, ntstatus.InsufficientResources)
		}
		before := off
		for _, r := range list {
			if seen++; seen > maxRanges {
				return fmt.Errorf("more than %d allocated ranges: %w", maxRanges, ntstatus.InsufficientResources)
			}
			// Servers may tell of whole clusters, of which the first begins earlier.
			to := r.FileOffset + r.Length
			start, stop := max(r.FileOffset, off), min(to, end)
			if r.FileOffset < 0 || r.Length < 0 || to < 0 || r.FileOffset >= end || to < off {
				return fmt.Errorf("an allocated range of %d bytes at %d, asked from %d to %d: %w",
					r.Length, r.FileOffset, off, end, ntstatus.InvalidNetworkResponse)
			}
			if start < stop && !yield(Range{start, stop - start}) {
				return nil
			}
			off = stop
		}
		if !more {
			off = end
			continue
		}
		if off == before {
			return fmt.Errorf("a part of the allocated ranges that has none: %w", ntstatus.InvalidNetworkResponse)
		}
	}
	return nil
}

// someRanges is one request. more says that there are ranges behind those in the answer.
func (f *File) someRanges(ctx context.Context, q smb2.AllocatedRange, room int) (list []smb2.AllocatedRange, more bool, err error) {
	in, err := q.AppendBinary(nil)
	if err != nil {
		return nil, false, err
	}
	k, out, err := f.ioctl(ctx, smb2.FsctlQueryAllocatedRanges, in, room/rangeSize*rangeSize, 0, ntstatus.BufferOverflow)
	if err != nil {
		return nil, false, err
	}
	defer k.free()
	if list, err = smb2.ParseAllocatedRanges(out); err != nil {
		return nil, false, k.badBody(err)
	}
	return list, k.resp.Status == ntstatus.BufferOverflow, nil
}

// SeekData returns where data begins at or behind off, as lseek with SEEK_DATA does: off
// itself if it is in data, an error that matches syscall.ENXIO if there is none up to the
// end. The file position stays as it is. Where the server does not know of holes there
// are none.
func (f *File) SeekData(ctx context.Context, off int64) (int64, error) {
	at, err := f.seekData(ctx, off)
	return at, wrap("seek", f.name, err)
}

func (f *File) seekData(ctx context.Context, off int64) (int64, error) {
	size, err := f.sizeBehind(ctx, off)
	if err != nil {
		return 0, err
	}
	at := int64(-1)
	err = f.ranges(ctx, off, size-off, rangeSize, func(r Range) bool { at = r.Offset; return false })
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return off, nil
	case err != nil:
		return 0, err
	case at < 0:
		return 0, syscall.ENXIO
	}
	return at, nil
}

// SeekHole returns where a hole begins at or behind off, as lseek with SEEK_HOLE does;
// behind the end of the file there is one. An off that is not within the file is an error
// that matches syscall.ENXIO. The file position stays as it is.
func (f *File) SeekHole(ctx context.Context, off int64) (int64, error) {
	at, err := f.seekHole(ctx, off)
	return at, wrap("seek", f.name, err)
}

func (f *File) seekHole(ctx context.Context, off int64) (int64, error) {
	size, err := f.sizeBehind(ctx, off)
	if err != nil {
		return 0, err
	}
	at := off
	err = f.ranges(ctx, off, size-off, f.sh.s.maxAnswer(), func(r Range) bool {
		if r.Offset != at {
			return false
		}
		at += r.Length
		return true
	})
	if errors.Is(err, errors.ErrUnsupported) {
		return size, nil
	}
	return at, err
}

// sizeBehind is the size of the file, an error if off is not within.
func (f *File) sizeBehind(ctx context.Context, off int64) (int64, error) {
	size, err := f.size(ctx)
	if err == nil && (off < 0 || off >= size) {
		err = syscall.ENXIO
	}
	return size, err
}

// SetSparse says whether ranges of zeros need no storage, FSCTL_SET_SPARSE ([MS-FSCC]
// 2.3.83). A file that is not sparse any more may keep the holes that it has.
func (f *File) SetSparse(ctx context.Context, sparse bool) error {
	return wrap("set sparse", f.name, f.control(ctx, smb2.FsctlSetSparse, &smb2.SetSparseBuffer{SetSparse: sparse}))
}

// ZeroRange makes length bytes from off read as zeros, FSCTL_SET_ZERO_DATA ([MS-FSCC]
// 2.3.85); a sparse file gives up their storage. The file does not grow: what lies behind
// its end is left out. It was opened for writing.
func (f *File) ZeroRange(ctx context.Context, off, length int64) error {
	err := fs.ErrInvalid
	if off >= 0 && length >= 0 && off <= math.MaxInt64-length {
		err = f.control(ctx, smb2.FsctlSetZeroData, &smb2.ZeroDataInformation{FileOffset: off, BeyondFinalZero: off + length})
	}
	return wrap("zero", f.name, err)
}

// Allocate sets how many bytes of storage the file has, FileAllocationInformation
// ([MS-FSCC] 2.4.4), without a change of its size. But a size above it is cut to it: that
// is what the specification says.
func (f *File) Allocate(ctx context.Context, size int64) error {
	err := fs.ErrInvalid
	if size >= 0 {
		err = f.set(ctx, smb2.ClassFileAllocationInformation, &smb2.FileAllocationInformation{AllocationSize: size})
	}
	return wrap("allocate", f.name, err)
}

// Compressed says whether the server compresses the file, FSCTL_GET_COMPRESSION
// ([MS-FSCC] 2.3.17).
func (f *File) Compressed(ctx context.Context) (bool, error) {
	format, err := f.compression(ctx)
	return format != smb2.CompressionFormatNone, wrap("get compression", f.name, err)
}

func (f *File) compression(ctx context.Context) (smb2.CompressionFormat, error) {
	k, out, err := f.ioctl(ctx, smb2.FsctlGetCompression, nil, 2, 0)
	if err != nil {
		return 0, err
	}
	defer k.free()
	format, err := smb2.ParseCompressionFormat(out)
	if err != nil {
		return 0, k.badBody(err)
	}
	return format, nil
}

// SetCompressed has the server compress the file, or not, FSCTL_SET_COMPRESSION
// ([MS-FSCC] 2.3.67).
func (f *File) SetCompressed(ctx context.Context, on bool) error {
	format := smb2.CompressionFormatNone
	if on {
		format = smb2.CompressionFormatDefault
	}
	return wrap("set compression", f.name, f.control(ctx, smb2.FsctlSetCompression, compressionInput(format)))
}

// compressionInput is the input of FSCTL_SET_COMPRESSION.
type compressionInput smb2.CompressionFormat

// AppendBinary implements body.
func (c compressionInput) AppendBinary(b []byte) ([]byte, error) {
	return smb2.AppendCompressionFormat(b, smb2.CompressionFormat(c)), nil
}

// control sends an FSCTL about the file whose answer says only whether it was done.
func (f *File) control(ctx context.Context, code smb2.CtlCode, m body) error {
	in, err := m.AppendBinary(nil)
	if err != nil {
		return err
	}
	k, _, err := f.ioctl(ctx, code, in, 0, 0)
	if err != nil {
		return err
	}
	k.free()
	return nil
}
