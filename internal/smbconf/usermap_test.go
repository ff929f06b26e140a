package smbconf

import (
	"strings"
	"testing"
)

func TestUserMap(t *testing.T) {
	m, bad, err := ParseUserMap(strings.NewReader(`
# comment
; another
root = admin administrator
!games = Tester "Test User"
staff = @wheel
broken
= x
y =
nobody = bob
guest = BOB
`))
	if err != nil || len(bad) != 3 || !strings.HasPrefix(bad[0].Error(), "line 7: ") {
		t.Fatalf("%v, %v", bad, err)
	}
	inGroup := func(user, group string) bool { return user == "wheelie" && group == "wheel" }
	for _, c := range []struct {
		name, want string
		mapped     bool
	}{
		{"Administrator", "root", true},
		{"TESTER", "games", true},
		{"test user", "games", true},
		{"wheelie", "staff", true},
		{"bob", "guest", true}, // the last one holds
		{"carol", "carol", false},
	} {
		if got, mapped := m.Map(c.name, inGroup); got != c.want || mapped != c.mapped {
			t.Errorf("%q is %q %v, want %q %v", c.name, got, mapped, c.want, c.mapped)
		}
	}
	all, _, err := ParseUserMap(strings.NewReader("!x = a\nnobody = *"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "x", "b": "nobody"} {
		if got, _ := all.Map(name, inGroup); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	if got, mapped := new(UserMap).Map("a", inGroup); got != "a" || mapped {
		t.Errorf("no map makes %q %v of a", got, mapped)
	}
}
