package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// put and get that must sign, or encrypt, still move every byte by RDMA.
func TestProtectedCommandsUseRDMA(t *testing.T) {
	s := newSite(t)
	big := strings.Repeat("0123456789abcdef", 3<<20/16) + "end"
	for _, flags := range [][]string{{"--signing", "required"}, {"--encrypt"}, {"--signing", "required", "--encrypt"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			s := &site{t: t, dir: s.dir, port: s.port}
			name := strings.Join(flags, "")
			local, root := t.TempDir(), "//127.0.0.1/data/"+name
			writeFile(t, filepath.Join(local, "tree", "big"), big)
			writeFile(t, filepath.Join(local, "tree", "sub", "small"), "small")
			want := int64(len(big) + 5)
			for _, cmd := range [][]string{
				{"put", "-r", "--json", "--rdma-threshold", "1", filepath.Join(local, "tree"), root},
				{"get", "-r", "--json", "--rdma-threshold", "1", root, filepath.Join(local, "back")},
			} {
				out, _ := s.do(exitDone, "iwarp", slices.Concat(cmd[:1], flags, cmd[1:])...)
				var r report
				if err := json.Unmarshal([]byte(out), &r); err != nil || r.Files != 2 || r.Bytes != want || r.RDMABytes != uint64(want) || r.Provider != "iwarp" {
					t.Errorf("%s: %v, %s", cmd[0], err, out)
				}
			}
			wantFile(t, filepath.Join(s.dir, name, "big"), big)
			wantFile(t, filepath.Join(local, "back", "big"), big)
			wantFile(t, filepath.Join(local, "back", "sub", "small"), "small")
		})
	}
}
