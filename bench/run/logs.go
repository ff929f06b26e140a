package run

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// The logs of fio: a line for each I/O, or for each stretch of time.
//
// Lines are collected in blocks of memory under the worker's lock, which are handed to
// one goroutine that writes them. It may fall so many blocks behind before who has another
// waits: what is measured is bounded in memory, not in truth.
const (
	logBlock  = 4096
	logBlocks = 64
)

type logKind int

const (
	logBW logKind = iota
	logIOPS
	logLat
	logSlat
	logClat
	logKinds
)

var logSuffix = [logKinds]string{"bw", "iops", "lat", "slat", "clat"}

// logLine is a line. ms is since the start of the job, or since 1970.
type logLine struct {
	kind   logKind
	write  bool
	ms     int64
	value  int64
	size   int64
	offset int64
}

// logs are those of a job.
type logs struct {
	job     *job.Job
	on      [logKinds]bool
	every   int64 // nanoseconds; 0: each I/O
	epoch   int64 // milliseconds that are added to times
	block   []logLine
	full    chan []logLine
	free    chan []logLine
	err     error // of the writer; read after done
	done    sync.WaitGroup
	windows [2][logKinds]logWindow
	end     int64 // of the stretch, on the clock
	begun   int64
}

// logWindow is what a stretch of time has had.
type logWindow struct {
	n, sum, max int64
}

// logFiles are the open logs of a run: jobs may share one.
type logFiles struct {
	mu    sync.Mutex
	files map[string]*logFile // guarded by mu
}

type logFile struct {
	mu sync.Mutex
	f  *os.File
	w  *bufio.Writer
}

func (fs *logFiles) open(name string) (*logFile, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if l := fs.files[name]; l != nil {
		return l, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if fs.files == nil {
		fs.files = make(map[string]*logFile)
	}
	l := &logFile{f: f, w: bufio.NewWriter(f)}
	fs.files[name] = l
	return l, nil
}

// close ends all logs, after the jobs have ended.
func (fs *logFiles) close() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var errs []error
	for _, l := range fs.files {
		errs = append(errs, l.w.Flush(), l.f.Close())
	}
	fs.files = nil
	return errors.Join(errs...)
}

// openLogs makes the logs that a job asks for; nil if it asks for none.
func openLogs(fs *logFiles, j *job.Job) (*logs, error) {
	g := &j.Logs
	prefix := [logKinds]string{logBW: g.BW, logIOPS: g.IOPS, logLat: g.Lat, logSlat: g.Lat, logClat: g.Lat}
	l := &logs{job: j, every: int64(g.Avg)}
	var out [logKinds]*logFile
	any := false
	for k, p := range prefix {
		if p == "" {
			continue
		}
		any = true
		name := fmt.Sprintf("%s_%s.log", p, logSuffix[k])
		if g.PerJob {
			name = fmt.Sprintf("%s_%s.%d.log", p, logSuffix[k], j.Number)
		}
		f, err := fs.open(name)
		if err != nil {
			return nil, err
		}
		out[k], l.on[k] = f, true
	}
	if !any {
		return nil, nil
	}
	l.full, l.free = make(chan []logLine, logBlocks), make(chan []logLine, logBlocks)
	l.block = make([]logLine, 0, logBlock)
	l.done.Go(func() { l.write(out) }) // ends with full
	return l, nil
}

func (l *logs) write(out [logKinds]*logFile) {
	for b := range l.full {
		for i := range b {
			e := &b[i]
			f := out[e.kind]
			d := 0
			if e.write {
				d = 1
			}
			f.mu.Lock()
			var err error
			if l.job.Logs.Offset {
				_, err = fmt.Fprintf(f.w, "%d, %d, %d, %d, %d, 0\n", e.ms, e.value, d, e.size, e.offset)
			} else {
				_, err = fmt.Fprintf(f.w, "%d, %d, %d, %d, 0\n", e.ms, e.value, d, e.size)
			}
			f.mu.Unlock()
			if err != nil && l.err == nil {
				l.err = err
			}
		}
		select {
		case l.free <- b[:0]:
		default:
		}
	}
}

// begin sets the time 0.
func (l *logs) begin(t int64) {
	l.begun, l.end = t, t+l.every
	if l.job.Logs.Epoch {
		l.epoch = time.Now().UnixMilli()
	}
}

// add books an I/O that ended at t, of latencies in nanoseconds. The worker's lock is
// held.
func (l *logs) add(u *engine.Unit, t, slat, clat, lat int64) {
	d := 0
	if u.Op == engine.Write {
		d = 1
	}
	values := [logKinds]int64{logBW: int64(float64(u.N) / 1024 * 1e9 / float64(max(lat, 1))), logIOPS: 1, logLat: lat, logSlat: slat, logClat: clat}
	if l.every > 0 {
		if t >= l.end {
			l.flush(t)
		}
		for k := range values {
			w := &l.windows[d][k]
			v := values[k]
			if logKind(k) == logBW {
				v = int64(u.N)
			}
			w.n++
			w.sum += v
			w.max = max(w.max, v)
		}
		return
	}
	for k, v := range values {
		if l.on[k] && !(logKind(k) == logSlat && slat == 0) {
			l.line(logLine{logKind(k), d == 1, l.epoch + (t-l.begun)/1e6, v, int64(len(u.Buf)), u.Offset})
		}
	}
}

// flush ends a stretch of time.
func (l *logs) flush(t int64) {
	seconds := float64(l.every+t-l.end) / 1e9
	for d := range l.windows {
		for k := range l.windows[d] {
			w := &l.windows[d][k]
			if w.n == 0 || !l.on[k] {
				continue
			}
			v := w.sum / w.n
			switch {
			case logKind(k) == logBW:
				v = int64(float64(w.sum) / 1024 / seconds)
			case logKind(k) == logIOPS:
				v = int64(float64(w.n) / seconds)
			case l.job.Logs.Max:
				v = w.max
			}
			if !(logKind(k) == logSlat && w.sum == 0) {
				l.line(logLine{logKind(k), d == 1, l.epoch + (t-l.begun)/1e6, v, 0, 0})
			}
		}
		l.windows[d] = [logKinds]logWindow{}
	}
	l.end = t + l.every
}

func (l *logs) line(e logLine) {
	if l.block = append(l.block, e); len(l.block) < cap(l.block) {
		return
	}
	l.full <- l.block
	select {
	case l.block = <-l.free:
	default:
		l.block = make([]logLine, 0, logBlock)
	}
}

// close hands over what is left, and waits for the writer. No I/O is under way any more.
func (l *logs) close(t int64) error {
	if l.every > 0 && t > l.begun && l.begun > 0 && t-l.end+l.every >= 1e6 {
		l.flush(t)
	}
	l.full <- l.block
	close(l.full)
	l.done.Wait()
	return l.err
}
