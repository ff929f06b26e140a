package doctor

import (
	"context"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
)

// memory says how memory is registered, and what became of that in the measurement.
func (d *doctor) memory(ctx context.Context) {
	s := d.begin(StepMemory, "memory for RDMA")
	a := d.best
	if a == nil {
		s.end(NotPossible, "there is no SMB Direct")
		return
	}
	i := &a.info
	s.quiet("fast_register_pages", i.FRMRPageCount)
	s.quiet("max_registration_size", i.MaxRegistrationSize)
	s.quiet("memory_windows", i.MaxWindowSize > 0)
	s.quiet("max_window_size", i.MaxWindowSize)
	s.quiet("max_transfer_length", i.MaxTransferLength)
	s.quiet("inbound_reads", i.MaxInboundReadLimit)
	s.quiet("outbound_reads", i.MaxOutboundReadLimit)
	way := "fast registration on the queue"
	if i.FRMRPageCount <= 1 {
		way = "plain registration, a call for each I/O"
	}
	s.quiet("registration", way)
	if d.direct == nil {
		s.end(OK, "%s", way)
		return
	}
	invalidation := d.direct.Info().RemoteInvalidation
	st := d.direct.TransportStats()
	s.add("remote_invalidation", invalidation)
	s.quiet("registrations_made", st.RegistrationsMade)
	s.quiet("invalidated_by_peer", st.InvalidatedByPeer)
	s.quiet("invalidated_locally", st.InvalidatedLocally)
	s.quiet("registrations_left", st.Registrations)
	s.add("bytes_copied", st.BytesCopied)
	s.add("credit_stalls", st.CreditStalls)
	who := fmt.Sprintf("of %d registrations the server's answers revoked %d and this end %d", st.RegistrationsMade, st.InvalidatedByPeer, st.InvalidatedLocally)
	if !invalidation {
		who += ", as the two ends have no remote invalidation"
	}
	s.end(OK, "%s of up to %s; %s", way, size(i), who)
}

func size(i *ndk.AdapterInfo) string {
	const page = ndk.PageSize
	n := i.MaxRegistrationSize
	if i.FRMRPageCount > 1 {
		n = min(n, uint64(i.FRMRPageCount)*page)
	}
	switch {
	case n >= 1<<30:
		return "1 GiB and more"
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// decide writes the verdict: the first step on the way of the client that forbids
// RDMA has decided.
func (d *doctor) decide(ctx context.Context) {
	s := d.decider()
	r := d.rep
	if s == nil {
		r.Used = true
		if d.measured == "" {
			d.measured = "; no data was moved to measure it: " + d.step(StepRDMA).Summary
		}
		r.Verdict = cut(fmt.Sprintf("RDMA is used for %s: %v by %s at %v%s", r.Target, d.path, d.best.fabric.Name, d.best.dst, d.measured))
		return
	}
	r.DecidedBy, r.Reason, r.Change = s.ID, s.Summary, s.Change
	if err := context.Cause(ctx); err != nil {
		r.Reason = cut(fmt.Sprintf("the doctor was stopped (%v): %s", err, r.Reason))
	}
	if r.Change == "" {
		r.Change = "run the doctor again, and see what the server's log says"
	}
	r.Verdict = fmt.Sprintf("RDMA is NOT used for %s: because %s: %s. To change that: %s.", r.Target, r.DecidedBy, r.Reason, r.Change)
}

// decider is the step that forbids RDMA, nil if none does.
func (d *doctor) decider() *Step {
	switch {
	case len(d.ips) == 0:
		return d.step(StepName)
	case d.best == nil:
		return d.furthest()
	case !d.spoke:
		return d.step(StepDialect)
	case d.direct == nil:
		return d.step(StepLogon)
	case d.share == nil:
		return d.step(StepShare)
	case d.failed(StepProtection):
		return d.step(StepProtection)
	case d.failed(StepMove) && d.failed(StepInterfaces):
		return d.step(StepInterfaces)
	case d.failed(StepMove):
		return d.step(StepMove)
	case d.failed(StepRDMA):
		return d.step(StepRDMA)
	}
	return nil
}

// furthest is the step at which the fabric failed that came furthest.
func (d *doctor) furthest() *Step {
	if d.failed(StepRoute) {
		return d.step(StepRoute)
	}
	var best *attempt
	for i := range d.cfg.Fabrics {
		if a := d.tried[d.cfg.Fabrics[i].Name]; best == nil || a.stage > best.stage {
			best = a
		}
	}
	switch {
	case best == nil:
		return d.step(StepDevices)
	case best.stage == stageConnected:
		return d.step(StepSMBDirect + best.fabric.Name)
	case best.stage == stageOpen:
		return d.step(StepConnect + best.fabric.Name)
	case d.failed(StepPorts):
		return d.step(StepPorts)
	case d.failed(StepDevices):
		return d.step(StepDevices)
	}
	return d.step(StepConnect + best.fabric.Name)
}
