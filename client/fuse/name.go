package fuse

import (
	"strings"
	"syscall"
	"unicode/utf8"
)

// maxName is the longest name of a file in octets of a local file system, NAME_MAX,
// and in UTF-16 code units on a server ([MS-FSCC] 2.1.5.2).
const maxName = 255

// toServer spells a local name for a server. What SMB reserves travels in the
// private-use characters U+F001 to U+F029 that Mac, cifs.ko (mount option mapposix)
// and Samba's vfs_fruit have for that: control characters, the reserved ones of
// [MS-FSCC] 2.1.5.2, and a space or dot at the end, which Windows drops. The errors
// are ENAMETOOLONG, and EILSEQ for a name that is not UTF-8: SMB's are UTF-16.
func toServer(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", syscall.EILSEQ
	}
	units := 0
	odd := false
	for _, r := range name {
		units++
		if r > 0xFFFF {
			units++
		}
		if standIn(r) != r {
			odd = true
		}
	}
	if units > maxName {
		return "", syscall.ENAMETOOLONG
	}
	last := name[max(len(name)-1, 0):]
	if !odd && last != "." && last != " " {
		return name, nil
	}
	if odd {
		name = strings.Map(standIn, name)
	}
	switch last {
	case ".":
		name = name[:len(name)-1] + "\uF029"
	case " ":
		name = name[:len(name)-1] + "\uF028"
	}
	return name, nil
}

// standIn is what stands for a reserved character in the middle of a name.
func standIn(r rune) rune {
	switch r {
	case '"':
		return 0xF020
	case '*':
		return 0xF021
	case ':':
		return 0xF022
	case '<':
		return 0xF023
	case '>':
		return 0xF024
	case '?':
		return 0xF025
	case '\\':
		return 0xF026
	case '|':
		return 0xF027
	}
	if r < 0x20 {
		return 0xF000 + r
	}
	return r
}

// fromServer is the way back, for names in listings. ok is false for a name that no
// local file can have: the client has refused those with separators already.
func fromServer(name string) (local string, ok bool) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || !utf8.ValidString(name) {
		return "", false
	}
	if !strings.ContainsRune(name, utf8.RuneError) && !strings.ContainsFunc(name, isStandIn) {
		return name, true
	}
	// A half of a surrogate pair has been decoded to U+FFFD: the server would not
	// find the file by that.
	if strings.ContainsRune(name, utf8.RuneError) {
		return "", false
	}
	local = plain(name)
	return local, local != "." && local != ".." // as which a stand-in for a dot alone would appear
}

// plain puts the characters themselves for what stands for them.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case !isStandIn(r):
			return r
		case r < 0xF020:
			return r - 0xF000
		}
		return rune("\"*:<>?\\| ."[r-0xF020])
	}, s)
}

func isStandIn(r rune) bool { return r > 0xF000 && r <= 0xF029 }
