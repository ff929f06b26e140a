package smbcrypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"math/rand/v2"
	"testing"

	reference "github.com/pion/dtls/v3/pkg/crypto/ccm"
)

// RFC 3610 with the lengths of [MS-SMB2] 2.2.41, against an implementation by others
// and, through rfc3610, against one written out from the text: sealed alike, opened
// again in place and elsewhere, and nothing opened that was changed in any place.
func TestCCMAgainstReference(t *testing.T) {
	r := rand.New(rand.NewChaCha8([32]byte{3}))
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	for _, keySize := range []int{16, 32} {
		for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 255, 4096, 65537} {
			for _, aad := range []int{0, 1, 13, 14, 15, 30, 31, 32, 300} {
				key, nonce, plain, extra := fill(keySize), fill(11), fill(n), fill(aad)
				block, err := aes.NewCipher(key)
				if err != nil {
					t.Fatal(err)
				}
				other, err := reference.NewCCM(block, 16, 11)
				if err != nil {
					t.Fatal(err)
				}
				c := newCCM(block)
				want := other.Seal(nil, nonce, plain, extra)
				if got := c.Seal([]byte("before"), nonce, plain, extra); !bytes.Equal(got, append([]byte("before"), want...)) {
					t.Fatalf("key %d, %d bytes, %d additional: sealed unlike the reference", keySize, n, aad)
				}
				if aad > 0 && n < 5000 {
					if got := rfc3610(t, key, nonce, extra, plain); !bytes.Equal(got, want) {
						t.Fatalf("key %d, %d bytes, %d additional: sealed unlike the text", keySize, n, aad)
					}
				}
				if got, err := c.Open([]byte("before"), nonce, want, extra); err != nil || !bytes.Equal(got, append([]byte("before"), plain...)) {
					t.Fatalf("key %d, %d bytes, %d additional: opened %v", keySize, n, aad, err)
				}
				buf := append(make([]byte, 0, n+16), plain...)
				buf = c.Seal(buf[:0], nonce, buf, extra)
				if !bytes.Equal(buf, want) {
					t.Fatalf("key %d, %d bytes, %d additional: sealed in place unlike the reference", keySize, n, aad)
				}
				for _, at := range []int{0, len(buf) / 2, len(buf) - 1} {
					bad := bytes.Clone(buf)
					bad[at] ^= 4
					if _, err := c.Open(bad[:0], nonce, bad, extra); err == nil || !bytes.Equal(bad[:n], make([]byte, n)) {
						t.Errorf("byte %d of %d changed: %v, or not zeroed", at, len(buf), err)
					}
				}
				if _, err := c.Open(nil, nonce, buf, append(extra, 0)); err == nil {
					t.Error("more additional data was taken")
				}
				if got, err := c.Open(buf[:0], nonce, buf, extra); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("key %d, %d bytes, %d additional: opened in place: %v", keySize, n, aad, err)
				}
			}
		}
	}
}

func TestCCMContract(t *testing.T) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	var c cipher.AEAD = newCCM(block)
	if c.NonceSize() != 11 || c.Overhead() != 16 {
		t.Errorf("nonce of %d, overhead of %d", c.NonceSize(), c.Overhead())
	}
	for n := range 16 {
		if _, err := c.Open(nil, make([]byte, 11), make([]byte, n), nil); err == nil {
			t.Errorf("%d bytes were opened", n)
		}
	}
	for _, n := range []int{0, 10, 12} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a nonce of %d bytes was taken", n)
				}
			}()
			c.Seal(nil, make([]byte, n), nil, nil)
		}()
	}
}
