package job

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		text    string
		base    int
		want    uint64
		percent bool
		err     string
	}{
		{text: "4096", want: 4096},
		{text: "4k", want: 4096},
		{text: "4K", want: 4096},
		{text: "4kb", want: 4096},
		{text: "4KiB", want: 4000}, // what fio calls compatible
		{text: "4Ki", want: 4096},
		{text: "2gi", base: 1000, want: 2e9},
		{text: "4k", base: 1000, want: 4000},
		{text: "4KiB", base: 1000, want: 4096},
		{text: "3m", want: 3 << 20},
		{text: "2g", want: 2 << 30},
		{text: "2GiB", want: 2e9},
		{text: "1t", want: 1 << 40},
		{text: "1p", want: 1 << 50},
		{text: "512b", want: 512},
		{text: "0x10", want: 16},
		{text: "0XfF", want: 255},
		{text: "010", want: 10},
		{text: "000", want: 0},
		{text: "25%", want: 25, percent: true},
		{text: " 7 ", want: 7},
		{text: "(4*1k)", want: 4096},
		{text: "(1.5*1g)", want: 3 << 29},
		{text: "(8/2k)", want: 4096}, // the unit is of 8/2
		{text: "18446744073709551615", want: math.MaxUint64},
		{text: "16384p", err: "more than 2^64-1"},
		{text: "18446744073709551616", err: "not a number"},
		{text: "1.5g", err: "not a whole number"},
		{text: "4x", err: "not a number"},
		{text: "k", err: "not a number"},
		{text: "1_000", err: "not a number"},
		{text: "-1", err: "not a number"},
		{text: "", err: "a number is missing"},
		{text: "(1-2)", err: "negative"},
		{text: "(2", err: ") is missing"},
	} {
		base := c.base
		if base == 0 {
			base = 1024
		}
		n, percent, err := parseBytes(c.text, base)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: got %d and error %v, want an error with %q", c.text, n, err, c.err)
			}
			continue
		}
		if err != nil || n != c.want || percent != c.percent {
			t.Errorf("%q with k=%d: got %d, %v, %v, want %d, %v", c.text, base, n, percent, err, c.want, c.percent)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		text string
		unit time.Duration
		want time.Duration
		err  string
	}{
		{text: "10", unit: time.Second, want: 10 * time.Second},
		{text: "10", unit: time.Microsecond, want: 10 * time.Microsecond},
		{text: "10s", unit: time.Microsecond, want: 10 * time.Second},
		{text: "250ms", unit: time.Second, want: 250 * time.Millisecond},
		{text: "250MSEC", unit: time.Second, want: 250 * time.Millisecond},
		{text: "5us", unit: time.Second, want: 5 * time.Microsecond},
		{text: "5usec", unit: time.Second, want: 5 * time.Microsecond},
		{text: "2m", unit: time.Second, want: 2 * time.Minute},
		{text: "1h", unit: time.Second, want: time.Hour},
		{text: "3d", unit: time.Second, want: 72 * time.Hour},
		{text: "(2*5)", unit: time.Second, want: 10 * time.Second},
		{text: "(1m+30s)", unit: time.Second, want: 90 * time.Second},
		{text: "(0.5s)", unit: time.Second, want: 500 * time.Millisecond},
		{text: "10sec", unit: time.Second, err: "no unit of time"}, // 10 µs in fio
		{text: "1.5s", unit: time.Second, err: "no unit of time"},
		{text: "s", unit: time.Second, err: "not a time"},
		{text: "-1", unit: time.Second, err: "not a time"},
		{text: "9223372036854775807d", unit: time.Second, err: "too long"},
	} {
		got, err := parseTime(c.text, c.unit)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: got %v and error %v, want an error with %q", c.text, got, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q of %v: got %v, %v, want %v", c.text, c.unit, got, err, c.want)
		}
	}
}

func TestExpressions(t *testing.T) {
	for _, c := range []struct {
		text string
		want float64
		err  string
	}{
		{text: "(1+2*3)", want: 7},
		{text: "((1+2)*3)", want: 9},
		{text: "(7/2)", want: 3}, // of whole numbers
		{text: "(7.0/2)", want: 3.5},
		{text: "(7%4)", want: 3},
		{text: "(2^3^2)", want: 512}, // to the right
		{text: "(2^-1)", want: 0.5},
		{text: "(0^0)", want: 1},
		{text: "(-3+5)", want: 2},
		{text: "(2*-3)", want: -6},
		{text: "(10-4-3)", want: 3}, // to the left
		{text: "(1k+1)", want: 1025},
		{text: "(1+1k)", want: 1025},
		{text: "(2*3k)", want: 6144},
		{text: "(0x10+1)", want: 17},
		{text: "(1e3)", want: 1000},
		{text: "(2kib)", want: 2000},
		{text: "(1/0)", err: "division by zero"},
		{text: "(1%0)", err: "division by zero"},
		{text: "(1.5%2)", err: "% of fractions"},
		{text: "(9223372036854775807+1)", err: "too large"},
		{text: "(9223372036854775807*2)", err: "too large"},
		{text: "(2^63)", err: "too large"},
		{text: "()", err: "is not a number"},
		{text: "(1+)", err: "is not a number"},
		{text: "(1 2)", err: ") is missing"},
		{text: "(1)x", err: "makes no sense"},
		{text: strings.Repeat("(", 100) + "1" + strings.Repeat(")", 100), err: "too deep"},
		{text: "(" + strings.Repeat("-", 100) + "1)", err: "too deep"},
	} {
		got, err := calculate(c.text, false)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v and error %v, want an error with %q", c.text, got.f, err, c.err)
			}
			continue
		}
		if err != nil || got.f != c.want || got.int && float64(got.i) != c.want {
			t.Errorf("%s: got %v (%d), %v, want %v", c.text, got.f, got.i, err, c.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	s := &state{env: Env{ReadFile: func(name string) ([]byte, error) { return []byte("from " + name), nil }}}
	for _, c := range []struct {
		text    string
		offsets bool
		want    string
		at      []int
		err     string
	}{
		{text: "0xdeadbeef", want: "\xde\xad\xbe\xef"},
		{text: "0x123", want: "\x01\x23"},
		{text: "0xff0x14", want: "\xff\x14"},
		{text: "258", want: "\x02\x01"},
		{text: "0", want: "\x00"},
		{text: "-1", want: "\xff\xff\xff\xff"},
		{text: `"abcd"`, want: "abcd"},
		{text: `"ab"0x01"c"12`, want: "ab\x01c\x0c"},
		{text: `'file'`, want: "from file"},
		{text: `0xff%o"x"`, offsets: true, want: "\xff\x00\x00\x00\x00\x00\x00\x00\x00x", at: []int{1}},
		{text: `%o`, err: "only verify_pattern"},
		{text: `%x`, offsets: true, err: "only verify_pattern"},
		{text: `"abc`, err: "is missing"},
		{text: `0x`, err: "not a hexadecimal"},
		{text: `abc`, err: "not a number"},
		{text: `4294967296`, err: "not a number of 32 bits"},
		{text: `""`, err: "empty"},
		{text: `"` + strings.Repeat("x", 513) + `"`, err: "longer than 512"},
	} {
		p, err := s.parsePattern(c.text, c.offsets)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %q and error %v, want an error with %q", c.text, p.Bytes, err, c.err)
			}
			continue
		}
		if err != nil || string(p.Bytes) != c.want || len(p.Offsets) != len(c.at) || len(c.at) > 0 && p.Offsets[0] != c.at[0] {
			t.Errorf("%s: got %q at %v, %v, want %q at %v", c.text, p.Bytes, p.Offsets, err, c.want, c.at)
		}
	}
}
