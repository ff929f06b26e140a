package soft

import (
	"sync"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Sink is the pipe of a region, as providers use it: under a pin of that, and locked, as
// peers may write to a region on several connections at a time.
type Sink struct {
	p  *ndk.Pipe
	mu sync.Mutex // guards what p points to
}

// Extension implements ndk.Object: ndk.PipeExtension 1.0, where the provider knows pipes.
func (m *MR) Extension(id ndk.GUID, v ndk.Version) (any, error) {
	if m.pd.dev.pipes && id == ndk.PipeExtension && !(ndk.Version{Major: 1}).Less(v) {
		return ndk.Piper(m), nil
	}
	return m.Object.Extension(id, v)
}

// PipeTo implements ndk.Piper.
func (m *MR) PipeTo(p *ndk.Pipe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p == nil {
		m.pipe = nil
		return
	}
	if m.lastPipe == nil || m.lastPipe.p != p {
		m.lastPipe = &Sink{p: p}
	}
	m.pipe = m.lastPipe
}

// Piped reports whether what a peer writes may go into a pipe. The region is pinned.
func (r *Region) Piped() bool { return r.pipe != nil }

// BeginPipe returns the region's pipe, if n octets at addr, which are within it and not
// 0, are to go there, and has nobody else use it until EndPipe. Else they are to go into the
// memory, with all that come later. The region is pinned.
func (r *Region) BeginPipe(addr, n uint64) *ndk.Pipe {
	s := r.pipe
	if s == nil {
		return nil
	}
	s.mu.Lock()
	p := s.p
	switch at := addr - r.base; {
	case at < uint64(p.N):
		p.Torn, p.Over = true, true
	case at > uint64(p.N):
		p.Over = true
	}
	if p.Over {
		s.mu.Unlock()
		return nil
	}
	return p
}

// EndPipe ends a BeginPipe that returned one.
func (r *Region) EndPipe() { r.pipe.mu.Unlock() }
