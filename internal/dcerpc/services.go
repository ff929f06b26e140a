package dcerpc

import (
	"strings"
	"time"
)

// Share types, [MS-SRVS] 2.2.2.4. ShareSpecial is set beside a type for shares
// that browsers hide.
const (
	ShareDisk    uint32 = 0x00000000
	SharePrinter uint32 = 0x00000001
	ShareDevice  uint32 = 0x00000002
	ShareIPC     uint32 = 0x00000003
	ShareSpecial uint32 = 0x80000000

	// noLimit is shi*_max_uses of a share without a limit.
	noLimit = 0xFFFFFFFF
)

// Share describes a share, as SHARE_INFO_503_I and SHARE_INFO_1005 of [MS-SRVS]
// 2.2.4 do. A client gets the fields that its level has.
type Share struct {
	Name        string
	Type        uint32
	Comment     string
	Path        string // as shown to administrators, such as `C:\data`; may be empty
	MaxUses     uint32 // 0 for no limit
	CurrentUses uint32
	Flags       uint32 // SHI1005_FLAGS, [MS-SRVS] 2.2.4.29: caching and DFS
	// SecurityDescriptor is self-relative, [MS-DTYP] 2.4.6; may be nil.
	SecurityDescriptor []byte
}

// ServerInfo describes a server, as SERVER_INFO_102 and WKSTA_INFO_100 do.
type ServerInfo struct {
	Name         string // NetBIOS name, without backslashes
	Domain       string // domain or workgroup; "WORKGROUP" if empty
	Comment      string
	Platform     uint32 // 0 for PLATFORM_ID_NT, 500
	VersionMajor uint32 // of the system, 0 for 10
	VersionMinor uint32
	Type         uint32 // SV_TYPE_*, 0 for workstation, server and NT server
	Users        uint32 // user limit, 0 for none
}

const (
	platformNT = 500
	// SV_TYPE_WORKSTATION | SV_TYPE_SERVER | SV_TYPE_SERVER_NT, [MS-SRVS] 2.2.2.7.
	typeServer = 0x00000001 | 0x00000002 | 0x00008000
)

// withDefaults returns s with the documented defaults filled in.
func (s ServerInfo) withDefaults() ServerInfo {
	set := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	if s.Domain == "" {
		s.Domain = "WORKGROUP"
	}
	set(&s.Platform, platformNT)
	set(&s.VersionMajor, 10)
	set(&s.Type, typeServer)
	set(&s.Users, noLimit)
	return s
}

// share writes the fields that a share has at a level, [MS-SRVS] 2.2.4.22
// to 2.2.4.27 and 2.2.4.29. The caller flushes.
func (w *writer) share(level uint32, s *Share) {
	if level == 1005 {
		w.u32(s.Flags)
		return
	}
	w.strPtr(s.Name)
	if level == 0 {
		return
	}
	w.u32(s.Type)
	w.strPtr(s.Comment)
	switch level {
	case 1:
		return
	case 501:
		w.u32(s.Flags)
		return
	}
	w.u32(0) // permissions, not used
	limit := s.MaxUses
	if limit == 0 {
		limit = noLimit
	}
	w.u32(limit)
	w.u32(s.CurrentUses)
	w.strPtr(s.Path)
	w.null() // passwd, not used
	if level == 2 {
		return
	}
	if level == 503 {
		w.strPtr("*") // the server's default name, [MS-SRVS] 2.2.4.27
	}
	w.u32(uint32(len(s.SecurityDescriptor)))
	w.bytesPtr(s.SecurityDescriptor)
}

func (h *Handler) shares() []Share {
	if h.Shares == nil {
		return nil
	}
	return h.Shares()
}

func enumLevel(level uint32) bool {
	switch level {
	case 0, 1, 2, 501, 502, 503:
		return true
	}
	return false
}

// listing is what the calls of srvsvc that list things have in common: a structure
// with a level and what the level has, how much the client takes, and where it was.
type listing struct {
	level, preferred, resume uint32
	hasResume                bool
}

// listing reads it. valid tells the levels that have an arm in the union.
func (r *reader) listing(valid func(level uint32) bool) (l listing) {
	level, arm := r.u32(), r.u32()
	if level != arm {
		r.fail("level %d with the union of %d", level, arm)
	}
	if valid(level) && r.pointer() {
		count := r.u32()
		if r.pointer() {
			if n := r.u32(); count != 0 || n != 0 {
				r.fail("%d entries from a client", max(n, count))
			}
		}
	}
	l.level, l.preferred = level, r.u32()
	if l.hasResume = r.pointer(); l.hasResume {
		l.resume = r.u32()
	}
	return l
}

// list answers with those of n things that the client has room for. put writes one to
// a writer that it is given, which the caller of put flushes.
func (w *writer) list(l listing, valid func(level uint32) bool, n int, put func(w *writer, i int), status WinError) {
	w.u32(l.level)
	w.u32(l.level)
	total, resume := uint32(0), uint32(0)
	switch {
	case !valid(l.level):
		if status == 0 {
			status = ErrorInvalidLevel // a union without an arm has no body
		}
	case status != 0:
		w.null()
	default:
		start := int(min(uint64(l.resume), uint64(n)))
		total = uint32(n - start)
		fit := fitting(start, n, min(uint64(l.preferred), maxResponse), put)
		if fit < n-start {
			status, resume = ErrorMoreData, uint32(start+fit)
		}
		w.pointer()
		w.u32(uint32(fit))
		if fit == 0 {
			w.null()
		} else {
			w.pointer()
			w.u32(uint32(fit))
			for i := range fit {
				put(w, start+i)
			}
			w.flush()
		}
	}
	w.u32(total)
	if l.hasResume {
		w.pointer()
		w.u32(resume)
	} else {
		w.null()
	}
	w.u32(uint32(status))
}

// shareEnum is NetrShareEnum, [MS-SRVS] 3.1.4.8.
func shareEnum(p *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName: there is one server here
	l := r.listing(enumLevel)
	if r.err != nil {
		return
	}
	var all []Share
	if enumLevel(l.level) {
		all = p.h.shares()
	}
	w.list(l, enumLevel, len(all), func(w *writer, i int) { w.share(l.level, &all[i]) }, 0)
}

// fitting returns how many of the things from start to n take at most limit bytes.
func fitting(start, n int, limit uint64, put func(w *writer, i int)) int {
	var used uint64
	for i := start; i < n; i++ {
		w := &writer{}
		put(w, i)
		w.flush()
		if used += uint64(len(w.b)+3) &^ 3; used > limit {
			return i - start
		}
	}
	return n - start
}

// shareGetInfo is NetrShareGetInfo, [MS-SRVS] 3.1.4.10.
func shareGetInfo(p *Pipe, r *reader, w *writer) {
	h := p.h
	r.optStr() // ServerName
	name := r.str()
	level := r.u32()
	if r.err != nil {
		return
	}
	w.u32(level)
	var status WinError
	switch {
	case !enumLevel(level) && level != 1005:
		status = ErrorInvalidLevel
		if level == 1004 || level == 1006 || level == 1501 {
			w.null() // these have an arm in the union, but only for setting
		}
	case name == "":
		w.null()
		status = ErrorInvalidParam
	default:
		status = ErrorNoShare
		for _, s := range h.shares() {
			if strings.EqualFold(s.Name, name) {
				w.pointer()
				w.share(level, &s)
				w.flush()
				status = 0
				break
			}
		}
		if status != 0 {
			w.null()
		}
	}
	w.u32(uint32(status))
}

// serverGetInfo is NetrServerGetInfo, [MS-SRVS] 3.1.4.17, for levels 100 to 102.
func serverGetInfo(p *Pipe, r *reader, w *writer) {
	h := p.h
	r.optStr() // ServerName
	level := r.u32()
	if r.err != nil {
		return
	}
	s := h.Server.withDefaults()
	w.u32(level)
	switch level {
	case 100, 101, 102:
	case 103, 502, 503, 599:
		w.null()
		w.u32(uint32(ErrorInvalidLevel))
		return
	default:
		w.u32(uint32(ErrorInvalidLevel))
		return
	}
	w.pointer()
	w.u32(s.Platform)
	w.strPtr(s.Name)
	if level >= 101 {
		w.u32(s.VersionMajor)
		w.u32(s.VersionMinor)
		w.u32(s.Type)
		w.strPtr(s.Comment)
	}
	if level == 102 {
		w.u32(s.Users)
		w.u32(15)   // disc: minutes until an idle session is ended
		w.u32(0)    // hidden
		w.u32(240)  // announce, seconds
		w.u32(3000) // anndelta, milliseconds
		w.u32(0)    // licenses
		w.strPtr(`C:\`)
	}
	w.flush()
	w.u32(0)
}

// remoteTOD is NetrRemoteTOD, [MS-SRVS] 3.1.4.21, with the time in UTC.
func remoteTOD(p *Pipe, r *reader, w *writer) {
	h := p.h
	r.optStr() // ServerName
	if r.err != nil {
		return
	}
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	t := now()
	_, east := t.Zone()
	u := t.UTC()
	w.pointer()
	for _, v := range []uint32{
		uint32(u.Unix()),
		uint32(u.UnixMilli()), // of any epoch: differences count
		uint32(u.Hour()), uint32(u.Minute()), uint32(u.Second()), uint32(u.Nanosecond() / 1e7),
		uint32(int32(-east / 60)), // minutes west of UTC
		310,                       // tick of the clock in 0.1 ms, as Windows has it
		uint32(u.Day()), uint32(u.Month()), uint32(u.Year()), uint32(u.Weekday()),
	} {
		w.u32(v)
	}
	w.u32(0)
}

// wkstaGetInfo is NetrWkstaGetInfo, [MS-WKST] 3.2.4.1, for levels 100 to 102.
func wkstaGetInfo(p *Pipe, r *reader, w *writer) {
	h := p.h
	r.optStr() // ServerName
	level := r.u32()
	if r.err != nil {
		return
	}
	s := h.Server.withDefaults()
	w.u32(level)
	switch level {
	case 100, 101, 102:
	case 502, 1013, 1018, 1046:
		w.null()
		w.u32(uint32(ErrorInvalidLevel))
		return
	default:
		w.u32(uint32(ErrorInvalidLevel))
		return
	}
	w.pointer()
	w.u32(s.Platform)
	w.strPtr(s.Name)
	w.strPtr(s.Domain)
	w.u32(s.VersionMajor)
	w.u32(s.VersionMinor)
	if level >= 101 {
		w.strPtr("") // lanroot
	}
	if level == 102 {
		w.u32(0) // logged_on_users
	}
	w.flush()
	w.u32(0)
}
