package smbdtest

import (
	"context"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// chunkSize is what an arena grows by, in bytes.
const chunkSize = 256 << 10

// chunk is registered memory for messages.
type chunk struct {
	mem  []byte
	mr   ndk.MR
	free func()
	used int
}

// slot is a part of a chunk that one request uses, and the context of the request.
type slot struct {
	mem     []byte
	addr    uint64
	token   ndk.Token
	class   int
	receive bool
	done    bool       // a request that somebody waits for has completed
	status  ndk.Status // of it
	waited  bool       // the waiter gives the slot back
}

// arena is the memory of the messages of a peer. Slots are powers of two.
type arena struct {
	chunks []*chunk
	free   [40][]*slot
}

// take returns a slot of n bytes, which may be 0.
func (a *arena) take(ctx context.Context, ad ndk.Adapter, pd ndk.PD, n int) (*slot, error) {
	class := max(6, bits.Len(uint(max(n, 1)-1)))
	if f := a.free[class]; len(f) > 0 {
		s := f[len(f)-1]
		a.free[class] = f[:len(f)-1]
		*s = slot{mem: s.mem[:n], addr: s.addr, token: s.token, class: class}
		return s, nil
	}
	size := 1 << class
	var c *chunk
	if k := len(a.chunks); k > 0 && len(a.chunks[k-1].mem)-a.chunks[k-1].used >= size {
		c = a.chunks[k-1]
	} else {
		mem, free, err := ad.Alloc(max(size, chunkSize))
		if err != nil {
			return nil, err
		}
		mr, err := pd.CreateMR(ctx, false)
		if err != nil {
			free()
			return nil, err
		}
		if err := mr.Register(ctx, ndk.Memory{mem}, len(mem), ndk.MRAllowLocalWrite|ndk.MRRDMAReadSink); err != nil {
			mr.Close()
			<-mr.Closed()
			free()
			return nil, err
		}
		c = &chunk{mem: mem, mr: mr, free: free}
		a.chunks = append(a.chunks, c)
	}
	off := c.used
	c.used += size
	return &slot{mem: c.mem[off : off+n : off+size], addr: c.mr.Base() + uint64(off), token: c.mr.LocalToken(), class: class}, nil
}

func (a *arena) put(s *slot) { a.free[s.class] = append(a.free[s.class], s) }

func (a *arena) close() {
	for _, c := range a.chunks {
		c.mr.Close()
		<-c.mr.Closed()
		c.free()
	}
	*a = arena{}
}

// sgl names the bytes of s; a message without bytes has no list.
func (s *slot) sgl() []ndk.SGE {
	if len(s.mem) == 0 {
		return nil
	}
	return []ndk.SGE{{Addr: s.addr, Length: uint32(len(s.mem)), Token: s.token}}
}

// guardSize and guardByte are what surrounds a Region on both sides.
const (
	guardSize = ndk.PageSize
	guardByte = 0xa5
)

// Region is memory that the other end may reach, with guard bytes around it which
// no right covers.
type Region struct {
	// Bytes is the memory. It belongs to the other end until Deregister returned,
	// or the other end invalidated the token.
	Bytes []byte
	// Token and Address are what the other end names. A case may send others.
	Token   ndk.Token
	Address uint64

	p     *Peer
	whole []byte
	free  func()
	mr    ndk.MR
	fast  bool
	lam   ndk.LAM
	dead  bool // the other end invalidated the token
	gone  bool // deregistered
}

// Register makes n bytes of memory reachable with the rights AllowRemoteRead,
// AllowRemoteWrite or both. The registration is one that the other end can
// invalidate, if the adapter has such; the Peer must be connected for it. Close of
// the Peer ends it.
func (p *Peer) Register(ctx context.Context, n int, rights ndk.OpFlags) (*Region, error) {
	return p.register(ctx, n, rights, p.info.FRMRPageCount > (n+2*guardSize)/ndk.PageSize+1)
}

// RegisterPlain is Register with a registration that only its owner ends: the
// other end breaks the connection if it tries to.
func (p *Peer) RegisterPlain(ctx context.Context, n int, rights ndk.OpFlags) (*Region, error) {
	return p.register(ctx, n, rights, false)
}

func (p *Peer) register(ctx context.Context, n int, rights ndk.OpFlags, fast bool) (_ *Region, err error) {
	r := &Region{p: p, fast: fast}
	r.whole, r.free, err = p.adapter.Alloc(n + 2*guardSize)
	if err != nil {
		return nil, fmt.Errorf("smbdtest: register %d bytes: %w", n, err)
	}
	for i := range r.whole {
		r.whole[i] = guardByte
	}
	r.Bytes = r.whole[guardSize : guardSize+n : guardSize+n]
	clear(r.Bytes)
	defer func() {
		if err != nil {
			r.close()
			err = fmt.Errorf("smbdtest: register %d bytes: %w", n, err)
		}
	}()
	if r.mr, err = p.pd.CreateMR(ctx, fast); err != nil {
		return nil, err
	}
	if fast {
		err = r.fastRegister(ctx, rights)
	} else {
		var f ndk.MRFlags
		if rights&ndk.AllowRemoteRead != 0 {
			f |= ndk.MRAllowRemoteRead
		}
		if rights&ndk.AllowRemoteWrite == ndk.AllowRemoteWrite {
			f |= ndk.MRAllowRemoteWrite
		}
		if err = r.mr.Register(ctx, ndk.Memory{r.Bytes}, n, f); err == nil {
			r.Address = r.mr.Base()
		}
	}
	if err != nil {
		return nil, err
	}
	r.Token = r.mr.RemoteToken()
	p.regions = append(p.regions, r)
	return r, nil
}

func (r *Region) fastRegister(ctx context.Context, rights ndk.OpFlags) error {
	p, n := r.p, len(r.Bytes)
	if err := r.mr.InitializeFastRegister(ctx, n/ndk.PageSize+2, true); err != nil {
		return err
	}
	fbo, err := p.adapter.BuildLAM(ctx, ndk.Memory{r.Bytes}, n, &r.lam)
	if err != nil {
		return err
	}
	r.Address = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(r.Bytes))))
	return p.request(ctx, 0, func(s *slot) error {
		return p.qp.FastRegister(s, r.mr, r.lam.Pages, fbo, uint64(n), r.Address, rights)
	})
}

// Descriptor names the whole region.
func (r *Region) Descriptor() wire.Descriptor {
	return wire.Descriptor{Offset: r.Address, Token: uint32(r.Token), Length: uint32(len(r.Bytes))}
}

// Part names n bytes from off. They may lie outside of the region: nothing is
// checked.
func (r *Region) Part(off, n int) wire.Descriptor {
	return wire.Descriptor{Offset: r.Address + uint64(int64(off)), Token: uint32(r.Token), Length: uint32(n)}
}

// Invalidated reports whether a message of the other end has invalidated the
// token. It knows what Next has seen.
func (r *Region) Invalidated() bool { return r.dead }

// Deregister takes the memory back: the token is of no use when it returns.
func (r *Region) Deregister(ctx context.Context) error {
	if r.dead || r.gone {
		r.gone = true
		return nil
	}
	var err error
	if r.fast {
		if err = r.p.request(ctx, 0, func(s *slot) error { return r.p.qp.Invalidate(s, r.mr, 0) }); err != nil {
			r.p.poll() // the end may have been quicker
			if r.dead {
				err = nil
			}
		}
	} else {
		err = r.mr.Deregister(ctx)
	}
	if err != nil {
		return fmt.Errorf("smbdtest: deregister: %w", err)
	}
	r.gone = true
	return nil
}

// CheckGuards returns an error if a byte beside the region was written.
func (r *Region) CheckGuards() error {
	for i, b := range r.whole[:guardSize] {
		if b != guardByte {
			return fmt.Errorf("smbdtest: byte %d before the region was written", guardSize-i)
		}
	}
	for i, b := range r.whole[guardSize+len(r.Bytes):] {
		if b != guardByte {
			return fmt.Errorf("smbdtest: byte %d behind the region was written", i)
		}
	}
	return nil
}

// close ends the registration; the QP is closed or the region is not in use.
func (r *Region) close() {
	if r.mr != nil {
		r.mr.Close()
		<-r.mr.Closed()
	}
	if r.lam.Pages != nil {
		r.p.adapter.ReleaseLAM(&r.lam)
	}
	r.free()
}
