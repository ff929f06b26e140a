package doctor

import (
	"bytes"
	"testing"
	"unicode"
)

// A startup frame that is taken has all the private data that it announces, within
// its octets, and what is noted of it is on the page as it should be.
func FuzzParseStartup(f *testing.F) {
	key := "MPA ID Rep Frame"
	for _, s := range []string{
		key + "\x40\x01\x00\x00", key + "\x50\x02\x00\x06\x80\x20\x40\x07pq", key + "\x10\x02\x00\x02\x00\x20", key + "\x00\x01\xff\xff", key,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := parseStartup(b)
		if !ok {
			return
		}
		announced := int(b[18])<<8 | int(b[19])
		want := b[20 : 20+announced]
		if s.enhanced {
			want = want[4:]
			if s.revision < 2 || s.ird > 0x3FFF || s.ord > 0x3FFF {
				t.Fatalf("%+v of % x", s, b)
			}
		}
		if !bytes.Equal(s.data, want) {
			t.Fatalf("private data % x of % x", s.data, b)
		}
		step := &Step{}
		step.addStartup(mpaPeer, b)
		if len(step.Values) < 3 || len(step.Values) > maxValues {
			t.Fatalf("values %v of % x", step.Values, b)
		}
	})
}

// Whatever a text is, what is printed of it is visible and bounded.
func FuzzCut(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J\a\r\n", "\u202eltr\xff\xfe", "a\nb\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := []rune(cut(s))
		if len(got) > maxText+1 {
			t.Fatalf("%d characters of %d octets", len(got), len(s))
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q has %q", got, r)
			}
		}
		for _, what := range []string{recognise([]byte(s)), quote([]byte(s))} {
			if what != cut(what) {
				t.Fatalf("%q of %q", what, s)
			}
		}
	})
}
