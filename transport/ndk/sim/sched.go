package sim

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// forever is later than every event.
const forever = time.Duration(math.MaxInt64)

// event is something that is going to happen. It is part of the object that it
// happens to, so that scheduling it allocates nothing, and it is in the queue at
// most once.
type event struct {
	run    func() // with no lock held
	serial uint64 // of its place in the queue, guarded by sched.mu; 0: not queued
	at     time.Duration
}

// place is where an event stands in the queue. A place whose serial is not that
// of its event is stale: the event was cancelled or moved.
type place struct {
	at     time.Duration
	tie    uint64
	serial uint64
	ev     *event
}

func (p *place) before(o *place) bool {
	if p.at != o.at {
		return p.at < o.at
	}
	if p.tie != o.tie {
		return p.tie < o.tie
	}
	return p.serial < o.serial
}

// sched is the clock, the queue of events, the source of every random choice,
// the faults and the trace. Its lock is a leaf: it is taken with any other held.
type sched struct {
	shuffle bool
	wake    chan struct{} // capacity 1; nil in manual mode
	epoch   time.Time     // when a paced clock stood at 0; zero: the clock jumps

	mu     sync.Mutex
	now    time.Duration // guarded by mu, as all below
	rng    *rand.Rand
	queue  []place // a heap
	stale  int     // places in it that are
	serial uint64
	steps  uint64
	jobs   *job // free ones
	faults faults
	trace  trace
	counts [numSubjects]int
}

func (s *sched) init(c *Config) {
	s.shuffle = c.Order == Shuffled
	s.rng = rand.New(rand.NewPCG(c.Seed, 0x5DEECE66D))
	if c.Auto {
		s.wake = make(chan struct{}, 1)
	}
	if c.Paced {
		s.epoch = time.Now()
	}
	s.faults.init(c)
	s.trace.init(c.TraceBytes)
}

// after schedules ev in d from now, unless it is queued for an earlier time.
func (s *sched) after(ev *event, d time.Duration) {
	s.mu.Lock()
	s.putLocked(ev, s.inLocked(d))
	s.mu.Unlock()
	s.signal()
}

// inLocked is the time in d from now.
func (s *sched) inLocked(d time.Duration) time.Duration {
	s.paceLocked()
	if at := s.now + max(d, 0); at >= s.now {
		return at
	}
	return forever
}

// paceLocked moves a paced clock on to that of the machine.
func (s *sched) paceLocked() {
	if !s.epoch.IsZero() {
		s.now = max(s.now, time.Since(s.epoch))
	}
}

// nextAt is how long it is until the first event of a paced clock; ok is false if
// there is none.
func (s *sched) nextAt() (in time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return 0, false
	}
	return s.queue[0].at - time.Since(s.epoch), true
}

// at schedules ev at a time, or now if that is past.
func (s *sched) at(ev *event, t time.Duration) {
	s.mu.Lock()
	s.paceLocked()
	s.putLocked(ev, max(t, s.now))
	s.mu.Unlock()
	s.signal()
}

func (s *sched) putLocked(ev *event, at time.Duration) {
	if ev.serial != 0 {
		if ev.at <= at {
			return
		}
		ev.serial = 0
		s.staleLocked()
	}
	s.serial++
	p := place{at: at, serial: s.serial, ev: ev}
	if s.shuffle {
		p.tie = s.rng.Uint64()
	}
	ev.serial, ev.at = s.serial, at
	s.queue = append(s.queue, p)
	for i := len(s.queue) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.queue[i].before(&s.queue[up]) {
			break
		}
		s.queue[i], s.queue[up] = s.queue[up], s.queue[i]
		i = up
	}
}

// staleLocked counts one more stale place, and takes them all out when they are
// most of the queue: a time limit that was not reached does not stay until it
// would have been.
func (s *sched) staleLocked() {
	const few = 64
	if s.stale++; len(s.queue) < few || s.stale <= len(s.queue)/2 {
		return
	}
	live := s.queue[:0]
	for _, p := range s.queue {
		if p.ev.serial == p.serial {
			live = append(live, p)
		}
	}
	clear(s.queue[len(live):])
	s.queue, s.stale = live, 0
	for i := len(live)/2 - 1; i >= 0; i-- {
		s.sink(i)
	}
}

func (s *sched) signal() {
	if s.wake != nil {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// queued reports whether ev is in the queue.
func (s *sched) queued(ev *event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ev.serial != 0
}

// cancel takes ev out of the queue; false if it was not there.
func (s *sched) cancel(ev *event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := ev.serial != 0
	ev.serial = 0
	if was {
		s.staleLocked()
	}
	return was
}

// next takes the first event that is due by limit and sets the clock to it.
func (s *sched) next(limit time.Duration) *event {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		p := s.queue[0]
		if p.ev.serial == p.serial && p.at > limit {
			return nil
		}
		s.dropFirst()
		if p.ev.serial != p.serial {
			s.stale--
			continue
		}
		p.ev.serial = 0
		s.now = max(s.now, p.at)
		s.steps++
		return p.ev
	}
	return nil
}

func (s *sched) dropFirst() {
	n := len(s.queue) - 1
	s.queue[0] = s.queue[n]
	s.queue[n] = place{}
	s.queue = s.queue[:n]
	s.sink(0)
}

// sink moves the place at i down to where it belongs.
func (s *sched) sink(i int) {
	n := len(s.queue)
	for {
		min := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < n && s.queue[c].before(&s.queue[min]) {
				min = c
			}
		}
		if min == i {
			return
		}
		s.queue[i], s.queue[min] = s.queue[min], s.queue[i]
		i = min
	}
}

// clock is the virtual time.
func (s *sched) clock() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paceLocked()
	return s.now
}

// setClock moves the clock on to t.
func (s *sched) setClock(t time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = max(s.now, t)
}

// upTo draws from [0, d].
func (s *sched) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.rng.Int64N(int64(d) + 1))
}

// intN draws from [0, n).
func (s *sched) intN(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

// job is an event that runs a function once.
type job struct {
	event
	f    func()
	next *job
}

// soon runs f as an event of its own, in d from now.
func (w *World) soon(f func(), d time.Duration) {
	s := &w.s
	s.mu.Lock()
	j := s.jobs
	if j == nil {
		j = &job{}
		j.run = func() { w.runJob(j) }
	} else {
		s.jobs = j.next
	}
	j.f = f
	s.putLocked(&j.event, s.inLocked(d))
	s.mu.Unlock()
	s.signal()
}

// runJob runs the function of a job.
func (w *World) runJob(j *job) {
	f := j.f
	w.s.mu.Lock()
	j.f, j.next, w.s.jobs = nil, w.s.jobs, j
	w.s.mu.Unlock()
	w.call(f)
}

// call runs f: a callback of the consumer, or something that leads to one. In
// manual mode it belongs to the step that it is; in auto mode it may block and
// gets a goroutine, which World.Close waits for.
func (w *World) call(f func()) {
	if !w.cfg.Auto {
		f()
		return
	}
	select {
	case w.calls <- f:
		return
	default:
	}
	w.callbacks.Add(1)
	go func() { // ends with f; World.Close waits
		defer w.callbacks.Done()
		f()
	}()
}

// servers is how many goroutines run callbacks of auto mode. Those that come while
// all are at work get a goroutine each.
const servers = 4

// serve runs callbacks of auto mode.
func (w *World) serve() {
	defer w.callbacks.Done()
	for {
		select {
		case f := <-w.calls:
			f()
		case <-w.stop:
			return
		}
	}
}

// timer is a soft.Timer on the virtual clock.
type timer struct {
	w *World
	event
}

// Stop implements soft.Timer.
func (t *timer) Stop() bool { return t.w.s.cancel(&t.event) }

// Reset implements soft.Timer.
func (t *timer) Reset(d time.Duration) bool {
	was := t.w.s.cancel(&t.event)
	t.w.s.after(&t.event, d)
	return was
}
