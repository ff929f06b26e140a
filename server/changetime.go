package server

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// maxChangeTimes bounds the change times that are remembered.
const maxChangeTimes = 4096

// changeTimes remembers change times that clients have set. The storage has no
// place for them: its own change time moves with every change and cannot be set.
// A time is good until the object changes again, which its own change time tells.
// It is not kept beyond the life of the server, and the oldest give way.
type changeTimes struct {
	n atomic.Int32 // len(m), so that nobody waits for mu when there are none

	mu sync.Mutex
	// guarded by mu
	m     map[vfs.FileID]changeTime
	order []vfs.FileID // ring of the keys of m, oldest at next
	next  int
}

type changeTime struct {
	real, set time.Time
}

// set remembers t for the object as it now is.
func (c *changeTimes) set(info *vfs.Info, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[vfs.FileID]changeTime)
	}
	if _, ok := c.m[info.ID]; !ok {
		if len(c.order) < maxChangeTimes {
			c.order = append(c.order, info.ID)
		} else {
			delete(c.m, c.order[c.next])
			c.order[c.next] = info.ID
			c.next = (c.next + 1) % maxChangeTimes
		}
	}
	c.m[info.ID] = changeTime{info.ChangeTime, t}
	c.n.Store(int32(len(c.m)))
}

// apply puts a remembered change time into info.
func (c *changeTimes) apply(info *vfs.Info) {
	if c.n.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.m[info.ID]; ok && e.real.Equal(info.ChangeTime) {
		info.ChangeTime = e.set
	}
}
