//go:build peers

package peers

import (
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What smbd-rdma doctor says of Samba, which has SMB over TCP only, and that it leaves
// nothing behind.
func TestDoctorOfSamba(t *testing.T) {
	for _, c := range []struct {
		name, extra, share, user string
		outcomes                 map[string]string
	}{
		{"a share", "", "test", sambaUser + "%" + sambaPassword,
			map[string]string{"dialect": "ok", "logon": "ok", "share": "ok", "io.tcp": "ok", "io.rdma": "not possible"}},
		{"signing required", "server signing = mandatory", "test", sambaUser + "%" + sambaPassword, map[string]string{"logon": "ok", "io.tcp": "ok"}},
		{"an encrypted share", "", "sealed", sambaUser + "%" + sambaPassword, map[string]string{"share": "ok", "io.tcp": "ok"}},
		{"a guest", "", "test", "stranger%x", map[string]string{"logon": "ok", "share": "ok"}},
		{"a wrong password", "", "test", sambaUser + "%wrong", map[string]string{"dialect": "ok", "logon": "problem"}},
		{"no such share", "", "absent", sambaUser + "%" + sambaPassword, map[string]string{"logon": "ok", "share": "problem"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startSamba(t, c.extra)
			_, port, err := net.SplitHostPort(s.addr)
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, closed, _ := net.SplitHostPort(l.Addr().String())
			l.Close()
			args := []string{"doctor", "//127.0.0.1/" + c.share, "-U", c.user, "-p", port, "--rdma-port", closed}
			page, err := exec.Command(binary(t), args...).Output()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
				t.Fatalf("%v\n%s", err, page)
			}
			flat := strings.Join(strings.Fields(string(page)), " ")
			for _, want := range []string{"RDMA is NOT used for //127.0.0.1/" + c.share + ": because ports: nobody listens on TCP port " + closed, "To change that: start SMB Direct"} {
				if !strings.Contains(flat, want) {
					t.Errorf("the page does not say %q:\n%s", want, page)
				}
			}
			out, err := exec.Command(binary(t), append(args, "--json")...).Output()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
				t.Fatalf("--json: %v", err)
			}
			var d struct {
				Used      bool   `json:"rdma_used"`
				DecidedBy string `json:"decided_by"`
				Steps     []struct{ ID, Outcome, Summary string }
			}
			if err := json.Unmarshal(out, &d); err != nil || d.Used || d.DecidedBy != "ports" {
				t.Fatalf("%v, %+v", err, d)
			}
			for _, st := range d.Steps {
				if want := c.outcomes[st.ID]; want != "" && want != st.Outcome {
					t.Errorf("%s: %s, want %s: %s", st.ID, st.Outcome, want, st.Summary)
				}
			}
			if left, err := filepath.Glob(filepath.Join(s.dir, "*", "smbd-rdma-doctor-*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
