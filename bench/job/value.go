package job

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Numbers are stricter than fio's, which takes what it understands of 1.5g (1) or 10sec
// (10 µs) and runs: here the whole word must be a number.

var errNoNumber = errors.New("a number is missing")

// units are the powers of 1024 or 1000 that a letter stands for. Ki is k, as in fio, to which
// KiB is something else.
var units = map[string]int{"": 0, "b": 0, "k": 1, "kb": 1, "ki": 1, "m": 2, "mb": 2, "mi": 2, "g": 3, "gb": 3, "gi": 3, "t": 4, "tb": 4, "ti": 4, "p": 5, "pb": 5, "pi": 5}

// parseBytes reads a number with an optional unit. Where base is 1024, k is 1024 and kib
// is 1000; where it is 1000, k is 1000 and kib is 1024, as in fio. percent says that the
// number is followed by %.
func parseBytes(s string, base int) (n uint64, percent bool, err error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, false, errNoNumber
	}
	if s[0] == '(' {
		v, err := calculate(s, false)
		if err != nil {
			return 0, false, err
		}
		n, err := v.whole()
		return n, false, err
	}
	digits, unit := cutDigits(s)
	if n, err = strconv.ParseUint(digits, 0, 64); err != nil || strings.Contains(digits, "_") {
		return 0, false, badNumber(s)
	}
	unit = strings.ToLower(strings.TrimSpace(unit))
	if unit == "%" {
		return n, true, nil
	}
	mult := uint64(base)
	if l := len(unit); l == 3 && strings.HasSuffix(unit, "ib") {
		unit, mult = unit[:1], uint64(2024-base)
	}
	power, ok := units[unit]
	if !ok {
		return 0, false, badNumber(s)
	}
	for range power {
		hi, lo := bits.Mul64(n, mult)
		if hi != 0 {
			return 0, false, fmt.Errorf("%s is more than 2^64-1", s)
		}
		n = lo
	}
	return n, false, nil
}

func badNumber(s string) error {
	if strings.Contains(s, ".") {
		return fmt.Errorf("%q is not a whole number; fractions are written like (1.5*1g)", s)
	}
	return fmt.Errorf("%q is not a number, or not one with a unit (k, m, g, t, p, kib ..., %%)", s)
}

// cutDigits splits a number from what follows it. Hexadecimal numbers have no units.
func cutDigits(s string) (digits, rest string) {
	if len(s) > 1 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		return strings.ToLower(s), ""
	}
	i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if i < 0 {
		i = len(s)
	}
	digits = strings.TrimLeft(s[:i], "0") // 010 is ten
	if digits == "" && i > 0 {
		digits = "0"
	}
	return digits, s[i:]
}

// parseNumber reads a number of bytes, or of anything, in lo to hi.
func parseNumber(s string, base int, lo, hi uint64) (uint64, error) {
	n, percent, err := parseBytes(s, base)
	switch {
	case err != nil:
		return 0, err
	case percent:
		return 0, fmt.Errorf("%q: a percentage has no meaning for it", s)
	case n < lo || n > hi:
		return 0, fmt.Errorf("%d is not in %d to %d", n, lo, hi)
	}
	return n, nil
}

// parseSigned reads a number that may be negative.
func parseSigned(s string, base int) (int64, error) {
	neg := strings.HasPrefix(s, "-")
	n, err := parseNumber(strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+"), base, 0, math.MaxInt64)
	if neg {
		return -int64(n), err
	}
	return int64(n), err
}

// parseAmount reads bytes, or per cent of a file.
func parseAmount(s string, base int) (Amount, error) {
	n, percent, err := parseBytes(s, base)
	switch {
	case err != nil:
		if strings.HasSuffix(s, "z") {
			return Amount{}, errors.New("zones (z) are of zoned block devices, which are not measured here")
		}
		return Amount{}, err
	case percent && n > 100:
		return Amount{}, fmt.Errorf("%s is more than 100%%", s)
	case percent:
		return Amount{Percent: uint8(n)}, nil
	case n > math.MaxInt64:
		return Amount{}, fmt.Errorf("%s is more than 2^63-1", s)
	}
	return Amount{Bytes: n}, nil
}

var timeUnits = map[string]time.Duration{
	"us": time.Microsecond, "usec": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

// parseTime reads a time; unit is that of a bare number.
func parseTime(s string, unit time.Duration) (time.Duration, error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, errNoNumber
	}
	if s[0] == '(' {
		v, err := calculate(s, true)
		if err != nil {
			return 0, err
		}
		d := v.f * float64(unit)
		if v.units { // which are of microseconds
			d = v.f * float64(time.Microsecond)
		}
		if d < 0 || d > math.MaxInt64/2 {
			return 0, fmt.Errorf("%s is negative or too long", s)
		}
		return time.Duration(math.Round(d)), nil
	}
	digits, word := cutDigits(s)
	n, err := strconv.ParseUint(digits, 0, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time; write 100us, 20ms, 30s, 5m, 1h or 1d", s)
	}
	if word = strings.ToLower(strings.TrimSpace(word)); word != "" {
		var ok bool
		if unit, ok = timeUnits[word]; !ok {
			return 0, fmt.Errorf("%q has no unit of time; write 100us, 20ms, 30s, 5m, 1h or 1d", s)
		}
	}
	if n > uint64(math.MaxInt64/2/unit) {
		return 0, fmt.Errorf("%s is too long", s)
	}
	return time.Duration(n) * unit, nil
}

// parseFloat reads one entry of a list, in lo to hi.
func parseFloat(s string, lo, hi float64) (float64, error) {
	s = strings.TrimSpace(s)
	var f float64
	var err error
	if strings.HasPrefix(s, "(") {
		var v value
		v, err = calculate(s, false)
		f = v.f
	} else if f, err = strconv.ParseFloat(s, 64); err != nil {
		err = fmt.Errorf("%q is not a number", s)
	}
	if err != nil {
		return 0, err
	}
	if !(f >= lo && f <= hi) {
		return 0, fmt.Errorf("%g is not in %g to %g", f, lo, hi)
	}
	return f, nil
}

// parseBool reads 0 or 1.
func parseBool(s string) (bool, error) {
	switch strings.TrimSpace(s) {
	case "0":
		return false, nil
	case "1":
		return true, nil
	}
	return false, fmt.Errorf("%q is not 0 or 1", s)
}

// eachDirection calls set with the parts of a list like 4k,8k: the first is for reads,
// the second for writes; a third, for trims, has no meaning here. One alone is for all.
// An empty part leaves what is there.
func eachDirection(s string, set func(d Direction, s string) error) error {
	parts := strings.Split(s, ",")
	if len(parts) > Directions+1 {
		return fmt.Errorf("%q has more than three parts (reads, writes, trims)", s)
	}
	if len(parts) == 1 {
		parts = []string{s, s}
	}
	for d := range min(len(parts), Directions) {
		if part := strings.TrimSpace(parts[d]); part != "" {
			if err := set(Direction(d), part); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseRange reads LOW-HIGH, or one number, which is both. A part may be (an expression).
func parseRange(s string) (lo, hi string) {
	depth := 0
	for i, r := range s {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case (r == '-' || r == ':') && depth == 0 && i > 0:
			return s[:i], s[i+1:]
		}
	}
	return s, s
}
