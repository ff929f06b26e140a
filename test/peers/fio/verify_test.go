//go:build peers

package fio

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fioMinor is the 33 of fio-3.33.
func fioMinor(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("fio", "--version").Output()
	if err != nil {
		t.Fatalf("fio: %v", err)
	}
	_, minor, _ := strings.Cut(strings.TrimSpace(string(out)), "fio-3.")
	minor, _, _ = strings.Cut(minor, "-")
	n, err := strconv.Atoi(minor)
	if err != nil {
		t.Fatalf("fio --version says %q", out)
	}
	return n
}

// What is written here fio verifies, and the other way round; and either notices a bit
// that has changed since.
func TestVerifyEachOther(t *testing.T) {
	bin := os.Getenv("SMBD_RDMA_BIN")
	if bin == "" {
		t.Fatal("SMBD_RDMA_BIN does not say where smbd-rdma is")
	}
	programs := map[string][]string{"fio": {"fio"}, "bench": {bin, "bench"}}
	for _, method := range []string{"crc32", "crc32c", "md5", "sha1", "sha256", "sha512", "xxhash", "pattern"} {
		for _, shape := range []string{"--bs=16k", "--bs=8k --rw=randwrite --verify_interval=512 --verify_offset=200", "--bs=600 --size=60000"} {
			for _, order := range [][2]string{{"bench", "fio"}, {"fio", "bench"}} {
				t.Run(fmt.Sprintf("%s/%s/%s", method, shape, order[0]), func(t *testing.T) {
					if method == "sha512" && fioMinor(t) < 39 {
						t.Skip("fio has a SHA-512 since 3.39: before, it kept the last bytes of the data in its place")
					}
					dir := t.TempDir()
					file := filepath.Join(dir, "f")
					run := func(who string, words ...string) (string, error) {
						line := append(programs[who][1:len(programs[who]):len(programs[who])], "--name=a", "--ioengine=psync", "--size=256k", "--rw=write",
							"--filename="+file, "--verify="+method)
						if method == "pattern" {
							line = append(line, `--verify_pattern=0xdeadbeef%o"end"`)
						}
						line = append(append(line, strings.Fields(shape)...), words...)
						if who == "fio" && fioMinor(t) > 38 && words[0] == "--rw=read" {
							line = append(line, "--verify_header_seed=0") // of fio's own random numbers
						}
						cmd := exec.Command(programs[who][0], line...)
						cmd.Dir = dir
						out, err := cmd.CombinedOutput()
						return string(out), err
					}
					if out, err := run(order[0], "--do_verify=0"); err != nil {
						t.Fatalf("write: %v\n%s", err, out)
					}
					if out, err := run(order[1], "--rw=read"); err != nil {
						t.Fatalf("verify: %v\n%s", err, out)
					}
					data, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					data[20_000] ^= 0x10
					if err := os.WriteFile(file, data, 0o600); err != nil {
						t.Fatal(err)
					}
					// Without verify_fatal fio's status is that of the last header of a block.
					if out, err := run(order[1], "--rw=read", "--verify_fatal=1"); err == nil {
						t.Errorf("a changed bit is not noticed\n%s", out)
					}
				})
			}
		}
	}
}
