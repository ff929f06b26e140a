package ntstatus

// Values of [MS-ERREF] 2.3.1, under their names without the STATUS_ prefix.
const (
	Success                          Status = 0x00000000 // STATUS_SUCCESS
	Pending                          Status = 0x00000103 // STATUS_PENDING
	MoreEntries                      Status = 0x00000105 // STATUS_MORE_ENTRIES
	SomeNotMapped                    Status = 0x00000107 // STATUS_SOME_NOT_MAPPED
	NotifyCleanup                    Status = 0x0000010B // STATUS_NOTIFY_CLEANUP
	NotifyEnumDir                    Status = 0x0000010C // STATUS_NOTIFY_ENUM_DIR
	BufferOverflow                   Status = 0x80000005 // STATUS_BUFFER_OVERFLOW
	NoMoreFiles                      Status = 0x80000006 // STATUS_NO_MORE_FILES
	DeviceBusy                       Status = 0x80000011 // STATUS_DEVICE_BUSY
	NoMoreEAs                        Status = 0x80000012 // STATUS_NO_MORE_EAS
	InvalidEAName                    Status = 0x80000013 // STATUS_INVALID_EA_NAME
	EAListInconsistent               Status = 0x80000014 // STATUS_EA_LIST_INCONSISTENT
	NoMoreEntries                    Status = 0x8000001A // STATUS_NO_MORE_ENTRIES
	StoppedOnSymlink                 Status = 0x8000002D // STATUS_STOPPED_ON_SYMLINK
	Unsuccessful                     Status = 0xC0000001 // STATUS_UNSUCCESSFUL
	NotImplemented                   Status = 0xC0000002 // STATUS_NOT_IMPLEMENTED
	InvalidInfoClass                 Status = 0xC0000003 // STATUS_INVALID_INFO_CLASS
	InfoLengthMismatch               Status = 0xC0000004 // STATUS_INFO_LENGTH_MISMATCH
	AccessViolation                  Status = 0xC0000005 // STATUS_ACCESS_VIOLATION
	InvalidHandle                    Status = 0xC0000008 // STATUS_INVALID_HANDLE
	InvalidParameter                 Status = 0xC000000D // STATUS_INVALID_PARAMETER
	NoSuchDevice                     Status = 0xC000000E // STATUS_NO_SUCH_DEVICE
	NoSuchFile                       Status = 0xC000000F // STATUS_NO_SUCH_FILE
	InvalidDeviceRequest             Status = 0xC0000010 // STATUS_INVALID_DEVICE_REQUEST
	EndOfFile                        Status = 0xC0000011 // STATUS_END_OF_FILE
	MoreProcessingRequired           Status = 0xC0000016 // STATUS_MORE_PROCESSING_REQUIRED
	NoMemory                         Status = 0xC0000017 // STATUS_NO_MEMORY
	InvalidViewSize                  Status = 0xC000001F // STATUS_INVALID_VIEW_SIZE
	AccessDenied                     Status = 0xC0000022 // STATUS_ACCESS_DENIED
	BufferTooSmall                   Status = 0xC0000023 // STATUS_BUFFER_TOO_SMALL
	ObjectTypeMismatch               Status = 0xC0000024 // STATUS_OBJECT_TYPE_MISMATCH
	InvalidParameterMix              Status = 0xC0000030 // STATUS_INVALID_PARAMETER_MIX
	ObjectNameInvalid                Status = 0xC0000033 // STATUS_OBJECT_NAME_INVALID
	ObjectNameNotFound               Status = 0xC0000034 // STATUS_OBJECT_NAME_NOT_FOUND
	ObjectNameCollision              Status = 0xC0000035 // STATUS_OBJECT_NAME_COLLISION
	ObjectPathInvalid                Status = 0xC0000039 // STATUS_OBJECT_PATH_INVALID
	ObjectPathNotFound               Status = 0xC000003A // STATUS_OBJECT_PATH_NOT_FOUND
	ObjectPathSyntaxBad              Status = 0xC000003B // STATUS_OBJECT_PATH_SYNTAX_BAD
	DataOverrun                      Status = 0xC000003C // STATUS_DATA_OVERRUN
	DataError                        Status = 0xC000003E // STATUS_DATA_ERROR
	CRCError                         Status = 0xC000003F // STATUS_CRC_ERROR
	SharingViolation                 Status = 0xC0000043 // STATUS_SHARING_VIOLATION
	QuotaExceeded                    Status = 0xC0000044 // STATUS_QUOTA_EXCEEDED
	EANotSupported                   Status = 0xC000004F // STATUS_EAS_NOT_SUPPORTED
	EATooLarge                       Status = 0xC0000050 // STATUS_EA_TOO_LARGE
	NonexistentEAEntry               Status = 0xC0000051 // STATUS_NONEXISTENT_EA_ENTRY
	NoEAsOnFile                      Status = 0xC0000052 // STATUS_NO_EAS_ON_FILE
	FileLockConflict                 Status = 0xC0000054 // STATUS_FILE_LOCK_CONFLICT
	LockNotGranted                   Status = 0xC0000055 // STATUS_LOCK_NOT_GRANTED
	DeletePending                    Status = 0xC0000056 // STATUS_DELETE_PENDING
	InvalidOwner                     Status = 0xC000005A // STATUS_INVALID_OWNER
	LogonServerUnavailable           Status = 0xC000005E // STATUS_NO_LOGON_SERVERS
	PrivilegeNotHeld                 Status = 0xC0000061 // STATUS_PRIVILEGE_NOT_HELD
	NoSuchUser                       Status = 0xC0000064 // STATUS_NO_SUCH_USER
	NoSuchGroup                      Status = 0xC0000066 // STATUS_NO_SUCH_GROUP
	WrongPassword                    Status = 0xC000006A // STATUS_WRONG_PASSWORD
	LogonFailure                     Status = 0xC000006D // STATUS_LOGON_FAILURE
	AccountRestriction               Status = 0xC000006E // STATUS_ACCOUNT_RESTRICTION
	PasswordExpired                  Status = 0xC0000071 // STATUS_PASSWORD_EXPIRED
	AccountDisabled                  Status = 0xC0000072 // STATUS_ACCOUNT_DISABLED
	NoneMapped                       Status = 0xC0000073 // STATUS_NONE_MAPPED
	InvalidACL                       Status = 0xC0000077 // STATUS_INVALID_ACL
	InvalidSID                       Status = 0xC0000078 // STATUS_INVALID_SID
	InvalidSecurityDescr             Status = 0xC0000079 // STATUS_INVALID_SECURITY_DESCR
	RangeNotLocked                   Status = 0xC000007E // STATUS_RANGE_NOT_LOCKED
	DiskFull                         Status = 0xC000007F // STATUS_DISK_FULL
	IntegerOverflow                  Status = 0xC0000095 // STATUS_INTEGER_OVERFLOW
	InsufficientResources            Status = 0xC000009A // STATUS_INSUFFICIENT_RESOURCES
	MediaWriteProtected              Status = 0xC00000A2 // STATUS_MEDIA_WRITE_PROTECTED
	DeviceNotReady                   Status = 0xC00000A3 // STATUS_DEVICE_NOT_READY
	BadImpersonationLevel            Status = 0xC00000A5 // STATUS_BAD_IMPERSONATION_LEVEL
	InstanceNotAvailable             Status = 0xC00000AB // STATUS_INSTANCE_NOT_AVAILABLE
	PipeNotAvailable                 Status = 0xC00000AC // STATUS_PIPE_NOT_AVAILABLE
	InvalidPipeState                 Status = 0xC00000AD // STATUS_INVALID_PIPE_STATE
	PipeBusy                         Status = 0xC00000AE // STATUS_PIPE_BUSY
	IllegalFunction                  Status = 0xC00000AF // STATUS_ILLEGAL_FUNCTION
	PipeDisconnected                 Status = 0xC00000B0 // STATUS_PIPE_DISCONNECTED
	PipeClosing                      Status = 0xC00000B1 // STATUS_PIPE_CLOSING
	IOTimeout                        Status = 0xC00000B5 // STATUS_IO_TIMEOUT
	FileForcedClosed                 Status = 0xC00000B6 // STATUS_FILE_FORCED_CLOSED
	FileIsADirectory                 Status = 0xC00000BA // STATUS_FILE_IS_A_DIRECTORY
	NotSupported                     Status = 0xC00000BB // STATUS_NOT_SUPPORTED
	BadNetworkPath                   Status = 0xC00000BE // STATUS_BAD_NETWORK_PATH
	InvalidNetworkResponse           Status = 0xC00000C3 // STATUS_INVALID_NETWORK_RESPONSE
	UnexpectedNetworkError           Status = 0xC00000C4 // STATUS_UNEXPECTED_NETWORK_ERROR
	NetworkNameDeleted               Status = 0xC00000C9 // STATUS_NETWORK_NAME_DELETED
	NetworkAccessDenied              Status = 0xC00000CA // STATUS_NETWORK_ACCESS_DENIED
	BadDeviceType                    Status = 0xC00000CB // STATUS_BAD_DEVICE_TYPE
	BadNetworkName                   Status = 0xC00000CC // STATUS_BAD_NETWORK_NAME
	RequestNotAccepted               Status = 0xC00000D0 // STATUS_REQUEST_NOT_ACCEPTED
	NotSameDevice                    Status = 0xC00000D4 // STATUS_NOT_SAME_DEVICE
	FileRenamed                      Status = 0xC00000D5 // STATUS_FILE_RENAMED
	PipeEmpty                        Status = 0xC00000D9 // STATUS_PIPE_EMPTY
	NoSuchDomain                     Status = 0xC00000DF // STATUS_NO_SUCH_DOMAIN
	OpportunisticLockNotGranted      Status = 0xC00000E2 // STATUS_OPLOCK_NOT_GRANTED
	InvalidOplockProtocol            Status = 0xC00000E3 // STATUS_INVALID_OPLOCK_PROTOCOL
	InternalError                    Status = 0xC00000E5 // STATUS_INTERNAL_ERROR
	InvalidUserBuffer                Status = 0xC00000E8 // STATUS_INVALID_USER_BUFFER
	UnexpectedIOError                Status = 0xC00000E9 // STATUS_UNEXPECTED_IO_ERROR
	DirectoryNotEmpty                Status = 0xC0000101 // STATUS_DIRECTORY_NOT_EMPTY
	NotADirectory                    Status = 0xC0000103 // STATUS_NOT_A_DIRECTORY
	NameTooLong                      Status = 0xC0000106 // STATUS_NAME_TOO_LONG
	TooManyOpenedFiles               Status = 0xC000011F // STATUS_TOO_MANY_OPENED_FILES
	Cancelled                        Status = 0xC0000120 // STATUS_CANCELLED
	CannotDelete                     Status = 0xC0000121 // STATUS_CANNOT_DELETE
	FileDeleted                      Status = 0xC0000123 // STATUS_FILE_DELETED
	FileClosed                       Status = 0xC0000128 // STATUS_FILE_CLOSED
	RemoteResources                  Status = 0xC000013D // STATUS_REMOTE_RESOURCES
	InvalidAddress                   Status = 0xC0000141 // STATUS_INVALID_ADDRESS
	InvalidLevel                     Status = 0xC0000148 // STATUS_INVALID_LEVEL
	PipeBroken                       Status = 0xC000014B // STATUS_PIPE_BROKEN
	NoSuchAlias                      Status = 0xC0000151 // STATUS_NO_SUCH_ALIAS
	LogonTypeNotGranted              Status = 0xC000015B // STATUS_LOGON_TYPE_NOT_GRANTED
	InvalidDeviceState               Status = 0xC0000184 // STATUS_INVALID_DEVICE_STATE
	IODeviceError                    Status = 0xC0000185 // STATUS_IO_DEVICE_ERROR
	TrustFailure                     Status = 0xC0000190 // STATUS_TRUST_FAILURE
	FSDriverRequired                 Status = 0xC000019C // STATUS_FS_DRIVER_REQUIRED
	InvalidLockRange                 Status = 0xC00001A1 // STATUS_INVALID_LOCK_RANGE
	UserSessionDeleted               Status = 0xC0000203 // STATUS_USER_SESSION_DELETED
	InsuffServerResources            Status = 0xC0000205 // STATUS_INSUFF_SERVER_RESOURCES
	InvalidBufferSize                Status = 0xC0000206 // STATUS_INVALID_BUFFER_SIZE
	TooManyAddresses                 Status = 0xC0000209 // STATUS_TOO_MANY_ADDRESSES
	AddressAlreadyExists             Status = 0xC000020A // STATUS_ADDRESS_ALREADY_EXISTS
	ConnectionDisconnected           Status = 0xC000020C // STATUS_CONNECTION_DISCONNECTED
	ConnectionReset                  Status = 0xC000020D // STATUS_CONNECTION_RESET
	NotFound                         Status = 0xC0000225 // STATUS_NOT_FOUND
	DuplicateObjectID                Status = 0xC000022A // STATUS_DUPLICATE_OBJECTID
	Retry                            Status = 0xC000022D // STATUS_RETRY
	ConnectionRefused                Status = 0xC0000236 // STATUS_CONNECTION_REFUSED
	ConnectionInvalid                Status = 0xC000023A // STATUS_CONNECTION_INVALID
	ConnectionActive                 Status = 0xC000023B // STATUS_CONNECTION_ACTIVE
	NetworkUnreachable               Status = 0xC000023C // STATUS_NETWORK_UNREACHABLE
	HostUnreachable                  Status = 0xC000023D // STATUS_HOST_UNREACHABLE
	ConnectionAborted                Status = 0xC0000241 // STATUS_CONNECTION_ABORTED
	PathNotCovered                   Status = 0xC0000257 // STATUS_PATH_NOT_COVERED
	TooManyLinks                     Status = 0xC0000265 // STATUS_TOO_MANY_LINKS
	VolumeDismounted                 Status = 0xC000026E // STATUS_VOLUME_DISMOUNTED
	NotAReparsePoint                 Status = 0xC0000275 // STATUS_NOT_A_REPARSE_POINT
	IOReparseTagInvalid              Status = 0xC0000276 // STATUS_IO_REPARSE_TAG_INVALID
	IOReparseTagMismatch             Status = 0xC0000277 // STATUS_IO_REPARSE_TAG_MISMATCH
	IOReparseDataInvalid             Status = 0xC0000278 // STATUS_IO_REPARSE_DATA_INVALID
	IOReparseTagNotHandled           Status = 0xC0000279 // STATUS_IO_REPARSE_TAG_NOT_HANDLED
	ReparsePointNotResolved          Status = 0xC0000280 // STATUS_REPARSE_POINT_NOT_RESOLVED
	DirectoryIsAReparsePoint         Status = 0xC0000281 // STATUS_DIRECTORY_IS_A_REPARSE_POINT
	DeviceRemoved                    Status = 0xC00002B6 // STATUS_DEVICE_REMOVED
	ObjectIDNotFound                 Status = 0xC00002F0 // STATUS_OBJECTID_NOT_FOUND
	NetworkSessionExpired            Status = 0xC000035C // STATUS_NETWORK_SESSION_EXPIRED
	CompressionDisabled              Status = 0xC0000426 // STATUS_COMPRESSION_DISABLED
	RequestOutOfSequence             Status = 0xC000042A // STATUS_REQUEST_OUT_OF_SEQUENCE
	ImplementationLimit              Status = 0xC000042B // STATUS_IMPLEMENTATION_LIMIT
	ServerUnavailable                Status = 0xC0000466 // STATUS_SERVER_UNAVAILABLE
	FileNotAvailable                 Status = 0xC0000467 // STATUS_FILE_NOT_AVAILABLE
	ShareUnavailable                 Status = 0xC0000480 // STATUS_SHARE_UNAVAILABLE
	ContextMismatch                  Status = 0xC0000719 // STATUS_CONTEXT_MISMATCH
	BadData                          Status = 0xC000090B // STATUS_BAD_DATA
	InvalidSignature                 Status = 0xC000A000 // STATUS_INVALID_SIGNATURE
	HMACNotSupported                 Status = 0xC000A001 // STATUS_HMAC_NOT_SUPPORTED
	AuthTagMismatch                  Status = 0xC000A002 // STATUS_AUTH_TAG_MISMATCH
	HashNotSupported                 Status = 0xC000A100 // STATUS_HASH_NOT_SUPPORTED
	HashNotPresent                   Status = 0xC000A101 // STATUS_HASH_NOT_PRESENT
	SMBNoPreauthIntegrityHashOverlap Status = 0xC05D0000 // STATUS_SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP
	SMBBadClusterDialect             Status = 0xC05D0001 // STATUS_SMB_BAD_CLUSTER_DIALECT
)

var names = map[Status]string{
	Success:                          "STATUS_SUCCESS",
	Pending:                          "STATUS_PENDING",
	MoreEntries:                      "STATUS_MORE_ENTRIES",
	SomeNotMapped:                    "STATUS_SOME_NOT_MAPPED",
	NotifyCleanup:                    "STATUS_NOTIFY_CLEANUP",
	NotifyEnumDir:                    "STATUS_NOTIFY_ENUM_DIR",
	BufferOverflow:                   "STATUS_BUFFER_OVERFLOW",
	NoMoreFiles:                      "STATUS_NO_MORE_FILES",
	DeviceBusy:                       "STATUS_DEVICE_BUSY",
	NoMoreEAs:                        "STATUS_NO_MORE_EAS",
	InvalidEAName:                    "STATUS_INVALID_EA_NAME",
	EAListInconsistent:               "STATUS_EA_LIST_INCONSISTENT",
	NoMoreEntries:                    "STATUS_NO_MORE_ENTRIES",
	StoppedOnSymlink:                 "STATUS_STOPPED_ON_SYMLINK",
	Unsuccessful:                     "STATUS_UNSUCCESSFUL",
	NotImplemented:                   "STATUS_NOT_IMPLEMENTED",
	InvalidInfoClass:                 "STATUS_INVALID_INFO_CLASS",
	InfoLengthMismatch:               "STATUS_INFO_LENGTH_MISMATCH",
	AccessViolation:                  "STATUS_ACCESS_VIOLATION",
	InvalidHandle:                    "STATUS_INVALID_HANDLE",
	InvalidParameter:                 "STATUS_INVALID_PARAMETER",
	NoSuchDevice:                     "STATUS_NO_SUCH_DEVICE",
	NoSuchFile:                       "STATUS_NO_SUCH_FILE",
	InvalidDeviceRequest:             "STATUS_INVALID_DEVICE_REQUEST",
	EndOfFile:                        "STATUS_END_OF_FILE",
	MoreProcessingRequired:           "STATUS_MORE_PROCESSING_REQUIRED",
	NoMemory:                         "STATUS_NO_MEMORY",
	InvalidViewSize:                  "STATUS_INVALID_VIEW_SIZE",
	AccessDenied:                     "STATUS_ACCESS_DENIED",
	BufferTooSmall:                   "STATUS_BUFFER_TOO_SMALL",
	ObjectTypeMismatch:               "STATUS_OBJECT_TYPE_MISMATCH",
	InvalidParameterMix:              "STATUS_INVALID_PARAMETER_MIX",
	ObjectNameInvalid:                "STATUS_OBJECT_NAME_INVALID",
	ObjectNameNotFound:               "STATUS_OBJECT_NAME_NOT_FOUND",
	ObjectNameCollision:              "STATUS_OBJECT_NAME_COLLISION",
	ObjectPathInvalid:                "STATUS_OBJECT_PATH_INVALID",
	ObjectPathNotFound:               "STATUS_OBJECT_PATH_NOT_FOUND",
	ObjectPathSyntaxBad:              "STATUS_OBJECT_PATH_SYNTAX_BAD",
	DataOverrun:                      "STATUS_DATA_OVERRUN",
	DataError:                        "STATUS_DATA_ERROR",
	CRCError:                         "STATUS_CRC_ERROR",
	SharingViolation:                 "STATUS_SHARING_VIOLATION",
	QuotaExceeded:                    "STATUS_QUOTA_EXCEEDED",
	EANotSupported:                   "STATUS_EAS_NOT_SUPPORTED",
	EATooLarge:                       "STATUS_EA_TOO_LARGE",
	NonexistentEAEntry:               "STATUS_NONEXISTENT_EA_ENTRY",
	NoEAsOnFile:                      "STATUS_NO_EAS_ON_FILE",
	FileLockConflict:                 "STATUS_FILE_LOCK_CONFLICT",
	LockNotGranted:                   "STATUS_LOCK_NOT_GRANTED",
	DeletePending:                    "STATUS_DELETE_PENDING",
	InvalidOwner:                     "STATUS_INVALID_OWNER",
	LogonServerUnavailable:           "STATUS_NO_LOGON_SERVERS",
	PrivilegeNotHeld:                 "STATUS_PRIVILEGE_NOT_HELD",
	NoSuchUser:                       "STATUS_NO_SUCH_USER",
	NoSuchGroup:                      "STATUS_NO_SUCH_GROUP",
	WrongPassword:                    "STATUS_WRONG_PASSWORD",
	LogonFailure:                     "STATUS_LOGON_FAILURE",
	AccountRestriction:               "STATUS_ACCOUNT_RESTRICTION",
	PasswordExpired:                  "STATUS_PASSWORD_EXPIRED",
	AccountDisabled:                  "STATUS_ACCOUNT_DISABLED",
	NoneMapped:                       "STATUS_NONE_MAPPED",
	InvalidACL:                       "STATUS_INVALID_ACL",
	InvalidSID:                       "STATUS_INVALID_SID",
	InvalidSecurityDescr:             "STATUS_INVALID_SECURITY_DESCR",
	RangeNotLocked:                   "STATUS_RANGE_NOT_LOCKED",
	DiskFull:                         "STATUS_DISK_FULL",
	IntegerOverflow:                  "STATUS_INTEGER_OVERFLOW",
	InsufficientResources:            "STATUS_INSUFFICIENT_RESOURCES",
	MediaWriteProtected:              "STATUS_MEDIA_WRITE_PROTECTED",
	DeviceNotReady:                   "STATUS_DEVICE_NOT_READY",
	BadImpersonationLevel:            "STATUS_BAD_IMPERSONATION_LEVEL",
	InstanceNotAvailable:             "STATUS_INSTANCE_NOT_AVAILABLE",
	PipeNotAvailable:                 "STATUS_PIPE_NOT_AVAILABLE",
	InvalidPipeState:                 "STATUS_INVALID_PIPE_STATE",
	PipeBusy:                         "STATUS_PIPE_BUSY",
	IllegalFunction:                  "STATUS_ILLEGAL_FUNCTION",
	PipeDisconnected:                 "STATUS_PIPE_DISCONNECTED",
	PipeClosing:                      "STATUS_PIPE_CLOSING",
	IOTimeout:                        "STATUS_IO_TIMEOUT",
	FileForcedClosed:                 "STATUS_FILE_FORCED_CLOSED",
	FileIsADirectory:                 "STATUS_FILE_IS_A_DIRECTORY",
	NotSupported:                     "STATUS_NOT_SUPPORTED",
	BadNetworkPath:                   "STATUS_BAD_NETWORK_PATH",
	InvalidNetworkResponse:           "STATUS_INVALID_NETWORK_RESPONSE",
	UnexpectedNetworkError:           "STATUS_UNEXPECTED_NETWORK_ERROR",
	NetworkNameDeleted:               "STATUS_NETWORK_NAME_DELETED",
	NetworkAccessDenied:              "STATUS_NETWORK_ACCESS_DENIED",
	BadDeviceType:                    "STATUS_BAD_DEVICE_TYPE",
	BadNetworkName:                   "STATUS_BAD_NETWORK_NAME",
	RequestNotAccepted:               "STATUS_REQUEST_NOT_ACCEPTED",
	NotSameDevice:                    "STATUS_NOT_SAME_DEVICE",
	FileRenamed:                      "STATUS_FILE_RENAMED",
	PipeEmpty:                        "STATUS_PIPE_EMPTY",
	NoSuchDomain:                     "STATUS_NO_SUCH_DOMAIN",
	OpportunisticLockNotGranted:      "STATUS_OPLOCK_NOT_GRANTED",
	InvalidOplockProtocol:            "STATUS_INVALID_OPLOCK_PROTOCOL",
	InternalError:                    "STATUS_INTERNAL_ERROR",
	InvalidUserBuffer:                "STATUS_INVALID_USER_BUFFER",
	UnexpectedIOError:                "STATUS_UNEXPECTED_IO_ERROR",
	DirectoryNotEmpty:                "STATUS_DIRECTORY_NOT_EMPTY",
	NotADirectory:                    "STATUS_NOT_A_DIRECTORY",
	NameTooLong:                      "STATUS_NAME_TOO_LONG",
	TooManyOpenedFiles:               "STATUS_TOO_MANY_OPENED_FILES",
	Cancelled:                        "STATUS_CANCELLED",
	CannotDelete:                     "STATUS_CANNOT_DELETE",
	FileDeleted:                      "STATUS_FILE_DELETED",
	FileClosed:                       "STATUS_FILE_CLOSED",
	RemoteResources:                  "STATUS_REMOTE_RESOURCES",
	InvalidAddress:                   "STATUS_INVALID_ADDRESS",
	InvalidLevel:                     "STATUS_INVALID_LEVEL",
	PipeBroken:                       "STATUS_PIPE_BROKEN",
	NoSuchAlias:                      "STATUS_NO_SUCH_ALIAS",
	LogonTypeNotGranted:              "STATUS_LOGON_TYPE_NOT_GRANTED",
	InvalidDeviceState:               "STATUS_INVALID_DEVICE_STATE",
	IODeviceError:                    "STATUS_IO_DEVICE_ERROR",
	TrustFailure:                     "STATUS_TRUST_FAILURE",
	FSDriverRequired:                 "STATUS_FS_DRIVER_REQUIRED",
	InvalidLockRange:                 "STATUS_INVALID_LOCK_RANGE",
	UserSessionDeleted:               "STATUS_USER_SESSION_DELETED",
	InsuffServerResources:            "STATUS_INSUFF_SERVER_RESOURCES",
	InvalidBufferSize:                "STATUS_INVALID_BUFFER_SIZE",
	TooManyAddresses:                 "STATUS_TOO_MANY_ADDRESSES",
	AddressAlreadyExists:             "STATUS_ADDRESS_ALREADY_EXISTS",
	ConnectionDisconnected:           "STATUS_CONNECTION_DISCONNECTED",
	ConnectionReset:                  "STATUS_CONNECTION_RESET",
	NotFound:                         "STATUS_NOT_FOUND",
	DuplicateObjectID:                "STATUS_DUPLICATE_OBJECTID",
	Retry:                            "STATUS_RETRY",
	ConnectionRefused:                "STATUS_CONNECTION_REFUSED",
	ConnectionInvalid:                "STATUS_CONNECTION_INVALID",
	ConnectionActive:                 "STATUS_CONNECTION_ACTIVE",
	NetworkUnreachable:               "STATUS_NETWORK_UNREACHABLE",
	HostUnreachable:                  "STATUS_HOST_UNREACHABLE",
	ConnectionAborted:                "STATUS_CONNECTION_ABORTED",
	PathNotCovered:                   "STATUS_PATH_NOT_COVERED",
	TooManyLinks:                     "STATUS_TOO_MANY_LINKS",
	VolumeDismounted:                 "STATUS_VOLUME_DISMOUNTED",
	NotAReparsePoint:                 "STATUS_NOT_A_REPARSE_POINT",
	IOReparseTagInvalid:              "STATUS_IO_REPARSE_TAG_INVALID",
	IOReparseTagMismatch:             "STATUS_IO_REPARSE_TAG_MISMATCH",
	IOReparseDataInvalid:             "STATUS_IO_REPARSE_DATA_INVALID",
	IOReparseTagNotHandled:           "STATUS_IO_REPARSE_TAG_NOT_HANDLED",
	ReparsePointNotResolved:          "STATUS_REPARSE_POINT_NOT_RESOLVED",
	DirectoryIsAReparsePoint:         "STATUS_DIRECTORY_IS_A_REPARSE_POINT",
	DeviceRemoved:                    "STATUS_DEVICE_REMOVED",
	ObjectIDNotFound:                 "STATUS_OBJECTID_NOT_FOUND",
	NetworkSessionExpired:            "STATUS_NETWORK_SESSION_EXPIRED",
	CompressionDisabled:              "STATUS_COMPRESSION_DISABLED",
	RequestOutOfSequence:             "STATUS_REQUEST_OUT_OF_SEQUENCE",
	ImplementationLimit:              "STATUS_IMPLEMENTATION_LIMIT",
	ServerUnavailable:                "STATUS_SERVER_UNAVAILABLE",
	FileNotAvailable:                 "STATUS_FILE_NOT_AVAILABLE",
	ShareUnavailable:                 "STATUS_SHARE_UNAVAILABLE",
	ContextMismatch:                  "STATUS_CONTEXT_MISMATCH",
	BadData:                          "STATUS_BAD_DATA",
	InvalidSignature:                 "STATUS_INVALID_SIGNATURE",
	HMACNotSupported:                 "STATUS_HMAC_NOT_SUPPORTED",
	AuthTagMismatch:                  "STATUS_AUTH_TAG_MISMATCH",
	HashNotSupported:                 "STATUS_HASH_NOT_SUPPORTED",
	HashNotPresent:                   "STATUS_HASH_NOT_PRESENT",
	SMBNoPreauthIntegrityHashOverlap: "STATUS_SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP",
	SMBBadClusterDialect:             "STATUS_SMB_BAD_CLUSTER_DIALECT",
}
