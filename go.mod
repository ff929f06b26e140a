module github.com/smbd-rdma/smbd-rdma

go 1.26.0

require (
	github.com/Mellanox/rdmamap v1.1.0
	github.com/aead/cmac v0.0.0-20160719120800-7af84192f0b1
	github.com/hirochachacha/go-smb2 v1.1.0
	github.com/pion/dtls/v3 v3.1.15
	github.com/pkg/profile v1.7.0
	github.com/spf13/cobra v1.10.2
	github.com/vbauerster/mpb/v8 v8.9.3
	go.uber.org/goleak v1.3.0
	golang.org/x/crypto v0.58.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	golang.org/x/term v0.47.0
)

require (
	github.com/pion/logging v0.2.4 // indirect
	github.com/pion/transport/v5 v5.0.0 // indirect
)
