package client

import (
	"context"
	"errors"

	"github.com/smbd-rdma/smbd-rdma/internal/smb2"
)

// FSAttributes say what a file system can, [MS-FSCC] 2.5.1.
type FSAttributes uint32

// Some of them.
const (
	FSCaseSensitive FSAttributes = 0x00000001 // looks names up with regard to case
	FSACLs          FSAttributes = 0x00000008 // keeps security descriptors
	FSCompression   FSAttributes = 0x00000010 // File.SetCompressed
	FSSparse        FSAttributes = 0x00000040 // File.SetSparse
	FSReparsePoints FSAttributes = 0x00000080 // Share.Symlink
	FSNamedStreams  FSAttributes = 0x00040000 // "file:stream"
	FSReadOnly      FSAttributes = 0x00080000
	FSHardLinks     FSAttributes = 0x00400000 // Share.Link
	FSEAs           FSAttributes = 0x00800000 // File.SetEA
	FSClone         FSAttributes = 0x08000000 // File.CloneRange
)

// StatFS describes the file system below a share.
type StatFS struct {
	BlockSize   int64  // bytes in an allocation unit
	TotalBlocks uint64 // of BlockSize, for this user
	// FreeBlocks are all that are free, AvailableBlocks those that the user may use.
	FreeBlocks, AvailableBlocks uint64
	MaxNameLen                  int    // characters in one element of a name
	FSType                      string // as "NTFS"
	FSAttributes                FSAttributes
	Label                       string
	VolumeSerial                uint32
	// SectorSize is the logical sector in bytes, PhysicalSectorSize what is written at once
	// without reading ([MS-FSCC] 2.5.7); 0 if the server does not say.
	SectorSize, PhysicalSectorSize int64
}

// StatFS describes the file system below the share.
func (sh *Share) StatFS(ctx context.Context) (*StatFS, error) {
	st, err := sh.statFS(ctx)
	return st, wrap("statfs", sh.name, err)
}

func (sh *Share) statFS(ctx context.Context) (*StatFS, error) {
	f, err := sh.create(ctx, "", CreateOptions{Access: AccessReadAttributes | AccessSynchronize})
	if err != nil {
		return nil, err
	}
	st := new(StatFS)
	err = f.statFS(ctx, st)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return st, nil
}

func (f *File) statFS(ctx context.Context, st *StatFS) error {
	const size = 4096
	for _, class := range []smb2.FsInfoClass{
		smb2.ClassFileFsFullSizeInformation, smb2.ClassFileFsAttributeInformation, smb2.ClassFileFsVolumeInformation,
		smb2.ClassFileFsSectorSizeInformation,
	} {
		k, out, err := f.query(ctx, smb2.InfoFilesystem, uint8(class), size)
		if errors.Is(err, errors.ErrUnsupported) && class == smb2.ClassFileFsSectorSizeInformation {
			continue // it is younger than the others
		}
		if err != nil {
			return err
		}
		switch class {
		case smb2.ClassFileFsFullSizeInformation:
			m, perr := smb2.ParseFileFsFullSizeInformation(out)
			st.BlockSize = size64(uint64(m.SectorsPerAllocationUnit) * uint64(m.BytesPerSector))
			st.TotalBlocks, st.FreeBlocks, st.AvailableBlocks =
				m.TotalAllocationUnits, m.ActualAvailableAllocationUnits, m.CallerAvailableAllocationUnits
			err = perr
		case smb2.ClassFileFsAttributeInformation:
			m, perr := smb2.ParseFileFsAttributeInformation(out)
			st.MaxNameLen, st.FSType, st.FSAttributes = int(m.MaximumComponentNameLength), m.FileSystemName, FSAttributes(m.FileSystemAttributes)
			err = perr
		case smb2.ClassFileFsVolumeInformation:
			m, perr := smb2.ParseFileFsVolumeInformation(out)
			st.Label, st.VolumeSerial = m.VolumeLabel, m.VolumeSerialNumber
			err = perr
		case smb2.ClassFileFsSectorSizeInformation:
			m, perr := smb2.ParseFileFsSectorSizeInformation(out)
			st.SectorSize, st.PhysicalSectorSize = int64(m.LogicalBytesPerSector), int64(m.PhysicalBytesPerSectorForPerformance)
			err = perr
		}
		if err != nil {
			err = k.badBody(err)
		}
		k.free()
		if err != nil {
			return err
		}
	}
	return nil
}
