package server

import (
	"slices"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// Status shows who is there by what, and no more of it than was asked for.
func TestStatus(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	s.dial() // says nothing
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	s.write("b", []byte("b"))
	s.write("a", []byte("a"))
	p.openFile("b")
	p.openFile("a")
	st := s.srv.Status(100)
	if len(st.Listeners) != 1 || len(st.Connections) != 2 || len(st.Sessions) != 1 {
		t.Fatalf("%d listeners, %d connections, %d sessions: %+v", len(st.Listeners), len(st.Connections), len(st.Sessions), st)
	}
	quiet, c, sess := st.Connections[0], st.Connections[1], st.Sessions[0]
	if quiet.Dialect != "" || quiet.Signing != "" || len(quiet.Users) != 0 {
		t.Errorf("a connection on which nobody spoke: %+v", quiet)
	}
	if c.Dialect != "3.1.1" || c.Signing == "" || len(c.Users) != 1 || c.Users[0] != sess.Domain+`\`+sess.User || sess.User != "ann" || c.Stats.MessagesSent == 0 || c.Transport != st.Listeners[0].Scheme {
		t.Errorf("connection %+v", c)
	}
	if len(sess.Connections) != 1 || sess.Connections[0] != c.ID || sess.Dialect != "3.1.1" || len(sess.Trees) != 1 || sess.Trees[0].Share != "data" {
		t.Errorf("session %+v", sess)
	}
	if sess.OpenCount != 2 || len(sess.Opens) != 2 || sess.Opens[0].Name != "a" || sess.Opens[1].Name != "b" || sess.Opens[0].Share != "data" {
		t.Errorf("opens %+v", sess.Opens)
	}
	if st.Totals.Connections != 2 || st.Totals.Sessions != 1 || st.Totals.Opens != 2 {
		t.Errorf("totals %+v", st.Totals)
	}

	one := s.srv.Status(1)
	if len(one.Connections) != 1 || len(one.Sessions) != 1 || len(one.Sessions[0].Opens) != 1 || one.Sessions[0].OpenCount != 2 || one.Totals.Connections != 2 {
		t.Errorf("with a limit of 1: %+v", one)
	}
	if none := s.srv.Status(0); len(none.Connections)+len(none.Sessions)+len(none.Listeners) != 0 {
		t.Errorf("with a limit of 0: %+v", none)
	}

	if tc, ok := s.srv.Transport(c.ID); !ok || tc == nil {
		t.Error("no transport")
	}
	if _, ok := s.srv.Transport(c.ID + 100); ok {
		t.Error("a transport of no connection")
	}
}

// What connections counted stays when they are gone.
func TestTransportStatsSurvive(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311)
	scheme := s.srv.Status(1).Listeners[0].Scheme
	// NEGOTIATE, and SESSION_SETUP twice; an answer is counted when it has been sent.
	s.until("three answers are counted", func() bool { return s.srv.TransportStats()[scheme].MessagesSent == 3 })
	before := s.srv.TransportStats()[scheme]
	p.c.Close()
	s.srv.Close()
	if after := s.srv.TransportStats()[scheme]; after.MessagesSent != before.MessagesSent {
		t.Errorf("%+v, before the end %+v", after, before)
	}
}

// Status has locks and leases by the opens' IDs, and what has an ID can be closed.
func TestStatusOfFiles(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	s.write("f", []byte("0123456789"))
	leased, _, _ := p.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease2(7, cacheR|cacheH, 0)))
	stream := p.openFile("f:Stream")
	lock := func(flags smb2.LockFlags, off, n uint64) {
		t.Helper()
		st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: leased, Locks: []smb2.LockElement{{Offset: off, Length: n, Flags: flags}}})
		want(t, "LOCK", st, ntstatus.Success)
	}
	lock(smb2.LockFlagExclusiveLock|smb2.LockFlagFailImmediately, 1<<63, 1<<62)
	lock(smb2.LockFlagSharedLock|smb2.LockFlagFailImmediately, 2, 3)
	st := s.srv.Status(100)
	if len(st.Sessions) != 1 || len(st.Sessions[0].Opens) != 2 {
		t.Fatalf("%+v", st.Sessions)
	}
	main, other := st.Sessions[0].Opens[0], st.Sessions[0].Opens[1]
	if main.Stream != "" {
		main, other = other, main
	}
	if main.Name != "f" || other.Name != "f" || other.Stream != "STREAM" || main.ID == other.ID || main.ID == 0 ||
		main.Caching != "lease RH" || main.Locks != 2 || other.Locks != 0 || main.Sharing == 0 {
		t.Errorf("opens %+v, %+v", main, other)
	}
	wantLocks := []LockStatus{
		{Open: main.ID, Share: "data", Name: "f", Offset: 2, Length: 3},
		{Open: main.ID, Share: "data", Name: "f", Offset: 1 << 63, Length: 1 << 62, Exclusive: true},
	}
	if !slices.Equal(st.Locks, wantLocks) {
		t.Errorf("locks %+v, want %+v", st.Locks, wantLocks)
	}
	if len(st.Leases) != 1 || st.Leases[0].Key != "07000000000000000000000000000000" || st.Leases[0].State != "RH" ||
		st.Leases[0].Version != 2 || !slices.Equal(st.Leases[0].Opens, []uint64{main.ID}) || st.Leases[0].Name != "f" {
		t.Errorf("leases %+v", st.Leases)
	}
	if c := st.Connections[0]; c.Credits < 1 || c.CreditsMax < c.Credits {
		t.Errorf("%d credits of %d", c.Credits, c.CreditsMax)
	}
	if none := s.srv.Status(0); len(none.Locks)+len(none.Leases)+len(none.Detached) != 0 {
		t.Errorf("with a limit of 0: %+v", none)
	}

	if s.srv.CloseByID(CloseOpen, 1<<40) || s.srv.CloseByID(CloseSession, 1) || s.srv.CloseByID(CloseConnection, 99) {
		t.Error("something is closed that was not there")
	}
	if !s.srv.CloseByID(CloseOpen, main.ID) || s.srv.CloseByID(CloseOpen, main.ID) {
		t.Error("the open is not closed once")
	}
	read := func(f smb2.FileID) ntstatus.Status {
		st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: f, Length: 1})
		return st
	}
	want(t, "READ of what was closed", read(leased), ntstatus.FileClosed)
	if st := s.srv.Status(100); len(st.Locks)+len(st.Leases) != 0 {
		t.Errorf("locks %+v and leases %+v of an open that is closed", st.Locks, st.Leases)
	}
	if n, err := s.srv.CloseShare(t.Context(), "DATA"); n != 1 || err != nil {
		t.Errorf("%d tree connects closed", n)
	}
	want(t, "READ in a share that was closed", read(stream), ntstatus.NetworkNameDeleted)
	p.mustConnect("data")
	if !s.srv.CloseByID(CloseSession, p.sid) {
		t.Error("the session is not closed")
	}
	want(t, "after the session was closed", read(stream), ntstatus.UserSessionDeleted)
	q := s.login(smb2.DialectSMB311)
	if !s.srv.CloseByID(CloseConnection, s.srv.Status(100).Connections[1].ID) {
		t.Error("the connection is not closed")
	}
	q.gone()
}
