package ndk_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every entry of the header has a declaration here that says "Implements: NAME".
func TestEveryHeaderEntryHasAnImplementsLine(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	name := regexp.MustCompile(`NDK_[A-Z0-9_]+`)
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if _, after, ok := strings.Cut(line, "Implements: "); ok {
				for _, n := range name.FindAllString(after, -1) {
					found[n] = f
				}
			}
		}
	}
	rows, err := os.ReadFile("testdata/ndk-names.tsv")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(rows)) {
		row, kind, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || row == "name" {
			continue
		}
		n++
		if found[row] == "" {
			t.Errorf("%s (%s): no declaration says Implements: %s", row, kind, row)
		}
	}
	if n < 80 {
		t.Fatalf("only %d rows read from testdata/ndk-names.tsv", n)
	}
}
