package core

import (
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/wire"
)

// FuzzEvents reads its input as a program of events against one engine: what a
// peer may send, and what a user may do. Whatever comes, the engine keeps its
// credits in order, never sends without one, posts within its limit, hands out
// fragments that fit their message, and does nothing after its end.
func FuzzEvents(f *testing.F) {
	f.Add(false, []byte{0, 1, 10, 10, 2, 20, 3, 5, 4, 1})
	f.Add(true, []byte{0, 2, 200, 1, 1, 1, 1, 3, 9, 9, 9, 5, 0, 6, 7})
	f.Add(false, []byte{0, 3, 1, 50, 0, 20, 3, 1, 0, 30, 3, 1, 0, 49, 8, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9})
	f.Fuzz(func(t *testing.T, active bool, prog []byte) {
		pos := 0
		next := func() int {
			if pos == len(prog) {
				return 0
			}
			pos++
			return int(prog[pos-1])
		}
		cfg := Config{Role: Passive, ReceiveCreditMax: uint16(1 + next()%9), SendCreditTarget: uint16(1 + next()), MaxSendSize: 128, SendDepth: 4, QueueDepth: 8}
		if active {
			cfg.Role = Active
		}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var (
			now    = time.Second
			timer  time.Duration
			posted int
			sends  int
			heard  int
			spent  int
			ended  bool
			fill   uint32 // of the message being delivered
		)
		run := func() {
			for a, ok := e.Next(); ok; a, ok = e.Next() {
				if ended {
					t.Fatalf("%v after the end", a.Kind)
				}
				switch a.Kind {
				case PostReceives:
					n := a.Count
					if next()%16 == 15 {
						n = next() % (n + 1)
					}
					if e.Connection().Protocol != 0 {
						posted += n
					}
					if posted > ReceiveDepth(cfg.ReceiveCreditMax) {
						t.Fatalf("%d receives posted", posted)
					}
					e.Posted(now, n)
				case SendRequest, SendResponse:
					sends++
				case SendData:
					sends++
					spent++
					if spent > heard {
						t.Fatalf("message %d with %d credits", spent, heard)
					}
					if spent == heard && a.Header.CreditsGranted == 0 {
						t.Fatal("the last credit went without a grant")
					}
					if a.Header.CreditsRequested == 0 || a.Header.End() > 128 {
						t.Fatalf("header %+v", a.Header)
					}
				case ArmTimer:
					timer = a.At
				case Terminate:
					ended = true
				}
			}
			e.check()
			if sends > cfg.SendDepth {
				t.Fatalf("%d sends under way", sends)
			}
		}
		receive := func(b []byte, has bool) {
			if e.Connection().Role == Established {
				// Whatever it was meant to be, it is read as Data Transfer (SD-14).
				grant := 0
				if h, err := wire.ParseDataTransfer(b); err == nil {
					grant = int(h.CreditsGranted)
				}
				if posted == 0 {
					return // the adapter ends such a connection itself
				}
				posted--
				heard += grant
			}
			before := e.Connection()
			d, ok := e.Received(now, b, 7, has)
			if ok {
				if d.Offset == 0 && !(before.FragmentReassemblyRemaining > 0) {
					fill = 0
				}
				if d.Offset != fill || uint64(d.Offset)+uint64(len(d.Fragment)) > uint64(d.Total) || d.Total > e.Connection().MaxFragmentedRecvSize {
					t.Fatalf("delivery %d of %d at %d, %d expected", len(d.Fragment), d.Total, d.Offset, fill)
				}
				fill += uint32(len(d.Fragment))
				if d.Last != (fill == d.Total) {
					t.Fatalf("last is %v with %d of %d", d.Last, fill, d.Total)
				}
			}
			run()
		}
		e.Start(now)
		run()
		if active && !ended {
			e.ConnectionUp()
			run()
		}
		id := uint64(0)
		for pos < len(prog) {
			switch next() % 10 {
			case 0:
				if active {
					grant := next() % 8
					b, _ := wire.NegotiateResponse{
						MinVersion: 0x100, MaxVersion: 0x100, NegotiatedVersion: 0x100, CreditsRequested: uint16(next() % 300), CreditsGranted: uint16(grant),
						MaxReadWriteSize: uint32(next()) << 12, PreferredSendSize: uint32(next()) << 3, MaxReceiveSize: uint32(next()) << 2, MaxFragmentedSize: uint32(next()) << 12,
					}.AppendBinary(nil)
					if e.Connection().Role == Active {
						heard = grant
					}
					receive(b, false)
				} else {
					b, _ := wire.NegotiateRequest{
						MinVersion: 0x100, MaxVersion: uint16(next()) << 1, CreditsRequested: uint16(next()), PreferredSendSize: uint32(next()),
						MaxReceiveSize: uint32(next()) << 1, MaxFragmentedSize: uint32(next()) << 11,
					}.AppendBinary(nil)
					receive(b, false)
				}
			case 1, 2, 3:
				n := next()
				h := wire.DataTransfer{
					CreditsRequested: uint16(1 + next()), CreditsGranted: uint16(next() % 20), Flags: uint16(next() % 2),
					DataLength: uint32(n), RemainingDataLength: uint32(next()),
				}
				if missing := e.Connection().FragmentReassemblyRemaining; missing > 0 && next()%4 != 0 {
					h.DataLength = min(h.DataLength, missing)
					h.RemainingDataLength = missing - h.DataLength
				}
				if h.DataLength > 0 {
					h.DataOffset = 24
				}
				b, _ := h.AppendBinary(nil)
				b = append(b, make([]byte, h.DataLength)...)
				receive(b, next()%4 == 0)
			case 4:
				b := make([]byte, next())
				for i := range b {
					b[i] = byte(next())
				}
				if e.Connection().Role == Established {
					receive(b, false)
				}
			case 5:
				id++
				_ = e.Submit(now, id, uint32(next()*3), 9, next()%2 == 0)
				run()
			case 6:
				if k := min(sends, 1+next()%4); k > 0 {
					sends -= k
					e.SendCompleted(now, k)
					run()
				}
			case 7:
				now += time.Duration(next()) * time.Second
				if timer != 0 && timer <= now {
					timer = 0
					e.TimerDue(now)
					run()
				}
			case 8:
				e.Hold(now, next()%2 == 0)
				run()
			case 9:
				e.Cancel(now, uint64(next()))
				run()
			}
		}
		e.Disconnected(nil)
		ended = true
		run()
	})
}
