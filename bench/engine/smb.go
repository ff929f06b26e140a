package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/result"
	"github.com/smbd-rdma/smbd-rdma/client"
)

// optNoBuffering asks the server for no cache of its own, [MS-SMB2] 2.2.13.
const optNoBuffering client.Option = 0x00000008

// share does I/O on a share, by this project's client.
type share struct {
	name  string
	ctx   context.Context // of the calls of Do, which Close ends
	stop  context.CancelFunc
	sess  *client.Session
	share *client.Share
	files []*client.File
	begin client.Stats
}

func newShare(ctx context.Context, e *Env, s Spec) (Target, error) {
	direct := s.Engine == job.EngineSMBDirect
	sess, err := e.Session(ctx, &s.Remote, direct)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", s.Remote.Server, err)
	}
	sh, err := sess.Mount(ctx, s.Remote.Share)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("share %s of server %s: %w", s.Remote.Share, s.Remote.Server, err), sess.Close())
	}
	if used, why := sh.RDMAStatus(); direct && !used {
		return nil, errors.Join(fmt.Errorf("share %s of server %s: no SMB Direct: %s", s.Remote.Share, s.Remote.Server, why), sess.Close())
	}
	t := &share{name: string(s.Engine), sess: sess, share: sh, begin: sess.Stats()}
	t.ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	return t, nil
}

func (t *share) Stat(ctx context.Context, name string) (int64, error) {
	st, err := t.share.Stat(ctx, name)
	if err != nil {
		return 0, err
	}
	if st.IsDir() {
		return 0, fmt.Errorf("%s is a directory", name)
	}
	return st.Size(), nil
}

func (t *share) Open(ctx context.Context, i int, name string, f OpenFlags) error {
	o := client.CreateOptions{Share: client.ShareRead | client.ShareWrite | client.ShareDelete, Disposition: client.OpenExisting, Options: client.OptNonDirectory}
	o.Access = client.AccessReadAttributes
	if f.Read {
		o.Access |= client.AccessReadData
	}
	if f.Write {
		o.Access |= client.AccessWriteData | client.AccessWriteAttributes
	}
	switch {
	case f.Exclusive:
		o.Disposition = client.CreateNew
	case f.Create:
		o.Disposition = client.OpenIf
	}
	if f.Direct {
		o.Options |= optNoBuffering
	}
	if f.Sync || f.DataSync {
		o.Options |= client.OptWriteThrough
	}
	file, err := t.share.CreateFile(ctx, name, o)
	if err != nil {
		return err
	}
	for len(t.files) <= i {
		t.files = append(t.files, nil)
	}
	if t.files[i] != nil {
		_ = t.files[i].Close()
	}
	t.files[i] = file
	return nil
}

func (t *share) CloseFile(i int) error {
	f := t.files[i]
	t.files[i] = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

func (t *share) Truncate(ctx context.Context, i int, size int64) error {
	return t.files[i].Truncate(ctx, size)
}

func (t *share) Remove(ctx context.Context, name string) error { return t.share.Remove(ctx, name) }

// Forget does nothing: this client caches nothing.
func (*share) Forget(int) error { return nil }

func (t *share) Do(u *Unit) {
	u.N, u.Err = 0, nil
	if u.File >= len(t.files) || t.files[u.File] == nil {
		u.Err = errNotOpen
		return
	}
	f := t.files[u.File]
	switch u.Op {
	case Read:
		if u.N, u.Err = f.ReadAtContext(t.ctx, u.Buf, u.Offset); u.Err == io.EOF {
			u.Err = nil
		}
	case Write:
		u.N, u.Err = f.WriteAtContext(t.ctx, u.Buf, u.Offset)
	default:
		u.Err = f.Sync(t.ctx)
	}
}

func (t *share) Stats() result.Engine {
	st, info := t.sess.Stats(), t.sess.Info()
	e := result.Engine{
		Name:        t.name,
		CreditWaits: st.CreditWaits - t.begin.CreditWaits,
		RDMABytes:   st.RDMABytesRead + st.RDMABytesWritten - t.begin.RDMABytesRead - t.begin.RDMABytesWritten,
		InlineBytes: st.InlineBytesRead + st.InlineBytesWritten - t.begin.InlineBytesRead - t.begin.InlineBytesWritten,
		CopiedBytes: st.BytesCopied - t.begin.BytesCopied,
	}
	signing, encryption := "off", "off"
	if info.Signed {
		signing = info.SigningAlgorithm.String()
	}
	if info.Encrypted || t.share.Encrypted() {
		signing, encryption = "off", info.Cipher.String()
	}
	e.Facts = []result.Option{
		{Name: "server", Value: info.Remote}, {Name: "share", Value: t.share.Name()}, {Name: "dialect", Value: info.Dialect.String()},
		{Name: "signing", Value: signing}, {Name: "encryption", Value: encryption},
		{Name: "rdma provider", Value: info.RDMAProvider}, {Name: "channels", Value: strconv.Itoa(len(t.sess.Channels()))},
		{Name: "max read", Value: strconv.Itoa(info.MaxRead)}, {Name: "max write", Value: strconv.Itoa(info.MaxWrite)}, {Name: "max rdma", Value: strconv.Itoa(info.MaxRDMA)},
	}
	return e
}

// Interrupt ends the connections: closing a file would wait for a server that does not
// answer, as I/O does.
func (t *share) Interrupt() {
	t.stop()
	_ = t.sess.Close() // never fails
}

func (t *share) Close() error {
	t.stop()
	var errs []error
	for i := range t.files {
		errs = append(errs, t.CloseFile(i))
	}
	return errors.Join(append(errs, t.sess.Close())...)
}
