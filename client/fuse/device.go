package fuse

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"sync"
	"unsafe"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// # Who serves the kernel
//
// A goroutine that has read a request from /dev/fuse serves it to the end, on its thread,
// and reads the next one. When nobody is left to read it sees first that somebody else is:
// what it serves may take any time, and may have the kernel ask for more meanwhile. What
// moves data is served here, where nothing is copied or allocated for it; the rest is taken
// apart by go-fuse.

// Opcodes and sizes of the protocol, include/uapi/linux/fuse.h.
const (
	opForget      = 2
	opRead        = 15
	opWrite       = 16
	opGetXattr    = 22
	opListXattr   = 23
	opReadDir     = 28
	opInterrupt   = 36
	opIoctl       = 39
	opBatchForget = 42
	opReadDirPlus = 44

	requestHeader = int(unsafe.Sizeof(gofuse.InHeader{}))
	interruptSize = int(unsafe.Sizeof(gofuse.InterruptIn{}))
	answerHeader  = int(unsafe.Sizeof(gofuse.OutHeader{}))
	// mostFixed is the longest answer without data of variable length, in bytes, and
	// then some.
	mostFixed = 1024
	// smallAnswer is the room for the answers to most requests that move no data.
	smallAnswer = 8 << 10
)

// device is the mount as the kernel's side of it: requests come from it, and answers and
// notifications go to it.
type device struct {
	f       *filesystem
	file    *os.File // closed when all loops have ended and nobody notifies any more
	fd      int      // of file, for the loops
	proto   *gofuse.ProtocolServer
	log     *log.Logger
	trace   bool
	most    int // bytes of data in a request
	readers int // that wait for requests, at most
	buffers *buffers
	pipes   pipes

	loops sync.WaitGroup // its count changes by those of which it is one

	mu       sync.Mutex
	waiting  int      // readers in read(2). guarded by mu
	inFlight []*being // requests being served. guarded by mu
	gone     bool     // the kernel has unmounted. guarded by mu
}

// being is a request that is being served. It is pooled.
type being struct {
	unique      uint64
	at          int           // in device.inFlight. guarded by device.mu
	data        bool          // it moves data, and goes by cancel; else go-fuse knows it
	cancel      chan struct{} // closed when the caller has got a signal
	interrupted bool          // it is known that he has, here or to go-fuse. guarded by device.mu
	read        gofuse.ReadIn
	write       gofuse.WriteIn
}

var beings = sync.Pool{New: func() any { return &being{cancel: make(chan struct{})} }}

// newDevice mounts on dir, and agrees with the kernel on what each can do.
func newDevice(f *filesystem, dir string, o *gofuse.MountOptions) (*device, error) {
	o.MaxWrite = min(o.MaxWrite, maxPages()*os.Getpagesize())
	file, err := attach(dir, o)
	if err != nil {
		return nil, err
	}
	d, err := openDevice(f, file, o)
	if err != nil {
		return nil, errors.Join(err, unmount(dir, true)) // nobody would answer there
	}
	return d, nil
}

// openDevice is newDevice of what is mounted already: file is /dev/fuse, and the device's.
func openDevice(f *filesystem, file *os.File, o *gofuse.MountOptions) (*device, error) {
	d := &device{
		f: f, file: file, fd: int(file.Fd()), proto: gofuse.NewProtocolServer(f, o), log: o.Logger, trace: o.Debug,
		most: o.MaxWrite, readers: min(max(runtime.GOMAXPROCS(0), 2), 16), buffers: newBuffers(max(o.MaxWrite, leastBuffer)),
	}
	if err := d.init(); err != nil {
		file.Close()
		d.buffers.close()
		return nil, fmt.Errorf("what the kernel asks for first: %w", err)
	}
	f.kernel = d
	return d, nil
}

// init serves the first request, which is INIT.
func (d *device) init() error {
	b := d.buffers.get()
	n, err := d.next(b)
	in := (*gofuse.InitIn)(unsafe.Pointer(b.header()))
	// What it can is in two words, the second of which old kernels do not send.
	least := int(unsafe.Offsetof(in.Flags2))
	if err == nil && n < least {
		err = fmt.Errorf("a request of %d bytes, not %d: %w", n, least, unix.EPROTO)
	}
	if err != nil {
		d.buffers.put(b)
		return err
	}
	can := uint64(in.Flags)
	if n > least {
		can = in.Flags64()
	}
	// It came with a kernel that writes pages back before FOPEN_DIRECT_IO reads what they
	// are of, and drops those that it writes beneath.
	d.f.coherent = can&gofuse.CAP_DIRECT_IO_ALLOW_MMAP != 0
	d.serve(b, n)
	return nil
}

// maxPages is the kernel's limit of fs.fuse.max_pages_limit, which was fixed before there
// was the setting.
func maxPages() int {
	n := 256
	if b, err := os.ReadFile("/proc/sys/fs/fuse/max_pages_limit"); err == nil {
		if _, err := fmt.Sscan(string(b), &n); err != nil || n < 1 {
			n = 256
		}
	}
	return n
}

// run serves the kernel until it has unmounted and everything is served. It is called once.
func (d *device) run() {
	d.loops.Add(1)
	go d.loop() // ends with the mount, or when enough others are waiting; so do those it starts
	d.loops.Wait()
	// Notifications may be under way, and keep the file open until they are over.
	_ = d.file.Close()
	d.buffers.close()
}

// ready has the kernel ask now, and not when a program of this process opens a file here,
// whether files can be polled: who asks then may be all that could answer. go-fuse knows
// the name, and answers.
func (d *device) ready(dir string) error {
	fd, err := unix.Open(dir+"/.go-fuse-epoll-hack", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return nil
}

// loop reads requests and serves them.
func (d *device) loop() {
	defer d.loops.Done()
	for {
		d.mu.Lock()
		if d.waiting > d.readers || d.gone {
			d.mu.Unlock()
			return
		}
		d.waiting++
		d.mu.Unlock()
		b := d.buffers.get()
		n, err := d.next(b)
		if !d.received(b, n, err) {
			d.buffers.put(b)
			return
		}
		d.serve(b, n)
	}
}

// next reads a request.
func (d *device) next(b *buffer) (int, error) {
	for {
		n, err := b.read(d.fd)
		switch err {
		case unix.EINTR, unix.EAGAIN:
		case unix.ENOENT: // whoever asked has gone meanwhile
		case unix.EIO, unix.ENOMEM: // the kernel has failed it for want of memory
		default:
			return n, err
		}
	}
}

// received takes the reader out of those that wait, and sees that somebody does. It says
// whether there is something to serve.
func (d *device) received(b *buffer, n int, err error) bool {
	d.mu.Lock()
	d.waiting--
	ok := err == nil && n >= requestHeader
	// What wants no answer costs the kernel nothing: no reader more because of that.
	if op := b.header().Opcode; ok && d.waiting == 0 && op != opForget && op != opBatchForget {
		d.loops.Add(1)
		go d.loop()
	}
	over := err == unix.ENODEV
	if over {
		d.gone = true
	}
	d.mu.Unlock()
	if over {
		d.interruptAll() // nobody waits for them any more
	} else if !ok {
		d.log.Printf("a request of %d bytes: %v", n, err)
	}
	return ok
}

// serve serves a request of n bytes, which has a header, and gives the buffer back.
func (d *device) serve(b *buffer, n int) {
	h := b.header()
	r := beings.Get().(*being)
	r.unique, r.data = h.Unique, false
	switch {
	case h.Opcode == opInterrupt && n >= interruptSize:
		if !d.interrupt((*gofuse.InterruptIn)(unsafe.Pointer(h)).Unique) {
			d.fail(h.Unique, gofuse.EAGAIN)
		}
	case h.Opcode == opRead && n == int(unsafe.Sizeof(r.read)):
		r.data, r.read = true, *(*gofuse.ReadIn)(unsafe.Pointer(h))
		d.begin(r)
		d.readData(b, r)
		d.end(r)
	case h.Opcode == opWrite && n >= int(unsafe.Sizeof(r.write)):
		r.data, r.write = true, *(*gofuse.WriteIn)(unsafe.Pointer(h))
		d.begin(r)
		d.writeData(b, n-int(unsafe.Sizeof(r.write)), r)
		d.end(r)
	default:
		d.begin(r)
		d.pass(b, n) // gives the buffer back
		d.end(r)
		b = nil
	}
	beings.Put(r)
	if b != nil {
		d.buffers.put(b)
	}
}

// begin has a request be found by those that interrupt it.
func (d *device) begin(r *being) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.at = len(d.inFlight)
	d.inFlight = append(d.inFlight, r)
}

func (d *device) end(r *being) {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.inFlight) - 1
	d.inFlight[r.at] = d.inFlight[last]
	d.inFlight[r.at].at = r.at
	d.inFlight[last] = nil
	d.inFlight = d.inFlight[:last]
	if r.interrupted && r.data {
		r.cancel = make(chan struct{})
	}
	r.interrupted = false
}
