package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// multiSite is a server that is reached over TCP-like and over RDMA links, and keeps
// every link that was made, so that a test can cut it.
type multiSite struct {
	*site
	plain, rdma *linkListener

	mu sync.Mutex
	// guarded by mu
	links  map[bool][]*link // by whether they have an RDMA side
	refuse map[bool]error   // what Dial says instead
	dials  int
	// wrap, if set before start, is what a session gets of a link.
	wrap func(*link) transport.Conn
}

// end is the session's end of a link.
func (m *multiSite) end(c transport.Conn) transport.Conn {
	if m.wrap == nil {
		return c
	}
	return m.wrap(c.(*link))
}

var homeAddr = netip.MustParseAddr("192.0.2.1")

// bothKinds lists one interface that offers TCP and RDMA.
func bothKinds() []server.Interface {
	return []server.Interface{
		{Index: 2, RSS: true, Speed: 10e9, Addr: homeAddr},
		{Index: 2, RSS: true, RDMA: true, Speed: 10e9, Addr: homeAddr},
	}
}

func newMultiSite(t testing.TB, change func(*server.Config)) *multiSite {
	t.Helper()
	m := &multiSite{plain: listenLink(linkConfig{}), rdma: listenLink(linkConfig{rdma: true}),
		links: map[bool][]*link{}, refuse: map[bool]error{}}
	m.site = newSiteOn(t, &joined{[]*linkListener{m.plain, m.rdma}}, m.plain, func(c *server.Config) {
		c.Interfaces = bothKinds
		c.Signing = server.PolicyOffered
		if change != nil {
			change(c)
		}
	})
	return m
}

// joined is several listeners as one.
type joined struct{ ls []*linkListener }

func (j *joined) Accept(ctx context.Context) (transport.Conn, error) {
	select {
	case c := <-j.ls[0].in:
		return c, nil
	case c := <-j.ls[1].in:
		return c, nil
	case <-j.ls[0].done:
		return nil, errLinkClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (j *joined) Close() error   { return errors.Join(j.ls[0].Close(), j.ls[1].Close()) }
func (j *joined) Addr() net.Addr { return linkAddr{} }
func (j *joined) Scheme() string { return "memory" }

func (m *multiSite) dialChannel(ctx context.Context, i NetworkInterface) (transport.Conn, error) {
	m.mu.Lock()
	err := m.refuse[i.RDMA]
	m.dials++
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	l := m.plain
	if i.RDMA {
		l = m.rdma
	}
	c, err := l.Dial(ctx, "")
	if err != nil {
		return nil, err
	}
	m.keep(c)
	return m.end(c), nil
}

func (m *multiSite) keep(c transport.Conn) {
	l := c.(*link)
	m.mu.Lock()
	m.links[l.cfg.rdma] = append(m.links[l.cfg.rdma], l)
	m.mu.Unlock()
}

// cut ends all links of a kind.
func (m *multiSite) cut(rdma bool) {
	m.mu.Lock()
	ls := m.links[rdma]
	m.links[rdma] = nil
	m.mu.Unlock()
	for _, l := range ls {
		l.Close()
	}
}

func (m *multiSite) refuseWith(rdma bool, err error) {
	m.mu.Lock()
	m.refuse[rdma] = err
	m.mu.Unlock()
}

// start begins a session over TCP and waits until it has its channels.
func (m *multiSite) start(t testing.TB, cfg Config) *Session {
	t.Helper()
	if cfg.Channels.Dial == nil {
		cfg.Channels.Dial = m.dialChannel
	}
	if cfg.Channels.Retry == 0 {
		cfg.Channels.Retry = 2 * time.Millisecond
	}
	if cfg.User == "" {
		cfg.User, cfg.Password = "ann", "secret"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tr, err := m.plain.Dial(ctx, "")
	must(t, err)
	m.keep(tr)
	s, err := New(ctx, m.end(tr), cfg)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	s.AwaitChannels(ctx)
	must(t, ctx.Err())
	return s
}

func (m *multiSite) share(t testing.TB, cfg Config) *Share {
	t.Helper()
	sh, err := m.start(t, cfg).Mount(context.Background(), "data")
	must(t, err)
	return sh
}

// SM-33, [MS-SMB2] 3.2.5.14.11: the client finds the RDMA interface, binds an SMB
// Direct connection to its session, and READ and WRITE go that way.
func TestSM33MovesToRDMA(t *testing.T) {
	for _, d := range []Dialect{SMB300, SMB302, SMB311} {
		for _, enc := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v encrypted %v", d, enc), func(t *testing.T) {
				m := newMultiSite(t, nil)
				cfg := Config{MaxDialect: d}
				if enc {
					cfg.Encryption = EncryptRequired
				}
				sh := m.share(t, cfg)
				s := sh.Session()
				if n := len(s.Channels()); n != 2 {
					_, why := s.RDMAStatus()
					t.Fatalf("%d channels, want 2: %s", n, why)
				}
				data := random(3 << 20)
				must(t, sh.WriteFile(context.Background(), "f", data, 0o666))
				got, err := sh.ReadFile(context.Background(), "f")
				must(t, err)
				if !bytes.Equal(got, data) {
					t.Fatal("what was read is not what was written")
				}
				ch := s.Channels()
				if ch[0].RDMAProvider != "" || ch[1].RDMAProvider == "" || ch[1].Interface.Index != 2 || !ch[1].Interface.RDMA {
					t.Fatalf("channels %+v", ch)
				}
				used, why := s.RDMAStatus()
				if used == enc && d == SMB302 || used != (why == "") {
					t.Fatal(used, why)
				}
				tcp, rdma := ch[0].Stats, ch[1].Stats
				if used && (rdma.RDMABytesWritten < 3<<20 || tcp.InlineBytesWritten != 0) {
					t.Fatalf("TCP moved %+v, RDMA %+v", tcp, rdma)
				}
				if st := s.Stats(); st.Bindings != 1 || st.Failovers != 0 || st.Replays != 0 {
					t.Fatalf("%+v", st)
				}
			})
		}
	}
}

// storm writes, reads and checks from several goroutines while trouble goes on, each
// in its own part of one file, for at least the given rounds and until trouble ends.
func storm(t *testing.T, f *File, trouble func(stop <-chan struct{})) {
	t.Helper()
	const workers = 4
	part, rounds := 300_000, 60
	if raceEnabled {
		part, rounds = 150_000, 30
	}
	stop := make(chan struct{})
	var troubled, wg sync.WaitGroup
	troubled.Go(func() { trouble(stop) })
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			want, got := make([]byte, part), make([]byte, part)
			if _, err := f.WriteAt(want, int64(w*part)); err != nil {
				t.Errorf("worker %d: %v", w, err)
				return
			}
			for i := range rounds {
				off := r.IntN(part)
				n := 1 + r.IntN(part-off)
				for j := range n {
					want[off+j] = byte(i + j + w)
				}
				if m, err := f.WriteAt(want[off:off+n], int64(w*part+off)); m != n || err != nil {
					t.Errorf("worker %d, write %d: %d of %d bytes: %v", w, i, m, n, err)
					return
				}
				if m, err := f.ReadAt(got, int64(w*part)); m != part || err != nil && err != io.EOF {
					t.Errorf("worker %d, read %d: %d bytes: %v", w, i, m, err)
					return
				}
				if !bytes.Equal(got, want) {
					t.Errorf("worker %d, round %d: the file is not what was written", w, i)
					return
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	troubled.Wait()
}

// cutAgainAndAgain cuts the links of one kind, each time after there was one for a
// number of messages that the seed says.
func (m *multiSite) cutAgainAndAgain(s *Session, rdma bool, seed uint64, stop <-chan struct{}) (cuts int) {
	r := rand.New(rand.NewPCG(seed, 1))
	for {
		until := s.Stats().Requests + uint64(1+r.IntN(60))
		for s.Stats().Requests < until || s.count(rdma) == 0 || s.count(!rdma) == 0 {
			select {
			case <-stop:
				return cuts
			case <-s.done:
				return cuts
			case <-time.After(100 * time.Microsecond):
			}
		}
		m.cut(rdma)
		cuts++
	}
}

// [MS-SMB2] 3.2.7.1: a channel that dies takes no I/O with it, whichever it is and
// however often; the session comes back to RDMA.
func TestFailoverLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  bool // the RDMA channel
		max  int
	}{{"rdma is cut", true, 0}, {"tcp is cut", false, 0}, {"three of rdma are cut", true, 3}} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s, seed %d", c.name, seed), func(t *testing.T) {
				m := newMultiSite(t, nil)
				sh := m.share(t, Config{Window: 3, MaxIOSize: 60_000, Channels: ChannelConfig{Max: c.max}})
				s := sh.Session()
				f, err := sh.OpenFile(context.Background(), "f", os.O_RDWR|os.O_CREATE, 0o666)
				must(t, err)
				cuts := 0
				storm(t, f, func(stop <-chan struct{}) { cuts = m.cutAgainAndAgain(s, c.cut, seed, stop) })
				if t.Failed() {
					return
				}
				must(t, f.Sync(context.Background()))
				must(t, f.Close())
				st := s.Stats()
				if cuts == 0 || st.Failovers == 0 {
					t.Fatalf("%d cuts, %d failovers", cuts, st.Failovers)
				}
				for s.Stats().InFlight != 0 { // the keeper's own
					time.Sleep(time.Millisecond)
				}
				// It comes back.
				for used := false; !used; {
					time.Sleep(time.Millisecond)
					used, _ = s.RDMAStatus()
				}
			})
		}
	}
}

// Requests other than READ and WRITE survive the loss of their channel too, and are
// carried out once: what may not happen twice did not.
func TestFailoverOfMetadata(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newMultiSite(t, nil)
			sh := m.share(t, Config{})
			s, ctx := sh.Session(), context.Background()
			stop := make(chan struct{})
			var troubled, wg sync.WaitGroup
			troubled.Go(func() { m.cutAgainAndAgain(s, false, seed, stop) })
			for w := range 3 {
				wg.Go(func() {
					for i := range 25 {
						if err := cycle(ctx, sh, fmt.Sprintf("w%d-%d", w, i)); err != nil {
							t.Errorf("worker %d, round %d: %v", w, i, err)
							return
						}
					}
				})
			}
			wg.Wait()
			close(stop)
			troubled.Wait()
			left, err := os.ReadDir(m.dir)
			must(t, err)
			if len(left) != 0 && !t.Failed() {
				t.Errorf("%d entries are left", len(left))
			}
		})
	}
}

// cycle makes, renames, locks, lists and removes, each once.
func cycle(ctx context.Context, sh *Share, name string) error {
	if err := sh.Mkdir(ctx, name); err != nil {
		return err
	}
	f, err := sh.CreateFile(ctx, name+"/a", CreateOptions{Access: accessRead | accessWrite | AccessDelete, Disposition: CreateNew})
	if err != nil {
		return err
	}
	if err := f.Lock(ctx, 0, 10, LockOptions{}); err != nil {
		return err
	}
	if err := f.Unlock(ctx, 0, 10); err != nil {
		return err
	}
	if err := f.Truncate(ctx, 77); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := sh.Rename(ctx, name+"/a", name+"/b", false); err != nil {
		return err
	}
	if err := sh.Link(ctx, name+"/b", name+"/c"); err != nil {
		return err
	}
	if err := sh.Remove(ctx, name+"/c"); err != nil {
		return err
	}
	es, err := sh.ReadDir(ctx, name)
	if err != nil {
		return err
	}
	if len(es) != 1 || es[0].Name() != "b" {
		return fmt.Errorf("%s has %v", name, es)
	}
	fi, err := sh.Stat(ctx, name+"/b")
	if err != nil {
		return err
	}
	if fi.Size() != 77 {
		return fmt.Errorf("size %d", fi.Size())
	}
	if _, err := sh.Session().ListShares(ctx); err != nil {
		return err
	}
	if err := sh.Remove(ctx, name+"/b"); err != nil {
		return err
	}
	return sh.Remove(ctx, name)
}

// A listing that has to start again because an answer was lost has every name once.
func TestFailoverOfListing(t *testing.T) {
	m := newMultiSite(t, nil)
	const files = 3000
	for i := range files {
		m.file(t, fmt.Sprintf("a file with a name of some length %05d", i), nil)
	}
	sh := m.share(t, Config{})
	s := sh.Session()
	f, err := sh.Open(context.Background(), ".")
	must(t, err)
	seen := map[string]bool{}
	for i := 0; ; i++ {
		if i%300 == 100 {
			m.cut(false)
			for s.count(false) == 0 || s.count(true) == 0 {
				time.Sleep(100 * time.Microsecond)
			}
		}
		es, err := f.ReadDir(1)
		if err == io.EOF {
			break
		}
		must(t, err)
		if seen[es[0].Name()] {
			t.Fatalf("%s twice", es[0].Name())
		}
		seen[es[0].Name()] = true
	}
	if len(seen) != files {
		t.Fatalf("%d names, want %d", len(seen), files)
	}
	must(t, f.Close())
}

// watching is the channel on which the server has taken up a watch, if it has.
func watching(s *Session) *conn {
	for _, c := range s.set.Load().all {
		c.mu.Lock()
		for _, k := range c.pending {
			if k.cmd == smb2.CommandChangeNotify && k.async {
				c.mu.Unlock()
				return c
			}
		}
		c.mu.Unlock()
	}
	return nil
}

// A watch goes on: what may have been lost is said by an empty result.
func TestFailoverOfWatch(t *testing.T) {
	m := newMultiSite(t, nil)
	sh := m.share(t, Config{})
	ctx := context.Background()
	w, err := sh.Watch(ctx, "", WatchOptions{})
	must(t, err)
	defer w.Close()
	got := make(chan error, 1)
	go func() { // ends with Next; the test receives
		cs, err := w.Next(ctx)
		if err == nil && len(cs) != 0 {
			err = fmt.Errorf("changes %v, want none", cs)
		}
		got <- err
	}()
	on := watching(sh.Session())
	for on == nil {
		time.Sleep(100 * time.Microsecond)
		on = watching(sh.Session())
	}
	m.cut(on.tr.RDMA() != nil)
	must(t, <-got)
	go func() { // as above
		_, err := w.Next(ctx)
		got <- err
	}()
	// What the server tells the channel before it notices its end is lost.
	for i := 0; ; i++ {
		m.file(t, fmt.Sprint("new", i), nil)
		select {
		case err := <-got:
			must(t, err)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// With the last channel the session ends, and says why; nobody waits.
func TestAllChannelsLost(t *testing.T) {
	m := newMultiSite(t, nil)
	sh := m.share(t, Config{})
	s := sh.Session()
	f, err := sh.Create(context.Background(), "f")
	must(t, err)
	for _, rdma := range []bool{true, false} {
		m.refuseWith(rdma, errors.New("no way"))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			p := make([]byte, 200_000)
			for {
				if _, err := f.WriteAt(p, 0); err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("error %v does not match net.ErrClosed", err)
					}
					return
				}
			}
		})
	}
	m.cut(true)
	m.cut(false)
	wg.Wait()
	<-s.Done()
	if err := s.Err(); err == nil || errors.Is(err, ErrClosed) {
		t.Fatalf("Err %v", err)
	}
	if _, err := sh.Stat(context.Background(), "f"); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("Stat: %v", err)
	}
}

// A channel that can't be made leaves the session on TCP, and RDMAStatus says why.
// 3.3.5.5 on the server's side, 3.2.5.3.3 and 3.2.4.2.2.2 on ours.
func TestBindingRefused(t *testing.T) {
	other := func(change func(*server.Config)) func(t *testing.T, m *multiSite) {
		return func(t *testing.T, m *multiSite) {
			o := newSiteOn(t, m.rdma, m.rdma, func(c *server.Config) { c.Interfaces = bothKinds; change(c) })
			_ = o
		}
	}
	for _, c := range []struct {
		name  string
		cfg   Config
		want  string
		rdma  func(t *testing.T, m *multiSite) // serves the RDMA side instead
		setup func(*server.Config)
	}{
		{name: "refused", want: "no route"},
		{name: "another server answers", want: "another server", rdma: other(func(*server.Config) {})},
		{name: "dialect differs", want: "STATUS_NOT_SUPPORTED", rdma: other(func(c *server.Config) {
			c.GUID, c.MaxDialect = [16]byte{7}, server.Dialect302
		})},
		{name: "no session there", want: "STATUS_USER_SESSION_DELETED", rdma: other(func(c *server.Config) { c.GUID = [16]byte{7} })},
		{name: "no multichannel there", want: "no multichannel", rdma: other(func(c *server.Config) {
			c.GUID, c.Interfaces = [16]byte{7}, nil
		})},
		{name: "cipher differs", want: "cipher", rdma: other(func(c *server.Config) {
			c.GUID, c.Encryption = [16]byte{7}, server.PolicyDisabled
		})},
		{name: "none listed", want: "none of the server's 1 interfaces is RDMA capable", setup: func(c *server.Config) {
			c.Interfaces = func() []server.Interface { return bothKinds()[:1] }
		}},
		{name: "no multichannel", want: "the server has no multichannel", setup: func(c *server.Config) { c.Interfaces = nil }},
		{name: "2.1", cfg: Config{MaxDialect: SMB210}, want: "dialect 2.1 has no multichannel"},
		{name: "guest", cfg: Config{User: "nobody"}, want: "a session of a guest has one channel", setup: func(c *server.Config) {
			c.Guest = true
			c.Shares[0].Guest = true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMultiSite(t, func(cfg *server.Config) {
				cfg.GUID = [16]byte{7}
				if c.setup != nil {
					c.setup(cfg)
				}
			})
			if c.rdma != nil {
				m.rdma = listenLink(linkConfig{rdma: true}) // the first server does not see it
				c.rdma(t, m)
			}
			if c.name == "refused" {
				m.refuseWith(true, errors.New("no route"))
			}
			sh := m.share(t, c.cfg)
			used, why := sh.RDMAStatus()
			if used || !bytes.Contains([]byte(why), []byte(c.want)) {
				t.Fatalf("RDMAStatus %v, %q, want %q", used, why, c.want)
			}
			must(t, sh.WriteFile(context.Background(), "f", random(100_000), 0o666))
		})
	}
}

// The user whose password has changed meanwhile can't bind, and keeps what he has.
func TestBindingAsAnother(t *testing.T) {
	var users atomic.Pointer[server.UserMap]
	set := func(s string) {
		u, err := server.ParseUsers(s)
		must(t, err)
		users.Store(&u)
	}
	set("ann%secret")
	m := newMultiSite(t, func(c *server.Config) { c.Users = usersNow{&users} })
	m.refuseWith(true, errors.New("later"))
	sh := m.share(t, Config{Channels: ChannelConfig{Retry: time.Millisecond}})
	set("ann%other")
	m.refuseWith(true, nil)
	for {
		_, why := sh.RDMAStatus()
		if bytes.Contains([]byte(why), []byte("STATUS_LOGON_FAILURE")) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	must(t, sh.WriteFile(context.Background(), "f", random(100_000), 0o666))
	set("ann%secret")
	for used := false; !used; used, _ = sh.RDMAStatus() {
		time.Sleep(time.Millisecond)
	}
}

type usersNow struct {
	p *atomic.Pointer[server.UserMap]
}

func (u usersNow) NTHash(ctx context.Context, domain, user string) (server.NTHash, error) {
	return (*u.p.Load()).NTHash(ctx, domain, user)
}

// swallowing is a connection of which nothing arrives once it is told so.
type swallowing struct {
	*link
	on *atomic.Bool
}

func (c swallowing) Send(ctx context.Context, m *transport.Message) error {
	if c.on.Load() {
		return nil
	}
	return c.link.Send(ctx, m)
}

// A channel that is silent while another lives is asked for a sign of life, and
// then given up.
func TestSilentChannel(t *testing.T) {
	m := newMultiSite(t, nil)
	var on atomic.Bool
	sh := m.share(t, Config{Channels: ChannelConfig{Stall: 20 * time.Millisecond, Retry: time.Hour,
		Dial: func(ctx context.Context, i NetworkInterface) (transport.Conn, error) {
			c, err := m.dialChannel(ctx, i)
			if err != nil {
				return nil, err
			}
			return swallowing{c.(*link), &on}, nil
		}}})
	f, err := sh.Create(context.Background(), "f")
	must(t, err)
	data := random(200_000)
	on.Store(true)
	if n, err := f.WriteAt(data, 0); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
	if st := sh.Session().Stats(); st.Failovers != 1 || st.InlineBytesWritten != uint64(len(data)) {
		t.Fatalf("%+v", st)
	}
	got, err := os.ReadFile(filepath.Join(m.dir, "f"))
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatal("the file is not what was written")
	}
}

// slow is a connection whose first answer takes its time.
type slow struct {
	*link
	once sync.Once
}

func (c *slow) Receive(ctx context.Context) (*transport.Received, error) {
	r, err := c.link.Receive(ctx)
	c.once.Do(func() { time.Sleep(100 * time.Millisecond) })
	return r, err
}

// A connection that is still being bound is not asked for signs of life: it has no
// session to ask in.
func TestSlowBinding(t *testing.T) {
	m := newMultiSite(t, nil)
	s := m.start(t, Config{Channels: ChannelConfig{Max: 3, Stall: 10 * time.Millisecond, Retry: time.Hour,
		Dial: func(ctx context.Context, i NetworkInterface) (transport.Conn, error) {
			c, err := m.dialChannel(ctx, i)
			if err != nil {
				return nil, err
			}
			return &slow{link: c.(*link)}, nil
		}}})
	if n := len(s.Channels()); n != 4 {
		_, why := s.RDMAStatus()
		t.Fatalf("%d channels, want 4: %s", n, why)
	}
}

// A WRITE that is refused because one of a lost channel is still being served is
// sent again until that has ended: 3.2.5.12.
func TestFileNotAvailable(t *testing.T) {
	m := newMultiSite(t, nil)
	f, l := newFake(t, linkConfig{})
	f.auth, f.caps = true, smb2.GlobalCapLargeMTU|smb2.GlobalCapMultiChannel
	refused, flagged := 0, 0
	f.on[smb2.CommandWrite] = func(f *fake, h smb2.Header, msg []byte) bool {
		if h.Flags&smb2.FlagReplayOperation != 0 {
			flagged++
		}
		if refused < 3 {
			refused++
			f.fail(h, ntstatus.FileNotAvailable)
			return true
		}
		return false
	}
	file := f.open(l, Config{Channels: ChannelConfig{Dial: m.dialChannel}})
	if n, err := file.WriteAt([]byte("abc"), 0); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if refused != 3 || flagged != 3 {
		t.Fatalf("refused %d times, %d replays, want 3 and 3", refused, flagged)
	}
}
