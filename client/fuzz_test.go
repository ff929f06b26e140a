package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// operations are what the answers of a fuzzed server are for.
var operations = []struct {
	cmd smb2.Command
	do  func(ctx context.Context, f *File)
}{
	{smb2.CommandRead, func(ctx context.Context, f *File) { _, _ = f.ReadAtContext(ctx, make([]byte, 100), 0) }},
	{smb2.CommandRead, func(ctx context.Context, f *File) { _, _ = f.ReadAtContext(ctx, make([]byte, 5000), 0) }},
	{smb2.CommandWrite, func(ctx context.Context, f *File) { _, _ = f.WriteAtContext(ctx, make([]byte, 100), 0) }},
	{smb2.CommandWrite, func(ctx context.Context, f *File) { _, _ = f.WriteAtContext(ctx, make([]byte, 5000), 0) }},
	{smb2.CommandQueryDirectory, func(ctx context.Context, f *File) { _, _ = f.ReadDirContext(ctx, 10) }},
	{smb2.CommandQueryInfo, func(ctx context.Context, f *File) { _, _ = f.StatContext(ctx); _ = f.statFS(ctx, new(StatFS)) }},
	{smb2.CommandCreate, func(ctx context.Context, f *File) { _, _ = f.sh.Stat(ctx, "x"); _, _ = f.sh.Open(ctx, "x") }},
	{smb2.CommandIoctl, func(ctx context.Context, f *File) {
		_, _ = f.copyRange(ctx, 0, f, 0, 100)
		_, _, _ = f.transact(ctx, []byte{1})
	}},
	{smb2.CommandChangeNotify, func(ctx context.Context, f *File) {
		if w, err := f.sh.Watch(ctx, "", WatchOptions{}); err == nil {
			_, _ = w.Next(ctx)
			_ = w.Close()
		}
	}},
	{smb2.CommandTreeConnect, func(ctx context.Context, f *File) { _, _ = f.sh.s.Mount(ctx, "x") }},
	{smb2.CommandLock, func(ctx context.Context, f *File) { _ = f.Lock(ctx, 0, 1, LockOptions{}) }},
	{smb2.CommandSessionSetup, func(ctx context.Context, f *File) { _ = f.sh.s.logon(ctx, f.sh.s.main(), false) }},
	{smb2.CommandIoctl, func(ctx context.Context, f *File) {
		_, _ = f.AllocatedRanges(ctx, 0, 1<<30)
		_, _ = f.SeekHole(ctx, 0)
		_, _ = f.Compressed(ctx)
		_, _ = f.sh.Snapshots(ctx)
	}},
	{smb2.CommandIoctl, func(ctx context.Context, f *File) {
		_, _ = f.sh.Readlink(ctx, "x")
		_, _ = f.sh.Special(ctx, "x")
	}},
	{smb2.CommandQueryInfo, func(ctx context.Context, f *File) {
		_, _ = f.EAs(ctx)
		_, _ = f.EA(ctx, "NAME")
		if sd, err := f.SecurityDescriptor(ctx, 7); err == nil {
			_ = sd.String()
		}
		_, _ = f.sh.Streams(ctx, "x")
	}},
	{smb2.CommandQueryDirectory, func(ctx context.Context, f *File) { _, _ = f.ReadDirContext(ctx, -1) }},
}

// FuzzAnswer gives the client answers of any form, up to the header in which only
// command and MessageId are put right if fix is set. No call may panic, or hang
// after its context, or leave a registration behind.
func FuzzAnswer(f *testing.F) {
	header := func(m body) []byte {
		h := smb2.Header{Flags: smb2.FlagServerToRedir, Credits: 1, SessionID: 0x51, TreeID: 7}
		b, err := m.AppendBinary(h.Append(nil))
		must(f, err)
		return b
	}
	list := smb2.NewEntryList(nil, 4096)
	list.AppendDirectoryEntry(listClass, &smb2.DirectoryEntry{FileName: "name"})
	all, err := (&smb2.FileAllInformation{}).AppendBinary(nil)
	must(f, err)
	for i, m := range []body{
		&smb2.ReadResponse{Data: []byte("data")}, &smb2.ReadResponse{DataRemaining: 5000},
		&smb2.WriteResponse{Count: 100}, &smb2.WriteResponse{Count: 5000},
		&smb2.QueryDirectoryResponse{OutputBuffer: list.Bytes()}, &smb2.QueryInfoResponse{OutputBuffer: all},
		&smb2.CreateResponse{}, &smb2.IoctlResponse{CtlCode: smb2.FsctlSrvRequestResumeKey, Output: make([]byte, 32)},
		&smb2.ChangeNotifyResponse{OutputBuffer: []byte("\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00a\x00")},
		&smb2.TreeConnectResponse{ShareType: smb2.ShareTypeDisk}, &smb2.LockResponse{},
		&smb2.SessionSetupResponse{SessionFlags: smb2.SessionFlagIsGuest},
		&smb2.IoctlResponse{CtlCode: smb2.FsctlQueryAllocatedRanges, Output: append(make([]byte, 8), 0, 1, 0, 0, 0, 0, 0, 0)},
		// A symbolic link: tag, lengths, then names at 0 and 4, relative ([MS-FSCC] 2.1.2.4).
		&smb2.IoctlResponse{CtlCode: smb2.FsctlGetReparsePoint, Output: []byte("\x0c\x00\x00\xa0\x10\x00\x00\x00\x00\x00\x02\x00\x02\x00\x02\x00\x01\x00\x00\x00a\x00b\x00")},
		// A descriptor with an owner, S-1-1-0, and no lists ([MS-DTYP] 2.4.6).
		&smb2.QueryInfoResponse{OutputBuffer: []byte("\x01\x00\x00\x80\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00")},
		&smb2.QueryDirectoryResponse{OutputBuffer: list.Bytes()},
	} {
		f.Add(byte(i), true, header(m))
	}
	// Extended attributes and streams are asked for by the same operation as descriptors.
	for _, b := range []string{"\x00\x00\x00\x00\x00\x01\x01\x00A\x00v", "\x00\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00:\x00"} {
		f.Add(byte(14), true, header(&smb2.QueryInfoResponse{OutputBuffer: []byte(b)}))
	}
	f.Add(byte(0), false, []byte("\xfdSMB"))
	f.Fuzz(func(t *testing.T, op byte, fix bool, answer []byte) {
		o := operations[int(op)%len(operations)]
		fk, l := newFake(t, linkConfig{rdma: true})
		file := fk.open(l, Config{CancelGrace: -1, Timeout: -1})
		count := 0
		fk.mu.Lock()
		fk.on[o.cmd] = func(fk *fake, h smb2.Header, msg []byte) bool {
			if count++; count > 20 { // an answer that makes the client go on for ever
				fk.l.Close()
				return true
			}
			b := bytes.Clone(answer)
			if fix && len(b) >= smb2.HeaderSize {
				copy(b, "\xfeSMB\x40\x00")
				binary.LittleEndian.PutUint16(b[12:], uint16(h.Command))
				b[16] |= 1
				copy(b[20:24], "\x00\x00\x00\x00")
				binary.LittleEndian.PutUint64(b[24:], h.MessageID)
			}
			fk.send(b, nil)
			return true
		}
		fk.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		o.do(ctx, file)
		file.sh.s.Close()
		if n := l.Stats().Registrations; n != 0 {
			t.Errorf("%d registrations left", n)
		}
	})
}
