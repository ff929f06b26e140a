package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// opening is how a file is opened, and what is remembered of that to have the open
// again when its connection is lost.
type opening struct {
	wire string // the name as it is sent
	o    CreateOptions
	// CreateGuid, [MS-SMB2] 3.2.4.3.5: zero in dialects before 3.0.
	guid smb2.GUID
	// durable is what was asked for, and then what was granted: the version of the
	// create contexts, 0 for an open that ends with its connection.
	durable    int
	persistent bool
	leased     bool // a lease was granted, be it of nothing

	identity identity
}

// identity is what tells a file from others that have had or will have its name.
type identity struct {
	known      bool
	id, volume uint64
	born       smb2.Filetime
}

// handleName is whether a name is one that LeaseHandle is asked for: [MS-SMB2] 3.2.4.3.8
// leaves it out for named streams.
func handleName(wire string) bool { return !strings.Contains(wire, ":") }

// hiddenLease makes the lease that a durable open needs, [MS-SMB2] 3.2.4.3.5, for an
// open that was asked for without one; nil if it is not to be durable.
func (sh *Share) hiddenLease(o *CreateOptions) *Lease {
	const data = AccessReadData | AccessWriteData | AccessAppendData | AccessExecute | AccessGenericAll | AccessGenericRead |
		AccessGenericWrite | AccessGenericExecute | AccessMaximumAllowed
	if !sh.s.reconnects() || o.Lease != nil || sh.kind != smb2.ShareTypeDisk || o.Options&OptDirectory != 0 ||
		o.Access != 0 && o.Access&data == 0 {
		return nil
	}
	l := sh.NewLease(LeaseOptions{Want: LeaseRead | LeaseHandle})
	l.hidden = true
	return l
}

// newOpening decides what a CREATE asks for beside the file.
func (sh *Share) newOpening(name string, o CreateOptions) (*opening, error) {
	wire, err := wireName(name)
	if err != nil {
		return nil, err
	}
	if o.Access == 0 {
		o.Access = accessRead
	}
	if int(o.Disposition) >= len(wireDisposition) {
		return nil, ntstatus.InvalidParameter
	}
	if o.HasPerm && sh.posix() {
		o.Attributes &^= AttrReadOnly // the bits say it
	}
	p := &opening{wire: wire, o: o}
	if sh.kind != smb2.ShareTypeDisk {
		return p, nil
	}
	v3 := sh.s.dialect() >= SMB300
	if sh.s.reconnects() && o.Options&OptDirectory == 0 && (sh.continuous || o.Lease != nil && o.Lease.o.Want&LeaseHandle != 0) {
		if p.durable = 1; v3 {
			p.durable = 2
		}
		p.persistent = v3 && sh.continuous
	}
	if v3 && (p.durable == 2 || sh.s.multichannel()) {
		// By this number a server knows a CREATE again that is sent once more because a
		// channel was lost ([MS-SMB2] 3.3.5.9). It is in the request for a durable handle,
		// which is not granted without a lease.
		rand.Read(p.guid[:]) // never fails: it ends the program first
	}
	return p, nil
}

// contexts are the create contexts of the CREATE for a connection, again those of one
// that claims the open ([MS-SMB2] 3.2.4.4).
func (sh *Share) contexts(c *conn, p *opening, again *smb2.FileID) (list []byte, level smb2.OplockLevel, err error) {
	add := func(name string, m body) {
		var data []byte
		if err == nil && m != nil {
			data, err = m.AppendBinary(nil)
		}
		if err == nil {
			list, err = smb2.AppendCreateContext(list, name, data)
		}
	}
	flags := uint32(0)
	if p.persistent {
		flags = smb2.DHandleFlagPersistent
	}
	switch {
	case again != nil && p.durable == 2:
		add(smb2.CreateContextDurableHandleV2Reconn, &smb2.DurableHandleReconnectV2{FileID: *again, CreateGUID: p.guid, Flags: flags})
	case again != nil:
		add(smb2.CreateContextDurableHandleReconnect, &smb2.DurableHandleReconnect{FileID: *again})
	case p.guid != (smb2.GUID{}):
		add(smb2.CreateContextDurableHandleV2, &smb2.DurableHandleRequestV2{
			Timeout: uint32(sh.s.cfg.Reconnect.DurableTimeout / time.Millisecond), Flags: flags, CreateGUID: p.guid})
	case p.durable == 1:
		add(smb2.CreateContextDurableHandle, &smb2.DurableHandleRequest{})
	}
	if again == nil && sh.s.reconnects() && sh.kind == smb2.ShareTypeDisk {
		add(smb2.CreateContextQueryOnDiskID, nil)
	}
	if again == nil && err == nil {
		list, err = sh.posixContext(list, &p.o)
	}
	if again == nil && err == nil {
		list, err = snapshotContext(list, p.o.Snapshot)
	}
	if l := p.o.Lease; l != nil && err == nil && (again == nil || p.leased) {
		var asked bool
		drop := LeaseState(0)
		if p.o.Options&OptDirectory != 0 {
			drop |= LeaseWrite
		}
		if !handleName(p.wire) {
			drop |= LeaseHandle
		}
		if list, asked, err = sh.s.leaseContext(list, l, drop, again != nil, c.leaseVersion()); asked {
			level = smb2.OplockLevelLease
		}
	}
	return list, level, err
}

// encodeCreate writes the CREATE for a connection.
func (sh *Share) encodeCreate(k *call, c *conn, p *opening, again *smb2.FileID) error {
	contexts, level, err := sh.contexts(c, p, again)
	if err != nil {
		return err
	}
	share := p.o.Share & ShareAll
	if p.o.Share == 0 {
		share = ShareAll
	}
	if k.lease = p.o.Lease; level != smb2.OplockLevelLease {
		k.lease = nil
	}
	k.opening = p
	return k.encode(&smb2.CreateRequest{
		RequestedOplockLevel: level,
		ImpersonationLevel:   smb2.ImpersonationImpersonation,
		DesiredAccess:        smb2.AccessMask(p.o.Access),
		FileAttributes:       smb2.FileAttributes(p.o.Attributes),
		ShareAccess:          smb2.ShareAccess(share),
		CreateDisposition:    wireDisposition[p.o.Disposition],
		CreateOptions:        smb2.CreateOptions(p.o.Options),
		Name:                 smb2.EncodeUTF16(p.wire),
		Contexts:             contexts,
	})
}

// rename gives the CREATE another CreateGuid, for a session that was made anew: the server
// may have the open of the first one still, and there are no two with the same.
func (p *opening) rename(k *call) {
	at := bytes.Index(k.buf, p.guid[:])
	if p.renumber(); at >= 0 && p.guid != (smb2.GUID{}) {
		copy(k.buf[at:], p.guid[:])
	}
}

// renumber makes a new CreateGuid if there is one.
func (p *opening) renumber() {
	if p.guid != (smb2.GUID{}) {
		rand.Read(p.guid[:]) // never fails: it ends the program first
	}
}

// take notes what the answer to the CREATE grants.
func (p *opening) take(m *smb2.CreateResponse) error {
	durable := 0
	p.leased = false
	for c, err := range smb2.CreateContexts(m.Contexts) {
		if err != nil {
			return err
		}
		switch string(c.Name) {
		case smb2.CreateContextDurableHandle:
			if _, err := smb2.ParseDurableHandleResponse(c.Data); err != nil {
				return err
			}
			durable = 1
		case smb2.CreateContextDurableHandleV2:
			g, err := smb2.ParseDurableHandleResponseV2(c.Data)
			if err != nil {
				return err
			}
			durable = 2
			p.persistent = p.persistent && g.Flags&smb2.DHandleFlagPersistent != 0
		case smb2.CreateContextLease:
			p.leased = true
		case smb2.CreateContextQueryOnDiskID:
			d, err := smb2.ParseOnDiskIDResponse(c.Data)
			if err != nil {
				return err
			}
			p.identity = identity{known: d.DiskFileID != 0 && m.CreationTime != 0, id: d.DiskFileID, volume: d.VolumeID, born: m.CreationTime}
		}
	}
	if p.durable != durable { // what was not asked for does not count
		p.durable = 0
	}
	p.persistent = p.persistent && p.durable == 2
	return nil
}

// recovery is what became of an open.
type recovery uint8

const (
	notYet recovery = iota
	wasClaimed
	wasReopened
	wasLost
)

const (
	// recoverers is how many opens are had again at a time.
	recoverers = 16
	// recoverPatience is how long a server may say that the old connection still has
	// an open.
	recoverPatience = 10 * time.Second
	recoverPause    = 100 * time.Millisecond
)

// recover gets the session's opens again. An error says that the connection is lost.
func (s *Session) recover(ctx context.Context, c *conn, files []*File, e *ReconnectEvent) error {
	results := make([]recovery, len(files))
	each := func(step func(f *File) recovery) error {
		var g errgroup.Group
		g.SetLimit(recoverers)
		for i, f := range files {
			if results[i] == notYet {
				g.Go(func() error {
					results[i] = step(f)
					if ctx.Err() != nil {
						return context.Cause(ctx)
					}
					return c.failed()
				})
			}
		}
		return g.Wait()
	}
	// Those that the server has kept come first: they tell which leases it has kept.
	if err := each(func(f *File) recovery { return s.claim(ctx, c, f) }); err != nil {
		return err
	}
	kept := make(map[*Lease]bool)
	for i, f := range files {
		kept[f.lease] = kept[f.lease] || results[i] == wasClaimed
	}
	s.loseLeases(kept)
	if err := each(func(f *File) recovery { return s.reopen(ctx, c, f) }); err != nil {
		return err
	}
	for _, how := range results {
		switch how {
		case wasClaimed:
			e.Reclaimed++
		case wasReopened:
			e.Reopened++
		default:
			e.Stale++
		}
	}
	return nil
}

// claim asks for an open that the server has kept.
func (s *Session) claim(ctx context.Context, c *conn, f *File) recovery {
	f.mu.Lock()
	p, id := f.opening, f.id
	if p != nil {
		q := *p // the name may change meanwhile
		p = &q
	}
	f.mu.Unlock()
	if p == nil || p.durable == 0 || f.sh.lostErr() != nil {
		return notYet
	}
	m, err := s.createAgain(ctx, c, f.sh, p, &id)
	if err != nil {
		s.cfg.Logger.Debug("open not kept", "server", s.server, "file", f.name, "err", err)
		return notYet
	}
	f.mu.Lock()
	f.id, f.lost = m.FileID, nil
	f.mu.Unlock()
	return wasClaimed
}

// reopen opens a file again by its name, where that is allowed and it is the same.
func (s *Session) reopen(ctx context.Context, c *conn, f *File) recovery {
	err := s.reopenSame(ctx, c, f)
	if err == nil {
		return wasReopened
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = fmt.Errorf("%w: %w", ErrStale, err)
	return wasLost
}

var (
	errClosing     = errors.New("it was being closed")
	errNotReopened = errors.New("the server did not keep it, and it may not be opened by its name")
	errOtherFile   = errors.New("another file has its name, or may have")
)

func (s *Session) reopenSame(ctx context.Context, c *conn, f *File) error {
	if err := f.sh.lostErr(); err != nil {
		return err
	}
	f.mu.Lock()
	var q opening
	if f.opening != nil {
		q = *f.opening
	}
	closed := f.closed
	f.mu.Unlock()
	policy := s.cfg.Reconnect.Reopen
	switch {
	case closed:
		return errClosing
	case policy == ReopenNever && !f.dir, q.o.Options&OptDeleteOnClose != 0, f.sh.kind != smb2.ShareTypeDisk:
		return errNotReopened
	case !q.identity.known:
		return errOtherFile
	}
	was := q.identity
	q.o.Disposition = OpenExisting
	q.o.Options &^= OptDeleteOnClose
	q.renumber()
	if q.durable = 0; !f.dir && q.o.Lease != nil {
		if q.durable = 1; c.neg.dialect >= SMB300 {
			q.durable = 2
		}
	}
	m, err := s.createAgain(ctx, c, f.sh, &q, nil)
	if err != nil {
		return err
	}
	if err := q.take(m); err != nil {
		return c.badBody(smb2.CommandCreate, err)
	}
	if q.identity != was {
		s.closeAgain(ctx, c, f.sh, m.FileID)
		return errOtherFile
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id, f.lost, f.opening = m.FileID, nil, &q
	f.locksLost = f.locksLost || f.locks > 0
	if policy != ReopenSameTrusting && f.changes.Load() != f.synced.Load() {
		f.doubt = true
	}
	return nil
}

// createAgain sends a CREATE on a connection that is not the session's yet, and waits
// while the server says that an open has not left its old connection.
func (s *Session) createAgain(ctx context.Context, c *conn, sh *Share, p *opening, again *smb2.FileID) (*smb2.CreateResponse, error) {
	limit := time.Now().Add(recoverPatience)
	for {
		m, err := s.createAgainOnce(ctx, c, sh, p, again)
		if !errors.Is(err, ntstatus.FileNotAvailable) && !errors.Is(err, ntstatus.SharingViolation) || time.Now().After(limit) {
			return m, err
		}
		t := time.NewTimer(recoverPause)
		select {
		case <-t.C:
		case <-c.failedCh:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil || c.failed() != nil {
			return nil, err
		}
	}
}

func (s *Session) createAgainOnce(ctx context.Context, c *conn, sh *Share, p *opening, again *smb2.FileID) (*smb2.CreateResponse, error) {
	k := sh.call(smb2.CommandCreate)
	defer k.free()
	k.stay = true
	if err := sh.encodeCreate(k, c, p, again); err != nil {
		return nil, err
	}
	if err := s.doNew(ctx, c, k); err != nil {
		return nil, err
	}
	m, err := smb2.ParseCreateResponse(k.msg)
	if err != nil {
		return nil, k.badBody(err)
	}
	m.Contexts = slices.Clone(m.Contexts)
	return &m, nil
}

// doNew is doOn for a connection that is not the session's yet. One that does not answer in
// time is lost, and nothing that it was asked for.
func (s *Session) doNew(ctx context.Context, c *conn, k *call) error {
	short, cancel := context.WithTimeout(ctx, s.cfg.Reconnect.DialTimeout)
	defer cancel()
	err := s.doOn(short, c, k)
	if short.Err() != nil && ctx.Err() == nil && k.gone {
		return c.fail(fmt.Errorf("%v: no answer within %v: %w", k.cmd, s.cfg.Reconnect.DialTimeout, os.ErrDeadlineExceeded))
	}
	return err
}

// closeAgain closes what was opened for nothing.
func (s *Session) closeAgain(ctx context.Context, c *conn, sh *Share, id smb2.FileID) {
	k := sh.call(smb2.CommandClose)
	defer k.free()
	k.stay, k.session = true, c.generation+1
	err := k.encode(&smb2.CloseRequest{FileID: id})
	if err == nil {
		err = s.doNew(ctx, c, k)
	}
	if err != nil {
		s.cfg.Logger.Debug("close", "server", s.server, "err", err)
	}
}

// current is the FileId for a request, also while the file is being closed.
func (f *File) current(cmd smb2.Command) (smb2.FileID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.lost != nil:
		return smb2.FileID{}, f.lost
	case f.locksLost && (cmd == smb2.CommandRead || cmd == smb2.CommandWrite || cmd == smb2.CommandLock):
		return smb2.FileID{}, ErrLocksLost
	}
	return f.id, nil
}

// Moved tells by which name the file is to be had again when its connection is lost, if
// it was renamed by other means than [File.Rename].
func (f *File) Moved(name string) error {
	wire, err := wireName(name)
	if err != nil {
		return wrap("move", f.name, err)
	}
	f.moved(wire)
	return nil
}

func (f *File) moved(wire string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opening != nil {
		p := *f.opening
		p.wire = wire
		f.opening = &p
	}
}
