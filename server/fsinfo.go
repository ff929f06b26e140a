package server

import (
	"cmp"
	"context"
	"math"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
	"github.com/smbd-rdma/smbd-rdma/ntstatus"
	"github.com/smbd-rdma/smbd-rdma/server/vfs"
)

// bytesPerSector is the logical sector size told to clients.
const bytesPerSector = 512

// fsInfo answers SMB2_0_INFO_FILESYSTEM, [MS-SMB2] 3.3.5.20.2.
func (q *infoQuery) fsInfo(ctx context.Context, class smb2.FsInfoClass) ntstatus.Status {
	o := q.o
	if o.isPipe {
		if class == smb2.ClassFileFsDeviceInformation {
			return q.fixed(&smb2.FileFsDeviceInformation{DeviceType: deviceNamedPipe})
		}
		return ntstatus.NotSupported
	}
	switch class {
	case smb2.ClassFileFsDeviceInformation:
		m := smb2.FileFsDeviceInformation{DeviceType: smb2.DeviceTypeDisk, Characteristics: smb2.DeviceIsMounted | smb2.DeviceRemote}
		if o.tree.readOnly() {
			m.Characteristics |= smb2.DeviceReadOnly
		}
		return q.fixed(&m)
	case smb2.ClassFileFsLabelInformation, smb2.ClassFileFsDriverPathInformation,
		smb2.ClassFileFsVolumeFlagsInfo:
		return ntstatus.NotSupported
	case smb2.ClassFileFsControlInformation:
		return q.fixed(&smb2.FileFsControlInformation{ // no quotas
			DefaultQuotaThreshold: math.MaxUint64, DefaultQuotaLimit: math.MaxUint64,
		})
	}
	sf, err := o.fs.Statfs(ctx)
	if err != nil {
		return ntstatus.FromError(err)
	}
	if class == smb2.ClassFileFsPosixInformation && q.r.conn.posix && !o.tree.share.NoPOSIXExtensions {
		m := posixFsInfo(&sf)
		return q.fixed(&m)
	}
	unit := max(sf.BlockSize/bytesPerSector, 1) // sectors
	switch class {
	case smb2.ClassFileFsVolumeInformation:
		m := smb2.FileFsVolumeInformation{
			VolumeSerialNumber: uint32(sf.ID) ^ uint32(sf.ID>>32),
			VolumeLabel:        cmp.Or(o.tree.share.Volume, o.tree.share.Name),
		}
		if root, err := o.fs.Stat(ctx, vfs.Root); err == nil {
			m.VolumeCreationTime = smb2.FiletimeOf(root.BirthTime)
		}
		return q.variable(&m, 24)
	case smb2.ClassFileFsSizeInformation:
		return q.fixed(&smb2.FileFsSizeInformation{
			TotalAllocationUnits: sf.Total, AvailableAllocationUnits: sf.Avail,
			SectorsPerAllocationUnit: unit, BytesPerSector: bytesPerSector,
		})
	case smb2.ClassFileFsFullSizeInformation:
		return q.fixed(&smb2.FileFsFullSizeInformation{
			TotalAllocationUnits: sf.Total, CallerAvailableAllocationUnits: sf.Avail,
			ActualAvailableAllocationUnits: sf.Free,
			SectorsPerAllocationUnit:       unit, BytesPerSector: bytesPerSector,
		})
	case smb2.ClassFileFsAttributeInformation:
		return q.variable(&smb2.FileFsAttributeInformation{
			FileSystemAttributes:       fsAttributes(o, &sf),
			MaximumComponentNameLength: min(sf.NameMax, maxComponent),
			// Windows offers some functions only on file systems that it knows by name.
			FileSystemName: "NTFS",
		}, 16)
	case smb2.ClassFileFsObjectIDInformation:
		m := smb2.FileFsObjectIDInformation{ObjectID: smb2.GUID(o.srv.cfg.GUID)}
		for i := range 8 {
			m.ObjectID[i] ^= byte(sf.ID >> (8 * i))
		}
		return q.fixed(&m)
	case smb2.ClassFileFsSectorSizeInformation:
		return q.fixed(&smb2.FileFsSectorSizeInformation{
			LogicalBytesPerSector:                       bytesPerSector,
			PhysicalBytesPerSectorForAtomicity:          sf.BlockSize,
			PhysicalBytesPerSectorForPerformance:        sf.BlockSize,
			EffectivePhysicalBytesPerSectorForAtomicity: sf.BlockSize,
			Flags: smb2.SectorSizeAlignedDevice | smb2.SectorSizePartitionAlignedOnDevice,
		})
	}
	return ntstatus.InvalidInfoClass
}

// deviceNamedPipe is FILE_DEVICE_NAMED_PIPE, [MS-FSCC] 2.5.10.
const deviceNamedPipe = 0x00000011

// fsAttributes says what the storage of the share can do.
func fsAttributes(o *open, sf *vfs.Statfs) smb2.FsAttributes {
	// Case-sensitive search is what NTFS and Samba say of storage that keeps names
	// which differ by case only apart, whether clients see them so or not.
	a := smb2.FsCasePreservedNames | smb2.FsCaseSensitiveSearch | smb2.FsUnicodeOnDisk
	if !o.tree.share.NoACL {
		a |= smb2.FsPersistentACLs
	}
	if sf.Clones {
		a |= smb2.FsSupportsBlockRefcounting
	}
	if sf.Sparse {
		a |= smb2.FsSupportsSparseFiles
	}
	if o.compresses(sf) {
		a |= smb2.FsFileCompression
	}
	if sf.Xattrs && !o.tree.share.NoEAs {
		a |= smb2.FsSupportsExtendedAttributes
	}
	if _, ok := o.fs.(vfs.Symlinker); ok {
		a |= smb2.FsSupportsReparsePoints
	}
	if _, ok := o.fs.(vfs.Linker); ok {
		a |= smb2.FsSupportsHardLinks
	}
	if _, ok := o.streams(); ok {
		a |= smb2.FsNamedStreams
	}
	if sf.ReadOnly || o.tree.readOnly() {
		a |= smb2.FsReadOnlyVolume
	}
	return a
}
