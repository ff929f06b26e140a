package iwarp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// raw is a peer that is a bare TCP connection: it says what a test wants.
type raw struct {
	t    *testing.T
	conn *net.TCPConn
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

func readReq(msn, size, stag uint32, to uint64) []byte {
	var p [readRequestLen]byte
	r := readRequest{sinkSTag: 5, sinkTO: 64, size: size, srcSTag: stag, srcTO: to}
	r.put(p[:])
	return ulpdu(segment{ddp: ddpLast | ddpVersion, rdmap: rdmapVersion | opReadRequest, qn: queueReadReq, msn: msn}, p[:]...)
}

func with(b []byte, change func([]byte)) []byte {
	change(b)
	return b
}

// Each bad FPDU is answered with exactly one Terminate that names the cause, and
// then FIN; nothing of it is placed, and the consumer hears why.
func TestBadFPDUs(t *testing.T) {
	for _, tc := range []struct {
		name  string
		build func(s *served) [][]byte // ULPDUs; the last one is bad
		want  cause
		recv  ndk.Status // of the first receive
	}{
		{"MPA-34 ULPDU of 13 octets", func(s *served) [][]byte { return [][]byte{sendSeg(1, 0, true)[:13]} }, causeMPALen, ntstatus.Cancelled},
		{"MPA-34 ULPDU of 0 octets", func(s *served) [][]byte { return [][]byte{{}} }, causeMPALen, ntstatus.Cancelled},
		{"MPA-34 untagged ULPDU of 17 octets", func(s *served) [][]byte { return [][]byte{sendSeg(1, 0, true)[:17]} }, causeMPALen, ntstatus.Cancelled},
		{"MPA-34 Read Request of 45 octets", func(s *served) [][]byte { return [][]byte{readReq(1, 1, 1, 1)[:45]} }, causeMPALen, ntstatus.Cancelled},
		{"DDP-04 version 2, tagged", func(s *served) [][]byte {
			return [][]byte{with(writeSeg(1, 0, 1), func(b []byte) { b[0] = 0xC2 })}
		}, causeTaggedVersion, ntstatus.Cancelled},
		{"DDP-04 version 0, untagged", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) { b[0] = 0x40 })}
		}, causeUntaggedVersion, ntstatus.Cancelled},
		{"DDP-09 queue 3", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) { b[9] = 3 })}
		}, causeQN, ntstatus.Cancelled},
		{"DDP-09 a Send on queue 1", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) { b[9] = 1 })}
		}, causeQN, ntstatus.Cancelled},
		{"DDP-09 a Read Request on queue 0", func(s *served) [][]byte {
			return [][]byte{with(readReq(1, 1, 1, 1), func(b []byte) { b[9] = 0 })}
		}, causeQN, ntstatus.Cancelled},
		{"DDP-10 a Send more than receives", func(s *served) [][]byte {
			return [][]byte{sendSeg(1, 0, true, 1), sendSeg(2, 0, true, 1), sendSeg(3, 0, true, 1)}
		}, causeNoBuffer, ntstatus.Success},
		{"DDP-11 MSN 2 first", func(s *served) [][]byte { return [][]byte{sendSeg(2, 0, true, 1)} }, causeMSN, ntstatus.Cancelled},
		{"DDP-11 MSN changes within a message", func(s *served) [][]byte {
			return [][]byte{sendSeg(1, 0, false, 1), sendSeg(2, 1, true, 1)}
		}, causeMSN, ntstatus.Cancelled},
		{"DDP-11 Read Request with MSN 2 first", func(s *served) [][]byte { return [][]byte{readReq(2, 0, 0, 0)} }, causeMSN, ntstatus.Cancelled},
		{"DDP-12 MO 1 first", func(s *served) [][]byte { return [][]byte{sendSeg(1, 1, true, 1)} }, causeMO, ntstatus.Cancelled},
		{"DDP-12 a gap in MO", func(s *served) [][]byte {
			return [][]byte{sendSeg(1, 0, false, 1), sendSeg(1, 2, true, 1)}
		}, causeMO, ntstatus.Cancelled},
		{"DDP-13 longer than the receive", func(s *served) [][]byte { return [][]byte{sendSeg(1, 0, true, make([]byte, 65)...)} }, causeTooLong, ntstatus.BufferOverflow},
		{"DDP-13 longer in the second segment", func(s *served) [][]byte {
			return [][]byte{sendSeg(1, 0, false, make([]byte, 64)...), sendSeg(1, 64, true, 1)}
		}, causeTooLong, ntstatus.BufferOverflow},
		{"DDP-14 unknown STag", func(s *served) [][]byte { return [][]byte{writeSeg(uint32(s.mr.RemoteToken())^1, s.mr.Base(), 1)} }, causeTaggedSTag, ntstatus.Cancelled},
		{"DDP-14 local token from the wire", func(s *served) [][]byte { return [][]byte{writeSeg(uint32(s.mr.LocalToken()), s.mr.Base(), 1)} }, causeTaggedSTag, ntstatus.Cancelled},
		{"DDP-14 privileged token from the wire", func(s *served) [][]byte { return [][]byte{writeSeg(uint32(s.pd.PrivilegedToken()), s.mr.Base(), 1)} }, causeTaggedSTag, ntstatus.Cancelled},
		{"DDP-15 an octet before", func(s *served) [][]byte { return [][]byte{writeSeg(uint32(s.mr.RemoteToken()), s.mr.Base()-1, 1)} }, causeTaggedBounds, ntstatus.Cancelled},
		{"DDP-15 an octet behind", func(s *served) [][]byte {
			return [][]byte{writeSeg(uint32(s.mr.RemoteToken()), s.mr.Base()+1<<16-1, 1, 1)}
		}, causeTaggedBounds, ntstatus.Cancelled},
		{"DDP-16 TO wraps", func(s *served) [][]byte { return [][]byte{writeSeg(uint32(s.mr.RemoteToken()), ^uint64(0), 1, 1)} }, causeTaggedWrap, ntstatus.Cancelled},
		{"DDP-17 another protection domain", func(s *served) [][]byte {
			return [][]byte{writeSeg(s.otherPD(), s.mr.Base(), 1)}
		}, causeTaggedStream, ntstatus.Cancelled},
		{"DDP-18 no right to write", func(s *served) [][]byte { return [][]byte{writeSeg(s.extra(ndk.MRAllowRemoteRead), s.mr.Base(), 1)} }, causeTaggedSTag, ntstatus.Cancelled},
		{"RDMAP-02 version 2", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) { b[1] = 0x83 })}
		}, causeVersion, ntstatus.Cancelled},
		{"RDMAP-04 opcode 8", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) { b[1] = 0x48 })}
		}, causeOpcode, ntstatus.Cancelled},
		{"RDMAP-05 untagged Write", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) { b[1] = 0x40 })}
		}, causeOpcode, ntstatus.Cancelled},
		{"RDMAP-05 tagged Send", func(s *served) [][]byte {
			return [][]byte{with(writeSeg(1, 1, 1), func(b []byte) { b[1] = 0x43 })}
		}, causeOpcode, ntstatus.Cancelled},
		{"RDMAP-07 Read Request with a payload too much", func(s *served) [][]byte { return [][]byte{append(readReq(1, 0, 0, 0), 0)} }, causeTooLong, ntstatus.Cancelled},
		{"RDMAP-10 unsolicited Response", func(s *served) [][]byte {
			return [][]byte{with(writeSeg(1, 1, 1), func(b []byte) { b[1] = 0x42 })}
		}, causeUnsolicited, ntstatus.Cancelled},
		{"RDMAP-12 Read of an unknown STag", func(s *served) [][]byte { return [][]byte{readReq(1, 1, 0xBAD00000, 0)} }, causeReadSTag, ntstatus.Cancelled},
		{"RDMAP-13 Read out of bounds", func(s *served) [][]byte {
			return [][]byte{readReq(1, 1<<16+1, uint32(s.mr.RemoteToken()), s.mr.Base())}
		}, causeReadBounds, ntstatus.Cancelled},
		{"RDMAP-13 Read that wraps", func(s *served) [][]byte { return [][]byte{readReq(1, 2, uint32(s.mr.RemoteToken()), ^uint64(0))} }, causeReadWrap, ntstatus.Cancelled},
		{"RDMAP-13 Read of another protection domain", func(s *served) [][]byte { return [][]byte{readReq(1, 1, s.otherPD(), s.mr.Base())} }, causeReadStream, ntstatus.Cancelled},
		{"RDMAP-14 no right to read", func(s *served) [][]byte {
			return [][]byte{readReq(1, 1, s.extra(ndk.MRAllowRemoteWrite), s.mr.Base())}
		}, causeReadAccess, ntstatus.Cancelled},
		{"RDMAP-22 invalidate of an unknown STag", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) { b[1] = 0x44; b[5] = 9 })}
		}, causeInvalidate, ntstatus.InvalidDeviceRequest},
		{"RDMAP-22 invalidate of a normal region", func(s *served) [][]byte {
			return [][]byte{with(sendSeg(1, 0, true), func(b []byte) {
				b[1] = 0x44
				binary.BigEndian.PutUint32(b[2:], uint32(s.mr.RemoteToken()))
			})}
		}, causeInvalidate, ntstatus.InvalidDeviceRequest},
	} {
		for _, crc := range []bool{false, true} {
			name := tc.name
			if crc {
				name += ", CRC"
			}
			t.Run(name, func(t *testing.T) {
				s, addr := serve(t, Config{CRC: crc})
				for range 2 {
					must(t, s.qp.Receive("r", []ndk.SGE{s.sge(0, 64)}))
				}
				for i := range s.mem {
					s.mem[i] = 0xEE
				}
				r := dialRaw(t, addr)
				r.crc = crc
				r.startup(startup{Revision: 2, Flags: flagEnhanced, IRD: 8, ORD: 8})
				must(t, <-s.accept)
				us := tc.build(s)
				for _, u := range us {
					r.write(r.frame(u))
				}
				var term []byte
				for {
					u := r.readFPDU()
					if u == nil {
						break
					}
					if term != nil {
						t.Fatalf("an FPDU after the Terminate: %x", u)
					}
					if seg, _ := parseSegment(u); seg.op() == opTerminate {
						if seg.qn != queueTerminate || seg.msn != 1 || !seg.last() {
							t.Errorf("Terminate header %+v", seg)
						}
						term = u[untaggedLen:]
					}
				}
				if term == nil {
					t.Fatal("no Terminate before the end of the stream")
				}
				if got, ok := parseTerminate(term); !ok || got != tc.want {
					t.Errorf("Terminate says %v, want %v", got, tc.want)
				}
				if d, _ := tc.want.headers(); d && term[2]&termD != 0 && !bytes.Equal(term[6:8], us[len(us)-1][:2]) {
					t.Errorf("offending header %x, want that of %x", term[6:], us[len(us)-1])
				}
				must(t, r.conn.CloseWrite())
				layer, etype, code, local, ok := ParseReason(<-s.reason)
				if (cause{layer, etype, code}) != tc.want || !local || !ok {
					t.Errorf("reason %d/%d/%#x local %v, want %v", layer, etype, code, local, tc.want)
				}
				if res := s.wait(); res.Status != tc.recv {
					t.Errorf("first receive ends with %v, want %v", res.Status, tc.recv)
				}
				s.wait()
				if tc.recv == ntstatus.Cancelled {
					if i := bytes.IndexFunc(s.mem[64:], func(r rune) bool { return r != 0xFFFD }); i >= 0 {
						t.Errorf("octet %d was changed", 64+i)
					}
				}
				// The flush comes when the Terminate has left, and takes those that
				// are posted before it.
				err := s.qp.Receive(nil, nil)
				for err == nil || errors.Is(err, ntstatus.NoMoreEntries) {
					runtime.Gosched()
					err = s.qp.Receive(nil, nil)
				}
				if !errors.Is(err, ntstatus.ConnectionInvalid) {
					t.Errorf("Receive after the end: %v", err)
				}
				if err := s.qp.Send(nil, nil, 0); !errors.Is(err, ntstatus.ConnectionInvalid) {
					t.Errorf("Send after the end: %v", err)
				}
			})
		}
	}
}

// otherPD is a token of a region of another protection domain.
func (s *served) otherPD() uint32 {
	p, err := s.a.CreatePD(context.Background())
	must(s.t, err)
	m, err := p.CreateMR(context.Background(), false)
	must(s.t, err)
	must(s.t, m.Register(context.Background(), ndk.Memory{s.mem}, len(s.mem), ndk.MRAllowRemoteRead|ndk.MRAllowRemoteWrite))
	s.t.(*testing.T).Cleanup(func() { m.Close(); p.Close() })
	return uint32(m.RemoteToken())
}

// extra is a token of a region of the same domain and memory with other rights.
func (s *served) extra(f ndk.MRFlags) uint32 {
	m, err := s.pd.CreateMR(context.Background(), false)
	must(s.t, err)
	must(s.t, m.Register(context.Background(), ndk.Memory{s.mem}, len(s.mem), f))
	s.t.(*testing.T).Cleanup(m.Close)
	return uint32(m.RemoteToken())
}

// MPA-24, MPA-22: an FPDU whose CRC is wrong is neither placed nor delivered.
func TestBadCRC(t *testing.T) {
	s, addr := serve(t, Config{})
	must(t, s.qp.Receive("r", []ndk.SGE{s.sge(0, 64)}))
	r := dialRaw(t, addr)
	if rep := r.startup(startup{Revision: 1, Flags: flagCRC}); rep.Flags&flagCRC == 0 || rep.Revision != 1 || rep.Flags&flagEnhanced != 0 {
		t.Fatalf("reply %+v: MPA-17, V2-04", rep)
	}
	r.crc = true
	b := r.frame(writeSeg(uint32(s.mr.RemoteToken()), s.mr.Base(), 1, 2, 3, 4))
	b[len(b)-1] ^= 0x80
	r.write(b)
	u := r.readFPDU()
	if c, _ := parseTerminate(u[untaggedLen:]); c != causeMPACRC {
		t.Errorf("Terminate says %v", c)
	}
	if s.mem[0] != 0 {
		t.Error("the payload was placed")
	}
	must(t, r.conn.CloseWrite())
	if r.readFPDU() != nil {
		t.Error("more after the Terminate")
	}
	if res := s.wait(); res.Status != ntstatus.Cancelled {
		t.Errorf("receive ends with %v", res.Status)
	}
}

// MPA-06, -32: a stream that comes one octet at a time; DDP-21: a tagged segment
// between those of a Send; MPA-11: our first FPDU only after the peer's.
func TestOneOctetAtATime(t *testing.T) {
	s, addr := serve(t, Config{})
	must(t, s.qp.Receive("r", []ndk.SGE{s.sge(0, 4), s.sge(8, 0), s.sge(16, 60)}))
	r := dialRaw(t, addr)
	req := startup{Revision: 2, Flags: flagEnhanced, IRD: 4, ORD: 4, Private: []byte("hi")}
	b, _ := req.AppendBinary(nil)
	for i := range b {
		r.write(b[i : i+1])
	}
	_, err := readStartup(r.conn, true)
	must(t, err)
	must(t, <-s.accept)
	must(t, s.qp.Send("s", []ndk.SGE{s.sge(0, 1)}, 0)) // fenced
	var stream []byte
	stream = append(stream, r.frame(sendSeg(1, 0, false, 1, 2, 3))...)
	stream = append(stream, r.frame(writeSeg(uint32(s.mr.RemoteToken()), s.mr.Base()+1000, bytes.Repeat([]byte{9}, 5000)...))...)
	stream = append(stream, r.frame(sendSeg(1, 3, true, 4, 5, 6, 7))...)
	if peerHasData(r.conn) {
		t.Error("an FPDU before the first of ours (MPA-11)")
	}
	for i := range stream {
		r.write(stream[i : i+1])
	}
	if u := r.readFPDU(); len(u) != untaggedLen+1 {
		t.Errorf("the fenced Send came as %x", u)
	}
	for range 2 {
		res := s.wait()
		if res.Status != ntstatus.Success || res.Type == ndk.OpReceive && res.Bytes != 7 {
			t.Errorf("%+v", res)
		}
	}
	if !bytes.Equal(s.mem[:4], []byte{1, 2, 3, 4}) || !bytes.Equal(s.mem[16:20], []byte{5, 6, 7, 0}) {
		t.Errorf("scattered to %v and %v", s.mem[:4], s.mem[16:20])
	}
	if !bytes.Equal(s.mem[1000:6000], bytes.Repeat([]byte{9}, 5000)) || s.mem[6000] != 0 {
		t.Error("the Write is not where it belongs")
	}
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

// RDMAP-08, -09, -11, -16: Responses in order, exactly as long as asked for, and
// no more than IRD at once.
func TestReadRequests(t *testing.T) {
	s, addr := serve(t, Config{})
	for i := range s.mem {
		s.mem[i] = byte(i)
	}
	r := dialRaw(t, addr)
	rep := r.startup(startup{Revision: 2, Flags: flagEnhanced, IRD: 1, ORD: 5})
	if rep.IRD != 2 || rep.ORD != 1 {
		t.Errorf("the Reply says IRD %d ORD %d, want the lower of both sides: 2 and 1", rep.IRD, rep.ORD)
	}
	token := uint32(s.mr.RemoteToken())
	r.write(append(r.frame(readReq(1, 100, token, s.mr.Base()+7)), r.frame(readReq(2, 0, 0xBAD, 1))...))
	u := r.readFPDU()
	seg, _ := parseSegment(u)
	if seg.op() != opReadResponse || seg.stag != 5 || seg.to != 64 || !seg.last() || !bytes.Equal(u[taggedLen:], s.mem[7:107]) {
		t.Errorf("Response %x", u)
	}
	if u = r.readFPDU(); len(u) != taggedLen {
		t.Errorf("empty Response %x", u)
	}
}

// MPA-16, -25 to -29: a peer that asks for markers gets them.
func TestMarkersForAPeer(t *testing.T) {
	for _, crc := range []bool{false, true} {
		s, addr := serve(t, Config{CRC: crc})
		for i := range s.mem {
			s.mem[i] = byte(i * 5)
		}
		r := dialRaw(t, addr)
		r.crc = crc
		if rep := r.startup(startup{Revision: 1, Flags: flagMarkers}); rep.Flags&flagMarkers != 0 {
			t.Error("the Reply asks for markers")
		}
		must(t, <-s.accept)
		r.write(r.frame(writeSeg(0, 0)))
		sizes := []int{0, 1, 479, 480, 481, 3000, 40000}
		for _, n := range sizes {
			must(t, s.qp.Send(n, []ndk.SGE{s.sge(3, n)}, 0))
			if res := s.wait(); res.Status != ntstatus.Success {
				t.Fatal(res.Status)
			}
		}
		must(t, r.conn.CloseWrite())
		stream, err := io.ReadAll(r.conn)
		must(t, err)
		bodies, crcs := unmark(t, stream)
		// Built again by the codec that the vectors proved, it is the same stream.
		var again []byte
		var payload []byte
		got := 0
		for i, b := range bodies {
			again = append(again, appendMarked(nil, uint64(len(again)), b, crc)...)
			if !crc && leUint32(crcs[i]) != 0 {
				t.Errorf("CRC field %x", crcs[i])
			}
			seg, _ := parseSegment(b[lenField:])
			n := int(b[0])<<8 | int(b[1])
			payload = append(payload, b[lenField+untaggedLen:lenField+n]...)
			if seg.last() {
				if !bytes.Equal(payload, s.mem[3:3+sizes[got]]) {
					t.Errorf("message %d has %d octets, or others than were sent", got, len(payload))
				}
				payload = nil
				got++
			}
		}
		if got != len(sizes) || !bytes.Equal(again, stream) {
			t.Errorf("%d messages, stream equal %v", got, bytes.Equal(again, stream))
		}
	}
}

// RDMAP-31, and the mapping of a Terminate to the oldest request.
func TestTerminateReceived(t *testing.T) {
	for _, name := range vectors(t, "fpdu-term-*") {
		t.Run(name, func(t *testing.T) {
			s, addr := serve(t, Config{CRC: true})
			must(t, s.qp.Receive("r", []ndk.SGE{s.sge(0, 64)}))
			r := dialRaw(t, addr)
			r.crc = true
			r.startup(startup{Revision: 2, Flags: flagEnhanced, IRD: 2, ORD: 2})
			must(t, <-s.accept)
			r.write(r.frame(writeSeg(0, 0)))
			must(t, s.qp.Read("rd", []ndk.SGE{s.sge(0, 8)}, 1, 2, 0))
			must(t, s.qp.Send("s", []ndk.SGE{s.sge(0, 8)}, ndk.SilentSuccess|ndk.ReadFence))
			b := vector(t, name)
			if u := r.readFPDU(); len(u) != untaggedLen+readRequestLen {
				t.Fatalf("the Read Request came as %x", u)
			}
			r.write(b)
			if u := r.readFPDU(); u != nil {
				t.Errorf("%x after a Terminate was received", u)
			}
			c, _ := parseTerminate(b[lenField+untaggedLen:])
			want := map[string]ndk.Status{"rd": ntstatus.Cancelled, "s": ntstatus.Cancelled, "r": ntstatus.Cancelled}
			if c == causeTaggedSTag || c == causeReadAccess {
				want["rd"] = ntstatus.RemoteResources
			}
			for range want {
				res := s.wait()
				if k := res.RequestContext.(string); res.Status != want[k] {
					t.Errorf("%s ends with %v, want %v", k, res.Status, want[k])
				}
			}
			layer, etype, code, local, ok := ParseReason(<-s.reason)
			if (cause{layer, etype, code}) != c || local || !ok {
				t.Errorf("reason %v, want %v", cause{layer, etype, code}, c)
			}
		})
	}
}
