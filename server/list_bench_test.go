package server

import (
	"fmt"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// BenchmarkQueryDirectory lists a directory of 10,000 files once for each operation,
// with all that Windows and cifs.ko ask for of each.
func BenchmarkQueryDirectory(b *testing.B) {
	s := newSite(b, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	s.mkdir("d")
	for i := range 10000 {
		s.write(fmt.Sprintf("d/a file with a longer name %d.text", i), nil)
	}
	id := p.openDir("d")
	b.ReportAllocs()
	for b.Loop() {
		flags := smb2.QueryDirectoryRestartScans
		for {
			h := p.header(smb2.CommandQueryDirectory)
			h.CreditCharge = smb2.CreditCharge(1 << 20)
			st, _ := p.doHeader(h, &smb2.QueryDirectoryRequest{
				FileInformationClass: smb2.ClassFileIDBothDirectoryInformation, FileID: id,
				FileName: smb2.EncodeUTF16("*"), Flags: flags, OutputBufferLength: 1 << 20,
			})
			if st == ntstatus.NoMoreFiles {
				break
			}
			if st != ntstatus.Success {
				b.Fatal(st)
			}
			flags = 0
		}
	}
}
