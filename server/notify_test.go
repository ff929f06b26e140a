package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
)

// A share may have its directories not watched.
func TestNoNotify(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) { c.Shares[0].NoNotify = true })
	p := s.login(smb2.DialectSMB311).mustConnect("data")
	st, _ := p.do(smb2.CommandChangeNotify, notifyRequest(p.openDir("d"), 4096))
	want(t, "CHANGE_NOTIFY", st, ntstatus.NotImplemented)
}

const allChanges = smb2.NotifyFilter(0xFFF)

// watch begins to watch a directory, with nothing waiting.
func (p *peer) watch(id smb2.FileID, filter smb2.NotifyFilter, tree bool) *smb2.ChangeNotifyRequest {
	p.t.Helper()
	req := notifyRequest(id, 8192)
	req.CompletionFilter = filter
	if tree {
		req.Flags = smb2.WatchTree
	}
	_, async := p.begin(smb2.CommandChangeNotify, req)
	p.sendCancel(0, async)
	if h, _ := p.answer(); h.Status != ntstatus.Cancelled {
		p.t.Fatalf("CANCEL: %v", h.Status)
	}
	return req
}

// openToWatch opens a directory in a way that keeps nobody from renaming what is in it.
func (p *peer) openToWatch(name string) smb2.FileID {
	p.t.Helper()
	req := createRequest(name, smb2.FileOpen)
	req.DesiredAccess = smb2.FileListDirectory
	req.CreateOptions = smb2.FileDirectoryFile
	return p.create(req)
}

func (p *peer) mustSet(id smb2.FileID, class smb2.FileInfoClass, b []byte) {
	p.t.Helper()
	want(p.t, "SET_INFO", p.set(id, class, b), ntstatus.Success)
}

func (p *peer) mustRename(id smb2.FileID, to string) {
	p.t.Helper()
	want(p.t, "rename", p.rename(id, to, false), ntstatus.Success)
}

// until asks what has changed until last is among it, and returns all.
func (p *peer) until(req *smb2.ChangeNotifyRequest, last string) (got []string) {
	p.t.Helper()
	for !slices.Contains(got, last) {
		st, msg := p.do(smb2.CommandChangeNotify, req)
		if st != ntstatus.Success {
			p.t.Fatalf("CHANGE_NOTIFY: %v after %v", st, got)
		}
		for _, n := range notifications(p.t.(*testing.T), msg) {
			got = append(got, fmt.Sprintf("%d %s", n.Action, n.FileName))
		}
	}
	return got
}

// What clients do is reported once, as what it is: [MS-FSA] 2.1.5. The numbers are the
// actions of [MS-FSCC] 2.7.1.
func TestChangesOfClients(t *testing.T) {
	basic := func(m smb2.FileBasicInformation) []byte { b, _ := m.AppendBinary(nil); return b }
	when := smb2.Filetime(133_000_000_000_000_000)
	for _, c := range []struct {
		name   string
		filter smb2.NotifyFilter
		do     func(p *peer, f smb2.FileID)
		want   []string
	}{
		{"create", smb2.FileNotifyChangeFileName, func(p *peer, _ smb2.FileID) { p.close(p.openFile(`d\new`)) }, []string{"1 new"}},
		{"create, directories wanted", smb2.FileNotifyChangeDirName, func(p *peer, _ smb2.FileID) { p.close(p.openFile(`d\new`)) }, nil},
		{"create directory", smb2.FileNotifyChangeDirName, func(p *peer, _ smb2.FileID) { p.close(p.openDir(`d\new`)) }, []string{"1 new"}},
		{"overwrite", smb2.FileNotifyChangeSize, func(p *peer, _ smb2.FileID) {
			p.close(p.create(createRequest(`d\f`, smb2.FileOverwrite)))
		}, []string{"3 f"}},
		{"write", allChanges, func(p *peer, f smb2.FileID) {
			for range 3 {
				p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: f, Data: []byte("x")})
			}
		}, []string{"3 f"}},
		{"end of file", smb2.FileNotifyChangeSize, func(p *peer, f smb2.FileID) {
			p.set(f, smb2.ClassFileEndOfFileInformation, le.AppendUint64(nil, 7))
		}, []string{"3 f"}},
		{"attributes", smb2.FileNotifyChangeAttributes, func(p *peer, f smb2.FileID) {
			p.mustSet(f, smb2.ClassFileBasicInformation, basic(smb2.FileBasicInformation{FileAttributes: smb2.FileAttributeHidden}))
		}, []string{"3 f"}},
		{"attributes, times wanted", smb2.FileNotifyChangeCreation | smb2.FileNotifyChangeLastWrite | smb2.FileNotifyChangeLastAccess,
			func(p *peer, f smb2.FileID) {
				p.mustSet(f, smb2.ClassFileBasicInformation, basic(smb2.FileBasicInformation{FileAttributes: smb2.FileAttributeHidden}))
			}, nil},
		{"creation time", smb2.FileNotifyChangeCreation, func(p *peer, f smb2.FileID) {
			p.mustSet(f, smb2.ClassFileBasicInformation, basic(smb2.FileBasicInformation{CreationTime: when}))
		}, []string{"3 f"}},
		{"access time", smb2.FileNotifyChangeLastAccess, func(p *peer, f smb2.FileID) {
			p.mustSet(f, smb2.ClassFileBasicInformation, basic(smb2.FileBasicInformation{LastAccessTime: when}))
		}, []string{"3 f"}},
		{"rename, everything wanted", allChanges, func(p *peer, f smb2.FileID) { p.mustRename(f, `d\g`) }, []string{"4 f", "5 g"}},
		{"rename", smb2.FileNotifyChangeFileName, func(p *peer, f smb2.FileID) { p.mustRename(f, `d\g`) }, []string{"4 f", "5 g"}},
		{"rename, attributes wanted", smb2.FileNotifyChangeAttributes, func(p *peer, f smb2.FileID) { p.mustRename(f, `d\g`) }, []string{"3 g"}},
		{"move down", smb2.FileNotifyChangeFileName, func(p *peer, f smb2.FileID) { p.mustRename(f, `d\sub\g`) }, []string{"2 f", `1 sub\g`}},
		{"move out", smb2.FileNotifyChangeFileName, func(p *peer, f smb2.FileID) { p.mustRename(f, `g`) }, []string{"2 f"}},
		{"link", smb2.FileNotifyChangeFileName, func(p *peer, f smb2.FileID) {
			b, _ := (&smb2.FileLinkInformation{FileName: `d\l`}).AppendBinary(nil)
			want(p.t, "link", p.set(f, smb2.ClassFileLinkInformation, b), ntstatus.Success)
		}, []string{"1 l"}},
		{"delete", smb2.FileNotifyChangeFileName, func(p *peer, f smb2.FileID) {
			p.set(f, smb2.ClassFileDispositionInformation, []byte{1})
			p.close(f)
		}, []string{"2 f"}},
		{"below", smb2.FileNotifyChangeFileName, func(p *peer, _ smb2.FileID) { p.close(p.openFile(`d\sub\new`)) }, []string{`1 sub\new`}},
		{"elsewhere", smb2.FileNotifyChangeFileName, func(p *peer, _ smb2.FileID) { p.close(p.openFile("new")) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p := disk(t)
			s.mkdir("d/sub")
			s.write("d/f", []byte("12345"))
			open := createRequest(`d\f`, smb2.FileOpen)
			open.DesiredAccess |= smb2.FileWriteAttributes
			f := p.create(open)
			// What the table's operations do not change makes the end.
			req := p.watch(p.openToWatch("d"), c.filter|smb2.FileNotifyChangeDirName, true)
			c.do(p, f)
			// What the storage says of it comes before what it says of this.
			s.mkdir("d/end")
			if got := p.until(req, "1 end"); !slices.Equal(got, append(c.want, "1 end")) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Local processes are heard beside clients, and not what a client did a second time.
func TestChangesOfLocalProcesses(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d/sub")
	req := p.watch(p.openDir("d"), smb2.FileNotifyChangeFileName|smb2.FileNotifyChangeDirName, true)
	p.close(p.openFile(`d\ours`))
	s.write("d/theirs", nil)
	if err := os.Remove(filepath.Join(s.dir, "d/ours")); err != nil { // as only they did
		t.Fatal(err)
	}
	s.mkdir("d/sub/end")
	got := p.until(req, `1 sub\end`)
	if want := []string{"1 ours", "1 theirs", "2 ours", `1 sub\end`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A watch without WATCH_TREE sees its own directory only, and one of the share's root
// works like any other.
func TestWatchNotRecursive(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d")
	req := p.watch(p.openDir(""), smb2.FileNotifyChangeFileName, false)
	p.close(p.openFile(`d\below`))
	p.close(p.openFile("here"))
	if got := p.until(req, "1 here"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// The buffer is as large as the first request said; what does not fit makes the
// client read the directory anew, once.
func TestNotifyBufferOverflow(t *testing.T) {
	_, p := disk(t)
	d := p.openDir("d")
	first := notifyRequest(d, 64)
	_, async := p.begin(smb2.CommandChangeNotify, first)
	p.sendCancel(0, async)
	p.answer()
	for i := range 8 {
		p.close(p.openFile(fmt.Sprintf(`d\file%d`, i)))
	}
	st, _ := p.do(smb2.CommandChangeNotify, notifyRequest(d, 8192))
	want(t, "with more than the first request had room for", st, ntstatus.NotifyEnumDir)
	mid, _ := p.begin(smb2.CommandChangeNotify, notifyRequest(d, 8192))
	_ = mid
	cl := p.post(p.header(smb2.CommandCreate), createRequest(`d\one`, smb2.FileCreate))
	got := map[uint64]ntstatus.Status{}
	for range 2 {
		h, _ := p.answer()
		got[h.MessageID] = h.Status
	}
	want(t, "CREATE", got[cl], ntstatus.Success)
	want(t, "the next change", got[mid], ntstatus.Success)
}

// A directory that is renamed is watched by its new name, and what is in it too.
func TestWatchFollowsRename(t *testing.T) {
	s, p := disk(t)
	s.mkdir("d/sub")
	req := p.watch(p.openDir(`d\sub`), smb2.FileNotifyChangeFileName, false)
	d := p.create(createRequest("d", smb2.FileOpen))
	want(t, "rename over an open directory", p.rename(d, "e", false), ntstatus.AccessDenied)
	p.close(d)
	sub := p.create(createRequest(`d\sub`, smb2.FileOpen))
	want(t, "rename", p.rename(sub, `d\other`, false), ntstatus.Success)
	p.close(p.openFile(`d\other\new`))
	if got := p.until(req, "1 new"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// Two requests on one open are answered one after the other.
func TestNotifyTwice(t *testing.T) {
	s, p := disk(t)
	d := p.openDir("d")
	a, _ := p.begin(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	b, _ := p.begin(smb2.CommandChangeNotify, notifyRequest(d, 4096))
	for i, mid := range []uint64{a, b} {
		s.mkdir(fmt.Sprintf("d/%d", i))
		h, msg := p.answer()
		if got := notifications(t, msg); h.MessageID != mid || len(got) != 1 || got[0].FileName != fmt.Sprint(i) {
			t.Errorf("answer to %d, want %d: %v", h.MessageID, mid, got)
		}
	}
}

// Streams, extended attributes and rights, which the storage would not tell apart.
func TestChangesOfStreamsAndAttributes(t *testing.T) {
	ea := smb2.NewEntryList(nil, 100)
	ea.AppendEa(smb2.FileFullEaInformation{EaName: "one", EaValue: []byte("1")})
	stream := func(p *peer, d smb2.CreateDisposition) smb2.FileID {
		m := createRequest(`d\f:s`, d)
		m.DesiredAccess |= smb2.FileWriteAttributes
		return p.create(m)
	}
	for _, c := range []struct {
		name   string
		filter smb2.NotifyFilter
		do     func(p *peer, f smb2.FileID)
		want   []string
	}{
		{"new stream", smb2.FileNotifyChangeStreamName, func(p *peer, _ smb2.FileID) { p.close(stream(p, smb2.FileCreate)) }, []string{"6 f:s"}},
		{"new stream, names of files wanted", smb2.FileNotifyChangeFileName, func(p *peer, _ smb2.FileID) { p.close(stream(p, smb2.FileCreate)) }, nil},
		{"write to a stream", smb2.FileNotifyChangeStreamSize, func(p *peer, _ smb2.FileID) {
			s := stream(p, smb2.FileCreate)
			st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: s, Data: []byte("x")})
			want(p.t, "WRITE", st, ntstatus.Success)
			p.close(s)
		}, []string{"8 f:s"}},
		{"write to a stream, sizes of files wanted", smb2.FileNotifyChangeSize, func(p *peer, _ smb2.FileID) {
			s := stream(p, smb2.FileCreate)
			p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: s, Data: []byte("x")})
			p.close(s)
		}, nil},
		{"stream deleted", smb2.FileNotifyChangeStreamName, func(p *peer, _ smb2.FileID) {
			s := stream(p, smb2.FileCreate)
			p.mustSet(s, smb2.ClassFileDispositionInformation, []byte{1})
			p.close(s)
		}, []string{"6 f:s", "7 f:s"}},
		{"attributes by a stream", smb2.FileNotifyChangeAttributes, func(p *peer, _ smb2.FileID) {
			s := stream(p, smb2.FileCreate)
			b, _ := (&smb2.FileBasicInformation{FileAttributes: smb2.FileAttributeHidden}).AppendBinary(nil)
			p.mustSet(s, smb2.ClassFileBasicInformation, b)
			p.close(s)
		}, []string{"3 f"}},
		{"extended attribute", smb2.FileNotifyChangeEA, func(p *peer, f smb2.FileID) {
			p.mustSet(f, smb2.ClassFileFullEaInformation, ea.Bytes())
		}, []string{"3 f"}},
		{"rights", smb2.FileNotifyChangeSecurity, func(p *peer, f smb2.FileID) {
			sd := smb2.SecurityDescriptor{DACL: &smb2.ACL{}}
			want(p.t, "rights", p.setSecurityOf(f, sd, smb2.DACLSecurityInformation), ntstatus.Success)
		}, []string{"3 f"}},
		{"sparse", smb2.FileNotifyChangeAttributes, func(p *peer, f smb2.FileID) {
			_, st := p.fsctl(smb2.FsctlSetSparse, f, nil, 0)
			want(p.t, "FSCTL_SET_SPARSE", st, ntstatus.Success)
		}, []string{"3 f"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, func(c *Config) {
				fsys, err := memory.New(memory.Config{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { fsys.Close() })
				c.Shares[0].FS = fsys
			})
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			p.close(p.openDir("d"))
			m := createRequest(`d\f`, smb2.FileCreate)
			m.DesiredAccess |= smb2.FileWriteAttributes | smb2.FileWriteEA | smb2.WriteDAC
			f := p.create(m)
			req := p.watch(p.openToWatch("d"), c.filter|smb2.FileNotifyChangeDirName, true)
			c.do(p, f)
			p.close(p.openDir(`d\end`))
			if got := p.until(req, "1 end"); !slices.Equal(got, append(c.want, "1 end")) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// slowWatcher takes its time to begin watching.
type slowWatcher struct {
	*memory.FS
	begin chan struct{}
}

func (s slowWatcher) Watch(ctx context.Context, dir string, o vfs.WatchOptions) (vfs.Watch, error) {
	select {
	case <-s.begin:
		return s.FS.Watch(ctx, dir, o)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Storage that takes long to begin watching keeps nobody from being told what clients do;
// when it has begun, the client looks for itself what it has missed. One that never does
// ends with the open.
func TestSlowWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := make(chan struct{})
		s := newSite(t, memconn.Config{}, func(c *Config) {
			fsys, err := memory.New(memory.Config{})
			if err != nil {
				t.Fatal(err)
			}
			c.Shares[0].FS = slowWatcher{fsys, begin}
		})
		p := s.login(smb2.DialectSMB311).mustConnect("data")
		p.close(p.openDir("d"))
		start := time.Now()
		req := p.watch(p.openToWatch("d"), smb2.FileNotifyChangeFileName, true)
		if got := time.Since(start); got != localPatience {
			t.Errorf("the request was answered after %v, want %v", got, localPatience)
		}
		p.close(p.openFile(`d\new`))
		if got := p.until(req, "1 new"); len(got) != 1 {
			t.Errorf("got %q", got)
		}
		mid, _ := p.begin(smb2.CommandChangeNotify, req)
		begin <- struct{}{}
		if h, _ := p.answer(); h.MessageID != mid || h.Status != ntstatus.NotifyEnumDir {
			t.Errorf("when the storage watches: %v", h.Status)
		}
		p.watch(p.openToWatch("d"), smb2.FileNotifyChangeFileName, true)
		p.c.Close()
	})
}

// An answer that is lost with its channel is gone, and so is what it said: the client is
// told to look for itself on another. One that the client has had, as it has asked again,
// is not lost.
func TestNotifyLostWithChannel(t *testing.T) {
	for _, asked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, memconn.Config{}, func(c *Config) {
				fsys, err := memory.New(memory.Config{})
				if err != nil {
					t.Fatal(err)
				}
				c.Shares[0].FS = fsys
				c.Interfaces = func() []Interface { return nil }
			})
			p := s.login(smb2.DialectSMB311).mustConnect("data")
			p.close(p.openDir("d"))
			d := p.openToWatch("d")
			req := p.watch(d, smb2.FileNotifyChangeFileName, false)
			q := s.dial()
			q.guid = p.guid
			q.negotiate(smb2.DialectSMB311)
			q.sign, q.signer, q.sealer, q.opener = true, p.signer, p.sealer, p.opener
			want(t, "binding", q.setup("ann", "secret", p.sid, smb2.SessionSetupRequest{SecurityMode: 1, Flags: smb2.SessionSetupFlagBinding}), ntstatus.Success)
			q.tid, q.sign = p.tid, true
			p.close(p.openFile(`d\one`))
			q.until(req, "1 one")
			if asked {
				q.begin(smb2.CommandChangeNotify, req)
			}
			q.c.Close()
			synctest.Wait()
			mid, _ := p.begin(smb2.CommandChangeNotify, req)
			st := ntstatus.NotifyEnumDir
			if asked {
				p.post(p.header(smb2.CommandCreate), createRequest(`d\two`, smb2.FileCreate))
				st = ntstatus.Success
			}
			for {
				if h, _ := p.answer(); h.MessageID == mid {
					want(t, fmt.Sprintf("asked again %v", asked), h.Status, st)
					break
				}
			}
		})
	}
}
