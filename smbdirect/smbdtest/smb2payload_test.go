package smbdtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"

	"github.com/pion/dtls/v3/pkg/crypto/ccm"

	"github.com/smbd-rdma/smbd-rdma/internal/smbcrypto"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 4493 §4.
func TestCMAC(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, "2b7e151628aed2a6abf7158809cf4f3c"))
	if err != nil {
		t.Fatal(err)
	}
	msg := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for n, want := range map[int]string{
		0:  "bb1d6929e95937287fa37d129b756746",
		16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827",
		64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		if got := hex.EncodeToString(cmac(block, msg[:n])); got != want {
			t.Errorf("of %d octets: %s, want %s", n, got, want)
		}
	}
}

// What the suite computes is what other implementations do.
func TestPayloads(t *testing.T) {
	for _, c := range []smbcrypto.Cipher{smbcrypto.AES128CCM, smbcrypto.AES128GCM, smbcrypto.AES256CCM, smbcrypto.AES256GCM} {
		for _, n := range []int{1, 15, 16, 17, 4096, 70_000} {
			key, nonce, plain := octets(1, c.KeySize()), octets(2, nonceSize(c)), octets(3, n)
			block, err := aes.NewCipher(key)
			if err != nil {
				t.Fatal(err)
			}
			var aead cipher.AEAD
			if len(nonce) == 11 {
				aead, err = ccm.NewCCM(block, 16, 11)
			} else {
				aead, err = cipher.NewGCM(block)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := aead.Seal(nil, nonce, plain, nil)
			data := bytes.Clone(plain)
			tag := sealPayload(c, key, nonce, data)
			if !bytes.Equal(data, want[:n]) || !bytes.Equal(tag, want[n:]) {
				t.Errorf("%v, %d octets: the ciphertext or the tag %x is not that of others, %x", c, n, tag, want[n:])
			}
			if err := openPayload(c, key, nonce, tag, data); err != nil || !bytes.Equal(data, plain) {
				t.Errorf("%v, %d octets, opened: %v", c, n, err)
			}
			tag[3] ^= 1
			if err := openPayload(c, key, nonce, tag, want[:n]); err == nil {
				t.Errorf("%v, %d octets: another tag fits", c, n)
			}
		}
	}
	// GMAC is GCM of nothing: Test Case 1 of the GCM specification.
	if got := hex.EncodeToString(signPayload(smbcrypto.AESGMAC, make([]byte, 16), make([]byte, 12), nil)); got != "58e2fccefa7e3061367f1d57a4e7455a" {
		t.Errorf("GMAC of nothing: %s", got)
	}
}

// 2.2.43 with a signature of 16 octets and a nonce of 11, by hand: 16 and 8 octets
// of fields, 27 and 5 of padding, and a descriptor.
func TestRDMATransform(t *testing.T) {
	m := rdmaTransform{channel: 2, count: 1, descriptors: bytes.Repeat([]byte{0xD}, 16),
		crypto: []cryptoTransform{{kind: typeEncryption, signature: bytes.Repeat([]byte{0x5}, 16), nonce: bytes.Repeat([]byte{0xE}, 11)}}}
	want := "3800" + "1000" + "02000000" + "0100" + "0000" + "00000000" +
		"0100" + "1000" + "0b00" + "0000" +
		"05050505050505050505050505050505" + "0e0e0e0e0e0e0e0e0e0e0e" + "0000000000" +
		"0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d"
	if got := hex.EncodeToString(m.append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
