package smbdtest

import (
	"context"
)

var _ = register(Case{
	Name:      "BVT_SmbdNegotiate_Basic",
	Microsoft: []string{"BVT_SmbdNegotiate_Basic"},
	Rows:      []string{"SD-02", "SD-03", "SD-23", "SD-26", "SD-27"},
	Spec:      "[MS-SMBD] 3.1.5.6, 3.1.5.3",
	Role:      Acceptor,
	Doc:       "A Negotiate Request with the usual values gets a Response of 32 bytes with Status 0 in which every field is in its range.",
	Run: func(_ context.Context, t *T) {
		s := t.Connect(PeerConfig{}, 0, 0)
		r := Request()
		resp, raw, err := s.Negotiate(r, t.Times.React)
		t.Must("negotiate", err)
		t.Logf("%+v", resp)
		Want(t, "length of the Response", len(raw), 32)
		Want(t, "MinVersion", resp.MinVersion, 0x0100)
		Want(t, "MaxVersion", resp.MaxVersion, 0x0100)
		Want(t, "NegotiatedVersion", resp.NegotiatedVersion, 0x0100)
		Want(t, "Status", resp.Status, 0)
		t.Check(resp.CreditsRequested > 0, "CreditsRequested is 0")
		t.Check(resp.CreditsGranted > 0, "CreditsGranted is 0")
		t.Check(resp.CreditsGranted <= r.CreditsRequested, "CreditsGranted is %d, above the %d requested", resp.CreditsGranted, r.CreditsRequested)
		t.Check(resp.MaxReadWriteSize > 0, "MaxReadWriteSize is 0")
		t.Check(resp.PreferredSendSize <= r.MaxReceiveSize, "PreferredSendSize is %d, above our MaxReceiveSize %d", resp.PreferredSendSize, r.MaxReceiveSize)
		t.Check(resp.MaxReceiveSize >= 128, "MaxReceiveSize is %d", resp.MaxReceiveSize)
		t.Check(resp.MaxReceiveSize <= r.PreferredSendSize, "MaxReceiveSize is %d, above our PreferredSendSize %d", resp.MaxReceiveSize, r.PreferredSendSize)
		t.Check(resp.MaxFragmentedSize >= 131072, "MaxFragmentedSize is %d", resp.MaxFragmentedSize)
	},
})
