//go:build peers

package peers

import (
	"strings"
	"testing"
)

// Samba's rpcclient asks srvsvc over the server's pipes.
func TestRpcclient(t *testing.T) {
	s := startBinServer(t, t.TempDir())
	for _, c := range []struct{ command, want string }{
		{"srvinfo", "server type"},
		{"netshareenumall", "netname: test"},
		{"netsharegetinfo test", "netname: test"},
	} {
		out := command(t, "", "rpcclient", "-p", port(t, s.tcp), "-U", "tester%secret", "127.0.0.1", "-c", c.command)
		if !strings.Contains(out, c.want) {
			t.Errorf("%s: no %q in\n%s", c.command, c.want, out)
		}
	}
}
