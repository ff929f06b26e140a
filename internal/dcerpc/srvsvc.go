package dcerpc

import "strings"

// srvsvcOps are of [MS-SRVS] 3.1.4. What would change the server is refused: its
// configuration is not the clients' to make.
var srvsvcOps = map[uint16]operation{
	8:  connectionEnum,
	9:  fileEnum,
	12: sessionEnum,
	14: refuseWithParm, // NetrShareAdd
	15: shareEnum,
	16: shareGetInfo,
	17: refuseWithParm, // NetrShareSetInfo
	18: refuse,         // NetrShareDel
	21: serverGetInfo,
	22: refuseWithParm, // NetrServerSetInfo
	23: diskEnum,
	28: remoteTOD,
	33: nameValidate,
	36: shareEnum, // NetrShareEnumSticky: what stays over a restart is all here
}

// wkssvcOps are of [MS-WKST] 3.2.4.
var wkssvcOps = map[uint16]operation{
	0:  wkstaGetInfo,
	2:  wkstaUserEnum,
	20: joinInformation,
}

// Session is what somebody's session is to NetrSessionEnum, [MS-SRVS] 2.2.4.15.
type Session struct {
	Client, User string
	Opens        uint32
	Active, Idle uint32 // seconds
	Guest        bool
}

// File is what somebody has open, FILE_INFO_3 of [MS-SRVS] 2.2.4.7.
type File struct {
	ID     uint32
	Access uint32 // PERM_FILE_READ, WRITE, CREATE: 1, 2, 4
	Locks  uint32
	Path   string
	User   string
}

// Connection is a share that somebody is connected to, CONNECTION_INFO_1 of [MS-SRVS]
// 2.2.4.2.
type Connection struct {
	ID     uint32
	Type   uint32 // a share type
	Opens  uint32
	Active uint32 // seconds
	Client string
	User   string
	Share  string
}

// refuse answers a call that has no results with ERROR_ACCESS_DENIED.
func refuse(_ *Pipe, _ *reader, w *writer) { w.u32(uint32(ErrorAccessDenied)) }

// refuseWithParm is refuse for calls that say which parameter was wrong.
func refuseWithParm(p *Pipe, r *reader, w *writer) {
	w.null() // ParmErr
	refuse(p, r, w)
}

// admin is the status of a call that only administrators may make.
func (h *Handler) admin() WinError {
	if h.Caller.Admin {
		return 0
	}
	return ErrorAccessDenied
}

func sessionLevel(level uint32) bool {
	switch level {
	case 0, 1, 2, 10, 502:
		return true
	}
	return false
}

// sessionEnum is NetrSessionEnum, [MS-SRVS] 3.1.4.5. Users see their own sessions, at the
// levels that do not say what is done there (0 and 10), administrators all.
func sessionEnum(p *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	client, user := r.optStr(), r.optStr()
	l := r.listing(sessionLevel)
	if r.err != nil {
		return
	}
	status := p.h.admin()
	if (l.level == 0 || l.level == 10) && !p.h.Caller.Stranger {
		status = 0
	}
	var list []Session
	if p.h.Sessions != nil && status == 0 {
		for _, s := range p.h.Sessions() {
			if (client == "" || strings.EqualFold(strings.TrimLeft(client, `\`), s.Client)) &&
				(user == "" || strings.EqualFold(user, s.User)) &&
				(p.h.Caller.Admin || strings.EqualFold(p.h.Caller.Name, s.User)) {
				list = append(list, s)
			}
		}
	}
	w.list(l, sessionLevel, len(list), func(w *writer, i int) {
		s := &list[i]
		w.strPtr(`\\` + s.Client)
		if l.level == 0 {
			return
		}
		w.strPtr(s.User)
		if l.level != 10 {
			w.u32(s.Opens)
		}
		w.u32(s.Active)
		w.u32(s.Idle)
		if l.level == 10 {
			return
		}
		flags := uint32(0)
		if s.Guest {
			flags = 1 // SESS_GUEST
		}
		w.u32(flags)
		if l.level >= 2 {
			w.strPtr("") // cltype_name
		}
		if l.level == 502 {
			w.strPtr("") // transport
		}
	}, status)
}

// fileEnum is NetrFileEnum, [MS-SRVS] 3.1.4.2, for administrators.
func fileEnum(p *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	base, user := r.optStr(), r.optStr()
	valid := func(level uint32) bool { return level == 2 || level == 3 }
	l := r.listing(valid)
	if r.err != nil {
		return
	}
	status := p.h.admin()
	var list []File
	if p.h.Files != nil && status == 0 {
		for _, f := range p.h.Files() {
			if (user == "" || strings.EqualFold(user, f.User)) &&
				(base == "" || len(f.Path) >= len(base) && strings.EqualFold(f.Path[:len(base)], base)) {
				list = append(list, f)
			}
		}
	}
	w.list(l, valid, len(list), func(w *writer, i int) {
		f := &list[i]
		w.u32(f.ID)
		if l.level == 2 {
			return
		}
		w.u32(f.Access)
		w.u32(f.Locks)
		w.strPtr(f.Path)
		w.strPtr(f.User)
	}, status)
}

// connectionEnum is NetrConnectionEnum, [MS-SRVS] 3.1.4.1, for administrators. The
// qualifier is a share, or a client with backslashes.
func connectionEnum(p *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	qualifier := r.optStr()
	valid := func(level uint32) bool { return level <= 1 }
	l := r.listing(valid)
	if r.err != nil {
		return
	}
	status := p.h.admin()
	if status == 0 && qualifier == "" {
		status = ErrorInvalidParam
	}
	client, isClient := strings.CutPrefix(qualifier, `\\`)
	var list []Connection
	if p.h.Connections != nil && status == 0 {
		for _, c := range p.h.Connections() {
			if isClient && strings.EqualFold(client, c.Client) || !isClient && strings.EqualFold(qualifier, c.Share) {
				list = append(list, c)
			}
		}
	}
	w.list(l, valid, len(list), func(w *writer, i int) {
		c := &list[i]
		w.u32(c.ID)
		if l.level == 0 {
			return
		}
		w.u32(c.Type)
		w.u32(c.Opens)
		w.u32(1) // users
		w.u32(c.Active)
		w.strPtr(c.User)
		if isClient {
			w.strPtr(c.Share)
		} else {
			w.strPtr(c.Client)
		}
	}, status)
}

// diskEnum is NetrServerDiskEnum, [MS-SRVS] 3.1.4.20: one drive, beneath which the
// paths of shares are.
func diskEnum(_ *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	level := r.u32()
	count := r.u32() // EntriesRead
	if r.pointer() {
		r.u32()
		r.u32()
		if n := r.u32(); n != 0 || count != 0 {
			r.fail("%d disks from a client", max(n, count))
		}
	}
	r.u32() // PreferedMaximumLength: one letter always fits
	if r.pointer() {
		r.u32()
	}
	if r.err != nil {
		return
	}
	if level != 0 {
		w.u32(0)
		w.null()
		w.u32(0)
		w.null()
		w.u32(uint32(ErrorInvalidLevel))
		return
	}
	w.u32(1)
	w.pointer()
	w.u32(1)
	w.u32(0)
	w.u32(1)
	w.u32(0) // a string in an array of its own: where it begins, and its length
	w.u32(3)
	for _, c := range []uint16{'C', ':', 0} {
		w.u16(c)
	}
	w.u32(1) // TotalEntries
	w.null()
	w.u32(0)
}

// Name types of NetprNameValidate, [MS-SRVS] 2.2.2.15 [I_NetNameValidate].
const (
	nameUser     = 1
	namePassword = 2
	nameShare    = 9
)

// nameValidate is NetprNameValidate, [MS-SRVS] 3.1.4.32.
func nameValidate(_ *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	name, kind, flags := r.str(), r.u32(), r.u32()
	if r.err != nil {
		return
	}
	const errorInvalidName = 123
	status := uint32(0)
	limit := 255
	if flags&0x80000000 != 0 { // NetBIOS names of old
		limit = 12
	} else if kind == nameShare {
		limit = 80
	}
	switch {
	case flags&^0x80000000 != 0, kind < nameUser || kind > 13:
		status = uint32(ErrorInvalidParam)
	case kind == namePassword:
	case name == "", len([]rune(name)) > limit, strings.ContainsAny(name, "\"/\\[]:|<>+=;,*?\x00"):
		status = errorInvalidName
	case strings.ContainsFunc(name, func(c rune) bool { return c < 0x20 }):
		status = errorInvalidName
	}
	w.u32(status)
}

// wkstaUserEnum is NetrWkstaUserEnum, [MS-WKST] 3.2.4.3: users see themselves.
func wkstaUserEnum(p *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	valid := func(level uint32) bool { return level <= 1 }
	l := r.listing(valid)
	if r.err != nil {
		return
	}
	var status WinError
	n := 1
	if p.h.Caller.Stranger {
		status, n = ErrorAccessDenied, 0
	}
	name := p.h.Server.Name
	w.list(l, valid, n, func(w *writer, _ int) {
		w.strPtr(p.h.Caller.Name)
		if l.level == 1 {
			w.strPtr(name) // logon_domain
			w.strPtr("")   // oth_domains
			w.strPtr(name) // logon_server
		}
	}, status)
}

// joinInformation is NetrGetJoinInformation, [MS-WKST] 3.2.4.13: the server is in a
// workgroup.
func joinInformation(p *Pipe, r *reader, w *writer) {
	r.optStr() // ServerName
	if r.pointer() {
		r.str()
	}
	if r.err != nil {
		return
	}
	w.pointer()
	w.str(p.h.Server.withDefaults().Domain)
	w.u16(2) // NetSetupWorkgroupName
	w.u32(0)
}
