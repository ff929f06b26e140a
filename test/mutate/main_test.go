package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestTable keeps the mutations up with the code: each changes exactly one place.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutations {
		src, err := os.ReadFile(filepath.Join("..", "..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(src, []byte(m.old)); n != 1 {
			t.Errorf("%s: %s has %q %d times", m.name, m.file, m.old, n)
		}
		if names[m.name] || m.old == m.new || len(m.pkgs) == 0 {
			t.Errorf("%s: twice, or changes nothing, or no package is to notice", m.name)
		}
		names[m.name] = true
	}
}
