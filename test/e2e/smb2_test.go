package e2e

import (
	"bytes"
	"encoding"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// readOf and writeOf are right in all that a row does not change.
func readOf(p *peer, n uint32) *smb2.ReadRequest {
	return &smb2.ReadRequest{Padding: 0x50, Length: n, FileID: p.fid}
}

func writeOf(p *peer, data []byte) *smb2.WriteRequest {
	return &smb2.WriteRequest{FileID: p.fid, Data: data}
}

func is(st ntstatus.Status) outcome { return outcome{status: st} }

var invalid = is(ntstatus.InvalidParameter)

// Headers: [MS-SMB2] 3.3.5.2 to 3.3.5.2.6. What cannot be trusted at all costs
// the connection, what names something that is not there gets a status.
func headerRows() []hostile {
	echo := func(change func(b []byte) []byte) func(p *peer) []byte {
		return func(p *peer) []byte { return p.patch(smb2.CommandEcho, &smb2.EchoRequest{}, change) }
	}
	set := func(f func(b []byte)) func(p *peer) []byte {
		return echo(func(b []byte) []byte { f(b); return b })
	}
	return []hostile{
		{"protocol id", set(func(b []byte) { b[1] = 'X' }), gone},
		{"SMB1 after NEGOTIATE", set(func(b []byte) { b[0] = 0xFF }), gone},
		{"compressed, not negotiated", set(func(b []byte) { b[0] = 0xFC }), gone},
		{"header of 63 octets", echo(func(b []byte) []byte { return b[:63] }), gone},
		{"header StructureSize 63", set(func(b []byte) { b[4] = 63 }), gone},
		{"unknown command", set(func(b []byte) { le16(b, 12, 0x13) }), gone},
		{"command 0xFFFF", set(func(b []byte) { le16(b, 12, 0xFFFF) }), gone},
		{"a response", set(func(b []byte) { b[16] |= 1 }), gone},
		{"NextCommand 4", set(func(b []byte) { le32(b, 20, 4) }), gone},
		{"NextCommand 8, into itself", set(func(b []byte) { le32(b, 20, 8) }), gone},
		{"NextCommand 68, misaligned", echo(func(b []byte) []byte { le32(b, 20, 68); return append(b, b...) }), gone},
		{"NextCommand at the end", set(func(b []byte) { le32(b, 20, 72) }), gone},
		{"NextCommand 0xFFFFFFF8", set(func(b []byte) { le32(b, 20, 0xFFFFFFF8) }), gone},
		{"MessageId used before", set(func(b []byte) { le64(b, 24, 0) }), gone},
		{"MessageId not granted", set(func(b []byte) { le64(b, 24, 100_000) }), gone},
		{"MessageId all ones", set(func(b []byte) { le64(b, 24, ^uint64(0)) }), gone},
		{"CreditCharge not granted", set(func(b []byte) { le16(b, 6, 0xFFFF) }), gone},
		{"second NEGOTIATE", func(p *peer) []byte {
			return p.element(p.header(cmdNegotiate), p.negotiateRequest())
		}, gone},
		{"compound of 1000", func(p *peer) []byte {
			var b []byte
			for i := range 1000 {
				start := len(b)
				b = append(b, p.element(p.header(smb2.CommandEcho), &smb2.EchoRequest{})...)
				if i < 999 {
					b = smb2.PadCompound(b, 0, start)
				}
			}
			return b
		}, gone},
		{"session of nobody", set(func(b []byte) { le64(b, 40, 0x1122334455667788); le16(b, 12, 3) }), is(ntstatus.UserSessionDeleted)},
		{"session of nobody, signed", set(func(b []byte) { le64(b, 40, 5); le16(b, 12, 3); b[16] |= 8 }), is(ntstatus.UserSessionDeleted)},
	}
}

// body rows are requests that are malformed behind the header: each gets
// STATUS_INVALID_PARAMETER where the row does not say otherwise.
func bodyRows() []hostile {
	var rows []hostile
	add := func(name string, cmd smb2.Command, m func(p *peer) encoding.BinaryAppender, want outcome, change func(b []byte) []byte) {
		rows = append(rows, hostile{name, func(p *peer) []byte { return p.patch(cmd, m(p), change) }, want})
	}
	set := func(f func(b []byte)) func([]byte) []byte { return func(b []byte) []byte { f(b); return b } }
	type mk = func(p *peer) encoding.BinaryAppender
	bodies := []struct {
		cmd smb2.Command
		m   mk
	}{
		{smb2.CommandEcho, func(*peer) encoding.BinaryAppender { return &smb2.EchoRequest{} }},
		{smb2.CommandSessionSetup, func(*peer) encoding.BinaryAppender { return &smb2.SessionSetupRequest{SecurityBuffer: []byte("x")} }},
		{smb2.CommandTreeConnect, func(*peer) encoding.BinaryAppender {
			return &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\nas\data`)}
		}},
		{smb2.CommandCreate, func(*peer) encoding.BinaryAppender { return createRequest("x") }},
		{smb2.CommandClose, func(p *peer) encoding.BinaryAppender { return &smb2.CloseRequest{FileID: p.fid} }},
		{smb2.CommandFlush, func(p *peer) encoding.BinaryAppender { return &smb2.FlushRequest{FileID: p.fid} }},
		{smb2.CommandRead, func(p *peer) encoding.BinaryAppender { return readOf(p, 10) }},
		{smb2.CommandWrite, func(p *peer) encoding.BinaryAppender { return writeOf(p, []byte("data")) }},
		{smb2.CommandLock, func(p *peer) encoding.BinaryAppender {
			return &smb2.LockRequest{FileID: p.fid, Locks: []smb2.LockElement{{Length: 1, Flags: smb2.LockFlagSharedLock}}}
		}},
		{smb2.CommandIoctl, func(p *peer) encoding.BinaryAppender {
			return &smb2.IoctlRequest{CtlCode: smb2.FsctlValidateNegotiateInfo, FileID: smb2.AnyFileID, Flags: smb2.IoctlFlagIsFsctl, Input: []byte("x")}
		}},
		{smb2.CommandQueryInfo, func(p *peer) encoding.BinaryAppender {
			return &smb2.QueryInfoRequest{InfoType: 1, FileInfoClass: 5, OutputBufferLength: 100, FileID: p.fid}
		}},
		{smb2.CommandSetInfo, func(p *peer) encoding.BinaryAppender {
			return &smb2.SetInfoRequest{InfoType: 1, FileInfoClass: 20, FileID: p.fid, Buffer: make([]byte, 8)}
		}},
		{smb2.CommandQueryDirectory, func(p *peer) encoding.BinaryAppender {
			return &smb2.QueryDirectoryRequest{FileInformationClass: 1, FileID: p.fid, FileName: smb2.EncodeUTF16("*"), OutputBufferLength: 100}
		}},
		{smb2.CommandChangeNotify, func(p *peer) encoding.BinaryAppender {
			return &smb2.ChangeNotifyRequest{OutputBufferLength: 100, FileID: p.fid, CompletionFilter: 1}
		}},
		{smb2.CommandLogoff, func(*peer) encoding.BinaryAppender { return &smb2.LogoffRequest{} }},
		{smb2.CommandTreeDisconnect, func(*peer) encoding.BinaryAppender { return &smb2.TreeDisconnectRequest{} }},
		{smb2.CommandOplockBreak, func(*peer) encoding.BinaryAppender { return &smb2.OplockBreakAcknowledgment{} }},
	}
	for _, b := range bodies {
		add(b.cmd.String()+" StructureSize", b.cmd, b.m, invalid, set(func(b []byte) { b[64] ^= 0x40 }))
		add(b.cmd.String()+" cut to 2 octets", b.cmd, b.m, invalid, func(b []byte) []byte { return b[:66] })
	}
	of := func(cmd smb2.Command) mk {
		for _, b := range bodies {
			if b.cmd == cmd {
				return b.m
			}
		}
		panic(cmd)
	}
	// Offsets and lengths that leave the message, and that overflow 16 or 32 bits.
	for _, f := range []struct {
		cmd      smb2.Command
		off, len int // of the fields, from the header
		wide     bool
	}{
		{smb2.CommandSessionSetup, 76, 78, false},
		{smb2.CommandTreeConnect, 68, 70, false},
		{smb2.CommandCreate, 108, 110, false},
		{smb2.CommandQueryDirectory, 88, 90, false},
		{smb2.CommandIoctl, 88, 92, true},
	} {
		for _, v := range []struct {
			name     string
			off, len uint32
		}{{"offset beyond", 0x7FF0, 8}, {"length beyond", 0, 0x7FF0}, {"both at their most", 0xFFFFFFFF, 0xFFFFFFFF}} {
			add(f.cmd.String()+" "+v.name, f.cmd, of(f.cmd), invalid, set(func(b []byte) {
				if f.wide {
					if v.off != 0 {
						le32(b, f.off, v.off)
					}
					le32(b, f.len, v.len)
					return
				}
				if v.off != 0 {
					le16(b, f.off, uint16(v.off))
				}
				le16(b, f.len, uint16(v.len))
			}))
		}
	}
	w, r, c := smb2.CommandWrite, smb2.CommandRead, smb2.CommandCreate
	add("CREATE odd name", c, of(c), invalid, set(func(b []byte) { le16(b, 110, 1) }))
	add("CREATE contexts beyond", c, of(c), invalid, set(func(b []byte) { le32(b, 112, 0xFFFFFFF8); le32(b, 116, 64) }))
	add("CREATE disposition 6", c, of(c), invalid, set(func(b []byte) { le32(b, 100, 6) }))
	add("CREATE impersonation 4", c, of(c), is(ntstatus.BadImpersonationLevel), set(func(b []byte) { le32(b, 68, 4) }))
	add("WRITE DataOffset 0x101", w, of(w), invalid, set(func(b []byte) { le16(b, 66, 0x101) }))
	add("WRITE Length beyond", w, of(w), invalid, set(func(b []byte) { le32(b, 68, 5000) }))
	add("WRITE Length 0xFFFFFFFF", w, of(w), invalid, set(func(b []byte) { le32(b, 68, 0xFFFFFFFF) }))
	add("WRITE Offset negative", w, of(w), invalid, set(func(b []byte) { le64(b, 72, 1<<63) }))
	add("WRITE Offset + Length negative", w, of(w), invalid, set(func(b []byte) { le64(b, 72, 1<<63-2) }))
	add("WRITE channel 9", w, of(w), invalid, set(func(b []byte) { le32(b, 96, 9) }))
	add("READ above MaxReadSize", r, of(r), invalid, set(func(b []byte) { le32(b, 68, 9<<20) }))
	add("READ 64 KiB and more for a credit", r, of(r), invalid, set(func(b []byte) { le32(b, 68, 65537) }))
	add("READ Offset negative", r, of(r), invalid, set(func(b []byte) { le64(b, 72, 1<<63) }))
	add("READ Offset + Length negative", r, of(r), invalid, set(func(b []byte) { le64(b, 72, 1<<63-2) }))
	add("READ channel 9", r, of(r), invalid, set(func(b []byte) { le32(b, 100, 9) }))
	add("LOCK of no elements", smb2.CommandLock, of(smb2.CommandLock), invalid, set(func(b []byte) { le16(b, 66, 0) }))
	add("LOCK of 65535 elements", smb2.CommandLock, of(smb2.CommandLock), invalid, set(func(b []byte) { le16(b, 66, 0xFFFF) }))
	add("SET_INFO buffer beyond", smb2.CommandSetInfo, of(smb2.CommandSetInfo), invalid, set(func(b []byte) { le32(b, 68, 0xFFF0) }))
	add("QUERY_INFO 0xFFFFFFFF octets", smb2.CommandQueryInfo, of(smb2.CommandQueryInfo), invalid, set(func(b []byte) { le32(b, 68, 0xFFFFFFFF) }))

	foreign := set(func(b []byte) { le32(b, 36, 0xABCD) })
	for _, b := range bodies {
		switch b.cmd {
		case smb2.CommandEcho, smb2.CommandSessionSetup, smb2.CommandTreeConnect, smb2.CommandLogoff:
		default:
			add(b.cmd.String()+" foreign TreeId", b.cmd, b.m, is(ntstatus.NetworkNameDeleted), foreign)
		}
	}
	for cmd, off := range map[smb2.Command]int{
		smb2.CommandClose: 72, smb2.CommandFlush: 72, r: 80, w: 80, smb2.CommandLock: 72,
		smb2.CommandQueryInfo: 88, smb2.CommandSetInfo: 80, smb2.CommandQueryDirectory: 72, smb2.CommandChangeNotify: 72,
	} {
		add(cmd.String()+" foreign FileId", cmd, of(cmd), is(ntstatus.FileClosed), set(func(b []byte) { le64(b, off+8, 0x1234567) }))
		add(cmd.String()+" FileId all ones", cmd, of(cmd), is(ntstatus.FileClosed), set(func(b []byte) { le64(b, off, ^uint64(0)); le64(b, off+8, ^uint64(0)) }))
	}
	return rows
}

func TestBadHeaders(t *testing.T) {
	w := newTown(t, options{})
	for _, row := range headerRows() {
		w.overBoth(t, row.name, func(t *testing.T, p *peer) {
			sign := p.sign
			if !row.want.gone {
				p.sign = false // a session that is not there has no key
			}
			b := row.make(p)
			p.sign = sign
			p.try(hostile{row.name, func(*peer) []byte { return b }, row.want})
		})
	}
}

func TestBadBodies(t *testing.T) {
	w := newTown(t, options{})
	for _, row := range bodyRows() {
		w.overBoth(t, row.name, func(t *testing.T, p *peer) { p.try(row) })
	}
}

// Session, tree and file of somebody else: the ids are right, and not ours.
func TestForeignIDs(t *testing.T) {
	w := newTown(t, options{})
	w.overBoth(t, "ids", func(t *testing.T, p *peer) {
		other := newPeer(t, dialDirect(t, w.addr("iwarp"), false))
		other.login()
		defer other.c.Close()
		for _, row := range []hostile{
			{"session", func(p *peer) []byte {
				h := p.header(smb2.CommandTreeConnect)
				h.SessionID = other.sid
				return p.element(h, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\nas\data`)})
			}, is(ntstatus.UserSessionDeleted)},
			{"session, with its signature", func(p *peer) []byte {
				h := p.header(smb2.CommandTreeConnect)
				h.SessionID = other.sid
				b := p.element(h, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\nas\data`)})
				must(t, other.signer.Sign(b))
				return b
			}, is(ntstatus.UserSessionDeleted)},
			{"file", func(p *peer) []byte {
				m := readOf(p, 10)
				m.FileID = other.fid
				return p.signed(p.element(p.header(smb2.CommandRead), m))
			}, is(ntstatus.FileClosed)},
			{"session under encryption", func(p *peer) []byte {
				b, err := other.sealer.Seal(nil, other.sid, other.element(other.header(smb2.CommandEcho), &smb2.EchoRequest{}))
				must(t, err)
				return b
			}, gone},
		} {
			p.try(row)
		}
		if h, _ := other.do(smb2.CommandFlush, &smb2.FlushRequest{FileID: other.fid}); h.Status != 0 {
			t.Errorf("the other one's file: %v", h.Status)
		}
	})
}

// [MS-SMB2] 3.3.5.2.4: what is not signed as it must be is refused and not done.
func TestSigning(t *testing.T) {
	w := newTown(t, options{})
	w.overBoth(t, "signature", func(t *testing.T, p *peer) {
		before := w.read("victim")
		p.try(hostile{"bad", func(p *peer) []byte {
			b := p.element(p.header(smb2.CommandWrite), writeOf(p, []byte("forged")))
			must(t, p.signer.Sign(b))
			b[60] ^= 1
			return b
		}, is(ntstatus.AccessDenied)})
		p.try(hostile{"data changed", func(p *peer) []byte {
			b := p.element(p.header(smb2.CommandWrite), writeOf(p, []byte("forged")))
			must(t, p.signer.Sign(b))
			b[len(b)-1] ^= 1
			return b
		}, is(ntstatus.AccessDenied)})
		if p.sign {
			p.try(hostile{"none", func(p *peer) []byte {
				return p.element(p.header(smb2.CommandWrite), writeOf(p, []byte("forged")))
			}, is(ntstatus.AccessDenied)})
			p.try(hostile{"in a compound, of its second element", func(p *peer) []byte {
				a := p.element(p.header(smb2.CommandEcho), &smb2.EchoRequest{})
				a = smb2.PadCompound(a, 0, 0)
				must(t, p.signer.Sign(a))
				return append(a, p.element(p.header(smb2.CommandWrite), writeOf(p, []byte("forged")))...)
			}, is(ntstatus.Success)}) // of the ECHO; the file tells the rest
		}
		if got := w.read("victim"); !bytes.Equal(got, before) {
			t.Errorf("the file holds %q", got)
		}
	})
}

// [MS-SMB2] 3.3.5.2.1.1: what cannot be decrypted costs the connection.
func TestBadTransforms(t *testing.T) {
	w := newTown(t, options{})
	sealed := func(p *peer) []byte {
		b, err := p.sealer.Seal(nil, p.sid, p.element(p.header(smb2.CommandEcho), &smb2.EchoRequest{}))
		must(p.t, err)
		return b
	}
	set := func(f func(b []byte)) func(p *peer) []byte {
		return func(p *peer) []byte { b := sealed(p); f(b); return b }
	}
	rows := []hostile{
		{"flags 0", set(func(b []byte) { b[42] = 0 }), gone},
		{"session of nobody", set(func(b []byte) { b[44] ^= 1 }), gone},
		{"nonce", set(func(b []byte) { b[20] ^= 1 }), gone},
		{"tag", set(func(b []byte) { b[4] ^= 1 }), gone},
		{"last octet", set(func(b []byte) { b[len(b)-1] ^= 1 }), gone},
		{"size too small", set(func(b []byte) { b[36]-- }), gone},
		{"size 0xFFFFFFFF", set(func(b []byte) { le32(b, 36, 0xFFFFFFFF) }), gone},
		{"a transform inside", func(p *peer) []byte {
			b, err := p.sealer.Seal(nil, p.sid, sealed(p))
			must(p.t, err)
			return b
		}, gone},
		{"nothing inside", func(p *peer) []byte {
			b, err := p.sealer.Seal(nil, p.sid, nil)
			must(p.t, err)
			return b
		}, gone},
		{"garbage inside", func(p *peer) []byte {
			b, err := p.sealer.Seal(nil, p.sid, make([]byte, 100))
			must(p.t, err)
			return b
		}, gone},
	}
	for _, n := range []int{4, 20, 51, 52, 53, 100} {
		rows = append(rows, hostile{"cut to " + ntoa(n), func(p *peer) []byte { return sealed(p)[:n] }, gone})
	}
	for _, row := range rows {
		w.overBoth(t, row.name, func(t *testing.T, p *peer) { p.try(row) })
	}
}

func ntoa(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// descriptors of buffers, [MS-SMBD] 2.2.3.1.
func buffers(ds ...smb2.BufferDescriptor) []byte {
	var b []byte
	for _, d := range ds {
		b = d.Append(b)
	}
	return b
}

// Channel information, [MS-SMB2] 3.3.5.12 and 3.3.5.13. A wrong token ends the
// connection by the client's own adapter; everything else gets a status.
func TestBadDescriptors(t *testing.T) {
	w := newTown(t, options{})
	content := octets(7, 70_000)
	must(t, os.WriteFile(filepath.Join(w.dir, "victim"), content, 0o644))
	const token, size = 0x51AB, 65536
	for _, c := range []struct {
		name        string
		info        []byte
		change      func(b []byte)
		read, write outcome
		length      uint32 // 0 is size
	}{
		{name: "unknown token", info: buffers(smb2.BufferDescriptor{Token: 1, Length: size}), read: goneLater, write: gone},
		{name: "one of two tokens unknown", info: buffers(smb2.BufferDescriptor{Token: token, Length: size / 2}, smb2.BufferDescriptor{Token: 1, Length: size / 2}), read: goneLater, write: gone},
		{name: "offset beyond the memory", info: buffers(smb2.BufferDescriptor{Offset: 1, Token: token, Length: size}), read: goneLater, write: gone},
		{name: "an octet too short", info: buffers(smb2.BufferDescriptor{Token: token, Length: size - 1}), read: invalid, write: invalid},
		{name: "of length 0", info: buffers(smb2.BufferDescriptor{Token: token}), read: invalid, write: invalid},
		{name: "lengths that overflow 32 bits, offset that overflows 64", info: buffers(smb2.BufferDescriptor{Offset: ^uint64(0), Token: token, Length: 0xFFFFFFFF}, smb2.BufferDescriptor{Offset: 1, Token: token, Length: 0xFFFFFFFF}), read: invalid, write: invalid},
		{name: "4088 descriptors too short", info: bytes.Repeat(buffers(smb2.BufferDescriptor{Token: token, Length: 15}), 4088), read: invalid, write: invalid},
		{name: "4088 descriptors that fit", info: bytes.Repeat(buffers(smb2.BufferDescriptor{Token: token, Length: 16}), 4088), length: 65408},
		{name: "15 octets", info: buffers(smb2.BufferDescriptor{Token: token, Length: size})[:15], read: invalid, write: invalid},
		{name: "17 octets", info: append(buffers(smb2.BufferDescriptor{Token: token, Length: size}), 0), read: invalid, write: invalid},
		{name: "none", read: invalid, write: invalid, info: nil},
		{name: "length beyond the message", info: buffers(smb2.BufferDescriptor{Token: token, Length: size}), read: invalid, write: invalid,
			change: func(b []byte) { le16(b, 108, 0xFFF0); le16(b, 106, 0xFFF0) }},
	} {
		for _, write := range []bool{false, true} {
			name := c.name + ", read"
			if write {
				name = c.name + ", written"
			}
			request := func(p *peer) []byte {
				n := c.length
				if n == 0 {
					n = size
				}
				var m encoding.BinaryAppender = &smb2.ReadRequest{Padding: 0x50, Length: n, FileID: p.fid, Channel: smb2.ChannelRDMAV1, ChannelInfo: c.info}
				cmd := smb2.CommandRead
				if write {
					m = &smb2.WriteRequest{FileID: p.fid, Channel: smb2.ChannelRDMAV1, RemainingBytes: n, ChannelInfo: c.info}
					cmd = smb2.CommandWrite
				}
				return p.patch(cmd, m, func(b []byte) []byte {
					if c.change != nil {
						c.change(b)
					}
					return b
				})
			}
			t.Run(name+"/iwarp", func(t *testing.T) {
				w.over(t, "iwarp", func(t *testing.T, p *peer) {
					want := c.read
					if write {
						want = c.write
					}
					p.c.(*rawDirect).mem[token] = octets(9, size)
					if write && want == is(0) {
						// 4088 times the same 16 octets
						defer func() {
							if got := w.read("victim"); !bytes.Equal(got[:65408], bytes.Repeat(octets(9, 16), 4088)) {
								t.Error("what was written is not what the memory held")
							}
						}()
					} else {
						defer func() {
							if got := w.read("victim"); !bytes.Equal(got, content) {
								t.Error("the file was changed")
							}
						}()
					}
					p.try(hostile{name, request, want})
				})
				must(t, os.WriteFile(filepath.Join(w.dir, "victim"), content, 0o644))
			})
			t.Run(name+"/tcp", func(t *testing.T) { // no RDMA there
				w.over(t, "tcp", func(t *testing.T, p *peer) { p.try(hostile{name, request, invalid}) })
			})
		}
	}
}
