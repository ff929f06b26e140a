package smbconf

import (
	"os"
	"strings"
)

// vars are the variables whose values are known when the file is read.
type vars struct {
	host    string // %h
	netbios string // %L
	service string // %S, in a share
	version string // %v
	env     func(string) (string, bool)
}

func newVars() vars {
	h, err := os.Hostname()
	if err != nil {
		h = "localhost"
	}
	short, _, _ := strings.Cut(h, ".")
	return vars{host: h, netbios: strings.ToUpper(short), env: os.LookupEnv}
}

// expand replaces the variables that are known. left is the first one that is neither that
// nor one of later, or else the first one of those.
func (v *vars) expand(s, later string) (out, left string) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String(), left
		}
		b.WriteString(s[:i])
		name, n := s[i:i+2], 2
		value, ok := "", true
		switch s[i+1] {
		case '%':
			// Kept: Expand makes it one when all is known.
			value = "%%"
		case 'h':
			value = v.host
		case 'L', 'N':
			value = v.netbios
		case 'S', 'P':
			value = v.service
			ok = value != "" && s[i+1] == 'S'
		case 'v':
			value = v.version
		case '$':
			end := strings.IndexByte(s[i:], ')')
			if !strings.HasPrefix(s[i:], "%$(") || end < 0 {
				ok = false
				break
			}
			n, name = end+1, s[i:i+end+1]
			value, ok = v.env(s[i+3 : i+end])
		default:
			ok = false
		}
		if !ok {
			value = name
			if left == "" || among(left, later) && !among(name, later) {
				left = name
			}
		}
		b.WriteString(value)
		s = s[i+n:]
	}
}

// Client is what variables say of who connects.
type Client struct {
	User    string // %u and %U: the UNIX user, and who the client said it is
	Session string
	Group   string // %g and %G: the primary group of either
	Home    string // %H
	Address string // %I
	Domain  string // %D
	Dialect string // %R
	Share   string // %S, in [homes]
}

// perClient are the variables that Expand knows, inNames those that make sense in names of
// users and groups, and in comments.
const (
	perClient = "uUgGHIDRSm"
	inNames   = "uUgGIDSm"
)

// among reports whether a variable is one of those with these letters.
func among(name, letters string) bool {
	return len(name) == 2 && strings.IndexByte(letters, name[1]) >= 0
}

// machine is what %m says of a client, which does not tell its name by SMB 2: its address,
// with _ for what is in no name.
func machine(address string) string {
	return strings.Map(func(r rune) rune {
		if r == ':' || r == '%' || r == '/' {
			return '_'
		}
		return r
	}, address)
}

// Dynamic reports whether a value has variables that depend on who connects.
func Dynamic(value string) bool {
	for i := 0; i+1 < len(value); i++ {
		if value[i] == '%' {
			if strings.IndexByte(perClient, value[i+1]) >= 0 {
				return true
			}
			i++
		}
	}
	return false
}

// Expand replaces the variables of a value that depend on who connects. A value that
// could lead out of where it is put into a path (empty, "..", or with a slash; the
// home directory may have slashes) is refused with false.
func (c *Client) Expand(value string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' || i+1 == len(value) {
			b.WriteByte(value[i])
			continue
		}
		i++
		var v string
		switch value[i] {
		case '%':
			b.WriteByte('%')
			continue
		case 'u':
			v = c.User
		case 'U':
			v = c.Session
		case 'g', 'G':
			v = c.Group
		case 'I':
			v = c.Address
		case 'm':
			v = machine(c.Address)
		case 'D':
			v = c.Domain
		case 'R':
			v = c.Dialect
		case 'S':
			v = c.Share
		case 'H':
			if c.Home == "" || c.Home[0] != '/' {
				return "", false
			}
			b.WriteString(c.Home)
			continue
		default:
			return "", false
		}
		if v == "" || v == "." || v == ".." || strings.ContainsAny(v, "/\x00") {
			return "", false
		}
		b.WriteString(v)
	}
	return b.String(), true
}
