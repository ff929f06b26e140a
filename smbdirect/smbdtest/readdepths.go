package smbdtest

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// onIWARP skips the case elsewhere.
func onIWARP(ctx context.Context, t *T) {
	info, err := t.Adapter.Info(ctx)
	t.Must("adapter", err)
	if info.Technology != ndk.TechnologyIWARP {
		t.Skipf("the IRD/ORD header is for iWARP; this is %v", info.Technology)
	}
}

var _ = register(
	Case{
		Name: "ReadDepths_Header",
		Rows: []string{"SD-111", "SD-112"},
		Spec: "[MS-SMBD] 6.1, 6.2",
		Role: Acceptor,
		Doc:  "Private data with IRD and ORD is taken in network order, and in the order of its host from older Linux; the reply, if there is one, has both above 0 and within what was offered. Without the header, or with a part of one, the connection comes up as well.",
		Run: func(ctx context.Context, t *T) {
			onIWARP(ctx, t)
			for _, v := range []struct {
				what    string
				private []byte
				most    uint32 // of the reply
			}{
				{"16 and 16", ReadDepths(16, 16), 16},
				{"1 and 1", ReadDepths(1, 1), 1},
				{"32 and 1 in the order of the host", []byte{32, 0, 0, 0, 1, 0, 0, 0}, 32},
				{"2^15 and 1", ReadDepths(1<<15, 1), 255},
				{"bytes behind the header", append(ReadDepths(8, 8), 1, 2, 3), 8},
				{"no private data", []byte{}, 0},
				{"half of a header", []byte{0, 0, 0, 16}, 0},
			} {
				s := t.Negotiate(PeerConfig{Private: v.private}, Request())
				reply := s.Private()
				t.Logf("%s: reply % x", v.what, reply)
				if len(reply) >= 8 {
					ird, ord := binary.BigEndian.Uint32(reply), binary.BigEndian.Uint32(reply[4:])
					t.Check(v.most > 0, "%s: a reply with IRD %d, ORD %d, and none was asked for", v.what, ird, ord)
					t.Check(ird > 0 && ord > 0, "%s: IRD %d, ORD %d in the reply", v.what, ird, ord)
					t.Check(min(ird, ord) <= v.most, "%s: IRD %d, ORD %d in the reply", v.what, ird, ord)
				}
				t.established(s)
				t.Exchange(s, t.Talk(s), 100)
				s.Close()
			}
		},
	},
	Case{
		Name: "ReadDepths_Zero",
		Rows: []string{"SD-111"},
		Spec: "[MS-SMBD] 6.2",
		Role: Acceptor,
		Doc:  "A header with IRD or ORD 0 is rejected.",
		Run: func(ctx context.Context, t *T) {
			onIWARP(ctx, t)
			for _, d := range [][2]uint32{{0, 16}, {16, 0}, {0, 0}} {
				p := t.Peer(PeerConfig{Private: ReadDepths(d[0], d[1])})
				wait, cancel := context.WithTimeout(ctx, 2*t.Times.React)
				err := p.Connect(wait, t.Address)
				cancel()
				t.Logf("IRD %d, ORD %d: %v", d[0], d[1], err)
				t.Check(errors.Is(err, ntstatus.ConnectionRefused), "IRD %d, ORD %d: %v; the connection has to be refused", d[0], d[1], err)
				p.Close()
			}
		},
	},
)
