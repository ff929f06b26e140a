package server

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"

	gosmb2 "github.com/hirochachacha/go-smb2"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// another mounts the share by go-smb2, a client of another make on another transport.
func (s *site) another() *gosmb2.Share {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	l, err := tcp.Listen(s.ctx, "127.0.0.1:0", tcp.Config{})
	must(err)
	served := make(chan error, 1)
	go func() { served <- s.srv.Serve(context.Background(), l) }()
	s.t.Cleanup(func() {
		s.srv.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			s.t.Errorf("Serve: %v", err)
		}
	})
	nc, err := net.Dial("tcp", l.Addr().String())
	must(err)
	s.t.Cleanup(func() { nc.Close() })
	session, err := (&gosmb2.Dialer{Initiator: &gosmb2.NTLMInitiator{User: "ann", Password: "secret"}}).Dial(nc)
	must(err)
	share, err := session.Mount("data")
	must(err)
	return share
}

// statusOf says with what status go-smb2 was refused.
func statusOf(err error) ntstatus.Status {
	var e *gosmb2.ResponseError
	if errors.As(err, &e) {
		return ntstatus.Status(e.Code)
	}
	return ntstatus.Success
}

// Two clients of different makes on the same files at once: what one caches or has
// locked, or does not share, holds for the other.
func TestTwoMakesOfClients(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	q := s.another()
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	// inBackground has the other client do something that p has to answer for first.
	inBackground := func(f func() error) (done chan error) {
		done = make(chan error, 1)
		go func() { done <- f() }()
		return done
	}
	const size = 20

	// p has written to its cache alone. It writes back when the other wants to read.
	m := createRequest("f", smb2.FileOpenIf)
	m.DesiredAccess &^= smb2.Delete // which the other does not share
	id, rights, _ := p.openAsking(asking(m, 0, lease2(1, cacheRWH, 1)))
	if rights != cacheRWH {
		t.Fatalf("granted %v", rights)
	}
	var got []byte
	done := inBackground(func() (err error) { got, err = q.ReadFile("f"); return err })
	b, ack, _ := p.nextBreak()
	if b != (broken{cacheR | cacheH, true}) {
		t.Errorf("for a reader: %+v", b)
	}
	p.writeAll(id, "what p had in mind..")
	st, _ := p.do(smb2.CommandOplockBreak, ack)
	want(t, "acknowledgment", st, ntstatus.Success)
	if err := <-done; err != nil || string(got) != "what p had in mind.." {
		t.Errorf("the other reads %q, %v; want what was written back", got, err)
	}

	// p caches what it reads. When the other overwrites it, p is told to read again.
	done = inBackground(func() error { return q.WriteFile("f", []byte("what q thinks of it!"), 0o666) })
	b, ack, _ = p.nextBreak()
	if b.to&cacheR != 0 {
		t.Errorf("for who overwrites: %+v", b)
	}
	if b.ack {
		st, _ = p.do(smb2.CommandOplockBreak, ack)
		want(t, "acknowledgment", st, ntstatus.Success)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := p.readAll(id); got != "what q thinks of it!" {
		t.Errorf("p reads %q", got)
	}

	// A locked range is nobody else's to read or write.
	want(t, "lock", p.lock(id, smb2.LockElement{Length: size / 2, Flags: lockNow}), ntstatus.Success)
	f, err := q.OpenFile("f", os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, size/2)
	_, err = f.WriteAt(buf, 0)
	want(t, "writing what p has locked", statusOf(err), ntstatus.FileLockConflict)
	_, err = f.ReadAt(buf, size/2-1)
	want(t, "reading an octet of it", statusOf(err), ntstatus.FileLockConflict)
	if _, err = f.WriteAt(buf, size/2); err != nil {
		t.Errorf("writing beside it: %v", err)
	}
	want(t, "unlock", p.lock(id, smb2.LockElement{Length: size / 2, Flags: unlockNow}), ntstatus.Success)
	if _, err = f.WriteAt(buf, 0); err != nil {
		t.Errorf("writing when it is unlocked: %v", err)
	}
	if got := p.readAll(id); got != string(make([]byte, size)) {
		t.Errorf("p reads %q", got)
	}

	// What one does not share, the other does not get, whoever is first.
	alone := createRequest("f", smb2.FileOpen)
	alone.ShareAccess = 0
	alone.DesiredAccess &^= smb2.Delete
	st, _ = p.tryCreate(alone)
	want(t, "opening alone what the other has open", st, ntstatus.SharingViolation)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	p.close(id)
	id = p.create(alone)
	_, err = q.ReadFile("f")
	want(t, "reading what p has alone", statusOf(err), ntstatus.SharingViolation)
	err = q.Remove("f")
	want(t, "removing it", statusOf(err), ntstatus.SharingViolation)
	p.close(id)

	// p caches a listing, until the other makes a name.
	dir := createRequest("", smb2.FileOpen)
	dir.CreateOptions, dir.DesiredAccess = smb2.FileDirectoryFile, smb2.FileReadData
	if _, rights, _ = p.openAsking(asking(dir, 0, lease2(2, cacheR|cacheH, 1))); rights != cacheR|cacheH {
		t.Fatalf("the directory: granted %v", rights)
	}
	done = inBackground(func() error { return q.Mkdir("new", 0o777) })
	b, ack, _ = p.nextBreak()
	if b.to&cacheR != 0 {
		t.Errorf("for a new name: %+v", b)
	}
	if b.ack {
		st, _ = p.do(smb2.CommandOplockBreak, ack)
		want(t, "acknowledgment", st, ntstatus.Success)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
