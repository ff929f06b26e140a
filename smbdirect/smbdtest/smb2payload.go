package smbdtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
)

// Payloads that are encrypted or signed, [MS-SMB2] 2.2.43, and the structures that
// say so. The arithmetic is the suite's own, after the RFCs, so that an end of this
// project is not measured by its own code.

var errTag = errors.New("the tag does not fit")

// nonceSize is the NonceLength of a cipher, [MS-SMB2] 3.3.5.13.
func nonceSize(c smbcrypto.Cipher) int {
	if c == smbcrypto.AES128CCM || c == smbcrypto.AES256CCM {
		return 11
	}
	return 12
}

// sealPayload encrypts data in place, without associated data, and returns the
// tag.
func sealPayload(c smbcrypto.Cipher, key, nonce, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys are derived with the right lengths
	}
	if c == smbcrypto.AES128CCM || c == smbcrypto.AES256CCM {
		tag := ccmTag(block, nonce, data)
		ccmStream(block, nonce, 1).XORKeyStream(data, data)
		return tag
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	out := gcm.Seal(nil, nonce, data, nil)
	copy(data, out)
	return out[len(data):]
}

// openPayload decrypts data in place.
func openPayload(c smbcrypto.Cipher, key, nonce, tag, data []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	if c == smbcrypto.AES128CCM || c == smbcrypto.AES256CCM {
		ccmStream(block, nonce, 1).XORKeyStream(data, data)
		if subtle.ConstantTimeCompare(ccmTag(block, nonce, data), tag) != 1 {
			return errTag
		}
		return nil
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	plain, err := gcm.Open(nil, nonce, append(append([]byte(nil), data...), tag...), nil)
	if err != nil {
		return errTag
	}
	copy(data, plain)
	return nil
}

// ccmStream is CTR mode from counter block n, RFC 3610 §2.3.
func ccmStream(b cipher.Block, nonce []byte, n byte) cipher.Stream {
	iv := make([]byte, aes.BlockSize)
	iv[0] = byte(14 - len(nonce)) // L - 1
	copy(iv[1:], nonce)
	iv[15] = n
	return cipher.NewCTR(b, iv)
}

// ccmTag is the encrypted 16-octet authentication field of plaintext, RFC 3610
// §2.2 and §2.3, without associated data.
func ccmTag(b cipher.Block, nonce, plain []byte) []byte {
	x := make([]byte, aes.BlockSize)
	x[0] = (16-2)/2<<3 | byte(14-len(nonce))
	copy(x[1:], nonce)
	for i, n := 15, uint64(len(plain)); i > len(nonce); i, n = i-1, n>>8 {
		x[i] = byte(n)
	}
	b.Encrypt(x, x)
	for len(plain) > 0 {
		n := subtle.XORBytes(x, x, plain[:min(len(plain), len(x))])
		b.Encrypt(x, x)
		plain = plain[n:]
	}
	ccmStream(b, nonce, 0).XORKeyStream(x, x)
	return x
}

// signPayload is the signature of data, [MS-SMB2] 3.1.4.1: AES-GMAC with a nonce
// or AES-CMAC without.
func signPayload(alg smbcrypto.SigningAlgorithm, key, nonce, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	if alg == smbcrypto.AESCMAC {
		return cmac(block, data)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm.Seal(nil, nonce, nil, data)
}

// cmac is RFC 4493.
func cmac(b cipher.Block, data []byte) []byte {
	double := func(k []byte) []byte {
		out := make([]byte, len(k))
		carry := byte(0)
		for i := len(k) - 1; i >= 0; i-- {
			out[i] = k[i]<<1 | carry
			carry = k[i] >> 7
		}
		out[len(k)-1] ^= carry * 0x87
		return out
	}
	l := make([]byte, aes.BlockSize)
	b.Encrypt(l, l)
	k1 := double(l)
	x := make([]byte, aes.BlockSize)
	for len(data) > aes.BlockSize {
		subtle.XORBytes(x, x, data[:aes.BlockSize])
		b.Encrypt(x, x)
		data = data[aes.BlockSize:]
	}
	last := make([]byte, aes.BlockSize)
	n := copy(last, data)
	if n < aes.BlockSize {
		last[n] = 0x80
		k1 = double(k1)
	}
	subtle.XORBytes(x, x, last)
	subtle.XORBytes(x, x, k1)
	b.Encrypt(x, x)
	return x
}

// Transform types, [MS-SMB2] 2.2.43.1.
const (
	typeEncryption = 1
	typeSigning    = 2
)

// cryptoTransform is SMB2_RDMA_CRYPTO_TRANSFORM, [MS-SMB2] 2.2.43.1. The lengths
// on the wire are those of the slices.
//
//	0 TransformType  2 SignatureLength  4 NonceLength  6 Reserved
//	8 Signature      Nonce              Padding to 8
type cryptoTransform struct {
	kind             uint16
	signature, nonce []byte
}

// rdmaTransform is SMB2_RDMA_TRANSFORM, [MS-SMB2] 2.2.43, with what follows it.
//
//	0 RdmaDescriptorOffset  2 RdmaDescriptorLength  4 Channel
//	8 TransformCount       10 Reserved1            12 Reserved2
//	16 crypto transforms, descriptors
type rdmaTransform struct {
	channel     uint32
	count       uint16
	crypto      []cryptoTransform
	descriptors []byte
	noPadding   bool // behind the crypto transforms
}

func (m *rdmaTransform) append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = le.AppendUint32(b, m.channel)
	b = le.AppendUint16(b, m.count)
	b = append(b, 0, 0, 0, 0, 0, 0)
	for _, c := range m.crypto {
		b = le.AppendUint16(b, c.kind)
		b = le.AppendUint16(b, uint16(len(c.signature)))
		b = le.AppendUint16(b, uint16(len(c.nonce)))
		b = append(b, 0, 0)
		b = append(append(b, c.signature...), c.nonce...)
		for !m.noPadding && (len(b)-start)%8 != 0 {
			b = append(b, 0)
		}
	}
	if len(m.descriptors) > 0 {
		le.PutUint16(b[start:], uint16(len(b)-start))
		le.PutUint16(b[start+2:], uint16(len(m.descriptors)))
	}
	return append(b, m.descriptors...)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the program first
	return b
}
