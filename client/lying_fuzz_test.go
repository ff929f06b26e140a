package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// The lies of FuzzLyingServer.
const (
	lieXor       = iota // changes an octet
	lieSet8             // puts a number somewhere
	lieSet16            //
	lieSet32            //
	lieSet64            //
	lieCut              // cuts the message off
	lieGrow             // puts octets behind it
	lieDrop             // swallows it
	lieTwice            // says it twice
	lieLater            // says it after the next one
	lieStatus           // another status
	lieCredits          // other credits
	liePending          // an interim answer before it, or many
	lieBreak            // a lease break, or an oplock break, before it, or many
	lieNext             // says that more follows
	lieBody             // another body of that many zeros
	lieHalves           // two messages of one
	lieOther            // as an answer to another command
	lieRequest          // as a request
	lieRemainder        // what is behind an offset moves by some octets
	lies
)

// numbers are what lies put where a number is.
var numbers = []uint64{
	0, 1, 2, 3, 4, 7, 8, 9, 0x3F, 0x40, 0x41, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFF8, 0xFFFF, 0x10000, 0xFFFFF, 0x100000,
	0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFF8, 0xFFFFFFFF, 0x100000000, 1<<63 - 1, 1 << 63, 1<<64 - 1,
}

// lieSize is how many octets of a fuzz input are one lie: the message that it is about, the
// kind, where (16 bits), and what (an index into numbers, and an octet).
const lieSize = 6

// liesOf reads a fuzz input.
type lieAbout struct {
	message, kind int
	at            int
	number        uint64
	octet         byte
}

func liesOf(input []byte) (all []lieAbout) {
	for ; len(input) >= lieSize && len(all) < 16; input = input[lieSize:] {
		all = append(all, lieAbout{
			message: int(input[0]) % 80, kind: int(input[1]) % lies, at: int(binary.LittleEndian.Uint16(input[2:])),
			number: numbers[int(input[4])%len(numbers)], octet: input[5],
		})
	}
	return all
}

// tell makes of a message what the client gets.
func (a lieAbout) tell(msg []byte, later *[][]byte) [][]byte {
	at := 0
	if len(msg) > 0 {
		at = a.at % len(msg)
	}
	header := len(msg) >= smb2.HeaderSize && smb2.PeekProtocolID(msg) == smb2.ProtocolSMB2
	put := func(n int) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], a.number)
		if len(msg) > 0 {
			copy(msg[at&^(n-1):], b[:n])
		}
	}
	several := 1
	if a.octet >= 128 {
		several = 200
	}
	switch a.kind {
	case lieXor:
		if len(msg) > 0 {
			msg[at] ^= max(a.octet, 1)
		}
	case lieSet8:
		put(1)
	case lieSet16:
		put(2)
	case lieSet32:
		put(4)
	case lieSet64:
		put(8)
	case lieCut:
		msg = msg[:at]
	case lieGrow:
		msg = append(msg, bytes.Repeat([]byte{a.octet}, a.at%5000)...)
	case lieDrop:
		return nil
	case lieTwice:
		return [][]byte{msg, bytes.Clone(msg)}
	case lieLater:
		*later = append(*later, msg)
		return nil
	case lieStatus:
		if header {
			binary.LittleEndian.PutUint32(msg[8:], []uint32{
				0, uint32(ntstatus.Pending), uint32(ntstatus.BufferOverflow), uint32(ntstatus.MoreProcessingRequired),
				uint32(ntstatus.NetworkSessionExpired), uint32(ntstatus.UserSessionDeleted), uint32(ntstatus.StoppedOnSymlink),
				uint32(ntstatus.FileClosed), uint32(ntstatus.InvalidParameter), uint32(ntstatus.NoMoreFiles), uint32(a.number),
			}[int(a.octet)%11])
		}
	case lieCredits:
		if header {
			binary.LittleEndian.PutUint16(msg[14:], uint16(a.number))
		}
	case liePending:
		if !header {
			break
		}
		var out [][]byte
		for i := range several {
			b := append(bytes.Clone(msg[:smb2.HeaderSize]), 9, 0, 0, 0, 0, 0, 0, 0, 0)
			binary.LittleEndian.PutUint32(b[8:], uint32(ntstatus.Pending))
			b[16] |= byte(smb2.FlagAsyncCommand)
			binary.LittleEndian.PutUint64(b[32:], a.number+uint64(i))
			out = append(out, b)
		}
		return append(out, msg)
	case lieBreak:
		var out [][]byte
		for i := range several {
			h := smb2.Header{Command: smb2.CommandOplockBreak, MessageID: smb2.NoMessageID, Flags: smb2.FlagServerToRedir}
			n := smb2.LeaseBreakNotification{LeaseKey: smb2.GUID{a.octet, byte(i)}, CurrentLeaseState: smb2.LeaseState(a.at % 8), NewLeaseState: smb2.LeaseState(a.number % 8), Flags: 1}
			b, err := n.AppendBinary(h.Append(nil))
			if err != nil {
				panic(err)
			}
			out = append(out, b)
		}
		return append(out, msg)
	case lieNext:
		if header {
			binary.LittleEndian.PutUint32(msg[20:], uint32(a.number))
		}
	case lieBody:
		if header {
			size := msg[smb2.HeaderSize:min(len(msg), smb2.HeaderSize+2)]
			msg = append(append(bytes.Clone(msg[:smb2.HeaderSize]), size...), make([]byte, a.at%5000)...)
		}
	case lieHalves:
		return [][]byte{msg[:at], msg[at:]}
	case lieOther:
		if header {
			msg[12] = a.octet % 20
		}
	case lieRequest:
		if header {
			msg[16] &^= 1
		}
	case lieRemainder:
		n := int(a.octet % 32)
		if a.number%2 == 0 {
			msg = append(bytes.Clone(msg[:at]), msg[min(at+n, len(msg)):]...)
		} else {
			msg = append(append(bytes.Clone(msg[:at]), make([]byte, n)...), msg[at:]...)
		}
	}
	return [][]byte{msg}
}

// FuzzLyingServer has a client visit a real server, and changes what that says on its way:
// the input is a list of lies. Nothing may panic, hang or go on for ever, no memory may
// stay open to the server, and of a protected session nothing that is not so is believed.
// It runs in a bubble, where time passes when all wait: what would wait for ever is found.
func FuzzLyingServer(f *testing.F) {
	for kind := range lies {
		for mode := range byte(8) {
			f.Add(mode, []byte{byte(3 + 5*kind%40), byte(kind), byte(64 + kind), 0, byte(5 * kind), 0xFF, byte(2 + kind), byte(kind), 72, 0, 26, 3})
		}
	}
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		ls := liesOf(input)
		if len(ls) == 0 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			all := append(shields, shield{}, shield{cfg: Config{MaxDialect: SMB202}}, shield{cfg: Config{POSIX: POSIXIfOffered}})
			p := all[int(mode)%len(all)]
			rdma := mode >= 128 && p.cfg.MaxDialect == 0
			protected := int(mode)%len(all) < len(shields)
			tr := newTruth(t, linkConfig{rdma: rdma}, p.encrypt)
			defer tr.end()
			want := visit(tr.conn(t), p.cfg)
			unhurt(t, want)
			var later [][]byte
			l := &liar{link: tr.conn(t)}
			l.answer = func(n int, msg []byte) [][]byte {
				if n > 3000 {
					t.Error("the client goes on for ever")
					l.Close()
					return nil
				}
				msgs := [][]byte{msg}
				for _, a := range ls {
					if a.message != n {
						continue
					}
					var out [][]byte
					for _, m := range msgs {
						out = append(out, a.tell(m, &later)...)
					}
					msgs = out[:min(len(out), 1000)]
				}
				if len(msgs) > 0 {
					msgs, later = append(msgs, later...), nil
				}
				return msgs
			}
			start := time.Now()
			got := visit(l, p.cfg)
			if took := time.Since(start); took > time.Duration(len(want)+8)*5*time.Second {
				t.Errorf("took %v", took)
			}
			if protected {
				believed(t, p, fmt.Sprintf("lies %+v", ls), got, want)
			}
			if n := l.Stats().Registrations; n != 0 {
				t.Errorf("%d registrations are left", n)
			}
		})
	})
}
