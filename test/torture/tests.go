package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leafTests are the tests under smb2 that smbtorture knows, in its order. Most names
// of its list have their last component twice, which may be left out.
func leafTests(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "smbtorture", "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("smbtorture --list: %w", err)
	}
	var names []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "smb2.") {
			continue
		}
		parts := strings.Split(line, ".")
		if n := len(parts); n >= 3 && parts[n-1] == parts[n-2] {
			line = strings.Join(parts[:n-1], ".")
		}
		if !seen[line] {
			seen[line] = true
			names = append(names, line)
		}
	}
	return names, nil
}

// leftOut reports whether it is no test: benchmarks, and what only holds a file open
// for others.
func leftOut(name string) bool {
	return strings.HasPrefix(name, "smb2.bench") || name == "smb2.hold-oplock" || name == "smb2.hold-sharemode"
}

// setting is what a test needs that the others do without. share is a share of
// smb.conf, where %d stands for the number of the worker.
type setting struct {
	tests   string
	share   string
	server  string
	options []string
	timeout time.Duration
	prepare func(s *site, share string, worker int) error
}

// block has smbtorture hold a connection up, by rules of the namespace that have the
// same names in each of its processes: so one at a time.
var (
	block    = []string{"torture:use_iptables=yes"}
	blocking sync.Mutex
)

// settings are looked through in this order; the first that fits counts. Samba's own
// selftest gives these tests shares and options of the same kind.
var settings = []setting{
	{tests: `smb2\.acls\.ACCESSBASED`, share: "hidebase"},
	{tests: `smb2\.acls_non_canonical\..*`, share: "noncanonical%d"},
	{tests: `smb2\.change_notify_disabled\..*`, share: "nonotify%d"},
	{tests: `smb2\.create_no_streams\..*`, share: "nostreams%d"},
	{tests: `smb2\.ioctl\.compress_notsup_.*`, share: "noattributes%d"},
	{tests: `smb2\.session-require-signing\..*`, server: signs},
	{tests: `smb2\.replay\.dhv2-pending3.*|smb2\.multichannel\.(leases|oplocks)\..*|smb2\.oplock\.batch22b`, options: block},
	{tests: `smb2\.dosmode`, share: "dosmode%d"},
	{tests: `smb2\.ea\.acl_xattr`, options: []string{"torture:acl_xattr_name=NTACL"}},
	{tests: `smb2\.kernel-oplocks\..*`, share: "kernel%d", options: []string{"torture:localdir=@SHARE@"}},
	{tests: `smb2\.samba3misc\..*`, share: "kernel%d", options: []string{"torture:localdir=@SHARE@"}},
	{tests: `smb2\.set-sparse-ioctl|smb2\.zero-data-ioctl`, options: []string{"torture:filename=x", "torture:offset=0", "torture:beyond_final_zero=4096", "torture:set_sparse=true"}},
	{tests: `smb2\.durable-v2-open\.persistent-.*`, share: "persistent%d"},
	{tests: `smb2\.(maxfid|notify\.mask|compound_find\.compound_find_close)`, timeout: 180 * time.Second},
	{tests: `smb2\.twrp\..*`, share: "snapshots%d", options: []string{
		"torture:twrp_file=file", "torture:twrp_snapshot=" + snapshot,
		"torture:twrp_stream=stream", "torture:twrp_stream_size=100",
	}, prepare: (*site).makeSnapshot},
	{tests: `smb2\.ioctl\.dup_extents_.*`, share: "memory%d"},
}

// common are options for all: without a name of its own smbtorture takes the host's.
var common = []string{"netbios name=localhost"}

// one runs a test.
func (s *site) one(ctx context.Context, name string, worker int) result {
	set := setting{}
	for _, c := range settings {
		if regexp.MustCompile("^(?:" + c.tests + ")$").MatchString(name) {
			set = c
			break
		}
	}
	if set.share == "" {
		set.share = "test%d"
	}
	share := strings.ReplaceAll(set.share, "%d", strconv.Itoa(worker))
	r := result{Name: name}
	if err := s.empty(share); err != nil {
		r.Outcome, r.Why = broken, err.Error()
		return r
	}
	if slices.Equal(set.options, block) {
		blocking.Lock()
		defer blocking.Unlock()
	}
	if set.prepare != nil {
		if err := set.prepare(s, share, worker); err != nil {
			r.Outcome, r.Why = broken, err.Error()
			return r
		}
	}
	if set.server == "" {
		set.server = usual
	}
	if set.timeout == 0 {
		set.timeout = 45 * time.Second
	}
	args := []string{"//127.0.0.1/" + share, "-p", s.servers[set.server].port, "-U", smbUser + "%" + password}
	for _, o := range append(common, set.options...) {
		args = append(args, "--option="+strings.ReplaceAll(o, "@SHARE@", filepath.Join(s.dir, share)))
	}
	args = append(args, name)
	work, err := os.MkdirTemp(s.dir, "work") // smbtorture leaves things where it runs
	if err != nil {
		r.Outcome, r.Why = broken, err.Error()
		return r
	}
	defer os.RemoveAll(work)
	limit, cancel := context.WithTimeout(ctx, set.timeout)
	defer cancel()
	cmd := exec.CommandContext(limit, "smbtorture", args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = work, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	err = cmd.Run()
	r.Seconds = time.Since(began).Seconds()
	text := out.String()
	r.Outcome, r.Why = classify(text, err, limit.Err() != nil)
	file := regexp.MustCompile(`[^\w.+-]`).ReplaceAllString(name, "_") + ".log"
	_ = os.WriteFile(filepath.Join(s.keep, file), out.Bytes(), 0o644)
	return r
}

// snapshot is the name of an earlier state of a share.
const snapshot = "@GMT-2020.01.02-03.04.05"

// makeSnapshot fills a share and an earlier state of it, for the tests of previous
// versions, which want both to be there.
func (s *site) makeSnapshot(share string, worker int) error {
	before := filepath.Join(s.dir, "snapdir"+strconv.Itoa(worker), snapshot)
	for _, dir := range []string{filepath.Join(s.dir, share), before} {
		if err := os.MkdirAll(filepath.Join(dir, "subdir"), 0o777); err != nil {
			return err
		}
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte("content"), 0o666); err != nil {
			return err
		}
		// In Samba's form: the data of a stream are followed by an octet.
		if err := unix.Setxattr(file, "user.DosStream.stream:$DATA", make([]byte, 101), 0); err != nil {
			return err
		}
		if err := os.Link(file, filepath.Join(dir, "subdir", "hardlink")); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, f := range []string{file, filepath.Join(dir, "subdir")} {
			if err := os.Chown(f, s.uid, s.gid); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	resultLine   = regexp.MustCompile(`(?m)^(success|failure|error|skip): .*$`)
	panicLine    = regexp.MustCompile(`(?m)^.*(INTERNAL ERROR|PANIC).*$`)
	sourcePrefix = regexp.MustCompile(`(\.\./)+([\w.-]+/)*`)
)

// classify says what became of a test by what it printed.
func classify(text string, err error, late bool) (outcome, string) {
	kinds := map[string]int{} // where each kind of result is first
	for _, m := range resultLine.FindAllStringSubmatchIndex(text, -1) {
		if kind := text[m[2]:m[3]]; kinds[kind] == 0 {
			kinds[kind] = m[1]
		}
	}
	bad := max(kinds["failure"], kinds["error"])
	if at := kinds["failure"]; at > 0 && kinds["error"] > 0 {
		bad = min(at, kinds["error"])
	}
	var exit *exec.ExitError
	signalled := errors.As(err, &exit) && exit.ExitCode() < 0
	switch {
	case late:
		return timeout, ""
	case signalled, panicLine.MatchString(text):
		return crash, reason(text[bad:])
	case bad > 0:
		return fail, reason(text[bad:])
	case kinds["success"] > 0 && err == nil:
		return pass, ""
	case kinds["skip"] > 0 && err == nil:
		return skip, reason(text[kinds["skip"]:])
	}
	return fail, "no result"
}

// reason is the first line within the brackets after a result.
func reason(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.ReplaceAll(line, "\t", " "))
		if line == "]" {
			break
		}
		if line != "" && line != "[" {
			return sourcePrefix.ReplaceAllString(line, "")
		}
	}
	return ""
}
