package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// EA is an extended attribute, [MS-FSCC] 2.4.16. Names have 1 to 255 octets and no NUL;
// most servers take them without regard to case, and some want no characters beyond ASCII.
type EA struct {
	Name  string
	Value []byte // 1 to 65535 octets; one of none is not kept
}

const (
	// maxEAs and maxEABytes bound the list of a file's attributes: the specification has
	// 64 KiB for all of them, Linux's file systems more.
	maxEAs     = 4096
	maxEABytes = 1 << 20
	// maxEASet bounds the list that sets them, so that it is one credit's worth.
	maxEASet = 65536
)

// EAs lists the extended attributes of the file, which was opened with AccessReadEA as
// OpenFile does for reading. errors.ErrUnsupported comes from servers that have none.
func (f *File) EAs(ctx context.Context) ([]EA, error) {
	list, err := f.eas(ctx)
	return list, wrap("list attributes of", f.name, err)
}

// EAs lists the extended attributes of a file or directory, of a link itself.
func (sh *Share) EAs(ctx context.Context, name string) ([]EA, error) {
	list, err := sh.eas(ctx, name)
	return list, wrap("list attributes of", name, err)
}

// EA returns the value of an extended attribute. If there is none of that name the error
// matches syscall.ENODATA.
func (f *File) EA(ctx context.Context, ea string) ([]byte, error) {
	v, err := oneEA(ea, func(q *smb2.QueryInfoRequest) ([]EA, error) { return f.queryEA(ctx, q) })
	return v, wrap("get attribute "+ea+" of", f.name, err)
}

// EA returns the value of an extended attribute of a file or directory, of a link itself.
func (sh *Share) EA(ctx context.Context, name, ea string) ([]byte, error) {
	v, err := oneEA(ea, func(q *smb2.QueryInfoRequest) ([]EA, error) { return sh.queryEA(ctx, name, q) })
	return v, wrap("get attribute "+ea+" of", name, err)
}

// SetEA sets an extended attribute. The file was opened with AccessWriteEA, as OpenFile
// does for writing.
func (f *File) SetEA(ctx context.Context, ea string, value []byte) error {
	return wrap("set attribute "+ea+" of", f.name, f.changeEA(ctx, ea, value, false))
}

// SetEA sets an extended attribute of a file or directory, of a link itself.
func (sh *Share) SetEA(ctx context.Context, name, ea string, value []byte) error {
	return wrap("set attribute "+ea+" of", name, sh.changeEA(ctx, name, ea, value, false))
}

// RemoveEA removes an extended attribute. Servers do not say whether there was one.
func (f *File) RemoveEA(ctx context.Context, ea string) error {
	return wrap("remove attribute "+ea+" of", f.name, f.changeEA(ctx, ea, nil, true))
}

// RemoveEA removes an extended attribute of a file or directory, of a link itself.
func (sh *Share) RemoveEA(ctx context.Context, name, ea string) error {
	return wrap("remove attribute "+ea+" of", name, sh.changeEA(ctx, name, ea, nil, true))
}

// eaQuery asks for the attributes from the one that the server has come to.
func (s *Session) eaQuery(flags uint32) *smb2.QueryInfoRequest {
	return &smb2.QueryInfoRequest{
		InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileFullEaInformation),
		OutputBufferLength: uint32(s.maxAnswer()), Flags: flags,
	}
}

func (f *File) eas(ctx context.Context) (list []EA, err error) {
	size := 0
	flags := smb2.QueryInfoRestartScan
	for {
		q := f.sh.s.eaQuery(flags)
		part, err := f.queryEA(ctx, q)
		switch more := errors.Is(err, ntstatus.BufferOverflow); {
		case errors.Is(err, ntstatus.NoEAsOnFile), errors.Is(err, ntstatus.NoMoreEAs):
			return list, nil
		case err != nil && !more:
			return list, err
		case more && len(part) == 0:
			return list, fmt.Errorf("a part of the extended attributes that has none: %w", ntstatus.InvalidNetworkResponse)
		default:
			list = append(list, part...)
			for _, ea := range part {
				size += len(ea.Name) + len(ea.Value)
			}
			if len(list) > maxEAs || size > maxEABytes {
				return nil, fmt.Errorf("more than %d extended attributes or %d bytes of them: %w", maxEAs, maxEABytes, syscall.E2BIG)
			}
			if !more {
				return list, nil
			}
		}
		flags = 0
	}
}

func (sh *Share) eas(ctx context.Context, name string) ([]EA, error) {
	list, err := sh.queryEA(ctx, name, sh.s.eaQuery(smb2.QueryInfoRestartScan))
	switch {
	case errors.Is(err, ntstatus.NoEAsOnFile), errors.Is(err, ntstatus.NoMoreEAs):
		return nil, nil
	case !errors.Is(err, ntstatus.BufferOverflow):
		return list, err
	}
	// More than one answer takes: they come one after the other from one open.
	f, err := sh.create(ctx, name, CreateOptions{Access: AccessReadEA | AccessSynchronize, Options: OptOpenReparsePoint})
	if err != nil {
		return nil, err
	}
	list, err = f.eas(ctx)
	return list, errors.Join(err, f.Close())
}

// oneEA asks for an attribute by its name. Servers that do not look at the name give all.
func oneEA(ea string, query func(*smb2.QueryInfoRequest) ([]EA, error)) ([]byte, error) {
	if err := checkEA(ea); err != nil {
		return nil, err
	}
	names := smb2.NewEntryList(nil, maxEASet)
	names.AppendGetEa(ea)
	list, err := query(&smb2.QueryInfoRequest{
		InfoType: smb2.InfoFile, FileInfoClass: uint8(smb2.ClassFileFullEaInformation),
		OutputBufferLength: maxEASet, Flags: smb2.QueryInfoRestartScan, Input: names.Bytes(),
	})
	if err != nil && !errors.Is(err, ntstatus.BufferOverflow) {
		return nil, err
	}
	i := slices.IndexFunc(list, func(a EA) bool { return a.Name == ea })
	if i < 0 {
		i = slices.IndexFunc(list, func(a EA) bool { return strings.EqualFold(a.Name, ea) })
	}
	switch {
	case i >= 0 && len(list[i].Value) > 0:
		return list[i].Value, nil
	case err != nil:
		return nil, err
	}
	return nil, ntstatus.NonexistentEAEntry
}

// queryEA sends a query on the file. With ntstatus.BufferOverflow come those that there
// was room for.
func (f *File) queryEA(ctx context.Context, q *smb2.QueryInfoRequest) ([]EA, error) {
	id, err := f.handle()
	if err != nil {
		return nil, err
	}
	k := f.call(smb2.CommandQueryInfo)
	defer k.free()
	q.FileID, q.OutputBufferLength = id, min(q.OutputBufferLength, uint32(f.sh.s.maxAnswer()))
	if err := k.encode(q); err != nil {
		return nil, err
	}
	if err := f.sh.s.do(ctx, k, ntstatus.BufferOverflow); err != nil {
		return nil, err
	}
	list, err := k.eas(q)
	if err == nil && k.resp.Status == ntstatus.BufferOverflow {
		err = ntstatus.BufferOverflow
	}
	return list, err
}

// queryEA is File.queryEA by name, in one round trip.
func (sh *Share) queryEA(ctx context.Context, name string, q *smb2.QueryInfoRequest) ([]EA, error) {
	k := sh.call(smb2.CommandQueryInfo)
	defer k.free()
	q.FileID, q.OutputBufferLength = smb2.AnyFileID, min(q.OutputBufferLength, uint32(sh.s.maxAnswer()))
	if err := k.encode(q); err != nil {
		return nil, err
	}
	if err := sh.on(ctx, name, CreateOptions{Access: AccessReadEA | AccessSynchronize, Options: OptOpenReparsePoint}, k); err != nil {
		return nil, err
	}
	return k.eas(q)
}

// eas reads the list in an answer to q.
func (k *call) eas(q *smb2.QueryInfoRequest) ([]EA, error) {
	out, err := k.queried(int(q.OutputBufferLength))
	if err != nil {
		return nil, err
	}
	var list []EA
	if len(out) == 4 && string(out) == "\x00\x00\x00\x00" { // Samba's list of nothing
		return nil, nil
	}
	for ea, err := range smb2.FileFullEaInformations(out) {
		if err != nil {
			return nil, k.badBody(err)
		}
		if len(list) == maxEAs {
			return nil, k.protocolError("3.2.5.17", "more than %d extended attributes", maxEAs)
		}
		if ea.EaName == "" || strings.IndexByte(ea.EaName, 0) >= 0 {
			return nil, k.protocolError("3.2.5.17", "an extended attribute is called %q", ea.EaName)
		}
		list = append(list, EA{ea.EaName, slices.Clone(ea.EaValue)})
	}
	return list, nil
}

// eaList is the input of SET_INFO for one attribute. No value removes it ([MS-FSA]
// 2.1.5.15.6).
type eaList smb2.FileFullEaInformation

// AppendBinary implements body.
func (l *eaList) AppendBinary(b []byte) ([]byte, error) {
	list := smb2.NewEntryList(b, maxEASet)
	if !list.AppendEa(smb2.FileFullEaInformation(*l)) {
		return b, fmt.Errorf("an extended attribute of %d bytes: %w", len(l.EaValue), syscall.E2BIG)
	}
	return list.Bytes(), nil
}

func newEAList(ea string, value []byte, remove bool) (*eaList, error) {
	if err := checkEA(ea); err != nil {
		return nil, err
	}
	if len(value) == 0 && !remove {
		return nil, fmt.Errorf("an extended attribute without a value, which servers do not keep: %w", fs.ErrInvalid)
	}
	return &eaList{EaName: ea, EaValue: value}, nil
}

func checkEA(ea string) error {
	if ea == "" || len(ea) > 255 || strings.IndexByte(ea, 0) >= 0 {
		return fmt.Errorf("a name of an extended attribute has 1 to 255 octets, none of them NUL: %w", fs.ErrInvalid)
	}
	return nil
}

func (f *File) changeEA(ctx context.Context, ea string, value []byte, remove bool) error {
	l, err := newEAList(ea, value, remove)
	if err != nil {
		return err
	}
	return f.set(ctx, smb2.ClassFileFullEaInformation, l)
}

func (sh *Share) changeEA(ctx context.Context, name, ea string, value []byte, remove bool) error {
	l, err := newEAList(ea, value, remove)
	if err != nil {
		return err
	}
	return sh.setOn(ctx, name, CreateOptions{Access: AccessWriteEA | AccessSynchronize, Options: OptOpenReparsePoint},
		smb2.ClassFileFullEaInformation, l)
}
