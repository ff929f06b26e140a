package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"
)

// op is one call. It is complete in itself: whatever of the calls before it is left
// out, it can be made, if only to fail in the same way in both trees.
type op struct {
	Call  string
	Actor int    `json:",omitempty"` // who makes it
	Slot  int    `json:",omitempty"` // the actor's open file
	Slot2 int    `json:",omitempty"`
	Path  string `json:",omitempty"` // beneath the tree's root
	Path2 string `json:",omitempty"` // or a symbolic link's text, or an attribute's name
	Flags int    `json:",omitempty"`
	Mode  uint32 `json:",omitempty"`
	Off   int64  `json:",omitempty"`
	Off2  int64  `json:",omitempty"`
	Len   int64  `json:",omitempty"`
	Seed  uint64 `json:",omitempty"` // of the bytes that are written
}

// MarshalJSON keeps names byte for byte, which need not be UTF-8.
func (o op) MarshalJSON() ([]byte, error) {
	type plain op
	return json.Marshal(struct {
		plain
		Path, Path2 []byte `json:",omitempty"`
	}{plain(o), []byte(o.Path), []byte(o.Path2)})
}

func (o *op) UnmarshalJSON(b []byte) error {
	type plain op
	p := struct {
		plain
		Path, Path2 []byte
	}{}
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	*o = op(p.plain)
	o.Path, o.Path2 = string(p.Path), string(p.Path2)
	return nil
}

func readOps(r io.Reader) ([]op, error) {
	var ops []op
	for d := json.NewDecoder(r); ; {
		var o op
		switch err := d.Decode(&o); {
		case err == io.EOF:
			return ops, nil
		case err != nil:
			return nil, fmt.Errorf("call %d: %w", len(ops), err)
		case calls[o.Call].do == nil:
			return nil, fmt.Errorf("call %d: %q is not known", len(ops), o.Call)
		}
		ops = append(ops, o)
	}
}

func writeOps(w io.Writer, ops []op) error {
	e := json.NewEncoder(w)
	for _, o := range ops {
		if err := e.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// data is what a writing call writes: no zeros, so that a hole is never taken for it.
func (o op) data() []byte {
	p := make([]byte, o.Len)
	r := rand.NewPCG(o.Seed, 1)
	for i := 0; i < len(p); i += 8 {
		v := r.Uint64() | 0x0101010101010101
		for j := i; j < min(i+8, len(p)); j++ {
			p[j] = byte(v)
			v >>= 8
		}
	}
	return p
}

// String is the call as strace would have it, near enough.
func (o op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c %s", 'A'+rune(o.Actor), o.Call)
	c := calls[o.Call]
	if strings.Contains(c.uses, "s") {
		fmt.Fprintf(&b, " #%d", o.Slot)
	}
	if strings.Contains(c.uses, "S") {
		fmt.Fprintf(&b, " #%d", o.Slot2)
	}
	if strings.Contains(c.uses, "p") {
		b.WriteString(" " + shortName(o.Path))
	}
	if strings.Contains(c.uses, "P") {
		b.WriteString(" " + shortName(o.Path2))
	}
	if strings.Contains(c.uses, "f") {
		if c.flags != nil {
			b.WriteString(" " + c.flags(o.Flags))
		} else {
			fmt.Fprintf(&b, " flags=%#x", o.Flags)
		}
	}
	if strings.Contains(c.uses, "m") {
		fmt.Fprintf(&b, " mode=%#o", o.Mode)
	}
	if strings.Contains(c.uses, "o") {
		fmt.Fprintf(&b, " off=%d", o.Off)
	}
	if strings.Contains(c.uses, "O") {
		fmt.Fprintf(&b, " off2=%d", o.Off2)
	}
	if strings.Contains(c.uses, "l") {
		fmt.Fprintf(&b, " len=%d", o.Len)
	}
	return b.String()
}

func shortName(p string) string {
	q := []rune(fmt.Sprintf("%q", p))
	if len(q) > 80 {
		return fmt.Sprintf("%s…%s (%d bytes)", string(q[:30]), string(q[len(q)-20:]), len(p))
	}
	return string(q)
}

// result is what a call came to.
type result struct {
	Errno unix.Errno
	N     int64  // what it returned, or how many bytes
	Bytes []byte // what it read
	Text  string // anything else that has to be the same
}

func failed(err error) result {
	if err == nil {
		return result{}
	}
	var e unix.Errno
	if errors.As(err, &e) {
		return result{Errno: e}
	}
	return result{Errno: unix.EIO, Text: err.Error()}
}

func (r result) equal(s result) bool {
	return r.Errno == s.Errno && r.N == s.N && r.Text == s.Text && bytes.Equal(r.Bytes, s.Bytes)
}

func (r result) String() string {
	var b strings.Builder
	if r.Errno != 0 {
		b.WriteString(unix.ErrnoName(r.Errno))
	} else {
		fmt.Fprintf(&b, "%d", r.N)
	}
	if len(r.Bytes) > 0 {
		n := min(len(r.Bytes), 16)
		fmt.Fprintf(&b, " [% x…]", r.Bytes[:n])
	}
	if r.Text != "" {
		b.WriteString(" " + r.Text)
	}
	return b.String()
}

// difference says how two results differ, in few words for bytes and long texts.
func difference(a, b result) string {
	if a.Errno == b.Errno && len(a.Bytes) == len(b.Bytes) && !bytes.Equal(a.Bytes, b.Bytes) {
		for i := range a.Bytes {
			if a.Bytes[i] != b.Bytes[i] {
				e := i
				for e < len(a.Bytes) && a.Bytes[e] != b.Bytes[e] {
					e++
				}
				return fmt.Sprintf("bytes %d to %d of %d differ: % x… and % x…", i, e, len(a.Bytes), a.Bytes[i:min(e, i+16)], b.Bytes[i:min(e, i+16)])
			}
		}
	}
	if strings.Count(a.Text, "\n") > 1 || strings.Count(b.Text, "\n") > 1 {
		return "\n" + lines(a.Text, b.Text)
	}
	return fmt.Sprintf("%v and %v", a, b)
}

// lines are those that only one of two sorted texts has.
func lines(a, b string) string {
	in := func(s string) map[string]bool {
		m := map[string]bool{}
		for l := range strings.SplitSeq(s, "\n") {
			m[l] = true
		}
		return m
	}
	ma, mb := in(a), in(b)
	var out strings.Builder
	for l := range strings.SplitSeq(a, "\n") {
		if !mb[l] {
			fmt.Fprintf(&out, "  a only: %s\n", l)
		}
	}
	for l := range strings.SplitSeq(b, "\n") {
		if !ma[l] {
			fmt.Fprintf(&out, "  b only: %s\n", l)
		}
	}
	return out.String()
}
