//go:build verbs && linux && cgo

package verbs

/*
#include <errno.h>
#include "cm.h"
*/
import "C"

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// cmEvent is an event of the connection manager. The limits are those of this
// side, as the kernel reports them: what the peer may have under way towards us,
// and what we may have towards the peer. An iWARP device reports them to the
// active side the other way round; connector.granted knows.
type cmEvent struct {
	kind    C.enum_rdma_cm_event_type
	status  int // negative errno, or the reason of a rejection
	in, out int
	private []byte
	id      *C.struct_rdma_cm_id // of a request
}

// errno is the cause that the event carries; 0 if there is none.
func (e *cmEvent) errno() syscall.Errno {
	if e.status < 0 {
		return syscall.Errno(-e.status)
	}
	return 0
}

// sink takes the events of an id. onEvent runs on the goroutine of the channel
// and must neither block nor give back the last reference of an object.
type sink interface{ onEvent(ev *cmEvent) }

// cmChannel is the event channel of an adapter. Its one goroutine ends with
// close, which waits for it.
type cmChannel struct {
	c    *C.struct_rdma_event_channel
	poll *os.File // the channel's file under a descriptor of its own
	raw  syscall.RawConn
	log  *slog.Logger
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	sinks map[uint64]sink // guarded by mu, as all below; by the context of the id
	last  uint64          // key given out last; keys are not used twice
	pairs map[[2]netip.AddrPort]struct{}
}

// openCM opens an event channel.
func openCM(log *slog.Logger) (*cmChannel, error) {
	ch := &cmChannel{
		log: log, stop: make(chan struct{}), done: make(chan struct{}),
		sinks: make(map[uint64]sink), pairs: make(map[[2]netip.AddrPort]struct{}),
	}
	var fd C.int
	if e := C.cm_open(&ch.c, &fd); e != 0 {
		return nil, os.NewSyscallError("rdma_create_event_channel", syscall.Errno(e))
	}
	ch.poll = os.NewFile(uintptr(fd), "rdma_cm")
	raw, err := ch.poll.SyscallConn()
	if err != nil {
		_ = ch.poll.Close()
		C.cm_close(ch.c)
		return nil, err
	}
	ch.raw = raw
	go ch.run()
	return ch, nil
}

// close ends the goroutine and frees the channel. Every id was destroyed, or is
// while its last call returns.
func (ch *cmChannel) close() {
	close(ch.stop)
	_ = ch.poll.Close()
	<-ch.done
	C.cm_close(ch.c)
}

// run hands out events until the channel is closed.
func (ch *cmChannel) run() {
	defer close(ch.done)
	for {
		var ev C.struct_cm_event
		var errno C.int
		err := ch.raw.Read(func(uintptr) bool {
			errno = C.cm_next(ch.c, &ev)
			return errno != C.EAGAIN
		})
		switch {
		case err != nil:
			return // closed
		case errno == 0:
			ch.dispatch(&ev)
		case errno == C.EINTR:
		default:
			// Out of memory, say: the events stay queued.
			ch.log.Warn("connection manager", slog.Any("err", syscall.Errno(errno)))
			select {
			case <-time.After(cmBackoff):
			case <-ch.stop:
				return
			}
		}
	}
}

const cmBackoff = 100 * time.Millisecond

func (ch *cmChannel) dispatch(c *C.struct_cm_event) {
	ev := &cmEvent{
		kind: C.enum_rdma_cm_event_type(c.event), status: int(c.status), id: c.id,
		in: int(c.responder_resources), out: int(c.initiator_depth),
	}
	if n := int(c.private_len); n > 0 {
		ev.private = append([]byte(nil), (*[256]byte)(unsafe.Pointer(&c.private_data))[:n]...)
	}
	ch.mu.Lock()
	s := ch.sinks[uint64(c.key)]
	ch.mu.Unlock()
	if s != nil {
		s.onEvent(ev)
	} else if ev.id != nil { // a request for a listener that is closed by now
		C.cm_destroy(ev.id)
	}
}

// cmID is an id of the connection manager. It is destroyed when that is asked
// for and no call uses it any more.
type cmID struct {
	ch  *cmChannel
	key uint64
	ptr *C.struct_rdma_cm_id

	mu    sync.Mutex
	users int  // guarded by mu, as all below
	dead  bool // destroy was called
}

// newID makes an id whose events go to s.
func (ch *cmChannel) newID(s sink) (*cmID, error) {
	i := &cmID{ch: ch, key: ch.register(s)}
	if e := C.cm_create(ch.c, C.uint64_t(i.key), &i.ptr); e != 0 {
		ch.forget(i.key)
		return nil, os.NewSyscallError("rdma_create_id", syscall.Errno(e))
	}
	return i, nil
}

// adopt takes over the id of a request. It is called before the next event is
// fetched, so that none is lost.
func (ch *cmChannel) adopt(ptr *C.struct_rdma_cm_id, s sink) *cmID {
	i := &cmID{ch: ch, key: ch.register(s), ptr: ptr}
	C.cm_set_key(ptr, C.uint64_t(i.key))
	return i
}

func (ch *cmChannel) register(s sink) uint64 {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.last++
	ch.sinks[ch.last] = s
	return ch.last
}

func (ch *cmChannel) forget(key uint64) {
	ch.mu.Lock()
	delete(ch.sinks, key)
	ch.mu.Unlock()
}

// do makes a call with the id; EBADF if it was destroyed.
func (i *cmID) do(f func(*C.struct_rdma_cm_id) C.int) syscall.Errno {
	i.mu.Lock()
	if i.dead {
		i.mu.Unlock()
		return syscall.EBADF
	}
	i.users++
	i.mu.Unlock()
	e := f(i.ptr)
	i.mu.Lock()
	i.users--
	free := i.dead && i.users == 0
	i.mu.Unlock()
	if free {
		C.cm_destroy(i.ptr)
	}
	return syscall.Errno(e)
}

// destroy ends what the id stands for. It may be called twice.
func (i *cmID) destroy() {
	i.mu.Lock()
	if i.dead {
		i.mu.Unlock()
		return
	}
	i.dead = true
	free := i.users == 0
	i.mu.Unlock()
	i.ch.forget(i.key)
	if free {
		C.cm_destroy(i.ptr)
	}
}

// The calls, each with the errno of its own.

func (i *cmID) bind(a netip.AddrPort) syscall.Errno {
	ss := toSockaddr(a)
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_bind(id, &ss) })
}

func (i *cmID) resolveAddr(dst netip.AddrPort, d time.Duration) syscall.Errno {
	ss := toSockaddr(dst)
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_resolve_addr(id, &ss, millis(d)) })
}

func (i *cmID) resolveRoute(d time.Duration) syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_resolve_route(id, millis(d)) })
}

func (i *cmID) connect(p *C.struct_cm_param) syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_connect(id, p) })
}

func (i *cmID) accept(p *C.struct_cm_param) syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_accept(id, p) })
}

func (i *cmID) establish() syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_establish(id) })
}

func (i *cmID) reject(private []byte) syscall.Errno {
	var b [256]byte
	n := copy(b[:255], private)
	return i.do(func(id *C.struct_rdma_cm_id) C.int {
		return C.cm_reject(id, (*C.uint8_t)(unsafe.Pointer(&b)), C.uint8_t(n))
	})
}

func (i *cmID) disconnect() syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_disconnect(id) })
}

func (i *cmID) notifyEstablished() syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_notify_established(id) })
}

func (i *cmID) listen(backlog int) syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_listen(id, C.int(backlog)) })
}

func (i *cmID) shareAddr() syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_share_addr(id) })
}

func (i *cmID) ownFamily() syscall.Errno {
	return i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_own_family(id) })
}

// qpAttr asks for what the connection needs of a QP in a state.
func (i *cmID) qpAttr(state C.int, attr *C.struct_ibv_qp_attr) (mask C.int, errno syscall.Errno) {
	errno = i.do(func(id *C.struct_rdma_cm_id) C.int { return C.cm_qp_attr(id, state, attr, &mask) })
	return mask, errno
}

// addrs returns both addresses, each the zero value as long as it is not known.
func (i *cmID) addrs() (local, peer netip.AddrPort) {
	var l, p C.struct_sockaddr_storage
	i.do(func(id *C.struct_rdma_cm_id) C.int { C.cm_addrs(id, &l, &p); return 0 })
	return fromSockaddr(&l), fromSockaddr(&p)
}

// device is the name of the device that the id is bound to, "" while it is bound
// to none.
func (i *cmID) device() (name string) {
	i.do(func(id *C.struct_rdma_cm_id) C.int {
		if s := C.cm_device(id); s != nil {
			name = C.GoString(s)
		}
		return 0
	})
	return name
}

// bindHere binds an id to a, or for port 0 to a port of NDK's range. An
// unspecified address leaves the device open. The error is a *cmFailure.
func (a *adapter) bindHere(id *cmID, addr netip.AddrPort) error {
	if ip := addr.Addr(); !ip.IsUnspecified() && !isLocal(ip) {
		return &cmFailure{status: ntstatus.InvalidAddress, err: fmt.Errorf("%v is no address of this machine", ip)}
	}
	try, attempts := addr, 1
	if addr.Port() == 0 {
		attempts = portAttempts
	}
	for range attempts {
		if addr.Port() == 0 {
			try = netip.AddrPortFrom(addr.Addr(), randomPort())
		}
		switch e := id.bind(try); e {
		case 0:
			if name := id.device(); name != "" && name != a.device {
				return &cmFailure{status: ntstatus.InvalidAddress, err: fmt.Errorf("%v is an address of %s, not of %s", addr.Addr(), name, a.device)}
			}
			return nil
		case syscall.EADDRINUSE, syscall.EADDRNOTAVAIL:
			// The second is for an address that is not ours, which was ruled out, or
			// for a port that is taken on all addresses.
			if addr.Port() != 0 {
				return &cmFailure{status: ntstatus.SharingViolation, err: os.NewSyscallError("rdma_bind_addr", e)}
			}
		case syscall.ENODEV:
			return &cmFailure{status: ntstatus.InvalidAddress, err: fmt.Errorf("%v is no address of an RDMA device", addr.Addr())}
		default:
			return failCM("rdma_bind_addr", e)
		}
	}
	return &cmFailure{status: ntstatus.TooManyAddresses}
}

// isLocal reports whether this machine has the address.
func isLocal(ip netip.Addr) bool {
	as, err := net.InterfaceAddrs()
	if err != nil {
		return true // the connection manager knows
	}
	for _, a := range as {
		if n, ok := a.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == ip.WithZone("") {
				return true
			}
		}
	}
	return false
}

func millis(d time.Duration) C.int { return C.int(min(max(d.Milliseconds(), 1), 1<<30)) }

// cmStatus maps an errno of the connection manager to the status of NDK.
func cmStatus(e syscall.Errno) ndk.Status {
	switch e {
	case 0:
		return ntstatus.Success
	case syscall.EADDRINUSE:
		return ntstatus.SharingViolation
	case syscall.EADDRNOTAVAIL:
		return ntstatus.InvalidAddress
	case syscall.ENETUNREACH, syscall.EAFNOSUPPORT, syscall.ENETDOWN:
		return ntstatus.NetworkUnreachable
	case syscall.EHOSTUNREACH, syscall.EHOSTDOWN:
		return ntstatus.HostUnreachable
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE:
		return ntstatus.ConnectionRefused
	case syscall.ETIMEDOUT:
		return ntstatus.IOTimeout
	case syscall.ENOMEM, syscall.ENOBUFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC, syscall.EAGAIN:
		return ntstatus.InsufficientResources
	case syscall.ENODEV:
		return ntstatus.DeviceRemoved
	}
	return ndk.StatusOf(e)
}

// claimPair notes that a connection of this adapter has the two addresses, and
// reports false if another one has.
func (ch *cmChannel) claimPair(local, peer netip.AddrPort) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	k := [2]netip.AddrPort{local, peer}
	if _, taken := ch.pairs[k]; taken {
		return false
	}
	ch.pairs[k] = struct{}{}
	return true
}

// hasPair reports whether a connection of this adapter has the port and
// destination, and the address if that is known.
func (ch *cmChannel) hasPair(local, peer netip.AddrPort) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for k := range ch.pairs {
		if k[1] == peer && k[0].Port() == local.Port() && (k[0].Addr() == local.Addr() || local.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}

func (ch *cmChannel) dropPair(local, peer netip.AddrPort) {
	ch.mu.Lock()
	delete(ch.pairs, [2]netip.AddrPort{local, peer})
	ch.mu.Unlock()
}
