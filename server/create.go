package server

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// Bits of a CREATE request that nothing may have.
const (
	// invalidAccess are the bits of [MS-FSA] 2.1.5.1 phase 1.
	invalidAccess smb2.AccessMask = 0x0CE0FE00
	// validAttributes are those of [MS-FSCC] 2.6 that a client may ask for.
	validAttributes smb2.FileAttributes = 0x00007FB7
	validShare                          = smb2.FileShareRead | smb2.FileShareWrite | smb2.FileShareDelete
	// invalidOptions are not defined; unsupportedOptions are, but not here
	// (FILE_CREATE_TREE_CONNECTION, FILE_OPEN_BY_FILE_ID, FILE_RESERVE_OPFILTER).
	invalidOptions     smb2.CreateOptions = 0xFF000000
	unsupportedOptions                    = 0x00000080 | smb2.FileOpenByFileID | smb2.FileReserveOpfilter
	// ignoredOptions are cleared, [MS-SMB2] 3.3.5.9.
	ignoredOptions = smb2.FileCompleteIfOplocked | smb2.FileSynchronousIOAlert |
		smb2.FileSynchronousIONonalert | smb2.FileOpenForFreeSpaceQuery
)

// modeOptions are the options that FileModeInformation tells, [MS-FSA] 2.1.5.1.
const modeOptions = smb2.FileWriteThrough | smb2.FileSequentialOnly | smb2.FileNoIntermediateBuffering |
	smb2.FileSynchronousIOAlert | smb2.FileSynchronousIONonalert | smb2.FileDeleteOnClose

// Rights that need a handle on the content.
const (
	needsRead  = smb2.FileReadData | smb2.FileExecute
	needsWrite = smb2.FileWriteData | smb2.FileAppendData
)

// maxOpenRetries bounds how often CREATE starts over because of renames and
// removals that happen at the same time.
const maxOpenRetries = 16

// creation is a CREATE under way.
type creation struct {
	r    *request
	req  smb2.CreateRequest
	name wireName
	ctxs createContexts
	kind vfs.Kind

	access  smb2.AccessMask // asked for, without generic bits and MAXIMUM_ALLOWED
	maximum bool            // MAXIMUM_ALLOWED was asked for
	need    smb2.AccessMask // what the disposition needs beyond access, for sharing only
	attrs   vfs.Attributes

	isLeased   bool // the file could not be opened as its lease is being broken, see awaitLease
	leaseTries int

	departedAwaited bool // see awaitDeparted

	parent       *security // of the directory, where something may be created
	mayNotCreate bool      // for want of a right in the directory
	streamOnly   bool      // of what is created: the file it belongs to was there
	compress     bool      // the directory is to be compressed, and what is created in it
	maximal      smb2.MaximalAccessResponse

	reserved bool // there is room for the open in the session that it does not take yet
	replayed bool // the open is that of an earlier CREATE, of which this one is a repetition
}

// createContexts are the create contexts of a request that matter here.
type createContexts struct {
	maxAccess, onDiskID bool
	timewarp            smb2.Filetime // the snapshot asked for; 0 without one
	allocation          uint64
	hasAllocation       bool
	lease               *smb2.Lease
	durable             durableRequest
	ea                  []byte // FILE_FULL_EA_INFORMATION list
	sd                  []byte // SECURITY_DESCRIPTOR
	posix               bool   // the open is to have the POSIX extensions
	posixMode           fs.FileMode
	hasPosixMode        bool
}

// create serves CREATE, [MS-SMB2] 3.3.5.9.
func create(ctx context.Context, r *request) ntstatus.Status {
	c := creation{r: r}
	var err error
	if c.req, err = smb2.ParseCreateRequest(r.msg); err != nil {
		return ntstatus.InvalidParameter
	}
	if !r.tree.ipc {
		if st := c.parseContexts(r.conn, r.tree); st != ntstatus.Success {
			return st
		}
		if c.ctxs.durable.reconnects() { // whatever the rest of the request says
			return c.reconnect(ctx, r)
		}
	}
	if c.req.ImpersonationLevel > smb2.ImpersonationDelegate {
		return ntstatus.BadImpersonationLevel
	}
	r.conn.awaitRenames(&r.ctx, r)
	if r.tree.ipc {
		return createPipe(r, &c.req)
	}
	if o := c.claimReplayed(r); o != nil {
		return c.attach(ctx, r, o, c.checkReplayed(r, o))
	}
	first, known, st := c.beginReplay(r)
	switch {
	case st != ntstatus.Success:
		return st
	case first != nil:
		return c.replay(ctx, r, first)
	}
	if known != nil {
		// Who sends it again must find all that it did: the loss of the connection
		// does not end it in the middle.
		defer r.makeLasting()()
	}
	var made *open
	defer func() { known.end(made) }()
	o, st := c.create(ctx, r)
	if st == ntstatus.Success {
		made = o
	}
	return st
}

// create opens the file; the open that it returns is there only with Success.
func (c *creation) create(ctx context.Context, r *request) (*open, ntstatus.Status) {
	if st := c.validate(r.tree); st != ntstatus.Success {
		return nil, st
	}
	view, st := r.tree.viewNow(ctx)
	if st != ntstatus.Success {
		return nil, st
	}
	o := &open{
		id: newFileID(), number: r.srv.lastOpen.Add(1), srv: r.srv, sess: r.sess, tree: r.tree, fs: view,
		shareAccess: c.req.ShareAccess,
		posix:       c.ctxs.posix,
		closing:     make(chan struct{}),
	}
	if o.posix {
		o.fs = posixFS(o.fs)
	}
	c.initDurable(r, o)
	if r.tree.continuous(r.conn) {
		c.req.CreateOptions |= smb2.FileWriteThrough // 3.3.5.9
	}
	if st := r.reserveOpen(); st != ntstatus.Success {
		return nil, st
	}
	over := false
	defer func() {
		if !over {
			c.abandon(o)
		}
	}()
	st = c.carryOut(ctx, r, o)
	over = true
	return o, st
}

// carryOut is create for an open that there is room for.
func (c *creation) carryOut(ctx context.Context, r *request, o *open) ntstatus.Status {
	c.reserved = true
	defer func() {
		if c.reserved {
			r.sess.opens.unreserve()
		}
	}()
	st := c.locate(ctx, o)
	if st == ntstatus.Success {
		st = c.closeOtherInstances(ctx, r, o)
	}
	if st != ntstatus.Success {
		return st
	}
	info, action, st := c.open(ctx, o)
	if st != ntstatus.Success {
		return st
	}
	o.action = action
	c.queryMaximal(ctx, o, &info)
	c.grantDurable(r, o)
	c.reserved = false
	if st := r.addOpen(o); st != ntstatus.Success {
		return st
	}
	r.announce(o)
	return c.respond(r, o, &info, action)
}

// abandon closes what the storage had opened when it panicked.
func (c *creation) abandon(o *open) {
	switch {
	case o.state != nil:
		if o.acquire() {
			o.putAway("giving a CREATE up")
		}
	case o.file != nil:
		defer o.srv.contain("giving a CREATE up")
		_ = o.file.Close()
	}
}

// replay answers a CREATE that was carried out already with the open that it made.
func (c *creation) replay(ctx context.Context, r *request, o *open) ntstatus.Status {
	defer o.release()
	info, err := o.stat(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	r.setOpen(o)
	c.queryMaximal(ctx, o, &info)
	c.replayed = true
	return c.respond(r, o, &info, o.action)
}

// reserveOpen makes room for one more open in the session; addOpen or unreserve
// follows.
func (r *request) reserveOpen() ntstatus.Status {
	if !r.sess.opens.reserve(r.srv.cfg.Limits.OpensPerSession) {
		return ntstatus.InsufficientResources
	}
	return ntstatus.Success
}

// addOpen makes the open known by its FileID, or closes it if the session or tree
// has ended meanwhile.
func (r *request) addOpen(o *open) ntstatus.Status {
	o.refs.Add(1) // ours, for shut
	defer o.release()
	o.sequence, o.firstSequence.current = &o.firstSequence, r.hdr.ChannelSequence // nobody has it yet
	if !o.sess.opens.add(o) {
		o.shut(context.Background())
		return ntstatus.UserSessionDeleted
	}
	select {
	case <-o.closing: // by somebody who has found it by its file, before it was in the set
		_, gone := o.sess.opens.remove(o)
		gone()
		return ntstatus.FileClosed
	default:
	}
	if o.tree.gone.Load() || o.sess.gone.Load() {
		o.shut(context.Background())
		return ntstatus.NetworkNameDeleted
	}
	r.setOpen(o)
	return ntstatus.Success
}

// parseContexts goes through the create contexts.
func (c *creation) parseContexts(conn *conn, t *tree) ntstatus.Status {
	x := &c.ctxs
	for cc, err := range smb2.CreateContexts(c.req.Contexts) {
		if err != nil {
			return ntstatus.InvalidParameter
		}
		if len(cc.Name) < 4 {
			return ntstatus.InvalidParameter
		}
		switch string(cc.Name) {
		case smb2.CreateContextQueryMaximalAccess:
			_, err = smb2.ParseMaximalAccessRequest(cc.Data)
			x.maxAccess = true
		case smb2.CreateContextQueryOnDiskID:
			x.onDiskID = true
		case smb2.CreateContextAllocationSize:
			var a smb2.AllocationSizeContext
			a, err = smb2.ParseAllocationSizeContext(cc.Data)
			x.allocation, x.hasAllocation = a.AllocationSize, true
		case smb2.CreateContextEABuffer:
			x.ea = cc.Data
		case smb2.CreateContextSDBuffer:
			x.sd = cc.Data
		case smb2.CreateContextPosix:
			if conn.posix && !t.share.NoPOSIXExtensions {
				err = x.parsePosix(cc.Data)
			}
		case smb2.CreateContextTimewarpToken:
			var w smb2.TimewarpToken
			w, err = smb2.ParseTimewarpToken(cc.Data)
			x.timewarp = w.Timestamp
		case smb2.CreateContextLease:
			var l smb2.Lease
			if l, err = smb2.ParseLease(cc.Data); err == nil {
				x.lease = &l
			}
		default:
			err = x.durable.parse(cc, conn.dialect)
		}
		if err != nil {
			return ntstatus.InvalidParameter
		}
	}
	return x.durable.check()
}

// validate is phase 1 of [MS-FSA] 2.1.5.1 and what [MS-SMB2] 3.3.5.9 adds to it.
func (c *creation) validate(t *tree) ntstatus.Status {
	q := &c.req
	var st ntstatus.Status
	if c.ctxs.posix {
		c.name, st = posixName(q.Name)
	} else {
		c.name, st = parseName(q.Name, false)
	}
	if st != ntstatus.Success {
		return st
	}
	access := q.DesiredAccess
	switch {
	case q.CreateDisposition > smb2.FileOverwriteIf,
		q.ShareAccess&^validShare != 0,
		q.CreateOptions&invalidOptions != 0:
		return ntstatus.InvalidParameter
	case access == 0, access&invalidAccess != 0: // comes before the attributes on Windows
		return ntstatus.AccessDenied
	case q.FileAttributes&^validAttributes != 0:
		return ntstatus.InvalidParameter
	case access&smb2.AccessSystemSecurity != 0 && !t.token().Admin:
		return ntstatus.PrivilegeNotHeld
	case q.CreateOptions&unsupportedOptions != 0:
		return ntstatus.NotSupported
	}
	q.CreateOptions &^= ignoredOptions
	dir := q.CreateOptions&smb2.FileDirectoryFile != 0
	file := q.CreateOptions&smb2.FileNonDirectoryFile != 0
	if dir && file {
		return ntstatus.InvalidParameter
	}
	if dir && q.CreateDisposition != smb2.FileCreate && q.CreateDisposition != smb2.FileOpen &&
		q.CreateDisposition != smb2.FileOpenIf {
		return ntstatus.InvalidParameter
	}
	switch {
	case c.ctxs.ea != nil && q.CreateOptions&smb2.FileNoEAKnowledge != 0:
		return ntstatus.AccessDenied
	case c.name.hasStream() && t.share.NoStreams:
		return ntstatus.ObjectNameInvalid
	case (c.name.stream != "" || c.name.dataStream) && dir:
		return ntstatus.NotADirectory
	case file && (c.name.slash || c.name.dirStream):
		return ntstatus.ObjectNameInvalid
	}
	switch {
	case dir, c.name.dirStream, c.name.slash && q.CreateDisposition != smb2.FileCreate:
		c.kind = vfs.KindDir
	case c.name.slash:
		return ntstatus.ObjectNameInvalid // a file cannot be created by this name
	case file, c.name.dataStream:
		c.kind = vfs.KindFile
	}
	if dir && q.FileAttributes&smb2.FileAttributeTemporary != 0 && q.CreateDisposition != smb2.FileOpen {
		return ntstatus.InvalidParameter // [MS-FSA] 2.1.5.1.1
	}
	c.attrs = vfs.Attributes(q.FileAttributes) & vfs.AttrMask
	if c.kind != vfs.KindDir {
		c.attrs |= vfs.AttrArchive
	}

	c.maximum = access&smb2.MaximumAllowed != 0
	c.access = (access &^ smb2.MaximumAllowed).Expand()
	if q.CreateOptions&smb2.FileNoIntermediateBuffering != 0 {
		c.access &^= smb2.FileAppendData
	}
	if q.CreateOptions&smb2.FileDeleteOnClose != 0 {
		if !c.maximum && c.access&smb2.Delete == 0 {
			return ntstatus.InvalidParameter
		}
		if t.rights()&smb2.Delete == 0 {
			return ntstatus.AccessDenied
		}
		if c.attrs&vfs.AttrReadOnly != 0 && q.CreateDisposition != smb2.FileOpen {
			return ntstatus.CannotDelete // [MS-FSA] 2.1.5.1.1
		}
	}
	switch q.CreateDisposition {
	case smb2.FileOverwrite, smb2.FileOverwriteIf:
		c.need = smb2.FileWriteData
	case smb2.FileSupersede:
		c.need = smb2.Delete
	}
	if c.access&^smb2.AccessSystemSecurity&^t.rights() != 0 || c.need != 0 && t.readOnly() ||
		q.CreateDisposition == smb2.FileCreate && t.readOnly() {
		missing := c.access&^t.rights() | c.need
		if missing == 0 {
			missing = addRight(c.kind == vfs.KindDir)
		}
		return t.refuseChange(c.name.path, missing, ntstatus.AccessDenied)
	}
	return ntstatus.Success
}

func (c *creation) overwrites() bool { return c.need != 0 }

// creates reports whether the disposition may make a new file.
func (c *creation) creates() bool {
	return c.req.CreateDisposition != smb2.FileOpen && c.req.CreateDisposition != smb2.FileOverwrite
}

// open opens the file and enters it in the table, starting over while renames
// and removals interfere.
func (c *creation) open(ctx context.Context, o *open) (vfs.Info, smb2.CreateAction, ntstatus.Status) {
	t := &o.srv.files
	caching := c.r.cachingRequest(c.req.RequestedOplockLevel, c.ctxs.lease)
	o.parentLease = caching.parent()
	if t.leaseElsewhere(&caching, o.fs, c.name.path, c.name.stream) {
		return vfs.Info{}, 0, ntstatus.InvalidParameter
	}
	for try := 0; ; try++ {
		epoch := t.begin()
		if st := c.checkParent(ctx, o); st != ntstatus.Success {
			return vfs.Info{}, 0, st
		}
		action, name, st := c.openFile(ctx, o)
		for c.isLeased && st != ntstatus.Success {
			if st = c.awaitLease(ctx, o); st != ntstatus.Success {
				break
			}
			action, name, st = c.openFile(ctx, o)
		}
		for st == ntstatus.TooManyOpenedFiles && o.srv.closeOldest() {
			// The descriptor of an open that nobody has is for one that somebody will have.
			action, name, st = c.openFile(ctx, o)
		}
		if st != ntstatus.Success {
			return vfs.Info{}, 0, st
		}
		o.name = name
		// An object just created can only have been renamed since: better an old
		// name than to create another.
		e := entry{
			need: c.need, created: action == vfs.Created, overwrites: c.overwrites() && action != vfs.Created, caching: caching,
			epoch: epoch, sure: action == vfs.Created || try == maxOpenRetries,
		}
		info, again, st := c.enter(ctx, o, action, &e)
		switch {
		case again:
			_ = o.file.Close()
			o.file = nil
			continue
		case st != ntstatus.Success:
			_ = o.file.Close()
			return info, 0, st
		}
		o.backOplock(ctx)
		o.watchLease()
		return c.finish(ctx, o, info, action)
	}
}

// enter enters the open in the table, and waits for those to give up what they cache
// who have to. again says that the name may mean another object by now.
func (c *creation) enter(ctx context.Context, o *open, action vfs.Action, e *entry) (info vfs.Info, again bool, st ntstatus.Status) {
	for {
		info, err := o.file.Stat(ctx)
		if err != nil {
			return info, false, ntstatus.FromError(err)
		}
		o.isDir = info.IsDir()
		o.isLink = info.Mode&fs.ModeSymlink != 0
		// Once it is entered, other opens of the object reach it.
		o.refs.Store(1)
		o.search.init(o.isDir)
		if o.isLink && o.posix && c.req.CreateOptions&smb2.FileOpenReparsePoint == 0 {
			return info, false, c.stopOnLink(ctx, o.fs)
		}
		if st := c.authorize(ctx, o, o.name, &info, action); st != ntstatus.Success {
			return info, false, st
		}
		if st := c.checkExisting(o, &info, action); st != ntstatus.Success {
			return info, false, st
		}
		if st := c.checkEAs(ctx, o, action); st != ntstatus.Success {
			return info, false, st
		}
		e.key = objectKey{info.ID, foldName(o.stream)}
		e.linked = info.Nlink > 1 && !o.isDir
		b := breaks{cause: c.r.conn}
		result, st, wait := o.srv.files.enter(o, e, &b)
		o.srv.sendBreaks(&b)
		if result == refused && !c.departedAwaited && (st == ntstatus.SharingViolation || st == ntstatus.DeletePending) {
			c.departedAwaited = true
			if c.r.awaitDeparted(ctx, o.srv.files.sessionsAt(e.key)) {
				return info, true, ntstatus.Success
			}
		}
		if result != mustWait {
			return info, result == stale, st
		}
		if st := c.r.await(&c.r.ctx, wait); st != ntstatus.Success {
			return info, false, st
		}
		e.again = true
	}
}

// checkParent refuses to create in a directory that is to be deleted.
func (c *creation) checkParent(ctx context.Context, o *open) ntstatus.Status {
	if o.srv.files.pendingDirs.Load() == 0 || !c.creates() || c.name.path == vfs.Root {
		return ntstatus.Success
	}
	dir, _ := vfs.Split(c.name.path)
	if info, err := o.fs.Stat(ctx, dir); err == nil && o.srv.files.isPending(info.ID, o.fs, dir) {
		return ntstatus.DeletePending
	}
	return ntstatus.Success
}

// openFile opens or creates the file in the storage. Truncation is left for
// later, when the share modes have allowed it.
func (c *creation) openFile(ctx context.Context, o *open) (vfs.Action, string, ntstatus.Status) {
	if c.name.stream != "" {
		return c.openStream(ctx, o)
	}
	opts := vfs.OpenOptions{
		Disposition:  vfs.OpenExisting,
		Kind:         c.kind,
		NoFollow:     o.posix || c.req.CreateOptions&smb2.FileOpenReparsePoint != 0,
		WriteThrough: c.req.CreateOptions&smb2.FileWriteThrough != 0,
		Attributes:   c.attrs,
		Perm:         o.tree.share.filePerm(0o666),
	}
	if c.kind == vfs.KindDir {
		opts.Perm = o.tree.share.dirPerm(0o777)
	}
	if c.ctxs.hasPosixMode {
		opts.Perm = c.ctxs.posixMode | 0o400 // not 0; setPosixMode has the last word
	}
	switch {
	case c.req.CreateDisposition == smb2.FileCreate:
		opts.Disposition = vfs.CreateNew
	case c.creates() && !o.tree.readOnly():
		opts.Disposition = vfs.OpenOrCreate
	}
	if st := c.prepareParent(ctx, o, &opts); st != ntstatus.Success {
		return 0, "", st
	}
	access := c.access
	if c.maximum {
		access |= o.tree.rights()
	}
	if access&needsRead != 0 {
		opts.Access |= vfs.AccessRead
	}
	if (access|c.need)&needsWrite != 0 || c.req.CreateDisposition == smb2.FileSupersede {
		opts.Access |= vfs.AccessWrite
	}
	if c.kind == vfs.KindDir || o.snapshot {
		opts.Access &^= vfs.AccessWrite // rights of a directory are not those of its content
	}
	must := vfs.Access(0) // what was asked for by name, and not as a maximum
	if c.access&needsRead != 0 {
		must |= vfs.AccessRead
	}
	if (c.access|c.need)&needsWrite != 0 || c.overwrites() {
		must |= vfs.AccessWrite
	}
	c.isLeased = false
	for {
		file, res, err := o.fs.Open(ctx, c.name.path, opts)
		o.file = file // which abandon looks for
		switch {
		case err == nil && c.req.CreateDisposition == smb2.FileCreate && res.Action != vfs.Created:
			_ = file.Close() // it was only looked for, as it could not have been created
			return 0, "", c.openError(ctx, o, syscall.EEXIST)
		case err == nil && o.vetoed(ctx, file):
			_ = file.Close()
			return 0, "", ntstatus.ObjectNameNotFound
		case errors.Is(err, fs.ErrNotExist) && c.mayNotCreate:
			if st := c.openError(ctx, o, err); st != ntstatus.ObjectNameNotFound {
				return 0, "", st
			}
			o.srv.denied(o, c.name.path, addRight(c.kind == vfs.KindDir))
			return 0, "", ntstatus.AccessDenied
		case err == nil:
			if c.maximum && opts.Access&vfs.AccessWrite == 0 && c.kind != vfs.KindDir {
				if info, err := file.Stat(ctx); err == nil && info.Mode.IsRegular() {
					access &^= needsWrite
				}
			}
			if c.maximum && opts.Access&vfs.AccessRead == 0 {
				access &^= needsRead
			}
			o.file, o.access = file, access
			c.setFile(o, opts)
			return res.Action, res.Name, ntstatus.Success
		case errors.Is(err, syscall.EISDIR) && c.kind == vfs.KindAny && !c.overwrites() && opts.Access&vfs.AccessWrite != 0:
			opts.Access &^= vfs.AccessWrite
		case errors.Is(err, syscall.ELOOP) && opts.NoFollow && opts.Access != 0 && !c.overwrites():
			opts.Access = 0 // a link: there is nothing to read but its target
		case errors.Is(err, vfs.ErrSpecial) && c.req.CreateOptions&smb2.FileOpenReparsePoint == 0:
			return 0, "", ntstatus.IOReparseTagNotHandled // [MS-FSA] 2.1.5.1.2: nobody here reads it
		case errors.Is(err, vfs.ErrSpecial) && !c.overwrites() && opts.Disposition != vfs.CreateNew:
			o.file, o.access = &specialFile{fs: o.fs, open: o, first: c.name.path}, access
			c.setFile(o, vfs.OpenOptions{})
			return vfs.Opened, c.name.path, ntstatus.Success
		case errors.Is(err, fs.ErrPermission) && !errors.Is(err, vfs.ErrOutside) && c.maximum && opts.Access&^must != 0:
			// Less than everything, then: first without writing, then without reading.
			if opts.Access&^must&vfs.AccessWrite != 0 {
				opts.Access &^= vfs.AccessWrite
			} else {
				opts.Access &^= vfs.AccessRead
			}
		default:
			return 0, "", c.openError(ctx, o, err)
		}
	}
}

// setFile fills in what follows from the file.
func (c *creation) setFile(o *open, opts vfs.OpenOptions) {
	o.osFiler, o.dir = nil, nil
	o.cached, _ = o.file.(vfs.CachedReader)
	if f, ok := o.file.(vfs.OSFiler); ok && opts.Access != 0 {
		o.osFiler = f
	}
	if d, ok := o.file.(vfs.Dir); ok && opts.Access&vfs.AccessRead != 0 {
		o.dir = d
	}
	o.options = c.req.CreateOptions
	o.mode.Store(uint32(c.req.CreateOptions & modeOptions))
	o.writeThrough = opts.WriteThrough
}

// openError finds the status for a name that could not be opened: the protocol
// tells more cases apart than an errno does.
func (c *creation) openError(ctx context.Context, o *open, err error) ntstatus.Status {
	switch {
	case errors.Is(err, syscall.EAGAIN):
		c.isLeased = true
		return ntstatus.SharingViolation
	case errors.Is(err, vfs.ErrOutside):
		return ntstatus.AccessDenied
	case errors.Is(err, syscall.EROFS):
		return ntstatus.MediaWriteProtected
	case errors.Is(err, syscall.EEXIST):
		if info, err := o.fs.Stat(ctx, c.name.path); err == nil && o.srv.files.isPending(info.ID, o.fs, c.name.path) {
			return ntstatus.DeletePending
		}
		return ntstatus.ObjectNameCollision
	case errors.Is(err, syscall.ELOOP) && o.posix:
		return c.stopOnLink(ctx, o.fs)
	case errors.Is(err, syscall.EISDIR):
		if c.kind == vfs.KindFile {
			return ntstatus.FileIsADirectory
		}
		if c.name.path == vfs.Root {
			return ntstatus.AccessDenied
		}
		return ntstatus.ObjectNameCollision // overwriting a directory, [MS-FSA] 2.1.5.1.2
	}
	return nameError(ctx, o.fs, c.name.path, err)
}

// nameError is the status of an error about a name: OBJECT_PATH_NOT_FOUND where
// it is the parent that is missing or no directory.
func nameError(ctx context.Context, fsys vfs.FS, name string, err error) ntstatus.Status {
	notDir := errors.Is(err, syscall.ENOTDIR)
	if !notDir && !errors.Is(err, fs.ErrNotExist) {
		return ntstatus.FromError(err)
	}
	dir, _ := vfs.Split(name)
	if info, err := fsys.Stat(ctx, dir); err != nil || !info.IsDir() {
		return ntstatus.ObjectPathNotFound
	}
	if notDir {
		return ntstatus.NotADirectory
	}
	return ntstatus.ObjectNameNotFound
}

// checkExisting applies the rules about what is there already.
func (c *creation) checkExisting(o *open, info *vfs.Info, action vfs.Action) ntstatus.Status {
	if action == vfs.Created {
		return ntstatus.Success
	}
	switch {
	case o.isDir && c.overwrites():
		if o.name == vfs.Root {
			return ntstatus.AccessDenied
		}
		return ntstatus.ObjectNameCollision
	case o.isLink && c.overwrites():
		return ntstatus.AccessDenied
	}
	if c.overwrites() && !o.isStream() {
		// [MS-FSA] 2.1.5.1.2: hidden and system files are overwritten only by those
		// who know that they are.
		mine := c.attrs
		if _, last := vfs.Split(o.name); o.tree.share.hides(last) {
			mine |= vfs.AttrHidden // by its name alone
		}
		if (info.Attributes&^mine)&(vfs.AttrHidden|vfs.AttrSystem) != 0 {
			return ntstatus.AccessDenied
		}
	}
	if info.Attributes&vfs.AttrReadOnly != 0 && !o.isDir {
		if c.access&needsWrite != 0 || c.overwrites() {
			return ntstatus.AccessDenied
		}
		if c.maximum {
			o.access &^= needsWrite
		}
		if c.req.CreateOptions&smb2.FileDeleteOnClose != 0 {
			return ntstatus.CannotDelete
		}
	}
	return ntstatus.Success
}

// finish does what remains when the open has been entered: overwriting, and the
// create contexts that change a new file. info is what the file was before that.
func (c *creation) finish(ctx context.Context, o *open, info vfs.Info, did vfs.Action) (vfs.Info, smb2.CreateAction, ntstatus.Status) {
	// What was there before goes only if all has gone well.
	deletes := c.req.CreateOptions&smb2.FileDeleteOnClose != 0
	if deletes && did == vfs.Created {
		o.setDeleteOnClose()
	}
	fail := func(st ntstatus.Status) (vfs.Info, smb2.CreateAction, ntstatus.Status) {
		o.refs.Add(1)
		o.shut(ctx)
		o.release()
		return vfs.Info{}, 0, st
	}
	if st := o.lockShareMode(ctx); st != ntstatus.Success {
		return fail(st)
	}
	action, changed := smb2.FileOpened, c.overwrites()
	switch {
	case did == vfs.Created:
		action, changed = smb2.FileCreated, c.hasContexts()
		changed = c.inheritCompression(ctx, o) || changed
		if st := c.applyContexts(ctx, o); st != ntstatus.Success {
			o.setDeleteOnClose() // it could not be made as asked for
			return fail(st)
		}
	case c.overwrites():
		action = smb2.FileOverwritten
		if c.req.CreateDisposition == smb2.FileSupersede {
			action = smb2.FileSuperseded
		}
		defer o.breakReadersBut(o.caching) // those who have come since
		if err := o.file.Truncate(ctx, 0); err != nil {
			return fail(ntstatus.FromError(err))
		}
		if o.isStream() {
			break // the attributes are the file's, which is not overwritten
		}
		if err := o.dropStreams(ctx); err != nil {
			return fail(ntstatus.FromError(err))
		}
		attrs := c.attrs &^ vfs.AttrNotContentIndexed // [MS-FSA] 2.1.5.1.2
		if err := o.file.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetAttributes, Attributes: attrs}); err != nil {
			return fail(ntstatus.FromError(err))
		}
		if c.ctxs.ea != nil {
			if st := o.setEA(ctx, c.ctxs.ea); st != ntstatus.Success {
				return fail(st)
			}
		}
		if c.ctxs.hasAllocation {
			if st := o.allocate(ctx, c.ctxs.allocation); st != ntstatus.Success {
				return fail(st)
			}
		}
	}
	if changed {
		var err error
		if info, err = o.stat(ctx); err != nil {
			return fail(ntstatus.FromError(err))
		}
	} else {
		o.present(&info)
	}
	if deletes {
		o.setDeleteOnClose()
	}
	o.opened(did, c.overwrites())
	if did == vfs.Created || c.overwrites() {
		o.changedIn(ctx)
	}
	return info, action, ntstatus.Success
}

// inheritCompression makes what was created in a directory that is to be compressed the
// same, unless the client does not want that; it reports whether it did.
func (c *creation) inheritCompression(ctx context.Context, o *open) bool {
	if !c.compress || c.req.CreateOptions&smb2.FileNoCompression != 0 || o.isStream() || o.tree.share.NoDOSAttributes {
		return false
	}
	return o.file.SetAttr(ctx, vfs.SetAttr{Set: vfs.SetCompressed, Compressed: true}) == nil
}

// hasContexts reports whether there are create contexts that change a new file.
func (c *creation) hasContexts() bool {
	return c.ctxs.ea != nil || c.ctxs.sd != nil || c.ctxs.hasAllocation || c.ctxs.hasPosixMode || c.parent != nil && c.parent.stored
}

// applyContexts applies the create contexts meant for new files: 3.3.5.9.1 to
// 3.3.5.9.3.
func (c *creation) applyContexts(ctx context.Context, o *open) ntstatus.Status {
	if c.ctxs.ea != nil {
		if st := o.setEA(ctx, c.ctxs.ea); st != ntstatus.Success {
			return st
		}
	}
	if st := c.setPosixMode(ctx, o); st != ntstatus.Success {
		return st
	}
	if st := c.newSecurity(ctx, o); st != ntstatus.Success {
		return st
	}
	if c.ctxs.hasAllocation && !o.isDir {
		return o.allocate(ctx, c.ctxs.allocation)
	}
	return ntstatus.Success
}

// respond builds the response, [MS-SMB2] 2.2.14.
func (c *creation) respond(r *request, o *open, info *vfs.Info, action smb2.CreateAction) ntstatus.Status {
	b := timesOf(info)
	resp := smb2.CreateResponse{
		OplockLevel:    smb2.OplockLevelNone,
		CreateAction:   action,
		CreationTime:   b.CreationTime,
		LastAccessTime: b.LastAccessTime,
		LastWriteTime:  b.LastWriteTime,
		ChangeTime:     b.ChangeTime,
		AllocationSize: allocationSize(info),
		EndOfFile:      uint64(info.Size),
		FileAttributes: fileAttributes(info),
		FileID:         o.id,
	}
	var err error
	if c.ctxs.maxAccess {
		m := c.maximal
		data, _ := m.AppendBinary(nil)
		if resp.Contexts, err = smb2.AppendCreateContext(resp.Contexts, smb2.CreateContextQueryMaximalAccess, data); err != nil {
			return r.appended(err)
		}
	}
	if c.replayed && c.req.RequestedOplockLevel != smb2.OplockLevelLease {
		resp.OplockLevel = c.req.RequestedOplockLevel // as from Windows and Samba
	} else if err := o.respondCaching(&resp); err != nil {
		return r.appended(err)
	}
	if o.posix {
		m := posixCreateResponse(info)
		data, _ := m.AppendBinary(nil)
		if resp.Contexts, err = smb2.AppendCreateContext(resp.Contexts, smb2.CreateContextPosix, data); err != nil {
			return r.appended(err)
		}
	}
	if c.ctxs.onDiskID {
		m := smb2.OnDiskIDResponse{DiskFileID: info.ID.Ino, VolumeID: info.ID.Dev}
		data, _ := m.AppendBinary(nil)
		if resp.Contexts, err = smb2.AppendCreateContext(resp.Contexts, smb2.CreateContextQueryOnDiskID, data); err != nil {
			return r.appended(err)
		}
	}
	if err = c.durableContexts(o, &resp); err != nil {
		return r.appended(err)
	}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}
