package client

import (
	"context"
	"errors"
	"io/fs"
	"path"
)

// shareFS is a share, or a directory of it, as io/fs has it.
type shareFS struct {
	sh  *Share
	ctx context.Context // that of all its operations, as fs.FS has none
	dir string          // "" for the root
}

var (
	_ fs.StatFS      = (*shareFS)(nil)
	_ fs.ReadDirFS   = (*shareFS)(nil)
	_ fs.ReadFileFS  = (*shareFS)(nil)
	_ fs.ReadLinkFS  = (*shareFS)(nil)
	_ fs.SubFS       = (*shareFS)(nil)
	_ fs.File        = (*File)(nil)
	_ fs.ReadDirFile = (*File)(nil)
)

// FS is the share as fs.FS; it is also fs.StatFS, fs.ReadDirFS, fs.ReadFileFS,
// fs.ReadLinkFS and fs.SubFS. Names are checked by fs.ValidPath, and errors are
// *fs.PathError.
func (sh *Share) FS() fs.FS { return sh.FSContext(context.Background()) }

// FSContext is FS with a context for all that is done through it.
func (sh *Share) FSContext(ctx context.Context) fs.FS { return &shareFS{sh: sh, ctx: ctx} }

// at is the name on the share.
func (s *shareFS) at(name string) string { return path.Join(s.dir, name) }

// check wants a valid path without a backslash, which would be two elements.
func (s *shareFS) check(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	for i := range len(name) {
		if name[i] == '\\' || name[i] == 0 {
			return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return nil
}

// pathError turns an *Error into the error that io/fs wants.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Open implements fs.FS.
func (s *shareFS) Open(name string) (fs.File, error) {
	if err := s.check("open", name); err != nil {
		return nil, err
	}
	f, err := s.sh.Open(s.ctx, s.at(name))
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

// Stat implements fs.StatFS.
func (s *shareFS) Stat(name string) (fs.FileInfo, error) {
	if err := s.check("stat", name); err != nil {
		return nil, err
	}
	fi, err := s.sh.Stat(s.ctx, s.at(name))
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return fi, nil
}

// ReadDir implements fs.ReadDirFS.
func (s *shareFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := s.check("readdir", name); err != nil {
		return nil, err
	}
	es, err := s.sh.ReadDir(s.ctx, s.at(name))
	return es, pathError("readdir", name, err)
}

// ReadFile implements fs.ReadFileFS.
func (s *shareFS) ReadFile(name string) ([]byte, error) {
	if err := s.check("readfile", name); err != nil {
		return nil, err
	}
	data, err := s.sh.ReadFile(s.ctx, s.at(name))
	return data, pathError("readfile", name, err)
}

// Lstat implements fs.ReadLinkFS.
func (s *shareFS) Lstat(name string) (fs.FileInfo, error) {
	if err := s.check("lstat", name); err != nil {
		return nil, err
	}
	fi, err := s.sh.Lstat(s.ctx, s.at(name))
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	return fi, nil
}

// ReadLink implements fs.ReadLinkFS.
func (s *shareFS) ReadLink(name string) (string, error) {
	if err := s.check("readlink", name); err != nil {
		return "", err
	}
	target, err := s.sh.Readlink(s.ctx, s.at(name))
	return target, pathError("readlink", name, err)
}

// Sub implements fs.SubFS.
func (s *shareFS) Sub(dir string) (fs.FS, error) {
	if err := s.check("sub", dir); err != nil {
		return nil, err
	}
	return &shareFS{sh: s.sh, ctx: s.ctx, dir: s.at(dir)}, nil
}
