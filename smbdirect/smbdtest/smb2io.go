package smbdtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// ioSize is the payload of cases for which the size does not matter, in octets.
const ioSize = 64 << 10

// octets are n octets that a seed determines.
func octets(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// rdmaIO is a READ or a WRITE by RDMA of which every field can be set.
type rdmaIO struct {
	channel smb2.Channel
	off     uint64
	n       int               // Length of a READ, RemainingBytes of a WRITE, in octets
	at      []wire.Descriptor // the channel information
	info    []byte            // the channel information, if not nil, instead of at
	least   uint32            // MinimumCount
	charge  uint16            // CreditCharge; 0 for what n costs
	protect protection
	change  func(msg []byte) // after the encoding
	message func(id uint64)
}

func (io *rdmaIO) channelInfo() []byte {
	if io.info != nil {
		return io.info
	}
	var b []byte
	for _, d := range io.at {
		b, _ = d.AppendBinary(b) // never fails
	}
	return b
}

// readBody and writeBody encode when the request is sent, so that message can
// still change what io says.
type readBody struct {
	id smb2.FileID
	io *rdmaIO
}

func (r readBody) AppendBinary(b []byte) ([]byte, error) {
	m := smb2.ReadRequest{Padding: smb2.ReadDataOffset, Length: uint32(r.io.n), Offset: r.io.off, FileID: r.id,
		MinimumCount: r.io.least, Channel: r.io.channel, RemainingBytes: uint32(r.io.n), ChannelInfo: r.io.channelInfo()}
	return m.AppendBinary(b)
}

type writeBody struct {
	id smb2.FileID
	io *rdmaIO
}

func (w writeBody) AppendBinary(b []byte) ([]byte, error) {
	m := smb2.WriteRequest{Offset: w.io.off, FileID: w.id, Channel: w.io.channel,
		RemainingBytes: uint32(w.io.n), ChannelInfo: w.io.channelInfo()}
	return m.AppendBinary(b)
}

// readRequest is [MS-SMB2] 3.2.4.6.
func (io *rdmaIO) readRequest(id smb2.FileID) smb2Request {
	return smb2Request{cmd: smb2.CommandRead, body: readBody{id, io}, payload: io.n, charge: io.charge,
		protect: io.protect, change: io.change, message: io.message}
}

// writeRequest is [MS-SMB2] 3.2.4.7.
func (io *rdmaIO) writeRequest(id smb2.FileID) smb2Request {
	return smb2Request{cmd: smb2.CommandWrite, body: writeBody{id, io}, payload: io.n, charge: io.charge,
		protect: io.protect, change: io.change, message: io.message}
}

func (p *smb2Peer) read(id smb2.FileID, io rdmaIO) *smb2Answer {
	p.mayInvalidate(&io)
	return p.do(io.readRequest(id))
}

func (p *smb2Peer) write(id smb2.FileID, io rdmaIO) *smb2Answer {
	p.mayInvalidate(&io)
	return p.do(io.writeRequest(id))
}

// checkRead checks the response to a READ by RDMA of n octets without a transform,
// [MS-SMB2] 2.2.20 and 3.3.5.12.
func (p *smb2Peer) checkRead(a *smb2Answer, n int) bool {
	if !p.expect(a, "READ by RDMA", ntstatus.Success) {
		return false
	}
	body := a.msg[smb2.HeaderSize:]
	if len(body) < 16 {
		p.t.Errorf("READ response of %d octets behind the header, want 16 or more", len(body))
		return false
	}
	le := binary.LittleEndian
	for _, f := range []struct {
		name      string
		got, want uint64
	}{
		{"StructureSize", uint64(le.Uint16(body)), 17},
		{"DataOffset", uint64(body[2]), smb2.HeaderSize + 16},
		{"DataLength", uint64(le.Uint32(body[4:])), 0},
		{"DataRemaining", uint64(le.Uint32(body[8:])), uint64(n)},
		{"Flags", uint64(le.Uint32(body[12:])), 0},
	} {
		if f.got != f.want {
			p.t.Errorf("READ response: %s is %d, want %d", f.name, f.got, f.want)
		}
	}
	if rest := len(body) - 16; rest > 8 { // one octet of Buffer, and alignment
		p.t.Errorf("READ response: %d octets in the message, want none of the data", rest)
	}
	return true
}

// checkWrite checks the response to a WRITE of n octets, [MS-SMB2] 2.2.22.
func (p *smb2Peer) checkWrite(a *smb2Answer, n int) bool {
	if !p.expect(a, "WRITE by RDMA", ntstatus.Success) {
		return false
	}
	body := a.msg[smb2.HeaderSize:]
	if len(body) < 16 {
		p.t.Errorf("WRITE response of %d octets behind the header, want 16 or more", len(body))
		return false
	}
	le := binary.LittleEndian
	for _, f := range []struct {
		name      string
		got, want uint64
	}{
		{"StructureSize", uint64(le.Uint16(body)), 17},
		{"Count", uint64(le.Uint32(body[4:])), uint64(n)},
		{"Remaining", uint64(le.Uint32(body[8:])), 0},
		{"WriteChannelInfoOffset", uint64(le.Uint16(body[12:])), 0},
		{"WriteChannelInfoLength", uint64(le.Uint16(body[14:])), 0},
	} {
		if f.got != f.want {
			p.t.Errorf("WRITE response: %s is %d, want %d", f.name, f.got, f.want)
		}
	}
	return true
}

// checkAlive and checkDead check what a final answer did to the token of r, by
// what came with it. A dead token was the first descriptor's.
func (p *smb2Peer) checkAlive(a *smb2Answer, r *Region) {
	if a.invalidated {
		p.t.Errorf("the answer invalidated token %#x, and was not asked to", a.token)
	} else if r.Invalidated() {
		p.t.Errorf("token %#x is dead, and nothing was to invalidate it", r.Token)
	}
}

func (p *smb2Peer) checkDead(a *smb2Answer, r *Region) {
	switch {
	case !a.invalidated:
		p.t.Errorf("the answer invalidated nothing, want token %#x", r.Token)
	case a.token != uint32(r.Token):
		p.t.Errorf("the answer invalidated token %#x, want %#x", a.token, r.Token)
	case !r.Invalidated():
		p.t.Errorf("token %#x works still", r.Token)
	}
}

// checkErrorToken checks an answer that is an error: [MS-SMB2] asks for no
// invalidation there, and allows that of the first descriptor's token if the
// request asked for it.
func (p *smb2Peer) checkErrorToken(a *smb2Answer, io *rdmaIO) {
	if a.lost != nil || !a.invalidated {
		return
	}
	if io.channel != smb2.ChannelRDMAV1Invalidate {
		p.t.Errorf("an error invalidated token %#x, and the request did not ask for it", a.token)
	} else if len(io.at) > 0 && a.token != io.at[0].Token {
		p.t.Errorf("an error invalidated token %#x, and the first descriptor has %#x", a.token, io.at[0].Token)
	}
}

// same checks that memory or a file holds what it should.
func (p *smb2Peer) same(what string, got, want []byte) {
	if bytes.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		p.t.Errorf("%s: %d octets, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if got[i] != want[i] {
			p.t.Errorf("%s: octet %d of %d is %#02x, want %#02x", what, i, len(want), got[i], want[i])
			return
		}
	}
}

// untouched checks that nothing was written to r.
func (p *smb2Peer) untouched(r *Region) {
	p.same("memory that nothing was to be written to", r.Bytes, make([]byte, len(r.Bytes)))
}

// sink registers n octets for the server to write to, source some that it may
// read.
func (p *smb2Peer) sink(n int) *Region {
	return p.register(n, ndk.AllowRemoteWrite)
}

func (p *smb2Peer) source(content []byte) *Region {
	r := p.register(len(content), ndk.AllowRemoteRead)
	copy(r.Bytes, content)
	return r
}

func (p *smb2Peer) register(n int, rights ndk.OpFlags) *Region {
	r, err := p.link.Register(p.ctx, n, rights)
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	p.regions = append(p.regions, r)
	return r
}

// deregister takes memory back.
func (p *smb2Peer) deregister(r *Region) {
	if err := r.Deregister(p.ctx); err != nil {
		p.t.Fatalf("%v", err)
	}
}

// largest is the most that one READ and one WRITE may move here, in octets; with
// SMB2_CHANNEL_RDMA_V1_INVALIDATE in memory that one registration of ours has.
func (p *smb2Peer) largest(ch smb2.Channel) int {
	n := int(min(p.neg.MaxReadSize, p.neg.MaxWriteSize, p.link.Response.MaxReadWriteSize, 8<<20))
	if ch == smb2.ChannelRDMAV1Invalidate {
		n = min(n, max(p.link.info.FRMRPageCount-2-2*guardSize/ndk.PageSize, 1)*ndk.PageSize)
	}
	return n &^ 4095
}

// mayInvalidate skips a case that asks for the invalidation of memory that our
// adapter has no such registrations for.
func (p *smb2Peer) mayInvalidate(io *rdmaIO) {
	for _, r := range p.regions {
		if io.channel == smb2.ChannelRDMAV1Invalidate && len(io.at) > 0 && uint32(r.Token) == io.at[0].Token && !r.fast {
			p.t.Skipf("our adapter has no registration of %d octets that another end can invalidate", len(r.Bytes))
		}
	}
}

// smb2Case makes a case in which run has a session, a tree and the options given.
// After it the guards of all memory are checked, and that the server, whatever was
// done to it, takes the next client.
func smb2Case(c Case, opt smb2Options, run func(p *smb2Peer)) Case {
	return smb2Cases(c, []smb2Options{opt}, run)
}

// smb2Cases does the same with several options, one connection each. What the
// server does not offer of them is left out; if that is all the case is skipped.
func smb2Cases(c Case, opts []smb2Options, run func(p *smb2Peer)) Case {
	return smb2Raw(c, func(t *T) {
		left, why := 0, ""
		for _, opt := range opts {
			t.Logf("%v", opt)
			p := dialSMB2(t, opt)
			if missing := p.loginForRDMA(); missing != "" {
				t.LeaveOut("%v: %s", opt, missing)
				left, why = left+1, missing
				p.Close()
				continue
			}
			run(p)
			p.finish()
			p.Close()
		}
		if left == len(opts) {
			t.Skipf("%s", why)
		}
	})
}

// smb2Raw makes a case that connects by itself.
func smb2Raw(c Case, run func(t *T)) Case {
	c.Role, c.SMB2 = Acceptor, true
	c.Run = func(_ context.Context, t *T) {
		run(t)
		t.Logf("the server takes the next client")
		p := dialSMB2(t, smb2Options{})
		p.must(p.sendNegotiate(p.contexts()), "NEGOTIATE on a new connection")
		p.finish()
	}
	return c
}

// String tells what is not the default.
func (o smb2Options) String() string {
	s := "as 3.1.1"
	if len(o.dialects) > 0 {
		s = fmt.Sprintf("as %v", o.dialects)
	}
	if len(o.ciphers) > 0 {
		s += fmt.Sprintf(", ciphers %v", o.ciphers)
	}
	if len(o.signing) > 0 {
		s += fmt.Sprintf(", signing %v", o.signing)
	}
	if len(o.transforms) > 0 {
		s += fmt.Sprintf(", transforms %v", o.transforms)
	}
	return s
}

// finish checks what has to hold after every case.
func (p *smb2Peer) finish() {
	for _, r := range p.regions {
		if err := r.CheckGuards(); err != nil {
			p.t.Errorf("%v", err)
		}
	}
	if p.link != nil {
		for _, b := range p.link.Breaches {
			p.t.Errorf("%s: %s", b.Row, b.What)
		}
	}
	for id := range p.early {
		p.t.Errorf("an answer to message %d, which was answered or never sent", id)
	}
}
