package server

import (
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// fuzzChains gives FuzzMessages compounds to begin with: each opens something and then
// does with it what only can be done with such an open.
func fuzzChains(f *testing.F, chain func(ms ...any) []byte, seed func(messages ...[]byte)) {
	same := smb2.AnyFileID
	bin := func(m body) []byte {
		b, err := m.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	open := func(name string, d smb2.CreateDisposition, access smb2.AccessMask, o smb2.CreateOptions) *smb2.CreateRequest {
		m := createRequest(name, d)
		m.DesiredAccess |= access
		m.CreateOptions = o
		return m
	}
	set := func(class smb2.FileInfoClass, b []byte) *smb2.SetInfoRequest {
		return &smb2.SetInfoRequest{FileID: same, InfoType: smb2.InfoFile, FileInfoClass: uint8(class), Buffer: b}
	}
	query := func(t smb2.InfoType, class uint8, add uint32, in []byte) *smb2.QueryInfoRequest {
		return &smb2.QueryInfoRequest{FileID: same, InfoType: t, FileInfoClass: class, OutputBufferLength: 2000, AdditionalInformation: add, Input: in}
	}
	control := func(code smb2.CtlCode, in []byte) *smb2.IoctlRequest {
		return &smb2.IoctlRequest{FileID: same, CtlCode: code, Flags: 1, Input: in, MaxOutputResponse: 1000}
	}
	write := &smb2.WriteRequest{FileID: same, Data: []byte("0123456789")}
	bye := &smb2.CloseRequest{FileID: same}

	// Oplocks and leases that somebody takes away, and answers to that.
	batch := oplocked(open("o", smb2.FileOpenIf, 0, 0), smb2.OplockLevelBatch)
	seed(chain(smb2.CommandCreate, batch, smb2.CommandWrite, write),
		chain(smb2.CommandCreate, open("o", smb2.FileOverwrite, 0, 0), smb2.CommandRead, &smb2.ReadRequest{FileID: same, Length: 10}),
		chain(smb2.CommandOplockBreak, &smb2.OplockBreakAcknowledgment{FileID: same, OplockLevel: smb2.OplockLevelII}))
	for version := 1; version <= 2; version++ {
		one := leased(f, open("l", smb2.FileOpenIf, 0, 0), version, 1, cacheRWH)
		two := leased(f, open("l", smb2.FileOpenIf, 0, 0), version, 2, cacheRWH)
		seed(chain(smb2.CommandCreate, one), chain(smb2.CommandCreate, two, smb2.CommandWrite, write),
			chain(smb2.CommandOplockBreak, &smb2.LeaseBreakAcknowledgment{LeaseKey: smb2.GUID{1}, LeaseState: smb2.LeaseReadCaching | smb2.LeaseHandleCaching}),
			chain(smb2.CommandCreate, open("L", smb2.FileOpen, smb2.Delete, smb2.FileDeleteOnClose), smb2.CommandClose, bye),
			chain(smb2.CommandOplockBreak, &smb2.LeaseBreakAcknowledgment{LeaseKey: smb2.GUID{2}}))
	}
	dir := leased(f, open("d", smb2.FileOpenIf, 0, smb2.FileDirectoryFile), 2, 3, cacheRWH)
	seed(chain(smb2.CommandCreate, dir, smb2.CommandQueryDirectory, &smb2.QueryDirectoryRequest{FileID: same, FileInformationClass: 37, OutputBufferLength: 1000, FileName: smb2.EncodeUTF16("*")}),
		chain(smb2.CommandCreate, open(`d\n`, smb2.FileCreate, 0, 0)),
		chain(smb2.CommandOplockBreak, &smb2.LeaseBreakAcknowledgment{LeaseKey: smb2.GUID{3}}))

	// Durable and persistent opens that are asked for again.
	kept := withContext(f, leased(f, open("p", smb2.FileOpenIf, 0, 0), 2, 4, cacheRWH), smb2.CreateContextDurableHandleV2,
		&smb2.DurableHandleRequestV2{CreateGUID: smb2.GUID{4}, Timeout: 1000, Flags: smb2.DHandleFlagPersistent})
	back := withContext(f, leased(f, createRequest("p", smb2.FileOpen), 2, 4, cacheRWH), smb2.CreateContextDurableHandleV2Reconn,
		&smb2.DurableHandleReconnectV2{CreateGUID: smb2.GUID{4}, FileID: same, Flags: smb2.DHandleFlagPersistent})
	seed(chain(smb2.CommandCreate, kept), chain(smb2.CommandCreate, kept), chain(smb2.CommandCreate, back, smb2.CommandWrite, write), chain(smb2.CommandLogoff, &smb2.LogoffRequest{}))

	lost := []byte{}
	mine := func() *smb2.CreateRequest {
		m := leased(f, createRequest("f", smb2.FileOpen), 2, 9, cacheRWH)
		return withContext(f, m, smb2.CreateContextDurableHandleV2Reconn, &smb2.DurableHandleReconnectV2{CreateGUID: smb2.GUID{9}, FileID: same, Flags: smb2.DHandleFlagPersistent})
	}
	seed(lost, chain(smb2.CommandCreate, mine(), smb2.CommandWrite, write), lost,
		chain(smb2.CommandCreate, open("f", smb2.FileOverwrite, smb2.Delete, smb2.FileDeleteOnClose), smb2.CommandRead, &smb2.ReadRequest{FileID: same, Length: 10}),
		chain(smb2.CommandCreate, mine()), chain(smb2.CommandCreate, fuzzPersistent(f, createRequest("f", smb2.FileOpen))))
	resilient := chain(smb2.CommandIoctl, control(smb2.FsctlLMRRequestResiliency, []byte{0, 0, 1, 0, 0, 0, 0, 0}))
	seed(resilient, lost, chain(smb2.CommandCreate, reconnect1(f, "f", same), smb2.CommandWrite, write))

	// Streams: written, listed, renamed to and from the main one, deleted.
	seed(chain(smb2.CommandCreate, open("f:s:$DATA", smb2.FileOpenIf, 0, 0), smb2.CommandWrite, write,
		smb2.CommandSetInfo, set(smb2.ClassFileEndOfFileInformation, []byte{3, 0, 0, 0, 0, 0, 0, 0}),
		smb2.CommandSetInfo, set(smb2.ClassFileRenameInformation, bin(&smb2.FileRenameInformation{FileName: ":t:$DATA", ReplaceIfExists: true})),
		smb2.CommandQueryInfo, query(smb2.InfoFile, uint8(smb2.ClassFileStreamInformation), 0, nil),
		smb2.CommandSetInfo, set(smb2.ClassFileRenameInformation, bin(&smb2.FileRenameInformation{FileName: "::$DATA", ReplaceIfExists: true}))),
		chain(smb2.CommandCreate, open("f:u", smb2.FileSupersede, smb2.Delete, smb2.FileDeleteOnClose), smb2.CommandClose, bye))

	// Security descriptors: asked for, replaced, given at creation.
	owner, group := smb2.SIDUnixUser(0), smb2.SIDUnixGroup(0)
	sd := smb2.SecurityDescriptor{Owner: &owner, Group: &group, DACL: &smb2.ACL{ACEs: []smb2.ACE{
		{SID: smb2.SIDEveryone, Mask: smb2.GenericAll, Flags: smb2.ACEObjectInherit | smb2.ACEContainerInherit},
		{Type: smb2.ACEAccessDenied, SID: owner, Mask: smb2.FileWriteData},
	}}}
	all := uint32(smb2.OwnerSecurityInformation | smb2.GroupSecurityInformation | smb2.DACLSecurityInformation)
	described := withContext(f, open("sd", smb2.FileOpenIf, smb2.ReadControl|smb2.WriteDAC|smb2.WriteOwner, smb2.FileDirectoryFile), smb2.CreateContextSDBuffer, rawContext(bin(&sd)))
	seed(chain(smb2.CommandCreate, withContext(f, described, smb2.CreateContextQueryMaximalAccess, rawContext{}),
		smb2.CommandQueryInfo, query(smb2.InfoSecurity, 0, all, nil),
		smb2.CommandSetInfo, &smb2.SetInfoRequest{FileID: same, InfoType: smb2.InfoSecurity, AdditionalInformation: all, Buffer: bin(&sd)},
		smb2.CommandQueryInfo, query(smb2.InfoSecurity, 0, all, nil)),
		chain(smb2.CommandCreate, open(`sd\in`, smb2.FileOpenIf, smb2.MaximumAllowed, 0), smb2.CommandQueryInfo, query(smb2.InfoSecurity, 0, all, nil)))

	// Extended attributes.
	seed(chain(smb2.CommandCreate, withContext(f, open("ea", smb2.FileOverwriteIf, smb2.FileReadEA|smb2.FileWriteEA, 0), smb2.CreateContextEABuffer, rawContext(eaList("a", "1", "b", "2"))),
		smb2.CommandSetInfo, set(smb2.ClassFileFullEaInformation, eaList("A", "", "c", "3")),
		smb2.CommandQueryInfo, query(smb2.InfoFile, uint8(smb2.ClassFileFullEaInformation), 2, nil),
		smb2.CommandQueryInfo, query(smb2.InfoFile, uint8(smb2.ClassFileFullEaInformation), 0, []byte("\x00\x00\x00\x00\x01b\x00")),
		smb2.CommandQueryInfo, query(smb2.InfoFile, uint8(smb2.ClassFileAllInformation), 0, nil)))

	// Content without READ and WRITE.
	copyIt := smb2.CopyChunkCopy{Chunks: []smb2.CopyChunk{{Length: 50, TargetOffset: 5}, {SourceOffset: 1 << 40, Length: 1}}}
	for i := range 16 {
		copyIt.SourceKey[i] = 0xFF
	}
	region := bin(&smb2.FileRegion{Length: 1 << 20, Usage: smb2.FileRegionValidCached})
	seed(chain(smb2.CommandCreate, open("c", smb2.FileOpenIf, 0, 0),
		smb2.CommandIoctl, control(smb2.FsctlSetSparse, nil),
		smb2.CommandIoctl, control(smb2.FsctlSrvCopychunk, bin(&copyIt)),
		smb2.CommandIoctl, control(smb2.FsctlDuplicateExtentsToFile, bin(&smb2.DuplicateExtentsData{SourceFileID: same, ByteCount: 50, TargetFileOffset: 4096})),
		smb2.CommandIoctl, control(smb2.FsctlSetZeroData, bin(&smb2.ZeroDataInformation{FileOffset: 3, BeyondFinalZero: 9000})),
		smb2.CommandIoctl, control(smb2.FsctlQueryAllocatedRanges, region[:16]),
		smb2.CommandIoctl, control(smb2.FsctlQueryFileRegions, region),
		smb2.CommandIoctl, control(smb2.FsctlFileLevelTrim, append([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1, 0, 0, 0, 0, 0, 0, 0)),
		smb2.CommandSetInfo, set(smb2.ClassFileAllocationInformation, []byte{0, 0, 1, 0, 0, 0, 0, 0}),
		smb2.CommandSetInfo, set(smb2.ClassFileValidDataLengthInformation, []byte{4, 0, 0, 0, 0, 0, 0, 0}),
		smb2.CommandLock, &smb2.LockRequest{FileID: same, Locks: []smb2.LockElement{{Length: 5, Flags: lockNow}, {Offset: ^uint64(0), Length: 1, Flags: lockNow}}}))
	var other []any
	for _, code := range []smb2.CtlCode{
		smb2.FsctlSrvRequestResumeKey, smb2.FsctlSrvReadHash, smb2.FsctlCreateOrGetObjectID, smb2.FsctlSetObjectID, smb2.FsctlGetCompression,
		smb2.FsctlGetNTFSVolumeData, smb2.FsctlIsPathnameValid, smb2.FsctlSetIntegrityInformation, smb2.FsctlOffloadRead, smb2.FsctlDuplicateExtentsToFileEx,
		smb2.FsctlDFSGetReferrals, smb2.FsctlDFSGetReferralsEx, smb2.FsctlPipeWait, smb2.FsctlPipeTransceive, smb2.FsctlPipePeek,
	} {
		other = append(other, smb2.CommandIoctl, control(code, make([]byte, 64)))
	}
	seed(chain(append([]any{smb2.CommandCreate, open("c", smb2.FileOpenIf, 0, 0)}, other...)...))

	// Links, and files that become links while they are open.
	link := bin(&smb2.SymbolicLinkReparseBuffer{SubstituteName: `..\..\x`, PrintName: "x", Flags: smb2.SymlinkFlagRelative})
	seed(chain(smb2.CommandCreate, open("r", smb2.FileOpenIf, smb2.FileWriteAttributes, smb2.FileOpenReparsePoint),
		smb2.CommandIoctl, control(smb2.FsctlSetReparsePoint, link), smb2.CommandIoctl, control(smb2.FsctlGetReparsePoint, nil),
		smb2.CommandWrite, write, smb2.CommandQueryInfo, query(smb2.InfoFile, uint8(smb2.ClassFileAllInformation), 0, nil)),
		chain(smb2.CommandCreate, open(`r\in`, smb2.FileOpenIf, 0, 0)),
		chain(smb2.CommandCreate, open("r", smb2.FileOpen, smb2.FileWriteAttributes, smb2.FileOpenReparsePoint),
			smb2.CommandIoctl, control(smb2.FsctlDeleteReparsePoint, link[:8]), smb2.CommandClose, bye))

	// Names that change: hard links, renames, deletions of both kinds.
	seed(chain(smb2.CommandCreate, open("n", smb2.FileOpenIf, smb2.Delete, 0),
		smb2.CommandSetInfo, set(smb2.ClassFileLinkInformation, bin(&smb2.FileLinkInformation{FileName: `..\m`})),
		smb2.CommandSetInfo, set(smb2.ClassFileLinkInformation, bin(&smb2.FileLinkInformation{FileName: "m", ReplaceIfExists: true})),
		smb2.CommandSetInfo, set(smb2.ClassFileRenameInformationEx, bin(&smb2.FileRenameInformationEx{Flags: 3, FileName: "f"})),
		smb2.CommandSetInfo, set(smb2.ClassFileDispositionInformationEx, []byte{3, 0, 0, 0}),
		smb2.CommandQueryInfo, query(smb2.InfoFile, uint8(smb2.ClassFileNormalizedNameInformation), 0, nil), smb2.CommandClose, bye),
		chain(smb2.CommandCreate, open("veto", smb2.FileOpenIf, 0, 0)))

	// POSIX extensions.
	posix := posixRequest(f, "a/b:*", smb2.FileOpenIf, 0o4755)
	seed(chain(smb2.CommandCreate, posixRequest(f, "a", smb2.FileOpenIf, 0o1777|1<<30)), chain(smb2.CommandCreate, posix, smb2.CommandWrite, write,
		smb2.CommandQueryInfo, query(smb2.InfoFile, uint8(smb2.ClassFilePosixInformation), 0, nil),
		smb2.CommandQueryInfo, query(smb2.InfoFilesystem, 100, 0, nil),
		smb2.CommandSetInfo, set(smb2.ClassFileRenameInformation, bin(&smb2.FileRenameInformation{FileName: "A", ReplaceIfExists: true})),
		smb2.CommandSetInfo, set(smb2.ClassFileDispositionInformationEx, []byte{3, 0, 0, 0})),
		chain(smb2.CommandCreate, posixRequest(f, "", smb2.FileOpen, 0), smb2.CommandQueryDirectory, &smb2.QueryDirectoryRequest{FileID: same, FileInformationClass: smb2.ClassFilePosixInformation, OutputBufferLength: 1000, FileName: smb2.EncodeUTF16("*")}))

	// Snapshots.
	then := smb2.TimewarpToken{Timestamp: smb2.FiletimeOf(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC))}
	old := withContext(f, open("sub", smb2.FileOpen, 0, 0), smb2.CreateContextTimewarpToken, &then)
	old.DesiredAccess = smb2.FileReadData
	seed(chain(smb2.CommandCreate, open("", smb2.FileOpen, 0, smb2.FileDirectoryFile), smb2.CommandIoctl, control(smb2.FsctlSrvEnumerateSnapshots, nil)),
		chain(smb2.CommandCreate, old, smb2.CommandSetInfo, set(smb2.ClassFileBasicInformation, make([]byte, 40)),
			smb2.CommandQueryDirectory, &smb2.QueryDirectoryRequest{FileID: same, FileInformationClass: 37, OutputBufferLength: 1000, FileName: smb2.EncodeUTF16("*")}),
		chain(smb2.CommandCreate, open(fuzzSnapshot+`\sub`, smb2.FileOpen, 0, 0)))

	// What is watched while it changes.
	seed(chain(smb2.CommandCreate, open("w", smb2.FileOpenIf, 0, smb2.FileDirectoryFile), smb2.CommandChangeNotify, &smb2.ChangeNotifyRequest{FileID: same, Flags: smb2.WatchTree, OutputBufferLength: 200, CompletionFilter: 0xFFF}),
		chain(smb2.CommandCreate, open(`w\x`, smb2.FileCreate, smb2.Delete, 0), smb2.CommandSetInfo, set(smb2.ClassFileRenameInformation, bin(&smb2.FileRenameInformation{FileName: `w\y`})), smb2.CommandClose, bye))
}
