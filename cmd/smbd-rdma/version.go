package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version, the revision it was built from and the providers in it",
		Example: "  smbd-rdma version",
		Args:    checkArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, versionLine())
			return err
		},
	}
}

func versionLine() string {
	version, revision := "(devel)", "unknown revision"
	if bi, ok := debug.ReadBuildInfo(); ok {
		if bi.Main.Version != "" {
			version = bi.Main.Version
		}
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	providers := "iwarp"
	if verbs.Available {
		providers += " verbs"
	}
	return fmt.Sprintf("smbd-rdma %s (%s) %s %s/%s providers: %s", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH, providers)
}

// version is that of the module that the program was built from.
func version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}
