package smb2

import (
	"bytes"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// headerRows are the headers of [MS-SMB2] 4.5 and 4.3, and an async one.
var headerRows = []struct {
	name string
	h    Header
	wire string
}{
	{"sync request 4.5", Header{Command: CommandCreate, Credits: 111, MessageID: 10, TreeID: 5, SessionID: 0x40000000011},
		`fe534d42 4000 0000 00000000 0500 6f00 00000000 00000000 0a00000000000000 00000000 05000000 1100000000040000
		 00000000000000000000000000000000`},
	{"sync response 4.3", Header{Command: CommandSessionSetup, Status: ntstatus.MoreProcessingRequired, Credits: 2,
		Flags: FlagServerToRedir, MessageID: 1, SessionID: 0x40000000009},
		`fe534d42 4000 0000 160000c0 0100 0200 01000000 00000000 0100000000000000 00000000 00000000 0900000000040000
		 00000000000000000000000000000000`},
	{"request with channel sequence, signed, in a compound", Header{CreditCharge: 16, ChannelSequence: 3, Command: CommandWrite,
		Credits: 1, Flags: FlagSigned | FlagRelatedOperations, NextCommand: 128, MessageID: 7, ProcessID: 0xFEFF, TreeID: 1,
		Signature: [16]byte(guidA)},
		`fe534d42 4000 1000 0300 0000 0900 0100 0c000000 80000000 0700000000000000 fffe0000 01000000 0000000000000000 ` + hexA},
	{"async response 2.2.1.1", Header{Command: CommandChangeNotify, Status: ntstatus.Pending, Flags: FlagServerToRedir | FlagAsyncCommand,
		MessageID: 8, AsyncID: 0x0102030405060708, SessionID: 9},
		`fe534d42 4000 0000 03010000 0f00 0000 03000000 00000000 0800000000000000 0807060504030201 0900000000000000
		 00000000000000000000000000000000`},
}

func TestHeader(t *testing.T) {
	for _, r := range headerRows {
		t.Run(r.name, func(t *testing.T) {
			want := unhex(t, r.wire)
			if got := r.h.Append([]byte{1})[1:]; !bytes.Equal(got, want) {
				t.Errorf("Append\n got %x\nwant %x", got, want)
			}
			got, err := ParseHeader(want)
			if err != nil || got != r.h {
				t.Errorf("ParseHeader(%x)\n got %+v, %v\nwant %+v", want, got, err, r.h)
			}
			for n := range HeaderSize {
				_, err := ParseHeader(want[:n:n])
				wantMalformed(t, err, "truncated header")
			}
			for _, at := range []int{0, 4} { // ProtocolId, StructureSize
				b := bytes.Clone(want)
				b[at] ^= 1
				_, err := ParseHeader(b)
				wantMalformed(t, err, "spoilt header")
			}
		})
	}
}

func TestHeaderFlags(t *testing.T) {
	for f, want := range map[Flags][4]bool{
		0:                     {},
		FlagServerToRedir:     {0: true},
		FlagAsyncCommand:      {1: true},
		FlagRelatedOperations: {2: true},
		FlagSigned:            {3: true},
	} {
		h := Header{Flags: f}
		if got := [4]bool{h.IsResponse(), h.IsAsync(), h.IsRelated(), h.IsSigned()}; got != want {
			t.Errorf("flags %#x: %v, want %v", f, got, want)
		}
	}
}

func TestHeaderPatches(t *testing.T) {
	want := Header{CreditCharge: 2, Status: ntstatus.AccessDenied, Command: CommandRead, Credits: 3,
		Flags: FlagServerToRedir | FlagSigned, NextCommand: 88, MessageID: 4, SessionID: 5, Signature: [16]byte(guidB)}
	msg := (&Header{Command: CommandRead}).Append(nil)
	SetCreditCharge(msg, 2)
	SetStatus(msg, ntstatus.AccessDenied)
	SetCredits(msg, 3)
	SetFlags(msg, FlagServerToRedir|FlagSigned)
	SetNextCommand(msg, 88)
	SetMessageID(msg, 4)
	SetSessionID(msg, 5)
	SetSignature(msg, [16]byte(guidB))
	if got, err := ParseHeader(msg); err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// compound makes a compound of bodies of the given lengths with PadCompound.
func compound(bodies ...int) []byte {
	var b []byte
	last := 0
	for i, n := range bodies {
		if i > 0 {
			b = PadCompound(b, 0, last)
		}
		last = len(b)
		b = (&Header{Command: CommandEcho, MessageID: uint64(i)}).Append(b)
		b = append(b, bytes.Repeat([]byte{byte(i + 1)}, n)...)
	}
	return b
}

func TestCompound(t *testing.T) {
	msg := compound(4, 8, 3)
	// 64+4 is padded to 72, 64+8 needs no padding, the last is not padded.
	want := []int{72, 72, 67}
	var got []int
	for m, err := range Compound(msg) {
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHeader(m)
		if err != nil || h.MessageID != uint64(len(got)) || m[HeaderSize] != byte(len(got)+1) {
			t.Errorf("message %d: header %+v, %v, body %x", len(got), h, err, m[HeaderSize:])
		}
		got = append(got, len(m))
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("lengths %v, want %v", got, want)
	}
}

// Faults in NextCommand, [MS-SMB2] 3.2.5.1.9 and 3.3.5.2.7.
func TestCompoundRefusesBadNextCommand(t *testing.T) {
	for _, r := range []struct {
		name string
		next uint32
		good int // messages before the fault
	}{
		{"not a multiple of 8", 68, 0},
		{"within the header", 56, 0},
		{"itself", 8, 0},
		{"beyond the end", 1 << 20, 0},
		{"no room for a header", 80, 0},
		{"nearly 2^32", 0xFFFFFFF8, 0},
		{"into the middle of the next", 72 + 8, 1},
	} {
		t.Run(r.name, func(t *testing.T) {
			msg := compound(4, 8)
			if r.good == 0 {
				SetNextCommand(msg, r.next)
				if r.next == 80 {
					msg = msg[:140]
				}
			} else {
				msg = compound(4, 80)
				SetNextCommand(msg, r.next) // what is there has no ProtocolId
			}
			n := 0
			for m, err := range Compound(msg) {
				if err == nil {
					n++
					continue
				}
				if m != nil {
					t.Error("message and error together")
				}
				wantMalformed(t, err, "compound")
				if n != r.good {
					t.Errorf("%d messages before the error, want %d", n, r.good)
				}
				return
			}
			t.Error("no error")
		})
	}
	for _, n := range []int{0, 1, 63} {
		for _, err := range Compound(make([]byte, n)) {
			wantMalformed(t, err, "short message")
		}
	}
}

// [MS-SMB2] 3.1.5.2: CreditCharge = (max(SendPayloadSize, Expected ResponsePayloadSize) - 1) / 65536 + 1.
func TestCreditCharge(t *testing.T) {
	for n, want := range map[int]uint16{-1: 1, 0: 1, 1: 1, 65535: 1, 65536: 1, 65537: 2, 131072: 2, 1 << 20: 16, 8 << 20: 128, 1 << 40: 65535} {
		if got := CreditCharge(n); got != want {
			t.Errorf("CreditCharge(%d) = %d, want %d", n, got, want)
		}
	}
	for c, want := range map[uint16]int{0: 65536, 1: 65536, 16: 1 << 20} {
		if got := MaxPayload(c); got != want {
			t.Errorf("MaxPayload(%d) = %d, want %d", c, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, r := range []struct{ got, want string }{
		{CommandNegotiate.String(), "NEGOTIATE"},
		{CommandOplockBreak.String(), "OPLOCK_BREAK"},
		{CommandServerToClientNotification.String(), "SERVER_TO_CLIENT_NOTIFICATION"},
		{Command(0x14).String(), "command 0x0014"},
		{DialectSMB311.String(), "3.1.1"},
		{Dialect(0x0999).String(), "dialect 0x0999"},
		{DialectSMB202.String() + DialectSMB210.String() + DialectSMB300.String() + DialectSMB302.String() + DialectWildcard.String(), "2.0.22.13.03.0.22.???"},
		{ShareTypePipe.String() + ShareTypePrint.String() + ShareType(9).String(), "pipeprintshare type 9"},
		{(&ParseError{"CREATE request", "Name end", 90, 80}).Error(), "malformed CREATE request: Name end 90, want or limit 80"},
		{(LeaseReadCaching | LeaseWriteCaching | LeaseHandleCaching).String(), "RWH"},
		{LeaseState(0).String(), "none"},
		{ShareTypeDisk.String(), "disk"},
		{GUID{0x10, 0xb8, 0xa7, 0x6b, 0xad, 0x9d, 0xd1, 0x11, 0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}.String(),
			"6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
	} {
		if r.got != r.want {
			t.Errorf("got %q, want %q", r.got, r.want)
		}
	}
}

// [MS-SMB2] 2.2.13.1.1: what the generic bits are to be mapped to.
func TestAccessMaskExpand(t *testing.T) {
	for in, want := range map[AccessMask]AccessMask{
		GenericRead:                   0x00120089,
		GenericWrite:                  0x00120116,
		GenericExecute:                0x001200A0,
		GenericAll:                    0x001F01FF,
		Delete | GenericRead:          0x00130089,
		MaximumAllowed | FileReadData: MaximumAllowed | FileReadData,
	} {
		if got := in.Expand(); got != want {
			t.Errorf("%#x.Expand() = %#x, want %#x", in, got, want)
		}
	}
}
