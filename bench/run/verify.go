package run

import (
	"fmt"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/pattern"
)

// maxSealed bounds the blocks whose writes are remembered, 8 bytes each.
const maxSealed = 1 << 28

// starts marks the block of a write at which it began.
const starts = 1 << 63

// seals make what is written known again: which write was the last in each block, and
// what that has put there.
type seals struct {
	w       *worker
	verify  pattern.Verify
	unit    int64
	regions []pattern.Region
	last    [][]uint64 // by file and block: the number of the write plus one, with starts
}

func newSeals(w *worker, regions []pattern.Region) (*seals, error) {
	j := w.job
	v := pattern.Verify{Interval: int(j.VerifyInterval), Offset: int(j.VerifyOffset), Pattern: j.VerifyPattern.Bytes, Places: j.VerifyPattern.Offsets,
		Seed: w.seed(), Thread: uint16(j.Number)}
	switch j.Verify {
	case job.VerifyMD5:
		v.Method = pattern.MD5
	case job.VerifyCRC32:
		v.Method = pattern.CRC32
	case job.VerifyCRC32C:
		v.Method = pattern.CRC32C
	case job.VerifySHA1:
		v.Method = pattern.SHA1
	case job.VerifySHA256:
		v.Method = pattern.SHA256
	case job.VerifySHA512:
		v.Method = pattern.SHA512
	case job.VerifyXXHash:
		v.Method = pattern.XXHash
	case job.VerifyPattern:
		v.Method = pattern.PatternOnly
	}
	unit := int(w.minSize())
	if err := v.Check(unit); err != nil {
		return nil, err
	}
	s := &seals{w: w, verify: v, unit: int64(unit), regions: regions}
	if !j.RW.Writes {
		return s, nil
	}
	blocks := int64(0)
	for _, r := range regions {
		n := (r.Size + s.unit - 1) / s.unit
		if blocks += n; n > maxSealed || blocks > maxSealed {
			return nil, fmt.Errorf("verify remembers at most %d blocks, and size has more of %d bytes", int64(maxSealed), unit)
		}
		s.last = append(s.last, make([]uint64, n))
	}
	return s, nil
}

// wrote remembers a write, before it is done.
func (s *seals) wrote(u *engine.Unit) {
	r := s.regions[u.File]
	last := s.last[u.File]
	first := (u.Offset - r.Start) / s.unit
	end := min((u.Offset-r.Start+int64(len(u.Buf))+s.unit-1)/s.unit, int64(len(last)))
	for b := first; b < end; b++ {
		last[b] = u.Seq + 1
	}
	last[first] |= starts
}

// failed forgets a write that was not done, or not to its end: what is there then nobody
// knows, and it is not verified.
func (s *seals) failed(u *engine.Unit) {
	r := s.regions[u.File]
	last := s.last[u.File]
	first := (u.Offset - r.Start) / s.unit
	for b := first; b < int64(len(last)) && last[b]&^starts == u.Seq+1; b++ {
		last[b] = 0
	}
}

// overlaps says whether an I/O would meet one that is under way. Of two writes nobody
// could say which was the last; with serialize_overlap it is all I/Os. mu is held.
func (w *worker) overlaps(io *pattern.IO, but int) bool {
	for i := range w.units {
		u := &w.units[i]
		if i != but && w.flying[i] && u.File == io.File && u.Offset < io.Offset+io.Size && io.Offset < u.Offset+int64(len(u.Buf)) &&
			(u.Op == engine.Write && io.Write || w.job.SerializeOverlap) {
			return true
		}
	}
	return false
}

// seal fills a buffer that is to be written.
func (s *seals) seal(u *engine.Unit) {
	t := time.Now()
	s.verify.Seal(u.Buf, u.Offset, u.Seq, uint32(t.Unix()), uint32(t.Nanosecond()))
}

// check looks at what was read without knowing which write it is of.
func (s *seals) check(u *engine.Unit) error {
	return s.verify.Check1(u.Buf, u.Offset)
}

// checked books a comparison. mu is held.
func (w *worker) checked(err error) {
	w.res.Verified++
	if err == nil {
		return
	}
	w.res.Bad++
	w.res.Errors++
	err = fmt.Errorf("%w: %w", ErrVerify, err)
	if w.job.VerifyFatal || w.job.ContinueOnError&job.ErrorVerify == 0 {
		w.fail(err)
	} else if w.res.Error == nil {
		w.res.Error = err
	}
}

// replay goes through the writes of a job as it would do them, and does none.
func (w *worker) replay() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.loops > 0 {
		for w.gen.Next(&w.io) {
			if w.job.NumberIOs > 0 && w.issued >= w.job.NumberIOs {
				return
			}
			w.issued++
			if w.io.Write {
				w.seals.wrote(&engine.Unit{Op: engine.Write, File: w.io.File, Offset: w.io.Offset, Buf: w.bufs.At(0)[:w.io.Size], Seq: w.seq})
				w.seq++
			}
		}
		if w.loops--; w.loops > 0 {
			w.gen.Extend(w.total)
		}
	}
}

// piece is what one write has left in a file.
type piece struct {
	file      int
	off, size int64
	seq       uint64
}

// readBack reads what was written, and compares. The worker's I/O has ended.
func (w *worker) readBack() error {
	s := w.seals
	var (
		mu     sync.Mutex
		file   int
		block  int
		failed bool
		lanes  sync.WaitGroup
		first  error
	)
	// next is the next piece that can be verified: one that was overwritten in part has
	// lost its header, or what that is about.
	next := func(p *piece) bool {
		for ; file < len(s.last); file, block = file+1, 0 {
			last := s.last[file]
			for block < len(last) {
				b := block
				for block++; block < len(last) && last[block]&starts == 0 && last[block] == last[b]&^starts; block++ {
				}
				if last[b]&starts == 0 {
					continue
				}
				*p = piece{file, s.regions[file].Start + int64(b)*s.unit, min(int64(block-b)*s.unit, s.regions[file].Size-int64(b)*s.unit), last[b]&^starts - 1}
				return true
			}
		}
		return false
	}
	for i := range w.units {
		lanes.Go(func() {
			var p piece
			for {
				mu.Lock()
				more := !failed && next(&p)
				mu.Unlock()
				if !more || w.stopped() {
					return
				}
				u := engine.Unit{Op: engine.Read, File: p.file, Offset: p.off, Buf: w.bufs.At(i)[:p.size], Slot: i}
				clear(u.Buf) // what is not read is not what was written
				w.target.Do(&u)
				var err error
				switch {
				case u.Err != nil:
					err = fmt.Errorf("%s at %d: %w", w.files[p.file], p.off, u.Err)
				case u.N < len(u.Buf):
					err = fmt.Errorf("%s at %d: %w: %d bytes of %d are there", w.files[p.file], p.off, ErrVerify, u.N, len(u.Buf))
				}
				if err == nil {
					if e := s.verify.CheckSeq(u.Buf, p.off, p.seq); e != nil {
						err = fmt.Errorf("%s at %d: %w", w.files[p.file], p.off, e)
					}
					w.mu.Lock()
					w.checked(err)
					w.mu.Unlock()
					if err == nil || !w.job.VerifyFatal && w.job.ContinueOnError&job.ErrorVerify != 0 {
						continue
					}
					err = fmt.Errorf("%w: %w", ErrVerify, err)
				}
				mu.Lock()
				if !failed {
					failed, first = true, err
				}
				mu.Unlock()
				return
			}
		})
	}
	lanes.Wait()
	return first
}
