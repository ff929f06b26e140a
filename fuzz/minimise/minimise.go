// Package minimise makes failing inputs small: delta debugging of a list, and of
// the numbers in it.
//
//	short := minimise.List(actions, fails, 1000)
//
// A function that says whether an input still fails is called again and again,
// at most budget times; it must be deterministic, and the input given must fail.
package minimise

// List returns a part of items, in order, for which fails is still true. It takes
// out halves, quarters and so on down to single items, until nothing more can go
// or fails was called budget times. items is not changed.
func List[T any](items []T, fails func([]T) bool, budget int) []T {
	cur := append([]T(nil), items...)
	for size := max(len(cur)/2, 1); size > 0 && len(cur) > 0; {
		removed := false
		for at := 0; at < len(cur) && budget > 0; {
			end := min(at+size, len(cur))
			try := append(append([]T(nil), cur[:at]...), cur[end:]...)
			budget--
			if fails(try) {
				cur, removed = try, true
				continue
			}
			at = end
		}
		if budget <= 0 {
			break
		}
		if size == 1 && removed {
			continue // something may go now that could not before
		}
		size /= 2
	}
	return cur
}

// Numbers makes the numbers of items smaller: each of the pointers that numbers
// returns for an item is tried as 0, 1, its half and itself less one, and the
// change is kept while fails is true. items is changed.
func Numbers[T any](items []T, numbers func(*T) []*int64, fails func([]T) bool, budget int) {
	for changed := true; changed && budget > 0; {
		changed = false
		for i := range items {
			for _, n := range numbers(&items[i]) {
				was := *n
				for _, v := range [...]int64{0, 1, was / 2, was - 1} {
					if v < 0 || v >= was || budget <= 0 {
						continue
					}
					*n = v
					budget--
					if fails(items) {
						changed = true
						break
					}
					*n = was
				}
			}
		}
	}
}
