// Package smbcrypto protects SMB2 and SMB3 messages: signing, encryption, key
// derivation and the preauthentication integrity hash of [MS-SMB2] 3.1.4.1 to
// 3.1.4.3, 3.1.5.1 and 2.2.41.
//
// It works on raw messages by their documented offsets and knows nothing of
// commands, sessions or connections:
//
//	var h smbcrypto.Preauth              // one per connection, copied per session
//	h.Update(negotiateRequest)           // ... and so on, in wire order
//	keys, err := smbcrypto.DeriveKeys(0x0311, sessionKey, h[:], cipherID)
//	signer, err := smbcrypto.NewSigner(smbcrypto.AESGMAC, keys.Signing, smbcrypto.RoleClient)
//	err = signer.Sign(header, data)      // fills in the Signature field of header
//	err = signer.Verify(response)        // ErrSignature if it is not the peer's
//
// A [Signer], [Sealer] or [Opener] may be used by many goroutines at once, and
// holds its key for as long as it is reachable. There must be one [Sealer] per
// key: it is what makes sure that a nonce is never used twice, so channels of a
// session share theirs.
//
// Steady-state signing and AES-GCM allocate nothing, but for the 16 bytes that
// the CMAC library returns. AES-CCM allocates the standard library's key stream,
// some hundred bytes, whatever the size of the message. AES-GMAC and AES-GCM are also the
// fastest by far, so they are what to prefer where a peer has them.
package smbcrypto
