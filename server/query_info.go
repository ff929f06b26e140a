package server

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// infoQuery is a QUERY_INFO under way.
type infoQuery struct {
	r    *request
	o    *open
	req  smb2.QueryInfoRequest
	room int // the most octets the answer may have
	at   int // where the response begins in r.out
}

// queryInfo serves QUERY_INFO, [MS-SMB2] 3.3.5.20.
func queryInfo(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseQueryInfoRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	if uint64(req.OutputBufferLength) > uint64(r.conn.maxTransact) {
		return ntstatus.InvalidParameter
	}
	q := infoQuery{r: r, o: o, req: req, room: min(int(req.OutputBufferLength), r.room()), at: len(r.out)}
	r.out = beginOutput(r.out)
	switch req.InfoType {
	case smb2.InfoFile:
		st = q.fileInfo(ctx, smb2.FileInfoClass(req.FileInfoClass))
	case smb2.InfoFilesystem:
		st = q.fsInfo(ctx, smb2.FsInfoClass(req.FileInfoClass))
	case smb2.InfoSecurity:
		st = q.security(ctx)
	case smb2.InfoQuota:
		st = ntstatus.NotSupported // 3.3.5.20.4: no storage has user quotas here
	default:
		st = ntstatus.InvalidParameter
	}
	if st == ntstatus.Success || st == ntstatus.BufferOverflow {
		r.out = endOutput(r.out, q.at)
	}
	return st
}

// fixed answers with a structure of fixed size, which must fit.
func (q *infoQuery) fixed(m encoding.BinaryAppender) ntstatus.Status { return q.variable(m, -1) }

// variable answers with a structure for which there must be room for least
// octets, its fixed part with the padding that it has on Windows, and which is cut
// short if the rest does not fit. least below 0 means all of it.
func (q *infoQuery) variable(m encoding.BinaryAppender, least int) ntstatus.Status {
	start := len(q.r.out)
	b, err := m.AppendBinary(q.r.out)
	if err != nil {
		return q.r.appended(err)
	}
	q.r.out = b
	n := len(b) - start
	if least < 0 {
		least = n
	}
	switch {
	case q.room < least:
		q.r.out = b[:start]
		return ntstatus.InfoLengthMismatch
	case q.room < n:
		q.r.out = b[:start+q.room]
		return ntstatus.BufferOverflow
	}
	return ntstatus.Success
}

// needsReadAttributes are the classes of 3.3.5.20.1 that need the right to read
// attributes.
func needsReadAttributes(class smb2.FileInfoClass) bool {
	switch class {
	case smb2.ClassFileBasicInformation, smb2.ClassFileAllInformation, smb2.ClassFilePipeInformation,
		smb2.ClassFilePipeLocalInformation, smb2.ClassFilePipeRemoteInformation,
		smb2.ClassFileNetworkOpenInformation, smb2.ClassFileAttributeTagInformation:
		return true
	}
	return false
}

// fileInfo answers SMB2_0_INFO_FILE, [MS-SMB2] 3.3.5.20.1.
func (q *infoQuery) fileInfo(ctx context.Context, class smb2.FileInfoClass) ntstatus.Status {
	o := q.o
	if needsReadAttributes(class) && o.access&smb2.FileReadAttributes == 0 {
		return ntstatus.AccessDenied
	}
	if o.isPipe {
		return q.pipeInfo(class)
	}
	// Those that need not look at the file first.
	switch class {
	case smb2.ClassFileAccessInformation:
		return q.fixed(&smb2.FileAccessInformation{AccessFlags: o.access})
	case smb2.ClassFilePositionInformation:
		return q.fixed(&smb2.FilePositionInformation{CurrentByteOffset: o.pos.Load()})
	case smb2.ClassFileModeInformation:
		return q.fixed(&smb2.FileModeInformation{Mode: o.modeInfo()})
	case smb2.ClassFileAlignmentInformation:
		return q.fixed(&smb2.FileAlignmentInformation{})
	case smb2.ClassFileFullEaInformation:
		return q.fullEA(ctx)
	case smb2.ClassFileNormalizedNameInformation:
		if q.r.conn.dialect < Dialect311 {
			return ntstatus.NotSupported
		}
		return q.variable(&smb2.FileNormalizedNameInformation{FileName: o.wirePath()}, 8)
	case smb2.ClassFileAlternateNameInformation:
		if o.path() == vfs.Root || o.isStream() {
			return ntstatus.ObjectNameNotFound
		}
		return q.variable(&smb2.FileNameInformation{FileName: o.alternateName()}, 8)
	case smb2.ClassFileNameInformation,
		smb2.ClassFileReparsePointInformation, smb2.ClassFileObjectIDInformation,
		smb2.ClassFileQuotaInformation, smb2.ClassFileHardLinkInformation,
		smb2.ClassFileStandardLinkInformation, smb2.ClassFilePipeInformation,
		smb2.ClassFilePipeLocalInformation, smb2.ClassFilePipeRemoteInformation:
		return ntstatus.NotSupported
	}
	info, err := o.stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	t := timesOf(&info)
	basic := smb2.FileBasicInformation{
		CreationTime: t.CreationTime, LastAccessTime: t.LastAccessTime,
		LastWriteTime: t.LastWriteTime, ChangeTime: t.ChangeTime,
		FileAttributes: fileAttributes(&info),
	}
	switch class {
	case smb2.ClassFileBasicInformation:
		return q.fixed(&basic)
	case smb2.ClassFileStandardInformation:
		m := o.standardInfo(&info)
		return q.fixed(&m)
	case smb2.ClassFileInternalInformation:
		return q.fixed(&smb2.FileInternalInformation{IndexNumber: info.ID.Ino})
	case smb2.ClassFileEaInformation:
		return q.fixed(&smb2.FileEaInformation{EaSize: o.eaSize(ctx, &info)})
	case smb2.ClassFileAllInformation:
		return q.variable(&smb2.FileAllInformation{
			Basic:    basic,
			Standard: o.standardInfo(&info),
			Internal: smb2.FileInternalInformation{IndexNumber: info.ID.Ino},
			Ea:       smb2.FileEaInformation{EaSize: o.eaSize(ctx, &info)},
			Access:   smb2.FileAccessInformation{AccessFlags: o.access},
			Position: smb2.FilePositionInformation{CurrentByteOffset: o.pos.Load()},
			Mode:     smb2.FileModeInformation{Mode: o.modeInfo()},
			Name:     smb2.FileNameInformation{FileName: `\` + o.wirePath()},
		}, 104)
	case smb2.ClassFileStreamInformation:
		return q.streamInfo(ctx)
	case smb2.ClassFileCompressionInformation:
		return q.fixed(&smb2.FileCompressionInformation{CompressedFileSize: int64(allocationSize(&info))})
	case smb2.ClassFileNetworkOpenInformation:
		return q.fixed(&smb2.FileNetworkOpenInformation{
			CreationTime: t.CreationTime, LastAccessTime: t.LastAccessTime,
			LastWriteTime: t.LastWriteTime, ChangeTime: t.ChangeTime,
			AllocationSize: allocationSize(&info), EndOfFile: uint64(info.Size),
			FileAttributes: fileAttributes(&info),
		})
	case smb2.ClassFileAttributeTagInformation:
		return q.fixed(&smb2.FileAttributeTagInformation{FileAttributes: fileAttributes(&info), ReparseTag: reparseTag(&info)})
	case smb2.ClassFileIDInformation:
		if q.r.conn.dialect < Dialect300 {
			return ntstatus.NotSupported
		}
		return q.fixed(&smb2.FileIDInformation{VolumeSerialNumber: info.ID.Dev, FileID: fileID128(info.ID)})
	}
	return ntstatus.InvalidInfoClass
}

// modeInfo is the open's mode, [MS-FSCC] 2.4.31.
func (o *open) modeInfo() smb2.CreateOptions { return smb2.CreateOptions(o.mode.Load()) }

// standardInfo is [MS-FSCC] 2.4.47. A file that is to be deleted counts a link
// less, as on NTFS.
func (o *open) standardInfo(info *vfs.Info) smb2.FileStandardInformation {
	m := smb2.FileStandardInformation{
		AllocationSize: allocationSize(info),
		EndOfFile:      uint64(info.Size),
		NumberOfLinks:  info.Nlink,
		DeletePending:  o.deletePending(),
		Directory:      info.IsDir(),
	}
	if info.IsDir() {
		m.NumberOfLinks = 1 // those of ".", ".." and the subdirectories mean nothing to clients
	}
	if m.DeletePending && m.NumberOfLinks > 0 {
		m.NumberOfLinks--
	}
	return m
}

// maxEAs bounds the attributes of a file that are looked at.
const maxEAs = 1024

// eas returns a file's extended attributes by their names, in order.
func (o *open) eas(ctx context.Context) (vfs.Xattrer, []string, error) {
	x, ok := o.file.(vfs.Xattrer)
	if !ok {
		return nil, nil, vfs.ErrNotSupported
	}
	names, err := x.ListXattr(ctx)
	if err != nil {
		return x, nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return len(n) > 255 })
	slices.Sort(names)
	return x, names[:min(len(names), maxEAs)], nil
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
	if errors.Is(err, errors.ErrUnsupported) {
		return ntstatus.EANotSupported
	}
	if err != nil {
		return ntstatus.FromError(err)
	}
	first := 0
	switch {
	case len(req.Input) > 0:
		names = names[:0:0]
		for n, err := range smb2.FileGetEaInformations(req.Input) {
			if err != nil || len(names) == maxEAs {
				return ntstatus.EAListInconsistent
			}
			names = append(names, n)
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
	for _, n := range names[first:] {
		v, err := x.Xattr(ctx, n)
		if errors.Is(err, syscall.ENODATA) {
			v, err = nil, nil // asked for by name: an empty value, [MS-FSA] 2.1.5.12.8
			if scan {
				first++
				continue
			}
		}
		if err != nil {
			return ntstatus.FromError(err)
		}
		if !list.AppendEa(smb2.FileFullEaInformation{EaName: n, EaValue: v}) {
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
	if scan && st == ntstatus.BufferOverflow {
		o.eaIndex.Store(int32(first + list.Count()))
	}
	return st
}

// setEA sets extended attributes from a FileFullEaInformation list: those with an
// empty value are removed ([MS-FSA] 2.1.5.15.6).
func (o *open) setEA(ctx context.Context, list []byte) ntstatus.Status {
	x, ok := o.file.(vfs.Xattrer)
	if !ok {
		return ntstatus.EANotSupported
	}
	n := 0
	for ea, err := range smb2.FileFullEaInformations(list) {
		if n++; err != nil || n > maxEAs {
			return ntstatus.EAListInconsistent
		}
		if ea.EaName == "" || strings.ContainsFunc(ea.EaName, badInEAName) {
			return ntstatus.InvalidEAName
		}
		if len(ea.EaValue) == 0 {
			err = x.RemoveXattr(ctx, ea.EaName)
			if errors.Is(err, syscall.ENODATA) {
				err = nil
			}
		} else {
			err = x.SetXattr(ctx, ea.EaName, ea.EaValue)
		}
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return ntstatus.EANotSupported
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.E2BIG), errors.Is(err, syscall.ERANGE):
			return ntstatus.EATooLarge
		case err != nil:
			return ntstatus.FromError(fmt.Errorf("extended attribute: %w", err))
		}
	}
	return ntstatus.Success
}

// badInEAName are the characters that no name may have, [MS-FSCC] 2.4.16.
func badInEAName(r rune) bool {
	return r < 0x20 || strings.ContainsRune("\"*+,/:;<=>?[\\]|", r) || r == 0xFFFD
}
