package main

import (
	"fmt"
	"sort"
	"strings"
)

// feature is a kind of call that is generated unless -without names it, or for which
// -with has to name it. Leaving it out has a reason.
type feature struct {
	on     bool // generated unless -without names it
	reason string
}

// features are in two halves: what every share carries (with the options that a mount
// has by default), and what some can't.
var features = map[string]feature{
	"chmod":       {true, "without POSIX extensions SMB has one bit for permissions, the read-only attribute: only a file's owner-write bit is changed and compared, unless posix-modes"},
	"links":       {true, "hard links; FAT-like servers have none"},
	"symlinks":    {true, "symbolic links are reparse points, which some servers refuse, and others list as what they lead to"},
	"times":       {true, "utimensat: Samba goes on to show a time that was set, whatever is written, for as long as anybody has the file open"},
	"order":       {true, "which of two files was written last: servers without the POSIX extensions tell the time of closing, which is a moment after close(2)"},
	"xattrs":      {true, "extended attributes user.*; servers without EAs refuse them"},
	"locks":       {true, "flock and fcntl; with nobrl they end at this mount"},
	"holes":       {true, "fallocate's modes and lseek's holes; servers without sparse files refuse them"},
	"mmap":        {true, "shared writable maps"},
	"direct":      {true, "O_DIRECT, aligned to 4096 as a local disk may demand; tmpfs refuses it before Linux 6.6"},
	"copy":        {true, "copy_file_range"},
	"reserved":    {true, `names with the characters that SMB reserves (:*?"<>|\ and control characters) or that end in a dot or a space: with nomapposix they can't be had`},
	"busy":        {true, "a directory is renamed or removed while something beneath it is open: SMB refuses that but to those who speak its POSIX extensions; the files are closed first"},
	"case":        {true, "names that differ in case alone; a share that ignores case has one file for both"},
	"non-utf8":    {false, "names that are not UTF-8: SMB's are UTF-16, a name without a form in it has none; the mount answers EILSEQ or the like"},
	"exchange":    {false, "renameat2 with RENAME_EXCHANGE: SMB has no such operation, the mount answers EINVAL"},
	"special":     {false, "mknod of fifos: SMB has no such object, only reparse forms that servers keep or do not keep"},
	"empty-xattr": {false, "an extended attribute of no bytes: an EA without a value is one that is deleted ([MS-FSCC] 2.4.15)"},
	"posix-modes": {false, "all permission bits: carried by POSIX extensions only"},
}

// chosen are the features of this run.
type chosen map[string]bool

func choose(with, without string) (chosen, error) {
	c := chosen{}
	for name, f := range features {
		c[name] = f.on
	}
	for list, on := range map[string]bool{with: true, without: false} {
		for name := range strings.SplitSeq(list, ",") {
			if name == "" {
				continue
			}
			if _, ok := features[name]; !ok {
				return nil, fmt.Errorf("no feature is called %q; -list prints them", name)
			}
			c[name] = on
		}
	}
	return c, nil
}

func (c chosen) String() string {
	var out []string
	for name := range features {
		if !c[name] {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}

// blank is a value that no comparison looks at.
type blank struct{ value, reason string }

// blanks is documentation of what the calls' results leave out, where they leave it out.
var blanks = []blank{
	{"st_dev, st_ino", "numbers of each file system's own; that two names are one file is compared (sameino)"},
	{"st_blocks, st_blksize", "how a file system lays files out"},
	{"st_size, st_nlink of directories", "file systems count directories' sizes and links as they like; SMB has 0 and 1"},
	{"st_uid, st_gid", "SMB's owners are SIDs; the mount shows uid= and gid="},
	{"st_mode but type and owner's write bit", "see chmod; with posix-modes all of it is compared, but of symbolic links"},
	{"st_atime", "relatime and its like: when reading is noted is each file system's choice"},
	{"st_ctime", "no call sets it"},
	{"st_mtime of recent changes", "the trees are changed one after the other; that it is recent, that it does not go back, and what utimensat has set are compared, in SMB's units of 100 ns. What was written through a map is synced before"},
	{"which hole lseek finds", "only that between where it was asked and what it found there are no data, or that what it calls a hole reads as zeros"},
	{"order of names in a directory", "sorted before they are compared; that seekdir finds the same rest again is compared"},
	{"statfs", "only that it is plausible"},
	{"reads and writes of what others have locked", "SMB's locks are mandatory, those of POSIX are not: only the holder of a lock does I/O there (lockedio)"},
	{"flock and fcntl on one file", "SMB has one kind of lock for both, on Linux they do not know of each other: they are tried on different files"},
	{"what F_GETLK names", "SMB does not tell who holds a lock, and which one of several is named is a choice; that it is in the way is compared"},
}

func listTables() string {
	var b strings.Builder
	var names []string
	for n := range features {
		names = append(names, n)
	}
	sort.Strings(names)
	b.WriteString("features:\n")
	for _, n := range names {
		state := "on "
		if !features[n].on {
			state = "off"
		}
		fmt.Fprintf(&b, "  %-12s %s  %s\n", n, state, features[n].reason)
	}
	b.WriteString("not compared:\n")
	for _, v := range blanks {
		fmt.Fprintf(&b, "  %s: %s\n", v.value, v.reason)
	}
	return b.String()
}
