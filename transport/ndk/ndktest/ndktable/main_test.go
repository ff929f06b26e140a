package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk/ndktest"
)

// all writes a result file in which every statement has passed but for those of
// except.
func all(t *testing.T, path, column, variant string, except map[string]string) {
	t.Helper()
	b := "# " + column + "\t" + variant + "\n"
	for _, r := range ndktest.Rows() {
		for i := range r.Statements {
			id := ndktest.StatementID(r.Name, i+1)
			line := "pass\t"
			if e, ok := except[id]; ok {
				line = e
			}
			if line != "" {
				b += id + "\t" + line + "\n"
			}
		}
	}
	if err := os.WriteFile(path, []byte(b), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestTable(t *testing.T) {
	for _, tc := range []struct {
		name    string
		except  map[string]string // of the second variant of a
		line    string            // in the table
		problem string
	}{
		{"all passed", nil, "| NDK_FN_SEND | function | 6 | pass 6 | pass 6 |", ""},
		{"one variant offers it", map[string]string{"NDK_FN_BIND/1": "not offered\tno windows"}, "| NDK_FN_BIND | function | 6 | pass 6 | pass 6 |", ""},
		{"a failure counts", map[string]string{"NDK_FN_SEND/2": "fail\t"}, "| NDK_FN_SEND | function | 6 | pass 5; **fail: 2** | pass 6 |", "a: NDK_FN_SEND/2 failed: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			all(t, filepath.Join(dir, "a__1.tsv"), "a", "1", nil)
			all(t, filepath.Join(dir, "a__2.tsv"), "a", "2", tc.except)
			all(t, filepath.Join(dir, "b.tsv"), "b", "", nil)
			text, problems, err := render(dir, []string{"a", "b"})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(text, tc.line+"\n") {
				t.Errorf("no line %q in:\n%s", tc.line, text)
			}
			got := strings.Join(problems, "\n")
			if tc.problem == "" && got != "" || !strings.HasPrefix(got, tc.problem) {
				t.Errorf("problems %q, want %q", got, tc.problem)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	dir := t.TempDir()
	all(t, filepath.Join(dir, "a.tsv"), "a", "", map[string]string{"NDK_FN_BIND/1": "not offered\tno windows", "NDK_FN_BIND/4": "not offered\tno windows"})
	text, _, err := render(dir, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "## Not offered by a\n\n- no windows: NDK_FN_BIND/1, NDK_FN_BIND/4\n"; !strings.Contains(text, want) {
		t.Errorf("no %q in:\n%s", want, text)
	}
}

func TestWhatIsMissingIsAProblem(t *testing.T) {
	dir := t.TempDir()
	all(t, filepath.Join(dir, "a.tsv"), "a", "", map[string]string{"NDK_FN_SEND/6": ""})
	_, problems, err := render(dir, []string{"a"})
	if err != nil || len(problems) != 1 || problems[0] != "a: NDK_FN_SEND/6 has no result" {
		t.Errorf("%q, %v", problems, err)
	}
	if _, _, err := render(dir, []string{"b"}); err == nil {
		t.Error("a file of a column that nobody asked for went unnoticed")
	}
	bad := filepath.Join(dir, "b.tsv")
	for _, text := range []string{"", "# b\t\nNDK_FN_SEND/1\tpass\n", "# b\t\nNDK_FN_SEND/1\tperhaps\t\n"} {
		if err := os.WriteFile(bad, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, _, err := render(dir, []string{"a", "b"}); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
