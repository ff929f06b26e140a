package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
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
		Use:   "ls //HOST[/SHARE[/PATH]]",
		Short: "list the shares of a host, or a directory",
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
	if !recursive {
		entries, err := sh.ReadDir(ctx, name)
		for _, e := range entries {
			if i, ok := e.(*client.FileInfo); ok {
				rows = append(rows, newFileRow(e.Name(), i))
			}
		}
		return rows, err
	}
	err := sh.WalkDir(ctx, name, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		rel := strings.Trim(strings.TrimPrefix(p, name), "/")
		if fi, ok := i.(*client.FileInfo); ok && rel != "" && rel != "." {
			rows = append(rows, newFileRow(rel, fi))
		}
		return nil
	})
	return rows, err
}

func (a *app) statCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "stat //HOST/SHARE[/PATH]",
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

func (a *app) mkdirCommand() *cobra.Command {
	var parents bool
	c := &cobra.Command{
		Use:     "mkdir //HOST/SHARE/PATH ...",
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
