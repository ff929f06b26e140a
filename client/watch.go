package client

import (
	"context"
	"errors"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// WatchFilter is a CompletionFilter, [MS-SMB2] 2.2.35: what changes count.
type WatchFilter uint32

// The kinds of changes.
const (
	WatchFileName   WatchFilter = 0x001
	WatchDirName    WatchFilter = 0x002
	WatchAttributes WatchFilter = 0x004
	WatchSize       WatchFilter = 0x008
	WatchLastWrite  WatchFilter = 0x010
	WatchLastAccess WatchFilter = 0x020
	WatchCreation   WatchFilter = 0x040
	WatchEA         WatchFilter = 0x080
	WatchSecurity   WatchFilter = 0x100
	WatchStreamName WatchFilter = 0x200
	WatchStreamSize WatchFilter = 0x400
	WatchStreamData WatchFilter = 0x800

	// WatchDefault is what a zero filter stands for.
	WatchDefault = WatchFileName | WatchDirName | WatchAttributes | WatchSize | WatchLastWrite
)

// WatchOptions say what a Watcher is told of.
type WatchOptions struct {
	Filter    WatchFilter // 0 means WatchDefault
	Recursive bool        // the whole tree below, not the directory alone
	// BufferSize is how many bytes of changes the server keeps between two calls
	// of Next; 0 means 65536, which is also the most.
	BufferSize int
}

// Action is what happened to a name, [MS-FSCC] 2.7.1.
type Action uint32

// The actions.
const (
	ActionAdded      Action = 1
	ActionRemoved    Action = 2
	ActionModified   Action = 3
	ActionRenamedOld Action = 4 // the name before; ActionRenamedNew follows
	ActionRenamedNew Action = 5
)

// Change is one change. Name is relative to the watched directory, with forward
// slashes.
type Change struct {
	Action Action
	Name   string
}

// Watcher is a watched directory. The server keeps changes from the first call of
// Next on.
type Watcher struct {
	f *File
	o WatchOptions

	ctx    context.Context // ended by Close, so that Next ends
	cancel context.CancelCauseFunc
	mu     sync.Mutex // held while a Next is under way
}

// Watch opens a directory to be told of changes in it.
func (sh *Share) Watch(ctx context.Context, dir string, o WatchOptions) (*Watcher, error) {
	if o.Filter == 0 {
		o.Filter = WatchDefault
	}
	if o.BufferSize <= 0 || o.BufferSize > sh.s.maxAnswer() {
		o.BufferSize = sh.s.maxAnswer()
	}
	f, err := sh.create(ctx, dir, CreateOptions{
		Access: AccessReadData | AccessReadAttributes | AccessSynchronize, Options: OptDirectory})
	if err != nil {
		return nil, wrap("watch", dir, err)
	}
	w := &Watcher{f: f, o: o}
	w.ctx, w.cancel = context.WithCancelCause(context.Background())
	return w, nil
}

// Next waits for changes, without a time limit of its own. An empty result without
// an error says that there were more changes than the server kept, or that some were
// lost with a channel: look at the directory again, and once more a little later, as
// what a server tells a channel before it notices its end is lost without a word.
// When ctx ends, changes that are on their way are returned, and later ones stay with
// the server for the next call. One call waits at a time.
func (w *Watcher) Next(ctx context.Context) ([]Change, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(w.ctx, func() { cancel(context.Cause(w.ctx)) })
	defer stop()
	cs, err := w.next(ctx)
	if err != nil && w.ctx.Err() != nil {
		err = context.Cause(w.ctx)
	}
	return cs, wrap("watch", w.f.name, err)
}

func (w *Watcher) next(ctx context.Context) ([]Change, error) {
	id, err := w.f.handle()
	if err != nil {
		return nil, err
	}
	s := w.f.sh.s
	k := w.f.call(smb2.CommandChangeNotify)
	defer k.free()
	k.long = true
	req := smb2.ChangeNotifyRequest{
		OutputBufferLength: uint32(w.o.BufferSize), FileID: id, CompletionFilter: smb2.NotifyFilter(w.o.Filter),
	}
	if w.o.Recursive {
		req.Flags = smb2.WatchTree
	}
	if err := k.encode(&req); err != nil {
		return nil, err
	}
	k.once = true // the answer that was lost had changes in it
	switch err := s.do(ctx, k); {
	case err != nil && s.survives(ctx, k):
		return nil, nil
	case errors.Is(err, ntstatus.NotifyEnumDir):
		return nil, nil
	case errors.Is(err, ntstatus.NotifyCleanup):
		return nil, errFileClosed
	case err != nil:
		return nil, err
	}
	m, err := smb2.ParseChangeNotifyResponse(k.msg)
	if err != nil {
		return nil, k.badBody(err)
	}
	if len(m.OutputBuffer) > w.o.BufferSize {
		return nil, k.protocolError("3.2.5.18", "%d bytes of changes, %d asked for", len(m.OutputBuffer), w.o.BufferSize)
	}
	if len(m.OutputBuffer) == 0 {
		return nil, nil
	}
	var cs []Change
	for n, err := range smb2.FileNotifyInformations(m.OutputBuffer) {
		if err != nil {
			return nil, k.badBody(err)
		}
		cs = append(cs, Change{Action(n.Action), fromWire(n.FileName)})
	}
	return cs, nil
}

// Close ends the watch; a Next under way fails with ErrClosed.
func (w *Watcher) Close() error {
	w.cancel(errFileClosed)
	return w.f.Close()
}
