package server

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// Leases of directories and watches are of one number, beyond which there is no lease;
// what is closed makes room again.
func TestDirectoryLeaseLimit(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.WatchesPerConn = 2 })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	open := func(name string, key byte) (smb2.FileID, smb2.LeaseState) {
		m := createRequest(name, smb2.FileOpenIf)
		m.CreateOptions, m.DesiredAccess = smb2.FileDirectoryFile, smb2.FileReadData
		id, rights, _ := p.openAsking(asking(m, 0, lease2(key, cacheR|cacheH, 1)))
		return id, rights
	}
	for round := range 3 {
		var ids []smb2.FileID
		for i, granted := range []smb2.LeaseState{cacheR | cacheH, cacheR | cacheH, 0} {
			id, rights := open(fmt.Sprint("d", i), byte(10*round+i+1))
			if rights != granted {
				t.Errorf("round %d: directory %d is granted %v, want %v", round, i, rights, granted)
			}
			ids = append(ids, id)
		}
		st, _ := p.do(smb2.CommandChangeNotify, notifyRequest(ids[2], 4096))
		want(t, "a watch besides", st, ntstatus.InsufficientResources)
		for _, id := range ids {
			p.close(id)
		}
	}
}

// A share in memory that has no room left says that the disk is full, keeps what it
// has, and takes more when something is deleted.
func TestShareInMemoryIsFull(t *testing.T) {
	const chunk = 64 << 10
	ram, err := memory.New(memory.Config{MaxBytes: 1 << 20, MaxObjects: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].FS = ram })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	data := bytes.Repeat([]byte{7}, chunk)
	fill := func(id smb2.FileID) (n int) {
		for ; n < 100; n++ {
			st, _ := p.doSized(smb2.CommandWrite, chunk, &smb2.WriteRequest{FileID: id, Data: data, Offset: uint64(n * chunk)})
			if st != ntstatus.Success {
				want(t, "the WRITE that does not fit", st, ntstatus.DiskFull)
				return n
			}
		}
		t.Fatal("it is never full")
		return 0
	}
	id := p.openFile("f")
	n := fill(id)
	if n < 12 {
		t.Errorf("full after %d KiB of 1024", n*chunk>>10)
	}
	st, msg := p.doSized(smb2.CommandRead, chunk, &smb2.ReadRequest{FileID: id, Length: chunk, Offset: uint64((n - 1) * chunk)})
	m, err := smb2.ParseReadResponse(msg)
	if st != ntstatus.Success || err != nil || !bytes.Equal(m.Data, data) {
		t.Errorf("the last that was taken: %v, %v, %d octets", st, err, len(m.Data))
	}
	want(t, "deleting it", p.set(id, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
	p.close(id)
	id = p.openFile("g")
	if again := fill(id); again != n {
		t.Errorf("%d chunks fit afterwards, %d did before", again, n)
	}
	want(t, "emptying it", p.set(id, smb2.ClassFileEndOfFileInformation, make([]byte, 8)), ntstatus.Success)

	// And of objects.
	count := func() (n int) {
		for ; n < 100; n++ {
			st, resp := p.tryCreate(createRequest(fmt.Sprint("n", n), smb2.FileCreate))
			if st != ntstatus.Success {
				want(t, "one file too many", st, ntstatus.DiskFull)
				return n
			}
			want(t, "to be deleted", p.set(resp.FileID, smb2.ClassFileDispositionInformation, []byte{1}), ntstatus.Success)
			defer p.close(resp.FileID)
		}
		t.Fatal("there is no limit")
		return 0
	}
	first := count()
	if again := count(); first < 30 || again != first {
		t.Errorf("%d files, and when they are deleted %d", first, again)
	}
}
