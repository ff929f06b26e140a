package smbconf

import (
	"fmt"
	"strings"
)

// modules says what is there in the place of Samba's VFS modules; "" is everything that
// the module does.
var modules = map[string]string{
	"streams_xattr": "",
	"acl_xattr":     "",
	"xattr_tdb":     "",
	"default_quota": "there are no quotas",
	"recycle":       "what is deleted is gone",
	"full_audit":    "`--audit` logs sessions, shares and refusals, not every operation",
	"audit":         "`--audit` logs sessions, shares and refusals, not every operation",
	"extd_audit":    "`--audit` logs sessions, shares and refusals, not every operation",
	"catia":         "names with characters that Windows cannot have are mapped as they are without it",
	"fruit":         "there are none of Apple's extensions; alternate data streams do what is needed of it, in Samba's form",
	"streams_depot": "alternate data streams are extended attributes, as those of streams_xattr: streams in a depot are not found",
	"acl_tdb":       "Windows ACLs are extended attributes, as those of acl_xattr: those in a database are not found",
	"shadow_copy2":  "",
	"btrfs":         "clones are made wherever the file system can",
	"io_uring":      "",
	"aio_pthread":   "",
	"aio_fork":      "",
	"readahead":     "",
	"fileid":        "",
	"crossrename":   "",
	"dirsort":       "",
	"commit":        "",
	"syncops":       "",
	"widelinks":     "no link leads out of a share",
}

// check reports what of a value that is well-formed has no effect.
func (k *Key) check(value string, report func(format string, args ...any)) {
	switch k.Name {
	case "vfs objects":
		for _, m := range splitList(value) {
			name, _, _ := strings.Cut(m, ":")
			if lack, known := modules[strings.ToLower(name)]; !known {
				report("vfs objects: %s is not supported", m)
			} else if lack != "" {
				report("vfs objects: %s is not supported: %s", m, lack)
			}
		}
	case "passdb backend":
		if _, err := PasswdFile(value, ""); err != nil {
			report("%v", err)
		}
	case "smb ports":
		for _, p := range splitList(value) {
			if p == "139" {
				report("smb ports: 139 is left out: there is no NetBIOS")
			}
		}
	case "server min protocol":
		if value == "nt1" {
			report("server min protocol is taken for SMB2_02: there is no SMB1")
		}
	case "printable":
		if value == "yes" {
			report("printable = yes: the share is not served, as there are no printers")
		}
	case "inherit owner":
		if value == "unix only" {
			report("inherit owner = unix only is taken for yes")
		}
	case "map to guest":
		if strings.HasPrefix(value, "bad ") && value != "bad user" {
			report("map to guest = %s is taken for bad user: a wrong password is an error", value)
		}
	}
}

// PasswdFile is the file that "passdb backend" names, def if it names none.
func PasswdFile(backend, def string) (string, error) {
	kind, file, _ := strings.Cut(backend, ":")
	if !strings.EqualFold(kind, "smbpasswd") {
		return def, fmt.Errorf("passdb backend = %s is not supported: users are in a file of smbpasswd's form, which pdbedit -L -w prints of what Samba has", backend)
	}
	if file == "" {
		return def, nil
	}
	return file, nil
}
