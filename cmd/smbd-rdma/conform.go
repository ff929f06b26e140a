package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/smbdirect"
	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/iwarp"
	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
	"github.com/smbd-rdma/smbd-rdma/transport/tcp"
)

// conformFlags are the flags of conform.
type conformFlags struct {
	run      string
	list     bool
	slow     bool
	verbose  bool
	json     bool
	markdown string
	name     string
	tcpPort  int
	// transport is not that of connFlags: making a flag writes its default.
	transport string
}

func (a *app) conformCommand() *cobra.Command {
	var f conformFlags
	c := &cobra.Command{
		Use:   "conform //HOST/SHARE",
		Short: "play the conformance cases of SMB Direct against a server",
		Long: `Plays every case that this project has for an acceptor of SMB Direct against any
server: those of Microsoft's MS-SMBD server test suite, by their names, and one for
each rule of the specification besides. A case is an initiator that does one thing,
often a wrong one; what the server does then is compared with the specification, and
whether it serves the next connection.

The cases write files named smbd-conform-*.tmp, which the server removes when they are
closed. One that would wait longer than 30 s for a timer of the server is skipped
without --slow (a quarter of an hour). One before which the server does not answer, as
an earlier one has wedged it, is shown as "gone", and does not count as failed.
Exit status: 0 if no case failed, 1 if one did or the server was not reached or did
not stay.`,
		Example: `  smbd-rdma conform //server/data -U alice%secret
  smbd-rdma conform //server/data -U alice%secret --run 'SD-6|Credit' -v
  smbd-rdma conform --list`,
		Args: checkArgs(func(cmd *cobra.Command, args []string) error {
			if f.list {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := regexp.Compile(f.run)
			if err != nil {
				return usagef("--run: %v", err)
			}
			if f.list {
				return a.listCases(filter, f.json)
			}
			return a.conform(cmd.Context(), args[0], filter, f)
		},
	}
	fs := c.Flags()
	fs.StringVarP(&a.conn.user, "user", "U", "", "[DOMAIN/]NAME[%PASSWORD]; the password is asked for if it is not given")
	fs.StringVarP(&a.conn.credentials, "authentication-file", "A", "", "file with lines username=, password= and domain=")
	fs.BoolVarP(&a.conn.noPass, "no-pass", "N", false, "do not ask for a password")
	fs.IntVarP(&a.conn.port, "port", "p", 0, "port of SMB Direct (default 5445 on iWARP, 445 on RoCE and InfiniBand)")
	fs.StringVar(&f.transport, "transport", "iwarp", "iwarp or verbs")
	fs.IntVar(&f.tcpPort, "tcp-port", tcp.DefaultPort, "port of SMB2 over TCP on the same server, for the cases that use both; 0 for none")
	fs.StringVar(&f.run, "run", "", "only cases whose name, or one of whose rows, matches this regular expression")
	fs.BoolVar(&f.list, "list", false, "list the cases, with what each does, and play none")
	fs.BoolVar(&f.slow, "slow", false, "also cases that wait for timers of minutes")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "print every step")
	fs.BoolVar(&f.json, "json", false, "print JSON")
	fs.StringVar(&f.markdown, "markdown", "", "also write the table to this file, as Markdown")
	fs.StringVar(&f.name, "name", "", "what the server is called in the table (default the share's name)")
	return c
}

// conformResult is one case of --json.
type conformResult struct {
	Case      string   `json:"case"`
	Microsoft []string `json:"microsoft,omitempty"`
	Rows      []string `json:"rows"`
	Spec      string   `json:"spec"`
	Doc       string   `json:"doc"`
	Outcome   string   `json:"outcome,omitempty"`
	Why       string   `json:"why,omitempty"`
	Seconds   float64  `json:"seconds,omitempty"`
	Steps     []string `json:"steps,omitempty"`
}

func newConformResult(c smbdtest.Case) conformResult {
	return conformResult{Case: c.Name, Microsoft: c.Microsoft, Rows: c.Rows, Spec: c.Spec, Doc: c.Doc}
}

// listCases prints the cases that filter matches.
func (a *app) listCases(filter *regexp.Regexp, asJSON bool) error {
	var rows []conformResult
	for _, c := range smbdtest.Cases(smbdtest.Acceptor) {
		if c.Match(filter) {
			rows = append(rows, newConformResult(c))
		}
	}
	if len(rows) == 0 {
		return usagef("--run %q matches no case", filter)
	}
	if asJSON {
		return a.printJSON(rows)
	}
	for _, r := range rows {
		fmt.Fprintf(a.stdout, "%s\n  %s: %s\n  %s\n", r.Case, r.Spec, strings.Join(r.Rows, " "), r.Doc)
	}
	return nil
}

// conform plays the cases against a server.
func (a *app) conform(ctx context.Context, where string, filter *regexp.Regexp, f conformFlags) error {
	t, err := parseShareTarget(where)
	if err != nil {
		return err
	}
	if t.path != "" {
		return usagef("%q names more than a share", where)
	}
	n := 0
	for _, c := range smbdtest.Cases(smbdtest.Acceptor) {
		if c.Match(filter) {
			n++
		}
	}
	if n == 0 {
		return usagef("--run %q matches no case", f.run)
	}
	if f.tcpPort < 0 || f.tcpPort > 65535 {
		return usagef("--tcp-port %d is not a port", f.tcpPort)
	}
	a.conn.threshold, a.conn.sign = client.DefaultRDMAThreshold, "if-required"
	cfg, err := a.clientConfig()
	if err != nil {
		return err
	}
	tg, done, err := a.conformTarget(ctx, t.host, f.transport)
	if err != nil {
		return err
	}
	defer done()
	if f.tcpPort > 0 {
		tg.TCP = netip.AddrPortFrom(tg.Address.Addr(), uint16(f.tcpPort))
	}
	tg.Upper = smbdtest.SMB2{}
	tg.Server, tg.Share, tg.User, tg.Password, tg.Domain = t.host, t.share, cfg.User, cfg.Password, cfg.Domain
	tg.Slow = f.slow
	if err := reach(ctx, tg); err != nil {
		return err
	}
	if err := enter(ctx, tg); err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	out := &conformOutput{app: a, f: f}
	if !f.json {
		fmt.Fprintf(a.stderr, "%d cases against %v at %v by %s\n", n, t, tg.Address, tg.Provider)
		if f.verbose {
			tg.Log = func(format string, args ...any) { fmt.Fprintf(a.stdout, format+"\n", args...) }
		}
	}
	begin := time.Now()
	smbdtest.Run(ctx, tg, smbdtest.Acceptor, filter, out.result)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	name := f.name
	if name == "" {
		name = t.String()
	}
	return out.finish(name, tg.Provider, time.Since(begin))
}

// reach fails if there is no SMB Direct at all, rather than every case.
func reach(ctx context.Context, tg smbdtest.Target) error {
	p, err := smbdtest.NewPeer(ctx, tg.Adapter, smbdtest.PeerConfig{})
	if err != nil {
		return err
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*tryTime)
	defer cancel()
	s := smbdtest.NewStream(p)
	if err := p.Connect(ctx, tg.Address); err != nil {
		return fmt.Errorf("no SMB Direct at %v by %s: %w", tg.Address, tg.Provider, err)
	}
	if _, _, err := s.Negotiate(smbdtest.Request(), 2*tryTime); err != nil {
		return fmt.Errorf("%v by %s takes connections but does not negotiate SMB Direct: %w", tg.Address, tg.Provider, err)
	}
	return nil
}

// enter fails if the server does not let the user into the share, or is no SMB2
// server, rather than every case: wrong passwords by the hundred lock accounts.
func enter(ctx context.Context, tg smbdtest.Target) error {
	upper := tg.Upper
	tg.Upper = nil // no second connection behind the first
	r := smbdtest.RunCase(ctx, tg, smbdtest.Case{Role: smbdtest.Acceptor, Run: func(_ context.Context, t *smbdtest.T) {
		upper.Open(t, t.Establish(smbdtest.PeerConfig{}, smbdtest.Request()))
	}})
	if r.Outcome == smbdtest.Pass {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.New(printable(strings.ReplaceAll(r.Why, "\n", "; ")))
}

// conformTarget is where the server is, with an adapter on the way to it that done
// closes.
func (a *app) conformTarget(ctx context.Context, host, by string) (tg smbdtest.Target, done func(), err error) {
	host = strings.Trim(host, "[]")
	if a.conn.port < 0 || a.conn.port > 65535 {
		return tg, nil, usagef("--port %d is not a port", a.conn.port)
	}
	var p ndk.Provider
	switch by {
	case "iwarp":
		p, err = iwarp.New(iwarp.Config{Logger: a.log})
	case "verbs":
		p, err = verbs.New(verbs.Config{Logger: a.log})
	default:
		return tg, nil, usagef("--transport %q is not iwarp or verbs", by)
	}
	if err != nil {
		return tg, nil, fmt.Errorf("--transport %s: %w", by, err)
	}
	ips, err := lookup(ctx, host)
	if err != nil {
		return tg, nil, err
	}
	local, err := sourceFor(ips[0])
	if err != nil {
		return tg, nil, err
	}
	ad, err := p.Open(ctx, local, ndk.Version12)
	if err != nil {
		return tg, nil, fmt.Errorf("%s adapter of %v: %w", by, local, err)
	}
	port := uint16(a.conn.port)
	if port == 0 {
		info, err := ad.Info(ctx)
		if err != nil {
			ad.Close()
			return tg, nil, err
		}
		if port = smbdirect.DefaultPort; info.Technology == ndk.TechnologyIWARP {
			port = smbdirect.DefaultIWARPPort
		}
	}
	return smbdtest.Target{Provider: by, Adapter: ad, Address: netip.AddrPortFrom(ips[0], port)}, ad.Close, nil
}

// conformOutput prints results as they come, and keeps them.
type conformOutput struct {
	app     *app
	f       conformFlags
	results []conformResult
	count   map[smbdtest.Outcome]int
}

var outcomeWords = map[smbdtest.Outcome]string{smbdtest.Pass: "pass", smbdtest.Fail: "FAIL", smbdtest.Skipped: "skip", smbdtest.NotRun: "gone"}

func (o *conformOutput) result(r smbdtest.Result) {
	if o.count == nil {
		o.count = make(map[smbdtest.Outcome]int)
	}
	o.count[r.Outcome]++
	row := newConformResult(r.Case)
	row.Outcome, row.Why, row.Seconds = outcomeWords[r.Outcome], printable(strings.ReplaceAll(r.Why, "\n", "; ")), r.Elapsed.Seconds()
	if o.f.verbose {
		row.Steps = r.Steps
	}
	o.results = append(o.results, row)
	if o.f.json {
		return
	}
	fmt.Fprintf(o.app.stdout, "%s  %7.3f s  %s (%s)\n", row.Outcome, row.Seconds, row.Case, strings.Join(row.Rows, " "))
	if row.Why != "" {
		fmt.Fprintf(o.app.stdout, "                   %s\n", row.Why)
	}
}

func (o *conformOutput) finish(name, provider string, d time.Duration) error {
	gone := o.count[smbdtest.NotRun]
	summary := fmt.Sprintf("%d passed, %d failed, %d skipped", o.count[smbdtest.Pass], o.count[smbdtest.Fail], o.count[smbdtest.Skipped])
	if gone > 0 {
		summary += fmt.Sprintf(", %d not run", gone)
	}
	if o.f.json {
		if err := o.app.printJSON(o.results); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(o.app.stdout, "%s: %s in %v\n", name, summary, d.Round(time.Millisecond))
	}
	if o.f.markdown != "" {
		if err := os.WriteFile(o.f.markdown, []byte(o.table(name, provider, summary)), 0o666); err != nil {
			return err
		}
	}
	switch failed := o.count[smbdtest.Fail]; {
	case gone > 0:
		return fmt.Errorf("%d of %d cases failed; not run, as the server did not answer: %d", failed, len(o.results), gone)
	case failed > 0:
		return fmt.Errorf("%d of %d cases failed", failed, len(o.results))
	}
	return nil
}

// table is the result as Markdown: the failures first, each with what was done and seen.
func (o *conformOutput) table(name, provider, summary string) string {
	esc := strings.NewReplacer("|", "\\|", "<", "&lt;", "*", "\\*", "_", "\\_").Replace
	var b strings.Builder
	fmt.Fprintf(&b, "# SMB Direct conformance: %s\n\nBy %s: %s. Written by `smbd-rdma conform --markdown`; the cases are those of\nsmbdirect/smbdtest (`smbd-rdma conform --list` says what each does).\n", esc(name), provider, summary)
	if o.count[smbdtest.Fail] > 0 {
		b.WriteString("\n## Failed\n\n")
		for _, r := range o.results {
			if r.Outcome == outcomeWords[smbdtest.Fail] {
				fmt.Fprintf(&b, "* `%s` (%s; %s). Case: %s Seen: %s\n", r.Case, r.Spec, strings.Join(r.Rows, ", "), esc(r.Doc), esc(r.Why))
			}
		}
	}
	b.WriteString("\n## All cases\n\n| case | section | rows | result | reason |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range o.results {
		why := ""
		if r.Outcome != outcomeWords[smbdtest.Fail] {
			why = esc(r.Why)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.Case, r.Spec, strings.Join(r.Rows, ", "), r.Outcome, why)
	}
	return b.String()
}
