package smbdtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Several channels of a session, [MS-SMB2] 2.2.32.5, 3.3.5.5.2 and 3.3.5.15.11, and
// what a connection without RDMA is refused.

// carrier carries the SMB2 messages of one connection. Stream is one.
type carrier interface {
	SendMessage(b []byte, d time.Duration) error
	Message(d time.Duration) (UpperMessage, error)
	End() End
	Close()
}

// hosting is a carrier without RDMA: direct hosting on TCP, [MS-SMB2] 2.1.
type hosting struct {
	nc   net.Conn
	over bool
}

// maxHosted bounds a message from the server, in octets.
const maxHosted = 9 << 20

// dialTCP connects to where the server under test has direct hosting, and skips
// the case if that is not known. The end of the case closes the connection.
func dialTCP(t *T, opt smb2Options) *smb2Peer {
	if !t.TCP.IsValid() {
		t.Skipf("nothing is known of a port where the server has SMB2 over TCP")
	}
	if len(opt.dialects) == 0 {
		opt.dialects = []smb2.Dialect{smb2.DialectSMB311}
	}
	nc, err := (&net.Dialer{Timeout: t.Times.React}).DialContext(t.Context(), "tcp", t.TCP.String())
	if err != nil {
		t.Skipf("the server has no SMB2 over TCP at %v: %v", t.TCP, err)
	}
	h := &hosting{nc: nc}
	t.Cleanup(h.Close)
	t.Logf("connected to %v over TCP", t.TCP)
	return newSMB2Peer(t, h, nil, opt)
}

// SendMessage sends one message behind the four octets of its length.
func (h *hosting) SendMessage(b []byte, d time.Duration) error {
	_ = h.nc.SetWriteDeadline(time.Now().Add(d)) // fails on a closed connection, as Write does
	_, err := h.nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return h.seen(err)
}

// Message returns the next message.
func (h *hosting) Message(d time.Duration) (UpperMessage, error) {
	_ = h.nc.SetReadDeadline(time.Now().Add(d))
	var prefix [4]byte
	if _, err := io.ReadFull(h.nc, prefix[:]); err != nil {
		return UpperMessage{}, h.seen(err)
	}
	n := binary.BigEndian.Uint32(prefix[:])
	if n > maxHosted {
		return UpperMessage{}, fmt.Errorf("%w: a message of %d bytes over TCP", ErrFraming, n)
	}
	m := UpperMessage{Data: make([]byte, n)}
	_, err := io.ReadFull(h.nc, m.Data)
	return m, h.seen(err)
}

// seen notes the end of the connection.
func (h *hosting) seen(err error) error {
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return ErrSilent
	}
	h.over = true
	return ErrEnded
}

func (h *hosting) End() End { return End{Over: h.over} }
func (h *hosting) Close()   { h.nc.Close() }

// interfaceInfo is NETWORK_INTERFACE_INFO, 152 octets, [MS-SMB2] 2.2.32.5.
type interfaceInfo struct {
	index, capability uint32
	speed             uint64 // bits a second
	addr              netip.Addr
}

const (
	interfaceInfoSize = 152
	capableRDMA       = 2
)

// query is FSCTL_QUERY_NETWORK_INTERFACE_INFO. It is signed or encrypted, as a
// server need not answer otherwise.
func (p *smb2Peer) query(change func([]byte)) *smb2Answer {
	how := signed
	if p.opt.seal {
		how = sealed
	}
	return p.do(smb2Request{cmd: smb2.CommandIoctl, payload: 64 << 10, protect: how, change: change, body: &smb2.IoctlRequest{
		CtlCode: smb2.FsctlQueryNetworkInterfaceInfo, FileID: smb2.AnyFileID, MaxOutputResponse: 64 << 10, Flags: smb2.IoctlFlagIsFsctl}})
}

// needMultichannel skips the case where a server has one channel for a session.
func (p *smb2Peer) needMultichannel() {
	if p.neg.Capabilities&smb2.GlobalCapMultiChannel == 0 {
		p.t.Skipf("the server has no SMB2_GLOBAL_CAP_MULTI_CHANNEL")
	}
}

// interfaces parses the answer, octet by octet.
func (p *smb2Peer) interfaces(a *smb2Answer) (infos []interfaceInfo) {
	p.must(a, "FSCTL_QUERY_NETWORK_INTERFACE_INFO")
	le := binary.LittleEndian
	body := a.msg[smb2.HeaderSize:]
	if len(body) < 48 {
		p.t.Fatalf("IOCTL response of %d octets behind the header, want 48 or more", len(body))
	}
	off, n := uint64(le.Uint32(body[32:])), uint64(le.Uint32(body[36:]))
	if off%8 != 0 || off < smb2.HeaderSize+48 || off+n > uint64(len(a.msg)) || n == 0 {
		p.t.Fatalf("IOCTL response: OutputOffset %d and OutputCount %d in a message of %d octets", off, n, len(a.msg))
	}
	if id := string(body[8:24]); id != "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" {
		p.t.Errorf("IOCTL response: FileId % x, want all ones", id)
	}
	if v := le.Uint32(body[40:]); v != 0 {
		p.t.Errorf("IOCTL response: Flags %#x, want 0", v)
	}
	for b := a.msg[off : off+n]; ; {
		if len(b) < interfaceInfoSize {
			p.t.Fatalf("NETWORK_INTERFACE_INFO %d has %d octets, want %d", len(infos), len(b), interfaceInfoSize)
		}
		i := interfaceInfo{index: le.Uint32(b[4:]), capability: le.Uint32(b[8:]), speed: le.Uint64(b[16:])}
		if v := le.Uint32(b[12:]); v != 0 {
			p.t.Errorf("NETWORK_INTERFACE_INFO %d: Reserved %#x, want 0", len(infos), v)
		}
		switch family := le.Uint16(b[24:]); family {
		case 2:
			i.addr = netip.AddrFrom4([4]byte(b[28:]))
		case 0x17:
			i.addr = netip.AddrFrom16([16]byte(b[32:])).Unmap()
		default:
			p.t.Errorf("NETWORK_INTERFACE_INFO %d: Family %#x, want 2 or 0x17", len(infos), family)
		}
		if port := le.Uint16(b[26:]); port != 0 {
			p.t.Errorf("NETWORK_INTERFACE_INFO %d: Port %d, want 0", len(infos), port)
		}
		if i.index == 0 {
			p.t.Errorf("NETWORK_INTERFACE_INFO %d: IfIndex 0", len(infos))
		}
		if i.speed == 0 {
			p.t.Errorf("NETWORK_INTERFACE_INFO %d: LinkSpeed 0", len(infos))
		}
		if i.capability&^3 != 0 {
			p.t.Errorf("NETWORK_INTERFACE_INFO %d: Capability %#x, want bits of 0x3", len(infos), i.capability)
		}
		p.t.Logf("interface %d: %v, capability %#x, %d bit/s", i.index, i.addr, i.capability, i.speed)
		infos = append(infos, i)
		next := le.Uint32(b)
		if next == 0 {
			if len(b) > interfaceInfoSize+7 {
				p.t.Errorf("%d octets behind the last NETWORK_INTERFACE_INFO", len(b)-interfaceInfoSize)
			}
			return infos
		}
		if next%8 != 0 || next < interfaceInfoSize || uint64(next) > uint64(len(b)) {
			p.t.Fatalf("NETWORK_INTERFACE_INFO %d: Next %d of %d octets", len(infos), next, len(b))
		}
		b = b[next:]
	}
}

// listed checks that the address that is spoken to is among the interfaces, with
// RDMA. Loopback need not be: it is of no use to clients elsewhere.
func (p *smb2Peer) listed(infos []interfaceInfo) {
	at := p.t.Address.Addr().Unmap()
	for _, i := range infos {
		if i.addr == at && i.capability&capableRDMA != 0 {
			return
		}
	}
	if at.IsLoopback() {
		p.t.Logf("%v is not listed with RDMA, as it is loopback", at)
		return
	}
	p.t.Errorf("no interface has the address %v and RDMA_CAPABLE", at)
}

// bind makes another connection a channel of p's session, [MS-SMB2] 3.2.4.2.3 and
// 3.3.5.5.2. It has the session's identity and keys, and a signing key of its own.
func (p *smb2Peer) bind(c *smb2Peer) {
	c.guid = p.guid
	c.must(c.sendNegotiate(c.contexts()), "NEGOTIATE of the second channel")
	if c.dialect != p.dialect || c.cipher != p.cipher {
		c.t.Fatalf("the second channel has dialect %v and cipher %v, the first %v and %v", c.dialect, c.cipher, p.dialect, p.cipher)
	}
	c.opt.sign, c.opt.seal = p.opt.sign, p.opt.seal
	c.keys, c.signer, c.sealer, c.opener = p.keys, p.signer, p.sealer, p.opener
	c.nonces = p.nonces
	c.logon(p.sid, smb2.SessionSetupFlagBinding)
	if c.sid != p.sid {
		c.t.Fatalf("the binding ended with session %#x, want %#x", c.sid, p.sid)
	}
	c.tid = p.tid
}

// twoChannels reads over the second channel, by RDMA, what was written over the
// first, and the other way round; then the first channel ends and the second goes
// on.
func twoChannels(first, second *smb2Peer) {
	content := octets(50, ioSize)
	id := first.create(content)
	first.bind(second)
	if missing := second.plainMissing(); missing != "" {
		second.t.Skipf("%s", missing)
	}
	r := second.sink(ioSize)
	a := second.read(id, rdmaIO{channel: smb2.ChannelRDMAV1Invalidate, n: ioSize, at: descriptors(r)})
	if second.checkRead(a, ioSize) {
		second.same("memory", r.Bytes, content)
	}
	content = octets(51, ioSize)
	second.checkWrite(second.write(id, rdmaIO{channel: smb2.ChannelRDMAV1, n: ioSize, at: descriptors(second.source(content))}), ioSize)
	first.same("file over the first channel", first.content(id, ioSize), content)
	first.finish()
	first.carrier.Close()
	second.same("file when the first channel has ended", second.content(id, ioSize), content)
	second.finish()
}

var _ = register(
	smb2Case(Case{
		Name: "Smb2Multichannel_QueryNetworkInterfaceInfo", Spec: "[MS-SMB2] 2.2.32.5, 3.3.5.15.11",
		Rows: []string{"SM-31", "SM-32"},
		Doc:  "The list of interfaces: elements of 152 octets, 8-aligned, none of IfIndex 0, with the address that is spoken to marked RDMA_CAPABLE.",
	}, smb2Options{noData: true}, func(p *smb2Peer) {
		p.needMultichannel()
		p.listed(p.interfaces(p.query(nil)))
	}),
	smb2Case(Case{
		Name: "Smb2Multichannel_QueryNetworkInterfaceInfo_FileId", Spec: "[MS-SMB2] 3.3.5.15",
		Rows: []string{"SM-32"},
		Doc:  "FSCTL_QUERY_NETWORK_INTERFACE_INFO with a FileId other than all ones is STATUS_INVALID_PARAMETER.",
	}, smb2Options{noData: true}, func(p *smb2Peer) {
		p.needMultichannel()
		for _, at := range []int{72, 80, 87} { // FileId is at 72
			a := p.query(func(b []byte) { b[at] ^= 1 })
			p.expect(a, "FSCTL_QUERY_NETWORK_INTERFACE_INFO with another FileId", ntstatus.InvalidParameter)
			p.expectAlive("it")
		}
	}),
	smb2Raw(Case{
		Name: "Smb2Multichannel_2Channels_SMBDirect", Spec: "[MS-SMB2] 3.3.5.5.2",
		Rows: []string{"SM-32"},
		Doc:  "A second SMB Direct connection is bound to the session; each channel sees what the other wrote, and the second outlives the first.",
	}, func(t *T) {
		first := dialSMB2(t, smb2Options{})
		if missing := first.loginForRDMA(); missing != "" {
			t.Skipf("%s", missing)
		}
		first.needMultichannel()
		twoChannels(first, dialSMB2(t, smb2Options{}))
	}),
	smb2Raw(Case{
		Name: "BVT_Smb2MultiChannel_2Channels_DiffNicTypeDiffTransport", Spec: "[MS-SMB2] 3.3.5.5.2, 3.3.5.15.11",
		Microsoft: []string{"BVT_Smb2MultiChannel_2Channels_DiffNicTypeDiffTransport", "Smb2Multichannel_2Channels_DiffTransport"},
		Rows:      []string{"SM-31", "SM-32"},
		Doc:       "A session begins on TCP, asks for the interfaces, finds the one with RDMA and gets an SMB Direct connection as its second channel, which outlives the first.",
	}, func(t *T) {
		first := dialTCP(t, smb2Options{})
		if missing := first.login(); missing != "" {
			t.Skipf("%s", missing)
		}
		first.needMultichannel()
		first.listed(first.interfaces(first.query(nil)))
		twoChannels(first, dialSMB2(t, smb2Options{}))
	}),
	smb2Raw(Case{
		Name: "Smb2OverTCP_RdmaChannels_Fail", Spec: "[MS-SMB2] 3.3.5.12, 3.3.5.13",
		Rows: []string{"SM-10", "SM-16"},
		Doc:  "READ and WRITE by RDMA on a connection that has none are STATUS_INVALID_PARAMETER.",
	}, func(t *T) {
		for _, d := range []smb2.Dialect{smb2.DialectSMB311, smb2.DialectSMB302, smb2.DialectSMB300} {
			p := dialTCP(t, smb2Options{dialects: []smb2.Dialect{d}})
			if missing := p.login(); missing != "" {
				t.Logf("left out: %s", missing)
				continue
			}
			content := octets(52, 4096)
			id := p.create(content)
			info := make([]byte, 16)
			binary.LittleEndian.PutUint32(info[8:], 0x1234)
			binary.LittleEndian.PutUint32(info[12:], 4096)
			for ch := smb2.Channel(1); ch <= 3; ch++ {
				io := rdmaIO{channel: ch, n: 4096, info: info}
				p.expect(p.read(id, io), fmt.Sprintf("READ on Channel %d over TCP, dialect %v", ch, d), ntstatus.InvalidParameter)
				p.expect(p.write(id, io), fmt.Sprintf("WRITE on Channel %d over TCP, dialect %v", ch, d), ntstatus.InvalidParameter)
				p.expectAlive("it")
			}
			p.same("file", p.content(id, 4096), content)
			p.finish()
		}
	}),
)
