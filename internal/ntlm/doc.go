// Package ntlm is NTLM authentication, [MS-NLMP], for both ends of an SMB
// session: NTLMv2 only, with message integrity codes, key exchange and the
// signatures that SPNEGO puts over its mechanism list.
//
//	c := &ntlm.Client{User: "ann", Password: "secret", Domain: "WORK"}
//	n, _ := c.Negotiate()                 // to the server
//	a, _ := c.Authenticate(challenge)     // its answer, and ours
//	key := c.SessionKey()
//
//	s, _ := (&ntlm.Server{NetBIOSName: "NAS", Lookup: hashes}).NewContext()
//	challenge, _ := s.Challenge(n)
//	result, err := s.Authenticate(a)      // ErrLogon if it is not the user's
//
// A Client or a [ServerContext] is one authentication: a new one is made for each,
// and each is used by one goroutine at a time. A [Server] is only configuration and
// may be shared. LM, NTLMv1 and connectionless NTLM are refused, and so is a peer
// that does not offer extended session security and 128-bit keys.
//
// Decoded messages borrow from their input.
package ntlm
