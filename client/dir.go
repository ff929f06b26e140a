package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// listing is the position in a directory.
type listing struct {
	mu      sync.Mutex // held while a ReadDir is under way
	started bool       // guarded by mu
	done    bool       // guarded by mu
	rest    []fs.DirEntry
	// seen are the names so far, kept where the listing may have to start again
	// because an answer was lost with its channel. guarded by mu
	seen map[string]struct{}
}

// listClass has all that FileInfo has but the number of links.
const listClass = smb2.ClassFileIDFullDirectoryInformation

// ReadDir implements fs.ReadDirFile: up to n entries from the directory position,
// in the server's order, without "." and "..", and io.EOF at the end; for n <= 0
// all that are left, without io.EOF. The entries are *FileInfo.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	return f.ReadDirContext(context.Background(), n)
}

// ReadDirContext is ReadDir with a context.
func (f *File) ReadDirContext(ctx context.Context, n int) ([]fs.DirEntry, error) {
	l := &f.listing
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.done && (n <= 0 || len(l.rest) < n) {
		if err := f.readMore(ctx, l); err != nil {
			if n <= 0 && len(l.rest) > 0 { // what there is comes with the error
				es := l.rest
				l.rest = nil
				return es, wrap("readdir", f.name, err)
			}
			return nil, wrap("readdir", f.name, err)
		}
	}
	if n <= 0 {
		es := l.rest
		l.rest = nil
		if es == nil {
			es = []fs.DirEntry{}
		}
		return es, nil
	}
	if len(l.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(l.rest))
	es := slices.Clone(l.rest[:n])
	l.rest = l.rest[n:]
	return es, nil
}

// readMore appends the entries of one QUERY_DIRECTORY. Called with l.mu held.
func (f *File) readMore(ctx context.Context, l *listing) error {
	id, err := f.handle()
	if err != nil {
		return err
	}
	s := f.sh.s
	if l.seen == nil && s.multichannel() {
		l.seen = make(map[string]struct{})
	}
	k := f.sh.call(smb2.CommandQueryDirectory)
	defer k.free()
	req := smb2.QueryDirectoryRequest{
		FileInformationClass: listClass, FileID: id,
		FileName: starPattern, OutputBufferLength: uint32(s.maxAnswer()),
	}
	if !l.started {
		req.Flags = smb2.QueryDirectoryRestartScans
	}
	if err := k.encode(&req); err != nil {
		return err
	}
	k.once = true // the server's position has moved on
	if err = s.do(ctx, k); err != nil && l.seen != nil && s.survives(ctx, k) {
		l.started = false
		return nil
	}
	switch {
	case errors.Is(err, ntstatus.NoMoreFiles), !l.started && errors.Is(err, ntstatus.NoSuchFile):
		l.done = true
		return nil
	case errors.Is(err, ntstatus.InvalidParameter) && !f.dir && !l.started:
		return ntstatus.NotADirectory // how servers say that of QUERY_DIRECTORY
	case err != nil:
		return err
	}
	l.started = true
	m, err := smb2.ParseQueryDirectoryResponse(k.msg)
	if err != nil {
		return k.badBody(err)
	}
	if len(m.OutputBuffer) > s.maxAnswer() {
		return k.protocolError("3.2.5.16", "%d bytes of entries, %d asked for", len(m.OutputBuffer), s.maxAnswer())
	}
	if len(m.OutputBuffer) == 0 { // would go on for ever
		return k.protocolError("3.2.5.16", "an empty part of a directory")
	}
	for d, err := range smb2.DirectoryEntries(m.OutputBuffer, listClass) {
		if err != nil {
			return k.badBody(err)
		}
		switch {
		case d.FileName == "." || d.FileName == "..":
			continue
		case d.FileName == "" || strings.ContainsAny(d.FileName, "/\\\x00"):
			// Callers make paths of these, also local ones.
			return k.protocolError("3.2.5.16", "a directory lists the name %q", d.FileName)
		}
		if l.seen != nil {
			if _, again := l.seen[d.FileName]; again {
				continue
			}
			l.seen[d.FileName] = struct{}{}
		}
		l.rest = append(l.rest, infoOfEntry(&d))
	}
	return nil
}

var starPattern = smb2.EncodeUTF16("*")

// ReadDir lists a directory, sorted by name. The entries are *FileInfo. After an
// error in the middle it returns those that it has too.
func (sh *Share) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	f, err := sh.create(ctx, name, CreateOptions{
		Access: AccessReadData | AccessReadAttributes | AccessSynchronize, Options: OptDirectory})
	if err != nil {
		return nil, wrap("readdir", name, err)
	}
	es, err := f.ReadDirContext(ctx, -1)
	slices.SortFunc(es, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return es, errors.Join(err, f.Close())
}

// WalkDir walks the tree at root as fs.WalkDir does, in lexical order, with
// forward slashes in the paths. It does not follow symbolic links.
func (sh *Share) WalkDir(ctx context.Context, root string, fn fs.WalkDirFunc) error {
	name, err := clean(root)
	if err != nil {
		return wrap("walk", root, err)
	}
	return fs.WalkDir(&shareFS{sh: sh, ctx: ctx}, name, fn)
}
