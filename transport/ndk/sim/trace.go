package sim

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// subject is what a line of the trace is about: a kind and a number.
type subject struct {
	kind subjectKind
	n    int
}

type subjectKind uint8

const (
	subWorld subjectKind = iota
	subHost
	subAdapter
	subPD
	subCQ
	subQP
	subSRQ
	subMR
	subMW
	subEndpoint
	subListener
	subConnector
	subTask
	numSubjects
)

var subjectNames = [numSubjects]string{"world", "host", "adapter", "pd", "cq", "qp", "srq", "mr", "mw", "endpoint", "listener", "connector", "task"}

// number names the next subject of a kind.
func (w *World) number(k subjectKind) subject {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.counts[k]++
	return subject{k, w.s.counts[k]}
}

// trace keeps the newest lines, at most limit bytes, and the sum of all.
type trace struct {
	off     bool // constant: there is no trace
	limit   int
	buf     []byte
	line    int // where the line under way starts
	dropped uint64
	lines   uint64
	sum     uint64
}

// Of FNV-1a with 64 bits.
const fnvOffset, fnvPrime = 14695981039346656037, 1099511628211

func (t *trace) init(limit int) {
	t.off, t.limit, t.sum = limit < 0, max(limit, 0), fnvOffset
}

// line is a line of the trace under way, with sched.mu held until end; s is nil
// if there is no trace.
type line struct{ s *sched }

// note starts a line.
func (w *World) note(s subject, what string) line {
	if w.s.trace.off {
		return line{}
	}
	return w.begin(s, what)
}

func (w *World) begin(s subject, what string) line {
	w.s.mu.Lock()
	t := &w.s.trace
	t.line = len(t.buf)
	t.buf = strconv.AppendInt(t.buf, int64(w.s.now), 10)
	t.buf = append(t.buf, ' ')
	t.buf = append(t.buf, subjectNames[s.kind]...)
	if s.n > 0 {
		t.buf = strconv.AppendInt(t.buf, int64(s.n), 10)
	}
	t.buf = append(t.buf, ' ')
	t.buf = append(t.buf, what...)
	return line{&w.s}
}

func (l line) text(s string) line {
	if l.s == nil {
		return l
	}
	return l.addText(s)
}

func (l line) addText(s string) line {
	t := &l.s.trace
	t.buf = append(t.buf, ' ')
	t.buf = append(t.buf, s...)
	return l
}

func (l line) num(name string, v uint64) line {
	if l.s == nil {
		return l
	}
	return l.addNum(name, v)
}

func (l line) addNum(name string, v uint64) line {
	t := &l.s.trace
	t.buf = append(t.buf, ' ')
	t.buf = append(t.buf, name...)
	t.buf = append(t.buf, '=')
	t.buf = strconv.AppendUint(t.buf, v, 10)
	return l
}

func (l line) hex(name string, v uint64) line {
	if l.s == nil {
		return l
	}
	return l.addHex(name, v)
}

func (l line) addHex(name string, v uint64) line {
	t := &l.s.trace
	t.buf = append(t.buf, ' ')
	t.buf = append(t.buf, name...)
	t.buf = append(t.buf, "=0x"...)
	t.buf = strconv.AppendUint(t.buf, v, 16)
	return l
}

func (l line) of(name string, s subject) line {
	if l.s == nil {
		return l
	}
	t := &l.s.trace
	t.buf = append(t.buf, ' ')
	t.buf = append(t.buf, name...)
	t.buf = append(t.buf, '=')
	t.buf = append(t.buf, subjectNames[s.kind]...)
	t.buf = strconv.AppendInt(t.buf, int64(s.n), 10)
	return l
}

func (l line) addr(name string, a netip.AddrPort) line {
	if l.s == nil {
		return l
	}
	t := &l.s.trace
	t.buf = append(t.buf, ' ')
	t.buf = append(t.buf, name...)
	t.buf = append(t.buf, '=')
	t.buf = a.AppendTo(t.buf)
	return l
}

// status names st, but for success.
func (l line) status(st ndk.Status) line {
	if st == 0 || l.s == nil {
		return l
	}
	return l.addStatus(st)
}

func (l line) addStatus(st ndk.Status) line {
	t := &l.s.trace
	t.buf = append(t.buf, " status=0x"...)
	t.buf = strconv.AppendUint(t.buf, uint64(st), 16)
	return l
}

// end finishes the line.
func (l line) end() {
	if l.s != nil {
		l.finish()
	}
}

func (l line) finish() {
	t := &l.s.trace
	t.buf = append(t.buf, '\n')
	for _, b := range t.buf[t.line:] {
		t.sum = (t.sum ^ uint64(b)) * fnvPrime
	}
	t.lines++
	if len(t.buf) > t.limit {
		// Half of it goes at once, so that a line costs no copy as a rule.
		cut := len(t.buf) - t.limit/2
		if i := bytes.IndexByte(t.buf[cut-1:], '\n'); i >= 0 {
			cut += i
		}
		t.dropped += uint64(cut)
		t.buf = t.buf[:copy(t.buf, t.buf[cut:])]
	}
	l.s.mu.Unlock()
}

// Trace returns the newest lines of the trace, Config.TraceBytes at most. A line
// is the virtual time in nanoseconds, what it is about, and what happened. It has
// no addresses of memory, which are not the same in another run.
func (w *World) Trace() string {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return string(w.s.trace.buf)
}

// TraceSum returns the number of all lines of the trace so far and a hash of
// them, also of those that Trace does not show any more. Both stand still with
// a negative Config.TraceBytes.
func (w *World) TraceSum() (lines, sum uint64) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.trace.lines, w.s.trace.sum
}
