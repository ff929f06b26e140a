// Package spnego negotiates the security mechanism of an SMB session: RFC 4178
// with the extensions of [MS-SPNG].
//
// A [Mechanism] is one end of an authentication, such as that of internal/ntlm.
// [Initiator] and [Acceptor] wrap one or more of them in SPNEGO tokens:
//
//	blob := spnego.Hint(ntlm.OID)             // server: into the NEGOTIATE response
//
//	i := spnego.NewInitiator(blob, &ntlm.Client{User: "ann", Password: "secret"})
//	token, done, err := i.Step(nil)           // client: into SESSION_SETUP
//
//	a := spnego.NewAcceptor(serverContext)
//	token, done, err = a.Step(token)          // server: and so on until done
//	key := a.Mechanism().SessionKey()
//
// Both protect the list of mechanisms by mechListMIC where RFC 4178 §5 asks for
// it, and more leniently otherwise, as peers differ: Windows, Samba and the
// initiator here always sign the list, ksmbd never does. An acceptor also takes
// NTLMSSP messages without SPNEGO around them and answers in kind, which is what
// cifs.ko sends.
//
// An initiator or acceptor is one authentication and for one goroutine at a time.
package spnego
