package smbcrypto

import "testing"

// BenchmarkPayload seals and opens, or signs and verifies, 1 MiB where it lies and
// on the way to another buffer.
func BenchmarkPayload(b *testing.B) {
	const n = 1 << 20
	src, dst := make([]byte, n, n+PayloadRoom), make([]byte, n, n+PayloadRoom)
	for _, c := range ciphers {
		s, o := pair(b, c)
		for name, to := range map[string][]byte{"in place": src, "to another buffer": dst} {
			b.Run(c.String()+"/"+name, func(b *testing.B) {
				b.SetBytes(n)
				b.ReportAllocs()
				var tag PayloadTag
				for b.Loop() {
					var err error
					if tag, err = s.SealPayload(to, src); err != nil {
						b.Fatal(err)
					}
					if err = o.OpenPayload(src, to, tag.Signature[:], tag.Nonce[:tag.NonceSize]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	for _, alg := range algorithms {
		client, server := signers(b, alg)
		b.Run(alg.String(), func(b *testing.B) {
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				tag := client.SignPayload(src)
				if err := server.VerifyPayload(tag.Signature[:], tag.Nonce[:tag.NonceSize], src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
