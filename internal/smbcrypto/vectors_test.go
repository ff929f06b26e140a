package smbcrypto

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("bad hex %q: %v", s, err)
	}
	return b
}

// golden reads a file of named hex blobs: a name that is no hex, then its lines.
func golden(t testing.TB, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string][]byte{}
	name := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			name = line
			continue
		}
		m[name] = append(m[name], b...)
	}
	return m
}

func TestPreauthHash311(t *testing.T) {
	g := golden(t, "smb311-setup.txt")
	h := Preauth(g["HashAfterNegotiate"])
	h.Update(g["SetupRequest1"])
	h.Update(g["SetupResponse1"][:70], g["SetupResponse1"][70:])
	h.Update(g["SetupRequest2"])
	if !bytes.Equal(h[:], g["HashOfSession"]) {
		t.Errorf("got %X, want %X", h[:], g["HashOfSession"])
	}
}

func TestDeriveKeysPublished(t *testing.T) {
	g := golden(t, "smb311-setup.txt")
	for _, c := range []struct {
		name                    string
		dialect, cipher         uint16
		key                     string
		hash                    []byte
		sign, c2s, s2c, appliKy string
	}{
		{"3.0", 0x0300, 1, "7CD451825D0450D235424E44BA6E78CC", nil,
			"0B7E9C5CAC36C0F6EA9AB275298CEDCE", "FAD27796665B313EBB578F388632B4F7",
			"B0F0427F7CEB416D1D9DCC0CD4F99447", "BB23A4575AA26C721AF525AF15A87B4F"},
		{"3.0 encrypted", 0x0300, 0, "B4546771B515F766A86735532DD6C4F0", nil,
			"F773CD23C18FD1E08EE510CADA7CF852", "261B72350558F2E9DCF613070383EDBF",
			"8FE2B57EC34D2DB5B1A9727F526BBDB5", "77432F808CE99156B5BC6A3676D730D1"},
		{"3.0.2 as 3.0", 0x0302, 1, "7CD451825D0450D235424E44BA6E78CC", nil,
			"0B7E9C5CAC36C0F6EA9AB275298CEDCE", "FAD27796665B313EBB578F388632B4F7",
			"B0F0427F7CEB416D1D9DCC0CD4F99447", "BB23A4575AA26C721AF525AF15A87B4F"},
		{"3.1.1", 0x0311, 2, "270E1BA896585EEB7AF3472D3B4C75A7", g["HashOfSession"],
			"73FE7A9A77BEF0BDE49C650D8CCB5F76", "629BCBC54422A0F572B97F45989B6073",
			"E2AF0DCEFAC68DA71A0DFBD0D1350D74", "6D7AD7954E9EC61E907B4D473DC178FF"},
	} {
		k, err := DeriveKeys(c.dialect, unhex(t, c.key), c.hash, c.cipher)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, f := range []struct {
			what string
			got  []byte
			want string
		}{{"Signing", k.Signing, c.sign}, {"ClientToServer", k.ClientToServer, c.c2s},
			{"ServerToClient", k.ServerToClient, c.s2c}, {"Application", k.Application, c.appliKy}} {
			if !bytes.Equal(f.got, unhex(t, f.want)) {
				t.Errorf("%s: %s is %X, want %s", c.name, f.what, f.got, f.want)
			}
		}
	}
}

func TestChannelSigningKeyPublished(t *testing.T) {
	g := golden(t, "smb311-setup.txt")
	for _, c := range []struct {
		dialect   uint16
		key, want string
		hash      []byte
	}{
		{0x0300, "4E01A2B313BCF660CC250BEF021AEDE6", "BA1A17DBBFEC349BCA105563D598952F", nil},
		{0x0311, "84B9DBB730116A8FA6E9889555C265F9", "C962BCA1A9DD1697B030644199705431", g["BoundHash"]},
	} {
		k, err := ChannelSigningKey(c.dialect, unhex(t, c.key), c.hash)
		if err != nil || !bytes.Equal(k, unhex(t, c.want)) {
			t.Errorf("dialect %04X: got %X, %v, want %s", c.dialect, k, err, c.want)
		}
	}
}

// The responses that end SESSION_SETUP are signed by the server, with the keys of
// TestDeriveKeysPublished and TestChannelSigningKeyPublished.
func TestCMACPublishedMessages(t *testing.T) {
	g := golden(t, "smb311-setup.txt")
	for _, c := range []struct{ key, msg string }{
		{"73FE7A9A77BEF0BDE49C650D8CCB5F76", "SetupResponse2"},
		{"C962BCA1A9DD1697B030644199705431", "BoundSetupResponse"},
	} {
		s, err := NewSigner(AESCMAC, unhex(t, c.key), RoleClient)
		if err != nil {
			t.Fatal(err)
		}
		msg := g[c.msg]
		if err := s.Verify(msg); err != nil {
			t.Errorf("%s: %v", c.msg, err)
		}
		srv, _ := NewSigner(AESCMAC, unhex(t, c.key), RoleServer)
		again := append([]byte(nil), msg...)
		clear(again[48:64])
		if err := srv.Sign(again[:64], again[64:70], again[70:]); err != nil || !bytes.Equal(again, msg) {
			t.Errorf("%s: signed in parts %X, %v, want %X", c.msg, again[48:64], err, msg[48:64])
		}
	}
}

func TestOpenPublished(t *testing.T) {
	g := golden(t, "smb300-ccm.txt")
	for _, c := range []struct{ key, msg string }{
		{"261B72350558F2E9DCF613070383EDBF", "WriteRequest"},
		{"8FE2B57EC34D2DB5B1A9727F526BBDB5", "WriteResponse"},
		{"261B72350558F2E9DCF613070383EDBF", "ReadRequest"},
		{"8FE2B57EC34D2DB5B1A9727F526BBDB5", "ReadResponse"},
	} {
		o, err := NewOpener(AES128CCM, unhex(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		msg := g[c.msg+"Sealed"]
		if id, ok := TransformSessionID(msg); !ok || id != 0x8e40014000011 {
			t.Errorf("%s: session %#x, %v", c.msg, id, ok)
		}
		got, err := o.Open(msg[:len(msg):len(msg)])
		if err != nil || !bytes.Equal(got, g[c.msg]) {
			t.Errorf("%s: got %X, %v, want %X", c.msg, got, err, g[c.msg])
		}
	}
}
