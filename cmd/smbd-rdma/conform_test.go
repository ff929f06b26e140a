package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
)

// The cases that need no timer pass against serve, in every form of output.
func TestConform(t *testing.T) {
	s := newSite(t)
	table := filepath.Join(t.TempDir(), "table.md")
	stdout, stderr := s.do(exitDone, "iwarp", "conform", "//127.0.0.1/data", "--tcp-port", s.port["tcp"],
		"--run", "SD-6|SmbdNegotiate_Negative|BVT_Smb2OverRdmaChannel", "--markdown", table, "--name", "serve <here>")
	for _, want := range []string{
		"pass ", "SmbdDataTransfer_UncompletedMessage (SD-61 SD-79)\n", "BVT_Smb2OverRdmaChannel_ReadLargeFile",
		"\nserve <here>: ", " 0 failed, ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "Credit") && !strings.Contains(stdout, "SD-60") {
		t.Errorf("more than --run asks for:\n%s", stdout)
	}
	if !strings.Contains(stderr, "cases against //127.0.0.1/data at 127.0.0.1:"+s.port["iwarp"]+" by iwarp\n") {
		t.Errorf("standard error: %s", stderr)
	}
	b, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# SMB Direct conformance: serve &lt;here>\n", "| `SmbdDataTransfer_UncompletedMessage` | [MS-SMBD] 3.1.5.8 | SD-61, SD-79 | pass |  |\n",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in the table\n%s", want, b)
		}
	}
	stdout, _ = s.do(exitDone, "iwarp", "conform", "//127.0.0.1/data", "--tcp-port", "0", "--run", "SD-61|SD-85", "--json", "-v")
	var rows []conformResult
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, r := range rows {
		got[r.Case] = r.Outcome
		if len(r.Steps) == 0 || r.Spec == "" || r.Doc == "" {
			t.Errorf("%+v", r)
		}
	}
	if got["SmbdDataTransfer_UncompletedMessage"] != "pass" || got["SmbdCreditMgmt_ConsumeAllCreditServer_Timeout"] != "skip" {
		t.Errorf("outcomes: %v", got)
	}
	if code, log := s.stop(); code != exitDone { // which waits for what it closes
		t.Errorf("serve ended with %d: %s", code, log)
	}
	if left := names(t, s.dir); len(left) > 0 {
		t.Errorf("left in the share: %q", left)
	}
}

// What does not conform fails, and what is not there is said once.
func TestConformFails(t *testing.T) {
	s := newSite(t)
	// In a share that cannot be written to there is no file to move.
	stdout, stderr := s.do(exitFailed, "iwarp", "conform", "//127.0.0.1/ro", "--run", "UncompletedMessage|BVT_Smb2OverRdmaChannel_Read")
	if !strings.Contains(stdout, "FAIL") || !strings.Contains(stdout, "CREATE") || !strings.Contains(stderr, "1 of 3 cases failed\n") {
		t.Errorf("standard output: %s\nstandard error: %s", stdout, stderr)
	}
	stdout, stderr = s.do(exitFailed, "iwarp", "conform", "//127.0.0.1/nothing")
	if stdout != "" || !strings.Contains(stderr, "//127.0.0.1/nothing: TREE_CONNECT: got STATUS_BAD_NETWORK_NAME") {
		t.Errorf("no share: standard output %q, standard error %q", stdout, stderr)
	}
	code, stdout, stderr := execute("conform", "//127.0.0.1/data", "-U", "alice%wrong", "-p", s.port["iwarp"], "--log-level", "error")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "//127.0.0.1/data: SESSION_SETUP: STATUS_LOGON_FAILURE") {
		t.Errorf("wrong password: exit status %d, standard output %q, standard error %q", code, stdout, stderr)
	}
	code, stdout, stderr = execute("conform", "//127.0.0.1/data", "-U", "alice%secret", "-p", s.port["tcp"], "--log-level", "error")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "no SMB Direct at 127.0.0.1:"+s.port["tcp"]+" by iwarp") {
		t.Errorf("exit status %d, standard output %q, standard error %q", code, stdout, stderr)
	}
}

// Cases that were not run are neither failed nor passed, and the command does not
// end well for them.
func TestConformNotRun(t *testing.T) {
	var stdout strings.Builder
	o := conformOutput{app: &app{stdout: &stdout}, f: conformFlags{markdown: filepath.Join(t.TempDir(), "table.md")}}
	c := smbdtest.Case{Name: "Case", Spec: "[MS-SMBD] 3.1.5.8", Rows: []string{"SD-61"}}
	o.result(smbdtest.Result{Case: c, Outcome: smbdtest.Pass, Why: "left out: sealing"})
	o.result(smbdtest.Result{Case: c, Outcome: smbdtest.NotRun, Why: "the server does not answer since Case"})
	err := o.finish("it", "iwarp", 0)
	if want := "0 of 2 cases failed; not run, as the server did not answer: 1"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if s := stdout.String(); !strings.Contains(s, "gone    0.000 s  Case (SD-61)\n                   the server does not answer since Case\n") ||
		!strings.Contains(s, "it: 1 passed, 0 failed, 0 skipped, 1 not run in 0s\n") {
		t.Errorf("standard output: %s", s)
	}
	b, err := os.ReadFile(o.f.markdown)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| SD-61 | pass | left out: sealing |\n", "| SD-61 | gone | the server does not answer since Case |\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
}

func TestConformUsage(t *testing.T) {
	for args, want := range map[string]string{
		"conform":                                      "accepts 1 arg(s)",
		"conform //h/s -U a%b --run (":                 "--run",
		"conform //h/s -U a%b --run NoSuchCase":        "matches no case",
		"conform //h/s -U a%b --transport tcp":         `--transport "tcp"`,
		"conform //h/s/path -U a%b":                    "names more than a share",
		"conform //h -U a%b":                           "names no share",
		"conform //h/s -U a%b --tcp-port 65536":        "--tcp-port 65536",
		"conform //127.0.0.1/s -U a%b --port 65536":    "--port 65536",
		"conform --list //h/s":                         "unknown command",
		"conform --list --run NoSuchCase":              "matches no case",
		"conform //h/s -U a%b --authentication-file x": "exclude each other",
	} {
		code, stdout, stderr := execute(strings.Fields(args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit status %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
	code, stdout, _ := execute("conform", "--list", "--run", "SD-61")
	if code != exitDone || !strings.HasPrefix(stdout, "SmbdDataTransfer_UncompletedMessage\n  [MS-SMBD] 3.1.5.8: SD-61 SD-79\n") {
		t.Errorf("exit status %d: %s", code, stdout)
	}
}
