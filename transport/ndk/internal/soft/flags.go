package soft

import "github.com/smbd-rdma/smbd-rdma/transport/ndk"

// The flags that each operation takes; any other is ndk.ErrFlags.
const (
	FlagsCommon       = ndk.SilentSuccess | ndk.ReadFence | ndk.Defer // Invalidate, and all others
	FlagsSend         = FlagsCommon | ndk.SendAndSolicitEvent | ndk.Inline
	FlagsWrite        = FlagsCommon | ndk.Inline
	FlagsRead         = FlagsCommon | ndk.RDMAReadLocalInvalidate
	FlagsBind         = FlagsCommon | ndk.AllowRemoteRead | ndk.AllowRemoteWrite
	FlagsFastRegister = FlagsCommon | ndk.AllowRemoteRead | ndk.AllowLocalWrite | ndk.AllowRemoteWrite | ndk.RDMAReadSink
)
