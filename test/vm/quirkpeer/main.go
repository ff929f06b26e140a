// Command quirkpeer does to Linux's cifs.ko and ksmbd, on purpose, what this project
// avoids because of what their source says, and tells what came of it. The
// scripts beside it run it; docs/interop.md has the findings.
//
//	quirkpeer [FLAGS] EXPERIMENT
//
//	keep-tokens   a server that never invalidates the client's token
//	descriptors   a client whose READs and WRITEs have -n buffer descriptors
//	compound      a client that sends -n requests as one compound
//	ird0          a client that offers no RDMA Reads in MPA
//	many-credits  an acceptor that asks cifs.ko for 1000 credits and counts
//
// A server prints "ready" when it listens, and ends on SIGTERM.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
)

type options struct {
	provider, host, share, user, dir string
	port, n                          int
	timeout                          time.Duration
}

var experiments = map[string]func(ctx context.Context, o options, out io.Writer) error{
	"keep-tokens":  keepTokens,
	"descriptors":  descriptors,
	"compound":     compound,
	"ird0":         noReads,
	"many-credits": manyCredits,
}

func main() {
	var o options
	flag.StringVar(&o.provider, "provider", "iwarp", "iwarp or verbs")
	flag.StringVar(&o.host, "host", "", "address of the server, or to listen on")
	flag.IntVar(&o.port, "port", 5445, "its port")
	flag.StringVar(&o.share, "share", "share", "name of the share")
	flag.StringVar(&o.user, "user", "tester%secret", "NAME%PASSWORD")
	flag.StringVar(&o.dir, "dir", "", "keep-tokens: the directory to serve")
	flag.IntVar(&o.n, "n", 1, "how many")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Second, "limit for the answer to one request")
	flag.Parse()
	run := experiments[flag.Arg(0)]
	if run == nil || o.host == "" || o.n < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Printf("%s: %v\n", flag.Arg(0), err)
		os.Exit(1) //nolint:gocritic // the context ends with the process
	}
}

func (o options) config() client.Config {
	user, password, _ := strings.Cut(o.user, "%")
	return client.Config{User: user, Password: password, ServerName: o.host, Timeout: o.timeout,
		Signing: client.SigningIfRequired, CancelGrace: time.Second}
}
