package smb2

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// smbd-bufdesc-v1.hex: Offset 0xABCDE012, Token 0x1A00BC56, Length 1 MiB.
var vectorDescriptor = BufferDescriptor{0xABCDE012, 0x1A00BC56, 1048576}

func TestBufferDescriptorVector(t *testing.T) {
	want := readVector(t, "smbd-bufdesc-v1.hex")
	if got := vectorDescriptor.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	l, err := ParseBufferDescriptors(append(bytes.Clone(want), want...))
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(l.All()); !slices.Equal(got, []BufferDescriptor{vectorDescriptor, vectorDescriptor}) {
		t.Errorf("got %+v", got)
	}
	if got := l.TotalLength(); got != 2*1048576 {
		t.Errorf("TotalLength %d", got)
	}
	for _, n := range []int{0, 1, 15, 17, 31} {
		_, err := ParseBufferDescriptors(make([]byte, n))
		wantMalformed(t, err, "descriptor list of odd size")
	}
}

// smb2-rdma-transform.hex: descriptors at 56, ENCRYPTION, signature of 16 and nonce of 12 octets.
func TestRDMATransformVector(t *testing.T) {
	wire := readVector(t, "smb2-rdma-transform.hex")
	want := RDMATransform{
		Channel:        ChannelRDMAV1Invalidate,
		TransformCount: 1,
		Crypto: RDMACryptoTransform{
			TransformType: RDMATransformTypeEncryption,
			Signature:     unhex(t, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"),
			Nonce:         unhex(t, "0102030405060708090a0b0c"),
		},
		Descriptors: vectorDescriptor.Append(nil),
	}
	got, err := ParseRDMATransform(wire)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
	if b, err := want.AppendBinary(nil); err != nil || !bytes.Equal(b, wire) {
		t.Errorf("AppendBinary\n got %x, %v\nwant %x", b, err, wire)
	}
	if want.Len() != len(wire) {
		t.Errorf("Len %d, want %d", want.Len(), len(wire))
	}
	for n := range wire {
		_, err := ParseRDMATransform(wire[:n:n])
		wantMalformed(t, err, "truncated")
	}
	// SM-27: a signature of 17 octets is for the receiver to refuse, as
	// STATUS_AUTH_TAG_MISMATCH; the nonce then begins one octet later.
	long := bytes.Clone(wire)
	long[18] = 17
	if m, err := ParseRDMATransform(long); err != nil || len(m.Crypto.Signature) != 17 ||
		!bytes.Equal(m.Crypto.Nonce, unhex(t, "02030405060708090a0b0c00")) || !bytes.Equal(m.Descriptors, want.Descriptors) {
		t.Errorf("signature of 17: %+v, %v", m, err)
	}
	for name, spoil := range map[string]func([]byte){
		"TransformCount 0 ([MS-SMB2] 3.3.5.13)":          func(b []byte) { b[8] = 0 },
		"TransformCount 2":                               func(b []byte) { b[8] = 2 },
		"nonce beyond the end":                           func(b []byte) { b[21] = 0xFF },
		"descriptors over the transform":                 func(b []byte) { b[0] = 24 },
		"descriptors before the padding's end":           func(b []byte) { b[0] = 52 },
		"descriptors later than need be":                 func(b []byte) { b[0], b[2] = 64, 8 },
		"crypto transform longer, descriptors not moved": func(b []byte) { b[20] = 21 },
		"descriptors beyond the end":                     func(b []byte) { b[2] = 32 },
	} {
		b := bytes.Clone(wire)
		spoil(b)
		_, err := ParseRDMATransform(b)
		wantMalformed(t, err, name)
	}
}

// [MS-SMB2] 3.3.5.12: in a READ response the transform has no descriptors.
func TestRDMATransformWithoutDescriptors(t *testing.T) {
	m := RDMATransform{Channel: ChannelNone, TransformCount: 1,
		Crypto: RDMACryptoTransform{TransformType: RDMATransformTypeSigning, Signature: make([]byte, 16)}}
	b, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, `0000 0000 00000000 0100 0000 00000000 0200 1000 0000 0000 00000000000000000000000000000000`)
	if !bytes.Equal(b, want) {
		t.Errorf("got %x\nwant %x", b, want)
	}
	if got, err := ParseRDMATransform(b); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// smb2-netif-info.hex: IfIndex 7, RDMA_CAPABLE, 25 Gbit/s, 192.0.2.10.
func TestNetworkInterfaceInfoVector(t *testing.T) {
	wire := readVector(t, "smb2-netif-info.hex")
	want := NetworkInterfaceInfo{IfIndex: 7, Capability: InterfaceRDMACapable, LinkSpeed: 25e9, Addr: netip.MustParseAddr("192.0.2.10")}
	for got, err := range NetworkInterfaceInfos(wire) {
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if got := AppendNetworkInterfaceInfos(nil, []NetworkInterfaceInfo{want}); !bytes.Equal(got, wire) {
		t.Errorf("append\n got %x\nwant %x", got, wire)
	}
	list := []NetworkInterfaceInfo{want, {IfIndex: 8, Capability: 3, LinkSpeed: 1, Addr: netip.MustParseAddr("2001:db8::1")}, {IfIndex: 9}}
	b := AppendNetworkInterfaceInfos(nil, list)
	var got []NetworkInterfaceInfo
	for n, err := range NetworkInterfaceInfos(b) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if !slices.Equal(got, list) {
		t.Errorf("got %+v\nwant %+v", got, list)
	}
	// IPv6: the address is behind Port and FlowInfo, 2.2.32.5.1.2.
	if fam := le.Uint16(b[152+24:]); fam != 0x17 || b[152+32] != 0x20 || b[152+47] != 1 {
		t.Errorf("IPv6 entry %x", b[152:304])
	}
	for n := 1; n < len(b); n++ {
		bad := false
		for _, err := range NetworkInterfaceInfos(b[:n:n]) {
			if err != nil {
				wantMalformed(t, err, "truncated")
				bad = true
			}
		}
		if !bad {
			t.Errorf("the first %d octets gave no error", n)
		}
	}
}
