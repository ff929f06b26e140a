package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/bits"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

const (
	// writeToEnd is the offset that means the end of the file to an open that may
	// only append; for others it is as wrong as every negative offset, which is how
	// Windows has it.
	writeToEnd = math.MaxUint64
	// maxWriteDataOffset bounds DataOffset, [MS-SMB2] 3.3.5.13.
	maxWriteDataOffset = 0x100
)

// checkChannel applies the rules about Channel that READ and WRITE share,
// [MS-SMB2] 3.3.5.12 and 3.3.5.13. It returns whether data goes by RDMA.
func (r *request) checkChannel(ch smb2.Channel) (rdma bool, st ntstatus.Status) {
	c := r.conn
	if c.dialect < Dialect300 || ch == smb2.ChannelNone {
		return false, ntstatus.Success // below 3.0 the field is reserved
	}
	switch {
	case ch == smb2.ChannelRDMAV1:
	case ch == smb2.ChannelRDMAV1Invalidate && c.dialect != Dialect300:
	case ch == smb2.ChannelRDMATransform && c.transforms != 0 && r.hdr.Command == smb2.CommandWrite:
	default:
		return false, ntstatus.InvalidParameter
	}
	if c.rdma == nil {
		return false, ntstatus.InvalidParameter
	}
	return true, ntstatus.Success
}

// noteInvalidation finds the token that the final response of a READ or WRITE
// invalidates, whatever becomes of the request: a client that asked for it counts
// on it after errors too.
func (r *request) noteInvalidation() {
	c := r.conn
	if c.rdma == nil || c.dialect < Dialect302 || !c.rdma.RemoteInvalidation() {
		return
	}
	var info []byte
	switch r.hdr.Command {
	case smb2.CommandRead:
		m, err := smb2.ParseReadRequest(r.msg)
		if err != nil || m.Channel != smb2.ChannelRDMAV1Invalidate {
			return
		}
		info = m.ChannelInfo
	case smb2.CommandWrite:
		m, err := smb2.ParseWriteRequest(r.msg)
		if err != nil {
			return
		}
		channel := m.Channel
		info = m.ChannelInfo
		if channel == smb2.ChannelRDMATransform && c.transforms != 0 {
			t, err := smb2.ParseRDMATransform(info)
			if err != nil {
				return
			}
			channel, info = t.Channel, t.Descriptors
		}
		if channel != smb2.ChannelRDMAV1Invalidate {
			return
		}
	default:
		return
	}
	if ds, err := smb2.ParseBufferDescriptors(info); err == nil {
		r.invalidate, r.hasInval = ds.At(0).Token, true
	}
}

// descriptors decodes channel information into the chain's slice, which the
// next call overwrites.
func (ch *chain) descriptors(info []byte) ([]transport.Descriptor, bool) {
	ds, err := smb2.ParseBufferDescriptors(info)
	if err != nil {
		return nil, false
	}
	ch.descs = ch.descs[:0]
	for i := range ds.Len() {
		d := ds.At(i)
		ch.descs = append(ch.descs, transport.Descriptor{Offset: d.Offset, Token: d.Token, Length: d.Length})
	}
	return ch.descs, true
}

// read is [MS-SMB2] 3.3.5.12.
func read(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseReadRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	c := r.conn
	if o.access&(smb2.FileReadData|smb2.FileExecute) == 0 {
		return ntstatus.AccessDenied
	}
	if uint64(req.Length) > uint64(c.maxRead) {
		return ntstatus.InvalidParameter
	}
	rdma, st := r.checkChannel(req.Channel)
	if st != ntstatus.Success {
		return st
	}
	if rdma && (req.Length == 0 || len(req.ChannelInfo) == 0) {
		return ntstatus.InvalidParameter
	}
	switch {
	case o.isPipe:
		return r.readPipe(ctx, o, &req, rdma)
	case o.isDir || o.file == nil:
		return ntstatus.InvalidDeviceRequest
	case req.Offset > math.MaxInt64, uint64(req.Length) > math.MaxInt64-req.Offset:
		return ntstatus.InvalidParameter
	}
	off, n := int64(req.Offset), int64(req.Length)
	if n > 0 && o.lockConflict(req.Offset, uint64(n), false) {
		return ntstatus.FileLockConflict
	}
	if rdma {
		return r.readRDMA(ctx, o, &req, off, int(n))
	}
	return r.readInline(ctx, o, &req, off, int(n))
}

// readInline answers a READ with the data in the message. What does not fit the
// transport's messages is left out: a short read is a read. To a client that takes it
// for the end of the file it is refused.
func (r *request) readInline(ctx context.Context, o *open, req *smb2.ReadRequest, off int64, n int) ntstatus.Status {
	whole := r.conn.rdma != nil && !r.conn.rdma.ShortReads()
	room := r.room()
	if whole {
		room = r.readRoom()
	}
	whole = whole && n > room
	n = min(n, room)
	if n >= minFileTail && r.inTheClear() && !whole {
		if st, done := r.readFromFile(o, req, off, n); done {
			return st
		}
	}
	buf := r.srv.bufs.get(n)
	got := 0
	if n > 0 {
		var err error
		got, err = r.readAt(o, buf.b, off)
		if err != nil && !errors.Is(err, io.EOF) && got == 0 {
			r.srv.bufs.put(buf)
			return ntstatus.FromError(err)
		}
	}
	if got == 0 && req.Length > 0 || uint64(got) < uint64(req.MinimumCount) {
		r.srv.bufs.put(buf)
		return ntstatus.EndOfFile
	}
	if whole && got == n {
		// Asked after the read: what is added in between is not missing in it.
		size, err := fileSize(ctx, o)
		if err == nil && size > off+int64(got) {
			r.refuseLong(req.Length, room)
			err = ntstatus.InvalidParameter
		}
		if err != nil {
			r.srv.bufs.put(buf)
			return ntstatus.FromError(err)
		}
	}
	r.tail, r.tailBuf = buf.b[:got], buf
	r.srv.count.readInline.Add(uint64(got))
	r.srv.count.copied.Add(uint64(got))
	o.pos.Store(off + int64(got))
	resp := smb2.ReadResponse{DataLength: uint32(got)}
	var err error
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// readAt is ReadAt of the file, by a goroutine that may wait for the storage.
func (r *request) readAt(o *open, p []byte, off int64) (int, error) {
	got := 0
	if r.chain.turn != 0 {
		if o.cached != nil {
			n, err := o.cached.ReadCached(p, off)
			if err == nil || err == io.EOF {
				return n, err
			}
			got = n
		}
		r.chain.mayWait()
	}
	n, err := o.file.ReadAt(p[got:], off+int64(got))
	return got + n, err
}

// awaitFile makes the goroutine one that may wait for the storage, if n bytes of the
// file at off do not look as if they were in memory. What is read ahead of a client
// that goes through a file is there to its end if its last byte is.
func (r *request) awaitFile(o *open, off int64, n int) {
	if r.chain.turn == 0 {
		return
	}
	if o.cached != nil {
		_, err := o.cached.ReadCached(r.respHdr[:1], off+int64(n)-1)
		if err == io.EOF { // the file may be shorter
			_, err = o.cached.ReadCached(r.respHdr[:1], off)
		}
		if err == nil || err == io.EOF {
			return
		}
	}
	r.chain.mayWait()
}

// readRoom is how much of a file fits in the message to the octet, as a client
// reckons that asks for all that does; in a compound it is less.
func (r *request) readRoom() int {
	if len(r.chain.reqs) != 1 {
		return r.room()
	}
	n := r.conn.tc.MaxSendSize() - smb2.HeaderSize - readResponseSize
	if r.encryption() != nil {
		n -= smb2.TransformHeaderSize
	}
	return max(n, 0)
}

// readResponseSize is the fixed part of a READ response, [MS-SMB2] 2.2.20.
const readResponseSize = 16

// refuseLong says, once for a connection, what is to be done about READs that are
// refused for their length.
func (r *request) refuseLong(length uint32, room int) {
	if r.conn.refusedLong.Swap(true) || room == 0 {
		return
	}
	r.conn.log.Warn("a READ is refused that does not fit in a message and does not go by RDMA, as the client would take "+
		"less for the end of the file; it has to limit its READs, which for Linux is the mount option rsize",
		"length", length, "room", room, "rsize", 1<<(bits.Len(uint(room))-1))
}

// minFileTail is the length from which it pays to send from the page cache.
const minFileTail = 32 << 10

// inTheClear reports whether the response goes out alone, and as it is.
func (r *request) inTheClear() bool {
	return r.conn.loader != nil && len(r.chain.reqs) == 1 && r.encryption() == nil && r.responseSigner() == nil
}

// readFromFile answers a READ with data that goes from the page cache into the
// connection. It reports false if that cannot be done, before anything was.
func (r *request) readFromFile(o *open, req *smb2.ReadRequest, off int64, n int) (ntstatus.Status, bool) {
	f := o.osFile()
	if f == nil {
		return 0, false
	}
	r.awaitFile(o, off, n)
	tail, err := r.conn.loader.LoadFile(f, off, n)
	switch {
	case err != nil:
		return ntstatus.FromError(err), true
	case tail == nil:
		return 0, false
	}
	got := tail.Len()
	if got == 0 || uint64(got) < uint64(req.MinimumCount) {
		tail.Release()
		return ntstatus.EndOfFile, true
	}
	r.fileTail = tail
	r.srv.count.readInline.Add(uint64(got))
	o.pos.Store(off + int64(got))
	resp := smb2.ReadResponse{DataLength: uint32(got)}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err), true
}

// readRDMA answers a READ by writing into the client's memory: straight from
// the file where it has a descriptor, else, and where the data has to be signed or
// encrypted, from a registered buffer.
//
// How much there is to read is asked first. A file that shrinks in between has
// zeros written beyond its new end, and the response counts them out.
func (r *request) readRDMA(ctx context.Context, o *open, req *smb2.ReadRequest, off int64, n int) ntstatus.Status {
	c := r.conn
	guard, st := r.guard()
	if st != ntstatus.Success {
		return st
	}
	descs, ok := r.chain.descriptors(req.ChannelInfo)
	if !ok {
		return ntstatus.InvalidParameter
	}
	size, err := fileSize(ctx, o)
	if err != nil {
		return ntstatus.FromError(err)
	}
	n = int(min(int64(n), max(size-off, 0)))
	if n == 0 || uint64(n) < uint64(req.MinimumCount) {
		return ntstatus.EndOfFile
	}
	if transport.DescriptorsLen(descs) < uint64(n) {
		return ntstatus.InvalidParameter
	}
	f := o.osFile()
	if f == nil || guard != guardNone {
		return r.readLeased(o, req, off, n, descs, guard)
	}
	// The client's memory must not change after the answer, so the transfer is the
	// connection's to end, not the request's.
	r.awaitFile(o, off, n)
	if t, ok := c.rdma.(transport.WaitTeller); ok {
		n, err = t.WriteFileTelling(c.ctx, r.chain.mayWaitFn, f, off, n, descs)
	} else {
		r.chain.mayWait()
		n, err = c.rdma.WriteFile(c.ctx, f, off, n, descs)
	}
	if err != nil {
		return r.rdmaStatus(err)
	}
	if n == 0 || uint64(n) < uint64(req.MinimumCount) {
		return ntstatus.EndOfFile
	}
	r.srv.count.readRDMA.Add(uint64(n))
	r.srv.count.readFromFile.Add(uint64(n))
	o.pos.Store(off + int64(n))
	resp := smb2.ReadResponse{DataRemaining: uint32(n)}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// readLeased reads the file into registered memory, protects it there if it is to
// be, and writes that to the client.
func (r *request) readLeased(o *open, req *smb2.ReadRequest, off int64, n int, descs []transport.Descriptor, guard payloadGuard) ntstatus.Status {
	c := r.conn
	r.chain.mayWait()
	b, err := c.rdma.Lease(c.ctx, n)
	if err != nil {
		return r.rdmaStatus(err)
	}
	defer b.Release()
	got, err := o.file.ReadAt(b.Bytes()[:n], off)
	switch {
	case got == 0 && err != nil && !errors.Is(err, io.EOF):
		return ntstatus.FromError(err)
	case got == 0, uint64(got) < uint64(req.MinimumCount):
		return ntstatus.EndOfFile
	}
	st := r.place(b, got, descs, guard)
	if st == ntstatus.Success {
		r.srv.count.readRDMA.Add(uint64(got))
		o.pos.Store(off + int64(got))
	}
	return st
}

// rdmaStatus is the status for a failed transfer.
func (r *request) rdmaStatus(err error) ntstatus.Status {
	if errors.Is(err, transport.ErrDescriptors) {
		return ntstatus.InvalidParameter
	}
	return ntstatus.FromError(err)
}

// readPipe reads from a named pipe; data for RDMA passes through a leased buffer.
func (r *request) readPipe(ctx context.Context, o *open, req *smb2.ReadRequest, rdma bool) ntstatus.Status {
	c := r.conn
	if c.dialect >= Dialect302 && req.Flags&smb2.ReadFlagReadUnbuffered != 0 {
		return ntstatus.InvalidParameter
	}
	n := min(int(req.Length), c.maxTransact, r.room())
	var descs []transport.Descriptor
	var guard payloadGuard
	if rdma {
		var st ntstatus.Status
		if guard, st = r.guard(); st != ntstatus.Success {
			return st
		}
		var ok bool
		if descs, ok = r.chain.descriptors(req.ChannelInfo); !ok || transport.DescriptorsLen(descs) < uint64(n) {
			return ntstatus.InvalidParameter
		}
	}
	buf := r.srv.bufs.get(n)
	got, st := o.pipeRead(ctx, r, buf.b[:n])
	if st != ntstatus.Success && st != ntstatus.BufferOverflow {
		r.srv.bufs.put(buf)
		return st
	}
	if rdma && got > 0 {
		placed := r.placeBytes(buf.b[:got], descs, guard)
		r.srv.bufs.put(buf)
		if placed != ntstatus.Success {
			return placed
		}
		return st
	}
	r.tail, r.tailBuf = buf.b[:got], buf
	resp := smb2.ReadResponse{DataLength: uint32(got)}
	out, err := resp.AppendBinary(r.out)
	r.out = out
	if err != nil {
		return r.appended(err)
	}
	return st
}

// placeBytes is place for data that lies elsewhere.
func (r *request) placeBytes(p []byte, descs []transport.Descriptor, guard payloadGuard) ntstatus.Status {
	c := r.conn
	r.chain.mayWait()
	b, err := c.rdma.Lease(c.ctx, len(p))
	if err != nil {
		return r.rdmaStatus(err)
	}
	defer b.Release()
	copy(b.Bytes(), p)
	return r.place(b, len(p), descs, guard)
}

// write is [MS-SMB2] 3.3.5.13.
func write(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseWriteRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	c := r.conn
	if o.access&(smb2.FileWriteData|smb2.FileAppendData) == 0 {
		return ntstatus.AccessDenied
	}
	if r.tree.readOnly() {
		return r.tree.refuseChange(o.path(), smb2.FileWriteData, ntstatus.AccessDenied)
	}
	if o.snapshot {
		return ntstatus.MediaWriteProtected
	}
	rdma, st := r.checkChannel(req.Channel)
	if st != ntstatus.Success {
		return st
	}
	dataOffset := binary.LittleEndian.Uint16(r.msg[smb2.HeaderSize+2:])
	n := uint64(req.Length)
	var from *rdmaWrite
	if rdma {
		n = uint64(req.RemainingBytes)
		if req.Length != 0 || dataOffset != 0 || n == 0 || n > uint64(c.maxWrite) || len(req.ChannelInfo) == 0 {
			return ntstatus.InvalidParameter
		}
		w, st := r.parseWriteChannel(&req)
		if st != ntstatus.Success {
			return st
		}
		from = &w
	} else if dataOffset > maxWriteDataOffset {
		return ntstatus.InvalidParameter
	}
	if n > uint64(c.maxWrite) {
		return ntstatus.InvalidParameter
	}
	through := c.dialect != Dialect202 && req.Flags&smb2.WriteFlagWriteThrough != 0
	if o.isPipe {
		return r.writePipe(ctx, o, &req, int(n), from)
	}
	if o.isDir || o.file == nil {
		return ntstatus.InvalidDeviceRequest
	}
	if through && (c.dialect == Dialect210 || c.dialect == Dialect300) && o.options&smb2.FileNoIntermediateBuffering == 0 {
		return ntstatus.InvalidParameter
	}
	toEnd := req.Offset == writeToEnd && o.access&smb2.FileWriteData == 0
	if !toEnd && (req.Offset > math.MaxInt64 || n > math.MaxInt64-req.Offset) {
		return ntstatus.InvalidParameter
	}
	data := req.Data
	if rdma {
		b, st := r.fetch(from, int(n))
		if st != ntstatus.Success {
			return st
		}
		defer b.Release()
		data = b.Bytes()[:n]
	}
	if through || o.writeThrough {
		r.chain.mayWait()
	}
	if st := o.writeFile(ctx, data, req.Offset, through); st != ntstatus.Success {
		return st
	}
	if rdma {
		r.srv.count.writeRDMA.Add(n)
	} else {
		r.srv.count.writeInline.Add(n)
		r.srv.count.copied.Add(n)
	}
	resp := smb2.WriteResponse{Count: uint32(n)}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// writeFile writes all of data at off, or at the end for writeToEnd.
func (o *open) writeFile(ctx context.Context, data []byte, off uint64, through bool) ntstatus.Status {
	if off == writeToEnd {
		// Where the end is must not change before the data is there. Of all the
		// locks this alone is held during I/O, and only appending waits for it.
		o.state.appending.Lock()
		defer o.state.appending.Unlock()
		size, err := fileSize(ctx, o)
		if err != nil {
			return ntstatus.FromError(err)
		}
		off = uint64(size)
		if uint64(len(data)) > math.MaxInt64-off {
			return ntstatus.InvalidParameter
		}
	}
	if len(data) == 0 {
		return ntstatus.Success
	}
	if o.lockConflict(off, uint64(len(data)), true) {
		return ntstatus.FileLockConflict
	}
	if st := o.checkEnd(ctx, off+uint64(len(data))); st != ntstatus.Success {
		return st
	}
	o.breakReaders()
	defer o.breakReaders()
	n, err := o.file.WriteAt(data, int64(off))
	if n > 0 {
		o.wrote(int64(off), n)
	}
	if err != nil {
		return ntstatus.FromError(err)
	}
	if through {
		if err := o.file.Sync(ctx); err != nil {
			return ntstatus.FromError(err)
		}
	}
	return ntstatus.Success
}

const (
	// unusualEnd is where files seldom end: what is written behind it, in bytes, is
	// worth asking the storage for its size.
	unusualEnd = 1 << 40
	// maxFileSize is how large a file may be on storage that is not larger itself:
	// NTFS's limit with clusters of 4 KiB, [MS-FSA] 2.1.5.4.
	maxFileSize = 1<<44 - 1<<16
)

// checkEnd refuses a write that ends where no file can. One that has not been made
// sparse takes all of its size, and cannot be larger than the storage.
func (o *open) checkEnd(ctx context.Context, end uint64) ntstatus.Status {
	if end <= unusualEnd {
		return ntstatus.Success
	}
	sf, err := o.fs.Statfs(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	total := sf.Total * uint64(sf.BlockSize)
	if end <= total {
		return ntstatus.Success
	}
	if end > maxFileSize {
		return ntstatus.InvalidParameter
	}
	if info, err := o.file.Stat(ctx); err != nil || !isSparse(&info) {
		return ntstatus.DiskFull
	}
	return ntstatus.Success
}

// writePipe writes to a named pipe.
func (r *request) writePipe(ctx context.Context, o *open, req *smb2.WriteRequest, n int, from *rdmaWrite) ntstatus.Status {
	c := r.conn
	if c.dialect >= Dialect300 && req.Flags&(smb2.WriteFlagWriteThrough|smb2.WriteFlagWriteUnbuffered) != 0 {
		return ntstatus.InvalidParameter
	}
	if n > c.maxTransact {
		return ntstatus.InvalidParameter
	}
	data := req.Data
	if from != nil {
		b, st := r.fetch(from, n)
		if st != ntstatus.Success {
			return st
		}
		defer b.Release()
		data = b.Bytes()[:n]
	}
	written, st := o.pipeWrite(ctx, r, data)
	if st != ntstatus.Success {
		return st
	}
	resp := smb2.WriteResponse{Count: uint32(written)}
	out, err := resp.AppendBinary(r.out)
	r.out = out
	return r.appended(err)
}

// flush is [MS-SMB2] 3.3.5.11.
func flush(ctx context.Context, r *request) ntstatus.Status {
	req, err := smb2.ParseFlushRequest(r.msg)
	if err != nil {
		return ntstatus.InvalidParameter
	}
	o, st := r.open(req.FileID)
	if st != ntstatus.Success {
		return st
	}
	defer o.release()
	// FILE_ADD_FILE and FILE_ADD_SUBDIRECTORY of a directory are the same bits.
	if !o.isPipe && o.access&(smb2.FileWriteData|smb2.FileAppendData) == 0 {
		return ntstatus.AccessDenied
	}
	if o.file != nil {
		o.flushTimes(ctx)
		if err := o.file.Sync(ctx); err != nil {
			return ntstatus.FromError(err)
		}
	}
	r.out = appendEmpty4(r.out)
	return ntstatus.Success
}
