package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// Access is an access mask, [MS-SMB2] 2.2.13.1.
type Access uint32

// The rights. The first line of each pair of names is for files.
const (
	AccessReadData        Access = 0x00000001 // or list a directory
	AccessWriteData       Access = 0x00000002 // or add a file
	AccessAppendData      Access = 0x00000004 // or add a directory
	AccessReadEA          Access = 0x00000008
	AccessWriteEA         Access = 0x00000010
	AccessExecute         Access = 0x00000020 // or traverse
	AccessDeleteChild     Access = 0x00000040
	AccessReadAttributes  Access = 0x00000080
	AccessWriteAttributes Access = 0x00000100
	AccessDelete          Access = 0x00010000
	AccessReadControl     Access = 0x00020000
	AccessWriteDAC        Access = 0x00040000
	AccessWriteOwner      Access = 0x00080000
	AccessSynchronize     Access = 0x00100000
	AccessSystemSecurity  Access = 0x01000000
	AccessMaximumAllowed  Access = 0x02000000
	AccessGenericAll      Access = 0x10000000
	AccessGenericExecute  Access = 0x20000000
	AccessGenericWrite    Access = 0x40000000
	AccessGenericRead     Access = 0x80000000
)

// Rights of the opens that this package makes by itself.
const (
	accessRead  = AccessReadData | AccessReadAttributes | AccessReadEA | AccessSynchronize
	accessWrite = AccessWriteData | AccessAppendData | AccessWriteAttributes | AccessWriteEA | AccessReadAttributes | AccessSynchronize
)

// ShareAccess is what other opens of the file may do meanwhile.
type ShareAccess uint32

// What is shared. The zero value is ShareAll.
const (
	ShareRead   ShareAccess = 1
	ShareWrite  ShareAccess = 2
	ShareDelete ShareAccess = 4
	ShareAll                = ShareRead | ShareWrite | ShareDelete
	ShareNone   ShareAccess = 1 << 31
)

// Disposition says what to do if the file is there, and if not.
type Disposition uint8

// The dispositions of [MS-SMB2] 2.2.13.
const (
	OpenExisting Disposition = iota // open, else fail
	CreateNew                       // fail, else create
	OpenIf                          // open, else create
	Overwrite                       // truncate, else fail
	OverwriteIf                     // truncate, else create
	Supersede                       // replace, else create
)

var wireDisposition = [...]smb2.CreateDisposition{
	OpenExisting: smb2.FileOpen, CreateNew: smb2.FileCreate, OpenIf: smb2.FileOpenIf,
	Overwrite: smb2.FileOverwrite, OverwriteIf: smb2.FileOverwriteIf, Supersede: smb2.FileSupersede,
}

// Option is a flag of CreateOptions in [MS-SMB2] 2.2.13.
type Option uint32

// The options.
const (
	OptDirectory        Option = 0x00000001
	OptWriteThrough     Option = 0x00000002
	OptSequentialOnly   Option = 0x00000004
	OptNonDirectory     Option = 0x00000040
	OptRandomAccess     Option = 0x00000800
	OptDeleteOnClose    Option = 0x00001000
	OptBackupIntent     Option = 0x00004000
	OptOpenReparsePoint Option = 0x00200000
)

// CreateOptions are the fields of a CREATE request. The zero value opens an
// existing file or directory to read it, sharing everything.
type CreateOptions struct {
	Access      Access // 0 means what reading data and attributes needs
	Attributes  Attributes
	Share       ShareAccess
	Disposition Disposition
	Options     Option
	// Lease is asked for with the open; it is one of the same share. Servers refuse the
	// lease of another file with fs.ErrInvalid. Nil asks for none.
	Lease *Lease
	// Perm are the permission bits of what is created, if HasPerm is set and the session
	// has the POSIX extensions; else the server says.
	Perm    os.FileMode
	HasPerm bool
	// Snapshot opens what the name was at that time, one of Share.Snapshots; zero means now.
	Snapshot time.Time
}

// CreateAction says what CREATE did, [MS-SMB2] 2.2.14.
type CreateAction uint32

// The actions.
const (
	Superseded  CreateAction = 0
	Opened      CreateAction = 1
	Created     CreateAction = 2
	Overwritten CreateAction = 3
)

// openFlags translates the flags of package os.
func openFlags(flag int, perm os.FileMode) CreateOptions {
	o := CreateOptions{}
	switch flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR) {
	case os.O_WRONLY:
		o.Access = accessWrite
	case os.O_RDWR:
		o.Access = accessRead | accessWrite
	default:
		o.Access = accessRead
		if flag&os.O_TRUNC != 0 {
			o.Access |= AccessWriteData
		}
	}
	switch {
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		o.Disposition = CreateNew
	case flag&(os.O_CREATE|os.O_TRUNC) == os.O_CREATE|os.O_TRUNC:
		o.Disposition = OverwriteIf
	case flag&os.O_CREATE != 0:
		o.Disposition = OpenIf
	case flag&os.O_TRUNC != 0:
		o.Disposition = Overwrite
	}
	if o.Disposition != OpenExisting || o.Access&AccessWriteData != 0 {
		o.Options |= OptNonDirectory
	}
	if flag&os.O_CREATE != 0 {
		o.Perm, o.HasPerm = perm, true
		if perm&0o200 == 0 {
			o.Attributes = AttrReadOnly
		}
	}
	if flag&os.O_SYNC != 0 {
		o.Options |= OptWriteThrough
	}
	return o
}

// createCall makes a CREATE request for an open that lasts for one compound.
func (sh *Share) createCall(name string, o CreateOptions) (*call, error) {
	p, err := sh.newOpening(name, o)
	if err != nil {
		return nil, err
	}
	p.durable, p.persistent = 0, false
	return sh.openingCall(p)
}

func (sh *Share) openingCall(p *opening) (*call, error) {
	k := sh.call(smb2.CommandCreate)
	if err := sh.encodeCreate(k, sh.s.main(), p, nil); err != nil {
		k.free()
		return nil, err
	}
	// One that makes what must not exist finds what it has made itself, unless the
	// server knows it again.
	k.uncertain = !p.persistent && (p.o.Disposition == CreateNew || p.o.Options&OptDeleteOnClose != 0)
	return k, nil
}

// CreateFile opens or creates as o says: the CREATE request of [MS-SMB2] 2.2.13.
func (sh *Share) CreateFile(ctx context.Context, name string, o CreateOptions) (*File, error) {
	f, err := sh.create(ctx, name, o)
	return f, wrap("open", name, err)
}

// create follows symbolic links on which the server stops.
func (sh *Share) create(ctx context.Context, name string, o CreateOptions) (f *File, err error) {
	return sh.createAs(ctx, name, o, func(to string, o CreateOptions) (*File, error) { return sh.createOnce(ctx, to, o) })
}

// createAs is create where once opens one name.
func (sh *Share) createAs(ctx context.Context, name string, o CreateOptions, once func(to string, o CreateOptions) (*File, error)) (f *File, err error) {
	if o.Lease == nil {
		o.Lease = sh.hiddenLease(&o)
	} else if o.Lease.sh != sh {
		return nil, ntstatus.InvalidParameter
	}
	sh.s.useLease(o.Lease) // before a break can come
	err = following(name, func(to string) error {
		f, err = once(to, o)
		return err
	})
	if err != nil {
		sh.s.leaveLease(o.Lease)
		return nil, err
	}
	f.name = name
	return f, nil
}

func (sh *Share) createOnce(ctx context.Context, name string, o CreateOptions) (*File, error) {
	p, err := sh.newOpening(name, o)
	if err != nil {
		return nil, err
	}
	for {
		k, err := sh.openingCall(p)
		if err != nil {
			return nil, err
		}
		f, err := sh.createWith(ctx, k, name, p)
		k.free()
		if f != nil || err != nil {
			return f, err
		}
		if !p.persistent {
			p.renumber() // the server may have that open still
		}
	}
}

// createWith sends a CREATE. Both results are nil if the session was made anew since
// the answer, and it may be sent again.
func (sh *Share) createWith(ctx context.Context, k *call, name string, p *opening) (*File, error) {
	if err := sh.s.do(ctx, k); err != nil {
		return nil, sh.stopped(name, k, err)
	}
	m, err := smb2.ParseCreateResponse(k.msg)
	if err != nil {
		return nil, k.badBody(err)
	}
	f := newFile(sh, name, &m)
	f.lease = p.o.Lease
	if sh.s.reconnects() {
		q := *p
		if err := q.take(&m); err != nil {
			return nil, k.badBody(err)
		}
		f.opening = &q
	}
	switch {
	case sh.s.enter(k.conn, nil, f):
		return f, nil
	case k.uncertain:
		return nil, fmt.Errorf("the connection was lost when it was open: %w", ErrUncertain)
	}
	return nil, nil
}

// OpenFile opens with the flags of package os: one of O_RDONLY, O_WRONLY and
// O_RDWR, with O_CREATE, O_EXCL, O_TRUNC, O_APPEND and O_SYNC. Of perm only the
// owner's write bit has a meaning: without it a new file gets the read-only
// attribute; with Config.POSIX all have. Without O_CREATE, O_TRUNC or writing a directory is opened too.
func (sh *Share) OpenFile(ctx context.Context, name string, flag int, perm os.FileMode) (*File, error) {
	f, err := sh.create(ctx, name, openFlags(flag, perm))
	if err != nil {
		return nil, wrap("open", name, err)
	}
	f.append = flag&os.O_APPEND != 0
	return f, nil
}

// Open opens an existing file or directory for reading.
func (sh *Share) Open(ctx context.Context, name string) (*File, error) {
	return sh.OpenFile(ctx, name, os.O_RDONLY, 0)
}

// Create creates a file, or truncates it if it exists, for reading and writing.
func (sh *Share) Create(ctx context.Context, name string) (*File, error) {
	return sh.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// on opens a file, sends the request in middle about it, and closes it, all in one
// compound ([MS-SMB2] 3.2.4.1.4). middle is made with smb2.AnyFileID and may be
// nil; it is freed by the caller. The first failure is returned.
//
// While the session has several channels, or gets them, what changes something is sent in steps:
// a CREATE that is sent again finds the open that it made the first time, but only
// if nothing was done with that since ([MS-SMB2] 3.3.5.9.10), and the rest does no
// harm twice.
func (sh *Share) on(ctx context.Context, name string, o CreateOptions, middle *call) error {
	return following(name, func(to string) error { return sh.onOnce(ctx, to, o, middle) })
}

func (sh *Share) onOnce(ctx context.Context, name string, o CreateOptions, middle *call) error {
	open, err := sh.createCall(name, o)
	if err != nil {
		return err
	}
	defer open.free()
	changes := o.Disposition != OpenExisting || o.Options&OptDeleteOnClose != 0 || middle != nil && middle.cmd == smb2.CommandSetInfo
	if changes && sh.s.several() {
		return sh.stopped(name, open, sh.inSteps(ctx, open, middle))
	}
	closing := sh.call(smb2.CommandClose)
	defer closing.free()
	if err := closing.encode(&smb2.CloseRequest{FileID: smb2.AnyFileID}); err != nil {
		return err
	}
	closing.flags |= smb2.FlagRelatedOperations
	calls := []*call{open, closing}
	if middle != nil {
		middle.dropAnswer() // of the link that was followed
		middle.flags |= smb2.FlagRelatedOperations
		calls = []*call{open, middle, closing}
	}
	open.once = changes
	first, err := sh.s.doAll(ctx, calls)
	if err != nil {
		return err
	}
	if open.resp.Status == ntstatus.Success && closing.resp.Status != ntstatus.Success {
		_ = sh.closeAfter(ctx, open) // the failure before is what the caller is told
	}
	return sh.stopped(name, open, first)
}

// inSteps opens a file, sends the request in middle about it, and closes it, one
// after the other.
func (sh *Share) inSteps(ctx context.Context, open, middle *call) error {
	if err := sh.s.do(ctx, open); err != nil {
		return err
	}
	var err error
	if middle != nil {
		m, perr := smb2.ParseCreateResponse(open.msg)
		if perr != nil {
			return open.badBody(perr)
		}
		middle.setFileID(m.FileID)
		middle.session = open.conn.generation + 1
		err = sh.s.do(ctx, middle)
	}
	cerr := sh.closeAfter(ctx, open)
	if err == nil { // a deletion happens only now
		err = cerr
	}
	if errors.Is(err, errSessionChanged) {
		err = fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return err
}

// doAll sends a compound and waits for all of its answers. It returns the first
// status that is not a success, and the error with which there are no answers.
func (s *Session) doAll(ctx context.Context, calls []*call) (status, err error) {
	c := s.main()
	c.closeOrphans(ctx)
	var r retry
	closed := 0 // how often the first compound has closed what the one sent again has found
again:
	for renewed := false; ; {
		seen := s.counters.reauths.Load()
		err := c.start(ctx, calls)
		if err == nil {
			for _, k := range calls {
				if werr := c.wait(ctx, k); werr != nil && err == nil {
					err = werr
				}
			}
		}
		if err != nil {
			if next := s.failover(ctx, c, &r, calls...); next != nil {
				c = next
				continue
			}
			if r.err != nil {
				return nil, r.err
			}
			return nil, err
		}
		if calls[0].resp.Status == ntstatus.NetworkSessionExpired && !renewed {
			renewed = true
			for _, k := range calls {
				k.dropAnswer()
			}
			if err := s.reauth(ctx, seen); err != nil {
				return nil, err
			}
			continue
		}
		if s.busy(ctx, calls[0], &r) { // its CREATE: the first one is still being served
			for _, k := range calls {
				k.dropAnswer()
			}
			continue
		}
		for _, k := range calls {
			st := k.resp.Status
			switch {
			case st == ntstatus.Success || r.replays > 0 && k.repeated(st):
			case st == ntstatus.FileClosed && closed < r.replays:
				// Its CREATE has found the open of the first one, which was still being
				// served and is over now.
				closed++
				for _, k := range calls {
					k.dropAnswer()
				}
				continue again
			default:
				return st, nil
			}
		}
		return nil, nil
	}
}

// closeAfter closes what a compound has opened and not closed.
func (sh *Share) closeAfter(ctx context.Context, open *call) error {
	m, err := smb2.ParseCreateResponse(open.msg)
	if err != nil {
		return open.badBody(err)
	}
	k := sh.call(smb2.CommandClose)
	defer k.free()
	if err := k.encode(&smb2.CloseRequest{FileID: m.FileID}); err != nil {
		return err
	}
	k.session = open.conn.generation + 1
	return sh.s.do(ctx, k)
}
