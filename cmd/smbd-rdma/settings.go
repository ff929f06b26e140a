package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/ini.v1"

	"github.com/smbd-rdma/smbd-rdma/server"
)

// settings are what serve runs with: the configuration file, then the flags.
type settings struct {
	shares    []shareSettings
	users     server.UserMap
	name      string
	domain    string
	guest     bool
	tcp, rdma []string
	// rdmaDevices: what RDMA devices there are is served too.
	rdmaDevices bool
	signing     server.Policy
	encryption  server.Policy
	minDialect  uint16
	maxDialect  uint16
}

type shareSettings struct {
	name, path, comment string
	readOnly, guest     bool
	hidden, encrypt     bool
	caseSensitive       bool
	validUsers          []string
}

// settings puts file and flags together.
func (a *app) settings(f serveFlags) (*settings, error) {
	s := &settings{users: server.UserMap{}, tcp: []string{":445"}, rdma: []string{"iwarp://:5445"}, rdmaDevices: true}
	if f.config != "" {
		if err := a.readConfig(f.config, s); err != nil {
			return nil, err
		}
	}
	for _, arg := range f.shares {
		sh, err := parseShare(arg)
		if err != nil {
			return nil, err
		}
		for i := range s.shares {
			if strings.EqualFold(s.shares[i].name, sh.name) {
				s.shares = append(s.shares[:i], s.shares[i+1:]...)
				break
			}
		}
		s.shares = append(s.shares, sh)
	}
	if len(s.shares) == 0 {
		return nil, usagef("no share: give --share NAME=PATH or -c FILE")
	}
	for _, u := range f.users {
		name, password, ok := strings.Cut(u, "%")
		if !ok || name == "" {
			return nil, usagef("--user %q is not of the form NAME%%PASSWORD", name)
		}
		s.users.Add(name, password)
	}
	s.guest = s.guest || f.guest
	if len(s.users) == 0 && !s.guest {
		return nil, usagef("nobody could log on: give --user NAME%%PASSWORD, or --guest with a share NAME=PATH,guest")
	}
	if f.name != "" {
		s.name = f.name
	}
	if f.tcp != nil {
		s.tcp = without(f.tcp, "none")
	}
	if f.rdma != nil {
		s.rdma, s.rdmaDevices = without(f.rdma, "none"), false
	}
	if f.signing != "" {
		p, ok := signingPolicies[f.signing]
		if !ok {
			return nil, usagef("--signing %q is not default, offered or required", f.signing)
		}
		s.signing = p
	}
	if f.encrypt != "" {
		p, ok := encryptionPolicies[f.encrypt]
		if !ok {
			return nil, usagef("--encryption %q is not offered, required or off", f.encrypt)
		}
		s.encryption = p
	}
	return s, nil
}

// The words of the flags and those of Samba's "server signing" and "smb encrypt".
var (
	signingPolicies = map[string]server.Policy{
		"default": server.PolicyDefault, "offered": server.PolicyOffered, "auto": server.PolicyOffered,
		"disabled": server.PolicyOffered, "mandatory": server.PolicyRequired, "required": server.PolicyRequired,
	}
	encryptionPolicies = map[string]server.Policy{
		"default": server.PolicyDefault, "offered": server.PolicyOffered, "auto": server.PolicyOffered,
		"enabled": server.PolicyOffered, "desired": server.PolicyOffered, "if_required": server.PolicyOffered,
		"required": server.PolicyRequired, "mandatory": server.PolicyRequired, "off": server.PolicyDisabled,
		"disabled": server.PolicyDisabled, "no": server.PolicyDisabled,
	}
	dialects = map[string]uint16{
		"SMB2_02": server.Dialect202, "SMB2": server.Dialect210, "SMB2_10": server.Dialect210,
		"SMB3_00": server.Dialect300, "SMB3_02": server.Dialect302, "SMB3": server.Dialect311, "SMB3_11": server.Dialect311,
	}
)

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
	sh := shareSettings{name: name}
	for {
		head, last, found := cutLast(rest, ",")
		if !found || last != "ro" && last != "guest" {
			break
		}
		sh.readOnly = sh.readOnly || last == "ro"
		sh.guest = sh.guest || last == "guest"
		rest = head
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

// readConfig reads a file in Samba's format. What has no meaning here is named
// in a warning and otherwise ignored, so that a Samba user's file can be taken
// over as it is.
func (a *app) readConfig(name string, s *settings) error {
	file, err := ini.LoadSources(ini.LoadOptions{
		IgnoreInlineComment: true, KeyValueDelimiters: "=", InsensitiveKeys: true,
		UnescapeValueCommentSymbols: true, SkipUnrecognizableLines: false,
	}, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var unknown []string
	for _, sec := range file.Sections() {
		switch strings.ToLower(sec.Name()) {
		case "default":
			if len(sec.Keys()) > 0 {
				return fmt.Errorf("%s: %q stands before the first section", name, sec.Keys()[0].Name())
			}
		case "global":
			for _, k := range sec.Keys() {
				known, err := s.global(k)
				if err != nil {
					return fmt.Errorf("%s: [global] %s: %w", name, k.Name(), err)
				}
				if !known {
					unknown = append(unknown, k.Name())
				}
			}
		case "homes", "printers", "print$":
			unknown = append(unknown, "["+sec.Name()+"]")
		default:
			sh := shareSettings{name: sec.Name(), readOnly: true}
			for _, k := range sec.Keys() {
				known, err := sh.set(k)
				if err != nil {
					return fmt.Errorf("%s: [%s] %s: %w", name, sec.Name(), k.Name(), err)
				}
				if !known {
					unknown = append(unknown, k.Name())
				}
			}
			if sh.path == "" {
				return fmt.Errorf("%s: [%s] has no path", name, sec.Name())
			}
			s.shares = append(s.shares, sh)
		}
	}
	if len(unknown) > 0 {
		a.log.Warn("ignored in the configuration", "file", name, "what", strings.Join(unknown, ", "))
	}
	return nil
}

// parameter is a name as Samba compares it: without regard to case and spaces.
func parameter(k *ini.Key) string {
	return strings.ToLower(strings.Join(strings.Fields(k.Name()), " "))
}

func (s *settings) global(k *ini.Key) (known bool, err error) {
	v := strings.TrimSpace(k.Value())
	var ok bool
	switch parameter(k) {
	case "netbios name", "server name":
		s.name = strings.ToUpper(v)
	case "workgroup":
		s.domain = strings.ToUpper(v)
	case "map to guest":
		s.guest = !strings.EqualFold(v, "never")
	case "server signing":
		if s.signing, ok = signingPolicies[strings.ToLower(v)]; !ok {
			return true, fmt.Errorf("%q is not default, auto or mandatory", v)
		}
	case "smb encrypt", "server smb encrypt":
		if s.encryption, ok = encryptionPolicies[strings.ToLower(v)]; !ok {
			return true, fmt.Errorf("%q is not off, desired or required", v)
		}
	case "server min protocol", "min protocol":
		if s.minDialect, ok = dialects[strings.ToUpper(v)]; !ok {
			return true, fmt.Errorf("%q is not a dialect from SMB2_02 to SMB3_11", v)
		}
	case "server max protocol", "max protocol", "protocol":
		if s.maxDialect, ok = dialects[strings.ToUpper(v)]; !ok {
			return true, fmt.Errorf("%q is not a dialect from SMB2_02 to SMB3_11", v)
		}
	case "smb ports":
		s.tcp = nil
		for _, p := range strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' }) {
			s.tcp = append(s.tcp, ":"+p)
		}
	default:
		return false, nil
	}
	return true, nil
}

func (sh *shareSettings) set(k *ini.Key) (known bool, err error) {
	v := strings.TrimSpace(k.Value())
	flag := func(dst *bool, negate bool) error {
		b, err := parseBool(v)
		*dst = b != negate
		return err
	}
	switch parameter(k) {
	case "path", "directory":
		sh.path = v
	case "comment":
		sh.comment = v
	case "read only":
		return true, flag(&sh.readOnly, false)
	case "writeable", "writable", "write ok":
		return true, flag(&sh.readOnly, true)
	case "browseable", "browsable":
		return true, flag(&sh.hidden, true)
	case "guest ok", "public":
		return true, flag(&sh.guest, false)
	case "valid users":
		sh.validUsers = strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' })
	case "case sensitive":
		if strings.EqualFold(v, "auto") {
			return true, nil
		}
		return true, flag(&sh.caseSensitive, false)
	case "smb encrypt", "server smb encrypt":
		p, ok := encryptionPolicies[strings.ToLower(v)]
		if !ok {
			return true, fmt.Errorf("%q is not off, desired or required", v)
		}
		sh.encrypt = p == server.PolicyRequired
	default:
		return false, nil
	}
	return true, nil
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "yes", "true", "on", "1":
		return true, nil
	case "no", "false", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is not yes or no", v)
}
