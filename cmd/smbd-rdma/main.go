// Command smbd-rdma is an SMB 3.1.1 file server and client whose file bytes move
// by RDMA: over iWARP in user space where there is no RDMA hardware.
//
//	smbd-rdma demo
//	smbd-rdma serve --share data=/srv/data --user alice%secret
//	smbd-rdma put -r ./photos //server/data/photos -U alice%secret
//
// It exits with 0 when the work is done, 1 when it failed and 2 when the command
// line makes no sense. Results go to standard output, everything else to
// standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"unicode"

	"github.com/pkg/profile"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup means it
		signals = append(signals, syscall.SIGHUP)
	}
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, hangups: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancelCause(context.Background())
	got := make(chan os.Signal, 1)
	signal.Notify(got, signals...)
	go func() { // lives as long as the process
		for s := range got {
			if s == syscall.SIGHUP && a.takesHangups.Load() {
				select {
				case a.hangups <- struct{}{}:
				default: // one is waiting
				}
				continue
			}
			cancel(fmt.Errorf("%v", s))
			signal.Stop(got) // the second signal ends the process at once
			return
		}
	}()
	os.Exit(a.run(ctx, helperArgs(os.Args[0], os.Args[1:])))
}

// app is what all commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	logLevel       string
	profile        string
	conn           connFlags
	level          slog.LevelVar
	levelChosen    bool // by --log-level
	log            *slog.Logger
	tap            *iwarp.Tap // of trace; nil without it

	// hangups has a value when SIGHUP has come to a command that has said by
	// takesHangups that it does not end by it. Nil in tests.
	hangups      chan struct{}
	takesHangups atomic.Bool
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	name := "smbd-rdma"
	if cmd != nil && cmd != root {
		name += " " + cmd.Name()
	}
	var code exitCode
	if errors.As(err, &code) { // it has said why
		return int(code)
	}
	var usage usageError
	if errors.As(err, &usage) || isCobraUsage(err) {
		fmt.Fprintf(a.stderr, "%s: %s; see %s --help\n", name, oneLine(err), name)
		return exitUsage
	}
	if ctx.Err() != nil { // what failed then failed because of it
		err = context.Cause(ctx)
	}
	fmt.Fprintf(a.stderr, "%s: %s\n", name, oneLine(err))
	return exitFailed
}

// oneLine keeps an error on one line, and names in it from doing things to a
// terminal.
func oneLine(err error) string {
	return printable(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}

// printable has ? for what is no visible character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// shown is how a name of the server's is printed: as it is, but on a terminal
// without what would do things to that.
func (a *app) shown(name string) string {
	if f, ok := a.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return printable(name)
	}
	return name
}

// isCobraUsage knows the one mistake that cobra reports without giving us a
// place to mark it.
func isCobraUsage(err error) bool { return strings.HasPrefix(err.Error(), "unknown command ") }

// checkArgs turns a complaint about the number of arguments into a usage error.
func checkArgs(f cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := f(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "smbd-rdma",
		Short: "SMB 3.1.1 file server and client whose file bytes move by RDMA",
		Example: `  smbd-rdma demo
  smbd-rdma serve --share data=/srv/data --user alice%secret
  smbd-rdma put -r ./photos //server/data/photos -U alice%secret`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return usagef("no command")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "help about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			c, _, err := root.Find(args)
			if err != nil || c == root && len(args) > 0 {
				return usagef("unknown command %q", strings.Join(args, " "))
			}
			return c.Help()
		},
	})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error: what is logged to standard error")
	f.StringVar(&a.profile, "profile", "", "write a profile to ./: cpu, mem, block, mutex, goroutine or trace")

	var prof interface{ Stop() }
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.level.UnmarshalText([]byte(a.logLevel)); err != nil {
			return usagef("--log-level %q is not debug, info, warn or error", a.logLevel)
		}
		a.levelChosen = cmd.Flags().Changed("log-level")
		a.log = newLogger(a.stderr, &a.level)
		p, err := startProfile(a.profile)
		prof = p
		return err
	}
	for _, c := range []*cobra.Command{
		a.serveCommand(), a.demoCommand(), a.lsCommand(), a.statCommand(), a.catCommand(),
		a.getCommand(), a.mgetCommand(), a.putCommand(), a.cpCommand(), a.syncCommand(), a.mountCommand(),
		a.rmCommand(), a.rmdirCommand(), a.mkdirCommand(), a.mvCommand(), a.touchCommand(), a.setmodeCommand(), a.duCommand(), a.dfCommand(),
		a.conformCommand(), a.devicesCommand(), a.doctorCommand(), a.statusCommand(), a.closeCommand(), a.reloadCommand(),
		a.benchCommand(), a.testparmCommand(), a.passwdCommand(), a.traceCommand(), a.versionCommand(),
	} {
		// The profile is written also when the command fails.
		if work := c.RunE; work != nil {
			c.RunE = func(cmd *cobra.Command, args []string) error {
				defer func() {
					if prof != nil {
						prof.Stop()
					}
				}()
				return work(cmd, args)
			}
		}
		root.AddCommand(c)
	}
	return root
}

// newLogger logs text to w.
func newLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// startProfile starts the profile that --profile names.
func startProfile(name string) (interface{ Stop() }, error) {
	modes := map[string]func(*profile.Profile){
		"cpu": profile.CPUProfile, "mem": profile.MemProfile, "block": profile.BlockProfile,
		"mutex": profile.MutexProfile, "goroutine": profile.GoroutineProfile, "trace": profile.TraceProfile,
	}
	if name == "" {
		return nil, nil
	}
	mode, ok := modes[name]
	if !ok {
		return nil, usagef("--profile %q is not cpu, mem, block, mutex, goroutine or trace", name)
	}
	return profile.Start(mode, profile.ProfilePath("."), profile.NoShutdownHook, profile.Quiet), nil
}
