package smbcrypto

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
)

var ciphers = []Cipher{AES128CCM, AES128GCM, AES256CCM, AES256GCM}

func pair(t testing.TB, c Cipher) (*Sealer, *Opener) {
	t.Helper()
	key := []byte("0123456789abcdefghijklmnopqrstuv")[:c.KeySize()]
	s, err := NewSealer(c, key)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOpener(c, key)
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}

// The GCM specification of McGrew and Viega, test cases 3 and 15: no additional
// data, as an RDMA payload has none.
func TestGCMVectors(t *testing.T) {
	const key = "feffe9928665731c6d6a8f9467308308"
	plain := unhex(t, `d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
		1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255`)
	for _, c := range []struct {
		cipher         Cipher
		key, text, tag string
	}{
		{AES128GCM, key, `42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
			21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985`, "4d5c2af327cd64a62cf35abd2ba6fab4"},
		{AES256GCM, key + key, `522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
			8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad`, "b094dac5d93471bdec1a502270e3cc6c"},
	} {
		o, err := NewOpener(c.cipher, unhex(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		data := append(unhex(t, c.text), make([]byte, 16)...)[:64]
		if err := o.OpenPayload(data, data, unhex(t, c.tag), unhex(t, "cafebabefacedbaddecaf888")); err != nil || !bytes.Equal(data, plain) {
			t.Errorf("%v: %x, %v", c.cipher, data, err)
		}
	}
}

// rfc3610 is CCM written out from RFC 3610 §2, with M = 16 and L = 4, for messages
// and additional data that are multiples of nothing in particular.
func rfc3610(t *testing.T, key, nonce, aad, plain []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&15)...) }
	in := append([]byte{64 + 8*7 + 3}, nonce...)
	in = binary.BigEndian.AppendUint32(in, uint32(len(plain)))
	in = pad(append(binary.BigEndian.AppendUint16(in, uint16(len(aad))), aad...))
	in = pad(append(in, plain...))
	var x [16]byte
	for ; len(in) > 0; in = in[16:] {
		for i := range x {
			x[i] ^= in[i]
		}
		block.Encrypt(x[:], x[:])
	}
	key16 := func(i uint32) (s [16]byte) {
		a := binary.BigEndian.AppendUint32(append([]byte{3}, nonce...), i)
		block.Encrypt(s[:], a)
		return s
	}
	out := bytes.Clone(plain)
	for i := range out {
		s := key16(uint32(i/16) + 1)
		out[i] ^= s[i%16]
	}
	s0 := key16(0)
	for i := range x {
		x[i] ^= s0[i]
	}
	return append(out, x[:]...)
}

// [MS-SMB2] 2.2.41 and 3.1.4.3: where the fields are, and what is authenticated.
func TestSealLayout(t *testing.T) {
	for _, c := range []Cipher{AES128CCM, AES256CCM} {
		s, _ := pair(t, c)
		msg := message(133, 9, 3)
		out, err := s.Seal([]byte("before"), 0x1122334455667788, msg[:64], msg[64:])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(out, []byte("before")) || len(out) != 6+52+133 {
			t.Fatalf("%v: %d bytes: %x", c, len(out), out)
		}
		h := out[6:]
		if !bytes.Equal(h[:4], []byte("\xfdSMB")) || !bytes.Equal(h[31:52], unhex(t, "00000000008500000000000100"+"8877665544332211")) {
			t.Errorf("%v: header %x", c, h[:52])
		}
		want := rfc3610(t, []byte("0123456789abcdefghijklmnopqrstuv")[:c.KeySize()], h[20:31], h[20:52], msg)
		if !bytes.Equal(h[52:], want[:133]) || !bytes.Equal(h[4:20], want[133:]) {
			t.Errorf("%v: got %x, want %x", c, out, want)
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	for _, c := range ciphers {
		s, o := pair(t, c)
		for _, n := range []int{1, 15, 16, 17, 64, 1000, 70000} {
			msg := message(max(n, 64), 8, 9)[:n]
			sealed, err := s.Seal(nil, 5, msg)
			if err != nil {
				t.Fatal(err)
			}
			if id, ok := TransformSessionID(sealed); !ok || id != 5 || !IsTransform(sealed) {
				t.Errorf("%v: session %d, %v", c, id, ok)
			}
			if n < 100 { // every byte counts but the reserved: that counts too
				for i := 4; i < len(sealed); i++ {
					bad := bytes.Clone(sealed)
					bad[i] ^= 1
					if _, err := o.Open(bad); !errors.Is(err, ErrDecrypt) && !errors.Is(err, ErrMessage) {
						t.Errorf("%v: byte %d of %d changed: %v", c, i, n, err)
					}
				}
			}
			got, err := o.Open(sealed[:len(sealed):len(sealed)])
			if err != nil || !bytes.Equal(got, msg) {
				t.Errorf("%v: %d bytes: %v", c, n, err)
			}
		}
		if _, err := o.Open(append([]byte("\xfdSMB"), make([]byte, 48)...)); !errors.Is(err, ErrMessage) {
			t.Errorf("%v: header alone: %v", c, err)
		}
		sealed, _ := s.Seal(nil, 5, message(64, 0, 0))
		if _, err := o.Open(sealed[:len(sealed)-1]); !errors.Is(err, ErrMessage) {
			t.Errorf("%v: OriginalMessageSize too large: %v", c, err)
		}
	}
}

// [MS-SMB2] 2.2.43.1: a payload is sealed and opened where it lies, or on the way
// from one buffer to another, which leaves the first as it was.
func TestPayloadEncryption(t *testing.T) {
	room := func(n int, b []byte) []byte { return append(make([]byte, 0, n+PayloadRoom), b...)[:n] }
	for _, c := range ciphers {
		s, o := pair(t, c)
		data := message(4096, 0, 0)
		buf := room(4096, data)
		tag, err := s.SealPayload(buf, buf)
		if err != nil || bytes.Equal(buf, data) {
			t.Fatalf("%v: %v", c, err)
		}
		moved := room(4096, nil)
		tag2, err := s.SealPayload(moved, data)
		if err != nil || bytes.Equal(moved, buf) || !bytes.Equal(data, message(4096, 0, 0)) || tag2.Nonce == tag.Nonce {
			t.Errorf("%v: from one buffer to another: %v, or nonce %x twice", c, err, tag.Nonce)
		}
		opened := bytes.Repeat([]byte{0xEE}, 4096)
		if err := o.OpenPayload(opened[:4096:4096], moved, tag2.Signature[:], tag2.Nonce[:tag2.NonceSize]); err != nil || !bytes.Equal(opened, data) {
			t.Errorf("%v: opened into another buffer: %v", c, err)
		}
		if want := map[bool]int{true: 11, false: 12}[c&1 == 1]; tag.NonceSize != want {
			t.Errorf("%v: nonce of %d bytes, want %d", c, tag.NonceSize, want)
		}
		bad := append(make([]byte, 0, 4096+16), buf...)
		bad[17]++
		wiped := bytes.Repeat([]byte{0xEE}, 4096)
		if err := o.OpenPayload(wiped, bad, tag.Signature[:], tag.Nonce[:tag.NonceSize]); !errors.Is(err, ErrDecrypt) ||
			!bytes.Equal(wiped, make([]byte, 4096)) {
			t.Errorf("%v: changed payload: %v, or not wiped", c, err)
		}
		for _, l := range []struct{ sig, nonce int }{{15, tag.NonceSize}, {17, tag.NonceSize}, {16, tag.NonceSize - 1}, {16, tag.NonceSize + 1}, {0, 0}} {
			wiped := bytes.Repeat([]byte{0xEE}, 4096)
			err := o.OpenPayload(wiped, room(4096, buf), make([]byte, l.sig), make([]byte, l.nonce))
			if !errors.Is(err, ErrMessage) || !bytes.Equal(wiped, make([]byte, 4096)) {
				t.Errorf("%v: signature of %d, nonce of %d bytes: %v, or not wiped", c, l.sig, l.nonce, err)
			}
		}
		if err := o.OpenPayload(buf, buf, tag.Signature[:], tag.Nonce[:tag.NonceSize]); err != nil || !bytes.Equal(buf, data) {
			t.Errorf("%v: %v", c, err)
		}
		if o.NonceSize() != tag.NonceSize {
			t.Errorf("%v: NonceSize %d, want %d", c, o.NonceSize(), tag.NonceSize)
		}
		if _, err := s.SealPayload(data[:4096:4096], data); !errors.Is(err, ErrMessage) {
			t.Errorf("%v: no room for the tag: %v", c, err)
		}
		if _, err := s.SealPayload(room(4095, nil), data); !errors.Is(err, ErrMessage) {
			t.Errorf("%v: destination too short: %v", c, err)
		}
		if err := o.OpenPayload(data, data[:4096:4096], tag.Signature[:], tag.Nonce[:tag.NonceSize]); !errors.Is(err, ErrMessage) {
			t.Errorf("%v: no room for the tag: %v", c, err)
		}
	}
}

// 2.2.43.1: a nonce is not used again within a session. Messages and payloads that
// one key seals take theirs from one sequence, whatever order they come in.
func TestPayloadNoncesAreNotThoseOfMessages(t *testing.T) {
	for _, c := range ciphers {
		s, _ := pair(t, c)
		n := map[bool]int{true: 11, false: 12}[c&1 == 1]
		seen := map[string]bool{}
		for i := range 300 {
			var nonce []byte
			if i%3 == 0 {
				b, err := s.Seal(nil, 1, []byte("x"))
				if err != nil {
					t.Fatal(err)
				}
				nonce = b[offsetNonce : offsetNonce+n]
			} else {
				b := make([]byte, 1, 1+PayloadRoom)
				tag, err := s.SealPayload(b, b)
				if err != nil {
					t.Fatal(err)
				}
				nonce = tag.Nonce[:tag.NonceSize]
			}
			if seen[string(nonce)] {
				t.Errorf("%v: nonce %x used twice", c, nonce)
			}
			seen[string(nonce)] = true
		}
		s.sealed.Store(maxSealed)
		b := make([]byte, 1, 1+PayloadRoom)
		if _, err := s.SealPayload(b, b); !errors.Is(err, ErrNonceExhausted) {
			t.Errorf("%v: after the last: %v", c, err)
		}
	}
}

// A nonce is never used twice, by however many goroutines, and not after the last.
func TestNonces(t *testing.T) {
	for _, c := range ciphers {
		s, _ := pair(t, c)
		var mu sync.Mutex
		seen := map[[16]byte]bool{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 200 {
					b, err := s.Seal(nil, 1, []byte("x"))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					n := [16]byte(b[offsetNonce:])
					if seen[n] {
						t.Errorf("%v: nonce %x used twice", c, n)
					}
					seen[n] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		other, _ := pair(t, c)
		if b, _ := other.Seal(nil, 1, []byte("x")); seen[[16]byte(b[offsetNonce:])] {
			t.Errorf("%v: nonces do not begin at random", c)
		}
		s.sealed.Store(maxSealed - 1)
		if _, err := s.Seal(nil, 1, []byte("x")); err != nil {
			t.Errorf("%v: last nonce: %v", c, err)
		}
		for range 3 {
			if _, err := s.Seal(nil, 1, []byte("x")); !errors.Is(err, ErrNonceExhausted) {
				t.Errorf("%v: after the last: %v", c, err)
			}
		}
	}
}

func TestKeySizes(t *testing.T) {
	for _, c := range ciphers {
		if _, err := NewSealer(c, make([]byte, c.KeySize()+1)); !errors.Is(err, ErrKey) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := NewOpener(5, make([]byte, 16)); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("unknown cipher: %v", err)
	}
}

func TestGCMAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	s, o := pair(t, AES256GCM)
	msg := message(4096, 8, 1)
	buf := make([]byte, 0, len(msg)+SealSlack)
	n := testing.AllocsPerRun(200, func() {
		sealed, err := s.Seal(buf, 1, msg[:80], msg[80:])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(sealed); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// An unrelated implementation's values for keys of both lengths.
func TestKDFVectors(t *testing.T) {
	key := unhex(t, "270E1BA896585EEB7AF3472D3B4C75A7")
	var ctx [64]byte
	for i := range ctx {
		ctx[i] = byte(i)
	}
	for _, c := range []struct {
		label, context string
		bits           int
		want           string
	}{
		{"SMB2AESCMAC\x00", "SmbSign\x00", 128, "4eeaf9e6bc024e1adf4a560f01570deb"},
		{"SMBC2SCipherKey\x00", string(ctx[:]), 256, "c273f0de35671e766ef5106b605054d70385f9237f1327662763de8ac2444317"},
	} {
		if got := KDF(key, []byte(c.label), []byte(c.context), c.bits); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%q: %x, want %s", c.label, got, c.want)
		}
	}
	k, err := DeriveKeys(0x0311, key, ctx[:], uint16(AES256GCM))
	if err != nil || !bytes.Equal(k.ClientToServer, unhex(t, "c273f0de35671e766ef5106b605054d70385f9237f1327662763de8ac2444317")) {
		t.Errorf("ClientToServer %x, %v", k.ClientToServer, err)
	}
	small, _ := DeriveKeys(0x0311, key, ctx[:], uint16(AES128GCM))
	if len(k.ServerToClient) != 32 || !bytes.Equal(k.Signing, small.Signing) || !bytes.Equal(k.Application, small.Application) {
		t.Error("signing or application key depends on the cipher")
	}
}

// [MS-SMB2] 3.1.4.2: where a cipher has 256 bits there are two readings of L for the
// signing key. The values are of another implementation of HMAC-SHA256.
func TestAltSigningKey(t *testing.T) {
	key := unhex(t, "270E1BA896585EEB7AF3472D3B4C75A7")
	var ctx [64]byte
	for i := range ctx {
		ctx[i] = byte(i)
	}
	const l128, l256 = "fa0dcbeacdef1a2ea760aa17d5a0be92", "9c75a1702befb08ba6d77b2b01b0503d"
	for _, c := range []struct {
		dialect uint16
		cipher  Cipher
		want    string
	}{
		{0x0311, AES256GCM, l256},
		{0x0311, AES256CCM, l256},
		{0x0311, AES128GCM, ""},
		{0x0311, AES128CCM, ""},
		{0x0311, 0, ""},
		{0x0302, AES128CCM, ""},
		{0x0210, 0, ""},
	} {
		// A longer key, as Kerberos gives, changes nothing: 3.3.1.8.
		for _, k := range [][]byte{key, append(key[:16:16], 1, 2, 3)} {
			got, err := AltSigningKey(c.dialect, k, ctx[:], uint16(c.cipher))
			if err != nil || !bytes.Equal(got, unhex(t, c.want)) {
				t.Errorf("0x%04X, %v: %x, %v, want %q", c.dialect, c.cipher, got, err, c.want)
			}
		}
	}
	if k, err := DeriveKeys(0x0311, key, ctx[:], uint16(AES256GCM)); err != nil || !bytes.Equal(k.Signing, unhex(t, l128)) {
		t.Errorf("signing key %x, %v, want %s", k.Signing, err, l128)
	}
	for name, c := range map[string]struct{ key, hash []byte }{"no key": {nil, ctx[:]}, "no hash": {key, nil}} {
		if _, err := AltSigningKey(0x0311, c.key, c.hash, uint16(AES256GCM)); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v, want ErrKey", name, err)
		}
	}
}

// [MS-SMB2] 3.3.5.5.3: the session key is 16 bytes, the full one goes to AES-256.
func TestLongSessionKey(t *testing.T) {
	long := []byte("0123456789abcdefghijklmnopqrstuv")
	hash := make([]byte, PreauthSize)
	a, _ := DeriveKeys(0x0311, long, hash, uint16(AES256CCM))
	b, _ := DeriveKeys(0x0311, long[:16], hash, uint16(AES256CCM))
	if !bytes.Equal(a.Signing, b.Signing) || bytes.Equal(a.ClientToServer, b.ClientToServer) {
		t.Error("AES-256 keys must come from the whole key, and only they")
	}
	if want := KDF(long, []byte("SMBS2CCipherKey\x00"), hash, 256); !bytes.Equal(a.ServerToClient, want) {
		t.Errorf("ServerToClient %x, want %x", a.ServerToClient, want)
	}
	if got := SessionKey([]byte("short")); string(got) != "short"+strings.Repeat("\x00", 11) {
		t.Errorf("short key padded to %q", got)
	}
	two, err := DeriveKeys(0x0210, long, nil, 0)
	if err != nil || !bytes.Equal(two.Signing, long[:16]) || two.ClientToServer != nil {
		t.Errorf("dialect 2.1: %+v, %v", two, err)
	}
}

func TestDeriveKeysRefuses(t *testing.T) {
	key, hash := make([]byte, 16), make([]byte, PreauthSize)
	for name, c := range map[string]struct {
		dialect uint16
		key     []byte
		hash    []byte
		cipher  uint16
		want    error
	}{
		"no key":            {0x0311, nil, hash, 2, ErrKey},
		"no hash":           {0x0311, key, nil, 2, ErrKey},
		"unknown dialect":   {0x0310, key, hash, 2, ErrAlgorithm},
		"unknown cipher":    {0x0311, key, hash, 9, ErrAlgorithm},
		"AES-256 below 311": {0x0302, key, nil, 4, ErrAlgorithm},
	} {
		if _, err := DeriveKeys(c.dialect, c.key, c.hash, c.cipher); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := ChannelSigningKey(0x0210, key, nil); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("channel of dialect 2.1: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, b := range golden(f, "smb300-ccm.txt") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range ciphers {
			_, o := pair(t, c)
			TransformSessionID(b)
			if p, err := o.Open(bytes.Clone(b)); err == nil {
				t.Errorf("%v: opened by chance: %x", c, p)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, c := range ciphers {
		b.Run(c.String(), func(b *testing.B) {
			s, _ := pair(b, c)
			m := message(64+16+1<<20, 8, 1)
			buf := make([]byte, 0, len(m)+SealSlack)
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				s.Seal(buf, 1, m)
			}
		})
	}
}
