package smbdirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// cut cuts the descriptor of one registration into several.
func cut(d transport.Descriptor, lengths ...uint32) []transport.Descriptor {
	var out []transport.Descriptor
	off := d.Offset
	for _, n := range lengths {
		out = append(out, transport.Descriptor{Offset: off, Token: d.Token, Length: n})
		off += uint64(n)
	}
	return out
}

// SD-100, SD-103, SD-106: Write, WriteFile and Read against descriptor lists.
func TestSD103Transfers(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "data")
	content := pattern(3<<20, 3)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lists := map[string]func(d transport.Descriptor) []transport.Descriptor{
		"one":     func(d transport.Descriptor) []transport.Descriptor { return []transport.Descriptor{d} },
		"longer":  func(d transport.Descriptor) []transport.Descriptor { return cut(d, d.Length) },
		"several": func(d transport.Descriptor) []transport.Descriptor { return cut(d, 1, 4095, 0, 100, d.Length-4196) },
		"trimmed": func(d transport.Descriptor) []transport.Descriptor { return cut(d, 10, d.Length-10) },
		"unneeded": func(d transport.Descriptor) []transport.Descriptor {
			return append(cut(d, d.Length), transport.Descriptor{Token: 0xdead, Length: 5})
		},
	}
	for name, list := range lists {
		for _, n := range []int{4197, 65536, 1 << 20, 2<<20 + 77} {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				mem := make([]byte, n+100)
				reg, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
				if err != nil {
					t.Fatal(err)
				}
				ds := reg.Descriptors()
				if len(ds) != 1 || transport.DescriptorsLen(ds) != uint64(len(mem)) {
					t.Fatalf("descriptors %+v", ds)
				}
				buf, err := server.RDMA().Lease(ctx, n)
				if err != nil {
					t.Fatal(err)
				}
				want := pattern(n, int64(n))
				copy(buf.Bytes(), want)
				if err := server.RDMA().Write(ctx, buf, n, list(ds[0])); err != nil {
					t.Fatal(err)
				}
				// The message follows the data (SD-106).
				if err := server.Send(ctx, msg([]byte("done"))); err != nil {
					t.Fatal(err)
				}
				receive(t, client).Release()
				if !bytes.Equal(mem[:n], want) || !bytes.Equal(mem[n:], make([]byte, 100)) {
					t.Error("write: memory differs")
				}
				// From a file, beyond whose end there are zeros. A registration of
				// its own, as the race detector does not see TCP order things.
				if err := reg.Deregister(ctx, 0, false); err != nil {
					t.Fatal(err)
				}
				if reg, err = client.RDMA().Register(ctx, mem, transport.PeerWrites); err != nil {
					t.Fatal(err)
				}
				ds = reg.Descriptors()
				off := int64(len(content) - n + 50)
				k, err := server.RDMA().WriteFile(ctx, f, off, n, list(ds[0]))
				if err != nil || k != n-50 {
					t.Fatalf("write file: %d bytes, %v", k, err)
				}
				if err := server.Send(ctx, msg([]byte("done"))); err != nil {
					t.Fatal(err)
				}
				receive(t, client).Release()
				if !bytes.Equal(mem[:n-50], content[off:]) || !bytes.Equal(mem[n-50:], make([]byte, 150)) {
					t.Error("write file: memory differs")
				}
				if err := reg.Deregister(ctx, 0, false); err != nil {
					t.Fatal(err)
				}

				copy(mem, want)
				if reg, err = client.RDMA().Register(ctx, mem, transport.PeerReads); err != nil {
					t.Fatal(err)
				}
				// The peer learns of it by a message, as always.
				if err := client.Send(ctx, msg([]byte("read it"))); err != nil {
					t.Fatal(err)
				}
				receive(t, server).Release()
				clear(buf.Bytes())
				if err := server.RDMA().Read(ctx, buf, n, list(reg.Descriptors()[0])); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(buf.Bytes()[:n], want) {
					t.Error("read: buffer differs")
				}
				buf.Release()
				if err := reg.Deregister(ctx, 0, false); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	if s := server.Stats(); s.RDMABytesWritten == 0 || s.RDMABytesRead == 0 || s.RDMABytesFromFile == 0 || s.BytesCopied != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A request with as many descriptors as SMB2 can carry, deeper than the queue.
func TestSM19ManyDescriptors(t *testing.T) {
	client, server := pair(t, Config{}, Config{TransferDepth: 7, OutboundReadLimit: 3})
	ctx := context.Background()
	mem := make([]byte, 2*MaxDescriptors)
	reg, err := client.RDMA().Register(ctx, mem, transport.PeerWrites|transport.PeerReads)
	if err != nil {
		t.Fatal(err)
	}
	d := reg.Descriptors()[0]
	var ds []transport.Descriptor
	for i := range MaxDescriptors {
		ds = append(ds, transport.Descriptor{Offset: d.Offset + uint64(2*i), Token: d.Token, Length: 2})
	}
	if err := client.Send(ctx, msg([]byte("go"))); err != nil {
		t.Fatal(err)
	}
	receive(t, server).Release()
	buf, err := server.RDMA().Lease(ctx, len(mem))
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(len(mem), 1)
	copy(buf.Bytes(), want)
	if err := server.RDMA().Write(ctx, buf, len(mem), ds); err != nil {
		t.Fatal(err)
	}
	clear(buf.Bytes())
	if err := server.RDMA().Read(ctx, buf, len(mem), ds); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf.Bytes()[:len(mem)], want) {
		t.Error("data differ")
	}
	for i, tc := range []struct {
		n  int
		ds []transport.Descriptor
		is error
	}{
		{len(mem), append(ds, d), transport.ErrDescriptors},
		{len(mem), ds[1:], transport.ErrDescriptors},
		{1, nil, transport.ErrDescriptors},
		{3, []transport.Descriptor{{Offset: 1<<64 - 2, Length: 3}}, transport.ErrDescriptors},
		{0, ds, ErrTooLarge},
		{8<<20 + 1, ds, ErrTooLarge},
	} {
		if err := server.RDMA().Write(ctx, buf, tc.n, tc.ds); !errors.Is(err, tc.is) {
			t.Errorf("SD-104/105 case %d: %v", i, err)
		}
	}
	buf.Release()
	if err := reg.Deregister(ctx, 0, false); err != nil {
		t.Fatal(err)
	}
	if client.err() != nil || server.err() != nil {
		t.Error("a local mistake ended the connection")
	}
}

// SD-109, SD-110, SM-12: the answer takes the token away, or does not, or takes
// another.
func TestSD109SD110RemoteInvalidation(t *testing.T) {
	client, server := pair(t, Config{Registrations: 4}, Config{})
	ctx := context.Background()
	if !client.RDMA().RemoteInvalidation() {
		t.Fatal("no remote invalidation over iWARP")
	}
	mem := make([]byte, 100<<10)
	for i := range 20 { // more often than there are regions
		reg, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
		if err != nil {
			t.Fatal(err)
		}
		other, err := client.RDMA().Register(ctx, mem, transport.PeerReads)
		if err != nil {
			t.Fatal(err)
		}
		m := msg([]byte("answer"))
		switch i % 3 {
		case 0:
			m.Invalidate, m.HasInvalidate = reg.Descriptors()[0].Token, true
		case 1:
			m.Invalidate, m.HasInvalidate = other.Descriptors()[0].Token, true
		}
		if i%2 == 0 {
			m.Parts = [][]byte{make([]byte, 5000)} // several fragments
		}
		if err := server.Send(ctx, m); err != nil {
			t.Fatal(err)
		}
		r := receive(t, client)
		if r.HasInvalidated != m.HasInvalidate || r.Invalidated != m.Invalidate {
			t.Fatalf("invalidated %#x %v, want %#x %v", r.Invalidated, r.HasInvalidated, m.Invalidate, m.HasInvalidate)
		}
		inv, ok := r.Invalidated, r.HasInvalidated
		r.Release()
		if n := client.Stats().Registrations; n != 2 {
			t.Errorf("%d registrations", n)
		}
		if err := reg.Deregister(ctx, inv, ok); err != nil {
			t.Fatal(err)
		}
		if err := other.Deregister(ctx, inv, ok); err != nil {
			t.Fatal(err)
		}
	}
	if client.err() != nil || server.err() != nil {
		t.Error(client.err(), server.err())
	}
}

// SD-101: more memory than one region takes.
func TestSD101SeveralRegions(t *testing.T) {
	l := listener(t, Config{MaxReadWriteSize: 64 << 10})
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	client, server := dialTo(t, d, l)
	// As an adapter with 4 pages to a region would make it.
	client.regs.maxPages, client.regs.maxPart = 4, 3*ndk.PageSize
	ctx := context.Background()
	back := make([]byte, 80<<10)
	for _, off := range []int{0, 1, 4095} {
		mem := back[off : off+50000]
		reg, err := client.RDMA().Register(ctx, mem, transport.PeerWrites)
		if err != nil {
			t.Fatal(err)
		}
		ds := reg.Descriptors()
		if len(ds) != 4 || transport.DescriptorsLen(ds) != uint64(len(mem)) {
			t.Fatalf("offset %d: descriptors %+v", off, ds)
		}
		buf, err := server.RDMA().Lease(ctx, len(mem))
		if err != nil {
			t.Fatal(err)
		}
		want := pattern(len(mem), int64(off))
		copy(buf.Bytes(), want)
		if err := server.RDMA().Write(ctx, buf, len(mem), ds); err != nil {
			t.Fatal(err)
		}
		buf.Release()
		m := msg([]byte{1})
		m.Invalidate, m.HasInvalidate = ds[0].Token, true
		if err := server.Send(ctx, m); err != nil {
			t.Fatal(err)
		}
		r := receive(t, client)
		if err := reg.Deregister(ctx, r.Invalidated, r.HasInvalidated); err != nil {
			t.Fatal(err)
		}
		r.Release()
		if !bytes.Equal(mem, want) {
			t.Error("memory differs")
		}
	}
}

// SD-102, SD-108: a token that was taken back, a wrong right, a wrong token: the
// connection is lost, the next one works, and the memory is untouched.
func TestSD102SD108WrongDescriptor(t *testing.T) {
	l := listener(t, Config{})
	d, err := NewDialer(provider(t), "iwarp", Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		access transport.Access
		gone   bool
		change func(*transport.Descriptor)
		read   bool
	}{
		{"deregistered", transport.PeerWrites, true, nil, false},
		{"read right only", transport.PeerReads, false, nil, false},
		{"write right only", transport.PeerWrites, false, nil, true},
		{"token", transport.PeerWrites, false, func(d *transport.Descriptor) { d.Token ^= 0x100 }, false},
		{"offset", transport.PeerWrites, false, func(d *transport.Descriptor) { d.Offset-- }, false},
		{"length", transport.PeerWrites, false, func(d *transport.Descriptor) { d.Length++ }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, server := dialTo(t, d, l)
			ctx := context.Background()
			mem := make([]byte, 8192)
			reg, err := client.RDMA().Register(ctx, mem[:8000], tc.access)
			if err != nil {
				t.Fatal(err)
			}
			desc := reg.Descriptors()[0]
			if tc.change != nil {
				tc.change(&desc)
			}
			if tc.gone {
				if err := reg.Deregister(ctx, 0, false); err != nil {
					t.Fatal(err)
				}
			}
			if err := client.Send(ctx, msg([]byte("go"))); err != nil {
				t.Fatal(err)
			}
			receive(t, server).Release()
			buf, err := server.RDMA().Lease(ctx, 8192)
			if err != nil {
				t.Fatal(err)
			}
			copy(buf.Bytes(), bytes.Repeat([]byte{0xee}, 8192))
			if tc.read {
				if err := server.RDMA().Read(ctx, buf, int(desc.Length), []transport.Descriptor{desc}); err == nil {
					t.Error("read worked")
				}
			} else {
				// The completion of a Write proves nothing; the end does.
				_ = server.RDMA().Write(ctx, buf, int(desc.Length), []transport.Descriptor{desc})
			}
			buf.Release()
			for _, c := range []*Conn{client, server} {
				if _, err := c.Receive(ctx); err == nil {
					t.Error("connection lives on")
				}
				<-c.closed
			}
			if !tc.gone {
				if err := reg.Deregister(ctx, 0, false); !errors.Is(err, net.ErrClosed) {
					t.Errorf("deregister on a dead connection: %v", err)
				}
			}
			if !bytes.Equal(mem, make([]byte, 8192)) && tc.name != "length" {
				t.Error("memory was touched")
			}
			if tc.name == "length" && !bytes.Equal(mem[8000:], make([]byte, 192)) {
				t.Error("memory beyond the registration was touched")
			}
		})
	}
	client, server := dialTo(t, d, l)
	if err := client.Send(context.Background(), msg([]byte("alive"))); err != nil {
		t.Fatal(err)
	}
	receive(t, server).Release()
}
