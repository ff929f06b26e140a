package smb2

import (
	"bytes"
	"encoding"
	"iter"
	"reflect"
	"slices"
	"testing"
	"unicode/utf8"
)

// roundTrip checks what must hold of any input: parse gives an error or a
// value whose encoding parses to the same encoding again. An encoding may be
// refused only as too long (overlapping names in the input may add up to more
// than a length field counts).
func roundTrip(t *testing.T, parse func([]byte) (encoder, error), in, prefix []byte) {
	v, err := parse(in)
	if err != nil {
		wantMalformed(t, err, "parse")
		return
	}
	first, err := v.AppendBinary(bytes.Clone(prefix))
	if err != nil {
		if !isTooLong(err) {
			t.Fatalf("append of %+v: %v", v, err)
		}
		return
	}
	v2, err := parse(first)
	if err != nil {
		t.Fatalf("parse of own encoding %x\nof %+v: %v", first, v, err)
	}
	second, err := v2.AppendBinary(bytes.Clone(prefix))
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("encodings differ (%v)\n%x\n%x", err, first, second)
	}
	if lossless(v) && !reflect.DeepEqual(v, v2) {
		t.Fatalf("values differ\n%+v\n%+v", v, v2)
	}
}

// lossless reports whether encoding keeps all that parsing found. Fields that
// are read only so that they can be refused are not written.
func lossless(v encoder) bool {
	switch v := v.(type) {
	case *FileRenameInformation:
		return v.RootDirectory == 0
	case *FileRenameInformationEx:
		return v.RootDirectory == 0
	case *FileLinkInformation:
		return v.RootDirectory == 0
	case *IoctlRequest:
		return v.Output == nil
	case *SecurityDescriptor, *ACL: // entries are padded to a multiple of 4
		return false
	}
	return true
}

// FuzzMessages has every Parse function that takes a message; kind chooses.
func FuzzMessages(f *testing.F) {
	rows := messageRows()
	for i, r := range rows {
		f.Add(uint8(i), unhex(f, r.wire))
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		r := rows[int(kind)%len(rows)]
		roundTrip(t, r.parse, append(anyHeader(), body...), anyHeader())
	})
}

// FuzzStructures has every Parse function that takes a structure.
func FuzzStructures(f *testing.F) {
	rows := structureRows()
	sd := sdValue()
	lease := &Lease{Version: 2, LeaseKey: guidA, Epoch: 3}
	rows = append(rows,
		row{parse: parser(ParseSecurityDescriptor), value: &sd},
		row{parse: parser(ParseACL), value: sd.DACL},
		row{parse: parser(ParseRDMATransform), value: &RDMATransform{Channel: ChannelRDMAV1, Descriptors: make([]byte, 16),
			Crypto: RDMACryptoTransform{RDMATransformTypeSigning, make([]byte, 16), make([]byte, 12)}}},
		row{parse: parser(ParseSMB1Negotiate), value: &SMB1Negotiate{[]string{SMB1DialectSMB2002, "NT LM 0.12"}}},
		row{parse: parser(ParseReparseDataBuffer), value: &ReparseDataBuffer{ReparseTagNFS, []byte("LNK")}},
		row{parse: parser(ParseNetnameContext), value: &NetnameContext{"server"}},
		row{parse: parser(ParseMaximalAccessRequest), value: &MaximalAccessRequest{5}},
		row{parse: parser(ParseSetSparseBuffer), value: &SetSparseBuffer{true}},
		row{parse: parser(ParseLease), value: lease},
		row{parse: parser(ParseHeader), value: &Header{Command: CommandRead, Flags: FlagServerToRedir, MessageID: 3}},
		row{parse: parser(ParseHeader), value: &Header{Command: CommandRead, Flags: FlagAsyncCommand, AsyncID: 3}},
	)
	for i, r := range rows {
		b, err := r.value.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		roundTrip(t, rows[int(kind)%len(rows)].parse, b, nil)
	})
}

// FuzzLinkTarget looks for a reparse point that is taken for a link with a target that is
// not in it.
func FuzzLinkTarget(f *testing.F) {
	for _, m := range []encoding.BinaryAppender{
		&SymbolicLinkReparseBuffer{"a", "b", SymlinkFlagRelative},
		&ReparseDataBuffer{ReparseTagNFS, append([]byte("LNK\x01\x00\x00\x00\x00"), 'a', 0)},
		&ReparseDataBuffer{ReparseTagLXSymlink, []byte("\x02\x00\x00\x00a/b")},
	} {
		b, err := m.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tag, target, _, ok, err := LinkTarget(b)
		if err != nil {
			wantMalformed(t, err, "link")
			return
		}
		if tag != ReparseTag(le.Uint32(b)) || !ok && target != "" {
			t.Fatalf("tag %#x, target %q, link %v", tag, target, ok)
		}
		// No octet of the input makes more than three of UTF-8.
		if len(target) > 3*len(b) {
			t.Fatalf("%d octets of target in %d", len(target), len(b))
		}
	})
}

// list re-encodes what an iterator yields and checks that it yields the same.
func list[T any](t *testing.T, b []byte, decode func([]byte) iter.Seq2[T, error], encode func(*EntryList, T) bool) {
	want, err := collect(decode(b))
	if err != nil {
		wantMalformed(t, err, "list")
		return
	}
	l := NewEntryList(nil, 1<<30)
	for _, v := range want {
		if !encode(&l, v) {
			t.Fatalf("%+v does not fit", v)
		}
	}
	got, err := collect(decode(l.Bytes()))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v\nwant %+v\nfrom %x", got, err, want, l.Bytes())
	}
}

var directoryClasses = []FileInfoClass{
	ClassFileDirectoryInformation, ClassFileFullDirectoryInformation, ClassFileIDFullDirectoryInformation,
	ClassFileBothDirectoryInformation, ClassFileIDBothDirectoryInformation, ClassFileIDExtdDirectoryInformation,
	ClassFileID64ExtdDirectoryInformation, ClassFileID64ExtdBothDirectoryInfo, ClassFileIDAllExtdDirectoryInformation,
	ClassFileIDAllExtdBothDirectoryInfo, ClassFileNamesInformation,
}

// FuzzLists has every list of entries.
func FuzzLists(f *testing.F) {
	d := DirectoryEntry{FileName: "name", ShortName: "N~1", FileID: 7}
	for i, c := range directoryClasses {
		l := NewEntryList(nil, 1000)
		l.AppendDirectoryEntry(c, &d)
		l.AppendDirectoryEntry(c, &d)
		f.Add(uint8(i), l.Bytes())
	}
	n := uint8(len(directoryClasses))
	l := NewEntryList(nil, 1000)
	l.AppendNotify(FileNotifyInformation{FileActionAdded, "x"})
	l.AppendNotify(FileNotifyInformation{FileActionRemoved, "yz"})
	f.Add(n, l.Bytes())
	l = NewEntryList(nil, 1000)
	l.AppendStream(FileStreamInformation{1, 2, "::$DATA"})
	f.Add(n+1, l.Bytes())
	l = NewEntryList(nil, 1000)
	l.AppendEa(FileFullEaInformation{0, "NAME", []byte("value")})
	l.AppendEa(FileFullEaInformation{0, "N", nil})
	f.Add(n+2, l.Bytes())
	l = NewEntryList(nil, 1000)
	l.AppendGetEa("NAME")
	l.AppendGetEa("N")
	f.Add(n+3, l.Bytes())
	l = NewEntryList(nil, 1000)
	l.AppendPosixEntry(&FilePosixInformation{Inode: 3}, "x")
	f.Add(n+4, l.Bytes())
	ctx, _ := AppendCreateContext(nil, CreateContextLease, make([]byte, 52))
	ctx, _ = AppendCreateContext(ctx, CreateContextQueryMaximalAccess, nil)
	f.Add(n+5, ctx)
	f.Add(n+6, AppendNetworkInterfaceInfos(nil, make([]NetworkInterfaceInfo, 2)))
	f.Add(n+7, append(compound(4, 8), 1))
	errs, _ := AppendErrorContext(nil, ErrorIDDefault, []byte{1})
	f.Add(n+8, errs)
	f.Add(n+9, make([]byte, 32))
	f.Add(n+10, BufferDescriptor{Offset: 1 << 63, Token: 7, Length: 1<<32 - 1}.Append(BufferDescriptor{Length: 1<<32 - 1}.Append(nil)))
	f.Add(n+11, AppendCompressionFormat(nil, CompressionFormatLZNT1))

	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		k := int(kind) % (len(directoryClasses) + 12)
		if k < len(directoryClasses) {
			class := directoryClasses[k]
			list(t, b, func(b []byte) iter.Seq2[DirectoryEntry, error] { return DirectoryEntries(b, class) },
				func(l *EntryList, d DirectoryEntry) bool { return l.AppendDirectoryEntry(class, &d) })
			return
		}
		switch k - len(directoryClasses) {
		case 0:
			list(t, b, FileNotifyInformations, (*EntryList).AppendNotify)
		case 1:
			list(t, b, FileStreamInformations, (*EntryList).AppendStream)
		case 2:
			list(t, b, FileFullEaInformations, (*EntryList).AppendEa)
		case 3:
			list(t, b, FileGetEaInformations, (*EntryList).AppendGetEa)
		case 4:
			list(t, b, PosixEntries, func(l *EntryList, p PosixEntry) bool {
				return l.AppendPosixEntry(&p.FilePosixInformation, p.FileName)
			})
		case 5:
			fuzzCreateContexts(t, b)
		case 9:
			ranges, err := ParseAllocatedRanges(b)
			if err != nil {
				wantMalformed(t, err, "ranges")
				return
			}
			var again []byte
			for _, r := range ranges {
				again, _ = r.AppendBinary(again)
			}
			if !bytes.Equal(again, b) {
				t.Fatalf("%x of %x", again, b)
			}
		case 10:
			ds, err := ParseBufferDescriptors(b)
			if err != nil {
				wantMalformed(t, err, "descriptors")
				return
			}
			var again []byte
			total := uint64(0)
			for d := range ds.All() {
				again = d.Append(again)
				total += uint64(d.Length)
			}
			if !bytes.Equal(again, b) || total != ds.TotalLength() {
				t.Fatalf("%x of %x, %d octets of %d", again, b, ds.TotalLength(), total)
			}
		case 11:
			v, err := ParseCompressionFormat(b)
			if err != nil {
				wantMalformed(t, err, "format")
			} else if !bytes.Equal(AppendCompressionFormat(nil, v), b[:2]) {
				t.Fatalf("%v of %x", v, b)
			}
		case 6:
			want, err := collect(NetworkInterfaceInfos(b))
			if err != nil {
				wantMalformed(t, err, "interfaces")
				return
			}
			got, err := collect(NetworkInterfaceInfos(AppendNetworkInterfaceInfos(nil, want)))
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
			}
		case 7:
			fuzzCompound(t, b)
		case 8:
			for _, err := range (&ErrorResponse{ErrorContextCount: 255, ErrorData: b}).Contexts() {
				if err != nil {
					wantMalformed(t, err, "error contexts")
				}
			}
		}
	})
}

func fuzzCreateContexts(t *testing.T, b []byte) {
	want, err := collect(CreateContexts(b))
	if err != nil {
		wantMalformed(t, err, "create contexts")
		return
	}
	var out []byte
	for _, c := range want {
		if out, err = AppendCreateContext(out, string(c.Name), c.Data); err != nil {
			if !isTooLong(err) {
				t.Fatal(err)
			}
			return
		}
	}
	got, err := collect(CreateContexts(out))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %x, %v\nwant %x", got, err, want)
	}
}

// The elements of a compound are the whole of it, in order.
func fuzzCompound(t *testing.T, b []byte) {
	var whole []byte
	for m, err := range Compound(b) {
		if err != nil {
			wantMalformed(t, err, "compound")
			return
		}
		if len(m) < HeaderSize {
			t.Fatalf("message of %d octets", len(m))
		}
		whole = append(whole, m...)
	}
	if !bytes.Equal(whole, b) {
		t.Fatalf("got %x\nwant %x", whole, b)
	}
}

// fuzzRDMATransform: what was decoded lies within the input, and encodes to what
// decodes the same, unless its signature or nonce is longer than any.
func fuzzRDMATransform(t *testing.T, b []byte) {
	m, err := ParseRDMATransform(b)
	if err != nil {
		wantMalformed(t, err, "RDMA transform")
		return
	}
	if n := 24 + len(m.Crypto.Signature) + len(m.Crypto.Nonce) + len(m.Descriptors); n > len(b) {
		t.Fatalf("%d octets of %d", n, len(b))
	}
	out, err := m.AppendBinary(nil)
	if err != nil {
		if !isTooLong(err) {
			t.Fatal(err)
		}
		return
	}
	if len(out) != m.Len() {
		t.Fatalf("%d octets, Len %d", len(out), m.Len())
	}
	if len(m.Descriptors) == 0 {
		m.Channel = ChannelNone // of others the decoder wants a place for descriptors
		out, _ = m.AppendBinary(nil)
	}
	if again, err := ParseRDMATransform(out); err != nil || !reflect.DeepEqual(again, m) {
		t.Fatalf("got %+v, %v\nwant %+v", again, err, m)
	}
}

// FuzzTransforms has the headers in front of encrypted and compressed messages, and
// the structure beside RDMA data.
func FuzzTransforms(f *testing.F) {
	for _, sig := range []int{0, 16} {
		m := RDMATransform{Channel: ChannelRDMAV1Invalidate, Descriptors: make([]byte, 32),
			Crypto: RDMACryptoTransform{RDMATransformTypeEncryption, make([]byte, sig), make([]byte, 12)}}
		b, _ := m.AppendBinary(nil)
		f.Add(b)
	}
	h := TransformHeader{OriginalMessageSize: 64, Flags: 1, SessionID: 3}
	f.Add(append(h.Append(nil), make([]byte, 64)...))
	c := CompressionHeader{OriginalCompressedSegmentSize: 100, Offset: 1}
	f.Add(append(c.Append(nil), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzRDMATransform(t, b)
		if h, rest, err := ParseTransformHeader(b); err != nil {
			wantMalformed(t, err, "transform")
		} else if h2, rest2, err := ParseTransformHeader(append(h.Append(nil), rest...)); err != nil || h2 != h || !bytes.Equal(rest, rest2) {
			t.Fatalf("got %+v, %v\nwant %+v", h2, err, h)
		}
		if h, rest, err := ParseCompressionHeader(b); err != nil {
			wantMalformed(t, err, "compression")
		} else if h2, rest2, err := ParseCompressionHeader(append(h.Append(nil), rest...)); err != nil || h2 != h || !bytes.Equal(rest, rest2) {
			t.Fatalf("got %+v, %v\nwant %+v", h2, err, h)
		}
	})
}

// FuzzText: UTF-16 is kept whatever it is; UTF-8 is kept if it is valid; a SID
// string is the SID's.
func FuzzText(f *testing.F) {
	f.Add([]byte("a\x00\x3d\xd8\x00\xde\x00\xd8"))
	f.Add([]byte("\xed\xa0\x80\xff"))
	f.Add([]byte("S-1-5-32-544"))
	f.Fuzz(func(t *testing.T, b []byte) {
		even := b[:len(b)&^1]
		if got := EncodeUTF16(DecodeUTF16(even)); !bytes.Equal(got, even) {
			t.Fatalf("UTF-16 %x became %x", even, got)
		}
		s := string(b)
		enc := EncodeUTF16(s)
		if len(enc) != UTF16Len(s) {
			t.Fatalf("UTF16Len(%q) = %d, is %d", s, UTF16Len(s), len(enc))
		}
		if got := DecodeUTF16(enc); utf8.ValidString(s) && got != s {
			t.Fatalf("%q became %q", s, got)
		}
		if sid, err := ParseSIDString(s); err == nil {
			if back, err := ParseSIDString(sid.String()); err != nil || back != sid {
				t.Fatalf("SID %q: %v became %v, %v", s, sid, back, err)
			}
		}
	})
}
