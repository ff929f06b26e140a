package smbconf

import (
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:generate go test -run TestReference -update

//go:embed reference.md
var referenceIntro string

// Reference is the reference of all parameters in Markdown, docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceIntro)
	for _, group := range Groups {
		fmt.Fprintf(&b, "\n## %s\n\n", group)
		if group == gFixed {
			b.WriteString("Another value than these is a warning.\n\n| parameter | value | what is so |\n| --- | --- | --- |\n")
		} else {
			b.WriteString("| parameter | in | value | default | meaning |\n| --- | --- | --- | --- | --- |\n")
		}
		for i := range Keys {
			if k := &Keys[i]; k.Group == group {
				k.row(&b)
			}
		}
	}
	b.WriteString("\n## Samba's VFS modules in `vfs objects`\n\n| module | here |\n| --- | --- |\n")
	names := make([]string, 0, len(modules))
	for n := range modules {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(&b, "| `%s` | %s |\n", n, cmp.Or(modules[n], "what it does is built in, or is not needed"))
	}
	b.WriteString("\n## Samba's parameters without effect\n\nNobody misses anything; they are notes of `testparm -v`.\n")
	for _, g := range meaningless {
		fmt.Fprintf(&b, "\n* Because %s: %s.\n", g.reason, codes(g.names))
	}
	fmt.Fprintf(&b, "\n## Samba's parameters that are not supported\n\nThey are warnings: %s.\n", codes(missing))
	return b.String()
}

// codes are the names of a list as code.
func codes(list string) string {
	var names []string
	for _, n := range strings.Split(list, ",") {
		names = append(names, "`"+squeeze(n)+"`")
	}
	return strings.Join(names, ", ")
}

// row is the key in its chapter's table.
func (k *Key) row(b *strings.Builder) {
	name := "`" + k.Name + "`"
	for _, s := range k.Synonyms {
		name += ", `" + s + "`"
	}
	for _, s := range k.Inverse {
		name += ", not `" + s + "`"
	}
	if len(k.Fixed) > 0 {
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, strings.Join(k.Fixed, ", "), k.Text)
		return
	}
	in, value := "global", k.Kind.String()
	if k.Share {
		in = "share"
	}
	switch k.Kind {
	case Enum:
		var words []string
		for _, w := range k.Words {
			first, _, _ := strings.Cut(w, "|")
			words = append(words, shown(k, first))
		}
		value = strings.Join(words, ", ")
	case Int, Size:
		value = fmt.Sprintf("%s, %d to %d", value, k.Min, k.Max)
	}
	def := shown(k, k.Default)
	if def == "" {
		def = "-"
	}
	text := k.Text
	if k.Differs != "" {
		text += " *Unlike Samba:* " + k.Differs
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, in, value, def, strings.ReplaceAll(text, "|", `\|`))
}
