package job

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// value is what an expression comes to.
type value struct {
	f     float64
	i     int64 // if whole
	int   bool  // i counts: no fraction took part
	units bool  // a unit took part
}

// whole is v as a number of bytes: fractions are cut off.
func (v value) whole() (uint64, error) {
	switch {
	case v.int && v.i >= 0:
		return uint64(v.i), nil
	case v.f < 0 || v.int:
		return 0, errors.New("the expression is negative")
	case v.f >= math.MaxInt64:
		return 0, errors.New("the expression is more than 2^63-1")
	}
	return uint64(v.f), nil
}

func integer64(i int64) value     { return value{f: float64(i), i: i, int: true} }
func floating(f float64) value    { return value{f: f} }
func (v value) with(u bool) value { v.units = u; return v }

// Precedences, of fio's grammar: a unit binds tighter than + and looser than *, so that
// 8/2k is 4096.
const (
	precSum  = 1
	precUnit = 2
	precMul  = 3
	precPow  = 4
	precMod  = 5
	precNeg  = 6
)

// maxNesting of parentheses.
const maxNesting = 64

// expression is the state of calculate.
type expression struct {
	s     string
	time  bool
	depth int
}

// calculate reads an arithmetic expression as job files may have in parentheses: numbers,
// + - * / % ^ and units of sizes, or if time is true of times, in microseconds.
func calculate(s string, time bool) (value, error) {
	e := expression{s: s, time: time}
	v, err := e.binary(precSum)
	if err != nil {
		return value{}, fmt.Errorf("expression %s: %w", s, err)
	}
	if e.skip(); e.s != "" {
		return value{}, fmt.Errorf("expression %s: %q makes no sense there", s, e.s)
	}
	if math.IsNaN(v.f) || math.IsInf(v.f, 0) {
		return value{}, fmt.Errorf("expression %s: too large", s)
	}
	return v, nil
}

func (e *expression) skip() { e.s = strings.TrimLeft(e.s, " \t") }

// binary reads an operand and what binds to it at least as tightly as least.
func (e *expression) binary(least int) (value, error) {
	left, err := e.operand()
	for err == nil {
		e.skip()
		if e.s == "" {
			return left, nil
		}
		op := e.s[0]
		prec := map[byte]int{'+': precSum, '-': precSum, '*': precMul, '/': precMul, '^': precPow, '%': precMod}[op]
		if prec == 0 {
			unit, length := e.unit()
			if length == 0 || precUnit < least {
				return left, nil
			}
			e.s = e.s[length:]
			if left, err = combine('*', left, unit); err == nil {
				left = left.with(true)
			}
			continue
		}
		if prec < least {
			return left, nil
		}
		e.s = e.s[1:]
		next := prec + 1
		if op == '^' { // binds to the right
			next = prec
		}
		var right value
		if right, err = e.binary(next); err == nil {
			left, err = combine(op, left, right)
		}
	}
	return value{}, err
}

func (e *expression) operand() (value, error) {
	if e.depth++; e.depth > maxNesting {
		return value{}, errors.New("too deep")
	}
	defer func() { e.depth-- }()
	e.skip()
	switch {
	case e.s == "":
		return value{}, errors.New("it ends too early")
	case e.s[0] == '-':
		e.s = e.s[1:]
		v, err := e.binary(precNeg)
		v.f, v.i = -v.f, -v.i
		return v, err
	case e.s[0] == '(':
		e.s = e.s[1:]
		v, err := e.binary(precSum)
		if err != nil {
			return v, err
		}
		if e.skip(); e.s == "" || e.s[0] != ')' {
			return v, errors.New(") is missing")
		}
		e.s = e.s[1:]
		return v, nil
	}
	return e.number()
}

func (e *expression) number() (value, error) {
	hex := len(e.s) > 1 && e.s[0] == '0' && (e.s[1]|0x20) == 'x'
	n := 0
	if hex {
		n = 2
	}
	for n < len(e.s) {
		c := e.s[n]
		if c >= '0' && c <= '9' || c == '.' && !hex || hex && (c|0x20) >= 'a' && (c|0x20) <= 'f' {
			n++
			continue
		}
		if !hex && (c|0x20) == 'e' && n > 0 && n+1 < len(e.s) && strings.IndexByte("0123456789+-", e.s[n+1]) >= 0 {
			n += 2 // an exponent
			continue
		}
		break
	}
	word := e.s[:n]
	e.s = e.s[n:]
	if i, err := strconv.ParseInt(strings.ToLower(word), 0, 64); err == nil && (len(word) < 2 || word[0] != '0' || (word[1]|0x20) == 'x') {
		return integer64(i), nil
	}
	if f, err := strconv.ParseFloat(word, 64); err == nil && !strings.ContainsAny(word, "xX") {
		return floating(f), nil
	}
	if word == "" {
		word = e.s[:1]
	}
	return value{}, fmt.Errorf("%q is not a number", word)
}

// unit is what the letters at the front stand for, and how many they are; 0: no unit.
func (e *expression) unit() (value, int) {
	n := 0
	for n < len(e.s) && (e.s[n]|0x20) >= 'a' && (e.s[n]|0x20) <= 'z' {
		n++
	}
	word := strings.ToLower(e.s[:n])
	if e.time {
		if d, ok := timeUnits[word]; ok {
			return integer64(d.Microseconds()), n
		}
		return value{}, 0
	}
	base := int64(1024)
	if len(word) == 3 && strings.HasSuffix(word, "ib") {
		word, base = word[:1], 1000
	}
	power, ok := units[word]
	if !ok || word == "" || word == "b" {
		return value{}, 0
	}
	v := int64(1)
	for range power {
		v *= base
	}
	return integer64(v), n
}

var errTooLarge = errors.New("a value is too large")

// combine is a op b, of whole numbers as long as both are.
func combine(op byte, a, b value) (value, error) {
	units := a.units || b.units
	if !a.int || !b.int {
		switch op {
		case '+':
			return floating(a.f + b.f).with(units), nil
		case '-':
			return floating(a.f - b.f).with(units), nil
		case '*':
			return floating(a.f * b.f).with(units), nil
		case '/':
			if b.f == 0 {
				return value{}, errors.New("division by zero")
			}
			return floating(a.f / b.f).with(units), nil
		case '^':
			return floating(math.Pow(a.f, b.f)).with(units), nil
		}
		return value{}, errors.New("% of fractions")
	}
	var r int64
	switch op {
	case '+':
		if r = a.i + b.i; (r > a.i) != (b.i > 0) {
			return value{}, errTooLarge
		}
	case '-':
		if r = a.i - b.i; (r < a.i) != (b.i > 0) {
			return value{}, errTooLarge
		}
	case '*':
		if r = a.i * b.i; a.i != 0 && (r/a.i != b.i || a.i == -1 && b.i == math.MinInt64) {
			return value{}, errTooLarge
		}
	case '/', '%':
		if b.i == 0 {
			return value{}, errors.New("division by zero")
		}
		if r = a.i % b.i; op == '/' {
			r = a.i / b.i
		}
	case '^':
		p := math.Pow(float64(a.i), float64(b.i))
		if b.i < 0 {
			return floating(p).with(units), nil
		}
		if math.Abs(p) >= math.MaxInt64 {
			return value{}, errTooLarge
		}
		r = 1
		switch a.i {
		case 0, 1, -1:
			r = int64(p)
		default: // fewer than 64 times, as p fits
			for range b.i {
				r *= a.i
			}
		}
	}
	return integer64(r).with(units), nil
}
