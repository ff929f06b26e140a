package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/internal/dcerpc"
	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// pipe is an open named pipe of IPC$, in message mode. What is written is
// answered at once, so that readers wait only for a write that is on its way.
type pipe struct {
	p *dcerpc.Pipe

	mu sync.Mutex
	// wrote is closed and replaced by every write. guarded by mu
	wrote chan struct{}
}

// createPipe opens a pipe, [MS-SMB2] 3.3.5.9 for named pipes.
func createPipe(r *request, req *smb2.CreateRequest) ntstatus.Status {
	name := smb2.DecodeUTF16(req.Name)
	switch {
	case req.CreateDisposition > smb2.FileOverwriteIf, req.CreateOptions&smb2.FileDirectoryFile != 0:
		return ntstatus.InvalidParameter
	case strings.HasPrefix(name, `\`):
		return ntstatus.InvalidParameter
	case req.CreateDisposition != smb2.FileOpen && req.CreateDisposition != smb2.FileOpenIf:
		return ntstatus.AccessDenied
	case req.ImpersonationLevel == smb2.ImpersonationDelegate:
		return ntstatus.BadImpersonationLevel
	}
	if st := r.reserveOpen(); st != ntstatus.Success {
		return st
	}
	p, err := r.srv.rpcHandler(r.sess, r.conn.tc.RemoteAddr()).Open(name)
	if err != nil {
		r.sess.opens.unreserve()
		return ntstatus.ObjectNameNotFound
	}
	access := (req.DesiredAccess &^ smb2.MaximumAllowed).Expand()
	if req.DesiredAccess&smb2.MaximumAllowed != 0 {
		access |= smb2.FileGenericRead | smb2.FileGenericWrite
	}
	o := &open{
		number: r.srv.lastOpen.Add(1), srv: r.srv, sess: r.sess, tree: r.tree,
		isPipe: true, access: access, options: req.CreateOptions,
		pipe:    &pipe{p: p, wrote: make(chan struct{})},
		closing: make(chan struct{}),
	}
	o.refs.Store(1)
	if st := r.addOpen(o); st != ntstatus.Success {
		return st
	}
	resp := smb2.CreateResponse{
		CreateAction:   smb2.FileOpened,
		AllocationSize: clusterSize,
		FileAttributes: smb2.FileAttributeNormal,
		FileID:         o.id,
	}
	r.out, err = resp.AppendBinary(r.out)
	return r.appended(err)
}

// listShares is what NetrShareEnum shows a session: the shares that are not hidden, and
// IPC$ last.
func (s *Server) listShares(sess *session, peer net.Addr) []dcerpc.Share {
	var list []dcerpc.Share
	for _, sh := range s.live.Load().visible(s, sess, peer) {
		list = append(list, dcerpc.Share{Name: sh.Name, Type: dcerpc.ShareDisk, Comment: s.commentFor(sess, peer, sh), Path: `C:\` + sh.Name})
	}
	return append(list, dcerpc.Share{
		Name: ipcShare.Name, Type: dcerpc.ShareIPC | dcerpc.ShareSpecial, Comment: ipcShare.Comment,
	})
}

func (p *pipe) written() {
	p.mu.Lock()
	close(p.wrote)
	p.wrote = make(chan struct{})
	p.mu.Unlock()
}

func (p *pipe) nextWrite() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrote
}

// pipeRead fills b from the message that is due. It waits for one, with an
// interim response, if there is none. BufferOverflow says that the message has
// more than b takes.
func (o *open) pipeRead(ctx context.Context, r *request, b []byte) (int, ntstatus.Status) {
	if o.access&smb2.FileReadData == 0 {
		return 0, ntstatus.AccessDenied
	}
	for {
		next := o.pipe.nextWrite()
		n, more, err := o.pipe.p.Read(b)
		switch {
		case err == nil && more:
			return n, ntstatus.BufferOverflow
		case err == nil:
			return n, ntstatus.Success
		case !errors.Is(err, dcerpc.ErrEmpty):
			return 0, pipeStatus(err)
		}
		if st := r.goAsync(); st != ntstatus.Success {
			return 0, st
		}
		select {
		case <-next:
		case <-ctx.Done():
			return 0, ntstatus.Cancelled
		case <-o.closing:
			return 0, ntstatus.PipeBroken
		}
	}
}

// pipeWrite takes a message of the client.
func (o *open) pipeWrite(_ context.Context, _ *request, b []byte) (int, ntstatus.Status) {
	if o.access&(smb2.FileWriteData|smb2.FileAppendData) == 0 {
		return 0, ntstatus.AccessDenied
	}
	n, err := o.pipe.p.Write(b)
	o.pipe.written()
	return n, pipeStatus(err)
}

// pipeTransact is FSCTL_PIPE_TRANSCEIVE, [MS-SMB2] 3.3.5.15.3: a message there
// and up to limit bytes of its answer back. BufferOverflow says that READ gets
// the rest.
func (o *open) pipeTransact(_ context.Context, _ *request, in []byte, limit int) ([]byte, ntstatus.Status) {
	if !o.isPipe {
		return nil, ntstatus.InvalidDeviceRequest
	}
	if o.access&smb2.FileReadData == 0 || o.access&smb2.FileWriteData == 0 {
		return nil, ntstatus.AccessDenied
	}
	out, more, err := o.pipe.p.Transact(in, limit)
	o.pipe.written()
	if err == nil && more {
		return out, ntstatus.BufferOverflow
	}
	return out, pipeStatus(err)
}

func pipeStatus(err error) ntstatus.Status {
	switch {
	case err == nil:
		return ntstatus.Success
	case errors.Is(err, dcerpc.ErrBusy):
		return ntstatus.PipeBusy
	case errors.Is(err, dcerpc.ErrEmpty):
		return ntstatus.PipeEmpty
	}
	return ntstatus.PipeDisconnected
}

// pipePeek is FSCTL_PIPE_PEEK, [MS-FSCC] 2.3.47: what there is to read, without
// the data itself.
func (o *open) pipePeek(limit int) ([]byte, ntstatus.Status) {
	if !o.isPipe {
		return nil, ntstatus.InvalidDeviceRequest
	}
	const size = 16
	if limit < size {
		return nil, ntstatus.BufferTooSmall
	}
	all, first := o.pipe.p.Available()
	out := le.AppendUint32(nil, 3) // FILE_PIPE_CONNECTED_STATE
	out = le.AppendUint32(out, uint32(all))
	messages := uint32(0)
	if first > 0 {
		messages = 1
	}
	out = le.AppendUint32(out, messages)
	return le.AppendUint32(out, uint32(first)), ntstatus.Success
}

// pipeInfo answers the classes of QUERY_INFO that a pipe has.
func (q *infoQuery) pipeInfo(class smb2.FileInfoClass) ntstatus.Status {
	o := q.o
	all, _ := o.pipe.p.Available()
	switch class {
	case smb2.ClassFileStandardInformation:
		return q.fixed(&smb2.FileStandardInformation{AllocationSize: clusterSize, EndOfFile: uint64(all), NumberOfLinks: 1, DeletePending: true})
	case smb2.ClassFilePipeInformation:
		return q.fixed(&smb2.FilePipeInformation{ReadMode: 1})
	case smb2.ClassFilePipeLocalInformation:
		return q.fixed(&smb2.FilePipeLocalInformation{
			NamedPipeType: 1, NamedPipeConfiguration: 2, // messages, both ways
			MaximumInstances: ^uint32(0), CurrentInstances: 1,
			InboundQuota: clusterSize, OutboundQuota: clusterSize, WriteQuotaAvailable: clusterSize,
			ReadDataAvailable: uint32(all), NamedPipeState: 3, NamedPipeEnd: 0,
		})
	case smb2.ClassFileBasicInformation:
		return q.fixed(&smb2.FileBasicInformation{FileAttributes: smb2.FileAttributeNormal})
	case smb2.ClassFileAccessInformation:
		return q.fixed(&smb2.FileAccessInformation{AccessFlags: o.access})
	case smb2.ClassFileInternalInformation:
		return q.fixed(&smb2.FileInternalInformation{IndexNumber: o.id.Volatile})
	}
	return ntstatus.NotSupported
}
