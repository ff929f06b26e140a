// Package engine carries out the I/Os of a bench: on local files, on shares by this
// project's client or by go-smb2, on an RDMA connection without SMB, or not at all.
//
// A Target is what one job works on. Its Do takes an I/O and returns when it is done, and
// may be called by as many goroutines as the job has I/Os under way. A Target that hands
// over an I/O in one step and has its result in another is a Queuer as well, and its Queue
// is used by one goroutine. Neither allocates for an I/O.
//
// What reaches out of the process, connections and adapters, comes from an Env, so that
// this package names no transport and no provider.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// Op is what an I/O does.
type Op uint8

const (
	Read Op = iota
	Write
	Sync     // what was written is durable, and so is what leads to it
	DataSync // the bytes are
)

// Unit is an I/O. From Submit until Reap, or while Do is at it, it is the engine's.
type Unit struct {
	Op     Op
	File   int // in the order of Open
	Offset int64
	Buf    []byte // what is written, or where it is read to: from Buffers; none for Sync

	// N and Err are the result: N below len(Buf) without an error is the end of the file.
	N   int
	Err error

	// Begun, Issued and Due are the submitter's, as is Slot, which is below the depth and
	// of no other Unit under way.
	Due, Begun, Issued int64
	Slot               int
	Seq                uint64
}

// OpenFlags say what a file is opened for.
type OpenFlags struct {
	Read, Write    bool
	Create         bool // if it is not there
	Exclusive      bool // and not if it is
	Direct         bool
	Sync, DataSync bool
}

// Target is what a job works on. Do may be called by many goroutines at once, with
// Units of files that are open; the other methods by one at a time, while none is in Do.
type Target interface {
	// Stat returns how many bytes a file has; the error matches fs.ErrNotExist if it is
	// not there.
	Stat(ctx context.Context, name string) (int64, error)
	// Open opens a file as the i-th: 0, 1, and so on. A file that is open as the i-th
	// already is closed.
	Open(ctx context.Context, i int, name string, f OpenFlags) error
	// CloseFile closes the i-th.
	CloseFile(i int) error
	// Truncate sets the length of the i-th.
	Truncate(ctx context.Context, i int, size int64) error
	// Remove deletes a file.
	Remove(ctx context.Context, name string) error
	// Forget drops what is cached of the i-th in this machine.
	Forget(i int) error
	// Do carries out u and sets N and Err.
	Do(u *Unit)
	// Stats says what was negotiated and how bytes went so far.
	Stats() result.Engine
	// Close closes all files and lets go of what there is. I/Os under way fail.
	Close() error
}

// Interrupter is a Target whose I/Os can be given up: those under way, and all later ones,
// fail soon. Interrupt may be called at any time before Close.
type Interrupter interface{ Interrupt() }

// Reserver is a Target that can have the space of a file reserved before it is written.
type Reserver interface {
	// Reserve reserves size bytes of the i-th, as how says. Native leaves the file as it
	// is where the file system has no such thing; posix and keep then fail.
	Reserve(i int, how job.Fallocate, size int64) error
}

// Queuer is a Target that takes an I/O in one step and has its result in another.
type Queuer interface {
	Target
	// Queue is for I/Os that are under way together, at most depth, with buffers of at
	// most size bytes. It is nil where Do serves better.
	Queue(depth, size int) (Queue, error)
}

// Queue is used by one goroutine.
type Queue interface {
	// Submit hands over units, in order, and returns how many were taken: not all, if
	// there is no room. Those are the Queue's until Reap returns them.
	Submit(us []*Unit) (int, error)
	// Reap fills out with units that are done, and returns how many. It waits until
	// there are least, and no longer than wait, if that is not negative.
	Reap(out []*Unit, least int, wait time.Duration) (int, error)
	// Close waits for what is under way.
	Close() error
}

// Env is what engines take from the program that they are in.
type Env struct {
	// Session opens a session with the server of o, which it logs on to: on TCP, or on
	// RDMA alone if direct is set. nil refuses smb and smbdirect.
	Session func(ctx context.Context, o *job.EngineOptions, direct bool) (*client.Session, error)
	// Stream opens a TCP connection with the server of o, and returns who logs on. nil
	// refuses go-smb2.
	Stream func(ctx context.Context, o *job.EngineOptions) (conn net.Conn, domain, user, password string, err error)
	// Adapter opens the adapter of o's provider, and says where the peer (ServeRaw) is.
	// The engine closes it. nil refuses the engines of ndk.
	Adapter func(ctx context.Context, o *job.EngineOptions) (a ndk.Adapter, at netip.AddrPort, err error)
}

// Spec is what a Target is made for.
type Spec struct {
	Engine job.Engine
	Remote job.EngineOptions
	// Depth is the highest number of I/Os under way, MaxSize the longest.
	Depth, MaxSize int
	// Size is how many bytes the job's files have, evenly, and Files how many there are;
	// 0 where it is not said.
	Size  uint64
	Files int
}

// ErrRefused is matched by errors about something that there is not: an engine, or an option.
var ErrRefused = errors.New("not offered here")

// New makes the Target of a job, and connects it.
func (e *Env) New(ctx context.Context, s Spec) (Target, error) {
	switch s.Engine {
	case job.EngineNull:
		return newNull(), nil
	case job.EnginePosix:
		return newPosix(), nil
	case job.EngineSMB, job.EngineSMBDirect:
		if e.Session != nil {
			return newShare(ctx, e, s)
		}
	case job.EngineGoSMB2:
		if e.Stream != nil {
			return newGoSMB2(ctx, e, s)
		}
	case job.EngineNDKWrite, job.EngineNDKRead, job.EngineNDKSend:
		if e.Adapter != nil {
			return newRaw(ctx, e, s)
		}
	}
	return nil, fmt.Errorf("ioengine=%s: %w", s.Engine, ErrRefused)
}

// errNotOpen is the result of a Unit of a file that is not open.
var errNotOpen = fmt.Errorf("the file of an I/O: %w", fs.ErrClosed)
