package result

import "time"

// Direction is what data does.
type Direction int

const (
	Read Direction = iota
	Write
	Trim // never done; fio's answers have a place for it
	Directions
)

func (d Direction) String() string { return [...]string{"read", "write", "trim"}[d] }

// Traffic is what was read or written.
type Traffic struct {
	Bytes, IOs     int64
	Short, Dropped int64 // I/Os that moved less than asked for; that were not done
	// Runtime is from the first moment of the job that counts to the end of the last I/O.
	Runtime time.Duration
	// Submission is the time until an engine has taken the request: of engines that
	// complete a request as they take it there is none. Completion is from there until the
	// result is there, Total both, and whatever was due before: with a rate Total is from
	// the moment at which the I/O should have begun.
	Submission, Completion, Total Latency
	// Bandwidth is in KiB/s, IOPS in 1/s, both of half seconds.
	Bandwidth, IOPS Samples
}

// Merge adds traffic that went on at the same time.
func (t *Traffic) Merge(o *Traffic) {
	t.Bytes += o.Bytes
	t.IOs += o.IOs
	t.Short += o.Short
	t.Dropped += o.Dropped
	t.Runtime = max(t.Runtime, o.Runtime)
	t.Submission.Merge(&o.Submission)
	t.Completion.Merge(&o.Completion)
	t.Total.Merge(&o.Total)
	t.Bandwidth.Merge(&o.Bandwidth)
	t.IOPS.Merge(&o.IOPS)
}

// BytesPerSecond is the mean over the run time.
func (t *Traffic) BytesPerSecond() float64 { return perSecond(t.Bytes, t.Runtime) }

// PerSecond is the mean number of I/Os a second.
func (t *Traffic) PerSecond() float64 { return perSecond(t.IOs, t.Runtime) }

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// Job is what a job measured, or several of them together.
type Job struct {
	Name, Description string
	Group             int
	// Jobs is how many were added up.
	Jobs int
	// Options are what the job file said, in its order.
	Options []Option
	// Error is the first failure, nil if there was none; Errors counts all.
	Error  error `json:"-"`
	Errors int64
	// Start is when the measuring began, Runtime how long it lasted, and Elapsed the whole
	// life of the job with its preparations.
	Start            time.Time
	Runtime, Elapsed time.Duration
	// JobRuntime is the run times of all Jobs together.
	JobRuntime time.Duration

	Traffic [Directions]Traffic
	Sync    Latency // of what made data durable
	// Verified counts blocks that were compared, Bad those that were not as written.
	Verified, Bad int64

	// Depths counts I/Os by how many were under way when they were handed over:
	// 1, 2-3, 4-7, 8-15, 16-31, 32-63, 64 and more. Submits and Completes count calls by
	// how many I/Os they took or brought: 0, 1-4, 5-8, 9-16, 17-32, 33-64, more.
	Depths, Submits, Completes [7]int64
	// Depth is the highest number of I/Os that may be under way.
	Depth int

	CPU     CPU
	Profile Profile
	Latency Target
	Engine  Engine
}

// Option is a name and value of a job file.
type Option struct{ Name, Value string }

// CPU is what running cost this process. Where jobs run side by side each has its
// even share of what all cost together.
type CPU struct {
	User, System                time.Duration
	Switches                    int64 // of context
	MajorFaults, MinorFaults    int64
	Allocations, AllocatedBytes int64
	ServerUser, ServerSystem    time.Duration // of a server that can be seen
	ServerSeen                  bool
}

// Target is what came of latency_target.
type Target struct {
	Target, Window time.Duration
	Percentile     float64
	Depth          int // that met it
	Met            bool
}

// Engine is what an engine says of its work.
type Engine struct {
	Name string
	// Facts are what was negotiated: dialect, signing, transport.
	Facts []Option
	// CreditWaits counts requests that waited for credits. RDMABytes and InlineBytes say
	// how the bytes of files went, CopiedBytes which of them were copied in user space.
	CreditWaits, RDMABytes, InlineBytes, CopiedBytes uint64
}

// Since is what was done after an earlier moment.
func (e Engine) Since(o *Engine) Engine {
	e.CreditWaits -= o.CreditWaits
	e.RDMABytes -= o.RDMABytes
	e.InlineBytes -= o.InlineBytes
	e.CopiedBytes -= o.CopiedBytes
	return e
}

// Merge adds what another job measured at the same time.
func (j *Job) Merge(o *Job) {
	if j.Jobs == 0 {
		j.Name, j.Description, j.Group, j.Options = o.Name, o.Description, o.Group, o.Options
		j.Start, j.Depth, j.Latency, j.Engine = o.Start, o.Depth, o.Latency, Engine{Name: o.Engine.Name, Facts: o.Engine.Facts}
	}
	j.Jobs += max(o.Jobs, 1)
	if j.Error == nil {
		j.Error = o.Error
	}
	j.Errors += o.Errors
	if o.Start.Before(j.Start) {
		j.Start = o.Start
	}
	j.JobRuntime += o.JobRuntime
	j.Runtime, j.Elapsed = max(j.Runtime, o.Runtime), max(j.Elapsed, o.Elapsed)
	for d := range j.Traffic {
		j.Traffic[d].Merge(&o.Traffic[d])
	}
	j.Sync.Merge(&o.Sync)
	j.Profile.Merge(&o.Profile)
	j.Verified += o.Verified
	j.Bad += o.Bad
	for i := range j.Depths {
		j.Depths[i] += o.Depths[i]
		j.Submits[i] += o.Submits[i]
		j.Completes[i] += o.Completes[i]
	}
	j.CPU.User += o.CPU.User
	j.CPU.System += o.CPU.System
	j.CPU.Switches += o.CPU.Switches
	j.CPU.MajorFaults += o.CPU.MajorFaults
	j.CPU.MinorFaults += o.CPU.MinorFaults
	j.CPU.Allocations += o.CPU.Allocations
	j.CPU.AllocatedBytes += o.CPU.AllocatedBytes
	j.CPU.ServerUser += o.CPU.ServerUser
	j.CPU.ServerSystem += o.CPU.ServerSystem
	j.CPU.ServerSeen = j.CPU.ServerSeen || o.CPU.ServerSeen
	j.Engine.CreditWaits += o.Engine.CreditWaits
	j.Engine.RDMABytes += o.Engine.RDMABytes
	j.Engine.InlineBytes += o.Engine.InlineBytes
	j.Engine.CopiedBytes += o.Engine.CopiedBytes
}

// Clone is a copy that shares nothing that changes.
func (j *Job) Clone() *Job {
	c := new(Job)
	*c = *j
	for d := range c.Traffic {
		t := &c.Traffic[d]
		t.Submission, t.Completion, t.Total = t.Submission.Clone(), t.Completion.Clone(), t.Total.Clone()
		t.Bandwidth, t.IOPS = t.Bandwidth.clone(), t.IOPS.clone()
	}
	c.Sync = c.Sync.Clone()
	return c
}

// Bytes is all that was read and written.
func (j *Job) Bytes() int64 { return j.Traffic[Read].Bytes + j.Traffic[Write].Bytes }

// DepthClass is the place in Job.Depths of n I/Os under way.
func DepthClass(n int) int {
	switch {
	case n >= 64:
		return 6
	case n >= 32:
		return 5
	case n >= 16:
		return 4
	case n >= 8:
		return 3
	case n >= 4:
		return 2
	case n >= 2:
		return 1
	}
	return 0
}

// BatchClass is the place in Job.Submits and Job.Completes of a call with n I/Os.
func BatchClass(n int) int {
	switch {
	case n <= 0:
		return 0
	case n <= 4:
		return 1
	case n <= 8:
		return 2
	case n <= 16:
		return 3
	case n <= 32:
		return 4
	case n <= 64:
		return 5
	}
	return 6
}
