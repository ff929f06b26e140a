package fuse

import (
	"encoding/binary"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// readData serves a READ: the bytes come from the wire into the buffer, and go from there.
func (d *device) readData(b *buffer, r *being) {
	size := int(r.read.Size)
	if size > d.most {
		d.fail(r.unique, gofuse.EINVAL) // fewer bytes would be the end of the file
		return
	}
	var in *client.Pipe
	if b.kept && d.pipes.wanted(size) {
		in = b.pipe.open(r.unique, size, d.most)
	}
	n, st := d.read(b, size, r, in)
	if d.trace {
		d.log.Printf("%d: READ n%d %d bytes at %d: %d bytes, %v", r.unique, r.read.NodeId, size, r.read.Offset, n, st)
	}
	if in != nil {
		whole := st == gofuse.OK && n == size && in.N == size && !in.Spoilt
		if whole && d.sentPiped(r.unique, &b.pipe, n) {
			return
		}
		if whole || st == gofuse.OK && in.N < n {
			d.pipes.rest.Store(pipeRest)
		}
		if st != gofuse.OK {
			b.pipe.close()
		} else if err := b.pipe.drain(b.data); err != nil {
			st = gofuse.EIO
			d.log.Printf("%d: READ: what was moved into a pipe: %v", r.unique, err)
		}
	}
	if st != gofuse.OK {
		d.fail(r.unique, st)
		return
	}
	*(*gofuse.OutHeader)(unsafe.Pointer(&b.head)) = gofuse.OutHeader{Length: uint32(answerHeader + n), Unique: r.unique}
	d.sent(answerHeader+n, func() error { return b.write(d.fd, n) })
}

// sentPiped answers with n bytes of data, all of which are in a pipe. It says whether
// nobody waits for an answer any more: where the kernel has not taken it from the pipe it
// is to be written, as long as the pipe has it.
func (d *device) sentPiped(unique uint64, p *pipe, n int) bool {
	for {
		switch err := p.answer(d.fd, n); err {
		case nil:
			return true
		case unix.EINTR:
		case unix.ENOENT, unix.ENODEV: // who asked has gone meanwhile, or all have
			p.close()
			return true
		default:
			d.log.Printf("%d: READ: an answer by a pipe: %v", unique, err)
			return false
		}
	}
}

func (d *device) read(b *buffer, size int, r *being, in *client.Pipe) (n int, st gofuse.Status) {
	defer d.survive(&st)
	over := false
	defer func() {
		if !over {
			b.pipe.r = -1 // a connection may know it still: its descriptors are nobody else's
		}
	}()
	n, st = d.f.readInto(r.cancel, &r.read, b.data[:size], in)
	over = true
	return n, st
}

// writeData serves a WRITE of n bytes, which go to the wire from where they were read to.
func (d *device) writeData(b *buffer, n int, r *being) {
	if n != int(r.write.Size) || r.write.TotalExtlen != 0 {
		d.fail(r.unique, gofuse.EINVAL)
		return
	}
	done, st := d.write(b.data[:n], r)
	if d.trace {
		d.log.Printf("%d: WRITE n%d %d bytes at %d: %d bytes, %v", r.unique, r.write.NodeId, n, r.write.Offset, done, st)
	}
	if st != gofuse.OK {
		d.fail(r.unique, st)
		return
	}
	answer := (*writeAnswer)(unsafe.Pointer(&b.head))
	*answer = writeAnswer{gofuse.OutHeader{Length: uint32(unsafe.Sizeof(*answer)), Unique: r.unique}, gofuse.WriteOut{Size: done}}
	d.send(b.head[:unsafe.Sizeof(*answer)])
}

type writeAnswer struct {
	gofuse.OutHeader
	gofuse.WriteOut
}

func (d *device) write(p []byte, r *being) (n uint32, st gofuse.Status) {
	defer d.survive(&st)
	return d.f.Write(r.cancel, &r.write, p)
}

// survive makes a panic the failure of one request.
func (d *device) survive(st *gofuse.Status) {
	if p := recover(); p != nil {
		d.f.cfg.Logger.Error("panic while a request of the kernel's was served", "panic", p, "stack", string(debug.Stack()))
		*st = gofuse.EIO
	}
}

// mostAnswer bounds the memory for an answer that fits nowhere, in bytes: an attribute
// takes up to 64 KiB.
const mostAnswer = 256 << 10

// scratch is for a request that moves no data, and the answer to it. A buffer for data
// would be too much for what may wait for long: a lock, for one.
type scratch struct {
	in  [smallAnswer]byte
	out [smallAnswer]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// pass has go-fuse serve a request of n bytes, and gives the buffer back.
func (d *device) pass(b *buffer, n int) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	h := b.header()
	unique, need := h.Unique, d.room(h, n)
	head, data := b.request(n)
	in, out := [][]byte{head, data}, s.out[:]
	keep := n > len(s.in)
	if !keep {
		in = [][]byte{append(append(s.in[:0], head...), data...)}
	}
	switch {
	case need <= len(out):
	case !keep && need <= len(b.data):
		out, keep = b.data, true
	case need <= mostAnswer:
		out = make([]byte, need)
	}
	if !keep {
		d.buffers.put(b)
	}
	if need <= len(out) {
		done, st := d.proto.HandleRequest(in, [][]byte{out})
		switch {
		case st != gofuse.OK:
			d.fail(unique, st)
		case done == 0: // it wants no answer
		case binary.NativeEndian.Uint32(out) != uint32(done): // there was no room for all
			d.fail(unique, gofuse.EIO)
		default:
			d.send(out[:done])
		}
	} else {
		d.fail(unique, gofuse.EIO)
	}
	if keep {
		d.buffers.put(b)
	}
}

// room is how much there has to be for the answer to a request of n bytes, which may be
// changed to ask for less.
func (d *device) room(h *gofuse.InHeader, n int) int {
	size := 0
	switch h.Opcode {
	case opReadDir, opReadDirPlus:
		if n >= int(unsafe.Sizeof(gofuse.ReadIn{})) {
			in := (*gofuse.ReadIn)(unsafe.Pointer(h))
			in.Size = min(in.Size, uint32(d.most-mostFixed))
			size = int(in.Size)
		}
	case opGetXattr, opListXattr:
		if n >= int(unsafe.Sizeof(gofuse.GetXAttrIn{})) {
			size = int((*gofuse.GetXAttrIn)(unsafe.Pointer(h)).Size)
		}
	case opIoctl:
		if n >= int(unsafe.Sizeof(gofuse.IoctlIn{})) {
			size = int((*gofuse.IoctlIn)(unsafe.Pointer(h)).OutSize)
		}
	}
	return mostFixed + size
}

// fail answers a request with an error.
func (d *device) fail(unique uint64, st gofuse.Status) {
	h := gofuse.OutHeader{Length: uint32(answerHeader), Status: -int32(st), Unique: unique}
	d.send(unsafe.Slice((*byte)(unsafe.Pointer(&h)), answerHeader))
}

// send writes an answer.
func (d *device) send(p []byte) {
	d.sent(len(p), func() error { _, err := unix.Write(d.fd, p); return err })
}

// sent calls what writes an answer of n bytes.
func (d *device) sent(n int, write func() error) {
	for {
		switch err := write(); err {
		case unix.EINTR:
			continue
		case nil, unix.ENOENT, unix.ENODEV: // who asked has gone meanwhile, or all have
		default:
			d.log.Printf("an answer of %d bytes: %v", n, err)
		}
		return
	}
}

// # Interrupts

// interrupt tells a request of a signal. If it is false, the request is on its way to
// go-fuse, or over, and the kernel is to ask again. One that has been told is not told
// again: go-fuse would say that it does not know it, and so would the kernel go on to ask
// until it is over.
func (d *device) interrupt(unique uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.inFlight {
		switch {
		case r.unique != unique:
			continue
		case r.data:
			d.interruptLocked(r)
		case !r.interrupted:
			r.interrupted = d.passInterrupt(unique)
		}
		return r.interrupted
	}
	return false
}

// passInterrupt has go-fuse tell a request, and says whether it knows it. It is called
// with mu held, which go-fuse does not ask for here.
func (d *device) passInterrupt(unique uint64) bool {
	in := gofuse.InterruptIn{Unique: unique}
	in.Length, in.Opcode = uint32(interruptSize), opInterrupt
	n, _ := d.proto.HandleRequest([][]byte{unsafe.Slice((*byte)(unsafe.Pointer(&in)), interruptSize)}, [][]byte{make([]byte, mostFixed)})
	return n == 0 // what it knows wants no answer
}

// Called with mu held.
func (d *device) interruptLocked(r *being) {
	if !r.interrupted {
		r.interrupted = true
		close(r.cancel)
	}
}

// interruptAll interrupts everything, when the kernel has unmounted.
func (d *device) interruptAll() {
	d.mu.Lock()
	var others []uint64
	for _, r := range d.inFlight {
		if r.data {
			d.interruptLocked(r)
		} else {
			others = append(others, r.unique)
		}
	}
	d.mu.Unlock()
	for _, unique := range others {
		for range 100 { // it may be on its way to go-fuse, or back
			if d.interrupt(unique) || !d.serving(unique) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// serving says whether a request is being served.
func (d *device) serving(unique uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.inFlight {
		if r.unique == unique {
			return true
		}
	}
	return false
}

// # Notifications

// What the kernel is told, include/uapi/linux/fuse.h.
const (
	notifyInode = 2
	notifyEntry = 3
)

// InodeNotify implements notifier.
func (d *device) InodeNotify(node uint64, off, length int64) gofuse.Status {
	m := struct {
		gofuse.OutHeader
		gofuse.NotifyInvalInodeOut
	}{NotifyInvalInodeOut: gofuse.NotifyInvalInodeOut{Ino: node, Off: off, Length: length}}
	m.OutHeader.Length, m.Status = uint32(unsafe.Sizeof(m)), notifyInode
	return d.notify(unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m)))
}

// EntryNotify implements notifier.
func (d *device) EntryNotify(parent uint64, name string) gofuse.Status {
	m := struct {
		gofuse.OutHeader
		gofuse.NotifyInvalEntryOut
	}{NotifyInvalEntryOut: gofuse.NotifyInvalEntryOut{Parent: parent, NameLen: uint32(len(name))}}
	m.OutHeader.Length, m.Status = uint32(unsafe.Sizeof(m))+uint32(len(name))+1, notifyEntry
	p := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
	return d.notify(append(append(append(make([]byte, 0, len(p)+len(name)+1), p...), name...), 0))
}

// notify tells the kernel, which may ask for something before it has understood.
func (d *device) notify(p []byte) gofuse.Status {
	conn, err := d.file.SyscallConn()
	if err != nil {
		return gofuse.EBADF
	}
	st := gofuse.EBADF // if there is no kernel any more
	_ = conn.Control(func(fd uintptr) {
		for {
			_, err := unix.Write(int(fd), p)
			if err == unix.EINTR {
				continue
			}
			st = gofuse.ToStatus(err)
			return
		}
	})
	runtime.KeepAlive(p)
	return st
}
