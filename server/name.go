package server

import (
	"strings"
	"unicode/utf8"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// # Names
//
// A name on the wire is UTF-16, relative to the share, with backslashes. Files of
// the storage may have names that Windows cannot spell; characters that are
// reserved there travel as private-use characters, in the way that Mac and Linux
// clients and other servers agree on: U+F020 and up, see reservedChars. Both
// directions are translated, so "a:b" on disk is "a<U+F022>b" for every client,
// and Linux shows it as "a:b" again.

// maxComponent is the longest component in UTF-16 code units, [MS-FSCC] 2.1.5.2.
const maxComponent = 255

// reservedChars are those of [MS-FSCC] 2.1.5.2 that a POSIX name may have, each
// with its private-use stand-in. '/' and '\' have none: neither can be in a name
// of the vfs.
var reservedChars = map[rune]rune{
	'"': 0xF020, '*': 0xF021, ':': 0xF022, '<': 0xF023, '>': 0xF024, '?': 0xF025, '|': 0xF027,
}

var reservedBack = func() map[rune]rune {
	m := map[rune]rune{}
	for c, p := range reservedChars {
		m[p] = c
	}
	return m
}()

// Stand-ins for a space and a dot at the end of a component, which Linux clients
// send because Windows would drop the characters themselves.
const (
	privateSpace = 0xF028
	privateDot   = 0xF029
)

// toWire spells a component of the storage for clients.
func toWire(name string) string {
	if !strings.ContainsFunc(name, isReserved) {
		return name
	}
	return strings.Map(func(c rune) rune {
		if p, ok := reservedChars[c]; ok {
			return p
		}
		if c < 0x20 {
			return 0xF000 + c
		}
		return c
	}, name)
}

func isReserved(c rune) bool {
	switch c {
	case '"', '*', ':', '<', '>', '?', '|':
		return true
	}
	return c < 0x20
}

// toWirePath is toWire for a name of several components, with backslashes.
func toWirePath(name string) string {
	if name == vfs.Root {
		return ""
	}
	return strings.ReplaceAll(toWire(name), "/", `\`)
}

// wireName is a name of a CREATE, rename or link request.
type wireName struct {
	path string // for the vfs
	// slash says that a backslash ended it: only a directory can be meant.
	slash bool
	// dirStream says that it ended in "::$INDEX_ALLOCATION": the directory itself.
	dirStream bool
	// dataStream says that it ended in "::$DATA": the file's own content.
	dataStream bool
	// stream is a named stream.
	stream string
}

// hasStream reports whether the name says which stream is meant.
func (n *wireName) hasStream() bool { return n.stream != "" || n.dataStream || n.dirStream }

// parseName checks a name from the wire and translates it, [MS-FSCC] 2.1.5. The
// empty name is the root of the share. leading allows one backslash at the front,
// as renaming within the share has it.
func parseName(b []byte, leading bool) (wireName, ntstatus.Status) {
	s := smb2.DecodeUTF16(b)
	if !utf8.ValidString(s) {
		return wireName{}, ntstatus.ObjectNameInvalid // an unpaired surrogate
	}
	var n wireName
	if s != "" && isSeparator(rune(s[0])) {
		if !leading {
			return n, ntstatus.InvalidParameter // [MS-SMB2] 2.2.13
		}
		s = s[1:]
	}
	if s == "" {
		n.path = vfs.Root
		return n, ntstatus.Success
	}
	n.slash = isSeparator(rune(s[len(s)-1]))
	var path []string
	// Redundant backslashes mean nothing, [MS-FSA] 2.1.5.1.
	for comp := range strings.FieldsFuncSeq(s, isSeparator) {
		if n.hasStream() {
			return n, ntstatus.ObjectNameInvalid // streams have nothing beneath them
		}
		name, streams, colon := strings.Cut(comp, ":")
		if colon {
			if st := n.parseStream(streams); st != ntstatus.Success {
				return n, st
			}
		}
		if comp == "." || name == "" && colon && len(comp) == len(s) {
			continue // the directory that it is in; or a stream of the root
		}
		if comp == ".." { // most clients resolve these themselves
			if len(path) == 0 {
				return n, ntstatus.ObjectPathSyntaxBad
			}
			path = path[:len(path)-1]
			continue
		}
		c, ok := fromWire(name)
		if !ok {
			return n, ntstatus.ObjectNameInvalid
		}
		path = append(path, c)
	}
	n.path = strings.Join(path, "/")
	if n.path == "" {
		n.path = vfs.Root
	}
	if !vfs.ValidName(n.path) {
		return n, ntstatus.ObjectNameInvalid
	}
	return n, ntstatus.Success
}

// isSeparator reports whether c separates components. A slash does as well: no name has
// one, and clients' programs pass it on.
func isSeparator(c rune) bool { return c == '\\' || c == '/' }

// parseStream takes what follows the first colon: STREAM[:TYPE].
func (n *wireName) parseStream(s string) ntstatus.Status {
	stream, typ, typed := strings.Cut(s, ":")
	switch {
	case strings.Contains(typ, ":"), typed && typ == "", !typed && stream == "":
		return ntstatus.ObjectNameInvalid
	case !typed, strings.EqualFold(typ, "$DATA"):
		n.stream, n.dataStream = stream, stream == ""
	case strings.EqualFold(typ, "$INDEX_ALLOCATION") && (stream == "" || strings.EqualFold(stream, "$I30")):
		n.dirStream = true
	default:
		return ntstatus.ObjectNameInvalid
	}
	// Any other character is good in the name of a stream, [MS-FSCC] 2.1.5.3.
	if n.stream != "" && (!vfs.ValidStreamName(stream) || smb2.UTF16Len(stream) > 2*maxStreamName) {
		return ntstatus.ObjectNameInvalid
	}
	return ntstatus.Success
}

// fromWire checks one component and translates it for the storage.
func fromWire(c string) (string, bool) {
	if c == "" || c == "." || c == ".." {
		return "", false
	}
	plain, units := true, 0
	for _, r := range c {
		units++
		if r >= 0x10000 {
			units++
		}
		if isReserved(r) || r == '/' {
			return "", false
		}
		if r >= 0xF000 && r <= privateDot {
			plain = false
		}
	}
	if units > maxComponent {
		return "", false
	}
	if plain {
		return c, true
	}
	return fromPrivate(c)
}

// fromPrivate translates the private-use stand-ins of a component; false if what comes
// out is none.
func fromPrivate(c string) (string, bool) {
	runes := []rune(c)
	for i, r := range runes {
		switch {
		case r > 0xF000 && r < 0xF020:
			runes[i] = r - 0xF000
		case reservedBack[r] != 0:
			runes[i] = reservedBack[r]
		case r == privateSpace && i == len(runes)-1:
			runes[i] = ' '
		case r == privateDot && i == len(runes)-1:
			runes[i] = '.'
		}
	}
	c = string(runes)
	return c, c != "." && c != ".."
}
