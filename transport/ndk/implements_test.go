package ndk_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndktest"
)

// Every entry of the header has a declaration here that says "Implements: NAME".
func TestEveryHeaderEntryHasAnImplementsLine(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
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
					found[n] = true
				}
			}
		}
	}
	for _, row := range ndktest.Rows() {
		if !found[row.Name] {
			t.Errorf("%s (%s): no declaration says Implements: %s", row.Name, row.Kind, row.Name)
		}
	}
}
