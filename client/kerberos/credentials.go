package kerberos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	krb "github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/smbd-rdma/smbd-rdma/client"
)

// Options say how the realm is reached.
type Options struct {
	// ConfigFile is a configuration in the format of krb5.conf; "" means the one
	// that the environment variable KRB5_CONFIG names, else /etc/krb5.conf.
	ConfigFile string
}

// Credentials are a user of a realm. They are a client.Authenticator, for as many sessions
// as there are, by many goroutines at once.
type Credentials struct {
	user   string // for messages
	ticket func(service string) (messages.Ticket, types.EncryptionKey, error)
	realm  string
	name   types.PrincipalName
	close  func()
}

var _ client.Authenticator = (*Credentials)(nil)

// FromCache takes the user and the tickets of a credential cache. path may begin with
// "FILE:"; "" means the one that the environment variable KRB5CCNAME names, else
// /tmp/krb5cc_UID, as it does for kinit. It is read for every authentication, so that
// tickets which kinit renews are used, but may not become another user's.
func FromCache(path string, o Options) (*Credentials, error) {
	if path == "" {
		path = os.Getenv("KRB5CCNAME")
	}
	if path == "" {
		path = "/tmp/krb5cc_" + strconv.Itoa(os.Getuid())
	}
	if kind, rest, ok := strings.Cut(path, ":"); ok && kind == "FILE" {
		path = rest
	} else if ok && !strings.Contains(kind, "/") {
		return nil, fmt.Errorf("kerberos: a credential cache of kind %s can't be read, only FILE: %w", kind, errors.ErrUnsupported)
	}
	conf, err := o.load()
	if err != nil {
		return nil, err
	}
	load := func() (c *krb.Client, err error) {
		err = guard("read the credential cache "+path, func() error {
			cache, err := credentials.LoadCCache(path)
			if err != nil {
				return err
			}
			c, err = krb.NewFromCCache(cache, conf, krb.DisablePAFXFAST(true))
			return err
		})
		return c, err
	}
	first, err := load()
	if err != nil {
		return nil, err
	}
	c := of(first)
	c.ticket = func(service string) (ticket messages.Ticket, key types.EncryptionKey, err error) {
		now, err := load()
		if err != nil {
			return ticket, key, err
		}
		if user := of(now).user; user != c.user {
			return ticket, key, fmt.Errorf("the credential cache %s is that of %s now: %w", path, user, fs.ErrPermission)
		}
		return now.GetServiceTicket(service)
	}
	return c, nil
}

// FromKeytab is a principal, as "ann@EXAMPLE.COM", whose key is in a keytab. Without a realm
// it is of the default one.
func FromKeytab(principal, path string, o Options) (*Credentials, error) {
	conf, err := o.load()
	if err != nil {
		return nil, err
	}
	user, realm, err := splitPrincipal(principal, conf)
	if err != nil {
		return nil, err
	}
	var kt *keytab.Keytab
	if err := guard("read the keytab "+path, func() error { kt, err = keytab.Load(path); return err }); err != nil {
		return nil, err
	}
	return of(krb.NewWithKeytab(user, realm, kt, conf, krb.DisablePAFXFAST(true))), nil
}

// FromPassword is a principal with its password. It does not ask the realm yet.
func FromPassword(principal, password string, o Options) (*Credentials, error) {
	conf, err := o.load()
	if err != nil {
		return nil, err
	}
	user, realm, err := splitPrincipal(principal, conf)
	if err != nil {
		return nil, err
	}
	return of(krb.NewWithPassword(user, realm, password, conf, krb.DisablePAFXFAST(true))), nil
}

func (o Options) load() (conf *config.Config, err error) {
	file := cmp.Or(o.ConfigFile, os.Getenv("KRB5_CONFIG"), "/etc/krb5.conf")
	err = guard("read the configuration "+file, func() error { conf, err = config.Load(file); return err })
	return conf, err
}

func splitPrincipal(principal string, conf *config.Config) (user, realm string, err error) {
	at := strings.LastIndexByte(principal, '@')
	if at < 0 {
		user, realm = principal, conf.LibDefaults.DefaultRealm
	} else {
		user, realm = principal[:at], principal[at+1:]
	}
	if user == "" || realm == "" {
		return "", "", fmt.Errorf("kerberos: principal %q has no name or no realm: %w", principal, fs.ErrInvalid)
	}
	return user, realm, nil
}

func of(c *krb.Client) *Credentials {
	return &Credentials{
		user: c.Credentials.UserName() + "@" + c.Credentials.Domain(), realm: c.Credentials.Domain(), name: c.Credentials.CName(),
		ticket: c.GetServiceTicket, close: c.Destroy,
	}
}

// User is the principal, as "ann@EXAMPLE.COM".
func (c *Credentials) User() string { return c.user }

// Close forgets the keys and ends the goroutine that renews the ticket of a password or
// keytab. Sessions live on, but can't be renewed.
func (c *Credentials) Close() error {
	c.close()
	return nil
}

// Start implements client.Authenticator: it gets a ticket for the service, if there is
// none yet. ctx is looked at before and after.
func (c *Credentials) Start(ctx context.Context, service string) (client.Mechanism, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	m := &mechanism{}
	err := guard(fmt.Sprintf("a ticket of %s for %s", c.user, service), func() error {
		ticket, key, err := c.ticket(service)
		if err != nil {
			return err
		}
		return m.request(ticket, key, c.realm, c.name)
	})
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// guard calls a function that hands others' octets to gokrb5, which does not check every
// length: what goes wrong there is an error here.
func guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kerberos: %s: damaged: %v", what, p)
		}
	}()
	if err := f(); err != nil {
		return fmt.Errorf("kerberos: %s: %w", what, err)
	}
	return nil
}
