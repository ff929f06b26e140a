package smbdtest

import (
	"encoding/binary"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// SMB2_RDMA_TRANSFORM_CAPABILITIES, [MS-SMB2] 2.2.3.1.6, 2.2.4.1.6 and 3.3.5.4.

// allTransforms are the ids that there are.
var allTransforms = []smb2.RDMATransformID{smb2.RDMATransformEncryption, smb2.RDMATransformSigning}

// capabilities negotiates with the contexts that change makes of the mandatory
// ones, and returns the answer and its context's data; nil if there is none.
func capabilities(t *T, extra ...smb2.NegotiateContext) (*smb2Peer, *smb2Answer, []byte) {
	p := dialSMB2(t, smb2Options{})
	a := p.sendNegotiate(append(p.contexts(), extra...))
	if a.lost != nil || a.hdr.Status != ntstatus.Success {
		return p, a, nil
	}
	data, n := smb2.FindNegotiateContext(p.neg.Contexts, smb2.ContextRDMATransformCapabilities)
	if n > 1 {
		t.Errorf("NEGOTIATE response: %d RDMA transform contexts, want one", n)
	}
	return p, a, data
}

// needTransforms skips a case against a server without RDMA transforms, which
// ignores the context, [MS-SMB2] 3.3.5.4.
func needTransforms(t *T) {
	p, a, data := capabilities(t, rdmaCapabilities(2, allTransforms...))
	p.must(a, "NEGOTIATE")
	if data == nil {
		t.Skipf("the server does not offer RDMA transforms")
	}
	p.Close()
}

// offered checks a context of the response: exactly these ids.
func (p *smb2Peer) offered(data []byte, want ...smb2.RDMATransformID) {
	if len(data) < 8 {
		p.t.Errorf("RDMA transform context of %d octets, want 8 and two for each id", len(data))
		return
	}
	le := binary.LittleEndian
	if n := int(le.Uint16(data)); n != len(want) || len(data) != 8+2*n {
		p.t.Errorf("RDMA transform context: TransformCount %d in %d octets, want %d in %d", n, len(data), len(want), 8+2*len(want))
		return
	}
	if le.Uint16(data[2:]) != 0 || le.Uint32(data[4:]) != 0 {
		p.t.Errorf("RDMA transform context: Reserved % x, want zeros", data[2:8])
	}
	var got []smb2.RDMATransformID
	for b := data[8:]; len(b) > 0; b = b[2:] {
		got = append(got, smb2.RDMATransformID(le.Uint16(b)))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		p.t.Errorf("RDMA transform context: ids %v, want %v", got, want)
	}
}

var _ = register(
	smb2Raw(Case{
		Name: "BVT_Negotiate_SMB311_RdmaTransformCapabilities_IsSupported", Spec: "[MS-SMB2] 3.3.5.4, 2.2.4.1.6",
		Microsoft: []string{"BVT_Negotiate_SMB311_RdmaTransformCapabilities_IsSupported"},
		Rows:      []string{"SM-22"},
		Doc:       "A server with RDMA transforms answers the context with the common ids, with NONE alone if there is none, and not at all if it was not asked.",
	}, func(t *T) {
		needTransforms(t)
		for _, row := range []struct{ offer, want []smb2.RDMATransformID }{
			{allTransforms, allTransforms},
			{[]smb2.RDMATransformID{2, 1}, allTransforms},
			{allTransforms[:1], allTransforms[:1]},
			{allTransforms[1:], allTransforms[1:]},
			{[]smb2.RDMATransformID{0x7FFF, 2}, allTransforms[1:]},
			{[]smb2.RDMATransformID{0x7FFF}, []smb2.RDMATransformID{smb2.RDMATransformNone}},
			{[]smb2.RDMATransformID{3, 4, 0x100, 0xFFFF}, []smb2.RDMATransformID{smb2.RDMATransformNone}},
			{[]smb2.RDMATransformID{smb2.RDMATransformNone}, []smb2.RDMATransformID{smb2.RDMATransformNone}},
		} {
			t.Logf("offering %v", row.offer)
			p, a, data := capabilities(t, rdmaCapabilities(uint16(len(row.offer)), row.offer...))
			p.must(a, "NEGOTIATE")
			p.offered(data, row.want...)
			p.Close()
		}
		p, a, data := capabilities(t)
		p.must(a, "NEGOTIATE")
		if data != nil {
			t.Errorf("NEGOTIATE response: an RDMA transform context, and none was sent")
		}
	}),
	smb2Raw(Case{
		Name: "Negotiate_SMB311_RdmaTransformCapabilities_Reserved", Spec: "[MS-SMB2] 2.2.3.1.6",
		Rows: []string{"SM-21"},
		Doc:  "Reserved1 and Reserved2 of the context, and octets behind its ids, are ignored.",
	}, func(t *T) {
		needTransforms(t)
		c := rdmaCapabilities(2, allTransforms...)
		copy(c.Data[2:], []byte{1, 2, 3, 4, 5, 6})
		c.Data = append(c.Data, 0xFF, 0xFF, 0xFF)
		p, a, data := capabilities(t, c)
		p.must(a, "NEGOTIATE")
		p.offered(data, allTransforms...)
	}),
	badCapabilities("Negotiate_SMB311_RdmaTransformCapabilities_EmptyTransformIds", true,
		"A context with TransformCount 0 is STATUS_INVALID_PARAMETER.",
		func() [][]smb2.NegotiateContext {
			return [][]smb2.NegotiateContext{
				{rdmaCapabilities(0)},
				{rdmaCapabilities(0, allTransforms...)},
			}
		}),
	badCapabilities("Negotiate_SMB311_RdmaTransformCapabilities_InvalidDataLength", true,
		"A context that is shorter than its fields, or than its TransformCount says, is STATUS_INVALID_PARAMETER.",
		func() (out [][]smb2.NegotiateContext) {
			for _, n := range []int{0, 1, 2, 7, 8, 9, 11} {
				c := rdmaCapabilities(2, allTransforms...)
				c.Data = c.Data[:n]
				out = append(out, []smb2.NegotiateContext{c})
			}
			return append(out, []smb2.NegotiateContext{rdmaCapabilities(3, allTransforms...)},
				[]smb2.NegotiateContext{rdmaCapabilities(0xFFFF, allTransforms...)})
		}),
	badCapabilities("Negotiate_SMB311_RdmaTransformCapabilities_Twice", false,
		"The context twice is STATUS_INVALID_PARAMETER, also where it is the same.",
		func() [][]smb2.NegotiateContext {
			return [][]smb2.NegotiateContext{
				{rdmaCapabilities(2, allTransforms...), rdmaCapabilities(2, allTransforms...)},
				{rdmaCapabilities(1, 1), rdmaCapabilities(1, 2)},
			}
		}),
)

// badCapabilities is a case of SM-21: each of the contexts, on a connection of its
// own, is refused.
func badCapabilities(name string, microsoft bool, doc string, lists func() [][]smb2.NegotiateContext) Case {
	c := Case{Name: name, Spec: "[MS-SMB2] 3.3.5.4", Rows: []string{"SM-21"}, Doc: doc}
	if microsoft {
		c.Microsoft = []string{name}
	}
	return smb2Raw(c, func(t *T) {
		needTransforms(t)
		for _, list := range lists() {
			p, a, _ := capabilities(t, list...)
			for _, c := range list {
				t.Logf("context % x", c.Data)
			}
			p.expect(a, "NEGOTIATE", ntstatus.InvalidParameter)
			p.finish()
			p.Close()
		}
	})
}
