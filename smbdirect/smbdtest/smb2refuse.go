package smbdtest

import (
	"encoding/binary"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// Requests by RDMA that a server refuses, [MS-SMB2] 3.3.5.12 and 3.3.5.13, and
// descriptors that are wrong in a way that only the client's adapter sees.

// Offsets of fields of a READ and a WRITE request from the SMB2 header, [MS-SMB2]
// 2.2.19 and 2.2.21.
const (
	readLengthAt      = 68
	readChannelAt     = 100
	readInfoOffset    = 108
	readInfoLength    = 110
	readBuffer        = 112
	writeDataOffsetAt = 66
	writeLengthAt     = 68
	writeChannelAt    = 96
	writeRemaining    = 100
	writeInfoOffset   = 104
	writeInfoLength   = 106
	writeBuffer       = 112
)

func put16(off int, v uint16) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint16(b[off:], v) }
}

func put32(off int, v uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[off:], v) }
}

// refused is one request that gets a status.
type refused struct {
	name   string
	change func(b []byte)
	io     func(io *rdmaIO, r *Region) // how it differs from a good one
	want   []ntstatus.Status           // STATUS_INVALID_PARAMETER if empty
}

// refuse sends requests that are wrong, and checks after each that the memory,
// the file and the connection are as before.
func (p *smb2Peer) refuse(cmd string, rows []refused) {
	content := octets(11, ioSize)
	id := p.create(content)
	ch := smb2.ChannelRDMAV1
	for _, row := range rows {
		r := p.register(ioSize, rights(cmd))
		io := rdmaIO{channel: ch, n: ioSize, at: descriptors(r), change: row.change}
		if row.io != nil {
			row.io(&io, r)
		}
		want := row.want
		if len(want) == 0 {
			want = []ntstatus.Status{ntstatus.InvalidParameter}
		}
		what := cmd + " with " + row.name
		var a *smb2Answer
		if cmd == "READ" {
			a = p.read(id, io)
		} else {
			copy(r.Bytes, octets(12, ioSize))
			a = p.write(id, io)
		}
		p.expect(a, what, want...)
		if a.lost != nil {
			p.t.Fatalf("%s: the connection is gone", what)
		}
		p.checkErrorToken(a, &io)
		if cmd == "READ" {
			p.untouched(r)
		}
		p.expectAlive(what)
	}
	p.same("file", p.content(id, ioSize), content)
}

// lose sends one request with a descriptor that our own adapter refuses.
func lose(c Case, cmd string, forge func(p *smb2Peer, r *Region) []wire.Descriptor) Case {
	c.Spec = "[MS-SMBD] 3.1.4.5, 3.1.4.6; [MS-SMB2] 3.3.5.12, 3.3.5.13"
	if cmd == "WRITE" {
		c.Name += "_Write"
	}
	c.Rows = append([]string{"SD-108"}, c.Rows...)
	return smb2Case(c, smb2Options{}, func(p *smb2Peer) {
		content := octets(13, ioSize)
		id := p.create(content)
		r := p.register(ioSize, rights(cmd))
		at := forge(p, r)
		io := rdmaIO{channel: smb2.ChannelRDMAV1, n: ioSize, at: at}
		if cmd == "READ" {
			p.expectLost(p.read(id, io), "READ into memory that is not there")
			p.untouched(r)
		} else {
			p.expectLost(p.write(id, io), "WRITE of memory that is not there")
		}
	})
}

var _ = register(wrongDescriptors()...)

func wrongDescriptors() (cases []Case) {
	for _, cmd := range []string{"READ", "WRITE"} {
		cases = append(cases,
			lose(Case{
				Name: "Smb2OverRdmaChannel_InvalidBufferDescriptor_Offset", Microsoft: []string{"Smb2OverRdmaChannel_InvalidBufferDescriptor_Offset"},
				Doc: "The Offset of a descriptor lies behind the memory: the connection is lost, and the server lives.",
			}, cmd, func(p *smb2Peer, r *Region) []wire.Descriptor { return []wire.Descriptor{r.Part(ioSize+1, ioSize)} }),
			lose(Case{
				Name: "Smb2OverRdmaChannel_InvalidBufferDescriptor_OffsetBefore",
				Doc:  "A descriptor begins an octet before the memory.",
			}, cmd, func(p *smb2Peer, r *Region) []wire.Descriptor { return []wire.Descriptor{r.Part(-1, ioSize)} }),
			lose(Case{
				Name: "Smb2OverRdmaChannel_InvalidBufferDescriptor_Length", Microsoft: []string{"Smb2OverRdmaChannel_InvalidBufferDescriptor_Length"},
				Rows: []string{"SD-100"},
				Doc:  "The memory is an octet shorter than the Length of its descriptor.",
			}, cmd, func(p *smb2Peer, r *Region) []wire.Descriptor {
				short := p.register(ioSize-1, rights(cmd))
				return []wire.Descriptor{short.Part(0, ioSize)}
			}),
			lose(Case{
				Name: "Smb2OverRdmaChannel_InvalidBufferDescriptor_Token", Microsoft: []string{"Smb2OverRdmaChannel_InvalidBufferDescriptor_Token"},
				Rows: []string{"SD-100"},
				Doc:  "The Token of a descriptor is one more than that of the memory.",
			}, cmd, func(p *smb2Peer, r *Region) []wire.Descriptor {
				d := r.Descriptor()
				d.Token++
				return []wire.Descriptor{d}
			}),
			lose(Case{
				Name: "Smb2OverRdmaChannel_InvalidBufferDescriptor_SecondToken", Rows: []string{"SD-103"},
				Doc: "The first of two descriptors is good, and the second one's Token is nobody's.",
			}, cmd, func(p *smb2Peer, r *Region) []wire.Descriptor {
				// The first part may be moved before the second one fails.
				good := p.register(ioSize, rights(cmd))
				d := r.Part(0, ioSize/2)
				d.Token ^= 0x5A00
				return []wire.Descriptor{good.Part(0, ioSize/2), d}
			}),
			lose(Case{
				Name: "Smb2OverRdmaChannel_InvalidBufferDescriptor_DeregisteredBuffer", Microsoft: []string{"Smb2OverRdmaChannel_InvalidBufferDescriptor_DeregisteredBuffer"},
				Rows: []string{"SD-102"},
				Doc:  "The memory was deregistered before the request.",
			}, cmd, func(p *smb2Peer, r *Region) []wire.Descriptor {
				p.deregister(r)
				return descriptors(r)
			}),
			lose(Case{
				Name: "Smb2OverRdmaChannel_InvalidBufferDescriptor_Right", Rows: []string{"SD-100"},
				Doc: "The memory has the other right than the one that is needed.",
			}, cmd, func(p *smb2Peer, r *Region) []wire.Descriptor {
				other := rights("READ") ^ rights("WRITE") ^ rights(cmd)
				return descriptors(p.register(ioSize, other))
			}),
			smb2Case(Case{
				Name: "Smb2OverRdmaChannel_DescriptorWraps_" + cmd, Spec: "[MS-SMBD] 3.1.4.5, 3.1.4.6",
				Rows: []string{"SD-104"},
				Doc:  "Offset and Length of a descriptor go beyond 64 bits: an error that does not touch the memory, or the end of the connection.",
			}, smb2Options{}, func(p *smb2Peer) {
				content := octets(19, ioSize)
				id := p.create(content)
				r := p.register(ioSize, rights(cmd))
				d := r.Descriptor()
				d.Offset = ^uint64(0) - 100
				io := rdmaIO{channel: smb2.ChannelRDMAV1, n: ioSize, at: []wire.Descriptor{d}}
				if cmd == "READ" {
					a := p.read(id, io)
					if a.lost == nil {
						p.expect(a, "READ", ntstatus.InvalidParameter)
					}
					p.untouched(r)
					return
				}
				if a := p.write(id, io); a.lost == nil {
					p.expect(a, "WRITE", ntstatus.InvalidParameter)
					p.same("file", p.content(id, ioSize), content)
				}
			}),
			smb2Case(Case{
				Name: "Smb2OverRdmaChannel_DescriptorSum_" + cmd, Spec: "[MS-SMBD] 3.1.4.5, 3.1.4.6",
				Rows: []string{"SD-104", "SM-15"},
				Doc:  "Lengths of descriptors whose sum goes beyond 32 bits are not taken for a small one: what fits in the first one is moved.",
			}, smb2Options{}, func(p *smb2Peer) {
				content := octets(14, ioSize)
				id := p.create(content)
				r := p.register(ioSize, rights(cmd))
				d := r.Descriptor()
				d.Length = 1<<32 - ioSize // two of them and twice ioSize are 2^33
				io := rdmaIO{channel: smb2.ChannelRDMAV1, n: ioSize, at: []wire.Descriptor{d, d, r.Descriptor(), r.Descriptor()}}
				p.transfer(cmd, id, io, r, content)
			}),
		)
	}
	return cases
}

var _ = register(
	smb2Cases(Case{
		Name: "Smb2OverRdmaChannel_ChannelValues", Spec: "[MS-SMB2] 2.2.19, 2.2.21, 3.3.5.12, 3.3.5.13",
		Rows: []string{"SM-03", "SM-09"},
		Doc:  "A Channel that the dialect does not have is STATUS_INVALID_PARAMETER: 3 for READ everywhere, for WRITE below 3.1.1 or where no transform was negotiated, and every greater one.",
	}, everyDialect, func(p *smb2Peer) {
		for _, ch := range []uint32{3, 4, 0x80000001, 0xFFFFFFFF} {
			p.refuse("READ", []refused{{name: fmt.Sprintf("Channel %d", ch), change: put32(readChannelAt, ch)}})
			p.refuse("WRITE", []refused{{name: fmt.Sprintf("Channel %d", ch), change: put32(writeChannelAt, ch)}})
		}
	}),
	smb2Case(Case{
		Name: "SMB2OverRdma_SMB300_Read_RemoteInvalidation", Spec: "[MS-SMB2] 3.3.5.12",
		Microsoft: []string{"SMB2OverRdma_SMB300_Read_RemoteInvalidation"},
		Rows:      []string{"SM-09"},
		Doc:       "READ on Channel 2 in dialect 3.0 is STATUS_INVALID_PARAMETER. Older editions of Microsoft's suite expect a success that invalidates nothing; the document is followed here.",
	}, smb2Options{dialects: []smb2.Dialect{smb2.DialectSMB300}}, func(p *smb2Peer) {
		p.refuse("READ", []refused{{name: "Channel 2 in 3.0", io: onInvalidate}})
	}),
	smb2Case(Case{
		Name: "SMB2OverRdma_SMB300_Write_RemoteInvalidation", Spec: "[MS-SMB2] 3.3.5.13",
		Microsoft: []string{"SMB2OverRdma_SMB300_Write_RemoteInvalidation"},
		Rows:      []string{"SM-09", "SM-03"},
		Doc:       "WRITE on Channel 2 in dialect 3.0 is STATUS_INVALID_PARAMETER; see SMB2OverRdma_SMB300_Read_RemoteInvalidation.",
	}, smb2Options{dialects: []smb2.Dialect{smb2.DialectSMB300}}, func(p *smb2Peer) {
		p.refuse("WRITE", []refused{{name: "Channel 2 in 3.0", io: onInvalidate}})
	}),
	smb2Cases(Case{
		Name: "Smb2OverRdmaChannel_ReadFields", Spec: "[MS-SMB2] 3.3.5.12",
		Rows: []string{"SM-10", "SM-19"},
		Doc:  "READ by RDMA with a Length, ReadChannelInfoOffset or ReadChannelInfoLength of 0, or channel information that is no list of descriptors inside the message.",
	}, everyDialect, func(p *smb2Peer) {
		p.refuse("READ", append(infoRows(readInfoOffset, readInfoLength),
			refused{name: "Length 0", change: put32(readLengthAt, 0)}))
	}),
	smb2Cases(Case{
		Name: "Smb2OverRdmaChannel_WriteFields", Spec: "[MS-SMB2] 3.3.5.13",
		Rows: []string{"SM-16", "SM-17", "SM-19"},
		Doc:  "WRITE by RDMA with a Length or DataOffset, without RemainingBytes or channel information, or with channel information that is no list of descriptors inside the message.",
	}, everyDialect, func(p *smb2Peer) {
		p.refuse("WRITE", append(infoRows(writeInfoOffset, writeInfoLength),
			refused{name: "Length 16", change: put32(writeLengthAt, 16)},
			refused{name: "DataOffset 112", change: put16(writeDataOffsetAt, writeBuffer)},
			refused{name: "RemainingBytes 0", change: put32(writeRemaining, 0)},
		))
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_WriteSizes", Spec: "[MS-SMB2] 3.3.5.13",
		Rows: []string{"SM-17"},
		Doc:  "WRITE by RDMA of more than MaxWriteSize, of more than the descriptors have, or with a first descriptor of length 0.",
	}, smb2Options{}, func(p *smb2Peer) {
		most := p.neg.MaxWriteSize
		p.refuse("WRITE", []refused{
			{name: "RemainingBytes above MaxWriteSize", change: put32(writeRemaining, most+1), io: func(io *rdmaIO, r *Region) {
				d := r.Descriptor()
				d.Length = most + 1
				io.at = []wire.Descriptor{d}
				io.charge = smb2.CreditCharge(int(most) + 1)
			}},
			{name: "RemainingBytes 0xFFFFFFFF", change: put32(writeRemaining, 0xFFFFFFFF), io: func(io *rdmaIO, r *Region) {
				d := r.Descriptor()
				d.Length = 0xFFFFFFFF
				io.at = []wire.Descriptor{d}
			}},
			{name: "a first descriptor of length 0", io: func(io *rdmaIO, r *Region) {
				io.at = []wire.Descriptor{r.Part(0, 0), r.Descriptor()}
			}},
			{name: "descriptors that are an octet short", io: func(io *rdmaIO, r *Region) {
				io.at = []wire.Descriptor{r.Part(0, ioSize/2), r.Part(ioSize/2, ioSize/2-1)}
			}},
		})
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_ReadDescriptorsShort", Spec: "[MS-SMB2] 3.3.5.12",
		Rows: []string{"SM-15"},
		Doc:  "READ into descriptors that have not room for what there is to return is STATUS_INVALID_PARAMETER without an RDMA Write; a Length greater than they are is none where the file ends before.",
	}, smb2Options{}, func(p *smb2Peer) {
		p.refuse("READ", []refused{
			{name: "descriptors that are an octet short", io: func(io *rdmaIO, r *Region) {
				io.at = []wire.Descriptor{r.Part(0, ioSize/2), r.Part(ioSize/2, ioSize/2-1)}
			}},
			{name: "one descriptor of length 0", io: func(io *rdmaIO, r *Region) {
				io.at = []wire.Descriptor{r.Part(0, 0)}
			}},
			{name: "half a descriptor's length, on Channel 2", io: func(io *rdmaIO, r *Region) {
				io.channel = smb2.ChannelRDMAV1Invalidate
				io.at = []wire.Descriptor{r.Part(0, ioSize/2)}
			}},
		})
		content := octets(15, 100)
		id := p.create(content)
		r := p.sink(ioSize)
		p.checkRead(p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, n: ioSize, at: []wire.Descriptor{r.Part(0, 100)}}), 100)
		p.same("memory", r.Bytes, append(content, make([]byte, ioSize-100)...))
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_ReadEnd", Spec: "[MS-SMB2] 3.3.5.12",
		Rows: []string{"SM-14", "SM-11"},
		Doc:  "READ at and behind the end of the file, and of less than MinimumCount, is STATUS_END_OF_FILE and writes nothing; READ across the end says in DataRemaining how much there was.",
	}, smb2Options{}, func(p *smb2Peer) {
		const size = 10_000
		content := octets(16, size)
		id := p.create(content)
		for _, row := range []struct {
			name  string
			off   uint64
			least uint32
			ch    smb2.Channel
		}{
			{"at the end", size, 0, smb2.ChannelRDMAV1},
			{"behind the end", size + 4096, 0, smb2.ChannelRDMAV1Invalidate},
			{"far behind the end", 1 << 40, 0, smb2.ChannelRDMAV1},
			{"with MinimumCount 10001", 0, size + 1, smb2.ChannelRDMAV1},
			{"with MinimumCount 2 of one octet", size - 1, 2, smb2.ChannelRDMAV1Invalidate},
		} {
			r := p.sink(ioSize)
			io := rdmaIO{channel: row.ch, off: row.off, n: ioSize, least: row.least, at: descriptors(r)}
			a := p.read(id, io)
			p.expect(a, "READ "+row.name, ntstatus.EndOfFile)
			p.checkErrorToken(a, &io)
			p.untouched(r)
		}
		r := p.sink(ioSize)
		p.checkRead(p.read(id, rdmaIO{channel: smb2.ChannelRDMAV1, off: 1000, n: ioSize, least: size - 1000, at: descriptors(r)}), size-1000)
		p.same("memory", r.Bytes, append(content[1000:], make([]byte, ioSize-size+1000)...))
	}),
	smb2Case(Case{
		Name: "Smb2OverRdmaChannel_MultiCredit", Spec: "[MS-SMB2] 3.3.5.2.5, 3.3.5.3.1, 3.3.5.4",
		Rows: []string{"SM-02"},
		Doc:  "The server has multi-credit on RDMA as on port 445: SMB2_GLOBAL_CAP_LARGE_MTU, READs of more than 64 KiB, and STATUS_INVALID_PARAMETER for a READ that pays too little.",
	}, smb2Options{}, func(p *smb2Peer) {
		if p.neg.Capabilities&smb2.GlobalCapLargeMTU == 0 {
			p.t.Errorf("NEGOTIATE response: Capabilities %#x have no SMB2_GLOBAL_CAP_LARGE_MTU", uint32(p.neg.Capabilities))
		}
		const n = 3*64<<10 + 1 // four credits
		if p.neg.MaxReadSize < n {
			p.t.Fatalf("NEGOTIATE response: MaxReadSize is %d, want more than 65536", p.neg.MaxReadSize)
		}
		content := octets(17, n)
		id := p.create(content)
		r := p.sink(n)
		io := rdmaIO{channel: smb2.ChannelRDMAV1, n: n, at: descriptors(r)}
		for _, charge := range []uint16{1, 3} {
			io.charge = charge
			p.expect(p.read(id, io), fmt.Sprintf("READ of %d octets with CreditCharge %d", n, charge), ntstatus.InvalidParameter)
			p.untouched(r)
		}
		io.charge = 4
		p.checkRead(p.read(id, io), n)
		p.same("memory", r.Bytes, content)
	}),
)

func onInvalidate(io *rdmaIO, r *Region) { io.channel = smb2.ChannelRDMAV1Invalidate }

// infoRows are wrong in the channel information whose offset and length are at
// these places. Buffer begins at 112 in both requests.
func infoRows(offset, length int) []refused {
	both := func(o, l uint16) func([]byte) {
		return func(b []byte) { put16(offset, o)(b); put16(length, l)(b) }
	}
	return []refused{
		{name: "ChannelInfoOffset 0", change: put16(offset, 0)},
		{name: "ChannelInfoLength 0", change: put16(length, 0)},
		{name: "no channel information", change: both(0, 0)},
		{name: "ChannelInfoLength 8", change: put16(length, 8)},
		{name: "ChannelInfoLength 17", change: put16(length, 17)},
		{name: "ChannelInfoLength 32, beyond the message", change: put16(length, 32)},
		{name: "ChannelInfoLength 0xFFF0, beyond the message", change: put16(length, 0xFFF0)},
		{name: "ChannelInfoOffset beyond the message", change: put16(offset, 0x1000)},
		{name: "offset and length that go beyond 16 bits", change: both(0xFFF0, 0x20)},
	}
}
