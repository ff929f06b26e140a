package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// entries is one answer to QUERY_DIRECTORY.
func entries(t *testing.T, names ...string) *smb2.QueryDirectoryResponse {
	t.Helper()
	l := smb2.NewEntryList(nil, 1<<16)
	for _, n := range names {
		if !l.AppendDirectoryEntry(listClass, &smb2.DirectoryEntry{FileName: n}) {
			t.Fatal("no room")
		}
	}
	return &smb2.QueryDirectoryResponse{OutputBuffer: l.Bytes()}
}

// always answers every request of a kind in the same way, so that a client that goes on
// as long as it is answered never ends. After 100,000 the fake gives up.
func always(t *testing.T, st ntstatus.Status, m body) handler {
	n := 0
	return func(f *fake, h smb2.Header, _ []byte) bool {
		if n++; n > 100_000 {
			t.Errorf("%v is asked for ever", h.Command)
			f.l.Close()
			return true
		}
		f.reply(h, st, m)
		return true
	}
}

// What a server can say again and again comes to an end all the same.
func TestServerThatGoesOnForEver(t *testing.T) {
	noWay := ReconnectConfig{Enabled: true, GiveUp: time.Second,
		Dial: func(context.Context) (transport.Conn, error) { return nil, net.ErrClosed }}
	challenge := func(f *fake, h smb2.Header, msg []byte) bool {
		h.SessionID = 0x51
		f.reply(h, ntstatus.MoreProcessingRequired, &smb2.SessionSetupResponse{SecurityBuffer: []byte{0xA1, 3, 0x30, 1, 0}})
		return true
	}
	for _, c := range []struct {
		name string
		cfg  Config
		set  func(t *testing.T, f *fake)
		do   func(ctx context.Context, f *File) error
		want any // an error, or nil for a *ProtocolError
	}{
		{"a directory of dots", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandQueryDirectory] = always(t, 0, entries(t, ".", ".."))
		}, func(ctx context.Context, f *File) error { _, err := f.ReadDirContext(ctx, -1); return err }, nil},
		{"a directory of one dot, in parts", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandQueryDirectory] = always(t, 0, entries(t, "."))
		}, func(ctx context.Context, f *File) error { _, err := f.ReadDirContext(ctx, 1); return err }, nil},
		{"the same names, where they are kept", Config{Reconnect: noWay}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandQueryDirectory] = always(t, 0, entries(t, "a", "b", "c"))
		}, func(ctx context.Context, f *File) error { _, err := f.ReadDirContext(ctx, -1); return err }, nil},
		{"a READ of nothing", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandRead] = always(t, 0, &smb2.ReadResponse{})
		}, func(ctx context.Context, f *File) error {
			_, err := f.ReadAtContext(ctx, make([]byte, 10), 0)
			return err
		}, io.EOF},
		{"a WRITE of nothing", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandWrite] = always(t, 0, &smb2.WriteResponse{})
		}, func(ctx context.Context, f *File) error {
			_, err := f.WriteAtContext(ctx, make([]byte, 10), 0)
			return err
		}, io.ErrShortWrite},
		{"a copy of nothing", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandIoctl] = func(f *fake, h smb2.Header, msg []byte) bool {
				m, err := smb2.ParseIoctlRequest(msg)
				must(t, err)
				out := make([]byte, 32) // a resume key
				if m.CtlCode == smb2.FsctlSrvCopychunkWrite {
					out = make([]byte, 12)
				}
				f.reply(h, 0, &smb2.IoctlResponse{CtlCode: m.CtlCode, FileID: m.FileID, Output: out})
				return true
			}
		}, func(ctx context.Context, f *File) error { _, err := f.copyRange(ctx, 0, f, 0, 100); return err }, io.ErrUnexpectedEOF},
		{"parts of nothing from a pipe", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandIoctl] = func(f *fake, h smb2.Header, msg []byte) bool {
				m, err := smb2.ParseIoctlRequest(msg)
				must(t, err)
				f.reply(h, ntstatus.BufferOverflow, &smb2.IoctlResponse{CtlCode: m.CtlCode, FileID: m.FileID})
				return true
			}
			f.on[smb2.CommandRead] = always(t, ntstatus.BufferOverflow, &smb2.ReadResponse{})
		}, func(ctx context.Context, f *File) error { _, err := f.sh.s.ListShares(ctx); return err }, errAny},
		{"ranges that go on", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandIoctl] = func(f *fake, h smb2.Header, msg []byte) bool {
				m, err := smb2.ParseIoctlRequest(msg)
				must(t, err)
				f.reply(h, ntstatus.BufferOverflow, &smb2.IoctlResponse{CtlCode: m.CtlCode, FileID: m.FileID, Output: make([]byte, 16)})
				return true
			}
		}, func(ctx context.Context, f *File) error { _, err := f.AllocatedRanges(ctx, 0, 1<<40); return err }, errAny},
		{"a session set-up without end", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandSessionSetup] = challenge
		}, func(ctx context.Context, f *File) error { return f.sh.s.logon(ctx, f.sh.s.main(), false) }, errAny},
		{"a session that expires at once", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandEcho] = always(t, ntstatus.NetworkSessionExpired, &smb2.ErrorResponse{})
		}, func(ctx context.Context, f *File) error { return f.sh.s.Echo(ctx) }, errAny},
		{"a directory that is never empty", Config{}, func(t *testing.T, f *fake) {
			f.on[smb2.CommandSetInfo] = always(t, ntstatus.DirectoryNotEmpty, &smb2.ErrorResponse{})
			f.on[smb2.CommandQueryDirectory] = always(t, ntstatus.NoMoreFiles, &smb2.ErrorResponse{})
		}, func(ctx context.Context, f *File) error { return f.sh.RemoveAll(ctx, "x") }, errAny},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := newFake(t, linkConfig{})
				file := f.open(l, c.cfg)
				f.mu.Lock()
				c.set(t, f)
				f.mu.Unlock()
				err := c.do(context.Background(), file)
				var pe *ProtocolError
				want, _ := c.want.(error)
				switch {
				case err == nil:
					t.Error("it went well")
				case want == nil && !errors.As(err, &pe), want != nil && want != errAny && !errors.Is(err, want):
					t.Errorf("got %v, want %v", err, c.want)
				}
				file.sh.s.Close()
			})
		})
	}
}

var errAny = errors.New("any error")

// A server that says "soon" for ever does not put off the end of the wait.
func TestInterimAnswersWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t, linkConfig{rdma: true})
		f.on[smb2.CommandRead] = func(f *fake, h smb2.Header, msg []byte) bool {
			h.Flags |= smb2.FlagAsyncCommand
			h.AsyncID = 5
			soon := f.encode(nil, h, ntstatus.Pending, &smb2.ErrorResponse{})
			go func() { // ends with the connection
				for {
					select {
					case <-f.l.done:
						return
					case <-time.After(100 * time.Millisecond):
						_ = f.l.Send(context.Background(), &transport.Message{Parts: [][]byte{soon}})
					}
				}
			}()
			return true
		}
		file := f.open(l, Config{Timeout: 8 * time.Second, CancelGrace: time.Second})
		for _, size := range []int{100, 10_000} { // in the message, and by RDMA
			start := time.Now()
			_, err := file.ReadAt(make([]byte, size), 0)
			if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) || took > 12*time.Second {
				t.Errorf("%d bytes: %v after %v", size, err, took)
			}
		}
		file.sh.s.Close()
	})
}

// A server that breaks leases all the time, those that there are and others, is answered
// as often as it may be, and holds up nobody.
func TestLeaseBreaksWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, link := newLeasing(t)
		s, err := f.start(link, Config{Timeout: 8 * time.Second})
		must(t, err)
		sh, err := s.Mount(context.Background(), "data")
		must(t, err)
		var told atomic.Int64
		l := sh.NewLease(LeaseOptions{Want: leaseAll, OnBreak: func(context.Context, LeaseBreak) LeaseState { told.Add(1); return 0 }})
		file, err := sh.CreateFile(context.Background(), "f", writable(l))
		must(t, err)
		const breaks = 5000
		f.mu.Lock()
		f.on[smb2.CommandEcho] = func(fk *fake, h smb2.Header, msg []byte) bool {
			for i := range breaks { // while it takes no answer
				key := smb2.GUID(l.Key())
				if i%2 == 1 {
					key[0]++
				}
				f.notify(&smb2.LeaseBreakNotification{LeaseKey: key, Flags: smb2.NotifyBreakLeaseFlagAckRequired,
					CurrentLeaseState: 7, NewLeaseState: smb2.LeaseState(i % 8), NewEpoch: uint16(i)})
			}
			return false
		}
		f.mu.Unlock()
		go func() { // ends with the fake
			for {
				select {
				case <-f.got:
				case <-f.done:
					return
				}
			}
		}()
		must(t, s.Echo(context.Background()))
		_ = file.Close() // the server may have had enough of its own answers
		s.Close()
		f.l.Close()
		<-f.done
		if n := told.Load(); n == 0 || n > breaks {
			t.Errorf("told %d times", n)
		}
	})
}
