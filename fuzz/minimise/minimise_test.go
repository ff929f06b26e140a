package minimise

import (
	"slices"
	"testing"
)

// What fails is a list with 3 and, behind it, 7: all else goes.
func TestList(t *testing.T) {
	fails := func(l []int) bool {
		i := slices.Index(l, 3)
		return i >= 0 && slices.Contains(l[i:], 7)
	}
	var items []int
	for i := range 100 {
		items = append(items, i%10)
	}
	if got := List(items, fails, 1000); !slices.Equal(got, []int{3, 7}) {
		t.Errorf("got %v, want 3 and 7", got)
	}
	if len(items) != 100 || items[3] != 3 {
		t.Error("the input was changed")
	}
	calls := 0
	List(items, func(l []int) bool { calls++; return fails(l) }, 20)
	if calls > 20 {
		t.Errorf("%d calls, the budget is 20", calls)
	}
	if got := List(items, func([]int) bool { return true }, 1000); len(got) != 0 {
		t.Errorf("what always fails fails with %v", got)
	}
}

// What fails is a sum of 100 and more with a second number that is odd.
func TestNumbers(t *testing.T) {
	items := []int64{900, 77}
	fails := func(l []int64) bool { return l[0]+l[1] >= 100 && l[1]%2 == 1 }
	Numbers(items, func(n *int64) []*int64 { return []*int64{n} }, fails, 10000)
	if !slices.Equal(items, []int64{99, 1}) {
		t.Errorf("got %v, want 99 and 1", items)
	}
}
