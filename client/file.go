package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// File is an open file or directory. It implements io.ReaderAt, io.WriterAt,
// io.Reader, io.Writer, io.Seeker, io.ReaderFrom, io.WriterTo, io.Closer and
// fs.ReadDirFile. A File that is not closed stays open on the server until the
// share or the session ends.
type File struct {
	sh     *Share
	name   string
	action CreateAction
	dir    bool
	append bool // Write goes to the end
	lease  *Lease
	order  uint64 // of fileOrder

	mu     sync.Mutex
	id     smb2.FileID // guarded by mu
	closed bool        // guarded by mu
	// opening is how it is had again when its connection is lost; nil if it is not.
	// What it points to does not change. guarded by mu
	opening *opening
	lost    error // guarded by mu: why it could not be had again
	// locks is how many ranges are locked, locksLost says that they were, by an open
	// that is no more; doubt, that what was written may be. guarded by mu
	locks     int
	locksLost bool
	doubt     bool
	// changes counts the requests that changed the data through this open, as their answers
	// arrive: when it is opened again those that were lost with the server are among them,
	// be their callers told of them yet or not. synced is those before the last FLUSH.
	changes, synced atomic.Uint64
	unsettled       unsettled
	// lockBusy has a bit for each of the 64 LockSequence buckets of the open that is
	// in use, lockNumber their numbers: Open.OperationBuckets of [MS-SMB2] 3.2.1.4.
	lockBusy   uint64    // guarded by mu
	lockNumber [64]uint8 // guarded by mu

	posMu sync.Mutex // held while a Read, Write or Seek is under way
	pos   int64      // guarded by posMu
	// readEnd is where the last Read ended, inRow how many began where the one before
	// did. guarded by posMu
	readEnd int64
	inRow   int
	ahead   *ahead // guarded by mu: what was read ahead; nil while a Read has it

	listing listing
}

// fileOrder numbers Files, which gives the order in which two positions are locked.
var fileOrder atomic.Uint64

func newFile(sh *Share, name string, m *smb2.CreateResponse) *File {
	return &File{
		sh: sh, name: name, action: CreateAction(m.CreateAction), id: m.FileID, order: fileOrder.Add(1),
		dir: m.FileAttributes&smb2.FileAttributeDirectory != 0,
	}
}

// handle is the FileId while the file is open.
func (f *File) handle() (smb2.FileID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return smb2.FileID{}, errFileClosed
	}
	return f.id, nil
}

// errFileClosed matches both of the errors for things that are closed.
var errFileClosed = fmt.Errorf("%w: %w", ErrClosed, fs.ErrClosed)

// Name is the name as given to the opening call.
func (f *File) Name() string { return f.name }

// Lease is the lease that the file was opened with; nil without one.
func (f *File) Lease() *Lease {
	if f.lease == nil || f.lease.hidden {
		return nil
	}
	return f.lease
}

// Share is the share that the file is on.
func (f *File) Share() *Share { return f.sh }

// CreateAction says what opening did.
func (f *File) CreateAction() CreateAction { return f.action }

// ReadAt implements io.ReaderAt: it reads len(p) bytes from off, in bytes, and
// fewer only with an error, which is io.EOF at the end of the file.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	return f.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt with a context.
func (f *File) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := f.transfer(ctx, p, off, false)
	return n, f.readError(err)
}

// Pipe is where the beginning of what is read may go past this process's memory.
type Pipe = transport.Pipe

// ReadAtPiped is ReadAtContext for who hands on what is read without looking at it: the
// transport may put the first pipe.N octets into the pipe in place of p, and then they are
// not copied here. After an error, and if the pipe is Spoilt, what is in it is to be thrown
// away; it is not written to any more.
func (f *File) ReadAtPiped(ctx context.Context, p []byte, off int64, pipe *Pipe) (int, error) {
	n, err := f.beginPiped(ctx, p, off, false, pipe).finish(ctx)
	return n, f.readError(err)
}

// readError wraps all but io.EOF, which callers compare.
func (f *File) readError(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return wrap("read", f.name, err)
}

// WriteAt implements io.WriterAt: it writes p at off, in bytes.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	return f.WriteAtContext(context.Background(), p, off)
}

// WriteAtContext is WriteAt with a context. After an error bytes beyond the count
// that it returns may have been written too.
func (f *File) WriteAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := f.transfer(ctx, p, off, true)
	return n, wrap("write", f.name, err)
}

// query sends QUERY_INFO and returns the call with the answer's buffer.
func (f *File) query(ctx context.Context, t smb2.InfoType, class uint8, size int) (*call, []byte, error) {
	id, err := f.handle()
	if err != nil {
		return nil, nil, err
	}
	k, err := f.sh.queryCall(id, t, class, size)
	if err == nil {
		k.file = f
		err = f.sh.s.do(ctx, k)
	}
	var out []byte
	if err == nil {
		out, err = k.queried(size)
	}
	if err != nil {
		k.free()
		return nil, nil, err
	}
	return k, out, nil
}

// queryCall makes a QUERY_INFO request for up to size bytes.
func (sh *Share) queryCall(id smb2.FileID, t smb2.InfoType, class uint8, size int) (*call, error) {
	k := sh.call(smb2.CommandQueryInfo)
	if size > 65536 {
		k.charge = smb2.CreditCharge(size)
	}
	err := k.encode(&smb2.QueryInfoRequest{InfoType: t, FileInfoClass: class, OutputBufferLength: uint32(size), FileID: id})
	return k, err
}

// queried returns the buffer of a QUERY_INFO answer.
func (k *call) queried(size int) ([]byte, error) {
	m, err := smb2.ParseQueryInfoResponse(k.msg)
	if err != nil {
		return nil, k.badBody(err)
	}
	if len(m.OutputBuffer) > size {
		return nil, k.protocolError("3.2.5.17", "%d bytes of information, %d asked for", len(m.OutputBuffer), size)
	}
	return m.OutputBuffer, nil
}

// set sends SET_INFO.
func (f *File) set(ctx context.Context, class smb2.FileInfoClass, m body) error {
	id, err := f.handle()
	if err != nil {
		return err
	}
	k, err := f.sh.setCall(id, class, m)
	if err != nil {
		return err
	}
	defer k.free()
	k.file = f
	k.changes = class == smb2.ClassFileEndOfFileInformation || class == smb2.ClassFileAllocationInformation
	// A name that was moved, and another's that has taken its place, must not be moved too.
	k.uncertain = class == smb2.ClassFileRenameInformation || class == smb2.ClassFileLinkInformation
	return f.sh.s.do(ctx, k)
}

// setCall makes a SET_INFO request about a file.
func (sh *Share) setCall(id smb2.FileID, class smb2.FileInfoClass, m body) (*call, error) {
	buf, err := m.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	k := sh.call(smb2.CommandSetInfo)
	if err := k.encode(&smb2.SetInfoRequest{InfoType: smb2.InfoFile, FileInfoClass: uint8(class), FileID: id, Buffer: buf}); err != nil {
		k.free()
		return nil, err
	}
	return k, nil
}

// size asks for the size of the file.
func (f *File) size(ctx context.Context) (int64, error) {
	k, out, err := f.query(ctx, smb2.InfoFile, uint8(smb2.ClassFileStandardInformation), 24)
	if err != nil {
		return 0, err
	}
	defer k.free()
	m, err := smb2.ParseFileStandardInformation(out)
	if err != nil {
		return 0, k.badBody(err)
	}
	return size64(m.EndOfFile), nil
}

// Stat implements fs.File; the result is a *FileInfo.
func (f *File) Stat() (fs.FileInfo, error) {
	fi, err := f.StatContext(context.Background())
	if err != nil {
		return nil, err
	}
	return fi, nil
}

// StatContext describes the file.
func (f *File) StatContext(ctx context.Context) (*FileInfo, error) {
	fi, err := f.stat(ctx)
	return fi, wrap("stat", f.name, err)
}

func (f *File) stat(ctx context.Context) (*FileInfo, error) {
	k, out, err := f.query(ctx, smb2.InfoFile, uint8(f.sh.infoClass()), f.sh.s.maxAnswer())
	if err != nil {
		return nil, err
	}
	defer k.free()
	return f.sh.infoOf(k, f.base(), out)
}

// base is the name of the file in io/fs form.
func (f *File) base() string {
	name, err := clean(f.name)
	if err != nil { // it has been opened by that name
		return f.name
	}
	return name
}

// Sync asks the server to have the file on stable storage (FLUSH).
func (f *File) Sync(ctx context.Context) error {
	id, err := f.handle()
	if err != nil {
		return wrap("sync", f.name, err)
	}
	k := f.call(smb2.CommandFlush)
	defer k.free()
	if err := k.encode(&smb2.FlushRequest{FileID: id}); err != nil {
		return wrap("sync", f.name, err)
	}
	changes := f.changes.Load()
	if err := f.sh.s.do(ctx, k); err != nil {
		return wrap("sync", f.name, err)
	}
	f.synced.Store(changes)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.doubt {
		f.doubt = false
		return wrap("sync", f.name, fmt.Errorf("%w: the server was started again, and may have lost what was written before", ErrUncertain))
	}
	return nil
}

// Truncate sets the size in bytes.
func (f *File) Truncate(ctx context.Context, size int64) error {
	return wrap("truncate", f.name, f.set(ctx, smb2.ClassFileEndOfFileInformation, &smb2.FileEndOfFileInformation{EndOfFile: size}))
}

// Chtimes sets access and modification time, to 100 ns; a zero time is left as it is.
func (f *File) Chtimes(ctx context.Context, atime, mtime time.Time) error {
	return wrap("chtimes", f.name, f.set(ctx, smb2.ClassFileBasicInformation, times(atime, mtime)))
}

// LetTimesGo ends what Chtimes began for this open: that its own reads and writes leave
// the times of the file alone ([MS-FSCC] 2.4.7, -2). Servers before Windows 8 and those
// that do not know it refuse it.
func (f *File) LetTimesGo(ctx context.Context) error {
	const asUsual = ^smb2.Filetime(0) - 1 // -2
	return wrap("let times go", f.name, f.set(ctx, smb2.ClassFileBasicInformation,
		&smb2.FileBasicInformation{LastAccessTime: asUsual, LastWriteTime: asUsual, ChangeTime: asUsual}))
}

func times(atime, mtime time.Time) *smb2.FileBasicInformation {
	return &smb2.FileBasicInformation{LastAccessTime: smb2.FiletimeOf(atime), LastWriteTime: smb2.FiletimeOf(mtime)}
}

// SetAttributes sets the file attributes that may be set; 0 means AttrNormal.
func (f *File) SetAttributes(ctx context.Context, a Attributes) error {
	return wrap("set attributes", f.name, f.set(ctx, smb2.ClassFileBasicInformation, attributes(a)))
}

func attributes(a Attributes) *smb2.FileBasicInformation {
	if a == 0 {
		a = AttrNormal // 0 would mean "leave as it is"
	}
	return &smb2.FileBasicInformation{FileAttributes: smb2.FileAttributes(a)}
}

// Rename is Share.Rename for an open file; it was opened with AccessDelete.
func (f *File) Rename(ctx context.Context, newName string, replace bool) error {
	wire, err := wireName(newName)
	if err == nil {
		err = f.set(ctx, smb2.ClassFileRenameInformation, &smb2.FileRenameInformation{ReplaceIfExists: replace, FileName: wire})
	}
	if err == nil {
		f.moved(wire)
	}
	return wrap("rename", f.name, err)
}

// Remove removes the open file, or directory if it is empty, as soon as nobody has it
// open any more: with the POSIX extensions its name goes at once, else it stays until
// then, and nothing opens it. The file was opened with AccessDelete.
func (f *File) Remove(ctx context.Context) error {
	return wrap("remove", f.name, f.set(ctx, smb2.ClassFileDispositionInformation, &smb2.FileDispositionInformation{DeletePending: true}))
}

// LockOptions say how a byte range is locked. The zero value locks exclusively and
// fails at once with an error that matches syscall.EAGAIN if the range is taken.
type LockOptions struct {
	Shared bool
	// Wait waits until the range is free, for as long as ctx allows.
	Wait bool
}

// Lock locks length bytes from off, [MS-SMB2] 2.2.26. Locks are mandatory and
// belong to this File.
func (f *File) Lock(ctx context.Context, off, length uint64, o LockOptions) error {
	flags := smb2.LockFlagExclusiveLock
	if o.Shared {
		flags = smb2.LockFlagSharedLock
	}
	if !o.Wait {
		flags |= smb2.LockFlagFailImmediately
	}
	return wrap("lock", f.name, f.lock(ctx, smb2.LockElement{Offset: off, Length: length, Flags: flags}, o.Wait))
}

// Unlock unlocks a range exactly as it was locked.
func (f *File) Unlock(ctx context.Context, off, length uint64) error {
	return wrap("unlock", f.name, f.lock(ctx, smb2.LockElement{Offset: off, Length: length, Flags: smb2.LockFlagUnlock}, false))
}

func (f *File) lock(ctx context.Context, e smb2.LockElement, long bool) error {
	id, err := f.handle()
	if err != nil {
		return err
	}
	unlock := e.Flags == smb2.LockFlagUnlock
	if unlock && f.unlockLost() {
		return ErrLocksLost
	}
	k := f.call(smb2.CommandLock)
	defer k.free()
	k.long = long
	req := smb2.LockRequest{FileID: id, Locks: []smb2.LockElement{e}}
	if f.sh.s.multichannel() || f.sh.s.reconnects() {
		index, number := f.takeBucket()
		defer f.freeBucket(index)
		req.LockSequenceIndex, req.LockSequenceNumber = index, number
	}
	if err := k.encode(&req); err != nil {
		return err
	}
	if err := f.sh.s.do(ctx, k); err != nil {
		if unlock && errors.Is(err, ErrLocksLost) { // meanwhile
			f.unlockLost()
		}
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if unlock {
		f.locks--
	} else {
		f.locks++
	}
	return nil
}

// unlockLost counts a lock off that was lost with its open, if that is so.
func (f *File) unlockLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.locksLost {
		return false
	}
	f.locks--
	f.locksLost = f.locks > 0
	return true
}

// takeBucket is [MS-SMB2] 3.2.4.19: by bucket and number a server knows a LOCK that
// comes again because its answer was lost with a channel. Index 0 says that all 64
// are in use, and that this one is not known again.
func (f *File) takeBucket() (index uint32, number uint8) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := bits.TrailingZeros64(^f.lockBusy)
	if i == 64 {
		return 0, 0
	}
	f.lockBusy |= 1 << i
	f.lockNumber[i] = (f.lockNumber[i] + 1) & 0x0F
	return uint32(i) + 1, f.lockNumber[i]
}

func (f *File) freeBucket(index uint32) {
	if index == 0 {
		return
	}
	f.mu.Lock()
	f.lockBusy &^= 1 << (index - 1)
	f.mu.Unlock()
}

// Close closes the file; a second call fails with an error that matches
// fs.ErrClosed. Calls under way may fail.
func (f *File) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return wrap("close", f.name, errFileClosed)
	}
	f.closed = true
	id := f.id
	f.mu.Unlock()
	f.dropAhead()
	f.sh.s.leaveLease(f.lease) // the server drops it too, without a word
	defer f.sh.s.leave(nil, f)
	k := f.call(smb2.CommandClose)
	defer k.free()
	if err := k.encode(&smb2.CloseRequest{FileID: id}); err != nil {
		return wrap("close", f.name, err)
	}
	err := f.sh.s.do(context.Background(), k)
	if errors.Is(err, ntstatus.NetworkNameDeleted) || errors.Is(err, ntstatus.FileClosed) {
		err = nil // the server was first
	}
	if errors.Is(err, errClosing) || k.left && errors.Is(err, ErrStale) {
		err = nil // the server has closed it when the connection was lost
	}
	return wrap("close", f.name, err)
}
