package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/smbdirect/smbdtest"
)

const module = `"Package":"github.com/smbd-rdma/smbd-rdma/`

func TestRender(t *testing.T) {
	rows := []smbdtest.Row{
		{ID: "SD-01", Section: "2.2", Acceptor: true, Initiator: true, Requirement: "a|b"},
		{ID: "SD-02", Section: "2.2.1", Initiator: true},
		{ID: "SD-100", Section: "3.1.4.3", Acceptor: true, Initiator: true},
		{ID: "SM-11", Section: "MS-SMB2 3.3.5.12", Acceptor: true},
		{ID: "SM-12", Section: "MS-SMB2 3.3.5.12", Acceptor: true},
	}
	in := strings.Join([]string{
		`# not json`,
		`{"Action":"pass",` + module + `smbdirect/smbdtest","Test":"TestConformance/sim/acceptor/SD-01/A"}`,
		`{"Action":"pass",` + module + `smbdirect/smbdtest","Test":"TestConformance/iwarp/acceptor/SD-01/A"}`,
		`{"Action":"pass",` + module + `smbdirect/smbdtest","Test":"TestConformance/iwarp/acceptor/SD-01"}`,
		`{"Action":"pass",` + module + `smbdirect/core","Test":"TestRows/SD-02_short"}`,
		`{"Action":"pass",` + module + `smbdirect","Test":"TestSD100Rights"}`,
		`{"Action":"skip",` + module + `smbdirect/smbdtest","Test":"TestConformance/iwarp/acceptor/SM-11/B"}`,
		`{"Action":"fail",` + module + `server","Test":"TestSM12Invalidate"}`,
		`{"Action":"fail",` + module + `server"}`,
		`{"Action":"pass",` + module + `client","Test":"TestSM99Nothing"}`,
	}, "\n")
	res, err := read(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	text, problems := render(rows, res)
	want := []string{
		"SD-01 open: initiator",
		"SD-02 open: initiator",
		"SM-11 open: acceptor",
		"SM-12 FAIL: server",
		"SM-99 is in the name of a test and is no row",
		"github.com/smbd-rdma/smbd-rdma/server failed",
		"github.com/smbd-rdma/smbd-rdma/server: TestSM12Invalidate failed",
	}
	if !slices.Equal(problems, want) {
		t.Errorf("problems:\n%s\nwant\n%s", strings.Join(problems, "\n"), strings.Join(want, "\n"))
	}
	for _, line := range []string{
		`| SD-01 | 2.2 | a\|b | both | **open: initiator** |  |  | yes | yes |  |  |  |  |`,
		`| SD-02 | 2.2.1 |  | initiator | **open: initiator** | yes |  |  |  |  |  |  |  |`,
		`| SD-100 | 3.1.4.3 |  | both | proved |  | yes |  |  |  |  |  |  |`,
		`| SM-11 | MS-SMB2 3.3.5.12 |  | acceptor | **open: acceptor** |  |  |  | skipped |  |  |  |  |`,
		`| SM-12 | MS-SMB2 3.3.5.12 |  | acceptor | **FAIL: server** |  |  |  |  | **FAIL** |  |  |  |`,
		`| **all 5 rows** | | | | **1 proved, 4 not** | **1** | **1** | **1** | **1** | **0** | **0** | **0** | **0** |`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	if _, err := read(strings.NewReader("ok\n")); err == nil {
		t.Error("no results are no error")
	}
}

func TestRowsIn(t *testing.T) {
	for test, want := range map[string][]string{
		"TestConformance/sim/acceptor/SD-24/X": {"SD-24"},
		"TestSD114Lost":                        {"SD-114"},
		"TestRows/SM-04_SM-06_requests":        {"SM-04", "SM-06"},
		"TestX/SD-1":                           nil,
	} {
		if got := rowsIn(test); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", test, got, want)
		}
	}
}
