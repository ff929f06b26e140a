package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/internal/filecopy"
)

// usage is what a tree takes.
type usage struct {
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Bytes       int64 `json:"bytes"`     // the sizes together
	Allocated   int64 `json:"allocated"` // on disk
}

// openDirs is how many directories du has open at a time.
const openDirs = 32

// add counts what is in a directory.
func (u *usage) add(ctx context.Context, p filecopy.Place, rel string, depth int) error {
	return p.List(ctx, rel, depth >= openDirs, func(es []filecopy.Entry) error {
		for _, e := range es {
			switch {
			case e.Mode.IsDir():
				u.Directories++
				name := e.Name
				if rel != "" {
					name = rel + "/" + name
				}
				if err := u.add(ctx, p, name, depth+1); err != nil {
					return err
				}
			default:
				u.Files++
				u.Bytes += e.Size
				u.Allocated += e.Disk
			}
		}
		return nil
	})
}

func (a *app) duCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "du //HOST/SHARE[/PATH]",
		Short:   "say how much a file or directory takes, with all in it",
		Example: "  smbd-rdma du //server/data/photos -U alice%secret",
		Args:    checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onShare(cmd, args[0], func(sh *client.Share, t target) error {
				p := onShare(sh, t, t.path)
				e, err := p.Stat(cmd.Context(), "", true)
				if err != nil {
					return err
				}
				u := usage{Files: 1, Bytes: e.Size, Allocated: e.Disk}
				if e.Mode.IsDir() {
					u = usage{}
					if err := u.add(cmd.Context(), p, "", 0); err != nil {
						return err
					}
				}
				if asJSON {
					return a.printJSON(u)
				}
				w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintf(w, "files\t%d\ndirectories\t%d\nbytes\t%d\nallocated\t%d\n", u.Files, u.Directories, u.Bytes, u.Allocated)
				return w.Flush()
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	a.conn.register(c)
	return c
}

func (a *app) dfCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "df //HOST/SHARE",
		Aliases: []string{"volume"},
		Short:   "describe the file system below a share, and how much is free",
		Example: "  smbd-rdma df //server/data -U alice%secret",
		Args:    checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onShare(cmd, args[0], func(sh *client.Share, _ target) error {
				st, err := sh.StatFS(cmd.Context())
				if err != nil {
					return err
				}
				unit := uint64(st.BlockSize)
				r := struct {
					Size       uint64 `json:"size"`
					Used       uint64 `json:"used"`
					Free       uint64 `json:"free"`
					Available  uint64 `json:"available"`
					BlockSize  int64  `json:"block_size"`
					FileSystem string `json:"file_system"`
					Label      string `json:"label"`
					Serial     uint32 `json:"serial"`
				}{
					Size: times(st.TotalBlocks, unit), Used: times(st.TotalBlocks-min(st.FreeBlocks, st.TotalBlocks), unit),
					Free: times(st.FreeBlocks, unit), Available: times(st.AvailableBlocks, unit),
					BlockSize: st.BlockSize, FileSystem: st.FSType, Label: st.Label, Serial: st.VolumeSerial,
				}
				if asJSON {
					return a.printJSON(r)
				}
				w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintf(w, "size\t%d\nused\t%d\nfree\t%d\navailable\t%d\n", r.Size, r.Used, r.Free, r.Available)
				fmt.Fprintf(w, "block size\t%d\nfile system\t%s\nlabel\t%s\nserial\t%08x\n",
					r.BlockSize, a.shown(r.FileSystem), a.shown(r.Label), r.Serial)
				return w.Flush()
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	a.conn.register(c)
	return c
}

// times multiplies, and stays at the largest number: these are a server's claims.
func times(a, b uint64) uint64 {
	if b != 0 && a > ^uint64(0)/b {
		return ^uint64(0)
	}
	return a * b
}
