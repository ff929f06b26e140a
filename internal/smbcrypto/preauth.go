package smbcrypto

import "crypto/sha512"

// PreauthSize is the length in bytes of a preauthentication integrity hash.
const PreauthSize = sha512.Size

// PreauthSHA512 is the only HashId of [MS-SMB2] 2.2.3.1.1.
const PreauthSHA512 = 0x0001

// Preauth is a preauthentication integrity hash value of dialect 3.1.1. The zero
// value is the one to start a connection with, [MS-SMB2] 3.2.5.2 and 3.3.5.4: the
// hash goes over the NEGOTIATE request and response, and a session starts from a
// copy of that, then goes over each SESSION_SETUP request and response but the
// response that ends with success.
type Preauth [PreauthSize]byte

// Update replaces the value with the SHA-512 of itself and a whole message, from
// the SMB2 header on and as it is on the wire, given in one or more parts.
func (p *Preauth) Update(parts ...[]byte) {
	h := sha512.New()
	h.Write(p[:])
	for _, b := range parts {
		h.Write(b)
	}
	h.Sum(p[:0])
}
