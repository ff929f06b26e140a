package ndktest

import "testing"

// Every statement of every entry of the header has a proof, and nothing else has.
func TestEveryStatementHasAProof(t *testing.T) {
	rows := Rows()
	if len(rows) != 90 {
		t.Fatalf("%d rows, want the 90 of the header", len(rows))
	}
	known := make(map[string]bool)
	for _, r := range rows {
		known[r.Name] = true
		if got := len(tests[r.Name]); got != len(r.Statements) {
			t.Errorf("%s: %d proofs for %d statements", r.Name, got, len(r.Statements))
		}
		for i, f := range tests[r.Name] {
			if f == nil && i < len(r.Statements) {
				t.Errorf("%s: %s", StatementID(r.Name, i+1), r.Statements[i])
			}
		}
	}
	for name := range tests {
		if !known[name] {
			t.Errorf("%s is no entry of the header", name)
		}
	}
}
