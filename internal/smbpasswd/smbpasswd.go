// Package smbpasswd reads and changes files of users in Samba's smbpasswd format,
// smbpasswd(5): a line for each user, with the UNIX user's id, two hashes of the
// password, flags and when it was changed:
//
//	alice:1000:XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX:878D8014606CDA29677A44EFA1353FC7:[U          ]:LCT-65F0A1B2:
//
// Only the second hash, the MD4 of the password in UTF-16LE, is used; the first, of
// LAN Manager, is never written. Who can read the file can log on as anybody in it.
//
// [Read] may be used by many goroutines. [Update] excludes other programs, Samba's
// among them, by a lock of the file, and puts a new file in its place, so that readers
// see the old or the new one, whole.
package smbpasswd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Flags say what an account is: the letters between the brackets.
type Flags uint8

const (
	// User is an ordinary account (U).
	User Flags = 1 << iota
	// Disabled accounts cannot log on (D).
	Disabled
	// NoPassword accounts would log on without one in Samba (N); here they cannot.
	NoPassword
	// Trust accounts are machines' and domains' (W, S, I); they cannot log on.
	Trust
	// NoExpiry is a password that does not expire (X), as none here does.
	NoExpiry
)

// flagLetters are the letters of smbpasswd(5) that mean something here.
var flagLetters = []struct {
	letter byte
	flag   Flags
}{{'U', User}, {'N', NoPassword}, {'D', Disabled}, {'W', Trust}, {'S', Trust}, {'I', Trust}, {'X', NoExpiry}}

// Entry is a user.
type Entry struct {
	Name string
	UID  uint32
	// Hash is the NT hash of the password, if there is one.
	Hash    [16]byte
	HasHash bool
	Flags   Flags
	// Changed is when the password was, to the second; zero if the file does not say.
	Changed time.Time
}

// CanLogOn reports whether the account is one that logs on with a password.
func (e *Entry) CanLogOn() bool {
	return e.HasHash && e.Flags&User != 0 && e.Flags&(Disabled|NoPassword|Trust) == 0
}

// Bounds of what is read.
const (
	maxFile = 64 << 20
	maxName = 255
)

// noHash stands where there is no hash.
const noHash = "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"

// List is the content of a file.
type List struct {
	lines []line
	index map[string]int // of lines, by folded name
}

// line is an entry, or text that is kept as it is.
type line struct {
	entry *Entry
	text  string
}

// fold is the form in which names are compared.
func fold(name string) string { return strings.ToUpper(name) }

// Find returns the entry of a user, compared without regard to case, nil if there is
// none. It is the list's: see Put.
func (l *List) Find(name string) *Entry {
	if i, ok := l.index[fold(name)]; ok {
		return l.lines[i].entry
	}
	return nil
}

// Len is the number of entries.
func (l *List) Len() int { return len(l.index) }

// All iterates over the entries in the order of the file. They are the list's.
func (l *List) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for i := range l.lines {
			if e := l.lines[i].entry; e != nil && !yield(e) {
				return
			}
		}
	}
}

// Put adds an entry or puts it in the place of the one with its name.
func (l *List) Put(e Entry) error {
	if err := CheckName(e.Name); err != nil {
		return err
	}
	if i, ok := l.index[fold(e.Name)]; ok {
		l.lines[i] = line{entry: &e}
		return nil
	}
	if l.index == nil {
		l.index = map[string]int{}
	}
	l.index[fold(e.Name)] = len(l.lines)
	l.lines = append(l.lines, line{entry: &e})
	return nil
}

// Remove takes the entry of a user out, and lines behind it that have the name, too, which
// would come in its place; false if there is none.
func (l *List) Remove(name string) bool {
	i, ok := l.index[fold(name)]
	if !ok {
		return false
	}
	l.lines = slices.Delete(l.lines, i, i+1)
	l.lines = slices.DeleteFunc(l.lines, func(x line) bool {
		first, _, _ := strings.Cut(x.text, ":")
		return x.entry == nil && fold(first) == fold(name)
	})
	l.reindex()
	return true
}

func (l *List) reindex() {
	l.index = make(map[string]int, len(l.lines))
	for i := range l.lines {
		if e := l.lines[i].entry; e != nil {
			l.index[fold(e.Name)] = i
		}
	}
}

// CheckName reports why a name cannot be in a file.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > maxName || !utf8.ValidString(name):
		return fmt.Errorf("user name %.300q: want 1 to %d octets of UTF-8", name, maxName)
	case strings.ContainsAny(name, ":\n\r\x00") || name[0] == '#' || strings.TrimSpace(name) != name:
		return fmt.Errorf("user name %q: want no colon, no #, space or line break at its ends", name)
	}
	return nil
}

// Parse reads a list. Lines that are no entries, and entries of a name that has one
// already, are kept as text and named in bad.
func Parse(r io.Reader) (l *List, bad []error, err error) {
	l = &List{index: map[string]int{}}
	limited := &io.LimitedReader{R: r, N: maxFile + 1}
	s := bufio.NewScanner(limited)
	s.Buffer(nil, 1<<16)
	for n := 1; s.Scan(); n++ {
		text := s.Text()
		if t := strings.TrimSpace(text); t == "" || t[0] == '#' {
			l.lines = append(l.lines, line{text: text})
			continue
		}
		e, err := parseEntry(text)
		if err == nil && l.Find(e.Name) != nil {
			err = fmt.Errorf("%q has an entry already", e.Name)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("line %d: %w", n, err))
			l.lines = append(l.lines, line{text: text})
			continue
		}
		l.index[fold(e.Name)] = len(l.lines)
		l.lines = append(l.lines, line{entry: e})
	}
	if limited.N <= 0 {
		return nil, nil, fmt.Errorf("longer than %d octets", maxFile)
	}
	return l, bad, s.Err()
}

// parseEntry reads a line. What is wrong with it is said without its hashes.
func parseEntry(text string) (*Entry, error) {
	f := strings.Split(text, ":")
	if len(f) < 4 {
		return nil, fmt.Errorf("%d fields, want NAME:UID:LM:NT:[FLAGS]:LCT-TIME:", len(f))
	}
	if err := CheckName(f[0]); err != nil {
		return nil, err
	}
	e := &Entry{Name: f[0], Flags: User}
	uid, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q: the user id is no number of 32 bits", e.Name)
	}
	e.UID = uint32(uid)
	switch h := f[3]; {
	case strings.HasPrefix(h, "NO PASSWORD"):
		e.Flags |= NoPassword
	case h == noHash || strings.Trim(h, "*X") == "":
		e.Flags |= Disabled
	default:
		b, err := hex.DecodeString(h)
		if err != nil || len(b) != len(e.Hash) {
			return nil, fmt.Errorf("%q: the NT hash is not 32 hexadecimal digits", e.Name)
		}
		copy(e.Hash[:], b)
		e.HasHash = true
	}
	if len(f) > 4 && strings.HasPrefix(f[4], "[") {
		letters, ok := strings.CutSuffix(f[4][1:], "]")
		if !ok {
			return nil, fmt.Errorf("%q: the flags have no end", e.Name)
		}
		if e.HasHash {
			e.Flags = 0
		} else {
			e.Flags &^= User
		}
		for i := range len(letters) {
			for _, x := range flagLetters {
				if letters[i] == x.letter {
					e.Flags |= x.flag
				}
			}
		}
	}
	if len(f) > 5 {
		if t, ok := strings.CutPrefix(f[5], "LCT-"); ok {
			n, err := strconv.ParseUint(t, 16, 32)
			if err != nil {
				return nil, fmt.Errorf("%q: the time is not 8 hexadecimal digits", e.Name)
			}
			if n > 0 {
				e.Changed = time.Unix(int64(n), 0)
			}
		}
	}
	return e, nil
}

func (e *Entry) append(b []byte) []byte {
	b = fmt.Appendf(b, "%s:%d:%s:", e.Name, e.UID, noHash)
	switch {
	case e.HasHash:
		b = append(b, strings.ToUpper(hex.EncodeToString(e.Hash[:]))...)
	case e.Flags&NoPassword != 0:
		b = append(b, "NO PASSWORDXXXXXXXXXXXXXXXXXXXXX"...)
	default:
		b = append(b, noHash...)
	}
	letters, last := "", Flags(0)
	for _, x := range flagLetters {
		if e.Flags&x.flag != 0 && x.flag != last {
			letters, last = letters+string(x.letter), x.flag
		}
	}
	changed := uint32(0)
	if !e.Changed.IsZero() {
		changed = uint32(e.Changed.Unix())
	}
	return fmt.Appendf(b, ":[%-11s]:LCT-%08X:\n", letters, changed)
}

// Read reads a file.
func Read(path string) (l *List, bad []error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if l, bad, err = Parse(f); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range bad {
		bad[i] = fmt.Errorf("%s: %w", path, bad[i])
	}
	return l, bad, nil
}

// Update changes a file by change, which may use the list until it returns; an error of
// it is returned and leaves the file as it was. The file is made if it is not there. It
// is for its owner alone to read afterwards, whoever could before. Others who update it
// are waited for until ctx ends.
func Update(ctx context.Context, path string, change func(*List) error) error {
	path, err := target(path)
	if err != nil {
		return err
	}
	f, err := lockFile(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close() // and the lock with it
	l, _, err := Parse(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := change(l); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, x := range l.lines {
		if x.entry != nil {
			b.Write(x.entry.append(nil))
		} else {
			b.WriteString(x.text + "\n")
		}
	}
	return replace(path, f, b.Bytes())
}

// target follows symbolic links, so that it is the file itself that is replaced.
func target(path string) (string, error) {
	p, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return p, err
}

// lockFile opens the file that has the name and locks it.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lock(ctx, f); err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: locked by another program: %w", path, err)
		}
		// Who had the lock may have put another file in its place.
		ours, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		named, err := os.Lstat(path)
		if err == nil && os.SameFile(ours, named) {
			return f, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// lock takes a lock that also excludes those that take POSIX record locks, as Samba does.
func lock(ctx context.Context, f *os.File) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		if err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// replace puts a file with the content in the place of old.
func replace(path string, old *os.File, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".smbpasswd*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	fi, err := old.Stat()
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		if err := tmp.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // the file is there: only that it stays over a power failure is not known
	}
	defer dir.Close()
	return dir.Sync()
}
