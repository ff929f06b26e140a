package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// How much is moved by each path: fileSize, or as many pieces as fit into enough.
const (
	fileSize  = 16 << 20
	pieceSize = 1 << 20
	smallSize = 4096
	smalls    = 16
	enough    = time.Second
	// maxEntries are how many entries of a directory are looked at for a file.
	maxEntries = 1000
)

// figures are what was measured by one path.
type figures struct {
	written, read         int64
	writeTime, readTime   time.Duration
	small                 time.Duration // of one read of smallSize; 0 if not measured
	rdmaWritten, rdmaRead uint64
	after                 client.Stats // before the short reads
	file                  string
}

// errNotMeasured says that there is nothing to measure with.
var errNotMeasured = errors.New("nothing to read and no right to write")

// measure writes and reads by each path that there is.
func (d *doctor) measure(ctx context.Context) {
	s := d.begin(StepRDMA, "write and read by RDMA")
	switch {
	case d.direct == nil || d.share == nil:
		s.end(NotPossible, "there is no share on SMB Direct")
	case d.path == client.PathInline:
		s.end(NotPossible, "this session does not use RDMA")
	default:
		d.timed(ctx, s, d.share, true)
	}
	s = d.begin(StepInline, "write and read in messages of SMB Direct")
	if d.direct == nil || d.share == nil {
		s.end(NotPossible, "there is no share on SMB Direct")
	} else {
		cfg := d.cfg.Client
		cfg.RDMAThreshold = -1
		d.timedOn(ctx, s, func() (*client.Session, error) { return d.openDirect(ctx, cfg) })
	}
	s = d.begin(StepTCP, "write and read by TCP")
	if d.plain == nil || d.share == nil {
		s.end(NotPossible, "there is no share on TCP")
	} else {
		d.timedOn(ctx, s, func() (*client.Session, error) { return d.openPlain(ctx, d.cfg.Client) })
	}
}

// timedOn is timed on a session of its own.
func (d *doctor) timedOn(ctx context.Context, s *Step, open func() (*client.Session, error)) {
	sess, err := open()
	if err != nil {
		s.fail("see what the server's log says", "no session: %v", err)
		return
	}
	defer sess.Close()
	mctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	sh, err := sess.Mount(mctx, d.cfg.Share)
	if err != nil {
		s.fail("see what the server's log says", "%v", err)
		return
	}
	d.timed(ctx, s, sh, false)
}

// timed measures on a share and ends the step.
func (d *doctor) timed(ctx context.Context, s *Step, sh *client.Share, rdma bool) {
	ctx, cancel := context.WithTimeout(ctx, ioTime)
	defer cancel()
	before := sh.Session().Stats()
	f, err := d.transfer(ctx, sh)
	if f.after.Requests == 0 { // it came to nothing before
		f.after = sh.Session().Stats()
	}
	f.rdmaWritten, f.rdmaRead = f.after.RDMABytesWritten-before.RDMABytesWritten, f.after.RDMABytesRead-before.RDMABytesRead
	f.tell(s)
	var text string
	if f.writeTime > 0 && f.written > 0 {
		text = fmt.Sprintf("wrote %s at %s, ", mib(f.written), rate(f.written, f.writeTime))
	}
	text += fmt.Sprintf("read %s at %s, data verified", mib(f.read), rate(f.read, f.readTime))
	switch {
	case errors.Is(err, errNotMeasured) && d.cfg.NoWrite:
		s.end(NotTried, "--no-write, and no file of 4 KiB or more in the directory to read")
	case errors.Is(err, errNotMeasured):
		s.end(NotPossible, "the user may not write, and there is no file of 4 KiB or more in the directory to read")
	case err != nil:
		s.fail("see what the server's log and its flight recorder say (smbd-rdma status --flight)", "%v", err)
	case rdma && (f.rdmaWritten < uint64(f.written) || f.rdmaRead < uint64(f.read)):
		s.fail("give an --rdma-threshold of at most 1 MiB", "%s, but of that only %d bytes written and %d read by RDMA", text, f.rdmaWritten, f.rdmaRead)
	default:
		s.end(OK, "%s", text)
		if rdma {
			d.measured = ": " + text
		}
	}
}

func (f *figures) tell(s *Step) {
	s.quiet("bytes_written", f.written)
	s.quiet("bytes_read", f.read)
	s.quiet("bytes_written_by_rdma", f.rdmaWritten)
	s.quiet("bytes_read_by_rdma", f.rdmaRead)
	if f.writeTime > 0 {
		s.quiet("write_mb_per_second", perSecond(f.written, f.writeTime))
	}
	if f.readTime > 0 {
		s.quiet("read_mb_per_second", perSecond(f.read, f.readTime))
	}
	if f.small > 0 {
		s.add("read_4k_microseconds", math.Round(f.small.Seconds()*1e7)/10)
	}
	s.quiet("file", f.file)
}

func perSecond(n int64, t time.Duration) float64 {
	return math.Round(float64(n)/1e5/max(t.Seconds(), 1e-9)) / 10
}
func rate(n int64, t time.Duration) string { return fmt.Sprintf("%.1f MB/s", perSecond(n, t)) }
func mib(n int64) string                   { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// transfer writes a file and reads it, or reads one that is there.
func (d *doctor) transfer(ctx context.Context, sh *client.Share) (f figures, err error) {
	if d.cfg.NoWrite {
		return d.readOne(ctx, sh)
	}
	id := make([]byte, 8)
	rand.Read(id) // never fails
	f.file = path.Join(d.cfg.Dir, "smbd-rdma-doctor-"+hex.EncodeToString(id)+".tmp")
	file, err := sh.CreateFile(ctx, f.file, client.CreateOptions{
		Access:      client.AccessGenericRead | client.AccessGenericWrite | client.AccessDelete,
		Disposition: client.CreateNew, Options: client.OptNonDirectory | client.OptDeleteOnClose,
	})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, ntstatus.MediaWriteProtected) {
		return d.readOne(ctx, sh)
	}
	if err != nil {
		return f, err
	}
	err = f.there(ctx, file)
	return f, errors.Join(err, d.removed(ctx, sh, file, f.file))
}

// removed closes a file that goes with its last handle, and looks after that.
func (d *doctor) removed(ctx context.Context, sh *client.Share, file *client.File, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime/2)
	defer cancel()
	_ = file.Close()
	if sh.Session().Err() != nil {
		return nil // the server removes it with the connection
	}
	if _, err := sh.Stat(ctx, name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := sh.Remove(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the file %s is left: %w", name, err)
	}
	return nil
}

// there writes what nobody can guess, and reads it back.
func (f *figures) there(ctx context.Context, file *client.File) error {
	piece, back := make([]byte, pieceSize), make([]byte, pieceSize)
	rand.Read(piece)
	mark := func(i int64) { copy(piece, fmt.Sprintf("%016x", i)) } // no two pieces are equal
	began := time.Now()
	for ; f.written < fileSize && (f.written == 0 || time.Since(began) < enough); f.written += pieceSize {
		mark(f.written)
		if n, err := file.WriteAtContext(ctx, piece, f.written); err != nil {
			return fmt.Errorf("write at %d: %w", f.written+int64(n), err)
		}
	}
	f.writeTime = time.Since(began)
	for ; f.read < f.written; f.read += pieceSize {
		clear(back)
		began = time.Now()
		if _, err := file.ReadAtContext(ctx, back, f.read); err != nil {
			return fmt.Errorf("read at %d: %w", f.read, err)
		}
		f.readTime += time.Since(began)
		if mark(f.read); !bytes.Equal(piece, back) {
			return fmt.Errorf("what was read at %d is not what was written there", f.read)
		}
	}
	return f.latency(ctx, file)
}

// latency measures short reads.
func (f *figures) latency(ctx context.Context, file *client.File) error {
	f.after = file.Share().Session().Stats()
	p := make([]byte, smallSize)
	began := time.Now()
	for i := range smalls {
		if _, err := file.ReadAtContext(ctx, p, 0); err != nil {
			return fmt.Errorf("short read %d: %w", i, err)
		}
	}
	f.small = time.Since(began) / smalls
	return nil
}

// readOne reads the beginning of the largest file of the directory, and compares it
// with what came by the other paths.
func (d *doctor) readOne(ctx context.Context, sh *client.Share) (f figures, err error) {
	dir, err := sh.Open(ctx, d.cfg.Dir)
	if err != nil {
		return f, err
	}
	list, err := dir.ReadDirContext(ctx, maxEntries)
	_ = dir.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return f, err
	}
	size := int64(smallSize - 1)
	for _, e := range list {
		i, err := e.Info()
		if err == nil && i.Mode().IsRegular() && i.Size() > size {
			size, f.file = i.Size(), path.Join(d.cfg.Dir, e.Name())
		}
	}
	if f.file == "" {
		return f, errNotMeasured
	}
	file, err := sh.Open(ctx, f.file)
	if err != nil {
		return f, err
	}
	defer file.Close()
	size = min(size, fileSize)
	h, p := sha256.New(), make([]byte, pieceSize)
	for f.read < size && f.readTime < enough {
		began := time.Now()
		n, err := file.ReadAtContext(ctx, p[:min(size-f.read, pieceSize)], f.read)
		f.readTime += time.Since(began)
		if err != nil {
			return f, fmt.Errorf("%s: read at %d: %w", f.file, f.read, err)
		}
		h.Write(p[:n])
		f.read += int64(n)
	}
	sum := [32]byte(h.Sum(nil))
	if old, ok := d.hash[f.read]; ok && old != sum {
		return f, fmt.Errorf("%s: what was read is not what came by another path; or the file was changed meanwhile", f.file)
	}
	if d.hash == nil {
		d.hash = map[int64][32]byte{}
	}
	d.hash[f.read] = sum
	return f, f.latency(ctx, file)
}
