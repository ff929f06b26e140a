package client

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"unicode/utf16"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
)

// maxLinks is how many symbolic links the way to one file may have, as on Linux.
const maxLinks = 40

// linkError is an open that came upon a symbolic link which the client is to follow.
type linkError struct {
	next   string // the name to go on with, in io/fs form; "" if this share has none
	target string
}

// Error implements error.
func (e *linkError) Error() string {
	return fmt.Sprintf("%v: the link leads to %s, which is not on this share", ntstatus.StoppedOnSymlink, e.target)
}

// Unwrap gives the server's answer.
func (e *linkError) Unwrap() error { return ntstatus.StoppedOnSymlink }

// following calls do with a name, and where it comes upon a symbolic link again with the
// name that the link leads to.
func following(name string, do func(name string) error) error {
	for range maxLinks {
		err := do(name)
		var link *linkError
		if !errors.As(err, &link) || link.next == "" {
			return err
		}
		name = link.next
	}
	return fmt.Errorf("more than %d symbolic links: %w", maxLinks, syscall.ELOOP)
}

// stopped turns the answer to a CREATE that came upon a symbolic link into a linkError,
// [MS-SMB2] 2.2.2.2.1 and 3.2.5.7. name is what was asked for. Other errors are returned
// as they are.
func (sh *Share) stopped(name string, k *call, err error) error {
	if !errors.Is(err, ntstatus.StoppedOnSymlink) || k.msg == nil || k.resp.Status != ntstatus.StoppedOnSymlink {
		return err
	}
	wire, werr := wireName(name)
	if werr != nil {
		return werr
	}
	r, perr := smb2.ParseErrorResponse(k.msg)
	if perr != nil {
		return k.badBody(perr)
	}
	data, perr := r.Data(smb2.ErrorIDDefault)
	if perr != nil {
		return k.badBody(perr)
	}
	m, perr := smb2.ParseSymbolicLinkErrorResponse(data)
	if perr != nil {
		return k.badBody(perr)
	}
	done, rest, ok := splitUnparsed(wire, int(m.UnparsedPathLength))
	if !ok {
		return k.protocolError("2.2.2.2.1", "%d octets of a name of %d are said to be unparsed",
			m.UnparsedPathLength, smb2.UTF16Len(wire))
	}
	target := smb2.DecodeUTF16(m.SubstituteName)
	return &linkError{next: sh.linked(done, target, m.Flags&smb2.SymlinkFlagRelative != 0, rest), target: posixTarget(target)}
}

// splitUnparsed cuts the last n octets of UTF-16 off a name: a separator and elements.
func splitUnparsed(wire string, n int) (done, rest string, ok bool) {
	u := utf16.Encode([]rune(wire))
	if n%2 != 0 || n/2 > len(u) {
		return "", "", false
	}
	at := len(u) - n/2
	done, rest = string(utf16.Decode(u[:at])), string(utf16.Decode(u[at:]))
	if rest != "" && rest[0] != '\\' && !strings.HasSuffix(done, `\`) {
		return "", "", false // in the middle of an element
	}
	return strings.TrimSuffix(done, `\`), rest, true
}

// linked is where a link called done leads, with rest behind it; "" if not on this share.
// An absolute target is followed if it is of this share; that of a local drive of the
// server, and what would leave the root, can't be.
func (sh *Share) linked(done, target string, relative bool, rest string) string {
	t := posixTarget(target)
	if !relative {
		share := "//" + sh.s.server + "/" + sh.name
		if len(t) < len(share) || !strings.EqualFold(t[:len(share)], share) || len(t) > len(share) && t[len(share)] != '/' {
			return ""
		}
		t = strings.TrimLeft(t[len(share):], "/")
	} else if !strings.HasPrefix(t, "/") {
		t = parent(fromWire(done)) + "/" + t
	}
	name, err := clean(t + "/" + fromWire(rest))
	if err != nil {
		return ""
	}
	return name
}

// parent is path.Dir, but "" for a name of one element.
func parent(name string) string {
	if d := path.Dir(name); d != "." {
		return d
	}
	return ""
}
