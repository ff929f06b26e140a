// Command nbdpeer serves one file of an SMB share as a network block device on a
// Unix socket, so that fio, whose engine "nbd" needs no mount, judges this
// project's client octet by octet.
//
//	nbdpeer -provider iwarp -host 10.78.0.1 -share share -file f -size 256M \
//	        -user tester%secret -socket /tmp/nbd &
//	fio --ioengine=nbd --uri='nbd+unix:///?socket=/tmp/nbd' --verify=crc32c ...
//
// It prints "ready" when the socket is there. On SIGTERM it ends and prints how
// many file bytes went by RDMA and in messages. A request whose I/O fails is
// answered with EIO, and the first failure is printed with the time it took.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/test/vm/way"
)

type options struct {
	provider, host, share, file, user, socket string
	port                                      int
	size                                      int64
	signing, encrypt                          bool
	timeout                                   time.Duration
}

func main() {
	var o options
	var size string
	flag.StringVar(&o.provider, "provider", "iwarp", "iwarp, verbs or tcp")
	flag.StringVar(&o.host, "host", "", "address of the server")
	flag.IntVar(&o.port, "port", 0, "its port; 0 is that of the transport")
	flag.StringVar(&o.share, "share", "share", "name of the share")
	flag.StringVar(&o.file, "file", "nbd", "file in it; it is made if it is not there, and never shortened")
	flag.StringVar(&size, "size", "64M", "its size: bytes, or with K, M or G")
	flag.StringVar(&o.user, "user", "", "NAME%PASSWORD")
	flag.StringVar(&o.socket, "socket", "", "path of the Unix socket to serve on")
	flag.BoolVar(&o.signing, "signing", false, "require signing")
	flag.BoolVar(&o.encrypt, "encrypt", false, "require encryption")
	flag.DurationVar(&o.timeout, "timeout", client.DefaultTimeout, "limit for the answer to one request")
	flag.Parse()
	var err error
	if o.size, err = parseSize(size); err != nil || o.host == "" || o.socket == "" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "nbdpeer:", err)
		os.Exit(1) //nolint:gocritic // the context ends with the process
	}
}

func parseSize(s string) (int64, error) {
	unit := int64(1)
	switch {
	case strings.HasSuffix(s, "K"):
		unit = 1 << 10
	case strings.HasSuffix(s, "M"):
		unit = 1 << 20
	case strings.HasSuffix(s, "G"):
		unit = 1 << 30
	}
	n, err := strconv.ParseInt(strings.TrimRight(s, "KMG"), 10, 32)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("size %q is not a positive number of bytes, K, M or G", s)
	}
	return n * unit, nil
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	d, addr, err := way.To(o.provider, o.host, o.port, log, nil)
	if err != nil {
		return err
	}
	user, password, _ := strings.Cut(o.user, "%")
	// RDMA is what is tried, also where an adapter in software would rather not.
	cfg := client.Config{User: user, Password: password, Timeout: o.timeout, ServerName: o.host, RDMAThreshold: client.DefaultRDMAThreshold}
	if o.signing {
		cfg.Signing = client.SigningRequired
	}
	if o.encrypt {
		cfg.Encryption = client.EncryptRequired
	}
	s, err := client.Dial(ctx, d, addr, cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	share, err := s.Mount(ctx, o.share)
	if err != nil {
		return err
	}
	f, err := share.OpenFile(ctx, o.file, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() < o.size {
		if err := f.Truncate(ctx, o.size); err != nil {
			return err
		}
	}
	l, err := net.Listen("unix", o.socket)
	if err != nil {
		return err
	}
	used, why := s.RDMAStatus()
	fmt.Fprintf(out, "rdma=%v (%s)\nready\n", used, why)
	err = serveAll(ctx, l, &judged{File: f, out: out}, uint64(o.size))
	n := s.Stats()
	fmt.Fprintf(out, "rdma_bytes_read=%d rdma_bytes_written=%d inline_bytes_read=%d inline_bytes_written=%d requests=%d\n",
		n.RDMABytesRead, n.RDMABytesWritten, n.InlineBytesRead, n.InlineBytesWritten, n.Requests)
	return err
}

// judged is a file whose first failure is told.
type judged struct {
	*client.File
	out  io.Writer
	once sync.Once
}

// ReadAt implements io.ReaderAt.
func (j *judged) ReadAt(p []byte, off int64) (int, error) {
	start := time.Now()
	n, err := j.File.ReadAt(p, off)
	if n < len(p) {
		j.failed(start, "read", err)
	}
	return n, err
}

// WriteAt implements io.WriterAt.
func (j *judged) WriteAt(p []byte, off int64) (int, error) {
	start := time.Now()
	n, err := j.File.WriteAt(p, off)
	j.failed(start, "write", err)
	return n, err
}

// Sync implements backing.
func (j *judged) Sync() error {
	start := time.Now()
	err := j.File.Sync(context.Background())
	j.failed(start, "flush", err)
	return err
}

func (j *judged) failed(start time.Time, op string, err error) {
	if err != nil {
		j.once.Do(func() {
			fmt.Fprintf(j.out, "failed after %.1fs: %s: closed=%v: %v\n", time.Since(start).Seconds(), op, errors.Is(err, net.ErrClosed), err)
		})
	}
}

// serveAll serves every connection to l until ctx ends, and waits for them.
func serveAll(ctx context.Context, l net.Listener, b backing, size uint64) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns = map[net.Conn]struct{}{} // guarded by mu; nil when all are to end
		stop  = context.AfterFunc(ctx, func() {
			l.Close()
			mu.Lock()
			defer mu.Unlock()
			for c := range conns {
				c.Close()
			}
			conns = nil
		})
	)
	defer wg.Wait()
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		mu.Lock()
		if conns == nil {
			mu.Unlock()
			c.Close()
			return nil
		}
		conns[c] = struct{}{}
		mu.Unlock()
		wg.Go(func() {
			if err := serve(c, b, size); err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "nbdpeer:", err)
			}
			mu.Lock()
			delete(conns, c)
			mu.Unlock()
		})
	}
}
