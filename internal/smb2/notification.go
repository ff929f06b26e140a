package smb2

// NotifySessionClosed is the one NotificationType defined, [MS-SMB2] 2.2.44.1.
const NotifySessionClosed uint32 = 0

// ServerToClientNotification is the SMB2 SERVER_TO_CLIENT_NOTIFICATION,
// [MS-SMB2] 2.2.44, with SMB2_NOTIFY_SESSION_CLOSED in it:
//
//	0 StructureSize   2 Reserved   4 NotificationType   8 Notification
type ServerToClientNotification struct {
	NotificationType uint32 // NotifySessionClosed
	Notification     []byte // borrowed when parsed; four zero octets for NotifySessionClosed
}

const notificationSize = 8

// AppendBinary appends the body. A nil Notification stands for four zero octets.
func (m *ServerToClientNotification) AppendBinary(b []byte) ([]byte, error) {
	n := len(m.Notification)
	if m.Notification == nil {
		n = 4
	}
	if n > 0xFFFF-notificationSize {
		return b, tooLong("SERVER_TO_CLIENT_NOTIFICATION", "Notification", n)
	}
	b = le.AppendUint16(b, uint16(notificationSize+n))
	b = zeros(b, 2)
	b = le.AppendUint32(b, m.NotificationType)
	if m.Notification == nil {
		return zeros(b, 4), nil
	}
	return append(b, m.Notification...), nil
}

// ParseServerToClientNotification decodes a message; msg includes the header.
// StructureSize is the size of the whole body here.
func ParseServerToClientNotification(msg []byte) (ServerToClientNotification, error) {
	const name = "SERVER_TO_CLIENT_NOTIFICATION"
	if len(msg) < HeaderSize+notificationSize {
		return ServerToClientNotification{}, short(name, len(msg), HeaderSize+notificationSize)
	}
	body := msg[HeaderSize:]
	size := int(le.Uint16(body))
	if size < notificationSize || size > len(body) {
		return ServerToClientNotification{}, bad(name, "StructureSize", uint64(size), uint64(len(body)))
	}
	return ServerToClientNotification{
		NotificationType: le.Uint32(body[4:]),
		Notification:     body[notificationSize:size:size],
	}, nil
}
