package smb2

// LeaseState is of [MS-SMB2] 2.2.13.2.8.
type LeaseState uint32

const (
	LeaseNone          LeaseState = 0x00
	LeaseReadCaching   LeaseState = 0x01
	LeaseHandleCaching LeaseState = 0x02
	LeaseWriteCaching  LeaseState = 0x04
)

// String gives the letters of the caching rights, such as "RWH", or "none".
func (s LeaseState) String() string {
	var b [4]byte
	out := b[:0]
	for _, f := range [...]struct {
		bit    LeaseState
		letter byte
	}{{LeaseReadCaching, 'R'}, {LeaseWriteCaching, 'W'}, {LeaseHandleCaching, 'H'}} {
		if s&f.bit != 0 {
			out = append(out, f.letter)
		}
	}
	if s&^(LeaseReadCaching|LeaseWriteCaching|LeaseHandleCaching) != 0 {
		out = append(out, '?')
	}
	if len(out) == 0 {
		return "none"
	}
	return string(out)
}

// NotifyBreakLeaseFlagAckRequired is the flag of LeaseBreakNotification.
const NotifyBreakLeaseFlagAckRequired uint32 = 0x01

const (
	oplockBreakSize              = 24
	leaseBreakNotificationSize   = 44
	leaseBreakAcknowledgmentSize = 36
)

// IsLeaseBreak tells a lease break from an oplock break by the StructureSize
// of an OPLOCK_BREAK message; msg includes the header. It is false for a
// message that is too short; the Parse functions then give the error.
func IsLeaseBreak(msg []byte) bool {
	if len(msg) < HeaderSize+2 {
		return false
	}
	n := le.Uint16(msg[HeaderSize:])
	return n == leaseBreakNotificationSize || n == leaseBreakAcknowledgmentSize
}

func appendOplockBreak(b []byte, level OplockLevel, id FileID) []byte {
	b = le.AppendUint16(b, oplockBreakSize)
	b = append(b, uint8(level))
	b = zeros(b, 5)
	return id.append(b)
}

func parseOplockBreak(msg []byte, name string) (OplockLevel, FileID, error) {
	body, err := bodyOf(msg, name, oplockBreakSize, oplockBreakSize)
	if err != nil {
		return 0, FileID{}, err
	}
	return OplockLevel(body[2]), parseFileID(body[8:]), nil
}

// OplockBreakNotification is the oplock break notification, [MS-SMB2] 2.2.23.1:
//
//	0 StructureSize 24   2 OplockLevel   3 Reserved   4 Reserved2   8 FileId
type OplockBreakNotification struct {
	OplockLevel OplockLevel
	FileID      FileID
}

// AppendBinary appends the body.
func (m *OplockBreakNotification) AppendBinary(b []byte) ([]byte, error) {
	return appendOplockBreak(b, m.OplockLevel, m.FileID), nil
}

// ParseOplockBreakNotification decodes a message; msg includes the header.
func ParseOplockBreakNotification(msg []byte) (OplockBreakNotification, error) {
	level, id, err := parseOplockBreak(msg, "oplock break notification")
	return OplockBreakNotification{level, id}, err
}

// OplockBreakAcknowledgment is the oplock break acknowledgment, [MS-SMB2] 2.2.24.1:
//
//	0 StructureSize 24   2 OplockLevel   3 Reserved   4 Reserved2   8 FileId
type OplockBreakAcknowledgment struct {
	OplockLevel OplockLevel
	FileID      FileID
}

// AppendBinary appends the body.
func (m *OplockBreakAcknowledgment) AppendBinary(b []byte) ([]byte, error) {
	return appendOplockBreak(b, m.OplockLevel, m.FileID), nil
}

// ParseOplockBreakAcknowledgment decodes a message; msg includes the header.
func ParseOplockBreakAcknowledgment(msg []byte) (OplockBreakAcknowledgment, error) {
	level, id, err := parseOplockBreak(msg, "oplock break acknowledgment")
	return OplockBreakAcknowledgment{level, id}, err
}

// OplockBreakResponse is the oplock break response, [MS-SMB2] 2.2.25.1:
//
//	0 StructureSize 24   2 OplockLevel   3 Reserved   4 Reserved2   8 FileId
type OplockBreakResponse struct {
	OplockLevel OplockLevel
	FileID      FileID
}

// AppendBinary appends the body.
func (m *OplockBreakResponse) AppendBinary(b []byte) ([]byte, error) {
	return appendOplockBreak(b, m.OplockLevel, m.FileID), nil
}

// ParseOplockBreakResponse decodes a message; msg includes the header.
func ParseOplockBreakResponse(msg []byte) (OplockBreakResponse, error) {
	level, id, err := parseOplockBreak(msg, "oplock break response")
	return OplockBreakResponse{level, id}, err
}

// LeaseBreakNotification is the lease break notification, [MS-SMB2] 2.2.23.2:
//
//	 0 StructureSize 44   2 NewEpoch   4 Flags   8 LeaseKey
//	24 CurrentLeaseState 28 NewLeaseState
//	32 BreakReason       36 AccessMaskHint      40 ShareMaskHint
type LeaseBreakNotification struct {
	NewEpoch          uint16
	Flags             uint32 // NotifyBreakLeaseFlagAckRequired
	LeaseKey          GUID
	CurrentLeaseState LeaseState
	NewLeaseState     LeaseState
}

// AppendBinary appends the body.
func (m *LeaseBreakNotification) AppendBinary(b []byte) ([]byte, error) {
	b = le.AppendUint16(b, leaseBreakNotificationSize)
	b = le.AppendUint16(b, m.NewEpoch)
	b = le.AppendUint32(b, m.Flags)
	b = append(b, m.LeaseKey[:]...)
	b = le.AppendUint32(b, uint32(m.CurrentLeaseState))
	b = le.AppendUint32(b, uint32(m.NewLeaseState))
	return zeros(b, 12), nil
}

// ParseLeaseBreakNotification decodes a message; msg includes the header.
func ParseLeaseBreakNotification(msg []byte) (LeaseBreakNotification, error) {
	body, err := bodyOf(msg, "lease break notification", leaseBreakNotificationSize, leaseBreakNotificationSize)
	if err != nil {
		return LeaseBreakNotification{}, err
	}
	return LeaseBreakNotification{
		NewEpoch:          le.Uint16(body[2:]),
		Flags:             le.Uint32(body[4:]),
		LeaseKey:          GUID(body[8:24]),
		CurrentLeaseState: LeaseState(le.Uint32(body[24:])),
		NewLeaseState:     LeaseState(le.Uint32(body[28:])),
	}, nil
}

func appendLeaseBreak(b []byte, key GUID, state LeaseState) []byte {
	b = le.AppendUint16(b, leaseBreakAcknowledgmentSize)
	b = zeros(b, 6)
	b = append(b, key[:]...)
	b = le.AppendUint32(b, uint32(state))
	return zeros(b, 8)
}

func parseLeaseBreak(msg []byte, name string) (GUID, LeaseState, error) {
	body, err := bodyOf(msg, name, leaseBreakAcknowledgmentSize, leaseBreakAcknowledgmentSize)
	if err != nil {
		return GUID{}, 0, err
	}
	return GUID(body[8:24]), LeaseState(le.Uint32(body[24:])), nil
}

// LeaseBreakAcknowledgment is the lease break acknowledgment, [MS-SMB2] 2.2.24.2:
//
//	0 StructureSize 36   2 Reserved   4 Flags   8 LeaseKey   24 LeaseState   28 LeaseDuration
type LeaseBreakAcknowledgment struct {
	LeaseKey   GUID
	LeaseState LeaseState
}

// AppendBinary appends the body.
func (m *LeaseBreakAcknowledgment) AppendBinary(b []byte) ([]byte, error) {
	return appendLeaseBreak(b, m.LeaseKey, m.LeaseState), nil
}

// ParseLeaseBreakAcknowledgment decodes a message; msg includes the header.
func ParseLeaseBreakAcknowledgment(msg []byte) (LeaseBreakAcknowledgment, error) {
	key, state, err := parseLeaseBreak(msg, "lease break acknowledgment")
	return LeaseBreakAcknowledgment{key, state}, err
}

// LeaseBreakResponse is the lease break response, [MS-SMB2] 2.2.25.2:
//
//	0 StructureSize 36   2 Reserved   4 Flags   8 LeaseKey   24 LeaseState   28 LeaseDuration
type LeaseBreakResponse struct {
	LeaseKey   GUID
	LeaseState LeaseState
}

// AppendBinary appends the body.
func (m *LeaseBreakResponse) AppendBinary(b []byte) ([]byte, error) {
	return appendLeaseBreak(b, m.LeaseKey, m.LeaseState), nil
}

// ParseLeaseBreakResponse decodes a message; msg includes the header.
func ParseLeaseBreakResponse(msg []byte) (LeaseBreakResponse, error) {
	key, state, err := parseLeaseBreak(msg, "lease break response")
	return LeaseBreakResponse{key, state}, err
}
