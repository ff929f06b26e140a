package server

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/dcerpc"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
)

// begin sends a request that waits and returns its MessageId and AsyncId.
func (p *peer) begin(cmd smb2.Command, m body) (mid, async uint64) {
	p.t.Helper()
	mid = p.post(p.header(cmd), m)
	h, _ := p.answer()
	if h.MessageID != mid || h.Status != ntstatus.Pending || !h.IsAsync() {
		p.t.Fatalf("%v: answer %+v, want STATUS_PENDING", cmd, h)
	}
	return mid, h.AsyncID
}

func (p *peer) lock(id smb2.FileID, ls ...smb2.LockElement) ntstatus.Status {
	p.t.Helper()
	st, _ := p.do(smb2.CommandLock, &smb2.LockRequest{FileID: id, Locks: ls})
	return st
}

const (
	lockNow   = smb2.LockFlagExclusiveLock | smb2.LockFlagFailImmediately
	shareNow  = smb2.LockFlagSharedLock | smb2.LockFlagFailImmediately
	unlockNow = smb2.LockFlagUnlock
)

// [MS-SMB2] 3.3.5.14.
func TestLockRequests(t *testing.T) {
	s, p := disk(t)
	s.write("f", bytes.Repeat([]byte("x"), 100))
	a, b := p.openFile("f"), p.openFile("f")
	el := func(off, n uint64, f smb2.LockFlags) smb2.LockElement {
		return smb2.LockElement{Offset: off, Length: n, Flags: f}
	}
	want(t, "no element", p.lock(a), ntstatus.InvalidParameter)
	want(t, "no flag", p.lock(a, el(0, 1, 0)), ntstatus.InvalidParameter)
	want(t, "two kinds", p.lock(a, el(0, 1, smb2.LockFlagSharedLock|smb2.LockFlagExclusiveLock)), ntstatus.InvalidParameter)
	want(t, "several that wait", p.lock(a, el(0, 1, lockNow), el(5, 1, smb2.LockFlagExclusiveLock)), ntstatus.InvalidParameter)
	want(t, "beyond 2^64", p.lock(a, el(^uint64(0), 2, lockNow)), ntstatus.InvalidLockRange)
	want(t, "exclusive", p.lock(a, el(10, 10, lockNow)), ntstatus.Success)
	want(t, "overlapping, another open", p.lock(b, el(19, 1, shareNow)), ntstatus.LockNotGranted)
	want(t, "overlapping, the same open", p.lock(a, el(19, 1, lockNow)), ntstatus.LockNotGranted)
	want(t, "all or nothing", p.lock(b, el(50, 5, lockNow), el(15, 1, lockNow)), ntstatus.LockNotGranted)
	want(t, "what was taken back", p.lock(a, el(50, 5, lockNow)), ntstatus.Success)
	st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: b, Offset: 12, Length: 1})
	want(t, "reading a locked range", st, ntstatus.FileLockConflict)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: a, Offset: 12, Data: []byte("y")})
	want(t, "writing one's own", st, ntstatus.Success)
	want(t, "cutting into a locked range", p.set(b, smb2.ClassFileEndOfFileInformation, le.AppendUint64(nil, 15)), ntstatus.FileLockConflict)
	want(t, "unlocking a part", p.lock(a, el(10, 5, unlockNow)), ntstatus.RangeNotLocked)
	want(t, "unlocking another's", p.lock(b, el(10, 10, unlockNow)), ntstatus.RangeNotLocked)
	want(t, "unlock with a lock flag", p.lock(a, el(10, 10, unlockNow|smb2.LockFlagFailImmediately)), ntstatus.InvalidParameter)
	want(t, "unlocking goes as far as it can", p.lock(a, el(10, 10, unlockNow), el(1, 1, unlockNow)), ntstatus.RangeNotLocked)
	want(t, "after that", p.lock(b, el(10, 10, shareNow)), ntstatus.Success)
	st, _ = p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: b, Offset: 12, Data: []byte("y")})
	want(t, "writing one's own shared range", st, ntstatus.FileLockConflict)
	p.close(b)
	want(t, "CLOSE unlocks", p.lock(a, el(10, 10, lockNow)), ntstatus.Success)
	want(t, "a directory", p.lock(p.openDir("d"), el(0, 1, lockNow)), ntstatus.InvalidParameter)
}

// The number of locks of an open is bounded.
func TestLockLimit(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.LocksPerOpen = 2 })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	f := p.openFile("f")
	for i, st := range []ntstatus.Status{ntstatus.Success, ntstatus.Success, ntstatus.InsufficientResources} {
		want(t, "lock", p.lock(f, smb2.LockElement{Offset: uint64(i), Length: 1, Flags: lockNow}), st)
	}
	want(t, "unlock", p.lock(f, smb2.LockElement{Offset: 0, Length: 1, Flags: unlockNow}), ntstatus.Success)
	want(t, "lock", p.lock(f, smb2.LockElement{Offset: 9, Length: 1, Flags: lockNow}), ntstatus.Success)
}

// So is the number of locks of a file, however many opens have them.
func TestLockLimitOfFile(t *testing.T) {
	s, p := disk(t)
	f := p.openFile("f")
	s.srv.files.mu.Lock()
	for _, st := range s.srv.files.files {
		st.locks.held = make([]byteLock, maxLocksPerFile) // of no range: they stop nobody
		st.locks.n.Store(maxLocksPerFile)
	}
	s.srv.files.mu.Unlock()
	want(t, "lock", p.lock(f, smb2.LockElement{Length: 1, Flags: lockNow}), ntstatus.InsufficientResources)
}

// A lock that has to wait is granted, cancelled, or ends with its open.
func TestLockWait(t *testing.T) {
	_, p := disk(t)
	a, b := p.openFile("f"), p.openFile("f")
	held := smb2.LockElement{Offset: 0, Length: 10, Flags: lockNow}
	wait := &smb2.LockRequest{FileID: b, Locks: []smb2.LockElement{{Offset: 5, Length: 1, Flags: smb2.LockFlagExclusiveLock}}}
	want(t, "lock", p.lock(a, held), ntstatus.Success)

	mid, async := p.begin(smb2.CommandLock, wait)
	p.sendCancel(0, async)
	h, _ := p.answer()
	if h.MessageID != mid || h.Status != ntstatus.Cancelled || h.AsyncID != async {
		t.Errorf("cancelled: %+v", h)
	}

	mid, _ = p.begin(smb2.CommandLock, wait)
	un := p.post(p.header(smb2.CommandLock), &smb2.LockRequest{FileID: a, Locks: []smb2.LockElement{{Offset: 0, Length: 10, Flags: unlockNow}}})
	got := map[uint64]ntstatus.Status{}
	for range 2 {
		h, _ := p.answer()
		got[h.MessageID] = h.Status
	}
	want(t, "unlock", got[un], ntstatus.Success)
	want(t, "the lock that waited", got[mid], ntstatus.Success)
	want(t, "it is held", p.lock(a, held), ntstatus.LockNotGranted)

	want(t, "another", p.lock(a, smb2.LockElement{Offset: 20, Length: 1, Flags: lockNow}), ntstatus.Success)
	wait.Locks[0].Offset = 20
	mid, _ = p.begin(smb2.CommandLock, wait)
	cl := p.post(p.header(smb2.CommandClose), &smb2.CloseRequest{FileID: b})
	for range 2 {
		h, _ := p.answer()
		got[h.MessageID] = h.Status
	}
	want(t, "CLOSE", got[cl], ntstatus.Success)
	want(t, "the lock that waited for a closed open", got[mid], ntstatus.RangeNotLocked)
	want(t, "all is free", p.lock(a, held), ntstatus.Success)
}

func notifyRequest(id smb2.FileID, room uint32) *smb2.ChangeNotifyRequest {
	return &smb2.ChangeNotifyRequest{
		FileID: id, OutputBufferLength: room, CompletionFilter: smb2.FileNotifyChangeFileName | smb2.FileNotifyChangeDirName,
	}
}

func notifications(t *testing.T, msg []byte) (list []smb2.FileNotifyInformation) {
	t.Helper()
	resp, err := smb2.ParseChangeNotifyResponse(msg)
	if err != nil {
		t.Fatal(err)
	}
	for n, err := range smb2.FileNotifyInformations(resp.OutputBuffer) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// [MS-SMB2] 3.3.5.19.
func TestChangeNotify(t *testing.T) {
	s, p := disk(t)
	d := p.openDir("d")
	mid, _ := p.begin(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	s.write("d/new:file", nil)
	h, msg := p.answer()
	if h.MessageID != mid || h.Status != ntstatus.Success {
		t.Fatalf("answer %+v", h)
	}
	if got := notifications(t, msg); len(got) != 1 || got[0] != (smb2.FileNotifyInformation{Action: smb2.FileActionAdded, FileName: "new\uf022file"}) {
		t.Errorf("got %+v", got)
	}
	// What happens between two requests is kept.
	if err := os.Remove(filepath.Join(s.dir, "d/new:file")); err != nil {
		t.Fatal(err)
	}
	st, msg := p.do(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	want(t, "event between requests", st, ntstatus.Success)
	if got := notifications(t, msg); len(got) != 1 || got[0].Action != smb2.FileActionRemoved {
		t.Errorf("got %+v", got)
	}
	// One that does not fit makes the client look for itself.
	s.write("d/long-name-that-does-not-fit", nil)
	st, msg = p.do(smb2.CommandChangeNotify, notifyRequest(d, 16))
	want(t, "no room", st, ntstatus.NotifyEnumDir)
	if got := notifications(t, msg); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	mid, async := p.begin(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	p.sendCancel(0, async)
	h, _ = p.answer()
	if h.MessageID != mid || h.Status != ntstatus.Cancelled {
		t.Errorf("cancelled: %+v", h)
	}
	// CLOSE ends those that wait.
	mid, _ = p.begin(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	cl := p.post(p.header(smb2.CommandClose), &smb2.CloseRequest{FileID: d})
	got := map[uint64]ntstatus.Status{}
	for range 2 {
		h, _ := p.answer()
		got[h.MessageID] = h.Status
	}
	want(t, "CLOSE", got[cl], ntstatus.Success)
	want(t, "notification at CLOSE", got[mid], ntstatus.NotifyCleanup)

	st, _ = p.do(smb2.CommandChangeNotify, notifyRequest(p.openFile("f"), 4096))
	want(t, "on a file", st, ntstatus.InvalidParameter)
	req := createRequest("d", smb2.FileOpen)
	req.DesiredAccess = smb2.FileReadAttributes
	st, _ = p.do(smb2.CommandChangeNotify, notifyRequest(p.create(req), 4096))
	want(t, "without the right", st, ntstatus.AccessDenied)
}

// A directory that is to be deleted is watched no more.
func TestChangeNotifyDeletePending(t *testing.T) {
	_, p := disk(t)
	d, e := p.openDir("d"), p.openDir("d")
	mid, _ := p.begin(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	del := p.post(p.header(smb2.CommandSetInfo), &smb2.SetInfoRequest{
		InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileDispositionInformation), FileID: e, Buffer: []byte{1},
	})
	got := map[uint64]ntstatus.Status{}
	for range 2 {
		h, _ := p.answer()
		got[h.MessageID] = h.Status
	}
	want(t, "SET_INFO", got[del], ntstatus.Success)
	want(t, "the watch", got[mid], ntstatus.DeletePending)
	st, _ := p.do(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	want(t, "another", st, ntstatus.DeletePending)
}

// The watches of a session are bounded.
func TestChangeNotifyLimit(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Limits.WatchesPerConn = 1 })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	d, e := p.openDir("d"), p.openDir("e")
	p.begin(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	st, _ := p.do(smb2.CommandChangeNotify, notifyRequest(e, 4096))
	want(t, "one too many", st, ntstatus.InsufficientResources)
}

// A CLOSE that follows a request at once does not overtake it.
func TestCloseKeepsOrder(t *testing.T) {
	s, p := disk(t)
	for range 50 {
		s.write("f", []byte("12345"))
		id := p.openFile("f")
		rd := p.post(p.header(smb2.CommandRead), &smb2.ReadRequest{FileID: id, Length: 5})
		del := p.post(p.header(smb2.CommandSetInfo), &smb2.SetInfoRequest{
			InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileDispositionInformation), FileID: id, Buffer: []byte{1},
		})
		cl := p.post(p.header(smb2.CommandClose), &smb2.CloseRequest{FileID: id})
		got := map[uint64]ntstatus.Status{}
		for range 3 {
			h, _ := p.answer()
			got[h.MessageID] = h.Status
		}
		if got[rd] != ntstatus.Success || got[del] != ntstatus.Success || got[cl] != ntstatus.Success {
			t.Fatalf("READ %v, SET_INFO %v, CLOSE %v", got[rd], got[del], got[cl])
		}
		if s.exists("f") {
			t.Fatal("the file was closed before it was marked for deletion")
		}
	}
}

// [MS-SMB2] 3.3.5.22: nothing is being broken.
func TestOplockBreak(t *testing.T) {
	_, p := disk(t)
	f := p.openFile("f")
	for _, c := range []struct {
		level smb2.OplockLevel
		want  ntstatus.Status
	}{
		{smb2.OplockLevelNone, ntstatus.InvalidDeviceState},
		{smb2.OplockLevelII, ntstatus.InvalidDeviceState},
		{smb2.OplockLevelBatch, ntstatus.InvalidDeviceState},
		{smb2.OplockLevelLease, ntstatus.InvalidDeviceState},
	} {
		st, _ := p.do(smb2.CommandOplockBreak, &smb2.OplockBreakAcknowledgment{OplockLevel: c.level, FileID: f})
		want(t, "acknowledgment", st, c.want)
	}
	st, _ := p.do(smb2.CommandOplockBreak, &smb2.LeaseBreakAcknowledgment{LeaseKey: smb2.GUID{1}})
	want(t, "lease", st, ntstatus.ObjectNameNotFound)
}

// [MS-SMB2] 3.3.5.15.6.
func TestCopyChunk(t *testing.T) {
	s, p := disk(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	s.write("src", data)
	src, dst := p.openFile("src"), p.openFile("dst")
	out, st := p.fsctl(smb2.FsctlSrvRequestResumeKey, src, nil, 32)
	want(t, "resume key", st, ntstatus.Success)
	key, err := smb2.ParseRequestResumeKeyResponse(out)
	if err != nil {
		t.Fatal(err)
	}
	_, st = p.fsctl(smb2.FsctlSrvRequestResumeKey, src, nil, 31)
	want(t, "no room for a key", st, ntstatus.InvalidParameter)
	copyTo := func(to smb2.FileID, k smb2.ResumeKey, chunks ...smb2.CopyChunk) (smb2.CopyChunkResponse, ntstatus.Status) {
		in, err := (&smb2.CopyChunkCopy{SourceKey: k, Chunks: chunks}).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		out, st := p.fsctl(smb2.FsctlSrvCopychunkWrite, to, in, 12)
		m, _ := smb2.ParseCopyChunkResponse(out)
		return m, st
	}
	n := uint32(len(data))
	m, st := copyTo(dst, key.ResumeKey,
		smb2.CopyChunk{SourceOffset: 0, TargetOffset: 0, Length: n / 2},
		smb2.CopyChunk{SourceOffset: uint64(n / 2), TargetOffset: uint64(n / 2), Length: n / 2})
	want(t, "copy", st, ntstatus.Success)
	if m != (smb2.CopyChunkResponse{ChunksWritten: 2, TotalBytesWritten: n}) || !bytes.Equal(s.read("dst"), data) {
		t.Errorf("got %+v", m)
	}
	m, st = copyTo(dst, key.ResumeKey,
		smb2.CopyChunk{SourceOffset: 0, TargetOffset: 0, Length: 16},
		smb2.CopyChunk{SourceOffset: uint64(n) - 1, TargetOffset: 0, Length: 2})
	want(t, "beyond the end", st, ntstatus.InvalidViewSize)
	if m != (smb2.CopyChunkResponse{ChunksWritten: 1, TotalBytesWritten: 16}) {
		t.Errorf("got %+v", m)
	}
	limits := smb2.CopyChunkResponse{ChunksWritten: 256, ChunkBytesWritten: 1 << 20, TotalBytesWritten: 16 << 20}
	for name, chunks := range map[string][]smb2.CopyChunk{
		"too many": make([]smb2.CopyChunk, 257),
		"empty":    {{}},
		"too long": {{Length: 1<<20 + 1}},
		"too much": func() []smb2.CopyChunk {
			c := make([]smb2.CopyChunk, 17)
			for i := range c {
				c[i].Length = 1 << 20
			}
			return c
		}(),
	} {
		m, st = copyTo(dst, key.ResumeKey, chunks...)
		want(t, name, st, ntstatus.InvalidParameter)
		if m != limits {
			t.Errorf("%s: got %+v, want the limits", name, m)
		}
	}
	// Overlapping ranges of one file.
	_, st = copyTo(src, key.ResumeKey, smb2.CopyChunk{SourceOffset: 0, TargetOffset: 8, Length: 64})
	want(t, "within a file", st, ntstatus.Success)
	if got := s.read("src")[8:72]; !bytes.Equal(got, data[:64]) {
		t.Errorf("overlapping copy gave %q", got)
	}
	_, st = copyTo(dst, smb2.ResumeKey{1}, smb2.CopyChunk{Length: 1})
	want(t, "unknown key", st, ntstatus.ObjectNameNotFound)
	q := s.login(smb2.DialectSMB311).mustConnect("data")
	id := q.openFile("dst")
	in, _ := (&smb2.CopyChunkCopy{SourceKey: key.ResumeKey, Chunks: []smb2.CopyChunk{{Length: 1}}}).AppendBinary(nil)
	_, st = q.fsctl(smb2.FsctlSrvCopychunkWrite, id, in, 12)
	want(t, "another session's key", st, ntstatus.ObjectNameNotFound)
}

// FSCTLs on files, [MS-FSCC] 2.3.
func TestFileControls(t *testing.T) {
	s, p := disk(t)
	s.write("f", bytes.Repeat([]byte("x"), 1<<20))
	f, d := p.openFile("f"), p.openDir("d")
	zero, _ := (&smb2.ZeroDataInformation{FileOffset: 1000, BeyondFinalZero: 2000}).AppendBinary(nil)
	_, st := p.fsctl(smb2.FsctlSetZeroData, f, zero, 0)
	want(t, "SET_ZERO_DATA", st, ntstatus.Success)
	got := s.read("f")
	if len(got) != 1<<20 || !bytes.Equal(got[1000:2000], make([]byte, 1000)) || got[999] != 'x' || got[2000] != 'x' {
		t.Error("SET_ZERO_DATA changed the wrong bytes")
	}
	bad, _ := (&smb2.ZeroDataInformation{FileOffset: 2, BeyondFinalZero: 1}).AppendBinary(nil)
	for _, c := range []struct {
		name string
		code smb2.CtlCode
		id   smb2.FileID
		in   []byte
		room uint32
		want ntstatus.Status
	}{
		{"ranges the wrong way round", smb2.FsctlSetZeroData, f, bad, 0, ntstatus.InvalidParameter},
		{"zeros in a directory", smb2.FsctlSetZeroData, d, zero, 0, ntstatus.InvalidParameter},
		{"sparse", smb2.FsctlSetSparse, f, nil, 0, ntstatus.Success},
		{"compression", smb2.FsctlGetCompression, f, nil, 2, ntstatus.Success},
		{"compressing", smb2.FsctlSetCompression, f, []byte{1, 0}, 0, ntstatus.Success},
		{"compressing in an unknown way", smb2.FsctlSetCompression, f, []byte{0x42, 0}, 0, ntstatus.InvalidParameter},
		{"not a link", smb2.FsctlGetReparsePoint, f, nil, 4096, ntstatus.NotAReparsePoint},
		{"making a link", smb2.FsctlSetReparsePoint, f, make([]byte, 8), 0, ntstatus.NotSupported},
		{"object id", smb2.FsctlCreateOrGetObjectID, f, nil, 64, ntstatus.Success},
		{"resilience", smb2.FsctlLMRRequestResiliency, f, make([]byte, 8), 0, ntstatus.Success},
		{"NTFS volume data", smb2.FsctlGetNTFSVolumeData, f, nil, 4096, ntstatus.InvalidDeviceRequest},
		{"integrity", smb2.FsctlGetIntegrityInformation, f, nil, 4096, ntstatus.InvalidDeviceRequest},
		{"hashes for branch caches", smb2.FsctlSrvReadHash, f, make([]byte, 32), 4096, ntstatus.NotSupported},
		{"offloaded reading", smb2.FsctlOffloadRead, f, make([]byte, 32), 4096, ntstatus.InvalidDeviceRequest},
		{"unknown", 0x0009FFFC, f, nil, 4096, ntstatus.InvalidDeviceRequest},
		{"trim", smb2.FsctlFileLevelTrim, f, append(make([]byte, 4), append([]byte{1, 0, 0, 0}, make([]byte, 16)...)...), 4, ntstatus.Success},
		{"trim with a key", smb2.FsctlFileLevelTrim, f, append([]byte{1, 0, 0, 0, 1, 0, 0, 0}, make([]byte, 16)...), 4, ntstatus.InvalidParameter},
		{"snapshots", smb2.FsctlSrvEnumerateSnapshots, f, nil, 16, ntstatus.Success},
	} {
		_, st := p.fsctl(c.code, c.id, c.in, c.room)
		want(t, c.name, st, c.want)
	}
	// Sparse now: a hole of whole blocks is a hole.
	zero, _ = (&smb2.ZeroDataInformation{FileOffset: 256 << 10, BeyondFinalZero: 512 << 10}).AppendBinary(nil)
	_, st = p.fsctl(smb2.FsctlSetZeroData, f, zero, 0)
	want(t, "making a hole", st, ntstatus.Success)
	q, _ := (&smb2.AllocatedRange{Length: 1 << 20}).AppendBinary(nil)
	out, st := p.fsctl(smb2.FsctlQueryAllocatedRanges, f, q, 4096)
	want(t, "QUERY_ALLOCATED_RANGES", st, ntstatus.Success)
	ranges, err := smb2.ParseAllocatedRanges(out)
	if err != nil || len(ranges) == 0 || ranges[0].FileOffset != 0 {
		t.Fatalf("ranges %+v, %v", ranges, err)
	}
	if len(ranges) == 2 { // where the storage makes holes
		if ranges[0].Length != 256<<10 || ranges[1].FileOffset != 512<<10 || ranges[1].Length != 512<<10 {
			t.Errorf("ranges %+v", ranges)
		}
		_, st = p.fsctl(smb2.FsctlQueryAllocatedRanges, f, q, 16)
		want(t, "room for one range", st, ntstatus.BufferOverflow)
		_, st = p.fsctl(smb2.FsctlQueryAllocatedRanges, f, q, 15)
		want(t, "room for none", st, ntstatus.BufferTooSmall)
	}
}

// [MS-SMB2] 3.3.5.15.3: shares are listed through a pipe.
func TestPipes(t *testing.T) {
	s := newSite(t, memconn.Config{}, nil)
	p := s.login(smb2.DialectSMB311).mustConnect("IPC$")
	st, _ := p.tryCreate(createRequest("nosuchpipe", smb2.FileOpen))
	want(t, "unknown pipe", st, ntstatus.ObjectNameNotFound)
	id := p.create(createRequest("srvsvc", smb2.FileOpen))
	c, err := dcerpc.Dial(dcerpc.SRVSVC, func(in []byte) ([]byte, bool, error) {
		var out []byte
		var st ntstatus.Status
		if len(in) > 0 {
			// A small answer, so that the rest comes by READ.
			out, st = p.fsctl(smb2.FsctlPipeTransceive, id, in, 40)
		} else {
			var msg []byte
			st, msg = p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: id, Length: 4096})
			if resp, err := smb2.ParseReadResponse(msg); err == nil {
				out = resp.Data
			}
		}
		if st != ntstatus.Success && st != ntstatus.BufferOverflow {
			return nil, false, st
		}
		return out, st == ntstatus.BufferOverflow, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	shares, err := c.ShareEnum("nas")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, sh := range shares {
		got[sh.Name] = true
	}
	if len(got) != 3 || !got["data"] || !got["ro"] || !got["IPC$"] {
		t.Errorf("shares %v", got)
	}
	// READ waits for a message, and CLOSE ends that.
	rd, _ := p.begin(smb2.CommandRead, &smb2.ReadRequest{FileID: id, Length: 100})
	cl := p.post(p.header(smb2.CommandClose), &smb2.CloseRequest{FileID: id})
	res := map[uint64]ntstatus.Status{}
	for range 2 {
		h, _ := p.answer()
		res[h.MessageID] = h.Status
	}
	want(t, "CLOSE", res[cl], ntstatus.Success)
	want(t, "READ", res[rd], ntstatus.PipeBroken)
}
