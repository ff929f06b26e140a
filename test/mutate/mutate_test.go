package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every mutation finds its place, so that the table keeps up with the code between
// the runs of all of them.
func TestMutationsFindTheirPlace(t *testing.T) {
	for _, m := range mutations {
		src, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if n := strings.Count(string(src), m.old); n != 1 {
			t.Errorf("%s: %s has %q %d times, want 1", m.name, m.file, m.old, n)
		}
	}
}
