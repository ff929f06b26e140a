package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/server"
)

// closeFlags are the flags of close.
type closeFlags struct {
	socket                     string
	conn, session, open, share string
}

func (a *app) closeCommand() *cobra.Command {
	var f closeFlags
	c := &cobra.Command{
		Use:   "close --connection ID | --session ID | --open ID | --share NAME",
		Short: "close a connection, a session, an open file or a share's users of a running server",
		Long: `Closes something of a running server, by the IDs that status shows: a connection
(the session lives on if it has another), a session with what it has open, one open
file, or all tree connects to a share, which stays. What a client has written before
is kept; it may come again.`,
		Example: `  smbd-rdma close --session 1311768467463790320
  smbd-rdma close --share data`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for _, x := range [][2]string{{"connection", f.conn}, {"session", f.session}, {"open", f.open}, {"share", f.share}} {
				if x[1] != "" {
					q.Set(x[0], x[1])
				}
			}
			if len(q) != 1 {
				return usagef("give one of --connection, --session, --open and --share")
			}
			return a.post(cmd, f.socket, "/close?"+q.Encode())
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.socket, "socket", "", "control socket of the server (default: that of the only server of this user)")
	fs.StringVar(&f.conn, "connection", "", "ID of a connection")
	fs.StringVar(&f.session, "session", "", "ID of a session")
	fs.StringVar(&f.open, "open", "", "ID of an open file, of status --files")
	fs.StringVar(&f.share, "share", "", "name of a share")
	return c
}

func (a *app) reloadCommand() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reload",
		Short: "make a running server read its configuration again",
		Long: `Makes a running server read its configuration file again, as SIGHUP does, and
waits until it is in force. Nothing changes if the file has errors, which the
server's log has with their lines, and testparm shows.`,
		Example: `  smbd-rdma testparm -s && smbd-rdma reload`,
		Args:    checkArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.post(cmd, socket, "/reload") },
	}
	c.Flags().StringVar(&socket, "socket", "", "control socket of the server (default: that of the only server of this user)")
	return c
}

// post asks a server to do something and prints what it answers.
func (a *app) post(cmd *cobra.Command, socket, what string) error {
	c, err := dialControl(socket)
	if err != nil {
		return err
	}
	defer c.close()
	r, err := c.do(cmd.Context(), "POST", what)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, printable(strings.TrimSpace(string(b))))
	return nil
}

// closeSomething serves POST /close.
func (c *control) closeSomething(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for _, x := range []struct {
		kind string
		what server.Closable
	}{{"connection", server.CloseConnection}, {"session", server.CloseSession}, {"open", server.CloseOpen}} {
		if !q.Has(x.kind) {
			continue
		}
		id, ok := number(w, r, x.kind, 0, 1<<64-1)
		if !ok {
			return
		}
		if !c.srv.CloseByID(x.what, id) {
			http.Error(w, fmt.Sprintf("no %s %d; status lists those there are", x.kind, id), http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "closed %s %d\n", x.kind, id)
		return
	}
	if !q.Has("share") {
		http.Error(w, "want connection, session, open or share", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), reloadTime)
	defer cancel()
	n, err := c.srv.CloseShare(ctx, q.Get("share"))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintf(w, "closed %d tree connects; their storage has not closed all files yet\n", n)
	case err != nil:
		http.Error(w, oneLine(err), http.StatusConflict)
	default:
		fmt.Fprintf(w, "closed %d tree connects\n", n)
	}
}

// reloadNow serves POST /reload.
func (c *control) reloadNow(w http.ResponseWriter, r *http.Request) {
	// It is not left half done, with users connected who may not be, because who asked
	// has gone.
	if err := c.reload(context.WithoutCancel(r.Context())); err != nil {
		http.Error(w, "the configuration stays as it was: "+oneLine(err), http.StatusConflict)
		return
	}
	fmt.Fprintln(w, "reloaded")
}
