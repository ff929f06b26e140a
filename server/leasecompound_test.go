package server

import (
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// What waits for a break in the middle of a compound: a CREATE has an interim response,
// and what follows it is served when it is done ([MS-SMB2] 3.3.5.2.7); for others
// nothing is said until all is done. Other requests of the connection go on.
func TestBreakInCompound(t *testing.T) {
	any := smb2.AnyFileID
	b := make([]byte, 20, 32)
	b[16] = 2
	to := append(append(b, 'h', 0), make([]byte, 8)...)
	for _, c := range []struct {
		name    string
		held    smb2.LeaseState
		access  smb2.AccessMask
		parts   []part
		interim bool
	}{
		{"CREATE", cacheRWH, smb2.FileReadData, []part{
			{smb2.CommandRead, &smb2.ReadRequest{FileID: any, Length: 7}, true, nil},
			{smb2.CommandClose, &smb2.CloseRequest{FileID: any}, true, nil},
		}, true},
		{"SET_INFO", cacheR | cacheH, smb2.Delete, []part{
			{smb2.CommandSetInfo, &smb2.SetInfoRequest{
				FileID: any, InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileRenameInformation), Buffer: to,
			}, true, nil},
			{smb2.CommandClose, &smb2.CloseRequest{FileID: any}, true, nil},
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, nil)
			s.write("f", []byte("content"))
			holder := s.login(smb2.DialectSMB311).mustConnect("data")
			other := s.login(smb2.DialectSMB311).mustConnect("data")
			if _, got, _ := holder.openAsking(asking(createRequest("f", smb2.FileOpen), 0, lease(1, c.held))); got != c.held {
				t.Fatalf("granted %v", got)
			}
			m := createRequest("f", smb2.FileOpen)
			m.DesiredAccess = c.access
			other.transmit(other.compoundMessage(append([]part{{smb2.CommandCreate, m, false, nil}}, c.parts...)...))
			_, ack, _ := holder.nextBreak()
			if c.interim {
				if h, _ := other.answer(); h.Command != smb2.CommandCreate || h.Status != ntstatus.Pending {
					t.Errorf("%v: %v, want CREATE that waits", h.Command, h.Status)
				}
			}
			g := other.openFile("g")
			st, _ := holder.do(smb2.CommandOplockBreak, ack)
			want(t, "acknowledgment", st, ntstatus.Success)
			got := other.receive()
			if len(got) != 1+len(c.parts) {
				t.Fatalf("%d responses, want %d", len(got), 1+len(c.parts))
			}
			for _, msg := range got {
				if h, _ := smb2.ParseHeader(msg); h.Status != ntstatus.Success {
					t.Errorf("%v: %v", h.Command, h.Status)
				}
			}
			other.close(g)
		})
	}
}
