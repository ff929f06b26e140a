package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/Mellanox/rdmamap"
	"github.com/spf13/cobra"

	"github.com/smbd-rdma/smbd-rdma/transport/ndk/verbs"
)

// device is one row of `devices`.
type device struct {
	Name       string   `json:"name"`
	Technology string   `json:"technology"`
	Netdevs    []string `json:"netdevs"`
	Addresses  []string `json:"addresses"`
	State      string   `json:"state"`
	Provider   string   `json:"provider"`
	Limits     *limits  `json:"limits,omitempty"` // of the verbs provider
}

// limits are what decides how well a device serves SMB Direct.
type limits struct {
	Driver            string `json:"driver"`
	Firmware          string `json:"firmware,omitempty"`
	SendSGEs          int    `json:"send_sges"`
	ReceiveSGEs       int    `json:"receive_sges"`
	ReadSGEs          int    `json:"read_sges"`
	InboundReads      int    `json:"inbound_reads"`
	OutboundReads     int    `json:"outbound_reads"`
	InlineBytes       int    `json:"inline_bytes"`
	QueueDepth        int    `json:"queue_depth"`
	SharedReceives    int    `json:"shared_receives"`
	RegistrationBytes uint64 `json:"registration_bytes"`
	MemoryWindows     bool   `json:"memory_windows"`
}

// String is the short form for a table.
func (l *limits) String() string {
	if l == nil {
		return "-"
	}
	s := fmt.Sprintf("SGEs %d/%d/%d, reads %d/%d, queue %d, inline %d",
		l.SendSGEs, l.ReceiveSGEs, l.ReadSGEs, l.InboundReads, l.OutboundReads, l.QueueDepth, l.InlineBytes)
	if l.MemoryWindows {
		return s + ", windows"
	}
	return s + ", no windows"
}

func (a *app) devicesCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "devices",
		Short: "RDMA devices, their network devices, and the provider that would serve them",
		Long: `Lists the RDMA devices of this machine with their network devices, and the
network devices without one. Every address can be served by the iwarp provider,
which needs nothing but TCP; the verbs provider, in a build that has it and where
rdma-core is installed, uses the RDMA device itself.

LIMITS are those of the verbs provider: the most SGEs of a send, a receive and a
read, the reads under way in and out, the depth of a queue, the bytes of inline
data, and whether there are memory windows of type 2, without which a fast
registration is a system call.`,
		Example: "  smbd-rdma devices --json",
		Args:    checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := a.listDevices()
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(a.stdout)
				e.SetIndent("", "  ")
				return e.Encode(rows)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "DEVICE\tTECHNOLOGY\tNETDEV\tADDRESSES\tSTATE\tPROVIDER\tLIMITS")
			for _, d := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%v\n", d.Name, d.Technology,
					dash(strings.Join(d.Netdevs, ",")), dash(strings.Join(d.Addresses, ",")), d.State, d.Provider, d.Limits)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return c
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// listDevices finds the RDMA devices by rdmamap, then adds the network devices
// that belong to none of them. What the verbs provider says of a device is added
// where there is that provider.
func (a *app) listDevices() ([]device, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	byRDMA := map[string][]net.Interface{}
	var plain []net.Interface
	var names []string
	known := map[string]verbs.DeviceInfo{}
	if hasRDMAClass() {
		names = rdmamap.GetRdmaDeviceList()
		if verbs.Available {
			infos, err := verbs.Devices()
			if err != nil {
				a.log.Warn("RDMA devices are listed without their limits", "err", err)
			}
			for _, d := range infos {
				known[d.Name] = d
			}
		}
	}
	for _, i := range ifs {
		dev := ""
		if len(names) > 0 {
			dev, _ = rdmamap.GetRdmaDeviceForNetdevice(i.Name) // an error: no RDMA on it
		}
		if dev == "" {
			plain = append(plain, i)
		} else {
			byRDMA[dev] = append(byRDMA[dev], i)
		}
	}
	rows := []device{}
	for _, n := range names {
		d := device{Name: n, Technology: rdmaTechnology(n), State: rdmaState(n), Provider: "iwarp (over TCP)"}
		for _, i := range byRDMA[n] {
			d.Netdevs = append(d.Netdevs, i.Name)
			d.Addresses = append(d.Addresses, addresses(i)...)
		}
		if v, ok := known[n]; ok {
			d.Technology, d.Limits = v.Info.Technology.String(), deviceLimits(v)
			d.Provider = "verbs, iwarp (over TCP)"
		}
		rows = append(rows, d)
	}
	for _, i := range plain {
		state := "down"
		if i.Flags&net.FlagUp != 0 {
			state = "up"
		}
		rows = append(rows, device{
			Name: "-", Technology: "TCP", Netdevs: []string{i.Name},
			Addresses: addresses(i), State: state, Provider: "iwarp",
		})
	}
	return rows, nil
}

func deviceLimits(d verbs.DeviceInfo) *limits {
	return &limits{
		Driver: d.Driver, Firmware: d.Firmware,
		SendSGEs: d.Info.MaxInitiatorRequestSGE, ReceiveSGEs: d.Info.MaxReceiveRequestSGE, ReadSGEs: d.Info.MaxReadRequestSGE,
		InboundReads: d.Info.MaxInboundReadLimit, OutboundReads: d.Info.MaxOutboundReadLimit,
		InlineBytes: d.Info.MaxInlineDataSize, QueueDepth: d.Info.MaxInitiatorQueueDepth, SharedReceives: d.Info.MaxSRQDepth,
		RegistrationBytes: d.Info.MaxRegistrationSize, MemoryWindows: d.MemoryWindows,
	}
}

func addresses(i net.Interface) []string {
	as, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range as {
		if n, ok := a.(*net.IPNet); ok {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// rdmaTechnology reads what the kernel says of a device: node type 4 is an RNIC,
// that is iWARP; type 1 a channel adapter, whose link layer tells RoCE from
// InfiniBand.
func rdmaTechnology(dev string) string {
	dir := filepath.Join(rdmamap.RdmaClassDir, dev)
	node, _ := os.ReadFile(filepath.Join(dir, "node_type"))
	if strings.HasPrefix(string(node), "4") {
		return "iWARP"
	}
	link, _ := os.ReadFile(filepath.Join(dir, "ports", "1", "link_layer"))
	switch strings.TrimSpace(string(link)) {
	case "Ethernet":
		return "RoCE"
	case "InfiniBand":
		return "InfiniBand"
	}
	return "unknown"
}

func rdmaState(dev string) string {
	b, err := os.ReadFile(filepath.Join(rdmamap.RdmaClassDir, dev, "ports", "1", "state"))
	if err != nil {
		return "unknown"
	}
	_, s, ok := strings.Cut(strings.TrimSpace(string(b)), ": ")
	if !ok {
		return "unknown"
	}
	return strings.ToLower(s)
}
