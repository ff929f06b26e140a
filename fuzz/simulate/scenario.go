package simulate

import (
	"math/rand/v2"
	"time"
)

// Make says what an end is.
type Make string

// The makes of an end.
const (
	Engine  Make = "engine"  // smbdirect/core
	Lenient Make = "lenient" // keeps only the rules that Linux keeps
)

// Setting is what an end is set to. Zero times stand for the engine's defaults.
type Setting struct {
	Make              Make
	ReceiveCreditMax  uint16
	SendCreditTarget  uint16
	MaxSendSize       uint32
	MaxReceiveSize    uint32
	MaxFragmentedSize uint32
	SendDepth         int
	QueueDepth        int
	KeepaliveInterval time.Duration `json:",omitempty"`
	KeepaliveTimeout  time.Duration `json:",omitempty"`
	CreditTimeout     time.Duration `json:",omitempty"`
	// Late is how late its timers run.
	Late time.Duration `json:",omitempty"`
}

// Op is the kind of an action.
type Op string

// The kinds of action. N and M are their parameters.
const (
	Submit   Op = "submit"   // N octets; with a token if M is 1
	Deliver  Op = "deliver"  // up to N messages that are on the way to the end
	Complete Op = "complete" // up to N sends
	Advance  Op = "advance"  // the clock, by N microseconds
	HoldOn   Op = "hold"     //
	HoldOff  Op = "resume"   //
	Cancel   Op = "cancel"   // the message submitted N before the latest
	Shorten  Op = "shorten"  // the next post takes N receives less
	Room     Op = "room"     // the adapter takes N receives in all; 0: any number
	Mutate   Op = "mutate"   // field and value N of the oldest message on the way to the end
	Repeat   Op = "repeat"   // the oldest message on the way to the end comes twice
	Drop     Op = "drop"     // it is lost
	Cut      Op = "cut"      // the connection breaks
	Flood    Op = "flood"    // a lenient end sends N fragments of a long message and grants nothing
	Speak    Op = "speak"    // a lenient end sends something, as N says; M changes it
)

// Action is one thing that happens at an end.
type Action struct {
	Op  Op
	End int
	N   int64 `json:",omitempty"`
	M   int64 `json:",omitempty"`
}

// Scenario is a run. Seed is where it came from; running it does not use it.
type Scenario struct {
	Seed    uint64
	Ends    [2]Setting // the initiator first
	Actions []Action
}

// Generate draws a scenario.
func Generate(seed uint64) Scenario {
	r := rand.New(rand.NewPCG(seed, 0x5347)) // the second half keeps it apart from other users of small seeds
	s := Scenario{Seed: seed}
	for i := range s.Ends {
		s.Ends[i] = setting(r)
	}
	if r.IntN(4) == 0 {
		s.Ends[r.IntN(2)] = lenient(r)
	}
	m := mood{
		hostile: r.IntN(4) == 0, storm: r.IntN(8) == 0, short: r.IntN(6) == 0, holds: r.IntN(3) == 0, flood: r.IntN(3) == 0,
		slowLink: 1 + r.IntN(12), slowSends: 1 + r.IntN(8), eager: 1 + r.IntN(8), biggest: pick(r, 200, 3000, 30000, 140000),
	}
	if m.flood && s.Ends[0].Make != s.Ends[1].Make {
		m.biggest = 140000
	}
	if min(s.Ends[0].ReceiveCreditMax, s.Ends[1].ReceiveCreditMax) < 4 && m.biggest > 30000 {
		m.biggest = 30000 // a message of a thousand fragments of one credit each says nothing new
	}
	switch {
	case m.hostile && r.IntN(2) == 0:
		i := int64(r.Uint32()&^31 | 14 + r.Uint32N(6))
		s.Actions = append(s.Actions, Action{Op: Mutate, End: 1, N: i}, Action{Op: Deliver, End: 1, N: 1})
	case m.hostile && r.IntN(3) == 0:
		i := int64(r.Uint32()&^31 | 14 + r.Uint32N(8))
		s.Actions = append(s.Actions, Action{Op: Deliver, End: 1, N: 1}, Action{Op: Mutate, End: 0, N: i}, Action{Op: Deliver, End: 0, N: 1})
	case r.IntN(80) == 0: // not within the time for it
		s.Actions = append(s.Actions, Action{Op: Deliver, End: 1, N: int64(r.IntN(2))}, Action{Op: Advance, N: pick[int64](r, 5_100_000, 121_000_000)})
	case r.IntN(8) != 0: // the connection is set up quickly in most runs
		s.Actions = append(s.Actions, Action{Op: Deliver, End: 1, N: 1}, Action{Op: Deliver, End: 0, N: 1})
	}
	for range 40 + r.IntN(360) {
		s.Actions = append(s.Actions, m.action(r, &s))
	}
	return s
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func setting(r *rand.Rand) Setting {
	s := Setting{
		Make:              Engine,
		ReceiveCreditMax:  pick[uint16](r, 1, 1, 2, 2, 3, 4, 5, 6, 10, 32, 255, 255, 700),
		SendCreditTarget:  pick[uint16](r, 1, 2, 3, 4, 8, 32, 255, 255, 65535),
		MaxSendSize:       pick[uint32](r, 128, 129, 200, 512, 1364, 1364, 8136),
		MaxReceiveSize:    pick[uint32](r, 128, 130, 512, 1364, 2048, 8192),
		MaxFragmentedSize: pick[uint32](r, 131072, 131073, 1<<20),
		SendDepth:         pick(r, 2, 3, 4, 16, 128),
		QueueDepth:        pick(r, 1, 2, 8, 256),
		Late:              pick(r, 0, 0, time.Millisecond, 40*time.Millisecond),
	}
	if r.IntN(4) == 0 {
		s.KeepaliveInterval = pick(r, 50*time.Millisecond, time.Second, 10*time.Second)
		s.KeepaliveTimeout = pick(r, 20*time.Millisecond, time.Second)
	}
	if r.IntN(4) == 0 {
		s.CreditTimeout = pick(r, 100*time.Millisecond, time.Second)
	}
	return s
}

// lenient is the setting of a peer like cifs.ko or ksmbd.
func lenient(r *rand.Rand) Setting {
	return Setting{
		Make: Lenient, ReceiveCreditMax: pick[uint16](r, 2, 4, 8, 255), SendCreditTarget: 255, MaxSendSize: 1364, MaxReceiveSize: pick[uint32](r, 1364, 1364, 8192),
		MaxFragmentedSize: pick[uint32](r, 173910, 1<<20),
	}
}

// mood is the character of a run.
type mood struct {
	hostile, storm, short, holds, flood bool
	slowLink, slowSends, eager          int
	biggest                             int
}

func (m *mood) action(r *rand.Rand, s *Scenario) Action {
	end := r.IntN(2)
	a := Action{End: end}
	if s.Ends[end].Make == Lenient && r.IntN(3) == 0 {
		a.Op, a.N = Speak, int64(r.Uint32())
		if m.flood && r.IntN(20) != 0 {
			a.Op, a.N = Flood, int64(1+r.IntN(120))
			return a
		}
		if m.hostile && r.IntN(6) == 0 {
			a.M = 1 + int64(r.Uint32())
		}
		return a
	}
	switch r.IntN(40) {
	case 0:
		a.Op, a.N = Cancel, int64(r.IntN(4))
		return a
	case 1, 2:
		if m.holds {
			a.Op = pick(r, HoldOn, HoldOff)
			return a
		}
	case 3:
		if m.short {
			a.Op, a.N = Shorten, int64(1+r.IntN(6))
			if r.IntN(4) == 0 {
				a.Op = Room
			}
			return a
		}
	case 4, 7, 8:
		if m.hostile {
			a.Op, a.N = pick(r, Mutate, Mutate, Mutate, Mutate, Repeat, Drop), int64(r.Uint32())
			return a
		}
	case 5:
		a.Op, a.N = Advance, int64(r.IntN(8000))
		if m.storm {
			a.N = pick(r, int64(r.IntN(100_000)), int64(r.IntN(3_000_000)), int64(r.IntN(150_000_000)))
		}
		return a
	case 6:
		if m.storm && r.IntN(10) == 0 {
			a.Op = Cut
			return a
		}
	}
	switch k := r.IntN(m.slowLink + m.slowSends + m.eager); {
	case k < m.eager:
		a.Op, a.N = Submit, int64(pick(r, 1, 8, 103, 104, 105, 1339, 1340, 1341, 1+r.IntN(m.biggest), 1+r.IntN(m.biggest), m.biggest))
		if r.IntN(60) == 0 {
			a.N = pick[int64](r, 0, 131072, 131073, 1<<20, 1<<20+1)
		}
		a.M = int64(r.IntN(5) / 4)
	case k < m.eager+m.slowSends:
		a.Op, a.N = Complete, int64(1+r.IntN(8))
		if m.flood {
			a.N *= 16
		}
	default:
		a.Op, a.N = Deliver, int64(pick(r, 1, 1, 2, 5, 40))
		if m.flood {
			a.N *= 8
		}
	}
	return a
}
