package server

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Package context asks for a function to be called while it holds the lock that the
// function takes: one that is due at once must not be called there and then.
func TestAfterFuncOfEndedContext(t *testing.T) {
	var c reqCtx
	c.cancel()
	var mu sync.Mutex
	ran := make(chan struct{})
	mu.Lock()
	stop := c.AfterFunc(func() {
		mu.Lock()
		defer mu.Unlock()
		close(ran)
	})
	mu.Unlock()
	<-ran
	if stop() {
		t.Error("stop reports that it has kept the function from running")
	}
}

// A client that sends and takes no answers is granted credits all the same. How much
// it can make the server do is bounded by what is being served.
func TestClientThatTakesNoAnswers(t *testing.T) {
	const limit, queue, requests = 16, 1, 200
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, memconn.Config{Queue: queue}, func(c *Config) { c.Limits.ServingPerConn = limit })
		p := s.dial()
		p.negotiate(smb2.DialectSMB311)
		sent := 0
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for ; sent < requests; sent++ {
				h := p.header(smb2.CommandEcho)
				h.Credits = limit
				b := p.element(h, &smb2.EchoRequest{})
				p.use(h)
				if p.c.Send(s.ctx, &transport.Message{Parts: [][]byte{b}}) != nil {
					return
				}
			}
		}()
		time.Sleep(time.Minute) // who sends an answer is relieved of receiving by then
		synctest.Wait()
		// One answer waits in the queue, and what sent it is done; one request waits
		// to be served, and one in the queue. Answers that were kept back are done too.
		if got, kept := s.srv.Stats().Requests["ECHO"], uint64(memconn.MaxKept); got < limit+queue+1 || got > limit+queue+1+kept {
			t.Errorf("%d requests were received, want %d, or up to %d more", got, limit+queue+1, kept)
		}
		p.c.Close()
		<-ended
		if sent == requests {
			t.Error("all were taken")
		}
	})
}

// countFS counts what CREATE asks of a file.
type countFS struct {
	vfs.FS
	stats, osFiles *atomic.Int64
}

type countFile struct {
	vfs.File
	vfs.OSFiler
	fs countFS
}

func (c countFS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	f, res, err := c.FS.Open(ctx, name, o)
	if of, ok := f.(vfs.OSFiler); err == nil && ok {
		f = &countFile{f, of, c}
	}
	return f, res, err
}

func (f *countFile) Stat(ctx context.Context) (vfs.Info, error) {
	f.fs.stats.Add(1)
	return f.File.Stat(ctx)
}

func (f *countFile) OSFile() *os.File {
	f.fs.osFiles.Add(1)
	return f.OSFiler.OSFile()
}

// A CREATE that changes nothing looks at the file once, and leaves the descriptor to
// those who need it.
func TestCreateAsksOnce(t *testing.T) {
	var stats, osFiles atomic.Int64
	s := newSite(t, memconn.Config{RDMA: true}, func(c *Config) {
		c.Shares[0].FS = countFS{c.Shares[0].FS, &stats, &osFiles}
	})
	s.write("old", octets(77))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	for _, c := range []struct {
		name  string
		d     smb2.CreateDisposition
		stats int64
		size  uint64
	}{
		{"old", smb2.FileOpen, 1, 77},
		{"old", smb2.FileOpenIf, 1, 77},
		{"new", smb2.FileCreate, 1, 0},
		{"old", smb2.FileOverwrite, 2, 0},
	} {
		before := stats.Load()
		st, m := p.tryCreate(createRequest(c.name, c.d))
		want(t, c.name, st, ntstatus.Success)
		if got := stats.Load() - before; got != c.stats || m.EndOfFile != c.size {
			t.Errorf("%s, disposition %d: %d times Stat, size %d, want %d, %d", c.name, c.d, got, m.EndOfFile, c.stats, c.size)
		}
		p.close(m.FileID)
	}
	if n := osFiles.Load(); n != 0 {
		t.Errorf("%d times OSFile, want none before the first READ by RDMA", n)
	}
}
