package ntacl

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// Records as Samba 4.17 wrote them, of a file of mode 0777 and a directory of the
// same mode, owned by user 5 and group 60, with these POSIX ACLs.
const (
	sambaFile = "04000400000002000400020001004b39c302b750c7ed567335a2b1475a60a384fec6f4801fb716c5d71dd186c9ef0000000000000000000000000000000000000000000000000000000000000000706f7369785f61636c0080aa44642c7bdd01647c09dd2d765ebae46c9a3e9e379d94ca0c3a84a93e846cdbfb3b5b4c309580000000000000000000000000000000000000000000000000000000000000000001000480b4000000d000000000000000e0000000010500000000000515000000af141614052a8b28a44eeb84e80300000102000000000016020000003c000000020058000300000000002400ff011f00010500000000000515000000af141614052a8b28a44eeb84e803000000001800ff011f000102000000000016020000003c00000000001400ff011f00010100000000000100000000"
	sambaDir  = "0400040000000200040002000100f99f9a43201287f5f7aa40a1447bc7bf90e1217930d5d518614bb9ad14c3103a0000000000000000000000000000000000000000000000000000000000000000706f7369785f61636c00340545642c7bdd01b43f47729ca0663a21d24319d4edb1be65308cfca1e245ae35243987abcf52cd000000000000000000000000000000000000000000000000000000000000000001000480b4000000d000000000000000e0000000010500000000000515000000af141614052a8b28a44eeb84e80300000102000000000016020000003c000000020080000500000000002400ff011f00010500000000000515000000af141614052a8b28a44eeb84e8030000000b1400ff011f0001010000000000030000000000001800ff011f000102000000000016020000003c000000000b1400ff011f0001010000000000030100000000031400ff011f00010100000000000100000000"
	posixACL  = "0200000001000700ffffffff020007000500000004000700ffffffff080007003c00000010000700ffffffff20000700ffffffff"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Samba's hash of the system's state is ours, and its descriptors can be read.
func TestReadsWhatSambaWrote(t *testing.T) {
	acl, ok := ParsePOSIX(unhex(t, posixACL))
	if !ok || len(acl) != 6 || acl[1] != (Entry{TagUser, 5, 7}) || acl[3] != (Entry{TagGroup, 60, 7}) {
		t.Fatalf("POSIX ACL: %v, %v", acl, ok)
	}
	if got := hex.EncodeToString(AppendPOSIX(nil, acl)); got != posixACL {
		t.Errorf("POSIX ACL: %s, want %s", got, posixACL)
	}
	for _, c := range []struct {
		name, record string
		sys          SystemACL
		aces         int
	}{
		{"file", sambaFile, SystemACL{Access: acl, UID: 5, GID: 60, Mode: 0o100777}, 3},
		{"directory", sambaDir, SystemACL{Access: acl, Default: acl, IsDir: true, UID: 5, GID: 60, Mode: 0o040777}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := unhex(t, c.record)
			r, err := Parse(raw)
			if err != nil || r.Version != 4 || r.HashType != HashSHA256 || r.Description != Description {
				t.Fatalf("Parse: %+v, %v", r, err)
			}
			if !r.Valid(&c.sys) {
				t.Errorf("the hash is %x, want %x", c.sys.Hash(), r.SystemHash)
			}
			sd, err := smb2.ParseSecurityDescriptor(r.Descriptor)
			if err != nil {
				t.Fatal(err)
			}
			if got := sd.Owner.String(); got != "S-1-5-21-336991407-680208901-2230013604-1000" {
				t.Errorf("owner %s", got)
			}
			if got := sd.Group.String(); got != "S-1-22-2-60" || len(sd.DACL.ACEs) != c.aces {
				t.Errorf("group %s, %d entries, want %d", got, len(sd.DACL.ACEs), c.aces)
			}
			// Whatever changes in the system makes the record out of date.
			for name, change := range map[string]func(*SystemACL){
				"mode":  func(s *SystemACL) { s.Mode ^= 1 },
				"owner": func(s *SystemACL) { s.UID++ },
				"group": func(s *SystemACL) { s.GID++ },
				"acl":   func(s *SystemACL) { s.Access = nil },
			} {
				other := c.sys
				if change(&other); r.Valid(&other) {
					t.Errorf("valid though the %s has changed", name)
				}
			}
			// Written again it differs only by the time, which we have none of.
			b, err := r.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			clear(raw[88:96])
			if !bytes.Equal(b, raw) {
				t.Errorf("written again:\n%x\nwant\n%x", b, raw)
			}
		})
	}
}

// The other versions, as Samba's own NDR library packs them.
func TestReadsOlderVersions(t *testing.T) {
	for _, c := range []struct {
		version uint16
		record  string
		valid   bool
	}{
		{1, "0100010000000200010004801c000000380000000000000048000000010500000000000515000000010000000200000003000000e80300000102000000000016020000003c00000004001c000100000000001400ff010000010100000000000100000000", true},
		{2, "020002000000020004000200000102030405060708090a0b0c0d0e0f01000480300000004c000000000000005c000000010500000000000515000000010000000200000003000000e80300000102000000000016020000003c00000004001c000100000000001400ff010000010100000000000100000000", true},
		{3, "0300030000000200040002000100000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f00000100048064000000800000000000000090000000010500000000000515000000010000000200000003000000e80300000102000000000016020000003c00000004001c000100000000001400ff010000010100000000000100000000", false},
	} {
		r, err := Parse(unhex(t, c.record))
		if err != nil || r.Version != c.version {
			t.Fatalf("version %d: %+v, %v", c.version, r, err)
		}
		if r.Descriptor[0] != 1 || r.Descriptor[3] != 0x80 {
			t.Errorf("version %d: no descriptor at %x", c.version, r.Descriptor[:4])
		}
		if got := r.Valid(&SystemACL{}); got != c.valid {
			t.Errorf("version %d: valid is %v, want %v", c.version, got, c.valid)
		}
	}
}

// A server that ignores the system's ACLs leaves the hash empty.
func TestRecordWithoutHashIsValid(t *testing.T) {
	r := Record{Version: 3, HashType: HashSHA256}
	if !r.Valid(&SystemACL{Mode: 0o100600}) {
		t.Error("not valid")
	}
}

func TestMalformedRecords(t *testing.T) {
	good := unhex(t, sambaFile)
	for _, n := range []int{0, 1, 7, 8, 11, 13, 77, 80, 87, 90, 159, 160} {
		if _, err := Parse(good[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("the first %d octets: %v", n, err)
		}
	}
	for name, at := range map[string]int{"version": 0, "discriminant": 2} {
		bad := bytes.Clone(good)
		bad[at] = 9
		if _, err := Parse(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
	big := Record{Descriptor: make([]byte, MaxSize)}
	if _, err := big.AppendBinary(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
	long := Record{Description: strings.Repeat("x", 300)}
	if _, err := long.AppendBinary(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("long description: %v", err)
	}
	for _, b := range [][]byte{nil, {2, 0, 0}, {1, 0, 0, 0}, {2, 0, 0, 0, 1}, {2, 0, 0, 0, 3, 0, 7, 0, 0, 0, 0, 0}} {
		if _, ok := ParsePOSIX(b); ok {
			t.Errorf("POSIX ACL %x was taken", b)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{sambaFile, sambaDir} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if r.Version == 4 {
			w, err := r.AppendBinary(nil)
			if err != nil {
				t.Fatalf("cannot be written again: %v", err)
			}
			again, err := Parse(w)
			if err != nil || again.SystemHash != r.SystemHash || !bytes.Equal(again.Descriptor, r.Descriptor) {
				t.Fatalf("read again: %+v, %v", again, err)
			}
		}
	})
}
