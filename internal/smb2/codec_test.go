package smb2

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// encoder is what every message and structure is.
type encoder interface {
	AppendBinary([]byte) ([]byte, error)
}

// parser makes any Parse function one that gives an encoder.
func parser[T any, P interface {
	*T
	encoder
}](parse func([]byte) (T, error)) func([]byte) (encoder, error) {
	return func(b []byte) (encoder, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return P(&v), nil
	}
}

// row is a message or structure with its octets, written by hand.
type row struct {
	name  string
	parse func([]byte) (encoder, error)
	value encoder
	wire  string // hexadecimal; white space is for the reader
	// slack is the number of octets at the end that may be missing: those that
	// stand for an empty buffer, and padding.
	slack int
}

// unhex decodes hexadecimal with white space in it.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("bad hex in test: %v", err)
	}
	return b
}

// u is a string in UTF-16LE as hexadecimal; ASCII only.
func u(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteString(hex.EncodeToString([]byte{c, 0}))
	}
	return b.String()
}

// readVector reads a file of testdata: comments with #, then hexadecimal.
func readVector(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "#") {
			s.WriteString(line)
		}
	}
	return unhex(t, s.String())
}

// anyHeader is a header for tests that look at bodies.
func anyHeader() []byte { return (&Header{Command: CommandEcho, MessageID: 7}).Append(nil) }

func wantMalformed(t *testing.T, err error, what string) {
	t.Helper()
	if !errors.Is(err, ErrMalformed) || !errors.Is(err, ntstatus.InvalidParameter) {
		t.Errorf("%s: got error %v, want one that is ErrMalformed and STATUS_INVALID_PARAMETER", what, err)
	}
}

func testRows(t *testing.T, rows []row, prefix []byte) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			want := unhex(t, r.wire)
			// What is already in the slice must not matter.
			before := []byte("before")
			got, err := r.value.AppendBinary(bytes.Clone(before))
			if err != nil {
				t.Fatalf("AppendBinary: %v", err)
			}
			if !bytes.HasPrefix(got, before) || !bytes.Equal(got[len(before):], want) {
				t.Errorf("AppendBinary\n got %x\nwant %x", got[len(before):], want)
			}
			msg := append(bytes.Clone(prefix), want...)
			v, err := r.parse(msg)
			if err != nil {
				t.Fatalf("parse %x: %v", msg, err)
			}
			if !reflect.DeepEqual(v, r.value) {
				t.Errorf("parse %x\n got %+v\nwant %+v", msg, v, r.value)
			}
			for n := range len(msg) - r.slack {
				if _, err := r.parse(msg[:n:n]); err == nil {
					t.Errorf("parse of the first %d of %d octets gave no error", n, len(msg))
				} else {
					wantMalformed(t, err, "truncated")
				}
			}
			for n := len(msg) - r.slack; n < len(msg); n++ {
				if _, err := r.parse(msg[:n:n]); err != nil {
					t.Errorf("parse without the last %d octets, which need not be there: %v", len(msg)-n, err)
				}
			}
			// A wrong StructureSize ([MS-SMB2] 2.2: each has one value) is refused.
			if len(prefix) > 0 {
				msg[HeaderSize] ^= 0x80
				if _, err := r.parse(msg); err == nil {
					t.Errorf("StructureSize %#x gave no error", msg[HeaderSize])
				}
			}
		})
	}
}

var (
	guidA = GUID{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f}
	guidB = GUID{0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f}
	// fid45 is the FileId of [MS-SMB2] 4.5, fid46 that of 4.6.
	fid45 = FileID{0x11, 0xFFFFFFFF00000009}
	fid46 = FileID{0x19, 0xFFFFFFFF00000005}
)

const (
	hexA     = "101112131415161718191a1b1c1d1e1f"
	hexB     = "202122232425262728292a2b2c2d2e2f"
	hexFid45 = "1100000000000000 09000000ffffffff"
	hexFid46 = "1900000000000000 05000000ffffffff"
)

// messageRows has every message; those with a section number are the samples
// of [MS-SMB2] section 4.
func messageRows() []row {
	return []row{
		{"NEGOTIATE request, four dialects", parser(ParseNegotiateRequest),
			&NegotiateRequest{SecurityMode: NegotiateSigningEnabled, Capabilities: 0x7f, ClientGUID: guidA,
				Dialects: []Dialect{DialectSMB202, DialectSMB210, DialectSMB300, DialectSMB302}},
			`2400 0400 0100 0000 7f000000` + hexA + `00000000 00000000 0202 1002 0003 0203`, 0},
		{"NEGOTIATE request 3.1.1", parser(ParseNegotiateRequest),
			&NegotiateRequest{SecurityMode: NegotiateSigningEnabled | NegotiateSigningRequired,
				Capabilities: GlobalCapEncryption, ClientGUID: guidB, Dialects: []Dialect{DialectSMB311},
				Contexts: []NegotiateContext{
					{ContextPreauthIntegrityCapabilities, []byte{1, 0, 2, 0, 1, 0, 0xaa, 0xbb}},
					{ContextEncryptionCapabilities, []byte{1, 0, 2, 0}},
					{ContextRDMATransformCapabilities, nil},
				}},
			`2400 0100 0300 0000 40000000` + hexB + `68000000 0300 0000 1103 0000
			 0100 0800 00000000 0100 0200 0100 aabb
			 0200 0400 00000000 0100 0200 00000000
			 0700 0000 00000000`, 0},
		{"NEGOTIATE response 4.3", parser(ParseNegotiateResponse),
			&NegotiateResponse{SecurityMode: NegotiateSigningEnabled, DialectRevision: DialectSMB202, ServerGUID: guidA,
				Capabilities: GlobalCapDFS, MaxTransactSize: 65536, MaxReadSize: 65536, MaxWriteSize: 65536,
				SystemTime: 127972992061679232, ServerStartTime: 127972985895467232, SecurityBuffer: []byte{0x60, 0x1c, 6}},
			`4100 0100 0202 0000` + hexA + `01000000 00000100 00000100 00000100
			 8026ae1cc2a6c601 e03825adc0a6c601 8000 0300 00000000 601c06`, 0},
		{"NEGOTIATE response 3.1.1", parser(ParseNegotiateResponse),
			&NegotiateResponse{DialectRevision: DialectSMB311, ServerGUID: guidB, MaxReadSize: 0x800000,
				SecurityBuffer: []byte{1, 2, 3},
				Contexts:       []NegotiateContext{{ContextSigningCapabilities, []byte{1, 0, 2, 0}}}},
			`4100 0000 1103 0100` + hexB + `00000000 00000000 00008000 00000000
			 0000000000000000 0000000000000000 8000 0300 88000000 010203 0000000000
			 0800 0400 00000000 0100 0200`, 0},
		{"SESSION_SETUP request 4.3", parser(ParseSessionSetupRequest),
			&SessionSetupRequest{SecurityMode: NegotiateSigningEnabled, Capabilities: GlobalCapDFS, SecurityBuffer: []byte{0x60, 0x48}},
			`1900 00 01 01000000 00000000 5800 0200 0000000000000000 6048`, 0},
		{"SESSION_SETUP request, binding, no token", parser(ParseSessionSetupRequest),
			&SessionSetupRequest{Flags: SessionSetupFlagBinding, PreviousSessionID: 0x40000000009},
			`1900 01 00 00000000 00000000 5800 0000 0900000000040000 00`, 1},
		{"SESSION_SETUP response 4.3", parser(ParseSessionSetupResponse),
			&SessionSetupResponse{SecurityBuffer: []byte{0xa1, 0x1b, 0x30}},
			`0900 0000 4800 0300 a11b30`, 0},
		{"SESSION_SETUP response, guest", parser(ParseSessionSetupResponse),
			&SessionSetupResponse{SessionFlags: SessionFlagIsGuest}, `0900 0100 4800 0000 00`, 1},
		{"LOGOFF request 4.7", parser(ParseLogoffRequest), &LogoffRequest{}, `0400 0000`, 0},
		{"LOGOFF response 4.7", parser(ParseLogoffResponse), &LogoffResponse{}, `0400 0000`, 0},
		{"TREE_CONNECT request 4.3", parser(ParseTreeConnectRequest),
			&TreeConnectRequest{Path: EncodeUTF16(`\\smb2server\IPC$`)}, `0900 0000 4800 2200` + u(`\\smb2server\IPC$`), 0},
		{"TREE_CONNECT request with extension", parser(ParseTreeConnectRequest),
			&TreeConnectRequest{Flags: TreeConnectFlagExtensionPresent, Path: EncodeUTF16(`\\s\d`),
				Contexts: []TreeConnectContext{{TreeConnectContextRemotedIdentity, []byte{9, 8}}}},
			`0900 0400 5800 0a00 28000000 0100 00000000000000000000` + u(`\\s\d`) + `000000000000 0100 0200 00000000 0908`, 0},
		{"TREE_CONNECT response 4.3", parser(ParseTreeConnectResponse),
			&TreeConnectResponse{ShareType: ShareTypePipe, ShareFlags: ShareFlagNoCaching, MaximalAccess: FileAllAccess},
			`1000 02 00 30000000 00000000 ff011f00`, 0},
		{"TREE_DISCONNECT request 4.7", parser(ParseTreeDisconnectRequest), &TreeDisconnectRequest{}, `0400 0000`, 0},
		{"TREE_DISCONNECT response 4.7", parser(ParseTreeDisconnectResponse), &TreeDisconnectResponse{}, `0400 0000`, 0},
		{"CREATE request 4.5", parser(ParseCreateRequest),
			&CreateRequest{RequestedOplockLevel: OplockLevelBatch, ImpersonationLevel: ImpersonationImpersonation,
				DesiredAccess: FileGenericRead, FileAttributes: FileAttributeNormal, ShareAccess: FileShareRead | FileShareWrite,
				CreateDisposition: FileOpen, CreateOptions: FileNonDirectoryFile | FileSynchronousIONonalert, Name: EncodeUTF16("testfile.txt")},
			`3900 00 09 02000000 0000000000000000 0000000000000000 89001200 80000000 03000000 01000000 60000000
			 7800 1800 00000000 00000000` + u("testfile.txt"), 0},
		{"CREATE request of the root", parser(ParseCreateRequest), &CreateRequest{},
			`3900 00 00 00000000 0000000000000000 0000000000000000 00000000 00000000 00000000 00000000 00000000
			 7800 0000 00000000 00000000 00`, 1},
		{"CREATE request with contexts", parser(ParseCreateRequest),
			&CreateRequest{Name: EncodeUTF16("a"), Contexts: []byte{0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'M', 'x', 'A', 'c', 0, 0, 0, 0}},
			`3900 00 00 00000000 0000000000000000 0000000000000000 00000000 00000000 00000000 00000000 00000000
			 7800 0200 80000000 18000000 6100 000000000000
			 00000000 1000 0400 0000 0000 00000000 4d784163 00000000`, 0},
		{"CREATE response 4.5", parser(ParseCreateResponse),
			&CreateResponse{OplockLevel: OplockLevelBatch, Flags: 9, CreateAction: FileOpened, CreationTime: 127972992877715232,
				LastAccessTime: 127972992923579232, LastWriteTime: 127972992923579232, ChangeTime: 127972992923579232,
				AllocationSize: 104, EndOfFile: 98, FileAttributes: FileAttributeArchive, FileID: fid45},
			`5900 09 09 01000000 20df514dc2a6c601 60b30d50c2a6c601 60b30d50c2a6c601 60b30d50c2a6c601
			 6800000000000000 6200000000000000 20000000 00000000` + hexFid45 + `00000000 00000000`, 0},
		{"CLOSE request 4.5", parser(ParseCloseRequest),
			&CloseRequest{Flags: CloseFlagPostqueryAttrib, FileID: FileID{9, 0xFFFFFFFF00000001}},
			`1800 0100 00000000 0900000000000000 01000000ffffffff`, 0},
		{"CLOSE response 4.5", parser(ParseCloseResponse),
			&CloseResponse{Flags: CloseFlagPostqueryAttrib, CreationTime: 127972990708847232, LastAccessTime: 127972993090343232,
				LastWriteTime: 127972992877715232, ChangeTime: 127972992877715232, FileAttributes: FileAttributeDirectory},
			`3c00 0100 00000000 80920bccc1a6c601 4051fe59c2a6c601 20df514dc2a6c601 20df514dc2a6c601
			 0000000000000000 0000000000000000 10000000`, 0},
		{"FLUSH request", parser(ParseFlushRequest), &FlushRequest{FileID: fid46}, `1800 0000 00000000` + hexFid46, 0},
		{"FLUSH response", parser(ParseFlushResponse), &FlushResponse{}, `0400 0000`, 0},
		{"READ request 4.5", parser(ParseReadRequest), &ReadRequest{Padding: ReadDataOffset, Length: 98, FileID: fid45},
			`3100 50 00 62000000 0000000000000000` + hexFid45 + `00000000 00000000 00000000 0000 0000 00`, 1},
		{"READ request by RDMA", parser(ParseReadRequest),
			&ReadRequest{Flags: ReadFlagReadUnbuffered, Length: 0x100000, Offset: 0x1122334455667788, FileID: fid46, MinimumCount: 1,
				Channel: ChannelRDMAV1Invalidate, RemainingBytes: 0x100000,
				ChannelInfo: BufferDescriptor{0xABCDE012, 0x1A00BC56, 0x100000}.Append(nil)},
			`3100 00 01 00001000 8877665544332211` + hexFid46 + `01000000 02000000 00001000 7000 1000
			 12e0cdab00000000 56bc001a 00001000`, 0},
		{"READ response 4.5", parser(ParseReadResponse), &ReadResponse{DataLength: 5, Data: []byte("hello")},
			`1100 50 00 05000000 00000000 00000000 68656c6c6f`, 0},
		{"READ response by RDMA", parser(ParseReadResponse), &ReadResponse{DataRemaining: 0x100000},
			`1100 50 00 00000000 00001000 00000000`, 0},
		{"WRITE request 4.6", parser(ParseWriteRequest),
			&WriteRequest{Length: 4, Offset: 65536, FileID: fid46, Data: []byte("data")},
			`3100 7000 04000000 0000010000000000` + hexFid46 + `00000000 00000000 0000 0000 00000000 64617461`, 0},
		// The SMB message of the two-fragment SMB Direct vector.
		{"WRITE request by RDMA", parser(ParseWriteRequest),
			&WriteRequest{FileID: FileID{0x0000000100000001, 0x0000000200000002}, Channel: ChannelRDMAV1Invalidate,
				RemainingBytes: 0x100000, ChannelInfo: BufferDescriptor{0xABCDE012, 0x1A00BC56, 0x100000}.Append(nil)},
			`31000000 00000000 00000000 00000000 01000000 01000000 02000000 02000000 02000000 00001000
			 70001000 00000000 12e0cdab 00000000 56bc001a 00001000`, 0},
		{"WRITE response 4.6", parser(ParseWriteResponse), &WriteResponse{Count: 65536},
			`1100 0000 00000100 00000000 0000 0000`, 0},
		{"LOCK request", parser(ParseLockRequest),
			&LockRequest{LockSequenceNumber: 5, LockSequenceIndex: 64, FileID: fid46, Locks: []LockElement{
				{0, 10, LockFlagExclusiveLock | LockFlagFailImmediately}, {1 << 63, ^uint64(0), LockFlagUnlock}}},
			`3000 0200 05040000` + hexFid46 + `0000000000000000 0a00000000000000 12000000 00000000
			 0000000000000080 ffffffffffffffff 04000000 00000000`, 0},
		{"LOCK response", parser(ParseLockResponse), &LockResponse{}, `0400 0000`, 0},
		{"ECHO request", parser(ParseEchoRequest), &EchoRequest{}, `0400 0000`, 0},
		{"ECHO response", parser(ParseEchoResponse), &EchoResponse{}, `0400 0000`, 0},
		{"CANCEL request", parser(ParseCancelRequest), &CancelRequest{}, `0400 0000`, 0},
		{"IOCTL request", parser(ParseIoctlRequest),
			&IoctlRequest{CtlCode: FsctlPipeTransceive, FileID: fid46, MaxOutputResponse: 1024, Flags: IoctlFlagIsFsctl, Input: []byte{5, 0, 11}},
			`3900 0000 17c01100` + hexFid46 + `78000000 03000000 00000000 00000000 00000000 00040000 01000000 00000000 05000b`, 0},
		{"IOCTL request without input", parser(ParseIoctlRequest),
			&IoctlRequest{CtlCode: FsctlQueryNetworkInterfaceInfo, FileID: AnyFileID, MaxOutputResponse: 0x10000, Flags: IoctlFlagIsFsctl},
			`3900 0000 fc011400 ffffffffffffffff ffffffffffffffff 78000000 00000000 00000000 00000000 00000000 00000100 01000000 00000000 00`, 1},
		{"IOCTL response", parser(ParseIoctlResponse),
			&IoctlResponse{CtlCode: FsctlValidateNegotiateInfo, FileID: AnyFileID, Output: []byte{1, 2}},
			`3100 0000 04021400 ffffffffffffffff ffffffffffffffff 70000000 00000000 70000000 02000000 00000000 00000000 0102`, 0},
		{"IOCTL response with input", parser(ParseIoctlResponse),
			&IoctlResponse{CtlCode: FsctlPipePeek, FileID: fid46, Input: []byte{7}, Output: []byte{8}},
			`3100 0000 0c401100` + hexFid46 + `70000000 01000000 78000000 01000000 00000000 00000000 07 00000000000000 08`, 0},
		{"QUERY_DIRECTORY request", parser(ParseQueryDirectoryRequest),
			&QueryDirectoryRequest{FileInformationClass: ClassFileIDBothDirectoryInformation, Flags: QueryDirectoryRestartScans,
				FileIndex: 3, FileID: fid45, FileName: EncodeUTF16("*"), OutputBufferLength: 65536},
			`2100 25 01 03000000` + hexFid45 + `6000 0200 00000100 2a00`, 0},
		{"QUERY_DIRECTORY response", parser(ParseQueryDirectoryResponse),
			&QueryDirectoryResponse{OutputBufferLength: 3, OutputBuffer: []byte{1, 2, 3}}, `0900 4800 03000000 010203`, 0},
		{"CHANGE_NOTIFY request", parser(ParseChangeNotifyRequest),
			&ChangeNotifyRequest{Flags: WatchTree, OutputBufferLength: 2048, FileID: fid45, CompletionFilter: FileNotifyChangeFileName | FileNotifyChangeStreamWrite},
			`2000 0100 00080000` + hexFid45 + `01080000 00000000`, 0},
		{"CHANGE_NOTIFY response, empty", parser(ParseChangeNotifyResponse), &ChangeNotifyResponse{}, `0900 4800 00000000 00`, 1},
		{"QUERY_INFO request", parser(ParseQueryInfoRequest),
			&QueryInfoRequest{InfoType: InfoSecurity, OutputBufferLength: 0x400,
				AdditionalInformation: uint32(OwnerSecurityInformation | DACLSecurityInformation), FileID: fid45},
			`2900 03 00 00040000 0000 0000 00000000 05000000 00000000` + hexFid45 + `00`, 1},
		{"QUERY_INFO request with input", parser(ParseQueryInfoRequest),
			&QueryInfoRequest{InfoType: InfoFile, FileInfoClass: uint8(ClassFileFullEaInformation), OutputBufferLength: 16,
				Flags: QueryInfoRestartScan, FileID: fid45, Input: []byte{0xee}},
			`2900 01 0f 10000000 6800 0000 01000000 00000000 01000000` + hexFid45 + `ee`, 0},
		{"QUERY_INFO response", parser(ParseQueryInfoResponse),
			&QueryInfoResponse{OutputBufferLength: 1, OutputBuffer: []byte{0xff}}, `0900 4800 01000000 ff`, 0},
		{"SET_INFO request 4.6", parser(ParseSetInfoRequest),
			&SetInfoRequest{InfoType: InfoFile, FileInfoClass: uint8(ClassFileEndOfFileInformation), FileID: fid46,
				Buffer: []byte{0, 0xf0, 2, 0, 0, 0, 0, 0}},
			`2100 01 14 08000000 6000 0000 00000000` + hexFid46 + `00f0020000000000`, 0},
		{"SET_INFO response 4.6", parser(ParseSetInfoResponse), &SetInfoResponse{}, `0200`, 0},
		{"oplock break notification", parser(ParseOplockBreakNotification), &OplockBreakNotification{OplockLevelII, fid45},
			`1800 01 00 00000000` + hexFid45, 0},
		{"oplock break acknowledgment", parser(ParseOplockBreakAcknowledgment), &OplockBreakAcknowledgment{OplockLevelNone, fid45},
			`1800 00 00 00000000` + hexFid45, 0},
		{"oplock break response", parser(ParseOplockBreakResponse), &OplockBreakResponse{OplockLevelExclusive, fid45},
			`1800 08 00 00000000` + hexFid45, 0},
		{"lease break notification", parser(ParseLeaseBreakNotification),
			&LeaseBreakNotification{NewEpoch: 2, Flags: NotifyBreakLeaseFlagAckRequired, LeaseKey: guidA, CurrentLeaseState: 7, NewLeaseState: LeaseReadCaching},
			`2c00 0200 01000000` + hexA + `07000000 01000000 00000000 00000000 00000000`, 0},
		{"lease break acknowledgment", parser(ParseLeaseBreakAcknowledgment), &LeaseBreakAcknowledgment{guidA, LeaseReadCaching},
			`2400 0000 00000000` + hexA + `01000000 0000000000000000`, 0},
		{"lease break response", parser(ParseLeaseBreakResponse), &LeaseBreakResponse{guidA, LeaseHandleCaching},
			`2400 0000 00000000` + hexA + `02000000 0000000000000000`, 0},
		{"SERVER_TO_CLIENT_NOTIFICATION", parser(ParseServerToClientNotification),
			&ServerToClientNotification{NotifySessionClosed, []byte{0, 0, 0, 0}}, `0c00 0000 00000000 00000000`, 0},
		{"ERROR response", parser(ParseErrorResponse), &ErrorResponse{}, `0900 00 00 00000000 00`, 1},
		{"ERROR response, STATUS_BUFFER_TOO_SMALL", parser(ParseErrorResponse),
			&ErrorResponse{ErrorData: []byte{0x40, 0, 0, 0}}, `0900 00 00 04000000 40000000`, 0},
	}
}

func TestMessages(t *testing.T) { testRows(t, messageRows(), anyHeader()) }

// structureRows has the structures inside messages that have one fixed or
// length-prefixed form.
func structureRows() []row {
	return []row{
		{"PREAUTH_INTEGRITY 2.2.3.1.1", parser(ParsePreauthIntegrityCapabilities),
			&PreauthIntegrityCapabilities{[]HashAlgorithm{HashSHA512}, []byte{0xaa, 0xbb, 0xcc}}, `0100 0300 0100 aabbcc`, 0},
		{"ENCRYPTION 2.2.3.1.2", parser(ParseEncryptionCapabilities),
			&EncryptionCapabilities{[]Cipher{CipherAES256GCM, CipherAES128CCM}}, `0200 0400 0100`, 0},
		{"COMPRESSION 2.2.3.1.3", parser(ParseCompressionCapabilities),
			&CompressionCapabilities{CompressionCapabilitiesFlagChained, []CompressionAlgorithm{CompressionLZ77, CompressionPatternV1}},
			`0200 0000 01000000 0200 0400`, 0},
		{"TRANSPORT 2.2.3.1.5", parser(ParseTransportCapabilities), &TransportCapabilities{AcceptTransportLevelSecurity}, `01000000`, 0},
		{"RDMA_TRANSFORM 2.2.3.1.6", parser(ParseRDMATransformCapabilities),
			&RDMATransformCapabilities{[]RDMATransformID{RDMATransformEncryption, RDMATransformSigning}}, `0200 0000 00000000 0100 0200`, 0},
		{"SIGNING 2.2.3.1.7", parser(ParseSigningCapabilities),
			&SigningCapabilities{[]SigningAlgorithm{SigningAESGMAC, SigningHMACSHA256}}, `0200 0200 0000`, 0},
		{"MxAc response 2.2.14.2.5", parser(ParseMaximalAccessResponse),
			&MaximalAccessResponse{ntstatus.AccessDenied, FileAllAccess}, `220000c0 ff011f00`, 0},
		{"QFid response 2.2.14.2.9", parser(ParseOnDiskIDResponse), &OnDiskIDResponse{1, 2},
			`0100000000000000 0200000000000000 00000000000000000000000000000000`, 0},
		{"RqLs 2.2.13.2.8", parser(ParseLease), &Lease{Version: 1, LeaseKey: guidA, LeaseState: 7, Flags: LeaseFlagBreakInProgress},
			hexA + `07000000 02000000 0000000000000000`, 0},
		{"DHnQ request 2.2.13.2.3", parser(ParseDurableHandleRequest), &DurableHandleRequest{}, `00000000000000000000000000000000`, 0},
		{"DHnQ response 2.2.14.2.3", parser(ParseDurableHandleResponse), &DurableHandleResponse{}, `0000000000000000`, 0},
		{"DHnC 2.2.13.2.4", parser(ParseDurableHandleReconnect), &DurableHandleReconnect{fid45}, hexFid45, 0},
		{"DH2Q request 2.2.13.2.11", parser(ParseDurableHandleRequestV2),
			&DurableHandleRequestV2{60000, DHandleFlagPersistent, guidB}, `60ea0000 02000000 0000000000000000` + hexB, 0},
		{"DH2Q response 2.2.14.2.12", parser(ParseDurableHandleResponseV2), &DurableHandleResponseV2{60000, 0}, `60ea0000 00000000`, 0},
		{"DH2C 2.2.13.2.12", parser(ParseDurableHandleReconnectV2),
			&DurableHandleReconnectV2{fid46, guidB, DHandleFlagPersistent}, hexFid46 + hexB + `02000000`, 0},
		{"AlSi 2.2.13.2.6", parser(ParseAllocationSizeContext), &AllocationSizeContext{0x1234}, `3412000000000000`, 0},
		{"TWrp 2.2.13.2.7", parser(ParseTimewarpToken), &TimewarpToken{127972992877715232}, `20df514dc2a6c601`, 0},
		{"APP_INSTANCE_ID 2.2.13.2.13", parser(ParseAppInstanceIDContext), &AppInstanceIDContext{guidA}, `1400 0000` + hexA, 0},
		{"APP_INSTANCE_VERSION 2.2.13.2.15", parser(ParseAppInstanceVersionContext), &AppInstanceVersionContext{1, 2},
			`1800 0000 00000000 0100000000000000 0200000000000000`, 0},
		{"VALIDATE_NEGOTIATE_INFO request 2.2.31.4", parser(ParseValidateNegotiateInfoRequest),
			&ValidateNegotiateInfoRequest{0x7f, guidA, 1, []Dialect{DialectSMB302}}, `7f000000` + hexA + `0100 0100 0203`, 0},
		{"VALIDATE_NEGOTIATE_INFO response 2.2.32.6", parser(ParseValidateNegotiateInfoResponse),
			&ValidateNegotiateInfoResponse{0x7f, guidB, 3, DialectSMB302}, `7f000000` + hexB + `0300 0203`, 0},
		{"SRV_COPYCHUNK_COPY 2.2.31.1", parser(ParseCopyChunkCopy),
			&CopyChunkCopy{ResumeKey{1, 2, 3}, []CopyChunk{{0x10, 0x20, 0x30}}},
			`010203000000000000000000000000000000000000000000 01000000 00000000
			 1000000000000000 2000000000000000 30000000 00000000`, 0},
		{"SRV_COPYCHUNK_RESPONSE 2.2.32.1", parser(ParseCopyChunkResponse), &CopyChunkResponse{256, 1 << 20, 16 << 20},
			`00010000 00001000 00000001`, 0},
		{"SRV_REQUEST_RESUME_KEY 2.2.32.3", parser(ParseRequestResumeKeyResponse), &RequestResumeKeyResponse{ResumeKey{9}},
			`090000000000000000000000000000000000000000000000 00000000 00000000`, 4},
		{"NETWORK_RESILIENCY_REQUEST 2.2.31.3", parser(ParseNetworkResiliencyRequest), &NetworkResiliencyRequest{5000}, `88130000 00000000`, 0},
		{"PIPE_WAIT [MS-FSCC] 2.3.49", parser(ParsePipeWaitRequest), &PipeWaitRequest{50, true, "srvsvc"},
			`3200000000000000 0c000000 01 00` + u("srvsvc"), 0},
		{"SET_ZERO_DATA [MS-FSCC] 2.3.85", parser(ParseZeroDataInformation), &ZeroDataInformation{1, 2}, `0100000000000000 0200000000000000`, 0},
		{"ALLOCATED_RANGE [MS-FSCC] 2.3.51", parser(ParseAllocatedRange), &AllocatedRange{3, 4}, `0300000000000000 0400000000000000`, 0},
		{"DUPLICATE_EXTENTS [MS-FSCC] 2.3.7.2", parser(ParseDuplicateExtentsData), &DuplicateExtentsData{fid45, 1, 2, 3},
			hexFid45 + `0100000000000000 0200000000000000 0300000000000000`, 0},
		{"FILE_REGION_INPUT [MS-FSCC] 2.3.55", parser(ParseFileRegion),
			&FileRegion{FileOffset: 0x100, Length: 0x20, Usage: FileRegionValidCached},
			"0001000000000000 2000000000000000 01000000 00000000", 0},
		{"FILE_REGION_OUTPUT [MS-FSCC] 2.3.56", parser(ParseFileRegionOutput),
			&FileRegionOutput{Total: 2, Regions: []FileRegion{{0x100, 0x20, FileRegionValidNoncached}}},
			"00000000 02000000 01000000 00000000" +
				"0001000000000000 2000000000000000 02000000 00000000", 0},
		{"symbolic link [MS-FSCC] 2.1.2.4", parser(ParseSymbolicLinkReparseBuffer),
			&SymbolicLinkReparseBuffer{"ab", "c", SymlinkFlagRelative},
			`0c0000a0 1200 0000 0000 0400 0400 0200 01000000` + u("ab") + u("c"), 0},
		{"symbolic link error 2.2.2.2.1", parser(ParseSymbolicLinkErrorResponse),
			&SymbolicLinkErrorResponse{UnparsedPathLength: 4, Flags: SymlinkFlagRelative, SubstituteName: EncodeUTF16("ab"), PrintName: EncodeUTF16("c")},
			`1e000000 53594d4c 0c0000a0 1200 0400 0000 0400 0400 0200 01000000` + u("ab") + u("c"), 0},
		{"FileBasicInformation", parser(ParseFileBasicInformation), &FileBasicInformation{1, 2, 3, FiletimeNoChange, FileAttributeHidden},
			`0100000000000000 0200000000000000 0300000000000000 ffffffffffffffff 02000000 00000000`, 0},
		{"FileStandardInformation", parser(ParseFileStandardInformation), &FileStandardInformation{4096, 98, 2, true, false},
			`0010000000000000 6200000000000000 02000000 01 00 0000`, 0},
		{"FileInternalInformation", parser(ParseFileInternalInformation), &FileInternalInformation{7}, `0700000000000000`, 0},
		{"FileEaInformation", parser(ParseFileEaInformation), &FileEaInformation{7}, `07000000`, 0},
		{"FileAccessInformation", parser(ParseFileAccessInformation), &FileAccessInformation{FileAllAccess}, `ff011f00`, 0},
		{"FilePositionInformation", parser(ParseFilePositionInformation), &FilePositionInformation{-1}, `ffffffffffffffff`, 0},
		{"FileModeInformation", parser(ParseFileModeInformation), &FileModeInformation{FileWriteThrough}, `02000000`, 0},
		{"FileAlignmentInformation", parser(ParseFileAlignmentInformation), &FileAlignmentInformation{511}, `ff010000`, 0},
		{"FileAllocationInformation", parser(ParseFileAllocationInformation), &FileAllocationInformation{4096}, `0010000000000000`, 0},
		{"FileEndOfFileInformation 4.6", parser(ParseFileEndOfFileInformation), &FileEndOfFileInformation{0x2f000}, `00f0020000000000`, 0},
		{"FileValidDataLengthInformation", parser(ParseFileValidDataLengthInformation), &FileValidDataLengthInformation{1}, `0100000000000000`, 0},
		{"FileDispositionInformation", parser(ParseFileDispositionInformation), &FileDispositionInformation{true}, `01`, 0},
		{"FileDispositionInformationEx", parser(ParseFileDispositionInformationEx),
			&FileDispositionInformationEx{DispositionDelete | DispositionPosixSemantics}, `03000000`, 0},
		{"FileCompressionInformation", parser(ParseFileCompressionInformation),
			&FileCompressionInformation{100, CompressionFormatLZNT1, 16, 12, 9}, `6400000000000000 0200 10 0c 09 000000`, 0},
		{"FileNetworkOpenInformation", parser(ParseFileNetworkOpenInformation), &FileNetworkOpenInformation{1, 2, 3, 4, 4096, 5, FileAttributeNormal},
			`0100000000000000 0200000000000000 0300000000000000 0400000000000000 0010000000000000 0500000000000000 80000000 00000000`, 0},
		{"FileAttributeTagInformation", parser(ParseFileAttributeTagInformation),
			&FileAttributeTagInformation{FileAttributeReparsePoint, ReparseTagSymlink}, `00040000 0c0000a0`, 0},
		{"FileIdInformation", parser(ParseFileIDInformation), &FileIDInformation{5, [16]byte(guidA)}, `0500000000000000` + hexA, 0},
		{"FilePipeInformation", parser(ParseFilePipeInformation), &FilePipeInformation{1, 0}, `01000000 00000000`, 0},
		{"FilePipeLocalInformation", parser(ParseFilePipeLocalInformation), &FilePipeLocalInformation{1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
			`01000000 02000000 03000000 04000000 05000000 06000000 07000000 08000000 09000000 0a000000`, 0},
		{"FileNameInformation", parser(ParseFileNameInformation), &FileNameInformation{`a\b`}, `06000000` + u(`a\b`), 0},
		{"FileAllInformation", parser(ParseFileAllInformation),
			&FileAllInformation{
				Basic: FileBasicInformation{1, 2, 3, 4, FileAttributeArchive}, Standard: FileStandardInformation{4096, 5, 1, false, true},
				Internal: FileInternalInformation{6}, Ea: FileEaInformation{7}, Access: FileAccessInformation{8},
				Position: FilePositionInformation{9}, Mode: FileModeInformation{10}, Alignment: FileAlignmentInformation{11},
				Name: FileNameInformation{"x"}},
			`0100000000000000 0200000000000000 0300000000000000 0400000000000000 20000000 00000000
			 0010000000000000 0500000000000000 01000000 00 01 0000 0600000000000000 07000000 08000000
			 0900000000000000 0a000000 0b000000 02000000 7800`, 0},
		{"FileRenameInformation 2.4.42.2", parser(ParseFileRenameInformation), &FileRenameInformation{ReplaceIfExists: true, FileName: "abc"},
			`01 00000000000000 0000000000000000 06000000` + u("abc"), 0},
		{"FileRenameInformation, padded to 24", parser(ParseFileRenameInformation), &FileRenameInformation{FileName: "a"},
			`00 00000000000000 0000000000000000 02000000` + u("a") + `0000`, 2},
		{"FileRenameInformationEx 2.4.43", parser(ParseFileRenameInformationEx),
			&FileRenameInformationEx{Flags: RenameReplaceIfExists | RenamePosixSemantics, FileName: "abc"},
			`03000000 00000000 0000000000000000 06000000` + u("abc"), 0},
		{"FileLinkInformation 2.4.28.2", parser(ParseFileLinkInformation), &FileLinkInformation{FileName: "abc"},
			`00 00000000000000 0000000000000000 06000000` + u("abc"), 0},
		{"FileFsVolumeInformation", parser(ParseFileFsVolumeInformation), &FileFsVolumeInformation{1, 0xCAFE, true, "vol"},
			`0100000000000000 feca0000 06000000 01 00` + u("vol"), 0},
		{"FileFsLabelInformation", parser(ParseFileFsLabelInformation), &FileFsLabelInformation{"vol"}, `06000000` + u("vol"), 0},
		{"FileFsSizeInformation", parser(ParseFileFsSizeInformation), &FileFsSizeInformation{100, 50, 8, 512},
			`6400000000000000 3200000000000000 08000000 00020000`, 0},
		{"FileFsFullSizeInformation", parser(ParseFileFsFullSizeInformation), &FileFsFullSizeInformation{100, 50, 60, 8, 512},
			`6400000000000000 3200000000000000 3c00000000000000 08000000 00020000`, 0},
		{"FileFsDeviceInformation", parser(ParseFileFsDeviceInformation), &FileFsDeviceInformation{DeviceTypeDisk, DeviceIsMounted}, `07000000 20000000`, 0},
		{"FileFsControlInformation", parser(ParseFileFsControlInformation), &FileFsControlInformation{1, 2, 3, 4, ^uint64(0), 6},
			`0100000000000000 0200000000000000 0300000000000000 0400000000000000 ffffffffffffffff 06000000 00000000`, 0},
		{"FileFsAttributeInformation", parser(ParseFileFsAttributeInformation),
			&FileFsAttributeInformation{FsCasePreservedNames | FsUnicodeOnDisk, 255, "NTFS"}, `06000000 ff000000 08000000` + u("NTFS"), 0},
		{"FileFsObjectIdInformation", parser(ParseFileFsObjectIDInformation), &FileFsObjectIDInformation{ObjectID: guidA, ExtendedInfo: [48]byte{1}},
			hexA + `01` + strings.Repeat("00", 47), 0},
		{"FileFsSectorSizeInformation", parser(ParseFileFsSectorSizeInformation),
			&FileFsSectorSizeInformation{512, 4096, 4096, 4096, SectorSizeAlignedDevice | SectorSizeTrimEnabled, 0, 7},
			`00020000 00100000 00100000 00100000 09000000 00000000 07000000`, 0},
		{"POSIX create request", parser(ParsePosixCreateRequest), &PosixCreateRequest{0o644}, `a4010000`, 0},
		{"POSIX create response", parser(ParsePosixCreateResponse), &PosixCreateResponse{1, 0, 0o755, SIDNFSUser(1000), SIDEveryone},
			`01000000 00000000 ed010000 0103000000000005 58000000 01000000 e8030000 0101000000000001 00000000`, 0},
		{"FilePosixInformation", parser(ParseFilePosixInformation),
			&FilePosixInformation{1, 2, 3, 4, 5, 6, 0x20, 8, 9, PosixCreateResponse{1, 0, 0o755, SIDEveryone, SIDEveryone}},
			`0100000000000000 0200000000000000 0300000000000000 0400000000000000 0500000000000000 0600000000000000
			 20000000 0800000000000000 09000000 00000000 01000000 00000000 ed010000
			 0101000000000001 00000000 0101000000000001 00000000`, 0},
		{"FileFsPosixInformation", parser(ParseFileFsPosixInformation), &FileFsPosixInformation{1, 2, 3, 4, 5, 6, 7, 8},
			`01000000 02000000 0300000000000000 0400000000000000 0500000000000000 0600000000000000 0700000000000000 0800000000000000`, 0},
		{"SID S-1-5-32-544 [MS-DTYP] 2.4.2.2", parser(ParseSID), func() *SID { s := SIDAdministrators; return &s }(),
			`01 02 000000000005 20000000 20020000`, 0},
	}
}

func TestStructures(t *testing.T) { testRows(t, structureRows(), nil) }

func isTooLong(err error) bool { return errors.Is(err, ErrTooLong) }
