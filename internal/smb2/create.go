package smb2

// AccessMask is an access mask, [MS-SMB2] 2.2.13.1.
type AccessMask uint32

const (
	FileReadData         AccessMask = 0x00000001
	FileWriteData        AccessMask = 0x00000002
	FileAppendData       AccessMask = 0x00000004
	FileReadEA           AccessMask = 0x00000008
	FileWriteEA          AccessMask = 0x00000010
	FileExecute          AccessMask = 0x00000020
	FileDeleteChild      AccessMask = 0x00000040
	FileReadAttributes   AccessMask = 0x00000080
	FileWriteAttributes  AccessMask = 0x00000100
	Delete               AccessMask = 0x00010000
	ReadControl          AccessMask = 0x00020000
	WriteDAC             AccessMask = 0x00040000
	WriteOwner           AccessMask = 0x00080000
	Synchronize          AccessMask = 0x00100000
	AccessSystemSecurity AccessMask = 0x01000000
	MaximumAllowed       AccessMask = 0x02000000
	GenericAll           AccessMask = 0x10000000
	GenericExecute       AccessMask = 0x20000000
	GenericWrite         AccessMask = 0x40000000
	GenericRead          AccessMask = 0x80000000

	// The same bits for directories, 2.2.13.1.2.
	FileListDirectory   = FileReadData
	FileAddFile         = FileWriteData
	FileAddSubdirectory = FileAppendData
	FileTraverse        = FileExecute

	// What the generic bits stand for, 2.2.13.1.
	FileGenericRead    = FileReadData | FileReadAttributes | FileReadEA | ReadControl | Synchronize
	FileGenericWrite   = FileWriteData | FileAppendData | FileWriteAttributes | FileWriteEA | ReadControl | Synchronize
	FileGenericExecute = FileReadAttributes | FileExecute | ReadControl | Synchronize
	FileAllAccess      = AccessMask(0x001F01FF)
)

// Expand replaces generic bits by the specific ones that they stand for.
func (a AccessMask) Expand() AccessMask {
	for _, g := range [...]struct{ generic, specific AccessMask }{
		{GenericRead, FileGenericRead},
		{GenericWrite, FileGenericWrite},
		{GenericExecute, FileGenericExecute},
		{GenericAll, FileAllAccess},
	} {
		if a&g.generic != 0 {
			a = a&^g.generic | g.specific
		}
	}
	return a
}

// OplockLevel is of [MS-SMB2] 2.2.13.
type OplockLevel uint8

const (
	OplockLevelNone      OplockLevel = 0x00
	OplockLevelII        OplockLevel = 0x01
	OplockLevelExclusive OplockLevel = 0x08
	OplockLevelBatch     OplockLevel = 0x09
	OplockLevelLease     OplockLevel = 0xFF
)

// ImpersonationLevel is of [MS-SMB2] 2.2.13.
type ImpersonationLevel uint32

const (
	ImpersonationAnonymous      ImpersonationLevel = 0
	ImpersonationIdentification ImpersonationLevel = 1
	ImpersonationImpersonation  ImpersonationLevel = 2
	ImpersonationDelegate       ImpersonationLevel = 3
)

// ShareAccess is of [MS-SMB2] 2.2.13.
type ShareAccess uint32

const (
	FileShareRead   ShareAccess = 0x00000001
	FileShareWrite  ShareAccess = 0x00000002
	FileShareDelete ShareAccess = 0x00000004
)

// CreateDisposition is of [MS-SMB2] 2.2.13.
type CreateDisposition uint32

const (
	FileSupersede   CreateDisposition = 0
	FileOpen        CreateDisposition = 1
	FileCreate      CreateDisposition = 2
	FileOpenIf      CreateDisposition = 3
	FileOverwrite   CreateDisposition = 4
	FileOverwriteIf CreateDisposition = 5
)

// CreateOptions are of [MS-SMB2] 2.2.13.
type CreateOptions uint32

const (
	FileDirectoryFile           CreateOptions = 0x00000001
	FileWriteThrough            CreateOptions = 0x00000002
	FileSequentialOnly          CreateOptions = 0x00000004
	FileNoIntermediateBuffering CreateOptions = 0x00000008
	FileSynchronousIOAlert      CreateOptions = 0x00000010
	FileSynchronousIONonalert   CreateOptions = 0x00000020
	FileNonDirectoryFile        CreateOptions = 0x00000040
	FileCompleteIfOplocked      CreateOptions = 0x00000100
	FileNoEAKnowledge           CreateOptions = 0x00000200
	FileOpenRemoteInstance      CreateOptions = 0x00000400
	FileRandomAccess            CreateOptions = 0x00000800
	FileDeleteOnClose           CreateOptions = 0x00001000
	FileOpenByFileID            CreateOptions = 0x00002000
	FileOpenForBackupIntent     CreateOptions = 0x00004000
	FileNoCompression           CreateOptions = 0x00008000
	FileOpenRequiringOplock     CreateOptions = 0x00010000
	FileDisallowExclusive       CreateOptions = 0x00020000
	FileReserveOpfilter         CreateOptions = 0x00100000
	FileOpenReparsePoint        CreateOptions = 0x00200000
	FileOpenNoRecall            CreateOptions = 0x00400000
	FileOpenForFreeSpaceQuery   CreateOptions = 0x00800000
)

// CreateAction is of [MS-SMB2] 2.2.14.
type CreateAction uint32

const (
	FileSuperseded  CreateAction = 0
	FileOpened      CreateAction = 1
	FileCreated     CreateAction = 2
	FileOverwritten CreateAction = 3
)

// CreateFlagReparsepoint is the flag of a CREATE response, [MS-SMB2] 2.2.14.
const CreateFlagReparsepoint uint8 = 0x01

// CreateRequest is the SMB2 CREATE request, [MS-SMB2] 2.2.13:
//
//	 0 StructureSize 57   2 SecurityFlags   3 RequestedOplockLevel   4 ImpersonationLevel
//	 8 SmbCreateFlags    16 Reserved       24 DesiredAccess         28 FileAttributes
//	32 ShareAccess       36 CreateDisposition  40 CreateOptions
//	44 NameOffset, NameLength   48 CreateContextsOffset   52 CreateContextsLength   56 Buffer
type CreateRequest struct {
	RequestedOplockLevel OplockLevel
	ImpersonationLevel   ImpersonationLevel
	DesiredAccess        AccessMask
	FileAttributes       FileAttributes
	ShareAccess          ShareAccess
	CreateDisposition    CreateDisposition
	CreateOptions        CreateOptions
	Name                 []byte // UTF-16LE, relative to the share; borrowed when parsed
	Contexts             []byte // a list as AppendCreateContext makes it; borrowed when parsed
}

const (
	createRequestSize  = 56
	createResponseSize = 88
)

// AppendBinary appends the body.
func (m *CreateRequest) AppendBinary(b []byte) ([]byte, error) {
	const name = "CREATE request"
	if len(m.Name) > 0xFFFF {
		return b, tooLong(name, "Name", len(m.Name))
	}
	if uint64(len(m.Contexts)) > 0xFFFFFFFF {
		return b, tooLong(name, "Contexts", len(m.Contexts))
	}
	start := len(b)
	b = le.AppendUint16(b, 57)
	b = append(b, 0, uint8(m.RequestedOplockLevel))
	b = le.AppendUint32(b, uint32(m.ImpersonationLevel))
	b = zeros(b, 16)
	b = le.AppendUint32(b, uint32(m.DesiredAccess))
	b = le.AppendUint32(b, uint32(m.FileAttributes))
	b = le.AppendUint32(b, uint32(m.ShareAccess))
	b = le.AppendUint32(b, uint32(m.CreateDisposition))
	b = le.AppendUint32(b, uint32(m.CreateOptions))
	b = le.AppendUint16(b, HeaderSize+createRequestSize)
	b = le.AppendUint16(b, uint16(len(m.Name)))
	b = zeros(b, 8)
	b = append(b, m.Name...)
	if len(m.Contexts) > 0 {
		b = pad(b, start, 8)
		le.PutUint32(b[start+48:], uint32(HeaderSize+len(b)-start))
		le.PutUint32(b[start+52:], uint32(len(m.Contexts)))
		return append(b, m.Contexts...), nil
	}
	if len(m.Name) == 0 {
		b = append(b, 0)
	}
	return b, nil
}

// ParseCreateRequest decodes a request; msg includes the header. The context
// list is checked for being inside msg; CreateContexts checks what is in it.
func ParseCreateRequest(msg []byte) (CreateRequest, error) {
	const name = "CREATE request"
	body, err := bodyOf(msg, name, 57, createRequestSize)
	if err != nil {
		return CreateRequest{}, err
	}
	const low = HeaderSize + createRequestSize
	file, err := nameSection(msg, name, "Name", uint64(le.Uint16(body[44:])), uint64(le.Uint16(body[46:])), low)
	if err != nil {
		return CreateRequest{}, err
	}
	contexts, err := section(msg, name, "CreateContexts", uint64(le.Uint32(body[48:])), uint64(le.Uint32(body[52:])), low)
	if err != nil {
		return CreateRequest{}, err
	}
	return CreateRequest{
		RequestedOplockLevel: OplockLevel(body[3]),
		ImpersonationLevel:   ImpersonationLevel(le.Uint32(body[4:])),
		DesiredAccess:        AccessMask(le.Uint32(body[24:])),
		FileAttributes:       FileAttributes(le.Uint32(body[28:])),
		ShareAccess:          ShareAccess(le.Uint32(body[32:])),
		CreateDisposition:    CreateDisposition(le.Uint32(body[36:])),
		CreateOptions:        CreateOptions(le.Uint32(body[40:])),
		Name:                 file,
		Contexts:             contexts,
	}, nil
}

// CreateResponse is the SMB2 CREATE response, [MS-SMB2] 2.2.14:
//
//	 0 StructureSize 89   2 OplockLevel   3 Flags   4 CreateAction
//	 8 CreationTime      16 LastAccessTime   24 LastWriteTime   32 ChangeTime
//	40 AllocationSize    48 EndofFile        56 FileAttributes  60 Reserved2
//	64 FileId            80 CreateContextsOffset   84 CreateContextsLength   88 Buffer
type CreateResponse struct {
	OplockLevel    OplockLevel
	Flags          uint8 // CreateFlagReparsepoint
	CreateAction   CreateAction
	CreationTime   Filetime
	LastAccessTime Filetime
	LastWriteTime  Filetime
	ChangeTime     Filetime
	AllocationSize uint64
	EndOfFile      uint64
	FileAttributes FileAttributes
	FileID         FileID
	Contexts       []byte // a list as AppendCreateContext makes it; borrowed when parsed
}

// AppendBinary appends the body.
func (m *CreateResponse) AppendBinary(b []byte) ([]byte, error) {
	if uint64(len(m.Contexts)) > 0xFFFFFFFF {
		return b, tooLong("CREATE response", "Contexts", len(m.Contexts))
	}
	b = le.AppendUint16(b, 89)
	b = append(b, uint8(m.OplockLevel), m.Flags)
	b = le.AppendUint32(b, uint32(m.CreateAction))
	b = le.AppendUint64(b, uint64(m.CreationTime))
	b = le.AppendUint64(b, uint64(m.LastAccessTime))
	b = le.AppendUint64(b, uint64(m.LastWriteTime))
	b = le.AppendUint64(b, uint64(m.ChangeTime))
	b = le.AppendUint64(b, m.AllocationSize)
	b = le.AppendUint64(b, m.EndOfFile)
	b = le.AppendUint32(b, uint32(m.FileAttributes))
	b = zeros(b, 4)
	b = m.FileID.append(b)
	if len(m.Contexts) == 0 {
		return zeros(b, 8), nil
	}
	b = le.AppendUint32(b, HeaderSize+createResponseSize)
	b = le.AppendUint32(b, uint32(len(m.Contexts)))
	return append(b, m.Contexts...), nil
}

// ParseCreateResponse decodes a response; msg includes the header.
func ParseCreateResponse(msg []byte) (CreateResponse, error) {
	const name = "CREATE response"
	body, err := bodyOf(msg, name, 89, createResponseSize)
	if err != nil {
		return CreateResponse{}, err
	}
	contexts, err := section(msg, name, "CreateContexts", uint64(le.Uint32(body[80:])), uint64(le.Uint32(body[84:])),
		HeaderSize+createResponseSize)
	if err != nil {
		return CreateResponse{}, err
	}
	return CreateResponse{
		OplockLevel:    OplockLevel(body[2]),
		Flags:          body[3],
		CreateAction:   CreateAction(le.Uint32(body[4:])),
		CreationTime:   Filetime(le.Uint64(body[8:])),
		LastAccessTime: Filetime(le.Uint64(body[16:])),
		LastWriteTime:  Filetime(le.Uint64(body[24:])),
		ChangeTime:     Filetime(le.Uint64(body[32:])),
		AllocationSize: le.Uint64(body[40:]),
		EndOfFile:      le.Uint64(body[48:]),
		FileAttributes: FileAttributes(le.Uint32(body[56:])),
		FileID:         parseFileID(body[64:]),
		Contexts:       contexts,
	}, nil
}
