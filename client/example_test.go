package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"strings"
	"sync"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/server"
	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// example serves an empty directory over SMB Direct for the examples, and returns
// how to reach it and what ends it.
func example() (d transport.Dialer, addr string, stop func()) {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "client-example")
	check(err)
	fsys, err := posix.New(dir, posix.Config{})
	check(err)
	users, err := server.ParseUsers("ann%secret")
	check(err)
	srv, err := server.New(server.Config{Shares: []server.Share{{Name: "data", FS: fsys}}, Users: users})
	check(err)
	p, err := iwarp.New(iwarp.Config{})
	check(err)
	l, err := smbdirect.Listen(context.Background(), p, "iwarp", "127.0.0.1:0", smbdirect.Config{})
	check(err)
	dialer, err := smbdirect.NewDialer(p, "iwarp", smbdirect.Config{})
	check(err)
	served := make(chan struct{})
	go func() { // ended by srv.Close; stop waits
		defer close(served)
		_ = srv.Serve(context.Background(), l)
	}()
	return dialer, l.Addr().String(), func() {
		srv.Close()
		<-served
		fsys.Close()
		os.RemoveAll(dir)
	}
}

func Example() {
	dialer, addr, stop := example()
	defer stop()
	ctx := context.Background()

	s, err := client.Dial(ctx, dialer, addr, client.Config{User: "ann", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	share, err := s.Mount(ctx, "data")
	if err != nil {
		log.Fatal(err)
	}
	f, err := share.Create(ctx, "big")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	// The server fetches p by RDMA from where it lies.
	p := []byte(strings.Repeat("0123456789abcdef", 65536))
	if _, err := f.WriteAt(p, 0); err != nil {
		log.Fatal(err)
	}
	// The server puts the bytes into p[:65536] by RDMA.
	if _, err := f.ReadAt(p[:65536], 16); err != nil {
		log.Fatal(err)
	}
	st := s.Stats()
	fmt.Println("dialect", s.Info().Dialect)
	fmt.Println(st.RDMABytesWritten, "bytes written and", st.RDMABytesRead, "read by RDMA,", st.BytesCopied, "copied")
	// Output:
	// dialect 3.1.1
	// 1048576 bytes written and 65536 read by RDMA, 0 copied
}

func ExampleShare_FS() {
	dialer, addr, stop := example()
	defer stop()
	ctx := context.Background()
	s, err := client.Dial(ctx, dialer, addr, client.Config{User: "ann", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	share, err := s.Mount(ctx, "data")
	if err != nil {
		log.Fatal(err)
	}
	if err := share.MkdirAll(ctx, "docs/old"); err != nil {
		log.Fatal(err)
	}
	if err := share.WriteFile(ctx, "docs/readme", []byte("hello"), 0o666); err != nil {
		log.Fatal(err)
	}

	err = fs.WalkDir(share.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		fmt.Println(path, d.IsDir())
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = share.Stat(ctx, "docs/none")
	fmt.Println(errors.Is(err, fs.ErrNotExist), err)
	// Output:
	// . true
	// docs true
	// docs/old true
	// docs/readme false
	// true smb: stat docs/none: STATUS_OBJECT_NAME_NOT_FOUND
}

func ExampleShare_Watch() {
	dialer, addr, stop := example()
	defer stop()
	ctx := context.Background()
	s, err := client.Dial(ctx, dialer, addr, client.Config{User: "ann", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	share, err := s.Mount(ctx, "data")
	if err != nil {
		log.Fatal(err)
	}
	w, err := share.Watch(ctx, "", client.WatchOptions{Filter: client.WatchDirName})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()

	// The directory that appears while Next waits is told of, whenever that is: so
	// make more until there is an answer.
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() { // ended below, before the session
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			default:
				_ = share.Mkdir(ctx, fmt.Sprint("new", i))
			}
		}
	}()
	changes, err := w.Next(ctx)
	close(ended)
	<-stopped
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(changes[0].Action == client.ActionAdded, strings.HasPrefix(changes[0].Name, "new"))
	// Output: true true
}

func ExampleFile_ReadFrom() {
	dialer, addr, stop := example()
	defer stop()
	ctx := context.Background()
	s, err := client.Dial(ctx, dialer, addr, client.Config{User: "ann", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	share, err := s.Mount(ctx, "data")
	if err != nil {
		log.Fatal(err)
	}
	f, err := share.OpenFile(ctx, "log", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.Copy(f, strings.NewReader(line)); err != nil {
			log.Fatal(err)
		}
	}
	data, err := share.ReadFile(ctx, "log")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(data))
	// Output:
	// one
	// two
}

// A file is cached under a lease, which says when the cache must not be used any more.
func ExampleShare_NewLease() {
	dialer, addr, stop := example()
	defer stop()
	ctx := context.Background()
	session, err := client.Dial(ctx, dialer, addr, client.Config{User: "ann", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	share, err := session.Mount(ctx, "data")
	if err != nil {
		log.Fatal(err)
	}
	var mu sync.Mutex
	var dirty []byte // kept back, guarded by mu
	var f *client.File
	lease := share.NewLease(client.LeaseOptions{
		Want: client.LeaseRead | client.LeaseWrite | client.LeaseHandle,
		OnBreak: func(ctx context.Context, b client.LeaseBreak) client.LeaseState {
			mu.Lock()
			defer mu.Unlock()
			if b.To&client.LeaseWrite == 0 && dirty != nil {
				if _, err := f.WriteAtContext(ctx, dirty, 0); err != nil {
					log.Print(err)
				}
				dirty = nil
			}
			return b.To
		},
	})
	f, err = share.CreateFile(ctx, "cached", client.CreateOptions{
		Access: client.AccessGenericRead | client.AccessGenericWrite, Disposition: client.OpenIf, Lease: lease})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	fmt.Println(lease.State())
	mu.Lock()
	dirty = []byte("written when somebody looks")
	mu.Unlock()
	data, err := share.ReadFile(ctx, "cached") // an open without the lease: it is broken
	fmt.Println(string(data), err)
	// Output:
	// RWH
	// written when somebody looks <nil>
}

// A session that outlives its connections, and the server.
func ExampleReconnectConfig() {
	dialer, addr, stop := example()
	defer stop()
	session, err := client.Dial(context.Background(), dialer, addr, client.Config{
		User: "ann", Password: "secret",
		Reconnect: client.ReconnectConfig{
			Enabled: true,
			Reopen:  client.ReopenSame,
			OnEvent: func(e client.ReconnectEvent) {
				if e.Up {
					log.Printf("connected again after %v: %d opens kept, %d opened again, %d lost",
						e.Downtime, e.Reclaimed, e.Reopened, e.Stale)
				}
			},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Stats().Reconnects, session.Logoff(context.Background()))
	// Output: 0 <nil>
}
