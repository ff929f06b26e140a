//go:build peers

package peers

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/transport"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// Several channels to Samba ("server multi channel support"): they are bound by its
// rules, carry data side by side, and when one is cut nothing is lost.
func TestClientSambaMultichannel(t *testing.T) {
	for _, d := range []client.Dialect{client.SMB302, client.SMB311} {
		t.Run(d.String(), func(t *testing.T) {
			s := startSamba(t, `server multi channel support = yes
    interfaces = "127.0.0.1;if_index=7,capability=RSS,speed=1000000000"
`)
			plain, err := tcp.NewDialer(tcp.Config{})
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var made []transport.Conn
			sess := dialSamba(t, s, client.Config{MaxDialect: d, MaxIOSize: 100_000, Channels: client.ChannelConfig{
				Max: 3, Retry: 10 * time.Millisecond,
				Dial: func(ctx context.Context, i client.NetworkInterface) (transport.Conn, error) {
					if !i.Addr.IsLoopback() || i.Index != 7 || i.RDMA {
						t.Errorf("interface %+v", i)
					}
					_, port, _ := net.SplitHostPort(s.addr)
					c, err := plain.Dial(ctx, net.JoinHostPort(i.Addr.String(), port))
					if err == nil {
						mu.Lock()
						made = append(made, c)
						mu.Unlock()
					}
					return c, err
				},
			}})
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			sess.AwaitChannels(ctx)
			if n := len(sess.Channels()); n != 3 {
				_, why := sess.RDMAStatus()
				t.Fatalf("%d channels, want 3: %s, %+v", n, why, sess.Info())
			}
			sh, err := sess.Mount(ctx, "test")
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, 20<<20)
			rand.NewChaCha8([32]byte{3}).Read(data)
			f, err := sh.OpenFile(ctx, "f", os.O_RDWR|os.O_CREATE, 0o666)
			if err != nil {
				t.Fatal(err)
			}
			cut := func() {
				mu.Lock()
				defer mu.Unlock()
				for _, c := range made {
					c.Close()
				}
				made = nil
			}
			for round := range 4 {
				done := make(chan struct{})
				go func() { // ended by Requests going on; received below
					defer close(done)
					for until := sess.Stats().Requests + 30; sess.Stats().Requests < until && ctx.Err() == nil; {
						time.Sleep(100 * time.Microsecond)
					}
					cut()
				}()
				if n, err := f.WriteAt(data, 0); n != len(data) || err != nil {
					t.Fatalf("round %d: %d bytes written: %v", round, n, err)
				}
				<-done
				got := make([]byte, len(data))
				if n, err := f.ReadAt(got, 0); n != len(data) || err != nil {
					t.Fatalf("round %d: %d bytes read: %v", round, n, err)
				}
				if !bytes.Equal(got, data) {
					t.Fatalf("round %d: what was read is not what was written", round)
				}
				if err := sh.Mkdir(ctx, "d"); err != nil {
					t.Fatal(err)
				}
				if err := sh.Remove(ctx, "d"); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			disk, err := os.ReadFile(filepath.Join(s.dir, "test", "f"))
			if err != nil || !bytes.Equal(disk, data) {
				t.Fatalf("%d bytes on disk, %v", len(disk), err)
			}
			st := sess.Stats()
			t.Logf("%d bindings, %d failovers, %d replays", st.Bindings, st.Failovers, st.Replays)
			if st.Failovers == 0 {
				t.Error("no failover")
			}
		})
	}
}
