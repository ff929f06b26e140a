package memory

import (
	"context"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// namedStream is a stream of a node.
type namedStream struct {
	name string // guarded by node.mu
	data *content
}

// cost is what the stream takes besides its content.
func (st *namedStream) cost() int64 { return int64(streamCost + len(st.name)) }

// stream is an open stream.
type stream struct {
	file
	data *content
}

var _ vfs.File = (*stream)(nil)

// streamKey is what names that are the same have in common.
func streamKey(name string) (string, error) {
	switch {
	case !vfs.ValidStreamName(name):
		return "", fmt.Errorf("stream name %q: %w", name, syscall.EINVAL)
	case len(name) > nameMax:
		return "", syscall.ENAMETOOLONG
	}
	return string(vfs.AppendFold(nil, name)), nil
}

// OpenStream implements vfs.StreamHolder.
func (f *file) OpenStream(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	if err := f.begin(ctx, "open stream"); err != nil {
		return nil, vfs.OpenResult{}, err
	}
	defer f.exit()
	data, res, err := f.node.openStream(name, o)
	if err != nil {
		return nil, vfs.OpenResult{}, f.wrap("open stream", err)
	}
	if res.Action != vfs.Opened {
		f.node.modified(vfs.ChangeMetadata)
	}
	f.node.hold()
	s := &stream{data: data}
	s.init(f.node, o.Access, f.last)
	return s, res, nil
}

func (n *node) openStream(name string, o vfs.OpenOptions) (*content, vfs.OpenResult, error) {
	o.Kind = vfs.KindAny
	if err := checkOpen(o); err != nil {
		return nil, vfs.OpenResult{}, err
	}
	key, err := streamKey(name)
	if err != nil {
		return nil, vfs.OpenResult{}, err
	}
	if n.typ == fs.ModeSymlink {
		return nil, vfs.OpenResult{}, vfs.ErrNotSupported
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.streams[key]
	switch {
	case st == nil && !creates(o.Disposition):
		return nil, vfs.OpenResult{}, syscall.ENOENT
	case st == nil:
		st = &namedStream{name: name, data: n.store.newContent()}
		if err := n.store.budget.take(st.cost()); err != nil {
			return nil, vfs.OpenResult{}, err
		}
		if n.streams == nil {
			n.streams = make(map[string]*namedStream)
		}
		n.streams[key] = st
		n.changed()
		return st.data, vfs.OpenResult{Action: vfs.Created, Name: name}, nil
	case o.Disposition == vfs.CreateNew:
		return nil, vfs.OpenResult{}, syscall.EEXIST
	case overwrites(o.Disposition):
		if err := st.data.truncate(0); err != nil {
			return nil, vfs.OpenResult{}, err
		}
		n.changed()
		return st.data, vfs.OpenResult{Action: vfs.Overwritten, Name: st.name}, nil
	}
	return st.data, vfs.OpenResult{Action: vfs.Opened, Name: st.name}, nil
}

// Streams implements vfs.StreamHolder.
func (f *file) Streams(ctx context.Context) ([]vfs.StreamInfo, error) {
	if err := f.begin(ctx, "list streams"); err != nil {
		return nil, err
	}
	defer f.exit()
	if f.node.typ == fs.ModeSymlink {
		return nil, f.wrap("list streams", vfs.ErrNotSupported)
	}
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	var list []vfs.StreamInfo
	for _, st := range f.node.streams {
		size, stored := st.data.sizes()
		list = append(list, vfs.StreamInfo{Name: st.name, Size: size, Allocated: max(stored, size)})
	}
	return list, nil
}

// RemoveStream implements vfs.StreamHolder.
func (f *file) RemoveStream(ctx context.Context, name string) error {
	return f.change(ctx, "remove stream", func() error {
		key, err := streamKey(name)
		if err != nil {
			return err
		}
		n := f.node
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.streams[key] == nil {
			return syscall.ENOENT
		}
		n.endStream(key)
		n.changed()
		return nil
	})
}

// endStream removes a stream, whose handles become stale. n.mu is held.
func (n *node) endStream(key string) {
	st := n.streams[key]
	delete(n.streams, key)
	n.store.budget.give(st.cost())
	st.data.free()
}

// RenameStream implements vfs.StreamHolder.
func (f *file) RenameStream(ctx context.Context, oldname, newname string, replace bool) error {
	return f.change(ctx, "rename stream", func() error { return f.node.renameStream(oldname, newname, replace) })
}

func (n *node) renameStream(oldname, newname string, replace bool) error {
	to, err := streamKey(newname)
	if err != nil {
		return err
	}
	from, err := streamKey(oldname)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.streams[from]
	switch {
	case st == nil:
		return syscall.ENOENT
	case from != to && n.streams[to] != nil && !replace:
		return syscall.EEXIST
	}
	if err := n.store.budget.take(int64(len(newname) - len(st.name))); err != nil {
		return err
	}
	if from != to && n.streams[to] != nil {
		n.endStream(to)
	}
	delete(n.streams, from)
	n.streams[to] = st
	st.name = newname
	n.changed()
	return nil
}

// ReadAt implements vfs.File.
func (s *stream) ReadAt(p []byte, off int64) (int, error) {
	if err := s.enterData("read", vfs.AccessRead); err != nil {
		return 0, err
	}
	defer s.exit()
	n, err := s.data.readAt(p, off)
	return n, s.wrap("read", err)
}

// WriteAt implements vfs.File.
func (s *stream) WriteAt(p []byte, off int64) (int, error) {
	if err := s.enterData("write", vfs.AccessWrite); err != nil {
		return 0, err
	}
	defer s.exit()
	n, err := s.data.writeAt(p, off)
	if n > 0 {
		s.wrote()
	}
	return n, s.wrap("write", err)
}

// Truncate implements vfs.File.
func (s *stream) Truncate(ctx context.Context, size int64) error {
	if err := s.beginData(ctx, "truncate", vfs.AccessWrite); err != nil {
		return err
	}
	defer s.exit()
	err := s.data.truncate(size)
	if err == nil {
		s.wrote()
	}
	return s.wrap("truncate", err)
}

// wrote notes a change as one of the file's metadata, as where streams are kept
// among extended attributes.
func (s *stream) wrote() {
	s.node.mu.Lock()
	s.node.changed()
	s.node.mu.Unlock()
	s.node.modified(vfs.ChangeMetadata)
}

// Stat implements vfs.File.
func (s *stream) Stat(ctx context.Context) (vfs.Info, error) {
	info, err := s.file.Stat(ctx)
	if err == nil {
		info.Size, info.Allocated = s.data.sizes()
	}
	return info, err
}
