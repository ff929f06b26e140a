package smbdtest

import (
	"bytes"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// What SMB2 is on SMB Direct at all, [MS-SMB2] 2.1.

var _ = register(
	smb2Raw(Case{
		Name: "Smb2OverRdmaChannel_NoLengthPrefix", Spec: "[MS-SMB2] 2.1",
		Rows: []string{"SM-01"},
		Doc:  "The server's messages begin with the SMB2 header. One of ours behind the four octets that TCP has for a length is no SMB2 message, and ends the connection.",
	}, func(t *T) {
		p := dialSMB2(t, smb2Options{})
		p.must(p.sendNegotiate(p.contexts()), "NEGOTIATE")
		p.finish()

		p = dialSMB2(t, smb2Options{})
		_, msg := p.encode(smb2Request{cmd: smb2.CommandNegotiate, body: &smb2.NegotiateRequest{
			SecurityMode: smb2.NegotiateSigningEnabled, Dialects: p.opt.dialects, Contexts: p.contexts()}})
		prefix := []byte{0, byte(len(msg) >> 16), byte(len(msg) >> 8), byte(len(msg))}
		t.Must("send", p.sendMessage(append(prefix, msg...)))
		p.expectLost(p.receive(), "a NEGOTIATE with a length before it")
	}),
	smb2Raw(Case{
		Name: "Smb2OverRdmaChannel_OldDialects", Spec: "[MS-SMB2] 2.1, 3.3.5.4",
		Rows: []string{"SM-01"},
		Doc:  "2.0.2 and 2.1 do not run on RDMA: a NEGOTIATE for them alone is refused or ends the connection, and beside 3.0 they are not chosen.",
	}, func(t *T) {
		for _, offer := range [][]smb2.Dialect{{smb2.DialectSMB202}, {smb2.DialectSMB210}, {smb2.DialectSMB202, smb2.DialectSMB210}} {
			p := dialSMB2(t, smb2Options{dialects: offer})
			if a := p.sendNegotiate(nil); a.lost == nil {
				p.expect(a, "NEGOTIATE for old dialects", ntstatus.NotSupported)
			}
			p.finish()
		}
		p := dialSMB2(t, smb2Options{dialects: []smb2.Dialect{smb2.DialectSMB202, smb2.DialectSMB210, smb2.DialectSMB300}})
		a := p.sendNegotiate(nil)
		if a.lost == nil && a.hdr.Status == ntstatus.NotSupported {
			t.LeaveOut("the server has no dialect 3.0")
		} else if p.must(a, "NEGOTIATE"); p.dialect != smb2.DialectSMB300 {
			t.Errorf("the server chose %v, want 3.0", p.dialect)
		}
		p.finish()
	}),
	smb2Raw(Case{
		Name: "Smb2OverRdmaChannel_NotSMB2", Spec: "[MS-SMB2] 3.3.5.2",
		Rows: []string{"SM-01"},
		Doc:  "Messages that are neither SMB2 nor encrypted SMB2, or shorter than a header, end the connection.",
	}, func(t *T) {
		for _, msg := range [][]byte{
			[]byte("not a message of any kind, but longer than a header of SMB2, which has 64 octets"),
			append([]byte("\xfeSMB\x40\x00"), make([]byte, 40)...),
			bytes.Repeat([]byte{0}, 64),
			{0xFE},
		} {
			p := dialSMB2(t, smb2Options{})
			t.Must("send", p.sendMessage(msg))
			p.expectLost(p.receive(), "a message that is not SMB2")
			p.finish()
		}
	}),
)
