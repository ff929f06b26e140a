package job

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// MaxFile is how long a job file may be, in bytes, with what it includes.
const MaxFile = 1 << 20

// Env is what job files may ask of the system.
type Env struct {
	// ReadFile reads a job file, at most MaxFile bytes and one; "-" is standard input.
	ReadFile func(name string) ([]byte, error)
	// Exists says whether there is such a file.
	Exists func(name string) bool
	// Special says whether there is such a file that is no regular file: a job with such
	// a name works on it.
	Special func(name string) bool
	Getenv  func(name string) string // of ${NAME}; empty if it is not set
	Chance  func() uint64            // a seed for randrepeat=0

	PageSize, MemoryMB, CPUs int // $pagesize, $mb_memory, $ncpus
}

// System is the Env of this process.
func System() Env {
	return Env{
		ReadFile: readFile,
		Exists:   func(name string) bool { _, err := os.Stat(name); return err == nil },
		Special: func(name string) bool {
			fi, err := os.Stat(name)
			return err == nil && !fi.Mode().IsRegular() && !fi.IsDir()
		},
		Getenv: os.Getenv, Chance: rand.Uint64, PageSize: os.Getpagesize(), MemoryMB: memory(), CPUs: runtime.NumCPU(),
	}
}

func readFile(name string) ([]byte, error) {
	f := os.Stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// memory is how many MiB the machine has; 0 if it does not say.
func memory() int {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "MemTotal:"); ok {
			kib, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			return kib >> 10
		}
	}
	return 0
}
