package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The last line of a cell counts, and everything outside of the marks stays.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	page := write("page.md", "# A\n<!-- matrix-server -->\nold\n<!-- end of matrix-server -->\nmid\n"+
		"<!-- matrix-client -->\n<!-- end of matrix-client -->\n<!-- quirks -->\n<!-- end of quirks -->\n"+
		"<!-- commands -->\n<!-- end of commands -->\n# Z\n")
	tsv := write("a.tsv", "server-rxe\tmix\tFAIL\t1 MiB\tfio a\nserver-rxe\tx=1\tpass\t2 MiB\tfio b|c\nserver-rxe\tmix\tpass\t3 MiB\tfio d\n")
	write("q.tsv", "quirks\ttoken\tFAIL\tnothing\tpeer\n")
	if err := run(dir, page); err != nil {
		t.Fatal(err)
	}
	want := "# A\n<!-- matrix-server -->\n" +
		"| | verbs, rxe | verbs, siw | iwarp, siw |\n| --- | --- | --- | --- |\n" +
		"| mix: random mix of 4 KiB to 1 MiB, 4 jobs, crc32c | pass: 3 MiB | not run | not run |\n" +
		"| `x=1` | pass: 2 MiB | not run | not run |\n" +
		"<!-- end of matrix-server -->\nmid\n" +
		"<!-- matrix-client -->\n| | verbs, rxe | verbs, siw | iwarp, siw |\n| --- | --- | --- | --- |\n<!-- end of matrix-client -->\n" +
		"<!-- quirks -->\n| experiment | as expected | seen | command |\n| --- | --- | --- | --- |\n| token | **no** | nothing | `peer` |\n<!-- end of quirks -->\n" +
		"<!-- commands -->\n| column | row | command |\n| --- | --- | --- |\n| server-rxe | mix | `fio d` |\n| server-rxe | x=1 | `fio b\\|c` |\n<!-- end of commands -->\n# Z\n"
	if got, _ := os.ReadFile(page); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, _ := os.ReadFile(tsv); string(got) != "server-rxe\tmix\tpass\t3 MiB\tfio d\nserver-rxe\tx=1\tpass\t2 MiB\tfio b|c\n" {
		t.Errorf("results are now\n%s", got)
	}
	for name, bad := range map[string]string{"a page without marks": "# A\n", "a mark that does not end": "<!-- matrix-server -->\n"} {
		if err := run(dir, write("bad.md", bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	write("b.tsv", "three\tfields\tonly\n")
	if err := run(dir, page); err == nil {
		t.Error("a line of three fields: no error")
	}
}
