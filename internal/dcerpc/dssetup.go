package dcerpc

// DSSETUP is 3919286a-b10c-11d0-9ba8-00c04fd92ef5 version 0.0, [MS-DSSP] 1.9. It shares
// the pipe of lsarpc.
var DSSETUP = Syntax{[16]byte{0x6A, 0x28, 0x19, 0x39, 0x0C, 0xB1, 0xD0, 0x11, 0x9B, 0xA8, 0x00, 0xC0, 0x4F, 0xD9, 0x2E, 0xF5}, 0}

var dssetupOps = map[uint16]operation{0: domainRole}

// domainRole is DsRolerGetPrimaryDomainInformation, [MS-DSSP] 3.2.5.1: a server that is
// in no domain. Dialogs in which users are chosen ask it first.
func domainRole(p *Pipe, r *reader, w *writer) {
	level := r.u16()
	if r.err != nil {
		return
	}
	switch level {
	case 1, 2, 3:
	default:
		w.null()
		w.u32(uint32(ErrorInvalidParam))
		return
	}
	w.pointer()
	w.u16(level)
	w.align(4)
	switch level {
	case 1: // DSROLER_PRIMARY_DOMAIN_INFO_BASIC
		w.u16(2) // DsRole_RoleStandaloneServer
		w.u32(0) // Flags
		w.strPtr(p.h.Server.withDefaults().Domain)
		w.null()
		w.null()
		w.b = append(w.b, make([]byte, 16)...) // no GUID
	case 2: // not being upgraded
		w.u32(0)
		w.u16(0)
	case 3: // DsRoleOperationIdle
		w.u16(0)
	}
	w.flush()
	w.u32(0)
}
