package smbconf

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the type of a parameter's value.
type Kind uint8

const (
	// String is any text.
	String Kind = iota
	// Bool is yes, true, on and 1, or no, false, off and 0.
	Bool
	// Int is a decimal number within the key's bounds.
	Int
	// Size is a number of octets, with K, M, G or T for powers of 1024.
	Size
	// Octal is permission bits.
	Octal
	// List is words with commas, semicolons or space between them; "two words" in
	// quotation marks are one.
	List
	// Enum is one of the key's words.
	Enum
	// Patterns is a list of names with * and ?, between slashes.
	Patterns
)

func (k Kind) String() string {
	return [...]string{"text", "yes or no", "number", "size", "octal mode", "list", "word", "/patterns/"}[k]
}

// canonical checks a value and gives the one spelling of it by which it is compared and
// shown.
func (k *Key) canonical(v string) (string, error) {
	switch k.Kind {
	case Bool:
		b, err := parseBool(v)
		if err != nil {
			return "", err
		}
		if b {
			return "yes", nil
		}
		return "no", nil
	case Int:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < k.Min || n > k.Max {
			return "", fmt.Errorf("%q is not a number of %d to %d", v, k.Min, k.Max)
		}
		return strconv.FormatInt(n, 10), nil
	case Size:
		n, err := parseSize(v)
		if err != nil || n < k.Min || n > k.Max {
			return "", fmt.Errorf("%q is not a size of %d to %d octets", v, k.Min, k.Max)
		}
		return strconv.FormatInt(n, 10), nil
	case Octal:
		n, err := strconv.ParseUint(v, 8, 32)
		if err != nil || n > 0o7777 {
			return "", fmt.Errorf("%q is not an octal mode of 0 to 7777", v)
		}
		return fmt.Sprintf("0%03o", n), nil
	case Enum:
		if w, ok := k.word(v); ok {
			return w, nil
		}
		words := make([]string, len(k.Words))
		for i, w := range k.Words {
			words[i], _, _ = strings.Cut(w, "|")
		}
		return "", fmt.Errorf("%q is not one of %s", v, strings.Join(words, ", "))
	case List:
		return joinList(splitList(v)), nil
	}
	return unquote(v), nil
}

// unquote takes the quotation marks off that the whole of a text stands in.
func unquote(v string) string {
	if t := strings.Trim(v, `"`); !strings.Contains(t, `"`) {
		return t
	}
	return v
}

// shownOnly reports whether the value is only for people to read.
func (k *Key) shownOnly() bool {
	return k.Name == "comment" || k.Name == "server string" || k.Name == "volume"
}

// word finds the word that v is a spelling of. Each of Words is what it is called,
// then its other names, with | between.
func (k *Key) word(v string) (string, bool) {
	v = strings.ToLower(squeeze(v))
	for _, w := range k.Words {
		names := strings.Split(w, "|")
		for _, n := range names {
			if v == n {
				return names[0], true
			}
		}
	}
	return "", false
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "yes", "true", "on", "1":
		return true, nil
	case "no", "false", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is not yes or no", v)
}

func parseSize(v string) (int64, error) {
	shift := 0
	if v != "" {
		if i := strings.IndexByte("kmgt", v[len(v)-1]|0x20); i >= 0 {
			shift, v = 10*(i+1), v[:len(v)-1]
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > (1<<62)>>shift {
		return 0, strconv.ErrRange
	}
	return n << shift, nil
}

// splitList cuts a list into its words.
func splitList(v string) []string {
	var words []string
	var b strings.Builder
	quoted, any := false, false
	end := func() {
		if any {
			words = append(words, b.String())
		}
		b.Reset()
		any = false
	}
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '"':
			quoted, any = !quoted, true
		case !quoted && strings.IndexByte(" \t,;\r\n", c) >= 0:
			end()
		default:
			b.WriteByte(c)
			any = true
		}
	}
	end()
	return words
}

func joinList(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if out[i] = w; strings.ContainsAny(w, " ,;") || w == "" {
			out[i] = `"` + w + `"`
		}
	}
	return strings.Join(out, " ")
}
