package saved

import (
	"fmt"
	"math"
	"strings"
)

// Unit is what a figure counts.
type Unit int

const (
	BytesPerSecond Unit = iota
	PerSecond
	Nanoseconds
	SecondsPerGiB // of processor time
	Percent
)

// Format writes a figure to three digits with its unit.
func (u Unit) Format(v float64) string {
	switch u {
	case BytesPerSecond:
		return si(v, "B/s")
	case PerSecond:
		return strings.TrimSuffix(si(v, ""), " ")
	case Nanoseconds:
		switch {
		case v >= 1e9:
			return digits(v/1e9) + " s"
		case v >= 1e6:
			return digits(v/1e6) + " ms"
		case v >= 1e3:
			return digits(v/1e3) + " µs"
		}
		return digits(v) + " ns"
	case Percent:
		return digits(v) + " %"
	}
	return digits(v) + " s/GiB"
}

// si writes a value with a decimal prefix.
func si(v float64, name string) string {
	i := 0
	for ; math.Abs(v) >= 999.5 && i < 5; i++ {
		v /= 1000
	}
	return digits(v) + " " + []string{"", "k", "M", "G", "T", "P"}[i] + name
}

// digits keeps three significant ones.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
