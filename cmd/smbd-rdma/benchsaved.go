package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/bench/compare"
	"github.com/smbd-rdma/smbd-rdma/bench/page"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

func (a *app) benchCompareCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "compare A.json[,A2.json...] B.json[,B2.json...]",
		Short: "say which of two benches was faster, and whether that is more than the noise",
		Long: `Compares answers that were saved with --output-format=json or json+, also of fio
itself, job by job. Several files of a side are repetitions: a difference is one if the
Mann-Whitney test says so (p below 0.05), as with benchstat.`,
		Example: "  smbd-rdma bench compare before.json after.json",
		Args:    checkArgs(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, args []string) error {
			var sides [2][]*saved.Document
			for i, list := range args {
				docs, err := openDocuments(strings.Split(list, ","))
				if err != nil {
					return err
				}
				sides[i] = docs
			}
			t, err := compare.Documents(sides[0], sides[1])
			if err != nil {
				return usageError{err}
			}
			return t.Write(a.stdout)
		},
	}
}

func (a *app) benchReportCommand() *cobra.Command {
	var html, plot string
	c := &cobra.Command{
		Use:     "report {--html=FILE | --plot=FILE} RUN.json...",
		Short:   "make a page or a picture of benches that were saved",
		Example: "  smbd-rdma bench report --html=report.html tcp.json rdma.json",
		Args:    checkArgs(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if html == "" && plot == "" {
				return usagef("neither --html=FILE nor --plot=FILE")
			}
			docs, err := openDocuments(args)
			if err != nil {
				return err
			}
			return drawDocuments(docs, html, plot)
		},
	}
	c.Flags().StringVar(&html, "html", "", "file for a page that needs nothing else")
	c.Flags().StringVar(&plot, "plot", "", "file for a picture (SVG)")
	return c
}

func openDocuments(names []string) ([]*saved.Document, error) {
	var docs []*saved.Document
	for _, name := range names {
		d, err := saved.Open(name)
		if err != nil {
			return nil, usageError{err}
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// drawDocuments writes a page and a picture, where there is a name for them.
func drawDocuments(docs []*saved.Document, html, plot string) error {
	for _, f := range []struct {
		flag, name string
		write      func(io.Writer) error
	}{
		{"html", html, func(w io.Writer) error { return page.Write(w, docs, page.Options{}) }},
		{"plot", plot, func(w io.Writer) error { return page.Plot(w, docs) }},
	} {
		if f.name == "" {
			continue
		}
		out, err := os.Create(f.name)
		if err != nil {
			return usagef("--%s: %w", f.flag, err)
		}
		if err := errors.Join(f.write(out), out.Close()); err != nil {
			return fmt.Errorf("--%s: %w", f.flag, err)
		}
	}
	return nil
}
