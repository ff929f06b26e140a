package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/internal/filecopy"
)

func (a *app) syncCommand() *cobra.Command {
	var f transferFlags
	var o filecopy.SyncOptions
	c := &cobra.Command{
		Use:   "sync FROM TO",
		Short: "make one directory like another, one of them or both on shares",
		Long: `Copies what is in the directory FROM and not, with the same size and time, in the
directory TO. Either is a local name or //HOST/SHARE[/PATH]. Nothing is deleted
without --delete, nor in a directory of which something could not be read or copied,
nor what --include and --exclude leave out.`,
		Example: `  smbd-rdma sync --delete --dry-run ./photos //server/data/photos -U alice%secret
  smbd-rdma sync //server/data/photos ./photos -U alice%secret`,
		Args: checkArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := f.config(); err != nil {
				return err
			}
			switch {
			case o.Checksum && o.SizeOnly:
				return usagef("--checksum and --size-only exclude each other")
			case o.Window < 0:
				return usagef("--modify-window %v is negative", o.Window)
			case !isTarget(args[0]) && !isTarget(args[1]):
				return usagef("neither %s nor %s is on a share", args[0], args[1])
			}
			return a.runSync(cmd.Context(), args[0], args[1], &f, o)
		},
	}
	fs := c.Flags()
	fs.BoolVar(&o.Delete, "delete", false, "delete from TO what FROM does not have")
	fs.BoolVarP(&o.DryRun, "dry-run", "n", false, "print what would be done, and do nothing")
	fs.BoolVar(&o.Checksum, "checksum", false, "compare files of the same size byte by byte, instead of their times")
	fs.BoolVar(&o.SizeOnly, "size-only", false, "files of the same size are the same")
	fs.DurationVar(&o.Window, "modify-window", 0, "how far apart times of the same file may be, beyond 100 ns, as "+(2*time.Second).String()+" on FAT")
	f.register(c)
	a.conn.register(c)
	return c
}

func (a *app) runSync(ctx context.Context, from, to string, f *transferFlags, o filecopy.SyncOptions) error {
	s := a.sessions()
	defer s.close()
	var places [2]filecopy.Place
	var targets [2]target
	for i, name := range []string{from, to} {
		if !isTarget(name) {
			places[i] = filecopy.Local(name)
			continue
		}
		t, err := parseShareTarget(name)
		if err != nil {
			return err
		}
		targets[i] = t
	}
	if targets[0].host != "" && targets[1].host != "" && (inside(targets[0], targets[1]) || inside(targets[1], targets[0])) {
		return usagef("%s and %s are not apart", from, to)
	}
	if places[0] != nil {
		if i, err := os.Stat(from); err != nil {
			return err
		} else if !i.IsDir() {
			return usagef("%s is not a directory; use put", from)
		}
	}
	for i, t := range targets {
		if places[i] != nil {
			continue
		}
		sh, err := s.share(ctx, t)
		if err != nil {
			return err
		}
		places[i] = onShare(sh, t, t.path)
	}
	if e, err := places[0].Stat(ctx, "", true); err != nil {
		return err
	} else if !e.Mode.IsDir() {
		return fmt.Errorf("%s is not a directory", from)
	}
	t, err := a.newTransfer(ctx, "sync", f, s)
	if err != nil {
		return err
	}
	return t.finish(t.run(places[0], places[1], func(c *filecopy.Copier) error { return c.Sync(ctx, o) }))
}
