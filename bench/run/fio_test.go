package run

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/bench/job"
)

// What fio has written is verified here, and a byte that has changed since is found. (And fio
// verifies what is written here: test/peers/fio. Not sha512, of which fio has had a sum only
// since 3.39: before, it kept the last bytes of the data in its place.)
func TestVerifiesWhatFioWrote(t *testing.T) {
	fio, err := exec.LookPath("fio")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("fio is not installed")
	}
	for _, m := range []job.VerifyMethod{job.VerifyCRC32C, job.VerifyCRC32, job.VerifyMD5, job.VerifySHA1, job.VerifySHA256, job.VerifyXXHash, job.VerifyPattern} {
		t.Run(m.String(), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "f")
			cmd := exec.CommandContext(t.Context(), fio, "--name=a", "--verify_state_save=0", "--rw=randwrite", "--bs=8k", "--size=256k", "--filename="+name, "--verify="+m.String(),
				"--verify_pattern=0xdeadbeef%o", "--do_verify=0", "--verify_interval=4k", "--ioengine=psync")
			cmd.Dir = filepath.Dir(name)
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			j := with(aJob("v", job.EnginePosix, reads, 8192, 256<<10), func(j *job.Job) {
				j.Files, j.Verify, j.VerifyInterval = []string{name}, m, 4096
				j.VerifyPattern = job.Pattern{Bytes: []byte{0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0, 0, 0, 0}, Offsets: []int{4}}
			})
			if rs, err := do(t, j); err != nil || rs[0].Verified != 32 {
				t.Fatalf("%v, %d blocks", err, rs[0].Verified)
			}
			flip(t, name, 100_001)
			if _, err := do(t, j); !errors.Is(err, ErrVerify) {
				t.Errorf("error %v, want %v", err, ErrVerify)
			}
		})
	}
}

// flip changes a bit of a file.
func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}
