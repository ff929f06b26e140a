package job

import (
	"strconv"
	"time"
)

// Direction of one I/O. Values that may differ by direction are arrays indexed by it.
type Direction int

// The directions. There is no trim: no engine here has anything to discard.
const (
	Read Direction = iota
	Write
	Directions int = iota
)

// String is fio's word for d in reports.
func (d Direction) String() string {
	if d == Read {
		return "read"
	}
	return "write"
}

// RW says which way data goes and in which order (rw=).
type RW struct {
	Reads, Writes bool // at least one
	Random        bool
}

// String is fio's name of it.
func (m RW) String() string {
	name := "rw"
	if m.Reads != m.Writes {
		name = Write.String()
		if m.Reads {
			name = Read.String()
		}
	}
	if m.Random {
		name = "rand" + name
	}
	return name
}

// Has says whether there is I/O in direction d.
func (m RW) Has(d Direction) bool { return d == Read && m.Reads || d == Write && m.Writes }

// Amount is a number of bytes, or a share of the size of a file.
type Amount struct {
	Bytes   uint64 // if Percent is zero
	Percent uint8  // 0: Bytes counts; else 1 to 100
}

// Zero says that nothing was asked for.
func (a Amount) Zero() bool { return a.Bytes == 0 && a.Percent == 0 }

// Of is a in bytes, of a file of size bytes.
func (a Amount) Of(size uint64) uint64 {
	if a.Percent == 0 {
		return a.Bytes
	}
	return size/100*uint64(a.Percent) + size%100*uint64(a.Percent)/100
}

// String is a as it can be written into a job file.
func (a Amount) String() string {
	if a.Percent != 0 {
		return strconv.Itoa(int(a.Percent)) + "%"
	}
	return strconv.FormatUint(a.Bytes, 10)
}

// Split is one entry of bssplit=: blocks of Size bytes are Percent of all I/Os.
type Split struct {
	Size    uint64 // at least 1
	Percent int    // 0 to 100; if those of a direction add up to less than 100, the last one has the rest
}

// DistributionKind is what offsets, or files, are drawn from.
type DistributionKind int

// The distributions of random_distribution=, and with RoundRobin and Sequential those of
// file_service_type=.
const (
	Uniform DistributionKind = iota // random
	Zipf
	Pareto
	Normal
	Zoned      // random_distribution= alone
	RoundRobin // file_service_type= alone
	Sequential // file_service_type= alone: a file to its end, then the next
)

var distributionNames = [...]string{"random", "zipf", "pareto", "normal", "zoned", "roundrobin", "sequential"}

// String is fio's word.
func (k DistributionKind) String() string { return distributionNames[k] }

// Distribution is what offsets, or files, are drawn from.
type Distribution struct {
	Kind DistributionKind

	// Param is theta of Zipf (above 0, not 1; default 1.1), h of Pareto (above 0,
	// below 1; default 0.2), the deviation in per cent of Normal (0 to below 100).
	Param float64
	// Center is where on 0 to 1 the most frequent values lie; negative: not given, which
	// is a place that depends on the seed for Zipf and Pareto, and the middle for Normal.
	Center float64
	// Run is after how many I/Os another file is chosen (file_service_type=kind:N); at
	// least 1. Of no meaning for offsets.
	Run int
	// Zones has for each direction the zones of Zoned, in order; their Access adds up to
	// 100, as does their Size if it is a percentage.
	Zones [Directions][]Zone
}

// Zone is a part of a file and how much of the accesses goes there.
type Zone struct {
	Access int    // per cent of the accesses
	Size   Amount // how large the zone is; zero: all that is left
}

// Generator is what makes the order of random blocks where each is visited once.
type Generator int

// The generators of random_generator=.
const (
	Tausworthe   Generator = iota // 32 bits; 64 are used as well where 32 do not reach
	LFSR                          // visits each block once without a map
	Tausworthe64                  // 64 bits
)

// VerifyMethod is how written data is checked when it is read back (verify=).
type VerifyMethod int

// The methods. All but VerifyNone and VerifyPattern put a header with the checksum into
// each block of VerifyInterval bytes.
const (
	VerifyNone VerifyMethod = iota
	VerifyMD5
	VerifyCRC32
	VerifyCRC32C
	VerifySHA1
	VerifySHA256
	VerifySHA512
	VerifyXXHash
	VerifyPattern // the data is VerifyPattern's and nothing else
)

var verifyNames = [...]string{"none", "md5", "crc32", "crc32c", "sha1", "sha256", "sha512", "xxhash", "pattern"}

// String is fio's word.
func (m VerifyMethod) String() string { return verifyNames[m] }

// Pattern is data that is repeated to fill a block (verify_pattern=, buffer_pattern=).
type Pattern struct {
	Bytes []byte // 1 to MaxPattern bytes; empty: none
	// Offsets are where in Bytes eight bytes are replaced by the offset of the block in
	// its file, little-endian (%o). Only verify_pattern has them.
	Offsets []int
}

// MaxPattern is the longest pattern in bytes, as in fio.
const MaxPattern = 512

// Fallocate is how the space of a file that is to be written is reserved before.
type Fallocate string

const (
	FallocateNative   Fallocate = "native"   // if the file system can; the default
	FallocateNone     Fallocate = "none"     // not at all: the file grows as it is written
	FallocatePosix    Fallocate = "posix"    // or the job fails
	FallocateKeep     Fallocate = "keep"     // without changing the length
	FallocateTruncate Fallocate = "truncate" // only the length is set
)

// SyncMode is what is asked for with each write (sync=).
type SyncMode int

// The modes.
const (
	SyncNone SyncMode = iota
	SyncFull          // data and metadata: O_SYNC, write-through
	SyncData          // data: O_DSYNC
)

// ErrorKinds are kinds of errors after which a job goes on (continue_on_error=).
type ErrorKinds uint8

// The kinds.
const (
	ErrorRead ErrorKinds = 1 << iota
	ErrorWrite
	ErrorVerify
)

// Unified is how directions are reported (unified_rw_reporting=).
type Unified int

// The ways.
const (
	UnifiedNone  Unified = iota // each direction
	UnifiedMixed                // all in one
	UnifiedBoth                 // each, and all in one
)

// ExitWhat is which jobs end when one has ended that has ExitAll.
type ExitWhat int

// The choices of exit_what=.
const (
	ExitGroup     ExitWhat = iota // those of its reporting group
	ExitStonewall                 // those that run; those behind the next stonewall run
	ExitEverything
)

// Logs are files that get a line per I/O or interval. Each is a prefix to which
// _bw.N.log, _lat.N.log, _slat.N.log, _clat.N.log, _iops.N.log or _clat_hist.N.log is
// added, N being Job.Number; empty: no log. Without PerJob there is no N, and jobs
// share a file.
type Logs struct {
	BW, Lat, IOPS, Hist string
	PerJob              bool
	Avg                 time.Duration // interval of averages; 0: each I/O
	Max                 bool          // the largest of an interval, not the average
	Offset              bool          // with the offset of each I/O
	Epoch               bool          // times since 1970, not since the start
}

// Engine is what carries out I/Os.
type Engine string

// The engines of ioengine=. fio's names for local files (libaio, io_uring, posixaio,
// sync, psync, pvsync and so on) are EnginePosix.
const (
	EngineNull      Engine = "null"      // does nothing
	EnginePosix     Engine = "posix"     // local files; "mount" is the same
	EngineSMB       Engine = "smb"       // this project's client on TCP
	EngineSMBDirect Engine = "smbdirect" // this project's client on RDMA
	EngineGoSMB2    Engine = "go-smb2"   // another client, on TCP
	EngineNDKWrite  Engine = "ndk-write" // RDMA WRITE, no SMB
	EngineNDKRead   Engine = "ndk-read"  // RDMA READ, no SMB
	EngineNDKSend   Engine = "ndk-send"  // RDMA SEND, no SMB
)

// EngineOptions are what only engines that have a server know.
type EngineOptions struct {
	Server      string // host, or host:port; required of all but null and posix
	Share       string // required of the same
	User        string // [DOMAIN/]NAME[%PASSWORD]; empty: nobody in particular
	Password    string // of User, if it has none
	Credentials string // file with lines username=, password=, domain=; instead of the two
	// Transport is tcp, iwarp or verbs. smb and go-smb2 have tcp alone; smbdirect has
	// iwarp by default, and does not fall back.
	Transport string
	Provider  string // of ndk-*: iwarp or verbs; default iwarp
	// PeerMemory is how much of the peer's memory ndk-write and ndk-read go through:
	// iodepth (the default), a block for each I/O under way, or size, as the job has it.
	PeerMemory string
	Source     string // local file that ndk-write takes its data from; empty: memory
	Channels   int    // connections for file bytes; 0: as the client has it
	// Signing is if-required, required or off; Encryption off or required.
	Signing, Encryption string
	RDMAThreshold       int    // bytes from which a read or write goes by RDMA; 0: the client's default
	Metrics             string // URL of the server's /metrics, for its CPU time; empty: none
}

// Option is a name with a value as a job has it, after names were made fio's main ones
// and macros and variables were replaced.
type Option struct {
	Name, Value string
	Bare        bool // it has no value
}

// Job is one stream of I/O: a section of a job file, or one of its clones where numjobs
// is above 1. Sizes are in bytes. What is zero unless something else is said, is zero if
// it was not given. What options imply for each other is done: see (*parser).settle.
type Job struct {
	// Who it is.
	Name        string // of the section, or name= in it
	Description string
	Number      int    // 1 and up in the order of the plan: fio's thread number, from which seeds are derived
	Clone       int    // $jobnum: 0 of the first, then NumJobs-1 down to 1, as fio numbers them
	NumJobs     int    // how many clones there are of this section, this one included
	Group       int    // of reporting: 0 and up, a new one at each stonewall and new_group
	File        string // the job file; empty: the command line
	Line        int    // of the section in File, from 1; 0: the command line
	// Options are those of the job itself, in order, and Inherited those that came from
	// [global]: "job options" and "global options" of fio's json.
	Options, Inherited []Option

	// When it starts and ends.
	Stonewall      bool   // not before all jobs before it in the plan have ended
	WaitFor        string // not before all clones of the job of that name have ended; empty: no wait
	GroupReporting bool   // one report of the jobs of its group
	ExitAll        bool   // others end when this one does: those that ExitWhat says
	ExitAllOnError bool   // the same, when it ends with an error
	ExitWhat       ExitWhat
	// StartDelay to StartDelayMax is how long it waits at first: a random time in
	// between where they differ.
	StartDelay, StartDelayMax time.Duration
	Runtime                   time.Duration // 0: no limit
	TimeBased                 bool          // goes on for all of Runtime, from the start again if need be
	RampTime                  time.Duration // at the start that is not measured; beside Runtime
	Loops                     int           // at least 1
	NumberIOs                 uint64        // ends after so many; 0: no limit

	// What it does.
	Engine     Engine
	EngineWord string // as it was given: libaio
	Remote     EngineOptions
	RW         RW
	RWMixRead  int // per cent of the I/Os that read, of jobs that do both; 0 to 100
	// SeqRun is after how many I/Os a random job takes a new place (rw=randread:N), at
	// least 1; SeqAdd is what a sequential one adds to the end of each I/O, for holes
	// (positive) or backwards (negative) (rw=read:4k).
	SeqRun  int
	SeqAdd  int64
	SeqSame bool // rw_sequencer=identical: the same offset SeqRun times, not the following ones
	// PercentageRandom is how many of the I/Os of a random job are at random places, the
	// others following the last one; 0 to 100 for each direction.
	PercentageRandom [Directions]int

	// How large.
	MinBS, MaxBS [Directions]uint64  // of one I/O: equal, unless there is a range or a split
	BA           [Directions]uint64  // what random offsets are multiples of; at least 1
	BSSplit      [Directions][]Split // by Percent, rising; empty: none
	BSUnaligned  bool                // sizes from a range need not be multiples of MinBS
	BSIsSeqRand  bool                // [Read] of the above is for sequential, [Write] for random I/Os

	// Size is how much of all its files together is worked on: from Offset on, so much,
	// in each file an equal part; zero: whole files, which must exist or have FileSize.
	Size Amount
	// IOSize is how much is moved, if that is not Size: more goes round again.
	IOSize Amount
	// Offset is where in each file it starts: Offset + Clone*OffsetIncrement. If one of
	// them is a percentage, which is of the file's size, the sum is rounded up to a
	// multiple of OffsetAlign, or of the smallest block if that is 0.
	Offset, OffsetIncrement Amount
	OffsetAlign             uint64
	FillDevice              bool // writes until there is no space left, which is no error

	// Files.
	Files          []string // by name, with their directories, of this clone; at least 1, which are mere names to null and ndk-*
	NamesGiven     bool     // by filename=, and not made of FilenameFormat
	Directory      []string // directory=, of which Clone chooses one
	FilenameFormat string
	// FileSizeMin to FileSizeMax is how large each file is: a random size in between
	// where they differ; 0: Size divided by the number of files.
	FileSizeMin, FileSizeMax uint64
	NrFiles                  int          // at least 1; all are open together
	FileService              Distribution // which file is next: Uniform, Zipf, Pareto, Normal, RoundRobin, Sequential
	FileAppend               bool         // starts at the end of what is there
	Fallocate                Fallocate    // of files that are made or made longer; empty: native
	Overwrite                bool         // what is to be written is laid out before
	CreateOnOpen             bool         // files are made when they are opened, not laid out before
	CreateOnly               bool         // lays files out and does no I/O
	CreateFsync              bool         // fsync after laying out
	CreateSerialize          bool         // jobs lay their files out one after the other
	AllowFileCreate          bool         // false: a file that is not there is an error
	Unlink, UnlinkEachLoop   bool         // files are deleted at the end, or after each loop
	PreRead                  bool         // files are read whole before the start
	Fadvise                  string       // what the system is told of local files: off, auto (by RW), random or sequential
	Invalidate               bool         // what is cached of files is dropped before the start
	Direct                   bool         // no cache between: O_DIRECT, or no buffering by the server
	Sync                     SyncMode
	Fsync, Fdatasync         int  // after so many writes; 0: never
	EndFsync, FsyncOnClose   bool // when all is written; whenever a file is closed

	// How many at a time.
	IODepth                                          int // at least 1; 1 for fio's synchronous engines
	IODepthBatch                                     int // how many are submitted at a time; 1 to IODepth
	IODepthBatchCompleteMin, IODepthBatchCompleteMax int // how many are waited for, and taken, at a time; 0 to IODepth
	IODepthLow                                       int // from IODepth, submission waits for so few in flight; 1 to IODepth
	SerializeOverlap                                 bool
	Offload                                          bool // io_submit_mode=offload

	// How fast. Rates are per second and each direction's own; 0: as fast as it goes.
	Rate, RateMin            [Directions]uint64 // bytes; below RateMin in a RateCycle the job fails
	RateIOPS, RateIOPSMin    [Directions]uint64
	RatePoisson              bool // times between I/Os are exponentially distributed, not equal
	RateCycle                time.Duration
	RateIgnoreThinkTime      bool          // does not catch up on what thinking cost
	ThinkTime, ThinkTimeSpin time.Duration // pause after ThinkTimeBlocks I/Os, of which spun
	ThinkTimeBlocks          int           // at least 1
	ThinkTimeIOTime          time.Duration // pause after I/O for so long, instead of after blocks
	MaxLatency               [Directions]time.Duration
	LatencyTarget            time.Duration // finds the largest depth at which LatencyPercentile of the I/Os in LatencyWindow take no longer; 0: no
	LatencyWindow            time.Duration
	LatencyPercentile        float64 // 0 to 100
	LatencyRun               bool    // goes on with the depth that was found

	// Random numbers.
	// RandSeed is what all random numbers follow from, with Number: the same in every run
	// unless randrepeat=0, which takes one by chance.
	RandSeed      uint64
	NoRandomMap   bool // blocks may be visited twice and not at all
	SoftRandomMap bool // goes on without the map if it does not fit into memory
	Generator     Generator
	Distribution  Distribution // of offsets: Uniform, Zipf, Pareto, Normal, Zoned

	// Verification.
	Verify         VerifyMethod
	VerifyOnly     bool   // nothing is written: what an earlier run wrote is checked
	DoVerify       bool   // read back after the writes
	VerifyFatal    bool   // the first difference ends the job
	VerifyDump     bool   // writes both versions of a block that differs to files
	VerifyInterval uint64 // bytes that have a header of their own; divides the sizes of writes
	VerifyOffset   uint64 // where in them the header is
	VerifyPattern  Pattern
	VerifyBacklog  uint64 // reads back after so many blocks; 0: at the end

	// What is written.
	ZeroBuffers, RefillBuffers, ScrambleBuffers bool
	BufferPattern                               Pattern
	CompressPercentage                          int // of each CompressChunk; 0 to 100
	CompressChunk                               int // bytes; 0: the whole block
	DedupePercentage                            int // of blocks that are equal to others; 0 to 100

	// What is reported.
	LatPercentiles, ClatPercentiles, SlatPercentiles bool
	PercentileList                                   []float64 // at most 20, rising
	PercentilePrecision                              int       // digits after the point of its entries
	DisableLat, DisableClat, DisableSlat, DisableBW  bool
	SignificantFigures                               int // 1 to 10
	BWAvgTime, IOPSAvgTime                           time.Duration
	Logs                                             Logs
	Unified                                          Unified
	Stats                                            bool // false: it is in no report
	KBBase                                           int  // 1024 or 1000
	UnitBase                                         int  // 8: bytes a second, 1: bits; 0: bytes
	ContinueOnError                                  ErrorKinds
	// IgnoreErrors are errnos that do not count, for reads, writes and verification.
	IgnoreErrors [3][]int
}

// Format is a form of output (--output-format=).
type Format string

// The forms.
const (
	FormatNormal   Format = "normal"
	FormatTerse    Format = "terse"
	FormatJSON     Format = "json"
	FormatJSONPlus Format = "json+"
)

// Settings are what a command line says of the run, not of a job.
type Settings struct {
	Output         string   // file; empty: standard output
	Formats        []Format // at least one
	TerseVersion   int      // 2 to 5
	ETA            string   // always, never or auto
	ETAInterval    time.Duration
	ETANewline     time.Duration // a line of its own so often; 0: never
	StatusInterval time.Duration // the whole report so often; 0: at the end
	ReadOnly       bool          // refuse jobs that write
	ParseOnly      bool          // read jobs and run none
	WarningsFatal  bool          // notes are errors
	AllowOverwrite bool          // write into files that were there before
	Repeat         int           // runs of the whole plan, at least 1
	HTML, Plot     string        // files for the report as a page and as a picture; empty: none
}

// Plan is what a command line with its job files asks for.
type Plan struct {
	Settings Settings
	Jobs     []*Job
	Notes    []string // of what was changed or has no effect, a line each
}
