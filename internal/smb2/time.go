package smb2

import (
	"math"
	"time"
)

// Filetime is a FILETIME ([MS-DTYP] 2.3.3): 100-nanosecond intervals since
// 1601-01-01 00:00 UTC.
type Filetime uint64

const (
	// FiletimeNone is "not set"; in SET_INFO FileBasicInformation, "leave as it is".
	FiletimeNone Filetime = 0
	// FiletimeNoChange (-1) asks in FileBasicInformation that operations on this
	// open stop changing the time ([MS-FSCC] 2.4.7).
	FiletimeNoChange Filetime = math.MaxUint64
	// FiletimeResume (-2) undoes FiletimeNoChange.
	FiletimeResume Filetime = math.MaxUint64 - 1
	// FiletimeMax is the last time that can be told from the special values:
	// 30828-09-14 02:48:05.4775807 UTC.
	FiletimeMax Filetime = math.MaxInt64
)

const (
	secondsTo1970   = 11644473600 // from 1601-01-01
	ticksPerSecond  = 10_000_000
	nanosPerTick    = 100
	maxFiletimeSecs = math.MaxInt64/ticksPerSecond - secondsTo1970 // as Unix time
)

// FiletimeOf converts t, rounding down to 100 ns. The zero time.Time and times
// before 1601 give FiletimeNone, times beyond FiletimeMax give FiletimeMax.
func FiletimeOf(t time.Time) Filetime {
	if t.IsZero() {
		return FiletimeNone
	}
	s := t.Unix()
	if s < -secondsTo1970 {
		return FiletimeNone
	}
	if s >= maxFiletimeSecs {
		if s > maxFiletimeSecs {
			return FiletimeMax
		}
		const left = math.MaxInt64 % ticksPerSecond
		if t.Nanosecond()/nanosPerTick > left {
			return FiletimeMax
		}
	}
	return Filetime(s+secondsTo1970)*ticksPerSecond + Filetime(t.Nanosecond()/nanosPerTick)
}

// IsSet reports whether f is a time: neither FiletimeNone nor negative, as
// FiletimeNoChange and FiletimeResume are.
func (f Filetime) IsSet() bool { return f != 0 && f <= FiletimeMax }

// Time converts f to UTC. FiletimeNone gives the zero time.Time; everything
// else is taken as an unsigned number, which time.Time holds without overflow.
func (f Filetime) Time() time.Time {
	if f == FiletimeNone {
		return time.Time{}
	}
	return time.Unix(int64(f/ticksPerSecond)-secondsTo1970, int64(f%ticksPerSecond)*nanosPerTick).UTC()
}
