package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// Whatever comes from a port of TCP that is no server, or one that stops in the middle of
// a message: connecting to it ends with an error.
func TestWhatIsNoServer(t *testing.T) {
	frame := func(n int, b []byte) []byte { // [MS-SMB2] 2.1: a length of 24 bits before each message
		return append(binary.BigEndian.AppendUint32(nil, uint32(n)), b...)
	}
	for _, c := range []struct {
		name string
		says [][]byte // piece by piece
		ends bool     // and then it closes the connection; else it waits
	}{
		{"nothing", nil, false},
		{"nothing, and ends", nil, true},
		{"half a length", [][]byte{{0, 0}}, false},
		{"half a length, and ends", [][]byte{{0, 0}}, true},
		{"a length", [][]byte{frame(100, nil)}, false},
		{"half a message", [][]byte{frame(100, []byte("\xfeSMB@"))}, false},
		{"half a message, and ends", [][]byte{frame(100, []byte("\xfeSMB@"))}, true},
		{"the longest message", [][]byte{frame(1<<24-1, []byte("\xfeSMB@"))}, false},
		{"a message of nothing", [][]byte{frame(0, nil)}, false},
		{"zeros", [][]byte{make([]byte, 1<<16)}, false},
		{"letters", [][]byte{bytes.Repeat([]byte("HTTP/1.1 400 Bad Request\r\n"), 100)}, false},
		{"another kind of frame", [][]byte{frame(0x85<<24, nil)}, false},
		{"an empty SMB2 message", [][]byte{frame(4, []byte("\xfeSMB"))}, false},
		{"an octet at a time", bytes.SplitAfter(frame(100, make([]byte, 40)), nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			done, released := make(chan struct{}), make(chan struct{})
			go func() { // ends with what the test has to see
				defer close(done)
				s, err := l.Accept()
				if err != nil {
					return
				}
				defer s.Close()
				_, _ = s.Read(make([]byte, 1)) // of NEGOTIATE
				for _, b := range c.says {
					if _, err := s.Write(b); err != nil {
						break
					}
				}
				if !c.ends {
					<-released
				}
			}()
			d, err := tcp.NewDialer(tcp.Config{})
			must(t, err)
			s, err := Dial(context.Background(), d, l.Addr().String(), Config{User: "ann", Password: "secret", Timeout: 100 * time.Millisecond})
			if err == nil {
				t.Error("this is a server")
				s.Close()
			}
			close(released)
			l.Close()
			<-done
		})
	}
}
