package dcerpc

import (
	"encoding/binary"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// contextHandle is a context handle as it is sent, [C706] 14.3: attributes, which are 0, and
// a UUID.
type contextHandle [20]byte

// maxHandles bounds what a pipe has open.
const maxHandles = 256

// object is what a handle stands for, and what it may be used for.
type object struct {
	kind objectKind
	// domain is what a domain or an account was opened in.
	domain SID
	rid    uint32
}

type objectKind uint8

const (
	objectNone objectKind = iota
	objectPolicy
	objectSAM
	objectDomain
	objectUser
	objectGroup
	objectAlias
)

// open gives an object a handle. The caller holds mu, as all operations do.
func (p *Pipe) open(o object) (contextHandle, ntstatus.Status) {
	if len(p.handles) >= maxHandles {
		return contextHandle{}, ntstatus.InsufficientResources
	}
	if p.handles == nil {
		p.handles = map[contextHandle]object{}
	}
	p.lastHandle++
	var h contextHandle
	binary.LittleEndian.PutUint64(h[4:], p.lastHandle)
	p.handles[h] = o
	return h, ntstatus.Success
}

// object finds what a handle stands for, if it is of one of the kinds.
func (p *Pipe) object(h contextHandle, kinds ...objectKind) (object, ntstatus.Status) {
	o, ok := p.handles[h]
	if !ok {
		return o, ntstatus.InvalidHandle
	}
	for _, k := range kinds {
		if o.kind == k {
			return o, ntstatus.Success
		}
	}
	return o, ntstatus.ObjectTypeMismatch
}

// answerHandle answers a call that opens something.
func (p *Pipe) answerHandle(w *writer, o object, st ntstatus.Status) {
	var h contextHandle
	if st == ntstatus.Success {
		h, st = p.open(o)
	}
	w.handle(h)
	w.status(st)
}

// closeHandle is LsarClose and SamrCloseHandle.
func closeHandle(p *Pipe, r *reader, w *writer) {
	h := r.handle()
	if r.err != nil {
		return
	}
	st := ntstatus.Success
	if _, ok := p.handles[h]; !ok {
		st = ntstatus.InvalidHandle
	}
	delete(p.handles, h)
	w.handle(contextHandle{})
	w.status(st)
}

func (w *writer) status(st ntstatus.Status) { w.u32(uint32(st)) }
