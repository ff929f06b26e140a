package smbdtest

import (
	"bytes"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Data by SMB2_CHANNEL_RDMA_V1 and SMB2_CHANNEL_RDMA_V1_INVALIDATE, [MS-SMB2]
// 3.3.5.12 and 3.3.5.13: what works, and how tokens live and die.

var _ = register(
	smb2Cases(Case{
		Name: "BVT_Smb2OverRdmaChannel_ReadLargeFile", Spec: "[MS-SMB2] 3.3.5.12",
		Microsoft: []string{"BVT_Smb2OverRdmaChannel_ReadLargeFile"},
		Rows:      []string{"SM-01", "SM-11", "SD-07", "SD-105", "SD-106"},
		Doc:       "A READ of the most that one may move is answered by RDMA Writes that are in place when the response is, in every dialect.",
	}, everyDialect, func(p *smb2Peer) {
		n := p.largest(smb2.ChannelRDMAV1)
		want := octets(1, n)
		id := p.create(want)
		r := p.sink(n)
		a := p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, n: n, at: descriptors(r)})
		p.same("memory", r.Bytes, want)
		p.checkRead(a, n)
		p.checkAlive(a, r)
	}),
	smb2Cases(Case{
		Name: "BVT_Smb2OverRdmaChannel_WriteLargeFile", Spec: "[MS-SMB2] 3.3.5.13",
		Microsoft: []string{"BVT_Smb2OverRdmaChannel_WriteLargeFile"},
		Rows:      []string{"SM-01", "SM-18", "SD-107"},
		Doc:       "A WRITE of the most that one may move is fetched by RDMA Reads, which are over when the response comes, in every dialect.",
	}, everyDialect, func(p *smb2Peer) {
		n := p.largest(smb2.ChannelRDMAV1)
		want := octets(2, n)
		id := p.create(nil)
		r := p.source(want)
		a := p.write(id, rdmaIO{channel: smb2.ChannelRDMAV1, n: n, at: descriptors(r)})
		clear(r.Bytes) // what is fetched later than that is wrong
		p.checkWrite(a, n)
		p.checkAlive(a, r)
		p.same("file", p.content(id, n), want)
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_ReadMultipleOperation", Spec: "[MS-SMB2] 3.3.5.12",
		Microsoft: []string{"Smb2OverRdmaChannel_ReadMultipleOperation"},
		Rows:      []string{"SM-11", "SM-14"},
		Doc:       "64 READs one after the other fetch a file; the one behind its end is STATUS_END_OF_FILE and writes nothing.",
	}, smb2Options{}, func(p *smb2Peer) {
		const count, n = 64, 16 << 10
		want := octets(3, count*n)
		id := p.create(want)
		for i := range count {
			r := p.sink(n)
			a := p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, off: uint64(i * n), n: n, at: descriptors(r)})
			p.checkRead(a, n)
			p.same("memory", r.Bytes, want[i*n:][:n])
		}
		r := p.sink(n)
		io := rdmaIO{channel: smb2.ChannelRDMAV1, off: count * n, n: n, at: descriptors(r)}
		a := p.read(id, io)
		p.expect(a, "READ behind the end", ntstatus.EndOfFile)
		p.checkErrorToken(a, &io)
		p.untouched(r)
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_WriteMultipleOperation", Spec: "[MS-SMB2] 3.3.5.13",
		Microsoft: []string{"Smb2OverRdmaChannel_WriteMultipleOperation"},
		Rows:      []string{"SM-18"},
		Doc:       "64 WRITEs one after the other make a file.",
	}, smb2Options{}, func(p *smb2Peer) {
		const count, n = 64, 16 << 10
		want := octets(4, count*n)
		id := p.create(nil)
		for i := range count {
			r := p.source(want[i*n:][:n])
			p.checkWrite(p.write(id, rdmaIO{channel: smb2.ChannelRDMAV1, off: uint64(i * n), n: n, at: descriptors(r)}), n)
		}
		p.same("file", p.content(id, count*n), want)
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_Pipelined", Spec: "[MS-SMB2] 3.3.5.12, 3.3.5.13",
		Rows: []string{"SM-11", "SM-12", "SM-18", "SD-106", "SD-107"},
		Doc:  "READs and WRITEs that are under way together, each with memory of its own, do not get in one another's way, and each answer kills the token of its request.",
	}, smb2Options{}, func(p *smb2Peer) {
		const count, n = 16, 8 << 10
		want := octets(5, 2*count*n)
		id := p.create(want[:count*n])
		p.earn(2 * count)
		var ids []uint64
		var ios []rdmaIO
		var mem []*Region
		for i := range 2 * count {
			read := i%2 == 0
			var r *Region
			if read {
				r = p.sink(n)
			} else {
				r = p.source(want[(count+i/2)*n:][:n])
			}
			io := rdmaIO{channel: smb2.ChannelRDMAV1Invalidate, n: n, at: descriptors(r), off: uint64(i / 2 * n)}
			req := io.readRequest(id)
			if !read {
				io.off += count * n
				req = io.writeRequest(id)
			}
			ids, ios, mem = append(ids, p.post(req)), append(ios, io), append(mem, r)
		}
		for i := range ids {
			a := p.await(ids[i])
			if i%2 == 0 {
				p.checkRead(a, n)
				p.same("memory", mem[i].Bytes, want[ios[i].off:][:n])
			} else {
				p.checkWrite(a, n)
			}
			p.checkDead(a, mem[i])
		}
		p.same("file", p.content(id, len(want)), want)
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_ReadDepthOne", Spec: "[MS-SMBD] 3.1.4.6",
		Rows: []string{"SD-113"},
		Doc:  "A server that may have one RDMA Read under way serves WRITEs of many descriptors that come together.",
	}, smb2Options{depth: 1}, func(p *smb2Peer) {
		const count, n, parts = 8, 32 << 10, 8
		want := octets(6, count*n)
		id := p.create(nil)
		p.earn(count)
		var ids []uint64
		for i := range count {
			r := p.source(want[i*n:][:n])
			io := rdmaIO{channel: smb2.ChannelRDMAV1, off: uint64(i * n), n: n}
			for k := range parts {
				io.at = append(io.at, r.Part(k*n/parts, n/parts))
			}
			ids = append(ids, p.post(io.writeRequest(id)))
		}
		for _, m := range ids {
			p.checkWrite(p.await(m), n)
		}
		p.same("file", p.content(id, len(want)), want)
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_ReadWriteMultipleBufferDescriptorList", Spec: "[MS-SMB2] 3.3.5.12, 3.3.5.13; [MS-SMBD] 3.1.4.5, 3.1.4.6",
		Microsoft: []string{"Smb2OverRdmaChannel_ReadWriteMultipleBufferDescriptorList"},
		Rows:      []string{"SM-19", "SD-101", "SD-103"},
		Doc:       "4095 descriptors, as many as a request can have, are used in their order, in both directions.",
	}, smb2Options{}, func(p *smb2Peer) {
		const count, each = 4095, 24
		const n = count*each - 7 // the last one is not full
		want := octets(7, n)
		id := p.create(nil)
		// Memory of many tokens, used in an order of our own.
		pieces := func(reg func() *Region) (at []wire.Descriptor, view func(i int) []byte) {
			const regs = 63 // times 65 is 4095
			mem := make([]*Region, regs)
			for i := range mem {
				mem[i] = reg()
			}
			for i := range count {
				at = append(at, mem[i%regs].Part(64*(count/regs-1-i/regs), each))
			}
			return at, func(i int) []byte { return mem[i%regs].Bytes[64*(count/regs-1-i/regs):][:each] }
		}
		at, view := pieces(func() *Region { return p.source(make([]byte, 64*count/63)) })
		for i, part := range slices.Collect(slices.Chunk(want, each)) {
			copy(view(i), part)
		}
		p.checkWrite(p.write(id, rdmaIO{channel: smb2.ChannelRDMAV1, n: n, at: at}), n)
		p.same("file", p.content(id, n), want)

		at, view = pieces(func() *Region { return p.sink(64 * count / 63) })
		p.checkRead(p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, n: n, at: at}), n)
		var got []byte
		for i := range count {
			got = append(got, view(i)...)
		}
		p.same("memory", got, append(bytes.Clone(want), 0, 0, 0, 0, 0, 0, 0))
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_UnevenBufferDescriptorList", Spec: "[MS-SMBD] 3.1.4.5, 3.1.4.6",
		Rows: []string{"SD-101", "SD-103", "SM-12"},
		Doc:  "Descriptors of different lengths and tokens, with one of length 0 among them and more at the end than needed; only the first one's token is invalidated.",
	}, smb2Options{}, func(p *smb2Peer) {
		const n = 4096 + 1 + 700 + 9000
		want := octets(8, n)
		id := p.create(nil)
		lengths := []int{4096, 1, 0, 700, 20000}
		io := rdmaIO{channel: smb2.ChannelRDMAV1Invalidate, n: n}
		var mem []*Region
		off := 0
		for _, l := range lengths {
			r := p.source(make([]byte, max(l, 1)))
			copy(r.Bytes, want[off:min(off+l, n)])
			off = min(off+l, n)
			mem = append(mem, r)
			io.at = append(io.at, r.Part(0, l))
		}
		a := p.write(id, io)
		p.checkWrite(a, n)
		p.checkDead(a, mem[0])
		p.oneDied(mem)
		p.same("file", p.content(id, n), want)

		io.at, mem = nil, nil
		for _, l := range lengths {
			r := p.sink(max(l, 1))
			mem = append(mem, r)
			io.at = append(io.at, r.Part(0, l))
		}
		a = p.read(id, io)
		p.checkRead(a, n)
		p.checkDead(a, mem[0])
		p.oneDied(mem)
		var got []byte
		for i, l := range lengths {
			got = append(got, mem[i].Bytes[:l]...)
		}
		p.same("memory", got[:n], want)
		p.same("memory behind what was read", got[n:], make([]byte, len(got)-n))
	}),
	remoteInvalidation("READ", "BVT_SMB2OverRdma_SMB302_Read_RemoteInvalidation"),
	remoteInvalidation("WRITE", "BVT_SMB2OverRdma_SMB302_Write_RemoteInvalidation"),
	noRemoteInvalidation("READ", "SMB2OverRdma_SMB302_Read_NoRemoteInvalidation"),
	noRemoteInvalidation("WRITE", "SMB2OverRdma_SMB302_Write_NoRemoteInvalidation"),
)

// everyDialect is one connection for each dialect that runs on RDMA.
var everyDialect = []smb2Options{
	{dialects: []smb2.Dialect{smb2.DialectSMB311}},
	{dialects: []smb2.Dialect{smb2.DialectSMB302}},
	{dialects: []smb2.Dialect{smb2.DialectSMB300}},
}

// invalidating is one connection for each dialect with Channel 2.
var invalidating = everyDialect[:2]

func descriptors(rs ...*Region) (ds []wire.Descriptor) {
	for _, r := range rs {
		ds = append(ds, r.Descriptor())
	}
	return ds
}

// oneDied checks that of many tokens only the first died.
func (p *smb2Peer) oneDied(mem []*Region) {
	for i, r := range mem[1:] {
		if r.Invalidated() {
			p.t.Errorf("token %#x of descriptor %d is dead, and only the first one was to die", r.Token, i+1)
		}
	}
}

// transfer is one READ or WRITE of content by RDMA, and where the content is.
func (p *smb2Peer) transfer(cmd string, id smb2.FileID, io rdmaIO, r *Region, content []byte) *smb2Answer {
	if cmd == "READ" {
		clear(r.Bytes)
		a := p.read(id, io)
		if p.checkRead(a, len(content)) {
			p.same("memory", r.Bytes, content)
		}
		return a
	}
	copy(r.Bytes, content)
	a := p.write(id, io)
	if p.checkWrite(a, len(content)) {
		p.same("file", p.content(id, len(content)), content)
	}
	return a
}

// rights are what a command needs.
func rights(cmd string) ndk.OpFlags {
	if cmd == "READ" {
		return ndk.AllowRemoteWrite
	}
	return ndk.AllowRemoteRead
}

// remoteInvalidation is SM-12.
func remoteInvalidation(cmd, microsoft string) Case {
	return smb2Cases(Case{
		Name: microsoft, Spec: "[MS-SMB2] 3.3.5.12, 3.3.5.13",
		Microsoft: []string{microsoft},
		Rows:      []string{"SM-12", "SM-03"},
		Doc:       "A " + cmd + " on Channel 2 in 3.0.2 and 3.1.1: the response invalidates the token of the descriptor, and who uses it again loses the connection.",
	}, invalidating, func(p *smb2Peer) {
		content := octets(9, ioSize)
		id := p.create(content)
		r := p.register(ioSize, rights(cmd))
		io := rdmaIO{channel: smb2.ChannelRDMAV1Invalidate, n: ioSize, at: descriptors(r)}
		a := p.transfer(cmd, id, io, r, content)
		p.checkDead(a, r)
		if p.t.outcome == Fail {
			return
		}
		if cmd == "READ" {
			a = p.read(id, io)
		} else {
			a = p.write(id, io)
		}
		p.expectLost(a, cmd+" with a token that is dead")
	})
}

// noRemoteInvalidation is SM-13.
func noRemoteInvalidation(cmd, microsoft string) Case {
	return smb2Cases(Case{
		Name: microsoft, Spec: "[MS-SMB2] 3.3.5.12, 3.3.5.13",
		Microsoft: []string{microsoft},
		Rows:      []string{"SM-13", "SM-03"},
		Doc:       "A " + cmd + " on Channel 1: the response invalidates nothing, and the next " + cmd + " uses the same descriptor.",
	}, everyDialect, func(p *smb2Peer) {
		id := p.create(octets(10, ioSize))
		r := p.register(ioSize, rights(cmd))
		io := rdmaIO{channel: smb2.ChannelRDMAV1, n: ioSize, at: descriptors(r)}
		for i := range 3 {
			content := octets(10, ioSize)
			if cmd == "WRITE" {
				content = octets(uint64(20+i), ioSize)
			}
			p.checkAlive(p.transfer(cmd, id, io, r, content), r)
		}
		p.deregister(r)
	})
}
