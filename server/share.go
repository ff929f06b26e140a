package server

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Share is one tree that clients can connect to. Only Name and FS are needed: the
// zero value of every other field is the usual share, which can do all that its FS
// can.
//
// Lists of users hold names, compared without regard to case, and groups: a name
// after @, + or &, which [Accounts] has to know.
type Share struct {
	// Name is 1 to 80 characters, compared without regard to case. IPC$ is taken.
	Name string
	// FS is what the share holds. The server does not close it.
	FS vfs.FS
	// Open, in the place of FS, finds what the share holds for who connects to it.
	// release is called once, when the tree connect has ended; files may be open a
	// little longer. An error that matches fs.ErrNotExist refuses as if there were no
	// such share.
	Open func(ctx context.Context, c Client) (fsys vfs.FS, release func(), err error)
	// Expand replaces variables in the Comment, in the lists of users and in ForceUser and
	// ForceGroup for who connects or, for the Comment, looks; nil takes them as they are.
	// False says that one has no value: then the name in a list is nobody's, nobody can
	// connect for a ForceUser or ForceGroup, and a Comment is empty.
	Expand func(value string, c Client) (string, bool)
	// Comment is shown by listings.
	Comment string
	// Volume is the label of the volume that clients see; empty is Name.
	Volume string
	// Hidden leaves the share out of listings; AccessBased leaves it out of the
	// listings of those who may not connect to it.
	Hidden, AccessBased bool

	// ReadOnly refuses every change, but to those in WriteList.
	ReadOnly bool
	// Guest admits sessions without a user, if Config.Guest lets them in at all.
	// GuestOnly takes everybody for a guest.
	Guest, GuestOnly bool
	// Users lists who may connect; empty is everybody who could log on.
	// InvalidUsers lists who may not, whatever Users says.
	Users, InvalidUsers []string
	// ReadList lists who may only read, WriteList who may write though ReadOnly is
	// set; WriteList wins.
	ReadList, WriteList []string
	// AdminUsers lists who is not held back by access rights: they take part as the
	// server's own user.
	AdminUsers []string
	// HostsAllow and HostsDeny say which addresses may connect, in addition to
	// those of Config: see [Config.HostsAllow].
	HostsAllow, HostsDeny []string
	// Encrypt refuses access without encryption, whatever Config.Encryption says.
	Encrypt bool
	// EncryptionDesired asks clients that can to encrypt what they do with the share.
	EncryptionDesired bool
	// RequireSigning refuses sessions that neither sign nor encrypt.
	RequireSigning bool

	// ForceUser and ForceGroup are the UNIX user and primary group as whom all who
	// connect access files; empty is each user's own. Only a server that can change
	// its user heeds them.
	ForceUser, ForceGroup string

	// CreateMask and DirectoryMask are the permission bits that a new file or
	// directory may have, ForceCreateMode and ForceDirectoryMode those it gets in
	// any case. A mask of 0 stands for 0777.
	CreateMask, DirectoryMask           fs.FileMode
	ForceCreateMode, ForceDirectoryMode fs.FileMode
	// InheritOwner gives what is created the owner of its directory.
	InheritOwner bool

	// NoStreams: files have no alternate data streams.
	NoStreams bool
	// NoACL: security descriptors follow the mode bits and cannot be set otherwise.
	NoACL bool
	// ExecuteAlways does not check the right to execute where it is asked for by
	// itself, for files that came from systems where nobody sets it.
	ExecuteAlways bool
	// KeepAutoInherited stores the control bit AUTO_INHERITED of a security descriptor
	// as it is set; otherwise only with AUTO_INHERIT_REQ beside it, as on Windows.
	KeepAutoInherited bool
	// NoDOSAttributes: hidden, system, archive and creation time are not stored.
	NoDOSAttributes bool
	// NoEAs: files have no extended attributes.
	NoEAs bool
	// NoPOSIXExtensions opens files without the POSIX extensions of SMB 3.1.1, also for
	// clients that have negotiated them.
	NoPOSIXExtensions bool
	// NoNotify refuses CHANGE_NOTIFY.
	NoNotify bool
	// NoOplocks grants neither oplocks nor leases, NoLeases no leases.
	NoOplocks, NoLeases bool
	// NoDurable grants no durable handles.
	NoDurable bool
	// ContinuousAvailability announces SMB2_SHARE_CAP_CONTINUOUS_AVAILABILITY and
	// grants persistent handles ([MS-SMB2] 3.3.5.9.12), which outlive their
	// connections but not the server.
	ContinuousAvailability bool
	// KernelOplocks lets local processes break oplocks; only exclusive and batch ones
	// are granted then, and no leases. PosixLocking makes byte-range locks known to
	// local processes, and theirs to clients. KernelShareModes does so for opens that
	// do not share reading or writing, which have the lock of flock(2).
	KernelOplocks, PosixLocking, KernelShareModes bool

	// HideUnreadable leaves out of directory listings what the user may not read.
	HideUnreadable bool
	// HideDotFiles gives names that begin with a dot the attribute hidden, HideFiles
	// those that match one of its patterns; names that match one of VetoFiles do not
	// exist for clients. Patterns have * and ?, and match without regard to case.
	HideDotFiles         bool
	HideFiles, VetoFiles []string

	hosts hostRule // of HostsAllow and HostsDeny, made by own
}

// Client says who connects to a share.
type Client struct {
	// Share is the name by which he does.
	Share string
	// User and Domain are as he said them, empty for guests.
	User, Domain string
	// Account is who he is for the operating system; the zero Account if it does not
	// know him.
	Account Account
	// Dialect is that of his session, [MS-SMB2] 2.2.3.
	Dialect uint16
	// Addr is where he comes from.
	Addr net.Addr
}

// maxShareList bounds the lists of a share.
const maxShareList = 4096

// own returns a copy of the share that is checked and shares nothing that the caller
// could change.
func (s *Share) own() (*Share, error) {
	o := *s
	for _, l := range o.lists() {
		*l.list = slices.Clone(*l.list)
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	if (o.FS == nil) == (o.Open == nil) {
		return nil, fmt.Errorf("server: share %q: want one of FS and Open", o.Name)
	}
	var err error
	o.hosts, err = newHostRule(o.HostsAllow, o.HostsDeny)
	return &o, err
}

type shareList struct {
	name string
	list *[]string
}

func (s *Share) lists() []shareList {
	return []shareList{
		{"Users", &s.Users}, {"InvalidUsers", &s.InvalidUsers}, {"ReadList", &s.ReadList}, {"WriteList", &s.WriteList},
		{"AdminUsers", &s.AdminUsers}, {"HostsAllow", &s.HostsAllow}, {"HostsDeny", &s.HostsDeny},
		{"HideFiles", &s.HideFiles}, {"VetoFiles", &s.VetoFiles},
	}
}

// Check reports what is wrong with the share, but for what it holds.
func (s *Share) Check() error {
	n := len(utf16.Encode([]rune(s.Name)))
	if n < 1 || n > 80 || strings.ContainsAny(s.Name, "\"\\/[]:|<>+=;,*?\x00") {
		return fmt.Errorf("server: share name %q: want 1 to 80 characters, none of \"\\/[]:|<>+=;,*? or NUL", s.Name)
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("server: share %q: %w", s.Name, fmt.Errorf(format, args...))
	}
	for _, l := range s.lists() {
		if len(*l.list) > maxShareList {
			return bad("%s has %d entries, want at most %d", l.name, len(*l.list), maxShareList)
		}
		if slices.Contains(*l.list, "") {
			return bad("%s has an empty entry", l.name)
		}
	}
	for _, m := range []struct {
		name string
		mode fs.FileMode
	}{
		{"CreateMask", s.CreateMask}, {"DirectoryMask", s.DirectoryMask},
		{"ForceCreateMode", s.ForceCreateMode}, {"ForceDirectoryMode", s.ForceDirectoryMode},
	} {
		if m.mode&^fs.ModePerm != 0 {
			return bad("%s is %v, want permission bits", m.name, m.mode)
		}
	}
	if _, err := newHostRule(s.HostsAllow, s.HostsDeny); err != nil {
		return bad("%w", err)
	}
	return nil
}

// expanded is the share with its variables replaced for who connects.
func (s *Share) expanded(c Client) (*Share, error) {
	if s.Expand == nil {
		return s, nil
	}
	o := *s
	for _, l := range []*[]string{&o.Users, &o.InvalidUsers, &o.ReadList, &o.WriteList, &o.AdminUsers} {
		if !slices.ContainsFunc(*l, hasVariable) {
			continue
		}
		// A list that becomes empty is not one that everybody is on.
		list := []string{nobody}
		for _, name := range *l {
			if x, ok := s.Expand(name, c); ok && !turnsIntoGroup(name, x) {
				list = append(list, x)
			}
		}
		*l = list
	}
	for _, f := range []*string{&o.ForceUser, &o.ForceGroup} {
		if !hasVariable(*f) {
			continue
		}
		x, ok := s.Expand(*f, c)
		if !ok || x == "" || turnsIntoGroup(*f, x) {
			return nil, fmt.Errorf("%q has no value for this user", *f)
		}
		*f = x
	}
	return &o, nil
}

// nobody is on a list and is no user's name.
const nobody = "\x00"

func hasVariable(s string) bool { return strings.Contains(s, "%") }

// turnsIntoGroup reports whether a variable, which is a client's to fill, has made a group
// of a name.
func turnsIntoGroup(name, expanded string) bool {
	return expanded == "" || name[0] == '%' && strings.IndexByte("@+&", expanded[0]) >= 0
}

// filePerm and dirPerm are the permission bits of what is created with perm.
func (s *Share) filePerm(perm fs.FileMode) fs.FileMode {
	return masked(perm, s.CreateMask, s.ForceCreateMode)
}

func (s *Share) dirPerm(perm fs.FileMode) fs.FileMode {
	return masked(perm, s.DirectoryMask, s.ForceDirectoryMode)
}

func masked(perm, mask, force fs.FileMode) fs.FileMode {
	if mask == 0 {
		mask = fs.ModePerm
	}
	return perm&mask | force
}
