package network

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/sim"
)

// opKind is what a client does.
type opKind uint8

const (
	opEcho   opKind = iota // a message and its answer, of N octets each way
	opWrite                // the server writes N octets into memory of the client
	opRead                 // the server reads N octets of it
	opNotify               // a message without an answer
	opCancel               // an echo that may be given up before it was sent
	opClose                // the connection is closed under the others
	opKinds                // how many there are
)

// op is one thing that a worker of the client does.
type op struct {
	kind  opKind
	n     int  // octets
	inval bool // the answer invalidates the token
	close bool // by the server
}

// Scenario is what is to happen in a run.
type Scenario struct {
	Seed    uint64
	Client  smbdirect.Config
	Server  smbdirect.Config
	World   sim.Config
	Faulty  bool // something may go wrong; else nothing may
	workers [][]op
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func config(r *rand.Rand) smbdirect.Config {
	return smbdirect.Config{
		ReceiveCreditMax: pick(r, 1, 2, 3, 4, 8, 32, 255), SendCreditTarget: pick(r, 1, 2, 3, 8, 32, 255, 65535),
		MaxSendSize: pick(r, 128, 129, 512, 1000, 8136), MaxReceiveSize: pick(r, 129, 512, 2048, 8192), MaxFragmentedRecvSize: pick(r, 131073, 1<<20),
		MaxReadWriteSize: 1 << 20, SendDepth: pick(r, 2, 3, 16, 128), TransferDepth: pick(r, 1, 2, 16), Registrations: pick(r, 1, 3, 16),
		InboundReadLimit: pick(r, 1, 4), OutboundReadLimit: pick(r, 1, 4), Memory: 4 << 20, ReceiveBacklog: pick(r, 1, 5000, 4<<20),
		NegotiateTimeout: 20 * time.Second,
	}
}

// Generate draws a scenario.
func Generate(seed uint64) Scenario {
	r := rand.New(rand.NewPCG(seed, 0x4e57))
	s := Scenario{Seed: seed, Client: config(r), Server: config(r)}
	s.World = sim.Config{
		Seed: seed, Auto: true, Order: sim.Order(r.IntN(2)), Latency: pick(r, -1, time.Microsecond, 100*time.Microsecond), Jitter: pick(r, 0, 50*time.Microsecond),
		AckedSends: r.IntN(2) == 0, StrictQueues: r.IntN(2) == 0, CheckBuffers: true, EarlyAccept: r.IntN(2) == 0, TraceBytes: -1,
	}
	f := &s.World.Faults
	f[sim.PointEarly] = pick(r, 0, 0.3)
	f[sim.PointLeftover] = pick(r, 0, 0.3)
	f[sim.PointNotify] = pick(r, 0, 0.1)
	f[sim.PointSlow] = pick(r, 0, 0.1)
	f[sim.PointDelay] = pick(r, 0, 0.1)
	// Every eighth is a network on which posts are carried out at once, which is one
	// without time and faults.
	calm := seed%8 == 0
	if calm {
		s.World.Order, s.World.Latency, s.World.Jitter, *f = sim.InOrder, -1, 0, sim.Config{}.Faults
	}
	if s.Faulty = r.IntN(2) == 0 && !calm; s.Faulty {
		// What a refused receive leaves without a way out ends soon.
		s.Client.CreditTimeout, s.Server.CreditTimeout = time.Second/2, time.Second/2
		for range 1 + r.IntN(2) {
			p := pick(r, sim.PointLoss, sim.PointInitiator, sim.PointReceive, sim.PointDeferred, sim.PointPost, sim.PointPostReceive, sim.PointCreate,
				sim.PointRequest, sim.PointOverrun, sim.PointFatalCQ, sim.PointInvalidate, sim.PointRemoval, sim.PointConnectRequest, sim.PointReply, sim.PointReady)
			f[p] = pick(r, 0.0005, 0.005, 0.05)
		}
	}
	small := min(s.Client.ReceiveCreditMax, s.Server.ReceiveCreditMax, s.Client.SendCreditTarget, s.Server.SendCreditTarget) < 4
	ops := 20 + r.IntN(60)
	s.workers = make([][]op, 1+r.IntN(4))
	for i := range ops {
		o := op{kind: opKind(r.IntN(int(opCancel) + 1)), n: 1 + r.IntN(pick(r, 10, 200, 3000, 60000)), inval: r.IntN(3) != 0}
		if small && o.kind != opRead && o.kind != opWrite {
			// A message of many fragments with one credit waits for the clock for
			// each of them.
			o.n = min(o.n, 400)
		}
		if s.Faulty && r.IntN(60) == 0 {
			o.kind, o.close = opClose, r.IntN(2) == 0
		}
		w := i % len(s.workers)
		s.workers[w] = append(s.workers[w], o)
	}
	return s
}

// faults lists the points where something may go wrong, with probabilities.
func (s *Scenario) faults() string {
	var b strings.Builder
	for p, q := range s.World.Faults {
		if q > 0 {
			fmt.Fprintf(&b, "%v %v ", sim.Point(p), q)
		}
	}
	return b.String()
}
