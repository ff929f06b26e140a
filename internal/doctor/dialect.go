package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// spoken is what SMB2 NEGOTIATE brought on one transport.
type spoken struct {
	err        error
	resp       smb2.NegotiateResponse
	cipher     string
	signing    string
	transforms []string
	params     *transport.Parameters // of SMB Direct
	stats      transport.Stats
}

// speak connects by a dialer and negotiates SMB2, without logging on.
func speak(ctx context.Context, dial transport.Dialer, addr netip.AddrPort) (v spoken) {
	ctx, cancel := context.WithTimeout(ctx, negotiateTime)
	defer cancel()
	c, err := dial.Dial(ctx, addr.String())
	if err != nil {
		return spoken{err: err}
	}
	defer c.Close()
	v.err = v.negotiate(ctx, c)
	if n, ok := c.(transport.Negotiator); ok {
		p := n.Parameters()
		v.params = &p
	}
	v.stats = c.Stats()
	return v
}

// negotiate is [MS-SMB2] 3.2.4.2.2 with everything that there is to offer.
func (v *spoken) negotiate(ctx context.Context, c transport.Conn) error {
	msg, err := negotiateRequest(c.RDMA() != nil)
	if err != nil {
		return err
	}
	if err := c.Send(ctx, &transport.Message{Parts: [][]byte{msg}}); err != nil {
		return err
	}
	m, err := c.Receive(ctx)
	if err != nil {
		return err
	}
	defer m.Release()
	h, err := smb2.ParseHeader(m.Data)
	switch {
	case err != nil:
		return err
	case !h.IsResponse() || h.Command != smb2.CommandNegotiate:
		return fmt.Errorf("a message of command %v answers NEGOTIATE", h.Command)
	case h.Status != ntstatus.Success:
		return fmt.Errorf("NEGOTIATE: %w", h.Status)
	}
	if v.resp, err = smb2.ParseNegotiateResponse(m.Data); err != nil {
		return err
	}
	v.signing = "AES-CMAC"
	switch d := v.resp.DialectRevision; {
	case d < smb2.DialectSMB300:
		v.signing = "HMAC-SHA256"
	case d < smb2.DialectSMB311:
		if v.resp.Capabilities&smb2.GlobalCapEncryption != 0 {
			v.cipher = client.AES128CCM.String()
		}
	default:
		err = v.contexts(v.resp.Contexts)
	}
	v.resp.Contexts, v.resp.SecurityBuffer = nil, nil // they are in the message
	return err
}

func (v *spoken) contexts(cs []smb2.NegotiateContext) error {
	for _, c := range cs {
		switch c.Type {
		case smb2.ContextEncryptionCapabilities:
			e, err := smb2.ParseEncryptionCapabilities(c.Data)
			if err != nil {
				return err
			}
			if len(e.Ciphers) > 0 && e.Ciphers[0] != 0 {
				v.cipher = client.Cipher(e.Ciphers[0]).String()
			}
		case smb2.ContextSigningCapabilities:
			e, err := smb2.ParseSigningCapabilities(c.Data)
			if err != nil {
				return err
			}
			if len(e.SigningAlgorithms) > 0 {
				v.signing = client.SigningAlgorithm(e.SigningAlgorithms[0]).String()
			}
		case smb2.ContextRDMATransformCapabilities:
			e, err := smb2.ParseRDMATransformCapabilities(c.Data)
			if err != nil {
				return err
			}
			for _, id := range e.RDMATransformIDs {
				if id == smb2.RDMATransformEncryption || id == smb2.RDMATransformSigning {
					v.transforms = append(v.transforms, client.RDMATransform(id).String())
				}
			}
		}
	}
	return nil
}

func negotiateRequest(rdma bool) ([]byte, error) {
	req := smb2.NegotiateRequest{
		SecurityMode: smb2.NegotiateSigningEnabled,
		Capabilities: smb2.GlobalCapLargeMTU | smb2.GlobalCapMultiChannel | smb2.GlobalCapEncryption,
	}
	if !rdma { // [MS-SMB2] 2.1
		req.Dialects = append(req.Dialects, smb2.DialectSMB202, smb2.DialectSMB210)
	}
	req.Dialects = append(req.Dialects, smb2.DialectSMB300, smb2.DialectSMB302, smb2.DialectSMB311)
	rand.Read(req.ClientGUID[:]) // never fails
	salt := make([]byte, 32)
	rand.Read(salt)
	var errs error
	for _, c := range []struct {
		t smb2.NegotiateContextType
		m interface {
			AppendBinary([]byte) ([]byte, error)
		}
	}{
		{smb2.ContextPreauthIntegrityCapabilities, &smb2.PreauthIntegrityCapabilities{HashAlgorithms: []smb2.HashAlgorithm{smb2.HashSHA512}, Salt: salt}},
		{smb2.ContextEncryptionCapabilities, &smb2.EncryptionCapabilities{Ciphers: []smb2.Cipher{smb2.CipherAES128GCM, smb2.CipherAES128CCM, smb2.CipherAES256GCM, smb2.CipherAES256CCM}}},
		{smb2.ContextSigningCapabilities, &smb2.SigningCapabilities{SigningAlgorithms: []smb2.SigningAlgorithm{smb2.SigningAESGMAC, smb2.SigningAESCMAC, smb2.SigningHMACSHA256}}},
		{smb2.ContextRDMATransformCapabilities, &smb2.RDMATransformCapabilities{RDMATransformIDs: []smb2.RDMATransformID{smb2.RDMATransformEncryption, smb2.RDMATransformSigning}}},
	} {
		b, err := c.m.AppendBinary(nil)
		errs = errors.Join(errs, err)
		req.Contexts = append(req.Contexts, smb2.NegotiateContext{Type: c.t, Data: b})
	}
	h := smb2.Header{Command: smb2.CommandNegotiate, Credits: 1}
	b, err := req.AppendBinary(h.Append(nil))
	return b, errors.Join(errs, err)
}

// capabilities are those that matter here, by the names of [MS-SMB2] 2.2.4.
func capabilities(c smb2.Capabilities) (out []string) {
	for _, n := range []struct {
		bit  smb2.Capabilities
		name string
	}{
		{smb2.GlobalCapLargeMTU, "LARGE_MTU"}, {smb2.GlobalCapMultiChannel, "MULTI_CHANNEL"},
		{smb2.GlobalCapEncryption, "ENCRYPTION"}, {smb2.GlobalCapLeasing, "LEASING"},
		{smb2.GlobalCapPersistentHandles, "PERSISTENT_HANDLES"}, {smb2.GlobalCapDirectoryLeasing, "DIRECTORY_LEASING"},
	} {
		if c&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

// dialect is SMB2 NEGOTIATE on SMB Direct and on TCP. From here on it is known
// where SMB over TCP is.
func (d *doctor) dialect(ctx context.Context) {
	s := d.begin(StepDialect, "SMB2 dialect")
	at, open := d.firstOpen(d.cfg.TCPPort)
	if open && d.best != nil && d.best.fabric.OverTCP && d.best.dst == at {
		open = false // that port is the one of SMB Direct
	}
	// What answered MPA with something else than SMB need not be asked again.
	other := d.otherThanSMB(at)
	var rdma, plain spoken
	each(2, func(i int) {
		switch {
		case i == 0 && d.best != nil:
			rdma = speak(ctx, d.best.fabric.Dialer, d.best.dst)
		case i == 1 && open && other == "":
			plain = speak(ctx, d.cfg.TCP, at)
		}
	})
	var ok []string
	if d.best != nil {
		rdma.tell(s, "smbdirect_")
		d.tellParameters(&rdma)
		if d.spoke = rdma.err == nil; d.spoke {
			ok = append(ok, fmt.Sprintf("%v by SMB Direct", rdma.resp.DialectRevision))
		}
	}
	var tcpWrong string
	switch {
	case !open:
	case other != "":
		tcpWrong = fmt.Sprintf("at TCP %v is %s, no SMB", at, other)
	case plain.err != nil:
		tcpWrong = fmt.Sprintf("at TCP %v is %s: %v", at, identify(ctx, at), plain.err)
	default:
		d.tcpAddr = at
		plain.tell(s, "tcp_")
		ok = append(ok, fmt.Sprintf("%v by TCP", plain.resp.DialectRevision))
	}
	text := strings.Join(ok, ", ")
	switch {
	case d.best != nil && rdma.err != nil:
		s.fail("allow SMB 3.0 or later on the server (server max protocol), and see what its log says", "no SMB2 over SMB Direct at %v: %v", d.best.dst, rdma.err)
	case tcpWrong != "":
		s.fail("name the port that the server has for SMB over TCP with -p", "%s", strings.TrimPrefix(text+"; "+tcpWrong, "; "))
	case text == "":
		s.end(NotPossible, "there is no connection")
	default:
		s.end(OK, "%s", text)
	}
}

// otherThanSMB is what was found at an address when MPA was tried there; "" if
// nothing was, or SMB.
func (d *doctor) otherThanSMB(at netip.AddrPort) string {
	for _, a := range d.tried {
		if a.dst == at && a.speaks != speaksSMB {
			return a.speaks
		}
	}
	return ""
}

// tell notes what was negotiated.
func (v *spoken) tell(s *Step, prefix string) {
	if v.err != nil {
		return
	}
	r := &v.resp
	s.quiet(prefix+"dialect", r.DialectRevision.String())
	s.add(prefix+"capabilities", capabilities(r.Capabilities))
	s.add(prefix+"signing_required", r.SecurityMode&smb2.NegotiateSigningRequired != 0)
	s.add(prefix+"signing", v.signing)
	s.add(prefix+"cipher", v.cipher)
	if v.params != nil {
		s.add(prefix+"rdma_transforms", v.transforms)
	}
	s.quiet(prefix+"max_read", r.MaxReadSize)
	s.quiet(prefix+"max_write", r.MaxWriteSize)
	s.quiet(prefix+"max_transact", r.MaxTransactSize)
}

// tellParameters adds to the step of SMB Direct what came of it.
func (d *doctor) tellParameters(v *spoken) {
	s := d.step(StepSMBDirect + d.best.fabric.Name)
	if v.params == nil || s == nil {
		return
	}
	p := v.params
	s.add("peer_profile", p.Peer)
	s.quiet("max_send_size", p.MaxSendSize)
	s.quiet("max_receive_size", p.MaxReceiveSize)
	s.quiet("max_fragmented_send_size", p.MaxFragmentedSendSize)
	s.quiet("max_fragmented_receive_size", p.MaxFragmentedRecvSize)
	s.quiet("max_read_write_size", p.MaxReadWriteSize)
	s.quiet("keepalive_seconds", p.KeepaliveInterval)
	s.add("read_limit", p.ReadLimit)
	s.add("send_credits", v.stats.SendCredits)
	s.quiet("receive_credits", v.stats.ReceiveCredits)
}
