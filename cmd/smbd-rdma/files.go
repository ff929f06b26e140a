package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// fileRow is one file in the JSON of ls and stat.
type fileRow struct {
	Name       string    `json:"name"`
	Size       int64     `json:"size"`
	Allocated  int64     `json:"allocated"`
	Mode       string    `json:"mode"`
	Directory  bool      `json:"directory"`
	Modified   time.Time `json:"modified"`
	Accessed   time.Time `json:"accessed"`
	Changed    time.Time `json:"changed"`
	Created    time.Time `json:"created"`
	Attributes uint32    `json:"attributes"`
	FileID     uint64    `json:"file_id,omitempty"`
	Links      uint32    `json:"links,omitempty"`
}

func newFileRow(name string, i *client.FileInfo) fileRow {
	return fileRow{
		Name: name, Size: i.Size(), Allocated: i.AllocationSize(), Mode: i.Mode().String(), Directory: i.IsDir(),
		Modified: i.ModTime(), Accessed: i.AccessTime(), Changed: i.ChangeTime(), Created: i.BirthTime(),
		Attributes: uint32(i.Attributes()), FileID: i.FileID(), Links: i.Links(),
	}
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) lsCommand() *cobra.Command {
	var long, recursive, asJSON bool
	c := &cobra.Command{
		Use:     "ls //HOST[/SHARE[/PATH]]",
		Aliases: []string{"dir"},
		Short:   "list the shares of a host, or a directory",
		Example: `  smbd-rdma ls //server -U alice%secret
  smbd-rdma ls -l //server/data/photos -U alice%secret`,
		Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseTarget(args[0])
			if err != nil {
				return err
			}
			s, err := a.dial(cmd.Context(), t.host)
			if err != nil {
				return err
			}
			defer s.Close()
			if t.share == "" {
				return a.listShares(cmd, s, asJSON)
			}
			sh, err := s.Mount(cmd.Context(), t.share)
			if err != nil {
				return err
			}
			rows, err := listFiles(cmd, sh, t.path, recursive)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(rows)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
			for _, r := range rows {
				name := a.shown(r.Name)
				if r.Directory {
					name += "/"
				}
				if !long {
					fmt.Fprintln(a.stdout, name)
					continue
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t %s\n", r.Mode, r.Size, r.Modified.Local().Format("2006-01-02 15:04:05"), name)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVarP(&long, "long", "l", false, "mode, size and time of modification too")
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "directories and all below them")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	a.conn.register(c)
	return c
}

func (a *app) listShares(cmd *cobra.Command, s *client.Session, asJSON bool) error {
	shares, err := s.ListShares(cmd.Context())
	if err != nil {
		return err
	}
	type row struct {
		Name    string `json:"name"`
		Type    string `json:"type"`
		Comment string `json:"comment"`
	}
	rows := []row{}
	for _, sh := range shares {
		kind := "disk"
		switch sh.Type &^ client.ShareHidden {
		case client.SharePrinter:
			kind = "printer"
		case client.ShareDevice:
			kind = "device"
		case client.ShareIPC:
			kind = "ipc"
		}
		rows = append(rows, row{sh.Name, kind, sh.Comment})
	}
	if asJSON {
		return a.printJSON(rows)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", a.shown(r.Name), r.Type, a.shown(r.Comment))
	}
	return w.Flush()
}

func listFiles(cmd *cobra.Command, sh *client.Share, name string, recursive bool) ([]fileRow, error) {
	ctx := cmd.Context()
	rows := []fileRow{}
	if info, err := sh.Stat(ctx, name); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return append(rows, newFileRow(path.Base(name), info)), nil
	}
	return listDir(ctx, sh, name, "", recursive, rows)
}

// listDir appends the entries of a directory, which is at rel beneath the one that is
// listed, sorted by name, with all that the server tells of them.
func listDir(ctx context.Context, sh *client.Share, name, rel string, recursive bool, rows []fileRow) ([]fileRow, error) {
	f, err := sh.CreateFile(ctx, name, client.CreateOptions{
		Access: client.AccessReadData | client.AccessReadAttributes | client.AccessSynchronize, Options: client.OptDirectory})
	if err != nil {
		return rows, err
	}
	entries, err := f.ReadDirContext(ctx, -1)
	err = errors.Join(err, f.Close())
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		i, ok := e.(*client.FileInfo)
		if !ok {
			continue
		}
		at := path.Join(rel, e.Name())
		rows = append(rows, newFileRow(at, i))
		if recursive && i.IsDir() && err == nil {
			rows, err = listDir(ctx, sh, path.Join(name, e.Name()), at, true, rows)
		}
	}
	return rows, err
}

func (a *app) statCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "stat //HOST/SHARE[/PATH]",
		Aliases: []string{"allinfo"},
		Short:   "describe a file or directory",
		Example: "  smbd-rdma stat //server/data/report.txt -U alice%secret",
		Args:    checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onShare(cmd, args[0], func(sh *client.Share, t target) error {
				i, err := sh.Stat(cmd.Context(), t.path)
				if err != nil {
					return err
				}
				r := newFileRow(path.Base("/"+t.path), i)
				if asJSON {
					return a.printJSON(r)
				}
				w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintf(w, "name\t%s\nsize\t%d\nallocated\t%d\nmode\t%s\nattributes\t%#x\n", r.Name, r.Size, r.Allocated, r.Mode, r.Attributes)
				fmt.Fprintf(w, "modified\t%s\naccessed\t%s\nchanged\t%s\ncreated\t%s\nfile id\t%d\nlinks\t%d\n",
					stamp(r.Modified), stamp(r.Accessed), stamp(r.Changed), stamp(r.Created), r.FileID, r.Links)
				return w.Flush()
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	a.conn.register(c)
	return c
}

func stamp(t time.Time) string { return t.Local().Format(time.RFC3339Nano) }

func (a *app) catCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "cat //HOST/SHARE/PATH ...",
		Short:   "print files",
		Example: "  smbd-rdma cat //server/data/report.txt -U alice%secret",
		Args:    checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTargets(args, false); err != nil {
				return err
			}
			for _, arg := range args {
				err := a.onShare(cmd, arg, func(sh *client.Share, t target) error {
					// Copy knows no context.
					defer context.AfterFunc(cmd.Context(), func() { sh.Session().Close() })()
					f, err := sh.CreateFile(cmd.Context(), t.path, client.CreateOptions{Options: client.OptNonDirectory})
					if err != nil {
						return err
					}
					_, err = io.Copy(a.stdout, f)
					return errors.Join(err, f.Close())
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	a.conn.register(c)
	return c
}

func (a *app) rmCommand() *cobra.Command {
	var recursive, force bool
	c := &cobra.Command{
		Use:     "rm //HOST/SHARE/PATH ...",
		Aliases: []string{"del"},
		Short:   "remove files and empty directories, with -r whole trees",
		Example: "  smbd-rdma rm -r //server/data/old -U alice%secret",
		Args:    checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTargets(args, true); err != nil {
				return err
			}
			for _, arg := range args {
				err := a.onShare(cmd, arg, func(sh *client.Share, t target) error {
					if recursive {
						if _, err := sh.Lstat(cmd.Context(), t.path); err != nil && !force {
							return err
						}
						return sh.RemoveAll(cmd.Context(), t.path)
					}
					err := sh.Remove(cmd.Context(), t.path)
					if force && errors.Is(err, fs.ErrNotExist) {
						return nil
					}
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "a directory and all in it")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not complain of what is not there")
	a.conn.register(c)
	return c
}

func (a *app) rmdirCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "rmdir //HOST/SHARE/PATH ...",
		Aliases: []string{"rd"},
		Short:   "remove empty directories",
		Example: "  smbd-rdma rmdir //server/data/old -U alice%secret",
		Args:    checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTargets(args, true); err != nil {
				return err
			}
			for _, arg := range args {
				err := a.onShare(cmd, arg, func(sh *client.Share, t target) error {
					i, err := sh.Lstat(cmd.Context(), t.path)
					if err != nil {
						return err
					}
					if !i.IsDir() {
						return fmt.Errorf("%s is not a directory", t)
					}
					return sh.Remove(cmd.Context(), t.path)
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	a.conn.register(c)
	return c
}

func (a *app) mkdirCommand() *cobra.Command {
	var parents bool
	c := &cobra.Command{
		Use:     "mkdir //HOST/SHARE/PATH ...",
		Aliases: []string{"md"},
		Short:   "create directories",
		Example: "  smbd-rdma mkdir --parents //server/data/2026/11 -U alice%secret",
		Args:    checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTargets(args, true); err != nil {
				return err
			}
			for _, arg := range args {
				err := a.onShare(cmd, arg, func(sh *client.Share, t target) error {
					if parents {
						return sh.MkdirAll(cmd.Context(), t.path)
					}
					return sh.Mkdir(cmd.Context(), t.path)
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&parents, "parents", false, "the directories above too; none of them is an error if it exists")
	a.conn.register(c)
	return c
}

func (a *app) mvCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "mv //HOST/SHARE/OLD //HOST/SHARE/NEW",
		Aliases: []string{"rename"},
		Short:   "rename a file or directory within a share",
		Long:    "Renames a file or directory within a share. If NEW is a directory, OLD moves into it.",
		Example: "  smbd-rdma mv //server/data/a.txt //server/data/b.txt -U alice%secret",
		Args:    checkArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := parseShareTarget(args[0])
			if err != nil {
				return err
			}
			to, err := parseShareTarget(args[1])
			if err != nil {
				return err
			}
			if !strings.EqualFold(from.host, to.host) || !strings.EqualFold(from.share, to.share) {
				return usagef("%s and %s are not on one share: use get and put", from, to)
			}
			if from.path == "" {
				return usagef("%s is a share: it has no name to change", from)
			}
			return a.onShare(cmd, args[0], func(sh *client.Share, _ target) error {
				name := to.path
				if i, err := sh.Stat(cmd.Context(), name); err == nil && i.IsDir() && !strings.EqualFold(name, from.path) {
					name = path.Join(name, path.Base(from.path))
				}
				return sh.Rename(cmd.Context(), from.path, name, force)
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "replace NEW if it is a file")
	a.conn.register(c)
	return c
}

// checkTargets finds mistakes in the arguments before anything is done. named
// wants each to name something on its share.
func checkTargets(args []string, named bool) error {
	for _, arg := range args {
		t, err := parseShareTarget(arg)
		if err != nil {
			return err
		}
		if named && t.path == "" {
			return usagef("%s is a share: name something on it", t)
		}
	}
	return nil
}

// onShare runs work on the share that arg names.
func (a *app) onShare(cmd *cobra.Command, arg string, work func(*client.Share, target) error) error {
	t, err := parseShareTarget(arg)
	if err != nil {
		return err
	}
	s, err := a.dial(cmd.Context(), t.host)
	if err != nil {
		return err
	}
	defer s.Close()
	sh, err := s.Mount(cmd.Context(), t.share)
	if err != nil {
		return err
	}
	return work(sh, t)
}
