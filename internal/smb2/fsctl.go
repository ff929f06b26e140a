package smb2

// CtlCode is the CtlCode of an IOCTL.
type CtlCode uint32
