// Package arch holds the rule that imports point downward: see arch_test.go for
// the table, and ARCHITECTURE.md for the picture.
package arch
