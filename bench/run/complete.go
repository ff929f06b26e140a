package run

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// complete books an I/O that ended at t. mu is held.
func (w *worker) complete(u *engine.Unit, t int64) {
	w.inflight--
	w.land(u)
	if u.Err != nil || u.N < len(u.Buf) {
		if w.seals != nil && u.Op == engine.Write {
			w.seals.failed(u)
		}
		if !w.fault(u) {
			return
		}
	}
	w.last = t
	if w.ramp != 0 && !w.counts(t) {
		return
	}
	if u.Op > engine.Write {
		w.res.Sync.Record(t - u.Begun)
		return
	}
	r := &w.res.Traffic[u.Op]
	r.IOs++
	r.Bytes += int64(u.N)
	if u.Issued != u.Begun && !w.job.DisableSlat {
		r.Submission.Record(u.Issued - u.Begun)
	}
	if !w.job.DisableClat {
		r.Completion.Record(t - u.Issued)
	}
	from := u.Begun
	if u.Due > 0 {
		from = u.Due
	}
	if !w.job.DisableLat {
		r.Total.Record(t - from)
	}
	if w.logs != nil {
		w.logs.add(u, t, u.Issued-u.Begun, t-u.Issued, t-from)
	}
	if w.tuner != nil && w.tuner.add(t, t-from) && !w.job.LatencyRun {
		w.end()
	}
	if w.tuner != nil && w.limit != w.tuner.depth {
		w.limit = w.tuner.depth
		w.parked.Broadcast()
	}
	if limit := w.job.MaxLatency[u.Op]; limit > 0 && t-from > int64(limit) {
		w.fail(fmt.Errorf("%s of %d bytes at %d took %v, more than max_latency %v", w.opName(u), len(u.Buf), u.Offset, time.Duration(t-from), limit))
	}
}

func (w *worker) opName(u *engine.Unit) string {
	return [...]string{"read", "write", "fsync", "fdatasync"}[u.Op]
}

// fault says whether an I/O that went wrong, or was short, counts. mu is held.
func (w *worker) fault(u *engine.Unit) bool {
	j := w.job
	err := u.Err
	if err == nil {
		if w.res.Traffic[u.Op].Short++; u.N > 0 {
			return true
		}
		err = io.ErrUnexpectedEOF
	}
	if u.Op == engine.Write && j.FillDevice && errors.Is(err, syscall.ENOSPC) {
		w.end()
		return false
	}
	w.res.Errors++
	kind, k := job.ErrorRead, 0
	if u.Op != engine.Read {
		kind, k = job.ErrorWrite, 1
	}
	for _, n := range j.IgnoreErrors[k] {
		if errors.Is(err, syscall.Errno(n)) {
			return false
		}
	}
	err = fmt.Errorf("%s of %d bytes at %d of %s: %w", w.opName(u), len(u.Buf), u.Offset, w.files[u.File], err)
	if j.ContinueOnError&kind != 0 {
		if w.res.Error == nil {
			w.res.Error = err
		}
		return false
	}
	w.fail(err)
	return false
}

// fail ends the job. mu is held.
func (w *worker) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	if w.res.Error == nil {
		w.res.Error = err
	}
	w.end()
}
