package server

import (
	"context"
	"encoding"

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
	case smb2.ClassFilePosixInformation:
		if !o.posix {
			return ntstatus.InvalidInfoClass
		}
		m := posixInfo(&info, basic.FileAttributes)
		return q.fixed(&m)
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
		return q.fixed(&smb2.FileCompressionInformation{
			CompressedFileSize: int64(allocationSize(&info)), CompressionFormat: compressionOf(&info),
		})
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

// standardInfo is [MS-FSCC] 2.4.47. Names that are to be deleted do not count, as on
// NTFS.
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
	m.NumberOfLinks -= min(m.NumberOfLinks, o.doomedNames())
	return m
}
