package smb2

// LockFlags are of [MS-SMB2] 2.2.26.1.
type LockFlags uint32

const (
	LockFlagSharedLock      LockFlags = 0x00000001
	LockFlagExclusiveLock   LockFlags = 0x00000002
	LockFlagUnlock          LockFlags = 0x00000004
	LockFlagFailImmediately LockFlags = 0x00000010
)

// LockElement is SMB2_LOCK_ELEMENT, [MS-SMB2] 2.2.26.1.
type LockElement struct {
	Offset uint64
	Length uint64
	Flags  LockFlags
}

const (
	lockRequestSize = 24
	lockElementSize = 24
)

// LockRequest is the SMB2 LOCK request, [MS-SMB2] 2.2.26:
//
//	0 StructureSize 48   2 LockCount   4 LockSequenceNumber, LockSequenceIndex
//	8 FileId            24 Locks
type LockRequest struct {
	LockSequenceNumber uint8  // 4 bits
	LockSequenceIndex  uint32 // 28 bits; 0 is "none", else 1 to 64
	FileID             FileID
	Locks              []LockElement // at least one by 3.3.5.14
}

// AppendBinary appends the body.
func (m *LockRequest) AppendBinary(b []byte) ([]byte, error) {
	if len(m.Locks) > 0xFFFF {
		return b, tooLong("LOCK request", "Locks", len(m.Locks))
	}
	b = le.AppendUint16(b, 48)
	b = le.AppendUint16(b, uint16(len(m.Locks)))
	b = le.AppendUint32(b, uint32(m.LockSequenceNumber&0x0F)|m.LockSequenceIndex<<4)
	b = m.FileID.append(b)
	for _, l := range m.Locks {
		b = le.AppendUint64(b, l.Offset)
		b = le.AppendUint64(b, l.Length)
		b = le.AppendUint32(b, uint32(l.Flags))
		b = zeros(b, 4)
	}
	return b, nil
}

// ParseLockRequest decodes a request; msg includes the header. Locks is a copy.
func ParseLockRequest(msg []byte) (LockRequest, error) {
	return ParseLockRequestInto(msg, nil)
}

// ParseLockRequestInto is ParseLockRequest that stores the elements in the
// capacity of locks, so as not to allocate if they fit.
func ParseLockRequestInto(msg []byte, locks []LockElement) (LockRequest, error) {
	const name = "LOCK request"
	body, err := bodyOf(msg, name, 48, lockRequestSize)
	if err != nil {
		return LockRequest{}, err
	}
	count := int(le.Uint16(body[2:]))
	if end := lockRequestSize + count*lockElementSize; end > len(body) {
		return LockRequest{}, bad(name, "LockCount", uint64(count), uint64(len(body)-lockRequestSize)/lockElementSize)
	}
	if locks == nil && count > 0 {
		locks = make([]LockElement, 0, count)
	}
	locks = locks[:0]
	for i := range count {
		e := body[lockRequestSize+i*lockElementSize:]
		locks = append(locks, LockElement{le.Uint64(e), le.Uint64(e[8:]), LockFlags(le.Uint32(e[16:]))})
	}
	seq := le.Uint32(body[4:])
	return LockRequest{
		LockSequenceNumber: uint8(seq & 0x0F),
		LockSequenceIndex:  seq >> 4,
		FileID:             parseFileID(body[8:]),
		Locks:              locks,
	}, nil
}

// LockResponse is the SMB2 LOCK response, [MS-SMB2] 2.2.27: StructureSize 4 and two reserved octets.
type LockResponse struct{}

// AppendBinary appends the body.
func (m *LockResponse) AppendBinary(b []byte) ([]byte, error) { return appendEmpty(b), nil }

// ParseLockResponse checks the message; msg includes the header.
func ParseLockResponse(msg []byte) (LockResponse, error) {
	return LockResponse{}, checkEmpty(msg, "LOCK response")
}
