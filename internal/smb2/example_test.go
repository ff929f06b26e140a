package smb2_test

import (
	"fmt"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// A READ request goes out and comes in.
func Example() {
	hdr := smb2.Header{Command: smb2.CommandRead, CreditCharge: smb2.CreditCharge(1 << 20), MessageID: 5}
	req := smb2.ReadRequest{Padding: smb2.ReadDataOffset, Length: 1 << 20, FileID: smb2.FileID{Persistent: 1, Volatile: 2}}
	msg, err := req.AppendBinary(hdr.Append(nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	for m, err := range smb2.Compound(msg) {
		if err != nil {
			fmt.Println(err)
			return
		}
		h, _ := smb2.ParseHeader(m)
		r, err := smb2.ParseReadRequest(m)
		fmt.Println(h.Command, h.CreditCharge, r.Length, r.FileID.Volatile, err)
	}
	// Output: READ 16 1048576 2 <nil>
}
