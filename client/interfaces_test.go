package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// SM-31, SM-33: what a server lists is sorted and bounded, whatever it says.
func TestSM31InterfaceGroups(t *testing.T) {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	flood := make([]NetworkInterface, 0, 500)
	for i := range 500 {
		flood = append(flood, NetworkInterface{Index: uint32(i + 1), Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), RDMA: true})
	}
	one := make([]NetworkInterface, 0, 500)
	for _, i := range flood {
		i.Index = 9
		one = append(one, i)
	}
	for _, c := range []struct {
		name string
		list []NetworkInterface
		rdma bool
		want []uint32 // the indices, in order
	}{
		{"nothing", nil, true, nil},
		{"by speed", []NetworkInterface{{Index: 1, Addr: a("10.0.0.1"), LinkSpeed: 1e9}, {Index: 2, Addr: a("10.0.0.2"), LinkSpeed: 1e11}}, false, []uint32{2, 1}},
		{"RSS before speed", []NetworkInterface{{Index: 1, Addr: a("10.0.0.1"), LinkSpeed: 1e12}, {Index: 2, Addr: a("10.0.0.2"), RSS: true}}, false, []uint32{2, 1}},
		{"with and without RDMA", []NetworkInterface{{Index: 1, Addr: a("10.0.0.1"), RDMA: true}, {Index: 1, Addr: a("10.0.0.1")}}, true, []uint32{1}},
		{"two addresses of one", []NetworkInterface{{Index: 1, Addr: a("10.0.0.1")}, {Index: 1, Addr: a("2001:db8::1")}}, false, []uint32{1}},
		{"addresses that lead nowhere", []NetworkInterface{{Index: 1}, {Index: 2, Addr: a("0.0.0.0")}, {Index: 3, Addr: a("224.0.0.1")},
			{Index: 4, Addr: a("fe80::1")}, {Index: 5, Addr: a("ff02::1")}}, false, nil},
		{"a speed beyond reason", []NetworkInterface{{Index: 1, Addr: a("10.0.0.1"), LinkSpeed: 1<<64 - 1}, {Index: 2, Addr: a("10.0.0.2"), LinkSpeed: 1e9}}, false, []uint32{1, 2}},
	} {
		var got []uint32
		for _, g := range groups(c.list, c.rdma) {
			got = append(got, g[0].Index)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if n := len(groups(flood, true)); n != maxInterfaces {
		t.Errorf("%d interfaces of 500, want %d", n, maxInterfaces)
	}
	mixed := slices.Concat(flood[:10], one, flood[10:])
	total := 0
	for _, g := range groups(mixed, true) {
		total += len(g)
	}
	if total != maxInterfaces {
		t.Errorf("%d addresses of %d, want %d", total, len(mixed), maxInterfaces)
	}
	if g := groups(one, true); len(g) != 1 || len(g[0]) != maxInterfaces {
		t.Errorf("%d interfaces, want 1 with %d addresses", len(g), maxInterfaces)
	}
}

// Config.Channels.Max connections are spread over the interfaces, the best first.
func TestChannelsAreSpread(t *testing.T) {
	list := []server.Interface{
		{Index: 1, Speed: 1e9, Addr: netip.MustParseAddr("192.0.2.1")},
		{Index: 2, Speed: 10e9, RSS: true, RDMA: true, Addr: netip.MustParseAddr("192.0.2.2")},
		{Index: 3, Speed: 25e9, RSS: true, RDMA: true, Addr: netip.MustParseAddr("192.0.2.3")},
	}
	for _, c := range []struct {
		max     int
		refused bool // RDMA
		want    map[uint32]int
	}{
		{0, false, map[uint32]int{0: 1, 2: 1, 3: 1}},
		{1, false, map[uint32]int{0: 1, 3: 1}},
		{3, false, map[uint32]int{0: 1, 2: 1, 3: 2}},
		{3, true, map[uint32]int{0: 1, 1: 2}},
	} {
		m := newMultiSite(t, func(cfg *server.Config) { cfg.Interfaces = func() []server.Interface { return list } })
		if c.refused {
			m.refuseWith(true, errors.New("no"))
		}
		s := m.start(t, Config{Channels: ChannelConfig{Max: c.max, Retry: time.Hour}})
		got := map[uint32]int{}
		for _, ch := range s.Channels() {
			got[ch.Interface.Index]++ // 0: the first, whose address says nothing
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("Max %d, RDMA refused %v: channels by interface %v, want %v", c.max, c.refused, got, c.want)
		}
		must(t, s.Close())
	}
}

// SM-31, SM-33: whatever a server lists, the session goes on, what is dialled is
// bounded, and RDMAStatus says what is wrong.
func TestSM33HostileInterfaceLists(t *testing.T) {
	entry := func(next, index uint32, addr string, capability uint32) []byte {
		b := smb2.AppendNetworkInterfaceInfos(nil, []smb2.NetworkInterfaceInfo{
			{IfIndex: index, Capability: capability, LinkSpeed: 1<<64 - 1, Addr: netip.MustParseAddr(addr)}})
		b[0], b[1], b[2], b[3] = byte(next), byte(next>>8), byte(next>>16), byte(next>>24)
		return b
	}
	var flood []byte
	for i := range 400 {
		next := uint32(152)
		if i == 399 {
			next = 0
		}
		flood = append(flood, entry(next, uint32(i+1), fmt.Sprintf("198.51.%d.%d", 100+i/250, i%250+1), smb2.InterfaceRDMACapable)...)
	}
	for _, c := range []struct {
		name string
		list []byte
		most int // dials of the first attempt
		why  string
	}{
		{"nothing", nil, 0, "none of the server's 0 interfaces"},
		{"cut off", entry(0, 1, "198.51.100.1", 2)[:151], 0, "list of interfaces"},
		{"Next beyond the end", entry(1<<31, 1, "198.51.100.1", 2), 0, "list of interfaces"},
		{"Next to itself", entry(1, 1, "198.51.100.1", 2), 0, "list of interfaces"},
		{"Next unaligned", append(entry(153, 1, "198.51.100.1", 2), make([]byte, 160)...), 1, ""},
		{"addresses of nobody", append(entry(152, 1, "0.0.0.0", 2), entry(0, 2, "239.0.0.1", 2)...), 0, "none of the server's 0 interfaces"},
		{"far too many", flood, maxInterfaces, "no route"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := newFake(t, linkConfig{})
			f.auth, f.caps = true, smb2.GlobalCapLargeMTU|smb2.GlobalCapMultiChannel
			f.on[smb2.CommandIoctl] = func(f *fake, h smb2.Header, msg []byte) bool {
				f.reply(h, 0, &smb2.IoctlResponse{CtlCode: smb2.FsctlQueryNetworkInterfaceInfo, FileID: smb2.AnyFileID, Output: c.list})
				return true
			}
			var dials atomic.Int32
			s, err := f.start(l, Config{Channels: ChannelConfig{Retry: time.Hour, Dial: func(context.Context, NetworkInterface) (transport.Conn, error) {
				dials.Add(1)
				return nil, errors.New("no route")
			}}})
			must(t, err)
			s.AwaitChannels(context.Background())
			used, why := s.RDMAStatus()
			if n := int(dials.Load()); used || n > c.most || !bytes.Contains([]byte(why), []byte(c.why)) {
				t.Errorf("%d dials, at most %d wanted; RDMAStatus %v, %q, want %q", n, c.most, used, why, c.why)
			}
			must(t, s.Err())
			must(t, s.Echo(context.Background()))
		})
	}
}

// at is a connection to an address.
type at struct {
	transport.Conn
	remote string
}

func (c at) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.remote)) }

// SM-33: a server somewhere else has no say in which services of this machine are
// spoken to.
func TestSM33LoopbackIsNotElsewhere(t *testing.T) {
	list := smb2.AppendNetworkInterfaceInfos(nil, []smb2.NetworkInterfaceInfo{
		{IfIndex: 1, Capability: smb2.InterfaceRDMACapable, Addr: netip.MustParseAddr("127.0.0.1")},
		{IfIndex: 2, Capability: smb2.InterfaceRDMACapable, Addr: netip.MustParseAddr("::1")},
		{IfIndex: 3, Capability: smb2.InterfaceRDMACapable, Addr: netip.MustParseAddr("198.51.100.1")},
	})
	for remote, want := range map[string]int{"192.0.2.1:445": 1, "127.0.0.1:445": 3, "[::1]:445": 3} {
		f, l := newFake(t, linkConfig{})
		f.auth, f.caps = true, smb2.GlobalCapLargeMTU|smb2.GlobalCapMultiChannel
		f.on[smb2.CommandIoctl] = func(f *fake, h smb2.Header, msg []byte) bool {
			f.reply(h, 0, &smb2.IoctlResponse{CtlCode: smb2.FsctlQueryNetworkInterfaceInfo, FileID: smb2.AnyFileID, Output: list})
			return true
		}
		go f.serve() // ends with the connection, which the session closes
		var dials atomic.Int32
		s, err := New(context.Background(), at{l, remote}, Config{User: "ann", Password: "secret",
			Channels: ChannelConfig{Retry: time.Hour, Dial: func(_ context.Context, i NetworkInterface) (transport.Conn, error) {
				if remote == "192.0.2.1:445" && i.Addr.IsLoopback() {
					t.Errorf("%v was dialled by a session with %s", i.Addr, remote)
				}
				dials.Add(1)
				return nil, errors.New("no route")
			}}})
		must(t, err)
		s.AwaitChannels(context.Background())
		if n := int(dials.Load()); n != want {
			t.Errorf("%d dials by a session with %s, want %d", n, remote, want)
		}
		must(t, s.Close())
		<-f.done
	}
}

// An interface that looks better but leads nowhere from here does not keep the session
// from the RDMA of the one that it came by.
func TestBetterInterfaceLeadsNowhere(t *testing.T) {
	bridge := netip.MustParseAddr("172.17.0.1")
	m := newMultiSite(t, func(c *server.Config) {
		c.Interfaces = func() []server.Interface {
			return append(bothKinds(), server.Interface{Index: 3, RSS: true, RDMA: true, Speed: 40e9, Addr: bridge})
		}
	})
	tr, err := m.plain.Dial(context.Background(), "")
	must(t, err)
	m.keep(tr)
	tried := make(chan netip.Addr, 2)
	s, err := New(context.Background(), at{tr, homeAddr.String() + ":445"}, Config{User: "ann", Password: "secret",
		Channels: ChannelConfig{Retry: time.Hour, DialTimeout: 10 * time.Second, Dial: func(ctx context.Context, i NetworkInterface) (transport.Conn, error) {
			tried <- i.Addr
			if i.Addr == bridge {
				<-ctx.Done() // nothing comes back
				return nil, ctx.Err()
			}
			return m.dialChannel(ctx, i)
		}}})
	must(t, err)
	defer s.Close()
	if a, b := <-tried, <-tried; a != homeAddr || b != bridge {
		t.Fatalf("%v was tried before %v", a, b)
	}
	if used, why := s.RDMAStatus(); !used {
		t.Fatal(why)
	}
}
