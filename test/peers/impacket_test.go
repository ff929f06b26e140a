//go:build peers

package peers

import (
	"os"
	"os/exec"
	"testing"
)

// TestImpacketDay has impacket's client do a day's work in each dialect that it signs
// rightly (in Debian 12 not 3.1.1, to which Samba too answers ACCESS_DENIED): see
// testdata/impacket_day.py.
func TestImpacketDay(t *testing.T) {
	python := "/usr/bin/python3" // the one that Debian's python3-impacket is for
	if exec.Command(python, "-c", "import impacket").Run() != nil {
		t.Skip("python3-impacket is not installed")
	}
	for _, dialect := range []string{"0x0202", "0x0210", "0x0300"} {
		t.Run(dialect, func(t *testing.T) {
			port := serveTCP(t, t.TempDir())
			cmd := exec.CommandContext(t.Context(), python, "testdata/impacket_day.py", port, dialect)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
