package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// stuckFS is a storage on which closing a file hangs, once it is stuck.
type stuckFS struct {
	vfs.FS
	stuck atomic.Bool
	hangs chan struct{} // gets one for each call that hangs
	goOn  chan struct{} // closed when they end
}

type stuckFile struct {
	vfs.File
	fs *stuckFS
}

func (s *stuckFS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f, res, err := s.FS.Open(ctx, name, o)
	if err != nil {
		return nil, res, err
	}
	return stuckFile{f, s}, res, nil
}

func (f stuckFile) Close() error {
	if f.fs.stuck.Load() {
		f.fs.hangs <- struct{}{}
		<-f.fs.goOn
	}
	return f.File.Close()
}

// Storage that hangs in a close holds up neither the end of other shares, nor the next
// change of the configuration, nor who waits for this one longer than he wants to.
func TestReloadOverStorageThatHangs(t *testing.T) {
	end := map[string]func(s *site, ctx context.Context, without Config) error{
		"Reload": func(s *site, ctx context.Context, without Config) error { return s.srv.Reload(ctx, without) },
		"CloseShare": func(s *site, ctx context.Context, _ Config) error {
			n, err := s.srv.CloseShare(ctx, "stuck")
			if n != 1 {
				t.Errorf("%d trees closed", n)
			}
			return err
		},
	}
	for name, end := range end {
		t.Run(name, func(t *testing.T) {
			fsys, err := memory.New(memory.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { fsys.Close() })
			stuck := &stuckFS{FS: fsys, hangs: make(chan struct{}, 100), goOn: make(chan struct{})}
			release := sync.OnceFunc(func() { close(stuck.goOn) })
			var given atomic.Int32
			var without Config
			s := newSite(t, memconn.Config{}, func(c *Config) {
				without = *c
				c.Shares = append([]Share{{Name: "stuck", Open: func(context.Context, Client) (vfs.FS, func(), error) {
					return stuck, func() { given.Add(1) }, nil
				}}}, c.Shares...)
			})
			t.Cleanup(release) // before the server is closed, which waits
			p := s.login(smb2.DialectSMB311).mustConnect("stuck")
			stuckTree, file := p.tid, p.create(createRequest("f", smb2.FileCreate))
			p.mustConnect("data")

			stuck.stuck.Store(true)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- end(s, ctx, without) }()
			<-stuck.hangs
			read := func() ntstatus.Status {
				st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: file, Length: 1})
				return st
			}
			data := p.tid
			p.tid = stuckTree
			want(t, "READ in the share that has ended", read(), ntstatus.NetworkNameDeleted)
			p.tid = data
			p.openFile("")

			without.Shares = without.Shares[1:] // "data" goes too, whose storage does not hang
			if err := s.srv.Reload(t.Context(), without); err != nil {
				t.Errorf("a reload while another hangs: %v", err)
			}
			st, _ := p.do(smb2.CommandCreate, createRequest("", smb2.FileOpen))
			want(t, "CREATE in a share that ends while another hangs", st, ntstatus.NetworkNameDeleted)
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("who waited no longer: %v", err)
			}
			if given.Load() != 0 {
				t.Error("storage is given back with a file open")
			}
			release()
			if err := s.srv.Close(); err != nil {
				t.Error(err)
			}
			if given.Load() != 1 {
				t.Errorf("Close has returned, and the storage was given back %d times", given.Load())
			}
			if err := s.srv.Reload(t.Context(), without); !errors.Is(err, ErrServerClosed) {
				t.Errorf("of a server that is closed: %v", err)
			}
		})
	}
}
