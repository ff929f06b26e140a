package smbcrypto

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
	"testing"
)

// message returns an SMB2 message of n bytes with a header that signing reads.
func message(n int, command uint16, id uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	copy(b, "\xfeSMB")
	binary.LittleEndian.PutUint16(b[offsetCommand:], command)
	binary.LittleEndian.PutUint32(b[offsetFlags:], 0x40000000)
	binary.LittleEndian.PutUint64(b[offsetMessageID:], id)
	return b
}

func signers(t testing.TB, alg SigningAlgorithm) (client, server *Signer) {
	t.Helper()
	key := []byte("0123456789abcdef")
	client, err := NewSigner(alg, key, RoleClient)
	if err != nil {
		t.Fatal(err)
	}
	server, err = NewSigner(alg, key, RoleServer)
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

var algorithms = []SigningAlgorithm{HMACSHA256, AESCMAC, AESGMAC}

// RFC 4493 §4, RFC 4231 §4.3 (a key of zeros after "Jefe" is the same HMAC key),
// the CAVP file gcmEncryptExtIV128 with an empty plaintext, and one value that an
// unrelated implementation has for its own AES-GMAC.
func TestMACVectors(t *testing.T) {
	const m = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	const k = "2b7e151628aed2a6abf7158809cf4f3c"
	for _, c := range []struct {
		alg                    SigningAlgorithm
		key, nonce, data, want string
	}{
		{AESCMAC, k, "", "", "bb1d6929e95937287fa37d129b756746"},
		{AESCMAC, k, "", m[:32], "070a16b46b4d4144f79bdd9dd04a287c"},
		{AESCMAC, k, "", m[:80], "dfa66747de9ae63030ca32611497c827"},
		{AESCMAC, k, "", m, "51f0bebf7e3b9d92fc49741779363cfe"},
		{HMACSHA256, "4a656665000000000000000000000000", "",
			hex.EncodeToString([]byte("what do ya want for nothing?")), "5bdcc146bf60754e6a042426089575c7"},
		{AESGMAC, "77be63708971c4e240d1cb79e8d77feb", "e0e00f19fed7ba0136a797f3",
			"7a43ec1d9c0a5a78a0b16533a6213cab", "209fcc8d3675ed938e9c7166709dd946"},
		{AESGMAC, "000102030405060708090a0b0c0d0e0f", "b0b1b2b3b4b5b6b7b8b9babb",
			hex.EncodeToString([]byte("The quick brown fox jumps over the lazy dog")), "11037943d7ef535f379f646a9ae57255"},
	} {
		s, err := NewSigner(c.alg, unhex(t, c.key), RoleClient)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.VerifyPayload(unhex(t, c.want), unhex(t, c.nonce), unhex(t, c.data)); err != nil {
			t.Errorf("%v of %s: %v", c.alg, c.data, err)
		}
	}
}

// [MS-SMB2] 3.1.4.1: the AES-GMAC nonce of each kind of message.
func TestGMACNonce(t *testing.T) {
	for _, c := range []struct {
		from   Role
		cancel bool
		want   string
	}{
		{RoleClient, false, "efcdab896745230100000000"},
		{RoleServer, false, "efcdab896745230101000000"},
		{RoleClient, true, "efcdab896745230102000000"},
	} {
		var n [12]byte
		putNonce(&n, 0x0123456789abcdef, c.from, c.cancel)
		if !bytes.Equal(n[:], unhex(t, c.want)) {
			t.Errorf("%v, cancel %v: %x, want %s", c.from, c.cancel, n, c.want)
		}
	}
}

// A signature does not depend on how the message is cut, covers every byte but its
// own, and sets SMB2_FLAGS_SIGNED.
func TestSignAndVerify(t *testing.T) {
	for _, alg := range algorithms {
		client, server := signers(t, alg)
		for _, n := range []int{64, 65, 79, 80, 81, 128, 1000, 70000} {
			whole := message(n, 5, 42)
			if err := client.Sign(whole); err != nil {
				t.Fatal(err)
			}
			if f := binary.LittleEndian.Uint32(whole[offsetFlags:]); f != 0x40000008 {
				t.Errorf("%v: flags %#x", alg, f)
			}
			for _, cut := range []int{64, 65, (64 + n) / 2, n} {
				if cut > n {
					continue
				}
				b := message(n, 5, 42)
				if err := client.Sign(b[:cut], nil, b[cut:]); err != nil || !bytes.Equal(b, whole) {
					t.Errorf("%v: %d bytes cut at %d: %x, %v, want %x", alg, n, cut, b[48:64], err, whole[48:64])
				}
				if err := server.Verify(b[:cut], b[cut:]); err != nil {
					t.Errorf("%v: %d bytes cut at %d: %v", alg, n, cut, err)
				}
			}
			for i := 0; i < n; i += max(1, n/100) {
				bad := bytes.Clone(whole)
				bad[i] ^= 0x80
				before := bytes.Clone(bad)
				if err := server.Verify(bad); !errors.Is(err, ErrSignature) {
					t.Errorf("%v: byte %d of %d changed: %v", alg, i, n, err)
				}
				if !bytes.Equal(bad, before) {
					t.Errorf("%v: Verify left the message changed", alg)
				}
			}
		}
	}
}

// Only AES-GMAC tells the directions apart, and a CANCEL from a request.
func TestGMACDirections(t *testing.T) {
	client, server := signers(t, AESGMAC)
	b := message(100, 5, 1)
	client.Sign(b)
	if err := client.Verify(b); !errors.Is(err, ErrSignature) {
		t.Errorf("own message taken for the peer's: %v", err)
	}
	cancel := message(68, commandCancel, 1)
	client.Sign(cancel)
	if err := server.Verify(cancel); err != nil {
		t.Errorf("cancel: %v", err)
	}
}

// A signer with two keys goes by the one that its peer has proved, and then by no
// other: Signer.AcceptAlso.
func TestSignerAcceptAlso(t *testing.T) {
	first, other, third := []byte("0123456789abcdef"), []byte("fedcba9876543210"), []byte("gggggggggggggggg")
	signer := func(alg SigningAlgorithm, key []byte, role Role) *Signer {
		s, err := NewSigner(alg, key, role)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, alg := range algorithms {
		for name, peerKey := range map[string][]byte{"first": first, "other": other} {
			s := signer(alg, first, RoleServer)
			if err := s.AcceptAlso(other); err != nil {
				t.Fatal(err)
			}
			signed := func(key []byte, id uint64) []byte {
				m := message(80, 3, id)
				if err := signer(alg, key, RoleClient).Sign(m); err != nil {
					t.Fatal(err)
				}
				return m
			}
			verifiedBy := func(m, key []byte) error { return signer(alg, key, RoleClient).Verify(m) }
			m := message(80, 1, 1)
			if err := s.Sign(m); err != nil || verifiedBy(m, first) != nil {
				t.Errorf("%v, %s: before a choice: %v, %v", alg, name, err, verifiedBy(m, first))
			}
			if err := s.Verify(signed(third, 2)); !errors.Is(err, ErrSignature) {
				t.Errorf("%v, %s: a third key: %v", alg, name, err)
			}
			want := signed(peerKey, 3)
			m = bytes.Clone(want)
			if err := s.Verify(m); err != nil || !bytes.Equal(m, want) {
				t.Errorf("%v, %s: %v, or message changed", alg, name, err)
			}
			notPeer := other
			if name == "other" {
				notPeer = first
			}
			if err := s.Verify(signed(notPeer, 4)); !errors.Is(err, ErrSignature) {
				t.Errorf("%v, %s: the key not chosen: %v", alg, name, err)
			}
			if err := s.Verify(signed(peerKey, 5)); err != nil {
				t.Errorf("%v, %s: second message: %v", alg, name, err)
			}
			m = message(80, 3, 5)
			if err := s.Sign(m); err != nil || verifiedBy(m, peerKey) != nil {
				t.Errorf("%v, %s: answer: %v, %v", alg, name, err, verifiedBy(m, peerKey))
			}
		}
	}
	s := signer(AESCMAC, first, RoleServer)
	if err := s.AcceptAlso(nil); err != nil {
		t.Errorf("no key: %v", err)
	}
	if err := s.AcceptAlso(other[:15]); !errors.Is(err, ErrKey) {
		t.Errorf("short key: %v, want ErrKey", err)
	}
}

func TestSignerRefuses(t *testing.T) {
	client, _ := signers(t, AESCMAC)
	if err := client.Sign(make([]byte, 63)); !errors.Is(err, ErrMessage) {
		t.Errorf("short message signed: %v", err)
	}
	if err := client.Verify(); !errors.Is(err, ErrMessage) {
		t.Errorf("nothing verified: %v", err)
	}
	if _, err := NewSigner(AESCMAC, make([]byte, 32), RoleClient); !errors.Is(err, ErrKey) {
		t.Errorf("long key: %v", err)
	}
	if _, err := NewSigner(3, make([]byte, 16), RoleClient); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("unknown algorithm: %v", err)
	}
	gmac, _ := signers(t, AESGMAC)
	if err := gmac.VerifyPayload(make([]byte, 16), nil, nil); !errors.Is(err, ErrMessage) {
		t.Errorf("AES-GMAC without a nonce: %v", err)
	}
	if err := gmac.VerifyPayload(make([]byte, 15), make([]byte, 12), nil); !errors.Is(err, ErrMessage) {
		t.Errorf("short signature: %v", err)
	}
}

func TestPayloadSignature(t *testing.T) {
	data := message(5000, 0, 0)
	for _, alg := range algorithms {
		client, server := signers(t, alg)
		tag := client.SignPayload(data)
		if want := map[bool]int{true: 12, false: 0}[alg == AESGMAC]; tag.NonceSize != want {
			t.Errorf("%v: nonce of %d bytes, want %d", alg, tag.NonceSize, want)
		}
		if err := server.VerifyPayload(tag.Signature[:], tag.Nonce[:tag.NonceSize], data); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		if err := server.VerifyPayload(tag.Signature[:], tag.Nonce[:tag.NonceSize], data[1:]); !errors.Is(err, ErrSignature) {
			t.Errorf("%v: other data: %v", alg, err)
		}
	}
}

// 2.2.43.1: no payload has the nonce of another one, of one in the other direction,
// or of a message, whatever its MessageId.
func TestPayloadNonces(t *testing.T) {
	client, server := signers(t, AESGMAC)
	// The worst case: nothing random tells them apart.
	client.payloadSalt, server.payloadSalt, server.payloadStart = [3]byte{}, [3]byte{}, client.payloadStart
	seen := map[[12]byte]bool{}
	use := func(n [12]byte) {
		if seen[n] {
			t.Errorf("nonce %x used twice", n)
		}
		seen[n] = true
	}
	for i := range uint64(200) {
		use(client.SignPayload(nil).Nonce)
		use(server.SignPayload(nil).Nonce)
		for _, from := range []Role{RoleClient, RoleServer} {
			var n [12]byte
			putNonce(&n, client.payloadStart+i, from, false)
			use(n)
		}
		var n [12]byte
		putNonce(&n, client.payloadStart+i, RoleClient, true)
		use(n)
	}
	again, _ := signers(t, AESGMAC)
	if again.SignPayload(nil).Nonce == client.SignPayload(nil).Nonce {
		t.Error("nonces do not begin at random")
	}
}

// No allocation for a payload, but for the 16 bytes that the CMAC library returns.
func TestPayloadAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	data := make([]byte, 65536, 65536+PayloadRoom)
	for alg, limit := range map[SigningAlgorithm]float64{HMACSHA256: 0, AESCMAC: 2, AESGMAC: 0} {
		client, server := signers(t, alg)
		if n := testing.AllocsPerRun(100, func() {
			tag := client.SignPayload(data)
			if server.VerifyPayload(tag.Signature[:], tag.Nonce[:tag.NonceSize], data) != nil {
				t.Fatal("bad signature")
			}
		}); n > limit {
			t.Errorf("%v: %v allocations, want at most %v", alg, n, limit)
		}
	}
	for _, c := range []Cipher{AES128GCM, AES256GCM} {
		s, o := pair(t, c)
		var tag PayloadTag // as in a message, which is there already
		if n := testing.AllocsPerRun(100, func() {
			var err error
			tag, err = s.SealPayload(data, data)
			if err != nil || o.OpenPayload(data, data, tag.Signature[:], tag.Nonce[:tag.NonceSize]) != nil {
				t.Fatal("bad payload")
			}
		}); n > 0 {
			t.Errorf("%v: %v allocations, want none", c, n)
		}
	}
}

func TestSignerConcurrent(t *testing.T) {
	for _, alg := range algorithms {
		client, server := signers(t, alg)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 50 {
					b := message(100+g*31+i, 8, uint64(g*1000+i))
					client.Sign(b[:64], b[64:])
					if err := server.Verify(b); err != nil {
						t.Errorf("%v: %v", alg, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// The CMAC library returns its sum in a slice of its own, twice 16 bytes for
// signing and verifying; nothing else may allocate.
func TestSignAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	for alg, limit := range map[SigningAlgorithm]float64{HMACSHA256: 0, AESCMAC: 2, AESGMAC: 0} {
		client, server := signers(t, alg)
		for _, size := range []int{4096, 1<<20 + 112} { // the latter a READ or WRITE of 1 MiB
			b := message(size, 8, 1)
			n := testing.AllocsPerRun(50, func() {
				if client.Sign(b[:64], b[64:]) != nil || server.Verify(b) != nil {
					t.Fatal("bad signature")
				}
			})
			if n > limit {
				t.Errorf("%v of %d bytes: %v allocations, want at most %v", alg, size, n, limit)
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(message(64, 0, 0))
	f.Add(message(200, commandCancel, 1<<63))
	f.Add([]byte("\xfeSMB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, alg := range algorithms {
			client, server := signers(t, alg)
			if server.Verify(b) == nil {
				t.Errorf("%v: accepted by chance: %x", alg, b)
			}
			c := bytes.Clone(b)
			if err := client.Sign(c); err == nil {
				if err := server.Verify(c); err != nil {
					t.Errorf("%v: %v", alg, err)
				}
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range algorithms {
		b.Run(alg.String(), func(b *testing.B) {
			client, _ := signers(b, alg)
			m := message(64+16+1<<20, 8, 1)
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				client.Sign(m[:80], m[80:])
			}
		})
	}
}
