package smbconf

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Print writes what is in force in the layout of Samba's testparm: for each section the
// parameters that it sets to something else than what would hold without it, or, with
// all, every one. Shares say what they say themselves, and with all also what [global]
// says for them.
func (c *Config) Print(w io.Writer, all bool) error {
	if _, err := io.WriteString(w, "# Global parameters\n"); err != nil {
		return err
	}
	for _, s := range c.all() {
		if err := s.Print(w, all); err != nil {
			return err
		}
	}
	return nil
}

// Print writes one section as [Config.Print] does.
func (s *Section) Print(w io.Writer, all bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\n", s.Name)
	keys := make([]*Key, 0, len(Keys))
	for i := range Keys {
		if len(Keys[i].Fixed) == 0 {
			keys = append(keys, &Keys[i])
		}
	}
	slices.SortFunc(keys, func(a, b *Key) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	for _, k := range keys {
		if s.global != nil && !k.Share || k.Name == "path" && s.global == nil {
			continue
		}
		v, _ := s.lookup(k)
		without := k.Default
		if s.global != nil {
			if g, ok := s.global.values[k]; ok {
				without = g.Text
			}
		}
		if all || v.Text != without {
			fmt.Fprintf(&b, "\t%s = %s\n", k.Name, shown(k, v.Text))
		}
	}
	b.WriteString("\n\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Show returns the value of a parameter by any of its names, as Print has it; ok is
// false if it is none that has an effect.
func (s *Section) Show(name string) (v string, ok bool) {
	k, inverse := lookup(name)
	if k == nil || len(k.Fixed) > 0 || s.global != nil && !k.Share {
		return "", false
	}
	value, _ := s.lookup(k)
	if inverse {
		value.Text = map[string]string{"yes": "no", "no": "yes"}[value.Text]
	}
	return shown(k, value.Text), true
}

func shown(k *Key, v string) string {
	switch {
	case k.Kind == Bool && v == "yes":
		return "Yes"
	case k.Kind == Bool:
		return "No"
	case k.Kind == Enum && strings.HasPrefix(v, "smb"):
		return strings.ToUpper(v)
	}
	return v
}
