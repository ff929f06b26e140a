package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/memory"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// Bits of the second input of FuzzMessages: what the messages come upon.
const (
	fuzzRDMA   = 1 << iota // a connection with RDMA
	fuzzPosix              // a client with the POSIX extensions of 3.1.1, in the place of 3.0.2
	fuzzRAM                // storage in memory, which has every power
	fuzzLocal              // a share whose locks and oplocks local processes see
	fuzzStrict             // persistent opens, snapshots, names that do not exist for clients
)

// FuzzMessages sends what it is given to a client's session: each message, and each
// request of a compound, gets the ids and credits that let it through to the handlers,
// the rest of it is the fuzzer's. Whatever comes, another client must be served as
// before, nothing may leave the share, and Close must find everything given back.
//
// Input: messages, each with its length in two octets before it. For one of length 0 the
// connection is lost, and the client comes again.
func FuzzMessages(f *testing.F) {
	request := func(c smb2.Command, b body, flags smb2.Flags) []byte {
		h := smb2.Header{Command: c, CreditCharge: 1, Credits: 10, Flags: flags}
		out, err := b.AppendBinary(h.Append(nil))
		if err != nil {
			f.Fatal(err)
		}
		return out
	}
	seed := func(modes []byte, messages ...[]byte) {
		var in []byte
		for _, m := range messages {
			in = append(binary.LittleEndian.AppendUint16(in, uint16(len(m))), m...)
		}
		for _, mode := range modes {
			f.Add(in, mode)
		}
	}
	// add is for messages of one request each.
	add := func(ms ...any) {
		var out [][]byte
		for i := 0; i < len(ms); i += 2 {
			out = append(out, request(ms[i].(smb2.Command), ms[i+1].(body), 0))
		}
		seed([]byte{0, fuzzRDMA}, out...)
	}
	// chain is a compound whose requests are about what the first of them opens.
	chain := func(ms ...any) []byte {
		var out []byte
		for i := 0; i < len(ms); i += 2 {
			flags := smb2.Flags(0)
			if i > 0 {
				flags = smb2.FlagRelatedOperations
			}
			m := request(ms[i].(smb2.Command), ms[i+1].(body), flags)
			if i+2 < len(ms) {
				m = append(m, make([]byte, -len(m)&7)...)
				binary.LittleEndian.PutUint32(m[20:], uint32(len(m)))
			}
			out = append(out, m...)
		}
		return out
	}
	any := smb2.AnyFileID
	add(smb2.CommandEcho, &smb2.EchoRequest{})
	add(smb2.CommandRead, &smb2.ReadRequest{FileID: any, Length: 10, Channel: 2, ChannelInfo: make([]byte, 16)},
		smb2.CommandWrite, &smb2.WriteRequest{FileID: any, RemainingBytes: 3, Channel: 2, ChannelInfo: make([]byte, 32)},
		smb2.CommandWrite, &smb2.WriteRequest{FileID: any, Data: []byte("abc"), Offset: 5})
	add(smb2.CommandCreate, createRequest("f", smb2.FileOpenIf), smb2.CommandFlush, &smb2.FlushRequest{FileID: any})
	add(smb2.CommandLock, &smb2.LockRequest{FileID: any, Locks: []smb2.LockElement{{Length: 1, Flags: smb2.LockFlagExclusiveLock}}},
		smb2.CommandCancel, &smb2.CancelRequest{})
	add(smb2.CommandIoctl, &smb2.IoctlRequest{FileID: any, CtlCode: smb2.FsctlQueryNetworkInterfaceInfo, Flags: 1, MaxOutputResponse: 1000})
	add(smb2.CommandQueryInfo, &smb2.QueryInfoRequest{FileID: any, InfoType: smb2.InfoFile, FileInfoClass: 18, OutputBufferLength: 1000})
	add(smb2.CommandSetInfo, &smb2.SetInfoRequest{FileID: any, InfoType: smb2.InfoFile, FileInfoClass: 20, Buffer: make([]byte, 8)})
	add(smb2.CommandQueryDirectory, &smb2.QueryDirectoryRequest{FileID: any, FileInformationClass: 37, OutputBufferLength: 1000, FileName: smb2.EncodeUTF16("*")})
	add(smb2.CommandChangeNotify, &smb2.ChangeNotifyRequest{FileID: any, OutputBufferLength: 100, CompletionFilter: 3})
	add(smb2.CommandSessionSetup, &smb2.SessionSetupRequest{SecurityMode: 1, SecurityBuffer: []byte("NTLMSSP\x00")})
	add(smb2.CommandTreeConnect, &smb2.TreeConnectRequest{Path: smb2.EncodeUTF16(`\\a\ipc$`)}, smb2.CommandClose, &smb2.CloseRequest{FileID: any})
	again := smb2.DurableHandleReconnectV2{CreateGUID: smb2.GUID{1}}
	add(smb2.CommandCreate, durable2(f, leased(f, createRequest("g", smb2.FileOpenIf), 2, 1, cacheRWH), 1, 1),
		smb2.CommandIoctl, &smb2.IoctlRequest{FileID: any, CtlCode: smb2.FsctlLMRRequestResiliency, Flags: 1, Input: make([]byte, 8)},
		smb2.CommandCreate, reconnect2(f, "g", again), smb2.CommandLogoff, &smb2.LogoffRequest{})
	add(smb2.CommandCreate, durable1(f, oplocked(createRequest("g", smb2.FileOpenIf), smb2.OplockLevelBatch)),
		smb2.CommandCreate, withContext(f, createRequest("g", smb2.FileOpen), smb2.CreateContextAppInstanceID, &smb2.AppInstanceIDContext{AppInstanceID: smb2.GUID{1}}),
		smb2.CommandCreate, reconnect1(f, "g", any))
	to, _ := (&smb2.FileRenameInformation{FileName: ":t", ReplaceIfExists: true}).AppendBinary(nil)
	add(smb2.CommandCreate, createRequest("f:s", smb2.FileOpenIf), smb2.CommandWrite, &smb2.WriteRequest{FileID: any, Data: []byte("abc")},
		smb2.CommandSetInfo, &smb2.SetInfoRequest{FileID: any, InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileRenameInformation), Buffer: to},
		smb2.CommandQueryInfo, &smb2.QueryInfoRequest{FileID: any, InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileStreamInformation), OutputBufferLength: 1000})
	link, _ := (&smb2.SymbolicLinkReparseBuffer{SubstituteName: `..\x`, PrintName: "x", Flags: smb2.SymlinkFlagRelative}).AppendBinary(nil)
	add(smb2.CommandCreate, createRequest("l", smb2.FileCreate),
		smb2.CommandIoctl, &smb2.IoctlRequest{FileID: any, CtlCode: smb2.FsctlSetReparsePoint, Flags: 1, Input: link},
		smb2.CommandIoctl, &smb2.IoctlRequest{FileID: any, CtlCode: smb2.FsctlDeleteReparsePoint, Flags: 1, Input: link[:8]},
		smb2.CommandCreate, createRequest(`l\x`, smb2.FileOpen))
	region, _ := (&smb2.FileRegion{Length: 10, Usage: smb2.FileRegionValidCached}).AppendBinary(nil)
	dup, _ := (&smb2.DuplicateExtentsData{SourceFileID: any, ByteCount: 50}).AppendBinary(nil)
	add(smb2.CommandIoctl, &smb2.IoctlRequest{FileID: any, CtlCode: smb2.FsctlQueryFileRegions, Flags: 1, Input: region, MaxOutputResponse: 100},
		smb2.CommandIoctl, &smb2.IoctlRequest{FileID: any, CtlCode: smb2.FsctlDuplicateExtentsToFile, Flags: 1, Input: dup},
		smb2.CommandIoctl, &smb2.IoctlRequest{FileID: any, CtlCode: smb2.FsctlSetCompression, Flags: 1, Input: []byte{1, 0}})
	add(smb2.CommandCreate, withContext(f, createRequest("e", smb2.FileOverwriteIf), smb2.CreateContextEABuffer, rawContext(eaList("name", "value"))),
		smb2.CommandSetInfo, &smb2.SetInfoRequest{FileID: any, InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileFullEaInformation), Buffer: eaList("NAME", "")},
		smb2.CommandCreate, withContext(f, createRequest("f", smb2.FileOpen), smb2.CreateContextTimewarpToken, &smb2.TimewarpToken{Timestamp: 1}))
	fuzzChains(f, chain, func(messages ...[]byte) { seed([]byte{0, fuzzPosix, fuzzRAM, fuzzLocal, fuzzStrict}, messages...) })
	f.Fuzz(func(t *testing.T, in []byte, mode byte) {
		s := newSite(t, memconn.Config{RDMA: mode&fuzzRDMA != 0}, func(c *Config) { fuzzShare(t, c, mode) })
		login := func(guid smb2.GUID) *peer {
			if mode&fuzzPosix != 0 {
				p, _ := s.posixLogin()
				return p
			}
			return s.as(guid, smb2.DialectSMB302).mustConnect("data")
		}
		around := siblings(t, s.dir)
		guid := smb2.GUID{7}
		bystander, p := login(smb2.GUID{8}), login(guid)
		opening := createRequest("f", smb2.FileOpenIf)
		if mode&fuzzStrict != 0 {
			opening = fuzzPersistent(t, opening)
		}
		file := p.create(opening)
		p.writeAll(file, string(octets(100)))
		dir := createRequest("", smb2.FileOpen)
		dir.DesiredAccess = smb2.FileReadData
		d := p.create(dir)
		unanswered := &openRequests{ids: map[uint64]struct{}{}, answered: make(chan struct{}, 1)}
		// listen ends with the connection, which the client ends or Close below.
		listen := func(c *memconn.Conn) (ended chan struct{}) {
			ended = make(chan struct{})
			go func() {
				defer close(ended)
				for {
					m, err := c.Receive(s.ctx)
					if err != nil {
						if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
							t.Errorf("receive: %v", err)
						}
						return
					}
					unanswered.take(m.Data)
					m.Release()
				}
			}()
			return ended
		}
		seen := listen(p.c)
		losses := 0
		for n := 0; len(in) >= 2 && n < 20; n++ {
			size := min(int(binary.LittleEndian.Uint16(in)), len(in)-2)
			msg := append([]byte(nil), in[2:2+size]...)
			in = in[2+size:]
			if size == 0 {
				if losses++; losses > 3 {
					break
				}
				unanswered.wait(seen)
				p.c.Close()
				<-seen
				unanswered.forget()
				s.until("the connection has ended", func() bool { return s.srv.Stats().Connections == 1 })
				p = login(guid)
				seen = listen(p.c)
				continue
			}
			p.letThrough(msg, file, d, unanswered.add)
			if err := p.c.Send(s.ctx, &transport.Message{Parts: [][]byte{msg}}); err != nil {
				break
			}
		}
		unanswered.wait(seen)
		st, _ := bystander.do(smb2.CommandEcho, &smb2.EchoRequest{})
		want(t, "ECHO of a bystander", st, ntstatus.Success)
		s.srv.Close()
		<-seen
		if st := s.srv.Stats(); st.Connections != 0 || st.Sessions != 0 || st.Opens != 0 || st.Trees != 0 || st.DetachedOpens != 0 {
			t.Errorf("left after Close: %+v", st)
		}
		if now := siblings(t, s.dir); !slices.Equal(now, around) {
			t.Errorf("beside the share there is %q, there was %q", now, around)
		}
		if n := p.c.Stats().LeasedBuffers + p.c.Stats().Registrations; n != 0 {
			t.Errorf("%d buffers left", n)
		}
	})
}

// letThrough gives the requests of a message what they need to be looked at, and the
// FileId of file or dir where they have one of all ones that is not of the request
// before. sent is told the MessageIds of what is to be answered.
func (p *peer) letThrough(msg []byte, file, dir smb2.FileID, sent func(id uint64)) {
	le := binary.LittleEndian
	for len(msg) >= smb2.HeaderSize {
		el, next := msg, le.Uint32(msg[20:])
		if uint64(next) >= smb2.HeaderSize && uint64(next) < uint64(len(msg)) {
			el = msg[:next]
		}
		msg = msg[len(el):]
		cmd, flags := le.Uint16(el[12:]), smb2.Flags(le.Uint32(el[16:]))
		le.PutUint32(el, uint32(smb2.ProtocolSMB2))
		le.PutUint16(el[4:], 64)
		le.PutUint16(el[6:], 1)
		le.PutUint64(el[24:], p.mid)
		if flags&smb2.FlagAsyncCommand == 0 {
			le.PutUint32(el[36:], p.tid)
		}
		le.PutUint64(el[40:], p.sid)
		if cmd != uint16(smb2.CommandCancel) {
			sent(p.mid)
			p.mid++
		}
		off := 0
		if int(cmd) < commandCount {
			off = fileIDOffset[cmd]
		}
		id := file
		switch smb2.Command(cmd) {
		case smb2.CommandQueryDirectory, smb2.CommandChangeNotify:
			id = dir
		case smb2.CommandOplockBreak:
			off = 8
		}
		rest := el[smb2.HeaderSize:]
		if off > 0 && len(rest) >= off+16 {
			if flags&smb2.FlagRelatedOperations == 0 && rest[off] == 0xFF {
				putFileID(rest[off:], id)
			}
			rest = rest[off+16:]
		}
		// The source of a copy, and the open that is to be had again.
		if i := bytes.Index(rest, bytes.Repeat([]byte{0xFF}, 16)); i >= 0 {
			putFileID(rest[i:], file)
		}
	}
}

// openRequests are the requests that have had no answer, not even that it will take
// its time.
type openRequests struct {
	mu       sync.Mutex
	ids      map[uint64]struct{} // guarded by mu
	answered chan struct{}       // has a token when ids may have changed
}

func (q *openRequests) add(id uint64) {
	q.mu.Lock()
	q.ids[id] = struct{}{}
	q.mu.Unlock()
}

// forget is for requests whose connection has ended.
func (q *openRequests) forget() {
	q.mu.Lock()
	clear(q.ids)
	q.mu.Unlock()
}

// take looks at a message of the server's.
func (q *openRequests) take(msg []byte) {
	q.mu.Lock()
	for el := range smb2.Compound(msg) {
		if h, err := smb2.ParseHeader(el); err == nil {
			delete(q.ids, h.MessageID)
		}
	}
	q.mu.Unlock()
	select {
	case q.answered <- struct{}{}:
	default:
	}
}

// wait returns when all is answered, the connection has ended, or nothing comes any
// more: what follows in a compound on something that waits is not answered before.
func (q *openRequests) wait(ended <-chan struct{}) {
	for {
		q.mu.Lock()
		n := len(q.ids)
		q.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-q.answered:
		case <-ended:
			return
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}

func putFileID(b []byte, id smb2.FileID) {
	binary.LittleEndian.PutUint64(b, id.Persistent)
	binary.LittleEndian.PutUint64(b[8:], id.Volatile)
}

// fuzzShare makes the share "data" what mode says.
func fuzzShare(t *testing.T, c *Config, mode byte) {
	c.Signing = PolicyOffered
	c.BreakTimeout = 20 * time.Millisecond
	sh := &c.Shares[0]
	switch {
	case mode&fuzzRAM != 0:
		ram, err := memory.New(memory.Config{MaxBytes: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ram.Close() })
		sh.FS = ram
	case mode&fuzzStrict != 0:
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, ".snap", fuzzSnapshot, "sub"), 0o777); err != nil {
			t.Fatal(err)
		}
		fsys, err := posix.New(dir, posix.Config{SnapshotDir: ".snap"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fsys.Close() })
		sh.FS = fsys
	}
	if mode&fuzzLocal != 0 {
		sh.KernelOplocks, sh.PosixLocking, sh.KernelShareModes = true, true, true
	}
	if mode&fuzzStrict != 0 {
		sh.ContinuousAvailability, sh.HideUnreadable, sh.AccessBased = true, true, true
		sh.VetoFiles, sh.HideDotFiles = []string{"veto*"}, true
	}
}

// fuzzPersistent has a CREATE ask for a lease and a persistent open.
func fuzzPersistent(t testing.TB, m *smb2.CreateRequest) *smb2.CreateRequest {
	return withContext(t, leased(t, m, 2, 9, cacheRWH), smb2.CreateContextDurableHandleV2,
		&smb2.DurableHandleRequestV2{CreateGUID: smb2.GUID{9}, Flags: smb2.DHandleFlagPersistent})
}

const fuzzSnapshot = "@GMT-2020.01.02-03.04.05"

// siblings are the names beside a directory.
func siblings(t *testing.T, dir string) []string {
	t.Helper()
	d, err := os.Open(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// rawContext is the data of a create context.
type rawContext []byte

// AppendBinary implements encoding.BinaryAppender.
func (c rawContext) AppendBinary(b []byte) ([]byte, error) { return append(b, c...), nil }
