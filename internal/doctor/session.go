package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/smbd-rdma/smbd-rdma/client"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/transport"
)

// open makes a session by a dialer.
func open(ctx context.Context, dial transport.Dialer, addr netip.AddrPort, cfg client.Config) (*client.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	c, err := dial.Dial(ctx, addr.String())
	if err != nil {
		return nil, err
	}
	return client.New(ctx, c, cfg)
}

// openDirect makes a session by SMB Direct, openPlain one by TCP.
func (d *doctor) openDirect(ctx context.Context, cfg client.Config) (*client.Session, error) {
	return open(ctx, d.best.fabric.Dialer, d.best.dst, cfg)
}

func (d *doctor) openPlain(ctx context.Context, cfg client.Config) (*client.Session, error) {
	return open(ctx, d.cfg.TCP, d.tcpAddr, cfg)
}

// session is the one to ask by, nil if there is none.
func (d *doctor) session() *client.Session {
	if d.direct != nil {
		return d.direct
	}
	return d.plain
}

// logon makes a session by SMB Direct, and one by TCP if the first was not refused.
func (d *doctor) logon(ctx context.Context) {
	s := d.begin(StepLogon, "logon")
	s.quiet("user", d.cfg.Client.User)
	var err error
	switch {
	case d.spoke:
		if d.direct, err = d.openDirect(ctx, d.cfg.Client); err == nil && d.tcpAddr.IsValid() {
			// It is for comparison, and what it is refused for shows in its own step.
			d.plain, _ = d.openPlain(ctx, d.cfg.Client)
		}
	case d.tcpAddr.IsValid():
		d.plain, err = d.openPlain(ctx, d.cfg.Client)
	default:
		s.end(NotPossible, "there is no connection to log on by")
		return
	}
	if err != nil {
		s.fail(logonChange(err), "the server does not let %s in: %v", or(d.cfg.Client.User, "nobody (no user was given)"), err)
		return
	}
	i := d.session().Info()
	who := "logged on as " + d.cfg.Client.User
	switch {
	case i.Anonymous:
		who = "logged on as nobody (anonymous)"
	case i.Guest:
		who = fmt.Sprintf("the server does not know %q and took it for a guest", d.cfg.Client.User)
	}
	s.quiet("guest", i.Guest)
	s.quiet("anonymous", i.Anonymous)
	s.quiet("signed", i.Signed)
	s.quiet("encrypted", i.Encrypted)
	s.quiet("by_smbdirect", d.direct != nil)
	s.quiet("by_tcp", d.plain != nil)
	s.end(OK, "%s", who)
}

// logonChange says what to do about a refusal.
func logonChange(err error) string {
	switch {
	case errors.Is(err, ntstatus.LogonFailure):
		return "give the user and the password that the server knows: -U NAME%PASSWORD or -A FILE"
	case errors.Is(err, ntstatus.AccountDisabled), errors.Is(err, ntstatus.AccountRestriction), errors.Is(err, ntstatus.PasswordExpired):
		return "see to the account on the server: it is disabled, restricted, or its password has expired"
	case errors.Is(err, fs.ErrPermission):
		return "give a user that the server admits (-U NAME%PASSWORD); guests can neither sign nor encrypt, so leave out --signing required and --encrypt with them"
	}
	return "see what the server's log says of it; signing and encryption have to suit both ends (--signing, --encrypt)"
}

// interfaces asks as a client does that looks for RDMA.
func (d *doctor) interfaces(ctx context.Context) {
	s := d.begin(StepInterfaces, "interfaces that the server lists")
	sess := d.plain
	if sess == nil {
		sess = d.direct
	}
	if sess == nil {
		s.end(NotPossible, "there is no session to ask by")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	const turnOn = "have the server list its RDMA interfaces: serve does so where SMB Direct listens on an address that the client can reach; for ksmbd \"server multi channel support = yes\" and an RDMA device on the interface"
	const who = "clients that begin on TCP, as Windows does, do not find RDMA"
	s.add("multichannel", sess.Info().MultiChannel)
	list, err := sess.NetworkInterfaces(ctx)
	if err != nil {
		s.fail(turnOn, "the server lists none (%v): %s", err, who)
		return
	}
	var told []string
	var rdma []netip.Addr
	for _, i := range list {
		kind := ""
		if i.RDMA {
			kind = " RDMA"
			if a := i.Addr.Unmap(); !slices.Contains(rdma, a) && len(rdma) < maxAddrs {
				rdma = append(rdma, a)
			}
		}
		if i.RSS {
			kind += " RSS"
		}
		told = append(told, fmt.Sprintf("%v %.1f Gbit/s%s", i.Addr, float64(i.LinkSpeed)/1e9, kind))
	}
	s.quiet("count", len(list))
	s.add("interfaces", told)
	switch {
	case len(list) == 0:
		s.fail(turnOn, "the server lists none: %s", who)
		return
	case len(rdma) == 0:
		s.fail(turnOn, "the server lists %d and none with RDMA: %s", len(list), who)
		return
	}
	reached := make([]bool, len(rdma))
	each(len(rdma), func(i int) { reached[i] = d.reaches(ctx, rdma[i]) })
	var good, bad []string
	for i, a := range rdma {
		if reached[i] {
			good = append(good, a.String())
		} else {
			bad = append(bad, a.String())
		}
	}
	s.quiet("rdma_reached", good)
	s.quiet("rdma_not_reached", bad)
	switch {
	case len(good) == 0:
		s.fail("have the server listen for SMB Direct on an address that can be reached from here and is listed, or open the way to "+strings.Join(bad, " and ")+" (--rdma-port, if SMB Direct has another port there)",
			"SMB Direct can't be reached at %s, where the server says that there is RDMA: %s", strings.Join(bad, " and "), who)
	case len(bad) > 0:
		s.end(OK, "RDMA at %s; not reached at %s", strings.Join(good, " and "), strings.Join(bad, " and "))
	default:
		s.end(OK, "RDMA at %s, as clients that begin on TCP need it", strings.Join(good, " and "))
	}
}

// reaches reports whether SMB Direct is at an address, on the ports that a client
// tries that was told of the interface.
func (d *doctor) reaches(ctx context.Context, ip netip.Addr) bool {
	for _, a := range d.tried {
		if a.stage == stageNegotiated && a.dst.Addr() == ip {
			return true
		}
	}
	for i := range d.cfg.Fabrics {
		f := &d.cfg.Fabrics[i]
		if f.Missing != nil {
			continue
		}
		list, err := d.targets(ctx, f, ip)
		if err != nil {
			continue
		}
		ok := make([]bool, len(list))
		each(len(list), func(k int) {
			if f.OverTCP && tryPort(ctx, list[k]).state != portOpen {
				return
			}
			ok[k] = d.try(ctx, f, list[k]).stage == stageNegotiated
		})
		if slices.Contains(ok, true) {
			return true
		}
	}
	return false
}

// mount connects to the share.
func (d *doctor) mount(ctx context.Context) {
	s := d.begin(StepShare, "share")
	sess := d.session()
	if sess == nil {
		s.end(NotPossible, "there is no session")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var err error
	if d.share, err = sess.Mount(ctx, d.cfg.Share); err == nil {
		s.quiet("encrypted", d.share.Encrypted())
		s.end(OK, "%s is there", d.cfg.Share)
		return
	}
	names, listed := d.shares(ctx)
	if listed {
		s.add("shares", names)
	}
	lists := strings.Join(names[:min(len(names), 10)], ", ")
	isThere := slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, d.cfg.Share) })
	switch {
	case errors.Is(err, fs.ErrNotExist), listed && !isThere && !errors.Is(err, fs.ErrPermission):
		// Linux's server signs a refusal wrongly, which the client can't take for one.
		change := "name a share of the server"
		if lists != "" {
			change += ", which lists " + lists
		}
		s.fail(change, "the server has no share %s: %v", d.cfg.Share, err)
	case errors.Is(err, fs.ErrPermission):
		s.fail("give a user whom the share admits (-U), or have it admit this one (valid users, guest ok)", "the user may not use the share %s: %v", d.cfg.Share, err)
	default:
		s.fail("see what the server's log says", "the share %s can't be used: %v", d.cfg.Share, err)
	}
}

// shares are the names of the disks that the server lists, in a session of its own
// if the refusal of a share has cost the one that there was.
func (d *doctor) shares(ctx context.Context) (names []string, ok bool) {
	sess := d.session()
	if sess.Err() != nil {
		var err error
		if d.direct != nil {
			sess, err = d.openDirect(ctx, d.cfg.Client)
		} else {
			sess, err = d.openPlain(ctx, d.cfg.Client)
		}
		if err != nil {
			return nil, false
		}
		defer sess.Close()
	}
	list, err := sess.ListShares(ctx)
	if err != nil {
		return nil, false
	}
	for _, v := range list {
		if v.Type&^client.ShareHidden == client.ShareDisk {
			names = append(names, v.Name)
		}
	}
	return names, true
}

// protection says what signing and encryption do to RDMA.
func (d *doctor) protection() {
	s := d.begin(StepProtection, "signing, encryption and RDMA")
	if d.share == nil {
		s.end(NotPossible, "there is no share to look at")
		return
	}
	i := d.share.Session().Info()
	var transforms []string
	for _, t := range i.RDMATransforms {
		transforms = append(transforms, t.String())
	}
	s.add("signing_required_by_server", i.SigningRequiredByServer)
	s.add("signed", i.Signed)
	s.add("encrypted", i.Encrypted)
	s.add("share_encrypted", d.share.Encrypted())
	s.add("rdma_transforms", transforms)
	if d.direct == nil {
		// What is agreed on with SMB Direct may be other than with TCP.
		s.end(NotPossible, "there is no SMB Direct connection whose data could be protected")
		return
	}
	d.path = d.share.DataPath()
	s.quiet("data_path", d.path.String())
	used, why := d.share.RDMAStatus()
	if used {
		cost := d.path.Cost()
		if cost != "" {
			cost = ": " + cost
		}
		s.end(OK, "file bytes go by %v%s", d.path, cost)
		return
	}
	c := &d.cfg.Client
	var change string
	const transform = "use a server that has RDMA transforms (smbd-rdma serve; by its documents Windows Server 2022 and later)"
	switch {
	case c.RDMAThreshold < 0:
		change = "give an --rdma-threshold of 1 or more"
	case c.Encryption == client.EncryptRequired:
		change = "leave out --encrypt, or " + transform
	case d.share.Encrypted() && !i.Encrypted:
		change = "do not require encryption for this share on the server (its \"smb encrypt\"), or " + transform
	case i.Encrypted:
		change = "do not require encryption on the server (serve --encryption offered, \"smb encrypt = auto\"), or " + transform
	case c.Signing == client.SigningRequired:
		change = "leave out --signing required, or " + transform
	case i.Signed:
		change = "do not require signing on the server (serve --signing offered, \"server signing = auto\"), or " + transform
	default:
		change = "name a share that is a disk"
	}
	s.fail(change, "file bytes go in messages: %s", why)
}

// move looks whether a session that begins on TCP finds RDMA by itself.
func (d *doctor) move(ctx context.Context) {
	s := d.begin(StepMove, "from TCP to RDMA")
	switch {
	case d.cfg.Interface == nil:
		s.end(NotTried, "--transport says that the client goes to SMB Direct at once")
		return
	case d.direct == nil:
		s.end(NotPossible, "there is no SMB Direct to move to")
		return
	case d.plain == nil:
		s.end(OK, "there is no SMB over TCP to begin on: the client goes to SMB Direct at once")
		return
	}
	i := d.plain.Info()
	if !i.MultiChannel || i.Guest || i.Anonymous {
		why := "the server has no multichannel on TCP"
		if i.MultiChannel {
			why = "a session of a guest has one connection"
		}
		s.end(OK, "%s: the client goes to SMB Direct at its port", why)
		return
	}
	cfg := d.cfg.Client
	cfg.Channels = client.ChannelConfig{Dial: d.cfg.Interface}
	sess, err := d.openPlain(ctx, cfg)
	if err != nil {
		s.fail("see what the server's log says", "a second session on TCP: %v", err)
		return
	}
	defer sess.Close()
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	sess.AwaitChannels(ctx)
	used, why := sess.RDMAStatus()
	var told []string
	for _, c := range sess.Channels() {
		told = append(told, fmt.Sprintf("%v by %s", c.Remote, or(c.RDMAProvider, "TCP")))
	}
	s.add("connections", told)
	if !used {
		s.fail("see to the interfaces that the server lists and to the ports of SMB Direct there (--rdma-port), or have the client go to SMB Direct at once (--transport "+d.best.fabric.Name+", mount -o rdma)",
			"a session that begins on TCP stays there: %s", why)
		return
	}
	s.end(OK, "a session that begins on TCP moves to RDMA")
}
