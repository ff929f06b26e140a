package iwarp

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"golang.org/x/sys/unix"
)

// fileChunk is how much of a file one FPDU carries: whole pages, as many as fit
// a ULPDU, because sendfile(2) moves pages and an unaligned run costs it another
// round.
const fileChunk = (maxULPDU - taggedLen) &^ (ndk.PageSize - 1)

// fileTx is a Write from a file under way; owned by the transmitter.
type fileTx struct {
	begun   bool
	done    uint32 // octets of the request in whole FPDUs
	inFPDU  bool   // one is under way
	segment uint32 // octets of payload in it

	fd     int
	off    int64 // in the file
	left   int   // of the FPDU's payload
	eof    bool
	real   uint32 // octets that came from the file
	refuse bool   // sendfile does not work on this file
	head   [lenField + taggedLen + 3 + crcField]byte
	hn, hp int // octets of head in use, and sent
	more   bool
	tail   int // octets of pad and CRC that the next FPDU of the QP starts with
	errno  unix.Errno
	probe  probe
	sendFn func(fd uintptr) bool
	fileFn func(fd uintptr) bool
	zeroFn func(fd uintptr) bool
}

// directFile is about how much of a file is sent from within a post.
const directFile = 1 << 20

var (
	filePool = sync.Pool{New: func() any { b := make([]byte, maxFPDU+crcField); return &b }}
	zeros    [64 << 10]byte
)

func (q *qp) initFile() {
	f := &q.file
	f.sendFn = func(fd uintptr) bool {
		for f.hp < f.hn {
			n, e := send(fd, f.head[f.hp:f.hn], f.more)
			switch e {
			case 0:
				f.hp += n
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				f.errno = e
				return true
			}
		}
		return true
	}
	f.fileFn = func(fd uintptr) bool {
		for f.left > 0 {
			n, e := sendfile(fd, f.fd, &f.off, f.left)
			switch {
			case e == unix.EINTR:
			case e == unix.EAGAIN:
				return false
			case e != 0:
				f.errno = e
				return true
			case n == 0:
				f.eof = true
				return true
			default:
				f.left -= n
				f.real += uint32(n)
			}
		}
		return true
	}
	f.zeroFn = func(fd uintptr) bool {
		for f.left > 0 {
			n, e := send(fd, zeros[:min(f.left, len(zeros))], true)
			switch e {
			case 0:
				f.left -= n
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				f.errno = e
				return true
			}
		}
		return true
	}
}

// fileTrailer puts the pad and CRC that a file's last FPDU still needs at the
// start of a fresh batch, so that they travel with what follows.
func (q *qp) fileTrailer(b *txBatch) {
	if n := q.file.tail; n > 0 {
		clear(b.header(n))
		b.trailer = n
		q.file.tail = 0
	}
}

// sendFile executes the WriteFile at next, or goes on with it. direct is set in a
// goroutine that is posting: where the socket is full it leaves the rest, and full is set.
func (q *qp) sendFile(direct bool) (ok, full bool) {
	q.mu.Lock()
	wr := *q.wr(q.next)
	q.mu.Unlock()
	var st ndk.Status
	f := &q.file
	if !f.begun {
		f.fd, f.off, f.eof, f.real, f.refuse = int(wr.file.Fd()), wr.fileOff, false, 0, false
		f.begun, f.inFPDU, f.done = true, false, 0
	}
	if q.crc || q.markers {
		st, ok = q.copyFile(&wr)
	} else if st, ok, full = q.spliceFile(&wr, direct); full {
		return true, true
	}
	f.begun = false
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.wr(q.next) // the ring may have grown
	w.bytes, w.status = f.real, st
	if st != ntstatus.Success && ok {
		// Nothing was promised to the peer yet, but a failed request ends the
		// connection.
		q.failRequest(w, st, 0)
		return true, false
	}
	w.done = true
	q.next++
	return ok, false
}

// noSendfile tells the cases in which the copying way still can work.
func noSendfile(e unix.Errno) bool {
	return e == unix.EINVAL || e == unix.ENOSYS || e == unix.EOPNOTSUPP || e == unix.ESPIPE || e == unix.EBADF
}

// spliceFile sends without CRC: headers by send, payload by sendfile. full says that it
// has stopped where the socket takes no more, as who is posting does not wait.
func (q *qp) spliceFile(wr *sendWR, direct bool) (st ndk.Status, ok, full bool) {
	f := &q.file
	if direct && wr.length > 0 && !f.probe.cached(f.fd, wr.fileOff+int64(wr.length)-1) {
		return 0, true, true // who is posting does not wait for storage either
	}
	for f.done < wr.length {
		if direct && f.done >= directFile {
			return 0, true, true
		}
		if !f.inFPDU {
			q.fileHeader(wr)
		}
		if f.hp < f.hn {
			if !q.rawWrite(f.sendFn, direct) || f.errno != 0 {
				return ntstatus.Cancelled, false, false
			}
			if f.hp < f.hn {
				return 0, true, true
			}
		}
		if !f.eof && !f.refuse && f.left > 0 {
			if !q.rawWrite(f.fileFn, direct) {
				return ntstatus.Cancelled, false, false
			}
			switch {
			case f.errno == 0:
			case noSendfile(f.errno):
				f.refuse, f.errno = true, 0
			case f.errno == unix.EPIPE || f.errno == unix.ECONNRESET:
				return ntstatus.Cancelled, false, false
			default:
				return ntstatus.IODeviceError, false, false // the header is out already
			}
			if !q.stepped {
				return 0, true, true
			}
		}
		if f.left > 0 && direct {
			return 0, true, true // what is done by copies may wait
		}
		if f.left > 0 && !f.eof && f.refuse {
			if st, ok := q.copyPayload(wr); !ok {
				return st, false, false
			}
		}
		if f.left > 0 {
			if !q.rawWrite(f.zeroFn, false) || f.errno != 0 {
				return ntstatus.Cancelled, false, false
			}
		}
		f.tail = padLen(taggedLen+int(f.segment)) + crcField
		f.done += f.segment
		f.inFPDU = false
	}
	return ntstatus.Success, true, false
}

// fileHeader begins the next FPDU of a file, behind the end of the one before it.
func (q *qp) fileHeader(wr *sendWR) {
	f := &q.file
	s := segment{ddp: ddpTagged | ddpVersion, rdmap: rdmapVersion | opWrite, stag: wr.token}
	off := wr.fileOff + int64(f.done)
	f.segment = q.fileSegment(off, wr.length-f.done)
	s.to = wr.raddr + uint64(f.done)
	if f.done+f.segment == wr.length {
		s.ddp |= ddpLast
	}
	trailer := f.tail
	f.tail = 0
	clear(f.head[:trailer])
	f.hp, f.hn, f.more, f.errno = 0, trailer, true, 0
	binary.BigEndian.PutUint16(f.head[f.hn:], uint16(taggedLen+int(f.segment)))
	f.hn += lenField
	f.hn += s.put(f.head[f.hn:])
	if q.tapped != nil {
		q.tapped.fileFPDU(f.head[:f.hn], trailer, wr.file, off, int(f.segment))
	}
	f.left, f.inFPDU = int(f.segment), true
}

// fileSegment is how much of a file goes into the FPDU that starts at off.
func (q *qp) fileSegment(off int64, left uint32) uint32 {
	room := q.maxSeg - taggedLen
	if room > ndk.PageSize {
		room = min(room&^(ndk.PageSize-1), fileChunk) - int(off%ndk.PageSize)
	}
	return min(uint32(room), left)
}

// copyPayload reads the rest of an FPDU's payload from the file and sends it.
func (q *qp) copyPayload(wr *sendWR) (ndk.Status, bool) {
	f := &q.file
	p := filePool.Get().(*[]byte)
	defer filePool.Put(p)
	buf := (*p)[:f.left]
	n, err := wr.file.ReadAt(buf, f.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return ntstatus.IODeviceError, false
	}
	q.copied.Add(uint64(n))
	f.off += int64(n)
	f.real += uint32(n)
	f.left -= n
	f.eof = n < len(buf)
	for buf = buf[:n]; len(buf) > 0; {
		k := 0
		ok := q.rawWrite(func(fd uintptr) bool {
			k, f.errno = send(fd, buf, true)
			return f.errno != unix.EAGAIN
		}, false)
		if f.errno == unix.EINTR {
			continue
		}
		if !ok || f.errno != 0 {
			return ntstatus.Cancelled, false
		}
		buf = buf[k:]
	}
	return ntstatus.Success, true
}

// copyFile sends with CRC or markers: each FPDU is read, built and sent.
func (q *qp) copyFile(wr *sendWR) (st ndk.Status, ok bool) {
	f := &q.file
	p := filePool.Get().(*[]byte)
	defer filePool.Put(p)
	s := segment{ddp: ddpTagged | ddpVersion, rdmap: rdmapVersion | opWrite, stag: wr.token}
	b := q.batch
	for off := uint32(0); off < wr.length; {
		n := q.fileSegment(wr.fileOff+int64(off), wr.length-off)
		s.to = wr.raddr + uint64(off)
		if off+n == wr.length {
			s.ddp |= ddpLast
		}
		buf := (*p)[:n]
		k := 0
		if !f.eof {
			var err error
			k, err = wr.file.ReadAt(buf, f.off)
			if err != nil && !errors.Is(err, io.EOF) {
				return ntstatus.IODeviceError, off == 0
			}
			q.copied.Add(uint64(k))
			f.off += int64(k)
			f.real += uint32(k)
			f.eof = k < len(buf)
		}
		clear(buf[k:])
		u := taggedLen + int(n)
		b.begin(u, &s, 0)
		b.sum(lenField + taggedLen)
		b.payload(buf, nil, 0)
		b.end(u)
		if q.markers && !q.mark(b) || !q.write(false) {
			return ntstatus.Cancelled, false
		}
		q.mu.Lock() // the receiver looks at jobs
		b.reset()
		q.mu.Unlock()
		off += n
	}
	return ntstatus.Success, true
}
