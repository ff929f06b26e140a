package main

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/client"
)

func (a *app) touchCommand() *cobra.Command {
	var date string
	var noCreate bool
	c := &cobra.Command{
		Use:     "touch //HOST/SHARE/PATH ...",
		Short:   "set the time of modification, and create files that are not there",
		Example: "  smbd-rdma touch --date 2026-11-23T10:00:00Z //server/data/report.txt -U alice%secret",
		Args:    checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTargets(args, true); err != nil {
				return err
			}
			at := time.Now()
			if date != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, date); err != nil {
					return usagef("--date %q is not of the form 2026-11-23T10:00:00Z", date)
				}
			}
			for _, arg := range args {
				err := a.onShare(cmd, arg, func(sh *client.Share, t target) error {
					ctx := cmd.Context()
					err := sh.Chtimes(ctx, t.path, time.Time{}, at)
					switch {
					case !errors.Is(err, fs.ErrNotExist):
						return err
					case noCreate:
						return nil
					}
					f, err := sh.CreateFile(ctx, t.path, client.CreateOptions{
						Access:      client.AccessWriteAttributes | client.AccessReadAttributes | client.AccessSynchronize,
						Disposition: client.OpenIf, Options: client.OptNonDirectory})
					if err != nil {
						return err
					}
					return errors.Join(f.Chtimes(ctx, time.Time{}, at), f.Close())
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&date, "date", "", "the time, as in RFC 3339 (default now)")
	c.Flags().BoolVar(&noCreate, "no-create", false, "leave what is not there")
	a.conn.register(c)
	return c
}

// settable are the attributes that setmode knows, by smbclient's letters.
var settable = map[rune]client.Attributes{
	'r': client.AttrReadOnly, 'h': client.AttrHidden, 's': client.AttrSystem, 'a': client.AttrArchive,
}

// parseModes understands +rh-a: which attributes to set, and which to clear.
func parseModes(s string) (set, clear client.Attributes, err error) {
	adding := 0
	for _, r := range strings.ToLower(s) {
		bit, known := settable[r]
		switch {
		case r == '+':
			adding = 1
		case r == '-':
			adding = -1
		case !known || adding == 0:
			return 0, 0, usagef("%q is not of the form +rhsa-rhsa", s)
		case adding > 0:
			set, clear = set|bit, clear&^bit
		default:
			set, clear = set&^bit, clear|bit
		}
	}
	if set|clear == 0 {
		return 0, 0, usagef("%q is not of the form +rhsa-rhsa", s)
	}
	return set, clear, nil
}

func (a *app) setmodeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "setmode //HOST/SHARE/PATH +rhsa-rhsa",
		Short: "set and clear the attributes read-only, hidden, system and archive",
		Example: `  smbd-rdma setmode //server/data/report.txt +r-h -U alice%secret
  smbd-rdma setmode -U alice%secret -- //server/data/report.txt -r`,
		Args: checkArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTargets(args[:1], true); err != nil {
				return err
			}
			set, clear, err := parseModes(args[1])
			if err != nil {
				return err
			}
			return a.onShare(cmd, args[0], func(sh *client.Share, t target) error {
				i, err := sh.Stat(cmd.Context(), t.path)
				if err != nil {
					return err
				}
				const all = client.AttrReadOnly | client.AttrHidden | client.AttrSystem | client.AttrArchive
				return sh.SetAttributes(cmd.Context(), t.path, i.Attributes()&all&^clear|set)
			})
		},
	}
	a.conn.register(c)
	return c
}
