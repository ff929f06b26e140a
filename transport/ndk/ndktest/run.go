package ndktest

import "testing"

// test is one subtest; its name is that of the header with the number of the
// statement.
type test struct {
	name string
	f    func(t *testing.T, c Config)
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	for _, group := range [][]test{objectTests, memoryTests, connectTests, transferTests, queueTests} {
		for _, tc := range group {
			t.Run(tc.name, func(t *testing.T) { tc.f(t, c) })
		}
	}
}
