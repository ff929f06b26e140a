package job

import (
	"errors"
	"strings"
)

// MaxFiles is how many files the jobs of a plan may have together.
const MaxFiles = 1 << 20

// splitNames splits a:b:c; \: is a colon of a name.
func splitNames(s string) ([]string, error) {
	var names []string
	var name strings.Builder
	flush := func() {
		if n := strings.TrimSpace(name.String()); n != "" {
			names = append(names, n)
		}
		name.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ':':
			name.WriteByte(':')
			i++
		case s[i] == ':':
			flush()
		default:
			name.WriteByte(s[i])
		}
	}
	flush()
	if len(names) == 0 {
		return nil, errors.New("there is no name in it")
	}
	if len(names) > MaxFiles {
		return nil, errors.New("there are too many names")
	}
	return names, nil
}

func namesTo(field func(*state) *[]string) setter {
	return func(s *state, a arg) error {
		names, err := splitNames(a.text)
		if err == nil {
			*field(s) = names
		}
		return err
	}
}

// fileOptions say which files there are and how they come into being.
var fileOptions = []option{
	{name: "filename", prio: -1, set: namesTo(func(s *state) *[]string { return &s.filenames })},
	{name: "directory", set: namesTo(func(s *state) *[]string { return &s.j.Directory })},
	{name: "filename_format", prio: -1, set: textTo(func(j *Job) *string { return &j.FilenameFormat })},
	{name: "unique_filename", harmless: "it is of fio's clients and servers"},
	{name: "lockfile", refused: "files are not locked; use a file for each job", neutral: []string{"none"}},
	{name: "opendir", refused: "name the files with filename="},
	{name: "nrfiles", aliases: []string{"nr_files"}, set: intTo(func(j *Job) *int { return &j.NrFiles }, 1, MaxFiles)},
	{name: "openfiles", set: func(s *state, a arg) error {
		n, err := parseNumber(a.text, s.j.KBBase, 0, MaxFiles)
		s.openFiles = int(n)
		return err
	}},
	{name: "file_service_type", set: setFileService},
	{name: "file_append", set: boolTo(func(j *Job) *bool { return &j.FileAppend })},
	{name: "overwrite", set: boolTo(func(j *Job) *bool { return &j.Overwrite })},
	{name: "fallocate", set: wordTo(func(j *Job) *Fallocate { return &j.Fallocate }, map[string]Fallocate{"none": FallocateNone, "0": FallocateNone, "native": FallocateNative,
		"posix": FallocatePosix, "1": FallocatePosix, "keep": FallocateKeep, "truncate": FallocateTruncate})},
	{name: "fadvise_hint", set: wordTo(func(j *Job) *string { return &j.Fadvise }, map[string]string{"0": "off", "1": "auto", "random": "random", "sequential": "sequential"})},
	{name: "create_on_open", set: boolTo(func(j *Job) *bool { return &j.CreateOnOpen })},
	{name: "create_only", set: boolTo(func(j *Job) *bool { return &j.CreateOnly })},
	{name: "create_fsync", set: boolTo(func(j *Job) *bool { return &j.CreateFsync })},
	{name: "create_serialize", set: boolTo(func(j *Job) *bool { return &j.CreateSerialize })},
	{name: "allow_file_create", set: boolTo(func(j *Job) *bool { return &j.AllowFileCreate })},
	{name: "allow_mounted_write", harmless: "--allow-overwrite alone says what may be written to"},
	{name: "pre_read", set: boolTo(func(j *Job) *bool { return &j.PreRead })},
	{name: "unlink", set: boolTo(func(j *Job) *bool { return &j.Unlink })},
	{name: "unlink_each_loop", set: boolTo(func(j *Job) *bool { return &j.UnlinkEachLoop })},
	{name: "invalidate", set: boolTo(func(j *Job) *bool { return &j.Invalidate })},
	{name: "direct", set: boolTo(func(j *Job) *bool { return &j.Direct })},
	{name: "buffered", set: func(s *state, a arg) error {
		v, err := parseBool(a.text)
		if err == nil {
			s.j.Direct = !v
		}
		return err
	}},
	{name: "atomic", refused: "writes are not atomic; use direct=1", neutral: []string{"0"}},
	{name: "sync", set: wordTo(func(j *Job) *SyncMode { return &j.Sync }, map[string]SyncMode{"none": SyncNone, "0": SyncNone, "sync": SyncFull, "1": SyncFull, "dsync": SyncData})},
	{name: "fsync", set: intTo(func(j *Job) *int { return &j.Fsync }, 0, maxInt)},
	{name: "fdatasync", set: intTo(func(j *Job) *int { return &j.Fdatasync }, 0, maxInt)},
	{name: "end_fsync", set: boolTo(func(j *Job) *bool { return &j.EndFsync })},
	{name: "fsync_on_close", set: boolTo(func(j *Job) *bool { return &j.FsyncOnClose })},
	{name: "write_barrier", refused: "there are no write barriers; use fsync=N", neutral: []string{"0"}},
	{name: "sync_file_range", refused: "parts of files are not synchronised; use fdatasync=N"},
	{name: "write_hint", refused: "there are no write hints", neutral: []string{"none"}},
}
