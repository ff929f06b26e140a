package job

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// The setters of most options: how the value reads, and where it goes.

const (
	maxInt   = math.MaxUint32 // of fio's integers
	maxBytes = math.MaxInt64
)

func bytesTo(field func(*Job) *uint64, lo, hi uint64) setter {
	return func(s *state, a arg) error {
		n, err := parseNumber(a.text, s.j.KBBase, lo, hi)
		if err == nil {
			*field(&s.j) = n
		}
		return err
	}
}

func intTo(field func(*Job) *int, lo, hi int) setter {
	return func(s *state, a arg) error {
		n, err := parseNumber(a.text, s.j.KBBase, uint64(lo), uint64(hi))
		if err == nil {
			*field(&s.j) = int(n)
		}
		return err
	}
}

func amountTo(field func(*Job) *Amount) setter {
	return func(s *state, a arg) error {
		v, err := parseAmount(a.text, s.j.KBBase)
		if err == nil {
			*field(&s.j) = v
		}
		return err
	}
}

func boolTo(field func(*Job) *bool) setter {
	return func(s *state, a arg) error {
		v, err := parseBool(a.text)
		if err == nil {
			*field(&s.j) = v
		}
		return err
	}
}

// flagTo is of options that need no value; 0 is no.
func flagTo(field func(*Job) *bool) setter {
	return func(s *state, a arg) error {
		if a.bare {
			*field(&s.j) = true
			return nil
		}
		return boolTo(field)(s, a)
	}
}

func timeTo(field func(*Job) *time.Duration, unit time.Duration) setter {
	return func(s *state, a arg) error {
		d, err := parseTime(a.text, unit)
		if err == nil {
			*field(&s.j) = d
		}
		return err
	}
}

// millisTo is of times that are plain numbers of milliseconds.
func millisTo(field func(*Job) *time.Duration) setter {
	return func(s *state, a arg) error {
		n, err := parseNumber(a.text, s.j.KBBase, 0, maxInt)
		if err == nil {
			*field(&s.j) = time.Duration(n) * time.Millisecond
		}
		return err
	}
}

func textTo(field func(*Job) *string) setter {
	return func(s *state, a arg) error {
		*field(&s.j) = a.text
		return nil
	}
}

func perDirection(field func(*Job) *[Directions]uint64, lo, hi uint64) setter {
	return func(s *state, a arg) error {
		return eachDirection(a.text, func(d Direction, t string) error {
			n, err := parseNumber(t, s.j.KBBase, lo, hi)
			if err == nil {
				field(&s.j)[d] = n
			}
			return err
		})
	}
}

// wordTo is of options whose value is one of some words.
func wordTo[T any](field func(*Job) *T, words map[string]T) setter {
	return func(s *state, a arg) error {
		v, ok := words[a.text]
		if !ok {
			return notAWord(a.text, slices.Sorted(maps.Keys(words)))
		}
		*field(&s.j) = v
		return nil
	}
}

func notAWord(s string, words []string) error {
	return fmt.Errorf("%q is not one of %s", s, strings.Join(words, ", "))
}

// cutSuffix splits word:rest.
func cutSuffix(s string) (word, rest string, has bool) { return strings.Cut(s, ":") }
