package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// liar is a connection to a real server on which what is said is changed on its way.
type liar struct {
	*link
	// answer makes of the n-th message from the server what the client gets: nothing,
	// the message, others. Nil changes nothing. It is called by the receiver.
	answer func(n int, msg []byte) [][]byte
	// request makes of the n-th message of the client what the server gets, likewise; nil
	// for none. It is called by one sender at a time.
	request func(n int, msg []byte) []byte

	asked    int      // by request
	answered int      // owned by the receiver
	queue    [][]byte // owned by the receiver
}

func (l *liar) Send(ctx context.Context, m *transport.Message) error {
	if l.request == nil {
		return l.link.Send(ctx, m)
	}
	msg := l.request(l.asked, slices.Concat(m.Parts...))
	l.asked++
	if msg == nil {
		return nil
	}
	return l.link.Send(ctx, &transport.Message{Parts: [][]byte{msg}, Invalidate: m.Invalidate, HasInvalidate: m.HasInvalidate})
}

func (l *liar) Receive(ctx context.Context) (*transport.Received, error) {
	for len(l.queue) == 0 {
		r, err := l.link.Receive(ctx)
		if err != nil {
			return nil, err
		}
		msg := bytes.Clone(r.Data)
		token, has := r.Invalidated, r.HasInvalidated
		r.Release()
		l.queue = [][]byte{msg}
		if l.answer != nil {
			l.queue = l.answer(l.answered, msg)
		}
		l.answered++
		if len(l.queue) > 0 && has { // the token is invalid whatever the message says
			return l.next(token, true), nil
		}
	}
	return l.next(0, false), nil
}

// Prompt: every message goes through Receive, which lies.
func (l *liar) Prompt() bool { return false }

// SetPlace is not passed on: messages have to be whole to be changed.
func (l *liar) SetPlace(transport.PlaceFunc) {}

func (l *liar) next(token uint32, has bool) *transport.Received {
	r := transport.NewReceived(func(*transport.Received) {})
	r.Data, l.queue = l.queue[0], l.queue[1:]
	r.Invalidated, r.HasInvalidated = token, has
	return r.Lend()
}

// truth is a server in memory with some files.
type truth struct {
	l   *linkListener
	end func()
}

func newTruth(t testing.TB, lc linkConfig, encrypt bool) *truth {
	t.Helper()
	fsys, err := memory.New(memory.Config{})
	must(t, err)
	users, err := server.ParseUsers("ann%secret")
	must(t, err)
	srv, err := server.New(server.Config{
		Shares: []server.Share{{Name: "data", FS: fsys, Encrypt: encrypt}}, Users: users, ServerName: "NAS",
		Signing: server.PolicyOffered,
	})
	must(t, err)
	tr := &truth{l: listenLink(lc)}
	served := make(chan struct{})
	go func() { // ended by end, which waits
		defer close(served)
		_ = srv.Serve(context.Background(), tr.l)
	}()
	tr.end = func() {
		srv.Close()
		<-served
	}
	s := tr.session(t, Config{})
	defer s.Close()
	sh, err := s.Mount(context.Background(), "data")
	must(t, err)
	must(t, sh.WriteFile(context.Background(), "file", fileData, 0o666))
	must(t, sh.Mkdir(context.Background(), "dir"))
	must(t, sh.Mkdir(context.Background(), "scratch"))
	for i := range 5 {
		must(t, sh.WriteFile(context.Background(), fmt.Sprintf("dir/%d", i), []byte("x"), 0o666))
	}
	must(t, sh.SetEA(context.Background(), "file", "NAME", []byte("value")))
	must(t, sh.WriteFile(context.Background(), "file:stream", []byte("stream"), 0o666))
	return tr
}

// fileData is what "file" has: more than a READ in the message.
var fileData = bytes.Repeat([]byte("what the file says "), 1000)

func (tr *truth) conn(t testing.TB) *link {
	t.Helper()
	c, err := tr.l.Dial(context.Background(), "")
	must(t, err)
	return c.(*link)
}

func (tr *truth) session(t testing.TB, cfg Config) *Session {
	t.Helper()
	s, err := New(context.Background(), tr.conn(t), cfg.asAnn())
	must(t, err)
	return s
}

func (c Config) asAnn() Config {
	c.User, c.Password, c.Timeout, c.CancelGrace = "ann", "secret", 4*time.Second, -1
	return c
}

// learnt is what one step of a visit has found out.
type learnt struct {
	step string
	what string
	err  error
}

// visits counts them.
var visits atomic.Int64

// visit does with a server what a client can do, and says what it has learnt, step by
// step, until there is no connection any more. It is called in a bubble.
func visit(c transport.Conn, cfg Config) (ls []learnt) {
	ctx := context.Background()
	note := func(step string, err error, what string, args ...any) bool {
		l := learnt{step: step, err: err}
		if err == nil {
			l.what = fmt.Sprintf(what, args...)
		}
		ls = append(ls, l)
		return err == nil
	}
	s, err := New(ctx, c, cfg.asAnn())
	if !note("logon", err, "") {
		return ls
	}
	defer s.Close()
	sh, err := s.Mount(ctx, "data")
	if !note("mount", err, "") {
		return ls
	}
	f, err := sh.OpenFile(ctx, "file", 2 /* O_RDWR */, 0)
	if note("open", err, "") {
		for _, n := range []int{100, len(fileData) + 100} {
			// What is beyond the bytes that were read is not touched.
			p := bytes.Repeat([]byte{0xAA}, n+50)
			m, err := f.ReadAtContext(ctx, p[:n], 10)
			if err == io.EOF {
				err = nil
			}
			note(fmt.Sprint("read ", n), err, "%x", sha256.Sum256(p[:m]))
			if m < 0 || m > n || !bytes.Equal(p[n:], bytes.Repeat([]byte{0xAA}, 50)) {
				panic(fmt.Sprintf("%d bytes read into %d", m, n))
			}
		}
		n, err := f.WriteAtContext(ctx, fileData[:5000], 0)
		note("write", err, "%d", n)
		i, err := f.StatContext(ctx)
		if err == nil {
			note("stat", nil, "%s %d %v %d", i.Name(), i.Size(), i.Mode().Type(), i.FileID())
		} else {
			note("stat", err, "")
		}
		rs, err := f.AllocatedRanges(ctx, 0, 1<<20)
		note("ranges", err, "%v", rs)
		es, err := f.EAs(ctx)
		note("attributes", err, "%q", es)
		sd, err := sh.SecurityDescriptor(ctx, "file", 7)
		if err == nil {
			note("security", nil, "%v", sd)
		} else {
			note("security", err, "")
		}
		note("lock", f.Lock(ctx, 0, 10, LockOptions{}), "")
		note("unlock", f.Unlock(ctx, 0, 10), "")
		note("close", f.Close(), "")
	}
	ds, err := sh.ReadDir(ctx, "dir")
	var names []string
	for _, d := range ds {
		names = append(names, d.Name())
		if d.Name() == "" || d.Name() == "." || d.Name() == ".." || strings.ContainsAny(d.Name(), "/\\\x00") {
			panic(fmt.Sprintf("a directory has %q", d.Name()))
		}
	}
	note("list", err, "%q", names)
	i, err := sh.Stat(ctx, "dir/1")
	if err == nil {
		note("stat by name", nil, "%s %d", i.Name(), i.Size())
	} else {
		note("stat by name", err, "")
	}
	st, err := sh.StatFS(ctx)
	if err == nil {
		note("file system", nil, "%d %s", st.BlockSize, st.FSType)
	} else {
		note("file system", err, "")
	}
	streams, err := sh.Streams(ctx, "file")
	note("streams", err, "%v", streams)
	if _, err = sh.Readlink(ctx, "file"); errors.Is(err, syscall.EINVAL) { // it is none
		err = nil
	}
	note("link", err, "")
	// What one visit leaves when it is cut short is not in the way of the next one.
	scratch := fmt.Sprintf("scratch/%06d-", visits.Add(1))
	link := scratch + "link"
	if note("make link", sh.Symlink(ctx, "../file", link), "") {
		to, err := sh.Readlink(ctx, link)
		note("read link", err, "%q", to)
		i, err := sh.Stat(ctx, link)
		if err == nil {
			note("follow link", nil, "%d", i.Size())
		} else {
			note("follow link", err, "")
		}
		note("remove link", sh.Remove(ctx, link), "")
	}
	if _, err := sh.Snapshots(ctx); errors.Is(err, errors.ErrUnsupported) || err == nil {
		note("snapshots", nil, "none")
	} else {
		note("snapshots", err, "")
	}
	copied, err := sh.CopyFile(ctx, "file", scratch+"copy")
	note("copy", err, "%d", copied)
	note("rename", sh.Rename(ctx, scratch+"copy", scratch+"moved", true), "")
	if w, err := sh.Watch(ctx, "scratch", WatchOptions{}); note("watch", err, "") {
		ctx, cancel := context.WithTimeout(ctx, 8*time.Second) // Next has no timeout of its own
		next := make(chan error, 1)
		go func() { // ends with what visit waits for
			_, err := w.Next(ctx)
			next <- err
		}()
		time.Sleep(time.Second) // what is changed before the server watches is not told
		note("change", sh.WriteFile(ctx, scratch+"new", []byte("y"), 0o666), "")
		note("changes", <-next, "")
		cancel()
		note("remove", sh.Remove(context.Background(), scratch+"new"), "")
		note("watch closed", w.Close(), "")
	}
	l := sh.NewLease(LeaseOptions{Want: LeaseRead | LeaseHandle})
	if f, err := sh.CreateFile(ctx, "dir/2", CreateOptions{Lease: l}); note("lease", err, "") {
		note("lease closed", f.Close(), "")
	}
	shares, err := s.ListShares(ctx)
	note("shares", err, "%v", shares)
	note("echo", s.Echo(ctx), "")
	return ls
}

// shield is how a session keeps what is said from being changed.
type shield struct {
	name string
	cfg  Config
	// encrypt is the server's wish for the share; what goes by IPC$ is in the clear then.
	encrypt bool
}

var shields = []shield{
	{"signed", Config{Signing: SigningRequired}, false},
	{"signed 3.0.2", Config{Signing: SigningRequired, MaxDialect: SMB302}, false},
	{"signed 2.0.2", Config{Signing: SigningRequired, MaxDialect: SMB202}, false},
	{"encrypted", Config{Encryption: EncryptRequired}, false},
	{"encrypted share", Config{}, true},
}

// believed compares what a visit has learnt with the truth: every step has failed, or
// says the same.
func believed(t *testing.T, p shield, what string, got, want []learnt) {
	t.Helper()
	for _, g := range got {
		if p.encrypt && g.step == "shares" {
			continue
		}
		i := slices.IndexFunc(want, func(w learnt) bool { return w.step == g.step })
		if g.err == nil && (i < 0 || g.what != want[i].what) {
			t.Errorf("%s: %s is believed to be %q", what, g.step, g.what)
		}
	}
}

// unhurt fails unless all is well after a visit without lies.
func unhurt(t *testing.T, ls []learnt) {
	t.Helper()
	for _, l := range ls {
		if l.err != nil {
			t.Fatalf("without a lie %s fails: %v", l.step, l.err)
		}
	}
	if ls[len(ls)-1].step != "echo" {
		t.Fatalf("a visit ends with %s", ls[len(ls)-1].step)
	}
}

// Of a session that is protected nobody changes an octet unseen: neither of the answers,
// nor of the requests and answers of negotiation and session set-up ([MS-SMB2] 3.2.5.1.1,
// 3.2.5.1.3, 3.2.5.2, 3.2.5.5; 3.3.5.4 for the hash of what was negotiated). Whatever is
// changed, nothing hangs: this is in a bubble, where time passes when all wait.
func TestChangedOctetsAreNotBelieved(t *testing.T) {
	sample := 7 // one in so many
	if raceEnabled {
		sample = 67
	}
	for _, p := range shields {
		for _, rdma := range []bool{false, true} {
			if rdma && p.cfg.MaxDialect != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s rdma=%v", p.name, rdma), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr := newTruth(t, linkConfig{rdma: rdma}, p.encrypt)
					defer tr.end()
					var lengths []int
					want := visit(&liar{link: tr.conn(t), answer: func(_ int, msg []byte) [][]byte {
						lengths = append(lengths, len(msg))
						return [][]byte{msg}
					}}, p.cfg)
					unhurt(t, want)
					lies := 0
					for n, length := range lengths {
						for off := 0; off < length; off++ {
							// All of the first ones; of the others some.
							if n > 3 && off%sample != n%sample {
								continue
							}
							bit := byte(1) << (off % 8)
							lies++
							l := &liar{link: tr.conn(t), answer: func(i int, msg []byte) [][]byte {
								if i == n && off < len(msg) {
									msg[off] ^= bit
								}
								return [][]byte{msg}
							}}
							believed(t, p, fmt.Sprintf("octet %d of answer %d", off, n), visit(l, p.cfg), want)
							if regs := l.Stats().Registrations; regs != 0 {
								t.Errorf("octet %d of answer %d: %d registrations are left", off, n, regs)
							}
							if t.Failed() {
								return
							}
						}
					}
					t.Logf("%d lies about %d answers", lies, len(lengths))
				})
			})
		}
	}
}

// A request of the negotiation that was changed on its way is found out too.
func TestChangedNegotiationIsNotBelieved(t *testing.T) {
	for _, p := range shields {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTruth(t, linkConfig{}, p.encrypt)
				defer tr.end()
				size := 0
				want := visit(&liar{link: tr.conn(t), request: func(n int, msg []byte) []byte {
					if n == 0 {
						size = len(msg)
					}
					return msg
				}}, p.cfg)
				unhurt(t, want)
				for off := range size {
					got := visit(&liar{link: tr.conn(t), request: func(n int, msg []byte) []byte {
						if n == 0 {
							msg[off] ^= 1 << (off % 8)
						}
						return msg
					}}, p.cfg)
					// Before 3.1.1 only dialects, capabilities, security mode and GUID are
					// validated, which is what says how a session is protected.
					believed(t, p, fmt.Sprintf("octet %d", off), got, want)
					if p.cfg.MaxDialect == 0 && got[len(got)-1].err == nil {
						t.Errorf("octet %d of NEGOTIATE may be changed", off)
					}
				}
			})
		})
	}
}

// Messages that do not come, come twice, late, in another order or in parts.
func TestMessagesThatGoAstray(t *testing.T) {
	var held [][]byte
	for _, c := range []struct {
		name   string
		answer func(msg []byte) [][]byte
	}{
		{"none", func([]byte) [][]byte { return nil }},
		{"twice", func(msg []byte) [][]byte { return [][]byte{msg, bytes.Clone(msg)} }},
		{"after the next one", func(msg []byte) [][]byte { held = append(held, msg); return nil }},
		{"empty", func([]byte) [][]byte { return [][]byte{{}} }},
		{"half of it", func(msg []byte) [][]byte { return [][]byte{msg[:len(msg)/2]} }},
		{"in halves", func(msg []byte) [][]byte { return [][]byte{msg[:len(msg)/2], msg[len(msg)/2:]} }},
		{"with something behind it", func(msg []byte) [][]byte { return [][]byte{append(msg, 1, 2, 3, 4, 5, 6, 7, 8)} }},
		{"as a compound with itself", func(msg []byte) [][]byte {
			return [][]byte{compoundOf(msg, msg)}
		}},
		{"as a compound that goes round", func(msg []byte) [][]byte {
			if len(msg) > 24 {
				copy(msg[20:], "\xff\xff\xff\xff")
			}
			return [][]byte{msg}
		}},
	} {
		for _, p := range append(shields, shield{name: "in the clear"}) {
			t.Run(c.name+"/"+p.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr := newTruth(t, linkConfig{rdma: p.cfg.MaxDialect == 0}, p.encrypt)
					defer tr.end()
					count := 0
					want := visit(&liar{link: tr.conn(t), answer: func(_ int, msg []byte) [][]byte {
						count++
						return [][]byte{msg}
					}}, p.cfg)
					unhurt(t, want)
					for n := range count {
						held = nil
						l := &liar{link: tr.conn(t), answer: func(i int, msg []byte) [][]byte {
							if i == n {
								return c.answer(msg)
							}
							msgs := append([][]byte{msg}, held...)
							held = nil
							return msgs
						}}
						start := time.Now()
						got := visit(l, p.cfg)
						believed(t, p, fmt.Sprintf("answer %d", n), got, want)
						// One answer that does not come costs one timeout, and what it ends.
						if took := time.Since(start); took > 5*5*time.Second {
							t.Errorf("answer %d: took %v", n, took)
						}
						if regs := l.Stats().Registrations; regs != 0 {
							t.Errorf("answer %d: %d registrations are left", n, regs)
						}
					}
				})
			})
		}
	}
}

// compoundOf has two messages in one, the first padded ([MS-SMB2] 2.2.1).
func compoundOf(a, b []byte) []byte {
	out := bytes.Clone(a)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	if len(out) > 24 {
		out[20], out[21], out[22], out[23] = byte(len(out)), byte(len(out)>>8), byte(len(out)>>16), 0
	}
	return append(out, b...)
}

// Answers of one session are nothing to another one of the same user, to whom they have
// the right MessageId.
func TestAnswersOfAnotherSession(t *testing.T) {
	for _, p := range shields {
		if p.encrypt {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTruth(t, linkConfig{}, p.encrypt)
				defer tr.end()
				var other [][]byte
				want := visit(&liar{link: tr.conn(t), answer: func(_ int, msg []byte) [][]byte {
					other = append(other, bytes.Clone(msg))
					return [][]byte{msg}
				}}, p.cfg)
				unhurt(t, want)
				first := 0
				if p.cfg.MaxDialect != 0 {
					first = 1 // NEGOTIATE says the same to everybody
				}
				for n := first; n < len(other); n++ {
					if h, err := smb2.ParseHeader(other[n]); err == nil && h.Status == ntstatus.Pending && h.IsAsync() {
						continue // [MS-SMB2] 3.2.5.1.3: not signed, and the same for everybody
					}
					got := visit(&liar{link: tr.conn(t), answer: func(i int, msg []byte) [][]byte {
						if i == n {
							return [][]byte{bytes.Clone(other[n])}
						}
						return [][]byte{msg}
					}}, p.cfg)
					if got[len(got)-1].err == nil {
						t.Errorf("answer %d of another session is believed", n)
					}
				}
			})
		})
	}
}

// A server that stops answering costs each call its timeout, and that is the error.
func TestServerStopsAnswering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTruth(t, linkConfig{rdma: true}, false)
		defer tr.end()
		count := 0
		unhurt(t, visit(&liar{link: tr.conn(t), answer: func(_ int, msg []byte) [][]byte {
			count++
			return [][]byte{msg}
		}}, Config{}))
		for n := range count {
			start := time.Now()
			got := visit(&liar{link: tr.conn(t), answer: func(i int, msg []byte) [][]byte {
				if i >= n {
					return nil
				}
				return [][]byte{msg}
			}}, Config{})
			failed := 0
			for _, l := range got {
				if l.err == nil {
					continue
				}
				failed++
				var timeout interface{ Timeout() bool }
				if (!errors.As(l.err, &timeout) || !timeout.Timeout()) && !errors.Is(l.err, net.ErrClosed) && !errors.Is(l.err, context.DeadlineExceeded) {
					t.Errorf("silent from %d: %s: %v", n, l.step, l.err)
				}
			}
			if took := time.Since(start); failed == 0 || took > time.Duration(failed+4)*5*time.Second {
				t.Errorf("silent from %d: %d failures took %v", n, failed, took)
			}
		}
	})
}

// A server that vanishes, at whatever answer: each step fails or says what is so, and with
// Config.Reconnect too, where there is one again at once.
func TestServerVanishes(t *testing.T) {
	for _, p := range append(shields, shield{name: "in the clear"}) {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, again=%v", p.name, again), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr := newTruth(t, linkConfig{rdma: p.cfg.MaxDialect == 0}, p.encrypt)
					defer tr.end()
					cfg := p.cfg
					if again {
						cfg.Reconnect = ReconnectConfig{Enabled: true, GiveUp: 3 * time.Second, Reopen: ReopenSame,
							Dial: func(ctx context.Context) (transport.Conn, error) { return tr.l.Dial(ctx, "") }}
					}
					count := 0
					want := visit(&liar{link: tr.conn(t), answer: func(_ int, msg []byte) [][]byte {
						count++
						return [][]byte{msg}
					}}, cfg)
					unhurt(t, want)
					ends := 0
					for n := range count {
						l := &liar{link: tr.conn(t)}
						l.answer = func(i int, msg []byte) [][]byte {
							if i == n {
								l.Close()
								return nil
							}
							return [][]byte{msg}
						}
						start := time.Now()
						got := visit(l, cfg)
						believed(t, p, fmt.Sprintf("gone at answer %d", n), got, want)
						if took := time.Since(start); took > 30*time.Second {
							t.Errorf("gone at answer %d: took %v", n, took)
						}
						if got[len(got)-1].err == nil {
							ends++
						}
						if regs := l.Stats().Registrations; regs != 0 {
							t.Errorf("gone at answer %d: %d registrations are left", n, regs)
						}
					}
					if !again && ends > 1 { // the last answer is LOGOFF's
						t.Errorf("%d visits of %d ended well without a server", ends, count)
					}
					if again && ends < count/2 {
						t.Errorf("%d visits of %d ended well with a new connection", ends, count)
					}
				})
			})
		}
	}
}
