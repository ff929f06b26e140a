package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/client/kerberos"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// mounted is a share of the server of the examples.
func mounted(cfg client.Config) (share *client.Share, stop func()) {
	dialer, addr, stopServer := example()
	cfg.User, cfg.Password = "ann", "secret"
	s, err := client.Dial(context.Background(), dialer, addr, cfg)
	if err != nil {
		log.Fatal(err)
	}
	if share, err = s.Mount(context.Background(), "data"); err != nil {
		log.Fatal(err)
	}
	return share, func() { s.Close(); stopServer() }
}

// A Kerberos ticket that kinit has got logs on, in place of a password.
func ExampleConfig_kerberos() {
	ctx := context.Background()
	creds, err := kerberos.FromCache("", kerberos.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer creds.Close()
	d, err := tcp.NewDialer(tcp.Config{})
	if err != nil {
		log.Fatal(err)
	}
	s, err := client.Dial(ctx, d, "nas.example.com:445", client.Config{Auth: creds, Encryption: client.EncryptRequired})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
}

// Errors are those of package os, and say what the server said.
func ExampleError() {
	share, stop := mounted(client.Config{})
	defer stop()
	ctx := context.Background()
	_, err := share.OpenFile(ctx, "none/f", os.O_CREATE|os.O_WRONLY, 0o666)
	fmt.Println(errors.Is(err, os.ErrNotExist))
	var e *client.Error
	if errors.As(err, &e) {
		fmt.Println(e.Op, e.Path, e.Status)
	}
	// Output:
	// true
	// open none/f STATUS_OBJECT_PATH_NOT_FOUND
}

// A context ends a call that waits, here for a lock that somebody else has.
func ExampleFile_Lock() {
	share, stop := mounted(client.Config{})
	defer stop()
	ctx := context.Background()
	a, err := share.Create(ctx, "f")
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	b, err := share.OpenFile(ctx, "f", os.O_RDWR, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	fmt.Println(a.Lock(ctx, 0, 10, client.LockOptions{}))
	err = b.Lock(ctx, 5, 10, client.LockOptions{})
	fmt.Println(errors.Is(err, syscall.EAGAIN))
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	err = b.Lock(short, 5, 10, client.LockOptions{Wait: true})
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output:
	// <nil>
	// true
	// true
}

// io.Copy between two files of a session: the server copies, and no byte travels.
func ExampleFile_ReadFrom_server() {
	share, stop := mounted(client.Config{})
	defer stop()
	ctx := context.Background()
	if err := share.WriteFile(ctx, "from", []byte(strings.Repeat("data", 1000)), 0o666); err != nil {
		log.Fatal(err)
	}
	from, err := share.Open(ctx, "from")
	if err != nil {
		log.Fatal(err)
	}
	defer from.Close()
	to, err := share.Create(ctx, "to")
	if err != nil {
		log.Fatal(err)
	}
	defer to.Close()
	before := share.Session().Stats()
	n, err := io.Copy(to, from)
	after := share.Session().Stats()
	fmt.Println(n, err, after.RDMABytesRead-before.RDMABytesRead+after.InlineBytesRead-before.InlineBytesRead)
	// Output: 4000 <nil> 0
}

// Data in a sparse file are found without reading its holes.
func ExampleFile_SeekData() {
	share, stop := mounted(client.Config{})
	defer stop()
	ctx := context.Background()
	f, err := share.Create(ctx, "image")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.SetSparse(ctx, true), f.Truncate(ctx, 1<<30)); err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 1<<20), 512<<20); err != nil {
		log.Fatal(err)
	}
	data, err := f.SeekData(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	hole, err := f.SeekHole(ctx, data)
	fmt.Println(data>>20, hole>>20, err)
	// Output: 512 513 <nil>
}

// Symbolic links are made and read whatever the form they are kept in.
func ExampleShare_Symlink() {
	share, stop := mounted(client.Config{})
	defer stop()
	ctx := context.Background()
	if err := share.WriteFile(ctx, "v1.2", []byte("release"), 0o666); err != nil {
		log.Fatal(err)
	}
	if err := share.Symlink(ctx, "v1.2", "latest"); err != nil {
		log.Fatal(err)
	}
	target, err := share.Readlink(ctx, "latest")
	fmt.Println(target, err)
	data, err := share.ReadFile(ctx, "latest")
	fmt.Println(string(data), err)
	// Output:
	// v1.2 <nil>
	// release <nil>
}

// With the POSIX extensions files have permission bits and owners.
func ExampleShare_Chmod() {
	share, stop := mounted(client.Config{POSIX: client.POSIXRequired})
	defer stop()
	ctx := context.Background()
	f, err := share.OpenFile(ctx, "run.sh", os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		log.Fatal(err)
	}
	f.Close()
	if err := share.Chmod(ctx, "run.sh", 0o750); err != nil {
		log.Fatal(err)
	}
	fi, err := share.Stat(ctx, "run.sh")
	fmt.Println(fi.Mode(), fi.Links(), err)
	// Output: -rwxr-x--- 1 <nil>
}

// A security descriptor is read and written as SDDL.
func ExampleShare_SecurityDescriptor() {
	share, stop := mounted(client.Config{})
	defer stop()
	ctx := context.Background()
	if err := share.WriteFile(ctx, "f", nil, 0o666); err != nil {
		log.Fatal(err)
	}
	sd, err := client.ParseSDDL("D:P(A;;FA;;;S-1-22-1-0)(A;;FR;;;WD)")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sd.DACL[1].Trustee, sd.DACL[1].Access == 0x120089)
	if err := share.SetSecurityDescriptor(ctx, "f", client.SecurityDACL, sd); err != nil {
		fmt.Println(errors.Is(err, os.ErrPermission)) // only the owner may
		return
	}
	sd, err = share.SecurityDescriptor(ctx, "f", client.SecurityDACL)
	fmt.Println(len(sd.DACL), err)
	// Output:
	// S-1-1-0 true
	// 2 <nil>
}
