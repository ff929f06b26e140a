package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/server"
)

// statusFlags are the flags of status.
type statusFlags struct {
	json   bool
	socket string
	flight uint64
	limit  int
	opens  bool
	locks  bool
}

func (a *app) statusCommand() *cobra.Command {
	var f statusFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "what a running server is doing: connections with their credits, sessions, open files",
		Long: `Asks a running server by its control socket (serve --control) for its listeners,
connections, sessions and totals. Of SMB Direct connections it shows the credits
to send and those that the peer has, messages, bytes moved by RDMA by us and by
the peer, registrations made and in use, tokens that the peer and we invalidated,
and how often and how long messages waited for the peer's credits.

--flight prints the flight recorder of one connection: its last events, each with
the seconds since the connection began and the credits behind it.`,
		Example: `  smbd-rdma status
  smbd-rdma status --json | jq '.connections[].stats.credit_stalls'
  smbd-rdma status --flight 17`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd, f) },
	}
	fs := c.Flags()
	fs.BoolVar(&f.json, "json", false, "print one JSON object")
	fs.StringVar(&f.socket, "socket", "", "control socket of the server (default: that of the only server of this user)")
	fs.Uint64Var(&f.flight, "flight", 0, "print the flight recorder of the connection with this ID")
	fs.IntVar(&f.limit, "limit", statusLimit, "how many connections, sessions, trees and open files are listed at most")
	fs.BoolVar(&f.opens, "files", false, "list open files too, with their oplocks, and those whose clients may come again")
	fs.BoolVar(&f.locks, "locks", false, "list byte-range locks and leases too")
	return c
}

func (a *app) status(cmd *cobra.Command, f statusFlags) error {
	if f.limit < 0 || f.limit > maxStatusLimit {
		return usagef("--limit %d is not 0 to %d", f.limit, maxStatusLimit)
	}
	c, err := dialControl(f.socket)
	if err != nil {
		return err
	}
	defer c.close()
	if cmd.Flags().Changed("flight") {
		r, err := c.do(cmd.Context(), "GET", fmt.Sprintf("/flight?conn=%d", f.flight))
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(a.stdout, r.Body)
		return err
	}
	r, err := c.do(cmd.Context(), "GET", fmt.Sprintf("/status?limit=%d", f.limit))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	var rep statusReport
	if err := json.NewDecoder(r.Body).Decode(&rep); err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	if f.json {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(&rep)
	}
	return a.printStatus(&rep, f)
}

// table writes rows of cells under a title; nothing without rows.
func table(w io.Writer, title, header string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintf(w, "\n%s\n", title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, " ", "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

func (a *app) printStatus(rep *statusReport, f statusFlags) error {
	w := a.stdout
	t := &rep.Totals
	fmt.Fprintf(w, "server %d, up %v: %d connections, %d sessions, %d trees, %d open files, %d waiting for their clients\n",
		rep.PID, rep.Now.Sub(rep.Started).Round(time.Second), t.Connections, t.Sessions, t.Trees, t.Opens, t.DetachedOpens)
	fmt.Fprintf(w, "since then: %d connections (%d refused, %d ended for a mistake in SMB2), %d refused logons\n",
		t.ConnectionsAccepted, t.ConnectionsRefused, t.ConnectionsFailed, t.LogonFailures)
	d := &rep.SMBDirectDeaths
	fmt.Fprintf(w, "SMB Direct connections that died: %d of a mistake of the peer, %d of its silence, %d lost, %d of something else\n",
		d.Mistake, d.Timeout, d.Lost, d.Other)
	fmt.Fprintf(w, "file bytes: read %s by RDMA and %s inline, written %s and %s; %s copied\n",
		size(t.ReadRDMA), size(t.ReadInline), size(t.WriteRDMA), size(t.WriteInline), size(t.BytesCopied))
	var listeners, conns, direct, sessions, files, detached, locks, leases [][]string
	for _, l := range rep.Listeners {
		listeners = append(listeners, []string{l.Scheme, l.Address})
	}
	for i := range rep.Connections {
		c := &rep.Connections[i]
		conns = append(conns, []string{
			fmt.Sprint(c.ID), c.Transport, c.Remote, ago(rep.Now, c.Since), ago(rep.Now, c.LastMessage),
			or(c.Dialect), or(c.Signing), or(c.Encryption), or(a.shown(strings.Join(c.Users, ","))),
			fmt.Sprint(c.Stats.MessagesReceived), fmt.Sprint(c.Requests), fmt.Sprintf("%d/%d", c.Credits, c.CreditsMax),
		})
		if c.Parameters != nil {
			direct = append(direct, directRow(c))
		}
	}
	for i := range rep.Sessions {
		s := &rep.Sessions[i]
		var shares []string
		for _, t := range s.Trees {
			shares = append(shares, t.Share)
		}
		protection := "-"
		switch {
		case s.Encrypted:
			protection = "encrypted"
		case s.SigningRequired:
			protection = "signed"
		}
		sessions = append(sessions, []string{
			fmt.Sprint(s.ID), a.shown(s.User), strings.Trim(strings.ReplaceAll(fmt.Sprint(s.Connections), " ", ","), "[]"),
			ago(rep.Now, s.Since), s.Dialect, protection, or(a.shown(strings.Join(shares, ","))), fmt.Sprint(s.OpenCount),
		})
		for _, o := range s.Opens {
			files = append(files, append([]string{fmt.Sprint(s.ID)}, a.openRow(&o)...))
		}
	}
	for i := range rep.Detached {
		d := &rep.Detached[i]
		detached = append(detached, append([]string{a.shown(or(d.User)), d.Until.Sub(rep.Now).Round(time.Second).String()}, a.openRow(&d.OpenStatus)...))
	}
	for _, l := range rep.Locks {
		kind, state := "shared", "held"
		if l.Exclusive {
			kind = "exclusive"
		}
		if l.Waiting {
			state = "waiting"
		}
		locks = append(locks, []string{fmt.Sprint(l.Open), l.Share, kind, state, fmt.Sprint(l.Offset), fmt.Sprint(l.Length), a.shown(l.Name)})
	}
	for _, l := range rep.Leases {
		state := or(l.State)
		if l.Breaking {
			state += ",breaking"
		}
		leases = append(leases, []string{l.Key, l.Share, state, fmt.Sprint(l.Epoch), strings.Trim(strings.ReplaceAll(fmt.Sprint(l.Opens), " ", ","), "[]"), a.shown(l.Name)})
	}
	for _, x := range []struct {
		title, header string
		rows          [][]string
	}{
		{"listeners", "TRANSPORT ADDRESS", listeners},
		{"connections", "ID TRANSPORT PEER AGE SILENT DIALECT SIGNING CIPHER USERS MESSAGES SERVING CREDITS", conns},
		{"SMB Direct (credits: ours/the peer's; RDMA: written/read)", "ID PROVIDER PEER SIZES CREDITS SENDS RECEIVES RDMA-BY-US BY-PEER UNDER-WAY REGISTERED INVALIDATED STALLS STALLED LONGEST KEEPALIVES", direct},
		{"sessions", "ID USER CONNECTIONS AGE DIALECT PROTECTION SHARES FILES", sessions},
	} {
		if err := table(w, x.title, x.header, x.rows); err != nil {
			return err
		}
	}
	if f.opens {
		const columns = "ID SHARE KIND ACCESS SHARING CACHING DURABLE LOCKS NAME"
		if err := table(w, "open files", "SESSION "+columns, files); err != nil {
			return err
		}
		if err := table(w, "open files whose clients may come again", "USER UNTIL "+columns, detached); err != nil {
			return err
		}
	}
	if f.locks {
		if err := table(w, "byte-range locks", "OPEN SHARE KIND STATE OFFSET LENGTH NAME", locks); err != nil {
			return err
		}
		if err := table(w, "leases", "KEY SHARE STATE EPOCH OPENS NAME", leases); err != nil {
			return err
		}
	}
	if n := t.Connections - len(rep.Connections); n > 0 {
		fmt.Fprintf(w, "\n%d more connections: --limit\n", n)
	}
	return nil
}

// openRow is an open file.
func (a *app) openRow(o *server.OpenStatus) []string {
	kind, name := "file", o.Name
	if o.Directory {
		kind = "dir"
	}
	if o.Stream != "" {
		kind, name = "stream", name+":"+o.Stream
	}
	if o.DeletePending {
		kind += ",deleted"
	}
	sharing := ""
	for i, letter := range "RWD" { // [MS-SMB2] 2.2.13
		if o.Sharing&(1<<i) != 0 {
			sharing += string(letter)
		}
	}
	under := func(s string) string { return or(strings.ReplaceAll(s, " ", "-")) }
	return []string{
		fmt.Sprint(o.ID), o.Share, kind, fmt.Sprintf("%#08x", o.Access), or(sharing), under(o.Caching), under(o.Durable),
		fmt.Sprint(o.Locks), a.shown(name),
	}
}

// directRow is what SMB Direct adds to a connection.
func directRow(c *server.ConnectionStatus) []string {
	s, p := &c.Stats, c.Parameters
	byPeer := "?"
	if s.PeerBytesKnown {
		byPeer = size(s.PeerBytesWritten) + "/" + size(s.PeerBytesRead)
	}
	return []string{
		fmt.Sprint(c.ID), c.Provider, p.Peer, fmt.Sprintf("%d/%d/%s", p.MaxSendSize, p.MaxReceiveSize, size(uint64(p.MaxReadWriteSize))),
		fmt.Sprintf("%d/%d", s.SendCredits, s.ReceiveCredits), fmt.Sprint(s.Sends), fmt.Sprint(s.Receives),
		size(s.RDMABytesWritten) + "/" + size(s.RDMABytesRead), byPeer, fmt.Sprint(s.RDMAOutstanding),
		fmt.Sprintf("%d/%d", s.Registrations, s.RegistrationsMade), fmt.Sprintf("%d/%d", s.InvalidatedLocally, s.InvalidatedByPeer),
		fmt.Sprint(s.CreditStalls), short(s.CreditStallTime), short(s.LongestCreditStall),
		fmt.Sprintf("%d/%d", s.KeepalivesSent, s.KeepalivesReceived),
	}
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ago is the time since then, in what a person reads at a glance.
func ago(now, then time.Time) string { return now.Sub(then).Round(time.Second).String() }

func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// size is a number of bytes with one decimal and a binary unit.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprint(n)
	}
	v, unit := float64(n), ""
	for _, unit = range []string{"K", "M", "G", "T", "P", "E"} {
		if v /= 1024; v < 1024 {
			break
		}
	}
	return fmt.Sprintf("%.1f%s", v, unit)
}
