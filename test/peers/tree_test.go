//go:build peers

package peers

import (
	"crypto/rand"
	"encoding/json"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const gib = 1 << 30

// goSource is the source tree of the Go toolchain, some 10,000 files.
func goSource(t *testing.T) string {
	root := strings.TrimSpace(command(t, "", "go", "env", "GOROOT"))
	src, err := filepath.EvalSymlinks(filepath.Join(root, "src"))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func bigFile(t testing.TB, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	var seed [32]byte
	rand.Read(seed[:])
	if _, err := io.CopyN(f, mathrand.NewChaCha8(seed), gib); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

type moved struct {
	Files     int64
	Bytes     int64
	RDMABytes int64 `json:"rdma_bytes"`
	Provider  string
}

// Put by our client over SMB Direct, read back by smbclient over TCP.
func TestTreePutByRDMAGotBySmbclient(t *testing.T) {
	src := goSource(t)
	want := sums(t, src)
	served, fetched := t.TempDir(), t.TempDir()
	s := startBinServer(t, served)

	var m moved
	lines := strings.Split(strings.TrimSpace(ours(t, s, "put", "-r", "--json", "--rdma-threshold", "1", src, "//127.0.0.1/test/tree")), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &m); err != nil { // the last one has the sums
		t.Fatal(err)
	}
	if m.Files != int64(len(want)) || m.RDMABytes != m.Bytes || m.Provider != "iwarp" {
		t.Errorf("put says %+v; want %d files, every byte by RDMA on iwarp", m, len(want))
	}
	sameTree(t, want, sums(t, filepath.Join(served, "tree")))
	smbclientRun(t, s, fetched, "prompt; recurse; cd tree; mget *")
	sameTree(t, want, sums(t, fetched))
}

// Put by smbclient over TCP, read back by our client over SMB Direct.
func TestTreePutBySmbclientGotByRDMA(t *testing.T) {
	src := goSource(t)
	want := sums(t, src)
	served, fetched := t.TempDir(), t.TempDir()
	s := startBinServer(t, served)

	smbclientRun(t, s, src, "prompt; recurse; mkdir tree; cd tree; mput *")
	sameTree(t, want, sums(t, filepath.Join(served, "tree")))
	ours(t, s, "get", "-r", "//127.0.0.1/test/tree", filepath.Join(fetched, "tree"))
	sameTree(t, want, sums(t, filepath.Join(fetched, "tree")))
}

// One file of 1 GiB, both ways round.
func TestOneGiBThereAndBack(t *testing.T) {
	work, served := t.TempDir(), t.TempDir()
	s := startBinServer(t, served)
	bigFile(t, filepath.Join(work, "big"))
	want := sums(t, work)["big"]

	ours(t, s, "put", filepath.Join(work, "big"), "//127.0.0.1/test/by-rdma")
	smbclientRun(t, s, work, "get by-rdma got-by-smbclient; put big by-smbclient")
	ours(t, s, "get", "//127.0.0.1/test/by-smbclient", filepath.Join(work, "got-by-rdma"))
	for name, sum := range sums(t, work) {
		if sum != want {
			t.Errorf("%s differs from what was put", name)
		}
	}
	for name, sum := range sums(t, served) {
		if sum != want {
			t.Errorf("%s on the server differs from what was put", name)
		}
	}
}
