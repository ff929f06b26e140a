package memory

import (
	"io"
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
)

// chunkSize is the largest piece of content, and the unit in which content is
// shared.
const chunkSize = 64 << 10

// content is the data of a file or stream. Its methods lock it, but for those
// that say otherwise.
type content struct {
	id     uint64
	budget *budget

	mu sync.RWMutex
	// The rest is guarded by mu.
	size   int64
	parts  []part // sorted; what is between them is a hole
	stored int64  // the bytes of all parts
	gone   bool   // removed, and its storage given back
}

// part is the chunk with that number.
type part struct {
	index int64
	*chunk
}

// chunk is up to chunkSize bytes; what it lacks of them are zeros. While it has
// one reference, who holds that one's lock may change it.
type chunk struct {
	refs atomic.Int32
	data []byte
}

// chunkRoom is the length of the data that is made for n bytes: a power of two.
func chunkRoom(n int) int {
	room := blockSize
	for room < n {
		room *= 2
	}
	return room
}

// find returns where the part with that number is, or would be. c.mu is held.
func (c *content) find(index int64) (int, bool) {
	n := len(c.parts)
	switch {
	case n == 0 || c.parts[n-1].index < index:
		return n, false
	case index < int64(n) && c.parts[index].index == index: // no hole before it
		return int(index), true
	}
	i := sort.Search(n, func(i int) bool { return c.parts[i].index >= index })
	return i, i < n && c.parts[i].index == index
}

// writable returns the chunk with that number, not shared and with room for n
// bytes. c.mu is held for writing.
func (c *content) writable(index int64, n int) (*chunk, error) {
	i, ok := c.find(index)
	room := chunkRoom(n)
	if !ok {
		if err := c.budget.take(int64(room)); err != nil {
			return nil, err
		}
		ch := &chunk{data: make([]byte, room)}
		ch.refs.Store(1)
		c.parts = append(c.parts, part{})
		copy(c.parts[i+1:], c.parts[i:])
		c.parts[i] = part{index, ch}
		c.stored += int64(room)
		return ch, nil
	}
	ch := c.parts[i].chunk
	old := len(ch.data)
	shared := ch.refs.Load() > 1
	if !shared && old >= n {
		return ch, nil
	}
	room = max(room, old)
	cost := int64(room)
	if !shared {
		cost -= int64(old)
	}
	if err := c.budget.take(cost); err != nil {
		return nil, err
	}
	data := make([]byte, room)
	copy(data, ch.data)
	c.stored += int64(room - old)
	if !shared {
		ch.data = data
		return ch, nil
	}
	c.unref(ch)
	ch = &chunk{data: data}
	ch.refs.Store(1)
	c.parts[i].chunk = ch
	return ch, nil
}

// unref gives up a reference to a chunk, and its storage with the last.
func (c *content) unref(ch *chunk) {
	if ch.refs.Add(-1) == 0 {
		c.budget.give(int64(len(ch.data)))
	}
}

// cut removes the parts from place i to j. c.mu is held for writing.
func (c *content) cut(i, j int) {
	for _, p := range c.parts[i:j] {
		c.stored -= int64(len(p.data))
		c.unref(p.chunk)
	}
	n := copy(c.parts[i:], c.parts[j:])
	clear(c.parts[i+n:])
	c.parts = c.parts[:i+n]
	if len(c.parts) == 0 {
		c.parts = nil
	}
}

// piece is the part of [off, end) that is in one chunk.
func piece(off, end int64) (index int64, from, to int) {
	index = off / chunkSize
	from = int(off % chunkSize)
	return index, from, int(min(end-off, chunkSize-int64(from))) + from
}

// readAt implements vfs.File's ReadAt.
func (c *content) readAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.gone {
		return 0, syscall.ESTALE
	}
	if off >= c.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-off))
	for done := 0; done < n; {
		index, from, to := piece(off+int64(done), off+int64(n))
		dst := p[done : done+to-from]
		copied := 0
		if i, ok := c.find(index); ok && from < len(c.parts[i].data) {
			copied = copy(dst, c.parts[i].data[from:])
		}
		clear(dst[copied:])
		done += to - from
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// writeAt implements vfs.File's WriteAt; all is written or nothing.
func (c *content) writeAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if off > math.MaxInt64-int64(len(p)) {
		return 0, syscall.EFBIG
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, syscall.ESTALE
	}
	if len(p) == 0 {
		return 0, nil
	}
	end := off + int64(len(p))
	if err := c.reserve(off, end); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		index, from, to := piece(off+int64(done), end)
		i, _ := c.find(index)
		done += copy(c.parts[i].data[from:to], p[done:])
	}
	c.size = max(c.size, end)
	return len(p), nil
}

// reserve makes storage for a range, which reads as before. If there is not
// enough, nothing is kept. c.mu is held for writing.
func (c *content) reserve(off, end int64) error {
	for at := off; at < end; {
		index, from, to := piece(at, end)
		if _, err := c.writable(index, to); err != nil {
			c.trim(off)
			return err
		}
		at += int64(to - from)
	}
	return nil
}

// trim gives back the parts from off's on that hold nothing of the content. c.mu
// is held for writing.
func (c *content) trim(off int64) {
	i, _ := c.find(max(off/chunkSize, c.size/chunkSize+min(c.size%chunkSize, 1)))
	c.cut(i, len(c.parts))
}

// truncate implements vfs.File's Truncate.
func (c *content) truncate(size int64) error {
	if size < 0 {
		return syscall.EINVAL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return syscall.ESTALE
	}
	if size < c.size {
		if err := c.shrink(size); err != nil {
			return err
		}
	}
	c.size = size
	return nil
}

// shrink gives back what is stored beyond size. c.mu is held for writing.
func (c *content) shrink(size int64) error {
	index, tail := size/chunkSize, int(size%chunkSize)
	i, ok := c.find(index)
	if ok && tail > 0 {
		ch := c.parts[i].chunk
		if tail < len(ch.data) {
			room := chunkRoom(tail)
			if ch.refs.Load() > 1 {
				if err := c.budget.take(int64(room)); err != nil {
					return err
				}
				c.stored += int64(room - len(ch.data))
				data := make([]byte, room)
				copy(data, ch.data[:tail])
				c.unref(ch)
				ch = &chunk{data: data}
				ch.refs.Store(1)
				c.parts[i].chunk = ch
			} else if room < len(ch.data) {
				c.budget.give(int64(len(ch.data) - room))
				c.stored -= int64(len(ch.data) - room)
				ch.data = append(make([]byte, 0, room), ch.data[:room]...)
			}
			clear(ch.data[tail:])
		}
		i++
	}
	c.cut(i, len(c.parts))
	return nil
}

// free gives everything back for good.
func (c *content) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut(0, len(c.parts))
	c.size, c.gone = 0, true
}

// sizes returns the length and the storage taken.
func (c *content) sizes() (size, stored int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.size, c.stored
}

// allocate implements vfs.Allocator's Allocate for a range that is possible.
func (c *content) allocate(off, length int64, keepSize bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// What cannot be is not begun.
	if length-c.stored > c.budget.max {
		return syscall.ENOSPC
	}
	if err := c.reserve(off, off+length); err != nil {
		return err
	}
	if !keepSize {
		c.size = max(c.size, off+length)
	}
	return nil
}

// punch makes a range that is possible read as zeros.
func (c *content) punch(off, length int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.punchLocked(off, off+length)
}

func (c *content) punchLocked(off, end int64) error {
	first, from, to := piece(off, end)
	if from > 0 || to < chunkSize && end/chunkSize == first {
		if err := c.zero(first, from, to); err != nil {
			return err
		}
		off += int64(to - from)
	}
	if off >= end {
		return nil
	}
	if tail := int(end % chunkSize); tail > 0 {
		if err := c.zero(end/chunkSize, 0, tail); err != nil {
			return err
		}
	}
	i, _ := c.find(off / chunkSize)
	j, _ := c.find(end / chunkSize)
	c.cut(i, j)
	return nil
}

// zero clears a piece of a chunk.
func (c *content) zero(index int64, from, to int) error {
	i, ok := c.find(index)
	if !ok || from >= len(c.parts[i].data) {
		return nil
	}
	if from == 0 && to >= len(c.parts[i].data) {
		c.cut(i, i+1)
		return nil
	}
	ch, err := c.writable(index, 0)
	if err != nil {
		return err
	}
	clear(ch.data[from:min(to, len(ch.data))])
	return nil
}

// seekData implements vfs.HoleSeeker's SeekData.
func (c *content) seekData(off int64) (int64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if off < 0 {
		return 0, syscall.EINVAL
	}
	i, _ := c.find(off / chunkSize)
	for _, p := range c.parts[i:] {
		start := p.index * chunkSize
		if off < start+int64(len(p.data)) {
			if off = max(off, start); off >= c.size {
				break
			}
			return off, nil
		}
	}
	return 0, syscall.ENXIO
}

// seekHole implements vfs.HoleSeeker's SeekHole.
func (c *content) seekHole(off int64) (int64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case off < 0:
		return 0, syscall.EINVAL
	case off >= c.size:
		return 0, syscall.ENXIO
	}
	i, _ := c.find(off / chunkSize)
	for _, p := range c.parts[i:] {
		start := p.index * chunkSize
		if off < start || off >= start+int64(len(p.data)) {
			break
		}
		off = start + int64(len(p.data))
	}
	return min(off, c.size), nil
}

// lockPair locks two contents, which may be one, for a copy from src to dst.
func lockPair(dst, src *content) (unlock func()) {
	switch {
	case dst == src:
		dst.mu.Lock()
		return dst.mu.Unlock
	case dst.id < src.id:
		dst.mu.Lock()
		src.mu.RLock()
	default:
		src.mu.RLock()
		dst.mu.Lock()
	}
	return func() { dst.mu.Unlock(); src.mu.RUnlock() }
}

// copyFrom makes a range of c that of src, sharing whole chunks. It returns how
// much it copied: less than length at the end of src, or with an error. Ranges
// that are possible and do not overlap are the caller's to see to.
func (c *content) copyFrom(dstOff int64, src *content, srcOff, length int64, whole bool) (int64, error) {
	defer lockPair(c, src)()
	if c.gone || src.gone {
		return 0, syscall.ESTALE
	}
	n := min(length, max(src.size-srcOff, 0))
	if n < length && whole {
		return 0, syscall.EINVAL
	}
	for done := int64(0); done < n; {
		from, to, rest := srcOff+done, dstOff+done, n-done
		step, err := c.copyPiece(to, src, from, rest)
		if err != nil {
			return done, err
		}
		done += step
		c.size = max(c.size, dstOff+done)
	}
	return n, nil
}

// copyPiece copies something at least of what there is, and returns how much.
func (c *content) copyPiece(to int64, src *content, from, rest int64) (int64, error) {
	index, at, _ := piece(from, from+rest)
	i, ok := src.find(index)
	if !ok { // a hole, up to the next part
		gap := rest
		if i < len(src.parts) {
			gap = min(gap, src.parts[i].index*chunkSize-from)
		}
		return gap, c.punchLocked(to, to+gap)
	}
	ch := src.parts[i].chunk
	if at == 0 && to%chunkSize == 0 && rest >= chunkSize {
		c.share(to/chunkSize, ch)
		return chunkSize, nil
	}
	step := min(rest, chunkSize-int64(at), chunkSize-to%chunkSize)
	if at >= len(ch.data) {
		return step, c.punchLocked(to, to+step)
	}
	step = min(step, int64(len(ch.data)-at))
	dstIndex, dstAt, dstEnd := piece(to, to+step)
	dst, err := c.writable(dstIndex, dstEnd)
	if err != nil {
		return 0, err
	}
	copy(dst.data[dstAt:dstEnd], ch.data[at:])
	return step, nil
}

// share puts a chunk of another's in place.
func (c *content) share(index int64, ch *chunk) {
	ch.refs.Add(1)
	i, ok := c.find(index)
	if ok {
		old := c.parts[i].chunk
		c.stored += int64(len(ch.data) - len(old.data))
		c.parts[i].chunk = ch
		c.unref(old)
		return
	}
	c.parts = append(c.parts, part{})
	copy(c.parts[i+1:], c.parts[i:])
	c.parts[i] = part{index, ch}
	c.stored += int64(len(ch.data))
}
