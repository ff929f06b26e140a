package server

import (
	"context"
	"slices"
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

// slowFS is a storage that keeps waiting who opens the file "slow", reads or syncs the file
// "cold", or lists a directory, until goOn is closed or the request is cancelled.
type slowFS struct {
	vfs.FS
	waits     chan struct{} // gets one for each call that waits
	goOn      chan struct{}
	cancelled atomic.Int32
}

type slowFile struct {
	vfs.File
	fs *slowFS
}

func (f *slowFS) wait(ctx context.Context) error {
	f.waits <- struct{}{}
	select {
	case <-f.goOn:
		return nil
	case <-ctx.Done():
		f.cancelled.Add(1)
		return ctx.Err()
	}
}

func (f *slowFS) Open(ctx context.Context, name string, o vfs.OpenOptions) (vfs.File, vfs.OpenResult, error) {
	if name == "slow" {
		if err := f.wait(ctx); err != nil {
			return nil, vfs.OpenResult{}, err
		}
	}
	file, res, err := f.FS.Open(ctx, name, o)
	if err == nil && name == "cold" {
		file = &slowFile{file, f}
	}
	if d, ok := file.(vfs.Dir); ok {
		file = &slowDir{d, f}
	}
	return file, res, err
}

type slowDir struct {
	vfs.Dir
	fs *slowFS
}

func (d *slowDir) ReadDir(ctx context.Context, c vfs.Cursor, dst []vfs.DirEntry) (int, error) {
	if err := d.fs.wait(ctx); err != nil {
		return 0, err
	}
	return d.Dir.ReadDir(ctx, c, dst)
}

func (f *slowFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.wait(context.Background()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *slowFile) ReadCached(p []byte, off int64) (int, error) {
	n, err := f.File.(vfs.CachedReader).ReadCached(p[:1], off)
	if err == nil {
		err = vfs.ErrNotCached // all but the first octet
	}
	return n, err
}

func (f *slowFile) Sync(ctx context.Context) error {
	if err := f.fs.wait(ctx); err != nil {
		return err
	}
	return f.File.Sync(ctx)
}

// newSlowSite serves such a storage. The relief looks every tick.
func newSlowSite(t *testing.T, tick time.Duration) (*site, *slowFS) {
	slow := &slowFS{waits: make(chan struct{}, 100), goOn: make(chan struct{})}
	s := newSite(t, memconn.Config{}, func(c *Config) {
		slow.FS = c.Shares[0].FS
		c.Shares[0].FS = slow
	})
	s.srv.relief.tick = tick
	s.write("cold", octets(100))
	s.write("slow", octets(100))
	return s, slow
}

// While a request takes its time, its connection goes on receiving: who serves it has
// told so, or the relief finds out. The answer is what it would have been.
func TestReceivingGoesOn(t *testing.T) {
	const never, soon = time.Hour, time.Millisecond
	for _, tc := range []struct {
		name string
		tick time.Duration
		send func(p *peer, cold smb2.FileID) uint64
		want ntstatus.Status
	}{
		{"CREATE, found by the relief", soon, func(p *peer, _ smb2.FileID) uint64 {
			return p.post(p.header(smb2.CommandCreate), createRequest("slow", smb2.FileOpen))
		}, ntstatus.Success},
		{"READ of what is not cached", never, func(p *peer, cold smb2.FileID) uint64 {
			return p.post(p.header(smb2.CommandRead), &smb2.ReadRequest{FileID: cold, Length: 10, Offset: 20})
		}, ntstatus.Success},
		{"FLUSH", never, func(p *peer, cold smb2.FileID) uint64 {
			return p.post(p.header(smb2.CommandFlush), &smb2.FlushRequest{FileID: cold})
		}, ntstatus.Success},
		{"WRITE that goes through", never, func(p *peer, cold smb2.FileID) uint64 {
			return p.post(p.header(smb2.CommandWrite), &smb2.WriteRequest{FileID: cold, Data: []byte("x"), Flags: smb2.WriteFlagWriteThrough})
		}, ntstatus.Success},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, slow := newSlowSite(t, tc.tick)
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			cold := p.openFile("cold")
			mid := tc.send(p, cold)
			<-slow.waits
			for range 3 { // by the same connection
				st, _ := p.do(smb2.CommandEcho, &smb2.EchoRequest{})
				want(t, "ECHO meanwhile", st, ntstatus.Success)
			}
			close(slow.goOn)
			h, _ := p.answer()
			if h.MessageID != mid || h.Status != tc.want {
				t.Errorf("answer to request %d: %v, want %v for %d", h.MessageID, h.Status, tc.want, mid)
			}
			st, _ := p.do(smb2.CommandEcho, &smb2.EchoRequest{})
			want(t, "ECHO afterwards", st, ntstatus.Success)
		})
	}
}

// Requests that list by one open are served one after the other, also where the first takes
// its time: each of them, which begin anew, has all that there is.
func TestListsAtOnce(t *testing.T) {
	s, slow := newSlowSite(t, time.Millisecond)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	root := p.openDir("")
	const lists = 4
	for range lists {
		p.post(p.header(smb2.CommandQueryDirectory), &smb2.QueryDirectoryRequest{
			FileInformationClass: smb2.ClassFileNamesInformation, FileID: root, FileName: smb2.EncodeUTF16("*"),
			Flags: smb2.QueryDirectoryRestartScans, OutputBufferLength: 4096,
		})
	}
	<-slow.waits
	st, _ := p.do(smb2.CommandEcho, &smb2.EchoRequest{}) // behind them
	want(t, "ECHO meanwhile", st, ntstatus.Success)
	close(slow.goOn)
	for range lists {
		h, b := p.answer()
		m, err := smb2.ParseQueryDirectoryResponse(b)
		if h.Status != ntstatus.Success || err != nil {
			t.Fatalf("%v, %v", h.Status, err)
		}
		var got []string
		for e, err := range smb2.DirectoryEntries(m.OutputBuffer, smb2.ClassFileNamesInformation) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.FileName)
		}
		slices.Sort(got)
		if want := []string{".", "..", "cold", "slow"}; !slices.Equal(got, want) {
			t.Errorf("%q are listed, want %q", got, want)
		}
	}
}

// What is not cached in one piece is read as a whole, once.
func TestReadOfWhatIsPartlyCached(t *testing.T) {
	s, slow := newSlowSite(t, time.Hour)
	close(slow.goOn)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	cold := p.openFile("cold")
	for _, n := range []uint32{1, 2, 50} {
		st, b := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: cold, Length: n, Offset: 30})
		want(t, "READ", st, ntstatus.Success)
		m, err := smb2.ParseReadResponse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.Data); got != string(octets(100)[30:30+n]) {
			t.Errorf("%d octets: %q", n, got)
		}
	}
	st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: cold, Length: 10, Offset: 100})
	want(t, "READ at the end", st, ntstatus.EndOfFile)
	if n := len(slow.waits); n != 3 {
		t.Errorf("the storage was waited for %d times, want 3: not for the end of the file", n)
	}
}

// CANCEL reaches a request that is being served by who had received it.
func TestCancelOfWhatIsServed(t *testing.T) {
	s, slow := newSlowSite(t, time.Millisecond)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	mid := p.post(p.header(smb2.CommandCreate), createRequest("slow", smb2.FileOpen))
	<-slow.waits
	h := smb2.Header{Command: smb2.CommandCancel, MessageID: mid, SessionID: p.sid, TreeID: p.tid}
	p.transmit(p.protect(p.element(h, &smb2.CancelRequest{})))
	got, _ := p.answer()
	if got.MessageID != mid || got.Status != ntstatus.Cancelled {
		t.Errorf("answer to request %d: %v, want that %d is cancelled", got.MessageID, got.Status, mid)
	}
	if slow.cancelled.Load() != 1 {
		t.Error("the request has ended by itself")
	}
}

// A connection that is lost is noticed, and its request cancelled, while that is served
// by who had received it.
func TestLossDuringRequest(t *testing.T) {
	s, slow := newSlowSite(t, time.Millisecond)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	p.post(p.header(smb2.CommandCreate), createRequest("slow", smb2.FileOpen))
	<-slow.waits
	p.c.Close()
	s.srv.mu.Lock()
	var done []<-chan struct{}
	for c := range s.srv.conns {
		done = append(done, c.done)
	}
	s.srv.mu.Unlock()
	for _, d := range done {
		select {
		case <-d:
		case <-s.ctx.Done():
			t.Fatal("the connection does not end")
		}
	}
	if slow.cancelled.Load() != 1 {
		t.Error("the request was not cancelled")
	}
}

// Shutdown waits for a request that is served by who had received it, and the client has
// the answer.
func TestShutdownDuringRequest(t *testing.T) {
	for _, tc := range []struct {
		name string
		tick time.Duration
	}{{"whom nobody has relieved", time.Hour}, {"who was relieved", time.Millisecond}} {
		t.Run(tc.name, func(t *testing.T) {
			s, slow := newSlowSite(t, tc.tick)
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			mid := p.post(p.header(smb2.CommandCreate), createRequest("slow", smb2.FileOpen))
			<-slow.waits
			ended := make(chan error, 1)
			go func() { ended <- s.srv.Shutdown(s.ctx) }()
			for !s.draining() {
				time.Sleep(time.Millisecond)
			}
			close(slow.goOn)
			h, _ := p.answer()
			if h.MessageID != mid || h.Status != ntstatus.Success {
				t.Errorf("answer to request %d: %v", h.MessageID, h.Status)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// draining reports whether all connections have been told to end.
func (s *site) draining() bool {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	for c := range s.srv.conns {
		if !c.isDraining() {
			return false
		}
	}
	return true
}

// Requests that come together are all answered, those among them that wait for others
// too, and in spite of a limit on what is served at a time.
func TestRequestsThatComeTogether(t *testing.T) {
	s, slow := newSlowSite(t, 2*time.Millisecond)
	s.write("file", octets(1000))
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	p.credits = 0
	for p.credits < 200 {
		h := p.header(smb2.CommandEcho)
		h.Credits = 200
		p.doHeader(h, &smb2.EchoRequest{})
	}
	file, cold := p.openFile("file"), p.openFile("cold")
	sent := map[uint64]bool{}
	for i := range 120 {
		var mid uint64
		switch {
		case i%40 == 5:
			mid = p.post(p.header(smb2.CommandCreate), createRequest("slow", smb2.FileOpen))
		case i%40 == 15:
			mid = p.post(p.header(smb2.CommandRead), &smb2.ReadRequest{FileID: cold, Length: 10})
		case i%5 == 0:
			mid = p.post(p.header(smb2.CommandQueryInfo), &smb2.QueryInfoRequest{
				InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileStandardInformation), OutputBufferLength: 100, FileID: file,
			})
		default:
			mid = p.post(p.header(smb2.CommandRead), &smb2.ReadRequest{FileID: file, Length: 100, Offset: uint64(i)})
		}
		sent[mid] = true
	}
	for range 6 {
		<-slow.waits
	}
	close(slow.goOn)
	for len(sent) > 0 {
		h, _ := p.answer()
		if !sent[h.MessageID] || h.Status != ntstatus.Success {
			t.Fatalf("answer to request %d: %v", h.MessageID, h.Status)
		}
		delete(sent, h.MessageID)
	}
}

// The turn is one goroutine's at a time, whoever takes it when.
func TestTurn(t *testing.T) {
	var turn turn
	n := turn.begin()
	if !turn.end(n) {
		t.Error("the turn has gone although nobody took it")
	}
	if turn.take(n) {
		t.Error("the turn is taken from who receives")
	}
	n = turn.begin()
	if !turn.take(n) {
		t.Error("the turn cannot be taken from who serves")
	}
	if turn.take(n) || turn.end(n) {
		t.Error("two have the turn")
	}
	if m := turn.begin(); turn.end(n) || !turn.end(m) {
		t.Error("the turn of the one who took it is another's")
	}
}

// Where the relief was needed, workers serve what comes next and may be as slow: none of
// it waits for the relief again.
func TestWaryOfSlowStorage(t *testing.T) {
	s, slow := newSlowSite(t, time.Millisecond)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	const n = 20
	for p.credits < n+10 {
		h := p.header(smb2.CommandEcho)
		h.Credits = n
		p.doHeader(h, &smb2.EchoRequest{})
	}
	sent := map[uint64]bool{}
	open := func() { sent[p.post(p.header(smb2.CommandCreate), createRequest("slow", smb2.FileOpen))] = true }
	open()
	<-slow.waits
	s.srv.mu.Lock()
	var turn *turn
	for c := range s.srv.conns {
		turn = &c.turn
	}
	s.srv.mu.Unlock()
	for turn.wary.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	before := turn.n.Load()
	for range n {
		open()
		<-slow.waits
	}
	if now := turn.n.Load(); now != before {
		t.Errorf("who receives has served %d of %d slow requests himself", (now-before)/2, n)
	}
	close(slow.goOn)
	for len(sent) > 0 {
		h, _ := p.answer()
		if !sent[h.MessageID] || h.Status != ntstatus.Success {
			t.Fatalf("answer to request %d: %v", h.MessageID, h.Status)
		}
		delete(sent, h.MessageID)
	}
}

// stuckBatcher sends nothing that was kept back.
type stuckBatcher struct{ transport.Batcher }

func (stuckBatcher) Flush(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// A client that does not take the answers that were kept back for a moment is one that
// takes no answers.
func TestKeptAnswersNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users, _ := ParseUsers("ann%secret")
		srv, err := New(Config{Users: users})
		if err != nil {
			t.Fatal(err)
		}
		l := memconn.Listen(memconn.Config{})
		served := make(chan error)
		go func() { served <- srv.Serve(t.Context(), l) }()
		s := &site{t: t, srv: srv, l: l, ctx: t.Context()}
		p := s.dial()
		p.negotiate(smb2.DialectSMB311)
		p.logon("ann", "secret")
		synctest.Wait()
		flushed := make(chan struct{})
		for _, c := range srv.allConns() {
			c.batch = stuckBatcher{c.batch}
			c.kept.Store(true)
			go func() {
				c.flushKept()
				close(flushed)
			}()
		}
		time.Sleep(20 * time.Minute) // of the bubble's clock
		synctest.Wait()
		select {
		case <-flushed:
		default:
			t.Error("the answers are waited for still")
		}
		if n := srv.Stats().ConnectionsFailed; n != 1 {
			t.Errorf("%d connections ended for it, want 1", n)
		}
		srv.Close()
		<-served
		<-flushed
	})
}
