//go:build verbs && linux && cgo

package verbs

// #include "shim.h"
import "C"

import (
	"log/slog"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// pollable is a descriptor of the libraries under a number of its own, which Go's
// poller may close without closing the other.
type pollable struct {
	file *os.File
	raw  syscall.RawConn
}

func newPollable(fd C.int, name string) (pollable, error) {
	own, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 3)
	if e != 0 {
		return pollable{}, os.NewSyscallError("fcntl", e)
	}
	// The flag belongs to the open file, so the library's descriptor has it too.
	if err := syscall.SetNonblock(int(own), true); err != nil {
		_ = syscall.Close(int(own))
		return pollable{}, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(own, name)
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return pollable{}, err
	}
	return pollable{f, raw}, nil
}

// wait calls f when there may be something to read, until it returns true; false
// when the descriptor was closed.
func (p pollable) wait(f func(fd uintptr) bool) bool { return p.raw.Read(f) == nil }

// events hands the asynchronous events of a device context to their objects. Its
// one goroutine ends with close, which waits for it.
type events struct {
	a    *adapter
	poll pollable
	done chan struct{}

	mu   sync.Mutex
	cqs  map[*C.struct_ibv_cq]*cq // guarded by mu, as all below
	srqs map[*C.struct_ibv_srq]*srq
}

func watch(a *adapter) (*events, error) {
	p, err := newPollable(a.ctx.async_fd, "ibv_async")
	if err != nil {
		return nil, err
	}
	e := &events{
		a: a, poll: p, done: make(chan struct{}),
		cqs: make(map[*C.struct_ibv_cq]*cq), srqs: make(map[*C.struct_ibv_srq]*srq),
	}
	go e.run()
	return e, nil
}

func (e *events) close() {
	_ = e.poll.file.Close()
	<-e.done
}

func (e *events) run() {
	defer close(e.done)
	var ev C.struct_ibv_async_event
	for {
		var rc C.int
		open := e.poll.wait(func(uintptr) bool {
			rc = C.vs_get_async_event(e.a.ctx, &ev)
			return rc != C.EAGAIN
		})
		if !open {
			return
		}
		if rc != 0 {
			if rc == C.EINTR {
				continue
			}
			e.a.cfg.Logger.Warn("asynchronous events end", slog.String("device", e.a.device), slog.Any("err", syscall.Errno(rc)))
			return
		}
		act := e.find(&ev)
		// The object cannot be destroyed before its events are acknowledged, and
		// act holds what it needs of it.
		C.vs_ack_async_event(&ev)
		if act != nil {
			act()
		}
	}
}

// find returns what is to be done about an event, with a reference taken for it.
func (e *events) find(ev *C.struct_ibv_async_event) func() {
	log := e.a.cfg.Logger.With(slog.String("device", e.a.device), slog.String("event", C.GoString(C.vs_event_type_str(ev.event_type))))
	element := unsafe.Pointer(&ev.element)
	switch ev.event_type {
	case C.IBV_EVENT_CQ_ERR:
		hw := *(**C.struct_ibv_cq)(element)
		e.mu.Lock()
		c := e.cqs[hw]
		ok := c != nil && c.Hold()
		e.mu.Unlock()
		if ok {
			return func() {
				log.Warn("completion queue failed")
				c.fail(ntstatus.BufferOverflow)
				c.Release()
			}
		}
	case C.IBV_EVENT_QP_FATAL, C.IBV_EVENT_QP_REQ_ERR, C.IBV_EVENT_QP_ACCESS_ERR, C.IBV_EVENT_QP_LAST_WQE_REACHED, C.IBV_EVENT_COMM_EST:
		q := e.a.heldQP(uint32((*(**C.struct_ibv_qp)(element)).qp_num))
		if q == nil {
			return nil
		}
		kind := ev.event_type
		return func() {
			log.Debug("queue pair", slog.Uint64("qp", uint64(q.num())))
			switch kind {
			case C.IBV_EVENT_QP_LAST_WQE_REACHED:
			case C.IBV_EVENT_COMM_EST:
				q.established()
			default:
				q.failed()
			}
			q.Release()
		}
	case C.IBV_EVENT_SRQ_LIMIT_REACHED, C.IBV_EVENT_SRQ_ERR:
		hw := *(**C.struct_ibv_srq)(element)
		e.mu.Lock()
		s := e.srqs[hw]
		ok := s != nil && s.Hold()
		e.mu.Unlock()
		if ok {
			failed := ev.event_type == C.IBV_EVENT_SRQ_ERR
			return func() {
				if failed {
					log.Warn("shared receive queue failed")
					s.fail()
				} else {
					s.low()
				}
				s.Release()
			}
		}
	case C.IBV_EVENT_DEVICE_FATAL:
		return func() {
			log.Error("device failed")
			e.deviceFailed()
		}
	default:
		log.Info("device")
	}
	return nil
}

// heldQP returns the QP of a hardware number with a reference, or nil.
func (a *adapter) heldQP(num uint32) *qp {
	a.qpsMu.RLock()
	defer a.qpsMu.RUnlock()
	if q := a.byNum[num]; q != nil && q.Hold() {
		return q
	}
	return nil
}

// deviceFailed ends every queue: the device completes nothing any more.
func (e *events) deviceFailed() {
	e.mu.Lock()
	var cqs []*cq
	for _, c := range e.cqs {
		if c.Hold() {
			cqs = append(cqs, c)
		}
	}
	e.mu.Unlock()
	for _, c := range cqs {
		c.fail(ntstatus.InternalError)
		c.Release()
	}
}
