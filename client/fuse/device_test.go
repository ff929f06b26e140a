package fuse

import (
	"bytes"
	"encoding/binary"
	"io"
	"log"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// line is the kernel's end of a device, by a socket that keeps messages apart as /dev/fuse
// does.
type line struct {
	d      *device
	t      *testing.T
	fd     int
	unique uint64
}

// newLine is a device on a share, for requests of up to most bytes, and what the kernel
// would have.
func newLine(t *testing.T, k *kernel, most int) *line {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair { // a request has to fit
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20); err != nil {
			t.Fatal(err)
		}
	}
	l := &line{t: t, fd: pair[0]}
	// FUSE_INIT of 7.36: major, minor, max_readahead, flags, flags2, unused[11].
	init := make([]byte, 16+48)
	for i, v := range []uint32{7, 36, 128 << 10, uint32(gofuse.CAP_MAX_PAGES), 0} {
		binary.NativeEndian.PutUint32(init[4*i:], v)
	}
	l.ask(26, 0, init)
	o := k.fs.options()
	o.MaxWrite = most
	d, err := openDevice(k.fs, os.NewFile(uintptr(pair[1]), "device"), o)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := l.answer(); st != 0 {
		t.Fatalf("INIT: %d", st)
	}
	l.d = d
	over := make(chan struct{})
	go func() { // ends when the line is cut
		defer close(over)
		d.run()
	}()
	t.Cleanup(func() {
		unix.Close(l.fd)
		<-over
	})
	return l
}

// ask sends a request: its opcode, node and what follows the header.
func (l *line) ask(op uint32, node uint64, body []byte) (unique uint64) {
	l.t.Helper()
	l.unique += 2
	p := make([]byte, 40, 40+len(body))
	binary.NativeEndian.PutUint32(p[0:], uint32(40+len(body)))
	binary.NativeEndian.PutUint32(p[4:], op)
	binary.NativeEndian.PutUint64(p[8:], l.unique)
	binary.NativeEndian.PutUint64(p[16:], node)
	if _, err := unix.Write(l.fd, append(p, body...)); err != nil {
		l.t.Fatal(err)
	}
	return l.unique
}

// answer takes the next answer: its status, and what follows the header.
func (l *line) answer() (status int32, body []byte) {
	l.t.Helper()
	p := make([]byte, 1<<20)
	n, err := unix.Read(l.fd, p)
	if err != nil || n < 16 || binary.NativeEndian.Uint32(p) != uint32(n) {
		l.t.Fatalf("an answer of %d bytes: %v, %x", n, err, p[:min(n, 16)])
	}
	if got := binary.NativeEndian.Uint64(p[8:]); got != l.unique {
		l.t.Errorf("an answer to %d, want %d", got, l.unique)
	}
	return int32(binary.NativeEndian.Uint32(p[4:])), p[16:n]
}

// bytesOf are a structure's, after its header.
func bytesOf[T any](v *T) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))[40:]
}

// However small requests are to be, one is read into as much as the kernel wants, 8 KiB
// (FUSE_MIN_READ_BUFFER), and into no less than the longest attribute takes.
func TestDeviceOfSmallRequests(t *testing.T) {
	k := newKernel(t, newNAS(t).share(t, client.Config{}), Config{MaxIO: 4096})
	l := newLine(t, k, 4096)
	value := bytes.Repeat([]byte("v"), 65000)
	body := append(bytesOf(&gofuse.SetXAttrIn{Size: uint32(len(value))})[:8], "security.x\x00"...)
	l.ask(21, rootID, append(body, value...))
	if st, _ := l.answer(); st != -int32(syscall.EOPNOTSUPP) {
		t.Errorf("SETXATTR: %d", st)
	}
}

// An answer for which there is no room is an error, and not a part of itself: the kernel
// would refuse that, and the caller wait for ever.
func TestDeviceLongLink(t *testing.T) {
	k := newKernel(t, newNAS(t).share(t, client.Config{}), Config{})
	id, fh := k.create("file", "")
	k.close(fh)
	n := k.fs.t.get(id)
	n.kind = syscall.S_IFLNK
	l := newLine(t, k, 64<<10)
	for _, c := range []struct {
		target int
		status int32
	}{{4095, 0}, {4096, -int32(syscall.ENAMETOOLONG)}, {9000, -int32(syscall.ENAMETOOLONG)}} {
		target := strings.Repeat("t", c.target)
		n.mu.Lock()
		n.target = target
		n.mu.Unlock()
		l.ask(5, id, nil)
		if st, got := l.answer(); st != c.status || st == 0 && string(got) != target {
			t.Errorf("READLINK of %d bytes: %d, %d bytes; want %d", c.target, st, len(got), c.status)
		}
	}
}

// Requests as they come from /dev/fuse, and what is answered.
func TestDevice(t *testing.T) {
	k := newKernel(t, newNAS(t).share(t, client.Config{}), Config{})
	id, fh := k.create("file", "content")
	defer k.close(fh)
	l := newLine(t, k, 64<<10)
	long := bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 KiB, which is the most
	for _, c := range []struct {
		name   string
		op     uint32
		body   []byte
		status int32
		want   []byte // nil: whatever it is
	}{
		{"READ", opRead, bytesOf(&gofuse.ReadIn{Fh: fh, Size: 4096}), 0, []byte("content")},
		{"READ of nothing", opRead, bytesOf(&gofuse.ReadIn{Fh: fh, Offset: 100, Size: 4096}), 0, []byte{}},
		{"READ of what is not open", opRead, bytesOf(&gofuse.ReadIn{Fh: fh + 1, Size: 1}), -int32(syscall.EBADF), []byte{}},
		{"READ of more than was agreed on", opRead, bytesOf(&gofuse.ReadIn{Fh: fh, Size: 64<<10 + 1}), -int32(syscall.EINVAL), []byte{}},
		{"READ that is cut short", opRead, bytesOf(&gofuse.ReadIn{Fh: fh, Size: 1})[:30], -int32(syscall.EIO), []byte{}},
		{"WRITE", opWrite, append(bytesOf(&gofuse.WriteIn{Fh: fh, Size: 64 << 10}), long...), 0, bytesOf(&struct {
			_ [40]byte
			gofuse.WriteOut
		}{WriteOut: gofuse.WriteOut{Size: 64 << 10}})},
		{"READ of it", opRead, bytesOf(&gofuse.ReadIn{Fh: fh, Size: 64 << 10}), 0, long},
		{"WRITE of less than it says", opWrite, append(bytesOf(&gofuse.WriteIn{Fh: fh, Size: 8}), "1234567"...), -int32(syscall.EINVAL), []byte{}},
		{"WRITE of more than it says", opWrite, append(bytesOf(&gofuse.WriteIn{Fh: fh, Size: 8}), "123456789"...), -int32(syscall.EINVAL), []byte{}},
		{"GETATTR", 3, bytesOf(&gofuse.GetAttrIn{}), 0, nil},
		{"GETXATTR of no attribute", opGetXattr, append(bytesOf(&gofuse.GetXAttrIn{Size: 64 << 10}), "user.x\x00"...), -int32(syscall.ENODATA), []byte{}},
		{"GETXATTR into 4 GiB", opGetXattr, append(bytesOf(&gofuse.GetXAttrIn{Size: 1<<32 - 1}), "user.x\x00"...), -int32(syscall.EIO), []byte{}},
		{"LOOKUP of a name as long as a request", 1, append(bytes.Repeat([]byte("n"), 60<<10), 0), -int32(syscall.ENAMETOOLONG), []byte{}},
		{"an opcode of the future", 4095, nil, -int32(syscall.ENOSYS), []byte{}},
		{"INTERRUPT of what is over", opInterrupt, bytesOf(&gofuse.InterruptIn{Unique: 2}), -int32(syscall.EAGAIN), []byte{}},
	} {
		node := id
		if c.op == 1 {
			node = rootID
		}
		l.ask(c.op, node, c.body)
		status, got := l.answer()
		if status != c.status || c.want != nil && !bytes.Equal(got, c.want) {
			t.Errorf("%s: status %d, %d bytes %.40x; want %d, %d bytes %.40x", c.name, status, len(got), got, c.status, len(c.want), c.want)
		}
	}
	// Nobody waits for an answer to this: the next one is to another request.
	l.ask(opForget, 12345, bytesOf(&gofuse.ForgetIn{Nlookup: 1}))
	l.ask(opRead, id, bytesOf(&gofuse.ReadIn{Fh: fh, Size: 4}))
	if st, got := l.answer(); st != 0 || string(got) != "0123" {
		t.Errorf("after FORGET: %d, %q", st, got)
	}
}

// A directory's entries come in pieces of the size that is asked for, and no more than
// there is room for.
func TestDeviceListing(t *testing.T) {
	s := newNAS(t)
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(s.dir+"/"+name, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	k := newKernel(t, s.share(t, client.Config{}), Config{})
	var out gofuse.OpenOut
	k.ok(k.fs.OpenDir(nil, &gofuse.OpenIn{InHeader: head(rootID)}, &out))
	defer k.fs.ReleaseDir(&gofuse.ReleaseIn{Fh: out.Fh})
	l := newLine(t, k, 64<<10)
	for _, c := range []struct {
		size uint32
		want int // bytes: ".", "..", "a", "b" have 32 each, 24 and the name filled up
	}{{32, 32}, {100, 96}, {64 << 10, 128}, {1<<32 - 1, 128}} {
		l.ask(opReadDir, rootID, bytesOf(&gofuse.ReadIn{Fh: out.Fh, Size: c.size}))
		if st, got := l.answer(); st != 0 || len(got) != c.want {
			t.Errorf("READDIR of %d bytes: %d, %d bytes; want %d", c.size, st, len(got), c.want)
		}
	}
}

// A signal ends a request whose caller waits for a lock, while others are served.
func TestDeviceInterrupt(t *testing.T) {
	k := newKernel(t, newNAS(t).share(t, client.Config{}), Config{})
	id, fh := k.create("file", "content")
	defer k.close(fh)
	lock := func(owner uint64) *gofuse.LkIn {
		return &gofuse.LkIn{Fh: fh, Owner: owner, Lk: gofuse.FileLock{End: 99, Typ: syscall.F_WRLCK, Pid: 1}}
	}
	in := lock(1)
	in.NodeId = id
	k.ok(k.fs.SetLk(nil, in))
	l := newLine(t, k, 64<<10)
	waits := l.ask(33, id, bytesOf(lock(2))) // SETLKW
	for {
		l.ask(opInterrupt, 0, bytesOf(&gofuse.InterruptIn{Unique: waits}))
		p := make([]byte, 100)
		n, err := unix.Read(l.fd, p)
		if err != nil || n != 16 {
			t.Fatalf("%d bytes: %v", n, err)
		}
		st, unique := syscall.Errno(-int32(binary.NativeEndian.Uint32(p[4:]))), binary.NativeEndian.Uint64(p[8:])
		if unique == waits {
			if st != syscall.EINTR {
				t.Errorf("the lock: %v", st)
			}
			return
		}
		if st != syscall.EAGAIN { // it had not begun
			t.Fatalf("INTERRUPT: %v", st)
		}
	}
}

// Who has been told of a signal is not told again, and the kernel not asked to do so: it
// would ask until the request is over.
func TestDeviceInterruptAgain(t *testing.T) {
	k := newKernel(t, newNAS(t).share(t, client.Config{}), Config{})
	id, fh := k.create("file", "content")
	defer k.close(fh)
	lock := gofuse.LkIn{Fh: fh, Owner: 1, Lk: gofuse.FileLock{End: 99, Typ: syscall.F_WRLCK, Pid: 1}}
	lock.NodeId = id
	k.ok(k.fs.SetLk(nil, &lock))
	l := newLine(t, k, 64<<10)
	lock.Owner = 2
	waits := l.ask(33, id, bytesOf(&lock)) // SETLKW
	for !l.d.serving(waits) {
		runtime.Gosched()
	}
	for told := false; !told; {
		k.fs.lookout.mu.Lock() // so that it does not end meanwhile
		if told = l.d.interrupt(waits); told && !l.d.interrupt(waits) {
			t.Error("the second INTERRUPT is to be sent again")
		}
		k.fs.lookout.mu.Unlock()
		runtime.Gosched()
	}
	if st, _ := l.answer(); st != -int32(syscall.EINTR) {
		t.Errorf("the lock: %d", st)
	}
}

// What serves READ and WRITE allocates nothing of its own.
func TestDeviceAllocations(t *testing.T) {
	k := newKernel(t, newNAS(t).share(t, client.Config{}), Config{})
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	d := &device{f: k.fs, fd: int(null.Fd()), most: 64 << 10, buffers: newBuffers(64 << 10)}
	defer d.buffers.close()
	for _, c := range []struct {
		name string
		op   uint32
		size int
	}{
		{"READ", opRead, int(unsafe.Sizeof(gofuse.ReadIn{}))},
		{"WRITE", opWrite, int(unsafe.Sizeof(gofuse.WriteIn{}))},
	} {
		if n := testing.AllocsPerRun(100, func() {
			b := d.buffers.get()
			*b.header() = gofuse.InHeader{Opcode: c.op, Length: uint32(c.size)}
			d.serve(b, c.size) // of what is not open
		}); n != 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// Buffers are apart from each other, and as many as are asked for; those that last are
// pages, in huge ones, and are given back once.
func TestBuffers(t *testing.T) {
	const size, kept = 1 << 20, 40
	b := newBuffers(size)
	defer b.close()
	var all []*buffer
	seen := map[*byte]bool{}
	for i := range kept + 3 {
		p := b.get()
		if len(p.data) != size || seen[&p.data[0]] || p.kept != (i < kept) {
			t.Fatalf("buffer %d: %d bytes, seen %v, kept %v", i, len(p.data), seen[&p.data[0]], p.kept)
		}
		if at := uintptr(unsafe.Pointer(&p.data[0])); p.kept && at%size != 0 {
			t.Errorf("buffer %d is at %#x", i, at)
		}
		seen[&p.data[0]] = true
		p.data[0], p.data[size-1] = 1, 1
		all = append(all, p)
	}
	for _, p := range all {
		b.put(p)
	}
	p := b.get()
	if p != all[kept-1] {
		t.Error("the next one is not the one used last")
	}
	b.put(p)
	defer func() {
		if recover() == nil {
			t.Error("a buffer was given back twice")
		}
	}()
	b.put(p)
}

// What is read by a pipe is what the file has, and answered as if it were not: as much as
// was asked for, the end of a file, and what the pipe is too small for.
func TestDevicePiped(t *testing.T) {
	t.Run("TCP", func(t *testing.T) { devicePiped(t, newSigningNAS(t, server.PolicyOffered)) })
	t.Run("SMB Direct", func(t *testing.T) { devicePiped(t, newRDMANAS(t, server.PolicyOffered)) })
}

func devicePiped(t *testing.T, s *nas) {
	const size = 300_000
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i * 7 / 5)
	}
	k := newKernel(t, s.share(t, client.Config{}), Config{})
	id, fh := k.create("file", string(content))
	defer k.close(fh)
	for _, c := range []struct {
		name     string
		off, ask int
		places   int // of the pipe; 0: as many as it has
		whole    bool
	}{
		{"all that is asked for", 0, 256 << 10, 0, true},
		{"not at a page, and not pages", 4097, 200_001, 0, true},
		{"up to the end", size - 128<<10, 128 << 10, 0, true},
		{"beyond the end", size - 200_000, 256 << 10, 0, false},
		{"behind the end", size, 256 << 10, 0, false},
		{"more than the pipe has room for", 0, 256 << 10, 4, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out [2]int // a pipe, to which the kernel moves octets as it does to /dev/fuse
			if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(out[0]), "answer")
			defer f.Close()
			if _, err := unix.FcntlInt(uintptr(out[1]), unix.F_SETPIPE_SZ, 1<<20); err != nil {
				t.Fatal(err)
			}
			d := &device{f: k.fs, fd: out[1], most: 256 << 10, buffers: newBuffers(256 << 10)}
			defer d.buffers.close()
			b := d.buffers.get()
			if c.places > 0 {
				if b.pipe.open(1, pipeFrom, d.most) == nil {
					t.Fatal("there is no pipe")
				}
				if _, err := unix.Read(b.pipe.r, make([]byte, answerHeader)); err != nil {
					t.Fatal(err)
				}
				if _, err := unix.FcntlInt(uintptr(b.pipe.r), unix.F_SETPIPE_SZ, c.places*os.Getpagesize()); err != nil {
					t.Fatal(err)
				}
			}
			in := gofuse.ReadIn{InHeader: gofuse.InHeader{Opcode: opRead, NodeId: id, Unique: 77}, Fh: fh, Offset: uint64(c.off), Size: uint32(c.ask)}
			copy(b.head[:], unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in)))
			d.serve(b, int(unsafe.Sizeof(in)))
			unix.Close(out[1])
			got, err := io.ReadAll(f)
			if err != nil {
				t.Fatal(err)
			}
			want := content[min(c.off, size):min(c.off+c.ask, size)]
			h := binary.NativeEndian.AppendUint32(nil, uint32(16+len(want)))
			h = binary.NativeEndian.AppendUint64(append(h, 0, 0, 0, 0), 77)
			if !bytes.Equal(got, append(h, want...)) {
				t.Errorf("%d bytes, beginning with %x, want %d with %x", len(got), got[:min(16, len(got))], 16+len(want), h)
			}
			if c.whole && (b.pipe.in.N != c.ask || b.pipe.in.Over) {
				t.Errorf("%d bytes went through the pipe, want %d", b.pipe.in.N, c.ask)
			}
			if c.places > 0 && (!b.pipe.in.Over || d.pipes.wanted(c.ask)) {
				t.Error("a pipe that was too small is not noticed")
			}
		})
	}
}

// Only a buffer that lasts has a pipe, which is closed with it: of another one nobody would
// close it.
func TestPipesLastWithBuffers(t *testing.T) {
	k := newKernel(t, newSigningNAS(t, server.PolicyOffered).share(t, client.Config{}), Config{})
	id, fh := k.create("file", strings.Repeat("content ", pipeFrom/8))
	defer k.close(fh)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	d := &device{f: k.fs, fd: int(null.Fd()), most: pipeFrom, buffers: newBuffers(pipeFrom), log: log.New(io.Discard, "", 0)}
	var all []*buffer
	for len(all) == 0 || all[len(all)-1].kept {
		all = append(all, d.buffers.get())
	}
	for i, b := range all {
		d.pipes.rest.Store(0)
		in := gofuse.ReadIn{InHeader: gofuse.InHeader{Opcode: opRead, NodeId: id}, Fh: fh, Size: pipeFrom}
		copy(b.head[:], unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in)))
		d.serve(b, int(unsafe.Sizeof(in)))
		if open := b.pipe.r >= 0; open != b.kept {
			t.Errorf("buffer %d, kept %v, has a pipe: %v", i, b.kept, open)
		}
	}
	d.buffers.close()
	for i, b := range all {
		if b.pipe.r >= 0 {
			t.Errorf("the pipe of buffer %d is open when the buffers are gone", i)
		}
	}
}

// An answer that the kernel does not take from a pipe is written, and what was in the pipe
// and is lost is an error: nobody is left waiting.
func TestDevicePipeRefused(t *testing.T) {
	k := newKernel(t, newSigningNAS(t, server.PolicyOffered).share(t, client.Config{}), Config{})
	content := strings.Repeat("content ", pipeFrom/8)
	id, fh := k.create("file", content)
	defer k.close(fh)
	// splice(2) does not write to what is open for appending.
	f, err := os.OpenFile(t.TempDir()+"/answers", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := &device{f: k.fs, fd: int(f.Fd()), most: pipeFrom, buffers: newBuffers(pipeFrom), log: log.New(io.Discard, "", 0)}
	defer d.buffers.close()
	b := d.buffers.get()
	in := gofuse.ReadIn{InHeader: gofuse.InHeader{Opcode: opRead, NodeId: id, Unique: 77}, Fh: fh, Size: pipeFrom}
	copy(b.head[:], unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in)))
	d.serve(b, int(unsafe.Sizeof(in)))
	if b.pipe.in.N != pipeFrom || d.pipes.wanted(pipeFrom) {
		t.Errorf("%d bytes went through a pipe; the next may, too: %v", b.pipe.in.N, d.pipes.wanted(pipeFrom))
	}
	got, err := os.ReadFile(f.Name())
	want := binary.NativeEndian.AppendUint32(nil, uint32(16+len(content)))
	want = binary.NativeEndian.AppendUint64(append(want, 0, 0, 0, 0), 77)
	if err != nil || !bytes.Equal(got, append(want, content...)) {
		t.Errorf("%d bytes, beginning with %x, want %d with %x: %v", len(got), got[:min(16, len(got))], 16+len(content), want, err)
	}

	// What is gone from the pipe.
	if b.pipe.open(1, pipeFrom, d.most) == nil {
		t.Fatal("there is no pipe")
	}
	if _, err := unix.Read(b.pipe.r, make([]byte, answerHeader)); err != nil {
		t.Fatal(err)
	}
	b.pipe.in.N = pipeFrom
	if d.sentPiped(1, &b.pipe, pipeFrom) || b.pipe.drain(b.data) == nil || b.pipe.r >= 0 {
		t.Errorf("an answer of nothing is taken for one; the pipe is %d", b.pipe.r)
	}
}
