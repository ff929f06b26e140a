package smb2

import (
	"bytes"
	"testing"
)

// An offset and a length whose sum leaves 32 bits must not pass: offset 80
// with length 0xFFFFFFFF would, added in 32 bits.
func TestOffsetsAreAddedIn64Bits(t *testing.T) {
	patch := func(body []byte, at int, v uint32) { le.PutUint32(body[at:], v) }
	for _, r := range []struct {
		name  string
		value encoder
		parse func([]byte) (encoder, error)
		spoil func(body []byte)
	}{
		{"READ response length", &ReadResponse{Data: []byte("x")}, parser(ParseReadResponse), func(b []byte) { patch(b, 4, 0xFFFFFFFF) }},
		{"READ response length wraps to 0", &ReadResponse{Data: []byte("x")}, parser(ParseReadResponse), func(b []byte) { patch(b, 4, 0xFFFFFFFF-79) }},
		{"WRITE request length", &WriteRequest{Data: []byte("x")}, parser(ParseWriteRequest), func(b []byte) { patch(b, 4, 0xFFFFFFFF-0x6F) }},
		{"WRITE data in the header", &WriteRequest{Data: []byte("x")}, parser(ParseWriteRequest), func(b []byte) { le.PutUint16(b[2:], 16) }},
		{"WRITE data at offset 0", &WriteRequest{Data: []byte("x")}, parser(ParseWriteRequest), func(b []byte) { le.PutUint16(b[2:], 0) }},
		{"WRITE channel info beyond", &WriteRequest{Channel: ChannelRDMAV1, ChannelInfo: make([]byte, 16)}, parser(ParseWriteRequest),
			func(b []byte) { le.PutUint16(b[42:], 0xFFFF) }},
		{"READ channel info in the header", &ReadRequest{Channel: ChannelRDMAV1, ChannelInfo: make([]byte, 16)}, parser(ParseReadRequest),
			func(b []byte) { le.PutUint16(b[44:], 8) }},
		{"CREATE contexts offset", &CreateRequest{Contexts: make([]byte, 16)}, parser(ParseCreateRequest), func(b []byte) { patch(b, 48, 0xFFFFFFF8) }},
		{"CREATE contexts length", &CreateRequest{Contexts: make([]byte, 16)}, parser(ParseCreateRequest), func(b []byte) { patch(b, 52, 0xFFFFFFF8) }},
		{"CREATE name length odd", &CreateRequest{Name: make([]byte, 4)}, parser(ParseCreateRequest), func(b []byte) { b[46] = 3 }},
		{"IOCTL input", &IoctlRequest{Input: []byte{1}}, parser(ParseIoctlRequest), func(b []byte) { patch(b, 28, 0xFFFFFFFF-0x77) }},
		{"IOCTL output of a request", &IoctlRequest{Input: []byte{1}}, parser(ParseIoctlRequest), func(b []byte) { patch(b, 36, 120); patch(b, 40, 2) }},
		{"IOCTL output", &IoctlResponse{Output: []byte{1}}, parser(ParseIoctlResponse), func(b []byte) { patch(b, 32, 0xFFFFFFFF) }},
		{"QUERY_INFO output", &QueryInfoResponse{OutputBuffer: []byte{1}}, parser(ParseQueryInfoResponse), func(b []byte) { patch(b, 4, 0xFFFFFFFF-71) }},
		{"SET_INFO buffer", &SetInfoRequest{Buffer: []byte{1}}, parser(ParseSetInfoRequest), func(b []byte) { patch(b, 4, 0xFFFFFFFF-95) }},
		{"ERROR data", &ErrorResponse{ErrorData: []byte{1}}, parser(ParseErrorResponse), func(b []byte) { patch(b, 4, 0xFFFFFFFF) }},
		{"LOCK count", &LockRequest{Locks: make([]LockElement, 1)}, parser(ParseLockRequest), func(b []byte) { le.PutUint16(b[2:], 0xFFFF) }},
		{"NEGOTIATE dialect count", &NegotiateRequest{Dialects: []Dialect{1}}, parser(ParseNegotiateRequest), func(b []byte) { le.PutUint16(b[2:], 0xFFFF) }},
		{"NEGOTIATE context offset not a multiple of 8", &NegotiateRequest{Dialects: []Dialect{DialectSMB311}, Contexts: make([]NegotiateContext, 2)},
			parser(ParseNegotiateRequest), func(b []byte) { b[28] += 4 }},
		{"NEGOTIATE context offset", &NegotiateRequest{Dialects: []Dialect{DialectSMB311}, Contexts: make([]NegotiateContext, 2)},
			parser(ParseNegotiateRequest), func(b []byte) { patch(b, 28, 0xFFFFFFF8) }},
		{"NEGOTIATE context count", &NegotiateRequest{Dialects: []Dialect{DialectSMB311}, Contexts: make([]NegotiateContext, 2)},
			parser(ParseNegotiateRequest), func(b []byte) { le.PutUint16(b[32:], 3) }},
		{"NEGOTIATE contexts over the dialects", &NegotiateRequest{Dialects: []Dialect{DialectSMB311}, Contexts: make([]NegotiateContext, 1)},
			parser(ParseNegotiateRequest), func(b []byte) { patch(b, 28, 96) }},
		{"TREE_CONNECT context offset", &TreeConnectRequest{Flags: TreeConnectFlagExtensionPresent, Contexts: make([]TreeConnectContext, 1)},
			parser(ParseTreeConnectRequest), func(b []byte) { patch(b, 8, 0xFFFFFFF8) }},
	} {
		t.Run(r.name, func(t *testing.T) {
			msg, err := r.value.AppendBinary(anyHeader())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.parse(msg); err != nil {
				t.Fatalf("before it is spoilt: %v", err)
			}
			r.spoil(msg[HeaderSize:])
			_, err = r.parse(msg)
			wantMalformed(t, err, r.name)
		})
	}
}

// Offset and length of nothing may be anything: Windows and Linux leave what
// they like there.
func TestEmptyBuffersHaveAnyOffset(t *testing.T) {
	msg, _ := (&QueryInfoRequest{}).AppendBinary(anyHeader())
	le.PutUint16(msg[HeaderSize+8:], 0xFFFF)
	if m, err := ParseQueryInfoRequest(msg); err != nil || m.Input != nil {
		t.Errorf("got %+v, %v", m, err)
	}
	// [MS-SMB2] 2.2.19, 2.2.21: with SMB2_CHANNEL_NONE the server ignores the channel information.
	msg, _ = (&ReadRequest{}).AppendBinary(anyHeader())
	le.PutUint32(msg[HeaderSize+44:], 0xFFFFFFFF)
	if m, err := ParseReadRequest(msg); err != nil || m.ChannelInfo != nil {
		t.Errorf("got %+v, %v", m, err)
	}
}

// The payload may be gathered: fixed part and payload one behind the other are
// the same message as when AppendBinary does it all.
func TestPayloadBehindTheFixedPart(t *testing.T) {
	data := []byte("some payload")
	n := uint32(len(data))
	for _, r := range []struct {
		name         string
		whole, fixed encoder
	}{
		{"READ response", &ReadResponse{Data: data}, &ReadResponse{DataLength: n}},
		{"WRITE request", &WriteRequest{Offset: 5, Data: data}, &WriteRequest{Offset: 5, Length: n}},
		{"WRITE request with channel information", &WriteRequest{Channel: ChannelRDMAV1, ChannelInfo: make([]byte, 20), Data: data},
			&WriteRequest{Channel: ChannelRDMAV1, ChannelInfo: make([]byte, 20), Length: n}},
		{"QUERY_DIRECTORY response", &QueryDirectoryResponse{OutputBuffer: data}, &QueryDirectoryResponse{OutputBufferLength: n}},
		{"QUERY_INFO response", &QueryInfoResponse{OutputBuffer: data}, &QueryInfoResponse{OutputBufferLength: n}},
		{"CHANGE_NOTIFY response", &ChangeNotifyResponse{OutputBuffer: data}, &ChangeNotifyResponse{OutputBufferLength: n}},
	} {
		whole, err := r.whole.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		fixed, err := r.fixed.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := append(fixed, data...); !bytes.Equal(got, whole) {
			t.Errorf("%s\n got %x\nwant %x", r.name, got, whole)
		}
	}
}

// Lengths that do not fit their fields are errors, not cut short.
func TestTooLong(t *testing.T) {
	big := make([]byte, 65536)
	for _, r := range []struct {
		name  string
		value encoder
	}{
		{"SESSION_SETUP request", &SessionSetupRequest{SecurityBuffer: big}},
		{"SESSION_SETUP response", &SessionSetupResponse{SecurityBuffer: big}},
		{"NEGOTIATE response", &NegotiateResponse{SecurityBuffer: big}},
		{"NEGOTIATE context", &NegotiateRequest{Dialects: []Dialect{DialectSMB311}, Contexts: []NegotiateContext{{Data: big}}}},
		{"NEGOTIATE dialects", &NegotiateRequest{Dialects: make([]Dialect, 65536)}},
		{"TREE_CONNECT request", &TreeConnectRequest{Path: big}},
		{"CREATE request", &CreateRequest{Name: big}},
		{"READ request", &ReadRequest{Channel: ChannelRDMAV1, ChannelInfo: big}},
		{"WRITE request", &WriteRequest{Channel: ChannelRDMAV1, ChannelInfo: big}},
		{"QUERY_DIRECTORY request", &QueryDirectoryRequest{FileName: big}},
		{"LOCK request", &LockRequest{Locks: make([]LockElement, 65536)}},
		{"symbolic link error", &SymbolicLinkErrorResponse{PrintName: big}},
		{"reparse data", &ReparseDataBuffer{Data: big}},
		{"RDMA transform signature", &RDMATransform{Crypto: RDMACryptoTransform{Signature: make([]byte, 17)}}},
		{"ACL", &ACL{ACEs: []ACE{{Type: 0x80, Data: big[:40000]}, {Type: 0x80, Data: big[:40000]}}}},
		{"ACE", &ACE{Type: 0x80, Data: big}},
	} {
		if b, err := r.value.AppendBinary(nil); !isTooLong(err) {
			t.Errorf("%s: %d octets, error %v; want ErrTooLong", r.name, len(b), err)
		}
	}
	if _, err := AppendCreateContext(nil, string(big[:256]), nil); !isTooLong(err) {
		t.Errorf("create context name: %v", err)
	}
}

// The data path allocates nothing: no slice grows, no value escapes.
func TestNoAllocations(t *testing.T) {
	buf := make([]byte, 0, 4096)
	data := make([]byte, 1024)
	info := BufferDescriptor{1, 2, 3}.Append(nil)
	name := EncodeUTF16("file")
	msg := func(v encoder) []byte {
		b, err := v.AppendBinary(anyHeader())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	readReq := msg(&ReadRequest{Channel: ChannelRDMAV1, ChannelInfo: info})
	readResp := msg(&ReadResponse{Data: data})
	writeReq := msg(&WriteRequest{Data: data})
	writeResp := msg(&WriteResponse{})
	closeReq := msg(&CloseRequest{})
	createReq := msg(&CreateRequest{Name: name})
	lockReq := msg(&LockRequest{Locks: make([]LockElement, 3)})
	two := compound(8, 8)
	locks := make([]LockElement, 0, 4)
	entry := DirectoryEntry{FileName: "a file name"}
	transform, _ := (&RDMATransform{Channel: ChannelRDMAV1, Crypto: RDMACryptoTransform{Signature: data[:16], Nonce: data[:12]}, Descriptors: info}).AppendBinary(nil)
	var sink error
	for _, r := range []struct {
		name string
		f    func()
	}{
		{"append READ request", func() { (&ReadRequest{Channel: ChannelRDMAV1, ChannelInfo: info}).AppendBinary(buf) }},
		{"append READ response", func() { (&ReadResponse{Data: data}).AppendBinary(buf) }},
		{"append WRITE request", func() { (&WriteRequest{Data: data}).AppendBinary(buf) }},
		{"append WRITE response", func() { (&WriteResponse{}).AppendBinary(buf) }},
		{"append CREATE request", func() { (&CreateRequest{Name: name, Contexts: info}).AppendBinary(buf) }},
		{"append CREATE response", func() { (&CreateResponse{Contexts: info}).AppendBinary(buf) }},
		{"append CLOSE request", func() { (&CloseRequest{}).AppendBinary(buf) }},
		{"append CLOSE response", func() { (&CloseResponse{}).AppendBinary(buf) }},
		{"append header", func() { (&Header{}).Append(buf) }},
		{"append RDMA transform", func() {
			(&RDMATransform{Crypto: RDMACryptoTransform{Signature: data[:16], Nonce: data[:12]}, Descriptors: info}).AppendBinary(buf)
		}},
		{"append UTF-16", func() { AppendUTF16(buf, "name") }},
		{"append directory entry", func() {
			l := NewEntryList(buf, 4096)
			l.AppendDirectoryEntry(ClassFileIDBothDirectoryInformation, &entry)
		}},
		{"parse header", func() { _, sink = ParseHeader(readReq) }},
		{"parse READ request and descriptors", func() {
			m, _ := ParseReadRequest(readReq)
			d, err := ParseBufferDescriptors(m.ChannelInfo)
			_, sink = d.At(0), err
		}},
		{"parse READ response", func() { _, sink = ParseReadResponse(readResp) }},
		{"parse WRITE request", func() { _, sink = ParseWriteRequest(writeReq) }},
		{"parse WRITE response", func() { _, sink = ParseWriteResponse(writeResp) }},
		{"parse CLOSE request", func() { _, sink = ParseCloseRequest(closeReq) }},
		{"parse CREATE request", func() { _, sink = ParseCreateRequest(createReq) }},
		{"parse LOCK request into", func() { _, sink = ParseLockRequestInto(lockReq, locks) }},
		{"parse RDMA transform", func() { _, sink = ParseRDMATransform(transform) }},
		{"compound", func() {
			for _, err := range Compound(two) {
				sink = err
			}
		}},
	} {
		if n := testing.AllocsPerRun(100, r.f); n != 0 {
			t.Errorf("%s: %v allocations", r.name, n)
		}
		if sink != nil {
			t.Errorf("%s: %v", r.name, sink)
		}
	}
}
