package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Stat describes the named file, following symbolic links as far as the server
// does. It takes one round trip.
func (sh *Share) Stat(ctx context.Context, name string) (*FileInfo, error) {
	fi, err := sh.stat(ctx, name, 0)
	if errors.Is(err, ntstatus.IOReparseTagNotHandled) { // a FIFO or the like, which leads nowhere
		return sh.Lstat(ctx, name)
	}
	return fi, wrap("stat", name, err)
}

// Lstat is Stat, but describes a reparse point (a symbolic link) itself.
func (sh *Share) Lstat(ctx context.Context, name string) (*FileInfo, error) {
	fi, err := sh.stat(ctx, name, OptOpenReparsePoint)
	if err == nil && fi.tag == smb2.ReparseTagNFS {
		// Only its data tell what it is; if they can't be read or are damaged it stays irregular.
		if sp, serr := sh.special(ctx, name); serr == nil {
			fi.kind = sp.Mode
		}
	}
	return fi, wrap("lstat", name, err)
}

func (sh *Share) stat(ctx context.Context, name string, opt Option) (*FileInfo, error) {
	base, err := clean(name)
	if err != nil {
		return nil, err
	}
	size := sh.s.maxAnswer()
	k, err := sh.queryCall(smb2.AnyFileID, smb2.InfoFile, uint8(sh.infoClass()), size)
	if err != nil {
		return nil, err
	}
	defer k.free()
	// No more than that: other rights would break leases ([MS-FSA] 2.1.4.12).
	o := CreateOptions{Access: AccessReadAttributes | AccessSynchronize, Options: opt}
	if err := sh.on(ctx, name, o, k); err != nil {
		return nil, err
	}
	out, err := k.queried(size)
	if err != nil {
		return nil, err
	}
	return sh.infoOf(k, base, out)
}

// setOn opens a file, sets information about it and closes it, in one round trip.
func (sh *Share) setOn(ctx context.Context, name string, o CreateOptions, class smb2.FileInfoClass, m body) error {
	k, err := sh.setCall(smb2.AnyFileID, class, m)
	if err != nil {
		return err
	}
	defer k.free()
	return sh.on(ctx, name, o, k)
}

// Mkdir creates a directory; fs.ErrExist if the name is taken.
func (sh *Share) Mkdir(ctx context.Context, name string) error {
	return wrap("mkdir", name, sh.mkdir(ctx, name))
}

func (sh *Share) mkdir(ctx context.Context, name string) error {
	return sh.on(ctx, name, CreateOptions{
		Access: AccessReadAttributes | AccessSynchronize, Disposition: CreateNew, Options: OptDirectory}, nil)
}

// MkdirAll creates a directory and those above it; nil if it is there already.
func (sh *Share) MkdirAll(ctx context.Context, name string) error {
	name, err := clean(name)
	if err != nil {
		return wrap("mkdir", name, err)
	}
	return wrap("mkdir", name, sh.mkdirAll(ctx, name))
}

func (sh *Share) mkdirAll(ctx context.Context, name string) error {
	if name == "." {
		return nil
	}
	err := sh.mkdir(ctx, name)
	if errors.Is(err, ntstatus.ObjectPathNotFound) {
		if err := sh.mkdirAll(ctx, path.Dir(name)); err != nil {
			return err
		}
		err = sh.mkdir(ctx, name)
	}
	if errors.Is(err, fs.ErrExist) {
		fi, serr := sh.stat(ctx, name, 0)
		if serr == nil && fi.attr&AttrDirectory != 0 {
			return nil
		}
		if serr == nil {
			return ntstatus.NotADirectory
		}
	}
	return err
}

// Remove removes a file or an empty directory, also one with the read-only
// attribute. A symbolic link is removed itself.
func (sh *Share) Remove(ctx context.Context, name string) error {
	return wrap("remove", name, sh.remove(ctx, name))
}

func (sh *Share) remove(ctx context.Context, name string) error {
	wire, err := wireName(name)
	if err != nil {
		return err
	}
	if wire == "" {
		return ntstatus.AccessDenied // nobody removes the root of a share
	}
	del := &smb2.FileDispositionInformation{DeletePending: true}
	err = sh.setAlone(ctx, name, smb2.ClassFileDispositionInformation, del)
	if !errors.Is(err, ntstatus.CannotDelete) {
		return err
	}
	// Its other names, if it has some, stay read-only.
	ex := &smb2.FileDispositionInformationEx{Flags: smb2.DispositionDelete | smb2.DispositionIgnoreReadonlyAttribute}
	if sh.setAlone(ctx, name, smb2.ClassFileDispositionInformationEx, ex) == nil {
		return nil
	}
	// A server older than the flag.
	return sh.whileWritable(ctx, name, func() error {
		return sh.setAlone(ctx, name, smb2.ClassFileDispositionInformation, del)
	})
}

// WhileWritable takes the read-only attribute off a file, calls do, and puts it back, also
// if the file has lost that name meanwhile: what can't be done with a read-only file, such
// as opening it with OptDeleteOnClose, is done so. A symbolic link is meant itself. The
// error is do's if that was called.
func (sh *Share) WhileWritable(ctx context.Context, name string, do func() error) error {
	return wrap("make writable", name, sh.whileWritable(ctx, name, do))
}

func (sh *Share) whileWritable(ctx context.Context, name string, do func() error) error {
	f, err := sh.create(ctx, name, CreateOptions{
		Access: AccessReadAttributes | AccessWriteAttributes | AccessSynchronize, Options: OptOpenReparsePoint})
	if err != nil {
		return err
	}
	defer f.Close() // what is deleted goes now; nothing was written
	fi, err := f.stat(ctx)
	if err != nil {
		return err
	}
	if err := f.SetAttributes(ctx, fi.attr&^AttrReadOnly); err != nil {
		return err
	}
	err = do()
	// Also if ctx has ended meanwhile.
	if aerr := f.SetAttributes(context.WithoutCancel(ctx), fi.attr); aerr != nil && (err != nil || fi.links > 1) {
		sh.s.cfg.Logger.Warn("a file that was made writable has lost its read-only attribute", "name", name, "err", aerr)
	}
	return err
}

// setAlone is setOn for what takes a name away. Two clients that do so at once would both
// have the file open before one of them is done, and the other would go on with it, under
// whatever name it has then. So the open does not share deleting with others: who comes
// second tries again, and finds no such name. One who keeps a file open for deleting
// is not waited for.
func (sh *Share) setAlone(ctx context.Context, name string, class smb2.FileInfoClass, m body) error {
	o := CreateOptions{
		Access: AccessDelete | AccessReadAttributes | AccessSynchronize, Options: OptOpenReparsePoint,
		Share: ShareRead | ShareWrite,
	}
	const tries = 8
	for i := range tries {
		err := sh.setOn(ctx, name, o, class, m)
		if !errors.Is(err, ntstatus.SharingViolation) {
			return err
		}
		wait := time.NewTimer(time.Millisecond << i / 4)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
	}
	o.Share = ShareAll
	return sh.setOn(ctx, name, o, class, m)
}

// RemoveAll removes a file, or a directory with all in it; nil if there is none.
// Symbolic links are removed, not followed.
func (sh *Share) RemoveAll(ctx context.Context, name string) error {
	clean, err := clean(name)
	if err != nil {
		return wrap("remove", name, err)
	}
	return wrap("remove", name, sh.removeAll(ctx, clean))
}

func (sh *Share) removeAll(ctx context.Context, name string) error {
	err := sh.remove(ctx, name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !errors.Is(err, ntstatus.DirectoryNotEmpty) {
		return err
	}
	es, err := sh.ReadDir(ctx, name)
	if err != nil {
		return err
	}
	for _, e := range es {
		if err := sh.removeAll(ctx, path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	err = sh.remove(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Rename moves a file or directory within the share. If newName exists it is
// replaced if replace is set (a directory never is), else the error is fs.ErrExist.
func (sh *Share) Rename(ctx context.Context, oldName, newName string, replace bool) error {
	wire, err := wireName(newName)
	if err == nil {
		err = sh.setAlone(ctx, oldName, smb2.ClassFileRenameInformation, &smb2.FileRenameInformation{ReplaceIfExists: replace, FileName: wire})
	}
	return wrap("rename", oldName, err)
}

// Link makes newName a hard link to oldName.
func (sh *Share) Link(ctx context.Context, oldName, newName string) error {
	return wrap("link", oldName, sh.link(ctx, oldName, newName))
}

func (sh *Share) link(ctx context.Context, oldName, newName string) error {
	wire, err := wireName(newName)
	if err != nil {
		return err
	}
	k, err := sh.setCall(smb2.AnyFileID, smb2.ClassFileLinkInformation, &smb2.FileLinkInformation{FileName: wire})
	if err != nil {
		return err
	}
	defer k.free()
	o := CreateOptions{Access: AccessWriteAttributes | AccessSynchronize, Options: OptOpenReparsePoint}
	err = sh.on(ctx, oldName, o, k)
	if k.resent && errors.Is(err, ntstatus.ObjectNameCollision) {
		// Is it the first one, whose answer was lost, that has made it?
		is, err1 := sh.stat(ctx, oldName, OptOpenReparsePoint)
		was, err2 := sh.stat(ctx, newName, OptOpenReparsePoint)
		if err1 == nil && err2 == nil && is.id != 0 && is.id == was.id {
			return nil
		}
	}
	return err
}

// Truncate sets the size of a file in bytes.
func (sh *Share) Truncate(ctx context.Context, name string, size int64) error {
	return wrap("truncate", name, sh.setOn(ctx, name,
		CreateOptions{Access: AccessWriteData | AccessSynchronize, Options: OptNonDirectory},
		smb2.ClassFileEndOfFileInformation, &smb2.FileEndOfFileInformation{EndOfFile: size}))
}

// Chtimes sets access and modification time, to 100 ns; a zero time is left as it is.
func (sh *Share) Chtimes(ctx context.Context, name string, atime, mtime time.Time) error {
	return wrap("chtimes", name, sh.setOn(ctx, name, CreateOptions{Access: AccessWriteAttributes | AccessSynchronize},
		smb2.ClassFileBasicInformation, times(atime, mtime)))
}

// SetAttributes sets the file attributes that may be set; 0 means AttrNormal.
func (sh *Share) SetAttributes(ctx context.Context, name string, a Attributes) error {
	return wrap("set attributes", name, sh.setOn(ctx, name, CreateOptions{Access: AccessWriteAttributes | AccessSynchronize},
		smb2.ClassFileBasicInformation, attributes(a)))
}

// ReadFile reads a whole file.
func (sh *Share) ReadFile(ctx context.Context, name string) ([]byte, error) {
	f, err := sh.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	data, err := f.readAll(ctx)
	return data, errors.Join(f.readError(err), f.Close())
}

// readAll reads from the start to the end, into a buffer of the size that the
// server gives and one byte more, which is there to find the end.
func (f *File) readAll(ctx context.Context) ([]byte, error) {
	if f.dir {
		return nil, ntstatus.FileIsADirectory
	}
	size, err := f.size(ctx)
	if err != nil {
		return nil, err
	}
	// The buffer grows with what has come, whatever the server claims.
	data := make([]byte, 0, min(size, 4*streamChunk)+1)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := f.transfer(ctx, data[len(data):cap(data)], int64(len(data)), false)
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return data, err
		}
	}
}

// WriteFile writes a whole file, creating or truncating it.
func (sh *Share) WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	f, err := sh.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = f.WriteAtContext(ctx, data, 0)
	return errors.Join(err, f.Close())
}
