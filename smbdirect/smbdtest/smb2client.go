package smbdtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// An SMB2 client whose data goes by RDMA, [MS-SMB2] 3.2.4.6, 3.2.4.7, 3.2.5.11 and
// 3.2.5.12, against a server that a case plays.

// clientCase makes a case for an SMB2 client.
func clientCase(name, spec, doc string, rows []string, run func(t *T)) Case {
	return Case{
		Name: "Smb2Client_" + name, Rows: rows, Spec: "[MS-SMB2] " + spec, Role: Initiator, Doc: doc,
		Run: func(_ context.Context, t *T) { run(t) },
	}
}

// overDialects runs f with a client of each dialect that runs on RDMA, and the
// Channel that it is to ask for.
func overDialects(t *T, opt serverOptions, f func(s *smb2Server, ch smb2.Channel)) {
	for _, d := range []smb2.Dialect{smb2.DialectSMB311, smb2.DialectSMB302, smb2.DialectSMB300} {
		t.Logf("dialect %v", d)
		opt.dialect = d
		s := serveFile(t, opt)
		ch := smb2.ChannelRDMAV1Invalidate
		if d == smb2.DialectSMB300 {
			ch = smb2.ChannelRDMAV1
		}
		f(s, ch)
	}
}

// wantHeader checks the header of a READ or WRITE of n octets.
func (s *smb2Server) wantHeader(r clientRequest, cmd smb2.Command, n int) {
	h := r.hdr
	Want(s.t, "Command", h.Command, cmd)
	Want(s.t, "CreditCharge", int(h.CreditCharge), 1+(n-1)/65536)
	Want(s.t, "SessionId", h.SessionID, rawSession)
	Want(s.t, "TreeId", h.TreeID, rawTree)
	Want(s.t, "Flags", h.Flags&^smb2.FlagPriorityMask&^smb2.FlagSigned, 0)
}

// wantBody checks all octets of a request behind its header.
func (s *smb2Server) wantBody(what string, r clientRequest, want []byte) {
	got := r.msg[smb2.HeaderSize:]
	if bytes.Equal(got, want) {
		return
	}
	s.t.Errorf("%s request:\ngot  % x\nwant % x", what, head96(got), head96(want))
}

func head96(b []byte) []byte { return b[:min(len(b), 96)] }

// readRequestBody is the body of a READ, [MS-SMB2] 2.2.19, octet by octet.
func readRequestBody(n int, off uint64, ch smb2.Channel, remaining int, info []byte) []byte {
	le := binary.LittleEndian
	b := []byte{49, 0, 0x50, 0} // StructureSize, Padding, Flags
	b = le.AppendUint32(b, uint32(n))
	b = le.AppendUint64(b, off)
	b = le.AppendUint64(b, rawFileID.Persistent)
	b = le.AppendUint64(b, rawFileID.Volatile)
	b = le.AppendUint32(b, 0) // MinimumCount
	b = le.AppendUint32(b, uint32(ch))
	b = le.AppendUint32(b, uint32(remaining))
	if len(info) == 0 {
		return append(b, 0, 0, 0, 0, 0) // no channel information, and the one octet of Buffer
	}
	b = le.AppendUint16(b, 112)
	b = le.AppendUint16(b, uint16(len(info)))
	return append(b, info...)
}

// writeRequestBody is the body of a WRITE, [MS-SMB2] 2.2.21, octet by octet: by RDMA
// with channel information, else with the data.
func writeRequestBody(off uint64, ch smb2.Channel, remaining int, info, data []byte) []byte {
	le := binary.LittleEndian
	b := []byte{49, 0}
	at := uint16(112)
	if ch != smb2.ChannelNone {
		at = 0
	}
	b = le.AppendUint16(b, at)
	b = le.AppendUint32(b, uint32(len(data)))
	b = le.AppendUint64(b, off)
	b = le.AppendUint64(b, rawFileID.Persistent)
	b = le.AppendUint64(b, rawFileID.Volatile)
	b = le.AppendUint32(b, uint32(ch))
	b = le.AppendUint32(b, uint32(remaining))
	if len(info) > 0 {
		b = le.AppendUint16(b, 112)
		b = le.AppendUint16(b, uint16(len(info)))
	} else {
		b = append(b, 0, 0, 0, 0)
	}
	b = le.AppendUint32(b, 0) // Flags
	return append(append(b, info...), data...)
}

// readAnswer is the response to a READ, [MS-SMB2] 2.2.20.
type readAnswer struct {
	dataLength, remaining, flags uint32
	data                         []byte
}

func (m readAnswer) AppendBinary(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	b = append(b, 17, 0, 80, 0)
	b = le.AppendUint32(b, m.dataLength)
	b = le.AppendUint32(b, m.remaining)
	b = le.AppendUint32(b, m.flags)
	return append(b, m.data...), nil
}

// octetsBody is a body that is what it is.
type octetsBody []byte

func (m octetsBody) AppendBinary(b []byte) ([]byte, error) { return append(b, m...), nil }

func isStatus(err error, st ntstatus.Status) bool { return errors.Is(err, st) }

var _ = register(
	clientCase("Negotiate", "2.1, 2.2.3.1.6, 3.2.4.2.2.2", "The client's messages begin with the SMB2 header, it offers no dialect that does not run on RDMA, and in 3.1.1 the RDMA transforms once, without zeros or repetitions.",
		rows("SM-01", "SM-24"), func(t *T) {
			for _, d := range []smb2.Dialect{smb2.DialectSMB300, smb2.DialectSMB302, smb2.DialectSMB311} {
				s := serveFile(t, serverOptions{dialect: d})
				t.Check(bytes.HasPrefix(s.negMsg, []byte("\xfeSMB\x40\x00")), "the first message begins with % x", s.negMsg[:8])
				for _, offered := range s.neg.Dialects {
					t.Check(offered >= smb2.DialectSMB300, "the client offers dialect %v over RDMA", offered)
				}
				if d != smb2.DialectSMB311 {
					continue
				}
				b, n := smb2.FindNegotiateContext(s.neg.Contexts, smb2.ContextRDMATransformCapabilities)
				t.Check(n == 1, "%d RDMA transform contexts, want 1", n)
				t.Check(bytes.Equal(b, rdmaCapabilities(2, allTransforms...).Data), "RDMA transform context % x", b)
			}
		}),
	clientCase("Read", "3.2.4.6, 2.2.19", "Every octet of a READ by RDMA, in each dialect: Length, RemainingBytes, the channel by the dialect, one descriptor list behind the fixed part; its memory may be written.",
		rows("SM-04", "SM-08", "SM-03", "SM-20"), func(t *T) {
			overDialects(t, serverOptions{}, func(s *smb2Server, ch smb2.Channel) {
				const off = 0x1_2345_6789
				for _, n := range []int{4096, 65536, 65537, 300_001} {
					content := octets(uint64(n), n)
					p := make([]byte, n)
					c := s.readAt(p, off)
					r := s.next()
					s.wantHeader(r, smb2.CommandRead, n)
					_, info := r.channelInfo()
					s.wantBody("READ", r, readRequestBody(n, off, ch, n, info))
					ds := s.descriptors(r, n)
					s.put(ds, content)
					s.replyRead(r, n, ch, ds)
					if got := s.done(c); got.n != n || got.err != nil || !bytes.Equal(p, content) {
						t.Errorf("ReadAt of %d octets: %d, %v, the content is right: %v", n, got.n, got.err, bytes.Equal(p, content))
					}
				}
			})
		}),
	clientCase("Write", "3.2.4.7, 2.2.21", "Every octet of a WRITE by RDMA, in each dialect: Length and DataOffset 0, RemainingBytes, the channel by the dialect, one descriptor list behind the fixed part; its memory may be read.",
		rows("SM-06", "SM-08", "SM-03", "SM-20"), func(t *T) {
			overDialects(t, serverOptions{}, func(s *smb2Server, ch smb2.Channel) {
				const off = 0x1_2345_6789
				for _, n := range []int{4096, 65536, 65537, 300_001} {
					content := octets(uint64(n)+1, n)
					c := s.writeAt(bytes.Clone(content), off)
					r := s.next()
					s.wantHeader(r, smb2.CommandWrite, n)
					_, info := r.channelInfo()
					s.wantBody("WRITE", r, writeRequestBody(off, ch, n, info, nil))
					ds := s.descriptors(r, n)
					t.Check(bytes.Equal(s.get(ds), content), "the memory of a WRITE of %d octets is not what the user wrote", n)
					s.replyWrite(r, n, ch, ds)
					if got := s.done(c); got.n != n || got.err != nil {
						t.Errorf("WriteAt of %d octets: %d, %v", n, got.n, got.err)
					}
				}
			})
		}),
	clientCase("Threshold", "3.2.4.6, 3.2.4.7", "Below the threshold, and on sessions that sign or encrypt without RDMA transforms, data is in the message: Channel, offsets, lengths and RemainingBytes are 0.",
		rows("SM-07"), func(t *T) {
			for _, row := range []struct {
				name string
				opt  serverOptions
				n    int
				rdma bool
			}{
				{"an octet below the threshold", serverOptions{threshold: 4096}, 4095, false},
				{"at the threshold", serverOptions{threshold: 4096}, 4096, true},
				{"an octet below the threshold of the client's own", serverOptions{}, 4095, false},
				{"one octet", serverOptions{}, 1, false},
				{"one octet, all by RDMA", serverOptions{threshold: 1}, 1, true},
				{"signing, 3.1.1", serverOptions{sign: true, alg: smb2.SigningAESGMAC}, 60_000, false},
				{"signing, 3.0.2", serverOptions{sign: true, dialect: smb2.DialectSMB302}, 60_000, false},
				{"signing, 3.0", serverOptions{sign: true, dialect: smb2.DialectSMB300}, 60_000, false},
				{"encryption, 3.1.1", serverOptions{seal: true, cipher: smb2.CipherAES128GCM}, 60_000, false},
				{"encryption, 3.0.2", serverOptions{seal: true, cipher: smb2.CipherAES128CCM, dialect: smb2.DialectSMB302}, 60_000, false},
				{"signing, transforms for encryption alone", serverOptions{sign: true, alg: smb2.SigningAESGMAC, transforms: allTransforms[:1]}, 60_000, false},
				{"encryption, transforms for signing alone", serverOptions{seal: true, cipher: smb2.CipherAES128GCM, transforms: allTransforms[1:]}, 60_000, false},
			} {
				t.Logf("%s", row.name)
				s := serveFile(t, row.opt)
				content := octets(60, row.n)
				p := make([]byte, row.n)
				c := s.readAt(p, 7)
				r := s.next()
				channel, info := r.channelInfo()
				t.Check((channel != 0) == row.rdma, "%s: READ on Channel %d", row.name, channel)
				if row.rdma {
					ds := s.descriptors(r, row.n)
					s.put(ds, content)
					s.replyRead(r, row.n, channel, ds)
				} else {
					s.wantBody("READ", r, readRequestBody(row.n, 7, 0, 0, nil))
					t.Check(len(info) == 0, "%s: channel information % x", row.name, info)
					s.reply(r, ntstatus.Success, readAnswer{dataLength: uint32(row.n), data: content})
				}
				if got := s.done(c); got.n != row.n || got.err != nil || !bytes.Equal(p, content) {
					t.Errorf("%s: ReadAt: %d, %v", row.name, got.n, got.err)
				}
				c = s.writeAt(content, 9)
				r = s.next()
				channel, _ = r.channelInfo()
				t.Check((channel != 0) == row.rdma, "%s: WRITE on Channel %d", row.name, channel)
				t.Check(r.sealed == row.opt.seal && r.hdr.IsSigned() == row.opt.sign, "%s: the request is encrypted: %v, signed: %v", row.name, r.sealed, r.hdr.IsSigned())
				if row.rdma {
					ds := s.descriptors(r, row.n)
					t.Check(bytes.Equal(s.get(ds), content), "%s: other octets", row.name)
					s.replyWrite(r, row.n, channel, ds)
				} else {
					s.wantBody("WRITE", r, writeRequestBody(9, 0, 0, nil, content))
					s.reply(r, ntstatus.Success, &smb2.WriteResponse{Count: uint32(row.n)})
				}
				if got := s.done(c); got.n != row.n || got.err != nil {
					t.Errorf("%s: WriteAt: %d, %v", row.name, got.n, got.err)
				}
			}
		}),
	clientCase("Deregister", "3.2.5.11, 3.2.5.12; [MS-SMBD] 3.1.4.4", "When a READ or WRITE has its result, whatever that is and whether the server invalidated the token or not, the server can no longer reach the memory: who tries loses the connection, and changes nothing.",
		rows("SM-20", "SD-102", "SM-12"), func(t *T) {
			const n = 8192
			for _, st := range []ntstatus.Status{ntstatus.Success, ntstatus.EndOfFile, ntstatus.AccessDenied, ntstatus.InvalidParameter, ntstatus.InsufficientResources} {
				for _, invalidate := range []bool{true, false} {
					for _, cmd := range []smb2.Command{smb2.CommandRead, smb2.CommandWrite} {
						t.Logf("%v of a %v, with invalidation: %v", st, cmd, invalidate)
						s := serveFile(t, serverOptions{})
						p := octets(61, n)
						var c <-chan ioResult
						if cmd == smb2.CommandRead {
							c = s.readAt(p, 0)
						} else {
							c = s.writeAt(p, 0)
						}
						r := s.next()
						ds := s.descriptors(r, n)
						ch := smb2.ChannelRDMAV1
						if invalidate {
							ch = smb2.ChannelRDMAV1Invalidate
						}
						switch {
						case st != ntstatus.Success:
							s.replyToken(r, st, &smb2.ErrorResponse{}, ch, ds)
						case cmd == smb2.CommandRead:
							s.put(ds, octets(62, n))
							s.replyRead(r, n, ch, ds)
						default:
							s.replyWrite(r, n, ch, ds)
						}
						got := s.done(c)
						if st == ntstatus.Success {
							t.Check(got.n == n && got.err == nil, "%v: %d, %v", cmd, got.n, got.err)
						} else {
							t.Check(got.n == 0 && got.err != nil && (st == ntstatus.EndOfFile || isStatus(got.err, st)), "%v: %d, %v, want %v", cmd, got.n, got.err, st)
						}
						before := bytes.Clone(p)
						var err error
						if cmd == smb2.CommandRead {
							_ = s.call.WriteRemote(t.Context(), ds[0], octets(63, n)) // the end of the connection tells
						} else {
							_, err = s.call.ReadRemote(t.Context(), ds[0])
							t.Check(err != nil, "the memory of a WRITE is read after its end")
						}
						t.Check(s.call.Wait(t.Times.React), "the connection is up after an access to memory of a %v that has its result", cmd)
						t.Check(bytes.Equal(p, before), "memory of a %v that has its result was changed", cmd)
					}
				}
			}
		}),
	clientCase("WrongRight", "3.2.4.6, 3.2.4.7; [MS-SMBD] 3.1.4.3", "The memory of a READ cannot be read, and that of a WRITE not be written: who tries loses the connection, and the user gets an error.",
		rows("SM-04", "SM-06", "SD-100"), func(t *T) {
			const n = 8192
			s := serveFile(t, serverOptions{})
			c := s.readAt(make([]byte, n), 0)
			ds := s.descriptors(s.next(), n)
			_, err := s.call.ReadRemote(t.Context(), ds[0])
			t.Check(err != nil, "the memory of a READ is read")
			t.Check(s.call.Wait(t.Times.React), "the connection is up after the memory of a READ was read")
			got := s.done(c)
			t.Check(got.n == 0 && got.err != nil, "ReadAt: %d, %v", got.n, got.err)

			s = serveFile(t, serverOptions{})
			p := octets(64, n)
			c = s.writeAt(p, 0)
			ds = s.descriptors(s.next(), n)
			_ = s.call.WriteRemote(t.Context(), ds[0], make([]byte, n)) // the end of the connection tells
			t.Check(s.call.Wait(t.Times.React), "the connection is up after the memory of a WRITE was written")
			got = s.done(c)
			t.Check(got.n == 0 && got.err != nil, "WriteAt: %d, %v", got.n, got.err)
			t.Check(bytes.Equal(p, octets(64, n)), "the memory of a WRITE was changed")
		}),
	clientCase("BadReadResponses", "3.2.5.11, 2.2.20", "Octets read are DataRemaining: what is less is a short read, and what is more than was asked for, or no READ response, is an error without a result.",
		rows("SM-20"), func(t *T) {
			const n = 8192
			content := octets(65, n)
			for _, row := range []struct {
				name string
				m    octetsBody
				want int // of the user's octets; -1 is an error
			}{
				{"DataRemaining 100", body(readAnswer{remaining: 100}), 100},
				{"DataRemaining 8193", body(readAnswer{remaining: n + 1}), -1},
				{"DataRemaining 0xFFFFFFFF", body(readAnswer{remaining: 0xFFFFFFFF}), -1},
				{"no DataRemaining, and data in the message", body(readAnswer{dataLength: 5, data: []byte("hallo")}), -1},
				{"a transform that was not negotiated", body(readAnswer{dataLength: 56, remaining: n, flags: 1, data: make([]byte, 56)}), -1},
				{"15 octets", body(readAnswer{remaining: n})[:15], -1},
				{"nothing", octetsBody{}, -1},
				{"StructureSize 16", append(octetsBody{16}, body(readAnswer{remaining: n})[1:]...), -1},
				{"DataLength beyond the message", body(readAnswer{dataLength: 1 << 30, remaining: n}), -1},
			} {
				t.Logf("%s", row.name)
				s := serveFile(t, serverOptions{})
				p := make([]byte, n)
				c := s.readAt(p, 0)
				r := s.next()
				ds := s.descriptors(r, n)
				s.put(ds, content)
				s.replyToken(r, ntstatus.Success, row.m, smb2.ChannelRDMAV1Invalidate, ds)
				if row.want >= 0 { // the rest is asked for, and is not there
					r = s.next()
					off := binary.LittleEndian.Uint64(r.msg[72:])
					t.Check(off == uint64(row.want), "%s: the client goes on at %d, want %d", row.name, off, row.want)
					s.reply(r, ntstatus.EndOfFile, &smb2.ErrorResponse{})
				}
				got := s.done(c)
				if row.want >= 0 {
					t.Check(got.n == row.want && bytes.Equal(p[:got.n], content[:got.n]), "%s: ReadAt: %d, %v", row.name, got.n, got.err)
				} else {
					t.Check(got.n == 0 && got.err != nil, "%s: ReadAt: %d, %v, want an error", row.name, got.n, got.err)
				}
			}
		}),
	clientCase("BadWriteResponses", "3.2.5.12, 2.2.22", "A Count below what was asked for is a short write, that the client goes on behind; one above it, or no WRITE response, is an error.",
		rows("SM-20"), func(t *T) {
			const n = 8192
			content := octets(66, n)
			full := body(&smb2.WriteResponse{Count: n})
			for _, row := range []struct {
				name string
				m    octetsBody
				ok   int
			}{
				{"Count 100", body(&smb2.WriteResponse{Count: 100}), 100},
				{"Count 8193", body(&smb2.WriteResponse{Count: n + 1}), 0},
				{"Count 0xFFFFFFFF", body(&smb2.WriteResponse{Count: 0xFFFFFFFF}), 0},
				{"Count 0", body(&smb2.WriteResponse{}), 0},
				{"8 octets", full[:8], 0},
				{"StructureSize 9", append(octetsBody{9}, full[1:]...), 0},
			} {
				t.Logf("%s", row.name)
				s := serveFile(t, serverOptions{})
				c := s.writeAt(content, 0)
				r := s.next()
				ds := s.descriptors(r, n)
				s.replyToken(r, ntstatus.Success, row.m, smb2.ChannelRDMAV1Invalidate, ds)
				if row.ok == 0 {
					got := s.done(c)
					t.Check(got.n == 0 && got.err != nil, "%s: WriteAt: %d, %v, want an error", row.name, got.n, got.err)
					continue
				}
				r = s.next()
				ds = s.descriptors(r, n-row.ok)
				off := binary.LittleEndian.Uint64(r.msg[72:])
				t.Check(off == uint64(row.ok), "%s: the client goes on at %d, want %d", row.name, off, row.ok)
				t.Check(bytes.Equal(s.get(ds), content[row.ok:]), "%s: the rest is other octets", row.name)
				s.replyWrite(r, n-row.ok, smb2.ChannelRDMAV1Invalidate, ds)
				got := s.done(c)
				t.Check(got.n == n && got.err == nil, "%s: WriteAt: %d, %v", row.name, got.n, got.err)
			}
		}),
	clientCase("ConnectionLost", "3.2.5.11, 3.2.5.12; [MS-SMBD] 3.1.4.4", "When the connection ends under a READ and a WRITE the user gets errors, and the memory back.",
		rows("SM-20", "SD-102"), func(t *T) {
			const n = 8192
			s := serveFile(t, serverOptions{})
			read, write := s.readAt(make([]byte, n), 0), s.writeAt(make([]byte, n), 0)
			s.next()
			s.next()
			s.call.Close()
			for _, c := range []<-chan ioResult{read, write} {
				got := s.done(c)
				t.Check(got.n == 0 && got.err != nil, "%d, %v, want an error", got.n, got.err)
			}
		}),
)

// body is a message body as octets.
func body(m interface{ AppendBinary([]byte) ([]byte, error) }) octetsBody {
	b, err := m.AppendBinary(nil)
	if err != nil {
		panic(fmt.Sprintf("smbdtest: %v", err)) // a body of this file
	}
	return b
}

// replyToken answers, and invalidates the first token if ch is Channel 2.
func (s *smb2Server) replyToken(r clientRequest, st ntstatus.Status, m interface {
	AppendBinary([]byte) ([]byte, error)
}, ch smb2.Channel, ds []wire.Descriptor) {
	var token *uint32
	if ch == smb2.ChannelRDMAV1Invalidate {
		token = &slices.Clone(ds)[0].Token
	}
	s.protected(r, s.encode(r, st, m), token)
}

// replyRead and replyWrite say that n octets were moved by RDMA.
func (s *smb2Server) replyRead(r clientRequest, n int, ch smb2.Channel, ds []wire.Descriptor) {
	s.replyToken(r, ntstatus.Success, readAnswer{remaining: uint32(n)}, ch, ds)
}

func (s *smb2Server) replyWrite(r clientRequest, n int, ch smb2.Channel, ds []wire.Descriptor) {
	s.replyToken(r, ntstatus.Success, &smb2.WriteResponse{Count: uint32(n)}, ch, ds)
}
