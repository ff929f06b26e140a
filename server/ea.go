package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// maxEAs bounds the attributes of a file that are looked at.
const maxEAs = 1024

// eas returns a file's extended attributes by their names, in order.
func (o *open) eas(ctx context.Context) (vfs.Xattrer, []string, error) {
	x, ok := o.file.(vfs.Xattrer)
	if !ok || o.tree.share.NoEAs {
		return nil, nil, vfs.ErrNotSupported
	}
	names, err := x.ListXattr(ctx)
	if err != nil {
		return x, nil, err
	}
	return x, shownEAs(names), nil
}

// shownEAs are the names of those that clients are told of, in order.
func shownEAs(names []string) []string {
	names = slices.DeleteFunc(names, func(n string) bool { return len(n) > 255 || strings.EqualFold(n, needEAs) })
	slices.Sort(names)
	return names[:min(len(names), maxEAs)]
}

// eaSize is the size of the list that FileFullEaInformation gives, as EaSize has
// it; for a reparse point its tag.
func (o *open) eaSize(ctx context.Context, info *vfs.Info) uint32 {
	if tag := reparseTag(info); tag != 0 {
		return uint32(tag)
	}
	x, names, err := o.eas(ctx)
	if err != nil || len(names) == 0 {
		return 0
	}
	return eaListSize(ctx, x, names)
}

// eaListSize is the size of a list of attributes.
func eaListSize(ctx context.Context, x vfs.Xattrer, names []string) uint32 {
	list := smb2.NewEntryList(nil, maxEAList)
	for _, n := range names {
		if v, err := x.Xattr(ctx, n); err == nil {
			list.AppendEa(smb2.FileFullEaInformation{EaName: n, EaValue: v})
		}
	}
	return uint32(list.Len())
}

// maxEAList bounds a list of extended attributes in octets, [MS-FSCC] 2.4.16.
const maxEAList = 64 << 10

// fullEA answers FileFullEaInformation: all attributes, those that the client
// names, or those from an index on.
func (q *infoQuery) fullEA(ctx context.Context) ntstatus.Status {
	o, req := q.o, &q.req
	if o.access&smb2.FileReadEA == 0 {
		return ntstatus.AccessDenied
	}
	x, names, err := o.eas(ctx)
	if err != nil {
		return eaError(err)
	}
	first := 0
	switch {
	case len(req.Input) > 0:
		there := names
		names = nil
		for n, err := range smb2.FileGetEaInformations(req.Input) {
			if err != nil || len(names) == maxEAs {
				return ntstatus.EAListInconsistent
			}
			names = append(names, spelledEA(there, n))
		}
	case req.Flags&smb2.QueryInfoIndexSpecified != 0:
		i := uint64(req.AdditionalInformation) // from 1
		if i == 0 || i > uint64(len(names)) {
			return ntstatus.NonexistentEAEntry
		}
		first = int(i) - 1
	case req.Flags&smb2.QueryInfoRestartScan == 0:
		first = min(int(o.eaIndex.Load()), len(names))
	}
	scan := len(req.Input) == 0 && req.Flags&smb2.QueryInfoIndexSpecified == 0
	if len(names) == 0 {
		return ntstatus.NoEAsOnFile
	}
	if first == len(names) {
		o.eaIndex.Store(0)
		return ntstatus.NoMoreEAs
	}
	list := smb2.NewEntryList(q.r.out, min(q.room, maxEAList))
	st := ntstatus.Success
	needed := neededEAs(ctx, x)
	for _, n := range names[first:] {
		v, err := x.Xattr(ctx, n)
		if errors.Is(err, syscall.ENODATA) || strings.EqualFold(n, needEAs) {
			v, err = nil, nil // asked for by name: an empty value, [MS-FSA] 2.1.5.12.8
			if scan {
				first++
				continue
			}
		}
		if err != nil {
			return ntstatus.FromError(err)
		}
		if !list.AppendEa(smb2.FileFullEaInformation{Flags: eaFlags(needed, n, v), EaName: n, EaValue: v}) {
			st = ntstatus.BufferOverflow
			break
		}
		if req.Flags&smb2.QueryInfoReturnSingleEntry != 0 {
			break
		}
	}
	if list.Count() == 0 && st == ntstatus.BufferOverflow {
		return ntstatus.BufferTooSmall
	}
	q.r.out = list.Bytes()
	if scan && (st == ntstatus.BufferOverflow || req.Flags&smb2.QueryInfoReturnSingleEntry != 0) {
		o.eaIndex.Store(int32(first + list.Count()))
	}
	return st
}

// setEA sets extended attributes from a FileFullEaInformation list: those with an
// empty value are removed ([MS-FSA] 2.1.5.15.6). The whole list is looked at before
// any of it is.
func (o *open) setEA(ctx context.Context, list []byte) ntstatus.Status {
	var eas []smb2.FileFullEaInformation
	for ea, err := range smb2.FileFullEaInformations(list) {
		if err != nil || len(eas) == maxEAs {
			return ntstatus.EAListInconsistent
		}
		if ea.EaName == "" || strings.ContainsFunc(ea.EaName, badInEAName) {
			return ntstatus.InvalidEAName
		}
		if strings.EqualFold(ea.EaName, needEAs) {
			return ntstatus.AccessDenied
		}
		eas = append(eas, ea)
	}
	x, names, err := o.eas(ctx)
	if err != nil {
		return eaError(err)
	}
	needed := neededEAs(ctx, x)
	before := len(needed)
	for _, ea := range eas {
		name := spelledEA(names, ea.EaName)
		needed = needing(needed, name, ea.Flags&smb2.FileNeedEA != 0 && len(ea.EaValue) > 0)
		if len(ea.EaValue) == 0 {
			if err = x.RemoveXattr(ctx, name); errors.Is(err, syscall.ENODATA) {
				err = nil
			}
		} else {
			err = x.SetXattr(ctx, name, ea.EaValue)
		}
		if err != nil {
			return eaError(err)
		}
	}
	if before+len(needed) == 0 {
		return ntstatus.Success
	}
	return setNeededEAs(ctx, x, needed)
}

// spelledEA is the spelling that an attribute has already: case does not matter to
// clients.
func spelledEA(names []string, name string) string {
	if slices.Contains(names, name) {
		return name
	}
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return n
		}
	}
	return name
}

// eaError is the status of an operation on extended attributes that failed.
func eaError(err error) ntstatus.Status {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return ntstatus.EANotSupported
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.E2BIG), errors.Is(err, syscall.ERANGE):
		return ntstatus.EATooLarge
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG):
		return ntstatus.AccessDenied // a name that the storage keeps for itself
	}
	return ntstatus.FromError(fmt.Errorf("extended attribute: %w", err))
}

// badInEAName are the characters that no name may have, [MS-FSCC] 2.4.16.
func badInEAName(r rune) bool {
	return r < 0x20 || strings.ContainsRune("\"*+,/:;<=>?[\\]|", r) || r == 0xFFFD
}

// entryEASize is eaSize of an entry of the directory. Most have no attributes, which
// the directory may tell without opening them. info is what the storage says of it.
func (o *open) entryEASize(ctx context.Context, name string, info *vfs.Info) uint32 {
	p, ok := o.dir.(vfs.XattrPeeker)
	if !ok || o.tree.share.NoEAs || !info.Mode.IsRegular() && !info.IsDir() {
		return uint32(reparseTag(info))
	}
	if has, err := p.HasXattrs(ctx, name, info); err != nil || !has {
		return 0
	}
	f, _, err := o.fs.Open(ctx, vfs.Join(o.path(), name), vfs.OpenOptions{})
	if err != nil {
		return 0
	}
	defer f.Close()
	x, ok := f.(vfs.Xattrer)
	if there, err := f.Stat(ctx); !ok || err != nil || there.ID != info.ID {
		return 0
	}
	names, err := x.ListXattr(ctx)
	if err != nil {
		return 0
	}
	return eaListSize(ctx, x, shownEAs(names))
}
