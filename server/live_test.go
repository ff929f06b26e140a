package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// directory is Users with accounts of the operating system.
type directory struct {
	UserMap
	accounts map[string]Account
	groups   map[string]uint32
}

func (d directory) Account(_ context.Context, name string) (Account, error) {
	if a, ok := d.accounts[name]; ok {
		return a, nil
	}
	return Account{}, fmt.Errorf("user %q: %w", name, fs.ErrNotExist)
}

func (d directory) Guest(ctx context.Context) (Account, error) { return d.Account(ctx, "nobody") }

func (d directory) Group(_ context.Context, name string) (uint32, error) {
	if g, ok := d.groups[name]; ok {
		return g, nil
	}
	return 0, fmt.Errorf("group %q: %w", name, fs.ErrNotExist)
}

func TestWhoMayConnect(t *testing.T) {
	users := directory{
		accounts: map[string]Account{
			"alice":  {Name: "alice", UID: 1001, GID: 100, GIDs: []uint32{50}, Groups: []string{"users", "staff"}},
			"mapped": {Name: "bob", UID: 1002, GID: 100, Groups: []string{"users"}},
			"nobody": {Name: "nobody", UID: 65534, GID: 65534, Groups: []string{"nogroup"}},
		},
		groups: map[string]uint32{"staff": 50, "wheel": 10},
	}
	s := &Server{cfg: Config{Users: users}, log: Config{}.Logger}
	cfg, err := copyConfig(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.log = cfg.Logger
	local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	for _, c := range []struct {
		name  string
		share Share
		user  string // "" is a guest
		want  string // of what was admitted
	}{
		{"everybody", Share{}, "alice", "alice 1001:100"},
		{"a user whom UNIX does not know", Share{}, "carol", "unknown"},
		{"no guests", Share{}, "", ""},
		{"guests", Share{Guest: true}, "", "guest nobody 65534:65534"},
		{"guests are not on a list", Share{Guest: true, Users: []string{"alice"}}, "", ""},
		{"guests on a list", Share{Guest: true, Users: []string{"nobody"}}, "", "guest nobody 65534:65534"},
		{"guest only", Share{Guest: true, GuestOnly: true}, "alice", "guest nobody 65534:65534"},
		{"guest only without guest", Share{GuestOnly: true}, "alice", "alice 1001:100"},
		{"on the list", Share{Users: []string{"bob", "ALICE"}}, "alice", "alice 1001:100"},
		{"not on the list", Share{Users: []string{"bob"}}, "alice", ""},
		{"in a group", Share{Users: []string{"@staff"}}, "alice", "alice 1001:100"},
		{"in a group, by +", Share{Users: []string{"+Staff"}}, "alice", "alice 1001:100"},
		{"in a group, by &+", Share{Users: []string{"&+staff"}}, "alice", "alice 1001:100"},
		{"not in the group", Share{Users: []string{"@wheel", "staff"}}, "alice", ""},
		{"a user who calls himself a group", Share{Users: []string{"@carol"}}, "carol", ""},
		{"known by the name he is mapped to", Share{Users: []string{"bob"}}, "mapped", "bob 1002:100"},
		{"not by the one he says", Share{Users: []string{"mapped"}}, "mapped", ""},
		{"unknown to UNIX, on the list", Share{Users: []string{"carol"}}, "carol", "unknown"},
		{"invalid", Share{Users: []string{"alice"}, InvalidUsers: []string{"@users"}}, "mapped", ""},
		{"invalid wins", Share{Users: []string{"alice"}, InvalidUsers: []string{"alice"}}, "alice", ""},
		{"read only", Share{ReadOnly: true}, "alice", "alice 1001:100 read"},
		{"write list", Share{ReadOnly: true, WriteList: []string{"@staff"}}, "alice", "alice 1001:100"},
		{"read list", Share{ReadList: []string{"alice"}}, "alice", "alice 1001:100 read"},
		{"write list wins", Share{ReadList: []string{"alice"}, WriteList: []string{"alice"}}, "alice", "alice 1001:100"},
		{"admin", Share{AdminUsers: []string{"alice"}}, "alice", "alice 1001:100 admin"},
		{"force user", Share{Users: []string{"alice"}, ForceUser: "nobody"}, "alice", "nobody 65534:65534 other"},
		{"force an unknown user", Share{ForceUser: "absent"}, "alice", ""},
		{"force group", Share{ForceGroup: "wheel"}, "alice", "alice 1001:10 other"},
		{"force group for its members", Share{ForceGroup: "+staff"}, "alice", "alice 1001:50 other"},
		{"not for others", Share{ForceGroup: "+wheel"}, "alice", "alice 1001:100"},
		{"force an unknown group", Share{ForceGroup: "absent"}, "alice", ""},
		{"a variable", Share{Users: []string{"%U"}}, "alice", "alice 1001:100"},
		{"a variable of another user", Share{Users: []string{"x%U"}}, "alice", ""},
		{"a variable in a group", Share{Users: []string{"@%g"}}, "alice", "alice 1001:100"},
		{"a variable without a value, on a list that is not empty for that", Share{Users: []string{"%x"}}, "alice", ""},
		{"a user who would make a group of a name", Share{Users: []string{"%U"}}, "@staff", ""},
		{"a variable that shuts out", Share{InvalidUsers: []string{"%U"}}, "alice", ""},
		{"a variable that gives", Share{ReadOnly: true, WriteList: []string{"%U"}}, "alice", "alice 1001:100"},
		{"a variable for somebody else", Share{ForceUser: "n%x"}, "alice", ""},
		{"a user forced by a variable", Share{ForceUser: "%U"}, "alice", "alice 1001:100 other"},
		{"a group forced by a variable", Share{ForceGroup: "%g"}, "alice", ""},
		{"hosts", Share{HostsAllow: []string{"192.0.2."}}, "alice", "alice 1001:100"},
		{"other hosts", Share{HostsAllow: []string{"192.0.3."}}, "alice", ""},
	} {
		c.share.Name, c.share.FS = "s", notThere{}
		c.share.Expand = func(v string, who Client) (string, bool) {
			if len(who.Account.Groups) > 0 {
				v = strings.ReplaceAll(v, "%g", who.Account.Groups[0])
			}
			return strings.ReplaceAll(v, "%U", who.User), !strings.Contains(v, "%x")
		}
		sh, err := c.share.own()
		if err != nil {
			t.Fatal(err)
		}
		a, st := s.admit(t.Context(), &logon{user: c.user, guest: c.user == ""}, local, sh)
		got := ""
		if a != nil {
			if a.guest {
				got += "guest "
			}
			if got += "unknown"; a.known {
				got = got[:len(got)-len("unknown")] + fmt.Sprintf("%s %d:%d", a.account.Name, a.account.UID, a.account.GID)
			}
			if a.asOther && !a.guest {
				got += " other"
			}
			if a.admin {
				got += " admin"
			}
			if a.readOnly {
				got += " read"
			}
		}
		if got != c.want || (a == nil) != (st == ntstatus.AccessDenied) {
			t.Errorf("%s: admitted as %q with %v, want %q", c.name, got, st, c.want)
		}
	}
}

// notThere is a file system that nobody looks into.
type notThere struct{ vfs.FS }

func TestReload(t *testing.T) {
	var cfg Config
	var audited []AuditEvent
	s := newSite(t, memconn.Config{}, func(c *Config) {
		data := c.Shares[0].FS
		open := func(context.Context, Client) (vfs.FS, func(), error) { return data, func() {}, nil }
		c.Shares = []Share{{Name: "data", FS: data}, {Name: "goes", FS: data}, {Name: "narrows", FS: data}, {Name: "opened", Open: open}}
		c.Audit = func(e AuditEvent) { audited = append(audited, e) }
		cfg = *c
	})
	s.write("f", []byte("x"))
	p := s.login(smb2.DialectSMB311)
	p.mustConnect("data")
	data, file := p.tid, p.openFile("f")
	p.mustConnect("narrows")
	narrows := p.tid
	p.mustConnect("goes")
	goes, gone := p.tid, p.openFile("f")

	var opened, released atomic.Int32
	cfg.Shares = []Share{
		{Name: "DATA", FS: cfg.Shares[0].FS, ReadOnly: true},
		{Name: "narrows", FS: cfg.Shares[0].FS, Users: []string{"somebody"}},
		{Name: "new", Open: func(_ context.Context, c Client) (vfs.FS, func(), error) {
			if opened.Add(1); c.User == "" || c.Share != "new" {
				t.Errorf("opened for %+v", c)
			}
			return cfg.Shares[0].FS, func() { released.Add(1) }, nil
		}},
		{Name: "broken", Open: func(context.Context, Client) (vfs.FS, func(), error) { return nil, nil, fs.ErrNotExist }},
	}
	if err := s.srv.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	read := func(tid uint32, id smb2.FileID) ntstatus.Status {
		p.tid = tid
		st, _ := p.do(smb2.CommandRead, &smb2.ReadRequest{FileID: id, Length: 1})
		return st
	}
	want(t, "READ of what was open", read(data, file), ntstatus.Success)
	want(t, "READ in a share that is gone", read(goes, gone), ntstatus.NetworkNameDeleted)
	want(t, "READ in a share that does not admit the user now", read(narrows, file), ntstatus.NetworkNameDeleted)
	p.tid = data
	st, _ := p.do(smb2.CommandCreate, createRequest("new file", smb2.FileCreate))
	if st != ntstatus.AccessDenied && st != ntstatus.MediaWriteProtected {
		t.Errorf("CREATE in a share that is read-only now: %v", st)
	}
	// What was granted before changes nothing any more, and nothing more is granted.
	for what, got := range map[string]ntstatus.Status{
		"WRITE": func() ntstatus.Status {
			st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: file, Data: []byte("y")})
			return st
		}(),
		"end of file": p.set(file, smb2.ClassFileEndOfFileInformation, make([]byte, 8)),
		"a rename":    p.rename(file, "g", false),
		"a deletion":  p.set(file, smb2.ClassFileDispositionInformation, []byte{1}),
		"an open for writing": func() ntstatus.Status {
			st, _ := p.do(smb2.CommandCreate, createRequest("f", smb2.FileOpen))
			return st
		}(),
	} {
		want(t, what+" in a share that is read-only now", got, ntstatus.AccessDenied)
	}
	_, st = p.fsctl(smb2.FsctlSetZeroData, file, binary.LittleEndian.AppendUint64(make([]byte, 8), 1), 0)
	want(t, "zeros in a share that is read-only now", st, ntstatus.MediaWriteProtected)
	if string(s.read("f")) != "x" {
		t.Errorf("the file has changed: %q", s.read("f"))
	}
	// Each of them leaves a trace.
	refusals := map[string]int{}
	for _, e := range audited {
		if e.Kind == AuditAccess && e.ReadOnly && strings.EqualFold(e.Share, "data") && e.User != "" {
			refusals[e.Name+" "+e.Status.String()]++
		}
	}
	if want := map[string]int{"new file STATUS_ACCESS_DENIED": 1, "f STATUS_ACCESS_DENIED": 5, "f STATUS_MEDIA_WRITE_PROTECTED": 1}; !maps.Equal(refusals, want) {
		t.Errorf("refused, by the audit: %v, want %v", refusals, want)
	}
	p.tid = data
	want(t, "a share that is gone", p.connect("goes"), ntstatus.BadNetworkName)
	want(t, "a share that does not admit", p.connect("narrows"), ntstatus.AccessDenied)
	want(t, "a share that cannot be reached", p.connect("broken"), ntstatus.BadNetworkName)
	want(t, "a new share", p.connect("new"), ntstatus.Success)
	p.openFile("f")
	if opened.Load() != 1 || released.Load() != 0 {
		t.Errorf("opened %d times and released %d", opened.Load(), released.Load())
	}
	st, _ = p.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{})
	want(t, "TREE_DISCONNECT", st, ntstatus.Success)
	if released.Load() != 1 {
		t.Errorf("released %d times after the tree connect", released.Load())
	}

	// What is wrong changes nothing.
	bad := cfg
	bad.Shares = []Share{{Name: "a/b", FS: cfg.Shares[0].FS}}
	if err := s.srv.Reload(t.Context(), bad); err == nil {
		t.Error("a bad share is taken")
	}
	want(t, "READ after a reload that failed", read(data, file), ntstatus.Success)
	if len(audited) == 0 {
		t.Error("nothing was audited")
	}
}

// A file that goes with its last open goes also where that is the end of the share, whose
// storage is given back after that.
func TestDeletionAtTheEndOfAShare(t *testing.T) {
	var cfg Config
	var closed atomic.Bool
	dir := t.TempDir()
	s := newSite(t, memconn.Config{}, func(c *Config) {
		own, err := posix.New(dir, posix.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { own.Close() })
		goes := Share{Name: "goes", Open: func(context.Context, Client) (vfs.FS, func(), error) {
			return own, func() { own.Close(); closed.Store(true) }, nil
		}}
		cfg = *c
		c.Shares = append([]Share{goes}, c.Shares...)
	})
	p := s.login(smb2.DialectSMB311).mustConnect("goes")
	m := createRequest("f", smb2.FileCreate)
	m.DesiredAccess |= smb2.Delete
	m.CreateOptions |= smb2.FileDeleteOnClose
	p.create(m)
	if err := s.srv.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if !closed.Load() {
		t.Error("the storage of a share that is gone is not given back")
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 0 {
		t.Errorf("the file is still there: %v %v", es, err)
	}
}

// A home is its user's alone, under his own name.
func TestHomes(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) {
		data := c.Shares[0].FS
		c.Homes = &Share{Name: "homes", Open: func(_ context.Context, c Client) (vfs.FS, func(), error) {
			if c.Share != c.User {
				t.Errorf("the home %q is opened for %q", c.Share, c.User)
			}
			return data, func() {}, nil
		}}
	})
	p := s.login(smb2.DialectSMB311)
	user := "ann"
	want(t, "one's own home", p.connect(user), ntstatus.Success)
	want(t, "somebody's home", p.connect("bob"), ntstatus.BadNetworkName)
	want(t, "one's own home by the name for all", p.connect("Homes"), ntstatus.Success)
}

// What shares want of signing and encryption.
func TestSharesWantProtection(t *testing.T) {
	s := newSite(t, memconn.Config{}, func(c *Config) {
		data := c.Shares[0].FS
		c.Signing = PolicyOffered
		c.Shares = []Share{
			{Name: "data", FS: data},
			{Name: "signed", FS: data, RequireSigning: true},
			{Name: "sealed", FS: data, Encrypt: true},
			{Name: "desired", FS: data, EncryptionDesired: true},
		}
	})
	connect := func(p *peer, share string) (ntstatus.Status, smb2.ShareFlags) {
		st, msg := p.do(smb2.CommandTreeConnect, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\nas\` + share)})
		if st != ntstatus.Success {
			return st, 0
		}
		m, err := smb2.ParseTreeConnectResponse(msg)
		if err != nil {
			t.Fatal(err)
		}
		h, err := smb2.ParseHeader(msg)
		if err != nil {
			t.Fatal(err)
		}
		p.tid = h.TreeID
		return st, m.ShareFlags
	}
	plain := s.login(smb2.DialectSMB210) // has no encryption
	for share, st := range map[string]ntstatus.Status{
		"data": ntstatus.Success, "signed": ntstatus.AccessDenied, "sealed": ntstatus.AccessDenied, "desired": ntstatus.Success,
	} {
		if got, flags := connect(plain, share); got != st || flags&smb2.ShareFlagEncryptData != 0 {
			t.Errorf("%s, of a client without encryption: %v, flags %#x, want %v", share, got, flags, st)
		}
	}
	p := s.login(smb2.DialectSMB311)
	for share, encrypted := range map[string]bool{"data": false, "sealed": true, "desired": true} {
		got, flags := connect(p, share)
		if got != ntstatus.Success || flags&smb2.ShareFlagEncryptData != 0 != encrypted {
			t.Errorf("%s: %v, flags %#x", share, got, flags)
		}
		st, _ := p.do(smb2.CommandCreate, createRequest("", smb2.FileOpen))
		if (st == ntstatus.AccessDenied) != encrypted {
			t.Errorf("%s: CREATE in the clear: %v", share, st)
		}
	}
	p.seal = true
	want(t, "signed, encrypted", p.connect("signed"), ntstatus.Success)
}

// Clients work on while the configuration is replaced and somebody looks, again and again.
func TestReloadUnderLoad(t *testing.T) {
	var cfg Config
	s := newSite(t, memconn.Config{}, func(c *Config) { cfg = *c })
	more := cfg
	more.Shares = append([]Share{{Name: "new", FS: cfg.Shares[0].FS}, {Name: "limited", FS: cfg.Shares[0].FS, Users: []string{"bob"}}}, cfg.Shares...)
	const clients, rounds = 16, 40
	peers := make([]*peer, clients)
	for i := range peers {
		peers[i] = s.login(smb2.DialectSMB311).mustConnect("data")
	}
	var working sync.WaitGroup
	stop := make(chan struct{})
	for i, p := range peers {
		working.Go(func() {
			data := p.tid
			for range rounds {
				p.tid = data
				id := p.create(createRequest(fmt.Sprintf("f%d", i), smb2.FileOpenIf))
				st, _ := p.do(smb2.CommandWrite, &smb2.WriteRequest{FileID: id, Data: []byte("data")})
				want(t, "WRITE", st, ntstatus.Success)
				st, _ = p.do(smb2.CommandClose, &smb2.CloseRequest{FileID: id})
				want(t, "CLOSE", st, ntstatus.Success)
				// It comes and goes, and so may what is open in it.
				if st := p.connect("new"); st != ntstatus.Success && st != ntstatus.BadNetworkName && st != ntstatus.AccessDenied {
					t.Errorf("TREE_CONNECT: %v", st)
				} else if st == ntstatus.Success {
					st, _ := p.do(smb2.CommandTreeDisconnect, &smb2.TreeDisconnectRequest{})
					if st != ntstatus.Success && st != ntstatus.NetworkNameDeleted {
						t.Errorf("TREE_DISCONNECT: %v", st)
					}
				}
			}
		})
	}
	var looking sync.WaitGroup
	looking.Go(func() { // ends with stop
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			c := cfg
			if i%2 == 0 {
				c = more
			}
			if err := s.srv.Reload(context.Background(), c); err != nil {
				t.Error(err)
			}
			s.srv.Status(100)
		}
	})
	working.Wait()
	close(stop)
	looking.Wait()
	if err := s.srv.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if n := s.srv.Stats().Trees; n != clients {
		t.Errorf("%d tree connects are left, want %d", n, clients)
	}
}
