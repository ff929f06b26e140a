package smbdtest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// SMB2 is an upper layer that is an SMB2 server: the cases log on to Target.Share
// and write and read a file there, in the messages, which the server removes with
// the end of the connection.
type SMB2 struct{}

// errInterim says that a message is not the answer that is waited for.
var errInterim = errors.New("smbdtest: not the answer")

// Open implements Upper.
func (SMB2) Open(t *T, s *Stream) Talk {
	if t.Share == "" {
		t.Skipf("no share is given, and the upper layer is SMB2")
	}
	p := newSMB2Peer(t, s, s, smb2Options{dialects: []smb2.Dialect{smb2.DialectSMB300, smb2.DialectSMB302, smb2.DialectSMB311}})
	if missing := p.login(); missing != "" {
		t.Skipf("%s", missing)
	}
	return &smb2Talk{p: p}
}

type smb2Talk struct {
	p    *smb2Peer
	id   smb2.FileID
	made bool
	size int // bytes of the file
}

// talkCredits is how many SMB2 credits a talk has in stock, so that no message of a
// case has to wait for them: enough for one of a MiB and many small ones.
const talkCredits = 64

// Prepare implements Talk.
func (k *smb2Talk) Prepare(n int) {
	if !k.made {
		k.id, k.made = k.p.create(nil), true
		k.p.earn(talkCredits)
	}
	if n > k.size {
		content := make([]byte, n)
		for i := range content {
			content[i] = fileByte(i)
		}
		k.p.fill(k.id, content)
		k.size = n
	}
}

func fileByte(i int) byte { return byte(i>>8) ^ byte(i)*31 }

// Sizes of messages that carry data, [MS-SMB2] 2.2.1.2, 2.2.20, 2.2.21.
const (
	smb2WriteHeader = 64 + 48 // of a WRITE request before its data
	smb2ReadHeader  = 64 + 16 // of a READ response before its data
)

// Message implements Talk: an ECHO, or a WRITE if it is to be longer.
func (k *smb2Talk) Message(n int) ([]byte, func([]byte) error) {
	if n <= smb2WriteHeader {
		return k.request(smb2Request{cmd: smb2.CommandEcho, body: &smb2.EchoRequest{}}, nil)
	}
	k.Prepare(0)
	data := make([]byte, min(n-smb2WriteHeader, int(k.p.neg.MaxWriteSize)))
	for i := range data {
		data[i] = fileByte(i)
	}
	k.size = max(k.size, len(data))
	return k.request(smb2Request{cmd: smb2.CommandWrite, payload: len(data), body: &smb2.WriteRequest{FileID: k.id, Data: data}},
		func(a *smb2Answer) error {
			resp, err := smb2.ParseWriteResponse(a.msg)
			if err == nil && int(resp.Count) != len(data) {
				err = fmt.Errorf("%d of %d bytes were written", resp.Count, len(data))
			}
			return err
		})
}

// Fetch implements Talk: a READ. The answer is of n bytes if it is to be longer
// than a READ response's header.
func (k *smb2Talk) Fetch(n int) ([]byte, func([]byte) error) {
	n = max(n-smb2ReadHeader, 1)
	k.Prepare(n)
	return k.request(smb2Request{cmd: smb2.CommandRead, payload: n,
		body: &smb2.ReadRequest{Padding: smb2.ReadDataOffset, FileID: k.id, Length: uint32(n)}},
		func(a *smb2Answer) error {
			resp, err := smb2.ParseReadResponse(a.msg)
			if err != nil {
				return err
			}
			want := make([]byte, n)
			for i := range want {
				want[i] = fileByte(i)
			}
			if !bytes.Equal(resp.Data, want) {
				return fmt.Errorf("the file has other bytes; %d of %d came", len(resp.Data), n)
			}
			return nil
		})
}

// request makes the message of r and what checks its answer.
func (k *smb2Talk) request(r smb2Request, check func(*smb2Answer) error) ([]byte, func([]byte) error) {
	id, msg := k.p.encode(r)
	return msg, func(answer []byte) error {
		a := k.p.decode(UpperMessage{Data: answer})
		switch {
		case a.hdr.MessageID != id, a.hdr.Status == ntstatus.Pending:
			return errInterim
		case a.hdr.Status != ntstatus.Success:
			return fmt.Errorf("%v response: %w", a.hdr.Command, a.hdr.Status)
		case check == nil:
			return nil
		}
		return check(a)
	}
}
