package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/client/fuse"
)

// mountOptions are what -o says, in the words of mount.cifs. The background process
// gets them as JSON, so that no password is in its command line.
type mountOptions struct {
	User, Password, Domain string
	HasPassword            bool // also an empty one
	Credentials            string
	Guest, Anonymous       bool
	Kerberos               bool   // sec=krb5
	KerberosCache          string // of cruid=; "" means that of the environment
	KerberosUID            uint32 // who has to own that

	Address           string // to connect to, "" for the host of the source
	ServerName        string
	Port              int
	Transport         string // tcp, rdma, iwarp, verbs, auto
	MaxChannels       int
	Min, Max          client.Dialect
	Sign, Seal, POSIX bool
	NoPOSIX           bool
	MaxCredits        int
	Soft              bool
	Timeout           time.Duration
	Prefix            string // of the share, to mount

	FS fuse.Config

	Ignored []string // accepted, and of no effect
}

// harmless are options of mount.cifs and mount(8) that change nothing here: what they
// ask for is so anyway, or is about the kernel's own client.
var harmless = []string{
	"defaults", "rw", "auto", "noauto", "nofail", "_netdev", "users", "nouser", "nousers", "owner", "noowner", "group", "nogroup",
	"serverino", "brl", "perm", "strictsync", "lease",
	"mapposix", "nodfs", "noacl", "acl", "nomapchars", "nosfu", "nofsc", "fsc", "noblocksend", "noautotune", "intr", "nointr",
	"dynperm", "nodynperm", "setuids", "nosetuids", "direct", "strictcache", "nohandlecache", "nodelete", "locallease",
	"resilienthandles", "persistenthandles", "nopersistenthandles", "noresilienthandles", "ignorecase", "nocase", "case", "user_xattr",
	"domainauto", "rootfs", "mand", "nomand", "silent", "loud", "lazytime", "nolazytime", "iversion", "noiversion",
	"strictatime", "nostrictatime", "nodiratime", "diratime", "async", "nodevmap", "compress", "nocompress", "noresvport",
	"unsafe_unc", "sloppy", "nohard", "nosoft", "nomultichannel", "nordma", "nosharesock", "nounix_ext",
}

// harmlessValues are such options that have a value.
var harmlessValues = []string{
	"comment", "echo_interval", "bsize", "closetimeo", "handletimeout", "max_cached_dirs", "esize", "min_enc_offload", "retrans",
	"netbiosname", "servern", "srcaddr_hint", "symlinkroot", "witness", "wsize_hint", "reparse",
}

// refused are options that would have to change what files look like, or protect
// less than somebody who writes them expects, with the reason.
var refused = map[string]string{
	"cifsacl":     "owners are those of uid= and gid=, or the server's with posix",
	"idsfromsid":  "owners are those of uid= and gid=, or the server's with posix",
	"modefromsid": "modes are those of file_mode= and dir_mode=, or the server's with posix",
	"sfu":         "special files are kept as reparse points",
	"mapchars":    "reserved characters are spelled as mapposix does",
	"nomapposix":  "names could not hold what SMB reserves",
	"mfsymlinks":  "symbolic links are kept as reparse points",
	"backupuid":   "backup rights cannot be asked for",
	"backupgid":   "backup rights cannot be asked for",
	"multiuser":   "a mount has one user; mount once for each",
	"snapshot":    "snapshots cannot be mounted",
	"dfs":         "DFS referrals are not followed",
}

// parseMountOptions understands the value of -o.
func parseMountOptions(list []string) (*mountOptions, error) {
	o := &mountOptions{Transport: "tcp", FS: fuse.Config{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}
	o.FS.AllowOther = os.Getuid() == 0
	for _, l := range list { // before what mount(8) has from the table of mounts, which is not ours
		if slices.Contains(strings.Split(l, ","), "remount") {
			return nil, usagef("option remount is not there: the options of a mount cannot be changed; unmount it and mount it again")
		}
	}
	for _, l := range list {
		for opt := range strings.SplitSeq(l, ",") {
			if opt = strings.TrimSpace(opt); opt == "" {
				continue
			}
			k, v, has := strings.Cut(opt, "=")
			if err := o.set(k, v, has); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

func (o *mountOptions) set(k, v string, has bool) error {
	if strings.HasPrefix(k, "x-") || strings.HasPrefix(k, "X-") || !has && slices.Contains(harmless, k) || has && slices.Contains(harmlessValues, k) {
		o.Ignored = append(o.Ignored, k)
		return nil
	}
	if why, ok := refused[k]; ok {
		return usagef("option %s is not there: %s", k, why)
	}
	if set, ok := valueOptions[k]; ok {
		if !has {
			if k == "user" { // of mount(8), in /etc/fstab
				o.Ignored = append(o.Ignored, k)
				return nil
			}
			return usagef("option %s needs a value, %s=…", k, k)
		}
		if err := set(o, v); err != nil {
			return usagef("option %s=%s: %v", k, masked(k, v), err)
		}
		return nil
	}
	if set, ok := wordOptions[k]; ok {
		if has {
			return usagef("option %s takes no value", k)
		}
		set(o)
		return nil
	}
	if k == "rdma" {
		switch v {
		case "":
			o.Transport = "rdma"
		case "iwarp", "verbs", "auto":
			o.Transport = v
		default:
			return usagef("option rdma=%s is not iwarp, verbs or auto", v)
		}
		return nil
	}
	return usagef("unknown option %s; docs/mount.md has those that there are", opt(k, v, has))
}

func opt(k, v string, has bool) string {
	if !has {
		return k
	}
	return k + "=" + masked(k, v)
}

// masked keeps passwords out of messages.
func masked(k, v string) string {
	if strings.HasPrefix(k, "pass") {
		return "…"
	}
	return v
}

// wordOptions have no value.
var wordOptions = map[string]func(*mountOptions){
	"forceuid":       func(o *mountOptions) { o.FS.ForceUID = true },
	"forcegid":       func(o *mountOptions) { o.FS.ForceGID = true },
	"noforceuid":     func(o *mountOptions) { o.FS.ForceUID = false },
	"noforcegid":     func(o *mountOptions) { o.FS.ForceGID = false },
	"guest":          func(o *mountOptions) { o.Guest = true },
	"ro":             func(o *mountOptions) { o.FS.ReadOnly = true },
	"sign":           func(o *mountOptions) { o.Sign = true },
	"seal":           func(o *mountOptions) { o.Seal = true },
	"multichannel":   func(o *mountOptions) { o.MaxChannels = max(o.MaxChannels, 2) },
	"noserverino":    func(o *mountOptions) { o.FS.NoServerInodes = true },
	"nobrl":          func(o *mountOptions) { o.FS.LocalLocks = true },
	"nolock":         func(o *mountOptions) { o.FS.LocalLocks = true },
	"nolease":        func(o *mountOptions) { o.FS.NoLeases = true },
	"noperm":         func(o *mountOptions) { o.FS.NoPermissionChecks = true },
	"nostrictsync":   func(o *mountOptions) { o.FS.NoSync = true },
	"nouser_xattr":   func(o *mountOptions) { o.FS.NoXattrs = true },
	"noxattr":        func(o *mountOptions) { o.FS.NoXattrs = true },
	"noac":           func(o *mountOptions) { o.FS.AttrTimeout = -1 },
	"soft":           func(o *mountOptions) { o.Soft = true },
	"hard":           func(o *mountOptions) { o.Soft = false },
	"posix":          func(o *mountOptions) { o.POSIX = true },
	"unix":           func(o *mountOptions) { o.POSIX = true },
	"linux":          func(o *mountOptions) { o.POSIX = true },
	"noposix":        func(o *mountOptions) { o.NoPOSIX = true },
	"nounix":         func(o *mountOptions) { o.NoPOSIX = true },
	"nolinux":        func(o *mountOptions) { o.NoPOSIX = true },
	"writeback":      func(o *mountOptions) { o.FS.Writeback = true },
	"allow_other":    func(o *mountOptions) { o.FS.AllowOther = true },
	"noallow_other":  func(o *mountOptions) { o.FS.AllowOther = false },
	"forcedirectio":  func(o *mountOptions) { o.FS.Cache = fuse.CacheNone },
	"forcemandatory": func(o *mountOptions) {},
	"exec":           func(o *mountOptions) { o.kernel("exec") }, "noexec": func(o *mountOptions) { o.kernel("noexec") },
	"suid": func(o *mountOptions) { o.kernel("suid") }, "nosuid": func(o *mountOptions) { o.kernel("nosuid") },
	"dev": func(o *mountOptions) { o.kernel("dev") }, "nodev": func(o *mountOptions) { o.kernel("nodev") },
	"atime": func(o *mountOptions) { o.kernel("atime") }, "noatime": func(o *mountOptions) { o.kernel("noatime") },
	"relatime": func(o *mountOptions) { o.kernel("relatime") }, "sync": func(o *mountOptions) { o.kernel("sync") },
}

func (o *mountOptions) kernel(word string) { o.FS.MountOptions = append(o.FS.MountOptions, word) }

// valueOptions have one.
var valueOptions = map[string]func(*mountOptions, string) error{
	"user": (*mountOptions).setUser, "username": (*mountOptions).setUser,
	"pass": (*mountOptions).setPassword, "password": (*mountOptions).setPassword, "password2": func(*mountOptions, string) error { return nil },
	"credentials": (*mountOptions).setCredentials, "cred": (*mountOptions).setCredentials,
	"domain": (*mountOptions).setDomain, "dom": (*mountOptions).setDomain, "workgroup": (*mountOptions).setDomain,
	"uid": func(o *mountOptions, v string) (err error) {
		o.FS.UID, err = userID(v)
		o.FS.ForceUID = true
		return err
	},
	"gid": func(o *mountOptions, v string) (err error) {
		o.FS.GID, err = groupID(v)
		o.FS.ForceGID = true
		return err
	},
	"file_mode":  func(o *mountOptions, v string) (err error) { o.FS.FileMode, err = octal(v); return err },
	"fmode":      func(o *mountOptions, v string) (err error) { o.FS.FileMode, err = octal(v); return err },
	"dir_mode":   func(o *mountOptions, v string) (err error) { o.FS.DirMode, err = octal(v); return err },
	"dmode":      func(o *mountOptions, v string) (err error) { o.FS.DirMode, err = octal(v); return err },
	"port":       func(o *mountOptions, v string) (err error) { o.Port, err = wholeNumber(v, 1, 65535); return err },
	"ip":         func(o *mountOptions, v string) error { o.Address = v; return nil },
	"addr":       func(o *mountOptions, v string) error { o.Address = v; return nil },
	"servername": func(o *mountOptions, v string) error { o.ServerName = v; return nil },
	"prefixpath": (*mountOptions).setPrefix,
	"vers":       (*mountOptions).setVersion,
	"sec":        (*mountOptions).setSecurity,
	"cruid": func(o *mountOptions, v string) error {
		uid, err := userID(v)
		o.KerberosCache, o.KerberosUID = fmt.Sprintf("/tmp/krb5cc_%d", uid), uid
		return err
	},
	"rsize": (*mountOptions).setSize, "wsize": (*mountOptions).setSize, "max_read": (*mountOptions).setSize,
	"rasize": func(o *mountOptions, v string) (err error) {
		o.FS.ReadAhead, err = wholeNumber(v, 0, 1<<30)
		return err
	},
	"cache":   (*mountOptions).setCache,
	"actimeo": (*mountOptions).setTimeout, "acregmax": (*mountOptions).setTimeout, "acdirmax": (*mountOptions).setTimeout,
	"max_channels": func(o *mountOptions, v string) (err error) {
		o.MaxChannels, err = wholeNumber(v, 1, client.MaxChannels)
		return err
	},
	"max_credits": func(o *mountOptions, v string) (err error) { o.MaxCredits, err = wholeNumber(v, 20, 60000); return err },
	"timeout": func(o *mountOptions, v string) error {
		n, err := wholeNumber(v, 1, 1<<20)
		o.Timeout = time.Duration(n) * time.Second
		return err
	},
	"iocharset": func(o *mountOptions, v string) error {
		if v != "utf8" && v != "utf-8" {
			return fmt.Errorf("names are in UTF-8")
		}
		return nil
	},
}

func (o *mountOptions) setUser(v string) error {
	u, p, has := strings.Cut(v, "%")
	if d, n, ok := strings.Cut(strings.ReplaceAll(u, `\`, "/"), "/"); ok {
		o.Domain, u = d, n
	}
	o.User = u
	if has {
		o.Password, o.HasPassword = p, true
	}
	return nil
}

func (o *mountOptions) setPassword(v string) error {
	o.Password, o.HasPassword = v, true
	return nil
}

func (o *mountOptions) setDomain(v string) error { o.Domain = v; return nil }

func (o *mountOptions) setCredentials(v string) error { o.Credentials = v; return nil }

func (o *mountOptions) setPrefix(v string) error {
	o.Prefix = strings.Trim(strings.ReplaceAll(v, `\`, "/"), "/")
	return nil
}

func (o *mountOptions) setVersion(v string) error {
	switch v {
	case "default":
		o.Min, o.Max = 0, 0
	case "2.0", "2.0.2", "2.002":
		o.Min, o.Max = client.SMB202, client.SMB202
	case "2.1", "2.10":
		o.Min, o.Max = client.SMB210, client.SMB210
	case "3":
		o.Min, o.Max = client.SMB300, client.SMB311
	case "3.0":
		o.Min, o.Max = client.SMB300, client.SMB300
	case "3.02", "3.0.2":
		o.Min, o.Max = client.SMB302, client.SMB302
	case "3.1.1", "3.11":
		o.Min, o.Max = client.SMB311, client.SMB311
	default:
		return fmt.Errorf("it is 2.0, 2.1, 3, 3.0, 3.0.2, 3.1.1 or default")
	}
	return nil
}

func (o *mountOptions) setSecurity(v string) error {
	switch v {
	case "ntlmssp", "ntlmv2":
	case "ntlmsspi", "ntlmv2i":
		o.Sign = true
	case "krb5":
		o.Kerberos = true
	case "krb5i":
		o.Kerberos, o.Sign = true, true
	case "none":
		o.Anonymous = true
	default:
		return fmt.Errorf("it is ntlmssp, ntlmsspi, krb5, krb5i or none")
	}
	return nil
}

func (o *mountOptions) setSize(v string) error {
	n, err := wholeNumber(v, 4096, 64<<20)
	if err == nil && (o.FS.MaxIO == 0 || n < o.FS.MaxIO) {
		o.FS.MaxIO = n
	}
	return err
}

func (o *mountOptions) setCache(v string) error {
	switch v {
	case "strict":
		o.FS.Cache = fuse.CacheStrict
	case "none":
		o.FS.Cache = fuse.CacheNone
	case "loose", "ro", "singleclient":
		o.FS.Cache = fuse.CacheLoose
	default:
		return fmt.Errorf("it is strict, none or loose")
	}
	return nil
}

func (o *mountOptions) setTimeout(v string) error {
	n, err := wholeNumber(v, 0, 1<<18)
	o.FS.AttrTimeout = time.Duration(n) * time.Second
	if n == 0 {
		o.FS.AttrTimeout = -1
	}
	return err
}

func wholeNumber(v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("it is a number from %d to %d", low, high)
	}
	return n, nil
}

// checkOwner says why a cache of tickets is not that of a user: in a directory where all
// may make files, another one could have been first to make that of this name.
func checkOwner(cache string, uid uint32) error {
	i, err := os.Lstat(cache)
	if err != nil {
		return err
	}
	if st, ok := i.Sys().(*syscall.Stat_t); !i.Mode().IsRegular() || !ok || st.Uid != uid {
		return fmt.Errorf("%s is not a file of user %d's: %w", cache, uid, fs.ErrPermission)
	}
	return nil
}

func octal(v string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n == 0 || n > 0o7777 {
		return 0, fmt.Errorf("it is an octal mode, 1 to 7777")
	}
	return fs.FileMode(n), nil
}

func userID(v string) (uint32, error) {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(v)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

func groupID(v string) (uint32, error) {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return uint32(n), nil
	}
	g, err := user.LookupGroup(v)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(n), err
}
