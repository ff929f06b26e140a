// Package ntstatus has the NTSTATUS codes of [MS-ERREF] 2.3 as Go errors.
//
// A [Status] is an error whose Is method matches the errors of io/fs, io, net,
// context and syscall that mean the same, so that a caller may ask
//
//	errors.Is(err, fs.ErrNotExist)
//
// of what an SMB server answered and still finds the exact code with
//
//	var st ntstatus.Status
//	errors.As(err, &st)
//
// [FromError] is the way back: the one table by which the server turns a Go
// error of a file system into a code for the wire.
//
// Success is a Status too, for wire headers, but never a Go error:
// [Status.Err] returns nil for it.
package ntstatus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Status is a 32-bit NTSTATUS value. Bits 31 and 30 are the severity:
// 0 success, 1 information, 2 warning, 3 error.
type Status uint32

// IsError reports whether the severity is error (0xC0000000 and above).
func (s Status) IsError() bool { return s>>30 == 3 }

// IsWarning reports whether the severity is warning, as that of
// STATUS_BUFFER_OVERFLOW, which comes with data.
func (s Status) IsWarning() bool { return s>>30 == 2 }

// Err returns nil for Success and s itself for every other value.
func (s Status) Err() error {
	if s == Success {
		return nil
	}
	return s
}

// String returns the name of [MS-ERREF], or the number of an unknown value.
func (s Status) String() string {
	if n, ok := names[s]; ok {
		return n
	}
	return fmt.Sprintf("NTSTATUS 0x%08X", uint32(s))
}

// Error implements error.
func (s Status) Error() string { return s.String() }

// Is makes errors.Is match the Go errors with the same meaning. The relation
// is many to many on purpose: STATUS_OBJECT_NAME_NOT_FOUND and
// STATUS_OBJECT_PATH_NOT_FOUND are both fs.ErrNotExist.
func (s Status) Is(target error) bool {
	for _, e := range meanings[s] {
		if e == target {
			return true
		}
	}
	return false
}

// meanings lists what errors.Is answers true to for each code. Errnos come
// with the fs sentinels, as syscall.Errno.Is does not look back from a sentinel.
var meanings = map[Status][]error{
	NoSuchFile:             {fs.ErrNotExist, syscall.ENOENT},
	ObjectNameNotFound:     {fs.ErrNotExist, syscall.ENOENT},
	ObjectPathNotFound:     {fs.ErrNotExist, syscall.ENOENT},
	BadNetworkName:         {fs.ErrNotExist, syscall.ENOENT},
	NotFound:               {fs.ErrNotExist, syscall.ENOENT},
	NoSuchDevice:           {fs.ErrNotExist, syscall.ENODEV},
	DeletePending:          {fs.ErrNotExist, syscall.ENOENT},
	FileDeleted:            {fs.ErrNotExist, syscall.ENOENT},
	ObjectNameCollision:    {fs.ErrExist, syscall.EEXIST},
	AddressAlreadyExists:   {syscall.EADDRINUSE},
	AccessDenied:           {fs.ErrPermission, syscall.EACCES},
	NetworkAccessDenied:    {fs.ErrPermission, syscall.EACCES},
	PrivilegeNotHeld:       {fs.ErrPermission, syscall.EPERM},
	CannotDelete:           {fs.ErrPermission, syscall.EPERM},
	MediaWriteProtected:    {fs.ErrPermission, syscall.EROFS},
	LogonFailure:           {fs.ErrPermission, syscall.EACCES},
	WrongPassword:          {fs.ErrPermission, syscall.EACCES},
	NoSuchUser:             {fs.ErrPermission, syscall.EACCES},
	AccountRestriction:     {fs.ErrPermission, syscall.EACCES},
	AccountDisabled:        {fs.ErrPermission, syscall.EACCES},
	PasswordExpired:        {fs.ErrPermission, syscall.EACCES},
	LogonTypeNotGranted:    {fs.ErrPermission, syscall.EACCES},
	SharingViolation:       {syscall.EBUSY},
	DeviceBusy:             {syscall.EBUSY},
	FileLockConflict:       {syscall.EAGAIN},
	LockNotGranted:         {syscall.EAGAIN},
	InvalidHandle:          {fs.ErrClosed, syscall.EBADF},
	FileClosed:             {fs.ErrClosed, syscall.EBADF},
	InvalidParameter:       {fs.ErrInvalid, syscall.EINVAL},
	ObjectNameInvalid:      {fs.ErrInvalid, syscall.EINVAL},
	ObjectPathInvalid:      {fs.ErrInvalid, syscall.EINVAL},
	ObjectPathSyntaxBad:    {fs.ErrInvalid, syscall.EINVAL},
	EndOfFile:              {io.EOF},
	NoMoreFiles:            {io.EOF},
	NoMoreEntries:          {syscall.ENOSPC},
	FileIsADirectory:       {syscall.EISDIR},
	NotADirectory:          {syscall.ENOTDIR},
	DirectoryNotEmpty:      {syscall.ENOTEMPTY},
	NameTooLong:            {syscall.ENAMETOOLONG},
	NotSameDevice:          {syscall.EXDEV},
	DiskFull:               {syscall.ENOSPC},
	QuotaExceeded:          {syscall.EDQUOT},
	TooManyLinks:           {syscall.EMLINK},
	TooManyOpenedFiles:     {syscall.EMFILE},
	NoMemory:               {syscall.ENOMEM},
	InsufficientResources:  {syscall.ENOMEM},
	InsuffServerResources:  {syscall.ENOMEM},
	NotSupported:           {errors.ErrUnsupported, syscall.EOPNOTSUPP},
	NotImplemented:         {errors.ErrUnsupported, syscall.ENOSYS},
	InvalidDeviceRequest:   {errors.ErrUnsupported, syscall.EOPNOTSUPP},
	InvalidInfoClass:       {errors.ErrUnsupported, syscall.EOPNOTSUPP},
	EANotSupported:         {errors.ErrUnsupported, syscall.EOPNOTSUPP},
	IODeviceError:          {syscall.EIO},
	UnexpectedIOError:      {syscall.EIO},
	DataError:              {syscall.EIO},
	CRCError:               {syscall.EIO},
	IOTimeout:              {os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
	Cancelled:              {context.Canceled, syscall.ECANCELED},
	ConnectionRefused:      {syscall.ECONNREFUSED},
	ConnectionInvalid:      {syscall.ENOTCONN, net.ErrClosed},
	ConnectionActive:       {syscall.EISCONN},
	ConnectionAborted:      {syscall.ECONNABORTED, net.ErrClosed},
	ConnectionReset:        {syscall.ECONNRESET, net.ErrClosed},
	ConnectionDisconnected: {syscall.ENOTCONN, net.ErrClosed},
	NetworkNameDeleted:     {net.ErrClosed},
	NetworkUnreachable:     {syscall.ENETUNREACH},
	HostUnreachable:        {syscall.EHOSTUNREACH},
	InvalidAddress:         {syscall.EADDRNOTAVAIL},
	TooManyAddresses:       {syscall.EADDRNOTAVAIL},
	StoppedOnSymlink:       {syscall.ELOOP},
	NonexistentEAEntry:     {syscall.ENODATA},
	NoEAsOnFile:            {syscall.ENODATA},
	EATooLarge:             {syscall.E2BIG},
	PipeBroken:             {syscall.EPIPE},
	PipeDisconnected:       {syscall.EPIPE},
}

// byErrno is the way back for errors that carry an errno.
var byErrno = map[syscall.Errno]Status{
	syscall.ENOENT:       ObjectNameNotFound,
	syscall.EEXIST:       ObjectNameCollision,
	syscall.EACCES:       AccessDenied,
	syscall.EPERM:        AccessDenied,
	syscall.EROFS:        MediaWriteProtected,
	syscall.EBUSY:        SharingViolation,
	syscall.ETXTBSY:      SharingViolation,
	syscall.EAGAIN:       LockNotGranted,
	syscall.EBADF:        InvalidHandle,
	syscall.EINVAL:       InvalidParameter,
	syscall.EISDIR:       FileIsADirectory,
	syscall.ENOTDIR:      ObjectPathNotFound,
	syscall.ENOTEMPTY:    DirectoryNotEmpty,
	syscall.ENAMETOOLONG: ObjectNameInvalid,
	syscall.EXDEV:        NotSameDevice,
	syscall.ENOSPC:       DiskFull,
	syscall.EDQUOT:       QuotaExceeded,
	syscall.EFBIG:        DiskFull,
	syscall.EMLINK:       TooManyLinks,
	syscall.EMFILE:       TooManyOpenedFiles,
	syscall.ENFILE:       TooManyOpenedFiles,
	syscall.ENOMEM:       InsufficientResources,
	syscall.ENOBUFS:      InsufficientResources,
	syscall.EOPNOTSUPP:   NotSupported,
	syscall.ENOSYS:       NotSupported,
	syscall.ENOTTY:       InvalidDeviceRequest,
	syscall.ENODATA:      NonexistentEAEntry,
	syscall.E2BIG:        EATooLarge,
	syscall.ERANGE:       BufferTooSmall,
	syscall.EIO:          IODeviceError,
	syscall.ELOOP:        ObjectPathNotFound,
	syscall.ETIMEDOUT:    IOTimeout,
	syscall.ECANCELED:    Cancelled,
	syscall.EPIPE:        PipeBroken,
	syscall.ESTALE:       FileClosed,
	syscall.ENODEV:       NoSuchDevice,
	syscall.ENXIO:        NoSuchDevice,
	syscall.ESPIPE:       InvalidDeviceRequest,
}

// FromError returns the code that stands for err on the wire: Success for nil,
// the Status that err wraps, else the translation of its errno, else that of
// the io/fs, io or context sentinel it matches, else Unsuccessful.
func FromError(err error) Status {
	if err == nil {
		return Success
	}
	var st Status
	if errors.As(err, &st) {
		return st
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if st, ok := byErrno[errno]; ok {
			return st
		}
		return Unsuccessful
	}
	for _, m := range bySentinel {
		if errors.Is(err, m.err) {
			return m.st
		}
	}
	return Unsuccessful
}

// bySentinel is searched in order, after errnos.
var bySentinel = []struct {
	err error
	st  Status
}{
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
}
