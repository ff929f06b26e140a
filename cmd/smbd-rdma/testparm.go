package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/internal/smbconf"
)

// defaultConfig is the configuration file of commands that are not told another.
const defaultConfig = "/etc/smbd-rdma/smb.conf"

// testparmFlags are the flags of testparm.
type testparmFlags struct {
	silent, verbose, strict bool
	section, parameter      string
}

func (a *app) testparmCommand() *cobra.Command {
	var f testparmFlags
	c := &cobra.Command{
		Use:   "testparm [FILE]",
		Short: "check a configuration file and show what is in force",
		Long: `Reads a configuration file (default ` + defaultConfig + `) as serve does,
says on standard error what of it has no effect, with the lines, and prints what
is in force in the layout of Samba's testparm: what differs from the defaults, or
with -v everything. Exit status 1 says that serve would refuse the file.`,
		Example: `  smbd-rdma testparm -s /etc/samba/smb.conf
  smbd-rdma testparm -s --section-name data --parameter-name path`,
		Args: checkArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			name := defaultConfig
			if len(args) > 0 {
				name = args[0]
			}
			return a.testparm(name, f)
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&f.silent, "suppress-prompt", "s", false, "do not say what is loaded (there is no prompt either way)")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "print all parameters, and notes of those that do not matter here")
	fs.BoolVar(&f.strict, "strict", false, "unknown and unsupported parameters are errors")
	fs.StringVar(&f.section, "section-name", "", "print this section only")
	fs.StringVar(&f.parameter, "parameter-name", "", "print the value of this parameter only, of --section-name or [global]")
	return c
}

func (a *app) testparm(name string, f testparmFlags) error {
	if !f.silent {
		fmt.Fprintf(a.stderr, "Load smb config files from %s\n", name)
	}
	say := func(p smbconf.Problem) {
		if p.Severity > smbconf.Note || f.verbose {
			fmt.Fprintln(a.stderr, printable(p.String()))
		}
	}
	c, err := a.loadConfig(name, f.strict, say)
	if err != nil {
		return err
	}
	s := &settings{users: &accountsConfig{users: &smbconf.UserMap{}}}
	problems := s.apply(c, f.strict)
	for _, sh := range s.shares {
		if sh.path == "" || isMemory(sh.path) || smbconf.Dynamic(sh.path) {
			continue
		}
		if fi, err := os.Stat(sh.staticPath()); err != nil || !fi.IsDir() {
			v, _ := c.Share(sh.Name).Lookup("path")
			sev := smbconf.Warning
			if f.strict {
				sev = smbconf.Error
			}
			problems = append(problems, smbconf.Problem{Severity: sev, Pos: v.Pos, Text: fmt.Sprintf("[%s]: path = %s is not a directory that is there", sh.Name, sh.path)})
		}
	}
	for _, p := range problems {
		say(p)
	}
	c.Problems = append(c.Problems, problems...)
	if c.Failed() {
		return fmt.Errorf("%s: %w", name, errConfig)
	}
	if !f.silent {
		fmt.Fprintf(a.stderr, "Loaded services file OK.\nServer role: ROLE_STANDALONE\n\n")
	}
	sec := c.Global
	if f.section != "" && f.section != "global" {
		if sec = c.Share(f.section); sec == nil && strings.EqualFold(f.section, "homes") {
			sec = c.Homes
		}
		if sec == nil {
			return fmt.Errorf("%s: no section %q", name, f.section)
		}
	}
	switch {
	case f.parameter != "":
		v, ok := sec.Show(f.parameter)
		if !ok {
			return fmt.Errorf("no parameter %q has an effect in [%s]", f.parameter, sec.Name)
		}
		_, err = fmt.Fprintln(a.stdout, v)
	case f.section != "":
		err = sec.Print(a.stdout, f.verbose)
	default:
		err = c.Print(a.stdout, f.verbose)
	}
	return err
}
