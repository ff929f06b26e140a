package smb2

import (
	"bytes"
	"iter"
	"reflect"
	"strings"
	"testing"
)

// collect gathers an iterator's values; the error ends it.
func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var out []T
	for v, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// [MS-SMB2] 2.2.13.2: contexts at multiples of 8, data 8-aligned behind the name.
func TestCreateContexts(t *testing.T) {
	var list []byte
	var err error
	lease, _ := (&Lease{Version: 2, LeaseKey: guidA, LeaseState: 3, ParentLeaseKey: guidB, Epoch: 9, Flags: LeaseFlagParentLeaseKeySet}).AppendBinary(nil)
	for _, c := range []struct {
		name string
		data []byte
	}{{CreateContextQueryMaximalAccess, nil}, {CreateContextLease, lease}, {CreateContextAppInstanceID, []byte{1}}} {
		if list, err = AppendCreateContext(list, c.name, c.data); err != nil {
			t.Fatal(err)
		}
	}
	want := unhex(t, `
		18000000 1000 0400 0000 0000 00000000 4d784163 00000000
		50000000 1000 0400 0000 1800 34000000 52714c73 00000000
		`+hexA+`03000000 04000000 0000000000000000`+hexB+`0900 0000 00000000
		00000000 1000 1000 0000 2000 01000000 45bca66aefa7f74a9008fa462e144d74 01`)
	if !bytes.Equal(list, want) {
		t.Fatalf("AppendCreateContext\n got %x\nwant %x", list, want)
	}
	got, err := collect(CreateContexts(list))
	if err != nil || len(got) != 3 || string(got[0].Name) != "MxAc" || got[0].Data != nil ||
		string(got[1].Name) != "RqLs" || string(got[2].Name) != CreateContextAppInstanceID || !bytes.Equal(got[2].Data, []byte{1}) {
		t.Fatalf("CreateContexts: %q, %v", got, err)
	}
	l, err := ParseLease(got[1].Data)
	if want := (Lease{Version: 2, LeaseKey: guidA, LeaseState: 3, ParentLeaseKey: guidB, Epoch: 9, Flags: 4}); err != nil || l != want {
		t.Errorf("ParseLease: %+v, %v, want %+v", l, err, want)
	}
	if data, found, err := FindCreateContext(list, CreateContextQueryMaximalAccess); !found || err != nil || data == nil {
		t.Errorf("MxAc: found %v, %v", found, err)
	}
	if _, found, err := FindCreateContext(list, CreateContextTimewarpToken); found || err != nil {
		t.Errorf("TWrp: found %v, %v", found, err)
	}
	for n := 1; n < len(list); n++ {
		_, err := collect(CreateContexts(list[:n:n]))
		wantMalformed(t, err, "truncated list")
	}
	for name, spoil := range map[string]func([]byte){
		"Next not a multiple of 8":  func(b []byte) { b[0] = 0x14 },
		"Next below the fixed part": func(b []byte) { b[0] = 8 },
		"Next beyond the end":       func(b []byte) { le.PutUint32(b, 0xFFFFFFF8) },
		"Next at the end":           func(b []byte) { le.PutUint32(b, uint32(len(b)+7)&^7) },
		"name in the fixed part":    func(b []byte) { b[4] = 8 },
		"name beyond its context":   func(b []byte) { b[6] = 9 },
		"no name":                   func(b []byte) { b[6] = 0 },
		"data beyond its context":   func(b []byte) { le.PutUint32(b[24+12:], 57) },
		"data length near 2^32":     func(b []byte) { le.PutUint32(b[24+12:], 0xFFFFFFFF) },
	} {
		b := bytes.Clone(list)
		spoil(b)
		_, err := collect(CreateContexts(b))
		wantMalformed(t, err, name)
	}
}

// Contexts whose size has one value are refused at any other (2.2.13.2.x).
func TestCreateContextSizes(t *testing.T) {
	for name, parse := range map[string]func([]byte) error{
		"MxAc of 4":  func(b []byte) error { _, err := ParseMaximalAccessRequest(b[:4]); return err },
		"RqLs of 40": func(b []byte) error { _, err := ParseLease(b[:40]); return err },
		"DHnQ of 8":  func(b []byte) error { _, err := ParseDurableHandleRequest(b[:8]); return err },
		"DHnC of 20": func(b []byte) error { _, err := ParseDurableHandleReconnect(b[:20]); return err },
		"DH2Q of 40": func(b []byte) error { _, err := ParseDurableHandleRequestV2(b[:40]); return err },
		"DH2C of 40": func(b []byte) error { _, err := ParseDurableHandleReconnectV2(b[:40]); return err },
		"AlSi of 9":  func(b []byte) error { _, err := ParseAllocationSizeContext(b[:9]); return err },
		"TWrp of 9":  func(b []byte) error { _, err := ParseTimewarpToken(b[:9]); return err },
	} {
		wantMalformed(t, parse(make([]byte, 64)), name)
	}
	if m, err := ParseMaximalAccessRequest(nil); err != nil || m.Timestamp != 0 {
		t.Errorf("empty MxAc: %+v, %v", m, err)
	}
	if m, err := ParseMaximalAccessRequest(unhex(t, "0807060504030201")); err != nil || m.Timestamp != 0x0102030405060708 {
		t.Errorf("MxAc: %+v, %v", m, err)
	}
}

func TestFindNegotiateContext(t *testing.T) {
	cs := []NegotiateContext{{ContextSigningCapabilities, []byte{1}}, {ContextEncryptionCapabilities, []byte{2}}, {ContextSigningCapabilities, []byte{3}}}
	if d, n := FindNegotiateContext(cs, ContextSigningCapabilities); n != 2 || !bytes.Equal(d, []byte{1}) {
		t.Errorf("signing: %x, %d", d, n)
	}
	if d, n := FindNegotiateContext(cs, ContextRDMATransformCapabilities); n != 0 || d != nil {
		t.Errorf("RDMA: %x, %d", d, n)
	}
	if m, err := ParseNetnameContext(EncodeUTF16("srv")); err != nil || m.NetName != "srv" {
		t.Errorf("netname: %+v, %v", m, err)
	}
	_, err := ParseNetnameContext(make([]byte, 3))
	wantMalformed(t, err, "odd netname")
}

// [MS-SMB2] 2.2.2.1: error contexts at multiples of 8.
func TestErrorContexts(t *testing.T) {
	data, _ := AppendErrorContext(nil, ErrorIDDefault, []byte{1, 2, 3, 4})
	data, _ = AppendErrorContext(data, ErrorIDShareRedirect, []byte{5})
	want := unhex(t, `04000000 00000000 01020304 00000000 01000000 53526472 05`)
	if !bytes.Equal(data, want) {
		t.Fatalf("got %x\nwant %x", data, want)
	}
	m := ErrorResponse{ErrorContextCount: 2, ErrorData: data}
	if d, err := m.Data(ErrorIDShareRedirect); err != nil || !bytes.Equal(d, []byte{5}) {
		t.Errorf("redirect: %x, %v", d, err)
	}
	if d, err := m.Data(ErrorIDDefault); err != nil || !bytes.Equal(d, []byte{1, 2, 3, 4}) {
		t.Errorf("default: %x, %v", d, err)
	}
	if d, err := (&ErrorResponse{ErrorData: []byte{7}}).Data(ErrorIDDefault); err != nil || !bytes.Equal(d, []byte{7}) {
		t.Errorf("without contexts: %x, %v", d, err)
	}
	for n := range data {
		_, err := collect((&ErrorResponse{ErrorContextCount: 2, ErrorData: data[:n:n]}).Contexts())
		wantMalformed(t, err, "truncated")
	}
	_, err := (&ErrorResponse{ErrorContextCount: 3, ErrorData: data}).Data(1)
	wantMalformed(t, err, "count beyond the data")
}

// The fixed parts and field places of [MS-FSCC] 2.4, one class after the other.
func TestDirectoryEntryLayouts(t *testing.T) {
	d := DirectoryEntry{FileIndex: 0x0a, CreationTime: 1, LastAccessTime: 2, LastWriteTime: 3, ChangeTime: 4, EndOfFile: 5,
		AllocationSize: 6, FileAttributes: FileAttributeArchive, EaSize: 0x0b, ReparsePointTag: ReparseTagSymlink,
		FileID: 0x1122334455667788, FileID128: [16]byte(guidB), ShortName: "A~1", FileName: "name"}
	common := `00000000 0a000000 0100000000000000 0200000000000000 0300000000000000 0400000000000000
		0500000000000000 0600000000000000 20000000 08000000`
	const ea, tag, id = `0b000000`, `0c0000a0`, `8877665544332211`
	short := `06 00` + u("A~1") + strings.Repeat("00", 18)
	name := u("name")
	for _, r := range []struct {
		class FileInfoClass
		wire  string
		keep  func(*DirectoryEntry) // clears what the class has not
	}{
		{ClassFileDirectoryInformation, common + name, func(d *DirectoryEntry) {
			d.EaSize, d.ReparsePointTag, d.FileID, d.FileID128, d.ShortName = 0, 0, 0, [16]byte{}, ""
		}},
		{ClassFileFullDirectoryInformation, common + ea + name, func(d *DirectoryEntry) {
			d.ReparsePointTag, d.FileID, d.FileID128, d.ShortName = 0, 0, [16]byte{}, ""
		}},
		{ClassFileIDFullDirectoryInformation, common + ea + `00000000` + id + name, func(d *DirectoryEntry) {
			d.ReparsePointTag, d.FileID128, d.ShortName = 0, [16]byte{}, ""
		}},
		{ClassFileBothDirectoryInformation, common + ea + short + name, func(d *DirectoryEntry) {
			d.ReparsePointTag, d.FileID, d.FileID128 = 0, 0, [16]byte{}
		}},
		{ClassFileIDBothDirectoryInformation, common + ea + short + `0000` + id + name, func(d *DirectoryEntry) {
			d.ReparsePointTag, d.FileID128 = 0, [16]byte{}
		}},
		{ClassFileIDExtdDirectoryInformation, common + ea + tag + hexB + name, func(d *DirectoryEntry) {
			d.FileID, d.ShortName = 0, ""
		}},
		{ClassFileID64ExtdDirectoryInformation, common + ea + tag + id + name, func(d *DirectoryEntry) {
			d.FileID128, d.ShortName = [16]byte{}, ""
		}},
		{ClassFileID64ExtdBothDirectoryInfo, common + ea + tag + id + short + name, func(d *DirectoryEntry) {
			d.FileID128 = [16]byte{}
		}},
		{ClassFileIDAllExtdDirectoryInformation, common + ea + tag + id + hexB + name, func(d *DirectoryEntry) { d.ShortName = "" }},
		{ClassFileIDAllExtdBothDirectoryInfo, common + ea + tag + id + hexB + short + name, func(*DirectoryEntry) {}},
		{ClassFileNamesInformation, `00000000 0a000000 08000000` + name, func(d *DirectoryEntry) {
			*d = DirectoryEntry{FileIndex: d.FileIndex, FileName: d.FileName}
		}},
	} {
		one := unhex(t, r.wire)
		l := NewEntryList([]byte{0xEE}, 1000)
		if !l.AppendDirectoryEntry(r.class, &d) {
			t.Fatalf("class %d: did not fit", r.class)
		}
		if got := l.Bytes()[1:]; !bytes.Equal(got, one) {
			t.Errorf("class %d\n got %x\nwant %x", r.class, got, one)
		}
		// A second entry is at a multiple of 8 and the first one points to it.
		l.AppendDirectoryEntry(r.class, &d)
		step := (len(one) + 7) &^ 7
		b := l.Bytes()[1:]
		if l.Count() != 2 || l.Len() != step+len(one) || int(le.Uint32(b)) != step {
			t.Errorf("class %d: count %d, length %d, NextEntryOffset %d; want 2, %d, %d",
				r.class, l.Count(), l.Len(), le.Uint32(b), step+len(one), step)
		}
		want := d
		r.keep(&want)
		got, err := collect(DirectoryEntries(b, r.class))
		if err != nil || !reflect.DeepEqual(got, []DirectoryEntry{want, want}) {
			t.Errorf("class %d decoded\n got %+v, %v\nwant %+v", r.class, got, err, want)
		}
		for n := 1; n < len(b); n++ {
			_, err := collect(DirectoryEntries(b[:n:n], r.class))
			wantMalformed(t, err, "truncated")
		}
	}
	if IsDirectoryClass(ClassFileBasicInformation) {
		t.Error("FileBasicInformation is no directory class")
	}
	_, err := collect(DirectoryEntries([]byte{1}, ClassFileBasicInformation))
	wantMalformed(t, err, "class without entries")
}

// An entry that does not fit changes nothing; the padding before it counts.
func TestEntryListLimit(t *testing.T) {
	d := DirectoryEntry{FileName: "ab"} // 12 + 4 octets; the next one at 16
	e := DirectoryEntry{FileName: "a"}  // 12 + 2; the next one at 16
	for _, r := range []struct {
		max   int
		names []*DirectoryEntry
		fits  []bool
		len   int
	}{
		{0, []*DirectoryEntry{&d}, []bool{false}, 0},
		{15, []*DirectoryEntry{&d}, []bool{false}, 0},
		{16, []*DirectoryEntry{&d, &d}, []bool{true, false}, 16},
		{31, []*DirectoryEntry{&d, &d, &e}, []bool{true, false, true}, 30},
		{32, []*DirectoryEntry{&d, &d, &e}, []bool{true, true, false}, 32},
		{28, []*DirectoryEntry{&e, &e}, []bool{true, false}, 14}, // 14 + 2 + 14 = 30
		{30, []*DirectoryEntry{&e, &e}, []bool{true, true}, 30},
		{-1, []*DirectoryEntry{&e}, []bool{false}, 0},
	} {
		l := NewEntryList(nil, r.max)
		for i, d := range r.names {
			if got := l.AppendDirectoryEntry(ClassFileNamesInformation, d); got != r.fits[i] {
				t.Errorf("max %d, entry %d: fits %v, want %v", r.max, i, got, r.fits[i])
			}
		}
		if l.Len() != r.len {
			t.Errorf("max %d: length %d, want %d", r.max, l.Len(), r.len)
		}
		if l.Count() == 0 {
			continue
		}
		if got, err := collect(DirectoryEntries(l.Bytes(), ClassFileNamesInformation)); err != nil || len(got) != l.Count() {
			t.Errorf("max %d: decoded %d entries, %v; want %d", r.max, len(got), err, l.Count())
		}
	}
}

func TestNextEntryOffsetBounds(t *testing.T) {
	l := NewEntryList(nil, 100)
	for range 2 {
		l.AppendNotify(FileNotifyInformation{FileActionAdded, "ab"})
	}
	for _, next := range []uint32{1, 4, 11, 32, 33, 0xFFFFFFFF} {
		b := bytes.Clone(l.Bytes())
		le.PutUint32(b, next)
		_, err := collect(FileNotifyInformations(b))
		wantMalformed(t, err, "NextEntryOffset")
	}
	b := bytes.Clone(l.Bytes())
	le.PutUint32(b[8:], 0xFFFFFFFE)
	_, err := collect(FileNotifyInformations(b))
	wantMalformed(t, err, "FileNameLength")
	if got, err := collect(FileNotifyInformations(nil)); err != nil || got != nil {
		t.Errorf("empty list: %v, %v", got, err)
	}
}

func TestOtherLists(t *testing.T) {
	// FILE_NOTIFY_INFORMATION, [MS-FSCC] 2.7.1: multiples of 4.
	l := NewEntryList(nil, 100)
	l.AppendNotify(FileNotifyInformation{FileActionRenamedOldName, "a"})
	l.AppendNotify(FileNotifyInformation{FileActionRenamedNewName, "bc"})
	want := unhex(t, `10000000 04000000 02000000 6100 0000 00000000 05000000 04000000 62006300`)
	if !bytes.Equal(l.Bytes(), want) {
		t.Errorf("notify\n got %x\nwant %x", l.Bytes(), want)
	}
	if got, err := collect(FileNotifyInformations(want)); err != nil ||
		!reflect.DeepEqual(got, []FileNotifyInformation{{FileActionRenamedOldName, "a"}, {FileActionRenamedNewName, "bc"}}) {
		t.Errorf("notify: %+v, %v", got, err)
	}

	// FileStreamInformation, 2.4.49: multiples of 8.
	l = NewEntryList(nil, 200)
	l.AppendStream(FileStreamInformation{5, 4096, "::$DATA"})
	l.AppendStream(FileStreamInformation{1, 2, ":s:$DATA"})
	want = unhex(t, `28000000 0e000000 0500000000000000 0010000000000000`+u("::$DATA")+`0000
		00000000 10000000 0100000000000000 0200000000000000`+u(":s:$DATA"))
	if !bytes.Equal(l.Bytes(), want) {
		t.Errorf("stream\n got %x\nwant %x", l.Bytes(), want)
	}
	if got, err := collect(FileStreamInformations(want)); err != nil ||
		!reflect.DeepEqual(got, []FileStreamInformation{{5, 4096, "::$DATA"}, {1, 2, ":s:$DATA"}}) {
		t.Errorf("stream: %+v, %v", got, err)
	}

	// FileFullEaInformation, 2.4.16: multiples of 4, NUL behind the name.
	l = NewEntryList(nil, 100)
	l.AppendEa(FileFullEaInformation{FileNeedEA, "AB", []byte{9}})
	l.AppendEa(FileFullEaInformation{0, "C", []byte{}})
	want = unhex(t, `0c000000 80 02 0100 414200 09 00000000 00 01 0000 4300`)
	if !bytes.Equal(l.Bytes(), want) {
		t.Errorf("EA\n got %x\nwant %x", l.Bytes(), want)
	}
	if got, err := collect(FileFullEaInformations(want)); err != nil ||
		!reflect.DeepEqual(got, []FileFullEaInformation{{FileNeedEA, "AB", []byte{9}}, {0, "C", []byte{}}}) {
		t.Errorf("EA: %+v, %v", got, err)
	}
	for name, spoil := range map[string]func([]byte){
		"name without NUL":     func(b []byte) { b[10] = 'x' },
		"value beyond the end": func(b []byte) { b[6] = 3 },
		"unaligned":            func(b []byte) { b[0] = 0x0d },
	} {
		b := bytes.Clone(want)
		spoil(b)
		_, err := collect(FileFullEaInformations(b))
		wantMalformed(t, err, name)
	}
	if l.AppendEa(FileFullEaInformation{EaName: strings.Repeat("x", 256)}) {
		t.Error("an EA name of 256 octets fitted")
	}

	// FILE_GET_EA_INFORMATION, 2.4.16.1.
	l = NewEntryList(nil, 100)
	l.AppendGetEa("AB")
	l.AppendGetEa("C")
	want = unhex(t, `08000000 02 414200 00000000 01 4300`)
	if !bytes.Equal(l.Bytes(), want) {
		t.Errorf("get EA\n got %x\nwant %x", l.Bytes(), want)
	}
	if got, err := collect(FileGetEaInformations(want)); err != nil || !reflect.DeepEqual(got, []string{"AB", "C"}) {
		t.Errorf("get EA: %q, %v", got, err)
	}

	for name, err := range map[string]error{
		"get EA cut short": last(FileGetEaInformations(want[:13])),
		"get EA name":      last(FileGetEaInformations(append(want[:12:12], 9, 'C', 0))),
		"stream name":      last(FileStreamInformations(append(make([]byte, 4), bytes.Repeat([]byte{0xff}, 30)...))),
		"stream cut short": last(FileStreamInformations(make([]byte, 23))),
	} {
		wantMalformed(t, err, name)
	}

	// POSIX directory entries.
	p := FilePosixInformation{Inode: 7, PosixCreateResponse: PosixCreateResponse{1, 0, 0o644, SIDUnixUser(1), SIDUnixGroup(2)}}
	l = NewEntryList(nil, 1000)
	if !l.AppendPosixEntry(&p, "x") || !l.AppendPosixEntry(&p, "yz") {
		t.Fatal("POSIX entries did not fit")
	}
	if got, err := collect(PosixEntries(l.Bytes())); err != nil || !reflect.DeepEqual(got, []PosixEntry{{p, "x"}, {p, "yz"}}) {
		t.Errorf("POSIX: %+v, %v", got, err)
	}
}

func TestAllocatedRanges(t *testing.T) {
	b := unhex(t, `0000000000000000 0010000000000000 0000020000000000 0100000000000000`)
	if got, err := ParseAllocatedRanges(b); err != nil || !reflect.DeepEqual(got, []AllocatedRange{{0, 4096}, {0x20000, 1}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err := ParseAllocatedRanges(b[:17])
	wantMalformed(t, err, "odd size")
}

// [MS-FSCC] 2.3.83: no buffer is as good as TRUE.
func TestSetSparse(t *testing.T) {
	for in, want := range map[string]bool{"": true, "\x01": true, "\xff": true, "\x00": false} {
		if got, err := ParseSetSparseBuffer([]byte(in)); err != nil || got.SetSparse != want {
			t.Errorf("%x: %+v, %v, want %v", in, got, err, want)
		}
	}
	if f, err := ParseCompressionFormat(AppendCompressionFormat(nil, CompressionFormatLZNT1)); err != nil || f != CompressionFormatLZNT1 {
		t.Errorf("compression: %v, %v", f, err)
	}
	_, err := ParseCompressionFormat([]byte{1})
	wantMalformed(t, err, "compression state")
}

// last returns the error that ends an iterator.
func last[T any](seq iter.Seq2[T, error]) error {
	_, err := collect(seq)
	return err
}
