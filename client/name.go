package client

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// clean brings a name into the form of io/fs, "." for the root. It fails for one
// that leaves the share, and for one with a NUL.
func clean(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("NUL in a name: %w", fs.ErrInvalid)
	}
	name = path.Clean(strings.TrimLeft(strings.ReplaceAll(name, `\`, "/"), "/"))
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", fmt.Errorf("the name leaves the share: %w", fs.ErrInvalid)
	}
	return name, nil
}

// wireName is a name as CREATE has it: relative to the share, with backslashes,
// empty for the root ([MS-SMB2] 2.2.13).
func wireName(name string) (string, error) {
	name, err := clean(name)
	if err != nil {
		return "", err
	}
	if name == "." {
		return "", nil
	}
	name = strings.ReplaceAll(name, "/", `\`)
	if smb2.UTF16Len(name) > maxNameSize {
		return "", fmt.Errorf("the name is longer than %d characters: %w", maxNameSize/2, fs.ErrInvalid)
	}
	return name, nil
}

// maxNameSize is the longest name in octets of UTF-16 that is sent.
const maxNameSize = 32767 * 2

// fromWire turns a name of the server's into one of ours.
func fromWire(name string) string { return strings.ReplaceAll(name, `\`, "/") }
