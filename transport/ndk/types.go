package ndk

import (
	"fmt"
	"strconv"
)

// PageSize is the size in bytes of the pages of a logical address mapping.
const PageSize = 4096

// Version is an interface version, as in NDK_VERSION.
type Version struct{ Major, Minor uint16 }

// Versions of the interface. Version11 is the base; Version12 added
// SendAndInvalidate, PollEx, deferred posts and read with local invalidate;
// Version21 added provider errors and the Ex forms of accept and connect.
var (
	Version11 = Version{1, 1}
	Version12 = Version{1, 2}
	Version21 = Version{2, 1}
)

// String prints major.minor.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less orders versions.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// GUID names an extension interface.
type GUID [16]byte

// Token grants access to memory: a local token in an SGE, a remote token in a
// peer's Read or Write. Over iWARP it is the STag as a number.
type Token uint32

// ObjectKind tells the kinds of object apart.
//
// Implements: NDK_OBJECT_TYPE.
type ObjectKind uint32

// The kinds, with the values of the header.
const (
	ObjectUndefined ObjectKind = iota
	ObjectAdapter
	ObjectQP
	ObjectCQ
	ObjectMR
	ObjectMW
	ObjectPD
	ObjectSharedEndpoint
	ObjectConnector
	ObjectListener
	ObjectSRQ
	ObjectMax
)

var kindNames = [...]string{"Undefined", "Adapter", "QP", "CQ", "MR", "MW", "PD", "SharedEndpoint", "Connector", "Listener", "SRQ"}

// String names the kind; an unknown value prints as a number.
func (k ObjectKind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return strconv.FormatUint(uint64(k), 10)
}

// OpType is the kind of a completed operation.
//
// Implements: NDK_OPERATION_TYPE.
type OpType uint32

// Operation kinds, with the values of the header. A ReceiveAndInvalidate has
// the bit of Receive set.
const (
	OpReceive              OpType = 0x0001
	OpReceiveAndInvalidate OpType = 0x8001
	OpSend                 OpType = 0x0002
	OpFastRegister         OpType = 0x0004
	OpBind                 OpType = 0x0008
	OpInvalidate           OpType = 0x0010
	OpRead                 OpType = 0x0020
	OpWrite                OpType = 0x0040
)

// String names the operation; an unknown value prints in hexadecimal.
func (t OpType) String() string {
	switch t {
	case OpReceive:
		return "Receive"
	case OpReceiveAndInvalidate:
		return "ReceiveAndInvalidate"
	case OpSend:
		return "Send"
	case OpFastRegister:
		return "FastRegister"
	case OpBind:
		return "Bind"
	case OpInvalidate:
		return "Invalidate"
	case OpRead:
		return "Read"
	case OpWrite:
		return "Write"
	}
	return "0x" + strconv.FormatUint(uint64(t), 16)
}

// OpFlags modify a posted request.
type OpFlags uint32

// Operation flags, with the values of the header.
const (
	// SilentSuccess asks for no completion if the request works. One that fails
	// or is cancelled always completes.
	SilentSuccess OpFlags = 0x0001
	// ReadFence starts the request only after all earlier Reads of its QP ended.
	ReadFence OpFlags = 0x0002
	// SendAndSolicitEvent makes the peer's completion notify a CQ that is armed
	// for solicited completions.
	SendAndSolicitEvent OpFlags = 0x0004
	// AllowRemoteRead is a right given by Bind or FastRegister.
	AllowRemoteRead OpFlags = 0x0008
	// AllowLocalWrite is a right given by FastRegister.
	AllowLocalWrite OpFlags = 0x0010
	// AllowRemoteWrite is a right given by Bind or FastRegister; it contains
	// AllowLocalWrite.
	AllowRemoteWrite OpFlags = 0x0030
	// Inline copies the data during the post: tokens are not looked at and the
	// buffers are free on return.
	Inline OpFlags = 0x0040
	// RDMAReadSink says that the memory will be the sink of a Read.
	RDMAReadSink OpFlags = 0x0080
	// RDMAReadLocalInvalidate invalidates the token of the first SGE of a Read
	// when it succeeded.
	RDMAReadLocalInvalidate OpFlags = 0x0100
	// Defer is a hint that more posts follow: the request may be held back
	// until one without it. A chain ends with a post without the flag.
	Defer OpFlags = 0x0200
)

// MRFlags are the access rights of a normal registration.
type MRFlags uint32

// Access rights, with the values of the header. Local read is always given.
const (
	MRAllowLocalRead   MRFlags = 0x0000
	MRAllowLocalWrite  MRFlags = 0x0001
	MRAllowRemoteRead  MRFlags = 0x0002
	MRAllowRemoteWrite MRFlags = 0x0005 // contains MRAllowLocalWrite
	MRRDMAReadSink     MRFlags = 0x0008
)

// ArmType says which completions notify.
type ArmType uint32

// Arm types, with the values of the header. When a CQ is armed twice before it
// fired, the stronger type holds: ArmAny over ArmSolicited over ArmErrors.
const (
	// ArmErrors: only a failure of the CQ itself, which satisfies every type.
	ArmErrors ArmType = 0
	// ArmAny: any completion.
	ArmAny ArmType = 1
	// ArmSolicited: the receive of a solicited send, or any failed request.
	ArmSolicited ArmType = 2
)

// Disabled as a parameter of CQ.Moderate turns that criterion off.
const Disabled = 0xFFFFFFFF

// AdapterFlags are capability bits.
type AdapterFlags uint32

// Capability bits, with the values of the header.
const (
	FlagInOrderDMA              AdapterFlags = 0x00001
	FlagRDMAReadSinkNotRequired AdapterFlags = 0x00002
	FlagCQInterruptModeration   AdapterFlags = 0x00004
	FlagMultiEngine             AdapterFlags = 0x00008
	FlagRDMAReadLocalInvalidate AdapterFlags = 0x00010
	FlagCQResize                AdapterFlags = 0x00100
	FlagLoopbackConnections     AdapterFlags = 0x10000
)

// RDMATechnology is the wire an adapter speaks.
type RDMATechnology uint32

// Technologies, with the values of the header.
const (
	TechnologyUndefined  RDMATechnology = 0
	TechnologyIWARP      RDMATechnology = 1
	TechnologyInfiniBand RDMATechnology = 2
	TechnologyRoCE       RDMATechnology = 3
	TechnologyRoCEv2     RDMATechnology = 4
)

// String names the technology.
func (t RDMATechnology) String() string {
	switch t {
	case TechnologyIWARP:
		return "iWARP"
	case TechnologyInfiniBand:
		return "InfiniBand"
	case TechnologyRoCE:
		return "RoCE"
	case TechnologyRoCEv2:
		return "RoCEv2"
	}
	return "undefined"
}

// AdapterInfo has the limits and abilities of an adapter instance. Every limit
// that is enforced at create or post time is the one reported here.
//
// Implements: NDK_ADAPTER_INFO.
type AdapterInfo struct {
	Version                Version // highest minor of the major asked for at open
	VendorID               uint32  // OUI
	DeviceID               uint32
	MaxRegistrationSize    uint64 // bytes of one MR
	MaxWindowSize          uint64 // bytes of one MW; 0 without memory windows
	FRMRPageCount          int    // pages of PageSize in one fast-register MR, at best
	MaxInitiatorRequestSGE int    // SGEs of Send, Write
	MaxReceiveRequestSGE   int
	MaxReadRequestSGE      int    // SGEs of Read, in place of MaxInitiatorRequestSGE
	MaxTransferLength      uint64 // bytes, sum over the SGEs of one request
	MaxInlineDataSize      int    // bytes
	MaxInboundReadLimit    int    // Reads of the peer under way, per QP
	MaxOutboundReadLimit   int    // own Reads under way, per QP
	MaxReceiveQueueDepth   int
	MaxInitiatorQueueDepth int
	MaxSRQDepth            int // 0: no shared receive queues
	MaxCQDepth             int
	LargeRequestThreshold  int // bytes above which Read and Write beat Send; a hint
	MaxCallerData          int // bytes of private data with Connect
	MaxCalleeData          int // bytes of private data with Accept and Reject
	Flags                  AdapterFlags
	Technology             RDMATechnology
}

// Memory is a chain of buffers that follow each other without a gap in virtual
// memory, in place of a memory descriptor list. Most often it has one element.
type Memory [][]byte

// Len returns the bytes in the chain.
func (m Memory) Len() int {
	n := 0
	for _, b := range m {
		n += len(b)
	}
	return n
}

// LogicalAddress is the address of a page as the adapter sees it. It means
// something only to the adapter that built it.
//
// Implements: NDK_LOGICAL_ADDRESS.
type LogicalAddress uint64

// LAM is a logical address mapping: the pages of one virtually contiguous
// range. Pages is filled by BuildLAM, which uses its capacity and grows it only
// when it is nil; Private belongs to the provider.
//
// Implements: NDK_LOGICAL_ADDRESS_MAPPING.
type LAM struct {
	Pages   []LogicalAddress
	Private any
}

// SGE is one local buffer of a request. With the privileged token Addr is a
// logical address inside a live LAM; with any other, [Addr, Addr+Length) lies in
// the span of the token's region. For a request with the Inline flag only
// Inline counts, when it is not nil.
//
// Implements: NDK_SGE.
type SGE struct {
	Addr   uint64
	Length uint32
	Token  Token
	Inline []byte
}

// Result is one completion.
//
// Implements: NDK_RESULT.
type Result struct {
	Status         Status
	Bytes          uint32 // the message length of a receive; see FileWriter for its other use
	QPContext      any    // of the QPConfig
	RequestContext any    // of the post
}

// ResultEx is one completion with what the 1.2 interface added.
//
// Implements: NDK_RESULT_EX.
type ResultEx struct {
	Result
	Type             OpType
	ProviderError    uint32 // 0 on success
	InvalidatedToken Token  // defined for OpReceiveAndInvalidate only
}

// ConnParams go with Connect and Accept.
type ConnParams struct {
	// InboundReadLimit is the number of Reads the peer may have under way
	// towards us, OutboundReadLimit that of ours towards it. Both are lowered to
	// the adapter's limits and then to what the peer offers; 0 means none.
	InboundReadLimit, OutboundReadLimit int
	// Private is handed to the peer as it is: at most MaxCallerData bytes with
	// Connect, MaxCalleeData with Accept.
	Private []byte
}

// ConnData is what ConnectionData reports: the effective limits and the size of
// the peer's private data as the transport stored it, which on transports with a
// fixed field is more than the peer sent.
type ConnData struct {
	InboundReadLimit, OutboundReadLimit int
	RequiredDataSize                    int
}

// CQConfig describes a completion queue.
type CQConfig struct {
	Depth int // completions; 1 to MaxCQDepth
	// Notify runs once for each Arm whose condition was met, with Success, or
	// with BufferOverflow or InternalError after the CQ failed. It may be nil.
	Notify func(Status)
	// Affinity is the set of CPUs preferred for Notify; nil has none.
	Affinity []int
}

// SRQConfig describes a shared receive queue.
type SRQConfig struct {
	Depth           int // 1 to MaxSRQDepth
	MaxReceiveSGE   int
	NotifyThreshold int // fires once when the queued count falls below; 0 never
	Notify          func(Status)
	Affinity        []int
}

// QPConfig describes a queue pair. The depths bound the requests posted and not
// yet completed.
type QPConfig struct {
	ReceiveCQ, InitiatorCQ CQ
	QPContext              any
	ReceiveQueueDepth      int
	InitiatorQueueDepth    int
	MaxReceiveSGE          int
	MaxInitiatorSGE        int
	InlineDataSize         int // bytes
}
