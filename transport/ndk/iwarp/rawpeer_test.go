package iwarp

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// raw is a peer that is a bare TCP connection: it says what a test wants.
type raw struct {
	t    *testing.T
	conn net.Conn
	crc  bool
}

// served is an accepted connection of our end to a raw peer.
type served struct {
	*end
	l      ndk.Listener
	reason chan uint32
	accept chan error
	params ndk.ConnParams
}

// serve makes an end that accepts every request onto its QP.
func serve(t *testing.T, cfg Config) (*served, netip.AddrPort) {
	t.Helper()
	ctx := context.Background()
	s := &served{end: newEnd(t, cfg, 1<<16), reason: make(chan uint32, 1), accept: make(chan error, 1),
		params: ndk.ConnParams{InboundReadLimit: 2, OutboundReadLimit: 2}}
	var err error
	s.l, err = s.a.CreateListener(ctx, func(c ndk.Connector) {
		s.c = c
		s.accept <- c.AcceptEx(ctx, s.qp, s.params, func(r uint32) { s.reason <- r })
	})
	must(t, err)
	must(t, s.l.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")))
	addr, err := s.l.LocalAddr()
	must(t, err)
	t.Cleanup(func() {
		s.l.Close()
		s.close()
	})
	return s, addr
}

func dialRaw(t *testing.T, addr netip.AddrPort) *raw {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	must(t, err)
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: conn}
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// startup sends the request and returns the reply.
func (r *raw) startup(req startup) startup {
	r.t.Helper()
	b, err := req.AppendBinary(nil)
	must(r.t, err)
	r.write(b)
	rep, err := readStartup(r.conn, true)
	must(r.t, err)
	return rep
}

// readFPDU returns the ULPDU of the next FPDU, nil at the end of the stream.
func (r *raw) readFPDU() []byte {
	r.t.Helper()
	var l [2]byte
	if _, err := io.ReadFull(r.conn, l[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		r.t.Fatal(err)
	}
	n := int(binary.BigEndian.Uint16(l[:]))
	b := make([]byte, fpduLen(n)-lenField)
	if _, err := io.ReadFull(r.conn, b); err != nil {
		r.t.Fatal(err)
	}
	if r.crc && crc32.Update(crc32.Checksum(l[:], castagnoli), castagnoli, b[:len(b)-crcField]) != leUint32(b[len(b)-crcField:]) {
		r.t.Fatalf("bad CRC in %x", b)
	}
	return b[:n]
}

// frame puts a ULPDU into an FPDU.
func (r *raw) frame(ulpdu []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(ulpdu)))
	b = append(append(b, ulpdu...), make([]byte, padLen(len(ulpdu)))...)
	var crc uint32
	if r.crc {
		crc = crc32.Checksum(b, castagnoli)
	}
	return binary.LittleEndian.AppendUint32(b, crc)
}

// ulpdu builds a segment with a payload.
func ulpdu(s segment, payload ...byte) []byte {
	var h [untaggedLen]byte
	return append(h[:s.put(h[:]):untaggedLen], payload...)
}

func sendSeg(msn, mo uint32, last bool, payload ...byte) []byte {
	s := segment{ddp: ddpVersion, rdmap: rdmapVersion | opSend, msn: msn, mo: mo}
	if last {
		s.ddp |= ddpLast
	}
	return ulpdu(s, payload...)
}

func writeSeg(stag uint32, to uint64, payload ...byte) []byte {
	return ulpdu(segment{ddp: ddpTagged | ddpLast | ddpVersion, rdmap: rdmapVersion | opWrite, stag: stag, to: to}, payload...)
}

func peerHasData(c *net.TCPConn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = rc.Control(func(fd uintptr) { n = pending(fd) })
	return n > 0
}
