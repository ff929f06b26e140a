package ndk

import (
	"context"
	"net/netip"
)

// Provider opens adapters. Which provider serves whom is decided by who hands it
// down; none registers itself.
type Provider interface {
	// Open opens an instance of the adapter that owns the local address. An
	// unspecified address means any. It fails with NotSupported for an unknown
	// major version or a minor above the highest known, with DeviceNotReady when
	// no adapter owns the address.
	//
	// Implements: NDK_ADAPTER.
	Open(ctx context.Context, local netip.Addr, min Version) (Adapter, error)
}

// Object is what all objects have in common. The four reserved pointers that the
// header keeps for the layer between consumer and provider have no counterpart:
// such a layer wraps the object (see Unwrapper).
//
// Implements: NDK_OBJECT_HEADER, NDK_OBJECT_HEADER_RESERVED_BLOCK.
type Object interface {
	// Kind never returns ObjectUndefined.
	Kind() ObjectKind
	// Version is that of the adapter instance.
	Version() Version
	// Extension looks up an optional interface by its GUID and minimal version;
	// NotSupported if there is none. The caller asserts the type that the
	// extension documents.
	//
	// Implements: NDK_FN_QUERY_EXTENSION_INTERFACE, NDK_EXTENSION_INTERFACE.
	Extension(id GUID, v Version) (any, error)
	// Close starts the close. It cannot fail, does not block (that of an Adapter
	// does), and may be called twice. Pending requests are flushed or
	// cancelled first; an antecedent stays pending until its successors are
	// closed. Afterwards the object is not used, but for Closed.
	//
	// Implements: NDK_FN_CLOSE_OBJECT.
	Close()
	// Closed is closed when nothing of the object can call back any more.
	//
	// Implements: NDK_FN_CLOSE_COMPLETION.
	Closed() <-chan struct{}
}

// CloseWait closes o and waits until it is closed or ctx ends.
func CloseWait(ctx context.Context, o Object) error {
	o.Close()
	select {
	case <-o.Closed():
		return nil
	default:
	}
	select {
	case <-o.Closed():
		return nil
	case <-ctx.Done():
		return &Error{Op: "close " + o.Kind().String(), Status: StatusOf(ctx.Err()), Err: ctx.Err()}
	}
}

// Unwrapper is implemented by wrappers of objects (tracing, faults); providers
// use Unwrap to find their own object behind one that is passed back.
type Unwrapper interface{ Unwrap() Object }

// Unwrap returns o, or the innermost object behind its wrappers.
func Unwrap(o Object) Object {
	for {
		u, ok := o.(Unwrapper)
		if !ok {
			return o
		}
		o = u.Unwrap()
	}
}

// Adapter is an opened instance of an RDMA device. All methods may be called at
// the same time. Close blocks until every successor is closed and its callbacks
// have returned, so it is never called from a callback.
//
// Implements: NDK_ADAPTER_DISPATCH.
type Adapter interface {
	Object
	// Info reports limits and capabilities. It may block.
	//
	// Implements: NDK_FN_QUERY_ADAPTER_INFO.
	Info(ctx context.Context) (AdapterInfo, error)
	// CreateCQ makes an unarmed completion queue.
	// Errors: InvalidParameter (depth), InsufficientResources.
	//
	// Implements: NDK_FN_CREATE_CQ, NDK_FN_CREATE_COMPLETION.
	CreateCQ(ctx context.Context, c CQConfig) (CQ, error)
	// CreatePD makes a protection domain.
	//
	// Implements: NDK_FN_CREATE_PD.
	CreatePD(ctx context.Context) (PD, error)
	// CreateSharedEndpoint reserves a local address as the source of many
	// connections; port 0 picks one in 49152-65535. Errors: SharingViolation,
	// InvalidAddress, TooManyAddresses.
	//
	// Implements: NDK_FN_CREATE_SHARED_ENDPOINT.
	CreateSharedEndpoint(ctx context.Context, local netip.AddrPort) (SharedEndpoint, error)
	// CreateConnector makes an idle connector for the active side.
	//
	// Implements: NDK_FN_CREATE_CONNECTOR.
	CreateConnector(ctx context.Context) (Connector, error)
	// CreateListener makes a listener that does not listen yet. onConnect gets
	// a connector for each incoming request, owns it and must close it; it must
	// not be nil (InvalidParameter). It may run for several requests at once.
	//
	// Implements: NDK_FN_CREATE_LISTENER, NDK_FN_CONNECT_EVENT_CALLBACK.
	CreateListener(ctx context.Context, onConnect func(Connector)) (Listener, error)
	// BuildLAM maps length bytes of m to pages and returns the offset of the
	// first byte in the first page. The memory stays the caller's; it must not
	// move or be freed before ReleaseLAM. Errors: InvalidParameter (a chain with
	// a gap or too short), BufferTooSmall (capacity of lam.Pages, with the needed
	// count in len of the returned error's Err text), InsufficientResources.
	//
	// Implements: NDK_FN_BUILD_LAM.
	BuildLAM(ctx context.Context, m Memory, length int, lam *LAM) (fbo uint32, err error)
	// ReleaseLAM undoes BuildLAM. No request that uses it may be outstanding.
	//
	// Implements: NDK_FN_RELEASE_LAM.
	ReleaseLAM(lam *LAM)
	// Alloc returns at least n bytes of page-aligned memory outside the Go heap
	// that suits registration, and the function that gives it back.
	Alloc(n int) (m []byte, free func(), err error)
}

// CQ is a completion queue. Arm, Poll and PollEx are serialised by the caller.
//
// Implements: NDK_CQ, NDK_CQ_DISPATCH.
type CQ interface {
	Object
	// Arm asks for one notification. A completion that was queued after the last
	// notification makes it fire at once.
	//
	// Implements: NDK_FN_ARM_CQ, NDK_FN_CQ_NOTIFICATION_CALLBACK.
	Arm(t ArmType)
	// Poll removes up to len(dst) completions and returns how many. It never
	// blocks and never allocates.
	//
	// Implements: NDK_FN_GET_CQ_RESULTS.
	Poll(dst []Result) int
	// PollEx is Poll with type, provider error and invalidated token.
	//
	// Implements: NDK_FN_GET_CQ_RESULTS_EX.
	PollEx(dst []ResultEx) int
	// Resize changes the depth, losing nothing. Errors: InvalidParameter,
	// BufferOverflow (below the current fill), NotSupported.
	//
	// Implements: NDK_FN_RESIZE_CQ.
	Resize(ctx context.Context, depth int) error
	// Moderate lets a due notification wait for at most interval microseconds or
	// count completions, whichever comes first. 0 for either (or count 1) turns
	// moderation off; Disabled turns that criterion off. Errors:
	// InvalidParameterMix (both disabled), NotSupported.
	//
	// Implements: NDK_FN_CONTROL_CQ_INTERRUPT_MODERATION.
	Moderate(interval, count uint32) error
}

// PD is a protection domain: MRs, MWs, SRQs and QPs of different domains do not
// mix.
//
// Implements: NDK_PD, NDK_PD_DISPATCH.
type PD interface {
	Object
	// CreateMR makes a memory region for Register, or with fast for
	// InitializeFastRegister and QP.FastRegister; never both.
	//
	// Implements: NDK_FN_CREATE_MR.
	CreateMR(ctx context.Context, fast bool) (MR, error)
	// CreateMW makes an unbound memory window; NotSupported without windows.
	//
	// Implements: NDK_FN_CREATE_MW.
	CreateMW(ctx context.Context) (MW, error)
	// CreateSRQ makes a shared receive queue.
	//
	// Implements: NDK_FN_CREATE_SRQ, NDK_FN_SRQ_NOTIFICATION_CALLBACK.
	CreateSRQ(ctx context.Context, c SRQConfig) (SRQ, error)
	// CreateQP makes a queue pair. Errors: InvalidParameter (a depth, count or
	// size above the adapter's limit, a CQ of another adapter).
	//
	// Implements: NDK_FN_CREATE_QP.
	CreateQP(ctx context.Context, c QPConfig) (QP, error)
	// CreateQPWithSRQ makes a queue pair that takes its receives from srq.
	//
	// Implements: NDK_FN_CREATE_QP_WITH_SRQ.
	CreateQPWithSRQ(ctx context.Context, c QPConfig, srq SRQ) (QP, error)
	// PrivilegedToken is the local token under which logical addresses are used
	// without registration. It gives a peer nothing.
	//
	// Implements: NDK_FN_GET_PRIVILEGED_MEMORY_REGION_TOKEN.
	PrivilegedToken() Token
}

// Invalidatable is what QP.Invalidate takes: a fast-register MR or a bound MW.
type Invalidatable interface {
	Object
	RemoteToken() Token
}

// MR is a memory region.
//
// Implements: NDK_MR, NDK_MR_DISPATCH.
type MR interface {
	Object
	// Register gives length bytes of m the rights of f. The address of the first
	// byte is the base of remote addresses. The region keeps m alive until
	// Deregister or Close. Errors: InvalidParameter, InvalidDeviceRequest (fast),
	// InsufficientResources.
	//
	// Implements: NDK_FN_REGISTER_MR, NDK_FN_REQUEST_COMPLETION.
	Register(ctx context.Context, m Memory, length int, f MRFlags) error
	// Deregister makes both tokens unusable before it returns, after accesses
	// under way ended. Errors: InvalidDeviceState, DeviceBusy (window bound).
	//
	// Implements: NDK_FN_DEREGISTER_MR.
	Deregister(ctx context.Context) error
	// InitializeFastRegister sizes a fast-register MR; with remote false no
	// later FastRegister may give remote rights. Errors: ImplementationLimit,
	// InvalidDeviceRequest.
	//
	// Implements: NDK_FN_INITIALIZE_FAST_REGISTER_MR.
	InitializeFastRegister(ctx context.Context, maxPages int, remote bool) error
	// LocalToken is for SGEs that refer to the region.
	//
	// Implements: NDK_FN_GET_LOCAL_TOKEN_FROM_MR.
	LocalToken() Token
	// RemoteToken is for the peer. That of a fast-register MR is new whenever
	// QP.FastRegister returns.
	//
	// Implements: NDK_FN_GET_REMOTE_TOKEN_FROM_MR.
	RemoteToken() Token
	// Base is the address of the first byte, which SGEs and peers count from; 0
	// while the region is not registered.
	Base() uint64
}

// MW is a memory window.
//
// Implements: NDK_MW, NDK_MW_DISPATCH.
type MW interface {
	Object
	// RemoteToken is for the peer, new whenever QP.Bind returns.
	//
	// Implements: NDK_FN_GET_REMOTE_TOKEN_FROM_MW.
	RemoteToken() Token
}

// SRQ is a shared receive queue. Posts are serialised by the caller.
//
// Implements: NDK_SRQ, NDK_SRQ_DISPATCH.
type SRQ interface {
	Object
	// Receive queues a buffer for the next message of any attached QP; it
	// completes on that QP's receive CQ.
	//
	// Implements: NDK_FN_SRQ_RECEIVE.
	Receive(rc any, sgl []SGE) error
	// Modify changes depth and threshold; 0 keeps a value. A threshold above 0
	// arms the notification, which fires at once if the queue is below it.
	//
	// Implements: NDK_FN_MODIFY_SRQ.
	Modify(ctx context.Context, depth, threshold int) error
}

// QP is a queue pair: a receive queue and an initiator queue. Requests of one
// queue start and complete in the order of their posts. An error from a post
// means no completion, and leaves the QP usable; a failed completion ends the
// connection. Inline errors, as *PostError: ConnectionInvalid,
// InvalidParameter, NoMoreEntries (queue full), DataOverrun (too many SGEs),
// BufferOverflow (too long).
//
// Implements: NDK_QP, NDK_QP_DISPATCH.
type QP interface {
	Object
	// Send sends one message, which takes one receive of the peer.
	// Flags: SilentSuccess, ReadFence, SendAndSolicitEvent, Inline, Defer.
	//
	// Implements: NDK_FN_SEND.
	Send(rc any, sgl []SGE, f OpFlags) error
	// SendAndInvalidate is Send that makes the peer invalidate its own token
	// remote before its receive completes.
	//
	// Implements: NDK_FN_SEND_AND_INVALIDATE.
	SendAndInvalidate(rc any, sgl []SGE, f OpFlags, remote Token) error
	// Receive queues a buffer for one message; allowed before connecting.
	//
	// Implements: NDK_FN_RECEIVE.
	Receive(rc any, sgl []SGE) error
	// Read copies remote memory into sgl.
	// Flags: SilentSuccess, ReadFence, RDMAReadLocalInvalidate, Defer.
	//
	// Implements: NDK_FN_READ.
	Read(rc any, sgl []SGE, remoteAddr uint64, remote Token, f OpFlags) error
	// Write copies sgl into remote memory. Its completion proves nothing about
	// placement; that of a receive for a later Send of this QP does.
	// Flags: SilentSuccess, ReadFence, Inline, Defer.
	//
	// Implements: NDK_FN_WRITE.
	Write(rc any, sgl []SGE, remoteAddr uint64, remote Token, f OpFlags) error
	// Bind binds an unbound window to n bytes at va of a registered MR.
	// Flags: SilentSuccess, ReadFence, AllowRemoteRead, AllowRemoteWrite, Defer.
	//
	// Implements: NDK_FN_BIND.
	Bind(rc any, mr MR, mw MW, va, n uint64, f OpFlags) error
	// FastRegister gives an initialised MR a page list, the base address of its
	// first byte and rights, in order with the requests around it. base is
	// congruent to fbo modulo PageSize. pages is free when the post returns; the
	// LAM they came from is not before the MR was invalidated.
	// Flags: SilentSuccess, ReadFence, AllowRemoteRead, AllowLocalWrite,
	// AllowRemoteWrite, RDMAReadSink, Defer.
	//
	// Implements: NDK_FN_FAST_REGISTER.
	FastRegister(rc any, mr MR, pages []LogicalAddress, fbo uint32, n, base uint64, f OpFlags) error
	// Invalidate makes the token of a fast-registered MR or bound MW unusable.
	// Flags: SilentSuccess, ReadFence, Defer.
	//
	// Implements: NDK_FN_INVALIDATE.
	Invalidate(rc any, target Invalidatable, f OpFlags) error
	// Flush completes every request under way with Cancelled and does not wait.
	//
	// Implements: NDK_FN_FLUSH.
	Flush()
}

// Connector is one side of one connection.
//
// Implements: NDK_CONNECTOR, NDK_CONNECTOR_DISPATCH.
type Connector interface {
	Object
	// Connect asks dst for a connection. nil means that the peer accepted; the
	// QP takes initiator requests after CompleteConnect. A zero src means any
	// address and port. Errors: ConnectionRefused, NetworkUnreachable,
	// HostUnreachable, IOTimeout, SharingViolation, InvalidAddress,
	// TooManyAddresses, AddressAlreadyExists, InvalidBufferSize (private data),
	// ConnectionActive (QP in use).
	//
	// Implements: NDK_FN_CONNECT.
	Connect(ctx context.Context, qp QP, src, dst netip.AddrPort, p ConnParams) error
	// ConnectShared is Connect from the address of a shared endpoint.
	//
	// Implements: NDK_FN_CONNECT_WITH_SHARED_ENDPOINT.
	ConnectShared(ctx context.Context, qp QP, ep SharedEndpoint, dst netip.AddrPort, p ConnParams) error
	// CompleteConnect finishes the active side; onDisconnect may be nil.
	// Errors: ConnectionInvalid, ConnectionAborted, IOTimeout.
	//
	// Implements: NDK_FN_COMPLETE_CONNECT.
	CompleteConnect(ctx context.Context, onDisconnect func()) error
	// CompleteConnectEx is CompleteConnect with a reason for the disconnect: 0
	// is unknown, else it is the provider's.
	//
	// Implements: NDK_FN_COMPLETE_CONNECT_EX, NDK_FN_DISCONNECT_EVENT_CALLBACK_EX.
	CompleteConnectEx(ctx context.Context, onDisconnect func(reason uint32)) error
	// Accept accepts an incoming request onto qp. Errors: ConnectionAborted,
	// IOTimeout, InvalidBufferSize, InvalidDeviceState.
	//
	// Implements: NDK_FN_ACCEPT, NDK_FN_DISCONNECT_EVENT_CALLBACK.
	Accept(ctx context.Context, qp QP, p ConnParams, onDisconnect func()) error
	// AcceptEx is Accept with a reason for the disconnect.
	//
	// Implements: NDK_FN_ACCEPT_EX.
	AcceptEx(ctx context.Context, qp QP, p ConnParams, onDisconnect func(reason uint32)) error
	// Reject refuses an incoming request, or on the active side an accepted one
	// before CompleteConnect. Errors: InvalidBufferSize, ConnectionAborted.
	//
	// Implements: NDK_FN_REJECT.
	Reject(private []byte) error
	// ConnectionData copies the peer's private data to buf and reports limits:
	// on the passive side from the connect event to Accept, on the active side
	// from the end of Connect to CompleteConnect. Errors: BufferTooSmall (buf
	// holds what fits), InvalidDeviceState. A nil buf asks for the size only.
	//
	// Implements: NDK_FN_GET_CONNECTION_DATA.
	ConnectionData(buf []byte) (ConnData, error)
	// LocalAddr and PeerAddr fail with ConnectionInvalid on an idle connector.
	//
	// Implements: NDK_FN_GET_LOCAL_ADDRESS.
	LocalAddr() (netip.AddrPort, error)
	// PeerAddr is readable from the connect event on.
	//
	// Implements: NDK_FN_GET_PEER_ADDRESS.
	PeerAddr() (netip.AddrPort, error)
	// Disconnect ends the connection gracefully, then flushes the QP. The
	// local disconnect callback does not run for it. Errors: ConnectionInvalid,
	// IOTimeout (the connection is gone all the same).
	//
	// Implements: NDK_FN_DISCONNECT.
	Disconnect(ctx context.Context) error
}

// Listener waits for connection requests.
//
// Implements: NDK_LISTENER, NDK_LISTENER_DISPATCH.
type Listener interface {
	Object
	// Listen starts to listen; port 0 picks one in 49152-65535, an unspecified
	// address means all of the adapter. Errors: SharingViolation,
	// InvalidAddress, TooManyAddresses, InvalidDeviceState (a second call).
	//
	// Implements: NDK_FN_LISTEN.
	Listen(ctx context.Context, addr netip.AddrPort) error
	// ControlConnectEvents pauses or restarts connect events. While paused a
	// peer is refused as if nobody listened; the port stays reserved.
	//
	// Implements: NDK_FN_CONTROL_CONNECT_EVENTS.
	ControlConnectEvents(pause bool)
	// LocalAddr fails with InvalidDeviceState before Listen.
	//
	// Implements: NDK_FN_GET_LISTENER_LOCAL_ADDRESS.
	LocalAddr() (netip.AddrPort, error)
}

// SharedEndpoint is a local address that many connectors share.
//
// Implements: NDK_SHARED_ENDPOINT, NDK_SHARED_ENDPOINT_DISPATCH.
type SharedEndpoint interface {
	Object
	// LocalAddr shows the port that was chosen.
	//
	// Implements: NDK_FN_GET_SHARED_ENDPOINT_LOCAL_ADDRESS.
	LocalAddr() netip.AddrPort
}
