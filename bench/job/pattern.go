package job

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

func setVerifyPattern(s *state, a arg) error {
	p, err := s.parsePattern(a.text, true)
	if err != nil {
		return err
	}
	s.j.VerifyPattern = p
	if !s.given["verify"] {
		s.j.Verify = VerifyPattern
	}
	return nil
}

func setBufferPattern(s *state, a arg) error {
	p, err := s.parsePattern(a.text, false)
	if err != nil {
		return err
	}
	s.j.BufferPattern = p
	return nil
}

// parsePattern reads what data is filled with: numbers (0xdeadbeef as its bytes in that
// order, 12 as the bytes of the number, the lowest first), "text", 'file', and where
// offsets is true %o, one after the other.
func (s *state) parsePattern(text string, offsets bool) (Pattern, error) {
	var p Pattern
	for text != "" {
		var more []byte
		var err error
		switch text[0] {
		case '"', '\'':
			quoted, rest, ok := strings.Cut(text[1:], text[:1])
			if !ok {
				return p, fmt.Errorf("a %s is missing at the end of %s", text[:1], text)
			}
			if more = []byte(quoted); text[0] == '\'' {
				if more, err = s.env.ReadFile(quoted); err != nil {
					return p, fmt.Errorf("pattern: %w", err)
				}
				more = more[:min(len(more), MaxPattern-len(p.Bytes))]
			}
			text = rest
		case '%':
			if !offsets || !strings.HasPrefix(text, "%o") {
				return p, fmt.Errorf("%q: only verify_pattern has a placeholder, %%o for the offset", text)
			}
			p.Offsets = append(p.Offsets, len(p.Bytes))
			more, text = make([]byte, 8), text[2:]
		default:
			if more, text, err = patternNumber(text); err != nil {
				return p, err
			}
		}
		if len(more) == 0 {
			return p, errors.New("a part of the pattern is empty")
		}
		if p.Bytes = append(p.Bytes, more...); len(p.Bytes) > MaxPattern {
			return p, fmt.Errorf("the pattern is longer than %d bytes", MaxPattern)
		}
	}
	return p, nil
}

// patternNumber reads the number at the front of text. 0x12 0x34 may stand without a
// space in between.
func patternNumber(text string) (b []byte, rest string, err error) {
	if strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0X") {
		n := 2
		for n < len(text) && isHex(text[n]) && !strings.HasPrefix(text[n:], "0x") && !strings.HasPrefix(text[n:], "0X") {
			n++
		}
		digits := text[2:n]
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		if b, err = hex.DecodeString(digits); err != nil || len(b) == 0 {
			return nil, "", fmt.Errorf("%q is not a hexadecimal number", text)
		}
		return b, text[n:], nil
	}
	n := 0
	for n < len(text) && (text[n] >= '0' && text[n] <= '9' || n == 0 && text[n] == '-') {
		if n > 0 && (strings.HasPrefix(text[n:], "0x") || strings.HasPrefix(text[n:], "0X")) {
			break
		}
		n++
	}
	v, err := strconv.ParseInt(text[:n], 10, 64)
	if err != nil || v > math.MaxInt32 || v < math.MinInt32 {
		return nil, "", fmt.Errorf("%q is not a number of 32 bits, text in quotes, or a file in single quotes", text)
	}
	if v == 0 {
		return []byte{0}, text[n:], nil
	}
	for u := uint32(v); u != 0; u >>= 8 {
		b = append(b, byte(u))
	}
	return b, text[n:], nil
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || (c|0x20) >= 'a' && (c|0x20) <= 'f' }
