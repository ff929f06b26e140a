package smbcrypto

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// The hash of test case 2 of "The Galois/Counter Mode of Operation", McGrew and Viega,
// appendix B, step by step.
func TestFieldElements(t *testing.T) {
	el := func(s string) fieldElement {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return elementOf(b)
	}
	h := el("66e94bd4ef8a2c3b884cfa59ca342b2e")
	x1 := el("0388dace60b6a392f328c2b971b2fe78").times(h)
	if want := el("5e2ec746917062882c85b0685353deb7"); x1 != want {
		t.Errorf("X1 = %x, want %x", x1, want)
	}
	if got, want := x1.plus(fieldElement{lo: 0x80}).times(h), el("f38cbb1ad69223dcc3457ae5b6b0f885"); got != want {
		t.Errorf("GHASH = %x, want %x", got, want)
	}
	one := fieldElement{hi: 1 << 63}
	product := one
	for n := uint64(1); n < 70; n++ {
		product = product.times(h)
		if got := h.power(n); got != product || got.times(one) != got {
			t.Errorf("H^%d = %x, want %x", n, got, product)
		}
	}
}

// Lengths that alternate cost the powers of H once, and a ninth one takes the place of the
// first.
func TestPowersAreKept(t *testing.T) {
	client, _ := signers(t, AESGMAC)
	k := client.first
	want := map[uint64]fieldElement{}
	for n := uint64(1); n <= keptPowers+1; n++ {
		want[n<<12+1] = k.hashKey.power(n<<12 + 1)
	}
	all := func(from uint64) func() {
		return func() {
			for n := from; n < from+keptPowers; n++ {
				if got := k.powerOf(n<<12 + 1); got != want[n<<12+1] {
					t.Errorf("H^%d = %x, want %x", n<<12+1, got, want[n<<12+1])
				}
			}
		}
	}
	for _, from := range []uint64{1, 2} {
		if n := testing.AllocsPerRun(10, all(from)); n != 0 {
			t.Errorf("%d lengths in turn cost %v allocations", keptPowers, n)
		}
	}
}

// A message has the same signature whatever pieces it is in.
func TestSignApart(t *testing.T) {
	client, _ := signers(t, AESGMAC)
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ front, middle, last int }{
		{64, 16, 1 << 20}, {112, 0, 1 << 20}, {64, 48, minApart}, {64, 16, minApart - 1},
		{64, 17, minApart}, {65, 0, minApart + 1}, {79, 0, minApart + 15}, {64, 0, 100_000}, {64, 5000, 65_537},
		{64, 100_000, 3}, {64, 100_000, 40_000},
	} {
		b := message(c.front+c.middle+c.last, 8, 1)
		for i := HeaderSize; i < len(b); i++ {
			b[i] = byte(random.Uint32())
		}
		whole, apart := bytes.Clone(b), bytes.Clone(b)
		parts := [][]byte{apart[:c.front], apart[c.front : c.front+c.middle], apart[c.front+c.middle:]}
		if err := client.Sign(whole); err != nil {
			t.Fatal(err)
		}
		if err := client.Sign(parts...); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(whole, apart) {
			t.Errorf("%d, %d and %d bytes: signature %x, want %x", c.front, c.middle, c.last,
				apart[offsetSignature:][:SignatureSize], whole[offsetSignature:][:SignatureSize])
		}
	}
}
