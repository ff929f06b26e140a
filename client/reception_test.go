package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// readers is a link that knows by whom its messages were received.
type readers struct {
	*link
	own, callers atomic.Int64 // messages to the connection's goroutine, and to callers
}

func (l *readers) Receive(ctx context.Context) (*transport.Received, error) {
	r, err := l.link.Receive(ctx)
	if r != nil {
		l.own.Add(1)
	}
	return r, err
}

func (l *readers) ReceivePromptly() (*transport.Received, error) {
	r, err := l.link.ReceivePromptly()
	if r != nil {
		l.callers.Add(1)
	}
	return r, err
}

// session logs on to a fake by a connection of the test's.
func (f *fake) session(tr transport.Conn) *Session {
	f.t.Helper()
	go f.serve() // ends with the connection; the cleanup waits
	f.t.Cleanup(func() { f.l.Close(); <-f.done })
	s, err := New(context.Background(), tr, Config{User: "ann", Password: "secret"})
	must(f.t, err)
	f.t.Cleanup(func() { s.Close() })
	return s
}

// Of a server that answers at once the callers receive the answers, of one that takes
// its time the connection's goroutine does; and who waits gets an answer either way.
func TestWhoReceives(t *testing.T) {
	for _, c := range []struct {
		name    string
		patient bool
		pause   time.Duration // before each answer
		own     bool          // the connection's goroutine receives
	}{
		{"a prompt server", false, 0, false},
		{"a prompt server, some time away", false, promptTime / 2, false},
		{"a server that takes its time", false, 10 * promptTime, true},
		{"a transport that cannot tell", true, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := newFake(t, linkConfig{patient: c.patient})
				f.on[smb2.CommandEcho] = func(*fake, smb2.Header, []byte) bool {
					time.Sleep(c.pause)
					return false
				}
				tr := &readers{link: l}
				s := f.session(tr)
				own, callers := tr.own.Load(), tr.callers.Load()
				for range 20 {
					must(t, s.Echo(context.Background()))
				}
				own, callers = tr.own.Load()-own, tr.callers.Load()-callers
				if own+callers != 20 || (own > callers) != c.own {
					t.Errorf("of 20 answers %d were received by the connection's goroutine, %d by callers", own, callers)
				}
			})
		})
	}
}

// What the server says by itself is heard although nobody waits for an answer, and the
// end of the connection too.
func TestNobodyWaits(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(f *fake)
		want error
	}{
		{"the server closes the session", func(f *fake) {
			h := smb2.Header{Command: smb2.CommandServerToClientNotification, MessageID: smb2.NoMessageID, SessionID: 0x51}
			f.reply(h, 0, &smb2.ServerToClientNotification{})
		}, errSessionClosed},
		{"the server closes the connection", func(f *fake) { f.l.Close() }, errServerClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := newFake(t, linkConfig{})
				s := f.session(l)
				must(t, s.Echo(context.Background())) // received by its caller
				c.do(f)
				start := time.Now()
				<-s.Done()
				if took := time.Since(start); took > 2*idleTurn {
					t.Errorf("heard of after %v, want at most %v", took, 2*idleTurn)
				}
				if err := s.Err(); !errors.Is(err, c.want) {
					t.Errorf("the session ended with %v, want %v", err, c.want)
				}
			})
		})
	}
}

// The end of a context ends the wait of who receives, and the others get their answers.
func TestReceiverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t, linkConfig{})
		var kept []smb2.Header // owned by the fake
		f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, _ []byte) bool {
			switch kept = append(kept, h); len(kept) {
			case 2, 3:
				return true // not yet
			case 4:
				time.Sleep(promptTime / 2)
				for _, h := range kept[1:] {
					f.reply(h, 0, &smb2.EchoResponse{})
				}
				return true
			}
			return false
		}
		s := f.session(l)
		must(t, s.Echo(context.Background()))
		ctx, cancel := context.WithTimeout(context.Background(), promptTime/4)
		defer cancel()
		errs := make([]error, 3)
		var all sync.WaitGroup
		all.Go(func() { errs[0] = s.Echo(ctx) })
		synctest.Wait() // it receives
		all.Go(func() { errs[1] = s.Echo(context.Background()) })
		synctest.Wait()
		all.Go(func() { errs[2] = s.Echo(context.Background()) })
		all.Wait()
		// Whether the first got its answer too depends on who looks first.
		if err := errs[0]; err != nil && !errors.Is(err, context.DeadlineExceeded) || errs[1] != nil || errs[2] != nil {
			t.Errorf("%v", errs)
		}
		must(t, s.Echo(context.Background()))
	})
}

// A context that ends while the server is silent ends the wait at once, also of the
// caller whose turn to receive it was.
func TestReceiverGivesUpOnASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t, linkConfig{})
		s := f.session(l)
		must(t, s.Echo(context.Background()))
		f.on[smb2.CommandEcho] = func(*fake, smb2.Header, []byte) bool { return true }
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 10*promptTime)
		defer cancel()
		if err := s.Echo(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(start); took != 10*promptTime {
			t.Errorf("took %v, want %v", took, 10*promptTime)
		}
	})
}

// Many callers whose answers come in batches and in any order.
func TestManyReceivers(t *testing.T) {
	const callers, rounds, batch = 24, 200, 8
	f, l := newFake(t, linkConfig{})
	on := false
	var kept []smb2.Header // owned by the fake
	f.on[smb2.CommandEcho] = func(f *fake, h smb2.Header, _ []byte) bool {
		if !on {
			return false
		}
		if kept = append(kept, h); len(kept) < batch {
			return true
		}
		for i := range kept { // the newest first
			f.reply(kept[len(kept)-1-i], 0, &smb2.EchoResponse{})
		}
		kept = kept[:0]
		return true
	}
	s := f.session(l)
	must(t, s.Echo(context.Background()))
	on = true
	var all sync.WaitGroup
	var left atomic.Int64
	left.Store(callers * rounds)
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				err := s.Echo(ctx)
				cancel()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	c := s.main()
	if n := c.woken.Load(); n != 0 {
		t.Errorf("%d callers are thought to be about to run", n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recv.head != nil || c.recv.tail != nil || len(c.pending) != 0 {
		t.Error("callers are left behind")
	}
}

// shy is a link whose Flush does nothing under a context that can end, as if that had.
type shy struct {
	*link
	refused atomic.Int64
}

func (l *shy) Flush(ctx context.Context) error {
	if ctx.Done() != nil {
		l.refused.Add(1)
		return context.Canceled
	}
	return l.link.Flush(ctx)
}

// Requests of callers who were woken together go out together, also if the context of
// the one who is to send them ends.
func TestSentTogether(t *testing.T) {
	for _, c := range []struct {
		name    string
		ctx     func() (context.Context, context.CancelFunc)
		refused int64
	}{
		{"by the first", func() (context.Context, context.CancelFunc) { return context.Background(), func() {} }, 0},
		{"by another", func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			tr := &shy{link: l}
			s := f.session(tr)
			must(t, s.Echo(context.Background()))
			conn := s.main()
			conn.woken.Add(1) // somebody is about to run
			ctx, cancel := c.ctx()
			defer cancel()
			must(t, s.Echo(ctx))
			conn.woken.Add(-1)
			must(t, s.Close())
			if l.flushes != 1 || tr.refused.Load() != c.refused {
				t.Errorf("flushed %d times, and refused %d times, want 1 and %d", l.flushes, tr.refused.Load(), c.refused)
			}
		})
	}
}
