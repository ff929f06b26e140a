package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/smbd-rdma/smbd-rdma/internal/smbconf"
	"github.com/smbd-rdma/smbd-rdma/server"
)

// settings are what serve runs with: the configuration file, then the flags.
type settings struct {
	server server.Config // without shares and users
	shares []shareSettings
	homes  *shareSettings
	users  *accountsConfig

	tcp, rdma []string
	// rdmaDevices: what RDMA devices there are is served too.
	rdmaDevices bool
	bound       []string // the only addresses to listen on; nil for all
	interfaces  interfaceFilter
	multiChan   bool
	http        string
	control     string
	audit       string
	logLevel    int64 // Samba's; -1 if the file does not say
	file        *smbconf.Config
	strict      bool
	closed      []shareSettings // that could not be opened, set by open
	inline      bool            // inlineData, as it is in force
}

// shareSettings is a share before it is opened: path is a directory, memory: or, with
// variables of who connects, found then.
type shareSettings struct {
	server.Share
	path          string
	caseSensitive bool
	snapshots     string // the directory of snapshots; empty for none
	fromFile      bool   // and not of --share
}

// inlineData says that clients are to encrypt, everything or at least what they do with
// some share. Those who cannot encrypt RDMA data have it in messages then.
func (s *settings) inlineData() bool {
	wanted := func(sh shareSettings) bool { return sh.Encrypt || sh.EncryptionDesired }
	return s.server.Encryption == server.PolicyRequired || s.server.Encryption == server.PolicyDesired ||
		s.homes != nil && wanted(*s.homes) || slices.ContainsFunc(s.shares, wanted)
}

// errConfig are the errors of a configuration file, which have been reported.
var errConfig = errors.New("the configuration has errors")

// loadConfig reads a configuration file and reports what is to be said of it.
func (a *app) loadConfig(name string, strict bool, report func(smbconf.Problem)) (*smbconf.Config, error) {
	c, err := smbconf.Load(name, smbconf.Options{Strict: strict, Version: version()})
	if err != nil {
		return nil, err
	}
	for _, p := range c.Problems {
		report(p)
	}
	return c, nil
}

// logProblem reports a problem of the configuration in the log.
func (a *app) logProblem(p smbconf.Problem) {
	log := a.log.Info
	switch p.Severity {
	case smbconf.Warning:
		log = a.log.Warn
	case smbconf.Error:
		log = a.log.Error
	}
	log("configuration: "+p.Text, "at", p.Pos)
}

// settings puts file and flags together.
func (a *app) settings(f serveFlags) (*settings, error) {
	s := &settings{
		tcp: []string{":445"}, rdma: []string{"iwarp://:5445"}, rdmaDevices: true, multiChan: true, logLevel: -1,
		users:  &accountsConfig{flags: server.UserMap{}, users: &smbconf.UserMap{}, guest: "nobody"},
		strict: f.strict,
	}
	if f.config != "" {
		c, err := a.loadConfig(f.config, f.strict, a.logProblem)
		if err != nil {
			return nil, err
		}
		problems := s.apply(c, f.strict)
		for _, p := range problems {
			a.logProblem(p)
		}
		c.Problems = append(c.Problems, problems...)
		if c.Failed() {
			return nil, fmt.Errorf("%s: %w: see testparm %s", f.config, errConfig, f.config)
		}
	}
	for _, arg := range f.shares {
		sh, err := parseShare(arg)
		if err != nil {
			return nil, err
		}
		for i := range s.shares {
			if strings.EqualFold(s.shares[i].Name, sh.Name) {
				s.shares = append(s.shares[:i], s.shares[i+1:]...)
				break
			}
		}
		s.shares = append(s.shares, sh)
	}
	if len(s.shares) == 0 && s.homes == nil {
		return nil, usagef("no share: give --share NAME=PATH or -c FILE")
	}
	for _, u := range f.users {
		name, password, ok := strings.Cut(u, "%")
		if !ok || name == "" {
			return nil, usagef("--user %q is not of the form NAME%%PASSWORD", name)
		}
		s.users.flags.Add(name, password)
	}
	c := &s.server
	c.Guest = c.Guest || f.guest
	if len(s.users.flags) == 0 && s.users.file == "" && !c.Guest {
		return nil, usagef("nobody could log on: give --user NAME%%PASSWORD, or --guest with a share NAME=PATH,guest")
	}
	if f.name != "" {
		c.ServerName = f.name
	}
	if f.tcp != nil {
		s.tcp = without(f.tcp, "none")
	}
	if f.rdma != nil {
		s.rdma, s.rdmaDevices = without(f.rdma, "none"), false
	}
	for _, o := range []struct{ flag, dst *string }{{&f.http, &s.http}, {&f.control, &s.control}, {&f.audit, &s.audit}} {
		if *o.flag != "" {
			*o.dst = *o.flag
		}
	}
	if f.signing != "" {
		p, ok := signingPolicies[f.signing]
		if !ok {
			return nil, usagef("--signing %q is not default, offered or required", f.signing)
		}
		c.Signing = p
	}
	if f.encrypt != "" {
		p, ok := encryptionPolicies[f.encrypt]
		if !ok {
			return nil, usagef("--encryption %q is not offered, desired, required or off", f.encrypt)
		}
		c.Encryption = p
	}
	if c.ServerName == "" {
		c.ServerName = server.DefaultName()
	}
	c.GUID = serverGUID(c.ServerName)
	s.inline = s.inlineData()
	return s, nil
}

// The words of the flags and those of "server signing" and "server smb encrypt".
var (
	signingPolicies = map[string]server.Policy{
		"default": server.PolicyDefault, "offered": server.PolicyOffered, "auto": server.PolicyOffered,
		"disabled": server.PolicyOffered, "mandatory": server.PolicyRequired, "required": server.PolicyRequired,
	}
	encryptionPolicies = map[string]server.Policy{
		"default": server.PolicyDefault, "offered": server.PolicyOffered, "if_required": server.PolicyOffered,
		"desired": server.PolicyDesired, "required": server.PolicyRequired, "off": server.PolicyDisabled,
	}
	dialects = map[string]uint16{
		"nt1": server.Dialect202, "smb2_02": server.Dialect202, "smb2_10": server.Dialect210, "smb2_22": server.Dialect300, "smb2_24": server.Dialect300,
		"smb3_00": server.Dialect300, "smb3_02": server.Dialect302, "smb3_11": server.Dialect311,
	}
)

// serverGUID identifies the server to clients, the same at each start on this machine;
// the zero GUID, which stands for a random one, where the machine has no identity.
func serverGUID(name string) (guid [16]byte) {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(strings.TrimSpace(string(id))) == 0 {
		return guid
	}
	sum := sha256.Sum256([]byte("smbd-rdma server\x00" + strings.TrimSpace(string(id)) + "\x00" + strings.ToUpper(name)))
	copy(guid[:], sum[:])
	guid[7] = guid[7]&0x0F | 0x40
	guid[8] = guid[8]&0x3F | 0x80
	return guid
}

func without(list []string, word string) []string {
	out := []string{}
	for _, s := range list {
		if s != word {
			out = append(out, s)
		}
	}
	return out
}

// parseShare reads NAME=PATH[,ro][,guest].
func parseShare(arg string) (shareSettings, error) {
	name, rest, ok := strings.Cut(arg, "=")
	if !ok || name == "" || rest == "" {
		return shareSettings{}, usagef("--share %q is not of the form NAME=PATH[,ro]", arg)
	}
	sh := shareSettings{Share: server.Share{Name: name, CreateMask: 0o744, DirectoryMask: 0o755, HideDotFiles: true, PosixLocking: true}}
	for {
		head, last, found := cutLast(rest, ",")
		if !found || last != "ro" && last != "guest" {
			break
		}
		sh.ReadOnly = sh.ReadOnly || last == "ro"
		sh.Guest = sh.Guest || last == "guest"
		rest = head
	}
	if isMemory(rest) {
		sh.path = rest
		_, err := memorySize(rest)
		return sh, err
	}
	path, err := filepath.Abs(rest)
	if err != nil {
		return sh, fmt.Errorf("--share %s: %w", name, err)
	}
	if i, err := os.Stat(path); err != nil {
		return sh, fmt.Errorf("--share %s: %w", name, err)
	} else if !i.IsDir() {
		return sh, usagef("--share %s: %s is not a directory", name, path)
	}
	sh.path = path
	return sh, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// apply takes a configuration file over. Its problems are those that are not of a line's
// form but of what it means here.
func (s *settings) apply(file *smbconf.Config, strict bool) (problems []smbconf.Problem) {
	s.file = file
	report := func(sev smbconf.Severity, sec *smbconf.Section, key, format string, args ...any) {
		if strict && sev == smbconf.Warning {
			sev = smbconf.Error
		}
		v, ok := sec.Lookup(key)
		if !ok {
			v.Pos = sec.Pos
		}
		problems = append(problems, smbconf.Problem{Severity: sev, Pos: v.Pos, Text: fmt.Sprintf(format, args...)})
	}
	g, c := file.Global, &s.server
	fail := func(key string, err error) { report(smbconf.Error, g, key, "%s: %v", key, err) }

	c.ServerName, c.Domain = strings.ToUpper(g.String("netbios name")), strings.ToUpper(g.String("workgroup"))
	c.Comment = g.String("server string")
	c.MinDialect, c.MaxDialect = dialects[g.String("server min protocol")], dialects[g.String("server max protocol")]
	if c.MinDialect > c.MaxDialect {
		report(smbconf.Error, g, "server max protocol", "server max protocol is below server min protocol")
		c.MinDialect = c.MaxDialect
	}
	c.Signing = signingPolicies[g.String("server signing")]
	c.Encryption = encryptionPolicies[g.String("server smb encrypt")]
	if ids, err := algorithms(g.List("server smb3 encryption algorithms"), cipherNames); err != nil {
		fail("server smb3 encryption algorithms", err)
	} else {
		c.Ciphers = ids
	}
	if ids, err := algorithms(g.List("server smb3 signing algorithms"), signingNames); err != nil {
		fail("server smb3 signing algorithms", err)
	} else {
		c.SigningAlgorithms = ids
	}
	c.NoPOSIXExtensions = !g.Bool("smb3 unix extensions")
	c.Guest = g.String("map to guest") != "never"
	c.HostsAllow, c.HostsDeny = g.List("hosts allow"), g.List("hosts deny")
	for key, list := range map[string][]string{"hosts allow": c.HostsAllow, "hosts deny": c.HostsDeny} {
		if err := server.CheckHosts(list); err != nil {
			fail(key, err)
		}
	}
	c.IdleTimeout = time.Duration(g.Int("deadtime")) * time.Minute
	if c.IdleTimeout == 0 {
		c.IdleTimeout = -1
	}
	c.Limits.Connections = int(g.Int("max smbd processes"))
	c.Limits.OpensPerSession = int(g.Int("max open files"))
	c.Limits.CreditsPerConn = int(g.Int("smb2 max credits"))
	c.Limits.MaxReadSize, c.Limits.MaxWriteSize = int(g.Int("smb2 max read")), int(g.Int("smb2 max write"))
	c.Limits.MaxTransactSize = int(g.Int("smb2 max trans"))
	c.MaxDurableTimeout = time.Duration(g.Int("smbd-rdma:durable time")) * time.Second
	if c.MaxDurableTimeout == 0 {
		c.MaxDurableTimeout = -1
	}
	c.Limits.DurableOpens = int(g.Int("smbd-rdma:max durable files"))
	c.Limits.DurableOpensPerUser = max(c.Limits.DurableOpens/4, 1)

	s.multiChan = g.Bool("server multi channel support")
	if err := s.listeners(g); err != nil {
		fail("interfaces", err)
	}
	if list := g.List("smbd-rdma:rdma"); len(list) > 0 {
		s.rdma, s.rdmaDevices = without(list, "none"), false
	}
	s.http, s.control, s.audit = g.String("smbd-rdma:http"), g.String("smbd-rdma:control"), g.String("smbd-rdma:audit")
	if g.Set("log level") {
		s.logLevel = 1
		// The words for classes, "auth:10", may stand first or alone.
		words := slices.DeleteFunc(strings.Fields(g.String("log level")), func(w string) bool { return strings.Contains(w, ":") })
		if len(words) > 0 {
			n, err := strconv.ParseInt(words[0], 10, 32)
			if err != nil || n < 0 {
				fail("log level", fmt.Errorf("%q is not a number", words[0]))
				n = 1
			}
			s.logLevel = n
		}
	}

	s.users.guest = g.String("guest account")
	// What is wrong with the backend has been said when the file was read.
	s.users.file, _ = smbconf.PasswdFile(g.String("passdb backend"), g.String("smb passwd file"))
	s.users.required = g.Set("smb passwd file") || strings.Contains(g.String("passdb backend"), "smbpasswd:")
	if name := g.String("username map"); name != "" {
		if m, bad, err := readUserMap(name); err != nil {
			fail("username map", err)
		} else {
			s.users.users = m
			for _, e := range bad {
				report(smbconf.Warning, g, "username map", "username map: %s: %v", name, e)
			}
		}
	}

	all := file.Shares
	if file.Homes != nil {
		all = append(all[:len(all):len(all)], file.Homes)
	}
	for _, sec := range all {
		if !sec.Bool("available") || sec.Bool("printable") {
			continue
		}
		for _, key := range []string{"valid users", "invalid users", "read list", "write list", "admin users"} {
			for _, name := range sec.List(key) {
				if strings.Contains(name, `\`) {
					report(smbconf.Warning, sec, key, `[%s]: %s: %s is nobody here: names stand without a domain`, sec.Name, key, name)
				}
			}
		}
		sh := shareOf(sec)
		if slices.ContainsFunc([]string{"comment", "valid users", "invalid users", "read list", "write list", "admin users", "force user", "force group"},
			func(key string) bool { v, _ := sec.Lookup(key); return strings.Contains(v.Text, "%") }) {
			sh.Expand = expand
		}
		if sec == file.Homes {
			if sh.path == "" {
				sh.path = "%H"
			}
			sh.Users = without(sh.Users, "%S") // nobody else can connect to it
		}
		switch {
		case sh.path == "":
			report(smbconf.Error, sec, "path", "[%s] has no path", sec.Name)
		case isMemory(sh.path):
			if _, err := memorySize(sh.path); err != nil {
				report(smbconf.Error, sec, "path", "[%s]: %v", sec.Name, err)
			}
		case !filepath.IsAbs(sh.path) && !strings.HasPrefix(sh.path, "%H"):
			report(smbconf.Error, sec, "path", "[%s]: path = %s is not an absolute path", sec.Name, sh.path)
		}
		if err := sh.Check(); err != nil {
			report(smbconf.Error, sec, "path", "[%s]: %v", sec.Name, err)
		}
		if sec == file.Homes {
			s.homes = &sh
		} else {
			s.shares = append(s.shares, sh)
		}
	}
	return problems
}

// shareOf makes a share of a section.
func shareOf(sec *smbconf.Section) shareSettings {
	streams := true
	if sec.Set("vfs objects") {
		streams = false
		for _, m := range sec.List("vfs objects") {
			streams = streams || strings.EqualFold(m, "streams_xattr")
		}
	}
	snapshots := ""
	if slices.ContainsFunc(sec.List("vfs objects"), func(m string) bool { return strings.EqualFold(m, "shadow_copy2") }) {
		snapshots = sec.String("shadow:snapdir")
	}
	return shareSettings{
		path: sec.String("path"), fromFile: true, caseSensitive: sec.String("case sensitive") == "yes", snapshots: snapshots,
		Share: server.Share{
			Name: sec.Name, Comment: sec.String("comment"), Volume: sec.String("volume"),
			Hidden: !sec.Bool("browseable"), AccessBased: sec.Bool("access based share enum"),
			ReadOnly: sec.Bool("read only"), Guest: sec.Bool("guest ok"), GuestOnly: sec.Bool("guest only"),
			Users: sec.List("valid users"), InvalidUsers: sec.List("invalid users"),
			ReadList: sec.List("read list"), WriteList: sec.List("write list"), AdminUsers: sec.List("admin users"),
			HostsAllow: sec.List("hosts allow"), HostsDeny: sec.List("hosts deny"),
			Encrypt:           sec.String("server smb encrypt") == "required",
			EncryptionDesired: sec.String("server smb encrypt") == "desired",
			RequireSigning:    sec.String("smbd-rdma:signing") == "required",
			ForceUser:         sec.String("force user"), ForceGroup: sec.String("force group"),
			CreateMask: sec.Mode("create mask"), DirectoryMask: sec.Mode("directory mask"),
			ForceCreateMode: sec.Mode("force create mode"), ForceDirectoryMode: sec.Mode("force directory mode"),
			InheritOwner: sec.String("inherit owner") != "no",
			NoStreams:    !streams, NoACL: !sec.Bool("nt acl support"),
			ExecuteAlways: sec.Bool("acl allow execute always"), KeepAutoInherited: !sec.Bool("acl flag inherited canonicalization"),
			NoDOSAttributes: !sec.Bool("store dos attributes"), NoEAs: !sec.Bool("ea support"),
			NoPOSIXExtensions: !sec.Bool("smb3 unix extensions"),
			NoNotify:          !sec.Bool("change notify"), NoOplocks: !sec.Bool("oplocks"), NoLeases: !sec.Bool("smb2 leases"),
			NoDurable: !sec.Bool("durable handles"), ContinuousAvailability: sec.Bool("continuous availability"),
			KernelOplocks: sec.Bool("kernel oplocks"), PosixLocking: sec.Bool("posix locking"),
			KernelShareModes: sec.Bool("kernel share modes"),
			HideUnreadable:   sec.Bool("hide unreadable"), HideDotFiles: sec.Bool("hide dot files"),
			HideFiles: sec.Patterns("hide files"), VetoFiles: sec.Patterns("veto files"),
		},
	}
}

// listeners are the TCP addresses of [global].
func (s *settings) listeners(g *smbconf.Section) error {
	var err error
	if s.interfaces, err = newInterfaceFilter(g.List("interfaces")); err != nil {
		return err
	}
	hosts := []string{""}
	if g.Bool("bind interfaces only") {
		if hosts, err = s.interfaces.hosts(); err != nil {
			return err
		}
		if len(hosts) == 0 {
			return errors.New("no interface of this machine is among them, and only they are to be listened on")
		}
		s.rdma, s.bound = nil, hosts
		for _, h := range hosts {
			s.rdma = append(s.rdma, "iwarp://"+net.JoinHostPort(h, "5445"))
		}
	}
	s.tcp = nil
	for _, p := range g.List("smb ports") {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("smb ports: %q is not a port", p)
		}
		if n == 139 {
			continue
		}
		for _, h := range hosts {
			s.tcp = append(s.tcp, net.JoinHostPort(h, p))
		}
	}
	return nil
}

// The names of ciphers and signing algorithms in their order, with the ids of [MS-SMB2]
// 2.2.3.1.2 and 2.2.3.1.7.
type algorithm struct {
	name string
	id   uint16
}

var (
	cipherNames  = []algorithm{{"AES-128-GCM", 2}, {"AES-128-CCM", 1}, {"AES-256-GCM", 4}, {"AES-256-CCM", 3}}
	signingNames = []algorithm{{"AES-128-GMAC", 2}, {"AES-128-CMAC", 1}, {"HMAC-SHA256", 0}}
)

// algorithms reads a list of names. + and - before the first one add the whole list to
// the default, or take it from there. Nil is the default.
func algorithms(list []string, names []algorithm) ([]uint16, error) {
	if len(list) == 0 {
		return nil, nil
	}
	sign := byte(0)
	if c := list[0][:min(1, len(list[0]))]; c == "+" || c == "-" {
		sign = c[0]
		list = append([]string{list[0][1:]}, list[1:]...)
	}
	named := map[uint16]bool{}
	var ids []uint16
	for _, w := range list {
		found := false
		for _, n := range names {
			if strings.EqualFold(n.name, w) {
				if !named[n.id] {
					ids = append(ids, n.id)
				}
				found, named[n.id] = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("%q is not an algorithm of SMB 3", w)
		}
	}
	if sign == 0 {
		return ids, nil
	}
	var out []uint16
	for _, n := range names {
		if sign == '+' || !named[n.id] {
			out = append(out, n.id)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no algorithm is left")
	}
	return out, nil
}

func readUserMap(name string) (*smbconf.UserMap, []error, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	m, bad, err := smbconf.ParseUserMap(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, bad, nil
}

// open makes the server's shares, with what they hold from stores. The references that
// it takes there are dropped by release. What cannot be opened of the file's shares is in
// closed; ctx ends the wait for storage that hangs.
func (a *app) openShares(ctx context.Context, s *settings, st *stores) (shares []server.Share, homes *server.Share, release func(), err error) {
	// Held for as long as they are configured: what cannot be opened is found out now,
	// and a share in memory stays.
	held, errs := make([]func(), len(s.shares)), make([]error, len(s.shares))
	release = func() {
		for _, r := range held {
			if r != nil {
				r()
			}
		}
	}
	limited, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	var opening sync.WaitGroup
	for i := range s.shares {
		if sh := &s.shares[i]; !smbconf.Dynamic(sh.path) {
			opening.Go(func() { _, held[i], errs[i] = sh.open(limited, st, sh.staticPath()) })
		}
	}
	opening.Wait()
	if err := ctx.Err(); err != nil {
		release()
		return nil, nil, nil, err
	}
	for i := range s.shares {
		sh := s.shares[i]
		if err := errs[i]; err != nil {
			if s.strict || !sh.fromFile {
				release()
				return nil, nil, nil, fmt.Errorf("share %s: %w", sh.Name, err)
			}
			// The others are served, and this one when it is there.
			a.log.Error("share cannot be opened, and is refused until it can be", "share", sh.Name, "err", err)
			s.closed = append(s.closed, sh)
		}
		sh.Open = sh.opener(st)
		shares = append(shares, sh.Share)
	}
	if s.homes != nil {
		h := *s.homes
		h.Open = h.opener(st)
		homes = &h.Share
	}
	return shares, homes, release, nil
}
