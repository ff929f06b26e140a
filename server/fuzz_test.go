package server

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/internal/memconn"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// FuzzMessages sends what it is given to a client's session: each message gets
// the ids and credits that let it through to the handlers, the rest of it is the
// fuzzer's. Whatever comes, another client must be served as before, nothing may
// leave the share, and Close must find everything given back.
//
// Input: messages, each with its length in two octets before it.
func FuzzMessages(f *testing.F) {
	add := func(ms ...any) {
		var in []byte
		for i := 0; i < len(ms); i += 2 {
			h := smb2.Header{Command: ms[i].(smb2.Command), CreditCharge: 1, Credits: 10}
			b, err := ms[i+1].(body).AppendBinary(h.Append(nil))
			if err != nil {
				f.Fatal(err)
			}
			in = binary.LittleEndian.AppendUint16(in, uint16(len(b)))
			in = append(in, b...)
		}
		f.Add(in, true)
		f.Add(in, false)
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
	f.Fuzz(func(t *testing.T, in []byte, rdma bool) {
		s := newSite(t, memconn.Config{RDMA: rdma}, func(c *Config) { c.Signing = PolicyOffered })
		s.write("f", octets(100))
		bystander := s.login(smb2.DialectSMB302).mustConnect("data")
		p := s.login(smb2.DialectSMB302).mustConnect("data")
		file := p.openFile("f")
		dir := createRequest("", smb2.FileOpen)
		dir.DesiredAccess = smb2.FileReadData
		d := p.create(dir)
		seen := make(chan struct{})
		go func() { // ends with the connection, which Close below ends
			defer close(seen)
			for {
				m, err := p.c.Receive(s.ctx)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("receive: %v", err)
					}
					return
				}
				m.Release()
			}
		}()
		for n := 0; len(in) > 2 && n < 20; n++ {
			size := min(int(binary.LittleEndian.Uint16(in)), len(in)-2)
			msg := append([]byte(nil), in[2:2+size]...)
			in = in[2+size:]
			if len(msg) >= smb2.HeaderSize {
				h := p.header(0)
				binary.LittleEndian.PutUint32(msg, uint32(smb2.ProtocolSMB2))
				binary.LittleEndian.PutUint16(msg[4:], 64)
				binary.LittleEndian.PutUint16(msg[6:], 1)
				binary.LittleEndian.PutUint64(msg[24:], p.mid)
				if msg[16]&2 == 0 {
					binary.LittleEndian.PutUint32(msg[36:], h.TreeID)
				}
				binary.LittleEndian.PutUint64(msg[40:], h.SessionID)
				if cmd := binary.LittleEndian.Uint16(msg[12:]); int(cmd) < commandCount && fileIDOffset[cmd] != 0 {
					if off := smb2.HeaderSize + fileIDOffset[cmd]; len(msg) >= off+16 && msg[off] == 0xFF {
						id := file
						if cmd == uint16(smb2.CommandQueryDirectory) || cmd == uint16(smb2.CommandChangeNotify) {
							id = d
						}
						binary.LittleEndian.PutUint64(msg[off:], id.Persistent)
						binary.LittleEndian.PutUint64(msg[off+8:], id.Volatile)
					}
				}
				if binary.LittleEndian.Uint16(msg[12:]) != uint16(smb2.CommandCancel) {
					p.mid++
				}
			}
			if err := p.c.Send(s.ctx, &transport.Message{Parts: [][]byte{msg}}); err != nil {
				break
			}
		}
		st, _ := bystander.do(smb2.CommandEcho, &smb2.EchoRequest{})
		want(t, "ECHO of a bystander", st, ntstatus.Success)
		s.srv.Close()
		<-seen
		if st := s.srv.Stats(); st.Connections != 0 || st.Sessions != 0 || st.Opens != 0 || st.Trees != 0 || st.DetachedOpens != 0 {
			t.Errorf("left after Close: %+v", st)
		}
		if n := p.c.Stats().LeasedBuffers + p.c.Stats().Registrations; n != 0 {
			t.Errorf("%d buffers left", n)
		}
	})
}

// rawContext is the data of a create context.
type rawContext []byte

// AppendBinary implements encoding.BinaryAppender.
func (c rawContext) AppendBinary(b []byte) ([]byte, error) { return append(b, c...), nil }
