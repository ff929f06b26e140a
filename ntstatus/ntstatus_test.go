package ntstatus

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Values and names as the table of [MS-ERREF] 2.3.1 has them.
func TestValues(t *testing.T) {
	for _, c := range []struct {
		st    Status
		value uint32
		name  string
	}{
		{Success, 0x00000000, "STATUS_SUCCESS"},
		{Pending, 0x00000103, "STATUS_PENDING"},
		{NotifyCleanup, 0x0000010B, "STATUS_NOTIFY_CLEANUP"},
		{NotifyEnumDir, 0x0000010C, "STATUS_NOTIFY_ENUM_DIR"},
		{BufferOverflow, 0x80000005, "STATUS_BUFFER_OVERFLOW"},
		{NoMoreFiles, 0x80000006, "STATUS_NO_MORE_FILES"},
		{StoppedOnSymlink, 0x8000002D, "STATUS_STOPPED_ON_SYMLINK"},
		{Unsuccessful, 0xC0000001, "STATUS_UNSUCCESSFUL"},
		{NotImplemented, 0xC0000002, "STATUS_NOT_IMPLEMENTED"},
		{InvalidInfoClass, 0xC0000003, "STATUS_INVALID_INFO_CLASS"},
		{InfoLengthMismatch, 0xC0000004, "STATUS_INFO_LENGTH_MISMATCH"},
		{InvalidHandle, 0xC0000008, "STATUS_INVALID_HANDLE"},
		{InvalidParameter, 0xC000000D, "STATUS_INVALID_PARAMETER"},
		{NoSuchFile, 0xC000000F, "STATUS_NO_SUCH_FILE"},
		{InvalidDeviceRequest, 0xC0000010, "STATUS_INVALID_DEVICE_REQUEST"},
		{EndOfFile, 0xC0000011, "STATUS_END_OF_FILE"},
		{MoreProcessingRequired, 0xC0000016, "STATUS_MORE_PROCESSING_REQUIRED"},
		{AccessDenied, 0xC0000022, "STATUS_ACCESS_DENIED"},
		{BufferTooSmall, 0xC0000023, "STATUS_BUFFER_TOO_SMALL"},
		{ObjectNameInvalid, 0xC0000033, "STATUS_OBJECT_NAME_INVALID"},
		{ObjectNameNotFound, 0xC0000034, "STATUS_OBJECT_NAME_NOT_FOUND"},
		{ObjectNameCollision, 0xC0000035, "STATUS_OBJECT_NAME_COLLISION"},
		{ObjectPathNotFound, 0xC000003A, "STATUS_OBJECT_PATH_NOT_FOUND"},
		{SharingViolation, 0xC0000043, "STATUS_SHARING_VIOLATION"},
		{FileLockConflict, 0xC0000054, "STATUS_FILE_LOCK_CONFLICT"},
		{LockNotGranted, 0xC0000055, "STATUS_LOCK_NOT_GRANTED"},
		{DeletePending, 0xC0000056, "STATUS_DELETE_PENDING"},
		{LogonFailure, 0xC000006D, "STATUS_LOGON_FAILURE"},
		{RangeNotLocked, 0xC000007E, "STATUS_RANGE_NOT_LOCKED"},
		{DiskFull, 0xC000007F, "STATUS_DISK_FULL"},
		{IntegerOverflow, 0xC0000095, "STATUS_INTEGER_OVERFLOW"},
		{InsufficientResources, 0xC000009A, "STATUS_INSUFFICIENT_RESOURCES"},
		{MediaWriteProtected, 0xC00000A2, "STATUS_MEDIA_WRITE_PROTECTED"},
		{IOTimeout, 0xC00000B5, "STATUS_IO_TIMEOUT"},
		{FileIsADirectory, 0xC00000BA, "STATUS_FILE_IS_A_DIRECTORY"},
		{NotSupported, 0xC00000BB, "STATUS_NOT_SUPPORTED"},
		{NetworkNameDeleted, 0xC00000C9, "STATUS_NETWORK_NAME_DELETED"},
		{BadNetworkName, 0xC00000CC, "STATUS_BAD_NETWORK_NAME"},
		{NotSameDevice, 0xC00000D4, "STATUS_NOT_SAME_DEVICE"},
		{DirectoryNotEmpty, 0xC0000101, "STATUS_DIRECTORY_NOT_EMPTY"},
		{NotADirectory, 0xC0000103, "STATUS_NOT_A_DIRECTORY"},
		{Cancelled, 0xC0000120, "STATUS_CANCELLED"},
		{CannotDelete, 0xC0000121, "STATUS_CANNOT_DELETE"},
		{FileClosed, 0xC0000128, "STATUS_FILE_CLOSED"},
		{IODeviceError, 0xC0000185, "STATUS_IO_DEVICE_ERROR"},
		{TrustFailure, 0xC0000190, "STATUS_TRUST_FAILURE"},
		{UserSessionDeleted, 0xC0000203, "STATUS_USER_SESSION_DELETED"},
		{InsuffServerResources, 0xC0000205, "STATUS_INSUFF_SERVER_RESOURCES"},
		{NotFound, 0xC0000225, "STATUS_NOT_FOUND"},
		{NetworkSessionExpired, 0xC000035C, "STATUS_NETWORK_SESSION_EXPIRED"},
		{RequestOutOfSequence, 0xC000042A, "STATUS_REQUEST_OUT_OF_SEQUENCE"},
		{SMBNoPreauthIntegrityHashOverlap, 0xC05D0000, "STATUS_SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP"},
	} {
		if uint32(c.st) != c.value || c.st.String() != c.name || c.st.Error() != c.name {
			t.Errorf("%s is 0x%08X, want %s, 0x%08X", c.st, uint32(c.st), c.name, c.value)
		}
	}
}

// Every constant has a name, its own, and every name a constant.
func TestEveryRowHasItsName(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Status]string{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			name := v.Names[0].Name
			n, err := strconv.ParseUint(v.Values[0].(*ast.BasicLit).Value, 0, 32)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			st, spec := Status(n), strings.TrimSpace(v.Comment.Text())
			if twin, ok := seen[st]; ok {
				t.Errorf("%s and %s are both 0x%08X", name, twin, n)
			}
			seen[st] = name
			if st.String() != spec {
				t.Errorf("%s is called %s, and %s in its comment", name, st, spec)
			}
		}
	}
	if len(seen) < 100 || len(names) != len(seen) {
		t.Errorf("%d constants, %d names", len(seen), len(names))
	}
	for st := range meanings {
		if _, ok := seen[st]; !ok {
			t.Errorf("0x%08X has meanings and no name", uint32(st))
		}
	}
}

func TestUnknownValue(t *testing.T) {
	st := Status(0xC0DEF00D)
	if got := st.String(); got != "NTSTATUS 0xC0DEF00D" {
		t.Errorf("got %q", got)
	}
	for _, e := range []error{fs.ErrNotExist, fs.ErrPermission, io.EOF, net.ErrClosed, syscall.EIO} {
		if errors.Is(st, e) {
			t.Errorf("matches %v", e)
		}
	}
}

// [MS-ERREF] 2.3: the severity is in the two highest bits.
func TestSeverity(t *testing.T) {
	for _, c := range []struct {
		st             Status
		isErr, warning bool
	}{
		{Success, false, false}, {Pending, false, false}, {0x40000000, false, false},
		{BufferOverflow, false, true}, {NoMoreFiles, false, true}, {AccessDenied, true, false}, {0xFFFFFFFF, true, false},
	} {
		if c.st.IsError() != c.isErr || c.st.IsWarning() != c.warning {
			t.Errorf("%v: error %v, warning %v", c.st, c.st.IsError(), c.st.IsWarning())
		}
		if err := c.st.Err(); (err == nil) != (c.st == Success) || err != nil && err != error(c.st) {
			t.Errorf("%v.Err() = %v", c.st, err)
		}
	}
}

func TestIs(t *testing.T) {
	sentinels := []error{
		fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrClosed, fs.ErrInvalid, io.EOF,
		errors.ErrUnsupported, os.ErrDeadlineExceeded, context.Canceled, net.ErrClosed,
	}
	for _, c := range []struct {
		st       Status
		sentinel error // nil for none
		errno    syscall.Errno
	}{
		{ObjectNameNotFound, fs.ErrNotExist, syscall.ENOENT},
		{ObjectPathNotFound, fs.ErrNotExist, syscall.ENOENT},
		{BadNetworkName, fs.ErrNotExist, syscall.ENOENT},
		{ObjectNameCollision, fs.ErrExist, syscall.EEXIST},
		{AccessDenied, fs.ErrPermission, syscall.EACCES},
		{LogonFailure, fs.ErrPermission, syscall.EACCES},
		{MediaWriteProtected, fs.ErrPermission, syscall.EROFS},
		{FileClosed, fs.ErrClosed, syscall.EBADF},
		{InvalidParameter, fs.ErrInvalid, syscall.EINVAL},
		{NotSupported, errors.ErrUnsupported, syscall.EOPNOTSUPP},
		{IOTimeout, os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
		{Cancelled, context.Canceled, syscall.ECANCELED},
		{ConnectionReset, net.ErrClosed, syscall.ECONNRESET},
		{SharingViolation, nil, syscall.EBUSY},
		{LockNotGranted, nil, syscall.EAGAIN},
		{FileIsADirectory, nil, syscall.EISDIR},
		{NotADirectory, nil, syscall.ENOTDIR},
		{DirectoryNotEmpty, nil, syscall.ENOTEMPTY},
		{DiskFull, nil, syscall.ENOSPC},
		{IODeviceError, nil, syscall.EIO},
		{Unsuccessful, nil, 0},
		{MoreProcessingRequired, nil, 0},
	} {
		err := fmt.Errorf("open x: %w", c.st)
		for _, s := range sentinels {
			if got := errors.Is(err, s); got != (s == c.sentinel) {
				t.Errorf("%v matches %q: %v", c.st, s, got)
			}
		}
		if c.errno != 0 && !errors.Is(err, c.errno) {
			t.Errorf("%v does not match %q", c.st, c.errno)
		}
		var st Status
		if !errors.As(err, &st) || st != c.st || !errors.Is(err, c.st) {
			t.Errorf("%v is lost in %v", c.st, err)
		}
	}
	if !errors.Is(EndOfFile, io.EOF) || !errors.Is(NoMoreFiles, io.EOF) || errors.Is(Success, io.EOF) {
		t.Error("io.EOF is STATUS_END_OF_FILE and STATUS_NO_MORE_FILES")
	}
}

func TestFromError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Status
	}{
		{nil, Success},
		{AccessDenied, AccessDenied},
		{fmt.Errorf("deep: %w", fmt.Errorf("down: %w", RangeNotLocked)), RangeNotLocked},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, ObjectNameNotFound},
		{&os.LinkError{Op: "rename", Old: "x", New: "y", Err: syscall.EXDEV}, NotSameDevice},
		{os.NewSyscallError("mkdir", syscall.EEXIST), ObjectNameCollision},
		{syscall.EACCES, AccessDenied},
		{syscall.EPERM, AccessDenied},
		{syscall.EROFS, MediaWriteProtected},
		{syscall.EBUSY, SharingViolation},
		{syscall.ETXTBSY, SharingViolation},
		{syscall.EAGAIN, LockNotGranted},
		{syscall.EINVAL, InvalidParameter},
		{syscall.EISDIR, FileIsADirectory},
		{syscall.ENOTDIR, ObjectPathNotFound}, // a file in the middle of a path
		{syscall.ELOOP, ObjectPathNotFound},
		{syscall.ENOTEMPTY, DirectoryNotEmpty},
		{syscall.ENAMETOOLONG, ObjectNameInvalid},
		{syscall.ENOSPC, DiskFull},
		{syscall.EFBIG, DiskFull},
		{syscall.EDQUOT, QuotaExceeded},
		{syscall.EMFILE, TooManyOpenedFiles},
		{syscall.ENOMEM, InsufficientResources},
		{syscall.EOPNOTSUPP, NotSupported},
		{syscall.ENOSYS, NotSupported},
		{syscall.EIO, IODeviceError},
		{syscall.ENODATA, NonexistentEAEntry},
		{syscall.EXFULL, Unsuccessful}, // an errno without a row
		{fs.ErrNotExist, ObjectNameNotFound},
		{fs.ErrExist, ObjectNameCollision},
		{fs.ErrPermission, AccessDenied},
		{fs.ErrClosed, FileClosed},
		{fs.ErrInvalid, InvalidParameter},
		{io.EOF, EndOfFile},
		{io.ErrUnexpectedEOF, EndOfFile},
		{errors.ErrUnsupported, NotSupported},
		{context.Canceled, Cancelled},
		{context.DeadlineExceeded, IOTimeout},
		{os.ErrDeadlineExceeded, IOTimeout},
		{net.ErrClosed, ConnectionDisconnected},
		{errors.New("something else"), Unsuccessful},
	} {
		if got := FromError(c.err); got != c.want {
			t.Errorf("FromError(%v) = %v, want %v", c.err, got, c.want)
		}
		if c.err != nil {
			if got := FromError(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
				t.Errorf("FromError(wrapped %v) = %v, want %v", c.err, got, c.want)
			}
		}
	}
}

// Every row of the way back leads to an error, and one that the errno's own
// sentinel matches too: who asks errors.Is(err, fs.ErrNotExist) on this side of
// the wire and on the other gets one answer.
func TestEveryErrnoKeepsItsSentinel(t *testing.T) {
	for errno, st := range byErrno {
		if !st.IsError() {
			t.Errorf("%v becomes %v, which is no error", errno, st)
		}
		for _, s := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission} {
			switch errno {
			case syscall.ENOTDIR, syscall.ELOOP, // said of a path, not of a file
				syscall.ENOTEMPTY,             // Go takes it for fs.ErrExist
				syscall.ENODEV, syscall.ENXIO, // no such device is not there
				syscall.EROFS: // what is write-protected is not permitted
				continue
			}
			if errors.Is(errno, s) != errors.Is(st, s) {
				t.Errorf("%v is %q: %v, but %v: %v", errno, s, errors.Is(errno, s), st, errors.Is(st, s))
			}
		}
	}
}

// Every status whose meaning is an errno, comes back from that errno as one that
// means the same.
func TestEveryMeaningComesBack(t *testing.T) {
	for st, es := range meanings {
		for _, e := range es {
			errno, ok := e.(syscall.Errno)
			if _, row := byErrno[errno]; !ok || !row {
				continue
			}
			back := FromError(errno)
			switch errno {
			case syscall.EPERM, syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.ENOSYS:
				continue // another status says these on the wire: TestFromError has them
			}
			if !errors.Is(back, errno) {
				t.Errorf("%v means %v, which becomes %v, which does not mean it", st, errno, back)
			}
		}
	}
}
