package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
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

	mu     sync.Mutex
	id     smb2.FileID // guarded by mu
	closed bool        // guarded by mu
	// lockBusy has a bit for each of the 64 LockSequence buckets of the open that is
	// in use, lockNumber their numbers: Open.OperationBuckets of [MS-SMB2] 3.2.1.4.
	lockBusy   uint64    // guarded by mu
	lockNumber [64]uint8 // guarded by mu

	posMu sync.Mutex // held while a Read, Write or Seek is under way
	pos   int64      // guarded by posMu

	listing listing
}

func newFile(sh *Share, name string, m *smb2.CreateResponse) *File {
	return &File{
		sh: sh, name: name, action: CreateAction(m.CreateAction), id: m.FileID,
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

// Read reads at the file position: up to len(p) bytes, io.EOF at the end.
func (f *File) Read(p []byte) (int, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	n, err := f.transfer(context.Background(), p, f.pos, false)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, f.readError(err)
}

// Write writes at the file position, or at the end of a file opened with O_APPEND
// (where it is found by asking, so another writer may be in between).
func (f *File) Write(p []byte) (int, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	ctx := context.Background()
	if err := f.toEnd(ctx); err != nil {
		return 0, wrap("write", f.name, err)
	}
	n, err := f.transfer(ctx, p, f.pos, true)
	f.pos += int64(n)
	return n, wrap("write", f.name, err)
}

// toEnd moves the position of an appending file. Called with posMu held.
func (f *File) toEnd(ctx context.Context) error {
	if !f.append {
		return nil
	}
	size, err := f.size(ctx)
	if err == nil {
		f.pos = size
	}
	return err
}

// Seek sets the file position, in bytes.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	base := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = f.pos
	case io.SeekEnd:
		var err error
		if base, err = f.size(context.Background()); err != nil {
			return 0, wrap("seek", f.name, err)
		}
	default:
		return 0, wrap("seek", f.name, fs.ErrInvalid)
	}
	if offset > 0 && base > 1<<63-1-offset || base+offset < 0 {
		return 0, wrap("seek", f.name, fs.ErrInvalid)
	}
	f.pos = base + offset
	return f.pos, nil
}

// streamChunk is how many bytes ReadFrom and WriteTo move in one transfer, two of
// which they keep going.
const streamChunk = 1 << 20

// ReadFrom writes all of r at the file position. While one piece is written the
// next is read from r.
func (f *File) ReadFrom(r io.Reader) (total int64, err error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	ctx := context.Background()
	if err := f.toEnd(ctx); err != nil {
		return 0, wrap("write", f.name, err)
	}
	var bufs [2][]byte
	var going *transfer
	want := 0
	// finish ends the transfer that is going.
	finish := func() error {
		if going == nil {
			return nil
		}
		n, err := going.finish(ctx)
		going = nil
		f.pos += int64(n)
		total += int64(n)
		if err == nil && n < want {
			err = io.ErrShortWrite
		}
		return wrap("write", f.name, err)
	}
	for i := 0; ; i++ {
		if bufs[i%2] == nil {
			bufs[i%2] = make([]byte, streamChunk)
		}
		n, rerr := io.ReadFull(r, bufs[i%2])
		if err := finish(); err != nil {
			return total, err
		}
		if n > 0 {
			want = n
			going = f.begin(ctx, bufs[i%2][:n], f.pos, true)
		}
		if rerr != nil {
			err := finish()
			if err == nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
				err = rerr
			}
			return total, err
		}
	}
}

// WriteTo reads from the file position to the end into w. While w takes one piece
// the next is read.
func (f *File) WriteTo(w io.Writer) (total int64, err error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	ctx := context.Background()
	var bufs [2][]byte
	for i := range bufs {
		bufs[i] = make([]byte, streamChunk)
	}
	next := f.pos + streamChunk
	going := f.begin(ctx, bufs[0], f.pos, false)
	for i := 0; ; i++ {
		n, err := going.finish(ctx)
		going = nil
		if err == nil {
			going = f.begin(ctx, bufs[(i+1)%2], next, false)
			next += streamChunk
		}
		if n > 0 {
			m, werr := w.Write(bufs[i%2][:n])
			f.pos += int64(m)
			total += int64(m)
			if werr == nil && m < n {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				if going != nil {
					_, _ = going.finish(ctx) // read ahead for nothing
				}
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, f.readError(err)
		}
	}
}

// query sends QUERY_INFO and returns the call with the answer's buffer.
func (f *File) query(ctx context.Context, t smb2.InfoType, class uint8, size int) (*call, []byte, error) {
	id, err := f.handle()
	if err != nil {
		return nil, nil, err
	}
	k, err := f.sh.queryCall(id, t, class, size)
	if err == nil {
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
	k, out, err := f.query(ctx, smb2.InfoFile, uint8(smb2.ClassFileAllInformation), f.sh.s.maxAnswer())
	if err != nil {
		return nil, wrap("stat", f.name, err)
	}
	defer k.free()
	m, err := smb2.ParseFileAllInformation(out)
	if err != nil {
		return nil, wrap("stat", f.name, k.badBody(err))
	}
	return infoOfAll(f.base(), &m), nil
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
	k := f.sh.call(smb2.CommandFlush)
	defer k.free()
	if err := k.encode(&smb2.FlushRequest{FileID: id}); err != nil {
		return wrap("sync", f.name, err)
	}
	return wrap("sync", f.name, f.sh.s.do(ctx, k))
}

// Truncate sets the size in bytes.
func (f *File) Truncate(ctx context.Context, size int64) error {
	return wrap("truncate", f.name, f.set(ctx, smb2.ClassFileEndOfFileInformation, &smb2.FileEndOfFileInformation{EndOfFile: size}))
}

// Chtimes sets access and modification time, to 100 ns; a zero time is left as it is.
func (f *File) Chtimes(ctx context.Context, atime, mtime time.Time) error {
	return wrap("chtimes", f.name, f.set(ctx, smb2.ClassFileBasicInformation, times(atime, mtime)))
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
	return wrap("rename", f.name, err)
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
	k := f.sh.call(smb2.CommandLock)
	defer k.free()
	k.long = long
	req := smb2.LockRequest{FileID: id, Locks: []smb2.LockElement{e}}
	if f.sh.s.multichannel() {
		index, number := f.takeBucket()
		defer f.freeBucket(index)
		req.LockSequenceIndex, req.LockSequenceNumber = index, number
	}
	if err := k.encode(&req); err != nil {
		return err
	}
	return f.sh.s.do(ctx, k)
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
	k := f.sh.call(smb2.CommandClose)
	defer k.free()
	if err := k.encode(&smb2.CloseRequest{FileID: id}); err != nil {
		return wrap("close", f.name, err)
	}
	err := f.sh.s.do(context.Background(), k)
	if errors.Is(err, ntstatus.NetworkNameDeleted) || errors.Is(err, ntstatus.FileClosed) {
		err = nil // the server was first
	}
	return wrap("close", f.name, err)
}
