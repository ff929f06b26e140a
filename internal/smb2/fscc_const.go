package smb2

// FileAttributes are of [MS-FSCC] 2.6.
type FileAttributes uint32

const (
	FileAttributeReadonly           FileAttributes = 0x00000001
	FileAttributeHidden             FileAttributes = 0x00000002
	FileAttributeSystem             FileAttributes = 0x00000004
	FileAttributeDirectory          FileAttributes = 0x00000010
	FileAttributeArchive            FileAttributes = 0x00000020
	FileAttributeNormal             FileAttributes = 0x00000080
	FileAttributeTemporary          FileAttributes = 0x00000100
	FileAttributeSparseFile         FileAttributes = 0x00000200
	FileAttributeReparsePoint       FileAttributes = 0x00000400
	FileAttributeCompressed         FileAttributes = 0x00000800
	FileAttributeOffline            FileAttributes = 0x00001000
	FileAttributeNotContentIndexed  FileAttributes = 0x00002000
	FileAttributeEncrypted          FileAttributes = 0x00004000
	FileAttributeIntegrityStream    FileAttributes = 0x00008000
	FileAttributeNoScrubData        FileAttributes = 0x00020000
	FileAttributeRecallOnOpen       FileAttributes = 0x00040000
	FileAttributePinned             FileAttributes = 0x00080000
	FileAttributeUnpinned           FileAttributes = 0x00100000
	FileAttributeRecallOnDataAccess FileAttributes = 0x00400000
)

// FileInfoClass is a file information class, [MS-FSCC] 2.4.
type FileInfoClass uint8

const (
	ClassFileDirectoryInformation          FileInfoClass = 1
	ClassFileFullDirectoryInformation      FileInfoClass = 2
	ClassFileBothDirectoryInformation      FileInfoClass = 3
	ClassFileBasicInformation              FileInfoClass = 4
	ClassFileStandardInformation           FileInfoClass = 5
	ClassFileInternalInformation           FileInfoClass = 6
	ClassFileEaInformation                 FileInfoClass = 7
	ClassFileAccessInformation             FileInfoClass = 8
	ClassFileNameInformation               FileInfoClass = 9
	ClassFileRenameInformation             FileInfoClass = 10
	ClassFileLinkInformation               FileInfoClass = 11
	ClassFileNamesInformation              FileInfoClass = 12
	ClassFileDispositionInformation        FileInfoClass = 13
	ClassFilePositionInformation           FileInfoClass = 14
	ClassFileFullEaInformation             FileInfoClass = 15
	ClassFileModeInformation               FileInfoClass = 16
	ClassFileAlignmentInformation          FileInfoClass = 17
	ClassFileAllInformation                FileInfoClass = 18
	ClassFileAllocationInformation         FileInfoClass = 19
	ClassFileEndOfFileInformation          FileInfoClass = 20
	ClassFileAlternateNameInformation      FileInfoClass = 21
	ClassFileStreamInformation             FileInfoClass = 22
	ClassFilePipeInformation               FileInfoClass = 23
	ClassFilePipeLocalInformation          FileInfoClass = 24
	ClassFilePipeRemoteInformation         FileInfoClass = 25
	ClassFileCompressionInformation        FileInfoClass = 28
	ClassFileObjectIDInformation           FileInfoClass = 29
	ClassFileQuotaInformation              FileInfoClass = 32
	ClassFileReparsePointInformation       FileInfoClass = 33
	ClassFileNetworkOpenInformation        FileInfoClass = 34
	ClassFileAttributeTagInformation       FileInfoClass = 35
	ClassFileIDBothDirectoryInformation    FileInfoClass = 37
	ClassFileIDFullDirectoryInformation    FileInfoClass = 38
	ClassFileValidDataLengthInformation    FileInfoClass = 39
	ClassFileShortNameInformation          FileInfoClass = 40
	ClassFileHardLinkInformation           FileInfoClass = 46
	ClassFileNormalizedNameInformation     FileInfoClass = 48
	ClassFileStandardLinkInformation       FileInfoClass = 54
	ClassFileIDInformation                 FileInfoClass = 59
	ClassFileIDExtdDirectoryInformation    FileInfoClass = 60
	ClassFileDispositionInformationEx      FileInfoClass = 64
	ClassFileRenameInformationEx           FileInfoClass = 65
	ClassFileLinkInformationEx             FileInfoClass = 72
	ClassFileID64ExtdDirectoryInformation  FileInfoClass = 78
	ClassFileID64ExtdBothDirectoryInfo     FileInfoClass = 79
	ClassFileIDAllExtdDirectoryInformation FileInfoClass = 80
	ClassFileIDAllExtdBothDirectoryInfo    FileInfoClass = 81
	// ClassFilePosixInformation is of the SMB3 POSIX extensions.
	ClassFilePosixInformation FileInfoClass = 100
)

// FsInfoClass is a file system information class, [MS-FSCC] 2.5.
type FsInfoClass uint8

const (
	ClassFileFsVolumeInformation     FsInfoClass = 1
	ClassFileFsLabelInformation      FsInfoClass = 2
	ClassFileFsSizeInformation       FsInfoClass = 3
	ClassFileFsDeviceInformation     FsInfoClass = 4
	ClassFileFsAttributeInformation  FsInfoClass = 5
	ClassFileFsControlInformation    FsInfoClass = 6
	ClassFileFsFullSizeInformation   FsInfoClass = 7
	ClassFileFsObjectIDInformation   FsInfoClass = 8
	ClassFileFsDriverPathInformation FsInfoClass = 9
	ClassFileFsVolumeFlagsInfo       FsInfoClass = 10
	ClassFileFsSectorSizeInformation FsInfoClass = 11
	// ClassFileFsPosixInformation is of the SMB3 POSIX extensions.
	ClassFileFsPosixInformation FsInfoClass = 100
)

// ReparseTag is of [MS-FSCC] 2.1.2.1.
type ReparseTag uint32

const (
	ReparseTagMountPoint ReparseTag = 0xA0000003
	ReparseTagSymlink    ReparseTag = 0xA000000C
	ReparseTagDedup      ReparseTag = 0x80000013
	ReparseTagNFS        ReparseTag = 0x80000014
	ReparseTagLXSymlink  ReparseTag = 0xA000001D
	ReparseTagAFUnix     ReparseTag = 0x80000023
	ReparseTagLXFifo     ReparseTag = 0x80000024
	ReparseTagLXChr      ReparseTag = 0x80000025
	ReparseTagLXBlk      ReparseTag = 0x80000026
)
