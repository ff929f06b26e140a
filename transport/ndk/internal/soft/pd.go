package soft

import (
	"sync/atomic"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// PD is a protection domain. It implements the methods of ndk.PD that make no
// QP.
type PD struct {
	Object
	dev        *Device
	privileged *tokenSlot
	writable   atomic.Int32 // registrations and bindings that a peer may write to
}

// Init readies p as a successor of d.
func (p *PD) Init(d *Device) error {
	const op = "create PD"
	s, ok := d.tokens.alloc(nil, tokenPrivileged)
	if !ok {
		return fail(op, ntstatus.InsufficientResources, nil)
	}
	p.dev, p.privileged = d, s
	if err := d.InitObject(&p.Object, ndk.ObjectPD, func() { d.tokens.release(s) }, &d.Object); err != nil {
		d.tokens.release(s)
		return fail(op, ndk.StatusOf(err), nil)
	}
	return nil
}

// Device is the antecedent of p.
func (p *PD) Device() *Device { return p.dev }

// PeerMayWrite reports whether there is a region or window in the domain that a
// peer may write to.
func (p *PD) PeerMayWrite() bool { return p.writable.Load() > 0 }

// PrivilegedToken implements ndk.PD.
func (p *PD) PrivilegedToken() ndk.Token { return ndk.Token(p.privileged.token) }

// SGE is one local buffer of a request that was posted.
type SGE struct {
	Addr  uint64
	Len   uint32
	Token uint32
}

// MakeSGE is the SGE of a post without its inline data.
func MakeSGE(s *ndk.SGE) SGE { return SGE{s.Addr, s.Length, uint32(s.Token)} }

// Local resolves [addr, addr+n) under a local token, for a request of a QP of p
// that needs the rights want, and leaves the region pinned. gen is for Repin. A
// mem of nil means that a rule was broken; the status of such a completion is
// AccessViolation. An empty range of a valid region is not nil.
func (p *PD) Local(token uint32, addr, n uint64, want Right) (r *Region, gen uint32, mem []byte, broken ndk.Rule) {
	if token == p.privileged.token {
		if r = p.dev.lams.find(addr); r == nil {
			return nil, 0, nil, ndk.RuleSGERange
		}
	} else {
		s := p.dev.tokens.find(token)
		if s == nil || s.kind != tokenLocal || s.token != token {
			return nil, 0, nil, ndk.RuleSGERange
		}
		r = s.region
	}
	gen, ok := r.pin()
	switch {
	case !ok && gen != 0:
		return nil, 0, nil, ndk.RuleInvalidated
	case !ok:
		return nil, 0, nil, ndk.RuleSGERange
	}
	if r.pd != p && r.pd != nil {
		broken = ndk.RuleDomain
	} else if missing := want &^ r.rights; missing&LocalWrite != 0 {
		broken = ndk.RuleSGERight
	} else if missing != 0 {
		broken = ndk.RuleReadSink
	} else if mem, ok = r.Within(addr, n); ok {
		return r, gen, mem, 0
	} else {
		broken = ndk.RuleSGERange
	}
	r.Unpin()
	return nil, 0, nil, broken
}

// CheckLocal is Local for a look ahead: it pins nothing and returns the rule that
// is broken, or 0. An SGE of no length breaks none.
func (p *PD) CheckLocal(s SGE, want Right) ndk.Rule {
	if s.Len == 0 {
		return 0
	}
	r, _, mem, broken := p.Local(s.Token, s.Addr, uint64(s.Len), want)
	if mem != nil {
		r.Unpin()
	}
	return broken
}

// Access is the outcome of a remote token check.
type Access uint8

// The outcomes, in the order in which they are looked for.
const (
	AccessOK     Access = iota
	AccessToken         // the token names nothing, or nothing any more
	AccessStream        // it is for another domain, or a window of another QP
	AccessRight
	AccessWrap // the range passes the end of the address space
	AccessBounds
)

// Remote checks the use of a remote token by the peer of a QP of p (RFC 5041
// §7.1, RFC 5040 §7.2), and leaves the region pinned if it may be used. owner is
// the QP, as it was given to MW.Bind.
func (p *PD) Remote(owner any, token uint32, to, n uint64, want Right) (r *Region, gen uint32, mem []byte, a Access) {
	s := p.dev.tokens.find(token)
	if s == nil || s.kind != tokenRemote {
		return nil, 0, nil, AccessToken
	}
	r = s.region
	gen, ok := r.pin()
	if !ok {
		return nil, 0, nil, AccessToken
	}
	switch {
	case r.rtoken != token:
		a = AccessToken
	case r.pd != p || r.owner != nil && r.owner != owner:
		a = AccessStream
	case want&^r.rights != 0:
		a = AccessRight
	case to+n < to:
		a = AccessWrap
	default:
		if mem, ok = r.Within(to, n); ok {
			return r, gen, mem, AccessOK
		}
		a = AccessBounds
	}
	r.Unpin()
	return nil, 0, nil, a
}

// InvalidateRemote serves a Send with Invalidate that came for the QP owner: it
// ends the fast registration or window binding under the token (RFC 5040 §5.3),
// and returns when nobody works in it any more. false is a peer's error.
func (p *PD) InvalidateRemote(owner any, token uint32) bool {
	s := p.dev.tokens.find(token)
	if s == nil || s.kind != tokenRemote {
		return false
	}
	r := s.region
	if _, ok := r.pin(); !ok {
		return false
	}
	good := r.fast && r.rtoken == token && r.pd == p && (r.owner == nil || r.owner == owner)
	r.Unpin()
	return good && r.invalidate(token)
}

// InvalidateLocal ends the fast registration under a local token, as a Read with
// RDMAReadLocalInvalidate does. It leaves anything else as it is.
func (p *PD) InvalidateLocal(token uint32) {
	s := p.dev.tokens.find(token)
	if s == nil || s.kind != tokenLocal || s.token != token {
		return
	}
	r := s.region
	if _, ok := r.pin(); !ok {
		return
	}
	fast, remote := r.fast && r.pd == p, r.rtoken
	r.Unpin()
	if fast {
		r.invalidate(remote)
	}
}
