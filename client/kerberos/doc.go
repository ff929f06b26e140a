// Package kerberos logs a client on with Kerberos 5 in place of a password: from a
// credential cache that kinit has filled, from a keytab, or with a password that goes to
// the key distribution centre and not to the server.
//
//	creds, err := kerberos.FromCache("", kerberos.Options{})
//	defer creds.Close()
//	s, err := client.Dial(ctx, d, "nas.example.com:445", client.Config{Auth: creds})
//
// The server is known to Kerberos by its name: Config.ServerName, or the host that was
// dialled, has to be the one in its keytab, as in cifs/nas.example.com, and is no address.
//
// The ticket is shown with mutual authentication (RFC 4121, RFC 4120 §3.2): a server that
// can't read it is refused. The session's keys come from the key that the two agree on,
// and SPNEGO's list of mechanisms is protected with it (RFC 4178).
//
// # Limits
//
// Credential caches are files; those in a kernel keyring, a directory or a daemon (KCM) are
// not read. Tickets are fetched by github.com/jcmturner/gokrb5, which takes no context
// and waits five seconds for each server of the realm. There is no delegation. With tickets
// of the old type RC4-HMAC the list of mechanisms is not protected, but SMB 3 protects what
// was negotiated in its own way.
package kerberos
