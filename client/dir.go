package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// listing is the position in a directory.
type listing struct {
	mu      sync.Mutex // held while a ReadDir is under way
	started bool       // guarded by mu
	done    bool       // guarded by mu
	rest    []fs.DirEntry
	// seen are the names so far, kept where the listing may have to start again
	// because an answer was lost with its channel. guarded by mu
	seen map[string]struct{}
	// idle counts the entries that were no news since the listing has started: those for
	// the directory itself and the one above, and with seen what came before. guarded by mu
	idle  int
	round uint64 // of reconnects, each of which starts it again; guarded by mu
	// lean: only what io/fs knows is asked for, as long as there are no reparse points,
	// whose kind is not in that. guarded by mu
	lean bool
	// next is the request after the one whose answer is read, which is sent before that
	// is done; nil without. guarded by mu, and nil while nobody holds it
	next *call
}

// maxIdle is how many of those a listing may have beside what it repeats.
const maxIdle = 16

const (
	// listClass has all that FileInfo has but the number of links, which the class of the
	// POSIX extensions has too.
	listClass = smb2.ClassFileIDFullDirectoryInformation
	// leanClass lacks the identity, and the tag of reparse points: for that the other has
	// the size of the extended attributes, which servers look for in each file.
	leanClass = smb2.ClassFileDirectoryInformation
)

func (sh *Share) classOfLists(lean bool) smb2.FileInfoClass {
	switch {
	case sh.posix():
		return smb2.ClassFilePosixInformation
	case lean:
		return leanClass
	}
	return listClass
}

// entriesAtOnce is how many FileInfos of a listing are allocated together. One that is
// kept for long keeps its neighbours: some 8 KiB.
const entriesAtOnce = 64

// listed yields the entries in an answer of that class.
func listed(b []byte, class smb2.FileInfoClass) iter.Seq2[*FileInfo, error] {
	return func(yield func(*FileInfo, error) bool) {
		var room []FileInfo
		most := len(b)/minEntry + 1 // entries that there can be
		next := func() *FileInfo {
			if len(room) == 0 {
				room = make([]FileInfo, min(entriesAtOnce, max(most, 1)))
			}
			fi := &room[0]
			room = room[1:]
			most--
			return fi
		}
		if class == smb2.ClassFilePosixInformation {
			for e, err := range smb2.PosixEntries(b) {
				fi := next()
				infoOfPosix(fi, e.FileName, &e.FilePosixInformation)
				if !yield(fi, err) || err != nil {
					return
				}
			}
			return
		}
		for e, err := range smb2.DirectoryEntries(b, class) {
			fi := next()
			infoOfEntry(fi, &e)
			if !yield(fi, err) || err != nil {
				return
			}
		}
	}
}

// minEntry is the least that an entry takes of an answer, in bytes.
const minEntry = 64

// Rewind moves the directory position to the start: the next ReadDir lists anew.
func (f *File) Rewind() {
	l := &f.listing
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started, l.done, l.rest, l.seen = false, false, nil, nil
}

// ReadDir implements fs.ReadDirFile: up to n entries from the directory position,
// in the server's order, without "." and "..", and io.EOF at the end; for n <= 0
// all that are left, up to 4,194,304, without io.EOF. The entries are *FileInfo.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	return f.ReadDirContext(context.Background(), n)
}

// ReadDirContext is ReadDir with a context.
func (f *File) ReadDirContext(ctx context.Context, n int) ([]fs.DirEntry, error) {
	l := &f.listing
	l.mu.Lock()
	defer l.mu.Unlock()
	defer f.settle(ctx, l)
	for !l.done && (n <= 0 || len(l.rest) < n) {
		if len(l.rest) > maxListing { // only for n <= 0, or n beyond all reason
			return nil, wrap("readdir", f.name, fmt.Errorf("more than %d entries, which are to be read in parts: %w",
				maxListing, ntstatus.InsufficientResources))
		}
		if err := f.readMore(ctx, l, n <= 0); err != nil {
			if n <= 0 && len(l.rest) > 0 { // what there is comes with the error
				es := l.rest
				l.rest = nil
				return es, wrap("readdir", f.name, err)
			}
			return nil, wrap("readdir", f.name, err)
		}
	}
	if n <= 0 {
		es := l.rest
		l.rest = nil
		if es == nil {
			es = []fs.DirEntry{}
		}
		return es, nil
	}
	if len(l.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(l.rest))
	es := slices.Clone(l.rest[:n])
	l.rest = l.rest[n:]
	return es, nil
}

// maxListing bounds what is kept of a directory in one piece, as its end is the server's
// to tell.
const maxListing = 4 << 20

// listCall makes the QUERY_DIRECTORY that comes next in a listing.
func (f *File) listCall(l *listing, id smb2.FileID) (*call, error) {
	k := f.call(smb2.CommandQueryDirectory)
	req := smb2.QueryDirectoryRequest{
		FileInformationClass: f.sh.classOfLists(l.lean), FileID: id,
		FileName: starPattern, OutputBufferLength: uint32(f.sh.s.maxAnswer()),
	}
	if !l.started {
		req.Flags, l.idle = smb2.QueryDirectoryRestartScans, 0
	}
	if err := k.encode(&req); err != nil {
		k.free()
		return nil, err
	}
	k.once = true // the server's position has moved on
	return k, nil
}

// again reports whether an answer that is lost must not end the listing.
func (s *Session) again() bool { return s.multichannel() || s.reconnects() }

// readMore appends the entries of one QUERY_DIRECTORY. all says that the caller will want
// those that follow too. Called with l.mu held.
func (f *File) readMore(ctx context.Context, l *listing, all bool) error {
	id, err := f.handle()
	if err != nil {
		return err
	}
	s := f.sh.s
	if l.seen == nil && s.again() {
		l.seen = make(map[string]struct{})
	}
	k, ahead := l.next, l.next != nil
	if l.next = nil; !ahead {
		if k, err = f.listCall(l, id); err != nil {
			return err
		}
	}
	defer k.free()
	if ahead {
		if err = k.conn.wait(ctx, k); err == nil {
			err = k.resp.Status.Err()
		}
		if ahead = !errors.Is(err, ntstatus.NetworkSessionExpired); !ahead {
			k.dropAnswer()
		}
	}
	if !ahead {
		err = s.do(ctx, k)
	}
	if err != nil && l.seen != nil && s.survives(ctx, k) {
		l.started = false
		return nil
	}
	if err == nil && all && !s.again() {
		// The server goes on while this is read. Without it the listing goes on slower.
		l.started = true
		if next, err := f.listCall(l, id); err == nil {
			if s.main().start(ctx, next.self[:]) == nil {
				l.next = next
			} else {
				next.free()
			}
		}
	}
	if err = f.absorb(l, k, err); err != nil && l.seen != nil {
		l.started = false // the server may have gone on: who asks again shall miss nothing
	}
	if !l.started {
		f.settle(ctx, l) // what comes after what was dropped
	}
	return err
}

// settle waits for the answer to what was asked ahead and is not wanted any more.
func (f *File) settle(ctx context.Context, l *listing) {
	if k := l.next; k != nil {
		l.next = nil
		_ = k.conn.wait(ctx, k)
		k.free()
	}
}

// absorb appends the entries in the answer to a QUERY_DIRECTORY, err if it is none.
// Called with l.mu held.
func (f *File) absorb(l *listing, k *call, err error) error {
	s := f.sh.s
	switch {
	case errors.Is(err, ntstatus.NoMoreFiles), errors.Is(err, ntstatus.NoSuchFile) && !l.started:
		l.done = true
		return nil
	case errors.Is(err, ntstatus.InvalidParameter) && !f.dir && !l.started:
		return ntstatus.NotADirectory // how servers say that of QUERY_DIRECTORY
	case err != nil:
		return err
	}
	l.started = true
	if n := s.counters.reconnects.Load(); n != l.round {
		l.round, l.idle = n, 0
	}
	m, err := smb2.ParseQueryDirectoryResponse(k.msg)
	if err != nil {
		return k.badBody(err)
	}
	if len(m.OutputBuffer) > s.maxAnswer() {
		return k.protocolError("3.2.5.16", "%d bytes of entries, %d asked for", len(m.OutputBuffer), s.maxAnswer())
	}
	if len(m.OutputBuffer) == 0 { // would go on for ever
		return k.protocolError("3.2.5.16", "an empty part of a directory")
	}
	for fi, err := range listed(m.OutputBuffer, f.sh.classOfLists(l.lean)) {
		if err != nil {
			return k.badBody(err)
		}
		if l.idle > len(l.seen)+maxIdle { // would go on for ever too
			return k.protocolError("3.2.5.16", "a directory that lists the same again and again")
		}
		switch {
		case fi.name == "." || fi.name == "..":
			l.idle++
			continue
		case !isElement(fi.name):
			// Callers make paths of these, also local ones.
			return k.protocolError("3.2.5.16", "a directory lists the name %q", fi.name)
		case l.lean && fi.attr&AttrReparsePoint != 0 && !f.sh.posix():
			// From the start, with the tags: nobody has had any of it.
			l.lean, l.started, l.rest, l.seen = false, false, nil, nil
			return nil
		}
		if l.seen != nil {
			if _, again := l.seen[fi.name]; again {
				l.idle++
				continue
			}
			if len(l.seen) < maxListing {
				l.seen[fi.name] = struct{}{}
			} else {
				l.seen = nil // who reads in parts goes on; an answer that is lost ends it
			}
		}
		l.rest = append(l.rest, fi)
	}
	return nil
}

// isElement reports whether a server's name can be an element of a path.
func isElement(name string) bool {
	for i := range len(name) {
		if c := name[i]; c == '/' || c == '\\' || c == 0 {
			return false
		}
	}
	return name != ""
}

var starPattern = smb2.EncodeUTF16("*")

// ReadDir lists a directory, sorted by name. The entries are *FileInfo, without the
// FileID, which File.ReadDir gives too: it is dearer for many servers. After an
// error in the middle it returns those that it has too. A small directory takes two
// round trips.
func (sh *Share) ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	f, err := sh.openList(ctx, name, CreateOptions{}, true)
	if err != nil {
		return nil, wrap("readdir", name, err)
	}
	es, err := f.ReadDirContext(ctx, -1)
	slices.SortFunc(es, func(a, b fs.DirEntry) int { return strings.Compare(a.(*FileInfo).name, b.(*FileInfo).name) })
	return es, errors.Join(err, f.Close())
}

// OpenDir opens a directory as o says, and reads the beginning of its listing, or all of a
// small one, in the same round trip: the first ReadDir answers from that. A zero Access is
// what listing needs. Else it is CreateFile.
func (sh *Share) OpenDir(ctx context.Context, name string, o CreateOptions) (*File, error) {
	f, err := sh.openList(ctx, name, o, false)
	return f, wrap("open", name, err)
}

// openList is OpenDir; lean says that the listing may be a lean one.
func (sh *Share) openList(ctx context.Context, name string, o CreateOptions, lean bool) (f *File, err error) {
	if o.Access == 0 {
		o.Access = AccessReadData | AccessReadAttributes | AccessSynchronize
	}
	o.Options |= OptDirectory
	if sh.s.multichannel() { // an answer may be lost with its channel
		if f, err = sh.create(ctx, name, o); err == nil {
			f.listing.lean = lean
		}
		return f, err
	}
	return sh.createAs(ctx, name, o, func(to string, o CreateOptions) (*File, error) {
		f, err := sh.openListOnce(ctx, to, o, lean)
		if f == nil && err == nil { // that is lost
			if f, err = sh.createOnce(ctx, to, o); err == nil {
				f.listing.lean = lean
			}
		}
		return f, err
	})
}

// openListOnce is openList of a name. Both results are nil if the connection was lost, and
// the directory may be opened again, or if there are too few credits for all at once.
func (sh *Share) openListOnce(ctx context.Context, name string, o CreateOptions, lean bool) (*File, error) {
	p, err := sh.newOpening(name, o)
	if err != nil {
		return nil, err
	}
	p.durable, p.persistent = 0, false
	open, err := sh.openingCall(p)
	if err != nil {
		return nil, err
	}
	defer open.free()
	f := &File{sh: sh, listing: listing{lean: lean}}
	l := &f.listing
	calls := []*call{open}
	for range 2 { // the second is told of the end, mostly
		k, err := f.listCall(l, smb2.AnyFileID)
		if err != nil {
			return nil, err
		}
		defer k.free()
		k.file, k.flags = nil, k.flags|smb2.FlagRelatedOperations
		calls = append(calls, k)
		l.started = true
	}
	status, err := sh.s.doAll(ctx, calls)
	switch {
	case errors.Is(err, errTooFewCredits):
		return nil, nil
	case err != nil:
		open.disown()
		// What never left has been waited with for another connection already.
		if sh.s.reconnects() && ctx.Err() == nil && open.conn != nil && open.conn.failed() != nil && calls[1].left {
			return nil, nil
		}
		return nil, err
	case open.resp.Status != ntstatus.Success:
		return nil, sh.stopped(name, open, status)
	}
	m, err := smb2.ParseCreateResponse(open.msg)
	if err != nil {
		return nil, open.badBody(err)
	}
	f = newFile(sh, name, &m)
	f.lease = o.Lease
	if sh.s.reconnects() {
		if err := p.take(&m); err != nil {
			return nil, open.badBody(err)
		}
		f.opening = p
	}
	if !sh.s.enter(open.conn, nil, f) {
		return nil, nil
	}
	l = &f.listing
	l.lean = lean
	for _, k := range calls[1:] {
		st := k.resp.Status
		if st != ntstatus.Success && st != ntstatus.NoMoreFiles && (st != ntstatus.NoSuchFile || l.started) {
			break // it will be so again, or be asked for where there is more room for the answer
		}
		if err := f.absorb(l, k, st.Err()); err != nil {
			sh.s.leave(nil, f)
			return nil, err // the connection has failed
		}
		if l.done || !l.started {
			break
		}
	}
	if l.started && !l.done && sh.s.again() {
		l.seen = make(map[string]struct{}, len(l.rest))
		for _, e := range l.rest {
			l.seen[e.Name()] = struct{}{}
		}
	}
	return f, nil
}

// WalkDir walks the tree at root as fs.WalkDir does, in lexical order, with
// forward slashes in the paths. It does not follow symbolic links.
func (sh *Share) WalkDir(ctx context.Context, root string, fn fs.WalkDirFunc) error {
	name, err := clean(root)
	if err != nil {
		return wrap("walk", root, err)
	}
	return fs.WalkDir(&shareFS{sh: sh, ctx: ctx}, name, fn)
}
