package e2e

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// mpaReply is an MPA Reply, RFC 5044 §7.1.1.
func mpaReply(flags, revision byte, private []byte) []byte {
	b := mpaRequest(flags, revision, private)
	copy(b, "MPA ID Rep Frame")
	return b
}

// negotiateResponse is a Negotiate Response, [MS-SMBD] 2.2.2, with some fields
// changed.
func negotiateResponse(change func(b []byte)) []byte {
	b := make([]byte, 32)
	le := binary.LittleEndian
	for off, v := range map[int]uint16{0: 0x100, 2: 0x100, 4: 0x100, 8: 255, 10: 255} {
		le.PutUint16(b[off:], v)
	}
	for off, v := range map[int]uint32{16: 1 << 20, 20: 1364, 24: 1364, 28: 1 << 20} {
		le.PutUint32(b[off:], v)
	}
	change(b)
	return b
}

// Servers that set a connection up wrongly: Dial fails, and leaves nothing.
func TestDialingHostileServers(t *testing.T) {
	w := newTown(t, options{})
	frame := func(payload []byte) []byte { return (&rawIWARP{}).sendFrame(payload) }
	up := mpaReply(0x10, 2, enhanced) // and then, after the client's first FPDU
	response := func(change func(b []byte)) []byte { return frame(negotiateResponse(change)) }
	smb := func(f func(b []byte)) []byte {
		b := make([]byte, 64+65)
		copy(b, "\xfeSMB\x40\x00")
		b[16] = 1 // a response
		f(b)
		return b
	}
	set16 := func(off int, v uint16) func([]byte) { return func(b []byte) { le16(b, off, v) } }
	set32 := func(off int, v uint32) func([]byte) { return func(b []byte) { le32(b, off, v) } }
	for _, c := range []struct {
		name   string
		scheme string
		says   [][]byte // one after each thing that the client says
	}{
		{"nothing", "iwarp", nil},
		{"a wrong key", "iwarp", [][]byte{mpaRequest(0x10, 2, enhanced)}},
		{"revision 3", "iwarp", [][]byte{mpaReply(0x10, 3, enhanced)}},
		{"rejects", "iwarp", [][]byte{mpaReply(0x30, 2, enhanced)}},
		{"PD_Length 65535", "iwarp", [][]byte{append(mpaReply(0x10, 2, nil)[:18], 0xFF, 0xFF)}},
		{"half a Reply", "iwarp", [][]byte{up[:11]}},
		{"an FPDU that breaks DDP", "iwarp", [][]byte{up, (&rawIWARP{}).frame(untagged(opSend, 0, 0, 9, 0, true, make([]byte, 32)...))}},
		{"a write to STag 1", "iwarp", [][]byte{up, (&rawIWARP{}).frame(tagged(opWrite, 1, 0, true, 1))}},
		{"a Terminate", "iwarp", [][]byte{up, (&rawIWARP{}).frame(untagged(opTerminate, 0, 2, 1, 0, true, 0x11, 0, 0, 0))}},
		{"a response of 31 octets", "iwarp", [][]byte{up, frame(make([]byte, 31))}},
		{"a status", "iwarp", [][]byte{up, response(set32(12, 0xC00000BB))}},
		{"version 2", "iwarp", [][]byte{up, response(set16(4, 0x200))}},
		{"no credits granted", "iwarp", [][]byte{up, response(set16(10, 0))}},
		{"no credits requested", "iwarp", [][]byte{up, response(set16(8, 0))}},
		{"MaxReceiveSize 127", "iwarp", [][]byte{up, response(set32(24, 127))}},
		{"MaxFragmentedSize 131071", "iwarp", [][]byte{up, response(set32(28, 131071))}},
		{"sends that are too large", "iwarp", [][]byte{up, response(set32(20, 1<<20))}},
		{"a good response, and then rubbish", "iwarp", [][]byte{up, response(func([]byte) {}), {0xFF, 0xFF, 1}}},
		{"nothing", "tcp", nil},
		{"a prefix of 16 MiB", "tcp", [][]byte{{0, 0xFF, 0xFF, 0xFF}}},
		{"HTTP", "tcp", [][]byte{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n")}},
		{"SMB1", "tcp", [][]byte{prefixed(append([]byte("\xffSMB"), make([]byte, 60)...))}},
		{"a response of 63 octets", "tcp", [][]byte{prefixed(smb(func([]byte) {})[:63])}},
		{"dialect 0", "tcp", [][]byte{prefixed(smb(func(b []byte) { b[64] = 65 }))}},
		{"StructureSize 64", "tcp", [][]byte{prefixed(smb(func(b []byte) { b[64] = 64 }))}},
		{"a token beyond the message", "tcp", [][]byte{prefixed(smb(func(b []byte) { b[64] = 65; le16(b, 68, 0x311); le16(b, 120, 0xFFF0); le16(b, 122, 0xFFF0) }))}},
		{"contexts beyond the message", "tcp", [][]byte{prefixed(smb(func(b []byte) { b[64] = 65; le16(b, 68, 0x311); le16(b, 70, 0xFFFF); le32(b, 124, 0xFFFFFFF8) }))}},
	} {
		t.Run(c.name+"/"+c.scheme, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			done := make(chan struct{})
			go func() { // ends with its one connection
				defer close(done)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				buf := make([]byte, 64<<10)
				for _, b := range c.says {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					if _, err := conn.Write(b); err != nil {
						return
					}
				}
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			}()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			sh, err := mount(ctx, dialer(t, c.scheme), l.Addr().String(), client.Config{})
			if err == nil {
				sh.Session().Close()
				t.Error("Dial works")
			}
			if ctx.Err() != nil {
				t.Errorf("Dial hung: %v", err)
			}
			l.Close()
			<-done
			w.check(t)
		})
	}
}
