package main

import (
	"log/slog"
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
				if r := summary(t, out); r.Files != 2 || r.Bytes != want || r.RDMABytes != uint64(want) || r.Provider != "iwarp" {
					t.Errorf("%s: %s", cmd[0], out)
				}
			}
			wantFile(t, filepath.Join(s.dir, name, "big"), big)
			wantFile(t, filepath.Join(local, "back", "big"), big)
			wantFile(t, filepath.Join(local, "back", "sub", "small"), "small")
		})
	}
}

// Clients that have to encrypt, or are asked to, have their data in messages; which of
// a server's settings say so.
func TestInlineData(t *testing.T) {
	for _, tc := range []struct {
		name, global, share, flag string
		want                      bool
	}{
		{name: "nothing said"},
		{name: "offered", global: "server smb encrypt = if_required"},
		{name: "off", global: "server smb encrypt = off"},
		{name: "desired", global: "server smb encrypt = desired", want: true},
		{name: "required", global: "server smb encrypt = required", want: true},
		{name: "required by a flag", flag: "required", want: true},
		{name: "required for a share", share: "server smb encrypt = required", want: true},
		{name: "desired for a share", share: "server smb encrypt = desired", want: true},
		{name: "signing", global: "server signing = mandatory"},
	} {
		name := filepath.Join(t.TempDir(), "smb.conf")
		writeFile(t, name, "[global]\n"+tc.global+"\n[plain]\npath = /tmp\n[data]\npath = /tmp\n"+tc.share+"\n")
		a := &app{log: slog.New(slog.DiscardHandler)}
		s, err := a.settings(serveFlags{config: name, encrypt: tc.flag, users: []string{"a%b"}})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if s.inline != tc.want {
			t.Errorf("%s: %v", tc.name, s.inline)
		} else {
			// It stays as it is through reloads, each of which says so.
			plain := &settings{}
			for range 2 {
				if later := restartOnly(plain, s); tc.want != slices.ContainsFunc(later, func(k string) bool { return strings.Contains(k, "SMB Direct") }) {
					t.Errorf("%s: named after a reload: %q", tc.name, later)
				}
				plain = s.withRestartOnly(plain)
			}
		}
	}
}
