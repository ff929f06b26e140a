package engine

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// between is an address behind which a server is, until silence: from then on it takes
// what comes and answers nothing.
func between(t *testing.T, server string) (addr string, silence func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		silent atomic.Bool
		all    sync.WaitGroup
		mu     sync.Mutex
		conns  []net.Conn // guarded by mu
	)
	pass := func(to, from net.Conn) {
		b := make([]byte, 64<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				_ = to.Close()
				return
			}
			if !silent.Load() {
				_, _ = to.Write(b[:n])
			}
		}
	}
	all.Go(func() { // ends with l
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", server)
			if err != nil {
				_ = a.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, a, b)
			mu.Unlock()
			all.Go(func() { pass(a, b) }) // end with a and b
			all.Go(func() { pass(b, a) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String(), func() { silent.Store(true) }
}

// I/O with a server that does not answer any more ends when it is given up, and so does
// all that comes after it: closing files waits for nobody.
func TestInterrupt(t *testing.T) {
	env, addrs := site(t)
	for _, e := range []job.Engine{job.EngineSMB, job.EngineSMBDirect, job.EngineGoSMB2} {
		t.Run(string(e), func(t *testing.T) {
			addr, silence := between(t, addrs[e])
			s := Spec{Engine: e, Remote: job.EngineOptions{Server: addr, Share: "data", User: "ann", Password: "secret"}, Depth: 1, MaxSize: 4096}
			tg, err := env.New(context.Background(), s)
			if err != nil {
				t.Fatal(err)
			}
			if err := tg.Open(context.Background(), 0, "i-"+string(e), OpenFlags{Read: true, Write: true, Create: true}); err != nil {
				t.Fatal(err)
			}
			bufs, err := NewBuffers(1, 4096)
			if err != nil {
				t.Fatal(err)
			}
			u := Unit{Op: Write, Buf: bufs.At(0)}
			if tg.Do(&u); u.Err != nil || u.N != 4096 {
				t.Fatalf("%d bytes, %v", u.N, u.Err)
			}
			silence()
			done := make(chan struct{})
			go func() { // ends by Interrupt
				defer close(done)
				tg.Do(&u)
				_ = tg.CloseFile(0)
				_ = tg.Close() // what it has to say is of the server
			}()
			tg.(Interrupter).Interrupt()
			select {
			case <-done:
			case <-time.After(30 * time.Second): // half of what a client waits for an answer
				t.Fatal("it waits for the server")
			}
			if u.Err == nil {
				t.Error("an I/O was done without a server")
			}
			if err := bufs.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
