package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/filecopy"
)

// onShare is the place that a target names, by another path if that is given.
func onShare(sh *client.Share, t target, dir string) filecopy.Place {
	t.path = dir
	return filecopy.OnShare(sh, dir, t.String())
}

func (a *app) putCommand() *cobra.Command {
	var f transferFlags
	var recursive bool
	c := &cobra.Command{
		Use:     "put LOCAL... //HOST/SHARE[/PATH]",
		Aliases: []string{"mput"},
		Short:   "copy local files, or with -r trees, to a share",
		Long: `Copies LOCAL to PATH. A file goes into PATH under its own name if PATH is a
directory or ends in a slash. With -r what is in the directory LOCAL goes into the
directory PATH, which is created; if PATH exists and ends in a slash, or there are
several LOCAL, they go into it under their own names. What fails is named, and the
rest is copied. Devices, and links that lead nowhere, are left out.`,
		Example: `  smbd-rdma put report.txt //server/data/ -U alice%secret
  smbd-rdma put -r ./photos //server/data/photos --exclude '*.tmp' -U alice%secret`,
		Args: checkArgs(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			locals, to := args[:len(args)-1], args[len(args)-1]
			if _, err := f.config(); err != nil {
				return err
			}
			for _, l := range locals {
				if isTarget(l) {
					return usagef("%s is not a local name; to copy from a share use get, from one to another cp", l)
				}
				i, err := os.Stat(l)
				switch {
				case err != nil:
					return err
				case i.IsDir() && !recursive:
					return usagef("%s is a directory; use put -r", filepath.Clean(l))
				case !i.IsDir() && !i.Mode().IsRegular():
					return fmt.Errorf("%s is neither a file nor a directory", l)
				}
			}
			dst, err := parseShareTarget(to)
			if err != nil {
				return err
			}
			s := a.sessions()
			defer s.close()
			sh, err := s.share(cmd.Context(), dst)
			if err != nil {
				return err
			}
			t, err := a.newTransfer(cmd.Context(), "put", &f, s)
			if err != nil {
				return err
			}
			if len(locals) > 1 {
				return t.finish(t.putSeveral(cmd.Context(), locals, sh, dst))
			}
			return t.finish(t.putOne(cmd.Context(), locals[0], sh, dst, endsInSlash(to)))
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "a directory and all in it")
	f.register(c)
	a.conn.register(c)
	return c
}

// baseOf is the last element of a local name; that of "." says the directory above it.
func baseOf(name string) string {
	if full, err := filepath.Abs(name); err == nil {
		name = full
	}
	return filepath.Base(name)
}

// putOne copies a file or a tree. slash says that the target's name ends in one.
func (t *transfer) putOne(ctx context.Context, name string, sh *client.Share, to target, slash bool) error {
	name = filepath.Clean(name)
	i, err := os.Stat(name)
	if err != nil {
		return err
	}
	dst := to.path
	if d, err := sh.Stat(ctx, dst); err == nil && d.IsDir() && (!i.IsDir() || slash) {
		dst = path.Join(dst, baseOf(name))
	} else if errors.Is(err, fs.ErrNotExist) && slash && !i.IsDir() {
		return fmt.Errorf("%s: %w", to, err)
	}
	place := onShare(sh, to, dst)
	if !i.IsDir() {
		if err := place.Check(path.Base(dst)); err != nil {
			return err
		}
		return t.run(filecopy.Local(name), place, func(c *filecopy.Copier) error { return c.File(ctx) })
	}
	return t.run(filecopy.Local(name), place, func(c *filecopy.Copier) error { return c.Tree(ctx) })
}

// putSeveral copies files and trees into a directory.
func (t *transfer) putSeveral(ctx context.Context, locals []string, sh *client.Share, to target) error {
	if d, err := sh.Stat(ctx, to.path); err != nil {
		return err
	} else if !d.IsDir() {
		return fmt.Errorf("%s: %w", to, fs.ErrInvalid)
	}
	for _, group := range byDirectory(locals) {
		err := t.run(filecopy.Local(group.dir), onShare(sh, to, to.path), func(c *filecopy.Copier) error { return c.Some(ctx, group.names) })
		if err != nil {
			return err
		}
	}
	return nil
}

// group is some of the names in a directory.
type group struct {
	dir   string
	names []string
}

// byDirectory sorts local names by the directories that they are in.
func byDirectory(locals []string) []group {
	var groups []group
	index := map[string]int{}
	for _, l := range locals {
		dir, base := filepath.Dir(filepath.Clean(l)), filepath.Base(filepath.Clean(l))
		if base == "." || base == ".." {
			dir, base = filepath.Join(dir, base, ".."), baseOf(l)
		}
		i, ok := index[dir]
		if !ok {
			i = len(groups)
			index[dir] = i
			groups = append(groups, group{dir: dir})
		}
		groups[i].names = append(groups[i].names, base)
	}
	return groups
}

func (a *app) getCommand() *cobra.Command {
	var f transferFlags
	var recursive bool
	c := &cobra.Command{
		Use:   "get //HOST/SHARE/PATH [[//HOST/SHARE/PATH...] LOCAL]",
		Short: "copy files, or with -r trees, of a share",
		Long: `Copies PATH to LOCAL, by default the last element of PATH in the current
directory. A file goes into LOCAL if that is a directory. With -r what is in the
directory PATH goes into the directory LOCAL, which is created; if LOCAL exists
and ends in a slash, or there are several PATH, they go into it under their own
names. What fails is named, and the rest is copied.`,
		Example: `  smbd-rdma get //server/data/report.txt -U alice%secret
  smbd-rdma get -r --continue --verify //server/data/photos ./photos -U alice%secret`,
		Args: checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := f.config(); err != nil {
				return err
			}
			from, local, err := remoteArgs(args)
			if err != nil {
				return err
			}
			return a.fetch(cmd.Context(), "get", &f, from, func(t *transfer, sh *client.Share, src target) error {
				return t.get(cmd.Context(), sh, src, local, recursive, len(from) > 1)
			})
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "a directory and all in it")
	f.register(c)
	a.conn.register(c)
	return c
}

// remoteArgs are the targets among the arguments, and the local name that may follow.
func remoteArgs(args []string) (from []target, local string, err error) {
	for i, arg := range args {
		if i > 0 && i == len(args)-1 {
			if isTarget(arg) {
				return nil, "", usagef("%s is not a local name; to copy to a share use put, from one to another cp", arg)
			}
			return from, arg, nil
		}
		t, err := parseShareTarget(arg)
		if err != nil {
			return nil, "", err
		}
		from = append(from, t)
	}
	return from, "", nil
}

// fetch runs work for each target, on the sessions of one transfer.
func (a *app) fetch(ctx context.Context, name string, f *transferFlags, from []target, work func(*transfer, *client.Share, target) error) error {
	s := a.sessions()
	defer s.close()
	var t *transfer
	for _, src := range from {
		sh, err := s.share(ctx, src)
		if t == nil && err == nil {
			t, err = a.newTransfer(ctx, name, f, s)
		}
		if err == nil {
			err = work(t, sh, src)
		}
		if t == nil {
			return err
		}
		if err != nil {
			return t.finish(err)
		}
	}
	return t.finish(nil)
}

// get copies a file or a tree. into says that local is a directory which it goes into.
func (t *transfer) get(ctx context.Context, sh *client.Share, src target, local string, recursive, into bool) error {
	i, err := sh.Stat(ctx, src.path)
	if err != nil {
		return err
	}
	if i.IsDir() && !recursive {
		return usagef("%s is a directory; use get -r", src)
	}
	dst, err := t.localName(src, local, i.IsDir(), into)
	if err != nil {
		return err
	}
	return t.run(onShare(sh, src, src.path), filecopy.Local(dst), func(c *filecopy.Copier) error {
		if i.IsDir() {
			return c.Tree(ctx)
		}
		return c.File(ctx)
	})
}

// localName is where a target goes to.
func (t *transfer) localName(src target, local string, dir, into bool) (string, error) {
	base := path.Base(src.path)
	if src.path == "" {
		base = src.share
	}
	if filepath.Base(base) != base || base == ".." {
		return "", fmt.Errorf("%q is no local name", base)
	}
	if local == "" {
		return base, nil
	}
	i, err := os.Stat(local)
	if into && (err != nil || !i.IsDir()) {
		return "", fmt.Errorf("%s is not a directory", local)
	}
	if err == nil && i.IsDir() && (!dir || into || endsInSlash(local)) {
		return filepath.Join(local, base), nil
	}
	return local, nil
}

func (a *app) mgetCommand() *cobra.Command {
	var f transferFlags
	var recursive bool
	c := &cobra.Command{
		Use:   "mget //HOST/SHARE/[PATH/]MASK [[//HOST/SHARE/[PATH/]MASK...] LOCAL]",
		Short: "copy the files of a directory of a share whose names match",
		Long: `Copies what MASK matches in the directory PATH into the directory LOCAL, by default
the current one. In MASK * is any characters, ? is any one, and [abc] is one of these;
case has no meaning. With -r directories that match are copied too, with all in them.`,
		Example: "  smbd-rdma mget '//server/data/2026/*.pdf' ./papers -U alice%secret",
		Args:    checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := f.config(); err != nil {
				return err
			}
			from, local, err := remoteArgs(args)
			if err != nil {
				return err
			}
			for _, src := range from {
				if _, err := path.Match(path.Base(src.path), ""); err != nil || src.path == "" {
					return usagef("%s does not end in a pattern", src)
				}
			}
			if local == "" {
				local = "."
			}
			return a.fetch(cmd.Context(), "mget", &f, from, func(t *transfer, sh *client.Share, src target) error {
				return t.mget(cmd.Context(), sh, src, local, recursive)
			})
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "directories that match too, with all in them")
	f.register(c)
	a.conn.register(c)
	return c
}

func (t *transfer) mget(ctx context.Context, sh *client.Share, src target, local string, recursive bool) error {
	if i, err := os.Stat(local); err != nil {
		return err
	} else if !i.IsDir() {
		return fmt.Errorf("%s is not a directory", local)
	}
	mask := strings.ToLower(path.Base(src.path))
	matched := false // by the walk, which is one goroutine and has ended when it is read
	t.cfg.Flat = !recursive
	t.cfg.Filter.Top = func(name string) bool {
		ok, _ := path.Match(mask, strings.ToLower(name)) // it is a pattern
		matched = matched || ok
		return ok
	}
	dir := path.Dir(src.path)
	if dir == "." {
		dir = ""
	}
	err := t.run(onShare(sh, src, dir), filecopy.Local(local), func(c *filecopy.Copier) error { return c.Tree(ctx) })
	if err == nil && !matched && t.total.Failed == 0 {
		return fmt.Errorf("%s: nothing matches: %w", src, fs.ErrNotExist)
	}
	return err
}

func (a *app) cpCommand() *cobra.Command {
	var f transferFlags
	var recursive bool
	c := &cobra.Command{
		Use:     "cp //HOST/SHARE/PATH //HOST/SHARE/PATH",
		Aliases: []string{"scopy"},
		Short:   "copy a file, or with -r a tree, between shares",
		Long: `Copies the first PATH to the second one, which is treated as put treats it. Shares of
one host are copied between by the host itself, if it can; else the bytes come and go
through this machine.`,
		Example: "  smbd-rdma cp -r //server/data/photos //server/archive/2026/ -U alice%secret",
		Args:    checkArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := f.config(); err != nil {
				return err
			}
			for i, use := range []string{"put", "get"} {
				if !isTarget(args[i]) {
					return usagef("%s is not on a share; use %s", args[i], use)
				}
			}
			from, err := parseShareTarget(args[0])
			if err != nil {
				return err
			}
			to, err := parseShareTarget(args[1])
			if err != nil {
				return err
			}
			s := a.sessions()
			defer s.close()
			ctx := cmd.Context()
			src, err := s.share(ctx, from)
			if err != nil {
				return err
			}
			dst, err := s.share(ctx, to)
			if err != nil {
				return err
			}
			i, err := src.Stat(ctx, from.path)
			if err != nil {
				return err
			}
			if i.IsDir() && !recursive {
				return usagef("%s is a directory; use cp -r", from)
			}
			base := path.Base(from.path)
			if from.path == "" {
				base = from.share
			}
			if d, err := dst.Stat(ctx, to.path); err == nil && d.IsDir() && (!i.IsDir() || endsInSlash(args[1])) {
				to.path = path.Join(to.path, base)
			} else if errors.Is(err, fs.ErrNotExist) && endsInSlash(args[1]) && !i.IsDir() {
				return fmt.Errorf("%s: %w", to, err)
			}
			if inside(from, to) || i.IsDir() && inside(to, from) {
				return usagef("%s and %s are not apart", from, to)
			}
			t, err := a.newTransfer(ctx, "cp", &f, s)
			if err != nil {
				return err
			}
			return t.finish(t.run(onShare(src, from, from.path), onShare(dst, to, to.path), func(c *filecopy.Copier) error {
				if i.IsDir() {
					return c.Tree(ctx)
				}
				return c.File(ctx)
			}))
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "a directory and all in it")
	f.register(c)
	a.conn.register(c)
	return c
}

// inside reports whether b is a or in it. Hosts fold case in names of shares, and may do
// so in those of files.
func inside(a, b target) bool {
	if !strings.EqualFold(a.host, b.host) || !strings.EqualFold(a.share, b.share) {
		return false
	}
	x, y := strings.ToLower(a.path), strings.ToLower(b.path)
	return x == "" || x == y || strings.HasPrefix(y, x+"/")
}
