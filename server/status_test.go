package server

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
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
