package server

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// crowd is a client that answers breaks while it waits for answers.
type crowd struct{ *peer }

// call sends a request, and acknowledges the breaks that come before it is answered.
func (c *crowd) call(cmd smb2.Command, m body) (ntstatus.Status, []byte) {
	c.t.Helper()
	id := c.post(c.header(cmd), m)
	acks := map[uint64]bool{}
	var st ntstatus.Status
	var got []byte
	for answered := false; !answered || len(acks) > 0; {
		h, msg := c.answer()
		switch {
		case h.MessageID == smb2.NoMessageID:
			if ack, need := acknowledge(c.t, msg); need {
				acks[c.post(c.header(smb2.CommandOplockBreak), ack)] = true
			}
		case acks[h.MessageID]:
			delete(acks, h.MessageID) // refused if it came too late: the open has been closed
		case h.MessageID == id && h.Status != ntstatus.Pending:
			answered, st, got = true, h.Status, msg
		}
	}
	return st, got
}

// acknowledge makes the answer to a break notification, if it needs one.
func acknowledge(t testing.TB, msg []byte) (ack body, need bool) {
	if smb2.IsLeaseBreak(msg) {
		m, err := smb2.ParseLeaseBreakNotification(msg)
		if err != nil {
			t.Fatal(err)
		}
		return &smb2.LeaseBreakAcknowledgment{LeaseKey: m.LeaseKey, LeaseState: m.NewLeaseState},
			m.Flags&smb2.NotifyBreakLeaseFlagAckRequired != 0
	}
	m, err := smb2.ParseOplockBreakNotification(msg)
	if err != nil {
		t.Fatal(err)
	}
	// One of level II needs none, and does not say so: then this is refused.
	return &smb2.OplockBreakAcknowledgment{OplockLevel: m.OplockLevel, FileID: m.FileID}, true
}

// checkCaching fails the test where two may cache what excludes the other.
func (t *openTable) checkCaching() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range t.files {
		writers, readers := 0, 0
		for _, c := range st.cachings {
			if c.held&cacheW != 0 {
				writers++
			}
			if c.held&cacheR != 0 {
				readers++
			}
			if len(c.opens) == 0 {
				return fmt.Errorf("%v of nobody", c.held)
			}
			if c.breaking && c.requested&^c.held != 0 {
				return fmt.Errorf("%v is being broken to %v", c.held, c.requested)
			}
		}
		if writers > 1 || writers == 1 && readers > 1 {
			return fmt.Errorf("%d cache what they write, %d what they read", writers, readers)
		}
	}
	return nil
}

// Many clients use few files in all ways at once. Nobody waits for ever, and what they
// may cache never excludes one another.
func TestCachingUnderLoad(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	const clients, rounds = 6, 120
	var wg sync.WaitGroup
	for i := range clients {
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		wg.Add(1)
		go func() { // ends after its rounds, or with the connection
			defer wg.Done()
			c := &crowd{p}
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range rounds {
				c.round(rnd)
				if err := s.srv.files.checkCaching(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if files, opens := s.srv.files.counts(); opens > 0 {
		t.Errorf("%d files, %d opens left", files, opens)
	}
	s.srv.files.mu.Lock()
	defer s.srv.files.mu.Unlock()
	if n := len(s.srv.files.leases) + len(s.srv.files.breaking); n > 0 || s.srv.files.dirLeases.Load() != 0 {
		t.Errorf("%d leases and breaks left", n)
	}
}

// round opens a file in some way, does something with it, and closes it.
func (c *crowd) round(rnd *rand.Rand) {
	n := rnd.IntN(2)
	m := createRequest(fmt.Sprintf("f%d", n), []smb2.CreateDisposition{smb2.FileOpenIf, smb2.FileOpenIf, smb2.FileOverwriteIf}[rnd.IntN(3)])
	if rnd.IntN(4) == 0 {
		m.ShareAccess = smb2.FileShareRead
	}
	switch rnd.IntN(4) {
	case 0:
		asking(m, []smb2.OplockLevel{smb2.OplockLevelII, smb2.OplockLevelExclusive, smb2.OplockLevelBatch}[rnd.IntN(3)], nil)
	case 1, 2:
		rights := []smb2.LeaseState{cacheR, cacheR | cacheH, cacheR | cacheW, cacheRWH}[rnd.IntN(4)]
		asking(m, 0, lease2(byte(1+n), rights, 0))
	}
	st, msg := c.call(smb2.CommandCreate, m)
	switch st {
	case ntstatus.Success:
	case ntstatus.SharingViolation, ntstatus.DeletePending:
		return
	default:
		c.t.Errorf("CREATE: %v", st)
		return
	}
	resp, err := smb2.ParseCreateResponse(msg)
	if err != nil {
		c.t.Error(err)
		return
	}
	switch rnd.IntN(4) {
	case 0:
		st, _ = c.call(smb2.CommandWrite, &smb2.WriteRequest{FileID: resp.FileID, Data: []byte("data")})
	case 1:
		st, _ = c.call(smb2.CommandSetInfo, &smb2.SetInfoRequest{
			InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileEndOfFileInformation), FileID: resp.FileID, Buffer: make([]byte, 8),
		})
	case 2:
		if rnd.IntN(4) == 0 {
			st, _ = c.call(smb2.CommandSetInfo, &smb2.SetInfoRequest{
				InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileDispositionInformation), FileID: resp.FileID, Buffer: []byte{1},
			})
		}
	}
	if st != ntstatus.Success {
		c.t.Errorf("on the open file: %v", st)
	}
	if st, _ = c.call(smb2.CommandClose, &smb2.CloseRequest{FileID: resp.FileID}); st != ntstatus.Success {
		c.t.Errorf("CLOSE: %v", st)
	}
}
