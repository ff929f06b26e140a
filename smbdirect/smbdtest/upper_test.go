package smbdtest

import "testing"

// TestServerAbove runs the cases for an acceptor against our server, so that what
// they need of the layer above is what SMB2 gives them.
func TestServerAbove(t *testing.T) {
	f := fabrics[0] // in virtual time
	for _, c := range Cases(Acceptor) {
		if !c.SMB2 {
			t.Run(c.Name, func(t *testing.T) { f.run(t, func(t *testing.T) { f.smb2Acceptor(t, c) }) })
		}
	}
}
