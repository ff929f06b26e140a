package fuse

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// attach mounts on dir, and returns the kernel's end of it: /dev/fuse, open. As root it
// asks the kernel itself; else, or where that is not let, fusermount3 does.
func attach(dir string, o *gofuse.MountOptions) (*os.File, error) {
	var direct error
	if o.DirectMount {
		dev, err := attachDirectly(dir, o)
		if err == nil {
			return dev, nil
		}
		direct = err
	}
	dev, err := attachByHelper(dir, o)
	if err != nil {
		return nil, errors.Join(direct, err)
	}
	return dev, nil
}

func attachDirectly(dir string, o *gofuse.MountOptions) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	data := append([]string{
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
		fmt.Sprintf("max_read=%d", o.MaxWrite),
	}, o.Options...)
	if o.AllowOther {
		data = append(data, "allow_other")
	}
	if err := unix.Mount(o.FsName, dir, "fuse."+o.Name, o.DirectMountFlags, strings.Join(data, ",")); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "mount", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// attachByHelper has fusermount3 mount, which hands over what it has opened by the socket
// whose descriptor is in $_FUSE_COMMFD.
func attachByHelper(dir string, o *gofuse.MountOptions) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount"), os.NewFile(uintptr(pair[1]), "fusermount")
	defer ours.Close()
	defer theirs.Close()
	bin, err := fusermount()
	if err != nil {
		return nil, err
	}
	opts := append([]string{"fsname=" + o.FsName, "subtype=" + o.Name, fmt.Sprintf("max_read=%d", o.MaxWrite)}, o.Options...)
	if o.AllowOther {
		opts = append(opts, "allow_other")
	}
	if o.DirectMount { // what would have been bits of mount(2)
		if o.DirectMountFlags&unix.MS_RDONLY != 0 {
			opts = append(opts, "ro")
		}
		for name, flag := range mountFlags {
			if flag.set != 0 && o.DirectMountFlags&flag.set != 0 {
				opts = append(opts, name)
			}
		}
	}
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	for i, s := range opts {
		opts[i] = escape.Replace(s)
	}
	cmd := exec.Command(bin, "-o", strings.Join(opts, ","), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", bin, err, strings.TrimSpace(said.String()))
	}
	theirs.Close() // nobody else has it now: what has not come does not
	return receiveFile(ours)
}

// fusermount finds the program, also where there is no PATH, as mount(8) has it for users
// whom /etc/fstab lets mount.
func fusermount() (string, error) {
	for _, name := range []string{"fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3", "fusermount"} {
		if bin, err := exec.LookPath(name); err == nil {
			return bin, nil
		}
	}
	return "", fmt.Errorf("fusermount3: %w: only root mounts without the package fuse3", exec.ErrNotFound)
}

// receiveFile takes a descriptor from a socket.
func receiveFile(socket *os.File) (*os.File, error) {
	c, err := net.FileConn(socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("fusermount: not a socket of this machine")
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := u.ReadMsgUnix(make([]byte, 4), oob)
	if err != nil {
		return nil, fmt.Errorf("fusermount: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, fmt.Errorf("fusermount: %w", err)
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			return os.NewFile(uintptr(fds[0]), "/dev/fuse"), nil
		}
	}
	return nil, errors.New("fusermount: it has mounted, and has not said by what")
}
