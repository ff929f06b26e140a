//go:build verbs && linux && cgo

package verbs

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/internal/soft"
)

// The numbers are those of enum ibv_wc_status, the statuses those that NDK wants
// for them.
func TestStatusOfCompletion(t *testing.T) {
	for _, tc := range []struct {
		wc            uint32
		send, receive ndk.Status
	}{
		{0, ntstatus.Success, ntstatus.Success},
		{1, ntstatus.DataOverrun, ntstatus.BufferOverflow},                // LOC_LEN
		{2, ntstatus.InternalError, ntstatus.InternalError},               // LOC_QP_OP
		{4, ntstatus.AccessViolation, ntstatus.AccessViolation},           // LOC_PROT
		{5, ntstatus.Cancelled, ntstatus.Cancelled},                       // WR_FLUSH
		{6, ntstatus.InvalidDeviceRequest, ntstatus.InvalidDeviceRequest}, // MW_BIND
		{8, ntstatus.AccessViolation, ntstatus.AccessViolation},           // LOC_ACCESS
		{9, ntstatus.RemoteResources, ntstatus.AccessViolation},           // REM_INV_REQ
		{10, ntstatus.RemoteResources, ntstatus.RemoteResources},          // REM_ACCESS
		{11, ntstatus.RemoteResources, ntstatus.RemoteResources},          // REM_OP
		{12, ntstatus.IOTimeout, ntstatus.IOTimeout},                      // RETRY_EXC
		{13, ntstatus.IOTimeout, ntstatus.IOTimeout},                      // RNR_RETRY_EXC
		{21, ntstatus.InternalError, ntstatus.InternalError},              // GENERAL
	} {
		if got := wcStatus(tc.wc, false); got != tc.send {
			t.Errorf("status %d of an initiator request: %v, want %v", tc.wc, got, tc.send)
		}
		if got := wcStatus(tc.wc, true); got != tc.receive {
			t.Errorf("status %d of a receive: %v, want %v", tc.wc, got, tc.receive)
		}
	}
}

// A logical address is of use while its mapping lives, and within its bytes.
func TestLogicalAddresses(t *testing.T) {
	var tab lamTable
	tab.init()
	r := &arena{}
	r.refs.Store(1) // of the mapping
	l := &lam{fbo: 100, real: 0x10064, size: 5000, arena: r}
	if !tab.add(l) {
		t.Fatal("no slot")
	}
	pages := []ndk.LogicalAddress{ndk.LogicalAddress(l.first), ndk.LogicalAddress(l.first + ndk.PageSize)}
	for _, tc := range []struct {
		name  string
		pages []ndk.LogicalAddress
		fbo   uint32
		n     uint64
		want  uint64 // 0: refused
	}{
		{"all", pages, 100, 5000, 0x10064},
		{"from the second byte", pages, 101, 4999, 0x10065},
		{"second page", pages[1:], 0, 5000 - (4096 - 100), 0x11000},
		{"before the first byte", pages, 99, 10, 0},
		{"a byte too many", pages, 100, 5001, 0},
		{"nothing", pages, 100, 0, 0},
		{"more than the pages hold", pages[:1], 100, 4000, 0},
		{"offset of a page", pages, 4096, 10, 0},
		{"out of order", []ndk.LogicalAddress{pages[1], pages[0]}, 0, 10, 0},
		{"not aligned", []ndk.LogicalAddress{pages[0] + 1}, 100, 10, 0},
		{"length wraps", pages, 100, ^uint64(0), 0},
		{"of no mapping", []ndk.LogicalAddress{pages[0] + 1<<lamOffsetBits}, 100, 10, 0},
	} {
		before := r.refs.Load()
		got, arena := tab.pageRun(tc.pages, tc.fbo, tc.n)
		if more := r.refs.Load() - before; (more == 1) != (tc.want != 0) {
			t.Errorf("%s: %d references more", tc.name, more)
		}
		if (arena != nil) != (tc.want != 0) || got != tc.want {
			t.Errorf("%s: %#x, %v; want %#x", tc.name, got, arena != nil, tc.want)
		}
	}
	tab.drop(l)
	if _, a := tab.resolve(uint64(pages[0])+100, 1); a != nil {
		t.Error("an address of a mapping that was released is found")
	}
	again := &lam{fbo: 100, real: 0x20064, size: 5000, arena: r}
	tab.add(again)
	if again.slot != l.slot || again.first == l.first {
		t.Errorf("slot %d at %#x after slot %d at %#x; want the same slot and another address", again.slot, again.first, l.slot, l.first)
	}
	if _, a := tab.resolve(uint64(pages[0])+100, 1); a != nil {
		t.Error("an address of the mapping before is found")
	}
}

// A post that looked at a mapping just before it was released registers nothing:
// the memory may be somebody else's by now.
func TestReleasedMemoryIsNotRegistered(t *testing.T) {
	if m, err := (&arena{a: &adapter{}}).key(&pd{}); m != nil || err == nil {
		t.Errorf("a registration %v of memory without a reference, %v", m, err)
	}
}

// A Write with immediate data uses up a receive and leaves its buffer as it was,
// whatever length the device reports (InfiniBand, volume 1, 10.7.3.1).
func TestWriteWithImmediateIsNoMessage(t *testing.T) {
	wc := &like(new(cq).wcs)[0]        // its type has no name outside of cgo
	wc.opcode, wc.byte_len = 129, 4096 // IBV_WC_RECV_RDMA_WITH_IMM
	var w recvWR
	(&qp{adapter: &adapter{}}).fill(&w, wc)
	if w.status != ntstatus.InvalidNetworkResponse || w.bytes != 0 {
		t.Errorf("%v with %d bytes", w.status, w.bytes)
	}
}

// like is a zero value of what p points to.
func like[T any](*T) *T { return new(T) }

func TestJoin(t *testing.T) {
	b := make([]byte, 100)
	for _, tc := range []struct {
		name string
		m    ndk.Memory
		n    int
		ok   bool
	}{
		{"one", ndk.Memory{b}, 100, true},
		{"part", ndk.Memory{b}, 99, true},
		{"side by side", ndk.Memory{b[:40:40], nil, b[40:]}, 100, true},
		{"a gap behind the length", ndk.Memory{b[:40:40], b[50:]}, 40, true},
		{"a gap", ndk.Memory{b[:40:40], b[41:]}, 41, false},
		{"wrong order", ndk.Memory{b[40:], b[:40:40]}, 100, false},
		{"too short", ndk.Memory{b}, 101, false},
		{"nothing", ndk.Memory{b}, 0, false},
		{"no memory", nil, 1, false},
	} {
		got := soft.Join(tc.m, tc.n)
		if (got != nil) != tc.ok || tc.ok && (len(got) != tc.n || &got[0] != &b[0]) {
			t.Errorf("%s: %d bytes, want %d of them: %v", tc.name, len(got), tc.n, tc.ok)
		}
	}
}
